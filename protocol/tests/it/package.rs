//! License packages: both layouts, every bound, signatures of this program and of others.

use std::sync::LazyLock;

use jsonschema::Validator;
use protocol::keys::PublicKey;
use protocol::package::{
    Category, LicensePackage, PackageError, Policy, Sharing, SignError, UnverifiedPackage,
    json_schema, sample_document, sign_document, with_signature,
};
use serde_json::{Value, json};

use crate::keys::{ED25519_PUBLIC, RSA_PUBLIC, ed25519_key};

const CANONICAL: &[u8] = include_bytes!("golden/journey.canonical.json");
const RSA_SIGNATURE: &str = include_str!("golden/journey.sha256-rsa.txt");
const ED25519_SIGNATURE: &str = include_str!("golden/journey.ed25519.txt");

/// The document's own sample, unsigned.
fn journey() -> Value {
    json!({
        "package_id": "vec-davinci-se-bmw-2025-001",
        "vendor": "Vector Informatik GmbH",
        "vendor_id": "vector-de",
        "product": {
            "name": "DaVinci Configurator SE",
            "version": ">=8.0.0",
            "product_id": "davinci-configurator-se"
        },
        "client": { "name": "BMW AG", "client_id": "bmw-de-001", "org_domain": "bmw.com" },
        "entitlement": {
            "total_licenses": 20,
            "commit_qty": 5,
            "max_overage": 15,
            "pricing": {
                "commit_fee_monthly": 5000.0,
                "overage_per_use": 500.0,
                "currency": "EUR"
            }
        },
        "validity": { "start": "2025-01-01T00:00:00Z", "end": "2025-12-31T23:59:59Z" },
        "license_server_url": "https://licenses.vector.com"
    })
}

fn standard() -> Value {
    json!({
        "$schema": "https://cloud-license-protocol.org/v1/package.schema.json",
        "version": "1.0.0",
        "package_id": "vec-davinci-se-bmw-2025-001",
        "vendor": { "name": "Vector Informatik GmbH", "id": "vector-de" },
        "product": {
            "name": "DaVinci Configurator SE", "id": "davinci-configurator-se", "version": ">=8.0.0"
        },
        "client": { "name": "BMW AG", "id": "bmw-de-001", "domain": "bmw.com" },
        "entitlement": {
            "total": 20, "commit": 5, "max_overage": 15,
            "pricing": {
                "commit_fee_monthly": 5000.0, "overage_per_use": 500.0, "currency": "EUR"
            }
        },
        "validity": { "start": "2025-01-01T00:00:00Z", "end": "2025-12-31T23:59:59Z" },
        "license_server_url": "https://licenses.vector.com",
        "x_leasehold": { "policy": { "lease_ttl_seconds": 2 }, "features": ["b", "a"] }
    })
}

/// What the loader says, which the published schema must say, too.
#[track_caller]
fn parse(document: &Value) -> Result<UnverifiedPackage, PackageError> {
    let parsed = UnverifiedPackage::parse(document.to_string().as_bytes());
    check_schema(document, parsed.as_ref().err());
    parsed
}

/// The schema of packages, held to its formats.
fn schema() -> &'static Validator {
    static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
        let schema: Value = serde_json::from_str(json_schema()).unwrap();
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    });
    &SCHEMA
}

/// What only the loader can see, by field: a bound that is another field, a grammar, and numbers
/// whose spelling no schema knows.
const BEYOND_A_SCHEMA: [&str; 7] = [
    "entitlement.commit_qty",
    "entitlement.commit",
    "entitlement.total_licenses",
    "validity.end",
    "product.version",
    "x_leasehold.policy.heartbeat_interval_seconds",
    "x_leasehold.policy",
];

#[track_caller]
fn check_schema(document: &Value, refused: Option<&PackageError>) {
    let found = schema().validate(document).err().map(|error| error.to_string());
    match (refused, found) {
        (None, None) | (Some(_), Some(_)) => {}
        (None, Some(found)) => panic!("the loader takes what the schema refuses: {found}"),
        (Some(error), None) => {
            let field = error.field().unwrap_or_default();
            assert!(BEYOND_A_SCHEMA.contains(&field), "the schema takes {document}: {error}");
        }
    }
}

/// The document with the value at a JSON pointer replaced, added, or (for null) removed.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    document
}

