//! A seat out of a package, whoever asks: the one way in which leases come to be.
//!
//! Checkouts, the classic face and activations judge who may ask in their own way; then they come
//! here. Commit seats go first, then overage while the package's budget lasts, never more than the
//! total or the pool's share. A request that names no pool is tried at the pools kept for who asks,
//! then at the unassigned seats. Who is named gets a reference only when a seat is granted, so that
//! a refusal leaves nothing behind.

use rust_decimal::prelude::ToPrimitive;

use crate::apply::Context;
use crate::apply::operate::Asker;
use crate::audit::{AuditDetail, AuditKind};
use crate::command::{SeatClass, Subject};
use crate::ids::{AppId, LeaseId, Name, RequestId, SubjectRef, group_of};
use crate::ledger::Ledger;
use crate::money::Money;
use crate::outcome::{Refusal, RefusalCode, SatisfiedBy};
use crate::planted::{self, Bug};
use crate::record::Event;
use crate::rows::{LeaseRow, SubjectKind};
use crate::state::{Lease, Package};

/// A seat to take, once it is settled that the asker may have one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeatRequest<'a> {
    /// Id for the lease, if granted.
    pub(crate) lease: LeaseId,
    /// Who holds it: an application, or the id of a face.
    pub(crate) app: AppId,
    /// Pool to take it from; must be there, and the asker may use it. `None`: one kept for who
    /// asks, else the unassigned seats.
    pub(crate) pool: Option<&'a Name>,
    /// Seats, at least 1.
    pub(crate) quantity: u32,
    /// Features, as they were asked for.
    pub(crate) features: &'a [Name],
    /// Who uses it; `None`: nobody is named.
    pub(crate) user: Option<&'a Subject>,
    /// On which host; `None`: none is named.
    pub(crate) host: Option<&'a Subject>,
    /// Version of the product; may be empty.
    pub(crate) version: &'a str,
    /// The application's session; may be empty.
    pub(crate) session: &'a str,
    /// The request that makes it, if asking again is to find the lease.
    pub(crate) request: Option<RequestId>,
    /// When it ends on the lease clock.
    pub(crate) expires_led_ms: u64,
    /// Its own last civil millisecond.
    pub(crate) not_after_ms: Option<i64>,
}

/// Whether the seat is one that was granted before, by a state that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taking {
    New,
    Again,
}

/// Why a package has no seat for a request.
enum Full {
    Package,
    Pool,
    Budget,
}

impl Ledger {
    /// Takes a seat of a package that is in force.
    pub(crate) fn take_seat(
        &mut self,
        context: &Context,
        slot: u32,
        request: SeatRequest<'_>,
    ) -> Result<&Lease, Refusal> {
        self.may_take_seat(context)?;
        let pools = self.pools_for(slot, request.pool, &Asker::of(&request));
        self.take_from(context, slot, request, &pools, Taking::New)
    }

    /// Takes a seat again for a holder whose lease is lost. Nobody knows from which pool it came:
    /// so the unassigned seats are tried, then every pool in order of name, whoever it is kept for.
    /// Its overage was charged when it was granted: neither a cost nor a budget is asked again.
    pub(in crate::apply) fn take_seat_again(
        &mut self,
        context: &Context,
        slot: u32,
        request: SeatRequest<'_>,
    ) -> Result<&Lease, Refusal> {
        self.may_take_seat(context)?;
        let named = self.state.at(slot).pools().keys().cloned().map(Some);
        let pools: Vec<Option<Name>> = std::iter::once(None).chain(named).collect();
        self.take_from(context, slot, request, &pools, Taking::Again)
    }

