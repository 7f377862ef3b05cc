//! License keys: what one entitles to, what can be asked of it, what is kept of it.
//!
//! A *license* is a key bound to a *plan* and to one package: whatever is activated under it takes
//! its seats from that package, so a seat taken by a device is a seat taken for all. An
//! *activation* is one device, cluster or host; while it holds a seat, that seat is a lease of the
//! package whose application is the face ([`Face::app`]). The key itself is never here: it is found
//! by its MAC. Append-only, like `command`.
//!
//! A lease of an activation has no end on the lease clock (`u64::MAX`) unless the plan has a
//! `slot_ttl_ms`; its civil end is the earlier of the license's and the activation's.

use serde::{Deserialize, Serialize};

use crate::command::{Sealed, Subject};
use crate::ids::{
    ActivationId, AddressTag, ClientId, Face, LeaseId, LicenseId, Name, ProductId, SubjectRef,
    UserId,
};
use crate::money::Measure;

/// What a license entitles to; set when it is issued and never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseTerms {
    /// Its id.
    pub license: LicenseId,
    /// Through which face it is used; through any other its key is unknown.
    pub face: Face,
    /// The package that its seats come from.
    pub package: Name,
    /// Whom it was issued to; `None`: nobody in the book of clients.
    pub client: Option<ClientId>,
    /// The organisation it is for (`deployment`, `evaluation`); may be empty.
    pub organisation: Box<str>,
    /// Its plan.
    pub plan: Plan,
    /// First civil millisecond of validity.
    pub valid_from_ms: i64,
    /// Last civil millisecond of validity; `None`: as long as its package.
    pub valid_until_ms: Option<i64>,
    /// Whether callers without a key get this license (`evaluation` only, one per cluster).
    pub open: bool,
}

/// What was sold with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name, e.g. `gold`.
    pub slug: Name,
    /// Its id in the catalog; 0: it is not from there.
    pub id: u128,
    /// Name of its product, e.g. `export-studio`.
    pub product: Name,
    /// The product's id in the catalog; `None`: it is not from there.
    pub product_id: Option<ProductId>,
    /// Shown kind, e.g. `standard`, `evaluation`.
    pub kind: Box<str>,
    /// Features with their scopes; at most 64.
    pub features: Vec<PlanFeature>,
    /// Devices, clusters or hosts at once; 0: as many as the package has seats.
    pub max_activations: u32,
    /// Nodes that one cluster may have (`deployment`); 0: any number.
    pub max_nodes: u32,
    /// Seats that one activation takes; at least 1.
    pub seats_per_activation: u32,
    /// When clients are to verify.
    pub check: CheckMode,
    /// For [`CheckMode::Custom`].
    pub check_interval_s: u32,
    /// How long one activation is valid, by the civil clock (`evaluation`, trials); 0: as long as
    /// the license.
    pub activation_ms: u64,
    /// An activation not renewed for this much led time gives its seat back; 0: never.
    pub slot_ttl_ms: u64,
    /// How long an offline token of an activation may live, where the package allows any; 0: none
    /// is given.
    pub offline_ms: u64,
    /// Whether it is a trial.
    pub trial: bool,
    /// Metered use that the plan includes, by metric; at most 64.
    pub quotas: Vec<(Name, Measure)>,
}

/// A feature of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFeature {
    /// Its name, e.g. `export`.
    pub slug: Name,
    /// Its id in the catalog; 0: it is not from there.
    pub id: u128,
    /// Shown group; may be empty.
    pub category: Box<str>,
    /// Whether the plan has it.
    pub enabled: bool,
    /// What exactly it allows; at most 64.
    pub scopes: Vec<PlanScope>,
}

/// A part of a feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanScope {
    /// Its name, e.g. `create`.
    pub slug: Name,
    /// Its id in the catalog; 0: it is not from there.
    pub id: u128,
    /// Allowed, denied or limited.
    pub permission: Permission,
    /// For [`Permission::Limit`]; 0: no limit.
    pub limit: u64,
    /// JSON object that clients are shown; may be empty; at most 1,024 bytes.
    pub metadata: Box<str>,
}

/// Whether a scope may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Permission {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// Up to a limit.
    Limit,
}

/// When clients are to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckMode {
    /// Never.
    None,
    /// At every start.
    EachExecution,
    /// At the first of each month.
    Monthly,
    /// A year after the last.
    Yearly,
    /// After an interval.
    Custom,
}

