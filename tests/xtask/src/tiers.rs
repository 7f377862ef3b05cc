//! The tiers of the gate, how each is run and how its tests are counted.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{api, edges, planted, tidy};

/// What one tier found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// What tests said: how much they ran, and why they were skipped.
    pub(crate) told: Vec<String>,
}

impl Tally {
    fn of(ok: bool) -> Self {
        Self { passed: u64::from(ok), failed: u64::from(!ok), ..Self::default() }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

struct Tier {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<Tally>,
}

const TIERS: &[Tier] = &[
    Tier { name: "tidy", what: "rules of the house that no lint knows", run: run_tidy },
    Tier { name: "format", what: "cargo fmt --check", run: run_format },
    Tier { name: "lint", what: "clippy, warnings are errors", run: run_lint },
    Tier { name: "supply", what: "cargo deny: advisories, licences, bans", run: run_supply },
    Tier { name: "unit", what: "every crate's tests and documentation tests", run: run_unit },
    Tier { name: "mutation", what: "every decoder against changed input", run: run_mutation },
    Tier { name: "sim", what: "whole clusters from seeds, under faults", run: run_sim },
    Tier { name: "counts", what: "what operations cost, in no clock's units", run: run_counts },
    Tier { name: "openapi", what: "the OpenAPI document under a linter", run: run_openapi },
    Tier { name: "schemathesis", what: "reads of a node, fuzzed", run: run_schemathesis },
    Tier { name: "cluster", what: "real processes under load and faults", run: run_cluster },
    Tier { name: "disks", what: "power cuts, damage, order of syncs", run: run_disks },
    Tier { name: "rig", what: "histories of a cluster under faults, checked", run: run_rig },
    Tier { name: "planted", what: "bugs put in on purpose, to be found", run: planted::tier },
];

/// Runs the gate; `true` when nothing failed.
pub(crate) fn test(arguments: &[&str]) -> Result<bool> {
    let wanted = wanted_tiers(arguments)?;
    let mut total = Tally::default();
    let mut report = Vec::new();
    for tier in TIERS.iter().filter(|tier| wanted.is_empty() || wanted.contains(&tier.name)) {
        println!("== {}: {}", tier.name, tier.what);
        let started = now();
        let tally = (tier.run)().with_context(|| format!("tier {} could not run", tier.name))?;
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        report.push(format!(
            "{:<12} {minutes:>6.2} min  {} passed, {} failed, {} skipped",
            tier.name, tally.passed, tally.failed, tally.skipped
        ));
        report.extend(tally.told.iter().map(|told| format!("{:<12} {told}", "")));
        total.add(tally);
    }
    println!("\n{}", report.join("\n"));
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(total.failed == 0)
}

/// Formats, applies what clippy suggests, rewrites generated documents.
pub(crate) fn fix() -> Result<bool> {
    let lint = [
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
        "--quiet",
    ];
    let mut ok = cargo(&lint)?;
    ok &= cargo(&["fmt", "--all"])?;
    let document = Command::new("cargo")
        .args(["run", "--release", "--quiet", "--package", "node", "--", "openapi"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if document.status.success() {
        std::fs::write("client/openapi/openapi.json", document.stdout)
            .context("cannot write client/openapi/openapi.json")?;
    }
    std::fs::copy("protocol/src/package/package.schema.json", "client/openapi/package.schema.json")
        .context("cannot write client/openapi/package.schema.json")?;
    // The vectors are written by the tests that compare them.
    let vectors = Command::new("cargo")
        .args(["test", "--release", "--quiet", "--package", "protocol", "--test", "it"])
        .args(["--", "--exact", "vectors::the_committed_vectors_are_what_this_code_writes"])
        .env("WRITE_CLIENT_VECTORS", "1")
        .status()
        .context("cannot run cargo")?;
    // So are the schemas of what verbs print.
    let outputs = Command::new("cargo")
        .args(["test", "--release", "--quiet", "--package", "cli", "--lib"])
        .args(["--", "--exact", "outputs::the_committed_schemas_are_what_this_code_prints"])
        .env("WRITE_CLI_OUTPUT", "1")
        .status()
        .context("cannot run cargo")?;
    Ok(ok && document.status.success() && vectors.success() && outputs.success())
}

/// Passes through to the benchmark. What it measures is built by itself, as it is released: built
/// together with the tests it would have features that they ask for.
pub(crate) fn bench(arguments: &[&str]) -> Result<bool> {
    let words_without_product = ["report", "list", "help", "--help", "-h", "--version", "-V"];
    let measures = !arguments.iter().any(|word| {
        words_without_product.contains(word) || *word == "--binary" || word.starts_with("--binary=")
    });
    if measures {
        println!("building what is released, linked as one: this takes some minutes");
        if !cargo(&["build", "--profile", "dist", "--package", "node"])? {
            return Ok(false);
        }
    }
    if !cargo(&["build", "--release", "--quiet", "--package", "leasehold-bench"])? {
        return Ok(false);
    }
    let mut bench = Command::new(target_dir().join("release/bench"));
    if measures {
        bench.arg("--binary").arg(target_dir().join("dist/leasehold"));
    }
    let status = bench.args(arguments).env_remove("CARGO").status().context("cannot run bench")?;
    Ok(status.success())
}

/// Passes through to the simulation.
pub(crate) fn sim(arguments: &[&str]) -> Result<bool> {
    let mut words =
        vec!["run", "--release", "--quiet", "-p", "leasehold-sim", "--bin", "sim", "--"];
    words.extend(arguments);
    cargo(&words)
}

/// 200 seeds or four minutes, whichever is less; 20 of them twice.
fn run_sim() -> Result<Tally> {
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    let status = Command::new(target_dir().join("release/sim"))
        .args(["--seed", "1", "--seeds", "200", "--twice", "20", "--within-s", "240"])
        .status()
        .context("cannot run sim")?;
    Ok(Tally::of(status.success()))
}

/// Passes through to the counts of what operations cost.
pub(crate) fn counts(arguments: &[&str]) -> Result<bool> {
    let built = cargo(&["build", "--release", "--workspace", "--all-targets"])?;
    let mut command = Command::new(target_dir().join("release/counts"));
    Ok(built && command.args(arguments).status().context("cannot run counts")?.success())
}

/// Every figure against the committed one, a test each.
fn run_counts() -> Result<Tally> {
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    tests_of(&mut Command::new(target_dir().join("release/counts")))
}

fn wanted_tiers<'a>(arguments: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut wanted = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        match (*word, rest.next()) {
            ("--tier", Some(name)) if TIERS.iter().any(|tier| tier.name == *name) => {
                wanted.push(*name);
            }
            ("--tier", Some(name)) => bail!("no tier is called {name}"),
            ("--tier", None) => bail!("--tier needs a name"),
            (other, _) => bail!("unknown argument {other}"),
        }
    }
    Ok(wanted)
}

fn run_tidy() -> Result<Tally> {
    let mut tally = Tally::default();
    for (name, findings) in [("tidy", tidy::check()?), ("permitted edges", edges::check()?)] {
        for finding in &findings {
            println!("{finding}");
        }
        println!("{name}: {}", if findings.is_empty() { "ok" } else { "FAILED" });
        tally.add(Tally::of(findings.is_empty()));
    }
    Ok(tally)
}

fn run_format() -> Result<Tally> {
    Ok(Tally::of(cargo(&["fmt", "--all", "--check"])?))
}

fn run_lint() -> Result<Tally> {
    let words = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    Ok(Tally::of(cargo(&words)?))
}

fn run_supply() -> Result<Tally> {
    let there = Command::new("cargo-deny")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        println!("skipped: cargo-deny is not installed (cargo install cargo-deny)");
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    // The advisory database is fetched by `cargo deny fetch`; the gate itself stays offline.
    Ok(Tally::of(cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"])?))
}

/// Everything is selected in every command: another selection of packages would unify features
/// otherwise and compile much of it twice.
fn run_unit() -> Result<Tally> {
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    counted(&["test", "--release", "--workspace", "--no-fail-fast"])
}

/// A minute over all decoders; its report has the result line of a test, one test a decoder.
/// The gate repeats itself; whoever looks for more leaves the seed out, and one is drawn.
const MUTATION_SEED: &str = "1ea5e401d";

fn run_mutation() -> Result<Tally> {
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    let words = ["test", "--release", "--workspace", "--test", "mutation", "--"];
    counted(&[&words[..], &["--seconds", "60", "--seed", MUTATION_SEED]].concat())
}

fn run_cluster() -> Result<Tally> {
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    let words = [
        "test",
        "--release",
        "--workspace",
        "--test",
        "cluster",
        "--no-fail-fast",
        "--",
        "--test-threads=1",
    ];
    counted(&words)
}

/// Some seconds of each kind of trial.
fn run_disks() -> Result<Tally> {
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    let words = ["test", "--release", "--workspace", "--test", "disks", "--no-fail-fast"];
    counted(&[&words[..], &["--", "--test-threads=1", "--nocapture"]].concat())
}

/// A slice of the fault rig's suite, always the same one. Each run is a row of the table that it
/// prints, with what it did; one in which nothing was proved (a fault had no effect) counts as
/// skipped, aloud.
const RIG_MINUTES: &str = "3";
const RIG_SECONDS: &str = "15";
const RIG_SEED: &str = "5";
/// It ends with this when nothing was wrong and something was not proved.
const RIG_UNKNOWN: i32 = 2;

fn run_rig() -> Result<Tally> {
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    let suite = ["suite", "--minutes", RIG_MINUTES, "--seconds", RIG_SECONDS, "--seed", RIG_SEED];
    let mut child = Command::new(target_dir().join("release/jepsen"))
        .args(suite)
        .env_remove("CARGO")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run jepsen")?;
    let output = child.stdout.take().context("jepsen has no output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        match verdict_row(&line) {
            Some("valid") => tally.passed += 1,
            Some("unknown") => {
                tally.skipped += 1;
                tally.told.push(format!("skipped, nothing was proved: {line}"));
            }
            Some(_) => tally.failed += 1,
            None => {}
        }
    }
    let is_judged = matches!(child.wait()?.code(), Some(0 | RIG_UNKNOWN));
    if tally.passed == 0 || !is_judged && tally.failed == 0 {
        tally.failed += 1;
    }
    Ok(tally)
}

/// The verdict in a row of the suite's table; `None` for other lines.
fn verdict_row(line: &str) -> Option<&str> {
    let cells: Vec<&str> = line.strip_prefix("| ")?.split(" | ").collect();
    let _seed: u64 = cells.get(2)?.trim().parse().ok()?;
    cells.last()?.split_whitespace().next()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

fn run_openapi() -> Result<Tally> {
    Ok(tried(api::lint()?))
}

fn run_schemathesis() -> Result<Tally> {
    if !api::is_there("schemathesis") {
        return Ok(tried(api::fuzz()?));
    }
    if !cargo(&["build", "--release", "--workspace", "--all-targets"])? {
        return Ok(Tally::of(false));
    }
    Ok(tried(api::fuzz()?))
}

/// What a tool said that may not be installed.
fn tried(ok: Option<bool>) -> Tally {
    ok.map_or(Tally { skipped: 1, ..Tally::default() }, Tally::of)
}

pub(crate) fn cargo(words: &[&str]) -> Result<bool> {
    let status = Command::new("cargo").args(words).status().context("cannot run cargo")?;
    Ok(status.success())
}

/// Runs `cargo test`, passes its output through and adds up its result lines. A run that fails
/// without a result line (it did not compile, or a test binary crashed) counts as one failure.
fn counted(words: &[&str]) -> Result<Tally> {
    tests_of(Command::new("cargo").args(words))
}

/// Runs what prints result lines as tests do.
fn tests_of(command: &mut Command) -> Result<Tally> {
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("cannot run {command:?}"))?;
    let output = child.stdout.take().context("it has no output")?;
    let mut tally = Tally::default();
    let mut not_run = 0;
    let mut out = std::io::stdout().lock();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(counts) = result_line(&line) {
            tally.add(counts);
        }
        // A test that cannot run here says so in its own line, and passes.
        let name = line.split(" ... ").next().unwrap_or_default();
        if let Some((_, why)) = line.split_once(" ... skipped: ") {
            not_run += 1;
            tally.told.push(format!("skipped: {name}: {why}"));
        } else if let Some((_, what)) = line.split_once("ran: ") {
            tally.told.push(format!("ran: {what}"));
        }
        // Passing tests are counted, not listed: a gate's output is read for what is wrong.
        if !line.starts_with("test ") || !line.ends_with("... ok") {
            writeln!(out, "{line}")?;
        }
    }
    tally.passed = tally.passed.saturating_sub(not_run);
    tally.skipped += not_run;
    if !child.wait()?.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
fn result_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut tally = Tally::default();
    for part in counts.split("; ") {
        let (number, what) = part.split_once(' ')?;
        match what {
            "passed" => tally.passed = number.parse().ok()?,
            "failed" => tally.failed = number.parse().ok()?,
            "ignored" => tally.skipped = number.parse().ok()?,
            _ => {}
        }
    }
    Some(tally)
}

#[expect(clippy::disallowed_methods, reason = "minutes per tier are shown, never judged")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_result_lines() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered \
                    out; finished in 0.01s";
        assert_eq!(
            result_line(line),
            Some(Tally { passed: 12, failed: 3, skipped: 1, told: Vec::new() })
        );
        assert_eq!(result_line("running 3 tests"), None);
    }

    #[test]
    fn verdicts_are_read_from_rows() {
        let row = |end: &str| format!("| reads | kill | 7 | 1 | 2 | 3 | 4 | 5 | {end} |");
        assert_eq!(verdict_row(&row("valid ")), Some("valid"));
        assert_eq!(verdict_row(&row("invalid fences: two are the same")), Some("invalid"));
        assert_eq!(verdict_row(&row("unknown coverage: kill never hit")), Some("unknown"));
        assert_eq!(verdict_row("| workload | faults | seed | ok | verdict |"), None);
        assert_eq!(verdict_row("3 runs in 2.0 minutes: 3 valid"), None);
    }

    #[test]
    fn an_unknown_tier_is_an_error() {
        assert!(wanted_tiers(&["--tier", "nosuch"]).is_err());
        assert_eq!(wanted_tiers(&["--tier", "unit"]).unwrap(), ["unit"]);
    }
}
