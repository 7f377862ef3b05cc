//! Changes that operators ask for: members and leadership.

use std::collections::BTreeSet;
use std::time::Duration;

use lease::ids::NodeId;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};

use crate::conduct::successor;
use crate::context::{Context, Raft};
use crate::types::TypeConfig;

/// Why the membership or the leader was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader can; ask this one.
    #[error("this node does not lead")]
    NotLeader(Option<NodeId>),
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
        Some(to) if context.peers.borrow().voters.iter().all(|set| set.contains(&to)) => to,
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

pub(crate) async fn add_learner(
    raft: &Raft,
    node: NodeId,
    addr: String,
) -> Result<(), ChangeError> {
    raft.add_learner(node, BasicNode { addr }, false).await.map(drop).map_err(refused)
}

pub(crate) async fn promote(raft: &Raft, node: NodeId) -> Result<(), ChangeError> {
    let change = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
    raft.change_membership(change, false).await.map(drop).map_err(refused)
}

pub(crate) async fn remove(raft: &Raft, node: NodeId) -> Result<(), ChangeError> {
    let is_voter = raft.voter_ids().any(|voter| voter == node);
    let nodes = BTreeSet::from([node]);
    let change: ChangeMembers<NodeId, BasicNode> = if is_voter {
        // `retain: false` removes the node itself with its vote.
        ChangeMembers::RemoveVoters(nodes)
    } else {
        ChangeMembers::RemoveNodes(nodes)
    };
    raft.change_membership(change, false).await.map(drop).map_err(refused)
}

fn refused(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
            ChangeError::NotLeader(to.leader_id)
        }
        RaftError::APIError(other) => ChangeError::NotPossible(other.to_string()),
        RaftError::Fatal(error) => ChangeError::Failed(error.to_string()),
    }
}