/// Issues a license. The key was shown to whoever asked; its MAC is looked up from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueLicense {
    /// What it entitles to.
    pub terms: LicenseTerms,
    /// The key.
    pub key: KeyRow,
}

/// A license key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRow {
    /// HMAC-SHA-256 of the canonical key under the cluster's key MAC.
    pub mac: [u8; 32],
    /// The key's last four characters, for people.
    pub hint: Box<str>,
}

/// An operator's change to a license.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeLicense {
    /// The license.
    pub license: LicenseId,
    /// What is to become of it.
    pub change: LicenseChange,
    /// Why, for the audit log and (`device`) the client; at most 256 characters.
    pub reason: Box<str>,
}

/// What can become of a license. `Suspend`, `Resume`, `Cancel`, `Revoke`, `Reinstate` and a new key
/// raise its token version, so that tokens given out before are stale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LicenseChange {
    /// Refused everywhere until resumed; its activations keep their seats.
    Suspend,
    /// Undoes a suspension.
    Resume,
    /// Ends it for good; its seats come free.
    Cancel,
    /// Ends it until reinstated; its seats come free.
    Revoke,
    /// Undoes a revocation; devices and hosts take seats again when they next verify, clusters when
    /// they next activate.
    Reinstate,
    /// Replaces the key; the former one is unknown from now on.
    RotateKey(KeyRow),
}

/// Where a license stands. Whether it has expired is said by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LicenseState {
    /// In force while it is valid.
    Active,
    /// Until resumed.
    Suspended,
    /// Until reinstated.
    Revoked,
    /// For good.
    Cancelled,
}

/// A license as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LicenseRow {
    /// What it entitles to.
    pub terms: LicenseTerms,
    /// Its key.
    pub key: KeyRow,
    /// Where it stands.
    pub state: LicenseState,
    /// Why it stands there; empty while it was never changed.
    pub reason: Box<str>,
    /// When it came to stand there, by the civil clock.
    pub changed_at_ms: i64,
    /// When it was issued, by the civil clock.
    pub issued_at_ms: i64,
    /// Counts up from 1.
    pub token_version: u32,
    /// When something was last activated under it, by the civil clock; `None`: never.
    pub last_activated_at_ms: Option<i64>,
    /// When its terms were accepted, as the setup call said, by the civil clock; `None`: never.
    pub terms_accepted_at_ms: Option<i64>,
    /// Who set it up (`deployment`); zero: nobody yet.
    pub contact: SubjectRef,
}

/// Asks for a seat under a license, or confirms the one held: idempotent per holder. Whoever shows
/// unknown keys too often is refused for a while, known key or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activate {
    /// MAC of the key shown; `None`: none was, and the open license is meant.
    pub key_mac: Option<[u8; 32]>,
    /// Where the request came from.
    pub address: AddressTag,
    /// Fingerprint, cluster id, or (`evaluation`) a hash over host, organisation and project: 1 to
    /// 128 characters.
    pub holder: Name,
    /// Id for the activation, if it is new.
    pub activation: ActivationId,
    /// Id for its lease, if it takes a seat.
    pub lease: LeaseId,
    /// What the face adds.
    pub claim: Claim,
}

/// What a face adds to an activation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claim {
    /// `device`.
    Device {
        /// Who and for which product.
        identity: DeviceIdentity,
        /// The session key, sealed for the activation's id, if the activation is new.
        session: Sealed,
    },
    /// `deployment`, the runtime call: takes the slot.
    Deployment {
        /// Nodes the cluster says it has; 0: it does not say.
        nodes: u32,
        /// Shown to operators: host name, address, product and version as the cluster sent them;
        /// at most 1,024 bytes of JSON; may be empty.
        metadata: Box<str>,
    },
    /// `deployment`, the setup call: takes no seat, records who accepted the terms.
    Setup {
        /// Who.
        contact: Subject,
        /// When the terms were accepted, as the caller said; `None`: it did not say.
        terms_accepted_at_ms: Option<i64>,
    },
    /// `evaluation`.
    Evaluation {
        /// Organisation id; may be empty.
        org: Box<str>,
        /// Project id; may be empty.
        project: Box<str>,
        /// Version of the software that asks; may be empty.
        version: Box<str>,
    },
}

/// Who asks through `device`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIdentity {
    /// The product asked for; `None`: none was named.
    pub product: Option<ProductRef>,
    /// The client id sent; `None`: it is no client id at all, and so nobody's.
    pub client: Option<ClientId>,
    /// E-mail address, in lower case.
    pub email: Subject,
    /// Client id for that address, if it turns out to be a new delegate.
    pub subject_client: ClientId,
}

