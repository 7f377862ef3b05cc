//! The secure envelope: a request or answer sealed under the session key.
//!
//! ```text
//! {"version":1,"nonce":"<hex of 12 bytes>","ciphertext":"<hex of AES-256-GCM output and tag>"}
//! ```
//!
//! Sent when the header `X-License-Secure` is `1`; an answer to a readable envelope is enveloped
//! too, whatever it says, under the status that it would have had plain. Hex is in lower case: one
//! envelope has one text. Members of other names are ignored, as the reference server ignores them.
//!
//! What it leaves to others: whose session key it is (`node`).

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::crypto::{self, NONCE_BYTES, SessionKey};
use super::fingerprint::is_fingerprint;
use super::key::LicenseKey;

/// The only version.
pub const VERSION: u32 = 1;

/// An envelope as JSON shows it; its texts are not looked at until it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceEnvelope)]
pub struct Envelope {
    /// Always 1.
    #[schema(example = 1)]
    pub version: u32,
    /// 12 bytes, lower-case hex.
    #[schema(example = "e27be5337f264f68ad799847", min_length = 24, max_length = 24)]
    pub nonce: String,
    /// Ciphertext and tag, lower-case hex.
    pub ciphertext: String,
}

/// Why an envelope was not opened. Answered in the clear, with [`EnvelopeError::status`] and
/// [`EnvelopeError::message`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// The headers that name key and device are not there.
    #[error("a secure request without X-License-Key or X-Device-Fingerprint")]
    Headers,
    /// No such license and device, or no session key for them.
    #[error("no session key for this license and device")]
    NotAuthorized,
    /// Not the JSON of an envelope.
    #[error("not an envelope: {reason}")]
    Malformed {
        /// What, where.
        reason: String,
    },
    /// A version that this release does not know.
    #[error("an envelope of version {0}, which this release does not know")]
    Version(u32),
    /// Not hex in lower case.
    #[error("{field} is not lower-case hex")]
    Hex {
        /// Which member.
        field: &'static str,
    },
    /// A nonce of another length.
    #[error("a nonce of {bytes} bytes; want {NONCE_BYTES}")]
    NonceLength {
        /// How long it is.
        bytes: usize,
    },
    /// Sealed under another key, or changed.
    #[error("does not open with this session key")]
    Sealed,
}

impl EnvelopeError {
    /// The status: 401 for a device without a session key, 400 for the rest.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotAuthorized => 401,
            _ => 400,
        }
    }

    /// The protocol's message.
    pub fn message(&self) -> &'static str {
        match self {
            Self::Headers => "Secure payload missing fingerprint or license key",
            Self::NotAuthorized => "Device not authorized for secure transport",
            Self::Malformed { .. } => "Invalid secure envelope",
            Self::Version(_) | Self::Hex { .. } | Self::NonceLength { .. } | Self::Sealed => {
                "Failed to decrypt payload"
            }
        }
    }
}

/// Whether the value of `X-License-Secure` says that the body is an envelope: only `1` does.
pub fn is_secure(header: Option<&[u8]>) -> bool {
    header == Some(b"1")
}

/// Whose envelope it is, from the values of `X-License-Key` and `X-Device-Fingerprint`. What is
/// there and is no key or fingerprint belongs to no device.
pub fn sender<'a>(
    license_key: Option<&str>,
    fingerprint: Option<&'a str>,
) -> Result<(LicenseKey, &'a str), EnvelopeError> {
    let present = |header: &str| !header.trim().is_empty();
    let (Some(license_key), Some(fingerprint)) =
        (license_key.filter(|text| present(text)), fingerprint.filter(|text| present(text)))
    else {
        return Err(EnvelopeError::Headers);
    };
    let key = LicenseKey::normalise(license_key).map_err(|_| EnvelopeError::NotAuthorized)?;
    let fingerprint = fingerprint.trim();
    if is_fingerprint(fingerprint) {
        Ok((key, fingerprint))
    } else {
        Err(EnvelopeError::NotAuthorized)
    }
}

/// Seals a body; the answer is the envelope's JSON. The nonce must be random and never used before.
pub fn seal(session_key: &SessionKey, nonce: [u8; NONCE_BYTES], body: &[u8]) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "bodies are bounded far below 64 GiB")]
    let ciphertext = crypto::seal(session_key, &nonce, body).expect("a body can be sealed");
    let envelope = Envelope {
        version: VERSION,
        nonce: HEXLOWER.encode(&nonce),
        ciphertext: HEXLOWER.encode(&ciphertext),
    };
    #[expect(clippy::expect_used, reason = "numbers and texts are always JSON")]
    serde_json::to_vec(&envelope).expect("an envelope is JSON")
}

/// Reads an envelope and opens it.
pub fn open(session_key: &SessionKey, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let envelope: Envelope = crate::cloud::body::decode(body)
        .map_err(|error| EnvelopeError::Malformed { reason: error.to_string() })?;
    if envelope.version != VERSION {
        return Err(EnvelopeError::Version(envelope.version));
    }
    let nonce = hex("nonce", &envelope.nonce)?;
    let nonce: [u8; NONCE_BYTES] = nonce
        .try_into()
        .map_err(|nonce: Vec<u8>| EnvelopeError::NonceLength { bytes: nonce.len() })?;
    let ciphertext = hex("ciphertext", &envelope.ciphertext)?;
    crypto::open(session_key, &nonce, &ciphertext).ok_or(EnvelopeError::Sealed)
}

fn hex(field: &'static str, text: &str) -> Result<Vec<u8>, EnvelopeError> {
    HEXLOWER.decode(text.as_bytes()).map_err(|_| EnvelopeError::Hex { field })
}
