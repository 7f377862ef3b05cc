//! Asks every member and puts the answers together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use lease::Ledger;
use lease::ids::NodeId;
use protocol::cloud::admin::AlarmView;
use protocol::wire::{Id64, UtcTime};
use raft::Cluster;

use super::report::{self, NodeReport};
use super::{ClusterStatus, EpochStatus, NodeStatus, QuorumStatus, Role};
use crate::context::PeerProbe;
use crate::control::NodeFacts;

/// How the cluster stands, as this node and those that answer it know.
pub(crate) async fn cluster_status(
    cluster: &Cluster,
    probe: &dyn PeerProbe,
    is_sealed: bool,
    facts: NodeFacts,
) -> ClusterStatus {
    let status = cluster.status();
    let mut reports = ask_others(cluster, probe, &status).await;
    reports.insert(status.node, report::of_cluster(cluster, is_sealed, facts));
    let ledger = cluster.ledger();
    let known = Known::of(&ledger, &status, cluster.displayed_civil_ms());
    drop(ledger);
    put_together(known, &reports)
}

/// The alarms of the cluster: those in the log, and what nodes find now.
pub(crate) async fn cluster_alarms(
    cluster: &Cluster,
    probe: &dyn PeerProbe,
    facts: NodeFacts,
) -> Vec<AlarmView> {
    let status = cluster.status();
    let mut reports = ask_others(cluster, probe, &status).await;
    reports.insert(status.node, report::of_cluster(cluster, false, facts));
    let logged = logged_alarms(&cluster.ledger());
    alarms(logged, &reports)
}

async fn ask_others(
    cluster: &Cluster,
    probe: &dyn PeerProbe,
    status: &raft::Status,
) -> BTreeMap<NodeId, NodeReport> {
    let mut others: BTreeSet<NodeId> = status.peers.iter().map(|peer| peer.id).collect();
    others.extend(cluster.ledger().members().map(|member| member.node));
    others.remove(&status.node);
    let answers = join_all(others.iter().map(|id| probe.probe(*id, PROBE_DEADLINE))).await;
    others
        .iter()
        .zip(answers)
        .filter_map(|(id, answer)| Some((*id, report::read(*id, &answer?)?)))
        .collect()
}

/// What this node knows of the cluster without asking.
#[derive(Debug, Default)]
struct Known {
    cluster_id: String,
    epoch: Option<EpochStatus>,
    civil_ms: Option<i64>,
    audit_head_seq: Option<u64>,
    audit_floor_seq: Option<u64>,
    grace_left_ms: Option<u64>,
    alarms: Vec<AlarmView>,
    places: BTreeMap<NodeId, Place>,
}

/// Where a member is.
#[derive(Debug, Clone, Default)]
struct Place {
    region: String,
    zone: String,
    peer: String,
    gateway: String,
    voter: bool,
}

impl Known {
    fn of(ledger: &Ledger, status: &raft::Status, civil_ms: i64) -> Self {
        let cluster = ledger.cluster();
        let led_ms = ledger.clock().led_ms;
        Self {
            cluster_id: cluster.map(|it| it.cluster_id.to_string()).unwrap_or_default(),
            epoch: cluster.map(|it| EpochStatus {
                number: it.epoch,
                incarnation: format!("{:016x}", it.incarnation),
            }),
            civil_ms: cluster.map(|_| civil_ms),
            audit_head_seq: cluster.map(|_| ledger.audit_head().seq),
            audit_floor_seq: cluster.map(|_| ledger.audit_floor().seq),
            grace_left_ms: ledger.grace().map(|it| it.until_led_ms.saturating_sub(led_ms)),
            alarms: logged_alarms(ledger),
            places: places(ledger, status),
        }
    }
}

/// Members by the ledger's rows, and those that only consensus knows yet.
fn places(ledger: &Ledger, status: &raft::Status) -> BTreeMap<NodeId, Place> {
    let mut places: BTreeMap<NodeId, Place> = status
        .peers
        .iter()
        .map(|peer| {
            let place = Place { peer: peer.address.clone(), voter: peer.voter, ..Place::default() };
            (peer.id, place)
        })
        .collect();
    for member in ledger.members() {
        let place = places.entry(member.node).or_default();
        place.region = member.region.to_string();
        place.zone = member.zone.to_string();
        place.peer = member.peer_address.to_string();
        place.gateway = member.gateway_url.to_string();
    }
    places
}

