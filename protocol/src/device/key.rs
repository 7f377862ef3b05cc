//! License keys: 40 characters of base32, shown as eight groups of five.
//!
//! ```text
//!   0  21   random
//!  21   4   first bytes of HMAC-SHA-256(client id, random ‖ e-mail address in lower case)
//! ```
//!
//! The MAC is what the reference implementation writes; nobody checks it, since client and address
//! may change while the key stays. 168 random bits are what a guess has to meet.
//!
//! A key is a secret: it is never printed or copied, and lists show its last characters.
//!
//! ```compile_fail,E0277
//! fn debug<T: std::fmt::Debug>() {}
//! debug::<protocol::device::key::LicenseKey>();
//! ```
//! ```compile_fail,E0277
//! fn written<T: serde::Serialize>() {}
//! written::<protocol::device::key::LicenseKey>();
//! ```
//! ```
//! let key = protocol::device::key::LicenseKey::normalise(&"abcd2-".repeat(8));
//! assert!(key.is_ok());
//! ```
//!
//! What it leaves to others: the MAC by which the ledger finds a key (`node`).

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Characters of a key without hyphens.
pub const KEY_CHARS: usize = 40;
/// Random bytes of a new key.
pub const ENTROPY_BYTES: usize = 21;

/// A license key in its normal form: 40 characters of `A-Z 2-7`.
pub struct LicenseKey(Secret<[u8; KEY_CHARS]>);

/// A text that is no license key. To a caller: 400, `invalid license key format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a license key: want 40 characters of A-Z and 2-7, hyphens and spaces aside")]
pub struct NotALicenseKey;

impl LicenseKey {
    /// Reads a key as people type it: hyphens and white space anywhere, letters of either case.
    pub fn normalise(text: &str) -> Result<Self, NotALicenseKey> {
        let mut normal = Zeroizing::new([0_u8; KEY_CHARS]);
        let mut length = 0;
        for byte in text.bytes().filter(|byte| !matches!(byte, b'-' | b' ' | b'\t'..=b'\r')) {
            let upper = byte.to_ascii_uppercase();
            if length == KEY_CHARS || !matches!(upper, b'A'..=b'Z' | b'2'..=b'7') {
                return Err(NotALicenseKey);
            }
            normal[length] = upper;
            length += 1;
        }
        if length == KEY_CHARS { Ok(Self(Secret::new(*normal))) } else { Err(NotALicenseKey) }
    }

    /// Makes a key of 21 random bytes, for a client and the address that it is issued to.
    pub fn generate(entropy: &[u8; ENTROPY_BYTES], client_id: &str, email: &str) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(client_id.as_bytes()).expect("any length is a key");
        mac.update(entropy);
        mac.update(email.trim().to_lowercase().as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        bytes[..ENTROPY_BYTES].copy_from_slice(entropy);
        bytes[ENTROPY_BYTES..].copy_from_slice(&tag[..KEY_BYTES - ENTROPY_BYTES]);
        let mut text = Zeroizing::new([0_u8; KEY_CHARS]);
        BASE32_NOPAD.encode_mut(&*bytes, &mut *text);
        Self(Secret::new(*text))
    }

    /// The 40 characters.
    pub fn expose(&self) -> &str {
        #[expect(clippy::expect_used, reason = "both makers write A-Z and 2-7 only")]
        std::str::from_utf8(self.0.expose()).expect("base32 is ASCII")
    }

    /// The key as people see it: eight groups of five.
    pub fn hyphenated(&self) -> Secret<String> {
        // Room for everything from the start: a buffer that grows leaves a copy behind.
        let mut text = String::with_capacity(KEY_CHARS + KEY_CHARS / GROUP_CHARS);
        for (at, character) in self.expose().chars().enumerate() {
            if at > 0 && at % GROUP_CHARS == 0 {
                text.push('-');
            }
            text.push(character);
        }
        Secret::new(text)
    }

    /// The last four characters, for lists: enough to tell keys apart, too little to guess one.
    pub fn last_characters(&self) -> String {
        self.expose()[KEY_CHARS - HINT_CHARS..].to_owned()
    }

    /// Whether two keys are the same, in constant time.
    pub fn equals(&self, other: &Self) -> bool {
        self.0.equals(other.0.expose())
    }
}

const KEY_BYTES: usize = 25;
const GROUP_CHARS: usize = 5;
const HINT_CHARS: usize = 4;
