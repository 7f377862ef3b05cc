//! `usage show | refusals | costs | unused`: reports of use and cost.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    CostList, CurrencyTotal, MAX_UNUSED_DAYS, PackageCost, PackageUsage, RefusalList, UnusedKind,
    UnusedList, UsageList,
};
use protocol::wire::{Money, UtcTime};
use serde_json::json;

use super::{cut_line, day_of, document, pages, require_id, words};
use crate::error::Result;
use crate::report::{Column, Grid, Part, Report, or_dash};
use crate::session::Session;

/// Reports of use and cost
#[derive(Debug, Clone, Subcommand)]
pub enum UsageVerb {
    /// Show current and peak use of packages and pools
    #[command(after_help = "\
Examples:
  leasehold usage show
  leasehold usage show vec-1 -o csv > use.csv")]
    Show(ReportArgs),
    /// Count what was refused, by package and reason
    #[command(after_help = "\
Example:
  leasehold usage refusals vec-1")]
    Refusals(ReportArgs),
    /// Show what packages cost so far this month: fees and overage
    #[command(after_help = "\
Example:
  leasehold usage costs -o csv > costs.csv")]
    Costs(ReportArgs),
    /// List packages, pools and license keys that nobody used for some days
    #[command(after_help = "\
Example:
  leasehold usage unused --days 90")]
    Unused(UnusedArgs),
}

/// Options of the reports.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Only this package, as `package list` shows it
    package_id: Option<String>,
    /// Most items to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Options of `usage unused`.
#[derive(Debug, Clone, Args)]
pub struct UnusedArgs {
    /// For how many days nothing was taken
    #[arg(long, value_name = "COUNT", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_UNUSED_DAYS)))]
    days: u32,
    /// Most items to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl ReportArgs {
    fn filters(&self) -> Result<[(&'static str, Option<String>); 1]> {
        let package = self.package_id.as_deref().map(|id| require_id("package", id)).transpose()?;
        Ok([("package_id", package.map(str::to_owned))])
    }
}

pub(crate) async fn run(verb: UsageVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        UsageVerb::Show(args) => show(args, session).await,
        UsageVerb::Refusals(args) => refusals(args, session).await,
        UsageVerb::Costs(args) => costs(args, session).await,
        UsageVerb::Unused(args) => unused(args, session).await,
    }
}

async fn show(args: ReportArgs, session: &Session<'_>) -> Result<Report> {
    let split = |page: UsageList| (page.packages, page.next);
    let filters = args.filters()?;
    let (packages, is_cut) =
        pages(session, &["admin", "usage"], &filters, args.limit, split).await?;
    let mut grid = Grid::new(&[
        Column::whole("PACKAGE"),
        Column::text("POOL"),
        Column::number("OUT"),
        Column::number("SEATS"),
        Column::number("PEAK"),
        Column::number("TAKEN"),
        Column::whole("LAST"),
    ]);
    for package in &packages {
        rows_of(&mut grid, package);
    }
    let mut parts = vec![Part::Grid(grid, "there is no such package")];
    if is_cut {
        parts.push(cut_line(packages.len()));
    }
    let ids = packages.iter().map(|package| package.package_id.clone()).collect();
    let json = json!({ "packages": document(&packages)?, "complete": !is_cut });
    Ok(Report::done(json, parts, ids))
}

/// A row for the package, and one for each of its pools where it has named ones.
fn rows_of(grid: &mut Grid, package: &PackageUsage) {
    let granted = package.granted_commit.saturating_add(package.granted_overage);
    grid.row(vec![
        package.package_id.clone(),
        "(all)".to_owned(),
        package.in_use.to_string(),
        package.seats.to_string(),
        package.peak.to_string(),
        granted.to_string(),
        day(package.last_taken_at),
    ]);
    if package.pools.iter().all(|pool| pool.pool.is_none()) {
        return;
    }
    for pool in &package.pools {
        grid.row(vec![
            package.package_id.clone(),
            or_dash(pool.pool.as_deref()),
            pool.in_use.to_string(),
            pool.seats.to_string(),
            pool.usage.peak.to_string(),
            pool.usage.granted.to_string(),
            day(pool.usage.last_taken_at),
        ]);
    }
}

