//! What the search has to order: the operations of one package as steps of the model.
//!
//! Names become places, answers become the model's, and everything that certainly changed nothing
//! and says nothing is left out: stale reads, and refusals that are no statement about leases (a
//! full disk, a removed application).
//!
//! What nobody knows is pruned by evidence. When the audit log was exported whole, an operation of
//! unknown outcome that the log does not show did not happen; one that it shows happened, and no
//! later than the next act in the log whose answer somebody had (the log's order is the order in
//! which acts happened; the checker `audit` holds it against real time by itself). The same goes
//! for expiries: a lease expired exactly if the log says so. Without a log, unknown operations may
//! have happened or not, at any time, and every lease may expire.

use std::collections::{BTreeMap, BTreeSet};

use super::steps;
use crate::audit::{Happened, Record};
use crate::check::Run;
use crate::history::{Act, Answer, PackageTerms};
use crate::model::{Asked, Lease, LeaseNo, Package, PoolNo, Step, Terms};
use crate::operation::{Operation, Outcome};

/// Operations of one package, ready to be ordered.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The package.
    pub package: String,
    /// Its state before the first operation.
    pub initial: Package,
    /// Its operations in the order of their beginnings.
    pub intervals: Vec<Interval>,
    /// What is known of the expiry of each lease.
    pub expiries: Vec<Expiry>,
    /// Names of the leases.
    pub leases: Vec<String>,
}

/// One operation: what it does, and when it may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Its place among the operations of the run.
    pub operation: usize,
    /// What it does, with its answer.
    pub step: Step,
    /// When it began; it happened no earlier.
    pub asked: Asked,
    /// It happened no later; `None`: perhaps after the run.
    pub end_ns: Option<u64>,
    /// Whether it certainly happened.
    pub required: bool,
    /// Whether nothing could tell that it was placed earlier than it was.
    pub eager: bool,
    /// Whether a configuration has to remember that it was placed; the state does it otherwise.
    pub is_remembered: bool,
    /// When it seems to have happened.
    pub hint_ns: u64,
}

/// What is known of the expiry of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Whether it may have expired.
    pub may: bool,
    /// Whether it certainly did.
    pub must: bool,
    /// It did no later than this.
    pub by_ns: Option<u64>,
    /// When it seems to have.
    pub hint_ns: u64,
}

impl Expiry {
    /// It may have expired or not.
    pub const OPEN: Self = Self { may: true, must: false, by_ns: None, hint_ns: u64::MAX };
    /// It did not.
    const NEVER: Self = Self { may: false, must: false, by_ns: None, hint_ns: u64::MAX };
}

impl Problem {
    /// The problem of one package of a run.
    pub fn of(run: &Run, terms: &PackageTerms) -> Self {
        let of_package = |operation: &&Operation| {
            operation.act.package() == Some(&terms.name) && !operation.act.is_stale_read()
        };
        let operations: Vec<(usize, &Operation)> =
            run.operations.iter().enumerate().filter(|(_, it)| of_package(it)).collect();
        let log: Option<Vec<&Record>> = run.evidence.audit().map(|audit| {
            audit.records.iter().filter(|record| record.package == terms.name).collect()
        });
        let names = Names::of(&operations, terms, log.as_deref());
        let mut intervals: Vec<Interval> = operations
            .iter()
            .filter_map(|(place, operation)| steps::interval(run, &names, *place, operation))
            .collect();
        mark_eager(&mut intervals);
        let mut expiries = vec![Expiry::OPEN; names.leases.len()];
        if let Some(log) = &log {
            prune(&mut intervals, &mut expiries, &names, log);
        }
        intervals.sort_by_key(|interval| interval.asked.invoke_ns);
        let initial = Package::new(
            Terms { commit: terms.commit, overage: terms.overage, rotation: terms.rotation },
            names.leases.len(),
            &names.shares,
            names.keys.len(),
        );
        let leases = names.lease_names();
        Self { package: terms.name.clone(), initial, intervals, expiries, leases }
    }

    /// What is known of the expiry of a lease.
    pub fn expiry(&self, lease: LeaseNo) -> Expiry {
        self.expiries[lease]
    }

    /// Whether every lease that certainly expired has.
    pub fn all_expired(&self, state: &Package) -> bool {
        let mut must = self.expiries.iter().enumerate().filter(|(_, expiry)| expiry.must);
        must.all(|(lease, _)| state.lease(lease) == Lease::Expired)
    }

