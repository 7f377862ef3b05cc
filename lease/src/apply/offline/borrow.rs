//! Borrowing a seat for a while, giving the borrow back early, and who may.
//!
//! Where a package does not rotate renewal tokens, giving a borrow back makes the next sequence all
//! the same: so a repeated return is told from a lease that was never borrowed, and a duplicate of
//! the earlier borrow that arrives late does not borrow again. Earlier tokens stay good for
//! renewals, and after [`PREVIOUS_TOKEN_MS`] for borrowing too.

use crate::apply::renew::{Shown, is_renewable};
use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::format;
use crate::ids::LeaseId;
use crate::ledger::Ledger;
use crate::limits::{MAX_BORROW_PARTIES, MAX_BORROW_RULES_BYTES, PREVIOUS_TOKEN_MS};
use crate::offline::{
    Borrow, BorrowParty, BorrowRules, HoldRow, OfflineTerms, ReturnBorrow, SetBorrowRules,
};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;
use crate::state::{Lease, Package};

/// What borrowing from a package comes to: its own terms, narrowed by an operator's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BorrowCaps {
    /// Longest borrow; 0: none.
    pub(crate) max_ms: u64,
    /// Seats at once.
    pub(crate) seats_max: u32,
    /// Seats left for online users.
    pub(crate) online_reserve: u32,
}

impl BorrowCaps {
    fn of(terms: &OfflineTerms, rules: Option<&BorrowRules>) -> Self {
        let unbounded = BorrowRules::default();
        let rules = rules.unwrap_or(&unbounded);
        let least = |one: Option<u32>, other: Option<u32>| {
            one.unwrap_or(u32::MAX).min(other.unwrap_or(u32::MAX))
        };
        Self {
            max_ms: rules.max_ms.map_or(terms.borrow_max_ms, |max| max.min(terms.borrow_max_ms)),
            seats_max: least(terms.borrow_seats_max, rules.seats_max),
            online_reserve: terms.online_reserve.max(rules.online_reserve),
        }
    }

    /// Whether a package may have so many seats borrowed at this civil time.
    pub(crate) fn allow(
        &self,
        package: &Package,
        civil_ms: i64,
        borrowed: u32,
    ) -> Result<(), RefusalCode> {
        if borrowed > self.seats_max {
            Err(RefusalCode::BorrowLimitReached)
        } else if package.seats_now(civil_ms).saturating_sub(borrowed) < self.online_reserve {
            Err(RefusalCode::OnlineReserve)
        } else {
            Ok(())
        }
    }
}

impl Ledger {
    /// What borrowing from a package comes to now.
    pub(crate) fn borrow_caps(&self, package: &str) -> BorrowCaps {
        let none = OfflineTerms::default();
        let offline = self.state.offline();
        BorrowCaps::of(offline.terms(package).unwrap_or(&none), offline.rules(package))
    }

    pub(in crate::apply) fn borrow(&mut self, context: &Context, borrow: &Borrow) -> Decision {
        let Borrow { lease: id, sequence, duration_ms } = *borrow;
        let app = self.credentials(context)?.app;
        self.is_holder(context, app, id)?;
        let lease = self.live(id)?;
        let slot = lease.package();
        is_renewable(self.state.at(slot))?;
        let next = self.next_sequence(lease);
        let borrowed = self.state.hold(id).is_some_and(|hold| hold.borrowed);
        let late = !borrowed && self.was_renewed_just_now(lease) && sequence < lease.sequence();
        match self.judge_sequence(lease, sequence) {
            Some(Shown::Current) if late => return Err(self.replayed(context, id, sequence)),
            Some(Shown::Current) => {}
            // Only a borrow has an answer that could be given again.
            Some(Shown::Before) if borrowed => return self.borrowed(id),
            Some(Shown::Before) | None => return Err(self.replayed(context, id, sequence)),
        }
        self.has_space()?;
        // A hold that is over and not let go of counts against the caps until the next entry.
        for _ in 0..self.limits.expiries_per_entry {
            if !self.let_go_first(slot) {
                break;
            }
        }
        let ends_ms = self.may_borrow(self.live(id)?, duration_ms)?;
        self.extend(id, slot, next, duration_ms);
        let proof = self.hold_for(id, ends_ms, true);
        let ends_ms = proof.map_or(ends_ms, |proof| proof.ends_ms);
        let lease = self.live(id)?;
        let detail = AuditDetail::Borrow { ends_ms, quantity: lease.quantity() };
        let name = &self.state.at(slot).terms().package;
        let event = Event::of_lease(AuditKind::LeaseBorrowed, name, lease, detail);
        self.record(&context.origin, event);
        self.borrowed(id)
    }

