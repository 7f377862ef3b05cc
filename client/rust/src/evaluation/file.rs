//! The license file of an evaluation, what is remembered beside it, and when it is believed.
//!
//! ```text
//! license.json         0600, the fields in order, indented by 2
//! license.json.state   0600, a document (document.rs) of `Remembered`
//! ```
//!
//! The key that license files are signed with belongs to the server. A program that was given it
//! (`EDON_LICENSE_SECRET_V1`, `…_V2`) verifies with it and believes nothing else. One that was not
//! keeps the server's file as it came, signature and all, and a copy of its text in the state: a
//! file that differs from it in one byte is not believed. Whoever can write both could write
//! anything, as always where no secret is; what bounds that is the server, which is asked at every
//! start and every hour, and without which such a file is good for a day.
//!
//! A file signed with the secret that stands in the published client, which everybody knows, is
//! believed only after a server said once that it is good: then it is in the state like any other.

use std::io;
use std::path::{Path, PathBuf};

use protocol::evaluation::client::Memory;
use protocol::evaluation::config::Config;
use protocol::evaluation::key_ring::KeyVersion;
use protocol::evaluation::license_file::{self, License, LicenseFile, SignatureError};
use protocol::evaluation::message::Rejection;
use protocol::mac::MacKey;
use serde::{Deserialize, Serialize};

use crate::document;
use crate::error::Error;
use crate::store::file;

/// Where the license file is.
pub(super) struct Files {
    pub(super) path: PathBuf,
    pub(super) hostname: String,
}

/// What is remembered beside the license file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Remembered {
    version: u32,
    /// Last validation, outage, skew.
    pub(super) memory: Memory,
    /// The highest time seen, in Unix milliseconds.
    pub(super) highest_ms: Option<i64>,
    /// The text of the file that a server gave or found good.
    pub(super) text: Option<String>,
    /// What the server refused last, as a code with its text; it stands until the server says
    /// otherwise.
    pub(super) refused: Option<(String, String)>,
}

/// Why a file is of no use.
#[derive(Debug)]
pub(super) enum Unusable {
    Rejected(Rejection),
    /// Its mode, or the state beside it.
    Refused(String),
    Machine(Error),
}

/// A license file that may be believed.
pub(super) struct Found {
    pub(super) license: License,
    pub(super) file: LicenseFile,
    /// Whether it is as good as known to the server; else only the server's word counts.
    pub(super) is_vouched: bool,
}

impl Files {
    fn read(&self, path: &Path, max_bytes: usize) -> Result<Option<Vec<u8>>, Unusable> {
        file::read_private(path, max_bytes as u64).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData => {
                Unusable::Refused(format!("{}: {error}", path.display()))
            }
            _ => Unusable::Machine(Error::machine(&path.display().to_string(), &error)),
        })
    }

    /// Reads the license file; `None` when there is none.
    pub(super) fn load(
        &self,
        config: &Config,
        configured: &[KeyVersion],
        remembered: &Remembered,
    ) -> Result<Option<Found>, Unusable> {
        match self.read(&self.path, license_file::MAX_FILE_BYTES)? {
            None => Ok(None),
            Some(bytes) => believe(&bytes, config, configured, remembered).map(Some),
        }
    }

    /// Writes the license file.
    pub(super) fn save(&self, text: &str) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            file::make_directory(directory)?;
        }
        file::replace(&self.path, &self.beside("tmp"), text.as_bytes())
    }

    /// What is remembered; nothing where there is no file yet.
    pub(super) fn recall(&self) -> Result<Remembered, Unusable> {
        let path = self.beside("state");
        let Some(document) = self.read(&path, MAX_STATE_BYTES)? else {
            return Ok(Remembered::default());
        };
        let refused = |why: String| Unusable::Refused(format!("{}: {why}", path.display()));
        let remembered: Remembered =
            document::open(&self.key(), LABEL, &document).map_err(refused)?;
        if remembered.version > VERSION {
            return Err(refused("of a later release".to_owned()));
        }
        Ok(remembered)
    }

    /// Remembers.
    pub(super) fn remember(&self, remembered: &Remembered) -> io::Result<()> {
        let remembered = Remembered { version: VERSION, ..remembered.clone() };
        let document = document::seal(&self.key(), LABEL, &remembered).map_err(io::Error::other)?;
        if let Some(directory) = self.path.parent() {
            file::make_directory(directory)?;
        }
        file::replace(&self.beside("state"), &self.beside("state.tmp"), &document)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    /// Binds the state to this host.
    fn key(&self) -> MacKey {
        MacKey::new(MacKey::new([0; 32]).tag(&[LABEL, self.hostname.as_bytes()]))
    }
}

fn believe(
    bytes: &[u8],
    config: &Config,
    configured: &[KeyVersion],
    remembered: &Remembered,
) -> Result<Found, Unusable> {
    let rejected = |error| {
        Unusable::Rejected(match error {
            SignatureError::UnsupportedKeyVersion(version) => {
                Rejection::UnsupportedKeyVersion(version)
            }
            SignatureError::BadSignature | SignatureError::Field(_) => Rejection::InvalidSignature,
        })
    };
    let file =
        LicenseFile::parse(bytes).map_err(|_| Unusable::Rejected(Rejection::InvalidSignature))?;
    let version = file.key_version().map_err(rejected)?;
    if version < config.ring.minimum() {
        return Err(rejected(SignatureError::UnsupportedKeyVersion(version.to_string())));
    }
    let is_known = remembered.text.as_ref().is_some_and(|text| text.as_bytes() == bytes);
    let is_configured = configured.contains(&version);
    let license = match is_known && !is_configured {
        true => file.license(),
        false => file.verify(&config.ring),
    };
    let license = license.map_err(rejected)?;
    Ok(Found { license, file, is_vouched: is_known || is_configured })
}

const LABEL: &[u8] = b"leasehold-client evaluation 1:";
const VERSION: u32 = 1;
const MAX_STATE_BYTES: usize = 64 * 1024;