#[test]
fn both_layouts_give_the_same_package() {
    let from_journey = parse(&journey()).unwrap();
    let from_standard = parse(&standard()).unwrap();
    assert_eq!(from_journey.canonical(), CANONICAL);

    let mut expected = from_journey.package().clone();
    expected.layout = protocol::package::Layout::Standard;
    expected.features = vec!["a".to_owned(), "b".to_owned()];
    expected.policy.lease_ttl_ms = 2_000;
    expected.policy.heartbeat_interval_ms = 666;
    assert_eq!(*from_standard.package(), expected);
    insta::assert_debug_snapshot!("journey", from_journey.package());
    insta::assert_snapshot!("exported", from_standard.package().to_standard().to_pretty());
}

#[test]
fn export_to_the_standard_layout_keeps_everything() {
    for document in [journey(), standard()] {
        let package = parse(&document).unwrap().package().clone();
        let exported = package.to_standard();
        let again = UnverifiedPackage::parse(exported.to_pretty().as_bytes()).unwrap();
        let layout = again.package().layout;
        assert_eq!(*again.package(), LicensePackage { layout, ..package });
    }
}

#[test]
fn signatures_of_openssl_verify() {
    for (signature, pem) in [(RSA_SIGNATURE, RSA_PUBLIC), (ED25519_SIGNATURE, ED25519_PUBLIC)] {
        let signature = signature.trim();
        let pinned = PublicKey::from_pem(pem).unwrap();
        let signed = with(journey(), "/vendor_signature", json!(signature));
        let verified = parse(&signed).unwrap().verify(&pinned, Some(&pinned)).unwrap();
        assert_eq!(verified.canonical, CANONICAL);
        assert_eq!(verified.signature, signature);
        assert_eq!(verified.key, pinned.fingerprint());
        assert_eq!(LicensePackage::from_canonical(CANONICAL).unwrap(), verified.package);

        let rebuilt = with_signature(&verified.canonical, &verified.signature).unwrap();
        let again = UnverifiedPackage::parse(rebuilt.as_bytes()).unwrap();
        assert_eq!(again.verify(&pinned, None).unwrap(), verified);
    }
    // Ed25519 is deterministic: our signature is OpenSSL's, byte for byte.
    let signed = sign_document(journey().to_string().as_bytes(), &ed25519_key(7)).unwrap();
    let signed: Value = serde_json::from_str(&signed).unwrap();
    assert_eq!(signed["vendor_signature"], ED25519_SIGNATURE.trim());
}

fn signed_standard() -> Value {
    let signed = sign_document(standard().to_string().as_bytes(), &ed25519_key(7)).unwrap();
    serde_json::from_str(&signed).unwrap()
}

#[track_caller]
fn check_unverifiable(
    document: &Value,
    pinned: &PublicKey,
    offered: Option<&PublicKey>,
    (code, field): (&str, &str),
) {
    let error = UnverifiedPackage::parse(document.to_string().as_bytes())
        .unwrap()
        .verify(pinned, offered)
        .unwrap_err();
    assert_eq!((error.code(), error.field()), (code, Some(field)), "{error}");
    assert_eq!(error.category(), Category::Unverifiable);
    // A signature of no known form is found when it is verified; the schema sees it at once.
    let misshapen = (code == "package_signature_form").then_some(&error);
    check_schema(document, misshapen);
}

