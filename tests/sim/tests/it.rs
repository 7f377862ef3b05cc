//! The program itself: one seed is one trace, and what it prints can be acted on.

use std::process::Command;

use leasehold_sim::report::Report;

fn run(seed: u64, more: &[&str]) -> Report {
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["--one", "--seed", &seed.to_string(), "--seconds", "30"])
        .args(more)
        .output()
        .expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}: {text}"))
}

#[test]
fn one_seed_is_one_trace_and_another_is_another() {
    let (first, again, other) = (run(5, &[]), run(5, &[]), run(6, &[]));
    assert_eq!((first.violations.as_slice(), other.violations.as_slice()), (&[][..], &[][..]));
    assert_eq!(first.digest, again.digest);
    assert_eq!(first.totals, again.totals);
    assert_ne!(first.digest, other.digest);
    assert!(first.totals.faults_hit() >= 3, "{}", first.totals);
}

#[test]
fn without_faults_nobody_waits() {
    let report = run(7, &["--no-faults", "--nodes", "3"]);
    assert_eq!(report.violations, []);
    let totals = report.totals;
    assert_eq!((totals.lost, totals.leader_changes, totals.restarts), (0, 0, 0), "{totals}");
    assert!(totals.acknowledged >= 2_000 && totals.expiries > 0, "{totals}");
}

#[test]
fn a_bad_argument_is_named() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sim")).args(["--nodes", "9"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("--nodes"), "{text}");
}
