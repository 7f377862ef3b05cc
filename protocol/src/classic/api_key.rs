//! API keys: `{tenant}_{environment}_pk_{43 characters of base64url}`, 256 random bits at the end.
//!
//! Shown once when made; looked up by the SHA-256 of the whole text. 256 bits cannot be guessed, so
//! the hash needs no salt and no work factor.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::Disclosed;

/// Longest name of a tenant.
pub const MAX_TENANT_CHARS: usize = 64;
/// Longest name of an environment.
pub const MAX_ENVIRONMENT_CHARS: usize = 32;

/// What a key says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyParts<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// `live`, `test` and the like.
    pub environment: &'a str,
}

/// A text that is no API key. Never says what the text was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an API key")]
pub struct NotAnApiKey;

/// A tenant or an environment that cannot stand in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("want a tenant of A-Z a-z 0-9 . - _ and an environment of A-Z a-z 0-9 -")]
pub struct NotATenant;

/// A new key of 32 random bytes.
pub fn generate(
    tenant: &str,
    environment: &str,
    entropy: &[u8; 32],
) -> Result<Disclosed, NotATenant> {
    if !is_tenant(tenant) || !is_environment(environment) {
        return Err(NotATenant);
    }
    let digits = Zeroizing::new(URL_SAFE_NO_PAD.encode(entropy));
    Ok(Disclosed::new([tenant, "_", environment, MARK, &digits].concat()))
}

/// Takes a key apart. The secret part is the last 43 characters, which may hold `_` themselves.
pub fn parse(key: &str) -> Result<ApiKeyParts<'_>, NotAnApiKey> {
    let at = key.len().checked_sub(SECRET_CHARS).ok_or(NotAnApiKey)?;
    let (front, secret) = key.split_at_checked(at).ok_or(NotAnApiKey)?;
    let is_secret = URL_SAFE_NO_PAD.decode(secret).is_ok_and(|bytes| bytes.len() == 32);
    let front = front.strip_suffix(MARK).filter(|_| is_secret).ok_or(NotAnApiKey)?;
    let (tenant, environment) = front.rsplit_once('_').ok_or(NotAnApiKey)?;
    if is_tenant(tenant) && is_environment(environment) {
        Ok(ApiKeyParts { tenant, environment })
    } else {
        Err(NotAnApiKey)
    }
}

/// What is stored of a key: SHA-256 of its text.
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// The name of a key in lists: `key_` and 16 hex digits.
pub fn key_id(random: [u8; 8]) -> String {
    format!("key_{}", data_encoding::HEXLOWER.encode(&random))
}

fn is_tenant(text: &str) -> bool {
    (1..=MAX_TENANT_CHARS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn is_environment(text: &str) -> bool {
    (1..=MAX_ENVIRONMENT_CHARS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

const MARK: &str = "_pk_";
const SECRET_CHARS: usize = 43;
