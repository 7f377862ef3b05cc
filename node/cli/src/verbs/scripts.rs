//! The verbs about license keys and what they lead to, from the command line to the wire and back
//! to what people read. Here: licenses and clients; beside it, devices and activations, offline
//! use.

mod documents;
mod holders;
mod members;
mod offline;
mod pools;
mod security;

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::report;
use crate::scripted::{Exchange, play};

/// Plays a line; what people read must be this, to the letter.
#[track_caller]
fn check(line: &[&str], script: &[Exchange], shown: &str) {
    match play(line, script) {
        Ok(report) => assert_eq!(report::shown(&report), shown, "{line:?}"),
        Err(error) => panic!("{line:?}: {}", error.line()),
    }
}

/// Plays a line that comes to nothing: its exit code, and what its one line must say.
#[track_caller]
fn check_fails(line: &[&str], script: &[Exchange], exit: Exit, line_has: &str) {
    let error = play(line, script).err().unwrap();
    assert_eq!(error.exit(), exit, "{line:?}: {}", error.line());
    assert!(error.line().contains(line_has), "{line:?}: {}", error.line());
}

const LICENSE: &str = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10";
const CLIENT: &str = "0195f3a2-6a00-7abc-8def-0123456789ab";
const LEASE: &str = "lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga";

fn with(mut value: Value, fields: Value) -> Value {
    if let (Value::Object(value), Value::Object(fields)) = (&mut value, fields) {
        value.extend(fields);
    }
    value
}

fn license(fields: Value) -> Value {
    let license = json!({
        "license_id": LICENSE, "protocol": "device", "state": "active", "package_id": "p-1",
        "plan": {
            "slug": "gold", "product": "studio", "kind": "standard", "max_activations": 3,
            "max_nodes": 0, "seats_per_activation": 1, "check_mode": "custom",
            "check_interval_seconds": 43_200, "activation_days": 0, "slot_ttl_seconds": 0,
            "offline_seconds": 86_400, "trial": true, "quotas": {"tokens": 1000.0},
            "features": [{"slug": "export", "enabled": true}, {"slug": "b", "enabled": false}]
        },
        "client_id": CLIENT, "email": "alice@bmw.com", "key_hint": "Q4TA", "token_version": 2,
        "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2026-12-31T23:59:59Z",
        "open": false, "issued_at": "2026-01-01T08:00:00Z", "changed_at": "2026-02-01T08:00:00Z",
        "activations": 1, "seats": 1, "added_later": {"a": 1}
    });
    with(license, fields)
}

#[test]
fn a_license_is_issued_and_its_key_shown_once() {
    let answer = json!({"license": license(json!({})), "license_key": "ABCDE-FGHIJ"});
    check(
        &[
            "license",
            "issue",
            "--protocol",
            "device",
            "--package",
            "p-1",
            "--email",
            "alice@bmw.com",
            "--days",
            "365",
            "--max-devices",
            "3",
            "--feature",
            "export:rows=limit/100",
            "--check-mode",
            "custom",
            "--check-interval",
            "12h",
            "--trial",
        ],
        &[Exchange::change(
            "POST /admin/licenses",
            json!({
                "protocol": "device", "package_id": "p-1", "email": "alice@bmw.com",
                "duration_days": 365, "open": false,
                "plan": {
                    "features": [{"slug": "export", "enabled": true, "scopes": [
                        {"slug": "rows", "permission": "limit", "limit": 100}
                    ]}],
                    "max_activations": 3, "check_mode": "custom",
                    "check_interval_seconds": 43_200, "trial": true
                }
            }),
            answer.clone(),
        )],
        "\
license      0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10
license key  ABCDE-FGHIJ
protocol     device
package      p-1
for          alice@bmw.com
valid until  2026-12-31T23:59:59Z
The key is shown once, here: give it to its holder now.
",
    );
    let rotate = Exchange::change(
        "POST /admin/licenses/0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10/rotate",
        Value::Null,
        answer,
    );
    let report = play(&["license", "rotate", LICENSE], &[rotate]).ok().unwrap();
    assert_eq!(report.ids, ["ABCDE-FGHIJ"]);
    let text = report::shown(&report);
    assert!(text.contains("shown once, here. The old one is unknown"), "{text}");
}

#[test]
fn a_license_that_cannot_be_is_not_asked_for() {
    let issue = |more: &[&'static str]| {
        let mut line = vec!["license", "issue", "--package", "p-1", "--protocol"];
        line.extend(more);
        line
    };
    for (line, line_has) in [
        (issue(&["device"]), "email: a device license wants client_id or email"),
        (issue(&["device", "--email", "alice"]), "--email wants an address"),
        (issue(&["device", "--email", "a@b.c", "--open"]), "open: only an evaluation"),
        (issue(&["device", "--email", "a@b.c", "--max-nodes", "5"]), "plan.max_nodes"),
        (issue(&["evaluation", "--check-mode", "yearly"]), "plan.check_mode"),
        (
            issue(&["device", "--email", "a@b.c", "--check-mode", "custom"]),
            "plan.check_interval_seconds",
        ),
        (
            issue(&["evaluation", "--valid-from", "2027-01-02", "--valid-until", "2027-01-01"]),
            "valid_until: want a time after valid_from",
        ),
    ] {
        check_fails(&line, &[], Exit::Usage, line_has);
    }
    let issue = issue(&["evaluation"]);
    let sends = json!({"protocol": "evaluation", "package_id": "p-1", "open": false,
        "plan": {"features": [], "trial": false}});
    let shown = Exchange {
        request: "POST /admin/licenses",
        sends,
        status: 409,
        answer: json!({"code": "secret_shown_before", "license_id": "l-1", "detail": "no"}),
    };
    check_fails(&issue, &[shown], Exit::Refused, "`leasehold license rotate l-1`");
}

