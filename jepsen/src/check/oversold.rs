//! Seats that are certainly held never exceed what was bought.
//!
//! A lease is certainly held from the moment its grant was answered until the moment its holder was
//! told it would end at the earliest, or somebody began to give it back. Leases do not come back,
//! so a renewal that was answered proves that the lease lived all the time before. No search, no
//! model: two such spans too many, and the cluster has oversold.

use std::collections::BTreeMap;

use crate::check::{Options, Run};
use crate::history::{Act, Answer, PackageTerms};
use crate::operation::{Operation, Outcome};
use crate::verdict::{Check, Finding};

const NAME: &str = "oversold";

/// A span in which a lease is certainly held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold<'a> {
    pub(super) lease: &'a str,
    pub(super) seats: u32,
    class: &'a str,
    pool: Option<&'a str>,
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// The events of its grant.
    events: Vec<u64>,
}

/// Seats that are certainly held never exceed what was bought.
pub(super) fn oversold(run: &Run, _: &Options) -> Check {
    let mut findings = Vec::new();
    let mut count = 0;
    for terms in &run.header().packages {
        let holds = holds(run, terms);
        count += holds.len();
        let bounds = [
            ("seats", terms.total(), None),
            ("commit seats", terms.commit, Some("commit")),
            ("overage seats", terms.overage, Some("overage")),
        ];
        for (what, bound, class) in bounds {
            let of_class = |hold: &&Hold<'_>| class.is_none_or(|class| hold.class == class);
            let held: Vec<&Hold<'_>> = holds.iter().filter(of_class).collect();
            findings.extend(exceeds(&terms.name, what, bound, &held));
        }
        if moves_seats(run, &terms.name) {
            continue;
        }
        for (pool, share) in &terms.pools {
            let held = holds.iter().filter(|hold| hold.pool == Some(pool));
            let what = format!("seats of pool {pool}");
            findings.extend(exceeds(&terms.name, &what, *share, &held.collect::<Vec<_>>()));
        }
    }
    Check::of(NAME, format!("{count} spans in which leases were certainly held"), findings)
}

/// The first moment at which more is held than there is.
fn exceeds(package: &str, what: &str, bound: u32, holds: &[&Hold<'_>]) -> Option<Finding> {
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(holds.len() * 2);
    for (place, hold) in holds.iter().enumerate() {
        moments.push((hold.from_ns, true, place));
        moments.push((hold.to_ns, false, place));
    }
    // What ends at a moment ends before something begins at it.
    moments.sort_unstable();
    let mut held: BTreeMap<usize, u32> = BTreeMap::new();
    let mut seats = 0;
    for (at_ns, begins, place) in moments {
        if begins {
            seats += holds[place].seats;
            held.insert(place, holds[place].seats);
        } else {
            seats -= held.remove(&place).unwrap_or(0);
        }
        if seats > bound {
            let names: Vec<&str> = held.keys().map(|place| holds[*place].lease).collect();
            let seconds = at_ns as f64 / 1e9;
            return Some(Finding {
                what: format!(
                    "{package}: {seats} {what} held at {seconds:.3} s, of {bound}: {}",
                    names.join(", ")
                ),
                events: held.keys().flat_map(|place| holds[*place].events.clone()).collect(),
            });
        }
    }
    None
}

fn moves_seats(run: &Run, package: &str) -> bool {
    let mut of_package = run.operations.iter().filter(|it| it.act.package() == Some(package));
    of_package.any(|it| matches!(it.act, Act::Transfer { .. }))
}

/// The spans in which leases of a package are certainly held.
pub(super) fn holds<'a>(run: &'a Run, terms: &PackageTerms) -> Vec<Hold<'a>> {
    let mut holds: BTreeMap<&str, Hold<'_>> = BTreeMap::new();
    let of_package = |operation: &&&Operation| operation.act.package() == Some(&terms.name);
    let by_lease = by_lease(run);
    for (lease, operations) in &by_lease {
        for operation in operations.iter().filter(of_package) {
            if let (
                Act::Checkout { seats, pool, .. },
                Outcome::Done(Answer::Granted { class, .. }),
                Some(from_ns),
            ) = (&operation.act, &operation.outcome, operation.return_ns)
            {
                let hold = holds.entry(lease).or_insert(Hold {
                    lease,
                    seats: *seats,
                    class,
                    pool: pool.as_deref(),
                    from_ns,
                    to_ns: certain_end_ns(run, terms, operations),
                    events: operation.events(),
                });
                hold.from_ns = hold.from_ns.min(from_ns);
            }
        }
    }
    holds.into_values().filter(|hold| hold.from_ns < hold.to_ns).collect()
}

/// Operations by the lease that they are about; grants by the lease that they were answered.
pub(super) fn by_lease(run: &Run) -> BTreeMap<&str, Vec<&Operation>> {
    let mut found: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &run.operations {
        let granted = match &operation.outcome {
            Outcome::Done(Answer::Granted { lease, .. }) => Some(lease.as_str()),
            _ => None,
        };
        if let Some(lease) = granted.or_else(|| operation.act.lease()) {
            found.entry(lease).or_default().push(operation);
        }
    }
    found
}

