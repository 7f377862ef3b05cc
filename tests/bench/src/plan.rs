//! What is measured, and in which order.
//!
//! A *turn* is one system under one workload with so many clients: its servers are started, its
//! cells are measured one after the other, and its servers are stopped. Turns of the same workload
//! and number of clients follow each other, so that systems that are compared are measured within
//! a minute of each other; who goes first rotates from group to group and from round to round, so
//! that a disk or a machine that drifts hits all alike. A figure of the report is the median over
//! the rounds.
//!
//! What it leaves to others: doing it ([`crate::turns`], [`crate::scenarios`]).

use std::fmt;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// Ours: three nodes, TLS, fsync, tokens, audit.
    Leasehold,
    /// Three nodes as they come.
    Etcd,
    /// The same with TLS for clients, and users.
    EtcdAuth,
    /// One node, `synchronous_commit=on`.
    Postgres,
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Take seats of one pool; they are given back after the measurement.
    Checkout,
    /// Take a seat of one pool of 10,000 and give it back.
    CycleHot,
    /// The same over 1,000 packages.
    CycleSpread,
    /// Renew live leases, one per request.
    Heartbeat,
    /// Renew live leases, 100 per request.
    HeartbeatBulk,
    /// Read live leases, linearizably.
    Read,
    /// 80 % heartbeat, 15 % read, 5 % checkout and return.
    Mixed,
    /// Checkouts that begin 2,000 times a second, whatever became of those before.
    #[serde(rename = "open-2000")]
    Open2000,
}

/// What takes longer than a cell, each with a cluster of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topic {
    /// Cost of a checkout with 1,000 live leases against 1,000,000.
    Growth,
    /// Resident memory with 1,000,000 live leases.
    Memory,
    /// All three nodes killed with 1,000,000 live leases, to the first checkout.
    Restart,
    /// A snapshot of 1,000,000 live leases to an empty node, under load.
    Snapshot,
    /// The leader killed under load, 50 times.
    Failover,
    /// Elections in five minutes of full load.
    Elections,
    /// Three regions, 40 and 80 ms apart.
    Regions,
}

/// By what way a system is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// HTTP/1.1 over TLS, JSON.
    Https,
    /// HTTP/1.1, JSON: etcd's gateway (over TLS where the system says so).
    Http,
    /// gRPC, one call at a time for each client.
    Grpc,
    /// A gRPC stream for each client, one message on its way.
    Stream,
    /// The same, 100 messages on their way.
    Stream100,
    /// PostgreSQL's own protocol.
    Sql,
}

/// Where clients are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Placement {
    /// Evenly over the nodes, the first at the leader.
    Spread,
    /// All at the leader.
    Leader,
    /// All at one follower.
    Follower,
}

/// One thing that `--only` may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// Cells of a workload.
    Workload(Workload),
    /// A topic of its own.
    Topic(Topic),
}

/// What one run is to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Workloads, in order.
    pub(crate) workloads: Vec<Workload>,
    /// Topics, in order.
    pub(crate) topics: Vec<Topic>,
    /// Systems.
    pub(crate) systems: Vec<System>,
    /// Numbers of clients.
    pub(crate) clients: Vec<usize>,
    /// Rounds.
    pub(crate) rounds: usize,
    /// Where clients are connected, unless a cell is about just that.
    pub(crate) at: Placement,
}

/// One system under one workload with so many clients, in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Counted from 1.
    pub(crate) round: usize,
    /// Who.
    pub(crate) system: System,
    /// What.
    pub(crate) workload: Workload,
    /// How many clients.
    pub(crate) clients: usize,
    /// Ways of asking, measured one after the other.
    pub(crate) ways: Vec<(Variant, Placement)>,
}

impl Plan {
    /// All turns, in order.
    pub(crate) fn turns(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for round in 1..=self.rounds {
            for (at, (workload, clients)) in self.groups().into_iter().enumerate() {
                let mut group: Vec<Turn> = self
                    .systems
                    .iter()
                    .map(|system| Turn {
                        round,
                        system: *system,
                        workload,
                        clients,
                        ways: ways(*system, workload, clients, self.at),
                    })
                    .filter(|turn| !turn.ways.is_empty())
                    .collect();
                if !group.is_empty() {
                    let first = (at + round - 1) % group.len();
                    group.rotate_left(first);
                }
                for turn in &mut group {
                    let first = (round - 1) % turn.ways.len();
                    turn.ways.rotate_left(first);
                }
                turns.extend(group);
            }
        }
        turns
    }

