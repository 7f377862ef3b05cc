//! The license file (`~/.edon/license.json`) and the `license` object of an activation's answer.
//!
//! ```text
//! signature = lower hex HMAC-SHA-256(key of key_version, canonical text)
//! canonical = every field but signature, names in order, no spaces, as json.dumps writes it
//! file      = the same fields in the order they came, indented by 2
//! ```
//!
//! Fields that this release does not know are kept and signed along with the others. Two equal
//! names, lists and objects inside, and numbers that no double or 64-bit integer holds are refused
//! before a signature is looked at.
//!
//! The published client marks a revoked license in the file without signing it anew. Such a file is
//! recognised as what it is (revoked), and not taken for one that was tampered with.

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::EVALUATION_SECONDS;
use super::key_ring::{KeyRing, KeyVersion};
use super::python_json::{Scalar, write_string};
use super::wire::{ActivateRequest, Answer, EpochSeconds};

/// No license file is longer.
pub const MAX_FILE_BYTES: usize = 16 * 1024;
/// No license file has more fields.
pub const MAX_FIELDS: usize = 64;

/// A license file: fields in the order they came.
#[derive(Debug, Clone, PartialEq)]
pub struct LicenseFile {
    fields: Vec<(String, Scalar)>,
}

/// Why bytes are no license file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LicenseFileError {
    /// More than [`MAX_FILE_BYTES`].
    #[error("the license file is longer than {MAX_FILE_BYTES} bytes")]
    TooLong,
    /// Not an object of texts, numbers, booleans and nulls, each name once.
    #[error("not a license file: {0}")]
    Malformed(String),
}

/// Why a license file is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// There is no such key, or it is not accepted any more.
    #[error("Unsupported key version: {0}")]
    UnsupportedKeyVersion(String),
    /// The signature does not belong to the fields.
    #[error("the signature of the license file does not verify")]
    BadSignature,
    /// A field that every license has is missing or of another type.
    #[error("the license file lacks {0}")]
    Field(&'static str),
}

/// What a license says, once its signature is believed. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct License {
    /// Always `evaluation` so far.
    pub kind: String,
    /// Version of the software that it was made for.
    pub version: String,
    /// When it was activated.
    pub activated_at: f64,
    /// When it ends.
    pub expires_at: f64,
    /// The activation.
    pub activation_id: String,
    /// The organisation.
    pub org_id: Option<String>,
    /// The project.
    pub project_id: Option<String>,
    /// The plan.
    pub plan: String,
    /// Name of the host; stays on it.
    pub hostname: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it was made without a server, for development.
    pub offline: bool,
}

impl License {
    /// The license that a build for development makes without a server: 30 days from `now_ms`.
    pub fn for_development(version: &str, hostname: &str, now_ms: i64) -> Self {
        let activated_at = EpochSeconds::from_unix_ms(now_ms).seconds();
        Self {
            kind: EVALUATION.to_owned(),
            version: version.to_owned(),
            activated_at,
            expires_at: activated_at + EVALUATION_SECONDS as f64,
            activation_id: "offline-dev".to_owned(),
            org_id: Some("dev-org".to_owned()),
            project_id: Some("dev-project".to_owned()),
            plan: EVALUATION.to_owned(),
            hostname: Some(hostname.to_owned()),
            revoked: false,
            offline: true,
        }
    }
}

