//! What a test run leaves behind: events of its log, bytes of its files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// An event of the log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) target: String,
    pub(crate) level: String,
    fields: BTreeMap<&'static str, String>,
}

impl Logged {
    /// A field's text; empty when there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        format!("{self:?}")
    }
}

/// The events of this process from the first call on, of all tests in it.
pub(crate) fn events() -> Arc<Mutex<Vec<Logged>>> {
    static EVENTS: OnceLock<Arc<Mutex<Vec<Logged>>>> = OnceLock::new();
    let events = EVENTS.get_or_init(|| {
        let events = Arc::new(Mutex::new(Vec::new()));
        let capture = Capture(events.clone());
        tracing::subscriber::set_global_default(capture).expect("the only subscriber");
        events
    });
    events.clone()
}

/// The bytes of every file below a directory.
pub(crate) fn stored_bytes(dir: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(stored_bytes(&path));
        } else {
            found.push(fs::read(&path).expect("a file"));
        }
    }
    found
}

struct Capture(Arc<Mutex<Vec<Logged>>>);

impl Subscriber for Capture {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.lock().expect("events").push(Logged {
            target: metadata.target().to_owned(),
            level: metadata.level().to_string(),
            fields: fields.0,
        });
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}
