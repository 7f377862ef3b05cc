//! A ledger for generated histories: a third one, beside the product's and the model's.
//!
//! It has a clock, decides at one moment of each operation, and writes an audit log.

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::{Audit, Happened, Record};
use crate::evidence::FinalPackage;
use crate::history::{Act, Answer, Header};

#[derive(Debug, Clone)]
struct Row {
    key: String,
    fence: u32,
    class: &'static str,
    seats: u32,
    pool: String,
    ends_led_ms: u64,
    sequence: u32,
    borrowed: bool,
}

/// The ledger.
pub(super) struct Server {
    header: Header,
    live: BTreeMap<String, Row>,
    made: BTreeMap<String, String>,
    returned: BTreeMap<String, String>,
    shares: BTreeMap<String, u32>,
    done: BTreeSet<String>,
    pub(super) audit: Audit,
    fence: u32,
    index: u64,
}

impl Server {
    pub(super) fn new(header: &Header) -> Self {
        let terms = &header.packages[0];
        let mut shares: BTreeMap<String, u32> = terms.pools.iter().cloned().collect();
        let pooled: u32 = shares.values().sum();
        shares.insert(String::new(), terms.total() - pooled);
        Self {
            header: header.clone(),
            live: BTreeMap::new(),
            made: BTreeMap::new(),
            returned: BTreeMap::new(),
            shares,
            done: BTreeSet::new(),
            audit: Audit { range: (1, 0), ..Audit::default() },
            fence: 0,
            index: 1,
        }
    }

    /// The answer, and the sequence of the renewal token that comes with it.
    pub(super) fn decide(&mut self, led_ms: u64, act: &Act, sent: u32) -> (Answer, u32) {
        self.index += 1;
        let due = |row: &Row| row.ends_led_ms <= led_ms;
        let over: Vec<String> =
            self.live.iter().filter(|(_, row)| due(row)).map(|(lease, _)| lease.clone()).collect();
        for lease in over {
            self.live.remove(&lease);
            self.record(&lease, Happened::Expired, None);
        }
        match act {
            Act::Checkout { key, holder, seats, pool, .. } => {
                self.check_out(led_ms, key, holder, *seats, pool.as_deref().unwrap_or_default())
            }
            Act::Heartbeat { lease, .. } => self.heartbeat(led_ms, lease, sent),
            Act::Return { lease, key, .. } => (self.give_back(lease, key), 0),
            Act::Borrow { lease, duration_ms, .. } => {
                self.borrow(led_ms, lease, sent, *duration_ms)
            }
            Act::ReturnBorrow { lease, .. } => self.return_borrow(led_ms, lease, sent),
            Act::Transfer { from, to, seats, key, .. } => (self.transfer(from, to, *seats, key), 0),
            Act::ReadPackage { .. } => {
                let FinalPackage { in_use, total, leases, .. } = self.last_read();
                let leases = self.index.is_multiple_of(2).then_some(leases);
                (Answer::Package { in_use, total, index: self.index, leases }, 0)
            }
            Act::ReadLease { lease, .. } => {
                let left = self.live.get(lease).map(|row| row.ends_led_ms - led_ms);
                (Answer::Lease { live: left.is_some(), expires_in_ms: left }, 0)
            }
            Act::ReadPools { .. } => {
                let FinalPackage { pools: shares, .. } = self.last_read();
                (Answer::Pools { shares, index: self.index }, 0)
            }
            Act::Fault(_) => unreachable!("nobody asks for a fault"),
        }
    }

    pub(super) fn last_read(&self) -> FinalPackage {
        let terms = &self.header.packages[0];
        let shares = self.shares.iter().filter(|(_, share)| **share > 0);
        FinalPackage {
            package: terms.name.clone(),
            in_use: self.live.values().map(|row| row.seats).sum(),
            total: terms.total(),
            leases: self.live.keys().cloned().collect(),
            pools: shares
                .map(|(pool, share)| (pool.clone(), *share, self.pool_in_use(pool)))
                .collect(),
        }
    }

    fn pool_in_use(&self, pool: &str) -> u32 {
        self.live.values().filter(|row| row.pool == pool).map(|row| row.seats).sum()
    }

    fn check_out(
        &mut self,
        led_ms: u64,
        key: &str,
        holder: &str,
        seats: u32,
        pool: &str,
    ) -> (Answer, u32) {
        if let Some(lease) = self.made.get(key).cloned() {
            return match self.live.get(&lease) {
                Some(row) => (granted(&lease, row, led_ms, true), row.sequence),
                None => (refused("lease_ended"), 0),
            };
        }
        let terms = self.header.packages[0].clone();
        let of = |class| {
            let rows = self.live.values().filter(|row| row.class == class);
            rows.map(|row| row.seats).sum::<u32>()
        };
        let class = if terms.commit - of("commit") >= seats {
            "commit"
        } else if terms.overage - of("overage") >= seats {
            "overage"
        } else {
            return (refused("max_overage_exceeded"), 0);
        };
        if self.shares.get(pool).copied().unwrap_or(0) < self.pool_in_use(pool) + seats {
            return (refused("pool_exhausted"), 0);
        }
        self.fence += 1;
        let lease = format!("L{}", self.fence);
        let row = Row {
            key: key.to_owned(),
            fence: self.fence,
            class,
            seats,
            pool: pool.to_owned(),
            ends_led_ms: led_ms + terms.ttl_ms,
            sequence: 1,
            borrowed: false,
        };
        let answer = granted(&lease, &row, led_ms, false);
        let what = Happened::Granted {
            fence: format!("{:08}", row.fence),
            class: class.to_owned(),
            seats,
            pool: Some(pool.to_owned()).filter(|pool| !pool.is_empty()),
        };
        self.made.insert(row.key.clone(), lease.clone());
        self.record(&lease, what, Some(holder.to_owned()));
        self.live.insert(lease, row);
        (answer, 1)
    }

