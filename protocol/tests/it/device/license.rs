//! The license inside: payload, gates, times and schedules.

use protocol::device::payload::{LicenseData, Relationship};
use protocol::device::schedule::{
    CheckMode, background_wait_ms, effective_interval_seconds, is_due, next_check_ms,
};
use protocol::device::time::LicenseTime;
use serde_json::{Value, json};

use super::KEY;

fn at(text: &str) -> i64 {
    text.parse::<LicenseTime>().unwrap_or_else(|error| panic!("{text}: {error}")).unix_ms()
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
}

#[test]
fn a_payload_keeps_the_words_of_its_relationship_and_names_a_wrong_field() {
    let bare = json!({"id": "l", "license_key": KEY});
    let read = |value: &Value| LicenseData::from_json(value.to_string().as_bytes());
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
