//! What the log says of evaluations: three structured events with stable names.
//!
//! | event | when |
//! |---|---|
//! | `license_activation` | each activation, granted or not |
//! | `license_validation` | each validation, granted or not |
//! | `license_rejection` | beside either, when a program was kept from running |
//!
//! They name organisation, project and activation; no address and no host, not even by its hash.

use protocol::evaluation::event::{Level, LicenseEvent, Subject};
use protocol::evaluation::wire::EpochSeconds;

/// What was asked, and about what.
pub(super) enum Asked {
    /// An activation.
    Activation(Subject),
    /// A validation.
    Validation(Subject),
}

impl Asked {
    /// Logs that it was granted to an activation.
    pub(super) fn granted(&self, subject: &Subject, timestamp: EpochSeconds) {
        let reason = match self {
            Self::Activation(_) => "activated",
            Self::Validation(_) => "valid",
        };
        self.log(true, reason, subject, timestamp);
    }

    /// Logs that it was refused.
    pub(super) fn refused(&self, reason: &str, timestamp: EpochSeconds) {
        let (Self::Activation(subject) | Self::Validation(subject)) = self;
        self.log(false, reason, subject, timestamp);
        let (reason, subject) = (reason.to_owned(), subject.clone());
        write(&LicenseEvent::LicenseRejection { reason, subject, timestamp });
    }

    fn log(&self, success: bool, reason: &str, subject: &Subject, timestamp: EpochSeconds) {
        let (reason, subject) = (reason.to_owned(), subject.clone());
        write(&match self {
            Self::Activation(_) => {
                LicenseEvent::LicenseActivation { success, reason, subject, timestamp }
            }
            Self::Validation(_) => {
                LicenseEvent::LicenseValidation { success, reason, subject, timestamp }
            }
        });
    }
}

fn write(event: &LicenseEvent) {
    let (success, reason, subject, timestamp) = match event {
        LicenseEvent::LicenseActivation { success, reason, subject, timestamp }
        | LicenseEvent::LicenseValidation { success, reason, subject, timestamp } => {
            (Some(*success), reason, subject, timestamp)
        }
        LicenseEvent::LicenseRejection { reason, subject, timestamp } => {
            (None, reason, subject, timestamp)
        }
    };
    macro_rules! emit {
        ($level:ident) => {
            tracing::event!(
                target: "leasehold::evaluation",
                tracing::Level::$level,
                event = event.name(),
                success,
                reason = reason.as_str(),
                activation_id = subject.activation_id.as_deref(),
                org_id = subject.org_id.as_deref(),
                project_id = subject.project_id.as_deref(),
                timestamp = timestamp.seconds(),
            )
        };
    }
    match event.level() {
        Level::Info => emit!(INFO),
        Level::Warning => emit!(WARN),
        Level::Error => emit!(ERROR),
    }
}
