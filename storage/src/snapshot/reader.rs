//! Reads a snapshot and checks all of it: every frame, order, section and total.
//!
//! Rows are given out as they are read. They count only once [`SnapshotReader::next`] has returned
//! `None`: before that the rest may still turn out to be missing or changed.

use std::collections::VecDeque;
use std::io::Read;

use lease::format::Kind;
use sha2::{Digest, Sha256};

use super::stream::{FrameReader, StreamError};
use super::{
    CheckpointMeta, META_SECTION, ROWS_SECTION, Record, RowTotals, SnapshotError, VERSION,
};
use crate::blob::Blob;

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotItem {
    /// Comes first, once.
    Meta(CheckpointMeta, RowTotals),
    /// One row; tables ascending, within one keys ascending.
    Row {
        /// Table of the row.
        table: u8,
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
}

/// Reads one snapshot from `R`, which must end with it.
pub struct SnapshotReader<R> {
    frames: FrameReader<R>,
    place: Place,
    sections: u64,
    rows: VecDeque<(Blob, Blob)>,
    last_row: Option<(u8, Vec<u8>)>,
    promised: Option<RowTotals>,
    found: RowTotals,
}

enum Place {
    Start,
    Between,
    Section(OpenSection),
    Done,
}

struct OpenSection {
    tag: u8,
    table: u8,
    rows: u64,
    bytes: u64,
    hasher: Sha256,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads from the stream's present position.
    pub fn new(input: R) -> Self {
        Self {
            frames: FrameReader::new(input),
            place: Place::Start,
            sections: 0,
            rows: VecDeque::new(),
            last_row: None,
            promised: None,
            found: RowTotals::default(),
        }
    }

    /// The next item; `None` when the end was read and everything before it is proved whole.
    #[expect(clippy::should_implement_trait, reason = "it gives a Result of an Option, for `?`")]
    pub fn next(&mut self) -> Result<Option<SnapshotItem>, SnapshotError> {
        loop {
            if let Some((key, value)) = self.rows.pop_front() {
                return self.row(key.0, value.0).map(Some);
            }
            if let Place::Done = self.place {
                return Ok(None);
            }
            let Some(record) = self.record()? else {
                return Err(self.corrupt("it ends before its end"));
            };
            if let Some(item) = self.accept(record)? {
                return Ok(Some(item));
            }
        }
    }

    fn accept(&mut self, record: Record) -> Result<Option<SnapshotItem>, SnapshotError> {
        match (&mut self.place, record) {
            (Place::Start, Record::Header) => self.place = Place::Between,
            (Place::Between, Record::Section { tag, table }) => self.open_section(tag, table)?,
            (Place::Section(section), Record::Meta { meta, totals })
                if section.tag == META_SECTION && self.promised.is_none() =>
            {
                section.count(self.frames.frame(), 0);
                self.promised = Some(totals);
                return Ok(Some(SnapshotItem::Meta(meta, totals)));
            }
            (Place::Section(section), Record::Rows(rows)) if section.tag == ROWS_SECTION => {
                section.count(self.frames.frame(), rows.len() as u64);
                self.rows = rows.into();
            }
            (Place::Section(section), Record::SectionEnd { rows, bytes, sha256 }) => {
                let hash: [u8; 32] = section.hasher.clone().finalize().into();
                if (rows, bytes, sha256) != (section.rows, section.bytes, hash) {
                    return Err(self.corrupt("a section is not what its end says"));
                }
                self.place = Place::Between;
            }
            (Place::Between, Record::End { sections, rows, sha256 }) => {
                self.check_end(sections, rows, sha256)?;
                self.place = Place::Done;
            }
            _ => return Err(self.corrupt("a frame is out of place")),
        }
        Ok(None)
    }

    fn open_section(&mut self, tag: u8, table: u8) -> Result<(), SnapshotError> {
        if tag != META_SECTION && tag != ROWS_SECTION {
            return Err(SnapshotError::Newer { what: format!("it has a section of kind {tag}") });
        }
        if (tag == META_SECTION) != (self.sections == 0) {
            return Err(self.corrupt("the meta section does not come first, once"));
        }
        let mut section = OpenSection { tag, table, rows: 0, bytes: 0, hasher: Sha256::new() };
        section.count(self.frames.frame(), 0);
        self.sections += 1;
        self.place = Place::Section(section);
        Ok(())
    }

    fn row(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<SnapshotItem, SnapshotError> {
        let Place::Section(OpenSection { table, .. }) = self.place else {
            return Err(self.corrupt("a row is outside of a section"));
        };
        let place = (table, key);
        if self.last_row.as_ref().is_some_and(|last| *last >= place) {
            return Err(self.corrupt("rows are out of order"));
        }
        self.found.add(table, &place.1, &value);
        let key = place.1.clone();
        self.last_row = Some(place);
        Ok(SnapshotItem::Row { table, key, value })
    }

    fn check_end(
        &mut self,
        sections: u64,
        rows: u64,
        sha256: [u8; 32],
    ) -> Result<(), SnapshotError> {
        if sections != self.sections || rows != self.found.rows {
            return Err(self.corrupt("sections or rows are missing"));
        }
        if sha256 != self.frames.sha256_before() {
            return Err(self.corrupt("the hash over the whole does not match"));
        }
        if self.promised != Some(self.found) {
            return Err(self.corrupt("the rows do not add up to what the sender counted"));
        }
        if self.more()? {
            return Err(self.corrupt("bytes follow the end"));
        }
        Ok(())
    }

    fn more(&mut self) -> Result<bool, SnapshotError> {
        match self.frames.next::<Record>(Kind::Snapshot, VERSION) {
            Ok(None) => Ok(false),
            Ok(Some(_)) | Err(StreamError::Format(_)) => Ok(true),
            Err(StreamError::Io(error)) => Err(SnapshotError::Io(error)),
        }
    }

    fn record(&mut self) -> Result<Option<Record>, SnapshotError> {
        match self.frames.next(Kind::Snapshot, VERSION) {
            Ok(record) => Ok(record),
            Err(StreamError::Io(error)) => Err(SnapshotError::Io(error)),
            Err(StreamError::Format(error)) => {
                Err(SnapshotError::format(self.frames.offset(), &error))
            }
        }
    }

    fn corrupt(&self, what: &str) -> SnapshotError {
        SnapshotError::corrupt(self.frames.offset(), what)
    }
}

impl OpenSection {
    fn count(&mut self, frame: &[u8], rows: u64) {
        self.rows += rows;
        self.bytes += frame.len() as u64;
        self.hasher.update(frame);
    }
}
