//! How every node stands: each member is asked over the peer link, and what it says of itself is
//! put together.
//!
//! This works without a quorum and from every node. Two rules keep it honest: a node that does not
//! answer is `unreachable`, whatever others last heard of it; and a node is shown as `leader` only
//! while a quorum has acknowledged it within *F*, whatever it calls itself.
//!
//! What it leaves to others: carrying the question ([`crate::PeerProbe`]).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use lease::ids::NodeId;
use protocol::wire::Id64;
use raft::{Cluster, NodeRole};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::context::PeerProbe;
use crate::control::NodeFacts;

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
    /// The nodes, in order of id.
    pub nodes: Vec<NodeStatus>,
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
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
}

/// The part a node plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads, and a quorum follows.
    Leader,
    /// Votes.
    Follower,
    /// Follows without a vote.
    Learner,
    /// Did not answer.
    Unreachable,
}

/// What a node says of itself: the answer to [`crate::PeerProbe::probe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct NodeReport {
    node: NodeId,
    role: Role,
    term: u64,
    applied_index: u64,
    quorum_ack_age_ms: Option<u64>,
    sealed: bool,
    alarms: Vec<String>,
    #[serde(default)]
    facts: NodeFacts,
}

/// This node's report, for the peer listener to answer with. `is_sealed`: it has no keys yet.
pub fn node_report(cluster: &Cluster, is_sealed: bool, facts: NodeFacts) -> Bytes {
    let report = report(&cluster.status(), cluster.failover_bound(), is_sealed, facts);
    #[expect(clippy::expect_used, reason = "numbers and texts are always JSON")]
    serde_json::to_vec(&report).expect("a report is JSON").into()
}

/// Asks every member and puts the answers together.
pub(crate) async fn cluster_status(
    cluster: &Cluster,
    probe: &dyn PeerProbe,
    is_sealed: bool,
    facts: NodeFacts,
) -> ClusterStatus {
    let status = cluster.status();
    let bound = cluster.failover_bound();
    let (cluster_id, places) = places(cluster, &status);
    let others: Vec<NodeId> = places.keys().copied().filter(|id| *id != status.node).collect();
    let answers = join_all(others.iter().map(|id| probe.probe(*id, PROBE_DEADLINE))).await;
    let mut reports: BTreeMap<NodeId, NodeReport> = others
        .iter()
        .zip(answers)
        .filter_map(|(id, answer)| Some((*id, read_report(*id, &answer?)?)))
        .collect();
    reports.insert(status.node, report(&status, bound, is_sealed, facts));
    put_together(cluster_id, places, &reports)
}

fn report(status: &raft::Status, bound: Duration, is_sealed: bool, facts: NodeFacts) -> NodeReport {
    let role = match status.role {
        NodeRole::Leader if status.leads_with_quorum(bound) => Role::Leader,
        NodeRole::Leader | NodeRole::Follower | NodeRole::Candidate => Role::Follower,
        NodeRole::Learner => Role::Learner,
        NodeRole::Stopped => Role::Unreachable,
    };
    NodeReport {
        node: status.node,
        role,
        term: status.term,
        applied_index: status.applied.map_or(0, |position| position.index),
        quorum_ack_age_ms: status.quorum_ack_age_ms,
        sealed: is_sealed,
        alarms: status.alarms.iter().map(|alarm| alarm.name().to_owned()).collect(),
        facts,
    }
}

fn read_report(id: NodeId, bytes: &[u8]) -> Option<NodeReport> {
    let report: NodeReport = serde_json::from_slice(bytes).ok()?;
    (report.node == id).then_some(report)
}

/// Where a member is.
#[derive(Debug, Clone, Default)]
struct Place {
    region: String,
    zone: String,
    peer: String,
    gateway: String,
}

