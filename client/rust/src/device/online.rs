//! Calls of a device: activation, verification, trials; and what their answers are.
//!
//! A request goes in an envelope once the session key of its license is known, and an answer whose
//! header says so comes in one. What a server sends is a decision; servers that cannot be reached
//! or cannot decide (transport, 429, 5xx) are [`Error::Unavailable`]. An answer that grants is
//! believed only when it is signed with the known key and sealed to this device.

use std::sync::Arc;

use protocol::device::crypto::{NONCE_BYTES, SealedLicense, SessionKey};
use protocol::device::envelope;
use protocol::device::key::LicenseKey;
use protocol::device::time::LicenseTime;
use protocol::device::wire::{ActivationResponse, AnswerError, DeviceRequest};
use protocol::secret::Disclosed;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Serialize;

use super::Refused;
use crate::environment::{Deadline, Environment};
use crate::error::{Error, Outcome, Unavailable};
use crate::network::Network;
use crate::transport::{Call, Reply};

/// Who asks about which license.
pub(super) struct Identity {
    pub(super) email: String,
    pub(super) client_id: String,
    /// As it was typed, or as the license has it.
    pub(super) license_key: Disclosed,
    pub(super) product: Option<String>,
}

/// What a server decided.
pub(super) enum Decided {
    /// A license, not yet believed, and when it ends.
    Granted(Box<SealedLicense>, LicenseTime),
    Refused(Refused),
    /// An answer that grants and is none.
    Unbelieved(String),
}

/// Activates or verifies: `path` is the last segment.
pub(super) async fn ask(
    network: &Network,
    path: &str,
    fingerprint: &str,
    identity: Identity,
    session_key: Option<&Arc<SessionKey>>,
) -> Result<Decided, Error> {
    let normal = LicenseKey::normalise(identity.license_key.expose()).ok();
    let request = DeviceRequest {
        email: identity.email,
        client_id: identity.client_id,
        license_key: identity.license_key,
        device_fingerprint: fingerprint.to_owned(),
        product_id: identity.product,
    };
    let body = json(&request)?;
    // What the server would not take is told without asking it.
    DeviceRequest::read(&body).map_err(|fault| Error::configuration(fault.to_string()))?;
    let mut call = Call::new(Method::POST, &["api", path]);
    call = call.header(FINGERPRINT, value(fingerprint, false)?);
    if let Some(key) = normal {
        call = call.header(KEY, value(key.expose(), true)?);
    }
    let call = match session_key {
        None => call.json_bytes(body),
        Some(session_key) => {
            let sealed = envelope::seal(session_key, nonce(&**network.environment())?, &body);
            call.header(SECURE, HeaderValue::from_static("1")).json_bytes(sealed)
        }
    };
    let reply = send(network, &call).await?;
    decided(reply, session_key)
}

/// Sends a body that is not secret, as those about trials, and gives the answer.
pub(super) async fn send_json<T: Serialize>(
    network: &Network,
    path: &[&str],
    body: &T,
) -> Result<Reply, Error> {
    let call = Call::new(Method::POST, path).json_bytes(json(body)?);
    send(network, &call).await
}

async fn send(network: &Network, call: &Call) -> Result<Reply, Error> {
    let deadline = Deadline::after(&**network.environment(), network.timeouts().total);
    let reply = network.transport().await?.send(call, deadline).await?;
    // Those of them that the transport does not repeat.
    if reply.status >= 500 {
        let reason = format!("HTTP {}", reply.status);
        let attempts = vec![crate::error::Attempt { endpoint: reply.endpoint, reason }];
        let (outcome, retry_after) = (Outcome::Unknown, reply.retry_after);
        return Err(Error::Unavailable(Unavailable { outcome, retry_after, attempts }));
    }
    Ok(reply)
}

/// What an answer decides. Only a status between 300 and 399 decides nothing.
pub(super) fn decided(
    reply: Reply,
    session_key: Option<&Arc<SessionKey>>,
) -> Result<Decided, Error> {
    let Reply { status, body, headers, endpoint, .. } = reply;
    let is_enveloped = envelope::is_secure(headers.get(SECURE).map(HeaderValue::as_bytes));
    let body = match session_key.filter(|_| is_enveloped) {
        None => body,
        Some(session_key) => match envelope::open(session_key, &body) {
            Ok(body) => body.to_vec(),
            Err(error) if status < 300 => return Ok(Decided::Unbelieved(error.to_string())),
            Err(_) => Vec::new(),
        },
    };
    match status {
        200..=299 => Ok(match ActivationResponse::read(&body) {
            Ok((sealed, expires_at)) => Decided::Granted(Box::new(sealed), expires_at),
            Err(AnswerError::Refused { message }) => Decided::Refused(Refused { status, message }),
            Err(error) => Decided::Unbelieved(error.to_string()),
        }),
        400..=499 => Ok(Decided::Refused(Refused { status, message: message(status, &body) })),
        _ => Err(Error::Protocol { endpoint, reason: format!("HTTP {status}") }),
    }
}

/// The words of a refusal: `error` or `message` of JSON, else the text itself, bounded.
pub(super) fn message(status: u16, body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name| json.get(name).and_then(serde_json::Value::as_str);
    let text = String::from_utf8_lossy(body);
    let words = field("error").or_else(|| field("message")).unwrap_or(&text);
    let shown: String =
        words.trim().chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect();
    if shown.is_empty() { format!("HTTP {status}") } else { shown }
}

/// A nonce that was never used before.
pub(super) fn nonce(environment: &dyn Environment) -> Result<[u8; NONCE_BYTES], Error> {
    let mut nonce = [0; NONCE_BYTES];
    environment.random(&mut nonce).map_err(|error| Error::machine("no randomness", &error))?;
    Ok(nonce)
}

fn json<T: Serialize>(body: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body)
        .map_err(|error| Error::configuration(format!("the request is not JSON: {error}")))
}

fn value(text: &str, is_secret: bool) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::configuration("a header with characters of no header"))?;
    value.set_sensitive(is_secret);
    Ok(value)
}

/// The headers in the one spelling that names have in HTTP/2.
const FINGERPRINT: HeaderName = HeaderName::from_static("x-device-fingerprint");
const KEY: HeaderName = HeaderName::from_static("x-license-key");
const SECURE: HeaderName = HeaderName::from_static("x-license-secure");
const MAX_MESSAGE_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use protocol::device::wire::{FINGERPRINT_HEADER, KEY_HEADER, SECURE_HEADER};

    #[test]
    fn the_headers_are_those_of_the_protocol() {
        for (ours, theirs) in [
            (super::FINGERPRINT, FINGERPRINT_HEADER),
            (super::KEY, KEY_HEADER),
            (super::SECURE, SECURE_HEADER),
        ] {
            assert_eq!(ours.as_str(), theirs.to_ascii_lowercase());
        }
    }
}
