//! Offline use, and the secrets that faces share with their callers.

use serde_json::{Value, json};

use super::{LEASE, check, check_fails, with};
use crate::exit::Exit;
use crate::report;
use crate::scripted::{Exchange, play};

#[test]
fn borrow_rules_are_replaced_and_shown_with_what_is_in_force() {
    let rules = json!({"max_seconds": 604_800, "seats_max": 5, "online_reserve": 2,
        "include": [{"user": "alice"}, {"user": "bob"}], "exclude": [{"host": "kiosk"}]});
    let view = json!({"package_id": "p-1", "rules": rules,
        "in_force": {"max_seconds": 86_400, "seats_max": 5, "online_reserve": 3}});
    check(
        &[
            "package",
            "borrow-rules",
            "set",
            "p-1",
            "--max",
            "7d",
            "--seats-max",
            "5",
            "--online-reserve",
            "2",
            "--include",
            "user:alice",
            "--include",
            "user:bob",
            "--exclude",
            "host:kiosk",
        ],
        &[Exchange::change("PUT /admin/packages/p-1/borrow-rules", rules, view)],
        "\
package          p-1
longest borrow   1d 0h
seats at once    5
left for online  3
only             user:alice, user:bob
never            host:kiosk
",
    );
    let none = json!({"package_id": "p-1", "rules": {"include": [], "exclude": []},
        "in_force": {"max_seconds": 0, "online_reserve": 0}});
    let show = [Exchange::get("GET /admin/packages/p-1/borrow-rules", none)];
    let report = play(&["package", "borrow-rules", "show", "p-1"], &show).ok().unwrap();
    let text = report::shown(&report);
    assert!(text.contains("nobody borrows") && text.contains("any number"), "{text}");
}

#[test]
fn who_is_offline_is_listed_and_a_lost_seat_written_off() {
    let lease = |fields: Value| {
        let lease = json!({"lease_id": LEASE, "quantity": 1, "user": "alice@bmw.com",
            "hostname": "dev-1", "until": "2026-12-01T08:30:00Z",
            "seats_taken_until": "2026-12-01T08:40:00Z", "borrowed": true});
        with(lease, fields)
    };
    let erased = json!({"borrowed": false, "user": null, "hostname": null, "quantity": 2});
    check(
        &["package", "offline", "p-1"],
        &[Exchange::get(
            "GET /admin/packages/p-1/offline?limit=1000",
            json!({"package_id": "p-1", "seats_borrowed": 1, "seats_offline": 3,
                "leases": [lease(json!({})), lease(erased)]}),
        )],
        "\
LEASE                                       UNTIL             HOW       HOLDER
lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga  2026-12-01T08:30  borrowed  alice@b…
lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga  2026-12-01T08:30  token     (erased)
3 seats may be in use offline, 1 of them borrowed
",
    );
    check(
        &["lease", "write-off", "lease-1", "--reason", "stolen"],
        &[Exchange::change(
            "POST /admin/leases/lease-1/write-off",
            json!({"reason": "stolen"}),
            json!({"lease_id": "lease-1", "state": "released",
                "token_good_until": "2026-12-01T08:30:00Z"}),
        )],
        "\
lease-1 is written off; its seat is free
whoever has the device can still use it offline until 2026-12-01T08:30:00Z
",
    );
    check_fails(&["lease", "write-off", "l", "--reason", ""], &[], Exit::Usage, "--reason");
}

