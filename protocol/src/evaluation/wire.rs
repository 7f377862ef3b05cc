//! Requests and answers of `/v1/activate` and `/v1/validate`, and of their doubled aliases
//! `/v1/validate/activate` and `/v1/validate/validate`.
//!
//! The published client appends `/activate` or `/validate` to a base address that ends in
//! `/validate` already; so the doubled paths are served, and our client takes the end off. It also
//! fails on a `server_time` that is no JSON number, and looks at nothing but `ok` when the status
//! is 200. Unknown fields are ignored.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::identity::HostHash;
use super::license_file::LicenseFile;
use super::refusal::RefusalReason;
use crate::secret::Disclosed;
use crate::wire;

/// The four paths of the server: path, and whether it activates.
pub const PATHS: [(&str, bool); 4] = [
    ("/v1/activate", true),
    ("/v1/validate", false),
    ("/v1/validate/activate", true),
    ("/v1/validate/validate", false),
];

/// A time as these programs write it: Unix seconds with a fraction, as a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(as = EvaluationEpochSeconds, value_type = f64, example = 1_795_325_574.199)]
pub struct EpochSeconds(i64);

impl EpochSeconds {
    /// The time of Unix milliseconds.
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        Self(unix_ms)
    }

    /// The time in Unix milliseconds.
    pub fn unix_ms(self) -> i64 {
        self.0
    }

    /// Seconds with a fraction: exact, for every date that milliseconds of 53 bits reach.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1_000.0
    }
}

impl Serialize for EpochSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.seconds())
    }
}

impl<'de> Deserialize<'de> for EpochSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = EpochSeconds;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("Unix seconds as a number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<EpochSeconds, E> {
                value
                    .checked_mul(1_000)
                    .filter(|unix_ms| unix_ms.unsigned_abs() < MAX_UNIX_MS)
                    .map(EpochSeconds)
                    .ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<EpochSeconds, E> {
                i64::try_from(value)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
                    .and_then(|value| self.visit_i64(value))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<EpochSeconds, E> {
                let unix_ms = (value * 1_000.0).round();
                if unix_ms.abs() < MAX_UNIX_MS as f64 {
                    Ok(EpochSeconds(unix_ms as i64))
                } else {
                    Err(E::invalid_value(Unexpected::Float(value), &self))
                }
            }
        }
        deserializer.deserialize_f64(Seconds)
    }
}

/// `POST /v1/activate`
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = EvaluationActivateRequest)]
pub struct ActivateRequest {
    /// Version of the software.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[schema(example = "2.0.0", max_length = 256)]
    pub version: Option<String>,
    /// Always `evaluation` so far.
    #[serde(default, rename = "type", deserialize_with = "wire::optional_text")]
    #[schema(example = "evaluation", max_length = 256)]
    pub kind: Option<String>,
    /// The client's clock.
    #[serde(default)]
    pub timestamp: Option<EpochSeconds>,
    /// Which host, hashed.
    pub hostname_hash: HostHash,
    /// The code, where the evaluation needs one.
    #[serde(default)]
    pub activation_code: Option<Disclosed>,
    /// Which organisation; no person.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[schema(example = "org-12345", max_length = 256)]
    pub org_id: Option<String>,
    /// Which project.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[schema(example = "project-atlas-v2", max_length = 256)]
    pub project_id: Option<String>,
}

/// `POST /v1/validate`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = EvaluationValidateRequest)]
pub struct ValidateRequest {
    /// The activation. Any text: one that is not of ours is an unknown activation and no error.
    #[serde(deserialize_with = "wire::text")]
    #[schema(example = "act-0f1e2d3c4b5a69788796a5b4c3d2e1f0", max_length = 256)]
    pub activation_id: String,
    /// Which host, hashed.
    pub hostname_hash: HostHash,
    /// Which organisation.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[schema(example = "org-12345", max_length = 256)]
    pub org_id: Option<String>,
    /// Which project.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[schema(example = "project-atlas-v2", max_length = 256)]
    pub project_id: Option<String>,
    /// The client's clock.
    #[serde(default)]
    pub timestamp: Option<EpochSeconds>,
}

/// The answer to both, granted or refused; always HTTP 200.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = EvaluationAnswer)]
pub struct Answer {
    /// Whether the program may run.
    pub ok: bool,
    /// The server's clock; ours always tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<EpochSeconds>,
    /// The activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "act-0f1e2d3c4b5a69788796a5b4c3d2e1f0")]
    pub activation_id: Option<String>,
    /// Its organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// Its project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "evaluation")]
    pub plan: Option<String>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<EpochSeconds>,
    /// Activation only: the license file, signed by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<LicenseFile>,
    /// Carries the program through an outage, where policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_token: Option<Disclosed>,
    /// Refused: whether for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,
    /// Refused: why; a reason that this release does not know is read as none.
    #[serde(default, deserialize_with = "known_reason", skip_serializing_if = "Option::is_none")]
    pub reason: Option<RefusalReason>,
    /// Refused: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "License revoked")]
    pub error: Option<String>,
}

/// An activation that is in force, as answers tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationDetails {
    /// Its id.
    pub activation_id: String,
    /// Its organisation.
    pub org_id: Option<String>,
    /// Its project.
    pub project_id: Option<String>,
    /// Its plan.
    pub plan: String,
    /// When it ends.
    pub expires_at: EpochSeconds,
}

impl Answer {
    /// The program may run.
    pub fn granted(
        details: ActivationDetails,
        server_time: EpochSeconds,
        license: Option<LicenseFile>,
        offline_token: Option<Disclosed>,
    ) -> Self {
        Self {
            ok: true,
            server_time: Some(server_time),
            activation_id: Some(details.activation_id),
            org_id: details.org_id,
            project_id: details.project_id,
            plan: Some(details.plan),
            expires_at: Some(details.expires_at),
            license,
            offline_token,
            revoked: None,
            reason: None,
            error: None,
        }
    }

    /// The program may not run.
    pub fn refused(reason: RefusalReason, server_time: EpochSeconds) -> Self {
        Self {
            ok: false,
            server_time: Some(server_time),
            activation_id: None,
            org_id: None,
            project_id: None,
            plan: None,
            expires_at: None,
            license: None,
            offline_token: None,
            revoked: Some(reason.is_revoked()),
            reason: Some(reason),
            error: Some(reason.text().to_owned()),
        }
    }
}

/// The address that `/activate` and `/validate` are appended to: the configured one without a
/// slash, and without one of those two words, at its end.
pub fn base_url(configured: &str) -> &str {
    let base = configured.trim().trim_end_matches('/');
    base.strip_suffix("/validate")
        .or_else(|| base.strip_suffix("/activate"))
        .unwrap_or(base)
        .trim_end_matches('/')
}

/// Reads a reason that may be absent or new.
fn known_reason<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RefusalReason>, D::Error> {
    let code = Option::<String>::deserialize(deserializer)?;
    Ok(code.and_then(|code| RefusalReason::from_code(&code)))
}

/// 2^53: from here on a double has no milliseconds.
const MAX_UNIX_MS: u64 = 1 << 53;
