//! `audit tail`: the newest events that fit, oldest first, and those that come.
//!
//! Followed events are printed as they come, with `-o json` one document a line; everything else is
//! printed by the report, once. While no server answers, following waits and says so.

use std::time::Duration;

use clap::Args;
use protocol::cloud::admin::{AuditEventView, AuditList, AuditSubject};
use protocol::csv;
use protocol::wire::UtcTime;
use serde_json::{Value, json};

use super::super::{cut_line, document, first_moment, pages, require_id};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::options::{GlobalOptions, OutputFormat, Span};
use crate::report::{self, Column, Grid, Part, Report};
use crate::session::Session;
use crate::world;

/// Options of `audit tail`.
#[derive(Debug, Clone, Args)]
pub struct TailArgs {
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Most events to show; with --since all of them when left out
    #[arg(short = 'n', long, visible_alias = "lines", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only events of this kind, as lease_granted or refused
    #[arg(long, value_name = "WORD")]
    kind: Option<String>,
    /// Only events about this package
    #[arg(long, value_name = "ID")]
    package: Option<String>,
    /// Only events about this lease, ended ones too
    #[arg(long, value_name = "ID")]
    lease: Option<String>,
    /// Only what this actor did: node-1, app-…, operator-…, face-device
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Only events about this user: a name that is kept, or a reference
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only events about this host
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Only events of the last 90s, 30m, 12h or 7d, or since a day or a time in UTC
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
}

/// From when on.
#[derive(Debug, Clone, Copy)]
enum Since {
    Ago(Span),
    Moment(UtcTime),
}

fn since(text: &str) -> std::result::Result<Since, &'static str> {
    const WANT: &str = "want 90s, 30m, 12h or 7d, or a day or a time as 2027-01-31T12:00:00Z";
    match (text.parse(), first_moment(text)) {
        (Ok(span), _) => Ok(Since::Ago(span)),
        (_, Ok(moment)) => Ok(Since::Moment(moment)),
        _ => Err(WANT),
    }
}

impl Since {
    fn moment(self) -> UtcTime {
        match self {
            Self::Ago(span) => {
                UtcTime::from_unix_ms(world::wall_ms() - i64::from(span.seconds) * 1_000)
            }
            Self::Moment(moment) => moment,
        }
    }
}

impl TailArgs {
    /// What a server filters by.
    fn filters(&self) -> Result<Vec<(&'static str, Option<String>)>> {
        for (what, id) in [("package", &self.package), ("lease", &self.lease)] {
            if let Some(id) = id {
                require_id(what, id)?;
            }
        }
        Ok(vec![
            ("kind", self.kind.as_ref().map(|kind| kind.replace('-', "_"))),
            ("package_id", self.package.clone()),
            ("lease_id", self.lease.clone()),
            ("actor", self.actor.clone()),
            ("user", self.user.clone()),
            ("host", self.hostname.clone()),
        ])
    }

    fn limit(&self) -> Option<u32> {
        self.limit.or(self.since.is_none().then_some(DEFAULT_EVENTS))
    }
}

pub(super) async fn run(
    args: TailArgs,
    session: &Session<'_>,
    options: &GlobalOptions,
) -> Result<Report> {
    let filters = args.filters()?;
    let mut asked = filters.clone();
    asked.push(("since", args.since.map(|since| since.moment().to_string())));
    asked.push(("order", Some("desc".to_owned())));
    let mut head = 0;
    let (mut events, is_cut) =
        pages(session, &["admin", "audit"], &asked, args.limit(), |page: AuditList| {
            head = head.max(page.head.0);
            (page.events, page.next)
        })
        .await?;
    events.reverse();
    if args.follow {
        return follow(&filters, session, options, events, head).await;
    }
    let is_cut = is_cut && args.limit.is_none() && args.since.is_some();
    let mut parts = vec![Part::Grid(grid(&events), "nothing of that kind happened")];
    if is_cut {
        parts.push(cut_line(events.len()));
    }
    let ids = events.iter().map(|event| event.seq.0.to_string()).collect();
    Ok(Report::done(json!({ "events": document(&events)? }), parts, ids))
}

