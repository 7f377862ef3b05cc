//! Writes a snapshot: rows go in by table and key, frames come out.

use std::io::{self, Write};

use lease::format::Kind;
use sha2::{Digest, Sha256};

use super::stream::FrameWriter;
use super::{
    CheckpointMeta, META_SECTION, ROW_OVERHEAD_BYTES, ROWS_FRAME_BYTES, ROWS_SECTION, Record,
    RowTotals, VERSION,
};
use crate::blob::Blob;

/// Writes one snapshot to `W`. Rows must come in order of table, then key, each once.
pub struct SnapshotWriter<W> {
    frames: FrameWriter<W>,
    section: Option<OpenSection>,
    sections: u64,
    rows: u64,
    pending: Vec<(Blob, Blob)>,
    pending_bytes: usize,
}

struct OpenSection {
    table: u8,
    rows: u64,
    bytes: u64,
    hasher: Sha256,
}

impl<W: Write> SnapshotWriter<W> {
    /// Begins a snapshot whose rows are counted and summed up in `totals`; a reader refuses it when
    /// the rows that follow do not add up to the same.
    pub fn new(out: W, meta: &CheckpointMeta, totals: RowTotals) -> io::Result<Self> {
        let mut writer = Self {
            frames: FrameWriter::new(out),
            section: None,
            sections: 0,
            rows: 0,
            pending: Vec::new(),
            pending_bytes: 0,
        };
        writer.frames.frame(Kind::Snapshot, VERSION, &Record::Header)?;
        writer.open_section(META_SECTION, 0)?;
        writer.section_frame(&Record::Meta { meta: meta.clone(), totals })?;
        writer.close_section()?;
        Ok(writer)
    }

    /// Writes one row.
    ///
    /// # Panics
    /// When the row's table is below that of the row before: the caller reads them in order.
    pub fn row(&mut self, table: u8, key: Vec<u8>, value: Vec<u8>) -> io::Result<()> {
        let current = self.section.as_ref().map(|section| section.table);
        if current != Some(table) {
            assert!(current < Some(table), "rows of a snapshot come in order of their tables");
            self.close_section()?;
            self.open_section(ROWS_SECTION, table)?;
        }
        self.rows += 1;
        self.pending_bytes += key.len() + value.len() + ROW_OVERHEAD_BYTES;
        self.pending.push((Blob(key), Blob(value)));
        if self.pending_bytes >= ROWS_FRAME_BYTES {
            self.write_pending()?;
        }
        Ok(())
    }

    /// Writes the end and gives back the output. Without it the snapshot is not valid.
    pub fn finish(mut self) -> io::Result<W> {
        self.end()?;
        Ok(self.frames.into_inner())
    }

    /// Writes the end.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.close_section()?;
        let end =
            Record::End { sections: self.sections, rows: self.rows, sha256: self.frames.sha256() };
        self.frames.frame(Kind::Snapshot, VERSION, &end)?;
        Ok(())
    }

    /// The output so far, for a caller that takes it away in chunks.
    pub(crate) fn get_mut(&mut self) -> &mut W {
        self.frames.get_mut()
    }

    fn open_section(&mut self, tag: u8, table: u8) -> io::Result<()> {
        self.section = Some(OpenSection { table, rows: 0, bytes: 0, hasher: Sha256::new() });
        self.sections += 1;
        self.section_frame(&Record::Section { tag, table })
    }

    fn close_section(&mut self) -> io::Result<()> {
        self.write_pending()?;
        let Some(section) = self.section.take() else { return Ok(()) };
        let sha256 = section.hasher.finalize().into();
        let end = Record::SectionEnd { rows: section.rows, bytes: section.bytes, sha256 };
        self.frames.frame(Kind::Snapshot, VERSION, &end)?;
        Ok(())
    }

    fn write_pending(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if let Some(section) = &mut self.section {
            section.rows += rows.len() as u64;
        }
        self.section_frame(&Record::Rows(rows))
    }

    fn section_frame(&mut self, record: &Record) -> io::Result<()> {
        let frame = self.frames.frame(Kind::Snapshot, VERSION, record)?;
        if let Some(section) = &mut self.section {
            section.bytes += frame.len() as u64;
            section.hasher.update(&frame);
        }
        Ok(())
    }
}
