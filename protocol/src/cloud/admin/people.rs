//! People and hosts: who is behind a reference, and forgetting them.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{default_page, page_items};
use crate::wire::{self, Id64};

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubjectKind {
    /// A person, by name or e-mail address.
    User,
    /// A host, by name.
    Host,
}

/// `GET /admin/subjects`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubjectQuery {
    /// Only this name, as it was given; addresses in any case.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256, example = "alice@bmw.com")]
    pub name: Option<String>,
    /// Only names of this kind.
    #[serde(default)]
    #[param(inline)]
    pub kind: Option<SubjectKind>,
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// Names that are kept, in order of reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubjectList {
    /// One page; it may be empty and not the last.
    pub subjects: Vec<SubjectView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A person or a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubjectView {
    /// What stands for them in leases and in the audit log.
    #[schema(example = "8c1f0a5b2d9e4f77")]
    pub reference: String,
    /// What they are.
    pub kind: SubjectKind,
    /// Their name.
    #[schema(example = "alice@bmw.com")]
    pub name: String,
}

/// Something that works only because of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubjectBond {
    /// What it is.
    pub what: BondKind,
    /// Its id.
    #[schema(example = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    pub id: String,
}

/// What can be bound to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BondKind {
    /// A license for devices in force whose owner they are: cancel or revoke it.
    License,
    /// A device in force that they activated: remove or revoke it.
    Activation,
    /// An operator token or an API key in their name: remove it.
    Operator,
}

/// `GET /admin/subjects/{reference}`: what is known of a person or a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubjectDetail {
    /// What stands for them.
    #[schema(example = "8c1f0a5b2d9e4f77")]
    pub reference: String,
    /// What they are.
    pub kind: SubjectKind,
    /// Their name.
    #[schema(example = "alice@bmw.com")]
    pub name: String,
    /// Live leases that refer to them.
    #[schema(example = 1)]
    pub leases: u32,
    /// Audit events that refer to them, of those that were looked at.
    pub events: Id64,
    /// Whether every audit event was looked at; a long log takes longer than one call may.
    pub events_complete: bool,
    /// What keeps the name from being erased; at most 16.
    pub bound_by: Vec<SubjectBond>,
}

/// `POST /admin/subjects/{reference}/erase`; the body may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseSubjectRequest {
    /// Why. It stays in the audit log for ever, so it must not name them.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "request of 2027-01-31", max_length = 256)]
    pub reason: Option<String>,
}

/// A name that is kept no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EraseSubjectResponse {
    /// What stood for them and now stands for nobody.
    #[schema(example = "8c1f0a5b2d9e4f77")]
    pub reference: String,
    /// What they were.
    pub kind: SubjectKind,
    /// Always `erased`.
    pub status: ErasedStatus,
}

/// Always `erased`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErasedStatus {
    /// The name is kept nowhere.
    Erased,
}
