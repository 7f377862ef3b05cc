//! A node's data directory: whose it is, and that one process at a time uses it.
//!
//! ```text
//! DATA_DIR/       0700, owned by the process's user
//!   lock          held (flock) while a process runs
//!   identity      one frame, kind Directory, version 1: cluster id, node id, incarnation
//!   …             the log and the state, which belong to `storage`
//! ```
//!
//! The incarnation is random and made when the node is provisioned; peers compare it with the
//! member row. A directory is created only with a *ticket*, a file next to the configuration that
//! is removed once the identity is durable: so a node whose directory was lost cannot quietly
//! begin again with an empty log under its old id and vote a second time.
//!
//! What it leaves to others: everything below (`storage`), the comparison by peers (`raft`).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lease::format::{self, FormatError, Kind};
use lease::ids::NodeId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use storage::seam::{Disk, replace_file};
use thiserror::Error;

use crate::config::io_reason;

/// Who a data directory belongs to, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: String,
    /// The node.
    pub node: NodeId,
    /// The directory's own random number.
    pub incarnation: u64,
}

/// Why a data directory is not usable. Each is one line.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The file system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process holds the lock.
    #[error("{}: another process is using this data directory", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// Open to other users.
    #[error(
        "{}: is open to others (mode {mode:04o}); run: chmod 700 {}",
        path.display(), path.display()
    )]
    Permissions {
        /// The data directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user's.
    #[error("{}: belongs to user {owner}, not to {me}", path.display())]
    Owner {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who runs the process.
        me: u32,
    },
    /// Made for another cluster or node.
    #[error(
        "{}: belongs to node {} of cluster {}, the configuration says node {node} of {cluster_id}",
        path.display(), found.node, found.cluster_id
    )]
    Foreign {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
        /// The configured node.
        node: NodeId,
        /// The configured cluster.
        cluster_id: String,
    },
    /// The configuration lists another incarnation of it.
    #[error(
        "{}: is incarnation {found:016x}, the configuration says {expected:016x}",
        path.display()
    )]
    Incarnation {
        /// The data directory.
        path: PathBuf,
        /// What it is.
        found: u64,
        /// What the configuration says.
        expected: u64,
    },
    /// Not there, and there is no ticket to make it.
    #[error(
        "{}: the data of node {node} is gone; a node that lost its data cannot come back under its \
         old id",
        path.display()
    )]
    Gone {
        /// The data directory.
        path: PathBuf,
        /// The node.
        node: NodeId,
    },
    /// Files, but no identity.
    #[error("{}: is not empty and not a data directory of Leasehold", path.display())]
    NotOurs {
        /// The data directory.
        path: PathBuf,
    },
    /// A state without the log that it came from.
    #[error(
        "{}: the log is gone; a node that lost its log cannot come back under its old id",
        path.display()
    )]
    NoLog {
        /// The data directory.
        path: PathBuf,
        /// The node.
        node: NodeId,
    },
    /// The identity file does not read.
    #[error(
        "{}: the identity file of node {node} is damaged",
        path.display()
    )]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// The node.
        node: NodeId,
        /// What is wrong with it.
        source: FormatError,
    },
}

impl DirectoryError {
    /// The node, where what it once acknowledged is lost: only another one can take its place.
    pub fn lost_node(&self) -> Option<NodeId> {
        match self {
            Self::Gone { node, .. } | Self::NoLog { node, .. } | Self::Damaged { node, .. } => {
                Some(*node)
            }
            _ => None,
        }
    }
}

/// What makes a directory new.
pub struct Ticket<'a> {
    /// The ticket file.
    pub path: &'a Path,
    /// The incarnation that the first members were told.
    pub incarnation: u64,
}

/// A data directory, locked for this process.
#[derive(Debug)]
pub struct Directory {
    /// Whose it is.
    pub identity: Identity,
    /// Held open: the lock goes with it.
    _lock: fs::File,
}

