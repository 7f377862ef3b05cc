//! Keeping a seat.
//!
//! The gateway has checked that the renewal token is ours; here only its sequence counts. The
//! current one extends the lease and, where the package rotates tokens, gives way to its successor.
//! The one before gets the answer of that renewal again for 30 seconds of led time, with nothing
//! extended: the holder's answer was lost. Anything else is a replay.

use crate::apply::{Context, Decision, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Renewal;
use crate::ids::{AppId, LeaseId};
use crate::ledger::Ledger;
use crate::limits::{MAX_RENEWALS, PREVIOUS_TOKEN_MS};
use crate::outcome::{Outcome, Refusal, RefusalCode, RenewalOutcome};
use crate::record::Event;
use crate::rows::PackageState;
use crate::state::{Lease, Package};

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
        let package = self.state.at(lease.package());
        is_renewable(package)?;
        let policy = &package.terms().policy;
        let (sequence, led_ms) = (lease.sequence(), self.clock().led_ms);
        let current = if policy.renewal_rotation {
            renewal.sequence == sequence
        } else {
            (1..=sequence).contains(&renewal.sequence)
        };
        if current && renewal.still_active {
            let next = if policy.renewal_rotation { sequence.saturating_add(1) } else { sequence };
            let expires = led_ms.saturating_add(policy.lease_ttl_ms.into());
            self.state.renew_lease(id, led_ms, expires, next);
        } else if !current {
            let before = renewal.sequence > 0 && renewal.sequence.checked_add(1) == Some(sequence);
            let lost = led_ms.saturating_sub(lease.renewed_led_ms()) <= PREVIOUS_TOKEN_MS;
            if !(before && lost) {
                self.note_replay(context, id, renewal.sequence);
                return Err(Refusal::new(RefusalCode::RenewalTokenReplayed));
            }
        }
        match self.state.lease(id) {
            Some(lease) => Ok(self.renewed(lease)),
            None => Err(Refusal::new(RefusalCode::LeaseEnded)),
        }
    }

    /// Another application's lease is not there for this one, live or ended, while its end is
    /// remembered; any other that is not live has ended. What the package's state forbids is said
    /// before a lease that it ended is called ended.
    fn is_holder(&mut self, context: &Context, app: AppId, id: LeaseId) -> Result<(), Refusal> {
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

    fn renewed(&self, lease: &Lease) -> RenewalOutcome {
        let (expires_in_ms, expires_at_ms) = self.remaining(lease);
        let policy = &self.state.at(lease.package()).terms().policy;
        RenewalOutcome::Renewed {
            expires_in_ms,
            expires_at_ms,
            heartbeat_interval_ms: policy.heartbeat_interval_ms,
            sequence: lease.sequence(),
            fence: lease.fence(),
        }
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
fn is_renewable(package: &Package) -> Result<(), Refusal> {
    match package.state() {
        PackageState::Active => Ok(()),
        PackageState::Suspended => Err(Refusal::new(RefusalCode::PackageSuspended)),
        PackageState::Revoked => Err(Refusal::new(RefusalCode::PackageRevoked)),
    }
}
