//! The admin API. Unknown fields of requests are errors.
//!
//! | file | calls about |
//! |---|---|
//! | this one | leases, and what several calls share |
//! | `package` | packages, and the vendors whose keys are pinned |
//! | `app`, `app_policy` | applications, and how they are let in |
//! | `certs` | certificates of the nodes, and their authorities |
//! | `keys` | versions of the cluster's keys, and what depends on them |
//! | `license`, `plan` | license keys, and what they entitle to |
//! | `client` | whom license keys are issued to |
//! | `activation` | devices, clusters and hosts that hold seats of a license |
//! | `member` | nodes that join and leave, and who leads |
//! | `pools` | shares of a package's seats, and for whom they are kept |
//! | `usage` | reports of use, refusals and cost |
//! | `snapshot` | backups that a node writes |
//! | `offline` | borrowing, who is offline, seats of lost devices |
//! | `alarm` | what is wrong with a node |
//! | `audit` | what happened, whether the log of it is whole |
//! | `people` | who is behind references, and forgetting them |
//! | `operators` | operator tokens |
//! | `classic` | secrets that faces share with their callers |
//!
//! Only import and transfer are in the protocol document; the rest is ours. 64-bit numbers are
//! strings, secrets are shown once, in the answer that made them. A list takes `cursor` and gives
//! `next`; `/admin/leases`, the first of them, also knows the former as `after`.

mod activation;
mod alarm;
mod app;
mod app_policy;
mod audit;
mod certs;
mod classic;
mod client;
mod keys;
mod license;
mod member;
mod offline;
mod operators;
mod package;
mod people;
mod plan;
mod pools;
mod snapshot;
mod usage;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use activation::{
    ActivationChangeRequest, ActivationGroup, ActivationList, ActivationQuery, ActivationState,
    ActivationView, RemoveActivationQuery, RemoveActivationResponse, RemovedStatus,
};
pub use alarm::{AlarmList, AlarmView};
pub use app::{
    AppList, AppView, RegisterAppRequest, RegisterAppResponse, RotateSecretResponse, TokenAlgorithm,
};
pub use app_policy::{AppPolicy, AppPolicyView};
pub use audit::{
    AuditEventView, AuditExportQuery, AuditList, AuditOrder, AuditQuery, AuditSubject,
    AuditVerification, AuditVerifyQuery, EventsQuery, PruneAuditRequest, PruneAuditResponse,
};
pub use certs::{
    AuthorityState, AuthorityView, CertificateStatus, CertificateView, NodeCertificates, NodeNote,
    RotateCertificatesRequest, RotateCertificatesResponse, RotationStep,
};
pub use classic::{
    ClassicVendorList, ClassicVendorRequest, ClassicVendorView, EvaluationKeys,
    MAX_SHARED_SECRET_CHARS, MIN_SHARED_SECRET_CHARS, RotateEvaluationKeyRequest,
};
pub use client::{
    AddClientRequest, ClientList, ClientQuery, ClientState, ClientView, MAX_EMAIL_CHARS, is_email,
};
pub use keys::{
    DataKeyView, KeyStatus, NodeKeys, PepperVersion, PepperView, RotateKeyRequest,
    RotateKeyResponse, RotatedKey, TokenKeyView,
};
pub use license::{
    IssueLicenseRequest, IssuedLicenseResponse, LicenseList, LicenseProtocol, LicenseQuery,
    LicenseState, LicenseView, MAX_LICENSE_DAYS,
};
pub use member::{
    AddMemberRequest, AddMemberResponse, DEFAULT_TICKET_MINUTES, DrainRequest, DrainResponse,
    FormerView, JoinPeer, JoinRequest, JoinResponse, MAX_TICKET_MINUTES, MemberList, MemberPart,
    MemberView, RemoveMemberQuery, TicketView, TransferLeaderRequest, TransferLeaderResponse,
};
pub use offline::{
    BorrowLimitsView, BorrowParty, BorrowRules, BorrowRulesView, MAX_BORROW_PARTIES,
    OfflineLeaseView, OfflineList, OfflineQuery, WriteOffRequest, WriteOffResponse,
};
pub use operators::{
    API_KEY_PREFIX, AddOperatorRequest, AddOperatorResponse, MAX_OPERATOR_LIFETIME_S,
    MAX_OPERATOR_NAME_CHARS, OperatorList, OperatorRole, OperatorView,
};
pub use package::{
    IMPORT_DECIMAL_PATHS, ImportError, ImportForm, ImportRequest, ImportResponse, ImportStatus,
    PackageList, PackageState, PackageView, PolicyView, PricingView, ReservedSeatsView, SeatsView,
    TrustVendorRequest, VendorList, VendorView,
};
pub use people::{
    BondKind, EraseSubjectRequest, EraseSubjectResponse, ErasedStatus, SubjectBond, SubjectDetail,
    SubjectKind, SubjectList, SubjectQuery, SubjectView,
};
pub use plan::{
    LicensePlan, MAX_INTERVAL_SECONDS, MAX_METADATA_BYTES, PlanCheckMode, PlanFeature, PlanScope,
    QuotaAmount, ScopePermission,
};
pub use pools::{
    ChangePoolRequest, CreatePoolRequest, MAX_POOL_PARTIES, PoolList, PoolQuery, PoolUsageView,
    PoolView, ReservedFor, TransferSeatsRequest, TransferSeatsResponse,
};
pub use snapshot::{SnapshotRequest, SnapshotResponse};
pub use usage::{
    CostList, CurrencyTotal, DEFAULT_UNUSED_DAYS, MAX_UNUSED_DAYS, PackageCost, PackageUsage,
    PoolUse, RefusalCount, RefusalList, ReportFormat, UnusedKind, UnusedList, UnusedQuery,
    UnusedView, UsageList, UsageQuery,
};