/// Opens a data directory or, with a ticket, creates it.
pub fn open(
    disk: &dyn Disk,
    path: &Path,
    cluster_id: &str,
    node: NodeId,
    ticket: Option<&Ticket<'_>>,
) -> Result<Directory, DirectoryError> {
    let usable = ticket.filter(|ticket| disk.exists(ticket.path).is_ok_and(|exists| exists));
    if !disk.exists(path).map_err(failed(path))? {
        if usable.is_none() {
            return Err(DirectoryError::Gone { path: path.to_owned(), node });
        }
        disk.create_dir_all(path).map_err(failed(path))?;
    }
    check_owner_and_mode(path)?;
    let lock = take_lock(path)?;
    let file = path.join(IDENTITY);
    let identity = if disk.exists(&file).map_err(failed(&file))? {
        read_identity(&file, node)?
    } else {
        create(disk, path, cluster_id, node, usable)?
    };
    if identity.cluster_id != cluster_id || identity.node != node {
        return Err(DirectoryError::Foreign {
            path: path.to_owned(),
            found: identity,
            node,
            cluster_id: cluster_id.to_owned(),
        });
    }
    if let Some(ticket) = ticket.filter(|ticket| ticket.incarnation != identity.incarnation) {
        return Err(DirectoryError::Incarnation {
            path: path.to_owned(),
            found: identity.incarnation,
            expected: ticket.incarnation,
        });
    }
    // The log is made before the state: a state alone has lost its votes.
    let exists = |name: &str| disk.exists(&path.join(name)).map_err(failed(path));
    if exists(STATE)? && !exists(LOG)? {
        return Err(DirectoryError::NoLog { path: path.to_owned(), node });
    }
    if let Some(ticket) = usable {
        // The identity is durable: from here on a missing directory is a lost one.
        disk.remove_file(ticket.path).map_err(failed(ticket.path))?;
        if let Some(parent) = ticket.path.parent() {
            disk.sync_dir(parent).map_err(failed(parent))?;
        }
    }
    Ok(Directory { identity, _lock: lock })
}

/// Opens the data directory of a node that does not run, whosever it is.
pub(crate) fn open_stopped(disk: &dyn Disk, path: &Path) -> Result<Directory, DirectoryError> {
    let file = path.join(IDENTITY);
    if !disk.exists(&file).map_err(failed(&file))? {
        return Err(DirectoryError::NotOurs { path: path.to_owned() });
    }
    check_owner_and_mode(path)?;
    let lock = take_lock(path)?;
    let identity = read_identity(&file, 0)?;
    if !disk.exists(&path.join(LOG)).map_err(failed(path))? {
        return Err(DirectoryError::NoLog { path: path.to_owned(), node: identity.node });
    }
    Ok(Directory { identity, _lock: lock })
}

/// Says whose a directory is that was made otherwise than by a node's first start.
pub(crate) fn write_identity(
    disk: &dyn Disk,
    path: &Path,
    identity: &Identity,
) -> Result<(), DirectoryError> {
    let bytes = format::encode(Kind::Directory, IDENTITY_VERSION, identity);
    let file = path.join(IDENTITY);
    replace_file(disk, &file, &bytes).map_err(failed(&file))
}

/// Makes an empty directory a node's own.
fn create(
    disk: &dyn Disk,
    path: &Path,
    cluster_id: &str,
    node: NodeId,
    ticket: Option<&Ticket<'_>>,
) -> Result<Identity, DirectoryError> {
    let leftovers = disk.list(path).map_err(failed(path))?;
    if !leftovers.iter().all(|name| is_no_data(name)) {
        return Err(DirectoryError::NotOurs { path: path.to_owned() });
    }
    let Some(ticket) = ticket else {
        return Err(DirectoryError::Gone { path: path.to_owned(), node });
    };
    let identity =
        Identity { cluster_id: cluster_id.to_owned(), node, incarnation: ticket.incarnation };
    let bytes = format::encode(Kind::Directory, IDENTITY_VERSION, &identity);
    let file = path.join(IDENTITY);
    replace_file(disk, &file, &bytes).map_err(failed(&file))?;
    if let Some(parent) = path.parent() {
        disk.sync_dir(parent).map_err(failed(parent))?;
    }
    Ok(identity)
}

