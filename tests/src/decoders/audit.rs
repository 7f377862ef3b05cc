//! Signed segments of the audit log, and the requests and queries about it, about people and about
//! operator tokens.

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::audit_segment::{
    EventHash, SegmentHeader, SegmentLine, SegmentReader, SegmentWriter, VerifiedSegment,
};
use protocol::cloud::admin;
use protocol::offline::KeySet;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::bodies::{body, query};
use super::{Decoder, Family, Origin, Verdict, samples};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    Ok(vec![
        audit_segment()?,
        body::<admin::PruneAuditRequest>(
            "prune-audit-request",
            Family::Bodies,
            &[
                &json!({ "upto_seq": "800", "hash": EventHash([7; 32]) }).to_string(),
                &json!({ "before": "2027-01-31T12:00:00Z", "hash": EventHash([7; 32]) })
                    .to_string(),
            ],
        ),
        body::<admin::EraseSubjectRequest>(
            "erase-subject-request",
            Family::Bodies,
            &[r#"{"reason":"request of 2027-01-31"}"#, "{}"],
        ),
        body::<admin::AddOperatorRequest>(
            "add-operator-request",
            Family::Bodies,
            &[
                r#"{"name":"night shift","role":"operator","expires_in":604800}"#,
                r#"{"name":"backup","role":"auditor"}"#,
            ],
        ),
        query::<admin::AuditQuery>(
            "audit-query",
            &[
                "after=7&kind=lease_granted&order=desc&cursor=9&limit=3",
                "user=a%40b.c&host=h&since=2027-01-31T12:00:00Z&until=2027-02-01T00:00:00Z",
                "",
            ],
        ),
        query::<admin::AuditVerifyQuery>("audit-verify-query", &["cursor=7%3Aab", ""]),
        query::<admin::AuditExportQuery>("audit-export-query", &["from=1&to=800", ""]),
        query::<admin::SubjectQuery>("subject-query", &["name=a%40b.c&kind=user", "limit=7"]),
    ])
}

/// What people read, and the bytes after the hash of the event before.
type Event = (Value, Vec<u8>);
type Events = Vec<Event>;

fn header(to: u64) -> SegmentHeader {
    let cluster_id = "lh-1a2b3c".to_owned();
    SegmentHeader { cluster_id, epoch: 2, from: 5, to, previous: EventHash([9; 32]) }
}

fn key_set() -> Result<KeySet> {
    Ok(KeySet::of(samples::ed25519().public_key()?)?)
}

/// A segment of these events; their bytes are put in a row.
fn segment(events: &[Event]) -> Result<String> {
    let header = header(4 + events.len() as u64);
    let mut previous = header.previous;
    let (mut writer, mut text) = SegmentWriter::begin(header);
    for (event, rest) in events {
        let bytes = [&previous.0[..], rest].concat();
        previous = EventHash::of(&bytes);
        text += &writer.event(event, &bytes)?;
    }
    Ok(text + &writer.finish(&samples::ed25519(), ISSUED_S)?)
}

fn examples() -> Result<Vec<Vec<u8>>> {
    let event = |kind: &str, rest: &[u8]| (json!({ "kind": kind }), rest.to_vec());
    let short = [event("lease_granted", b"one")];
    let longer = [event("lease_granted", b""), event("refused", b"two"), event("x", &[0; 90])];
    Ok(vec![segment(&short)?.into_bytes(), segment(&longer)?.into_bytes()])
}

/// The segment in a text, if every byte of it is believed, and its events.
fn read(bytes: &[u8]) -> Result<Option<(VerifiedSegment, Events)>> {
    let Some(lines) = bytes.strip_suffix(b"\n") else { return Ok(None) };
    let (mut reader, mut events) = (SegmentReader::default(), Vec::new());
    for line in lines.split(|byte| *byte == b'\n') {
        match reader.line(line) {
            Ok(SegmentLine::Event { event, bytes, .. }) => {
                events.push((event.to_owned(), bytes[32..].to_vec()));
            }
            Ok(_) => {}
            Err(_) => return Ok(None),
        }
    }
    // What an event says is read once its signature is believed: only then must it be readable.
    let Ok(verified) = reader.finish(&key_set()?) else { return Ok(None) };
    let read = |(event, rest): (Box<RawValue>, _)| Ok((serde_json::from_str(event.get())?, rest));
    Ok(Some((verified, events.into_iter().map(read).collect::<Result<_>>()?)))
}

fn audit_segment() -> Result<Decoder> {
    let known = examples()?;
    let check = move |bytes: &[u8], origin| {
        let Some((verified, events)) = read(bytes)? else { return Ok(Verdict::Refused) };
        ensure!(verified.count == events.len() as u64, "events that were not counted");
        if origin == Origin::AsFound {
            ensure!(known.iter().any(|text| text == bytes), "a segment that nobody signed");
        } else {
            ensure!(segment(&events)?.as_bytes() == bytes, "what was read is written differently");
        }
        Ok(Verdict::Accepted)
    };
    let decoder = Decoder::new("audit-segment", Family::Documents, examples()?, check);
    Ok(decoder.mended_by(|bytes| {
        // Whatever lines are events, in a row and signed.
        let lines = bytes.split(|byte| *byte == b'\n');
        let events = lines.filter_map(|line| {
            let mut line: Value = serde_json::from_slice(line).ok()?;
            let bytes = STANDARD.decode(line["bytes"].as_str()?).ok()?;
            Some((line["event"].take(), bytes.get(32..).unwrap_or_default().to_vec()))
        });
        let events: Events = events.take(64).collect();
        (!events.is_empty()).then(|| segment(&events).ok().map(String::into_bytes)).flatten()
    }))
}

const ISSUED_S: u64 = 1_800_000_000;
