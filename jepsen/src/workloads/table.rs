//! The workloads.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::packages::Wanted;
use crate::history::PackageTerms;
use crate::proxy::Condition;

/// One workload.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it presses on, in one line.
    pub about: &'static str,
    /// Packages that clients use.
    pub packages: &'static [Package],
    /// Clients at once.
    pub clients: u64,
    /// What a client does, and how often.
    pub weights: Weights,
    /// Shortest and longest pause between two acts of a client, in milliseconds.
    pub pause_ms: (u64, u64),
    /// Most leases that a client keeps.
    pub keeps: usize,
    /// Of a thousand pieces that nodes and clients send each other, so many end the connection, and
    /// twice as many stall.
    pub lost_per_mille: u64,
}

/// One package of a workload.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    name: &'static str,
    commit: u32,
    overage: u32,
    ttl_s: u64,
    borrow_s: u64,
    pools: &'static [(&'static str, u32)],
}

/// Of all acts of a client, how many are of each kind; what cannot be done now is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weights {
    /// Take seats.
    pub checkout: u64,
    /// Keep a lease.
    pub heartbeat: u64,
    /// Send a heartbeat again that was sent before, with the token that it spent.
    pub old_heartbeat: u64,
    /// Give a lease back.
    pub give_back: u64,
    /// Forget a lease, so that it ends by itself.
    pub lapse: u64,
    /// Repeat an act that was answered, or whose answer was lost, under its key.
    pub retry: u64,
    /// Borrow a lease for a while.
    pub borrow: u64,
    /// Give a borrow back early.
    pub return_borrow: u64,
    /// Move seats between pools.
    pub transfer: u64,
    /// Read how many seats are taken.
    pub read_package: u64,
    /// Read a lease.
    pub read_lease: u64,
    /// Read pools.
    pub read_pools: u64,
    /// Of reads, so many in a hundred are `stale`.
    pub stale_percent: u64,
}

impl Workload {
    /// The one of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }

    /// The packages to import.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.packages.iter().map(Package::wanted).collect()
    }

    /// How links between clients and nodes are when no fault is on.
    pub fn client_links(&self) -> Condition {
        Condition {
            reset_per_mille: self.lost_per_mille,
            stall_per_mille: self.lost_per_mille * 2,
            stall: STALL,
            ..Condition::default()
        }
    }
}

impl Package {
    fn wanted(&self) -> Wanted {
        let pools = self.pools.iter().map(|(name, seats)| ((*name).to_owned(), *seats));
        Wanted {
            terms: PackageTerms {
                name: self.name.to_owned(),
                commit: self.commit,
                overage: self.overage,
                ttl_ms: self.ttl_s * 1_000,
                pools: pools.collect(),
                offline_skew_ms: OFFLINE_SKEW_S * 1_000,
                rotation: true,
            },
            policy: self.policy(),
        }
    }

    fn policy(&self) -> Value {
        if self.borrow_s == 0 {
            return json!({});
        }
        json!({
            "offline": "on",
            "offline_skew_seconds": OFFLINE_SKEW_S,
            "borrow_max_seconds": self.borrow_s,
        })
    }
}

const PLAIN: Package =
    Package { name: "seats", commit: 3, overage: 2, ttl_s: 5, borrow_s: 0, pools: &[] };

const READS: Weights = Weights {
    checkout: 0,
    heartbeat: 0,
    old_heartbeat: 0,
    give_back: 0,
    lapse: 0,
    retry: 0,
    borrow: 0,
    return_borrow: 0,
    transfer: 0,
    read_package: 20,
    read_lease: 10,
    read_pools: 0,
    stale_percent: 15,
};

const BUSY: Workload = Workload {
    name: "contention",
    about: "eight clients, five seats: who gets one, and never two the same",
    packages: &[PLAIN],
    clients: 8,
    weights: Weights { checkout: 25, heartbeat: 10, give_back: 60, lapse: 3, retry: 6, ..READS },
    pause_ms: (5, 60),
    keeps: 2,
    lost_per_mille: 0,
};

