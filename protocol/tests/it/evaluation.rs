//! The `evaluation` protocol: Python's JSON, license files of the real client, the wire, and when a
//! program may run.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use protocol::cloud::body;
use protocol::evaluation::client::{
    Basis, Memory, Mode, OFFLINE_GRACE_MS, RETRY_INTERVAL_MS, Reply, Step, VALIDATION_INTERVAL_MS,
    Warning, activation_rejection,
};
use protocol::evaluation::clock_skew::{ClockSkew, SkewChange};
use protocol::evaluation::config::{self, Config};
use protocol::evaluation::event::{Level, LicenseEvent, Subject};
use protocol::evaluation::identity::{ActivationId, HostHash};
use protocol::evaluation::key_ring::{
    KeyRing, KeyRingError, KeyVersion, PUBLISHED_SECRET_V1, PUBLISHED_SECRET_V2,
};
use protocol::evaluation::license_file::{
    License, LicenseFile, LicenseFileError, MAX_FILE_BYTES, SignatureError,
};
use protocol::evaluation::message::Rejection;
use protocol::evaluation::python_json::{write_float, write_string};
use protocol::evaluation::refusal::RefusalReason;
use protocol::evaluation::wire::{
    ActivateRequest, ActivationDetails, Answer, EpochSeconds, ValidateRequest, base_url,
};
use protocol::secret::{Disclosed, Secret};
use serde_json::{Value, json};

const NOW_MS: i64 = 1_795_400_000_000;

