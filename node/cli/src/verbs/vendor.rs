//! `vendor trust add | list`: whose signatures this cluster believes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::cloud::admin::{TrustVendorRequest, VendorList, VendorView};
use protocol::keys::PublicKey;

use super::{document, pages, require_id};
use crate::error::{CliError, Result};
use crate::files;
use crate::options::MutationOptions;
use crate::report::{Part, Report};
use crate::session::Session;

/// Vendors
#[derive(Debug, Clone, Subcommand)]
pub enum VendorVerb {
    /// The keys whose signatures this cluster believes
    #[command(subcommand)]
    Trust(TrustVerb),
}

/// The keys whose signatures this cluster believes
#[derive(Debug, Clone, Subcommand)]
pub enum TrustVerb {
    /// Pin a vendor's public key
    ///
    /// Compare the fingerprint with what the vendor tells you over another channel.
    #[command(after_help = "\
Example:
  leasehold vendor trust add --vendor vector-de --public-key vector-public.pem")]
    Add(AddArgs),
    /// List the pinned keys
    #[command(after_help = "\
Example:
  leasehold vendor trust list")]
    List,
}

/// Options of `vendor trust add`.
#[derive(Debug, Clone, Args)]
pub struct AddArgs {
    /// The vendor's id, as its packages have it
    #[arg(long, visible_alias = "vendor-id", value_name = "ID")]
    vendor: String,
    /// The vendor's name; its id when left out
    #[arg(long)]
    name: Option<String>,
    /// PEM file with the vendor's public key (RSA from 2,048 bits, or Ed25519)
    #[arg(long, visible_alias = "vendor-public-key", value_name = "PEM")]
    public_key: PathBuf,
    /// What the vendor says the fingerprint is; another one is refused
    #[arg(long, value_name = "SHA256:HEX")]
    fingerprint: Option<String>,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn run(verb: VendorVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        VendorVerb::Trust(TrustVerb::Add(args)) => add(args, session).await,
        VendorVerb::Trust(TrustVerb::List) => list(session).await,
    }
}

async fn add(args: AddArgs, session: &Session<'_>) -> Result<Report> {
    require_id("vendor id", &args.vendor)?;
    let key = files::read_public_key(&args.public_key)?;
    let own = key.fingerprint().to_string();
    if args.fingerprint.as_ref().is_some_and(|told| !told.eq_ignore_ascii_case(&own)) {
        return Err(CliError::Usage(format!(
            "the key in {} has the fingerprint {own}, not the one given: do not trust it",
            args.public_key.display()
        )));
    }
    let name = args.name.unwrap_or_else(|| args.vendor.clone());
    let vendor = pin(session, &args.vendor, name, &key, &args.mutation).await?;
    let line = format!("{} is trusted by its key {}", vendor.vendor_id, vendor.fingerprint);
    let ids = vec![vendor.vendor_id.clone()];
    Ok(Report::done(document(&vendor)?, vec![Part::Line(line)], ids))
}

/// Pins a key. One that is pinned already is fine; another key of the same vendor is refused.
pub(crate) async fn pin(
    session: &Session<'_>,
    vendor_id: &str,
    name: String,
    key: &PublicKey,
    mutation: &MutationOptions,
) -> Result<VendorView> {
    let body = TrustVendorRequest {
        vendor_id: vendor_id.to_owned(),
        name,
        public_key: key.to_pem(),
        fingerprint: Some(key.fingerprint().to_string()),
    };
    session.post(&["admin", "vendors"], &body, mutation).await?.json()
}

async fn list(session: &Session<'_>) -> Result<Report> {
    let (vendors, _) = pages(session, &["admin", "vendors"], &[], None, |page: VendorList| {
        (page.vendors, page.next)
    })
    .await?;
    let list = VendorList { vendors, next: None };
    let mut parts = Vec::new();
    for vendor in &list.vendors {
        let VendorView { vendor_id, name, algorithm, fingerprint, .. } = vendor;
        parts.push(Part::Line(format!("{vendor_id}  {name}, {algorithm}")));
        parts.push(Part::Line(format!("  {fingerprint}")));
    }
    if parts.is_empty() {
        parts.push(Part::Line("no vendor is trusted".to_owned()));
    }
    let ids = list.vendors.iter().map(|vendor| vendor.vendor_id.clone()).collect();
    Ok(Report::done(document(&list)?, parts, ids))
}
