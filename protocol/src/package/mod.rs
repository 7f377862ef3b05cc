//! License packages: what a vendor sold, signed by the vendor.
//!
//! The protocol document has two layouts, the *journey* (`"vendor": "Vector Informatik GmbH"`) and
//! the *standard* (`"vendor": {…}`, `$schema`). Both are read into one [`LicensePackage`]. The
//! order of things, so that nothing is believed before it is proved:
//!
//! ```text
//! bytes -- strict_json --> value -- signature out --> RFC 8785 bytes -- strict_json --> typed
//!                                       |                   |
//!                                       +--- pinned key ----+--> VerifiedPackage
//! ```
//!
//! The canonical bytes are what is verified, what the typed value is built from, and what is
//! stored; [`LicensePackage::from_canonical`] reads them back. A key inside a package proves
//! nothing: it is only compared with the pinned one.
//!
//! An extension, `x_leasehold`, inside the signed bytes holds `policy` ([`Policy`]) and `features`.
//! Other fields whose name begins with `x_` are kept in the signed bytes and otherwise ignored; any
//! other unknown field is an error that names it.
//!
//! What it leaves to others: which vendor keys are pinned, what time it is, and who we are
//! (`node`); seats (`lease`).

mod document;
mod error;
mod policy;
mod read;
mod sample;
mod signature;
mod version;

use rust_decimal::Decimal;

pub use document::{SignError, UnverifiedPackage, VerifiedPackage, sign_document, with_signature};
pub use error::{Category, PackageError};
pub use policy::{Policy, Sharing};
pub use sample::sample_document;
pub use signature::PackageSignature;
pub use version::{VersionError, version_matches};

/// The JSON Schema (2020-12) of both layouts, at the address that `$schema` names. Tests hold it
/// against the loader: what one refuses the other does, but for what a schema cannot say, which it
/// lists itself.
pub fn json_schema() -> &'static str {
    include_str!("package.schema.json")
}

/// Most seats, of any class, in one package.
pub const MAX_QUANTITY: u32 = 10_000_000;
/// Most features of one package.
pub const MAX_FEATURES: usize = 256;
/// Largest price, in major units.
pub const MAX_PRICE: u32 = 1_000_000_000;

/// How a package's document is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The layout of the document's seven steps; the signature is in `vendor_signature`.
    Journey,
    /// The layout of the document's "standard"; the signature is in `signature`.
    Standard,
}

impl Layout {
    /// The field that holds the signature.
    pub fn signature_field(self) -> &'static str {
        match self {
            Self::Journey => "vendor_signature",
            Self::Standard => "signature",
        }
    }

    /// The layout's name, for answers and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Journey => "journey",
            Self::Standard => "standard",
        }
    }
}

/// An entitlement, whichever layout it came in. Every bound of this module holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicensePackage {
    /// How the document is laid out.
    pub layout: Layout,
    /// Unique in a cluster.
    pub package_id: String,
    /// Who sold.
    pub vendor: Vendor,
    /// What was sold.
    pub product: Product,
    /// Who bought.
    pub client: Client,
    /// How much.
    pub entitlement: Entitlement,
    /// Features included (`x_leasehold.features`), sorted; empty when none is sold apart.
    pub features: Vec<String>,
    /// From when until when.
    pub validity: Validity,
    /// Where the vendor runs its own server, for people.
    pub license_server_url: Option<String>,
    /// How the seats may be used (`x_leasehold.policy`).
    pub policy: Policy,
}

/// Who sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor {
    /// Identifier under which the vendor's key is pinned.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// PEM of the key that the document brings along; compared with the pinned one, never trusted.
    pub public_key_pem: Option<String>,
}

/// What was sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Identifier that a checkout names.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Which versions are covered, as `>=8.0.0`; see [`version_matches`].
    pub version_range: String,
}

/// Who bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Identifier, equal to the one this cluster is configured with.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Organisation's domain in lower case, equal to the one this cluster is configured with.
    pub domain: String,
}

/// How much was sold. `commit <= total`; that the parts add up is not required, both limits hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlement {
    /// Most seats out at one time, of all classes.
    pub total: u32,
    /// Seats that are paid for.
    pub commit: u32,
    /// Most seats out at one time beyond `commit`.
    pub max_overage: u32,
    /// What they cost.
    pub pricing: Pricing,
}

/// Prices in major units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pricing {
    /// For the committed seats, each month.
    pub commit_fee_monthly: Decimal,
    /// For each checkout of an overage seat.
    pub overage_per_use: Decimal,
    /// ISO 4217 code, as `EUR`.
    pub currency: String,
}

/// From when until when, in Unix milliseconds; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First valid millisecond.
    pub start_ms: i64,
    /// Last valid millisecond.
    pub end_ms: i64,
}
