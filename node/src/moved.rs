//! A node whose address or labels were changed in its configuration tells the others.
//!
//! Its configuration is right about itself: what the membership and its row in the ledger say
//! otherwise is changed, the address of consensus first, since until then the leader looks for it
//! where it was. One node at a time may move so; a majority must be where it is known to be.

use std::sync::Arc;
use std::time::Duration;

use lease::command::{Command, Member};
use lease::entry::{Actor, Envelope};
use lease::ids::TraceId;
use lease::outcome::Outcome;
use raft::{Change, Cluster};
use tracing::{debug, info, warn};

use crate::config::file::ConfigFile;

/// Returns once the cluster knows this node as its configuration has it.
pub(crate) async fn announce(cluster: Cluster, config: Arc<ConfigFile>) {
    loop {
        let status = cluster.status();
        let known = status.peers.iter().find(|peer| peer.id == config.node_id);
        if known.is_some_and(|peer| peer.address != config.peer_address) {
            let change =
                Change::SetAddress { node: config.node_id, address: config.peer_address.clone() };
            match cluster.change(change, PATIENCE).await {
                Ok(_) => info!(address = config.peer_address, "peers reach this node here now"),
                Err(error) => debug!(%error, "telling the new address waits for a quorum"),
            }
        }
        let row = cluster.ledger().member(config.node_id).cloned();
        match row.as_ref().map(|row| (row, wanted(row, &config))) {
            Some((row, wanted)) if *row != wanted => put(&cluster, wanted).await,
            // The log may hold more than was applied: only a node that has caught up is done.
            Some(_) if cluster.status().recovered => return,
            _ => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn wanted(row: &Member, config: &ConfigFile) -> Member {
    Member {
        peer_address: config.peer_address.as_str().into(),
        gateway_url: config.gateway_url.as_str().into(),
        region: config.region.as_str().into(),
        zone: config.zone.as_str().into(),
        ..row.clone()
    }
}

async fn put(cluster: &Cluster, row: Member) {
    let node = row.node;
    let envelope = Envelope {
        actor: Actor::Node(node),
        request: None,
        trace: TraceId::default(),
        cause: None,
        command: Command::PutMember(row),
    };
    match cluster.submit(vec![envelope], PATIENCE).await {
        Ok(submitted) => {
            cluster.wait_applied(submitted.index).await;
            if let Some(Outcome::Refused(refusal)) = submitted.outcomes.first() {
                warn!(code = ?refusal.code, "the ledger refused this node's new address");
                tokio::time::sleep(REFUSED_RETRY).await;
            } else {
                info!(node, "the ledger has this node's address and labels as configured");
            }
        }
        Err(error) => debug!(%error, "this node's row waits for a quorum"),
    }
}

/// For one attempt.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a refusal.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
