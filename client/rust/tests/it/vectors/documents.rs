//! Evaluation licenses and clocks, signed borrows, and packages.

use std::collections::BTreeMap;

use protocol::classic::signature::{SignatureHeaders, SignedParts, sign, verify};
use protocol::evaluation::client::{Memory, Mode, Step, Warning};
use protocol::evaluation::clock_skew::{ClockSkew, SkewChange};
use protocol::evaluation::identity::HostHash;
use protocol::evaluation::key_ring::{KeyRing, KeyVersion};
use protocol::evaluation::license_file::LicenseFile;
use protocol::keys::PublicKey;
use protocol::package::{UnverifiedPackage, VerifiedPackage, with_signature};
use protocol::secret::Secret;
use serde_json::Value;

use super::{
    every_change_is_refused, every_change_of_text_is_refused, flag, number, optional, rows, text,
    vector,
};

/// The keys of the file, the newest of which signs.
fn ring(file: &Value, minimum: KeyVersion) -> KeyRing {
    let keys: BTreeMap<KeyVersion, Secret<Vec<u8>>> = rows(file, "keys")
        .iter()
        .map(|row| {
            let secret = Secret::new(text(row, "secret").as_bytes().to_vec());
            (text(row, "key_version").parse().unwrap(), secret)
        })
        .collect();
    let newest = *keys.keys().max().unwrap();
    KeyRing::new(keys, newest, minimum).unwrap()
}

#[test]
fn evaluation_licenses_verify_as_they_are_and_in_no_other_form() {
    let file = vector("evaluation_license.json");
    let ring = ring(&file, KeyVersion(1));
    for row in rows(&file, "signed") {
        let (name, signed) = (text(row, "name"), text(row, "file"));
        let license = LicenseFile::parse(signed.as_bytes()).unwrap();
        assert_eq!(license.to_text(), signed, "{name}");
        assert_eq!(license.canonical(), text(row, "canonical"), "{name}");
        assert_eq!(license.key_version().unwrap().to_string(), text(row, "key_version"), "{name}");
        assert!(signed.ends_with(&format!("\"{}\"\n}}", text(row, "signature"))), "{name}");
        every_change_is_refused(name, signed.as_bytes(), |changed| {
            LicenseFile::parse(changed).is_ok_and(|file| file.verify(&ring).is_ok())
        });
    }
    for row in rows(&file, "hostname_hashes") {
        assert_eq!(HostHash::of(text(row, "hostname")).as_str(), text(row, "hash"));
    }
}

#[test]
fn evaluation_licenses_get_their_verdicts() {
    let file = vector("evaluation_license.json");
    for row in rows(&file, "check") {
        let ring = ring(&file, text(row, "minimum_key_version").parse().unwrap());
        let license = LicenseFile::parse(text(row, "file").as_bytes());
        let mode = Mode { force_online: true, is_development: flag(row, "is_development") };
        let step = Memory::default().check(Some(&license), &ring, mode, number(row, "now_ms"));
        let (verdict, warning) = match step {
            Step::Run { warning, .. } => ("run", warning),
            Step::AskServer { warning, .. } => ("ask_server", warning),
            Step::Refuse(ref rejection) => (rejection.reason(), None),
            Step::Activate => ("activate", None),
        };
        assert_eq!(verdict, text(row, "verdict"), "{}", text(row, "name"));
        let warns = matches!(warning, Some(Warning::EndWithinTolerance));
        let expected = optional(row, "warning").is_some_and(|word| word == "end_within_tolerance");
        assert_eq!(warns, expected, "{}", text(row, "name"));
    }
}

#[test]
fn clocks_learn_the_same_offset() {
    let file = vector("evaluation_clock.json");
    let seconds = |unix_ms: i64| unix_ms as f64 / 1_000.0;
    let is_near = |seconds: f64, unix_ms: i64| (seconds * 1_000.0 - unix_ms as f64).abs() <= 0.5;
    for story in rows(&file, "stories") {
        let mut skew = ClockSkew::default();
        for row in rows(story, "steps") {
            let local_seconds = seconds(number(row, "local_ms"));
            let change = skew.learn(seconds(number(row, "server_ms")), local_seconds);
            assert_eq!(change == SkewChange::Learnt, flag(row, "is_learnt"), "{row}");
            assert!(is_near(skew.offset_seconds(), number(row, "offset_ms")), "{row}");
            assert!(is_near(skew.corrected(local_seconds), number(row, "corrected_ms")), "{row}");
        }
    }
}

