//! The rules of offline use as checks.

use std::collections::BTreeMap;

use crate::apply::BorrowCaps;
use crate::ids::{LeaseId, Name};
use crate::invariants::{Before, Violation, ensure};
use crate::ledger::Ledger;
use crate::offline::HoldRow;
use crate::requests::LeaseEnd;

/// What must be remembered of offline use to see how it moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OfflineBefore {
    holds: BTreeMap<LeaseId, (Name, HoldRow)>,
    /// By package: seats that were borrowed, and what borrowing came to.
    borrowed: BTreeMap<Name, (u32, BorrowCaps)>,
}

impl OfflineBefore {
    pub(super) fn of(ledger: &Ledger) -> Self {
        let state = &ledger.state;
        let holds = state.offline().holds().values().filter_map(|hold| {
            let lease = state.lease(hold.lease)?;
            Some((hold.lease, (state.at(lease.package()).terms().package.clone(), *hold)))
        });
        let borrowed = state.packages().map(|package| {
            let name = &package.terms().package;
            (name.clone(), (package.borrowed_seats(), ledger.borrow_caps(name)))
        });
        Self { holds: holds.collect(), borrowed: borrowed.collect() }
    }
}

/// Every hold has a live lease that knows of it, and packages count what is held and borrowed.
pub fn every_hold_keeps_a_live_lease(ledger: &Ledger) -> Result<(), Violation> {
    ensure("every_hold_keeps_a_live_lease", ledger.state.holds_are_indexed(), || {
        "an order or a count of holds differs from the holds".to_owned()
    })
}

/// A seat for which some device may hold a token that it believes in is not free, unless its holder
/// gave it up, an operator wrote it off, or its package is over; and its hold ends no sooner.
pub fn no_seat_with_a_token_outstanding_is_free(
    before: &Before,
    ledger: &Ledger,
) -> Result<(), Violation> {
    let rule = "no_seat_with_a_token_outstanding_is_free";
    let civil_ms = ledger.clock().civil_ms;
    for (id, (package, hold)) in &before.offline.holds {
        let slot = ledger.state.slot(package);
        let over = slot.is_none_or(|slot| ledger.state.at(slot).is_over(civil_ms));
        if over || hold.free_at_ms() <= civil_ms {
            continue;
        }
        if ledger.state.lease(*id).is_none() {
            let end = ledger.requests.ended(*id).map(|ended| ended.end);
            // A borrow that was given back early left an ordinary lease, which lasts a term.
            let led_ms = ledger.clock().led_ms - before.clock.led_ms;
            let may_be_home = hold.borrowed
                && slot.is_some_and(|slot| {
                    led_ms >= u64::from(ledger.state.at(slot).terms().policy.lease_ttl_ms)
                });
            let given_up = end.is_none_or(|end| match end {
                LeaseEnd::Returned { .. } | LeaseEnd::WrittenOff => true,
                LeaseEnd::Expired => may_be_home,
                _ => false,
            });
            ensure(rule, given_up, || format!("{id:?} ended: {end:?}"))?;
            continue;
        }
        let now = ledger.state.hold(*id);
        let kept = now.is_some_and(|now| now.ends_ms >= hold.ends_ms);
        let borrow_returned = hold.borrowed && now.is_none_or(|now| !now.borrowed);
        ensure(rule, kept || borrow_returned, || format!("{now:?} after {hold:?}"))?;
    }
    Ok(())
}

/// When more seats of a package were borrowed, no more are than it and its rules allow.
pub fn borrowed_seats_stay_within_their_caps(
    before: &Before,
    ledger: &Ledger,
) -> Result<(), Violation> {
    for package in ledger.state.packages() {
        let name = &package.terms().package;
        let (borrowed, caps) = (package.borrowed_seats(), ledger.borrow_caps(name));
        let Some((earlier, of_then)) = before.offline.borrowed.get(name) else { continue };
        if borrowed <= *earlier || caps != *of_then {
            continue;
        }
        let allowed = caps.allow(package, ledger.clock().civil_ms, borrowed);
        ensure("borrowed_seats_stay_within_their_caps", allowed.is_ok(), || {
            format!("{name}: {borrowed} borrowed, {caps:?}")
        })?;
    }
    Ok(())
}
