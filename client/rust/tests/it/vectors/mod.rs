//! The vectors of `client/vectors/v1`, read as every SDK reads them: each result is worked out from
//! its inputs and compared, and each byte of what is signed or sealed is changed twice (its lowest
//! and its highest bit) and refused.
//!
//! | module | owns |
//! |---|---|
//! | `tokens` | offline tokens, key sets, clocks set back, access tokens |
//! | `device` | fingerprints, payloads, schedules, sealed licenses, envelopes, stored files |
//! | `documents` | evaluation licenses and clocks, signed borrows, packages |
//!
//! What it leaves to others: that the files are what a server writes (the tests of `protocol`).

mod device;
mod documents;
mod tokens;

use std::path::PathBuf;

use serde_json::Value;

/// Every file, so that a new one is not passed over.
const FILES: [&str; 12] = [
    "classic_signature.json",
    "cloud_package.json",
    "deployment_access_token.json",
    "device_activation.json",
    "device_envelope.json",
    "device_fingerprint.json",
    "device_payload.json",
    "device_schedule.json",
    "device_stored_license.json",
    "evaluation_clock.json",
    "evaluation_license.json",
    "offline_token.json",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors/v1")
}

fn vector(name: &str) -> Value {
    assert!(FILES.contains(&name), "{name}");
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["version"], 1, "{name}");
    assert!(file["source"].as_array().is_some_and(|source| !source.is_empty()), "{name}");
    file
}

#[test]
fn every_file_of_the_version_is_read() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, FILES);
    for name in FILES {
        vector(name);
    }
}

/// The rows of a table, none of which may be empty.
fn rows<'a>(file: &'a Value, table: &str) -> &'a [Value] {
    let rows = file[table].as_array().unwrap_or_else(|| panic!("no table {table}"));
    assert!(!rows.is_empty(), "{table}");
    rows
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("no text {name} in {row}"))
}

/// A text that may be null; a name that is not there is a mistake.
fn optional<'a>(row: &'a Value, name: &str) -> Option<&'a str> {
    let member = row.get(name).unwrap_or_else(|| panic!("no {name} in {row}"));
    member.as_str()
}

fn number(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("no number {name} in {row}"))
}

fn flag(row: &Value, name: &str) -> bool {
    row[name].as_bool().unwrap_or_else(|| panic!("no flag {name} in {row}"))
}

fn bytes(row: &Value, name: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text(row, name).as_bytes()).unwrap()
}

fn array<const N: usize>(row: &Value, name: &str) -> [u8; N] {
    bytes(row, name).try_into().unwrap()
}

/// Believes the bytes as they are, and none that differ from them in one bit of one byte.
fn every_change_is_refused(what: &str, good: &[u8], accepts: impl Fn(&[u8]) -> bool + Sync) {
    assert!(!good.is_empty() && accepts(good), "{what} is refused as it is");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let accepts = &accepts;
            scope.spawn(move || {
                let mut changed = good.to_vec();
                for at in (thread..good.len()).step_by(threads) {
                    for bit in [0x01, 0x80] {
                        changed[at] ^= bit;
                        assert!(!accepts(&changed), "{what}: byte {at}, bit {bit:#04x}");
                        changed[at] ^= bit;
                    }
                }
            });
        }
    });
}

/// The same for what a caller takes as text: bytes that are none are refused before it.
fn every_change_of_text_is_refused(what: &str, good: &str, accepts: impl Fn(&str) -> bool + Sync) {
    every_change_is_refused(what, good.as_bytes(), |changed| {
        std::str::from_utf8(changed).is_ok_and(&accepts)
    });
}
