//! Reports: what was used, refused and paid for, and what nobody uses; in JSON or as CSV.
//!
//! A report is a page like those of other lists. As CSV, which has no place for it, the header
//! `Leasehold-Next` says where the page ended.

pub(crate) mod costs;
pub(crate) mod unused;

use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, StatusCode};
use lease::PackageView;
use lease::ids::Name;
use protocol::cloud::admin::{
    PackageUsage, PageQuery, PoolUse, RefusalCount, RefusalList, ReportFormat, UsageList,
    UsageQuery,
};
use protocol::csv;
use protocol::wire::UtcTime;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::paged;
use super::pools::{by_pair, usage_view};
use crate::call::Call;
use crate::failure::Failure;
use crate::metrics::snake_case;
use crate::reply::Reply;
use crate::shared::{Read, Shared};
use crate::view;

/// Where a page that is CSV ended.
const NEXT: HeaderName = HeaderName::from_static("leasehold-next");

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    UsageQuery::into_params(|| None)
}

/// `GET /admin/usage`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: UsageQuery = call.query()?;
    let ledger = shared.read(call).await?;
    let (packages, next) = page(&ledger, &query);
    let packages = packages.iter().map(|package| usage_of(&ledger, package)).collect();
    let list = UsageList { packages, next };
    Ok(answer(form(call, query.format), &list, list.next.as_deref(), &USAGE_COLUMNS, || {
        list.packages.iter().flat_map(rows_of).collect()
    }))
}

/// `GET /admin/usage/refusals`
pub(crate) async fn refusals(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: UsageQuery = call.query()?;
    let ledger = shared.read(call).await?;
    let only = query.package_id.as_deref();
    let asked =
        ledger.refusals().filter(|(package, ..)| only.is_none_or(|only| ***package == *only));
    let mut counts: Vec<(Name, String, u64)> = asked
        .map(|(package, code, count)| (package.clone(), snake_case(&format!("{code:?}")), count))
        .collect();
    counts.sort_unstable();
    let (counts, next) = by_pair(
        counts.into_iter(),
        query.cursor.as_deref(),
        query.limit,
        |(package, reason, _)| (package.to_string(), reason.clone()),
    );
    let refusals = counts.into_iter().map(|(package, reason, count)| RefusalCount {
        package_id: Some(package.to_string()).filter(|package| !package.is_empty()),
        reason,
        count,
    });
    let list = RefusalList { refusals: refusals.collect(), next };
    Ok(answer(form(call, query.format), &list, list.next.as_deref(), &REFUSAL_COLUMNS, || {
        let row = |it: &RefusalCount| {
            vec![it.package_id.clone().unwrap_or_default(), it.reason.clone(), it.count.to_string()]
        };
        list.refusals.iter().map(row).collect()
    }))
}

/// A page of the packages that are asked for.
fn page<'a>(ledger: &'a Read<'_>, query: &UsageQuery) -> (Vec<PackageView<'a>>, Option<String>) {
    let only = query.package_id.as_deref();
    let packages =
        ledger.packages().filter(|package| only.is_none_or(|only| *package.terms.package == *only));
    let page = PageQuery { cursor: query.cursor.clone(), limit: query.limit };
    paged::by_name(packages, &page, |package| package.terms.package.to_string())
}

fn usage_of(ledger: &Read<'_>, package: &PackageView<'_>) -> PackageUsage {
    let (terms, seats, counters) = (package.terms, package.seats(), package.counters);
    let pools: Vec<PoolUse> = seats
        .pools
        .iter()
        .map(|pool| PoolUse {
            pool: pool.pool.as_ref().map(|pool| pool.to_string()),
            seats: pool.share,
            in_use: pool.in_use,
            usage: usage_view(ledger.pool_usage(&terms.package, pool.pool.as_ref())),
        })
        .collect();
    // A pool that had as many seats out as the package ever had, had all of them.
    let peak = counters.peak_concurrent;
    let peak_at = pools.iter().filter(|pool| pool.usage.peak == peak);
    PackageUsage {
        package_id: terms.package.to_string(),
        product_id: terms.product.to_string(),
        vendor_id: terms.vendor.to_string(),
        state: view::package_state(package),
        seats: terms.total,
        in_use: seats.commit_in_use.saturating_add(seats.overage_in_use),
        peak,
        peak_at: peak_at.filter_map(|pool| pool.usage.peak_at).min(),
        granted_commit: counters.commit_checkouts,
        granted_overage: counters.overage_checkouts,
        returned: counters.returned,
        expired: counters.expired,
        released: counters.released,
        last_taken_at: pools.iter().filter_map(|pool| pool.usage.last_taken_at).max(),
        pools,
    }
}

