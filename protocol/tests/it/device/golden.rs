//! What the reference implementation wrote, read back field by field and, where nothing is random,
//! written again byte for byte.

use protocol::device::checksum::{self, ChecksumError};
use protocol::device::crypto::{LicenseSigner, SealedLicense, transport_key};
use protocol::device::envelope::{self, EnvelopeError};
use protocol::device::fingerprint::{Inputs, cpu_hash, fingerprint};
use protocol::device::key::LicenseKey;
use protocol::device::payload::{LicenseData, Permission, Relationship};
use protocol::device::schedule::{CheckMode, next_check_ms};
use protocol::device::stored::{StoredError, StoredLicense};
use protocol::device::time::LicenseTime;
use protocol::device::wire::{self, ActivationResponse, DeviceRequest};
use protocol::keys::pss::PssSalt;
use protocol::keys::{BadSignature, PrivateKey, PublicKey};
use protocol::secret::Secret;
use serde_json::{Value, json};

use super::{FINGERPRINT, KEY, hex, recorded, recorded_json, recorded_text};

/// The recorded folders, and the device and its owner in each.
const RUNS: [(&str, &str, &str); 2] = [
    ("client-run", FINGERPRINT, "golden@example.com"),
    (
        "upstream-v1",
        "f4cee5d7a65ef56c5b1ad834cf6741c9793d9e1efd9f1bb7d3a9f3c0a7d8b6e2",
        "owner@example.com",
    ),
];

fn session_key() -> Option<Secret<[u8; 32]>> {
    let text = recorded_text("client-run/session_key.hex")?;
    Some(Secret::new(hex(&text).try_into().unwrap()))
}

fn response(name: &str) -> Option<(SealedLicense, LicenseTime)> {
    recorded(name).map(|bytes| ActivationResponse::read(&bytes).unwrap())
}

#[test]
fn the_recorded_machine_has_the_recorded_fingerprint() {
    let Some(recorded) = recorded_json("client-run/device_fingerprint_inputs.json") else { return };
    let inputs = Inputs {
        hostname: Some("vm"),
        os: "linux",
        arch: "amd64",
        mac_address: Some("02:fc:00:00:00:01"),
        cpu_name: recorded["cpu_model_name"].as_str(),
    };
    assert_eq!(recorded["string"], inputs.line());
    assert_eq!(recorded["fingerprint"], fingerprint(&inputs));
    assert_eq!(cpu_hash("AMD EPYC"), "a4207cd081c424d5b68f00b1f2b4c8f3");
}

