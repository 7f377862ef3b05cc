//! What is found at the start: tells a torn end from damage, and makes the end clean.
//!
//! Group n+1 was never written before group n was durable, so a crash can leave at most one bad
//! group, and nothing valid after it. From that follows the whole judgement:
//!
//! * a bad group with a valid later one behind it, in this segment or a later one, is damage;
//! * a bad or missing group at or below the durable mark is damage;
//! * a segment's header is synced before the file gets its name, so a bad one is damage;
//! * segments are removed oldest first, so a hole in their numbers is damage; and so are entries
//!   that no segment has, though nothing purged or truncated them;
//! * what is left is a torn end: it is cut, by zeros, so that its bytes never look valid later.
//!
//! The last group may be whole and still not durable (the process died before its `fdatasync`, or
//! that failed and the kernel calls the pages clean all the same). It is written again and synced
//! before anybody hears of it, unless the durable mark covers it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lease::planted::{self, Bug};

use super::entries::Entries;
use super::files::{MARK_NAME, prepare, segment_name, segment_of, write_mark, write_zeros};
use super::format::{
    FormatError, GROUP_HEADER_BYTES, Group, MARK_BYTES, Mark, Record, SECTOR, SEGMENT_HEADER_BYTES,
    SegmentHeader, Summary, VERSION, group_number, read_group, read_record,
};
use super::metrics::LogMetrics;
use super::queue::Front;
use super::writer::{Tail, start_segment};
use super::{LogConfig, LogEntry, OpenError, Recovered};
use crate::seam::{Clock, Disk, DiskFile};

/// All that the log starts from.
pub(crate) struct Recovery {
    pub(crate) tail: Tail,
    pub(crate) recovered: Recovered,
    entries: Entries,
    segments: BTreeMap<u32, Arc<dyn DiskFile>>,
}

/// A segment whose header was read.
struct Segment {
    number: u32,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
}

/// The log as it grows while its records are read.
struct Replay<'a> {
    config: &'a LogConfig,
    mark: Mark,
    entries: Entries,
    summary: Summary,
    /// Entries up to this index, after the purged ones, are in segments that are not there.
    missing_to: Option<u64>,
    highest_index: BTreeMap<u32, Option<u64>>,
    group: u64,
    hash: u64,
    groups: u64,
}

/// Reads the log of `config.dir`, or makes an empty one.
pub(crate) fn recover(
    disk: &dyn Disk,
    clock: &dyn Clock,
    config: &LogConfig,
) -> Result<Recovery, OpenError> {
    let started_ns = clock.monotonic_ns();
    let dir = &config.dir;
    disk.create_dir_all(dir).map_err(OpenError::io("create directory", dir))?;
    let names = disk.list(dir).map_err(OpenError::io("list", dir))?;
    let mark = read_mark(disk, config)?;
    let numbers = segment_numbers(&names)?;
    let mut recovery = match mark {
        Some(mark) if mark.segment > 0 || !numbers.is_empty() => {
            read_segments(disk, config, mark, &numbers)?
        }
        None if !numbers.is_empty() => {
            return Err(OpenError::damaged(
                u64::from(numbers[0]),
                0,
                "the durable mark is missing",
            ));
        }
        _ => create(disk, config)?,
    };
    recovery.recovered.duration_ns = clock.monotonic_ns().saturating_sub(started_ns);
    Ok(recovery)
}

impl Recovery {
    /// The log for its users; taken once.
    pub(crate) fn take_front(&mut self) -> Front {
        let summary = &self.tail.summary;
        let forgets_vote = planted::is(Bug::VoteNotRestored);
        Front {
            entries: std::mem::take(&mut self.entries),
            purged: summary.purged,
            vote: summary.vote.clone().map(Bytes::from).filter(|_| !forgets_vote),
            committed: summary.committed.clone().map(Bytes::from),
            committed_waits: None,
            durable: summary.highest,
            segments: std::mem::take(&mut self.segments),
            queue: std::collections::VecDeque::new(),
            queued_bytes: 0,
            next_ticket: 0,
            closing: false,
            failure: None,
            metrics: LogMetrics::default(),
        }
    }
}

