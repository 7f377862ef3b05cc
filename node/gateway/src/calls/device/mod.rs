//! The `device` protocol's calls: activate, verify, trials, health (device.md).
//!
//! One exchange: the body is taken out of its envelope if it came in one ([`secure`]), read and
//! checked by `protocol`, and put to the ledger as a command; when this node has applied the
//! decision, the answer is made of what its own ledger says then ([`license`]), sealed to the
//! device and signed ([`seal`]), and put into an envelope if the request came in one. A refusal of
//! the ledger becomes the protocol's words in [`refusal`].
//!
//! Times in answers are the ledger's. Neither keys nor addresses nor fingerprints are logged.

pub(crate) mod license;
mod refusal;
mod seal;
mod secure;
pub(crate) mod trial;

use std::sync::Arc;

use http::StatusCode;
use lease::command::{Command, Sealed};
use lease::ids::{ActivationId, ClientId, ProductId};
use lease::license::{Activate, Activated, Claim, DeviceIdentity, ProductRef, Verify, VerifyBy};
use lease::outcome::{Outcome, Refusal as LedgerRefusal};
use protocol::device::crypto::{SESSION_KEY_BYTES, SessionKey};
use protocol::device::payload::LicenseData;
use protocol::device::refusals::Refusal;
use protocol::device::time::LicenseTime;
use protocol::device::wire::{
    ACTIVATED, ActivationResponse, DeviceCall, DeviceRequest, FailureBody, Health, HealthStatus,
    RequestFault, VERIFIED,
};
use protocol::offline::{Holder, HolderKind, Protocol};
use protocol::secret::Secret;
use serde::Serialize;
use storage::seam::Entropy;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::call::Call;
use crate::calls::offline::Signing;
use crate::face::FaceFailure;
use crate::failure::Failure;
use crate::keys::{Keys, Vault};
use crate::licensing::{
    self, TokenOf, address_tag, draw_lease, draw_uuid, license_key_mac, parse_uuid, subject,
    uuid_text,
};
use crate::reply::{JSON, Reply};
use crate::shared::{Decided, MAX_DRAWS, Shared};

/// `GET /health`
pub(crate) async fn health(_shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    Ok(Reply::ok(&Health { status: HealthStatus::Ok }))
}

/// `POST /api/activate`
pub(crate) async fn activate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    exchange(shared, call, Purpose::Activate).await
}

/// `POST /api/verify`
pub(crate) async fn verify(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    exchange(shared, call, Purpose::Verify).await
}

/// An answer of `POST /api/activate` and `POST /api/verify`
#[derive(Serialize, ToSchema)]
pub(crate) struct DeviceAnswer {
    #[serde(flatten)]
    answer: ActivationResponse,
    /// Extension: an offline token for this device, where package and plan allow one.
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_token: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Activate,
    Verify,
}

/// What the ledger decided for a device, and what its answer is made of.
struct Held {
    /// The payload, JSON.
    license_json: Zeroizing<Vec<u8>>,
    /// When the license ends.
    expires_at: LicenseTime,
    /// Seals envelopes from now on.
    session: SessionKey,
    /// An offline token.
    offline_token: Option<String>,
}

async fn exchange(shared: &Shared, call: &Call, purpose: Purpose) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    match secure::open(shared, call, &keys).await? {
        None => {
            let body = perform(shared, call, &keys, &call.body, purpose).await?;
            Ok(Reply::new(StatusCode::OK, JSON, body))
        }
        Some(channel) => {
            let answered = perform(shared, call, &keys, &channel.body, purpose).await;
            channel.reply(shared, answered)
        }
    }
}

