//! The redo file: all rows of one checkpoint, durable before sled sees the first of them.
//!
//! ```text
//! redo-NNNNNNNNNNNNNNNNNNNN     NNN = the checkpoint's number, counted from 1
//!   Header   generation it belongs to, what the meta row will say, number of rows
//!   Rows     up to 256 KiB of (key, value or deleted), keys ascending
//!   …
//!   End      SHA-256 of every byte before this frame
//! ```
//!
//! Written under a temporary name, synced, renamed, its directory synced: a file that has its name
//! is complete. One that has its name and is not complete is damage; one under the temporary name
//! is a checkpoint that never was. The file stays until that of the next checkpoint has been
//! replayed: it says how far the generation must be. The header carries the totals and the sum that
//! the rows will have, so that replaying it twice, or half and then again, gives the same state.

use std::io;
use std::path::{Path, PathBuf};

use lease::format::Kind;
use serde::{Deserialize, Serialize};

use super::error::{Attempt, Damage, Fault};
use super::generation::Stored;
use super::view::Overlay;
use crate::blob::{Blob, BlobRef};
use crate::seam::Disk;
use crate::snapshot::stream::{DiskReader, DiskWriter, FrameReader, FrameWriter, StreamError};

/// One frame of the file as it is read. Append-only: the order of variants is stored.
#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Header { generation: u64, stored: Stored, rows: u64 },
    Rows(Vec<(Blob, Option<Blob>)>),
    End { sha256: [u8; 32] },
}

/// The same as it is written, without copying the rows.
#[derive(Debug, Serialize)]
enum RecordRef<'a> {
    Header { generation: u64, stored: &'a Stored, rows: u64 },
    Rows(Vec<(BlobRef<'a>, Option<BlobRef<'a>>)>),
    End { sha256: [u8; 32] },
}

/// What a redo file holds.
#[derive(Debug)]
pub(crate) struct Redo {
    /// The generation its rows belong to.
    pub(crate) generation: u64,
    /// What the meta row will say.
    pub(crate) stored: Stored,
    /// The rows.
    pub(crate) rows: Overlay,
}

/// Where the redo file of checkpoint `number` is.
pub(crate) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:020}"))
}

/// The number in a file name, when it is that of a complete redo file.
pub(crate) fn number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// Writes the redo file and makes it durable; gives its length in bytes.
pub(crate) fn write(
    disk: &dyn Disk,
    dir: &Path,
    generation: u64,
    stored: &Stored,
    rows: &Overlay,
) -> Result<u64, Fault> {
    let target = path(dir, stored.number);
    let temporary = target.with_extension(TEMPORARY);
    let file = disk.create(&temporary).attempt("create a redo file")?;
    let length = encode(DiskWriter::new(file), generation, stored, rows)
        .attempt("write a redo file")?
        .finish()
        .attempt("make a redo file durable")?;
    disk.rename(&temporary, &target).attempt("name a redo file")?;
    disk.sync_dir(dir).attempt("make the name of a redo file durable")?;
    Ok(length)
}

/// Reads a redo file that has its name, all of it.
pub(crate) fn read(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Redo, Fault> {
    let path = path(dir, number);
    let file = disk.open(&path).attempt("open a redo file")?;
    let input = DiskReader::new(file.as_ref()).attempt("read a redo file")?;
    let damaged = |what: &str| Fault::from(Damage::new(&path, what));
    let mut frames = FrameReader::new(input);
    let mut next = || -> Result<Option<(Record, [u8; 32])>, Fault> {
        let record = frames.next(Kind::Redo, VERSION).map_err(|error| fault(&path, error))?;
        Ok(record.map(|record| (record, frames.sha256_before())))
    };
    let Some((Record::Header { generation, stored, rows: count }, _)) = next()? else {
        return Err(damaged("it has no header"));
    };
    if stored.number != number {
        return Err(damaged("its name is that of another checkpoint"));
    }
    let mut rows = Overlay::new();
    loop {
        match next()? {
            Some((Record::Rows(some), _)) => {
                rows.extend(some.into_iter().map(|(key, value)| (key.0, value.map(|v| v.0))));
            }
            Some((Record::End { sha256 }, found)) => {
                if sha256 != found || rows.len() as u64 != count {
                    return Err(damaged("its rows are not those that were written"));
                }
                break;
            }
            Some((Record::Header { .. }, _)) => return Err(damaged("a frame is out of place")),
            None => return Err(damaged("it ends before its end")),
        }
    }
    match next() {
        Ok(None) => Ok(Redo { generation, stored, rows }),
        Err(Fault::Io { what, source }) => Err(Fault::Io { what, source }),
        _ => Err(damaged("bytes follow its end")),
    }
}

fn encode(
    out: DiskWriter,
    generation: u64,
    stored: &Stored,
    rows: &Overlay,
) -> io::Result<DiskWriter> {
    let mut frames = FrameWriter::new(out);
    let header = RecordRef::Header { generation, stored, rows: rows.len() as u64 };
    frames.frame(Kind::Redo, VERSION, &header)?;
    let (mut some, mut bytes) = (Vec::new(), 0);
    for (key, value) in rows {
        bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        some.push((BlobRef(key), value.as_deref().map(BlobRef)));
        if bytes >= FRAME_BYTES {
            frames.frame(Kind::Redo, VERSION, &RecordRef::Rows(std::mem::take(&mut some)))?;
            bytes = 0;
        }
    }
    if !some.is_empty() {
        frames.frame(Kind::Redo, VERSION, &RecordRef::Rows(some))?;
    }
    let sha256 = frames.sha256();
    frames.frame(Kind::Redo, VERSION, &RecordRef::End { sha256 })?;
    Ok(frames.into_inner())
}

fn fault(path: &Path, error: StreamError) -> Fault {
    match error {
        StreamError::Io(source) => Fault::Io { what: "read a redo file", source },
        StreamError::Format(error) => Fault::format(path, &error),
    }
}

const PREFIX: &str = "redo-";
/// Extension of a redo file that is still being written.
pub(crate) const TEMPORARY: &str = "tmp";
/// Version of the frames of kind `Redo`.
const VERSION: u8 = 1;
/// A `Rows` frame is closed once it holds this much.
const FRAME_BYTES: usize = 256 * 1024;
