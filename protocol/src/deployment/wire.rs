//! Requests and answers of `/v1/license/*`.
//!
//! One path takes two calls: *setup* (with an e-mail address) shows what a key is worth and takes
//! no slot; *runtime* (with a cluster id alone) takes the slot. Unknown fields are ignored.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::cluster_id::{cluster_id, optional_cluster_id};
use super::license_key::LicenseKey;
use super::refusal::Refusal;
use super::{HEARTBEAT_INTERVAL_SECONDS, OFFLINE_GRACE_SECONDS};
use crate::keys::{PublicKey, PublicNumbers};
use crate::oauth::claims::{Jwk, key_id};
use crate::offline::{KeySet, KeySetError};
use crate::secret::Disclosed;
use crate::wire::{self, UtcTime};

/// Most nodes that a request may name.
pub const MAX_NODES: u32 = 1_000_000;

/// `POST /v1/license/activate`
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentActivateRequest)]
pub struct ActivateRequest {
    /// The key.
    pub license_key: LicenseKey,
    /// Runtime: which cluster. Setup: the id it has already, if it has one.
    #[serde(default, deserialize_with = "optional_cluster_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "bzzz-cluster-1b9d6bcd-walnut", max_length = 128)]
    pub cluster_id: Option<String>,
    /// Setup: who sets up.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "customer@example.com", max_length = 256)]
    pub email: Option<String>,
    /// Setup: for whom.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Example Corp", max_length = 256)]
    pub organization_name: Option<String>,
    /// Shown to operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// How many nodes the cluster has.
    #[serde(default, deserialize_with = "nodes", skip_serializing_if = "Option::is_none")]
    #[schema(example = 3, maximum = 1_000_000)]
    pub nodes: Option<u32>,
    /// When the terms were accepted.
    #[serde(default, deserialize_with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub terms_accepted_at: Option<UtcTime>,
    /// The same as the setup pages write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
}

/// Which of the two calls a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivateCall<'a> {
    /// Shows what the key is worth; takes no slot.
    Setup {
        /// Who sets up.
        email: &'a str,
        /// The cluster's id; the server makes one when there is none.
        cluster_id: Option<&'a str>,
    },
    /// Takes the slot.
    Runtime {
        /// For which cluster.
        cluster_id: &'a str,
    },
}

impl ActivateRequest {
    /// Which call it is; with an e-mail address it is a setup.
    pub fn call(&self) -> Result<ActivateCall<'_>, Refusal> {
        if self.terms.as_ref().is_some_and(|terms| !terms.agreed) {
            return Err(Refusal::InvalidRequest("the terms were not agreed to".to_owned()));
        }
        match (&self.email, &self.cluster_id) {
            (Some(email), cluster_id) => {
                Ok(ActivateCall::Setup { email, cluster_id: cluster_id.as_deref() })
            }
            (None, Some(cluster_id)) => Ok(ActivateCall::Runtime { cluster_id }),
            (None, None) => Err(Refusal::InvalidRequest(
                "want email (setup) or cluster_id (runtime)".to_owned(),
            )),
        }
    }

    /// When the terms were accepted, in whichever form it was said.
    pub fn terms_accepted_at(&self) -> Option<UtcTime> {
        let agreed = self.terms.as_ref().filter(|terms| terms.agreed);
        self.terms_accepted_at.or_else(|| agreed.and_then(|terms| terms.timestamp))
    }
}

/// What a cluster says of itself. Other members are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentMetadata)]
pub struct Metadata {
    /// Name of the host that calls.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "walnut", max_length = 256)]
    pub hostname: Option<String>,
    /// Its address.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "192.0.2.17", max_length = 256)]
    pub ip: Option<String>,
    /// The product that runs.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "bzzz", max_length = 256)]
    pub product: Option<String>,
    /// Its version.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1.4.0", max_length = 256)]
    pub version: Option<String>,
}

/// Whether the terms were agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentTerms)]
pub struct Terms {
    /// Whether.
    pub agreed: bool,
    /// When.
    #[serde(default, deserialize_with = "optional_time", skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<UtcTime>,
}

/// `POST /v1/license/heartbeat`
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentHeartbeatRequest)]
pub struct HeartbeatRequest {
    /// The key.
    pub license_key: LicenseKey,
    /// The cluster.
    #[serde(deserialize_with = "cluster_id")]
    #[schema(example = "bzzz-cluster-1b9d6bcd-walnut", max_length = 128)]
    pub cluster_id: String,
    /// The access token, where no `Authorization` header has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Disclosed>,
    /// How many nodes the cluster has.
    #[serde(default, deserialize_with = "nodes", skip_serializing_if = "Option::is_none")]
    #[schema(example = 3, maximum = 1_000_000)]
    pub nodes: Option<u32>,
    /// Shown to operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// `POST /v1/license/deactivate`
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentDeactivateRequest)]
pub struct DeactivateRequest {
    /// The key.
    pub license_key: LicenseKey,
    /// The cluster.
    #[serde(deserialize_with = "cluster_id")]
    #[schema(example = "bzzz-cluster-1b9d6bcd-walnut", max_length = 128)]
    pub cluster_id: String,
    /// Looked at by nobody: key and cluster id say enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Disclosed>,
}

