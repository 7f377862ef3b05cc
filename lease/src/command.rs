//! What can be asked of the ledger.
//!
//! Append-only: a variant or field is never removed, reordered or given another meaning. A command
//! names at most one package, the shard key. None can hold a secret: what must be secret arrives
//! sealed or as a MAC.

use serde::{Deserialize, Serialize};

use crate::ids::{ApiKeyId, AppId, LeaseId, Name, NodeId, OperatorId, ProductId, SubjectRef};
use crate::license::{
    Activate, AddClient, ChangeActivation, ChangeClient, ChangeLicense, Deactivate, IssueLicense,
    KeyWindow, PutProduct, ReportUsage, StartTrial, UserRow, Verify,
};
use crate::money::Money;
use crate::offline::{
    ApiKeyRow, Borrow, ClassicCheckout, ImportEntitlement, ReturnBorrow, SetBorrowRules, SetBudget,
    WriteOff,
};
use crate::operate::{
    AddTicket, AlarmKind, AppPolicy, EraseSubject, JoinMember, OpenEpoch, RaiseAlarm, Reclaim,
    RemoveMember, RemoveOperator, Repepper, ReplaceDataKey, ResealActivation, SetPool, TrustAnchor,
};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Time passes; what is due expires. (Every entry's stamp does this; `Tick` is the entry that
    /// has nothing else to do.)
    Tick,
    /// The first command of a cluster.
    InitCluster(InitCluster),
    /// Adds or updates a node's row.
    PutMember(Member),
    /// Publishes the public half of a node's token-signing key.
    PublishSigningKey(SigningKey),
    /// Stores a sealed cluster secret (or replaces it: the version must be one higher).
    PutSecret(SealedSecret),
    /// Stores the cluster data key, wrapped to one node.
    WrapDataKey(WrappedDataKey),
    /// Adds an operator token.
    AddOperator(Operator),
    /// Pins a vendor's public key.
    PinVendor(Vendor),
    /// Imports a signed package whose signature was verified against a pinned key.
    ImportPackage(Box<ImportPackage>),
    /// Stops new grants and renewals of a package until resumed.
    SuspendPackage(PackageChange),
    /// Undoes a suspension.
    ResumePackage(PackageChange),
    /// Ends a package for good and all its leases with it.
    RevokePackage(PackageChange),
    /// Registers an application.
    RegisterApp(RegisterApp),
    /// Replaces an application's secret; tokens of the former one end.
    RotateAppSecret(RotateAppSecret),
    /// Removes an application; its leases run out, none can be renewed.
    RemoveApp {
        /// The application.
        app: AppId,
    },
    /// Takes a seat.
    Checkout(Box<Checkout>),
    /// Extends one or many leases.
    Heartbeat {
        /// 1 to 1,000, each judged by itself.
        leases: Vec<Renewal>,
    },
    /// Gives a seat back, by its holder.
    Return(Box<Return>),
    /// Takes a seat back, by an operator.
    Release {
        /// The lease.
        lease: LeaseId,
        /// Why, for the audit log; at most 256 characters.
        reason: Box<str>,
    },
    /// Moves free seats from one pool of a package to another, creating the second if need be.
    TransferSeats(TransferSeats),
    /// The sum over all rows that a majority of voters reported at an index; whoever differs is
    /// damaged.
    AgreeStateSum {
        /// The index at which it was taken.
        index: u64,
        /// The sum.
        sum: [u8; 32],
    },
    /// Imports a package that may be used offline.
    ImportEntitlement(Box<ImportEntitlement>),
    /// Issues a license key.
    IssueLicense(Box<IssueLicense>),
    /// Suspends, resumes, cancels, revokes or reinstates a license, or replaces its key.
    ChangeLicense(Box<ChangeLicense>),
    /// Takes or confirms a seat under a license.
    Activate(Box<Activate>),
    /// Asks whether an activation still holds, and extends it.
    Verify(Box<Verify>),
    /// Gives an activation's seat back, by its holder.
    Deactivate(Box<Deactivate>),
    /// Removes, revokes or reinstates an activation.
    ChangeActivation(Box<ChangeActivation>),
    /// Starts a trial.
    StartTrial(Box<StartTrial>),
    /// Adds a client.
    AddClient(AddClient),
    /// Bans a client, or no longer.
    ChangeClient(ChangeClient),
    /// Stores a product of the catalog.
    PutProduct(PutProduct),
    /// Removes a product; licenses keep their plans.
    RemoveProduct {
        /// The product.
        product: ProductId,
        /// Its stored version.
        version: u32,
    },
    /// Adds a user of the admin API that `device` tools speak.
    AddUser(UserRow),
    /// Counts metered use.
    ReportUsage(Box<ReportUsage>),
    /// Says which versions of a rotating key are in use.
    SetKeyWindow(KeyWindow),
    /// Lengthens a lease for offline use.
    Borrow(Borrow),
    /// Ends a borrow early.
    ReturnBorrow(ReturnBorrow),
    /// Takes a seat back from a lost device.
    WriteOff(WriteOff),
    /// Sets who may borrow how much of a package.
    SetBorrowRules(Box<SetBorrowRules>),
    /// Takes a seat through the classic face.
    ClassicCheckout(Box<ClassicCheckout>),
    /// Gives one back.
    ClassicReturn {
        /// The lease.
        lease: LeaseId,
    },
    /// Adds a key of the classic face.
    AddApiKey(ApiKeyRow),
    /// Removes one.
    RemoveApiKey {
        /// The key.
        key: ApiKeyId,
    },
    /// Bounds what overage of a package may cost in a month.
    SetBudget(SetBudget),
    /// Allocates a node id and lets one directory join under it.
    AddTicket(AddTicket),
    /// Uses a ticket.
    JoinMember(Box<JoinMember>),
    /// Nothing is left to do for a node that joined: its ticket goes.
    CompleteJoin {
        /// The node.
        node: NodeId,
    },
    /// Takes a node out of the ledger, or withdraws its ticket.
    RemoveMember(RemoveMember),
    /// Opens a new epoch. Applied where nobody serves, never proposed.
    OpenEpoch(Box<OpenEpoch>),
    /// Ends an operator token.
    RemoveOperator(RemoveOperator),
    /// Raises an alarm.
    RaiseAlarm(RaiseAlarm),
    /// Clears an alarm.
    ClearAlarm {
        /// The node it is about.
        node: NodeId,
        /// What was wrong.
        kind: AlarmKind,
    },
    /// Takes a person's or host's name away.
    EraseSubject(EraseSubject),
    /// Creates a pool or changes it.
    SetPool(Box<SetPool>),
    /// Gives a pool's seats back to the unassigned ones; none may be out.
    RemovePool {
        /// The package.
        package: Name,
        /// The pool.
        pool: Name,
    },
    /// Lets go of audit events up to and including one.
    PruneAudit {
        /// Sequence number of the last that goes.
        upto_seq: u64,
        /// Its hash, from which the chain goes on.
        hash: [u8; 32],
    },
    /// Says how an application is let in.
    SetAppPolicy(Box<AppPolicy>),
    /// Stores a certificate authority, or changes how far it is trusted.
    PutTrustAnchor(Box<TrustAnchor>),
    /// Ends trust in a certificate authority.
    RemoveTrustAnchor {
        /// SHA-256 of its certificate.
        fingerprint: [u8; 32],
    },
    /// Replaces the data key.
    ReplaceDataKey(Box<ReplaceDataKey>),
    /// Seals a device's session key anew.
    ResealActivation(Box<ResealActivation>),
    /// Lets go of the wraps of a former data key, once nothing is sealed under it.
    RetireDataKey {
        /// Its version.
        version: u32,
    },
    /// Brings a lease of the former epoch back.
    Reclaim(Box<Reclaim>),
    /// Gives back the seats kept for borrows that a restored state does not know.
    ReleaseReserved {
        /// The package.
        package: Name,
        /// Why, for the audit log; at most 256 characters.
        reason: Box<str>,
    },
    /// Lets go of a retired signing key that verifies nothing any more.
    ForgetSigningKey {
        /// Its id.
        kid: Name,
    },
    /// Lets go of one version of a rotated secret.
    RemoveSecret {
        /// The secret.
        name: Name,
    },
    /// Stores a credential that was shown anew, under a newer version of its pepper.
    Repepper(Repepper),
    /// A node signs with a key no more; what it signed is believed for as long as a token lives.
    RetireSigningKey {
        /// The key's id.
        kid: Name,
    },
}

