//! `package keygen | sign | verify`: the vendor's bench. No server is asked.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use protocol::keys::{PrivateKey, PublicKey, RsaSize};
use protocol::package::{
    LicensePackage, Policy, UnverifiedPackage, VerifiedPackage, sign_document,
};
use protocol::secret::Secret;
use protocol::strict_json;
use protocol::wire::{Money, UtcTime};
use serde_json::{Value, json};

use super::offline_line;
use crate::error::{CliError, Result};
use crate::files::{self, Access};
use crate::options::GlobalOptions;
use crate::report::{self, Part, Report, duration};
use crate::world;

/// What a vendor does at its bench.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchVerb {
    /// Make a vendor's key pair (needs no server)
    #[command(after_help = "\
Example:
  leasehold package keygen --algorithm rsa")]
    Keygen(KeygenArgs),
    /// Sign a package as its vendor (needs no server)
    #[command(after_help = "\
Example:
  leasehold package sign --package template.json --key vendor-private.pem --out package.json")]
    Sign(SignArgs),
    /// Verify a package's signature under a vendor's key (needs no server)
    ///
    /// Says who signed and that nothing was changed since. Whether the package is in force is
    /// shown and does not change the exit code.
    #[command(after_help = "\
Example:
  leasehold package verify --package package.json --vendor-public-key vendor-public.pem")]
    Verify(VerifyArgs),
}

/// What a vendor signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyAlgorithm {
    /// Ed25519: short and fast.
    Ed25519,
    /// RSA of 3,072 bits, PKCS#1 v1.5 with SHA-256: what the package format began with.
    Rsa,
}

/// Options of `package keygen`.
#[derive(Debug, Clone, Args)]
pub struct KeygenArgs {
    /// What to sign with: ed25519, or rsa (3,072 bits)
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        default_value_t = KeyAlgorithm::Ed25519
    )]
    algorithm: KeyAlgorithm,
    /// Where the private key goes (PKCS#8 PEM, mode 0600); must not exist
    #[arg(long, value_name = "PATH", default_value = "vendor-private.pem")]
    private_key: PathBuf,
    /// Where the public key goes (PEM); must not exist
    #[arg(long, value_name = "PATH", default_value = "vendor-public.pem")]
    public_key: PathBuf,
}

/// Options of `package sign`.
#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    /// The package, in either layout; a signature in it is replaced
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// The vendor's private key (PKCS#8 PEM)
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// Where the signed package goes; `-` is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
}

/// Options of `package verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The package
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// The vendor's public key (PEM)
    #[arg(long, value_name = "PEM")]
    vendor_public_key: PathBuf,
}

pub(crate) fn run(verb: BenchVerb, options: &GlobalOptions) -> Result<Report> {
    match verb {
        BenchVerb::Keygen(args) => keygen(&args),
        BenchVerb::Sign(args) => sign(&args, options),
        BenchVerb::Verify(args) => verify(&args),
    }
}

fn keygen(args: &KeygenArgs) -> Result<Report> {
    files::require_absent(&args.private_key)?;
    files::require_absent(&args.public_key)?;
    if args.private_key == args.public_key {
        return Err(CliError::Usage("the two keys need two files".to_owned()));
    }
    let key = match args.algorithm {
        KeyAlgorithm::Ed25519 => PrivateKey::ed25519(&Secret::new(world::random()?)),
        KeyAlgorithm::Rsa => {
            PrivateKey::generate_rsa(RsaSize::Bits3072).map_err(CliError::KeyMaking)?
        }
    };
    let public = key.public_key().map_err(CliError::KeyMaking)?;
    let pem = key.to_pkcs8_pem().map_err(CliError::KeyMaking)?;
    files::create(&args.private_key, pem.expose().as_bytes(), Access::Private)?;
    files::create(&args.public_key, public.to_pem().as_bytes(), Access::Public)?;
    let algorithm = public.algorithm().signature_prefix();
    let fingerprint = public.fingerprint().to_string();
    let json = json!({
        "algorithm": algorithm,
        "fingerprint": fingerprint,
        "private_key": args.private_key,
        "public_key": args.public_key,
    });
    let facts = vec![
        ("private key", format!("{} (keep it secret)", args.private_key.display())),
        ("public key", format!("{} (give it to your customers)", args.public_key.display())),
        ("signs", algorithm.to_owned()),
        ("fingerprint", fingerprint.clone()),
    ];
    Ok(Report::done(json, vec![Part::Facts(facts)], vec![fingerprint]))
}

