//! `cluster status`: who is up, who leads, how each node is.

use clap::Args;
use protocol::wire::Id64;
use serde_json::Value;

use super::{Detail, Node, Status, alarm_line, gather, size};
use crate::error::Result;
use crate::exit::Exit;
use crate::report::{Column, Grid, Part, Report, duration, or_dash};
use crate::session::Session;
use crate::world;

/// `cluster status`
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// All columns, however wide
    #[arg(long)]
    pub wide: bool,
}

pub(crate) async fn run(args: &StatusArgs, session: &Session<'_>) -> Result<Report> {
    let (status, json) = gather(session).await?;
    Ok(report(&status, json, args.wide, world::wall_ms()))
}

/// How the cluster is, as the exit code tells it.
pub(crate) fn exit_of(status: &Status) -> Exit {
    if status.leading().is_none() {
        Exit::Unhealthy
    } else if status.nodes.iter().any(|node| !node.is_up() || node.is_sealed()) {
        Exit::Degraded
    } else {
        Exit::Done
    }
}

/// `now_ms`: the wall clock, for how long certificates last.
fn report(status: &Status, json: Value, is_wide: bool, now_ms: i64) -> Report {
    let exit = exit_of(status);
    let up = status.nodes.iter().filter(|node| node.is_up()).count();
    let nodes = format!("{up} of {} nodes up", status.nodes.len());
    let may_fail = match status.quorum.voters {
        0 => String::new(),
        _ => format!(", {} more may fail", status.quorum.may_fail),
    };
    let health = match (exit, status.leading().map(|node| node.id)) {
        (Exit::Done, Some(id)) => format!("healthy: node {id} leads, {nodes}{may_fail}"),
        (Exit::Degraded, Some(id)) => format!("degraded: node {id} leads, {nodes}{may_fail}"),
        _ => format!("unhealthy: no leader, {nodes}; no seat can be taken until a majority is up"),
    };
    let epoch = status.epoch.as_ref().map(|epoch| format!(", epoch {}", epoch.number));
    let cluster = or_dash(Some(&status.cluster_id));
    let mut parts = vec![
        Part::Line(format!("cluster {cluster}{}", epoch.unwrap_or_default())),
        Part::Line(health),
        Part::Grid(if is_wide { wide(status, now_ms) } else { narrow(status, now_ms) }, "no nodes"),
    ];
    parts.extend(remarks(status).into_iter().map(Part::Line));
    Report { exit, json, parts, ids: status.nodes.iter().map(|node| node.id.to_string()).collect() }
}

fn narrow(status: &Status, now_ms: i64) -> Grid {
    let mut grid = Grid::new(&[
        Column::number("NODE"),
        Column::state("ROLE"),
        Column::text("PLACE"),
        Column::number("TERM"),
        Column::number("APPLIED"),
        Column::number("LAG"),
        Column::number("EPOCH"),
        Column::number("DISK"),
        Column::number("CERT"),
        Column::text("ALARMS"),
    ]);
    for node in &status.nodes {
        grid.row(vec![
            node.id.to_string(),
            node.role.clone(),
            or_dash(Some(&node.place())),
            number(node.term),
            number(node.applied_index),
            number(node.lag),
            of(node, |detail| Some(detail.epoch.to_string())),
            of(node, disk_used),
            of(node, |detail| certificate(detail, now_ms)),
            or_dash(Some(&node.alarms.join(","))),
        ]);
    }
    grid
}

fn wide(status: &Status, now_ms: i64) -> Grid {
    let mut grid = Grid::new(&[
        Column::number("NODE"),
        Column::state("ROLE"),
        Column::whole("PLACE"),
        Column::whole("GATEWAY"),
        Column::whole("PEER"),
        Column::whole("VERSION"),
        Column::number("UP"),
        Column::number("TERM"),
        Column::number("APPLIED"),
        Column::number("LAG"),
        Column::number("EPOCH"),
        Column::whole("DISK"),
        Column::number("DATA"),
        Column::number("FSYNC P99"),
        Column::number("CLOCK"),
        Column::number("CERT"),
        Column::number("DATA KEY"),
        Column::whole("ALARMS"),
    ]);
    for node in &status.nodes {
        let text = |text: &str| or_dash(Some(text));
        grid.row(vec![
            node.id.to_string(),
            node.role.clone(),
            text(&node.place()),
            text(&node.gateway),
            text(&node.peer),
            of(node, |detail| Some(detail.version.clone())),
            of(node, |detail| Some(duration(detail.uptime_ms))),
            number(node.term),
            number(node.applied_index),
            number(node.lag),
            of(node, |detail| Some(detail.epoch.to_string())),
            of(node, |detail| {
                let (free, total) = (size(detail.disk_free_bytes), size(detail.disk_total_bytes));
                (detail.disk_total_bytes > 0).then(|| format!("{free} free of {total}"))
            }),
            of(node, |detail| Some(size(detail.data_bytes))),
            of(node, |detail| Some(format!("{} ms", detail.fsync_p99_us?.div_ceil(1_000)))),
            of(node, |detail| Some(format!("{:+} ms", detail.clock_offset_ms?))),
            of(node, |detail| certificate(detail, now_ms)),
            of(node, |detail| Some(detail.data_key_version.to_string())),
            text(&node.alarms.join(",")),
        ]);
    }
    grid
}