    pub(in crate::apply) fn return_borrow(
        &mut self,
        context: &Context,
        give_back: &ReturnBorrow,
    ) -> Decision {
        let ReturnBorrow { lease: id, sequence } = *give_back;
        let app = self.credentials(context)?.app;
        self.is_holder(context, app, id)?;
        let lease = self.live(id)?;
        let slot = lease.package();
        is_renewable(self.state.at(slot))?;
        let hold = self.state.hold(id).copied().filter(|hold| hold.borrowed);
        let repeated = sequence < lease.sequence();
        match (self.judge_sequence(lease, sequence), hold) {
            (None, _) => return Err(self.replayed(context, id, sequence)),
            (Some(Shown::Current), None) if repeated => {}
            (Some(Shown::Current), None) => return refuse(RefusalCode::NotBorrowed),
            (Some(Shown::Current), Some(hold)) => self.end_borrow(context, slot, hold)?,
            (Some(Shown::Before), None) => {}
            // What came before was no end of a borrow.
            (Some(Shown::Before), Some(_)) => return Err(self.replayed(context, id, sequence)),
        }
        Ok(Outcome::Renewed(vec![self.renewed(id)?]))
    }

    /// The holder has given its token up: the lease is renewed as if it had never been borrowed.
    fn end_borrow(&mut self, context: &Context, slot: u32, hold: HoldRow) -> Result<(), Refusal> {
        let id = hold.lease;
        let next = self.live(id)?.sequence().saturating_add(1);
        // The next token goes on counting where this one's version stood.
        self.state.put_hold(HoldRow { ends_ms: i64::MIN, borrowed: false, ..hold });
        self.state.end_lease_at(id, self.clock().led_ms);
        self.extend(id, slot, next, 0);
        self.hold_renewed(id, slot);
        if self.state.hold(id).is_some_and(|hold| hold.ends_ms == i64::MIN) {
            self.state.remove_hold(id);
        }
        let lease = self.live(id)?;
        let detail = AuditDetail::Borrow { ends_ms: hold.ends_ms, quantity: lease.quantity() };
        let name = &self.state.at(slot).terms().package;
        let event = Event::of_lease(AuditKind::BorrowReturned, name, lease, detail);
        self.record(&context.origin, event);
        Ok(())
    }

    pub(super) fn set_borrow_rules(&mut self, context: &Context, set: &SetBorrowRules) -> Decision {
        let rules = &set.rules;
        let slot = self.package_slot(&set.package)?;
        let named = |parties: &[BorrowParty]| {
            parties.len() <= MAX_BORROW_PARTIES
                && parties.iter().all(|party| {
                    let (BorrowParty::User(name) | BorrowParty::Host(name)) = party;
                    !name.is_empty() && is_text(name)
                })
        };
        within(named(&rules.include) && named(&rules.exclude))?;
        within(format::encode_body(rules).len() <= MAX_BORROW_RULES_BYTES)?;
        let package = self.state.at(slot).terms().package.clone();
        let present = self.state.offline().rules(&package);
        if present.unwrap_or(&BorrowRules::default()) == rules {
            return Ok(Outcome::Unchanged);
        }
        let kept = (*rules != BorrowRules::default()).then(|| rules.clone());
        self.state.put_borrow_rules(&package, kept);
        let BorrowRules { max_ms, seats_max, online_reserve, .. } = *rules;
        let detail = AuditDetail::BorrowRules { max_ms, seats_max, online_reserve };
        let event = Event::of_package(AuditKind::BorrowRulesSet, &package, detail);
        self.record(&context.origin, event);
        Ok(Outcome::Done)
    }

