//! `client add | list | ban | unban`: whom license keys are issued to.

use clap::{Args, Subcommand};
use protocol::cloud::admin::{AddClientRequest, ClientList, ClientState, ClientView, is_email};
use serde_json::json;

use super::{ReasonOptions, cut_line, document, pages, query_word, require_id, wire_word, words};
use crate::error::{CliError, Result};
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report, or_dash};
use crate::session::Session;

/// Clients
#[derive(Debug, Clone, Subcommand)]
pub enum ClientVerb {
    /// Add somebody to whom license keys are issued
    #[command(after_help = "\
Example:
  leasehold client add alice@bmw.com")]
    Add(ClientAddArgs),
    /// List the clients
    #[command(after_help = "\
Example:
  leasehold client list --state banned")]
    List(ClientListArgs),
    /// Refuse all licenses of a client, on every node from the next call on
    #[command(after_help = "\
Example:
  leasehold client ban 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10 --reason \"charged back\"")]
    Ban(ClientChangeArgs),
    /// Take a ban back
    #[command(after_help = "\
Example:
  leasehold client unban 0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    Unban(ClientChangeArgs),
}

/// Options of `client add`.
#[derive(Debug, Clone, Args)]
pub struct ClientAddArgs {
    /// Their e-mail address
    email: String,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Options of `client list`.
#[derive(Debug, Clone, Args)]
pub struct ClientListArgs {
    /// Only the client of this address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Only clients in this state: active, banned
    #[arg(long, value_name = "WORD", value_parser = wire_word::<ClientState>)]
    state: Option<ClientState>,
    /// Most clients to show; all when left out
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Options of `client ban` and `client unban`.
#[derive(Debug, Clone, Args)]
pub struct ClientChangeArgs {
    /// The client, as `client list` shows it
    client_id: String,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: ClientVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        ClientVerb::Add(args) => add(args, session).await,
        ClientVerb::List(args) => list(args, session).await,
        ClientVerb::Ban(args) => change("ban", args, session).await,
        ClientVerb::Unban(args) => change("unban", args, session).await,
    }
}

async fn add(args: ClientAddArgs, session: &Session<'_>) -> Result<Report> {
    if !is_email(&args.email) {
        return Err(CliError::Usage(format!("{:?} is no e-mail address", args.email)));
    }
    let body = AddClientRequest { email: args.email };
    let answer = session.post(&["admin", "clients"], &body, &args.mutation).await?;
    let client: ClientView = answer.json()?;
    let line = format!("{} is client {}", address(&client), client.client_id);
    let ids = vec![client.client_id.clone()];
    Ok(Report::done(document(&client)?, vec![Part::Line(line)], ids))
}

fn address(client: &ClientView) -> String {
    client.email.clone().unwrap_or_else(|| "(erased)".to_owned())
}

async fn list(args: ClientListArgs, session: &Session<'_>) -> Result<Report> {
    let filters = [("email", args.email), ("state", query_word(args.state))];
    let (clients, is_cut) =
        pages(session, &["admin", "clients"], &filters, args.limit, |page: ClientList| {
            (page.clients, page.next)
        })
        .await?;
    let mut grid = Grid::new(&[
        Column::whole("CLIENT"),
        Column::state("STATE"),
        Column::number("LICENSES"),
        Column::text("EMAIL"),
    ]);
    for client in &clients {
        grid.row(vec![
            client.client_id.clone(),
            words(&client.state),
            client.licenses.to_string(),
            address(client),
        ]);
    }
    let mut parts = vec![Part::Grid(grid, "there is no such client")];
    if is_cut {
        parts.push(cut_line(clients.len()));
    }
    let ids = clients.iter().map(|client| client.client_id.clone()).collect();
    let json = json!({ "clients": document(&clients)?, "complete": !is_cut });
    Ok(Report::done(json, parts, ids))
}

async fn change(verb: &str, args: ClientChangeArgs, session: &Session<'_>) -> Result<Report> {
    let client_id = require_id("client", &args.client_id)?;
    args.reason.text()?;
    let path = ["admin", "clients", client_id, verb];
    let answer = session.post(&path, &args.reason.body(), &args.mutation).await?;
    let client: ClientView = answer.json()?;
    let facts = vec![
        ("client", client.client_id.clone()),
        ("state", words(&client.state)),
        ("address", address(&client)),
        ("reason", or_dash(client.ban_reason.as_deref())),
    ];
    let ids = vec![client.client_id.clone()];
    Ok(Report::done(document(&client)?, vec![Part::Facts(facts)], ids))
}
