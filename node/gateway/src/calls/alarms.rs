//! Alarms: what stands in the log, and what nodes find now.

use http::StatusCode;
use lease::command::Command;
use lease::operate::AlarmKind;
use lease::outcome::Outcome;
use protocol::cloud::admin::AlarmList;

use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::status;

/// `GET /admin/alarms`: works without a quorum, like the cluster's status.
pub(crate) async fn list(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let context = &shared.context;
    let facts = context.control.facts();
    let alarms = status::cluster_alarms(&context.cluster, &*context.peers, facts).await;
    Ok(Reply::ok(&AlarmList { alarms }))
}

/// `DELETE /admin/alarms/{node_id}/{kind}`
pub(crate) async fn clear(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let unknown =
        || Failure::problem(StatusCode::NOT_FOUND, "unknown_alarm", "No such alarm stands.");
    let node = call.param("node_id")?.parse().map_err(|_| unknown())?;
    let kind = AlarmKind::from_name(call.param("kind")?).ok_or_else(unknown)?;
    let request_id = call.request_id(&());
    match shared.submit(call, Some(request_id), Command::ClearAlarm { node, kind }).await? {
        Outcome::Done | Outcome::Unchanged => Ok(Reply::no_content()),
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a cleared alarm had the outcome of another command")),
    }
}