#[test]
fn recorded_requests_are_read_and_written_the_same() {
    for name in ["activation_request", "verify_request_plain"] {
        let Some(bytes) = recorded(&format!("client-run/{name}.json")) else { return };
        let call = DeviceRequest::read(&bytes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(call.email, "golden@example.com");
        assert_eq!(call.client_id, "6a3d09a9-7701-42b7-8f54-cfcda8b14d32");
        assert!(call.license_key.equals(&LicenseKey::normalise(KEY).unwrap()));
        assert_eq!((call.fingerprint.as_str(), call.product), (FINGERPRINT, None));
        let request: DeviceRequest = serde_json::from_slice(&bytes).unwrap();
        let written = serde_json::to_vec(&request).unwrap();
        assert_eq!(written, bytes.trim_ascii_end(), "{name}");
    }
    // The published key has 32 characters, which the reference server refuses too.
    let published = recorded("upstream-v1/activation_request.json").unwrap();
    let fault = DeviceRequest::read(&published).err();
    assert_eq!(fault, Some(wire::RequestFault::LicenseKey));
}

#[test]
fn recorded_headers_say_who_sent_the_envelope() {
    let Some(headers) = recorded_json("client-run/verify_request_headers.json") else { return };
    let header = |name: &str| {
        let rows = headers.as_array().unwrap();
        rows.iter().find(|row| row[0] == name).and_then(|row| row[1].as_str())
    };
    assert!(envelope::is_secure(header(wire::SECURE_HEADER).map(str::as_bytes)));
    let (key, fingerprint) =
        envelope::sender(header(wire::KEY_HEADER), header(wire::FINGERPRINT_HEADER)).unwrap();
    assert_eq!((key.hyphenated().expose().as_str(), fingerprint), (KEY, FINGERPRINT));
}

#[test]
fn recorded_answers_verify_and_open() {
    for (run, fingerprint, email) in RUNS {
        let Some((sealed, expires_at)) = response(&format!("{run}/activation_response.json"))
        else {
            return;
        };
        assert_eq!(sealed.verify(PssSalt::Longest), Ok(()), "{run}");
        assert_eq!(sealed.verify(PssSalt::Any), Ok(()), "{run}");
        let opened = sealed.open(fingerprint, Some(&sealed.public_key)).unwrap();
        let license = LicenseData::from_json(&opened.license_json).unwrap();
        assert_eq!((license.email.as_str(), license.expires_at), (email, expires_at), "{run}");
        let inside: Value = serde_json::from_slice(&opened.license_json).unwrap();
        let mut expected = recorded_json(&format!("{run}/license_data.json")).unwrap();
        if run == "upstream-v1" {
            // Added by the generator, for the readers of that file.
            assert_eq!(expected["device_fingerprint"], fingerprint);
            expected.as_object_mut().unwrap().remove("device_fingerprint");
        }
        assert_eq!(inside, expected, "{run}");
        assert!(sealed.open(&fingerprint.to_uppercase(), None).is_err(), "{run}");

        let bytes = recorded(&format!("{run}/activation_response.json")).unwrap();
        let answer: ActivationResponse = serde_json::from_slice(&bytes).unwrap();
        let again = ActivationResponse::success(wire::ACTIVATED, &sealed, expires_at);
        assert_eq!(again, answer, "{run}");
        if run == "client-run" {
            assert_eq!(again.to_bytes(), bytes, "byte for byte, with the line end");
        }
    }
}

#[test]
fn recorded_keys_are_derived_the_same() {
    let Some((sealed, _)) = response("client-run/activation_response.json") else { return };
    let key = transport_key(FINGERPRINT, &sealed.nonce);
    assert_eq!(key.expose().to_vec(), hex(&recorded_text("client-run/transport_key.hex").unwrap()));
    let opened = sealed.open(FINGERPRINT, None).unwrap();
    assert!(opened.session_key.equals(session_key().unwrap().expose()));
    let pem = recorded_text("client-run/server_public_key.pem").unwrap();
    let public = PublicKey::from_pem(&pem).unwrap();
    assert_eq!(sealed.public_key, public);
    assert_eq!(public.to_pem().trim(), pem);
}

#[test]
fn the_recorded_private_key_signs_what_its_public_half_verifies() {
    let Some(pem) = recorded_text("keys/server_rsa_private_TEST_ONLY.pem") else { return };
    let private = PrivateKey::from_pkcs1_pem(&pem).unwrap();
    let der = private.to_pkcs8_der().unwrap();
    let signer = LicenseSigner::new(PrivateKey::from_pkcs8_der(der.expose()).unwrap()).unwrap();
    let public = recorded_text("client-run/server_public_key.pem").unwrap();
    assert_eq!(signer.public_key(), &PublicKey::from_pem(&public).unwrap());

    // Everything but the signature, which has a random salt, comes out as it was recorded.
    let (recorded, _) = response("client-run/activation_response.json").unwrap();
    let opened = recorded.open(FINGERPRINT, None).unwrap();
    let ours = signer
        .seal(FINGERPRINT, recorded.nonce, &opened.session_key, &opened.license_json)
        .unwrap();
    assert_eq!((&ours.ciphertext, ours.nonce), (&recorded.ciphertext, recorded.nonce));
    assert_eq!(ours.public_key, recorded.public_key);
    assert_eq!(ours.verify(PssSalt::Longest), Ok(()));
    let swapped = SealedLicense { signature: recorded.signature, ..ours };
    assert_eq!(swapped.verify(PssSalt::Longest), Ok(()));
}

#[test]
fn recorded_envelopes_open_and_are_sealed_the_same() {
    let Some(session_key) = session_key() else { return };
    for part in ["request", "response"] {
        let bytes = recorded(&format!("client-run/verify_{part}_envelope.json")).unwrap();
        let plain = recorded(&format!("client-run/verify_{part}_plain.json")).unwrap();
        let opened = envelope::open(&session_key, &bytes).unwrap();
        assert_eq!(opened.trim_ascii_end(), plain.trim_ascii_end(), "{part}");
        let nonce: Value = serde_json::from_slice(&bytes).unwrap();
        let nonce = hex(nonce["nonce"].as_str().unwrap()).try_into().unwrap();
        let again = envelope::seal(&session_key, nonce, &opened);
        assert_eq!(again, bytes.trim_ascii_end(), "{part}");
        let other = Secret::new([0; 32]);
        assert_eq!(envelope::open(&other, &bytes).err(), Some(EnvelopeError::Sealed));
    }
    let plain = recorded("client-run/verify_response_plain.json").unwrap();
    let (sealed, _) = ActivationResponse::read(&plain).unwrap();
    let again = sealed.open(FINGERPRINT, None).unwrap();
    assert!(again.session_key.equals(session_key.expose()), "the session key stays");
}

#[test]
fn recorded_stored_files_open_and_are_written_the_same() {
    for (run, fingerprint, _) in RUNS {
        for file in ["license", "license_after_verify"] {
            if run == "upstream-v1" && file != "license" {
                continue;
            }
            let Some(bytes) = recorded(&format!("{run}/{file}.dat")) else { return };
            let stored = StoredLicense::parse(&bytes).unwrap();
            assert_eq!(stored.to_bytes(), bytes, "{run}/{file}");
            assert_eq!(stored.device_fingerprint, fingerprint);
            let known = stored.sealed.public_key.clone();
            let opened = stored.open(fingerprint, Some(&known)).unwrap();
            assert_eq!(opened.license.expires_at, stored.expires_at);
            let chk = recorded(&format!("{run}/{file}.dat.chk")).unwrap();
            let created_at = checksum::verify(Some(&chk), &bytes, fingerprint).unwrap();
            let nonce: Value = serde_json::from_slice(&chk).unwrap();
            let nonce = hex(nonce["nonce"].as_str().unwrap()).try_into().unwrap();
            assert_eq!(checksum::seal(&bytes, fingerprint, nonce, created_at), chk);
        }
        let pretty = recorded(&format!("{run}/stored_license.json")).unwrap();
        let file = recorded(&format!("{run}/license.dat")).unwrap();
        assert_eq!(StoredLicense::parse(&pretty).unwrap().to_bytes(), file, "{run}");
    }
}

#[test]
fn files_of_another_moment_device_or_server_are_refused() {
    let Some(before) = recorded("client-run/license.dat") else { return };
    let after = recorded("client-run/license_after_verify.dat").unwrap();
    let chk = recorded("client-run/license.dat.chk").unwrap();
    let check = |chk: Option<&[u8]>, file: &[u8], fingerprint: &str| {
        checksum::verify(chk, file, fingerprint).unwrap_err()
    };
    assert!(matches!(check(None, &before, FINGERPRINT), ChecksumError::Missing));
    assert!(matches!(check(Some(&chk), &after, FINGERPRINT), ChecksumError::Mismatch));
    let other = FINGERPRINT.replace('4', "5");
    assert!(matches!(check(Some(&chk), &before, &other), ChecksumError::Undecryptable));

    let stored = StoredLicense::parse(&before).unwrap();
    assert!(matches!(stored.open(&other, None).err(), Some(StoredError::OtherDevice)));
    let moved = StoredLicense { device_fingerprint: other.clone(), ..stored.clone() };
    let error = moved.open(&other, None).err().unwrap();
    assert!(matches!(error, StoredError::Sealed(_)), "{error}");
    let longer =
        StoredLicense { expires_at: LicenseTime::from_unix_ms(4e12 as i64), ..stored.clone() };
    assert!(matches!(longer.open(FINGERPRINT, None).err(), Some(StoredError::ExpiresAt { .. })));
    let published = recorded("upstream-v1/license.dat").unwrap();
    let server = StoredLicense::parse(&published).unwrap().sealed.public_key;
    let error = stored.open(FINGERPRINT, Some(&server)).err().unwrap();
    assert!(error.to_string().contains("not believed"), "{error}");
    let foreign = SealedLicense { public_key: server, ..stored.sealed };
    assert_eq!(foreign.verify(PssSalt::Any), Err(BadSignature));
}

/// Every recorded payload, and what we write otherwise, with the reason beside it.
#[test]
fn recorded_payloads_are_written_the_same() {
    let names = [
        "payloads/license_data_check_custom_10.json",
        "payloads/license_data_check_custom_3600.json",
        "payloads/license_data_check_none_0.json",
        "payloads/license_data_check_yearly_0.json",
        "payloads/license_data_delegated.json",
        "payloads/license_data_entitlements.json",
        "payloads/raw_license_payload_example.json",
        "client-run/license_data.json",
        "upstream-v1/license_data.json",
    ];
    for name in names {
        let Some(bytes) = recorded(name) else { return };
        let license = LicenseData::from_json(&bytes).unwrap();
        let written = license.to_json();
        let mut expected: Value = serde_json::from_slice(&bytes).unwrap();
        match name {
            // The document's word, which the reference client does not look at.
            "payloads/license_data_delegated.json" => expected["relationship"] = json!("delegated"),
            "upstream-v1/license_data.json" => {
                let fields = expected.as_object_mut().unwrap();
                fields.insert("is_trial".to_owned(), json!(false)); // newer than this file
                fields.remove("check_interval_seconds"); // 0 is not set
                fields.remove("device_fingerprint"); // the generator's own
            }
            _ => {}
        }
        let value: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value, expected, "{name}");
        if name == "payloads/raw_license_payload_example.json" {
            assert_eq!(written, bytes.trim_ascii_end(), "byte for byte");
        }
    }
}

