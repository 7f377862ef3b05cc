//! The `device` protocol's admin API, under `X-API-Key` (device.md, 1.8).
//!
//! | module | calls |
//! |---|---|
//! | [`clients`] | clients, bans |
//! | [`licenses`] | licenses, what is activated under them, subscriptions |
//! | [`catalog`] | products with plans, features and scopes; entitlements |
//! | [`users`] | admin users and API keys |
//! | [`plan`] | from the catalog to the plan that a license keeps |
//!
//! Names, forms and statuses are those of the protocol's first server, whose tools call this. Two
//! differences are meant: a key is shown once, and a license says which package its seats come
//! from. The same licenses, clients and keys are at `/admin`, where more can be done with them.
//!
//! What it leaves to others: requests and answers ([`protocol::device::admin`]), deciding
//! (`lease`).

pub(crate) mod catalog;
mod catalog_edit;
pub(crate) mod clients;
pub(crate) mod licenses;
pub(crate) mod plan;
pub(crate) mod users;

use http::StatusCode;
use lease::command::Command;
use lease::ids::RequestId;
use lease::outcome::{Outcome, Refusal, RefusalCode};
use protocol::device::admin::{AdminFault, Kind};
use protocol::device::wire::FailureBody;

use crate::call::Call;
use crate::face::FaceFailure;
use crate::failure::Failure;
use crate::licensing::parse_uuid;
use crate::refusal::admin_failure;
use crate::shared::Shared;

/// Rows that a list shows at most: the protocol has no pages.
const MAX_LISTED: usize = 10_000;

/// A request that is not carried out, in the protocol's words.
fn fault(fault: AdminFault) -> Failure {
    said(fault.status(), &fault.body())
}

fn said(status: u16, body: &FailureBody) -> Failure {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    FaceFailure::of_device(status, body).into()
}

/// A field that will not do, which `protocol` could not know.
fn field(message: &'static str) -> Failure {
    fault(AdminFault::Field(message))
}

/// Has a change decided and waits until this node has it.
async fn changed(
    shared: &Shared,
    call: &Call,
    request: RequestId,
    command: Command,
    kind: Kind,
) -> Result<Outcome, Failure> {
    let decided = shared.decide(call, Some(request), command).await?;
    match decided.outcome {
        outcome @ (Outcome::Done | Outcome::Unchanged) => {
            shared.seen(call, decided.index).await?;
            Ok(outcome)
        }
        Outcome::Refused(refusal) => Err(refused(&refusal, kind)),
        _ => Err(Failure::internal("a change had the outcome of another command")),
    }
}

/// A refusal of the ledger about something of a kind, in the protocol's words where it has some.
fn refused(refusal: &Refusal, kind: Kind) -> Failure {
    fault(match refusal.code {
        RefusalCode::ClientTaken => AdminFault::Exists(Kind::Client),
        RefusalCode::UnknownClient => AdminFault::NotFound(Kind::Client),
        RefusalCode::UnknownLicense => AdminFault::NotFound(Kind::License),
        RefusalCode::UnknownCatalogProduct => AdminFault::NotFound(Kind::Product),
        RefusalCode::NameTaken => AdminFault::Exists(kind),
        _ => return admin_failure(refusal),
    })
}

/// The number that a segment of the path names, or the 404 of something of a kind.
fn in_path(call: &Call, name: &str, kind: Kind) -> Result<u128, Failure> {
    parse_uuid(call.param(name)?).ok_or_else(|| fault(AdminFault::NotFound(kind)))
}

/// 409: a secret was made by an earlier call under the same idempotency key, and shown then.
fn shown_before(secret: &str) -> Failure {
    let text = format!("This was done before, and {secret} was shown then");
    said(409, &FailureBody::error_only(&text))
}
