//! Products with their plans, features and scopes, and what a plan includes.
//!
//! A product's whole catalog is one document ([`Catalog`]): that is what is stored, changed and
//! compared, and a license keeps a copy of what its plan included when it was issued. Prices are
//! shown and never charged.
//!
//! What it leaves to others: storing the document and its version (`lease`), ids (`node`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::payload::{Entitlements, FeatureGrant, Permission, ScopeGrant, is_zero, neutral};
use super::super::schedule::CheckMode;
use super::super::time::LicenseTime;
use super::{AdminFault, Kind, metadata};

/// Most plans, and most features, of one product.
pub const MAX_PLANS_OR_FEATURES: usize = 64;
/// Most scopes of one feature.
pub const MAX_SCOPES: usize = 64;

/// A product with everything under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// The product.
    pub product: ProductView,
    /// Its plans, in the order in which they were added.
    #[serde(default)]
    pub plans: Vec<PlanView>,
    /// Its features.
    #[serde(default)]
    pub features: Vec<FeatureView>,
    /// The scopes of its features.
    #[serde(default)]
    pub scopes: Vec<ScopeView>,
    /// Which features its plans include.
    #[serde(default)]
    pub plan_features: Vec<PlanFeatureView>,
}

impl Catalog {
    /// A plan by id or short name.
    pub fn plan(&self, id_or_slug: &str) -> Result<&PlanView, AdminFault> {
        self.plans
            .iter()
            .find(|plan| plan.id == id_or_slug || plan.slug == id_or_slug)
            .ok_or(AdminFault::NotFound(Kind::Plan))
    }

    /// A feature by id or short name.
    pub fn feature(&self, id_or_slug: &str) -> Result<&FeatureView, AdminFault> {
        self.features
            .iter()
            .find(|feature| feature.id == id_or_slug || feature.slug == id_or_slug)
            .ok_or(AdminFault::NotFound(Kind::Feature))
    }

    /// A scope of a feature by id or short name.
    pub fn scope(&self, feature_id: &str, id_or_slug: &str) -> Result<&ScopeView, AdminFault> {
        self.scopes_of(feature_id)
            .find(|scope| scope.id == id_or_slug || scope.slug == id_or_slug)
            .ok_or(AdminFault::NotFound(Kind::Scope))
    }

    /// The scopes of a feature.
    pub fn scopes_of(&self, feature_id: &str) -> impl Iterator<Item = &ScopeView> {
        self.scopes.iter().filter(move |scope| scope.feature_id == feature_id)
    }

    /// Which features a plan includes.
    pub fn features_of(&self, plan_id: &str) -> impl Iterator<Item = &PlanFeatureView> {
        self.plan_features.iter().filter(move |row| row.plan_id == plan_id)
    }

    /// What a plan includes, with its overrides applied: `GET /api/entitlements`, and what a new
    /// license gets. An override is found by the scope's id, else by its short name.
    pub fn entitlements(&self, plan: &PlanView) -> Entitlements {
        let features = self.features_of(&plan.id).filter_map(|row| {
            let feature = self.features.iter().find(|feature| feature.id == row.feature_id)?;
            let scopes = self.scopes_of(&feature.id).map(|scope| granted(scope, row)).collect();
            let grant = FeatureGrant {
                feature_id: feature.id.clone(),
                feature_slug: feature.slug.clone(),
                category: feature.category.clone(),
                enabled: row.enabled,
                scopes,
            };
            Some((feature.slug.clone(), grant))
        });
        Entitlements {
            product_id: self.product.id.clone(),
            product_slug: self.product.slug.clone(),
            plan_id: plan.id.clone(),
            plan_slug: plan.slug.clone(),
            features: features.collect(),
        }
    }

    /// The rows of a plan's features with what they refer to.
    pub fn plan_feature_details(&self, plan_id: &str) -> Vec<PlanFeatureDetails> {
        self.features_of(plan_id)
            .map(|row| PlanFeatureDetails {
                row: row.clone(),
                feature: self.features.iter().find(|feature| feature.id == row.feature_id).cloned(),
                scopes: self.scopes_of(&row.feature_id).cloned().collect(),
            })
            .collect()
    }
}

