//! The license inside: what an application may know and do.
//!
//! Some fields are always there and some only when they are set; the fields stand in the order of
//! their names, as the reference server writes them. A time that never came is the zero time and
//! not `""`, which the reference client cannot read. What is read may leave out or null whatever
//! has a neutral value: licenses of other servers differ, and what is missing allows nothing.
//!
//! What it leaves to others: sealing ([`super::crypto`]), deciding ([`super::schedule`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use utoipa::ToSchema;

use super::schedule::CheckMode;
use super::time::{self, LicenseTime};
use crate::cloud::body::{self, BodyError};
use crate::secret::Disclosed;

/// A license as its device sees it. It holds the license key, so it is not printed or copied.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceLicenseData)]
pub struct LicenseData {
    /// Seconds between checks; only for `custom`.
    #[serde(default, deserialize_with = "positive", skip_serializing_if = "Option::is_none")]
    #[schema(example = 86_400)]
    pub check_interval_seconds: Option<u64>,
    /// How often to verify.
    #[serde(default)]
    pub check_mode: CheckMode,
    /// The client that owns the license, also where a delegate uses it.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = "6a3d09a9-7701-42b7-8f54-cfcda8b14d32")]
    pub client_id: String,
    /// The same as `device_count`.
    #[serde(default, deserialize_with = "neutral")]
    pub current_activations: u32,
    /// How many devices are activated.
    #[serde(default, deserialize_with = "neutral")]
    pub device_count: u32,
    /// The devices, in any order.
    #[serde(default, deserialize_with = "neutral")]
    pub devices: Vec<Device>,
    /// Who activated it.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = "owner@example.com")]
    pub email: String,
    /// What the plan includes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlements: Option<Entitlements>,
    /// When it ends.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub expires_at: LicenseTime,
    /// The owner who granted it; only for a delegate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted_by: Option<String>,
    /// The license.
    #[schema(example = "0c92c546-e1cb-4987-8025-6b3dd9513a5f")]
    pub id: String,
    /// Whether it was revoked.
    #[serde(default, deserialize_with = "neutral")]
    pub is_revoked: bool,
    /// Whether it is a trial.
    #[serde(default, deserialize_with = "neutral")]
    pub is_trial: bool,
    /// When it was issued.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub issued_at: LicenseTime,
    /// When a device was last activated.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub last_activated_at: LicenseTime,
    /// When it was last verified; not for `none`.
    #[serde(default, deserialize_with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub last_check_at: Option<LicenseTime>,
    /// The key, with hyphens.
    #[schema(example = "NWEOA-P5575-4WIZK-HBODW-FHAZP-KTI2Q-3JSAN-JXQ5P")]
    pub license_key: Disclosed,
    /// Most devices; 0 is no limit.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = 5)]
    pub max_devices: u32,
    /// When to verify again; not for `none`.
    #[serde(default, deserialize_with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub next_check_at: Option<LicenseTime>,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// The plan's short name.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = "gold")]
    pub plan_slug: String,
    /// The product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// Whether the owner or a delegate uses it.
    #[serde(default, deserialize_with = "neutral")]
    pub relationship: Relationship,
    /// Why it was revoked; empty when it was not.
    #[serde(default, deserialize_with = "neutral")]
    pub revoke_reason: String,
    /// When it was revoked; the zero time when it was not.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub revoked_at: LicenseTime,
    /// The client that uses it: the owner, or a delegate's own id.
    #[serde(default, deserialize_with = "neutral")]
    pub subject_client_id: String,
    /// The device of a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_device_fingerprint: Option<String>,
    /// When a trial ends; `expires_at` where it is absent.
    #[serde(default, deserialize_with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub trial_expires_at: Option<LicenseTime>,
    /// When a trial began.
    #[serde(default, deserialize_with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub trial_started_at: Option<LicenseTime>,
}

/// Bytes that are no license.
#[derive(Debug, Error)]
#[error("not a license: {0}")]
pub struct NotALicense(#[from] BodyError);

impl LicenseData {
    /// Reads what was sealed.
    pub fn from_json(json: &[u8]) -> Result<Self, NotALicense> {
        Ok(body::decode(json)?)
    }

    /// The bytes to seal.
    pub fn to_json(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "texts, numbers and maps by text are always JSON")]
        serde_json::to_vec(self).expect("a license is JSON")
    }

    /// Whether a feature may be used: present in the entitlements and enabled.
    pub fn allows_feature(&self, feature_slug: &str) -> bool {
        self.entitlements.as_ref().is_some_and(|plan| plan.allows_feature(feature_slug))
    }

    /// Whether a scope of a feature may be used: the feature may, and the scope is present and not
    /// denied.
    pub fn allows_scope(&self, feature_slug: &str, scope_slug: &str) -> bool {
        self.entitlements.as_ref().is_some_and(|plan| plan.allows_scope(feature_slug, scope_slug))
    }

    /// How much of a scope may be used; none is no limit. Only of interest where
    /// [`Self::allows_scope`] is true.
    pub fn scope_limit(&self, feature_slug: &str, scope_slug: &str) -> Option<u64> {
        self.entitlements.as_ref()?.scope(feature_slug, scope_slug)?.effective_limit()
    }

    /// When a trial ends; none for a license that is no trial.
    pub fn trial_ends_at(&self) -> Option<LicenseTime> {
        self.is_trial.then(|| self.trial_expires_at.unwrap_or(self.expires_at))
    }
}

