//! Rows in sled 0.34.7, the one place that names it, with what it lacks in durability added.
//!
//! ```text
//! GENERATION/db            the log-structured pages          fdatasync by us, through our handle
//! GENERATION/conf          segment size, written once        fdatasync by us
//! GENERATION/snap.X        page table, written at open       fsync by sled, its name by us
//! GENERATION/blobs/        pages over a quarter segment      must stay empty: sled never syncs it
//! ```
//!
//! sled makes its files with the process's umask; that others cannot read them rests on the mode of
//! the directory, 0700.
//!
//! What was measured, and what follows from it:
//!
//! * `flush` ends in `sync_file_range`, which survives a killed process and not a power cut; so
//!   every [`RowEngine::sync`] is `flush` and then `fdatasync` of `db`.
//! * Opening writes and syncs a `snap` file about pages that may still be unsynced after a killed
//!   process; a power cut right then leaves the one without the other. So `db` is synced before
//!   sled sees it.
//! * A page holds at most 17 rows before it splits; with values of 64 KiB that is below a quarter
//!   of the 8 MiB segment, so none goes to `blobs/`. A file there is an error all the same.
//! * Damaged files make sled panic as well as fail; every call is inside `catch_unwind`.
//! * sled reuses a freed segment without asking whether the pages that were moved out of it are
//!   durable, so a power cut between two syncs could take old rows with it. The store therefore
//!   syncs so often ([`RowEngine::sync_every_bytes`]) that they are.
//! * The bound of the cache holds for each of 256 shards, by number of page, and a shard looks at
//!   it only after 64 accesses: up to 16,384 pages stay whatever the bound, some 200 MB. So after
//!   much reading or writing, pages in most shards are read that often ([`SledEngine::trim`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{io, ops};

use parking_lot::Mutex;

use super::engine::{
    Change, EngineError, EnginePage, PAGE_BYTES, PAGE_ROWS, RowEngine, RowEngines,
};
use crate::seam::{Disk, DiskFile};

/// Opens sled databases.
pub(crate) struct SledEngines {
    pub(crate) disk: Arc<dyn Disk>,
    /// Bytes of pages that sled may keep in memory.
    pub(crate) cache_bytes: u64,
    /// Segment size in bytes, a power of two; fixed when the directory is made.
    pub(crate) segment_bytes: usize,
}

struct SledEngine {
    tree: sled::Db,
    disk: Arc<dyn Disk>,
    database: Box<dyn DiskFile>,
    blobs: PathBuf,
    sync_every_bytes: usize,
    cache_bytes: u64,
    passed: Mutex<Passed>,
}

/// Rows that were read or written.
struct Passed {
    /// Since the last trim.
    rows: usize,
    /// Until a key is kept.
    skip: usize,
    /// From one kept key to the next.
    step: usize,
    /// Keys all over the tree: pages of most shards.
    keys: Vec<Vec<u8>>,
}

impl Default for Passed {
    fn default() -> Self {
        Self { rows: 0, skip: 0, step: FIRST_STEP, keys: Vec::new() }
    }
}

impl Passed {
    fn note<'a>(&mut self, keys: impl Iterator<Item = &'a Vec<u8>>) {
        for key in keys {
            self.rows += 1;
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            if self.keys.len() == MAX_KEYS {
                let mut place = 0;
                self.keys.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.step *= 2;
            }
            self.keys.push(key.clone());
            self.skip = self.step;
        }
    }
}

impl RowEngines for SledEngines {
    fn open(&self, dir: &Path) -> Result<Box<dyn RowEngine>, EngineError> {
        let disk = &self.disk;
        let (database, blobs) = (dir.join(DATABASE_FILE), dir.join(BLOBS_DIR));
        disk.create_dir_all(dir)?;
        if disk.exists(&database)? {
            disk.open(&database)?.sync_data()?;
        }
        refuse_blobs(disk.as_ref(), &blobs)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(self.cache_bytes)
            .segment_size(self.segment_bytes)
            .flush_every_ms(None)
            .use_compression(false);
        let tree = open_tree(&config)?;
        let database = disk.open(&database)?;
        database.sync_data()?;
        disk.open(&dir.join(CONFIG_FILE))?.sync_data()?;
        disk.sync_dir(&blobs)?;
        disk.sync_dir(dir)?;
        let sync_every_bytes = self.segment_bytes / UNSYNCED_FRACTION;
        let (disk, cache_bytes) = (Arc::clone(disk), self.cache_bytes);
        let passed = Mutex::default();
        let engine =
            SledEngine { tree, disk, database, blobs, sync_every_bytes, cache_bytes, passed };
        Ok(Box::new(engine))
    }
}

