//! Borrowing: `package borrow-rules show | set`, `package offline`, `lease write-off` for
//! operators; `lease borrow | return-borrow` as an application.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    BorrowParty, BorrowRules, BorrowRulesView, OfflineLeaseView, OfflineList, WriteOffRequest,
    WriteOffResponse,
};
use protocol::cloud::lease::{
    BorrowRequest, BorrowResponse, HeartbeatResponse, ReturnBorrowRequest,
};
use protocol::package::MAX_QUANTITY;
use protocol::wire::{MAX_TEXT_CHARS, is_text};
use reqwest::Method;
use serde_json::json;

use super::{cut_line, document, pages, require_id};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::files::{self, Access};
use crate::options::{AppOptions, MutationOptions, Span};
use crate::report::{Column, Grid, Part, Report, duration, or_dash};
use crate::session::Session;

/// An operator's rules for borrowing
#[derive(Debug, Clone, Subcommand)]
pub enum BorrowRulesVerb {
    /// Show the rules of a package, and what is in force
    #[command(after_help = "\
Example:
  leasehold package borrow-rules show vec-davinci-se-bmw-2025-001")]
    Show(RulesArgs),
    /// Replace the rules of a package; they narrow what the package allows
    #[command(after_help = "\
Examples:
  leasehold package borrow-rules set vec-1 --max 7d --seats-max 5 --online-reserve 2 \\
      --exclude host:kiosk-01
  leasehold package borrow-rules set vec-1      (takes all rules away)")]
    Set(SetRulesArgs),
}

/// Which package.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// The package, as `package list` shows it
    package_id: String,
}

/// Options of `package borrow-rules set`. What is left out is as the package has it.
#[derive(Debug, Clone, Args)]
pub struct SetRulesArgs {
    /// The package, as `package list` shows it
    package_id: String,
    /// Longest borrow, as 7d; 0: nobody borrows
    #[arg(long, visible_alias = "max-duration", value_name = "TIME")]
    max: Option<Span>,
    /// Seats that may be borrowed at once
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_QUANTITY)))]
    seats_max: Option<u32>,
    /// Seats that borrowing leaves for online users
    #[arg(long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_QUANTITY)))]
    online_reserve: Option<u32>,
    /// Only these may borrow: user:NAME or host:NAME. Repeat it to name more
    #[arg(long, value_name = "WHO", value_parser = party)]
    include: Vec<BorrowParty>,
    /// These may not: user:NAME or host:NAME. Repeat it to name more
    #[arg(long, value_name = "WHO", value_parser = party)]
    exclude: Vec<BorrowParty>,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `package offline`.
