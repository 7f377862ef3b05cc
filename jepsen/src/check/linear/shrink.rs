//! Makes a part that cannot be explained small, so that a person can read it.
//!
//! Every step keeps what is left a weaker claim than what was there, so that a part that fails
//! proves that the whole fails:
//!
//! 1. The shortest beginning of the history that fails: what was not answered by then is unknown.
//! 2. Reads, refusals and repeats are left out one by one, and then in halves.
//! 3. Leases are left out that were over, or not yet granted, whenever somebody was told something
//!    that depends on how many seats are taken.

use std::collections::BTreeSet;

use super::problem::{Change, Interval, Problem};
use super::search::{Answer, Furthest, search, search_and_tell};
use crate::check::Run;
use crate::check::told::told;
use crate::model::{CheckoutAnswer, Class, LeaseNo, Step};
use crate::verdict::SubHistory;

/// A small problem that has no answer.
#[derive(Debug, Clone)]
pub struct Small {
    /// The problem.
    pub problem: Problem,
    /// How far a search of it came.
    pub furthest: Furthest,
}

/// Makes a problem that has no answer small.
pub fn shrink(problem: &Problem, configurations: u64) -> Small {
    let mut shrinking = Shrinking { left: TRIALS, configurations };
    let mut small = shrinking.beginning(problem);
    shrinking.leave_out(&mut small, |interval| !changes(interval));
    shrinking.forget_classes(&mut small);
    shrinking.leave_out_leases(&mut small);
    shrinking.leave_out(&mut small, |interval| !changes(interval));
    let furthest = search_and_tell(&small, configurations).furthest;
    Small { problem: small, furthest }
}

struct Shrinking {
    /// Searches that may still be made.
    left: u32,
    configurations: u64,
}

