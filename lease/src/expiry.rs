//! Time passing: clocks, leases that are due, requests that are forgotten.
//!
//! A lease is due when the lease clock has reached its end, when the civil clock has passed its
//! own last millisecond, or when its package is over. While there is a hold on it, a lease is not
//! due unless its package is over: the hold goes first, when the civil clock has passed the end of
//! the newest token by the skew, and then the lease is due as any other. A due lease is treated as
//! ended by every verb; the sweep at the start of each entry ends up to a bounded number of them,
//! and a verb that touches one ends it on the spot. Seats that a package has only for a while are
//! handled likewise: when they lapse while in use, the newest grants of their class end first.

use crate::audit::{AuditDetail, AuditKind};
use crate::command::SeatClass;
use crate::entry::{Actor, EntryHeader, Stamp};
use crate::ids::{Fence, LeaseId, Name, RequestId, TraceId};
use crate::ledger::Ledger;
use crate::planted::{self, Bug};
use crate::record::{Event, Origin};
use crate::requests::{EndedLease, LeaseEnd, RequestRecord};
use crate::state::{Lease, Package};

/// Milliseconds of a minute.
pub(crate) const MINUTE_MS: i64 = 60 * 1000;

impl Ledger {
    /// Moves the clocks and forgets what is old.
    pub(crate) fn move_clocks(&mut self, index: u64, header: &EntryHeader) {
        let before = self.clock();
        let clock = Stamp {
            led_ms: before.led_ms.max(header.stamp.led_ms),
            civil_ms: before.civil_ms.max(header.stamp.civil_ms),
        };
        let meta = self.state.meta_mut();
        meta.applied_index = index;
        meta.clock = clock;
        let minute = clock.civil_ms.div_euclid(MINUTE_MS);
        if minute != meta.refusal_minute {
            meta.refusal_minute = minute;
            self.state.forget_logged_refusals();
            self.forget_reserved();
        }
        self.requests.forget(clock.led_ms);
        self.forget_guesses(clock.led_ms);
    }

    /// Whether a lease has ended although it has not been swept yet.
    pub(crate) fn is_due(&self, lease: &Lease) -> bool {
        let clock = self.clock();
        let ended = lease.expires_led_ms() <= clock.led_ms
            || lease.not_after_ms().is_some_and(|end| clock.civil_ms > end);
        (ended && !self.is_kept(lease)) || self.state.at(lease.package()).is_over(clock.civil_ms)
    }

    /// Whether an offline token may be outstanding for a lease: some clock within the skew shows a
    /// time at which it is good.
    pub(crate) fn is_kept(&self, lease: &Lease) -> bool {
        let civil_ms = self.clock().civil_ms;
        lease.is_held()
            && self.state.hold(lease.id()).is_some_and(|hold| civil_ms < hold.free_at_ms())
    }

    /// Ends a lease if it is due; whether it is live still.
    pub(crate) fn settle_lease(&mut self, origin: &Origin, lease: LeaseId) -> bool {
        let Some(live) = self.state.lease(lease) else { return false };
        if !self.is_due(live) {
            return true;
        }
        self.end_due(origin, lease);
        false
    }

    /// Takes holds away that are over, and ends due leases of a package, until `enough` or none is
    /// due; for one command no more than a sweep may for an entry. What then is due still is swept
    /// by the next entries, and its seats are free after that.
    pub(crate) fn settle_package(
        &mut self,
        origin: &Origin,
        slot: u32,
        enough: impl Fn(&Package) -> bool,
    ) {
        for _ in 0..self.limits.expiries_per_entry {
            if enough(self.state.at(slot)) {
                return;
            }
            if self.let_go_first(slot) {
                continue;
            }
            match self.state.at(slot).first_to_end() {
                Some((at, lease)) if at <= self.clock().led_ms => self.end_due(origin, lease),
                _ => return,
            }
        }
    }

    /// Takes away the hold of a package that is over first, if any is; its lease may be due then.
    pub(crate) fn let_go_first(&mut self, slot: u32) -> bool {
        match self.state.at(slot).first_hold() {
            Some((at, lease))
                if at <= self.clock().civil_ms || planted::is(Bug::BorrowFreedEarly) =>
            {
                self.state.remove_hold(lease);
                true
            }
            _ => false,
        }
    }

    /// Ends what is due.
    pub(crate) fn sweep(&mut self, origin: &Origin) {
        let mut budget = self.limits.expiries_per_entry;
        let clock = self.clock();
        for name in self.state.civil_due_by(clock.civil_ms) {
            self.sweep_package(origin, &name, &mut budget);
        }
        while let Some((at, lease)) = self.state.first_not_after() {
            if at >= clock.civil_ms || budget == 0 {
                break;
            }
            budget -= 1;
            self.end_due(origin, lease);
        }
        while let Some((at, name)) = self.state.first_led_due() {
            if at > clock.led_ms || budget == 0 {
                break;
            }
            budget -= 1;
            let slot = self.state.slot(name);
            let first = slot.and_then(|slot| self.state.at(slot).first_to_end());
            let Some((_, lease)) = first else { break };
            self.end_due(origin, lease);
        }
        self.sweep_licenses(origin, &mut budget);
    }

