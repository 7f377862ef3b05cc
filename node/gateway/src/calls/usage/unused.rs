//! What is in force and nobody uses: packages, pools, license keys.
//!
//! Something is unused when no seat of it is out, none was taken for the days asked for, and it is
//! as old. When a pool was made is not known: it is as old as its package.

use lease::ids::LicenseId;
use lease::license::{LicenseRow, LicenseState};
use lease::{PackageState, PackageView};
use protocol::cloud::admin::{
    DEFAULT_UNUSED_DAYS, UnusedKind, UnusedList, UnusedQuery, UnusedView,
};
use protocol::wire::UtcTime;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::{answer, form, time};
use crate::call::Call;
use crate::calls::pools::{by_pair, usage_view};
use crate::failure::Failure;
use crate::licensing::{parse_uuid, uuid_text};
use crate::reply::Reply;
use crate::shared::{Read, Shared};

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    UnusedQuery::into_params(|| None)
}

/// `GET /admin/usage/unused`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: UnusedQuery = call.query()?;
    let start = Start::of(query.cursor.as_deref())?;
    let days = query.days.unwrap_or(DEFAULT_UNUSED_DAYS);
    let ledger = shared.read(call).await?;
    let now_ms = shared.context.cluster.displayed_civil_ms().max(ledger.clock().civil_ms);
    let before_ms = now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
    let (unused, next) = page(&ledger, before_ms, start, query.limit);
    let list = UnusedList { days, unused, note: NOTE.to_owned(), next };
    Ok(answer(form(call, query.format), &list, list.next.as_deref(), &COLUMNS, || {
        list.unused.iter().map(row_of).collect()
    }))
}

/// Where a page begins.
enum Start {
    /// Among the packages, after this pair of package and pool.
    Packages(Option<String>),
    /// Among the licenses, after this one.
    Licenses(Option<LicenseId>),
}

impl Start {
    fn of(cursor: Option<&str>) -> Result<Self, Failure> {
        let wrong = || Failure::field("cursor", "not where a page of ours ended");
        let Some(cursor) = cursor else { return Ok(Self::Packages(None)) };
        if let Some(pair) = cursor.strip_prefix(PACKAGES) {
            return Ok(Self::Packages(Some(pair.to_owned())));
        }
        match cursor.strip_prefix(LICENSES).ok_or_else(wrong)? {
            "" => Ok(Self::Licenses(None)),
            license => {
                let license = parse_uuid(license).ok_or_else(wrong)?;
                Ok(Self::Licenses(Some(LicenseId(license))))
            }
        }
    }
}

fn page(
    ledger: &Read<'_>,
    before_ms: i64,
    start: Start,
    limit: u32,
) -> (Vec<UnusedView>, Option<String>) {
    let (mut unused, after) = match start {
        Start::Licenses(after) => (Vec::new(), after),
        Start::Packages(after) => {
            let all = ledger.packages().flat_map(|package| of_package(ledger, before_ms, &package));
            let (page, next) = by_pair(all, after.as_deref(), limit, |view| {
                (view.package_id.clone(), view.pool.clone().unwrap_or_default())
            });
            if let Some(next) = next {
                return (page, Some(format!("{PACKAGES}{next}")));
            }
            (page, None)
        }
    };
    let mut last = after.map(|license| uuid_text(license.0)).unwrap_or_default();
    for (looked_at, license) in ledger.licenses(after).enumerate() {
        if unused.len() >= limit as usize || looked_at == MAX_LOOKED_AT {
            return (unused, Some(format!("{LICENSES}{last}")));
        }
        last = uuid_text(license.terms.license.0);
        unused.extend(of_license(ledger, before_ms, license));
    }
    (unused, None)
}

/// The package, if nobody uses it, else those of its pools that nobody uses.
fn of_package(ledger: &Read<'_>, before_ms: i64, package: &PackageView<'_>) -> Vec<UnusedView> {
    let is_over = package.expired || package.state == PackageState::Revoked;
    if is_over || package.not_yet_valid || package.imported_at_ms > before_ms {
        return Vec::new();
    }
    let terms = package.terms;
    let seats = package.seats();
    let pools: Vec<_> = seats
        .pools
        .iter()
        .map(|pool| (pool, usage_view(ledger.pool_usage(&terms.package, pool.pool.as_ref()))))
        .collect();
    let view = |kind, pool: Option<String>, seats: u32, last_used_at| UnusedView {
        kind,
        package_id: terms.package.to_string(),
        pool,
        license_id: None,
        seats: Some(seats),
        last_used_at,
        since: UtcTime::from_unix_ms(package.imported_at_ms),
    };
    let is_unused = |in_use: u32, last: Option<UtcTime>| {
        in_use == 0 && last.is_none_or(|last| last.unix_ms <= before_ms)
    };
    let last = pools.iter().filter_map(|(_, usage)| usage.last_taken_at).max();
    if is_unused(seats.commit_in_use.saturating_add(seats.overage_in_use), last) {
        return vec![view(UnusedKind::Package, None, terms.total, last)];
    }
    let named = pools.iter().filter(|(pool, _)| pool.pool.is_some());
    let unused = named.filter(|(pool, usage)| is_unused(pool.in_use, usage.last_taken_at));
    unused
        .map(|(pool, usage)| {
            let name = pool.pool.as_ref().map(|pool| pool.to_string());
            view(UnusedKind::Pool, name, pool.share, usage.last_taken_at)
        })
        .collect()
}

fn of_license(ledger: &Read<'_>, before_ms: i64, license: &LicenseRow) -> Option<UnusedView> {
    let terms = &license.terms;
    let (first, last) = ledger.license_validity(terms);
    let is_valid = (first..=last).contains(&ledger.clock().civil_ms);
    let is_over = matches!(license.state, LicenseState::Revoked | LicenseState::Cancelled);
    if !is_valid || is_over || license.issued_at_ms > before_ms {
        return None;
    }
    let heard = ledger.activations_of(terms.license).map(|row| row.last_seen_at_ms);
    let last = heard.chain(license.last_activated_at_ms).max();
    let is_used =
        ledger.active_activations(terms.license) > 0 || last.is_some_and(|last| last > before_ms);
    (!is_used).then(|| UnusedView {
        kind: UnusedKind::License,
        package_id: terms.package.to_string(),
        pool: None,
        license_id: Some(uuid_text(terms.license.0)),
        seats: None,
        last_used_at: last.map(UtcTime::from_unix_ms),
        since: UtcTime::from_unix_ms(license.issued_at_ms),
    })
}

fn row_of(view: &UnusedView) -> Vec<String> {
    let kind = match view.kind {
        UnusedKind::Package => "package",
        UnusedKind::Pool => "pool",
        UnusedKind::License => "license",
    };
    vec![
        kind.to_owned(),
        view.package_id.clone(),
        view.pool.clone().unwrap_or_default(),
        view.license_id.clone().unwrap_or_default(),
        view.seats.map(|seats| seats.to_string()).unwrap_or_default(),
        time(view.last_used_at),
        time(Some(view.since)),
    ]
}

const COLUMNS: [&str; 7] =
    ["kind", "package_id", "pool", "license_id", "seats", "last_used_at", "since"];

/// What the report cannot know, for people.
const NOTE: &str = "Counted is when a seat was taken, not how long it was held: a seat that is out \
    counts as used, whether or not anybody works with it. A pool counts from when it was made, \
    which is not known: a new one is listed when its package is old enough.";

const PACKAGES: &str = "package/";
const LICENSES: &str = "license/";
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Licenses looked at for one page: a few milliseconds under the ledger's read lock.
const MAX_LOOKED_AT: usize = 10_000;
