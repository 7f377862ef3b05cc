//! Pools, and reports of use and cost.

use serde_json::{Value, json};

use super::{check, check_fails, with};
use crate::exit::Exit;
use crate::report;
use crate::scripted::{Exchange, play};

fn pool(fields: Value) -> Value {
    let pool = json!({"package_id": "p-1", "pool": "team-a", "seats": 5, "in_use": 2, "free": 3,
        "reserved_for": {"users": ["alice"], "hosts": ["ci-1"], "apps": ["device"]},
        "description": "night builds", "usage": {"peak": 4, "peak_at": "2026-11-02T03:04:05Z",
        "last_taken_at": "2026-11-20T10:00:00Z", "granted": 128}});
    with(pool, fields)
}

const SHOWN: &str = "\
package      p-1
pool         team-a
seats        5
out          2
free         3
peak         4 (2026-11-02T03:04:05Z)
last taken   2026-11-20T10:00:00Z
times taken  128
kept for     user:alice, host:ci-1, app:device
description  night builds
";

#[test]
fn pools_are_made_shown_and_changed() {
    check(
        &[
            "pool",
            "create",
            "p-1",
            "team-a",
            "--seats",
            "5",
            "--for",
            "host:ci-1",
            "--for",
            "user:alice",
            "--for",
            "app:device",
            "--description",
            "night builds",
        ],
        &[Exchange {
            status: 201,
            ..Exchange::change(
                "POST /admin/pools",
                json!({"package_id": "p-1", "pool": "team-a", "seats": 5,
                    "reserved_for": {"users": ["alice"], "hosts": ["ci-1"], "apps": ["device"]},
                    "description": "night builds"}),
                pool(json!({})),
            )
        }],
        SHOWN,
    );
    let at = "/admin/pools/p-1/team-a";
    let show = Exchange::get("GET /admin/pools/p-1/team-a", pool(json!({})));
    check(&["pool", "show", "p-1", "team-a"], &[show], SHOWN);
    let put =
        |sends: Value| Exchange::change("PUT /admin/pools/p-1/team-a", sends, pool(json!({})));
    for (line, sends) in [
        (vec!["pool", "resize", "p-1", "team-a", "8"], json!({"seats": 8})),
        (
            vec!["pool", "reserve", "p-1", "team-a", "--for", "user:b", "--for", "user:a"],
            json!({"reserved_for": {"users": ["a", "b"]}}),
        ),
        (vec!["pool", "reserve", "p-1", "team-a", "--nobody"], json!({"reserved_for": {}})),
        (vec!["pool", "reserve", "p-1", "team-a", "--description", ""], json!({"description": ""})),
    ] {
        check(&line, &[put(sends)], SHOWN);
    }
    let unused = pool(json!({"usage": {"peak": 0, "granted": 0}, "reserved_for": {},
        "description": null}));
    let show = Exchange::get("GET /admin/pools/p-1/team-a", unused);
    let report = play(&["pool", "show", "p-1", "team-a"], &[show]).ok().unwrap();
    let text = report::shown(&report);
    assert!(text.contains("peak         never used\nlast taken   -\n"), "{at}: {text}");
    assert_eq!(report.ids, ["team-a"]);
}

#[test]
fn pools_are_listed_with_bars_and_seats_move() {
    let unassigned = json!({"pool": null, "seats": 15, "in_use": 15, "reserved_for": {},
        "usage": {"peak": 15, "granted": 40}});
    check(
        &["pool", "list", "p-1"],
        &[
            Exchange::get(
                "GET /admin/pools?package_id=p-1&limit=1000",
                json!({"pools": [pool(unassigned)], "next": "p-1/"}),
            ),
            Exchange::get(
                "GET /admin/pools?package_id=p-1&cursor=p-1%2F&limit=1000",
                json!({"pools": [pool(json!({}))]}),
            ),
        ],
        "\
PACKAGE  POOL    OUT  SEATS  USE         PEAK  KEPT FOR
p-1      -        15     15  ##########    15  -
p-1      team-a    2      5  ####......     4  user:alice, host:ci-1, app:device
",
    );
    check(
        &["pool", "transfer", "p-1", "3", "--from", "team-a", "--to", "team-b"],
        &[Exchange::change(
            "POST /admin/licenses/transfer",
            json!({"package_id": "p-1", "from_pool": "team-a", "to_pool": "team-b", "quantity": 3}),
            json!({"package_id": "p-1", "quantity": 3,
                "to": pool(json!({"pool": "team-b", "seats": 9}))}),
        )],
        "\
3 seats moved from team-a to team-b
team-a: no seat is left, the pool is gone
team-b: 9 seats, 2 out
",
    );
    check(
        &["pool", "remove", "p-1", "team-a"],
        &[Exchange { status: 204, ..Exchange::get("DELETE /admin/pools/p-1/team-a", Value::Null) }],
        "team-a is gone; its seats are unassigned\n",
    );
}

