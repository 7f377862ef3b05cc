//! `.license.dat.chk`: what tells that `.license.dat` was changed behind the client's back.
//!
//! ```text
//! key     = SHA-256("github.com/oarkflow/licensing/client-checksum/v1" ‖ fingerprint, trimmed)
//! payload = AES-256-GCM(key, nonce, SHA-256(bytes of .license.dat))
//! {"version":1,"nonce":"<hex>","payload":"<hex>","created_at":"<RFC 3339>"}    no line end
//! ```
//!
//! Whoever knows the fingerprint can make one, so this finds accidents and careless hands; the
//! license's signature is what an attacker does not get past. A missing file means that the client
//! must verify online; a wrong one is an error with no way back but a new activation. `created_at`
//! is for people: the seal does not cover it.
//!
//! What it leaves to others: files and renames (the SDK).

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::crypto::{self, NONCE_BYTES};
use super::time::LicenseTime;
use crate::cloud::body::{self, BodyError};
use crate::secret::Secret;

/// The only version.
pub const VERSION: u32 = 1;
/// No checksum file is longer.
pub const MAX_FILE_BYTES: usize = 4 * 1024;

/// Why a checksum does not vouch for a license file.
#[derive(Debug, Error)]
pub enum ChecksumError {
    /// There is none: verify online before anything else.
    #[error("there is no checksum file")]
    Missing,
    /// Longer than any.
    #[error("a checksum file of {bytes} bytes; at most {MAX_FILE_BYTES}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not the JSON of a checksum.
    #[error("not a checksum file")]
    Json(#[from] BodyError),
    /// A version that this release does not know.
    #[error("a checksum file of version {0}, which this release does not know")]
    Version(u32),
    /// Not hex in lower case, or of another length.
    #[error("{field}: want {bytes} bytes in lower-case hex")]
    Hex {
        /// Which field.
        field: &'static str,
        /// How many bytes it has to be.
        bytes: usize,
    },
    /// Sealed on another device, or changed.
    #[error("the checksum does not open on this device")]
    Undecryptable,
    /// Another license file.
    #[error("the license file is not the one that was written")]
    Mismatch,
}

/// The key of a device's checksums.
pub fn checksum_key(fingerprint: &str) -> Secret<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(LABEL);
    hash.update(fingerprint.trim().as_bytes());
    Secret::new(hash.finalize().into())
}

/// The bytes of the checksum file of a license file. The nonce must be random and never used
/// before.
pub fn seal(
    license_file: &[u8],
    fingerprint: &str,
    nonce: [u8; NONCE_BYTES],
    created_at: LicenseTime,
) -> Vec<u8> {
    let digest = Sha256::digest(license_file);
    #[expect(clippy::expect_used, reason = "32 bytes are far below 64 GiB")]
    let payload =
        crypto::seal(&checksum_key(fingerprint), &nonce, &digest).expect("a digest can be sealed");
    let file = ChecksumFile {
        version: VERSION,
        nonce: HEXLOWER.encode(&nonce),
        payload: HEXLOWER.encode(&payload),
        created_at,
    };
    #[expect(clippy::expect_used, reason = "a number, texts and a time are always JSON")]
    serde_json::to_vec(&file).expect("a checksum is JSON")
}

/// Whether a checksum file, where there is one, vouches for a license file on this device; says
/// when it was written.
pub fn verify(
    checksum_file: Option<&[u8]>,
    license_file: &[u8],
    fingerprint: &str,
) -> Result<LicenseTime, ChecksumError> {
    let bytes = checksum_file.ok_or(ChecksumError::Missing)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ChecksumError::TooLong { bytes: bytes.len() });
    }
    let file: ChecksumFile = body::decode(bytes)?;
    if file.version != VERSION {
        return Err(ChecksumError::Version(file.version));
    }
    let nonce: [u8; NONCE_BYTES] = hex("nonce", &file.nonce)?;
    let payload: [u8; PAYLOAD_BYTES] = hex("payload", &file.payload)?;
    let digest = crypto::open(&checksum_key(fingerprint), &nonce, &payload)
        .ok_or(ChecksumError::Undecryptable)?;
    if bool::from(digest.ct_eq(&Sha256::digest(license_file)[..])) {
        Ok(file.created_at)
    } else {
        Err(ChecksumError::Mismatch)
    }
}

/// The file's fields in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChecksumFile {
    version: u32,
    nonce: String,
    payload: String,
    created_at: LicenseTime,
}

fn hex<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], ChecksumError> {
    HEXLOWER
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(ChecksumError::Hex { field, bytes: N })
}

const LABEL: &str = "github.com/oarkflow/licensing/client-checksum/v1";
/// SHA-256 and the tag.
const PAYLOAD_BYTES: usize = 32 + crypto::TAG_BYTES;
