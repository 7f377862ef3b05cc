//! A disk without room for the next segment: the log waits for it, and nothing is lost or failed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use storage::log::{Log, LogEntry, LogError};
use storage::seam::{Disk, DiskFile};
use storage::testing::{ManualClock, MemoryDisk};

use super::small_config;

/// A disk in memory that takes no new bytes for the next segment while it is full.
#[derive(Clone, Default)]
struct Tight {
    disk: MemoryDisk,
    full: Arc<AtomicBool>,
    refusals: Arc<AtomicU64>,
    /// Says that nothing is free, to who asks.
    says_full: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

struct TightFile {
    file: Box<dyn DiskFile>,
    full: Arc<AtomicBool>,
    refusals: Arc<AtomicU64>,
}

impl Disk for Tight {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.create(path)?;
        if path.file_name().is_some_and(|name| name == "prepared.tmp") {
            let (full, refusals) = (self.full.clone(), self.refusals.clone());
            return Ok(Box::new(TightFile { file, full, refusals }));
        }
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let says_full = self.says_full.load(Ordering::SeqCst);
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(if says_full { 0 } else { u64::MAX })
    }
}

impl DiskFile for TightFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // A group lies within the file; only zeros lengthen it.
        let grows = offset + bytes.len() as u64 > self.file.len()?;
        if grows && self.full.load(Ordering::SeqCst) {
            self.refusals.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// Starts an append of one entry; the channel tells what became of it.
fn append(log: &Log, index: u64) -> std::sync::mpsc::Receiver<Result<(), LogError>> {
    let (done, answer) = sync_channel(1);
    let payload = Bytes::from(vec![7; 900]);
    let entry = LogEntry { index, term: 1, kind: 0, payload };
    log.append(vec![entry], Box::new(move |result| drop(done.send(result))));
    answer
}

const LIVENESS: Duration = Duration::from_secs(60);

#[test]
fn a_log_without_room_for_its_next_segment_waits_for_it() {
    let tight = Tight::default();
    let clock = Arc::new(ManualClock::new(0));
    let (log, _) = Log::open(Arc::new(tight.clone()), clock.clone(), small_config()).unwrap();
    assert!(append(&log, 1).recv_timeout(LIVENESS).unwrap().is_ok());
    tight.full.store(true, Ordering::SeqCst);
    // Two segments hold eight each, if the second was ready; the rest fits into the queue.
    let answers: Vec<_> = (2..=22).map(|index| append(&log, index)).collect();
    while tight.refusals.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    assert!(answers[20].try_recv().is_err(), "it has nowhere to go, and is no failure");
    assert!(!log.metrics().poisoned);
    tight.full.store(false, Ordering::SeqCst);
    for answer in answers {
        assert!(answer.recv_timeout(LIVENESS).unwrap().is_ok());
    }
    log.close().unwrap();
    let (log, recovered) = Log::open(Arc::new(tight), clock, small_config()).unwrap();
    assert_eq!(recovered.entries, 22);
    log.close().unwrap();
}

#[test]
fn a_log_that_waits_for_room_can_be_closed() {
    let tight = Tight::default();
    let clock = Arc::new(ManualClock::new(0));
    let (log, _) = Log::open(Arc::new(tight.clone()), clock, small_config()).unwrap();
    tight.full.store(true, Ordering::SeqCst);
    let answers: Vec<_> = (1..=20).map(|index| append(&log, index)).collect();
    while tight.refusals.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    assert!(log.close().is_err(), "what waits was not written");
    assert!(answers[19].recv_timeout(LIVENESS).unwrap().is_err());
}

#[test]
fn a_log_that_waits_for_room_writes_no_zeros_meanwhile() {
    let tight = Tight::default();
    let clock = Arc::new(ManualClock::new(0));
    let (log, _) = Log::open(Arc::new(tight.clone()), clock, small_config()).unwrap();
    assert!(append(&log, 1).recv_timeout(LIVENESS).unwrap().is_ok());
    tight.says_full.store(true, Ordering::SeqCst);
    // As above: the second segment may have been ready, and the third is not begun.
    let answers: Vec<_> = (2..=22).map(|index| append(&log, index)).collect();
    let asked = tight.asked.load(Ordering::SeqCst);
    while tight.asked.load(Ordering::SeqCst) < asked + 3 {
        std::thread::yield_now();
    }
    let begun = tight.disk.exists(&small_config().dir.join("prepared.tmp"));
    assert!(!begun.unwrap(), "it began what it had no room for");
    assert!(answers[20].try_recv().is_err() && !log.metrics().poisoned);
    tight.says_full.store(false, Ordering::SeqCst);
    for answer in answers {
        assert!(answer.recv_timeout(LIVENESS).unwrap().is_ok());
    }
    log.close().unwrap();
}

#[test]
fn a_group_larger_than_a_segment_waits_for_room_too() {
    let tight = Tight::default();
    let clock = Arc::new(ManualClock::new(0));
    let (log, _) = Log::open(Arc::new(tight.clone()), clock, small_config()).unwrap();
    // The next segment is ready: it was asked for first.
    assert!(append(&log, 1).recv_timeout(LIVENESS).unwrap().is_ok());
    tight.full.store(true, Ordering::SeqCst);
    let payload = Bytes::from(vec![7; 3 * usize::try_from(small_config().segment_bytes).unwrap()]);
    let (done, answer) = sync_channel(1);
    let entry = LogEntry { index: 2, term: 1, kind: 0, payload };
    log.append(vec![entry], Box::new(move |result| drop(done.send(result))));
    while tight.refusals.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    assert!(answer.try_recv().is_err() && !log.metrics().poisoned);
    tight.full.store(false, Ordering::SeqCst);
    assert!(answer.recv_timeout(LIVENESS).unwrap().is_ok());
    log.close().unwrap();
}