fn grid(events: &[AuditEventView]) -> Grid {
    let mut grid = Grid::new(&[
        Column::number("SEQ"),
        Column::whole("TIME"),
        Column::whole("KIND"),
        Column::text("ACTOR"),
        Column::text("ABOUT"),
    ]);
    for event in events {
        grid.row(cells(event).to_vec());
    }
    grid
}

fn cells(event: &AuditEventView) -> [String; 5] {
    let (seq, time) = (event.seq.0.to_string(), event.time.to_string());
    [seq, time, event.kind.clone(), event.actor.clone(), about(event)]
}

/// What an event says, in one line.
fn about(event: &AuditEventView) -> String {
    let who = |what: &str, subject: &Option<AuditSubject>| {
        let subject = subject.as_ref()?;
        Some(format!("{what}={}", subject.name.as_ref().unwrap_or(&subject.reference)))
    };
    let ids = [
        event.package_id.clone(),
        event.lease_id.clone(),
        who("user", &event.user),
        who("host", &event.host),
    ];
    let details = event.detail.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    ids.into_iter().flatten().chain(details).collect::<Vec<_>>().join(" ")
}

/// Prints events as they come. Ends only when interrupted, when nobody reads any more, or when
/// what is asked is refused.
async fn follow(
    filters: &[(&'static str, Option<String>)],
    session: &Session<'_>,
    options: &GlobalOptions,
    events: Vec<AuditEventView>,
    head: u64,
) -> Result<Report> {
    let mut reads_on = show(&events, options)?;
    let (mut after, mut is_waiting) = (head, false);
    while reads_on {
        tokio::time::sleep(PERIOD).await;
        match newer(filters, session, after).await {
            Ok((events, seen)) => {
                is_waiting = false;
                after = seen;
                reads_on = show(&events, options)?;
            }
            Err(error) if is_passing(&error) => {
                if !is_waiting {
                    report::warn(&format!("waiting: {}", error.line()), options);
                }
                is_waiting = true;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Report::done(Value::Null, Vec::new(), Vec::new()))
}

fn is_passing(error: &CliError) -> bool {
    matches!(error.exit(), Exit::NotReachable | Exit::NoQuorum)
}

/// What fits of the events after a number, and up to where the log was looked at.
async fn newer(
    filters: &[(&'static str, Option<String>)],
    session: &Session<'_>,
    after: u64,
) -> Result<(Vec<AuditEventView>, u64)> {
    let mut request = Request::get(&["admin", "audit"]).bearer(session.settings.operator_token()?);
    for (name, value) in filters {
        request = request.query(name, value.clone());
    }
    let request =
        request.query("after", Some(after.to_string())).query("limit", Some(PAGE.to_string()));
    let page: AuditList = session.client.send(&request).await?.json()?;
    let seen = match page.next.as_deref() {
        Some(next) => next.parse().unwrap_or(after),
        // A node that is behind must not take back what was seen.
        None => page.head.0,
    };
    Ok((page.events, seen.max(after)))
}

/// Prints events now; `false` when nobody reads.
fn show(events: &[AuditEventView], options: &GlobalOptions) -> Result<bool> {
    if events.is_empty() {
        return Ok(true);
    }
    if options.output == OutputFormat::Csv && !options.quiet {
        let table = csv::table(&[], events.iter().map(cells));
        // Rows without the line of names, which has no end when more come.
        return report::print_now(table.split_once('\n').map_or("", |(_, rows)| rows));
    }
    let mut text = String::new();
    for event in events {
        let line = match (options.output, options.quiet) {
            (OutputFormat::Json, _) => document(event)?.to_string(),
            (_, true) => event.seq.0.to_string(),
            (_, false) => cells(event).join(" "),
        };
        text.push_str(&report::escaped(&line));
        text.push('\n');
    }
    report::print_now(&text)
}

const DEFAULT_EVENTS: u32 = 50;
const PAGE: u32 = 1_000;
const PERIOD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_moment() {
        assert!(matches!(since("1h"), Ok(Since::Ago(Span { seconds: 3_600 }))));
        let Ok(Since::Moment(moment)) = since("2027-01-31") else { panic!("a day") };
        assert_eq!(moment.to_string(), "2027-01-31T00:00:00Z");
        for text in ["", "yesterday", "-1h", "400d"] {
            assert!(since(text).is_err(), "{text:?}");
        }
    }
}
