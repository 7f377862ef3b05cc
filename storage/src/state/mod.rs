//! The state store: rows of a ledger as of one log index, on disk, behind one redo file.
//!
//! The ledger in memory is what applies and answers; this is what it starts from. A *checkpoint*
//! brings the rows that changed since the last one, and either all of it is there after a crash or
//! none:
//!
//! ```text
//! rows ──► redo file: written, synced, renamed, directory synced   ◄── the checkpoint counts now
//!            └──► generation, 256 rows at a time, synced as it goes
//!                   └──► meta row, synced ──► redo file before this one removed, directory synced
//!
//! STATE/CURRENT             which generation is current                       `generation`
//! STATE/generation-NNN…/    rows in sled                                      `sled_engine`
//! STATE/redo-NNN…           the last checkpoint, and those not yet replayed   `redo`
//! STATE/incoming/           snapshots being received; emptied at each start   `incoming`
//! ```
//!
//! A start replays the redo files there are, in order. A snapshot pins the generation it reads: as
//! long as a handle is open, checkpoints stop at their redo file and reads see them through an
//! overlay in memory (`view`). A snapshot from elsewhere, or a rewrite that sheds dead space,
//! becomes a new generation and is current by one rename.
//!
//! Every row has a checksum, and the meta row the number and the sum of all rows, compared by
//! [`StateStore::load`]: the engine was seen to open damaged files with rows silently missing. It
//! was also seen to go back to an older checkpoint, whole, after one flipped bit: so the redo file
//! of the last checkpoint stays, and a generation that is further back than that is damage.
//!
//! All calls block on the disk; call them from a thread of their own. What this leaves to others:
//! what rows mean, when to checkpoint, and locking the directory against a second process.

mod checkpoint;
#[cfg(any(test, feature = "testing"))]
mod disk_engine;
mod engine;
mod error;
mod generation;
mod handle;
mod incoming;
mod install;
mod open;
mod redo;
mod sled_engine;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lease::sum::RowSum;
use parking_lot::Mutex;

pub use crate::snapshot::{Applied, CheckpointMeta, RowTotals};
pub use error::{CheckpointError, Damage, InstallError, LoadError, OpenError, ReadError};
pub use handle::{SnapshotChunks, SnapshotHandle};
pub use incoming::Incoming;

use crate::seam::{Clock, Disk};
use engine::RowEngines;
use error::{Attempt, Fault};
use generation::{Generation, Stored, row_key};
use handle::check_totals;
use view::{Cursor, View};

/// Where the store is and how much it may take.
#[derive(Debug, Clone)]
pub struct StateConfig {
    /// The store's own directory.
    pub dir: PathBuf,
    /// Bytes of pages kept in memory.
    pub cache_bytes: u64,
    /// Unit of the row engine's file in bytes: a power of two, fixed when a generation is made. A
    /// row may be an eightieth of it; 8 MiB suits rows of 64 KiB.
    pub segment_bytes: usize,
    /// A generation is rewritten only when it is larger than this, and three times its live data.
    pub compact_above_bytes: u64,
}

impl StateConfig {
    /// The defaults in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 64 << 20,
            segment_bytes: 8 << 20,
            compact_above_bytes: 64 << 20,
        }
    }
}

/// A row that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Table, from 1.
    pub table: u8,
    /// Key, at most [`MAX_KEY_BYTES`].
    pub key: Vec<u8>,
    /// New value, at most [`MAX_VALUE_BYTES`]; `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

/// Many small records in one row, such as audit events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Table, from 1.
    pub table: u8,
    /// Key, at most [`MAX_KEY_BYTES`].
    pub key: Vec<u8>,
    /// The records, at most [`MAX_BLOCK_BYTES`].
    pub value: Vec<u8>,
}

/// A row as it is read: key and value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// What a checkpoint cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Rows that were written or deleted; those that did not change are left out.
    pub rows: u64,
    /// Length of the redo file in bytes.
    pub redo_bytes: u64,
    /// Nanoseconds until the redo file was durable.
    pub redo_ns: u64,
    /// Nanoseconds of writing it into the generation; 0 when that waits for a snapshot's reader.
    pub replay_ns: u64,
    /// Checkpoints that wait for a snapshot's reader, with this one.
    pub waiting: usize,
    /// Bytes the current generation takes.
    pub size_on_disk: u64,
    /// Bytes of all keys and values.
    pub live_bytes: u64,
}

