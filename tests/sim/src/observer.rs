//! Watches one running process from inside its host: who leads, what was appended to the audit
//! log, whether the ledger's own rules hold, whether replicas agree.

use std::rc::Rc;
use std::time::Duration;

use lease::audit::AuditKind;
use lease::ids::NodeId;
use lease::invariants::{Before, check_all};
use raft::{Cluster, NodeRole, Status};
use sha2::{Digest, Sha256};

use crate::history::{FinalRead, Seen};
use crate::invariants;
use crate::shared::{Phase, Shared};

/// Runs until the process ends.
pub(crate) async fn observe(shared: Rc<Shared>, node: NodeId, cluster: Cluster) {
    let mut next_event = 1;
    let mut before = Before::default();
    let mut installed = cluster.metrics().snapshots_installed;
    for round in 0_u64.. {
        tokio::time::sleep(LOOK_EVERY).await;
        let status = cluster.status();
        watch_leadership(&shared, node, &status);
        takes_no_part_without_its_log(&shared, node, &status);
        if round.is_multiple_of(EVENTS_EVERY) {
            next_event = read_events(&shared, node, &cluster, next_event).await;
            compare_sum(&shared, node, &cluster);
        }
        if round.is_multiple_of(RULES_EVERY) {
            let now_installed = cluster.metrics().snapshots_installed;
            if now_installed != installed {
                shared.totals.borrow_mut().snapshot_installs += now_installed - installed;
                shared.tell("installed", format!("node {node}"));
                installed = now_installed;
            }
            check_rules(&shared, node, &cluster, &mut before);
        }
        if shared.phase.get() == Phase::Final
            && !shared.history.borrow().final_reads.contains_key(&node)
        {
            read_whole(&shared, node, &cluster).await;
        }
    }
}

fn watch_leadership(shared: &Shared, node: NodeId, status: &Status) {
    if let Some(applied) = status.applied {
        let mut history = shared.history.borrow_mut();
        let known = (node, applied.term);
        let (other, term) = *history.terms_applied.entry(applied.index).or_insert(known);
        drop(history);
        if term != applied.term {
            let what = format!(
                "entry {} is of term {term} on node {other}, of term {} on node {node}",
                applied.index, applied.term
            );
            shared.violate("committed_is_never_lost", what);
        }
    }
    if status.role != NodeRole::Leader {
        return;
    }
    let now_ns = shared.time.now_ns();
    let mut history = shared.history.borrow_mut();
    let leader = *history.leaders.entry(status.term).or_insert(node);
    if status.leads_with_quorum(MAY_LEAD_WITHIN) {
        let since_ns = now_ns.saturating_sub(history.most_led_counted_ns);
        history.most_led_ns += since_ns.min(MAY_COUNT_AT_MOST_NS);
        history.most_led_counted_ns = now_ns;
    }
    let committed = status.committed.map(|position| position.index);
    if committed != history.committed.0 || committed == status.last_log {
        history.committed = (committed, now_ns);
    }
    // What is behind a snapshot, or a disk, runs out once it is through: that is late, not reset.
    let commits = now_ns.saturating_sub(history.committed.1) < LEADS_WITHIN.as_nanos() as u64;
    if commits && status.leads_with_quorum(LEADS_WITHIN) {
        let since_ns = now_ns.saturating_sub(history.led_counted_ns);
        history.led_ns += since_ns.min(COUNT_AT_MOST_NS);
        history.led_counted_ns = now_ns;
    }
    drop(history);
    if leader != node {
        let what = format!("term {} is led by {leader} and by {node}", status.term);
        shared.violate("one_leader_per_term", what);
    }
}

/// A node that lost its disk was given nothing under its old number: it would vote as if it had
/// never promised anything.
fn takes_no_part_without_its_log(shared: &Shared, node: NodeId, status: &Status) {
    let is_wiped = shared.machine(node).is_some_and(|machine| machine.is_wiped.get());
    if is_wiped && (status.applied.is_some() || status.role == NodeRole::Leader) {
        let what = format!("node {node} lost its disk and takes part: {status:?}");
        shared.violate("a_wiped_node_takes_no_part", what);
    }
}

fn compare_sum(shared: &Shared, node: NodeId, cluster: &Cluster) {
    let Some((index, sum)) = cluster.state_sum() else { return };
    let mut history = shared.history.borrow_mut();
    let (other, known) = *history.sums.entry(index).or_insert((node, sum));
    drop(history);
    if known != sum {
        let what = format!("nodes {other} and {node} differ at index {index}");
        shared.violate("equal_state_sums_at_equal_index", what);
    }
}

