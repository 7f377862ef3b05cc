//! `app show | set`: how an application is let in, beside its secret.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use protocol::cloud::admin::{AppPolicy, AppPolicyView, TokenAlgorithm};
use reqwest::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{document, require_id};
use crate::error::{CliError, Result};
use crate::files;
use crate::options::MutationOptions;
use crate::report::{Part, Report};
use crate::session::Session;

/// Which application to show.
#[derive(Debug, Clone, Args)]
pub struct ShowAppArgs {
    /// The application, as `app list` shows it
    app_id: String,
}

/// Options of `app set`; what is left out stays.
#[derive(Debug, Clone, Args)]
pub struct SetAppArgs {
    /// The application, as `app list` shows it
    app_id: String,
    /// Whether its access tokens are bound to the client certificate it shows (RFC 8705); switching
    /// it on ends the tokens that it has
    #[arg(long, value_name = "on|off")]
    mtls: Option<Switch>,
    /// A certificate that it may show, PEM; repeat for more. In the place of those before
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
    /// Let it show any certificate
    #[arg(long, conflicts_with = "certificate")]
    any_certificate: bool,
    /// Requests a second on one node; 0: no bound of its own
    #[arg(long, value_name = "N")]
    rate: Option<u32>,
    /// Requests at once above that rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    /// What signs its access tokens
    #[arg(long, value_name = "NAME")]
    token_algorithm: Option<Algorithm>,
    #[command(flatten)]
    mutation: MutationOptions,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// What signs access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    #[value(name = "RS256", alias = "rs256")]
    Rs256,
    /// Ed25519.
    #[value(name = "EdDSA", alias = "eddsa")]
    EdDsa,
}

pub(crate) async fn show(args: ShowAppArgs, session: &Session<'_>) -> Result<Report> {
    report(&policy_of(&args.app_id, session).await?)
}

pub(crate) async fn set(args: SetAppArgs, session: &Session<'_>) -> Result<Report> {
    let mut certificates = Vec::with_capacity(args.certificate.len());
    for path in &args.certificate {
        certificates.push(sha256_of(path)?);
    }
    let known = policy_of(&args.app_id, session).await?.policy;
    let policy = changed(known, &args, certificates);
    let path = ["admin", "apps", args.app_id.as_str(), "policy"];
    let answer = session.change(Method::PUT, &path, Some(&policy), &args.mutation).await?;
    report(&answer.json()?)
}

async fn policy_of(app_id: &str, session: &Session<'_>) -> Result<AppPolicyView> {
    let app_id = require_id("application", app_id)?;
    session.get(&["admin", "apps", app_id, "policy"]).await?.json()
}

fn changed(known: AppPolicy, args: &SetAppArgs, certificates: Vec<String>) -> AppPolicy {
    let rate = match args.rate {
        None => known.requests_per_second,
        Some(0) => None,
        Some(rate) => Some(rate),
    };
    // A burst belongs to its rate: another rate begins with one of its own.
    let burst = args.burst.or(if args.rate.is_none() { known.burst } else { None });
    AppPolicy {
        certificate_bound: args.mtls.map_or(known.certificate_bound, |mtls| mtls == Switch::On),
        certificates: match (args.any_certificate, certificates.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => known.certificates,
            (false, false) => certificates,
        },
        requests_per_second: rate,
        burst: burst.filter(|_| rate.is_some()),
        token_algorithm: match args.token_algorithm {
            None => known.token_algorithm,
            Some(Algorithm::Rs256) => TokenAlgorithm::Rs256,
            Some(Algorithm::EdDsa) => TokenAlgorithm::EdDsa,
        },
    }
}

fn report(view: &AppPolicyView) -> Result<Report> {
    let policy = &view.policy;
    let certificates = match policy.certificates.as_slice() {
        [] if policy.certificate_bound => "any".to_owned(),
        [] => "-".to_owned(),
        certificates => certificates.join(" "),
    };
    let rate = match (policy.requests_per_second, policy.burst) {
        (Some(rate), Some(burst)) => format!("{rate} requests a second, {burst} at once above it"),
        (Some(rate), None) => format!("{rate} requests a second"),
        (None, _) => "no bound of its own".to_owned(),
    };
    let algorithm = match policy.token_algorithm {
        TokenAlgorithm::Rs256 => "RS256",
        TokenAlgorithm::EdDsa => "EdDSA",
    };
    let bound = if policy.certificate_bound { "on" } else { "off" };
    let facts = vec![
        ("app", view.app_id.clone()),
        ("mtls", bound.to_owned()),
        ("certificates", certificates),
        ("rate", rate),
        ("tokens", algorithm.to_owned()),
    ];
    Ok(Report::done(document(view)?, vec![Part::Facts(facts)], vec![view.app_id.clone()]))
}

/// SHA-256 of the first certificate in a PEM file, hex.
fn sha256_of(path: &Path) -> Result<String> {
    let pem = files::read(path, MAX_CERTIFICATE_BYTES)?;
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| {
        CliError::Usage(format!("{} holds no certificate in PEM form", path.display()))
    })?;
    let sha256 = Sha256::digest(&certificate);
    Ok(data_encoding::HEXLOWER.encode(&sha256))
}

/// Of a file with a certificate and perhaps its chain.
const MAX_CERTIFICATE_BYTES: u64 = 256 * 1024;
