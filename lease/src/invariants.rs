//! The rules of the ledger as checks: one function per rule, named as a sentence.
//!
//! Every tier of tests calls [`check_all`] after every command; a node calls [`check_loaded`]
//! when it has loaded its state. A violation is a bug or damage, never something a caller did.

mod licensing;
mod offline;
mod operate;
mod pools;

use std::collections::BTreeMap;

use crate::audit::{AuditHead, verify_chain};
use crate::command::SeatClass;
use crate::entry::Stamp;
use crate::ids::{Fence, Name};
use crate::ledger::Ledger;
use crate::requests::RequestRecord;

pub use licensing::{
    activations_in_force_hold_a_seat, every_face_takes_the_same_seats,
    guesses_stay_within_their_limits, leases_of_faces_belong_to_activations, plans_are_kept,
    what_hangs_on_licenses_is_there,
};
pub use offline::{
    borrowed_seats_stay_within_their_caps, every_hold_keeps_a_live_lease,
    no_seat_with_a_token_outstanding_is_free,
};
pub use operate::{
    at_most_one_authority_issues, no_node_id_is_given_twice,
    only_what_was_out_at_the_opening_exceeds_the_seats_kept, policies_are_of_applications,
    the_grace_is_of_this_epoch, what_is_said_of_nodes_is_of_members,
};
pub use pools::{no_pool_is_above_its_peak, rules_and_use_belong_to_pools};

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {what}")]
pub struct Violation {
    /// Name of the rule's function.
    pub rule: &'static str,
    /// What was found.
    pub what: String,
}

/// What must be remembered of a ledger to see that it only moves forward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    clock: Stamp,
    fence: Option<Fence>,
    audit: AuditHead,
    index: u64,
    refusals: u64,
    token_versions: u64,
    offline: offline::OfflineBefore,
    nodes: operate::NodesBefore,
}

impl Before {
    /// Remembers a ledger as it is.
    pub fn of(ledger: &Ledger) -> Self {
        Self {
            clock: ledger.clock(),
            fence: ledger.state.meta().last_fence,
            audit: ledger.audit_head(),
            index: ledger.applied_index(),
            refusals: ledger.state.refusals().values().sum(),
            token_versions: token_versions(ledger),
            offline: offline::OfflineBefore::of(ledger),
            nodes: operate::NodesBefore::of(ledger),
        }
    }
}

/// Every rule, for a ledger that was `before` and then applied entries or was loaded.
pub fn check_all(before: &Before, ledger: &Ledger) -> Result<(), Violation> {
    check_loaded(ledger)?;
    every_lease_is_indexed_once(ledger)?;
    leases_of_faces_belong_to_activations(ledger)?;
    every_face_takes_the_same_seats(ledger)?;
    a_request_id_made_at_most_one_lease(ledger)?;
    no_fence_is_held_twice(ledger)?;
    the_audit_chain_is_unbroken(ledger)?;
    fences_strictly_increase(before, ledger)?;
    clocks_never_go_back(before, ledger)?;
    token_versions_never_fall(before, ledger)?;
    no_seat_with_a_token_outstanding_is_free(before, ledger)?;
    borrowed_seats_stay_within_their_caps(before, ledger)?;
    no_node_id_is_given_twice(before, ledger)?;
    what_is_said_of_nodes_is_of_members(ledger)?;
    at_most_one_authority_issues(ledger)?;
    policies_are_of_applications(ledger)?;
    the_grace_is_of_this_epoch(ledger)?;
    only_what_was_out_at_the_opening_exceeds_the_seats_kept(ledger)?;
    refusals_are_counted(before, ledger)
}

/// The rules that cost little even with a million leases.
pub fn check_loaded(ledger: &Ledger) -> Result<(), Violation> {
    seats_out_never_exceed_what_was_bought(ledger)?;
    pools_share_exactly_the_seats_there_are(ledger)?;
    rules_and_use_belong_to_pools(ledger)?;
    no_pool_is_above_its_peak(ledger)?;
    what_is_due_is_found_in_time(ledger)?;
    every_hold_keeps_a_live_lease(ledger)?;
    activations_in_force_hold_a_seat(ledger)?;
    plans_are_kept(ledger)?;
    what_hangs_on_licenses_is_there(ledger)?;
    guesses_stay_within_their_limits(ledger)?;
    names_lead_to_exactly_one_row(ledger)
}

