//! `cluster roll`: restart every node, one at a time, and never two down.
//!
//! ```text
//! for each node, the sick ones first and the leader last:
//!   every other node is well ─ drain it ─ run the command ─ it is up, unsealed, caught up
//! ```
//!
//! A node that is sick itself is rolled first: the command may be what cures it. Whatever goes
//! wrong ends it there, and the last line says how to go on.

use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::hand_over;
use super::standing::{self, NodeStanding, Standing};
use crate::error::{CliError, Result};
use crate::options::{GlobalOptions, MutationOptions, Wait};
use crate::report::{Part, Report, progress};
use crate::session::Session;
use crate::world::Stopwatch;

/// Options of `cluster roll`.
#[derive(Debug, Clone, Args)]
pub struct RollArgs {
    /// What restarts a node, for a shell; {host} is the host of its gateway, {id} its number
    #[arg(long, value_name = "COMMAND")]
    pub run: String,
    /// Only this node; repeat it to name more. All of them when left out
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub node: Vec<u64>,
    /// Longest wait for one node to be well again, as 2m
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub node_timeout: Wait,
}

pub(crate) async fn run(
    args: RollArgs,
    session: &Session<'_>,
    options: &GlobalOptions,
) -> Result<Report> {
    let standing = standing::now(session).await?;
    let mut order = order_of(&standing, &args.node)?;
    let tell = |line: &str| {
        if options.is_talkative() {
            progress(line);
        }
    };
    let mut done: Vec<u64> = Vec::new();
    while let Some(id) = (!order.is_empty()).then(|| order.remove(0)) {
        if let Err(error) = roll_one(&args, session, id, &tell).await {
            let left: Vec<String> =
                [id].into_iter().chain(order).map(|id| format!("--node {id}")).collect();
            return Err(CliError::Failed(format!(
                "stopped at node {id}: {}; when it is well, go on with: leasehold cluster roll \
                 --run '{}' {}",
                error.line(),
                args.run,
                left.join(" ")
            )));
        }
        done.push(id);
    }
    let ids: Vec<String> = done.iter().map(u64::to_string).collect();
    let line = format!("{} of {} nodes were restarted", done.len(), standing.nodes.len());
    Ok(Report::done(json!({ "restarted": done }), vec![Part::Line(line)], ids))
}

/// The sick first, then those that follow, the leader last.
fn order_of(standing: &Standing, only: &[u64]) -> Result<Vec<u64>> {
    if let Some(unknown) = only.iter().find(|id| !standing.nodes.iter().any(|it| it.id == **id)) {
        return Err(CliError::NotFound(format!("no node {unknown}")));
    }
    let mut nodes: Vec<&NodeStanding> =
        standing.nodes.iter().filter(|node| only.is_empty() || only.contains(&node.id)).collect();
    nodes.sort_by_key(|node| match node.fault() {
        Some(_) => (0, node.id),
        None if standing.leader == Some(node.id) => (2, node.id),
        None => (1, node.id),
    });
    Ok(nodes.into_iter().map(|node| node.id).collect())
}

