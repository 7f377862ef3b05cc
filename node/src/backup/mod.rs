//! Backups, and what begins from one: `snapshot save | status | verify | restore | list | now`, and
//! `cluster recover`.
//!
//! | module | owns |
//! |---|---|
//! | [`inspect`] | reading a snapshot file: all of it, every check |
//! | [`write`] | a snapshot file that is there whole and verified, or not at all |
//! | [`save`] | a backup of a cluster that runs, or of a node that does not |
//! | [`new_node`] | the one node that a new epoch begins with: id, keys, certificates |
//! | [`restore`] | a new cluster directory from a file |
//! | [`recover`] | a new data directory from what a survivor has on its disk |
//! | [`schedule`] | backups that a node takes by itself |
//!
//! What it leaves to others: the file's layout (`storage::snapshot`), what a new epoch means
//! (`lease`), how log and state of a new directory look (`raft::offline`).

mod inspect;
mod new_node;
mod recover;
mod restore;
mod save;
mod schedule;
#[cfg(test)]
mod tests;
mod write;

use std::fmt::Display;
use std::path::Path;

use cli::local::{Failed, Told, ToldPart, Trouble, conclude};
use cli::{Exit, GlobalOptions, RecoverArgs, SnapshotVerb};
use raft::offline::OfflineError;
use storage::seam::{Clock, RealClock, RealDisk, RealEntropy};
use storage::snapshot::SnapshotError;

use crate::config::{chain, io_reason};

pub(crate) use schedule::{BackupOrders, Schedule};

/// `leasehold snapshot …`
pub(crate) fn snapshot(verb: &SnapshotVerb, options: &GlobalOptions) -> Exit {
    let outcome = match verb {
        SnapshotVerb::Save(args) => save::save(args, options),
        SnapshotVerb::Status(args) => {
            inspect::read(&args.file).map(|found| found.told()).map_err(Failed::from)
        }
        SnapshotVerb::Verify(args) => inspect::verify(&args.file).map_err(Failed::from),
        SnapshotVerb::Restore(args) => {
            restore::restore(args, options, &World::real()).map_err(Failed::from)
        }
        SnapshotVerb::List(args) => inspect::list(&args.dir).map_err(Failed::from),
        SnapshotVerb::Now(args) => {
            return cli::local::snapshot_now(args.clone(), options);
        }
    };
    conclude(outcome, options)
}

/// `leasehold cluster recover`
pub(crate) fn recover(args: &RecoverArgs, options: &GlobalOptions) -> Exit {
    let confirm = |cluster_id: &str| recover::ask(cluster_id);
    let outcome = recover::recover(args, &World::real(), &confirm);
    conclude(outcome.map_err(Failed::from), options)
}

/// The machine, as these verbs see it.
pub(crate) struct World {
    pub(crate) clock: std::sync::Arc<dyn Clock>,
    pub(crate) disk: std::sync::Arc<dyn storage::seam::Disk>,
    pub(crate) entropy: std::sync::Arc<dyn storage::seam::Entropy>,
}

impl World {
    fn real() -> Self {
        Self {
            clock: std::sync::Arc::new(RealClock::new()),
            disk: std::sync::Arc::new(RealDisk),
            entropy: std::sync::Arc::new(RealEntropy),
        }
    }
}

/// A file or a value that cannot be used.
fn unusable(code: &'static str, message: impl Into<String>) -> Trouble {
    Trouble::new(Exit::Usage, code, message)
}

fn io_trouble(path: &Path, error: &std::io::Error) -> Trouble {
    unusable("file", format!("{}: {}", path.display(), io_reason(error)))
}

/// What is wrong with a snapshot file.
fn snapshot_trouble(path: &Path, error: &SnapshotError) -> Trouble {
    let file = path.display();
    match error {
        SnapshotError::Io(error) => io_trouble(path, error),
        SnapshotError::Corrupt { offset, what } => Trouble::new(
            Exit::Unverifiable,
            "snapshot_corrupt",
            format!("{file}: is corrupt at byte {offset}: {what}; use another backup"),
        ),
        SnapshotError::Newer { what } => unusable(
            "snapshot_newer",
            format!(
                "{file}: was written by a newer version of Leasehold ({what}); \
                 use a release not older than that"
            ),
        ),
    }
}

/// Why a directory was not read or made.
fn offline_trouble(path: &Path, error: &OfflineError) -> Trouble {
    use raft::StartError;
    let shown = format!("{}: {}", path.display(), chain(error));
    match error {
        OfflineError::Open(StartError::Damaged(_)) | OfflineError::Gap { .. } => {
            Trouble::new(Exit::Unverifiable, "data_damaged", shown)
        }
        OfflineError::Snapshot(storage::state::InstallError::Snapshot(error)) => {
            snapshot_trouble(path, error)
        }
        OfflineError::NotEmpty { .. } => unusable("directory_in_use", shown),
        OfflineError::Refused(_) => Trouble::new(Exit::Refused, "epoch_refused", shown),
        _ => Trouble::new(Exit::Failed, "failed", shown),
    }
}

fn fact(name: &'static str, value: impl Display) -> (&'static str, String) {
    (name, value.to_string())
}

/// A report of facts and lines.
fn told(json: serde_json::Value, parts: Vec<ToldPart>, id: String) -> Told {
    Told { json, parts, ids: vec![id] }
}