#[test]
fn what_is_not_proved_is_unverifiable() {
    let pinned = ed25519_key(7).public_key().unwrap();
    let other = ed25519_key(8).public_key().unwrap();
    let rsa = PublicKey::from_pem(RSA_PUBLIC).unwrap();
    let signed = signed_standard();
    assert!(parse(&signed).unwrap().verify(&pinned, None).is_ok());
    // Spaces and order of names are no part of what was signed.
    let spaced = serde_json::to_string_pretty(&signed).unwrap();
    assert!(UnverifiedPackage::parse(spaced.as_bytes()).unwrap().verify(&pinned, None).is_ok());

    for (signature, code) in [
        (Value::Null, "package_unsigned"),
        (json!("SHA256-RSA:base64encodedSig..."), "package_signature_form"),
        (json!("MD5-RSA:AAAA"), "package_signature_form"),
        (json!("Ed25519:"), "package_signature_form"),
        (json!(""), "package_signature_form"),
        (json!("Ed25519:AAAA"), "package_signature_invalid"),
        (json!(RSA_SIGNATURE.trim()), "package_signature_algorithm"),
    ] {
        let document = with(signed.clone(), "/signature", signature);
        check_unverifiable(&document, &pinned, None, (code, "signature"));
    }
    let wrong_algorithm = ("package_signature_algorithm", "signature");
    check_unverifiable(&signed, &rsa, None, wrong_algorithm);
    let invalid = ("package_signature_invalid", "signature");
    check_unverifiable(&signed, &other, None, invalid);
    for (pointer, value) in [
        ("/entitlement/total", json!(21)),
        ("/entitlement/pricing/overage_per_use", json!(499.99)),
        ("/validity/end", json!("2026-12-31T23:59:59Z")),
        ("/x_added", json!(1)),
        ("/x_leasehold", Value::Null),
        // The right key, but not there when it was signed.
        ("/vendor/public_key", json!(pinned.to_pem())),
    ] {
        check_unverifiable(&with(signed.clone(), pointer, value), &pinned, None, invalid);
    }
    let offered = ("package_key_mismatch", "vendor_public_key");
    check_unverifiable(&signed, &pinned, Some(&other), offered);
    for pem in [other.to_pem(), rsa.to_pem(), "...".to_owned()] {
        let brought = with(signed.clone(), "/vendor/public_key", json!(pem));
        let mismatch = ("package_key_mismatch", "vendor.public_key");
        check_unverifiable(&brought, &pinned, None, mismatch);
    }
}

#[test]
fn a_vendor_cannot_sign_what_nobody_would_take() {
    let key = ed25519_key(7);
    let sign = |document: Value| sign_document(document.to_string().as_bytes(), &key);
    assert!(matches!(
        sign(with(journey(), "/package_id", Value::Null)),
        Err(SignError::Package(PackageError::Missing { .. }))
    ));
    let foreign = ed25519_key(8).public_key().unwrap().to_pem();
    assert!(matches!(
        sign(with(standard(), "/vendor/public_key", json!(foreign))),
        Err(SignError::Package(PackageError::KeyMismatch { .. }))
    ));
    let own = key.public_key().unwrap().to_pem();
    assert!(sign(with(standard(), "/vendor/public_key", json!(own))).is_ok());
    // Signing again replaces the signature.
    let once = sign(journey()).unwrap();
    assert_eq!(sign_document(once.as_bytes(), &key).unwrap(), once);
}

/// Each change of the document is refused with this code, and the error names the changed field.
#[track_caller]
fn check_malformed(document: &Value, code: &str, changes: &[(&str, Value)]) {
    for (pointer, value) in changes {
        let field = pointer[1..].replace('/', ".");
        let error = parse(&with(document.clone(), pointer, value.clone())).unwrap_err();
        assert_eq!((error.code(), error.field()), (code, Some(field.as_str())), "{error} {value}");
        assert_eq!(error.category(), Category::Malformed);
        assert!(error.to_string().contains(&field) || code == "package_not_strict_json");
    }
}

#[test]
fn a_missing_unknown_or_mistyped_field_is_named() {
    let required = [
        "/package_id",
        "/vendor",
        "/vendor_id",
        "/product",
        "/product/name",
        "/product/version",
        "/product/product_id",
        "/client",
        "/client/name",
        "/client/client_id",
        "/client/org_domain",
        "/entitlement",
        "/entitlement/total_licenses",
        "/entitlement/commit_qty",
        "/entitlement/max_overage",
        "/entitlement/pricing",
        "/entitlement/pricing/commit_fee_monthly",
        "/entitlement/pricing/overage_per_use",
        "/entitlement/pricing/currency",
        "/validity",
        "/validity/start",
        "/validity/end",
    ];
    check_malformed(
        &journey(),
        "package_field_missing",
        &required.map(|pointer| (pointer, Value::Null)),
    );
    check_malformed(&journey(), "package_field_type", &required.map(|p| (p, json!([]))));
    check_malformed(
        &journey(),
        "package_field_unknown",
        &[
            ("/signature", json!("Ed25519:AAAA")),
            ("/version", json!("1.0.0")),
            ("/notes", json!("hi")),
            ("/product/id", json!("x")),
            ("/client/extra", json!({})),
            ("/entitlement/total", json!(20)),
            ("/entitlement/pricing/discount", json!(1)),
            ("/validity/until", json!("2026-01-01T00:00:00Z")),
        ],
    );
    check_malformed(
        &standard(),
        "package_field_unknown",
        &[
            ("/vendor_signature", json!("Ed25519:AAAA")),
            ("/vendor_id", json!("vector-de")),
            ("/vendor/key", json!("")),
            ("/entitlement/total_licenses", json!(20)),
            ("/x_leasehold/colour", json!(1)),
            ("/x_leasehold/x_a", json!(1)),
        ],
    );
    check_malformed(
        &standard(),
        "package_field_type",
        &[
            ("/vendor", json!("Vector")),
            ("/vendor/public_key", json!(1)),
            ("/x_leasehold", json!(1)),
            ("/x_leasehold/policy", json!([])),
            ("/x_leasehold/features", json!("a")),
            ("/x_leasehold/features", json!([1])),
            ("/signature", json!(7)),
        ],
    );
    assert_eq!(parse(&json!([])).unwrap_err().code(), "package_field_type");
}

