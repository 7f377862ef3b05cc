//! What a run came to: counts, and how they add up over many.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Counts of one run, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Requests without an answer.
    pub lost: u64,
    /// Requests that could not be sent.
    pub not_sent: u64,
    /// Requests that met an obstacle: no quorum, overload.
    pub obstacles: u64,
    /// Terms that had a leader, but for the first.
    pub leader_changes: u64,
    /// Snapshots that were installed.
    pub snapshot_installs: u64,
    /// Starts that found and cut a torn end.
    pub torn_tails: u64,
    /// Leases that ran out.
    pub expiries: u64,
    /// Checkouts that an attempt before the answered one had carried out.
    pub retries_with_effect: u64,
    /// Requests repeated on purpose and answered alike.
    pub repeated: u64,
    /// Heartbeats that were refused.
    pub refused_heartbeats: u64,
    /// Returns that were acknowledged.
    pub returns: u64,
    /// Borrows that were acknowledged.
    pub borrows: u64,
    /// Offline tokens that were given up before they ended.
    pub early_returns: u64,
    /// Reads.
    pub reads: u64,
    /// Of these, stale ones.
    pub stale_reads: u64,
    /// Of these, by nodes that did not lead.
    pub follower_reads: u64,
    /// Starts of processes beyond the first of each node.
    pub restarts: u64,
    /// Nodes that became members.
    pub members_added: u64,
    /// Faults that hit, by name.
    pub faults: BTreeMap<String, u64>,
    /// Faults that did not.
    pub faults_missed: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Events of the trace.
    pub events: u64,
}

impl Totals {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.pairs().len();
        let theirs: Vec<u64> = other.pairs().iter().map(|(_, count)| *count).collect();
        let ours = [
            &mut self.acknowledged,
            &mut self.refused,
            &mut self.lost,
            &mut self.not_sent,
            &mut self.obstacles,
            &mut self.leader_changes,
            &mut self.snapshot_installs,
            &mut self.torn_tails,
            &mut self.expiries,
            &mut self.retries_with_effect,
            &mut self.repeated,
            &mut self.refused_heartbeats,
            &mut self.returns,
            &mut self.borrows,
            &mut self.early_returns,
            &mut self.reads,
            &mut self.stale_reads,
            &mut self.follower_reads,
            &mut self.restarts,
            &mut self.members_added,
            &mut self.faults_missed,
            &mut self.simulated_ms,
            &mut self.events,
        ];
        debug_assert_eq!(ours.len(), pairs);
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            *ours += theirs;
        }
        for (name, count) in &other.faults {
            *self.faults.entry(name.clone()).or_default() += count;
        }
    }

    /// All counts but those of faults, with their names.
    pub fn pairs(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("acknowledged", self.acknowledged),
            ("refused", self.refused),
            ("lost", self.lost),
            ("not sent", self.not_sent),
            ("obstacles", self.obstacles),
            ("leader changes", self.leader_changes),
            ("snapshot installs", self.snapshot_installs),
            ("torn tails", self.torn_tails),
            ("expiries", self.expiries),
            ("retries with effect", self.retries_with_effect),
            ("identical repeats", self.repeated),
            ("refused heartbeats", self.refused_heartbeats),
            ("returns", self.returns),
            ("borrows", self.borrows),
            ("early returns", self.early_returns),
            ("reads", self.reads),
            ("stale reads", self.stale_reads),
            ("reads on followers", self.follower_reads),
            ("restarts", self.restarts),
            ("members added", self.members_added),
            ("faults that missed", self.faults_missed),
            ("simulated ms", self.simulated_ms),
            ("events", self.events),
        ]
    }

    /// What must have happened in twenty runs, and did not.
    pub fn missing(&self) -> Vec<&'static str> {
        let needed = [
            ("leader changes", self.leader_changes),
            ("snapshot installs", self.snapshot_installs),
            ("torn tails", self.torn_tails),
            ("expiries", self.expiries),
            ("retries with effect", self.retries_with_effect),
            ("refused heartbeats", self.refused_heartbeats),
        ];
        needed.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    /// Faults that hit.
    pub fn faults_hit(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.pairs() {
            writeln!(f, "  {name:<22} {count}")?;
        }
        let faults: Vec<String> =
            self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        write!(f, "  {:<22} {}", "faults that hit", faults.join(", "))
    }
}

/// What one run came to, as its process tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// SHA-256 over the trace, hex.
    pub digest: String,
    /// Counts.
    pub totals: Totals,
    /// Rules that did not hold, with what was found.
    pub violations: Vec<(String, String)>,
    /// The last events, where something was found.
    pub last: Vec<String>,
    /// Processor time in milliseconds.
    #[serde(default)]
    pub cpu_ms: u64,
}
