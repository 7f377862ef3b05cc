//! From the ledger's refusals to the `device` protocol's: one complete table.
//!
//! Statuses and sentences are [`protocol::device::refusals`]'; here is which of them a refusal of
//! the ledger is, and the numbers and dates in them. With the switch `device_compat_200` they are
//! sent as the protocol's first server sent them: 200 and `success:false`. What is no decision on a
//! license (too many guesses, a bound of this server) keeps its status in both.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use lease::Ledger;
use lease::ids::Face;
use lease::outcome::{Outcome, Refusal as LedgerRefusal, RefusalCode};
use protocol::device::refusals::Refusal;
use protocol::device::time::LicenseTime;
use protocol::device::wire::{ActivationResponse, FailureBody, TOO_MANY_REQUESTS};

use crate::face::FaceFailure;
use crate::failure::{Failure, wait_seconds};
use crate::reply::JSON;

/// What a refusal's sentence is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About {
    /// When the license or the activation ended or ends; the zero time when nothing is known of it.
    pub(super) expired_at: LicenseTime,
    /// How many devices it is for.
    pub(super) max_devices: u32,
}

impl About {
    /// The license of a key, and what a device has under it.
    pub(super) fn key(ledger: &Ledger, key_mac: &[u8; 32], fingerprint: &str) -> Self {
        let Some(license) = ledger.license_by_key(key_mac, Face::Device) else {
            return Self::default();
        };
        let terms = &license.terms;
        let own = ledger
            .activation_of_holder(terms.license, fingerprint)
            .and_then(|row| row.valid_until_ms);
        let (_, last) = ledger.license_validity(terms);
        Self {
            expired_at: LicenseTime::from_unix_ms(own.map_or(last, |own| own.min(last))),
            max_devices: terms.plan.max_activations,
        }
    }
}

/// What the face says to a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A refusal of the protocol.
    Refuse(Refusal),
    /// The gateway draws other ids and asks again; no caller sees it.
    DrawAnother,
    /// Too many unknown keys: 429.
    TooMany,
    /// A bound of this server: 409.
    Bound,
    /// This server remembers as much as it can: 503.
    Full,
    /// No device call can meet this.
    Impossible,
}

/// Whether ids are to be drawn again.
pub(super) fn wants_another_draw(outcome: &Outcome) -> bool {
    let about = About::default();
    matches!(outcome, Outcome::Refused(refusal)
        if verdict(refusal.code, &about) == Verdict::DrawAnother)
}

/// The answer to a refusal.
pub(super) fn failure(
    refusal: &LedgerRefusal,
    about: &About,
    now_ms: i64,
    compat_200: bool,
) -> Failure {
    let said = match verdict(refusal.code, about) {
        Verdict::Refuse(said) => said,
        Verdict::DrawAnother => return Failure::internal("every id drawn was taken"),
        Verdict::TooMany => return too_many(refusal),
        Verdict::Bound => {
            let body = FailureBody::error_only("A limit of this server is reached");
            return FaceFailure::of_device(StatusCode::CONFLICT, &body).into();
        }
        Verdict::Full => {
            return Failure::unavailable(
                "overloaded",
                "This server remembers as many requests as it can.",
                std::time::Duration::from_secs(30),
            );
        }
        Verdict::Impossible => {
            return Failure::internal("a device call met a refusal of another face");
        }
    };
    if compat_200 {
        let body = ActivationResponse::failure(&said).to_bytes();
        return FaceFailure {
            status: StatusCode::OK,
            content_type: JSON,
            body,
            headers: Vec::new(),
            reason: None,
        }
        .into();
    }
    let failure = FaceFailure::from_refusal(&said);
    match refusal.available_at_ms {
        Some(at_ms) if said == Refusal::NoSeat => {
            let wait_ms = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
            failure.retry_after_s(wait_seconds(wait_ms)).into()
        }
        _ => failure.into(),
    }
}

/// 429, and when to ask again.
pub(super) fn too_many(refusal: &LedgerRefusal) -> Failure {
    let body = FailureBody::error_only(TOO_MANY_REQUESTS);
    let wait_ms = refusal.retry_in_ms.unwrap_or_default();
    FaceFailure::of_device(StatusCode::TOO_MANY_REQUESTS, &body)
        .retry_after_s(wait_seconds(wait_ms))
        .into()
}

/// Names what would do, on a 401 (RFC 9110, section 11.6.1).
pub(super) fn challenged(failure: FaceFailure) -> FaceFailure {
    let scheme = HeaderValue::from_static("LicenseKey realm=\"leasehold\"");
    failure.header(WWW_AUTHENTICATE, scheme)
}

