//! `cluster status`: who is up, and who leads.
//!
//! The answer of a node that sees no leader may only mean that this node is cut off, so the other
//! servers are asked as well, and the answer that has a leader counts.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::enroll::{InitArgs, JoinArgs};
use super::hand_over::{self, TransferLeaderArgs};
use super::roll::RollArgs;
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::report::{Column, Grid, Part, Report, or_dash};
use crate::session::Session;

/// The cluster
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterVerb {
    /// Show the nodes: who leads, who is up, how far each is
    ///
    /// Exits with 0 when every node is up, 11 when the cluster works and a node is unreachable or
    /// sealed, 10 when there is no leader.
    Status,
    /// Make the first node of a new cluster on this machine
    ///
    /// Writes configuration, keys and certificates into a directory that is empty or not there, and
    /// shows the first operator token, once.
    #[command(after_help = "\
Example:
  leasehold cluster init --client-id bmw-de-001 --org-domain bmw.com \\
      --dir /var/lib/leasehold --advertise lic-1.example.com:7401")]
    Init(InitArgs),
    /// Make this machine's node of a cluster that runs, with a join token (--token)
    ///
    /// Keys are made here and stay here. It can be repeated after an interruption.
    #[command(after_help = "\
Example:
  leasehold cluster join --token lhj1_… --dir /var/lib/leasehold \\
      --advertise lic-2.example.com:7401")]
    Join(JoinArgs),
    /// Hand leadership to another voter
    #[command(
        visible_alias = "move-leader",
        after_help = "\
Example:
  leasehold cluster transfer-leader --to 2"
    )]
    TransferLeader(TransferLeaderArgs),
    /// Restart every node, one at a time: drain it, run the command, wait until it is well
    #[command(after_help = "\
Example:
  leasehold cluster roll --run 'systemctl -H {host} restart leasehold'")]
    Roll(RollArgs),
}

/// What this release reads of the answer; scripts get all of it.
#[derive(Debug, Deserialize)]
struct Status {
    cluster_id: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: u64,
    role: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    gateway: Option<String>,
    #[serde(default)]
    applied_index: Option<Value>,
    #[serde(default)]
    lag: Option<Value>,
    #[serde(default)]
    sealed: Option<bool>,
    #[serde(default)]
    alarms: Vec<String>,
}

impl Node {
    fn is_up(&self) -> bool {
        self.role != "unreachable"
    }

    fn is_sealed(&self) -> bool {
        self.sealed == Some(true)
    }

    /// Region and zone, as far as they are set.
    fn place(&self) -> String {
        let labels = [&self.region, &self.zone].into_iter().flatten();
        labels.filter(|label| !label.is_empty()).cloned().collect::<Vec<_>>().join("/")
    }
}

pub(crate) async fn run(verb: ClusterVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        ClusterVerb::Status => status(session).await,
        ClusterVerb::TransferLeader(args) => hand_over::transfer_leader(args, session).await,
        ClusterVerb::Init(_) | ClusterVerb::Join(_) | ClusterVerb::Roll(_) => {
            Err(CliError::Failed("this is done elsewhere".to_owned()))
        }
    }
}

async fn status(session: &Session<'_>) -> Result<Report> {
    let mut seen: Option<(Status, Value)> = None;
    let mut first_error = None;
    for server in 0..session.client.server_count() {
        match ask(session, server).await {
            Ok((status, json)) => {
                let has_leader = health(&status) != Exit::Unhealthy;
                if has_leader || seen.is_none() {
                    seen = Some((status, json));
                }
                if has_leader {
                    break;
                }
            }
            Err(error) => first_error = Some(worse(first_error, error)),
        }
    }
    match (seen, first_error) {
        (Some((status, json)), _) => Ok(report(&status, json)),
        // The nodes are there, and not one of them serves.
        (None, Some(CliError::Refused(refusal))) if refusal.exit() == Exit::NoQuorum => {
            Err(CliError::NotServing(refusal))
        }
        (None, Some(error)) => Err(error),
        (None, None) => Err(CliError::NotReachable { tried: Vec::new() }),
    }
}

