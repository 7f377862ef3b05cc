//! The rules that a run is judged by: one function each, named as a sentence.
//!
//! They look at what applications were told and at what the audit logs say, never at what the
//! cluster means to do. The ledger's own rules (`lease::invariants`) are checked beside them on
//! every node, by the observer; so are leaders by term and sums by index, which need no history.
//!
//! A lease is held *for certain* from when the checkout's answer came until the time that was last
//! promised, counted from when that request was sent, or until its holder asked to give it back.

use std::collections::{BTreeMap, BTreeSet};

use lease::audit::{AuditDetail, AuditKind};
use lease::ids::{LeaseId, NodeId};
use lease::{AuditEvent, AuditHead};
use raft::StoredEvent;

use crate::history::{Held, History};
use crate::shared::Shared;

/// All rules over the whole history, once the run is over.
pub(crate) fn judge(shared: &Shared) {
    never_oversubscribed(shared);
    fences_strictly_increase(shared);
    each_acknowledged_act_is_once_in_the_audit(shared);
    no_lease_ended_early(shared);
    replicas_are_equal(shared);
    seats_are_conserved(shared);
}

/// At no moment are more seats held for certain than the package has.
fn never_oversubscribed(shared: &Shared) {
    let history = shared.history.borrow();
    for (number, package) in shared.plan.packages.iter().enumerate() {
        let mut edges: Vec<(u64, i64, &str)> = Vec::new();
        for held in history.leases.values().filter(|held| held.package == number) {
            let (from, until) = (held.granted_ns, held.certain_until_ns());
            if from < until {
                edges.extend([(from, 1, held.text.as_str()), (until, -1, held.text.as_str())]);
            }
        }
        // At one moment, ends come before beginnings.
        edges.sort();
        let mut out = BTreeSet::new();
        for (at_ns, change, lease) in edges {
            match change {
                1 => out.insert(lease),
                _ => out.remove(lease),
            };
            if out.len() > package.total() as usize {
                let what = format!(
                    "{} seats of `{}` are held at {:.3} s, and there are {}: {out:?}",
                    out.len(),
                    package.name,
                    at_ns as f64 / 1e9,
                    package.total()
                );
                shared.violate("never_oversubscribed", what);
                return;
            }
        }
    }
}

/// Of two grants of which one was answered before the other was asked for, the later has the higher
/// fence; and no fence is given twice.
fn fences_strictly_increase(shared: &Shared) {
    let history = shared.history.borrow();
    let mut fences: BTreeMap<&str, u64> = BTreeMap::new();
    let mut answered: Vec<(u64, &str)> =
        history.grants.iter().map(|(_, at, fence)| (*at, fence.as_str())).collect();
    answered.sort();
    let mut highest_before: Vec<(u64, &str)> = Vec::new();
    for (at, fence) in answered {
        let highest = highest_before.last().map_or(fence, |(_, highest)| fence.max(*highest));
        highest_before.push((at, highest));
    }
    for (asked, _, fence) in &history.grants {
        if fences.insert(fence, *asked).is_some() {
            shared.violate("fences_strictly_increase", format!("{fence} was given twice"));
        }
        let before = highest_before.partition_point(|(at, _)| at < asked);
        if let Some((_, highest)) = before.checked_sub(1).and_then(|at| highest_before.get(at))
            && *highest >= fence.as_str()
        {
            let what = format!("{fence} came after {highest} had been answered");
            shared.violate("fences_strictly_increase", what);
        }
    }
}

