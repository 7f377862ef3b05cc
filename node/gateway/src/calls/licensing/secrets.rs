//! Secrets that faces share with their callers: keys of evaluation licenses, secrets of the classic
//! face's vendors. They are sealed here, travel sealed, and are never shown again.

use lease::Ledger;
use lease::command::{Command, SealedSecret};
use lease::license::KeyWindow;
use lease::outcome::{Outcome, RefusalCode};
use protocol::cloud::admin::{
    ClassicVendorList, ClassicVendorRequest, ClassicVendorView, EvaluationKeys,
    RotateEvaluationKeyRequest,
};
use protocol::cloud::problem::Problem;
use zeroize::Zeroizing;

use super::done;
use crate::call::Call;
use crate::calls::paged;
use crate::failure::Failure;
use crate::keys::{Keys, VaultError};
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// The rotating key of evaluation licenses; its versions are the secrets `NAME-N`.
pub(crate) const EVALUATION_KEY: &str = "evaluation-hmac";
/// What the name of a classic vendor's secret begins with.
const CLASSIC_VENDOR: &str = "classic-vendor-";

/// `GET /admin/evaluation/keys`
pub(crate) async fn evaluation_keys(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    Ok(Reply::ok(&keys(&ledger)))
}

/// `POST /admin/evaluation/keys/rotate`: a repeat under the same idempotency key shows the window
/// as it is and makes no other key.
pub(crate) async fn rotate_evaluation_key(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let held = shared.serving_keys()?;
    let request: RotateEvaluationKeyRequest = call.json_or_default()?;
    // The secret is part of the request; of a text that is stored only as its MAC.
    let given = request.secret.as_ref().map(|secret| {
        held.license_keys.tag(&[b"rotate evaluation key ", secret.expose().as_bytes()])
    });
    let request_id = call.request_id(&(request.minimum, given));
    let (next, window, is_repeat) = {
        let ledger = shared.read(call).await?;
        let now = keys(&ledger);
        let next = now.versions.last().copied().unwrap_or(0).max(now.current).saturating_add(1);
        let minimum = request.minimum.unwrap_or(now.minimum);
        if minimum > next || minimum < now.minimum {
            let reason = format!("want {} (the present one) to {next} (the new one)", now.minimum);
            return Err(Failure::field("minimum", &reason));
        }
        let window = KeyWindow { name: EVALUATION_KEY.into(), current: next, minimum };
        (next, window, ledger.is_remembered(&request_id))
    };
    let mut random = Zeroizing::new([0; 32]);
    shared.context.entropy.fill(&mut *random);
    let bytes = match &request.secret {
        Some(secret) => secret.expose().as_bytes(),
        None => &random[..],
    };
    let name = format!("{EVALUATION_KEY}-{next}");
    if !is_repeat {
        put(shared, call, sealed(&held, &name, 1, bytes)?).await?;
    }
    done(shared, call, request_id, Command::SetKeyWindow(window)).await?;
    let shown = keys(&shared.context.cluster.ledger());
    in_use_here(shared, call, |keys| keys.evaluation.contains_key(&shown.current)).await?;
    Ok(Reply::ok(&shown))
}

/// `GET /admin/classic/vendors`
pub(crate) async fn vendors(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let page = paged::asked(call)?;
    let ledger = shared.read(call).await?;
    let (vendors, next) =
        paged::by_name(classic_vendors(&ledger), &page, |vendor| (*vendor).to_owned());
    let view = |vendor: &str| ClassicVendorView { vendor_id: vendor.to_owned() };
    let vendors = vendors.into_iter().map(view).collect();
    Ok(Reply::ok(&ClassicVendorList { vendors, next }))
}

/// `POST /admin/classic/vendors`
pub(crate) async fn add_vendor(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let held = shared.serving_keys()?;
    let request: ClassicVendorRequest = call.json()?;
    let name = format!("{CLASSIC_VENDOR}{}", request.vendor_id);
    let version = {
        let ledger = shared.read(call).await?;
        ledger.secret(&name).map_or(1, |secret| secret.version.saturating_add(1))
    };
    let secret = request.secret.expose().as_bytes();
    put(shared, call, sealed(&held, &name, version, secret)?).await?;
    let has_it = |keys: &Keys| {
        keys.classic_vendors.get(&request.vendor_id).is_some_and(|known| known.expose() == secret)
    };
    in_use_here(shared, call, has_it).await?;
    Ok(Reply::ok(&ClassicVendorView { vendor_id: request.vendor_id }))
}

/// Vendors whose clients may sign requests of the classic face, in order of id.
pub(crate) fn classic_vendors(ledger: &Ledger) -> impl Iterator<Item = &str> {
    ledger.secrets().filter_map(|secret| secret.name.strip_prefix(CLASSIC_VENDOR))
}

fn keys(ledger: &Ledger) -> EvaluationKeys {
    let window = ledger.key_window(EVALUATION_KEY);
    let mut versions: Vec<u32> = ledger
        .secrets()
        .filter_map(|secret| {
            secret.name.strip_prefix(EVALUATION_KEY)?.strip_prefix('-')?.parse().ok()
        })
        .collect();
    versions.sort_unstable();
    EvaluationKeys {
        current: window.map_or(1, |window| window.current),
        minimum: window.map_or(1, |window| window.minimum),
        versions,
    }
}

fn sealed(keys: &Keys, name: &str, version: u32, secret: &[u8]) -> Result<SealedSecret, Failure> {
    keys.vault.seal_secret(name, version, secret).map_err(|error| match error {
        VaultError::TooLong { .. } => Failure::field("secret", "too long"),
        _ => Failure::internal("a secret could not be sealed"),
    })
}

/// Waits until this node works with a secret that was just stored; the others do within moments.
async fn in_use_here(
    shared: &Shared,
    call: &Call,
    holds: impl Fn(&Keys) -> bool,
) -> Result<(), Failure> {
    let mut watch = shared.context.keys.watch();
    let waiting = async {
        while !shared.context.keys.get().is_some_and(|keys| holds(&keys)) {
            if watch.changed().await.is_err() {
                break;
            }
        }
    };
    let waited = tokio::time::timeout(shared.left(call.deadline), waiting).await;
    waited.map_err(|_| Failure::not_seen_in_time())
}

/// Stores a sealed secret. Sealing draws a nonce, so no two attempts are one request: the version
/// alone decides who was first.
async fn put(shared: &Shared, call: &Call, secret: SealedSecret) -> Result<(), Failure> {
    match shared.submit(call, None, Command::PutSecret(secret)).await? {
        Outcome::Done | Outcome::Unchanged => Ok(()),
        Outcome::Refused(refusal) if refusal.code == RefusalCode::VersionConflict => {
            Err(Problem::new(409, "version_conflict", "Somebody changed it in the meantime.")
                .detail("look at what is stored, then ask again")
                .into())
        }
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("a secret had the outcome of another command")),
    }
}