async fn refusals(args: ReportArgs, session: &Session<'_>) -> Result<Report> {
    let split = |page: RefusalList| (page.refusals, page.next);
    let filters = args.filters()?;
    let path = ["admin", "usage", "refusals"];
    let (refusals, is_cut) = pages(session, &path, &filters, args.limit, split).await?;
    let mut grid =
        Grid::new(&[Column::whole("PACKAGE"), Column::whole("REASON"), Column::number("COUNT")]);
    for refusal in &refusals {
        grid.row(vec![
            or_dash(refusal.package_id.as_deref()),
            refusal.reason.clone(),
            refusal.count.to_string(),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "nothing was refused")];
    if is_cut {
        parts.push(cut_line(refusals.len()));
    }
    let ids = refusals.iter().map(|refusal| refusal.reason.clone()).collect();
    let json = json!({ "refusals": document(&refusals)?, "complete": !is_cut });
    Ok(Report::done(json, parts, ids))
}

async fn costs(args: ReportArgs, session: &Session<'_>) -> Result<Report> {
    let mut about: Option<(String, Vec<CurrencyTotal>)> = None;
    let split = |page: CostList| {
        about.get_or_insert((page.month, page.totals));
        (page.packages, page.next)
    };
    let filters = args.filters()?;
    let path = ["admin", "usage", "costs"];
    let (packages, is_cut) = pages(session, &path, &filters, args.limit, split).await?;
    let (month, totals) = about.unwrap_or_default();
    let mut grid = Grid::new(&[
        Column::whole("PACKAGE"),
        Column::number("COMMIT FEE"),
        Column::number("OVERAGE"),
        Column::number("LIMIT"),
        Column::number("TOTAL"),
        Column::whole("CURRENCY"),
    ]);
    for PackageCost { package_id, commit_fee, overage, overage_limit, total, currency, .. } in
        &packages
    {
        grid.row(vec![
            package_id.clone(),
            amount(*commit_fee),
            amount(*overage),
            overage_limit.map_or("-".to_owned(), amount),
            amount(*total),
            currency.clone(),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "there is no such package")];
    if is_cut {
        parts.push(cut_line(packages.len()));
    }
    for sum in &totals {
        parts.push(Part::Line(format!(
            "{month} so far: {} {} ({} fees, {} overage)",
            amount(sum.total),
            sum.currency,
            amount(sum.commit_fee),
            amount(sum.overage)
        )));
    }
    let ids = packages.iter().map(|package| package.package_id.clone()).collect();
    let json = json!({
        "month": month,
        "packages": document(&packages)?,
        "totals": document(&totals)?,
        "complete": !is_cut,
    });
    Ok(Report::done(json, parts, ids))
}

async fn unused(args: UnusedArgs, session: &Session<'_>) -> Result<Report> {
    let mut note = None;
    let split = |page: UnusedList| {
        note.get_or_insert(page.note);
        (page.unused, page.next)
    };
    let filters = [("days", Some(args.days.to_string()))];
    let path = ["admin", "usage", "unused"];
    let (unused, is_cut) = pages(session, &path, &filters, args.limit, split).await?;
    let mut grid = Grid::new(&[
        Column::whole("KIND"),
        Column::whole("WHAT"),
        Column::number("SEATS"),
        Column::whole("LAST USED"),
        Column::whole("SINCE"),
        Column::text("OF PACKAGE"),
    ]);
    for view in &unused {
        let what = match view.kind {
            UnusedKind::Package => Some(view.package_id.as_str()),
            UnusedKind::Pool => view.pool.as_deref(),
            UnusedKind::License => view.license_id.as_deref(),
        };
        let last = view.last_used_at.map_or("never".to_owned(), day_of);
        grid.row(vec![
            words(&view.kind),
            or_dash(what),
            view.seats.map_or("-".to_owned(), |seats| seats.to_string()),
            last,
            day_of(view.since),
            view.package_id.clone(),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "everything was used")];
    if is_cut {
        parts.push(cut_line(unused.len()));
    }
    let note = note.unwrap_or_default();
    parts.extend(Some(note.clone()).filter(|note| !note.is_empty()).map(Part::Line));
    let ids = unused
        .iter()
        .map(|view| {
            let id = view.license_id.clone().or_else(|| view.pool.clone());
            id.unwrap_or_else(|| view.package_id.clone())
        })
        .collect();
    let json = json!({
        "days": args.days,
        "unused": document(&unused)?,
        "note": note,
        "complete": !is_cut,
    });
    Ok(Report::done(json, parts, ids))
}

fn day(at: Option<UtcTime>) -> String {
    at.map_or("-".to_owned(), day_of)
}

/// An amount with cents, or as precise as it is.
fn amount(money: Money) -> String {
    let precise = money.0.normalize();
    if precise.scale() > 2 { precise.to_string() } else { format!("{precise:.2}") }
}
