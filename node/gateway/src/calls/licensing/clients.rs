//! Clients: add, list, ban, unban.

use http::StatusCode;
use lease::command::Command;
use lease::ids::ClientId;
use lease::license::{AddClient, ChangeClient};
use lease::outcome::{Outcome, RefusalCode};
use protocol::cloud::admin::{AddClientRequest, ClientList, ClientQuery, ReasonRequest};
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::{cursor, done, in_path, not_found, page, view};
use crate::call::Call;
use crate::failure::Failure;
use crate::licensing::{draw_uuid, subject, uuid_text};
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    ClientQuery::into_params(|| None)
}

/// `GET /admin/clients`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: ClientQuery = call.query()?;
    let after = cursor(query.cursor.as_deref())?.map(ClientId);
    let ledger = shared.read(call).await?;
    let only = query.email.as_deref().map(|email| ledger.client_by_email(email));
    let fits = |row: &&lease::license::ClientRow| {
        query.state.is_none_or(|state| view::client_state(row) == state)
            && only.is_none_or(|only| only.is_some_and(|only| only.client == row.client))
    };
    let (clients, next) = match only {
        Some(only) => {
            (only.filter(fits).map(|row| view::client(&ledger, row)).into_iter().collect(), None)
        }
        None => page(
            ledger.clients(after),
            query.limit,
            |row| uuid_text(row.client.0),
            |row| fits(&row).then(|| view::client(&ledger, row)),
        ),
    };
    Ok(Reply::ok(&ClientList { clients, next }))
}

/// `POST /admin/clients`
pub(crate) async fn add(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: AddClientRequest = call.json()?;
    let command = Command::AddClient(AddClient {
        client: ClientId(draw_uuid(&*shared.context.entropy)),
        email: subject(&*shared.context.entropy, &request.email),
    });
    done(shared, call, call.request_id(&request), command).await?;
    let ledger = shared.context.cluster.ledger();
    match ledger.client_by_email(&request.email) {
        Some(row) => Ok(Reply::json(StatusCode::CREATED, &view::client(&ledger, row))),
        None => Err(Failure::internal("a client that was added is not there")),
    }
}

/// `POST /admin/clients/{client_id}/ban`
pub(crate) async fn ban(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, true).await
}

/// `POST /admin/clients/{client_id}/unban`
pub(crate) async fn unban(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, false).await
}

async fn change(shared: &Shared, call: &Call, banned: bool) -> Result<Reply, Failure> {
    let request: ReasonRequest = call.json_or_default()?;
    let client = ClientId(in_path(call, "unknown_client", "No such client.")?);
    let reason = request.reason.as_deref().unwrap_or_default().into();
    let command = Command::ChangeClient(ChangeClient { client, banned, reason });
    done(shared, call, call.request_id(&request), command).await?;
    let ledger = shared.context.cluster.ledger();
    let row = ledger.client(client);
    let row = row.ok_or_else(|| not_found("unknown_client", "No such client."))?;
    Ok(Reply::ok(&view::client(&ledger, row)))
}

/// The client of an address, who is added if nobody has it.
pub(super) async fn find_or_add(
    shared: &Shared,
    call: &Call,
    email: &str,
) -> Result<ClientId, Failure> {
    shared.catch_up(call.deadline).await?;
    loop {
        let known = shared.context.cluster.ledger().client_by_email(email).map(|row| row.client);
        if let Some(client) = known {
            return Ok(client);
        }
        let command = Command::AddClient(AddClient {
            client: ClientId(draw_uuid(&*shared.context.entropy)),
            email: subject(&*shared.context.entropy, email),
        });
        let decided = shared.decide(call, None, command).await?;
        match decided.outcome {
            // Somebody else was first, or an id was drawn twice: look again.
            Outcome::Done | Outcome::Unchanged => {}
            Outcome::Refused(refusal) if refusal.code == RefusalCode::ClientTaken => {}
            Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
            _ => return Err(Failure::internal("a client had the outcome of another command")),
        }
        shared.seen(call, decided.index).await?;
    }
}
