//! Trials: whether a device may have one, and taking it. Once per fingerprint, for ever.
//!
//! A trial is a license of its own, issued and activated in one command: nothing is left behind
//! when the package has no seat. Its key and its numbers are drawn by a MAC over device, address
//! and product ([`Drawn`]): so whoever asks again after a lost answer proposes the very license
//! that there is, and gets it again while it is in force; another address does not. Statuses are
//! the protocol's whatever `device_compat_200` says: its first server had them here too.

use std::sync::Arc;

use http::StatusCode;
use lease::Ledger;
use lease::command::Command;
use lease::ids::{ActivationId, ClientId, Face, LicenseId, Name};
use lease::license::{
    Activate, Activated, Claim, IssueLicense, KeyRow, LicenseTerms, Plan, ProductRow, StartTrial,
};
use lease::outcome::{Outcome, Refusal as LedgerRefusal};
use protocol::device::admin::catalog::{Catalog, PlanView};
use protocol::device::key::{ENTROPY_BYTES, LicenseKey};
use protocol::device::payload::LicenseData;
use protocol::device::refusals::Refusal;
use protocol::device::time::LicenseTime;
use protocol::device::trial::{
    DEFAULT_TRIAL_DAYS, PastTrial, TrialCall, TrialCheckCall, TrialCheckRequest,
    TrialCheckResponse, TrialRequest, TrialResponse,
};
use protocol::device::wire::{ACTIVATED, ActivationResponse, FailureBody};
use protocol::mac::MacKey;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::license::{Asker, ledger_mode};
use super::{
    Found, Held, fault, identity, json_line, new_session, offline_token, refusal, seal, session_of,
};
use crate::call::Call;
use crate::calls::device_admin::plan::{Sold, catalog_of, find_product, kept, package_for};
use crate::face::FaceFailure;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{address_tag, draw_lease, license_key_mac, uuid_text};
use crate::reply::{JSON, Reply};
use crate::shared::{MAX_DRAWS, Shared};

/// An answer of `POST /api/trial`
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceTrialAnswer)]
pub(crate) struct TrialAnswer {
    #[serde(flatten)]
    answer: TrialResponse,
    /// Extension: an offline token for this device, where package and plan allow one.
    #[serde(skip_serializing_if = "Option::is_none")]
    offline_token: Option<String>,
}

/// The query of `GET /api/trial/check`.
pub(crate) fn parameters() -> Vec<utoipa::openapi::path::Parameter> {
    use utoipa::IntoParams;
    TrialCheckRequest::into_params(|| None)
}

/// `GET /api/trial/check`
pub(crate) async fn check_query(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: TrialCheckRequest = call.query()?;
    check(shared, call, request.check().map_err(fault)?).await
}

/// `POST /api/trial/check`
pub(crate) async fn check_body(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    check(shared, call, TrialCheckRequest::read(&call.body).map_err(fault)?).await
}

async fn check(shared: &Shared, call: &Call, request: TrialCheckCall) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    let past = ledger.trial(&request.fingerprint).map(|trial| PastTrial {
        started_at: LicenseTime::from_unix_ms(trial.started_at_ms),
        expires_at: LicenseTime::from_unix_ms(trial.ends_at_ms),
    });
    let offered = offer(&ledger, request.product.as_deref(), None)?.is_some();
    let now_ms = shared.context.cluster.displayed_civil_ms();
    let answer = TrialCheckResponse::new(&request.fingerprint, past, offered, now_ms);
    Ok(Reply::new(StatusCode::OK, JSON, json_line(&answer)?))
}

/// `POST /api/trial`
pub(crate) async fn start(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request = TrialRequest::read(&call.body).map_err(fault)?;
    // One id over all draws, so that a decision that was lost on its way is given again.
    let request_id = call.request_id_of(request.fingerprint.as_bytes());
    let mut draws = 0;
    let (decided, key) = loop {
        let (command, key) = command(shared, call, &keys, &request).await?;
        let decided = shared.decide(call, Some(request_id), command).await?;
        draws += 1;
        if draws == MAX_DRAWS || !refusal::wants_another_draw(&decided.outcome) {
            break (decided, key);
        }
    };
    shared.seen(call, decided.index).await?;
    let activated = match decided.outcome {
        Outcome::Activated(activated) => *activated,
        Outcome::Refused(refused) => return Err(not_begun(shared, &refused)),
        _ => return Err(Failure::internal("a trial had the outcome of another command")),
    };
    let already_used = has_had(shared, &request, &activated);
    let (held, data) = began(shared, &keys, &activated, &request, &key)?;
    let Held { license_json, expires_at, session, offline_token } = held;
    let fingerprint = request.fingerprint.clone();
    let sealed = seal::sealed(shared, call, &keys, fingerprint, session, license_json).await?;
    let answer = TrialResponse {
        activation: ActivationResponse::success(ACTIVATED, &sealed, expires_at),
        license: data,
        already_used,
        subscription_url: request.subscription_url,
    };
    let body = json_line(&TrialAnswer { answer, offline_token })?;
    Ok(Reply::new(StatusCode::CREATED, JSON, body))
}

