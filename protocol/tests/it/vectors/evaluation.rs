//! `evaluation_license.json` and `evaluation_clock.json`: the license file under every key version,
//! which files are believed when, and how the clocks' offset is learnt.

use std::collections::BTreeMap;

use protocol::evaluation::client::{Memory, Mode, Step, Warning};
use protocol::evaluation::clock_skew::{ClockSkew, SkewChange};
use protocol::evaluation::identity::HostHash;
use protocol::evaluation::key_ring::{KeyRing, KeyVersion};
use protocol::evaluation::license_file::{License, LicenseFile};
use protocol::secret::Secret;

use super::document::{Node, list, object};

const KEYS: [(u32, &str); 3] = [
    (1, "leasehold vector evaluation secret v1"),
    (2, "leasehold vector evaluation secret v2"),
    (10, "leasehold vector evaluation secret v10"),
];
const BEGAN_MS: i64 = 1_800_000_000_123;
const ENDS_MS: i64 = BEGAN_MS + 2_592_000_000;
const HOUR_MS: i64 = 3_600_000;

fn ring(current: u32, minimum: u32) -> KeyRing {
    let keys: BTreeMap<_, _> = KEYS
        .iter()
        .map(|(version, secret)| (KeyVersion(*version), Secret::new(secret.as_bytes().to_vec())))
        .collect();
    KeyRing::new(keys, KeyVersion(current), KeyVersion(minimum)).unwrap()
}

fn license() -> License {
    License {
        kind: "evaluation".to_owned(),
        version: "2.0.0".to_owned(),
        activated_at: BEGAN_MS as f64 / 1_000.0,
        expires_at: ENDS_MS as f64 / 1_000.0,
        activation_id: "act-0f1e2d3c4b5a69788796a5b4c3d2e1f0".to_owned(),
        org_id: Some("org-12345".to_owned()),
        project_id: Some("project-atlas-v2".to_owned()),
        plan: "evaluation".to_owned(),
        hostname: Some("example-host".to_owned()),
        revoked: false,
        offline: false,
    }
}

fn issue(license: &License, version: u32) -> String {
    LicenseFile::issue(license, &ring(version, 1)).to_text()
}

/// Files as a server and a client write them, with the text that is signed.
fn signed() -> Vec<Node> {
    let whole = 1_800_000_000.0;
    let bare = License {
        hostname: None,
        org_id: None,
        project_id: None,
        activated_at: whole,
        expires_at: whole + 1.5,
        ..license()
    };
    let accents = License { org_id: Some("Zürich \"株式会社\" 😀".to_owned()), ..license() };
    let offline = License { offline: true, ..license() };
    [
        ("key version 1", license(), 1),
        ("key version 2", license(), 2),
        ("key version 10", license(), 10),
        ("nulls, no host, whole seconds", bare, 1),
        ("characters outside ASCII", accents, 1),
        ("an offline license", offline, 1),
    ]
    .map(|(name, license, version)| {
        let file = LicenseFile::issue(&license, &ring(version, 1));
        let text = file.to_text();
        let signature = text.rsplit('"').nth(1).unwrap().to_owned();
        object! {
            name: name,
            key_version: KeyVersion(version).to_string(),
            canonical: file.canonical(),
            signature: signature,
            file: text,
        }
    })
    .to_vec()
}

#[derive(Clone)]
struct Check {
    name: &'static str,
    file: String,
    minimum: u32,
    now_ms: i64,
    is_development: bool,
}

/// The first step of a program that starts with this file, and what it warns of.
fn first_step(check: &Check) -> (String, Option<&'static str>) {
    let file = LicenseFile::parse(check.file.as_bytes());
    let ring = ring(10, check.minimum);
    let mode = Mode { force_online: true, is_development: check.is_development };
    let (verdict, warning) = match Memory::default().check(Some(&file), &ring, mode, check.now_ms) {
        Step::Run { warning, .. } => ("run".to_owned(), warning),
        Step::AskServer { warning, .. } => ("ask_server".to_owned(), warning),
        Step::Refuse(rejection) => (rejection.reason().to_owned(), None),
        Step::Activate => ("activate".to_owned(), None),
    };
    let warning = warning.map(|warning| match warning {
        Warning::EndWithinTolerance => "end_within_tolerance",
        Warning::ClockFarOff { .. } => "clock_far_off",
    });
    (verdict, warning)
}

