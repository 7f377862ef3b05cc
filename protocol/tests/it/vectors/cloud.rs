//! `cloud_package.json`: license packages in both layouts, under keys of both kinds.

use protocol::keys::{PrivateKey, PublicKey};
use protocol::package::{
    LicensePackage, UnverifiedPackage, VerifiedPackage, sample_document, sign_document,
};

use super::document::{Node, list, object, text};
use super::offline::{SEED, key};

/// Made for this file and used nowhere else.
const VENDOR_KEY: &str = include_str!("cloud-vendor.test-only.pem");
/// 2027-01-01 and the end of that year.
const VALID_MS: (i64, i64) = (1_798_761_600_000, 1_830_297_599_000);

/// The protocol document's package in both of its layouts, with a policy of ours inside.
fn documents() -> [(&'static str, String); 2] {
    let journey = sample_document(VALID_MS.0, VALID_MS.1, &[("lease_ttl_seconds", 900)]);
    let package: LicensePackage =
        UnverifiedPackage::parse(journey.as_bytes()).unwrap().package().clone();
    [("journey", journey), ("standard", package.to_standard().to_pretty())]
}

fn verify(document: &str, key: &PublicKey) -> Result<VerifiedPackage, &'static str> {
    UnverifiedPackage::parse(document.as_bytes())
        .and_then(|package| package.verify(key, None))
        .map_err(|error| error.code())
}

fn signed(layout: &str, document: &str, key: &PrivateKey) -> Node {
    let public = key.public_key().unwrap();
    let signed = sign_document(document.as_bytes(), key).unwrap();
    let verified = verify(&signed, &public).unwrap();
    assert_eq!(verified.package.layout.name(), layout);
    object! {
        layout: layout,
        signature_field: verified.package.layout.signature_field(),
        vendor_public_key_pem: public.to_pem(),
        vendor_key_fingerprint: public.fingerprint().to_string(),
        unsigned: document,
        canonical: text(&verified.canonical),
        signature: verified.signature,
        signed: signed,
    }
}

fn refused(rsa: &PrivateKey) -> Vec<Node> {
    let [(_, journey), _] = documents();
    let public = rsa.public_key().unwrap();
    let stranger = key(SEED);
    let good = sign_document(journey.as_bytes(), rsa).unwrap();
    let strangers = sign_document(journey.as_bytes(), &stranger).unwrap();
    let pinned_text = public.to_pem();
    let replaced = |from: &str, to: &str| {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        changed
    };
    let compact: String = good.lines().map(str::trim_start).collect();
    [
        ("as it was signed", good.clone(), "ok"),
        ("on one line", compact, "ok"),
        ("another number of seats", replaced("20", "21"), "package_signature_invalid"),
        ("not signed", journey, "package_unsigned"),
        ("signed with another key", strangers, "package_signature_algorithm"),
        ("a signature of another form", replaced("SHA256-RSA:", "RSA:"), "package_signature_form"),
        (
            "a member twice",
            replaced("{", r#"{"vendor_id":"vector-de","#),
            "package_not_strict_json",
        ),
        ("an unknown member", replaced("{", r#"{"seats":1,"#), "package_field_unknown"),
        ("an extension added later", replaced("{", r#"{"x_more":1,"#), "package_signature_invalid"),
        ("bytes after the end", format!("{good}x"), "package_not_strict_json"),
    ]
    .map(|(name, document, verdict)| {
        let found = verify(&document, &public);
        assert_eq!(found.map_or_else(|code| code, |_| "ok"), verdict, "{name}");
        object! {
            name: name,
            vendor_public_key_pem: pinned_text.as_str(),
            document: document,
            verdict: verdict,
        }
    })
    .to_vec()
}

pub(super) fn make() -> Node {
    let rsa = PrivateKey::from_pkcs8_pem(VENDOR_KEY).unwrap();
    let mut packages = Vec::new();
    for (layout, document) in documents() {
        packages.push(signed(layout, &document, &rsa));
        packages.push(signed(layout, &document, &key(SEED)));
    }
    super::file(
        "License packages in both layouts, signed with RSA (PKCS#1 v1.5, SHA-256) and Ed25519 over \
         the canonical bytes without the signature, and documents that are refused.",
        &["Cloud License Protocol, steps 1 and 2, License Package Format", "RFC 8785"],
        vec![
            ("vendor_private_key_pem", VENDOR_KEY.into()),
            ("packages", list(packages)),
            ("verify", list(refused(&rsa))),
        ],
    )
}
