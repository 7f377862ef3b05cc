//! Every refusal of this face: its status and its `detail`.
//!
//! Clients treat 409 as "no license free" and everything else as an error, so an unknown tool is
//! 409 as well. (Fields that are missing or wrong are 422: [`super::validation`].)

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::signature::SecurityFailure;

/// A refused call; the texts are the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Every seat is out, or there is no such tool; names the tool.
    #[error("No licenses available for {0}")]
    NoLicenses(String),
    /// A key that is not in force.
    #[error("Invalid API key")]
    InvalidApiKey,
    /// The signed headers are not believed.
    #[error("Security validation failed: {0}")]
    Security(#[source] SecurityFailure),
    /// The budget of the month is spent.
    #[error("Customer max spend reached for this period")]
    MaxSpend,
    /// No borrow of that id is in force.
    #[error("Borrow record not found")]
    BorrowNotFound,
    /// No such tool; for looking only.
    #[error("Tool not found")]
    ToolNotFound,
    /// No such API key.
    #[error("API key not found")]
    KeyNotFound,
    /// An administrator's call without credentials.
    #[error("Missing Authorization header")]
    MissingAuthorization,
    /// An administrator's call with wrong credentials.
    #[error("Invalid admin API key")]
    InvalidAdminKey,
    /// A return by id alone, where that is switched off.
    #[error("Returning needs the API key of the borrow")]
    ReturnNeedsKey,
    /// Too many calls.
    #[error("Too many requests")]
    TooManyRequests,
    /// The server cannot decide now.
    #[error("Service unavailable")]
    Unavailable,
}

/// The body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicDetail)]
pub struct Detail {
    /// What is wrong.
    #[schema(example = "No licenses available for CAN Bus Analyzer Pro")]
    pub detail: String,
}

impl Refusal {
    /// The HTTP status.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::NoLicenses(_) => 409,
            Self::MissingAuthorization => 401,
            Self::InvalidApiKey
            | Self::Security(_)
            | Self::MaxSpend
            | Self::InvalidAdminKey
            | Self::ReturnNeedsKey => 403,
            Self::BorrowNotFound | Self::ToolNotFound | Self::KeyNotFound => 404,
            Self::TooManyRequests => 429,
            Self::Unavailable => 503,
        }
    }

    /// The body.
    pub fn body(&self) -> Detail {
        Detail { detail: self.to_string() }
    }
}
