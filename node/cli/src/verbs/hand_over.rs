//! `cluster transfer-leader` and `node drain`: stop a node, or its leading, so that nobody notices.

use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    DrainRequest, DrainResponse, TransferLeaderRequest, TransferLeaderResponse,
};

use super::document;
use super::standing::{self, Standing};
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Part, Report};
use crate::session::Session;
use crate::world::Stopwatch;

/// Options of `cluster transfer-leader`.
#[derive(Debug, Clone, Args)]
pub struct TransferLeaderArgs {
    /// Who is to lead; the most up-to-date other voter when left out
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// What makes a repeat the same request.
    #[command(flatten)]
    pub mutation: MutationOptions,
}

/// A node's process
#[derive(Debug, Clone, Subcommand)]
pub enum NodeVerb {
    /// Have a node hand leadership on, finish what is under way, and end
    ///
    /// Refused when the other voters that are up are no majority without it.
    #[command(after_help = "\
Examples:
  leasehold node drain 3 --wait
  leasehold node drain --server https://lic-3.example.com:7401")]
    Drain(DrainArgs),
}

/// Options of `node drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    /// The node; the one behind --server when left out
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    pub id: Option<u64>,
    /// Stop it although the others that are up are no majority: nothing is served until it is back
    #[arg(long)]
    pub force: bool,
    /// Wait until it is gone, at most as long as --timeout
    #[arg(long)]
    pub wait: bool,
    /// What makes a repeat the same request.
    #[command(flatten)]
    pub mutation: MutationOptions,
}

pub(crate) async fn transfer_leader(
    args: TransferLeaderArgs,
    session: &Session<'_>,
) -> Result<Report> {
    let body = TransferLeaderRequest { to: args.to };
    let path = ["admin", "cluster", "transfer-leader"];
    let answer = session.post(&path, &body, &args.mutation).await?;
    let now: TransferLeaderResponse = answer.json()?;
    let leader = now.leader;
    let line = Part::Line(format!("node {leader} leads"));
    Ok(Report::done(document(&now)?, vec![line], vec![leader.to_string()]))
}

pub(crate) async fn run(verb: NodeVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        NodeVerb::Drain(args) => drain(args, session).await,
    }
}

async fn drain(args: DrainArgs, session: &Session<'_>) -> Result<Report> {
    let id = match args.id {
        Some(id) => id,
        None => behind_server(session).await?,
    };
    let drained = order(session, id, args.force, &args.mutation).await?;
    if args.wait {
        wait_until_gone(session, id).await?;
    }
    let line = match args.wait {
        true => format!("node {id} has ended"),
        false => format!("node {id}: {}", drained.message),
    };
    Ok(Report::done(document(&drained)?, vec![Part::Line(line)], vec![id.to_string()]))
}

/// Tells a node to drain.
pub(crate) async fn order(
    session: &Session<'_>,
    id: u64,
    force: bool,
    mutation: &MutationOptions,
) -> Result<DrainResponse> {
    let id = id.to_string();
    let path = ["admin", "nodes", &id, "drain"];
    session.post(&path, &DrainRequest { force }, mutation).await?.json()
}

/// The one node that `--server` names.
async fn behind_server(session: &Session<'_>) -> Result<u64> {
    let [server] = session.settings.servers.as_slice() else {
        return Err(CliError::Usage("say which node: leasehold node drain ID".to_owned()));
    };
    let server = server.as_str().trim_end_matches('/').to_owned();
    let standing = standing::now(session).await?;
    let named = standing.nodes.iter().find(|node| node.gateway == server);
    named.map(|node| node.id).ok_or_else(|| {
        CliError::Usage(format!(
            "no node calls itself {server}; say which: leasehold node drain ID"
        ))
    })
}

async fn wait_until_gone(session: &Session<'_>, id: u64) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        // While leadership moves, and on the node itself, nobody may answer.
        if let Ok(Standing { nodes, .. }) = standing::now(session).await
            && nodes.iter().any(|node| node.id == id && !node.is_up())
        {
            return Ok(());
        }
        if session.client.server_count() == 1 && standing::is_silent(session).await {
            return Ok(());
        }
        if watch.elapsed_ms() > session.settings.timeout_ms {
            return Err(CliError::Failed(format!(
                "node {id} was told to drain and still answers; look at its log"
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
