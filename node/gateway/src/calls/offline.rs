//! Offline use through `cloud`: borrowing a seat, giving the borrow back, asking what a token is
//! worth, and the key that tokens verify under.
//!
//! A token is signed here and never before the ledger has lengthened the lease: what may be signed
//! comes out of the log as a proof, and the token says no more than it.

use http::HeaderValue;
use http::header::CACHE_CONTROL;
use lease::Ledger;
use lease::command::Command;
use lease::ids::{AppId, LeaseId, Name};
use lease::offline::{Borrow, OfflineProof, ReturnBorrow};
use lease::outcome::{Outcome, RenewalOutcome};
use protocol::cloud::denial::DenialReason;
use protocol::cloud::lease::{
    BorrowRequest, BorrowResponse, BorrowedStatus, OfflineState, OfflineValidateRequest,
    OfflineValidateResponse, ReturnBorrowRequest,
};
use protocol::offline::{self, Expect, Holder, HolderKind, KeySet, OfflineClaims, Protocol};
use protocol::wire::UtcTime;

use crate::call::Call;
use crate::calls::heartbeat;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::licensing::{self, TokenOf};
use crate::refusal::cloud_failure;
use crate::reply::Reply;
use crate::shared::{Read, Shared};
use crate::view::{self, Epoch};

/// `POST /api/v1/licenses/{lease_id}/borrow`
pub(crate) async fn borrow(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: BorrowRequest = call.json()?;
    let signing = Signing::of(shared)?;
    let (lease, sequence) =
        heartbeat::shown(shared, call, &keys, &signing.epoch, &request.renewal_token).await?;
    let duration_ms = u64::from(request.duration_seconds) * 1_000;
    let command = Command::Borrow(Borrow { lease, sequence, duration_ms });
    // No request id: the sequence makes a borrow repeatable by itself.
    match shared.submit(call, None, command).await? {
        Outcome::Borrowed(borrowed) => Ok(Reply::ok(&BorrowResponse {
            status: BorrowedStatus::Borrowed,
            lease_id: view::lease_id_text(&keys, lease),
            borrowed_until: UtcTime::from_unix_ms(borrowed.proof.ends_ms),
            expires_at: UtcTime::from_unix_ms(borrowed.expires_at_ms),
            expires_in_ms: borrowed.expires_in_ms,
            heartbeat_interval_ms: borrowed.heartbeat_interval_ms.into(),
            renewal_token: view::renewal_token(&keys, &signing.epoch, lease, borrowed.sequence),
            fence: signing.epoch.fence(borrowed.proof.fence),
            offline_token: signing.token(&keys, &borrowed.proof)?,
        })),
        Outcome::Refused(refusal) => Err(cloud_failure(&refusal, &[])),
        _ => Err(Failure::internal("a borrow had the outcome of another command")),
    }
}

/// `POST /api/v1/licenses/{lease_id}/return-borrow`
pub(crate) async fn return_borrow(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: ReturnBorrowRequest = call.json()?;
    let signing = Signing::of(shared)?;
    let (lease, sequence) =
        heartbeat::shown(shared, call, &keys, &signing.epoch, &request.renewal_token).await?;
    let command = Command::ReturnBorrow(ReturnBorrow { lease, sequence });
    match shared.submit(call, None, command).await? {
        Outcome::Renewed(outcomes) => match outcomes.as_slice() {
            [RenewalOutcome::Refused(refusal)] => Err(cloud_failure(refusal, &[])),
            [renewed] => heartbeat::response(&keys, &signing, lease, renewed),
            _ => Err(Failure::internal("one lease did not get one outcome")),
        },
        Outcome::Refused(refusal) => Err(cloud_failure(&refusal, &[])),
        _ => Err(Failure::internal("an early return had the outcome of another command")),
    }
}

/// `POST /api/v1/offline/validate`
pub(crate) async fn validate(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: OfflineValidateRequest = call.json()?;
    let app = call.app()?.app;
    let key_set = key_set_of(&keys)?;
    let ledger = shared.read(call).await?;
    let cluster = ledger.cluster().ok_or_else(|| Failure::internal("no cluster"))?;
    let expect = Expect {
        issuer: Some(&cluster.cluster_id),
        epoch: Some(cluster.epoch),
        ..Expect::at(shared.context.cluster.displayed_civil_ms())
    };
    let answer = match offline::verify(&request.offline_token, &key_set, &expect) {
        Ok(claims) => worth(&keys, &ledger, app, &claims)?,
        Err(error) => {
            shared.metrics.count_refusal(error.code());
            OfflineValidateResponse { reason: Some(error.code().to_owned()), ..unbelieved() }
        }
    };
    Ok(Reply::ok(&answer))
}