#[test]
fn what_cannot_be_is_refused_before_it_is_sent() {
    for (line, has) in [
        (vec!["pool", "show", "p 1", "team"], "is no package"),
        (vec!["pool", "remove", "p-1", "a/b"], "is no pool"),
        (vec!["pool", "transfer", "p-1", "3", "--from", "a b"], "is no pool"),
        (vec!["usage", "show", "../x"], "is no package"),
    ] {
        check_fails(&line, &[], Exit::Usage, has);
    }
    let problem = json!({"type": "about:blank", "title": "Seats of the pool are out.",
        "status": 409, "code": "pool_in_use"});
    let refused =
        Exchange { status: 409, ..Exchange::get("DELETE /admin/pools/p-1/team-a", problem) };
    let error = play(&["pool", "remove", "p-1", "team-a"], &[refused]).err().unwrap();
    assert_eq!(error.exit(), Exit::Refused, "{}", error.line());
    assert!(error.line().contains("Seats of the pool are out"), "{}", error.line());
}

#[test]
fn use_is_shown_per_package_and_pool() {
    let usage = |seats: u32, in_use: u32| {
        json!({"seats": seats, "in_use": in_use, "usage": {"peak": 4, "granted": 12,
            "last_taken_at": "2026-11-20T10:00:00Z"}})
    };
    let package = json!({"package_id": "p-1", "product_id": "studio", "vendor_id": "v",
        "state": "active", "seats": 20, "in_use": 7, "peak": 18, "granted_commit": 512,
        "granted_overage": 12, "returned": 498, "expired": 17, "released": 2,
        "last_taken_at": "2026-11-20T10:00:00Z",
        "pools": [usage(15, 5), with(usage(5, 2), json!({"pool": "team-a"}))]});
    let alone = with(package.clone(), json!({"package_id": "p-2", "pools": [usage(20, 7)]}));
    check(
        &["usage", "show"],
        &[Exchange::get("GET /admin/usage?limit=1000", json!({"packages": [package, alone]}))],
        "\
PACKAGE  POOL    OUT  SEATS  PEAK  TAKEN  LAST
p-1      (all)     7     20    18    524  2026-11-20
p-1      -         5     15     4     12  2026-11-20
p-1      team-a    2      5     4     12  2026-11-20
p-2      (all)     7     20    18    524  2026-11-20
",
    );
    let refusals = json!([{"package_id": "p-1", "reason": "pool_reserved", "count": 2},
        {"reason": "credentials_revoked", "count": 1}]);
    check(
        &["usage", "refusals", "p-1", "--limit", "2"],
        &[Exchange::get(
            "GET /admin/usage/refusals?package_id=p-1&limit=2",
            json!({"refusals": refusals, "next": "x/y"}),
        )],
        "\
PACKAGE  REASON               COUNT
p-1      pool_reserved            2
-        credentials_revoked      1
the first 2; raise --limit for more
",
    );
}

#[test]
fn costs_have_sums_and_what_is_unused_is_listed() {
    let cost = json!({"package_id": "p-1", "product_id": "studio", "state": "active",
        "currency": "EUR", "commit_fee": 5000.0, "overage": 1000.125, "total": 6000.125});
    let bounded = with(
        cost.clone(),
        json!({"package_id": "p-2", "overage_limit": 2500.0,
        "overage": 0.0, "total": 5000.0}),
    );
    check(
        &["usage", "costs"],
        &[Exchange::get(
            "GET /admin/usage/costs?limit=1000",
            json!({"month": "2026-11", "packages": [cost, bounded], "totals": [{"currency": "EUR",
                "commit_fee": 10000.0, "overage": 1000.125, "total": 11000.125}]}),
        )],
        "\
PACKAGE  COMMIT FEE   OVERAGE    LIMIT     TOTAL  CURRENCY
p-1         5000.00  1000.125        -  6000.125  EUR
p-2         5000.00      0.00  2500.00   5000.00  EUR
2026-11 so far: 11000.125 EUR (10000.00 fees, 1000.125 overage)
",
    );
    check(
        &["usage", "unused", "--days", "90"],
        &[Exchange::get(
            "GET /admin/usage/unused?days=90&limit=1000",
            json!({"days": 90, "note": "Counted is when.", "unused": [
                {"kind": "package", "package_id": "p-1", "seats": 20,
                    "since": "2026-01-01T00:00:00Z"},
                {"kind": "pool", "package_id": "p-2", "pool": "team", "seats": 5,
                    "last_used_at": "2026-02-03T04:05:06Z", "since": "2026-01-01T00:00:00Z"}
            ]}),
        )],
        "\
KIND     WHAT  SEATS  LAST USED   SINCE       OF PACKAGE
package  p-1      20  never       2026-01-01  p-1
pool     team      5  2026-02-03  2026-01-01  p-2
Counted is when.
",
    );
    let none = Exchange::get(
        "GET /admin/usage/unused?days=30&limit=1000",
        json!({"days": 30, "note": "", "unused": []}),
    );
    check(&["usage", "unused"], &[none], "everything was used\n");
}
