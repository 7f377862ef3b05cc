//! The `classic` face: recorded exchanges of its clients, signatures in both forms, every refusal.

use std::io::Write as _;
use std::path::PathBuf;

use protocol::classic::api_key::{self, ApiKeyParts};
use protocol::classic::refusal::Refusal;
use protocol::classic::signature::{
    self, SecurityFailure, SignatureHeaders, SignedParts, TIMESTAMP_WINDOW_SECONDS,
};
use protocol::classic::validation::ValidationErrors;
use protocol::classic::wire::{
    Borrow, BorrowRequest, Budget, KeyRevoked, KeyStatus, KeyView, Keys, NewKeyAnswer,
    NewKeyRequest, OkStatus, OverageCharge, OverageCharges, ProtectionAnswer, ProtectionRequest,
    ReturnAnswer, ReturnRequest, ToolBudget, ToolSeats, ToolStatus, Version, iso_naive, iso_utc,
};
use protocol::secret::Disclosed;
use protocol::wire::Money;
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The secret of the vendor `techvendor` in the published clients.
const SECRET: &[u8] = b"techvendor_secret_ecu_2025_demo_xyz789abc123def456";

struct Exchange {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    sent: String,
    status: u64,
    answer: String,
}

impl Exchange {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// The recorded exchanges, or nothing where the data is not here, said so that it is heard
/// although the test passes.
fn recorded() -> Option<Vec<Exchange>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/classic");
    if !root.is_dir() {
        // Not `eprintln!`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: no recorded data at {}", root.display());
        return None;
    }
    let text = std::fs::read_to_string(root.join("exchanges.json")).unwrap();
    let values: Vec<Value> = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |value: &Value| Exchange {
        method: text(&value["request"]["method"]),
        path: text(&value["request"]["path"]),
        headers: value["request"]["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        sent: text(&value["request"]["body"]),
        status: value["response"]["status"].as_u64().unwrap(),
        answer: text(&value["response"]["body"]),
    };
    Some(values.iter().map(read).collect())
}

/// Reads a body and writes it again: the same bytes.
fn same<T: Serialize + DeserializeOwned>(text: &str) {
    let read: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
}

#[test]
fn recorded_answers_are_written_byte_for_byte() {
    let Some(exchanges) = recorded() else { return };
    let mut compared = 0;
    for exchange in &exchanges {
        let answer = exchange.answer.as_str();
        let path = exchange.path.as_str();
        match (exchange.method.as_str(), path, exchange.status) {
            // Failures of that server's database, which ours does not have.
            (_, _, 500) => continue,
            (_, _, 422) => same::<ValidationErrors>(answer),
            (_, _, 401 | 403 | 404 | 409) => {
                same::<protocol::classic::refusal::Detail>(answer);
            }
            (_, "/licenses/borrow", 200) => same::<Borrow>(answer),
            (_, "/licenses/return", 200) => same::<ReturnAnswer>(answer),
            (_, "/licenses/status", 200) => same::<Vec<ToolStatus>>(answer),
            (_, "/borrows", 200) => same::<Vec<Borrow>>(answer),
            (_, "/overage-charges", 200) => same::<OverageCharges>(answer),
            (_, "/version", 200) => same::<Version>(answer),
            (_, "/config/budget", 200) => same::<Budget>(answer),
            (_, "/config/protection", 200) => same::<ProtectionAnswer>(answer),
            ("POST", "/api/keys", 200) => same::<NewKeyAnswer>(answer),
            ("GET", "/api/keys", 200) => same::<Keys>(answer),
            (_, path, 200) if path.ends_with("/status") => same::<ToolStatus>(answer),
            other => panic!("an exchange that no type covers: {other:?}"),
        }
        compared += 1;
    }
    assert_eq!((exchanges.len(), compared), (41, 36));
}

#[test]
fn recorded_figures_come_out_of_seats_and_prices() {
    let Some(exchanges) = recorded() else { return };
    let mut compared = 0;
    for exchange in &exchanges {
        if exchange.status != 200 {
            continue;
        }
        let statuses: Vec<ToolStatus> = match exchange.path.as_str() {
            "/licenses/status" => serde_json::from_str(&exchange.answer).unwrap(),
            path if path.ends_with("/status") => {
                vec![serde_json::from_str(&exchange.answer).unwrap()]
            }
            _ => continue,
        };
        for status in statuses {
            let seats = ToolSeats {
                total: status.total,
                borrowed: status.borrowed,
                overage: status.overage,
                commit: status.commit,
                max_overage: status.max_overage,
                commit_price: status.commit_price.0,
                overage_price: status.overage_price_per_license.0,
            };
            assert_eq!(ToolStatus::of(status.tool.clone(), seats), status);
            compared += 1;
        }
    }
    assert!(compared >= 8, "{compared}");
    let budget = exchanges.iter().find(|e| e.path == "/config/budget" && e.status == 200).unwrap();
    let budget: Budget = serde_json::from_str(&budget.answer).unwrap();
    for tool in budget.tools {
        let seats = ToolSeats {
            total: tool.total,
            borrowed: tool.borrowed,
            overage: 0,
            commit: tool.commit,
            max_overage: tool.max_overage,
            commit_price: tool.commit_price.0,
            overage_price: tool.overage_price_per_license.0,
        };
        let limit = tool.customer_max_spend.map(|limit| limit.0);
        let spent = tool.month_to_date_overage_cost.0;
        assert_eq!(ToolBudget::of(tool.tool.clone(), seats, spent, limit), tool);
    }
}

/// Every recorded borrow, decided by our rules: those that differ do so on purpose.
#[test]
fn recorded_borrows_are_decided_as_recorded_or_better() {
    let Some(exchanges) = recorded() else { return };
    let (mut signed, mut without_key) = (0, 0);
    for exchange in exchanges.iter().filter(|exchange| exchange.path == "/licenses/borrow") {
        let request = match BorrowRequest::from_body(exchange.sent.as_bytes()) {
            Ok(request) => request,
            Err(errors) => {
                assert_eq!(exchange.status, 422);
                assert_eq!(serde_json::to_string(&errors).unwrap(), exchange.answer);
                continue;
            }
        };
        let headers = SignatureHeaders {
            signature: exchange.header("x-signature"),
            timestamp: exchange.header("x-timestamp"),
            vendor: exchange.header("x-vendor-id"),
        };
        let api_key = exchange.header("authorization").and_then(|h| h.strip_prefix("Bearer "));
        if api_key.is_some_and(|key| api_key::parse(key).is_err()) {
            assert_eq!(exchange.answer, body(&Refusal::InvalidApiKey));
            continue;
        }
        // The wrong clock of one recording is told in its own text.
        let now_seconds = match headers.timestamp {
            Some("1") => 1_795_325_511,
            Some(seconds) => seconds.parse().unwrap(),
            None => 0,
        };
        let secret = (headers.vendor() == "techvendor").then_some(SECRET);
        let (tool, user) = (&request.tool, &request.user);
        let verdict = signature::verify(&headers, secret, tool, user, api_key, now_seconds);
        if exchange.header("origin").is_some() {
            // A browser's header stood in for a signature; not here.
            assert_eq!((verdict, exchange.status), (Err(SecurityFailure::MissingHeaders), 200));
        } else if api_key.is_none() && headers.signature.is_some_and(|text| text.len() == 64) {
            // Signed without the last bar; refused there, accepted here.
            assert_eq!((verdict, exchange.status), (Ok(()), 403));
            without_key += 1;
        } else if let Err(failure) = verdict {
            assert_eq!(exchange.answer, body(&Refusal::Security(failure)));
        } else {
            assert_ne!(
                exchange.answer,
                body(&Refusal::Security(SecurityFailure::InvalidSignature))
            );
            let timestamp = headers.timestamp.unwrap();
            let parts = SignedParts { tool, user, timestamp, api_key };
            assert_eq!(Some(signature::sign(SECRET, &parts).as_str()), headers.signature);
            signed += 1;
        }
    }
    assert_eq!((signed, without_key), (7, 2));
}

fn body(refusal: &Refusal) -> String {
    serde_json::to_string(&refusal.body()).unwrap()
}

#[test]
fn signatures_are_accepted_in_the_forms_that_clients_send() {
    let now = 1_795_325_355;
    let key = "acme_test_pk_k";
    let tag = |timestamp: &str, api_key| {
        signature::sign(SECRET, &SignedParts { tool: "T", user: "u", timestamp, api_key })
    };
    let with_bar = signature::sign(
        SECRET,
        &SignedParts { tool: "T", user: "u", timestamp: "1795325355", api_key: Some("") },
    );
    let good = tag("1795325355", None);
    let keyed = tag("1795325355", Some(key));
    let at = |timestamp: &str| (tag(timestamp, None), timestamp.to_owned());
    let edge = now - TIMESTAMP_WINDOW_SECONDS as i64;
    let expired = |difference_seconds| Err(SecurityFailure::Expired { difference_seconds });
    let plain = "1795325355".to_owned();
    let (early, late) = (at(&edge.to_string()), at(&(edge - 1).to_string()));
    let (future, word) = (at(&(now + 301).to_string()), at("soon"));
    for ((signature, timestamp), api_key, verdict) in [
        ((good.clone(), plain.clone()), None, Ok(())),
        ((with_bar.clone(), plain.clone()), None, Ok(())),
        ((keyed.clone(), plain.clone()), Some(key), Ok(())),
        ((good.clone(), plain.clone()), Some(key), Err(SecurityFailure::InvalidSignature)),
        ((with_bar, plain.clone()), Some(key), Err(SecurityFailure::InvalidSignature)),
        ((keyed, plain.clone()), None, Err(SecurityFailure::InvalidSignature)),
        ((good.to_uppercase(), plain.clone()), None, Err(SecurityFailure::InvalidSignature)),
        ((good.clone(), "1795325356".to_owned()), None, Err(SecurityFailure::InvalidSignature)),
        ((String::new(), plain), None, Err(SecurityFailure::MissingHeaders)),
        ((good, String::new()), None, Err(SecurityFailure::MissingHeaders)),
        (early, None, Ok(())),
        (late, None, expired(301)),
        (future, None, expired(301)),
        (word, None, Err(SecurityFailure::InvalidTimestamp)),
    ] {
        let headers = SignatureHeaders {
            signature: Some(&signature),
            timestamp: Some(&timestamp),
            vendor: None,
        };
        let found = signature::verify(&headers, Some(SECRET), "T", "u", api_key, now);
        assert_eq!(found, verdict, "{timestamp} {api_key:?}");
        if found.is_ok() {
            let other = signature::verify(&headers, Some(SECRET), "T", "v", api_key, now);
            assert_eq!(other, Err(SecurityFailure::InvalidSignature));
            let other = signature::verify(&headers, Some(b"other"), "T", "u", api_key, now);
            assert_eq!(other, Err(SecurityFailure::InvalidSignature));
        }
    }
}

#[test]
fn every_refusal_has_its_status_and_text() {
    let vendor =
        SignatureHeaders { signature: Some("00"), timestamp: Some("1"), vendor: Some("z\nz") };
    let unknown = signature::verify(&vendor, None, "T", "u", None, 1).unwrap_err();
    for (refusal, status, detail) in [
        (Refusal::NoLicenses("T".to_owned()), 409, "No licenses available for T"),
        (Refusal::InvalidApiKey, 403, "Invalid API key"),
        (
            Refusal::Security(SecurityFailure::MissingHeaders),
            403,
            "Security validation failed: Missing X-Signature or X-Timestamp headers",
        ),
        (Refusal::Security(unknown), 403, "Security validation failed: Unknown vendor: zz"),
        (
            Refusal::Security(SecurityFailure::Expired { difference_seconds: 301 }),
            403,
            "Security validation failed: Request expired (timestamp difference: 301s)",
        ),
        (
            Refusal::Security(SecurityFailure::InvalidTimestamp),
            403,
            "Security validation failed: Invalid timestamp format",
        ),
        (
            Refusal::Security(SecurityFailure::InvalidSignature),
            403,
            "Security validation failed: Invalid signature",
        ),
        (Refusal::MaxSpend, 403, "Customer max spend reached for this period"),
        (Refusal::BorrowNotFound, 404, "Borrow record not found"),
        (Refusal::ToolNotFound, 404, "Tool not found"),
        (Refusal::KeyNotFound, 404, "API key not found"),
        (Refusal::MissingAuthorization, 401, "Missing Authorization header"),
        (Refusal::InvalidAdminKey, 403, "Invalid admin API key"),
        (Refusal::ReturnNeedsKey, 403, "Returning needs the API key of the borrow"),
        (Refusal::TooManyRequests, 429, "Too many requests"),
        (Refusal::Unavailable, 503, "Service unavailable"),
    ] {
        assert_eq!((refusal.http_status(), refusal.body().detail.as_str()), (status, detail));
    }
}

/// One entry of pydantic's list.
fn wrong(kind: &str, name: &str, msg: &str, input: Value) -> Value {
    json!({"type": kind, "loc": ["body", name], "msg": msg, "input": input})
}

/// The same with the bound that was passed.
fn bounded(kind: &str, name: &str, msg: &str, input: Value, ctx: Value) -> Value {
    let mut error = wrong(kind, name, msg, input);
    error["ctx"] = ctx;
    error
}

fn check_wrong(body: &str, detail: Value) {
    let errors = BorrowRequest::from_body(body.as_bytes()).unwrap_err();
    assert_eq!(serde_json::to_value(errors).unwrap(), json!({ "detail": detail }), "{body}");
}

#[test]
fn missing_and_wrong_fields_are_listed_as_fastapi_lists_them() {
    let required = "Field required";
    let text = "Input should be a valid string";
    let long = "x".repeat(257);
    for (body, detail) in [
        (json!({"tool": "x"}), json!([wrong("missing", "user", required, json!({"tool": "x"}))])),
        (
            json!({}),
            json!([
                wrong("missing", "tool", required, json!({})),
                wrong("missing", "user", required, json!({})),
            ]),
        ),
        (
            json!({"tool": 5, "user": null}),
            json!([
                wrong("string_type", "tool", text, json!(5)),
                wrong("string_type", "user", text, json!(null)),
            ]),
        ),
    ] {
        check_wrong(&body.to_string(), detail);
    }
    for (tool, kind, msg, ctx) in [
        (
            "",
            "string_too_short",
            "String should have at least 1 character",
            Some(json!({"min_length": 1})),
        ),
        (
            &long,
            "string_too_long",
            "String should have at most 256 characters",
            Some(json!({"max_length": 256})),
        ),
        ("a\nb", "string_pattern_mismatch", "String should have no control characters", None),
    ] {
        let error = match ctx {
            Some(ctx) => bounded(kind, "tool", msg, json!(tool), ctx),
            None => wrong(kind, "tool", msg, json!(tool)),
        };
        check_wrong(&json!({"tool": tool, "user": "u"}).to_string(), json!([error]));
    }
}

#[test]
fn bodies_that_are_no_object_are_refused_as_fastapi_refuses_them() {
    check_wrong(
        "",
        json!([{"type": "missing", "loc": ["body"], "msg": "Field required", "input": null}]),
    );
    check_wrong(
        "[1]",
        json!([{
            "type": "model_attributes_type", "loc": ["body"],
            "msg": "Input should be a valid dictionary or object to extract fields from",
            "input": [1]
        }]),
    );
    check_wrong(
        "{",
        json!([{
            "type": "json_invalid", "loc": ["body", 0], "msg": "JSON decode error",
            "input": {}, "ctx": {"error": "Expecting value"}
        }]),
    );
}

#[test]
fn good_requests_are_read_and_limits_are_amounts() {
    let good = BorrowRequest::from_body(br#"{"tool": "T", "user": "u", "more": 1}"#).unwrap();
    assert_eq!((good.tool.as_str(), good.user.as_str()), ("T", "u"));
    assert_eq!(ReturnRequest::from_body(br#"{"id":"nope"}"#).unwrap().id, "nope");
    let key = br#"{"name":"golden","environment":"test","tenant_id":"acme"}"#;
    assert_eq!(NewKeyRequest::from_body(key).unwrap().tenant_id, "acme");
    for (max_spend, wants) in [
        (json!(100), Ok(Some(100.0))),
        (json!(99.5), Ok(Some(99.5))),
        (json!(null), Ok(None)),
        (json!(-1), Err("greater_than_equal")),
        (json!("100"), Err("float_type")),
    ] {
        let body = json!({"tool": "T", "max_spend": max_spend}).to_string();
        let read = ProtectionRequest::from_body(body.as_bytes());
        match (&read, wants) {
            (Ok(request), Ok(limit)) => {
                let written = serde_json::to_value(request.max_spend).unwrap();
                assert_eq!(written.as_f64(), limit, "{body}");
            }
            (Err(errors), Err(kind)) => assert_eq!(errors.detail[0].kind, kind, "{body}"),
            _ => panic!("{body}: {read:?}"),
        }
    }
}

#[test]
fn api_keys_have_three_parts() {
    let new = api_key::generate("acme", "test", &[0xfb; 32]).unwrap();
    let text = new.expose();
    assert_eq!(text.len(), "acme_test_pk_".len() + 43);
    assert_eq!(api_key::parse(text), Ok(ApiKeyParts { tenant: "acme", environment: "test" }));
    // The secret part may hold the mark itself, and a tenant may hold underscores.
    let tricky = format!("big_co_live_pk_{}_pk_{}", "A".repeat(20), "A".repeat(19));
    let parts = api_key::parse(&tricky).unwrap();
    assert_eq!(parts, ApiKeyParts { tenant: "big_co", environment: "live" });
    assert_ne!(api_key::digest(text), api_key::digest(&tricky));
    let secret = "A".repeat(43);
    for text in [
        String::new(),
        "nope".to_owned(),
        secret.clone(),
        format!("_pk_{secret}"),
        format!("test_pk_{secret}"),
        format!("_test_pk_{secret}"),
        format!("acme__pk_{secret}"),
        format!("acme_test_sk_{secret}"),
        format!("acme_test_pk_{}", &secret[1..]),
        format!("acme_test_pk_{}+", &secret[1..]),
        format!("ac|me_test_pk_{secret}"),
        format!("acme_test_pk_{}é", "A".repeat(42)),
    ] {
        assert!(api_key::parse(&text).is_err(), "{text}");
    }
    for (tenant, environment) in
        [("", "test"), ("a b", "test"), ("acme", ""), ("acme", "te_st"), (&"t".repeat(65), "test")]
    {
        assert!(
            api_key::generate(tenant, environment, &[0; 32]).is_err(),
            "{tenant} {environment}"
        );
    }
    assert_eq!(api_key::key_id([0x1a; 8]), "key_1a1a1a1a1a1a1a1a");
}

#[test]
fn bodies_are_compact_and_in_the_order_that_the_c_client_searches() {
    for (unix_ms, utc) in [
        (1_795_325_355_474, "2026-11-22T05:29:15.474000+00:00"),
        (1_795_325_355_000, "2026-11-22T05:29:15+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        (-1, "1969-12-31T23:59:59.999000+00:00"),
    ] {
        assert_eq!(iso_utc(unix_ms), utc);
        assert_eq!(format!("{}+00:00", iso_naive(unix_ms)), utc);
    }
    let borrow = Borrow {
        id: "i".to_owned(),
        tool: "T".to_owned(),
        user: "u".to_owned(),
        borrowed_at: iso_utc(0),
    };
    assert!(serde_json::to_string(&borrow).unwrap().starts_with(r#"{"id":"i","tool":"T""#));
    let charge = OverageCharge {
        id: "i".to_owned(),
        tool: "T".to_owned(),
        user: "u".to_owned(),
        amount: Money(Decimal::from(400)),
        charged_at: iso_utc(0),
    };
    let key = KeyView {
        id: "key_1".to_owned(),
        tenant_id: "acme".to_owned(),
        name: "golden".to_owned(),
        environment: "test".to_owned(),
        created_at: iso_naive(0),
        last_used_at: None,
        status: KeyStatus::Revoked,
    };
    let revoked = KeyRevoked { status: OkStatus::Ok, key_id: "key_1".to_owned() };
    let new = NewKeyAnswer { key_id: "key_1".to_owned(), api_key: Disclosed::new("k".to_owned()) };
    insta::assert_json_snapshot!("classic", (charge, key, revoked, new));
}
