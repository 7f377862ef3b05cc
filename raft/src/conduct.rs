//! Follows openraft's state and turns it into what the rest of the node acts on: who leads and
//! whether this node may propose, who the members are, whether openraft has failed.
//!
//! It also beats for the leader's clocks, gives up leadership with a clock that is off, and has
//! the sums that a majority agrees on put into the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lease::ids::NodeId;
use openraft::async_runtime::WatchReceiver;
use openraft::{RaftMetrics, ServerState};

use crate::context::{Context, Leadership, Peers, Raft, count, stopped};
use crate::integrity::Verdict;
use crate::proposer::Proposer;
use crate::replica::AppliedMark;
use crate::status::{Alarm, NodeRole};
use crate::types::{Members, TypeConfig};

/// Runs until the node stops or openraft fails.
pub(crate) async fn conduct(context: Arc<Context>, raft: Raft, proposer: Proposer) {
    let mut server = raft.server_metrics();
    let mut applied = context.replica.applied.subscribe();
    let mut stopping = context.stopping.subscribe();
    let mut beat = tokio::time::interval(Duration::from_millis(context.timing.heartbeat_ms));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut conductor = Conductor { context, raft, proposer, gave_up: 0, gave_up_at_ns: 0 };
    loop {
        conductor.follow();
        tokio::select! {
            () = stopped(&mut stopping) => return,
            changed = server.changed() => {
                if changed.is_err() {
                    conductor.fail("its task has ended");
                    return;
                }
            }
            () = conductor.blank_applied(&mut applied) => {}
            _ = beat.tick() => conductor.beat().await,
        }
        if conductor.report_failure() {
            return;
        }
    }
}

struct Conductor {
    context: Arc<Context>,
    raft: Raft,
    proposer: Proposer,
    /// The last term in which this node gave up leadership because of its clock.
    gave_up: u64,
    /// When that was, by the monotonic clock.
    gave_up_at_ns: u64,
}

impl Conductor {
    /// Waits until the blank entry of the term this node leads is applied.
    async fn blank_applied(&self, applied: &mut tokio::sync::watch::Receiver<AppliedMark>) {
        let Leadership { role, term, ready, .. } = *self.context.leadership.borrow();
        if role != NodeRole::Leader || ready {
            return std::future::pending().await;
        }
        if applied.wait_for(|mark| mark.blank_term == term).await.is_err() {
            std::future::pending().await
        }
    }

    fn follow(&mut self) {
        let (state, vote, leader, members) = {
            let server = self.raft.server_metrics();
            let server = server.borrow_watched();
            let members = peers_of(server.membership_config.membership());
            (server.state, server.vote, server.current_leader, members)
        };
        self.follow_members(members);
        let role = role_of(state);
        let term = vote.leader_id.term;
        let blank_term = self.context.replica.applied.borrow().blank_term;
        let ready = role == NodeRole::Leader && blank_term == term;
        let new = Leadership { role, term, leader, ready };
        let old = *self.context.leadership.borrow();
        if new == old {
            return;
        }
        if new.ready && !(old.ready && old.term == new.term) {
            // What an earlier term found is found again from the voters' sums, if it is still so.
            self.context.clear(Alarm::NoStateSumMajority);
            let ledger = self.context.replica.ledger_clock();
            self.context.lead.start(term, self.context.reading(), ledger);
        }
        if new.leader != old.leader && new.leader.is_some() {
            count(&self.context.counters.leader_changes, 1);
            tracing::info!(node = self.context.node, term, leader = ?new.leader, "leader changed");
        }
        self.context.leadership.send_replace(new);
    }

    fn follow_members(&self, members: Peers) {
        let changed = *self.context.peers.borrow() != members;
        if changed {
            let now_ns = self.context.clock.monotonic_ns();
            self.context.lead.set_voters(members.voters.clone(), now_ns);
            let peers = members.addresses.clone().into_iter().collect();
            self.context.transport.set_peers(peers);
            self.context.peers.send_replace(members);
        }
    }

