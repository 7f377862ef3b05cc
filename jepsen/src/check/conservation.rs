//! Seats in use are those granted and not ended: in the package and in each of its pools.
//!
//! The audit log is added up and compared with what the cluster says when all is calm. Both come
//! from the cluster, and by different ways: the log event by event, the answer from tables.

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::{Audit, Happened};
use crate::check::{Options, Run};
use crate::evidence::FinalPackage;
use crate::history::PackageTerms;
use crate::verdict::{Check, Finding};

const NAME: &str = "conservation";

/// What a log leaves of a package.
#[derive(Debug, Default)]
struct Left<'a> {
    /// Seats and pool of each live lease.
    live: BTreeMap<&'a str, (u32, &'a str)>,
    /// Share of each pool, as it changed.
    shares: BTreeMap<&'a str, i64>,
    granted: u64,
    ended: u64,
    most: u32,
}

/// Seats in use are those granted and not ended.
pub(super) fn conservation(run: &Run, _: &Options) -> Check {
    let (Some(audit), Some(finals)) = (run.evidence.audit(), &run.evidence.finals) else {
        return Check::unknown(NAME, "no audit log, or no reads at the end", Vec::new());
    };
    let mut findings = Vec::new();
    let mut counted = (0, 0);
    for terms in &run.header().packages {
        let left = add_up(audit, terms);
        counted = (counted.0 + left.granted, counted.1 + left.ended);
        if left.most > terms.total() {
            let what = format!("{}: the log has {} seats out at once", terms.name, left.most);
            findings.push(Finding { what, events: Vec::new() });
        }
        let Some(told) = finals.iter().find(|told| told.package == terms.name) else {
            findings.push(Finding {
                what: format!("{}: not read at the end", terms.name),
                events: Vec::new(),
            });
            continue;
        };
        let wrong = compare(terms, &left, told);
        findings.extend(
            wrong.into_iter().map(|what| Finding {
                what: format!("{}: {what}", terms.name),
                events: Vec::new(),
            }),
        );
    }
    let summary = format!("{} grants and {} ends in the log", counted.0, counted.1);
    Check::of(NAME, summary, findings)
}

fn add_up<'a>(audit: &'a Audit, terms: &'a PackageTerms) -> Left<'a> {
    let mut left = Left::default();
    for (pool, share) in &terms.pools {
        left.shares.insert(pool, i64::from(*share));
    }
    for record in audit.records.iter().filter(|record| record.package == terms.name) {
        match &record.what {
            Happened::Granted { seats, pool, .. } => {
                left.granted += 1;
                left.live.insert(&record.lease, (*seats, pool.as_deref().unwrap_or_default()));
                left.most = left.most.max(left.live.values().map(|(seats, _)| seats).sum());
            }
            Happened::Transferred { from, to, seats } => {
                for (pool, change) in [(from, -i64::from(*seats)), (to, i64::from(*seats))] {
                    if let Some(pool) = pool {
                        *left.shares.entry(pool).or_default() += change;
                    }
                }
            }
            what if what.ends() => {
                left.ended += 1;
                left.live.remove(record.lease.as_str());
            }
            _ => {}
        }
    }
    left
}

