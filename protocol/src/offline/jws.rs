//! Signed tokens in one narrow form: compact JWS (RFC 7515), Ed25519 only (RFC 8037).
//!
//! ```text
//! base64url({"alg":"EdDSA","kid":thumbprint,"typ":type}) . base64url(claims) . base64url(64 bytes)
//! ```
//!
//! The algorithm is fixed by the key and never by the token: a key set holds Ed25519 keys only, and
//! a header that names another algorithm, another type or anything besides these three members is
//! refused before a key is looked up. Header and claims pass the strict loader, so that no reader
//! can see other claims than the one who signed; base64url without padding has one text per value,
//! and signatures are checked by the strict rules, so that a token has no second spelling.
//!
//! What it leaves to others: what the claims mean ([`super`], [`crate::deployment::token`]).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys::{KeyError, PrivateKey};
use crate::oauth::claims::key_id;
use crate::strict_json::{self, StrictJsonError};

use super::key_set::KeySet;

/// No token is longer; a longer text is refused before it is decoded.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why a text is not a token of the wanted type, or not signed by a known key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwsError {
    /// Not three parts of base64url with the JSON that belongs in them, or too long.
    #[error("not a token: {0}")]
    Malformed(&'static str),
    /// Header or claims that the strict loader refuses.
    #[error("not a token: the JSON inside is refused")]
    Json(#[source] StrictJsonError),
    /// A token of another kind.
    #[error("a token of another type: {found:?}; expected {expected:?}")]
    WrongType {
        /// The `typ` found, cut to 64 characters.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// Another algorithm than the one there is.
    #[error("a token with algorithm {0:?}; only EdDSA is accepted")]
    WrongAlgorithm(String),
    /// Signed by a key that is not in the set.
    #[error("a token of an unknown key")]
    UnknownKey,
    /// The signature does not belong to the token.
    #[error("the signature of the token does not verify")]
    BadSignature,
}

impl JwsError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Json(_) => "malformed",
            Self::WrongType { .. } => "wrong_type",
            Self::WrongAlgorithm(_) => "wrong_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// Why a token could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// The key is no Ed25519 key, or failed.
    #[error("the key cannot sign tokens")]
    Key(#[from] KeyError),
    /// The key signs with another algorithm.
    #[error("tokens are signed with Ed25519 keys only")]
    NotEd25519,
    /// A claim that a reader would refuse: a number above 2^53−1, or too much text.
    #[error("the claims make no token that a reader would accept")]
    Claims(#[source] JwsError),
}

/// The three members of a header, in order of name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always `EdDSA`.
    pub alg: String,
    /// Thumbprint of the key (RFC 7638).
    pub kid: String,
    /// What kind of token it is.
    pub typ: String,
}

/// A token taken apart and not yet believed.
pub(crate) struct Unverified<'a> {
    pub(crate) header: Header,
    pub(crate) claims: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

/// Makes a token of type `typ`.
pub(crate) fn sign<C: Serialize>(
    key: &PrivateKey,
    typ: &'static str,
    claims: &C,
) -> Result<String, SignError> {
    let public = key.public_key()?;
    if public.algorithm() != crate::keys::Algorithm::Ed25519 {
        return Err(SignError::NotEd25519);
    }
    let header = Header { alg: ALGORITHM.to_owned(), kid: key_id(&public), typ: typ.to_owned() };
    let unwritable = |_| SignError::Claims(JwsError::Malformed("claims that are not JSON"));
    let mut token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(unwritable)?);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims).map_err(unwritable)?, &mut token);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    // Whoever gets the token must be able to read it.
    let read = Unverified::parse(&token).map_err(SignError::Claims)?;
    strict_json::parse(&read.claims, &[])
        .map_err(|error| SignError::Claims(JwsError::Json(error)))?;
    Ok(token)
}

/// The claims of a token of type `typ` that a key of the set signed.
pub(crate) fn verify<C: DeserializeOwned>(
    text: &str,
    typ: &'static str,
    keys: &KeySet,
) -> Result<C, JwsError> {
    let token = Unverified::parse(text)?;
    token.expect_type(typ)?;
    let key = keys.get(&token.header.kid).ok_or(JwsError::UnknownKey)?;
    key.verify(token.signed.as_bytes(), &token.signature).map_err(|_| JwsError::BadSignature)?;
    token.read_claims()
}

impl<'a> Unverified<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, JwsError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(JwsError::Malformed("longer than 8 KiB"));
        }
        let parts = || JwsError::Malformed("want three parts with points between them");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(parts)?;
        let (header, claims) = signed.split_once('.').ok_or_else(parts)?;
        if claims.contains('.') {
            return Err(parts());
        }
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| JwsError::Malformed("want base64url without padding"))
        };
        let header = strict_json::parse(&decode(header)?, &[]).map_err(JwsError::Json)?;
        let header = serde_json::from_slice(&header.canonical_bytes())
            .map_err(|_| JwsError::Malformed("want the header members alg, kid and typ only"))?;
        Ok(Self { header, claims: decode(claims)?, signed, signature: decode(signature)? })
    }

    pub(crate) fn expect_type(&self, typ: &'static str) -> Result<(), JwsError> {
        let shown = |text: &str| text.chars().take(64).collect();
        if self.header.typ != typ {
            return Err(JwsError::WrongType { found: shown(&self.header.typ), expected: typ });
        }
        if self.header.alg != ALGORITHM {
            return Err(JwsError::WrongAlgorithm(shown(&self.header.alg)));
        }
        Ok(())
    }

    pub(crate) fn read_claims<C: DeserializeOwned>(&self) -> Result<C, JwsError> {
        let claims = strict_json::parse(&self.claims, &[]).map_err(JwsError::Json)?;
        serde_json::from_slice(&claims.canonical_bytes())
            .map_err(|_| JwsError::Malformed("a claim is missing or of another type"))
    }
}

/// Ed25519 as JOSE calls it (RFC 8037, section 3.1).
const ALGORITHM: &str = "EdDSA";