/// What [`StateStore::maintain`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Waiting checkpoints that were written into the generation.
    pub replayed: usize,
    /// Generations that were removed.
    pub removed: usize,
    /// Whether the current generation was rewritten.
    pub rewritten: bool,
}

/// The store. Clones are handles to one store.
#[derive(Clone)]
pub struct StateStore {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    engines: Box<dyn RowEngines>,
    config: StateConfig,
    /// Held by whoever changes the files; never while only reading.
    work: Mutex<()>,
    state: Mutex<State>,
    poisoned: AtomicBool,
    /// Numbers the files in `incoming`.
    received: Mutex<u64>,
}

/// What is current. `view.overlay` holds exactly the rows of the `waiting` checkpoints.
struct State {
    view: View,
    stored: Stored,
    waiting: Vec<u64>,
    /// The checkpoint that was replayed last, whose redo file is still there.
    kept: Option<u64>,
    retired: Vec<Arc<Generation>>,
}

impl StateStore {
    /// Opens the store in `config.dir`, or makes it; replays what a crash left unfinished and
    /// removes what it left over. Gives what the last checkpoint said, or `None` before the first.
    pub fn open(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: StateConfig,
    ) -> Result<(Self, Option<CheckpointMeta>), OpenError> {
        let engines = sled_engine::SledEngines {
            disk: Arc::clone(&disk),
            cache_bytes: config.cache_bytes,
            segment_bytes: config.segment_bytes,
        };
        Self::open_with(disk, clock, Box::new(engines), config)
    }

