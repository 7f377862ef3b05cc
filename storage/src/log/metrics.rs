//! What the log tells about itself: counters and one histogram, copied out whole.

/// Upper bounds of the histogram's buckets in nanoseconds: 0.25 ms, then doubling to 8.192 s.
pub const SYNC_BOUNDS_NS: [u64; 16] = [
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    4_000_000,
    8_000_000,
    16_000_000,
    32_000_000,
    64_000_000,
    128_000_000,
    256_000_000,
    512_000_000,
    1_024_000_000,
    2_048_000_000,
    4_096_000_000,
    8_192_000_000,
];

/// Durations by bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationHistogram {
    /// Observations at or under the bound of the same place in [`SYNC_BOUNDS_NS`], not cumulative;
    /// the last one counts what was over all bounds.
    pub counts: [u64; SYNC_BOUNDS_NS.len() + 1],
    /// Sum of all observations in nanoseconds.
    pub sum_ns: u64,
    /// Greatest observation in nanoseconds.
    pub max_ns: u64,
}

impl DurationHistogram {
    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn observe(&mut self, duration_ns: u64) {
        let bucket = SYNC_BOUNDS_NS.partition_point(|bound| *bound < duration_ns);
        self.counts[bucket] += 1;
        self.sum_ns = self.sum_ns.saturating_add(duration_ns);
        self.max_ns = self.max_ns.max(duration_ns);
    }
}

/// Counters since the log was opened, and how things stand now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogMetrics {
    /// Groups written; each cost one `fdatasync`.
    pub groups: u64,
    /// Records in those groups.
    pub records: u64,
    /// Bytes of those groups, padding included; zero-filling and headers are not counted.
    pub bytes_written: u64,
    /// Duration of the `fdatasync` of each group.
    pub sync: DurationHistogram,
    /// Segments started.
    pub rolls: u64,
    /// Rolls that had to wait until the next segment was ready.
    pub rolls_that_waited: u64,
    /// Entries that were read from disk because the cache no longer had them.
    pub entries_read_from_disk: u64,
    /// Operations that wait for the writer now.
    pub queued: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Segments on disk now.
    pub segments: u64,
    /// Entries in the log now.
    pub entries: u64,
    /// Bytes in the payload cache now.
    pub cached_bytes: u64,
    /// Whether a write failed, so that nothing is accepted any more.
    pub poisoned: bool,
    /// Bytes that were cut off at the start: a group that was being written at a crash.
    pub torn_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = DurationHistogram::default();
        for duration_ns in [0, 250_000, 250_001, 8_192_000_000, u64::MAX] {
            histogram.observe(duration_ns);
        }
        assert_eq!((histogram.counts[0], histogram.counts[1]), (2, 1));
        assert_eq!((histogram.counts[15], histogram.counts[16]), (1, 1));
        assert_eq!((histogram.count(), histogram.max_ns), (5, u64::MAX));
    }
}
