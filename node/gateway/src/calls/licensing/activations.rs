//! Activations: list, show, revoke, reinstate, remove.

use std::collections::BTreeMap;

use lease::command::Command;
use lease::ids::{ActivationId, LicenseId};
use lease::license::{ActivationChange, ActivationRow, ChangeActivation};
use protocol::cloud::admin::{
    ActivationChangeRequest, ActivationGroup, ActivationList, ActivationQuery,
    RemoveActivationQuery, RemoveActivationResponse, RemovedStatus,
};
use protocol::wire::UtcTime;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::{MAX_LOOKED_AT, cursor, done, in_path, not_found, page, view};
use crate::call::Call;
use crate::failure::Failure;
use crate::licensing::{parse_uuid, uuid_text};
use crate::reply::Reply;
use crate::shared::{Read, Shared};

/// Groups told on the first page.
const MAX_GROUPS: usize = 1_000;
/// Activations looked at for groups and total: some tens of milliseconds under the ledger's read
/// lock. Where there are more, no total is told.
const MAX_COUNTED: usize = 10 * MAX_LOOKED_AT;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    ActivationQuery::into_params(|| None)
}

/// The same of a removal.
pub(crate) fn removal_parameters() -> Vec<Parameter> {
    RemoveActivationQuery::into_params(|| None)
}

/// `GET /admin/activations`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let query: ActivationQuery = call.query()?;
    let after = cursor(query.cursor.as_deref())?.map(ActivationId);
    let license = match query.license_id.as_deref().map(parse_uuid) {
        Some(None) => return Err(Failure::field("license_id", "not a license id")),
        license => license.flatten().map(LicenseId),
    };
    let ledger = shared.read(call).await?;
    let fits = |row: &ActivationRow| fits(&ledger, &query, row);
    let (activations, next) = page(
        rows(&ledger, license, after),
        query.limit,
        |row| uuid_text(row.activation.0),
        |row| fits(row).then(|| view::activation(&keys, &ledger, row)).flatten(),
    );
    let (groups, total) = match after {
        Some(_) => (Vec::new(), None),
        None => {
            let mut rows = rows(&ledger, license, None);
            let (groups, total) = groups(&ledger, rows.by_ref().take(MAX_COUNTED), &fits);
            (groups, rows.next().is_none().then_some(total))
        }
    };
    Ok(Reply::ok(&ActivationList { activations, groups, total, next }))
}

/// Activations in order of id after a cursor, all or those of a license.
fn rows<'a>(
    ledger: &'a Read<'_>,
    license: Option<LicenseId>,
    after: Option<ActivationId>,
) -> Box<dyn Iterator<Item = &'a ActivationRow> + 'a> {
    match license {
        None => Box::new(ledger.activations(after)),
        Some(license) => {
            let rows = ledger.activations_of(license);
            Box::new(rows.skip_while(move |row| after.is_some_and(|after| row.activation <= after)))
        }
    }
}

fn fits(ledger: &Read<'_>, query: &ActivationQuery, row: &ActivationRow) -> bool {
    let Some(of) = ledger.license(row.license) else { return false };
    let ends_ms = view::activation_ends_ms(ledger, row, of);
    let is = |want: &Option<String>, have: &str| want.as_deref().is_none_or(|want| want == have);
    is(&query.package_id, &of.terms.package)
        && is(&query.org_id, &row.org)
        && is(&query.project_id, &row.project)
        && query.protocol.is_none_or(|protocol| of.terms.face == view::face(protocol))
        && query.expires_from.is_none_or(|from| ends_ms >= from.unix_ms)
        && query.expires_until.is_none_or(|until| ends_ms < until.unix_ms)
        && query.state.is_none_or(|state| view::activation_state(ledger, row, of) == state)
}

/// How many of these there are by organisation and project, and in all.
fn groups<'a>(
    ledger: &Read<'_>,
    rows: impl Iterator<Item = &'a ActivationRow>,
    fits: &impl Fn(&ActivationRow) -> bool,
) -> (Vec<ActivationGroup>, u32) {
    let mut groups: BTreeMap<(&str, &str), (u32, u32)> = BTreeMap::new();
    let mut total = 0;
    for row in rows.filter(|row| fits(row)) {
        total += 1;
        let seats = row.lease.and_then(|lease| ledger.lease(&lease)).map_or(0, |it| it.quantity);
        let key = (&*row.org, &*row.project);
        if groups.len() < MAX_GROUPS || groups.contains_key(&key) {
            let group = groups.entry(key).or_default();
            group.0 += 1;
            group.1 += seats;
        }
    }
    let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let groups = groups.into_iter().map(|((org, project), (activations, seats))| ActivationGroup {
        org_id: named(org),
        project_id: named(project),
        activations,
        seats,
    });
    (groups.collect(), total)
}

/// `GET /admin/activations/{activation_id}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let activation = in_activation_path(call)?;
    shared.read(call).await?;
    shown(shared, activation)
}

/// `POST /admin/activations/{activation_id}/revoke`
pub(crate) async fn revoke(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, ActivationChange::Revoke).await
}

/// `POST /admin/activations/{activation_id}/reinstate`
pub(crate) async fn reinstate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, ActivationChange::Reinstate).await
}

/// `DELETE /admin/activations/{activation_id}`
pub(crate) async fn remove(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: RemoveActivationQuery = call.query()?;
    let activation = in_activation_path(call)?;
    let lease = {
        let ledger = shared.read(call).await?;
        ledger.activation(activation).and_then(|row| row.lease)
    };
    let change = ChangeActivation {
        activation,
        change: ActivationChange::Remove,
        reason: query.reason.as_deref().unwrap_or_default().into(),
        write_off: query.write_off,
    };
    let request_id = call.request_id(&(query.write_off, &query.reason));
    done(shared, call, request_id, Command::ChangeActivation(Box::new(change))).await?;
    let ledger = shared.context.cluster.ledger();
    let hold = lease.and_then(|lease| ledger.hold(lease));
    Ok(Reply::ok(&RemoveActivationResponse {
        activation_id: uuid_text(activation.0),
        status: RemovedStatus::Removed,
        seats_taken_until: hold
            .map(|hold| UtcTime::from_unix_ms(hold.ends_ms.saturating_add(hold.skew_ms.into()))),
    }))
}

async fn change(shared: &Shared, call: &Call, change: ActivationChange) -> Result<Reply, Failure> {
    let request: ActivationChangeRequest = call.json_or_default()?;
    let activation = in_activation_path(call)?;
    let command = Command::ChangeActivation(Box::new(ChangeActivation {
        activation,
        change,
        reason: request.reason.as_deref().unwrap_or_default().into(),
        write_off: request.write_off,
    }));
    done(shared, call, call.request_id(&request), command).await?;
    shown(shared, activation)
}

/// The activation as this node has it.
fn shown(shared: &Shared, activation: ActivationId) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let ledger = shared.context.cluster.ledger();
    let row = ledger.activation(activation);
    row.and_then(|row| view::activation(&keys, &ledger, row))
        .map(|view| Reply::ok(&view))
        .ok_or_else(|| not_found("unknown_activation", "No such activation."))
}

fn in_activation_path(call: &Call) -> Result<ActivationId, Failure> {
    Ok(ActivationId(in_path(call, "unknown_activation", "No such activation.")?))
}
