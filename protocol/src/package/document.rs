//! From bytes to a verified package, and, on the vendor's side, from a document to a signed one.

use std::collections::BTreeMap;

use super::error::PackageError;
use super::policy::Policy;
use super::read::Fields;
use super::signature::PackageSignature;
use super::version::check_range;
use super::{
    Client, Entitlement, Layout, LicensePackage, MAX_FEATURES, MAX_PRICE, MAX_QUANTITY, Pricing,
    Product, Validity, Vendor,
};
use crate::keys::{Fingerprint, KeyError, PrivateKey, PublicKey};
use crate::strict_json::{self, Value};
use crate::wire::UtcTime;

/// A document that is a package, of which nothing is proved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedPackage {
    package: LicensePackage,
    canonical: Vec<u8>,
    signature: Option<String>,
}

/// A package that a pinned vendor key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPackage {
    /// What was sold.
    pub package: LicensePackage,
    /// RFC 8785 bytes without the signature: what was verified, and what is stored.
    pub canonical: Vec<u8>,
    /// The signature's text, stored beside them.
    pub signature: String,
    /// Whose key it was.
    pub key: Fingerprint,
}

impl UnverifiedPackage {
    /// Reads a document in either layout.
    pub fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        strict_json::parse(bytes, DECIMAL_PATHS)
            .map_err(PackageError::NotStrict)
            .and_then(Self::from_value)
    }

    /// The same from a value that the strict loader gave, read with
    /// [`crate::cloud::admin::IMPORT_DECIMAL_PATHS`] or the like.
    pub fn from_value(value: Value) -> Result<Self, PackageError> {
        let mut object = top_object(value)?;
        let layout = detect(&object);
        let signature = match object.remove(layout.signature_field()) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => {
                return Err(PackageError::WrongType {
                    field: layout.signature_field().to_owned(),
                    expected: "a string",
                    found: other.kind(),
                });
            }
        };
        let canonical = Value::Object(object).canonical_bytes();
        let package = LicensePackage::from_canonical(&canonical)?;
        Ok(Self { package, canonical, signature })
    }

    /// What the document says. Believe nothing of it but the names needed to look up a key.
    pub fn package(&self) -> &LicensePackage {
        &self.package
    }

    /// RFC 8785 bytes without the signature.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// The signature's text, if the document has one.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }

    /// Verifies the signature under the key pinned for [`Vendor::id`]. `offered` is a key that came
    /// along with the request, if any; like the one inside the document it is only compared.
    pub fn verify(
        self,
        pinned: &PublicKey,
        offered: Option<&PublicKey>,
    ) -> Result<VerifiedPackage, PackageError> {
        let field = self.package.layout.signature_field();
        let vendor_id = || self.package.vendor.id.clone();
        let mismatch = |field| PackageError::KeyMismatch { field, vendor_id: vendor_id() };
        if offered.is_some_and(|key| key != pinned) {
            return Err(mismatch("vendor_public_key"));
        }
        if let Some(pem) = &self.package.vendor.public_key_pem
            && PublicKey::from_pem(pem).ok().as_ref() != Some(pinned)
        {
            return Err(mismatch("vendor.public_key"));
        }
        let text = self.signature.as_deref().ok_or(PackageError::Unsigned { field })?;
        let signature: PackageSignature =
            text.parse().map_err(|_| PackageError::SignatureForm { field })?;
        if signature.algorithm != pinned.algorithm() {
            return Err(PackageError::AlgorithmMismatch {
                field,
                found: signature.algorithm.signature_prefix(),
                pinned: pinned.algorithm().signature_prefix(),
                vendor_id: vendor_id(),
            });
        }
        pinned
            .verify(&self.canonical, &signature.bytes)
            .map_err(|_| PackageError::BadSignature { field, vendor_id: vendor_id() })?;
        Ok(VerifiedPackage {
            package: self.package,
            canonical: self.canonical,
            signature: signature.to_string(),
            key: pinned.fingerprint(),
        })
    }
}

