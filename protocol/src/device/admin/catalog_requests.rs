//! What an administrator may change of a catalog, and how.
//!
//! The same body makes a thing and changes it: what is empty or absent in a change stays as it is,
//! and what a new one cannot do without is checked by [`read_new`].
//!
//! What it leaves to others: applying the change ([`super::catalog`] has what it changes).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::payload::Permission;
use super::super::schedule::CheckMode;
use super::catalog::{MAX_SCOPES, ScopeOverride};
use super::{AdminFault, AdminRequest, free_text, long_text, optional_metadata, slug};

/// `POST /api/products`, and `PUT /api/products/{product}`, which leaves what is empty as it is
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceProductRequest)]
#[serde(deny_unknown_fields)]
pub struct ProductRequest {
    /// Name for people.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub name: String,
    /// Short name.
    #[serde(default, deserialize_with = "slug")]
    #[schema(max_length = 128)]
    pub slug: String,
    /// For people.
    #[serde(default, deserialize_with = "long_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 2_048)]
    pub description: String,
    /// A picture.
    #[serde(default, deserialize_with = "long_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 2_048)]
    pub logo_url: String,
}

/// `POST …/plans`, and `PUT …/plans/{plan}`, which leaves what is absent or empty as it is
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DevicePlanRequest)]
#[serde(deny_unknown_fields, default)]
pub struct PlanRequest {
    /// Name for people.
    #[serde(deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub name: String,
    /// Short name.
    #[serde(deserialize_with = "slug")]
    #[schema(max_length = 128)]
    pub slug: String,
    /// For people.
    #[serde(deserialize_with = "long_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 2_048)]
    pub description: String,
    /// In hundredths of the currency; 0 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<i64>,
    /// Days of a license.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 36_525)]
    pub duration_days: Option<u32>,
    /// ISO 4217 code; `USD` when left out.
    #[serde(deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    pub currency: String,
    /// `monthly` when left out.
    #[serde(deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    pub billing_cycle: String,
    /// Days of a trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 366)]
    pub trial_days: Option<u32>,
    /// Whether it is the product's plan for trials; false when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_trial: Option<bool>,
    /// Whether licenses may be issued for it; false when left out of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
    /// Place in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_order: Option<i32>,
    /// For the application.
    #[serde(deserialize_with = "optional_metadata", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Extension: devices of a license when its request does not say; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 10_000_000)]
    pub max_devices: Option<u32>,
    /// Extension: check mode of a license when its request does not say.
    #[serde(deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    pub check_mode: String,
    /// Extension: the package that its licenses' seats come from.
    #[serde(deserialize_with = "slug", skip_serializing_if = "String::is_empty")]
    pub package_id: String,
}

/// `POST …/features`, and `PUT …/features/{feature}`, which leaves what is empty as it is
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceFeatureRequest)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureRequest {
    /// Name for people.
    #[serde(deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub name: String,
    /// Short name.
    #[serde(deserialize_with = "slug")]
    #[schema(max_length = 128)]
    pub slug: String,
    /// For people.
    #[serde(deserialize_with = "long_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 2_048)]
    pub description: String,
    /// Kind of feature.
    #[serde(deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 256)]
    pub category: String,
}

/// `POST …/scopes`, and `PUT …/scopes/{scope}`, which leaves what is absent or empty as it is
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceScopeRequest)]
#[serde(deny_unknown_fields, default)]
pub struct ScopeRequest {
    /// Name for people.
    #[serde(deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub name: String,
    /// Short name.
    #[serde(deserialize_with = "slug")]
    #[schema(max_length = 128)]
    pub slug: String,
    /// `allow`, `deny` or `limit`; `allow` when left out of a new one.
    #[serde(deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    pub permission: String,
    /// How much of it under `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// For the application.
    #[serde(deserialize_with = "optional_metadata", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// `POST …/plans/{plan}/features`, and `PUT …/plans/{plan}/features/{feature}`, which leaves what
/// is absent as it is
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DevicePlanFeatureRequest)]
#[serde(deny_unknown_fields, default)]
pub struct PlanFeatureRequest {
    /// The feature, by id or short name; not in `PUT`.
    #[serde(deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 256)]
    pub feature_id: String,
    /// Whether it may be used; false when left out of a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The plan's word on scopes, by their id or short name; at most 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_overrides: Option<BTreeMap<String, ScopeOverride>>,
}

