//! Offline tokens: signed proofs of leases, for programs that cannot reach a server.
//!
//! A token never outlives the lease it proves, and the lease's seat stays taken until both of the
//! cluster's clocks have passed the end by `skew_seconds`. So a reader must not add a leeway to
//! the end: the margin is spent by the server, on clocks that run late. A leeway exists for the
//! beginning only, where it costs nobody a seat.
//!
//! | part | owns |
//! |---|---|
//! | [`OfflineClaims`], [`sign`], [`verify`], [`inspect`] | what is signed, when it is believed |
//! | [`jws`] | the form of tokens, shared with [`crate::deployment::token`] |
//! | [`key_set`] | `/.well-known/leasehold-offline-keys.json` |
//! | [`high_water`] | what a clock set back gains: nothing |
//!
//! What it leaves to others: whether a token may be given (`lease`: policy, caps), where keys are
//! kept (`node`), and asking the server on reconnect (SDKs).

pub mod high_water;
pub mod jws;
pub mod key_set;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use utoipa::ToSchema;

use crate::cloud::lease::LeaseType;
use crate::fence::Fence;
use crate::keys::PrivateKey;

pub use high_water::{ClockWentBack, HighWater};
pub use jws::{JwsError, MAX_TOKEN_BYTES, SignError};
pub use key_set::{KeySet, KeySetError};

/// The `typ` of an offline token.
pub const TOKEN_TYPE: &str = "leasehold-offline+jwt";

/// Which protocol gave the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OfflineProtocol)]
pub enum Protocol {
    /// Checkout, heartbeat, return.
    Cloud,
    /// Activation of a device.
    Device,
    /// Activation of a cluster.
    Deployment,
    /// Evaluation by organisation and project.
    Evaluation,
}

/// What a token is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OfflineHolderKind)]
pub enum HolderKind {
    /// The name of a host.
    Host,
    /// The fingerprint of a device.
    Fingerprint,
    /// The id of a cluster of machines.
    Cluster,
}

impl HolderKind {
    /// The wire word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Fingerprint => "fingerprint",
            Self::Cluster => "cluster",
        }
    }
}

/// Who may use a token. A name is not told, only recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = OfflineHolder)]
pub struct Holder {
    /// What it is bound to.
    pub kind: HolderKind,
    /// [`holder_hash`] of the name.
    #[schema(example = "6b7d0c9b2e6f1c0a4e2d9f5a8c3b7e1d6b7d0c9b2e6f1c0a4e2d9f5a8c3b7e1d")]
    pub hash: String,
}

impl Holder {
    /// The holder of a name: a host name, a fingerprint or a cluster id, as the program says it.
    pub fn of(kind: HolderKind, name: &str) -> Self {
        Self { kind, hash: holder_hash(kind, name) }
    }
}

/// Lower-case hex SHA-256 of `leasehold-holder-v1`, the kind and the name, a zero byte after each
/// of the first two.
pub fn holder_hash(kind: HolderKind, name: &str) -> String {
    labelled_hash(kind.name(), name)
}

/// The same over a user's name, with the kind `user`: tokens travel in files and logs.
pub fn user_hash(user: &str) -> String {
    labelled_hash("user", user)
}

fn labelled_hash(kind: &str, name: &str) -> String {
    let mut hash = Sha256::new();
    for part in ["leasehold-holder-v1", "\0", kind, "\0", name] {
        hash.update(part.as_bytes());
    }
    HEXLOWER.encode(&hash.finalize())
}

/// What an offline token says. Claims of a later release are passed over (RFC 7519, section 4);
/// each number is at most 2^53−1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfflineClaims {
    /// The cluster that signed: its id.
    pub iss: String,
    /// Unique among tokens.
    pub jti: String,
    /// The package, or the license issued from it.
    pub license_id: String,
    /// The product.
    pub product: String,
    /// The protocol that the lease was taken through.
    pub protocol: Protocol,
    /// The lease that it proves.
    pub lease_id: String,
    /// Who may use it.
    pub holder: Holder,
    /// [`user_hash`] of the user, where the protocol has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_hash: Option<String>,
    /// What may be used.
    pub features: Vec<String>,
    /// Seats.
    pub quantity: u32,
    /// Which seats the lease holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<LeaseType>,
    /// `deployment`: most nodes; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_nodes: Option<u32>,
    /// `deployment`: the cluster, in the clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The lease's fence.
    pub fence: Fence,
    /// Epoch of the cluster that signed.
    pub epoch: u32,
    /// Version of the license's tokens; suspension, cancelling and rotation raise it.
    #[serde(rename = "tv")]
    pub token_version: u64,
    /// Issued, in Unix seconds.
    pub iat: u64,
    /// Ends, in Unix seconds; not after the lease.
    pub exp: u64,
    /// Whether the lease was lengthened for it (a borrow).
    pub borrowed: bool,
    /// How far clocks may differ for the promise of seats to hold.
    pub skew_seconds: u32,
}

