//! Trials: whether a device may have one, and taking it.
//!
//! The reference's client and server do not understand each other here: each refuses or misreads
//! the other's fields. We read both sets of fields and answer with the union, so that both sides'
//! clients work. A field of neither is refused, as the reference server refuses it.
//!
//! What it leaves to others: one trial for each device, for ever (`lease`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::fingerprint::is_fingerprint;
use super::payload::{LicenseData, neutral};
use super::time::{self, LicenseTime};
use super::wire::{self, ActivationResponse, MAX_BODY_BYTES, RequestFault};
use crate::cloud::body;
use crate::wire::is_text;

/// Days of a trial when neither request nor plan says so.
pub const DEFAULT_TRIAL_DAYS: u32 = 14;
/// No trial is longer.
pub const MAX_TRIAL_DAYS: u32 = 366;
/// Longest URL that is passed on.
pub const MAX_URL_CHARS: usize = 2_048;

/// `POST /api/trial/check`, or its query with `GET`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[schema(as = DeviceTrialCheckRequest)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrialCheckRequest {
    /// What the device is known by.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(pattern = "^[A-Za-z0-9_-]{16,128}$")]
    pub device_fingerprint: String,
    /// The product, by id or short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
}

/// A question that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialCheckCall {
    /// What the device is known by.
    pub fingerprint: String,
    /// The product, by id or short name.
    pub product: Option<String>,
}

impl TrialCheckRequest {
    /// Reads a body and checks it.
    pub fn read(body: &[u8]) -> Result<TrialCheckCall, RequestFault> {
        decode::<Self>(body)?.check()
    }

    /// Checks a question that came as a query.
    pub fn check(self) -> Result<TrialCheckCall, RequestFault> {
        if !is_fingerprint(&self.device_fingerprint) {
            return Err(RequestFault::Fingerprint);
        }
        let product = wire::product(self.product_id.as_deref())?;
        Ok(TrialCheckCall { fingerprint: self.device_fingerprint, product })
    }
}

/// Whether a device may have a trial: what the reference's server says, then what its client reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceTrialCheckResponse)]
pub struct TrialCheckResponse {
    /// What the device is known by.
    pub device_fingerprint: String,
    /// Whether it had its trial.
    #[serde(default)]
    pub trial_used: bool,
    /// Whether it may have one.
    #[serde(default)]
    pub eligible_for_trial: bool,
    /// When its trial began.
    #[serde(default, deserialize_with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub trial_started_at: Option<LicenseTime>,
    /// When its trial ends or ended.
    #[serde(default, deserialize_with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub trial_expires_at: Option<LicenseTime>,
    /// Whether its trial has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_expired: Option<bool>,
    /// The same as `eligible_for_trial`.
    #[serde(default)]
    pub eligible: bool,
    /// The same as `trial_used`.
    #[serde(default)]
    pub has_used_trial: bool,
    /// For people.
    #[serde(default, deserialize_with = "neutral")]
    pub message: String,
    /// Where to buy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_url: Option<String>,
}

/// A trial that a device had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastTrial {
    /// When it began.
    pub started_at: LicenseTime,
    /// When it ends or ended.
    pub expires_at: LicenseTime,
}

impl TrialCheckResponse {
    /// The answer for a device, at a time; `offered` is whether the product has trials at all.
    pub fn new(fingerprint: &str, past: Option<PastTrial>, offered: bool, now_ms: i64) -> Self {
        let eligible = past.is_none() && offered;
        let expired = past.map(|trial| now_ms >= trial.expires_at.unix_ms());
        let message = match (past, expired) {
            (None, _) if eligible => "Device is eligible for a trial",
            (None, _) => "No trial is available for this product",
            (Some(_), Some(true)) => "Trial has expired",
            (Some(_), _) => "Trial already used on this device",
        };
        Self {
            device_fingerprint: fingerprint.to_owned(),
            trial_used: past.is_some(),
            eligible_for_trial: eligible,
            trial_started_at: past.map(|trial| trial.started_at),
            trial_expires_at: past.map(|trial| trial.expires_at),
            trial_expired: expired,
            eligible,
            has_used_trial: past.is_some(),
            message: message.to_owned(),
            subscription_url: None,
        }
    }
}