#[test]
fn a_field_out_of_bounds_is_named() {
    let ids = ["", "a/b", "..", "-a", "ä", "a b", &"x".repeat(129)].map(|id| json!(id));
    for pointer in ["/package_id", "/vendor_id", "/product/product_id", "/client/client_id"] {
        let changes = ids.clone().map(|id| (pointer, id));
        check_malformed(&journey(), "package_field_out_of_bounds", &changes);
    }
    let names = ["", "a\u{1b}[31m", "a\nb", &"x".repeat(257)].map(|name| json!(name));
    for pointer in ["/vendor", "/product/name", "/product/version", "/client/name"] {
        let changes = names.clone().map(|name| (pointer, name));
        check_malformed(&journey(), "package_field_out_of_bounds", &changes);
    }
    let times = ["2025-01-01", "2025-02-30T00:00:00Z", "2025-01-01T00:00:00", "now", ""];
    let times = times.map(|time| json!(time));
    for pointer in ["/validity/start", "/validity/end"] {
        let changes = times.clone().map(|time| (pointer, time));
        check_malformed(&journey(), "package_field_out_of_bounds", &changes);
    }
    check_malformed(
        &journey(),
        "package_field_out_of_bounds",
        &[
            ("/product/version", json!("R2023b")),
            ("/client/org_domain", json!("")),
            ("/client/org_domain", json!("-bmw.com")),
            ("/client/org_domain", json!("bmw.com.")),
            ("/client/org_domain", json!("bmw com")),
            ("/entitlement/total_licenses", json!(0)),
            ("/entitlement/total_licenses", json!(-1)),
            ("/entitlement/total_licenses", json!(10_000_001)),
            ("/entitlement/commit_qty", json!(21)),
            ("/entitlement/max_overage", json!(-1)),
            ("/entitlement/pricing/currency", json!("Euro")),
            ("/entitlement/pricing/currency", json!("eur")),
            ("/entitlement/pricing/overage_per_use", json!(-0.5)),
            ("/entitlement/pricing/commit_fee_monthly", json!(1_000_000_001)),
            ("/validity/end", json!("2025-01-01T00:00:00Z")),
            ("/license_server_url", json!("http://a")),
            ("/license_server_url", json!("https://")),
            ("/license_server_url", json!("https://a b")),
            ("/license_server_url", json!("javascript:x")),
        ],
    );
    check_malformed(
        &standard(),
        "package_field_out_of_bounds",
        &[
            ("/$schema", json!("https://example.com")),
            ("/version", json!("2.0.0")),
            ("/version", json!("one")),
            ("/x_leasehold/features", json!(["a", "a"])),
            ("/x_leasehold/features", json!(["a b"])),
            ("/x_leasehold/features", json!(vec!["a"; 257])),
        ],
    );
    let no_seat = with(journey(), "/entitlement/commit_qty", json!(0));
    check_malformed(
        &no_seat,
        "package_field_out_of_bounds",
        &[("/entitlement/max_overage", json!(0))],
    );
}

