//! Signed parts of the audit log: what is written reads back, and no byte can be changed.

use proptest::prelude::*;
use protocol::audit_segment::{
    EventHash, SegmentError, SegmentHeader, SegmentLine, SegmentReader, SegmentWriter,
    VerifiedSegment, WriteError,
};
use protocol::keys::PrivateKey;
use protocol::offline::key_set::KeySet;
use protocol::secret::Secret;
use serde_json::json;

fn key() -> PrivateKey {
    PrivateKey::ed25519(&Secret::new([7; 32]))
}

fn keys() -> KeySet {
    KeySet::of(key().public_key().unwrap()).unwrap()
}

fn header(from: u64, to: u64) -> SegmentHeader {
    let previous = EventHash([9; 32]);
    SegmentHeader { cluster_id: "lh-1a2b".to_owned(), epoch: 2, from, to, previous }
}

/// Bytes of events that hang together.
fn events(count: u64) -> Vec<Vec<u8>> {
    let mut previous = EventHash([9; 32]);
    let event = |number: u64| {
        let bytes = [&previous.0[..], &number.to_be_bytes(), b" something happened"].concat();
        previous = EventHash::of(&bytes);
        bytes
    };
    (0..count).map(event).collect()
}

/// The segment of events 5 to 5 + count - 1.
fn segment(count: u64) -> String {
    let (mut writer, mut text) = SegmentWriter::begin(header(5, 4 + count));
    for (number, bytes) in events(count).iter().enumerate() {
        let shown = json!({ "seq": (number + 5).to_string(), "kind": "lease_granted" });
        text += &writer.event(&shown, bytes).unwrap();
    }
    text + &writer.finish(&key(), 1_800_000_000).unwrap()
}

fn read(text: &[u8]) -> Result<VerifiedSegment, SegmentError> {
    read_with(text, &keys())
}

fn read_with(text: &[u8], keys: &KeySet) -> Result<VerifiedSegment, SegmentError> {
    let mut reader = SegmentReader::default();
    let Some(text) = text.strip_suffix(b"\n") else { return Err(SegmentError::Truncated) };
    for line in text.split(|byte| *byte == b'\n') {
        reader.line(line)?;
    }
    reader.finish(keys)
}

#[test]
fn what_is_written_reads_back() {
    for count in [1, 2, 300] {
        let text = segment(count);
        let found = read(text.as_bytes()).unwrap();
        let bytes = events(count);
        assert_eq!((found.count, &found.header), (count, &header(5, 4 + count)));
        assert_eq!(found.hash, EventHash::of(bytes.last().unwrap()));
        let before_last =
            bytes.iter().rev().nth(1).map_or(EventHash([9; 32]), |it| EventHash::of(it));
        assert_eq!(found.before_last, before_last);
        assert_eq!(found.issued_s, 1_800_000_000);
    }
    let text = segment(2);
    let mut reader = SegmentReader::default();
    let mut lines = text.lines();
    let first = reader.line(lines.next().unwrap().as_bytes()).unwrap();
    assert!(matches!(first, SegmentLine::Header(found) if found == header(5, 6)));
    let second = reader.line(lines.next().unwrap().as_bytes()).unwrap();
    let SegmentLine::Event { seq, event, bytes } = second else { panic!("{second:?}") };
    assert_eq!((seq, &bytes), (5, &events(1)[0]));
    assert_eq!(event.get(), r#"{"kind":"lease_granted","seq":"5"}"#);
    assert_eq!(reader.count(), 1);
    assert!(!reader.is_at_end());
}

#[test]
fn no_byte_of_a_segment_can_be_changed() {
    let text = segment(3);
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1 << bit;
            assert!(read(&changed).is_err(), "byte {at}, bit {bit}: {:?}", &text[at..=at]);
        }
    }
}

#[test]
fn no_line_can_be_left_out_doubled_or_moved() {
    let text = segment(3);
    let lines: Vec<&str> = text.lines().collect();
    for at in 0..lines.len() {
        let mut less = lines.clone();
        less.remove(at);
        let mut more = lines.clone();
        more.insert(at, lines[at]);
        let mut moved = lines.clone();
        moved.swap(at, (at + 1) % lines.len());
        for wrong in [less, more, moved] {
            let text = wrong.join("\n") + "\n";
            assert!(read(text.as_bytes()).is_err(), "line {at}");
        }
    }
    for end in 0..text.len() {
        assert!(read(&text.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let text = segment(3);
    let check = |text: &str, want: SegmentError| assert_eq!(read(text.as_bytes()), Err(want));
    check("", SegmentError::Truncated);
    check("{}\n", SegmentError::Line { line: 1 });
    check(&text.replace("\"version\":1", "\"version\":2"), SegmentError::Version { found: 2 });
    let shown = text.replace("lease_granted", "lease_returned");
    check(&shown, SegmentError::Changed);
    check(&(text.clone() + "{}\n"), SegmentError::Trailing);
    let all_but_last = text.lines().take(4).map(|line| line.to_owned() + "\n");
    check(&all_but_last.collect::<String>(), SegmentError::Truncated);
    let without_second: Vec<&str> =
        text.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
    check(&(without_second.join("\n") + "\n"), SegmentError::Broken { seq: 6 });
    let strangers = KeySet::of(PrivateKey::ed25519(&Secret::new([8; 32])).public_key().unwrap());
    let error = read_with(text.as_bytes(), &strangers.unwrap()).unwrap_err();
    assert!(matches!(error, SegmentError::Signature(_)), "{error:?}");
}

#[test]
fn nothing_is_signed_that_does_not_hang_together() {
    let bytes = events(3);
    let (mut writer, _) = SegmentWriter::begin(header(5, 6));
    assert_eq!(writer.event(&json!({}), &bytes[1]), Err(WriteError::Broken { seq: 5 }));
    assert!(writer.event(&json!({}), &bytes[0]).is_ok());
    assert_eq!(writer.event(&json!({}), &[1; 8]), Err(WriteError::Broken { seq: 6 }));
    let unfinished = writer.finish(&key(), 0);
    assert_eq!(unfinished, Err(WriteError::Unfinished { seq: 6 }));
    let (mut writer, _) = SegmentWriter::begin(header(5, 6));
    for event in &bytes[..2] {
        writer.event(&json!({}), event).unwrap();
    }
    assert_eq!(writer.event(&json!({}), &bytes[2]), Err(WriteError::Broken { seq: 7 }));
}

proptest! {
    #[test]
    fn hostile_lines_never_panic(lines in prop::collection::vec(".{0,80}", 0..8)) {
        let mut reader = SegmentReader::default();
        for line in lines {
            let _ = reader.line(line.as_bytes());
        }
        prop_assert!(reader.finish(&keys()).is_err());
    }
}
