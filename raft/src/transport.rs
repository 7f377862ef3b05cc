//! The fourth seam: how bytes get from one node to another.
//!
//! Implemented by the node over HTTP/2 with mutual TLS, and by tests in process. It moves frames
//! and knows nothing of what is in them; who the sender is, it proves by certificate and hands to
//! [`crate::Cluster::handle`]. It keeps no order between calls and may lose any of them; within a
//! stream ([`Transport::open`]) it keeps the order, and what it loses ends the stream.
//!
//! The one thing it must tell apart is whether a request may have reached the other side
//! ([`TransportError::Unknown`]) or certainly has not ([`TransportError::NotSent`]): a write that
//! was never sent can be reported as not executed.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use lease::ids::NodeId;
use tokio::sync::mpsc;

/// Longest request or answer of one call in bytes; a transport may refuse what is longer.
/// Appends carry at most 4 MiB of entries and one entry beyond, forwards at most 1,024 commands.
pub const MAX_CALL_BYTES: usize = 16 << 20;

/// The calls peers make to each other. The numbers and paths are part of the wire; never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PeerCall {
    /// A heartbeat, or entries for a follower's log.
    Append = 1,
    /// A candidate asks for a vote.
    Vote = 2,
    /// Whether a vote would be given, with nothing stored on either side.
    PreVote = 3,
    /// The leader hands leadership to a named voter.
    TransferLeader = 4,
    /// Commands on their way from a gateway to the leader.
    Forward = 5,
    /// What index a linearizable read has to wait for.
    ReadIndex = 6,
    /// A snapshot; sent by [`Transport::send_snapshot`], never by [`Transport::call`].
    Snapshot = 7,
    /// A change of the members or the leader, on its way to the leader.
    Change = 8,
    /// Appends one after the other; sent by [`Transport::open`], never by [`Transport::call`].
    Appends = 9,
}

impl PeerCall {
    /// All calls, by number.
    pub const ALL: [Self; 9] = [
        Self::Append,
        Self::Vote,
        Self::PreVote,
        Self::TransferLeader,
        Self::Forward,
        Self::ReadIndex,
        Self::Snapshot,
        Self::Change,
        Self::Appends,
    ];

    /// The stable number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The call of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.number() == number)
    }

    /// The last segment of its path in a URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Vote => "vote",
            Self::PreVote => "pre-vote",
            Self::TransferLeader => "transfer-leader",
            Self::Forward => "forward",
            Self::ReadIndex => "read-index",
            Self::Snapshot => "snapshot",
            Self::Change => "change",
            Self::Appends => "appends",
        }
    }

    /// The call of a path's last segment.
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.path() == path)
    }
}

/// Carries calls to peers.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and waits for its answer, at most `deadline`. Concurrent calls to one
    /// peer run side by side.
    fn call(
        &self,
        to: NodeId,
        call: PeerCall,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>>;

    /// Opens a stream of requests of one kind; waits for a connection no longer than `deadline`.
    /// That the peer takes it shows in the first answer.
    fn open(
        &self,
        to: NodeId,
        call: PeerCall,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<PeerStream, TransportError>>;

    /// Sends a snapshot on a connection of its own, so that it does not hold up the calls: the
    /// header, then the chunks, then waits for the answer. `deadline` bounds the whole transfer.
    fn send_snapshot(
        &self,
        to: NodeId,
        header: Bytes,
        chunks: BoxStream<'static, io::Result<Bytes>>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>>;

    /// The nodes there are and where (`host:port`); called at the start and after every change of
    /// membership, with all of them each time.
    fn set_peers(&self, peers: Vec<(NodeId, String)>);
}

/// Requests to one peer that arrive in the order in which they were sent and are answered in it.
pub struct PeerStream {
    /// Takes requests, a few ahead of the connection. Without it, the stream ends when all that
    /// were sent are answered.
    pub requests: mpsc::Sender<Bytes>,
    /// One answer for each request. An error is the last: of the requests without an answer, each
    /// may have been carried out as [`TransportError`] says. Dropping this ends the stream at once.
    pub answers: BoxStream<'static, Result<Bytes, TransportError>>,
}

/// Requests that a stream has under way at most: what a peer may be made to keep.
pub const MAX_STREAMED_REQUESTS: usize = 64;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The request certainly did not reach the peer.
    #[error("the peer was not reached")]
    NotSent(#[source] Box<dyn Error + Send + Sync>),
    /// The request may have reached the peer, and may have been carried out.
    #[error("the peer's answer did not arrive")]
    Unknown(#[source] Box<dyn Error + Send + Sync>),
}

impl TransportError {
    /// Whether the peer may have acted on the request.
    pub fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Why a peer's request was not answered. Refusals of the protocol itself are answers, not errors.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The bytes are not a request of this version of the protocol.
    #[error("the request does not decode")]
    Malformed(#[source] lease::format::FormatError),
    /// The sender inside the frame is not the one the transport proved.
    #[error("a frame of node {claimed} came from node {proven}")]
    WrongSender {
        /// Who the frame says it is from.
        claimed: NodeId,
        /// Whom the transport authenticated.
        proven: NodeId,
    },
    /// This call does not arrive in this way.
    #[error("{0:?} is not handled here")]
    WrongCall(PeerCall),
    /// The node is stopping or has stopped.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The node's disk has no room for it.
    #[error("the disk has no room for it")]
    NoRoom,
    /// A chunk of a snapshot did not arrive or could not be kept.
    #[error("the snapshot was not received")]
    Snapshot(#[source] io::Error),
}