/// The body of a success.
async fn perform(
    shared: &Shared,
    call: &Call,
    keys: &Arc<Keys>,
    body: &[u8],
    purpose: Purpose,
) -> Result<Vec<u8>, Failure> {
    let request = DeviceRequest::read(body).map_err(fault)?;
    let key_mac = license_key_mac(&keys.license_keys, request.license_key.expose());
    let mut draws = 0;
    let decided = loop {
        let command = command(shared, call, keys, &request, key_mac, purpose)?;
        let decided = shared.decide(call, None, command).await?;
        draws += 1;
        if draws == MAX_DRAWS || !refusal::wants_another_draw(&decided.outcome) {
            break decided;
        }
    };
    let activated = activated(shared, call, decided, |ledger| {
        refusal::About::key(ledger, &key_mac, &request.fingerprint)
    })
    .await?;
    let held = held(shared, keys, &activated, &request)?;
    let message = match purpose {
        Purpose::Activate => ACTIVATED,
        Purpose::Verify => VERIFIED,
    };
    let Held { license_json, expires_at, session, offline_token } = held;
    let sealed =
        seal::sealed(shared, call, keys, request.fingerprint, session, license_json).await?;
    let answer = ActivationResponse::success(message, &sealed, expires_at);
    json_line(&DeviceAnswer { answer, offline_token })
}

/// The activation that was decided for, once this node's ledger has it too.
async fn activated(
    shared: &Shared,
    call: &Call,
    decided: Decided,
    about: impl Fn(&lease::Ledger) -> refusal::About,
) -> Result<Activated, Failure> {
    shared.seen(call, decided.index).await?;
    match decided.outcome {
        Outcome::Activated(activated) => Ok(*activated),
        Outcome::Refused(refusal) => Err(refused(shared, &refusal, about)),
        _ => Err(Failure::internal("a device call had the outcome of another command")),
    }
}

fn refused(
    shared: &Shared,
    refusal: &LedgerRefusal,
    about: impl Fn(&lease::Ledger) -> refusal::About,
) -> Failure {
    let about = about(&shared.context.cluster.ledger());
    let now_ms = shared.context.cluster.displayed_civil_ms();
    refusal::failure(refusal, &about, now_ms, shared.config.faces.device_compat_200)
}

fn command(
    shared: &Shared,
    call: &Call,
    keys: &Keys,
    request: &DeviceCall,
    key_mac: [u8; 32],
    purpose: Purpose,
) -> Result<Command, Failure> {
    let entropy = &*shared.context.entropy;
    let address = address_tag(&keys.license_keys, call.address);
    let holder = request.fingerprint.as_str().into();
    let lease = draw_lease(&*shared.context.clock, entropy);
    let product = request.product.as_deref().map(|text| match parse_uuid(text) {
        Some(number) => ProductRef::Id(ProductId(number)),
        None => ProductRef::Slug(text.into()),
    });
    let client = parse_uuid(&request.client_id).map(ClientId);
    let identity = identity(entropy, &request.identity(), client, product);
    if purpose == Purpose::Verify {
        let by = VerifyBy::Device { key_mac, identity };
        return Ok(Command::Verify(Box::new(Verify { by, address, holder, lease })));
    }
    let activation = ActivationId(draw_uuid(entropy));
    let session = new_session(entropy, &*keys.vault, activation)?;
    let claim = Claim::Device { identity, session };
    let key_mac = Some(key_mac);
    let activate = Activate { key_mac, address, holder, activation, lease, claim };
    Ok(Command::Activate(Box::new(activate)))
}

/// Who asks.
fn identity(
    entropy: &dyn Entropy,
    email: &str,
    client: Option<ClientId>,
    product: Option<ProductRef>,
) -> DeviceIdentity {
    DeviceIdentity {
        product,
        client,
        email: subject(entropy, email),
        subject_client: ClientId(draw_uuid(entropy)),
    }
}

/// A session key, sealed for the activation that it may come to belong to.
fn new_session(
    entropy: &dyn Entropy,
    vault: &dyn Vault,
    activation: ActivationId,
) -> Result<Sealed, Failure> {
    let mut session = Zeroizing::new([0_u8; SESSION_KEY_BYTES]);
    entropy.fill(&mut *session);
    vault
        .seal(&record_of(activation), &*session)
        .map_err(|_| Failure::internal("a session key could not be sealed"))
}

