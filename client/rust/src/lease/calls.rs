//! The calls of a lease on the wire, and what their answers mean.
//!
//! Answers are read by what is used of them, so that a newer server is understood. A renewal token
//! is spent by the call that carries it; asked again with the same one within 30 s, the server
//! gives the same answer, so a call whose answer was lost is simply repeated.

use std::time::Duration;

use protocol::cloud::denial::DenialReason;
use protocol::cloud::lease::{
    BorrowRequest, HeartbeatRequest, MAX_BORROW_SECONDS, ReturnBorrowRequest, ReturnRequest,
    ReturnResponse, UsageMetadata,
};
use protocol::wire::UtcTime;
use reqwest::Method;
use serde::Deserialize;

use super::tenure::Term;
use super::{Borrow, Release, ReturnBorrow};
use crate::core::Core;
use crate::denied::{Denied, system_time};
use crate::environment::Deadline;
use crate::error::{Attempt, Error, Outcome, Unavailable};
use crate::transport::{Call, Reply};
use crate::verdict::LostReason;

/// An answer that lengthens a lease.
pub(super) struct Extension {
    pub(super) term: Term,
    pub(super) renewal_token: String,
    pub(super) offline_token: Option<String>,
    /// How long the token of a borrow is good, from the sending.
    pub(super) borrowed_for: Option<Duration>,
    /// The server's civil time when it answered, in Unix milliseconds.
    pub(super) server_ms: i64,
}

/// What came of a heartbeat.
pub(super) enum Renewal {
    Extended(Extension),
    /// The lease is no longer ours.
    Lost(LostReason),
}

/// What is read of every answer that lengthens a lease.
#[derive(Deserialize)]
struct ExtendedBody {
    expires_at: UtcTime,
    expires_in_ms: u64,
    #[serde(default)]
    heartbeat_interval_ms: Option<u64>,
    renewal_token: String,
    #[serde(default)]
    offline_token: Option<String>,
    #[serde(default)]
    borrowed_until: Option<UtcTime>,
}

/// `PUT /api/v1/licenses/{lease_id}/heartbeat`
pub(super) async fn heartbeat(
    core: &Core,
    lease_id: &str,
    renewal_token: &str,
    deadline: Deadline,
) -> Result<Renewal, Error> {
    let body = HeartbeatRequest { renewal_token: renewal_token.to_owned(), still_active: true };
    let call =
        Call::new(Method::PUT, &["api", "v1", "licenses", lease_id, "heartbeat"]).json(&body)?;
    let reply = core.send(call, deadline).await?;
    if reply.status == 200 {
        return Ok(Renewal::Extended(extension(&reply)?));
    }
    let denied = denied(&reply)?;
    match denied.reason.known() {
        Some(
            DenialReason::LeaseEnded | DenialReason::AlreadyEnded | DenialReason::UnknownLease,
        ) => Ok(Renewal::Lost(LostReason::Ended)),
        Some(DenialReason::RenewalTokenReplayed | DenialReason::RenewalTokenInvalid) => {
            Ok(Renewal::Lost(LostReason::Replayed))
        }
        // Of the cluster as it is now, not of this lease: it passes, and the seat is still ours.
        Some(DenialReason::RestoreHold | DenialReason::NoSpace) => Err(not_now(&reply, &denied)),
        // A reason that is not known is a decision all the same where the status says so.
        None if reply.status == 410 => Ok(Renewal::Lost(LostReason::Ended)),
        _ => Ok(Renewal::Lost(LostReason::Denied(denied.reason))),
    }
}

fn not_now(reply: &Reply, denied: &Denied) -> Error {
    let attempt = Attempt { endpoint: reply.endpoint.clone(), reason: denied.to_string() };
    Error::Unavailable(Unavailable {
        outcome: Outcome::NotExecuted,
        retry_after: denied.retry_after,
        attempts: vec![attempt],
    })
}

