//! The access token of an activated cluster: who holds the slot, under which token version.
//!
//! The same narrow form as offline tokens ([`crate::offline::jws`]) with a `typ` of its own, so
//! that neither is ever taken for the other. A signature says that we gave it; whether its version
//! is still the license's is decided in the ledger, where suspension and rotation raise it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys::PrivateKey;
use crate::offline::jws::{self, JwsError, SignError};
use crate::offline::{KeySet, unix_ms};

/// The `typ` of an access token.
pub const TOKEN_TYPE: &str = "leasehold-deployment+jwt";
/// Seconds that an access token lives: four heartbeats.
pub const TOKEN_SECONDS: u64 = 3_600;

/// What an access token says. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentClaims {
    /// The Leasehold cluster that signed: its id.
    pub iss: String,
    /// The license.
    pub license_id: String,
    /// The cluster of machines that holds the slot.
    pub cluster_id: String,
    /// Version of the license's tokens when it was given.
    #[serde(rename = "tv")]
    pub token_version: u64,
    /// Epoch of the cluster that signed.
    pub epoch: u32,
    /// Issued.
    pub iat: u64,
    /// Ends.
    pub exp: u64,
}

/// Why an access token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Its form, its key or its signature.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Its end has come.
    #[error("the access token has ended")]
    Expired,
    /// Of another Leasehold cluster.
    #[error("the access token is of another server")]
    WrongIssuer,
    /// Of another epoch.
    #[error("the access token is of epoch {found}, before or after a restore")]
    WrongEpoch {
        /// The token's.
        found: u32,
    },
    /// Given to another cluster of machines.
    #[error("the access token is of another cluster")]
    WrongCluster,
}

impl TokenError {
    /// The stable code, for logs; on the wire all are `invalid_token`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Jws(error) => error.code(),
            Self::Expired => "expired",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongEpoch { .. } => "wrong_epoch",
            Self::WrongCluster => "wrong_cluster",
        }
    }
}

/// Makes the token of these claims with an Ed25519 key.
pub fn sign(key: &PrivateKey, claims: &DeploymentClaims) -> Result<String, SignError> {
    jws::sign(key, TOKEN_TYPE, claims)
}

/// What the server knows and a token must agree with.
#[derive(Debug, Clone, Copy)]
pub struct Expect<'a> {
    /// Civil time in Unix milliseconds.
    pub now_ms: i64,
    /// The Leasehold cluster.
    pub issuer: &'a str,
    /// Its epoch.
    pub epoch: u32,
    /// The cluster of machines that calls.
    pub cluster_id: &'a str,
}

/// The claims of a token that a key of the set signed and that agrees with what is expected. The
/// server reads its own tokens by its own clock: there is no leeway.
pub fn verify(
    text: &str,
    keys: &KeySet,
    expect: &Expect<'_>,
) -> Result<DeploymentClaims, TokenError> {
    let claims: DeploymentClaims = jws::verify(text, TOKEN_TYPE, keys)?;
    if claims.iss != expect.issuer {
        return Err(TokenError::WrongIssuer);
    }
    if claims.epoch != expect.epoch {
        return Err(TokenError::WrongEpoch { found: claims.epoch });
    }
    if claims.cluster_id != expect.cluster_id {
        return Err(TokenError::WrongCluster);
    }
    if expect.now_ms >= unix_ms(claims.exp) {
        return Err(TokenError::Expired);
    }
    Ok(claims)
}