    /// A package that is over loses all leases; one that is not, holds that are over, and when it
    /// is overdrawn its newest leases without a hold.
    fn sweep_package(&mut self, origin: &Origin, name: &Name, budget: &mut usize) {
        let Some(slot) = self.state.slot(name) else { return };
        let civil_ms = self.clock().civil_ms;
        if self.state.at(slot).is_over(civil_ms) {
            loop {
                let next = self.state.at(slot).leases().next();
                let Some(lease) = next.filter(|_| *budget > 0) else { break };
                *budget -= 1;
                self.end_due(origin, lease);
            }
        }
        while *budget > 0 && self.let_go_first(slot) {
            *budget -= 1;
        }
        // What ends by itself now is not missing: only then are there more seats out than bought.
        while let Some((at, lease)) = self.state.at(slot).first_to_end() {
            if at > self.clock().led_ms || *budget == 0 {
                break;
            }
            *budget -= 1;
            self.end_due(origin, lease);
        }
        while let Some(class) = self.state.at(slot).overdrawn(civil_ms) {
            let newest = self.newest_of(slot, class);
            if newest.is_empty() || *budget == 0 {
                break;
            }
            for (_, lease) in newest {
                let package = self.state.at(slot);
                if *budget == 0 || package.in_use(class) <= package.capacity(class, civil_ms) {
                    break;
                }
                *budget -= 1;
                self.end_lease(origin, lease, LeaseEnd::WithSeats, None);
            }
        }
        self.state.reindex_package(name);
    }

    /// A package's leases of one class without a hold, newest grant first. Walks all of them: seats
    /// lapse rarely.
    fn newest_of(&self, slot: u32, class: SeatClass) -> Vec<(Fence, LeaseId)> {
        let leases = self.state.at(slot).leases().filter_map(|id| self.state.lease(id));
        let of_class = leases.filter(|lease| lease.class() == class && !lease.is_held());
        let mut newest: Vec<_> = of_class.map(|lease| (lease.fence(), lease.id())).collect();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        newest
    }

    fn end_due(&mut self, origin: &Origin, id: LeaseId) {
        let civil_ms = self.clock().civil_ms;
        let over = |lease: &Lease| self.state.at(lease.package()).is_over(civil_ms);
        let end = match self.state.lease(id) {
            Some(lease) if over(lease) => LeaseEnd::WithPackage,
            _ => LeaseEnd::Expired,
        };
        self.end_lease(origin, id, end, None);
    }

    /// Ends a live lease: frees its seats, counts, remembers, writes the audit event.
    pub(crate) fn end_lease(
        &mut self,
        origin: &Origin,
        id: LeaseId,
        end: LeaseEnd,
        reason: Option<&str>,
    ) {
        let Some(lease) = self.state.remove_lease(id) else { return };
        let clock = self.clock();
        let slot = lease.package();
        let package = self.state.at(slot).terms().package.clone();
        let usage = self.state.usage_mut(slot);
        let (count, kind) = match end {
            LeaseEnd::Returned { .. } => (&mut usage.returned, AuditKind::LeaseReturned),
            LeaseEnd::Expired => (&mut usage.expired, AuditKind::LeaseExpired),
            LeaseEnd::Released => (&mut usage.released, AuditKind::LeaseReleased),
            LeaseEnd::WithPackage => (&mut usage.released, AuditKind::LeaseEndedWithPackage),
            LeaseEnd::WithSeats => (&mut usage.released, AuditKind::LeaseEndedWithSeats),
            LeaseEnd::WrittenOff => (&mut usage.released, AuditKind::LeaseWrittenOff),
        };
        *count = count.saturating_add(1);
        let (class, quantity) = (lease.class(), lease.quantity());
        let detail = match reason {
            Some(reason) => AuditDetail::Release { class, quantity, reason: reason.into() },
            None => {
                let duration_ms = self.held_ms(&lease);
                AuditDetail::End { class, quantity, duration_ms }
            }
        };
        self.record(origin, Event::of_lease(kind, &package, &lease, detail));
        self.seat_ended(origin, id);
        self.requests.push(RequestRecord::Lease(EndedLease {
            lease: id,
            app: lease.app(),
            package,
            checkout: lease.request(),
            end,
            ended_led_ms: clock.led_ms,
        }));
    }

    /// Civil milliseconds since a lease was granted.
    pub(crate) fn held_ms(&self, lease: &Lease) -> u64 {
        let held = self.clock().civil_ms.saturating_sub(lease.granted_at_ms());
        u64::try_from(held).unwrap_or(0)
    }

    /// How a lease ends when its holder gives it back now.
    pub(crate) fn returned(&self, lease: &Lease, request: Option<RequestId>) -> LeaseEnd {
        let package = self.state.at(lease.package());
        let cost = package.cost(lease.class(), lease.quantity());
        LeaseEnd::Returned {
            total_cost: cost.unwrap_or_default(),
            duration_ms: self.held_ms(lease),
            request,
        }
    }
}

impl Origin {
    /// Time itself, as stamped by a node.
    pub(crate) fn time(node: crate::ids::NodeId) -> Self {
        Self { actor: Actor::Node(node), trace: TraceId::default(), cause: None }
    }
}
