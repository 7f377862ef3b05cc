//! An exported audit log, read for what it proves about the seats of packages.
//!
//! The chain is checked by hash on the way in ([`protocol::audit_segment`]): every event holds the
//! hash of the one before, and what people read of an event must name the hash of its bytes. The
//! signature is left to `leasehold audit verify`: nobody changes a file between the rig's halves.

use std::io::{self, BufRead};

use protocol::audit_segment::{EventHash, SegmentLine, SegmentReader};
use protocol::cloud::admin::AuditEventView;
use serde_json::Value;

/// An audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Events about packages, in order; others are only counted.
    pub records: Vec<Record>,
    /// Number of the first event of the file, and of the last that was read.
    pub range: (u64, u64),
    /// Hash of the last event that was read, in hex.
    pub head: String,
    /// Why the log is not what it should be; `None`: it is whole.
    pub broken: Option<String>,
}

/// One event about a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq: u64,
    /// What happened.
    pub what: Happened,
    /// To which package.
    pub package: String,
    /// To which lease; empty where it is about none.
    pub lease: String,
    /// Who uses it, by name.
    pub user: Option<String>,
}

/// What can happen to the seats of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Seats were taken.
    Granted {
        /// The fence of the grant.
        fence: String,
        /// `commit` or `overage`.
        class: String,
        /// How many seats.
        seats: u32,
        /// From which pool.
        pool: Option<String>,
    },
    /// The holder gave them back.
    Returned,
    /// They ran out.
    Expired,
    /// They ended in another way, by its kind of event.
    Ended(String),
    /// The lease was lengthened.
    Borrowed,
    /// The lease is no longer lengthened.
    BorrowReturned,
    /// Seats moved between pools; `None` stands for the unassigned ones.
    Transferred {
        /// The pool that gave.
        from: Option<String>,
        /// The pool that took.
        to: Option<String>,
        /// How many.
        seats: u32,
    },
}

impl Happened {
    /// Whether a lease is over with it.
    pub fn ends(&self) -> bool {
        matches!(self, Self::Returned | Self::Expired | Self::Ended(_))
    }
}

impl Audit {
    /// Reads an exported log to its end, or to where it is broken.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(mut file: impl BufRead) -> io::Result<Self> {
        let mut audit = Self::default();
        let mut reader = SegmentReader::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            if file.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            match reader.line(text) {
                Ok(SegmentLine::Header(header)) => audit.range = (header.from, header.from),
                Ok(SegmentLine::Event { seq, event, bytes }) => {
                    audit.take(seq, event.get(), &bytes)
                }
                Ok(SegmentLine::Trailer) => {}
                Err(error) => {
                    audit.broken = Some(error.to_string());
                    return Ok(audit);
                }
            }
        }
        if !reader.is_at_end() && audit.broken.is_none() {
            audit.broken = Some("the log ends before its trailer".to_owned());
        }
        Ok(audit)
    }

    /// Whether every event follows from the one before, up to the end.
    pub fn is_whole(&self) -> bool {
        self.broken.is_none()
    }

    fn take(&mut self, seq: u64, event: &str, bytes: &[u8]) {
        let hash = EventHash::of(bytes);
        self.range.1 = seq;
        self.head = hash.text();
        let view: AuditEventView = match serde_json::from_str(event) {
            Ok(view) => view,
            Err(error) => return self.breaks(format!("audit event {seq} does not read: {error}")),
        };
        if view.seq.0 != seq || view.hash != hash {
            return self.breaks(format!("audit event {seq} shows what its bytes do not say"));
        }
        let Some(what) = happened(&view) else { return };
        self.records.push(Record {
            seq,
            what,
            package: view.package_id.unwrap_or_default(),
            lease: view.lease_id.unwrap_or_default(),
            user: view.user.and_then(|user| user.name),
        });
    }

    fn breaks(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }
}

