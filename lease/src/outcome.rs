//! What the ledger answers. A refusal is a value; there are no errors here.
//!
//! Append-only, like `command`: outcomes travel from the leader to the gateway that asked.

use serde::{Deserialize, Serialize};

use crate::command::SeatClass;
use crate::ids::{AppId, Fence, LeaseId, LicenseId, Name, NodeId};
use crate::license::Activated;
use crate::money::{Measure, Money};
use crate::offline::RenewedOffline;

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done; nothing more to say.
    Done,
    /// Already so; nothing changed.
    Unchanged,
    /// Not done.
    Refused(Refusal),
    /// A seat is held.
    Granted(Box<Grant>),
    /// One answer per lease, in the order asked.
    Renewed(Vec<RenewalOutcome>),
    /// The seat is free again.
    Returned(Receipt),
    /// The package is stored.
    Imported {
        /// Whether these very bytes were there before.
        already: bool,
    },
    /// The application exists.
    App(AppOutcome),
    /// An activation holds its seat, or a setup call was recorded.
    Activated(Box<Activated>),
    /// The lease is borrowed, or no longer (then the proof is of an ordinary renewal, or absent).
    Borrowed(Box<RenewedOffline>),
    /// Metered use was counted: the license and its totals by metric, each with its quota.
    Counted(Box<UsageTotals>),
    /// A node id was given out.
    Ticket {
        /// The id.
        node: NodeId,
        /// Whether the token in force is the one this command carried: only then may the gateway
        /// show it.
        token_matches: bool,
    },
}

/// Metered use of a license since it was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotals {
    /// The license.
    pub license: LicenseId,
    /// In order of metric; every metric ever reported or with a quota.
    pub totals: Vec<UsageTotal>,
}

/// One metric's total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotal {
    /// The metric.
    pub metric: Name,
    /// Counted so far.
    pub used: Measure,
    /// What the plan includes; `None`: no bound.
    pub quota: Option<Measure>,
}

/// A seat held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// Its place in the order of grants.
    pub fence: Fence,
    /// The package it came from.
    pub package: Name,
    /// Commit or overage.
    pub class: SeatClass,
    /// Seats.
    pub quantity: u32,
    /// Charged, overage only.
    pub cost: Option<Money>,
    /// Milliseconds until it expires, from the stamp of the entry that answered: by the lease
    /// clock, or by the civil clock where it or its package ends first.
    pub expires_in_ms: u64,
    /// The same on the civil clock, for display.
    pub expires_at_ms: i64,
    /// How often to renew.
    pub heartbeat_interval_ms: u32,
    /// Sequence of the renewal token in force.
    pub sequence: u32,
    /// Whether an earlier request with the same id made it.
    pub repeated: bool,
}

/// What became of one renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewalOutcome {
    /// Extended, or (for the token before the current one, within 30 s) the same answer again.
    Renewed {
        /// Milliseconds until it expires, from the stamp of the entry that answered: by the lease
        /// clock, or by the civil clock where it or its package ends first.
        expires_in_ms: u64,
        /// The same on the civil clock, for display.
        expires_at_ms: i64,
        /// How often to renew.
        heartbeat_interval_ms: u32,
        /// Sequence of the renewal token to use next.
        sequence: u32,
        /// Its place in the order of grants, as it was granted.
        fence: Fence,
    },
    /// Not extended.
    Refused(Refusal),
    /// Extended, and an offline token may be signed.
    RenewedOffline(Box<RenewedOffline>),
}

/// A seat given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The lease.
    pub lease: LeaseId,
    /// Zero for commit.
    pub total_cost: Money,
    /// Civil milliseconds between grant and return.
    pub duration_ms: u64,
    /// Whether it had been returned before.
    pub repeated: bool,
}

/// An application registered or given a new secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppOutcome {
    /// The application (the first one's id when the request is a repeat).
    pub app: AppId,
    /// Its OAuth client id.
    pub client_id: Name,
    /// Generation of the secret in force.
    pub generation: u32,
    /// Whether the secret in force is the one this command carried: only then may the gateway show
    /// the one it made.
    pub secret_matches: bool,
}

/// Why not, what would have satisfied it, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason.
    pub code: RefusalCode,
    /// Civil milliseconds when asking again may succeed, if known.
    pub available_at_ms: Option<i64>,
    /// Led milliseconds until then, if known.
    pub retry_in_ms: Option<u64>,
    /// What a request would have to look like to be granted now, if anything would.
    pub satisfied_by: Option<SatisfiedBy>,
}

/// A request that would have been granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SatisfiedBy {
    /// Fewer seats.
    Quantity(u32),
    /// Without these features.
    WithoutFeatures(Vec<Name>),
    /// Another pool of the package has room; `None`: the unassigned seats.
    Pool(Option<Name>),
}

