//! What operators need of the ledger: members that come and go, epochs, alarms, roots of trust,
//! pools, the policy of applications, and the far end of the audit log.
//!
//! Append-only, like `command`. No row here holds a secret: join tokens, like all tokens, are kept
//! as MACs. A row says what is still to be done (give a node its vote, take the old one out), and
//! the leader's node does it, so whoever leads goes on with it.

use serde::{Deserialize, Serialize};

use crate::command::{Member, Sealed, SealedSecret, WrappedDataKey};
use crate::ids::{ActivationId, AppId, LeaseId, Name, NodeId, OperatorId, SubjectRef};
use crate::offline::BorrowParty;

/// Allocates a node id and lets one directory join under it, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddTicket {
    /// HMAC-SHA-256 of the join token under the cluster's operator pepper.
    pub token_mac: [u8; 32],
    /// Led milliseconds for which the token is good.
    pub valid_ms: u64,
    /// Whether the node is to follow without a vote until it is promoted by hand.
    pub learner: bool,
    /// The member whose place it takes: removed once the new one votes.
    pub replaces: Option<NodeId>,
}

/// A node that is to join or has joined, as it is kept until nothing is left to do for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRow {
    /// The id it has been given.
    pub node: NodeId,
    /// MAC of its token.
    pub token_mac: [u8; 32],
    /// End of the token on the lease clock.
    pub expires_led_ms: u64,
    /// Whether it stays a learner.
    pub learner: bool,
    /// The member whose place it takes.
    pub replaces: Option<NodeId>,
    /// Whether the token was used: the member row is there.
    pub joined: bool,
}

/// Uses a ticket: the node's row and its copies of the data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinMember {
    /// MAC of the token shown.
    pub token_mac: [u8; 32],
    /// The node's row; its id is the ticket's.
    pub member: Member,
    /// The data key in every version in use, wrapped to the node.
    pub wraps: Vec<WrappedDataKey>,
}

/// Takes a node out of the ledger, or withdraws its ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveMember {
    /// The node.
    pub node: NodeId,
    /// Whether access tokens that it signed end now, and not within an hour.
    pub revoke_tokens: bool,
    /// Why, for the audit log; at most 256 characters.
    pub reason: Box<str>,
}

/// A node that was removed. Its id is never given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerMember {
    /// The node.
    pub node: NodeId,
    /// Incarnation of its data directory; 0: it never joined.
    pub directory_incarnation: u64,
    /// When it was removed, by the civil clock.
    pub removed_at_ms: i64,
}

/// A signing key that signs no more, and until when it verifies, by the civil clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredKey {
    /// Last civil millisecond at which a token it signed is believed.
    pub verifies_until_ms: i64,
}

/// Why an epoch was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EpochReason {
    /// From a backup: leases granted and ended since are not known.
    Restored,
    /// From what a node had on its disk, a majority being lost for good.
    Recovered,
}

/// Opens a new epoch under one new member. Applied to a state that no node serves, before the first
/// entry of the new epoch; nothing of a former one is applied after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEpoch {
    /// One higher than the former.
    pub epoch: u32,
    /// Random incarnation.
    pub incarnation: u64,
    /// Why.
    pub reason: EpochReason,
    /// The one member of the new epoch; its id is higher than any before.
    pub member: Member,
    /// The data key in every version in use, wrapped to it.
    pub wraps: Vec<WrappedDataKey>,
    /// Whether the operator says that nothing was borrowed after the backup was taken: then no seat
    /// is kept for borrows that the state does not know.
    pub no_borrows_since: bool,
}

/// An epoch that ended. Its leases may go on, and the fences of their grants are of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerEpoch {
    /// Its number.
    pub epoch: u32,
    /// Its random incarnation.
    pub incarnation: u64,
}

/// The time after an epoch was opened in which holders come back and nobody new is let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraceRow {
    /// The epoch before.
    pub former_epoch: u32,
    /// Why it ended.
    pub reason: EpochReason,
    /// End on the lease clock; afterwards the row is without effect.
    pub until_led_ms: u64,
}

