//! How every node stands: each member is asked over the peer link, and what it says of itself is
//! put together.
//!
//! This works without a quorum and from every node. Two rules keep it honest: a node that does not
//! answer is `unreachable`, whatever others last heard of it; and a node is shown as `leader` only
//! while a quorum has acknowledged it within *F*, whatever it calls itself.
//!
//! | module | owns |
//! |---|---|
//! | this one | the answer |
//! | `report` | what a node says of itself |
//! | `gather` | asking all of them, and putting the answers together |
//!
//! What it leaves to others: carrying the question ([`crate::PeerProbe`]), judging what is wrong
//! (the node's watch), and who may ask: a node without keys can check no token, so it answers
//! nothing but its probes, `/readyz?verbose` among them, which name no one.

mod gather;
mod report;

use protocol::cloud::admin::AlarmView;
use protocol::wire::{Id64, UtcTime};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use gather::{cluster_alarms, cluster_status};
pub use report::node_report;

/// `GET /admin/cluster/status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// Text id of the cluster; empty before it is founded.
    #[schema(example = "lh-3f2a9c5d7e11a0b2")]
    pub cluster_id: String,
    /// Whether a leader with a quorum was found.
    pub has_quorum: bool,
    /// Number of the leader, if there is one with a quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub leader: Option<u64>,
    /// The epoch, as the node that answers knows it; absent before the cluster is founded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<EpochStatus>,
    /// How many may fail.
    #[serde(default)]
    pub quorum: QuorumStatus,
    /// The civil clock, as the node that answers shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub civil_time: Option<UtcTime>,
    /// Sequence number of the newest audit event that the node that answers has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head_seq: Option<Id64>,
    /// Number of the last audit event that was pruned; 0: none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_floor_seq: Option<Id64>,
    /// Led milliseconds for which holders of the former epoch come back and nobody new is let in;
    /// absent where that is over, or never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 540_000)]
    pub grace_left_ms: Option<u64>,
    /// Alarms that stand, and what nodes find now, in order of node and kind.
    #[serde(default)]
    pub alarms: Vec<AlarmView>,
    /// The nodes, in order of id.
    pub nodes: Vec<NodeStatus>,
}

/// An epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EpochStatus {
    /// 1 for a new cluster, one higher after each restore and recovery.
    #[schema(example = 1)]
    pub number: u32,
    /// Its random incarnation, 16 hex digits.
    #[schema(example = "00a1b2c3d4e5f607")]
    pub incarnation: String,
}

/// The arithmetic of the quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct QuorumStatus {
    /// Nodes that vote.
    #[schema(example = 3)]
    pub voters: u32,
    /// How many of them must agree.
    #[schema(example = 2)]
    pub needed: u32,
    /// How many of them answer.
    #[schema(example = 3)]
    pub answering: u32,
    /// How many more may fail before nothing can be written.
    #[schema(example = 1)]
    pub may_fail: u32,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Its number.
    #[schema(example = 1)]
    pub id: u64,
    /// The part it plays.
    pub role: Role,
    /// Region label; empty when not set.
    pub region: String,
    /// Zone label; empty when not set.
    pub zone: String,
    /// Where peers reach it.
    #[schema(example = "127.0.0.1:7411")]
    pub peer: String,
    /// Where applications reach it.
    #[schema(example = "https://127.0.0.1:7401")]
    pub gateway: String,
    /// Its term; absent when unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Id64>,
    /// Last entry it has applied; absent when unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_index: Option<Id64>,
    /// Entries it is behind the furthest node that answered; absent when unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Id64>,
    /// Age of the newest acknowledgement by a quorum, in milliseconds; on the leader only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 12)]
    pub quorum_ack_age_ms: Option<u64>,
    /// Whether it has no keys, and so votes and does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<bool>,
    /// Kinds of the alarms about it; what they say stands in the cluster's `alarms`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// Whether it votes, by the membership that the node that answers knows.
    #[serde(default)]
    pub voter: bool,
    /// What else a node says of itself; absent when unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<NodeDetail>>,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NodeDetail {
    /// Version of its binary; empty: it does not say.
    #[schema(example = "0.1.0")]
    pub version: String,
    /// Timing preset of its configuration.
    #[schema(example = "lan")]
    pub preset: String,
    /// Milliseconds since its process started.
    pub uptime_ms: u64,
    /// Whether it is on its way down by an order.
    pub draining: bool,
    /// Whether it has applied what its log held at the start.
    pub recovered: bool,
    /// Whether its disk has room for what is written; without it, it follows and stores nothing.
    pub has_room: bool,
    /// Last entry in its log.
    pub last_log_index: Id64,
    /// Last entry that it knows to be committed.
    pub committed_index: Id64,
    /// Age of the last message of a leader that it followed; on others than the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_contact_age_ms: Option<u64>,
    /// Its wall clock minus the leader's, as the leader measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
    /// Number of the epoch it is in.
    pub epoch: u32,
    /// Times the leader changed since its process started, as it saw it.
    pub leader_changes: u64,
    /// 99 of 100 writes of the log were on the disk within this; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsync_p99_us: Option<u64>,
    /// Writes of the log since its process started.
    pub fsyncs: u64,
    /// Bytes of the file system that holds its data; 0: it does not say.
    pub disk_total_bytes: u64,
    /// Bytes of it that it may still write.
    pub disk_free_bytes: u64,
    /// Free bytes below which nothing new is written in the cluster.
    pub disk_reserve_bytes: u64,
    /// Bytes in its data directory.
    pub data_bytes: u64,
    /// Soonest end of a certificate that it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_until: Option<UtcTime>,
    /// What that certificate is for: `gateway` or `peer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_purpose: Option<String>,
    /// Newest version of the data key that it has opened; 0: sealed.
    pub data_key_version: u32,
    /// When its newest scheduled backup was finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_backup_at: Option<UtcTime>,
    /// Open file descriptors allowed; 0: it does not say.
    pub descriptors: u64,
    /// Index at which it last took the sum over all its rows; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_sum_index: Option<Id64>,
    /// That sum, in hex: equal on all nodes for one index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub state_sum: Option<String>,
    /// Number of the newest audit event that it has.
    pub audit_seq: Id64,
    /// Hash of that event, in hex: equal on all nodes for one number.
    pub audit_hash: String,
}

/// The part a node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads, and a quorum follows.
    Leader,
    /// Votes.
    Follower,
    /// Follows without a vote.
    Learner,
    /// Did not answer.
    #[default]
    Unreachable,
}
