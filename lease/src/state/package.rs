//! A package in memory: its terms, what is out of it, and when something of it is due.

use std::collections::BTreeMap;

use crate::command::{PackageTerms, SeatClass};
use crate::ids::{LeaseId, Name};
use crate::money::Money;
use crate::offline::HoldRow;
use crate::operate::ReservedRow;
use crate::rows::{Document, PackageRow, PackageState, Usage};
use crate::runs::RunSet;

use super::lease::Lease;

/// A package. Fields that are stored are changed only through `State`, which marks their rows.
#[derive(Debug)]
pub(crate) struct Package {
    pub(super) terms: PackageTerms,
    pub(super) canonical: Vec<u8>,
    pub(super) signature: Box<str>,
    pub(super) verified_by: [u8; 32],
    pub(super) state: PackageState,
    pub(super) imported_at_ms: i64,
    /// Pieces its document is stored in.
    pub(super) pieces: u16,
    pub(super) usage: Usage,
    pub(super) feature_usage: BTreeMap<Name, u64>,
    pub(super) pools: BTreeMap<Name, Pool>,
    /// Seats out of the unassigned ones.
    pub(super) unassigned_in_use: u32,
    pub(super) commit_in_use: u32,
    pub(super) overage_in_use: u32,
    /// Its live leases without a hold by end on the lease clock.
    pub(super) expiry: RunSet<(u64, LeaseId)>,
    /// Its held leases by the civil time from which the hold no longer keeps them.
    pub(super) held: RunSet<(i64, LeaseId)>,
    /// Commit and overage seats of held leases.
    pub(super) held_in_use: [u32; 2],
    /// Seats that are borrowed.
    pub(super) borrowed: u32,
    /// Seats kept for borrows that a restored state does not know; by its row.
    pub(super) reserved: Option<ReservedRow>,
    /// Where it stands in the ledger's order of led ends.
    pub(super) led_due: Option<u64>,
    /// Where it stands in the ledger's order of civil changes.
    pub(super) civil_due: Option<i64>,
}

/// A named pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pool {
    pub(crate) share: u32,
    pub(crate) in_use: u32,
}

impl Package {
    pub(super) fn new(row: PackageRow, document: Document) -> Self {
        Self {
            terms: document.terms,
            canonical: document.canonical,
            signature: document.signature,
            verified_by: row.verified_by,
            state: row.state,
            imported_at_ms: row.imported_at_ms,
            pieces: row.pieces,
            usage: Usage::default(),
            feature_usage: BTreeMap::new(),
            pools: BTreeMap::new(),
            unassigned_in_use: 0,
            commit_in_use: 0,
            overage_in_use: 0,
            expiry: RunSet::default(),
            held: RunSet::default(),
            held_in_use: [0; 2],
            borrowed: 0,
            reserved: None,
            led_due: None,
            civil_due: None,
        }
    }

    pub(super) fn row(&self) -> PackageRow {
        PackageRow {
            package: self.terms.package.clone(),
            state: self.state,
            imported_at_ms: self.imported_at_ms,
            verified_by: self.verified_by,
            pieces: self.pieces,
        }
    }

    pub(super) fn document(&self) -> Document {
        Document {
            terms: self.terms.clone(),
            canonical: self.canonical.clone(),
            signature: self.signature.clone(),
        }
    }

    pub(crate) fn terms(&self) -> &PackageTerms {
        &self.terms
    }

    pub(crate) fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    pub(crate) fn signature(&self) -> &str {
        &self.signature
    }

    pub(crate) fn verified_by(&self) -> &[u8; 32] {
        &self.verified_by
    }

    pub(crate) fn state(&self) -> PackageState {
        self.state
    }

    pub(crate) fn imported_at_ms(&self) -> i64 {
        self.imported_at_ms
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    pub(crate) fn feature_usage(&self) -> &BTreeMap<Name, u64> {
        &self.feature_usage
    }

    pub(crate) fn pools(&self) -> &BTreeMap<Name, Pool> {
        &self.pools
    }

    /// Live leases.
    pub(crate) fn live(&self) -> usize {
        self.expiry.len() + self.held.len()
    }

    /// The lease without a hold that ends first by the lease clock.
    pub(crate) fn first_to_end(&self) -> Option<(u64, LeaseId)> {
        self.expiry.first().copied()
    }

    /// The first end on the lease clock, if some lease has one.
    pub(crate) fn first_led_end(&self) -> Option<u64> {
        self.expiry.first().map(|(at, _)| *at).filter(|at| *at != u64::MAX)
    }

    /// Live leases: those without a hold in order of their end, then the held ones in order of the
    /// end of their hold.
    pub(crate) fn leases(&self) -> impl Iterator<Item = LeaseId> + '_ {
        let held = self.held.iter().map(|(_, lease)| *lease);
        self.expiry.iter().map(|(_, lease)| *lease).chain(held)
    }