async fn roll_one(
    args: &RollArgs,
    session: &Session<'_>,
    id: u64,
    tell: &impl Fn(&str),
) -> Result<()> {
    let watch = Stopwatch::start();
    let before = others_are_well(args, session, id, watch).await?;
    let node = before.nodes.iter().find(|node| node.id == id);
    let node = node.ok_or_else(|| CliError::NotFound(format!("no node {id}")))?.clone();
    if node.is_up() {
        tell(&format!("node {id}: drains"));
        // A sick node does not count among those that are needed.
        let force = node.fault().is_some();
        hand_over::order(session, id, force, &MutationOptions::default()).await?;
        until_gone(args, session, &node, watch).await?;
    }
    let line = command_of(&args.run, &node);
    tell(&format!("node {id}: {line}"));
    restart(&line).await?;
    let restarted = Stopwatch::start();
    loop {
        if let Ok(now) = standing::now(session).await
            && now.leader.is_some()
            && let Some(found) = now.nodes.iter().find(|found| found.id == id)
            && found.fault().is_none()
        {
            tell(&format!("node {id}: is back, {} s", restarted.elapsed_ms().div_ceil(1_000)));
            return Ok(());
        }
        if restarted.elapsed_ms() > args.node_timeout.ms {
            return Err(CliError::Failed(format!("it is not well again; look at the log of {id}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits a moment for the others; a node that was just restarted may still take connections up.
async fn others_are_well(
    args: &RollArgs,
    session: &Session<'_>,
    id: u64,
    watch: Stopwatch,
) -> Result<Standing> {
    loop {
        let fault = match standing::now(session).await {
            Ok(standing) => {
                let others = || standing.nodes.iter().filter(|node| node.id != id);
                let sick = others().find_map(|node| Some((node.id, node.fault()?)));
                match (sick, standing.leader) {
                    (None, Some(_)) => return Ok(standing),
                    (Some((other, fault)), _) => format!("node {other} {fault}"),
                    (None, None) => "the cluster has no leader".to_owned(),
                }
            }
            Err(error) => error.line(),
        };
        if watch.elapsed_ms() > args.node_timeout.ms.min(SETTLE_MS) {
            return Err(CliError::Failed(format!("{fault}, so no other node may go down now")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the process that was told to end has ended, or another one runs in its place.
async fn until_gone(
    args: &RollArgs,
    session: &Session<'_>,
    node: &NodeStanding,
    watch: Stopwatch,
) -> Result<()> {
    let before_ms = node.uptime_ms().unwrap_or(0);
    loop {
        if let Ok(now) = standing::now(session).await
            && let Some(found) = now.nodes.iter().find(|found| found.id == node.id)
            && (!found.is_up() || found.uptime_ms().is_some_and(|uptime| uptime < before_ms))
        {
            return Ok(());
        }
        if watch.elapsed_ms() > args.node_timeout.ms {
            return Err(CliError::Failed("it was told to drain and still answers".to_owned()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn command_of(template: &str, node: &NodeStanding) -> String {
    let host = node.host().unwrap_or_default();
    template.replace("{host}", &host).replace("{id}", &node.id.to_string())
}

async fn restart(line: &str) -> Result<()> {
    let shell = line.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        Command::new("sh").arg("-c").arg(shell).stdin(Stdio::null()).output()
    });
    let output = ran
        .await
        .map_err(|error| CliError::Failed(error.to_string()))?
        .map_err(|error| CliError::Failed(format!("sh cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or_default().to_owned();
    Err(CliError::Failed(format!("`{line}` ended with {}: {said}", output.status)))
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// For the others to settle after the node before.
const SETTLE_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sick_come_first_and_the_leader_last() {
        let standing = |roles: [&str; 3], leader: u64| -> Standing {
            let nodes: Vec<_> = (1..)
                .zip(roles)
                .map(|(id, role)| json!({ "id": id, "role": role, "gateway": "https://h:1" }))
                .collect();
            serde_json::from_value(json!({ "leader": leader, "nodes": nodes })).unwrap()
        };
        let table = [
            (standing(["leader", "follower", "follower"], 1), vec![], vec![2, 3, 1]),
            (standing(["follower", "leader", "unreachable"], 2), vec![], vec![3, 1, 2]),
            (standing(["follower", "leader", "unreachable"], 2), vec![1, 3], vec![3, 1]),
        ];
        for (standing, only, want) in table {
            assert_eq!(order_of(&standing, &only).unwrap(), want);
        }
        assert!(order_of(&standing(["leader", "follower", "follower"], 1), &[9]).is_err());
    }

    #[test]
    fn the_command_names_the_node() {
        let node: NodeStanding =
            serde_json::from_value(json!({ "id": 7, "gateway": "https://lic-7.example:7401" }))
                .unwrap();
        let line = command_of("systemctl -H {host} restart leasehold # {id}", &node);
        assert_eq!(line, "systemctl -H lic-7.example restart leasehold # 7");
    }
}
