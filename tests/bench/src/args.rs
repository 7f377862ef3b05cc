//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::plan::{Item, Placement, System};

/// Measures Leasehold beside etcd and PostgreSQL.
///
/// Three nodes of ours as real processes with default settings, three of etcd, one of PostgreSQL:
/// one after the other on the same disk, in rotation, asked by one load generator. Writes
/// results.json, RESULTS.md and plots.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", bin_name = "cargo xtask bench", version)]
#[command(max_term_width = 80, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Something else than to measure.
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    /// A few minutes, for trying out: one round, short cells, few clients, fewer leases
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these workloads and topics, with commas; `list` shows them
    #[arg(long, value_name = "ID,…", value_delimiter = ',', value_parser = item)]
    pub(crate) only: Vec<Item>,
    /// Only these systems, with commas: leasehold, etcd, etcd-auth, postgres
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = system)]
    pub(crate) systems: Vec<System>,
    /// Numbers of clients, with commas [default: 1,16,64,256,1000]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clients)]
    pub(crate) clients: Vec<usize>,
    /// Seconds counted in each cell, after a fifth as much of warm-up [default: 5]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: Option<u64>,
    /// Rounds; a figure is the median over them [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=99))]
    pub(crate) rounds: Option<u64>,
    /// Where clients of all systems are connected
    #[arg(long, value_name = "WHERE", default_value = "spread")]
    pub(crate) at: At,
    /// How many leases the topics take for a million [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..=9_000_000))]
    pub(crate) leases: Option<u64>,
    /// How many leases heartbeats renew [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    pub(crate) held: Option<u64>,
    /// How often the topic failover kills a leader [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) kills: Option<u64>,
    /// Directory below which all data is kept while it runs [default: the system's for such]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The binary of leasehold [default: as it is released, from target/dist]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Directory of results.json, RESULTS.md and the plots
    #[arg(long, value_name = "DIR", default_value = "tests/bench", global = true)]
    pub(crate) out: PathBuf,
    /// Keep what the results.json there has and this run does not measure
    #[arg(long)]
    pub(crate) merge: bool,
}

/// Something else than to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Verb {
    /// Write RESULTS.md and the plots again from results.json
    Report,
    /// List what --only takes
    List,
}

/// Where clients are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum At {
    /// Evenly over the nodes, the first at the leader
    Spread,
    /// All at the leader
    Leader,
}

impl From<At> for Placement {
    fn from(at: At) -> Self {
        match at {
            At::Spread => Self::Spread,
            At::Leader => Self::Leader,
        }
    }
}

fn item(text: &str) -> Result<Item, String> {
    Item::named(text).map_err(|error| error.to_string())
}

fn system(text: &str) -> Result<System, String> {
    System::named(text).map_err(|error| error.to_string())
}

fn clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(clients @ 1..=MOST_CLIENTS) => Ok(clients),
        _ => Err(format!("want 1 to {MOST_CLIENTS}")),
    }
}

/// Servers allow so many connections and not many more.
const MOST_CLIENTS: usize = 1_000;

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench
  cargo xtask bench --quick --out /tmp/bench
  cargo xtask bench --only checkout,failover --clients 64,256 --merge
  cargo xtask bench report

etcd is Debian's etcd-server with etcd-client, PostgreSQL Debian's postgresql;
what is not installed is left out, aloud. A full run takes two to three hours.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::plan::{Topic, Workload};

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["bench"], words].concat())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
        let args = parse(&["--only", "checkout,failover", "--clients", "1,64"]).unwrap();
        let want = [Item::Workload(Workload::Checkout), Item::Topic(Topic::Failover)];
        assert_eq!((args.only.as_slice(), args.clients.as_slice()), (&want[..], &[1, 64][..]));
        let args = parse(&["report", "--out", "/tmp/x"]).unwrap();
        assert_eq!((args.verb, args.out), (Some(Verb::Report), PathBuf::from("/tmp/x")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (words, part) in [
            (&["--only", "chekout"][..], "nothing is called `chekout`"),
            (&["--systems", "redis"], "no system is called `redis`"),
            (&["--clients", "0"], "want 1 to 1000"),
            (&["--seconds", "0"], "0 is not in 1..=3600"),
        ] {
            let error = parse(words).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_help_fits_a_terminal() {
        let mut command = Args::command().term_width(80);
        for line in command.render_long_help().to_string().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
