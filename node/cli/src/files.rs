//! Files that verbs read and write: keys, packages, secrets.
//!
//! A new file never takes the place of one that is there unless the user said so; what is private
//! is created with mode 0600, before a byte is in it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use protocol::keys::{PrivateKey, PublicKey};

use crate::error::{CliError, Result};

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The owner.
    Private,
    /// Everyone.
    Public,
}

/// Reads a whole file of at most `max_bytes`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let cannot_read = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(cannot_read)?;
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if bytes.len() as u64 > max_bytes {
        let source = io::Error::other(format!("it is longer than {max_bytes} bytes"));
        return Err(cannot_read(source));
    }
    Ok(bytes)
}

/// Reads a text file of at most `max_bytes`.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String> {
    String::from_utf8(read(path, max_bytes)?).map_err(|_| CliError::File {
        action: "read",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"),
    })
}

/// Reads the last `max_bytes` of a file as text, from the first whole line on.
pub(crate) fn read_tail(path: &Path, max_bytes: u64) -> Result<String> {
    let cannot_read = |source| CliError::File { action: "read", path: path.to_owned(), source };
    let mut file = fs::File::open(path).map_err(cannot_read)?;
    let length = file.metadata().map_err(cannot_read)?.len();
    let start = length.saturating_sub(max_bytes);
    file.seek(SeekFrom::Start(start)).map_err(cannot_read)?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes).map_err(cannot_read)?;
    let text = String::from_utf8_lossy(&bytes);
    match text.split_once('\n') {
        Some((_, whole)) if start > 0 => Ok(whole.to_owned()),
        _ => Ok(text.into_owned()),
    }
}

/// Reads a secret from a file, or from standard input when the path is `-`; line ends at its end
/// are cut.
pub(crate) fn read_secret(path: &Path) -> Result<String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().take(MAX_SECRET_BYTES).read_to_string(&mut text).map_err(|source| {
            CliError::File { action: "read", path: "standard input".into(), source }
        })?;
        text
    } else {
        read_text(path, MAX_SECRET_BYTES)?
    };
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(CliError::Usage(format!("there is no secret in {}", path.display())));
    }
    Ok(secret.to_owned())
}

/// Reads a text of at most `max_bytes` from standard input, without the line ends at its end.
pub(crate) fn read_stdin(max_bytes: u64) -> Result<String> {
    let cannot_read =
        |source| CliError::File { action: "read", path: "standard input".into(), source };
    let mut bytes = Vec::new();
    io::stdin().take(max_bytes + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
    if bytes.len() as u64 > max_bytes {
        return Err(cannot_read(io::Error::other(format!("it is longer than {max_bytes} bytes"))));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| cannot_read(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Reads a vendor's public key through the gate of `protocol`.
pub(crate) fn read_public_key(path: &Path) -> Result<PublicKey> {
    let text = read_text(path, MAX_KEY_BYTES)?;
    PublicKey::from_pem(&text).map_err(|source| CliError::Key { path: path.to_owned(), source })
}

/// Reads a vendor's private key; the second value is true when others can read the file.
pub(crate) fn read_private_key(path: &Path) -> Result<(PrivateKey, bool)> {
    let text = protocol::secret::Secret::new(read_text(path, MAX_KEY_BYTES)?);
    let key = PrivateKey::from_pkcs8_pem(text.expose())
        .map_err(|source| CliError::Key { path: path.to_owned(), source })?;
    let is_open = fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
    Ok((key, is_open))
}

/// Writes a file that must not exist yet, and makes it durable.
pub(crate) fn create(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let cannot_write = |source| CliError::File { action: "write", path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(cannot_write)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(cannot_write)
}

/// Writes a public file, in place of one that is there.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|source| CliError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Refuses a path that is taken.
pub(crate) fn require_absent(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CliError::File { action: "look at", path: path.to_owned(), source }),
        Ok(_) => Err(CliError::Usage(format!(
            "{} exists and is left as it is: move it away or name another file",
            path.display()
        ))),
    }
}

const MAX_SECRET_BYTES: u64 = 4_096;
const MAX_KEY_BYTES: u64 = protocol::keys::MAX_PEM_BYTES as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(require_absent(&path).is_ok());
        assert!(create(&path, b"one", Access::Private).is_ok());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(create(&path, b"two", Access::Private).is_err_and(|e| e.exit().code() == 2));
        assert!(require_absent(&path).is_err_and(|e| e.line().contains("exists")));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert!(overwrite(&path, b"two").is_ok());
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn the_tail_of_a_file_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(read_tail(&path, 100).ok().as_deref(), Some("one\ntwo\nthree\n"));
        assert_eq!(read_tail(&path, 8).ok().as_deref(), Some("three\n"));
    }

    #[test]
    fn secrets_lose_their_line_end_and_may_not_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "s3cret \r\n\n").unwrap();
        assert_eq!(read_secret(&path).ok().as_deref(), Some("s3cret "));
        fs::write(&path, "\n").unwrap();
        assert!(read_secret(&path).is_err_and(|e| e.line().contains("no secret")));
        fs::write(&path, vec![b'x'; 5_000]).unwrap();
        assert!(read_secret(&path).is_err_and(|e| e.line().contains("longer than 4096")));
        fs::write(&path, [0xff]).unwrap();
        assert!(read_secret(&path).is_err_and(|e| e.line().contains("UTF-8")));
    }
}
