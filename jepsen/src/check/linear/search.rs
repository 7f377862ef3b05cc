//! The search: Wing and Gong's, with Lowe's memory of configurations.
//!
//! A configuration is the set of operations that were placed in the order so far and the state
//! that this order leads to. From each, the next one may be any operation that began before every
//! operation still to be placed has ended. What was seen once need not be looked at again.
//!
//! ```text
//!            ┌──── may be next: began before the earliest end ────┐
//!   placed   │ a├────────┤   b├─────┤                             │  c├───┤
//!            └────────────────────▲ earliest end ─────────────────┘
//! ```
//!
//! Four things keep the number of configurations near the number of operations:
//!
//! * An answered operation that fits and changes nothing is placed at once: doing so takes nothing
//!   away from the others. So reads, refusals and repeats never branch. Likewise renewals that
//!   nothing else could tell from one placed later ([`Interval::eager`]).
//! * Expiry is no operation in the set. A live lease whose earliest end has come may expire; the
//!   state remembers that it did.
//! * Operations of unknown outcome are not in the memory either: they apply only where they change
//!   something, and afterwards the state says that they cannot apply again.
//! * Where there is an audit log, a change may come only when it is the next in it.
//!
//! Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993); Lowe, "Testing for
//! linearizability" (2017).

use std::collections::HashSet;

use super::problem::{Change, Interval, Problem};
use crate::model::{Asked, Lease, LeaseNo, Package, Step, Undo, scramble};

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The answer.
    pub answer: Answer,
    /// Configurations that it visited.
    pub configurations: u64,
    /// Where most operations were placed; empty unless it was asked for.
    pub furthest: Furthest,
}

/// Whether there is an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// There is one.
    Linearizable,
    /// There is none.
    Impossible,
    /// Nobody knows: the search was stopped.
    GaveUp,
}

/// The configuration in which most operations were placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Furthest {
    /// Places of the intervals in the order in which they were placed.
    pub placed: Vec<usize>,
    /// Those that would have been next, and do not fit.
    pub blocked: Vec<usize>,
    /// The state, for people.
    pub state: String,
}

/// Looks for an order of a package's operations, visiting at most so many configurations.
pub fn search(problem: &Problem, configurations: u64) -> Found {
    let mut search = Search::new(problem);
    let answer = search.run(configurations);
    Found { answer, configurations: search.visited, furthest: search.furthest }
}

/// The same, and tells how far it came: takes quadratic time, so it is for small problems.
pub fn search_and_tell(problem: &Problem, configurations: u64) -> Found {
    let mut search = Search { tells: true, ..Search::new(problem) };
    let answer = search.run(configurations);
    Found { answer, configurations: search.visited, furthest: search.furthest }
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Operation(usize),
    /// An operation, as one that was done before and is answered again.
    Repeat(usize),
    Expire(LeaseNo),
}

/// One step of the order under way.
struct Frame {
    /// What was placed on the way here, with what it changed.
    placed: Vec<(Choice, Undo)>,
    /// What may come next, best first.
    choices: Vec<Choice>,
    /// The next of them.
    next: usize,
    /// The latest moment at which it may be placed.
    latest_ns: u64,
}

