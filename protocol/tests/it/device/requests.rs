//! Requests and their faults in order, answers, refusals, trials.

use protocol::device::refusals::Refusal;
use protocol::device::time::LicenseTime;
use protocol::device::trial::{PastTrial, TrialCheckRequest, TrialCheckResponse, TrialRequest};
use protocol::device::wire::{
    ActivationResponse, AnswerError, DeviceRequest, FailureBody, RequestFault,
};
use serde_json::{Value, json};

use super::{FINGERPRINT, KEY, sealed, signer};
use crate::keys::ed25519_key;

fn at(text: &str) -> i64 {
    text.parse::<LicenseTime>().unwrap_or_else(|error| panic!("{text}: {error}")).unix_ms()
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
