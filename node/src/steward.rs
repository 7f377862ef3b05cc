//! The leader's steward: carries over to consensus what the ledger says of members, and back.
//!
//! ```text
//! a ticket was used          ─ the node becomes a learner
//! it has caught up           ─ it votes, unless its ticket says learner
//! it takes another's place   ─ that one leaves consensus, then the ledger
//! nothing is left to do      ─ its ticket is done with
//! a former member            ─ leaves consensus
//! a member outside consensus ─ leaves the ledger (a removal was cut short)
//! a key that verifies no more ─ is forgotten
//! ```
//!
//! Each step names a state to reach and looks at what is there, so whoever leads next goes on where
//! this one stopped. A step is chosen by one pure function ([`next_step`]).
//!
//! On every node, the same task tells the peer link whom the ledger knows, and ends the node when
//! the ledger says that it was removed.
//!
//! What it leaves to others: letting a node in (`gateway`), how consensus changes (`raft`).

use std::sync::Arc;
use std::time::Duration;

use lease::Ledger;
use lease::command::{Command, Member};
use lease::entry::{Actor, Envelope};
use lease::ids::{Name, NodeId, TraceId};
use lease::operate::RemoveMember;
use lease::outcome::Outcome;
use raft::{Change, Cluster, PeerStatus, Status};
use storage::seam::Clock;
use tracing::{debug, info, warn};

use crate::peer::PeerTable;

/// What the steward works with.
pub(crate) struct Steward {
    pub(crate) node: NodeId,
    pub(crate) cluster: Cluster,
    pub(crate) table: PeerTable,
    pub(crate) clock: Arc<dyn Clock>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Consensus(Change),
    Ledger(Command),
    /// A member that is not in consensus and not on its way in; not before it was seen twice.
    Lonely(NodeId),
}

