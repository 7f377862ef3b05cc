//! The program `jepsen`: reads the command line, runs or checks, and ends with the worst verdict.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use jepsen::args::{Args, Common, RunArgs, SuiteArgs, Verb};
use jepsen::faults::{self, FAULTS};
use jepsen::run::{self, Setup};
use jepsen::workloads::{WORKLOADS, Workload};
use jepsen::{clock, judge, machine, suite};

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
        Verb::Suite(args) => run_many(args).await,
        Verb::Check(args) => {
            let verdict = judge::judge(&args.dir)?;
            print!("{verdict}");
            Ok(verdict.judgement.exit_code())
        }
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

async fn run_one(args: RunArgs) -> Result<u8> {
    let workload = &args.workload;
    let workload = Workload::named(workload)
        .with_context(|| format!("no workload is called `{workload}`; see `jepsen workloads`"))?;
    let setup = setup_of(&args.common, workload, &args.faults, args.seconds)?;
    eprintln!("{} under {}, seed {}", workload.name, args.faults, setup.seed);
    let dir = run::run(&setup).await?;
    let verdict = tokio::task::block_in_place(|| judge::judge(&dir))?;
    print!("{verdict}");
    println!("{}", dir.display());
    Ok(verdict.judgement.exit_code())
}

async fn run_many(args: SuiteArgs) -> Result<u8> {
    let template = setup_of(&args.common, &WORKLOADS[0], &args.faults, args.seconds)?;
    eprintln!("suite of {} minutes, seed {}", args.minutes, template.seed);
    let rows = suite::run(&template, args.minutes).await?;
    print!("{}", suite::table(&rows));
    Ok(suite::judgement(&rows).exit_code())
}

fn setup_of(
    common: &Common,
    workload: &'static Workload,
    faults: &str,
    seconds: u64,
) -> Result<Setup> {
    let words: Vec<&str> = faults.split(',').map(str::trim).collect();
    let asked = faults::parse(faults).map_err(anyhow::Error::msg)?;
    let (faults, mut skipped) = Setup::sort_out(&asked);
    for (fault, why) in &skipped {
        eprintln!("skipped: {fault}: {why}");
    }
    // `all` is what this machine can do; what was asked for by its name is missing otherwise.
    skipped.retain(|(name, _)| words.contains(&name.as_str()));
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