    /// The same with rows in a file of `disk` and in memory, for a simulated disk: sled opens its
    /// own files. A directory is opened the way it was made.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_over_disk(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        config: StateConfig,
    ) -> Result<(Self, Option<CheckpointMeta>), OpenError> {
        let engines = disk_engine::DiskEngines { disk: Arc::clone(&disk) };
        Self::open_with(disk, clock, Box::new(engines), config)
    }

    /// Makes the changed rows and `meta` the state after a crash from now on. Of two rows with the
    /// same key the later counts. When this returns, the log up to `meta.applied` is not needed.
    pub fn checkpoint(
        &self,
        meta: CheckpointMeta,
        rows: Vec<Row>,
        blocks: Vec<Block>,
    ) -> Result<CheckpointReport, CheckpointError> {
        let changes = checkpoint::changes(rows, blocks)?;
        let _work = self.inner.work.lock();
        self.refuse_when_poisoned()?;
        let report = self.write_checkpoint(meta, changes);
        self.poison_on_error(report)
    }

    /// The value of one row.
    pub fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let view = self.inner.state.lock().view.clone();
        Ok(view.get(&row_key(table, key))?)
    }

    /// Up to `limit` rows of a table in order of their keys, from `from` on, up to about 256 KiB.
    /// No rows means that there are no more.
    pub fn range(&self, table: u8, from: &[u8], limit: usize) -> Result<Vec<KeyValue>, ReadError> {
        let view = self.inner.state.lock().view.clone();
        let mut cursor = Cursor::at(row_key(table, from));
        loop {
            let page = view.page(&cursor, limit)?;
            let there_are_more = page.next.is_some();
            let rows_read = page.rows.len();
            let rows: Vec<KeyValue> = page
                .rows
                .into_iter()
                .take_while(|(key, _)| key[0] == table)
                .map(|(mut key, value)| (key.split_off(1), value))
                .collect();
            let past_the_table = rows.len() < rows_read;
            match page.next {
                Some(next) if rows.is_empty() && !past_the_table && there_are_more => {
                    cursor = next;
                }
                _ => return Ok(rows),
            }
        }
    }

    /// Gives every row to `receive` as (table, key, value, its sum), tables and keys ascending, and
    /// then checks that these were all the rows there should be, and no others.
    pub fn load<E>(
        &self,
        mut receive: impl FnMut(u8, &[u8], &[u8], &RowSum) -> Result<(), E>,
    ) -> Result<RowTotals, LoadError<E>> {
        let _work = self.inner.work.lock();
        let (view, expected) = {
            let state = self.inner.state.lock();
            (state.view.clone(), state.stored.totals)
        };
        let mut found = RowTotals::default();
        let mut cursor = Some(Cursor::start());
        while let Some(from) = cursor {
            let page = view.page(&from, usize::MAX).map_err(ReadError::from)?;
            for (full_key, value) in &page.rows {
                let (table, key) = (full_key[0], &full_key[1..]);
                let sum = RowSum::of(table, key, value);
                found.add_summed(&sum, key, value);
                receive(table, key, value, &sum)
                    .map_err(|source| LoadError::Row { table, source })?;
            }
            cursor = page.next;
        }
        check_totals(&view, found, expected).map_err(ReadError::from)?;
        Ok(found)
    }

    /// Pins the state of the last checkpoint. Waits for a running checkpoint.
    pub fn snapshot(&self) -> SnapshotHandle {
        let _work = self.inner.work.lock();
        let state = self.inner.state.lock();
        SnapshotHandle::new(state.view.clone(), state.stored.clone())
    }

    /// What the last checkpoint said; `None` before the first.
    pub fn meta(&self) -> Option<CheckpointMeta> {
        let state = self.inner.state.lock();
        (state.stored.number > 0).then(|| state.stored.meta.clone())
    }

    /// How many rows there are and their sum.
    pub fn totals(&self) -> RowTotals {
        self.inner.state.lock().stored.totals
    }

    /// Bytes the current generation takes on disk.
    pub fn size_on_disk(&self) -> Result<u64, ReadError> {
        let generation = Arc::clone(&self.inner.state.lock().view.generation);
        Ok(generation.size_on_disk()?)
    }

    /// Does what can wait: writes checkpoints into the generation that no snapshot reads any more,
    /// removes generations that nobody reads, rewrites the current one when most of it is dead
    /// (which takes seconds for a million rows). Call it after a handle was dropped, and now and
    /// then.
    ///
    /// A rewrite waits until it leaves `reserve_bytes` of the disk free: it may always come later,
    /// and a full disk in the middle of it would poison the store.
    pub fn maintain(&self, reserve_bytes: u64) -> Result<Maintenance, CheckpointError> {
        let _work = self.inner.work.lock();
        self.refuse_when_poisoned()?;
        let done = self.do_maintenance(reserve_bytes);
        self.poison_on_error(done)
    }

    /// Whether the disk has room for rows of so many bytes in a generation of their own, and for
    /// `reserve_bytes` beside it. A disk that cannot be asked is taken to have it.
    pub fn has_room_for(&self, row_bytes: u64, reserve_bytes: u64) -> bool {
        let free_bytes = self.inner.disk.free_bytes(&self.inner.config.dir).unwrap_or(u64::MAX);
        let needed = row_bytes.saturating_mul(GENERATION_PER_ROWS).saturating_add(reserve_bytes);
        free_bytes >= needed
    }

    fn do_maintenance(&self, reserve_bytes: u64) -> Result<Maintenance, Fault> {
        let replayed = self.replay()?;
        let mut removed = self.remove_retired()?;
        let rewritten =
            self.should_rewrite()? && self.has_room_for(self.totals().bytes, reserve_bytes);
        if rewritten {
            self.rewrite()?;
            removed += self.remove_retired()?;
        }
        Ok(Maintenance { replayed, removed, rewritten })
    }

    fn remove_retired(&self) -> Result<usize, Fault> {
        let inner = &self.inner;
        let mut unused = Vec::new();
        {
            let mut state = inner.state.lock();
            let (idle, used): (Vec<_>, Vec<_>) = std::mem::take(&mut state.retired)
                .into_iter()
                .partition(|generation| Arc::strong_count(generation) == 1);
            state.retired = used;
            unused.extend(idle);
        }
        let removed = unused.len();
        for generation in unused {
            let path = generation.path.clone();
            drop(generation);
            inner.disk.remove_dir_all(&path).attempt("remove an old generation")?;
        }
        if removed > 0 {
            inner.disk.sync_dir(&inner.config.dir).attempt("make a removal durable")?;
        }
        Ok(removed)
    }

    fn refuse_when_poisoned(&self) -> Result<(), CheckpointError> {
        if self.inner.poisoned.load(Ordering::Acquire) {
            return Err(CheckpointError::Poisoned);
        }
        Ok(())
    }

    fn poison_on_error<T>(&self, result: Result<T, Fault>) -> Result<T, CheckpointError> {
        if result.is_err() {
            self.inner.poisoned.store(true, Ordering::Release);
        }
        result.map_err(CheckpointError::from)
    }
}

/// Longest key in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value of a row in bytes: longer ones would leave the engine's one file.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Longest block in bytes.
pub const MAX_BLOCK_BYTES: usize = 32 * 1024;
/// What a new generation takes for each byte of its rows, at most: the engine's pages are filled by
/// half at least.
const GENERATION_PER_ROWS: u64 = 2;

#[cfg(test)]
mod tests;