    fn heartbeat(&mut self, led_ms: u64, lease: &str, sent: u32) -> (Answer, u32) {
        let ttl_ms = self.header.packages[0].ttl_ms;
        let Some(row) = self.live.get_mut(lease) else { return (refused("lease_ended"), 0) };
        if sent == row.sequence {
            row.sequence += 1;
            row.ends_led_ms = row.ends_led_ms.max(led_ms + ttl_ms);
        } else if sent + 1 != row.sequence {
            return (refused("renewal_token_replayed"), 0);
        }
        (renewed(lease, row, led_ms), row.sequence)
    }

    fn give_back(&mut self, lease: &str, key: &str) -> Answer {
        if self.live.remove(lease).is_some() {
            self.returned.insert(lease.to_owned(), key.to_owned());
            self.record(lease, Happened::Returned, None);
            return Answer::Returned;
        }
        match self.returned.get(lease) {
            Some(by) if by == key => Answer::Returned,
            _ => refused("already_ended"),
        }
    }

    fn borrow(&mut self, led_ms: u64, lease: &str, sent: u32, duration_ms: u64) -> (Answer, u32) {
        let ttl_ms = self.header.packages[0].ttl_ms;
        let Some(row) = self.live.get_mut(lease) else { return (refused("lease_ended"), 0) };
        let is_new = sent == row.sequence;
        if is_new {
            row.sequence += 1;
            row.borrowed = true;
            row.ends_led_ms = row.ends_led_ms.max(led_ms + ttl_ms.max(duration_ms));
        } else if sent + 1 != row.sequence || !row.borrowed {
            return (refused("renewal_token_replayed"), 0);
        }
        let (until_in_ms, sequence) = (row.ends_led_ms - led_ms, row.sequence);
        if is_new {
            self.record(lease, Happened::Borrowed, None);
        }
        (Answer::Borrowed { until_in_ms, offline_ends_ms: 0 }, sequence)
    }

    fn return_borrow(&mut self, led_ms: u64, lease: &str, sent: u32) -> (Answer, u32) {
        let ttl_ms = self.header.packages[0].ttl_ms;
        let Some(row) = self.live.get_mut(lease) else { return (refused("lease_ended"), 0) };
        let is_new = sent == row.sequence;
        match (is_new, row.borrowed) {
            (true, false) => return (refused("not_borrowed"), 0),
            (true, true) => {
                row.sequence += 1;
                row.borrowed = false;
                row.ends_led_ms = led_ms + ttl_ms;
            }
            (false, false) if sent + 1 == row.sequence => {}
            (false, _) => return (refused("renewal_token_replayed"), 0),
        }
        let answer = (renewed(lease, row, led_ms), row.sequence);
        if is_new {
            self.record(lease, Happened::BorrowReturned, None);
        }
        answer
    }

    fn transfer(&mut self, from: &str, to: &str, seats: u32, key: &str) -> Answer {
        if self.done.contains(key) {
            return Answer::Transferred;
        }
        let share = self.shares.get(from).copied().unwrap_or(0);
        if share < self.pool_in_use(from) + seats {
            return refused("not_enough_free");
        }
        self.done.insert(key.to_owned());
        self.shares.insert(from.to_owned(), share - seats);
        *self.shares.entry(to.to_owned()).or_default() += seats;
        let named = |pool: &str| Some(pool.to_owned()).filter(|pool| !pool.is_empty());
        self.record("", Happened::Transferred { from: named(from), to: named(to), seats }, None);
        Answer::Transferred
    }

    fn record(&mut self, lease: &str, what: Happened, user: Option<String>) {
        self.audit.range.1 += 1;
        let seq = self.audit.range.1;
        let (package, lease) = ("P".to_owned(), lease.to_owned());
        self.audit.records.push(Record { seq, what, package, lease, user });
    }
}

fn refused(code: &str) -> Answer {
    Answer::Refused { code: code.to_owned(), status: 409 }
}

fn granted(lease: &str, row: &Row, led_ms: u64, repeated: bool) -> Answer {
    Answer::Granted {
        lease: lease.to_owned(),
        fence: format!("{:08}", row.fence),
        class: row.class.to_owned(),
        expires_in_ms: row.ends_led_ms - led_ms,
        renewal_token: format!("{lease}-t{}", row.sequence),
        repeated,
        body_hash: format!("{lease} {} {}", row.class, row.sequence),
    }
}

fn renewed(lease: &str, row: &Row, led_ms: u64) -> Answer {
    Answer::Renewed {
        expires_in_ms: row.ends_led_ms - led_ms,
        renewal_token: format!("{lease}-t{}", row.sequence),
        offline_until_ms: None,
    }
}
