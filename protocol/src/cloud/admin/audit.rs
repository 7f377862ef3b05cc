//! The audit log: what happened, page by page; whether it is whole; letting go of its far end.
//!
//! Signed segments for the archive are in [`crate::audit_segment`].

use serde::{Deserialize, Serialize};
use serde_json::Map;
use utoipa::{IntoParams, ToSchema};

use super::{default_page, page_items};
use crate::audit_segment::EventHash;
use crate::wire::{self, Id64, UtcTime};

/// Which end of the audit log a list begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditOrder {
    /// The oldest first.
    #[default]
    Asc,
    /// The newest first.
    Desc,
}

/// `GET /admin/audit`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only events after the one of this number, in either order.
    #[serde(default)]
    #[param(example = 4711)]
    pub after: Option<u64>,
    /// Only events of this kind, in snake case.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128, example = "lease_granted")]
    pub kind: Option<String>,
    /// Only events about this package.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub package_id: Option<String>,
    /// Only events about this lease, ended ones too.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub lease_id: Option<String>,
    /// Only what this actor did: `node-1`, `app-…`, `operator-…`, `face-device`.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128, example = "node-1")]
    pub actor: Option<String>,
    /// Only events about this user: a name that is kept, or a reference of 16 hex digits.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256, example = "alice@bmw.com")]
    pub user: Option<String>,
    /// Only events about this host, in the same forms.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub host: Option<String>,
    /// Only events at this time or later.
    #[serde(default)]
    pub since: Option<UtcTime>,
    /// Only events before this time.
    #[serde(default)]
    pub until: Option<UtcTime>,
    /// Which end to begin at.
    #[serde(default)]
    #[param(inline)]
    pub order: AuditOrder,
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// `GET /admin/events`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Begin behind the event of this number; without it, with what happens from now on. The header
    /// `Last-Event-ID` says the same and comes first.
    #[serde(default)]
    #[param(example = 4711)]
    pub after: Option<u64>,
    /// Only events of this kind, in snake case.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128, example = "lease_granted")]
    pub kind: Option<String>,
    /// Only events about this package.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub package_id: Option<String>,
}

/// Audit events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// One page; it may be empty and not the last.
    pub events: Vec<AuditEventView>,
    /// Number of the last event that was pruned; 0: none was.
    pub floor: Id64,
    /// Number of the newest event.
    pub head: Id64,
    /// Where the page ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One thing that happened. Of people and hosts the log holds references; names are shown while
/// they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEventView {
    /// Its number: counts up from 1 without a gap.
    pub seq: Id64,
    /// When, by the cluster's clock.
    pub time: UtcTime,
    /// What happened, in snake case.
    #[schema(example = "lease_granted")]
    pub kind: String,
    /// Who did it: `node-1`, `app-…`, `operator-…`, `face-device`.
    #[schema(example = "app-00000000c0ffee00")]
    pub actor: String,
    /// The request that did it, as `X-Request-Id` has it.
    #[schema(example = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    pub request_id: String,
    /// About which package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: Option<String>,
    /// About which lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// About which user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<AuditSubject>,
    /// About which host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<AuditSubject>,
    /// The particulars, by kind of event.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object, example = json!({"class": "commit", "quantity": 1}))]
    pub detail: Map<String, serde_json::Value>,
    /// SHA-256 of the event, in hex.
    #[schema(
        value_type = String,
        pattern = "^[0-9a-f]{64}$",
        example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub hash: EventHash,
    /// The same of the event before it; zeros before the first.
    #[schema(
        value_type = String,
        pattern = "^[0-9a-f]{64}$",
        example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub previous: EventHash,
}

/// A person or a host in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditSubject {
    /// The reference that stands in the log.
    #[schema(example = "8c1f0a5b2d9e4f77")]
    pub reference: String,
    /// The name; absent when it was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice@bmw.com")]
    pub name: Option<String>,
}

/// `GET /admin/audit/verify`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditVerifyQuery {
    /// Where the last answer ended (its `next`); from the oldest event when left out.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
}

/// Whether the audit log of the node that answers is whole, as far as this answer went. Go on with
/// `next` until there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerification {
    /// The node whose copy was read.
    #[schema(example = 1)]
    pub node: u64,
    /// Whether every event that was read follows from the one before.
    pub intact: bool,
    /// The first event that is missing, does not read, or does not follow; absent when intact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<Id64>,
    /// What is wrong there, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many events were read and found right.
    pub events: Id64,
    /// Number of the first event of this answer.
    pub first: Id64,
    /// Number of the last; one below `first` when there was none.
    pub last: Id64,
    /// Hash of the last.
    #[schema(
        value_type = String,
        pattern = "^[0-9a-f]{64}$",
        example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub hash: EventHash,
    /// Number of the last event that was pruned; 0: none was.
    pub floor: Id64,
    /// Number of the newest event.
    pub head: Id64,
    /// Where to go on; absent when the newest event was reached, or the log is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `GET /admin/audit/export`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditExportQuery {
    /// Number of the first event; the oldest when left out.
    #[serde(default)]
    #[param(minimum = 1)]
    pub from: Option<u64>,
    /// Number of the last; the newest when left out.
    #[serde(default)]
    #[param(minimum = 1)]
    pub to: Option<u64>,
}

/// `POST /admin/audit/prune`: lets go of events up to and including one. Whoever asks shows its
/// hash, and so that they hold what goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "upto_seq": "800",
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}))]
pub struct PruneAuditRequest {
    /// Number of the last event that goes; never the newest. Or give `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto_seq: Option<Id64>,
    /// Lets go of every event before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<UtcTime>,
    /// Hash of the last event that goes, as a segment or the list shows it.
    #[schema(
        value_type = String,
        pattern = "^[0-9a-f]{64}$",
        example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )]
    pub hash: EventHash,
}

/// What was let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneAuditResponse {
    /// Number of the last event that went.
    pub floor: Id64,
    /// Number of the newest event.
    pub head: Id64,
}