/// A device of a license.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LicensedDevice)]
pub struct Device {
    /// What it is known by.
    #[schema(example = "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39")]
    pub fingerprint: String,
    /// When it was activated.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub activated_at: LicenseTime,
    /// When it was last activated or verified.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub last_seen_at: LicenseTime,
}

/// Whether the owner or a delegate uses a license.
#[derive(Debug, Clone, PartialEq, Eq, Default, ToSchema)]
#[schema(as = DeviceRelationship)]
#[schema(rename_all = "lowercase")]
pub enum Relationship {
    /// The owner. What an empty field means.
    #[default]
    Direct,
    /// Somebody the owner lets use it. The reference server writes `provider`; both are read.
    Delegated,
    /// A word that this release does not know; it decides nothing.
    #[schema(value_type = String)]
    Other(String),
}

impl Serialize for Relationship {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Direct => "direct",
            Self::Delegated => "delegated",
            Self::Other(word) => word,
        })
    }
}

impl<'de> Deserialize<'de> for Relationship {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match &*Cow::<str>::deserialize(deserializer)? {
            "" | "direct" => Self::Direct,
            "delegated" | "provider" => Self::Delegated,
            other => Self::Other(other.to_owned()),
        })
    }
}

/// What a plan includes, worked out for one license.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceEntitlements)]
pub struct Entitlements {
    /// The product.
    #[serde(default, deserialize_with = "neutral")]
    pub product_id: String,
    /// The product's short name.
    #[serde(default, deserialize_with = "neutral")]
    pub product_slug: String,
    /// The plan.
    #[serde(default, deserialize_with = "neutral")]
    pub plan_id: String,
    /// The plan's short name.
    #[serde(default, deserialize_with = "neutral")]
    pub plan_slug: String,
    /// Features by short name.
    #[serde(default, deserialize_with = "neutral")]
    pub features: BTreeMap<String, FeatureGrant>,
}

impl Entitlements {
    /// Whether a feature is present and enabled.
    pub fn allows_feature(&self, feature_slug: &str) -> bool {
        self.features.get(feature_slug).is_some_and(|feature| feature.enabled)
    }

    /// Whether a feature is enabled and its scope present and not denied.
    pub fn allows_scope(&self, feature_slug: &str, scope_slug: &str) -> bool {
        self.allows_feature(feature_slug)
            && self
                .scope(feature_slug, scope_slug)
                .is_some_and(|scope| scope.permission != Permission::Deny)
    }

    /// A scope of a feature.
    pub fn scope(&self, feature_slug: &str, scope_slug: &str) -> Option<&ScopeGrant> {
        self.features.get(feature_slug)?.scopes.get(scope_slug)
    }
}

/// A feature of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceFeatureGrant)]
pub struct FeatureGrant {
    /// The feature.
    #[serde(default, deserialize_with = "neutral")]
    pub feature_id: String,
    /// Its short name.
    #[serde(default, deserialize_with = "neutral")]
    pub feature_slug: String,
    /// Kind of feature, such as `api` or `gui`.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "String::is_empty")]
    pub category: String,
    /// Whether the plan includes it.
    #[serde(default, deserialize_with = "neutral")]
    pub enabled: bool,
    /// Its scopes by short name.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "BTreeMap::is_empty")]
    pub scopes: BTreeMap<String, ScopeGrant>,
}

/// A scope of a feature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceScopeGrant)]
pub struct ScopeGrant {
    /// The scope.
    #[serde(default, deserialize_with = "neutral")]
    pub scope_id: String,
    /// Its short name.
    #[serde(default, deserialize_with = "neutral")]
    pub scope_slug: String,
    /// Whether it may be used.
    #[serde(default, deserialize_with = "neutral")]
    pub permission: Permission,
    /// How much of it; 0 is no limit. Only looked at under `limit`.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "is_zero")]
    pub limit: u64,
    /// For the application.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl ScopeGrant {
    /// How much of it may be used; none is no limit.
    pub fn effective_limit(&self) -> Option<u64> {
        Some(self.limit).filter(|limit| self.permission == Permission::Limit && *limit > 0)
    }
}

/// What a plan says of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
#[schema(as = DevicePermission)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// It may be used.
    Allow,
    /// It may not. A word that this release does not know means the same.
    #[default]
    Deny,
    /// It may be used so often.
    Limit,
}

impl Permission {
    /// The permission of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "allow" => Some(Self::Allow),
            "deny" => Some(Self::Deny),
            "limit" => Some(Self::Limit),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_word(&Cow::<str>::deserialize(deserializer)?).unwrap_or_default())
    }
}

/// Reads a value that may be null, which means its neutral value.
pub(super) fn neutral<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a number that may be null or 0, which mean none.
fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.filter(|number| *number > 0))
}

pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}
