//! The public keys under which tokens verify, as `/.well-known/leasehold-offline-keys.json` has
//! them.
//!
//! A key set is a JWKS (RFC 7517) of Ed25519 keys (RFC 8037). Keys of other kinds are passed over,
//! as the RFC wants; an Ed25519 key that does not pass the gate of [`crate::keys`], or whose `kid`
//! is not its own thumbprint, makes the whole document wrong: it was not written by us.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::keys::{Algorithm, KeyError, PublicKey};
use crate::oauth::claims::{Jwk, Jwks, key_id};
use crate::strict_json::{self, StrictJsonError};

/// Most keys in a set: one in use, one that comes, and those whose tokens still live.
pub const MAX_KEYS: usize = 64;

/// Why a text is no key set, or a key cannot be in one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Not JSON, or JSON with two meanings.
    #[error("the key set is refused")]
    Json(#[from] StrictJsonError),
    /// Not a JWKS.
    #[error("not a key set: {0}")]
    Malformed(&'static str),
    /// A key that the gate refuses.
    #[error("key {kid:?} of the key set is refused")]
    Key {
        /// Which one, cut to 64 characters.
        kid: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A `kid` that is not the key's thumbprint.
    #[error("key id {0:?} is not the thumbprint of its key")]
    WrongKeyId(String),
    /// A key of another kind, offered to [`KeySet::insert`].
    #[error("tokens are verified with Ed25519 keys only")]
    NotEd25519,
    /// More than [`MAX_KEYS`].
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
}

/// Ed25519 keys by their thumbprints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet {
    keys: BTreeMap<String, PublicKey>,
}

impl KeySet {
    /// A set of one key.
    pub fn of(key: PublicKey) -> Result<Self, KeySetError> {
        let mut set = Self::default();
        set.insert(key)?;
        Ok(set)
    }

    /// Takes a key in and tells its id.
    pub fn insert(&mut self, key: PublicKey) -> Result<String, KeySetError> {
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(KeySetError::NotEd25519);
        }
        let kid = key_id(&key);
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(&kid) {
            return Err(KeySetError::TooMany);
        }
        self.keys.insert(kid.clone(), key);
        Ok(kid)
    }

    /// The key of an id.
    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.get(kid)
    }

    /// Key ids and keys, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PublicKey)> {
        self.keys.iter().map(|(kid, key)| (kid.as_str(), key))
    }

    /// The document to publish.
    pub fn to_jwks(&self) -> Jwks {
        Jwks { keys: self.keys.values().map(Jwk::of).collect() }
    }

    /// Reads a published document.
    pub fn from_json(bytes: &[u8]) -> Result<Self, KeySetError> {
        let document = strict_json::parse(bytes, &[])?;
        let document: Document = serde_json::from_slice(&document.canonical_bytes())
            .map_err(|_| KeySetError::Malformed("want an object with a list of keys"))?;
        let mut set = Self::default();
        for value in document.keys {
            if !is_ed25519(&value) {
                continue;
            }
            let jwk: Jwk = serde_json::from_value(value)
                .map_err(|_| KeySetError::Malformed("want kty, crv, x, kid, use and alg"))?;
            set.insert_jwk(jwk)?;
        }
        Ok(set)
    }

    fn insert_jwk(&mut self, jwk: Jwk) -> Result<(), KeySetError> {
        if jwk.usage != "sig" || jwk.alg != "EdDSA" {
            return Err(KeySetError::Malformed("want a key for EdDSA signatures"));
        }
        let shown: String = jwk.kid.chars().take(64).collect();
        let point: [u8; 32] = jwk
            .x
            .and_then(|x| URL_SAFE_NO_PAD.decode(x).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(KeySetError::Malformed("want x as 32 bytes in base64url"))?;
        let key = PublicKey::from_ed25519_bytes(&point)
            .map_err(|source| KeySetError::Key { kid: shown.clone(), source })?;
        if key_id(&key) != jwk.kid {
            return Err(KeySetError::WrongKeyId(shown));
        }
        self.insert(key).map(|_| ())
    }
}

#[derive(serde::Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

fn is_ed25519(value: &serde_json::Value) -> bool {
    value.get("kty").is_some_and(|kty| kty == "OKP")
        && value.get("crv").is_some_and(|curve| curve == "Ed25519")
}
