//! `pool list | create | show | resize | reserve | transfer | remove`: shares of a package's seats.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    ChangePoolRequest, CreatePoolRequest, MAX_POOL_PARTIES, PoolList, PoolView, ReservedFor,
    TransferSeatsRequest, TransferSeatsResponse,
};
use protocol::package::MAX_QUANTITY;
use protocol::wire::{MAX_TEXT_CHARS, UtcTime, is_id, is_text};
use reqwest::Method;
use serde_json::{Value, json};

use super::{cut_line, document, pages, require_id};
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report, bar, or_dash};
use crate::session::Session;

/// Pools of packages
#[derive(Debug, Clone, Subcommand)]
pub enum PoolVerb {
    /// List pools and their seats
    List(PoolListArgs),
    /// Make a pool of seats that are in none
    #[command(after_help = "\
Examples:
  leasehold pool create vec-1 team-a --seats 5
  leasehold pool create vec-1 nightly --seats 2 --for host:ci-1 --for host:ci-2 \\
      --description \"night builds\"")]
    Create(PoolCreateArgs),
    /// Show a pool: its seats, for whom it is kept, how much it is used
    #[command(after_help = "\
Example:
  leasehold pool show vec-1 team-a")]
    Show(PoolArgs),
    /// Change how many seats a pool has; they come from the unassigned ones and go back to them
    #[command(after_help = "\
Example:
  leasehold pool resize vec-1 team-a 8")]
    Resize(PoolResizeArgs),
    /// Say for whom a pool is kept; who is named gets its seats first, and nobody else gets any
    #[command(after_help = "\
Examples:
  leasehold pool reserve vec-1 team-a --for user:alice@bmw.com --for user:bob@bmw.com
  leasehold pool reserve vec-1 trials --for app:device      (every device activation)
  leasehold pool reserve vec-1 team-a --nobody              (whoever names the pool)")]
    Reserve(PoolReserveArgs),
    /// Move free seats between two pools, all or none
    #[command(after_help = "\
Examples:
  leasehold pool transfer vec-1 3 --from team-a --to team-b
  leasehold pool transfer vec-1 3 --from team-a      (to the unassigned seats)")]
    Transfer(PoolTransferArgs),
    /// Give a pool's seats back to the unassigned ones; none of them may be out
    #[command(after_help = "\
Example:
  leasehold pool remove vec-1 team-a")]
    Remove(PoolRemoveArgs),
}

/// Options of `pool list`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  leasehold pool list
  leasehold pool list vec-1 -o csv > pools.csv")]
