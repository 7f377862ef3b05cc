//! The state of a running node at one moment, held for whoever copies it.
//!
//! A backup is what openraft would send a lagging node: a checkpoint, pinned. What it leaves to
//! others: where the bytes go, and to let go of the handle soon (`storage::state`).

use std::sync::Arc;
use std::time::Duration;

use storage::state::SnapshotHandle;

use crate::cluster::{ChangeError, Cluster};
use crate::outcome::ReadError;

/// Why the state was not held.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The moment could not be agreed on.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The checkpoint was not written; the node stops.
    #[error(transparent)]
    Checkpoint(#[from] ChangeError),
    /// The thread that waited for a running checkpoint ended.
    #[error("the state could not be held: {0}")]
    Failed(String),
}

impl Cluster {
    /// Holds the state of a moment not before the call: it has everything that was answered
    /// anywhere until then. Writes a checkpoint first.
    ///
    /// # Errors
    /// Without a quorum within the deadline.
    pub async fn backup(&self, deadline: Duration) -> Result<SnapshotHandle, BackupError> {
        self.read_barrier(deadline).await?;
        self.local_backup().await
    }

    /// Holds what this node has applied, be it behind the others or not.
    ///
    /// # Errors
    /// When the checkpoint fails.
    pub async fn local_backup(&self) -> Result<SnapshotHandle, BackupError> {
        self.checkpoint_now().await?;
        let replica = Arc::clone(&self.replica());
        let held = self.workers().run(move || replica.store.snapshot()).await;
        held.map_err(|panicked| BackupError::Failed(panicked.to_string()))
    }
}
