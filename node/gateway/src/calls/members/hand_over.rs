//! Handing leadership on, and stopping a node so that nobody notices.

use std::time::Duration;

use protocol::cloud::admin::{
    DrainRequest, DrainResponse, TransferLeaderRequest, TransferLeaderResponse,
};
use protocol::cloud::problem::Problem;
use raft::Change;

use super::{arithmetic, change, node_in_path, unknown_member};
use crate::call::Call;
use crate::control::{NodeOrder, OrderError};
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `POST /admin/cluster/transfer-leader`
pub(crate) async fn transfer_leader(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: TransferLeaderRequest = call.json_or_default()?;
    let leader = change(shared, Change::TransferLeader { to: request.to }).await?;
    Ok(Reply::ok(&TransferLeaderResponse { leader }))
}

/// `POST /admin/nodes/{node_id}/drain`
pub(crate) async fn drain(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let node = node_in_path(call)?;
    let request: DrainRequest = call.json_or_default()?;
    let peers = shared.context.cluster.status().peers;
    if !peers.iter().any(|peer| peer.id == node) {
        return Err(unknown_member());
    }
    if !arithmetic::answers(shared, node).await {
        return Err(Problem::new(409, "node_unreachable", "The node does not answer.")
            .detail(format!("node {node} does not answer: it is down, or cut off"))
            .into());
    }
    if !request.force {
        arithmetic::may_be_stopped(shared, node, &peers).await?;
    }
    let told = if node == shared.config.node {
        shared.context.control.perform(NodeOrder::Drain, ORDER_TIME).await
    } else {
        shared.context.peers.order(node, NodeOrder::Drain, ORDER_TIME).await
    };
    match told {
        Ok(message) => Ok(Reply::ok(&DrainResponse { node_id: node, message })),
        Err(error) => Err(order_failure(&error)),
    }
}

fn order_failure(error: &OrderError) -> Failure {
    let (status, code, title) = match error {
        OrderError::Unreachable => {
            (503, "node_unreachable", "The node did not answer; it may have obeyed.")
        }
        OrderError::Refused(_) => (409, "order_refused", "The node does not do this."),
        OrderError::Failed(_) => (500, "order_failed", "The node tried, and failed."),
    };
    Problem::new(status, code, title).detail(error.to_string()).into()
}

/// For an order: it is answered when it was taken, not when it was carried out.
const ORDER_TIME: Duration = Duration::from_secs(5);
