//! What a node says of itself, to its own gateway and to the others that ask it.
//!
//! Fields are only added, each with a default: nodes of two releases ask each other during a
//! rolling upgrade.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use lease::Ledger;
use lease::ids::NodeId;
use lease::operate::AlarmKind;
use protocol::wire::{Id64, UtcTime};
use raft::{Alarm, Cluster, NodeRole};
use serde::{Deserialize, Serialize};
use storage::log::{DurationHistogram, SYNC_BOUNDS_NS};

use super::{NodeDetail, Role};
use crate::control::NodeFacts;

/// The answer to [`crate::PeerProbe::probe`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct NodeReport {
    pub(super) node: NodeId,
    pub(super) role: Role,
    pub(super) term: u64,
    pub(super) applied_index: u64,
    pub(super) quorum_ack_age_ms: Option<u64>,
    pub(super) sealed: bool,
    /// Names of kinds; what consensus alone knows is among them.
    pub(super) alarms: Vec<String>,
    pub(super) facts: NodeFacts,
    pub(super) recovered: bool,
    pub(super) has_room: bool,
    pub(super) last_log_index: u64,
    pub(super) committed_index: u64,
    pub(super) leader_contact_age_ms: Option<u64>,
    pub(super) epoch: u32,
    pub(super) leader_changes: u64,
    pub(super) fsyncs: u64,
    pub(super) fsync_p99_us: Option<u64>,
    pub(super) state_sum: Option<(u64, String)>,
    pub(super) audit_seq: u64,
    pub(super) audit_hash: String,
    /// Other nodes' wall clocks minus this one's, where this one leads.
    pub(super) clock_offsets_ms: Vec<(NodeId, i64)>,
}

/// This node's report, for the peer listener to answer with. `is_sealed`: it has no keys yet.
pub fn node_report(cluster: &Cluster, is_sealed: bool, facts: NodeFacts) -> Bytes {
    let report = of_cluster(cluster, is_sealed, facts);
    #[expect(clippy::expect_used, reason = "numbers and texts are always JSON")]
    serde_json::to_vec(&report).expect("a report is JSON").into()
}

/// What is to be said of this node now.
pub(super) fn of_cluster(cluster: &Cluster, is_sealed: bool, facts: NodeFacts) -> NodeReport {
    let status = cluster.status();
    let metrics = cluster.metrics();
    let (epoch, audit) = {
        let ledger = cluster.ledger();
        (epoch_of(&ledger), ledger.audit_head())
    };
    NodeReport {
        sealed: is_sealed,
        facts,
        epoch,
        audit_seq: audit.seq,
        audit_hash: HEXLOWER.encode(&audit.hash),
        leader_changes: metrics.leader_changes,
        fsyncs: metrics.log.sync.count(),
        fsync_p99_us: p99_us(&metrics.log.sync),
        ..of_status(&status, cluster.failover_bound())
    }
}

fn epoch_of(ledger: &Ledger) -> u32 {
    ledger.cluster().map_or(0, |cluster| cluster.epoch)
}

fn of_status(status: &raft::Status, bound: Duration) -> NodeReport {
    let role = match status.role {
        NodeRole::Leader if status.leads_with_quorum(bound) => Role::Leader,
        NodeRole::Leader | NodeRole::Follower | NodeRole::Candidate => Role::Follower,
        NodeRole::Learner => Role::Learner,
        NodeRole::Stopped => Role::Unreachable,
    };
    let offsets = status.peers.iter().filter_map(|peer| Some((peer.id, peer.clock_offset_ms?)));
    NodeReport {
        node: status.node,
        role,
        term: status.term,
        applied_index: status.applied.map_or(0, |position| position.index),
        quorum_ack_age_ms: status.quorum_ack_age_ms,
        alarms: kinds_of(&status.alarms),
        recovered: status.recovered,
        has_room: status.has_room,
        last_log_index: status.last_log.unwrap_or(0),
        committed_index: status.committed.map_or(0, |position| position.index),
        leader_contact_age_ms: status.leader_contact_age_ms,
        clock_offsets_ms: offsets.collect(),
        state_sum: status.state_sum.map(|(index, sum)| (index, HEXLOWER.encode(&sum))),
        ..NodeReport::default()
    }
}

/// What consensus finds wrong with its own node, by kind. That it refuses a peer is told of the
/// peer, by whoever leads.
fn kinds_of(alarms: &[Alarm]) -> Vec<String> {
    let mut kinds: Vec<AlarmKind> = alarms
        .iter()
        .filter_map(|alarm| match alarm {
            Alarm::ClockRate | Alarm::CivilJump | Alarm::ClocksDisagree => Some(AlarmKind::Clock),
            Alarm::Corrupt | Alarm::NoStateSumMajority => Some(AlarmKind::Corrupt),
            Alarm::PeerRefused => None,
        })
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().map(|kind| kind.name().to_owned()).collect()
}

