//! What the search has to order: the operations of one package as steps of the model.
//!
//! Names become places, answers become the model's, and everything that certainly changed nothing
//! and says nothing is left out: stale reads, and refusals that are no statement about leases (a
//! full disk, a removed application).
//!
//! Where the audit log was exported whole, it settles the order of all changes, since that is what
//! it promises: the order in which acts happened. Then the search only has to find the places of
//! renewals, reads and refusals between them; an operation of unknown outcome happened if the log
//! has it; a lease expired if the log says so, and when the log says so. That some other order
//! might explain the answers is no excuse for a log that does not. Without a log, unknown
//! operations may have happened or not, at any time, and every lease may expire.

use std::collections::{BTreeMap, BTreeSet};

use super::steps;
use crate::audit::{Happened, Record};
use crate::check::Run;
use crate::check::told::short;
use crate::history::{Act, Answer, PackageTerms};
use crate::model::{Asked, Class, Lease, LeaseNo, Package, PoolNo, Step, Terms};
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
    /// The changes in the order of the audit log; `None`: any order will do.
    pub log: Option<Vec<Change>>,
    /// Whether all of the log has to happen.
    pub is_log_whole: bool,
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
}

/// A change that the audit log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A lease was granted.
    Granted(LeaseNo),
    /// It was given back.
    Returned(LeaseNo),
    /// It ended otherwise.
    Expired(LeaseNo),
    /// It was lengthened.
    Borrowed(LeaseNo),
    /// The lengthening was given up.
    BorrowReturned(LeaseNo),
    /// Seats moved from one pool to another.
    Transferred(PoolNo, PoolNo, u32),
}

impl Change {
    /// The change that a step makes where it makes one that the log has.
    pub fn of(step: &Step) -> Option<Self> {
        Some(match step {
            Step::Checkout { lease, .. } => Self::Granted(*lease),
            Step::Return { lease, .. } => Self::Returned(*lease),
            Step::Borrow { lease, .. } => Self::Borrowed(*lease),
            Step::ReturnBorrow { lease, .. } => Self::BorrowReturned(*lease),
            Step::Transfer { from, to, seats, .. } => Self::Transferred(*from, *to, *seats),
            _ => return None,
        })
    }

    /// The lease that it is about.
    pub fn lease(self) -> Option<LeaseNo> {
        match self {
            Self::Granted(lease)
            | Self::Returned(lease)
            | Self::Expired(lease)
            | Self::Borrowed(lease)
            | Self::BorrowReturned(lease) => Some(lease),
            Self::Transferred(..) => None,
        }
    }

    fn of_record(names: &Names, record: &Record) -> Option<Self> {
        let pool = |pool: &Option<String>| match pool {
            None => Some(0),
            Some(pool) => names.pools.get(pool).copied(),
        };
        if let Happened::Transferred { from, to, seats } = &record.what {
            return Some(Self::Transferred(pool(from)?, pool(to)?, *seats));
        }
        let lease = names.leases.get(&record.lease).copied()?;
        Some(match record.what {
            Happened::Granted { .. } => Self::Granted(lease),
            Happened::Returned => Self::Returned(lease),
            Happened::Borrowed => Self::Borrowed(lease),
            Happened::BorrowReturned => Self::BorrowReturned(lease),
            _ => Self::Expired(lease),
        })
    }
}

impl Problem {
    /// The problem of one package of a run.
    pub fn of(run: &Run, terms: &PackageTerms) -> Self {
        let of_package = |operation: &&Operation| {
            operation.act.package() == Some(&terms.name) && !operation.act.is_stale_read()
        };
        let operations: Vec<(usize, &Operation)> =
            run.operations.iter().enumerate().filter(|(_, it)| of_package(it)).collect();
        // A log whose beginning was pruned tells no state to begin with.
        let audit = run.evidence.audit().filter(|audit| audit.range.0 <= 1);
        let log: Option<Vec<&Record>> = audit.map(|audit| {
            audit.records.iter().filter(|record| record.package == terms.name).collect()
        });
        let names = Names::of(&operations, terms, log.as_deref());
        let mut intervals: Vec<Interval> = operations
            .iter()
            .filter_map(|(place, operation)| steps::interval(run, &names, *place, operation))
            .collect();
        mark_eager(&mut intervals);
        // What nobody asked for the checker of the log tells; here it would explain nothing.
        let log = log.filter(|_| names.nameless.is_empty());
        let log = log.and_then(|log| {
            log.into_iter().map(|record| Change::of_record(&names, record)).collect()
        });
        intervals.sort_by_key(|interval| interval.asked.invoke_ns);
        let mut initial = Package::new(
            Terms { commit: terms.commit, overage: terms.overage, rotation: terms.rotation },
            names.leases.len(),
            &names.shares,
            names.keys.len(),
        );
        for lease in ends_alike(&intervals, names.leases.len()) {
            initial.end_alike(lease);
        }
        let leases = names.lease_names();
        Self { package: terms.name.clone(), initial, intervals, log, is_log_whole: true, leases }
    }

    /// A state, for people.
    pub fn describe(&self, state: &Package) -> String {
        let live: Vec<String> = state
            .live()
            .iter()
            .filter_map(|lease| match state.lease(*lease) {
                Lease::Live(live) => Some(format!(
                    "{} ({}, seats: {}, sequence {}, lives until {:.3} s at least)",
                    short(&self.leases[*lease]),
                    if live.class == Class::Commit { "commit" } else { "overage" },
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

/// Leases that at most one operation gives back: no answer tells how such a lease ended, but for
/// the one that ended it.
fn ends_alike(intervals: &[Interval], leases: usize) -> Vec<LeaseNo> {
    let mut returns = vec![0_u32; leases];
    for interval in intervals {
        if let Step::Return { lease, .. } = &interval.step {
            returns[*lease] += 1;
        }
    }
    (0..leases).filter(|lease| returns[*lease] <= 1).collect()
}