/// Makes the first segment. The mark comes first, so that segments without one are damage; it is
/// written again behind the segment, so that a mark without segments is damage too.
fn create(disk: &dyn Disk, config: &LogConfig) -> Result<Recovery, OpenError> {
    let dir = &config.dir;
    if let Some(parent) = dir.parent().filter(|parent| *parent != Path::new("")) {
        disk.sync_dir(parent).map_err(OpenError::io("sync directory", parent))?;
    }
    let mut mark = Mark { identity: config.identity, segment: 0, group: 0, hash: 0 };
    write_mark(disk, dir, mark)?;
    let prepared = prepare(disk, dir, config.segment_bytes)?;
    let header = SegmentHeader {
        identity: config.identity,
        segment: 1,
        len: prepared.len,
        first_group: 1,
        hash_before: 0,
        summary: Summary::default(),
    };
    start_segment(disk, config, &header, prepared.file.as_ref())?;
    mark.segment = 1;
    write_mark(disk, dir, mark)?;
    let segment = Segment { number: 1, file: prepared.file, header };
    let replay = Replay::new(config, mark, &segment);
    Ok(replay.into_recovery(&[segment], SEGMENT_HEADER_BYTES, 0))
}

fn read_mark(disk: &dyn Disk, config: &LogConfig) -> Result<Option<Mark>, OpenError> {
    let path = config.dir.join(MARK_NAME);
    if !disk.exists(&path).map_err(OpenError::io("look for", &path))? {
        return Ok(None);
    }
    let file = disk.open(&path).map_err(OpenError::io("open", &path))?;
    let len = file.len().map_err(OpenError::io("read", &path))?;
    let mut bytes = vec![0; len.min(MARK_BYTES as u64 + 1) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(OpenError::io("read", &path))?;
    let mark = Mark::decode(&bytes).map_err(|error| judge(0, 0, error))?;
    if mark.identity != config.identity {
        return Err(judge(0, 0, FormatError::Identity("durable mark")));
    }
    Ok(Some(mark))
}

/// The numbers of the segments, which must follow one another.
fn segment_numbers(names: &[String]) -> Result<Vec<u32>, OpenError> {
    let mut numbers = Vec::new();
    for name in names.iter().filter(|name| name.starts_with("segment-")) {
        let number = segment_of(name).filter(|number| *number > 0).ok_or_else(|| {
            OpenError::damaged(0, 0, format!("{name:?} is not the name of a segment"))
        })?;
        numbers.push(number);
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(OpenError::damaged(u64::from(pair[0]) + 1, 0, "the segment is missing"));
        }
    }
    Ok(numbers)
}

fn read_segments(
    disk: &dyn Disk,
    config: &LogConfig,
    mark: Mark,
    numbers: &[u32],
) -> Result<Recovery, OpenError> {
    let mut segments = Vec::new();
    for number in numbers {
        segments.push(open_segment(disk, config, *number)?);
    }
    let Some(last) = segments.last().filter(|last| u64::from(last.number) >= mark.segment) else {
        return Err(OpenError::damaged(mark.segment, 0, "the segment is missing"));
    };
    let mut replay = Replay::new(config, mark, &segments[0]);
    let mut bytes = Vec::new();
    let mut end = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
    for (at, segment) in segments.iter().enumerate() {
        read_bytes(config, segment, &mut bytes)?;
        let next = segments.get(at + 1).map(|next| next.header.first_group);
        end = replay.read_segment(segment, &bytes, next)?;
    }
    replay.check_complete(last)?;
    let (last_group_at, offset) = end;
    let torn_bytes = replay.end_of_writing(&bytes, offset);
    let covered = replay.mark.group >= replay.group;
    let path = config.dir.join(segment_name(last.number));
    if torn_bytes > 0 {
        tracing::warn!(segment = last.number, offset, torn_bytes, "cut a torn group off the log");
        write_zeros(last.file.as_ref(), offset as u64, (offset + torn_bytes) as u64)
            .map_err(OpenError::io("cut", &path))?;
    }
    if !covered && last_group_at < offset {
        last.file
            .write_all_at(&bytes[last_group_at..offset], last_group_at as u64)
            .map_err(OpenError::io("write", &path))?;
    }
    last.file.sync_data().map_err(OpenError::io("sync", &path))?;
    disk.sync_dir(&config.dir).map_err(OpenError::io("sync directory", &config.dir))?;
    Ok(replay.into_recovery(&segments, offset, torn_bytes as u64))
}

