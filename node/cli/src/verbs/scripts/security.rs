//! Certificates, keys, and how applications are let in.

use serde_json::{Value, json};

use super::check_fails;
use crate::exit::Exit;
use crate::report;
use crate::scripted::{Exchange, play};

/// Plays a line; what people read must hold these texts.
#[track_caller]
fn shows(line: &[&str], script: &[Exchange], exit: Exit, texts: &[&str]) {
    let played = play(line, script).unwrap_or_else(|error| panic!("{line:?}: {}", error.line()));
    let shown = report::shown(&played);
    assert_eq!(played.exit, exit, "{line:?}: {shown}");
    for text in texts {
        assert!(shown.contains(text), "{line:?}: no {text:?} in\n{shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "too wide:\n{shown}");
}

fn certificates() -> Value {
    json!({
        "authorities": [{"fingerprint": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15",
            "state": "issuing", "believed_by": [1, 2], "in_use_by": [1]}],
        "nodes": [
            {"node_id": 1, "reachable": true, "certificates": [
                {"purpose": "gateway", "fingerprint": "aa", "names": ["lic-1.example.com"],
                 "issuer": "9f86", "not_before": "2026-01-01T00:00:00Z",
                 "not_after": "2028-04-05T00:00:00Z", "days_left": 412, "managed": true,
                 "renews_at": "2027-02-03T00:00:00Z"},
                {"purpose": "peer", "fingerprint": "bb", "names": ["spiffe://lh-1/node/1"],
                 "not_before": "2026-01-01T00:00:00Z", "not_after": "2026-04-05T00:00:00Z",
                 "days_left": -3, "managed": false}]},
            {"node_id": 2, "reachable": false, "certificates": []}],
        "added_later": true
    })
}

#[test]
fn certificates_are_shown_with_who_renews_them() {
    shows(
        &["certs", "status"],
        &[Exchange::get("GET /admin/certs", certificates())],
        Exit::Done,
        &["2028-04-05", "2027-02-03", "by hand", "-3", "unreachable", "9f86d081884c7d65", "1, 2"],
    );
}

fn step(step: &str, done: bool, waiting: &[u64]) -> Value {
    let notes: Vec<Value> =
        waiting.iter().map(|node| json!({"node_id": node, "note": "does not answer"})).collect();
    json!({"step": step, "done": done, "message": format!("it is {step}"), "waiting": notes,
        "left_out": []})
}

fn asks(node_id: Option<u64>, ca: bool, finish: bool, force: bool) -> Value {
    json!({"node_id": node_id, "ca": ca, "finish": finish, "force": force})
}

#[test]
fn an_authority_is_replaced_by_asking_until_it_is_done() {
    const ROTATE: &str = "POST /admin/certs/rotate";
    let one =
        Exchange::change(ROTATE, asks(Some(2), false, false, false), step("renewed", true, &[]));
    shows(&["certs", "rotate", "--node", "2"], &[one], Exit::Done, &["it is renewed"]);
    let some =
        Exchange::change(ROTATE, asks(None, false, false, false), step("renewed", false, &[3]));
    let told = ["waits for node 3: does not answer", "run the same command again"];
    shows(&["certs", "rotate", "--all"], &[some], Exit::Degraded, &told);
    let ask = |finish, answer| Exchange::change(ROTATE, asks(None, true, finish, false), answer);
    let script = [
        ask(false, step("trusted", false, &[])),
        ask(false, step("trusted", false, &[1, 3])),
        ask(false, step("issuing", false, &[])),
        ask(false, step("replaced", true, &[])),
    ];
    shows(&["certs", "rotate", "--ca"], &script, Exit::Done, &["it is replaced"]);
    let finish = ask(true, step("finished", true, &[]));
    shows(&["certs", "rotate", "--ca", "--finish"], &[finish], Exit::Done, &["it is finished"]);
    let given_up = ask(false, step("trusted", false, &[3]));
    let line = ["certs", "rotate", "--ca", "--wait", "1ms"];
    shows(&line, std::slice::from_ref(&given_up), Exit::Degraded, &["waits for node 3"]);
    let line = ["certs", "rotate", "--ca", "--idempotency-key", "k"];
    check_fails(&line, &[], Exit::Usage, "safe to repeat");
}

#[test]
fn keys_are_shown_and_rotated() {
    let status = json!({
        "data_keys": [{"version": 1, "secrets": 0, "records": 7},
            {"version": 2, "secrets": 11, "records": 3}],
        "peppers": [{"name": "client-secret-pepper", "versions": [{"version": 1,
            "credentials": 4}]}],
        "token_keys": [{"kid": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "node_id": 1,
            "algorithm": "EdDSA", "verifies_until": "2026-11-22T15:00:00Z"}],
        "nodes": [{"node_id": 1, "data_key": 2}, {"node_id": 2, "data_key": 0}, {"node_id": 3}]
    });
    shows(
        &["keys", "status"],
        &[Exchange::get("GET /admin/keys", status)],
        Exit::Done,
        &[
            "11 secrets, 3 session keys",
            "4 credentials",
            "2026-11-22T15:00:00Z",
            "version 2",
            "none: it is sealed",
            "unreachable",
        ],
    );
    const ROTATE: &str = "POST /admin/keys/rotate";
    let said = "it is done";
    let done = |what: &str| json!({"what": what, "version": 3, "dropped": [1, 2], "message": said});
    let cases: [(&[&str], Value); 4] = [
        (&["--data-key"], json!({"what": "data-key", "finish": false, "force": false})),
        (
            &["--data-key", "--finish", "--force"],
            json!({"what": "data-key", "finish": true, "force": true}),
        ),
        (
            &["--pepper", "operator-tokens", "--retire"],
            json!({"what": "operator-pepper", "finish": true, "force": false}),
        ),
        (
            &["--token-signing", "--node", "2"],
            json!({"what": "token-signing", "node_id": 2, "finish": false, "force": false}),
        ),
    ];
    for (words, sends) in cases {
        let what = sends["what"].as_str().unwrap().to_owned();
        let line = [&["keys", "rotate"], words].concat();
        let script = [Exchange::change(ROTATE, sends, done(&what))];
        shows(&line, &script, Exit::Done, &["it is done", "version 1, 2"]);
    }
    let refused = Exchange {
        request: ROTATE,
        sends: json!({"what": "client-secret-pepper", "finish": true, "force": false}),
        status: 409,
        answer: json!({"type": "/problems/key_in_use", "title": "Still needed.", "status": 409,
            "code": "key_in_use", "detail": "4 credentials are stored under it"}),
    };
    let line = ["keys", "rotate", "--pepper", "client-secrets", "--finish"];
    check_fails(&line, &[refused], Exit::Refused, "4 credentials");
}

#[test]
fn what_is_left_out_of_a_policy_stays() {
    const PATH: &str = "GET /admin/apps/app-1/policy";
    const PUT: &str = "PUT /admin/apps/app-1/policy";
    let stored = json!({"app_id": "app-1", "certificate_bound": true,
        "certificates": ["ab".repeat(32)], "requests_per_second": 5, "burst": 9,
        "token_algorithm": "RS256"});
    let texts = ["on", "5 requests a second, 9 at once", "RS256"];
    shows(&["app", "show", "app-1"], &[Exchange::get(PATH, stored.clone())], Exit::Done, &texts);
    let put = |sends: Value| {
        let mut answer = sends.clone();
        answer["app_id"] = json!("app-1");
        [Exchange::get(PATH, stored.clone()), Exchange::change(PUT, sends, answer)]
    };
    let algorithm = json!({"certificate_bound": true, "certificates": ["ab".repeat(32)],
        "requests_per_second": 5, "burst": 9, "token_algorithm": "EdDSA"});
    let line = ["app", "set", "app-1", "--token-algorithm", "EdDSA"];
    shows(&line, &put(algorithm), Exit::Done, &["EdDSA"]);
    let open = json!({"certificate_bound": false, "certificates": [], "token_algorithm": "RS256"});
    let line = ["app", "set", "app-1", "--mtls", "off", "--any-certificate", "--rate", "0"];
    shows(&line, &put(open), Exit::Done, &["off", "no bound of its own"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nothing.pem");
    std::fs::write(&file, "nothing").unwrap();
    let line = ["app", "set", "app-1", "--certificate", file.to_str().unwrap()];
    check_fails(&line, &[], Exit::Usage, "no certificate");
}
