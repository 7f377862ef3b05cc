//! Recorded exchanges of a protocol's first server, told again to ours, and the list of what is
//! meant to differ.
//!
//! Compared are the status and every field of the body. A difference is allowed when the list in
//! `tests/conformance` names it: exchange (counted from 0), field, what was recorded, what we say,
//! and why. Values are JSON; `absent` is no field, `*` any value that changes from run to run. What
//! is listed and does not happen fails, too.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::world::Answer;

/// One recorded exchange.
#[derive(Debug, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) request: Request,
    pub(crate) response: Response,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// As the recording has them: by name, or in pairs.
    #[serde(default)]
    pub(crate) headers: Value,
    pub(crate) body: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Response {
    pub(crate) status: u16,
    #[serde(default)]
    pub(crate) content_type: Option<String>,
    pub(crate) body: String,
}

/// The exchanges of a file of recorded data, or nothing where the data is not here, said so that
/// it is heard although the test passes.
pub(crate) fn exchanges(path: &str) -> Option<Vec<Exchange>> {
    let root = repository().join("../shared/fixtures");
    if !root.is_dir() {
        // Not `eprintln!`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: no recorded data at {}", root.display());
        return None;
    }
    Some(serde_json::from_str(&read(&root.join(path))).expect("exchanges"))
}

/// What is meant to differ.
#[derive(Debug, Deserialize)]
pub(crate) struct Differences {
    difference: Vec<Difference>,
}

#[derive(Debug, Deserialize)]
struct Difference {
    exchange: usize,
    field: String,
    recorded: String,
    ours: String,
    reason: String,
    #[serde(skip)]
    happened: bool,
}

impl Differences {
    /// The list of a file in `tests/conformance`.
    pub(crate) fn of(name: &str) -> Self {
        let text = read(&repository().join("tests/conformance").join(name));
        let differences: Self = toml::from_str(&text).expect("a list of differences");
        let reasoned = |difference: &Difference| difference.reason.len() > 10;
        assert!(differences.difference.iter().all(reasoned), "each difference has its reason");
        differences
    }

    /// Compares an answer with the recorded one.
    pub(crate) fn check(&mut self, exchange: usize, recorded: &Response, ours: &Answer) {
        let (status, our_status) = (recorded.status, ours.status.as_u16());
        if status != our_status {
            self.expect(exchange, "status", &status.to_string(), &our_status.to_string());
        }
        let was: Value = serde_json::from_str(&recorded.body).expect("a recorded body");
        let is = ours.json();
        let names = |body: &Value| -> Vec<String> {
            body.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        let mut all = [names(&was), names(&is)].concat();
        all.sort();
        all.dedup();
        for name in all {
            if was.get(&name) != is.get(&name) {
                let text = |body: &Value| {
                    body.get(&name).map_or("absent".to_owned(), |value| value.to_string())
                };
                self.expect(exchange, &name, &text(&was), &text(&is));
            }
        }
    }

    /// Meets a difference, which must be listed.
    pub(crate) fn expect(&mut self, exchange: usize, field: &str, recorded: &str, ours: &str) {
        let same = |want: &str, have: &str| want == have || (want == "*" && have != "absent");
        let listed = self.difference.iter_mut().find(|difference| {
            difference.exchange == exchange
                && difference.field == field
                && same(&difference.recorded, recorded)
                && same(&difference.ours, ours)
        });
        match listed {
            Some(difference) => difference.happened = true,
            None => panic!("exchange {exchange}: {field} was {recorded} and is {ours}"),
        }
    }

    /// Fails when something is listed that did not happen.
    pub(crate) fn end(&self) {
        let idle: Vec<_> = self.difference.iter().filter(|it| !it.happened).collect();
        assert!(idle.is_empty(), "listed and not so: {idle:?}");
    }
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
