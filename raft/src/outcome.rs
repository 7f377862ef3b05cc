//! What submitting and reading give back: answers, and errors that say whether anything happened.

use std::time::Duration;

use lease::entry::Stamp;
use lease::ids::NodeId;
use lease::outcome::Outcome;

/// Commands that were applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Index of the entry that held them.
    pub index: u64,
    /// One outcome per command, in the order given.
    pub outcomes: Vec<Outcome>,
    /// The leader that proposed the entry.
    pub served_by: NodeId,
    /// The ledger's clocks after it.
    pub clock: Stamp,
}

/// Whether commands without an answer were carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Executed {
    /// Certainly not, and they never will be.
    NotExecuted,
    /// They may have been, or may yet be. Asking again under the same request id tells.
    Unknown,
}

/// Why commands have no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the commands have no outcome ({executed:?})")]
pub struct SubmitError {
    /// Whether they were carried out.
    pub executed: Executed,
    /// What was in the way.
    #[source]
    pub kind: SubmitErrorKind,
}

/// What was in the way of commands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitErrorKind {
    /// No leader with a quorum was reached within the deadline.
    #[error("no quorum was reached within the deadline")]
    NoQuorum,
    /// The leader's queue is full.
    #[error("the leader is overloaded")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// This node is stopping.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The commands can never be proposed as they are: too many, or too large.
    #[error("the commands do not fit into one entry: {0}")]
    TooLarge(String),
    /// This node failed.
    #[error("the node has failed: {0}")]
    Failed(String),
}

impl SubmitError {
    pub(crate) fn not_executed(kind: SubmitErrorKind) -> Self {
        Self { executed: Executed::NotExecuted, kind }
    }
}

/// From when on a read of the ledger is linearizable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadPoint {
    /// Every command answered before the read began is at or below this index, and this node has
    /// applied it.
    pub index: u64,
    /// The leader that confirmed it.
    pub served_by: NodeId,
    /// The leader's clocks when it confirmed it, or the ledger's when this node had applied it,
    /// whichever is later. What is left of a lease is to be told by this: the ledger's own clocks
    /// stand still while nothing is written.
    pub clock: Stamp,
}

/// Why a linearizable read is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader with a quorum was reached within the deadline, or this node did not catch up.
    #[error("no quorum was reached within the deadline")]
    NoQuorum,
    /// Too many reads wait already.
    #[error("too many reads wait")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// This node is stopping.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// This node failed.
    #[error("the node has failed: {0}")]
    Failed(String),
}
