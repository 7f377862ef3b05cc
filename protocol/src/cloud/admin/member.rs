//! Members of the cluster: who there is, who is invited, who joins, who leaves.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::secret::Disclosed;
use crate::wire::UtcTime;

/// Minutes for which a join token is good unless the request says otherwise.
pub const DEFAULT_TICKET_MINUTES: u32 = 15;
/// Most minutes that can be asked for: a day.
pub const MAX_TICKET_MINUTES: u32 = 24 * 60;

/// The part a member has in consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberPart {
    /// It has a vote.
    Voter,
    /// It follows without one.
    Learner,
    /// It has a row, and is not in consensus (yet, or any more).
    Outside,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its number; never given twice.
    #[schema(example = 3)]
    pub node_id: u64,
    /// Its part in consensus.
    pub part: MemberPart,
    /// Where peers reach it.
    #[schema(example = "lic-3.example.com:7411")]
    pub peer_address: String,
    /// Where applications reach it.
    #[schema(example = "https://lic-3.example.com:7401")]
    pub gateway_url: String,
    /// Region label; empty when not set.
    pub region: String,
    /// Zone label; empty when not set.
    pub zone: String,
    /// Whether its joining is not finished: it catches up, or gets its vote.
    pub joining: bool,
    /// The member whose place it is taking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub replaces: Option<u64>,
}

/// A node that is invited and has not joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TicketView {
    /// The number it will have.
    #[schema(example = 4)]
    pub node_id: u64,
    /// Whether it will stay without a vote until it is promoted.
    pub learner: bool,
    /// The member whose place it will take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub replaces: Option<u64>,
    /// Milliseconds of led time for which its token is still good; 0: it has ended.
    #[schema(example = 900_000)]
    pub expires_in_ms: u64,
}

/// A node that was one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FormerView {
    /// Its number.
    #[schema(example = 2)]
    pub node_id: u64,
    /// When it was removed.
    pub removed_at: UtcTime,
    /// Whether it had ever joined; otherwise its invitation was withdrawn or had ended.
    pub had_joined: bool,
}

/// `GET /admin/members`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberList {
    /// Who leads, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub leader: Option<u64>,
    /// The members, in order of number.
    pub members: Vec<MemberView>,
    /// Nodes that are invited, in order of number.
    pub invited: Vec<TicketView>,
    /// Nodes that were members, in order of number.
    pub former: Vec<FormerView>,
}

/// `POST /admin/members`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddMemberRequest {
    /// Whether it is to follow without a vote until it is promoted.
    #[serde(default)]
    pub learner: bool,
    /// The member whose place it takes: removed once the new one votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub replaces: Option<u64>,
    /// Minutes for which the token is good, 1 to 1,440; 15 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1440, example = 15)]
    pub valid_minutes: Option<u32>,
}

/// Answer of `POST /admin/members`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AddMemberResponse {
    /// The number of the new node.
    #[schema(example = 4)]
    pub node_id: u64,
    /// The join token, shown this once.
    #[schema(value_type = String, example = "lhj1_AAAAAAAAAAQ…")]
    pub token: Disclosed,
    /// What to run on the new node's machine.
    #[schema(example = "leasehold cluster join --token lhj1_AAAAAAAAAAQ…")]
    pub command: String,
    /// Milliseconds of led time for which the token is good.
    #[schema(example = 900_000)]
    pub expires_in_ms: u64,
    /// The member whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub replaces: Option<u64>,
}

/// `POST /cluster/join`: a new node, by its join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// PKCS#10 request (PEM) of the key that the node proves itself to peers with.
    #[schema(max_length = 8192)]
    pub csr_peer: String,
    /// The same of its gateway's key; left out where the operator brings a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 8192)]
    pub csr_gateway: Option<String>,
    /// Public half of its X25519 key-encryption key, 64 hex digits.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub kek_public: String,
    /// Random number of its data directory, 16 hex digits.
    #[schema(pattern = "^[0-9a-f]{16}$", example = "9f1c2b3a4d5e6f70")]
    pub directory_incarnation: String,
    /// Where peers reach it, `host:port`.
    #[schema(example = "lic-4.example.com:7411", max_length = 256)]
    pub peer_address: String,
    /// Where applications reach it.
    #[schema(example = "https://lic-4.example.com:7401", max_length = 256)]
    pub gateway_url: String,
    /// Region label; may be empty.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub region: String,
    /// Zone label; may be empty.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub zone: String,
    /// What its clock shows.
    pub clock: UtcTime,
}

/// A peer that a new node can talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinPeer {
    /// Its number.
    #[schema(example = 1)]
    pub node_id: u64,
    /// Where peers reach it.
    #[schema(example = "lic-1.example.com:7411")]
    pub peer_address: String,
}

/// Answer of `POST /cluster/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinResponse {
    /// The cluster.
    #[schema(example = "lh-3f2a9c5d7e11a0b2")]
    pub cluster_id: String,
    /// The number of the new node.
    #[schema(example = 4)]
    pub node_id: u64,
    /// The client organisation.
    #[schema(example = "bmw-de-001")]
    pub client_id: String,
    /// Its domain.
    #[schema(example = "bmw.com")]
    pub org_domain: String,
    /// The cluster's epoch.
    #[schema(example = 1)]
    pub epoch: u32,
    /// Certificate chain (PEM) for peers.
    pub peer_certificate: String,
    /// Certificate chain (PEM) for the gateway; absent where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_certificate: Option<String>,
    /// Certificates (PEM) of the authorities that the cluster believes.
    pub ca_certificates: String,
    /// The members, the new node excepted.
    pub members: Vec<JoinPeer>,
}

/// The query of `DELETE /admin/members/{node_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveMemberQuery {
    /// Removes it although the remaining voters that answer are no majority.
    #[serde(default)]
    pub force: bool,
    /// Ends access tokens that it signed now, and not within an hour.
    #[serde(default)]
    pub revoke_tokens: bool,
}

/// `POST /admin/cluster/transfer-leader`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferLeaderRequest {
    /// Who is to lead; the most up-to-date other voter when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub to: Option<u64>,
}

/// Answer of `POST /admin/cluster/transfer-leader`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransferLeaderResponse {
    /// Who leads now.
    #[schema(example = 2)]
    pub leader: u64,
}

/// `POST /admin/nodes/{node_id}/drain`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Drains it although the others that are up are no majority.
    #[serde(default)]
    pub force: bool,
}

/// Answer of `POST /admin/nodes/{node_id}/drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainResponse {
    /// The node.
    #[schema(example = 3)]
    pub node_id: u64,
    /// What it said.
    #[schema(example = "the node drains and ends")]
    pub message: String,
}
