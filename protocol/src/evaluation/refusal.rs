//! Why an activation or validation is refused.
//!
//! A refusal is HTTP 200 with `ok: false`: the published client takes every other status for a
//! server that cannot be reached, and then runs for another day. `revoked` is true only for what
//! is final; everything else may be lifted, and our clients do not mark the file for it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

macro_rules! refusal_reasons {
    ($($variant:ident $code:literal $text:literal,)+) => {
        /// A reason for a refusal.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        #[schema(as = EvaluationRefusalReason, rename_all = "snake_case")]
        pub enum RefusalReason {
            $(#[doc = $text] $variant,)+
        }

        impl RefusalReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The wire code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// The `error` text.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

refusal_reasons! {
    Revoked "revoked" "License revoked",
    Expired "expired" "License expired",
    Suspended "suspended" "License suspended",
    UnknownActivation "unknown_activation" "Unknown activation; activate again",
    HostnameMismatch "hostname_mismatch" "Activated on another host; activate again",
    ProjectMismatch "project_mismatch" "Activated for another organization or project",
    InvalidCode "invalid_code" "Invalid activation code",
    NoSeat "no_seat" "Every evaluation of this license is in use",
    NotYetValid "not_yet_valid" "The license's validity has not begun",
}

impl RefusalReason {
    /// The reason of a wire code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Whether the activation is lost for good, so that a client may mark its file.
    pub fn is_revoked(self) -> bool {
        self == Self::Revoked
    }
}

impl Serialize for RefusalReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for RefusalReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::from_code(&code)
            .ok_or_else(|| serde::de::Error::custom("a reason that this release does not know"))
    }
}