impl LicensePackage {
    /// Reads stored canonical bytes (no signature among them).
    pub fn from_canonical(canonical: &[u8]) -> Result<Self, PackageError> {
        let value =
            strict_json::parse(canonical, DECIMAL_PATHS).map_err(PackageError::NotStrict)?;
        let object = top_object(value)?;
        let layout = detect(&object);
        let fields = Fields::new(layout, &object);
        match layout {
            Layout::Journey => read_journey(fields),
            Layout::Standard => read_standard(fields),
        }
    }

    /// Refuses a package for another organisation. Domains compare without regard to case.
    pub fn check_client(&self, client_id: &str, domain: &str) -> Result<(), PackageError> {
        let (id_field, domain_field) = match self.layout {
            Layout::Journey => ("client.client_id", "client.org_domain"),
            Layout::Standard => ("client.id", "client.domain"),
        };
        let wrong = |field, found: &str, ours: &str| {
            Err(PackageError::WrongClient { field, found: found.to_owned(), ours: ours.to_owned() })
        };
        if self.client.id != client_id {
            return wrong(id_field, &self.client.id, client_id);
        }
        if !self.client.domain.eq_ignore_ascii_case(domain) {
            return wrong(domain_field, &self.client.domain, domain);
        }
        Ok(())
    }

    /// Refuses a package whose validity is over. One that has not begun may be imported.
    pub fn check_not_ended(&self, now_ms: i64) -> Result<(), PackageError> {
        if now_ms > self.validity.end_ms {
            let end = UtcTime::from_unix_ms(self.validity.end_ms).to_string();
            return Err(PackageError::Expired { end });
        }
        Ok(())
    }

    /// The package as an unsigned document in the standard layout. Extensions of strangers are not
    /// in the typed value and so not in the document; to hand on a package as its vendor signed it,
    /// use [`with_signature`].
    pub fn to_standard(&self) -> Value {
        let text = |text: &str| Value::String(text.to_owned());
        let mut vendor = vec![("id", text(&self.vendor.id)), ("name", text(&self.vendor.name))];
        if let Some(pem) = &self.vendor.public_key_pem {
            vendor.push(("public_key", text(pem)));
        }
        let entitlement = &self.entitlement;
        let pricing = object([
            ("commit_fee_monthly", Value::Decimal(entitlement.pricing.commit_fee_monthly)),
            ("overage_per_use", Value::Decimal(entitlement.pricing.overage_per_use)),
            ("currency", text(&entitlement.pricing.currency)),
        ]);
        let time = |ms| text(&UtcTime::from_unix_ms(ms).to_string());
        let mut own = vec![("policy", self.policy.write())];
        if !self.features.is_empty() {
            let features = self.features.iter().map(|feature| text(feature)).collect();
            own.push(("features", Value::Array(features)));
        }
        let mut document = vec![
            ("$schema", text(SCHEMA)),
            ("version", text(FORMAT_VERSION)),
            ("package_id", text(&self.package_id)),
            ("vendor", object(vendor)),
            (
                "product",
                object([
                    ("id", text(&self.product.id)),
                    ("name", text(&self.product.name)),
                    ("version", text(&self.product.version_range)),
                ]),
            ),
            (
                "client",
                object([
                    ("id", text(&self.client.id)),
                    ("name", text(&self.client.name)),
                    ("domain", text(&self.client.domain)),
                ]),
            ),
            (
                "entitlement",
                object([
                    ("total", Value::Integer(entitlement.total.into())),
                    ("commit", Value::Integer(entitlement.commit.into())),
                    ("max_overage", Value::Integer(entitlement.max_overage.into())),
                    ("pricing", pricing),
                ]),
            ),
            (
                "validity",
                object([
                    ("start", time(self.validity.start_ms)),
                    ("end", time(self.validity.end_ms)),
                ]),
            ),
            ("x_leasehold", object(own)),
        ];
        if let Some(url) = &self.license_server_url {
            document.push(("license_server_url", text(url)));
        }
        object(document)
    }
}

