//! `alarm list` and `alarm clear`: what is wrong with the nodes.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{AlarmList, AlarmView};
use reqwest::Method;
use serde_json::json;

use super::alarm_line;
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;
use crate::verbs::document;

/// What is wrong
#[derive(Debug, Clone, Subcommand)]
pub enum AlarmVerb {
    /// List the alarms that stand, and what nodes find now
    #[command(
        visible_alias = "ls",
        after_help = "\
Example:
  leasehold alarm list"
    )]
    List,
    /// Clear an alarm; one whose cause is still there is raised again
    #[command(
        visible_alias = "disarm",
        after_help = "\
Examples:
  leasehold alarm clear 2 CORRUPT
  leasehold alarm clear --all"
    )]
    Clear(ClearArgs),
}

/// `alarm clear`
#[derive(Debug, Clone, Args)]
pub struct ClearArgs {
    /// The node that it is about
    #[arg(value_name = "NODE", required_unless_present = "all", conflicts_with = "all")]
    pub node: Option<u64>,
    /// Its kind: NOSPACE, CLOCK, CORRUPT, CERT, LAG or REFUSED
    #[arg(value_name = "KIND", required_unless_present = "all", conflicts_with = "all")]
    pub kind: Option<String>,
    /// All that stand in the log
    #[arg(long)]
    pub all: bool,
    /// How it is asked.
    #[command(flatten)]
    pub mutation: MutationOptions,
}

pub(crate) async fn run(verb: AlarmVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        AlarmVerb::List => {
            let list: AlarmList = session.get(&["admin", "alarms"]).await?.json()?;
            let json = document(&list)?;
            Ok(Report::done(json, shown(&list.alarms), list.alarms.iter().map(id_of).collect()))
        }
        AlarmVerb::Clear(args) => clear(args, session).await,
    }
}

async fn clear(args: ClearArgs, session: &Session<'_>) -> Result<Report> {
    let wanted: Vec<(u64, String)> = match (args.node, args.kind) {
        (Some(node), Some(kind)) => vec![(node, kind.to_ascii_uppercase())],
        _ => {
            if args.mutation.idempotency_key.is_some() {
                let why = "--all is several requests and cannot have one --idempotency-key";
                return Err(CliError::Usage(why.to_owned()));
            }
            let list: AlarmList = session.get(&["admin", "alarms"]).await?.json()?;
            let logged = list.alarms.into_iter().filter(|alarm| alarm.logged);
            logged.map(|alarm| (alarm.node_id, alarm.kind)).collect()
        }
    };
    let mut cleared = Vec::new();
    for (node, kind) in &wanted {
        let number = node.to_string();
        let path = ["admin", "alarms", &number, kind];
        session.change::<()>(Method::DELETE, &path, None, &args.mutation).await?;
        cleared.push(json!({ "node_id": node, "kind": kind }));
    }
    let parts = match wanted.as_slice() {
        [] => vec![Part::Line("no alarm stands".to_owned())],
        wanted => wanted
            .iter()
            .map(|(node, kind)| Part::Line(format!("cleared {kind} of node {node}")))
            .collect(),
    };
    let ids = wanted.iter().map(|(node, kind)| format!("{node}/{kind}")).collect();
    Ok(Report::done(json!({ "cleared": cleared }), parts, ids))
}

/// A table of what and since when, and under it what was measured.
fn shown(alarms: &[AlarmView]) -> Vec<Part> {
    let mut grid = Grid::new(&[
        Column::number("NODE"),
        Column::whole("KIND"),
        Column::whole("SINCE"),
        Column::text("STATE"),
    ]);
    for alarm in alarms {
        let state = match (alarm.logged, alarm.found_now) {
            (true, true) => "stands",
            (true, false) => "stands, not found now",
            (false, _) => "found now, not in the log",
        };
        let since = alarm.since.map_or_else(|| "-".to_owned(), |since| since.to_string());
        grid.row(vec![alarm.node_id.to_string(), alarm.kind.clone(), since, state.to_owned()]);
    }
    let mut parts = vec![Part::Grid(grid, "no alarm stands")];
    parts.extend(alarms.iter().map(|alarm| Part::Line(alarm_line(alarm))));
    parts
}

fn id_of(alarm: &AlarmView) -> String {
    format!("{}/{}", alarm.node_id, alarm.kind)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report;
    use crate::scripted::{Exchange, play};

    fn list() -> Value {
        json!({ "alarms": [
            { "node_id": 2, "kind": "NOSPACE", "detail": "40 MiB free of 1 GiB",
              "since": "2026-01-01T00:00:00Z", "logged": true, "found_now": true },
            { "node_id": 3, "kind": "LAG", "detail": "it hears no leader", "logged": false,
              "found_now": true },
        ]})
    }

    #[track_caller]
    fn check(line: &[&str], script: &[Exchange], shown: &str) {
        match play(line, script) {
            Ok(report) => assert_eq!(report::shown(&report), shown),
            Err(error) => panic!("{line:?}: {}", error.line()),
        }
    }

    fn gone(request: &'static str) -> Exchange {
        Exchange { status: 204, ..Exchange::get(request, Value::Null) }
    }

    #[test]
    fn alarms_are_listed_and_cleared() {
        check(
            &["alarm", "list"],
            &[Exchange::get("GET /admin/alarms", list())],
            "\
NODE  KIND     SINCE                 STATE
   2  NOSPACE  2026-01-01T00:00:00Z  stands
   3  LAG      -                     found now, not in the log
node 2 raises NOSPACE: 40 MiB free of 1 GiB (since 2026-01-01T00:00:00Z)
node 3 raises LAG: it hears no leader (not in the log)
",
        );
        let none = Exchange::get("GET /admin/alarms", json!({ "alarms": [] }));
        check(&["alarm", "ls"], std::slice::from_ref(&none), "no alarm stands\n");
        check(&["alarm", "clear", "--all"], &[none], "no alarm stands\n");
        let cleared = "cleared NOSPACE of node 2\n";
        let all =
            [Exchange::get("GET /admin/alarms", list()), gone("DELETE /admin/alarms/2/NOSPACE")];
        check(&["alarm", "clear", "--all"], &all, cleared);
        check(&["alarm", "disarm", "2", "nospace"], &all[1..], cleared);
        let unknown = json!({ "code": "unknown_alarm", "detail": "No such alarm stands." });
        let refused =
            Exchange { status: 404, answer: unknown, ..gone("DELETE /admin/alarms/9/LAG") };
        let error = play(&["alarm", "clear", "9", "LAG"], &[refused]).err().unwrap();
        assert_eq!(error.exit().code(), 5);
    }
}
