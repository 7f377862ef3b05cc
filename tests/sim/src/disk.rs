//! A node's disk: `storage`'s disk in memory, with time, room and faults.
//!
//! It forgets what was not synced (see `storage::testing`). Here it also takes time, in
//! milliseconds of the run, for the log's group and for everything else ([`Pace`]); it may be slow;
//! a sync may fail; it may be full; and its power may go at any operation, in the middle of a
//! group or a checkpoint.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft::Pace;
use storage::seam::{Disk, DiskFile};
use storage::testing::{Fault, FaultKind, Loss, MemoryDisk, SeededEntropy};

use crate::time::Time;
use crate::trace::Trace;

/// A disk. A clone is another handle to the same one.
#[derive(Clone)]
pub(crate) struct SimDisk {
    inner: Arc<Inner>,
}

struct Inner {
    node: u64,
    memory: MemoryDisk,
    random: SeededEntropy,
    time: Time,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// What work beside the log has cost and was not waited for yet.
    owed: Duration,
    slow: Option<Duration>,
    full: bool,
    low: bool,
    fail_sync: bool,
    /// Operations until the power goes.
    cut_after: Option<u64>,
    /// The power goes at the next sync of the log.
    cut_at_log_sync: bool,
    /// Whether what was written to the log last lies in more than one sector.
    log_spans: bool,
    /// Whether the power went while such a group was not synced.
    is_torn: bool,
    off: bool,
    /// What faults came to.
    hits: u64,
    written: Written,
}

/// What was written to a disk since it was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Syncs of files and directories.
    pub(crate) syncs: u64,
}