/// Founds a cluster: identity, first epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitCluster {
    /// Text id of the cluster, e.g. `lh-3f2a…`.
    pub cluster_id: Name,
    /// The client organisation packages must be issued to.
    pub client_id: Name,
    /// Its domain.
    pub org_domain: Name,
    /// Epoch number: 1 for a new cluster.
    pub epoch: u32,
    /// Random incarnation of that epoch.
    pub incarnation: u64,
}

/// A node's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// Where peers reach it, `host:port`.
    pub peer_address: Box<str>,
    /// Where applications reach it, a URL.
    pub gateway_url: Box<str>,
    /// Region label; empty when not set.
    pub region: Box<str>,
    /// Zone label; empty when not set.
    pub zone: Box<str>,
    /// Random incarnation of its data directory, made at join.
    pub directory_incarnation: u64,
    /// Public half of its X25519 key-encryption key.
    pub kek_public: [u8; 32],
}

/// The public half of a node's token-signing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// RFC 7638 thumbprint, base64url.
    pub kid: Name,
    /// The node that holds the private half.
    pub node: NodeId,
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
    /// SubjectPublicKeyInfo, DER.
    pub public_der: Vec<u8>,
}

/// Algorithms for access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// Ed25519.
    EdDsa,
}

/// A secret sealed under a subkey of the cluster data key, its name and version as associated
/// data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// What it is, e.g. `lease-id-mac`.
    pub name: Name,
    /// Counts up from 1.
    pub version: u32,
    /// AES-256-GCM nonce.
    pub nonce: [u8; 12],
    /// Ciphertext and tag; at most 16 KiB.
    pub sealed: Vec<u8>,
}

