//! `evaluation keys | rotate-key` and `classic add-vendor | vendors`: secrets that a face shares
//! with its callers. They go in and never come out.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::cloud::admin::{
    ClassicVendorList, ClassicVendorRequest, ClassicVendorView, EvaluationKeys,
    MAX_SHARED_SECRET_CHARS, MIN_SHARED_SECRET_CHARS, RotateEvaluationKeyRequest,
};
use protocol::secret::Disclosed;

use super::{document, pages, require_id};
use crate::error::{CliError, Result};
use crate::files;
use crate::options::MutationOptions;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;

/// The keys of the evaluation protocol
#[derive(Debug, Clone, Subcommand)]
pub enum EvaluationVerb {
    /// Show which versions of the signing key are in use; no key is shown
    #[command(after_help = "\
Example:
  leasehold evaluation keys")]
    Keys,
    /// Make a new version of the signing key; it signs from now on
    #[command(after_help = "\
Examples:
  leasehold evaluation rotate-key
  leasehold evaluation rotate-key --secret-file v2.txt --minimum 2")]
    RotateKey(RotateKeyArgs),
}

/// Options of `evaluation rotate-key`.
#[derive(Debug, Clone, Args)]
pub struct RotateKeyArgs {
    /// The oldest version that is accepted from now on; unchanged when left out
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    minimum: Option<u32>,
    /// A file with the new version's secret, to go on with one that clients have; `-` reads it
    /// from standard input. Made up when left out
    #[arg(long, value_name = "PATH")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// The vendors of the classic face
#[derive(Debug, Clone, Subcommand)]
pub enum ClassicVerb {
    /// Set the secret that a vendor's clients sign with; it is not shown again
    #[command(after_help = "\
Example:
  leasehold classic add-vendor --vendor techvendor --secret-file techvendor.txt")]
    AddVendor(AddVendorArgs),
    /// List the vendors whose clients sign
    #[command(after_help = "\
Example:
  leasehold classic vendors")]
    Vendors,
}

/// Options of `classic add-vendor`.
#[derive(Debug, Clone, Args)]
pub struct AddVendorArgs {
    /// The vendor, as its clients name it
    #[arg(long, visible_alias = "vendor-id", value_name = "ID")]
    vendor: String,
    /// A file with the secret; `-` reads it from standard input
    #[arg(long, value_name = "PATH")]
    secret_file: PathBuf,
    #[command(flatten)]
    mutation: MutationOptions,
}

pub(crate) async fn evaluation(verb: EvaluationVerb, session: &Session<'_>) -> Result<Report> {
    let keys: EvaluationKeys = match verb {
        EvaluationVerb::Keys => session.get(&["admin", "evaluation", "keys"]).await?.json()?,
        EvaluationVerb::RotateKey(args) => {
            let secret = args.secret_file.as_deref().map(secret).transpose()?;
            let body = RotateEvaluationKeyRequest { minimum: args.minimum, secret };
            let path = ["admin", "evaluation", "keys", "rotate"];
            session.post(&path, &body, &args.mutation).await?.json()?
        }
    };
    let versions: Vec<String> = keys.versions.iter().map(u32::to_string).collect();
    let facts = vec![
        ("signs with", format!("version {}", keys.current)),
        ("accepts", format!("version {} and later", keys.minimum)),
        ("keeps", format!("versions {}", versions.join(", "))),
    ];
    let ids = vec![keys.current.to_string()];
    Ok(Report::done(document(&keys)?, vec![Part::Facts(facts)], ids))
}

pub(crate) async fn classic(verb: ClassicVerb, session: &Session<'_>) -> Result<Report> {
    match verb {
        ClassicVerb::AddVendor(args) => add_vendor(args, session).await,
        ClassicVerb::Vendors => vendors(session).await,
    }
}

async fn add_vendor(args: AddVendorArgs, session: &Session<'_>) -> Result<Report> {
    let vendor_id = require_id("vendor id", &args.vendor)?.to_owned();
    let body = ClassicVendorRequest { vendor_id, secret: secret(&args.secret_file)? };
    let path = ["admin", "classic", "vendors"];
    let vendor: ClassicVendorView = session.post(&path, &body, &args.mutation).await?.json()?;
    let line = format!("clients of {} sign with this secret from now on", vendor.vendor_id);
    let ids = vec![vendor.vendor_id.clone()];
    Ok(Report::done(document(&vendor)?, vec![Part::Line(line)], ids))
}

async fn vendors(session: &Session<'_>) -> Result<Report> {
    let path = ["admin", "classic", "vendors"];
    let split = |page: ClassicVendorList| (page.vendors, page.next);
    let (vendors, _) = pages(session, &path, &[], None, split).await?;
    let list = ClassicVendorList { vendors, next: None };
    let mut grid = Grid::new(&[Column::whole("VENDOR")]);
    for vendor in &list.vendors {
        grid.row(vec![vendor.vendor_id.clone()]);
    }
    let ids = list.vendors.iter().map(|vendor| vendor.vendor_id.clone()).collect();
    let parts = vec![Part::Grid(grid, "no vendor has a secret")];
    Ok(Report::done(document(&list)?, parts, ids))
}

fn secret(path: &Path) -> Result<Disclosed> {
    let secret = Disclosed::new(files::read_secret(path)?);
    let visible = secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
    let length = secret.expose().len();
    if visible && (MIN_SHARED_SECRET_CHARS..=MAX_SHARED_SECRET_CHARS).contains(&length) {
        Ok(secret)
    } else {
        Err(CliError::Usage(format!(
            "the secret in {} wants {MIN_SHARED_SECRET_CHARS} to {MAX_SHARED_SECRET_CHARS} \
             visible ASCII characters",
            path.display()
        )))
    }
}
