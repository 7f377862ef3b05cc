//! Offline use in memory: tokens outstanding, what packages and operators say of it, keys and
//! budgets.
//!
//! A lease with a hold leaves the orders in which ordinary leases become due (its package's order
//! of ends on the lease clock, the order of own civil ends) and stands in its package's order of
//! holds instead, until the hold is taken away. So a held lease is never in a sweep's way, and
//! where a lease stands follows from its rows alone, not from when it was looked at: a replica that
//! restarts sweeps in the same order. A second order of held leases, by their end on the lease
//! clock, says until when that clock matters to them.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{ApiKeyId, LeaseId, Name};
use crate::offline::{ApiKeyRow, BorrowRules, BudgetRow, HoldRow, OfflineTerms};
use crate::rows::{LoadError, RowKey, encode_value, table};

use super::State;
use super::load::RowBytes;

/// Tables 29 to 31, 33 and 34.
#[derive(Debug, Default)]
pub(crate) struct Offline {
    holds: BTreeMap<LeaseId, HoldRow>,
    /// Held leases by their end on the lease clock.
    led_ends: BTreeSet<(u64, LeaseId)>,
    terms: BTreeMap<Name, OfflineTerms>,
    rules: BTreeMap<Name, BorrowRules>,
    api_keys: BTreeMap<ApiKeyId, ApiKeyRow>,
    api_key_by_mac: BTreeMap<[u8; 32], ApiKeyId>,
    budgets: BTreeMap<Name, BudgetRow>,
}

/// Reading.
impl Offline {
    /// All holds in order of lease, those included that are over and were not swept.
    pub(crate) fn holds(&self) -> &BTreeMap<LeaseId, HoldRow> {
        &self.holds
    }

    /// What a package says of offline use, if anything.
    pub(crate) fn terms(&self, package: &str) -> Option<&OfflineTerms> {
        self.terms.get(package)
    }

    pub(crate) fn rules(&self, package: &str) -> Option<&BorrowRules> {
        self.rules.get(package)
    }

    /// Every operator's rules, by package.
    pub(crate) fn all_rules(&self) -> &BTreeMap<Name, BorrowRules> {
        &self.rules
    }

    pub(crate) fn api_keys(&self) -> &BTreeMap<ApiKeyId, ApiKeyRow> {
        &self.api_keys
    }

    pub(crate) fn api_key_by_mac(&self, mac: &[u8; 32]) -> Option<&ApiKeyRow> {
        self.api_keys.get(self.api_key_by_mac.get(mac)?)
    }

    /// As stored: of the month of its last change.
    pub(crate) fn budget(&self, package: &str) -> Option<&BudgetRow> {
        self.budgets.get(package)
    }

    /// The first end of a held lease on the lease clock that is still to come.
    pub(crate) fn next_led_end(&self, led_ms: u64) -> Option<u64> {
        let next = self.led_ends.range((led_ms.saturating_add(1), LOWEST)..).next();
        next.map(|(at, _)| *at).filter(|at| *at != u64::MAX)
    }

    /// Present value of a row.
    pub(super) fn row_value(&self, key: &RowKey) -> Option<Vec<u8>> {
        match key {
            RowKey::Hold(lease) => self.holds.get(lease).map(encode_value),
            RowKey::OfflineTerms(package) => self.terms.get(package).map(encode_value),
            RowKey::BorrowRules(package) => self.rules.get(package).map(encode_value),
            RowKey::ApiKey(key) => self.api_keys.get(key).map(encode_value),
            RowKey::Budget(package) => self.budgets.get(package).map(encode_value),
            _ => None,
        }
    }

    /// Takes a stored row in.
    pub(super) fn load(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        let name = || std::str::from_utf8(row.key).map(Name::from).map_err(|_| row.wrong_key());
        match row.table {
            table::HOLD => {
                let hold: HoldRow = row.read()?;
                row.check(&RowKey::Hold(hold.lease))?;
                row.hold(self.holds.insert(hold.lease, hold).is_none())
            }
            table::OFFLINE_TERMS => row.hold(self.terms.insert(name()?, row.read()?).is_none()),
            table::BORROW_RULES => row.hold(self.rules.insert(name()?, row.read()?).is_none()),
            table::API_KEY => {
                let key: ApiKeyRow = row.read()?;
                row.check(&RowKey::ApiKey(key.key))?;
                self.api_key_by_mac.insert(key.mac, key.key);
                row.hold(self.api_keys.insert(key.key, key).is_none())
            }
            table::BUDGET => row.hold(self.budgets.insert(name()?, row.read()?).is_none()),
            unknown => Err(LoadError::UnknownTable(unknown)),
        }
    }
}

/// Holds.
impl State {
    pub(crate) fn offline(&self) -> &Offline {
        &self.offline
    }

    /// The tokens outstanding for a lease, those included that have run out and were not swept.
    pub(crate) fn hold(&self, lease: LeaseId) -> Option<&HoldRow> {
        // Few leases are held where no package may be used offline.
        if self.offline.holds.is_empty() { None } else { self.offline.holds.get(&lease) }
    }