/// The bound under which 99 of 100 observations fall, in microseconds; the greatest one where that
/// is tighter.
pub(super) fn p99_us(durations: &DurationHistogram) -> Option<u64> {
    let count = durations.count();
    let needed = count.saturating_mul(99).div_ceil(100);
    let mut seen = 0;
    let bounds = SYNC_BOUNDS_NS.iter().copied().chain([u64::MAX]);
    let bound_ns = bounds.zip(durations.counts).find_map(|(bound_ns, in_bucket)| {
        seen += in_bucket;
        (seen >= needed).then_some(bound_ns)
    });
    bound_ns.filter(|_| count > 0).map(|bound_ns| bound_ns.min(durations.max_ns) / 1_000)
}

/// Reads a node's answer; one that speaks for another node is not believed.
pub(super) fn read(id: NodeId, bytes: &[u8]) -> Option<NodeReport> {
    let report: NodeReport = serde_json::from_slice(bytes).ok()?;
    (report.node == id).then_some(report)
}

impl NodeReport {
    /// As operators see it. `clock_offset_ms` is the leader's measurement.
    pub(super) fn detail(&self, clock_offset_ms: Option<i64>) -> NodeDetail {
        let facts = &self.facts;
        let soonest = facts.certificates.iter().min_by_key(|it| it.not_after_s);
        let time = |seconds: i64| UtcTime::from_unix_ms(seconds.saturating_mul(1_000));
        NodeDetail {
            version: facts.version.clone(),
            preset: facts.preset.clone(),
            uptime_ms: facts.uptime_ms,
            draining: facts.draining,
            recovered: self.recovered,
            has_room: self.has_room,
            last_log_index: Id64(self.last_log_index),
            committed_index: Id64(self.committed_index),
            leader_contact_age_ms: self.leader_contact_age_ms,
            clock_offset_ms,
            epoch: self.epoch,
            leader_changes: self.leader_changes,
            fsync_p99_us: self.fsync_p99_us,
            fsyncs: self.fsyncs,
            disk_total_bytes: facts.disk_total_bytes,
            disk_free_bytes: facts.disk_free_bytes,
            disk_reserve_bytes: facts.disk_reserve_bytes,
            data_bytes: facts.data_bytes,
            certificate_until: soonest.map(|it| time(it.not_after_s)),
            certificate_purpose: soonest.map(|it| it.purpose.clone()),
            data_key_version: facts.data_key_version,
            last_backup_at: (facts.last_backup_at_s > 0).then(|| time(facts.last_backup_at_s)),
            descriptors: facts.descriptors,
            state_sum_index: self.state_sum.as_ref().map(|(index, _)| Id64(*index)),
            state_sum: self.state_sum.as_ref().map(|(_, sum)| sum.clone()),
            audit_seq: Id64(self.audit_seq),
            audit_hash: self.audit_hash.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_believed_for_its_own_node_only() {
        let report = NodeReport { node: 2, term: 1, ..NodeReport::default() };
        let bytes = serde_json::to_vec(&report).unwrap();
        assert_eq!(read(2, &bytes), Some(report));
        assert_eq!(read(3, &bytes), None);
        assert_eq!(read(2, b"{}"), None);
        assert_eq!(read(2, b"no JSON"), None);
    }

    #[test]
    fn a_report_of_an_older_release_is_read() {
        let older = br#"{"node":2,"role":"follower","term":3,"applied_index":9,
            "quorum_ack_age_ms":null,"sealed":false,"alarms":[]}"#;
        let report = read(2, older).unwrap();
        assert_eq!((report.role, report.applied_index), (Role::Follower, 9));
        assert_eq!(report.detail(None).disk_total_bytes, 0);
    }

    #[test]
    fn ninety_nine_of_a_hundred_writes_are_within_the_bound() {
        let of = |counts: &[(usize, u64)], max_ns: u64| {
            let mut durations = DurationHistogram { max_ns, ..DurationHistogram::default() };
            for (bucket, count) in counts {
                durations.counts[*bucket] = *count;
            }
            p99_us(&durations)
        };
        assert_eq!(of(&[], 0), None);
        assert_eq!(of(&[(0, 1)], 100_000), Some(100));
        assert_eq!(of(&[(0, 99), (5, 1)], 8_000_000), Some(250));
        assert_eq!(of(&[(0, 98), (5, 2)], 7_000_000), Some(7_000));
        assert_eq!(of(&[(16, 5)], 9_000_000_000), Some(9_000_000));
    }

    #[test]
    fn what_consensus_finds_is_told_by_kind_once() {
        let kinds = kinds_of(&[Alarm::ClockRate, Alarm::ClocksDisagree, Alarm::PeerRefused]);
        assert_eq!(kinds, ["CLOCK"]);
        assert_eq!(kinds_of(&[Alarm::NoStateSumMajority]), ["CORRUPT"]);
    }
}
