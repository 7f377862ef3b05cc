//! The ledger as rows: which tables there are, how a row's key is made and what its value holds.
//!
//! A row is a table number, a key and a value. Keys sort as the thing they name sorts (numbers big
//! endian, two names separated by a zero byte, which no name may contain). Values are frames of
//! [`Kind::Row`], blocks are frames of their own kinds. Everything here is stored: types are
//! changed only by a new version, table numbers are never reused.
//!
//! ```text
//! table                 key                               value
//!  1 META               (empty)                           Meta
//!  2 MEMBER             node u64                          command::Member
//!  3 SIGNING_KEY        kid                               command::SigningKey
//!  4 SECRET             name                              command::SealedSecret
//!  5 WRAPPED_KEY        node u64, version u32             command::WrappedDataKey
//!  6 OPERATOR           operator u64                      command::Operator
//!  7 VENDOR             vendor                            command::Vendor
//!  8 APP                app u64                           App
//!  9 PACKAGE            package                           PackageRow
//! 10 DOCUMENT           package, 0, piece u16             bytes of Document, cut into pieces
//! 11 POOL               package, 0, pool                  PoolRow
//! 12 USAGE              package                           Usage
//! 13 FEATURE_USAGE      package, 0, feature               u64
//! 14 LEASE              group u16, random 10 bytes        LeaseRow
//! 15 SUBJECT            reference u64                     SubjectRow
//! 16 REFUSAL            package, 0, code u16              RefusalRow
//! 17 REFUSAL_LOGGED     kind u8, id u64, code u16, package  RefusalLoggedRow
//! 18 AUDIT              first sequence u64                audit::AuditBlock
//! 19 REQUEST            queue u8, first sequence u64      requests::RequestBlock
//! 20 LICENSE            license u128                      license::LicenseRow
//! 21 ACTIVATION         activation u128                   license::ActivationRow
//! 22 CLIENT             client u128                       license::ClientRow
//! 23 PRODUCT            product u128                      license::ProductRow
//! 24 USER               user u128                         license::UserRow
//! 25 TRIAL              holder                            license::TrialRow
//! 26 IDENTITY           license u128, contact u64         license::IdentityRow
//! 27 GUESS              address u64; 0: all of them       license::GuessRow
//! 28 LICENSE_USAGE      license u128, metric              Measure
//! 29 HOLD               lease, as in LEASE                offline::HoldRow
//! 30 OFFLINE_TERMS      package                           offline::OfflineTerms
//! 31 BORROW_RULES       package                           offline::BorrowRules
//! 32 KEY_WINDOW         name                              license::KeyWindow
//! 33 API_KEY            key u64                           offline::ApiKeyRow
//! 34 BUDGET             package                           offline::BudgetRow
//! 35 TICKET             node u64                          operate::TicketRow
//! 36 FORMER_MEMBER      node u64                          operate::FormerMember
//! 37 RETIRED_KEY        kid                               operate::RetiredKey
//! 38 GRACE              (empty)                           operate::GraceRow
//! 39 RESERVED           package                           operate::ReservedRow
//! 40 ALARM              node u64, kind u8                 operate::AlarmRow
//! 41 POOL_RULE          package, 0, pool                  operate::PoolRule
//! 42 POOL_USAGE         package, 0, pool; none: empty     operate::PoolUsage
//! 43 AUDIT_FLOOR        (empty)                           operate::AuditFloor
//! 44 APP_POLICY         app u64                           operate::AppPolicy
//! 45 TRUST_ANCHOR       fingerprint                       operate::TrustAnchor
//! 46 FORMER_EPOCH       epoch u32                         operate::FormerEpoch
//! ```
//!
//! Tables 18 and 19 hold blocks whose borders depend on when checkpoints were taken. They are not
//! part of the state sum: the chain head in META stands for the audit events, and each remembered
//! request counts as a row of its own (see `requests`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::audit::{AuditHead, EventBlock};
use crate::command::{PackageTerms, SeatClass};
use crate::entry::Stamp;
use crate::format::{self, FormatError, Kind};
use crate::ids::{
    ActivationId, AddressTag, ApiKeyId, AppId, ClientId, Fence, LeaseId, LicenseId, Name, NodeId,
    OperatorId, ProductId, RequestId, SubjectRef, UserId,
};
use crate::money::Money;
use crate::operate::AlarmKind;
use crate::outcome::RefusalCode;
use crate::requests::RequestBlock;
use crate::state::Lease;

