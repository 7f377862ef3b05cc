//! `.license.dat`: the license as a client keeps it between runs.
//!
//! ```text
//! {"encrypted_data":"<base64>","nonce":"<base64>","signature":"<base64>","public_key":"<base64>",
//!  "device_fingerprint":"<text>","expires_at":"<RFC 3339>"}        one line, no line end
//! ```
//!
//! Base64 has padding (RFC 4648, section 4), the public key is the SubjectPublicKeyInfo in DER, and
//! the fields stand in this order. The signature covers `encrypted_data` alone; that the rest
//! belongs to it is found by opening: the fingerprint makes the key, and `expires_at` must be what
//! the license inside says. Tampering with the file as a whole is what the checksum finds.
//!
//! What it leaves to others: files, permissions, renames (the SDK); the checksum
//! ([`super::checksum`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::crypto::{NONCE_BYTES, OpenedLicense, SealedLicense, SealedLicenseError};
use super::fingerprint::is_fingerprint;
use super::payload::{LicenseData, NotALicense};
use super::time::LicenseTime;
use crate::cloud::body::{self, BodyError};
use crate::keys::{KeyError, PublicKey};

/// No stored file is longer.
pub const MAX_FILE_BYTES: usize = 2 * 1024 * 1024;

/// What `.license.dat` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLicense {
    /// The sealed license.
    pub sealed: SealedLicense,
    /// The device that it is sealed to.
    pub device_fingerprint: String,
    /// When the license ends.
    pub expires_at: LicenseTime,
}

/// A stored license that was believed and opened.
pub struct OpenedStored {
    /// For envelopes from now on.
    pub session_key: super::crypto::SessionKey,
    /// The license.
    pub license: LicenseData,
}

/// Why a file is not believed. Always: activate again.
#[derive(Debug, Error)]
pub enum StoredError {
    /// Longer than any.
    #[error("a license file of {bytes} bytes; at most {MAX_FILE_BYTES}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not the JSON of a stored license.
    #[error("not a license file")]
    Json(#[from] BodyError),
    /// Not base64 with padding.
    #[error("{field}: not base64 with padding")]
    Base64 {
        /// Which field.
        field: &'static str,
    },
    /// A nonce of another length.
    #[error("nonce: {bytes} bytes; want {NONCE_BYTES}")]
    NonceLength {
        /// How long it is.
        bytes: usize,
    },
    /// A key that is none.
    #[error("public_key")]
    PublicKey(#[from] KeyError),
    /// A fingerprint that is none.
    #[error("device_fingerprint: not a fingerprint")]
    Fingerprint,
    /// Stored on another device.
    #[error("the license file belongs to another device")]
    OtherDevice,
    /// The signature, the key or the sealing is wrong.
    #[error("the license file is not believed")]
    Sealed(#[from] SealedLicenseError),
    /// What was sealed is no license.
    #[error("what the license file holds is no license")]
    License(#[from] NotALicense),
    /// The date beside the license is not the date inside.
    #[error("expires_at: {stored}, while the license says {sealed}")]
    ExpiresAt {
        /// Beside it.
        stored: LicenseTime,
        /// Inside it.
        sealed: LicenseTime,
    },
}

impl StoredLicense {
    /// Reads a file's bytes; nothing in it is believed yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, StoredError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(StoredError::TooLong { bytes: bytes.len() });
        }
        let file: StoredFile = body::decode(bytes)?;
        let nonce = base64("nonce", &file.nonce)?
            .try_into()
            .map_err(|nonce: Vec<u8>| StoredError::NonceLength { bytes: nonce.len() })?;
        let sealed = SealedLicense {
            ciphertext: base64("encrypted_data", &file.encrypted_data)?,
            nonce,
            signature: base64("signature", &file.signature)?,
            public_key: PublicKey::from_spki_der(&base64("public_key", &file.public_key)?)?,
        };
        if !is_fingerprint(&file.device_fingerprint) {
            return Err(StoredError::Fingerprint);
        }
        let (device_fingerprint, expires_at) = (file.device_fingerprint, file.expires_at);
        Ok(Self { sealed, device_fingerprint, expires_at })
    }

    /// The file's bytes, byte for byte as the reference client writes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = StoredFile {
            encrypted_data: STANDARD.encode(&self.sealed.ciphertext),
            nonce: STANDARD.encode(self.sealed.nonce),
            signature: STANDARD.encode(&self.sealed.signature),
            public_key: STANDARD.encode(self.sealed.public_key.spki_der()),
            device_fingerprint: self.device_fingerprint.clone(),
            expires_at: self.expires_at,
        };
        #[expect(clippy::expect_used, reason = "texts and a time are always JSON")]
        serde_json::to_vec(&file).expect("a license file is JSON")
    }

    /// Believes and opens the file on the device with this fingerprint, or says why not; with the
    /// server's key known, only a license signed with that one.
    pub fn open(
        &self,
        fingerprint: &str,
        known_key: Option<&PublicKey>,
    ) -> Result<OpenedStored, StoredError> {
        if self.device_fingerprint != fingerprint {
            return Err(StoredError::OtherDevice);
        }
        let OpenedLicense { session_key, license_json } =
            self.sealed.open(fingerprint, known_key)?;
        let license = LicenseData::from_json(&license_json)?;
        if license.expires_at != self.expires_at {
            let (stored, sealed) = (self.expires_at, license.expires_at);
            return Err(StoredError::ExpiresAt { stored, sealed });
        }
        Ok(OpenedStored { session_key, license })
    }
}

/// The file's fields in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    encrypted_data: String,
    nonce: String,
    signature: String,
    public_key: String,
    device_fingerprint: String,
    expires_at: LicenseTime,
}

fn base64(field: &'static str, text: &str) -> Result<Vec<u8>, StoredError> {
    STANDARD.decode(text).map_err(|_| StoredError::Base64 { field })
}