#[test]
fn what_the_strict_loader_refuses_is_named_too() {
    check_malformed(
        &journey(),
        "package_not_strict_json",
        &[
            ("/entitlement/total_licenses", json!(20.5)),
            ("/entitlement/total_licenses", json!(20.0)),
            ("/entitlement/max_overage", json!(u64::MAX)),
            ("/entitlement/pricing/overage_per_use", json!(1e300)),
            ("/x_rate", json!(1.5)),
        ],
    );
    let twice = journey().to_string().replacen('{', r#"{"package_id":"a","#, 1);
    let error = UnverifiedPackage::parse(twice.as_bytes()).unwrap_err();
    assert_eq!((error.code(), error.field()), ("package_not_strict_json", Some("package_id")));
}

#[test]
fn extensions_of_strangers_are_signed_and_otherwise_ignored() {
    let plain = parse(&journey()).unwrap();
    let extended = with(journey(), "/x_note", json!({"any": ["thing", 1, null]}));
    let extended = with(extended, "/client/x_cost_centre", json!("4711"));
    let extended = parse(&extended).unwrap();
    assert_eq!(extended.package(), plain.package());
    assert_ne!(extended.canonical(), plain.canonical());
}

fn policy(fields: Value) -> Result<Policy, PackageError> {
    parse(&with(standard(), "/x_leasehold/policy", fields)).map(|p| p.package().policy)
}

/// A policy that is refused: with this code, because of this field.
#[track_caller]
fn check_policy(fields: Value, code: &str, name: &str) {
    let error = policy(fields).unwrap_err();
    let field = format!("x_leasehold.policy.{name}");
    assert_eq!((error.code(), error.field()), (code, Some(field.as_str())), "{error}");
}

#[test]
fn policy_is_typed_bounded_and_complete() {
    assert_eq!(policy(json!({})), Ok(Policy::default()));
    assert_eq!(
        policy(json!({
            "lease_ttl_seconds": 60, "heartbeat_interval_seconds": 10, "renewal_rotation": "off",
            "sharing": "user_host", "offline": "on", "offline_skew_seconds": 0,
            "borrow_max_seconds": 604_800, "borrow_seats_max": 0,
            "borrow_online_reserve": 1_000_000
        })),
        Ok(Policy {
            lease_ttl_ms: 60_000,
            heartbeat_interval_ms: 10_000,
            renewal_rotation: false,
            sharing: Sharing::UserHost,
            offline: true,
            offline_skew_ms: 0,
            borrow_max_ms: 604_800_000,
            borrow_seats_max: Some(0),
            borrow_online_reserve: 1_000_000,
        })
    );
    let shortest = policy(json!({"lease_ttl_seconds": 1})).unwrap();
    assert_eq!((shortest.lease_ttl_ms, shortest.heartbeat_interval_ms), (1_000, 333));
    for (fields, code, name) in [
        (json!({"lease_ttl_seconds": 0}), "package_field_out_of_bounds", "lease_ttl_seconds"),
        (json!({"lease_ttl_seconds": 86_401}), "package_field_out_of_bounds", "lease_ttl_seconds"),
        (json!({"lease_ttl_seconds": "60"}), "package_field_type", "lease_ttl_seconds"),
        (
            json!({"lease_ttl_seconds": 9, "heartbeat_interval_seconds": 10}),
            "package_field_out_of_bounds",
            "heartbeat_interval_seconds",
        ),
        (
            json!({"heartbeat_interval_seconds": 0}),
            "package_field_out_of_bounds",
            "heartbeat_interval_seconds",
        ),
        (json!({"renewal_rotation": true}), "package_field_type", "renewal_rotation"),
        (json!({"renewal_rotation": "maybe"}), "package_field_out_of_bounds", "renewal_rotation"),
        (json!({"sharing": "everyone"}), "package_field_out_of_bounds", "sharing"),
        (json!({"offline": "yes"}), "package_field_out_of_bounds", "offline"),
        (
            json!({"offline_skew_seconds": 86_401}),
            "package_field_out_of_bounds",
            "offline_skew_seconds",
        ),
        (json!({"lease_ttl": 60}), "package_field_unknown", "lease_ttl"),
        (json!({"x_lease_ttl": 60}), "package_field_unknown", "x_lease_ttl"),
    ] {
        check_policy(fields, code, name);
    }
}

#[test]
fn borrowing_has_bounds_and_is_written_as_it_was_read() {
    for (fields, code, name) in [
        (
            json!({"borrow_max_seconds": 31_622_401}),
            "package_field_out_of_bounds",
            "borrow_max_seconds",
        ),
        (json!({"borrow_max_seconds": -1}), "package_field_out_of_bounds", "borrow_max_seconds"),
        (json!({"borrow_seats_max": 1_000_001}), "package_field_out_of_bounds", "borrow_seats_max"),
        (json!({"borrow_seats_max": "all"}), "package_field_type", "borrow_seats_max"),
        (
            json!({"borrow_online_reserve": 1_000_001}),
            "package_field_out_of_bounds",
            "borrow_online_reserve",
        ),
        (
            json!({"borrow_online_reserve": -1}),
            "package_field_out_of_bounds",
            "borrow_online_reserve",
        ),
    ] {
        check_policy(fields, code, name);
    }
    for fields in [
        json!({"borrow_max_seconds": 1}),
        json!({"borrow_seats_max": 0, "borrow_online_reserve": 7}),
        json!({"borrow_seats_max": 1_000_000}),
    ] {
        let document = with(standard(), "/x_leasehold/policy", fields);
        let package = parse(&document).unwrap().package().clone();
        let again = UnverifiedPackage::from_value(package.to_standard()).unwrap();
        assert_eq!(again.package().policy, package.policy);
    }
}

#[test]
fn a_package_for_others_or_of_the_past_is_refused() {
    let package = parse(&journey()).unwrap().package().clone();
    assert_eq!(package.check_client("bmw-de-001", "bmw.com"), Ok(()));
    assert_eq!(package.check_client("bmw-de-001", "BMW.com"), Ok(()));
    let error = package.check_client("daimler-de-001", "bmw.com").unwrap_err();
    assert_eq!(
        (error.code(), error.field()),
        ("package_for_another_client", Some("client.client_id"))
    );
    let error = package.check_client("bmw-de-001", "bmw.de").unwrap_err();
    assert_eq!(
        (error.code(), error.field()),
        ("package_for_another_client", Some("client.org_domain"))
    );

    let end_ms = package.validity.end_ms;
    assert_eq!(package.check_not_ended(end_ms), Ok(()));
    assert_eq!(package.check_not_ended(package.validity.start_ms - 1), Ok(()));
    let error = package.check_not_ended(end_ms + 1).unwrap_err();
    assert_eq!((error.code(), error.category().http_status()), ("package_expired", 422));
    assert_eq!(error.to_string(), "the package ended at 2025-12-31T23:59:59Z");
}

#[test]
fn the_sample_is_the_documents_sample() {
    let year_2025 = parse(&journey()).unwrap().package().validity;
    let sample = sample_document(year_2025.start_ms, year_2025.end_ms, &[]);
    assert_eq!(UnverifiedPackage::parse(sample.as_bytes()).unwrap().canonical(), CANONICAL);
    let sample = sample_document(0, 1_000, &[("lease_ttl_seconds", 2)]);
    let package = UnverifiedPackage::parse(sample.as_bytes()).unwrap();
    assert_eq!(package.package().policy.lease_ttl_ms, 2_000);
}

#[test]
fn every_package_that_was_ever_made_fits_the_schema() {
    let golden: Value = serde_json::from_slice(CANONICAL).unwrap();
    check_schema(&golden, None);
    for (field, signature) in
        [("vendor_signature", RSA_SIGNATURE), ("vendor_signature", ED25519_SIGNATURE)]
    {
        check_schema(&with(golden.clone(), &format!("/{field}"), json!(signature.trim())), None);
    }
    let key = ed25519_key(9);
    for document in [journey(), standard()] {
        let signed = sign_document(document.to_string().as_bytes(), &key).unwrap();
        check_schema(&serde_json::from_str(&signed).unwrap(), None);
        let exported = parse(&document).unwrap().package().to_standard().to_pretty();
        check_schema(&serde_json::from_str(&exported).unwrap(), None);
    }
    let sample = sample_document(0, 86_400_000, &[("lease_ttl_seconds", 2)]);
    check_schema(&serde_json::from_str(&sample).unwrap(), None);
}

#[test]
fn the_schema_is_one_and_names_itself_as_packages_do() {
    let schema: Value = serde_json::from_str(json_schema()).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    assert_eq!(schema["$id"], standard()["$schema"]);
}
