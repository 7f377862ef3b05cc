//! `lease list | show | release`: seats that are out, as an operator sees them. Its verbs about
//! offline use are in `borrow`.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{LeaseList, LeaseView, ReleaseResponse};
use serde_json::json;

use super::borrow::{self, BorrowArgs, ReturnBorrowArgs, WriteOffArgs};
use super::{ReasonOptions, cut_line, document, pages, require_id, words};
use crate::error::Result;
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report, duration, or_dash};
use crate::session::Session;

/// Seats that are out
#[derive(Debug, Clone, Subcommand)]
pub enum LeaseVerb {
    /// List the leases that are out
    #[command(after_help = "\
Example:
  leasehold lease list --package vec-davinci-se-bmw-2025-001 --limit 100")]
    List(ListArgs),
    /// Show one lease
    #[command(after_help = "\
Example:
  leasehold lease show lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga")]
    Show(ShowArgs),
    /// Take a seat back from its holder
    #[command(after_help = "\
Example:
  leasehold lease release lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga --reason \"has left\"")]
    Release(ReleaseArgs),
    /// Free the seat of a device that is lost, although an offline token of it is outstanding
    ///
    /// The token stays good until it ends, so the seat may be used twice until then.
    #[command(after_help = "\
Example:
  leasehold lease write-off lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga --reason \"stolen\"")]
    WriteOff(WriteOffArgs),
    /// Borrow a seat that is out, to use it offline, as an application
    #[command(after_help = "\
Example:
  leasehold lease borrow lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga --renewal-token rt1-… \\
      --duration 7d --out offline.jwt")]
    Borrow(BorrowArgs),
    /// Give a borrow back early and keep the lease, as an application
    #[command(after_help = "\
Example:
  leasehold lease return-borrow lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga \\
      --renewal-token \"$RENEWAL_TOKEN\"")]
    ReturnBorrow(ReturnBorrowArgs),
}

/// Options of `lease list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Only leases of this package
    #[arg(long, visible_alias = "package-id", value_name = "ID")]
    package: Option<String>,
    /// Only leases of this application
    #[arg(long, visible_alias = "app-id", value_name = "ID")]
    app: Option<String>,
    /// Most leases to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Which lease.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The lease, as `lease list` shows it
    lease_id: String,
}

/// Options of `lease release`.
#[derive(Debug, Clone, Args)]
pub struct ReleaseArgs {
    /// The lease, as `lease list` shows it
    lease_id: String,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: LeaseVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        LeaseVerb::List(args) => list(args, session).await,
        LeaseVerb::Show(args) => show(args, session).await,
        LeaseVerb::Release(args) => release(args, session).await,
        LeaseVerb::WriteOff(args) => borrow::write_off(args, session).await,
        LeaseVerb::Borrow(args) => borrow::borrow(args, session).await,
        LeaseVerb::ReturnBorrow(args) => borrow::return_borrow(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session<'_>) -> Result<Report> {
    let filters = [("package_id", args.package), ("app_id", args.app)];
    let split = |page: LeaseList| (page.leases, page.next);
    let (leases, is_cut) =
        pages(session, &["admin", "leases"], &filters, args.limit, split).await?;
    let mut grid = Grid::new(&[
        Column::whole("LEASE"),
        Column::whole("TYPE"),
        Column::number("SEATS"),
        Column::whole("ENDS IN"),
        Column::text("HOLDER"),
    ]);
    for lease in &leases {
        grid.row(vec![
            lease.lease_id.clone(),
            words(&lease.lease_type),
            lease.quantity.to_string(),
            duration(lease.expires_in_ms),
            holder(lease),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "no seat is out")];
    if is_cut {
        parts.push(cut_line(leases.len()));
    }
    let ids = leases.iter().map(|lease| lease.lease_id.clone()).collect();
    let json = json!({ "leases": document(&leases)?, "complete": !is_cut });
    Ok(Report::done(json, parts, ids))
}

fn holder(lease: &LeaseView) -> String {
    match (&lease.user, &lease.hostname) {
        (Some(user), Some(hostname)) => format!("{user} on {hostname}"),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => "(erased)".to_owned(),
    }
}

async fn show(args: ShowArgs, session: &Session<'_>) -> Result<Report> {
    let lease_id = require_id("lease", &args.lease_id)?;
    let lease: LeaseView = session.get(&["admin", "leases", lease_id]).await?.json()?;
    let mut facts = vec![
        ("lease", lease.lease_id.clone()),
        ("state", words(&lease.state)),
        ("type", words(&lease.lease_type)),
        ("seats", lease.quantity.to_string()),
        ("holder", holder(&lease)),
        ("app", lease.app_id.clone()),
        ("product", lease.product_id.clone()),
        ("package", lease.package_id.clone()),
        ("pool", or_dash(lease.pool.as_deref())),
        ("features", or_dash(Some(&lease.features.join(", ")))),
        ("taken", lease.acquired_at.to_string()),
        ("ends", format!("{} (in {})", lease.expires_at, duration(lease.expires_in_ms))),
        ("renewed", format!("{} times", lease.renewals)),
        ("fence", lease.fence.to_string()),
    ];
    if let Some(cost) = &lease.cost {
        facts.push(("cost", cost.0.to_string()));
    }
    let ids = vec![lease.lease_id.clone()];
    Ok(Report::done(document(&lease)?, vec![Part::Facts(facts)], ids))
}

async fn release(args: ReleaseArgs, session: &Session<'_>) -> Result<Report> {
    let lease_id = require_id("lease", &args.lease_id)?;
    let path = ["admin", "leases", lease_id, "release"];
    let answer = session.post(&path, &args.reason.body(), &args.mutation).await?;
    let released: ReleaseResponse = answer.json()?;
    let line = format!("{} is released; its seat is free", released.lease_id);
    let ids = vec![released.lease_id.clone()];
    Ok(Report::done(document(&released)?, vec![Part::Line(line)], ids))
}
