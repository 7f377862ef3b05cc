//! What a disk keeps: the log's segments and mark, redo files, snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use lease::format::HEADER_BYTES;
use sha2::{Digest, Sha256};
use storage::log::{Log, LogConfig, LogEntry};
use storage::snapshot::{
    Applied, CheckpointMeta, RowTotals, SnapshotItem, SnapshotReader, SnapshotWriter,
};
use storage::state::testing::{read_redo_file, redo_file};
use storage::testing::{ManualClock, MemoryDisk};

use super::ledger::{is_one_byte_off, mended_frame};
use super::{Decoder, Family, Origin, Verdict};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let mut decoders = log_files()?;
    decoders.push(snapshot()?);
    decoders.push(redo()?);
    Ok(decoders)
}

/// A log of several segments, as a crash left it.
struct Sample {
    disk: MemoryDisk,
    entries: Vec<LogEntry>,
}

fn config() -> LogConfig {
    let mut config = LogConfig::new(PathBuf::from("/log"), IDENTITY);
    config.segment_bytes = 8 * 1024;
    config
}

fn log_sample() -> Result<Sample> {
    let disk = MemoryDisk::new();
    let clock = Arc::new(ManualClock::new(0));
    let (log, mut writer, _) = Log::open_stepped(Arc::new(disk.clone()), clock, config())?;
    let mut entries = Vec::new();
    log.save_vote(Bytes::from_static(b"vote of node 3"), Box::new(|_| {}));
    for index in 1..=9_u64 {
        let payload = Bytes::from(vec![index as u8; 700]);
        let entry = LogEntry { index, term: 1 + index / 5, kind: 0, payload };
        log.append(vec![entry.clone()], Box::new(|_| {}));
        log.save_committed(Bytes::from(index.to_le_bytes().to_vec()));
        if index == 4 {
            log.checkpoint_mark(Box::new(|_| {}));
        }
        let _idle = writer.run_until_idle();
        entries.push(entry);
    }
    drop((log, writer));
    disk.process_crash();
    Ok(Sample { disk, entries })
}

/// One decoder for each kind of file, with the other files of the log as they were.
fn log_files() -> Result<Vec<Decoder>> {
    let sample = Arc::new(log_sample()?);
    let paths = sample.disk.file_paths();
    let is_segment = |path: &&PathBuf| path.extension().is_some_and(|it| it == "log");
    let segments: Vec<&PathBuf> = paths.iter().filter(is_segment).collect();
    let (first, last) = (segments.first().context("no segment")?, segments.len() - 1);
    let written = segments[..=last].iter().rev().find(|path| has_group(&sample.disk, path));
    let mark = paths.iter().find(|path| !is_segment(path)).context("the log has no mark")?;
    Ok(vec![
        log_file("log-first-segment", &sample, first)?,
        log_file("log-last-segment", &sample, written.context("nothing was written")?)?,
        log_file("log-mark", &sample, mark)?,
    ])
}

fn has_group(disk: &MemoryDisk, path: &Path) -> bool {
    let bytes = disk.bytes(path).unwrap_or_default();
    bytes.get(SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 4) == Some(b"LHWG")
}

fn log_file(name: &'static str, sample: &Arc<Sample>, path: &Path) -> Result<Decoder> {
    let example = sample.disk.bytes(path)?;
    let known = vec![example.clone()];
    let (sample, path) = (Arc::clone(sample), path.to_owned());
    let check = move |bytes: &[u8], origin| {
        let disk = sample.disk.copy();
        disk.put(&path, bytes);
        let clock = Arc::new(ManualClock::new(0));
        let Ok((log, _writer, recovered)) = Log::open_stepped(Arc::new(disk), clock, config())
        else {
            return Ok(Verdict::Refused);
        };
        let read = log.read(0..u64::MAX, u64::MAX);
        if origin == Origin::AsFound {
            let read = read.context("what was recovered cannot be read")?;
            let whole = is_prefix(&read, &sample.entries);
            ensure!(whole, "other entries than were written: {recovered:?}");
            // Behind the mark nothing may be cut off.
            let off = is_one_byte_off(bytes, &known);
            ensure!(!off || read.len() >= MARKED, "marked entries are gone: {recovered:?}");
        }
        Ok(Verdict::Accepted)
    };
    Ok(Decoder::new(name, Family::Disk, vec![example], check)
        .mended_by(|bytes| Some(mended_log_file(bytes))))
}

