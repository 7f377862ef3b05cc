//! What can go wrong with the log, by when: [`OpenError`] at the start, [`LogError`] after it.
//!
//! `LogError` is cheap to clone, because one failed write answers every operation that waits and
//! every one that comes later.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an operation on an open log was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk refused. The log is poisoned: nothing is retried, since after a failed
    /// `fdatasync` the kernel may have dropped the bytes and will not say so again.
    #[error("the log could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Bytes that were acknowledged do not read back as they were written.
    #[error("the log is damaged in segment {segment} at byte {offset}: {what}")]
    Damaged {
        /// Segment number.
        segment: u64,
        /// Byte in the segment's file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log was closed before this operation came.
    #[error("the log is closed")]
    Closed,
    /// The writer ended without saying why: a bug, reported by the panic of its thread.
    #[error("the log's writer has ended")]
    WriterEnded,
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }
}

/// Why a log does not open. None of these is cured by trying again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("the log could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Something that was acknowledged is missing or changed. The member must be replaced: a log
    /// that is silently shorter would let it vote as if it had never promised anything.
    #[error("the log is damaged in segment {segment} at byte {offset}: {what}")]
    Damaged {
        /// Segment number; the one expected when it is missing.
        segment: u64,
        /// Byte in the segment's file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A later release wrote this log.
    #[error("log segment {segment} has format version {found}, this build reads up to {known}")]
    Version {
        /// Segment number.
        segment: u64,
        /// Version found.
        found: u32,
        /// Newest version this build reads.
        known: u32,
    },
    /// The configuration cannot work.
    #[error("the log's {name} of {value} is outside {least} to {most}")]
    Config {
        /// Name of the setting.
        name: &'static str,
        /// Value given.
        value: u64,
        /// Least value allowed.
        least: u64,
        /// Greatest value allowed.
        most: u64,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: Arc::new(source) }
    }

    pub(crate) fn damaged(segment: u64, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { segment, offset, what: what.into() }
    }
}

impl From<LogError> for OpenError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Io { action, path, source } => Self::Io { action, path, source },
            LogError::Damaged { segment, offset, what } => Self::Damaged { segment, offset, what },
            LogError::Closed | LogError::WriterEnded => Self::Io {
                action: "start the threads of",
                path: PathBuf::new(),
                source: Arc::new(io::Error::other(error.to_string())),
            },
        }
    }
}
