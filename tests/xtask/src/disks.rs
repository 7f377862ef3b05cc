//! The long run of the disk tier: `cargo xtask disks --trials 200`, from a seed that is drawn and
//! printed, or given.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask disks [--trials N] [--seed N] [NAME]

Runs each kind of trial of tests/disks N times (200), or only the tests whose name has NAME in it:
power, damage, traced, or a part of a test's name. Progress and the time left are printed.

  cargo xtask disks --trials 200
  cargo xtask disks --trials 50 --seed 7 power::a_majority
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    trials: u64,
    seed: Option<u64>,
    name: Option<&'a str>,
}

/// Runs the trials; `true` when nothing failed.
pub(crate) fn run(arguments: &[&str]) -> Result<bool> {
    if arguments.contains(&"--help") {
        print!("{USAGE}");
        return Ok(true);
    }
    let asked = read(arguments)?;
    // No clock and no device is needed for a number that only has to differ.
    let seed = asked.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("{} trials of each kind, seed {seed}", asked.trials);
    let build = ["build", "--release", "--workspace", "--all-targets"];
    if !Command::new("cargo").args(build).status().context("cannot run cargo")?.success() {
        return Ok(false);
    }
    let test = ["test", "--release", "--workspace", "--test", "disks", "--no-fail-fast", "--"];
    let status = Command::new("cargo")
        .args(test)
        .args(["--test-threads=1", "--nocapture"])
        .args(asked.name)
        .env("LEASEHOLD_DISK_TRIALS", asked.trials.to_string())
        .env("LEASEHOLD_DISK_SEED", seed.to_string())
        .status()
        .context("cannot run cargo")?;
    Ok(status.success())
}

fn read<'a>(arguments: &[&'a str]) -> Result<Asked<'a>> {
    let mut asked = Asked { trials: 200, seed: None, name: None };
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut number = || -> Result<u64> {
            let text = rest.next().with_context(|| format!("{word} needs a number"))?;
            text.parse().with_context(|| format!("{word} needs a number, not {text:?}"))
        };
        match *word {
            "--trials" => asked.trials = number()?,
            "--seed" => asked.seed = Some(number()?),
            name if asked.name.is_none() && !name.starts_with('-') => asked.name = Some(name),
            other => bail!("unknown argument {other}; `cargo xtask disks --help` has an example"),
        }
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_and_nonsense_is_refused() {
        let all = Asked { trials: 200, seed: None, name: None };
        assert_eq!(read(&[]).unwrap(), all);
        let some = Asked { trials: 3, seed: Some(7), name: Some("power") };
        assert_eq!(read(&["--trials", "3", "power", "--seed", "7"]).unwrap(), some);
        for wrong in [&["--trials"][..], &["--trials", "x"], &["--sed", "1"], &["a", "b"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