#[test]
fn borrows_are_signed_alike() {
    let file = vector("classic_signature.json");
    for row in rows(&file, "sign") {
        let parts = SignedParts {
            tool: text(row, "tool"),
            user: text(row, "user"),
            timestamp: text(row, "timestamp"),
            api_key: optional(row, "api_key"),
        };
        let signature = sign(text(&file, "vendor_secret").as_bytes(), &parts);
        assert_eq!(signature, text(row, "signature"), "{}", text(row, "name"));
        let joined = [Some(parts.tool), Some(parts.user), Some(parts.timestamp), parts.api_key];
        let joined: Vec<&str> = joined.into_iter().flatten().collect();
        assert_eq!(joined.join("|"), text(row, "signed_text"), "{}", text(row, "name"));
    }
}

#[test]
fn signed_borrows_get_their_verdicts_and_pass_in_no_other_form() {
    let file = vector("classic_signature.json");
    let secret = text(&file, "vendor_secret").as_bytes();
    let judge = |row: &Value| {
        let headers = SignatureHeaders {
            signature: optional(row, "x_signature"),
            timestamp: optional(row, "x_timestamp"),
            vendor: None,
        };
        let api_key = optional(row, "api_key");
        let now_seconds = number(row, "now_seconds");
        let (tool, user) = (text(row, "tool"), text(row, "user"));
        verify(&headers, Some(secret), tool, user, api_key, now_seconds)
    };
    let mut changed_parts = 0;
    for row in rows(&file, "verify") {
        let verdict = judge(row).map_or_else(|error| error.to_string(), |()| "ok".to_owned());
        assert_eq!(verdict, text(row, "verdict"), "{}", text(row, "name"));
        if verdict != "ok" {
            continue;
        }
        for part in ["tool", "user", "x_signature", "x_timestamp", "api_key"] {
            let Some(good) = optional(row, part) else { continue };
            changed_parts += 1;
            every_change_of_text_is_refused(part, good, |changed| {
                let mut row = row.clone();
                row[part] = changed.into();
                judge(&row).is_ok()
            });
        }
        every_change_is_refused("vendor secret", secret, |changed| {
            let headers = SignatureHeaders {
                signature: optional(row, "x_signature"),
                timestamp: optional(row, "x_timestamp"),
                vendor: None,
            };
            let api_key = optional(row, "api_key");
            let (tool, user) = (text(row, "tool"), text(row, "user"));
            verify(&headers, Some(changed), tool, user, api_key, number(row, "now_seconds")).is_ok()
        });
    }
    assert!(changed_parts >= 5, "{changed_parts}");
}

fn verified(document: &[u8], key: &PublicKey) -> Result<VerifiedPackage, &'static str> {
    UnverifiedPackage::parse(document)
        .and_then(|package| package.verify(key, None))
        .map_err(|error| error.code())
}

#[test]
fn packages_verify_as_they_are_and_in_no_other_form() {
    let file = vector("cloud_package.json");
    for row in rows(&file, "packages") {
        let key = PublicKey::from_pem(text(row, "vendor_public_key_pem")).unwrap();
        assert_eq!(key.fingerprint().to_string(), text(row, "vendor_key_fingerprint"));
        let signed = text(row, "signed");
        let package = verified(signed.as_bytes(), &key).unwrap();
        assert_eq!(package.package.layout.name(), text(row, "layout"));
        assert_eq!(package.package.layout.signature_field(), text(row, "signature_field"));
        assert_eq!(package.canonical, text(row, "canonical").as_bytes());
        assert_eq!(package.signature, text(row, "signature"));
        let unsigned = UnverifiedPackage::parse(text(row, "unsigned").as_bytes()).unwrap();
        assert_eq!((unsigned.canonical(), unsigned.signature()), (&package.canonical[..], None));
        assert_eq!(with_signature(&package.canonical, &package.signature).unwrap(), signed);
        every_change_is_refused(text(row, "layout"), signed.as_bytes(), |changed| {
            verified(changed, &key).is_ok()
        });
        every_change_is_refused("canonical bytes", &package.canonical, |changed| {
            with_signature(changed, &package.signature)
                .is_ok_and(|document| verified(document.as_bytes(), &key).is_ok())
        });
    }
}

#[test]
fn packages_get_their_verdicts() {
    let file = vector("cloud_package.json");
    for row in rows(&file, "verify") {
        let key = PublicKey::from_pem(text(row, "vendor_public_key_pem")).unwrap();
        let found = verified(text(row, "document").as_bytes(), &key);
        let verdict = found.map_or_else(|code| code, |_| "ok");
        assert_eq!(verdict, text(row, "verdict"), "{}", text(row, "name"));
    }
}
