//! The signed headers of a borrow.
//!
//! ```text
//! X-Signature = lower hex HMAC-SHA-256(vendor secret, tool|user|timestamp|api key)
//! X-Timestamp = Unix seconds, within 300 s of the server's clock
//! X-Vendor-ID = whose secret; `techvendor` when absent
//! ```
//!
//! Without an API key the clients sign `tool|user|timestamp`, while their server expected one more
//! `|`; both are accepted. There is no nonce: inside the window a signature can be replayed, which
//! the transport must prevent.

use subtle::ConstantTimeEq;
use thiserror::Error;

use super::DEFAULT_VENDOR;
use crate::mac::hmac_sha256;

/// How far the clocks may differ, in seconds.
pub const TIMESTAMP_WINDOW_SECONDS: u64 = 300;

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct SignedParts<'a> {
    /// The tool to borrow.
    pub tool: &'a str,
    /// Who borrows.
    pub user: &'a str,
    /// `X-Timestamp`, as it was sent.
    pub timestamp: &'a str,
    /// The API key, where there is one.
    pub api_key: Option<&'a str>,
}

/// The headers as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignatureHeaders<'a> {
    /// `X-Signature`
    pub signature: Option<&'a str>,
    /// `X-Timestamp`
    pub timestamp: Option<&'a str>,
    /// `X-Vendor-ID`
    pub vendor: Option<&'a str>,
}

impl<'a> SignatureHeaders<'a> {
    /// The vendor whose secret must have signed.
    pub fn vendor(&self) -> &'a str {
        self.vendor.filter(|vendor| !vendor.is_empty()).unwrap_or(DEFAULT_VENDOR)
    }
}

/// Why headers are not believed; the texts are the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecurityFailure {
    /// A header is missing.
    #[error("Missing X-Signature or X-Timestamp headers")]
    MissingHeaders,
    /// No such vendor; cut to 64 characters.
    #[error("Unknown vendor: {0}")]
    UnknownVendor(String),
    /// The clocks differ by more than the window.
    #[error("Request expired (timestamp difference: {difference_seconds}s)")]
    Expired {
        /// By how much.
        difference_seconds: u64,
    },
    /// A timestamp that is no number.
    #[error("Invalid timestamp format")]
    InvalidTimestamp,
    /// The signature does not belong to the request.
    #[error("Invalid signature")]
    InvalidSignature,
}

/// The signature of a borrow.
pub fn sign(secret: &[u8], parts: &SignedParts<'_>) -> String {
    let text = match parts.api_key {
        Some(api_key) => join(&[parts.tool, parts.user, parts.timestamp, api_key]),
        None => join(&[parts.tool, parts.user, parts.timestamp]),
    };
    tag(secret, &text)
}

/// Checks the headers of a borrow. `secret` is the vendor's of [`SignatureHeaders::vendor`]; `None`
/// is an unknown vendor. `now_seconds` is Unix seconds.
pub fn verify(
    headers: &SignatureHeaders<'_>,
    secret: Option<&[u8]>,
    tool: &str,
    user: &str,
    api_key: Option<&str>,
    now_seconds: i64,
) -> Result<(), SecurityFailure> {
    let present = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
    if !present(headers.signature) || !present(headers.timestamp) {
        return Err(SecurityFailure::MissingHeaders);
    }
    let signature = headers.signature.unwrap_or_default();
    let timestamp = headers.timestamp.unwrap_or_default();
    let secret = secret.ok_or_else(|| {
        let shown = headers.vendor().chars().filter(|c| !c.is_control()).take(64).collect();
        SecurityFailure::UnknownVendor(shown)
    })?;
    let seconds: i64 = timestamp.trim().parse().map_err(|_| SecurityFailure::InvalidTimestamp)?;
    let difference_seconds = now_seconds.abs_diff(seconds);
    if difference_seconds > TIMESTAMP_WINDOW_SECONDS {
        return Err(SecurityFailure::Expired { difference_seconds });
    }
    let parts = SignedParts { tool, user, timestamp, api_key };
    let matches = |tag: &str| bool::from(tag.as_bytes().ct_eq(signature.as_bytes()));
    let with_bar =
        || api_key.is_none() && matches(&tag(secret, &join(&[tool, user, timestamp, ""])));
    if matches(&sign(secret, &parts)) || with_bar() {
        Ok(())
    } else {
        Err(SecurityFailure::InvalidSignature)
    }
}

fn join(parts: &[&str]) -> String {
    parts.join("|")
}

fn tag(secret: &[u8], text: &str) -> String {
    data_encoding::HEXLOWER.encode(&hmac_sha256(secret, text.as_bytes()))
}