/// `GET /api/entitlements`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct EntitlementsQuery {
    /// The product, by id or short name.
    #[serde(deserialize_with = "free_text")]
    pub product_id: String,
    /// The plan, by id or short name.
    #[serde(deserialize_with = "free_text")]
    pub plan_id: String,
}

impl EntitlementsQuery {
    /// Whether both are there.
    pub fn check(&self) -> Result<(), AdminFault> {
        if self.product_id.is_empty() || self.plan_id.is_empty() {
            return Err(AdminFault::Field("product_id and plan_id are required"));
        }
        Ok(())
    }
}

/// What creating something needs, and changing it does not.
pub trait NewRequest: AdminRequest {
    /// Whether everything is there that a new one needs.
    fn check_new(&self) -> Result<(), AdminFault>;
}

/// Reads and checks a request that makes something new.
pub fn read_new<T: NewRequest>(bytes: &[u8]) -> Result<T, AdminFault> {
    let request: T = super::read(bytes)?;
    request.check_new()?;
    Ok(request)
}

fn named(name: &str, slug: &str) -> Result<(), AdminFault> {
    if name.is_empty() || slug.is_empty() {
        return Err(AdminFault::Field("name and slug are required"));
    }
    Ok(())
}

impl AdminRequest for ProductRequest {
    fn check(&self) -> Result<(), AdminFault> {
        Ok(())
    }
}

impl NewRequest for ProductRequest {
    fn check_new(&self) -> Result<(), AdminFault> {
        named(&self.name, &self.slug)
    }
}

impl AdminRequest for PlanRequest {
    fn check(&self) -> Result<(), AdminFault> {
        let field = |message| Err(AdminFault::Field(message));
        if self.price.is_some_and(|price| price < 0) {
            return field("price must not be negative");
        }
        if self.duration_days.is_some_and(|days| days > super::license::MAX_DURATION_DAYS) {
            return field("duration_days must be at most 36525");
        }
        if self.trial_days.is_some_and(|days| days > super::super::trial::MAX_TRIAL_DAYS) {
            return field("trial_days must be at most 366");
        }
        if self.max_devices.is_some_and(|devices| devices > super::license::MAX_DEVICES) {
            return field("max_devices must be at most 10000000");
        }
        if !self.check_mode.is_empty() && CheckMode::from_name(&self.check_mode).is_none() {
            return field("check_mode must be none, each_execution, monthly, yearly or custom");
        }
        Ok(())
    }
}

impl NewRequest for PlanRequest {
    fn check_new(&self) -> Result<(), AdminFault> {
        named(&self.name, &self.slug)
    }
}

impl AdminRequest for FeatureRequest {
    fn check(&self) -> Result<(), AdminFault> {
        Ok(())
    }
}

impl NewRequest for FeatureRequest {
    fn check_new(&self) -> Result<(), AdminFault> {
        named(&self.name, &self.slug)
    }
}

impl AdminRequest for ScopeRequest {
    fn check(&self) -> Result<(), AdminFault> {
        if !self.permission.is_empty() && Permission::from_word(&self.permission).is_none() {
            return Err(AdminFault::Field("permission must be allow, deny or limit"));
        }
        Ok(())
    }
}

impl NewRequest for ScopeRequest {
    fn check_new(&self) -> Result<(), AdminFault> {
        named(&self.name, &self.slug)
    }
}

impl ScopeRequest {
    /// The permission asked for; none when it was left out.
    pub fn asked_permission(&self) -> Option<Permission> {
        Permission::from_word(&self.permission)
    }
}

impl AdminRequest for PlanFeatureRequest {
    fn check(&self) -> Result<(), AdminFault> {
        if self.scope_overrides.as_ref().is_some_and(|overrides| overrides.len() > MAX_SCOPES) {
            return Err(AdminFault::Field("scope_overrides must be at most 64"));
        }
        Ok(())
    }
}

impl NewRequest for PlanFeatureRequest {
    fn check_new(&self) -> Result<(), AdminFault> {
        if self.feature_id.is_empty() {
            return Err(AdminFault::Field("feature_id is required"));
        }
        Ok(())
    }
}
