//! What the verbs about seats, packages, applications and the cluster print for scripts. `play`
//! holds each document against its schema; here are the lines that no other test plays.

use protocol::cloud::admin::RegisterAppRequest;
use protocol::cloud::lease::{CheckoutRequest, ReturnRequest};
use protocol::package::sample_document;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{LEASE, with};
use crate::scripted::{Exchange, play};

/// Plays a line that comes to something.
#[track_caller]
fn done(line: &[&str], script: &[Exchange]) -> Value {
    match play(line, script) {
        Ok(report) => report.json,
        Err(error) => panic!("{line:?}: {}", error.line()),
    }
}

/// A request with everything that may be left out.
fn sent<T: DeserializeOwned + Serialize>(said: Value) -> Value {
    let request: T = serde_json::from_value(said).unwrap();
    serde_json::to_value(&request).unwrap()
}

fn app(fields: Value) -> Value {
    let app = json!({
        "name": "A", "app_id": "app-1", "client_id": "c-1", "product_id": "p",
        "registered_at": "2026-01-01T00:00:00Z", "scopes": "license:checkout",
        "secret_generation": 1, "token_algorithm": "RS256", "vendor_id": "v",
    });
    with(app, fields)
}

#[test]
fn applications_are_documents() {
    let list = json!({ "apps": [app(json!({}))] });
    done(&["app", "list"], &[Exchange::get("GET /admin/apps?limit=1000", list)]);
    let request =
        sent::<RegisterAppRequest>(json!({ "name": "A", "product_id": "p", "vendor_id": "v" }));
    let registered = json!({
        "app_id": "app-1", "client_id": "c-1", "client_secret": "s",
        "license_server_url": "https://lic.example.com", "token_endpoint": "/oauth/token",
    });
    let register =
        Exchange { status: 201, ..Exchange::change("POST /admin/apps", request, registered) };
    let words = ["--name", "A", "--product-id", "p", "--vendor", "v"];
    let script = std::slice::from_ref(&register);
    let one = done(&[&["app", "register"], &words[..]].concat(), script);
    assert_eq!(done(&[&["register-app"], &words[..]].concat(), script), one);
    let rotated = json!({
        "app_id": "app-1", "client_id": "c-1", "client_secret": "s", "secret_generation": 2,
    });
    let rotate = Exchange::change("POST /admin/apps/app-1/rotate-secret", Value::Null, rotated);
    done(&["app", "rotate-secret", "app-1"], &[rotate]);
    let removed = Exchange::change("DELETE /admin/apps/app-1", Value::Null, json!({}));
    done(&["app", "remove", "app-1"], &[Exchange { status: 204, ..removed }]);
}

#[test]
fn seats_are_documents() {
    let access = || {
        let token = json!({
            "access_token": "at", "token_type": "Bearer", "expires_in": 60,
            "scope": "license:checkout",
        });
        Exchange::get("POST /oauth/token", token)
    };
    let as_app = ["--client-id", "c", "--client-secret", "s"];
    let seat = |fields: Value| {
        let seat = json!({
            "expires_at": "2026-12-01T08:00:00Z", "expires_in_ms": 900_000,
            "heartbeat_interval_ms": 300_000, "renewal_token": "rt1-x",
            "fence": "00000001-000000000000002a-0000-9f3c5d7e11a0b2c4",
        });
        with(seat, fields)
    };
    let taken = seat(json!({
        "status": "success", "lease_id": LEASE, "lease_type": "overage", "package_id": "p-1",
        "quantity": 1, "features": ["can"], "cost": 500.0, "currency": "EUR", "pool": "team-a",
    }));
    let checkout = Exchange::change(
        "POST /api/v1/licenses/checkout",
        sent::<CheckoutRequest>(json!({ "product_id": "p", "user": "a@b.c", "hostname": "h" })),
        taken,
    );
    let line = ["checkout", "--product-id", "p", "--user", "a@b.c", "--hostname", "h"];
    done(&[&line, &as_app[..]].concat(), &[access(), checkout]);
    let renew = Exchange::change(
        "PUT /api/v1/licenses/lease-1/heartbeat",
        json!({ "renewal_token": "rt1-x", "still_active": true }),
        seat(json!({ "status": "renewed", "offline_token": "ey.x.y" })),
    );
    // A renewal token makes its own repeat harmless, and the client names a key for all changes.
    let line = ["heartbeat", "lease-1", "--renewal-token", "rt1-x"];
    done(&[&line, &as_app[..]].concat(), &[access(), renew]);
    let returned = json!({ "status": "returned", "lease_duration": "1h 0m", "total_cost": 0.0 });
    let give_back = Exchange::change(
        "POST /api/v1/licenses/lease-1/return",
        sent::<ReturnRequest>(
            json!({ "lease_id": "lease-1", "usage_metadata": { "features_used": ["can"] } }),
        ),
        returned,
    );
    let line = ["return", "lease-1", "--feature-used", "can"];
    done(&[&line, &as_app[..]].concat(), &[access(), give_back]);
    done(&[&["token"], &as_app[..]].concat(), &[access()]);
}

