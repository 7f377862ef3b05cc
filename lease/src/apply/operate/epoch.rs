//! A new epoch: what a restored or recovered state forgets, and what it must not give away.
//!
//! A state that comes from a backup does not know what was granted, renewed or borrowed after it.
//! So nothing that somebody may still hold is given to anybody else:
//!
//! * what is live keeps its seat for a full term from here on, however late in its term it stood,
//!   and at least until the grace is over: its holder may have renewed or borrowed since;
//! * nobody gets a new seat before the grace is over, which is as long as the longest term of a
//!   lease, as the longest offline token where there are some, and as the longest that some
//!   activation works without asking (an hour of it at most); holders of leases that the state does
//!   not know come back meanwhile (`reclaim`);
//! * seats that could have been borrowed are kept until the last such borrow would end.
//!
//! Both hold for a state that a survivor goes on from: what the lost majority answered alone is as
//! unknown as what came after a backup. What it cannot cover: activations that the state does not
//! know and that last until they are given back, or that go on for more than an hour without
//! asking.
//!
//! ```text
//! led   opened ────────────── until_led_ms
//!          │ renewals, returns, reclaims │ everything
//! civil opened ──────────────────────────────────── until_ms of each package
//!          │ seats kept for borrows that are not known     │ free
//! ```
//!
//! Tokens of the former epoch end with its signing keys. The request table stays: what was asked
//! before the backup is answered as it was.

use std::collections::BTreeSet;

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::{Policy, WrappedDataKey};
use crate::ids::{LeaseId, Name, NodeId};
use crate::ledger::Ledger;
use crate::license::Plan;
use crate::limits::{MAX_ACTIVATION_GRACE_MS, MAX_MEMBERS, MAX_WRAPPED_BYTES, MIN_GRACE_MS};
use crate::offline::HoldRow;
use crate::operate::{FormerEpoch, GraceRow, OpenEpoch, ReservedRow};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::ClusterIdentity;
use crate::state::Package;

impl Ledger {
    /// The stamp's civil clock is the wall clock of whoever restores, its lease clock the state's.
    pub(super) fn open_epoch(&mut self, context: &Context, open: &OpenEpoch) -> Decision {
        let Some(former) = self.cluster().cloned() else {
            return refuse(RefusalCode::ClusterNotInitialised);
        };
        // Not only the next: the state may be from before epochs that began from it already.
        if open.epoch <= former.epoch || open.incarnation == former.incarnation {
            return refuse(RefusalCode::VersionConflict);
        }
        let node = open.member.node;
        let Some(next) = self.next_node_id().filter(|next| node >= *next) else {
            return refuse(RefusalCode::NodeIdTaken);
        };
        let member = &open.member;
        let texts = [&member.peer_address, &member.gateway_url, &member.region, &member.zone];
        // Some ids may have been given out since the state was saved, but not all there are.
        let is_near = node - next < MAX_MEMBERS as NodeId;
        within(is_near && texts.into_iter().all(|text| is_text(text)))?;
        self.has_every_data_key(node, &open.wraps)?;
        self.dismiss_all(context, open.epoch);
        let meta = self.state.meta_mut();
        let (epoch, incarnation) = (open.epoch, open.incarnation);
        meta.cluster = Some(ClusterIdentity { epoch, incarnation, ..former.clone() });
        // Sums of the former epoch's log say nothing of this one's.
        meta.agreed_sum = None;
        let ClusterIdentity { epoch: ended, incarnation: its, .. } = former;
        self.state.put_former_epoch(FormerEpoch { epoch: ended, incarnation: its });
        self.state.put_member(member.clone());
        for wrap in &open.wraps {
            self.state.put_wrapped_key(wrap.clone());
        }
        let until_led_ms = self.clock().led_ms.saturating_add(self.longest_term_ms());
        let grace = GraceRow { former_epoch: ended, reason: open.reason, until_led_ms };
        self.state.set_grace(Some(grace));
        let forgot_borrows = !open.no_borrows_since;
        self.lengthen_what_is_live(forgot_borrows, until_led_ms);
        if forgot_borrows {
            self.reserve_unknown_borrows();
        }
        let detail = AuditDetail::Epoch { epoch, incarnation, reason: open.reason };
        self.record(&context.origin, Event::new(AuditKind::EpochOpened, detail));
        Ok(Outcome::Done)
    }

