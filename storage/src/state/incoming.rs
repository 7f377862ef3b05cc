//! A snapshot file while it is being received.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Attempt;
use super::{CheckpointError, StateStore};
use crate::seam::{Disk, DiskFile};

/// A snapshot that is being received into a file of the store's directory. The file goes with it.
pub struct Incoming {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    disk: Arc<dyn Disk>,
    len: u64,
    removed: bool,
}

impl StateStore {
    /// Begins to receive a snapshot.
    pub fn receive(&self) -> Result<Incoming, CheckpointError> {
        let inner = &self.inner;
        let dir = inner.config.dir.join(INCOMING_DIR);
        let number = {
            let mut received = inner.received.lock();
            *received += 1;
            *received
        };
        inner.disk.create_dir_all(&dir).attempt("make a directory for incoming snapshots")?;
        let path = dir.join(format!("snapshot-{number}"));
        let file = inner.disk.create(&path).attempt("make a file for an incoming snapshot")?;
        Ok(Incoming { path, file, disk: Arc::clone(&inner.disk), len: 0, removed: false })
    }
}

impl Incoming {
    /// Appends the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Bytes received so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte was received yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, and says whether that worked; dropping it does the same silently.
    pub fn discard(mut self) -> io::Result<()> {
        self.removed = true;
        self.disk.remove_file(&self.path)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        if let Err(error) = self.disk.remove_file(&self.path) {
            // The next start clears it away.
            tracing::warn!(path = %self.path.display(), %error, "could not remove a snapshot file");
        }
    }
}

/// The directory for snapshots that are being received.
pub(crate) const INCOMING_DIR: &str = "incoming";
