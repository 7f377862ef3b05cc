//! Changes that operators ask for: members and leadership.
//!
//! A change is carried out by whoever leads. Any node takes it and carries it there over the peer
//! link, and tries again within the deadline while leadership moves. Each names a state to reach,
//! so that one whose answer was lost can be asked again: what is so already is not proposed.
//!
//! openraft changes voters in two entries (a joint membership and the one after it), one change at
//! a time; a change that lost its leader in between is finished by asking for it again. A leader
//! that is to be removed hands leadership on first, and the next one removes it.
//!
//! A joint membership that no majority of the new voters acknowledges could never be left again. So
//! a learner gets its vote only while it answers, has caught up, and a majority with it answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lease::ids::NodeId;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers, RaftMetrics};
use serde::{Deserialize, Serialize};

use crate::conduct::{newest_peers, successor};
use crate::context::{Context, Raft};
use crate::frames::{Answer, AskChange, Changed, decode, encode};
use crate::transport::PeerCall;
use crate::types::TypeConfig;

/// What is to become of the members. Part of what peers say to each other; append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A node follows without a vote. Done when that is committed, not when it has caught up.
    AddLearner {
        /// Its number.
        node: NodeId,
        /// Where peers reach it, `host:port`.
        address: String,
    },
    /// A learner votes. Not possible unless it answers, has caught up, and a majority with it
    /// answers; waited for half the time given.
    Promote {
        /// Its number.
        node: NodeId,
    },
    /// A node, voter or learner, is a member no more.
    Remove {
        /// Its number.
        node: NodeId,
    },
    /// Another node leads.
    TransferLeader {
        /// Which; `None`: the most up-to-date other voter.
        to: Option<NodeId>,
    },
    /// A member is reached elsewhere from now on.
    SetAddress {
        /// Its number.
        node: NodeId,
        /// Where peers reach it, `host:port`.
        address: String,
    },
}

/// Why the membership or the leader was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader can; ask this one.
    #[error("this node does not lead")]
    NotLeader(Option<NodeId>),
    /// Another change of the members is not finished.
    #[error("another change of the members is under way")]
    InProgress,
    /// Not possible as things stand.
    #[error("the change is not possible: {0}")]
    NotPossible(String),
    /// Not done within the deadline; it may yet happen.
    #[error("the change was not seen within the deadline")]
    Timeout,
    /// The node has failed or is stopping.
    #[error("the node has failed: {0}")]
    Failed(String),
}

type Wanted = ChangeMembers<NodeId, BasicNode>;

/// Who may lead, while none is known.
#[derive(Default)]
struct Guess {
    told: Option<NodeId>,
    turn: usize,
}

/// Carries changes to the leader, and carries them out there.
#[derive(Clone)]
pub(crate) struct Changer {
    pub(crate) context: Arc<Context>,
    pub(crate) raft: Raft,
}

impl Changer {
    /// Has whoever leads make a change; gives who leads afterwards.
    pub(crate) async fn change(
        &self,
        change: &Change,
        wait: Duration,
    ) -> Result<NodeId, ChangeError> {
        let deadline = self.context.deadline(wait);
        let mut first_leader = None;
        let mut guess = Guess::default();
        let mut hindrance = ChangeError::NotLeader(None);
        loop {
            if let Some(reason) = self.context.fatal.reason() {
                return Err(ChangeError::Failed(reason));
            }
            if self.context.is_stopping() {
                return Err(ChangeError::Failed("it is shutting down".to_owned()));
            }
            let left = self.context.left(deadline);
            if left.is_zero() {
                return Err(hindrance);
            }
            let mut leadership = self.context.leadership.subscribe();
            let leader = leadership.borrow_and_update().leader;
            // Handing leadership to anybody is done once: a lost answer must not hand it on.
            if *change == (Change::TransferLeader { to: None })
                && let (Some(first), Some(now)) = (first_leader, leader)
                && first != now
            {
                return Ok(now);
            }
            first_leader = first_leader.or(leader);
            let asked = leader.or_else(|| self.somebody(&mut guess));
            let tried = match asked {
                Some(leader) if leader == self.context.node => self.perform(change, left).await,
                Some(leader) => self.forward(leader, change, left).await,
                None => Err(ChangeError::NotLeader(None)),
            };
            match tried {
                Err(ChangeError::NotLeader(to)) if asked.is_some() => {
                    guess.told = to;
                    hindrance = ChangeError::NotLeader(to);
                }
                Err(
                    error @ (ChangeError::NotLeader(_)
                    | ChangeError::InProgress
                    | ChangeError::Timeout),
                ) => hindrance = error,
                ended => return ended,
            }
            let pause = RETRY_PAUSE.min(self.context.left(deadline));
            // A closed channel means that the node stops, which the next round sees.
            let _ = tokio::time::timeout(pause, leadership.changed()).await;
        }
    }

