//! Reading what is kept of offline use, the classic face and budgets.

use crate::ids::LeaseId;
use crate::ledger::Ledger;
use crate::money::Money;
use crate::offline::{ApiKeyRow, BorrowRules, BudgetRow, HoldRow, OfflineTerms};

impl Ledger {
    /// The tokens outstanding for a lease that is live; `None` when none can be.
    pub fn hold(&self, lease: LeaseId) -> Option<HoldRow> {
        let live = self.state.lease(lease).filter(|lease| !self.is_due(lease))?;
        self.state.hold(lease).filter(|_| self.is_kept(live)).copied()
    }

    /// What a package says of offline use; one that is not there says nothing.
    pub fn offline_terms(&self, package: &str) -> OfflineTerms {
        self.state.offline().terms(package).cloned().unwrap_or_default()
    }

    /// An operator's rules for borrowing from a package.
    pub fn borrow_rules(&self, package: &str) -> Option<&BorrowRules> {
        self.state.offline().rules(package)
    }

    /// Seats of a package that are borrowed, those included whose borrow is over by less than the
    /// skew.
    pub fn borrowed_seats(&self, package: &str) -> u32 {
        self.state.slot(package).map_or(0, |slot| self.state.at(slot).borrowed_seats())
    }

    /// Seats of a package for which some token may be outstanding, borrowed ones included.
    pub fn held_seats(&self, package: &str) -> u32 {
        self.state.slot(package).map_or(0, |slot| self.state.at(slot).held_seats())
    }

    /// A key of the classic face by its MAC.
    pub fn api_key_by_mac(&self, mac: &[u8; 32]) -> Option<&ApiKeyRow> {
        self.state.offline().api_key_by_mac(mac)
    }

    /// All keys of the classic face in order of id.
    pub fn api_keys(&self) -> impl Iterator<Item = &ApiKeyRow> {
        self.state.offline().api_keys().values()
    }

    /// What was charged to the present month for overage of a package, and the bound if there is
    /// one; `None`: no overage was ever charged, and no bound was ever set.
    pub fn budget(&self, package: &str) -> Option<BudgetRow> {
        self.budget_now(package)
    }

    /// What overage of a package has cost this month.
    pub fn overage_of_month(&self, package: &str) -> Money {
        self.state.slot(package).map_or(Money::default(), |slot| self.overage_of_month_at(slot))
    }
}