#[test]
fn a_seat_is_borrowed_into_a_file_and_given_back() {
    let access = || {
        Exchange::get(
            "POST /oauth/token",
            json!({"access_token": "at", "token_type": "Bearer", "expires_in": 60,
                "scope": "license:read"}),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("offline.jwt");
    let path = out.to_str().unwrap();
    let app = ["--client-id", "c", "--client-secret", "s", "--renewal-token", "rt-1"];
    let borrow =
        [&["lease", "borrow", "lease-1", "--duration", "8h", "--out", path], &app[..]].concat();
    let borrowed = Exchange::change(
        "POST /api/v1/licenses/lease-1/borrow",
        json!({"renewal_token": "rt-1", "duration_seconds": 28_800}),
        json!({"status": "borrowed", "lease_id": "lease-1",
            "borrowed_until": "2026-12-01T08:00:00Z", "expires_at": "2026-12-01T08:00:00Z",
            "expires_in_ms": 28_800_000, "heartbeat_interval_ms": 300_000,
            "renewal_token": "rt-2", "fence": "00000001-000000000000002a-0000-9f3c5d7e11a0b2c4",
            "offline_token": "ey.x.y"}),
    );
    let report = play(&borrow, &[access(), borrowed]).ok().unwrap();
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "ey.x.y");
    assert_eq!(report.ids, ["ey.x.y"]);
    let text = report::shown(&report);
    assert!(text.contains("2026-12-01T08:00:00Z (in 8h 0m)\nrenewal token   rt-2\n"), "{text}");
    check_fails(&borrow, &[], Exit::Usage, "exists");

    let denied = Exchange {
        status: 403,
        ..Exchange::change(
            "POST /api/v1/licenses/lease-1/borrow",
            json!({"renewal_token": "rt-1", "duration_seconds": 1}),
            json!({"status": "denied", "reason": "borrow_excluded", "detail": "Not you."}),
        )
    };
    let line = [&["lease", "borrow", "lease-1", "--duration", "1s"], &app[..]].concat();
    check_fails(&line, &[access(), denied], Exit::Refused, "Not you");
    let line = [&["lease", "borrow", "lease-1", "--duration", "0"], &app[..]].concat();
    check_fails(&line, &[], Exit::Usage, "--duration");

    let renewed = Exchange::change(
        "POST /api/v1/licenses/lease-1/return-borrow",
        json!({"renewal_token": "rt-1"}),
        json!({"status": "renewed", "expires_at": "2026-12-01T00:15:00Z",
            "expires_in_ms": 900_000, "heartbeat_interval_ms": 300_000, "renewal_token": "rt-3",
            "fence": "00000001-000000000000002a-0000-9f3c5d7e11a0b2c4"}),
    );
    check(
        &[&["lease", "return-borrow", "lease-1"], &app[..]].concat(),
        &[access(), renewed],
        "\
lease          lease-1
ends           2026-12-01T00:15:00Z (in 15m 0s)
renew          every 5m 0s
renewal token  rt-3
the borrow is over: throw the offline token away
",
    );
}

#[test]
fn shared_secrets_go_in_and_never_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let path = secret.to_str().unwrap();
    std::fs::write(&secret, "eval-secret-key-v2\n").unwrap();
    let keys = json!({"current": 2, "minimum": 1, "versions": [1, 2]});
    let facts = "\
signs with  version 2
accepts     version 1 and later
keeps       versions 1, 2
";
    let get = Exchange::get("GET /admin/evaluation/keys", keys.clone());
    check(&["evaluation", "keys"], &[get], facts);
    check(
        &["evaluation", "rotate-key", "--minimum", "1", "--secret-file", path],
        &[Exchange::change(
            "POST /admin/evaluation/keys/rotate",
            json!({"minimum": 1, "secret": "eval-secret-key-v2"}),
            keys.clone(),
        )],
        facts,
    );
    let rotate = Exchange::change("POST /admin/evaluation/keys/rotate", json!({}), keys);
    check(&["evaluation", "rotate-key"], &[rotate], facts);
    check(
        &["classic", "add-vendor", "--vendor", "techvendor", "--secret-file", path],
        &[Exchange::change(
            "POST /admin/classic/vendors",
            json!({"vendor_id": "techvendor", "secret": "eval-secret-key-v2"}),
            json!({"vendor_id": "techvendor"}),
        )],
        "clients of techvendor sign with this secret from now on\n",
    );
    check(
        &["classic", "vendors"],
        &[Exchange::get(
            "GET /admin/classic/vendors?limit=1000",
            json!({"vendors": [{"vendor_id": "techvendor"}]}),
        )],
        "VENDOR\ntechvendor\n",
    );
    std::fs::write(&secret, "short\n").unwrap();
    let line = ["classic", "add-vendor", "--vendor", "v", "--secret-file", path];
    check_fails(&line, &[], Exit::Usage, "16 to 512");
}
