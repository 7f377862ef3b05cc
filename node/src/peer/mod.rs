//! How bytes get from node to node: HTTP/2 over mutual TLS, `raft`'s fourth seam.
//!
//! ```text
//! POST /peer/v1/append | vote | pre-vote | transfer-leader | forward | read-index
//!      body: one frame of `raft`                        200: one frame back
//! POST /peer/v1/report
//!      body: empty                                      200: how the node stands (`gateway`)
//! POST /peer/v1/order
//!      body: an order (`gateway::NodeOrder`, JSON)      200: its result, JSON
//! POST /peer/v1/snapshot                                on a connection of its own
//!      body: header length (u32, little endian) ‖ header ‖ chunks
//! ```
//!
//! Towards each peer there are two connections, one for calls and one for snapshots, so that a
//! gigabyte on its way does not hold up a heartbeat. Calls run side by side as streams; nothing is
//! buffered or delayed (TCP_NODELAY, windows larger than any call).
//!
//! Who is at the other end is settled by certificate alone ([`crate::pki`]) and compared with the
//! membership: by the caller, which wants one certain node, and by the listener, which takes any
//! member and hands the proven id to `raft` with every call. A member that is removed is refused at
//! its next call.
//!
//! What a status says about the request: 200 it was handled; 4xx it was certainly not; anything
//! else leaves it open.

mod client;
mod identity;
mod server;

pub use client::PeerTransport;
pub use identity::PeerIdentity;
pub use server::{Handlers, PeerListener};

use std::collections::BTreeMap;
use std::sync::Arc;

use lease::ids::NodeId;
use parking_lot::RwLock;

/// Who is a member, and where; shared by both directions.
#[derive(Clone, Default)]
pub struct PeerTable(Arc<RwLock<BTreeMap<NodeId, String>>>);

impl PeerTable {
    /// Begins with the members that the configuration names.
    pub fn new(members: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        Self(Arc::new(RwLock::new(members.into_iter().collect())))
    }

    /// Replaces all members. None at all is what a log says that has no membership yet: then those
    /// of the configuration stay.
    pub(crate) fn replace(&self, members: Vec<(NodeId, String)>) {
        if !members.is_empty() {
            *self.0.write() = members.into_iter().collect();
        }
    }

    /// Where a member is.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.0.read().get(&node).cloned()
    }

    /// Whether a node is a member.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        self.0.read().contains_key(&node)
    }
}

/// What every path begins with.
const PATH_PREFIX: &str = "/peer/v1/";
/// Not one of `raft`'s calls: how a node stands, for `cluster status`.
const REPORT: &str = "report";
/// An order to this node's process.
const ORDER: &str = "order";
/// Window of one stream: no call waits for a window update.
const STREAM_WINDOW_BYTES: u32 = raft::MAX_CALL_BYTES as u32;
/// Window of one connection: several large calls at once.
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// Frames of this size keep a large append from holding up a small one for long.
const FRAME_BYTES: u32 = 256 * 1024;
/// Calls at once on one connection; `raft` bounds them far below.
const MAX_STREAMS: u32 = 1024;

#[cfg(test)]
mod tests;
