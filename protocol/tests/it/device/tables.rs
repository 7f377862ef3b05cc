//! Tables: keys, fingerprints, requests and their faults in order, schedules, refusals, gates.

use protocol::device::checksum;
use protocol::device::crypto::{LicenseSigner, SealedLicenseError};
use protocol::device::envelope::{self, EnvelopeError};
use protocol::device::fingerprint::{
    Inputs, fingerprint, go_arch, go_os, is_fingerprint, linux_cpu_name, linux_mac_address,
    macos_cpu_name, macos_mac_address, windows_cpu_name, windows_mac_address,
};
use protocol::device::key::LicenseKey;
use protocol::device::payload::{LicenseData, Relationship};
use protocol::device::refusals::Refusal;
use protocol::device::schedule::{
    CheckMode, background_wait_ms, effective_interval_seconds, is_due, next_check_ms,
};
use protocol::device::stored::StoredLicense;
use protocol::device::time::LicenseTime;
use protocol::device::trial::{PastTrial, TrialCheckRequest, TrialCheckResponse, TrialRequest};
use protocol::device::wire::{
    ActivationResponse, AnswerError, DeviceRequest, FailureBody, RequestFault,
};
use protocol::keys::pss::PssSalt;
use protocol::keys::{BadSignature, PrivateKey, PublicKey, RsaSize};
use protocol::secret::Secret;
use serde_json::{Value, json};

use super::{FINGERPRINT, KEY, NONCE, SESSION_KEY, license, sealed, signer};
use crate::keys::ed25519_key;

const NORMAL_KEY: &str = "NWEOAP55754WIZKHBODWFHAZPKTI2Q3JSANJXQ5P";

fn at(text: &str) -> i64 {
    text.parse::<LicenseTime>().unwrap_or_else(|error| panic!("{text}: {error}")).unix_ms()
}

#[test]
fn a_key_is_read_as_people_type_it() {
    let groups_of_four: String =
        NORMAL_KEY.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four) + "-").collect();
    for typed in [
        KEY,
        NORMAL_KEY,
        &NORMAL_KEY.to_lowercase(),
        &KEY.replace('-', " "),
        &KEY.replace('-', " - "),
        &groups_of_four,
        &format!("\t{KEY}\r\n"),
    ] {
        let key = LicenseKey::normalise(typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
        assert_eq!(key.expose(), NORMAL_KEY, "{typed}");
        assert_eq!(key.hyphenated().expose(), KEY);
        assert_eq!(key.last_characters(), "XQ5P");
    }
    let published = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ12-3456";
    for wrong in [
        "",
        published,
        &NORMAL_KEY[1..],
        &format!("{NORMAL_KEY}A"),
        &NORMAL_KEY.replace('N', "0"),
        &NORMAL_KEY.replace('N', "1"),
        &NORMAL_KEY.replace('N', "8"),
        &NORMAL_KEY.replace('N', "="),
        &NORMAL_KEY.replace('N', "_"),
        &NORMAL_KEY.replace('N', "Ñ"),
        &NORMAL_KEY.replace('N', "ﬀ"),
        &format!("{KEY}\0"),
    ] {
        assert!(LicenseKey::normalise(wrong).is_err(), "{wrong}");
    }
}

/// Made with Python's hmac, hashlib and base64 from the layout in the module's header.
#[test]
fn a_generated_key_does_not_change() {
    let entropy: [u8; 21] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let key = LicenseKey::generate(&entropy, "client-1", " Owner@Example.COM ");
    assert_eq!(key.hyphenated().expose(), GENERATED);
    assert!(key.equals(&LicenseKey::normalise(GENERATED).unwrap()));
    let other = LicenseKey::generate(&entropy, "client-2", "owner@example.com");
    assert!(!key.equals(&other));
    assert_eq!(key.expose()[..33], other.expose()[..33], "21 bytes are the random part");
}

const GENERATED: &str = "AAAQE-AYEAU-DAOCA-JBIFQ-YDIOB-4IBCE-QTCSS-5ATYJ";

#[test]
fn a_fingerprint_has_a_sentinel_for_what_is_missing_but_the_host() {
    let full = Inputs {
        hostname: Some("mybox"),
        os: go_os("macos"),
        arch: go_arch("aarch64"),
        mac_address: None,
        cpu_name: None,
    };
    assert_eq!(full.line(), "HOST:mybox|OS:darwin|ARCH:arm64|MAC:NO_MAC_ADDR|CPU:NO_CPU_INFO");
    let nameless = Inputs { hostname: None, mac_address: Some("aa:bb"), ..full };
    assert_eq!(nameless.line(), "OS:darwin|ARCH:arm64|MAC:aa:bb|CPU:NO_CPU_INFO");
    let hash = fingerprint(&full);
    assert!(is_fingerprint(&hash) && hash.len() == 64 && hash != fingerprint(&nameless));
    for (rust, go) in [("x86_64", "amd64"), ("aarch64", "arm64"), ("x86", "386"), ("arm", "arm")] {
        assert_eq!(go_arch(rust), go);
    }
    assert_eq!((go_os("linux"), go_os("windows")), ("linux", "windows"));
}