fn compare(terms: &PackageTerms, left: &Left<'_>, told: &FinalPackage) -> Vec<String> {
    let mut wrong = Vec::new();
    let seats: u32 = left.live.values().map(|(seats, _)| seats).sum();
    if told.in_use != seats {
        wrong.push(format!("{} seats in use, and the log leaves {seats}", told.in_use));
    }
    if told.total != terms.total() {
        wrong.push(format!("{} seats in all, and {} were bought", told.total, terms.total()));
    }
    let named: BTreeSet<&str> = told.leases.iter().map(String::as_str).collect();
    let live: BTreeSet<&str> = left.live.keys().copied().collect();
    let only = |one: &BTreeSet<&str>, other: &BTreeSet<&str>| {
        one.difference(other).take(5).copied().collect::<Vec<_>>().join(", ")
    };
    if named != live {
        wrong.push(format!(
            "live leases differ: [{}] only in the answer, [{}] only in the log",
            only(&named, &live),
            only(&live, &named)
        ));
    }
    // The seats that are in no pool have no name, and are not compared: they are what is left.
    let pools = told.pools.iter().filter(|(pool, ..)| !pool.is_empty());
    let mut told_shares: BTreeMap<&str, (i64, u32)> = BTreeMap::new();
    for (pool, share, in_use) in pools {
        told_shares.insert(pool, (i64::from(*share), *in_use));
    }
    let all: BTreeSet<&str> = left.shares.keys().chain(told_shares.keys()).copied().collect();
    for pool in all {
        let of_pool = left.live.values().filter(|(_, of)| *of == pool);
        let expected = (
            left.shares.get(pool).copied().unwrap_or(0),
            of_pool.map(|(seats, _)| seats).sum::<u32>(),
        );
        let found = told_shares.get(pool).copied().unwrap_or_default();
        if found != expected {
            wrong.push(format!(
                "pool {pool} has {} seats, {} in use; the log leaves {} and {}",
                found.0, found.1, expected.0, expected.1
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Record;
    use crate::check::sample;
    use crate::evidence::Evidence;

    fn record(seq: u64, lease: &str, what: Happened) -> Record {
        let (package, lease) = ("P".to_owned(), lease.to_owned());
        Record { seq, what, package, lease, user: None }
    }

    fn granted(lease: &str, seats: u32, pool: Option<&str>) -> Record {
        let pool = pool.map(str::to_owned);
        let (fence, class) = (lease.to_owned(), "commit".to_owned());
        record(0, lease, Happened::Granted { fence, class, seats, pool })
    }

    /// Six seats, two of them in pool `a`.
    fn check(want: usize, records: Vec<Record>, told: FinalPackage) {
        let mut header = sample::header();
        header.packages[0].commit = 5;
        header.packages[0].pools = vec![("a".to_owned(), 2)];
        let audit = Audit { records, ..Audit::default() };
        let evidence = Evidence {
            audits: BTreeMap::from([(1, audit)]),
            finals: Some(vec![told.clone()]),
            ..Evidence::default()
        };
        let run = sample::with(header, "", evidence);
        let found = conservation(&run, &Options::default());
        assert_eq!(found.findings.len(), want, "{told:?}\n{found:?}");
    }

    fn told(in_use: u32, leases: &[&str], pools: &[(&str, u32, u32)]) -> FinalPackage {
        FinalPackage {
            package: "P".to_owned(),
            in_use,
            total: 6,
            leases: leases.iter().map(|lease| (*lease).to_owned()).collect(),
            pools: pools.iter().map(|(name, one, two)| ((*name).to_owned(), *one, *two)).collect(),
        }
    }

    #[test]
    fn what_was_granted_and_has_not_ended_is_in_use() {
        let log = || {
            vec![
                granted("L1", 1, None),
                granted("L2", 2, Some("a")),
                granted("L3", 1, None),
                record(4, "L1", Happened::Returned),
                record(5, "L3", Happened::Expired),
            ]
        };
        check(0, log(), told(2, &["L2"], &[("a", 2, 2), ("", 4, 0)]));
        check(1, log(), told(3, &["L2"], &[("a", 2, 2)]));
        check(1, log(), told(2, &["L2", "L3"], &[("a", 2, 2)]));
        check(1, log(), told(2, &[], &[("a", 2, 2)]));
        check(1, log(), told(2, &["L2"], &[("a", 2, 1)]));
        check(1, log(), FinalPackage { total: 7, ..told(2, &["L2"], &[("a", 2, 2)]) });
        check(1, vec![granted("L1", 7, None)], told(7, &["L1"], &[("a", 2, 0)]));
    }

    #[test]
    fn seats_move_between_pools_and_are_not_lost() {
        let moved = |from: Option<&str>, to: Option<&str>, seats| {
            let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
            record(1, "", Happened::Transferred { from, to, seats })
        };
        let log = || vec![moved(Some("a"), Some("b"), 1), moved(None, Some("b"), 2)];
        check(0, log(), told(0, &[], &[("a", 1, 0), ("b", 3, 0)]));
        check(1, log(), told(0, &[], &[("a", 2, 0), ("b", 3, 0)]));
        check(1, log(), told(0, &[], &[("a", 1, 0), ("b", 2, 0)]));
        check(0, vec![moved(Some("a"), None, 2)], told(0, &[], &[]));
    }
}
