//! Second opinions on the search: stateright's tester, and every order tried one by one; and
//! histories that are right by construction, and wrong by one change.

use std::collections::BTreeSet;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::generate::{Random, Shape, generate};
use super::problem::{Change, Interval, Problem};
use super::search::{Answer as Verdict, search};
use super::*;
use crate::check::judge;
use crate::evidence::Evidence;
use crate::history::{Act, Answer, Event, History, Kind};
use crate::model::{Asked, Lease, LeaseNo, Package, Step};
use crate::operation::Outcome;

/// Every order, one by one: no memory, no eagerness.
fn any_order(problem: &Problem, state: &Package, left: &[usize], logged: usize) -> bool {
    let required = |place: &&usize| problem.intervals[**place].required;
    let is_logged = problem.log.as_ref().is_none_or(|log| log.len() == logged);
    if left.iter().filter(required).count() == 0 && is_logged {
        return true;
    }
    let ends = left.iter().filter(required).filter_map(|place| problem.intervals[*place].end_ns);
    let latest_ns = ends.min().unwrap_or(u64::MAX);
    let is_next = |change| match &problem.log {
        Some(log) => log.get(logged) == Some(&change),
        None => true,
    };
    for place in left {
        let interval = &problem.intervals[*place];
        let mut next = state.clone();
        if interval.asked.invoke_ns > latest_ns {
            continue;
        }
        let rest: Vec<usize> = left.iter().copied().filter(|it| it != place).collect();
        if state.repeats(&interval.step) && any_order(problem, state, &rest, logged) {
            return true;
        }
        let Some(undo) = next.apply(interval.asked, &interval.step) else { continue };
        let change = Change::of(&interval.step).filter(|_| !undo.is_empty());
        if change.is_some_and(|change| !is_next(change)) {
            continue;
        }
        if any_order(problem, &next, &rest, logged + usize::from(change.is_some())) {
            return true;
        }
    }
    let live: Vec<LeaseNo> = state.live().iter().copied().collect();
    live.into_iter().any(|lease| {
        let mut next = state.clone();
        is_next(Change::Expired(lease))
            && next.expire(lease, latest_ns).is_some()
            && any_order(problem, &next, left, logged + 1)
    })
}

/// The model as stateright knows one.
#[derive(Debug, Clone)]
struct Spec(Package);

#[derive(Debug, Clone, PartialEq)]
enum Op {
    Do(Asked, Step),
    Expire(LeaseNo, u64),
}

impl SequentialSpec for Spec {
    type Op = Op;
    type Ret = ();

    fn invoke(&mut self, op: &Op) {
        // What is never answered may happen; where it cannot, nothing does.
        match op {
            Op::Do(asked, step) => drop(self.0.apply(*asked, step)),
            Op::Expire(lease, latest_ns) => drop(self.0.expire(*lease, *latest_ns)),
        }
    }

    fn is_valid_step(&mut self, op: &Op, (): &()) -> bool {
        match op {
            Op::Do(asked, step) => self.0.apply(*asked, step).is_some(),
            Op::Expire(lease, latest_ns) => self.0.expire(*lease, *latest_ns).is_some(),
        }
    }
}

/// What stateright says. Each extension of a lease adds an expiry that is asked for at the earliest
/// end, by a thread of its own, and never answered.
fn stateright_says(problem: &Problem) -> bool {
    let mut moments: Vec<(u64, bool, usize, Option<Op>)> = Vec::new();
    for (thread, interval) in problem.intervals.iter().enumerate() {
        let Interval { asked, step, end_ns, required, .. } = interval;
        moments.push((asked.invoke_ns, false, thread, Some(Op::Do(*asked, step.clone()))));
        if let (Some(end_ns), true) = (end_ns, required) {
            moments.push((*end_ns, true, thread, None));
        }
        if let Step::Checkout { lease, .. }
        | Step::Heartbeat { lease, .. }
        | Step::Borrow { lease, .. }
        | Step::ReturnBorrow { lease, .. } = step
        {
            let thread = problem.intervals.len() + thread;
            moments.push((asked.until_ns, false, thread, Some(Op::Expire(*lease, asked.until_ns))));
        }
    }
    // At one moment, beginnings come before ends: they overlap.
    moments.sort_by_key(|(at_ns, ends, thread, _)| (*at_ns, *ends, *thread));
    let mut tester = LinearizabilityTester::new(Spec(problem.initial.clone()));
    for (_, _, thread, op) in moments {
        match op {
            Some(op) => drop(tester.on_invoke(thread, op).unwrap()),
            None => drop(tester.on_return(thread, ()).unwrap()),
        }
    }
    tester.is_consistent()
}

fn problem(run: &Run) -> Problem {
    Problem::of(run, &run.header().packages[0])
}