#[derive(Debug, Clone, Args)]
pub struct OfflineArgs {
    /// The package, as `package list` shows it
    package_id: String,
    /// Most leases to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Options of `lease write-off`.
#[derive(Debug, Clone, Args)]
pub struct WriteOffArgs {
    /// The lease, as `package offline` shows it
    lease_id: String,
    /// Why, for the audit trail; it cannot be left out
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `lease borrow`.
#[derive(Debug, Clone, Args)]
pub struct BorrowArgs {
    /// The lease, from `checkout`
    lease_id: String,
    /// The token from `checkout` or the last `heartbeat`; each is for one use
    #[arg(long, value_name = "TOKEN")]
    renewal_token: String,
    /// For how long, as 8h or 7d
    #[arg(long, value_name = "TIME")]
    duration: Span,
    /// Where the offline token goes (mode 0600); must not exist. Shown when left out
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    app: AppOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `lease return-borrow`.
#[derive(Debug, Clone, Args)]
pub struct ReturnBorrowArgs {
    /// The lease, from `checkout`
    lease_id: String,
    /// The token from `lease borrow` or the last `heartbeat`; each is for one use
    #[arg(long, value_name = "TOKEN")]
    renewal_token: String,
    #[command(flatten)]
    app: AppOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// `user:alice@bmw.com` or `host:dev-1`.
fn party(text: &str) -> std::result::Result<BorrowParty, &'static str> {
    const WANT: &str = "want user:NAME or host:NAME";
    match text.split_once(':') {
        Some((_, name)) if !is_text(name, MAX_TEXT_CHARS) => Err(WANT),
        Some(("user", name)) => Ok(BorrowParty::User(name.to_owned())),
        Some(("host", name)) => Ok(BorrowParty::Host(name.to_owned())),
        _ => Err(WANT),
    }
}

pub(crate) async fn rules(verb: BorrowRulesVerb, session: &Session<'_>) -> Result<Report> {
    let view: BorrowRulesView = match verb {
        BorrowRulesVerb::Show(args) => {
            let package_id = require_id("package", &args.package_id)?;
            session.get(&["admin", "packages", package_id, "borrow-rules"]).await?.json()?
        }
        BorrowRulesVerb::Set(args) => {
            let package_id = require_id("package", &args.package_id)?;
            let body = BorrowRules {
                max_seconds: args.max.map(|span| span.seconds),
                seats_max: args.seats_max,
                online_reserve: args.online_reserve,
                include: args.include,
                exclude: args.exclude,
            };
            let path = ["admin", "packages", package_id, "borrow-rules"];
            session.change(Method::PUT, &path, Some(&body), &args.mutation).await?.json()?
        }
    };
    let (rules, in_force) = (&view.rules, &view.in_force);
    let longest = match in_force.max_seconds {
        0 => "nobody borrows".to_owned(),
        seconds => duration(u64::from(seconds) * 1_000),
    };
    let seats = in_force.seats_max.map_or("any number".to_owned(), |seats| seats.to_string());
    let facts = vec![
        ("package", view.package_id.clone()),
        ("longest borrow", longest),
        ("seats at once", seats),
        ("left for online", in_force.online_reserve.to_string()),
        ("only", names(&rules.include)),
        ("never", names(&rules.exclude)),
    ];
    let ids = vec![view.package_id.clone()];
    Ok(Report::done(document(&view)?, vec![Part::Facts(facts)], ids))
}

fn names(parties: &[BorrowParty]) -> String {
    let names: Vec<String> = parties
        .iter()
        .map(|party| match party {
            BorrowParty::User(name) => format!("user:{name}"),
            BorrowParty::Host(name) => format!("host:{name}"),
        })
        .collect();
    or_dash(Some(&names.join(", ")))
}

pub(crate) async fn offline(args: OfflineArgs, session: &Session<'_>) -> Result<Report> {
    let package_id = require_id("package", &args.package_id)?;
    let mut seats = None;
    let split = |page: OfflineList| {
        seats.get_or_insert((page.seats_borrowed, page.seats_offline));
        (page.leases, page.next)
    };
    let path = ["admin", "packages", package_id, "offline"];
    let (leases, is_cut) = pages(session, &path, &[], args.limit, split).await?;
    let (seats_borrowed, seats_offline) = seats.unwrap_or_default();
    let mut grid = Grid::new(&[
        Column::whole("LEASE"),
        Column::whole("UNTIL"),
        Column::text("HOW"),
        Column::text("HOLDER"),
    ]);
    for lease in &leases {
        grid.row(vec![
            lease.lease_id.clone(),
            lease.until.to_string().chars().take("0000-00-00T00:00".len()).collect(),
            if lease.borrowed { "borrowed" } else { "token" }.to_owned(),
            holder(lease),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "no offline token is outstanding")];
    if is_cut {
        parts.push(cut_line(leases.len()));
    }
    if !leases.is_empty() {
        parts.push(Part::Line(format!(
            "{seats_offline} seats may be in use offline, {seats_borrowed} of them borrowed"
        )));
    }
    let ids = leases.iter().map(|lease| lease.lease_id.clone()).collect();
    let json = json!({
        "package_id": package_id,
        "seats_borrowed": seats_borrowed,
        "seats_offline": seats_offline,
        "leases": document(&leases)?,
        "complete": !is_cut,
    });
    Ok(Report::done(json, parts, ids))
}

fn holder(lease: &OfflineLeaseView) -> String {
    match (&lease.user, &lease.hostname) {
        (Some(user), Some(hostname)) => format!("{user} on {hostname}"),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => "(erased)".to_owned(),
    }
}

pub(crate) async fn write_off(args: WriteOffArgs, session: &Session<'_>) -> Result<Report> {
    let lease_id = require_id("lease", &args.lease_id)?;
    if !is_text(&args.reason, MAX_TEXT_CHARS) {
        return Err(CliError::Usage(format!("--reason wants 1 to {MAX_TEXT_CHARS} characters")));
    }
    let body = WriteOffRequest { reason: args.reason };
    let path = ["admin", "leases", lease_id, "write-off"];
    let answer: WriteOffResponse = session.post(&path, &body, &args.mutation).await?.json()?;
    let mut parts =
        vec![Part::Line(format!("{} is written off; its seat is free", answer.lease_id))];
    if let Some(until) = answer.token_good_until {
        parts.push(Part::Line(format!(
            "whoever has the device can still use it offline until {until}"
        )));
    }
    let ids = vec![answer.lease_id.clone()];
    Ok(Report::done(document(&answer)?, parts, ids))
}

pub(crate) async fn borrow(args: BorrowArgs, session: &Session<'_>) -> Result<Report> {
    let lease_id = require_id("lease", &args.lease_id)?;
    if args.duration.seconds == 0 {
        return Err(CliError::Usage("--duration wants a second at least".to_owned()));
    }
    if let Some(path) = &args.out {
        files::require_absent(path)?;
    }
    let token = session.app_token(&args.app).await?;
    let body = BorrowRequest {
        renewal_token: args.renewal_token,
        duration_seconds: args.duration.seconds,
    };
    let path = ["api", "v1", "licenses", lease_id, "borrow"];
    let request = Request::change(Method::POST, &path, args.mutation.idempotency_key.as_deref())?
        .bearer(token.expose())
        .json(&body)?;
    let borrowed: BorrowResponse = session.client.send(&request).await?.json()?;
    let mut facts = vec![
        ("lease", borrowed.lease_id.clone()),
        ("borrowed until", borrowed.borrowed_until.to_string()),
        ("ends", format!("{} (in {})", borrowed.expires_at, duration(borrowed.expires_in_ms))),
        ("renewal token", borrowed.renewal_token.clone()),
    ];
    let mut parts = Vec::new();
    match &args.out {
        Some(path) => {
            files::create(path, borrowed.offline_token.as_bytes(), Access::Private)?;
            facts.push(("offline token", path.display().to_string()));
            parts.push(Part::Facts(facts));
        }
        None => {
            parts.push(Part::Facts(facts));
            parts.push(Part::Line("offline token".to_owned()));
            parts.push(Part::Line(borrowed.offline_token.clone()));
        }
    }
    let ids = vec![borrowed.offline_token.clone()];
    Ok(Report::done(document(&borrowed)?, parts, ids))
}

pub(crate) async fn return_borrow(args: ReturnBorrowArgs, session: &Session<'_>) -> Result<Report> {
    let lease_id = require_id("lease", &args.lease_id)?;
    let token = session.app_token(&args.app).await?;
    let body = ReturnBorrowRequest { renewal_token: args.renewal_token };
    let path = ["api", "v1", "licenses", lease_id, "return-borrow"];
    let request = Request::change(Method::POST, &path, args.mutation.idempotency_key.as_deref())?
        .bearer(token.expose())
        .json(&body)?;
    let renewed: HeartbeatResponse = session.client.send(&request).await?.json()?;
    let facts = vec![
        ("lease", lease_id.to_owned()),
        ("ends", format!("{} (in {})", renewed.expires_at, duration(renewed.expires_in_ms))),
        ("renew", format!("every {}", duration(renewed.heartbeat_interval_ms))),
        ("renewal token", renewed.renewal_token.clone()),
    ];
    let line = "the borrow is over: throw the offline token away".to_owned();
    let ids = vec![renewed.renewal_token.clone()];
    Ok(Report::done(document(&renewed)?, vec![Part::Facts(facts), Part::Line(line)], ids))
}
