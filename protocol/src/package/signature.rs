//! The text of a package's signature: `SHA256-RSA:` or `Ed25519:` and standard base64.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::keys::Algorithm;

/// A signature and the algorithm it claims; the pinned key decides whether that is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSignature {
    /// What it claims to be.
    pub algorithm: Algorithm,
    /// The signature.
    pub bytes: Vec<u8>,
}

/// A text that is no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not SHA256-RSA:base64 or Ed25519:base64")]
pub struct NotASignature;

impl fmt::Display for PackageSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.signature_prefix(), STANDARD.encode(&self.bytes))
    }
}

impl FromStr for PackageSignature {
    type Err = NotASignature;

    fn from_str(text: &str) -> Result<Self, NotASignature> {
        let (prefix, body) = text.split_once(':').ok_or(NotASignature)?;
        let algorithm = [Algorithm::RsaSha256, Algorithm::Ed25519]
            .into_iter()
            .find(|algorithm| algorithm.signature_prefix() == prefix)
            .ok_or(NotASignature)?;
        let bytes = STANDARD.decode(body).map_err(|_| NotASignature)?;
        if bytes.is_empty() { Err(NotASignature) } else { Ok(Self { algorithm, bytes }) }
    }
}
