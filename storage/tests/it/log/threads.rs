//! The log with its threads on a disk in memory: bounds, poisoning, the end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use storage::log::{Completion, Log, LogEntry, LogError, LogPosition};
use storage::testing::{Fault, FaultKind, ManualClock, MemoryDisk, OperationKind};

use super::small_config;

fn open(disk: &MemoryDisk) -> Log {
    let clock = Arc::new(ManualClock::new(0));
    Log::open(Arc::new(disk.clone()), clock, small_config()).unwrap().0
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    LogEntry { index, term: 1, kind: 0, payload: vec![index as u8; bytes].into() }
}

fn answer() -> (Completion, Receiver<Result<(), LogError>>) {
    let (sender, receiver) = sync_channel(1);
    (Box::new(move |result| sender.send(result).unwrap()), receiver)
}

#[test]
fn callers_that_are_faster_than_the_disk_are_held_to_the_bound() {
    let log = open(&MemoryDisk::new());
    let mut answers = Vec::new();
    for index in 1..=2000 {
        let (done, receiver) = answer();
        log.append(vec![entry(index, 300)], done);
        assert!(log.metrics().queued_bytes <= small_config().queue_bytes);
        answers.push(receiver);
    }
    for receiver in answers {
        receiver.recv().unwrap().unwrap();
    }
    assert_eq!(log.metrics().entries, 2000);
    assert!(log.metrics().rolls > 10);
    log.close().unwrap();
}

#[test]
fn entries_can_be_read_before_they_are_durable() {
    let disk = MemoryDisk::new();
    let (log, mut writer, _) = super::open(&disk).unwrap();
    let (done, receiver) = answer();
    log.append(vec![entry(1, 300), entry(2, 300)], done);
    assert_eq!(log.read(1..9, u64::MAX).unwrap().len(), 2);
    assert_eq!(log.state().last, Some(LogPosition { index: 2, term: 1 }));
    assert_eq!(log.state().durable, None);
    assert!(receiver.try_recv().is_err());
    writer.run_until_idle();
    receiver.recv().unwrap().unwrap();
    assert_eq!(log.state().durable, Some(LogPosition { index: 2, term: 1 }));
}

#[test]
fn a_read_stops_before_its_bound_but_gives_one() {
    let (log, _writer, _) = super::open(&MemoryDisk::new()).unwrap();
    log.append((1..=5).map(|index| entry(index, 100)).collect(), Box::new(|_| {}));
    for (range, max_bytes, expected) in [
        (1..6, 0, 1..2),
        (1..6, 99, 1..2),
        (1..6, 200, 1..3),
        (1..6, 299, 1..3),
        (0..3, 1000, 1..3),
        (4..100, 1000, 4..6),
        (6..100, 1000, 6..6),
        (3..3, 1000, 3..3),
    ] {
        let found = log.read(range.clone(), max_bytes).unwrap();
        let indexes: Vec<u64> = found.iter().map(|entry| entry.index).collect();
        assert_eq!(indexes, expected.collect::<Vec<_>>(), "{range:?} up to {max_bytes} bytes");
    }
}

#[test]
fn after_a_failed_sync_everything_gets_the_error_and_nothing_is_tried_again() {
    // The next write of a group is followed by its sync.
    let (log, disk) = failing(|disk| disk.operations() + 1);
    let (done, receiver) = answer();
    log.append(vec![entry(1, 10)], done);
    assert!(matches!(receiver.recv().unwrap(), Err(LogError::Io { action: "sync", .. })));
    let operations = disk.operations();
    let (done, receiver) = answer();
    log.save_vote(Bytes::from_static(b"vote"), done);
    assert!(matches!(receiver.recv().unwrap(), Err(LogError::Io { action: "sync", .. })));
    log.save_committed(Bytes::from_static(b"committed"));
    assert_eq!(log.state().committed, None);
    assert!(log.metrics().poisoned);
    assert!(log.close().is_err());
    assert_eq!(disk.operations(), operations);
}

/// An open log, idle, whose disk fails at the operation that `at` says.
fn failing(at: impl FnOnce(&MemoryDisk) -> u64) -> (Log, MemoryDisk) {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    // The next segment is made ready beside the writer; a mark waits for its turn behind that.
    let (done, receiver) = answer();
    log.checkpoint_mark(done);
    receiver.recv().unwrap().unwrap();
    disk.arm(Fault { at: at(&disk), kind: FaultKind::Error });
    (log, disk)
}

#[test]
fn a_failure_beside_the_writer_poisons_the_log_too() {
    let (log, disk) = failing(MemoryDisk::operations);
    let (done, receiver) = answer();
    log.checkpoint_mark(done);
    assert!(receiver.recv().unwrap().is_err());
    assert_eq!(disk.trace().last().map(|it| it.kind), Some(OperationKind::Create));
    assert!(log.close().is_err());
}

#[test]
fn a_closed_log_takes_nothing_and_says_so() {
    let log = open(&MemoryDisk::new());
    log.close().unwrap();
    let calls: [&dyn Fn(Completion); 5] = [
        &|done| log.append(vec![entry(1, 10)], done),
        &|done| log.save_vote(Bytes::new(), done),
        &|done| log.truncate_after(None, done),
        &|done| log.purge(LogPosition { index: 1, term: 1 }, done),
        &|done| log.checkpoint_mark(done),
    ];
    for call in calls {
        let (done, receiver) = answer();
        call(done);
        assert!(matches!(receiver.recv().unwrap(), Err(LogError::Closed)));
    }
    assert!(!log.metrics().poisoned);
    log.close().unwrap();
}

#[test]
fn the_last_handle_may_go_inside_a_completion() {
    let disk = MemoryDisk::new();
    let log = open(&disk);
    let (sender, receiver) = sync_channel(1);
    let handle = log.clone();
    let done = Box::new(move |result| {
        drop(handle);
        sender.send(result).unwrap();
    });
    log.append(vec![entry(1, 10)], done);
    drop(log);
    receiver.recv().unwrap().unwrap();
}
