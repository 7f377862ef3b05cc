//! Fingerprints, payloads and schedules; sealed licenses, envelopes and stored files.

use data_encoding::{BASE64, HEXLOWER};
use protocol::device::checksum;
use protocol::device::crypto::{SealedLicense, transport_key};
use protocol::device::envelope;
use protocol::device::fingerprint::{
    self, Inputs, cpu_hash, go_arch, go_os, is_fingerprint, linux_cpu_name, macos_mac_address,
    windows_cpu_name, windows_mac_address,
};
use protocol::device::payload::LicenseData;
use protocol::device::schedule::{
    CheckMode, background_wait_ms, effective_interval_seconds, is_due, next_check_ms,
};
use protocol::device::stored::StoredLicense;
use protocol::device::time::LicenseTime;
use protocol::device::wire::{
    ActivationResponse, DeviceRequest, FINGERPRINT_HEADER, KEY_HEADER, SECURE_HEADER,
};
use protocol::keys::PublicKey;
use protocol::secret::Secret;
use serde_json::Value;

use super::{
    array, bytes, every_change_is_refused, every_change_of_text_is_refused, flag, number, optional,
    rows, text, vector,
};

#[test]
fn fingerprints_are_made_and_recognised_alike() {
    let file = vector("device_fingerprint.json");
    for row in rows(&file, "machines") {
        let inputs = Inputs {
            hostname: optional(row, "hostname"),
            os: text(row, "os"),
            arch: text(row, "arch"),
            mac_address: optional(row, "mac_address"),
            cpu_name: optional(row, "cpu_name"),
        };
        assert_eq!(inputs.cpu_name.map(cpu_hash).as_deref(), optional(row, "cpu_hash"), "{row}");
        assert_eq!(inputs.line(), text(row, "line"), "{row}");
        assert_eq!(fingerprint::fingerprint(&inputs), text(row, "fingerprint"), "{row}");
    }
    for row in rows(&file, "texts") {
        assert_eq!(is_fingerprint(text(row, "text")), flag(row, "is_accepted"), "{row}");
    }
    for row in rows(&file, "readings") {
        let input = text(row, "input");
        let output = match text(row, "reader") {
            "linux_cpu_name" => linux_cpu_name(input),
            "macos_mac_address" => macos_mac_address(input),
            "windows_mac_address" => windows_mac_address(input),
            "windows_cpu_name" => windows_cpu_name(input),
            "go_os" => Some(go_os(input)),
            "go_arch" => Some(go_arch(input)),
            other => panic!("no reader is called {other}"),
        };
        assert_eq!(output, optional(row, "output"), "{row}");
    }
}

#[test]
fn licenses_are_read_and_gates_opened_alike() {
    let file = vector("device_payload.json");
    let json = text(&file, "license_json");
    let license = LicenseData::from_json(json.as_bytes()).unwrap();
    assert_eq!(license.to_json(), json.as_bytes());
    for row in rows(&file, "features") {
        let is_allowed = license.allows_feature(text(row, "feature"));
        assert_eq!(is_allowed, flag(row, "is_allowed"), "{row}");
    }
    for row in rows(&file, "scopes") {
        let (feature, scope) = (text(row, "feature"), text(row, "scope"));
        let is_allowed = license.allows_scope(feature, scope);
        assert_eq!(is_allowed, flag(row, "is_allowed"), "{row}");
        let limit = license.scope_limit(feature, scope).filter(|_| is_allowed);
        assert_eq!(limit, row["limit"].as_u64(), "{row}");
    }
    for row in rows(&file, "read") {
        let read = LicenseData::from_json(text(row, "json").as_bytes()).ok();
        assert_eq!(read.is_some(), flag(row, "is_read"), "{row}");
        let Some(license) = read else { continue };
        assert_eq!(Some(license.check_mode.name()), optional(row, "check_mode"), "{row}");
        assert_eq!(license.allows_feature("export"), flag(row, "allows_export"), "{row}");
        let trial_ends_at = license.trial_ends_at().map(|time| time.to_string());
        assert_eq!(trial_ends_at.as_deref(), optional(row, "trial_ends_at"), "{row}");
    }
}

fn time(row: &Value, name: &str) -> Option<LicenseTime> {
    optional(row, name).map(|time| time.parse().unwrap())
}