async fn ask(session: &Session<'_>, server: usize) -> Result<(Status, Value)> {
    let request =
        Request::get(&["admin", "cluster", "status"]).bearer(session.settings.operator_token()?);
    let answer = session.client.ask(server, &request).await?;
    Ok((answer.json()?, answer.json()?))
}

/// Of two servers that failed, what to tell: an answer says more than none, and none is told of
/// all.
fn worse(first: Option<CliError>, error: CliError) -> CliError {
    match (first, error) {
        (Some(CliError::NotReachable { mut tried }), CliError::NotReachable { tried: more }) => {
            tried.extend(more);
            CliError::NotReachable { tried }
        }
        (Some(CliError::NotReachable { .. }) | None, error) => error,
        (Some(first), _) => first,
    }
}

/// How the cluster is, as the exit code tells it.
fn health(status: &Status) -> Exit {
    if !status.nodes.iter().any(|node| node.role == "leader") {
        Exit::Unhealthy
    } else if status.nodes.iter().any(|node| !node.is_up() || node.is_sealed()) {
        Exit::Degraded
    } else {
        Exit::Done
    }
}

fn report(status: &Status, json: Value) -> Report {
    let exit = health(status);
    let up = status.nodes.iter().filter(|node| node.is_up()).count();
    let nodes = format!("{up} of {} nodes up", status.nodes.len());
    let leader = status.nodes.iter().find(|node| node.role == "leader").map(|node| node.id);
    let health = match (exit, leader) {
        (Exit::Done, Some(id)) => format!("healthy: node {id} leads, {nodes}"),
        (Exit::Degraded, Some(id)) => format!("degraded: node {id} leads, {nodes}"),
        _ => format!("unhealthy: no leader, {nodes}; no seat can be taken until a majority is up"),
    };
    let is_placed = status.nodes.iter().any(|node| !node.place().is_empty());
    let mut columns = vec![Column::number("NODE"), Column::state("ROLE"), Column::whole("GATEWAY")];
    if is_placed {
        columns.push(Column::text("PLACE"));
    }
    columns.extend([Column::number("APPLIED"), Column::number("LAG")]);
    let mut grid = Grid::new(&columns);
    for node in &status.nodes {
        let mut cells =
            vec![node.id.to_string(), node.role.clone(), or_dash(node.gateway.as_deref())];
        if is_placed {
            cells.push(or_dash(Some(&node.place())));
        }
        cells.extend([number(&node.applied_index), number(&node.lag)]);
        grid.row(cells);
    }
    let mut parts = vec![
        Part::Line(format!("cluster {}", or_dash(Some(&status.cluster_id)))),
        Part::Line(health),
        Part::Grid(grid, "no nodes"),
    ];
    for node in &status.nodes {
        if node.is_sealed() {
            let line = format!("node {} has no keys: it votes and does not serve", node.id);
            parts.push(Part::Line(line));
        }
        for alarm in &node.alarms {
            parts.push(Part::Line(format!("node {} raises an alarm: {alarm}", node.id)));
        }
    }
    Report { exit, json, parts, ids: status.nodes.iter().map(|node| node.id.to_string()).collect() }
}

/// A number that is one, or a string of digits.
fn number(value: &Option<Value>) -> String {
    match value {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        let report = report(&status, json.clone());
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
    fn an_answer_says_more_than_silence_and_silence_is_told_of_all() {
        let silent = |server: &str| CliError::NotReachable {
            tried: vec![(server.to_owned(), "refused".to_owned())],
        };
        let both = worse(Some(silent("a")), silent("b")).line();
        assert!(both.contains("a (refused), b (refused)"), "{both}");
        let said = || CliError::Failed("said".to_owned());
        assert_eq!(worse(Some(silent("a")), said()).exit(), Exit::Failed);
        assert_eq!(worse(Some(said()), silent("a")).exit(), Exit::Failed);
        assert_eq!(worse(None, silent("a")).exit(), Exit::NotReachable);
    }
}
