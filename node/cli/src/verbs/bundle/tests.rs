//! An archive of a cluster that is full of secrets and people, and none of them in it.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::scripted::{Exchange, play};

/// What must not leave: every kind of credential, and everybody.
const SECRETS: &[&str] = &[
    "lh_op_4f1c9a7e",
    "lhj1_Zm9vYmFy",
    "Zk8Jq2Lw0aXcVb9mNnQwErTyUi4Hs7Gd",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "rt1-00000001-abcdef",
    "lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga",
    "6b7d0c9b1f2e3d4c5b6a79880123456789abcdef0123456789abcdef01234567",
    "ABCDE-FGH12-KLMNO-PQRST",
    "MC4CAQAwBQYDK2VwBCIEIAkJ",
    "hunter2",
];
const PEOPLE: &[&str] = &["alice@bmw.com", "bob.builder", "dev-workstation-042"];

fn planted() -> String {
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAkJ\n-----END PRIVATE KEY-----";
    let words: Vec<&str> = SECRETS
        .iter()
        .chain(PEOPLE)
        .copied()
        .filter(|it| !it.starts_with("MC4") && *it != "hunter2")
        .collect();
    format!("{}\n{pem}", words.join(" "))
}

fn script() -> Vec<Exchange> {
    let subject = |name: &str| json!({ "reference": "8c1f0a5b2d9e4f77", "name": name });
    let event = |seq: u64, user: &str, host: &str| {
        json!({
            "seq": seq.to_string(), "time": "2026-01-01T00:00:00Z", "kind": "lease_granted",
            "actor": "app-00000000c0ffee00", "request_id": "r", "lease_id": SECRETS[5],
            "user": subject(user), "host": subject(host), "detail": { "reason": planted() },
            "hash": "00".repeat(32), "previous": "11".repeat(32),
        })
    };
    let events = [event(7, PEOPLE[0], PEOPLE[2]), event(6, PEOPLE[1], PEOPLE[2])];
    let alarm = json!({ "node_id": 1, "kind": "LAG", "detail": planted(), "logged": true,
                        "found_now": true });
    let status = json!({
        "cluster_id": "lh-1", "secret": planted(), "alarms": [alarm],
        "nodes": [{ "id": 1, "role": "leader", "voter": true, "token": planted(),
                    "gateway": "https://127.0.0.1:7401", "detail": { "version": "0.1.0" } }],
    });
    // The scripted server sends a JSON text, in which a key's lines would be one with all others.
    let words = planted().lines().next().unwrap_or_default().to_owned();
    let metrics = format!("leasehold_leases 3\n# {words}\n");
    vec![
        Exchange::get(
            "GET /admin/audit?order=desc&limit=1000",
            json!({ "events": events, "floor": "0", "head": "7" }),
        ),
        Exchange::get("GET /metrics", Value::String(metrics)),
        Exchange::get("GET /admin/cluster/status", status),
        Exchange::get("GET /admin/packages?limit=1000", json!({ "packages": [] })),
        Exchange::get(
            "GET /admin/members",
            json!({ "members": [], "invited": [], "former": [], "note": planted() }),
        ),
        Exchange::get("GET /admin/alarms", json!({ "alarms": [alarm] })),
    ]
}

fn unpack(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mode().unwrap(), 0o600);
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        })
        .collect()
}

#[test]
fn a_bundle_has_what_a_supporter_needs_and_no_secret_and_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (file, config, log) = (place("b.tar.gz"), place("node.toml"), place("node.log"));
    let toml = format!(
        "cluster_id = \"lh-1\"\nadmin = \"{}\"\n[keys]\nkek = \"keys/kek.pem\"\npassword = \
         \"hunter2\"\n[log]\nlevel = \"info\"\n",
        SECRETS[0]
    );
    std::fs::write(&config, toml).unwrap();
    std::fs::write(&log, format!("INFO node starts\nWARN {}\n", planted())).unwrap();
    let line = ["bundle", "gather", &file, "--config", &config, "--log", &log];
    let report = play(&line, &script()).unwrap_or_else(|error| panic!("{}", error.line()));
    assert_eq!(report.exit.code(), 0, "{:?}", report.parts);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpack(&std::fs::read(&file).unwrap());
    let all = files.values().cloned().collect::<Vec<_>>().join("\n");
    for gone in SECRETS.iter().chain(PEOPLE) {
        let holder = files.iter().find(|(_, text)| text.contains(gone)).map(|(name, _)| name);
        assert_eq!(holder, None, "{gone} is in the archive");
    }
    for kept in
        ["lh-1", "keys/kek.pem", "INFO node starts", "8c1f0a5b2d9e4f77", "leasehold_leases 3"]
    {
        assert!(all.contains(kept), "{kept} is missing");
    }
    let manifest: Value = serde_json::from_str(&files["bundle/manifest.json"]).unwrap();
    let listed = manifest["files"].as_array().unwrap();
    assert_eq!(listed.len() + 1, files.len());
    for one in listed {
        let name = format!("bundle/{}", one["name"].as_str().unwrap());
        let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(files[&name].as_bytes()));
        assert_eq!(one["sha256"], sha256, "{name}");
        assert_eq!(one["bytes"], files[&name].len(), "{name}");
    }
    assert_eq!(manifest["missing"], json!([]));
    let again = play(&line, &[]).err().unwrap();
    assert_eq!(again.exit().code(), 2, "a file that is there is left as it is");
}
