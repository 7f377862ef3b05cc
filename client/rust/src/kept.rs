//! What is kept of a lease for a restart without servers, and when it is believed.
//!
//! ```text
//! lease-PRODUCT:   64 hex digits of HMAC-SHA-256, line end, JSON of `Record`
//! ```
//!
//! The MAC's key is derived from the application's secret, so a file that was written by somebody
//! else, or changed, is refused. The token inside is verified with the cluster's published keys,
//! kept beside it, before it is stored and whenever it is read; its end has no leeway. The highest
//! time ever seen is kept, and a clock that went back behind it by more than the token's own
//! margin is refused.
//!
//! What it leaves to others: the store ([`crate::store`]), what a token says
//! ([`protocol::offline`]).

use protocol::cloud::lease::LeaseType;
use protocol::fence::Fence;
use protocol::mac::MacKey;
use protocol::offline::{self, Expect, HighWater, Holder, HolderKind, KeySet, OfflineClaims};
use protocol::secret::Secret;
use serde::{Deserialize, Serialize};

use crate::lease::info::LeaseInfo;

/// Layout of [`Record`].
const VERSION: u32 = 1;

/// What is kept of one lease.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) info: LeaseInfo,
    pub(crate) renewal_token: String,
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) token: String,
    /// The key set that verifies the token, as the server published it.
    keys: serde_json::Value,
    highest_ms: i64,
}

/// A token that was verified now.
pub(crate) struct Believed {
    pub(crate) claims: OfflineClaims,
    /// How much of it is left, in milliseconds.
    pub(crate) left_ms: u64,
}

impl Record {
    /// Takes together what is to be kept.
    pub(crate) fn new(
        info: LeaseInfo,
        renewal_token: String,
        heartbeat_interval_ms: u64,
        token: String,
        keys: serde_json::Value,
    ) -> Self {
        Self {
            version: VERSION,
            info,
            renewal_token,
            heartbeat_interval_ms,
            token,
            keys,
            highest_ms: 0,
        }
    }

    /// Verifies the token by the clock and the host it is used on, and learns the time.
    pub(crate) fn verify(&mut self, wall_ms: i64, hostname: &str) -> Result<Believed, String> {
        let keys = serde_json::to_vec(&self.keys).map_err(|error| error.to_string())?;
        let keys = KeySet::from_json(&keys).map_err(|error| error.to_string())?;
        let holder = Holder::of(HolderKind::Host, hostname);
        let mut high_water = HighWater::from_stored_ms(self.highest_ms);
        // The margin is the token's, so it is looked at first, with the time that is judged by.
        let now_ms = self.highest_ms.max(wall_ms);
        let expect = Expect {
            product: Some(&self.info.product),
            holder: Some(&holder),
            ..Expect::at(now_ms)
        };
        let claims =
            offline::verify(&self.token, &keys, &expect).map_err(|error| error.to_string())?;
        if claims.lease_id != self.info.id {
            return Err("the token proves another lease".to_owned());
        }
        let margin_ms = i64::from(claims.skew_seconds) * 1_000;
        let now_ms = high_water.observe(wall_ms, margin_ms).map_err(|error| error.to_string())?;
        high_water.learn(milliseconds(claims.iat));
        self.highest_ms = high_water.highest_ms();
        // The clock's reading was cut to the millisecond before.
        let left_ms = milliseconds(claims.exp).saturating_sub(now_ms).saturating_sub(1);
        let left_ms = u64::try_from(left_ms).unwrap_or(0);
        Ok(Believed { claims, left_ms })
    }

    /// Learns a time that has been.
    pub(crate) fn learn(&mut self, time_ms: i64) {
        self.highest_ms = self.highest_ms.max(time_ms);
    }

    /// Learns that so much time has passed, whatever the wall clock says.
    pub(crate) fn pass(&mut self, elapsed_ms: u64) {
        let mut high_water = HighWater::from_stored_ms(self.highest_ms);
        high_water.pass(elapsed_ms);
        self.highest_ms = high_water.highest_ms();
    }

    /// The document under the key of [`key`].
    pub(crate) fn seal(&self, key: &MacKey) -> Result<Vec<u8>, String> {
        let json = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        let tag = key.tag(&[DOCUMENT_LABEL, &json]);
        let mut document = data_encoding::HEXLOWER.encode(&tag).into_bytes();
        document.push(b'\n');
        document.extend_from_slice(&json);
        Ok(document)
    }

    /// Reads a document; refuses one that was not written under this key.
    pub(crate) fn open(document: &[u8], key: &MacKey) -> Result<Self, String> {
        let refused = || "it was not written by this application, or was changed".to_owned();
        let (tag, json) = document.split_at_checked(TAG_CHARS).ok_or_else(refused)?;
        let json = json.strip_prefix(b"\n").ok_or_else(refused)?;
        let tag = data_encoding::HEXLOWER.decode(tag).map_err(|_| refused())?;
        if !key.verify(&[DOCUMENT_LABEL, json], &tag) {
            return Err(refused());
        }
        let record: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if record.version == VERSION { Ok(record) } else { Err("of another release".to_owned()) }
    }
}

/// The name of the document of a product's lease.
pub(crate) fn name(product: &str) -> String {
    format!("lease-{product}")
}

/// The key under which an application's documents are sealed.
pub(crate) fn key(client_id: &str, client_secret: &Secret<String>) -> MacKey {
    let secret = MacKey::new([0; 32]).tag(&[SECRET_LABEL, client_secret.expose().as_bytes()]);
    MacKey::new(MacKey::new(secret).tag(&[KEY_LABEL, client_id.as_bytes()]))
}

/// The lease that a token proves, where nothing else is known of it.
impl LeaseInfo {
    /// What the token says wins over what stands beside it.
    pub(crate) fn proved_by(self, claims: &OfflineClaims) -> Self {
        let lease_type: Option<LeaseType> = claims.class;
        let fence: Fence = claims.fence;
        Self {
            quantity: claims.quantity,
            features: claims.features.clone(),
            lease_type: lease_type.unwrap_or(self.lease_type),
            fence,
            ..self
        }
    }
}

/// Unix seconds as milliseconds.
fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000)
}

const SECRET_LABEL: &[u8] = b"leasehold-client offline store 1: secret:";
const KEY_LABEL: &[u8] = b"leasehold-client offline store 1: key:";
const DOCUMENT_LABEL: &[u8] = b"leasehold-client offline store 1: document:";
/// Hex digits of a tag.
const TAG_CHARS: usize = 64;