    /// The last civil millisecond of a borrow from now, if the package and its rules allow it.
    fn may_borrow(&self, lease: &Lease, duration_ms: u64) -> Result<i64, Refusal> {
        let package = self.state.at(lease.package());
        let name = &package.terms().package;
        let caps = self.borrow_caps(name);
        let no = |code| Err(Refusal::new(code));
        if self.state.offline().terms(name).is_none_or(|terms| terms.borrow_max_ms == 0) {
            return no(RefusalCode::OfflineNotAllowed);
        }
        within(duration_ms > 0)?;
        if !self.is_included(lease) {
            return no(RefusalCode::BorrowExcluded);
        }
        let duration = i64::try_from(duration_ms).unwrap_or(i64::MAX);
        let civil_ms = self.clock().civil_ms;
        if package.is_overdrawn(lease.class(), civil_ms) {
            return no(RefusalCode::BorrowLimitReached);
        }
        let ends_ms = civil_ms.saturating_add(duration);
        if duration_ms > caps.max_ms || ends_ms > self.last_token_ms(lease) {
            return no(RefusalCode::BorrowTooLong);
        }
        let already = self.state.hold(lease.id()).is_some_and(|hold| hold.borrowed);
        let others = package.borrowed_seats() - if already { lease.quantity() } else { 0 };
        let borrowed = others.saturating_add(lease.quantity());
        // Seats kept for borrows that are not known are as good as borrowed.
        let kept = borrowed.saturating_add(package.reserved(civil_ms));
        caps.allow(package, civil_ms, kept).map_err(|code| {
            let else_allowed = caps.allow(package, civil_ms, borrowed).is_ok();
            let until = package.reserved_until(civil_ms).filter(|_| else_allowed);
            Refusal { available_at_ms: until, ..Refusal::new(code) }
        })?;
        Ok(ends_ms)
    }

    /// Whether a lease's renewal token gave way within the time in which answers get lost.
    fn was_renewed_just_now(&self, lease: &Lease) -> bool {
        self.clock().led_ms.saturating_sub(lease.renewed_led_ms()) <= PREVIOUS_TOKEN_MS
    }

    /// Whether the operator's rules let a lease's user and host borrow. Letters beyond ASCII are
    /// compared as they are: how they fold depends on tables that change with the toolchain, and
    /// replicas of two releases must decide alike.
    fn is_included(&self, lease: &Lease) -> bool {
        let name = &self.state.at(lease.package()).terms().package;
        let Some(rules) = self.state.offline().rules(name) else { return true };
        let user = self.name_of(lease.user());
        let host = self.name_of(lease.host());
        let named = |party: &BorrowParty| match party {
            BorrowParty::User(name) => name.eq_ignore_ascii_case(&user),
            BorrowParty::Host(name) => name.eq_ignore_ascii_case(&host),
        };
        (rules.include.is_empty() || rules.include.iter().any(named))
            && !rules.exclude.iter().any(named)
    }

    fn borrowed(&self, id: LeaseId) -> Decision {
        match self.renewed_offline(self.live(id)?) {
            Some(renewed) => Ok(Outcome::Borrowed(Box::new(renewed))),
            None => refuse(RefusalCode::NotBorrowed),
        }
    }

    fn live(&self, id: LeaseId) -> Result<&Lease, Refusal> {
        self.state.lease(id).ok_or(Refusal::new(RefusalCode::LeaseEnded))
    }
}
