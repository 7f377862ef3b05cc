//! Versions of the key that license files are signed with.
//!
//! New files are signed with the *current* version; files of every version from the *minimum* on
//! are accepted. Versions are numbers: `v10` is newer than `v2`, whatever the order of the texts.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::mac::hmac_sha256;
use crate::secret::Secret;

/// A version of the key: `v1`, `v2`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyVersion(pub u32);

/// A text that names no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a key version: want v and a number from 1 on, as v1")]
pub struct NotAKeyVersion;

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl FromStr for KeyVersion {
    type Err = NotAKeyVersion;

    fn from_str(text: &str) -> Result<Self, NotAKeyVersion> {
        let digits = text.strip_prefix('v').ok_or(NotAKeyVersion)?;
        if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAKeyVersion);
        }
        digits.parse().map(Self).map_err(|_| NotAKeyVersion)
    }
}

impl Serialize for KeyVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why keys make no ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyRingError {
    /// The current version is older than the oldest accepted one.
    #[error("key version {current} is older than {minimum}, the oldest accepted one")]
    CurrentBelowMinimum {
        /// What would sign.
        current: KeyVersion,
        /// What would be accepted.
        minimum: KeyVersion,
    },
    /// There is no key of the current version.
    #[error("no key of version {0}")]
    NoCurrentKey(KeyVersion),
    /// A key without bytes.
    #[error("the key of version {0} is empty")]
    EmptyKey(KeyVersion),
}

/// The keys by version. Wiped when dropped, never printed or copied.
pub struct KeyRing {
    keys: BTreeMap<KeyVersion, Secret<Vec<u8>>>,
    current: KeyVersion,
    minimum: KeyVersion,
}

impl KeyRing {
    /// A ring that signs with `current` and accepts every version from `minimum` on.
    pub fn new(
        keys: BTreeMap<KeyVersion, Secret<Vec<u8>>>,
        current: KeyVersion,
        minimum: KeyVersion,
    ) -> Result<Self, KeyRingError> {
        if current < minimum {
            return Err(KeyRingError::CurrentBelowMinimum { current, minimum });
        }
        if let Some((version, _)) = keys.iter().find(|(_, key)| key.expose().is_empty()) {
            return Err(KeyRingError::EmptyKey(*version));
        }
        if !keys.contains_key(&current) {
            return Err(KeyRingError::NoCurrentKey(current));
        }
        Ok(Self { keys, current, minimum })
    }

    /// What new files are signed with.
    pub fn current(&self) -> KeyVersion {
        self.current
    }

    /// The oldest version that is accepted.
    pub fn minimum(&self) -> KeyVersion {
        self.minimum
    }

    /// Lower-case hex HMAC-SHA-256 of a text under a version; `None` when there is no such key.
    pub(crate) fn tag(&self, version: KeyVersion, text: &str) -> Option<String> {
        let key = self.keys.get(&version)?;
        let tag = hmac_sha256(key.expose(), text.as_bytes());
        Some(data_encoding::HEXLOWER.encode(&tag))
    }

    /// Whether `signature` is the text's tag under an accepted version; `None` when the version is
    /// not accepted.
    pub(crate) fn verify(&self, version: KeyVersion, text: &str, signature: &str) -> Option<bool> {
        if version < self.minimum {
            return None;
        }
        let tag = self.tag(version, text)?;
        Some(tag.as_bytes().ct_eq(signature.as_bytes()).into())
    }
}

/// The secret of `v1` that stands in the published client, for its files only: everybody knows it.
pub const PUBLISHED_SECRET_V1: &str = "eval-secret-key-v1-change-in-production";
/// The same of `v2`.
pub const PUBLISHED_SECRET_V2: &str = "eval-secret-key-v2-change-in-production";