    /// The hold that lets go of its lease first: from which civil millisecond on.
    pub(crate) fn first_hold(&self) -> Option<(i64, LeaseId)> {
        self.held.first().copied()
    }

    /// Seats of held leases.
    pub(crate) fn held_seats(&self) -> u32 {
        self.held_in_use.iter().fold(0, |sum, seats| sum.saturating_add(*seats))
    }

    /// Seats of held leases of a class.
    pub(crate) fn held_of(&self, class: SeatClass) -> u32 {
        self.held_in_use[class as usize]
    }

    /// Borrowed seats.
    pub(crate) fn borrowed_seats(&self) -> u32 {
        self.borrowed
    }

    /// Whether validity is over at this civil time.
    pub(crate) fn is_expired(&self, civil_ms: i64) -> bool {
        civil_ms > self.terms.valid_until_ms
    }

    /// Whether it is revoked or its validity is over: then all its leases are due.
    pub(crate) fn is_over(&self, civil_ms: i64) -> bool {
        self.state == PackageState::Revoked || self.is_expired(civil_ms)
    }

    pub(crate) fn in_use(&self, class: SeatClass) -> u32 {
        match class {
            SeatClass::Commit => self.commit_in_use,
            SeatClass::Overage => self.overage_in_use,
        }
    }

    /// Seats out over both classes.
    pub(crate) fn total_in_use(&self) -> u32 {
        self.commit_in_use.saturating_add(self.overage_in_use)
    }

    /// Seats of a class that are there at this civil time.
    pub(crate) fn capacity(&self, class: SeatClass, civil_ms: i64) -> u32 {
        let valid = self.terms.sources.iter().filter(|source| {
            source.class == class
                && (source.valid_from_ms..=source.valid_until_ms).contains(&civil_ms)
        });
        valid.fold(0, |sum, source| sum.saturating_add(source.seats))
    }

    /// Seats of a class that are free at this civil time.
    pub(crate) fn free(&self, class: SeatClass, civil_ms: i64) -> u32 {
        let free = self.capacity(class, civil_ms).saturating_sub(self.in_use(class));
        // Of which class those are that are kept is not known.
        if self.reserved(civil_ms) == 0 { free } else { free.min(self.total_free(civil_ms)) }
    }

    /// Seats over both classes that are free at this civil time.
    pub(crate) fn total_free(&self, civil_ms: i64) -> u32 {
        let reserved = self.reserved(civil_ms);
        let there = if reserved == 0 { self.terms.total } else { self.seats_now(civil_ms) };
        there.saturating_sub(self.total_in_use()).saturating_sub(reserved)
    }

    /// Seats kept at this civil time for borrows that are not known.
    pub(crate) fn reserved(&self, civil_ms: i64) -> u32 {
        self.reserved.filter(|row| civil_ms <= row.until_ms).map_or(0, |row| row.seats)
    }

    /// The first civil millisecond at which no more are kept.
    pub(crate) fn reserved_until(&self, civil_ms: i64) -> Option<i64> {
        let row = self.reserved.filter(|row| civil_ms <= row.until_ms);
        row.map(|row| row.until_ms.saturating_add(1))
    }

    /// Share and use of a named pool, or of the unassigned seats.
    pub(crate) fn pool(&self, name: Option<&Name>) -> Option<Pool> {
        match name {
            Some(name) => self.pools.get(name).copied(),
            None => {
                let named = self.pools.values().fold(0, |sum: u32, pool| sum + pool.share);
                let share = self.terms.total.saturating_sub(named);
                Some(Pool { share, in_use: self.unassigned_in_use })
            }
        }
    }

    /// The class from whose seats more are out than there are at this civil time, if some of them
    /// can be taken back: no token outlives the seats it came from, but a hold does by its skew.
    pub(crate) fn overdrawn(&self, civil_ms: i64) -> Option<SeatClass> {
        [SeatClass::Commit, SeatClass::Overage].into_iter().find(|class| {
            self.is_overdrawn(*class, civil_ms) && self.in_use(*class) > self.held_of(*class)
        })
    }

    /// Whether more seats of a class are out than there are at this civil time.
    pub(crate) fn is_overdrawn(&self, class: SeatClass, civil_ms: i64) -> bool {
        self.in_use(class) > self.capacity(class, civil_ms)
    }