/// The access token of a call: from the `Authorization` header (`Bearer`, in any case), else from
/// the body. A header of another kind is no token.
pub fn bearer<'a>(header: Option<&'a str>, body: Option<&'a Disclosed>) -> Option<&'a str> {
    match header {
        Some(header) => {
            let (scheme, token) = header.trim().split_once(' ')?;
            let token = token.trim();
            (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
        }
        None => body.map(Disclosed::expose).filter(|token| !token.is_empty()),
    }
}

/// Always `ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DeploymentOkStatus)]
pub enum OkStatus {
    /// The call was done.
    Ok,
}

/// Always `Bearer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentTokenKind)]
pub enum TokenKind {
    /// Goes into an `Authorization` header.
    Bearer,
}

/// Answer of an activation and of a heartbeat.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentTokenAnswer)]
pub struct TokenAnswer {
    /// Always `ok`.
    pub status: OkStatus,
    /// Proves the slot; to be kept in memory only. Absent in the answer of a setup, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Disclosed>,
    /// Always `Bearer`.
    pub token_type: TokenKind,
    /// When the access token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcTime>,
    /// Rises with suspension, resumption, cancelling and rotation.
    #[schema(example = 1)]
    pub token_version: u64,
    /// The cluster; after a setup without one, made by the server, to be stored.
    #[schema(example = "bzzz-cluster-1b9d6bcd-walnut")]
    pub cluster_id: String,
    /// The plan.
    #[schema(example = "standard")]
    pub license_type: String,
    /// Most nodes; 0 is no limit.
    #[schema(example = 10)]
    pub max_nodes: u32,
    /// What may be used.
    #[schema(example = json!(["basic-coordination"]))]
    pub features: Vec<String>,
    /// When the license ends; absent when never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_expires_at: Option<UtcTime>,
    /// When the server decided this.
    pub validated_at: UtcTime,
    /// Carries the cluster through an outage, where policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_token: Option<Disclosed>,
    /// How often to call.
    #[schema(example = 900)]
    pub heartbeat_interval_seconds: u32,
    /// How long to go on while no server can be reached.
    #[schema(example = 86_400)]
    pub offline_grace_seconds: u32,
}

/// What a license allows, as answers tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenseDetails {
    /// The plan.
    pub license_type: String,
    /// Most nodes; 0 is no limit.
    pub max_nodes: u32,
    /// What may be used.
    pub features: Vec<String>,
    /// When the license ends.
    pub expires_at: Option<UtcTime>,
    /// Version of its tokens.
    pub token_version: u64,
}

impl TokenAnswer {
    /// The answer without any token: that of a setup.
    pub fn without_token(details: LicenseDetails, cluster_id: String, now: UtcTime) -> Self {
        Self {
            status: OkStatus::Ok,
            access_token: None,
            token_type: TokenKind::Bearer,
            expires_at: None,
            token_version: details.token_version,
            cluster_id,
            license_type: details.license_type,
            max_nodes: details.max_nodes,
            features: details.features,
            license_expires_at: details.expires_at,
            validated_at: now,
            offline_token: None,
            heartbeat_interval_seconds: HEARTBEAT_INTERVAL_SECONDS,
            offline_grace_seconds: OFFLINE_GRACE_SECONDS,
        }
    }

    /// The same with an access token, and an offline token where there is one.
    pub fn with_token(
        mut self,
        access_token: Disclosed,
        expires_at: UtcTime,
        offline_token: Option<Disclosed>,
    ) -> Self {
        self.access_token = Some(access_token);
        self.expires_at = Some(expires_at);
        self.offline_token = offline_token;
        self
    }
}

/// Always `deactivated`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DeploymentDeactivatedStatus)]
pub enum DeactivatedStatus {
    /// The slot is free, now or since before.
    Deactivated,
}

/// Answer of a deactivation; the same when repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentDeactivateAnswer)]
pub struct DeactivateAnswer {
    /// Always `deactivated`.
    pub status: DeactivatedStatus,
}

impl DeactivateAnswer {
    /// The one answer there is.
    pub const DONE: Self = Self { status: DeactivatedStatus::Deactivated };
}

/// `GET /v1/license/offline-key`: under which key offline tokens verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentOfflineKeyAnswer)]
pub struct OfflineKeyAnswer {
    /// Id of the key that signs now.
    #[schema(example = "--6IM5l0OosLj9yWskISYhUA3n_3CURQkmrYMSha_ck")]
    pub kid: String,
    /// Always `EdDSA`.
    #[schema(example = "EdDSA")]
    pub alg: String,
    /// The 32 bytes of the key that signs now, base64.
    #[schema(example = "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=")]
    pub public_key: String,
    /// The same as PEM.
    pub public_key_pem: String,
    /// Every key under which a token may still verify.
    pub keys: Vec<Jwk>,
}

impl OfflineKeyAnswer {
    /// The answer for the key that signs now and all that still verify.
    pub fn of(current: &PublicKey, all: &KeySet) -> Result<Self, KeySetError> {
        let PublicNumbers::Ed25519(point) = current.numbers() else {
            return Err(KeySetError::NotEd25519);
        };
        Ok(Self {
            kid: key_id(current),
            alg: "EdDSA".to_owned(),
            public_key: STANDARD.encode(point),
            public_key_pem: current.to_pem(),
            keys: all.to_jwks().keys,
        })
    }
}

/// Reads a number of nodes that may be absent or null.
fn nodes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(nodes) if nodes > MAX_NODES => {
            Err(serde::de::Error::custom(format_args!("want at most {MAX_NODES}")))
        }
        nodes => Ok(nodes),
    }
}

/// Reads a time that may be absent or null, with any offset: Go programs write local time. The
/// year 1, which is how Go writes "never", is absent.
pub(super) fn optional_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<UtcTime>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    if text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let time: Timestamp = text
        .parse()
        .map_err(|_| serde::de::Error::custom("want an RFC 3339 date and time with an offset"))?;
    Ok(Some(UtcTime::from_unix_ms(time.as_millisecond())))
}
