//! The files of an activated device: written whole or not at all, read with suspicion.
//!
//! ```text
//! directory/              0700, made when needed
//!   .license.dat          the license as the server signed it      (protocol::device::stored)
//!   .license.dat.chk      whether that file was changed            (protocol::device::checksum)
//!   .license.dat.tmp      a license that is being written
//!   .license.dat.state    what else is remembered                  (`Remembered`, document.rs)
//! ```
//!
//! Every file has mode 0600, and one that others may touch is refused. A license is written to
//! `.tmp`, then the checksum is replaced, then `.tmp` takes the license's place: what a crash
//! between the last two leaves is recognised by the checksum and finished when it is next read.
//!
//! The state is sealed under the checksum's key, which the fingerprint gives: like the checksum it
//! finds accidents and careless hands, and whoever deletes it gains what a new installation has.

use std::fs;
use std::io;
use std::path::PathBuf;

use protocol::device::checksum::{self, ChecksumError};
use protocol::device::stored::{self, StoredError, StoredLicense};
use protocol::device::time::LicenseTime;
use protocol::keys::PublicKey;
use protocol::keys::pss::PssSalt;
use protocol::mac::MacKey;
use serde::{Deserialize, Serialize};

use crate::document;
use crate::error::Error;
use crate::store::file;

/// Where a device's files are.
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) name: String,
}

/// What is remembered beside the license.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Remembered {
    version: u32,
    /// The server's key that was first seen: base64 of its SubjectPublicKeyInfo.
    server_key: Option<String>,
    /// The highest time seen, in Unix milliseconds.
    pub(super) highest_ms: Option<i64>,
    /// Why the server refused the license, where it was the last to say something.
    pub(super) refused: Option<RefusedBefore>,
}

/// A refusal that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RefusedBefore {
    pub(super) code: String,
    pub(super) detail: String,
}

impl Remembered {
    /// The key that answers must be signed with.
    pub(super) fn server_key(&self) -> Option<PublicKey> {
        let der = data_encoding::BASE64.decode(self.server_key.as_ref()?.as_bytes()).ok()?;
        PublicKey::from_spki_der(&der).ok()
    }

    /// Trusts a key from now on.
    pub(super) fn pin(&mut self, key: Option<&PublicKey>) {
        self.server_key = key.map(|key| data_encoding::BASE64.encode(key.spki_der()));
    }
}

/// Why what is stored is of no use.
#[derive(Debug)]
pub(super) enum Unusable {
    /// There is no license file.
    Missing,
    /// It is not believed.
    Refused(String),
    /// The machine could not say.
    Machine(Error),
}

/// A license that was found, and is signed and sealed to this device.
pub(super) struct Found {
    pub(super) opened: stored::OpenedStored,
    /// What it is signed with.
    pub(super) public_key: PublicKey,
    /// False where there is no checksum: then only a server's word counts.
    pub(super) has_checksum: bool,
}

