//! `license issue | list | show | suspend | resume | cancel | revoke | reinstate | rotate`.
//!
//! A license key is shown by the verb that made it and by no other; nobody keeps it in the clear.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    IssueLicenseRequest, IssuedLicenseResponse, LicenseList, LicensePlan, LicenseProtocol,
    LicenseState, LicenseView, MAX_LICENSE_DAYS, is_email,
};
use protocol::wire::{MAX_TEXT_CHARS, UtcTime, is_text};
use reqwest::Method;
use serde_json::json;

use super::plan::PlanArgs;
use super::{
    ReasonOptions, cut_line, day_of, document, first_moment, last_moment, pages, query_word,
    require_id, wire_word, words,
};
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report, duration, or_dash};
use crate::session::Session;

/// License keys
#[derive(Debug, Clone, Subcommand)]
pub enum LicenseVerb {
    /// Issue a license and show its key, once
    #[command(after_help = "\
Examples:
  leasehold license issue --protocol device --package vec-1 --email alice@bmw.com \\
      --max-devices 3 --days 365
  leasehold license issue --protocol deployment --package vec-1 --organization \"BMW AG\" \\
      --max-nodes 5 --feature export:create=allow,rows=limit/100
  leasehold license issue --protocol evaluation --package vec-1 --open

With --quiet the key alone is printed.")]
    Issue(Box<IssueArgs>),
    /// List the licenses
    #[command(after_help = "\
Example:
  leasehold license list --protocol device --state suspended")]
    List(LicenseListArgs),
    /// Show one license; its key is shown by nothing
    #[command(after_help = "\
Example:
  leasehold license show 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    Show(LicenseArgs),
    /// Refuse a license until it is resumed; its activations keep their seats
    #[command(after_help = "\
Example:
  leasehold license suspend 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10 --reason \"invoice 4711\"")]
    Suspend(LicenseChangeArgs),
    /// Accept a suspended license again
    #[command(after_help = "\
Example:
  leasehold license resume 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    Resume(LicenseChangeArgs),
    /// End a license for good; its seats come free
    #[command(after_help = "\
Example:
  leasehold license cancel 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10 --reason \"not renewed\"")]
    Cancel(LicenseChangeArgs),
    /// Refuse a license until it is reinstated; its seats come free
    #[command(after_help = "\
Example:
  leasehold license revoke 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10 --reason \"key was published\"")]
    Revoke(LicenseChangeArgs),
    /// Accept a revoked license again
    #[command(after_help = "\
Example:
  leasehold license reinstate 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    Reinstate(LicenseChangeArgs),
    /// Give a license a new key and show it, once; the old key is unknown at once
    #[command(after_help = "\
Example:
  leasehold license rotate 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    Rotate(LicenseRotateArgs),
}