#[test]
fn a_server_takes_16_to_128_characters_as_a_fingerprint() {
    let long = "a".repeat(128);
    for good in [FINGERPRINT, "0123456789abcdef", "A-b_0123456789ab", long.as_str()] {
        assert!(is_fingerprint(good), "{good}");
    }
    let longer = "a".repeat(129);
    for bad in
        ["", "0123456789abcde", &longer, "0123456789abcde ", "0123456789abcdé", "a/b/c/d/e/f/g/h/"]
    {
        assert!(!is_fingerprint(bad), "{bad}");
    }
}

#[test]
fn what_machines_say_is_read() {
    let cpuinfo = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC: 7 \nmodel name\t: B\n";
    for (found, expected) in [
        (linux_cpu_name(cpuinfo), Some("AMD EPYC")),
        (linux_cpu_name("model name\t:  \n"), None),
        (linux_cpu_name("model name\n"), None),
        (linux_cpu_name("Processor\t: ARMv7\n"), None),
        (linux_mac_address("02:fc:00:00:00:01\n"), Some("02:fc:00:00:00:01")),
        (linux_mac_address("\n"), None),
        (
            macos_mac_address("en0: flags=8863\n\tether a4:83:e7:00:00:01 \n"),
            Some("a4:83:e7:00:00:01"),
        ),
        (macos_mac_address("en0: flags=8863\n\tinet 10.0.0.1\n"), None),
        (macos_cpu_name("Apple M1 Pro\n"), Some("Apple M1 Pro")),
        (
            windows_mac_address("\r\n\"00-15-5D-01-02-03\",\"\\Device\\Tcpip\"\r\n"),
            Some("00-15-5D-01-02-03"),
        ),
        (windows_mac_address(""), None),
        (windows_cpu_name("Name\r\r\nIntel(R) Core(TM)  \r\r\n"), Some("Intel(R) Core(TM)")),
        (windows_cpu_name("Name\r\n"), None),
    ] {
        assert_eq!(found, expected);
    }
}

fn request() -> Value {
    json!({"email": "owner@example.com", "client_id": "client-1", "license_key": KEY,
        "device_fingerprint": FINGERPRINT})
}

#[test]
fn requests_are_read_leniently() {
    let mut body = request();
    body["later"] = json!([1.5]);
    body["email"] = json!("  Owner@Example.com ");
    body["client_id"] = json!(" client-1 ");
    body["product_id"] = json!(" export-studio ");
    let call = DeviceRequest::read(body.to_string().as_bytes()).unwrap();
    assert_eq!((call.email.as_str(), call.client_id.as_str()), ("Owner@Example.com", "client-1"));
    assert_eq!(call.product.as_deref(), Some("export-studio"));
    assert_eq!(call.identity(), "owner@example.com");
    for empty in [json!(null), json!(""), json!("  ")] {
        body["product_id"] = empty;
        assert_eq!(DeviceRequest::read(body.to_string().as_bytes()).unwrap().product, None);
    }
}

/// Fields go wrong from the first on: each message comes before those of the fields after it.
#[test]
fn faults_come_in_the_reference_order() {
    let wrong = json!({"email": "owner", "client_id": " ", "license_key": "A",
        "device_fingerprint": "short", "product_id": "a\nb"});
    let good = request();
    let order = [
        ("email", "invalid email address"),
        ("client_id", "client_id is required"),
        ("license_key", "invalid license key format"),
        ("device_fingerprint", "invalid device fingerprint format"),
        ("product_id", "invalid product_id format"),
    ];
    let mut body = wrong;
    for (field, message) in order {
        let fault = DeviceRequest::read(body.to_string().as_bytes()).err().unwrap();
        assert_eq!(fault.to_string(), message);
        assert_eq!(fault.body(), FailureBody::error_only(message));
        body[field] = good[field].clone();
    }
    assert!(DeviceRequest::read(body.to_string().as_bytes()).is_ok());
    for field in ["email", "client_id", "license_key", "device_fingerprint"] {
        let message = order.iter().find(|row| row.0 == field).unwrap().1;
        let mut absent = request();
        absent.as_object_mut().unwrap().remove(field);
        let mut null = request();
        null[field] = json!(null);
        for body in [absent, null] {
            let fault = DeviceRequest::read(body.to_string().as_bytes()).err().unwrap();
            assert_eq!(fault.to_string(), message, "{field}");
        }
        let mut number = request();
        number[field] = json!(7);
        let fault = DeviceRequest::read(number.to_string().as_bytes()).err();
        assert_eq!(fault, Some(RequestFault::Body), "{field}");
    }
    for body in ["", "{", "[]", "7", "null", "{} {}", "\u{feff}{}"] {
        assert_eq!(DeviceRequest::read(body.as_bytes()).err(), Some(RequestFault::Body), "{body}");
    }
    let long = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(DeviceRequest::read(&long).err(), Some(RequestFault::Unreadable));
    let mut long = request();
    long["client_id"] = json!("c".repeat(257));
    let fault = DeviceRequest::read(long.to_string().as_bytes()).err();
    assert_eq!(fault, Some(RequestFault::ClientId));
}