/// Members by the ledger's rows, and those that only consensus knows yet.
fn places(cluster: &Cluster, status: &raft::Status) -> (String, BTreeMap<NodeId, Place>) {
    let mut places: BTreeMap<NodeId, Place> = status
        .peers
        .iter()
        .map(|peer| (peer.id, Place { peer: peer.address.clone(), ..Place::default() }))
        .collect();
    let ledger = cluster.ledger();
    for (id, place) in &mut places {
        if let Some(member) = ledger.member(*id) {
            place.region = member.region.to_string();
            place.zone = member.zone.to_string();
            place.peer = member.peer_address.to_string();
            place.gateway = member.gateway_url.to_string();
        }
    }
    let cluster_id = ledger.cluster().map(|cluster| cluster.cluster_id.to_string());
    (cluster_id.unwrap_or_default(), places)
}

fn put_together(
    cluster_id: String,
    places: BTreeMap<NodeId, Place>,
    reports: &BTreeMap<NodeId, NodeReport>,
) -> ClusterStatus {
    let furthest = reports.values().map(|report| report.applied_index).max().unwrap_or(0);
    // Two may call themselves leader for a moment; the higher term is right.
    let leader = reports
        .values()
        .filter(|report| report.role == Role::Leader)
        .max_by_key(|report| report.term)
        .map(|report| report.node);
    let nodes = places
        .into_iter()
        .map(|(id, place)| {
            let report = reports.get(&id).filter(|report| report.role != Role::Unreachable);
            let role = match report.map(|report| report.role) {
                None => Role::Unreachable,
                Some(Role::Leader) if leader != Some(id) => Role::Follower,
                Some(role) => role,
            };
            NodeStatus {
                id,
                role,
                region: place.region,
                zone: place.zone,
                peer: place.peer,
                gateway: place.gateway,
                term: report.map(|report| Id64(report.term)),
                applied_index: report.map(|report| Id64(report.applied_index)),
                lag: report.map(|report| Id64(furthest.saturating_sub(report.applied_index))),
                quorum_ack_age_ms: report.and_then(|report| report.quorum_ack_age_ms),
                sealed: report.map(|report| report.sealed),
                alarms: report.map(|report| report.alarms.clone()).unwrap_or_default(),
            }
        })
        .collect();
    ClusterStatus { cluster_id, has_quorum: leader.is_some(), leader, nodes }
}

/// How long a node may take to say how it stands: longer than any of our networks needs, shorter
/// than a person waits.
const PROBE_DEADLINE: Duration = Duration::from_millis(750);

#[cfg(test)]
mod tests {
    use super::*;

    fn node_report(node: NodeId, role: Role, term: u64, applied_index: u64) -> NodeReport {
        NodeReport {
            node,
            role,
            term,
            applied_index,
            quorum_ack_age_ms: None,
            sealed: false,
            alarms: Vec::new(),
            facts: NodeFacts::default(),
        }
    }

    fn check(reports: &[NodeReport], roles: &[Role], leader: Option<u64>) {
        let places = (1..=3).map(|id| (id, Place::default())).collect();
        let reports = reports.iter().map(|report| (report.node, report.clone())).collect();
        let status = put_together("lh-1".to_owned(), places, &reports);
        assert_eq!(status.nodes.iter().map(|node| node.role).collect::<Vec<_>>(), roles);
        assert_eq!(status.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((status.leader, status.has_quorum), (leader, leader.is_some()));
    }

    #[test]
    fn silence_is_unreachable_and_of_two_leaders_the_newer_one_counts() {
        use Role::{Follower, Leader, Unreachable};
        check(
            &[node_report(1, Leader, 5, 10), node_report(2, Follower, 5, 9)],
            &[Leader, Follower, Unreachable],
            Some(1),
        );
        check(
            &[node_report(1, Leader, 5, 10), node_report(3, Leader, 6, 11)],
            &[Follower, Unreachable, Leader],
            Some(3),
        );
        check(&[node_report(2, Follower, 5, 9)], &[Unreachable, Follower, Unreachable], None);
    }

    #[test]
    fn a_report_is_believed_for_its_own_node_only() {
        let report = node_report(2, Role::Follower, 1, 1);
        let bytes = serde_json::to_vec(&report).unwrap();
        assert_eq!(read_report(2, &bytes), Some(report));
        assert_eq!(read_report(3, &bytes), None);
        assert_eq!(read_report(2, b"{}"), None);
    }
}