/// Changes one answer of a history.
fn mutate(random: &mut Random, history: &History) -> History {
    let mut history = history.clone();
    let answered: Vec<usize> =
        (0..history.events.len()).filter(|place| history.events[*place].answer.is_some()).collect();
    if answered.is_empty() {
        return history;
    }
    let place = answered[random.below(answered.len() as u64) as usize];
    let Event { kind, answer, act, .. } = &mut history.events[place];
    let full = Answer::Refused { code: "max_overage_exceeded".to_owned(), status: 409 };
    match (&*act, answer.as_mut().unwrap()) {
        (Act::Checkout { .. }, Answer::Granted { class, .. }) if random.below(2) == 0 => {
            let other = if class == "commit" { "overage" } else { "commit" };
            other.clone_into(class);
        }
        (Act::Checkout { .. }, Answer::Granted { .. }) => {
            (*kind, *answer) = (Kind::Fail, Some(full));
        }
        (Act::Heartbeat { .. }, Answer::Renewed { renewal_token, .. }) => {
            let (front, _) = renewal_token.rsplit_once("-t").unwrap();
            *renewal_token = format!("{front}-t{}", 1 + random.below(4));
        }
        (_, Answer::Package { in_use, leases, .. }) => {
            *in_use = random.below(4) as u32;
            *leases = None;
        }
        (_, Answer::Lease { live, .. }) => *live = !*live,
        (_, Answer::Pools { shares, .. }) => {
            let place = random.below(shares.len() as u64) as usize;
            shares[place].2 ^= 1;
        }
        (_, Answer::Refused { code, .. }) => {
            let codes = ["lease_ended", "already_ended", "not_borrowed", "pool_exhausted"];
            codes[random.below(4) as usize].clone_into(code);
        }
        (Act::Return { .. }, answer) => {
            *answer = Answer::Refused { code: "already_ended".to_owned(), status: 409 };
            *kind = Kind::Fail;
        }
        _ => {}
    }
    history
}

#[test]
fn three_opinions_on_small_histories_are_one() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..1_500_u64 {
        let mut random = Random(seed);
        let shape = Shape::small(4 + seed % 3, seed % 2 == 0);
        let made = generate(seed, &shape);
        let history = mutate(&mut random, &made.history);
        let run = Run::new(history, Evidence::default());
        let problem = problem(&run);
        let found = search(&problem, 1_000_000).answer;
        let all: Vec<usize> = (0..problem.intervals.len()).collect();
        let one_by_one = any_order(&problem, &problem.initial, &all, 0);
        let other = stateright_says(&problem);
        let found = match found {
            Verdict::Linearizable => true,
            Verdict::Impossible => false,
            Verdict::GaveUp => panic!("seed {seed}: so small a history was given up"),
        };
        assert_eq!((found, one_by_one), (other, other), "seed {seed}: {:#?}", run.history.events);
        if found { right += 1 } else { wrong += 1 }
    }
    assert!(right > 300 && wrong > 300, "{right} right, {wrong} wrong: the mix proves too little");
}

#[test]
fn with_evidence_the_search_says_what_every_order_says() {
    for seed in 0..600_u64 {
        let shape = Shape { lost: 350, ..Shape::small(5 + seed % 3, seed % 2 == 0) };
        let mut run = generate(seed, &shape);
        if seed % 3 > 0 {
            let history = mutate(&mut Random(seed), &run.history);
            run = Run::new(history, run.evidence);
        }
        let problem = problem(&run);
        let found = search(&problem, 1_000_000).answer;
        let all: Vec<usize> = (0..problem.intervals.len()).collect();
        let one_by_one = any_order(&problem, &problem.initial, &all, 0);
        assert_eq!(found == Verdict::Linearizable, one_by_one, "seed {seed}: {problem:#?}");
        assert!(one_by_one || seed % 3 > 0, "seed {seed}: right by construction");
    }
}

#[test]
fn what_is_right_by_construction_is_found_right_by_every_checker() {
    for seed in 0..30_u64 {
        let run = generate(seed, &Shape::large(1_500, seed % 2 == 0));
        let verdict = judge(&run, &Options::default());
        let wrong: Vec<_> = verdict
            .checks
            .iter()
            .filter(|check| check.judgement == Judgement::Invalid || check.name == NAME)
            .filter(|check| check.judgement != Judgement::Valid)
            .collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        // And without the log, by the search alone.
        let alone = Run::new(run.history, Evidence::default());
        let found = linearizable(&alone, &Options::default());
        assert_ne!(found.judgement, Judgement::Invalid, "seed {seed}: {found:#?}");
    }
}

