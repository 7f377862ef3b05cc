//! `activation list | revoke | reinstate`: what licenses were activated on.

use clap::{Args, Subcommand};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use protocol::cloud::admin::{
    ActivationChangeRequest, ActivationGroup, ActivationList, ActivationState, ActivationView,
    LicenseProtocol,
};
use protocol::wire::UtcTime;
use serde_json::json;

use super::{
    DAY_MS, ReasonOptions, cut_line, day_of, document, pages, query_word, require_id, start_of,
    wire_word, words,
};
use crate::error::Result;
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;
use crate::world;

/// Activations
#[derive(Debug, Clone, Subcommand)]
pub enum ActivationVerb {
    /// List activations: devices, clusters and hosts
    #[command(after_help = "\
Examples:
  leasehold activation list --license 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10
  leasehold activation list --protocol evaluation --expires this-month --org acme")]
    List(ActivationListArgs),
    /// Refuse a holder until it is reinstated; its seats come free
    #[command(after_help = "\
Example:
  leasehold activation revoke 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10 --reason \"laptop stolen\"")]
    Revoke(RevokeArgs),
    /// Accept a revoked holder again
    #[command(after_help = "\
Example:
  leasehold activation reinstate 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    Reinstate(ReinstateArgs),
}

/// Options of `activation list`.
#[derive(Debug, Clone, Default, Args)]
pub struct ActivationListArgs {
    /// Only activations of this license
    #[arg(long, visible_alias = "license-id", value_name = "ID")]
    license: Option<String>,
    /// Only activations whose seats come from this package
    #[arg(long, visible_alias = "package-id", value_name = "ID")]
    package: Option<String>,
    /// Only activations of this protocol: device, deployment or evaluation
    #[arg(long, value_name = "WORD", value_parser = wire_word::<LicenseProtocol>)]
    protocol: Option<LicenseProtocol>,
    /// Only activations in this state: active, expired, released, revoked
    #[arg(long, value_name = "WORD", value_parser = wire_word::<ActivationState>)]
    state: Option<ActivationState>,
    /// Only activations that expire then (UTC): this-month, next-month, a month as 2027-01, or 14d
    /// from now
    #[arg(long, value_name = "WHEN", value_parser = expires)]
    expires: Option<Expires>,
    /// Only activations of this organisation
    #[arg(long, visible_alias = "org-id", value_name = "ID")]
    org: Option<String>,
    /// Only activations of this project
    #[arg(long, visible_alias = "project-id", value_name = "ID")]
    project: Option<String>,
    /// Most activations to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Options of `activation revoke`.
#[derive(Debug, Clone, Args)]
pub struct RevokeArgs {
    /// The activation, as `activation list` shows it
    activation_id: String,
    /// Free its seats at once although an offline token is outstanding: the device is lost
    #[arg(long)]
    write_off: bool,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `activation reinstate`.
#[derive(Debug, Clone, Args)]
pub struct ReinstateArgs {
    /// The activation, as `activation list` shows it
    activation_id: String,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: ActivationVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        ActivationVerb::List(args) => list(args, session).await,
        ActivationVerb::Revoke(args) => {
            let body =
                ActivationChangeRequest { reason: args.reason.text()?, write_off: args.write_off };
            change("revoke", &args.activation_id, &body, &args.mutation, session).await
        }
        ActivationVerb::Reinstate(args) => {
            let body = ActivationChangeRequest { reason: args.reason.text()?, write_off: false };
            change("reinstate", &args.activation_id, &body, &args.mutation, session).await
        }
    }
}

/// A list of activations, and what its first page says of all pages.
pub(crate) struct Found {
    /// The activations.
    pub(crate) activations: Vec<ActivationView>,
    /// Whether there are more.
    pub(crate) is_cut: bool,
    groups: Vec<ActivationGroup>,
    total: Option<u32>,
}

/// Asks for activations.
pub(crate) async fn find(
    session: &Session<'_>,
    filters: &[(&'static str, Option<String>)],
    limit: Option<u32>,
) -> Result<Found> {
    let (mut groups, mut total) = (Vec::new(), None);
    let split = |page: ActivationList| {
        if page.total.is_some() {
            (groups, total) = (page.groups, page.total);
        }
        (page.activations, page.next)
    };
    let path = ["admin", "activations"];
    let (activations, is_cut) = pages(session, &path, filters, limit, split).await?;
    Ok(Found { activations, is_cut, groups, total })
}

async fn list(args: ActivationListArgs, session: &Session<'_>) -> Result<Report> {
    let range = args.expires.and_then(|expires| expires.range(world::wall_ms()));
    let filters = [
        ("license_id", args.license),
        ("package_id", args.package),
        ("protocol", query_word(args.protocol)),
        ("state", query_word(args.state)),
        ("org_id", args.org),
        ("project_id", args.project),
        ("expires_from", range.map(|(from, _)| from.to_string())),
        ("expires_until", range.map(|(_, until)| until.to_string())),
    ];
    let found = find(session, &filters, args.limit).await?;
    let mut grid = Grid::new(&[
        Column::whole("ACTIVATION"),
        Column::state("STATE"),
        Column::number("SEATS"),
        Column::whole("EXPIRES"),
        Column::text("HOLDER"),
    ]);
    for activation in &found.activations {
        grid.row(vec![
            activation.activation_id.clone(),
            words(&activation.state),
            activation.seats.to_string(),
            day_of(activation.expires_at),
            holder(activation),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "there is no such activation")];
    if found.is_cut {
        parts.push(cut_line(found.activations.len()));
    }
    let has_names = found.groups.iter().any(|group| group.org_id.is_some());
    if has_names && found.activations.len() > 1 {
        parts.push(Part::Line(String::new()));
        parts.push(Part::Grid(by_project(&found.groups), ""));
    }
    let ids = found.activations.iter().map(|found| found.activation_id.clone()).collect();
    let json = json!({
        "activations": document(&found.activations)?,
        "groups": document(&found.groups)?,
        "total": found.total,
        "complete": !found.is_cut,
    });
    Ok(Report::done(json, parts, ids))
}

fn by_project(groups: &[ActivationGroup]) -> Grid {
    let mut grid = Grid::new(&[
        Column::text("ORGANISATION"),
        Column::text("PROJECT"),
        Column::number("ACTIVATIONS"),
        Column::number("SEATS"),
    ]);
    for group in groups {
        grid.row(vec![
            group.org_id.clone().unwrap_or_else(|| "-".to_owned()),
            group.project_id.clone().unwrap_or_else(|| "-".to_owned()),
            group.activations.to_string(),
            group.seats.to_string(),
        ]);
    }
    grid
}

/// What people know a holder by.
fn holder(activation: &ActivationView) -> String {
    match (&activation.org_id, &activation.project_id, &activation.email) {
        (Some(org), Some(project), _) => format!("{org} / {project}"),
        (Some(name), None, _) | (None, Some(name), _) => name.clone(),
        (None, None, Some(email)) => email.clone(),
        (None, None, None) => activation.holder.clone(),
    }
}

async fn change(
    verb: &str,
    activation_id: &str,
    body: &ActivationChangeRequest,
    mutation: &MutationOptions,
    session: &Session<'_>,
) -> Result<Report> {
    let activation_id = require_id("activation", activation_id)?;
    let path = ["admin", "activations", activation_id, verb];
    let activation: ActivationView = session.post(&path, body, mutation).await?.json()?;
    let state = words(&activation.state);
    let mut line = format!("{} is {state} now", activation.activation_id);
    if let (true, Some(until)) = (activation.seats > 0, activation.offline_until) {
        line.push_str(&format!("; an offline token of it is good until {until}"));
    }
    let ids = vec![activation.activation_id.clone()];
    Ok(Report::done(document(&activation)?, vec![Part::Line(line)], ids))
}

/// When something expires, as the command line says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expires {
    /// In so many months after the present one.
    MonthsAhead(i32),
    /// In the month that begins on this day.
    Month(Date),
    /// Within so many days.
    Within(i64),
}

fn expires(text: &str) -> std::result::Result<Expires, &'static str> {
    const WANT: &str = "want this-month, next-month, a month as 2027-01, or days as 14d";
    match text {
        "this-month" => return Ok(Expires::MonthsAhead(0)),
        "next-month" => return Ok(Expires::MonthsAhead(1)),
        _ => {}
    }
    if let Some(days) = text.strip_suffix('d') {
        let days: u32 = days.parse().map_err(|_| WANT)?;
        return if (1..=MAX_DAYS).contains(&days) {
            Ok(Expires::Within(days.into()))
        } else {
            Err(WANT)
        };
    }
    let first = format!("{text}-01");
    if first.len() != "0000-00-00".len() {
        return Err(WANT);
    }
    first.parse().map(Expires::Month).map_err(|_| WANT)
}

impl Expires {
    /// The first moment, and the first one after.
    fn range(self, now_ms: i64) -> Option<(UtcTime, UtcTime)> {
        let first = match self {
            Self::Within(days) => {
                let until = UtcTime::from_unix_ms(now_ms + days * DAY_MS);
                return Some((UtcTime::from_unix_ms(now_ms), until));
            }
            Self::Month(first) => first,
            Self::MonthsAhead(months) => {
                let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(TimeZone::UTC);
                now.date().first_of_month().checked_add(months.months()).ok()?
            }
        };
        Some((start_of(first)?, start_of(first.checked_add(1.month()).ok()?)?))
    }
}

/// Ten years.
const MAX_DAYS: u32 = 3_660;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, range: Option<(&str, &str)>) {
        // 2026-12-22T10:00:00Z.
        let now_ms = 1_797_933_600_000;
        let got = expires(text).ok().and_then(|expires| expires.range(now_ms));
        let got = got.map(|(from, until)| (from.to_string(), until.to_string()));
        let expected = range.map(|(from, until)| (from.to_owned(), until.to_owned()));
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn months_and_days_are_ranges_in_utc() {
        let december = ("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
        check("this-month", Some(december));
        check("2026-12", Some(december));
        check("next-month", Some(("2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z")));
        check("2028-02", Some(("2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z")));
        check("14d", Some(("2026-12-22T10:00:00Z", "2027-01-05T10:00:00Z")));
        for text in ["", "month", "2027", "2027-13", "2027-1", "0d", "-1d", "4000d", "d"] {
            check(text, None);
        }
    }
}