/// Table numbers; stored, never reused.
pub mod table {
    /// The one row of clocks, identity and heads.
    pub const META: u8 = 1;
    /// Nodes.
    pub const MEMBER: u8 = 2;
    /// Public halves of token-signing keys.
    pub const SIGNING_KEY: u8 = 3;
    /// Sealed cluster secrets.
    pub const SECRET: u8 = 4;
    /// Wraps of the cluster data key.
    pub const WRAPPED_KEY: u8 = 5;
    /// Operator tokens.
    pub const OPERATOR: u8 = 6;
    /// Vendors and their pinned keys.
    pub const VENDOR: u8 = 7;
    /// Applications.
    pub const APP: u8 = 8;
    /// Packages: state.
    pub const PACKAGE: u8 = 9;
    /// Packages: signed document and terms, in pieces.
    pub const DOCUMENT: u8 = 10;
    /// Named pools.
    pub const POOL: u8 = 11;
    /// Packages: counters.
    pub const USAGE: u8 = 12;
    /// Packages: counters per feature.
    pub const FEATURE_USAGE: u8 = 13;
    /// Live leases.
    pub const LEASE: u8 = 14;
    /// Names behind references to people and hosts; erasable.
    pub const SUBJECT: u8 = 15;
    /// Refusals counted.
    pub const REFUSAL: u8 = 16;
    /// Refusals logged in the present civil minute.
    pub const REFUSAL_LOGGED: u8 = 17;
    /// Blocks of audit events.
    pub const AUDIT: u8 = 18;
    /// Blocks of remembered requests.
    pub const REQUEST: u8 = 19;
    /// License keys and their plans.
    pub const LICENSE: u8 = 20;
    /// Devices, clusters and hosts that licenses were activated on.
    pub const ACTIVATION: u8 = 21;
    /// Whom licenses are issued to.
    pub const CLIENT: u8 = 22;
    /// Products of the catalog.
    pub const PRODUCT: u8 = 23;
    /// Users of the admin API that `device` tools speak.
    pub const USER: u8 = 24;
    /// Trials that devices had.
    pub const TRIAL: u8 = 25;
    /// Delegates of licenses.
    pub const IDENTITY: u8 = 26;
    /// Wrong keys counted.
    pub const GUESS: u8 = 27;
    /// Metered use of licenses.
    pub const LICENSE_USAGE: u8 = 28;
    /// Offline tokens outstanding for leases.
    pub const HOLD: u8 = 29;
    /// What packages say of offline use.
    pub const OFFLINE_TERMS: u8 = 30;
    /// Operators' rules for borrowing.
    pub const BORROW_RULES: u8 = 31;
    /// Versions of rotating keys in use.
    pub const KEY_WINDOW: u8 = 32;
    /// Keys of the classic face.
    pub const API_KEY: u8 = 33;
    /// Overage charged per month.
    pub const BUDGET: u8 = 34;
    /// Nodes that are to join.
    pub const TICKET: u8 = 35;
    /// Nodes that were removed.
    pub const FORMER_MEMBER: u8 = 36;
    /// Signing keys that sign no more.
    pub const RETIRED_KEY: u8 = 37;
    /// The time after an epoch was opened.
    pub const GRACE: u8 = 38;
    /// Seats kept for borrows that a restored state does not know.
    pub const RESERVED: u8 = 39;
    /// Alarms that stand.
    pub const ALARM: u8 = 40;
    /// For whom pools are kept.
    pub const POOL_RULE: u8 = 41;
    /// Use of pools.
    pub const POOL_USAGE: u8 = 42;
    /// How far the audit log was pruned.
    pub const AUDIT_FLOOR: u8 = 43;
    /// How applications are let in.
    pub const APP_POLICY: u8 = 44;
    /// Certificate authorities of the cluster.
    pub const TRUST_ANCHOR: u8 = 45;
    /// Epochs that were.
    pub const FORMER_EPOCH: u8 = 46;
}

