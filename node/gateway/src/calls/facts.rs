//! What each member's process says of itself, asked now.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use lease::ids::NodeId;
use serde::Deserialize;

use crate::control::NodeFacts;
use crate::shared::Shared;

/// By node, in order of id; `None`: it did not answer.
pub(super) type Answers = BTreeMap<NodeId, Option<NodeFacts>>;

/// Asks every member of the ledger.
pub(super) async fn of_members(shared: &Shared) -> Answers {
    let members: Vec<NodeId> = {
        let ledger = shared.context.cluster.ledger();
        ledger.members().map(|member| member.node).collect()
    };
    join_all(members.into_iter().map(|node| async move { (node, of_node(shared, node).await) }))
        .await
        .into_iter()
        .collect()
}

/// Asks one node, whichever it is.
pub(super) async fn of_node(shared: &Shared, node: NodeId) -> Option<NodeFacts> {
    /// The part of a node's report that is of interest here.
    #[derive(Deserialize)]
    struct Told {
        node: NodeId,
        #[serde(default)]
        facts: NodeFacts,
    }
    if node == shared.config.node {
        return Some(shared.context.control.facts());
    }
    let answer = shared.context.peers.probe(node, PROBE_TIME).await?;
    let told: Told = serde_json::from_slice(&answer).ok()?;
    (told.node == node).then_some(told.facts)
}

/// For one answer.
const PROBE_TIME: Duration = Duration::from_millis(750);