pub struct PoolListArgs {
    /// Only pools of this package, as `package list` shows it
    package_id: Option<String>,
    /// Most pools to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Which pool.
#[derive(Debug, Clone, Args)]
pub struct PoolArgs {
    /// The package, as `package list` shows it
    package_id: String,
    /// The pool, as `pool list` shows it
    pool: String,
}

/// Options of `pool create`.
#[derive(Debug, Clone, Args)]
pub struct PoolCreateArgs {
    #[command(flatten)]
    at: PoolArgs,
    /// Its share of the package's seats
    #[arg(long, value_name = "COUNT", value_parser = seats())]
    seats: u32,
    /// Keep it for user:NAME, host:NAME or app:ID. Repeat it to name more
    #[arg(long = "for", value_name = "WHO", value_parser = party)]
    kept_for: Vec<Party>,
    /// A note for people
    #[arg(long, value_name = "TEXT", value_parser = note)]
    description: Option<String>,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `pool resize`.
#[derive(Debug, Clone, Args)]
pub struct PoolResizeArgs {
    #[command(flatten)]
    at: PoolArgs,
    /// How many seats it is to have
    #[arg(value_parser = seats())]
    seats: u32,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `pool reserve`.
#[derive(Debug, Clone, Args)]
pub struct PoolReserveArgs {
    #[command(flatten)]
    at: PoolArgs,
    /// Keep it for user:NAME, host:NAME or app:ID, and nobody named before. Repeat it to name more
    #[arg(long = "for", value_name = "WHO", value_parser = party)]
    #[arg(required_unless_present_any = ["nobody", "description"])]
    kept_for: Vec<Party>,
    /// Keep it for nobody in particular
    #[arg(long, conflicts_with = "kept_for")]
    nobody: bool,
    /// A note for people; an empty one takes it away
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `pool transfer`.
#[derive(Debug, Clone, Args)]
pub struct PoolTransferArgs {
    /// The package, as `package list` shows it
    package_id: String,
    /// How many seats
    #[arg(value_parser = seats())]
    seats: u32,
    /// The pool that gives; the unassigned seats when left out
    #[arg(long, value_name = "POOL", required_unless_present = "to")]
    from: Option<String>,
    /// The pool that takes, made if it is not there; the unassigned seats when left out
    #[arg(long, value_name = "POOL")]
    to: Option<String>,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `pool remove`.
#[derive(Debug, Clone, Args)]
pub struct PoolRemoveArgs {
    #[command(flatten)]
    at: PoolArgs,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Somebody for whom a pool is kept.
#[derive(Debug, Clone)]
enum Party {
    User(String),
    Host(String),
    App(String),
}

fn seats() -> impl clap::builder::TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_QUANTITY))
}

/// `user:alice@bmw.com`, `host:ci-1`, `app:app-0123456789abcdef` or `app:device`.
fn party(text: &str) -> std::result::Result<Party, &'static str> {
    const WANT: &str = "want user:NAME, host:NAME or app:ID";
    match text.split_once(':') {
        Some(("app", id)) if is_id(id) => Ok(Party::App(id.to_owned())),
        Some((_, name)) if !is_text(name, MAX_TEXT_CHARS) => Err(WANT),
        Some(("user", name)) => Ok(Party::User(name.to_owned())),
        Some(("host", name)) => Ok(Party::Host(name.to_owned())),
        _ => Err(WANT),
    }
}

fn note(text: &str) -> std::result::Result<String, &'static str> {
    match is_text(text, MAX_TEXT_CHARS) {
        true => Ok(text.to_owned()),
        false => Err("want 1 to 256 characters"),
    }
}

pub(crate) async fn run(verb: PoolVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        PoolVerb::List(args) => list(args, session).await,
        PoolVerb::Create(args) => create(args, session).await,
        PoolVerb::Show(args) => {
            let (package, pool) = names(&args)?;
            said(&session.get(&["admin", "pools", package, pool]).await?.json()?)
        }
        PoolVerb::Resize(args) => {
            let seats = Some(args.seats);
            let change = ChangePoolRequest { seats, ..ChangePoolRequest::default() };
            self::change(&args.at, &change, &args.mutation, session).await
        }
        PoolVerb::Reserve(args) => reserve(args, session).await,
        PoolVerb::Transfer(args) => transfer(args, session).await,
        PoolVerb::Remove(args) => remove(args, session).await,
    }
}

