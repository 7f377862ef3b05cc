//! Plans: what a license entitles to.
//!
//! A plan is a copy that belongs to its license; changing a catalog changes no plan that was sold.
//! What it leaves to others: whose plan it is (`license`).

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::license::{LicenseProtocol, MAX_LICENSE_DAYS};
use super::{optional_count, wrong_field};
use crate::cloud::body::BodyError;
use crate::package::MAX_QUANTITY;
use crate::strict_json::MAX_SAFE_INTEGER;
use crate::wire::{self, MAX_LIST_ITEMS, Money};

/// Longest interval of a plan, in seconds: a leap year.
pub const MAX_INTERVAL_SECONDS: u32 = 366 * 86_400;
/// Longest metadata of a scope, as JSON.
pub const MAX_METADATA_BYTES: usize = 1_024;

/// What was sold with a key. In a request every field may be left out, in an answer none is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LicensePlan {
    /// Its name; `standard` when left out.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "gold", max_length = 128)]
    pub slug: Option<String>,
    /// Name of its product; the package's product id when left out.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "export-studio", max_length = 128)]
    pub product: Option<String>,
    /// Kind that clients are shown; `evaluation` for that protocol, else `standard`, when left out.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "standard", max_length = 256)]
    pub kind: Option<String>,
    /// Features with their scopes.
    #[serde(default, deserialize_with = "features")]
    #[schema(max_items = 64)]
    pub features: Vec<PlanFeature>,
    /// Devices, clusters or hosts at once; 0: as many as the package has seats. When left out, 1
    /// for `deployment` and 0 for the others.
    #[serde(default, alias = "max_devices")]
    #[serde(deserialize_with = "optional_count::<0, MAX_QUANTITY, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3, minimum = 0, maximum = 10_000_000)]
    pub max_activations: Option<u32>,
    /// Nodes that one cluster may have (`deployment` only); 0, or left out: any number.
    #[serde(default, deserialize_with = "optional_count::<0, MAX_QUANTITY, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 5, minimum = 0, maximum = 10_000_000)]
    pub max_nodes: Option<u32>,
    /// Seats that one activation takes; 1 when left out.
    #[serde(default, deserialize_with = "optional_count::<1, MAX_QUANTITY, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1, minimum = 1, maximum = 10_000_000)]
    pub seats_per_activation: Option<u32>,
    /// When clients are to verify (`device`); `each_execution` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_mode: Option<PlanCheckMode>,
    /// For `custom`, which wants it; from five minutes to a leap year.
    #[serde(default, deserialize_with = "optional_count::<300, MAX_INTERVAL_SECONDS, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 86_400, minimum = 300, maximum = 31_622_400)]
    pub check_interval_seconds: Option<u32>,
    /// How long one activation is valid; 0: as long as the license. When left out, 30 for
    /// `evaluation` and 0 for the others.
    #[serde(default, deserialize_with = "optional_count::<0, MAX_LICENSE_DAYS, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 30, minimum = 0, maximum = 36_525)]
    pub activation_days: Option<u32>,
    /// An activation that is not heard from so long gives its seat back; 0: never. When left out, a
    /// day for `deployment` and 0 for the others.
    #[serde(default, deserialize_with = "optional_count::<0, MAX_INTERVAL_SECONDS, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 86_400, minimum = 0, maximum = 31_622_400)]
    pub slot_ttl_seconds: Option<u32>,
    /// How long an offline token of an activation may live, where the package allows any; 0, or
    /// left out: none is given.
    #[serde(default, deserialize_with = "optional_count::<0, MAX_INTERVAL_SECONDS, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 86_400, minimum = 0, maximum = 31_622_400)]
    pub offline_seconds: Option<u32>,
    /// Whether it is a trial.
    #[serde(default)]
    pub trial: bool,
    /// Metered use that the plan includes, by metric; at most 64.
    #[serde(default, deserialize_with = "quotas")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, f64>, example = json!({"tokens": 1_000_000.0}))]
    pub quotas: BTreeMap<String, QuotaAmount>,
}

impl LicensePlan {
    /// The plan with everything that was left out said. A product that was left out stays so: it is
    /// the package's.
    pub fn completed(mut self, protocol: LicenseProtocol) -> Self {
        let is = |other| protocol == other;
        let evaluation = is(LicenseProtocol::Evaluation);
        let deployment = is(LicenseProtocol::Deployment);
        let kind = if evaluation { "evaluation" } else { "standard" };
        self.slug.get_or_insert_with(|| "standard".to_owned());
        self.kind.get_or_insert_with(|| kind.to_owned());
        self.max_activations.get_or_insert(u32::from(deployment));
        self.max_nodes.get_or_insert(0);
        self.seats_per_activation.get_or_insert(1);
        self.check_mode.get_or_insert(PlanCheckMode::EachExecution);
        self.activation_days.get_or_insert(if evaluation { EVALUATION_DAYS } else { 0 });
        self.slot_ttl_seconds.get_or_insert(if deployment { SLOT_TTL_SECONDS } else { 0 });
        self.offline_seconds.get_or_insert(0);
        self
    }