    /// A state, for people.
    pub fn describe(&self, state: &Package) -> String {
        let live: Vec<String> = state
            .live()
            .iter()
            .filter_map(|lease| match state.lease(*lease) {
                Lease::Live(live) => Some(format!(
                    "{} ({:?}, {} seats, sequence {}, lives until {:.3} s at least)",
                    self.leases[*lease],
                    live.class,
                    live.seats,
                    live.sequence,
                    live.until_ns as f64 / 1e9
                )),
                _ => None,
            })
            .collect();
        let (in_use, total) = (state.in_use(None), state.total());
        format!("{in_use} of {total} seats in use: {}", live.join(", "))
    }
}

/// Places of everything that a history calls by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Leases by name.
    pub(super) leases: BTreeMap<String, LeaseNo>,
    /// The lease that each key of a checkout makes.
    pub(super) made: BTreeMap<String, LeaseNo>,
    /// Keys of checkouts, by how many operations used them.
    pub(super) attempts: BTreeMap<String, u32>,
    /// Keys of other acts.
    pub(super) keys: BTreeMap<String, usize>,
    /// Pools by name.
    pub(super) pools: BTreeMap<String, PoolNo>,
    /// Shares of pools 1 and up at the beginning.
    pub(super) shares: Vec<u32>,
    /// Fences in their order.
    pub(super) fences: BTreeMap<String, u32>,
    /// Leases of which nobody knows the name, nor whether they are.
    pub(super) nameless: BTreeSet<LeaseNo>,
}

impl Names {
    fn of(
        operations: &[(usize, &Operation)],
        terms: &PackageTerms,
        log: Option<&[&Record]>,
    ) -> Self {
        let mut names = Self::default();
        for (pool, share) in &terms.pools {
            names.pool(pool);
            names.shares.push(*share);
        }
        let mut holders: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (_, operation) in operations {
            match &operation.act {
                Act::Checkout { key, holder, pool, .. } => {
                    *names.attempts.entry(key.clone()).or_default() += 1;
                    holders.entry(holder).or_default().insert(key);
                    names.pool(pool.as_deref().unwrap_or_default());
                    names.take_grant(key, operation);
                }
                Act::Transfer { from, to, .. } => {
                    names.pool(from);
                    names.pool(to);
                }
                act => {
                    if let Some(lease) = act.lease() {
                        names.lease(lease);
                    }
                }
            }
            if let (Some(key), false) =
                (operation.act.key(), matches!(operation.act, Act::Checkout { .. }))
            {
                let next = names.keys.len();
                names.keys.entry(key_of(operation, key)).or_insert(next);
            }
        }
        let told = match log {
            Some(log) => names.take_log(operations, &holders, log),
            None => BTreeSet::new(),
        };
        names.name_the_rest(&told);
        names.shares.resize(names.pools.len(), 0);
        for (place, rank) in names.fences.values_mut().zip(1..) {
            *place = rank;
        }
        names
    }

    fn take_grant(&mut self, key: &str, operation: &Operation) {
        if let Some((lease, fence)) = granted(operation) {
            let lease = self.lease(lease);
            self.made.entry(key.to_owned()).or_insert(lease);
            self.fences.insert(fence.to_owned(), 0);
        }
    }

    /// The log names the lease of a key that nobody had an answer for, if its holder used no other.
    /// Gives the keys of which the log tells all: whether they made a lease, and which.
    fn take_log(
        &mut self,
        operations: &[(usize, &Operation)],
        holders: &BTreeMap<&str, BTreeSet<&str>>,
        log: &[&Record],
    ) -> BTreeSet<String> {
        let mut users: BTreeMap<&str, &str> = BTreeMap::new();
        for record in log {
            let Happened::Granted { fence, .. } = &record.what else { continue };
            // A name that was erased may have been anybody's.
            let Some(user) = record.user.as_deref() else { return BTreeSet::new() };
            users.insert(&record.lease, user);
            let keys = holders.get(user).filter(|keys| keys.len() == 1);
            let Some(key) = keys.and_then(BTreeSet::first) else { continue };
            if !self.made.contains_key(*key) {
                let lease = self.lease(&record.lease);
                self.made.insert((*key).to_owned(), lease);
                self.fences.insert(fence.clone(), 0);
            }
        }
        // The log is believed about holders if it says the same as the answers that are there.
        let same =
            operations.iter().all(|(_, operation)| match (&operation.act, granted(operation)) {
                (Act::Checkout { holder, .. }, Some((lease, _))) => {
                    users.get(lease).is_none_or(|user| user == holder)
                }
                _ => true,
            });
        let told = holders.values().filter(|keys| same && keys.len() == 1);
        told.flatten().map(|key| (*key).to_owned()).collect()
    }