/// A product by either name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProductRef {
    /// By its id.
    Id(ProductId),
    /// By its name.
    Slug(Name),
}

/// Asks whether an activation still holds, and extends it where it has to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    /// How the activation is found.
    pub by: VerifyBy,
    /// Where the request came from.
    pub address: AddressTag,
    /// Who it is, as in [`Activate::holder`].
    pub holder: Name,
    /// Id for a lease, if the activation lost its seat and takes one again.
    pub lease: LeaseId,
}

/// How a verified activation is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerifyBy {
    /// `device`: by key and fingerprint.
    Device {
        /// MAC of the key shown.
        key_mac: [u8; 32],
        /// Who asks.
        identity: DeviceIdentity,
    },
    /// `deployment`, a heartbeat: by key and cluster id.
    Deployment {
        /// MAC of the key shown.
        key_mac: [u8; 32],
        /// Token version in the token shown, whose signature the gateway checked.
        token_version: u32,
        /// Nodes the cluster says it has; 0: it does not say.
        nodes: u32,
    },
    /// `evaluation`: by activation id; the holder must be its host.
    Evaluation {
        /// The activation.
        activation: ActivationId,
    },
}

/// Gives an activation's seat back, by its holder (`deployment`). Repeatable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deactivate {
    /// MAC of the key shown.
    pub key_mac: [u8; 32],
    /// Where the request came from.
    pub address: AddressTag,
    /// The cluster id.
    pub holder: Name,
}

/// An operator's change to an activation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeActivation {
    /// The activation.
    pub activation: ActivationId,
    /// What is to become of it.
    pub change: ActivationChange,
    /// Why, for the audit log; at most 256 characters.
    pub reason: Box<str>,
    /// Frees the seat although an offline token of it is outstanding. Without it such a seat comes
    /// free when the token has run out everywhere.
    pub write_off: bool,
}

/// What can become of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivationChange {
    /// Forgets it; the same holder may activate anew.
    Remove,
    /// Refuses its holder until reinstated; its seat comes free.
    Revoke,
    /// Undoes a revocation.
    Reinstate,
}

/// Where an activation stands. Whether it has expired is said by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ActivationState {
    /// In force.
    Active,
    /// Given back by its holder or run out; its holder may activate again.
    Released,
    /// Until reinstated.
    Revoked,
}

/// An activation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationRow {
    /// Its id.
    pub activation: ActivationId,
    /// Under which license.
    pub license: LicenseId,
    /// Who it is, as in [`Activate::holder`].
    pub holder: Name,
    /// Where it stands.
    pub state: ActivationState,
    /// The lease of its seat; `None`: it holds none.
    pub lease: Option<LeaseId>,
    /// Who activated it (`device`: the address used); zero: nobody named.
    pub contact: SubjectRef,
    /// Client id of that address (`device`).
    pub subject_client: Option<ClientId>,
    /// Session key (`device`), sealed for this activation.
    pub session: Option<Sealed>,
    /// When it was first made, by the civil clock.
    pub activated_at_ms: i64,
    /// When its holder was last heard, by the civil clock.
    pub last_seen_at_ms: i64,
    /// Its own last civil millisecond; `None`: as long as its license. `i64::MIN`: it was removed,
    /// and what is left of it is the seat that is kept for its offline token.
    pub valid_until_ms: Option<i64>,
    /// Organisation id (`evaluation`); may be empty.
    pub org: Box<str>,
    /// Project id (`evaluation`); may be empty.
    pub project: Box<str>,
    /// Version of the software (`evaluation`); may be empty.
    pub version: Box<str>,
    /// Nodes it said it has (`deployment`).
    pub nodes: u32,
    /// What it said of itself (`deployment`): JSON; may be empty.
    pub metadata: Box<str>,
}

impl ActivationRow {
    /// Whether it was removed, and only the seat kept for its offline token is left of it.
    pub fn is_removed(&self) -> bool {
        self.valid_until_ms == Some(i64::MIN)
    }

    /// What is left of it when it is removed while a token is outstanding.
    pub(crate) fn removed(self) -> Self {
        Self {
            state: ActivationState::Released,
            contact: SubjectRef(0),
            subject_client: None,
            session: None,
            valid_until_ms: Some(i64::MIN),
            org: "".into(),
            project: "".into(),
            version: "".into(),
            metadata: "".into(),
            ..self
        }
    }
}

