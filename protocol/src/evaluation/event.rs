//! What stands in the log about licenses: three events, the same on both sides.
//!
//! Organisation, project and activation are named; hosts and people never.

use serde::Serialize;

use super::message::Rejection;
use super::wire::EpochSeconds;

/// How loud an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It went well.
    Info,
    /// It did not.
    Warning,
    /// Somebody may have tampered with a license file.
    Error,
}

/// Which activation an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// The activation.
    pub activation_id: Option<String>,
    /// Its organisation.
    pub org_id: Option<String>,
    /// Its project.
    pub project_id: Option<String>,
}

/// An event; as JSON, `event` names its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LicenseEvent {
    /// An activation was tried.
    LicenseActivation {
        /// Whether it worked.
        success: bool,
        /// Why not; `activated` when it did.
        reason: String,
        /// About what.
        #[serde(flatten)]
        subject: Subject,
        /// When.
        timestamp: EpochSeconds,
    },
    /// A license was looked at.
    LicenseValidation {
        /// Whether it is good.
        success: bool,
        /// Why not; how it was found good when it is.
        reason: String,
        /// About what.
        #[serde(flatten)]
        subject: Subject,
        /// When.
        timestamp: EpochSeconds,
    },
    /// A program was stopped from running.
    LicenseRejection {
        /// Why.
        reason: String,
        /// About what.
        #[serde(flatten)]
        subject: Subject,
        /// When.
        timestamp: EpochSeconds,
    },
}

impl LicenseEvent {
    /// The event of a rejection on the client's side.
    pub fn rejection(rejection: &Rejection, subject: Subject, timestamp: EpochSeconds) -> Self {
        let reason = rejection.reason().to_owned();
        Self::LicenseRejection { reason, subject, timestamp }
    }

    /// The event's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LicenseActivation { .. } => "license_activation",
            Self::LicenseValidation { .. } => "license_validation",
            Self::LicenseRejection { .. } => "license_rejection",
        }
    }

    /// How loud it is.
    pub fn level(&self) -> Level {
        match self {
            Self::LicenseActivation { success: true, .. }
            | Self::LicenseValidation { success: true, .. } => Level::Info,
            Self::LicenseRejection { reason, .. } if reason == "invalid_signature" => Level::Error,
            _ => Level::Warning,
        }
    }
}
