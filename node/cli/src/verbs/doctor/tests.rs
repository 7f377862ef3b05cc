//! Evidence, one thing changed at a time, and what the checks make of it.

use protocol::cloud::admin::MemberList;
use serde_json::{Value, json};

use super::evidence::{Evidence, Server};
use super::{CHECKS, Grade, findings, json_of, report};
use crate::report::shown;
use crate::verbs::watching::Status;

const NOW: &str = "2026-06-01T00:00:00Z";

fn now_ms() -> i64 {
    NOW.parse::<protocol::wire::UtcTime>().unwrap().unix_ms
}

fn node(id: u64) -> Value {
    json!({
        "id": id, "role": if id == 1 { "leader" } else { "follower" }, "voter": true,
        "sealed": false, "lag": "3", "region": "eu", "zone": format!("z{id}"),
        "detail": {
            "version": "0.1.0", "preset": "lan", "uptime_ms": 7_200_000, "recovered": true,
            "leader_contact_age_ms": if id == 1 { Value::Null } else { json!(40) },
            "clock_offset_ms": if id == 1 { Value::Null } else { json!(-12) },
            "epoch": 1, "leader_changes": 1, "fsync_p99_us": 3_000, "fsyncs": 5_000,
            "disk_total_bytes": 1_u64 << 40, "disk_free_bytes": 1_u64 << 39,
            "disk_reserve_bytes": 1_u64 << 28, "data_key_version": 1,
            "certificate_until": "2026-12-01T00:00:00Z", "certificate_purpose": "peer",
            "last_backup_at": "2026-05-31T20:00:00Z", "descriptors": 65_536,
        },
    })
}

fn status() -> Value {
    json!({
        "cluster_id": "lh-1", "quorum": { "voters": 3, "needed": 2, "answering": 3, "may_fail": 1 },
        "audit_head_seq": "5000", "audit_floor_seq": "1000",
        "nodes": [node(1), node(2), node(3)],
    })
}

/// A well cluster of three.
fn evidence(status: Value) -> Evidence {
    let server = |number: u32| Server {
        url: format!("https://n{number}:7401"),
        metrics: [
            ("leasehold_idempotency_keys".to_owned(), 1_000.0),
            ("leasehold_subjects".to_owned(), 1_000.0),
        ]
        .into(),
        ..Server::default()
    };
    let members = json!({ "members": [], "invited": [], "former": [] });
    Evidence {
        now_ms: now_ms(),
        servers: (1..=3).map(server).collect(),
        status: Some(serde_json::from_value::<Status>(status).unwrap()),
        packages: Some(Vec::new()),
        members: Some(serde_json::from_value::<MemberList>(members).unwrap()),
    }
}

fn graded(evidence: &Evidence) -> Vec<(&'static str, Grade)> {
    let all: Vec<_> = CHECKS.iter().collect();
    let findings = findings(evidence, &all);
    let wrong = findings.iter().filter(|it| it.verdict.grade > Grade::Ok);
    wrong.map(|it| (it.check.name, it.verdict.grade)).collect()
}