/// A delegate of a license: an address other than its owner's that activated it (`device`), or
/// somebody new whom a setup call named after the first (`deployment`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRow {
    /// The license.
    pub license: LicenseId,
    /// The address; its name is a separate, erasable row.
    pub contact: SubjectRef,
    /// The client id it got; 0 (`deployment`): none.
    pub subject_client: ClientId,
    /// When, by the civil clock.
    pub granted_at_ms: i64,
}

/// Starts a trial: a license of its own and its one activation. Once per fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTrial {
    /// The license.
    pub issue: IssueLicense,
    /// Its owner, if the address is new.
    pub client: ClientId,
    /// The device; its claim is [`Claim::Device`], its `key_mac` that of the license.
    pub activate: Activate,
}

/// The trial of a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialRow {
    /// The fingerprint.
    pub holder: Name,
    /// Its license.
    pub license: LicenseId,
    /// When it began, by the civil clock.
    pub started_at_ms: i64,
    /// Its last civil millisecond.
    pub ends_at_ms: i64,
}

/// Adds somebody to whom license keys are issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddClient {
    /// Their id.
    pub client: ClientId,
    /// Their e-mail address, in lower case; no two clients have one.
    pub email: Subject,
}

/// Refuses all licenses of a client, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeClient {
    /// The client.
    pub client: ClientId,
    /// Whether to refuse them.
    pub banned: bool,
    /// Why, for the audit log; at most 256 characters.
    pub reason: Box<str>,
}

/// A client as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Their id.
    pub client: ClientId,
    /// Their address; its name is a separate, erasable row.
    pub email: SubjectRef,
    /// When they were added, by the civil clock.
    pub created_at_ms: i64,
    /// When they were last changed, by the civil clock.
    pub updated_at_ms: i64,
    /// Since when they are refused; `None`: they are not.
    pub banned_at_ms: Option<i64>,
    /// Why; may be empty.
    pub ban_reason: Box<str>,
}

/// Stores a product of the catalog with its plans and features, if nobody else did in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutProduct {
    /// What to store; its `version` is one higher than the stored one, or 1.
    pub product: ProductRow,
}

/// A product of the catalog. What plans and features it has is the gateway's affair; a license
/// holds a copy of its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductRow {
    /// Its id.
    pub product: ProductId,
    /// Its name; no two products have one.
    pub slug: Name,
    /// Counts up from 1 with each change.
    pub version: u32,
    /// The document, JSON; at most 48 KiB.
    pub document: Vec<u8>,
}

/// A user of the admin API that `device` tools speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Their id.
    pub user: UserId,
    /// Their name; no two users have one.
    pub username: Name,
    /// Argon2id hash of their password in PHC form.
    pub password_hash: Box<str>,
    /// When they were added, by the civil clock; what a command carries here is ignored.
    pub created_at_ms: i64,
}

/// Metered use of one activation (`deployment` telemetry).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportUsage {
    /// Holder of an activation in force: the cluster id.
    pub holder: Name,
    /// Where the request came from.
    pub address: AddressTag,
    /// Amounts by metric, at least 0; at most 64.
    pub metrics: Vec<(Name, Measure)>,
    /// The license, where the report proves it; else it must be the only one in question.
    pub license: Option<LicenseId>,
}

/// Wrong keys shown from one address, or from all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuessRow {
    /// When the first of the present window was shown, by the lease clock.
    pub since_led_ms: u64,
    /// How many.
    pub count: u32,
}

/// Which versions of a rotating key are in use (`evaluation`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWindow {
    /// Which key, e.g. `evaluation-hmac`; its versions are the secrets `NAME-N`.
    pub name: Name,
    /// What new documents are signed with.
    pub current: u32,
    /// The oldest that is still accepted; never above `current`.
    pub minimum: u32,
}

/// A seat that an activation has, or what became of one that was asked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// The license.
    pub license: LicenseId,
    /// The activation; `None` after a setup call.
    pub activation: Option<ActivationId>,
    /// Its seat; `None` after a setup call.
    pub lease: Option<LeaseId>,
    /// Whether it took a seat just now.
    pub is_new: bool,
    /// The license's token version.
    pub token_version: u32,
    /// Last civil millisecond of license, activation and package; whichever is first.
    pub valid_until_ms: i64,
    /// Civil clock of the entry that decided.
    pub civil_ms: i64,
    /// The offline token that may be signed; `None`: none.
    pub offline: Option<Box<crate::offline::OfflineProof>>,
}