impl RowEngine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let value = guarded(|| self.tree.get(key))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn page(&self, from: &[u8], after: bool) -> Result<EnginePage, EngineError> {
        let start = if after { ops::Bound::Excluded(from) } else { ops::Bound::Included(from) };
        let page = guarded(|| {
            let mut page = EnginePage { rows: Vec::new(), last: false };
            let mut bytes = 0;
            let mut rows = self.tree.range::<&[u8], _>((start, ops::Bound::Unbounded));
            while page.rows.len() < PAGE_ROWS && bytes < PAGE_BYTES {
                let Some(row) = rows.next() else {
                    page.last = true;
                    break;
                };
                let (key, value) = row?;
                bytes += key.len() + value.len();
                page.rows.push((key.to_vec(), value.to_vec()));
            }
            Ok(page)
        })?;
        self.passed.lock().note(page.rows.iter().map(|(key, _)| key));
        if page.last {
            self.trim()?;
        }
        Ok(page)
    }

    fn apply(&self, batch: &[Change]) -> Result<(), EngineError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key.as_slice(), value.as_slice()),
                None => changes.remove(key.as_slice()),
            }
        }
        self.passed.lock().note(batch.iter().map(|(key, _)| key));
        guarded(|| self.tree.apply_batch(changes))
    }

    fn sync(&self) -> Result<(), EngineError> {
        guarded(|| self.tree.flush())?;
        refuse_blobs(self.disk.as_ref(), &self.blobs)?;
        self.database.sync_data()?;
        Ok(())
    }

    fn sync_every_bytes(&self) -> usize {
        self.sync_every_bytes
    }

    fn trim(&self) -> Result<(), EngineError> {
        let mut passed = self.passed.lock();
        if passed.rows < TRIMMED_AFTER_ROWS || self.database.len()? <= self.cache_bytes {
            return Ok(());
        }
        passed.rows = 0;
        guarded(|| {
            for key in &passed.keys {
                for _ in 0..ACCESSES_TO_EVICT {
                    self.tree.get(key)?;
                }
            }
            Ok(())
        })
    }

    fn size_on_disk(&self) -> Result<u64, EngineError> {
        Ok(self.database.len()?)
    }
}

/// Opens the database. When this process has just closed it, a thread of sled's pool may hold its
/// lock a little longer, and nothing tells when it lets go; so a locked file is tried again.
fn open_tree(config: &sled::Config) -> Result<sled::Db, EngineError> {
    let mut tries = 1;
    loop {
        match guarded(|| config.open()) {
            Err(EngineError::Io(error))
                if tries < LOCK_TRIES && error.to_string().contains(LOCKED) =>
            {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Calls sled; a panic inside it is damage, not the end of the process.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(EngineError::Io(error))
        }
        Ok(Err(error)) => Err(EngineError::Damaged(error.to_string())),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(EngineError::Damaged(format!("sled panicked: {text}")))
        }
    }
}

fn refuse_blobs(disk: &dyn Disk, blobs: &Path) -> Result<(), EngineError> {
    if disk.exists(blobs)? && !disk.list(blobs)?.is_empty() {
        return Err(EngineError::Damaged("`blobs` is not empty: a page was too large".to_owned()));
    }
    Ok(())
}

/// A freed segment is reused at the earliest when another whole segment was written after the one
/// its pages moved to. Rewriting pages makes a few bytes of a byte changed; an eighth of a segment
/// leaves room for that.
const UNSYNCED_FRACTION: usize = 8;
/// Rows read or written after which a trim, some 50 ms, is worth its work: their pages take up to
/// some 50 MB.
const TRIMMED_AFTER_ROWS: usize = 128 << 10;
/// Accesses after which a shard evicts.
const ACCESSES_TO_EVICT: usize = 65;
/// Kept keys: they miss an eighth of 256 shards.
const MAX_KEYS: usize = 512;
/// Some two to a page.
const FIRST_STEP: usize = 16;
/// What sled says of a file that is locked.
const LOCKED: &str = "could not acquire lock";
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Two seconds in all.
const LOCK_TRIES: u32 = 400;
const DATABASE_FILE: &str = "db";
const CONFIG_FILE: &str = "conf";
const BLOBS_DIR: &str = "blobs";

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever their number, keys are kept from all over the rows.
    #[test]
    fn kept_keys_are_spread_over_the_rows() {
        for rows in [1_usize, 100, 20_000, 300_000] {
            let all: Vec<Vec<u8>> = (0..rows).map(|row| row.to_be_bytes().to_vec()).collect();
            let mut passed = Passed::default();
            all.chunks(256).for_each(|chunk| passed.note(chunk.iter()));
            assert_eq!(passed.rows, rows);
            assert!(passed.keys.len() <= MAX_KEYS);
            let bounds = [all[rows - 1].clone()];
            let mut before = &all[0];
            for key in passed.keys.iter().chain(&bounds) {
                let [before_row, row] = [before, key]
                    .map(|key| usize::from_be_bytes(key.as_slice().try_into().unwrap()));
                assert!(row - before_row <= (FIRST_STEP + 1).max(rows * 4 / MAX_KEYS), "{rows}");
                before = key;
            }
        }
    }
}
