//! Seats of activations: taken, confirmed, lost, given back, taken away.
//!
//! A seat whose offline token is outstanding is not free when its activation ends: its lease lapses
//! and stays until the token has run out everywhere. Until then the activation still names it, and
//! a holder that comes back gets this very lease again instead of a second one. A removed
//! activation whose seat is kept so leaves a row that names nobody but its holder; it goes with the
//! seat, or with the holder's next activation.

use crate::apply::seat::SeatRequest;
use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::ids::{ActivationId, LeaseId};
use crate::ledger::Ledger;
use crate::license::{
    ActivationChange, ActivationRow, ActivationState, ChangeActivation, Deactivate, LicenseRow,
};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::{Event, Origin};
use crate::requests::LeaseEnd;

impl Ledger {
    /// Gives an activation its seat: the one it holds, the one it lost whose lease still stands, or
    /// a new one. The row is changed in place and not stored; whether a seat was taken just now.
    pub(super) fn seat_activation(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        row: &mut ActivationRow,
        lease: LeaseId,
    ) -> Result<bool, Refusal> {
        let plan = &license.terms.plan;
        let led_ms = self.clock().led_ms;
        let expires_led_ms = match plan.slot_ttl_ms {
            0 => u64::MAX,
            ttl_ms => led_ms.saturating_add(ttl_ms),
        };
        let held = row.lease.and_then(|lease| self.state.lease(lease));
        let held = held.filter(|lease| !self.is_due(lease)).map(|it| (it.id(), it.sequence()));
        let was_active = row.state == ActivationState::Active;
        if let Some((id, sequence)) = held {
            if plan.slot_ttl_ms > 0 || !was_active {
                self.state.renew_lease(id, led_ms, expires_led_ms, sequence);
            }
            row.state = ActivationState::Active;
            return Ok(!was_active);
        }
        let slot = self.package_slot(&license.terms.package)?;
        let ends = [license.terms.valid_until_ms, row.valid_until_ms];
        let request = SeatRequest {
            lease,
            app: license.terms.face.app(),
            pool: None,
            quantity: plan.seats_per_activation,
            features: &[],
            user: None,
            host: None,
            version: "",
            session: "",
            request: None,
            expires_led_ms,
            not_after_ms: ends.into_iter().flatten().min(),
        };
        self.take_seat(context, slot, request).map_err(no_seat)?;
        row.state = ActivationState::Active;
        row.lease = Some(lease);
        Ok(true)
    }

    /// Stores an activation that was heard, and says so when it took a seat.
    pub(super) fn store_activation(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        mut row: ActivationRow,
        took_seat: bool,
    ) {
        row.last_seen_at_ms = self.clock().civil_ms;
        if took_seat {
            let detail =
                AuditDetail::Activation { license: row.license, activation: row.activation };
            let event = Event::of_package(AuditKind::Activated, &license.terms.package, detail);
            self.record(&context.origin, event.by(row.contact));
        }
        // One that was removed gives way to that which its holder made anew.
        let former = self.state.licensing().activation_of(row.license, &row.holder);
        let former = former.map(|former| former.activation).filter(|id| *id != row.activation);
        if let Some(former) = former {
            self.state.remove_activation(former);
        }
        self.state.put_activation(row);
    }

    /// What the end of a lease means for the activation whose seat it was.
    pub(crate) fn seat_ended(&mut self, origin: &Origin, lease: LeaseId) {
        let Some(row) = self.state.licensing().activation_of_lease(lease) else { return };
        let row = ActivationRow { lease: None, ..row.clone() };
        if row.is_removed() {
            self.state.remove_activation(row.activation);
        } else if row.state == ActivationState::Active {
            self.put_ended(origin, row, ActivationState::Released);
        } else {
            self.state.put_activation(row);
        }
    }

    /// Ends activations in force of licenses that are revoked or cancelled.
    pub(crate) fn sweep_licenses(&mut self, origin: &Origin, budget: &mut usize) {
        while *budget > 0
            && let Some(row) = self.state.licensing().first_to_end()
        {
            *budget -= 1;
            let row = row.clone();
            self.end_activation(origin, row, ActivationState::Released, LeaseEnd::Released, false);
        }
    }

    /// Civil time at which activations of licenses that are revoked or cancelled end: now.
    pub(crate) fn licenses_due(&self) -> Option<i64> {
        self.state.licensing().first_to_end().map(|_| i64::MIN)
    }

    /// Ends an activation: its seat comes free now, or when its offline token has run out
    /// everywhere unless that is written off.
    fn end_activation(
        &mut self,
        origin: &Origin,
        row: ActivationRow,
        to: ActivationState,
        end: LeaseEnd,
        write_off: bool,
    ) {
        let lease = row.lease;
        if row.state == ActivationState::Active {
            self.put_ended(origin, row, to);
        } else {
            self.state.put_activation(ActivationRow { state: to, ..row });
        }
        let Some(lease) = lease else { return };
        let returned = matches!(end, LeaseEnd::Returned { .. });
        let held = self.state.hold(lease).is_some();
        if returned || !held {
            self.end_lease(origin, lease, end, None);
        } else if write_off {
            self.end_lease(origin, lease, LeaseEnd::WrittenOff, None);
        } else {
            self.lapse(origin, lease);
        }
    }

