//! Heartbeats: one lease or up to 1,000, in one command.
//!
//! A renewal token whose MAC is not ours, or that belongs to another lease, is refused here and
//! never proposed; the lease itself says how, as it would have with a good token. Whether a
//! sequence is the current one is the ledger's to say.

use futures_util::stream::{self, StreamExt, TryStreamExt};
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
use crate::calls::reclaim::{self, Former};
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
    if let Some(epoch) = reclaim::former_epoch(shared)
        && let Some(former) =
            reclaim::shown(&keys, epoch, call.lease(&keys)?, &request.renewal_token)
    {
        let renewed = reclaim::reclaim_one(shared, call, former).await?;
        return response(&keys, &signing, former.lease, &renewed);
    }
    let (lease, sequence) =
        shown(shared, call, &keys, &signing.epoch, &request.renewal_token).await?;
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
    epoch: &Epoch,
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
        renewal_token: view::renewal_token(keys, &signing.epoch, lease, sequence),
        fence: signing.epoch.fence(fence),
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
    let admitted = admit_all(shared, call, &keys, &signing.epoch, &request.leases).await?;
    let mut decided = decide_all(shared, call, &admitted).await?;
    let mut results = Vec::with_capacity(admitted.len());
    for (item, admitted) in request.leases.into_iter().zip(admitted) {
        results.push(match admitted {
            Err(status) => without_lease(item.lease_id, status),
            Ok(shown) => match decided.next_of(shown) {
                None => return Err(Failure::internal("fewer outcomes than renewals")),
                Some(RenewalOutcome::Refused(refusal)) => {
                    let status = shown
                        .bulk_status(refusal.code)
                        .ok_or_else(|| cloud_failure(&refusal, &[]))?;
                    without_lease(item.lease_id, status)
                }
                Some(renewed) => extended(&keys, &signing, item.lease_id, shown.lease(), &renewed)?,
            },
        });
    }
    Ok(Reply::ok(&BulkHeartbeatResponse { results }))
}

/// What an item of a bulk call shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// A token of the present epoch.
    Present(LedgerRenewal),
    /// One of the former epoch, within the grace.
    Former(Former),
}

impl Shown {
    fn lease(self) -> LeaseId {
        match self {
            Self::Present(renewal) => renewal.lease,
            Self::Former(former) => former.lease,
        }
    }

    /// What is said to a refusal of this item; `None`: it concerns the whole call.
    fn bulk_status(self, code: RefusalCode) -> Option<BulkHeartbeatStatus> {
        match (self, code) {
            // Its seat is gone.
            (
                Self::Former(_),
                RefusalCode::MaxOverageExceeded
                | RefusalCode::QuantityExceedsPackage
                | RefusalCode::PoolExhausted
                | RefusalCode::UnknownPackage,
            ) => Some(BulkHeartbeatStatus::Ended),
            (Self::Former(_), RefusalCode::NotReclaimable) => Some(BulkHeartbeatStatus::Replayed),
            (_, code) => bulk_status(code),
        }
    }
}

/// Outcomes of a bulk call: those of the present epoch came in one command.
struct Decided {
    present: std::vec::IntoIter<RenewalOutcome>,
    former: std::vec::IntoIter<RenewalOutcome>,
}

impl Decided {
    fn next_of(&mut self, shown: Shown) -> Option<RenewalOutcome> {
        match shown {
            Shown::Present(_) => self.present.next(),
            Shown::Former(_) => self.former.next(),
        }
    }
}

