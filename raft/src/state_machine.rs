//! openraft's state machine over the replica: its snapshot is our checkpoint.
//!
//! A snapshot is a handle to the store's current generation; nothing is copied until it is
//! streamed. One that arrives is in a file of the store and becomes a new generation.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{OptionalSend, Snapshot};
use storage::state::{Incoming, SnapshotHandle};

use crate::replica::Replica;
use crate::status::Position;
use crate::types::{
    CommittedLeaderId, LogId, SnapshotMeta, StoredMembership, TypeConfig, decode_membership,
    log_id_of, position_of, storage_failure,
};
use crate::workers::Workers;

/// A snapshot on its way out or in.
pub(crate) enum SnapshotFile {
    /// A checkpoint of this node.
    Held(SnapshotHandle),
    /// Received from a peer, whole but not yet verified.
    Received(Incoming),
}

pub(crate) type RaftSnapshot = Snapshot<CommittedLeaderId, u64, openraft::BasicNode, SnapshotFile>;

/// The adapter; a clone is of the same replica.
#[derive(Clone)]
pub(crate) struct StateMachine {
    replica: Arc<Replica>,
    workers: Workers,
}

impl StateMachine {
    pub(crate) fn new(replica: Arc<Replica>, workers: Workers) -> Self {
        Self { replica, workers }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.workers.run(work).await.map_err(storage_failure)?
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let machine = self.replica.machine.read();
        Ok((machine.applied.map(log_id_of), machine.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let applied = self.replica.apply(&entry).map_err(storage_failure)?;
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let replica = Arc::clone(&self.replica);
        let (workers, pausing) = (self.workers.clone(), self.workers.clone());
        let install = move || {
            let incoming = match snapshot {
                SnapshotFile::Received(incoming) => incoming,
                SnapshotFile::Held(handle) => copy(&replica, &handle)?,
            };
            replica.install(incoming, &|| pausing.pause()).map_err(storage_failure)
        };
        self.blocking(move || workers.run_behind(install)).await?;
        let installed = self.replica.checkpointed();
        if installed == meta.last_log_id.as_ref().map(position_of) {
            return Ok(());
        }
        let promised = meta.last_log_id.as_ref().map(position_of);
        Err(storage_failure(format!(
            "a snapshot of {promised:?} turned out to be of {installed:?}"
        )))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, io::Error> {
        let replica = Arc::clone(&self.replica);
        self.blocking(move || current(&replica)).await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, io::Error> {
        let replica = Arc::clone(&self.replica);
        self.blocking(move || {
            replica.checkpoint().map_err(storage_failure)?;
            let built = current(&replica)?;
            built.ok_or_else(|| storage_failure("there is nothing to make a snapshot of"))
        })
        .await
    }
}

fn current(replica: &Replica) -> io::Result<Option<RaftSnapshot>> {
    if replica.store.meta().is_none() {
        return Ok(None);
    }
    let handle = replica.store.snapshot();
    let meta = handle.meta();
    let position = meta.applied.map(|it| Position { term: it.term, index: it.index });
    let meta = SnapshotMeta {
        last_log_id: position.map(log_id_of),
        last_membership: decode_membership(&meta.membership).map_err(storage_failure)?,
    };
    Ok(Some(RaftSnapshot { meta, snapshot: SnapshotFile::Held(handle) }))
}

/// Streams a handle into a file of our own store, as if it had come from a peer.
fn copy(replica: &Replica, handle: &SnapshotHandle) -> io::Result<Incoming> {
    let mut incoming = replica.store.receive().map_err(storage_failure)?;
    for chunk in handle.chunks().map_err(storage_failure)? {
        incoming.write(&chunk.map_err(storage_failure)?)?;
    }
    Ok(incoming)
}