#[test]
fn addresses_are_local_at_domain_dot_tld() {
    let read = |email: &str| {
        let mut body = request();
        body["email"] = json!(email);
        DeviceRequest::read(body.to_string().as_bytes()).is_ok()
    };
    for good in ["a@b.co", "a.b_c%d+e-f@x-y.z.example", "A@B.CO", "1@2.io"] {
        assert!(read(good), "{good}");
    }
    let long = format!("{}@example.com", "a".repeat(250));
    for bad in [
        "",
        "@",
        "a@",
        "@b.co",
        "a@b",
        "a@.co",
        "a@b.c",
        "a@b.c1",
        "a b@c.de",
        "a@b@c.de",
        "a@b.co\n.x",
        "ä@b.co",
        "a@bä.co",
        "a@b.co.",
        &long,
    ] {
        assert!(!read(bad), "{bad}");
    }
}

#[test]
fn refusals_have_the_reference_messages_and_our_statuses() {
    let expired_at = LicenseTime::from_unix_ms(at("2026-11-22T23:59:59.999Z"));
    for (refusal, status, message) in [
        (Refusal::UnknownKey, 404, "Invalid license key"),
        (Refusal::NoProduct, 401, "License is not associated with any product"),
        (Refusal::OtherProduct, 401, "License is not valid for this product"),
        (Refusal::ClientBanned, 401, "Client is banned"),
        (Refusal::Revoked, 401, "License has been revoked"),
        (Refusal::Expired { expired_at }, 401, "License expired on 2026-11-22"),
        (Refusal::OtherClient, 401, "client_id does not match license owner"),
        (Refusal::UnknownEmail, 401, "email is not authorized for this license"),
        (Refusal::TooManyDevices { max_devices: 2 }, 409, "Maximum devices (2) reached"),
        (Refusal::UnknownDevice, 401, "Device not previously activated"),
        (Refusal::TrialUsed, 409, "Trial already used on this device"),
        (Refusal::Suspended, 401, "License is suspended"),
        (Refusal::NotYetValid, 401, "License is not valid yet"),
        (Refusal::NoSeat, 409, "No seat is available for this license"),
        (Refusal::NoTrial, 404, "No trial is available for this product"),
    ] {
        assert_eq!((refusal.status(), refusal.message().as_str()), (status, message));
        let body: Value =
            serde_json::from_slice(&FailureBody::refusal(&refusal).to_bytes()).unwrap();
        assert_eq!(body, json!({"error": message, "message": message}));
        let compat = ActivationResponse::failure(&refusal).to_bytes();
        let zero = r#""expires_at":"0001-01-01T00:00:00Z""#;
        let expected = format!("{{\"success\":false,\"message\":\"{message}\",{zero}}}\n");
        assert_eq!(String::from_utf8(compat.clone()).unwrap(), expected);
        let error = ActivationResponse::read(&compat).err();
        assert_eq!(error, Some(AnswerError::Refused { message: message.to_owned() }));
    }
    let fault = FailureBody::error_only("Method not allowed").to_bytes();
    assert_eq!(fault, b"{\"error\":\"Method not allowed\"}\n");
}