fn logged_alarms(ledger: &Ledger) -> Vec<AlarmView> {
    ledger
        .alarms()
        .map(|row| AlarmView {
            node_id: row.node,
            kind: row.kind.name().to_owned(),
            detail: row.detail.to_string(),
            since: Some(UtcTime::from_unix_ms(row.since_ms)),
            logged: true,
            found_now: false,
        })
        .collect()
}

/// What is in the log, and what nodes find now. Of a cause that two find, what the log says stays.
fn alarms(logged: Vec<AlarmView>, reports: &BTreeMap<NodeId, NodeReport>) -> Vec<AlarmView> {
    let key = |alarm: &AlarmView| (alarm.node_id, alarm.kind.clone());
    let mut all: BTreeMap<(NodeId, String), AlarmView> =
        logged.into_iter().map(|alarm| (key(&alarm), alarm)).collect();
    for (reporter, report) in reports {
        let found = report.facts.alarms.iter().map(|it| (it.node, it.kind.as_str(), &*it.detail));
        let own = report.alarms.iter().map(|kind| (*reporter, kind.as_str(), CONSENSUS_SAYS));
        for (node_id, kind, detail) in found.chain(own) {
            let alarm = all.entry((node_id, kind.to_owned())).or_insert_with(|| AlarmView {
                node_id,
                kind: kind.to_owned(),
                detail: detail.to_owned(),
                since: None,
                logged: false,
                found_now: true,
            });
            alarm.found_now = true;
        }
    }
    all.into_values().collect()
}

fn put_together(known: Known, reports: &BTreeMap<NodeId, NodeReport>) -> ClusterStatus {
    let furthest = reports.values().map(|report| report.applied_index).max().unwrap_or(0);
    // Two may call themselves leader for a moment; the higher term is right.
    let leading = reports
        .values()
        .filter(|report| report.role == Role::Leader)
        .max_by_key(|report| report.term);
    let leader = leading.map(|report| report.node);
    let offset_of = |id: NodeId| {
        let offsets = &leading?.clock_offsets_ms;
        offsets.iter().find(|(node, _)| *node == id).map(|(_, offset_ms)| *offset_ms)
    };
    let alarms = alarms(known.alarms, reports);
    let quorum = quorum(&known.places, reports);
    let nodes = known
        .places
        .into_iter()
        .map(|(id, place)| {
            let report = reports.get(&id).filter(|report| report.role != Role::Unreachable);
            let role = match report.map(|report| report.role) {
                None => Role::Unreachable,
                Some(Role::Leader) if leader != Some(id) => Role::Follower,
                Some(role) => role,
            };
            let of_node = alarms.iter().filter(|alarm| alarm.node_id == id);
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
                alarms: of_node.map(|alarm| alarm.kind.clone()).collect(),
                voter: place.voter,
                detail: report.map(|report| Box::new(report.detail(offset_of(id)))),
            }
        })
        .collect();
    ClusterStatus {
        cluster_id: known.cluster_id,
        has_quorum: leader.is_some(),
        leader,
        epoch: known.epoch,
        quorum,
        civil_time: known.civil_ms.map(UtcTime::from_unix_ms),
        audit_head_seq: known.audit_head_seq.map(Id64),
        audit_floor_seq: known.audit_floor_seq.map(Id64),
        grace_left_ms: known.grace_left_ms,
        alarms,
        nodes,
    }
}

fn quorum(
    places: &BTreeMap<NodeId, Place>,
    reports: &BTreeMap<NodeId, NodeReport>,
) -> QuorumStatus {
    let is_up = |id: &NodeId| reports.get(id).is_some_and(|it| it.role != Role::Unreachable);
    let voters: Vec<NodeId> =
        places.iter().filter(|(_, place)| place.voter).map(|(id, _)| *id).collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let answering = count(voters.iter().filter(|id| is_up(id)).count());
    let voters = count(voters.len());
    let needed = if voters == 0 { 0 } else { voters / 2 + 1 };
    QuorumStatus { voters, needed, answering, may_fail: answering.saturating_sub(needed) }
}

