//! Taking a seat as an application, and what is said of a seat that is held.

use crate::apply::operate::Asker;
use crate::apply::seat::SeatRequest;
use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::command::{Checkout, SeatClass};
use crate::ids::{AppId, LeaseId, Name, RequestId};
use crate::ledger::Ledger;
use crate::limits::MAX_FEATURES;
use crate::outcome::{Grant, Outcome, Refusal, RefusalCode, SatisfiedBy};
use crate::requests::RequestRecord;
use crate::rows::{App, PackageState};
use crate::state::Lease;

impl Ledger {
    pub(super) fn check_out(&mut self, context: &Context, checkout: &Checkout) -> Decision {
        let app = self.credentials(context)?;
        if let Some(request) = &context.request
            && let Some(lease) = self.made_before(request)?
        {
            return self.grant_again(context, lease);
        }
        if app.product != checkout.product {
            return refuse(RefusalCode::ProductNotPermitted);
        }
        let slot = self.package_slot(&checkout.package)?;
        self.is_offered(slot, app, checkout)?;
        let app = app.app;
        if let Some(request) = &context.request {
            self.admit(request)?;
        }
        let ttl_ms = u64::from(self.state.at(slot).terms().policy.lease_ttl_ms);
        let request = SeatRequest {
            lease: checkout.lease,
            app,
            pool: checkout.pool.as_ref(),
            quantity: checkout.quantity,
            features: &checkout.features,
            user: Some(&checkout.user),
            host: Some(&checkout.host),
            version: &checkout.version,
            session: &checkout.session,
            request: context.request,
            expires_led_ms: self.clock().led_ms.saturating_add(ttl_ms),
            not_after_ms: None,
        };
        self.take_seat(context, slot, request)?;
        self.granted(checkout.lease, false)
    }

    /// The live lease that an earlier command under the same id made.
    pub(super) fn made_before(&self, request: &RequestId) -> Result<Option<LeaseId>, Refusal> {
        let reused = Refusal::new(RefusalCode::IdempotencyKeyReused);
        if let Some(lease) = self.state.lease_by_scope(&request.scope) {
            return match lease.request() {
                Some(made_by) if made_by.body == request.body => Ok(Some(lease.id())),
                _ => Err(reused),
            };
        }
        match self.requests.find(&request.scope) {
            None => Ok(None),
            Some(RequestRecord::Lease(ended))
                if ended.checkout.is_some_and(|made_by| {
                    made_by.scope == request.scope && made_by.body == request.body
                }) =>
            {
                Err(Refusal::new(RefusalCode::LeaseEnded))
            }
            Some(_) => Err(reused),
        }
    }

    pub(super) fn grant_again(&mut self, context: &Context, lease: LeaseId) -> Decision {
        if !self.settle_lease(&context.time, lease) {
            return refuse(RefusalCode::LeaseEnded);
        }
        self.granted(lease, true)
    }

    /// The answer that a live lease was granted.
    pub(super) fn granted(&self, lease: LeaseId, repeated: bool) -> Decision {
        match self.state.lease(lease) {
            Some(lease) => Ok(Outcome::Granted(Box::new(self.describe(lease, repeated)))),
            None => refuse(RefusalCode::LeaseEnded),
        }
    }

    /// Whether the package can serve such a request at all, seats aside. Another vendor's package
    /// is not there for the application, be its product called the same.
    fn is_offered(&self, slot: u32, app: &App, checkout: &Checkout) -> Result<(), Refusal> {
        let terms = self.state.at(slot).terms();
        if terms.product != checkout.product || terms.vendor != app.vendor {
            return Err(Refusal::new(RefusalCode::UnknownPackage));
        }
        self.is_in_force(slot)?;
        self.is_well_formed(slot, app.app, checkout)
    }

    /// Whether seats of a package may be taken now.
    pub(super) fn is_in_force(&self, slot: u32) -> Result<(), Refusal> {
        let package = self.state.at(slot);
        let civil_ms = self.clock().civil_ms;
        let valid_from_ms = package.terms().valid_from_ms;
        let code = if civil_ms < valid_from_ms {
            let available_at_ms = Some(valid_from_ms);
            let code = RefusalCode::PackageNotYetValid;
            return Err(Refusal { available_at_ms, ..Refusal::new(code) });
        } else if package.is_expired(civil_ms) {
            RefusalCode::PackageExpired
        } else if package.state() == PackageState::Suspended {
            RefusalCode::PackageSuspended
        } else if package.state() == PackageState::Revoked {
            RefusalCode::PackageRevoked
        } else {
            return Ok(());
        };
        Err(Refusal::new(code))
    }