fn happened(view: &AuditEventView) -> Option<Happened> {
    let text = |name: &str| view.detail.get(name).and_then(Value::as_str).map(str::to_owned);
    let seats = view.detail.get("quantity").and_then(Value::as_u64);
    let seats = seats.and_then(|seats| u32::try_from(seats).ok()).unwrap_or(0);
    Some(match view.kind.as_str() {
        "lease_granted" => Happened::Granted {
            fence: text("fence").unwrap_or_default(),
            class: text("class").unwrap_or_default(),
            seats,
            pool: text("pool"),
        },
        "lease_returned" => Happened::Returned,
        "lease_expired" => Happened::Expired,
        "lease_borrowed" => Happened::Borrowed,
        "borrow_returned" => Happened::BorrowReturned,
        "seats_transferred" => Happened::Transferred { from: text("from"), to: text("to"), seats },
        "lease_released"
        | "lease_ended_with_package"
        | "lease_ended_with_seats"
        | "lease_written_off" => Happened::Ended(view.kind.clone()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use protocol::audit_segment::{SegmentHeader, SegmentWriter};
    use protocol::keys::PrivateKey;
    use protocol::secret::Secret;
    use serde_json::json;

    use super::*;

    /// A log of events that say these things of themselves.
    fn segment(events: &[(&str, &str, Value)]) -> String {
        let header = SegmentHeader {
            cluster_id: "c".to_owned(),
            epoch: 1,
            from: 1,
            to: events.len() as u64,
            previous: EventHash::default(),
        };
        let (mut writer, mut text) = SegmentWriter::begin(header);
        let mut previous = EventHash::default();
        for ((kind, lease, detail), seq) in events.iter().zip(1_u64..) {
            let bytes = [&previous.0[..], kind.as_bytes(), lease.as_bytes()].concat();
            let hash = EventHash::of(&bytes);
            let view = json!({
                "seq": seq.to_string(), "time": "2026-01-01T00:00:00Z", "kind": kind,
                "actor": "app-1", "request_id": "r", "package_id": "P", "lease_id": lease,
                "user": { "reference": "8c1f0a5b2d9e4f77", "name": "alice" }, "detail": detail,
                "hash": hash.text(), "previous": previous.text(),
            });
            text += &writer.event(&view, &bytes).unwrap();
            previous = hash;
        }
        text + &writer.finish(&PrivateKey::ed25519(&Secret::new([7; 32])), 1).unwrap()
    }

    fn log() -> String {
        segment(&[
            ("cluster_founded", "", json!({})),
            ("lease_granted", "L1", json!({"fence": "f", "class": "commit", "quantity": 2})),
            ("seats_transferred", "", json!({"from": "a", "quantity": 3})),
            ("lease_returned", "L1", json!({"class": "commit", "quantity": 2})),
        ])
    }

    #[test]
    fn a_log_is_read_for_what_it_says_of_packages() {
        let audit = Audit::read(log().as_bytes()).unwrap();
        assert_eq!((audit.broken.clone(), audit.range), (None, (1, 4)));
        let what: Vec<&Happened> = audit.records.iter().map(|record| &record.what).collect();
        let granted = Happened::Granted {
            fence: "f".to_owned(),
            class: "commit".to_owned(),
            seats: 2,
            pool: None,
        };
        let moved = Happened::Transferred { from: Some("a".to_owned()), to: None, seats: 3 };
        assert_eq!(what, [&granted, &moved, &Happened::Returned]);
        assert_eq!(audit.records[0].user.as_deref(), Some("alice"));
        assert_eq!((audit.records[2].seq, audit.records[2].lease.as_str()), (4, "L1"));
    }

    #[test]
    fn a_log_that_was_changed_is_broken() {
        let whole = log();
        let lines: Vec<&str> = whole.lines().collect();
        let check = |lines: &[&str]| {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            assert!(!Audit::read(text.as_bytes()).unwrap().is_whole(), "{text}");
        };
        check(&lines[..5]);
        check(&[&lines[..2], &lines[3..]].concat());
        check(&[&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat());
        check(&[lines[0], lines[1], "{}", lines[3], lines[4], lines[5]]);
        check(&[&lines[..], &["{}"]].concat());
        // What people read must be what was hashed, as far as its number and hash go.
        let other = lines[2].replace(r#""seq":"2""#, r#""seq":"3""#);
        check(&[lines[0], lines[1], &other, lines[3], lines[4], lines[5]]);
        check(&[]);
    }
}
