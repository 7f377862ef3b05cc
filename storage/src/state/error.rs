//! Why the state store could not do what it was asked.
//!
//! Two causes run through all of them: the machine (`Io`) and the stored bytes (`Damaged`). Neither
//! is ever retried: after an I/O error the pages the kernel held may be gone, and damage does not
//! heal. The node stops, and a damaged one is replaced.

use std::io;
use std::path::{Path, PathBuf};

use lease::format::FormatError;

use super::engine::EngineError;
use crate::snapshot::SnapshotError;

/// Stored bytes that are not what was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored state in {path} is damaged: {what}", path = path.display())]
pub struct Damage {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl Damage {
    pub(crate) fn new(path: &Path, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into() }
    }
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory could not be read, written or made durable.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The node must be replaced.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The files are whole, but a newer build wrote them.
    #[error("{path} was written by a newer version of Leasehold: {what}", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What this build does not know.
        what: String,
    },
}

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The machine failed.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The node must be replaced.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Why not all rows were loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// They could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Whoever was given a row could not use it.
    #[error("a row of table {table} was refused")]
    Row {
        /// Table of the row.
        table: u8,
        /// The receiver's reason.
        source: E,
    },
}

/// Why a checkpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The machine failed. The store takes no further writes.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The node must be replaced.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A row is over a limit of the store; nothing was written.
    #[error("a row of table {table} has a key of {key_bytes} and a value of {value_bytes} bytes")]
    Row {
        /// Table of the row; table 0 is the store's own.
        table: u8,
        /// Length of its key.
        key_bytes: usize,
        /// Length of its value.
        value_bytes: usize,
    },
    /// A write failed before; what is on the disk since is not known.
    #[error("an earlier write failed, so the store takes no more")]
    Poisoned,
}

/// Why a snapshot did not become the state. The state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The snapshot is not whole, or a newer build wrote it.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A new generation could not be written.
    #[error(transparent)]
    Write(#[from] CheckpointError),
}

/// What goes wrong inside, before an operation gives it its own name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("could not {what}")]
    Io { what: &'static str, source: io::Error },
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("{what}")]
    Newer { path: PathBuf, what: String },
}

impl Fault {
    /// A frame that does not read: damage, unless it is whole and newer.
    pub(crate) fn format(path: &Path, error: &FormatError) -> Self {
        let what = error.to_string();
        match error {
            FormatError::Version { .. } => Self::Newer { path: path.to_owned(), what },
            _ => Damage::new(path, what).into(),
        }
    }

    pub(crate) fn engine(path: &Path, what: &'static str, error: EngineError) -> Self {
        match error {
            EngineError::Io(source) => Self::Io { what, source },
            EngineError::Damaged(damage) => Damage::new(path, damage).into(),
        }
    }
}

/// Names what was tried when I/O fails.
pub(crate) trait Attempt<T> {
    fn attempt(self, what: &'static str) -> Result<T, Fault>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, what: &'static str) -> Result<T, Fault> {
        self.map_err(|source| Fault::Io { what, source })
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io { what, source } => Self::Io { what, source },
            Fault::Damaged(damage) => Self::Damaged(damage),
            Fault::Newer { path, what } => Self::Newer { path, what },
        }
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io { what, source } => Self::Io { what, source },
            Fault::Damaged(damage) => Self::Damaged(damage),
            // What is open was readable when it was opened.
            Fault::Newer { path, what } => Self::Damaged(Damage { path, what }),
        }
    }
}

impl From<Fault> for CheckpointError {
    fn from(fault: Fault) -> Self {
        match ReadError::from(fault) {
            ReadError::Io { what, source } => Self::Io { what, source },
            ReadError::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

impl From<Fault> for InstallError {
    fn from(fault: Fault) -> Self {
        Self::Write(fault.into())
    }
}
