//! The wire of license keys, clients, activations and offline use: what is read, what is refused
//! with the field to blame, and what an answer looks like.

use protocol::cloud::admin::{
    ActivationChangeRequest, ActivationQuery, ActivationState, AddClientRequest, BorrowParty,
    BorrowRules, ClassicVendorRequest, ClientQuery, IssueLicenseRequest, LicensePlan,
    LicenseProtocol, LicenseQuery, LicenseState, OfflineQuery, PlanCheckMode,
    RotateEvaluationKeyRequest, ScopePermission, WriteOffRequest, is_email,
};
use protocol::cloud::body::{BodyError, decode};
use protocol::cloud::lease::{
    BorrowRequest, MAX_OFFLINE_TOKEN_CHARS, OfflineValidateRequest, ReturnBorrowRequest,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Decodes a body; the code and the field of an error, or nothing.
fn fault<T: DeserializeOwned>(body: &Value) -> Option<(&'static str, Option<String>)> {
    let error = decode::<T>(body.to_string().as_bytes()).err()?;
    Some((error.code(), error.field().map(str::to_owned)))
}

#[track_caller]
fn refused<T: DeserializeOwned>(body: &Value, field: &str) {
    let field = Some(field.to_owned()).filter(|field| !field.is_empty());
    assert_eq!(fault::<T>(body), Some(("invalid_field", field)), "{body}");
}

fn with(mut body: Value, path: &[&str], value: Value) -> Value {
    let mut place = &mut body;
    for name in path {
        place = &mut place[*name];
    }
    *place = value;
    body
}

fn issue() -> Value {
    json!({
        "protocol": "device", "package_id": "p-1", "email": "Alice@BMW.com",
        "valid_from": "2026-01-01T00:00:00Z", "duration_days": 365,
        "plan": {
            "slug": "gold", "max_devices": 3, "check_mode": "custom",
            "check_interval_seconds": 300, "offline_seconds": 86_400, "trial": true,
            "features": [
                {"slug": "export", "category": "api", "scopes": [
                    {"slug": "rows", "permission": "limit", "limit": 100,
                     "metadata": {"unit": "row"}},
                    {"slug": "all", "permission": "deny"}
                ]},
                {"slug": "import", "enabled": false}
            ],
            "quotas": {"tokens": 1_000_000, "cpu_hours": 1.5}
        }
    })
}

#[test]
fn a_license_is_asked_for_with_its_plan() {
    let request: IssueLicenseRequest = decode(issue().to_string().as_bytes()).unwrap();
    request.check().unwrap();
    assert_eq!(request.email.as_deref(), Some("alice@bmw.com"));
    let plan = &request.plan;
    assert_eq!((plan.slug.as_deref(), plan.max_activations), (Some("gold"), Some(3)));
    assert_eq!(plan.check_mode, Some(PlanCheckMode::Custom));
    let [export, import] = plan.features.as_slice() else { panic!("{plan:?}") };
    assert!(export.enabled && !import.enabled);
    let rows = &export.scopes[0];
    assert_eq!((rows.permission, rows.limit), (ScopePermission::Limit, Some(100)));
    assert_eq!(plan.quotas["cpu_hours"].0.to_string(), "1.5");
    // What is written is read as the same, and says max_activations for every protocol.
    let text = serde_json::to_string(&request).unwrap();
    assert!(text.contains(r#""max_activations":3"#), "{text}");
    assert_eq!(decode::<IssueLicenseRequest>(text.as_bytes()).unwrap(), request);
}

#[test]
fn what_is_left_out_of_a_plan_is_as_the_protocol_has_it() {
    let body = br#"{"protocol":"evaluation","package_id":"p-1"}"#;
    let request: IssueLicenseRequest = decode(body).unwrap();
    assert_eq!(request.plan, LicensePlan::default());
    for (protocol, kind, activations, days, slot_ttl_seconds) in [
        (LicenseProtocol::Device, "standard", 0, 0, 0),
        (LicenseProtocol::Deployment, "standard", 1, 0, 86_400),
        (LicenseProtocol::Evaluation, "evaluation", 0, 30, 0),
    ] {
        let plan = LicensePlan::default().completed(protocol);
        assert_eq!((plan.slug.as_deref(), plan.kind.as_deref()), (Some("standard"), Some(kind)));
        assert_eq!(plan.max_activations, Some(activations), "{protocol:?}");
        assert_eq!(plan.activation_days, Some(days), "{protocol:?}");
        assert_eq!(plan.slot_ttl_seconds, Some(slot_ttl_seconds), "{protocol:?}");
        assert_eq!((plan.max_nodes, plan.seats_per_activation), (Some(0), Some(1)));
        assert_eq!((plan.offline_seconds, plan.product.as_deref()), (Some(0), None));
        let own = LicensePlan { max_activations: Some(7), ..plan };
        assert_eq!(own.clone().completed(protocol), own);
    }
}

#[test]
fn a_wrong_license_names_the_field() {
    let plan = |name: &'static str, value: Value| (vec!["plan", name], value);
    let scope =
        |scope: Value| (vec!["plan", "features"], json!([{"slug": "a", "scopes": [scope]}]));
    for ((path, value), field) in [
        ((vec!["protocol"], json!("cloud")), "protocol"),
        ((vec!["package_id"], json!("../p")), "package_id"),
        ((vec!["email"], json!("alice")), "email"),
        ((vec!["organization"], json!("a\nb")), "organization"),
        ((vec!["valid_from"], json!("2026-01-01")), "valid_from"),
        ((vec!["duration_days"], json!(0)), "duration_days"),
        ((vec!["duration_days"], json!(36_526)), "duration_days"),
        ((vec!["licence"], json!(1)), "licence"),
        ((vec!["plan"], json!([])), "plan"),
        (plan("slug", json!("a b")), "plan.slug"),
        (plan("max_devices", json!(-1)), "plan.max_devices"),
        (plan("max_activations", json!(3)), "plan.max_activations"),
        (plan("seats_per_activation", json!(0)), "plan.seats_per_activation"),
        (plan("check_mode", json!("daily")), "plan.check_mode"),
        (plan("check_interval_seconds", json!(299)), "plan.check_interval_seconds"),
        (plan("slot_ttl_seconds", json!(31_622_401)), "plan.slot_ttl_seconds"),
        (plan("max_device", json!(3)), "plan.max_device"),
        (plan("quotas", json!({"tokens": -1})), "plan.quotas.tokens"),
        (plan("quotas", json!({"a b": 1})), "plan.quotas"),
        (plan("features", json!([{"slug": "a"}, {"slug": "a"}])), "plan.features"),
        (plan("features", json!([{"slug": ""}])), "plan.features[0].slug"),
        (plan("features", json!([["a"]])), "plan.features[0]"),
        (scope(json!({"slug": "s"})), "plan.features[0].scopes[0].permission"),
        (
            scope(json!({"slug": "s", "permission": "maybe"})),
            "plan.features[0].scopes[0].permission",
        ),
        (
            scope(json!({"slug": "s", "permission": "allow", "limit": -1})),
            "plan.features[0].scopes[0].limit",
        ),
        (
            scope(
                json!({"slug": "s", "permission": "allow", "metadata": {"a": "x".repeat(1_024)}}),
            ),
            "plan.features[0].scopes[0].metadata",
        ),
    ] {
        refused::<IssueLicenseRequest>(&with(issue(), &path, value), field);
    }
    let many: Vec<Value> = (0..65).map(|n| json!({"slug": format!("f{n}")})).collect();
    refused::<IssueLicenseRequest>(
        &with(issue(), &["plan", "features"], json!(many)),
        "plan.features",
    );
    refused::<IssueLicenseRequest>(&json!({"protocol": "device"}), "package_id");
}

#[test]
fn fields_of_a_license_that_do_not_go_together_are_refused() {
    let device = || json!({"protocol": "device", "package_id": "p-1", "email": "a@b.c"});
    let other = |protocol: &str| json!({"protocol": protocol, "package_id": "p-1"});
    for (body, field) in [
        (device(), None),
        (other("deployment"), None),
        (with(other("evaluation"), &["open"], json!(true)), None),
        (with(other("deployment"), &["plan"], json!({"max_nodes": 5})), None),
        (other("device"), Some("email")),
        (with(device(), &["client_id"], json!("c-1")), Some("email")),
        (with(device(), &["organization"], json!("BMW AG")), Some("organization")),
        (with(device(), &["open"], json!(true)), Some("open")),
        (with(device(), &["plan"], json!({"max_nodes": 5})), Some("plan.max_nodes")),
        (
            with(other("evaluation"), &["plan"], json!({"check_mode": "yearly"})),
            Some("plan.check_mode"),
        ),
        (
            with(device(), &["plan"], json!({"check_mode": "custom"})),
            Some("plan.check_interval_seconds"),
        ),
        (
            with(device(), &["plan"], json!({"check_interval_seconds": 300})),
            Some("plan.check_interval_seconds"),
        ),
        (
            with(
                with(device(), &["valid_until"], json!("2027-01-01T00:00:00Z")),
                &["duration_days"],
                json!(1),
            ),
            Some("duration_days"),
        ),
        (
            with(
                with(device(), &["valid_until"], json!("2027-01-01T00:00:00Z")),
                &["valid_from"],
                json!("2027-01-01T00:00:00Z"),
            ),
            Some("valid_until"),
        ),
    ] {
        let request: IssueLicenseRequest = decode(body.to_string().as_bytes()).unwrap();
        let error = request.check().err();
        assert_eq!(error.as_ref().and_then(BodyError::field), field, "{body}");
    }
}

#[test]
fn small_requests_name_the_field_that_is_wrong() {
    for (body, field) in [(json!({"email": "a b@c"}), "email"), (json!({}), "email")] {
        refused::<AddClientRequest>(&body, field);
    }
    refused::<ActivationChangeRequest>(&json!({"writeoff": true}), "writeoff");
    refused::<ActivationChangeRequest>(&json!({"write_off": "yes"}), "write_off");
    for (body, field) in [(json!({}), "reason"), (json!({"reason": ""}), "reason")] {
        refused::<WriteOffRequest>(&body, field);
    }
    refused::<RotateEvaluationKeyRequest>(&json!({"minimum": 0}), "minimum");
    refused::<RotateEvaluationKeyRequest>(&json!({"secret": "short"}), "secret");
    let spaces = json!({"vendor_id": "v", "secret": "sixteen letters and spaces"});
    refused::<ClassicVendorRequest>(&spaces, "secret");
    refused::<ClassicVendorRequest>(&json!({"vendor_id": "v"}), "secret");
    for (body, field) in [
        (json!({"max_seconds": 31_622_401}), "max_seconds"),
        (json!({"seats_max": -1}), "seats_max"),
        (json!({"include": [{"group": "x"}]}), "include[0]"),
        (json!({"exclude": [{"user": ""}]}), "exclude[0].user"),
        (json!({"exclude": "alice"}), "exclude"),
        (json!({"reserve": 1}), "reserve"),
    ] {
        refused::<BorrowRules>(&body, field);
    }
    for (body, field) in [
        (json!({"renewal_token": "t"}), "duration_seconds"),
        (json!({"renewal_token": "t", "duration_seconds": 0}), "duration_seconds"),
        (json!({"renewal_token": "t", "duration_seconds": 31_622_401}), "duration_seconds"),
        (json!({"renewal_token": "", "duration_seconds": 1}), "renewal_token"),
    ] {
        refused::<BorrowRequest>(&body, field);
    }
    refused::<ReturnBorrowRequest>(&json!({"renewal_token": 7}), "renewal_token");
    let long = json!({"offline_token": "x".repeat(MAX_OFFLINE_TOKEN_CHARS + 1)});
    refused::<OfflineValidateRequest>(&long, "offline_token");
}

#[test]
fn small_requests_are_read_and_written_alike() {
    #[track_caller]
    fn alike<T: DeserializeOwned + serde::Serialize>(body: Value) {
        let request: T = decode(body.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&request).unwrap(), body);
    }
    alike::<AddClientRequest>(json!({"email": "a@b.c"}));
    alike::<ActivationChangeRequest>(json!({"reason": "sold", "write_off": true}));
    alike::<WriteOffRequest>(json!({"reason": "stolen"}));
    alike::<RotateEvaluationKeyRequest>(json!({"minimum": 2, "secret": "eval-secret-key-v2"}));
    alike::<RotateEvaluationKeyRequest>(json!({}));
    alike::<ClassicVendorRequest>(json!({"vendor_id": "v", "secret": "eval-secret-key-v2"}));
    alike::<BorrowRules>(json!({"max_seconds": 0, "seats_max": 5, "online_reserve": 2,
        "include": [{"user": "alice"}], "exclude": [{"host": "kiosk"}]}));
    alike::<BorrowRequest>(json!({"renewal_token": "t", "duration_seconds": 31_622_400}));
    alike::<OfflineValidateRequest>(json!({"offline_token": "ey.x.y"}));
    let twice = br#"{"exclude":[{"user":"b"},{"host":"b"},{"user":"b"}]}"#;
    let rules: BorrowRules = decode(twice).unwrap();
    let b = || "b".to_owned();
    assert_eq!(rules.exclude, [BorrowParty::User(b()), BorrowParty::Host(b())]);
}

/// Fields as a query string gives them: every value is a text.
fn query<T: DeserializeOwned>(fields: &[(&'static str, &'static str)]) -> Result<T, String> {
    let pairs = fields.iter().copied();
    serde_urlencoded::from_str(&serde_urlencoded::to_string(pairs.collect::<Vec<_>>()).unwrap())
        .map_err(|error| error.to_string())
}

#[test]
fn queries_are_read_from_text_and_bounded() {
    let all: LicenseQuery = query(&[]).unwrap();
    assert_eq!((all.limit, all.state, all.cursor), (100, None, None));
    let some: LicenseQuery =
        query(&[("state", "not_yet_valid"), ("protocol", "device"), ("limit", "7")]).unwrap();
    assert_eq!((some.limit, some.state), (7, Some(LicenseState::NotYetValid)));
    let expiring: ActivationQuery = query(&[
        ("protocol", "evaluation"),
        ("state", "active"),
        ("org_id", "acme gmbh"),
        ("expires_from", "2026-11-01T00:00:00Z"),
        ("expires_until", "2026-12-01T00:00:00Z"),
    ])
    .unwrap();
    assert_eq!(expiring.org_id.as_deref(), Some("acme gmbh"));
    assert_eq!(expiring.state, Some(ActivationState::Active));
    assert!(expiring.expires_from < expiring.expires_until);
    let by_email: ClientQuery = query(&[("email", "A@B.c")]).unwrap();
    assert_eq!(by_email.email.as_deref(), Some("a@b.c"));
    for (fields, says) in [
        (("limit", "0"), "want 1 to 1000"),
        (("state", "gone"), "gone"),
        (("after", "x"), "after"),
        (("client_id", "a b"), "want 1 to 128"),
    ] {
        let error = query::<LicenseQuery>(&[fields]).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert!(query::<ActivationQuery>(&[("expires_from", "tomorrow")]).is_err());
    assert!(query::<OfflineQuery>(&[("limit", "1001")]).is_err());
}

#[test]
fn an_address_has_two_sides_and_no_space() {
    for (text, expected) in [
        ("alice@bmw.com", true),
        ("ü@b", true),
        ("a+b@c", true),
        ("", false),
        ("a@", false),
        ("@b", false),
        ("a@b@c", false),
        ("a b@c", false),
        ("a@b\n", false),
    ] {
        assert_eq!(is_email(text), expected, "{text:?}");
    }
    assert!(is_email(&format!("{}@b", "a".repeat(252))));
    assert!(!is_email(&format!("{}@b", "a".repeat(253))));
}