    pub(super) fn check(&self, protocol: LicenseProtocol) -> Result<(), BodyError> {
        let custom = self.check_mode == Some(PlanCheckMode::Custom);
        let wrong = if protocol != LicenseProtocol::Deployment && self.max_nodes.is_some() {
            Some(("plan.max_nodes", "only a deployment license counts nodes"))
        } else if protocol != LicenseProtocol::Device && self.check_mode.is_some() {
            Some(("plan.check_mode", "only a device license has one"))
        } else if custom != self.check_interval_seconds.is_some() {
            Some(("plan.check_interval_seconds", "want it with check_mode custom, and only there"))
        } else {
            None
        };
        wrong.map_or(Ok(()), |(field, reason)| Err(wrong_field(field, reason)))
    }
}

/// When clients are to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanCheckMode {
    /// Never.
    None,
    /// At every start.
    EachExecution,
    /// At the first of each month.
    Monthly,
    /// A year after the last.
    Yearly,
    /// After an interval.
    Custom,
}

/// A feature of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanFeature {
    /// Its name.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "export", max_length = 128)]
    pub slug: String,
    /// Group that clients are shown.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "api", max_length = 256)]
    pub category: Option<String>,
    /// Whether the plan has it; true when left out.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What exactly it allows.
    #[serde(default, deserialize_with = "scopes", skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub scopes: Vec<PlanScope>,
}

fn yes() -> bool {
    true
}

/// A part of a feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanScope {
    /// Its name.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "create", max_length = 128)]
    pub slug: String,
    /// Allowed, denied or limited.
    pub permission: ScopePermission,
    /// For `limit`; 0, or left out: no limit.
    #[serde(default, deserialize_with = "optional_limit")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 100, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    pub limit: Option<u64>,
    /// For the application; at most 1,024 bytes as JSON.
    #[serde(default, deserialize_with = "metadata")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Whether a scope may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScopePermission {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// Up to a limit.
    Limit,
}

/// A metered amount, at least 0; a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaAmount(pub Decimal);

impl Serialize for QuotaAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Money(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for QuotaAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Money(amount) = Money::deserialize(deserializer)?;
        if amount.is_sign_negative() && !amount.is_zero() {
            return Err(serde::de::Error::custom("want an amount of at least 0"));
        }
        Ok(Self(amount))
    }
}

fn features<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PlanFeature>, D::Error> {
    #[derive(Deserialize)]
    struct Item(#[serde(deserialize_with = "wire::object")] PlanFeature);
    let items = Vec::<Item>::deserialize(deserializer)?;
    named_once(items.into_iter().map(|Item(item)| item).collect(), |feature| &feature.slug)
}

fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PlanScope>, D::Error> {
    #[derive(Deserialize)]
    struct Item(#[serde(deserialize_with = "wire::object")] PlanScope);
    let items = Vec::<Item>::deserialize(deserializer)?;
    named_once(items.into_iter().map(|Item(item)| item).collect(), |scope| &scope.slug)
}

/// At most 64, no name twice.
fn named_once<T, E: serde::de::Error>(items: Vec<T>, name: fn(&T) -> &str) -> Result<Vec<T>, E> {
    if items.len() > MAX_LIST_ITEMS {
        return Err(E::custom(format_args!("want at most {MAX_LIST_ITEMS}")));
    }
    let mut names = BTreeSet::new();
    match items.iter().map(name).find(|name| !names.insert(*name)) {
        Some(name) => Err(E::custom(format_args!("{name} is there twice"))),
        None => Ok(items),
    }
}

fn quotas<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, QuotaAmount>, D::Error> {
    let quotas = BTreeMap::<String, QuotaAmount>::deserialize(deserializer)?;
    if quotas.len() > MAX_LIST_ITEMS || !quotas.keys().all(|metric| wire::is_id(metric)) {
        return Err(serde::de::Error::custom(format_args!(
            "want at most {MAX_LIST_ITEMS} metrics of A-Z a-z 0-9 . _ -"
        )));
    }
    Ok(quotas)
}

fn metadata<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    use serde::de::Error;
    let metadata = BTreeMap::<String, String>::deserialize(deserializer)?;
    let bytes = serde_json::to_vec(&metadata).map_err(D::Error::custom)?.len();
    if bytes > MAX_METADATA_BYTES {
        return Err(D::Error::custom(format_args!("want at most {MAX_METADATA_BYTES} bytes")));
    }
    Ok(metadata)
}

fn optional_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let limit = Option::<u64>::deserialize(deserializer)?;
    if limit.is_none_or(|limit| limit <= MAX_SAFE_INTEGER.unsigned_abs()) {
        Ok(limit)
    } else {
        Err(serde::de::Error::custom("want an integer below 2^53"))
    }
}

/// What the evaluation protocol's clients assume.
const EVALUATION_DAYS: u32 = 30;
/// After a day without a heartbeat another cluster may take the slot.
const SLOT_TTL_SECONDS: u32 = 86_400;
