//! Keeping a seat.
//!
//! The gateway has checked that the renewal token is ours; here only its sequence counts. The
//! current one extends the lease and, where the package rotates tokens, gives way to its successor.
//! The one before gets the answer of that renewal again for 30 seconds of led time, with nothing
//! extended: the holder's answer was lost. Anything else is a replay. Where the package allows
//! offline tokens, a renewal holds the lease for one (see `offline`).

use crate::apply::{Context, Decision, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Renewal;
use crate::ids::{AppId, LeaseId};
use crate::ledger::Ledger;
use crate::limits::{MAX_RENEWALS, PREVIOUS_TOKEN_MS};
use crate::outcome::{Outcome, Refusal, RefusalCode, RenewalOutcome};
use crate::planted::{self, Bug};
use crate::record::Event;
use crate::rows::PackageState;
use crate::state::{Lease, Package};

/// What a sequence is to its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// In force.
    Current,
    /// The one before, lately: its holder's answer was lost.
    Before,
}

/// Milliseconds of a led minute.
const LED_MINUTE_MS: u64 = 60 * 1000;

impl Ledger {
    pub(super) fn heartbeat(&mut self, context: &Context, renewals: &[Renewal]) -> Decision {
        let app = self.credentials(context)?.app;
        within(renewals.len() <= MAX_RENEWALS)?;
        let outcomes = renewals.iter().map(|renewal| match self.renew(context, app, renewal) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                let package = self.package_of(renewal.lease);
                let lease = Some(renewal.lease);
                let package = package.as_deref();
                self.record_refusal(&context.origin, package, lease, refusal.code);
                RenewalOutcome::Refused(refusal)
            }
        });
        Ok(Outcome::Renewed(outcomes.collect()))
    }

    fn renew(
        &mut self,
        context: &Context,
        app: AppId,
        renewal: &Renewal,
    ) -> Result<RenewalOutcome, Refusal> {
        let id = renewal.lease;
        self.is_holder(context, app, id)?;
        let Some(lease) = self.state.lease(id) else {
            return Err(Refusal::new(RefusalCode::LeaseEnded));
        };
        let slot = lease.package();
        is_renewable(self.state.at(slot))?;
        match self.judge_sequence(lease, renewal.sequence) {
            None => return Err(self.replayed(context, id, renewal.sequence)),
            Some(Shown::Current) if renewal.still_active => {
                let next = self.next_sequence(lease);
                self.extend(id, slot, next, 0);
                self.hold_renewed(id, slot);
            }
            Some(Shown::Current | Shown::Before) => {}
        }
        self.renewed(id)
    }

    /// What the sequence of a renewal token is to its lease; `None`: a replay.
    pub(super) fn judge_sequence(&self, lease: &Lease, shown: u32) -> Option<Shown> {
        let (sequence, led_ms) = (lease.sequence(), self.clock().led_ms);
        let current = if self.state.at(lease.package()).terms().policy.renewal_rotation {
            shown == sequence
        } else {
            (1..=sequence).contains(&shown)
        };
        if current {
            return Some(Shown::Current);
        }
        if planted::is(Bug::TokenTwice) && shown > 0 && shown + 1 == sequence {
            return Some(Shown::Current);
        }
        let before = shown > 0 && shown.checked_add(1) == Some(sequence);
        let lost = led_ms.saturating_sub(lease.renewed_led_ms()) <= PREVIOUS_TOKEN_MS;
        (before && lost).then_some(Shown::Before)
    }

    /// The refusal of a replay, which is noted.
    pub(super) fn replayed(&mut self, context: &Context, id: LeaseId, shown: u32) -> Refusal {
        self.note_replay(context, id, shown);
        Refusal::new(RefusalCode::RenewalTokenReplayed)
    }

    /// Moves a lease's end to its TTL from now, or longer, never towards the present, and lets its
    /// renewal token give way to the next.
    pub(super) fn extend(&mut self, id: LeaseId, slot: u32, next: u32, at_least_ms: u64) {
        let ttl_ms = self.state.at(slot).terms().policy.lease_ttl_ms;
        let led_ms = self.clock().led_ms;
        let expires_led_ms = led_ms.saturating_add(at_least_ms.max(ttl_ms.into()));
        self.state.renew_lease(id, led_ms, expires_led_ms, next);
    }

    /// The sequence after a renewal: the next, where the package rotates tokens.
    pub(super) fn next_sequence(&self, lease: &Lease) -> u32 {
        let rotates = self.state.at(lease.package()).terms().policy.renewal_rotation;
        lease.sequence().saturating_add(rotates.into())
    }

    /// Another application's lease is not there for this one, live or ended, while its end is
    /// remembered; any other that is not live has ended. What the package's state forbids is said
    /// before a lease that it ended is called ended.
    pub(super) fn is_holder(
        &mut self,
        context: &Context,
        app: AppId,
        id: LeaseId,
    ) -> Result<(), Refusal> {
        let Some(lease) = self.state.lease(id) else {
            let foreign = self.requests.ended(id).is_some_and(|ended| ended.app != app);
            let code = if foreign { RefusalCode::UnknownLease } else { RefusalCode::LeaseEnded };
            return Err(Refusal::new(code));
        };
        if lease.app() != app {
            return Err(Refusal::new(RefusalCode::UnknownLease));
        }
        let package = self.state.at(lease.package());
        let over = if package.state() == PackageState::Revoked {
            RefusalCode::PackageRevoked
        } else if package.is_expired(self.clock().civil_ms) {
            RefusalCode::PackageExpired
        } else {
            RefusalCode::LeaseEnded
        };
        if self.settle_lease(&context.time, id) { Ok(()) } else { Err(Refusal::new(over)) }
    }

    /// The answer that a live lease was renewed, with the token that may be signed for it.
    pub(super) fn renewed(&self, id: LeaseId) -> Result<RenewalOutcome, Refusal> {
        let ended = Refusal::new(RefusalCode::LeaseEnded);
        let lease = self.state.lease(id).ok_or(ended)?;
        if let Some(renewed) = self.renewed_offline(lease) {
            return Ok(RenewalOutcome::RenewedOffline(Box::new(renewed)));
        }
        let (expires_in_ms, expires_at_ms) = self.remaining(lease);
        let policy = &self.state.at(lease.package()).terms().policy;
        Ok(RenewalOutcome::Renewed {
            expires_in_ms,
            expires_at_ms,
            heartbeat_interval_ms: policy.heartbeat_interval_ms,
            sequence: lease.sequence(),
            fence: lease.fence(),
        })
    }

    /// One audit event per lease and led minute.
    fn note_replay(&mut self, context: &Context, id: LeaseId, shown: u32) {
        let minute = self.clock().led_ms / LED_MINUTE_MS;
        let minute = u32::try_from(minute.saturating_add(1)).unwrap_or(u32::MAX);
        let Some(lease) = self.state.lease(id) else { return };
        if lease.replay_minute() == minute {
            return;
        }
        let detail = AuditDetail::Replay { shown, current: lease.sequence() };
        let name = &self.state.at(lease.package()).terms().package;
        let event = Event::of_lease(AuditKind::RenewalTokenReplayed, name, lease, detail);
        self.state.set_replay_minute(id, minute);
        self.record(&context.origin, event);
    }
}

/// A suspended package keeps its leases until they run out.
pub(super) fn is_renewable(package: &Package) -> Result<(), Refusal> {
    match package.state() {
        PackageState::Active => Ok(()),
        PackageState::Suspended => Err(Refusal::new(RefusalCode::PackageSuspended)),
        PackageState::Revoked => Err(Refusal::new(RefusalCode::PackageRevoked)),
    }
}