#[test]
fn leases_are_documents() {
    let lease = json!({
        "acquired_at": "2026-01-01T00:00:00Z", "app_id": "app-1", "cost": 500.0,
        "expires_at": "2026-01-01T00:15:00Z", "expires_in_ms": 900_000, "features": [],
        "fence": "00000001-000000000000002a-0000-9f3c5d7e11a0b2c4", "hostname": "h",
        "lease_id": LEASE, "lease_type": "commit", "log_index": "42", "package_id": "p-1",
        "product_id": "p", "quantity": 1, "renewals": 0, "state": "active", "user": null,
    });
    let list = json!({ "leases": [lease] });
    done(&["lease", "list"], &[Exchange::get("GET /admin/leases?limit=1000", list)]);
    let show = Exchange::get("GET /admin/leases/lease-1", lease);
    done(&["lease", "show", "lease-1"], &[show]);
    let release = Exchange::change(
        "POST /admin/leases/lease-1/release",
        json!({ "reason": "left" }),
        json!({ "lease_id": "lease-1", "state": "ended" }),
    );
    done(&["lease", "release", "lease-1", "--reason", "left"], &[release]);
}

fn package(state: &str) -> Value {
    json!({
        "client_domain": "bmw.com", "client_id": "bmw-de-001", "client_name": "BMW AG",
        "features": ["can"], "imported_at": "2026-01-01T00:00:00Z", "key_fingerprint": "SHA256:3b",
        "layout": "journey", "package_id": "p-1",
        "policy": {
            "borrow_max_ms": 0, "borrow_online_reserve": 0, "borrow_seats_max": 5,
            "heartbeat_interval_ms": 300_000, "lease_ttl_ms": 900_000, "offline": true,
            "offline_skew_ms": 600_000, "renewal_rotation": true, "sharing": "none",
        },
        "pricing": { "commit_fee_monthly": 500.0, "currency": "EUR", "overage_per_use": 500.0 },
        "product_id": "p", "product_name": "P", "product_version": ">=8.0.0",
        "seats": {
            "commit": 5, "commit_in_use": 1, "max_overage": 15, "overage_in_use": 0, "total": 20,
        },
        "state": state, "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2026-12-31T00:00:00Z", "vendor_id": "v", "vendor_name": "V",
    })
}

#[test]
fn packages_are_documents() {
    let list = json!({ "packages": [package("active")] });
    done(&["package", "list"], &[Exchange::get("GET /admin/packages?limit=1000", list)]);
    let show = Exchange::get("GET /admin/packages/p-1", package("active"));
    done(&["package", "show", "p-1"], &[show]);
    for (verb, request, state) in [
        ("suspend", "POST /admin/packages/p-1/suspend", "suspended"),
        ("resume", "POST /admin/packages/p-1/resume", "active"),
        ("revoke", "POST /admin/packages/p-1/revoke", "revoked"),
        ("release-reserved", "POST /admin/packages/p-1/release-reserved", "active"),
    ] {
        done(&["package", verb, "p-1"], &[Exchange::change(request, json!({}), package(state))]);
    }
}

