//! Leases of all applications, for operators.

use http::StatusCode;
use lease::command::Command;
use lease::ids::LeaseId;
use lease::outcome::Outcome;
use protocol::cloud::admin::{LeaseList, LeaseQuery, LeaseView, ReasonRequest, ReleaseResponse};
use protocol::cloud::lease::LeaseState;
use protocol::lease_id;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::tokens::parse_app_id;
use crate::view;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    LeaseQuery::into_params(|| None)
}

/// `GET /admin/leases`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let query: LeaseQuery = call.query()?;
    let app = query
        .app_id
        .as_deref()
        .map(|text| parse_app_id(text).ok_or_else(|| Failure::field("app_id", "not an app id")))
        .transpose()?;
    let after = query
        .cursor
        .as_deref()
        .map(|text| {
            lease_id::decode(&keys.lease_id, text)
                .map(view::ledger_id)
                .map_err(|_| Failure::field("cursor", "not where a page of this cluster ended"))
        })
        .transpose()?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let ledger = shared.read(call).await?;
    let epoch = view::epoch(&ledger)?;
    let mut leases: Vec<LeaseView> = Vec::with_capacity(limit.min(64));
    let mut last: Option<LeaseId> = None;
    let mut next = None;
    for (looked_at, lease) in ledger.leases(after).enumerate() {
        // A filter that matches nothing must not hold the ledger for a million rows.
        if leases.len() == limit || looked_at == MAX_LOOKED_AT {
            next = last.map(|last| view::lease_id_text(&keys, last));
            break;
        }
        last = Some(lease.lease);
        let fits = app.is_none_or(|app| lease.app == app)
            && query.package_id.as_deref().is_none_or(|package| **lease.package == *package);
        if fits {
            leases.push(view::lease(&keys, &ledger, &epoch, &lease));
        }
    }
    Ok(Reply::ok(&LeaseList { leases, next }))
}

/// `GET /admin/leases/{lease_id}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let lease = lease_in_path(&keys, call)?;
    let ledger = shared.read(call).await?;
    match ledger.lease(&lease) {
        Some(found) => Ok(Reply::ok(&view::lease(&keys, &ledger, &view::epoch(&ledger)?, &found))),
        None => {
            Err(Failure::problem(StatusCode::GONE, "lease_ended", "The lease has ended before."))
        }
    }
}

/// `POST /admin/leases/{lease_id}/release`
pub(crate) async fn release(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: ReasonRequest = call.json_or_default()?;
    let lease = lease_in_path(&keys, call)?;
    let request_id = call.request_id(&request);
    let reason = request.reason.as_deref().unwrap_or_default().into();
    match shared.submit(call, Some(request_id), Command::Release { lease, reason }).await? {
        Outcome::Done | Outcome::Unchanged | Outcome::Returned(_) => {
            Ok(Reply::ok(&ReleaseResponse {
                lease_id: view::lease_id_text(&keys, lease),
                state: LeaseState::Released,
            }))
        }
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a release had the outcome of another command")),
    }
}

fn lease_in_path(keys: &Keys, call: &Call) -> Result<LeaseId, Failure> {
    lease_id::decode(&keys.lease_id, call.subject()?)
        .map(view::ledger_id)
        .map_err(|_| Failure::problem(StatusCode::NOT_FOUND, "unknown_lease", "No such lease."))
}

/// Leases looked at for one page: a few milliseconds under the ledger's read lock.
const MAX_LOOKED_AT: usize = 10_000;
