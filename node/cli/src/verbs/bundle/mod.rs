//! `bundle gather`: what a supporter needs to see, in one archive, without secrets and people.
//!
//! ```text
//! NAME.tar.gz
//!   bundle/status.json health.json doctor.json alarms.json members.json versions.json
//!   bundle/audit.json            the last 1,000 events, people and hosts as references only
//!   bundle/metrics/1.txt …       of every server that was reached
//!   bundle/config.toml           of --config, by an allow-list
//!   bundle/logs/1-NAME …         the ends of --log files
//!   bundle/manifest.json         bytes and SHA-256 of each, and what could not be had, and why
//! ```
//!
//! Documents are written from the types of this release, so that nothing a newer server may add
//! goes along unseen; texts go through [`redact`]. The archive is made in memory, bounded by what
//! is read, and is created with mode 0600.

mod archive;
mod redact;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::cloud::admin::{AlarmList, AuditEventView, AuditList};
use protocol::wire::UtcTime;
use serde_json::{Value, json};

use crate::client::Request;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::files::{self, Access};
use crate::options::{GlobalOptions, OutputFormat};
use crate::report::{self, Part, Report};
use crate::session::Session;
use crate::verbs::doctor::{self, evidence::Evidence};
use crate::verbs::document;
use crate::verbs::watching::{health, size};
use crate::world;
use archive::Archive;
use redact::Redactor;

/// What a supporter needs
#[derive(Debug, Clone, Subcommand)]
pub enum BundleVerb {
    /// Gather status, checks, metrics and logs into one archive, without secrets and people
    #[command(after_help = "\
Example:
  leasehold bundle gather --config /etc/leasehold/node.toml --log /var/log/leasehold.log")]
    Gather(GatherArgs),
}

/// `bundle gather`
#[derive(Debug, Clone, Default, Args)]
pub struct GatherArgs {
    /// Where to write it [default: leasehold-bundle-TIME.tar.gz]
    #[arg(value_name = "FILE.tar.gz")]
    pub file: Option<PathBuf>,
    /// The configuration of a node on this machine, shown by an allow-list of keys
    #[arg(long, value_name = "NODE.TOML")]
    pub config: Option<PathBuf>,
    /// A log file of which the last 4 MiB are taken; may be given several times
    #[arg(long, value_name = "FILE")]
    pub log: Vec<PathBuf>,
}

pub(crate) async fn run(
    verb: BundleVerb,
    options: &GlobalOptions,
    session: &Session<'_>,
) -> Result<Report> {
    let BundleVerb::Gather(args) = verb;
    let now_ms = world::wall_ms();
    let file = args.file.clone().unwrap_or_else(|| default_name(now_ms));
    files::require_absent(&file)?;
    let is_quiet = options.quiet || options.output == OutputFormat::Json;
    let say = |text: &str| {
        if !is_quiet {
            report::progress(text);
        }
    };
    let mut archive = Archive::new();
    say("asking for the last audit events");
    let audit = audit(session).await;
    let redactor = Redactor::new(audit.iter().flatten().flat_map(names_of));
    match &audit {
        Some(events) => {
            let shown: Vec<Value> = events.iter().map(event).collect();
            archive.json("audit.json", &json!({ "events": shown }))?;
        }
        None => archive.missing("audit.json", "the audit log could not be asked for"),
    }
    say("looking at the cluster");
    let evidence = Evidence::gather(session).await?;
    cluster(&mut archive, &evidence, &redactor)?;
    say("asking for alarms");
    match alarms(session).await {
        Some(list) => archive.json("alarms.json", &redactor.json(&document(&list)?))?,
        None => archive.missing("alarms.json", "the alarms could not be asked for"),
    }
    say("reading files");
    if let Some(path) = &args.config {
        let text = files::read_text(path, MAX_CONFIG_BYTES)?;
        let cleaned = redactor.config(&text).ok_or_else(|| {
            CliError::Usage(format!("{} is no configuration: it is not TOML", path.display()))
        })?;
        archive.text("config.toml", &cleaned);
    }
    for (number, path) in args.log.iter().enumerate() {
        let tail = files::read_tail(path, MAX_LOG_BYTES)?;
        archive.text(&format!("logs/{}-{}", number + 1, plain_name(path)), &redactor.text(&tail));
    }
    say("writing the archive");
    let (bytes, manifest) = archive.finish(now_ms)?;
    files::create(&file, &bytes, Access::Private)?;
    Ok(done(&file, bytes.len() as u64, manifest))
}