/// Brings a lease of the former epoch back, within the grace. The gateway has checked the renewal
/// token's MAC under that epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reclaim {
    /// The lease.
    pub lease: LeaseId,
    /// The sequence its token holds.
    pub sequence: u32,
    /// The epoch its token was made in.
    pub former_epoch: u32,
    /// The package to take the seat from where the lease is not known; it is one of the app's
    /// product.
    pub package: Name,
}

/// Seats kept for borrows that a restored state does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedRow {
    /// How many.
    pub seats: u32,
    /// Last civil millisecond at which they are kept.
    pub until_ms: i64,
}

/// What is wrong with a node. The numbers are stored; append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum AlarmKind {
    /// Its disk is nearly full: while this stands anywhere, nothing new is written.
    NoSpace = 0,
    /// Its clock runs wrong, jumped, or the voters' clocks disagree.
    Clock = 1,
    /// Its state or its files are damaged.
    Corrupt = 2,
    /// A certificate of it ends within 14 days.
    Cert = 3,
    /// It is far behind.
    Lag = 4,
    /// It was refused: not the directory, or not the log, that it joined with.
    Refused = 5,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::NoSpace, Self::Clock, Self::Corrupt, Self::Cert, Self::Lag, Self::Refused];

    /// Its name in status, metrics and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Clock => "CLOCK",
            Self::Corrupt => "CORRUPT",
            Self::Cert => "CERT",
            Self::Lag => "LAG",
            Self::Refused => "REFUSED",
        }
    }

    /// The kind of a name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// Raises an alarm, or says more of one that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseAlarm {
    /// Which node it is about.
    pub node: NodeId,
    /// What is wrong.
    pub kind: AlarmKind,
    /// The measured value and the bound, for people; at most 256 characters.
    pub detail: Box<str>,
}

/// An alarm that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRow {
    /// Which node it is about.
    pub node: NodeId,
    /// What is wrong.
    pub kind: AlarmKind,
    /// Since when, by the civil clock.
    pub since_ms: i64,
    /// As in [`RaiseAlarm::detail`].
    pub detail: Box<str>,
}

/// Takes a person's or host's name away from everything that refers to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseSubject {
    /// Who.
    pub subject: SubjectRef,
    /// Why, for the audit log; names nobody; at most 256 characters.
    pub reason: Box<str>,
}

/// Somebody for whom a pool is kept. Names are compared without regard to the case of ASCII
/// letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PoolParty {
    /// A user or a host.
    Party(BorrowParty),
    /// An application.
    App(AppId),
}

/// Creates a pool or changes it: its share in seats and for whom it is kept, in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPool {
    /// The package.
    pub package: Name,
    /// The pool.
    pub pool: Name,
    /// Its share, at least 1; what it has more than now comes from the unassigned seats. `None`:
    /// as it is.
    pub seats: Option<u32>,
    /// For whom; `None`: as it is.
    pub rule: Option<PoolRule>,
}

/// For whom a pool is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolRule {
    /// Who may take seats of it, and takes them first when no pool is named; empty: whoever names
    /// it. At most 256.
    pub reserved_for: Vec<PoolParty>,
    /// Shown to people; at most 256 characters.
    pub description: Box<str>,
}

/// Use of a pool, or of the unassigned seats, since the package's import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolUsage {
    /// Most seats that were out at once.
    pub peak: u32,
    /// When that was first so, by the civil clock.
    pub peak_at_ms: i64,
    /// When a seat of it was last taken, by the civil clock.
    pub last_taken_at_ms: i64,
    /// Leases granted from it.
    pub granted: u64,
}

/// How far the audit log was pruned: events up to this one are gone, and the chain goes on from its
/// hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditFloor {
    /// Sequence number of the last event that may be gone; 0: none.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// How an application is let in, beside its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPolicy {
    /// The application.
    pub app: AppId,
    /// Whether its access tokens are bound to the certificate it shows (RFC 8705).
    pub certificate_bound: bool,
    /// SHA-256 of the certificates it may show (DER); empty: any. At most 16.
    pub certificates: Vec<[u8; 32]>,
    /// Requests a second on one node; `None`: no bound of its own.
    pub requests_per_second: Option<u32>,
    /// Requests at once above that rate; at least 1 where a rate is set.
    pub burst: u32,
    /// What signs its access tokens.
    pub token_algorithm: crate::command::SigningAlgorithm,
}

