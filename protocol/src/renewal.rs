//! Renewal tokens: derived from the lease and its sequence, never stored.
//!
//! ```text
//! rt1-<base64url>    RFC 4648 section 5, no padding, 44 characters
//!   0   1   version, 1
//!   1   2   group, big endian
//!   3  10   random part of the lease id
//!  13   4   sequence, big endian
//!  17  16   first bytes of HMAC-SHA-256(key,
//!             "renewal" ‖ epoch (u32, big endian) ‖ group ‖ random ‖ sequence)
//! ```
//!
//! The epoch is in the MAC and not in the text: after a restore, tokens of the former epoch verify
//! under that epoch only. What it leaves to others: whether the sequence is the current one is
//! decided by the ledger, in order.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::lease_id::{LeaseKey, RANDOM_BYTES};
use crate::mac::MacKey;

/// Characters of a renewal token.
pub const TEXT_LEN: usize = PREFIX.len() + 44;

/// What a renewal token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// The lease it renews.
    pub lease: LeaseKey,
    /// How many renewals came before.
    pub sequence: u32,
}

/// Why a text is no renewal token. To a caller all are `renewal_token_invalid`, 409.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RenewalError {
    /// Not the one spelling of a token.
    #[error("not the form of a renewal token")]
    Form,
    /// A version that this release does not know.
    #[error("a renewal token of version {0}, which this release does not know")]
    Version(u8),
    /// Well formed, and not made under this key and epoch.
    #[error("not a renewal token of this cluster and epoch")]
    Mac,
}

/// The token's text.
pub fn encode(key: &MacKey, epoch: u32, renewal: Renewal) -> String {
    let mut bytes = [0_u8; TOKEN_BYTES];
    bytes[0] = VERSION;
    bytes[1..3].copy_from_slice(&renewal.lease.group.to_be_bytes());
    bytes[3..SEQUENCE_AT].copy_from_slice(&renewal.lease.random);
    bytes[SEQUENCE_AT..MAC_AT].copy_from_slice(&renewal.sequence.to_be_bytes());
    let tag = key.tag(&[LABEL, &epoch.to_be_bytes(), &bytes[1..MAC_AT]]);
    bytes[MAC_AT..].copy_from_slice(&tag[..MAC_BYTES]);
    let mut text = String::with_capacity(TEXT_LEN);
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text
}

/// Reads a token and checks its MAC under the epoch in constant time.
pub fn decode(key: &MacKey, epoch: u32, text: &str) -> Result<Renewal, RenewalError> {
    if text.len() != TEXT_LEN {
        return Err(RenewalError::Form);
    }
    let body = text.strip_prefix(PREFIX).ok_or(RenewalError::Form)?;
    let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| RenewalError::Form)?;
    let bytes: [u8; TOKEN_BYTES] = bytes.try_into().map_err(|_| RenewalError::Form)?;
    if bytes[0] != VERSION {
        return Err(RenewalError::Version(bytes[0]));
    }
    if !key.verify(&[LABEL, &epoch.to_be_bytes(), &bytes[1..MAC_AT]], &bytes[MAC_AT..]) {
        return Err(RenewalError::Mac);
    }
    let mut random = [0; RANDOM_BYTES];
    random.copy_from_slice(&bytes[3..SEQUENCE_AT]);
    let mut sequence = [0; 4];
    sequence.copy_from_slice(&bytes[SEQUENCE_AT..MAC_AT]);
    Ok(Renewal {
        lease: LeaseKey { group: u16::from_be_bytes([bytes[1], bytes[2]]), random },
        sequence: u32::from_be_bytes(sequence),
    })
}

const PREFIX: &str = "rt1-";
const LABEL: &[u8] = b"renewal";
const VERSION: u8 = 1;
const SEQUENCE_AT: usize = 3 + RANDOM_BYTES;
const MAC_AT: usize = SEQUENCE_AT + 4;
const MAC_BYTES: usize = 16;
const TOKEN_BYTES: usize = MAC_AT + MAC_BYTES;
