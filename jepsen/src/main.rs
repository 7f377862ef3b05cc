//! The program `jepsen`: reads the command line, runs or checks, and ends with the worst verdict.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use jepsen::args::{Args, Common, RunArgs, Verb};
use jepsen::faults::{self, FAULTS};
use jepsen::run::{self, Setup};
use jepsen::workloads::{WORKLOADS, Workload};
use jepsen::{clock, machine};

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.context("cannot start").and_then(|runtime| runtime.block_on(act(args)));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(RIG_FAILED)
        }
    }
}

async fn act(args: Args) -> Result<u8> {
    match args.verb {
        Verb::Run(args) => run_one(args).await,
        Verb::Suite(_) => todo(),
        Verb::Check(_) => todo(),
        Verb::Faults => {
            print!("{}", list_faults());
            Ok(0)
        }
        Verb::Workloads => {
            for workload in WORKLOADS {
                println!("{:<14} {}", workload.name, workload.about);
            }
            Ok(0)
        }
    }
}

fn todo() -> Result<u8> {
    Ok(0)
}

async fn run_one(args: RunArgs) -> Result<u8> {
    let setup = setup_of(&args.common, &args.workload, &args.faults, args.seconds)?;
    for (fault, why) in &setup.skipped {
        eprintln!("skipped: {fault}: {why}");
    }
    let dir = run::run(&setup).await?;
    eprintln!("  kept in {}", dir.display());
    Ok(0)
}

fn setup_of(common: &Common, workload: &str, faults: &str, seconds: u64) -> Result<Setup> {
    let workload = Workload::named(workload)
        .with_context(|| format!("no workload is called `{workload}`; see `jepsen workloads`"))?;
    let asked = faults::parse(faults).map_err(anyhow::Error::msg)?;
    let (faults, skipped) = Setup::sort_out(&asked);
    Ok(Setup {
        workload,
        faults,
        skipped,
        seconds,
        seed: common.seed.unwrap_or_else(|| clock::wall_ms().unsigned_abs() % 100_000),
        nodes: common.nodes.into(),
        preset: common.preset.clone(),
        binary: machine::binary(common.binary.as_deref())?,
        store: common.store.clone(),
        keeps_data: common.keep_data,
    })
}

fn list_faults() -> String {
    let mut text = String::new();
    for fault in FAULTS {
        let can = match fault.possible() {
            Ok(()) => "yes".to_owned(),
            Err(why) => format!("no: {why}"),
        };
        let _ = writeln!(text, "{:<16} {}\n{:<16} here: {can}", fault.name(), fault.about(), "");
    }
    text
}

/// The rig could not do its work.
const RIG_FAILED: u8 = 3;
