//! Activations: the devices, clusters and hosts that licenses were activated on.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::license::LicenseProtocol;
use super::{default_page, page_items};
use crate::cloud::lease::LeaseType;
use crate::wire::{self, UtcTime};

/// Where an activation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActivationState {
    /// In force; it holds its seat.
    Active,
    /// Its validity is over.
    Expired,
    /// Given back or run out; its holder may activate again.
    Released,
    /// Its holder is refused until reinstated.
    Revoked,
}

/// An activation as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActivationView {
    /// The activation.
    #[schema(example = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    pub activation_id: String,
    /// The protocol it was made through.
    pub protocol: LicenseProtocol,
    /// Where it stands.
    pub state: ActivationState,
    /// The license.
    pub license_id: String,
    /// The package that its seats come from.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// Fingerprint of the device, id of the cluster, or hash of the host's name.
    #[schema(example = "6b7d0c9b2e6f1c0a4e2d9f5a8c3b7e1d6b7d0c9b2e6f1c0a4e2d9f5a8c3b7e1d")]
    pub holder: String,
    /// The lease of its seats; absent when it holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// Which seats it holds; absent when it holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_type: Option<LeaseType>,
    /// Seats that it holds.
    #[schema(example = 1)]
    pub seats: u32,
    /// Until when an offline token of it is good; absent when none is outstanding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_until: Option<UtcTime>,
    /// Address of whoever activated it (`device`, `deployment`); absent when erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice@bmw.com")]
    pub email: Option<String>,
    /// Client id of that address (`device`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// When it was first made.
    pub activated_at: UtcTime,
    /// When its holder was last heard.
    pub last_seen_at: UtcTime,
    /// Its last valid time: its own, its license's or its package's, whichever is first.
    pub expires_at: UtcTime,
    /// Organisation id (`evaluation`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "acme")]
    pub org_id: Option<String>,
    /// Project id (`evaluation`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "robot-arm")]
    pub project_id: Option<String>,
    /// Version of the software (`evaluation`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2.0.0")]
    pub version: Option<String>,
    /// Nodes that it said it has (`deployment`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 3)]
    pub nodes: Option<u32>,
    /// What it said of itself (`deployment`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
}

/// `GET /admin/activations`. "The evaluations that expire this month" are
/// `protocol=evaluation&state=active&expires_from=…&expires_until=…`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ActivationQuery {
    /// Only activations of this license.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub license_id: Option<String>,
    /// Only activations whose seats come from this package.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub package_id: Option<String>,
    /// Only activations of this protocol.
    #[serde(default)]
    #[param(inline)]
    pub protocol: Option<LicenseProtocol>,
    /// Only activations that stand here.
    #[serde(default)]
    #[param(inline)]
    pub state: Option<ActivationState>,
    /// Only activations of this organisation.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub org_id: Option<String>,
    /// Only activations of this project.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub project_id: Option<String>,
    /// Only activations whose last valid time is this or later.
    #[serde(default)]
    pub expires_from: Option<UtcTime>,
    /// Only activations whose last valid time is before this.
    #[serde(default)]
    pub expires_until: Option<UtcTime>,
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// Activations, in order of activation id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActivationList {
    /// One page; it may be empty and not the last.
    pub activations: Vec<ActivationView>,
    /// How many activations of all pages there are by organisation and project, in that order; on
    /// the first page only, at most 1,000, of the first 100,000 activations looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ActivationGroup>,
    /// How many activations there are on all pages; on the first page only, and not where more
    /// than 100,000 would have to be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 1)]
    pub total: Option<u32>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The activations of one organisation's project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActivationGroup {
    /// Organisation id; absent for activations without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "acme")]
    pub org_id: Option<String>,
    /// Project id; absent for activations without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "robot-arm")]
    pub project_id: Option<String>,
    /// How many.
    #[schema(example = 1)]
    pub activations: u32,
    /// Seats that they hold.
    #[schema(example = 1)]
    pub seats: u32,
}

/// `POST /admin/activations/{activation_id}/revoke` and `…/reinstate`; the body may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationChangeRequest {
    /// For people.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "the laptop was sold", max_length = 256)]
    pub reason: Option<String>,
    /// Frees the seats at once although an offline token is outstanding: only when the device is
    /// lost for good. Otherwise they come free when the token has run out everywhere.
    #[serde(default)]
    pub write_off: bool,
}

/// `DELETE /admin/activations/{activation_id}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveActivationQuery {
    /// As in revoking.
    #[serde(default)]
    pub write_off: bool,
    /// Why, for the audit trail.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub reason: Option<String>,
}

/// Always `removed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RemovedStatus {
    /// It is forgotten.
    Removed,
}

/// An activation that is forgotten; its holder may activate anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemoveActivationResponse {
    /// The activation.
    pub activation_id: String,
    /// Always `removed`.
    pub status: RemovedStatus,
    /// Until when its seats stay taken, because an offline token is outstanding; absent: they are
    /// free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats_taken_until: Option<UtcTime>,
}
