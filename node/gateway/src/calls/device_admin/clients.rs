//! Clients: list, add, ban, unban.
//!
//! The ledger keeps a client's address and nothing else of it: names and companies that tools send
//! along are read and not kept.

use http::StatusCode;
use lease::Ledger;
use lease::command::Command;
use lease::ids::ClientId;
use lease::license::{AddClient, ChangeClient, ClientRow};
use protocol::device::admin::client::{ClientStatus, ClientView, CreateClientRequest};
use protocol::device::admin::{self, AdminFault, Kind, ReasonRequest};
use protocol::device::time::LicenseTime;

use super::{MAX_LISTED, changed, fault, in_path};
use crate::call::Call;
use crate::calls::device::license::time_or_zero;
use crate::failure::Failure;
use crate::licensing::{draw_uuid, subject, uuid_text};
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /api/clients`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    let clients = ledger.clients(None).take(MAX_LISTED).map(|row| view(&ledger, row));
    Ok(Reply::ok(&clients.collect::<Vec<_>>()))
}

/// `POST /api/clients`
pub(crate) async fn add(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: CreateClientRequest = admin::read(&call.body).map_err(fault)?;
    let entropy = &*shared.context.entropy;
    let email = request.email.to_lowercase();
    let command = Command::AddClient(AddClient {
        client: ClientId(draw_uuid(entropy)),
        email: subject(entropy, &email),
    });
    changed(shared, call, call.request_id(&request), command, Kind::Client).await?;
    let ledger = shared.context.cluster.ledger();
    match ledger.client_by_email(&email) {
        Some(row) => Ok(Reply::json(StatusCode::CREATED, &view(&ledger, row))),
        None => Err(Failure::internal("a client that was added is not there")),
    }
}

/// `POST /api/clients/{client_id}/ban`
pub(crate) async fn ban(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, true).await
}

/// `POST /api/clients/{client_id}/unban`
pub(crate) async fn unban(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    change(shared, call, false).await
}

async fn change(shared: &Shared, call: &Call, banned: bool) -> Result<Reply, Failure> {
    let request = ReasonRequest::read(&call.body).map_err(fault)?;
    let client = ClientId(in_path(call, "client_id", Kind::Client)?);
    let reason = request.reason.as_str().into();
    let command = Command::ChangeClient(ChangeClient { client, banned, reason });
    changed(shared, call, call.request_id(&request), command, Kind::Client).await?;
    let ledger = shared.context.cluster.ledger();
    let row = ledger.client(client).ok_or_else(|| fault(AdminFault::NotFound(Kind::Client)))?;
    Ok(Reply::ok(&view(&ledger, row)))
}

/// The address of a client; empty when erased.
pub(super) fn address(ledger: &Ledger, row: &ClientRow) -> String {
    ledger.subject(row.email).map(|(_, name)| name.to_owned()).unwrap_or_default()
}

fn view(ledger: &Ledger, row: &ClientRow) -> ClientView {
    ClientView {
        id: uuid_text(row.client.0),
        email: address(ledger, row),
        name: String::new(),
        company_name: String::new(),
        status: match row.banned_at_ms {
            Some(_) => ClientStatus::Banned,
            None => ClientStatus::Active,
        },
        created_at: LicenseTime::from_unix_ms(row.created_at_ms),
        updated_at: LicenseTime::from_unix_ms(row.updated_at_ms),
        banned_at: time_or_zero(row.banned_at_ms),
        ban_reason: row.ban_reason.to_string(),
    }
}