/// `GET /.well-known/leasehold-offline-keys.json`
pub(crate) async fn keys(shared: &Shared, _call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let reply = Reply::ok(&key_set_of(&keys)?.to_jwks());
    Ok(reply.header(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")))
}

/// What is needed to sign beside a proof: read once, before the command goes out.
pub(crate) struct Signing {
    /// The cluster's id.
    pub(crate) issuer: Name,
    /// The cluster's epoch.
    pub(crate) epoch: Epoch,
}

impl Signing {
    /// The cluster as this node knows it.
    pub(crate) fn of(shared: &Shared) -> Result<Self, Failure> {
        let ledger = shared.context.cluster.ledger();
        let epoch = view::epoch(&ledger)?;
        let cluster = ledger.cluster().ok_or_else(|| Failure::internal("no cluster"))?;
        Ok(Self { issuer: cluster.cluster_id.clone(), epoch })
    }

    /// The token of a lease that an application holds: bound to its host.
    pub(crate) fn token(&self, keys: &Keys, proof: &OfflineProof) -> Result<String, Failure> {
        let of = TokenOf {
            issuer: &self.issuer,
            protocol: Protocol::Cloud,
            license_id: proof.package.to_string(),
            holder: Holder::of(HolderKind::Host, &proof.host),
            token_version: 1,
            max_nodes: None,
            cluster_id: None,
        };
        licensing::offline_token(keys, &self.epoch, proof, of)
    }
}

/// The keys under which tokens of this cluster verify.
pub(crate) fn key_set_of(keys: &Keys) -> Result<KeySet, Failure> {
    KeySet::of(keys.offline.public.clone())
        .map_err(|_| Failure::internal("the offline key does not make a key set"))
}

/// What a genuine token is worth now. Another app's is none of the caller's business; one of
/// another protocol is asked about by that protocol's own call.
fn worth(
    keys: &Keys,
    ledger: &Read<'_>,
    app: AppId,
    claims: &OfflineClaims,
) -> Result<OfflineValidateResponse, Failure> {
    let unknown = || Failure::denied(DenialReason::UnknownLease);
    let lease = protocol::lease_id::decode(&keys.lease_id, &claims.lease_id)
        .map(view::ledger_id)
        .map_err(|_| unknown())?;
    if claims.protocol != Protocol::Cloud {
        return Err(unknown());
    }
    let lease_id = Some(claims.lease_id.clone());
    let Some(found) = ledger.lease(&lease) else {
        return Ok(OfflineValidateResponse {
            reason: Some("lease_ended".to_owned()),
            lease_id,
            state: Some(OfflineState::Ended),
            ..unbelieved()
        });
    };
    if found.app != app {
        return Err(unknown());
    }
    let expires_in_ms = found.expires_in_ms.saturating_sub(ledger.since_written_ms());
    let is_newest = is_newest(ledger, lease, claims);
    let (state, reason) = match is_newest {
        true => (OfflineState::Live, None),
        false => (OfflineState::Superseded, Some("superseded".to_owned())),
    };
    Ok(OfflineValidateResponse {
        valid: is_newest,
        reason,
        lease_id,
        state: Some(state),
        expires_at: Some(UtcTime::from_unix_ms(found.expires_at_ms)),
        expires_in_ms: Some(expires_in_ms),
        borrowed: Some(ledger.hold(lease).is_some_and(|hold| hold.borrowed)),
    })
}

/// Whether no later token was given for the lease, and this one was not given back.
fn is_newest(ledger: &Ledger, lease: LeaseId, claims: &OfflineClaims) -> bool {
    let version = licensing::token_version_of(&claims.jti);
    // Versions begin anew when no token was outstanding for a while: the end tells those apart.
    ledger.hold(lease).is_some_and(|hold| {
        Some(hold.version) == version && offline::exp_seconds(hold.ends_ms) == claims.exp
    })
}

fn unbelieved() -> OfflineValidateResponse {
    OfflineValidateResponse {
        valid: false,
        reason: None,
        lease_id: None,
        state: None,
        expires_at: None,
        expires_in_ms: None,
        borrowed: None,
    }
}
