//! A disk that stops at a chosen operation, and the images a machine could find afterwards.
//!
//! It works on real files, because sled does. Beside them it keeps what is *durable*: the bytes a
//! file had at its last sync, the names a directory had at its last sync. When it stops, it writes
//! an image: everything as it is (the process was killed), only what is durable (the power was
//! cut), or a mixture by blocks and directories (the power was cut while the disk was writing).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::engine::{Change, EngineError, EnginePage, RowEngine, RowEngines};
use super::super::sled_engine::SledEngines;
use crate::seam::{Disk, DiskFile, RealDisk};

/// How the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The process is killed; the kernel keeps all that was written.
    Kill,
    /// The power is cut; nothing survives that was not synced.
    PowerCut,
    /// The power is cut; of what was not synced some survives, chosen by a seed.
    TornPowerCut(u64),
}

/// See the module.
pub(super) struct FaultDisk {
    root: PathBuf,
    image: PathBuf,
    state: Mutex<State>,
}

struct State {
    operations: u64,
    stop: Option<(u64, Stop)>,
    stopped: bool,
    kinds: BTreeMap<&'static str, u64>,
    /// Bytes at the last sync by inode; the open file keeps the inode from being used again.
    synced: BTreeMap<u64, (Arc<File>, Vec<u8>)>,
    names: BTreeMap<PathBuf, BTreeMap<String, u64>>,
}

impl FaultDisk {
    /// Works below `root`, which exists; stops before operation number `at`, counted from 1, and
    /// then leaves an image at `image`.
    pub(super) fn new(root: &Path, image: &Path, stop: Option<(u64, Stop)>) -> Arc<Self> {
        let state = State {
            operations: 0,
            stop,
            stopped: false,
            kinds: BTreeMap::new(),
            synced: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        Arc::new(Self { root: root.to_owned(), image: image.to_owned(), state: Mutex::new(state) })
    }

    pub(super) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    pub(super) fn stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Operations by kind.
    pub(super) fn kinds(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().kinds.clone()
    }

    /// Counts an operation; an error when the machine has stopped, or stops here. `torn` does part
    /// of the operation.
    fn step(&self, kind: &'static str, torn: impl FnOnce()) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(io::Error::other("the machine has stopped"));
        }
        state.operations += 1;
        *state.kinds.entry(kind).or_default() += 1;
        if let Some((at, stop)) = state.stop
            && state.operations == at
        {
            torn();
            state.stopped = true;
            self.write_image(&state, stop);
            return Err(io::Error::other("the machine stops"));
        }
        Ok(())
    }

    fn write_image(&self, state: &State, stop: Stop) {
        let mut random = match stop {
            Stop::TornPowerCut(seed) => seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            _ => 0,
        };
        self.copy(state, stop, &self.root, &self.image, &mut random);
    }

    fn copy(&self, state: &State, stop: Stop, from: &Path, to: &Path, random: &mut u64) {
        fs::create_dir_all(to).unwrap();
        let durable = match stop {
            Stop::Kill => false,
            Stop::PowerCut => true,
            Stop::TornPowerCut(_) => next(random).is_multiple_of(2),
        };
        let names = if durable {
            state.names.get(from).cloned().unwrap_or_default()
        } else {
            children(from)
        };
        for (name, inode) in names {
            let (source, target) = (from.join(&name), to.join(&name));
            let is_directory = state.names.contains_key(&source) || source.is_dir();
            if is_directory {
                self.copy(state, stop, &source, &target, random);
                continue;
            }
            let now = current_bytes(state, inode, &source);
            let synced = state.synced.get(&inode).map(|(_, bytes)| bytes.clone());
            // sled syncs these itself before it gives them their name.
            let synced = if name.starts_with("snap.") { Some(now.clone()) } else { synced };
            let bytes = match stop {
                Stop::Kill => now,
                Stop::PowerCut => synced.unwrap_or_default(),
                Stop::TornPowerCut(_) => mix(&synced.unwrap_or_default(), &now, random),
            };
            fs::write(target, bytes).unwrap();
        }
    }

    fn sync_file(&self, file: &Path) {
        let handle = Arc::new(File::open(file).unwrap());
        let inode = handle.metadata().unwrap().ino();
        let bytes = fs::read(file).unwrap();
        self.state.lock().synced.insert(inode, (handle, bytes));
    }
}

