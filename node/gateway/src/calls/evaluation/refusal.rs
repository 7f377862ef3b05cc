//! From the ledger's refusals to the document's reasons: one complete table.
//!
//! The table matches every code by name, so that a new one does not compile before somebody has
//! decided what an evaluation is told.

use http::StatusCode;
use lease::outcome::{Refusal, RefusalCode};
use protocol::evaluation::refusal::RefusalReason;

use crate::face::{EvaluationError, FaceFailure};
use crate::failure::{Failure, wait_seconds};

/// What an evaluation is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200 with `ok:false`.
    Say(RefusalReason),
    /// 429
    TooManyRequests,
    /// 503: no decision.
    Unavailable,
    /// No call of this face can meet it.
    Impossible,
}

/// The table. Cancelling is for good, as revocation is; what somebody may lift again is suspension.
#[expect(clippy::too_many_lines, reason = "one table, one row for each code")]
pub(super) fn verdict(code: RefusalCode) -> Verdict {
    use RefusalCode as Code;
    use Verdict::Say;
    match code {
        Code::UnknownLicenseKey => Say(RefusalReason::InvalidCode),
        Code::LicenseSuspended | Code::PackageSuspended | Code::ClientBanned => {
            Say(RefusalReason::Suspended)
        }
        Code::LicenseRevoked
        | Code::LicenseCancelled
        | Code::ActivationRevoked
        | Code::PackageRevoked
        | Code::UnknownPackage => Say(RefusalReason::Revoked),
        Code::LicenseExpired | Code::PackageExpired | Code::ActivationExpired => {
            Say(RefusalReason::Expired)
        }
        Code::LicenseNotYetValid | Code::PackageNotYetValid => Say(RefusalReason::NotYetValid),
        Code::UnknownActivation => Say(RefusalReason::UnknownActivation),
        Code::HolderMismatch => Say(RefusalReason::HostnameMismatch),
        Code::TooManyActivations
        | Code::NoSeat
        | Code::MaxOverageExceeded
        | Code::QuantityExceedsPackage
        | Code::PoolExhausted
        | Code::PoolReserved
        | Code::BudgetReached => Say(RefusalReason::NoSeat),
        Code::TooManyGuesses | Code::RequestTableFull => Verdict::TooManyRequests,
        Code::LimitReached
        | Code::LeaseIdTaken
        | Code::ClusterNotInitialised
        | Code::NoSpace
        | Code::Grace => Verdict::Unavailable,
        Code::ClusterAlreadyInitialised
        | Code::CredentialsRevoked
        | Code::OperatorRevoked
        | Code::RoleTooNarrow
        | Code::IdempotencyKeyReused
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
        | Code::SlotInUse
        | Code::NodeLimitExceeded
        | Code::StaleTokenVersion
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

/// 429
pub(super) fn too_many_requests(refusal: &Refusal) -> Failure {
    failure(StatusCode::TOO_MANY_REQUESTS, "Too many requests; call again later.", refusal)
}

/// 503 for what only the ledger could not do.
pub(super) fn unavailable(refusal: &Refusal) -> Failure {
    failure(StatusCode::SERVICE_UNAVAILABLE, "The server cannot decide now; call again.", refusal)
}

/// 503 of a node that has yet to open the key which others sign with.
pub(super) fn no_key_yet() -> Failure {
    unavailable(&Refusal {
        retry_in_ms: Some(1_000),
        ..Refusal::new(RefusalCode::ClusterNotInitialised)
    })
}

fn failure(status: StatusCode, detail: &str, refusal: &Refusal) -> Failure {
    let body = EvaluationError { ok: Some(false), detail: detail.to_owned() };
    let wait_s = refusal.retry_in_ms.map_or(RETRY_SECONDS, wait_seconds);
    FaceFailure::json(status, &body).retry_after_s(wait_s).into()
}

/// For refusals that do not know when they end.
const RETRY_SECONDS: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_the_document_s_reason() {
        use RefusalCode as Code;
        let table = [
            (Code::UnknownLicenseKey, "invalid_code", false),
            (Code::LicenseSuspended, "suspended", false),
            (Code::ClientBanned, "suspended", false),
            (Code::LicenseRevoked, "revoked", true),
            (Code::LicenseCancelled, "revoked", true),
            (Code::ActivationRevoked, "revoked", true),
            (Code::LicenseExpired, "expired", false),
            (Code::ActivationExpired, "expired", false),
            (Code::PackageExpired, "expired", false),
            (Code::LicenseNotYetValid, "not_yet_valid", false),
            (Code::UnknownActivation, "unknown_activation", false),
            (Code::HolderMismatch, "hostname_mismatch", false),
            (Code::TooManyActivations, "no_seat", false),
            (Code::NoSeat, "no_seat", false),
        ];
        for (code, reason, revoked) in table {
            let Verdict::Say(said) = verdict(code) else { panic!("{code:?}") };
            assert_eq!((said.code(), said.is_revoked()), (reason, revoked), "{code:?}");
        }
    }

    #[test]
    fn what_is_no_decision_says_when_to_call_again() {
        let at_limit =
            Refusal { retry_in_ms: Some(61_001), ..Refusal::new(RefusalCode::TooManyGuesses) };
        for (failure, status, wait_s) in [
            (too_many_requests(&at_limit), 429, "62"),
            (unavailable(&Refusal::new(RefusalCode::LimitReached)), 503, "5"),
            (no_key_yet(), 503, "1"),
        ] {
            let Failure::Face(said) = failure else { panic!("{status}") };
            assert_eq!(said.status.as_u16(), status);
            assert_eq!(said.headers[0].1, wait_s);
            let body: EvaluationError = serde_json::from_slice(&said.body).unwrap();
            assert_eq!(body.ok, Some(false));
        }
    }
}