/// One changed row; a `value` of `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// One of [`table`].
    pub table: u8,
    /// At most 1 KiB.
    pub key: Vec<u8>,
    /// A frame of at most 64 KiB.
    pub value: Option<Vec<u8>>,
}

/// What changed between two checkpoints; it becomes rows when somebody has the time.
#[derive(Debug, Default)]
pub struct Changes {
    pub(crate) rows: Vec<Row>,
    pub(crate) leases: Vec<Lease>,
    /// Leases that have ended.
    pub(crate) gone: Vec<LeaseId>,
    /// Names by slot, for leases.
    pub(crate) packages: Vec<Name>,
    pub(crate) events: Vec<EventBlock>,
    pub(crate) requests: Vec<RequestBlock>,
}

impl Changes {
    /// Encodes the leases that were taken so far; the ledger goes on meanwhile.
    pub fn encode_leases(&mut self) {
        let Self { rows, leases, gone, packages, .. } = self;
        // A lease may have got the id of one that ended: its row comes after the removal.
        rows.extend(gone.drain(..).map(|lease| lease_row(lease, None)));
        rows.extend(leases.drain(..).map(|lease| {
            let row = lease.row(&packages[lease.package() as usize]);
            lease_row(row.lease, Some(encode_value(&row)))
        }));
    }

    /// Rows to write or remove, in order of table and key. This is where blocks are encoded, and
    /// leases that are not yet.
    pub fn into_rows(mut self) -> Vec<Row> {
        self.encode_leases();
        let Self { mut rows, events, requests, .. } = self;
        rows.extend(events.into_iter().map(EventBlock::into_row));
        rows.extend(requests.into_iter().map(RequestBlock::into_row));
        rows.sort_by(|one, other| (one.table, &one.key).cmp(&(other.table, &other.key)));
        rows.dedup_by(|later, row| {
            let is_same = (later.table, &later.key) == (row.table, &row.key);
            if is_same {
                std::mem::swap(later, row);
            }
            is_same
        });
        rows
    }
}

fn lease_row(lease: LeaseId, value: Option<Vec<u8>>) -> Row {
    Row { table: table::LEASE, key: lease_key(lease).to_vec(), value }
}

/// Why stored rows are not a ledger. Always damage or a newer version.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A table this build does not know.
    #[error("row of unknown table {0}")]
    UnknownTable(u8),
    /// Tables must come in ascending order.
    #[error("row of table {table} after one of table {before}")]
    Order {
        /// Table of this row.
        table: u8,
        /// Table of the row before.
        before: u8,
    },
    /// The value is not what the table holds.
    #[error("row of table {table} does not decode")]
    Row {
        /// Its table.
        table: u8,
        /// Why.
        source: FormatError,
    },
    /// Key and value name different things, or the key was there before.
    #[error("row of table {table} stands under a key that is not its own")]
    Key {
        /// Its table.
        table: u8,
    },
    /// A row refers to one that is missing.
    #[error("{0}")]
    Missing(String),
    /// The rows together break a rule.
    #[error("stored rows break a rule")]
    Rule(#[from] crate::invariants::Violation),
}

/// Version of row values that this build writes.
pub(crate) const ROW_VERSION: u8 = 1;

/// Frames a row's value.
pub(crate) fn encode_value<T: Serialize>(value: &T) -> Vec<u8> {
    format::encode(Kind::Row, ROW_VERSION, value)
}