fn sign(args: &SignArgs, options: &GlobalOptions) -> Result<Report> {
    let to_stdout = args.out == Path::new("-");
    if !to_stdout && !args.force {
        files::require_absent(&args.out)?;
    }
    let template = files::read(&args.package, MAX_PACKAGE_BYTES)?;
    let (key, is_open) = files::read_private_key(&args.key)?;
    if is_open {
        let path = args.key.display();
        report::warn(&format!("others can read the private key {path}: chmod 600 it"), options);
    }
    let signed = sign_document(&template, &key)
        .map_err(|source| CliError::Sign { path: args.package.clone(), source })?;
    let public = key.public_key().map_err(CliError::KeyMaking)?;
    let verified = verified(&args.package, signed.as_bytes(), &public)?;
    let package_id = verified.package.package_id.clone();
    if to_stdout {
        let json: Value = serde_json::from_str(&signed)
            .map_err(|error| CliError::Failed(format!("the package is not JSON: {error}")))?;
        return Ok(Report::done(json, vec![Part::Document(signed)], vec![package_id]));
    }
    if args.force {
        files::overwrite(&args.out, signed.as_bytes())?;
    } else {
        files::create(&args.out, signed.as_bytes(), Access::Public)?;
    }
    let json = json!({
        "package_id": package_id,
        "vendor_id": verified.package.vendor.id,
        "algorithm": public.algorithm().signature_prefix(),
        "key_fingerprint": verified.key.to_string(),
        "out": args.out,
    });
    let line = format!("{package_id} is signed: {}", args.out.display());
    Ok(Report::done(json, vec![Part::Line(line)], vec![package_id]))
}

fn verify(args: &VerifyArgs) -> Result<Report> {
    let key = files::read_public_key(&args.vendor_public_key)?;
    let document = files::read(&args.package, MAX_PACKAGE_BYTES)?;
    let verified = verified(&args.package, &document, &key)?;
    let package = &verified.package;
    let standing = standing(package, world::wall_ms());
    let json = description(&verified, standing);
    let mut facts = described(package, standing);
    facts.push(("signed by", verified.key.to_string()));
    let line = format!("{} is genuine", package.package_id);
    let ids = vec![package.package_id.clone()];
    Ok(Report::done(json, vec![Part::Line(line), Part::Facts(facts)], ids))
}

/// Reads a package and verifies it under a key.
pub(crate) fn verified(path: &Path, document: &[u8], key: &PublicKey) -> Result<VerifiedPackage> {
    UnverifiedPackage::parse(document)
        .and_then(|package| package.verify(key, None))
        .map_err(|source| CliError::Package { path: path.to_owned(), source })
}

/// A package's validity at a time.
fn standing(package: &LicensePackage, now_ms: i64) -> &'static str {
    if now_ms < package.validity.start_ms {
        "not_yet_valid"
    } else if now_ms > package.validity.end_ms {
        "expired"
    } else {
        "valid"
    }
}

fn description(verified: &VerifiedPackage, standing: &str) -> Value {
    let package = &verified.package;
    let entitlement = &package.entitlement;
    json!({
        "verified": true,
        "package_id": package.package_id,
        "layout": package.layout.name(),
        "vendor_id": package.vendor.id,
        "product_id": package.product.id,
        "product_version": package.product.version_range,
        "client_id": package.client.id,
        "client_domain": package.client.domain,
        "total": entitlement.total,
        "commit": entitlement.commit,
        "max_overage": entitlement.max_overage,
        "overage_per_use": Money(entitlement.pricing.overage_per_use),
        "currency": entitlement.pricing.currency,
        "features": package.features,
        "offline": package.policy.offline,
        "borrow_max_seconds": package.policy.borrow_max_ms / 1_000,
        "borrow_seats_max": package.policy.borrow_seats_max,
        "borrow_online_reserve": package.policy.borrow_online_reserve,
        "valid_from": UtcTime::from_unix_ms(package.validity.start_ms),
        "valid_until": UtcTime::from_unix_ms(package.validity.end_ms),
        "validity": standing,
        "key_fingerprint": verified.key.to_string(),
    })
}

fn described(package: &LicensePackage, standing: &str) -> Vec<(&'static str, String)> {
    let entitlement = &package.entitlement;
    let validity = &package.validity;
    let time = |ms| UtcTime::from_unix_ms(ms).to_string();
    let mut facts = vec![
        ("vendor", format!("{} ({})", package.vendor.name, package.vendor.id)),
        ("product", format!("{} {}", package.product.id, package.product.version_range)),
        ("for", format!("{} ({})", package.client.id, package.client.domain)),
        (
            "seats",
            format!(
                "{}: {} committed, {} overage at {} {}",
                entitlement.total,
                entitlement.commit,
                entitlement.max_overage,
                entitlement.pricing.overage_per_use,
                entitlement.pricing.currency
            ),
        ),
        (
            "validity",
            format!(
                "{} to {} ({})",
                time(validity.start_ms),
                time(validity.end_ms),
                standing.replace('_', " ")
            ),
        ),
        ("lease", format!("{} without a heartbeat", duration(package.policy.lease_ttl_ms))),
    ];
    let Policy { offline, borrow_max_ms, borrow_seats_max, borrow_online_reserve, .. } =
        package.policy;
    let line = offline_line(offline, borrow_max_ms, borrow_seats_max, borrow_online_reserve);
    facts.push(("offline", line));
    if !package.features.is_empty() {
        facts.push(("features", package.features.join(", ")));
    }
    facts
}

