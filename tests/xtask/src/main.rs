//! The one gate: `cargo xtask test` is what README, CI and a person run, `cargo xtask fix` its
//! writing twin.
//!
//! `test` runs its tiers in order, cheapest first, prints the minutes each took and ends with one
//! line `N passed, N failed, N skipped`. A tier that this machine cannot run is skipped aloud, with
//! the reason, and counts as skipped. Every compile uses the release profile, so that the product,
//! its tests and later the fault rig share one build.

mod api;
mod disks;
mod edges;
mod planted;
mod tidy;
mod tiers;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [--tier NAME]...   run the gate: tidy, format, lint, supply, unit, mutation, sim,
                          counts, openapi, schemathesis, cluster, disks, rig, planted
  fix                     format, apply lint suggestions, write generated documents
  sim [ARGS]...           simulate clusters under faults, one for each seed
  counts [ARGS]...        count what operations cost; --write keeps the figures
  disks [ARGS]...         cut and damage disks under load, as often as one likes
  planted [BUG]...        put bugs in on purpose, and let the tiers find them
  bench [ARGS]...         measure a cluster beside etcd and PostgreSQL
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["test", rest @ ..] => tiers::test(rest),
        ["fix"] => tiers::fix(),
        ["sim", rest @ ..] => tiers::sim(rest),
        ["counts", rest @ ..] => tiers::counts(rest),
        ["disks", rest @ ..] => disks::run(rest),
        ["planted", rest @ ..] => planted::run(rest),
        ["bench", rest @ ..] => tiers::bench(rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
