//! What overage of a package may cost in a calendar month (UTC, by the civil clock).
//!
//! Every overage grant is charged to the month in which it falls, whoever took the seat and whether
//! or not there is a bound: what the month has cost so far is asked of every package. A new month
//! begins at zero with the first charge in it; until then the stored row is of an earlier month and
//! counts as nothing. A state from before grants without a bound were charged by month begins with
//! what is known of the month.

use rust_decimal::Decimal;

use crate::apply::seat::seats_for;
use crate::apply::{Context, Decision, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::ledger::Ledger;
use crate::money::Money;
use crate::offline::{BudgetRow, SetBudget};
use crate::outcome::Outcome;
use crate::record::Event;

impl Ledger {
    pub(super) fn set_budget(&mut self, context: &Context, set: &SetBudget) -> Decision {
        let slot = self.package_slot(&set.package)?;
        within(set.max_spend.is_none_or(|bound| !bound.0.is_sign_negative()))?;
        let package = self.state.at(slot).terms().package.clone();
        let present = self.budget_now(&package);
        if present.and_then(|budget| budget.max_spend) == set.max_spend {
            return Ok(Outcome::Unchanged);
        }
        let charged = self.overage_of_month_at(slot);
        let month = month_of(self.clock().civil_ms);
        let row = BudgetRow { month, charged, max_spend: set.max_spend };
        self.state.put_budget(&package, row);
        let detail = AuditDetail::Budget { max_spend: set.max_spend };
        let event = Event::of_package(AuditKind::BudgetSet, &package, detail);
        self.record(&context.origin, event);
        Ok(Outcome::Done)
    }

    /// A package's budget as of the civil clock.
    pub(crate) fn budget_now(&self, package: &str) -> Option<BudgetRow> {
        let stored = *self.state.offline().budget(package)?;
        let month = month_of(self.clock().civil_ms);
        let charged = if stored.month == month { stored.charged } else { Money::default() };
        Some(BudgetRow { month, charged, ..stored })
    }

    /// What overage of a package has cost this month. Without a row nothing was charged by month:
    /// it is all that was ever charged where the package came this month, else what is still out.
    pub(crate) fn overage_of_month_at(&self, slot: u32) -> Money {
        let package = self.state.at(slot);
        if let Some(budget) = self.budget_now(&package.terms().package) {
            return budget.charged;
        }
        let month = month_of(self.clock().civil_ms);
        if month_of(package.imported_at_ms()) == month {
            return package.usage().overage_charged;
        }
        let out = package.leases().filter_map(|id| self.state.lease(id));
        let of_month = out.filter(|lease| month_of(lease.granted_at_ms()) == month);
        let costs = of_month.filter_map(|lease| package.cost(lease.class(), lease.quantity()));
        costs.fold(Money::default(), |Money(sum), Money(cost)| Money(sum.saturating_add(cost)))
    }

    /// Overage seats that the budget of a package pays for now.
    pub(crate) fn payable_overage(&self, slot: u32) -> u32 {
        let terms = self.state.at(slot).terms();
        let Some(budget) = self.budget_now(&terms.package) else { return u32::MAX };
        let Some(Money(bound)) = budget.max_spend else { return u32::MAX };
        seats_for(Money(bound.saturating_sub(budget.charged.0)), terms.pricing.overage_per_use)
    }

    /// Charges an overage grant, which the package's counters hold already, to the present month.
    pub(crate) fn charge_budget(&mut self, slot: u32, cost: Decimal) {
        let package = self.state.at(slot).terms().package.clone();
        if cost.is_zero() {
            return;
        }
        let row = match self.budget_now(&package) {
            Some(budget) => {
                BudgetRow { charged: Money(budget.charged.0.saturating_add(cost)), ..budget }
            }
            None => BudgetRow {
                month: month_of(self.clock().civil_ms),
                charged: self.overage_of_month_at(slot),
                max_spend: None,
            },
        };
        self.state.put_budget(&package, row);
    }

    /// First civil millisecond of the next month.
    pub(crate) fn next_month_ms(&self) -> i64 {
        first_ms_of(month_of(self.clock().civil_ms).saturating_add(1))
    }
}

/// The calendar month of a civil time: `12 * year + month - 1`, in the proleptic Gregorian
/// calendar. Years are counted from March, so that the leap day is a year's last.
fn month_of(civil_ms: i64) -> i32 {
    let day = civil_ms.div_euclid(DAY_MS) + MARCH_OF_YEAR_0;
    let (era, day) = (day.div_euclid(ERA_DAYS), day.rem_euclid(ERA_DAYS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    i32::try_from(12 * (400 * era + year) + month + 2).unwrap_or(i32::MAX)
}

/// First civil millisecond of a month.
fn first_ms_of(month: i32) -> i64 {
    let month = i64::from(month) - 2;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12));
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day = 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5;
    (era * ERA_DAYS + day - MARCH_OF_YEAR_0).saturating_mul(DAY_MS)
}

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Days of 400 years.
const ERA_DAYS: i64 = 146_097;
/// Days from March 1st of the year 0 to January 1st 1970.
const MARCH_OF_YEAR_0: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_where_the_calendar_says() {
        for (civil_ms, year, month) in [
            (0, 1970, 1),
            (-1, 1969, 12),
            (951_782_400_000, 2000, 2), // 2000-02-29T00:00:00Z
            (951_868_799_999, 2000, 2), // its last millisecond
            (951_868_800_000, 2000, 3), // 2000-03-01T00:00:00Z
            (1_767_225_599_999, 2025, 12),
            (1_767_225_600_000, 2026, 1), // 2026-01-01T00:00:00Z
            (4_107_542_399_999, 2100, 2), // 2100-02-28T23:59:59.999Z, not a leap year
            (4_107_542_400_000, 2100, 3),
        ] {
            assert_eq!(month_of(civil_ms), 12 * year + month - 1, "{civil_ms}");
        }
        for month in 12 * 1960..12 * 2110 {
            let first = first_ms_of(month);
            assert_eq!((month_of(first - 1), month_of(first)), (month - 1, month));
        }
    }
}
