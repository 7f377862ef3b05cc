//! Why a package is not taken: malformed (nobody could have meant it) or unverifiable (well formed,
//! and not to be believed, or not for us).

use thiserror::Error;

use crate::strict_json::StrictJsonError;

/// Whose fault it is, and so which HTTP status it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Not a package: 400.
    Malformed,
    /// A package that proves nothing here: 422.
    Unverifiable,
}

impl Category {
    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unverifiable => 422,
        }
    }
}

/// Why a package is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PackageError {
    /// The strict loader refused the document.
    #[error("the document is not strict JSON")]
    NotStrict(#[source] StrictJsonError),
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Path of the field.
        field: String,
    },
    /// A field that this layout does not have.
    #[error("{field} is not a field of a {layout} package; extensions begin with x_")]
    UnknownField {
        /// Path of the field.
        field: String,
        /// The layout's name.
        layout: &'static str,
    },
    /// A field of another type.
    #[error("{field} is {found}; expected {expected}")]
    WrongType {
        /// Path of the field.
        field: String,
        /// What would do.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A field outside its bounds.
    #[error("{field} is out of bounds: {reason}")]
    OutOfBounds {
        /// Path of the field.
        field: String,
        /// What would do.
        reason: String,
    },
    /// No signature at all.
    #[error("the package is not signed: {field} is missing")]
    Unsigned {
        /// Where it would be.
        field: &'static str,
    },
    /// A signature in a form that this release does not know.
    #[error("{field} is not SHA256-RSA:base64 or Ed25519:base64")]
    SignatureForm {
        /// Where it is.
        field: &'static str,
    },
    /// A signature by another algorithm than the pinned key's.
    #[error("{field} is {found}, but the pinned key of {vendor_id} signs {pinned}")]
    AlgorithmMismatch {
        /// Where it is.
        field: &'static str,
        /// The signature's algorithm.
        found: &'static str,
        /// The pinned key's algorithm.
        pinned: &'static str,
        /// Whose key.
        vendor_id: String,
    },
    /// The signature does not verify under the pinned key.
    #[error("{field} does not verify under the pinned key of {vendor_id}")]
    BadSignature {
        /// Where it is.
        field: &'static str,
        /// Whose key.
        vendor_id: String,
    },
    /// A key that came along differs from the pinned one.
    #[error("{field} is not the pinned key of {vendor_id}")]
    KeyMismatch {
        /// Where the other key is.
        field: &'static str,
        /// Whose key.
        vendor_id: String,
    },
    /// The package's validity is over.
    #[error("the package ended at {end}")]
    Expired {
        /// When, in RFC 3339.
        end: String,
    },
    /// The package is for another organisation.
    #[error("{field} is {found:?}; this cluster belongs to {ours:?}")]
    WrongClient {
        /// `client.client_id` or the like.
        field: &'static str,
        /// Who it is for.
        found: String,
        /// Who we are.
        ours: String,
    },
}

impl PackageError {
    /// Malformed or unverifiable.
    pub fn category(&self) -> Category {
        match self {
            Self::NotStrict(_)
            | Self::Missing { .. }
            | Self::UnknownField { .. }
            | Self::WrongType { .. }
            | Self::OutOfBounds { .. } => Category::Malformed,
            Self::Unsigned { .. }
            | Self::SignatureForm { .. }
            | Self::AlgorithmMismatch { .. }
            | Self::BadSignature { .. }
            | Self::KeyMismatch { .. }
            | Self::Expired { .. }
            | Self::WrongClient { .. } => Category::Unverifiable,
        }
    }

    /// The wire code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotStrict(_) => "package_not_strict_json",
            Self::Missing { .. } => "package_field_missing",
            Self::UnknownField { .. } => "package_field_unknown",
            Self::WrongType { .. } => "package_field_type",
            Self::OutOfBounds { .. } => "package_field_out_of_bounds",
            Self::Unsigned { .. } => "package_unsigned",
            Self::SignatureForm { .. } => "package_signature_form",
            Self::AlgorithmMismatch { .. } => "package_signature_algorithm",
            Self::BadSignature { .. } => "package_signature_invalid",
            Self::KeyMismatch { .. } => "package_key_mismatch",
            Self::Expired { .. } => "package_expired",
            Self::WrongClient { .. } => "package_for_another_client",
        }
    }

    /// The field, where one is to blame.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NotStrict(error) => Some(error.path.as_str()).filter(|path| !path.is_empty()),
            Self::Missing { field }
            | Self::UnknownField { field, .. }
            | Self::WrongType { field, .. }
            | Self::OutOfBounds { field, .. } => Some(field),
            Self::Unsigned { field }
            | Self::SignatureForm { field }
            | Self::AlgorithmMismatch { field, .. }
            | Self::BadSignature { field, .. }
            | Self::KeyMismatch { field, .. }
            | Self::WrongClient { field, .. } => Some(field),
            Self::Expired { .. } => Some("validity.end"),
        }
    }
}
