//! A directory as an offline store: one file each, mode 0600, replaced by one rename.
//!
//! ```text
//! directory/            0700, made when needed
//!   NAME                the document
//!   NAME.PID.new        one that is being written; of no meaning when left behind
//! ```
//!
//! A file that others may read or write is refused: what is in it would be everybody's.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::OfflineStore;

/// Keeps documents as files of a directory.
#[derive(Debug, Clone)]
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// A store in this directory, which is made when something is first saved.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = name.len() <= MAX_NAME_CHARS
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(is_good);
        if fits {
            Ok(self.directory.join(name))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name of a document"))
        }
    }
}

impl OfflineStore for FileStore {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        read_private(&self.path(name)?, MAX_DOCUMENT_BYTES)
    }

    fn save(&self, name: &str, document: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        make_directory(&self.directory)?;
        let being_written = self.directory.join(format!("{name}.{}.new", std::process::id()));
        replace(&path, &being_written, document)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        remove(&self.path(name)?)
    }
}

/// A file that nobody else may read or write, up to a length; `None` when there is none. One of
/// another mode is an error of kind `PermissionDenied`, a longer one `InvalidData`.
pub(crate) fn read_private(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    private(&file)?;
    let mut document = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut document)?;
    if document.len() as u64 > max_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    Ok(Some(document))
}

/// Replaces a file by one rename; durable when it returns.
pub(crate) fn replace(path: &Path, being_written: &Path, document: &[u8]) -> io::Result<()> {
    let written = write_new(being_written, document)
        .and_then(|()| fs::rename(being_written, path))
        .and_then(|()| path.parent().map_or(Ok(()), sync_directory));
    if written.is_err() {
        drop(remove(being_written));
    }
    written
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file of mode 0600, durably. Whatever a crash left under its name is nobody's.
pub(crate) fn write_new(path: &Path, document: &[u8]) -> io::Result<()> {
    remove(path)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(document)?;
    file.sync_all()
}

/// Makes a directory of mode 0700 and those above it, where they are not there.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A new name is durable when its directory is; where directories cannot be opened, the rename
/// itself is.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn private(file: &fs::File) -> io::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions());
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the file's mode is {:03o}, want 600", mode & 0o777),
    ))
}

#[cfg(not(unix))]
fn private(_file: &fs::File) -> io::Result<()> {
    Ok(())
}

const MAX_NAME_CHARS: usize = 200;
/// Far above a token with its keys.
const MAX_DOCUMENT_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_kept_replaced_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path().join("a/b"));
        assert_eq!(store.load("x").unwrap(), None);
        store.save("x", b"one").unwrap();
        store.save("x", b"two").unwrap();
        assert_eq!(store.load("x").unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
        store.remove("x").unwrap();
        store.remove("x").unwrap();
        assert_eq!(store.load("x").unwrap(), None);
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path());
        for name in ["", "..", "../x", "a/b", ".hidden", "a b", &"a".repeat(201)] {
            assert!(store.save(name, b"").is_err(), "{name}");
            assert!(store.load(name).is_err(), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path().join("s"));
        store.save("x", b"one").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = dir.path().join("s/x");
        assert_eq!((mode(&path), mode(&dir.path().join("s"))), (0o600, 0o700));
        for mode in [0o640, 0o604, 0o660, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = store.load("x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{mode:o}");
        }
    }

    #[test]
    fn a_file_left_by_a_crash_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::new(dir.path());
        fs::write(dir.path().join(format!("x.{}.new", std::process::id())), "half").unwrap();
        store.save("x", b"whole").unwrap();
        assert_eq!(store.load("x").unwrap().unwrap(), b"whole");
    }
}