/// The vendor's side: checks a document and puts the signature in, replacing one that is there.
/// Gives indented JSON.
pub fn sign_document(bytes: &[u8], key: &PrivateKey) -> Result<String, SignError> {
    let unsigned = UnverifiedPackage::parse(bytes).map_err(SignError::Package)?;
    let own = key.public_key().map_err(SignError::Key)?;
    let signature = PackageSignature {
        algorithm: key.algorithm(),
        bytes: key.sign(&unsigned.canonical).map_err(SignError::Key)?,
    };
    let signed =
        with_signature(&unsigned.canonical, &signature.to_string()).map_err(SignError::Package)?;
    UnverifiedPackage::parse(signed.as_bytes())
        .and_then(|package| package.verify(&own, None))
        .map_err(SignError::Package)?;
    Ok(signed)
}

/// Why a document was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The document is no package, or brings another key along.
    #[error("the document cannot be signed")]
    Package(#[source] PackageError),
    /// The key does not work.
    #[error("the key cannot sign")]
    Key(#[source] KeyError),
}

/// Puts a signature back into stored canonical bytes: the document as its vendor signed it.
pub fn with_signature(canonical: &[u8], signature: &str) -> Result<String, PackageError> {
    let value = strict_json::parse(canonical, DECIMAL_PATHS).map_err(PackageError::NotStrict)?;
    let mut object = top_object(value)?;
    let field = detect(&object).signature_field().to_owned();
    object.insert(field, Value::String(signature.to_owned()));
    Ok(Value::Object(object).to_pretty())
}

fn top_object(value: Value) -> Result<BTreeMap<String, Value>, PackageError> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(PackageError::WrongType {
            field: "the document".to_owned(),
            expected: "an object",
            found: other.kind(),
        }),
    }
}

/// Which layout it is, by what no document of the other layout has.
fn detect(object: &BTreeMap<String, Value>) -> Layout {
    let is_standard =
        object.contains_key("$schema") || matches!(object.get("vendor"), Some(Value::Object(_)));
    if is_standard { Layout::Standard } else { Layout::Journey }
}

fn read_journey(mut fields: Fields<'_>) -> Result<LicensePackage, PackageError> {
    let vendor =
        Vendor { id: fields.id("vendor_id")?, name: fields.name("vendor")?, public_key_pem: None };
    let product = read_product(fields.object("product")?, "product_id")?;
    let client = read_client(fields.object("client")?, "client_id", "org_domain")?;
    let entitlement =
        read_entitlement(fields.object("entitlement")?, "total_licenses", "commit_qty")?;
    read_rest(fields, Layout::Journey, vendor, product, client, entitlement)
}

fn read_standard(mut fields: Fields<'_>) -> Result<LicensePackage, PackageError> {
    if let Some(schema) = fields.optional_string("$schema")?
        && schema != SCHEMA
    {
        return Err(fields.out_of_bounds("$schema", format!("want {SCHEMA}")));
    }
    if let Some(version) = fields.optional_string("version")?
        && !matches!(version_major(version), Some(1))
    {
        return Err(fields.out_of_bounds("version", "want 1.x.y".to_owned()));
    }
    let mut vendor_fields = fields.object("vendor")?;
    let vendor = Vendor {
        id: vendor_fields.id("id")?,
        name: vendor_fields.name("name")?,
        public_key_pem: vendor_fields.optional_string("public_key")?.map(str::to_owned),
    };
    vendor_fields.finish()?;
    let product = read_product(fields.object("product")?, "id")?;
    let client = read_client(fields.object("client")?, "id", "domain")?;
    let entitlement = read_entitlement(fields.object("entitlement")?, "total", "commit")?;
    read_rest(fields, Layout::Standard, vendor, product, client, entitlement)
}

/// What both layouts have alike.
fn read_rest(
    mut fields: Fields<'_>,
    layout: Layout,
    vendor: Vendor,
    product: Product,
    client: Client,
    entitlement: Entitlement,
) -> Result<LicensePackage, PackageError> {
    let package_id = fields.id("package_id")?;
    let validity = read_validity(fields.object("validity")?)?;
    let license_server_url = match fields.optional_string("license_server_url")? {
        Some(url) if !is_url(url) => {
            return Err(fields.out_of_bounds("license_server_url", URL_BOUND.to_owned()));
        }
        url => url.map(str::to_owned),
    };
    let (policy, features) = match fields.optional_object("x_leasehold")? {
        None => (Policy::default(), Vec::new()),
        Some(own) => {
            let mut own = own.without_extensions();
            let policy = own.optional_object("policy")?.map(Policy::read).transpose()?;
            let features = own.optional_ids("features", MAX_FEATURES)?;
            own.finish()?;
            (policy.unwrap_or_default(), features)
        }
    };
    fields.finish()?;
    Ok(LicensePackage {
        layout,
        package_id,
        vendor,
        product,
        client,
        entitlement,
        features,
        validity,
        license_server_url,
        policy,
    })
}

