//! How the cluster stands.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::status;

/// `GET /admin/cluster/status`
pub(crate) async fn status(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let context = &shared.context;
    let is_sealed = context.keys.get().is_none();
    let facts = context.control.facts();
    let status = status::cluster_status(&context.cluster, &*context.peers, is_sealed, facts).await;
    Ok(Reply::ok(&status))
}
