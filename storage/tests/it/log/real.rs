//! The log with its threads on the machine's own filesystem.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::log::{Log, LogConfig, LogEntry};
use storage::seam::{RealClock, RealDisk};

const WRITERS: u64 = 4;
const BATCHES: u64 = 250;
const BATCH: u64 = 10;

fn open(config: &LogConfig) -> Log {
    Log::open(Arc::new(RealDisk), Arc::new(RealClock::new()), config.clone()).unwrap().0
}

fn payload(index: u64) -> Bytes {
    index.to_le_bytes().repeat(1 + (index % 13) as usize).into()
}

/// Appends from several threads, each waiting for its batch before the next.
fn append_concurrently(log: &Log) {
    let next = Mutex::new(1_u64);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..BATCHES {
                    let (sender, receiver) = sync_channel(1);
                    {
                        let mut next = next.lock();
                        let batch = (*next..*next + BATCH).map(|index| LogEntry {
                            index,
                            term: 1 + index / 1000,
                            kind: 1,
                            payload: payload(index),
                        });
                        *next += BATCH;
                        let done = Box::new(move |result| sender.send(result).unwrap());
                        log.append(batch.collect(), done);
                    }
                    receiver.recv().unwrap().unwrap();
                }
            });
        }
    });
}

#[test]
fn ten_thousand_entries_of_concurrent_batches_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = LogConfig::new(dir.path().join("log"), [9; 16]);
    config.segment_bytes = 128 << 10;
    config.cache_bytes = 64 << 10;
    let log = open(&config);
    append_concurrently(&log);
    let metrics = log.metrics();
    assert_eq!(metrics.entries, WRITERS * BATCHES * BATCH);
    assert_eq!((metrics.queued, metrics.queued_bytes, metrics.poisoned), (0, 0, false));
    assert_eq!(metrics.sync.count(), metrics.groups);
    assert!(metrics.rolls > 3 && metrics.groups <= WRITERS * BATCHES);
    log.close().unwrap();

    for entry in std::fs::read_dir(&config.dir).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(std::fs::metadata(&config.dir).unwrap().permissions().mode() & 0o777, 0o700);

    let log = open(&config);
    let entries = log.read(0..u64::MAX, u64::MAX).unwrap();
    assert_eq!(entries.len() as u64, WRITERS * BATCHES * BATCH);
    for (at, entry) in entries.iter().enumerate() {
        let index = at as u64 + 1;
        assert_eq!((entry.index, entry.term), (index, 1 + index / 1000));
        assert_eq!(entry.payload, payload(index));
    }
    assert!(log.metrics().cached_bytes <= config.cache_bytes);
}