fn is_prefix(read: &[LogEntry], written: &[LogEntry]) -> bool {
    read.len() <= written.len() && read == &written[..read.len()]
}

/// Sums of the head, of every group and record, and the chain of hashes between the groups.
fn mended_log_file(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    if file.len() < MARK_BYTES {
        return file;
    }
    let head =
        SEGMENT_HEADER_BYTES.min(if file.len() == MARK_BYTES { MARK_BYTES } else { file.len() });
    file[16..32].copy_from_slice(&IDENTITY);
    let sum = identity_sum(&[&file[..12], &file[16..head]]);
    file[12..16].copy_from_slice(&sum.to_le_bytes());
    let mut before: Option<[u8; 8]> = None;
    let mut at = SEGMENT_HEADER_BYTES;
    while at + GROUP_HEADER_BYTES <= file.len() && &file[at..at + 4] == b"LHWG" {
        let length = u32_at(&file, at + 4) as usize;
        let end = (at + GROUP_HEADER_BYTES).saturating_add(length).next_multiple_of(SECTOR);
        if end > file.len() {
            break;
        }
        mend_records(&mut file[at + GROUP_HEADER_BYTES..at + GROUP_HEADER_BYTES + length]);
        if let Some(hash) = before {
            file[at + 16..at + 24].copy_from_slice(&hash);
        }
        let sum = identity_sum(&[&file[at..at + 28], &file[at + GROUP_HEADER_BYTES..end]]);
        file[at + 28..at + 32].copy_from_slice(&sum.to_le_bytes());
        let digest = Sha256::digest(&file[at..at + GROUP_HEADER_BYTES]);
        before = digest.first_chunk().copied();
        at = end;
    }
    file
}

