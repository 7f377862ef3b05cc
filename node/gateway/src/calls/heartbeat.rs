//! Heartbeats: one lease or up to 1,000, in one command.
//!
//! A renewal token whose MAC is not ours, or that belongs to another lease, is refused here and
//! never proposed; the lease itself says how, as it would have with a good token. Whether a
//! sequence is the current one is the ledger's to say.

use lease::command::{Command, Renewal as LedgerRenewal};
use lease::ids::{Fence, LeaseId};
use lease::outcome::{Outcome, RefusalCode, RenewalOutcome};
use protocol::cloud::denial::DenialReason;
use protocol::cloud::lease::{
    BulkHeartbeatItem, BulkHeartbeatRequest, BulkHeartbeatResponse, BulkHeartbeatResult,
    BulkHeartbeatStatus, HeartbeatRequest, HeartbeatResponse, RenewedStatus,
};
use protocol::lease_id::{self, LeaseKey};
use protocol::renewal;
use protocol::wire::UtcTime;

use crate::call::Call;
use crate::calls::offline::Signing;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::refusal::cloud_failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view::{self, Epoch};

/// `PUT /api/v1/licenses/{lease_id}/heartbeat`
pub(crate) async fn heartbeat(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: HeartbeatRequest = call.json()?;
    let signing = Signing::of(shared)?;
    let (lease, sequence) =
        shown(shared, call, &keys, signing.epoch, &request.renewal_token).await?;
    let renewal = LedgerRenewal { lease, sequence, still_active: request.still_active };
    let outcomes = renew(shared, call, vec![renewal]).await?;
    match outcomes.as_slice() {
        [RenewalOutcome::Refused(refusal)] => Err(cloud_failure(refusal, &[])),
        [renewed] => response(&keys, &signing, lease, renewed),
        _ => Err(Failure::internal("one renewal did not get one outcome")),
    }
}

/// The lease in the path and the sequence that its renewal token holds.
pub(crate) async fn shown(
    shared: &Shared,
    call: &Call,
    keys: &Keys,
    epoch: Epoch,
    renewal_token: &str,
) -> Result<(LeaseId, u32), Failure> {
    let key = call.lease(keys)?;
    let lease = view::ledger_id(key);
    if let Some(sequence) = sequence_of(keys, epoch, key, renewal_token) {
        return Ok((lease, sequence));
    }
    let reasons = why_not_renewed(shared, call, &[lease]).await?;
    Err(Failure::denied(reasons.first().copied().unwrap_or(DenialReason::RenewalTokenInvalid)))
}

/// The answer to a renewal that was not refused.
pub(crate) fn response(
    keys: &Keys,
    signing: &Signing,
    lease: LeaseId,
    outcome: &RenewalOutcome,
) -> Result<Reply, Failure> {
    let Extended { expires_at_ms, expires_in_ms, heartbeat_interval_ms, sequence, fence } =
        Extended::of(outcome).ok_or_else(|| Failure::internal("a refusal is no renewal"))?;
    Ok(Reply::ok(&HeartbeatResponse {
        status: RenewedStatus::Renewed,
        expires_at: UtcTime::from_unix_ms(expires_at_ms),
        expires_in_ms,
        heartbeat_interval_ms: heartbeat_interval_ms.into(),
        renewal_token: view::renewal_token(keys, signing.epoch, lease, sequence),
        fence: view::fence(signing.epoch, fence),
        offline_token: token_of(keys, signing, outcome)?,
    }))
}

/// What both kinds of renewal say.
struct Extended {
    expires_in_ms: u64,
    expires_at_ms: i64,
    heartbeat_interval_ms: u32,
    sequence: u32,
    fence: Fence,
}

impl Extended {
    fn of(outcome: &RenewalOutcome) -> Option<Self> {
        match outcome {
            RenewalOutcome::Renewed {
                expires_in_ms,
                expires_at_ms,
                heartbeat_interval_ms,
                sequence,
                fence,
            } => Some(Self {
                expires_in_ms: *expires_in_ms,
                expires_at_ms: *expires_at_ms,
                heartbeat_interval_ms: *heartbeat_interval_ms,
                sequence: *sequence,
                fence: *fence,
            }),
            RenewalOutcome::RenewedOffline(renewed) => Some(Self {
                expires_in_ms: renewed.expires_in_ms,
                expires_at_ms: renewed.expires_at_ms,
                heartbeat_interval_ms: renewed.heartbeat_interval_ms,
                sequence: renewed.sequence,
                fence: renewed.proof.fence,
            }),
            RenewalOutcome::Refused(_) => None,
        }
    }
}

/// The token that a renewal allows.
fn token_of(
    keys: &Keys,
    signing: &Signing,
    outcome: &RenewalOutcome,
) -> Result<Option<String>, Failure> {
    match outcome {
        RenewalOutcome::RenewedOffline(renewed) => signing.token(keys, &renewed.proof).map(Some),
        _ => Ok(None),
    }
}