/// `POST /api/v1/licenses/{lease_id}/return`
pub(super) async fn give_back(
    core: &Core,
    lease_id: &str,
    usage: UsageMetadata,
    deadline: Deadline,
) -> Result<Release, Error> {
    let body = ReturnRequest { lease_id: lease_id.to_owned(), usage_metadata: usage };
    let call =
        Call::new(Method::POST, &["api", "v1", "licenses", lease_id, "return"]).json(&body)?;
    let reply = core.send(call, deadline).await?;
    if reply.status == 200 {
        let ReturnResponse { total_cost, lease_duration, .. } = reply.json()?;
        return Ok(Release::Returned { total_cost, lease_duration });
    }
    let denied = denied(&reply)?;
    match denied.reason.known() {
        Some(
            DenialReason::LeaseEnded | DenialReason::AlreadyEnded | DenialReason::UnknownLease,
        ) => Ok(Release::AlreadyEnded),
        _ => Err(Error::Rejected {
            status: reply.status,
            code: denied.reason.code().to_owned(),
            detail: denied.detail,
        }),
    }
}

/// `POST /api/v1/licenses/{lease_id}/borrow`
pub(super) async fn borrow(
    core: &Core,
    lease_id: &str,
    renewal_token: &str,
    duration: Duration,
) -> Result<(Borrow, Option<Extension>), Error> {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let body = BorrowRequest {
        renewal_token: renewal_token.to_owned(),
        duration_seconds: seconds.clamp(1, MAX_BORROW_SECONDS),
    };
    let call = Call::new(Method::POST, &["api", "v1", "licenses", lease_id, "borrow"])
        .json(&body)?
        .idempotency_key(&core.new_key()?)?;
    let reply = core.send(call, core.deadline()).await?;
    if reply.status == 200 {
        let extension = extension(&reply)?;
        let good_for = extension.borrowed_for.unwrap_or(extension.term.expires_in);
        let until = system_time(reply.sent.wall_ms.saturating_add(milliseconds(good_for)));
        return Ok((Borrow::Granted { until }, Some(extension)));
    }
    Ok((Borrow::Denied(denied(&reply)?), None))
}

/// `POST /api/v1/licenses/{lease_id}/return-borrow`
pub(super) async fn return_borrow(
    core: &Core,
    lease_id: &str,
    renewal_token: &str,
) -> Result<(ReturnBorrow, Option<Extension>), Error> {
    let call = Call::new(Method::POST, &["api", "v1", "licenses", lease_id, "return-borrow"])
        .json(&ReturnBorrowRequest { renewal_token: renewal_token.to_owned() })?
        .idempotency_key(&core.new_key()?)?;
    let reply = core.send(call, core.deadline()).await?;
    if reply.status == 200 {
        return Ok((ReturnBorrow::LivesOn, Some(extension(&reply)?)));
    }
    Ok((ReturnBorrow::Denied(denied(&reply)?), None))
}

fn extension(reply: &Reply) -> Result<Extension, Error> {
    let body: ExtendedBody = reply.json()?;
    let expires_in = Duration::from_millis(body.expires_in_ms);
    let interval = match body.heartbeat_interval_ms {
        Some(interval_ms) => Duration::from_millis(interval_ms),
        None => expires_in / 3,
    };
    let server_ms = body.expires_at.unix_ms.saturating_sub(milliseconds(expires_in));
    let left = |until: UtcTime| u64::try_from(until.unix_ms.saturating_sub(server_ms)).unwrap_or(0);
    Ok(Extension {
        term: Term { sent: reply.sent, expires_in, interval },
        renewal_token: body.renewal_token,
        offline_token: body.offline_token,
        borrowed_for: body.borrowed_until.map(|until| Duration::from_millis(left(until))),
        server_ms,
    })
}

/// A decision about the lease. Credentials that are refused are none: the seat is still taken, and
/// whoever corrects them before its end keeps it.
fn denied(reply: &Reply) -> Result<Denied, Error> {
    let denied = Denied::read(&reply.body, reply.retry_after).ok_or_else(|| reply.unexpected())?;
    match denied.reason.known() {
        Some(DenialReason::AppRemoved | DenialReason::InsufficientScope) => {
            Err(Error::Unauthorized { reason: denied.to_string() })
        }
        _ => Ok(denied),
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
