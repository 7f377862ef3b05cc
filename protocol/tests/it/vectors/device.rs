//! `device_fingerprint.json`, `device_payload.json` and `device_schedule.json`: what needs no key.

use protocol::device::fingerprint::{
    self, Inputs, cpu_hash, go_arch, go_os, is_fingerprint, linux_cpu_name, macos_mac_address,
    windows_cpu_name, windows_mac_address,
};
use protocol::device::key::LicenseKey;
use protocol::device::payload::LicenseData;
use protocol::device::schedule::{
    CheckMode, background_wait_ms, effective_interval_seconds, is_due, next_check_ms,
};
use protocol::device::time::LicenseTime;
use serde_json::json;

use super::document::{Node, list, object, text};

/// Of the first machine of `device_fingerprint.json`.
pub(super) const FINGERPRINT: &str =
    "ea09eb4ae4c104f634d23577acd468c0cb8d27154534c92c3df8ed1809edfe12";
/// The key of the license, as people see it.
pub(super) const KEY: &str = "NRSWC-43FNB-XWYZB-AOZSW-G5DPO-JZSAM-BQGFQ-DCF3Y";
pub(super) const CLIENT: &str = "6f1d2c3b-4a59-4687-96a5-b4c3d2e1f001";
pub(super) const EMAIL: &str = "owner@example.com";

