//! From the ledger's refusals to the document's statuses, codes and sentences: one complete table.
//!
//! The table matches every code by name, so that a new one does not compile before somebody has
//! decided what a cluster is told.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use lease::Ledger;
use lease::command::Command;
use lease::ids::Face;
use lease::outcome::{Outcome, Refusal as LedgerRefusal, RefusalCode};
use protocol::deployment::HEARTBEAT_INTERVAL_SECONDS;
use protocol::deployment::refusal::{ErrorBody, Refusal};
use protocol::wire::UtcTime;

use crate::call::Call;
use crate::face::FaceFailure;
use crate::failure::{Failure, wait_seconds};
use crate::shared::Shared;

/// What a call asks about.
pub(super) struct Asked {
    /// MAC of the key shown.
    pub(super) key_mac: [u8; 32],
    /// Nodes the cluster says it has; 0: it does not say.
    pub(super) nodes: u32,
}

/// A call that the ledger refused.
pub(super) struct Refused {
    /// Why.
    pub(super) code: RefusalCode,
    /// In the document's words.
    pub(super) failure: Failure,
}

impl Asked {
    /// Has a command decided, and waits until this node knows what it was decided by.
    pub(super) async fn decide(
        &self,
        shared: &Shared,
        call: &Call,
        command: Command,
    ) -> Result<Result<Outcome, Refused>, Failure> {
        // No request id: every one of these commands is repeatable by itself.
        let decided = shared.decide(call, None, command).await?;
        shared.seen(call, decided.index).await?;
        let Outcome::Refused(refusal) = decided.outcome else { return Ok(Ok(decided.outcome)) };
        let now_ms = shared.context.cluster.displayed_civil_ms();
        let facts = Facts::of(&shared.context.cluster.ledger(), self, now_ms);
        Ok(Err(Refused { code: refusal.code, failure: failure(&refusal, &facts) }))
    }
}

/// What the sentences name.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    now_ms: i64,
    ends_ms: i64,
    begins_ms: i64,
    nodes: u32,
    max_nodes: u32,
}

impl Facts {
    fn of(ledger: &Ledger, asked: &Asked, now_ms: i64) -> Self {
        let unknown =
            Self { now_ms, ends_ms: now_ms, begins_ms: now_ms, nodes: asked.nodes, max_nodes: 0 };
        let Some(license) = ledger.license_by_key(&asked.key_mac, Face::Deployment) else {
            return unknown;
        };
        let (begins_ms, ends_ms) = ledger.license_validity(&license.terms);
        Self { ends_ms, begins_ms, max_nodes: license.terms.plan.max_nodes, ..unknown }
    }
}

/// A refusal that was decided here, and is counted here.
pub(super) fn by_gateway(refusal: &Refusal) -> Failure {
    said(refusal, refusal.body()).because(refusal.code()).into()
}

/// A refusal that the ledger has counted.
pub(super) fn by_ledger(refusal: &Refusal) -> Failure {
    said(refusal, refusal.body()).into()
}

/// A refusal of the ledger's to a call that shows no key.
pub(super) fn without_key(refusal: &LedgerRefusal, now_ms: i64) -> Failure {
    failure(refusal, &Facts { now_ms, ends_ms: now_ms, begins_ms: now_ms, ..Facts::default() })
}

fn said(refusal: &Refusal, body: ErrorBody) -> FaceFailure {
    let status =
        StatusCode::from_u16(refusal.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut failure = FaceFailure::json(status, &body);
    if let Some(seconds) = body.retry_after_seconds {
        failure = failure.retry_after_s(seconds);
    }
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static(CHALLENGE);
        failure = failure.header(WWW_AUTHENTICATE, challenge);
    }
    failure
}

/// What a cluster is told of a refusal of the ledger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    InvalidRequest(&'static str),
    UnknownKey,
    NotActivated,
    StaleTokenVersion,
    Suspended,
    Cancelled,
    Expired,
    NotYetValid,
    NodeLimitExceeded,
    SlotInUse,
    NoSeat,
    TooManyRequests,
    Unavailable,
    /// No call of this face can meet it.
    Impossible,
}

