//! Operator tokens: who may run the cluster, and as what.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::secret::Disclosed;
use crate::wire::{self, UtcTime};

/// Longest life of a token with an end: ten years.
pub const MAX_OPERATOR_LIFETIME_S: u64 = 10 * 366 * 24 * 3600;
/// Longest name of a token.
pub const MAX_OPERATOR_NAME_CHARS: usize = 128;
/// How names begin that belong to API keys of the device protocol's admin tools.
pub const API_KEY_PREFIX: &str = "api-key/";

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperatorRole {
    /// Reads everything, changes nothing.
    Auditor,
    /// Runs the cluster and its leases.
    Operator,
    /// Everything, identities and keys included.
    Admin,
}

/// `POST /admin/operators`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddOperatorRequest {
    /// Who is to hold the token; for people.
    #[serde(deserialize_with = "name")]
    #[schema(example = "night shift", min_length = 1, max_length = 128)]
    pub name: String,
    /// What it allows.
    pub role: OperatorRole,
    /// Seconds until it ends, at most ten years; never when left out.
    #[serde(default, deserialize_with = "lifetime")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 604_800, minimum = 1, maximum = 316_224_000)]
    pub expires_in: Option<u64>,
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if !wire::is_text(&text, MAX_OPERATOR_NAME_CHARS) {
        return Err(serde::de::Error::custom(format_args!(
            "want 1 to {MAX_OPERATOR_NAME_CHARS} characters without control characters"
        )));
    }
    if text.starts_with(API_KEY_PREFIX) {
        return Err(serde::de::Error::custom(format_args!(
            "names that begin with {API_KEY_PREFIX:?} belong to API keys"
        )));
    }
    Ok(text)
}

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(seconds) if !(1..=MAX_OPERATOR_LIFETIME_S).contains(&seconds) => {
            Err(serde::de::Error::custom(format_args!("want 1 to {MAX_OPERATOR_LIFETIME_S}")))
        }
        seconds => Ok(seconds),
    }
}

/// A token; never the text of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperatorView {
    /// Its name in the log.
    #[schema(example = "operator-00000000c0ffee00")]
    pub operator_id: String,
    /// Who holds it.
    #[schema(example = "night shift")]
    pub name: String,
    /// What it allows.
    pub role: OperatorRole,
    /// When it ends; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcTime>,
    /// Whether it has ended by itself.
    pub expired: bool,
    /// Whether it is an API key of the device protocol's admin tools.
    pub api_key: bool,
}

/// A new token, shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AddOperatorResponse {
    /// The token, shown this once.
    pub token: Disclosed,
    /// What it is.
    pub operator: OperatorView,
}

/// `GET /admin/operators`: tokens in order of id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperatorList {
    /// One page.
    pub operators: Vec<OperatorView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
