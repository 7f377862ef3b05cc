//! A filesystem in memory that models what a crash leaves, and can be stopped at any operation.
//!
//! What a power cut does is decided sector by sector and name by name: bytes that were not synced
//! and names whose directory was not synced may be there, old or gone, each on its own, as POSIX
//! allows. A failed sync drops the dirty pages and calls them clean. A handle from before a crash
//! does nothing but fail.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::SeededEntropy;
use super::file::Content;
use crate::seam::{Disk, DiskFile};

/// What changes a disk; each is a point at which a test can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OperationKind {
    /// A directory was made.
    CreateDir,
    /// A file was made.
    Create,
    /// Bytes were written.
    Write,
    /// A file's length was set.
    SetLen,
    /// A file was synced.
    Sync,
    /// A file was renamed.
    Rename,
    /// A file or directory was removed.
    Remove,
    /// A directory was synced.
    SyncDir,
}

/// One operation of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What was done.
    pub kind: OperationKind,
    /// To which file or directory.
    pub path: PathBuf,
}

/// What happens at a chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The operation fails: a write leaves its first half, a sync drops its pages, the rest do
    /// nothing. Later operations work.
    Error,
    /// The power goes before it: it has no effect, and all later ones fail.
    CutBefore,
    /// The power goes after it: it returns an error all the same, as nobody hears the answer.
    CutAfter,
}

/// A fault at the operation with this number, counted from 0 since the disk was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Number of the operation.
    pub at: u64,
    /// What happens there.
    pub kind: FaultKind,
}

/// What a power cut takes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// None of it.
    Nothing,
    /// Each sector and each name on its own, as this seed decides.
    Random(u64),
    /// So too, but of what lies in several sectors the first is kept and the last is lost.
    Torn(u64),
}

impl Loss {
    pub(crate) fn keeps(self, random: &SeededEntropy) -> bool {
        match self {
            Self::Everything => false,
            Self::Nothing => true,
            Self::Random(_) | Self::Torn(_) => random.below(2) == 0,
        }
    }
}

/// A disk in memory. A clone is another handle to the same one.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

type Names = BTreeMap<PathBuf, Node>;

/// A change of names that its directory's sync will make durable.
#[derive(Debug, Clone)]
enum Change {
    Add(PathBuf, Node),
    Rename(PathBuf, PathBuf, Node),
    Remove(PathBuf),
}

#[derive(Debug, Clone, Default)]
struct State {
    files: Vec<Content>,
    seen: Names,
    durable: Names,
    pending: Vec<Change>,
    trace: Vec<Operation>,
    fault: Option<Fault>,
    off: bool,
    /// Counts crashes: handles of an earlier one are dead.
    life: u64,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms a fault; it goes off once.
    pub fn arm(&self, fault: Fault) {
        self.state.lock().fault = Some(fault);
    }

    /// Number of operations so far; reads are none.
    pub fn operations(&self) -> u64 {
        self.state.lock().trace.len() as u64
    }

    /// All operations so far.
    pub fn trace(&self) -> Vec<Operation> {
        self.state.lock().trace.clone()
    }

    /// Cuts the power (if a fault did not already) and restores it: what was not synced is lost as
    /// `loss` says.
    pub fn power_cut(&self, loss: Loss) {
        let state = &mut *self.state.lock();
        let random = SeededEntropy::new(match loss {
            Loss::Random(seed) | Loss::Torn(seed) => seed,
            Loss::Everything | Loss::Nothing => 0,
        });
        for change in std::mem::take(&mut state.pending) {
            if loss.keeps(&random) {
                change.apply(&mut state.durable);
            }
        }
        state.durable = with_parents(&state.durable);
        state.seen = state.durable.clone();
        for content in &mut state.files {
            content.power_cut(loss, &random);
        }
        state.restart();
    }

    /// Ends the process and starts another: handles die, but nothing is lost.
    pub fn process_crash(&self) {
        self.state.lock().restart();
    }

    /// Turns the power off; everything fails until [`MemoryDisk::power_cut`] or
    /// [`MemoryDisk::process_crash`].
    pub fn turn_off(&self) {
        self.state.lock().off = true;
    }

    /// All files, in order of their names.
    pub fn file_paths(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let files = state.seen.iter().filter(|(_, node)| matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// The bytes of a file as a reader sees them.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        Ok(state.files[state.file(path)?].seen.clone())
    }

    /// Puts a file there, durably, whole, outside all counting.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let state = &mut *self.state.lock();
        state.files.push(Content::durable(bytes));
        let node = Node::File(state.files.len() - 1);
        for names in [&mut state.seen, &mut state.durable] {
            for dir in path.ancestors().skip(1).filter(|dir| *dir != Path::new("")) {
                names.entry(dir.to_owned()).or_insert(Node::Dir);
            }
            names.insert(path.to_owned(), node);
        }
    }

