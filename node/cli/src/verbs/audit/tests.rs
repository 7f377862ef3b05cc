//! The verbs about the audit log, from the command line to the wire and back, and to files.

use std::fs;
use std::path::Path;

use protocol::audit_segment::{EventHash, SegmentHeader, SegmentWriter};
use protocol::keys::PrivateKey;
use protocol::offline::KeySet;
use protocol::secret::Secret;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report;
use crate::scripted::{Exchange, play};

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn event(seq: u64, user: Value) -> Value {
    json!({
        "seq": seq.to_string(), "time": "2027-01-31T12:00:00Z", "kind": "lease_granted",
        "actor": "app-1", "request_id": "r", "package_id": "p-1", "lease_id": "lease-1",
        "user": user, "detail": {"class": "commit", "quantity": 1},
        "hash": ZEROS, "previous": ZEROS, "added_later": 1
    })
}

fn page(events: Vec<Value>, next: Option<&str>) -> Value {
    json!({ "events": events, "floor": "0", "head": "9", "next": next })
}

#[test]
fn the_newest_events_are_shown_oldest_first() {
    let named = json!({"reference": "00000000000000ff", "name": "alice\u{1b}[2J"});
    let erased = json!({"reference": "00000000000000ff"});
    let script = [
        Exchange::get(
            "GET /admin/audit?kind=lease_granted&user=alice&order=desc&limit=2",
            page(vec![event(9, named)], Some("9")),
        ),
        Exchange::get(
            "GET /admin/audit?kind=lease_granted&user=alice&order=desc&cursor=9&limit=1",
            page(vec![event(7, erased)], None),
        ),
    ];
    let line = ["audit", "tail", "-n", "2", "--kind", "lease-granted", "--user", "alice"];
    let report = play(&line, &script).ok().unwrap();
    assert_eq!(report.ids, ["7", "9"]);
    let shown = report::shown(&report);
    let rows: Vec<&str> = shown.lines().collect();
    assert!(rows[0].starts_with("SEQ  TIME"), "{shown}");
    assert!(rows[1].trim_start().starts_with("7  2027-01-31T12:00:00Z  lease_granted"), "{shown}");
    assert!(rows[2].trim_start().starts_with("9  "), "{shown}");
    assert!(!shown.contains('\u{1b}'), "a name moves no cursor");
    assert_eq!(report.json["events"][0]["user"], json!({"reference": "00000000000000ff"}));
    let none = [Exchange::get("GET /admin/audit?order=desc&limit=50", page(Vec::new(), None))];
    let report = play(&["audit", "tail"], &none).ok().unwrap();
    assert_eq!(report::shown(&report), "nothing of that kind happened\n");
}

#[test]
fn a_log_is_checked_answer_by_answer_to_its_end_or_its_break() {
    let answer = |fields: Value| {
        let mut answer = json!({
            "node": 2, "intact": true, "events": "100", "first": "1", "last": "100",
            "hash": ZEROS, "floor": "0", "head": "150"
        });
        let (Some(all), Some(some)) = (answer.as_object_mut(), fields.as_object()) else {
            panic!("objects")
        };
        all.extend(some.clone());
        answer
    };
    let first = || Exchange::get("GET /admin/audit/verify", answer(json!({"next": "100:ab"})));
    let last = |fields| Exchange::get("GET /admin/audit/verify?cursor=100%3Aab", answer(fields));
    let whole = last(json!({"events": "50", "first": "101", "last": "150"}));
    let report = play(&["audit", "verify"], &[first(), whole]).ok().unwrap();
    assert_eq!(report.exit, Exit::Done);
    assert_eq!((&report.json["events"], &report.json["first"]), (&json!("150"), &json!("1")));
    let broken = json!({
        "intact": false, "broken_at": "105", "reason": "audit event 105 is missing",
        "events": "4", "first": "101", "last": "104"
    });
    let report = play(&["audit", "verify"], &[first(), last(broken)]).ok().unwrap();
    assert_eq!(report.exit, Exit::Unverifiable);
    let shown = report::shown(&report);
    assert!(shown.contains("BROKEN") && shown.contains("105"), "{shown}");
    assert!(shown.contains("104, the last is 104"), "{shown}");
}