fn cluster(archive: &mut Archive, evidence: &Evidence, redactor: &Redactor) -> Result<()> {
    match &evidence.status {
        Some(status) => {
            archive.json("status.json", &redactor.json(&document(status)?))?;
            let (lines, exit) = health::judge(status);
            archive.json("health.json", &health::json(&lines, exit))?;
            let versions: Vec<Value> = status
                .details()
                .map(|(node, detail)| json!({ "node": node.id, "version": detail.version }))
                .collect();
            let own = env!("CARGO_PKG_VERSION");
            archive.json("versions.json", &json!({ "this": own, "nodes": versions }))?;
        }
        None => archive.missing("status.json", "no node can say how the cluster is"),
    }
    let all: Vec<_> = doctor::CHECKS.iter().collect();
    let findings = doctor::findings(evidence, &all);
    archive.json("doctor.json", &redactor.json(&doctor::json_of(&findings)))?;
    match &evidence.members {
        Some(members) => archive.json("members.json", &redactor.json(&document(members)?))?,
        None => archive.missing("members.json", "the members could not be asked for"),
    }
    for (number, server) in evidence.servers.iter().enumerate() {
        let name = format!("metrics/{}.txt", number + 1);
        match &server.unreached {
            None => archive.text(&name, &redactor.text(&server.metrics_text)),
            Some(why) => archive.missing(&name, &redactor.text(why)),
        }
    }
    Ok(())
}

async fn audit(session: &Session<'_>) -> Option<Vec<AuditEventView>> {
    let request = Request::get(&["admin", "audit"])
        .bearer(session.settings.operator_token().ok()?)
        .query("order", Some("desc".to_owned()))
        .query("limit", Some(AUDIT_EVENTS.to_string()));
    let list: AuditList = session.client.send(&request).await.ok()?.json().ok()?;
    Some(list.events)
}

async fn alarms(session: &Session<'_>) -> Option<AlarmList> {
    session.get(&["admin", "alarms"]).await.ok()?.json().ok()
}

/// Whom an event names.
fn names_of(event: &AuditEventView) -> Vec<String> {
    [&event.user, &event.host].into_iter().flatten().filter_map(|it| it.name.clone()).collect()
}

/// An event without names, leases and particulars.
fn event(event: &AuditEventView) -> Value {
    json!({
        "seq": event.seq,
        "time": event.time,
        "kind": event.kind,
        "actor": event.actor,
        "package_id": event.package_id,
        "user": event.user.as_ref().map(|it| &it.reference),
        "host": event.host.as_ref().map(|it| &it.reference),
        "hash": event.hash,
    })
}

fn done(file: &Path, bytes: u64, manifest: Value) -> Report {
    let shown = file.display().to_string();
    let missing = manifest["missing"].as_array().cloned().unwrap_or_default();
    let count = manifest["files"].as_array().map_or(0, Vec::len);
    let mut parts = vec![Part::Line(format!("{shown}: {count} files, {}, mode 0600", size(bytes)))];
    for one in &missing {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        parts.push(Part::Line(format!("not in it: {} ({})", text("name"), text("why"))));
    }
    let exit = if missing.is_empty() { Exit::Done } else { Exit::Degraded };
    let json = json!({ "file": shown, "bytes": bytes, "manifest": manifest });
    Report { exit, json, parts, ids: vec![shown] }
}

fn default_name(now_ms: i64) -> PathBuf {
    let time: String = UtcTime::from_unix_ms(now_ms).to_string();
    let plain: String = time.chars().filter(char::is_ascii_alphanumeric).take(15).collect();
    format!("leasehold-bundle-{plain}.tar.gz").into()
}

/// The last part of a path, as a name that no archive misreads.
fn plain_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(64).collect()
}

const AUDIT_EVENTS: u32 = 1_000;
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_LOG_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests;
