//! How bytes get from node to node: HTTP/2 over mutual TLS, `raft`'s fourth seam.
//!
//! ```text
//! POST /peer/v1/append | vote | pre-vote | transfer-leader | forward | read-index
//!      body: one frame of `raft`                        200: one frame back
//! POST /peer/v1/appends
//!      body: frames of `raft` one after the other       200: one answer to each (`frames`)
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
//! buffered or delayed (TCP_NODELAY, windows larger than any call). A stream of appends is one such
//! stream that stays open.
//!
//! Who is at the other end is settled by certificate alone ([`crate::pki`]) and compared with the
//! membership: by the caller, which wants one certain node, and by the listener, which takes any
//! member and hands the proven id to `raft` with every call. A member that is removed is refused at
//! its next call.
//!
//! What a status says about the request: 200 it was handled; 4xx it was certainly not; anything
//! else leaves it open.

mod client;
mod frames;
mod identity;
mod server;

pub use client::PeerTransport;
pub use identity::PeerIdentity;
pub use server::{Handlers, PeerListener};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lease::ids::NodeId;
use parking_lot::RwLock;

/// Who is a member, and where; shared by both directions.
///
/// A node may lag behind what the others have decided, so it also lets in whom its ledger knows,
/// and a node with a number above all that it knows: that one has joined since, or the cluster's
/// authority would not have certified it. Former members may ask too, and are told that they are
/// members no more; that is all they are told.
#[derive(Clone, Default)]
pub struct PeerTable(Arc<RwLock<Table>>);

#[derive(Default)]
struct Table {
    /// By the membership in force, or the configuration before there is one.
    members: BTreeMap<NodeId, String>,
    /// Of a node that joins: those that it was told of, until its log counts it in.
    joining: Option<(NodeId, BTreeMap<NodeId, String>)>,
    /// By the rows of the ledger.
    rows: BTreeSet<NodeId>,
    former: BTreeSet<NodeId>,
    /// The highest number known.
    newest: NodeId,
}

impl PeerTable {
    /// Begins with the members that the configuration names.
    pub fn new(members: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        let table = Self::default();
        table.replace(members.into_iter().collect());
        table
    }

    /// The same for a node that joins: these stay until its log counts it among the members, since
    /// the first memberships that it is sent are those of long ago.
    pub fn joining(me: NodeId, told: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        let told: BTreeMap<_, _> = told.into_iter().collect();
        let table = Self::new(told.clone());
        table.0.write().joining = Some((me, told));
        table
    }

    /// Replaces all members. None at all is what a log says that has no membership yet: then those
    /// of the configuration stay.
    pub(crate) fn replace(&self, members: Vec<(NodeId, String)>) {
        if members.is_empty() {
            return;
        }
        let mut table = self.0.write();
        let mut members: BTreeMap<_, _> = members.into_iter().collect();
        match table.joining.take() {
            Some((me, told)) if !members.contains_key(&me) => {
                for (node, address) in &told {
                    members.insert(*node, address.clone());
                }
                table.joining = Some((me, told));
            }
            _ => {}
        }
        let newest = members.keys().next_back().copied().unwrap_or(0);
        table.newest = table.newest.max(newest);
        table.members = members;
    }

    /// Takes in whom the ledger knows.
    pub(crate) fn learn(
        &self,
        rows: impl Iterator<Item = NodeId>,
        former: impl Iterator<Item = NodeId>,
    ) {
        let (rows, former): (BTreeSet<_>, BTreeSet<_>) = (rows.collect(), former.collect());
        let newest = rows.last().copied().max(former.last().copied()).unwrap_or(0);
        let mut table = self.0.write();
        table.newest = table.newest.max(newest);
        (table.rows, table.former) = (rows, former);
    }

    /// Where a member is.
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.0.read().members.get(&node).cloned()
    }

    /// Whether a node is a member.
    pub(crate) fn contains(&self, node: NodeId) -> bool {
        let table = self.0.read();
        table.members.contains_key(&node) || table.rows.contains(&node)
    }

    /// Whether a node may speak: a member, or one of which only its own word is missing.
    pub(crate) fn may_speak(&self, node: NodeId) -> bool {
        let is_newer = || node > self.0.read().newest;
        self.contains(node) || self.0.read().former.contains(&node) || is_newer()
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
