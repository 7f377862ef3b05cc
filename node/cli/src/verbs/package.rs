//! `package import | list | show | suspend | resume | revoke | release-reserved | borrow-rules |
//! offline`, and the document's `import`.
//!
//! Import with a key verifies the package under that key here first, whatever the cluster thinks;
//! the server then verifies it under the key it has pinned and compares the two. `--trust` pins the
//! key before, and only after the package at hand verified under it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    ImportForm, ImportResponse, ImportStatus, PackageList, PackageView, ReservedSeatsView,
    SeatsView,
};
use protocol::keys::PublicKey;
use serde_json::Value;

use super::borrow::{self, BorrowRulesVerb, OfflineArgs};
use super::workshop::{self, BenchVerb, MAX_PACKAGE_BYTES};
use super::{ReasonOptions, document, offline_line, pages, require_id, vendor, words};
use crate::error::Result;
use crate::files;
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report, duration, or_dash};
use crate::session::Session;

/// License packages
#[derive(Debug, Clone, Subcommand)]
pub enum PackageVerb {
    /// What a vendor does at its bench.
    #[command(flatten)]
    Bench(BenchVerb),
    /// What a cluster does.
    #[command(flatten)]
    Server(ServerVerb),
}

/// The verbs about packages that ask a server.
#[derive(Debug, Clone, Subcommand)]
pub enum ServerVerb {
    /// Import a signed package into the cluster
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// List the packages
    #[command(after_help = "\
Example:
  leasehold package list")]
    List,
    /// Show one package
    #[command(after_help = "\
Example:
  leasehold package show vec-davinci-se-bmw-2025-001")]
    Show(PackageArgs),
    /// Stop a package for a while: no new seats
    #[command(after_help = "\
Example:
  leasehold package suspend vec-davinci-se-bmw-2025-001 --reason \"invoice 4711 is open\"")]
    Suspend(ChangeArgs),
    /// Give out seats of a suspended package again
    #[command(after_help = "\
Example:
  leasehold package resume vec-davinci-se-bmw-2025-001 --reason \"invoice 4711 is paid\"")]
    Resume(ChangeArgs),
    /// End a package for good
    #[command(after_help = "\
Example:
  leasehold package revoke vec-davinci-se-bmw-2025-001 --reason \"contract ended\"")]
    Revoke(ChangeArgs),
    /// Give out seats again that a restore keeps for borrows it cannot know
    #[command(after_help = "\
Release them only when no device holds a token that was borrowed after the backup: its seat would
be sold twice. Without this they are free at the time that `package show` names.

Example:
  leasehold package release-reserved vec-davinci-se-bmw-2025-001 \\
      --reason \"all laptops were online on Monday\"")]
    ReleaseReserved(ChangeArgs),
    /// Show or set an operator's rules for borrowing
    #[command(subcommand)]
    BorrowRules(BorrowRulesVerb),
    /// Show who holds offline tokens of a package, until when
    #[command(after_help = "\
Example:
  leasehold package offline vec-davinci-se-bmw-2025-001")]
    Offline(OfflineArgs),
}

/// Options of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The signed package
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// Verify the signature here, too, before anything is sent
    #[arg(long, requires = "vendor_public_key")]
    verify_signature: bool,
    /// The vendor's public key; it must be the one that the cluster has pinned
    #[arg(long, value_name = "PEM")]
    vendor_public_key: Option<PathBuf>,
    /// Pin this key for the package's vendor first, if none is pinned
    #[arg(long, requires = "vendor_public_key")]
    trust: bool,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// Which package.
#[derive(Debug, Clone, Args)]
pub struct PackageArgs {
    /// The package, as `package list` shows it
    package_id: String,
}

/// Options of verbs that change a package's state.
#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    /// The package, as `package list` shows it
    package_id: String,
    #[command(flatten)]
    reason: ReasonOptions,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: ServerVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        ServerVerb::Import(args) => import(args, session).await,
        ServerVerb::List => list(session).await,
        ServerVerb::Show(args) => show(args, session).await,
        ServerVerb::Suspend(args) => change("suspend", args, session).await,
        ServerVerb::Resume(args) => change("resume", args, session).await,
        ServerVerb::Revoke(args) => change("revoke", args, session).await,
        ServerVerb::ReleaseReserved(args) => release_reserved(args, session).await,
        ServerVerb::BorrowRules(verb) => borrow::rules(verb, session).await,
        ServerVerb::Offline(args) => borrow::offline(args, session).await,
    }
}

/// What is known about the key before the server is asked.
struct Checked {
    key: PublicKey,
    vendor_id: String,
    vendor_name: String,
}

async fn import(args: ImportArgs, session: &Session<'_>) -> Result<Report> {
    let text = files::read_text(&args.package, MAX_PACKAGE_BYTES)?;
    let checked = args
        .vendor_public_key
        .as_deref()
        .map(|path| check(&args.package, &text, path))
        .transpose()?;
    let mut parts = Vec::new();
    if let (Some(checked), true) = (&checked, args.trust) {
        // A key of its own: the user's, if any, is for the import.
        let mutation = MutationOptions::default();
        let name = checked.vendor_name.clone();
        let pinned =
            vendor::pin(session, &checked.vendor_id, name, &checked.key, &mutation).await?;
        parts.push(Part::Line(format!(
            "{} is trusted by its key {}",
            pinned.vendor_id, pinned.fingerprint
        )));
    }
    let body = ImportForm {
        package: Value::String(text),
        vendor_public_key: checked.as_ref().map(|checked| checked.key.to_pem()),
    };
    let answer = session.post(&["admin", "licenses", "import"], &body, &args.mutation).await?;
    let imported: ImportResponse = answer.json()?;
    let what = match imported.status {
        ImportStatus::Imported => "is imported",
        ImportStatus::AlreadyImported => "was imported before, and is unchanged",
    };
    parts.push(Part::Line(format!(
        "{} {what}: {} seats of {} until {}",
        imported.package_id, imported.total, imported.product_id, imported.valid_until
    )));
    parts.push(Part::Line(format!(
        "signed by {} with {}",
        imported.vendor_id, imported.key_fingerprint
    )));
    let ids = vec![imported.package_id.clone()];
    Ok(Report::done(document(&imported)?, parts, ids))
}