    /// Whom to ask while no leader is known: whom another node named, else the members in turn. A
    /// node that has moved hears of no leader, since the leader looks for it where it was.
    fn somebody(&self, guess: &mut Guess) -> Option<NodeId> {
        let me = self.context.node;
        if let Some(told) = guess.told.take().filter(|told| *told != me) {
            return Some(told);
        }
        let peers = self.context.peers.borrow();
        let others: Vec<NodeId> =
            peers.addresses.keys().copied().filter(|peer| *peer != me).collect();
        guess.turn += 1;
        others.get(guess.turn % others.len().max(1)).copied()
    }

    async fn forward(
        &self,
        leader: NodeId,
        change: &Change,
        left: Duration,
    ) -> Result<NodeId, ChangeError> {
        let deadline_ms = u64::try_from((left - left / 10).as_millis()).unwrap_or(u64::MAX);
        let body = AskChange { deadline_ms, change: change.clone() };
        let message = encode(&self.context.request(leader, body));
        let calling = self.context.transport.call(leader, PeerCall::Change, message, left);
        let answer = match tokio::time::timeout(left, calling).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if !error.may_have_arrived() => {
                return Err(ChangeError::NotLeader(None));
            }
            Ok(Err(_)) | Err(_) => return Err(ChangeError::Timeout),
        };
        let Ok(answer) = decode::<Answer<Changed>>(&answer) else {
            return Err(ChangeError::Timeout);
        };
        if answer.sender.node != leader || self.context.admit(&answer.sender).is_err() {
            return Err(ChangeError::Timeout);
        }
        match answer.body {
            Ok(Changed::Done { leader }) => Ok(leader),
            Ok(Changed::NotLeader(to)) => Err(ChangeError::NotLeader(to)),
            Ok(Changed::InProgress) => Err(ChangeError::InProgress),
            Ok(Changed::NotPossible(why)) => Err(ChangeError::NotPossible(why)),
            Ok(Changed::Timeout) => Err(ChangeError::Timeout),
            Err(refused) => {
                self.context.refused_by(leader, &refused);
                Err(ChangeError::NotLeader(None))
            }
        }
    }

    /// Makes a change on this node, if it leads; gives who leads afterwards.
    pub(crate) async fn perform(
        &self,
        change: &Change,
        wait: Duration,
    ) -> Result<NodeId, ChangeError> {
        let leader = self.context.leadership.borrow().leader;
        if leader != Some(self.context.node) {
            return Err(ChangeError::NotLeader(leader));
        }
        if let Change::TransferLeader { to } = change {
            return transfer_leader(&self.context, &self.raft, *to, wait).await;
        }
        if let Change::Remove { node } = change
            && *node == self.context.node
        {
            let next = transfer_leader(&self.context, &self.raft, None, wait).await?;
            return Err(ChangeError::NotLeader(Some(next)));
        }
        if let Change::Promote { node } = change {
            self.can_vote(*node, wait / 2).await?;
        }
        let Some((wanted, retain)) = self.missing(change)? else { return Ok(self.context.node) };
        let changing = self.raft.change_membership(wanted, retain);
        match tokio::time::timeout(wait, changing).await {
            Ok(Ok(_)) => Ok(self.context.node),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(ChangeError::Timeout),
        }
    }

    /// Waits until a learner can be given a vote, or says what is in the way.
    async fn can_vote(&self, node: NodeId, wait: Duration) -> Result<(), ChangeError> {
        let deadline = self.context.deadline(wait);
        loop {
            let leadership = *self.context.leadership.borrow();
            if leadership.leader != Some(self.context.node) {
                return Err(ChangeError::NotLeader(leadership.leader));
            }
            let Some(why) = self.in_the_way_of_vote(node, leadership.term) else { return Ok(()) };
            let left = self.context.left(deadline);
            if left.is_zero() {
                return Err(ChangeError::NotPossible(why));
            }
            tokio::time::sleep(RETRY_PAUSE.min(left)).await;
        }
    }

    fn in_the_way_of_vote(&self, node: NodeId, term: u64) -> Option<String> {
        let peers = newest_peers(&self.raft);
        let voters = peers.voters.last()?;
        // A change that lost its leader half way is only to be finished.
        if voters.contains(&node) || !peers.addresses.contains_key(&node) {
            return None;
        }
        let own = self.context.reading();
        let fresh_ms = FRESH_ELECTIONS * self.context.timing.election_max_ms;
        let answers = |peer: NodeId| {
            let acked = self.context.lead.peer(term, peer, own);
            peer == self.context.node || acked.is_some_and(|(age_ms, _)| age_ms <= fresh_ms)
        };
        let metrics: RaftMetrics<TypeConfig> = self.raft.metrics().borrow_watched().clone();
        let matched =
            metrics.replication.as_ref().and_then(|all| all.get(&node).cloned().flatten());
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        let lag = last.saturating_sub(matched.map_or(0, |id| id.index + 1));
        let with_it: BTreeSet<NodeId> = voters.iter().copied().chain([node]).collect();
        let silent: BTreeSet<NodeId> =
            with_it.iter().copied().filter(|peer| !answers(*peer)).collect();
        hindrance(node, &with_it, &silent, lag)
    }

    /// What openraft has to be asked for, and whether voters that lose their vote stay as learners;
    /// nothing where the membership is as wanted.
    fn missing(&self, change: &Change) -> Result<Option<(Wanted, bool)>, ChangeError> {
        let peers = newest_peers(&self.raft);
        let is_settled = peers.voters.len() == 1;
        let votes = |node: &NodeId| peers.voters.last().is_some_and(|set| set.contains(node));
        let is_voter = |node: &NodeId| peers.voters.iter().any(|set| set.contains(node));
        let nodes = |node: NodeId, address: &str| {
            std::collections::BTreeMap::from([(node, BasicNode { addr: address.to_owned() })])
        };
        Ok(match change {
            Change::AddLearner { node, .. } if peers.addresses.contains_key(node) => None,
            Change::AddLearner { node, address } => {
                Some((ChangeMembers::AddNodes(nodes(*node, address)), true))
            }
            Change::Promote { node } if votes(node) && is_settled => None,
            Change::Promote { node } if !peers.addresses.contains_key(node) => {
                return Err(ChangeError::NotPossible(format!("node {node} is not a member")));
            }
            Change::Promote { node } => {
                Some((ChangeMembers::AddVoterIds(BTreeSet::from([*node])), false))
            }
            Change::Remove { node } if !peers.addresses.contains_key(node) => None,
            // `retain: false` removes the node itself with its vote.
            Change::Remove { node } if is_voter(node) => {
                Some((ChangeMembers::RemoveVoters(BTreeSet::from([*node])), false))
            }
            Change::Remove { node } => {
                Some((ChangeMembers::RemoveNodes(BTreeSet::from([*node])), true))
            }
            Change::SetAddress { node, address } => match peers.addresses.get(node) {
                Some(known) if known == address => None,
                Some(_) => Some((ChangeMembers::SetNodes(nodes(*node, address)), true)),
                None => {
                    return Err(ChangeError::NotPossible(format!("node {node} is not a member")));
                }
            },
            Change::TransferLeader { .. } => None,
        })
    }
}