/// Whether a trial that was answered had begun before it was asked for.
fn has_had(shared: &Shared, request: &TrialCall, activated: &Activated) -> bool {
    let ledger = shared.context.cluster.ledger();
    let began = ledger.trial(&request.fingerprint).map(|trial| trial.started_at_ms);
    !activated.is_new || began.is_some_and(|began| began != activated.civil_ms)
}

/// What a trial's license is known by, drawn by a MAC instead of at random.
struct Drawn {
    license: LicenseId,
    activation: ActivationId,
    client: ClientId,
    key: LicenseKey,
}

impl Drawn {
    /// The address is lower case. What the parts are told apart by is their lengths.
    fn of(mac: &MacKey, fingerprint: &str, email: &str, product: &str) -> Self {
        let lengths = [fingerprint, email].map(|text| (text.len() as u64).to_be_bytes());
        let draw = |what: &[u8]| {
            let (device, address) = (fingerprint.as_bytes(), email.as_bytes());
            let product = product.as_bytes();
            mac.tag(&[b"trial ", what, &lengths[0], &lengths[1], device, address, product])
        };
        let number = |what| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&draw(what)[..16]);
            uuid::Builder::from_random_bytes(bytes).into_uuid().as_u128()
        };
        let client = number(b"client:");
        let secret = Zeroizing::new(draw(b"key:"));
        let mut random = Zeroizing::new([0; ENTROPY_BYTES]);
        random.copy_from_slice(&secret[..ENTROPY_BYTES]);
        Self {
            license: LicenseId(number(b"license:")),
            activation: ActivationId(number(b"activation:")),
            client: ClientId(client),
            key: LicenseKey::generate(&random, &uuid_text(client), email),
        }
    }
}

fn not_begun(shared: &Shared, refused: &LedgerRefusal) -> Failure {
    let now_ms = shared.context.cluster.displayed_civil_ms();
    refusal::failure(refused, &refusal::About::default(), now_ms, false)
}

/// What a trial would be: the plan that a license would keep, its package and its days.
struct Offer {
    plan: Plan,
    package: Name,
    days: u32,
}

async fn command(
    shared: &Shared,
    call: &Call,
    keys: &Arc<Keys>,
    request: &TrialCall,
) -> Result<(Command, LicenseKey), Failure> {
    let (offer, now_ms) = {
        let mut found = local_offer(shared, request)?;
        if found.is_none() {
            shared.catch_up(call.deadline).await?;
            found = local_offer(shared, request)?;
        }
        found.ok_or_else(|| {
            Failure::from(FaceFailure::from_refusal(&Refusal::NoTrial).because("no_trial"))
        })?
    };
    let entropy = &*shared.context.entropy;
    let email = request.email.to_lowercase();
    let drawn = Drawn::of(&keys.license_keys, &request.fingerprint, &email, &offer.plan.product);
    let Drawn { license, activation, client, key } = drawn;
    let mac = license_key_mac(&keys.license_keys, key.expose());
    let ends_ms = shared
        .context
        .cluster
        .displayed_civil_ms()
        .saturating_add(i64::from(offer.days).saturating_mul(DAY_MS));
    let terms = LicenseTerms {
        license,
        face: Face::Device,
        package: offer.package,
        client: None,
        organisation: "".into(),
        plan: offer.plan,
        valid_from_ms: now_ms,
        valid_until_ms: Some(ends_ms),
        open: false,
    };
    let session = new_session(entropy, &*keys.vault, activation)?;
    let claim = Claim::Device { identity: identity(entropy, &email, None, None), session };
    let trial = StartTrial {
        issue: IssueLicense { terms, key: KeyRow { mac, hint: key.last_characters().into() } },
        client,
        activate: Activate {
            key_mac: Some(mac),
            address: address_tag(&keys.license_keys, call.address),
            holder: request.fingerprint.as_str().into(),
            activation,
            lease: draw_lease(&*shared.context.clock, entropy),
            claim,
        },
    };
    Ok((Command::StartTrial(Box::new(trial)), key))
}