const MACHINES: [(&str, Inputs<'static>); 6] = {
    let whole = Inputs {
        hostname: Some("build-07"),
        os: "linux",
        arch: "amd64",
        mac_address: Some("52:54:00:12:34:56"),
        cpu_name: Some("AMD EPYC 7B13"),
    };
    [
        ("a Linux machine", whole),
        ("no address", Inputs { mac_address: None, ..whole }),
        ("no CPU name", Inputs { cpu_name: None, ..whole }),
        ("no host name leaves its part out", Inputs { hostname: None, ..whole }),
        (
            "nothing but system and architecture",
            Inputs {
                hostname: None,
                mac_address: None,
                cpu_name: None,
                os: "darwin",
                arch: "arm64",
            },
        ),
        ("a host name outside ASCII", Inputs { hostname: Some("büro-01"), ..whole }),
    ]
};

pub(super) fn make_fingerprint() -> Node {
    let machines = MACHINES.map(|(name, inputs)| {
        object! {
            name: name,
            hostname: inputs.hostname,
            os: inputs.os,
            arch: inputs.arch,
            mac_address: inputs.mac_address,
            cpu_name: inputs.cpu_name,
            cpu_hash: inputs.cpu_name.map(cpu_hash),
            line: inputs.line(),
            fingerprint: fingerprint::fingerprint(&inputs),
        }
    });
    assert_eq!(fingerprint::fingerprint(&MACHINES[0].1), FINGERPRINT);
    let longest = "f".repeat(fingerprint::MAX_CHARS);
    let texts = [
        FINGERPRINT,
        "A-Z_a-z-0123_789",
        "0123456789abcde",
        "0123456789abcdef",
        &longest,
        &format!("{longest}f"),
        "0123456789abcde ",
        "0123456789abcdé",
        "",
    ]
    .map(|text| object! { text: text, is_accepted: is_fingerprint(text) });
    let readings = [
        ("linux_cpu_name", "processor\t: 0\nmodel name\t: AMD EPYC: x\n"),
        ("linux_cpu_name", "processor\t: 0\nmodel name\t: AMD EPYC 7B13\n"),
        ("linux_cpu_name", "Hardware\t: BCM2835\n"),
        ("macos_mac_address", "en0: flags=8863\n\tether a4:83:e7:00:11:22 \n"),
        ("windows_mac_address", "\r\n\"52-54-00-12-34-56\",\"\\Device\\Tcpip\"\r\n"),
        ("windows_cpu_name", "Name\r\nIntel(R) Core(TM) i7  \r\n"),
        ("windows_cpu_name", "Name\r\n"),
        ("go_os", "macos"),
        ("go_arch", "x86_64"),
        ("go_arch", "aarch64"),
    ]
    .map(|(reader, input)| {
        let output = match reader {
            "linux_cpu_name" => linux_cpu_name(input),
            "macos_mac_address" => macos_mac_address(input),
            "windows_mac_address" => windows_mac_address(input),
            "windows_cpu_name" => windows_cpu_name(input),
            "go_os" => Some(go_os(input)),
            _ => Some(go_arch(input)),
        };
        object! { reader: reader, input: input, output: output }
    });
    super::file(
        "Fingerprints of machines: the line that is hashed and its SHA-256, which texts a server \
         takes as one, and what is read from the outputs of systems.",
        &["Licensing SDK Protocol Overview, section 2"],
        vec![("machines", list(machines)), ("texts", list(texts)), ("readings", list(readings))],
    )
}

/// The license of every device vector: monthly, with entitlements.
pub(super) fn license() -> LicenseData {
    let key = LicenseKey::generate(b"leasehold vectors 001", CLIENT, EMAIL);
    assert_eq!(key.hyphenated().expose(), KEY);
    let seen_at = "2027-01-15T08:00:00.123456789Z";
    let scope = |slug: &str, permission: &str, limit: u64| {
        json!({
            "scope_id": format!("scope-{slug}"), "scope_slug": slug,
            "permission": permission, "limit": limit,
        })
    };
    let feature = |slug: &str, enabled: bool, scopes: serde_json::Value| {
        json!({
            "feature_id": format!("feature-{slug}"), "feature_slug": slug,
            "category": "api", "enabled": enabled, "scopes": scopes,
        })
    };
    let document = json!({
        "id": "b2a1c0d9-e8f7-4061-9253-84756a7b8c9d",
        "license_key": KEY,
        "client_id": CLIENT,
        "subject_client_id": CLIENT,
        "email": EMAIL,
        "plan_id": "plan-gold",
        "plan_slug": "gold",
        "product_id": "product-studio",
        "relationship": "direct",
        "issued_at": "2027-01-14T08:00:00Z",
        "expires_at": "2028-01-14T08:00:00.5Z",
        "last_activated_at": seen_at,
        "last_check_at": seen_at,
        "next_check_at": "2027-02-01T00:00:00Z",
        "check_mode": "monthly",
        "max_devices": 5,
        "device_count": 1,
        "current_activations": 1,
        "devices": [
            { "fingerprint": FINGERPRINT, "activated_at": seen_at, "last_seen_at": seen_at },
        ],
        "entitlements": {
            "product_id": "product-studio", "product_slug": "studio",
            "plan_id": "plan-gold", "plan_slug": "gold",
            "features": {
                "export": feature("export", true, json!({
                    "create": scope("create", "limit", 10),
                    "list": scope("list", "allow", 0),
                    "delete": scope("delete", "deny", 0),
                    "unlimited": scope("unlimited", "limit", 0),
                    "future": scope("future", "perhaps", 3),
                })),
                "import": feature("import", false, json!({ "read": scope("read", "allow", 0) })),
                "report": feature("report", true, json!({})),
            },
        },
    });
    LicenseData::from_json(document.to_string().as_bytes()).unwrap()
}

/// How lenient a reader is, and about what.
fn readings_of_payloads() -> Vec<Node> {
    let bare = r#"{"id":"x","license_key":"K"}"#;
    [
        ("no entitlements allow nothing", bare.to_owned()),
        (
            "null is as absent",
            r#"{"id":"x","license_key":"K","entitlements":null,
            "check_mode":null,"next_check_at":null,"last_check_at":"","devices":null}"#
                .to_owned(),
        ),
        (
            "a mode of a later release is checked at every start",
            bare.replace('}', r#","check_mode":"hourly"}"#),
        ),
        (
            "a trial ends with the license unless it says otherwise",
            bare.replace('}', r#","is_trial":true,"expires_at":"2027-02-01T00:00:00Z"}"#),
        ),
        (
            "a trial with an end of its own",
            bare.replace(
                '}',
                concat!(
                    r#","is_trial":true,"expires_at":"2027-02-01T00:00:00Z","#,
                    r#""trial_expires_at":"2027-01-20T00:00:00Z"}"#
                ),
            ),
        ),
        ("no license", "{}".to_owned()),
        ("a number as a text", bare.replace('}', r#","max_devices":"5"}"#)),
    ]
    .map(|(name, json)| {
        let read = LicenseData::from_json(json.as_bytes()).ok();
        object! {
            name: name,
            json: json,
            is_read: read.is_some(),
            check_mode: read.as_ref().map(|license| license.check_mode.name()),
            allows_export: read.as_ref().map(|license| license.allows_feature("export")),
            trial_ends_at: read
                .as_ref()
                .and_then(LicenseData::trial_ends_at)
                .map(|time| time.to_string()),
        }
    })
    .to_vec()
}

pub(super) fn make_payload() -> Node {
    let json = license().to_json();
    let license = LicenseData::from_json(&json).unwrap();
    let features = ["export", "import", "report", "nosuch", "Export", ""]
        .map(|slug| object! { feature: slug, is_allowed: license.allows_feature(slug) });
    let scopes = [
        ("export", "create"),
        ("export", "list"),
        ("export", "delete"),
        ("export", "unlimited"),
        ("export", "future"),
        ("export", "nosuch"),
        ("import", "read"),
        ("report", "read"),
        ("nosuch", "create"),
    ]
    .map(|(feature, scope)| {
        let is_allowed = license.allows_scope(feature, scope);
        let limit = license.scope_limit(feature, scope).filter(|_| is_allowed);
        object! { feature: feature, scope: scope, is_allowed: is_allowed, limit: limit }
    });
    super::file(
        "The license inside: its bytes, and what its entitlements allow.",
        &["Licensing SDK Protocol Overview, section 4"],
        vec![
            ("license_json", text(&json).into()),
            ("features", list(features)),
            ("scopes", list(scopes)),
            ("read", Node::List(readings_of_payloads())),
        ],
    )
}

fn ms(time: &str) -> i64 {
    time.parse::<LicenseTime>().unwrap().unix_ms()
}

fn shown(unix_ms: i64) -> String {
    LicenseTime::from_unix_ms(unix_ms).to_string()
}

pub(super) fn make_schedule() -> Node {
    let next = [
        ("none", None, "2027-01-15T08:00:00Z"),
        ("each_execution", None, "2027-01-15T08:00:00Z"),
        ("monthly", None, "2027-01-15T08:00:00Z"),
        ("monthly", None, "2027-01-01T00:00:00Z"),
        ("monthly", None, "2027-01-31T23:59:59.999Z"),
        ("monthly", None, "2027-12-31T12:00:00Z"),
        ("monthly", None, "2028-02-29T12:00:00Z"),
        ("yearly", None, "2027-01-15T08:00:00.123Z"),
        ("yearly", None, "2028-02-29T12:00:00Z"),
        ("yearly", None, "2027-02-28T12:00:00Z"),
        ("custom", Some(3_600), "2027-01-15T08:00:00.5Z"),
        ("custom", Some(300), "2027-01-15T08:00:00Z"),
        ("custom", Some(299), "2027-01-15T08:00:00Z"),
        ("custom", Some(0), "2027-01-15T08:00:00Z"),
        ("custom", None, "2027-01-15T08:00:00Z"),
        ("custom", Some(3_600), "9999-12-30T21:30:00Z"),
    ]
    .map(|(mode, interval_seconds, checked_at)| {
        let of = CheckMode::from_name(mode).unwrap();
        object! {
            check_mode: mode,
            check_interval_seconds: interval_seconds,
            checked_at: checked_at,
            next_check_at: next_check_ms(of, interval_seconds, ms(checked_at)).map(shown),
        }
    });
    let mut due = Vec::new();
    for mode in CheckMode::ALL {
        for (next_check_at, now) in [
            (Some("2027-02-01T00:00:00Z"), "2027-01-31T23:59:59.999Z"),
            (Some("2027-02-01T00:00:00Z"), "2027-02-01T00:00:00Z"),
            (Some("0001-01-01T00:00:00Z"), "2027-02-01T00:00:00Z"),
            (None, "2027-02-01T00:00:00Z"),
        ] {
            let next: Option<LicenseTime> = next_check_at.map(|time| time.parse().unwrap());
            due.push(object! {
                check_mode: mode.name(),
                next_check_at: next_check_at,
                check_interval_seconds: 3_600_u64,
                now: now,
                is_due: is_due(mode, next, ms(now)),
                background_wait_ms: background_wait_ms(mode, next, Some(3_600), ms(now)),
            });
        }
    }
    let modes = [
        Some("none"),
        Some("Monthly"),
        Some(" CUSTOM "),
        Some("each_execution"),
        Some("hourly"),
        Some(""),
        None,
    ]
    .map(|name| object! { text: name, check_mode: CheckMode::of_payload(name).name() });
    let intervals = [None, Some(0), Some(299), Some(300), Some(301)].map(|asked: Option<u64>| {
        object! { asked_seconds: asked, kept_seconds: effective_interval_seconds(asked) }
    });
    super::file(
        "When a device verifies again: the next check after one, whether a check is due, how long \
         a running program waits in the background, and how modes and intervals are read. In UTC.",
        &["Licensing SDK Protocol Overview, section 5"],
        vec![
            ("next_check", list(next)),
            ("due", Node::List(due)),
            ("modes", list(modes)),
            ("intervals", list(intervals)),
        ],
    )
}