/// Whether what has that name in a data directory is no data of a node that could start there:
/// traces of an attempt, what a file system keeps at its root, and what was put aside where the
/// directory itself could not be moved ([`PUT_ASIDE`]).
pub(crate) fn is_no_data(name: &str) -> bool {
    name == LOCK
        || name.strip_prefix(IDENTITY) == Some(".tmp")
        || name == "lost+found"
        || name.starts_with(PUT_ASIDE)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError + use<> {
    let path = path.to_owned();
    move |error| DirectoryError::Io { path, reason: io_reason(&error) }
}

fn check_owner_and_mode(path: &Path) -> Result<(), DirectoryError> {
    let metadata = fs::metadata(path)
        .map_err(|error| DirectoryError::Io { path: path.into(), reason: io_reason(&error) })?;
    if !metadata.is_dir() {
        return Err(DirectoryError::NotOurs { path: path.to_owned() });
    }
    let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        return Err(DirectoryError::Owner { path: path.to_owned(), owner, me });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(DirectoryError::Permissions { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Takes an advisory lock that the system releases when the process ends, however it ends.
pub(crate) fn take_lock(dir: &Path) -> Result<fs::File, DirectoryError> {
    let path = dir.join(LOCK);
    let io =
        |error: io::Error| DirectoryError::Io { path: path.clone(), reason: io_reason(&error) };
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DirectoryError::InUse { path: dir.to_owned() }),
        Err(errno) => Err(io(errno.into())),
    }
}

fn read_identity(file: &Path, node: NodeId) -> Result<Identity, DirectoryError> {
    let bytes = fs::read(file)
        .map_err(|error| DirectoryError::Io { path: file.into(), reason: io_reason(&error) })?;
    format::decode(Kind::Directory, IDENTITY_VERSION, &bytes)
        .map_err(|source| DirectoryError::Damaged { path: file.to_owned(), node, source })
}

/// How the names of directories begin that hold what a lost node left.
pub(crate) const PUT_ASIDE: &str = "lost-";
const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const IDENTITY_VERSION: u8 = 1;
/// Made by `raft`, in this order.
const LOG: &str = "log";
const STATE: &str = "state";

#[cfg(test)]
mod tests {
    use super::*;
    use storage::seam::RealDisk;

    struct Place {
        root: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { root: tempfile::tempdir().unwrap() };
            fs::write(place.ticket(), "").unwrap();
            place
        }

        fn data(&self) -> PathBuf {
            self.root.path().join("data")
        }

        fn ticket(&self) -> PathBuf {
            self.root.path().join("ticket")
        }

        fn open(&self, cluster: &str, node: u64, incarnation: u64) -> Result<Directory, String> {
            let path = self.ticket();
            let ticket = Ticket { path: &path, incarnation };
            open(&RealDisk, &self.data(), cluster, node, Some(&ticket))
                .map_err(|error| error.to_string())
        }
    }

    #[track_caller]
    fn refused(result: Result<Directory, String>, with: &str) {
        let error = result.unwrap_err();
        assert!(error.contains(with), "`{error}` does not say `{with}`");
        assert!(!error.contains('\n'), "more than one line: {error}");
    }

    #[test]
    fn a_directory_is_made_once_and_then_recognised() {
        let place = Place::new();
        let first = place.open("lh-a", 1, 7).unwrap();
        assert_eq!(first.identity.incarnation, 7);
        assert!(!place.ticket().exists(), "the ticket is used up");
        refused(place.open("lh-a", 1, 7), "another process");
        drop(first);
        refused(place.open("lh-b", 1, 7), "belongs to node 1 of cluster lh-a");
        refused(place.open("lh-a", 2, 7), "configuration says node 2");
        refused(place.open("lh-a", 1, 8), "incarnation");
        place.open("lh-a", 1, 7).unwrap();
        fs::remove_dir_all(place.data()).unwrap();
        refused(place.open("lh-a", 1, 7), "the data of node 1 is gone");
    }

    #[test]
    fn a_crash_before_the_ticket_is_removed_is_made_good() {
        let place = Place::new();
        drop(place.open("lh-a", 1, 7).unwrap());
        fs::write(place.ticket(), "").unwrap();
        drop(place.open("lh-a", 1, 7).unwrap());
        assert!(!place.ticket().exists());
    }

    #[test]
    fn a_state_without_its_log_is_refused() {
        let place = Place::new();
        drop(place.open("lh-a", 1, 7).unwrap());
        RealDisk.create_dir_all(&place.data().join(STATE)).unwrap();
        refused(place.open("lh-a", 1, 7), "the log is gone");
        RealDisk.create_dir_all(&place.data().join(LOG)).unwrap();
        place.open("lh-a", 1, 7).unwrap();
    }

    #[test]
    fn strange_directories_are_refused() {
        let place = Place::new();
        RealDisk.create_dir_all(&place.data()).unwrap();
        fs::write(place.data().join("homework.txt"), "").unwrap();
        refused(place.open("lh-a", 1, 7), "not a data directory");
        fs::remove_file(place.data().join("homework.txt")).unwrap();
        RealDisk.create_dir_all(&place.data().join("lost+found")).unwrap();
        RealDisk.create_dir_all(&place.data().join("lost-1-1")).unwrap();
        fs::set_permissions(place.data(), fs::Permissions::from_mode(0o755)).unwrap();
        refused(place.open("lh-a", 1, 7), "chmod 700");
        fs::set_permissions(place.data(), fs::Permissions::from_mode(0o700)).unwrap();
        drop(place.open("lh-a", 1, 7).unwrap());
        let identity = place.data().join(IDENTITY);
        let mut bytes = fs::read(&identity).unwrap();
        bytes[14] ^= 1;
        fs::write(&identity, bytes).unwrap();
        refused(place.open("lh-a", 1, 7), "identity file of node 1 is damaged");
    }

    #[test]
    fn the_identity_keeps_its_bytes() {
        let identity = Identity { cluster_id: "lh-a".to_owned(), node: 3, incarnation: 1 << 40 };
        let bytes = format::encode(Kind::Directory, 1, &identity);
        let golden = "4c4808010f000000894d8cbb046c682d6103fd0000000000010000";
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), golden);
    }
}