    async fn beat(&mut self) {
        let Leadership { role, term, ready, .. } = *self.context.leadership.borrow();
        let now_ns = self.context.clock.monotonic_ns();
        // Only a leader compares rates. One that gave up is not compared any more; should it lead
        // again with the same clock, it finds out within seconds.
        if self.gave_up > 0 && now_ns.saturating_sub(self.gave_up_at_ns) >= CLOCK_ALARM_NS {
            self.context.clear(Alarm::ClockRate);
        }
        if role != NodeRole::Leader {
            return;
        }
        let lead = &self.context.lead;
        lead.beat(term, now_ns);
        if !ready {
            return;
        }
        if lead.is_off(term) && self.gave_up != term {
            (self.gave_up, self.gave_up_at_ns) = (term, now_ns);
            self.context.raise(Alarm::ClockRate);
            tracing::error!("this node's clock is more than 1 % off; it gives up leadership");
            self.give_up().await;
        }
        let own_sum = self.context.replica.newest_sum();
        match lead.decide(term, own_sum, self.context.clock.monotonic_ns()) {
            Some(Verdict::Agreed(sum)) => {
                self.context.clear(Alarm::NoStateSumMajority);
                self.proposer.agree_state_sum(sum.index, sum.sum);
            }
            Some(Verdict::NoMajority(index)) => {
                self.context.raise(Alarm::NoStateSumMajority);
                tracing::error!(index, "no majority of voters agrees on the state");
            }
            None => {}
        }
    }

    /// Hands leadership to the most up-to-date other voter, without waiting for it.
    async fn give_up(&self) {
        let Some(to) = successor(&self.context, &self.raft) else { return };
        if let Err(error) = self.raft.trigger().transfer_leader(to).await {
            tracing::warn!(%error, to, "leadership was not handed over");
        }
    }

    /// Whether openraft has failed; the node must not go on then.
    fn report_failure(&self) -> bool {
        let failure = self.raft.metrics().borrow_watched().running_state.clone().err();
        let Some(failure) = failure else { return false };
        self.fail(&failure.to_string());
        true
    }

    fn fail(&self, why: &str) {
        if !self.context.is_stopping() {
            self.context.fatal.fail(format!("consensus has stopped: {why}"));
        }
        let old = *self.context.leadership.borrow();
        let stopped = Leadership { role: NodeRole::Stopped, leader: None, ready: false, ..old };
        self.context.leadership.send_replace(stopped);
    }
}

/// How long an alarm about this node's rate outlives the leadership it cost.
const CLOCK_ALARM_NS: u64 = 10 * 60 * 1_000_000_000;

/// The other voter whose log is longest, as far as this leader knows.
pub(crate) fn successor(context: &Context, raft: &Raft) -> Option<NodeId> {
    let metrics = raft.metrics();
    let metrics: &RaftMetrics<TypeConfig> = &metrics.borrow_watched();
    let matched: BTreeMap<NodeId, Option<u64>> = metrics
        .replication
        .iter()
        .flatten()
        .map(|(id, matched)| (*id, matched.map(|id| id.index)))
        .collect();
    metrics
        .membership_config
        .membership()
        .voter_ids()
        .filter(|voter| *voter != context.node)
        .max_by_key(|voter| matched.get(voter).copied().flatten())
}

/// The membership in force on this node as openraft has it now: a change that has just been made
/// is in it, before the rest of the node has heard of it.
pub(crate) fn newest_peers(raft: &Raft) -> Peers {
    peers_of(raft.server_metrics().borrow_watched().membership_config.membership())
}

fn peers_of(members: &Members) -> Peers {
    Peers {
        voters: members.get_joint_config().clone(),
        addresses: members.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

fn role_of(state: ServerState) -> NodeRole {
    match state {
        ServerState::Learner => NodeRole::Learner,
        ServerState::Follower => NodeRole::Follower,
        ServerState::Candidate => NodeRole::Candidate,
        ServerState::Leader => NodeRole::Leader,
        ServerState::Shutdown => NodeRole::Stopped,
    }
}
