//! Why a lease call is refused: one table of wire code, HTTP status and sentence.
//!
//! A refusal is a decision, not a failure: the same answer comes from every node. Obstacles (no
//! quorum, overload) are problems ([`super::problem`]) and never denials.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::wire::UtcTime;

macro_rules! denial_reasons {
    ($($variant:ident $code:literal $status:literal $sentence:literal,)+) => {
        /// A reason for a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        #[schema(rename_all = "snake_case")]
        pub enum DenialReason {
            $(#[doc = $sentence] $variant,)+
        }

        impl DenialReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The wire code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The HTTP status it gets on the `cloud` protocol.
            pub fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// A sentence for people.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }
        }
    };
}

denial_reasons! {
    MaxOverageExceeded "max_overage_exceeded" 409 "Every seat of the package is out.",
    PoolExhausted "pool_exhausted" 409 "Every seat of the pool is out.",
    QuantityExceedsPackage "quantity_exceeds_package" 409 "The package never has so many seats.",
    RestoreHold "restore_hold" 409 "After a restore, former holders come first.",
    UnknownProduct "unknown_product" 404 "No package covers this product for this app.",
    UnknownPool "unknown_pool" 404 "The package has no such pool.",
    UnknownFeature "unknown_feature" 404 "The package does not include the feature.",
    UnknownLease "unknown_lease" 404 "This is not a lease of this app.",
    PackageNotYetValid "package_not_yet_valid" 403 "The package's validity has not begun.",
    PackageExpired "package_expired" 403 "The package's validity is over.",
    PackageSuspended "package_suspended" 403 "The package is suspended.",
    PackageRevoked "package_revoked" 403 "The package is revoked.",
    VersionNotCovered "version_not_covered" 403 "The package does not cover this version.",
    InsufficientScope "insufficient_scope" 403 "The token does not allow this call.",
    LeaseEnded "lease_ended" 410 "The lease has ended; check out anew.",
    AlreadyEnded "already_ended" 409 "The lease had ended before, by expiry or by another.",
    RenewalTokenReplayed "renewal_token_replayed" 409 "The renewal token was used before.",
    RenewalTokenInvalid "renewal_token_invalid" 409 "The renewal token is not one of this lease.",
    IdempotencyKeyReused "idempotency_key_reused" 422 "The key was used with another request.",
    IdempotencyTableFull "idempotency_table_full" 429 "Too many keys are remembered; ask later.",
    BudgetReached "budget_reached" 409 "The month's overage has reached its bound.",
    OfflineNotAllowed "offline_not_allowed" 403 "The package allows no such offline use.",
    BorrowTooLong "borrow_too_long" 403 "A borrow may not last so long.",
    BorrowLimitReached "borrow_limit_reached" 409 "As many seats are borrowed as may be.",
    OnlineReserve "online_reserve" 409 "The seats left are kept for online users.",
    BorrowExcluded "borrow_excluded" 403 "The rules let this user or host borrow nothing.",
    NotBorrowed "not_borrowed" 409 "The lease is not borrowed.",
    NoSpace "no_space" 507 "A server's disk is nearly full: no new seats until it has room.",
    PoolReserved "pool_reserved" 403 "The pool is kept for others.",
    AppRemoved "app_removed" 401 "The app is removed or has a new secret.",
}

impl DenialReason {
    /// The reason of a wire code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl Serialize for DenialReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for DenialReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::from_code(&code)
            .ok_or_else(|| serde::de::Error::custom("a reason that this release does not know"))
    }
}

/// The body of a refused lease call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Denied {
    /// Always `denied`.
    pub status: DeniedStatus,
    /// Why.
    pub reason: DenialReason,
    /// For people.
    #[schema(example = "Every seat of the package is out.")]
    pub detail: String,
    /// When a seat may come free: the earliest end of a lease that is out now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_at: Option<UtcTime>,
    /// What would have been granted, where something would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_be_satisfied_by: Option<Remedy>,
}

impl Denied {
    /// The body for a reason, with nothing to offer.
    pub fn because(reason: DenialReason) -> Self {
        Self {
            status: DeniedStatus::Denied,
            reason,
            detail: reason.sentence().to_owned(),
            available_at: None,
            would_be_satisfied_by: None,
        }
    }
}

/// Always `denied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeniedStatus {
    /// The call was refused.
    Denied,
}

/// What would have been granted instead; every field that is there changes the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Remedy {
    /// At most so many seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub quantity: Option<u32>,
    /// This pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Only these features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// A version in this range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = ">=8.0.0")]
    pub version: Option<String>,
    /// A token with this scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "license:checkout")]
    pub scope: Option<String>,
    /// The same request, not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<UtcTime>,
}