/// `POST /api/trial`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceTrialRequest)]
#[serde(deny_unknown_fields)]
pub struct TrialRequest {
    /// Who tries.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = "owner@example.com", max_length = 256)]
    pub email: String,
    /// What the device is known by.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(pattern = "^[A-Za-z0-9_-]{16,128}$")]
    pub device_fingerprint: String,
    /// The product, by id or short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// The plan, by id or short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// How many days; absent or 0 is for the plan to say.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "none_asked")]
    #[schema(maximum = 366)]
    pub trial_duration_days: i64,
    /// The same, as the reference client writes it.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "none_asked")]
    #[schema(maximum = 366)]
    pub trial_days: i64,
    /// Where to buy; comes back in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_url: Option<String>,
    /// Read and not kept.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

fn none_asked(days: &i64) -> bool {
    *days == 0
}

/// A request for a trial that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialCall {
    /// Who tries, trimmed.
    pub email: String,
    /// What the device is known by.
    pub fingerprint: String,
    /// The product, by id or short name.
    pub product: Option<String>,
    /// The plan, by id or short name.
    pub plan: Option<String>,
    /// How many days were asked for: 1 to [`MAX_TRIAL_DAYS`]; none is for the plan to say, and
    /// [`DEFAULT_TRIAL_DAYS`] where it does not.
    pub days: Option<u32>,
    /// Where to buy.
    pub subscription_url: Option<String>,
}

impl TrialRequest {
    /// Reads a body and checks it.
    pub fn read(body: &[u8]) -> Result<TrialCall, RequestFault> {
        decode::<Self>(body)?.check()
    }

    fn check(self) -> Result<TrialCall, RequestFault> {
        let email = wire::email(&self.email)?;
        if !is_fingerprint(&self.device_fingerprint) {
            return Err(RequestFault::Fingerprint);
        }
        let product = wire::product(self.product_id.as_deref())?;
        let plan = wire::product(self.plan_id.as_deref())?;
        let asked = [self.trial_duration_days, self.trial_days].into_iter().find(|days| *days != 0);
        let days = asked
            .map(u32::try_from)
            .transpose()
            .ok()
            .filter(|days| days.is_none_or(|days| days <= MAX_TRIAL_DAYS))
            .ok_or(RequestFault::TrialDays)?;
        let subscription_url = self.subscription_url.filter(|url| !url.is_empty());
        if !subscription_url.as_deref().is_none_or(is_web_url) {
            return Err(RequestFault::SubscriptionUrl);
        }
        let fingerprint = self.device_fingerprint;
        Ok(TrialCall { email, fingerprint, product, plan, days, subscription_url })
    }
}

/// A trial that began: an activation answer, and beside it the license in the clear.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceTrialResponse)]
pub struct TrialResponse {
    /// What an activation answers.
    #[serde(flatten)]
    pub activation: ActivationResponse,
    /// The license.
    pub license: LicenseData,
    /// Always false in a success.
    #[serde(default)]
    pub already_used: bool,
    /// Where to buy, as asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_url: Option<String>,
}

impl TrialResponse {
    /// The body's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::json_line(self)
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, RequestFault> {
    if bytes.len() > MAX_BODY_BYTES {
        return Err(RequestFault::Unreadable);
    }
    body::decode(bytes).map_err(|_| RequestFault::Body)
}

fn is_web_url(url: &str) -> bool {
    is_text(url, MAX_URL_CHARS)
        && (url.starts_with("https://") || url.starts_with("http://"))
        && !url.contains(char::is_whitespace)
}