/// What was acknowledged is in the audit log, once; and nothing is there that nobody asked for.
fn each_acknowledged_act_is_once_in_the_audit(shared: &Shared) {
    const RULE: &str = "each_acknowledged_act_is_once_in_the_audit";
    let history = shared.history.borrow();
    let mut granted: BTreeMap<LeaseId, Vec<&AuditEvent>> = BTreeMap::new();
    let mut counts: BTreeMap<(LeaseId, AuditKind), u64> = BTreeMap::new();
    let (mut transfers, mut changes) = (0, 0);
    for seen in history.events.values() {
        let event = &seen.event;
        if let Some(lease) = event.lease {
            *counts.entry((lease, event.kind)).or_default() += 1;
            if event.kind == AuditKind::LeaseGranted {
                granted.entry(lease).or_default().push(event);
            }
        }
        transfers += u64::from(event.kind == AuditKind::SeatsTransferred);
        changes += u64::from(matches!(
            event.kind,
            AuditKind::PackageSuspended | AuditKind::PackageResumed
        ));
    }
    let mut after_the_first = 0;
    for (lease, held) in &history.leases {
        let count = |kind| counts.get(&(*lease, kind)).copied().unwrap_or(0);
        match granted.get(lease).map(Vec::as_slice) {
            Some([event]) => {
                has_the_fence_that_was_told(shared, held, event);
                let attempt = held.attempts.iter().position(|trace| *trace == event.trace.0);
                after_the_first +=
                    u64::from(attempt.is_some_and(|it| it + 1 < held.attempts.len()));
            }
            found => {
                let what =
                    format!("{} was granted {} times", held.text, found.map_or(0, <[_]>::len));
                shared.violate(RULE, what);
            }
        }
        let returned = count(AuditKind::LeaseReturned);
        if returned > 1 || (held.returned_ns.is_some() && returned != 1) {
            shared.violate(RULE, format!("{} was given back {returned} times", held.text));
        }
        let (sure, maybe) = held.borrows;
        let borrowed = count(AuditKind::LeaseBorrowed);
        if borrowed < sure || borrowed > sure + maybe {
            let what = format!("{} was borrowed {borrowed} times, not {sure}", held.text);
            shared.violate(RULE, what);
        }
        let ends = [
            AuditKind::LeaseReturned,
            AuditKind::LeaseExpired,
            AuditKind::LeaseReleased,
            AuditKind::LeaseEndedWithSeats,
        ];
        let ended: u64 = ends.into_iter().map(count).sum();
        if ended > 1 {
            shared.violate(RULE, format!("{} ended {ended} times", held.text));
        }
    }
    let nobodys = granted.keys().filter(|lease| !history.leases.contains_key(lease)).count();
    if nobodys > history.unknown_checkouts.len() {
        let what = format!(
            "{nobodys} leases belong to nobody, and only {} checkouts are unknown",
            history.unknown_checkouts.len()
        );
        shared.violate("exactly_once", what);
    }
    let (sure, maybe) = history.transfers;
    if transfers < sure || transfers > sure + maybe {
        shared.violate(RULE, format!("{transfers} transfers, not {sure} to {}", sure + maybe));
    }
    if changes < history.changes {
        shared.violate(RULE, format!("{changes} changes of a package, not {}", history.changes));
    }
    drop(history);
    shared.totals.borrow_mut().retries_with_effect += after_the_first;
}

fn has_the_fence_that_was_told(shared: &Shared, held: &Held, event: &AuditEvent) {
    let AuditDetail::Grant { fence, .. } = &event.detail else { return };
    let told = held.fence.parse::<protocol::fence::Fence>();
    let is_told = told.is_ok_and(|told| {
        (told.epoch, told.index, told.position) == (fence.epoch, fence.index, fence.position)
    });
    if !is_told {
        let what = format!("{} was told {} and has {fence:?}", held.text, held.fence);
        shared.violate("retry_gives_the_identical_answer", what);
    }
}

/// No lease that its holder was promised ran out before.
fn no_lease_ended_early(shared: &Shared) {
    let history = shared.history.borrow();
    let expired: Vec<(LeaseId, u64)> = history
        .events
        .iter()
        .filter(|(_, seen)| seen.event.kind == AuditKind::LeaseExpired)
        .filter_map(|(seq, seen)| Some((seen.event.lease?, *seq)))
        .collect();
    drop(history);
    for (lease, seq) in expired {
        never_expired_early(shared, lease, seq);
    }
}

/// A lease was seen to have run out: neither too early nor, when nothing was wrong, too late.
pub(crate) fn expired(shared: &Shared, lease: LeaseId, seq: u64) {
    never_expired_early(shared, lease, seq);
    never_reset_by_a_failover(shared, lease, seq);
}

fn never_expired_early(shared: &Shared, lease: LeaseId, seq: u64) {
    let history = shared.history.borrow();
    let (Some(held), Some(seen)) = (history.leases.get(&lease), history.events.get(&seq)) else {
        return;
    };
    if seen.at_ns >= held.certain_until_ns() {
        return;
    }
    let what = format!(
        "{} was promised until {:.3} s and had run out at {:.3} s",
        held.text,
        held.certain_until_ns() as f64 / 1e9,
        seen.at_ns as f64 / 1e9
    );
    drop(history);
    shared.violate("never_expired_early", what);
}

