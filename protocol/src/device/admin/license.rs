//! Licenses, the trail of their activations, and subscriptions, which issue licenses by plan.
//!
//! The admin's license is not the device's ([`super::super::payload`]): its devices are an object
//! by fingerprint and not a list, and it lists who else may use it. The key is whole in the answer
//! that made it and masked from then on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::payload::{Device, Entitlements, is_zero, neutral};
use super::super::schedule::CheckMode;
use super::super::time::{self, LicenseTime};
use super::{AdminFault, AdminRequest, free_text, slug};
use crate::secret::Disclosed;

/// Longest validity in days: a hundred years.
pub const MAX_DURATION_DAYS: u32 = 36_525;
/// Most devices of one license.
pub const MAX_DEVICES: u32 = crate::package::MAX_QUANTITY;

/// `POST /api/licenses`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceCreateLicenseRequest)]
#[serde(deny_unknown_fields)]
pub struct CreateLicenseRequest {
    /// Whom it is issued to.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(example = "6a3d09a9-7701-42b7-8f54-cfcda8b14d32", max_length = 256)]
    pub client_id: String,
    /// The product, by id or short name.
    #[serde(default, deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 256)]
    pub product_id: String,
    /// The plan, by id.
    #[serde(default, deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 256)]
    pub plan_id: String,
    /// The plan, by short name. One of the two is required.
    #[serde(default, deserialize_with = "slug")]
    #[schema(example = "gold", max_length = 128)]
    pub plan_slug: String,
    /// For how many days.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = 365, minimum = 1, maximum = 36_525)]
    pub duration_days: i64,
    /// How many devices at once.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = 5, minimum = 1, maximum = 10_000_000)]
    pub max_devices: i64,
    /// How often devices verify; `yearly` when left out.
    #[serde(default, deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    #[schema(example = "monthly")]
    pub check_mode: String,
    /// Seconds between checks for `custom`; a day when under 300.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "is_zero")]
    pub check_interval_seconds: u64,
    /// Extension: the package that its seats come from; may be left out where only one fits.
    #[serde(default, deserialize_with = "slug", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 128)]
    pub package_id: String,
}

impl AdminRequest for CreateLicenseRequest {
    fn check(&self) -> Result<(), AdminFault> {
        let field = |message| Err(AdminFault::Field(message));
        if self.client_id.is_empty() {
            return field("client_id is required");
        }
        if self.duration_days < 1 {
            return field("duration_days must be greater than zero");
        }
        if self.duration_days > i64::from(MAX_DURATION_DAYS) {
            return field("duration_days must be at most 36525");
        }
        if self.max_devices < 1 {
            return field("max_devices must be greater than zero");
        }
        if self.max_devices > i64::from(MAX_DEVICES) {
            return field("max_devices must be at most 10000000");
        }
        if self.plan_slug.is_empty() && self.plan_id.is_empty() {
            return field("plan_slug is required");
        }
        if self.mode().is_none() {
            return field("check_mode must be none, each_execution, monthly, yearly or custom");
        }
        Ok(())
    }
}

impl CreateLicenseRequest {
    /// The check mode asked for; none for a word that is no mode, which no checked request has.
    pub fn mode(&self) -> Option<CheckMode> {
        if self.check_mode.is_empty() {
            return Some(CheckMode::Yearly);
        }
        CheckMode::from_name(&self.check_mode)
    }
}

/// A license as an administrator sees it. It may hold the key, so it is not printed or copied.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceLicenseView)]
pub struct LicenseView {
    /// The license.
    #[schema(example = "0c92c546-e1cb-4987-8025-6b3dd9513a5f")]
    pub id: String,
    /// Whom it was issued to.
    pub client_id: String,
    /// That client's address; empty when erased.
    pub email: String,
    /// The product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// The plan's short name.
    pub plan_slug: String,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// The key in the answer that made it ([`Disclosed`]); afterwards [`masked_key`].
    #[schema(example = "*****-*****-*****-*****-*****-*****-*****-*XQ5P")]
    pub license_key: Disclosed,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// When it was revoked; the zero time when it was not.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub revoked_at: LicenseTime,
    /// Why it was revoked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revoke_reason: String,
    /// Whether a device was ever activated.
    pub is_activated: bool,
    /// When it was issued.
    pub issued_at: LicenseTime,
    /// When a device was last activated; the zero time when none was.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub last_activated_at: LicenseTime,
    /// When it ends.
    pub expires_at: LicenseTime,
    /// The same as `device_count`.
    pub current_activations: u32,
    /// How many devices at once; 0 is no limit.
    pub max_devices: u32,
    /// How many devices are activated.
    pub device_count: u32,
    /// The devices by fingerprint.
    pub devices: BTreeMap<String, Device>,
    /// Who else may use it, by address in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorized_users: BTreeMap<String, AuthorizedUser>,
    /// How often devices verify.
    pub check_mode: CheckMode,
    /// Seconds between checks; only for `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_interval_seconds: Option<u64>,
    /// When the next device is due; the zero time when none is.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub next_check_at: LicenseTime,
    /// When a device last verified; the zero time when none did.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub last_check_at: LicenseTime,
    /// What the plan includes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlements: Option<Entitlements>,
    /// Whether it is a trial.
    pub is_trial: bool,
    /// When a trial began; the zero time for a license that is no trial.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub trial_started_at: LicenseTime,
    /// The device of a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_device_fingerprint: Option<String>,
    /// Extension: the package that its seats come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_id: Option<String>,
    /// Extension: whether it is suspended.
    #[serde(default)]
    pub is_suspended: bool,
}

