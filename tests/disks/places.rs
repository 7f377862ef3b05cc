//! Where a disk is damaged, and how: one bit turned, or one sector of zeros, at a place that a seed
//! chooses among the bytes in use.
//!
//! A node's files are mostly room that nothing has used yet: two segments of 64 MiB for some
//! kilobytes of log. So a place is looked for in sectors that hold something; one in ten is taken
//! wherever it falls. What it hit is printed with the trial.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use jepsen::rng::Rng;

/// Which files of a node's data are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Segments of the log, and its durable mark.
    Log,
    /// The rows of the last checkpoint, and the file that names them.
    State,
    /// The redo file of the last checkpoint.
    Redo,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Log, Self::State, Self::Redo];

    fn files(self, data: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        match self {
            Self::Log => walk(&data.join("log"), &mut found)?,
            Self::State | Self::Redo => walk(&data.join("state"), &mut found)?,
        }
        found.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match self {
                Self::Log => name == "mark" || name.starts_with("segment-"),
                Self::State => !name.starts_with("redo-"),
                Self::Redo => name.starts_with("redo-"),
            }
        });
        found.sort();
        Ok(found)
    }
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// What is done to one file.
#[derive(Debug)]
pub(crate) struct Damage {
    path: PathBuf,
    harm: Harm,
}

#[derive(Debug)]
enum Harm {
    Bit { byte: u64, bit: u8 },
    Sector { number: u64 },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.harm {
            Harm::Bit { byte, bit } => write!(f, "bit {bit} of byte {byte} of {path}"),
            Harm::Sector { number } => write!(f, "sector {number} of {path}"),
        }
    }
}

impl Damage {
    /// Chooses a place in one part of a node's data.
    pub(crate) fn in_data(data: &Path, part: Part, rng: &mut Rng) -> Result<Self> {
        let mut files = part.files(data)?;
        files.retain(|path| fs::metadata(path).is_ok_and(|it| it.len() > 0));
        let path =
            rng.pick(&files).with_context(|| format!("no {part:?} in {}", data.display()))?;
        Self::in_file(path, rng)
    }

    /// Chooses a place in a file.
    pub(crate) fn in_file(path: &Path, rng: &mut Rng) -> Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let anywhere = rng.once_in(10);
        let used = if anywhere { len } else { used_bytes(&file, len)? };
        let harm = loop {
            let byte = rng.below(used);
            let number = byte / SECTOR as u64;
            let is_used = read_sector(&file, number)?.iter().any(|byte| *byte != 0);
            if anywhere || is_used {
                break if rng.once_in(2) {
                    Harm::Bit { byte, bit: (rng.below(8)) as u8 }
                } else {
                    Harm::Sector { number }
                };
            }
        };
        Ok(Self { path: path.to_owned(), harm })
    }

    /// Turns one bit at a known place.
    pub(crate) fn at(path: &Path, byte: u64) -> Self {
        Self { path: path.to_owned(), harm: Harm::Bit { byte, bit: 3 } }
    }

    /// Does it; durably, since a mount may follow.
    pub(crate) fn strike(&self) -> Result<()> {
        let file = File::options().read(true).write(true).open(&self.path)?;
        match self.harm {
            Harm::Bit { byte, bit } => {
                let mut one = [0];
                file.read_exact_at(&mut one, byte)?;
                file.write_all_at(&[one[0] ^ (1 << bit)], byte)?;
            }
            Harm::Sector { number } => {
                let there = read_sector(&file, number)?.len();
                file.write_all_at(&[0; SECTOR][..there], number * SECTOR as u64)?;
            }
        }
        file.sync_all()?;
        Ok(())
    }
}

/// Bytes up to the last one that is not zero.
fn used_bytes(file: &File, len: u64) -> Result<u64> {
    let mut bytes = vec![0; usize::try_from(len)?];
    file.read_exact_at(&mut bytes, 0)?;
    let last = bytes.iter().rposition(|byte| *byte != 0).context("a file of zeros")?;
    Ok(last as u64 + 1)
}

/// A sector; the last one of a file may be short.
fn read_sector(file: &File, number: u64) -> Result<Vec<u8>> {
    let len = file.metadata()?.len();
    let from = number * SECTOR as u64;
    let mut bytes = vec![0; usize::try_from((len - from).min(SECTOR as u64))?];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// A group of the log: where it is, and how long with its padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its first byte in the segment.
    pub(crate) at: u64,
    /// Its length in bytes, whole sectors.
    pub(crate) len: u64,
    /// Whether its first record is an entry, and not a vote or a mark of what is committed.
    pub(crate) has_entry: bool,
}

/// The newest segment of a node's log and the groups in it, as `storage::log` lays them out: magic
/// `LHWG`, length of the body, a header of 32 bytes, zeros to a whole sector.
pub(crate) fn newest_segment(data: &Path) -> Result<(PathBuf, Vec<Group>)> {
    let mut segments = Part::Log.files(data)?;
    segments.retain(|path| path.to_string_lossy().contains("segment-"));
    let path = segments.pop().context("no segment")?;
    let bytes = fs::read(&path)?;
    let mut groups = Vec::new();
    let mut at = SEGMENT_HEADER;
    while let Some(header) = bytes.get(at..at + GROUP_HEADER).filter(|it| it[..4] == *b"LHWG") {
        let body = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let len = (GROUP_HEADER + body).next_multiple_of(SECTOR);
        let has_entry = bytes.get(at + GROUP_HEADER) == Some(&TAG_ENTRY);
        groups.push(Group { at: at as u64, len: len as u64, has_entry });
        at += len;
    }
    ensure!(groups.len() > 2, "{} has {} groups", path.display(), groups.len());
    Ok((path, groups))
}

/// Writes what a torn write leaves: the first half of another group behind the last one.
pub(crate) fn tear(path: &Path, groups: &[Group]) -> Result<()> {
    let last = groups.last().context("no groups")?;
    let file = File::options().read(true).write(true).open(path)?;
    let mut bytes = vec![0; SECTOR];
    file.read_exact_at(&mut bytes, last.at)?;
    // It says that it is longer than the sector that was written of it.
    bytes[4..8].copy_from_slice(&(4 * SECTOR as u32).to_le_bytes());
    file.write_all_at(&bytes, last.at + last.len)?;
    file.sync_all()?;
    Ok(())
}

const SECTOR: usize = 512;
const SEGMENT_HEADER: usize = 4096;
const GROUP_HEADER: usize = 32;
const TAG_ENTRY: u8 = 1;