/// What keys and changes make of a file, an hour after it began.
fn keys_and_changes() -> Vec<(Check, &'static str, Option<&'static str>)> {
    let [one, two, ten] = [1, 2, 10].map(|version| issue(&license(), version));
    let marked = one.replace("\"revoked\": false", "\"revoked\": true");
    let unmarked = issue(&License { revoked: true, ..license() }, 1)
        .replace("\"revoked\": true", "\"revoked\": false");
    let unversioned = one.replace("  \"key_version\": \"v1\",\n", "");
    let longer = one.replacen("180259", "180269", 1);
    assert_ne!(longer, one);
    let twice = one.replacen('{', "{\n  \"plan\": \"enterprise\",", 1);
    let version = |text: &str| one.replace("\"v1\"", text);
    let downgraded = two.replace("\"v2\"", "\"v1\"");
    let cut = one[..one.len() - 1].to_owned();
    let (unsupported, invalid) = ("unsupported_key_version", "invalid_signature");
    [
        ("good", &one, 1, "ask_server"),
        ("the second key", &two, 1, "ask_server"),
        ("the tenth key is newer than the second", &ten, 2, "ask_server"),
        ("a key below the minimum", &one, 2, unsupported),
        ("and the second below the tenth", &two, 10, unsupported),
        ("downgraded to an older key", &downgraded, 1, invalid),
        ("an unknown key", &version("\"v9\""), 1, unsupported),
        ("a key version that is a number", &version("1"), 1, unsupported),
        ("no key version, which is the first", &unversioned, 1, invalid),
        ("an end put off", &longer, 1, invalid),
        ("a member twice", &twice, 1, invalid),
        ("cut off", &cut, 1, invalid),
        ("marked as revoked, not signed anew", &marked, 1, "revoked"),
        ("its mark of revocation taken away", &unmarked, 1, invalid),
    ]
    .map(|(name, file, minimum, verdict)| {
        let (file, now_ms) = (file.clone(), BEGAN_MS + HOUR_MS);
        (Check { name, file, minimum, now_ms, is_development: false }, verdict, None)
    })
    .to_vec()
}

/// What clocks and builds make of a good file.
fn ends_and_builds() -> Vec<(Check, &'static str, Option<&'static str>)> {
    let online = issue(&license(), 1);
    let offline = issue(&License { offline: true, ..license() }, 1);
    let (now, hour) = (BEGAN_MS + HOUR_MS, HOUR_MS);
    let almost = ENDS_MS + 6 * hour - 1_000;
    let end = Some("end_within_tolerance");
    [
        ("at its end", &online, ENDS_MS, false, "ask_server", None),
        ("a clock five hours ahead", &online, ENDS_MS + 5 * hour, false, "ask_server", end),
        ("almost six hours after its end", &online, almost, false, "ask_server", end),
        ("a clock seven hours ahead", &online, ENDS_MS + 7 * hour, false, "expired", None),
        ("an offline license in a shipped build", &offline, now, false, "ask_server", None),
        ("an offline license in a build for development", &offline, now, true, "run", None),
    ]
    .map(|(name, file, now_ms, is_development, verdict, warning)| {
        let file = file.clone();
        (Check { name, file, minimum: 1, now_ms, is_development }, verdict, warning)
    })
    .to_vec()
}

pub(super) fn make_license() -> Node {
    let keys = KEYS.map(|(version, secret)| {
        object! { key_version: KeyVersion(version).to_string(), secret: secret }
    });
    let checks =
        keys_and_changes().into_iter().chain(ends_and_builds()).map(|(check, verdict, warning)| {
            assert_eq!(first_step(&check), (verdict.to_owned(), warning), "{}", check.name);
            object! {
                name: check.name,
                file: check.file,
                minimum_key_version: KeyVersion(check.minimum).to_string(),
                now_ms: check.now_ms,
                is_development: check.is_development,
                verdict: verdict,
                warning: warning,
            }
        });
    let hosts = ["example-host", "", "büro-01"]
        .map(|name| object! { hostname: name, hash: HostHash::of(name).as_str() });
    super::file(
        "License files under every key version: the canonical text, its HMAC-SHA-256 in lower-case \
         hex, the file; and the first step of a program that starts with a file.",
        &["License Enforcement, License File Structure, Key Rotation, Bypass Prevention"],
        vec![
            ("keys", list(keys)),
            ("signed", list(signed())),
            ("check", list(checks)),
            ("hostname_hashes", list(hosts)),
        ],
    )
}

/// Every story begins with a program that never met its server. Times are milliseconds, for JSON
/// readers that lose digits of seconds.
pub(super) fn make_clock() -> Node {
    let hours = |hours: i64| hours * HOUR_MS;
    let stories: [(&str, &[i64]); 6] = [
        ("the first offset counts as it is", &[90_000]),
        ("later ones are blended in", &[100_000, 200_000, 0, -50_000]),
        ("five hours are learnt", &[hours(5)]),
        ("six hours are the most", &[hours(6), -hours(6)]),
        ("seven hours are not learnt", &[hours(7), 60_000, -hours(7)]),
        ("nor are 48", &[hours(48)]),
    ];
    let stories = stories.map(|(name, offsets_ms)| {
        let mut skew = ClockSkew::default();
        let steps = offsets_ms.iter().map(|offset_ms| {
            let local_ms = 1_800_000_000_000_i64;
            let server_ms = local_ms + offset_ms;
            let change = skew.learn(server_ms as f64 / 1_000.0, local_ms as f64 / 1_000.0);
            object! {
                server_ms: server_ms,
                local_ms: local_ms,
                is_learnt: change == SkewChange::Learnt,
                offset_ms: (skew.offset_seconds() * 1_000.0).round() as i64,
                corrected_ms: (skew.corrected(local_ms as f64 / 1_000.0) * 1_000.0).round() as i64,
            }
        });
        object! { name: name, steps: list(steps) }
    });
    super::file(
        "How the offset between server and client is learnt: 0.7 of the old and 0.3 of the new, \
         never one of more than six hours. Offsets are server minus client, in whole milliseconds.",
        &["License Enforcement, Clock Skew Handling"],
        vec![("stories", list(stories))],
    )
}
