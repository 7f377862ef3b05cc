//! What happened, in order: its digest, and the last of it in words.
//!
//! Every message, disk operation, acknowledgement and fault of a run is an event. Two runs of one
//! seed must give the same digest; a run that fails shows its last events.

use std::collections::VecDeque;
use std::fmt;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// The events of one run.
#[derive(Default)]
pub(crate) struct Trace {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    digest: Sha256,
    events: u64,
    last: VecDeque<Event>,
    told: VecDeque<Event>,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Simulated nanoseconds since the run began.
    pub(crate) at_ns: u64,
    /// What kind it is.
    pub(crate) what: &'static str,
    /// Numbers that belong to it.
    pub(crate) values: [u64; 4],
    /// Words that belong to it.
    pub(crate) text: String,
}

impl Trace {
    /// Notes an event that is a few numbers: one of many.
    pub(crate) fn note(&self, at_ns: u64, what: &'static str, values: [u64; 4]) {
        self.push(Event { at_ns, what, values, text: String::new() });
    }

    /// Notes an event in words: one of few, and all of the newest are kept.
    pub(crate) fn tell(&self, at_ns: u64, what: &'static str, text: impl Into<String>) {
        self.push(Event { at_ns, what, values: [0; 4], text: text.into() });
    }

    fn push(&self, event: Event) {
        let mut inner = self.inner.lock();
        inner.events += 1;
        inner.digest.update(event.at_ns.to_le_bytes());
        inner.digest.update(event.what.as_bytes());
        for value in event.values {
            inner.digest.update(value.to_le_bytes());
        }
        inner.digest.update(event.text.as_bytes());
        let (kept, most) = match event.text.is_empty() {
            true => (&mut inner.last, LAST_NOTES),
            false => (&mut inner.told, LAST_TOLD),
        };
        if kept.len() == most {
            kept.pop_front();
        }
        kept.push_back(event);
    }

    /// SHA-256 over all events so far.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.inner.lock().digest.clone().finalize().into()
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.inner.lock().events
    }

    /// The last events in order, oldest first.
    pub(crate) fn last(&self) -> Vec<Event> {
        let inner = self.inner.lock();
        let mut events: Vec<Event> = inner.last.iter().chain(&inner.told).cloned().collect();
        events.sort_by_key(|event| event.at_ns);
        events
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, us) = (self.at_ns / 1_000_000_000, self.at_ns / 1_000 % 1_000_000);
        write!(f, "{s:>4}.{us:06} {:<10}", self.what)?;
        match self.text.is_empty() {
            true => write!(f, " {:?}", self.values),
            false => write!(f, " {}", self.text),
        }
    }
}

/// Events without words that are kept.
const LAST_NOTES: usize = 30;
/// Events in words that are kept.
const LAST_TOLD: usize = 120;