fn granted(scope: &ScopeView, row: &PlanFeatureView) -> (String, ScopeGrant) {
    let overrides = &row.scope_overrides;
    let found = overrides.get(&scope.id).or_else(|| overrides.get(&scope.slug));
    let (permission, limit, metadata) = match found {
        Some(found) => (found.permission, found.limit, &found.metadata),
        None => (scope.permission, scope.limit, &scope.metadata),
    };
    let metadata = if metadata.is_empty() { &scope.metadata } else { metadata };
    let grant = ScopeGrant {
        scope_id: scope.id.clone(),
        scope_slug: scope.slug.clone(),
        permission,
        limit,
        metadata: metadata.clone(),
    };
    (scope.slug.clone(), grant)
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceProductView)]
pub struct ProductView {
    /// The product.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Short name; no two products have one.
    #[schema(example = "export-studio")]
    pub slug: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A picture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub logo_url: String,
    /// When it was added.
    pub created_at: LicenseTime,
    /// When it was last changed.
    pub updated_at: LicenseTime,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DevicePlanView)]
pub struct PlanView {
    /// The plan.
    pub id: String,
    /// Its product.
    pub product_id: String,
    /// Name for people.
    pub name: String,
    /// Short name; no two plans of a product have one.
    #[schema(example = "gold")]
    pub slug: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// In hundredths of the currency.
    pub price: i64,
    /// Days of a license; 0 is as long as its package.
    #[serde(default)]
    pub duration_days: u32,
    /// ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: String,
    /// `monthly`, `yearly`, `lifetime` or `one-time`.
    #[schema(example = "yearly")]
    pub billing_cycle: String,
    /// Days of a trial.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub trial_days: u32,
    /// Whether it is the product's plan for trials.
    #[serde(default)]
    pub is_trial: bool,
    /// Whether licenses may be issued for it.
    pub is_active: bool,
    /// Place in lists.
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub display_order: i32,
    /// For the application.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Extension: devices of a license when its request does not say; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub max_devices: u32,
    /// Extension: check mode of a license when its request does not say.
    #[serde(default = "yearly")]
    pub check_mode: CheckMode,
    /// Extension: the package that its licenses' seats come from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub package_id: String,
    /// When it was added.
    pub created_at: LicenseTime,
    /// When it was last changed.
    pub updated_at: LicenseTime,
}

/// A feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceFeatureView)]
pub struct FeatureView {
    /// The feature.
    pub id: String,
    /// Its product.
    pub product_id: String,
    /// Name for people.
    pub name: String,
    /// Short name; no two features of a product have one.
    #[schema(example = "export")]
    pub slug: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Kind of feature, such as `api` or `gui`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub category: String,
    /// When it was added.
    pub created_at: LicenseTime,
    /// When it was last changed.
    pub updated_at: LicenseTime,
}

/// A scope of a feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceScopeView)]
pub struct ScopeView {
    /// The scope.
    pub id: String,
    /// Its feature.
    pub feature_id: String,
    /// Name for people.
    pub name: String,
    /// Short name; no two scopes of a feature have one.
    #[schema(example = "create")]
    pub slug: String,
    /// Whether it may be used.
    pub permission: Permission,
    /// How much of it under `limit`; 0 is no limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limit: u64,
    /// For the application.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When it was added.
    pub created_at: LicenseTime,
    /// When it was last changed.
    pub updated_at: LicenseTime,
}

/// A plan's word on a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceScopeOverride)]
#[serde(deny_unknown_fields)]
pub struct ScopeOverride {
    /// Whether it may be used.
    #[serde(deserialize_with = "known_permission")]
    pub permission: Permission,
    /// How much of it under `limit`; 0 is no limit.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "is_zero")]
    pub limit: u64,
    /// For the application.
    #[serde(default, deserialize_with = "metadata", skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A feature that a plan includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DevicePlanFeatureView)]
pub struct PlanFeatureView {
    /// The row.
    pub id: String,
    /// The plan.
    pub plan_id: String,
    /// The feature.
    pub feature_id: String,
    /// Whether it may be used.
    pub enabled: bool,
    /// The plan's word on scopes, by their id or short name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scope_overrides: BTreeMap<String, ScopeOverride>,
    /// When it was added.
    pub created_at: LicenseTime,
    /// When it was last changed.
    pub updated_at: LicenseTime,
}

/// A feature that a plan includes, and what it refers to: an item of `GET …/plans/{plan}/features`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DevicePlanFeatureDetails)]
pub struct PlanFeatureDetails {
    /// The row.
    #[serde(flatten)]
    pub row: PlanFeatureView,
    /// The feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<FeatureView>,
    /// Its scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<ScopeView>,
}

fn known_permission<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Permission, D::Error> {
    let word = String::deserialize(deserializer)?;
    Permission::from_word(&word)
        .ok_or_else(|| serde::de::Error::custom("want allow, deny or limit"))
}

fn yearly() -> CheckMode {
    CheckMode::Yearly
}

fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

fn is_zero_i32(number: &i32) -> bool {
    *number == 0
}
