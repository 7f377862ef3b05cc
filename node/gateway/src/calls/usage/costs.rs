//! What packages cost this month: the fee for commit seats, and overage.
//!
//! The month is that of the time shown. The ledger charges overage to the month of its own clock,
//! which stands still while nothing is written: where it shows an earlier month, nothing was
//! charged in this one yet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lease::PackageView;
use protocol::cloud::admin::{CostList, CurrencyTotal, PackageCost, UsageQuery};
use protocol::wire::Money;
use rust_decimal::Decimal;

use super::{answer, form, page};
use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::{Read, Shared};
use crate::view;

/// `GET /admin/usage/costs`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: UsageQuery = call.query()?;
    let ledger = shared.read(call).await?;
    let now_ms = shared.context.cluster.displayed_civil_ms().max(ledger.clock().civil_ms);
    let month = Month::of(now_ms).ok_or_else(|| Failure::internal("the clock shows no month"))?;
    let only = query.package_id.as_deref();
    let all =
        ledger.packages().filter(|package| only.is_none_or(|only| *package.terms.package == *only));
    let totals = totals(all.map(|package| cost_of(&ledger, &month, &package)));
    let (packages, next) = page(&ledger, &query);
    let packages = packages.iter().map(|package| cost_of(&ledger, &month, package)).collect();
    let list = CostList { month: month.name, packages, totals, next };
    Ok(answer(form(call, query.format), &list, list.next.as_deref(), &COLUMNS, || {
        list.packages.iter().map(|package| row_of(&list.month, package)).collect()
    }))
}

/// A calendar month in UTC that has begun.
struct Month {
    name: String,
    begins_ms: i64,
    now_ms: i64,
}

impl Month {
    fn of(now_ms: i64) -> Option<Self> {
        let first = month_of(now_ms)?;
        let begins = first.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let name = format!("{:04}-{:02}", first.year(), first.month());
        Some(Self { name, begins_ms: begins.as_millisecond(), now_ms })
    }
}

/// The first day of a time's month.
fn month_of(ms: i64) -> Option<Date> {
    let time = Timestamp::from_millisecond(ms).ok()?;
    Some(time.to_zoned(TimeZone::UTC).date().first_of_month())
}

fn cost_of(ledger: &Read<'_>, month: &Month, package: &PackageView<'_>) -> PackageCost {
    let terms = package.terms;
    let is_due = terms.valid_from_ms <= month.now_ms && terms.valid_until_ms >= month.begins_ms;
    let fee = if is_due { terms.pricing.commit_fee_monthly.0 } else { Decimal::ZERO };
    let is_charged = ledger.clock().civil_ms >= month.begins_ms;
    let overage =
        if is_charged { ledger.overage_of_month(&terms.package).0 } else { Decimal::ZERO };
    PackageCost {
        package_id: terms.package.to_string(),
        product_id: terms.product.to_string(),
        state: view::package_state(package),
        currency: terms.pricing.currency.to_string(),
        commit_fee: Money(fee),
        overage: Money(overage),
        overage_limit: ledger
            .budget(&terms.package)
            .and_then(|budget| budget.max_spend)
            .map(|bound| Money(bound.0)),
        total: Money(fee.saturating_add(overage)),
    }
}

/// Sums by currency.
fn totals(costs: impl Iterator<Item = PackageCost>) -> Vec<CurrencyTotal> {
    let mut sums: BTreeMap<String, (Decimal, Decimal)> = BTreeMap::new();
    for cost in costs {
        let (fees, overage) = sums.entry(cost.currency).or_default();
        *fees = fees.saturating_add(cost.commit_fee.0);
        *overage = overage.saturating_add(cost.overage.0);
    }
    let total = |(currency, (fees, overage)): (String, (Decimal, Decimal))| CurrencyTotal {
        currency,
        commit_fee: Money(fees),
        overage: Money(overage),
        total: Money(fees.saturating_add(overage)),
    };
    sums.into_iter().map(total).collect()
}

fn row_of(month: &str, cost: &PackageCost) -> Vec<String> {
    let amount = |money: Money| money.0.to_string();
    vec![
        month.to_owned(),
        cost.package_id.clone(),
        cost.product_id.clone(),
        cost.currency.clone(),
        amount(cost.commit_fee),
        amount(cost.overage),
        cost.overage_limit.map(amount).unwrap_or_default(),
        amount(cost.total),
    ]
}

const COLUMNS: [&str; 8] = [
    "month",
    "package_id",
    "product_id",
    "currency",
    "commit_fee",
    "overage",
    "overage_limit",
    "total",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_their_first_day() {
        for (now_ms, name, begins_ms) in [
            (0, "1970-01", 0),
            (1_767_225_599_999, "2025-12", 1_764_547_200_000),
            (1_767_225_600_000, "2026-01", 1_767_225_600_000),
            (1_772_323_200_000, "2026-03", 1_772_323_200_000),
            (1_772_323_199_999, "2026-02", 1_769_904_000_000),
        ] {
            let month = Month::of(now_ms).expect("a month");
            assert_eq!((month.name.as_str(), month.begins_ms), (name, begins_ms), "{now_ms}");
        }
    }

    #[test]
    fn sums_are_kept_apart_by_currency() {
        let cost = |currency: &str, fee: i64, overage: i64| PackageCost {
            package_id: "p".to_owned(),
            product_id: "q".to_owned(),
            state: protocol::cloud::admin::PackageState::Active,
            currency: currency.to_owned(),
            commit_fee: Money(fee.into()),
            overage: Money(overage.into()),
            overage_limit: None,
            total: Money((fee + overage).into()),
        };
        let all = [cost("USD", 7, 0), cost("EUR", 10, 5), cost("EUR", 1, 2)];
        let sums: Vec<_> = totals(all.into_iter())
            .into_iter()
            .map(|sum| (sum.currency, sum.commit_fee.0, sum.overage.0, sum.total.0))
            .collect();
        let row = |currency: &str, fee: i64, overage: i64| {
            let (fee, overage) = (Decimal::from(fee), Decimal::from(overage));
            (currency.to_owned(), fee, overage, fee + overage)
        };
        assert_eq!(sums, [row("EUR", 11, 7), row("USD", 7, 0)]);
    }
}
