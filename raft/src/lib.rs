//! How nodes agree: Raft over `storage`'s log and state, with the ledger as the state machine.
//!
//! The only crate that names openraft; none of its types is in the public interface, on the disk
//! or on the wire, except inside our own versioned frames. [`Cluster`] is the handle everything
//! else uses; [`Transport`] is what it needs from the node.
//!
//! ```text
//!  submit ─► submit ─► proposer ─► openraft ─► log_store ─► storage::log
//!  (any node)  │          ▲           │  ▲
//!              └ forwards ┤           │  └── network ◄── Transport ──► serve (on a peer)
//!                         │           ▼
//!                       lead ◄─── state_machine ─► replica (ledger) ─► storage::state
//!                  (clocks, sums)     ▲                  ▲
//!                         ▲        conduct            upkeep (checkpoints)
//! ```
//!
//! What it leaves to others: how bytes travel and who the peer is (`node`), what commands mean
//! (`lease`), what is stored how (`storage`).
//!
//! # Raising the version of openraft
//!
//! It is pinned exactly (`=0.10.0-alpha.37`), since the line still moves. To raise it:
//!
//! 1. Read its change log and `Config`: every field there is set in `config` with a reason; a new
//!    one needs a decision, not its default.
//! 2. Compare its `RaftNetworkV2` with `network`: a method with a default may be one we must not
//!    leave to it, as `pre_vote` was, which grants unconditionally.
//! 3. The tests in `types` and `frames` with golden bytes must pass unchanged: neither disk nor
//!    wire may follow openraft's types. A new kind of message or entry gets a number of its own.
//! 4. openraft's own suite runs over the storage adapters in `suite`; `tests/it` has the
//!    behaviour we rely on: pre-vote, refusal without a quorum, election timeouts drawn each
//!    round, `LogEntryDiscarded` for what was overwritten, purge behind the snapshot.
//! 5. Run two nodes of the old and one of the new version under load.

mod admission;
mod appends;
pub mod audit;
mod backup;
mod change;
mod clock;
pub mod cluster;
mod conduct;
pub mod config;
mod context;
mod fatal;
mod forwards;
mod frames;
mod held;
mod integrity;
mod lead;
mod log_store;
mod network;
pub mod offline;
mod open;
pub mod outcome;
mod outsider;
mod pipeline;
mod proposer;
mod reads;
mod recovery;
mod replica;
mod report;
mod runtime;
mod serve;
mod state_machine;
pub mod status;
mod submit;
#[cfg(test)]
mod suite;
pub mod transport;
mod types;
mod upkeep;
mod workers;

pub use audit::{AuditBounds, AuditError, StoredEvent};
pub use backup::BackupError;
pub use cluster::{Change, ChangeError, Cluster, InitializeError, LedgerGuard, StartError};
pub use config::{ClusterConfig, Preset, Timing};
pub use outcome::{Executed, ReadError, ReadPoint, SubmitError, SubmitErrorKind, Submitted};
pub use status::{Alarm, Metrics, NodeRole, PeerStatus, Position, Status};
pub use transport::{
    HandleError, MAX_CALL_BYTES, MAX_STREAMED_REQUESTS, PeerCall, PeerStream, Transport,
    TransportError,
};
pub use workers::{Pace, Workers};