use super::body::BodyError;
use super::lease::{LeaseState, LeaseType};
use crate::fence::Fence;
use crate::wire::{self, Id64, Money, UtcTime};

/// Most items of one page.
pub const MAX_PAGE_ITEMS: u32 = 1_000;
/// Items of a page when nothing is asked.
pub const DEFAULT_PAGE_ITEMS: u32 = 100;

/// Why something is done, for the audit trail; the body of suspend, resume, revoke and release may
/// be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// For people.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "invoice 4711 is open", max_length = 256)]
    pub reason: Option<String>,
}

/// `GET /admin/leases`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaseQuery {
    /// Only leases of this package.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub package_id: Option<String>,
    /// Only leases of this app.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub app_id: Option<String>,
    /// Where the last page ended (`next` of its answer).
    #[serde(default, alias = "after", deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// A page of a list that nothing narrows: packages, vendors, applications.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

fn default_page() -> u32 {
    DEFAULT_PAGE_ITEMS
}

/// Reads a number that a query string may give as text.
fn page_items<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let items = u32::deserialize(deserializer)?;
    if (1..=MAX_PAGE_ITEMS).contains(&items) {
        Ok(items)
    } else {
        Err(serde::de::Error::custom(format_args!("want 1 to {MAX_PAGE_ITEMS}")))
    }
}

/// Reads a whole number from `LEAST` to `MOST` that may be absent or null; a query string gives it
/// as text.
fn optional_count<'de, const LEAST: u32, const MOST: u32, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(count) if !(LEAST..=MOST).contains(&count) => {
            Err(serde::de::Error::custom(format_args!("want {LEAST} to {MOST}")))
        }
        count => Ok(count),
    }
}

/// A field that two rules of a request disagree about.
fn wrong_field(field: &str, reason: &str) -> BodyError {
    BodyError::Field { field: field.to_owned(), reason: reason.to_owned() }
}

/// Leases that are out, in order of lease id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseList {
    /// One page.
    pub leases: Vec<LeaseView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A lease as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseView {
    /// Name of the lease.
    pub lease_id: String,
    /// What state it is in.
    pub state: LeaseState,
    /// Which seats it holds.
    pub lease_type: LeaseType,
    /// How many.
    #[schema(example = 1)]
    pub quantity: u32,
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// The product.
    #[schema(example = "davinci-configurator-se")]
    pub product_id: String,
    /// The app that took it.
    pub app_id: String,
    /// Who sits before it; absent when erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice@bmw.com")]
    pub user: Option<String>,
    /// Where it runs; absent when erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "dev-workstation-042")]
    pub hostname: Option<String>,
    /// Features granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Pool the seats came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// When it was taken.
    pub acquired_at: UtcTime,
    /// When it ends unless it is renewed.
    pub expires_at: UtcTime,
    /// Milliseconds of lease time until then.
    pub expires_in_ms: u64,
    /// How often it was renewed.
    pub renewals: u32,
    /// What the checkout cost; only for overage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// The lease's fence.
    pub fence: Fence,
    /// Index of the log entry that granted it.
    pub log_index: Id64,
}

/// `POST /admin/leases/{lease_id}/release`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseResponse {
    /// Name of the lease.
    pub lease_id: String,
    /// Always `released`.
    pub state: LeaseState,
}
