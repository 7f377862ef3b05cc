//! Fences rise with every grant, in real time, over all packages of a cluster.
//!
//! A grant happened between the first attempt of its key and the first answer with its lease. If
//! one was answered before another was first asked for, its fence is the lower one.

use std::collections::BTreeMap;

use crate::check::{Options, Run};
use crate::history::{Act, Answer};
use crate::operation::Outcome;
use crate::verdict::{Check, Finding};

const NAME: &str = "fences";

/// The grant of a lease: when it happened, and what it was told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted<'a> {
    pub(super) lease: &'a str,
    pub(super) key: &'a str,
    pub(super) fence: &'a str,
    /// It happened no earlier than this, and no later than that.
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    /// The event that answered it first.
    pub(super) event: u64,
}

/// Fences rise with every grant.
pub(super) fn fences(run: &Run, _: &Options) -> Check {
    let mut findings = Vec::new();
    let grants = grants(run);
    let mut holders: BTreeMap<&str, &Granted<'_>> = BTreeMap::new();
    for grant in &grants {
        if let Some(other) = holders.insert(grant.fence, grant) {
            findings.push(Finding {
                what: format!(
                    "leases {} and {} have one fence {}",
                    other.lease, grant.lease, grant.fence
                ),
                events: vec![other.event, grant.event],
            });
        }
    }
    let mut answered: Vec<&Granted<'_>> = grants.iter().collect();
    answered.sort_by_key(|grant| grant.last_ns);
    let mut answered = answered.into_iter().peekable();
    let mut highest: Option<&Granted<'_>> = None;
    let mut asked: Vec<&Granted<'_>> = grants.iter().collect();
    asked.sort_by_key(|grant| grant.first_ns);
    for grant in asked {
        while let Some(before) = answered.next_if(|before| before.last_ns < grant.first_ns) {
            if highest.is_none_or(|highest| highest.fence < before.fence) {
                highest = Some(before);
            }
        }
        if let Some(before) = highest.filter(|before| before.fence > grant.fence) {
            findings.push(Finding {
                what: format!(
                    "lease {} has fence {}, below {} of {}, which was answered before",
                    grant.lease, grant.fence, before.fence, before.lease
                ),
                events: vec![before.event, grant.event],
            });
        }
    }
    Check::of(NAME, format!("{} grants", grants.len()), findings)
}

/// The grants that somebody was answered, one for each lease.
pub(super) fn grants(run: &Run) -> Vec<Granted<'_>> {
    let mut asked: BTreeMap<&str, u64> = BTreeMap::new();
    let mut grants: BTreeMap<&str, Granted<'_>> = BTreeMap::new();
    for operation in &run.operations {
        let Act::Checkout { key, .. } = &operation.act else { continue };
        let first_ns = *asked.entry(key).or_insert(operation.invoke_ns);
        let Outcome::Done(Answer::Granted { lease, fence, .. }) = &operation.outcome else {
            continue;
        };
        let last_ns = operation.return_ns.unwrap_or(u64::MAX);
        let event = operation.end.unwrap_or(operation.invoke);
        let grant =
            grants.entry(lease).or_insert(Granted { lease, key, fence, first_ns, last_ns, event });
        if last_ns < grant.last_ns {
            (grant.last_ns, grant.event) = (last_ns, event);
        }
    }
    grants.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    fn check(want: usize, text: &str) {
        let found = fences(&sample::run(text), &Options::default());
        assert_eq!(found.findings.len(), want, "{text}\n{found:?}");
    }

    #[test]
    fn fences_rise_in_real_time() {
        check(0, "0..5 take k1 -> L1 fence=3\n 6..9 take k2 -> L2 fence=4");
        check(1, "0..5 take k1 -> L1 fence=4\n 6..9 take k2 -> L2 fence=3");
        check(1, "0..5 take k1 -> L1 fence=4\n 6..9 take k2 -> L2 fence=4");
        // Under way at the same moment: either may have been first.
        check(0, "0..5 take k1 -> L1 fence=4\n 5..9 take k2 -> L2 fence=3");
        // A repeat tells of a grant that may have happened at its first attempt.
        check(0, "0..? take k1\n 2..4 take k2 -> L2 fence=4\n 6..9 take k1 -> L1 fence=3");
        check(
            0,
            "0..1 take k1 -> L1 fence=3\n 2..4 take k2 -> L2 fence=4\n 6..9 take k1 -> L1 fence=3",
        );
        // The highest so far counts, not the last.
        check(
            1,
            "0..1 take k1 -> L1 fence=7\n 2..3 take k2 -> L2 fence=10\n 4..5 take k3 -> L3 fence=8",
        );
    }
}
