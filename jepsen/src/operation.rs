//! Operations: a beginning and its end, put together; and whether a history keeps the discipline.
//!
//! Every checker looks at operations, not at events. What is wrong with the discipline makes a
//! history unfit to be judged; it says something about the rig and nothing about the cluster.

use std::collections::BTreeMap;

use crate::history::{Act, Answer, Event, Kind, Process};

/// Something that a client asked, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The client's process.
    pub process: u64,
    /// The node that was asked.
    pub node: Option<u64>,
    /// What was asked.
    pub act: Act,
    /// Index of the event that began it.
    pub invoke: u64,
    /// When it began, in nanoseconds since the run did.
    pub invoke_ns: u64,
    /// Index of the event that ended it; `None` when nothing did.
    pub end: Option<u64>,
    /// When the answer was there; `None` when the outcome is unknown: it may happen any time.
    pub return_ns: Option<u64>,
    /// When the client gave up or heard; the end of the run when nothing ended it.
    pub left_ns: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Done(Answer),
    /// The cluster said no.
    Refused {
        /// The code of the refusal.
        code: String,
    },
    /// It certainly did not happen.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl Operation {
    /// Indexes of its events.
    pub fn events(&self) -> Vec<u64> {
        [Some(self.invoke), self.end].into_iter().flatten().collect()
    }

    /// Whether it happened.
    pub fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_))
    }

    /// Whether it may have happened.
    pub fn may_have_happened(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_) | Outcome::Unknown)
    }

    /// The code with which it was refused.
    pub fn refused(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Refused { code } => Some(code),
            _ => None,
        }
    }

    /// Whether it was over before another began.
    pub fn precedes(&self, other: &Self) -> bool {
        self.return_ns.is_some_and(|returned| returned < other.invoke_ns)
    }

    /// Whether both were under way at some moment.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.invoke_ns <= other.left_ns && other.invoke_ns <= self.left_ns
    }
}

/// Something that the discipline does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// What.
    pub what: String,
    /// The event.
    pub event: u64,
}

/// The operations of a history in the order of their beginnings, and what breaks the discipline.
pub fn pair(events: &[Event]) -> (Vec<Operation>, Vec<Breach>) {
    let end_ns = events.last().map_or(0, |event| event.time_ns);
    let mut pairing = Pairing { end_ns, ..Pairing::default() };
    for event in events {
        pairing.take(event);
    }
    (pairing.operations, pairing.breaches)
}

#[derive(Default)]
struct Pairing {
    operations: Vec<Operation>,
    breaches: Vec<Breach>,
    /// Place in `operations` of what a process has under way; `None` after an `info`.
    open: BTreeMap<u64, Option<usize>>,
    end_ns: u64,
}

impl Pairing {
    fn take(&mut self, event: &Event) {
        match (event.process, event.kind) {
            (Process::Nemesis, Kind::Info) if matches!(event.act, Act::Fault(_)) => {}
            (Process::Nemesis, _) => self.breach(event, "the nemesis wrote something else"),
            (Process::Client(_), _) if matches!(event.act, Act::Fault(_)) => {
                self.breach(event, "a client wrote a fault");
            }
            (Process::Client(process), Kind::Invoke) => self.begin(event, process),
            (Process::Client(process), _) => self.end(event, process),
        }
    }

    fn begin(&mut self, event: &Event, process: u64) {
        if self.open.contains_key(&process) {
            self.breach(event, "a process began something while, or after, an end is unknown");
        }
        self.open.insert(process, Some(self.operations.len()));
        self.operations.push(Operation {
            process,
            node: event.node,
            act: event.act.clone(),
            invoke: event.index,
            invoke_ns: event.time_ns,
            end: None,
            return_ns: None,
            left_ns: self.end_ns,
            outcome: Outcome::Unknown,
        });
    }

    fn end(&mut self, event: &Event, process: u64) {
        let Some(place) = self.open.get(&process).copied().flatten() else {
            return self.breach(event, "an end without a beginning");
        };
        if event.kind == Kind::Info {
            self.open.insert(process, None);
        } else {
            self.open.remove(&process);
        }
        let outcome = match (event.kind, &event.answer) {
            (Kind::Info, _) => Outcome::Unknown,
            (_, Some(Answer::Refused { code, .. })) => Outcome::Refused { code: code.clone() },
            (Kind::Fail, _) => Outcome::Failed,
            (_, Some(answer)) => Outcome::Done(answer.clone()),
            (_, None) => {
                self.breach(event, "an ok without an answer");
                Outcome::Unknown
            }
        };
        if self.operations[place].act != event.act {
            self.breach(event, "an end that repeats another act than its beginning");
        }
        let operation = &mut self.operations[place];
        operation.end = Some(event.index);
        operation.left_ns = event.time_ns;
        if outcome != Outcome::Unknown {
            operation.return_ns = Some(event.time_ns);
        }
        operation.outcome = outcome;
    }

    fn breach(&mut self, event: &Event, what: &str) {
        self.breaches.push(Breach { what: what.to_owned(), event: event.index });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u64, process: u64, kind: Kind, package: &str) -> Event {
        let act = Act::ReadPackage { package: package.to_owned(), stale: false };
        let answer = (kind == Kind::Ok).then_some(Answer::Returned);
        let process = Process::Client(process);
        Event { index, time_ns: index * 10, process, kind, node: None, act, answer, note: None }
    }

    fn check(events: &[(u64, Kind, &str)], operations: usize, breaches: &[u64]) {
        let numbered = events.iter().zip(0..);
        let events: Vec<Event> = numbered
            .map(|((process, kind, of), index)| event(index, *process, *kind, of))
            .collect();
        let (found, broken) = pair(&events);
        assert_eq!(found.len(), operations, "{events:?}");
        let places: Vec<u64> = broken.iter().map(|breach| breach.event).collect();
        assert_eq!(places, breaches, "{broken:?}");
    }

    #[test]
    fn the_discipline_is_kept() {
        use Kind::{Fail, Info, Invoke, Ok};
        check(&[(1, Invoke, "P"), (2, Invoke, "P"), (1, Ok, "P"), (2, Fail, "P")], 2, &[]);
        check(&[(1, Invoke, "P"), (1, Ok, "P"), (1, Invoke, "P")], 2, &[]);
        check(&[(1, Invoke, "P"), (1, Info, "P"), (2, Invoke, "P"), (2, Ok, "P")], 2, &[]);
        check(&[(1, Invoke, "P"), (1, Info, "P"), (1, Invoke, "P")], 2, &[2]);
        check(&[(1, Invoke, "P"), (1, Invoke, "P")], 2, &[1]);
        check(&[(1, Invoke, "P"), (1, Info, "P"), (1, Ok, "P")], 1, &[2]);
        check(&[(1, Ok, "P")], 0, &[0]);
        check(&[(1, Invoke, "P"), (1, Ok, "Q")], 1, &[1]);
    }

    #[test]
    fn an_unknown_end_may_happen_at_any_time() {
        let events = [
            event(0, 1, Kind::Invoke, "P"),
            event(1, 1, Kind::Info, "P"),
            event(2, 2, Kind::Invoke, "P"),
        ];
        let (operations, _) = pair(&events);
        assert_eq!((operations[0].return_ns, operations[0].left_ns), (None, 10));
        assert!(!operations[0].precedes(&operations[1]) && operations[0].may_have_happened());
        assert_eq!((operations[1].end, operations[1].left_ns), (None, 20));
    }
}