#[test]
fn recorded_payloads_mean_what_the_reference_means() {
    let Some(bytes) = recorded("payloads/license_data_entitlements.json") else { return };
    let license = LicenseData::from_json(&bytes).unwrap();
    assert!(license.allows_feature("export") && !license.allows_feature("import"));
    assert!(license.allows_scope("export", "create"));
    assert!(!license.allows_scope("export", "delete") && !license.allows_scope("export", "list"));
    assert_eq!(license.scope_limit("export", "create"), Some(10));
    let delete = license.entitlements.as_ref().unwrap().scope("export", "delete").unwrap();
    assert_eq!((delete.permission, delete.effective_limit()), (Permission::Deny, None));

    let bytes = recorded("payloads/license_data_delegated.json").unwrap();
    let delegated = LicenseData::from_json(&bytes).unwrap();
    assert_eq!(delegated.relationship, Relationship::Delegated);
    assert_eq!(delegated.granted_by.as_deref(), Some(delegated.client_id.as_str()));
    assert_ne!(delegated.subject_client_id, delegated.client_id);
}

/// The reference's own next checks come out of our schedule.
#[test]
fn recorded_schedules_are_worked_out_the_same() {
    for (name, mode) in [
        ("check_none_0", CheckMode::None),
        ("check_yearly_0", CheckMode::Yearly),
        ("check_custom_10", CheckMode::Custom),
        ("check_custom_3600", CheckMode::Custom),
        ("delegated", CheckMode::Monthly),
    ] {
        let Some(bytes) = recorded(&format!("payloads/license_data_{name}.json")) else { return };
        let license = LicenseData::from_json(&bytes).unwrap();
        assert_eq!(license.check_mode, mode, "{name}");
        let checked_ms = license.last_check_at.map_or(0, LicenseTime::unix_ms);
        let next = next_check_ms(mode, license.check_interval_seconds, checked_ms);
        assert_eq!(next, license.next_check_at.map(LicenseTime::unix_ms), "{name}");
    }
}