/// Seats out of a package never exceed its total, nor its commit and overage seats.
pub fn seats_out_never_exceed_what_was_bought(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "seats_out_never_exceed_what_was_bought";
    let civil_ms = ledger.clock().civil_ms;
    for package in ledger.state.packages() {
        let name = &package.terms().package;
        ensure(rule, package.total_in_use() <= package.terms().total, || {
            format!("{name}: {} of {}", package.total_in_use(), package.terms().total)
        })?;
        // A package that is over, or whose seats lapsed, awaits the sweep that ends its leases.
        let awaits = ledger.next_due().civil_ms.is_some_and(|at| at <= civil_ms);
        for class in [SeatClass::Commit, SeatClass::Overage] {
            let (out, bought) = (package.in_use(class), package.capacity(class, civil_ms));
            // A token never outlives the seats it came from, but its hold does, by the skew.
            ensure(rule, out <= bought.max(package.held_of(class)) || awaits, || {
                format!("{name}: {out} of {bought} {class:?} seats")
            })?;
        }
    }
    Ok(())
}

/// Named pools and unassigned seats add up to the total, and none is exceeded.
pub fn pools_share_exactly_the_seats_there_are(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "pools_share_exactly_the_seats_there_are";
    for package in ledger.state.packages() {
        let name = &package.terms().package;
        let shares: u64 = package.pools().values().map(|pool| u64::from(pool.share)).sum();
        ensure(rule, shares <= u64::from(package.terms().total), || {
            format!("{name}: pools share {shares} seats")
        })?;
        let unassigned = package.pool(None).unwrap_or_default();
        let in_pools: u64 = package.pools().values().map(|pool| u64::from(pool.in_use)).sum();
        let all = in_pools + u64::from(unassigned.in_use);
        ensure(rule, all == u64::from(package.total_in_use()), || {
            format!("{name}: {all} seats out of pools, {} in all", package.total_in_use())
        })?;
        let mut pools = package.pools().values().chain([&unassigned]);
        ensure(rule, pools.all(|pool| pool.in_use <= pool.share), || {
            format!("{name}: a pool has more seats out than its share")
        })?;
        ensure(rule, package.pools().values().all(|pool| pool.share > 0), || {
            format!("{name}: a pool without a share is kept")
        })?;
    }
    Ok(())
}

/// The orders of due times hold exactly the packages with live leases.
pub fn what_is_due_is_found_in_time(ledger: &Ledger) -> Result<(), Violation> {
    ensure("what_is_due_is_found_in_time", ledger.state.due_orders_are_right(), || {
        "an order of due times differs from the leases".to_owned()
    })
}

/// Client ids, operators' tokens, packages and people are indexed one to one.
pub fn names_lead_to_exactly_one_row(ledger: &Ledger) -> Result<(), Violation> {
    ensure("names_lead_to_exactly_one_row", ledger.state.names_are_indexed(), || {
        "an index of names differs from its table".to_owned()
    })
}

/// Every live lease is found by id, package and request, and seats in use are their sum.
pub fn every_lease_is_indexed_once(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "every_lease_is_indexed_once";
    ensure(rule, ledger.state.leases_are_indexed(), || "an index differs".to_owned())?;
    ensure(rule, ledger.requests.is_indexed(), || "an index of requests differs".to_owned())?;
    let mut seats: BTreeMap<(&Name, SeatClass), u32> = BTreeMap::new();
    for lease in ledger.state.leases_after(None) {
        let name = &ledger.state.at(lease.package()).terms().package;
        *seats.entry((name, lease.class())).or_default() += lease.quantity();
    }
    for package in ledger.state.packages() {
        for class in [SeatClass::Commit, SeatClass::Overage] {
            let name = &package.terms().package;
            let sum = seats.get(&(name, class)).copied().unwrap_or(0);
            ensure(rule, sum == package.in_use(class), || {
                format!(
                    "{name}: leases hold {sum} {class:?} seats, {} counted",
                    package.in_use(class)
                )
            })?;
        }
    }
    Ok(())
}