/// Until when a lease certainly lives, by what its holders were told and what they did.
pub(super) fn certain_end_ns(run: &Run, terms: &PackageTerms, operations: &[&Operation]) -> u64 {
    let began = |want: fn(&Act) -> bool| {
        let of_kind = operations.iter().filter(|it| want(&it.act) && it.may_have_happened());
        of_kind.map(|it| it.invoke_ns).min()
    };
    let given_up = began(|act| matches!(act, Act::ReturnBorrow { .. })).is_some();
    let promised = operations.iter().filter_map(|it| promise_ns(run, terms, it, given_up)).max();
    let returned = began(|act| matches!(act, Act::Return { .. })).unwrap_or(u64::MAX);
    promised.unwrap_or(0).min(returned)
}

/// Until when an answer says that its lease lives at least. Where a borrow is given up, no answer
/// is taken to say more than one without it.
pub(super) fn promise_ns(
    run: &Run,
    terms: &PackageTerms,
    operation: &Operation,
    given_up: bool,
) -> Option<u64> {
    let Outcome::Done(answer) = &operation.outcome else { return None };
    let told_ms = match answer {
        Answer::Granted { expires_in_ms, .. } | Answer::Renewed { expires_in_ms, .. } => {
            *expires_in_ms
        }
        Answer::Borrowed { until_in_ms, .. } => *until_in_ms,
        _ => return None,
    };
    let told_ms = if given_up { told_ms.min(terms.ttl_ms) } else { told_ms };
    Some(operation.invoke_ns + run.at_least_ns(told_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    fn check(want: bool, commit: u32, overage: u32, text: &str) {
        let found = oversold(&sample::seats(commit, overage, text), &Options::default());
        assert_eq!(found.findings.is_empty(), want, "{text}\n{found:?}");
    }

    #[test]
    fn seats_are_counted_while_they_are_certainly_held() {
        // A lease of 1,000 ms lives (1,000 - 2) * 0.99 = 988.02 ms at least.
        check(true, 1, 0, "0..5 take k1 -> L1\n 988.1..990 take k2 -> L2");
        check(false, 1, 0, "0..5 take k1 -> L1\n 980..988 take k2 -> L2");
        check(true, 1, 0, "0..5 take k1 -> L1\n 980..988.03 take k2 -> L2");
        // Two seats are one too many, a third in the other class is not.
        check(true, 1, 1, "0..5 take k1 -> L1\n 6..9 take k2 -> L2 overage");
        check(false, 1, 1, "0..5 take k1 -> L1\n 6..9 take k2 -> L2");
        check(false, 2, 0, "0..5 take k1 -> L1\n 6..9 take k2 seats=2 -> L2");
        check(true, 3, 0, "0..5 take k1 -> L1\n 6..9 take k2 seats=2 -> L2");
        // A renewal lengthens the span, also where the answer to another was lost.
        check(
            false,
            1,
            0,
            "0..5 take k1 -> L1\n 500..505 keep L1 1 -> 2\n 1400..1410 take k2 -> L2",
        );
        check(
            true,
            1,
            0,
            "0..5 take k1 -> L1\n 500..505 keep L1 1 -> 2\n 1490..1495 take k2 -> L2",
        );
        check(
            true,
            1,
            0,
            "0..5 take k1 -> L1\n 500..505 keep L1 1 -> ?\n 1400..1410 take k2 -> L2",
        );
    }

    #[test]
    fn a_lease_is_no_longer_certain_once_its_return_began() {
        check(true, 1, 0, "0..5 take k1 -> L1\n 10..20 give L1 -> ok\n 11..12 take k2 -> L2");
        check(true, 1, 0, "0..5 take k1 -> L1\n 10..? give L1\n 11..12 take k2 -> L2");
        check(false, 1, 0, "0..5 take k1 -> L1\n 10..20 give L1 -> fail\n 11..12 take k2 -> L2");
        check(false, 1, 0, "0..5 take k1 -> L1\n 10..20 give L1 -> ok\n 6..7 take k2 -> L2");
    }

    #[test]
    fn a_borrowed_seat_is_held_until_the_borrow_ends_or_is_given_up() {
        let borrow = "0..5 take k1 -> L1\n 10..15 borrow L1 5000 -> ok\n";
        check(false, 1, 0, &format!("{borrow} 4000..4010 take k2 -> L2"));
        check(true, 1, 0, &format!("{borrow} 5000..5010 take k2 -> L2"));
        check(true, 1, 0, &format!("{borrow} 20..25 unborrow L1 -> ok\n 4000..4010 take k2 -> L2"));
        check(false, 1, 0, &format!("{borrow} 20..25 unborrow L1 -> ok\n 90..95 take k2 -> L2"));
    }

    #[test]
    fn a_pool_is_not_overdrawn_unless_its_share_moves() {
        let pools = |share: u32, text: &str| {
            let mut header = sample::header();
            header.packages[0].commit = 4;
            header.packages[0].pools = vec![("a".to_owned(), share)];
            let run = sample::with(header, text, crate::evidence::Evidence::default());
            oversold(&run, &Options::default()).findings.len()
        };
        let two = "0..5 take k1 pool=a -> L1\n 0..5 take k2 pool=a -> L2";
        assert_eq!([pools(1, two), pools(2, two)], [1, 0]);
        assert_eq!(pools(1, &format!("{two}\n 0..? move - a 1")), 0);
    }
}