/// A row for the package, then one for each of its pools.
fn rows_of(package: &PackageUsage) -> Vec<Vec<String>> {
    let count = |number: u64| number.to_string();
    let granted = package.granted_commit.saturating_add(package.granted_overage);
    let mut rows = vec![vec![
        package.package_id.clone(),
        package.product_id.clone(),
        "package".to_owned(),
        String::new(),
        package.seats.to_string(),
        package.in_use.to_string(),
        package.peak.to_string(),
        time(package.peak_at),
        count(granted),
        count(package.granted_commit),
        count(package.granted_overage),
        count(package.returned),
        count(package.expired),
        count(package.released),
        time(package.last_taken_at),
    ]];
    for pool in &package.pools {
        let scope = if pool.pool.is_some() { "pool" } else { "unassigned" };
        let mut row = vec![
            package.package_id.clone(),
            package.product_id.clone(),
            scope.to_owned(),
            pool.pool.clone().unwrap_or_default(),
            pool.seats.to_string(),
            pool.in_use.to_string(),
            pool.usage.peak.to_string(),
            time(pool.usage.peak_at),
            count(pool.usage.granted),
        ];
        // How its leases ended is counted for the package.
        row.resize(USAGE_COLUMNS.len() - 1, String::new());
        row.push(time(pool.usage.last_taken_at));
        rows.push(row);
    }
    rows
}

/// The form that a call asks for: its query's word, else the first that its `Accept` header names.
fn form(call: &Call, asked: Option<ReportFormat>) -> ReportFormat {
    asked.unwrap_or_else(|| accepted(call.header(ACCEPT.as_str()).unwrap_or_default()))
}

fn accepted(header: &str) -> ReportFormat {
    let mut types = header.split(',').filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        match parts.next()?.to_ascii_lowercase().as_str() {
            "text/csv" => Some(ReportFormat::Csv),
            "application/json" | "application/*" | "*/*" => Some(ReportFormat::Json),
            _ => None,
        }
    });
    types.next().unwrap_or(ReportFormat::Json)
}

/// A report in one form or the other.
fn answer<T: Serialize>(
    form: ReportFormat,
    list: &T,
    next: Option<&str>,
    columns: &[&str],
    rows: impl FnOnce() -> Vec<Vec<String>>,
) -> Reply {
    if form == ReportFormat::Json {
        return Reply::ok(list);
    }
    let text = csv::table(columns, rows());
    let media_type = HeaderValue::from_static(csv::MEDIA_TYPE);
    let reply = Reply::new(StatusCode::OK, media_type, text.into_bytes());
    match next.and_then(|next| HeaderValue::from_str(next).ok()) {
        Some(next) => reply.header(NEXT, next),
        None => reply,
    }
}

fn time(at: Option<UtcTime>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

const USAGE_COLUMNS: [&str; 15] = [
    "package_id",
    "product_id",
    "scope",
    "pool",
    "seats",
    "in_use",
    "peak",
    "peak_at",
    "granted",
    "granted_commit",
    "granted_overage",
    "returned",
    "expired",
    "released",
    "last_taken_at",
];

const REFUSAL_COLUMNS: [&str; 3] = ["package_id", "reason", "count"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_accepted_is_given() {
        for (header, want) in [
            ("", ReportFormat::Json),
            ("*/*", ReportFormat::Json),
            ("text/csv", ReportFormat::Csv),
            ("Text/CSV; charset=utf-8", ReportFormat::Csv),
            ("text/html, text/csv;q=0.9, */*;q=0.1", ReportFormat::Csv),
            ("application/json, text/csv", ReportFormat::Json),
            ("text/html", ReportFormat::Json),
        ] {
            assert_eq!(accepted(header), want, "{header:?}");
        }
    }
}