/// Names a row inside the ledger.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKey {
    Meta,
    Member(NodeId),
    SigningKey(Name),
    Secret(Name),
    WrappedKey(NodeId, u32),
    Operator(OperatorId),
    Vendor(Name),
    App(AppId),
    Package(Name),
    Document(Name, u16),
    Pool(Name, Name),
    Usage(Name),
    FeatureUsage(Name, Name),
    Subject(SubjectRef),
    Refusal(Name, RefusalCode),
    RefusalLogged(LoggedRefusal),
    License(LicenseId),
    Activation(ActivationId),
    Client(ClientId),
    Product(ProductId),
    User(UserId),
    Trial(Name),
    Identity(LicenseId, SubjectRef),
    Guess(AddressTag),
    LicenseUsage(LicenseId, Name),
    Hold(LeaseId),
    OfflineTerms(Name),
    BorrowRules(Name),
    KeyWindow(Name),
    ApiKey(ApiKeyId),
    Budget(Name),
    Ticket(NodeId),
    FormerMember(NodeId),
    RetiredKey(Name),
    Grace,
    Reserved(Name),
    Alarm(NodeId, AlarmKind),
    PoolRule(Name, Name),
    /// An empty pool name: the unassigned seats.
    PoolUsage(Name, Name),
    AuditFloor,
    AppPolicy(AppId),
    TrustAnchor([u8; 32]),
    FormerEpoch(u32),
}

/// Whose refusal for which reason was logged in the present civil minute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LoggedRefusal {
    /// 0 node, 1 app, 2 operator, 3 face.
    pub actor_kind: u8,
    pub actor: u64,
    pub code: RefusalCode,
    /// Empty when no known package was concerned.
    pub package: Name,
}