    /// Takes a file away, durably, outside all counting.
    pub fn lose(&self, path: &Path) {
        let state = &mut *self.state.lock();
        state.seen.remove(path);
        state.durable.remove(path);
    }

    /// Changes one bit of a file for good.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let state = &mut *self.state.lock();
        let file = state.file(path)?;
        state.files[file].flip(offset as usize, bit);
        Ok(())
    }

    /// Another disk in the same state, what is not durable included; its handles start anew.
    pub fn copy(&self) -> Self {
        let mut state = self.state.lock().clone();
        state.restart();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn change(
        &self,
        kind: OperationKind,
        path: &Path,
        effect: impl FnOnce(&mut State, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        let state = &mut *self.state.lock();
        state.change(kind, path, effect)
    }
}

impl State {
    /// Counts an operation and does it, unless a fault says otherwise. `effect` is told whether it
    /// is to fail in its own way.
    fn change(
        &mut self,
        kind: OperationKind,
        path: &Path,
        effect: impl FnOnce(&mut Self, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        self.check_power()?;
        let number = self.trace.len() as u64;
        self.trace.push(Operation { kind, path: path.to_owned() });
        let fault = self.fault.take_if(|fault| fault.at == number);
        match fault.map(|fault| fault.kind) {
            None => effect(self, false),
            Some(FaultKind::Error) => {
                effect(self, true)?;
                Err(io::Error::other(format!("injected at operation {number}")))
            }
            Some(FaultKind::CutBefore) => {
                self.off = true;
                self.check_power()
            }
            Some(FaultKind::CutAfter) => {
                effect(self, false)?;
                self.off = true;
                self.check_power()
            }
        }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    fn restart(&mut self) {
        self.off = false;
        self.fault = None;
        self.life += 1;
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.seen.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Dir) => Err(error(io::ErrorKind::IsADirectory, path)),
            None => Err(error(io::ErrorKind::NotFound, path)),
        }
    }

    fn dir(&self, path: &Path) -> io::Result<()> {
        let is_root = path == Path::new("") || path == Path::new("/");
        match self.seen.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(error(io::ErrorKind::NotADirectory, path)),
            None if is_root => Ok(()),
            None => Err(error(io::ErrorKind::NotFound, path)),
        }
    }

    fn alter(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            Self::Remove(path) => names.retain(|name, _| !name.starts_with(path)),
        }
    }

    /// The directory whose sync makes this durable.
    fn dir(&self) -> &Path {
        let (Self::Add(path, _) | Self::Rename(_, path, _) | Self::Remove(path)) = self;
        parent(path)
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<PathBuf> = Vec::new();
        for dir in path.ancestors() {
            if self.state.lock().dir(dir).is_ok() {
                break;
            }
            missing.push(dir.to_owned());
        }
        for dir in missing.into_iter().rev() {
            self.change(OperationKind::CreateDir, &dir, |state, fails| {
                if !fails {
                    state.alter(Change::Add(dir.clone(), Node::Dir));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_power()?;
        state.dir(dir)?;
        let children = state.seen.keys().filter(|path| parent(path) == dir && *path != dir);
        let names = children.filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state.lock();
        state.check_power()?;
        Ok(state.seen.contains_key(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.change(OperationKind::Create, path, |state, fails| {
            state.dir(parent(path))?;
            if state.seen.contains_key(path) {
                return Err(error(io::ErrorKind::AlreadyExists, path));
            }
            if !fails {
                state.files.push(Content::default());
                let node = Node::File(state.files.len() - 1);
                state.alter(Change::Add(path.to_owned(), node));
            }
            Ok(())
        })?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state.lock();
        state.check_power()?;
        let (file, life) = (state.file(path)?, state.life);
        Ok(Box::new(MemoryFile { disk: self.clone(), file, life, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(OperationKind::Rename, from, |state, fails| {
            let node = Node::File(state.file(from)?);
            if parent(from) != parent(to) {
                // Two directories would have to be synced; nothing here does that.
                return Err(error(io::ErrorKind::CrossesDevices, to));
            }
            if !fails {
                state.alter(Change::Rename(from.to_owned(), to.to_owned(), node));
            }
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(OperationKind::Remove, path, |state, fails| {
            state.file(path)?;
            if !fails {
                state.alter(Change::Remove(path.to_owned()));
            }
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(OperationKind::Remove, path, |state, fails| {
            state.dir(path)?;
            if !fails {
                state.alter(Change::Remove(path.to_owned()));
            }
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(OperationKind::SyncDir, dir, |state, fails| {
            state.dir(dir)?;
            if !fails {
                let (synced, rest): (Vec<Change>, Vec<Change>) = std::mem::take(&mut state.pending)
                    .into_iter()
                    .partition(|change| change.dir() == dir);
                state.pending = rest;
                for change in synced {
                    change.apply(&mut state.durable);
                }
            }
            Ok(())
        })
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    file: usize,
    life: u64,
    path: PathBuf,
}

impl MemoryFile {
    fn change(
        &self,
        kind: OperationKind,
        effect: impl FnOnce(&mut Content, bool),
    ) -> io::Result<()> {
        let state = &mut *self.disk.state.lock();
        self.check_life(state)?;
        state.change(kind, &self.path, |state, fails| {
            effect(&mut state.files[self.file], fails);
            Ok(())
        })
    }

    fn check_life(&self, state: &State) -> io::Result<()> {
        if state.life == self.life {
            Ok(())
        } else {
            Err(io::Error::other("this handle is from before a crash"))
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state.lock();
        state.check_power()?;
        self.check_life(&state)?;
        let from = offset as usize;
        let bytes = state.files[self.file].seen.get(from..from.saturating_add(buffer.len()));
        let bytes = bytes.ok_or_else(|| error(io::ErrorKind::UnexpectedEof, &self.path))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(OperationKind::Write, |content, fails| {
            let len = if fails { bytes.len() / 2 } else { bytes.len() };
            content.write(&bytes[..len], offset as usize);
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(OperationKind::Sync, |content, fails| {
            if fails { content.sync_and_fail() } else { content.sync() }
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(OperationKind::SetLen, |content, fails| {
            if !fails {
                content.set_len(len as usize);
            }
        })
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state.lock();
        state.check_power()?;
        self.check_life(&state)?;
        Ok(state.files[self.file].seen.len() as u64)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The names whose directories are all there.
fn with_parents(names: &Names) -> Names {
    let there = |path: &Path| {
        let is_root = path == Path::new("") || path == Path::new("/");
        is_root || names.get(path) == Some(&Node::Dir)
    };
    let whole = names.iter().filter(|(path, _)| path.ancestors().skip(1).all(there));
    whole.map(|(path, node)| (path.clone(), *node)).collect()
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(names: &[&str]) -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        for name in names {
            let file = disk.create(&Path::new("/d").join(name)).unwrap();
            file.write_all_at(name.as_bytes(), 0).unwrap();
            file.sync_data().unwrap();
        }
        disk
    }

    #[test]
    fn a_name_lasts_only_when_its_directory_was_synced() {
        let disk = disk_with(&["a", "b"]);
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        let lost = disk.copy();
        assert_eq!(lost.bytes(Path::new("/d/b")).unwrap(), b"a");
        disk.power_cut(Loss::Everything);
        assert_eq!(disk.bytes(Path::new("/d/b")).unwrap(), b"b");
        assert_eq!(disk.bytes(Path::new("/d/a")).unwrap(), b"a");
    }

    #[test]
    fn a_failed_sync_drops_the_pages_for_good() {
        let disk = disk_with(&["a"]);
        disk.sync_dir(Path::new("/d")).unwrap();
        let file = disk.open(Path::new("/d/a")).unwrap();
        file.write_all_at(b"z", 0).unwrap();
        disk.arm(Fault { at: disk.operations(), kind: FaultKind::Error });
        assert!(file.sync_data().is_err());
        assert!(file.sync_data().is_ok());
        assert_eq!(disk.bytes(Path::new("/d/a")).unwrap(), b"z");
        disk.power_cut(Loss::Nothing);
        assert_eq!(disk.bytes(Path::new("/d/a")).unwrap(), b"a");
        assert!(file.sync_data().is_err(), "a handle from before the crash");
    }

    #[test]
    fn sectors_are_torn_one_by_one_and_the_same_seed_tears_alike() {
        let tear = |seed| {
            let disk = disk_with(&["a"]);
            disk.sync_dir(Path::new("/d")).unwrap();
            let file = disk.open(Path::new("/d/a")).unwrap();
            file.write_all_at(&[7; 64 * 512], 0).unwrap();
            disk.power_cut(Loss::Random(seed));
            disk.bytes(Path::new("/d/a")).unwrap()
        };
        let torn = tear(1);
        let kept = torn.chunks(512).filter(|sector| sector.iter().all(|byte| *byte == 7)).count();
        assert!((1..64).contains(&kept), "{kept} of 64 sectors");
        assert_eq!(torn, tear(1));
        assert_ne!(torn, tear(2));
    }

    #[test]
    fn the_power_goes_before_or_after_the_chosen_operation() {
        for (kind, there) in [(FaultKind::CutBefore, false), (FaultKind::CutAfter, true)] {
            let disk = disk_with(&[]);
            disk.arm(Fault { at: disk.operations(), kind });
            assert!(disk.create(Path::new("/d/a")).is_err());
            assert!(disk.sync_dir(Path::new("/d")).is_err());
            disk.power_cut(Loss::Nothing);
            assert_eq!(disk.exists(Path::new("/d/a")).unwrap(), there);
        }
    }
}