/// What stands in the place of a key that was shown before: stars and its last four characters. No
/// reader takes it for a key.
pub fn masked_key(last_characters: &str) -> Disclosed {
    Disclosed::new(format!("*****-*****-*****-*****-*****-*****-*****-*{last_characters}"))
}

/// Somebody whom the owner lets use a license.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceAuthorizedUser)]
pub struct AuthorizedUser {
    /// Their address.
    pub email: String,
    /// Their own client id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_id: String,
    /// The owner's client id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider_client_id: String,
    /// When they first activated.
    pub granted_at: LicenseTime,
}

/// A row of `GET /api/licenses/{id}/activations`: one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceActivationRecord)]
pub struct ActivationRecord {
    /// The row.
    pub id: String,
    /// The license.
    pub license_id: String,
    /// Its owner.
    pub client_id: String,
    /// The device.
    pub device_fingerprint: String,
    /// Where the request came from; empty when it is not kept.
    pub ip_address: String,
    /// The program; empty when it is not kept.
    pub user_agent: String,
    /// Whether it worked.
    pub success: bool,
    /// What was answered.
    pub message: String,
    /// When.
    pub timestamp: LicenseTime,
}

/// `POST /api/subscribe`: a client takes a plan, and gets a license for it
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceSubscribeRequest)]
#[serde(deny_unknown_fields)]
pub struct SubscribeRequest {
    /// The client.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub client_id: String,
    /// The product, by id or short name.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub product_id: String,
    /// The plan, by id or short name.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub plan_id: String,
    /// How many devices at once; what the plan says when left out.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000_000)]
    pub max_devices: Option<u32>,
    /// Extension: the package that its seats come from; may be left out where only one fits.
    #[serde(default, deserialize_with = "slug", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 128)]
    pub package_id: String,
}

impl AdminRequest for SubscribeRequest {
    fn check(&self) -> Result<(), AdminFault> {
        for (text, message) in [
            (&self.client_id, "client_id is required"),
            (&self.product_id, "product_id is required"),
            (&self.plan_id, "plan_id is required"),
        ] {
            if text.is_empty() {
                return Err(AdminFault::Field(message));
            }
        }
        if self.max_devices.is_some_and(|devices| !(1..=MAX_DEVICES).contains(&devices)) {
            return Err(AdminFault::Field("max_devices must be from 1 to 10000000"));
        }
        Ok(())
    }
}

/// A new subscription and the license that came with it.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceSubscribeResponse)]
pub struct SubscribeResponse {
    /// The subscription.
    pub subscription: SubscriptionView,
    /// The license, its key shown this once.
    pub license: LicenseView,
}

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceSubscriptionStatus)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionStatus {
    /// Its license is valid.
    Active,
    /// Its license was revoked.
    Cancelled,
    /// Its license has ended.
    Expired,
    /// Its license has not begun.
    Pending,
}

/// A subscription: a license that was issued by plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceSubscriptionView)]
pub struct SubscriptionView {
    /// The subscription.
    pub id: String,
    /// The client.
    pub client_id: String,
    /// The product.
    pub product_id: String,
    /// The plan.
    pub plan_id: String,
    /// The license.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license_id: String,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// When it began.
    pub start_date: LicenseTime,
    /// When it ends.
    pub end_date: LicenseTime,
    /// The plan's billing cycle.
    #[schema(example = "yearly")]
    pub billing_cycle: String,
    /// When it was made.
    pub created_at: LicenseTime,
    /// When it was last changed.
    pub updated_at: LicenseTime,
}

/// `GET /api/subscriptions`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubscriptionQuery {
    /// Only this client's.
    #[serde(default, deserialize_with = "free_text")]
    #[param(max_length = 256)]
    pub client_id: String,
}