impl RowKey {
    pub(crate) fn table(&self) -> u8 {
        match self {
            Self::Meta => table::META,
            Self::Member(_) => table::MEMBER,
            Self::SigningKey(_) => table::SIGNING_KEY,
            Self::Secret(_) => table::SECRET,
            Self::WrappedKey(..) => table::WRAPPED_KEY,
            Self::Operator(_) => table::OPERATOR,
            Self::Vendor(_) => table::VENDOR,
            Self::App(_) => table::APP,
            Self::Package(_) => table::PACKAGE,
            Self::Document(..) => table::DOCUMENT,
            Self::Pool(..) => table::POOL,
            Self::Usage(_) => table::USAGE,
            Self::FeatureUsage(..) => table::FEATURE_USAGE,
            Self::Subject(_) => table::SUBJECT,
            Self::Refusal(..) => table::REFUSAL,
            Self::RefusalLogged(_) => table::REFUSAL_LOGGED,
            Self::License(_) => table::LICENSE,
            Self::Activation(_) => table::ACTIVATION,
            Self::Client(_) => table::CLIENT,
            Self::Product(_) => table::PRODUCT,
            Self::User(_) => table::USER,
            Self::Trial(_) => table::TRIAL,
            Self::Identity(..) => table::IDENTITY,
            Self::Guess(_) => table::GUESS,
            Self::LicenseUsage(..) => table::LICENSE_USAGE,
            Self::Hold(_) => table::HOLD,
            Self::OfflineTerms(_) => table::OFFLINE_TERMS,
            Self::BorrowRules(_) => table::BORROW_RULES,
            Self::KeyWindow(_) => table::KEY_WINDOW,
            Self::ApiKey(_) => table::API_KEY,
            Self::Budget(_) => table::BUDGET,
            Self::Ticket(_) => table::TICKET,
            Self::FormerMember(_) => table::FORMER_MEMBER,
            Self::RetiredKey(_) => table::RETIRED_KEY,
            Self::Grace => table::GRACE,
            Self::Reserved(_) => table::RESERVED,
            Self::Alarm(..) => table::ALARM,
            Self::PoolRule(..) => table::POOL_RULE,
            Self::PoolUsage(..) => table::POOL_USAGE,
            Self::AuditFloor => table::AUDIT_FLOOR,
            Self::AppPolicy(_) => table::APP_POLICY,
            Self::TrustAnchor(_) => table::TRUST_ANCHOR,
            Self::FormerEpoch(_) => table::FORMER_EPOCH,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Meta | Self::Grace | Self::AuditFloor => Vec::new(),
            Self::Member(number)
            | Self::Ticket(number)
            | Self::FormerMember(number)
            | Self::AppPolicy(AppId(number))
            | Self::Operator(OperatorId(number))
            | Self::App(AppId(number))
            | Self::Subject(SubjectRef(number))
            | Self::Guess(AddressTag(number))
            | Self::ApiKey(ApiKeyId(number)) => number.to_be_bytes().to_vec(),
            Self::License(LicenseId(id))
            | Self::Activation(ActivationId(id))
            | Self::Client(ClientId(id))
            | Self::Product(ProductId(id))
            | Self::User(UserId(id)) => id.to_be_bytes().to_vec(),
            Self::Identity(license, contact) => {
                [&license.0.to_be_bytes()[..], &contact.0.to_be_bytes()].concat()
            }
            Self::LicenseUsage(license, metric) => {
                [&license.0.to_be_bytes()[..], metric.as_bytes()].concat()
            }
            Self::SigningKey(name)
            | Self::Secret(name)
            | Self::Vendor(name)
            | Self::Package(name)
            | Self::Usage(name)
            | Self::Trial(name)
            | Self::OfflineTerms(name)
            | Self::BorrowRules(name)
            | Self::KeyWindow(name)
            | Self::RetiredKey(name)
            | Self::Reserved(name)
            | Self::Budget(name) => name.as_bytes().to_vec(),
            Self::WrappedKey(node, version) => {
                [&node.to_be_bytes()[..], &version.to_be_bytes()].concat()
            }
            Self::Document(package, piece) => pair(package, &piece.to_be_bytes()),
            Self::Alarm(node, kind) => [&node.to_be_bytes()[..], &[*kind as u8]].concat(),
            Self::TrustAnchor(fingerprint) => fingerprint.to_vec(),
            Self::FormerEpoch(epoch) => epoch.to_be_bytes().to_vec(),
            Self::Pool(package, name)
            | Self::FeatureUsage(package, name)
            | Self::PoolRule(package, name)
            | Self::PoolUsage(package, name) => pair(package, name.as_bytes()),
            Self::Hold(lease) => lease_key(*lease).to_vec(),
            Self::Refusal(package, code) => pair(package, &(*code as u16).to_be_bytes()),
            Self::RefusalLogged(logged) => [
                &[logged.actor_kind][..],
                &logged.actor.to_be_bytes(),
                &(logged.code as u16).to_be_bytes(),
                logged.package.as_bytes(),
            ]
            .concat(),
        }
    }
}

/// Key of a lease's row.
pub(crate) fn lease_key(lease: LeaseId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..2].copy_from_slice(&lease.group.to_be_bytes());
    key[2..].copy_from_slice(&lease.random);
    key
}

fn pair(first: &str, second: &[u8]) -> Vec<u8> {
    [first.as_bytes(), &[0], second].concat()
}

/// The two halves of a key made by [`pair`]; names hold no zero byte.
pub(crate) fn split_pair(key: &[u8]) -> Option<(&str, &[u8])> {
    let at = key.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&key[..at]).ok()?, &key[at + 1..]))
}

/// Who the cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterIdentity {
    /// Text id of the cluster.
    pub cluster_id: Name,
    /// The client organisation packages must be issued to.
    pub client_id: Name,
    /// Its domain.
    pub org_domain: Name,
    /// Number of the epoch: 1 for a new cluster, one higher after each restore.
    pub epoch: u32,
    /// Random incarnation of that epoch.
    pub incarnation: u64,
}