    /// Gives back the seats kept for borrows of a package that are not known.
    pub(super) fn release_reserved(
        &mut self,
        context: &Context,
        package: &Name,
        reason: &str,
    ) -> Decision {
        self.package_slot(package)?;
        within(is_text(reason))?;
        let Some(seats) = self.reserved(package).map(|row| row.seats) else {
            return Ok(Outcome::Unchanged);
        };
        self.state.set_reserved(package, None);
        let detail = AuditDetail::Reserved { seats, reason: reason.into() };
        let event = Event::of_package(AuditKind::ReservedReleased, package, detail);
        self.record(&context.origin, event);
        Ok(Outcome::Done)
    }

    /// Lets go of rows that keep seats no more. They count for nothing already.
    pub(crate) fn forget_reserved(&mut self) {
        let civil_ms = self.clock().civil_ms;
        let reserved = self.state.operate().reserved().iter();
        let over = reserved.filter(|(_, row)| civil_ms > row.until_ms);
        for package in over.map(|(package, _)| package.clone()).collect::<Vec<_>>() {
            self.state.set_reserved(&package, None);
        }
    }

    /// Whether a node that joins is given the data key in every version that is in use, and in no
    /// other: a retired one must not come back.
    pub(super) fn has_every_data_key(
        &self,
        node: NodeId,
        wraps: &[WrappedDataKey],
    ) -> Result<(), Refusal> {
        let fits =
            |wrap: &WrappedDataKey| wrap.node == node && wrap.wrapped.len() <= MAX_WRAPPED_BYTES;
        within(!wraps.is_empty() && wraps.iter().all(fits))?;
        let given: BTreeSet<u32> = wraps.iter().map(|wrap| wrap.version).collect();
        let in_use = self.data_key_versions_in_use();
        if given.len() == wraps.len() && (given == in_use || in_use.is_empty()) {
            return Ok(());
        }
        Err(Refusal::new(RefusalCode::VersionConflict))
    }

    /// Every node of the former epoch leaves, whatever was signed by one ends.
    fn dismiss_all(&mut self, context: &Context, epoch: u32) {
        let tickets: Vec<NodeId> = self.tickets().map(|ticket| ticket.node).collect();
        let members: Vec<NodeId> = self.members().map(|member| member.node).collect();
        let nodes: BTreeSet<NodeId> = members.into_iter().chain(tickets).collect();
        for node in nodes {
            self.dismiss(context, node, true, &format!("epoch {epoch} was opened"));
        }
        // Keys of nodes that were removed before, and wraps of nodes that never were members.
        let keys: Vec<(Name, NodeId)> =
            self.signing_keys().map(|key| (key.kid.clone(), key.node)).collect();
        for (kid, node) in keys {
            self.drop_signing_key(context, &kid, node);
        }
        let wraps: Vec<(NodeId, u32)> =
            self.wrapped_data_keys().map(|wrap| (wrap.node, wrap.version)).collect();
        for (node, version) in wraps {
            self.state.remove_wrapped_key(node, version);
        }
    }

    /// How long somebody may go on with a lease of this package that the state does not know: its
    /// term, and how far a device's clock may be behind where it has a token of it.
    fn term_ms(&self, package: &Package) -> u64 {
        let Policy { lease_ttl_ms, offline_skew_ms, .. } = package.terms().policy;
        let skew_ms = if self.allows_tokens(package) { offline_skew_ms } else { 0 };
        u64::from(lease_ttl_ms).saturating_add(skew_ms.into())
    }

    fn allows_tokens(&self, package: &Package) -> bool {
        self.state.offline().terms(&package.terms().package).is_some_and(|terms| terms.tokens)
    }

    fn longest_term_ms(&self) -> u64 {
        let civil_ms = self.clock().civil_ms;
        let packages = self.state.packages();
        let of_use = packages.filter(|package| package.live() > 0 || !package.is_over(civil_ms));
        let of_leases = of_use.map(|package| self.term_ms(package)).fold(MIN_GRACE_MS, u64::max);
        of_leases.max(self.longest_activation_ms().min(MAX_ACTIVATION_GRACE_MS))
    }

    /// How long an activation that the state does not know may go on without asking, at the most,
    /// of all licenses that anything could have been activated under.
    fn longest_activation_ms(&self) -> u64 {
        let civil_ms = self.clock().civil_ms;
        let mut longest_ms = 0;
        for license in self.state.licensing().licenses().values() {
            let terms = &license.terms;
            let Ok(slot) = self.package_slot(&terms.package) else { continue };
            let package = self.state.at(slot);
            let is_over = terms.valid_until_ms.is_some_and(|end| end < civil_ms);
            if package.live() > 0 || !(is_over || package.is_over(civil_ms)) {
                longest_ms = longest_ms.max(activation_ms(&terms.plan, package));
            }
        }
        longest_ms
    }

