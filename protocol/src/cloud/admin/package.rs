//! Packages and the vendors whose keys are pinned.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use crate::keys::{KeyError, PublicKey};
use crate::package::{LicensePackage, PackageError, Policy, UnverifiedPackage};
use crate::strict_json::{self, Value};
use crate::wire::{self, Money, UtcTime};

/// Fields of an import body whose numbers may have a fraction.
pub const IMPORT_DECIMAL_PATHS: &[&str] = &[
    "package.entitlement.pricing.commit_fee_monthly",
    "package.entitlement.pricing.overage_per_use",
];

/// `POST /admin/licenses/import`, read. The whole body passes the strict loader, because the
/// package may be an object inside it.
pub struct ImportRequest {
    /// The package, not verified.
    pub package: UnverifiedPackage,
    /// The vendor's key, if it came along; compared with the pinned one.
    pub vendor_public_key: Option<PublicKey>,
}

/// The same for the OpenAPI document and for clients that write one.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(description = "`POST /admin/licenses/import`")]
pub struct ImportForm {
    /// The package as an object, or its document as a string.
    pub package: serde_json::Value,
    /// PEM of the vendor's key, to be compared with the pinned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "-----BEGIN PUBLIC KEY-----\n…\n-----END PUBLIC KEY-----\n")]
    pub vendor_public_key: Option<String>,
}

/// Why an import body was not read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportError {
    /// The body or the package in it.
    #[error("the package cannot be read")]
    Package(#[from] PackageError),
    /// The key that came along did not pass the gate.
    #[error("vendor_public_key cannot be used")]
    Key(#[from] KeyError),
}

impl ImportRequest {
    /// Reads a body.
    pub fn from_body(body: &[u8]) -> Result<Self, ImportError> {
        let value =
            strict_json::parse(body, IMPORT_DECIMAL_PATHS).map_err(PackageError::NotStrict)?;
        let Value::Object(mut fields) = value else {
            return Err(wrong_type("the body", "an object", &value));
        };
        let package = match fields.remove("package") {
            None => {
                return Err(PackageError::Missing { field: "package".to_owned() }.into());
            }
            Some(Value::String(document)) => UnverifiedPackage::parse(document.as_bytes())?,
            Some(value @ Value::Object(_)) => UnverifiedPackage::from_value(value)?,
            Some(other) => return Err(wrong_type("package", "an object or a string", &other)),
        };
        let vendor_public_key = match fields.remove("vendor_public_key") {
            None | Some(Value::Null) => None,
            Some(Value::String(pem)) => Some(PublicKey::from_pem(&pem)?),
            Some(other) => return Err(wrong_type("vendor_public_key", "a string", &other)),
        };
        match fields.into_keys().next() {
            None => Ok(Self { package, vendor_public_key }),
            Some(name) => {
                let mut field = String::new();
                strict_json::join_field(&mut field, &name);
                Err(PackageError::UnknownField { field, layout: "import request or" }.into())
            }
        }
    }
}

fn wrong_type(field: &str, expected: &'static str, found: &Value) -> ImportError {
    PackageError::WrongType { field: field.to_owned(), expected, found: found.kind() }.into()
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportStatus {
    /// The package is new: 201.
    Imported,
    /// The same bytes were there before: 200.
    AlreadyImported,
}

/// An imported package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportResponse {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// What the import did.
    pub status: ImportStatus,
    /// The product.
    #[schema(example = "davinci-configurator-se")]
    pub product_id: String,
    /// Who signed.
    #[schema(example = "vector-de")]
    pub vendor_id: String,
    /// Fingerprint of the key it verified under.
    pub key_fingerprint: String,
    /// Most seats out at one time.
    #[schema(example = 20)]
    pub total: u32,
    /// Last valid time.
    pub valid_until: UtcTime,
}

/// What state a package is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackageState {
    /// Seats can be taken.
    Active,
    /// Its validity has not begun.
    NotYetValid,
    /// Its validity is over.
    Expired,
    /// An administrator stopped it for a while.
    Suspended,
    /// An administrator ended it.
    Revoked,
}

/// Seats that nobody is given, since somebody may have borrowed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservedSeatsView {
    /// How many.
    #[schema(example = 2)]
    pub seats: u32,
    /// Until when, unless they are released before.
    pub until: UtcTime,
}

/// A package as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackageView {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// What state it is in.
    pub state: PackageState,
    /// Who sold it.
    #[schema(example = "vector-de")]
    pub vendor_id: String,
    /// Name for people.
    #[schema(example = "Vector Informatik GmbH")]
    pub vendor_name: String,
    /// The product.
    #[schema(example = "davinci-configurator-se")]
    pub product_id: String,
    /// Name for people.
    #[schema(example = "DaVinci Configurator SE")]
    pub product_name: String,
    /// Which versions are covered.
    #[schema(example = ">=8.0.0")]
    pub product_version: String,
    /// Who bought it.
    #[schema(example = "bmw-de-001")]
    pub client_id: String,
    /// Name for people.
    #[schema(example = "BMW AG")]
    pub client_name: String,
    /// The buyer's domain.
    #[schema(example = "bmw.com")]
    pub client_domain: String,
    /// Seats sold, and seats out.
    pub seats: SeatsView,
    /// Seats kept after a restore or a recovery, for borrows that the state cannot know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<ReservedSeatsView>,
    /// What they cost.
    pub pricing: PricingView,
    /// Features included.
    pub features: Vec<String>,
    /// How the seats may be used.
    pub policy: PolicyView,
    /// First valid time.
    pub valid_from: UtcTime,
    /// Last valid time.
    pub valid_until: UtcTime,
    /// Layout of the document, `journey` or `standard`.
    #[schema(example = "journey")]
    pub layout: String,
    /// Fingerprint of the key it verified under.
    pub key_fingerprint: String,
    /// When it was imported.
    pub imported_at: UtcTime,
}