/// Why a learner gets no vote, `lag` entries behind; `None`: it may have it.
fn hindrance(
    node: NodeId,
    with_it: &BTreeSet<NodeId>,
    silent: &BTreeSet<NodeId>,
    lag: u64,
) -> Option<String> {
    if silent.contains(&node) {
        return Some(format!(
            "node {node} does not answer: it is down, or cut off; start it first, its vote would \
             count against the quorum"
        ));
    }
    if lag > MAX_LAG {
        return Some(format!(
            "node {node} lacks {lag} entries, and {MAX_LAG} are allowed; wait until it has caught \
             up"
        ));
    }
    let (needed, answering) = (with_it.len() / 2 + 1, with_it.len() - silent.len());
    let names = |nodes: &BTreeSet<NodeId>| {
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    (answering < needed).then(|| {
        format!(
            "with node {node} the voters are {}, a majority of them is {needed}, and {answering} \
             answer; these do not: {}",
            names(with_it),
            names(silent)
        )
    })
}

/// openraft's hand-over is fire and forget, so the outcome is watched for.
pub(crate) async fn transfer_leader(
    context: &Context,
    raft: &Raft,
    to: Option<NodeId>,
    wait: Duration,
) -> Result<NodeId, ChangeError> {
    let mut leadership = context.leadership.subscribe();
    let leader = leadership.borrow_and_update().leader;
    if leader != Some(context.node) {
        return Err(ChangeError::NotLeader(leader));
    }
    let to = match to {
        Some(to) if to == context.node => return Ok(to),
        Some(to) if newest_peers(raft).voters.iter().all(|set| set.contains(&to)) => to,
        Some(to) => return Err(ChangeError::NotPossible(format!("node {to} does not vote"))),
        None => successor(context, raft)
            .ok_or_else(|| ChangeError::NotPossible("there is no other voter".to_owned()))?,
    };
    let triggered = raft.trigger().transfer_leader(to).await;
    triggered.map_err(|error| ChangeError::Failed(error.to_string()))?;
    let other = leadership.wait_for(|now| now.leader.is_some_and(|it| it != context.node));
    match tokio::time::timeout(wait, other).await {
        Ok(Ok(now)) => Ok(now.leader.unwrap_or(to)),
        Ok(Err(closed)) => Err(ChangeError::Failed(closed.to_string())),
        Err(_) => Err(ChangeError::Timeout),
    }
}

fn refused(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ChangeError {
    use ChangeMembershipError as Membership;
    match error {
        RaftError::APIError(
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to),
        ) => ChangeError::NotLeader(to.leader_id),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            Membership::InProgress(_) | Membership::UncommittedLeaderLog(_),
        )) => ChangeError::InProgress,
        RaftError::APIError(other) => ChangeError::NotPossible(other.to_string()),
        RaftError::Fatal(error) => ChangeError::Failed(error.to_string()),
    }
}