async fn list(args: PoolListArgs, session: &Session<'_>) -> Result<Report> {
    let package = args.package_id.as_deref().map(|id| require_id("package", id)).transpose()?;
    let filters = [("package_id", package.map(str::to_owned))];
    let split = |page: PoolList| (page.pools, page.next);
    let (pools, is_cut) = pages(session, &["admin", "pools"], &filters, args.limit, split).await?;
    let mut grid = Grid::new(&[
        Column::whole("PACKAGE"),
        Column::whole("POOL"),
        Column::number("OUT"),
        Column::number("SEATS"),
        Column::drawn("USE"),
        Column::number("PEAK"),
        Column::text("KEPT FOR"),
    ]);
    for pool in &pools {
        grid.row(vec![
            pool.package_id.clone(),
            or_dash(pool.pool.as_deref()),
            pool.in_use.to_string(),
            pool.seats.to_string(),
            bar(pool.in_use, pool.seats),
            pool.usage.peak.to_string(),
            kept_for(&pool.reserved_for),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "there is no such package")];
    if is_cut {
        parts.push(cut_line(pools.len()));
    }
    let ids = pools.iter().filter_map(|pool| pool.pool.clone()).collect();
    let json = json!({ "pools": document(&pools)?, "complete": !is_cut });
    Ok(Report::done(json, parts, ids))
}

async fn create(args: PoolCreateArgs, session: &Session<'_>) -> Result<Report> {
    let (package, pool) = names(&args.at)?;
    let body = CreatePoolRequest {
        package_id: package.to_owned(),
        pool: pool.to_owned(),
        seats: args.seats,
        reserved_for: reserved_for(args.kept_for)?,
        description: args.description,
    };
    said(&session.post(&["admin", "pools"], &body, &args.mutation).await?.json()?)
}

async fn reserve(args: PoolReserveArgs, session: &Session<'_>) -> Result<Report> {
    let is_said = args.nobody || !args.kept_for.is_empty();
    if let Some(text) = args.description.as_deref().filter(|text| !text.is_empty()) {
        note(text).map_err(|want| CliError::Usage(format!("--description: {want}")))?;
    }
    let change = ChangePoolRequest {
        seats: None,
        reserved_for: is_said.then(|| reserved_for(args.kept_for)).transpose()?,
        description: args.description,
    };
    self::change(&args.at, &change, &args.mutation, session).await
}

async fn change(
    at: &PoolArgs,
    change: &ChangePoolRequest,
    mutation: &MutationOptions,
    session: &Session<'_>,
) -> Result<Report> {
    let (package, pool) = names(at)?;
    let path = ["admin", "pools", package, pool];
    said(&session.change(Method::PUT, &path, Some(change), mutation).await?.json()?)
}

async fn transfer(args: PoolTransferArgs, session: &Session<'_>) -> Result<Report> {
    for pool in [&args.from, &args.to].into_iter().flatten() {
        require_id("pool", pool)?;
    }
    let body = TransferSeatsRequest {
        package_id: require_id("package", &args.package_id)?.to_owned(),
        from_pool: args.from.clone(),
        to_pool: args.to.clone(),
        quantity: args.seats,
    };
    let path = ["admin", "licenses", "transfer"];
    let answer: TransferSeatsResponse = session.post(&path, &body, &args.mutation).await?.json()?;
    let called = |name: &Option<String>| match name {
        Some(name) => name.clone(),
        None => "the unassigned seats".to_owned(),
    };
    let mut parts = vec![Part::Line(format!(
        "{} seats moved from {} to {}",
        answer.quantity,
        called(&args.from),
        called(&args.to)
    ))];
    for (name, view) in [(&args.from, &answer.from), (&args.to, &answer.to)] {
        parts.push(Part::Line(match view {
            Some(view) => format!("{}: {} seats, {} out", called(name), view.seats, view.in_use),
            None => format!("{}: no seat is left, the pool is gone", called(name)),
        }));
    }
    let ids = [args.from, args.to].into_iter().flatten().collect();
    Ok(Report::done(document(&answer)?, parts, ids))
}

async fn remove(args: PoolRemoveArgs, session: &Session<'_>) -> Result<Report> {
    let (package, pool) = names(&args.at)?;
    let path = ["admin", "pools", package, pool];
    session.change::<Value>(Method::DELETE, &path, None, &args.mutation).await?;
    let json = json!({ "package_id": package, "pool": pool, "removed": true });
    let line = format!("{pool} is gone; its seats are unassigned");
    Ok(Report::done(json, vec![Part::Line(line)], vec![pool.to_owned()]))
}

fn names(at: &PoolArgs) -> Result<(&str, &str)> {
    Ok((require_id("package", &at.package_id)?, require_id("pool", &at.pool)?))
}

fn reserved_for(parties: Vec<Party>) -> Result<ReservedFor> {
    let mut named = ReservedFor::default();
    for party in parties {
        match party {
            Party::User(name) => named.users.push(name),
            Party::Host(name) => named.hosts.push(name),
            Party::App(id) => named.apps.push(id),
        }
    }
    for names in [&mut named.users, &mut named.hosts, &mut named.apps] {
        names.sort();
        names.dedup();
    }
    if named.count() > MAX_POOL_PARTIES {
        return Err(CliError::Usage(format!("--for names {MAX_POOL_PARTIES} at most")));
    }
    Ok(named)
}

fn kept_for(named: &ReservedFor) -> String {
    let with = |kind: &str, names: &[String]| {
        names.iter().map(|name| format!("{kind}:{name}")).collect::<Vec<_>>()
    };
    let mut all = with("user", &named.users);
    all.extend(with("host", &named.hosts));
    all.extend(with("app", &named.apps));
    or_dash(Some(&all.join(", ")))
}

/// What is said of one pool.
fn said(pool: &PoolView) -> Result<Report> {
    let name = or_dash(pool.pool.as_deref());
    let usage = &pool.usage;
    let at = |time: Option<UtcTime>| time.map(|time| time.to_string());
    let peak = match at(usage.peak_at) {
        Some(time) => format!("{} ({time})", usage.peak),
        None => "never used".to_owned(),
    };
    let facts = vec![
        ("package", pool.package_id.clone()),
        ("pool", name.clone()),
        ("seats", pool.seats.to_string()),
        ("out", pool.in_use.to_string()),
        ("free", pool.free.to_string()),
        ("peak", peak),
        ("last taken", or_dash(at(usage.last_taken_at).as_deref())),
        ("times taken", usage.granted.to_string()),
        ("kept for", kept_for(&pool.reserved_for)),
        ("description", or_dash(pool.description.as_deref())),
    ];
    Ok(Report::done(document(pool)?, vec![Part::Facts(facts)], vec![name]))
}