impl PackageView {
    /// The view of a package of which so much is out.
    pub fn of(
        package: &LicensePackage,
        state: PackageState,
        seats: SeatsView,
        key_fingerprint: String,
        imported_at: UtcTime,
    ) -> Self {
        let pricing = &package.entitlement.pricing;
        Self {
            package_id: package.package_id.clone(),
            state,
            vendor_id: package.vendor.id.clone(),
            vendor_name: package.vendor.name.clone(),
            product_id: package.product.id.clone(),
            product_name: package.product.name.clone(),
            product_version: package.product.version_range.clone(),
            client_id: package.client.id.clone(),
            client_name: package.client.name.clone(),
            client_domain: package.client.domain.clone(),
            seats,
            reserved: None,
            pricing: PricingView {
                commit_fee_monthly: Money(pricing.commit_fee_monthly),
                overage_per_use: Money(pricing.overage_per_use),
                currency: pricing.currency.clone(),
            },
            features: package.features.clone(),
            policy: PolicyView::of(&package.policy),
            valid_from: UtcTime::from_unix_ms(package.validity.start_ms),
            valid_until: UtcTime::from_unix_ms(package.validity.end_ms),
            layout: package.layout.name().to_owned(),
            key_fingerprint,
            imported_at,
        }
    }
}

/// Seats sold, and seats out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeatsView {
    /// Most seats out at one time.
    #[schema(example = 20)]
    pub total: u32,
    /// Of them paid for in advance.
    #[schema(example = 5)]
    pub commit: u32,
    /// Most overage seats out at one time.
    #[schema(example = 15)]
    pub max_overage: u32,
    /// Commit seats out now.
    #[schema(example = 1)]
    pub commit_in_use: u32,
    /// Overage seats out now.
    #[schema(example = 0)]
    pub overage_in_use: u32,
}

/// What seats cost, in major units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PricingView {
    /// For the committed seats, each month.
    pub commit_fee_monthly: Money,
    /// For each checkout of an overage seat.
    pub overage_per_use: Money,
    /// ISO 4217 code.
    #[schema(example = "EUR")]
    pub currency: String,
}

/// How seats may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// How long a lease lives after a checkout or a heartbeat.
    #[schema(example = 900_000)]
    pub lease_ttl_ms: u64,
    /// How often holders are asked to renew.
    #[schema(example = 300_000)]
    pub heartbeat_interval_ms: u64,
    /// Whether every heartbeat spends the renewal token.
    pub renewal_rotation: bool,
    /// Whose checkouts share one seat: `none`, `user`, `host`, `user_host`.
    #[schema(example = "none")]
    pub sharing: String,
    /// Whether a heartbeat may carry an offline token.
    pub offline: bool,
    /// How far a device's clock may be off.
    #[schema(example = 600_000)]
    pub offline_skew_ms: u64,
    /// How long a seat may be borrowed; 0: not at all.
    #[schema(example = 0)]
    pub borrow_max_ms: u64,
    /// Seats that may be borrowed at once; absent: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 5)]
    pub borrow_seats_max: Option<u32>,
    /// Seats that borrowing must leave for online users.
    #[serde(default)]
    #[schema(example = 0)]
    pub borrow_online_reserve: u32,
}

impl PolicyView {
    fn of(policy: &Policy) -> Self {
        Self {
            lease_ttl_ms: policy.lease_ttl_ms,
            heartbeat_interval_ms: policy.heartbeat_interval_ms,
            renewal_rotation: policy.renewal_rotation,
            sharing: policy.sharing.name().to_owned(),
            offline: policy.offline,
            offline_skew_ms: policy.offline_skew_ms,
            borrow_max_ms: policy.borrow_max_ms,
            borrow_seats_max: policy.borrow_seats_max,
            borrow_online_reserve: policy.borrow_online_reserve,
        }
    }
}

/// Packages, in order of package id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackageList {
    /// One page.
    pub packages: Vec<PackageView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `POST /admin/vendors`: pins a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustVendorRequest {
    /// The vendor, as its packages name it.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "vector-de", max_length = 128)]
    pub vendor_id: String,
    /// Name for people.
    #[serde(deserialize_with = "wire::text")]
    #[schema(example = "Vector Informatik GmbH", min_length = 1, max_length = 256)]
    pub name: String,
    /// PEM of the key (`PUBLIC KEY` or `RSA PUBLIC KEY`), at most 16 KiB; it must pass the gate.
    #[schema(max_length = 16_384)]
    pub public_key: String,
    /// What the administrator was told over another channel; when given, it must be the key's.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub fingerprint: Option<String>,
}

/// A vendor whose key is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VendorView {
    /// The vendor, as its packages name it.
    #[schema(example = "vector-de")]
    pub vendor_id: String,
    /// Name for people.
    #[schema(example = "Vector Informatik GmbH")]
    pub name: String,
    /// `SHA256-RSA` or `Ed25519`.
    #[schema(example = "SHA256-RSA")]
    pub algorithm: String,
    /// `SHA256:` and 64 hex digits.
    pub fingerprint: String,
    /// PEM of the key.
    pub public_key: String,
}

/// Pinned vendors, in order of vendor id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VendorList {
    /// One page.
    pub vendors: Vec<VendorView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