/// How far a certificate authority of the cluster is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AnchorState {
    /// Peers believe certificates of it; new ones are not made yet.
    Trusted,
    /// New certificates come from it. One is.
    Issuing,
    /// Peers still believe it; it makes no more.
    Retiring,
}

/// A certificate authority of the cluster. Its private key is the sealed secret `ca-key` in the
/// version named here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustAnchor {
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// X.509, DER; at most 4 KiB.
    pub certificate_der: Vec<u8>,
    /// The same name and key, certified by the authority before it, so that whoever trusts that one
    /// believes this; empty for the first.
    pub cross_signed_der: Vec<u8>,
    /// Version of the secret that holds its key.
    pub key_version: u32,
    /// How far it is trusted.
    pub state: AnchorState,
}

/// Replaces the data key: its wraps and every secret sealed anew, in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplaceDataKey {
    /// One higher than the newest.
    pub version: u32,
    /// To every member.
    pub wraps: Vec<WrappedDataKey>,
    /// Every secret of the ledger, one version higher each.
    pub secrets: Vec<SealedSecret>,
}

/// Seals a device's session key anew after the data key was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResealActivation {
    /// The activation.
    pub activation: ActivationId,
    /// What was there, or the command does nothing: somebody was faster.
    pub before: Sealed,
    /// The same key, sealed under the new data key.
    pub after: Sealed,
}

/// Ends an operator token at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveOperator {
    /// The token's row.
    pub operator: OperatorId,
}

/// Whose stored form is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peppered {
    /// An application's client secret.
    App(AppId),
    /// An operator's token, or an API key.
    Operator(OperatorId),
}

/// Stores a credential that was shown and verified anew, under a newer version of its pepper. Its
/// generation and what it allows stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repepper {
    /// Whose.
    pub row: Peppered,
    /// What was there, or the command does nothing: it was replaced meanwhile.
    pub before: [u8; 32],
    /// The same credential under a newer version.
    pub after: [u8; 32],
}

/// Name of the first version of the pepper of client secrets; later ones are `NAME-N`.
pub const CLIENT_SECRET_PEPPER: &str = "client-secret-pepper";
/// The same of operator tokens, API keys and join tokens.
pub const OPERATOR_PEPPER: &str = "operator-pepper";

/// The stored form of a credential under a version of a pepper, from its HMAC. That of the first
/// version is the HMAC itself; later ones are `0u48 ‖ version u16 ‖ 24 bytes of it`, big endian, so
/// that the version can be read from the form. (An HMAC that begins like a version's form does not
/// happen: 48 bits of zeros.) Versions go to 65,535.
pub fn peppered(version: u32, mac: [u8; 32]) -> [u8; 32] {
    if version <= 1 {
        return mac;
    }
    let mut form = [0; 32];
    form[6..8].copy_from_slice(&u16::try_from(version).unwrap_or(u16::MAX).to_be_bytes());
    form[8..].copy_from_slice(&mac[..24]);
    form
}

/// The version of the pepper that a stored form is under.
pub fn pepper_version(form: &[u8; 32]) -> u32 {
    match *form {
        [0, 0, 0, 0, 0, 0, high, low, ..] => u32::from(u16::from_be_bytes([high, low])).max(1),
        _ => 1,
    }
}

/// The secret that holds a version of a pepper.
pub fn pepper_secret(pepper: &str, version: u32) -> String {
    if version <= 1 { pepper.to_owned() } else { format!("{pepper}-{version}") }
}

/// The pepper and version that a secret holds, by its name's one spelling.
pub fn pepper_of_secret(name: &str) -> Option<(&'static str, u32)> {
    [CLIENT_SECRET_PEPPER, OPERATOR_PEPPER].into_iter().find_map(|pepper| {
        let version = match name.strip_prefix(pepper)? {
            "" => 1,
            rest => rest.strip_prefix('-')?.parse().ok()?,
        };
        (pepper_secret(pepper, version) == name).then_some((pepper, version))
    })
}
