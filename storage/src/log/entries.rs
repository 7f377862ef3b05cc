//! The entries of the log in memory: where each one is on disk, and the payloads of the newest.
//!
//! A slot costs 24 bytes an entry. The payload cache is one contiguous run that ends with the last
//! entry; an entry leaves it from the front when the cache is over its bound, and only after it was
//! written, so everything can be read at any time from one of the two places.

use std::collections::VecDeque;
use std::ops::Range;

use super::{LogEntry, LogPosition};

/// Where one entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) term: u64,
    /// Segment number; 0 while the entry waits for the writer.
    pub(crate) segment: u32,
    /// Byte of the record in the segment; the ticket of the append while it waits.
    pub(crate) offset: u32,
    /// Bytes of the payload.
    pub(crate) len: u32,
}

/// One entry as a reader finds it.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Cached(LogEntry),
    Stored { index: u64, slot: Slot },
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    cache: VecDeque<LogEntry>,
    cached_bytes: u64,
    cache_bytes: u64,
}

/// What a cached entry costs beside its payload.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

impl Entries {
    pub(crate) fn new(cache_bytes: u64) -> Self {
        Self { cache_bytes, ..Self::default() }
    }

    /// Index range of what is there.
    pub(crate) fn range(&self) -> Range<u64> {
        self.first..self.first + self.slots.len() as u64
    }

    pub(crate) fn last(&self) -> Option<LogPosition> {
        let slot = self.slots.back()?;
        Some(LogPosition { index: self.range().end - 1, term: slot.term })
    }

    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        self.slot(index).map(|slot| slot.term)
    }

    pub(crate) fn slot(&self, index: u64) -> Option<Slot> {
        let at = index.checked_sub(self.first)?;
        self.slots.get(usize::try_from(at).ok()?).copied()
    }

    /// Appends an entry that waits for the writer under `ticket`.
    pub(crate) fn push_waiting(&mut self, entry: LogEntry, ticket: u32) {
        self.push(entry, 0, ticket);
    }

    /// Appends an entry that is on disk.
    pub(crate) fn push_stored(&mut self, entry: LogEntry, segment: u32, offset: u32) {
        self.push(entry, segment, offset);
        self.evict();
    }

    /// Notes where the writer put an entry, unless it was truncated or purged meanwhile.
    pub(crate) fn place(&mut self, index: u64, ticket: u32, segment: u32, offset: u32) {
        let Some(at) = index.checked_sub(self.first) else { return };
        if let Some(slot) = self.slots.get_mut(at as usize)
            && slot.segment == 0
            && slot.offset == ticket
        {
            slot.segment = segment;
            slot.offset = offset;
        }
    }

    /// Forgets what comes after `kept`; `None`: everything.
    pub(crate) fn truncate_after(&mut self, kept: Option<u64>) {
        let keep = kept.map_or(0, |kept| (kept + 1).saturating_sub(self.first));
        while self.slots.len() as u64 > keep {
            self.slots.pop_back();
            if let Some(entry) = self.cache.pop_back() {
                self.cached_bytes -= cost(&entry);
            }
        }
    }

    /// Forgets what comes up to `upto`, with it.
    pub(crate) fn purge(&mut self, upto: u64) {
        while !self.slots.is_empty() && self.first <= upto {
            if self.cache.len() == self.slots.len() {
                self.drop_oldest_cached();
            }
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Brings the cache under its bound as far as the writer has come.
    pub(crate) fn evict(&mut self) {
        while self.cached_bytes > self.cache_bytes {
            let oldest = self.slots.len() - self.cache.len();
            if self.slots.get(oldest).is_none_or(|slot| slot.segment == 0) {
                return;
            }
            self.drop_oldest_cached();
        }
    }

    /// The entry at `index`, which must be in [`Entries::range`].
    pub(crate) fn find(&self, index: u64) -> Option<Found> {
        let slot = self.slot(index)?;
        let cached_from = self.range().end - self.cache.len() as u64;
        let found = match index.checked_sub(cached_from) {
            Some(at) => Found::Cached(self.cache.get(at as usize)?.clone()),
            None => Found::Stored { index, slot },
        };
        Some(found)
    }

    /// Whether all of `range` that exists is in memory.
    pub(crate) fn is_cached(&self, range: &Range<u64>) -> bool {
        let there = self.range();
        let start = range.start.max(there.start);
        start >= range.end.min(there.end) || start >= there.end - self.cache.len() as u64
    }

    /// Bytes that the cache holds, with what it costs to hold them.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    fn push(&mut self, entry: LogEntry, segment: u32, offset: u32) {
        if self.slots.is_empty() {
            self.first = entry.index;
        }
        assert_eq!(entry.index, self.range().end, "log entries follow one another");
        let len = entry.payload.len() as u32;
        self.slots.push_back(Slot { term: entry.term, segment, offset, len });
        self.cached_bytes += cost(&entry);
        self.cache.push_back(entry);
    }

    fn drop_oldest_cached(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cached_bytes -= cost(&entry);
        }
    }
}

fn cost(entry: &LogEntry) -> u64 {
    entry.payload.len() as u64 + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { index, term, kind: 0, payload: Bytes::from_static(b"0123456789") }
    }

    #[test]
    fn a_slot_is_24_bytes() {
        assert_eq!(size_of::<Slot>(), 24);
    }

    #[test]
    fn a_late_place_does_not_touch_the_successor_of_a_truncated_entry() {
        let mut entries = Entries::new(1 << 20);
        entries.push_waiting(entry(5, 1), 10);
        entries.truncate_after(None);
        entries.push_waiting(entry(5, 2), 11);
        entries.place(5, 10, 3, 4096);
        assert_eq!(entries.slot(5).map(|slot| slot.segment), Some(0));
        entries.place(5, 11, 4, 8192);
        let slot = entries.slot(5).unwrap();
        assert_eq!((slot.segment, slot.offset, slot.term), (4, 8192, 2));
    }

    #[test]
    fn only_written_entries_leave_the_cache_and_the_oldest_first() {
        let mut entries = Entries::new(2 * 74);
        for index in 1..=4 {
            entries.push_waiting(entry(index, 1), index as u32);
        }
        entries.evict();
        assert!(entries.is_cached(&(1..5)));
        entries.place(1, 1, 1, 4096);
        entries.evict();
        assert!(matches!(entries.find(1), Some(Found::Stored { index: 1, .. })));
        assert!(entries.is_cached(&(2..5)));
        entries.place(2, 2, 1, 4608);
        entries.place(3, 3, 1, 5120);
        entries.evict();
        assert!(!entries.is_cached(&(2..5)));
        assert!(entries.is_cached(&(3..9)));
        entries.purge(3);
        assert_eq!(entries.range(), 4..5);
        assert_eq!(entries.cached_bytes(), 74);
        entries.truncate_after(Some(3));
        assert_eq!((entries.last(), entries.cached_bytes()), (None, 0));
    }
}
