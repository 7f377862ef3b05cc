//! Certificates of the nodes, and the authorities they come from.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::UtcTime;

/// `GET /admin/certs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateStatus {
    /// The cluster's own authorities; empty where certificates come from elsewhere.
    pub authorities: Vec<AuthorityView>,
    /// The nodes, in order of id.
    pub nodes: Vec<NodeCertificates>,
}

/// A certificate authority of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityView {
    /// SHA-256 of its certificate, hex.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub fingerprint: String,
    /// How far it is trusted.
    pub state: AuthorityState,
    /// Nodes that answered and believe it.
    pub believed_by: Vec<u64>,
    /// Nodes that answered and show a certificate of it.
    pub in_use_by: Vec<u64>,
}

/// How far an authority is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityState {
    /// Nodes believe it; certificates do not come from it yet.
    Trusted,
    /// New certificates come from it.
    Issuing,
    /// Nodes still believe it; it makes no more.
    Retiring,
}

/// The certificates of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCertificates {
    /// Its number.
    #[schema(example = 1)]
    pub node_id: u64,
    /// Whether it answered.
    pub reachable: bool,
    /// What it shows; empty where it did not answer.
    pub certificates: Vec<CertificateView>,
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// `gateway`: towards applications; `peer`: towards other nodes.
    #[schema(example = "gateway")]
    pub purpose: String,
    /// SHA-256 of it, hex.
    #[schema(example = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c")]
    pub fingerprint: String,
    /// Host names, addresses and URIs that it is for.
    pub names: Vec<String>,
    /// SHA-256 of the authority that issued it, hex; absent where that is not one of the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// First second of validity.
    pub not_before: UtcTime,
    /// Last second of validity.
    pub not_after: UtcTime,
    /// Whole days left; negative: it has ended.
    #[schema(example = 412)]
    pub days_left: i64,
    /// Whether the cluster renews it by itself.
    pub managed: bool,
    /// When it does; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews_at: Option<UtcTime>,
}

/// `POST /admin/certs/rotate`: new certificates for nodes, or, with `ca`, the next step towards
/// another authority.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateCertificatesRequest {
    /// This node alone; all when left out.
    pub node_id: Option<u64>,
    /// Goes towards another authority, as far as nodes allow now; ask again until `done`.
    pub ca: bool,
    /// With `ca`: also ends trust in the former one, once nobody shows a certificate of it.
    pub finish: bool,
    /// With `ca`: goes on without nodes that do not answer.
    pub force: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotateCertificatesResponse {
    /// How far it is.
    pub step: RotationStep,
    /// Whether nothing is left to do of what was asked.
    pub done: bool,
    /// One sentence for people.
    pub message: String,
    /// Nodes that the next step waits for, and why.
    pub waiting: Vec<NodeNote>,
    /// Nodes that were left out, and why.
    pub left_out: Vec<NodeNote>,
}

/// Something about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeNote {
    /// Its number.
    #[schema(example = 3)]
    pub node_id: u64,
    /// One sentence.
    pub note: String,
}

/// How far certificates are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RotationStep {
    /// Nodes were told to make themselves new certificates.
    Renewed,
    /// The new authority is there, and nodes learn to believe it.
    Trusted,
    /// Certificates come from the new authority, and nodes replace theirs.
    Issuing,
    /// Every node that answers has certificates of the new authority; the former one is still
    /// believed.
    Replaced,
    /// The former authority is believed no more.
    Finished,
}
