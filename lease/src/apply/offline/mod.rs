//! Offline use of leases: what may be signed, and for how long a seat is held for it.
//!
//! A *hold* says until when some device may believe that a lease is its own without asking. A token
//! is good at most to the end of its hold; the hold keeps the seat until the civil clock has passed
//! that end by the package's skew, so a device whose clock is off by no more never believes in a
//! seat that is free. The end of a hold never moves towards the present while a token may be out,
//! save when its holder says that it gave the token up ([`ReturnBorrow`], `Return`) or an operator
//! writes the device off. No token outlives its package, its lease's own end, or the seats that its
//! class has now; while more seats of a class are out than there are, because some have lapsed, no
//! hold of that class begins or moves, so that those too many end with the tokens they have.
//!
//! [`ReturnBorrow`]: Command::ReturnBorrow

mod borrow;
mod budget;
mod classic;

pub(crate) use borrow::BorrowCaps;

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::command::{Command, ImportPackage, PackageTerms};
use crate::ids::{LeaseId, Name, SubjectRef};
use crate::ledger::Ledger;
use crate::offline::{
    HoldRow, ImportEntitlement, OfflineProof, OfflineTerms, RenewedOffline, WriteOff,
};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Origin;
use crate::requests::LeaseEnd;
use crate::state::Lease;

impl Ledger {
    /// One of the commands about offline use and the classic face that are remembered by their
    /// request id.
    pub(super) fn perform_offline(&mut self, context: &Context, command: &Command) -> Decision {
        match command {
            Command::ImportEntitlement(import) => self.import_entitlement(context, import),
            Command::WriteOff(write_off) => self.write_off(context, write_off),
            Command::SetBorrowRules(set) => self.set_borrow_rules(context, set),
            Command::AddApiKey(key) => self.add_api_key(context, key),
            Command::RemoveApiKey { key } => self.remove_api_key(context, *key),
            Command::SetBudget(set) => self.set_budget(context, set),
            _ => unreachable!("decided elsewhere"),
        }
    }

    fn import_entitlement(&mut self, context: &Context, it: &ImportEntitlement) -> Decision {
        let ImportEntitlement { import, offline } = it;
        let outcome = self.import_package(context, import)?;
        let fresh = outcome == Outcome::Imported { already: false };
        if fresh && *offline != OfflineTerms::default() {
            let ImportPackage { terms: PackageTerms { package, .. }, .. } = import;
            self.state.put_offline_terms(package, offline.clone());
        }
        Ok(outcome)
    }

    fn write_off(&mut self, context: &Context, write_off: &WriteOff) -> Decision {
        let WriteOff { lease, reason } = write_off;
        within(is_text(reason))?;
        if !self.settle_lease(&context.time, *lease) {
            return refuse(RefusalCode::AlreadyEnded);
        }
        self.end_lease(&context.origin, *lease, LeaseEnd::WrittenOff, Some(reason));
        Ok(Outcome::Done)
    }

    /// Refuses what would free a seat for which a token may be outstanding.
    pub(super) fn has_no_token_out(&self, id: LeaseId) -> Result<(), Refusal> {
        let hold = self.state.lease(id).filter(|lease| self.is_kept(lease));
        match hold.and_then(|lease| self.state.hold(lease.id())) {
            None => Ok(()),
            Some(hold) => Err(Refusal {
                available_at_ms: Some(hold.free_at_ms()),
                ..Refusal::new(RefusalCode::OfflineTokenOutstanding)
            }),
        }
    }

    /// Ends a lease as soon as no token of it can be outstanding: now, or with its hold.
    pub(crate) fn lapse(&mut self, origin: &Origin, id: LeaseId) {
        match self.state.lease(id) {
            Some(lease) if self.is_kept(lease) => {
                self.state.end_lease_at(id, self.clock().led_ms);
            }
            Some(_) => self.end_lease(origin, id, LeaseEnd::Released, None),
            None => {}
        }
    }

