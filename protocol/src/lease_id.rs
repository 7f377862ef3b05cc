//! The text of a lease id, which says by itself whether this cluster made it.
//!
//! ```text
//! lease-<base32>     RFC 4648 alphabet in lower case, no padding, 36 characters
//!   0   2   group, big endian
//!   2  10   drawn by a gateway: time first, so that ids lie in order, then 40 random bits
//!  12  10   first bytes of HMAC-SHA-256(key, "lease-id" ‖ group ‖ random)
//! ```
//!
//! The MAC lets a gateway tell "never ours" (404) from "ours and ended" (410) without keeping ended
//! leases for ever, and makes ids impossible to guess. There is exactly one text per id: upper
//! case, padding and set bits past the end are refused.

use data_encoding::BASE32_NOPAD;
use thiserror::Error;

use crate::mac::MacKey;

/// Bytes that a gateway draws.
pub const RANDOM_BYTES: usize = 10;
/// Characters of a lease id.
pub const TEXT_LEN: usize = PREFIX.len() + 36;

/// What a lease id holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    /// The group (shard) whose ledger holds the lease.
    pub group: u16,
    /// What the gateway drew.
    pub random: [u8; RANDOM_BYTES],
}

/// Why a text is no lease id of this cluster. To a caller both are 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LeaseIdError {
    /// Not the one spelling of an id.
    #[error("not the form of a lease id")]
    Form,
    /// Well formed, and not made under this key.
    #[error("not a lease id of this cluster")]
    Mac,
}

/// The id's text.
pub fn encode(key: &MacKey, lease: LeaseKey) -> String {
    let mut bytes = [0_u8; ID_BYTES];
    bytes[..2].copy_from_slice(&lease.group.to_be_bytes());
    bytes[2..MAC_AT].copy_from_slice(&lease.random);
    let tag = key.tag(&[LABEL, &bytes[..MAC_AT]]);
    bytes[MAC_AT..].copy_from_slice(&tag[..MAC_BYTES]);
    let mut text = BASE32_NOPAD.encode(&bytes);
    text.make_ascii_lowercase();
    text.insert_str(0, PREFIX);
    text
}

/// Reads an id and checks its MAC in constant time.
pub fn decode(key: &MacKey, text: &str) -> Result<LeaseKey, LeaseIdError> {
    let body = text.strip_prefix(PREFIX).ok_or(LeaseIdError::Form)?;
    if !body.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')) {
        return Err(LeaseIdError::Form);
    }
    let bytes = BASE32_NOPAD
        .decode(body.to_ascii_uppercase().as_bytes())
        .map_err(|_| LeaseIdError::Form)?;
    let bytes: [u8; ID_BYTES] = bytes.try_into().map_err(|_| LeaseIdError::Form)?;
    if !key.verify(&[LABEL, &bytes[..MAC_AT]], &bytes[MAC_AT..]) {
        return Err(LeaseIdError::Mac);
    }
    let mut random = [0; RANDOM_BYTES];
    random.copy_from_slice(&bytes[2..MAC_AT]);
    Ok(LeaseKey { group: u16::from_be_bytes([bytes[0], bytes[1]]), random })
}

const PREFIX: &str = "lease-";
const LABEL: &[u8] = b"lease-id";
const MAC_AT: usize = 2 + RANDOM_BYTES;
const MAC_BYTES: usize = 10;
const ID_BYTES: usize = MAC_AT + MAC_BYTES;
