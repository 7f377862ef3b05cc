//! The `classic` face: bodies, API keys and signed headers.

use anyhow::{Result, ensure};
use protocol::classic::signature::{SignatureHeaders, SignedParts, sign, verify};
use protocol::classic::validation::ValidationErrors;
use protocol::classic::{api_key, wire};
use serde::Serialize;

use super::bodies::body;
use super::{Decoder, Family, Verdict};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let family = Family::Classic;
    Ok(vec![
        request("classic-borrow", wire::BorrowRequest::from_body, BORROW),
        request("classic-return", wire::ReturnRequest::from_body, r#"{"id":"b-1","x":[1]}"#),
        request(
            "classic-protection",
            wire::ProtectionRequest::from_body,
            r#"{"tool":"cad","max_spend":1500.5}"#,
        ),
        request(
            "classic-new-key",
            wire::NewKeyRequest::from_body,
            r#"{"name":"ci","environment":"live","tenant_id":"acme"}"#,
        ),
        api_keys()?,
        signatures(),
        body::<wire::Borrow>(
            "classic-borrow-answer",
            family,
            &[r#"{"id":"b-1","tool":"cad","user":"alice","borrowed_at":"2026-11-22T10:36:14"}"#],
        ),
        body::<wire::ToolStatus>("classic-status", family, &[STATUS]),
        body::<ValidationErrors>("classic-validation-errors", family, &[ERRORS]),
    ])
}

/// A body that the face reads for itself; what is read is written and read again.
fn request<T: Serialize + 'static>(
    name: &'static str,
    read: fn(&[u8]) -> Result<T, ValidationErrors>,
    example: &str,
) -> Decoder {
    let examples = vec![example.as_bytes().to_vec()];
    Decoder::new(name, Family::Classic, examples, move |bytes, _| match read(bytes) {
        Ok(request) => {
            let written = serde_json::to_vec(&request)?;
            let Ok(again) = read(&written) else { anyhow::bail!("cannot be read again") };
            ensure!(serde_json::to_vec(&again)? == written, "reads back differently");
            Ok(Verdict::Accepted)
        }
        Err(errors) => {
            ensure!(!errors.detail.is_empty(), "refused without a reason");
            // What came is told again three levels deeper than it came, so that not every reader
            // takes it; it is written all the same.
            let _answer = serde_json::to_vec(&errors)?;
            Ok(Verdict::Refused)
        }
    })
}

fn api_keys() -> Result<Decoder> {
    let made = [("acme", "live"), ("a_b.c-d", "test-1")].map(|(tenant, environment)| {
        Ok(api_key::generate(tenant, environment, &[0x5a; 32])?.expose().as_bytes().to_vec())
    });
    let examples = made.into_iter().collect::<Result<Vec<Vec<u8>>>>()?;
    Ok(Decoder::new("classic-api-key", Family::Classic, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(parts) = api_key::parse(&text) else { return Ok(Verdict::Refused) };
        let front = format!("{}_{}_pk_", parts.tenant, parts.environment);
        ensure!(text.starts_with(&front) && text.len() == front.len() + 43, "{parts:?}");
        Ok(Verdict::Accepted)
    }))
}

/// Three lines: signature, timestamp, tool.
fn signatures() -> Decoder {
    let signed = |timestamp: &str, tool: &str| {
        let parts = SignedParts { tool, user: "alice", timestamp, api_key: None };
        format!("{}\n{timestamp}\n{tool}", sign(SECRET, &parts)).into_bytes()
    };
    let examples = vec![signed("1795300000", "cad"), signed("1795299900", "")];
    Decoder::new("classic-signature", Family::Classic, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.splitn(3, '\n');
        let mut next = || lines.next().unwrap_or_default();
        let (signature, timestamp, tool) = (next(), next(), next());
        let headers = SignatureHeaders {
            signature: Some(signature),
            timestamp: Some(timestamp),
            vendor: None,
        };
        let verified = verify(&headers, Some(SECRET), tool, "alice", None, 1_795_300_000);
        if verified.is_ok() {
            let known = [("1795300000", "cad"), ("1795299900", "")];
            ensure!(known.contains(&(timestamp, tool)), "nobody signed {timestamp:?} {tool:?}");
        }
        Ok(Verdict::of(&verified))
    })
}

const SECRET: &[u8] = b"a secret of a vendor";
const BORROW: &str = r#"{"tool":"cad","user":"alice","note":null}"#;
const STATUS: &str = r#"{"tool":"cad","total":20,"borrowed":3,"available":17,"commit":5,
    "max_overage":15,"overage":0,"in_commit":true,"commit_price":5000.0,
    "overage_price_per_license":500.0,"current_overage_cost":0.0,"total_cost":5000.0}"#;
const ERRORS: &str = r#"{"detail":[{"type":"missing","loc":["body","user"],
    "msg":"Field required","input":{"tool":"cad"},"ctx":{"error":"x"}}]}"#;