/// The session key that was sealed for an activation.
fn session_of(
    vault: &dyn Vault,
    activation: ActivationId,
    sealed: &Sealed,
) -> Result<SessionKey, Failure> {
    let opened = vault.open(&record_of(activation), sealed).ok();
    let bytes =
        opened.and_then(|bytes| <[u8; SESSION_KEY_BYTES]>::try_from(&bytes.expose()[..]).ok());
    // Another node may have sealed it under a data key that this one opens in a moment.
    bytes.map(Secret::new).ok_or_else(|| {
        let title = "This node is taking up new keys; ask again.";
        Failure::unavailable("keys_changing", title, std::time::Duration::from_secs(1))
    })
}

/// Names a record in the vault, for ever.
pub fn record_of(activation: ActivationId) -> String {
    format!("activation/{}", uuid_text(activation.0))
}

/// What the device is told, as this node's ledger has it.
fn held(
    shared: &Shared,
    keys: &Keys,
    activated: &Activated,
    request: &DeviceCall,
) -> Result<Held, Failure> {
    let asker = license::Asker {
        email: &request.identity(),
        fingerprint: &request.fingerprint,
        key: &request.license_key,
    };
    // What was decided may have been undone since: then it is as if it had been asked later.
    let gone = || FaceFailure::from_refusal(&Refusal::UnknownDevice);
    let found = Found::of(&shared.context.cluster.ledger(), activated, &asker);
    let Found { data, activation, session } = found.ok_or_else(gone)?;
    Ok(Held {
        license_json: Zeroizing::new(data.to_json()),
        expires_at: data.expires_at,
        session: session_of(&*keys.vault, activation, &session)?,
        offline_token: offline_token(shared, keys, activated, &request.fingerprint)?,
    })
}

/// What an answer is made of, copied so that nothing is signed or opened under the ledger's lock.
struct Found {
    data: LicenseData,
    activation: ActivationId,
    session: Sealed,
}

impl Found {
    fn of(
        ledger: &lease::Ledger,
        activated: &Activated,
        asker: &license::Asker<'_>,
    ) -> Option<Self> {
        let data = license::data(ledger, activated, asker)?;
        let row = ledger.activation(activated.activation?)?;
        Some(Self { data, activation: row.activation, session: row.session.clone()? })
    }
}

/// The offline token that may be signed for a device; `None`: none.
fn offline_token(
    shared: &Shared,
    keys: &Keys,
    activated: &Activated,
    fingerprint: &str,
) -> Result<Option<String>, Failure> {
    let Some(proof) = activated.offline.as_deref() else { return Ok(None) };
    let signing = Signing::of(shared)?;
    let of = TokenOf {
        issuer: &signing.issuer,
        protocol: Protocol::Device,
        license_id: uuid_text(activated.license.0),
        holder: Holder::of(HolderKind::Fingerprint, fingerprint),
        token_version: activated.token_version,
        max_nodes: None,
        cluster_id: None,
    };
    licensing::offline_token(keys, &signing.epoch, proof, of).map(Some)
}

/// A request that is not looked at further.
fn fault(fault: RequestFault) -> Failure {
    let status = StatusCode::from_u16(RequestFault::STATUS).unwrap_or(StatusCode::BAD_REQUEST);
    FaceFailure::of_device(status, &fault.body()).because("invalid_request").into()
}

impl FaceFailure {
    /// A body of the protocol, as it writes it.
    pub(crate) fn of_device(status: StatusCode, body: &FailureBody) -> Self {
        let body = body.to_bytes();
        Self { status, content_type: JSON, body, headers: Vec::new(), reason: None }
    }

    /// One of the protocol's refusals, under its own status.
    fn from_refusal(refusal: &Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let failure = Self::of_device(status, &FailureBody::refusal(refusal));
        if status != StatusCode::UNAUTHORIZED {
            return failure;
        }
        refusal::challenged(failure)
    }
}

/// The bytes of a body with the line end that the protocol's first server sends.
fn json_line<T: Serialize>(body: &T) -> Result<Vec<u8>, Failure> {
    let mut bytes = serde_json::to_vec(body)
        .map_err(|_| Failure::internal("an answer could not be written"))?;
    bytes.push(b'\n');
    Ok(bytes)
}
