//! Holders of the former epoch who come back.
//!
//! The gateway has checked that lease id and renewal token are that epoch's. A lease that the state
//! knows may have been renewed after the backup was taken: so a sequence higher than the one stored
//! is believed, and a lower one is a replay as ever. One that it does not know was granted after
//! the backup: it takes a seat again under its own id, where there is one, in whichever pool, and
//! is charged for nothing again. It comes back without user, host and features: those were lost,
//! and so was its quantity: it comes back as one seat, however many it had.

use crate::apply::renew::{Shown, is_renewable};
use crate::apply::seat::SeatRequest;
use crate::apply::{Context, Decision, refuse};
use crate::audit::{AuditDetail, AuditKind};
use crate::ids::{LeaseId, group_of};
use crate::ledger::Ledger;
use crate::operate::Reclaim;
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::App;

impl Ledger {
    pub(in crate::apply) fn reclaim(&mut self, context: &Context, reclaim: &Reclaim) -> Decision {
        let app = self.credentials(context)?.clone();
        if self.grace().is_none_or(|grace| grace.former_epoch != reclaim.former_epoch) {
            return refuse(RefusalCode::NotReclaimable);
        }
        if self.state.lease(reclaim.lease).is_some() || self.requests.ended(reclaim.lease).is_some()
        {
            self.reclaim_known(context, &app, reclaim)?;
        } else {
            self.reclaim_unknown(context, &app, reclaim)?;
        }
        Ok(Outcome::Renewed(vec![self.renewed(reclaim.lease)?]))
    }

    fn reclaim_known(
        &mut self,
        context: &Context,
        app: &App,
        reclaim: &Reclaim,
    ) -> Result<(), Refusal> {
        let (id, shown) = (reclaim.lease, reclaim.sequence);
        self.is_holder(context, app.app, id)?;
        let Some(lease) = self.state.lease(id) else {
            return Err(Refusal::new(RefusalCode::LeaseEnded));
        };
        let (slot, stored) = (lease.package(), lease.sequence());
        is_renewable(self.state.at(slot))?;
        let judged =
            if shown > stored { Some(Shown::Current) } else { self.judge_sequence(lease, shown) };
        match judged {
            None => Err(self.replayed(context, id, shown)),
            Some(Shown::Before) => Ok(()),
            Some(Shown::Current) => {
                let next = self.sequence_after(slot, shown).max(stored);
                self.extend(id, slot, next, 0);
                self.hold_renewed(id, slot);
                self.note_reclaim(context, id, true);
                Ok(())
            }
        }
    }

    fn reclaim_unknown(
        &mut self,
        context: &Context,
        app: &App,
        reclaim: &Reclaim,
    ) -> Result<(), Refusal> {
        let Reclaim { lease: id, sequence, .. } = *reclaim;
        let slot = self.package_slot(&reclaim.package)?;
        let terms = self.state.at(slot).terms();
        if terms.product != app.product || terms.vendor != app.vendor {
            return Err(Refusal::new(RefusalCode::UnknownPackage));
        }
        // No token has the sequence 0, no lease of this package another group.
        if sequence == 0 || id.group != group_of(&terms.package) {
            return Err(Refusal::new(RefusalCode::NotReclaimable));
        }
        self.is_in_force(slot)?;
        let ttl_ms = u64::from(self.state.at(slot).terms().policy.lease_ttl_ms);
        let led_ms = self.clock().led_ms;
        let expires_led_ms = led_ms.saturating_add(ttl_ms);
        let request = SeatRequest {
            lease: id,
            app: app.app,
            pool: None,
            quantity: 1,
            features: &[],
            user: None,
            host: None,
            version: "",
            session: "",
            request: None,
            expires_led_ms,
            not_after_ms: None,
        };
        self.take_seat_again(context, slot, request)?;
        let next = self.sequence_after(slot, sequence);
        self.state.renew_lease(id, led_ms, expires_led_ms, next);
        self.hold_renewed(id, slot);
        self.note_reclaim(context, id, false);
        Ok(())
    }

    /// The sequence that follows a renewal by this one.
    fn sequence_after(&self, slot: u32, shown: u32) -> u32 {
        let rotates = self.state.at(slot).terms().policy.renewal_rotation;
        shown.saturating_add(rotates.into())
    }

    fn note_reclaim(&mut self, context: &Context, id: LeaseId, known: bool) {
        let Some(lease) = self.state.lease(id) else { return };
        let (fence, quantity) = (lease.fence(), lease.quantity());
        let name = &self.state.at(lease.package()).terms().package;
        let detail = AuditDetail::Reclaim { fence, known, quantity };
        let event = Event::of_lease(AuditKind::LeaseReclaimed, name, lease, detail);
        self.record(&context.origin, event);
    }
}