    /// Seats that can be out at this civil time, over both classes.
    pub(crate) fn seats_now(&self, civil_ms: i64) -> u32 {
        let commit = self.capacity(SeatClass::Commit, civil_ms);
        commit.saturating_add(self.capacity(SeatClass::Overage, civil_ms)).min(self.terms.total)
    }

    /// Last civil millisecond at which all seats of a class are there that are there now.
    pub(crate) fn seats_last_until_ms(&self, class: SeatClass, civil_ms: i64) -> i64 {
        let ends = self.terms.sources.iter().filter(|source| {
            source.class == class
                && (source.valid_from_ms..=source.valid_until_ms).contains(&civil_ms)
        });
        let first = ends.map(|source| source.valid_until_ms).min();
        first.map_or(self.terms.valid_until_ms, |end| end.min(self.terms.valid_until_ms))
    }

    /// What a lease of this package costs.
    pub(crate) fn cost(&self, class: SeatClass, quantity: u32) -> Option<Money> {
        match class {
            SeatClass::Commit => None,
            SeatClass::Overage => {
                let price = self.terms.pricing.overage_per_use.0;
                // Import refuses a price whose product with the largest quantity has no room.
                price.checked_mul(quantity.into()).map(Money)
            }
        }
    }

    /// The first civil millisecond at which some of its leases are due, if it has any: now when
    /// it is over or overdrawn, else when it, seats of it, or a hold end.
    pub(super) fn next_civil_due(&self, civil_ms: i64) -> Option<i64> {
        if self.live() == 0 {
            return None;
        }
        if self.is_over(civil_ms) || self.overdrawn(civil_ms).is_some() {
            return Some(i64::MIN);
        }
        let ends = self.terms.sources.iter().map(|source| source.valid_until_ms);
        let first = ends
            .chain([self.terms.valid_until_ms])
            .filter(|end| *end >= civil_ms)
            .min()
            .unwrap_or(self.terms.valid_until_ms);
        let hold = self.first_hold().map(|(at, _)| at);
        Some(hold.into_iter().fold(first.saturating_add(1), i64::min))
    }

    /// Moves a lease from the order of ends to that of holds.
    pub(super) fn hold(&mut self, lease: &Lease, hold: &HoldRow) {
        self.expiry.remove(&(lease.expires_led_ms(), lease.id()));
        self.held.insert((hold.free_at_ms(), lease.id()));
        self.held_in_use[lease.class() as usize] += lease.quantity();
        self.borrowed += if hold.borrowed { lease.quantity() } else { 0 };
    }

    /// Moves it back.
    pub(super) fn let_go(&mut self, lease: &Lease, hold: &HoldRow) {
        self.expiry.insert((lease.expires_led_ms(), lease.id()));
        self.held.remove(&(hold.free_at_ms(), lease.id()));
        self.held_in_use[lease.class() as usize] -= lease.quantity();
        self.borrowed -= if hold.borrowed { lease.quantity() } else { 0 };
    }

    /// Whether a lease stands in the order of holds, and there alone.
    pub(super) fn is_held_until(&self, at: i64, lease: &Lease) -> bool {
        self.held.contains(&(at, lease.id()))
            && !self.expiry.contains(&(lease.expires_led_ms(), lease.id()))
    }

    pub(super) fn take_seats(&mut self, lease: &Lease) {
        self.count_seats(lease);
        self.expiry.insert((lease.expires_led_ms(), lease.id()));
    }

    /// Counts a lease's seats as out; where it stands in the order of ends is the caller's affair.
    pub(super) fn count_seats(&mut self, lease: &Lease) {
        let seats = lease.quantity();
        *self.class_mut(lease.class()) += seats;
        *self.pool_mut(lease.pool()) += seats;
    }

    pub(super) fn free_seats(&mut self, lease: &Lease) {
        let seats = lease.quantity();
        *self.class_mut(lease.class()) -= seats;
        *self.pool_mut(lease.pool()) -= seats;
        self.expiry.remove(&(lease.expires_led_ms(), lease.id()));
    }

    fn class_mut(&mut self, class: SeatClass) -> &mut u32 {
        match class {
            SeatClass::Commit => &mut self.commit_in_use,
            SeatClass::Overage => &mut self.overage_in_use,
        }
    }

    fn pool_mut(&mut self, name: Option<&Name>) -> &mut u32 {
        match name {
            Some(name) => &mut self.pools.entry(name.clone()).or_default().in_use,
            None => &mut self.unassigned_in_use,
        }
    }
}