impl LicenseFile {
    /// Reads a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, LicenseFileError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(LicenseFileError::TooLong);
        }
        serde_json::from_slice(bytes).map_err(|error| {
            LicenseFileError::Malformed(error.to_string().chars().take(200).collect())
        })
    }

    /// Writes and signs a license with the ring's current key.
    pub fn issue(license: &License, ring: &KeyRing) -> Self {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let optional = |value: &Option<String>| value.as_deref().map_or(Scalar::Null, text);
        let mut fields = vec![
            ("type", text(&license.kind)),
            ("version", text(&license.version)),
            (KEY_VERSION, Scalar::Text(ring.current().to_string())),
            ("activated_at", Scalar::Float(license.activated_at)),
            ("expires_at", Scalar::Float(license.expires_at)),
            ("activation_id", text(&license.activation_id)),
            ("org_id", optional(&license.org_id)),
            ("project_id", optional(&license.project_id)),
            ("plan", text(&license.plan)),
        ];
        if license.hostname.is_some() {
            fields.push(("hostname", optional(&license.hostname)));
        }
        fields.push((REVOKED, Scalar::Bool(license.revoked)));
        if license.offline {
            fields.push(("offline", Scalar::Bool(true)));
        }
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut file = Self { fields };
        file.sign(ring, ring.current());
        file
    }

    /// The file to store after an activation: the server's, when the ring can verify it; else one
    /// of the answer's fields, signed here, as the published client does. `None` when the answer
    /// grants nothing. `asked` is what the request named; `now_ms` is Unix milliseconds.
    pub fn from_answer(
        answer: &Answer,
        asked: &ActivateRequest,
        hostname: &str,
        ring: &KeyRing,
        now_ms: i64,
    ) -> Option<Self> {
        let granted = answer.activation_id.as_ref().filter(|_| answer.ok)?;
        if let Some(file) = answer.license.as_ref().filter(|file| file.verify(ring).is_ok()) {
            return Some(file.clone());
        }
        let activated_at = EpochSeconds::from_unix_ms(now_ms).seconds();
        let either = |told: &Option<String>, asked: &Option<String>| {
            told.as_ref().or(asked.as_ref()).cloned()
        };
        let license = License {
            kind: asked.kind.clone().unwrap_or_else(|| EVALUATION.to_owned()),
            version: asked.version.clone().unwrap_or_default(),
            activated_at,
            expires_at: answer
                .expires_at
                .map_or_else(|| activated_at + EVALUATION_SECONDS as f64, EpochSeconds::seconds),
            activation_id: granted.clone(),
            org_id: either(&answer.org_id, &asked.org_id),
            project_id: either(&answer.project_id, &asked.project_id),
            plan: answer.plan.clone().unwrap_or_else(|| EVALUATION.to_owned()),
            hostname: Some(hostname.to_owned()),
            revoked: false,
            offline: false,
        };
        Some(Self::issue(&license, ring))
    }

    /// Marks the license as revoked and, where the ring has the file's key, signs it anew.
    pub fn revoke(&mut self, ring: &KeyRing) {
        self.set(REVOKED, Scalar::Bool(true));
        if let Ok(version) = self.key_version() {
            self.sign(ring, version);
        }
    }

    /// What the license says, when its signature verifies. A file whose only change since it was
    /// signed is its mark of revocation is believed: the license in it says that it is revoked.
    pub fn verify(&self, ring: &KeyRing) -> Result<License, SignatureError> {
        let version = self.key_version()?;
        let signature = self.text(SIGNATURE).ok_or(SignatureError::BadSignature)?;
        let unsupported = || SignatureError::UnsupportedKeyVersion(self.shown_key_version());
        let as_it_is = self.canonical();
        let mut verified = ring.verify(version, &as_it_is, signature).ok_or_else(unsupported)?;
        if !verified && self.get(REVOKED) == Some(&Scalar::Bool(true)) {
            let mut before = self.clone();
            before.set(REVOKED, Scalar::Bool(false));
            verified = ring.verify(version, &before.canonical(), signature).unwrap_or(false);
        }
        if verified { self.license() } else { Err(SignatureError::BadSignature) }
    }

    /// What the license says, believed by nobody: for showing only.
    pub fn license(&self) -> Result<License, SignatureError> {
        let text = |name: &'static str| {
            self.text(name).map(str::to_owned).ok_or(SignatureError::Field(name))
        };
        let optional = |name: &'static str| match self.get(name) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(value)) => Ok(Some(value.clone())),
            Some(_) => Err(SignatureError::Field(name)),
        };
        let flag = |name: &'static str| match self.get(name) {
            None | Some(Scalar::Null) => Ok(false),
            Some(Scalar::Bool(value)) => Ok(*value),
            Some(_) => Err(SignatureError::Field(name)),
        };
        Ok(License {
            kind: text("type")?,
            version: text("version")?,
            activated_at: self.seconds("activated_at")?,
            expires_at: self.seconds("expires_at")?,
            activation_id: text("activation_id")?,
            org_id: optional("org_id")?,
            project_id: optional("project_id")?,
            plan: optional("plan")?.unwrap_or_else(|| EVALUATION.to_owned()),
            hostname: optional("hostname")?,
            revoked: flag(REVOKED)?,
            offline: flag("offline")?,
        })
    }

    /// The key version that the file names; a file without one is of `v1`.
    pub fn key_version(&self) -> Result<KeyVersion, SignatureError> {
        match self.get(KEY_VERSION) {
            None | Some(Scalar::Null) => Ok(KeyVersion(1)),
            Some(Scalar::Text(text)) => text.parse().map_err(|_| self.unsupported()),
            Some(_) => Err(self.unsupported()),
        }
    }

    /// The text that is signed.
    pub fn canonical(&self) -> String {
        let mut fields: Vec<_> = self.fields.iter().filter(|(name, _)| name != SIGNATURE).collect();
        fields.sort_by(|(left, _), (right, _)| left.cmp(right));
        let mut text = String::from("{");
        for (at, (name, value)) in fields.into_iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            write_string(&mut text, name);
            text.push(':');
            value.write(&mut text);
        }
        text.push('}');
        text
    }

    /// The file: fields in order, indented by 2, no line end at the end.
    pub fn to_text(&self) -> String {
        let mut text = String::from("{");
        for (at, (name, value)) in self.fields.iter().enumerate() {
            text.push_str(if at > 0 { ",\n  " } else { "\n  " });
            write_string(&mut text, name);
            text.push_str(": ");
            value.write(&mut text);
        }
        text.push_str("\n}");
        text
    }

    fn sign(&mut self, ring: &KeyRing, version: KeyVersion) {
        if let Some(signature) = ring.tag(version, &self.canonical()) {
            self.set(SIGNATURE, Scalar::Text(signature));
        }
    }

    fn get(&self, name: &str) -> Option<&Scalar> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: Scalar) {
        match self.fields.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value,
            None => self.fields.push((name.to_owned(), value)),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn seconds(&self, name: &'static str) -> Result<f64, SignatureError> {
        match self.get(name) {
            Some(Scalar::Float(seconds)) => Ok(*seconds),
            // Whole seconds of any date are far below 2^53.
            Some(Scalar::Integer(seconds)) if seconds.unsigned_abs() < 1 << 53 => {
                Ok(*seconds as f64)
            }
            _ => Err(SignatureError::Field(name)),
        }
    }

    fn unsupported(&self) -> SignatureError {
        SignatureError::UnsupportedKeyVersion(self.shown_key_version())
    }

    /// The key version as the file has it, cut to 32 characters, without control characters.
    fn shown_key_version(&self) -> String {
        let mut shown = String::new();
        match self.get(KEY_VERSION) {
            Some(Scalar::Text(text)) => {
                shown.extend(text.chars().filter(|character| !character.is_control()).take(32));
            }
            Some(value) => value.write(&mut shown),
            None => shown.push_str("v1"),
        }
        shown
    }
}

impl Serialize for LicenseFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

impl<'de> Deserialize<'de> for LicenseFile {
    /// Reads from serde_json, whose source text the numbers need.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = LicenseFile;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "an object of at most {MAX_FIELDS} fields, each name once")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LicenseFile, A::Error> {
                let mut fields: Vec<(String, Scalar)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("the same name twice"));
                    }
                    if fields.len() == MAX_FIELDS {
                        return Err(A::Error::invalid_length(MAX_FIELDS + 1, &self));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(LicenseFile { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl PartialSchema for LicenseFile {
    fn schema() -> RefOr<Schema> {
        Object::builder()
            .schema_type(Type::Object)
            .description(Some("The signed license file, to be stored as it is."))
            .into()
    }
}

impl ToSchema for LicenseFile {
    fn name() -> std::borrow::Cow<'static, str> {
        "EvaluationLicenseFile".into()
    }
}

const EVALUATION: &str = "evaluation";
const KEY_VERSION: &str = "key_version";
const REVOKED: &str = "revoked";
const SIGNATURE: &str = "signature";