#[test]
fn checks_are_due_at_the_same_times() {
    let file = vector("device_schedule.json");
    let mode = |row: &Value| CheckMode::from_name(text(row, "check_mode")).unwrap();
    for row in rows(&file, "next_check") {
        let checked_ms = time(row, "checked_at").unwrap().unix_ms();
        let interval_seconds = row["check_interval_seconds"].as_u64();
        let next = next_check_ms(mode(row), interval_seconds, checked_ms);
        assert_eq!(next, time(row, "next_check_at").map(LicenseTime::unix_ms), "{row}");
    }
    for row in rows(&file, "due") {
        let now_ms = time(row, "now").unwrap().unix_ms();
        let next = time(row, "next_check_at");
        let interval_seconds = row["check_interval_seconds"].as_u64();
        assert_eq!(is_due(mode(row), next, now_ms), flag(row, "is_due"), "{row}");
        let wait_ms = background_wait_ms(mode(row), next, interval_seconds, now_ms);
        assert_eq!(wait_ms, row["background_wait_ms"].as_u64(), "{row}");
    }
    for row in rows(&file, "modes") {
        assert_eq!(CheckMode::of_payload(optional(row, "text")), mode(row), "{row}");
    }
    for row in rows(&file, "intervals") {
        let kept_seconds = effective_interval_seconds(row["asked_seconds"].as_u64());
        assert_eq!(Some(kept_seconds), row["kept_seconds"].as_u64(), "{row}");
    }
}

fn server_key(file: &Value) -> PublicKey {
    PublicKey::from_pem(text(file, "server_public_key_pem")).unwrap()
}

#[test]
fn activations_open_as_recorded() {
    let file = vector("device_activation.json");
    let (known, device) = (server_key(&file), text(&file, "fingerprint"));
    assert_eq!(known.fingerprint().to_string(), text(&file, "server_key_fingerprint"));
    let request: DeviceRequest = serde_json::from_str(text(&file, "request")).unwrap();
    assert_eq!(serde_json::to_string(&request).unwrap(), text(&file, "request"));
    assert_eq!(file["request_headers"][FINGERPRINT_HEADER], device);
    let key = text(&file["request_headers"], KEY_HEADER);
    assert_eq!(request.license_key.expose().replace('-', ""), key);
    for row in rows(&file, "answers") {
        let (sealed, expires_at) = ActivationResponse::read(text(row, "body").as_bytes()).unwrap();
        assert_eq!(expires_at.to_string(), text(&file, "expires_at"));
        assert_eq!(sealed.nonce.to_vec(), bytes(row, "nonce_hex"));
        let transport = transport_key(device, &sealed.nonce);
        assert!(transport.equals(&bytes(row, "transport_key_hex")));
        let opened = sealed.open(device, Some(&known)).unwrap();
        assert!(opened.session_key.equals(&bytes(&file, "session_key_hex")));
        assert_eq!(opened.license_json.as_slice(), text(&file, "license_json").as_bytes());
    }
}

/// The license of the activation; the verification's is sealed and signed by the same functions.
#[test]
fn a_sealed_license_opens_in_no_other_form() {
    let file = vector("device_activation.json");
    let (known, device) = (server_key(&file), text(&file, "fingerprint"));
    let body = text(&rows(&file, "answers")[0], "body");
    let (good, _) = ActivationResponse::read(body.as_bytes()).unwrap();
    let opens = |sealed: &SealedLicense| sealed.open(device, Some(&known)).is_ok();
    every_change_is_refused("ciphertext", &good.ciphertext, |changed| {
        opens(&SealedLicense { ciphertext: changed.to_vec(), ..good.clone() })
    });
    every_change_is_refused("signature", &good.signature, |changed| {
        opens(&SealedLicense { signature: changed.to_vec(), ..good.clone() })
    });
    every_change_is_refused("nonce", &good.nonce, |changed| {
        opens(&SealedLicense { nonce: changed.try_into().unwrap(), ..good.clone() })
    });
    every_change_is_refused("server key", good.public_key.spki_der(), |changed| {
        PublicKey::from_spki_der(changed)
            .is_ok_and(|public_key| opens(&SealedLicense { public_key, ..good.clone() }))
    });
    every_change_of_text_is_refused("fingerprint", device, |changed| {
        good.open(changed, Some(&known)).is_ok()
    });
}

