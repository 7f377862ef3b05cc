//! Bugs put in on purpose, to prove that the tiers find them: `cargo xtask planted`, and three of
//! them, drawn by the commit's hash, in the gate.
//!
//! The simulation and the server are built once more with the feature `planted`, which lets
//! `LEASEHOLD_PLANTED_BUG` choose a bug of `lease::planted`. Then the tier that the table names
//! runs as it does in the gate, and must fail. That it does not fail without the bug is what the
//! gate shows in its other tiers, with the same seeds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tiers::{Tally, cargo, now, target_dir};

const USAGE: &str = "\
usage: cargo xtask planted [BUG]...

Builds the simulation and the server with bugs in them, and lets the tiers find them: all bugs, or
those that are named. Ends with 0 when each was found.

  cargo xtask planted
  cargo xtask planted stale-read fence-reused
";

/// Who finds a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The simulation, in its first seeds.
    Sim,
    /// A test of the tier `disks`.
    Disks(&'static str),
    /// A scenario of the tier `cluster`.
    Cluster(&'static str),
}

const BUGS: [(&str, By); 18] = [
    ("ack-before-fsync", By::Sim),
    ("vote-not-synced", By::Sim),
    ("vote-after-append", By::Sim),
    ("stale-read", By::Sim),
    ("expired-by-wall-clock", By::Sim),
    ("reset-at-failover", By::Sim),
    ("clock-not-in-snapshot", By::Sim),
    ("requests-not-in-snapshot", By::Sim),
    ("token-twice", By::Sim),
    ("oversold-by-one", By::Sim),
    (
        "fence-reused",
        By::Cluster("restore::a_cluster_that_lost_every_disk_begins_again_from_its_backup"),
    ),
    ("commit-on-minority", By::Sim),
    (
        "damage-taken-for-torn",
        By::Disks("damage::a_torn_tail_is_cut_and_a_damaged_record_is_not_taken_for_one"),
    ),
    ("borrow-freed-early", By::Sim),
    ("vote-not-restored", By::Sim),
    ("wiped-takes-part", By::Sim),
    ("led-without-quorum", By::Sim),
    ("key-of-another-app", By::Sim),
];

/// Plants the bugs that are named, or all; `true` when each was found.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    if arguments.contains(&"--help") {
        print!("{USAGE}");
        return Ok(true);
    }
    let tally = find_all(&chosen(arguments)?)?;
    println!("{} found, {} not", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// Plants three bugs, drawn by the commit's hash: other commits, other bugs.
pub(crate) fn tier() -> Result<Tally> {
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let commit = commit.ok().filter(|told| told.status.success()).map(|told| told.stdout);
    // Of a tree without history the first ones are drawn.
    find_all(&drawn(&String::from_utf8_lossy(&commit.unwrap_or_default())))
}

fn chosen(names: &[&str]) -> Result<Vec<(&'static str, By)>> {
    let of_name = |name: &&str| {
        let found = BUGS.into_iter().find(|(bug, _)| bug == name);
        found.with_context(|| format!("no bug is called {name}; `cargo xtask planted --help`"))
    };
    if names.is_empty() { Ok(BUGS.to_vec()) } else { names.iter().map(of_name).collect() }
}

fn drawn(commit: &str) -> Vec<(&'static str, By)> {
    let number = commit.get(..15).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let mut number = number.unwrap_or_default();
    let mut left = BUGS.to_vec();
    let mut drawn = Vec::new();
    for _ in 0..DRAWN {
        let count = left.len() as u64;
        drawn.push(left.remove((number % count) as usize));
        number /= count;
    }
    drawn
}

fn find_all(bugs: &[(&'static str, By)]) -> Result<Tally> {
    let needs_sim = bugs.iter().any(|(_, by)| *by == By::Sim);
    let needs_server = bugs.iter().any(|(_, by)| *by != By::Sim);
    let sim = if needs_sim { built("sim", "leasehold-sim/planted")? } else { PathBuf::new() };
    let server = if needs_server { built("leasehold", "node/planted")? } else { PathBuf::new() };
    let mut tally = Tally::default();
    for (bug, by) in bugs {
        let started = now();
        let told = match by {
            By::Sim => in_simulation(&sim, bug)?,
            By::Disks(test) => in_test(&server, bug, "disks", test)?,
            By::Cluster(test) => in_test(&server, bug, "cluster", test)?,
        };
        let seconds = started.elapsed().as_secs_f64();
        let tier = match by {
            By::Sim => "sim",
            By::Disks(_) => "disks",
            By::Cluster(_) => "cluster",
        };
        let said = match &told {
            Found::By(what) => format!("{bug}: found by {tier} after {seconds:.0} s: {what}"),
            Found::Nothing => format!("{bug}: NOT FOUND by {tier} in {seconds:.0} s"),
            Found::Skipped(why) => format!("{bug}: skipped, {tier} cannot run: {why}"),
        };
        println!("{said}");
        tally.told.push(said);
        match told {
            Found::By(_) => tally.passed += 1,
            Found::Nothing => tally.failed += 1,
            Found::Skipped(_) => tally.skipped += 1,
        }
    }
    Ok(tally)
}

/// What came of the search for a bug.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    By(String),
    Nothing,
    Skipped(String),
}

/// A program with bugs in it, kept beside the ones without: cargo gives both the same name.
fn built(program: &str, feature: &str) -> Result<PathBuf> {
    let build = ["build", "--release", "--workspace", "--bin", program];
    if !cargo(&[&build[..], &["--features", feature]].concat())? {
        bail!("{program} could not be built with {feature}");
    }
    let dir = target_dir().join("planted");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let from = target_dir().join("release").join(program);
    let to = dir.join(program);
    std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    // The one without comes back under its name; nothing is compiled for that.
    if !cargo(&build)? {
        bail!("{program} could not be built");
    }
    std::path::absolute(to).context("the path of the target directory")
}

fn in_simulation(sim: &Path, bug: &str) -> Result<Found> {
    let output = Command::new(sim)
        .args(["--seed", "1", "--seeds", "200", "--within-s", "240", "--until-found"])
        .env(VARIABLE, bug)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", sim.display()))?;
    Ok(match output.status.code() {
        Some(1) => found_in(&String::from_utf8_lossy(&output.stdout)),
        _ => Found::Nothing,
    })
}

/// The seed and the rule in what the simulation printed.
fn found_in(told: &str) -> Found {
    let mut lines = told.lines().skip_while(|line| !line.contains(" failed; again"));
    let seed = lines.next().and_then(|line| line.split_whitespace().nth(1));
    let rule = lines.nth(1).and_then(|line| line.trim().split(':').next());
    match (seed, rule) {
        (Some(seed), Some(rule)) => Found::By(format!("seed {seed}, {rule}")),
        // A run that ended without a report, or that did too little, is no finding.
        _ => Found::Nothing,
    }
}

fn in_test(server: &Path, bug: &str, tier: &str, test: &str) -> Result<Found> {
    let words = ["test", "--release", "--workspace", "--test", tier, "--", "--exact", test];
    let output = Command::new("cargo")
        .args(words)
        .args(["--test-threads=1", "--nocapture"])
        .env("LEASEHOLD_BIN", server)
        .env(VARIABLE, bug)
        .stderr(Stdio::piped())
        .output()
        .context("cannot run cargo")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some((_, why)) = told.split_once("skipped: ") {
        return Ok(Found::Skipped(why.lines().next().unwrap_or_default().to_owned()));
    }
    if output.status.success() || !told.contains("test result: FAILED. 0 passed; 1 failed") {
        return Ok(Found::Nothing);
    }
    let why = told.lines().find_map(|line| line.strip_prefix("Error: "));
    Ok(Found::By(format!("{test}: {}", why.unwrap_or("it failed"))))
}

/// Chooses the bug of a process that can have one.
const VARIABLE: &str = "LEASEHOLD_PLANTED_BUG";
/// How many the gate looks for.
const DRAWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_draws_three_bugs_and_another_commit_others() {
        let names = |commit| drawn(commit).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let one = names("0be62b5f1c2d3e4f5061728394a5b6c7d8e9f001\n");
        assert_eq!(one.len(), DRAWN);
        assert!(one[0] != one[1] && one[1] != one[2] && one[0] != one[2]);
        assert_ne!(one, names("684fa40aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"));
        assert_eq!(names(""), ["ack-before-fsync", "vote-not-synced", "vote-after-append"]);
    }

    #[test]
    fn every_bug_is_of_the_ledger_and_once_in_the_table() {
        let names: Vec<&str> = BUGS.iter().map(|(name, _)| *name).collect();
        let source = include_str!("../../../lease/src/planted.rs");
        for name in &names {
            assert!(source.contains(&format!("=> \"{name}\"")), "{name} is no bug");
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1);
        }
        assert_eq!(source.matches("=> \"").count(), BUGS.len());
        assert!(chosen(&["stale-read"]).is_ok() && chosen(&["stale"]).is_err());
    }

    #[test]
    fn the_seed_and_the_rule_are_read_and_a_run_without_a_report_is_no_finding() {
        let told = "seed 7 failed; again, in words:\n  cargo xtask sim --seed 7\n  a_rule: words\n";
        assert_eq!(found_in(told), Found::By("seed 7, a_rule".to_owned()));
        assert_eq!(found_in("seed 7: the run ended without a report\n"), Found::Nothing);
    }
}