    fn groups(&self) -> Vec<(Workload, usize)> {
        let mut groups = Vec::new();
        for workload in &self.workloads {
            match workload {
                Workload::Open2000 => groups.push((*workload, OPEN_CLIENTS)),
                _ => groups.extend(self.clients.iter().map(|clients| (*workload, *clients))),
            }
        }
        groups
    }
}

/// The ways in which a system is asked under a workload; none: it is not.
fn ways(
    system: System,
    workload: Workload,
    clients: usize,
    at: Placement,
) -> Vec<(Variant, Placement)> {
    let mut ways = match (system, workload) {
        (System::Leasehold, Workload::Read) if clients == PLACED_READS_CLIENTS => vec![
            (Variant::Https, at),
            (Variant::Https, Placement::Leader),
            (Variant::Https, Placement::Follower),
        ],
        (System::Leasehold, _) => vec![(Variant::Https, at)],
        // A seat is a key of its own there: spread over packages is what it is anyway.
        (System::Etcd | System::EtcdAuth, Workload::CycleSpread) => Vec::new(),
        // A follower passes a keep-alive on to the leader by a request of its own, so the better
        // place for clients is looked for.
        (System::Etcd | System::EtcdAuth, Workload::Heartbeat) => {
            vec![(Variant::Http, at), (Variant::Http, Placement::Leader)]
        }
        (System::Etcd | System::EtcdAuth, Workload::HeartbeatBulk) => vec![
            (Variant::Stream, Placement::Leader),
            (Variant::Stream100, at),
            (Variant::Stream100, Placement::Leader),
        ],
        (System::Etcd | System::EtcdAuth, _) => vec![(Variant::Http, at), (Variant::Grpc, at)],
        (System::Postgres, Workload::Checkout | Workload::CycleHot) => vec![(Variant::Sql, at)],
        (System::Postgres, _) => Vec::new(),
    };
    let mut seen = Vec::new();
    ways.retain(|way| {
        let is_new = !seen.contains(way);
        seen.push(*way);
        is_new
    });
    ways
}

impl System {
    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 4] = [Self::Leasehold, Self::Etcd, Self::EtcdAuth, Self::Postgres];

    /// Its name on the command line and in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leasehold => "leasehold",
            Self::Etcd => "etcd",
            Self::EtcdAuth => "etcd-auth",
            Self::Postgres => "postgres",
        }
    }

    /// The system of a name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|known| known.name() == name) {
            Some(system) => Ok(system),
            None => bail!("no system is called `{name}`: want {}", list(&Self::ALL, Self::name)),
        }
    }
}

impl Workload {
    /// All, in the order in which they are measured.
    pub(crate) const ALL: [Self; 8] = [
        Self::Checkout,
        Self::CycleHot,
        Self::CycleSpread,
        Self::Heartbeat,
        Self::HeartbeatBulk,
        Self::Read,
        Self::Mixed,
        Self::Open2000,
    ];

    /// Its name on the command line and in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::CycleHot => "cycle-hot",
            Self::CycleSpread => "cycle-spread",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatBulk => "heartbeat-bulk",
            Self::Read => "read",
            Self::Mixed => "mixed",
            Self::Open2000 => "open-2000",
        }
    }

    /// One sentence.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Checkout => "take a seat of one pool; given back after the measurement",
            Self::CycleHot => "take a seat of one pool of 10,000 and give it back",
            Self::CycleSpread => "the same over 1,000 packages",
            Self::Heartbeat => "renew one of 100,000 live leases",
            Self::HeartbeatBulk => "renew 100 of 100,000 live leases per request",
            Self::Read => "read a live lease, linearizably",
            Self::Mixed => "80 % heartbeat, 15 % read, 5 % checkout and return",
            Self::Open2000 => "2,000 checkouts a second, timed from when each was due",
        }
    }
}

impl Topic {
    /// All, in the order in which they are measured.
    pub(crate) const ALL: [Self; 7] = [
        Self::Growth,
        Self::Memory,
        Self::Restart,
        Self::Snapshot,
        Self::Failover,
        Self::Elections,
        Self::Regions,
    ];

    /// Its name on the command line and in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Growth => "growth",
            Self::Memory => "memory",
            Self::Restart => "restart",
            Self::Snapshot => "snapshot",
            Self::Failover => "failover",
            Self::Elections => "elections",
            Self::Regions => "regions",
        }
    }

    /// One sentence.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Growth => "cost of a checkout, 1,000 live leases against 1,000,000",
            Self::Memory => "resident memory with 1,000,000 live leases",
            Self::Restart => "all nodes killed with 1,000,000, to the first checkout",
            Self::Snapshot => "a snapshot of 1,000,000 to an empty node, under load",
            Self::Failover => "the leader killed under load, to the first checkout",
            Self::Elections => "elections during five minutes of full load",
            Self::Regions => "three regions, round trips of 40, 80 and 80 ms",
        }
    }
}