#[test]
fn envelopes_open_as_recorded_and_in_no_other_form() {
    let file = vector("device_envelope.json");
    let key = Secret::new(array(&file, "session_key_hex"));
    assert_eq!(file["request_headers"][SECURE_HEADER], "1");
    for part in ["request", "answer"] {
        let plain = text(&file, &format!("{part}_plain"));
        let sealed = text(&file, &format!("{part}_envelope"));
        let nonce = array(&file, &format!("{part}_nonce_hex"));
        let opened = envelope::open(&key, sealed.as_bytes()).unwrap();
        assert_eq!(opened.as_slice(), plain.as_bytes(), "{part}");
        assert_eq!(envelope::seal(&key, nonce, plain.as_bytes()), sealed.as_bytes(), "{part}");
        every_change_is_refused(part, sealed.as_bytes(), |changed| {
            envelope::open(&key, changed).is_ok()
        });
        every_change_is_refused("session key", key.expose(), |changed| {
            let changed = Secret::new(changed.try_into().unwrap());
            envelope::open(&changed, sealed.as_bytes()).is_ok()
        });
    }
    for row in rows(&file, "opens") {
        let error = envelope::open(&key, text(row, "body").as_bytes()).err();
        assert_eq!(error.is_none(), flag(row, "opens"), "{}", text(row, "name"));
        let told = error.map(|error| (i64::from(error.status()), error.message()));
        let expected = optional(row, "error").map(|error| (number(row, "status"), error));
        assert_eq!(told, expected, "{}", text(row, "name"));
    }
}

#[test]
fn stored_files_open_as_recorded_and_in_no_other_form() {
    let file = vector("device_stored_license.json");
    let (known, device) = (server_key(&file), text(&file, "fingerprint"));
    let (stored, chk) = (text(&file, "license_file"), text(&file, "checksum_file"));
    let license = StoredLicense::parse(stored.as_bytes()).unwrap();
    assert_eq!(license.to_bytes(), stored.as_bytes());
    let opened = license.open(device, Some(&known)).unwrap();
    assert!(opened.session_key.equals(&bytes(&file, "session_key_hex")));
    assert_eq!(opened.license.to_json(), text(&file, "license_json").as_bytes());

    assert!(checksum::checksum_key(device).equals(&bytes(&file, "checksum_key_hex")));
    let vouches = |chk: &[u8], file: &[u8], device: &str| {
        checksum::verify(Some(chk), file, device).ok().map(|time| time.to_string())
    };
    let created_at = text(&file, "checksum_created_at");
    let found = vouches(chk.as_bytes(), stored.as_bytes(), device);
    assert_eq!(found.as_deref(), Some(created_at));
    let nonce = array(&file, "checksum_nonce_hex");
    let again = checksum::seal(stored.as_bytes(), device, nonce, created_at.parse().unwrap());
    assert_eq!(again, chk.as_bytes());

    every_change_is_refused("license file", stored.as_bytes(), |changed| {
        vouches(chk.as_bytes(), changed, device).is_some()
    });
    let row: Value = serde_json::from_str(chk).unwrap();
    for name in ["nonce", "payload"] {
        every_change_is_refused(name, &bytes(&row, name), |changed| {
            let changed = chk.replace(text(&row, name), &HEXLOWER.encode(changed));
            vouches(changed.as_bytes(), stored.as_bytes(), device).is_some()
        });
    }
    // Beside the sealed license, whose changes are refused above: what only the file has.
    let row: Value = serde_json::from_str(stored).unwrap();
    let opens = |changed: &str| {
        StoredLicense::parse(changed.as_bytes())
            .is_ok_and(|stored| stored.open(device, Some(&known)).is_ok())
    };
    for name in ["device_fingerprint", "expires_at"] {
        every_change_of_text_is_refused(name, text(&row, name), |changed| {
            opens(&stored.replace(text(&row, name), changed))
        });
    }
    for name in ["nonce", "public_key"] {
        let good = BASE64.decode(text(&row, name).as_bytes()).unwrap();
        every_change_is_refused(name, &good, |changed| {
            opens(&stored.replace(text(&row, name), &BASE64.encode(changed)))
        });
    }
    for row in rows(&file, "files") {
        let (stored, device) = (text(row, "license_file"), text(row, "fingerprint"));
        let opens = StoredLicense::parse(stored.as_bytes())
            .is_ok_and(|stored| stored.open(device, Some(&known)).is_ok());
        assert_eq!(opens, flag(row, "opens"), "{}", text(row, "name"));
        let is_vouched = vouches(chk.as_bytes(), stored.as_bytes(), device).is_some();
        assert_eq!(is_vouched, flag(row, "checksum_vouches"), "{}", text(row, "name"));
    }
}

/// The stored file holds the activation's license, so that its changes need no second run.
#[test]
fn the_stored_license_is_the_activations() {
    let activation = vector("device_activation.json");
    let body = text(&rows(&activation, "answers")[0], "body");
    let (sealed, expires_at) = ActivationResponse::read(body.as_bytes()).unwrap();
    let file = vector("device_stored_license.json");
    let stored = StoredLicense::parse(text(&file, "license_file").as_bytes()).unwrap();
    assert_eq!((stored.sealed, stored.expires_at), (sealed, expires_at));
}