/// Largest package that the strict loader reads.
pub(crate) const MAX_PACKAGE_BYTES: u64 = strict_json::MAX_BYTES as u64;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use protocol::package::sample_document;

    use super::*;
    use crate::options::{OutputFormat, Wait};

    fn options() -> GlobalOptions {
        GlobalOptions {
            server: Vec::new(),
            ca_cert: None,
            token: None,
            context: None,
            timeout: Wait { ms: 1_000 },
            output: OutputFormat::Table,
            quiet: true,
        }
    }

    fn keygen_args(dir: &Path, algorithm: KeyAlgorithm, name: &str) -> KeygenArgs {
        KeygenArgs {
            algorithm,
            private_key: dir.join(format!("{name}-private.pem")),
            public_key: dir.join(format!("{name}-public.pem")),
        }
    }

    fn check_bench(algorithm: KeyAlgorithm, prefix: &str) {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (template, signed) = (dir.join("template.json"), dir.join("signed.json"));
        fs::write(&template, sample_document(0, 4_102_444_800_000, &[])).unwrap();
        let keys = keygen_args(dir, algorithm, "vendor");
        let made = keygen(&keys).ok().unwrap();
        assert_eq!(made.json["algorithm"], prefix);
        assert_eq!(fs::metadata(&keys.private_key).unwrap().mode() & 0o777, 0o600);
        let sign_args = SignArgs {
            package: template,
            key: keys.private_key.clone(),
            out: signed.clone(),
            force: false,
        };
        let report = sign(&sign_args, &options()).ok().unwrap();
        assert_eq!(report.json["key_fingerprint"], made.json["fingerprint"]);
        let text = fs::read_to_string(&signed).unwrap();
        assert!(text.contains(&format!("\"{prefix}:")), "{text}");

        let verify_args = |package: &Path, key: &Path| VerifyArgs {
            package: package.to_owned(),
            vendor_public_key: key.to_owned(),
        };
        let report = verify(&verify_args(&signed, &keys.public_key)).ok().unwrap();
        assert_eq!(report.json["validity"], "valid");
        assert_eq!(report.json["total"], 20);
        assert_eq!(report.ids, ["vec-davinci-se-bmw-2025-001"]);

        // Tampered, unsigned, or by another vendor: exit code 8.
        let tampered = dir.join("tampered.json");
        fs::write(&tampered, text.replace("\"max_overage\": 15", "\"max_overage\": 16")).unwrap();
        let other = keygen_args(dir, algorithm, "other");
        assert!(keygen(&other).is_ok());
        for (package, key, code) in [
            (&tampered, &keys.public_key, "package_signature_invalid"),
            (&sign_args.package, &keys.public_key, "package_unsigned"),
            (&signed, &other.public_key, "package_signature_invalid"),
            (&keys.public_key, &keys.public_key, "package_not_strict_json"),
        ] {
            let error = verify(&verify_args(package, key)).err().unwrap();
            assert_eq!(error.exit().code(), 8, "{error}");
            assert_eq!(error.to_json()["error"]["code"], code);
        }
        // A private key is no public one, and a file that is not there is a matter of usage.
        let error = verify(&verify_args(&signed, &keys.private_key)).err().unwrap();
        assert_eq!(error.exit().code(), 8);
        let error = verify(&verify_args(&dir.join("none.json"), &keys.public_key)).err().unwrap();
        assert_eq!(error.exit().code(), 2);

        // Nothing that is there is replaced unasked.
        assert!(keygen(&keys).is_err_and(|error| error.exit().code() == 2));
        assert!(sign(&sign_args, &options()).is_err_and(|error| error.exit().code() == 2));
        assert!(sign(&SignArgs { force: true, ..sign_args }, &options()).is_ok());
    }

    #[test]
    fn a_vendor_makes_a_key_signs_and_verifies_with_ed25519() {
        check_bench(KeyAlgorithm::Ed25519, "Ed25519");
    }

    #[test]
    fn a_vendor_makes_a_key_signs_and_verifies_with_rsa() {
        check_bench(KeyAlgorithm::Rsa, "SHA256-RSA");
    }

    #[test]
    fn validity_has_both_ends() {
        let document = sample_document(1_000, 2_000, &[]);
        let package = UnverifiedPackage::parse(document.as_bytes()).ok().unwrap();
        for (now_ms, expected) in
            [(999, "not_yet_valid"), (1_000, "valid"), (2_000, "valid"), (2_001, "expired")]
        {
            assert_eq!(standing(package.package(), now_ms), expected);
        }
    }
}
