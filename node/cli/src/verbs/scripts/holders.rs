//! Devices and activations.

use serde_json::{Value, json};

use super::{LEASE, LICENSE, check, check_fails, with};
use crate::exit::Exit;
use crate::scripted::{Exchange, play};

const ACTIVATION: &str = "0195f3a2-8d22-7b10-a6f1-3c4d5e6f7081";

fn activation(fields: Value) -> Value {
    let activation = json!({
        "activation_id": ACTIVATION, "protocol": "device", "state": "active",
        "license_id": LICENSE, "package_id": "p-1", "holder": "6b7d0c9b2e6f1c0a4e2d9f5a8c3b7e1d",
        "lease_id": LEASE, "lease_type": "commit", "seats": 1,
        "activated_at": "2026-03-01T08:00:00Z", "last_seen_at": "2026-11-20T08:00:00Z",
        "expires_at": "2026-11-30T23:59:59Z"
    });
    with(activation, fields)
}

#[test]
fn devices_are_listed_and_removed_by_activation_or_by_fingerprint() {
    let list = || {
        let other = json!({"activation_id": "a-2", "holder": "6b7dffff", "state": "revoked"});
        Exchange::get(
            "GET /admin/activations?license_id=l-1&limit=1000",
            json!({"activations": [activation(json!({})), activation(other)], "total": 2}),
        )
    };
    check(
        &["device", "list", "--license", "l-1"],
        &[list()],
        "\
ACTIVATION                            DEVICE     ACTIVATED   LAST SEEN   STATE
0195f3a2-8d22-7b10-a6f1-3c4d5e6f7081  6b7d0c9b…  2026-03-01  2026-11-20  active
a-2                                   6b7dffff   2026-03-01  2026-11-20  revoked
",
    );
    let removed = json!({"activation_id": "a-1", "status": "removed"});
    check(
        &["device", "remove", "a-1", "--write-off", "--reason", "lost"],
        &[Exchange::change(
            "DELETE /admin/activations/a-1?write_off=true&reason=lost",
            Value::Null,
            removed.clone(),
        )],
        "a-1 is removed; its seat is free\n",
    );
    let taken = with(removed, json!({"seats_taken_until": "2026-12-01T00:00:00Z"}));
    let by_fingerprint = |beginning: &'static str| {
        ["device", "remove", "--license", "l-1", "--fingerprint", beginning]
    };
    check(
        &by_fingerprint("6B7D0C9B"),
        &[
            list(),
            Exchange::change(
                "DELETE /admin/activations/0195f3a2-8d22-7b10-a6f1-3c4d5e6f7081",
                Value::Null,
                taken,
            ),
        ],
        "a-1 is removed; its seat stays taken until 2026-12-01T00:00:00Z, for it may be offline\n",
    );
    check_fails(&by_fingerprint("00000000"), &[list()], Exit::NotFound, "no device of the license");
    check_fails(&by_fingerprint("6b7d"), &[list()], Exit::Usage, "8 characters");
}

#[test]
fn evaluations_that_expire_in_a_month_are_listed_by_organisation_and_project() {
    let evaluation = |id: &str, project: &str| {
        activation(json!({"activation_id": id, "protocol": "evaluation", "org_id": "acme",
            "project_id": project}))
    };
    let group = |project: Option<&str>| {
        let group = json!({"org_id": "acme", "activations": 1, "seats": 1});
        with(group, json!({"project_id": project}))
    };
    let answer = json!({
        "activations": [evaluation("a-1", "arm"), evaluation("a-2", "leg")],
        "groups": [group(Some("arm")), group(None)], "total": 2
    });
    check(
        &[
            "activation",
            "list",
            "--protocol",
            "evaluation",
            "--expires",
            "2026-11",
            "--org",
            "acme",
            "--project",
            "a b",
        ],
        &[Exchange::get(
            "GET /admin/activations?protocol=evaluation&org_id=acme&project_id=a+b&\
             expires_from=2026-11-01T00%3A00%3A00Z&expires_until=2026-12-01T00%3A00%3A00Z&\
             limit=1000",
            answer.clone(),
        )],
        "\
ACTIVATION  STATE   SEATS  EXPIRES     HOLDER
a-1         active      1  2026-11-30  acme / arm
a-2         active      1  2026-11-30  acme / leg

ORGANISATION  PROJECT  ACTIVATIONS  SEATS
acme          arm                1      1
acme          -                  1      1
",
    );
    let all = [Exchange::get("GET /admin/activations?limit=1000", answer)];
    let report = play(&["activation", "list"], &all).ok().unwrap();
    assert_eq!((&report.json["total"], &report.json["complete"]), (&json!(2), &json!(true)));
    assert_eq!(report.json["groups"][0]["project_id"], "arm");
}

#[test]
fn an_activation_is_revoked_and_reinstated() {
    let offline = json!({"activation_id": "a-1", "state": "revoked",
        "offline_until": "2026-12-01T00:00:00Z"});
    check(
        &["activation", "revoke", "a-1", "--reason", "stolen"],
        &[Exchange::change(
            "POST /admin/activations/a-1/revoke",
            json!({"reason": "stolen", "write_off": false}),
            activation(offline),
        )],
        "a-1 is revoked now; an offline token of it is good until 2026-12-01T00:00:00Z\n",
    );
    check(
        &["activation", "revoke", "a-1", "--write-off"],
        &[Exchange::change(
            "POST /admin/activations/a-1/revoke",
            json!({"write_off": true}),
            activation(json!({"activation_id": "a-1", "state": "revoked", "seats": 0})),
        )],
        "a-1 is revoked now\n",
    );
    check(
        &["activation", "reinstate", "a-1"],
        &[Exchange::change(
            "POST /admin/activations/a-1/reinstate",
            json!({"write_off": false}),
            activation(json!({"activation_id": "a-1"})),
        )],
        "a-1 is active now\n",
    );
}
