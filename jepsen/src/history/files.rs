//! Histories as files: read whole, and written while they happen.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Act, Answer, Event, Header, History, Kind, Process};

/// Name of the file of the header.
pub const HEADER_FILE: &str = "header.json";
/// Name of the file of the events.
pub const HISTORY_FILE: &str = "history.jsonl";

/// Why a history could not be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is not an event, or the header is none.
    #[error("line {line} of {path} is not what a history has there")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Events do not follow each other in time, or are not numbered from 0.
    #[error("event {index} of {path} is out of order")]
    Order {
        /// Which file.
        path: PathBuf,
        /// The place of the event.
        index: u64,
    },
}

impl History {
    /// Reads the history of a run from its directory.
    ///
    /// A last line without its end (a rig that was killed while writing) is left out.
    ///
    /// # Errors
    /// When a file is missing or is not a history.
    pub fn read(dir: &Path) -> Result<Self, HistoryError> {
        let path = dir.join(HEADER_FILE);
        let text = std::fs::read(&path).map_err(|source| io_error(&path, source))?;
        let header = serde_json::from_slice(&text).map_err(|source| HistoryError::Line {
            path: path.clone(),
            line: 1,
            source,
        })?;
        let path = dir.join(HISTORY_FILE);
        let file = File::open(&path).map_err(|source| io_error(&path, source))?;
        let events = read_events(&path, BufReader::new(file))?;
        Ok(Self { header, events })
    }

    /// Writes header and events into a directory that exists.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), HistoryError> {
        write_header(dir, &self.header)?;
        let path = dir.join(HISTORY_FILE);
        let file = File::create(&path).map_err(|source| io_error(&path, source))?;
        let mut file = BufWriter::new(file);
        for event in &self.events {
            write_line(&mut file, event).map_err(|source| io_error(&path, source))?;
        }
        file.flush().map_err(|source| io_error(&path, source))
    }

    /// Time of the last event.
    pub fn end_ns(&self) -> u64 {
        self.events.last().map_or(0, |event| event.time_ns)
    }
}

fn read_events(path: &Path, mut file: impl BufRead) -> Result<Vec<Event>, HistoryError> {
    let mut events: Vec<Event> = Vec::new();
    let mut text = String::new();
    loop {
        text.clear();
        file.read_line(&mut text).map_err(|source| io_error(path, source))?;
        if !text.ends_with('\n') {
            return Ok(events);
        }
        let index = events.len() as u64;
        let event: Event = serde_json::from_str(&text).map_err(|source| HistoryError::Line {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        let before = events.last().map_or(0, |last| last.time_ns);
        if event.index != index || event.time_ns < before {
            return Err(HistoryError::Order { path: path.to_owned(), index });
        }
        events.push(event);
    }
}

/// What a writer is given: an event before it has a place and a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who.
    pub process: Process,
    /// Beginning or end, and of what kind.
    pub kind: Kind,
    /// The node that is asked.
    pub node: Option<u64>,
    /// What is asked.
    pub act: Act,
    /// What was answered.
    pub answer: Option<Answer>,
    /// What a person may want to know.
    pub note: Option<String>,
}

/// Writes a history while it happens.
///
/// It reads the clock itself, so events are in the order of their times. A client writes `invoke`
/// before it sends and the end after it has the whole answer: so the times enclose what happened.
pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    now_ns: Box<dyn FnMut() -> u64 + Send>,
    next: u64,
    last_ns: u64,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).field("next", &self.next).finish()
    }
}

impl Writer {
    /// Writes the header into a directory that exists and begins a history; `now_ns` tells the
    /// nanoseconds since the run began, on a monotonic clock.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn create(
        dir: &Path,
        header: &Header,
        now_ns: impl FnMut() -> u64 + Send + 'static,
    ) -> Result<Self, HistoryError> {
        write_header(dir, header)?;
        let path = dir.join(HISTORY_FILE);
        let file = File::create(&path).map_err(|source| io_error(&path, source))?;
        let now_ns = Box::new(now_ns);
        Ok(Self { path, file: BufWriter::new(file), now_ns, next: 0, last_ns: 0 })
    }

    /// Writes one event; gives it as it stands in the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, draft: Draft) -> Result<Event, HistoryError> {
        let time_ns = (self.now_ns)().max(self.last_ns);
        let Draft { process, kind, node, act, answer, note } = draft;
        let event = Event { index: self.next, time_ns, process, kind, node, act, answer, note };
        write_line(&mut self.file, &event).map_err(|source| io_error(&self.path, source))?;
        self.next += 1;
        self.last_ns = time_ns;
        Ok(event)
    }

    /// Writes what still waits in memory; a writer that is dropped does it too, without a word.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), HistoryError> {
        self.file.flush().map_err(|source| io_error(&self.path, source))
    }
}