impl Item {
    /// The item of a name.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let workload = Workload::ALL.into_iter().find(|known| known.name() == name);
        let topic = Topic::ALL.into_iter().find(|known| known.name() == name);
        match (workload, topic) {
            (Some(workload), _) => Ok(Self::Workload(workload)),
            (_, Some(topic)) => Ok(Self::Topic(topic)),
            (None, None) => bail!(
                "nothing is called `{name}`: want {}, {}",
                list(&Workload::ALL, Workload::name),
                list(&Topic::ALL, Topic::name)
            ),
        }
    }
}

impl Variant {
    /// Its name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Stream => "stream",
            Self::Stream100 => "stream100",
            Self::Sql => "sql",
        }
    }
}

impl Placement {
    /// Its name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Leader => "leader",
            Self::Follower => "follower",
        }
    }
}

macro_rules! shown_by_name {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    )*};
}
shown_by_name!(System, Workload, Topic, Variant, Placement);

fn list<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> String {
    all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ")
}

/// Connections of the open loop: enough that none is waited for while answers take 100 ms.
pub(crate) const OPEN_CLIENTS: usize = 256;
/// Rate of the open loop.
pub(crate) const OPEN_PER_SECOND: u64 = 2_000;
/// With so many clients, reads are also measured with all of them at one node.
pub(crate) const PLACED_READS_CLIENTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rounds: usize) -> Plan {
        Plan {
            workloads: Workload::ALL.to_vec(),
            topics: Vec::new(),
            systems: System::ALL.to_vec(),
            clients: vec![1, 64],
            rounds,
            at: Placement::Spread,
        }
    }

    #[test]
    fn every_round_measures_the_same_cells() {
        let of_round = |round| {
            let mut cells: Vec<_> = plan(3)
                .turns()
                .into_iter()
                .filter(|turn| turn.round == round)
                .flat_map(|turn| {
                    let Turn { system, workload, clients, ways, .. } = turn;
                    ways.into_iter().map(move |way| (system, workload, clients, way))
                })
                .collect();
            cells.sort_unstable();
            cells
        };
        let first = of_round(1);
        let mut once = first.clone();
        once.dedup();
        assert_eq!(first, once, "a cell is measured twice in a round");
        assert_eq!(of_round(2), first);
        assert_eq!(of_round(3), first);
    }

    #[test]
    fn every_system_goes_first_as_often_as_the_others() {
        let mut first = std::collections::BTreeMap::new();
        for workload in [Workload::Checkout, Workload::CycleHot] {
            let plan = Plan { workloads: vec![workload], clients: vec![64], ..plan(4) };
            for round in 1..=4 {
                let turns = plan.turns();
                let turn = turns.iter().find(|turn| turn.round == round).unwrap();
                *first.entry(turn.system).or_insert(0) += 1;
            }
        }
        assert_eq!(first.into_values().collect::<Vec<_>>(), [2, 2, 2, 2]);
    }

    #[test]
    fn systems_that_are_compared_follow_each_other() {
        let turns = plan(1).turns();
        let groups: Vec<_> = turns.iter().map(|turn| (turn.workload, turn.clients)).collect();
        let mut runs = groups.clone();
        runs.dedup();
        let mut once = runs.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(runs.len(), once.len(), "a group is taken up again: {runs:?}");
    }

    #[test]
    fn clients_at_the_leader_are_not_measured_there_twice() {
        let plan = Plan { at: Placement::Leader, ..plan(1) };
        for turn in plan.turns() {
            let mut ways = turn.ways.clone();
            ways.sort_unstable();
            ways.dedup();
            assert_eq!(ways.len(), turn.ways.len(), "{turn:?}");
        }
    }

    #[test]
    fn names_are_found_again_and_others_are_refused() {
        for workload in Workload::ALL {
            assert_eq!(Item::named(workload.name()).unwrap(), Item::Workload(workload));
            assert_eq!(serde_json::to_value(workload).unwrap(), workload.name());
        }
        for topic in Topic::ALL {
            assert_eq!(Item::named(topic.name()).unwrap(), Item::Topic(topic));
        }
        for system in System::ALL {
            assert_eq!(System::named(system.name()).unwrap(), system);
            assert_eq!(serde_json::to_value(system).unwrap(), system.name());
        }
        let refused = Item::named("chekout").unwrap_err().to_string();
        assert!(refused.starts_with("nothing is called `chekout`: want checkout, "), "{refused}");
    }
}
