//! Every checker is asked: a run that is right until one thing is broken, and the one that must
//! say so.

use super::*;
use crate::audit::{Audit, Happened, Record};
use crate::evidence::{BadLine, FinalPackage, NodeState};
use crate::verdict::Judgement;

/// A short run that is right, with all its evidence.
const RIGHT: &str = "0..5 take k1 @1 -> L1 in=1000
    6..9 read @2 -> 1 live=L1 index=5
    7..8 read @1 -> 1 index=5
    20..25 keep L1 1 @1 -> 2
    30..35 take k1 @2 -> L1 seq=2 in=990 hash=other
    40..45 look L1 @3 -> live in=900
    46..47 look L1 @3 -> live in=800
    50..60 fault kill hit nodes=1
    61..64 give L1 @2 -> ok
    70..75 read @3 -> 0 live= index=9
    71..76 read @1 -> 0 index=9";

fn evidence() -> Evidence {
    let record = |seq, what| Record {
        seq,
        what,
        package: "P".to_owned(),
        lease: "L1".to_owned(),
        user: Some("holder of k1".to_owned()),
    };
    let granted = Happened::Granted {
        fence: "00000001".to_owned(),
        class: "commit".to_owned(),
        seats: 1,
        pool: None,
    };
    let records = vec![record(1, granted), record(2, Happened::Returned)];
    let audit = Audit { records, range: (1, 2), head: "h".to_owned(), broken: None };
    let state = |node| NodeState {
        node,
        applied_index: 9,
        state_sum: "s".to_owned(),
        audit_head: "h".to_owned(),
    };
    let last = FinalPackage {
        package: "P".to_owned(),
        in_use: 0,
        total: 2,
        leases: vec![],
        pools: vec![],
    };
    Evidence {
        audits: [(1, audit.clone()), (2, audit)].into(),
        states: vec![state(1), state(2)],
        finals: Some(vec![last]),
        logs: 3,
        bad_lines: vec![],
    }
}

fn judged(text: &str, change: impl FnOnce(&mut Evidence)) -> Vec<(String, Judgement)> {
    let mut evidence = evidence();
    change(&mut evidence);
    let mut header = sample::header();
    header.faults = vec!["kill".to_owned()];
    let options = Options { min_overlapping: 2, recovery_ms: Some(10), ..Options::default() };
    let verdict = judge(&sample::with(header, text, evidence), &options);
    let not_valid = verdict.checks.into_iter().filter(|it| it.judgement != Judgement::Valid);
    not_valid.map(|check| (check.name, check.judgement)).collect()
}

#[track_caller]
fn breaks(wanted: &str, judgement: Judgement, from: &str, to: &str) {
    assert!(RIGHT.contains(from), "{from}");
    let found = judged(&RIGHT.replace(from, to), |_| {});
    let wanted = (wanted.to_owned(), judgement);
    assert!(found.contains(&wanted), "{wanted:?} is not in {found:?}");
}

#[track_caller]
fn evidence_breaks(wanted: &str, judgement: Judgement, change: impl FnOnce(&mut Evidence)) {
    let found = judged(RIGHT, change);
    let wanted = (wanted.to_owned(), judgement);
    assert!(found.contains(&wanted), "{wanted:?} is not in {found:?}");
}

#[test]
fn a_right_run_is_valid() {
    assert_eq!(judged(RIGHT, |_| {}), []);
    assert_eq!(CHECKERS.len(), 15);
}

#[test]
fn each_checker_says_when_its_rule_is_broken() {
    use Judgement::{Invalid, Unknown};
    breaks("discipline", Unknown, "6..9 read @2", "6..9 read p9 @2 -> 1\n 7..9 read p9 @2");
    breaks("coverage", Unknown, "kill hit", "kill");
    breaks("linearizable", Invalid, "70..75 read @3 -> 0 live=", "70..75 read @3 -> 1");
    breaks("oversold", Invalid, "61..64", "10..11 take k2 -> L2 fence=2\n 61..64");
    breaks("fences", Invalid, "61..64", "10..11 take k2 -> L2 overage fence=0\n 61..64");
    breaks("audit", Invalid, "61..64", "10..11 take k2 -> L2 overage\n 61..64");
    breaks("early-expiry", Invalid, "46..47 look L1 @3 -> live in=800", "46..47 look L1 -> dead");
    breaks("late-expiry", Invalid, "61..64 give L1 @2 -> ok", "9000..9001 look L1 -> live");
    breaks("reset", Invalid, "live in=900", "live in=9000");
    breaks("retries", Invalid, "take k1 @2 -> L1", "take k1 @2 -> L1 overage");
    breaks("reads", Invalid, "70..75 read @3 -> 0 live= index=9", "70..75 read @3 -> 0 index=4");
    breaks("recovery", Invalid, "61..64", "90..94");
}

#[test]
fn each_checker_of_evidence_says_when_its_rule_is_broken() {
    use Judgement::{Invalid, Unknown};
    evidence_breaks("audit", Invalid, |it| {
        it.audits.values_mut().for_each(|audit| drop(audit.records.pop()));
    });
    evidence_breaks("linearizable", Invalid, |it| {
        it.audits.values_mut().for_each(|audit| audit.records[1].what = Happened::Expired);
    });
    evidence_breaks("audit", Unknown, |it| it.audits.clear());
    evidence_breaks("states", Invalid, |it| "other".clone_into(&mut it.states[1].state_sum));
    evidence_breaks("states", Unknown, |it| it.states.clear());
    evidence_breaks("conservation", Invalid, |it| it.finals.as_mut().unwrap()[0].in_use = 1);
    evidence_breaks("conservation", Unknown, |it| it.finals = None);
    evidence_breaks("panics", Unknown, |it| it.logs = 0);
    evidence_breaks("panics", Invalid, |it| {
        let text = "thread 'main' panicked at x.rs:1".to_owned();
        it.bad_lines.push(BadLine { file: "node-1.log".to_owned(), line: 1, text });
    });
}