fn write_header(dir: &Path, header: &Header) -> Result<(), HistoryError> {
    let path = dir.join(HEADER_FILE);
    let file = File::create(&path).map_err(|source| io_error(&path, source))?;
    serde_json::to_writer_pretty(file, header).map_err(|error| io_error(&path, error.into()))
}

fn write_line(file: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *file, event)?;
    file.write_all(b"\n")
}

fn io_error(path: &Path, source: io::Error) -> HistoryError {
    HistoryError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{FaultEvent, FaultPhase, PackageTerms};

    fn header() -> Header {
        let terms = PackageTerms {
            name: "P".to_owned(),
            commit: 2,
            overage: 1,
            ttl_ms: 3000,
            pools: vec![],
            rotation: true,
            offline_skew_ms: 0,
        };
        Header {
            workload: "contention".to_owned(),
            faults: vec!["kill".to_owned()],
            seed: 7,
            commit: "abc".to_owned(),
            nodes: vec![1, 2, 3],
            packages: vec![terms],
            election_timeout_ms: 300,
            epsilon: 0.02,
        }
    }

    fn draft(process: Process, kind: Kind, act: Act) -> Draft {
        Draft { process, kind, node: Some(2), act, answer: None, note: None }
    }

    fn fault() -> Act {
        Act::Fault(FaultEvent {
            name: "kill".to_owned(),
            phase: FaultPhase::Hit,
            targets: vec![1],
            detail: "exit 137".to_owned(),
        })
    }

    #[test]
    fn what_is_written_is_read_and_a_torn_last_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut times = [5_u64, 9, 8, 12].into_iter();
        let mut writer =
            Writer::create(dir.path(), &header(), move || times.next().unwrap()).unwrap();
        let read = Act::ReadPackage { package: "P".to_owned(), stale: false };
        let mut written = Vec::new();
        for act in [read.clone(), fault(), read] {
            let process =
                if act.package().is_some() { Process::Client(3) } else { Process::Nemesis };
            written.push(writer.append(draft(process, Kind::Info, act)).unwrap());
        }
        writer.flush().unwrap();
        assert_eq!(written[2].time_ns, 9, "time does not go back");
        let history = History::read(dir.path()).unwrap();
        assert_eq!(history, History { header: header(), events: written });
        let path = dir.path().join(HISTORY_FILE);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 4]).unwrap();
        assert_eq!(History::read(dir.path()).unwrap().events.len(), 2);
        std::fs::write(&path, &text[1..]).unwrap();
        assert!(matches!(History::read(dir.path()), Err(HistoryError::Line { line: 1, .. })));
    }

    #[test]
    fn lines_are_spelled_as_agreed() {
        let event = Event {
            index: 4,
            time_ns: 77,
            process: Process::Client(3),
            kind: Kind::Ok,
            node: Some(1),
            act: Act::Return {
                package: "P".to_owned(),
                lease: "L".to_owned(),
                key: "k".to_owned(),
            },
            answer: Some(Answer::Refused { code: "lease_ended".to_owned(), status: 409 }),
            note: None,
        };
        let text = concat!(
            r#"{"index":4,"time_ns":77,"process":3,"type":"ok","node":1,"f":"return","#,
            r#""value":{"package":"P","lease":"L","key":"k"},"answer":{"is":"refused","#,
            r#""code":"lease_ended","status":409}}"#,
        );
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
        assert_eq!(serde_json::from_str::<Event>(text).unwrap(), event);
        let nemesis = Event { process: Process::Nemesis, act: fault(), answer: None, ..event };
        let text = serde_json::to_string(&nemesis).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), nemesis);
    }
}