impl SimDisk {
    /// A node's disk, with an empty data directory that is there for good: whoever makes a node
    /// makes that durable before anything else.
    pub(crate) fn new(node: u64, seed: u64, time: Time, trace: Arc<Trace>) -> Self {
        let memory = MemoryDisk::new();
        memory.put(&settings(), b"# a node");
        let inner = Inner {
            node,
            memory,
            random: SeededEntropy::new(seed),
            time,
            trace,
            state: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The power goes at the operation that comes `after` as many others.
    pub(crate) fn cut_after(&self, after: u64) {
        self.inner.state.lock().cut_after = Some(after);
    }

    /// The power goes when a group of the log is written and not yet synced.
    pub(crate) fn cut_at_log_sync(&self) {
        self.inner.state.lock().cut_at_log_sync = true;
    }

    /// Whether the power is off.
    pub(crate) fn is_off(&self) -> bool {
        self.inner.state.lock().off
    }

    /// The power goes now.
    pub(crate) fn turn_off(&self) {
        self.inner.state.lock().off = true;
        self.inner.memory.turn_off();
    }

    /// The power comes back; what was not synced is there, old or torn, as a seed says. A group of
    /// the log that the cut was meant for is torn for certain.
    pub(crate) fn power_cut(&self, seed: u64) {
        let is_torn = self.inner.state.lock().is_torn;
        let loss = if is_torn { Loss::Torn(seed) } else { Loss::Random(seed) };
        self.inner.memory.power_cut(loss);
        self.restore();
    }

    /// All that was stored is lost; the machine and its settings are not.
    pub(crate) fn wipe(&self) {
        let settings = settings();
        for path in self.inner.memory.file_paths().iter().filter(|path| **path != settings) {
            self.inner.memory.lose(path);
        }
        self.process_crash();
    }

    /// The process is another; nothing is lost.
    pub(crate) fn process_crash(&self) {
        self.inner.memory.process_crash();
        self.restore();
    }

    fn restore(&self) {
        let mut state = self.inner.state.lock();
        let State { slow, full, low, hits, written, .. } = *state;
        *state = State { slow, full, low, hits, written, ..State::default() };
    }

    /// What it was to meet and did not yet is forgotten.
    pub(crate) fn spare(&self) {
        let mut state = self.inner.state.lock();
        (state.cut_after, state.fail_sync, state.cut_at_log_sync) = (None, false, false);
    }

    /// Every sync takes so long; `None`: as usual.
    pub(crate) fn set_slow(&self, slow: Option<Duration>) {
        self.inner.state.lock().slow = slow;
    }

    /// The next sync fails.
    pub(crate) fn fail_next_sync(&self) {
        self.inner.state.lock().fail_sync = true;
    }

    /// Whether nothing may grow, and whether the disk says that it has little room.
    pub(crate) fn set_full(&self, full: bool, low: bool) {
        let mut state = self.inner.state.lock();
        (state.full, state.low) = (full, low);
    }

    /// Whether the disk says that it has little room; asking counts as a hit.
    pub(crate) fn is_low(&self) -> bool {
        let mut state = self.inner.state.lock();
        state.hits += u64::from(state.low);
        state.low
    }

    /// How often a fault of this disk was felt, and counts anew.
    pub(crate) fn take_hits(&self) -> u64 {
        std::mem::take(&mut self.inner.state.lock().hits)
    }

    /// What was written to it.
    pub(crate) fn written(&self) -> Written {
        self.inner.state.lock().written
    }

    /// Before a change: the power, the count, the time it takes.
    fn begin(&self, kind: Kind, path: &Path) -> Result<()> {
        let inner = &self.inner;
        let mut state = inner.state.lock();
        if let Some(left) = &mut state.cut_after {
            if *left == 0 {
                state.cut_after = None;
                state.off = true;
                state.hits += 1;
                inner.memory.turn_off();
            } else {
                *left -= 1;
            }
        }
        if kind == Kind::Sync && state.cut_at_log_sync && state.log_spans && is_of_log(path) {
            state.cut_at_log_sync = false;
            state.is_torn = true;
            state.off = true;
            state.hits += 1;
            inner.memory.turn_off();
        }
        state.written.syncs += u64::from(kind == Kind::Sync);
        let cost = match kind {
            Kind::Sync => self.sync_time(&mut state),
            Kind::Other => Duration::from_micros(20),
        };
        if !is_of_log(path) {
            state.owed += cost;
        }
        if kind == Kind::Sync && state.fail_sync && !state.off {
            state.fail_sync = false;
            state.hits += 1;
            let at = inner.memory.operations();
            inner.memory.arm(Fault { at, kind: FaultKind::Error });
        }
        inner.trace.note(
            inner.time.now_ns(),
            "disk",
            [inner.node, u64::from(kind == Kind::Sync), hash(path), u64::from(state.off)],
        );
        Ok(())
    }

    fn sync_time(&self, state: &mut State) -> Duration {
        let usual = Duration::from_micros(300 + self.inner.random.below(1_500));
        match state.slow {
            None => usual,
            Some(slow) => {
                state.hits += 1;
                slow + usual
            }
        }
    }

    fn refuse_growth(&self) -> Result<()> {
        let mut state = self.inner.state.lock();
        if state.full {
            state.hits += 1;
            return Err(Error::from(ErrorKind::StorageFull));
        }
        Ok(())
    }
}

impl Pace for SimDisk {
    fn log_write(&self) -> Duration {
        let mut state = self.inner.state.lock();
        self.sync_time(&mut state)
    }

    fn work(&self) -> Duration {
        std::mem::take(&mut self.inner.state.lock().owed)
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.begin(Kind::Other, path)?;
        self.inner.memory.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.inner.memory.list(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.memory.exists(path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        self.begin(Kind::Other, path)?;
        self.refuse_growth()?;
        let file = self.inner.memory.create(path)?;
        Ok(Box::new(SimFile { file, disk: self.clone(), path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let file = self.inner.memory.open(path)?;
        Ok(Box::new(SimFile { file, disk: self.clone(), path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.begin(Kind::Other, from)?;
        self.inner.memory.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.begin(Kind::Other, path)?;
        self.inner.memory.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.begin(Kind::Other, path)?;
        self.inner.memory.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.begin(Kind::Sync, dir)?;
        self.inner.memory.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        let _ = dir;
        let state = self.inner.state.lock();
        Ok(if state.full || state.low { 0 } else { u64::MAX })
    }
}

struct SimFile {
    file: Box<dyn DiskFile>,
    disk: SimDisk,
    path: PathBuf,
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.disk.begin(Kind::Other, &self.path)?;
        self.disk.inner.state.lock().written.bytes += bytes.len() as u64;
        if is_of_log(&self.path) {
            let last = offset + (bytes.len() as u64).saturating_sub(1);
            // A segment was opened under the name that it had while it was made ready.
            let is_mark = self.path.file_stem().is_some_and(|it| it == "mark");
            let is_group = !is_mark && offset >= SEGMENT_HEADER_BYTES;
            let spans = is_group && offset / SECTOR_BYTES != last / SECTOR_BYTES;
            self.disk.inner.state.lock().log_spans = spans;
        }
        if offset + bytes.len() as u64 > self.file.len()? {
            self.disk.refuse_growth()?;
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> Result<()> {
        self.disk.begin(Kind::Sync, &self.path)?;
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.disk.begin(Kind::Other, &self.path)?;
        self.file.set_len(len)
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }
}

/// Where a node keeps everything.
pub(crate) const DATA_DIR: &str = "/data";
/// Where the first group of a segment is.
const SEGMENT_HEADER_BYTES: u64 = 4_096;
/// What a power cut tears apart.
const SECTOR_BYTES: u64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sync,
    Other,
}

/// What a machine is given before anything else.
fn settings() -> PathBuf {
    Path::new(DATA_DIR).join("node.toml")
}

fn is_of_log(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "log")
}

fn hash(path: &Path) -> u64 {
    u64::from(crc32c::crc32c(path.as_os_str().as_encoded_bytes()))
}