    fn name_the_rest(&mut self, told: &BTreeSet<String>) {
        let keys: Vec<String> = self.attempts.keys().cloned().collect();
        for key in keys {
            if !self.made.contains_key(&key) {
                let lease = self.lease(&format!("lease of {key}"));
                if !told.contains(&key) {
                    self.nameless.insert(lease);
                }
                self.made.insert(key, lease);
            }
        }
    }

    fn lease(&mut self, name: &str) -> LeaseNo {
        let next = self.leases.len();
        *self.leases.entry(name.to_owned()).or_insert(next)
    }

    fn pool(&mut self, name: &str) {
        if !name.is_empty() && !self.pools.contains_key(name) {
            self.pools.insert(name.to_owned(), self.pools.len() + 1);
        }
    }

    fn lease_names(&self) -> Vec<String> {
        let mut names = vec![String::new(); self.leases.len()];
        for (name, lease) in &self.leases {
            names[*lease].clone_from(name);
        }
        names
    }
}

/// Lease and fence of a grant.
fn granted(operation: &Operation) -> Option<(&str, &str)> {
    match &operation.outcome {
        Outcome::Done(Answer::Granted { lease, fence, .. }) => Some((lease, fence)),
        _ => None,
    }
}

/// A key is one of its kind of act, as the server scopes it.
pub(super) fn key_of(operation: &Operation, key: &str) -> String {
    format!("{} {key}", operation.act.name())
}

/// Renewals that nothing could tell from ones placed earlier: the only one that sent this sequence,
/// for a lease that one attempt made and that nobody borrows.
fn mark_eager(intervals: &mut [Interval]) {
    let mut sent: BTreeMap<(LeaseNo, u32), u32> = BTreeMap::new();
    let mut others: BTreeMap<LeaseNo, u32> = BTreeMap::new();
    for interval in intervals.iter() {
        match &interval.step {
            Step::Heartbeat { lease, sent: sequence, .. } => {
                *sent.entry((*lease, *sequence)).or_default() += 1;
            }
            Step::Checkout { lease, .. } => *others.entry(*lease).or_default() += 1,
            Step::Borrow { lease, .. } | Step::ReturnBorrow { lease, .. } => {
                *others.entry(*lease).or_default() += 2;
            }
            _ => {}
        }
    }
    for interval in intervals {
        if let Step::Heartbeat { lease, sent: sequence, answer: Some(_), .. } = &interval.step {
            interval.eager = sent.get(&(*lease, *sequence)) == Some(&1)
                && others.get(lease).is_none_or(|others| *others <= 1);
        }
    }
}

/// Leaves out what the log says did not happen, and bounds what it says did.
fn prune(intervals: &mut Vec<Interval>, expiries: &mut [Expiry], names: &Names, log: &[&Record]) {
    let no_later = latest(intervals, names, log);
    let mut granted: BTreeMap<LeaseNo, Option<u64>> = BTreeMap::new();
    let mut returned: BTreeMap<LeaseNo, Option<u64>> = BTreeMap::new();
    for (lease, expiry) in expiries.iter_mut().enumerate() {
        if !names.nameless.contains(&lease) {
            *expiry = Expiry::NEVER;
        }
    }
    let by_lease = by_lease(intervals);
    let mut seems_ns = 0;
    for (record, by_ns) in log.iter().zip(no_later) {
        let Some(lease) = names.leases.get(&record.lease).copied() else { continue };
        let of = by_lease.get(&lease).map_or(&[][..], Vec::as_slice);
        seems_ns = hint(intervals, of, &record.what, seems_ns);
        match &record.what {
            Happened::Granted { .. } => {
                granted.insert(lease, by_ns);
            }
            Happened::Returned => {
                returned.insert(lease, by_ns);
            }
            Happened::Expired | Happened::Ended(_) => {
                expiries[lease] = Expiry { may: true, must: true, by_ns, hint_ns: seems_ns };
            }
            _ => {}
        }
    }
    let alone = attempts(intervals);
    intervals.retain_mut(|interval| {
        let (shown, lease) = match &interval.step {
            Step::Checkout { lease, .. } if names.nameless.contains(lease) => return true,
            Step::Checkout { lease, answer: None, .. } => (granted.get(lease), *lease),
            Step::Return { lease, answer: None, .. } => (returned.get(lease), *lease),
            _ => return true,
        };
        let Some(by_ns) = shown else { return false };
        let kind = matches!(interval.step, Step::Return { .. });
        if alone.get(&(lease, kind)) == Some(&1) {
            interval.required = true;
            interval.is_remembered = true;
            interval.end_ns = *by_ns;
        }
        true
    });
}

