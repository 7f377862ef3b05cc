//! A snapshot of the state as it was when the handle was made, streamed in chunks.
//!
//! The handle pins its generation: as long as a copy of it lives, nothing is replayed into the
//! generation and its directory stays. It costs no copy of the rows, only what checkpoints add to
//! memory and disk meanwhile; so drop it soon.

use std::io::Write;
use std::sync::Arc;

use super::error::{Attempt, Damage, Fault, ReadError};
use super::generation::{Pin, Stored};
use super::view::{Cursor, View};
use crate::snapshot::{CHUNK_BYTES, CheckpointMeta, RowTotals, SnapshotWriter};

/// The state of one checkpoint, held as it was.
#[derive(Clone)]
pub struct SnapshotHandle {
    view: View,
    stored: Arc<Stored>,
    _pin: Arc<Pin>,
}

impl SnapshotHandle {
    pub(crate) fn new(view: View, stored: Stored) -> Self {
        let pin = Arc::new(Pin::new(Arc::clone(&view.generation)));
        Self { view, stored: Arc::new(stored), _pin: pin }
    }

    /// What the checkpoint said about itself.
    pub fn meta(&self) -> &CheckpointMeta {
        &self.stored.meta
    }

    /// How many rows there are and their sum.
    pub fn totals(&self) -> RowTotals {
        self.stored.totals
    }

    /// Starts to stream the snapshot file. May be called again, for another receiver or from the
    /// start; every stream has the same bytes.
    pub fn chunks(&self) -> Result<SnapshotChunks, ReadError> {
        let totals = self.stored.totals;
        let writer = SnapshotWriter::new(Vec::new(), &self.stored.meta, totals)
            .attempt("begin a snapshot")?;
        Ok(SnapshotChunks {
            handle: self.clone(),
            writer,
            cursor: Some(Cursor::start()),
            found: RowTotals::default(),
        })
    }

    /// Writes the whole snapshot file, for a backup.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<(), ReadError> {
        let mut chunks = self.chunks()?;
        while let Some(chunk) = chunks.next_chunk()? {
            out.write_all(&chunk).attempt("write a snapshot")?;
        }
        Ok(())
    }
}

/// A snapshot file in pieces. Blocking: reads the disk.
pub struct SnapshotChunks {
    handle: SnapshotHandle,
    writer: SnapshotWriter<Vec<u8>>,
    cursor: Option<Cursor>,
    found: RowTotals,
}

impl SnapshotChunks {
    /// The next piece, of at most [`CHUNK_BYTES`]; `None` after the last.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        while let Some(cursor) = self.cursor.take() {
            self.cursor = self.write_rows(&cursor)?;
            if self.cursor.is_none() {
                self.check_totals()?;
                self.writer.end().attempt("end a snapshot")?;
            }
            if self.writer.get_mut().len() >= CHUNK_BYTES / 4 {
                break;
            }
        }
        let chunk = std::mem::take(self.writer.get_mut());
        assert!(chunk.len() <= CHUNK_BYTES, "a chunk of {} bytes is over the limit", chunk.len());
        Ok(if chunk.is_empty() { None } else { Some(chunk) })
    }

    fn write_rows(&mut self, cursor: &Cursor) -> Result<Option<Cursor>, Fault> {
        let page = self.handle.view.page(cursor, usize::MAX)?;
        for (full_key, value) in page.rows {
            let Some((&table, key)) = full_key.split_first() else {
                let path = &self.handle.view.generation.path;
                return Err(Damage::new(path, "a row has no key").into());
            };
            self.found.add(table, key, &value);
            self.writer.row(table, key.to_vec(), value).attempt("write a snapshot")?;
        }
        Ok(page.next)
    }

    fn check_totals(&self) -> Result<(), Damage> {
        let (found, expected) = (self.found, self.handle.stored.totals);
        check_totals(&self.handle.view, found, expected)
    }
}

impl Iterator for SnapshotChunks {
    type Item = Result<Vec<u8>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_chunk().transpose()
    }
}

/// Whether the rows that were read are those that were written.
pub(crate) fn check_totals(
    view: &View,
    found: RowTotals,
    expected: RowTotals,
) -> Result<(), Damage> {
    if found == expected {
        return Ok(());
    }
    let what = if found.rows == expected.rows {
        format!("its {} rows do not add up to their sum", found.rows)
    } else {
        format!("it has {} rows of {}", found.rows, expected.rows)
    };
    Err(Damage::new(&view.generation.path, what))
}