fn open_segment(disk: &dyn Disk, config: &LogConfig, number: u32) -> Result<Segment, OpenError> {
    let path = config.dir.join(segment_name(number));
    let file = disk.open(&path).map_err(OpenError::io("open", &path))?;
    let len = file.len().map_err(OpenError::io("read", &path))?;
    let mut bytes = vec![0; len.min(SEGMENT_HEADER_BYTES as u64) as usize];
    file.read_exact_at(&mut bytes, 0).map_err(OpenError::io("read", &path))?;
    let header = SegmentHeader::decode(&bytes, &config.identity)
        .map_err(|error| judge(u64::from(number), 0, error))?;
    if header.segment != u64::from(number) {
        let what = format!("this is segment {} under another's name", header.segment);
        return Err(OpenError::damaged(u64::from(number), 0, what));
    }
    if header.len != len {
        let what = format!("the file has {len} bytes, its header says {}", header.len);
        return Err(OpenError::damaged(u64::from(number), 0, what));
    }
    Ok(Segment { number, file: Arc::from(file), header })
}

fn read_bytes(config: &LogConfig, segment: &Segment, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
    let path = config.dir.join(segment_name(segment.number));
    bytes.clear();
    bytes.resize(segment.header.len as usize, 0);
    segment.file.read_exact_at(bytes, 0).map_err(OpenError::io("read", &path))
}

fn judge(segment: u64, offset: usize, error: FormatError) -> OpenError {
    match error {
        FormatError::Version(_, found) => OpenError::Version { segment, found, known: VERSION },
        error => OpenError::damaged(segment, offset as u64, error.to_string()),
    }
}

impl<'a> Replay<'a> {
    fn new(config: &'a LogConfig, mark: Mark, first: &Segment) -> Self {
        let summary = first.header.summary.clone();
        let purged = summary.purged.map(|purged| purged.index);
        let missing_to = summary.last.map(|last| last.index).filter(|last| Some(*last) > purged);
        Self {
            config,
            mark,
            entries: Entries::new(config.cache_bytes),
            summary,
            missing_to,
            highest_index: BTreeMap::new(),
            group: first.header.first_group - 1,
            hash: first.header.hash_before,
            groups: 0,
        }
    }

