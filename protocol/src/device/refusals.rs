//! Why an activation, verification or trial is refused: one table of message and status.
//!
//! The messages are the reference server's, which answers all of these with status 200 and
//! `success: false`. By default ours has the statuses of the protocol's document and a body of
//! texts only ([`super::wire::FailureBody`]): the reference client reads a failed answer as a map
//! of texts. With the switch `compat = 200` the reference's form is sent
//! ([`super::wire::ActivationResponse::failure`]).
//!
//! Refusals of the ledger that the reference does not know have messages of ours, at the end.

use super::time::LicenseTime;

/// A decision against a call. The same request gets the same answer from every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No license has this key.
    UnknownKey,
    /// A product was named, and the license is of none.
    NoProduct,
    /// A product was named, and the license is of another.
    OtherProduct,
    /// The client that owns the license is banned.
    ClientBanned,
    /// The license was revoked.
    Revoked,
    /// The license has ended.
    Expired {
        /// When.
        expired_at: LicenseTime,
    },
    /// The client id is not the owner's.
    OtherClient,
    /// At verification: nobody with this address ever activated.
    UnknownEmail,
    /// Every device of the license is taken.
    TooManyDevices {
        /// How many it has.
        max_devices: u32,
    },
    /// At verification: this device was never activated, or was removed.
    UnknownDevice,
    /// The device had its trial.
    TrialUsed,
    /// Ours: the license, or the package behind it, is suspended.
    Suspended,
    /// Ours: the package behind the license is not valid yet.
    NotYetValid,
    /// Ours: every seat of the package behind the license is taken.
    NoSeat,
    /// Ours: the product has no plan for trials.
    NoTrial,
}

impl Refusal {
    /// The message, as `message` and as `error`.
    pub fn message(&self) -> String {
        match self {
            Self::UnknownKey => "Invalid license key".to_owned(),
            Self::NoProduct => "License is not associated with any product".to_owned(),
            Self::OtherProduct => "License is not valid for this product".to_owned(),
            Self::ClientBanned => "Client is banned".to_owned(),
            Self::Revoked => "License has been revoked".to_owned(),
            Self::Expired { expired_at } => format!("License expired on {}", expired_at.day()),
            Self::OtherClient => "client_id does not match license owner".to_owned(),
            Self::UnknownEmail => "email is not authorized for this license".to_owned(),
            Self::TooManyDevices { max_devices } => {
                format!("Maximum devices ({max_devices}) reached")
            }
            Self::UnknownDevice => "Device not previously activated".to_owned(),
            Self::TrialUsed => "Trial already used on this device".to_owned(),
            Self::Suspended => "License is suspended".to_owned(),
            Self::NotYetValid => "License is not valid yet".to_owned(),
            Self::NoSeat => "No seat is available for this license".to_owned(),
            Self::NoTrial => "No trial is available for this product".to_owned(),
        }
    }

    /// The HTTP status, unless `compat = 200` is on.
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownKey | Self::NoTrial => 404,
            Self::TooManyDevices { .. } | Self::TrialUsed | Self::NoSeat => 409,
            Self::NoProduct
            | Self::OtherProduct
            | Self::ClientBanned
            | Self::Revoked
            | Self::Expired { .. }
            | Self::OtherClient
            | Self::UnknownEmail
            | Self::UnknownDevice
            | Self::Suspended
            | Self::NotYetValid => 401,
        }
    }
}