fn remarks(status: &Status) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(left_ms) = status.grace_left_ms {
        let left = duration(left_ms);
        lines.push(format!("an epoch was opened: for {left} only former holders are let in"));
    }
    for node in &status.nodes {
        if node.is_sealed() {
            lines.push(format!("node {} has no keys: it votes and does not serve", node.id));
        }
        if node.detail.as_ref().is_some_and(|detail| detail.draining) {
            lines.push(format!("node {} is on its way down", node.id));
        }
    }
    lines.extend(status.alarms.iter().map(alarm_line));
    lines
}

fn number(value: Option<Id64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.0.to_string())
}

/// What a node that answers says of itself.
fn of(node: &Node, text: impl Fn(&Detail) -> Option<String>) -> String {
    or_dash(node.detail.as_ref().and_then(text).as_deref())
}

fn disk_used(detail: &Detail) -> Option<String> {
    let used_bytes = detail.disk_total_bytes.checked_sub(detail.disk_free_bytes)?;
    let percent = used_bytes.saturating_mul(100).checked_div(detail.disk_total_bytes)?;
    Some(format!("{percent}%"))
}

fn certificate(detail: &Detail, now_ms: i64) -> Option<String> {
    let left_ms = detail.certificate_until?.unix_ms.saturating_sub(now_ms);
    Some(match u64::try_from(left_ms) {
        Ok(left_ms) if left_ms >= 86_400_000 => format!("{}d", left_ms / 86_400_000),
        Ok(left_ms) => duration(left_ms),
        Err(_) => "ended".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::shown;

    fn check(roles: &[&str], exit: u8, line_has: &str) {
        let nodes: Vec<Value> = roles
            .iter()
            .zip(1..)
            .map(|(role, id)| {
                let sealed = *role == "sealed";
                let role = if sealed { "follower" } else { role };
                json!({ "id": id, "role": role, "applied_index": "42", "sealed": sealed, "new": 1 })
            })
            .collect();
        let json = json!({ "cluster_id": "c-1", "nodes": nodes });
        let status: Status = serde_json::from_value(json.clone()).unwrap();
        let report = report(&status, json.clone(), false, 0);
        assert_eq!(report.exit.code(), exit, "{roles:?}");
        assert_eq!(report.json, json, "scripts get everything, node ids as numbers");
        assert!(
            report
                .parts
                .iter()
                .any(|part| matches!(part, Part::Line(line) if line.contains(line_has))),
            "{roles:?}: {:?}",
            report.parts
        );
    }

    #[test]
    fn health_follows_the_roles() {
        check(&["leader", "follower", "follower"], 0, "healthy: node 1 leads, 3 of 3 nodes up");
        check(&["leader"], 0, "healthy");
        check(&["leader", "sealed"], 11, "node 2 has no keys");
        check(&["follower", "leader", "learner"], 0, "healthy: node 2 leads");
        check(&["unreachable", "leader", "follower"], 11, "degraded: node 2 leads, 2 of 3");
        check(&["unreachable", "follower", "unreachable"], 10, "unhealthy: no leader, 1 of 3");
        check(&["follower", "follower", "follower"], 10, "unhealthy");
        check(&[], 10, "unhealthy");
    }

    #[test]
    fn a_table_with_everything_fits_80_columns() {
        let detail = json!({
            "epoch": 12, "disk_total_bytes": 1_000, "disk_free_bytes": 40,
            "certificate_until": "2026-03-31T00:00:00Z", "recovered": true,
        });
        let node = |id: u64, role: &str, alarms: &[&str]| {
            json!({
                "id": id, "role": role, "region": "eu-central", "zone": "fra-1b", "term": "104",
                "gateway": "https://licenses-1.example.com:7401",
                "applied_index": "12345678", "lag": "0", "sealed": false, "alarms": alarms,
                "voter": true, "detail": detail,
            })
        };
        let down = json!({ "id": 12, "role": "unreachable", "alarms": ["LAG"] });
        let json = json!({
            "cluster_id": "lh-e9684a7b4801fab2",
            "epoch": { "number": 12, "incarnation": "00a1b2c3d4e5f607" },
            "quorum": { "voters": 3, "needed": 2, "answering": 2, "may_fail": 0 },
            "alarms": [{
                "node_id": 2, "kind": "NOSPACE", "detail": "40 MiB free", "logged": true,
                "found_now": true, "since": "2026-01-01T00:00:00Z"
            }],
            "nodes": [node(1, "leader", &[]), node(2, "follower", &["CLOCK", "NOSPACE"]), down],
        });
        let status: Status = serde_json::from_value(json.clone()).unwrap();
        let now_ms = "2026-01-01T00:00:00Z".parse::<protocol::wire::UtcTime>().unwrap().unix_ms;
        let shown = shown(&report(&status, json, false, now_ms));
        for line in shown.lines().filter(|line| !line.starts_with("node ")) {
            assert!(line.chars().count() <= 80, "{line:?} is too wide");
        }
        assert!(shown.contains("degraded: node 1 leads, 2 of 3 nodes up, 0 more may fail"));
        assert!(shown.contains(" 96%  "), "{shown}");
        assert!(shown.contains(" 89d  "), "{shown}");
        assert!(shown.contains("node 2 raises NOSPACE: 40 MiB free (since 2026"), "{shown}");
    }
}
