//! `sim`: runs seeds, each in a process of its own, and says what they came to.
//!
//! A process of its own, because std and tokio keep counts of what they made so far, and because
//! whatever ends a run (a panic while panicking, a loop without end) then ends nothing else. As
//! many run at once as there are processors.

mod fleet;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use leasehold_sim::{Options, random};

use crate::fleet::Wanted;

/// As the server has; and a seed takes less of a processor with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates clusters under faults, one for each seed, and checks every rule on them.
///
/// Example: sim --seed 1 --seeds 200
///
/// Ends with 0 when every run kept every rule, with 1 when one did not, with 2 when a run could not
/// be made or too little happened in all of them to prove anything.
#[derive(Parser)]
#[command(name = "sim", verbatim_doc_comment)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Nodes at the beginning of each run: 3 or 5; by default the seed decides.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=7))]
    nodes: Option<u64>,
    /// Simulated seconds of each run at least.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Without faults.
    #[arg(long)]
    no_faults: bool,
    /// How many of the seeds run twice, to compare the digests of their traces.
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// Begin no further run after so many seconds.
    #[arg(long)]
    within_s: Option<u64>,
    /// End as soon as one run did not keep every rule.
    #[arg(long)]
    until_found: bool,
    /// Runs at once; by default as many as there are processors.
    #[arg(long)]
    jobs: Option<usize>,
    /// Run the one seed here, and tell what happens as it happens.
    #[arg(long)]
    verbose: bool,
    /// Run the one seed here, and print its report as JSON: what the others are made of.
    #[arg(long, hide = true)]
    one: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("LEASEHOLD_PLANTED_BUG") {
        let Some(bug) = lease::planted::Bug::of_name(&name) else {
            eprintln!("sim: no bug is called {name}");
            return ExitCode::from(2);
        };
        lease::planted::plant(Some(bug));
    }
    match act(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn act(arguments: &Arguments) -> Result<ExitCode> {
    let options = Options {
        nodes: arguments.nodes,
        seconds: arguments.seconds,
        faults: !arguments.no_faults,
    };
    if !(arguments.one || arguments.verbose) {
        return fleet::run(&Wanted {
            first: arguments.seed,
            seeds: arguments.seeds,
            options,
            twice: arguments.twice.min(arguments.seeds),
            within: arguments.within_s.map(Duration::from_secs),
            until_found: arguments.until_found,
            jobs: arguments.jobs,
        });
    }
    random::seed(arguments.seed);
    let mut report = leasehold_sim::run(arguments.seed, options, arguments.verbose)?;
    report.cpu_ms = fleet::cpu_ms();
    if arguments.one {
        println!("{}", serde_json::to_string(&report).context("the report")?);
    } else {
        println!("{}\ndigest {}, {} ms of CPU", report.totals, report.digest, report.cpu_ms);
        for line in report.last.iter() {
            println!("{line}");
        }
        for (rule, what) in &report.violations {
            println!("{rule}: {what}");
        }
    }
    Ok(ExitCode::from(u8::from(!report.violations.is_empty())))
}
