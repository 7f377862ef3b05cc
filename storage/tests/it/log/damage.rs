//! One flipped bit anywhere, a missing or foreign file: damage is always told, never a shorter log.

use std::path::{Path, PathBuf};

use storage::log::OpenError;
use storage::testing::MemoryDisk;

use super::{Call, Driver, IDENTITY, Model, open, small_config};

/// A log of three segments; what it amounts to before and after its last group.
struct Sample {
    disk: MemoryDisk,
    before_last: Model,
    whole: Model,
    /// Where the last group starts and ends in the last segment.
    last_group: (u64, u64),
}

const LAST_SEGMENT: u32 = 3;

fn segment(number: u32) -> PathBuf {
    small_config().dir.join(format!("segment-{number:010}.log"))
}

fn sample(clean_stop: bool) -> Sample {
    let disk = MemoryDisk::new();
    let mut driver = Driver::new(&disk).unwrap();
    driver.run(&[Call::Vote(3)]);
    for _ in 0..5 {
        driver.run(&[Call::Append { entries: 2, bytes: 700 }]);
    }
    let before_last = driver.model();
    let before = end_of_groups(&disk, LAST_SEGMENT);
    driver.run(&[Call::Append { entries: 1, bytes: 600 }]);
    let whole = driver.model();
    let last_group = (before, end_of_groups(&disk, LAST_SEGMENT));
    assert!(last_group.0 > 4096 && last_group.1 > last_group.0);
    assert!(!disk.file_paths().contains(&segment(LAST_SEGMENT + 1)));
    if clean_stop {
        driver.close();
    }
    disk.process_crash();
    Sample { disk, before_last, whole, last_group }
}

fn end_of_groups(disk: &MemoryDisk, number: u32) -> u64 {
    let bytes = disk.bytes(&segment(number)).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    written.next_multiple_of(512) as u64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Damaged,
    /// The last group is gone, all before it is there.
    Cut,
    Whole,
}

/// Opens a copy of the sample after `harm`.
fn verdict(sample: &Sample, harm: impl FnOnce(&MemoryDisk)) -> Result<Verdict, String> {
    let disk = sample.disk.copy();
    harm(&disk);
    match open(&disk) {
        Err(OpenError::Damaged { .. }) => Ok(Verdict::Damaged),
        Err(error) => Err(format!("{error:?}")),
        Ok((log, _, recovered)) => match Model::of(&log) {
            found if found == sample.whole => Ok(Verdict::Whole),
            found if found == sample.before_last && recovered.torn_bytes > 0 => Ok(Verdict::Cut),
            found => Err(format!("{:?} of {:?}", found.last(), sample.whole.last())),
        },
    }
}

fn check(sample: &Sample, expected: Verdict, what: &str, harm: impl FnOnce(&MemoryDisk)) {
    assert_eq!(verdict(sample, harm), Ok(expected), "{what}");
}

/// Flips a bit of every byte of every segment in turn and compares with what its place promises.
fn check_every_byte(clean_stop: bool) {
    let sample = sample(clean_stop);
    for number in 1..=LAST_SEGMENT {
        let path = segment(number);
        let len = sample.disk.bytes(&path).unwrap().len() as u64;
        let end = end_of_groups(&sample.disk, number);
        for offset in 0..len {
            let expected = match offset {
                // Zeros that nobody reads, or a torn end without a group.
                _ if offset >= end => Verdict::Whole,
                _ if number < LAST_SEGMENT || offset < sample.last_group.0 => Verdict::Damaged,
                _ if clean_stop => Verdict::Damaged,
                _ => Verdict::Cut,
            };
            let bit = (offset % 8) as u8;
            check(&sample, expected, &format!("segment {number}, byte {offset}"), |disk| {
                disk.flip_bit(&path, offset, bit).unwrap();
            });
        }
    }
}

#[test]
fn a_flipped_bit_is_damage_except_in_the_last_group_after_a_crash() {
    check_every_byte(false);
}

#[test]
fn a_flipped_bit_is_damage_in_the_last_group_too_after_a_clean_stop() {
    check_every_byte(true);
}

#[test]
fn every_bit_of_the_last_two_groups_is_guarded() {
    let sample = sample(false);
    let path = segment(LAST_SEGMENT);
    for offset in sample.last_group.0 - 512..sample.last_group.1 {
        let expected = if offset < sample.last_group.0 { Verdict::Damaged } else { Verdict::Cut };
        for bit in 0..8 {
            check(&sample, expected, &format!("byte {offset}, bit {bit}"), |disk| {
                disk.flip_bit(&path, offset, bit).unwrap();
            });
        }
    }
}