fn mend_records(body: &mut [u8]) {
    let mut at = 0;
    while at + RECORD_HEADER_BYTES <= body.len() {
        let end = at + RECORD_HEADER_BYTES + u32_at(body, at + 4) as usize;
        if end > body.len() {
            return;
        }
        let head = crc32c::crc32c(&body[at..at + 24]);
        let sum = crc32c::crc32c_append(head, &body[at + RECORD_HEADER_BYTES..end]);
        body[at + 24..at + 28].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

fn identity_sum(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(crc32c::crc32c(&IDENTITY), |sum, part| crc32c::crc32c_append(sum, part))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

type StoredRow = (u8, Vec<u8>, Vec<u8>);

fn sample_rows() -> Vec<StoredRow> {
    let row = |number: u8| (1 + number / 4, vec![number; 3], vec![number; usize::from(number) * 9]);
    (0..12).map(row).collect()
}

fn sample_meta() -> CheckpointMeta {
    CheckpointMeta {
        applied: Some(Applied { index: 300, term: 2 }),
        membership: vec![1, 2, 3],
        state_sum: [9; 32],
        epoch: vec![4],
    }
}

fn snapshot() -> Result<Decoder> {
    let example = written_snapshot(&sample_meta(), &sample_rows())?;
    let known = vec![example.clone()];
    Ok(Decoder::new("snapshot", Family::Disk, vec![example], move |bytes, origin| {
        let Ok((meta, rows)) = read_snapshot(bytes) else { return Ok(Verdict::Refused) };
        if origin == Origin::AsFound {
            ensure!(!is_one_byte_off(bytes, &known), "a changed byte went unseen");
            // SHA-256 over everything: nobody changes it unseen.
            ensure!((&meta, &rows) == (&sample_meta(), &sample_rows()), "another state");
        }
        let again = read_snapshot(&written_snapshot(&meta, &rows)?)?;
        ensure!(again == (meta, rows), "reads back differently");
        Ok(Verdict::Accepted)
    })
    .mended_by(|bytes| Some(mended_frames(bytes))))
}

fn written_snapshot(meta: &CheckpointMeta, rows: &[StoredRow]) -> Result<Vec<u8>> {
    let mut sum = lease::sum::RowSum::EMPTY;
    let mut totals = RowTotals::default();
    for (table, key, value) in rows {
        sum.add(*table, key, value);
        totals.rows += 1;
        totals.bytes += (key.len() + value.len()) as u64;
    }
    totals.sum = sum.to_bytes();
    let mut writer = SnapshotWriter::new(Vec::new(), meta, totals)?;
    for (table, key, value) in rows {
        writer.row(*table, key.clone(), value.clone())?;
    }
    Ok(writer.finish()?)
}

fn read_snapshot(bytes: &[u8]) -> Result<(CheckpointMeta, Vec<StoredRow>)> {
    let mut reader = SnapshotReader::new(bytes);
    let (mut meta, mut rows) = (None, Vec::new());
    while let Some(item) = reader.next()? {
        match item {
            SnapshotItem::Meta(found, _) => meta = Some(found),
            SnapshotItem::Row { table, key, value } => rows.push((table, key, value)),
        }
    }
    Ok((meta.context("a snapshot without its meta section was read to its end")?, rows))
}

fn redo() -> Result<Decoder> {
    let rows = (0..12_u8).map(|number| {
        let value = (number % 3 > 0).then(|| vec![number; usize::from(number) * 9]);
        (vec![number; 3], value)
    });
    let rows: Vec<_> = rows.collect();
    let example = redo_file(&sample_meta(), &rows)?;
    let known = vec![example.clone()];
    Ok(Decoder::new("redo-file", Family::Disk, vec![example], move |bytes, origin| {
        let Ok(found) = read_redo_file(bytes) else { return Ok(Verdict::Refused) };
        if origin == Origin::AsFound {
            ensure!(!is_one_byte_off(bytes, &known), "a changed byte went unseen");
            ensure!(found == (sample_meta(), rows.clone()), "other rows than were written");
        }
        let again = read_redo_file(&redo_file(&found.0, &found.1)?)?;
        ensure!(again == found, "reads back differently");
        Ok(Verdict::Accepted)
    })
    .mended_by(|bytes| Some(mended_frames(bytes))))
}

/// A stream of frames: each sum, and at the end of what was hashed the hash.
fn mended_frames(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    let mut section = Sha256::new();
    while rest.len() > HEADER_BYTES {
        let length = HEADER_BYTES.saturating_add(u32_at(rest, 4) as usize).min(rest.len());
        let (frame, after) = rest.split_at(length);
        let mut frame = frame.to_vec();
        // The number of a variant comes first; what ends a section or the file ends with a hash.
        let ends = frame.len() >= HEADER_BYTES + 33;
        let hash_at = frame.len() - 32.min(frame.len());
        match (frame[2], frame.get(HEADER_BYTES).copied().unwrap_or(u8::MAX)) {
            (SNAPSHOT_KIND, 1) => section = Sha256::new(),
            (SNAPSHOT_KIND, 4) if ends => {
                frame[hash_at..].copy_from_slice(&section.clone().finalize());
            }
            (SNAPSHOT_KIND, 5) | (REDO_KIND, 2) if ends => {
                frame[hash_at..].copy_from_slice(&Sha256::digest(&out));
            }
            _ => {}
        }
        let frame = mended_frame(&frame);
        section.update(&frame);
        out.extend_from_slice(&frame);
        rest = after;
    }
    out
}

const IDENTITY: [u8; 16] = *b"identity-of-log1";
/// Entries before the durable mark.
const MARKED: usize = 4;
const SEGMENT_HEADER_BYTES: usize = 4096;
const GROUP_HEADER_BYTES: usize = 32;
const RECORD_HEADER_BYTES: usize = 28;
const MARK_BYTES: usize = 56;
const SECTOR: usize = 512;
const REDO_KIND: u8 = 5;
const SNAPSHOT_KIND: u8 = 6;
