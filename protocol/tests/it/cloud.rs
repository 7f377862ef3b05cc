//! Requests and answers: what the document shows is read and written as it shows it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use protocol::cloud::admin::{
    ImportError, ImportRequest, LeaseQuery, ReasonRequest, RegisterAppRequest, TrustVendorRequest,
};
use protocol::cloud::body::{BodyError, decode, idempotency_key};
use protocol::cloud::denial::{DenialReason, Denied, Remedy};
use protocol::cloud::lease::{
    BulkHeartbeatRequest, CheckoutRequest, CheckoutResponse, CheckoutStatus, HeartbeatRequest,
    HeartbeatResponse, LeaseType, RenewedStatus, ReturnRequest, ReturnResponse, ReturnedStatus,
    lease_duration,
};
use protocol::cloud::problem::{Problem, ProblemOutcome};
use protocol::fence::Fence;
use protocol::package::sample_document;
use protocol::wire::{Id64, Money, UtcTime};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde_json::json;
use utoipa::ToSchema;

const FENCE: Fence = Fence { epoch: 1, index: 42, position: 0, incarnation: 0x9f3c_5d7e_11a0_b2c4 };

#[track_caller]
fn refused<T: DeserializeOwned>(body: impl AsRef<[u8]>, code: &str, field: Option<&str>) {
    let body = body.as_ref();
    let shown: String = String::from_utf8_lossy(body).chars().take(200).collect();
    match decode::<T>(body) {
        Ok(_) => panic!("accepted: {shown}"),
        Err(error) => assert_eq!((error.code(), error.field()), (code, field), "{error}: {shown}"),
    }
}

#[test]
fn the_documents_requests_are_read() {
    let checkout: CheckoutRequest = decode(
        br#"{"product_id":"davinci-configurator-se","user":"alice@bmw.com",
            "hostname":"dev-workstation-042",
            "metadata":{"version":"8.2.1","session_id":"sess-xyz789","theme":"dark"},
            "later":[1.5]}"#,
    )
    .unwrap();
    assert_eq!(checkout.metadata.version.as_deref(), Some("8.2.1"));
    assert_eq!((checkout.quantity, checkout.features.len(), checkout.pool), (1, 0, None));
    let checkout: CheckoutRequest = decode(
        br#"{"product_id":"p","user":"u","hostname":"h","quantity":3,"pool":"team-a",
            "features":["b","a","b"]}"#,
    )
    .unwrap();
    assert_eq!((checkout.quantity, checkout.pool.as_deref()), (3, Some("team-a")));
    assert_eq!(checkout.features, ["a", "b"]);

    let heartbeat: HeartbeatRequest =
        decode(br#"{"renewal_token":"renew-token-xyz","still_active":true}"#).unwrap();
    assert!(heartbeat.still_active);
    let heartbeat: HeartbeatRequest = decode(br#"{"renewal_token":"renew-token-xyz"}"#).unwrap();
    assert!(heartbeat.still_active);

    let back: ReturnRequest = decode(
        br#"{"lease_id":"lease-abc123","usage_metadata":{"session_duration_seconds":3600,
            "features_used":["can_editor","arxml_validator"],"files_processed":42}}"#,
    )
    .unwrap();
    assert_eq!(back.usage_metadata.features_used, ["arxml_validator", "can_editor"]);
    let back: ReturnRequest = decode(br#"{"lease_id":"lease-abc123"}"#).unwrap();
    assert_eq!(back.usage_metadata.session_duration_seconds, None);

    let app: RegisterAppRequest = decode(
        br#"{"name":"DaVinci Configurator SE","product_id":"davinci-configurator-se",
            "vendor":"vector-de"}"#,
    )
    .unwrap();
    assert_eq!(app.scopes.to_string(), "license:checkout license:return license:read");
}

/// A good checkout but for one field.
fn checkout(name: &str, value: serde_json::Value) -> String {
    let mut body = json!({"product_id": "p", "user": "u", "hostname": "h"});
    body[name] = value;
    body.to_string()
}