/// Writes a segment of events 1 to 3 and the keys that believe it; gives its last hash, and the one
/// before.
fn write_segment(dir: &Path) -> (String, String, [EventHash; 2]) {
    let key = PrivateKey::ed25519(&Secret::new([7; 32]));
    let previous = EventHash::default();
    let header =
        SegmentHeader { cluster_id: "lh-1".to_owned(), epoch: 1, from: 1, to: 3, previous };
    let (mut writer, mut text) = SegmentWriter::begin(header);
    let mut hashes = [previous; 2];
    for number in 1..=3_u8 {
        let bytes = [&hashes[0].0[..], &[number]].concat();
        hashes = [EventHash::of(&bytes), hashes[0]];
        text += &writer.event(&json!({"seq": number.to_string()}), &bytes).unwrap();
    }
    text += &writer.finish(&key, 1_800_000_000).unwrap();
    let keys = KeySet::of(key.public_key().unwrap()).unwrap().to_jwks();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (segment, key_set) = (path("audit.jsonl"), path("keys.json"));
    fs::write(&segment, text).unwrap();
    fs::write(&key_set, serde_json::to_vec(&keys).unwrap()).unwrap();
    (segment, key_set, hashes)
}

#[test]
fn a_file_is_believed_under_the_keys_that_are_given_and_no_server_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, keys, [hash, _]) = write_segment(dir.path());
    let verify = ["audit", "verify", &segment, "--keys", &keys];
    let report = play(&verify, &[]).ok().unwrap();
    assert_eq!((&report.json["events"], &report.json["to"]), (&json!("3"), &json!("3")));
    assert_eq!(report.ids, [hash.text()]);
    let text = fs::read_to_string(&segment).unwrap();
    for (from, to) in [("\"seq\":\"2\"", "\"seq\":\"7\""), ("lh-1", "lh-2"), ("}\n", "}\n\n")] {
        fs::write(&segment, text.replacen(from, to, 1)).unwrap();
        let error = play(&verify, &[]).err().unwrap();
        assert_eq!(error.exit(), Exit::Unverifiable, "{from}: {}", error.line());
        assert_eq!(error.to_json()["error"]["code"], "audit_segment_unverifiable");
    }
}

#[test]
fn an_export_has_its_name_only_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, keys, _) = write_segment(dir.path());
    let target = dir.path().join("new.jsonl");
    let target = target.to_str().unwrap();
    // The script's server answers JSON, which is no segment.
    let answer = Exchange::get("GET /admin/audit/export?from=1&to=3", json!({"no": "segment"}));
    let export = ["audit", "export", target, "--from", "1", "--to", "3", "--keys", &keys];
    let error = play(&export, &[answer]).err().unwrap();
    assert_eq!(error.exit(), Exit::Unverifiable, "{}", error.line());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    let export = ["audit", "export", &segment, "--keys", &keys];
    assert_eq!(play(&export, &[]).err().unwrap().exit(), Exit::Usage, "a file is never replaced");
}

#[test]
fn what_a_verified_file_holds_is_pruned_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let (segment, keys, [last, before]) = write_segment(dir.path());
    let log = |head: &str| json!({"events": [], "floor": "0", "head": head});
    let prune = ["audit", "prune", "--export", &segment, "--keys", &keys];
    for (head, upto, hash) in [("9", "3", last), ("3", "2", before)] {
        let script = [
            Exchange::get("GET /admin/audit?limit=1", log(head)),
            Exchange::change(
                "POST /admin/audit/prune",
                json!({"upto_seq": upto, "hash": hash.text()}),
                json!({"floor": upto, "head": head}),
            ),
        ];
        let report = play(&prune, &script).ok().unwrap();
        assert_eq!(report.json["floor"], upto);
    }
    fs::write(&segment, "{}\n").unwrap();
    assert_eq!(play(&prune, &[]).err().unwrap().exit(), Exit::Unverifiable);
}
