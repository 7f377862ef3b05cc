//! HMAC-SHA-256 keys, for the identifiers that a node must recognise as its own without a table.
//!
//! Callers pass parts of fixed width, or at most one of variable width at the end: the parts are
//! concatenated and not framed. The first part is always a label that names the purpose, so that
//! one key may serve several kinds of text.
//!
//! ```compile_fail,E0277
//! let key = protocol::mac::MacKey::new([1; 32]);
//! println!("{key:?}"); // no Debug
//! ```
//! ```compile_fail,E0599
//! let key = protocol::mac::MacKey::new([1; 32]);
//! let copy = key.clone(); // no Clone
//! ```
//! ```compile_fail,E0277
//! let key = protocol::mac::MacKey::new([1; 32]);
//! serde_json::to_string(&key).unwrap(); // no Serialize
//! ```
//! ```
//! let key = protocol::mac::MacKey::new([1; 32]);
//! assert!(key.verify(&[b"label", b"text"], &key.tag(&[b"label", b"text"])));
//! ```

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes of a full tag.
pub const TAG_BYTES: usize = 32;

/// A 256-bit key, wiped when dropped.
pub struct MacKey([u8; 32]);

impl MacKey {
    /// Takes 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA-256 over the parts, one after the other.
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("32 bytes are a key");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is the tag of the parts, or its beginning when shorter; in constant time.
    /// A tag shorter than eight bytes proves nothing and is never accepted.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        (8..=TAG_BYTES).contains(&tag.len()) && bool::from(self.tag(parts)[..tag.len()].ct_eq(tag))
    }
}

/// HMAC-SHA-256 under a secret of any length: the keys of protocols that others defined.
pub(crate) fn hmac_sha256(secret: &[u8], message: &[u8]) -> [u8; TAG_BYTES] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length is a key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl Drop for MacKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