async fn decide_all(
    shared: &Shared,
    call: &Call,
    admitted: &[Result<Shown, BulkHeartbeatStatus>],
) -> Result<Decided, Failure> {
    let (mut renewals, mut formers) = (Vec::new(), Vec::new());
    for shown in admitted.iter().flatten() {
        match shown {
            Shown::Present(renewal) => renewals.push(*renewal),
            Shown::Former(former) => formers.push(*former),
        }
    }
    let present =
        if renewals.is_empty() { Vec::new() } else { renew(shared, call, renewals).await? };
    let former: Vec<RenewalOutcome> = stream::iter(formers)
        .map(|former| reclaim::reclaim(shared, call, former))
        .buffered(RECLAIMS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(Decided { present: present.into_iter(), former: former.into_iter() })
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
fn sequence_of(keys: &Keys, epoch: &Epoch, lease: LeaseKey, token: &str) -> Option<u32> {
    let renewal = renewal::decode(&keys.renewal, epoch.number, token).ok()?;
    (renewal.lease == lease).then_some(renewal.sequence)
}

/// Items to propose, and what is said of the others, which are counted here.
async fn admit_all(
    shared: &Shared,
    call: &Call,
    keys: &Keys,
    epoch: &Epoch,
    items: &[BulkHeartbeatItem],
) -> Result<Vec<Result<Shown, BulkHeartbeatStatus>>, Failure> {
    let former = reclaim::former_epoch(shared);
    let looked_at: Vec<_> = items.iter().map(|item| admit(keys, epoch, former, item)).collect();
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
    epoch: &Epoch,
    former_epoch: Option<u32>,
    item: &BulkHeartbeatItem,
) -> Result<Shown, NotAdmitted> {
    let key = lease_id::decode(&keys.lease_id, &item.lease_id).map_err(|_| NotAdmitted::NoLease)?;
    let lease = view::ledger_id(key);
    if let Some(sequence) = sequence_of(keys, epoch, key, &item.renewal_token) {
        return Ok(Shown::Present(LedgerRenewal { lease, sequence, still_active: true }));
    }
    former_epoch
        .and_then(|epoch| reclaim::shown(keys, epoch, key, &item.renewal_token))
        .map(Shown::Former)
        .ok_or(NotAdmitted::BadToken(lease))
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
        renewal_token: Some(view::renewal_token(keys, &signing.epoch, lease, extended.sequence)),
        fence: Some(signing.epoch.fence(extended.fence)),
        offline_token: token_of(keys, signing, outcome)?,
    })
}

/// Leases of the former epoch that one call brings back at once: each is a command of its own.
const RECLAIMS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_keys::keys;

    #[test]
    fn only_this_leases_token_of_this_epoch_has_a_sequence() {
        let keys = keys();
        let epoch = Epoch::new(1, 9);
        let lease = LeaseKey { group: 0, random: [7; 10] };
        let other = LeaseKey { group: 0, random: [8; 10] };
        let token = view::renewal_token(&keys, &epoch, view::ledger_id(lease), 41);
        assert_eq!(sequence_of(&keys, &epoch, lease, &token), Some(41));
        assert_eq!(sequence_of(&keys, &epoch, other, &token), None);
        let next = Epoch::new(2, 9);
        assert_eq!(sequence_of(&keys, &next, lease, &token), None);
        assert_eq!(sequence_of(&keys, &epoch, lease, "rt1-forged"), None);
    }

    #[test]
    fn bulk_items_are_admitted_one_by_one() {
        let keys = keys();
        let epoch = Epoch::new(1, 9);
        let lease = LeaseId { group: 0, random: [7; 10] };
        let lease_id = view::lease_id_text(&keys, lease);
        let renewal_token = view::renewal_token(&keys, &epoch, lease, 3);
        let item = |lease_id: &str, renewal_token: &str| BulkHeartbeatItem {
            lease_id: lease_id.to_owned(),
            renewal_token: renewal_token.to_owned(),
        };
        let good = Shown::Present(LedgerRenewal { lease, sequence: 3, still_active: true });
        let table = [
            (item(&lease_id, &renewal_token), Ok(good)),
            (item("lease-not-ours", &renewal_token), Err(NotAdmitted::NoLease)),
            (item(&lease_id, "rt1-forged"), Err(NotAdmitted::BadToken(lease))),
        ];
        for (item, want) in table {
            assert_eq!(admit(&keys, &epoch, None, &item), want);
        }
        let later = Epoch::new(2, 9);
        let held = item(&lease_id, &renewal_token);
        assert_eq!(admit(&keys, &later, None, &held), Err(NotAdmitted::BadToken(lease)));
        let back = admit(&keys, &later, Some(1), &held);
        assert!(matches!(back, Ok(Shown::Former(former)) if former.lease == lease), "{back:?}");
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