    /// Everything live lasts for a full term from now and through the grace, in which nobody new
    /// would get its seat anyway; the tokens that may be out for it count for a full term too.
    fn lengthen_what_is_live(&mut self, forgot_borrows: bool, until_led_ms: u64) {
        let clock = self.clock();
        // The wall clock says nothing of a hold: it may have been lengthened since.
        let live = self.state.leases_after(None).filter(|lease| {
            let over = self.state.at(lease.package()).is_over(clock.civil_ms);
            !over && (lease.is_held() || !self.is_due(lease))
        });
        for id in live.map(|lease| lease.id()).collect::<Vec<LeaseId>>() {
            self.lengthen(id, forgot_borrows, until_led_ms);
        }
    }

    fn lengthen(&mut self, id: LeaseId, forgot_borrows: bool, until_led_ms: u64) {
        let Some(lease) = self.state.lease(id) else { return };
        let clock = self.clock();
        let package = self.state.at(lease.package());
        let licensing = self.state.licensing();
        let activation = licensing.activation_of_lease(id);
        let plan = activation.and_then(|row| Some(&licensing.license(row.license)?.terms.plan));
        let (term_ms, token_ms) = match plan {
            Some(plan) => (activation_ms(plan, package), plan.offline_ms),
            None => {
                let ttl_ms = u64::from(package.terms().policy.lease_ttl_ms);
                let token_ms = if self.allows_tokens(package) { ttl_ms } else { 0 };
                (self.term_ms(package), token_ms)
            }
        };
        let (renewed, sequence) = (lease.renewed_led_ms(), lease.sequence());
        let hold = self.state.hold(id).copied();
        let longest = match hold {
            Some(hold) if hold.borrowed && forgot_borrows => {
                token_ms.max(self.borrow_caps(&package.terms().package).max_ms)
            }
            _ => token_ms,
        };
        let token_ends = clock.civil_ms.saturating_add_unsigned(longest);
        let ends_ms = token_ends.min(self.last_token_ms(lease));
        let expires_led_ms = clock.led_ms.saturating_add(term_ms).max(until_led_ms);
        self.state.renew_lease(id, renewed, expires_led_ms, sequence);
        if let Some(hold) = hold.filter(|hold| longest > 0 && hold.ends_ms < ends_ms) {
            self.state.put_hold(HoldRow { ends_ms, ..hold });
        }
    }

    /// Keeps, of every package, the seats that could have been borrowed beside those that are: the
    /// latest such borrow began now. What is kept from an earlier opening is kept on.
    fn reserve_unknown_borrows(&mut self) {
        let civil_ms = self.clock().civil_ms;
        let mut rows = Vec::new();
        for package in self.state.packages().filter(|package| !package.is_over(civil_ms)) {
            let terms = package.terms();
            let caps = self.borrow_caps(&terms.package);
            let most = terms.total.saturating_sub(caps.online_reserve).min(caps.seats_max);
            let seats = most.saturating_sub(package.borrowed_seats());
            if caps.max_ms == 0 || seats == 0 {
                continue;
            }
            let last = civil_ms.saturating_add_unsigned(caps.max_ms).min(terms.valid_until_ms);
            let until_ms = last.saturating_add(terms.policy.offline_skew_ms.into());
            let kept = self.reserved(&terms.package);
            let row = ReservedRow {
                seats: kept.map_or(seats, |kept| kept.seats.max(seats)),
                until_ms: kept.map_or(until_ms, |kept| kept.until_ms.max(until_ms)),
            };
            rows.push((terms.package.clone(), row));
        }
        for (package, row) in rows {
            self.state.set_reserved(&package, Some(row));
        }
    }
}

/// How long an activation works without asking: until its seat is given to others, or its token is
/// over on a device whose clock is slow by the skew.
fn activation_ms(plan: &Plan, package: &Package) -> u64 {
    let skew_ms = u64::from(package.terms().policy.offline_skew_ms);
    let token_ms = if plan.offline_ms > 0 { plan.offline_ms.saturating_add(skew_ms) } else { 0 };
    plan.slot_ttl_ms.max(token_ms)
}
