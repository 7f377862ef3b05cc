//! Why a call is refused: one table of status, code and sentence.
//!
//! Clients decide by the status first and by the code after it ([`super::client`]); the sentences
//! are the document's where it has one, and programs search them for `stale token_version`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::UtcTime;

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A body that is no request; the text says what is wrong.
    InvalidRequest(String),
    /// No license has this key.
    UnknownKey,
    /// No token, or none of ours, or one that ended.
    InvalidToken,
    /// The cluster holds no slot: deactivated, or not heard for too long.
    NotActivated,
    /// The token is of an older version than the license's.
    StaleTokenVersion,
    /// Suspended by an operator, until resumed.
    Suspended,
    /// Cancelled for good.
    Cancelled,
    /// The license's end has come.
    Expired {
        /// When.
        at: UtcTime,
    },
    /// The license's validity has not begun.
    NotYetValid {
        /// When it will.
        at: UtcTime,
    },
    /// More nodes than the license allows.
    NodeLimitExceeded {
        /// How many there are.
        nodes: u32,
        /// How many there may be.
        max_nodes: u32,
    },
    /// Another cluster holds the slot.
    SlotInUse {
        /// When the slot comes free if that cluster is not heard again.
        available_at: UtcTime,
        /// Seconds until then.
        retry_after_seconds: u64,
    },
    /// Every seat of the package behind the license is out.
    NoSeat {
        /// When one may come free, where that is known.
        available_at: Option<UtcTime>,
    },
    /// Too many calls, or too many wrong keys.
    TooManyRequests {
        /// When to call again.
        retry_after_seconds: u64,
    },
    /// The server cannot decide now.
    Unavailable {
        /// When to call again.
        retry_after_seconds: u64,
    },
}

/// The body of a refused call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentErrorBody)]
pub struct ErrorBody {
    /// The code.
    #[schema(example = "cluster_slot_in_use")]
    pub error: String,
    /// For people.
    #[schema(example = "license is in use by another cluster")]
    pub message: String,
    /// When a slot comes free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_at: Option<UtcTime>,
    /// When to call again; also in the `Retry-After` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl Refusal {
    /// The HTTP status.
    pub fn http_status(&self) -> u16 {
        match self {
            Self::InvalidRequest(_) => 400,
            Self::InvalidToken | Self::NotActivated | Self::StaleTokenVersion => 401,
            Self::Suspended
            | Self::Cancelled
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::NodeLimitExceeded { .. } => 403,
            Self::UnknownKey => 404,
            Self::SlotInUse { .. } | Self::NoSeat { .. } => 409,
            Self::TooManyRequests { .. } => 429,
            Self::Unavailable { .. } => 503,
        }
    }

    /// The wire code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::UnknownKey => "unknown_license_key",
            Self::InvalidToken | Self::NotActivated => "invalid_token",
            Self::StaleTokenVersion => "stale_token_version",
            Self::Suspended => "license_suspended",
            Self::Cancelled => "license_cancelled",
            Self::Expired { .. } => "license_expired",
            Self::NotYetValid { .. } => "license_not_yet_valid",
            Self::NodeLimitExceeded { .. } => "node_limit_exceeded",
            Self::SlotInUse { .. } | Self::NoSeat { .. } => "cluster_slot_in_use",
            Self::TooManyRequests { .. } => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// The sentence for people.
    pub fn message(&self) -> String {
        match self {
            Self::InvalidRequest(what) => what.clone(),
            Self::UnknownKey => "no license has this key".to_owned(),
            Self::InvalidToken => "the access token is missing, wrong or over".to_owned(),
            Self::NotActivated => "the cluster is not activated; activate again".to_owned(),
            Self::StaleTokenVersion => "stale token_version; activate again".to_owned(),
            Self::Suspended => "license is suspended".to_owned(),
            Self::Cancelled => "license is cancelled".to_owned(),
            Self::Expired { at } => format!("license expired on {}", date(*at)),
            Self::NotYetValid { at } => format!("license begins on {}", date(*at)),
            Self::NodeLimitExceeded { nodes, max_nodes } => node_limit_text(*nodes, *max_nodes),
            Self::SlotInUse { .. } => "license is in use by another cluster".to_owned(),
            Self::NoSeat { .. } => "every seat of the license's package is in use".to_owned(),
            Self::TooManyRequests { .. } => "too many requests; call again later".to_owned(),
            Self::Unavailable { .. } => "the server cannot decide now; call again".to_owned(),
        }
    }

    /// The body.
    pub fn body(&self) -> ErrorBody {
        let (available_at, retry_after_seconds) = match self {
            Self::SlotInUse { available_at, retry_after_seconds } => {
                (Some(*available_at), Some(*retry_after_seconds))
            }
            Self::NoSeat { available_at } => (*available_at, None),
            Self::TooManyRequests { retry_after_seconds }
            | Self::Unavailable { retry_after_seconds } => (None, Some(*retry_after_seconds)),
            _ => (None, None),
        };
        ErrorBody {
            error: self.code().to_owned(),
            message: self.message(),
            available_at,
            retry_after_seconds,
        }
    }
}

/// What a cluster with too many nodes is told, by server and client alike.
pub fn node_limit_text(nodes: u32, max_nodes: u32) -> String {
    format!("cluster has {nodes} nodes but license only allows {max_nodes} nodes")
}

/// The day of a time, `YYYY-MM-DD`.
pub(super) fn date(time: UtcTime) -> String {
    time.to_string().chars().take(10).collect()
}
