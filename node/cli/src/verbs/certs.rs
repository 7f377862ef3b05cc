//! `certs status | rotate`: certificates of the nodes, and the authority they come from.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    CertificateStatus, RotateCertificatesRequest, RotateCertificatesResponse,
};

use super::{document, words};
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::options::{GlobalOptions, MutationOptions, Wait};
use crate::report::{Column, Grid, Part, Report, progress};
use crate::session::Session;
use crate::world::Stopwatch;

/// Certificates of the nodes, and the authority they come from
#[derive(Debug, Clone, Subcommand)]
pub enum CertsVerb {
    /// Show every node's certificates: for what, from whom, until when, renewed by whom
    #[command(after_help = "\
Example:
  leasehold certs status")]
    Status,
    /// Have nodes make new certificates, or replace the authority they come from
    ///
    /// Nodes renew what came from the cluster by themselves, half way through its life. With --ca a
    /// new authority takes the place of the present one, step by step, while everything works: the
    /// same command goes on where it was, whatever happened in between. The former authority stays
    /// believed until --finish.
    #[command(after_help = "\
Examples:
  leasehold certs rotate --node 2
  leasehold certs rotate --all
  leasehold certs rotate --ca
  leasehold certs rotate --ca --finish")]
    Rotate(RotateCertsArgs),
}

/// Options of `certs rotate`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["node", "all", "ca"]))]
pub struct RotateCertsArgs {
    /// This node alone
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    node: Option<u64>,
    /// Every node
    #[arg(long)]
    all: bool,
    /// Replace the authority
    #[arg(long)]
    ca: bool,
    /// End trust in the former authority, once nobody shows a certificate of it
    #[arg(long, requires = "ca", conflicts_with_all = ["node", "all"])]
    finish: bool,
    /// Go on without nodes that do not answer: after --finish they must be replaced
    #[arg(long, requires = "ca", conflicts_with_all = ["node", "all"])]
    force: bool,
    /// With --ca: how long to wait for nodes; each looks every two seconds
    #[arg(long, value_name = "TIME", conflicts_with_all = ["node", "all"], default_value = "1m")]
    wait: Wait,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(
    verb: CertsVerb,
    session: &Session<'_>,
    options: &GlobalOptions,
) -> Result<Report> {
    match verb {
        CertsVerb::Status => status(session).await,
        CertsVerb::Rotate(args) => rotate(args, session, options).await,
    }
}

async fn status(session: &Session<'_>) -> Result<Report> {
    let status: CertificateStatus = session.get(&["admin", "certs"]).await?.json()?;
    let mut grid = Grid::new(&[
        Column::number("NODE"),
        Column::whole("PURPOSE"),
        Column::whole("UNTIL"),
        Column::number("DAYS"),
        Column::whole("RENEWS"),
        Column::text("NAMES"),
    ]);
    let day = |time: &dyn ToString| time.to_string().chars().take(10).collect::<String>();
    for node in &status.nodes {
        if !node.reachable {
            let silent = "-".to_owned();
            let cells = vec![
                node.node_id.to_string(),
                "unreachable".to_owned(),
                silent.clone(),
                silent.clone(),
                silent.clone(),
                silent,
            ];
            grid.row(cells);
        }
        for certificate in &node.certificates {
            grid.row(vec![
                node.node_id.to_string(),
                certificate.purpose.clone(),
                day(&certificate.not_after),
                certificate.days_left.to_string(),
                certificate.renews_at.map_or_else(|| "by hand".to_owned(), |at| day(&at)),
                certificate.names.join(" "),
            ]);
        }
    }
    let mut authorities = Grid::new(&[
        Column::whole("AUTHORITY"),
        Column::state("STATE"),
        Column::text("BELIEVED BY"),
        Column::text("IN USE BY"),
    ]);
    for authority in &status.authorities {
        authorities.row(vec![
            authority.fingerprint.chars().take(16).collect(),
            words(&authority.state),
            numbers(&authority.believed_by),
            numbers(&authority.in_use_by),
        ]);
    }
    let ids = status.authorities.iter().map(|authority| authority.fingerprint.clone()).collect();
    let parts = vec![
        Part::Grid(grid, "no node has a certificate"),
        Part::Grid(authorities, "the cluster has no authority of its own"),
    ];
    Ok(Report::done(document(&status)?, parts, ids))
}

async fn rotate(
    args: RotateCertsArgs,
    session: &Session<'_>,
    options: &GlobalOptions,
) -> Result<Report> {
    if args.ca && args.mutation.idempotency_key.is_some() {
        return Err(CliError::Usage(
            "--idempotency-key does not go with --ca: the command is safe to repeat as it is"
                .to_owned(),
        ));
    }
    let body = RotateCertificatesRequest {
        node_id: args.node,
        ca: args.ca,
        finish: args.finish,
        force: args.force,
    };
    let path = ["admin", "certs", "rotate"];
    let watch = Stopwatch::start();
    let mut told = String::new();
    loop {
        let response: RotateCertificatesResponse =
            session.post(&path, &body, &args.mutation).await?.json()?;
        // What is left is too short for another answer.
        let left_ms = args.wait.ms.saturating_sub(watch.elapsed_ms());
        let waited = std::time::Duration::from_millis(left_ms) < PAUSE;
        if response.done || !args.ca || waited {
            return report(&response);
        }
        let line = sentence(&response);
        if line != told && options.is_talkative() {
            progress(&line);
            told = line;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn report(response: &RotateCertificatesResponse) -> Result<Report> {
    let mut parts = vec![Part::Line(response.message.clone())];
    for (notes, verb) in [(&response.waiting, "waits for"), (&response.left_out, "left out")] {
        for note in notes {
            parts.push(Part::Line(format!("{verb} node {}: {}", note.node_id, note.note)));
        }
    }
    let ids: BTreeSet<u64> =
        response.waiting.iter().chain(&response.left_out).map(|note| note.node_id).collect();
    let ids = ids.iter().map(u64::to_string).collect();
    let exit = if response.done { Exit::Done } else { Exit::Degraded };
    if !response.done {
        parts.push(Part::Line("run the same command again to go on".to_owned()));
    }
    Ok(Report { exit, ..Report::done(document(response)?, parts, ids) })
}

fn sentence(response: &RotateCertificatesResponse) -> String {
    let nodes: Vec<u64> = response.waiting.iter().map(|note| note.node_id).collect();
    match nodes.as_slice() {
        [] => response.message.clone(),
        _ => format!("{} (node {})", response.message, numbers(&nodes)),
    }
}

fn numbers(nodes: &[u64]) -> String {
    nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Between two looks at how far the nodes are.
const PAUSE: Duration = Duration::from_millis(500);
