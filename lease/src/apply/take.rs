//! Taking a seat.

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::{Checkout, SeatClass};
use crate::ids::{AppId, LeaseId, Name, RequestId, group_of};
use crate::ledger::Ledger;
use crate::limits::MAX_FEATURES;
use crate::money::Money;
use crate::outcome::{Grant, Outcome, Refusal, RefusalCode, SatisfiedBy};
use crate::record::Event;
use crate::requests::RequestRecord;
use crate::rows::{App, LeaseRow, PackageState, SubjectKind};
use crate::state::{Lease, Package};

/// Why a package has no seat for a request.
enum Full {
    Package,
    Pool,
}

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
        if checkout.lease.group != group_of(&checkout.package) || self.was_used(checkout.lease) {
            return refuse(RefusalCode::LeaseIdTaken);
        }
        let civil_ms = self.clock().civil_ms;
        // A commit seat that is due but not swept is not charged for as overage.
        self.settle_package(&context.time, slot, |package| {
            matches!(choose_class(package, checkout, civil_ms), Ok(SeatClass::Commit))
        });
        match choose_class(self.state.at(slot), checkout, civil_ms) {
            Ok(class) => Ok(self.grant(context, app, slot, checkout, class)),
            Err(full) => Err(self.refuse_full(slot, checkout, &full)),
        }
    }

    /// The live lease that an earlier command under the same id made.
    fn made_before(&self, request: &RequestId) -> Result<Option<LeaseId>, Refusal> {
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

    fn grant_again(&mut self, context: &Context, lease: LeaseId) -> Decision {
        if !self.settle_lease(&context.time, lease) {
            return refuse(RefusalCode::LeaseEnded);
        }
        match self.state.lease(lease) {
            Some(lease) => Ok(Outcome::Granted(Box::new(self.describe(lease, true)))),
            None => refuse(RefusalCode::LeaseEnded),
        }
    }

    /// Whether the package can serve such a request at all, seats aside. Another vendor's package
    /// is not there for the application, be its product called the same.
    fn is_offered(&self, slot: u32, app: &App, checkout: &Checkout) -> Result<(), Refusal> {
        let package = self.state.at(slot);
        let terms = package.terms();
        let civil_ms = self.clock().civil_ms;
        let code = if terms.product != checkout.product || terms.vendor != app.vendor {
            RefusalCode::UnknownPackage
        } else if civil_ms < terms.valid_from_ms {
            RefusalCode::PackageNotYetValid
        } else if package.is_expired(civil_ms) {
            RefusalCode::PackageExpired
        } else if package.state() == PackageState::Suspended {
            RefusalCode::PackageSuspended
        } else if package.state() == PackageState::Revoked {
            RefusalCode::PackageRevoked
        } else {
            return self.is_well_formed(package, checkout);
        };
        let mut refusal = Refusal::new(code);
        if code == RefusalCode::PackageNotYetValid {
            refusal.available_at_ms = Some(terms.valid_from_ms);
        }
        Err(refusal)
    }

    fn is_well_formed(&self, package: &Package, checkout: &Checkout) -> Result<(), Refusal> {
        within(checkout.features.len() <= MAX_FEATURES && checkout.quantity > 0)?;
        let texts = [&checkout.user.name, &checkout.host.name, &checkout.version];
        within(texts.into_iter().chain([&checkout.session]).all(|text| is_text(text)))?;
        let named = &package.terms().features;
        let unknown: Vec<Name> =
            checkout.features.iter().filter(|asked| !named.contains(asked)).cloned().collect();
        let civil_ms = self.clock().civil_ms;
        if !unknown.is_empty() {
            let else_granted = choose_class(package, checkout, civil_ms).is_ok();
            return Err(Refusal {
                satisfied_by: else_granted.then_some(SatisfiedBy::WithoutFeatures(unknown)),
                ..Refusal::new(RefusalCode::UnknownFeature)
            });
        }
        if package.pool(checkout.pool.as_ref()).is_none() {
            return Err(Refusal::new(RefusalCode::UnknownPool));
        }
        let classes = [SeatClass::Commit, SeatClass::Overage];
        let of_one_class = classes.map(|class| package.capacity(class, civil_ms));
        let most = of_one_class.into_iter().max().unwrap_or(0).min(package.terms().total);
        if checkout.quantity > most {
            let fewer = most_free(package, checkout.pool.as_ref(), civil_ms);
            return Err(Refusal {
                satisfied_by: (fewer > 0).then_some(SatisfiedBy::Quantity(fewer)),
                ..Refusal::new(RefusalCode::QuantityExceedsPackage)
            });
        }
        Ok(())
    }

    /// Whether a lease of this id is live or ended lately.
    fn was_used(&self, lease: LeaseId) -> bool {
        self.state.lease(lease).is_some() || self.requests.ended(lease).is_some()
    }

    fn grant(
        &mut self,
        context: &Context,
        app: AppId,
        slot: u32,
        checkout: &Checkout,
        class: SeatClass,
    ) -> Outcome {
        let clock = self.clock();
        let user = self.refer_to(SubjectKind::User, &checkout.user);
        let host = self.refer_to(SubjectKind::Host, &checkout.host);
        let fence = self.next_fence(context);
        let package = self.state.at(slot);
        let name = package.terms().package.clone();
        let cost = package.cost(class, checkout.quantity);
        let ttl_ms = u64::from(package.terms().policy.lease_ttl_ms);
        let row = LeaseRow {
            lease: checkout.lease,
            app,
            package: name.clone(),
            pool: checkout.pool.clone(),
            class,
            quantity: checkout.quantity,
            features: checkout.features.clone(),
            parent: None,
            fence,
            granted_at_ms: clock.civil_ms,
            renewed_led_ms: clock.led_ms,
            expires_led_ms: clock.led_ms.saturating_add(ttl_ms),
            not_after_ms: None,
            sequence: FIRST_SEQUENCE,
            user,
            host,
            version: checkout.version.clone(),
            session: checkout.session.clone(),
            request: context.request,
            replay_minute: 0,
        };
        let lease = Lease::new(row, slot);
        let detail = AuditDetail::Grant {
            fence,
            class,
            quantity: checkout.quantity,
            pool: checkout.pool.clone(),
            cost,
        };
        let event = Event::of_lease(AuditKind::LeaseGranted, &name, &lease, detail);
        let granted = self.describe(&lease, false);
        self.state.insert_lease(lease);
        self.count_grant(slot, class, cost);
        self.record(&context.origin, event);
        Outcome::Granted(Box::new(granted))
    }

    fn count_grant(&mut self, slot: u32, class: SeatClass, cost: Option<Money>) {
        let out = self.state.at(slot).total_in_use();
        let usage = self.state.usage_mut(slot);
        usage.peak_concurrent = usage.peak_concurrent.max(out);
        let count = match class {
            SeatClass::Commit => &mut usage.commit_checkouts,
            SeatClass::Overage => &mut usage.overage_checkouts,
        };
        *count = count.saturating_add(1);
        if let Some(Money(cost)) = cost {
            usage.overage_charged.0 = usage.overage_charged.0.saturating_add(cost);
        }
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
    /// package's last one.
    pub(crate) fn remaining(&self, lease: &Lease) -> (u64, i64) {
        let clock = self.clock();
        let led_ms = lease.expires_led_ms().saturating_sub(clock.led_ms);
        let last = self.state.at(lease.package()).terms().valid_until_ms;
        let last = lease.not_after_ms().map_or(last, |own| own.min(last));
        let civil_ms = last.saturating_add(1).saturating_sub(clock.civil_ms);
        let expires_in_ms = led_ms.min(u64::try_from(civil_ms).unwrap_or(0));
        let shown = i64::try_from(expires_in_ms).unwrap_or(i64::MAX);
        (expires_in_ms, clock.civil_ms.saturating_add(shown).min(last))
    }

    fn refuse_full(&self, slot: u32, checkout: &Checkout, full: &Full) -> Refusal {
        let package = self.state.at(slot);
        let clock = self.clock();
        let retry_in_ms = package.first_to_end().map(|(at, _)| at.saturating_sub(clock.led_ms));
        let available_at_ms = retry_in_ms
            .and_then(|wait| i64::try_from(wait).ok())
            .map(|wait| clock.civil_ms.saturating_add(wait));
        let fewer = most_free(package, checkout.pool.as_ref(), clock.civil_ms);
        let satisfied_by = if fewer > 0 {
            Some(SatisfiedBy::Quantity(fewer))
        } else {
            match full {
                Full::Package => None,
                Full::Pool => other_pool(package, checkout, clock.civil_ms),
            }
        };
        let code = match full {
            Full::Package => RefusalCode::MaxOverageExceeded,
            Full::Pool => RefusalCode::PoolExhausted,
        };
        Refusal { code, available_at_ms, retry_in_ms, satisfied_by }
    }
}

/// Commit seats first, then overage; a lease is of one class.
fn choose_class(package: &Package, checkout: &Checkout, civil_ms: i64) -> Result<SeatClass, Full> {
    let has_room = |class| package.free(class, civil_ms) >= checkout.quantity;
    let class = [SeatClass::Commit, SeatClass::Overage].into_iter().find(|class| has_room(*class));
    let Some(class) = class.filter(|_| package.total_free() >= checkout.quantity) else {
        return Err(Full::Package);
    };
    match package.pool(checkout.pool.as_ref()) {
        Some(pool) if pool.share.saturating_sub(pool.in_use) >= checkout.quantity => Ok(class),
        _ => Err(Full::Pool),
    }
}

/// The largest quantity that would be granted from a pool.
fn most_free(package: &Package, pool: Option<&Name>, civil_ms: i64) -> u32 {
    let pool = package.pool(pool).unwrap_or_default();
    let commit = package.free(SeatClass::Commit, civil_ms);
    let of_one_class = commit.max(package.free(SeatClass::Overage, civil_ms));
    of_one_class.min(package.total_free()).min(pool.share.saturating_sub(pool.in_use))
}

/// Another pool that would grant the request: the unassigned seats, else the first by name.
fn other_pool(package: &Package, checkout: &Checkout, civil_ms: i64) -> Option<SatisfiedBy> {
    let named = package.pools().keys().map(Some);
    let found = std::iter::once(None)
        .chain(named)
        .find(|pool| most_free(package, *pool, civil_ms) >= checkout.quantity)?;
    Some(SatisfiedBy::Pool(found.cloned()))
}

/// Sequence of the first renewal token of a lease; 0 is never issued.
const FIRST_SEQUENCE: u32 = 1;