struct Search<'a> {
    problem: &'a Problem,
    state: Package,
    /// A ring of the intervals that are not placed, in the order of their beginnings; the place
    /// after the last interval is its head.
    after: Vec<usize>,
    before: Vec<usize>,
    /// Required intervals that are not placed.
    missing: usize,
    /// How many changes of the log were placed.
    position: usize,
    set: u128,
    seen: HashSet<u128>,
    visited: u64,
    /// Whether `furthest` is kept.
    tells: bool,
    furthest: Furthest,
    fewest_missing: usize,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem) -> Self {
        let head = problem.intervals.len();
        let missing = problem.intervals.iter().filter(|interval| interval.required).count();
        Self {
            problem,
            state: problem.initial.clone(),
            after: (0..=head).map(|place| if place == head { 0 } else { place + 1 }).collect(),
            before: (0..=head).map(|place| if place == 0 { head } else { place - 1 }).collect(),
            missing,
            position: 0,
            set: 0,
            seen: HashSet::new(),
            visited: 0,
            tells: false,
            furthest: Furthest::default(),
            fewest_missing: usize::MAX,
        }
    }

    fn run(&mut self, configurations: u64) -> Answer {
        let mut frames: Vec<Frame> = Vec::new();
        let mut arrived = self.arrive(Vec::new(), &frames);
        loop {
            match arrived {
                Arrival::Done => return Answer::Linearizable,
                Arrival::Frame(frame) => frames.push(frame),
                Arrival::Known(placed) => self.take_back(placed),
            }
            if self.visited > configurations {
                return Answer::GaveUp;
            }
            let Some(placed) = self.step(&mut frames) else { return Answer::Impossible };
            arrived = self.arrive(vec![placed], &frames);
        }
    }

    /// Places the next choice of the newest frame that has one.
    fn step(&mut self, frames: &mut Vec<Frame>) -> Option<(Choice, Undo)> {
        loop {
            let frame = frames.last_mut()?;
            let Some(choice) = frame.choices.get(frame.next).copied() else {
                let frame = frames.pop()?;
                self.take_back(frame.placed);
                continue;
            };
            frame.next += 1;
            let latest_ns = frame.latest_ns;
            if let Some(undo) = self.try_place(choice, latest_ns) {
                return Some((choice, undo));
            }
        }
    }

    /// Places all that never branches; then says whether this is the end, known, or where to go.
    fn arrive(&mut self, mut placed: Vec<(Choice, Undo)>, frames: &[Frame]) -> Arrival {
        let (choices, latest_ns) = loop {
            let (choices, latest_ns) = self.choices();
            let is_eager = |choice: &&Choice| match choice {
                Choice::Operation(place) => self.problem.intervals[*place].required,
                Choice::Repeat(_) | Choice::Expire(_) => false,
            };
            let before = placed.len();
            let candidates: Vec<Choice> = choices.iter().filter(is_eager).copied().collect();
            for choice in candidates {
                let Choice::Operation(place) = choice else { continue };
                let interval = &self.problem.intervals[place];
                let Some(undo) = self.apply(interval.asked, &interval.step) else { continue };
                if undo.is_empty() || interval.eager {
                    self.unlink(place);
                    placed.push((choice, undo));
                } else {
                    self.undo(choice, undo);
                }
            }
            if placed.len() == before {
                break (choices, latest_ns);
            }
        };
        if self.tells && self.missing < self.fewest_missing {
            self.note_furthest(&placed, frames, &choices);
        }
        if self.missing == 0 && self.is_log_done() {
            return Arrival::Done;
        }
        let position = scramble(8, self.position as u128);
        if !self.seen.insert(self.set ^ self.state.digest() ^ position) {
            return Arrival::Known(placed);
        }
        self.visited += 1;
        Arrival::Frame(Frame { placed, choices, next: 0, latest_ns })
    }

    /// What may come next, best first, and the latest moment for it.
    fn choices(&self) -> (Vec<Choice>, u64) {
        let mut latest_ns = u64::MAX;
        let head = self.problem.intervals.len();
        let mut found: Vec<Choice> = Vec::new();
        let mut place = self.after[head];
        while place != head {
            let interval = &self.problem.intervals[place];
            if interval.asked.invoke_ns > latest_ns {
                break;
            }
            if interval.required {
                latest_ns = latest_ns.min(interval.end_ns.unwrap_or(u64::MAX));
            }
            found.push(Choice::Operation(place));
            if self.state.repeats(&interval.step) {
                found.push(Choice::Repeat(place));
            }
            place = self.after[place];
        }
        for lease in self.state.live() {
            if let Lease::Live(live) = self.state.lease(*lease)
                && live.until_ns <= latest_ns
                && self.is_next(Change::Expired(*lease))
            {
                found.push(Choice::Expire(*lease));
            }
        }
        (found, latest_ns)
    }

    fn try_place(&mut self, choice: Choice, latest_ns: u64) -> Option<Undo> {
        match choice {
            Choice::Expire(lease) => {
                let undo = self.state.expire(lease, latest_ns)?;
                self.position += 1;
                Some(undo)
            }
            Choice::Repeat(place) => {
                let is_right = self.state.repeats(&self.problem.intervals[place].step);
                is_right.then(|| self.unlink(place))?;
                Some(Undo::default())
            }
            Choice::Operation(place) => {
                let interval = &self.problem.intervals[place];
                let undo = self.apply(interval.asked, &interval.step)?;
                if !interval.required && undo.is_empty() {
                    return None;
                }
                self.unlink(place);
                Some(undo)
            }
        }
    }

    /// Takes a step of the model, unless it is a change that is not the next of the log.
    fn apply(&mut self, asked: Asked, step: &Step) -> Option<Undo> {
        let undo = self.state.apply(asked, step)?;
        if undo.is_empty() {
            return Some(undo);
        }
        if let Some(change) = Change::of(step) {
            if !self.is_next(change) {
                self.state.undo(undo);
                return None;
            }
            self.position += 1;
        }
        Some(undo)
    }

    fn undo(&mut self, choice: Choice, undo: Undo) {
        let is_logged = match choice {
            Choice::Operation(place) => is_logged(&self.problem.intervals[place].step),
            Choice::Repeat(_) => false,
            Choice::Expire(_) => true,
        };
        if is_logged && !undo.is_empty() {
            self.position -= 1;
        }
        self.state.undo(undo);
    }

    /// Whether a change may come now, as far as the log goes.
    fn is_next(&self, change: Change) -> bool {
        let Some(log) = &self.problem.log else { return true };
        log.get(self.position) == Some(&change)
    }

    fn is_log_done(&self) -> bool {
        let log = self.problem.log.as_ref().filter(|_| self.problem.is_log_whole);
        log.is_none_or(|log| self.position == log.len())
    }

    fn take_back(&mut self, placed: Vec<(Choice, Undo)>) {
        for (choice, undo) in placed.into_iter().rev() {
            self.undo(choice, undo);
            if let Choice::Operation(place) | Choice::Repeat(place) = choice {
                self.relink(place);
            }
        }
    }

    fn unlink(&mut self, place: usize) {
        let (before, after) = (self.before[place], self.after[place]);
        self.after[before] = after;
        self.before[after] = before;
        self.count(place, usize::wrapping_sub);
    }

    fn relink(&mut self, place: usize) {
        let (before, after) = (self.before[place], self.after[place]);
        self.after[before] = place;
        self.before[after] = place;
        self.count(place, usize::wrapping_add);
    }

    fn count(&mut self, place: usize, change: fn(usize, usize) -> usize) {
        let interval: &Interval = &self.problem.intervals[place];
        if interval.required {
            self.missing = change(self.missing, 1);
        }
        if interval.is_remembered {
            self.set ^= scramble(7, place as u128);
        }
    }

    fn note_furthest(&mut self, placed: &[(Choice, Undo)], frames: &[Frame], choices: &[Choice]) {
        self.fewest_missing = self.missing;
        let on_the_way = frames.iter().flat_map(|frame| &frame.placed).chain(placed);
        let operation = |choice: &Choice| match choice {
            Choice::Operation(place) | Choice::Repeat(place) => Some(*place),
            Choice::Expire(_) => None,
        };
        self.furthest = Furthest {
            placed: on_the_way.filter_map(|(choice, _)| operation(choice)).collect(),
            blocked: choices.iter().filter_map(operation).collect(),
            state: self.problem.describe(&self.state),
        };
    }
}

/// Whether the log has the change that a step makes.
fn is_logged(step: &Step) -> bool {
    Change::of(step).is_some()
}

enum Arrival {
    /// Everything is placed.
    Done,
    /// This was seen before.
    Known(Vec<(Choice, Undo)>),
    /// To be gone on from.
    Frame(Frame),
}