#[test]
fn a_wrong_checkout_names_the_field() {
    for (name, value) in [
        ("product_id", json!(7)),
        ("product_id", json!("")),
        ("product_id", json!("a/b")),
        ("product_id", json!(null)),
        ("user", json!("")),
        ("user", json!("a\nb")),
        ("user", json!("\u{9b}31m")),
        ("user", json!("x".repeat(257))),
        ("hostname", json!(["h"])),
        ("metadata", json!("8.2.1")),
        ("features", json!("a")),
        ("features", json!(vec!["a"; 65])),
        ("features", json!([" "])),
        ("quantity", json!(0)),
        ("quantity", json!(-1)),
        ("quantity", json!(1.5)),
        ("quantity", json!("1")),
        ("quantity", json!(10_000_001)),
        ("pool", json!(1)),
        ("pool", json!("")),
    ] {
        refused::<CheckoutRequest>(checkout(name, value), "invalid_field", Some(name));
    }
    let longest = checkout("user", json!("ö".repeat(256)));
    assert!(decode::<CheckoutRequest>(longest.as_bytes()).is_ok());
    refused::<CheckoutRequest>(
        checkout("metadata", json!({"version": 8})),
        "invalid_field",
        Some("metadata.version"),
    );
}

#[test]
fn what_is_no_object_is_no_request() {
    for body in ["", "{", "nonsense", "{\"a\":01}", "\u{feff}{}", "{\"user\":\"\\ud800\"}"] {
        refused::<CheckoutRequest>(body, "malformed_json", None);
    }
    refused::<CheckoutRequest>("{}", "invalid_field", Some("product_id"));
    refused::<CheckoutRequest>(b"\xff", "malformed_json", None);
    refused::<CheckoutRequest>("[".repeat(100_000), "invalid_field", None);
    refused::<CheckoutRequest>(r#"["p","u","h"]"#, "invalid_field", None);
    refused::<CheckoutRequest>(
        checkout("metadata", json!(["8.2.1", "s"])),
        "invalid_field",
        Some("metadata"),
    );
    refused::<BulkHeartbeatRequest>(
        r#"{"leases":[["l","t"]]}"#,
        "invalid_field",
        Some("leases[0]"),
    );
    // Two equal names: no reader may pick the one it likes.
    let twice = r#"{"product_id":"p","user":"u","user":"v","hostname":"h"}"#;
    refused::<CheckoutRequest>(twice, "invalid_field", Some("user"));
}

#[test]
fn a_wrong_heartbeat_or_return_names_the_field() {
    let trailing = r#"{"renewal_token":"a"} x"#;
    refused::<HeartbeatRequest>(trailing, "malformed_json", None);
    refused::<HeartbeatRequest>(
        r#"{"renewal_token":"a b"}"#,
        "invalid_field",
        Some("renewal_token"),
    );
    refused::<HeartbeatRequest>(
        format!(r#"{{"renewal_token":"{}"}}"#, "a".repeat(129)),
        "invalid_field",
        Some("renewal_token"),
    );
    refused::<HeartbeatRequest>(
        r#"{"renewal_token":"a","still_active":"yes"}"#,
        "invalid_field",
        Some("still_active"),
    );
    refused::<ReturnRequest>(
        r#"{"lease_id":"l","usage_metadata":{"session_duration_seconds":-1}}"#,
        "invalid_field",
        Some("usage_metadata.session_duration_seconds"),
    );
    refused::<ReturnRequest>(
        r#"{"lease_id":"l","usage_metadata":{"files_processed":9007199254740992}}"#,
        "invalid_field",
        Some("usage_metadata.files_processed"),
    );
    let item = r#"{"lease_id":"l","renewal_token":"t"}"#;
    let bulk = |count: usize| format!(r#"{{"leases":[{}]}}"#, vec![item; count].join(","));
    refused::<BulkHeartbeatRequest>(bulk(0), "invalid_field", Some("leases"));
    refused::<BulkHeartbeatRequest>(bulk(1_001), "invalid_field", Some("leases"));
    assert!(decode::<BulkHeartbeatRequest>(bulk(1_000).as_bytes()).is_ok());
    refused::<BulkHeartbeatRequest>(
        r#"{"leases":[{"lease_id":"l"}]}"#,
        "invalid_field",
        Some("leases[0].renewal_token"),
    );
    let broken = bulk(3).replacen("\"t\"", "7", 1);
    refused::<BulkHeartbeatRequest>(broken, "invalid_field", Some("leases[0].renewal_token"));
}

#[test]
fn administrators_are_told_of_typing_mistakes() {
    let app = |extra: &str| format!(r#"{{"name":"A","product_id":"p","vendor_id":"v"{extra}}}"#);
    assert!(decode::<RegisterAppRequest>(app("").as_bytes()).is_ok());
    for (extra, field) in [
        (r#","scope":"license:read""#, "scope"),
        (r#","scopes":"license:admin""#, "scopes"),
        (r#","scopes":"""#, "scopes"),
        (r#","token_algorithm":"HS256""#, "token_algorithm"),
        (r#","token_algorithm":"none""#, "token_algorithm"),
    ] {
        refused::<RegisterAppRequest>(app(extra), "invalid_field", Some(field));
    }
    refused::<ReasonRequest>(r#"{"resaon":"x"}"#, "invalid_field", Some("resaon"));
    refused::<TrustVendorRequest>(
        r#"{"vendor_id":"v","name":"n"}"#,
        "invalid_field",
        Some("public_key"),
    );
    refused::<LeaseQuery>(r#"{"limit":1001}"#, "invalid_field", Some("limit"));
    assert_eq!(decode::<LeaseQuery>(b"{}").unwrap().limit, 100);
}

#[test]
fn a_package_is_imported_as_object_or_text() {
    let package = sample_document(0, 1_000, &[]);
    let as_object = format!(r#"{{"package":{package}}}"#);
    let as_text = json!({ "package": package, "vendor_public_key": null }).to_string();
    for body in [&as_object, &as_text] {
        let request = ImportRequest::from_body(body.as_bytes()).unwrap();
        assert_eq!(request.package.package().package_id, "vec-davinci-se-bmw-2025-001");
        assert!(request.vendor_public_key.is_none());
    }
    let twice = as_object.replacen("\"vendor_id\"", "\"vendor_id\":\"evil\",\"vendor_id\"", 1);
    for (body, code, field) in [
        (twice.as_str(), "package_not_strict_json", Some("package.vendor_id")),
        ("[]", "package_field_type", Some("the body")),
        ("{}", "package_field_missing", Some("package")),
        (r#"{"package":7}"#, "package_field_type", Some("package")),
        (r#"{"package":"{"}"#, "package_not_strict_json", None),
        (r#"{"package":{}}"#, "package_field_missing", Some("vendor_id")),
        (&as_object.replacen('{', r#"{"force":true,"#, 1), "package_field_unknown", Some("force")),
        (
            &as_object.replacen('{', r#"{"vendor_public_key":7,"#, 1),
            "package_field_type",
            Some("vendor_public_key"),
        ),
    ] {
        match ImportRequest::from_body(body.as_bytes()) {
            Err(ImportError::Package(error)) => {
                assert_eq!((error.code(), error.field()), (code, field), "{body}");
                let problem = Problem::from(&error);
                assert_eq!((problem.status, problem.field.as_deref()), (400, field));
            }
            _ => panic!("{body}"),
        }
    }
    let bad_key = as_object.replacen('{', r#"{"vendor_public_key":"x","#, 1);
    assert!(matches!(ImportRequest::from_body(bad_key.as_bytes()), Err(ImportError::Key(_))));
}

#[test]
fn answers_keep_their_bytes() {
    let expires_at = "2025-11-04T18:00:00Z".parse().unwrap();
    let commit = CheckoutResponse {
        status: CheckoutStatus::Success,
        lease_id: "lease-abc123".to_owned(),
        lease_type: LeaseType::Commit,
        cost: None,
        currency: None,
        expires_at,
        expires_in_ms: 900_000,
        heartbeat_interval_ms: 300_000,
        renewal_token: "renew-token-xyz".to_owned(),
        fence: FENCE,
        package_id: "vec-davinci-se-bmw-2025-001".to_owned(),
        quantity: 1,
        features: Vec::new(),
        pool: None,
    };
    let overage = CheckoutResponse {
        lease_type: LeaseType::Overage,
        cost: Some(Money(Decimal::from(500))),
        currency: Some("EUR".to_owned()),
        ..commit.clone()
    };
    let denied = Denied {
        available_at: Some("2025-11-04T16:30:00Z".parse().unwrap()),
        would_be_satisfied_by: Some(Remedy { quantity: Some(2), ..Remedy::default() }),
        ..Denied::because(DenialReason::MaxOverageExceeded)
    };
    let renewed = HeartbeatResponse {
        status: RenewedStatus::Renewed,
        expires_at,
        expires_in_ms: 900_000,
        heartbeat_interval_ms: 300_000,
        renewal_token: "renew-token-abc".to_owned(),
        fence: FENCE,
        offline_token: None,
    };
    let returned = ReturnResponse {
        status: ReturnedStatus::Returned,
        total_cost: Money(Decimal::ZERO),
        lease_duration: lease_duration(3_600_000),
    };
    let problem = Problem::new(503, "no_quorum", "No quorum of the cluster can be reached.")
        .detail("2 of 3 nodes are silent")
        .outcome(ProblemOutcome::Unknown)
        .with("retry_after_ms", 700);
    let texts = [
        serde_json::to_string(&commit),
        serde_json::to_string(&overage),
        serde_json::to_string(&denied),
        serde_json::to_string(&renewed),
        serde_json::to_string(&returned),
        serde_json::to_string(&problem),
    ]
    .map(Result::unwrap);
    insta::assert_snapshot!("answers", texts.join("\n"));
    assert_eq!(serde_json::from_str::<CheckoutResponse>(&texts[1]).unwrap(), overage);
    assert_eq!(serde_json::from_str::<Denied>(&texts[2]).unwrap(), denied);
    assert_eq!(serde_json::from_slice::<Problem>(&problem.to_bytes()).unwrap(), problem);
}

#[test]
fn the_table_of_denials_is_complete_and_documented() {
    let codes: BTreeSet<&str> = DenialReason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), DenialReason::ALL.len());
    let table: String = DenialReason::ALL
        .iter()
        .map(|reason| format!("{} {}\n", reason.http_status(), reason.code()))
        .collect();
    insta::assert_snapshot!("denials", table);
    for reason in DenialReason::ALL {
        assert_eq!(DenialReason::from_code(reason.code()), Some(*reason));
        let json = serde_json::to_string(reason).unwrap();
        assert_eq!(serde_json::from_str::<DenialReason>(&json).unwrap(), *reason);
    }
    let schema = serde_json::to_value(<DenialReason as utoipa::PartialSchema>::schema()).unwrap();
    let documented: BTreeSet<&str> =
        schema["enum"].as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
    assert_eq!(documented, codes);
    assert_eq!(DenialReason::name(), "DenialReason");
}

#[test]
fn values_are_shown_as_the_document_shows_them() {
    for (amount, shown) in [
        ("500", "500.0"),
        ("500.00", "500.0"),
        ("0", "0.0"),
        ("0.05", "0.05"),
        ("1234567.89", "1234567.89"),
    ] {
        let money = Money(amount.parse().unwrap());
        assert_eq!(serde_json::to_string(&money).unwrap(), shown);
        assert_eq!(serde_json::from_str::<Money>(shown).unwrap(), money);
        assert_eq!(serde_json::from_str::<Money>("500").unwrap(), Money(Decimal::from(500)));
    }
    assert!(serde_json::from_str::<Money>("\"500\"").is_err());

    for (duration_ms, shown) in
        [(0, "0h 0m"), (59_999, "0h 0m"), (3_600_000, "1h 0m"), (90_061_000, "25h 1m")]
    {
        assert_eq!(lease_duration(duration_ms), shown);
    }

    for (text, unix_ms, shown) in [
        ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
        ("2025-11-04T18:00:00Z", 1_762_279_200_000, "2025-11-04T18:00:00Z"),
        ("2025-11-04T19:00:00+01:00", 1_762_279_200_000, "2025-11-04T18:00:00Z"),
        ("2025-11-04T18:00:00.5Z", 1_762_279_200_500, "2025-11-04T18:00:00.5Z"),
        ("2025-11-04T18:00:00.123456789Z", 1_762_279_200_123, "2025-11-04T18:00:00.123Z"),
    ] {
        let time: UtcTime = text.parse().unwrap();
        assert_eq!((time.unix_ms, time.to_string()), (unix_ms, shown.to_owned()));
    }
    for text in [
        "",
        "2025-11-04",
        "2025-11-04 18:00:00Z",
        "2025-11-04t18:00:00z",
        "2025-11-04T18:00:00",
        "2025-11-04T18:00Z",
        "2025-11-04T18:00:00.Z",
        "2025-11-04T18:00:00+0100",
        "2025-11-04T25:00:00Z",
        "2025-13-04T18:00:00Z",
        "2025-11-04T18:00:00Z ",
        "+002025-11-04T18:00:00Z",
        "2025-11-04T18:00:00+01:00[Europe/Berlin]",
    ] {
        assert!(text.parse::<UtcTime>().is_err(), "{text}");
    }
    assert_eq!(UtcTime::from_unix_ms(i64::MAX).to_string(), "9999-12-30T22:00:00Z");
    assert_eq!(UtcTime::from_unix_ms(i64::MIN).to_string(), "0001-01-01T00:00:00Z");
    assert_eq!(UtcTime { unix_ms: i64::MAX }.to_string(), "9999-12-30T22:00:00Z");
    for unwritable in ["0000-11-22T10:36:14.125Z", "0000-01-01T00:00:00Z"] {
        assert!(unwritable.parse::<UtcTime>().is_err(), "{unwritable}");
    }

    let id = Id64(u64::MAX);
    assert_eq!(serde_json::to_string(&id).unwrap(), "\"18446744073709551615\"");
    assert_eq!(serde_json::from_str::<Id64>("\"18446744073709551615\"").unwrap(), id);
    for text in ["\"18446744073709551616\"", "\"-1\"", "\"+1\"", "\"\"", "1"] {
        assert!(serde_json::from_str::<Id64>(text).is_err(), "{text}");
    }
}

#[test]
fn an_idempotency_key_is_visible_ascii() {
    for (header, key) in [
        (&b"8e03978e-40d5-43dd-bc93-6894a57f9324"[..], "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"\"8e03978e\"", "8e03978e"),
        (b" k ", "k"),
    ] {
        assert_eq!(idempotency_key(header).unwrap(), key);
    }
    for header in
        [&b""[..], b"\"\"", b"a b", b"\"a", b"a\"", b"\xff", b"a\\", "ä".as_bytes(), &[b'a'; 129]]
    {
        let error = idempotency_key(header).unwrap_err();
        assert_eq!(error.field(), Some("Idempotency-Key"), "{header:?}");
        assert!(matches!(error, BodyError::Field { .. }));
    }
}

proptest! {
    #[test]
    fn times_survive_their_text(unix_ms in -60_000_000_000_000_i64..250_000_000_000_000) {
        let time = UtcTime::from_unix_ms(unix_ms);
        prop_assert_eq!(time.unix_ms, unix_ms);
        prop_assert_eq!(time.to_string().parse::<UtcTime>(), Ok(time));
    }

    #[test]
    fn money_survives_its_number(
        units in -999_999_999_999_999_i64..=999_999_999_999_999, scale in 0_u32..=6,
    ) {
        let money = Money(Decimal::new(units, scale));
        let json = serde_json::to_string(&money).unwrap();
        prop_assert!(json.contains('.'), "{}", json);
        prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
    }

    #[test]
    fn errors_about_bodies_are_safe_to_show(body in any::<String>(), name in any::<String>()) {
        let nested = json!({"product_id": "p", "user": body, "hostname": {name: 1}}).to_string();
        for body in [body.as_bytes(), nested.as_bytes()] {
            if let Err(error) = decode::<CheckoutRequest>(body) {
                let shown = error.to_string();
                prop_assert!(!shown.chars().any(char::is_control), "{}", shown);
                prop_assert!(shown.chars().count() < 800);
            }
        }
    }
}
