//! Leases and time: none ends early, none lives on for ever, none is given time by accident.
//!
//! The lease clock never runs ahead of real time by more than its rate error, so what a holder was
//! told holds in real time. It stands still while no leader is in touch with a majority, so only
//! calm time counts against a lease that lives too long ([`crate::windows::Calm`]).

use std::collections::BTreeMap;

use super::oversold::{by_lease, promise_ns};
use crate::check::{NS_PER_MS, Options, Run};
use crate::history::{Act, Answer, PackageTerms};
use crate::operation::{Operation, Outcome};
use crate::verdict::{Check, Finding};

/// No lease ends before its holder was told.
pub(super) fn early(run: &Run, _: &Options) -> Check {
    let mut findings = Vec::new();
    let mut ends = 0;
    let lists = lists(run);
    for (lease, operations) in by_lease(run) {
        let Some(terms) = terms_of(run, &operations) else { continue };
        let given_up = operations
            .iter()
            .any(|it| matches!(it.act, Act::ReturnBorrow { .. }) && it.may_have_happened());
        let promises = operations
            .iter()
            .filter_map(|it| promise_ns(run, terms, it, given_up).map(|ns| (ns, *it)));
        let Some((until_ns, told)) = promises.max_by_key(|(ns, _)| *ns) else { continue };
        let returns = operations
            .iter()
            .filter(|it| matches!(it.act, Act::Return { .. }) && it.may_have_happened());
        let given_back_ns = returns.map(|it| it.invoke_ns).min().unwrap_or(u64::MAX);
        let granted_ns = operations.iter().filter_map(|it| granted_ns(it)).min();
        let absent = lists.get(terms.name.as_str()).into_iter().flatten().copied().filter(|list| {
            granted_ns.is_some_and(|granted| granted < list.invoke_ns) && lacks(list, lease)
        });
        let ended = operations.iter().copied().filter(|it| says_ended(it)).chain(absent);
        for seen in ended.filter(|seen| seen.left_ns < given_back_ns) {
            ends += 1;
            if seen.left_ns < until_ns {
                findings.push(Finding {
                    what: format!(
                        "lease {lease} had ended at {:.3} s, and its holder was told that it lives \
                         until {:.3} s",
                        seen.left_ns as f64 / 1e9,
                        until_ns as f64 / 1e9
                    ),
                    events: [told.events(), seen.events()].concat(),
                });
                break;
            }
        }
    }
    Check::of("early-expiry", format!("{ends} times somebody saw that a lease had ended"), findings)
}

/// A lease that nobody renews ends in time.
pub(super) fn late(run: &Run, _: &Options) -> Check {
    let (calm, lists) = (run.calm(), lists(run));
    let mut findings = Vec::new();
    let mut looks = 0;
    for (lease, operations) in by_lease(run) {
        let Some(terms) = terms_of(run, &operations) else { continue };
        if operations.iter().any(|it| is_open(it)) {
            continue;
        }
        let Some((extended_ns, ttl_ms)) = last_extension(run, &operations) else { continue };
        let allowed_ns = run.at_most_ns(ttl_ms) + run.failover_ns() + SWEEP_MS * NS_PER_MS;
        let lists = lists.get(terms.name.as_str()).into_iter().flatten();
        let looked = operations.iter().chain(lists);
        let looked = looked.filter(|it| it.invoke_ns > extended_ns && lives(it, lease));
        for seen in looked {
            looks += 1;
            let waited_ns = calm.between_ns(extended_ns, seen.invoke_ns);
            if waited_ns > allowed_ns {
                findings.push(Finding {
                    what: format!(
                        "lease {lease} lived {:.3} s of calm after its last extension, for {:.3} s",
                        waited_ns as f64 / 1e9,
                        ttl_ms as f64 / 1e3
                    ),
                    events: seen.events(),
                });
                break;
            }
        }
    }
    Check::of(
        "late-expiry",
        format!("{looks} looks at leases that nobody extended any more"),
        findings,
    )
}

/// Nothing but a renewal gives a lease more time.
pub(super) fn reset(run: &Run, _: &Options) -> Check {
    let mut findings = Vec::new();
    let mut pairs = 0;
    for (lease, operations) in by_lease(run) {
        let Some(terms) = terms_of(run, &operations) else { continue };
        let extending: Vec<&Operation> =
            operations.iter().copied().filter(|it| extends(it)).collect();
        let mut before: Option<(&Operation, u64)> = None;
        for operation in &operations {
            let Some(left_ms) = remaining_ms(operation) else { continue };
            let longest_ms = longest_ms(run, terms, &operations);
            if longest_ms.is_some_and(|longest| left_ms > longest) {
                findings.push(Finding {
                    what: format!(
                        "lease {lease} was said to last {left_ms} ms, longer than any may"
                    ),
                    events: operation.events(),
                });
            }
            if let Some((earlier, was_ms)) = before
                && earlier.precedes(operation)
                && !extending.iter().any(|it| may_fall_between(it, earlier, operation))
            {
                pairs += 1;
                if left_ms > was_ms + GIVEN_BACK_MS {
                    findings.push(Finding {
                        what: format!(
                            "lease {lease} had {was_ms} ms left, and later {left_ms} ms, without \
                             having been extended"
                        ),
                        events: [earlier.events(), operation.events()].concat(),
                    });
                }
            }
            before = Some((operation, left_ms));
        }
    }
    Check::of("reset", format!("{pairs} pairs of looks with nothing between them"), findings)
}