/// Between two tries when nothing new is heard of the leader.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Entries that a learner may lack when it gets its vote: what a busy leader has in flight.
const MAX_LAG: u64 = 512;
/// Age of the acknowledgement that shows that a node answers, in upper election timeouts.
const FRESH_ELECTIONS: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_is_given_where_a_majority_with_it_answers() {
        let set = |nodes: &[NodeId]| nodes.iter().copied().collect::<BTreeSet<_>>();
        type Row = (&'static [NodeId], &'static [NodeId], u64, Option<&'static str>);
        let table: [Row; 8] = [
            (&[1, 2, 3, 4], &[], 0, None),
            (&[1, 2, 3, 4], &[], MAX_LAG, None),
            (&[1, 2, 3, 4], &[], MAX_LAG + 1, Some("lacks 513 entries")),
            (&[1, 2, 3, 4], &[4], 0, Some("node 4 does not answer")),
            (&[1, 2, 3, 4], &[3], 0, None),
            (&[1, 2, 3, 4], &[2, 3], 0, Some("a majority of them is 3, and 2 answer")),
            (&[1, 4], &[], 0, None),
            (&[1, 4], &[4], 0, Some("node 4 does not answer")),
        ];
        for (with_it, silent, lag, want) in table {
            let said = hindrance(4, &set(with_it), &set(silent), lag);
            match want {
                None => assert_eq!(said, None, "{with_it:?} without {silent:?}"),
                Some(words) => {
                    assert!(said.as_ref().is_some_and(|it| it.contains(words)), "{said:?}")
                }
            }
        }
    }
}