/// What is offered as of this node's ledger, and its civil clock.
fn local_offer(shared: &Shared, request: &TrialCall) -> Result<Option<(Offer, i64)>, Failure> {
    let ledger = shared.context.cluster.ledger();
    let offer = offer(&ledger, request.product.as_deref(), Some(request))?;
    Ok(offer.map(|offer| (offer, ledger.clock().civil_ms)))
}

fn offer(
    ledger: &Ledger,
    product: Option<&str>,
    request: Option<&TrialCall>,
) -> Result<Option<Offer>, Failure> {
    let plan = request.and_then(|request| request.plan.as_deref());
    let found = match product {
        Some(product) => {
            find_product(ledger, product).map(|row| trial_plan(row, plan)).transpose()?.flatten()
        }
        None => {
            let mut with_trial = Vec::new();
            let mut products = ledger.products();
            for row in products.by_ref().take(MAX_PRODUCTS_WALKED) {
                with_trial.extend(trial_plan(row, plan)?);
            }
            if products.next().is_some() {
                let body = FailureBody::error_only("product_id is required");
                let failure = FaceFailure::of_device(StatusCode::BAD_REQUEST, &body);
                return Err(failure.because("invalid_request").into());
            }
            // Which product is meant is clear only where one has a trial.
            with_trial.pop().filter(|_| with_trial.is_empty())
        }
    };
    let Some((catalog, plan)) = found else { return Ok(None) };
    let Some(package) = package_for(ledger, "", Some((&catalog, &plan))) else { return Ok(None) };
    let sold = Sold {
        max_devices: plan.max_devices,
        check: ledger_mode(plan.check_mode),
        check_interval_s: 0,
        trial: true,
    };
    let of_plan = if plan.trial_days == 0 { DEFAULT_TRIAL_DAYS } else { plan.trial_days };
    let asked = request.and_then(|request| request.days).unwrap_or(of_plan);
    let days = asked.min(of_plan);
    Ok(Some(Offer { plan: kept(&catalog, &plan, &sold), package, days }))
}

/// A product with its plan for trials, or the one asked for if that is one.
fn trial_plan(
    row: &ProductRow,
    asked: Option<&str>,
) -> Result<Option<(Catalog, PlanView)>, Failure> {
    let catalog = catalog_of(row)?;
    let is_trial = |plan: &&PlanView| plan.is_active && (plan.is_trial || plan.trial_days > 0);
    let plan = match asked {
        Some(asked) => catalog.plan(asked).ok().filter(is_trial),
        None => catalog.plans.iter().find(|plan| plan.is_active && plan.is_trial),
    };
    let plan = plan.cloned();
    Ok(plan.map(|plan| (catalog, plan)))
}

/// The sealed and the plain form of a trial's license.
fn began(
    shared: &Shared,
    keys: &Keys,
    activated: &Activated,
    request: &TrialCall,
    key: &LicenseKey,
) -> Result<(Held, LicenseData), Failure> {
    let email = request.email.to_lowercase();
    let asker = Asker { email: &email, fingerprint: &request.fingerprint, key };
    let gone = || Failure::from(FaceFailure::from_refusal(&Refusal::UnknownDevice));
    let mac = license_key_mac(&keys.license_keys, key.expose());
    // Decided before under another key: that one was shown then, and is not known here.
    let found = {
        let ledger = shared.context.cluster.ledger();
        let is_own = ledger.license(activated.license).is_some_and(|row| row.key.mac == mac);
        if !is_own {
            return Err(FaceFailure::from_refusal(&Refusal::TrialUsed).into());
        }
        Found::of(&ledger, activated, &asker)
    };
    let Found { data, activation, session } = found.ok_or_else(gone)?;
    let held = Held {
        license_json: Zeroizing::new(data.to_json()),
        expires_at: data.expires_at,
        session: session_of(&*keys.vault, activation, &session)?,
        offline_token: offline_token(shared, keys, activated, &request.fingerprint)?,
    };
    Ok((held, data))
}

/// Products whose catalog is read to find the one that has a trial; where there are more, the
/// caller says which is meant.
const MAX_PRODUCTS_WALKED: usize = 64;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