/// Reads that name all live leases of a package, by package.
fn lists(run: &Run) -> BTreeMap<&str, Vec<&Operation>> {
    let mut lists: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &run.operations {
        if let Act::ReadPackage { package, stale: false } = &operation.act
            && matches!(&operation.outcome, Outcome::Done(Answer::Package { leases: Some(_), .. }))
        {
            lists.entry(package).or_default().push(operation);
        }
    }
    lists
}

fn terms_of<'a>(run: &'a Run, operations: &[&Operation]) -> Option<&'a PackageTerms> {
    operations.first().and_then(|it| it.act.package()).and_then(|package| run.terms(package))
}

fn granted_ns(operation: &Operation) -> Option<u64> {
    matches!(operation.outcome, Outcome::Done(Answer::Granted { .. }))
        .then_some(operation.return_ns)
        .flatten()
}

/// Whether somebody was told that the lease he named has ended.
fn says_ended(operation: &Operation) -> bool {
    match (&operation.act, &operation.outcome) {
        (Act::Heartbeat { .. } | Act::Borrow { .. }, Outcome::Refused { code }) => {
            code == "lease_ended"
        }
        (Act::Return { .. }, Outcome::Refused { code }) => code == "already_ended",
        (Act::ReadLease { stale: false, .. }, Outcome::Done(Answer::Lease { live, .. })) => !live,
        _ => false,
    }
}

/// Whether a list of live leases lacks one.
fn lacks(operation: &Operation, lease: &str) -> bool {
    match &operation.outcome {
        Outcome::Done(Answer::Package { leases: Some(leases), .. }) => {
            !leases.iter().any(|it| it == lease)
        }
        _ => false,
    }
}

/// Whether an answer proves that a lease lives.
fn lives(operation: &Operation, lease: &str) -> bool {
    match (&operation.act, &operation.outcome) {
        (Act::ReadLease { lease: of, stale: false, .. }, Outcome::Done(answer)) => {
            of == lease && matches!(answer, Answer::Lease { live: true, .. })
        }
        (
            Act::ReadPackage { stale: false, .. },
            Outcome::Done(Answer::Package { leases: Some(leases), .. }),
        ) => leases.iter().any(|it| it == lease),
        _ => false,
    }
}

/// Whether an operation leaves open until when the lease lives: it may happen at any time, or the
/// end is on the civil clock.
fn is_open(operation: &Operation) -> bool {
    match (&operation.act, &operation.outcome) {
        (Act::Borrow { .. } | Act::ReturnBorrow { .. }, _) => operation.may_have_happened(),
        (Act::Heartbeat { .. }, Outcome::Unknown) => true,
        (_, Outcome::Done(Answer::Renewed { offline_until_ms, .. })) => offline_until_ms.is_some(),
        _ => false,
    }
}

/// When a lease was extended last, at the latest, and for how long.
fn last_extension(run: &Run, operations: &[&Operation]) -> Option<(u64, u64)> {
    let extended = operations.iter().filter(|it| it.is_done()).filter_map(|it| {
        let ttl_ms = match &it.act {
            Act::Checkout { package, ttl_ms, .. } => run.ttl_ms(package, *ttl_ms),
            Act::Heartbeat { package, .. } => run.ttl_ms(package, None),
            _ => return None,
        };
        Some((it.return_ns?, ttl_ms))
    });
    extended.max()
}

/// Whether an operation may give a lease more time.
fn extends(operation: &Operation) -> bool {
    matches!(operation.act, Act::Heartbeat { .. } | Act::Borrow { .. } | Act::ReturnBorrow { .. })
        && operation.may_have_happened()
}

/// Whether an operation may have happened after one read and before another.
fn may_fall_between(operation: &Operation, earlier: &Operation, later: &Operation) -> bool {
    let began_in_time = operation.invoke_ns <= later.left_ns;
    began_in_time && operation.return_ns.is_none_or(|returned| returned >= earlier.invoke_ns)
}

/// How much time an answer says is left, where it tells of a state and extends nothing.
fn remaining_ms(operation: &Operation) -> Option<u64> {
    match (&operation.act, &operation.outcome) {
        (
            Act::ReadLease { stale: false, .. },
            Outcome::Done(Answer::Lease { expires_in_ms, .. }),
        ) => *expires_in_ms,
        (Act::Checkout { .. }, Outcome::Done(Answer::Granted { expires_in_ms, .. })) => {
            Some(*expires_in_ms)
        }
        _ => None,
    }
}

