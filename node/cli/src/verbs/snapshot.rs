//! The words of `snapshot` and `cluster recover`. The program does the work: it alone knows files
//! of a state and data directories.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::cloud::admin::{SnapshotRequest, SnapshotResponse};

use super::document;
use super::enroll::{AddressArgs, TimingPreset};
use crate::error::Result;
use crate::options::MutationOptions;
use crate::report::{Part, Report};
use crate::session::Session;

/// `snapshot now`, which is the one that a server does alone.
pub(crate) async fn now(args: NowArgs, session: &Session<'_>) -> Result<Report> {
    let request = SnapshotRequest { node_id: args.node };
    let path = ["admin", "snapshots"];
    let answer = session.post(&path, &request, &MutationOptions::default()).await?;
    let made: SnapshotResponse = answer.json()?;
    let facts = vec![("node", made.node_id.to_string()), ("file", made.file.clone())];
    let ids = vec![made.file.clone()];
    Ok(Report::done(document(&made)?, vec![Part::Facts(facts)], ids))
}

/// `leasehold snapshot …`
#[derive(Debug, Clone, Subcommand)]
pub enum SnapshotVerb {
    /// Take a backup: download the state of the cluster into a file, and verify it
    #[command(after_help = "\
Examples:
  leasehold snapshot save /backup/
  leasehold snapshot save last-words.snapshot --data-dir /var/lib/leasehold   (a stopped node)")]
    Save(SaveArgs),
    /// Show what is in a snapshot file
    #[command(after_help = "\
Example:
  leasehold snapshot status leasehold-lh-3f2a9c5d7e11a0b2-1-48211.snapshot")]
    Status(FileArgs),
    /// Check all of a snapshot file: every hash, every row, the rules, the audit chain
    #[command(after_help = "\
Example:
  leasehold snapshot verify leasehold-lh-3f2a9c5d7e11a0b2-1-48211.snapshot")]
    Verify(FileArgs),
    /// Make a new cluster of one node from a snapshot file, in a new epoch
    #[command(after_help = "\
Example:
  leasehold snapshot restore leasehold-lh-3f2a9c5d7e11a0b2-1-48211.snapshot \\
      --dir /var/lib/leasehold --kek /safe/node-1/kek.pem --advertise lic-4.example.com:7401
Then: leasehold serve --config /var/lib/leasehold/node.toml, and leasehold member add.")]
    Restore(Box<RestoreArgs>),
    /// List the snapshot files of a directory, newest last
    #[command(after_help = "\
Example:
  leasehold snapshot list /backup/")]
    List(DirArgs),
    /// Have a node write a backup into its configured directory now
    #[command(after_help = "\
Examples:
  leasehold snapshot now
  leasehold snapshot now 2")]
    Now(NowArgs),
}

/// What to save, and where to.
#[derive(Debug, Clone, Args)]
pub struct SaveArgs {
    /// The file to make, or a directory to make one in
    #[arg(value_name = "FILE|DIR")]
    pub target: PathBuf,
    /// Take what a stopped node has in its data directory instead, with every entry of its log
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// A snapshot file.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// A directory of snapshot files.
#[derive(Debug, Clone, Args)]
pub struct DirArgs {
    /// The directory
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
}

/// Which node is to write a backup.
#[derive(Debug, Clone, Args)]
pub struct NowArgs {
    /// Number of the node; the one that answers when left out
    #[arg(value_name = "NODE")]
    pub node: Option<u64>,
}

/// From what and as what a cluster begins again.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The snapshot file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Key-encryption key of any node that was a member when the snapshot was taken (its kek.pem):
    /// without it no secret of the cluster can be opened
    #[arg(long, value_name = "PEM")]
    pub kek: PathBuf,
    /// How far apart the nodes will be
    #[arg(long, value_enum, value_name = "PRESET", default_value_t = TimingPreset::Lan)]
    pub preset: TimingPreset,
    /// Where the node will be and how it is reached.
    #[command(flatten)]
    pub node: AddressArgs,
    /// Number of the node; one above all that the snapshot knows when left out
    #[arg(long, value_name = "NODE")]
    pub node_id: Option<u64>,
    /// What is known beside the state.
    #[command(flatten)]
    pub known: KnownArgs,
}

/// What whoever opens a new epoch knows and the state cannot.
#[derive(Debug, Clone, Default, Args)]
pub struct KnownArgs {
    /// Say that nothing was borrowed that the state does not know: no seat is kept for it
    #[arg(long)]
    pub no_borrows_since: bool,
    /// The highest epoch that this cluster ever had (`cluster status`), where that is more than the
    /// state says: after a restore was done before from this backup or an older one. Two epochs of
    /// one number would take each other's renewal tokens for their own
    #[arg(
        long,
        value_name = "EPOCH",
        value_parser = clap::value_parser!(u32).range(1..4_000_000_000)
    )]
    pub epoch_above: Option<u32>,
    /// Say that the clock of this machine is right although it is more than 10 minutes behind the
    /// state, or more than 7 days ahead of it
    #[arg(long)]
    pub civil_time_is_right: bool,
}

/// On which survivor a cluster without a majority goes on.
#[derive(Debug, Clone, Args)]
pub struct RecoverArgs {
    /// Configuration of the stopped node, node.toml
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The new data directory; beside the old one when left out
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The cluster's id, in place of typing it
    #[arg(long, value_name = "CLUSTER-ID")]
    pub confirm: Option<String>,
    /// What is known beside the state.
    #[command(flatten)]
    pub known: KnownArgs,
}
