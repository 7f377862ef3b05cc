//! Requests in an envelope: whose session key opens them, and the answer under the same key.
//!
//! Who asks is said by two headers; with them the activation is found, and with it the session key.
//! Until the envelope is open, everything is answered in the clear. A key that no license has is
//! put to the ledger as a guess, like one in a body, so that envelopes are no way around the count.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use lease::command::{Command, Sealed};
use lease::ids::{ActivationId, Face};
use lease::license::{Verify, VerifyBy};
use lease::outcome::{Outcome, RefusalCode};
use protocol::device::crypto::{NONCE_BYTES, SessionKey};
use protocol::device::envelope::{self, EnvelopeError};
use protocol::device::wire::{FINGERPRINT_HEADER, KEY_HEADER, SECURE_HEADER};
use zeroize::Zeroizing;

use super::{identity, refusal, session_of};
use crate::call::Call;
use crate::face::FaceFailure;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{address_tag, draw_lease, license_key_mac};
use crate::reply::{JSON, Reply};
use crate::routes::Protocol;
use crate::shared::Shared;

/// An open envelope: what was in it, and the key for the answer.
pub(super) struct Channel {
    /// The request's body.
    pub(super) body: Zeroizing<Vec<u8>>,
    session: SessionKey,
}

/// Opens the envelope of a request that says it is in one; `None`: it does not.
pub(super) async fn open(
    shared: &Shared,
    call: &Call,
    keys: &Arc<Keys>,
) -> Result<Option<Channel>, Failure> {
    let flag = call.parts.headers.get(SECURE_HEADER).map(HeaderValue::as_bytes);
    if !envelope::is_secure(flag) {
        return Ok(None);
    }
    let sender = envelope::sender(call.header(KEY_HEADER), call.header(FINGERPRINT_HEADER));
    let (key, fingerprint) = sender.map_err(|error| plain(&error))?;
    let key_mac = license_key_mac(&keys.license_keys, key.expose());
    let mut found = find(shared, &key_mac, fingerprint);
    if !matches!(found, Found::Session(..)) {
        shared.catch_up(call.deadline).await?;
        found = find(shared, &key_mac, fingerprint);
    }
    let (activation, sealed) = match found {
        Found::Session(activation, sealed) => (activation, sealed),
        Found::None => {
            count_guess(shared, call, keys, key_mac, fingerprint).await?;
            return Err(plain(&EnvelopeError::NotAuthorized));
        }
    };
    let session = session_of(&*keys.vault, activation, &sealed)?;
    let body = envelope::open(&session, &call.body).map_err(|error| plain(&error))?;
    Ok(Some(Channel { body, session }))
}

enum Found {
    Session(ActivationId, Sealed),
    /// No such key, or no activation of that device under it.
    None,
}

fn find(shared: &Shared, key_mac: &[u8; 32], fingerprint: &str) -> Found {
    let ledger = shared.context.cluster.ledger();
    let Some(license) = ledger.license_by_key(key_mac, Face::Device) else {
        return Found::None;
    };
    let row = ledger.activation_of_holder(license.terms.license, fingerprint);
    match row.and_then(|row| Some((row.activation, row.session.clone()?))) {
        Some((activation, sealed)) => Found::Session(activation, sealed),
        None => Found::None,
    }
}

/// Has a key that no license has counted as a guess. A right key, shown for a device that is not
/// activated, is not counted; but whoever is at the limit is refused alike with it.
async fn count_guess(
    shared: &Shared,
    call: &Call,
    keys: &Keys,
    key_mac: [u8; 32],
    fingerprint: &str,
) -> Result<(), Failure> {
    let entropy = &*shared.context.entropy;
    let verify = Verify {
        by: VerifyBy::Device { key_mac, identity: identity(entropy, NOBODY, None, None) },
        address: address_tag(&keys.license_keys, call.address),
        holder: fingerprint.into(),
        lease: draw_lease(&*shared.context.clock, entropy),
    };
    match shared.submit(call, None, Command::Verify(Box::new(verify))).await? {
        Outcome::Refused(refused) if refused.code == RefusalCode::TooManyGuesses => {
            Err(refusal::too_many(&refused))
        }
        _ => Ok(()),
    }
}

/// A failure before the envelope is open, in the protocol's plain text.
fn plain(error: &EnvelopeError) -> Failure {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = match error {
        EnvelopeError::NotAuthorized => "envelope_not_authorized",
        _ => "invalid_envelope",
    };
    let failure = FaceFailure::text(status, error.message()).because(reason);
    if status == StatusCode::UNAUTHORIZED {
        return refusal::challenged(failure).into();
    }
    failure.into()
}

impl Channel {
    /// Puts an answer, whatever it is, into an envelope under its own status.
    pub(super) fn reply(
        &self,
        shared: &Shared,
        answered: Result<Vec<u8>, Failure>,
    ) -> Result<Reply, Failure> {
        let marked = || (SECURE, HeaderValue::from_static("1"));
        match answered {
            Ok(body) => {
                let (name, value) = marked();
                let body = self.seal(shared, &body);
                Ok(Reply::new(StatusCode::OK, JSON, body).header(name, value))
            }
            Err(failure) => {
                let (name, value) = marked();
                let mut failure = failure.in_words_of(Protocol::Device);
                failure.body = self.seal(shared, &failure.body);
                failure.content_type = JSON;
                Err(failure.header(name, value).into())
            }
        }
    }

    fn seal(&self, shared: &Shared, body: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        shared.context.entropy.fill(&mut nonce);
        let mut bytes = envelope::seal(&self.session, nonce, body);
        bytes.push(b'\n');
        bytes
    }
}

const SECURE: HeaderName = HeaderName::from_static("x-license-secure");
/// An address that nobody has (RFC 2606).
const NOBODY: &str = "nobody@invalid";