    fn is_well_formed(&self, slot: u32, app: AppId, checkout: &Checkout) -> Result<(), Refusal> {
        let package = self.state.at(slot);
        within(checkout.features.len() <= MAX_FEATURES && checkout.quantity > 0)?;
        let texts = [&checkout.user.name, &checkout.host.name, &checkout.version];
        within(texts.into_iter().chain([&checkout.session]).all(|text| is_text(text)))?;
        let named = &package.terms().features;
        let unknown: Vec<Name> =
            checkout.features.iter().filter(|asked| !named.contains(asked)).cloned().collect();
        let civil_ms = self.clock().civil_ms;
        let asker =
            Asker { app, user: Some(&*checkout.user.name), host: Some(&*checkout.host.name) };
        let pool = checkout.pool.as_ref();
        let may_use = pool.is_none_or(|pool| self.may_use(slot, pool, &asker));
        let most = || self.room(slot).most_of(&self.pools_for(slot, pool, &asker));
        if !unknown.is_empty() {
            let else_granted = may_use && most() >= checkout.quantity;
            return Err(Refusal {
                satisfied_by: else_granted.then_some(SatisfiedBy::WithoutFeatures(unknown)),
                ..Refusal::new(RefusalCode::UnknownFeature)
            });
        }
        if package.pool(pool).is_none() {
            return Err(Refusal::new(RefusalCode::UnknownPool));
        }
        if !may_use {
            return Err(Refusal::new(RefusalCode::PoolReserved));
        }
        let classes = [SeatClass::Commit, SeatClass::Overage];
        let of_one_class = classes.map(|class| package.capacity(class, civil_ms));
        let largest = of_one_class.into_iter().max().unwrap_or(0).min(package.terms().total);
        if checkout.quantity > largest {
            let fewer = most();
            return Err(Refusal {
                satisfied_by: (fewer > 0).then_some(SatisfiedBy::Quantity(fewer)),
                ..Refusal::new(RefusalCode::QuantityExceedsPackage)
            });
        }
        Ok(())
    }

    /// What a holder is told of its lease.
    fn describe(&self, lease: &Lease, repeated: bool) -> Grant {
        let package = self.state.at(lease.package());
        let (expires_in_ms, expires_at_ms) = self.remaining(lease);
        Grant {
            lease: lease.id(),
            fence: lease.fence(),
            package: package.terms().package.clone(),
            class: lease.class(),
            quantity: lease.quantity(),
            cost: package.cost(lease.class(), lease.quantity()),
            expires_in_ms,
            expires_at_ms,
            heartbeat_interval_ms: package.terms().policy.heartbeat_interval_ms,
            sequence: lease.sequence(),
            repeated,
        }
    }

    /// Milliseconds until a lease ends by whichever clock gets there first, and its last moment on
    /// the civil clock: a holder that counts the milliseconds never outlives its own or its
    /// package's last one. A borrowed lease lasts at least as long as its borrow.
    pub(crate) fn remaining(&self, lease: &Lease) -> (u64, i64) {
        let clock = self.clock();
        let mut led_ms = lease.expires_led_ms().saturating_sub(clock.led_ms);
        if lease.is_held()
            && let Some(hold) = self.state.hold(lease.id()).filter(|hold| hold.borrowed)
        {
            let borrowed_ms = hold.ends_ms.saturating_sub(clock.civil_ms);
            led_ms = led_ms.max(u64::try_from(borrowed_ms).unwrap_or(0));
        }
        let last = self.state.at(lease.package()).terms().valid_until_ms;
        let last = lease.not_after_ms().map_or(last, |own| own.min(last));
        let civil_ms = last.saturating_add(1).saturating_sub(clock.civil_ms);
        let expires_in_ms = led_ms.min(u64::try_from(civil_ms).unwrap_or(0));
        let shown = i64::try_from(expires_in_ms).unwrap_or(i64::MAX);
        (expires_in_ms, clock.civil_ms.saturating_add(shown).min(last))
    }
}
