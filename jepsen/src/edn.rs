//! Histories as EDN, one map a line, as Jepsen writes them: for Knossos, Elle and porcupine.
//!
//! ```text
//! {:index 4, :time 77, :process 3, :type :ok, :f :return, :value {:package "P", …}, :node 1}
//! {:index 5, :time 80, :process :nemesis, :type :info, :f :kill, :value {:phase :hit, …}}
//! ```
//!
//! `:value` of an end is what was asked with `:answer` beside it; a note is `:note`. Names are in
//! kebab case. The JSON lines say the same and are what this crate reads.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value};

use crate::history::{Act, Event, History};

/// Name of the file.
pub const EDN_FILE: &str = "history.edn";

/// Writes a history into the directory of its run.
///
/// # Errors
/// When the file cannot be written.
pub fn write(dir: &Path, history: &History) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(dir.join(EDN_FILE))?);
    for event in &history.events {
        writeln!(file, "{}", line(event)?)?;
    }
    file.flush()
}

/// One event.
///
/// # Errors
/// When a value cannot be written, which no event has.
pub fn line(event: &Event) -> io::Result<String> {
    let (f, mut value) = match &event.act {
        Act::Fault(fault) => {
            let mut value = members(serde_json::to_value(fault)?);
            value.remove("name");
            (fault.name.clone(), value)
        }
        act => {
            let mut act = members(serde_json::to_value(act)?);
            (event.act.name().to_owned(), members(act.remove("value").unwrap_or_default()))
        }
    };
    if let Some(answer) = &event.answer {
        value.insert("answer".to_owned(), serde_json::to_value(answer)?);
    }
    let process = event.process.to_string();
    let process = if process == "nemesis" { keyword(&process) } else { process };
    let mut text = format!(
        "{{:index {}, :time {}, :process {process}, :type {}, :f {}, :value {}",
        event.index,
        event.time_ns,
        keyword(event.kind.name()),
        keyword(&f),
        edn(&Value::Object(value)),
    );
    if let Some(node) = event.node {
        text.push_str(&format!(", :node {node}"));
    }
    if let Some(note) = &event.note {
        text.push_str(&format!(", :note {}", edn(&Value::from(note.as_str()))));
    }
    text.push('}');
    Ok(text)
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// JSON as EDN; its strings and numbers are EDN's, too. The words of our enums become keywords.
fn edn(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(edn).collect::<Vec<_>>().join(" "))
        }
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| match (name.as_str(), value) {
                ("phase" | "is", Value::String(word)) => {
                    format!("{} {}", keyword(name), keyword(word))
                }
                _ => format!("{} {}", keyword(name), edn(value)),
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A keyword; whatever EDN does not allow in one becomes a dash.
fn keyword(name: &str) -> String {
    let allowed = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
    format!(":{}", name.chars().map(allowed).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, FaultEvent, FaultPhase, Kind, Process};

    fn event(act: Act, process: Process, kind: Kind, answer: Option<Answer>) -> Event {
        Event { index: 4, time_ns: 77, process, kind, node: Some(1), act, answer, note: None }
    }

    #[test]
    fn events_are_written_as_jepsen_writes_them() {
        let act = Act::Return {
            package: "P".to_owned(),
            lease: "L \"1\"\n".to_owned(),
            key: "k".to_owned(),
        };
        let refused = Answer::Refused { code: "lease_ended".to_owned(), status: 410 };
        let text = line(&event(act, Process::Client(3), Kind::Fail, Some(refused))).unwrap();
        let want = concat!(
            r#"{:index 4, :time 77, :process 3, :type :fail, :f :return, :value "#,
            r#"{:answer {:code "lease_ended", :is :refused, :status 410}, :key "k", "#,
            r#":lease "L \"1\"\n", :package "P"}, :node 1}"#,
        );
        assert_eq!(text, want);
        let fault = Act::Fault(FaultEvent {
            name: "one-way".to_owned(),
            phase: FaultPhase::Hit,
            targets: vec![1, 3],
            detail: String::new(),
        });
        let text = line(&event(fault, Process::Nemesis, Kind::Info, None)).unwrap();
        let want = concat!(
            r#"{:index 4, :time 77, :process :nemesis, :type :info, :f :one-way, "#,
            r#":value {:detail "", :phase :hit, :targets [1 3]}, :node 1}"#,
        );
        assert_eq!(text, want);
        let act = Act::Checkout {
            package: "P".to_owned(),
            key: "k".to_owned(),
            holder: "h".to_owned(),
            ttl_ms: None,
            seats: 2,
            pool: None,
        };
        let text = line(&event(act, Process::Client(0), Kind::Invoke, None)).unwrap();
        let want = concat!(
            r#"{:index 4, :time 77, :process 0, :type :invoke, :f :checkout, :value "#,
            r#"{:holder "h", :key "k", :package "P", :seats 2, :ttl-ms nil}, :node 1}"#,
        );
        assert_eq!(text, want);
    }
}