#[test]
fn an_answer_without_its_parts_names_the_part() {
    let signer = signer();
    let answer = ActivationResponse::success("ok", &sealed(&signer), LicenseTime::ZERO);
    let good = serde_json::to_value(&answer).unwrap();
    assert!(ActivationResponse::read(good.to_string().as_bytes()).is_ok());
    for (field, value) in [
        ("encrypted_license", json!(null)),
        ("encrypted_license", json!("abc")),
        ("encrypted_license", json!("ABCD")),
        ("encrypted_license", json!("q83v")),
        ("nonce", json!("")),
        ("nonce", json!("dbe3af49a64342b2dbcc50")),
        ("nonce", json!("dbe3af49a64342b2dbcc50c8c8")),
        ("signature", json!(null)),
        ("signature", json!("zz")),
        ("public_key", json!("")),
        ("public_key", json!(ed25519_key(1).public_key().unwrap().to_pem() + "x")),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        match ActivationResponse::read(body.to_string().as_bytes()) {
            Err(AnswerError::Field { field: found, .. }) => assert_eq!(found, field, "{value}"),
            other => panic!("{field} {value}: {other:?}"),
        }
    }
    for (field, value) in [("expires_at", json!("tomorrow")), ("success", json!("true"))] {
        let mut body = good.clone();
        body[field] = value;
        let error = ActivationResponse::read(body.to_string().as_bytes()).err().unwrap();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn a_license_is_believed_only_on_its_device_and_under_the_known_key() {
    let signer = signer();
    let sealed = sealed(&signer);
    let opened = sealed.open(FINGERPRINT, Some(signer.public_key())).unwrap();
    assert!(opened.session_key.equals(&SESSION_KEY));
    assert_eq!(opened.license_json.as_slice(), license().to_json());

    let other = LicenseSigner::new(PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap()).unwrap();
    let error = sealed.open(FINGERPRINT, Some(other.public_key())).err().unwrap();
    assert!(matches!(error, SealedLicenseError::KeyChanged { .. }), "{error}");
    let error = sealed.open(&FINGERPRINT.replace('4', "5"), None).err();
    assert_eq!(error, Some(SealedLicenseError::Sealed));
    let mut forged = sealed.clone();
    forged.public_key = other.public_key().clone();
    assert_eq!(forged.open(FINGERPRINT, None).err(), Some(SealedLicenseError::Signature));
    let mut longer = sealed.clone();
    longer.signature.push(0);
    assert_eq!(longer.verify(PssSalt::Any), Err(BadSignature));

    // The document's prose signs ciphertext and nonce with PKCS#1 v1.5; that is not believed.
    let prose = PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap();
    let message = [sealed.ciphertext.as_slice(), &NONCE].concat();
    let mut prose_form = sealed.clone();
    prose_form.signature = prose.sign(&message).unwrap();
    prose_form.public_key = prose.public_key().unwrap();
    assert_eq!(prose_form.open(FINGERPRINT, None).err(), Some(SealedLicenseError::Signature));
    prose_form.signature = prose.sign(&sealed.ciphertext).unwrap();
    assert_eq!(prose_form.verify(PssSalt::Any), Err(BadSignature));
}

#[test]
fn a_sealed_text_too_short_for_a_session_key_is_refused() {
    let private = PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap();
    let public_key = private.public_key().unwrap();
    // An envelope under the transport key is the same sealing without the session key in front.
    let transport = protocol::device::crypto::transport_key(FINGERPRINT, &NONCE);
    let envelope: Value =
        serde_json::from_slice(&envelope::seal(&transport, NONCE, &[1; 31])).unwrap();
    let ciphertext = super::hex(envelope["ciphertext"].as_str().unwrap());
    let signature = private.sign_pss(&ciphertext).unwrap();
    let sealed =
        protocol::device::crypto::SealedLicense { ciphertext, nonce: NONCE, signature, public_key };
    let error = sealed.open(FINGERPRINT, None).err();
    assert_eq!(error, Some(SealedLicenseError::Short { bytes: 31 }));
}

/// Signatures that OpenSSL made with salts of 0, 20, 32 and the longest length.
#[test]
fn salts_of_every_length_verify_and_only_the_longest_under_the_strict_rule() {
    let key = PublicKey::from_pem(include_str!("../golden/rsa-pss.pub.pem")).unwrap();
    for line in include_str!("../golden/rsa-pss.txt").lines() {
        let (salt, signature) = line.split_once(' ').unwrap();
        let signature = super::hex(signature);
        assert_eq!(key.verify_pss(b"message", &signature, PssSalt::Any), Ok(()), "{salt}");
        let strict = key.verify_pss(b"message", &signature, PssSalt::Longest);
        assert_eq!(strict.is_ok(), salt == "222", "{salt}");
        let other = key.verify_pss(b"massage", &signature, PssSalt::Any);
        assert_eq!(other, Err(BadSignature), "{salt}");
    }
    let ed25519 = ed25519_key(1);
    assert!(ed25519.sign_pss(b"message").is_err());
    let public = ed25519.public_key().unwrap();
    assert!(public.verify_pss(b"message", &[0; 64], PssSalt::Any).is_err());
    assert!(LicenseSigner::new(ed25519).is_err());
}

#[test]
fn larger_keys_sign_with_their_own_longest_salt() {
    let key = PrivateKey::generate_rsa(RsaSize::Bits3072).unwrap();
    let signature = key.sign_pss(b"message").unwrap();
    let public = key.public_key().unwrap();
    assert_eq!(public.verify_pss(b"message", &signature, PssSalt::Longest), Ok(()));
    assert_ne!(key.sign_pss(b"message").unwrap(), signature, "the salt is random");
}

#[test]
fn an_envelope_is_refused_with_its_reason() {
    let key = Secret::new(SESSION_KEY);
    let good = envelope::seal(&key, NONCE, b"{}");
    assert_eq!(envelope::open(&key, &good).unwrap().as_slice(), b"{}");
    let good: Value = serde_json::from_slice(&good).unwrap();
    let upper = good["ciphertext"].as_str().unwrap().to_uppercase();
    let odd = &good["ciphertext"].as_str().unwrap()[1..];
    for (field, value, error, message) in [
        ("version", json!(2), EnvelopeError::Version(2), "Failed to decrypt payload"),
        ("version", json!(0), EnvelopeError::Version(0), "Failed to decrypt payload"),
        ("nonce", json!(""), EnvelopeError::NonceLength { bytes: 0 }, "Failed to decrypt payload"),
        (
            "nonce",
            json!("0303"),
            EnvelopeError::NonceLength { bytes: 2 },
            "Failed to decrypt payload",
        ),
        ("nonce", json!("zz"), EnvelopeError::Hex { field: "nonce" }, "Failed to decrypt payload"),
        (
            "ciphertext",
            json!(odd),
            EnvelopeError::Hex { field: "ciphertext" },
            "Failed to decrypt payload",
        ),
        (
            "ciphertext",
            json!(upper),
            EnvelopeError::Hex { field: "ciphertext" },
            "Failed to decrypt payload",
        ),
        ("ciphertext", json!(""), EnvelopeError::Sealed, "Failed to decrypt payload"),
        ("ciphertext", json!("00"), EnvelopeError::Sealed, "Failed to decrypt payload"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let found = envelope::open(&key, body.to_string().as_bytes()).err().unwrap();
        assert_eq!(found, error, "{field} {value}");
        assert_eq!((found.status(), found.message()), (400, message));
    }
    for body in ["", "{}", "[]", r#"{"version":"1","nonce":"","ciphertext":""}"#, "secret"] {
        let found = envelope::open(&key, body.as_bytes()).err().unwrap();
        assert_eq!((found.status(), found.message()), (400, "Invalid secure envelope"), "{body}");
    }
    let mut more = good;
    more["later"] = json!(1);
    assert!(envelope::open(&key, more.to_string().as_bytes()).is_ok());
}

#[test]
fn an_envelope_needs_headers_that_name_its_sender() {
    let sender = |key, fingerprint| envelope::sender(key, fingerprint).map(|_| ());
    assert_eq!(sender(Some(KEY), Some(FINGERPRINT)), Ok(()));
    for (key, fingerprint, status, message) in [
        (None, Some(FINGERPRINT), 400, "Secure payload missing fingerprint or license key"),
        (Some(KEY), None, 400, "Secure payload missing fingerprint or license key"),
        (Some(" "), Some(FINGERPRINT), 400, "Secure payload missing fingerprint or license key"),
        (Some("ABCD"), Some(FINGERPRINT), 401, "Device not authorized for secure transport"),
        (Some(KEY), Some("short"), 401, "Device not authorized for secure transport"),
    ] {
        let error = sender(key, fingerprint).unwrap_err();
        assert_eq!((error.status(), error.message()), (status, message));
    }
    for (value, secure) in [("1", true), ("true", false), ("0", false), ("", false), ("11", false)]
    {
        assert_eq!(envelope::is_secure(Some(value.as_bytes())), secure, "{value}");
    }
    assert!(!envelope::is_secure(None));
}

#[test]
fn the_next_check_is_on_the_calendar() {
    use CheckMode::{Custom, EachExecution, Monthly, None as Never, Yearly};
    for (mode, interval_seconds, now, next) in [
        (Never, None, "2026-11-22T05:28:15Z", None),
        (EachExecution, None, "2026-11-22T05:28:15Z", Some("2026-11-22T05:28:15Z")),
        (Monthly, None, "2026-11-22T05:28:15Z", Some("2026-12-01T00:00:00Z")),
        (Monthly, None, "2026-12-31T23:59:59.999Z", Some("2027-01-01T00:00:00Z")),
        (Monthly, None, "2026-12-01T00:00:00Z", Some("2027-01-01T00:00:00Z")),
        (Monthly, None, "2028-01-31T12:00:00Z", Some("2028-02-01T00:00:00Z")),
        (Monthly, None, "2028-02-29T12:00:00Z", Some("2028-03-01T00:00:00Z")),
        (Yearly, None, "2026-11-22T05:28:15.371Z", Some("2027-11-22T05:28:15.371Z")),
        (Yearly, None, "2028-02-29T12:00:00Z", Some("2029-03-01T12:00:00Z")),
        (Yearly, None, "2027-02-28T12:00:00Z", Some("2028-02-28T12:00:00Z")),
        (Yearly, None, "2027-12-31T23:00:00Z", Some("2028-12-31T23:00:00Z")),
        (Yearly, None, "9999-12-30T00:00:00Z", None),
        (Custom, Some(3_600), "2026-11-22T05:28:15Z", Some("2026-11-22T06:28:15Z")),
        (Custom, Some(300), "2026-11-22T05:28:15Z", Some("2026-11-22T05:33:15Z")),
        (Custom, Some(299), "2026-11-22T05:28:15Z", Some("2026-11-23T05:28:15Z")),
        (Custom, Some(0), "2026-11-22T05:28:15Z", Some("2026-11-23T05:28:15Z")),
        (Custom, None, "2026-11-22T05:28:15Z", Some("2026-11-23T05:28:15Z")),
        (Custom, Some(u64::MAX), "2026-11-22T05:28:15Z", None),
        (Custom, Some(u64::MAX / 1_000), "2026-11-22T05:28:15Z", None),
    ] {
        let found = next_check_ms(mode, interval_seconds, at(now));
        assert_eq!(found, next.map(at), "{mode:?} {interval_seconds:?} {now}");
    }
    for now_ms in [i64::MIN, i64::MAX] {
        for mode in [Monthly, Yearly, Custom] {
            assert_eq!(next_check_ms(mode, None, now_ms), None, "{mode:?}");
        }
    }
    assert_eq!(effective_interval_seconds(Some(301)), 301);
}

#[test]
fn a_check_is_due_as_its_mode_says() {
    let due = LicenseTime::from_unix_ms(1_000);
    for (mode, next, now_ms, expected) in [
        (CheckMode::None, Some(due), 2_000, false),
        (CheckMode::EachExecution, None, 0, true),
        (CheckMode::Monthly, None, 2_000, false),
        (CheckMode::Monthly, Some(LicenseTime::ZERO), 2_000, false),
        (CheckMode::Monthly, Some(due), 999, false),
        (CheckMode::Yearly, Some(due), 1_000, true),
        (CheckMode::Custom, Some(due), 1_001, true),
    ] {
        assert_eq!(is_due(mode, next, now_ms), expected, "{mode:?} {next:?} {now_ms}");
    }
    for (mode, next, now_ms, expected) in [
        (CheckMode::Monthly, Some(due), 0, None),
        (CheckMode::Custom, Some(due), 400, Some(600)),
        (CheckMode::Custom, Some(due), 5_000, Some(0)),
        (CheckMode::Custom, None, 0, Some(600_000)),
        (CheckMode::Custom, Some(LicenseTime::ZERO), 0, Some(600_000)),
    ] {
        assert_eq!(
            background_wait_ms(mode, next, Some(600), now_ms),
            expected,
            "{mode:?} {next:?}"
        );
    }
    for mode in CheckMode::ALL {
        assert_eq!(CheckMode::from_name(&mode.name().to_uppercase()), Some(mode));
        assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
    }
    for unknown in [json!("weekly"), json!(""), json!(null)] {
        let mode: CheckMode = serde_json::from_value(unknown.clone()).unwrap();
        assert_eq!(mode, CheckMode::EachExecution, "{unknown}");
    }
    assert_eq!(CheckMode::from_name("weekly"), None);
}

#[test]
fn times_are_read_with_any_offset_and_written_in_utc() {
    for (text, written) in [
        ("2026-11-22T05:28:15.371830493Z", "2026-11-22T05:28:15.371830493Z"),
        ("2026-11-22T05:28:15.5Z", "2026-11-22T05:28:15.5Z"),
        ("2026-11-22T05:28:15.000Z", "2026-11-22T05:28:15Z"),
        ("2026-11-22T07:28:15+02:00", "2026-11-22T05:28:15Z"),
        ("2026-11-21T23:58:15-05:30", "2026-11-22T05:28:15Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ] {
        let time: LicenseTime = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(time.to_string(), written);
    }
    for wrong in [
        "",
        "2026-11-22",
        "2026-11-22T05:28:15",
        "2026-11-22 05:28:15Z",
        "2026-11-22t05:28:15z",
        "2026-13-22T05:28:15Z",
        "2026-11-22T05:28:15.Z",
        "2026-11-22T05:28:15.1234567890Z",
        "0000-12-31T00:00:00Z",
        "2026-11-22T05:28:15+0200",
        "+002026-11-22T05:28:15Z",
    ] {
        assert!(wrong.parse::<LicenseTime>().is_err(), "{wrong}");
    }
    assert!(LicenseTime::ZERO.is_zero() && LicenseTime::from_unix_ms(i64::MIN).is_zero());
    assert_eq!(LicenseTime::from_unix_ms(i64::MAX).day(), "9999-12-30");
}

#[test]
fn a_payload_may_leave_out_what_has_a_neutral_value() {
    let bare = json!({"id": "l", "license_key": KEY});
    let read = |value: &Value| LicenseData::from_json(value.to_string().as_bytes());
    let license = read(&bare).unwrap();
    assert_eq!(license.check_mode, CheckMode::EachExecution);
    assert!(license.expires_at.is_zero() && license.revoked_at.is_zero());
    assert!(!license.allows_feature("export"), "no entitlements allow nothing");
    let written: Value = serde_json::from_slice(&license.to_json()).unwrap();
    for always in [
        "id",
        "client_id",
        "subject_client_id",
        "email",
        "plan_slug",
        "relationship",
        "license_key",
        "issued_at",
        "expires_at",
        "last_activated_at",
        "current_activations",
        "max_devices",
        "device_count",
        "devices",
        "is_revoked",
        "revoked_at",
        "revoke_reason",
        "check_mode",
        "is_trial",
    ] {
        assert!(written.get(always).is_some_and(|value| !value.is_null()), "{always}");
    }
    assert_eq!(written.as_object().unwrap().len(), 19, "the rest only when it is set");
    assert_eq!(written["revoked_at"], "0001-01-01T00:00:00Z");

    for (field, value) in [
        ("revoked_at", json!("")),
        ("revoked_at", json!(null)),
        ("next_check_at", json!("")),
        ("next_check_at", json!("0001-01-01T00:00:00Z")),
        ("devices", json!(null)),
        ("is_revoked", json!(null)),
        ("relationship", json!(null)),
        ("relationship", json!("")),
        ("check_interval_seconds", json!(0)),
        ("entitlements", json!(null)),
        ("check_mode", json!(null)),
    ] {
        let mut body = bare.clone();
        body[field] = value.clone();
        let license = read(&body).unwrap_or_else(|error| panic!("{field} {value}: {error}"));
        let again: Value = serde_json::from_slice(&license.to_json()).unwrap();
        assert_eq!(again, written, "{field} {value}");
    }
    for (word, relationship) in [
        ("provider", Relationship::Delegated),
        ("delegated", Relationship::Delegated),
        ("direct", Relationship::Direct),
        ("team", Relationship::Other("team".to_owned())),
    ] {
        let mut body = bare.clone();
        body["relationship"] = json!(word);
        assert_eq!(read(&body).unwrap().relationship, relationship);
    }
    for (field, value) in [
        ("id", json!(null)),
        ("license_key", json!(null)),
        ("expires_at", json!("soon")),
        ("max_devices", json!(-1)),
        ("is_revoked", json!("false")),
        ("devices", json!({})),
    ] {
        let mut body = bare.clone();
        body[field] = value.clone();
        let error = read(&body).err().unwrap_or_else(|| panic!("{field} {value}"));
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn gates_open_only_for_what_is_present_and_allowed() {
    let mut body = json!({"id": "l", "license_key": KEY});
    body["entitlements"] = json!({"features": {
        "export": {"enabled": true, "scopes": {
            "read": {"permission": "allow", "limit": 5},
            "write": {"permission": "limit", "limit": 3},
            "share": {"permission": "limit"},
            "drop": {"permission": "deny"},
            "later": {"permission": "lend"}}},
        "import": {"enabled": false, "scopes": {"read": {"permission": "allow"}}}}});
    let license = LicenseData::from_json(body.to_string().as_bytes()).unwrap();
    for (feature, allowed) in [("export", true), ("import", false), ("print", false)] {
        assert_eq!(license.allows_feature(feature), allowed, "{feature}");
    }
    for (feature, scope, allowed, limit) in [
        ("export", "read", true, None),
        ("export", "write", true, Some(3)),
        ("export", "share", true, None),
        ("export", "drop", false, None),
        ("export", "later", false, None),
        ("export", "none", false, None),
        ("import", "read", false, None),
        ("print", "read", false, None),
    ] {
        assert_eq!(license.allows_scope(feature, scope), allowed, "{feature} {scope}");
        assert_eq!(license.scope_limit(feature, scope), limit, "{feature} {scope}");
    }
}

#[test]
fn a_stored_file_names_the_field_that_is_wrong() {
    let signer = signer();
    let stored = StoredLicense {
        sealed: sealed(&signer),
        device_fingerprint: FINGERPRINT.to_owned(),
        expires_at: license().expires_at,
    };
    let bytes = stored.to_bytes();
    assert_eq!(StoredLicense::parse(&bytes).unwrap(), stored);
    let opened = stored.open(FINGERPRINT, Some(signer.public_key())).unwrap();
    assert!(opened.session_key.equals(&SESSION_KEY));
    let good: Value = serde_json::from_slice(&bytes).unwrap();
    let ed25519 = ed25519_key(1).public_key().unwrap();
    for (field, value) in [
        ("encrypted_data", json!("abc")),
        ("encrypted_data", json!("_-8=")),
        ("nonce", json!("AAAA")),
        ("nonce", json!("QQ==x")),
        ("signature", json!("AB==")),
        ("signature", json!(null)),
        ("public_key", json!("AAAA")),
        ("public_key", json!(ed25519.to_pem())),
        ("device_fingerprint", json!("short")),
        ("expires_at", json!("")),
        ("expires_at", json!(7)),
    ] {
        let mut file = good.clone();
        file[field] = value.clone();
        let error = StoredLicense::parse(file.to_string().as_bytes()).unwrap_err();
        let text = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(text.contains(field), "{field} {value}: {text}");
    }
    for field in good.as_object().unwrap().keys() {
        let mut file = good.clone();
        file.as_object_mut().unwrap().remove(field);
        let error = StoredLicense::parse(file.to_string().as_bytes()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(field.as_str()), "{field}: {source}");
    }
    let long = vec![b' '; 2 * 1024 * 1024 + 1];
    assert!(StoredLicense::parse(&long).is_err());
}

#[test]
fn a_checksum_vouches_for_one_file_on_one_device() {
    let now = LicenseTime::from_unix_ms(1_700_000_000_000);
    let chk = checksum::seal(b"file", FINGERPRINT, NONCE, now);
    assert_eq!(checksum::verify(Some(&chk), b"file", FINGERPRINT).unwrap(), now);
    assert_eq!(checksum::verify(Some(&chk), b"file", &format!(" {FINGERPRINT}\n")).unwrap(), now);
    let good: Value = serde_json::from_slice(&chk).unwrap();
    for (field, value, reason) in [
        ("version", json!(2), "version 2"),
        ("nonce", json!("03"), "nonce: want 12 bytes"),
        ("nonce", json!("030303030303030303030304"), "does not open"),
        ("payload", json!("00".repeat(48)), "does not open"),
        ("payload", json!("00".repeat(47)), "payload: want 48 bytes"),
        ("payload", json!(good["payload"].as_str().unwrap().to_uppercase()), "payload: want 48"),
        ("created_at", json!("now"), "not a checksum file"),
        ("later", json!(1), "not a checksum file"),
    ] {
        let mut file = good.clone();
        file[field] = value.clone();
        let error =
            checksum::verify(Some(file.to_string().as_bytes()), b"file", FINGERPRINT).unwrap_err();
        assert!(error.to_string().contains(reason), "{field} {value}: {error}");
    }
    for (file, text, reason) in [
        (None, &b"file"[..], "there is no checksum file"),
        (Some(&chk[..]), b"fire", "not the one that was written"),
        (Some(&[b' '; 5_000][..]), b"file", "5000 bytes"),
        (Some(b""), b"file", "not a checksum file"),
    ] {
        let error = checksum::verify(file, text, FINGERPRINT).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn trials_are_asked_for_in_both_forms() {
    let base = json!({"email": "owner@example.com", "device_fingerprint": FINGERPRINT});
    let read = |fields: Value| {
        let mut body = base.clone();
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        TrialRequest::read(body.to_string().as_bytes())
    };
    let server = read(json!({"product_id": "p", "trial_duration_days": 30,
        "subscription_url": "https://example.com/buy"}))
    .unwrap();
    assert_eq!((server.days, server.product.as_deref()), (Some(30), Some("p")));
    assert_eq!(server.subscription_url.as_deref(), Some("https://example.com/buy"));
    let client = read(json!({"plan_id": "gold", "trial_days": 7})).unwrap();
    assert_eq!((client.days, client.plan.as_deref()), (Some(7), Some("gold")));
    assert_eq!(read(json!({"trial_days": 0})).unwrap().days, None);
    assert_eq!(read(json!({"trial_days": 366})).unwrap().days, Some(366));
    for (fields, fault) in [
        (json!({"email": ""}), RequestFault::Email),
        (json!({"device_fingerprint": "x"}), RequestFault::Fingerprint),
        (json!({"trial_days": -1}), RequestFault::TrialDays),
        (json!({"trial_duration_days": 367}), RequestFault::TrialDays),
        (json!({"trial_days": 1.5}), RequestFault::Body),
        (json!({"license_key": KEY}), RequestFault::Body),
        (json!({"subscription_url": "javascript:alert(1)"}), RequestFault::SubscriptionUrl),
        (json!({"subscription_url": "https://a b"}), RequestFault::SubscriptionUrl),
    ] {
        assert_eq!(read(fields.clone()).err(), Some(fault), "{fields}");
    }
    let check = |body: Value| TrialCheckRequest::read(body.to_string().as_bytes());
    let both = check(json!({"device_fingerprint": FINGERPRINT, "product_id": "p"})).unwrap();
    assert_eq!((both.fingerprint.as_str(), both.product.as_deref()), (FINGERPRINT, Some("p")));
    assert_eq!(check(json!({})).err(), Some(RequestFault::Fingerprint));
    let unknown = check(json!({"device_fingerprint": FINGERPRINT, "x": 1}));
    assert_eq!(unknown.err(), Some(RequestFault::Body));
}

#[test]
fn trial_answers_hold_both_forms() {
    let past = PastTrial {
        started_at: LicenseTime::from_unix_ms(0),
        expires_at: LicenseTime::from_unix_ms(1_000),
    };
    for (past, offered, now_ms, eligible, used, expired) in [
        (None, true, 0, true, false, None),
        (None, false, 0, false, false, None),
        (Some(past), true, 999, false, true, Some(false)),
        (Some(past), true, 1_000, false, true, Some(true)),
    ] {
        let answer = TrialCheckResponse::new(FINGERPRINT, past, offered, now_ms);
        let body = serde_json::to_value(&answer).unwrap();
        assert_eq!(
            (&body["eligible_for_trial"], &body["eligible"]),
            (&json!(eligible), &json!(eligible))
        );
        assert_eq!((&body["trial_used"], &body["has_used_trial"]), (&json!(used), &json!(used)));
        assert_eq!(body.get("trial_expired"), expired.map(Value::Bool).as_ref());
        assert_eq!(body.get("trial_expires_at").is_some(), past.is_some());
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert_eq!(serde_json::from_value::<TrialCheckResponse>(body).unwrap(), answer);
    }
}
