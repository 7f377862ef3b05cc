//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, value_parser};

/// Runs real clusters, hurts them, and checks what clients saw.
#[derive(Debug, Parser)]
#[command(name = "jepsen", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run one workload under faults, check it, write a report.
    #[command(after_help = RUN_EXAMPLE)]
    Run(RunArgs),
    /// Run a matrix of workloads and faults that is drawn from a seed.
    #[command(after_help = SUITE_EXAMPLE)]
    Suite(SuiteArgs),
    /// Check a run again, from its directory alone.
    #[command(after_help = CHECK_EXAMPLE)]
    Check(CheckArgs),
    /// List faults, and whether this machine can do them.
    Faults,
    /// List workloads.
    Workloads,
}

/// What both `run` and `suite` are told.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// What every choice is drawn from; drawn from the clock and shown when left out.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Nodes of a cluster.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = value_parser!(u8).range(1..=5))]
    pub nodes: u8,
    /// How far apart the nodes say they are: lan, region or global.
    #[arg(long, default_value = "lan", value_parser = ["lan", "region", "global"])]
    pub preset: String,
    /// The release binary; built and found in the workspace when left out.
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
    /// Where runs are kept.
    #[arg(long, value_name = "DIR", default_value = "jepsen/store")]
    pub store: PathBuf,
    /// Keep the data directories of nodes, too.
    #[arg(long)]
    pub keep_data: bool,
}

/// `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Which workload; `jepsen workloads` lists them.
    #[arg(long, value_name = "W")]
    pub workload: String,
    /// Which faults, with commas; `all`, `none`; `jepsen faults` lists them.
    #[arg(long, value_name = "F", default_value = "none")]
    pub faults: String,
    /// How long faults are injected, at least; each is begun once in any case.
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub seconds: u64,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// `suite`.
#[derive(Debug, Clone, clap::Args)]
pub struct SuiteArgs {
    /// How long, over all runs.
    #[arg(long, value_name = "M", default_value_t = 15)]
    pub minutes: u64,
    /// How long faults are injected in one run.
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub seconds: u64,
    /// Only these faults, with commas.
    #[arg(long, value_name = "F", default_value = "all")]
    pub faults: String,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// `check`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// Directory of a run.
    pub dir: PathBuf,
}

const EXAMPLES: &str = "\
Example:
  cargo run --release -p jepsen -- run --workload contention --faults kill,partition --seconds 60

Exit codes: 0 valid, 1 invalid, 2 unknown, or a fault that never hit.";
const RUN_EXAMPLE: &str = "\
Example:
  jepsen run --workload mixed --faults all --seconds 120 --seed 7

Exit codes: 0 valid, 1 invalid, 2 unknown, or a fault that never hit; 3 the rig itself failed.";
const SUITE_EXAMPLE: &str = "\
Example:
  jepsen suite --minutes 15 --seed 1

Ends with a table of verdicts; the exit code is the worst of them.";
const CHECK_EXAMPLE: &str = "\
Example:
  jepsen check jepsen/store/contention-kill-7";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
        let args = Args::try_parse_from(["jepsen", "run", "--workload", "mixed"]).unwrap();
        let Verb::Run(run) = args.verb else { panic!("not a run") };
        assert_eq!((run.faults.as_str(), run.seconds, run.common.nodes), ("none", 60, 3));
        assert!(Args::try_parse_from(["jepsen", "run"]).is_err());
        assert!(Args::try_parse_from(["jepsen", "suite", "--nodes", "6"]).is_err());
    }
}
