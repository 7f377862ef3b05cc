//! Why a program may not run: the reason for the log and the sentence for people.
//!
//! Every sentence starts with the document's phrase and goes on with what to do about it.

use thiserror::Error;

/// Why a program may not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejection {
    /// There is no license file, and none could be got.
    #[error("License not activated. Please activate your evaluation license.")]
    NotActivated,
    /// The server refused to activate; its text, bounded.
    #[error("License not activated. Activation failed: {0}")]
    ActivationFailed(String),
    /// The license's end is more than six hours past.
    #[error(
        "License expired. Evaluation period ended. Contact licensing@edon.ai for production \
         licensing."
    )]
    Expired,
    /// The license file says so.
    #[error("License revoked. Please contact support@edon.ai")]
    Revoked,
    /// The server says so.
    #[error("License revoked by server. Please contact support@edon.ai")]
    RevokedByServer,
    /// The server says that it is suspended.
    #[error("License suspended. Please contact support@edon.ai")]
    Suspended,
    /// The server does not accept the activation of this host or project; its text, bounded.
    #[error("License not activated. The activation server refused: {0}")]
    RefusedByServer(String),
    /// The license file does not match its signature, or is none.
    #[error("Invalid signature. The license file was changed or is damaged; activate again.")]
    InvalidSignature,
    /// The key that signed the file is not known, or not accepted any more.
    #[error("Unsupported key version: {0}")]
    UnsupportedKeyVersion(String),
    /// The server answered with errors for more than a day.
    #[error(
        "Server unreachable for extended period. The activation server has given no answer for \
         more than 24 hours."
    )]
    ServerUnreachable,
    /// No connection to the server for more than a day.
    #[error(
        "Server unreachable. Cannot reach activation server for more than 24 hours; check the \
         network connection."
    )]
    NetworkUnreachable,
}

impl Rejection {
    /// The reason in `license_rejection` events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotActivated => "not_activated",
            Self::ActivationFailed(_) => "activation_failed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::RevokedByServer => "revoked_by_server",
            Self::Suspended => "suspended",
            Self::RefusedByServer(_) => "refused_by_server",
            Self::InvalidSignature => "invalid_signature",
            Self::UnsupportedKeyVersion(_) => "unsupported_key_version",
            Self::ServerUnreachable => "server_unreachable_extended",
            Self::NetworkUnreachable => "network_error_extended",
        }
    }

    /// What a closed gate answers: `detail` of a 403, details of `PERMISSION_DENIED`, `error` on a
    /// socket.
    pub fn gate_text(&self) -> String {
        format!("License validation failed: {self}")
    }
}
