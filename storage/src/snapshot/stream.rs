//! A stream of frames with a running SHA-256: what redo and snapshot files are made of.
//!
//! The frame format checks each frame; the hash ties them together, so that a frame that was lost,
//! doubled or moved is found too. It also gives `Disk` files the faces of `io::Read` and
//! `io::Write`.

use std::io::{self, ErrorKind, Read, Write};

use lease::format::{self, FormatError, HEADER_BYTES, Kind, MAX_BODY_BYTES};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::seam::DiskFile;

/// Writes frames and hashes them.
pub(crate) struct FrameWriter<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> FrameWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, hasher: Sha256::new() }
    }

    /// Writes one frame and gives its bytes, so that the caller may hash them again.
    pub(crate) fn frame<T: Serialize>(
        &mut self,
        kind: Kind,
        version: u8,
        value: &T,
    ) -> io::Result<Vec<u8>> {
        let frame = format::encode(kind, version, value);
        self.hasher.update(&frame);
        self.out.write_all(&frame)?;
        Ok(frame)
    }

    /// SHA-256 of all frames so far.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    pub(crate) fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }
}

/// Why a stream did not give a frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the bytes could not be read")]
    Io(#[from] io::Error),
    #[error("bad frame")]
    Format(#[from] FormatError),
}

/// Reads frames and hashes them.
pub(crate) struct FrameReader<R> {
    input: R,
    hasher: Sha256,
    frame: Vec<u8>,
    /// Where `frame` starts.
    offset: u64,
}

impl<R: Read> FrameReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, hasher: Sha256::new(), frame: Vec::new(), offset: 0 }
    }

    /// The next frame's value; `None` when the stream ends where a frame would start.
    pub(crate) fn next<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        version: u8,
    ) -> Result<Option<T>, StreamError> {
        self.hasher.update(&self.frame);
        self.offset += self.frame.len() as u64;
        self.frame.clear();
        let have = self.fill(HEADER_BYTES)?;
        if have == 0 {
            return Ok(None);
        }
        if have == HEADER_BYTES {
            let field = &self.frame[4..8];
            let body = u32::from_le_bytes([field[0], field[1], field[2], field[3]]) as usize;
            if body <= MAX_BODY_BYTES {
                self.fill(HEADER_BYTES + body)?;
            }
        }
        Ok(Some(format::decode(kind, version, &self.frame)?))
    }

    /// SHA-256 of all frames before the last one that was read.
    pub(crate) fn sha256_before(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// The bytes of the last frame that was read.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Where the last frame that was read starts.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Grows the frame to `want` bytes, or to what there is, and says how many it has.
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        let mut have = self.frame.len();
        self.frame.resize(want, 0);
        while have < want {
            match self.input.read(&mut self.frame[have..]) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.frame.truncate(have);
        Ok(have)
    }
}

/// Reads a file from its start to the length it had when the reading began.
pub(crate) struct DiskReader<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    end: u64,
}

impl<'a> DiskReader<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Self { file, at: 0, end: file.len()? })
    }
}

impl Read for DiskReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let count = buffer.len().min(rest);
        self.file.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Writes a file from its start, in pieces of [`WRITE_BYTES`] or a frame, whichever is longer.
pub(crate) struct DiskWriter {
    file: Box<dyn DiskFile>,
    at: u64,
    buffer: Vec<u8>,
}

impl DiskWriter {
    pub(crate) fn new(file: Box<dyn DiskFile>) -> Self {
        Self { file, at: 0, buffer: Vec::new() }
    }

    /// Writes what is buffered, makes the file durable and gives its length.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync_data()?;
        Ok(self.at)
    }
}

impl Write for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_all_at(&self.buffer, self.at)?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

const WRITE_BYTES: usize = 256 * 1024;