/// Changes that no order explains: what they say was over, or is more than there is.
fn break_for_sure(random: &mut Random, run: &Run) -> Option<History> {
    let mut history = run.history.clone();
    let total = run.header().packages[0].total();
    let given: BTreeSet<&str> = run
        .operations
        .iter()
        .filter(|it| matches!(it.act, Act::Return { .. }) && it.is_done())
        .filter_map(|it| it.act.lease())
        .collect();
    let begin = random.below(history.events.len() as u64) as usize;
    for event in &mut history.events[begin..] {
        let stale = event.act.is_stale_read();
        match &mut event.answer {
            Some(Answer::Package { in_use, .. }) if !stale && random.below(2) == 0 => {
                *in_use = total + 1;
                return Some(history);
            }
            Some(Answer::Renewed { renewal_token, .. })
                if matches!(event.act, Act::Heartbeat { .. }) && random.below(3) == 0 =>
            {
                renewal_token.push_str("000");
                return Some(history);
            }
            Some(Answer::Lease { live: live @ true, .. }) => {
                // Given back long ago, by the look of it: it was, under another name.
                let lease = given.first()?;
                let returned = run.operations.iter().find(|it| {
                    matches!(it.act, Act::Return { .. })
                        && it.act.lease() == Some(lease)
                        && it.is_done()
                })?;
                if returned.return_ns? < event.time_ns.saturating_sub(200_000_000) {
                    *live = true;
                    let act = Act::ReadLease {
                        package: "P".to_owned(),
                        lease: (*lease).to_owned(),
                        stale: false,
                    };
                    let (process, index) = (event.process, event.index as usize);
                    event.act = act.clone();
                    let mut before = history.events[..index].iter_mut().rev();
                    before.find(|it| it.process == process)?.act = act;
                    return Some(history);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn one_wrong_answer_in_a_long_history_is_found_and_made_small() {
    let mut sizes = Vec::new();
    for seed in 0..24_u64 {
        let run = generate(seed, &Shape::large(1_200, seed % 2 == 0));
        let Some(history) = break_for_sure(&mut Random(seed), &run) else { continue };
        let run = Run::new(history, run.evidence);
        let found = linearizable(&run, &Options::default());
        assert_eq!(found.judgement, Judgement::Invalid, "seed {seed}: {found:#?}");
        let small = found.smallest.unwrap();
        sizes.push(small.events.len());
    }
    sizes.sort_unstable();
    assert!(sizes.len() > 15, "{} were broken: the mix proves too little", sizes.len());
    assert!(sizes[sizes.len() / 2] < 120, "events: {sizes:?}");
}

#[test]
fn ten_thousand_operations_take_about_as_many_configurations() {
    for rich in [false, true] {
        let run = generate(7, &Shape::large(10_000, rich));
        let problem = problem(&run);
        let found = search(&problem, 1_000_000);
        assert_eq!(found.answer, Verdict::Linearizable);
        let bound = 2 * problem.intervals.len() as u64;
        assert!(found.configurations < bound, "{} configurations", found.configurations);
        // And to find that there is no order takes not much more.
        let mut history = run.history.clone();
        let last = history.events.iter_mut().rev().find_map(|event| match &mut event.answer {
            Some(Answer::Package { in_use, .. }) if !event.act.is_stale_read() => Some(in_use),
            _ => None,
        });
        *last.unwrap() = 77;
        let run = Run::new(history, run.evidence);
        let found = search(&self::problem(&run), 1_000_000);
        assert_eq!(found.answer, Verdict::Impossible);
        assert!(found.configurations < 20 * bound, "{} configurations", found.configurations);
    }
}

#[test]
fn what_is_generated_has_everything_in_it() {
    let run = generate(3, &Shape::large(4_000, true));
    let outcomes = |name: &str| -> BTreeSet<String> {
        let of_act = run.operations.iter().filter(|it| it.act.name() == name);
        of_act
            .map(|it| match &it.outcome {
                Outcome::Done(_) => "ok".to_owned(),
                Outcome::Refused { code } => code.clone(),
                Outcome::Failed => "fail".to_owned(),
                Outcome::Unknown => "unknown".to_owned(),
            })
            .collect()
    };
    for (act, wanted) in [
        (
            "checkout",
            &["ok", "max_overage_exceeded", "pool_exhausted", "lease_ended", "unknown"][..],
        ),
        ("heartbeat", &["ok", "lease_ended", "unknown"]),
        ("return", &["ok", "already_ended", "unknown"]),
        ("borrow", &["ok", "lease_ended", "unknown"]),
        ("return-borrow", &["ok", "not_borrowed"]),
        ("transfer", &["ok", "not_enough_free", "unknown"]),
        ("read-package", &["ok"]),
        ("read-lease", &["ok"]),
        ("read-pools", &["ok"]),
    ] {
        let found = outcomes(act);
        for outcome in wanted {
            assert!(found.contains(*outcome), "{act} is never {outcome}: {found:?}");
        }
    }
    let expired = run.evidence.audit().unwrap().records.iter();
    assert!(expired.filter(|it| it.what == crate::audit::Happened::Expired).count() > 20);
    assert!(matches!(problem(&run).initial.lease(0), Lease::Unborn));
}
