//! From the ledger's refusals to statuses and bodies: one complete table per face.
//!
//! Both tables match every code by name, so that a new refusal does not compile before somebody
//! has decided what each face says. Codes that a face can never see are listed as such: they are
//! answered as our own fault and logged.

use lease::outcome::{Refusal, RefusalCode, SatisfiedBy};
use protocol::cloud::denial::{DenialReason, Denied, Remedy};
use protocol::cloud::problem::Problem;
use protocol::oauth::token::BearerError;
use protocol::wire::UtcTime;

use crate::failure::{Failure, wait_seconds};

/// What the `cloud` face says to a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloudVerdict {
    /// A denial.
    Deny(DenialReason),
    /// The gateway draws another id and asks again; no caller sees it.
    DrawAnother,
    /// No lease call can meet this.
    Impossible,
}

/// The `cloud` face's table.
#[expect(clippy::too_many_lines, reason = "a table, complete by the compiler's word")]
pub(crate) fn cloud_verdict(code: RefusalCode) -> CloudVerdict {
    use CloudVerdict::{Deny, DrawAnother, Impossible};
    use RefusalCode as Code;
    match code {
        Code::CredentialsRevoked | Code::UnknownApp => Deny(DenialReason::AppRemoved),
        Code::IdempotencyKeyReused => Deny(DenialReason::IdempotencyKeyReused),
        Code::RequestTableFull => Deny(DenialReason::IdempotencyTableFull),
        // An app sees its own product only: another's is as unknown as one that does not exist.
        Code::UnknownProduct | Code::UnknownPackage | Code::ProductNotPermitted => {
            Deny(DenialReason::UnknownProduct)
        }
        Code::UnknownPool => Deny(DenialReason::UnknownPool),
        Code::UnknownFeature => Deny(DenialReason::UnknownFeature),
        Code::UnknownLease => Deny(DenialReason::UnknownLease),
        Code::MaxOverageExceeded => Deny(DenialReason::MaxOverageExceeded),
        Code::QuantityExceedsPackage => Deny(DenialReason::QuantityExceedsPackage),
        Code::PoolExhausted => Deny(DenialReason::PoolExhausted),
        Code::PackageNotYetValid => Deny(DenialReason::PackageNotYetValid),
        Code::PackageExpired => Deny(DenialReason::PackageExpired),
        Code::PackageSuspended => Deny(DenialReason::PackageSuspended),
        Code::PackageRevoked => Deny(DenialReason::PackageRevoked),
        Code::LeaseEnded => Deny(DenialReason::LeaseEnded),
        Code::AlreadyEnded => Deny(DenialReason::AlreadyEnded),
        Code::RenewalTokenReplayed => Deny(DenialReason::RenewalTokenReplayed),
        Code::BudgetReached => Deny(DenialReason::BudgetReached),
        Code::OfflineNotAllowed => Deny(DenialReason::OfflineNotAllowed),
        Code::BorrowTooLong => Deny(DenialReason::BorrowTooLong),
        Code::BorrowLimitReached => Deny(DenialReason::BorrowLimitReached),
        Code::OnlineReserve => Deny(DenialReason::OnlineReserve),
        Code::BorrowExcluded => Deny(DenialReason::BorrowExcluded),
        Code::NotBorrowed => Deny(DenialReason::NotBorrowed),
        Code::NoSpace => Deny(DenialReason::NoSpace),
        Code::Grace => Deny(DenialReason::RestoreHold),
        Code::NotReclaimable => Deny(DenialReason::RenewalTokenInvalid),
        Code::PoolReserved => Deny(DenialReason::PoolReserved),
        Code::LeaseIdTaken => DrawAnother,
        Code::UnknownLicenseKey
        | Code::TooManyGuesses
        | Code::UnknownLicense
        | Code::LicenseSuspended
        | Code::LicenseRevoked
        | Code::LicenseCancelled
        | Code::LicenseExpired
        | Code::LicenseNotYetValid
        | Code::LicenseStateConflict
        | Code::LicenseTaken
        | Code::LicenseWithoutProduct
        | Code::LicenseOfOtherProduct
        | Code::ClientBanned
        | Code::ClientMismatch
        | Code::EmailNotAuthorized
        | Code::TooManyActivations
        | Code::NoSeat
        | Code::UnknownActivation
        | Code::ActivationRevoked
        | Code::ActivationExpired
        | Code::HolderMismatch
        | Code::SlotInUse
        | Code::NodeLimitExceeded
        | Code::StaleTokenVersion
        | Code::TrialUsed
        | Code::UnknownClient
        | Code::ClientTaken
        | Code::UnknownCatalogProduct
        | Code::NameTaken
        | Code::OfflineTokenOutstanding
        | Code::UnknownApiKey
        | Code::ClusterNotInitialised
        | Code::ClusterAlreadyInitialised
        | Code::OperatorRevoked
        | Code::RoleTooNarrow
        | Code::UnknownVendor
        | Code::PackageIdTaken
        | Code::VendorKeyNotPinned
        | Code::VendorKeyDiffers
        | Code::ForeignClient
        | Code::ForeignDomain
        | Code::AppIdTaken
        | Code::NotEnoughFree
        | Code::VersionConflict
        | Code::LimitReached
        | Code::NodeIdTaken
        | Code::UnknownMember
        | Code::UnknownTicket
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

/// The answer of the `cloud` face to a refusal that is not [`CloudVerdict::DrawAnother`], of a call
/// that asked for these features.
pub(crate) fn cloud_failure(refusal: &Refusal, asked_features: &[String]) -> Failure {
    let reason = match cloud_verdict(refusal.code) {
        CloudVerdict::Deny(reason) => reason,
        CloudVerdict::DrawAnother => return Failure::internal("every id drawn was taken"),
        CloudVerdict::Impossible => {
            return Failure::internal("a lease call met a refusal of another face");
        }
    };
    let mut denied = Denied::because(reason);
    denied.available_at = refusal.available_at_ms.map(UtcTime::from_unix_ms);
    denied.would_be_satisfied_by =
        refusal.satisfied_by.as_ref().and_then(|remedy_for| remedy(remedy_for, asked_features));
    let challenge = (reason.http_status() == 401).then(|| BearerError::InvalidToken.challenge());
    Failure::Denied {
        denied: Box::new(denied),
        retry_after_s: refusal.retry_in_ms.map(wait_seconds),
        challenge,
        by_ledger: true,
    }
}

/// The remedy in the caller's terms; none where the wire has no word for it (the seats of no pool).
fn remedy(satisfied_by: &SatisfiedBy, asked_features: &[String]) -> Option<Remedy> {
    match satisfied_by {
        SatisfiedBy::Quantity(quantity) => {
            Some(Remedy { quantity: Some(*quantity), ..Remedy::default() })
        }
        SatisfiedBy::WithoutFeatures(unknown) => {
            let is_known = |feature: &&String| !unknown.iter().any(|name| **name == ***feature);
            let known = asked_features.iter().filter(is_known).cloned().collect();
            Some(Remedy { features: Some(known), ..Remedy::default() })
        }
        SatisfiedBy::Pool(pool) => pool
            .as_ref()
            .map(|pool| Remedy { pool: Some((**pool).to_owned()), ..Remedy::default() }),
    }
}

/// What the admin face says to a refusal: status, code, sentence, field to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdminVerdict {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) field: Option<&'static str>,
}

/// The admin face's table.
#[expect(clippy::too_many_lines, reason = "a table, complete by the compiler's word")]
pub(crate) fn admin_verdict(code: RefusalCode) -> AdminVerdict {
    use RefusalCode as Code;
    let say = |status, code, title| AdminVerdict { status, code, title, field: None };
    let blame =
        |status, code, title, field| AdminVerdict { status, code, title, field: Some(field) };
    match code {
        Code::ClusterNotInitialised => say(503, "starting", "The cluster is not founded yet."),
        Code::ClusterAlreadyInitialised => {
            say(409, "already_initialised", "The cluster was founded before.")
        }
        Code::OperatorRevoked | Code::CredentialsRevoked => {
            say(401, "invalid_token", "The token has expired or was revoked.")
        }
        Code::RoleTooNarrow => {
            say(403, "role_too_narrow", "The operator's role does not allow this.")
        }
        Code::IdempotencyKeyReused => {
            say(422, "idempotency_key_reused", "The key was used with another request.")
        }
        Code::RequestTableFull => say(
            429,
            "idempotency_table_full",
            "Too many keyed requests are remembered; ask again later or without a key.",
        ),
        Code::UnknownProduct => blame(404, "unknown_product", "No such product.", "product_id"),
        Code::UnknownPackage => say(404, "unknown_package", "No such package."),
        Code::UnknownVendor => blame(404, "unknown_vendor", "No such vendor.", "vendor_id"),
        Code::UnknownApp => say(404, "unknown_app", "No such application."),
        Code::UnknownLease => say(404, "unknown_lease", "No such lease."),
        Code::UnknownPool => say(404, "unknown_pool", "The package has no such pool."),
        Code::PackageIdTaken => {
            blame(409, "package_id_taken", "Another package with this id is stored.", "package_id")
        }
        Code::VendorKeyNotPinned => blame(
            422,
            "vendor_key_not_pinned",
            "The key that verified the package is no longer the pinned one.",
            "vendor",
        ),
        Code::VendorKeyDiffers => {
            blame(409, "vendor_key_differs", "Another key is pinned for this vendor.", "public_key")
        }
        Code::ForeignClient | Code::ForeignDomain => {
            blame(422, "package_for_another_client", "The package is for others.", "client")
        }
        Code::PackageExpired => {
            blame(422, "package_expired", "The package's validity is over.", "validity.end")
        }
        Code::PackageSuspended => say(409, "package_suspended", "The package is suspended."),
        Code::PackageRevoked => say(409, "package_revoked", "The package is revoked for good."),
        Code::PackageNotYetValid => {
            say(409, "package_not_yet_valid", "The package's validity has not begun.")
        }
        Code::NotEnoughFree => say(409, "not_enough_free", "The pool has fewer free seats."),
        Code::LeaseEnded | Code::AlreadyEnded => {
            say(410, "lease_ended", "The lease has ended before.")
        }
        Code::LimitReached => say(422, "limit_reached", "A bound of the ledger would be passed."),
        Code::VersionConflict => {
            say(409, "version_conflict", "Somebody changed it in the meantime.")
        }
        Code::NodeIdTaken => say(409, "node_id_taken", "The node id was used before."),
        Code::AppIdTaken => say(409, "app_id_taken", "An application has this id."),
        Code::UnknownLicense | Code::UnknownLicenseKey => {
            say(404, "unknown_license", "No such license.")
        }
        Code::LicenseStateConflict => {
            say(409, "license_state_conflict", "The license is not in a state that allows this.")
        }
        Code::LicenseTaken => {
            say(409, "license_taken", "Such a license exists; there is one open license at most.")
        }
        Code::LicenseSuspended => say(409, "license_suspended", "The license is suspended."),
        Code::LicenseRevoked => say(409, "license_revoked", "The license is revoked."),
        Code::LicenseCancelled => say(409, "license_cancelled", "The license is cancelled."),
        Code::LicenseExpired => {
            blame(422, "license_expired", "The license's validity is over.", "valid_until")
        }
        Code::LicenseNotYetValid => {
            say(409, "license_not_yet_valid", "The license's validity has not begun.")
        }
        Code::UnknownClient => blame(404, "unknown_client", "No such client.", "client_id"),
        Code::ClientTaken => {
            blame(409, "client_taken", "A client with this address exists.", "email")
        }
        Code::ClientBanned => say(409, "client_banned", "The client is banned."),
        Code::UnknownActivation => say(404, "unknown_activation", "No such activation."),
        Code::ActivationRevoked => say(409, "activation_revoked", "The activation is revoked."),
        Code::ActivationExpired => {
            say(409, "activation_expired", "The activation's validity is over.")
        }
        Code::UnknownCatalogProduct => {
            blame(404, "unknown_product", "The catalog has no such product.", "product")
        }
        Code::NameTaken => say(409, "name_taken", "Something with this id or name exists."),
        Code::UnknownApiKey => say(404, "unknown_api_key", "No such API key."),
        Code::OfflineTokenOutstanding => say(
            409,
            "offline_token_outstanding",
            "An offline token of the lease is outstanding: write it off, or wait for its end.",
        ),
        Code::OfflineNotAllowed => {
            say(422, "offline_not_allowed", "The package allows no such offline use.")
        }
        Code::TooManyGuesses => say(429, "too_many_guesses", "Too many unknown keys were shown."),
        Code::UnknownMember => say(404, "unknown_member", "No such node."),
        Code::UnknownTicket => {
            say(403, "unknown_ticket", "The join token was used, has ended, or was never made.")
        }
        Code::NoSpace => say(
            507,
            "no_space",
            "A node's disk is nearly full: nothing new is written until it has room.",
        ),
        Code::Grace => {
            say(409, "restore_hold", "An epoch was opened lately: former holders come first.")
        }
        Code::PoolReserved => say(403, "pool_reserved", "The pool is kept for others."),
        Code::PoolInUse => say(409, "pool_in_use", "Seats of the pool are out."),
        Code::UnknownOperator => say(404, "unknown_operator", "No such operator token."),
        Code::LastAdmin => {
            say(409, "last_admin", "It is the last admin token that does not end; add another.")
        }
        Code::UnknownSubject => say(404, "unknown_subject", "No such person or host."),
        Code::SubjectInUse => {
            say(409, "subject_in_use", "Something works only because of this name.")
        }
        Code::UnknownAlarm => say(404, "unknown_alarm", "No such alarm stands."),
        Code::UnknownTrustAnchor => {
            say(404, "unknown_trust_anchor", "No such certificate authority.")
        }
        Code::TrustAnchorInUse => {
            say(409, "trust_anchor_in_use", "Certificates still come from this authority.")
        }
        Code::UnknownAuditEvent => {
            say(404, "unknown_audit_event", "No such event, or it was pruned before.")
        }
        Code::DataKeyInUse => {
            say(409, "data_key_in_use", "Something is still sealed under this data key.")
        }
        Code::NotReclaimable
        | Code::UnknownFeature
        | Code::LicenseWithoutProduct
        | Code::LicenseOfOtherProduct
        | Code::ClientMismatch
        | Code::EmailNotAuthorized
        | Code::TooManyActivations
        | Code::NoSeat
        | Code::HolderMismatch
        | Code::SlotInUse
        | Code::NodeLimitExceeded
        | Code::StaleTokenVersion
        | Code::TrialUsed
        | Code::BorrowTooLong
        | Code::BorrowLimitReached
        | Code::OnlineReserve
        | Code::BorrowExcluded
        | Code::NotBorrowed
        | Code::BudgetReached
        | Code::ProductNotPermitted
        | Code::MaxOverageExceeded
        | Code::QuantityExceedsPackage
        | Code::PoolExhausted
        | Code::RenewalTokenReplayed
        | Code::LeaseIdTaken => say(500, "internal", "The server is at fault."),
    }
}

/// The answer of the admin face to a refusal.
pub(crate) fn admin_failure(refusal: &Refusal) -> Failure {
    let AdminVerdict { status, code, title, field } = admin_verdict(refusal.code);
    let mut problem = Problem::new(status, code, title);
    if let Some(field) = field {
        problem = problem.field(field);
    }
    Failure::Problem {
        problem: Box::new(problem),
        retry_after_s: refusal.retry_in_ms.map(wait_seconds),
        challenge: (status == 401).then(|| BearerError::InvalidToken.challenge()),
    }
}

/// Every code, in the order of its number. `Refusal::code as u16` of the last one plus one is the
/// length, so a code that is added and forgotten here is found.
pub(crate) const ALL: &[RefusalCode] = &[
    RefusalCode::ClusterNotInitialised,
    RefusalCode::ClusterAlreadyInitialised,
    RefusalCode::CredentialsRevoked,
    RefusalCode::OperatorRevoked,
    RefusalCode::RoleTooNarrow,
    RefusalCode::IdempotencyKeyReused,
    RefusalCode::RequestTableFull,
    RefusalCode::UnknownProduct,
    RefusalCode::UnknownPackage,
    RefusalCode::UnknownVendor,
    RefusalCode::UnknownPool,
    RefusalCode::UnknownFeature,
    RefusalCode::UnknownApp,
    RefusalCode::UnknownLease,
    RefusalCode::ProductNotPermitted,
    RefusalCode::MaxOverageExceeded,
    RefusalCode::QuantityExceedsPackage,
    RefusalCode::PoolExhausted,
    RefusalCode::PackageNotYetValid,
    RefusalCode::PackageExpired,
    RefusalCode::PackageSuspended,
    RefusalCode::PackageRevoked,
    RefusalCode::PackageIdTaken,
    RefusalCode::VendorKeyNotPinned,
    RefusalCode::VendorKeyDiffers,
    RefusalCode::ForeignClient,
    RefusalCode::ForeignDomain,
    RefusalCode::LeaseEnded,
    RefusalCode::AlreadyEnded,
    RefusalCode::RenewalTokenReplayed,
    RefusalCode::LeaseIdTaken,
    RefusalCode::AppIdTaken,
    RefusalCode::NotEnoughFree,
    RefusalCode::VersionConflict,
    RefusalCode::LimitReached,
    RefusalCode::NodeIdTaken,
    RefusalCode::UnknownLicenseKey,
    RefusalCode::TooManyGuesses,
    RefusalCode::UnknownLicense,
    RefusalCode::LicenseSuspended,
    RefusalCode::LicenseRevoked,
    RefusalCode::LicenseCancelled,
    RefusalCode::LicenseExpired,
    RefusalCode::LicenseNotYetValid,
    RefusalCode::LicenseStateConflict,
    RefusalCode::LicenseTaken,
    RefusalCode::LicenseWithoutProduct,
    RefusalCode::LicenseOfOtherProduct,
    RefusalCode::ClientBanned,
    RefusalCode::ClientMismatch,
    RefusalCode::EmailNotAuthorized,
    RefusalCode::TooManyActivations,
    RefusalCode::NoSeat,
    RefusalCode::UnknownActivation,
    RefusalCode::ActivationRevoked,
    RefusalCode::ActivationExpired,
    RefusalCode::HolderMismatch,
    RefusalCode::SlotInUse,
    RefusalCode::NodeLimitExceeded,
    RefusalCode::StaleTokenVersion,
    RefusalCode::TrialUsed,
    RefusalCode::UnknownClient,
    RefusalCode::ClientTaken,
    RefusalCode::UnknownCatalogProduct,
    RefusalCode::NameTaken,
    RefusalCode::OfflineNotAllowed,
    RefusalCode::BorrowTooLong,
    RefusalCode::BorrowLimitReached,
    RefusalCode::OnlineReserve,
    RefusalCode::BorrowExcluded,
    RefusalCode::NotBorrowed,
    RefusalCode::OfflineTokenOutstanding,
    RefusalCode::BudgetReached,
    RefusalCode::UnknownApiKey,
    RefusalCode::UnknownMember,
    RefusalCode::UnknownTicket,
    RefusalCode::NoSpace,
    RefusalCode::Grace,
    RefusalCode::NotReclaimable,
    RefusalCode::PoolReserved,
    RefusalCode::PoolInUse,
    RefusalCode::UnknownOperator,
    RefusalCode::LastAdmin,
    RefusalCode::UnknownSubject,
    RefusalCode::SubjectInUse,
    RefusalCode::UnknownAlarm,
    RefusalCode::UnknownTrustAnchor,
    RefusalCode::TrustAnchorInUse,
    RefusalCode::UnknownAuditEvent,
    RefusalCode::DataKeyInUse,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_face_says_what_the_protocol_promises() {
        let table = [
            (RefusalCode::CredentialsRevoked, 401, "app_removed"),
            (RefusalCode::IdempotencyKeyReused, 422, "idempotency_key_reused"),
            (RefusalCode::RequestTableFull, 429, "idempotency_table_full"),
            (RefusalCode::UnknownProduct, 404, "unknown_product"),
            (RefusalCode::UnknownLease, 404, "unknown_lease"),
            (RefusalCode::MaxOverageExceeded, 409, "max_overage_exceeded"),
            (RefusalCode::PackageExpired, 403, "package_expired"),
            (RefusalCode::LeaseEnded, 410, "lease_ended"),
            (RefusalCode::AlreadyEnded, 409, "already_ended"),
            (RefusalCode::RenewalTokenReplayed, 409, "renewal_token_replayed"),
        ];
        for (code, status, reason) in table {
            let failure = cloud_failure(&Refusal::new(code), &[]);
            assert_eq!(failure.status().as_u16(), status, "{code:?}");
            let Failure::Denied { denied, challenge, .. } = failure else { panic!("{code:?}") };
            assert_eq!(denied.reason.code(), reason);
            assert_eq!(challenge.is_some(), status == 401);
        }
    }

    #[test]
    fn no_code_is_missing_here_and_every_verdict_is_an_error() {
        for (number, code) in ALL.iter().enumerate() {
            assert_eq!(*code as usize, number);
            assert!(cloud_failure(&Refusal::new(*code), &[]).status().as_u16() >= 400);
            let verdict = admin_verdict(*code);
            assert!((400..=507).contains(&verdict.status), "{code:?}");
            assert!(verdict.title.ends_with('.'), "{code:?}");
        }
    }

    #[test]
    fn remedies_are_said_in_the_words_of_the_request() {
        let asked = ["a".to_owned(), "b".to_owned()];
        let table: [(SatisfiedBy, Option<Remedy>); 4] = [
            (SatisfiedBy::Quantity(2), Some(Remedy { quantity: Some(2), ..Remedy::default() })),
            (
                SatisfiedBy::WithoutFeatures(vec!["b".into()]),
                Some(Remedy { features: Some(vec!["a".to_owned()]), ..Remedy::default() }),
            ),
            (
                SatisfiedBy::Pool(Some("team".into())),
                Some(Remedy { pool: Some("team".to_owned()), ..Remedy::default() }),
            ),
            (SatisfiedBy::Pool(None), None),
        ];
        for (satisfied_by, want) in table {
            assert_eq!(remedy(&satisfied_by, &asked), want);
        }
    }
}
