//! From the ledger's refusals to those of the `classic` face: one complete table.
//!
//! Its clients know two answers, "no license free" (409) and "an error"; so whatever keeps a
//! package from giving a seat is the first. Every code is matched by name: a new one does not
//! compile before somebody has decided what this face says.

use lease::outcome::RefusalCode;
use protocol::classic::refusal::Refusal;

/// What the face says to a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The package has no seat; another of the tool may.
    NoSeatHere,
    /// The package's month is spent; another of the tool may have a seat.
    Spent,
    /// Nothing else will help.
    Final(Refusal),
    /// The gateway draws another id and asks again.
    DrawAnother,
    /// No call of this face can meet this.
    Impossible,
}

/// The table.
#[expect(clippy::too_many_lines, reason = "a table, complete by the compiler's word")]
pub(super) fn verdict(code: RefusalCode) -> Verdict {
    use RefusalCode as Code;
    match code {
        Code::MaxOverageExceeded
        | Code::QuantityExceedsPackage
        | Code::PoolExhausted
        | Code::PoolReserved
        | Code::NoSeat
        | Code::UnknownProduct
        | Code::UnknownPackage
        | Code::PackageNotYetValid
        | Code::PackageExpired
        | Code::PackageSuspended
        | Code::PackageRevoked => Verdict::NoSeatHere,
        Code::BudgetReached => Verdict::Spent,
        Code::CredentialsRevoked => Verdict::Final(Refusal::InvalidApiKey),
        Code::UnknownLease | Code::LeaseEnded | Code::AlreadyEnded => {
            Verdict::Final(Refusal::BorrowNotFound)
        }
        Code::UnknownApiKey => Verdict::Final(Refusal::KeyNotFound),
        Code::OperatorRevoked | Code::RoleTooNarrow => Verdict::Final(Refusal::InvalidAdminKey),
        Code::RequestTableFull => Verdict::Final(Refusal::TooManyRequests),
        Code::LimitReached | Code::NoSpace | Code::Grace => Verdict::Final(Refusal::Unavailable),
        Code::LeaseIdTaken | Code::NameTaken => Verdict::DrawAnother,
        Code::ClusterNotInitialised
        | Code::ClusterAlreadyInitialised
        | Code::IdempotencyKeyReused
        | Code::UnknownVendor
        | Code::UnknownPool
        | Code::UnknownFeature
        | Code::UnknownApp
        | Code::ProductNotPermitted
        | Code::PackageIdTaken
        | Code::VendorKeyNotPinned
        | Code::VendorKeyDiffers
        | Code::ForeignClient
        | Code::ForeignDomain
        | Code::RenewalTokenReplayed
        | Code::AppIdTaken
        | Code::NotEnoughFree
        | Code::VersionConflict
        | Code::NodeIdTaken
        | Code::UnknownLicenseKey
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
        | Code::OfflineNotAllowed
        | Code::BorrowTooLong
        | Code::BorrowLimitReached
        | Code::OnlineReserve
        | Code::BorrowExcluded
        | Code::NotBorrowed
        | Code::OfflineTokenOutstanding
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