/// How long a node may take to say how it stands: longer than any of our networks needs, shorter
/// than a person waits.
const PROBE_DEADLINE: Duration = Duration::from_millis(750);
/// Where nobody has looked closer yet.
const CONSENSUS_SAYS: &str = "found by consensus on this node; its log has more";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::LocalAlarm;

    fn node_report(node: NodeId, role: Role, term: u64, applied_index: u64) -> NodeReport {
        NodeReport { node, role, term, applied_index, ..NodeReport::default() }
    }

    fn three() -> Known {
        let place = Place { voter: true, ..Place::default() };
        Known {
            cluster_id: "lh-1".to_owned(),
            places: (1..=3).map(|id| (id, place.clone())).collect(),
            ..Known::default()
        }
    }

    fn by_node(reports: &[NodeReport]) -> BTreeMap<NodeId, NodeReport> {
        reports.iter().map(|report| (report.node, report.clone())).collect()
    }

    fn check(reports: &[NodeReport], roles: &[Role], leader: Option<u64>, may_fail: u32) {
        let status = put_together(three(), &by_node(reports));
        assert_eq!(status.nodes.iter().map(|node| node.role).collect::<Vec<_>>(), roles);
        assert_eq!(status.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((status.leader, status.has_quorum), (leader, leader.is_some()));
        assert_eq!((status.quorum.voters, status.quorum.needed), (3, 2));
        assert_eq!(status.quorum.may_fail, may_fail);
    }

    #[test]
    fn silence_is_unreachable_and_of_two_leaders_the_newer_one_counts() {
        use Role::{Follower, Leader, Unreachable};
        check(
            &[node_report(1, Leader, 5, 10), node_report(2, Follower, 5, 9)],
            &[Leader, Follower, Unreachable],
            Some(1),
            0,
        );
        check(
            &[node_report(1, Leader, 5, 10), node_report(3, Leader, 6, 11)],
            &[Follower, Unreachable, Leader],
            Some(3),
            0,
        );
        check(&[node_report(2, Follower, 5, 9)], &[Unreachable, Follower, Unreachable], None, 0);
        check(
            &[1, 2, 3]
                .map(|node| node_report(node, if node == 2 { Leader } else { Follower }, 1, 1)),
            &[Follower, Leader, Follower],
            Some(2),
            1,
        );
    }

    #[test]
    fn alarms_are_those_in_the_log_and_those_found_now_each_once() {
        let logged = |node_id, kind: &str| AlarmView {
            node_id,
            kind: kind.to_owned(),
            detail: "logged".to_owned(),
            since: Some(UtcTime::from_unix_ms(0)),
            logged: true,
            found_now: false,
        };
        let found =
            |node, kind: &str| LocalAlarm { node, kind: kind.to_owned(), detail: "now".to_owned() };
        let mut leader = node_report(1, Role::Leader, 1, 1);
        leader.facts.alarms = vec![found(3, "LAG"), found(1, "NOSPACE")];
        leader.alarms = vec!["CLOCK".to_owned()];
        let reports = by_node(&[leader]);
        let known = Known { alarms: vec![logged(1, "NOSPACE"), logged(2, "CERT")], ..three() };
        let status = put_together(known, &reports);
        let shown: Vec<_> = status
            .alarms
            .iter()
            .map(|it| (it.node_id, it.kind.as_str(), it.logged, it.found_now))
            .collect();
        let want = [
            (1, "CLOCK", false, true),
            (1, "NOSPACE", true, true),
            (2, "CERT", true, false),
            (3, "LAG", false, true),
        ];
        assert_eq!(shown, want);
        assert_eq!(status.alarms[1].detail, "logged");
        assert_eq!(status.nodes[0].alarms, ["CLOCK", "NOSPACE"]);
        assert_eq!(status.nodes[2].alarms, ["LAG"]);
    }

    #[test]
    fn the_leaders_measure_of_a_clock_is_shown_of_the_clocks_node() {
        let mut leader = node_report(1, Role::Leader, 1, 1);
        leader.clock_offsets_ms = vec![(2, -120)];
        let reports = by_node(&[leader, node_report(2, Role::Follower, 1, 1)]);
        let status = put_together(three(), &reports);
        let offset = |at: usize| status.nodes[at].detail.as_ref().and_then(|it| it.clock_offset_ms);
        assert_eq!((offset(0), offset(1), offset(2)), (None, Some(-120), None));
    }
}