/// `POST /api/v1/licenses/heartbeats`
pub(crate) async fn heartbeats(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let request: BulkHeartbeatRequest = call.json()?;
    let signing = Signing::of(shared)?;
    let admitted = admit_all(shared, call, &keys, signing.epoch, &request.leases).await?;
    let renewals: Vec<LedgerRenewal> =
        admitted.iter().filter_map(|item| item.as_ref().ok().copied()).collect();
    let outcomes =
        if renewals.is_empty() { Vec::new() } else { renew(shared, call, renewals).await? };
    let mut decided = outcomes.into_iter();
    let mut results = Vec::with_capacity(admitted.len());
    for (item, admitted) in request.leases.into_iter().zip(admitted) {
        results.push(match admitted {
            Err(status) => without_lease(item.lease_id, status),
            Ok(renewal) => match decided.next() {
                None => return Err(Failure::internal("fewer outcomes than renewals")),
                Some(RenewalOutcome::Refused(refusal)) => {
                    let status =
                        bulk_status(refusal.code).ok_or_else(|| cloud_failure(&refusal, &[]))?;
                    without_lease(item.lease_id, status)
                }
                Some(renewed) => extended(&keys, &signing, item.lease_id, renewal.lease, &renewed)?,
            },
        });
    }
    Ok(Reply::ok(&BulkHeartbeatResponse { results }))
}

/// One outcome for each lease.
async fn renew(
    shared: &Shared,
    call: &Call,
    leases: Vec<LedgerRenewal>,
) -> Result<Vec<RenewalOutcome>, Failure> {
    let asked = leases.len();
    // No request id: the sequence makes a renewal repeatable by itself.
    match shared.submit(call, None, Command::Heartbeat { leases }).await? {
        Outcome::Renewed(outcomes) if outcomes.len() == asked => Ok(outcomes),
        Outcome::Refused(refusal) => Err(cloud_failure(&refusal, &[])),
        _ => Err(Failure::internal("a heartbeat had the outcome of another command")),
    }
}

/// What to say of leases whose renewal token will not do: another app's lease is not there, an
/// ended one has ended, and only the holder learns that the token is wrong. A lease that this node
/// does not know may have been made elsewhere a moment ago, so the node catches up once.
async fn why_not_renewed(
    shared: &Shared,
    call: &Call,
    leases: &[LeaseId],
) -> Result<Vec<DenialReason>, Failure> {
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let app = call.app()?.app;
    let look = || -> Vec<DenialReason> {
        let ledger = shared.context.cluster.ledger();
        let reason = |lease| match ledger.lease(lease) {
            None => DenialReason::LeaseEnded,
            Some(found) if found.app != app => DenialReason::UnknownLease,
            Some(_) => DenialReason::RenewalTokenInvalid,
        };
        leases.iter().map(reason).collect()
    };
    let reasons = look();
    if !reasons.contains(&DenialReason::LeaseEnded) {
        return Ok(reasons);
    }
    shared.catch_up(call.deadline).await?;
    Ok(look())
}

/// The sequence in a token, if it is ours and this lease's.
fn sequence_of(keys: &Keys, epoch: Epoch, lease: LeaseKey, token: &str) -> Option<u32> {
    let renewal = renewal::decode(&keys.renewal, epoch.number, token).ok()?;
    (renewal.lease == lease).then_some(renewal.sequence)
}

/// Items to propose, and what is said of the others, which are counted here.
async fn admit_all(
    shared: &Shared,
    call: &Call,
    keys: &Keys,
    epoch: Epoch,
    items: &[BulkHeartbeatItem],
) -> Result<Vec<Result<LedgerRenewal, BulkHeartbeatStatus>>, Failure> {
    let looked_at: Vec<_> = items.iter().map(|item| admit(keys, epoch, item)).collect();
    let with_bad_token: Vec<LeaseId> = looked_at
        .iter()
        .filter_map(|item| match item {
            Err(NotAdmitted::BadToken(lease)) => Some(*lease),
            _ => None,
        })
        .collect();
    let mut reasons = why_not_renewed(shared, call, &with_bad_token).await?.into_iter();
    let mut refuse = |not_admitted| {
        let reason = match not_admitted {
            NotAdmitted::NoLease => DenialReason::UnknownLease,
            NotAdmitted::BadToken(_) => reasons.next().unwrap_or(DenialReason::RenewalTokenInvalid),
        };
        shared.metrics.count_refusal(reason.code());
        match reason {
            DenialReason::UnknownLease => BulkHeartbeatStatus::Unknown,
            DenialReason::LeaseEnded => BulkHeartbeatStatus::Ended,
            _ => BulkHeartbeatStatus::Replayed,
        }
    };
    Ok(looked_at.into_iter().map(|item| item.map_err(&mut refuse)).collect())
}

/// Why an item is not proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotAdmitted {
    /// The id is none of ours.
    NoLease,
    /// The renewal token is not one of this lease.
    BadToken(LeaseId),
}