/// The bytes a file has now, also when its name is gone.
fn current_bytes(state: &State, inode: u64, path: &Path) -> Vec<u8> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode) {
        return fs::read(path).unwrap();
    }
    state.synced.get(&inode).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
}

/// Blocks of either, at the length of either.
fn mix(old: &[u8], new: &[u8], random: &mut u64) -> Vec<u8> {
    let length = if next(random).is_multiple_of(2) { old.len() } else { new.len() };
    let mut bytes = vec![0; length];
    for start in (0..length).step_by(BLOCK_BYTES) {
        let source = if next(random).is_multiple_of(2) { old } else { new };
        let end = (start + BLOCK_BYTES).min(length);
        if let Some(block) = source.get(start..end.min(source.len())) {
            bytes[start..start + block.len()].copy_from_slice(block);
        }
    }
    bytes
}

/// xorshift: enough to choose blocks.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 11
}

fn children(dir: &Path) -> BTreeMap<String, u64> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino())
        })
        .collect()
}

/// Copies a directory tree.
pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in children(from).into_keys() {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy_tree(&source, &target);
        } else {
            fs::copy(source, target).unwrap();
        }
    }
}

/// A disk of one machine; the stores share it.
pub(super) struct Machine(pub(super) Arc<FaultDisk>);

impl Disk for Machine {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if !path.exists() {
            self.0.step("create_dir", || {})?;
        }
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.step("create", || {})?;
        let file = RealDisk.create(path)?;
        Ok(Box::new(MachineFile { disk: Arc::clone(&self.0), path: path.to_owned(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.open(path)?;
        Ok(Box::new(MachineFile { disk: Arc::clone(&self.0), path: path.to_owned(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step("rename", || {})?;
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.step("remove", || {})?;
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let half = || {
            if let Some(name) = children(path).into_keys().next() {
                let _ = fs::remove_file(path.join(name));
            }
        };
        self.0.step("remove_dir", half)?;
        RealDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.step("sync_dir", || {})?;
        let names = children(dir);
        // Kept, because sled removes them when the next one is there.
        for name in names.keys().filter(|name| name.starts_with("snap.")) {
            self.0.sync_file(&dir.join(name));
        }
        self.0.state.lock().names.insert(dir.to_owned(), names);
        Ok(())
    }
}

struct MachineFile {
    disk: Arc<FaultDisk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl DiskFile for MachineFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let half = || {
            let _ = self.file.write_all_at(&bytes[..bytes.len() / 2], offset);
        };
        self.disk.step("write", half)?;
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.step("sync", || {})?;
        self.disk.sync_file(&self.path);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.step("set_len", || {})?;
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

/// sled, stopping before any batch too.
pub(super) struct FaultEngines {
    pub(super) disk: Arc<FaultDisk>,
    pub(super) engines: SledEngines,
    /// In place of what sled asks for.
    pub(super) sync_every_bytes: Option<usize>,
}

struct FaultEngine {
    disk: Arc<FaultDisk>,
    sync_every_bytes: Option<usize>,
    engine: Box<dyn RowEngine>,
}

impl RowEngines for FaultEngines {
    fn open(&self, dir: &Path) -> Result<Box<dyn RowEngine>, EngineError> {
        let engine = self.engines.open(dir)?;
        let (disk, sync_every_bytes) = (Arc::clone(&self.disk), self.sync_every_bytes);
        Ok(Box::new(FaultEngine { disk, sync_every_bytes, engine }))
    }
}

impl RowEngine for FaultEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.engine.get(key)
    }

    fn page(&self, from: &[u8], after: bool) -> Result<EnginePage, EngineError> {
        self.engine.page(from, after)
    }

    fn apply(&self, batch: &[Change]) -> Result<(), EngineError> {
        // Half a batch gets into sled, and with the next buffer it writes, to the disk.
        let half = || {
            let _ = self.engine.apply(&batch[..batch.len() / 2]);
        };
        self.disk.step("batch", half)?;
        self.engine.apply(batch)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn sync_every_bytes(&self) -> usize {
        self.sync_every_bytes.unwrap_or_else(|| self.engine.sync_every_bytes())
    }

    fn size_on_disk(&self) -> Result<u64, EngineError> {
        self.engine.size_on_disk()
    }
}

const BLOCK_BYTES: usize = 512;