impl Steward {
    /// Runs as long as the node is a member; the error says that it is one no more.
    pub(crate) async fn run(self) -> Result<(), Removed> {
        let mut lonely: Option<(NodeId, u64)> = None;
        loop {
            let next = self.cluster.status().applied.map_or(0, |applied| applied.index + 1);
            let (busy, step) = {
                let status = self.cluster.status();
                let ledger = self.cluster.ledger();
                self.tell_table(&ledger);
                if ledger.former_members().any(|former| former.node == self.node) {
                    return Err(Removed);
                }
                let leads = status.leads_with_quorum(self.cluster.failover_bound());
                let step = if leads { next_step(&ledger, &status) } else { None };
                (leads && ledger.tickets().any(|ticket| ticket.joined), step)
            };
            if !matches!(step, Some(Step::Lonely(_))) {
                lonely = None;
            }
            match step {
                Some(Step::Lonely(node)) => {
                    let now_ns = self.clock.monotonic_ns();
                    match lonely {
                        Some((seen, since_ns)) if seen == node => {
                            if now_ns.saturating_sub(since_ns) >= LONELY_NS {
                                self.decide(removal(node, "it had left consensus")).await;
                            }
                        }
                        _ => lonely = Some((node, now_ns)),
                    }
                    tokio::time::sleep(BUSY_LOOK).await;
                }
                Some(step) => {
                    if !self.take(step).await {
                        tokio::time::sleep(BUSY_LOOK).await;
                    }
                }
                None => {
                    // A learner catches up without an entry of its own.
                    let wait = if busy { BUSY_LOOK } else { IDLE_LOOK };
                    let applied = self.cluster.wait_applied(next);
                    let _ = tokio::time::timeout(wait, applied).await;
                    // A busy cluster applies without end; members change now and then.
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    fn tell_table(&self, ledger: &Ledger) {
        self.table.learn(
            ledger.members().map(|member| member.node),
            ledger.former_members().map(|former| former.node),
        );
    }

    /// Takes a step; `false` when it was not to be had now.
    async fn take(&self, step: Step) -> bool {
        match step {
            Step::Consensus(change) => {
                info!(?change, "members: changing consensus");
                match self.cluster.change(change, PATIENCE).await {
                    Ok(_) => true,
                    Err(error) => {
                        warn!(%error, "members: consensus was not changed; it is tried again");
                        false
                    }
                }
            }
            Step::Ledger(command) => self.decide(command).await,
            Step::Lonely(_) => false,
        }
    }

    async fn decide(&self, command: Command) -> bool {
        let envelope = Envelope {
            actor: Actor::Node(self.node),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        };
        match self.cluster.submit(vec![envelope], PATIENCE).await {
            Ok(submitted) => {
                self.cluster.wait_applied(submitted.index).await;
                match submitted.outcomes.first() {
                    Some(Outcome::Refused(refusal)) => {
                        warn!(code = ?refusal.code, "members: the ledger refused");
                        false
                    }
                    _ => true,
                }
            }
            Err(error) => {
                debug!(%error, "members: a step waits for a quorum");
                false
            }
        }
    }
}

/// This node was removed from the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removed;

/// What has to be done next, if anything, on a leader with a quorum.
fn next_step(ledger: &Ledger, status: &Status) -> Option<Step> {
    let peer = |node: NodeId| status.peers.iter().find(|peer| peer.id == node);
    for ticket in ledger.tickets().filter(|ticket| ticket.joined) {
        let member = ledger.member(ticket.node)?;
        let Some(joining) = peer(ticket.node) else {
            return Some(Step::Consensus(Change::AddLearner {
                node: member.node,
                address: member.peer_address.to_string(),
            }));
        };
        if !joining.voter && !has_caught_up(joining, status) {
            continue;
        }
        // A promotion that lost its leader half way is finished by asking for it again.
        let votes_for_good = joining.voter && status.is_settled;
        if !(votes_for_good || ticket.learner) {
            return Some(Step::Consensus(Change::Promote { node: ticket.node }));
        }
        let replaced = ticket.replaces.filter(|old| joining.voter && *old != ticket.node);
        if let Some(old) = replaced.filter(|old| peer(*old).is_some()) {
            return Some(Step::Consensus(Change::Remove { node: old }));
        }
        if let Some(old) = replaced.filter(|old| ledger.member(*old).is_some()) {
            let reason = format!("node {} has taken its place", ticket.node);
            return Some(Step::Ledger(removal(old, &reason)));
        }
        return Some(Step::Ledger(Command::CompleteJoin { node: ticket.node }));
    }
    if let Some(former) = ledger.former_members().find(|former| peer(former.node).is_some()) {
        return Some(Step::Consensus(Change::Remove { node: former.node }));
    }
    let is_outside =
        |member: &&Member| peer(member.node).is_none() && ledger.ticket(member.node).is_none();
    if let Some(outside) = ledger.members().find(is_outside) {
        return Some(Step::Lonely(outside.node));
    }
    over_key(ledger).map(|kid| Step::Ledger(Command::ForgetSigningKey { kid }))
}

/// A signing key that verifies nothing any more.
fn over_key(ledger: &Ledger) -> Option<Name> {
    let civil_ms = ledger.clock().civil_ms;
    ledger
        .signing_keys()
        .find(|key| {
            ledger.retired_key(&key.kid).is_some_and(|retired| civil_ms > retired.verifies_until_ms)
        })
        .map(|key| key.kid.clone())
}

/// Whether a learner answers and is not far behind: from then on its vote helps more than it hurts.
fn has_caught_up(peer: &PeerStatus, status: &Status) -> bool {
    let last = status.last_log.unwrap_or(0);
    peer.ack_age_ms.is_some_and(|age_ms| age_ms <= FRESH_ACK_MS)
        && peer.matched.is_some_and(|matched| last.saturating_sub(matched) <= MAX_LAG)
}

fn removal(node: NodeId, reason: &str) -> Command {
    Command::RemoveMember(RemoveMember { node, revoke_tokens: false, reason: reason.into() })
}

/// Entries that a learner may lack when it gets its vote: what a busy leader has in flight.
const MAX_LAG: u64 = 512;
/// Age of the acknowledgement that shows that a learner answers.
const FRESH_ACK_MS: u64 = 5_000;
/// For one step.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks while a node is on its way in.
const BUSY_LOOK: Duration = Duration::from_millis(100);
/// Between two looks while nothing is applied: keys end by time alone.
const IDLE_LOOK: Duration = Duration::from_secs(60);
/// At least so long between two looks.
const REST: Duration = Duration::from_millis(100);
/// How long a member must have been seen outside consensus before it is taken for removed.
const LONELY_NS: u64 = 10_000_000_000;

#[cfg(test)]
mod tests;