fn check(path: &Path, text: &str, key: &Path) -> Result<Checked> {
    let key = files::read_public_key(key)?;
    let verified = workshop::verified(path, text.as_bytes(), &key)?;
    let protocol::package::Vendor { id, name, .. } = verified.package.vendor;
    Ok(Checked { key, vendor_id: id, vendor_name: name })
}

async fn list(session: &Session<'_>) -> Result<Report> {
    let (packages, _) = pages(session, &["admin", "packages"], &[], None, |page: PackageList| {
        (page.packages, page.next)
    })
    .await?;
    let list = PackageList { packages, next: None };
    let mut grid = Grid::new(&[
        Column::whole("PACKAGE"),
        Column::text("PRODUCT"),
        Column::state("STATE"),
        Column::number("OUT"),
        Column::number("SEATS"),
        Column::whole("UNTIL"),
    ]);
    for package in &list.packages {
        let until = package.valid_until.to_string();
        grid.row(vec![
            package.package_id.clone(),
            package.product_id.clone(),
            words(&package.state),
            out(&package.seats).to_string(),
            package.seats.total.to_string(),
            until.split('T').next().unwrap_or_default().to_owned(),
        ]);
    }
    let ids = list.packages.iter().map(|package| package.package_id.clone()).collect();
    let parts = vec![Part::Grid(grid, "no package is imported")];
    Ok(Report::done(document(&list)?, parts, ids))
}

/// Seats that a restore keeps.
fn kept(reserved: &ReservedSeatsView) -> String {
    format!("{} for unknown borrows until {}", reserved.seats, reserved.until)
}

fn out(seats: &SeatsView) -> u64 {
    u64::from(seats.commit_in_use) + u64::from(seats.overage_in_use)
}

async fn show(args: PackageArgs, session: &Session<'_>) -> Result<Report> {
    let package_id = require_id("package", &args.package_id)?;
    let package: PackageView = session.get(&["admin", "packages", package_id]).await?.json()?;
    let PackageView { seats, pricing, policy, .. } = &package;
    let facts = vec![
        ("package", package.package_id.clone()),
        ("state", words(&package.state)),
        ("vendor", format!("{} ({})", package.vendor_name, package.vendor_id)),
        ("product", format!("{} ({})", package.product_name, package.product_id)),
        ("versions", package.product_version.clone()),
        ("for", format!("{} ({})", package.client_name, package.client_domain)),
        ("seats out", format!("{} of {}", out(seats), seats.total)),
        ("kept", or_dash(package.reserved.as_ref().map(kept).as_deref())),
        ("commit", format!("{} of {}", seats.commit_in_use, seats.commit)),
        (
            "overage",
            format!(
                "{} of {} at {} {}",
                seats.overage_in_use,
                seats.max_overage,
                pricing.overage_per_use.0,
                pricing.currency
            ),
        ),
        ("features", or_dash(Some(&package.features.join(", ")))),
        ("valid", format!("{} to {}", package.valid_from, package.valid_until)),
        (
            "lease",
            format!(
                "{}, renewed every {}",
                duration(policy.lease_ttl_ms),
                duration(policy.heartbeat_interval_ms)
            ),
        ),
        (
            "offline",
            offline_line(
                policy.offline,
                policy.borrow_max_ms,
                policy.borrow_seats_max,
                policy.borrow_online_reserve,
            ),
        ),
        ("imported", package.imported_at.to_string()),
    ];
    // A fingerprint fills a line of 80 columns nearly by itself.
    let parts = vec![
        Part::Facts(facts),
        Part::Line("signed by".to_owned()),
        Part::Line(format!("  {}", package.key_fingerprint)),
    ];
    let ids = vec![package.package_id.clone()];
    Ok(Report::done(document(&package)?, parts, ids))
}

async fn release_reserved(args: ChangeArgs, session: &Session<'_>) -> Result<Report> {
    let package_id = require_id("package", &args.package_id)?;
    let path = ["admin", "packages", package_id, "release-reserved"];
    let answer = session.post(&path, &args.reason.body(), &args.mutation).await?;
    let package: PackageView = answer.json()?;
    let line = format!("no seat of {} is kept for unknown borrows now", package.package_id);
    let ids = vec![package.package_id.clone()];
    Ok(Report::done(document(&package)?, vec![Part::Line(line)], ids))
}

async fn change(verb: &str, args: ChangeArgs, session: &Session<'_>) -> Result<Report> {
    let package_id = require_id("package", &args.package_id)?;
    let path = ["admin", "packages", package_id, verb];
    let answer = session.post(&path, &args.reason.body(), &args.mutation).await?;
    let package: PackageView = answer.json()?;
    let line = format!("{} is {} now", package.package_id, words(&package.state));
    let ids = vec![package.package_id.clone()];
    Ok(Report::done(document(&package)?, vec![Part::Line(line)], ids))
}

/// The examples of `import`, which has two spellings.
pub(crate) const IMPORT_EXAMPLES: &str = "\
Examples:
  leasehold import --package package.json
  leasehold import --package package.json --verify-signature \\
      --vendor-public-key vendor-public.pem
  leasehold import --package package.json --trust \\
      --vendor-public-key vendor-public.pem";
