//! `classic_signature.json`: the signed headers of a borrow.

use protocol::classic::signature::{SignatureHeaders, SignedParts, sign, verify};

use super::document::{Node, list, object};

const SECRET: &str = "leasehold vector vendor secret";
const API_KEY: &str = "acme_test_pk_bGVhc2Vob2xkIHZlY3RvcnMgY2xhc3NpYyBrZXkgMDE";
const NOW: i64 = 1_800_000_000;

fn parts<'a>(tool: &'a str, api_key: Option<&'a str>) -> SignedParts<'a> {
    SignedParts { tool, user: "alice", timestamp: "1800000000", api_key }
}

fn signed() -> Vec<Node> {
    [
        ("with an API key", "CAN Bus Analyzer Pro", Some(API_KEY)),
        ("without one", "CAN Bus Analyzer Pro", None),
        ("without one, as the older server expects it", "CAN Bus Analyzer Pro", Some("")),
        ("a tool outside ASCII", "Prüfstand", Some(API_KEY)),
    ]
    .map(|(name, tool, api_key)| {
        let parts = parts(tool, api_key);
        let signed_text = [Some(tool), Some("alice"), Some("1800000000"), api_key]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("|");
        object! {
            name: name,
            tool: tool,
            user: parts.user,
            timestamp: parts.timestamp,
            api_key: api_key,
            signed_text: signed_text,
            signature: sign(SECRET.as_bytes(), &parts),
        }
    })
    .to_vec()
}

fn verified() -> Vec<Node> {
    let tool = "CAN Bus Analyzer Pro";
    let with_key = sign(SECRET.as_bytes(), &parts(tool, Some(API_KEY)));
    let without = sign(SECRET.as_bytes(), &parts(tool, None));
    let with_bar = sign(SECRET.as_bytes(), &parts(tool, Some("")));
    let at = Some("1800000000");
    let key = Some(API_KEY);
    [
        ("with an API key", Some(&with_key), at, key, NOW, "ok"),
        ("without one", Some(&without), at, None, NOW, "ok"),
        ("without one, a bar at the end", Some(&with_bar), at, None, NOW, "ok"),
        ("signed without the key that is sent", Some(&without), at, key, NOW, "Invalid signature"),
        ("signed with a key that is not sent", Some(&with_key), at, None, NOW, "Invalid signature"),
        ("300 seconds late", Some(&with_key), at, key, NOW + 300, "ok"),
        ("300 seconds early", Some(&with_key), at, key, NOW - 300, "ok"),
        (
            "301 seconds late",
            Some(&with_key),
            at,
            key,
            NOW + 301,
            "Request expired (timestamp difference: 301s)",
        ),
        (
            "301 seconds early",
            Some(&with_key),
            at,
            key,
            NOW - 301,
            "Request expired (timestamp difference: 301s)",
        ),
        (
            "no timestamp",
            Some(&with_key),
            None,
            key,
            NOW,
            "Missing X-Signature or X-Timestamp headers",
        ),
        ("no signature", None, at, key, NOW, "Missing X-Signature or X-Timestamp headers"),
        (
            "a timestamp that is no number",
            Some(&with_key),
            Some("now"),
            key,
            NOW,
            "Invalid timestamp format",
        ),
        ("upper-case hex", Some(&with_key.to_uppercase()), at, key, NOW, "Invalid signature"),
    ]
    .map(|(name, signature, timestamp, api_key, now_seconds, verdict)| {
        let signature = signature.map(String::as_str);
        let headers = SignatureHeaders { signature, timestamp, vendor: None };
        let found = verify(&headers, Some(SECRET.as_bytes()), tool, "alice", api_key, now_seconds);
        assert_eq!(found.map_or_else(|error| error.to_string(), |()| "ok".into()), verdict);
        object! {
            name: name,
            tool: tool,
            user: "alice",
            x_signature: signature,
            x_timestamp: timestamp,
            api_key: api_key,
            now_seconds: now_seconds,
            verdict: verdict,
        }
    })
    .to_vec()
}

pub(super) fn make() -> Node {
    super::file(
        "Signed borrows of the older API: the text that is signed, its HMAC-SHA-256 in lower-case \
         hex, and what a server says to headers.",
        &["reference clients of the classic API, security headers"],
        vec![
            ("vendor_secret", SECRET.into()),
            ("sign", list(signed())),
            ("verify", list(verified())),
        ],
    )
}
