//! `keys status | rotate`: versions of the cluster's keys, and what still depends on which.

use clap::{Args, Subcommand, ValueEnum};
use protocol::cloud::admin::{KeyStatus, RotateKeyRequest, RotateKeyResponse, RotatedKey};

use super::document;
use crate::error::Result;
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;

/// Versions of the cluster's keys
#[derive(Debug, Clone, Subcommand)]
pub enum KeysVerb {
    /// Show which versions there are, and what still depends on which; no key is shown
    #[command(after_help = "\
Example:
  leasehold keys status")]
    Status,
    /// Make a new version of a key, or let the old ones go
    ///
    /// Nothing stops meanwhile, and no secret or token becomes invalid. --finish ends the old
    /// versions and is refused while something depends on them.
    #[command(after_help = "\
Examples:
  leasehold keys rotate --data-key
  leasehold keys rotate --data-key --finish
  leasehold keys rotate --pepper client-secrets
  leasehold keys rotate --token-signing --node 2")]
    Rotate(RotateKeysArgs),
}

/// Options of `keys rotate`.
#[derive(Debug, Clone, Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).args(["data_key", "pepper", "token_signing"])
)]
pub struct RotateKeysArgs {
    /// The key that seals the cluster's secrets
    #[arg(long)]
    data_key: bool,
    /// Under what the stored forms of credentials are made
    #[arg(long, value_name = "OF")]
    pepper: Option<PepperOf>,
    /// What nodes sign access tokens with
    #[arg(long)]
    token_signing: bool,
    /// With --token-signing: this node alone; all when left out
    #[arg(long, value_name = "ID", conflicts_with_all = ["data_key", "pepper"],
          value_parser = clap::value_parser!(u64).range(1..))]
    node: Option<u64>,
    /// Let the old versions go
    #[arg(long, visible_alias = "retire", conflicts_with = "token_signing")]
    finish: bool,
    /// With --data-key --finish: without asking nodes that do not answer
    #[arg(long, requires = "finish", conflicts_with_all = ["pepper", "token_signing"])]
    force: bool,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Of which credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PepperOf {
    /// Client secrets of applications.
    ClientSecrets,
    /// Operator tokens and API keys.
    OperatorTokens,
}

pub(crate) async fn run(verb: KeysVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        KeysVerb::Status => status(session).await,
        KeysVerb::Rotate(args) => rotate(args, session).await,
    }
}

async fn status(session: &Session<'_>) -> Result<Report> {
    let status: KeyStatus = session.get(&["admin", "keys"]).await?.json()?;
    let mut versions = Grid::new(&[
        Column::whole("KEY"),
        Column::number("VERSION"),
        Column::text("WHAT DEPENDS ON IT"),
    ]);
    for key in &status.data_keys {
        versions.row(vec![
            "data-key".to_owned(),
            key.version.to_string(),
            format!("{} secrets, {} session keys", key.secrets, key.records),
        ]);
    }
    for pepper in &status.peppers {
        for version in &pepper.versions {
            versions.row(vec![
                pepper.name.clone(),
                version.version.to_string(),
                format!("{} credentials", version.credentials),
            ]);
        }
    }
    let mut tokens = Grid::new(&[
        Column::number("NODE"),
        Column::whole("SIGNS"),
        Column::whole("TOKEN KEY"),
        Column::text("UNTIL"),
    ]);
    for key in &status.token_keys {
        tokens.row(vec![
            key.node_id.to_string(),
            key.algorithm.clone(),
            key.kid.clone(),
            key.verifies_until.map_or_else(|| "signs".to_owned(), |until| until.to_string()),
        ]);
    }
    let mut nodes = Grid::new(&[Column::number("NODE"), Column::text("WORKS WITH DATA KEY")]);
    for node in &status.nodes {
        let data_key = match node.data_key {
            None => "unreachable".to_owned(),
            Some(0) => "none: it is sealed".to_owned(),
            Some(version) => format!("version {version}"),
        };
        nodes.row(vec![node.node_id.to_string(), data_key]);
    }
    let ids = status.data_keys.iter().map(|key| key.version.to_string()).collect();
    let parts = vec![
        Part::Grid(versions, "there is no key"),
        Part::Grid(tokens, "no node has published a token key"),
        Part::Grid(nodes, "there is no node"),
    ];
    Ok(Report::done(document(&status)?, parts, ids))
}

async fn rotate(args: RotateKeysArgs, session: &Session<'_>) -> Result<Report> {
    let what = match (args.data_key, args.pepper) {
        (true, _) => RotatedKey::DataKey,
        (false, Some(PepperOf::ClientSecrets)) => RotatedKey::ClientSecretPepper,
        (false, Some(PepperOf::OperatorTokens)) => RotatedKey::OperatorPepper,
        (false, None) => RotatedKey::TokenSigning,
    };
    let body =
        RotateKeyRequest { what, node_id: args.node, finish: args.finish, force: args.force };
    let path = ["admin", "keys", "rotate"];
    let response: RotateKeyResponse = session.post(&path, &body, &args.mutation).await?.json()?;
    let mut facts = Vec::new();
    if let Some(version) = response.version {
        facts.push(("newest version", version.to_string()));
    }
    if !response.dropped.is_empty() {
        let dropped: Vec<String> = response.dropped.iter().map(u32::to_string).collect();
        facts.push(("let go", format!("version {}", dropped.join(", "))));
    }
    let mut parts = vec![Part::Line(response.message.clone())];
    if !facts.is_empty() {
        parts.push(Part::Facts(facts));
    }
    let ids = response.version.iter().map(u32::to_string).collect();
    Ok(Report::done(document(&response)?, parts, ids))
}
