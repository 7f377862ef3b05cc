//! `cluster`: the life of a cluster, and how it is.
//!
//! What it leaves to others: status and health ([`super::watching`]), and each change to a module
//! of its own.

use clap::Subcommand;

use super::enroll::{InitArgs, JoinArgs};
use super::hand_over::{self, TransferLeaderArgs};
use super::roll::RollArgs;
use super::snapshot::RecoverArgs;
use super::watching::health::{self, HealthArgs};
use super::watching::status::{self, StatusArgs};
use crate::error::{CliError, Result};
use crate::report::Report;
use crate::session::Session;

/// The cluster
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterVerb {
    /// Show the nodes: who leads, who is up, how far each is
    ///
    /// Exits with 0 when every node is up, 11 when the cluster works and a node is unreachable or
    /// sealed, 10 when there is no leader.
    #[command(after_help = "\
Examples:
  leasehold cluster status
  leasehold cluster status --wide")]
    Status(StatusArgs),
    /// Say in three lines whether the cluster is healthy
    ///
    /// A leader with a quorum; every voter up, caught up and unsealed; no alarm. Exits with 0 when
    /// all three hold, 10 without a leader, 11 otherwise.
    #[command(after_help = "\
Examples:
  leasehold cluster health
  leasehold cluster health --wait=2m")]
    Health(HealthArgs),
    /// Make the first node of a new cluster on this machine
    ///
    /// Writes configuration, keys and certificates into a directory that is empty or not there, and
    /// shows the first operator token, once.
    #[command(after_help = "\
Example:
  leasehold cluster init --client-id bmw-de-001 --org-domain bmw.com \\
      --dir /var/lib/leasehold --advertise lic-1.example.com:7401")]
    Init(InitArgs),
    /// Make this machine's node of a cluster that runs, with a join token (--token)
    ///
    /// Keys are made here and stay here. It can be repeated after an interruption.
    #[command(after_help = "\
Example:
  leasehold cluster join --token lhj1_… --dir /var/lib/leasehold \\
      --advertise lic-2.example.com:7401")]
    Join(JoinArgs),
    /// Hand leadership to another voter
    #[command(
        visible_alias = "move-leader",
        after_help = "\
Example:
  leasehold cluster transfer-leader --to 2"
    )]
    TransferLeader(TransferLeaderArgs),
    /// Restart every node, one at a time: drain it, run the command, wait until it is well
    #[command(after_help = "\
Example:
  leasehold cluster roll --run 'systemctl -H {host} restart leasehold'")]
    Roll(RollArgs),
    /// Go on with one survivor when a majority of the nodes is lost for good
    ///
    /// Run it on the stopped survivor that has the most. It opens a new epoch in a new data
    /// directory, keeps the old one, and says what may be lost. Nothing happens before the id of
    /// the cluster is typed.
    #[command(after_help = "\
Example:
  leasehold cluster recover --config /var/lib/leasehold/node.toml")]
    Recover(RecoverArgs),
}

pub(crate) async fn run(verb: ClusterVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        ClusterVerb::Status(args) => status::run(&args, session).await,
        ClusterVerb::Health(args) => health::run(&args, session).await,
        ClusterVerb::TransferLeader(args) => hand_over::transfer_leader(args, session).await,
        ClusterVerb::Init(_)
        | ClusterVerb::Join(_)
        | ClusterVerb::Roll(_)
        | ClusterVerb::Recover(_) => Err(CliError::Failed("this is done elsewhere".to_owned())),
    }
}