/// A recorded file, or nothing where the data is not here, said so that it is heard although the
/// test passes.
fn recorded(name: &str) -> Option<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/evaluation");
    if !root.is_dir() {
        // Not `eprintln!`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: no recorded data at {}", root.display());
        return None;
    }
    let path = root.join(name);
    let text = std::fs::read_to_string(&path);
    Some(text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn ring(current: u32, minimum: u32) -> KeyRing {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let keys = BTreeMap::from([
        (KeyVersion(1), secret(PUBLISHED_SECRET_V1)),
        (KeyVersion(2), secret(PUBLISHED_SECRET_V2)),
        (KeyVersion(10), secret("ten")),
    ]);
    KeyRing::new(keys, KeyVersion(current), KeyVersion(minimum)).unwrap()
}

fn license() -> License {
    License {
        kind: "evaluation".to_owned(),
        version: "2.0.0".to_owned(),
        activated_at: 1_795_325_574.200304,
        expires_at: 1_797_917_574.2003043,
        activation_id: "act-abc123".to_owned(),
        org_id: Some("org-12345".to_owned()),
        project_id: Some("project-atlas-v2".to_owned()),
        plan: "evaluation".to_owned(),
        hostname: Some("example-host".to_owned()),
        revoked: false,
        offline: false,
    }
}

/// Every expectation was printed by Python 3's `json.dumps`.
#[test]
fn numbers_and_texts_are_written_as_python_writes_them() {
    for (value, python) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (1_234_567_890.0, "1234567890.0"),
        (1_795_325_574.200304, "1795325574.200304"),
        (1_797_917_574.2003043, "1797917574.2003043"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.000012345, "1.2345e-05"),
        (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
        (9_999_999_999_999_998.0, "9999999999999998.0"),
        (1e16, "1e+16"),
        (1e22, "1e+22"),
        (1e100, "1e+100"),
        (-1.5e-7, "-1.5e-07"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
    ] {
        let mut out = String::new();
        write_float(&mut out, value);
        assert_eq!(out, python);
    }
    for (text, python) in [
        ("", r#""""#),
        ("plain ~", r#""plain ~""#),
        ("\"\\/", r#""\"\\/""#),
        ("\u{8}\u{c}\n\r\t", r#""\b\f\n\r\t""#),
        ("\u{0}\u{1f}\u{7f}", r#""\u0000\u001f\u007f""#),
        ("Zürich", r#""Z\u00fcrich""#),
        ("株式会社", r#""\u682a\u5f0f\u4f1a\u793e""#),
        ("😀", r#""\ud83d\ude00""#),
        ("\u{2028}", r#""\u2028""#),
    ] {
        let mut out = String::new();
        write_string(&mut out, text);
        assert_eq!(out, python);
    }
}

proptest! {
    #[test]
    fn a_float_reads_back_alike(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let mut text = String::new();
        write_float(&mut text, value);
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
    }

    #[test]
    fn a_license_file_reads_back_and_verifies(
        org in prop::option::of(any::<String>()),
        plan: String,
        seconds in 0.0..1e10_f64,
        offline: bool,
    ) {
        let license = License {
            org_id: org, plan, offline, expires_at: seconds, ..license()
        };
        let file = LicenseFile::issue(&license, &ring(2, 1));
        let read = LicenseFile::parse(file.to_text().as_bytes()).unwrap();
        prop_assert_eq!(&read, &file);
        prop_assert_eq!(read.verify(&ring(2, 1)).unwrap(), license);
        // Embedded in an answer it is the same file.
        let embedded = serde_json::to_string(&file).unwrap();
        prop_assert_eq!(serde_json::from_str::<LicenseFile>(&embedded).unwrap(), file);
    }

    #[test]
    fn any_changed_byte_of_a_license_file_is_refused(at in any::<prop::sample::Index>(), byte: u8) {
        let file = LicenseFile::issue(&license(), &ring(1, 1));
        let mut bytes = file.to_text().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        if let Ok(changed) = LicenseFile::parse(&bytes) {
            // White space may change; nothing that is signed may.
            if changed.verify(&ring(1, 1)).is_ok() {
                prop_assert_eq!(changed, file);
            }
        }
    }
}

#[test]
fn the_files_of_the_real_client_verify_byte_for_byte() {
    let Some(text) = recorded("license.json") else { return };
    let file = LicenseFile::parse(text.as_bytes()).unwrap();
    assert_eq!(file.canonical(), recorded("license.canonical.txt").unwrap());
    assert_eq!(file.to_text(), text);
    assert_eq!(file.verify(&ring(1, 1)).unwrap(), license());
    assert_eq!(LicenseFile::issue(&license(), &ring(1, 1)).to_text(), text);

    let v2 = recorded("license_key_v2.json").unwrap();
    let v2 = LicenseFile::parse(v2.as_bytes()).unwrap();
    assert_eq!(v2.verify(&ring(1, 1)).unwrap(), license());
    assert_eq!(LicenseFile::issue(&license(), &ring(2, 1)), v2);

    let text = recorded("license_offline.json").unwrap();
    let offline = LicenseFile::parse(text.as_bytes()).unwrap();
    let read = offline.verify(&ring(1, 1)).unwrap();
    assert!(read.offline && read.activation_id == "offline-dev");
    assert_eq!(LicenseFile::issue(&read, &ring(1, 1)).to_text(), text);

    // The real client leaves the old signature when it marks the file: still revoked, and said so.
    let revoked = recorded("license_after_server_revocation.json").unwrap();
    let mut revoked = LicenseFile::parse(revoked.as_bytes()).unwrap();
    assert!(revoked.verify(&ring(1, 1)).unwrap().revoked);
    let mut marked = file.clone();
    marked.revoke(&ring(1, 1));
    revoked.revoke(&ring(1, 1));
    assert_eq!(marked, revoked);
    assert!(marked.verify(&ring(1, 1)).unwrap().revoked);
    let cleared = marked.to_text().replace("\"revoked\": true", "\"revoked\": false");
    let cleared = LicenseFile::parse(cleared.as_bytes()).unwrap();
    assert_eq!(cleared.verify(&ring(1, 1)), Err(SignatureError::BadSignature));
}

#[test]
fn an_activation_leaves_a_file_that_verifies() {
    let asked: ActivateRequest = body::decode(
        json!({
            "version": "2.0.0", "type": "evaluation", "hostname_hash": "8f1f0466fc41bb15",
            "org_id": "org-12345", "project_id": "project-atlas-v2",
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap();
    let bare = answer(json!({"ok": true, "activation_id": "act-1", "org_id": "srv-org"}));
    let make = |answer: &Answer| {
        LicenseFile::from_answer(answer, &asked, "example-host", &ring(1, 1), NOW_MS)
    };
    let own = make(&bare).unwrap().verify(&ring(1, 1)).unwrap();
    // What the server tells goes before what was asked for; 30 days when it does not tell the end.
    assert_eq!(own.org_id.as_deref(), Some("srv-org"));
    assert_eq!(own.project_id.as_deref(), Some("project-atlas-v2"));
    assert_eq!(own.expires_at - own.activated_at, 2_592_000.0);
    assert_eq!((own.hostname.as_deref(), own.plan.as_str()), (Some("example-host"), "evaluation"));
    let with_license = |ring: &KeyRing| {
        let license = License { expires_at: 1_800_000_000.5, hostname: None, ..license() };
        let file = serde_json::to_value(LicenseFile::issue(&license, ring)).unwrap();
        answer(json!({
            "ok": true, "activation_id": "act-abc123", "expires_at": 1_800_000_000.5,
            "license": file,
        }))
    };
    let known = with_license(&ring(2, 1));
    assert_eq!(make(&known), known.license, "the server's file is kept as it is");
    let secret = BTreeMap::from([(KeyVersion(1), Secret::new(b"the server's own".to_vec()))]);
    let foreign = with_license(&KeyRing::new(secret, KeyVersion(1), KeyVersion(1)).unwrap());
    let signed_here = make(&foreign).unwrap().verify(&ring(1, 1)).unwrap();
    assert_eq!(signed_here.expires_at, 1_800_000_000.5, "the server's end is obeyed");
    assert_eq!(make(&answer(json!({"ok": false, "activation_id": "act-1"}))), None);
    assert_eq!(make(&answer(json!({"ok": true}))), None);

    let development = License::for_development("2.0.0", "example-host", NOW_MS);
    assert_eq!(development.expires_at - development.activated_at, 2_592_000.0);
    if let Some(text) = recorded("license_offline.json") {
        let real = LicenseFile::parse(text.as_bytes()).unwrap().verify(&ring(1, 1)).unwrap();
        let (activated_at, expires_at) = (real.activated_at, real.expires_at);
        assert_eq!(License { activated_at, expires_at, ..development }, real);
    }
}

#[test]
fn key_versions_are_compared_as_numbers() {
    let file = |version: &str| {
        let text = LicenseFile::issue(&license(), &ring(10, 1)).to_text();
        LicenseFile::parse(text.replace("\"v10\"", version).as_bytes()).unwrap()
    };
    let unsupported = |text: &str| Err(SignatureError::UnsupportedKeyVersion(text.to_owned()));
    assert_eq!(file("\"v10\"").verify(&ring(10, 2)), Ok(license()), "v10 is newer than v2");
    for (version, minimum, wants) in [
        ("\"v9\"", 1, unsupported("v9")),
        ("\"v2\"", 10, unsupported("v2")),
        ("\"v1\"", 2, unsupported("v1")),
        ("\"v01\"", 1, unsupported("v01")),
        ("\"v+1\"", 1, unsupported("v+1")),
        ("\"v\"", 1, unsupported("v")),
        ("\"1\"", 1, unsupported("1")),
        ("\"v99999999999\"", 1, unsupported("v99999999999")),
        ("1", 1, unsupported("1")),
        ("\"v2\"", 1, Err(SignatureError::BadSignature)),
        ("null", 1, Err(SignatureError::BadSignature)),
    ] {
        assert_eq!(file(version).verify(&ring(10, minimum)), wants, "{version}");
    }
    assert_eq!(
        SignatureError::UnsupportedKeyVersion("v9".to_owned()).to_string(),
        "Unsupported key version: v9"
    );
    // Without a key version a file is of v1.
    let bare = LicenseFile::parse(br#"{"type":"evaluation","signature":"00"}"#).unwrap();
    assert_eq!(bare.key_version(), Ok(KeyVersion(1)));
    assert_eq!(bare.verify(&ring(1, 1)), Err(SignatureError::BadSignature));

    let new = |keys: &[u32], current, minimum| {
        let secret = || Secret::new(b"k".to_vec());
        let keys = keys.iter().map(|version| (KeyVersion(*version), secret())).collect();
        KeyRing::new(keys, KeyVersion(current), KeyVersion(minimum)).err()
    };
    assert_eq!(new(&[1, 2], 2, 1), None);
    assert_eq!(new(&[1], 2, 1), Some(KeyRingError::NoCurrentKey(KeyVersion(2))));
    assert_eq!(
        new(&[2, 10], 2, 10),
        Some(KeyRingError::CurrentBelowMinimum { current: KeyVersion(2), minimum: KeyVersion(10) })
    );
    let empty = BTreeMap::from([(KeyVersion(1), Secret::new(Vec::new()))]);
    let empty = KeyRing::new(empty, KeyVersion(1), KeyVersion(1)).err();
    assert_eq!(empty, Some(KeyRingError::EmptyKey(KeyVersion(1))));
}

#[test]
fn what_is_no_license_file_is_refused() {
    let many: Vec<_> = (0..65).map(|at| format!("\"f{at}\":1")).collect();
    for text in [
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
        "{\"a\":1,\"a\":2}".to_owned(),
        "{\"a\":1,\"\\u0061\":2}".to_owned(),
        "{\"a\":[]}".to_owned(),
        "{\"a\":{}}".to_owned(),
        "{\"a\":1e999}".to_owned(),
        "{\"a\":NaN}".to_owned(),
        "{\"a\":9223372036854775808}".to_owned(),
        "{\"a\":1} x".to_owned(),
        "{\"a\":\"\\ud800\"}".to_owned(),
        format!("{{{}}}", many.join(",")),
    ] {
        let refused = LicenseFile::parse(text.as_bytes());
        assert!(matches!(refused, Err(LicenseFileError::Malformed(_))), "{text}: {refused:?}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_FILE_BYTES));
    assert_eq!(LicenseFile::parse(long.as_bytes()), Err(LicenseFileError::TooLong));
    // Integers keep their form, and floats theirs: both are signed.
    let file = LicenseFile::parse(br#"{"b":1,"a":1.0,"c":1E2,"d":-0}"#).unwrap();
    assert_eq!(file.canonical(), r#"{"a":1.0,"b":1,"c":100.0,"d":0}"#);
}

#[test]
fn the_requests_of_the_real_client_are_read() {
    let Some(text) = recorded("exchanges.json") else { return };
    let exchanges: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut seen = (0, 0);
    for exchange in exchanges {
        let body = exchange["request"]["body"].as_str().unwrap().as_bytes();
        let sent: Value = serde_json::from_slice(body).unwrap();
        if exchange["request"]["path"] == "/v1/activate" {
            let request: ActivateRequest = body::decode(body).unwrap();
            assert_eq!(serde_json::to_value(&request.org_id).unwrap(), sent["org_id"]);
            assert_eq!(serde_json::to_value(&request.project_id).unwrap(), sent["project_id"]);
            assert!(request.activation_code.is_none());
            assert_eq!(request.version.as_deref(), Some("2.0.0"));
            assert_eq!(request.hostname_hash.as_str(), "8f1f0466fc41bb15");
            seen.0 += 1;
        } else {
            let request: ValidateRequest = body::decode(body).unwrap();
            assert_eq!(request.activation_id, "act-abc123");
            let sent_seconds = sent["timestamp"].as_f64().unwrap();
            assert!((request.timestamp.unwrap().seconds() - sent_seconds).abs() < 0.001);
            seen.1 += 1;
        }
        let answer = exchange["response"]["body"].as_str().unwrap();
        if exchange["response"]["status"] == 200 {
            assert!(serde_json::from_str::<Answer>(answer).is_ok(), "{answer}");
        }
    }
    assert_eq!(seen, (3, 4));
}

#[test]
fn requests_are_bounded() {
    let hash = "8f1f0466fc41bb15";
    for (body, field) in [
        (json!({"hostname_hash": hash}), None),
        (json!({"hostname_hash": hash.repeat(4), "timestamp": 1_795_325_574, "new": []}), None),
        (json!({"hostname_hash": hash, "activation_code": "EVAL-1", "type": "evaluation"}), None),
        (json!({}), Some("hostname_hash")),
        (json!({"hostname_hash": &hash[1..]}), Some("hostname_hash")),
        (json!({"hostname_hash": format!("{}0", hash.repeat(4))}), Some("hostname_hash")),
        (json!({"hostname_hash": "example-host-name"}), Some("hostname_hash")),
        (json!({"hostname_hash": hash, "timestamp": "now"}), Some("timestamp")),
        (json!({"hostname_hash": hash, "timestamp": 1e300}), Some("timestamp")),
        (json!({"hostname_hash": hash, "org_id": 5}), Some("org_id")),
        (json!({"hostname_hash": hash, "org_id": "o".repeat(257)}), Some("org_id")),
        (json!({"hostname_hash": hash, "project_id": "a\nb"}), Some("project_id")),
    ] {
        let read = body::decode::<ActivateRequest>(body.to_string().as_bytes());
        let found = read.as_ref().err().map(|error| error.field().unwrap_or("?"));
        assert_eq!(found, field, "{body}");
    }
    let upper = json!({"hostname_hash": "8F1F0466FC41BB15", "activation_id": "anything"});
    let upper: ValidateRequest = body::decode(upper.to_string().as_bytes()).unwrap();
    assert_eq!(upper.hostname_hash.as_str(), hash);
    let missing = json!({"hostname_hash": hash});
    assert!(body::decode::<ValidateRequest>(missing.to_string().as_bytes()).is_err());
}

#[test]
fn hosts_are_recognised_by_hashes_of_any_length() {
    // sha256("example-host") and sha256("unknown"), made with Python.
    let host = HostHash::of("example-host");
    assert_eq!(host.as_str(), "8f1f0466fc41bb15");
    let whole: HostHash =
        "8f1f0466fc41bb150b4a15c1bc827805b86d72882bf2a2aaea2698dae6018027".parse().unwrap();
    assert!(host.matches(&whole) && whole.matches(&host));
    assert_eq!(host.binding(), whole.binding());
    assert_eq!(HostHash::of(""), HostHash::of("unknown"));
    assert!(!host.matches(&HostHash::of("unknown")));
    let id = ActivationId([0xab; 16]);
    assert_eq!(id.to_string(), format!("act-{}", "ab".repeat(16)));
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "act-", "act-abc123", &id.to_string().to_uppercase(), &id.to_string()[4..]] {
        assert!(text.parse::<ActivationId>().is_err(), "{text}");
    }
}

#[test]
fn answers_have_a_number_for_the_time() {
    let time = EpochSeconds::from_unix_ms(1_795_325_574_199);
    let details = ActivationDetails {
        activation_id: ActivationId([1; 16]).to_string(),
        org_id: Some("org-12345".to_owned()),
        project_id: None,
        plan: "evaluation".to_owned(),
        expires_at: EpochSeconds::from_unix_ms(1_797_917_574_000),
    };
    let file = LicenseFile::issue(&license(), &ring(1, 1));
    let activated = Answer::granted(
        details.clone(),
        time,
        Some(file.clone()),
        Some(Disclosed::new("eyJ".to_owned())),
    );
    let text = serde_json::to_string(&activated).unwrap();
    assert!(text.contains(r#""server_time":1795325574.199,"#), "{text}");
    assert!(text.contains(r#""expires_at":1797917574.0,"#), "{text}");
    let read: Answer = serde_json::from_str(&text).unwrap();
    assert_eq!(read.license, Some(file));
    assert_eq!(read.server_time, Some(time));
    let validated = Answer::granted(details, time, None, None);
    let refused: Vec<_> =
        RefusalReason::ALL.iter().map(|reason| Answer::refused(*reason, time)).collect();
    insta::assert_json_snapshot!("evaluation_answers", (activated, validated, refused));
    for reason in RefusalReason::ALL {
        assert_eq!(RefusalReason::from_code(reason.code()), Some(*reason));
    }
    let later: Answer =
        serde_json::from_str(r#"{"ok":false,"reason":"of_a_later_release"}"#).unwrap();
    assert_eq!(later.reason, None);
}

#[test]
fn the_base_address_loses_what_will_be_appended() {
    for (configured, base) in [
        ("https://activation.edon.ai/v1/validate", "https://activation.edon.ai/v1"),
        ("https://activation.edon.ai/v1/activate/", "https://activation.edon.ai/v1"),
        ("https://activation.edon.ai/v1", "https://activation.edon.ai/v1"),
        (" https://activation.edon.ai/v1/ ", "https://activation.edon.ai/v1"),
        ("https://h/v1/validate/validate", "https://h/v1/validate"),
        ("https://h", "https://h"),
    ] {
        assert_eq!(base_url(configured), base);
    }
}

#[test]
fn the_clocks_are_brought_together() {
    let mut skew = ClockSkew::default();
    assert_eq!(skew.corrected(1_000.0), 1_000.0);
    for (server, local, offset) in [
        (1_100.0, 1_000.0, 100.0),
        (1_200.0, 1_000.0, 0.7 * 100.0 + 0.3 * 200.0),
        (1_000.0 + 21_600.0, 1_000.0, 0.7 * 130.0 + 0.3 * 21_600.0),
    ] {
        assert_eq!(skew.learn(server, local), SkewChange::Learnt);
        assert!((skew.offset_seconds() - offset).abs() < 1e-9, "{}", skew.offset_seconds());
    }
    let before = skew;
    for hours in [7.0, -7.0, 48.0, f64::NAN, f64::INFINITY] {
        let change = skew.learn(1_000.0 + hours * 3_600.0, 1_000.0);
        assert!(matches!(change, SkewChange::Ignored { .. }), "{hours}");
        assert_eq!(skew, before);
    }
    let mut five_behind = ClockSkew::default();
    assert_eq!(five_behind.learn(0.0, 5.0 * 3_600.0), SkewChange::Learnt);
    assert_eq!(five_behind.corrected(5.0 * 3_600.0), 0.0);
    // A stored offset that could not have been learnt corrects nothing.
    let edited: ClockSkew = serde_json::from_str("-99999999.0").unwrap();
    assert_eq!(edited.corrected(1_000.0), 1_000.0);
}

fn file_of(license: &License) -> Result<LicenseFile, LicenseFileError> {
    Ok(LicenseFile::issue(license, &ring(1, 1)))
}

fn check(memory: &Memory, license: &License, mode: Mode, now_ms: i64) -> Step {
    memory.check(Some(&file_of(license)), &ring(1, 1), mode, now_ms)
}

#[test]
fn a_license_is_checked_in_the_documents_order() {
    let ends_ms = 1_797_917_574_200;
    let six_hours_ms = 21_600_000;
    let refuse = Step::Refuse;
    let ask = |license: License, warning| Step::AskServer { license: Box::new(license), warning };
    let mode = Mode::default();
    let fresh = Memory::default();
    assert_eq!(fresh.check(None, &ring(1, 1), mode, NOW_MS), Step::Activate);
    let damaged = Err(LicenseFileError::TooLong);
    assert_eq!(
        fresh.check(Some(&damaged), &ring(1, 1), mode, NOW_MS),
        refuse(Rejection::InvalidSignature)
    );
    assert_eq!(
        fresh.check(Some(&file_of(&license())), &ring(2, 2), mode, NOW_MS),
        refuse(Rejection::UnsupportedKeyVersion("v1".to_owned()))
    );
    let revoked = License { revoked: true, ..license() };
    let offline = License { offline: true, ..license() };
    let development = Mode { is_development: true, ..mode };
    let run = |basis, warning| Step::Run { basis, warning };
    let late = Some(Warning::EndWithinTolerance);
    for (license, mode, now_ms, step) in [
        (license(), mode, NOW_MS, ask(license(), None)),
        (revoked.clone(), mode, NOW_MS, refuse(Rejection::Revoked)),
        // Revoked goes before the end.
        (revoked, mode, i64::MAX, refuse(Rejection::Revoked)),
        (license(), mode, ends_ms, ask(license(), None)),
        (license(), mode, ends_ms + 1_000, ask(license(), late)),
        (license(), mode, ends_ms + six_hours_ms, ask(license(), late)),
        (license(), mode, ends_ms + six_hours_ms + 1, refuse(Rejection::Expired)),
        (offline.clone(), mode, NOW_MS, ask(offline.clone(), None)),
        (offline.clone(), development, NOW_MS, run(Basis::Development, None)),
        (offline, development, i64::MAX, refuse(Rejection::Expired)),
        (license(), development, NOW_MS, ask(license(), None)),
    ] {
        assert_eq!(check(&fresh, &license, mode, now_ms), step, "{now_ms}");
    }
    // Corrected time decides: the server is five hours ahead.
    let mut memory = Memory::default();
    memory.skew.learn(5.0 * 3_600.0, 0.0);
    let at_ms = ends_ms + 2 * 3_600_000;
    assert_eq!(check(&memory, &license(), mode, at_ms), refuse(Rejection::Expired));
}

fn answer(body: Value) -> Answer {
    serde_json::from_value(body).unwrap()
}

#[test]
fn a_validation_counts_for_an_hour() {
    let good = answer(json!({"ok": true, "server_time": NOW_MS as f64 / 1_000.0 + 10.0}));
    let mut memory = Memory::default();
    let verdict = memory.on_reply(Reply::Answer(&good), NOW_MS);
    assert_eq!(verdict.step, Step::Run { basis: Basis::Server, warning: None });
    assert!((memory.skew.offset_seconds() - 10.0).abs() < 1e-6);
    let remembered = Step::Run { basis: Basis::Remembered, warning: None };
    let mode = Mode::default();
    let forced = Mode { force_online: true, ..mode };
    for (after_ms, mode, is_remembered) in [
        (0, mode, true),
        (VALIDATION_INTERVAL_MS - 1, mode, true),
        (VALIDATION_INTERVAL_MS, mode, false),
        (-1, mode, false),
        (0, forced, false),
    ] {
        let step = check(&memory, &license(), mode, NOW_MS + after_ms);
        assert_eq!(step == remembered, is_remembered, "{after_ms}: {step:?}");
    }
    let stored = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&stored).unwrap(), memory);
    let far = answer(json!({"ok": true, "server_time": NOW_MS as f64 / 1_000.0 + 7.0 * 3_600.0}));
    let verdict = memory.on_activated(&far, NOW_MS);
    assert!(
        matches!(
            verdict.step,
            Step::Run { warning: Some(Warning::ClockFarOff { offset_seconds }), .. }
                if (offset_seconds - 25_200.0).abs() < 1.0
        ),
        "{verdict:?}"
    );
}

#[test]
fn refusals_of_the_server_are_told_apart() {
    for (body, rejection, mark_revoked) in [
        (json!({"ok": false, "error": "License revoked"}), Rejection::RevokedByServer, true),
        (json!({"ok": false, "revoked": true}), Rejection::RevokedByServer, true),
        (
            json!({"ok": false, "revoked": true, "reason": "revoked"}),
            Rejection::RevokedByServer,
            true,
        ),
        (json!({"ok": false, "revoked": false, "reason": "expired"}), Rejection::Expired, false),
        (json!({"ok": false, "reason": "suspended"}), Rejection::Suspended, false),
        (
            json!({"ok": false, "reason": "hostname_mismatch", "error": "Activated\n on another"}),
            Rejection::RefusedByServer("Activated on another".to_owned()),
            false,
        ),
        (
            json!({"ok": false, "revoked": false}),
            Rejection::RefusedByServer("no reason".to_owned()),
            false,
        ),
    ] {
        let mut memory = Memory { last_validation_ms: Some(NOW_MS), ..Memory::default() };
        let verdict = memory.on_reply(Reply::Answer(&answer(body.clone())), NOW_MS);
        assert_eq!(verdict.step, Step::Refuse(rejection), "{body}");
        assert_eq!(verdict.mark_revoked, mark_revoked, "{body}");
        assert_eq!(memory.last_validation_ms, None, "a refusal is remembered as a validation");
    }
    let refused = answer(json!({"ok": false, "error": "Invalid activation code"}));
    assert_eq!(
        activation_rejection(Reply::Answer(&refused)).to_string(),
        "License not activated. Activation failed: Invalid activation code"
    );
    assert!(activation_rejection(Reply::NetworkError).to_string().contains("cannot be reached"));
}

#[test]
fn an_outage_lasts_a_day_whatever_is_restarted() {
    for (reply, rejection) in [
        (Reply::ServerError, Rejection::ServerUnreachable),
        (Reply::NetworkError, Rejection::NetworkUnreachable),
    ] {
        let mut memory = Memory::default();
        let until_ms = NOW_MS + OFFLINE_GRACE_MS;
        let grace = Step::Run { basis: Basis::Grace { until_ms }, warning: None };
        assert_eq!(memory.on_reply(reply, NOW_MS).step, grace);
        // The server is left alone for five minutes, and asked again after them.
        let mode = Mode::default();
        assert_eq!(check(&memory, &license(), mode, NOW_MS + RETRY_INTERVAL_MS - 1), grace);
        let step = check(&memory, &license(), mode, NOW_MS + RETRY_INTERVAL_MS);
        assert!(matches!(step, Step::AskServer { .. }), "{step:?}");
        // A restart: only what was stored is left.
        let stored = serde_json::to_string(&memory).unwrap();
        let mut memory: Memory = serde_json::from_str(&stored).unwrap();
        assert_eq!(memory.on_reply(reply, until_ms).step, grace);
        assert_eq!(memory.on_reply(reply, until_ms + 1).step, Step::Refuse(rejection.clone()));
        let step = check(&memory, &license(), mode, until_ms + 2);
        assert!(matches!(step, Step::AskServer { .. }), "{step:?}");
        // An answer ends it; the next one begins anew.
        let good = answer(json!({"ok": true}));
        memory.on_reply(Reply::Answer(&good), until_ms + 3);
        assert_eq!(memory.grace_until_ms(), None);
        memory.on_reply(reply, until_ms + 4);
        assert_eq!(memory.grace_until_ms(), Some(until_ms + 4 + OFFLINE_GRACE_MS));
    }
}

#[test]
fn every_sentence_starts_with_the_documents_phrase() {
    let text = || "x".to_owned();
    let rows: Vec<_> = [
        (Rejection::NotActivated, "License not activated"),
        (Rejection::ActivationFailed(text()), "License not activated"),
        (Rejection::Expired, "License expired"),
        (Rejection::Revoked, "License revoked"),
        (Rejection::RevokedByServer, "License revoked"),
        (Rejection::Suspended, "License suspended"),
        (Rejection::RefusedByServer(text()), "License not activated"),
        (Rejection::InvalidSignature, "Invalid signature"),
        (Rejection::UnsupportedKeyVersion("v9".to_owned()), "Unsupported key version: v9"),
        (Rejection::ServerUnreachable, "Server unreachable for extended period"),
        (Rejection::NetworkUnreachable, "Server unreachable"),
    ]
    .into_iter()
    .map(|(rejection, phrase)| {
        assert!(rejection.to_string().starts_with(phrase), "{rejection}");
        (rejection.reason(), rejection.gate_text())
    })
    .collect();
    insta::assert_json_snapshot!("evaluation_rejections", rows);
}

#[test]
fn events_have_names_levels_and_no_host() {
    let subject = Subject {
        activation_id: Some("act-1".to_owned()),
        org_id: Some("org-12345".to_owned()),
        project_id: None,
    };
    let timestamp = EpochSeconds::from_unix_ms(NOW_MS);
    let activation = LicenseEvent::LicenseActivation {
        success: true,
        reason: "activated".to_owned(),
        subject: subject.clone(),
        timestamp,
    };
    let validation = LicenseEvent::LicenseValidation {
        success: false,
        reason: "expired".to_owned(),
        subject: subject.clone(),
        timestamp,
    };
    let tampered =
        LicenseEvent::rejection(&Rejection::InvalidSignature, subject.clone(), timestamp);
    let revoked = LicenseEvent::rejection(&Rejection::Revoked, subject, timestamp);
    let events = [
        (activation, "license_activation", Level::Info),
        (validation, "license_validation", Level::Warning),
        (tampered, "license_rejection", Level::Error),
        (revoked, "license_rejection", Level::Warning),
    ];
    for (event, name, level) in &events {
        assert_eq!((event.name(), event.level()), (*name, *level));
        assert_eq!(serde_json::to_value(event).unwrap()["event"], *name);
    }
    insta::assert_json_snapshot!("evaluation_events", events.map(|(event, ..)| event));
}

#[test]
fn bypasses_exist_in_development_only() {
    let variables: BTreeMap<String, String> = [
        (config::ACTIVATION_SERVER, "http://127.0.0.1:1/v1/validate"),
        (config::SECRET_V1, "our own"),
        (config::SKIP_LICENSE_CHECK, "true"),
        (config::ALLOW_OFFLINE_ACTIVATION, "True"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let resolve = |variables: &BTreeMap<String, String>, is_development| {
        Config::resolve(variables, KeyVersion(1), KeyVersion(1), is_development).unwrap()
    };
    let production = resolve(&variables, false);
    assert!(!production.skip_license_check && !production.allow_offline_activation);
    assert_eq!(production.ignored, [config::SKIP_LICENSE_CHECK, config::ALLOW_OFFLINE_ACTIVATION]);
    assert_eq!(production.base_url, "http://127.0.0.1:1/v1");
    let development = resolve(&variables, true);
    assert!(development.skip_license_check && development.allow_offline_activation);
    assert!(development.ignored.is_empty());
    // An own secret is used, the published one otherwise.
    let published = LicenseFile::issue(&license(), &ring(1, 1));
    assert_eq!(published.verify(&production.ring), Err(SignatureError::BadSignature));
    let defaults = resolve(&BTreeMap::new(), false);
    assert_eq!(published.verify(&defaults.ring), Ok(license()));
    assert_eq!(defaults.base_url, "https://activation.edon.ai/v1");
}
