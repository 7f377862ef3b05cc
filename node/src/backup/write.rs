//! A snapshot file that is there whole and verified, or not at all.
//!
//! It is written under a temporary name beside its own, synced, read back from the disk with every
//! check, renamed, and the directory synced. The temporary name has the number of the process in
//! it, so that two which write the same do not meet. What a crash leaves is a temporary file that
//! nothing takes for a backup.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cli::Exit;
use cli::local::Trouble;
use storage::seam::{Disk, RealDisk};

use super::inspect::{self, Inspection};
use super::{io_trouble, unusable};

/// A file that is being written.
pub(super) struct Writing {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    /// Bytes so far.
    pub(super) bytes: u64,
    kept: bool,
}

impl Writing {
    /// Begins a file; one that is there already is not touched.
    pub(super) fn begin(target: PathBuf) -> Result<Self, Trouble> {
        if target.exists() {
            let message = format!("{}: is there already; name another file", target.display());
            return Err(unusable("file_exists", message));
        }
        let (Some(dir), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(unusable("file", format!("{}: is no file name", target.display())));
        };
        let name = name.to_string_lossy();
        let temporary = format!(".{name}.{}{TEMPORARY}", std::process::id());
        let temporary = directory_of(dir).join(temporary);
        // A leftover of a process that died and had this number.
        if temporary.exists() {
            fs::remove_file(&temporary).map_err(|error| io_trouble(&temporary, &error))?;
        }
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| io_trouble(&temporary, &error))?;
        Ok(Self { target, temporary, file, bytes: 0, kept: false })
    }

    /// Appends the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes it durable, reads it back, and gives it its name.
    pub(super) fn finish(mut self) -> Result<(PathBuf, Inspection), Trouble> {
        self.file.sync_all().map_err(|error| io_trouble(&self.temporary, &error))?;
        let found = inspect::read(&self.temporary).map_err(|trouble| {
            let message = format!("what was written is no backup: {}", trouble.message);
            Trouble { message, ..trouble }
        })?;
        let named = fs::rename(&self.temporary, &self.target);
        named.map_err(|error| io_trouble(&self.target, &error))?;
        self.kept = true;
        let dir = directory_of(self.target.parent().unwrap_or(Path::new(".")));
        RealDisk.sync_dir(dir).map_err(|error| io_trouble(dir, &error))?;
        Ok((self.target.clone(), found))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept {
            // What stays behind is named as no backup is.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The parent of a bare file name is the present directory.
fn directory_of(parent: &Path) -> &Path {
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

/// A failure to write.
pub(super) fn not_written(path: &Path, error: &io::Error) -> Trouble {
    let message = format!("{}: {}", path.display(), crate::config::io_reason(error));
    Trouble::new(Exit::Failed, "not_written", message)
}

/// Ends the name of a file that is not whole.
pub(super) const TEMPORARY: &str = ".tmp";
