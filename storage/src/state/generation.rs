//! Generations: directories of rows of which one is current, and how rows get into them.
//!
//! ```text
//! STATE/CURRENT                 number of the current generation and of the checkpoint it was made
//!                               with, replaced by one rename
//! STATE/generation-NNN…/        a row engine's directory
//!   key  0                      the meta row: checkpoint number, its meta, totals
//!   key  table ++ row key       frame (kind `Row`) around the row's value
//! ```
//!
//! A generation is named in `CURRENT` only when it is whole and durable. One that is not named
//! there is a leftover of a crash and is removed by the next start. The meta row is written after
//! all rows of a checkpoint are durable, so a generation whose meta row says *n* holds all of
//! checkpoint *n*, and possibly some of *n* + 1, whose redo file is then there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lease::format::{self, Kind};
use serde::{Deserialize, Serialize};

use super::engine::{Change, RowEngine, RowEngines};
use super::error::{Attempt, Damage, Fault};
use crate::blob::{Blob, BlobRef};
use crate::seam::{Disk, replace_file};
use crate::snapshot::{CheckpointMeta, RowTotals};

/// What the meta row says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Number of the checkpoint, counted from 1; 0 before the first.
    pub(crate) number: u64,
    /// What the caller said about it.
    pub(crate) meta: CheckpointMeta,
    /// All rows after it.
    pub(crate) totals: RowTotals,
    /// Bytes on disk when the generation was written, as a measure of what a rewrite can save.
    pub(crate) fresh_bytes: u64,
}

/// Small records of the directory. Append-only: the order of variants is stored.
#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Current(Current),
    Checkpoint(Stored),
}

/// What `CURRENT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Current {
    /// Number of the current generation.
    pub(crate) generation: u64,
    /// The checkpoint it held when it became current; it never holds an older one.
    pub(crate) checkpoint: u64,
}

/// One open generation.
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) engine: Box<dyn RowEngine>,
    pins: AtomicUsize,
}

/// Keeps a generation from being written to or removed.
pub(crate) struct Pin(pub(crate) Arc<Generation>);

impl Generation {
    /// Opens the directory of generation `number`, or makes it.
    pub(crate) fn open(engines: &dyn RowEngines, dir: &Path, number: u64) -> Result<Self, Fault> {
        let path = path(dir, number);
        let engine = engines
            .open(&path)
            .map_err(|error| Fault::engine(&path, "open a generation", error))?;
        Ok(Self { number, path, engine, pins: AtomicUsize::new(0) })
    }

    /// The meta row; `None` in a generation that was never finished.
    pub(crate) fn stored(&self) -> Result<Option<Stored>, Fault> {
        let bytes = self
            .engine
            .get(META_KEY)
            .map_err(|error| Fault::engine(&self.path, "read the meta row", error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        match format::decode(Kind::Directory, VERSION, &bytes) {
            Ok(Record::Checkpoint(stored)) => Ok(Some(stored)),
            Ok(_) => Err(Damage::new(&self.path, "the meta row is another record").into()),
            Err(error) => Err(Fault::format(&self.path, &error)),
        }
    }

    /// Bytes its files take.
    pub(crate) fn size_on_disk(&self) -> Result<u64, Fault> {
        self.engine
            .size_on_disk()
            .map_err(|error| Fault::engine(&self.path, "measure a generation", error))
    }

    /// Whether somebody reads it and needs it unchanged.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }
}

impl Pin {
    pub(crate) fn new(generation: Arc<Generation>) -> Self {
        generation.pins.fetch_add(1, Ordering::AcqRel);
        Self(generation)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where generation `number` is.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:016}"))
}

/// The number in a directory name, when it is that of a generation.
pub(crate) fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// What `CURRENT` says; `None` when there is no such file.
pub(crate) fn current(disk: &dyn Disk, dir: &Path) -> Result<Option<Current>, Fault> {
    let path = dir.join(CURRENT_FILE);
    if !disk.exists(&path).attempt("look for CURRENT")? {
        return Ok(None);
    }
    let file = disk.open(&path).attempt("open CURRENT")?;
    let length = file.len().attempt("read CURRENT")?;
    if length > CURRENT_MAX_BYTES {
        return Err(Damage::new(&path, format!("it has {length} bytes")).into());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).attempt("read CURRENT")?;
    match format::decode(Kind::Directory, VERSION, &bytes) {
        Ok(Record::Current(current)) => Ok(Some(current)),
        Ok(_) => Err(Damage::new(&path, "it is another record").into()),
        Err(error) => Err(Fault::format(&path, &error)),
    }
}

/// Makes a generation the current one, durably and in one step.
pub(crate) fn set_current(disk: &dyn Disk, dir: &Path, current: Current) -> Result<(), Fault> {
    let bytes = format::encode(Kind::Directory, VERSION, &Record::Current(current));
    replace_file(disk, &dir.join(CURRENT_FILE), &bytes).attempt("replace CURRENT")
}

/// The store's key of a row.
pub(crate) fn row_key(table: u8, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(table);
    full.extend_from_slice(key);
    full
}

/// A row's value as it is stored.
pub(crate) fn seal(value: &[u8]) -> Vec<u8> {
    format::encode(Kind::Row, VERSION, &BlobRef(value))
}

/// A row's value from what is stored.
pub(crate) fn unseal(path: &Path, stored: &[u8]) -> Result<Vec<u8>, Fault> {
    match format::decode::<Blob>(Kind::Row, VERSION, stored) {
        Ok(value) => Ok(value.0),
        Err(error) => Err(Damage::new(path, format!("a row does not read: {error}")).into()),
    }
}

/// Writes rows into a generation in batches, and its meta row last.
pub(crate) struct RowWriter<'a> {
    generation: &'a Generation,
    syncing: bool,
    batch: Vec<Change>,
    batch_bytes: usize,
    unsynced_bytes: usize,
    /// Called after each batch.
    between: &'a dyn Fn(),
}

impl<'a> RowWriter<'a> {
    /// Into a generation that nothing depends on yet: what a crash leaves of it is thrown away.
    pub(crate) fn into_fresh(generation: &'a Generation) -> Self {
        Self {
            generation,
            syncing: false,
            batch: Vec::new(),
            batch_bytes: 0,
            unsynced_bytes: 0,
            between: &|| {},
        }
    }

