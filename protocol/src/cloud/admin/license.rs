//! License keys: issuing them, and what becomes of them.
//!
//! A license binds a key to a plan and to one package: whatever is activated under it takes its
//! seats from that package. The key itself is in one answer only, that of the call which made it.
//!
//! What it leaves to others: which forms a key has (the modules of the protocols), and every rule
//! that needs to look something up (`node`, `lease`).

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::client::optional_email;
use super::plan::LicensePlan;
use super::{default_page, optional_count, page_items, wrong_field};
use crate::cloud::body::BodyError;
use crate::secret::Disclosed;
use crate::wire::{self, UtcTime};

/// Longest validity of a license or of one activation that can be asked for, in days: a century.
pub const MAX_LICENSE_DAYS: u32 = 36_525;

/// The protocol that a license is used through; through any other its key is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LicenseProtocol {
    /// Software bound to devices.
    Device,
    /// Self-hosted clusters of another product.
    Deployment,
    /// Evaluation and OEM software.
    Evaluation,
}

impl LicenseProtocol {
    /// Every protocol with license keys.
    pub const ALL: [Self; 3] = [Self::Device, Self::Deployment, Self::Evaluation];

    /// The wire word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Deployment => "deployment",
            Self::Evaluation => "evaluation",
        }
    }
}

/// `POST /admin/licenses`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueLicenseRequest {
    /// The protocol it is used through.
    pub protocol: LicenseProtocol,
    /// The package that its seats come from.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "vec-davinci-se-bmw-2025-001", max_length = 128)]
    pub package_id: String,
    /// What it entitles to; the defaults of the protocol when left out.
    #[serde(default, deserialize_with = "wire::object")]
    pub plan: LicensePlan,
    /// Whom it is issued to. `device` wants this or `email`, never both.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10", max_length = 128)]
    pub client_id: Option<String>,
    /// The same by address; a client is added if nobody has it.
    #[serde(default, deserialize_with = "optional_email")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice@bmw.com", max_length = 254)]
    pub email: Option<String>,
    /// The organisation it is for; not for `device`.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "BMW AG", max_length = 256)]
    pub organization: Option<String>,
    /// First valid time; now when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<UtcTime>,
    /// Last valid time; as long as its package when this and `duration_days` are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<UtcTime>,
    /// The same in days from the first valid time. Not beside `valid_until`.
    #[serde(default, deserialize_with = "optional_count::<1, MAX_LICENSE_DAYS, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 365, minimum = 1, maximum = 36_525)]
    pub duration_days: Option<u32>,
    /// Whether callers without a key get this license; `evaluation` only, one in a cluster.
    #[serde(default)]
    pub open: bool,
}

impl IssueLicenseRequest {
    /// Whether its fields agree with each other. What a field alone can get wrong was found when it
    /// was read.
    ///
    /// # Errors
    /// The field that cannot stay, and why.
    pub fn check(&self) -> Result<(), BodyError> {
        if self.client_id.is_some() && self.email.is_some() {
            return Err(wrong_field("email", "want client_id or email, not both"));
        }
        let nobody = self.client_id.is_none() && self.email.is_none();
        if self.protocol == LicenseProtocol::Device && nobody {
            return Err(wrong_field("email", "a device license wants client_id or email"));
        }
        if self.protocol == LicenseProtocol::Device && self.organization.is_some() {
            return Err(wrong_field("organization", "a device license has none"));
        }
        if self.duration_days.is_some() && self.valid_until.is_some() {
            return Err(wrong_field("duration_days", "want valid_until or this, not both"));
        }
        if self.valid_until.is_some_and(|end| self.valid_from.is_some_and(|start| end <= start)) {
            return Err(wrong_field("valid_until", "want a time after valid_from"));
        }
        if self.open && self.protocol != LicenseProtocol::Evaluation {
            return Err(wrong_field("open", "only an evaluation license can be open"));
        }
        self.plan.check(self.protocol)
    }
}

/// A license with its key, which is shown this once: the answer of `POST /admin/licenses` and of
/// `POST /admin/licenses/{license_id}/rotate`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct IssuedLicenseResponse {
    /// The license.
    pub license: LicenseView,
    /// Its key, shown this once; the former one is unknown from now on.
    pub license_key: Disclosed,
}

/// Where a license stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LicenseState {
    /// In force.
    Active,
    /// Its validity, or that of its package, has not begun.
    NotYetValid,
    /// Its validity, or that of its package, is over.
    Expired,
    /// Refused until resumed; its activations keep their seats.
    Suspended,
    /// Refused until reinstated; its seats are free.
    Revoked,
    /// Ended for good; its seats are free.
    Cancelled,
}

/// A license as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LicenseView {
    /// The license.
    #[schema(example = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    pub license_id: String,
    /// The protocol it is used through.
    pub protocol: LicenseProtocol,
    /// Where it stands.
    pub state: LicenseState,
    /// The package that its seats come from.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// What it entitles to.
    pub plan: LicensePlan,
    /// Whom it was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Their address; absent when erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice@bmw.com")]
    pub email: Option<String>,
    /// The organisation it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "BMW AG")]
    pub organization: Option<String>,
    /// The last four characters of its key.
    #[schema(example = "Q4TA")]
    pub key_hint: String,
    /// Counts up from 1; tokens of a lower version are stale.
    #[schema(example = 1)]
    pub token_version: u32,
    /// First valid time.
    pub valid_from: UtcTime,
    /// Last valid time: its own or its package's, whichever is first.
    pub valid_until: UtcTime,
    /// Whether callers without a key get this license.
    pub open: bool,
    /// When it was issued.
    pub issued_at: UtcTime,
    /// When it came to stand where it does.
    pub changed_at: UtcTime,
    /// Why it stands there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When something was last activated under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_activated_at: Option<UtcTime>,
    /// When its terms were accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms_accepted_at: Option<UtcTime>,
    /// Activations that hold a seat now.
    #[schema(example = 1)]
    pub activations: u32,
    /// Seats that they hold.
    #[schema(example = 1)]
    pub seats: u32,
}

/// `GET /admin/licenses`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LicenseQuery {
    /// Only licenses of this protocol.
    #[serde(default)]
    #[param(inline)]
    pub protocol: Option<LicenseProtocol>,
    /// Only licenses of this package.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub package_id: Option<String>,
    /// Only licenses of this client.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(max_length = 128)]
    pub client_id: Option<String>,
    /// Only licenses that stand here.
    #[serde(default)]
    #[param(inline)]
    pub state: Option<LicenseState>,
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// Licenses, in order of license id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LicenseList {
    /// One page; it may be empty and not the last.
    pub licenses: Vec<LicenseView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