/// Bytes sealed under a subkey of the cluster data key that is made for one record; the record's
/// identity is associated data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// AES-256-GCM nonce.
    pub nonce: [u8; 12],
    /// Ciphertext and tag; at most 1 KiB.
    pub bytes: Vec<u8>,
}

/// The data key wrapped to a node's key-encryption key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedDataKey {
    /// Version of the data key.
    pub version: u32,
    /// Whom it is wrapped to.
    pub node: NodeId,
    /// Ephemeral X25519 public key.
    pub ephemeral_public: [u8; 32],
    /// Nonce of the wrap.
    pub nonce: [u8; 12],
    /// Wrapped key and tag.
    pub wrapped: Vec<u8>,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Reads everything, changes nothing.
    Auditor,
    /// Runs the cluster and its leases.
    Operator,
    /// Everything, identities and keys included.
    Admin,
}

/// An operator token's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Names the row.
    pub operator: OperatorId,
    /// Who holds it; at most 128 characters.
    pub name: Box<str>,
    /// What it allows.
    pub role: Role,
    /// HMAC-SHA-256 of the token under the cluster's operator pepper.
    pub token_mac: [u8; 32],
    /// When it ends, by the civil clock; `None`: never.
    pub expires_at_ms: Option<i64>,
}

/// A vendor and the key pinned for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vendor {
    /// E.g. `vector-de`.
    pub vendor: Name,
    /// Shown name; may be empty.
    pub name: Box<str>,
    /// SubjectPublicKeyInfo, DER.
    pub public_der: Vec<u8>,
    /// SHA-256 of `public_der`.
    pub fingerprint: [u8; 32],
}

/// A verified package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportPackage {
    /// RFC 8785 bytes that the signature covers.
    pub canonical: Vec<u8>,
    /// The signature as the vendor wrote it, e.g. `SHA256-RSA:…`.
    pub signature: Box<str>,
    /// Fingerprint of the pinned key that verified it; must still be pinned in `apply`.
    pub verified_by: [u8; 32],
    /// What the bytes say.
    pub terms: PackageTerms,
}

/// What a package entitles to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageTerms {
    /// The package, unique in the cluster and the shard key.
    pub package: Name,
    /// Vendor id.
    pub vendor: Name,
    /// Product id.
    pub product: Name,
    /// Shown name of the product.
    pub product_name: Box<str>,
    /// Covered versions, e.g. `>=8.0.0`; judged by the gateway.
    pub version_range: Box<str>,
    /// Client it was issued to; equal to the cluster's.
    pub client_id: Name,
    /// Domain it was issued to; equal to the cluster's.
    pub org_domain: Name,
    /// Most seats out at once over all classes.
    pub total: u32,
    /// Where the seats come from.
    pub sources: Vec<CapacitySource>,
    /// Prices.
    pub pricing: Pricing,
    /// Features a checkout may ask for; empty: the package names none.
    pub features: Vec<Name>,
    /// First civil millisecond of validity.
    pub valid_from_ms: i64,
    /// Last civil millisecond of validity.
    pub valid_until_ms: i64,
    /// Rules the vendor set inside the signed bytes.
    pub policy: Policy,
}

