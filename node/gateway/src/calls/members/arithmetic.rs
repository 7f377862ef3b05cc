//! Whether the voters that are left are enough: counted before a node is taken away.
//!
//! Who answers is asked now, over the peer links; what was last heard of a node counts for nothing,
//! and a node that is on its way down is counted as if it were down.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use lease::ids::NodeId;
use protocol::cloud::problem::Problem;
use raft::PeerStatus;

use crate::calls::facts;
use crate::control::NodeFacts;
use crate::failure::Failure;
use crate::shared::Shared;

/// Lets a node be removed, or says why not, with the arithmetic.
pub(super) async fn may_be_removed(
    shared: &Shared,
    node: NodeId,
    peers: &[PeerStatus],
    force: bool,
) -> Result<(), Failure> {
    let voters = voters_of(peers);
    if !voters.contains(&node) {
        return Ok(());
    }
    let remaining: BTreeSet<NodeId> =
        voters.iter().copied().filter(|voter| *voter != node).collect();
    if remaining.is_empty() {
        let problem = Problem::new(409, "last_voter", "It is the only voter.")
            .detail(format!("node {node} is the only voter; add another first"));
        return Err(problem.into());
    }
    if force {
        return Ok(());
    }
    let silent = silent_among(shared, &remaining).await;
    match removal(node, &remaining, &silent) {
        None => Ok(()),
        Some(sentence) => Err(Problem::new(
            409,
            "quorum_would_be_lost",
            "The voters that are left would be no quorum.",
        )
        .detail(sentence)
        .into()),
    }
}

/// Lets a voter be stopped, or says who has to come back first.
pub(super) async fn may_be_stopped(
    shared: &Shared,
    node: NodeId,
    peers: &[PeerStatus],
) -> Result<(), Failure> {
    let voters = voters_of(peers);
    if !voters.contains(&node) {
        return Ok(());
    }
    let others: BTreeSet<NodeId> = voters.iter().copied().filter(|voter| *voter != node).collect();
    let silent = silent_among(shared, &others).await;
    match stop(node, &voters, &silent) {
        None => Ok(()),
        Some(sentence) => Err(Problem::new(
            409,
            "quorum_would_be_lost",
            "The others that are up are no quorum without it.",
        )
        .detail(sentence)
        .into()),
    }
}

/// Whether a node says how it stands.
pub(super) async fn answers(shared: &Shared, node: NodeId) -> bool {
    node == shared.config.node || shared.context.peers.probe(node, PROBE_TIME).await.is_some()
}

async fn silent_among(shared: &Shared, nodes: &BTreeSet<NodeId>) -> Vec<NodeId> {
    let asked = nodes.iter().map(|node| async {
        let facts = facts::of_node(shared, *node).await;
        (*node, facts.as_ref().is_some_and(counts))
    });
    let answered = join_all(asked).await;
    answered.into_iter().filter(|(_, up)| !up).map(|(node, _)| node).collect()
}

/// Whether a node that answers is there to stay: one that drains answers to the end.
fn counts(facts: &NodeFacts) -> bool {
    !facts.draining
}

fn voters_of(peers: &[PeerStatus]) -> BTreeSet<NodeId> {
    peers.iter().filter(|peer| peer.voter).map(|peer| peer.id).collect()
}

/// Why a removal would lose the quorum; `None`: it would not.
fn removal(node: NodeId, remaining: &BTreeSet<NodeId>, silent: &[NodeId]) -> Option<String> {
    let needed = majority(remaining.len());
    let answering = remaining.len() - silent.len();
    (answering < needed).then(|| {
        format!(
            "without node {node} the voters are {}, a majority of them is {needed}, and \
             {answering} answer{}: bring {} back first; --force removes it all the same, and \
             nothing can be written until enough of them are back",
            names(remaining.iter().copied()),
            if answering == 1 { "s" } else { "" },
            names(silent.iter().copied()),
        )
    })
}

/// Why a stop would lose the quorum; `None`: it would not.
fn stop(node: NodeId, voters: &BTreeSet<NodeId>, silent: &[NodeId]) -> Option<String> {
    let needed = majority(voters.len());
    let answering = voters.len() - 1 - silent.len();
    if answering >= needed {
        return None;
    }
    Some(if silent.is_empty() {
        format!(
            "without node {node} only {answering} of {} voters are up, and {needed} are needed; \
             --force stops it all the same, and nothing is served until it is back",
            voters.len()
        )
    } else {
        let (verb, them) = if silent.len() == 1 { ("is", "it") } else { ("are", "them") };
        format!("{} {verb} down; bring {them} back first", names(silent.iter().copied()))
    })
}

/// `node 1`, `nodes 1 and 3`, `nodes 1, 2 and 3`.
fn names(nodes: impl Iterator<Item = NodeId>) -> String {
    let nodes: Vec<String> = nodes.map(|node| node.to_string()).collect();
    match nodes.as_slice() {
        [] => "nobody".to_owned(),
        [one] => format!("node {one}"),
        [first @ .., last] => format!("nodes {} and {last}", first.join(", ")),
    }
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// How long a node may take to say how it stands.
const PROBE_TIME: Duration = Duration::from_millis(750);

#[cfg(test)]
mod tests {
    use super::*;

    /// The node, who is counted, who does not answer, what is said.
    type Row = (NodeId, &'static [NodeId], &'static [NodeId], Option<&'static str>);

    #[test]
    fn a_removal_that_would_lose_the_quorum_says_its_arithmetic() {
        let table: [Row; 7] = [
            (1, &[2, 3], &[], None),
            (1, &[2, 3], &[3], Some("voters are nodes 2 and 3, a majority of them is 2, and 1")),
            (1, &[2, 3], &[2, 3], Some("bring nodes 2 and 3 back first")),
            (1, &[2], &[], None),
            (1, &[2], &[2], Some("node 2, a majority of them is 1, and 0 answer")),
            (5, &[1, 2, 3, 4], &[4], None),
            (5, &[1, 2, 3, 4], &[3, 4], Some("a majority of them is 3, and 2 answer")),
        ];
        for (node, remaining, silent, want) in table {
            let said = removal(node, &remaining.iter().copied().collect(), silent);
            match want {
                None => assert_eq!(said, None, "{node} of {remaining:?}"),
                Some(words) => {
                    assert!(said.as_ref().is_some_and(|it| it.contains(words)), "{said:?}")
                }
            }
        }
    }

    #[test]
    fn a_node_on_its_way_down_does_not_count() {
        for draining in [false, true] {
            let facts = NodeFacts { draining, ..NodeFacts::default() };
            assert_eq!(counts(&facts), !draining);
        }
    }

    #[test]
    fn a_stop_names_who_has_to_come_back_first() {
        let table: [Row; 6] = [
            (1, &[1, 2, 3], &[], None),
            (1, &[1, 2, 3], &[2], Some("node 2 is down; bring it back first")),
            (1, &[1, 2, 3], &[2, 3], Some("nodes 2 and 3 are down; bring them back first")),
            (1, &[1, 2], &[], Some("only 1 of 2 voters are up, and 2 are needed")),
            (1, &[1], &[], Some("only 0 of 1 voters")),
            (1, &[1, 2, 3, 4, 5], &[5], None),
        ];
        for (node, voters, silent, want) in table {
            let said = stop(node, &voters.iter().copied().collect(), silent);
            match want {
                None => assert_eq!(said, None, "{node} of {voters:?}"),
                Some(words) => {
                    assert!(said.as_ref().is_some_and(|it| it.contains(words)), "{said:?}")
                }
            }
        }
    }
}