fn admit(
    keys: &Keys,
    epoch: Epoch,
    item: &BulkHeartbeatItem,
) -> Result<LedgerRenewal, NotAdmitted> {
    let key = lease_id::decode(&keys.lease_id, &item.lease_id).map_err(|_| NotAdmitted::NoLease)?;
    let lease = view::ledger_id(key);
    let sequence =
        sequence_of(keys, epoch, key, &item.renewal_token).ok_or(NotAdmitted::BadToken(lease))?;
    Ok(LedgerRenewal { lease, sequence, still_active: true })
}

/// What a bulk item says to a refusal; `None` for those that concern the whole call.
fn bulk_status(code: RefusalCode) -> Option<BulkHeartbeatStatus> {
    match code {
        RefusalCode::LeaseEnded
        | RefusalCode::AlreadyEnded
        | RefusalCode::PackageExpired
        | RefusalCode::PackageNotYetValid
        | RefusalCode::PackageSuspended
        | RefusalCode::PackageRevoked => Some(BulkHeartbeatStatus::Ended),
        RefusalCode::RenewalTokenReplayed => Some(BulkHeartbeatStatus::Replayed),
        RefusalCode::UnknownLease => Some(BulkHeartbeatStatus::Unknown),
        _ => None,
    }
}

fn without_lease(lease_id: String, status: BulkHeartbeatStatus) -> BulkHeartbeatResult {
    BulkHeartbeatResult {
        lease_id,
        status,
        expires_at: None,
        expires_in_ms: None,
        heartbeat_interval_ms: None,
        renewal_token: None,
        fence: None,
        offline_token: None,
    }
}

fn extended(
    keys: &Keys,
    signing: &Signing,
    lease_id: String,
    lease: LeaseId,
    outcome: &RenewalOutcome,
) -> Result<BulkHeartbeatResult, Failure> {
    let Some(extended) = Extended::of(outcome) else {
        return Ok(without_lease(lease_id, BulkHeartbeatStatus::Ended));
    };
    Ok(BulkHeartbeatResult {
        lease_id,
        status: BulkHeartbeatStatus::Renewed,
        expires_at: Some(UtcTime::from_unix_ms(extended.expires_at_ms)),
        expires_in_ms: Some(extended.expires_in_ms),
        heartbeat_interval_ms: Some(extended.heartbeat_interval_ms.into()),
        renewal_token: Some(view::renewal_token(keys, signing.epoch, lease, extended.sequence)),
        fence: Some(view::fence(signing.epoch, extended.fence)),
        offline_token: token_of(keys, signing, outcome)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_keys::keys;

    #[test]
    fn only_this_leases_token_of_this_epoch_has_a_sequence() {
        let keys = keys();
        let epoch = Epoch { number: 1, incarnation: 9 };
        let lease = LeaseKey { group: 0, random: [7; 10] };
        let other = LeaseKey { group: 0, random: [8; 10] };
        let token = view::renewal_token(&keys, epoch, view::ledger_id(lease), 41);
        assert_eq!(sequence_of(&keys, epoch, lease, &token), Some(41));
        assert_eq!(sequence_of(&keys, epoch, other, &token), None);
        let next = Epoch { number: 2, ..epoch };
        assert_eq!(sequence_of(&keys, next, lease, &token), None);
        assert_eq!(sequence_of(&keys, epoch, lease, "rt1-forged"), None);
    }

    #[test]
    fn bulk_items_are_admitted_one_by_one() {
        let keys = keys();
        let epoch = Epoch { number: 1, incarnation: 9 };
        let lease = LeaseId { group: 0, random: [7; 10] };
        let lease_id = view::lease_id_text(&keys, lease);
        let renewal_token = view::renewal_token(&keys, epoch, lease, 3);
        let item = |lease_id: &str, renewal_token: &str| BulkHeartbeatItem {
            lease_id: lease_id.to_owned(),
            renewal_token: renewal_token.to_owned(),
        };
        let good = LedgerRenewal { lease, sequence: 3, still_active: true };
        let table = [
            (item(&lease_id, &renewal_token), Ok(good)),
            (item("lease-not-ours", &renewal_token), Err(NotAdmitted::NoLease)),
            (item(&lease_id, "rt1-forged"), Err(NotAdmitted::BadToken(lease))),
        ];
        for (item, want) in table {
            assert_eq!(admit(&keys, epoch, &item), want);
        }
    }

    #[test]
    fn refusals_of_the_whole_call_are_no_items_status() {
        let table = [
            (RefusalCode::LeaseEnded, Some(BulkHeartbeatStatus::Ended)),
            (RefusalCode::PackageRevoked, Some(BulkHeartbeatStatus::Ended)),
            (RefusalCode::RenewalTokenReplayed, Some(BulkHeartbeatStatus::Replayed)),
            (RefusalCode::UnknownLease, Some(BulkHeartbeatStatus::Unknown)),
            (RefusalCode::CredentialsRevoked, None),
        ];
        for (code, want) in table {
            assert_eq!(bulk_status(code), want, "{code:?}");
        }
    }
}
