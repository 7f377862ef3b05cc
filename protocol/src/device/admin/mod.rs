//! The `device` protocol's admin API, under `X-API-Key`.
//!
//! Names and forms are the reference server's, so that its tools work; unknown fields of requests
//! are errors, as there. Where ours adds a field it says *extension*. Three differences are meant:
//! a license key is shown once and a hint of it afterwards, a license names the package that its
//! seats come from, and `each_execution` can be asked for.
//!
//! | module | calls |
//! |---|---|
//! | [`client`] | clients, bans, admin users, API keys |
//! | [`license`] | licenses, activations, subscriptions |
//! | [`catalog`] | products with plans, features and scopes; entitlements |
//! | [`catalog_requests`] | what may be changed of them |
//!
//! What it leaves to others: routes and roles (`node`).

pub mod catalog;
pub mod catalog_requests;
pub mod client;
pub mod license;

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::payload::neutral;
use super::wire::FailureBody;
use crate::cloud::body::{self, BodyError};
use crate::wire::{MAX_TEXT_CHARS, is_text};

/// No admin request is longer.
pub const MAX_ADMIN_BODY_BYTES: usize = 256 * 1024;
/// Most entries of a `metadata` object.
pub const MAX_METADATA_ENTRIES: usize = 64;
/// Longest description or URL.
pub const MAX_DESCRIPTION_CHARS: usize = 2_048;

/// Why an admin request is not carried out. The answer is `{"error": MESSAGE}`.
#[derive(Debug, Error)]
pub enum AdminFault {
    /// Longer than any.
    #[error("Request body too large")]
    TooLong,
    /// Not JSON, a wrong type, or a field that there is not.
    #[error("Invalid request body: {0}")]
    Body(#[from] BodyError),
    /// A field that must be there, or hold another value.
    #[error("{0}")]
    Field(&'static str),
    /// Nothing of this kind has this id or short name.
    #[error("{0} not found")]
    NotFound(Kind),
    /// Something of this kind has this name.
    #[error("{0} already exists")]
    Exists(Kind),
}

/// What the admin API deals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client.
    Client,
    /// A license.
    License,
    /// A product.
    Product,
    /// A plan.
    Plan,
    /// A feature.
    Feature,
    /// A scope.
    Scope,
    /// A feature of a plan.
    PlanFeature,
    /// A subscription.
    Subscription,
    /// An admin user.
    User,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::License => "license",
            Self::Product => "product",
            Self::Plan => "plan",
            Self::Feature => "feature",
            Self::Scope => "scope",
            Self::PlanFeature => "plan feature",
            Self::Subscription => "subscription",
            Self::User => "user",
        })
    }
}

impl AdminFault {
    /// The HTTP status. A client that exists is 400, as in the reference; the rest of what exists
    /// is 409.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLong | Self::Body(_) | Self::Field(_) => 400,
            Self::Exists(Kind::Client | Kind::User) => 400,
            Self::NotFound(_) => 404,
            Self::Exists(_) => 409,
        }
    }

    /// The answer's body.
    pub fn body(&self) -> FailureBody {
        FailureBody::error_only(&self.to_string())
    }
}

/// What a request must be beyond the types of its fields.
pub trait AdminRequest: DeserializeOwned {
    /// Looks at values together: what is required, what excludes what.
    fn check(&self) -> Result<(), AdminFault>;
}

/// Reads and checks a request.
pub fn read<T: AdminRequest>(bytes: &[u8]) -> Result<T, AdminFault> {
    if bytes.len() > MAX_ADMIN_BODY_BYTES {
        return Err(AdminFault::TooLong);
    }
    let request: T = body::decode(bytes)?;
    request.check()?;
    Ok(request)
}

/// Why something is done: the body of ban, unban, revoke and reinstate; it may be left out
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceReasonRequest)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// For people.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(example = "invoice 4711 is open", max_length = 256)]
    pub reason: String,
}

impl AdminRequest for ReasonRequest {
    fn check(&self) -> Result<(), AdminFault> {
        Ok(())
    }
}

impl ReasonRequest {
    /// Reads a body that may be empty.
    pub fn read(bytes: &[u8]) -> Result<Self, AdminFault> {
        if bytes.trim_ascii().is_empty() { Ok(Self::default()) } else { read(bytes) }
    }
}

/// What was done, for calls that have nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceMessage)]
pub struct Message {
    /// For people.
    #[schema(example = "product deleted")]
    pub message: String,
}

impl Message {
    /// Something of a kind was deleted.
    pub fn deleted(kind: Kind) -> Self {
        Self { message: format!("{kind} deleted") }
    }
}

/// Reads a text of at most 256 characters that may be null or empty; blanks around it go.
fn free_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    bounded(deserializer, MAX_TEXT_CHARS)
}

/// Reads a text of at most 2,048 characters that may be null or empty; blanks around it go.
fn long_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    bounded(deserializer, MAX_DESCRIPTION_CHARS)
}

fn bounded<'de, D: Deserializer<'de>>(
    deserializer: D,
    max_chars: usize,
) -> Result<String, D::Error> {
    let text: String = neutral(deserializer)?;
    let text = text.trim();
    if text.is_empty() || is_text(text, max_chars) {
        Ok(text.to_owned())
    } else {
        Err(serde::de::Error::custom(format_args!(
            "want at most {max_chars} characters without control characters"
        )))
    }
}

/// Reads a short name: what may stand in a URL's path, or nothing.
fn slug<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = free_text(deserializer)?;
    if text.is_empty() || crate::wire::is_id(&text) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom(format_args!(
            "want at most {} characters of A-Z a-z 0-9 . _ -, the first a letter or digit",
            crate::wire::MAX_ID_CHARS
        )))
    }
}

/// Reads texts by name.
fn metadata<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let entries: BTreeMap<String, String> = neutral(deserializer)?;
    let fits = |(name, value): (&String, &String)| {
        is_text(name, MAX_TEXT_CHARS) && (value.is_empty() || is_text(value, MAX_TEXT_CHARS))
    };
    if entries.len() <= MAX_METADATA_ENTRIES && entries.iter().all(fits) {
        Ok(entries)
    } else {
        Err(serde::de::Error::custom(format_args!(
            "want at most {MAX_METADATA_ENTRIES} texts of at most {MAX_TEXT_CHARS} characters"
        )))
    }
}

/// Reads texts by name that may be absent or null, which leave what is there.
fn optional_metadata<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Entries(BTreeMap<String, String>);
    impl<'de> Deserialize<'de> for Entries {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            metadata(deserializer).map(Self)
        }
    }
    Ok(Option::<Entries>::deserialize(deserializer)?.map(|Entries(entries)| entries))
}