/// Options of `license issue`.
#[derive(Debug, Clone, Args)]
pub struct IssueArgs {
    /// The protocol it is used through: device, deployment or evaluation
    #[arg(long, value_name = "WORD", value_parser = wire_word::<LicenseProtocol>)]
    protocol: LicenseProtocol,
    /// The package that its seats come from
    #[arg(long, visible_alias = "package-id", value_name = "ID")]
    package: String,
    /// Whom it is issued to, as `client list` shows them
    #[arg(long, visible_alias = "client-id", value_name = "ID", conflicts_with = "email")]
    client: Option<String>,
    /// The same by address; a client is added if nobody has it
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// The organisation it is for
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// First valid day or time (UTC); now when left out
    #[arg(long, value_name = "TIME", value_parser = first_moment)]
    valid_from: Option<UtcTime>,
    /// Last valid day or time (UTC); as long as the package when left out
    #[arg(long, value_name = "TIME", value_parser = last_moment, conflicts_with = "days")]
    valid_until: Option<UtcTime>,
    /// The same in days
    #[arg(long, visible_alias = "duration-days", value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LICENSE_DAYS)))]
    days: Option<u32>,
    /// Give this license to callers without a key (evaluation; one in a cluster)
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `license list`.
#[derive(Debug, Clone, Args)]
pub struct LicenseListArgs {
    /// Only licenses of this protocol: device, deployment or evaluation
    #[arg(long, value_name = "WORD", value_parser = wire_word::<LicenseProtocol>)]
    protocol: Option<LicenseProtocol>,
    /// Only licenses of this package
    #[arg(long, visible_alias = "package-id", value_name = "ID")]
    package: Option<String>,
    /// Only licenses of this client
    #[arg(long, visible_alias = "client-id", value_name = "ID")]
    client: Option<String>,
    /// Only licenses in this state: active, not-yet-valid, expired, suspended, revoked, cancelled
    #[arg(long, value_name = "WORD", value_parser = wire_word::<LicenseState>)]
    state: Option<LicenseState>,
    /// Most licenses to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Which license.
#[derive(Debug, Clone, Args)]
pub struct LicenseArgs {
    /// The license, as `license list` shows it
    license_id: String,
}

/// Options of verbs that change where a license stands.
#[derive(Debug, Clone, Args)]
pub struct LicenseChangeArgs {
    /// The license, as `license list` shows it
    license_id: String,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `license rotate`.
#[derive(Debug, Clone, Args)]
pub struct LicenseRotateArgs {
    /// The license, as `license list` shows it
    license_id: String,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: LicenseVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        LicenseVerb::Issue(args) => issue(*args, session).await,
        LicenseVerb::List(args) => list(args, session).await,
        LicenseVerb::Show(args) => show(&args, session).await,
        LicenseVerb::Suspend(args) => change("suspend", args, session).await,
        LicenseVerb::Resume(args) => change("resume", args, session).await,
        LicenseVerb::Cancel(args) => change("cancel", args, session).await,
        LicenseVerb::Revoke(args) => change("revoke", args, session).await,
        LicenseVerb::Reinstate(args) => change("reinstate", args, session).await,
        LicenseVerb::Rotate(args) => rotate(args, session).await,
    }
}

async fn issue(args: IssueArgs, session: &Session<'_>) -> Result<Report> {
    let body = request(&args)?;
    let answer = session.post(&["admin", "licenses"], &body, &args.mutation).await?;
    issued(&answer.json()?, "The key is shown once, here: give it to its holder now.")
}

/// The request, checked as far as it can be without a server.
fn request(args: &IssueArgs) -> Result<IssueLicenseRequest> {
    require_id("package", &args.package)?;
    if let Some(client) = &args.client {
        require_id("client", client)?;
    }
    if args.email.as_ref().is_some_and(|email| !is_email(email)) {
        return Err(CliError::Usage("--email wants an address, as alice@bmw.com".to_owned()));
    }
    if args.organization.as_ref().is_some_and(|name| !is_text(name, MAX_TEXT_CHARS)) {
        return Err(CliError::Usage(format!(
            "--organization wants 1 to {MAX_TEXT_CHARS} characters"
        )));
    }
    let request = IssueLicenseRequest {
        protocol: args.protocol,
        package_id: args.package.clone(),
        plan: args.plan.plan()?,
        client_id: args.client.clone(),
        email: args.email.clone(),
        organization: args.organization.clone(),
        valid_from: args.valid_from,
        valid_until: args.valid_until,
        duration_days: args.days,
        open: args.open,
    };
    request.check().map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(request)
}

fn issued(answer: &IssuedLicenseResponse, note: &str) -> Result<Report> {
    let license = &answer.license;
    let key = answer.license_key.expose().to_owned();
    let mut facts = vec![
        ("license", license.license_id.clone()),
        ("license key", key.clone()),
        ("protocol", words(&license.protocol)),
        ("package", license.package_id.clone()),
    ];
    facts.push(("for", holder(license)));
    facts.push(("valid until", license.valid_until.to_string()));
    let parts = vec![Part::Facts(facts), Part::Line(note.to_owned())];
    Ok(Report::done(document(answer)?, parts, vec![key]))
}

async fn list(args: LicenseListArgs, session: &Session<'_>) -> Result<Report> {
    let filters = [
        ("protocol", query_word(args.protocol)),
        ("package_id", args.package),
        ("client_id", args.client),
        ("state", query_word(args.state)),
    ];
    let (licenses, is_cut) =
        pages(session, &["admin", "licenses"], &filters, args.limit, |page: LicenseList| {
            (page.licenses, page.next)
        })
        .await?;
    let mut grid = Grid::new(&[
        Column::whole("LICENSE"),
        Column::state("STATE"),
        Column::number("SEATS"),
        Column::whole("UNTIL"),
        Column::text("FOR"),
    ]);
    for license in &licenses {
        grid.row(vec![
            license.license_id.clone(),
            words(&license.state),
            license.seats.to_string(),
            day_of(license.valid_until),
            holder(license),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "there is no such license")];
    if is_cut {
        parts.push(cut_line(licenses.len()));
    }
    let ids = licenses.iter().map(|license| license.license_id.clone()).collect();
    let json = json!({ "licenses": document(&licenses)?, "complete": !is_cut });
    Ok(Report::done(json, parts, ids))
}

/// Whom a license is for.
fn holder(license: &LicenseView) -> String {
    match (&license.email, &license.organization, &license.client_id) {
        (_, Some(organization), _) => organization.clone(),
        (Some(email), None, _) => email.clone(),
        (None, None, Some(_)) => "(erased)".to_owned(),
        (None, None, None) if license.open => "everybody".to_owned(),
        (None, None, None) => "-".to_owned(),
    }
}

async fn show(args: &LicenseArgs, session: &Session<'_>) -> Result<Report> {
    let license_id = require_id("license", &args.license_id)?;
    let license: LicenseView = session.get(&["admin", "licenses", license_id]).await?.json()?;
    let mut facts = vec![
        ("license", license.license_id.clone()),
        ("state", state(&license)),
        ("protocol", words(&license.protocol)),
        ("package", license.package_id.clone()),
        ("for", holder(&license)),
        ("client", or_dash(license.client_id.as_deref())),
        ("key", format!("ends in {} (version {})", license.key_hint, license.token_version)),
        ("valid", format!("{} to {}", license.valid_from, license.valid_until)),
        ("issued", license.issued_at.to_string()),
        ("holds", format!("{} seats, {} activations", license.seats, license.activations)),
        ("last activated", or_dash(license.last_activated_at.map(|t| t.to_string()).as_deref())),
    ];
    if let Some(time) = license.terms_accepted_at {
        facts.push(("terms accepted", time.to_string()));
    }
    facts.extend(plan_facts(&license.plan, license.protocol));
    let ids = vec![license.license_id.clone()];
    Ok(Report::done(document(&license)?, vec![Part::Facts(facts)], ids))
}

fn state(license: &LicenseView) -> String {
    let state = words(&license.state);
    match &license.reason {
        Some(reason) => format!("{state} since {}: {reason}", license.changed_at),
        None => state,
    }
}

fn plan_facts(plan: &LicensePlan, protocol: LicenseProtocol) -> Vec<(&'static str, String)> {
    let no_limit = |count: Option<u32>| match count {
        Some(0) | None => "as many as there are seats".to_owned(),
        Some(count) => count.to_string(),
    };
    let seconds = |seconds: Option<u32>| u64::from(seconds.unwrap_or(0)) * 1_000;
    let names = [&plan.slug, &plan.product, &plan.kind];
    let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
    let trial = if plan.trial { " (trial)" } else { "" };
    let features: Vec<&str> = plan
        .features
        .iter()
        .filter(|feature| feature.enabled)
        .map(|feature| feature.slug.as_str())
        .collect();
    let mut facts = vec![
        ("plan", format!("{}{trial}", or_dash(Some(&names.join(", "))))),
        ("features", or_dash(Some(&features.join(", ")))),
        ("activations", no_limit(plan.max_activations)),
    ];
    match protocol {
        LicenseProtocol::Device => {
            let interval = plan.check_interval_seconds;
            let mode = plan.check_mode.map_or("-".to_owned(), |mode| words(&mode));
            let every = interval.map(|_| format!(" every {}", duration(seconds(interval))));
            facts.push(("checks", format!("{mode}{}", every.unwrap_or_default())));
        }
        LicenseProtocol::Deployment => facts.push((
            "nodes",
            plan.max_nodes.filter(|n| *n > 0).map_or("any number".to_owned(), |n| n.to_string()),
        )),
        LicenseProtocol::Evaluation => {}
    }
    if let Some(days) = plan.activation_days.filter(|days| *days > 0) {
        facts.push(("each lasts", format!("{days} days")));
    }
    if seconds(plan.slot_ttl_seconds) > 0 {
        facts.push(("given up", format!("{} unheard", duration(seconds(plan.slot_ttl_seconds)))));
    }
    if seconds(plan.offline_seconds) > 0 {
        facts.push(("offline", format!("up to {}", duration(seconds(plan.offline_seconds)))));
    }
    for (metric, amount) in &plan.quotas {
        facts.push(("quota", format!("{metric} {}", amount.0)));
    }
    facts
}

async fn change(verb: &str, args: LicenseChangeArgs, session: &Session<'_>) -> Result<Report> {
    let license_id = require_id("license", &args.license_id)?;
    args.reason.text()?;
    let path = ["admin", "licenses", license_id, verb];
    let answer = session.post(&path, &args.reason.body(), &args.mutation).await?;
    let license: LicenseView = answer.json()?;
    let line = format!("{} is {} now", license.license_id, words(&license.state));
    let ids = vec![license.license_id.clone()];
    Ok(Report::done(document(&license)?, vec![Part::Line(line)], ids))
}

async fn rotate(args: LicenseRotateArgs, session: &Session<'_>) -> Result<Report> {
    let license_id = require_id("license", &args.license_id)?;
    let path = ["admin", "licenses", license_id, "rotate"];
    let answer = session.change(Method::POST, &path, None::<&()>, &args.mutation).await?;
    issued(&answer.json()?, "The key is shown once, here. The old one is unknown from now on.")
}
