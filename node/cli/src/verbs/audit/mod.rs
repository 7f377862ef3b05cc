//! `audit tail | verify | export | prune`: what happened, whether the log of it is whole, and
//! keeping it somewhere else.
//!
//! Segments are files that prove themselves (`protocol::audit_segment`): `export` reads back what
//! it writes before the file gets its name, `verify FILE` needs nothing but the file and the
//! cluster's published keys, and `prune` lets go of nothing that no verified file holds.

mod segment;
mod tail;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::cloud::admin::AuditVerification;
use serde_json::json;

use super::document;
use crate::client::Request;
use crate::error::Result;
use crate::exit::Exit;
use crate::options::{GlobalOptions, MutationOptions};
use crate::report::{Part, Report};
use crate::session::Session;

pub use tail::TailArgs;

/// The audit log
#[derive(Debug, Clone, Subcommand)]
pub enum AuditVerb {
    /// Show what happened lately, and follow it
    #[command(after_help = "\
Examples:
  leasehold audit tail -f
  leasehold audit tail --since 1h --kind refused
  leasehold audit tail --user alice@bmw.com -n 200 -o json")]
    Tail(TailArgs),
    /// Check that the log is whole: of the node that answers, or of an exported file
    #[command(after_help = "\
Examples:
  leasehold audit verify
  leasehold audit verify audit-2027-01.jsonl --keys offline-keys.json

Exit code 8: an event is missing, was changed, or is not signed by a key that is believed.")]
    Verify(VerifyAuditArgs),
    /// Write events to a signed file, and verify it before it gets its name
    #[command(after_help = "\
Example:
  leasehold audit export audit-2027-01.jsonl --to 250000")]
    Export(ExportArgs),
    /// Let go of the events that a verified file holds
    ///
    /// The newest event of the log always stays.
    #[command(after_help = "\
Example:
  leasehold audit prune --export audit-2027-01.jsonl")]
    Prune(PruneArgs),
}

/// Options of `audit verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyAuditArgs {
    /// An exported file; the log of the node that answers when left out
    file: Option<PathBuf>,
    #[command(flatten)]
    keys: KeyOptions,
}

impl VerifyAuditArgs {
    /// Whether a server has to be asked.
    pub(crate) fn needs_server(&self) -> bool {
        self.file.is_none() || self.keys.keys.is_none()
    }
}

/// Which keys are believed.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyOptions {
    /// A file with the cluster's key set, as /.well-known/leasehold-offline-keys.json has it; a
    /// server is asked when left out
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

/// Options of `audit export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The file to write; it must not exist
    file: PathBuf,
    /// Number of the first event; the oldest when left out
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// Number of the last event; the newest when left out
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    #[command(flatten)]
    keys: KeyOptions,
}

/// Options of `audit prune`.
#[derive(Debug, Clone, Args)]
pub struct PruneArgs {
    /// The file that holds what is let go, as `audit export` wrote it
    #[arg(long, value_name = "FILE")]
    export: PathBuf,
    #[command(flatten)]
    keys: KeyOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Does what needs no server.
pub(crate) fn verify_offline(args: &VerifyAuditArgs) -> Result<Report> {
    segment::verify_with_file(args)
}

pub(crate) async fn run(
    verb: AuditVerb,
    session: &Session<'_>,
    options: &GlobalOptions,
) -> Result<Report> {
    match verb {
        AuditVerb::Tail(args) => tail::run(args, session, options).await,
        AuditVerb::Verify(VerifyAuditArgs { file: Some(file), keys }) => {
            segment::verify(&file, &keys, session).await
        }
        AuditVerb::Verify(_) => verify_log(session).await,
        AuditVerb::Export(args) => segment::export(args, session, options).await,
        AuditVerb::Prune(args) => segment::prune(args, session).await,
    }
}

/// Has a server check its copy, answer by answer.
async fn verify_log(session: &Session<'_>) -> Result<Report> {
    let (mut events, mut first, mut cursor) = (0_u64, None, None::<String>);
    let last = loop {
        let request = Request::get(&["admin", "audit", "verify"])
            .bearer(session.settings.operator_token()?)
            .query("cursor", cursor.clone());
        let answer: AuditVerification = session.client.send(&request).await?.json()?;
        events = events.saturating_add(answer.events.0);
        first.get_or_insert(answer.first);
        match &answer.next {
            Some(next) if cursor.as_ref() != Some(next) => cursor = Some(next.clone()),
            _ => break answer,
        }
    };
    let mut facts = vec![
        ("log", if last.intact { "intact" } else { "BROKEN" }.to_owned()),
        ("node", last.node.to_string()),
        ("events", format!("{events}, the last is {}", last.last.0)),
        ("pruned up to", last.floor.0.to_string()),
        ("hash of the last", last.hash.text()),
    ];
    if let Some(seq) = last.broken_at {
        facts.insert(1, ("broken at event", seq.0.to_string()));
        facts.insert(2, ("because", last.reason.clone().unwrap_or_default()));
    }
    let json = json!({
        "intact": last.intact,
        "node": last.node,
        "events": events.to_string(),
        "first": document(&first)?,
        "last": document(&last.last)?,
        "hash": document(&last.hash)?,
        "floor": document(&last.floor)?,
        "head": document(&last.head)?,
        "broken_at": document(&last.broken_at)?,
        "reason": document(&last.reason)?,
    });
    let mut parts = vec![Part::Facts(facts)];
    if !last.intact {
        let advice = "Other nodes have copies of their own: ask them with --server; \
                      `leasehold member replace` renews the node whose copy is broken.";
        parts.push(Part::Line(advice.to_owned()));
    }
    let exit = if last.intact { Exit::Done } else { Exit::Unverifiable };
    Ok(Report { exit, ..Report::done(json, parts, vec![last.last.0.to_string()]) })
}

#[cfg(test)]
mod tests;