    /// Reads the groups of one segment; `next` is the first group of the segment after it. Gives
    /// the bytes at which its last group starts and ends.
    fn read_segment(
        &mut self,
        segment: &Segment,
        bytes: &[u8],
        next: Option<u64>,
    ) -> Result<(usize, usize), OpenError> {
        let number = u64::from(segment.number);
        self.highest_index.insert(segment.number, None);
        let header = &segment.header;
        if header.first_group != self.group + 1 || header.hash_before != self.hash {
            return Err(OpenError::damaged(number, 0, "it does not continue the segment before"));
        }
        if header.summary != self.summary {
            let what = "its header does not sum up the segments before";
            return Err(OpenError::damaged(number, 0, what));
        }
        let (mut start, mut at) = (SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
        while next.is_none_or(|next| self.group + 1 < next) && at < bytes.len() {
            let group = match read_group(&bytes[at..], &self.config.identity) {
                Ok(group) => group,
                Err(error) => {
                    self.check_torn(number, bytes, at, error, next)?;
                    break;
                }
            };
            self.read_group(segment.number, at, &group)?;
            (start, at) = (at, at + group.len);
        }
        match next {
            Some(next) if self.group + 1 != next => {
                let what = format!("group {} is missing", self.group + 1);
                Err(OpenError::damaged(number, at as u64, what))
            }
            _ => Ok((start, at)),
        }
    }

    fn read_group(&mut self, segment: u32, at: usize, group: &Group<'_>) -> Result<(), OpenError> {
        let damaged = |what: String| OpenError::damaged(u64::from(segment), at as u64, what);
        let expected = self.group + 1;
        if group.number != expected {
            return Err(damaged(format!("group {} where {expected} should be", group.number)));
        }
        if group.hash_before != self.hash {
            return Err(damaged(format!("group {expected} does not continue the one before")));
        }
        if self.mark.group == group.number && self.mark.hash != group.hash {
            return Err(damaged(format!("group {expected} is not the one that was marked")));
        }
        let (mut records, mut read) = (0, 0);
        while read < group.body.len() {
            let (record, len) = read_record(&group.body[read..])
                .map_err(|error| damaged(format!("in group {expected}: {error}")))?;
            self.take(segment, at + GROUP_HEADER_BYTES + read, &record)
                .map_err(|what| damaged(format!("in group {expected}: {what}")))?;
            records += 1;
            read += len;
        }
        if records != group.records {
            return Err(damaged(format!("group {expected} lacks records")));
        }
        self.group = group.number;
        self.hash = group.hash;
        self.groups += 1;
        Ok(())
    }

    fn take(&mut self, segment: u32, at: usize, record: &Record<'_>) -> Result<(), String> {
        match *record {
            Record::Entry { index, term, kind, payload } => {
                if self.summary.last.is_some_and(|last| index != last.index + 1) {
                    return Err(format!("entry {index} after {:?}", self.summary.last));
                }
                let payload = Bytes::copy_from_slice(payload);
                let entry = LogEntry { index, term, kind, payload };
                self.entries.push_stored(entry, segment, at as u32);
                let highest = self.highest_index.entry(segment).or_default();
                *highest = (*highest).max(Some(index));
            }
            Record::Truncate(kept) => {
                let index = kept.map(|kept| kept.index);
                self.entries.truncate_after(index);
                self.missing_to = self.missing_to.min(index);
                let term = index.and_then(|index| self.entries.term_at(index));
                if kept.is_some_and(|kept| term.is_some_and(|term| term != kept.term)) {
                    return Err(format!("truncation after {kept:?}, which has term {term:?}"));
                }
            }
            Record::Purge(upto) => self.entries.purge(upto.index),
            Record::Vote(_) | Record::Committed(_) => {}
        }
        self.summary.take(record);
        let purged = self.summary.purged.map(|purged| purged.index);
        self.missing_to = self.missing_to.filter(|missing_to| Some(*missing_to) > purged);
        Ok(())
    }

    /// Accepts a bad group only as the torn end of the log.
    fn check_torn(
        &self,
        segment: u64,
        bytes: &[u8],
        at: usize,
        error: FormatError,
        next: Option<u64>,
    ) -> Result<(), OpenError> {
        let expected = self.group + 1;
        if planted::is(Bug::DamageTakenForTorn) && next.is_none() {
            return Ok(());
        }
        let damaged = |why: &str| {
            let what = format!("group {expected} is bad ({error}), {why}");
            Err(OpenError::damaged(segment, at as u64, what))
        };
        if next.is_some() {
            return damaged("though a later segment follows");
        }
        if expected <= self.mark.group {
            return damaged("though the durable mark covers it");
        }
        let most = expected + ((bytes.len() - at) / SECTOR) as u64;
        for later in (at + SECTOR..bytes.len()).step_by(SECTOR) {
            // Its number alone rules out nearly all that only looks like a group.
            let number = group_number(&bytes[later..]);
            if number.is_none_or(|number| number < expected || number > most) {
                continue;
            }
            if let Ok(group) = read_group(&bytes[later..], &self.config.identity) {
                return damaged(&format!("though group {} at byte {later} is valid", group.number));
            }
        }
        Ok(())
    }

    /// Checks what only the end can tell.
    fn check_complete(&self, last: &Segment) -> Result<(), OpenError> {
        if self.mark.group > self.group && !planted::is(Bug::DamageTakenForTorn) {
            let what = format!(
                "the log ends with group {}, but group {} was durable",
                self.group, self.mark.group
            );
            return Err(OpenError::damaged(u64::from(last.number), 0, what));
        }
        if let Some(missing_to) = self.missing_to {
            let first = self.highest_index.keys().next().copied().unwrap_or_default();
            let what = format!("entries up to {missing_to} were in a segment that is missing");
            return Err(OpenError::damaged(u64::from(first.saturating_sub(1)), 0, what));
        }
        Ok(())
    }

    /// Bytes after the last group up to the last one that is not zero, in whole sectors.
    fn end_of_writing(&self, bytes: &[u8], offset: usize) -> usize {
        let rest = &bytes[offset..];
        let written = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        written.next_multiple_of(SECTOR).min(rest.len())
    }

    fn into_recovery(self, segments: &[Segment], offset: usize, torn_bytes: u64) -> Recovery {
        let last = &segments[segments.len() - 1];
        let there = self.entries.range();
        let recovered = Recovered {
            segments: segments.len() as u64,
            groups: self.groups,
            entries: there.end - there.start,
            torn_bytes,
            duration_ns: 0,
        };
        let mut highest_index = self.highest_index;
        highest_index.entry(last.number).or_default();
        let tail = Tail {
            segment: last.number,
            file: Arc::clone(&last.file),
            len: last.header.len,
            offset: offset as u64,
            group: self.group,
            hash: self.hash,
            summary: self.summary,
            highest_index,
        };
        let segments = segments.iter().map(|it| (it.number, Arc::clone(&it.file))).collect();
        Recovery { tail, recovered, entries: self.entries, segments }
    }
}
