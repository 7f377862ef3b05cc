//! Use and cost: what was used, what was refused, what it costs this month, what nobody uses.
//!
//! Every report is a page of a list, in JSON or as CSV (`format`, or the `Accept` header).

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::package::PackageState;
use super::pools::{PoolUsageView, long_cursor};
use super::{default_page, optional_count, page_items};
use crate::wire::{self, Money, UtcTime};

/// Days without use after which something counts as unused when nothing is asked.
pub const DEFAULT_UNUSED_DAYS: u32 = 30;
/// Most days that can be asked for: ten years.
pub const MAX_UNUSED_DAYS: u32 = 3_660;

/// In which form a report comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReportFormat {
    /// One JSON document.
    Json,
    /// Rows of text (RFC 4180), the first with the names of the columns. A cell that a spreadsheet
    /// would take for a formula begins with an apostrophe.
    Csv,
}

/// Query of `GET /admin/usage`, `/admin/usage/refusals` and `/admin/usage/costs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// Only this package.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub package_id: Option<String>,
    /// Where the last page ended (`next` of its answer, or its header `Leasehold-Next`).
    #[serde(default, deserialize_with = "long_cursor")]
    #[param(max_length = 520)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
    /// `json` or `csv`; what the `Accept` header says when left out.
    #[serde(default)]
    #[param(inline)]
    pub format: Option<ReportFormat>,
}

/// `GET /admin/usage/unused`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UnusedQuery {
    /// What was not taken from for so many days is unused; 30 when left out.
    #[serde(default, deserialize_with = "optional_count::<1, MAX_UNUSED_DAYS, _>")]
    #[param(minimum = 1, maximum = 3_660, example = 30)]
    pub days: Option<u32>,
    /// Where the last page ended (`next` of its answer, or its header `Leasehold-Next`).
    #[serde(default, deserialize_with = "long_cursor")]
    #[param(max_length = 520)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
    /// `json` or `csv`; what the `Accept` header says when left out.
    #[serde(default)]
    #[param(inline)]
    pub format: Option<ReportFormat>,
}

/// Use of packages, in order of package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageList {
    /// One page.
    pub packages: Vec<PackageUsage>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Use of a package since its import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackageUsage {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// Its product.
    #[schema(example = "davinci-configurator-se")]
    pub product_id: String,
    /// Its vendor.
    #[schema(example = "vector-de")]
    pub vendor_id: String,
    /// Whether seats can be taken.
    pub state: PackageState,
    /// Seats at most.
    #[schema(example = 20)]
    pub seats: u32,
    /// Seats out now.
    #[schema(example = 7)]
    pub in_use: u32,
    /// Most seats that were out at once.
    #[schema(example = 18)]
    pub peak: u32,
    /// When that was so, where it is known: the peaks of pools are timed, and that of the package
    /// is one of them or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_at: Option<UtcTime>,
    /// Leases granted from commit seats.
    #[schema(example = 512)]
    pub granted_commit: u64,
    /// Leases granted from overage seats.
    #[schema(example = 12)]
    pub granted_overage: u64,
    /// Leases given back by their holders.
    #[schema(example = 498)]
    pub returned: u64,
    /// Leases that ran out.
    #[schema(example = 17)]
    pub expired: u64,
    /// Leases taken back by operators, or ended with the package.
    #[schema(example = 2)]
    pub released: u64,
    /// When a seat was taken last, from any pool that is there; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_taken_at: Option<UtcTime>,
    /// Its pools: the unassigned seats, then the others in order of name.
    pub pools: Vec<PoolUse>,
}

/// Use of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolUse {
    /// Its name; absent for the unassigned seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "team-a")]
    pub pool: Option<String>,
    /// Its share.
    #[schema(example = 5)]
    pub seats: u32,
    /// Seats out now.
    #[schema(example = 2)]
    pub in_use: u32,
    /// How much it was used.
    pub usage: PoolUsageView,
}

/// Refusals, in order of package and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusalList {
    /// One page.
    pub refusals: Vec<RefusalCount>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How often the ledger refused something. What a node refuses by itself (a wrong token, a body
/// that does not read) is counted in that node's metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusalCount {
    /// The package; absent where none that is known was concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: Option<String>,
    /// Why, as in the metrics.
    #[schema(example = "max_overage_exceeded")]
    pub reason: String,
    /// How often, since the cluster was founded.
    #[schema(example = 3)]
    pub count: u64,
}

/// What packages cost this month, in order of package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CostList {
    /// The calendar month in UTC.
    #[schema(example = "2026-11", pattern = "^[0-9]{4}-[0-9]{2}$")]
    pub month: String,
    /// One page.
    pub packages: Vec<PackageCost>,
    /// Sums over all packages that were asked for, on all pages, in order of currency.
    pub totals: Vec<CurrencyTotal>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a package costs this month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PackageCost {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// Its product.
    #[schema(example = "davinci-configurator-se")]
    pub product_id: String,
    /// Whether seats can be taken. A fee is due while a package is valid, suspended or not.
    pub state: PackageState,
    /// ISO 4217 code of the amounts.
    #[schema(example = "EUR")]
    pub currency: String,
    /// The month's fee for the commit seats, whole; 0 where the package is not valid in the part of
    /// the month that has passed.
    pub commit_fee: Money,
    /// Overage charged so far this month.
    pub overage: Money,
    /// Bound of the month's overage; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage_limit: Option<Money>,
    /// Fee and overage.
    pub total: Money,
}

/// Sums in one currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CurrencyTotal {
    /// ISO 4217 code.
    #[schema(example = "EUR")]
    pub currency: String,
    /// Fees.
    pub commit_fee: Money,
    /// Overage.
    pub overage: Money,
    /// Both.
    pub total: Money,
}

/// What nobody uses: packages with their pools in order of name, then licenses in order of id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnusedList {
    /// The days that were asked for.
    #[schema(example = 30)]
    pub days: u32,
    /// One page; it may be empty and not the last.
    pub unused: Vec<UnusedView>,
    /// What the report cannot know.
    pub note: String,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What kind of thing is unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnusedKind {
    /// A package: no seat of it is out, and none was taken.
    Package,
    /// A named pool, likewise, of a package that is used.
    Pool,
    /// A license key: nothing is active under it, and nothing was activated.
    License,
}

/// Something in force that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnusedView {
    /// What it is.
    pub kind: UnusedKind,
    /// The package, of a pool or license too.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// The pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "team-a")]
    pub pool: Option<String>,
    /// The license.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_id: Option<String>,
    /// Seats of the package or pool; absent for a license.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 5)]
    pub seats: Option<u32>,
    /// When it was taken from last; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<UtcTime>,
    /// When the package was imported, or the license issued.
    pub since: UtcTime,
}
