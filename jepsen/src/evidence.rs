//! What lies beside a history: what the nodes themselves say at the end of a run.
//!
//! ```text
//! DIR/audit-NODE.jsonl  the exported audit log of each node (protocol::audit_segment)
//! DIR/states.json       applied index, state sum and audit head of each node, all at one index
//! DIR/final.json        the packages as they stand when all is healed and calm
//! DIR/node-N.log        what each node logged
//! ```
//!
//! All of it may be missing; the checkers that need it then say that they cannot tell.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::audit::Audit;

/// Name of the file of the nodes' states.
pub const STATES_FILE: &str = "states.json";
/// Name of the file of the last reads.
pub const FINAL_FILE: &str = "final.json";

/// How one node stood at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The node.
    pub node: u64,
    /// Index of the last entry that it has applied.
    pub applied_index: u64,
    /// The sum over all rows of its state, in hex.
    pub state_sum: String,
    /// Hash of its newest audit event, in hex.
    pub audit_head: String,
}

/// How one package stood at the end, by a read that is not stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalPackage {
    /// The package.
    pub package: String,
    /// Seats that are taken.
    pub in_use: u32,
    /// Seats that there are.
    pub total: u32,
    /// The live leases.
    pub leases: Vec<String>,
    /// Name, seats and seats in use of each pool.
    #[serde(default)]
    pub pools: Vec<(String, u32, u32)>,
}

/// A line of a log that no healthy node writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Name of the file.
    pub file: String,
    /// Which line, from 1.
    pub line: u64,
    /// Its beginning.
    pub text: String,
}

/// Everything that lies beside a history.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The audit log of each node.
    pub audits: BTreeMap<u64, Audit>,
    /// How each node stood.
    pub states: Vec<NodeState>,
    /// How each package stood; `None` when it was not read.
    pub finals: Option<Vec<FinalPackage>>,
    /// Logs that were read.
    pub logs: u64,
    /// Lines of logs that no healthy node writes.
    pub bad_lines: Vec<BadLine>,
}

/// Why evidence could not be read.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{path} is not what its name says")]
    Form {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Evidence {
    /// Reads what there is in the directory of a run.
    ///
    /// # Errors
    /// When something is there and cannot be read; a broken audit chain is no error, but a finding.
    pub fn read(dir: &Path) -> Result<Self, EvidenceError> {
        let mut evidence = Self {
            states: optional(&dir.join(STATES_FILE))?.unwrap_or_default(),
            finals: optional(&dir.join(FINAL_FILE))?,
            ..Self::default()
        };
        let entries = std::fs::read_dir(dir).map_err(|source| io_error(dir, source))?;
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(|source| io_error(dir, source))?.path());
        }
        paths.sort();
        for path in paths {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name else { continue };
            if let Some(node) = number(&name, "audit-", ".jsonl") {
                let file = File::open(&path).map_err(|source| io_error(&path, source))?;
                let audit = Audit::read(BufReader::new(file));
                evidence.audits.insert(node, audit.map_err(|source| io_error(&path, source))?);
            } else if number(&name, "node-", ".log").is_some() {
                evidence.logs += 1;
                evidence.read_log(&path, &name)?;
            }
        }
        Ok(evidence)
    }

    /// The longest audit log that is whole.
    pub fn audit(&self) -> Option<&Audit> {
        let whole = self.audits.values().filter(|audit| audit.is_whole());
        whole.max_by_key(|audit| audit.records.len())
    }

    fn read_log(&mut self, path: &Path, name: &str) -> Result<(), EvidenceError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        // A bad line waits for the next one, which says why.
        let mut waiting: Option<BadLine> = None;
        for number in 1_u64.. {
            line.clear();
            let read = file.read_until(b'\n', &mut line);
            let is_end = read.map_err(|source| io_error(path, source))? == 0;
            let text = String::from_utf8_lossy(&line);
            self.bad_lines.extend(waiting.take().filter(|bad| !is_of_a_dead_disk(bad, &text)));
            if is_end {
                break;
            }
            if is_bad(&text) {
                let text = text.trim_end().chars().take(LINE_CHARS).collect();
                waiting = Some(BadLine { file: name.to_owned(), line: number, text });
            }
        }
        Ok(())
    }
}

/// Whether a panic is sled's way to say that a disk failed under it: the node ends then anyway, by
/// its own rule that an error of storage is fatal.
fn is_of_a_dead_disk(bad: &BadLine, next: &str) -> bool {
    let of_disk = ["Input/output error", "No space left on device", "Read-only file system"];
    bad.text.contains("/sled-") && of_disk.iter().any(|error| next.contains(error))
}

/// Whether no healthy node writes such a line.
pub fn is_bad(line: &str) -> bool {
    BAD_WORDS.iter().any(|word| line.contains(word))
}

fn optional<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, EvidenceError> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| EvidenceError::Form { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}

fn number(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok()
}

fn io_error(path: &Path, source: io::Error) -> EvidenceError {
    EvidenceError::Io { path: path.to_owned(), source }
}

/// What a Rust program, or a check of ours, writes when it has found itself wrong.
const BAD_WORDS: [&str; 4] = [
    "panicked at",
    "has overflowed its stack",
    "SIGABRT",
    "no majority of voters agrees on the state",
];
/// Characters of a bad line that are kept.
const LINE_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_what_is_missing_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Evidence::read(dir.path()).unwrap();
        assert!(empty.audits.is_empty() && empty.finals.is_none() && empty.logs == 0);
        std::fs::write(
            dir.path().join(FINAL_FILE),
            r#"[{"package":"P","in_use":1,"total":2,"leases":["L"]}]"#,
        )
        .unwrap();
        std::fs::write(dir.path().join("node-3.log"), "fine\nthread 'main' panicked at x:1\n")
            .unwrap();
        let cut = "thread 'x' panicked at /r/sled-0.34.7/a.rs:4:1:\ncalled `unwrap()` on \
                   Input/output error\nthread 'x' panicked at /r/sled-0.34.7/a.rs:4:1:\nbug\n";
        std::fs::write(dir.path().join("node-4.log"), cut).unwrap();
        std::fs::write(dir.path().join("node-x.log"), "thread 'main' panicked at x:1\n").unwrap();
        let evidence = Evidence::read(dir.path()).unwrap();
        assert_eq!(evidence.finals.unwrap()[0].leases, ["L"]);
        let bad: Vec<u64> = evidence.bad_lines.iter().map(|bad| bad.line).collect();
        assert_eq!((evidence.logs, bad), (2, vec![2, 3]));
        std::fs::write(dir.path().join(STATES_FILE), "{}").unwrap();
        assert!(matches!(Evidence::read(dir.path()), Err(EvidenceError::Form { .. })));
    }
}