    /// Holds a live lease, or changes how it is held.
    pub(crate) fn put_hold(&mut self, hold: HoldRow) {
        self.touch(RowKey::Hold(hold.lease));
        if let Some(before) = self.offline.holds.remove(&hold.lease) {
            self.unindex_hold(&before);
        }
        let found = self.index_hold(&hold);
        assert!(found, "only a live lease is held");
        self.offline.holds.insert(hold.lease, hold);
        if let Some(slot) = self.leases.get(hold.lease).map(|lease| lease.package) {
            self.reindex(slot);
        }
    }

    /// Lets go of a lease: from here on it ends as any other does.
    pub(crate) fn remove_hold(&mut self, lease: LeaseId) -> Option<HoldRow> {
        self.hold(lease)?;
        self.touch(RowKey::Hold(lease));
        let hold = self.offline.holds.remove(&lease)?;
        self.unindex_hold(&hold);
        if let Some(slot) = self.leases.get(lease).map(|lease| lease.package) {
            self.reindex(slot);
        }
        Some(hold)
    }

    /// Moves the end of a held lease in its order.
    pub(super) fn move_held(&mut self, lease: LeaseId, before_ms: u64, after_ms: u64) {
        self.offline.led_ends.remove(&(before_ms, lease));
        self.offline.led_ends.insert((after_ms, lease));
    }

    /// Indexes all holds that were loaded; whether each has its lease.
    pub(super) fn index_loaded_holds(&mut self) -> bool {
        let holds: Vec<HoldRow> = self.offline.holds.values().copied().collect();
        holds.iter().all(|hold| self.index_hold(hold))
    }

    fn index_hold(&mut self, hold: &HoldRow) -> bool {
        let Some(lease) = self.leases.set_held(hold.lease, true) else { return false };
        let expires_led_ms = lease.expires_led_ms;
        self.packages[lease.package as usize].hold(lease, hold);
        self.offline.led_ends.insert((expires_led_ms, hold.lease));
        true
    }

    fn unindex_hold(&mut self, hold: &HoldRow) {
        let Some(lease) = self.leases.set_held(hold.lease, false) else { return };
        let expires_led_ms = lease.expires_led_ms;
        self.packages[lease.package as usize].let_go(lease, hold);
        self.offline.led_ends.remove(&(expires_led_ms, hold.lease));
    }

    /// Whether each hold has a live lease that knows of it and stands in the right orders, and
    /// packages count exactly the seats that are held and borrowed.
    pub(crate) fn holds_are_indexed(&self) -> bool {
        let mut counted: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        let right = self.offline.holds.values().all(|hold| {
            let Some(lease) = self.leases.get(hold.lease) else { return false };
            let (held, borrowed) = counted.entry(lease.package).or_default();
            *held += lease.quantity;
            *borrowed += if hold.borrowed { lease.quantity } else { 0 };
            lease.is_held()
                && self.at(lease.package).is_held_until(hold.free_at_ms(), lease)
                && self.offline.led_ends.contains(&(lease.expires_led_ms, hold.lease))
        });
        let counts = (0..).zip(&self.packages).all(|(slot, package)| {
            let sums = counted.get(&slot).copied().unwrap_or_default();
            sums == (package.held_seats(), package.borrowed_seats())
        });
        right && counts && self.offline.led_ends.len() == self.offline.holds.len()
    }
}

/// What packages and operators say, keys, budgets.
impl State {
    pub(crate) fn put_offline_terms(&mut self, package: &Name, terms: OfflineTerms) {
        self.touch(RowKey::OfflineTerms(package.clone()));
        self.offline.terms.insert(package.clone(), terms);
    }

    /// Sets an operator's rules; `None` removes them.
    pub(crate) fn put_borrow_rules(&mut self, package: &Name, rules: Option<BorrowRules>) {
        self.touch(RowKey::BorrowRules(package.clone()));
        match rules {
            Some(rules) => self.offline.rules.insert(package.clone(), rules),
            None => self.offline.rules.remove(package),
        };
    }

    pub(crate) fn put_api_key(&mut self, key: ApiKeyRow) {
        self.touch(RowKey::ApiKey(key.key));
        self.offline.api_key_by_mac.insert(key.mac, key.key);
        self.offline.api_keys.insert(key.key, key);
    }

    pub(crate) fn remove_api_key(&mut self, key: ApiKeyId) {
        self.touch(RowKey::ApiKey(key));
        if let Some(key) = self.offline.api_keys.remove(&key) {
            self.offline.api_key_by_mac.remove(&key.mac);
        }
    }

    pub(crate) fn put_budget(&mut self, package: &Name, budget: BudgetRow) {
        self.touch(RowKey::Budget(package.clone()));
        self.offline.budgets.insert(package.clone(), budget);
    }

    pub(crate) fn api_keys_are_indexed(&self) -> bool {
        self.offline.api_key_by_mac.len() == self.offline.api_keys.len()
    }
}

/// Sorts before every lease.
const LOWEST: LeaseId = LeaseId { group: 0, random: [0; 10] };