impl Shrinking {
    fn fails(&mut self, problem: &Problem) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        search(problem, self.configurations).answer == Answer::Impossible
    }

    /// The shortest beginning that fails: the longer, the harder, so the middle decides.
    fn beginning(&mut self, problem: &Problem) -> Problem {
        let mut ends: Vec<u64> =
            problem.intervals.iter().filter_map(|interval| interval.end_ns).collect();
        ends.sort_unstable();
        ends.dedup();
        let (mut low, mut high) = (0, ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.fails(&cut(problem, ends[middle])) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let short = ends.get(high).map(|end_ns| cut(problem, *end_ns));
        short.filter(|short| self.fails(short)).unwrap_or_else(|| problem.clone())
    }

    /// Leaves out what may be, in parts of half the size each time.
    fn leave_out(&mut self, problem: &mut Problem, may: impl Fn(&Interval) -> bool) {
        let mut size = problem.intervals.iter().filter(|it| may(it)).count();
        while size > 0 {
            let mut at = 0;
            loop {
                let places: Vec<usize> = (0..problem.intervals.len())
                    .filter(|place| may(&problem.intervals[*place]))
                    .skip(at)
                    .take(size)
                    .collect();
                if places.is_empty() {
                    break;
                }
                let mut less = problem.clone();
                for place in places.iter().rev() {
                    less.intervals.remove(*place);
                }
                if self.fails(&less) {
                    *problem = less;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    /// Leaves out of the answers which seats were granted. Where every lease has one seat, nothing
    /// but these answers depends on it.
    fn forget_classes(&mut self, problem: &mut Problem) {
        let mut less = problem.clone();
        for interval in &mut less.intervals {
            if let Step::Checkout { seats, answer, .. } = &mut interval.step {
                if *seats != 1 {
                    return;
                }
                if let Some(CheckoutAnswer::Granted { class, .. }) = answer {
                    *class = None;
                }
            }
        }
        if self.fails(&less) {
            *problem = less;
        }
    }

    /// Leaves out leases that nobody counted, in parts of half the size each time.
    fn leave_out_leases(&mut self, problem: &mut Problem) {
        let mut size = usize::MAX;
        while size > 0 {
            let mut at = 0;
            loop {
                let leases: BTreeSet<LeaseNo> =
                    problem.intervals.iter().filter_map(|it| lease_of(&it.step)).collect();
                let unseen: Vec<LeaseNo> =
                    leases.into_iter().filter(|lease| is_out_of_sight(problem, *lease)).collect();
                size = size.min(unseen.len());
                let out: BTreeSet<LeaseNo> = unseen.into_iter().skip(at).take(size).collect();
                if out.is_empty() {
                    break;
                }
                let less = without(problem, &out);
                if self.fails(&less) {
                    *problem = less;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
    }
}

/// A problem without some leases.
fn without(problem: &Problem, out: &BTreeSet<LeaseNo>) -> Problem {
    let is_out = |lease: Option<LeaseNo>| lease.is_some_and(|lease| out.contains(&lease));
    let mut less = problem.clone();
    less.intervals.retain(|interval| !is_out(lease_of(&interval.step)));
    if let Some(log) = &mut less.log {
        log.retain(|change| !is_out(change.lease()));
    }
    less
}

/// What was known when `end_ns` had come.
fn cut(problem: &Problem, end_ns: u64) -> Problem {
    let mut short = problem.clone();
    short.intervals.retain(|interval| interval.asked.invoke_ns <= end_ns);
    for interval in &mut short.intervals {
        if interval.end_ns.is_none_or(|end| end > end_ns) && interval.required {
            make_unknown(interval);
        }
    }
    short.intervals.retain(|interval| interval.required || changes(interval));
    short.is_log_whole = false;
    short
}

/// What was not answered may have happened or not, with any answer.
fn make_unknown(interval: &mut Interval) {
    interval.required = false;
    interval.eager = false;
    interval.end_ns = None;
    match &mut interval.step {
        Step::Checkout { answer, fence, .. } => {
            if matches!(answer, None | Some(CheckoutAnswer::Granted { .. })) {
                (*answer, *fence) = (None, None);
            }
        }
        Step::Heartbeat { answer, .. } => *answer = None,
        Step::Return { answer, .. } => *answer = None,
        Step::Borrow { answer, .. } | Step::ReturnBorrow { answer, .. } => *answer = None,
        Step::Transfer { answer, .. } => *answer = None,
        Step::ReadPackage { .. }
        | Step::ReadLease { .. }
        | Step::ReadPools { .. }
        | Step::Never => {}
    }
}

/// Whether an operation may change something; one that never does can be left out.
fn changes(interval: &Interval) -> bool {
    use crate::model::{BorrowAnswer, HeartbeatAnswer, ReturnAnswer};
    match &interval.step {
        Step::Checkout { answer, .. } => {
            matches!(answer, None | Some(CheckoutAnswer::Granted { .. }))
        }
        Step::Heartbeat { answer, .. } => {
            matches!(answer, None | Some(HeartbeatAnswer::Renewed { .. }))
        }
        Step::Return { answer, .. } => matches!(answer, None | Some(ReturnAnswer::Returned)),
        Step::Borrow { answer, .. } | Step::ReturnBorrow { answer, .. } => {
            matches!(answer, None | Some(BorrowAnswer::Done))
        }
        Step::Transfer { answer, .. } => *answer != Some(false),
        Step::ReadPackage { .. }
        | Step::ReadLease { .. }
        | Step::ReadPools { .. }
        | Step::Never => false,
    }
}

/// Whether an operation is right only if so many seats are taken, or are not free.
fn counts_seats(interval: &Interval) -> bool {
    use CheckoutAnswer::{Full, Granted, PoolFull};
    match &interval.step {
        Step::ReadPackage { .. } | Step::ReadPools { .. } => true,
        Step::Transfer { answer, .. } => *answer == Some(false),
        Step::Checkout { answer, .. } => {
            matches!(answer, Some(Full | PoolFull | Granted { class: Some(Class::Overage), .. }))
        }
        _ => false,
    }
}

/// Whether a lease was certainly not live whenever seats were counted.
fn is_out_of_sight(problem: &Problem, lease: LeaseNo) -> bool {
    use crate::model::ReturnAnswer::Returned;
    let of_lease = |it: &&Interval| lease_of(&it.step) == Some(lease);
    let born = problem.intervals.iter().filter(of_lease).filter_map(|it| match it.step {
        Step::Checkout { .. } => Some(it.asked.invoke_ns),
        _ => None,
    });
    let born_ns = born.min().unwrap_or(0);
    let returned = problem.intervals.iter().filter(of_lease).filter_map(|it| match it.step {
        Step::Return { answer: Some(Returned), .. } if it.required => it.end_ns,
        _ => None,
    });
    let over_ns = returned.chain(expired_ns(problem, lease)).min().unwrap_or(u64::MAX);
    let others = problem.intervals.iter().filter(|it| !of_lease(it) && counts_seats(it));
    let mut counted = others.map(|it| (it.asked.invoke_ns, it.end_ns.unwrap_or(u64::MAX)));
    counted.all(|(from_ns, to_ns)| to_ns < born_ns || over_ns < from_ns)
}

/// When a lease had expired at the latest: before the first answer to a change that the log has
/// later.
fn expired_ns(problem: &Problem, lease: LeaseNo) -> Option<u64> {
    let log = problem.log.as_ref()?;
    let expired = log.iter().position(|change| *change == Change::Expired(lease))?;
    let later: Vec<Change> = log[expired..].to_vec();
    let answered = problem.intervals.iter().filter(|it| it.required && changes(it));
    let of_later = answered.filter(|it| Change::of(&it.step).is_some_and(|it| later.contains(&it)));
    of_later.filter_map(|it| it.end_ns).min()
}

fn lease_of(step: &Step) -> Option<LeaseNo> {
    match step {
        Step::Checkout { lease, .. }
        | Step::Heartbeat { lease, .. }
        | Step::Return { lease, .. }
        | Step::Borrow { lease, .. }
        | Step::ReturnBorrow { lease, .. }
        | Step::ReadLease { lease, .. } => Some(*lease),
        _ => None,
    }
}

impl Small {
    /// What a person is shown of it.
    pub fn sub_history(&self, run: &Run) -> SubHistory {
        let operation = |place: usize| &run.operations[self.problem.intervals[place].operation];
        let mut events: Vec<u64> =
            (0..self.problem.intervals.len()).flat_map(|place| operation(place).events()).collect();
        events.sort_unstable();
        let required = |place: &&usize| self.problem.intervals[**place].required;
        let blocked = self.furthest.blocked.iter().filter(required);
        SubHistory {
            package: self.problem.package.clone(),
            events,
            stuck_at: self.furthest.state.clone(),
            blocked: blocked.map(|place| told(operation(*place))).collect(),
        }
    }
}

/// Searches for one failing part.
const TRIALS: u32 = 400;