#[test]
fn every_bit_of_the_durable_mark_is_guarded() {
    let sample = sample(true);
    let path = small_config().dir.join("mark");
    for offset in 0..sample.disk.bytes(&path).unwrap().len() as u64 {
        for bit in 0..8 {
            check(&sample, Verdict::Damaged, &format!("byte {offset}, bit {bit}"), |disk| {
                disk.flip_bit(&path, offset, bit).unwrap();
            });
        }
    }
}

#[test]
fn what_is_missing_or_in_the_wrong_place_is_damage() {
    let clean = sample(true);
    let crashed = sample(false);
    let mark = small_config().dir.join("mark");
    let other = {
        let disk = MemoryDisk::new();
        let mut driver = Driver::new(&disk).unwrap();
        driver.run(&[Call::Vote(3), Call::Append { entries: 2, bytes: 10 }]);
        disk.bytes(&segment(1)).unwrap()
    };
    let copy = |disk: &MemoryDisk, from: &Path, to: &Path| {
        disk.put(to, &disk.bytes(from).unwrap());
    };
    for number in 1..=LAST_SEGMENT {
        check(&clean, Verdict::Damaged, &format!("segment {number} is lost"), |disk| {
            disk.lose(&segment(number));
        });
        check(&crashed, Verdict::Damaged, &format!("segment {number} is lost"), |disk| {
            disk.lose(&segment(number));
        });
        check(&clean, Verdict::Damaged, &format!("segment {number} is empty"), |disk| {
            disk.put(&segment(number), b"");
        });
        check(&clean, Verdict::Damaged, &format!("segment {number} is cut short"), |disk| {
            let bytes = disk.bytes(&segment(number)).unwrap();
            disk.put(&segment(number), &bytes[..bytes.len() - 512]);
        });
    }
    check(&clean, Verdict::Damaged, "all segments are lost", |disk| {
        (1..=LAST_SEGMENT).for_each(|number| disk.lose(&segment(number)));
    });
    check(&clean, Verdict::Damaged, "the mark is lost", |disk| disk.lose(&mark));
    check(&clean, Verdict::Damaged, "a segment under another's name", |disk| {
        copy(disk, &segment(1), &segment(2));
    });
    check(&clean, Verdict::Damaged, "a segment twice", |disk| {
        copy(disk, &segment(3), &segment(4));
    });
    check(&clean, Verdict::Damaged, "a segment of another history", |disk| {
        disk.put(&segment(1), &other);
    });
    check(&clean, Verdict::Damaged, "a name that is none", |disk| {
        copy(disk, &segment(3), &small_config().dir.join("segment-4.log"));
    });
    check(&clean, Verdict::Damaged, "the last groups read as zeros", |disk| {
        let mut bytes = disk.bytes(&segment(LAST_SEGMENT)).unwrap();
        bytes[4096..].fill(0);
        disk.put(&segment(LAST_SEGMENT), &bytes);
    });
    check(&crashed, Verdict::Damaged, "a group in the middle reads as zeros", |disk| {
        let mut bytes = disk.bytes(&segment(LAST_SEGMENT)).unwrap();
        bytes[4096..4096 + 512].fill(0);
        disk.put(&segment(LAST_SEGMENT), &bytes);
    });
    check(&crashed, Verdict::Damaged, "the last group is there twice", |disk| {
        let (from, to) = (crashed.last_group.0 as usize, crashed.last_group.1 as usize);
        let mut bytes = disk.bytes(&segment(LAST_SEGMENT)).unwrap();
        bytes.copy_within(from..to, to);
        disk.put(&segment(LAST_SEGMENT), &bytes);
    });
}

#[test]
fn a_log_of_another_directory_is_refused() {
    let sample = sample(true);
    let disk = sample.disk.copy();
    let path = small_config().dir.join("mark");
    let bytes = disk.bytes(&path).unwrap();
    assert_eq!(bytes[16..32], IDENTITY);
    let mut config = small_config();
    config.identity[3] ^= 1;
    let clock = std::sync::Arc::new(storage::testing::ManualClock::new(0));
    let result =
        storage::log::Log::open_stepped(std::sync::Arc::new(disk), clock, config).map(|_| ());
    assert!(matches!(result, Err(OpenError::Damaged { .. })), "{result:?}");
}

#[test]
fn a_record_that_rots_after_the_start_is_told_when_it_is_read() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::new(&disk).unwrap();
    driver.run(&[Call::Append { entries: 4, bytes: 600 }]);
    assert!(!driver.log.is_cached(&(1..2)));
    assert_eq!(driver.log.read(1..3, u64::MAX).unwrap().len(), 2);
    let path = segment(1);
    disk.flip_bit(&path, 4096 + 32 + 28 + 300, 0).unwrap();
    let result = driver.log.read(1..3, u64::MAX);
    assert!(matches!(result, Err(storage::log::LogError::Damaged { .. })), "{result:?}");
    assert_eq!(driver.log.read(2..3, u64::MAX).unwrap().len(), 1);
}