    fn take_from(
        &mut self,
        context: &Context,
        slot: u32,
        request: SeatRequest<'_>,
        pools: &[Option<Name>],
        taking: Taking,
    ) -> Result<&Lease, Refusal> {
        let taken = Refusal::new(RefusalCode::LeaseIdTaken);
        let group = group_of(&self.state.at(slot).terms().package);
        if request.lease.group != group || self.was_used(request.lease) {
            return Err(taken);
        }
        let civil_ms = self.clock().civil_ms;
        let paid_overage = match taking {
            Taking::New => self.payable_overage(slot),
            Taking::Again => u32::MAX,
        };
        let first = pools.first().and_then(Option::as_ref);
        let choose = |package: &Package, pool: Option<&Name>| {
            Room { package, civil_ms, paid_overage }.choose(pool, request.quantity)
        };
        // A commit seat that is due but not swept is not charged for as overage.
        self.settle_package(&context.time, slot, |package| {
            matches!(choose(package, first), Ok(SeatClass::Commit))
        });
        let mut full = Full::Pool;
        for pool in pools {
            match choose(self.state.at(slot), pool.as_ref()) {
                Ok(class) => {
                    let request = SeatRequest { pool: pool.as_ref(), ..request };
                    self.grant(context, slot, &request, class, taking);
                    return self.state.lease(request.lease).ok_or(taken);
                }
                Err(why) => full = why,
            }
        }
        Err(self.refuse_full(slot, &request, pools, &full))
    }

    /// What a package could give now.
    pub(super) fn room(&self, slot: u32) -> Room<'_> {
        let (package, civil_ms) = (self.state.at(slot), self.clock().civil_ms);
        Room { package, civil_ms, paid_overage: self.payable_overage(slot) }
    }

    /// Whether a lease of this id is live or ended lately.
    fn was_used(&self, lease: LeaseId) -> bool {
        self.state.lease(lease).is_some() || self.requests.ended(lease).is_some()
    }

    fn grant(
        &mut self,
        context: &Context,
        slot: u32,
        request: &SeatRequest<'_>,
        class: SeatClass,
        taking: Taking,
    ) {
        let clock = self.clock();
        let mut refer = |kind, named: Option<&Subject>| {
            named.map_or(SubjectRef(0), |subject| self.refer_to(kind, subject))
        };
        let user = refer(SubjectKind::User, request.user);
        let host = refer(SubjectKind::Host, request.host);
        let fence = self.next_fence(context);
        let package = self.state.at(slot);
        let name = package.terms().package.clone();
        let cost = match taking {
            Taking::New => package.cost(class, request.quantity),
            Taking::Again => None,
        };
        let row = LeaseRow {
            lease: request.lease,
            app: request.app,
            package: name.clone(),
            pool: request.pool.cloned(),
            class,
            quantity: request.quantity,
            features: request.features.into(),
            parent: None,
            fence,
            granted_at_ms: clock.civil_ms,
            renewed_led_ms: clock.led_ms,
            expires_led_ms: request.expires_led_ms,
            not_after_ms: request.not_after_ms,
            sequence: FIRST_SEQUENCE,
            user,
            host,
            version: request.version.into(),
            session: request.session.into(),
            request: request.request,
            replay_minute: 0,
        };
        let lease = Lease::new(row, slot);
        let (quantity, pool) = (request.quantity, request.pool.cloned());
        let detail = AuditDetail::Grant { fence, class, quantity, pool, cost };
        let event = Event::of_lease(AuditKind::LeaseGranted, &name, &lease, detail);
        self.state.insert_lease(lease);
        self.count_grant(slot, class, cost);
        self.count_pool_use(slot, request.pool);
        self.record(&context.origin, event);
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
            self.charge_budget(slot, cost);
        }
    }

    fn refuse_full(
        &self,
        slot: u32,
        request: &SeatRequest<'_>,
        pools: &[Option<Name>],
        full: &Full,
    ) -> Refusal {
        let room = self.room(slot);
        let fewer = room.most_of(pools);
        let satisfied_by = if fewer > 0 {
            Some(SatisfiedBy::Quantity(fewer))
        } else {
            match full {
                Full::Package | Full::Budget => None,
                Full::Pool => self.other_pool(slot, request),
            }
        };
        let code = match full {
            Full::Package => RefusalCode::MaxOverageExceeded,
            Full::Pool => RefusalCode::PoolExhausted,
            Full::Budget => RefusalCode::BudgetReached,
        };
        let (retry_in_ms, available_at_ms) = match full {
            Full::Budget => (None, Some(self.next_month_ms())),
            Full::Package | Full::Pool => self.first_to_free(slot),
        };
        Refusal { code, available_at_ms, retry_in_ms, satisfied_by }
    }

    /// Another pool that would grant as many and that the asker may use: the unassigned seats, else
    /// the first by name.
    fn other_pool(&self, slot: u32, request: &SeatRequest<'_>) -> Option<SatisfiedBy> {
        let (room, asker) = (self.room(slot), Asker::of(request));
        let named = self.state.at(slot).pools().keys();
        let open = named.filter(|pool| self.may_use(slot, pool, &asker)).map(Some);
        let mut pools = std::iter::once(None).chain(open);
        let found = pools.find(|pool| room.has(*pool, request.quantity))?;
        Some(SatisfiedBy::Pool(found.cloned()))
    }

    /// When the first lease of a package may end: milliseconds until then, by whichever clock it
    /// waits for, and the civil time.
    fn first_to_free(&self, slot: u32) -> (Option<u64>, Option<i64>) {
        let (clock, package) = (self.clock(), self.state.at(slot));
        let led = package.first_led_end().map(|at| at.saturating_sub(clock.led_ms));
        let hold = package.first_hold().map(|(at, _)| at);
        let kept = package.reserved_until(clock.civil_ms);
        let civil = hold.into_iter().chain(kept).min();
        let civil = civil.map(|at| u64::try_from(at.saturating_sub(clock.civil_ms)).unwrap_or(0));
        let Some(wait) = led.into_iter().chain(civil).min() else { return (None, None) };
        let civil_ms = i64::try_from(wait).ok().map(|wait| clock.civil_ms.saturating_add(wait));
        (Some(wait), civil_ms)
    }
}

