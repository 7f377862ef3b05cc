//! The admin API: what its requests must be, and what a plan includes.

use protocol::device::admin::catalog::Catalog;
use protocol::device::admin::catalog_requests::{
    EntitlementsQuery, FeatureRequest, PlanFeatureRequest, PlanRequest, ProductRequest,
    ScopeRequest, read_new,
};
use protocol::device::admin::client::{
    CreateApiKeyRequest, CreateClientRequest, CreateUserRequest, api_key_text, is_api_key,
};
use protocol::device::admin::license::{
    CreateLicenseRequest, LicenseView, SubscribeRequest, masked_key,
};
use protocol::device::admin::{self, AdminFault, AdminRequest, Kind, ReasonRequest};
use protocol::device::key::LicenseKey;
use protocol::device::payload::Permission;
use protocol::device::schedule::CheckMode;
use serde_json::{Value, json};

use super::{KEY, recorded_json};

/// A good request but for some fields, and the fault that it gets; none is none.
#[track_caller]
fn check<T: AdminRequest>(
    good: &Value,
    read: fn(&[u8]) -> Result<T, AdminFault>,
    rows: &[(Value, Option<&str>)],
) {
    assert!(read(good.to_string().as_bytes()).is_ok(), "{good}");
    for (fields, expected) in rows {
        let mut body = good.clone();
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        let fault = read(body.to_string().as_bytes()).err();
        let message = fault.as_ref().map(ToString::to_string);
        match expected {
            None => assert_eq!(message, None, "{body}"),
            Some(part) => {
                let message = message.unwrap_or_else(|| panic!("accepted: {body}"));
                assert!(message.contains(part), "{message:?} for {body}");
                assert_eq!(fault.unwrap().status(), 400);
            }
        }
    }
}