/// Clocks, identity and heads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub cluster: Option<ClusterIdentity>,
    /// Index of the last entry applied; 0 before the first.
    pub applied_index: u64,
    pub clock: Stamp,
    pub audit: AuditHead,
    /// First sequence number remembered in each queue of requests.
    pub request_first: [u64; 2],
    /// Next sequence number of each queue of requests.
    pub request_next: [u64; 2],
    /// The civil minute that the logged refusals belong to.
    pub refusal_minute: i64,
    /// The newest grant.
    pub last_fence: Option<Fence>,
    /// The newest index and sum that a majority agreed on.
    pub agreed_sum: Option<(u64, [u8; 32])>,
}

/// A registered application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its id.
    pub app: AppId,
    /// OAuth client id.
    pub client_id: Name,
    /// Shown name.
    pub name: Box<str>,
    /// The product it may check out.
    pub product: Name,
    /// That product's vendor.
    pub vendor: Name,
    /// HMAC-SHA-256 of the client secret under the cluster's pepper.
    pub secret_mac: [u8; 32],
    /// Counts up from 1 with each new secret.
    pub generation: u32,
    /// When it was registered, by the civil clock.
    pub registered_at_ms: i64,
}

/// What an operator decided about a package. Whether it has expired is said by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackageState {
    /// In force while it is valid.
    Active,
    /// No new grants and no renewals until resumed.
    Suspended,
    /// Ended for good.
    Revoked,
}

/// A package beside its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageRow {
    pub package: Name,
    pub state: PackageState,
    pub imported_at_ms: i64,
    /// Fingerprint of the key that verified it.
    pub verified_by: [u8; 32],
    /// Pieces its document was cut into.
    pub pieces: u16,
}

/// What was signed and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    pub terms: PackageTerms,
    pub canonical: Vec<u8>,
    pub signature: Box<str>,
}

/// A named pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolRow {
    /// Seats that only this pool may use.
    pub share: u32,
}

/// Counters of a package since its import.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Leases granted from commit seats.
    pub commit_checkouts: u64,
    /// Leases granted from overage seats.
    pub overage_checkouts: u64,
    /// Charged for overage, in the package's currency.
    pub overage_charged: Money,
    /// Most seats that were out at once.
    pub peak_concurrent: u32,
    /// Leases given back by their holder.
    pub returned: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Leases taken back by an operator, or ended with the package.
    pub released: u64,
    /// Sessions reported at return.
    pub sessions: u64,
    /// Their seconds.
    pub session_duration_s: u64,
    /// Files they processed.
    pub files_processed: u64,
    /// Uses of features beyond the names that are counted one by one.
    pub other_features: u64,
}

/// A live lease as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseRow<'a> {
    pub lease: LeaseId,
    pub app: AppId,
    pub package: Name,
    pub pool: Option<Name>,
    pub class: SeatClass,
    pub quantity: u32,
    pub features: Cow<'a, [Name]>,
    pub parent: Option<LeaseId>,
    pub fence: Fence,
    pub granted_at_ms: i64,
    pub renewed_led_ms: u64,
    pub expires_led_ms: u64,
    pub not_after_ms: Option<i64>,
    pub sequence: u32,
    pub user: SubjectRef,
    pub host: SubjectRef,
    pub version: Cow<'a, str>,
    pub session: Cow<'a, str>,
    pub request: Option<RequestId>,
    /// Led minute, counted from 1, of the last replayed token that was logged; 0: none.
    pub replay_minute: u32,
}

/// A person or a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SubjectKind {
    /// Who uses a lease.
    User,
    /// Where.
    Host,
}

/// The name behind a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubjectRow {
    pub kind: SubjectKind,
    pub name: Name,
}

/// Refusals of one package for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusalRow {
    pub code: RefusalCode,
    pub count: u64,
}