/// Seats of one class, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacitySource {
    /// How many.
    pub seats: u32,
    /// Of which class.
    pub class: SeatClass,
    /// First civil millisecond.
    pub valid_from_ms: i64,
    /// Last civil millisecond.
    pub valid_until_ms: i64,
}

/// How a seat is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SeatClass {
    /// Paid for in advance.
    Commit,
    /// Paid per use.
    Overage,
}

/// A package's prices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pricing {
    /// Per month for all commit seats.
    pub commit_fee_monthly: Money,
    /// Per overage checkout and seat.
    pub overage_per_use: Money,
    /// ISO 4217 code.
    pub currency: Box<str>,
}

/// What the vendor decided about leases of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A lease not renewed for this much led time expires.
    pub lease_ttl_ms: u32,
    /// How often holders are asked to renew.
    pub heartbeat_interval_ms: u32,
    /// Whether each renewal replaces the renewal token.
    pub renewal_rotation: bool,
    /// How far a device's clock may be off in offline use.
    pub offline_skew_ms: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 15 * 60 * 1000,
            heartbeat_interval_ms: 5 * 60 * 1000,
            renewal_rotation: true,
            offline_skew_ms: 600 * 1000,
        }
    }
}

/// An operator's change to a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    /// The package.
    pub package: Name,
    /// Why, for the audit log; at most 256 characters.
    pub reason: Box<str>,
}

/// A new application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterApp {
    /// Chosen by the gateway.
    pub app: AppId,
    /// OAuth client id, chosen by the gateway.
    pub client_id: Name,
    /// Shown name.
    pub name: Box<str>,
    /// The product it may check out.
    pub product: Name,
    /// That product's vendor.
    pub vendor: Name,
    /// HMAC-SHA-256 of the client secret under the cluster's pepper.
    pub secret_mac: [u8; 32],
}

/// A new secret for an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateAppSecret {
    /// The application.
    pub app: AppId,
    /// HMAC-SHA-256 of the new secret.
    pub secret_mac: [u8; 32],
}

/// A request for a seat. The gateway chose the package; when that one is full it asks for the next
/// under the same request id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    /// The package to take it from.
    pub package: Name,
    /// The product asked for; must be the package's.
    pub product: Name,
    /// Id for the lease, if granted.
    pub lease: LeaseId,
    /// Pool to take it from; `None`: the unassigned seats.
    pub pool: Option<Name>,
    /// Seats, at least 1.
    pub quantity: u32,
    /// Features, all or nothing.
    pub features: Vec<Name>,
    /// Who uses it.
    pub user: Subject,
    /// On which host.
    pub host: Subject,
    /// Version of the product that asks; may be empty.
    pub version: Box<str>,
    /// The application's own session id; may be empty.
    pub session: Box<str>,
}

/// A person or host by name, with the reference to use if the ledger does not know the name yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// At most 256 characters; may be empty.
    pub name: Box<str>,
    /// Random, from the gateway.
    pub candidate: SubjectRef,
}

/// One lease to extend. The gateway has checked the renewal token's MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// The lease.
    pub lease: LeaseId,
    /// The sequence its token holds.
    pub sequence: u32,
    /// Whether the holder still works; `false` keeps the lease without extending it.
    pub still_active: bool,
}

/// A seat given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Return {
    /// The lease.
    pub lease: LeaseId,
    /// What was done with it.
    pub usage: UsageReport,
}

/// What an application says of its session; counted per package, never per person.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageReport {
    /// As the application measured it.
    pub session_duration_s: u64,
    /// At most 64 names of at most 64 characters.
    pub features_used: Vec<Box<str>>,
    /// How many.
    pub files_processed: u64,
}

/// Seats to move between pools of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferSeats {
    /// The package.
    pub package: Name,
    /// From; `None`: the unassigned seats.
    pub from: Option<Name>,
    /// To; `None`: the unassigned seats.
    pub to: Option<Name>,
    /// How many, at least 1.
    pub quantity: u32,
}