    /// Holds a lease for a token that is good until `until_ms`, and says what may be signed. The
    /// token may be good for less (the package, its seats or the lease end before) or for more (an
    /// earlier one is). `None`: the package allows no tokens, none would be good now, or more seats
    /// of the class are out than there are.
    pub(crate) fn hold_for(
        &mut self,
        id: LeaseId,
        until_ms: i64,
        borrowed: bool,
    ) -> Option<OfflineProof> {
        let lease = self.state.lease(id)?;
        let package = self.state.at(lease.package());
        let terms = package.terms();
        let tokens = self.state.offline().terms(&terms.package).is_some_and(|terms| terms.tokens);
        let ends_ms = until_ms.min(self.last_token_ms(lease));
        let civil_ms = self.clock().civil_ms;
        let overdrawn = package.is_overdrawn(lease.class(), civil_ms);
        if !(tokens || borrowed) || ends_ms < civil_ms || overdrawn {
            return None;
        }
        let before = self.state.hold(id);
        // A borrow that the ordinary term outlasts is one no longer.
        let still_borrowed = before.is_some_and(|hold| hold.borrowed && hold.ends_ms >= ends_ms);
        let hold = HoldRow {
            lease: id,
            ends_ms: before.map_or(ends_ms, |hold| hold.ends_ms.max(ends_ms)),
            skew_ms: terms.policy.offline_skew_ms,
            version: before.map_or(0, |hold| hold.version).saturating_add(1),
            borrowed: borrowed || still_borrowed,
        };
        self.state.put_hold(hold);
        self.proof(self.state.lease(id)?)
    }

    /// Holds a lease that was renewed for one term of the package, where that allows tokens. What
    /// is left of the lease may be more: that is a borrow, which a renewal does not lengthen.
    pub(super) fn hold_renewed(&mut self, id: LeaseId, slot: u32) {
        let terms = self.state.at(slot).terms();
        if self.state.offline().terms(&terms.package).is_some_and(|terms| terms.tokens) {
            let ttl_ms = i64::from(terms.policy.lease_ttl_ms);
            let until_ms = self.clock().civil_ms.saturating_add(ttl_ms);
            self.hold_for(id, until_ms, false);
        }
    }

    /// The answer that a lease is renewed or borrowed, while a token of it is good.
    pub(super) fn renewed_offline(&self, lease: &Lease) -> Option<RenewedOffline> {
        let proof = self.proof(lease)?;
        let (expires_in_ms, expires_at_ms) = self.remaining(lease);
        let policy = &self.state.at(lease.package()).terms().policy;
        Some(RenewedOffline {
            expires_in_ms,
            expires_at_ms,
            heartbeat_interval_ms: policy.heartbeat_interval_ms,
            sequence: lease.sequence(),
            proof,
        })
    }

    /// Last civil millisecond at which a token of a lease may be good.
    pub(in crate::apply) fn last_token_ms(&self, lease: &Lease) -> i64 {
        let package = self.state.at(lease.package());
        let last = package.seats_last_until_ms(lease.class(), self.clock().civil_ms);
        lease.not_after_ms().map_or(last, |own| own.min(last))
    }

    /// What may be signed for a lease as it is held.
    fn proof(&self, lease: &Lease) -> Option<OfflineProof> {
        if !lease.is_held() {
            return None;
        }
        let civil_ms = self.clock().civil_ms;
        let hold = self.state.hold(lease.id()).filter(|hold| hold.ends_ms >= civil_ms)?;
        let terms = self.state.at(lease.package()).terms();
        Some(OfflineProof {
            lease: lease.id(),
            package: terms.package.clone(),
            product: terms.product.clone(),
            class: lease.class(),
            quantity: lease.quantity(),
            features: lease.features().to_vec(),
            user: self.name_of(lease.user()),
            host: self.name_of(lease.host()),
            fence: lease.fence(),
            version: hold.version,
            issued_ms: civil_ms,
            ends_ms: hold.ends_ms,
            skew_ms: hold.skew_ms,
            borrowed: hold.borrowed,
        })
    }

    /// The name behind a reference; empty when nobody is named or the name is not kept.
    fn name_of(&self, subject: SubjectRef) -> Box<str> {
        self.state.subjects().get(&subject).map_or_else(Box::default, |row| (&*row.name).into())
    }

    /// The package of a command about offline use, for the count of refusals.
    pub(super) fn package_of_offline(&self, command: &Command) -> Option<Name> {
        match command {
            Command::ImportEntitlement(it) => Some(it.import.terms.package.clone()),
            Command::SetBorrowRules(set) => Some(set.package.clone()),
            Command::SetBudget(set) => Some(set.package.clone()),
            Command::ClassicCheckout(checkout) => Some(checkout.package.clone()),
            _ => None,
        }
    }
}
