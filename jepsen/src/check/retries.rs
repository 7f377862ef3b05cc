//! The same key gets the same answer, however often it is asked and whichever node is.

use std::collections::BTreeMap;

use super::oversold::by_lease;
use crate::check::{Options, Run};
use crate::history::{Act, Answer};
use crate::operation::{Operation, Outcome};
use crate::verdict::{Check, Finding};

const NAME: &str = "retries";

/// The same key gets the same answer.
pub(super) fn retries(run: &Run, _: &Options) -> Check {
    let mut asked: BTreeMap<(&'static str, &str), Vec<&Operation>> = BTreeMap::new();
    for operation in &run.operations {
        if let Some(key) = operation.act.key() {
            asked.entry((operation.act.name(), key)).or_default().push(operation);
        }
    }
    let leases = by_lease(run);
    let mut findings = Vec::new();
    let mut repeats = 0;
    for ((_, key), operations) in &asked {
        let done: Vec<&Operation> = operations.iter().copied().filter(|it| it.is_done()).collect();
        let Some(first) = done.iter().min_by_key(|it| it.return_ns).copied() else { continue };
        repeats += operations.len() - 1;
        for other in &done {
            let changed = changed_since(&leases, first, other);
            if let Some(what) = differs(&first.outcome, &other.outcome, changed) {
                findings.push(finding(key, &what, first, other));
            }
        }
        let lost = operations.iter().filter(|it| first.precedes(it) && forgets(it));
        findings.extend(lost.map(|it| {
            let code = it.refused().unwrap_or_default();
            finding(key, &format!("it was done, and then refused with {code}"), first, it)
        }));
    }
    Check::of(NAME, format!("{} keys, {repeats} repeats of an act", asked.len()), findings)
}

fn finding(key: &str, what: &str, first: &Operation, other: &Operation) -> Finding {
    Finding {
        what: format!("key {key}: {what}"),
        events: [first.events(), other.events()].concat(),
    }
}

/// What two answers under one key have different.
fn differs(first: &Outcome, other: &Outcome, changed: bool) -> Option<String> {
    let (Outcome::Done(first), Outcome::Done(other)) = (first, other) else { return None };
    match (first, other) {
        (
            Answer::Granted { lease, fence, class, body_hash, .. },
            Answer::Granted {
                lease: lease2,
                fence: fence2,
                class: class2,
                body_hash: body_hash2,
                ..
            },
        ) => {
            if lease != lease2 {
                Some(format!("it made lease {lease} and lease {lease2}"))
            } else if (fence, class) != (fence2, class2) {
                Some(format!("lease {lease} has fences {fence} {class} and {fence2} {class2}"))
            } else if body_hash != body_hash2 && !changed {
                Some(format!("the answers about lease {lease} differ"))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Whether the lease of two grants may have got another renewal token by the end of either.
fn changed_since(
    leases: &BTreeMap<&str, Vec<&Operation>>,
    first: &Operation,
    other: &Operation,
) -> bool {
    let Outcome::Done(Answer::Granted { lease, .. }) = &first.outcome else { return false };
    let end_ns = first.left_ns.max(other.left_ns);
    leases.get(lease.as_str()).into_iter().flatten().any(|it| {
        it.may_have_happened()
            && it.invoke_ns <= end_ns
            && matches!(
                it.act,
                Act::Heartbeat { .. } | Act::Borrow { .. } | Act::ReturnBorrow { .. }
            )
    })
}

/// Whether a refusal says that nobody remembers the act. That a checkout's lease has ended, or that
/// the cluster takes nothing now, does not.
fn forgets(operation: &Operation) -> bool {
    let Some(code) = operation.refused() else { return false };
    match operation.act {
        Act::Checkout { .. } => {
            matches!(code, "max_overage_exceeded" | "pool_exhausted" | "idempotency_key_reused")
        }
        Act::Return { .. } => matches!(code, "already_ended" | "unknown_lease"),
        Act::Transfer { .. } => code == "not_enough_free",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    fn check(want: usize, text: &str) {
        let found = retries(&sample::run(text), &Options::default());
        assert_eq!(found.findings.len(), want, "{text}\n{found:?}");
    }

    #[test]
    fn a_key_gets_one_answer() {
        check(0, "0..5 take k1 -> L1\n 3..9 take k1 -> L1");
        check(1, "0..5 take k1 -> L1\n 3..9 take k1 -> L2");
        check(1, "0..5 take k1 -> L1\n 3..9 take k1 -> L1 fence=2");
        check(1, "0..5 take k1 -> L1\n 3..9 take k1 -> L1 overage");
        check(1, "0..5 take k1 -> L1\n 3..9 take k1 -> L1 hash=other");
        check(0, "0..5 take k1 -> L1\n 6..7 keep L1 1 -> 2\n 8..9 take k1 -> L1 seq=2 hash=other");
        check(1, "0..5 take k1 -> L1\n 8..9 take k1 -> L1 hash=other\n 16..17 keep L1 1 -> 2");
        // Unknown, refused before, and another key.
        check(0, "0..? take k1\n 3..9 take k1 -> L2");
        check(0, "0..5 take k1 -> full\n 6..9 take k1 -> L1");
        check(0, "0..5 take k1 -> L1\n 6..9 take k2 -> L2");
    }

    #[test]
    fn what_was_done_is_not_forgotten() {
        check(1, "0..5 take k1 -> L1\n 6..9 take k1 -> full");
        check(0, "0..5 take k1 -> L1\n 5..9 take k1 -> full");
        check(0, "0..5 take k1 -> L1\n 6..9 take k1 -> ended");
        check(0, "0..5 take k1 -> L1\n 6..9 take k1 -> no_space");
        check(0, "0..5 give L1 -> ok\n 6..9 give L1 -> ok");
        check(1, "0..5 give L1 -> ok\n 6..9 give L1 -> already");
        check(0, "0..5 give L1 -> ok\n 6..9 give L1 key=other -> already");
        check(1, "0..5 move a b 1 -> ok\n 6..9 move a b 1 -> few");
    }
}
