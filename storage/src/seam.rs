//! The seams to the world: `Disk`, `Clock` and `Entropy`.
//!
//! Everything below the gateway that touches a file, the time or randomness goes through one of
//! these three traits (the fourth seam, `Transport`, lives in `raft`), so that a whole cluster can
//! run in one process from one seed, and so that a test can stop at every write, sync and rename.
//! A lint (`clippy.toml`) bans the direct calls everywhere else.
//!
//! What it leaves to others: sled opens its own files; `state` wraps it and documents how it is
//! made durable.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A directory tree that can be made durable.
///
/// Durability rules are those of POSIX: bytes written are durable after [`DiskFile::sync_data`]
/// has returned, a name (created, renamed or removed) after [`Disk::sync_dir`] of its directory.
pub trait Disk: Send + Sync + 'static {
    /// Creates a directory (mode 0700) and its missing parents; an existing one is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether something has this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates a new file (mode 0600) for reading and writing; an existing name is an error.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames within one filesystem, replacing the target atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written below a directory; [`u64::MAX`] where nothing bounds them.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let _ = dir;
        Ok(u64::MAX)
    }
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset`; a file that ends before is `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file where needed.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all bytes written so far durable (`fdatasync`). After an error the file must not be
    /// trusted again: the kernel may have dropped the dirty pages.
    fn sync_data(&self) -> io::Result<()>;
    /// Sets the length in bytes; growing reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Time as a node sees it. Nothing in the ledger depends on either reading directly.
pub trait Clock: Send + Sync + 'static {
    /// Nanoseconds of monotonic time since a fixed point in this process.
    fn monotonic_ns(&self) -> u64;
    /// Unix milliseconds of the wall clock; may jump, in both directions.
    fn wall_ms(&self) -> i64;
}

/// Randomness fit for keys.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the buffer with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

/// The machine's filesystem. Refuses files that another user owns.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name().into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("file name is not UTF-8: {name:?}"),
                )
            })?;
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        let owner = file.metadata()?.uid();
        let me = rustix::process::geteuid().as_raw();
        if owner != me {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} is owned by user {owner}, not by {me}", path.display()),
            ));
        }
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let found = rustix::fs::statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

struct RealFile(fs::File);

impl DiskFile for RealFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct RealClock {
    started: Instant,
}

impl RealClock {
    /// A clock whose monotonic reading starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }
}

/// The machine's random generator. A request draws a handful of short ids, so bytes are asked for
/// in hundreds and kept for the thread; what was given out is not kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealEntropy;

/// Random bytes that were not given out yet: those from `next` on.
struct Drawn {
    bytes: [u8; DRAWN_BYTES],
    next: usize,
}

const DRAWN_BYTES: usize = 512;

thread_local! {
    static DRAWN: RefCell<Drawn> =
        const { RefCell::new(Drawn { bytes: [0; DRAWN_BYTES], next: DRAWN_BYTES }) };
}

impl Entropy for RealEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() > DRAWN_BYTES / 8 {
            return fill_now(buffer);
        }
        DRAWN.with_borrow_mut(|drawn| {
            if drawn.next + buffer.len() > DRAWN_BYTES {
                fill_now(&mut drawn.bytes);
                drawn.next = 0;
            }
            let given = &mut drawn.bytes[drawn.next..drawn.next + buffer.len()];
            buffer.copy_from_slice(given);
            given.fill(0);
            drawn.next += buffer.len();
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
#[expect(clippy::expect_used, reason = "a machine without randomness cannot serve at all")]
fn fill_now(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the operating system gave no randomness");
}

/// Writes a small file so that, after a crash at any point, either the old or the new bytes are
/// there: temporary name, sync, rename, sync of the directory.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} has no directory", path.display()))
    })?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary: PathBuf = dir.join(name);
    if disk.exists(&temporary)? {
        disk.remove_file(&temporary)?;
    }
    let file = disk.create(&temporary)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_random_bytes_are_given_out_twice() {
        let draw = |length: usize| {
            let mut bytes = vec![0; length];
            RealEntropy.fill(&mut bytes);
            bytes
        };
        let lengths = [8, 10, 64, 65, 2_000].into_iter().cycle().take(500);
        let drawn: BTreeSet<Vec<u8>> = lengths.map(draw).map(|bytes| bytes[..8].to_vec()).collect();
        assert_eq!(drawn.len(), 500);
        assert!(!drawn.contains(&vec![0; 8]));
    }
}