/// The table.
#[expect(clippy::too_many_lines, reason = "one table, one row for each code")]
pub(super) fn verdict(code: RefusalCode, about: &About) -> Verdict {
    use RefusalCode as Code;
    use Verdict::{Bound, DrawAnother, Full, Impossible, Refuse, TooMany};
    match code {
        Code::UnknownLicenseKey | Code::UnknownLicense => Refuse(Refusal::UnknownKey),
        Code::LicenseWithoutProduct => Refuse(Refusal::NoProduct),
        Code::LicenseOfOtherProduct => Refuse(Refusal::OtherProduct),
        Code::ClientBanned => Refuse(Refusal::ClientBanned),
        // To a device that was revoked, its license is.
        Code::LicenseRevoked | Code::LicenseCancelled | Code::ActivationRevoked => {
            Refuse(Refusal::Revoked)
        }
        Code::LicenseExpired | Code::ActivationExpired => {
            Refuse(Refusal::Expired { expired_at: about.expired_at })
        }
        Code::ClientMismatch => Refuse(Refusal::OtherClient),
        Code::EmailNotAuthorized => Refuse(Refusal::UnknownEmail),
        Code::TooManyActivations => {
            Refuse(Refusal::TooManyDevices { max_devices: about.max_devices })
        }
        Code::UnknownActivation => Refuse(Refusal::UnknownDevice),
        Code::TrialUsed => Refuse(Refusal::TrialUsed),
        Code::LicenseSuspended => Refuse(Refusal::Suspended),
        Code::LicenseNotYetValid => Refuse(Refusal::NotYetValid),
        Code::NoSeat
        | Code::BudgetReached
        | Code::MaxOverageExceeded
        | Code::QuantityExceedsPackage
        | Code::PoolReserved
        | Code::PoolExhausted => Refuse(Refusal::NoSeat),
        // Only a trial names a package itself.
        Code::UnknownPackage
        | Code::PackageExpired
        | Code::PackageRevoked
        | Code::PackageSuspended
        | Code::PackageNotYetValid => Refuse(Refusal::NoTrial),
        Code::LeaseIdTaken | Code::LicenseTaken | Code::ClientTaken => DrawAnother,
        Code::TooManyGuesses => TooMany,
        Code::LimitReached | Code::NoSpace | Code::Grace => Bound,
        Code::RequestTableFull => Full,
        Code::IdempotencyKeyReused
        | Code::CredentialsRevoked
        | Code::OperatorRevoked
        | Code::RoleTooNarrow
        | Code::ClusterNotInitialised
        | Code::ClusterAlreadyInitialised
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
        | Code::LicenseStateConflict
        | Code::HolderMismatch
        | Code::SlotInUse
        | Code::NodeLimitExceeded
        | Code::StaleTokenVersion
        | Code::UnknownClient
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
        | Code::DataKeyInUse => Impossible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About = About { expired_at: LicenseTime::ZERO, max_devices: 7 };

    fn said(code: RefusalCode, compat_200: bool) -> FaceFailure {
        let refusal = LedgerRefusal {
            available_at_ms: Some(10_500),
            retry_in_ms: Some(1_500),
            ..LedgerRefusal::new(code)
        };
        match failure(&refusal, &ABOUT, 10_000, compat_200) {
            Failure::Face(failure) => *failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn decisions_have_their_status_or_none_and_are_texts_only() {
        let table = [
            (RefusalCode::UnknownLicenseKey, 404, "Invalid license key"),
            (RefusalCode::LicenseCancelled, 401, "License has been revoked"),
            (RefusalCode::ActivationRevoked, 401, "License has been revoked"),
            (RefusalCode::LicenseExpired, 401, "License expired on 0001-01-01"),
            (RefusalCode::TooManyActivations, 409, "Maximum devices (7) reached"),
            (RefusalCode::NoSeat, 409, "No seat is available for this license"),
            (RefusalCode::BudgetReached, 409, "No seat is available for this license"),
            (RefusalCode::UnknownActivation, 401, "Device not previously activated"),
        ];
        for (code, status, message) in table {
            let failure = said(code, false);
            assert_eq!(failure.status.as_u16(), status, "{code:?}");
            let body = format!("{{\"error\":\"{message}\",\"message\":\"{message}\"}}\n");
            assert_eq!(String::from_utf8(failure.body).unwrap(), body);
            assert_eq!(failure.reason, None, "the ledger has counted it");
            let failure = said(code, true);
            assert_eq!(failure.status.as_u16(), 200);
            let body = format!(
                "{{\"success\":false,\"message\":\"{message}\",\
                 \"expires_at\":\"0001-01-01T00:00:00Z\"}}\n"
            );
            assert_eq!(String::from_utf8(failure.body).unwrap(), body);
        }
    }

    #[test]
    fn what_is_no_decision_keeps_its_status_in_both_forms() {
        for compat_200 in [false, true] {
            let failure = said(RefusalCode::TooManyGuesses, compat_200);
            assert_eq!(failure.status.as_u16(), 429);
            assert_eq!(failure.body, b"{\"error\":\"Too many requests\"}\n");
            assert_eq!(failure.headers.len(), 1);
            assert_eq!(failure.headers[0].1, HeaderValue::from(2));
            assert_eq!(said(RefusalCode::LimitReached, compat_200).status.as_u16(), 409);
        }
    }
}
