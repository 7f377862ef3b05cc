//! What a node says about itself and its peers: status, alarms, counters.

use std::time::Duration;

use lease::ids::NodeId;
use serde::{Deserialize, Serialize};
use storage::log::LogMetrics;

/// Part a node plays now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeRole {
    /// Proposes entries.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows without a vote.
    Learner,
    /// Asks for votes.
    Candidate,
    /// Stopped, by order or by a failure.
    Stopped,
}

/// Index and term of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Term in which it was proposed.
    pub term: u64,
    /// Index in the log; the first entry of a cluster has 0.
    pub index: u64,
}

/// Something an operator should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// This node's monotonic clock runs more than 1 % faster or slower than the voters' median.
    ClockRate,
    /// The voters' wall clocks moved more than ten minutes away from the civil clock inside a
    /// term; the civil clock does not follow before the next election.
    CivilJump,
    /// No majority of voters has wall clocks within ten seconds of each other.
    ClocksDisagree,
    /// This node's state differs from what a majority agreed on. It stops answering and exits.
    Corrupt,
    /// No majority of voters agrees on the state's sum.
    NoStateSumMajority,
    /// A peer was refused because its directory or its log is not the one it joined with.
    PeerRefused,
}

impl Alarm {
    /// Its name in logs, status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClockRate => "clock_rate",
            Self::CivilJump => "civil_jump",
            Self::ClocksDisagree => "clocks_disagree",
            Self::Corrupt => "corrupt",
            Self::NoStateSumMajority => "no_state_sum_majority",
            Self::PeerRefused => "peer_refused",
        }
    }
}

/// A member of the cluster, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its number.
    pub id: NodeId,
    /// Where peers reach it.
    pub address: String,
    /// Whether it votes, also in one of two sets while the voters change; otherwise it is a
    /// learner.
    pub voter: bool,
    /// Last index known to be in its log; on the leader only.
    pub matched: Option<u64>,
    /// Age of its last acknowledgement; on the leader only.
    pub ack_age_ms: Option<u64>,
    /// Its wall clock minus this node's; on the leader only.
    pub clock_offset_ms: Option<i64>,
    /// Whether its state was what a majority has, when the leader last compared it; on the leader
    /// only, and only once it was compared in this term.
    pub agrees: Option<bool>,
    /// Whether this node refuses it, or is refused by it: not the directory, or not the log, that
    /// it joined with.
    pub refused: bool,
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its part.
    pub role: NodeRole,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// Last entry in its log.
    pub last_log: Option<u64>,
    /// Last entry it knows to be committed.
    pub committed: Option<Position>,
    /// Last entry it has applied.
    pub applied: Option<Position>,
    /// Last entry covered by a checkpoint.
    pub checkpoint: Option<Position>,
    /// All members, itself included, in order of id.
    pub peers: Vec<PeerStatus>,
    /// Whether there is one set of voters: no change of them is under way, or was left half way by
    /// a leader that is gone.
    pub is_settled: bool,
    /// Age of the newest acknowledgement by a quorum; on the leader only. The truth about whether
    /// the cluster works.
    pub quorum_ack_age_ms: Option<u64>,
    /// Age of the last message of a leader that this node followed; on others than the leader. The
    /// only sign that the leader named above still is one.
    pub leader_contact_age_ms: Option<u64>,
    /// What is wrong, in order.
    pub alarms: Vec<Alarm>,
    /// Whether everything that was in the log at the start is known to be committed and has been
    /// applied, and the clocks of the ledger have been set since. Before that, a stale read may be
    /// older than one before the restart, and the civil time shown may be that of long ago.
    pub recovered: bool,
    /// Whether the disk has room for what others send: see [`crate::Cluster::set_has_room`].
    pub has_room: bool,
    /// The sum over all rows at the newest index at which it was taken, and that index: equal on
    /// every node that has applied as much.
    pub state_sum: Option<(u64, [u8; 32])>,
}

impl Status {
    /// Whether a quorum has acknowledged this leader within `bound`.
    pub fn leads_with_quorum(&self, bound: Duration) -> bool {
        self.role == NodeRole::Leader
            && self.quorum_ack_age_ms.is_some_and(|age| u128::from(age) < bound.as_millis())
    }
}

/// Counters since the start, for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metrics {
    /// Entries proposed by this node.
    pub entries_proposed: u64,
    /// Commands in them.
    pub commands_proposed: u64,
    /// Entries proposed whose outcome is not known yet.
    pub entries_in_flight: u64,
    /// Commands waiting to be proposed.
    pub commands_queued: u64,
    /// Commands refused because the queue was full.
    pub overloaded: u64,
    /// Entries proposed that failed.
    pub proposals_failed: u64,
    /// Commands forwarded to another node.
    pub forwarded: u64,
    /// Calls that carried them.
    pub forwards: u64,
    /// Entries applied.
    pub entries_applied: u64,
    /// Time spent applying, nanoseconds.
    pub apply_ns: u64,
    /// Longest time to apply one entry, nanoseconds.
    pub apply_max_ns: u64,
    /// Linearizable reads answered.
    pub reads: u64,
    /// Rounds that served them.
    pub read_rounds: u64,
    /// Times the leader changed, as this node saw it.
    pub leader_changes: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Time of the last one, nanoseconds.
    pub checkpoint_last_ns: u64,
    /// Snapshots sent to peers.
    pub snapshots_sent: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
    /// The log's own counters, with the durations of `fdatasync`.
    pub log: LogMetrics,
}
