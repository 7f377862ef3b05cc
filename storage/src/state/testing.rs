//! Redo files by themselves, for whoever tests their reader with bytes of its own.
//!
//! Behind the feature `testing`, as the rest of what tests need from outside.

use std::path::Path;

use super::error::OpenError;
use super::generation::Stored;
use super::redo;
use super::view::Overlay;
use super::{CheckpointMeta, RowTotals};
use crate::seam::Disk;
use crate::testing::MemoryDisk;

/// A row's full key and its value; without one it is removed.
pub type RedoRow = (Vec<u8>, Option<Vec<u8>>);

/// The bytes of the redo file of checkpoint 1 with these rows.
///
/// # Errors
/// Never on a disk in memory.
pub fn redo_file(meta: &CheckpointMeta, rows: &[RedoRow]) -> Result<Vec<u8>, OpenError> {
    let disk = MemoryDisk::new();
    let dir = Path::new(DIR);
    let fault = |source| OpenError::Io { what: "write a redo file", source };
    disk.create_dir_all(dir).map_err(fault)?;
    let totals = RowTotals::default();
    let stored = Stored { number: NUMBER, meta: meta.clone(), totals, fresh_bytes: 0 };
    let rows: Overlay = rows.iter().cloned().collect();
    redo::write(&disk, dir, GENERATION, &stored, &rows).map_err(OpenError::from)?;
    disk.bytes(&redo::path(dir, NUMBER)).map_err(fault)
}

/// Reads the bytes of a redo file as an opening store does.
///
/// # Errors
/// Whatever is wrong with them.
pub fn read_redo_file(bytes: &[u8]) -> Result<(CheckpointMeta, Vec<RedoRow>), OpenError> {
    let disk = MemoryDisk::new();
    let dir = Path::new(DIR);
    disk.put(&redo::path(dir, NUMBER), bytes);
    let redo = redo::read(&disk, dir, NUMBER).map_err(OpenError::from)?;
    Ok((redo.stored.meta, redo.rows.into_iter().collect()))
}

const DIR: &str = "/state";
const NUMBER: u64 = 1;
const GENERATION: u64 = 1;