#[test]
fn licenses_are_listed_over_pages_within_80_columns() {
    let organization = json!({"protocol": "deployment", "organization": "Bayerische Motoren Werke",
        "state": "suspended", "seats": 120});
    check(
        &["license", "list", "--state", "active", "--client", "c-1"],
        &[
            Exchange::get(
                "GET /admin/licenses?client_id=c-1&state=active&limit=1000",
                json!({"licenses": [license(json!({}))], "next": "n-1"}),
            ),
            Exchange::get(
                "GET /admin/licenses?client_id=c-1&state=active&cursor=n-1&limit=1000",
                json!({"licenses": [license(organization)]}),
            ),
        ],
        "\
LICENSE                               STATE      SEATS  UNTIL       FOR
0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10  active         1  2026-12-31  alice@bmw.c…
0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10  suspended    120  2026-12-31  Bayerische …
",
    );
    let page = json!({"licenses": [license(json!({}))], "next": "n-1"});
    let cut = [Exchange::get("GET /admin/licenses?limit=1", page)];
    let report = play(&["license", "list", "--limit", "1"], &cut).ok().unwrap();
    assert_eq!(report.json["complete"], false);
    assert!(report::shown(&report).ends_with("the first 1; raise --limit for more\n"));
    let none = [Exchange::get("GET /admin/licenses?limit=1000", json!({"licenses": []}))];
    check(&["license", "list"], &none, "there is no such license\n");
}

#[test]
fn a_license_is_shown_with_its_plan_and_why_it_stands_where_it_does() {
    let suspended = license(json!({"state": "suspended", "reason": "invoice 4711"}));
    check(
        &["license", "show", LICENSE],
        &[Exchange::get("GET /admin/licenses/0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10", suspended)],
        "\
license         0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10
state           suspended since 2026-02-01T08:00:00Z: invoice 4711
protocol        device
package         p-1
for             alice@bmw.com
client          0195f3a2-6a00-7abc-8def-0123456789ab
key             ends in Q4TA (version 2)
valid           2026-01-01T00:00:00Z to 2026-12-31T23:59:59Z
issued          2026-01-01T08:00:00Z
holds           1 seats, 1 activations
last activated  -
plan            gold, studio, standard (trial)
features        export
activations     3
checks          custom every 12h 0m
offline         up to 1d 0h
quota           tokens 1000
",
    );
    check_fails(&["license", "show", "../x"], &[], Exit::Usage, "is no license");
    let missing = Exchange {
        status: 404,
        ..Exchange::get("GET /admin/licenses/l-1", json!({"detail": "no such license"}))
    };
    check_fails(&["license", "show", "l-1"], &[missing], Exit::NotFound, "no such license");
}

#[test]
fn a_license_changes_where_it_stands() {
    for (verb, request, state, is_now) in [
        ("suspend", "POST /admin/licenses/l-1/suspend", "suspended", "suspended"),
        ("resume", "POST /admin/licenses/l-1/resume", "active", "active"),
        ("cancel", "POST /admin/licenses/l-1/cancel", "cancelled", "cancelled"),
        ("revoke", "POST /admin/licenses/l-1/revoke", "revoked", "revoked"),
        ("reinstate", "POST /admin/licenses/l-1/reinstate", "not_yet_valid", "not yet valid"),
    ] {
        check(
            &["license", verb, "l-1", "--reason", "because"],
            &[Exchange::change(
                request,
                json!({"reason": "because"}),
                license(json!({"license_id": "l-1", "state": state})),
            )],
            &format!("l-1 is {is_now} now\n"),
        );
    }
    check_fails(&["license", "suspend", "l-1", "--reason", "a\nb"], &[], Exit::Usage, "--reason");
}

#[test]
fn clients_are_added_listed_and_banned() {
    let client = |fields: Value| {
        let client = json!({"client_id": CLIENT, "email": "alice@bmw.com", "state": "active",
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "licenses": 2});
        with(client, fields)
    };
    let add = Exchange {
        status: 201,
        ..Exchange::change(
            "POST /admin/clients",
            json!({"email": "alice@bmw.com"}),
            client(json!({})),
        )
    };
    check(
        &["client", "add", "alice@bmw.com"],
        &[add],
        "alice@bmw.com is client 0195f3a2-6a00-7abc-8def-0123456789ab\n",
    );
    check_fails(&["client", "add", "alice"], &[], Exit::Usage, "no e-mail address");
    check(
        &["client", "list", "--state", "banned"],
        &[Exchange::get(
            "GET /admin/clients?state=banned&limit=1000",
            json!({"clients": [client(json!({"state": "banned", "email": null}))]}),
        )],
        "\
CLIENT                                STATE   LICENSES  EMAIL
0195f3a2-6a00-7abc-8def-0123456789ab  banned         2  (erased)
",
    );
    check(
        &["client", "ban", "c-1", "--reason", "fraud"],
        &[Exchange::change(
            "POST /admin/clients/c-1/ban",
            json!({"reason": "fraud"}),
            client(json!({"client_id": "c-1", "state": "banned", "ban_reason": "fraud",
                "banned_at": "2026-02-01T00:00:00Z"})),
        )],
        "client   c-1\nstate    banned\naddress  alice@bmw.com\nreason   fraud\n",
    );
    let unban = Exchange::change(
        "POST /admin/clients/c-1/unban",
        json!({}),
        client(json!({"client_id": "c-1"})),
    );
    assert!(play(&["client", "unban", "c-1"], &[unban]).is_ok());
}
