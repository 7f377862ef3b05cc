//! A file system of its own for one node: an ext4 image, mounted over a loop device, whose power
//! can be cut.
//!
//! ```text
//! DIR.img     the image: what the "disk" has
//! DIR/        where it is mounted: what the node sees
//! ```
//!
//! [`Volume::cut`] is a power cut as the file system sees it ([`powercut`]): what was not synced is
//! gone after the next mount, and the journal is replayed. A process that still runs on it gets
//! `EIO` for everything; kill it, then [`Volume::remount`]. The size bounds what fits, so that a
//! small volume is also a disk to fill.
//!
//! What this leaves to others: which processes run on it, and when to cut. What it cannot imitate:
//! a device that loses what it had acknowledged, or that tears a sector.
//!
//! A process that is killed leaves its mounts behind: `umount DIR` frees one, and its loop device
//! with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// An ext4 image and the directory that it is mounted over. Dropped, it is unmounted and removed.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    dir: PathBuf,
    is_mounted: bool,
}

impl Volume {
    /// Makes an empty file system of so many bytes and mounts it over `dir`, which is made. The
    /// image lies beside it, sparse, as `DIR.img`.
    ///
    /// # Errors
    /// Where this process may not mount, or there is no loop device, `mkfs.ext4` or `mount`.
    pub fn create(dir: &Path, bytes: u64) -> Result<Self> {
        let mut image = dir.as_os_str().to_owned();
        image.push(".img");
        let image = PathBuf::from(image);
        let file = File::create(&image).with_context(|| format!("create {}", image.display()))?;
        file.set_len(bytes).with_context(|| format!("size {}", image.display()))?;
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let mut volume = Self { image, dir: dir.to_owned(), is_mounted: false };
        // No blocks for root alone, and the tables are written now: nothing goes on behind a test.
        let features = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        run(tool("mkfs.ext4").args(features).arg(&volume.image))?;
        volume.mount()?;
        // The file system's own `lost+found` is in nobody's way, but it is no node's either.
        let _ = fs::remove_dir(volume.dir.join("lost+found"));
        Ok(volume)
    }

    /// Mounts it; what the journal holds is replayed.
    ///
    /// # Errors
    /// When it is mounted, or `mount` refuses.
    pub fn mount(&mut self) -> Result<()> {
        ensure!(!self.is_mounted, "{} is mounted already", self.dir.display());
        // `nodiscard`: removing a file gives no blocks back to the image, as on a plain disk.
        let options = ["-t", "ext4", "-o", "loop,nodiscard"];
        run(tool("mount").args(options).arg(&self.image).arg(&self.dir))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it; without a cut before, everything is written first. Waits for processes that
    /// are about to let go of it, [`BUSY_LOOKS`] looks long.
    ///
    /// # Errors
    /// When somebody still uses it.
    pub fn unmount(&mut self) -> Result<()> {
        let mut looks = 0;
        while self.is_mounted {
            let done = run(tool("umount").arg(&self.dir));
            looks += 1;
            match done {
                Ok(_) => self.is_mounted = false,
                Err(error) if looks == BUSY_LOOKS => return Err(error),
                Err(_) => thread::sleep(BETWEEN_LOOKS),
            }
        }
        Ok(())
    }

    /// Cuts its power: nothing reaches the image any more.
    ///
    /// # Errors
    /// When it is not mounted, or the kernel refuses.
    pub fn cut(&self) -> Result<()> {
        ensure!(self.is_mounted, "{} is not mounted", self.dir.display());
        powercut::cut(&self.dir).with_context(|| format!("cut {}", self.dir.display()))
    }

    /// Unmounts and mounts it again: the power is back.
    ///
    /// # Errors
    /// As [`Volume::unmount`] and [`Volume::mount`].
    pub fn remount(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The image's file.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// When the directory cannot be asked.
    pub fn free_bytes(&self) -> Result<u64> {
        let space = rustix::fs::statvfs(&self.dir)?;
        Ok(space.f_bavail * space.f_frsize)
    }

    /// Whether this machine can do all of it, found out once, by doing it on a small image.
    ///
    /// # Errors
    /// The reason, in one line.
    pub fn possible() -> Result<(), String> {
        static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
        TRIED.get_or_init(Self::try_once).clone()
    }

    fn try_once() -> Result<(), String> {
        let root = std::env::temp_dir().join(format!("volume-{}", std::process::id()));
        let tried = fs::create_dir_all(&root).context("no scratch directory").and_then(|()| {
            let mut volume = Self::create(&root.join("disk"), SMALL_BYTES)?;
            loses_only_what_was_not_synced(&mut volume)
        });
        let _ = fs::remove_dir_all(&root);
        tried.map_err(|error| format!("{error:#}"))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted && self.unmount().is_err() {
            // Lazily: who still uses it keeps it until it ends.
            let _ = run(tool("umount").arg("-l").arg(&self.dir));
        }
        let _ = fs::remove_dir(&self.dir);
        let _ = fs::remove_file(&self.image);
    }
}

/// A cut keeps what was synced and loses what was not: else it proves nothing.
fn loses_only_what_was_not_synced(volume: &mut Volume) -> Result<()> {
    let (kept, lost) = (volume.dir.join("kept"), volume.dir.join("lost"));
    fs::write(&kept, b"synced")?;
    File::open(&kept)?.sync_all()?;
    File::open(&volume.dir)?.sync_all()?;
    fs::write(&lost, b"not synced")?;
    volume.cut()?;
    ensure!(File::create(volume.dir.join("more")).is_err(), "writes go on after a cut");
    volume.remount()?;
    ensure!(fs::read(&kept)? == b"synced", "a cut loses what was synced");
    ensure!(!lost.exists(), "a cut keeps what was not synced");
    Ok(())
}

/// A tool of the system, found where administrators' tools are too.
fn tool(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", said.trim().lines().next().unwrap_or_default());
    Ok(output)
}

/// Looks at a busy volume before it is given up: five seconds.
pub const BUSY_LOOKS: u32 = 500;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
const SMALL_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a machine cannot mount, the reason is a line that says what failed.
    #[test]
    fn it_can_be_cut_or_says_why_not() {
        if let Err(reason) = Volume::possible() {
            assert!(reason.lines().count() == 1 && reason.contains(':'), "{reason}");
            eprintln!("SKIPPED: {reason}");
        }
    }

    #[test]
    fn a_small_one_is_full_soon_and_nothing_is_left_of_it() -> Result<()> {
        if Volume::possible().is_err() {
            eprintln!("SKIPPED: no volumes on this machine");
            return Ok(());
        }
        let root = tempfile::tempdir()?;
        let dir = root.path().join("disk");
        let volume = Volume::create(&dir, SMALL_BYTES)?;
        assert!(volume.free_bytes()? < SMALL_BYTES);
        let full = fs::write(dir.join("filler"), vec![1; SMALL_BYTES as usize]);
        assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        drop(volume);
        assert_eq!(fs::read_dir(root.path())?.count(), 0);
        Ok(())
    }
}