/// The table. What may be undone is said as suspension, what is over as cancelling: to a cluster
/// both are 403, and it stops.
#[expect(clippy::too_many_lines, reason = "one table, one row for each code")]
fn verdict(code: RefusalCode) -> Verdict {
    use RefusalCode as Code;
    match code {
        Code::UnknownLicenseKey => Verdict::UnknownKey,
        Code::UnknownActivation => Verdict::NotActivated,
        Code::StaleTokenVersion => Verdict::StaleTokenVersion,
        Code::LicenseSuspended
        | Code::PackageSuspended
        | Code::ClientBanned
        | Code::ActivationRevoked => Verdict::Suspended,
        Code::LicenseCancelled
        | Code::LicenseRevoked
        | Code::PackageRevoked
        | Code::UnknownPackage => Verdict::Cancelled,
        Code::LicenseExpired | Code::PackageExpired | Code::ActivationExpired => Verdict::Expired,
        Code::LicenseNotYetValid | Code::PackageNotYetValid => Verdict::NotYetValid,
        Code::NodeLimitExceeded => Verdict::NodeLimitExceeded,
        Code::SlotInUse => Verdict::SlotInUse,
        Code::NoSeat
        | Code::MaxOverageExceeded
        | Code::QuantityExceedsPackage
        | Code::PoolExhausted
        | Code::PoolReserved
        | Code::BudgetReached => Verdict::NoSeat,
        Code::TooManyGuesses | Code::RequestTableFull => Verdict::TooManyRequests,
        Code::IdempotencyKeyReused => {
            Verdict::InvalidRequest("job_id: the job was reported before with other amounts")
        }
        Code::LimitReached
        | Code::LeaseIdTaken
        | Code::ClusterNotInitialised
        | Code::NoSpace
        | Code::Grace => Verdict::Unavailable,
        Code::ClusterAlreadyInitialised
        | Code::CredentialsRevoked
        | Code::OperatorRevoked
        | Code::RoleTooNarrow
        | Code::UnknownProduct
        | Code::UnknownVendor
        | Code::UnknownPool
        | Code::UnknownFeature
        | Code::UnknownApp
        | Code::UnknownLease
        | Code::ProductNotPermitted
        | Code::PackageIdTaken
        | Code::VendorKeyNotPinned
        | Code::VendorKeyDiffers
        | Code::ForeignClient
        | Code::ForeignDomain
        | Code::LeaseEnded
        | Code::AlreadyEnded
        | Code::RenewalTokenReplayed
        | Code::AppIdTaken
        | Code::NotEnoughFree
        | Code::VersionConflict
        | Code::NodeIdTaken
        | Code::UnknownLicense
        | Code::LicenseStateConflict
        | Code::LicenseTaken
        | Code::LicenseWithoutProduct
        | Code::LicenseOfOtherProduct
        | Code::ClientMismatch
        | Code::EmailNotAuthorized
        | Code::TooManyActivations
        | Code::HolderMismatch
        | Code::TrialUsed
        | Code::UnknownClient
        | Code::ClientTaken
        | Code::UnknownCatalogProduct
        | Code::NameTaken
        | Code::OfflineNotAllowed
        | Code::BorrowTooLong
        | Code::BorrowLimitReached
        | Code::OnlineReserve
        | Code::BorrowExcluded
        | Code::NotBorrowed
        | Code::OfflineTokenOutstanding
        | Code::UnknownApiKey
        | Code::UnknownMember
        | Code::UnknownTicket
        | Code::NotReclaimable
        | Code::PoolInUse
        | Code::UnknownOperator
        | Code::LastAdmin
        | Code::UnknownSubject
        | Code::SubjectInUse
        | Code::UnknownAlarm
        | Code::UnknownTrustAnchor
        | Code::TrustAnchorInUse
        | Code::UnknownAuditEvent
        | Code::DataKeyInUse => Verdict::Impossible,
    }
}

fn failure(refusal: &LedgerRefusal, facts: &Facts) -> Failure {
    let at = UtcTime::from_unix_ms;
    let available_at = refusal.available_at_ms.map(at);
    let by_civil = refusal.available_at_ms.map(|ms| ms.saturating_sub(facts.now_ms));
    let by_civil = by_civil.map(|ms| u64::try_from(ms).unwrap_or(0));
    let wait_s = refusal.retry_in_ms.or(by_civil).map(wait_seconds);
    let retry_after_seconds = wait_s.unwrap_or(RETRY_SECONDS);
    let words = match verdict(refusal.code) {
        Verdict::InvalidRequest(what) => Refusal::InvalidRequest(what.to_owned()),
        Verdict::UnknownKey => Refusal::UnknownKey,
        Verdict::NotActivated => Refusal::NotActivated,
        Verdict::StaleTokenVersion => Refusal::StaleTokenVersion,
        Verdict::Suspended => Refusal::Suspended,
        Verdict::Cancelled => Refusal::Cancelled,
        Verdict::Expired => Refusal::Expired { at: at(facts.ends_ms) },
        Verdict::NotYetValid => {
            Refusal::NotYetValid { at: available_at.unwrap_or(at(facts.begins_ms)) }
        }
        Verdict::NodeLimitExceeded => {
            Refusal::NodeLimitExceeded { nodes: facts.nodes, max_nodes: facts.max_nodes }
        }
        Verdict::SlotInUse => return slot_in_use(available_at, wait_s, facts),
        Verdict::NoSeat => {
            let words = Refusal::NoSeat { available_at };
            let body = ErrorBody { retry_after_seconds: wait_s, ..words.body() };
            return said(&words, body).into();
        }
        Verdict::TooManyRequests => Refusal::TooManyRequests { retry_after_seconds },
        Verdict::Unavailable => Refusal::Unavailable { retry_after_seconds },
        Verdict::Impossible => {
            return Failure::internal("a cluster's call met a refusal of another face");
        }
    };
    by_ledger(&words)
}