/// How many operations may have granted, or returned (`true`), each lease.
fn attempts(intervals: &[Interval]) -> BTreeMap<(LeaseNo, bool), u32> {
    use crate::model::{CheckoutAnswer, ReturnAnswer};
    let mut counts: BTreeMap<(LeaseNo, bool), u32> = BTreeMap::new();
    for interval in intervals {
        let key = match &interval.step {
            Step::Checkout { lease, answer, .. } => match answer {
                None | Some(CheckoutAnswer::Granted { .. }) => (*lease, false),
                Some(_) => continue,
            },
            Step::Return { lease, answer: None | Some(ReturnAnswer::Returned), .. } => {
                (*lease, true)
            }
            _ => continue,
        };
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// For each record, when it had happened at the latest: before the first answer to it or to any
/// record after it.
fn latest(intervals: &[Interval], names: &Names, log: &[&Record]) -> Vec<Option<u64>> {
    use crate::model::{CheckoutAnswer, ReturnAnswer};
    let mut first: BTreeMap<(LeaseNo, bool), u64> = BTreeMap::new();
    for interval in intervals {
        let key = match &interval.step {
            Step::Checkout { lease, answer: Some(CheckoutAnswer::Granted { .. }), .. } => {
                (*lease, false)
            }
            Step::Return { lease, answer: Some(ReturnAnswer::Returned), .. } => (*lease, true),
            _ => continue,
        };
        let end_ns = interval.end_ns.unwrap_or(u64::MAX);
        let known = first.entry(key).or_insert(end_ns);
        *known = end_ns.min(*known);
    }
    let mut bound: Option<u64> = None;
    let mut bounds = Vec::with_capacity(log.len());
    for record in log.iter().rev() {
        let is_return = match record.what {
            Happened::Granted { .. } => Some(false),
            Happened::Returned => Some(true),
            _ => None,
        };
        let lease = names.leases.get(&record.lease).copied();
        let known = lease.zip(is_return).and_then(|key| first.get(&key)).copied();
        bound = match (bound, known) {
            (Some(bound), Some(known)) => Some(bound.min(known)),
            (bound, known) => bound.or(known),
        };
        bounds.push(bound);
    }
    bounds.reverse();
    bounds
}

/// Places of the intervals that may grant, end or lengthen each lease.
fn by_lease(intervals: &[Interval]) -> BTreeMap<LeaseNo, Vec<usize>> {
    let mut places: BTreeMap<LeaseNo, Vec<usize>> = BTreeMap::new();
    for (place, interval) in intervals.iter().enumerate() {
        if let Step::Checkout { lease, .. }
        | Step::Return { lease, .. }
        | Step::Borrow { lease, .. }
        | Step::ReturnBorrow { lease, .. } = &interval.step
        {
            places.entry(*lease).or_default().push(place);
        }
    }
    places
}

/// Notes when the operations that a record may be of seem to have happened, and gives that moment.
fn hint(intervals: &mut [Interval], of: &[usize], what: &Happened, seems_ns: u64) -> u64 {
    let is_of = |interval: &Interval| {
        matches!(
            (&interval.step, what),
            (Step::Checkout { .. }, Happened::Granted { .. })
                | (Step::Return { .. }, Happened::Returned)
                | (Step::Borrow { .. }, Happened::Borrowed)
                | (Step::ReturnBorrow { .. }, Happened::BorrowReturned)
        )
    };
    let of: Vec<usize> = of.iter().copied().filter(|place| is_of(&intervals[*place])).collect();
    let first = of.iter().map(|place| intervals[*place].asked.invoke_ns).min();
    let seems_ns = seems_ns.max(first.unwrap_or(0));
    for place in of {
        intervals[place].hint_ns = intervals[place].hint_ns.max(seems_ns);
    }
    seems_ns
}