/// Seats that a package could give at a civil time.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    package: &'a Package,
    civil_ms: i64,
    /// Overage seats that its budget pays for.
    paid_overage: u32,
}

impl Room<'_> {
    /// Whether so many seats of a pool would be granted.
    fn has(&self, pool: Option<&Name>, quantity: u32) -> bool {
        self.most(pool) >= quantity
    }

    /// The largest quantity that would be granted from a pool.
    fn most(&self, pool: Option<&Name>) -> u32 {
        let pool = self.package.pool(pool).unwrap_or_default();
        let of_one_class = self.free(SeatClass::Commit).max(self.free(SeatClass::Overage));
        let of_pool = pool.share.saturating_sub(pool.in_use);
        of_one_class.min(self.package.total_free(self.civil_ms)).min(of_pool)
    }

    /// The largest quantity that would be granted from one of some pools.
    pub(super) fn most_of(&self, pools: &[Option<Name>]) -> u32 {
        pools.iter().map(|pool| self.most(pool.as_ref())).max().unwrap_or(0)
    }

    /// Commit seats first, then overage; a lease is of one class.
    fn choose(&self, pool: Option<&Name>, quantity: u32) -> Result<SeatClass, Full> {
        let classes = [SeatClass::Commit, SeatClass::Overage];
        if planted::is(Bug::OversoldByOne)
            && self.package.total_in_use() + 1 == self.package.terms().total + quantity
        {
            return Ok(SeatClass::Overage);
        }
        if self.package.total_free(self.civil_ms) < quantity {
            return Err(Full::Package);
        }
        let Some(class) = classes.into_iter().find(|class| self.free(*class) >= quantity) else {
            let overage = self.package.free(SeatClass::Overage, self.civil_ms);
            return Err(if overage >= quantity { Full::Budget } else { Full::Package });
        };
        match self.package.pool(pool) {
            Some(pool) if pool.share.saturating_sub(pool.in_use) >= quantity => Ok(class),
            _ => Err(Full::Pool),
        }
    }

    fn free(&self, class: SeatClass) -> u32 {
        let free = self.package.free(class, self.civil_ms);
        match class {
            SeatClass::Commit => free,
            SeatClass::Overage => free.min(self.paid_overage),
        }
    }
}

/// How many seats at a price an amount pays for.
pub(super) fn seats_for(amount: Money, price: Money) -> u32 {
    if price.0.is_zero() {
        return u32::MAX;
    }
    let seats = amount.0.checked_div(price.0).unwrap_or_default().floor();
    if seats.is_sign_negative() { 0 } else { seats.to_u32().unwrap_or(u32::MAX) }
}

/// Sequence of the first renewal token of a lease; 0 is never issued.
const FIRST_SEQUENCE: u32 = 1;
