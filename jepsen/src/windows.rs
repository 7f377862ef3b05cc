//! When what was hurt: the windows of faults, and the calm time between them.

use crate::history::{Act, Event, FaultPhase};

/// A fault from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultWindow {
    /// Which fault.
    pub name: String,
    /// The nodes that it was for.
    pub targets: Vec<u64>,
    /// What exactly.
    pub detail: String,
    /// When it began.
    pub start_ns: u64,
    /// When it was healed; `None`: never in this run.
    pub end_ns: Option<u64>,
    /// How often there was evidence that it had an effect.
    pub hits: u32,
}

/// The windows of a history, in the order of their beginnings.
///
/// An end, or a hit, belongs to the newest open window of its name and its targets, or else of its
/// name.
pub fn windows(events: &[Event]) -> Vec<FaultWindow> {
    let mut windows: Vec<FaultWindow> = Vec::new();
    for event in events {
        let Act::Fault(fault) = &event.act else { continue };
        if fault.phase == FaultPhase::Start {
            windows.push(FaultWindow {
                name: fault.name.clone(),
                targets: fault.targets.clone(),
                detail: fault.detail.clone(),
                start_ns: event.time_ns,
                end_ns: None,
                hits: 0,
            });
            continue;
        }
        let open = |window: &FaultWindow| window.name == fault.name && window.end_ns.is_none();
        let exact = windows.iter().rposition(|it| open(it) && it.targets == fault.targets);
        let place = exact.or_else(|| windows.iter().rposition(open));
        // Some effects show only after the fault was healed, such as an installed snapshot.
        let late = || windows.iter().rposition(|window| window.name == fault.name);
        match (fault.phase, place) {
            (FaultPhase::Hit, place) => {
                if let Some(place) = place.or_else(late) {
                    windows[place].hits += 1;
                }
            }
            (_, Some(place)) => windows[place].end_ns = Some(event.time_ns),
            (_, None) => {}
        }
    }
    windows
}

/// Time in which no fault was under way and the cluster had its bound to recover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calm {
    /// Hurt spans, apart from each other and in order: begin and end, in nanoseconds.
    hurt: Vec<(u64, u64)>,
}

impl Calm {
    /// The calm time of a run whose faults are felt for `after_ns` beyond their end.
    pub fn new(windows: &[FaultWindow], after_ns: u64) -> Self {
        let mut spans: Vec<(u64, u64)> = windows
            .iter()
            .map(|window| {
                let end = window.end_ns.map_or(u64::MAX, |end| end.saturating_add(after_ns));
                (window.start_ns, end)
            })
            .collect();
        spans.sort_unstable();
        let mut hurt: Vec<(u64, u64)> = Vec::new();
        for (start, end) in spans {
            match hurt.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => hurt.push((start, end)),
            }
        }
        Self { hurt }
    }

    /// Calm nanoseconds between two moments.
    pub fn between_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        let hurt: u64 = self
            .hurt
            .iter()
            .map(|(start, end)| (*end).min(to_ns).saturating_sub((*start).max(from_ns)))
            .sum();
        to_ns.saturating_sub(from_ns).saturating_sub(hurt)
    }

    /// Hurt spans: begin and end (`u64::MAX`: never healed), in nanoseconds.
    pub fn hurt(&self) -> &[(u64, u64)] {
        &self.hurt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{FaultEvent, Kind, Process};

    fn at(time_ns: u64, name: &str, phase: FaultPhase, targets: &[u64]) -> Event {
        let act = Act::Fault(FaultEvent {
            name: name.to_owned(),
            phase,
            targets: targets.to_vec(),
            detail: String::new(),
        });
        let process = Process::Nemesis;
        let (index, kind) = (0, Kind::Info);
        Event { index, time_ns, process, kind, node: None, act, answer: None, note: None }
    }

    #[test]
    fn windows_are_paired_by_name_and_targets() {
        use FaultPhase::{End, Hit, Start};
        let events = [
            at(10, "kill", Start, &[1]),
            at(20, "kill", Start, &[2]),
            at(25, "kill", Hit, &[1]),
            at(30, "kill", End, &[1]),
            at(40, "pause", Start, &[3]),
            at(50, "kill", End, &[]),
            at(60, "kill", Hit, &[2]),
        ];
        let found = windows(&events);
        let brief: Vec<_> = found.iter().map(|it| (it.start_ns, it.end_ns, it.hits)).collect();
        assert_eq!(brief, [(10, Some(30), 1), (20, Some(50), 1), (40, None, 0)]);
        let calm = Calm::new(&found, 5);
        assert_eq!(calm.hurt(), [(10, u64::MAX)]);
        assert_eq!((calm.between_ns(0, 100), calm.between_ns(0, 8)), (10, 8));
        let calm = Calm::new(&found[..1], 5);
        assert_eq!(calm.between_ns(0, 100), 75);
        assert_eq!(calm.between_ns(20, 40), 5);
    }
}
