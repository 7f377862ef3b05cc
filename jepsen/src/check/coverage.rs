//! Whether a run proves anything: its history is one, its faults hit, its clients got in each
//! other's way, and followers were asked.
//!
//! A run that lacks any of it is not wrong; it is no evidence. So these never say `invalid`.

use std::collections::BTreeMap;

use crate::check::{NS_PER_MS, Options, Run};
use crate::operation::Operation;
use crate::verdict::{Check, Finding};

/// The history keeps the discipline.
pub(super) fn discipline(run: &Run, _: &Options) -> Check {
    let name = "discipline";
    let findings: Vec<Finding> = run
        .breaches
        .iter()
        .map(|breach| Finding { what: breach.what.clone(), events: vec![breach.event] })
        .collect();
    let summary = format!("{} events", run.history.events.len());
    if findings.is_empty() {
        return Check::valid(name, summary);
    }
    Check::unknown(name, summary, findings)
}

/// The run proves something.
pub(super) fn coverage(run: &Run, options: &Options) -> Check {
    let mut missing = Vec::new();
    let mut lacks = |what: String| missing.push(Finding { what, events: Vec::new() });
    for fault in &run.header().faults {
        let windows = run.windows.iter().filter(|window| window.name == *fault);
        if windows.clone().all(|window| window.hits == 0) {
            lacks(format!("fault {fault} never hit, in {} tries", windows.count()));
        }
    }
    let mut least = None;
    for terms in &run.header().packages {
        let overlapping = overlapping(run, &terms.name);
        least = Some(least.unwrap_or(overlapping).min(overlapping));
        if overlapping < options.min_overlapping {
            lacks(format!("{}: {overlapping} operations overlap with another", terms.name));
        }
    }
    let (followers, reads) = follower_reads(run);
    let part = if reads == 0 { 0.0 } else { followers as f64 / reads as f64 };
    if part < options.min_follower_reads {
        lacks(format!("{followers} of {reads} reads were certainly answered by followers"));
    }
    let hits: u32 = run.windows.iter().map(|window| window.hits).sum();
    let summary = format!(
        "{} windows of faults, {hits} hits; at least {} operations of a package overlap; \
         {followers} of {reads} reads certainly by followers",
        run.windows.len(),
        least.unwrap_or(0)
    );
    if missing.is_empty() {
        return Check::valid("coverage", summary);
    }
    Check::unknown("coverage", summary, missing)
}

/// How many operations of a package were under way together with another of it.
fn overlapping(run: &Run, package: &str) -> u64 {
    let of_package =
        run.operations.iter().filter(|operation| operation.act.package() == Some(package));
    let mut count = 0;
    // Operations come in the order of their beginnings: only the one that ends last can reach on.
    let mut longest: Option<(&Operation, bool)> = None;
    for operation in of_package {
        let overlaps = longest.is_some_and(|(before, _)| before.overlaps(operation));
        if overlaps {
            count += 1;
            if let Some((_, counted @ false)) = &mut longest {
                *counted = true;
                count += 1;
            }
        }
        if longest.is_none_or(|(before, _)| before.left_ns <= operation.left_ns) {
            longest = Some((operation, overlaps));
        }
    }
    count
}

/// Reads that were certainly answered by followers, and all. Who leads is not in the history, but
/// at one time at most one node does: in each half second, all but the node that was read most.
fn follower_reads(run: &Run) -> (u64, u64) {
    let mut spans: BTreeMap<u64, BTreeMap<u64, u64>> = BTreeMap::new();
    let reads = run.operations.iter().filter(|it| it.act.is_read() && it.is_done());
    for read in reads {
        let span = read.invoke_ns / (SPAN_MS * NS_PER_MS);
        *spans.entry(span).or_default().entry(read.node.unwrap_or(0)).or_default() += 1;
    }
    let mut certain = 0;
    let mut all = 0;
    for by_node in spans.values() {
        let count: u64 = by_node.values().sum();
        certain += count - by_node.values().max().copied().unwrap_or(0);
        all += count;
    }
    (certain, all)
}

/// Length of the spans in which one node is taken to lead.
const SPAN_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use crate::evidence::Evidence;
    use crate::verdict::Judgement;

    fn judge(faults: &[&str], text: &str) -> Judgement {
        let mut header = sample::header();
        header.faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        let run = sample::with(header, text, Evidence::default());
        let options = Options { min_overlapping: 2, ..Options::default() };
        coverage(&run, &options).judgement
    }

    const ENOUGH: &str = "0..5 read @1 -> 0\n 5..6 read @2 -> 0\n 5..9 take k1 -> L1\n";

    #[test]
    fn a_run_without_hits_overlaps_or_follower_reads_is_no_evidence() {
        assert_eq!(judge(&[], ENOUGH), Judgement::Valid);
        assert_eq!(judge(&["kill"], ENOUGH), Judgement::Unknown);
        assert_eq!(judge(&["kill"], &format!("{ENOUGH} 1..2 fault kill")), Judgement::Unknown);
        assert_eq!(judge(&["kill"], &format!("{ENOUGH} 1..2 fault kill hit")), Judgement::Valid);
        let two = format!("{ENOUGH} 1..2 fault kill hit\n 3..4 fault pause");
        assert_eq!(judge(&["kill", "pause"], &two), Judgement::Unknown);
        assert_eq!(judge(&[], "0..5 read @1 -> 0\n 4..6 read @1 -> 0"), Judgement::Unknown);
        assert_eq!(judge(&[], "0..5 read @1 -> 0\n 6..7 read @2 -> 0"), Judgement::Unknown);
        assert_eq!(judge(&[], ""), Judgement::Unknown);
    }

    #[test]
    fn operations_that_overlap_are_counted_once_each() {
        let count = |text: &str| overlapping(&sample::run(text), "P");
        assert_eq!(count("0..5 read -> 0\n 6..7 read -> 0"), 0);
        assert_eq!(count("0..9 read -> 0\n 1..2 read -> 0\n 3..4 read -> 0\n 10..11 read -> 0"), 3);
        assert_eq!(count("0..5 read -> 0\n 5..8 read -> 0\n 8..9 read -> 0"), 3);
    }

    #[test]
    fn a_broken_discipline_is_no_evidence() {
        let judge = |text: &str| discipline(&sample::run(text), &Options::default()).judgement;
        assert_eq!(judge("0..5 read p1 -> 0\n 6..7 read p1 -> 0"), Judgement::Valid);
        assert_eq!(judge("0..5 read p1 -> 0\n 4..7 read p1 -> 0"), Judgement::Unknown);
        assert_eq!(judge("0..5 read p1 -> ?\n 6..7 read p1 -> 0"), Judgement::Unknown);
    }
}
