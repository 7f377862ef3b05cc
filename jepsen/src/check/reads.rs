//! Reads: one that is not stale reflects all that was acknowledged before it; a node never goes
//! back while it runs.
//!
//! Answers name the log index that they reflect, and fences the index of their grant, so real time
//! can be compared with the log without knowing what stands in it.

use std::collections::BTreeMap;

use crate::check::{Options, Run};
use crate::history::Answer;
use crate::operation::{Operation, Outcome};
use crate::verdict::{Check, Finding};
use crate::windows::FaultWindow;

const NAME: &str = "reads";

/// A read reflects all that was acknowledged before it.
pub(super) fn reads(run: &Run, _: &Options) -> Check {
    let fresh: Vec<&Operation> = indexed(run, false);
    let stale: Vec<&Operation> = indexed(run, true);
    let mut findings = goes_back(known(run), &fresh, |_, _| true);
    let mut by_node: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in &stale {
        by_node.entry(operation.node.unwrap_or(0)).or_default().push(operation);
    }
    for (node, reads) in by_node {
        let known = reads.iter().filter_map(|it| Some((it.return_ns?, index(it)?, *it)));
        findings.extend(goes_back(known.collect(), &reads, |earlier, later| {
            !was_hurt(&run.windows, node, earlier.invoke_ns, later.left_ns)
        }));
    }
    let summary = format!("{} reads, and {} that may be stale", fresh.len(), stale.len());
    Check::of(NAME, summary, findings)
}

/// What is known to be in the log, and since when: what was read, and what was granted.
fn known(run: &Run) -> Vec<(u64, u64, &Operation)> {
    let of = |operation: &'_ Operation| match &operation.outcome {
        Outcome::Done(Answer::Granted { fence, .. }) => {
            fence.parse().ok().map(|fence: protocol::fence::Fence| fence.index)
        }
        _ if operation.act.is_stale_read() => None,
        _ => index(operation),
    };
    run.operations.iter().filter_map(|it| Some((it.return_ns?, of(it)?, it))).collect()
}

fn indexed(run: &Run, stale: bool) -> Vec<&Operation> {
    let of_kind = run.operations.iter().filter(|it| it.act.is_stale_read() == stale);
    of_kind.filter(|it| index(it).is_some()).collect()
}

/// The log index that an answer reflects, where it tells.
fn index(operation: &Operation) -> Option<u64> {
    match &operation.outcome {
        Outcome::Done(Answer::Package { index, .. } | Answer::Pools { index, .. }) => {
            (*index > 0).then_some(*index)
        }
        _ => None,
    }
}

/// Reads that reflect less than was known before they began.
fn goes_back<'a>(
    mut known: Vec<(u64, u64, &'a Operation)>,
    reads: &[&'a Operation],
    counts: impl Fn(&Operation, &Operation) -> bool,
) -> Vec<Finding> {
    known.sort_by_key(|(at_ns, ..)| *at_ns);
    let mut known = known.into_iter().peekable();
    let mut reads = reads.to_vec();
    reads.sort_by_key(|read| read.invoke_ns);
    let mut highest: Option<(u64, &Operation)> = None;
    let mut findings = Vec::new();
    for read in reads {
        while let Some((_, index, of)) = known.next_if(|(at_ns, ..)| *at_ns < read.invoke_ns) {
            if highest.is_none_or(|(highest, _)| highest <= index) {
                highest = Some((index, of));
            }
        }
        let reflects = index(read).unwrap_or(u64::MAX);
        if let Some((least, of)) = highest.filter(|(least, _)| *least > reflects)
            && counts(of, read)
        {
            findings.push(Finding {
                what: format!("a read reflects index {reflects}; {least} was known before it"),
                events: [of.events(), read.events()].concat(),
            });
        }
        // A node that may have lost what it had begins anew.
        if highest.is_some_and(|(least, of)| least > reflects && !counts(of, read)) {
            highest = None;
        }
    }
    findings
}

/// Whether a node, or all, may have been restarted between two moments.
fn was_hurt(windows: &[FaultWindow], node: u64, from_ns: u64, to_ns: u64) -> bool {
    windows.iter().any(|window| {
        let of_node = window.targets.is_empty() || window.targets.contains(&node);
        of_node && window.start_ns <= to_ns && window.end_ns.is_none_or(|end| end >= from_ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    fn check(want: usize, text: &str) {
        let found = reads(&sample::run(text), &Options::default());
        assert_eq!(found.findings.len(), want, "{text}\n{found:?}");
    }

    #[test]
    fn a_read_reflects_what_was_known_before_it() {
        check(0, "0..5 read @1 -> 0 index=9\n 6..9 read @2 -> 0 index=9");
        check(1, "0..5 read @1 -> 0 index=9\n 6..9 read @2 -> 0 index=8");
        check(0, "0..5 read @1 -> 0 index=9\n 5..9 read @2 -> 0 index=8");
        check(0, "0..5 stale @1 -> 0 index=9\n 6..9 read @2 -> 0 index=8");
        check(0, "0..5 read @1 -> 0 index=9\n 6..9 stale @2 -> 0 index=8");
        check(1, "0..5 read -> 0 index=9\n 0..4 read -> 0 index=7\n 6..9 pools -> a:1:1 index=8");
    }

    #[test]
    fn a_grant_is_seen_by_every_read_after_it() {
        let run = |index: u64| {
            let mut run =
                sample::run(&format!("0..5 take k1 -> L1\n 6..9 read -> 1 index={index}"));
            let Outcome::Done(Answer::Granted { fence, .. }) = &mut run.operations[0].outcome
            else {
                panic!("a grant");
            };
            *fence = "00000001-000000000000000a-0000-0000000000000001".to_owned();
            reads(&run, &Options::default()).findings.len()
        };
        assert_eq!([run(9), run(10)], [1, 0]);
    }

    #[test]
    fn a_node_goes_back_only_when_it_was_hurt() {
        check(1, "0..5 stale @1 -> 0 index=9\n 6..9 stale @1 -> 0 index=8");
        check(0, "0..5 stale @1 -> 0 index=9\n 6..9 stale @2 -> 0 index=8");
        check(
            0,
            "0..5 stale @1 -> 0 index=9\n 5.5..5.8 fault kill nodes=1\n 6..9 stale @1 -> 0 index=8",
        );
        check(
            1,
            "0..5 stale @1 -> 0 index=9\n 5.5..5.8 fault kill nodes=2\n 6..9 stale @1 -> 0 index=8",
        );
    }
}
