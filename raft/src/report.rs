//! Puts status and counters together from where they are kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lease::ids::NodeId;
use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver;

use crate::context::{Context, Raft};
use crate::status::{Alarm, Metrics, NodeRole, PeerStatus, Status};
use crate::types::{TypeConfig, position_of};

pub(crate) fn status(context: &Context, raft: &Raft, recovered: bool) -> Status {
    // What the members are is ours to know: openraft's copy of it is most of its metrics.
    let (last_log, committed, matched) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = matched(&metrics);
        (metrics.last_log_index, metrics.local_committed.as_ref().map(position_of), matched)
    };
    let leadership = *context.leadership.borrow();
    let term = leadership.term;
    let own = context.reading();
    let leads = leadership.role == NodeRole::Leader;
    let quorum_ack_age_ms =
        if leads { context.lead.quorum_ack_age_ms(term, own.monotonic_ns) } else { None };
    let mut alarms = context.alarms.lock().clone();
    if leads {
        alarms.extend(context.lead.alarms(term));
    }
    if !context.refused.lock().is_empty() {
        alarms.insert(Alarm::PeerRefused);
    }
    if context.fatal.is_corrupt() {
        alarms.insert(Alarm::Corrupt);
    }
    Status {
        node: context.node,
        role: leadership.role,
        leader: leadership.leader,
        term,
        last_log,
        committed,
        applied: context.replica.applied.borrow().position,
        checkpoint: context.replica.checkpointed(),
        peers: peers(context, &matched, leads, term),
        is_settled: context.peers.borrow().voters.len() == 1,
        quorum_ack_age_ms,
        leader_contact_age_ms: if leads { None } else { context.leader_contact_age_ms() },
        alarms: alarms.into_iter().collect(),
        recovered,
        has_room: context.has_room(),
        state_sum: context.replica.newest_sum().map(|sum| (sum.index, sum.sum)),
    }
}

/// Up to where each peer's log is known to be this leader's.
pub(crate) fn matched(metrics: &RaftMetrics<TypeConfig>) -> BTreeMap<NodeId, u64> {
    let peers = metrics.replication.iter().flatten();
    peers.filter_map(|(peer, matched)| Some((*peer, matched.as_ref()?.index))).collect()
}

fn peers(
    context: &Context,
    matched: &BTreeMap<NodeId, u64>,
    leads: bool,
    term: u64,
) -> Vec<PeerStatus> {
    let own = context.reading();
    let members = context.peers.borrow().clone();
    let refused = context.refused.lock().clone();
    members
        .addresses
        .into_iter()
        .map(|(id, address)| {
            let acked = if leads { context.lead.peer(term, id, own) } else { None };
            PeerStatus {
                id,
                address,
                voter: members.voters.iter().any(|set| set.contains(&id)),
                matched: matched.get(&id).copied(),
                ack_age_ms: acked.map(|(age_ms, _)| age_ms),
                clock_offset_ms: acked.map(|(_, offset_ms)| offset_ms),
                agrees: if leads { context.lead.agrees(term, id) } else { None },
                refused: refused.contains(&id),
            }
        })
        .collect()
}

pub(crate) fn metrics(context: &Context) -> Metrics {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (counters, replica) = (&context.counters, &context.replica.counters);
    Metrics {
        entries_proposed: get(&counters.entries_proposed),
        commands_proposed: get(&counters.commands_proposed),
        entries_in_flight: get(&counters.entries_in_flight),
        commands_queued: get(&counters.commands_queued),
        overloaded: get(&counters.overloaded),
        proposals_failed: get(&counters.proposals_failed),
        forwarded: get(&counters.forwarded),
        forwards: get(&counters.forwards),
        entries_applied: get(&replica.entries_applied),
        apply_ns: get(&replica.apply_ns),
        apply_max_ns: get(&replica.apply_max_ns),
        reads: get(&counters.reads),
        read_rounds: get(&counters.read_rounds),
        leader_changes: get(&counters.leader_changes),
        checkpoints: get(&replica.checkpoints),
        checkpoint_last_ns: get(&replica.checkpoint_last_ns),
        snapshots_sent: get(&counters.snapshots_sent),
        snapshots_installed: get(&replica.snapshots_installed),
        log: context.log.metrics(),
    }
}
