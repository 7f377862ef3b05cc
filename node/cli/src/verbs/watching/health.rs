//! `cluster health`: three lines that define healthy.
//!
//! A cluster is healthy when a leader has a quorum, every voter is up, caught up and unsealed, and
//! no alarm stands. Without the first it is unhealthy; without one of the others, degraded.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Status, gather};
use crate::error::Result;
use crate::exit::Exit;
use crate::options::Wait;
use crate::report::{Part, Report};
use crate::session::Session;
use crate::world::Stopwatch;

/// `cluster health`
#[derive(Debug, Clone, Default, Args)]
pub struct HealthArgs {
    /// Wait until the cluster is healthy, so long at most
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "60s")]
    pub wait: Option<Wait>,
}

/// One of the three lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    pub(crate) says: String,
}

pub(crate) async fn run(args: &HealthArgs, session: &Session<'_>) -> Result<Report> {
    let watch = Stopwatch::start();
    loop {
        let report = look(session).await;
        let is_healthy = report.as_ref().is_ok_and(|report| report.exit == Exit::Done);
        let left_ms = args.wait.map_or(0, |wait| wait.ms.saturating_sub(watch.elapsed_ms()));
        // What is left is too short for another look to find anything else.
        if is_healthy || Duration::from_millis(left_ms) < LOOK_EVERY {
            return report;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(session: &Session<'_>) -> Result<Report> {
    let (status, _) = gather(session).await?;
    Ok(report(&status))
}

/// The three lines and what they come to.
pub(crate) fn judge(status: &Status) -> ([Line; 3], Exit) {
    let lines = [leader(status), voters(status), alarms(status)];
    let exit = match &lines {
        [leader, ..] if !leader.ok => Exit::Unhealthy,
        lines if lines.iter().all(|line| line.ok) => Exit::Done,
        _ => Exit::Degraded,
    };
    (lines, exit)
}

/// In one word.
pub(crate) fn word(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "healthy",
        Exit::Degraded => "degraded",
        _ => "unhealthy",
    }
}

pub(crate) fn json(lines: &[Line], exit: Exit) -> Value {
    let checks: Vec<Value> = lines
        .iter()
        .map(|line| json!({ "name": line.name, "ok": line.ok, "says": line.says }))
        .collect();
    json!({ "state": word(exit), "healthy": exit == Exit::Done, "checks": checks })
}

fn report(status: &Status) -> Report {
    let (lines, exit) = judge(status);
    let parts = lines.iter().map(|line| {
        let state = if line.ok { "ok" } else { "not ok" };
        Part::Line(format!("{:6}  {state:6}  {}", line.name, line.says))
    });
    let parts = parts.collect();
    Report { exit, json: json(&lines, exit), parts, ids: vec![word(exit).to_owned()] }
}

fn leader(status: &Status) -> Line {
    let quorum = status.quorum;
    let answer = format!("{} of {} voters answer", quorum.answering, quorum.voters);
    let (ok, says) = match status.leading() {
        Some(node) => {
            let more = format!("{answer}, {} more may fail", quorum.may_fail);
            (true, format!("node {} leads with a quorum; {more}", node.id))
        }
        None => (false, format!("no leader has a quorum; {answer}, {} must", quorum.needed)),
    };
    Line { name: "leader", ok, says }
}

fn voters(status: &Status) -> Line {
    let mut faults = Vec::new();
    let voters: Vec<_> = status.nodes.iter().filter(|node| node.voter).collect();
    for node in &voters {
        let fault = match node {
            node if !node.is_up() => "does not answer",
            node if node.is_sealed() => "is sealed",
            node if !node.is_caught_up() => "is behind",
            _ => continue,
        };
        faults.push(format!("node {} {fault}", node.id));
    }
    let count = voters.len();
    let says = match (count, faults.is_empty()) {
        (0, _) => "no voter is known".to_owned(),
        (_, true) => format!("{count} of {count} are up, caught up and unsealed"),
        (_, false) => faults.join(", "),
    };
    Line { name: "voters", ok: count > 0 && faults.is_empty(), says }
}

fn alarms(status: &Status) -> Line {
    let standing: Vec<String> = status
        .alarms
        .iter()
        .map(|alarm| format!("node {} {}", alarm.node_id, alarm.kind))
        .collect();
    let says = match standing.as_slice() {
        [] => "none stands".to_owned(),
        standing => format!("{}; see `leasehold alarm list`", standing.join(", ")),
    };
    Line { name: "alarms", ok: standing.is_empty(), says }
}

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::shown;
    use crate::scripted::{Exchange, play};

    #[track_caller]
    fn check(status: Value, exit: u8, text: &str) {
        let status: Status = serde_json::from_value(status).unwrap();
        let report = report(&status);
        assert_eq!(report.exit.code(), exit);
        assert_eq!(shown(&report), text);
        assert_eq!(report.json["healthy"], exit == 0);
    }

    fn node(id: u64, role: &str) -> Value {
        json!({ "id": id, "role": role, "voter": true, "sealed": false, "lag": "0",
                "detail": { "recovered": true } })
    }

    #[test]
    fn three_lines_define_healthy() {
        let quorum = json!({ "voters": 3, "needed": 2, "answering": 3, "may_fail": 1 });
        let nodes = [node(1, "follower"), node(2, "leader"), node(3, "follower")];
        check(
            json!({ "quorum": quorum, "nodes": nodes }),
            0,
            "leader  ok      node 2 leads with a quorum; 3 of 3 voters answer, 1 more may fail\n\
             voters  ok      3 of 3 are up, caught up and unsealed\n\
             alarms  ok      none stands\n",
        );
        let quorum = json!({ "voters": 3, "needed": 2, "answering": 2, "may_fail": 0 });
        let mut behind = node(3, "follower");
        behind["lag"] = json!("1001");
        let alarm = json!({ "node_id": 1, "kind": "LAG", "detail": "d", "logged": true,
                            "found_now": true });
        check(
            json!({ "quorum": quorum, "alarms": [alarm],
                    "nodes": [node(1, "unreachable"), node(2, "leader"), behind] }),
            11,
            "leader  ok      node 2 leads with a quorum; 2 of 3 voters answer, 0 more may fail\n\
             voters  not ok  node 1 does not answer, node 3 is behind\n\
             alarms  not ok  node 1 LAG; see `leasehold alarm list`\n",
        );
        let quorum = json!({ "voters": 3, "needed": 2, "answering": 1, "may_fail": 0 });
        let nodes = [node(1, "unreachable"), node(2, "follower"), node(3, "unreachable")];
        check(
            json!({ "quorum": quorum, "nodes": nodes }),
            10,
            "leader  not ok  no leader has a quorum; 1 of 3 voters answer, 2 must\n\
             voters  not ok  node 1 does not answer, node 3 does not answer\n\
             alarms  ok      none stands\n",
        );
    }

    #[test]
    fn waiting_ends_when_the_cluster_is_healthy() {
        let with = |nodes: [Value; 3]| {
            let quorum = json!({ "voters": 3, "needed": 2, "answering": 3, "may_fail": 1 });
            let status = json!({ "quorum": quorum, "nodes": nodes });
            Exchange::get("GET /admin/cluster/status", status)
        };
        let sick = with([node(1, "leader"), node(2, "follower"), node(3, "unreachable")]);
        let well = with([node(1, "leader"), node(2, "follower"), node(3, "follower")]);
        for (line, script, exit) in [
            (&["cluster", "health"][..], vec![sick.clone()], 11),
            (&["endpoint", "health"], vec![well.clone()], 0),
            (&["cluster", "health", "--wait"], vec![sick.clone(), sick.clone(), well.clone()], 0),
            (&["cluster", "health", "--wait=1ms"], vec![sick.clone()], 11),
            (&["endpoint", "status", "--wide"], vec![well], 0),
        ] {
            let report = play(line, &script).unwrap_or_else(|error| panic!("{}", error.line()));
            assert_eq!(report.exit.code(), exit, "{line:?}");
        }
    }
}
