//! How much room a node needs on its disk, and from which bounds on it says so and stops.
//!
//! A storage error ends a node, so it must never meet a full disk: `ENOSPC` in the middle of a
//! checkpoint cannot be taken back. What a node may still write at once, whatever is asked of it:
//!
//! ```text
//! log        one segment being filled with zeros ahead                              64 MiB
//!            a group that is larger than a segment is at most a few entries          8 MiB
//! checkpoint the redo file: every row that changed since the last one. The log that
//!            changed them is at most 64 MiB, a command of 60 bytes changes a row of
//!            200: 4 x 64 MiB, and never more than all rows there are            ≤ state
//!            the same rows into sled, whose file only grows                     ≤ state
//! what comes of 500 ms until the next look, at 100 MB/s of somebody else            50 MiB
//! ```
//!
//! So the lower bound, under which a node stores nothing more, is 122 MiB and twice the state, the
//! latter at most 512 MiB. That limit is the table's estimate and no proof: commands that change
//! far more rows than they have bytes, one after the other on a state of more than 256 MiB, make a
//! larger checkpoint. Who has such a state raises the upper bound, which stops them earlier.
//!
//! Three things that take more are not in it, because they can wait: the log that is kept for a
//! peer which is being sent a snapshot is let go while 256 MiB are left above the lower bound; a
//! snapshot that is received is given up once the lower bound is crossed, and put into place only
//! where that leaves as much free; and the state's file is written anew only under the same
//! condition.
//!
//! The upper bound, under which `NOSPACE` stands, is the lower one and what the cluster goes on to
//! write then: heartbeats, returns and removals make the log as long as it ever gets, which is
//! 64 MiB kept, 64 MiB since the checkpoint and the segments that these begin and end in: two more
//! than a young log has, 128 MiB. An operator may raise the upper bound, in bytes or percent, and
//! cannot lower it.
//!
//! Both bounds have to be left behind by a quarter before they are forgotten, so that a disk at the
//! edge does not change the cluster's mind twice a second.
//!
//! The node's other file is a scheduled backup, written by a part of its own that gives up where
//! there is no room. What this leaves to others: what is refused (`lease`: what takes something new
//! while the alarm stands), what a node without room does (`raft`).

use std::fs;
use std::path::Path;

use crate::config::alarms::MinFree;

/// The two bounds, in free bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bounds {
    /// Below it `NOSPACE` stands.
    pub(crate) alarm_bytes: u64,
    /// Below it nothing is stored any more.
    pub(crate) stop_bytes: u64,
}

impl Bounds {
    /// Of a node with so much state, on a file system of that size.
    pub(crate) fn of(configured: MinFree, total_bytes: u64, state_bytes: u64) -> Self {
        let checkpoint_bytes = state_bytes.saturating_mul(2).min(MAX_CHECKPOINT_BYTES);
        let stop_bytes = SEGMENT_BYTES + GROUP_BYTES + SLACK_BYTES + checkpoint_bytes;
        let needed_bytes = stop_bytes + LOG_GROWTH_BYTES;
        Self { alarm_bytes: configured.bytes_of(total_bytes).max(needed_bytes), stop_bytes }
    }
}

/// Where a bound has to be left behind once it was crossed.
pub(crate) fn left_behind(bound_bytes: u64) -> u64 {
    bound_bytes.saturating_add(bound_bytes / 4)
}

/// What a data directory holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sizes {
    pub(crate) data_bytes: u64,
    pub(crate) state_bytes: u64,
}

impl Sizes {
    /// Looks; blocks on the disk. What comes or goes meanwhile is not counted.
    pub(crate) fn of(data_dir: &Path) -> Self {
        let state_bytes = bytes_below(&data_dir.join("state"), DEPTH);
        Self { data_bytes: bytes_below(data_dir, DEPTH), state_bytes }
    }
}

fn bytes_below(dir: &Path, depth: u32) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() && depth > 0 => bytes_below(&entry.path(), depth - 1),
            Ok(metadata) if metadata.is_file() => metadata.len(),
            _ => 0,
        })
        .sum()
}

/// Bytes as people read them.
pub(crate) fn shown(bytes: u64) -> String {
    let (unit, name) = match bytes {
        ..0x4000_0000 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    let tenths = bytes.saturating_mul(10) / unit;
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}

const SEGMENT_BYTES: u64 = 64 << 20;
const GROUP_BYTES: u64 = 8 << 20;
const SLACK_BYTES: u64 = 50 << 20;
const MAX_CHECKPOINT_BYTES: u64 = 512 << 20;
const LOG_GROWTH_BYTES: u64 = 128 << 20;
/// Nothing of ours lies deeper.
const DEPTH: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_comes_before_the_stop_whatever_is_configured() {
        let mib = |number: u64| number << 20;
        for (configured, total, state, alarm, stop) in [
            (MinFree::Bytes(mib(1)), mib(10_000), 0, mib(250), mib(122)),
            (MinFree::Bytes(mib(256)), mib(10_000), 0, mib(256), mib(122)),
            (MinFree::Bytes(mib(256)), mib(10_000), mib(10), mib(270), mib(142)),
            (MinFree::Percent(5), mib(100_000), mib(10), mib(5_000), mib(142)),
            (MinFree::Percent(1), mib(1_000), mib(4_000), mib(762), mib(634)),
        ] {
            let bounds = Bounds::of(configured, total, state);
            assert_eq!((bounds.alarm_bytes, bounds.stop_bytes), (alarm, stop), "{configured}");
        }
    }

    #[test]
    fn what_lies_in_the_directory_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("state/generation-1")).unwrap();
        fs::write(dir.path().join("state/generation-1/db"), [0; 300]).unwrap();
        fs::write(dir.path().join("identity"), [0; 20]).unwrap();
        let sizes = Sizes::of(dir.path());
        assert_eq!(sizes, Sizes { data_bytes: 320, state_bytes: 300 });
        assert_eq!(Sizes::of(&dir.path().join("none")), Sizes::default());
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 MiB"),
            (188_743_680, "180 MiB"),
            (1 << 30, "1 GiB"),
            ((1 << 30) + (1 << 29), "1.5 GiB"),
        ] {
            assert_eq!(shown(bytes), text);
        }
    }
}