/// No two leases, live or lately ended, were made by one request.
pub fn a_request_id_made_at_most_one_lease(ledger: &Ledger) -> Result<(), Violation> {
    let mut made = BTreeMap::new();
    let live = ledger.state.leases_after(None);
    let live = live.filter_map(|lease| Some((lease.request()?.scope, lease.id())));
    let ended = ledger.requests.iter().filter_map(|record| match record {
        RequestRecord::Lease(ended) => Some((ended.checkout?.scope, ended.lease)),
        RequestRecord::Other(_) => None,
    });
    for (scope, lease) in live.chain(ended) {
        if let Some(other) = made.insert(scope, lease) {
            return Err(Violation {
                rule: "a_request_id_made_at_most_one_lease",
                what: format!("{other:?} and {lease:?}"),
            });
        }
    }
    Ok(())
}

/// Each live lease has a place of its own in the order of grants, none after the newest.
pub fn no_fence_is_held_twice(ledger: &Ledger) -> Result<(), Violation> {
    let rule = "no_fence_is_held_twice";
    let mut fences: Vec<Fence> =
        ledger.state.leases_after(None).map(|lease| lease.fence()).collect();
    fences.sort_unstable();
    ensure(rule, fences.windows(2).all(|pair| pair[0] != pair[1]), || {
        "two leases have one fence".to_owned()
    })?;
    ensure(rule, fences.last() <= ledger.state.meta().last_fence.as_ref(), || {
        "a lease has a fence after the newest".to_owned()
    })
}

/// The events that no checkpoint took yet follow from each other and end at the head.
pub fn the_audit_chain_is_unbroken(ledger: &Ledger) -> Result<(), Violation> {
    let broken = |what: String| Violation { rule: "the_audit_chain_is_unbroken", what };
    let events = ledger.audit_recent().map_err(|error| broken(error.to_string()))?;
    let Some(first) = events.first() else { return Ok(()) };
    let start = AuditHead { seq: first.seq - 1, hash: first.previous };
    let end = verify_chain(start, &events).map_err(|error| broken(error.to_string()))?;
    ensure("the_audit_chain_is_unbroken", end == ledger.audit_head(), || {
        format!("it ends at event {}, the head is {}", end.seq, ledger.audit_head().seq)
    })
}

/// The newest grant is never before an older one.
pub fn fences_strictly_increase(before: &Before, ledger: &Ledger) -> Result<(), Violation> {
    let now = ledger.state.meta().last_fence;
    ensure("fences_strictly_increase", now >= before.fence, || {
        format!("{:?} after {:?}", now, before.fence)
    })
}

/// Neither clock, nor the index, nor the audit chain goes back.
pub fn clocks_never_go_back(before: &Before, ledger: &Ledger) -> Result<(), Violation> {
    let clock = ledger.clock();
    let forward = clock.led_ms >= before.clock.led_ms
        && clock.civil_ms >= before.clock.civil_ms
        && ledger.applied_index() >= before.index
        && ledger.audit_head().seq >= before.audit.seq;
    ensure("clocks_never_go_back", forward, || format!("{clock:?} after {:?}", before.clock))
}

/// What was suspended, revoked or rotated once makes older tokens stale for ever.
pub fn token_versions_never_fall(before: &Before, ledger: &Ledger) -> Result<(), Violation> {
    let now = token_versions(ledger);
    ensure("token_versions_never_fall", now >= before.token_versions, || {
        format!("{now} after {}", before.token_versions)
    })
}

fn token_versions(ledger: &Ledger) -> u64 {
    ledger.licenses(None).map(|row| u64::from(row.token_version)).sum()
}

/// Counts of refusals never shrink.
pub fn refusals_are_counted(before: &Before, ledger: &Ledger) -> Result<(), Violation> {
    let now = ledger.state.refusals().values().sum::<u64>();
    ensure("refusals_are_counted", now >= before.refusals, || {
        format!("{now} after {}", before.refusals)
    })
}

fn ensure(rule: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}