impl Files {
    fn path(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}{suffix}", self.name))
    }

    fn read(&self, suffix: &str, max_bytes: usize) -> Result<Option<Vec<u8>>, Unusable> {
        let path = self.path(suffix);
        file::read_private(&path, max_bytes as u64).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData => {
                Unusable::Refused(format!("{}: {error}", path.display()))
            }
            _ => Unusable::Machine(Error::machine(&path.display().to_string(), &error)),
        })
    }

    /// Reads the license: mode, form, signature, device, checksum, sealing, in this order.
    pub(super) fn load(
        &self,
        fingerprint: &str,
        known_key: Option<&PublicKey>,
    ) -> Result<Found, Unusable> {
        let checksum_file = self.read(CHECKSUM, checksum::MAX_FILE_BYTES)?;
        let license_file = self.read("", stored::MAX_FILE_BYTES)?;
        if let Some(finished) = self.finish(fingerprint, checksum_file.as_deref(), known_key)? {
            return Ok(finished);
        }
        let license_file = license_file.ok_or(Unusable::Missing)?;
        let stored = parse(&license_file, fingerprint)?;
        let vouched = checksum::verify(checksum_file.as_deref(), &license_file, fingerprint);
        let has_checksum = match vouched {
            Ok(_) => true,
            Err(ChecksumError::Missing) => false,
            Err(error) => return Err(Unusable::Refused(error.to_string())),
        };
        let opened = stored.open(fingerprint, known_key).map_err(refused)?;
        Ok(Found { opened, public_key: stored.sealed.public_key, has_checksum })
    }

    /// A license that a crash left half written: the checksum is already its own.
    fn finish(
        &self,
        fingerprint: &str,
        checksum_file: Option<&[u8]>,
        known_key: Option<&PublicKey>,
    ) -> Result<Option<Found>, Unusable> {
        let Some(being_written) = self.read(BEING_WRITTEN, stored::MAX_FILE_BYTES).ok().flatten()
        else {
            return Ok(None);
        };
        if checksum::verify(checksum_file, &being_written, fingerprint).is_err() {
            return Ok(None);
        }
        let Ok(stored) = parse(&being_written, fingerprint) else { return Ok(None) };
        let Ok(opened) = stored.open(fingerprint, known_key) else { return Ok(None) };
        fs::rename(self.path(BEING_WRITTEN), self.path(""))
            .and_then(|()| file::sync_directory(&self.directory))
            .map_err(|error| Unusable::Machine(Error::machine("the license file", &error)))?;
        let public_key = stored.sealed.public_key;
        Ok(Some(Found { opened, public_key, has_checksum: true }))
    }

    /// Writes a license and its checksum.
    pub(super) fn save(
        &self,
        stored: &StoredLicense,
        nonce: [u8; protocol::device::crypto::NONCE_BYTES],
        now_ms: i64,
    ) -> io::Result<()> {
        let bytes = stored.to_bytes();
        let created_at = LicenseTime::from_unix_ms(now_ms);
        let checksum = checksum::seal(&bytes, &stored.device_fingerprint, nonce, created_at);
        file::make_directory(&self.directory)?;
        let being_written = self.path(BEING_WRITTEN);
        file::write_new(&being_written, &bytes)?;
        file::replace(&self.path(CHECKSUM), &self.path(".chk.tmp"), &checksum)?;
        fs::rename(&being_written, self.path(""))?;
        file::sync_directory(&self.directory)
    }

    /// What is remembered; nothing where there is no file yet.
    pub(super) fn recall(&self, fingerprint: &str) -> Result<Remembered, Unusable> {
        let Some(document) = self.read(STATE, MAX_STATE_BYTES)? else {
            return Ok(Remembered::default());
        };
        let refused = |why| Unusable::Refused(format!("{}: {why}", self.path(STATE).display()));
        let remembered: Remembered =
            document::open(&state_key(fingerprint), LABEL, &document).map_err(refused)?;
        if remembered.version > VERSION {
            return Err(refused("of a later release".to_owned()));
        }
        Ok(remembered)
    }

    /// Remembers.
    pub(super) fn remember(&self, fingerprint: &str, remembered: &Remembered) -> io::Result<()> {
        let remembered = Remembered { version: VERSION, ..remembered.clone() };
        let document = document::seal(&state_key(fingerprint), LABEL, &remembered)
            .map_err(io::Error::other)?;
        file::make_directory(&self.directory)?;
        file::replace(&self.path(STATE), &self.path(".state.tmp"), &document)
    }
}

fn parse(license_file: &[u8], fingerprint: &str) -> Result<StoredLicense, Unusable> {
    let stored = StoredLicense::parse(license_file).map_err(refused)?;
    stored
        .sealed
        .verify(PssSalt::Any)
        .map_err(|_| Unusable::Refused("the license's signature does not verify".to_owned()))?;
    if stored.device_fingerprint != fingerprint {
        return Err(refused(StoredError::OtherDevice));
    }
    Ok(stored)
}

fn refused(error: StoredError) -> Unusable {
    Unusable::Refused(in_one_line(&error))
}

/// An error with what caused it.
pub(super) fn in_one_line(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn state_key(fingerprint: &str) -> MacKey {
    MacKey::new(*checksum::checksum_key(fingerprint).expose())
}

const CHECKSUM: &str = ".chk";
const BEING_WRITTEN: &str = ".tmp";
const STATE: &str = ".state";
const LABEL: &[u8] = b"leasehold-client device state 1:";
const VERSION: u32 = 1;
const MAX_STATE_BYTES: usize = 64 * 1024;