/// All of them.
pub const WORKLOADS: &[Workload] = &[
    BUSY,
    Workload {
        name: "short-leases",
        about: "leases of two seconds, kept by heartbeats or left to end",
        packages: &[Package { ttl_s: 2, ..PLAIN }],
        weights: Weights {
            checkout: 25,
            heartbeat: 40,
            old_heartbeat: 4,
            give_back: 12,
            lapse: 14,
            retry: 2,
            ..READS
        },
        ..BUSY
    },
    Workload {
        name: "retries",
        about: "a lossy link between clients and nodes; every act again under its key",
        weights: Weights {
            checkout: 30,
            heartbeat: 10,
            give_back: 25,
            lapse: 3,
            retry: 40,
            ..READS
        },
        lost_per_mille: 25,
        ..BUSY
    },
    Workload {
        name: "borrow",
        about: "seats that leave for a few seconds, and come back early or not at all",
        packages: &[Package { commit: 4, overage: 2, ttl_s: 3, borrow_s: 12, ..PLAIN }],
        weights: Weights {
            checkout: 30,
            heartbeat: 10,
            give_back: 25,
            lapse: 8,
            retry: 4,
            borrow: 14,
            return_borrow: 10,
            ..READS
        },
        ..BUSY
    },
    Workload {
        name: "transfer",
        about: "seats that move between pools while they are taken",
        packages: &[Package {
            commit: 8,
            overage: 0,
            pools: &[("north", 3), ("south", 3)],
            ..PLAIN
        }],
        weights: Weights {
            checkout: 30,
            heartbeat: 5,
            give_back: 30,
            lapse: 2,
            retry: 4,
            transfer: 20,
            read_pools: 25,
            ..READS
        },
        ..BUSY
    },
    Workload {
        name: "audit",
        about: "many short holds: every one an event of the audit chain, exactly once",
        packages: &[Package { commit: 20, overage: 20, ..PLAIN }],
        weights: Weights { checkout: 50, give_back: 50, retry: 8, read_package: 6, ..READS },
        pause_ms: (2, 25),
        keeps: 3,
        ..BUSY
    },
    Workload {
        name: "reads",
        about: "mostly reads, on followers too: none older than an answered write",
        weights: Weights {
            checkout: 15,
            heartbeat: 5,
            give_back: 14,
            lapse: 2,
            read_package: 50,
            read_lease: 25,
            stale_percent: 25,
            ..READS
        },
        pause_ms: (2, 40),
        ..BUSY
    },
    Workload {
        name: "mixed",
        about: "all of it, over three packages",
        packages: &[
            PLAIN,
            Package { name: "short", ttl_s: 2, ..PLAIN },
            Package { name: "away", commit: 4, ttl_s: 3, borrow_s: 12, ..PLAIN },
        ],
        clients: 12,
        weights: Weights {
            checkout: 30,
            heartbeat: 20,
            old_heartbeat: 2,
            give_back: 22,
            lapse: 5,
            retry: 10,
            borrow: 6,
            return_borrow: 4,
            ..READS
        },
        lost_per_mille: 5,
        ..BUSY
    },
];

/// How far a device's clock may be off, in seconds.
const OFFLINE_SKEW_S: u64 = 1;
/// As TCP waits before it sends again what was lost.
const STALL: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_takes_reads_and_is_named_once() {
        let mut names = std::collections::BTreeSet::new();
        for workload in WORKLOADS {
            assert!(names.insert(workload.name), "{} twice", workload.name);
            let weights = workload.weights;
            assert!(weights.checkout > 0 && weights.read_package > 0, "{}", workload.name);
            let lends = workload.packages.iter().any(|package| package.borrow_s > 0);
            assert_eq!(lends, weights.borrow > 0, "{}", workload.name);
            let pools = workload.packages.iter().any(|package| !package.pools.is_empty());
            assert_eq!(pools, weights.transfer > 0, "{}", workload.name);
        }
        assert!(Workload::named("mixed").is_some() && Workload::named("none").is_none());
    }
}
