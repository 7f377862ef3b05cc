//! `POST /v1/telemetry`: what jobs used, and what the license has left.
//!
//! Amounts are decimals of at most [`MAX_FRACTION_DIGITS`] places and [`MAX_DIGITS`] digits in
//! all, so that the double which a JSON number passes through gives back what was written, and
//! sums are exact. Names of metrics are bounded and few: they become rows of the ledger.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::cluster_id::cluster_id;
use crate::strict_json::nearest_double;
use crate::wire;

/// Most metrics in one report.
pub const MAX_METRICS: usize = 64;
/// Longest name of a metric.
pub const MAX_METRIC_CHARS: usize = 64;
/// Most places after the point.
pub const MAX_FRACTION_DIGITS: u32 = 6;
/// Most digits of an amount: a double keeps every decimal of so many.
pub const MAX_DIGITS: usize = 15;
/// From this share of a quota on, an upgrade is suggested.
pub const UPGRADE_FROM_PERCENT: u32 = 80;

/// An amount, zero or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, ToSchema)]
#[schema(as = DeploymentAmount, value_type = f64, example = 1.5)]
pub struct Amount(pub Decimal);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let amount = self.0.normalize();
        match u64::try_from(amount) {
            Ok(whole) if amount.scale() == 0 => serializer.serialize_u64(whole),
            _ => serializer.serialize_f64(nearest_double(amount)),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountVisitor;
        impl Visitor<'_> for AmountVisitor {
            type Value = Amount;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(
                    f,
                    "an amount of 0 or more, at most {MAX_DIGITS} digits, of them at most \
                     {MAX_FRACTION_DIGITS} after the point"
                )
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Amount, E> {
                Amount::bounded(Decimal::from(value))
                    .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Amount, E> {
                Err(E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Amount, E> {
                // The shortest text of the double is what the other side wrote.
                let decimal = value.to_string().parse().ok();
                decimal
                    .and_then(Amount::bounded)
                    .ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
            }
        }
        deserializer.deserialize_f64(AmountVisitor)
    }
}

impl Amount {
    /// The amount, when it is one that a report may name.
    pub fn bounded(value: Decimal) -> Option<Self> {
        let value = value.normalize();
        let digits = value.mantissa().unsigned_abs().to_string().len();
        let fits = !value.is_sign_negative()
            && value.scale() <= MAX_FRACTION_DIGITS
            && digits <= MAX_DIGITS;
        (fits || value.is_zero()).then_some(Self(value))
    }
}

/// `POST /v1/telemetry`, with the access token in the `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentTelemetryRequest)]
pub struct TelemetryRequest {
    /// The cluster.
    #[serde(deserialize_with = "cluster_id")]
    #[schema(example = "bzzz-cluster-1b9d6bcd-walnut", max_length = 128)]
    pub cluster_id: String,
    /// The job; the same job reported twice counts once.
    #[serde(deserialize_with = "wire::text")]
    #[schema(example = "job-4711", max_length = 256)]
    pub job_id: String,
    /// Amounts by metric: `tokens`, `context_operations`, `cpu_hours`, `temporal_nav_hops`, or
    /// names of the license's own.
    #[serde(deserialize_with = "metrics")]
    #[schema(example = json!({"tokens": 1200, "cpu_hours": 1.5}))]
    pub metrics: BTreeMap<String, Amount>,
}

/// Always `accepted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DeploymentAcceptedStatus)]
pub enum AcceptedStatus {
    /// The amounts are counted.
    Accepted,
}

/// 202: the amounts are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentTelemetryAnswer)]
pub struct TelemetryAnswer {
    /// Always `accepted`.
    pub status: AcceptedStatus,
    /// By metric: those reported and those with a quota.
    pub usage: BTreeMap<String, MetricUsage>,
    /// Whether more is needed soon.
    pub upgrade: Upgrade,
}

/// Use of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentMetricUsage)]
pub struct MetricUsage {
    /// Used so far.
    pub used: Amount,
    /// Included; null when without limit.
    pub quota: Option<Amount>,
    /// Left; 0 when more than the quota was used; null when without limit.
    pub remaining: Option<Amount>,
    /// Share of the quota that was used, to one place, rounded down; null when without limit.
    #[schema(example = 80.5)]
    pub percent: Option<f64>,
}

/// Whether a larger plan is advised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentUpgrade)]
pub struct Upgrade {
    /// Whether.
    pub suggested: bool,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "80 % or more of the quota is used: tokens")]
    pub reason: Option<String>,
    /// For which metrics.
    pub metrics: Vec<String>,
}

impl MetricUsage {
    /// Use against a quota.
    pub fn of(used: Decimal, quota: Option<Decimal>) -> Self {
        Self {
            used: Amount(used),
            quota: quota.map(Amount),
            remaining: quota.map(|quota| Amount((quota - used).max(Decimal::ZERO))),
            percent: quota.map(|quota| nearest_double(percent(used, quota))),
        }
    }

    fn is_near_quota(&self) -> bool {
        self.quota.is_some_and(|quota| {
            percent(self.used.0, quota.0) >= Decimal::from(UPGRADE_FROM_PERCENT)
        })
    }
}

impl TelemetryAnswer {
    /// The answer for the use there is now.
    pub fn of(usage: BTreeMap<String, MetricUsage>) -> Self {
        let near = usage.iter().filter(|(_, metric)| metric.is_near_quota());
        let metrics: Vec<String> = near.map(|(name, _)| name.clone()).collect();
        let reason = (!metrics.is_empty()).then(|| {
            format!("{UPGRADE_FROM_PERCENT} % or more of the quota is used: {}", metrics.join(", "))
        });
        let upgrade = Upgrade { suggested: reason.is_some(), reason, metrics };
        Self { status: AcceptedStatus::Accepted, usage, upgrade }
    }
}

/// Share in percent, to one place, rounded down; of a quota of nothing, everything.
fn percent(used: Decimal, quota: Decimal) -> Decimal {
    (used * Decimal::ONE_HUNDRED)
        .checked_div(quota)
        .unwrap_or(Decimal::ONE_HUNDRED)
        .trunc_with_scale(1)
        .normalize()
}

/// Whether a text can name a metric: as an identifier, and not longer than 64 characters.
pub fn is_metric(name: &str) -> bool {
    wire::is_id(name) && name.len() <= MAX_METRIC_CHARS
}

/// Reads 1 to 64 metrics, each once.
fn metrics<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Amount>, D::Error> {
    struct Metrics;
    impl<'de> Visitor<'de> for Metrics {
        type Value = BTreeMap<String, Amount>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "an object of 1 to {MAX_METRICS} amounts, each name once")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
            let mut metrics = BTreeMap::new();
            while let Some(name) = fields.next_key::<String>()? {
                if !is_metric(&name) {
                    return Err(A::Error::custom(format_args!(
                        "want names of 1 to {MAX_METRIC_CHARS} characters of A-Z a-z 0-9 . _ -"
                    )));
                }
                if metrics.insert(name, fields.next_value()?).is_some() {
                    return Err(A::Error::custom("the same metric twice"));
                }
                if metrics.len() > MAX_METRICS {
                    return Err(A::Error::invalid_length(metrics.len(), &self));
                }
            }
            if metrics.is_empty() {
                return Err(A::Error::invalid_length(0, &self));
            }
            Ok(metrics)
        }
    }
    deserializer.deserialize_map(Metrics)
}
