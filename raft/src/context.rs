//! What all parts of a node share: its identity, its seams, its log and replica, and who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lease::ids::NodeId;
use lease::planted::{self, Bug};
use parking_lot::Mutex;
use storage::log::Log;
use storage::seam::Clock;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::clock::Reading;
use crate::config::Timing;
use crate::fatal::Fatal;
use crate::frames::{Addressee, Refused, Request, Sender};
use crate::held::HeldLog;
use crate::lead::Lead;
use crate::replica::Replica;
use crate::state_machine::StateMachine;
use crate::status::{Alarm, NodeRole, Position};
use crate::transport::Transport;
use crate::types::TypeConfig;
use crate::workers::Workers;

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Who leads, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) role: NodeRole,
    pub(crate) term: u64,
    pub(crate) leader: Option<NodeId>,
    /// Whether this node leads and has applied its own blank entry of this term: only then it may
    /// propose.
    pub(crate) ready: bool,
}

/// The members, as of the membership in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Peers {
    /// One set, or two while the membership changes.
    pub(crate) voters: Vec<BTreeSet<NodeId>>,
    pub(crate) addresses: BTreeMap<NodeId, String>,
}

/// Counters that belong to no other part.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) entries_proposed: AtomicU64,
    pub(crate) commands_proposed: AtomicU64,
    pub(crate) entries_in_flight: AtomicU64,
    pub(crate) commands_queued: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) proposals_failed: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) forwards: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) read_rounds: AtomicU64,
    pub(crate) leader_changes: AtomicU64,
    pub(crate) snapshots_sent: AtomicU64,
}

/// Shared by everything on this node.
pub(crate) struct Context {
    pub(crate) node: NodeId,
    pub(crate) directory: u64,
    pub(crate) boot: u64,
    pub(crate) timing: Timing,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) workers: Workers,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) log: Log,
    pub(crate) replica: Arc<Replica>,
    pub(crate) admission: Admission,
    pub(crate) lead: Lead,
    pub(crate) fatal: Fatal,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) peers: watch::Sender<Peers>,
    pub(crate) stopping: watch::Sender<bool>,
    /// Whether this node may ask for votes, and so take over leadership.
    pub(crate) may_lead: AtomicBool,
    /// Whether the disk has room for more than what is under way.
    pub(crate) has_room: AtomicBool,
    /// Free bytes that must be left over by what could also be done later.
    pub(crate) reserve_bytes: AtomicU64,
    /// When a leader was last followed, by the monotonic clock; 0 for never.
    pub(crate) leader_heard_ns: AtomicU64,
    pub(crate) counters: Counters,
    /// What of the log is kept for peers that are being sent a snapshot.
    pub(crate) held: HeldLog,
    pub(crate) alarms: Mutex<BTreeSet<Alarm>>,
    /// Peers that this node refuses, or that refuse it.
    pub(crate) refused: Mutex<BTreeSet<NodeId>>,
}

impl Context {
    /// What this node says of itself in every message.
    pub(crate) fn sender(&self) -> Sender {
        let durable = self.log.state().durable;
        Sender {
            node: self.node,
            directory: self.directory,
            boot: self.boot,
            cluster: self.replica.known(self.node).cluster,
            durable: durable.map(|it| Position { term: it.term, index: it.index }),
        }
    }

    /// A peer, as the node that it joined as.
    pub(crate) fn addressee(&self, peer: NodeId) -> Addressee {
        Addressee { node: peer, directory: self.replica.known(peer).directory }
    }

    /// A call to a peer.
    pub(crate) fn request<B>(&self, peer: NodeId, body: B) -> Request<B> {
        Request { sender: self.sender(), to: self.addressee(peer), body }
    }

    /// Judges whether a message was meant for this node, as it is now.
    pub(crate) fn is_meant(&self, by: NodeId, to: Addressee) -> Result<(), Refused> {
        if to.node != self.node {
            return Err(Refused::Misdirected(to.node));
        }
        let other = to.directory.is_some_and(|directory| directory != self.directory);
        if !other || planted::is(Bug::WipedTakesPart) {
            return Ok(());
        }
        if self.refused.lock().insert(by) {
            tracing::error!(
                peer = by,
                node = self.node,
                "this node joined from another data directory than it has now; \
                 run: leasehold member replace",
            );
        }
        Err(Refused::OtherDirectory(self.node))
    }

    /// Notes that a leader's message was followed just now.
    pub(crate) fn heard_leader(&self) {
        self.leader_heard_ns.store(self.clock.monotonic_ns().max(1), Ordering::Relaxed);
    }

    /// How long ago that was, in milliseconds.
    pub(crate) fn leader_contact_age_ms(&self) -> Option<u64> {
        let heard_ns = self.leader_heard_ns.load(Ordering::Relaxed);
        let age_ns = self.clock.monotonic_ns().saturating_sub(heard_ns);
        (heard_ns > 0).then_some(age_ns / 1_000_000)
    }

    /// Whether nothing may be proposed: no majority agrees on what the state is, or there is no
    /// room for it.
    pub(crate) fn is_read_only(&self) -> bool {
        !self.has_room() || self.alarms.lock().contains(&Alarm::NoStateSumMajority)
    }

    /// Whether the disk has room for more than what is under way.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Judges who sent a message.
    pub(crate) fn admit(&self, sender: &Sender) -> Result<(), Refused> {
        let admitted = self.admission.admit(sender, self.replica.known(sender.node));
        if let Err(refused) = &admitted
            && self.refused.lock().insert(sender.node)
        {
            tracing::error!(peer = sender.node, %refused, "a peer is refused");
        }
        admitted
    }

    /// Notes that a peer and this node get along.
    pub(crate) fn accepted_by(&self, peer: NodeId) {
        self.refused.lock().remove(&peer);
    }

    /// Notes a refusal by a peer.
    pub(crate) fn refused_by(&self, peer: NodeId, refused: &Refused) {
        if *refused == Refused::Removed(self.node) {
            // Ids are never given twice, so whoever says so is right, however far it is.
            self.fatal.removed(refused.to_string());
        }
        if *refused == Refused::LogWentBack(self.node) {
            // Whoever says so has heard from this very directory that it had more. What it did not
            // find at its own start, because it looked like a torn end, is damage all the same.
            self.fatal.corrupt("the end of the log, which peers know of, is missing".to_owned());
        }
        if self.refused.lock().insert(peer) {
            tracing::error!(peer, %refused, "a peer refuses to talk");
        }
    }

    /// This node's clocks now.
    pub(crate) fn reading(&self) -> Reading {
        Reading { monotonic_ns: self.clock.monotonic_ns(), wall_ms: self.clock.wall_ms() }
    }

    /// Whether the node is on its way down.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Raises an alarm.
    pub(crate) fn raise(&self, alarm: Alarm) {
        self.alarms.lock().insert(alarm);
    }

    /// Clears an alarm.
    pub(crate) fn clear(&self, alarm: Alarm) {
        self.alarms.lock().remove(&alarm);
    }

    /// A deadline that begins now.
    pub(crate) fn deadline(&self, after: Duration) -> Deadline {
        let ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Deadline { at_ns: self.clock.monotonic_ns().saturating_add(ns) }
    }

    /// What is left of a deadline.
    pub(crate) fn left(&self, deadline: Deadline) -> Duration {
        Duration::from_nanos(deadline.at_ns.saturating_sub(self.clock.monotonic_ns()))
    }
}

/// A point on this node's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    at_ns: u64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Waits until the node is on its way down.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A closed channel means that nobody is left to stop for.
    let _ = stopping.wait_for(|stop| *stop).await;
}
