//! Offline use: leases that carry a proof, and seats that are borrowed.
//!
//! A lease with a *hold* is a seat for which an offline token is outstanding: it ends only when the
//! lease clock has reached its end *and* the civil clock has passed the token's last moment by the
//! package's skew. What may be signed is said by an [`OfflineProof`] in the outcome, never more
//! than the hold covers. Append-only, like `command`.

use serde::{Deserialize, Serialize};

use crate::command::{ImportPackage, SeatClass, Subject};
use crate::ids::{ApiKeyId, Fence, LeaseId, Name};
use crate::money::Money;

/// Imports a package together with what it says of offline use; [`ImportPackage`] alone allows
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportEntitlement {
    /// The package.
    pub import: ImportPackage,
    /// What it says of offline use.
    pub offline: OfflineTerms,
}

/// What the signed bytes of a package say of offline use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OfflineTerms {
    /// Whether a heartbeat or an activation may carry an offline token.
    pub tokens: bool,
    /// Longest borrow; 0: none.
    pub borrow_max_ms: u64,
    /// Seats that may be borrowed at once; `None`: as many as there are.
    pub borrow_seats_max: Option<u32>,
    /// Seats, of those valid at the time, that borrowing must leave for online users.
    pub online_reserve: u32,
}

/// An operator's rules for borrowing. They narrow what the package allows, never widen it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BorrowRules {
    /// Longest borrow; `None`: the package's.
    pub max_ms: Option<u64>,
    /// Seats at once; `None`: the package's.
    pub seats_max: Option<u32>,
    /// Seats left for online users; the larger of this and the package's counts.
    pub online_reserve: u32,
    /// Who may borrow; empty: everybody. At most 256.
    pub include: Vec<BorrowParty>,
    /// Who may not, whatever `include` says. At most 256.
    pub exclude: Vec<BorrowParty>,
}

/// Somebody named in a rule. Compared without regard to the case of ASCII letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BorrowParty {
    /// A user by name.
    User(Box<str>),
    /// A host by name.
    Host(Box<str>),
}

/// Sets the rules of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBorrowRules {
    /// The package.
    pub package: Name,
    /// The rules; the default ones remove them.
    pub rules: BorrowRules,
}

/// Lengthens a lease to a civil time, so that a token may be signed that long. The gateway has
/// checked the renewal token's MAC; its sequence counts as in a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borrow {
    /// The lease.
    pub lease: LeaseId,
    /// The sequence its token holds.
    pub sequence: u32,
    /// For how long, from the stamp of the entry.
    pub duration_ms: u64,
}

/// Ends a borrow early: the lease goes on as an ordinary one, renewed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnBorrow {
    /// The lease.
    pub lease: LeaseId,
    /// The sequence its token holds.
    pub sequence: u32,
}

/// Takes a seat back although an offline token of it is outstanding: the device is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOff {
    /// The lease.
    pub lease: LeaseId,
    /// Why, for the audit log; at most 256 characters.
    pub reason: Box<str>,
}

/// The offline tokens outstanding for a lease, as they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// The lease.
    pub lease: LeaseId,
    /// Last civil millisecond at which the newest token is good.
    pub ends_ms: i64,
    /// How long after that the seat stays taken.
    pub skew_ms: u32,
    /// Counts up from 1 with each token.
    pub version: u32,
    /// Whether it is borrowed, and not just renewed with a token.
    pub borrowed: bool,
}

impl HoldRow {
    /// First civil millisecond at which the hold no longer keeps the seat: no clock within the
    /// skew still shows a time at which a token is good.
    pub fn free_at_ms(&self) -> i64 {
        self.ends_ms.saturating_add(self.skew_ms.into()).saturating_add(1)
    }
}

/// An offline token that may be signed now: never for longer, never for more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineProof {
    /// The lease that is held for it.
    pub lease: LeaseId,
    /// Its package.
    pub package: Name,
    /// Its product.
    pub product: Name,
    /// Commit or overage.
    pub class: SeatClass,
    /// Seats.
    pub quantity: u32,
    /// Features it was taken with.
    pub features: Vec<Name>,
    /// Name of its user; empty: nobody named.
    pub user: Box<str>,
    /// Name of its host; empty: none named.
    pub host: Box<str>,
    /// Its place in the order of grants.
    pub fence: Fence,
    /// Version of the token, by [`HoldRow::version`].
    pub version: u32,
    /// Civil clock of the entry that decided.
    pub issued_ms: i64,
    /// Last civil millisecond at which the token is good.
    pub ends_ms: i64,
    /// The package's skew.
    pub skew_ms: u32,
    /// Whether the seat is borrowed.
    pub borrowed: bool,
}

/// A renewal that may carry a token, or a borrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedOffline {
    /// Milliseconds until the lease ends, as in `RenewalOutcome::Renewed`.
    pub expires_in_ms: u64,
    /// The same on the civil clock.
    pub expires_at_ms: i64,
    /// How often to renew.
    pub heartbeat_interval_ms: u32,
    /// Sequence of the renewal token to use next.
    pub sequence: u32,
    /// What may be signed.
    pub proof: OfflineProof,
}

/// A seat taken through the classic face.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassicCheckout {
    /// The package to take it from.
    pub package: Name,
    /// Id for the lease, if granted.
    pub lease: LeaseId,
    /// Who uses it.
    pub user: Subject,
    /// The API key shown; `None`: none was.
    pub api_key: Option<ApiKeyId>,
    /// Led milliseconds that it lasts: this face never renews.
    pub ttl_ms: u64,
}

/// A key of the classic face.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRow {
    /// Its id.
    pub key: ApiKeyId,
    /// HMAC-SHA-256 of the key under the cluster's key MAC.
    pub mac: [u8; 32],
    /// Shown name.
    pub name: Box<str>,
    /// E.g. `test`.
    pub environment: Box<str>,
    /// Whose it is.
    pub tenant: Box<str>,
    /// When it was made, by the civil clock; what a command carries here is ignored.
    pub created_at_ms: i64,
}

/// The most that overage of a package may cost in a calendar month (UTC, civil clock).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBudget {
    /// The package.
    pub package: Name,
    /// In its currency; `None`: no bound.
    pub max_spend: Option<Money>,
}

/// Overage of a package in one calendar month, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRow {
    /// Months since the year 0: `12 * year + month - 1`.
    pub month: i32,
    /// Charged in that month.
    pub charged: Money,
    /// The bound; `None`: none.
    pub max_spend: Option<Money>,
}