/// Takes in what is new in this node's audit log; gives the next number.
async fn read_events(shared: &Shared, node: NodeId, cluster: &Cluster, from: u64) -> u64 {
    let events = match cluster.audit_events(from, PAGE_EVENTS).await {
        Ok(events) => events,
        Err(error) if error.broken_at().is_none() || cluster_failed(cluster, shared, node) => {
            shared.tell("unread", format!("node {node}: {error}"));
            return from;
        }
        Err(error) => {
            shared.violate("the_audit_chain_is_whole", format!("node {node}: {error}"));
            return from;
        }
    };
    let now_ns = shared.time.now_ns();
    let mut next = from;
    for stored in events {
        next = stored.seq + 1;
        let hash: [u8; 32] = Sha256::digest(&stored.bytes).into();
        let mut history = shared.history.borrow_mut();
        if let Some(seen) = history.events.get(&stored.seq) {
            let is_same = seen.hash == hash;
            drop(history);
            if !is_same {
                let what = format!("event {} of node {node} is another", stored.seq);
                shared.violate("committed_is_never_lost", what);
            }
            continue;
        }
        let event = match stored.decode() {
            Ok(event) => event,
            Err(error) => {
                drop(history);
                shared.violate("the_audit_chain_is_whole", format!("node {node}: {error}"));
                continue;
            }
        };
        let expired = (event.kind == AuditKind::LeaseExpired).then_some(event.lease).flatten();
        let (led_ns, most_led_ns) = (history.led_ns, history.most_led_ns);
        let terms = history.terms();
        let seen = Seen { hash, event, at_ns: now_ns, led_ns, most_led_ns, terms };
        history.events.insert(stored.seq, seen);
        drop(history);
        if let Some(lease) = expired {
            shared.totals.borrow_mut().expiries += 1;
            invariants::expired(shared, lease, stored.seq);
        }
    }
    next
}

/// Whether this node cannot read because its disk has failed it.
fn cluster_failed(cluster: &Cluster, shared: &Shared, node: NodeId) -> bool {
    cluster.is_damaged() || shared.machine(node).is_none_or(|machine| machine.disk.is_off())
}

fn check_rules(shared: &Shared, node: NodeId, cluster: &Cluster, before: &mut Before) {
    let checked = {
        let ledger = cluster.ledger();
        let checked = check_all(before, &ledger);
        *before = Before::of(&ledger);
        checked
    };
    if let Err(violation) = checked {
        shared.violate("the_ledgers_own_rules", format!("node {node}: {violation}"));
    }
}

/// The whole audit log and the state of this node, once everything is quiet.
async fn read_whole(shared: &Shared, node: NodeId, cluster: &Cluster) {
    let barrier = cluster.read_barrier(Duration::from_secs(2)).await;
    if barrier.is_err() {
        return;
    }
    let mut events = Vec::new();
    let mut next = 1;
    loop {
        match cluster.audit_events(next, PAGE_EVENTS).await {
            Ok(page) if page.is_empty() => break,
            Ok(page) => {
                next += page.len() as u64;
                events.extend(page);
            }
            Err(error) => {
                shared.violate("the_audit_chain_is_whole", format!("node {node}: {error}"));
                return;
            }
        }
    }
    invariants::chain_is_whole(shared, node, &events);
    let Some((index, sum)) = cluster.state_sum() else { return };
    let live = cluster.ledger().leases(None).map(|lease| lease.lease).collect();
    let read = FinalRead { seq: next - 1, index, sum, live };
    // What came meanwhile is read by the next round.
    if cluster.audit_bounds().head.seq == read.seq {
        shared.history.borrow_mut().final_reads.insert(node, read);
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(25);
const EVENTS_EVERY: u64 = 4;
const RULES_EVERY: u64 = 10;
const PAGE_EVENTS: usize = 1_000;
/// A leader whose quorum is older than this does not let time pass.
const LEADS_WITHIN: Duration = Duration::from_millis(300);
const COUNT_AT_MOST_NS: u64 = 100_000_000;
/// A leader's clock may go on for the lifetime of an acknowledgement; who was not looked at for a
/// moment may have led.
const MAY_LEAD_WITHIN: Duration = Duration::from_millis(600);
const MAY_COUNT_AT_MOST_NS: u64 = 400_000_000;