#[test]
fn clients_users_and_keys_are_checked() {
    check::<CreateClientRequest>(
        &json!({"email": "owner@example.com"}),
        admin::read,
        &[
            (json!({"name": "Owner", "company_name": "Acme", "metadata": {"a": ""}}), None),
            (json!({"email": null}), Some("invalid email address")),
            (json!({"email": "owner"}), Some("invalid email address")),
            (json!({"username": "o"}), Some("unknown field `username`")),
            (json!({"name": "a\nb"}), Some("name: want at most 256")),
            (json!({"metadata": {"a": 1}}), Some("metadata")),
        ],
    );
    check::<CreateUserRequest>(
        &json!({"username": "admin", "password": "12345678"}),
        admin::read,
        &[
            (json!({"username": " "}), Some("username is required")),
            (json!({"username": "a/b"}), Some("username has characters")),
            (json!({"password": "1234567"}), Some("password must be at least 8 characters")),
            (json!({"password": "ä".repeat(257)}), Some("password must be at most 256")),
            (json!({"password": null}), Some("password")),
            (json!({"role": "admin"}), Some("unknown field")),
        ],
    );
    check::<CreateApiKeyRequest>(
        &json!({"user_id": "u"}),
        admin::read,
        &[(json!({"user_id": ""}), Some("user_id is required"))],
    );
    let key = api_key_text(&[0xab; 24]);
    assert_eq!(key.expose(), "AB".repeat(24));
    assert!(is_api_key(key.expose()) && !is_api_key(&key.expose().to_lowercase()));
    assert!(!is_api_key(&key.expose()[2..]));
    assert_eq!(ReasonRequest::read(b" \n").unwrap().reason, "");
    assert_eq!(ReasonRequest::read(br#"{"reason":" due "}"#).unwrap().reason, "due");
    assert!(ReasonRequest::read(br#"{"why":"due"}"#).is_err());
}

#[test]
fn licenses_and_subscriptions_are_checked() {
    let good = json!({"client_id": "c", "duration_days": 365, "max_devices": 5,
        "plan_slug": "gold"});
    check::<CreateLicenseRequest>(
        &good,
        admin::read,
        &[
            (json!({"product_id": "p", "package_id": "pkg", "check_mode": "Monthly"}), None),
            (json!({"check_mode": "each_execution"}), None),
            (json!({"plan_slug": "", "plan_id": "2"}), None),
            (json!({"client_id": " "}), Some("client_id is required")),
            (json!({"duration_days": 0}), Some("duration_days must be greater than zero")),
            (json!({"duration_days": 36_526}), Some("duration_days must be at most")),
            (json!({"max_devices": -1}), Some("max_devices must be greater than zero")),
            (json!({"max_devices": 10_000_001}), Some("max_devices must be at most")),
            (json!({"plan_slug": ""}), Some("plan_slug is required")),
            (json!({"plan_slug": "go ld"}), Some("plan_slug: want")),
            (json!({"check_mode": "weekly"}), Some("check_mode must be")),
            (json!({"max_activations": 1}), Some("unknown field `max_activations`")),
        ],
    );
    let license: CreateLicenseRequest = admin::read(good.to_string().as_bytes()).unwrap();
    assert_eq!(license.mode(), Some(CheckMode::Yearly), "when left out");
    check::<SubscribeRequest>(
        &json!({"client_id": "c", "product_id": "p", "plan_id": "gold"}),
        admin::read,
        &[
            (json!({"max_devices": 3}), None),
            (json!({"max_devices": 0}), Some("max_devices must be from 1")),
            (json!({"client_id": ""}), Some("client_id is required")),
            (json!({"product_id": ""}), Some("product_id is required")),
            (json!({"plan_id": null}), Some("plan_id is required")),
        ],
    );
    let long = vec![b' '; 256 * 1024 + 1];
    let fault = admin::read::<SubscribeRequest>(&long).err().unwrap();
    assert!(matches!(fault, AdminFault::TooLong));
}

#[test]
fn new_things_need_names_and_changes_do_not() {
    let named = json!({"name": "Gold", "slug": "gold"});
    let nameless = [
        (json!({"name": " "}), Some("name and slug are required")),
        (json!({"slug": ""}), Some("name and slug are required")),
        (json!({"slug": "a/b"}), Some("slug: want")),
        (json!({"description": "d".repeat(2_049)}), Some("description: want")),
        (json!({"x": 1}), Some("unknown field `x`")),
    ];
    check::<ProductRequest>(&named, read_new, &nameless);
    check::<FeatureRequest>(&named, read_new, &nameless);
    check::<PlanRequest>(&named, read_new, &nameless);
    check::<PlanRequest>(
        &named,
        read_new,
        &[
            (json!({"price": 9_900, "currency": "EUR", "is_trial": true, "trial_days": 14}), None),
            (json!({"price": -1}), Some("price must not be negative")),
            (json!({"trial_days": 367}), Some("trial_days must be at most")),
            (json!({"duration_days": 36_526}), Some("duration_days must be at most")),
            (json!({"max_devices": 10_000_001}), Some("max_devices must be at most")),
            (json!({"check_mode": "weekly"}), Some("check_mode must be")),
        ],
    );
    check::<ScopeRequest>(
        &named,
        read_new,
        &[
            (json!({"permission": "limit", "limit": 5, "metadata": {"unit": "files"}}), None),
            (json!({"permission": "lend"}), Some("permission must be")),
        ],
    );
    check::<PlanFeatureRequest>(
        &json!({"feature_id": "f"}),
        read_new,
        &[
            (json!({"scope_overrides": {"s": {"permission": "deny"}}}), None),
            (json!({"scope_overrides": {"s": {"permission": "lend"}}}), Some("want allow")),
            (json!({"scope_overrides": {"s": {}}}), Some("permission")),
            (json!({"feature_id": ""}), Some("feature_id is required")),
        ],
    );
    for body in [&b"{}"[..], br#"{"description":"new"}"#] {
        assert!(admin::read::<ProductRequest>(body).is_ok());
        assert!(admin::read::<PlanRequest>(body).is_ok());
        assert!(admin::read::<FeatureRequest>(body).is_ok());
    }
    let query = EntitlementsQuery { product_id: "p".to_owned(), plan_id: String::new() };
    assert_eq!(query.check().unwrap_err().to_string(), "product_id and plan_id are required");
}

#[test]
fn faults_have_the_reference_statuses() {
    for (fault, status, message) in [
        (AdminFault::NotFound(Kind::Product), 404, "product not found"),
        (AdminFault::NotFound(Kind::PlanFeature), 404, "plan feature not found"),
        (AdminFault::Exists(Kind::Plan), 409, "plan already exists"),
        (AdminFault::Exists(Kind::Client), 400, "client already exists"),
        (AdminFault::TooLong, 400, "Request body too large"),
    ] {
        assert_eq!((fault.status(), fault.to_string().as_str()), (status, message));
        assert_eq!(fault.body().error, message);
    }
}

/// The catalog behind the recorded entitlements gives those entitlements.
#[test]
fn a_plan_includes_what_the_reference_worked_out() {
    let Some(license) = recorded_json("payloads/license_data_entitlements.json") else { return };
    let expected = &license["entitlements"];
    let export = &expected["features"]["export"];
    let time = "2026-11-22T05:27:12Z";
    let ids = |name: &str| expected[name].as_str().unwrap();
    let (feature, scopes) = (&export["feature_id"], &export["scopes"]);
    let create = scopes["create"]["scope_id"].as_str().unwrap();
    let scope = |slug: &str, permission: &str| {
        json!({"id": scopes[slug]["scope_id"], "feature_id": feature, "name": slug, "slug": slug,
            "permission": permission, "created_at": time, "updated_at": time})
    };
    let catalog: Catalog = serde_json::from_value(json!({
        "product": {"id": ids("product_id"), "name": "Product", "slug": ids("product_slug"),
            "created_at": time, "updated_at": time},
        "plans": [{"id": ids("plan_id"), "product_id": ids("product_id"), "name": "Pro",
            "slug": ids("plan_slug"), "price": 0, "currency": "USD", "billing_cycle": "monthly",
            "is_active": true, "created_at": time, "updated_at": time}],
        "features": [{"id": feature, "product_id": ids("product_id"), "name": "Export",
            "slug": "export", "category": "api", "created_at": time, "updated_at": time}],
        "scopes": [scope("create", "allow"), scope("delete", "allow")],
        "plan_features": [{"id": "row", "plan_id": ids("plan_id"), "feature_id": feature,
            "enabled": true, "created_at": time, "updated_at": time,
            "scope_overrides": {
                create: {"permission": "limit", "limit": 10},
                "delete": {"permission": "deny"}}}],
    }))
    .unwrap();
    let plan = catalog.plan("pro").unwrap();
    assert_eq!(serde_json::to_value(catalog.entitlements(plan)).unwrap(), *expected);
    assert_eq!(catalog.plan(&plan.id).unwrap(), plan);
    assert!(catalog.plan("gold").is_err() && catalog.feature("import").is_err());
    let feature = catalog.feature("export").unwrap();
    assert_eq!(catalog.scope(&feature.id, "delete").unwrap().permission, Permission::Allow);
    assert!(catalog.scope("other", "delete").is_err());
    let details = serde_json::to_value(catalog.plan_feature_details(&plan.id)).unwrap();
    assert_eq!(
        (&details[0]["id"], &details[0]["feature"]["slug"]),
        (&json!("row"), &json!("export"))
    );
    assert_eq!(details[0]["scopes"].as_array().unwrap().len(), 2);
    let stored = serde_json::to_vec(&catalog).unwrap();
    assert_eq!(serde_json::from_slice::<Catalog>(&stored).unwrap(), catalog);
}

#[test]
fn a_masked_key_is_no_key_and_stands_where_a_key_stood() {
    let key = LicenseKey::normalise(KEY).unwrap();
    let masked = masked_key(&key.last_characters());
    assert_eq!(masked.expose(), "*****-*****-*****-*****-*****-*****-*****-*XQ5P");
    assert_eq!(masked.expose().len(), KEY.len());
    assert!(LicenseKey::normalise(masked.expose()).is_err());
    let time = "2026-11-22T05:27:12Z";
    let view = json!({"id": "l", "client_id": "c", "email": "e", "plan_slug": "gold",
        "license_key": masked.expose(), "is_revoked": false, "revoked_at": "0001-01-01T00:00:00Z",
        "is_activated": false, "issued_at": time, "last_activated_at": "0001-01-01T00:00:00Z",
        "expires_at": time, "current_activations": 0, "max_devices": 5, "device_count": 0,
        "devices": {"f": {"fingerprint": "f", "activated_at": time, "last_seen_at": time}},
        "check_mode": "monthly", "next_check_at": "0001-01-01T00:00:00Z",
        "last_check_at": "0001-01-01T00:00:00Z", "is_trial": false,
        "trial_started_at": "0001-01-01T00:00:00Z", "is_suspended": false});
    let read: LicenseView = serde_json::from_value(view.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), view);
}
