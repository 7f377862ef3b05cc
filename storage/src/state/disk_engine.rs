//! Rows over a [`Disk`], for whoever decides what a disk does: an append-only file of batches, and
//! all rows in memory.
//!
//! ```text
//! GENERATION/rows    batches: length (u32), CRC32C of the rest (u32), changes
//!   change           key length (u16), key, 0 or 1, [value length (u32), value]
//! ```
//!
//! sled opens its own files, so a power cut of a simulated disk would not reach it. This engine has
//! the same contract and no more: what [`RowEngine::sync`] made durable stays, a batch that was cut
//! short is forgotten with all after it. The file only grows, so an older row never goes with a
//! newer one, and nothing has to be synced in between.
//!
//! What it leaves to others: speed, and files larger than memory. Nothing is served from it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::engine::{
    Change, EngineError, EnginePage, PAGE_BYTES, PAGE_ROWS, RowEngine, RowEngines,
};
use crate::seam::{Disk, DiskFile};

/// Opens directories of rows on one disk.
pub(crate) struct DiskEngines {
    pub(crate) disk: Arc<dyn Disk>,
}

struct DiskEngine {
    file: Box<dyn DiskFile>,
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    end: u64,
}

impl RowEngines for DiskEngines {
    fn open(&self, dir: &Path) -> Result<Box<dyn RowEngine>, EngineError> {
        let path = dir.join(ROWS_FILE);
        self.disk.create_dir_all(dir)?;
        if !self.disk.exists(&path)? {
            let file = self.disk.create(&path)?;
            file.sync_data()?;
            self.disk.sync_dir(dir)?;
            return Ok(Box::new(DiskEngine { file, rows: Mutex::default() }));
        }
        let file = self.disk.open(&path)?;
        let len = file.len()?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, 0)?;
        let mut rows = Rows::default();
        let mut rest = bytes.as_slice();
        while let Some((batch, after)) = whole_batch(rest) {
            rows.take(&read_changes(batch)?);
            rest = after;
        }
        rows.end = len - rest.len() as u64;
        // What was read must be durable, and what was cut short must not come back.
        file.set_len(rows.end)?;
        file.sync_data()?;
        self.disk.sync_dir(dir)?;
        Ok(Box::new(DiskEngine { file, rows: Mutex::new(rows) }))
    }
}

impl RowEngine for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.rows.lock().rows.get(key).cloned())
    }

    fn page(&self, from: &[u8], after: bool) -> Result<EnginePage, EngineError> {
        let start = if after { Bound::Excluded(from) } else { Bound::Included(from) };
        let stored = self.rows.lock();
        let mut page = EnginePage { rows: Vec::new(), last: false };
        let mut bytes = 0;
        let mut rows = stored.rows.range::<[u8], _>((start, Bound::Unbounded));
        while page.rows.len() < PAGE_ROWS && bytes < PAGE_BYTES {
            let Some((key, value)) = rows.next() else {
                page.last = true;
                break;
            };
            bytes += key.len() + value.len();
            page.rows.push((key.clone(), value.clone()));
        }
        Ok(page)
    }

    fn apply(&self, batch: &[Change]) -> Result<(), EngineError> {
        let mut rows = self.rows.lock();
        let bytes = batch_bytes(batch);
        self.file.write_all_at(&bytes, rows.end)?;
        rows.end += bytes.len() as u64;
        rows.take(batch);
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(self.file.sync_data()?)
    }

    fn sync_every_bytes(&self) -> usize {
        SYNC_EVERY_BYTES
    }

    fn size_on_disk(&self) -> Result<u64, EngineError> {
        Ok(self.rows.lock().end)
    }
}

impl Rows {
    fn take(&mut self, batch: &[Change]) {
        for (key, value) in batch {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
    }
}

fn batch_bytes(batch: &[Change]) -> Vec<u8> {
    let mut bytes = vec![0; BATCH_HEADER_BYTES];
    for (key, value) in batch {
        bytes.extend((key.len() as u16).to_le_bytes());
        bytes.extend(key);
        bytes.push(u8::from(value.is_some()));
        if let Some(value) = value {
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend(value);
        }
    }
    let len = (bytes.len() - BATCH_HEADER_BYTES) as u32;
    let sum = crc32c::crc32c(&bytes[BATCH_HEADER_BYTES..]);
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..BATCH_HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The first batch of these bytes and what follows it; `None` where it was cut short.
fn whole_batch(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes;
    let len = u32::from_le_bytes(take(&mut rest)?);
    let sum = u32::from_le_bytes(take(&mut rest)?);
    let batch = rest.get(..len as usize)?;
    (len > 0 && crc32c::crc32c(batch) == sum).then(|| (batch, &rest[len as usize..]))
}

fn read_changes(batch: &[u8]) -> Result<Vec<Change>, EngineError> {
    let cut = || EngineError::Io(io::ErrorKind::InvalidData.into());
    let mut rest = batch;
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let len = u16::from_le_bytes(take(&mut rest).ok_or_else(cut)?);
        let key = take_bytes(&mut rest, usize::from(len)).ok_or_else(cut)?;
        let [is_put] = take(&mut rest).ok_or_else(cut)?;
        let value = if is_put == 1 {
            let len = u32::from_le_bytes(take(&mut rest).ok_or_else(cut)?);
            Some(take_bytes(&mut rest, len as usize).ok_or_else(cut)?)
        } else {
            None
        };
        changes.push((key, value));
    }
    Ok(changes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

fn take_bytes(rest: &mut &[u8], len: usize) -> Option<Vec<u8>> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken.to_vec())
}

const ROWS_FILE: &str = "rows";
const BATCH_HEADER_BYTES: usize = 8;
/// Nothing here asks for it; the store still works in batches of this.
const SYNC_EVERY_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Loss, MemoryDisk};

    fn put(key: u8, value: &str) -> Change {
        (vec![key], Some(value.as_bytes().to_vec()))
    }

    fn open(disk: &MemoryDisk) -> Box<dyn RowEngine> {
        let engines = DiskEngines { disk: Arc::new(disk.clone()) };
        engines.open(Path::new("/state/generation-1")).unwrap()
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_be_cut_anywhere() {
        for seed in 0..200 {
            let disk = MemoryDisk::new();
            let engine = open(&disk);
            disk.sync_dir(Path::new("/state")).unwrap();
            disk.sync_dir(Path::new("/")).unwrap();
            engine.apply(&[put(1, "a"), put(2, "b")]).unwrap();
            engine.sync().unwrap();
            engine.apply(&[put(3, &"c".repeat(3_000)), (vec![1], None)]).unwrap();
            engine.apply(&[put(4, "d")]).unwrap();
            disk.power_cut(Loss::Random(seed));
            let engine = open(&disk);
            let page = engine.page(&[], false).unwrap();
            let keys: Vec<u8> = page.rows.iter().map(|(key, _)| key[0]).collect();
            let whole: [&[u8]; 3] = [&[1, 2], &[2, 3], &[2, 3, 4]];
            assert!(whole.contains(&keys.as_slice()), "{seed}: {keys:?}");
            // It goes on from there.
            engine.apply(&[put(9, "z")]).unwrap();
            engine.sync().unwrap();
            disk.power_cut(Loss::Everything);
            assert!(open(&disk).get(&[9]).unwrap().is_some(), "{seed}");
        }
    }
}