/// A slot without a term comes free when its holder leaves, which nobody knows: then the body says
/// no time, and to ask at the next heartbeat.
fn slot_in_use(available_at: Option<UtcTime>, wait_s: Option<u64>, facts: &Facts) -> Failure {
    let retry_after_seconds = wait_s.unwrap_or(HEARTBEAT_INTERVAL_SECONDS.into());
    let words = Refusal::SlotInUse {
        available_at: available_at.unwrap_or(UtcTime::from_unix_ms(facts.now_ms)),
        retry_after_seconds,
    };
    let body = ErrorBody { available_at, ..words.body() };
    said(&words, body).into()
}

/// What would do instead (RFC 6750, section 3).
const CHALLENGE: &str = "Bearer realm=\"leasehold\", error=\"invalid_token\"";
/// For refusals that do not know when they end.
const RETRY_SECONDS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, code and sentence of a refusal of the ledger's.
    fn check(code: RefusalCode, status: u16, error: &str, message: &str) {
        let facts = Facts {
            now_ms: 0,
            ends_ms: 1_767_225_599_000,
            begins_ms: 1_767_225_600_000,
            nodes: 12,
            max_nodes: 10,
        };
        let Failure::Face(said) = failure(&LedgerRefusal::new(code), &facts) else {
            panic!("{code:?}")
        };
        let body: ErrorBody = serde_json::from_slice(&said.body).unwrap();
        assert_eq!(said.status.as_u16(), status, "{code:?}");
        assert_eq!((body.error.as_str(), body.message.as_str()), (error, message), "{code:?}");
        let retries = said.headers.iter().any(|(name, _)| name == http::header::RETRY_AFTER);
        assert_eq!(retries, body.retry_after_seconds.is_some(), "{code:?}");
        assert!(said.reason.is_none(), "{code:?}: the ledger has counted it");
    }

    #[test]
    fn refusals_are_said_as_the_document_has_them() {
        use RefusalCode as Code;
        let suspended = "license is suspended";
        let cancelled = "license is cancelled";
        check(Code::UnknownLicenseKey, 404, "unknown_license_key", "no license has this key");
        check(Code::LicenseSuspended, 403, "license_suspended", suspended);
        check(Code::PackageSuspended, 403, "license_suspended", suspended);
        check(Code::ClientBanned, 403, "license_suspended", suspended);
        check(Code::ActivationRevoked, 403, "license_suspended", suspended);
        check(Code::LicenseCancelled, 403, "license_cancelled", cancelled);
        check(Code::LicenseRevoked, 403, "license_cancelled", cancelled);
        check(Code::LicenseExpired, 403, "license_expired", "license expired on 2025-12-31");
        check(
            Code::LicenseNotYetValid,
            403,
            "license_not_yet_valid",
            "license begins on 2026-01-01",
        );
        check(
            Code::NodeLimitExceeded,
            403,
            "node_limit_exceeded",
            "cluster has 12 nodes but license only allows 10 nodes",
        );
        check(Code::SlotInUse, 409, "cluster_slot_in_use", "license is in use by another cluster");
        check(
            Code::NoSeat,
            409,
            "cluster_slot_in_use",
            "every seat of the license's package is in use",
        );
        check(
            Code::StaleTokenVersion,
            401,
            "stale_token_version",
            "stale token_version; activate again",
        );
        check(
            Code::UnknownActivation,
            401,
            "invalid_token",
            "the cluster is not activated; activate again",
        );
        check(Code::TooManyGuesses, 429, "rate_limited", "too many requests; call again later");
        check(
            Code::IdempotencyKeyReused,
            400,
            "invalid_request",
            "job_id: the job was reported before with other amounts",
        );
        check(Code::LimitReached, 503, "unavailable", "the server cannot decide now; call again");
    }

    #[test]
    fn a_slot_says_when_it_frees_where_that_is_known() {
        let facts = Facts { now_ms: 1_000_000, ..Facts::default() };
        for (available_at_ms, want) in [(Some(1_000_000 + 86_400_000), 86_400), (None, 900)] {
            let refusal =
                LedgerRefusal { available_at_ms, ..LedgerRefusal::new(RefusalCode::SlotInUse) };
            let Failure::Face(said) = failure(&refusal, &facts) else { panic!("{refusal:?}") };
            let body: ErrorBody = serde_json::from_slice(&said.body).unwrap();
            assert_eq!(body.retry_after_seconds, Some(want));
            assert_eq!(body.available_at.map(|at| at.unix_ms), available_at_ms);
        }
    }
}