/// Makes the token of these claims with an Ed25519 key.
pub fn sign(key: &PrivateKey, claims: &OfflineClaims) -> Result<String, SignError> {
    jws::sign(key, TOKEN_TYPE, claims)
}

/// A token as it describes itself, believed by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The id of the key that is said to have signed.
    pub key_id: String,
    /// What it says.
    pub claims: OfflineClaims,
}

/// Takes a token apart without looking at its signature: for showing, never for deciding.
pub fn inspect(text: &str) -> Result<Inspected, OfflineError> {
    let token = jws::Unverified::parse(text)?;
    token.expect_type(TOKEN_TYPE)?;
    let claims = token.read_claims()?;
    Ok(Inspected { key_id: token.header.kid, claims })
}

/// What a reader knows and a token must agree with. [`Expect::at`] asks for nothing but the time.
#[derive(Debug, Clone, Copy)]
pub struct Expect<'a> {
    /// Civil time in Unix milliseconds, from [`HighWater::observe`] where there is one.
    pub now_ms: i64,
    /// How far the issuer's clock may be ahead; `None` is what the token itself allows
    /// (`skew_seconds`). The end has no leeway: the server's margin is not the reader's to spend.
    pub issued_leeway_ms: Option<i64>,
    /// The cluster.
    pub issuer: Option<&'a str>,
    /// The cluster's epoch.
    pub epoch: Option<u32>,
    /// The product that asks.
    pub product: Option<&'a str>,
    /// Who asks.
    pub holder: Option<&'a Holder>,
}

impl Expect<'_> {
    /// Only the time.
    pub fn at(now_ms: i64) -> Self {
        Self {
            now_ms,
            issued_leeway_ms: None,
            issuer: None,
            epoch: None,
            product: None,
            holder: None,
        }
    }
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OfflineError {
    /// Its form, its key or its signature.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Its end has come.
    #[error("the token ended at {exp} (Unix seconds)")]
    Expired {
        /// When.
        exp: u64,
    },
    /// It was issued later than the reader's clock says it is now, beyond the leeway.
    #[error("the token begins at {iat} (Unix seconds); is the clock right?")]
    NotYetValid {
        /// When.
        iat: u64,
    },
    /// Of another cluster.
    #[error("the token is of another cluster")]
    WrongCluster,
    /// Of another epoch of this cluster.
    #[error("the token is of epoch {found}, before or after a restore")]
    WrongEpoch {
        /// The token's.
        found: u32,
    },
    /// For another product.
    #[error("the token is for another product")]
    WrongProduct,
    /// For another host, device or cluster of machines.
    #[error("the token is for another holder")]
    WrongHolder,
}

impl OfflineError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Jws(error) => error.code(),
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::WrongCluster => "wrong_cluster",
            Self::WrongEpoch { .. } => "wrong_epoch",
            Self::WrongProduct => "wrong_product",
            Self::WrongHolder => "wrong_holder",
        }
    }
}

/// The claims of a token that a key of the set signed and that agrees with what is expected.
pub fn verify(
    text: &str,
    keys: &KeySet,
    expect: &Expect<'_>,
) -> Result<OfflineClaims, OfflineError> {
    let claims: OfflineClaims = jws::verify(text, TOKEN_TYPE, keys)?;
    if expect.issuer.is_some_and(|issuer| issuer != claims.iss) {
        return Err(OfflineError::WrongCluster);
    }
    if expect.epoch.is_some_and(|epoch| epoch != claims.epoch) {
        return Err(OfflineError::WrongEpoch { found: claims.epoch });
    }
    if expect.product.is_some_and(|product| product != claims.product) {
        return Err(OfflineError::WrongProduct);
    }
    if expect.holder.is_some_and(|holder| *holder != claims.holder) {
        return Err(OfflineError::WrongHolder);
    }
    let leeway_ms =
        expect.issued_leeway_ms.unwrap_or_else(|| i64::from(claims.skew_seconds) * 1_000);
    if unix_ms(claims.iat) > expect.now_ms.saturating_add(leeway_ms) {
        return Err(OfflineError::NotYetValid { iat: claims.iat });
    }
    if expect.now_ms >= unix_ms(claims.exp) {
        return Err(OfflineError::Expired { exp: claims.exp });
    }
    Ok(claims)
}

/// Unix seconds of a claim as milliseconds.
pub(crate) fn unix_ms(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000)
}

/// The `exp` of a token whose last good millisecond is `ends_ms`: the second after it, rounded
/// down, so that the token ends no later.
pub fn exp_seconds(ends_ms: i64) -> u64 {
    u64::try_from(ends_ms.saturating_add(1).div_euclid(1_000)).unwrap_or(0)
}
