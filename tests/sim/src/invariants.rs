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
            let (from, until) = (held.granted_ns, history.certain_until_ns(held));
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
                let until = |lease: &&str| {
                    let held = history.leases.values().find(|held| held.text == **lease);
                    held.map_or(0.0, |held| history.certain_until_ns(held) as f64 / 1e9)
                };
                let out: Vec<String> =
                    out.iter().map(|lease| format!("{lease} until {:.3}", until(lease))).collect();
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
    for seen in history.events.values() {
        let event = &seen.event;
        if let Some(lease) = event.lease {
            *counts.entry((lease, event.kind)).or_default() += 1;
            if event.kind == AuditKind::LeaseGranted {
                granted.entry(lease).or_default().push(event);
            }
        }
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
        let acts = [
            (held.borrows, AuditKind::LeaseBorrowed),
            (held.brought_home, AuditKind::BorrowReturned),
        ];
        for ((sure, maybe), kind) in acts {
            let times = count(kind);
            if times < sure || times > sure + maybe {
                let what = format!("{}: {times} events {}, not {sure}", held.text, kind.name());
                shared.violate(RULE, what);
            }
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
    drop(history);
    shared.totals.borrow_mut().retries_with_effect += after_the_first;
    operators_acts_are_in_the_audit(shared);
}

/// Transfers between pools, and what was done to the package that changes.
fn operators_acts_are_in_the_audit(shared: &Shared) {
    const RULE: &str = "each_acknowledged_act_is_once_in_the_audit";
    let history = shared.history.borrow();
    let count = |kinds: &[AuditKind]| {
        let events = history.events.values();
        events.filter(|seen| kinds.contains(&seen.event.kind)).count() as u64
    };
    let transfers = count(&[AuditKind::SeatsTransferred]);
    let (sure, maybe) = history.transfers;
    if transfers < sure || transfers > sure + maybe {
        shared.violate(RULE, format!("{transfers} transfers, not {sure} to {}", sure + maybe));
    }
    let changes = count(&[AuditKind::PackageSuspended, AuditKind::PackageResumed]);
    if changes < history.changes {
        shared.violate(RULE, format!("{changes} changes of a package, not {}", history.changes));
    }
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
    time_without_a_quorum_does_not_count(shared, lease, seq);
    a_borrowed_seat_is_out_until_its_token_ends(shared, lease, seq);
    never_reset_by_a_failover(shared, lease, seq);
}

fn never_expired_early(shared: &Shared, lease: LeaseId, seq: u64) {
    let history = shared.history.borrow();
    let (Some(held), Some(seen)) = (history.leases.get(&lease), history.events.get(&seq)) else {
        return;
    };
    let until_ns = history.certain_until_ns(held);
    if seen.at_ns >= until_ns {
        return;
    }
    let what = format!(
        "{} was promised until {:.3} s and had run out at {:.3} s",
        held.text,
        until_ns as f64 / 1e9,
        seen.at_ns as f64 / 1e9
    );
    drop(history);
    shared.violate("never_expired_early", what);
}

/// While nobody leads, nobody can renew: no lease runs out by that time.
fn time_without_a_quorum_does_not_count(shared: &Shared, lease: LeaseId, seq: u64) {
    let history = shared.history.borrow();
    let (Some(held), Some(seen)) = (history.leases.get(&lease), history.events.get(&seq)) else {
        return;
    };
    let in_time = |(from_ns, to_ns, _): &(u64, u64, u64)| {
        *from_ns <= seen.at_ns && held.granted_ns.saturating_sub(S_NS) <= *to_ns
    };
    let is_late = seen.most_led_ns + LED_SLACK_NS >= held.until_led_ns;
    if is_late || held.borrowed || history.fast_clocks.iter().any(in_time) {
        return;
    }
    let what = format!(
        "{} was to last to {:.3} led s and had run out at {:.3}",
        held.text,
        held.until_led_ns as f64 / 1e9,
        seen.most_led_ns as f64 / 1e9
    );
    drop(history);
    shared.violate("time_without_a_quorum_does_not_count", what);
}

/// The seat of an offline token is nobody else's while any clock within the allowed skew may count
/// the token as good.
fn a_borrowed_seat_is_out_until_its_token_ends(shared: &Shared, lease: LeaseId, seq: u64) {
    let history = shared.history.borrow();
    let (Some(held), Some(seen)) = (history.leases.get(&lease), history.events.get(&seq)) else {
        return;
    };
    let Some(until_ns) = held.token_until_ns else { return };
    if history.token_may_be_over(held, until_ns, seen.at_ns) {
        return;
    }
    let what = format!(
        "{} was borrowed until {:.3} s and had run out at {:.3} s",
        held.text,
        until_ns as f64 / 1e9,
        seen.at_ns as f64 / 1e9
    );
    drop(history);
    shared.violate("a_borrowed_seat_is_out_until_its_token_ends", what);
}

/// Time with a leader counts against a lease, whoever leads: a failover gives back a second and the
/// time of an election, never a whole term.
fn never_reset_by_a_failover(shared: &Shared, lease: LeaseId, seq: u64) {
    let history = shared.history.borrow();
    let (Some(held), Some(seen)) = (history.leases.get(&lease), history.events.get(&seq)) else {
        return;
    };
    if held.borrowed || held.renewing || held.touched_ns < history.slow_clock_until_ns {
        return;
    }
    let led_ms = seen.led_ns.saturating_sub(held.touched_led_ns) / 1_000_000;
    let failovers = seen.terms.saturating_sub(held.touched_terms);
    let most_ms = held.lives_ms + GIVEN_BACK_MS * (failovers + 1) + SLACK_MS;
    if led_ms <= most_ms {
        return;
    }
    let what = format!(
        "{} lived {led_ms} led ms after its last renewal, {failovers} failovers, at most {most_ms}",
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
/// The observer's look, twice.
const LED_SLACK_NS: u64 = 300_000_000;
const S_NS: u64 = 1_000_000_000;
/// Two ticks, the observer's look, messages under way.
const SLACK_MS: u64 = 1_500;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use lease::audit::AuditEvent;
    use lease::command::SeatClass;
    use lease::entry::Actor;
    use lease::ids::{Fence, SubjectRef, TraceId};

    use super::*;
    use crate::history::CIVIL_SLACK_NS;
    use crate::history::{FinalRead, Seen};
    use crate::plan::Options;

    /// A run with a package of two seats.
    fn shared() -> Rc<Shared> {
        let shared = Shared::new(1, Options { faults: false, ..Options::default() }, false);
        assert!(shared.plan.packages[0].total() >= 2);
        shared
    }

    fn id(number: u8) -> LeaseId {
        LeaseId { group: 0, random: [number; 10] }
    }

    fn fence(number: u64) -> Fence {
        Fence { epoch: 1, index: number, position: 0 }
    }

    fn fence_text(number: u64) -> String {
        let fence = protocol::fence::Fence { epoch: 1, index: number, position: 0, incarnation: 7 };
        fence.to_string()
    }

    fn held(number: u8, from_ns: u64, until_ns: u64) -> Held {
        Held {
            package: 0,
            text: format!("lease-{number}"),
            fence: fence_text(u64::from(number)),
            granted_ns: from_ns,
            until_ns,
            until_led_ns: until_ns,
            touched_ns: from_ns,
            touched_led_ns: from_ns,
            touched_terms: 1,
            lives_ms: 2_000,
            renewing: false,
            borrowed: false,
            token_until_ns: None,
            borrows: (0, 0),
            brought_home: (0, 0),
            return_asked_ns: None,
            returned_ns: None,
            attempts: vec![u128::from(number)],
        }
    }

    fn event(seq: u64, kind: AuditKind, number: u8) -> Seen {
        let detail = match kind {
            AuditKind::LeaseGranted => AuditDetail::Grant {
                fence: fence(u64::from(number)),
                class: SeatClass::Commit,
                quantity: 1,
                pool: None,
                cost: None,
            },
            _ => AuditDetail::None,
        };
        let event = AuditEvent {
            previous: [0; 32],
            seq,
            civil_ms: 0,
            led_ms: 0,
            actor: Actor::Node(1),
            trace: TraceId(u128::from(number)),
            cause: None,
            kind,
            package: None,
            lease: Some(id(number)),
            user: SubjectRef(0),
            host: SubjectRef(0),
            detail,
        };
        Seen { hash: [0; 32], event, at_ns: S, led_ns: S, most_led_ns: S, terms: 1 }
    }

    /// One second.
    const S: u64 = 1_000_000_000;

    /// Runs a check over a history and compares the rules that did not hold.
    fn check(make: impl FnOnce(&Shared), judge: fn(&Shared), want: &[&str]) {
        let shared = shared();
        make(&shared);
        judge(&shared);
        let found: Vec<&str> = shared.violations().iter().map(|violation| violation.rule).collect();
        assert_eq!(found, want);
    }

    fn with_leases(shared: &Shared, leases: impl IntoIterator<Item = Held>) {
        let mut history = shared.history.borrow_mut();
        for (number, held) in (1..).zip(leases) {
            history.leases.insert(id(number), held);
        }
    }

    #[test]
    fn seats_that_overlap_by_a_nanosecond_are_too_many() {
        let total = shared().plan.packages[0].total() as u8;
        let full = |from_ns| (1..=total).map(move |number| held(number, from_ns, 2 * S));
        check(|shared| with_leases(shared, full(S)), never_oversubscribed, &[]);
        let one_more = |from_ns| full(S).chain([held(total + 1, from_ns, 3 * S)]);
        check(|shared| with_leases(shared, one_more(2 * S)), never_oversubscribed, &[]);
        let rule = ["never_oversubscribed"];
        check(|shared| with_leases(shared, one_more(2 * S - 1)), never_oversubscribed, &rule);
        // One of them was given back in time.
        let returned =
            || one_more(2 * S - 1).map(|it| Held { return_asked_ns: Some(2 * S - 1), ..it });
        check(|shared| with_leases(shared, returned()), never_oversubscribed, &[]);
        // A clock was fast by a fifth: what it may have gained does not count.
        let fast = |shared: &Shared| {
            with_leases(shared, one_more(2 * S - S / 20));
            shared.history.borrow_mut().fast_clocks.push((S, 2 * S, 200));
        };
        check(fast, never_oversubscribed, &[]);
    }

    #[test]
    fn a_later_grant_has_a_higher_fence() {
        let grants = |grants: &'static [(u64, u64, u64)]| {
            move |shared: &Shared| {
                let told =
                    grants.iter().map(|(asked, at, fence)| (*asked, *at, fence_text(*fence)));
                shared.history.borrow_mut().grants.extend(told);
            }
        };
        check(grants(&[(1, 2, 1), (3, 4, 2), (5, 6, 16)]), fences_strictly_increase, &[]);
        // At the same time in any order.
        check(grants(&[(1, 4, 2), (3, 5, 1)]), fences_strictly_increase, &[]);
        let rule = "fences_strictly_increase";
        check(grants(&[(1, 2, 2), (3, 4, 1)]), fences_strictly_increase, &[rule]);
        check(grants(&[(1, 4, 2), (3, 5, 2)]), fences_strictly_increase, &[rule]);
    }

    #[test]
    fn an_act_is_once_in_the_audit() {
        let once = each_acknowledged_act_is_once_in_the_audit;
        let with = |events: &'static [(AuditKind, u8)], change: fn(&mut Held)| {
            move |shared: &Shared| {
                let mut one = held(1, S, 2 * S);
                change(&mut one);
                with_leases(shared, [one]);
                let mut history = shared.history.borrow_mut();
                for (seq, (kind, lease)) in (1..).zip(events) {
                    history.events.insert(seq, event(seq, *kind, *lease));
                }
            }
        };
        use AuditKind::{LeaseBorrowed, LeaseExpired, LeaseGranted, LeaseReturned};
        let nothing: fn(&mut Held) = |_| {};
        let rule = "each_acknowledged_act_is_once_in_the_audit";
        check(with(&[(LeaseGranted, 1)], nothing), once, &[]);
        check(with(&[], nothing), once, &[rule]);
        check(with(&[(LeaseGranted, 1), (LeaseGranted, 1)], nothing), once, &[rule]);
        check(with(&[(LeaseGranted, 1), (LeaseGranted, 2)], nothing), once, &["exactly_once"]);
        let returned: fn(&mut Held) = |held| held.returned_ns = Some(S);
        check(with(&[(LeaseGranted, 1)], returned), once, &[rule]);
        check(with(&[(LeaseGranted, 1), (LeaseReturned, 1)], returned), once, &[]);
        let twice = &[(LeaseGranted, 1), (LeaseReturned, 1), (LeaseExpired, 1)];
        check(with(twice, returned), once, &[rule]);
        check(with(&[(LeaseGranted, 1), (LeaseBorrowed, 1)], nothing), once, &[rule]);
        let fenced: fn(&mut Held) = |held| held.fence = fence_text(9);
        let told = "retry_gives_the_identical_answer";
        check(with(&[(LeaseGranted, 1)], fenced), once, &[told]);
    }

    #[test]
    fn a_lease_runs_out_neither_early_nor_after_a_whole_term_more() {
        let at = |at_ns: u64, terms: u64| {
            move |shared: &Shared| {
                with_leases(shared, [held(1, S, 3 * S)]);
                let mut seen = event(1, AuditKind::LeaseExpired, 1);
                (seen.at_ns, seen.led_ns, seen.terms) = (at_ns, at_ns, terms);
                seen.most_led_ns = at_ns;
                shared.history.borrow_mut().events.insert(1, seen);
                expired(shared, id(1), 1);
            }
        };
        let nothing: fn(&Shared) = |_| {};
        check(at(3 * S, 1), nothing, &[]);
        check(at(3 * S - 1, 1), nothing, &["never_expired_early"]);
        let most_ms = 2_000 + GIVEN_BACK_MS + SLACK_MS;
        let latest_ns = S + most_ms * 1_000_000;
        check(at(latest_ns, 1), nothing, &[]);
        check(at(latest_ns + 1_000_000, 1), nothing, &["never_reset_by_a_failover"]);
        check(at(latest_ns + 1_000_000, 2), nothing, &[]);
        // Somebody is asking for more time: what becomes of that is not known yet.
        let late = |shared: &Shared| {
            with_leases(shared, [Held { renewing: true, ..held(1, S, 3 * S) }]);
            let mut seen = event(1, AuditKind::LeaseExpired, 1);
            seen.at_ns = latest_ns + 1_000_000;
            (seen.led_ns, seen.most_led_ns) = (seen.at_ns, seen.at_ns);
            shared.history.borrow_mut().events.insert(1, seen);
            expired(shared, id(1), 1);
        };
        check(late, nothing, &[]);
    }

    #[test]
    fn an_offline_token_keeps_its_seat_to_its_end() {
        let at = |at_ns: u64, moved: bool| {
            move |shared: &Shared| {
                let until_ns = Some(5 * S);
                with_leases(shared, [Held { token_until_ns: until_ns, ..held(1, S, 2 * S) }]);
                let mut seen = event(1, AuditKind::LeaseExpired, 1);
                seen.at_ns = at_ns;
                let mut history = shared.history.borrow_mut();
                history.events.insert(1, seen);
                history.moved_walls.extend(moved.then_some((2 * S, 3 * S)));
                drop(history);
                a_borrowed_seat_is_out_until_its_token_ends(shared, id(1), 1);
            }
        };
        let nothing: fn(&Shared) = |_| {};
        let rule = "a_borrowed_seat_is_out_until_its_token_ends";
        check(at(5 * S - CIVIL_SLACK_NS, false), nothing, &[]);
        check(at(5 * S - CIVIL_SLACK_NS - 1, false), nothing, &[rule]);
        check(at(5 * S - CIVIL_SLACK_NS - 1, true), nothing, &[]);
    }

    #[test]
    fn a_lease_does_not_run_out_while_nobody_leads() {
        let at = |most_led_ns: u64, fast: bool| {
            move |shared: &Shared| {
                with_leases(shared, [held(1, S, 5 * S)]);
                let mut seen = event(1, AuditKind::LeaseExpired, 1);
                (seen.at_ns, seen.led_ns, seen.most_led_ns) = (9 * S, S, most_led_ns);
                let mut history = shared.history.borrow_mut();
                history.events.insert(1, seen);
                if fast {
                    history.fast_clocks.push((S, 2 * S, 200));
                }
                drop(history);
                expired(shared, id(1), 1);
            }
        };
        let nothing: fn(&Shared) = |_| {};
        let least_ns = 5 * S - LED_SLACK_NS;
        check(at(least_ns, false), nothing, &[]);
        check(at(least_ns - 1, false), nothing, &["time_without_a_quorum_does_not_count"]);
        check(at(least_ns - 1, true), nothing, &[]);
    }

    #[test]
    fn what_was_granted_and_did_not_end_is_out() {
        let with = |live: &'static [u8], sum: u8| {
            move |shared: &Shared| {
                let mut history = shared.history.borrow_mut();
                history.events.insert(1, event(1, AuditKind::LeaseGranted, 1));
                history.events.insert(2, event(2, AuditKind::LeaseGranted, 2));
                history.events.insert(3, event(3, AuditKind::LeaseExpired, 1));
                let live = live.iter().map(|number| id(*number)).collect();
                let read = FinalRead { seq: 3, index: 9, sum: [0; 32], live };
                let other = FinalRead { sum: [sum; 32], ..read.clone() };
                history.final_reads.extend([(1, read), (2, other)]);
            }
        };
        let rule = "seats_are_conserved";
        check(with(&[2], 0), seats_are_conserved, &[]);
        check(with(&[1, 2], 0), seats_are_conserved, &[rule, rule]);
        check(with(&[], 0), seats_are_conserved, &[rule, rule]);
        check(with(&[2], 0), replicas_are_equal, &[]);
        check(with(&[2], 1), replicas_are_equal, &["equal_state_sums_at_equal_index"]);
        // Nobody renews any more, so none may live.
        let late = ["expired_in_time_when_calm"];
        check(with(&[2], 0), expired_in_time_when_calm, &late);
        check(with(&[], 0), expired_in_time_when_calm, &[]);
    }
}