/// Time with a leader counts against a lease, whoever leads: a failover gives back a second and the
/// time of an election, never a whole term.
fn never_reset_by_a_failover(shared: &Shared, lease: LeaseId, seq: u64) {
    let history = shared.history.borrow();
    let (Some(held), Some(seen)) = (history.leases.get(&lease), history.events.get(&seq)) else {
        return;
    };
    if held.borrowed || held.touched_ns < history.slow_clock_until_ns {
        return;
    }
    let led_ms = seen.led_ns.saturating_sub(held.touched_led_ns) / 1_000_000;
    let failovers = seen.terms.saturating_sub(held.touched_terms);
    let most_ms = held.lives_ms + GIVEN_BACK_MS * (failovers + 1) + SLACK_MS;
    if led_ms <= most_ms {
        return;
    }
    let what = format!(
        "{} lived {led_ms} led ms after it was last renewed, {failovers} failovers, at most {most_ms}",
        held.text
    );
    drop(history);
    shared.violate("never_reset_by_a_failover", what);
}

/// The audit log of one node hangs together, and is the one that everybody has.
pub(crate) fn chain_is_whole(shared: &Shared, node: NodeId, events: &[StoredEvent]) {
    let mut decoded = Vec::with_capacity(events.len());
    for stored in events {
        match stored.decode() {
            Ok(event) => decoded.push(event),
            Err(error) => {
                shared.violate("the_audit_chain_is_whole", format!("node {node}: {error}"));
                return;
            }
        }
    }
    if let Err(error) = lease::audit::verify_chain(AuditHead::default(), &decoded) {
        shared.violate("the_audit_chain_is_whole", format!("node {node}: {error}"));
    }
    let history = shared.history.borrow();
    let newest = history.events.keys().next_back().copied().unwrap_or(0);
    let own = events.last().map_or(0, |event| event.seq);
    drop(history);
    if own < newest {
        let what = format!("node {node} has {own} events, and {newest} were there");
        shared.violate("committed_is_never_lost", what);
    }
}

/// At the end all nodes have the same state at the same index.
fn replicas_are_equal(shared: &Shared) {
    let history = shared.history.borrow();
    let mut by_index = BTreeMap::new();
    for (node, read) in &history.final_reads {
        let (other, sum) = *by_index.entry(read.index).or_insert((*node, read.sum));
        if sum != read.sum {
            let what = format!("nodes {other} and {node} differ at index {}", read.index);
            shared.violate("equal_state_sums_at_equal_index", what);
        }
    }
}

/// Every seat that was taken and did not end is out, and no other.
fn seats_are_conserved(shared: &Shared) {
    let history = shared.history.borrow();
    for (node, read) in &history.final_reads {
        let mut out = BTreeSet::new();
        for seen in history.events.range(..=read.seq).map(|(_, seen)| seen) {
            let Some(lease) = seen.event.lease else { continue };
            match seen.event.kind {
                AuditKind::LeaseGranted => {
                    out.insert(lease);
                }
                kind if is_end(kind) => {
                    out.remove(&lease);
                }
                _ => {}
            }
        }
        if out != read.live {
            let what = format!(
                "node {node} has {} leases out, its audit log says {}",
                read.live.len(),
                out.len()
            );
            shared.violate("seats_are_conserved", what);
        }
    }
}

fn is_end(kind: AuditKind) -> bool {
    matches!(
        kind,
        AuditKind::LeaseReturned
            | AuditKind::LeaseReleased
            | AuditKind::LeaseExpired
            | AuditKind::LeaseEndedWithPackage
            | AuditKind::LeaseEndedWithSeats
            | AuditKind::LeaseWrittenOff
    )
}

/// When everything was quiet for long enough, no lease lives that nobody renews.
pub(crate) fn expired_in_time_when_calm(shared: &Shared) {
    let history = shared.history.borrow();
    let late: Vec<String> = history
        .final_reads
        .iter()
        .flat_map(|(node, read)| read.live.iter().map(move |lease| (node, lease)))
        .filter(|(_, lease)| history.leases.get(lease).is_none_or(|held| !held.borrowed))
        .map(|(node, lease)| format!("{lease:?} on node {node}"))
        .collect();
    drop(history);
    if !late.is_empty() {
        shared.violate("expired_in_time_when_calm", late.join(", "));
    }
}

/// Time with a leader up to now, in nanoseconds, and how many terms had one.
pub(crate) fn led(history: &History) -> (u64, u64) {
    (history.led_ns, history.terms())
}

/// A failover gives back what the log had not yet of the lease clock, and what passes until the new
/// leader lets time pass.
const GIVEN_BACK_MS: u64 = 1_500;
/// Two ticks, the observer's look, messages under way.
const SLACK_MS: u64 = 1_500;