/// The longest that a lease may have left; `None` where it may be borrowed or held offline.
fn longest_ms(run: &Run, terms: &PackageTerms, operations: &[&Operation]) -> Option<u64> {
    let is_borrowed = operations.iter().any(|it| {
        matches!(it.act, Act::Borrow { .. } | Act::ReturnBorrow { .. }) || {
            matches!(it.outcome, Outcome::Done(Answer::Renewed { offline_until_ms: Some(_), .. }))
        }
    });
    let asked = operations.iter().filter_map(|it| match &it.act {
        Act::Checkout { ttl_ms, .. } => Some(run.ttl_ms(&terms.name, *ttl_ms)),
        _ => None,
    });
    (!is_borrowed).then(|| asked.chain([terms.ttl_ms]).max().unwrap_or(terms.ttl_ms))
}

/// How long the cluster may take to sweep what is due: two ticks, and the round of a read.
const SWEEP_MS: u64 = 1_000;
/// How much of the lease clock a failover may give back: an entry a second keeps it, and it waits
/// for its turn.
const GIVEN_BACK_MS: u64 = 1_100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    type Checker = fn(&Run, &Options) -> Check;

    fn check(checker: Checker, want: usize, text: &str) {
        let found = checker(&sample::run(text), &Options::default());
        assert_eq!(found.findings.len(), want, "{text}\n{found:?}");
    }

    #[test]
    fn no_lease_ends_before_its_holder_was_told() {
        let check = |want, text: &str| check(early, want, &format!("0..5 take k1 -> L1\n{text}"));
        check(1, "980..988 keep L1 1 -> ended");
        check(0, "980..988.1 keep L1 1 -> ended");
        check(1, "980..988 look L1 -> dead");
        check(1, "980..988 give L1 -> already");
        check(1, "980..988 read -> 0 live=");
        check(0, "3..988 read -> 0 live=");
        check(0, "980..988 read -> 1 live=L1");
        // A renewal counts from when it was asked; one whose answer was lost does not count.
        check(1, "500..510 keep L1 1 -> 2\n 1480..1488 keep L1 2 -> ended");
        check(0, "500..510 keep L1 1 -> ?\n 1480..1488 keep L1 1 -> ended");
        // Given back, or perhaps given back.
        check(0, "10..15 give L1 -> ok\n 20..25 keep L1 1 -> ended");
        check(0, "10..? give L1\n 20..25 keep L1 1 -> ended");
        check(1, "30..35 give L1 -> ok\n 20..25 keep L1 1 -> ended");
        // Ended, and renewed after that: it cannot come back.
        check(1, "990..995 look L1 -> dead\n 996..999 keep L1 1 -> 2");
    }

    #[test]
    fn a_lease_that_nobody_renews_ends_in_calm_time() {
        // 1,002 ms at 99 % of the rate, a failover bound of 500 ms, a second to sweep: 2,512 ms.
        let check = |want, text: &str| check(late, want, &format!("0..5 take k1 -> L1\n{text}"));
        check(0, "2500..2510 look L1 -> live");
        check(1, "2530..2540 look L1 -> live");
        check(1, "2530..2540 read -> 1 live=L1");
        check(0, "2530..2540 read -> 1 live=L2");
        check(0, "1000..1005 keep L1 1 -> 2\n 2530..2540 look L1 -> live");
        check(0, "1000..? keep L1 1\n 2530..2540 look L1 -> live");
        check(0, "10..20 borrow L1 9000 -> ok\n 2530..2540 look L1 -> live");
        // The time of a fault, and the failover bound after it, do not count.
        check(0, "100..200 fault kill\n 3000..3010 look L1 -> live");
        check(1, "100..200 fault kill\n 3130..3140 look L1 -> live");
        check(0, "100..? fault kill\n 9000..9010 look L1 -> live");
    }

    #[test]
    fn nothing_but_a_renewal_gives_a_lease_more_time() {
        let check = |want, text: &str| {
            let mut header = sample::header();
            header.packages[0].ttl_ms = 9000;
            let text = format!("0..5 take k1 -> L1 in=9000\n{text}");
            let run = sample::with(header, &text, crate::evidence::Evidence::default());
            let found = reset(&run, &Options::default());
            assert_eq!(found.findings.len(), want, "{text}\n{found:?}");
        };
        check(0, "100..110 look L1 -> live in=5000\n 200..210 look L1 -> live in=6100");
        check(1, "100..110 look L1 -> live in=5000\n 200..210 look L1 -> live in=6101");
        check(1, "100..110 look L1 -> live in=5000\n 200..210 take k1 -> L1 in=9000");
        check(0, "100..110 look L1 -> live in=5000\n 110..210 look L1 -> live in=9000");
        check(
            0,
            "100..110 look L1 -> live in=5000\n 150..160 keep L1 1 -> 2
             200..210 look L1 -> live in=9000",
        );
        check(
            0,
            "50..? keep L1 1\n 100..110 look L1 -> live in=5000\n 200..210 look L1 -> live in=9000",
        );
        check(
            1,
            "50..60 keep L1 1 -> 2\n 100..110 look L1 -> live in=5000
             200..210 look L1 -> live in=9000",
        );
        check(1, "100..110 look L1 -> live in=9001");
        check(0, "50..60 borrow L1 99000 -> ok\n 100..110 look L1 -> live in=98000");
    }
}