/// Reasons, in the field's words. Stored and counted; append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefusalCode {
    /// No cluster has been founded.
    ClusterNotInitialised,
    /// A cluster has been founded already, with other values.
    ClusterAlreadyInitialised,
    /// The application was removed or its secret rotated since the command was admitted.
    CredentialsRevoked,
    /// The operator token was removed or has expired since the command was admitted.
    OperatorRevoked,
    /// The operator's role does not allow it.
    RoleTooNarrow,
    /// The same idempotency key came with another body.
    IdempotencyKeyReused,
    /// Too many young request ids to promise exactly-once for one more.
    RequestTableFull,
    /// No such product or package.
    UnknownProduct,
    /// No such package.
    UnknownPackage,
    /// No such vendor.
    UnknownVendor,
    /// No such pool.
    UnknownPool,
    /// The package does not name this feature.
    UnknownFeature,
    /// No such application.
    UnknownApp,
    /// The lease is not there for this caller.
    UnknownLease,
    /// The application is registered for another product.
    ProductNotPermitted,
    /// Every seat the package allows is out.
    MaxOverageExceeded,
    /// More seats asked for than the package has.
    QuantityExceedsPackage,
    /// Every seat of the pool is out.
    PoolExhausted,
    /// Validity has not begun.
    PackageNotYetValid,
    /// Validity is over.
    PackageExpired,
    /// Suspended by an operator.
    PackageSuspended,
    /// Revoked for good.
    PackageRevoked,
    /// Another package with the same id is stored.
    PackageIdTaken,
    /// The key that verified the package is not the one pinned.
    VendorKeyNotPinned,
    /// Another key is pinned for the vendor.
    VendorKeyDiffers,
    /// The package was issued to another client organisation.
    ForeignClient,
    /// The package was issued to another domain.
    ForeignDomain,
    /// The lease has ended.
    LeaseEnded,
    /// Returned before under another key, expired, or released by others.
    AlreadyEnded,
    /// A renewal token older than the one before the current.
    RenewalTokenReplayed,
    /// A lease of that id exists; the gateway draws another.
    LeaseIdTaken,
    /// An application with that id or client id exists; the gateway draws another.
    AppIdTaken,
    /// Fewer free seats in the pool than asked to move.
    NotEnoughFree,
    /// A version that is not one higher than the stored one.
    VersionConflict,
    /// A bound of the ledger would be passed; `doc` of the constant says which and why.
    LimitReached,
    /// A node id was used before by another directory.
    NodeIdTaken,
    /// No license has this key, or none for this face; without a key: no license is open.
    UnknownLicenseKey,
    /// Too many unknown keys were shown, from this address or from all.
    TooManyGuesses,
    /// No such license.
    UnknownLicense,
    /// Suspended by an operator.
    LicenseSuspended,
    /// Revoked by an operator.
    LicenseRevoked,
    /// Cancelled for good.
    LicenseCancelled,
    /// Its validity, or that of its package, is over.
    LicenseExpired,
    /// Its validity has not begun.
    LicenseNotYetValid,
    /// The license is not of a state in which this can be done.
    LicenseStateConflict,
    /// A license with that id or key exists; the gateway draws another. Or an open one exists.
    LicenseTaken,
    /// A product was asked for, and the license has none.
    LicenseWithoutProduct,
    /// The license is for another product.
    LicenseOfOtherProduct,
    /// The client is banned.
    ClientBanned,
    /// The client id is not the owner's.
    ClientMismatch,
    /// The address was never used to activate the license.
    EmailNotAuthorized,
    /// As many devices or hosts are active as the plan allows.
    TooManyActivations,
    /// The package has no seat for the activation.
    NoSeat,
    /// The holder was never activated, or was removed.
    UnknownActivation,
    /// Revoked by an operator.
    ActivationRevoked,
    /// Its own validity is over.
    ActivationExpired,
    /// The activation is another host's.
    HolderMismatch,
    /// Another cluster holds the license's slot.
    SlotInUse,
    /// More nodes than the plan allows.
    NodeLimitExceeded,
    /// A token of an earlier token version.
    StaleTokenVersion,
    /// The device has had its trial.
    TrialUsed,
    /// No such client.
    UnknownClient,
    /// A client with that id or address exists.
    ClientTaken,
    /// No such product in the catalog.
    UnknownCatalogProduct,
    /// A product, user or key with that id or name exists.
    NameTaken,
    /// The package allows no offline use of this kind.
    OfflineNotAllowed,
    /// Longer than package or operator allow.
    BorrowTooLong,
    /// As many seats are borrowed as package or operator allow.
    BorrowLimitReached,
    /// The seats left are kept for online users.
    OnlineReserve,
    /// The operator's rules exclude this user or host.
    BorrowExcluded,
    /// The lease is not borrowed.
    NotBorrowed,
    /// An offline token of the lease is outstanding; write it off, or wait.
    OfflineTokenOutstanding,
    /// The month's overage has reached its bound.
    BudgetReached,
    /// No such API key.
    UnknownApiKey,
    /// No such node.
    UnknownMember,
    /// The join token was used, has ended, or was never made.
    UnknownTicket,
    /// An alarm says that a disk is nearly full: nothing new is written.
    NoSpace,
    /// An epoch was opened lately, and holders of the former one are coming back.
    Grace,
    /// The token is of no epoch that can come back.
    NotReclaimable,
    /// The pool is kept for others.
    PoolReserved,
    /// Seats of the pool are out.
    PoolInUse,
    /// No such operator token.
    UnknownOperator,
    /// No other admin token would be left.
    LastAdmin,
    /// No such person or host.
    UnknownSubject,
    /// Leases or activations still name them.
    SubjectInUse,
    /// No such alarm.
    UnknownAlarm,
    /// No such certificate authority.
    UnknownTrustAnchor,
    /// Its state does not allow it: one authority issues, and it is not removed.
    TrustAnchorInUse,
    /// No such audit event to prune up to, or not this hash.
    UnknownAuditEvent,
    /// Secrets or activations are still sealed under it.
    DataKeyInUse,
}

impl Refusal {
    /// A refusal that nothing but another state of affairs would satisfy.
    pub fn new(code: RefusalCode) -> Self {
        Self { code, available_at_ms: None, retry_in_ms: None, satisfied_by: None }
    }
}