/// Sets one place of the status (a JSON pointer); these checks object, and no others.
#[track_caller]
fn check(pointer: &str, value: Value, want: &[(&'static str, Grade)]) {
    let mut status = status();
    match status.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            status.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    assert_eq!(graded(&evidence(status)), want, "{pointer}");
}

#[test]
fn each_check_finds_its_own() {
    use Grade::{Fail, Warn};
    assert_eq!(graded(&evidence(status())), []);
    let detail = |name: &str| format!("/nodes/1/detail/{name}");
    check("/quorum/may_fail", json!(0), &[("quorum", Warn)]);
    check("/nodes/0/role", json!("follower"), &[("quorum", Fail)]);
    check("/quorum/voters", json!(4), &[("voters", Warn)]);
    check("/nodes/1/zone", json!("z1"), &[("zones", Warn)]);
    check(&detail("leader_changes"), json!(12), &[("leader-stable", Warn)]);
    check("/nodes/1/lag", json!("1001"), &[("lag", Warn)]);
    check("/nodes/1/lag", json!("10001"), &[("lag", Fail)]);
    check(&detail("clock_offset_ms"), json!(-501), &[("clocks", Warn)]);
    check(&detail("clock_offset_ms"), json!(10_001), &[("clocks", Fail)]);
    check(&detail("disk_free_bytes"), json!((1_u64 << 28) + 1), &[("disk", Warn)]);
    check(&detail("disk_free_bytes"), json!(1_u64 << 27), &[("disk", Fail)]);
    check(&detail("fsync_p99_us"), json!(20_000), &[("fsync", Warn)]);
    check(&detail("fsync_p99_us"), json!(200_000), &[("fsync", Fail)]);
    check(&detail("leader_contact_age_ms"), json!(150), &[("election-timing", Warn)]);
    check("/nodes/2/sealed", json!(true), &[("sealed", Fail)]);
    let alarm = json!([{ "node_id": 1, "kind": "LAG", "detail": "d", "logged": true,
                         "found_now": true }]);
    check("/alarms", alarm, &[("alarms", Fail)]);
    check(&detail("version"), json!("0.2.0"), &[("versions", Warn)]);
    check(&detail("preset"), json!("region"), &[("presets", Warn)]);
    check(&detail("epoch"), json!(2), &[("epochs", Warn)]);
    check(&detail("data_key_version"), json!(2), &[("data-keys", Warn)]);
    check(&detail("descriptors"), json!(2_000), &[("descriptors", Warn)]);
    check(&detail("descriptors"), json!(100), &[("descriptors", Fail)]);
    check(&detail("certificate_until"), json!("2026-06-10T00:00:00Z"), &[("certificates", Warn)]);
    check(&detail("certificate_until"), json!("2026-05-01T00:00:00Z"), &[("certificates", Fail)]);
    check("/audit_head_seq", json!("60000000"), &[("audit", Warn)]);
}

#[test]
fn what_is_not_in_the_status_is_judged_too() {
    use Grade::{Fail, Warn};
    let mut some = evidence(status());
    some.servers[1].unreached = Some("connection refused".to_owned());
    assert_eq!(graded(&some), [("servers", Warn)]);
    some.servers[1].unreached = Some("invalid peer certificate: UnknownIssuer".to_owned());
    assert_eq!(graded(&some), [("servers", Warn), ("tls", Fail)]);
    let mut some = evidence(status());
    some.servers.truncate(1);
    assert_eq!(graded(&some), [("context", Warn)]);
    let mut some = evidence(status());
    some.servers[2].metrics.insert("leasehold_idempotency_keys".to_owned(), 600_000.0);
    some.servers[2].metrics.insert("leasehold_subjects".to_owned(), 4_100_000.0);
    assert_eq!(graded(&some), [("request-table", Warn), ("subjects", Fail)]);
    let mut none = evidence(status());
    none.status = None;
    assert_eq!(graded(&none), [("quorum", Fail)]);
    let mut old = status();
    for at in 0..3 {
        old["nodes"][at]["detail"]["last_backup_at"] = json!("2026-05-01T00:00:00Z");
    }
    assert_eq!(graded(&evidence(old.clone())), [("backups", Fail)]);
    for at in 0..3 {
        old["nodes"][at]["detail"]["last_backup_at"] = Value::Null;
    }
    assert_eq!(graded(&evidence(old)), [("backups", Warn)]);
    let mut invited = evidence(status());
    let members = json!({ "members": [], "former": [],
                          "invited": [{ "node_id": 4, "learner": false, "expires_in_ms": 0 }] });
    invited.members = Some(serde_json::from_value(members).unwrap());
    assert_eq!(graded(&invited), [("invitations", Warn)]);
}

#[test]
fn the_table_fits_80_columns_and_scripts_get_everything() {
    let mut some = status();
    some["nodes"][1]["detail"]["disk_free_bytes"] = json!(1_u64 << 27);
    let all: Vec<_> = CHECKS.iter().collect();
    let findings = findings(&evidence(some), &all);
    let report = report(&findings);
    assert_eq!(report.exit.code(), 10);
    let shown = shown(&report);
    for line in shown.lines() {
        let is_advice = line.starts_with("fail ") || line.starts_with("     ");
        assert!(is_advice || line.chars().count() <= 80, "{line:?}");
    }
    assert!(shown.contains("fail    disk "), "{shown}");
    let json = json_of(&findings);
    assert_eq!(json["status"], "fail");
    assert_eq!(json["checks"].as_array().map(Vec::len), Some(CHECKS.len()));
    for check in json["checks"].as_array().unwrap() {
        for name in ["name", "threshold", "measured", "status", "fix"] {
            assert!(check[name].as_str().is_some_and(|text| !text.is_empty()), "{check}");
        }
    }
    let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CHECKS.len(), "each name is one check's");
}
