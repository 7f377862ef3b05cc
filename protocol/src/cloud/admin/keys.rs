//! The cluster's keys: which versions there are, and what still depends on which.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::UtcTime;

/// `GET /admin/keys`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyStatus {
    /// The key that seals the cluster's secrets, by version, oldest first. The newest seals.
    pub data_keys: Vec<DataKeyView>,
    /// Peppers, under which the stored forms of credentials are made.
    pub peppers: Vec<PepperView>,
    /// Keys that sign access tokens, or did within the last hour.
    pub token_keys: Vec<TokenKeyView>,
    /// The nodes, in order of id.
    pub nodes: Vec<NodeKeys>,
}

/// A version of the data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DataKeyView {
    /// Counts up from 1.
    #[schema(example = 2)]
    pub version: u32,
    /// Cluster secrets that are sealed under it.
    #[schema(example = 11)]
    pub secrets: u64,
    /// Session keys of devices that are sealed under it.
    #[schema(example = 0)]
    pub records: u64,
}

/// A pepper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PepperView {
    /// `client-secret-pepper` or `operator-pepper`.
    #[schema(example = "client-secret-pepper")]
    pub name: String,
    /// Its versions, oldest first. New credentials are stored under the newest.
    pub versions: Vec<PepperVersion>,
}

/// A version of a pepper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PepperVersion {
    /// Counts up from 1.
    #[schema(example = 1)]
    pub version: u32,
    /// Credentials whose stored form is under it. One moves to the newest when it is next shown.
    #[schema(example = 4)]
    pub credentials: u64,
}

/// A key that signs access tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenKeyView {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// The node that holds it.
    #[schema(example = 1)]
    pub node_id: u64,
    /// `RS256` or `EdDSA`.
    #[schema(example = "RS256")]
    pub algorithm: String,
    /// It signs no more, and verifies until then; absent while it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifies_until: Option<UtcTime>,
}

/// A node's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeKeys {
    /// Its number.
    #[schema(example = 1)]
    pub node_id: u64,
    /// The newest version of the data key that it works with; 0: it is sealed; absent: it did not
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_key: Option<u32>,
}

/// What can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RotatedKey {
    /// The key that seals the cluster's secrets.
    DataKey,
    /// Under what the stored forms of client secrets are made.
    ClientSecretPepper,
    /// Under what the stored forms of operator tokens and API keys are made.
    OperatorPepper,
    /// What signs access tokens.
    TokenSigning,
}

/// `POST /admin/keys/rotate`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKeyRequest {
    /// Which key.
    pub what: RotatedKey,
    /// With `token-signing`: this node alone; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u64>,
    /// Makes no new version, but lets the old ones go; refused while something depends on them.
    #[serde(default)]
    pub finish: bool,
    /// With `finish` of the data key: without asking nodes that do not answer.
    #[serde(default)]
    pub force: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotateKeyResponse {
    /// Which key.
    pub what: RotatedKey,
    /// Its newest version; absent where nodes have keys of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Versions that were let go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<u32>,
    /// One sentence for people.
    pub message: String,
}