#[test]
fn what_a_vendor_makes_are_documents_to_the_import() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (private, public) = (path("vendor.pem"), path("vendor.pub"));
    let (template, signed) = (path("template.json"), path("signed.json"));
    std::fs::write(&template, sample_document(0, 4_102_444_800_000, &[])).unwrap();
    let keys = ["--algorithm", "ed25519", "--private-key", &private, "--public-key", &public];
    let made = done(&[&["package", "keygen"], &keys[..]].concat(), &[]);
    let sign = ["package", "sign", "--package", &template, "--key", &private, "--out"];
    done(&[&sign[..], &[&*signed]].concat(), &[]);
    let whole = done(&[&sign[..], &["-"]].concat(), &[]);
    let text = std::fs::read_to_string(&signed).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), whole);
    let verify = ["package", "verify", "--package", &signed, "--vendor-public-key", &public];
    let verified = done(&verify, &[]);
    let vendor = json!({
        "vendor_id": "vector-de", "name": "vector-de", "algorithm": made["algorithm"],
        "fingerprint": made["fingerprint"], "public_key": std::fs::read_to_string(&public).unwrap(),
    });
    let list = json!({ "vendors": [vendor] });
    done(&["vendor", "trust", "list"], &[Exchange::get("GET /admin/vendors?limit=1000", list)]);
    let imported = json!({
        "key_fingerprint": made["fingerprint"], "package_id": verified["package_id"],
        "product_id": verified["product_id"], "status": "imported", "total": verified["total"],
        "valid_until": verified["valid_until"], "vendor_id": verified["vendor_id"],
    });
    let import =
        Exchange::change("POST /admin/licenses/import", json!({ "package": text }), imported);
    let script = [Exchange { status: 201, ..import }];
    let one = done(&["import", "--package", &signed], &script);
    assert_eq!(done(&["package", "import", "--package", &signed], &script), one);
}

#[test]
fn the_cluster_is_a_document() {
    let status = json!({
        "cluster_id": "lh-1", "leader": 1, "has_quorum": true, "epoch": { "number": 1,
            "incarnation": "00a1b2c3d4e5f607" }, "civil_time": "2026-01-01T00:00:00Z",
        "quorum": { "voters": 1, "needed": 1, "answering": 1, "may_fail": 0 }, "alarms": [],
        "nodes": [{ "id": 1, "role": "leader", "voter": true, "region": "eu", "zone": "a",
            "peer": "127.0.0.1:7411", "gateway": "https://127.0.0.1:7401", "term": "3",
            "applied_index": "42", "lag": "0", "sealed": false, "alarms": [],
            "detail": { "version": "0.1.0", "recovered": true, "added_later": 1 } }],
    });
    let get = || Exchange::get("GET /admin/cluster/status", status.clone());
    assert_eq!(done(&["cluster", "status"], &[get()]), status, "all that the server says");
    assert_eq!(done(&["endpoint", "status"], &[get()]), status);
    done(&["doctor", "--list"], &[]);
    let script = || {
        [
            Exchange::get("GET /metrics", json!("leasehold_leases 3\n")),
            get(),
            Exchange::get("GET /admin/packages?limit=1000", json!({ "packages": [] })),
            Exchange::get(
                "GET /admin/members",
                json!({ "members": [], "invited": [], "former": [] }),
            ),
        ]
    };
    done(&["doctor"], &script());
    let [metrics, status, ..] = script();
    let packages = json!({ "packages": [package("active")] });
    let packages = Exchange::get("GET /admin/packages?limit=1000", packages);
    let picture = done(&["top", "--once"], &[status, packages, metrics]);
    assert_eq!(picture["packages"][0]["total"], 20);
    let one = json!({
        "name": "night shift", "api_key": false, "expired": false,
        "operator_id": "operator-00000000c0ffee00", "role": "auditor",
    });
    let list = Exchange::get("GET /admin/operators?limit=1000", json!({ "operators": [one] }));
    done(&["operator", "list"], &[list]);
}