    fn put_ended(&mut self, origin: &Origin, row: ActivationRow, to: ActivationState) {
        let detail = AuditDetail::Activation { license: row.license, activation: row.activation };
        let package = self.state.licensing().license(row.license);
        let event = match package.map(|license| license.terms.package.clone()) {
            Some(package) => Event::of_package(AuditKind::ActivationEnded, &package, detail),
            None => Event::new(AuditKind::ActivationEnded, detail),
        };
        self.record(origin, event.by(row.contact));
        self.state.put_activation(ActivationRow { state: to, ..row });
    }

    /// Gives a cluster's slot and seat back. Also under a license that is not in force: nobody is
    /// kept from leaving.
    pub(super) fn deactivate(&mut self, context: &Context, deactivate: &Deactivate) -> Decision {
        let Deactivate { key_mac, address, holder } = deactivate;
        let license = self.license_shown(context, key_mac, *address, holder)?;
        let row = self.state.licensing().activation_of(license.terms.license, holder);
        let Some(row) = row.filter(|row| row.state == ActivationState::Active).cloned() else {
            return Ok(Outcome::Done);
        };
        let live = row.lease.filter(|lease| self.settle_lease(&context.time, *lease));
        let end = live.and_then(|lease| self.state.lease(lease));
        if let Some(end) = end.map(|lease| self.returned(lease, None)) {
            self.end_activation(&context.origin, row, ActivationState::Released, end, false);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn change_activation(
        &mut self,
        context: &Context,
        change: &ChangeActivation,
    ) -> Decision {
        let ChangeActivation { activation, change: to, reason, write_off } = change;
        let row = self.activation_of_id(*activation)?;
        within(is_text(reason))?;
        if row.is_removed() {
            return self.write_off_removed(context, &row, *to, *write_off);
        }
        // What is due has ended by itself.
        if let Some(lease) = row.lease {
            self.settle_lease(&context.time, lease);
        }
        let row = self.activation_of_id(*activation)?;
        let lapsing = row.lease.is_some() && row.state != ActivationState::Active;
        let same = match to {
            ActivationChange::Remove => false,
            ActivationChange::Revoke => {
                row.state == ActivationState::Revoked && !(*write_off && lapsing)
            }
            ActivationChange::Reinstate => row.state != ActivationState::Revoked,
        };
        if same {
            return Ok(Outcome::Unchanged);
        }
        let license = self.state.licensing().license(row.license);
        let package = license.map(|license| license.terms.package.clone());
        let detail = AuditDetail::ActivationChange {
            license: row.license,
            activation: *activation,
            change: *to,
            write_off: *write_off,
            reason: reason.clone(),
        };
        let event = match &package {
            Some(package) => Event::of_package(AuditKind::ActivationChanged, package, detail),
            None => Event::new(AuditKind::ActivationChanged, detail),
        };
        self.record(&context.origin, event.by(row.contact));
        let (origin, end) = (&context.origin, LeaseEnd::Released);
        match to {
            ActivationChange::Reinstate => {
                let state = ActivationState::Released;
                self.state.put_activation(ActivationRow { state, ..row });
            }
            ActivationChange::Revoke => {
                self.end_activation(origin, row, ActivationState::Revoked, end, *write_off);
            }
            ActivationChange::Remove => {
                self.end_activation(origin, row, ActivationState::Released, end, *write_off);
                match self.state.licensing().activation(*activation) {
                    Some(kept) if kept.lease.is_some() => {
                        self.state.put_activation(kept.clone().removed());
                    }
                    _ => self.state.remove_activation(*activation),
                }
            }
        }
        Ok(Outcome::Done)
    }

    /// All that can still be done about a removed activation: free the seat kept for its token.
    fn write_off_removed(
        &mut self,
        context: &Context,
        row: &ActivationRow,
        to: ActivationChange,
        write_off: bool,
    ) -> Decision {
        match row.lease.filter(|_| write_off && to == ActivationChange::Remove) {
            Some(lease) => {
                self.end_lease(&context.origin, lease, LeaseEnd::WrittenOff, None);
                Ok(Outcome::Done)
            }
            None => refuse(RefusalCode::UnknownActivation),
        }
    }

    fn activation_of_id(&self, id: ActivationId) -> Result<ActivationRow, Refusal> {
        let row = self.state.licensing().activation(id).cloned();
        row.ok_or(Refusal::new(RefusalCode::UnknownActivation))
    }
}

/// Every seat being out is one thing to a holder of a license key.
fn no_seat(refusal: Refusal) -> Refusal {
    let code = match refusal.code {
        RefusalCode::MaxOverageExceeded | RefusalCode::PoolExhausted => RefusalCode::NoSeat,
        other => other,
    };
    Refusal { code, satisfied_by: None, ..refusal }
}
