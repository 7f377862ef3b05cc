//! The calls of a deployment on the wire.
//!
//! Each may be repeated: activations and heartbeats are about the same slot, deactivations the
//! same when repeated, and a job that is reported twice counts once.

use std::fmt;

use protocol::deployment::client::Reply as Heard;
use protocol::deployment::refusal::ErrorBody;
use protocol::deployment::wire::{OfflineKeyAnswer, TokenAnswer};
use protocol::offline::KeySet;
use protocol::wire::UtcTime;
use reqwest::Method;
use serde::Serialize;

use crate::environment::Deadline;
use crate::error::Error;
use crate::network::Network;
use crate::transport::{Call, Reply};

/// The server decided against a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The wire code, as `license_suspended`; the status where there is none.
    pub code: String,
    /// The same for people.
    pub message: String,
    /// When the slot comes free, where the server knows.
    pub available_at: Option<UtcTime>,
    /// When to ask again, in seconds, where the server says so.
    pub retry_after_seconds: Option<u64>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, HTTP {})", self.message, self.code, self.status)
    }
}

/// How a call for a token ended.
pub(super) enum Outcome {
    Granted(Box<TokenAnswer>),
    Refused(Refused),
    /// Nobody answered, or the answer was none.
    Trouble {
        error: Error,
        retry_after_seconds: Option<u64>,
    },
}

impl Outcome {
    /// The same for the rules of the protocol; `None` for a success.
    pub(super) fn heard(&self) -> Option<Heard<'_>> {
        match self {
            Self::Granted(_) => None,
            Self::Refused(refused) => Some(Heard::Status {
                status: refused.status,
                code: Some(&refused.code),
                retry_after_seconds: refused.retry_after_seconds,
            }),
            Self::Trouble { retry_after_seconds: None, .. } => Some(Heard::Unreachable),
            Self::Trouble { retry_after_seconds, .. } => Some(Heard::Status {
                status: 503,
                code: None,
                retry_after_seconds: *retry_after_seconds,
            }),
        }
    }
}

/// `POST /v1/license/activate` or `…/heartbeat`
pub(super) async fn token<T: Serialize>(
    network: &Network,
    path: &str,
    body: &T,
    access_token: Option<&str>,
) -> Outcome {
    match post(network, &["v1", "license", path], body, access_token).await {
        Ok(reply) if reply.status == 200 => match reply.json::<TokenAnswer>() {
            Ok(answer) => Outcome::Granted(Box::new(answer)),
            Err(error) => Outcome::Trouble { error, retry_after_seconds: None },
        },
        Ok(reply) if reply.status >= 400 => Outcome::Refused(refused(&reply)),
        Ok(reply) => Outcome::Trouble { error: reply.unexpected(), retry_after_seconds: None },
        Err(error) => {
            let retry_after_seconds = match &error {
                Error::Unavailable(trouble) => trouble.retry_after.map(|wait| wait.as_secs()),
                _ => None,
            };
            Outcome::Trouble { error, retry_after_seconds }
        }
    }
}

/// Sends a body, with the access token where there is one.
pub(super) async fn post<T: Serialize>(
    network: &Network,
    path: &[&str],
    body: &T,
    access_token: Option<&str>,
) -> Result<Reply, Error> {
    let mut call = Call::new(Method::POST, path).json(body)?;
    if let Some(token) = access_token {
        call.set_bearer(token)?;
    }
    send(network, &call).await
}

/// `GET /v1/license/offline-key`
pub(super) async fn offline_keys(network: &Network) -> Result<KeySet, Error> {
    let call = Call::new(Method::GET, &["v1", "license", "offline-key"]);
    let reply = send(network, &call).await?;
    if reply.status != 200 {
        return Err(reply.unexpected());
    }
    let answer: OfflineKeyAnswer = reply.json()?;
    let wrong = |reason| Error::Protocol { endpoint: reply.endpoint.clone(), reason };
    let keys = serde_json::to_vec(&serde_json::json!({ "keys": answer.keys }))
        .map_err(|error| wrong(error.to_string()))?;
    KeySet::from_json(&keys).map_err(|error| wrong(error.to_string()))
}

/// What a refusal says.
pub(super) fn refused(reply: &Reply) -> Refused {
    let status = reply.status;
    let body: Option<ErrorBody> = serde_json::from_slice(&reply.body).ok();
    let header_seconds = reply.retry_after.map(|wait| wait.as_secs());
    match body {
        Some(body) => Refused {
            status,
            code: shown(&body.error),
            message: shown(&body.message),
            available_at: body.available_at,
            retry_after_seconds: header_seconds.or(body.retry_after_seconds),
        },
        None => Refused {
            status,
            code: status.to_string(),
            message: format!("the license server refuses (HTTP {status})"),
            available_at: None,
            retry_after_seconds: header_seconds,
        },
    }
}

async fn send(network: &Network, call: &Call) -> Result<Reply, Error> {
    let deadline = Deadline::after(&**network.environment(), network.timeouts().total);
    network.transport().await?.send(call, deadline).await
}

/// A server's text: bounded, without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_SHOWN_CHARS).collect()
}

const MAX_SHOWN_CHARS: usize = 300;
