//! The program `bench`: the benchmark that anyone can repeat.
//!
//! It measures our three nodes beside etcd and PostgreSQL, in one run, on one disk, with one load
//! generator, and writes `results.json`, from which `RESULTS.md` and its plots are made. No option
//! switches off TLS, fsync, tokens or audit.
//!
//! | module | owns |
//! |---|---|
//! | `plan` | what is measured, and in which order |
//! | `load` | the load generator |
//! | `systems` | how each system is founded, started, stopped and asked |
//! | `turns`, `topics` | measuring: cells, and what takes longer |
//! | `checks` | that nothing was switched off |
//! | `results` | the file, and the rows of the table of targets |
//! | `report` | page and plots |

mod args;
mod checks;
mod load;
mod machine;
mod plan;
mod progress;
mod report;
mod results;
mod run;
mod systems;
mod topics;
mod turns;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::{Args, Verb};
use plan::{Topic, Workload};
use results::Results;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.verb {
        Some(Verb::Report) => report_again(&args),
        Some(Verb::List) => {
            list();
            Ok(())
        }
        None => measure(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread for all clients: the others are the servers'.
fn measure(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        // Whatever was started ends with what owns it: leaving here ends it all.
        tokio::select! {
            done = run::run(args) => done,
            _ = interrupted.recv() => bail!("interrupted; {}", what_is_left(args)),
            _ = terminated.recv() => bail!("terminated; {}", what_is_left(args)),
        }
    })
}

fn what_is_left(args: &Args) -> String {
    let kept = run::unfinished(args);
    let kept =
        if kept.exists() { format!("; figures so far: {}", kept.display()) } else { String::new() };
    format!("all servers were stopped{kept}")
}

fn report_again(args: &Args) -> Result<()> {
    let mut results = Results::read(&args.out.join(run::RESULTS))?;
    results.compare();
    report::write(&results, &args.out)?;
    println!("{}", args.out.join("RESULTS.md").display());
    Ok(())
}

fn list() {
    for workload in Workload::ALL {
        println!("{workload:<15} {}", workload.about());
    }
    for topic in Topic::ALL {
        println!("{topic:<15} {}", topic.about());
    }
}
