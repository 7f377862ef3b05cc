//! How nodes agree: Raft over `storage`'s log and state, with the ledger as the state machine.
//!
//! The only crate that names openraft; none of its types is in the public interface, on the disk
//! or on the wire, except inside our own versioned frames. [`Cluster`] is the handle everything
//! else uses; [`Transport`] is what it needs from the node.
pub mod cluster;
pub mod config;
pub mod outcome;
pub mod status;
pub mod transport;

pub use cluster::{ChangeError, Cluster, InitializeError, StartError};
pub use config::{ClusterConfig, Preset, Timing};
pub use outcome::{Executed, ReadError, ReadPoint, SubmitError, SubmitErrorKind, Submitted};
pub use status::{Alarm, Metrics, NodeRole, PeerStatus, Position, Status};
pub use transport::{HandleError, MAX_CALL_BYTES, PeerCall, Transport, TransportError};
