//! The seam under the state store: a sorted map of bytes in a directory.
//!
//! sled opens its own files, so a simulator cannot reach into it; another engine over `Disk` can
//! take its place behind these two traits. The store asks little: ordered keys, batches that need
//! not be atomic (the redo file makes them so), and one call that makes all before it durable.
//!
//! What it leaves to others: what keys and values mean, checksums of values, and everything about
//! which directory is current (`generation`).

use std::io;
use std::path::Path;

/// Opens directories of rows.
pub(crate) trait RowEngines: Send + Sync {
    /// Opens the rows in `dir`, which is made if it does not exist. All that was durable is there,
    /// and what is there is durable, except for the name of `dir` itself.
    fn open(&self, dir: &Path) -> Result<Box<dyn RowEngine>, EngineError>;
}

/// One open directory of rows.
pub(crate) trait RowEngine: Send + Sync {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Rows with keys from `from` (above it when `after`), in order: up to [`PAGE_ROWS`] or a
    /// little over [`PAGE_BYTES`]. Fewer, or none, only when there are no more.
    fn page(&self, from: &[u8], after: bool) -> Result<EnginePage, EngineError>;

    /// Puts (`Some`) and deletes (`None`). May be cut short by a crash, in any way; what earlier
    /// calls of [`RowEngine::sync`] made durable stays.
    fn apply(&self, batch: &[Change]) -> Result<(), EngineError>;

    /// Makes all batches so far durable.
    fn sync(&self) -> Result<(), EngineError>;

    /// Bytes of changes that may be unsynced in a generation whose older rows must survive a power
    /// cut at any moment.
    fn sync_every_bytes(&self) -> usize;

    /// Gives memory back that pages take beyond the bound of the cache: asked for when many rows
    /// were read or written.
    fn trim(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Bytes its files take.
    fn size_on_disk(&self) -> Result<u64, EngineError>;
}

/// A key and its new value; `None` deletes it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// Some rows in order of their keys.
pub(crate) struct EnginePage {
    /// Keys and values.
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there are no rows after these.
    pub(crate) last: bool,
}

/// Why an engine failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("the row engine's files failed")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

/// Rows of a page at most.
pub(crate) const PAGE_ROWS: usize = 1024;
/// A page ends once it holds this many bytes.
pub(crate) const PAGE_BYTES: usize = 256 * 1024;