fn read_product(mut fields: Fields<'_>, id: &'static str) -> Result<Product, PackageError> {
    let product = Product {
        id: fields.id(id)?,
        name: fields.name("name")?,
        version_range: fields.name("version")?,
    };
    check_range(&product.version_range)
        .map_err(|error| fields.out_of_bounds("version", error.to_string()))?;
    fields.finish()?;
    Ok(product)
}

fn read_client(
    mut fields: Fields<'_>,
    id: &'static str,
    domain: &'static str,
) -> Result<Client, PackageError> {
    let domain_text = fields.string(domain)?;
    if !is_domain(domain_text) {
        return Err(fields.out_of_bounds(domain, "a domain name, as example.com".to_owned()));
    }
    let client = Client {
        id: fields.id(id)?,
        name: fields.name("name")?,
        domain: domain_text.to_ascii_lowercase(),
    };
    fields.finish()?;
    Ok(client)
}

fn read_entitlement(
    mut fields: Fields<'_>,
    total: &'static str,
    commit: &'static str,
) -> Result<Entitlement, PackageError> {
    let mut prices = fields.object("pricing")?;
    let pricing = Pricing {
        commit_fee_monthly: prices.price("commit_fee_monthly", MAX_PRICE)?,
        overage_per_use: prices.price("overage_per_use", MAX_PRICE)?,
        currency: prices.string("currency")?.to_owned(),
    };
    if pricing.currency.len() != 3 || !pricing.currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(prices.out_of_bounds("currency", "three capital letters, as EUR".to_owned()));
    }
    prices.finish()?;
    let total_seats = fields.quantity(total, 1, MAX_QUANTITY)?;
    let entitlement = Entitlement {
        total: total_seats,
        commit: fields.quantity(commit, 0, total_seats)?,
        max_overage: fields.quantity("max_overage", 0, MAX_QUANTITY)?,
        pricing,
    };
    if entitlement.commit == 0 && entitlement.max_overage == 0 {
        return Err(fields.out_of_bounds("max_overage", "no seat could ever be taken".to_owned()));
    }
    fields.finish()?;
    Ok(entitlement)
}

fn read_validity(mut fields: Fields<'_>) -> Result<Validity, PackageError> {
    let mut time = |name| {
        let text = fields.string(name)?;
        text.parse::<UtcTime>()
            .map(|time| time.unix_ms)
            .map_err(|error| fields.out_of_bounds(name, error.to_string()))
    };
    let validity = Validity { start_ms: time("start")?, end_ms: time("end")? };
    if validity.start_ms >= validity.end_ms {
        return Err(fields.out_of_bounds("end", "after the start".to_owned()));
    }
    fields.finish()?;
    Ok(validity)
}

fn version_major(text: &str) -> Option<u64> {
    semver::Version::parse(text).ok().map(|version| version.major)
}

/// Labels of letters, digits and inner hyphens, joined by points (RFC 1123).
fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

fn is_url(text: &str) -> bool {
    text.len() <= MAX_URL_BYTES
        && text.strip_prefix("https://").is_some_and(|rest| {
            rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[')
                && rest.bytes().all(|byte| byte.is_ascii_graphic())
        })
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Fields whose numbers may have a fraction.
const DECIMAL_PATHS: &[&str] =
    &["entitlement.pricing.commit_fee_monthly", "entitlement.pricing.overage_per_use"];
const SCHEMA: &str = "https://cloud-license-protocol.org/v1/package.schema.json";
const FORMAT_VERSION: &str = "1.0.0";
const MAX_URL_BYTES: usize = 2_048;
const URL_BOUND: &str = "an https:// address of at most 2048 characters";