    /// The same, with something to do after each batch.
    pub(crate) fn with_pauses(self, between: &'a dyn Fn()) -> Self {
        Self { between, ..self }
    }

    /// Into the current generation, whose older rows must survive a power cut at any moment: syncs
    /// as often as the engine asks for it.
    pub(crate) fn into_current(generation: &'a Generation) -> Self {
        Self { syncing: true, ..Self::into_fresh(generation) }
    }

    /// Writes or deletes one row by the store's key.
    pub(crate) fn push(&mut self, key: Vec<u8>, value: Option<&[u8]>) -> Result<(), Fault> {
        let bytes = match value {
            Some(value) => value.len(),
            None if self.syncing => self.stored_bytes(&key)?,
            None => 0,
        };
        self.batch_bytes += key.len() + bytes + ROW_COST_BYTES;
        self.batch.push((key, value.map(seal)));
        let batch_max_bytes = self.generation.engine.sync_every_bytes();
        if self.batch.len() >= BATCH_ROWS || self.batch_bytes >= batch_max_bytes {
            self.apply()?;
        }
        Ok(())
    }

    /// Makes the rows durable, then the meta row, then that durable.
    pub(crate) fn finish(mut self, stored: &mut Stored) -> Result<(), Fault> {
        self.apply()?;
        self.sync()?;
        if !self.syncing {
            stored.fresh_bytes = self.generation.size_on_disk()?;
        }
        let record = Record::Checkpoint(stored.clone());
        let value = format::encode(Kind::Directory, VERSION, &record);
        self.batch.push((META_KEY.to_vec(), Some(value)));
        self.apply()?;
        self.sync()?;
        let generation = self.generation;
        let trimmed = generation.engine.trim();
        trimmed.map_err(|error| Fault::engine(&generation.path, "give memory back", error))
    }

    fn apply(&mut self) -> Result<(), Fault> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let generation = self.generation;
        generation
            .engine
            .apply(&self.batch)
            .map_err(|error| Fault::engine(&generation.path, "write rows", error))?;
        self.batch.clear();
        (self.between)();
        self.unsynced_bytes += std::mem::take(&mut self.batch_bytes);
        if self.syncing && self.unsynced_bytes >= generation.engine.sync_every_bytes() {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.unsynced_bytes = 0;
        let generation = self.generation;
        generation
            .engine
            .sync()
            .map_err(|error| Fault::engine(&generation.path, "make rows durable", error))
    }

    fn stored_bytes(&self, key: &[u8]) -> Result<usize, Fault> {
        let old = self
            .generation
            .engine
            .get(key)
            .map_err(|error| Fault::engine(&self.generation.path, "read a row", error))?;
        Ok(old.map_or(0, |old| old.len()))
    }
}

const PREFIX: &str = "generation-";
/// Name of the file that names the current generation.
pub(crate) const CURRENT_FILE: &str = "CURRENT";
const CURRENT_MAX_BYTES: u64 = 64;
/// Key of the meta row: table 0 is the store's own.
const META_KEY: &[u8] = &[0];
/// Version of the frames of kinds `Directory` and `Row` in this module.
const VERSION: u8 = 1;
/// Rows given to the engine at a time; larger batches cost it far more space and time.
const BATCH_ROWS: usize = 256;
/// What a change costs the engine beyond its own bytes: its share of rewriting the page it is in.
const ROW_COST_BYTES: usize = 1024;
