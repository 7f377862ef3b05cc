//! License keys: opaque text of `A-Z 0-9 -`, read without regard to case.
//!
//! A key is a credential: it is wiped when dropped, and nothing prints or copies it. Lookup is by
//! a MAC of the canonical text (`node`), never by the text.
//!
//! ```compile_fail,E0277
//! fn debug<T: std::fmt::Debug>() {}
//! debug::<protocol::deployment::license_key::LicenseKey>();
//! ```
//! ```compile_fail,E0277
//! fn cloned<T: Clone>() {}
//! cloned::<protocol::deployment::license_key::LicenseKey>();
//! ```
//! ```
//! fn debug<T: std::fmt::Debug>() {}
//! debug::<protocol::deployment::license_key::NotALicenseKey>();
//! ```

use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use utoipa::ToSchema;
use zeroize::{Zeroize, Zeroizing};

/// Fewest characters of a key.
pub const MIN_KEY_CHARS: usize = 8;
/// Most characters of a key.
pub const MAX_KEY_CHARS: usize = 128;

/// A license key in its canonical form: upper case.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
#[schema(as = DeploymentLicenseKey, value_type = String, format = Password)]
#[schema(example = "LH-MFRGG-ZDFMZ-TWQ2L-KNNWG-23TPO")]
pub struct LicenseKey(String);

/// A text that is no license key. Never says what the text was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("want {MIN_KEY_CHARS} to {MAX_KEY_CHARS} characters of A-Z 0-9 -")]
pub struct NotALicenseKey;

impl LicenseKey {
    /// A new key of 125 of 128 random bits: `LH-` and five groups of five base32 characters.
    pub fn generate(entropy: &[u8; 16]) -> Self {
        let digits = Zeroizing::new(BASE32_NOPAD.encode(entropy));
        let mut key = String::with_capacity(PREFIX.len() + GROUPS * (GROUP_CHARS + 1));
        key.push_str(PREFIX);
        for group in 0..GROUPS {
            key.push('-');
            key.push_str(&digits[group * GROUP_CHARS..(group + 1) * GROUP_CHARS]);
        }
        Self(key)
    }

    /// The canonical text. Every call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for LicenseKey {
    type Err = NotALicenseKey;

    /// Reads a key; spaces around it are dropped, since keys are pasted.
    fn from_str(text: &str) -> Result<Self, NotALicenseKey> {
        let text = text.trim_matches(' ');
        let fits = (MIN_KEY_CHARS..=MAX_KEY_CHARS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && text.bytes().any(|byte| byte != b'-');
        if fits { Ok(Self(text.to_ascii_uppercase())) } else { Err(NotALicenseKey) }
    }
}

impl<'de> Deserialize<'de> for LicenseKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Drop for LicenseKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

const PREFIX: &str = "LH";
const GROUPS: usize = 5;
const GROUP_CHARS: usize = 5;
