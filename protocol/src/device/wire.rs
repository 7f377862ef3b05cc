//! Requests and answers of activation and verification, and their headers.
//!
//! Requests are read as leniently as the reference server reads them (unknown fields ignored, null
//! as absent) and then checked in its order, so that a request with several faults gets the same
//! message from both. Hex on the wire is in lower case.
//!
//! What it leaves to others: the envelope around them ([`super::envelope`]), deciding (`lease`).

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::crypto::{NONCE_BYTES, SealedLicense};
use super::fingerprint::is_fingerprint;
use super::key::LicenseKey;
use super::payload::neutral;
use super::refusals::Refusal;
use super::time::{self, LicenseTime};
use crate::keys::PublicKey;
use crate::secret::Disclosed;
use crate::wire::{MAX_TEXT_CHARS, is_text};

/// Names the device, on every request.
pub const FINGERPRINT_HEADER: &str = "X-Device-Fingerprint";
/// Names the license: the key without hyphens, in upper case.
pub const KEY_HEADER: &str = "X-License-Key";
/// `1` when the body is an envelope.
pub const SECURE_HEADER: &str = "X-License-Secure";
/// No request is longer.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// No answer is longer: where our client stops reading.
pub const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;
/// `message` of an activation.
pub const ACTIVATED: &str = "License activated successfully";
/// `message` of a verification.
pub const VERIFIED: &str = "License verified successfully";

/// `POST /api/activate` and `POST /api/verify`, as the wire has it
#[derive(Serialize, Deserialize, ToSchema)]
pub struct DeviceRequest {
    /// Who uses the license.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = "owner@example.com", max_length = 256)]
    pub email: String,
    /// The client that owns the license.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = "6a3d09a9-7701-42b7-8f54-cfcda8b14d32", max_length = 256)]
    pub client_id: String,
    /// The key as it was typed.
    #[serde(default = "empty_secret", deserialize_with = "secret_text")]
    #[schema(example = "NWEOA-P5575-4WIZK-HBODW-FHAZP-KTI2Q-3JSAN-JXQ5P")]
    pub license_key: Disclosed,
    /// What the device is known by.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(
        example = "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39",
        pattern = "^[A-Za-z0-9_-]{16,128}$"
    )]
    pub device_fingerprint: String,
    /// The product, by id or short name, where the client insists on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256)]
    pub product_id: Option<String>,
}

fn empty_secret() -> Disclosed {
    Disclosed::new(String::new())
}

fn secret_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Disclosed, D::Error> {
    neutral(deserializer).map(Disclosed::new)
}

/// A request that passed every check.
pub struct DeviceCall {
    /// Who uses the license, trimmed.
    pub email: String,
    /// The client that owns the license, trimmed.
    pub client_id: String,
    /// The key.
    pub license_key: LicenseKey,
    /// What the device is known by, exactly as sent.
    pub fingerprint: String,
    /// The product, by id or short name.
    pub product: Option<String>,
}

impl DeviceCall {
    /// What tells users of a license apart: the address in lower case.
    pub fn identity(&self) -> String {
        self.email.to_lowercase()
    }
}

/// Why a request is not looked at further. Always 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestFault {
    /// The body is too long or broke off.
    #[error("Failed to read request body")]
    Unreadable,
    /// Not a JSON object with fields of these types.
    #[error("Invalid request body")]
    Body,
    /// Not `local@domain.tld`.
    #[error("invalid email address")]
    Email,
    /// No client id.
    #[error("client_id is required")]
    ClientIdMissing,
    /// Not a license key.
    #[error("invalid license key format")]
    LicenseKey,
    /// Not a fingerprint.
    #[error("invalid device fingerprint format")]
    Fingerprint,
    /// Ours: a client id too long or with control characters.
    #[error("invalid client_id format")]
    ClientId,
    /// Ours: a product too long or with control characters.
    #[error("invalid product_id format")]
    Product,
    /// Ours: a trial of more days than any plan gives.
    #[error("invalid trial duration")]
    TrialDays,
    /// Ours: a subscription URL that is too long or not http or https.
    #[error("invalid subscription_url format")]
    SubscriptionUrl,
}

impl RequestFault {
    /// The status.
    pub const STATUS: u16 = 400;

    /// The answer's body.
    pub fn body(self) -> FailureBody {
        FailureBody::error_only(&self.to_string())
    }
}

impl DeviceRequest {
    /// Reads a body and checks it: body, e-mail address, client id, key, fingerprint, in this
    /// order. Ours come after the reference's: a client id or product that no record can have.
    pub fn read(body: &[u8]) -> Result<DeviceCall, RequestFault> {
        if body.len() > MAX_BODY_BYTES {
            return Err(RequestFault::Unreadable);
        }
        crate::cloud::body::decode::<Self>(body).map_err(|_| RequestFault::Body)?.check()
    }

    fn check(self) -> Result<DeviceCall, RequestFault> {
        let email = email(&self.email)?;
        let client_id = self.client_id.trim().to_owned();
        if client_id.is_empty() {
            return Err(RequestFault::ClientIdMissing);
        }
        let license_key = LicenseKey::normalise(self.license_key.expose())
            .map_err(|_| RequestFault::LicenseKey)?;
        if !is_fingerprint(&self.device_fingerprint) {
            return Err(RequestFault::Fingerprint);
        }
        if !is_text(&client_id, MAX_TEXT_CHARS) {
            return Err(RequestFault::ClientId);
        }
        let product = product(self.product_id.as_deref())?;
        let fingerprint = self.device_fingerprint;
        Ok(DeviceCall { email, client_id, license_key, fingerprint, product })
    }
}

/// Reads an address: `local@domain.tld` in ASCII, the last label of two letters or more.
pub(super) fn email(text: &str) -> Result<String, RequestFault> {
    let text = text.trim();
    let is_local =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-');
    let is_domain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let fits = || {
        let (local, domain) = text.split_once('@')?;
        let (name, tld) = domain.rsplit_once('.')?;
        let fits = text.len() <= MAX_TEXT_CHARS
            && !local.is_empty()
            && local.bytes().all(is_local)
            && !name.is_empty()
            && name.bytes().all(is_domain)
            && tld.len() >= 2
            && tld.bytes().all(|byte| byte.is_ascii_alphabetic());
        fits.then(|| text.to_owned())
    };
    fits().ok_or(RequestFault::Email)
}

/// Reads a product that may be absent or empty.
pub(super) fn product(text: Option<&str>) -> Result<Option<String>, RequestFault> {
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) if is_text(text, MAX_TEXT_CHARS) => Ok(Some(text.to_owned())),
        Some(_) => Err(RequestFault::Product),
    }
}

/// The answer of an activation or verification, as the wire has it
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceActivationResponse)]
pub struct ActivationResponse {
    /// False only under `compat = 200`.
    #[serde(default, deserialize_with = "neutral")]
    pub success: bool,
    /// For people.
    #[serde(default, deserialize_with = "neutral")]
    #[schema(example = "License activated successfully")]
    pub message: String,
    /// The sealed license, lower-case hex.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "String::is_empty")]
    pub encrypted_license: String,
    /// Its nonce: 12 bytes, lower-case hex.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "String::is_empty")]
    #[schema(example = "dbe3af49a64342b2dbcc50c8")]
    pub nonce: String,
    /// RSA-PSS with SHA-256 and the longest salt over the sealed bytes, lower-case hex.
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// PEM of the RSA key that signed (`PUBLIC KEY`).
    #[serde(default, deserialize_with = "neutral", skip_serializing_if = "String::is_empty")]
    pub public_key: String,
    /// When the license ends; the zero time on a failure.
    #[serde(default, deserialize_with = "time::or_zero")]
    pub expires_at: LicenseTime,
}

/// Why an answer is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// Not the JSON of an answer.
    #[error("not an answer: {reason}")]
    Malformed {
        /// What, where.
        reason: String,
    },
    /// A refusal in the reference server's form.
    #[error("refused: {message}")]
    Refused {
        /// What the server said.
        message: String,
    },
    /// A field that is absent, or not what it has to be.
    #[error("{field}: {reason}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ActivationResponse {
    /// A success: `message` is [`ACTIVATED`] or [`VERIFIED`].
    pub fn success(message: &str, sealed: &SealedLicense, expires_at: LicenseTime) -> Self {
        Self {
            success: true,
            message: message.to_owned(),
            encrypted_license: HEXLOWER.encode(&sealed.ciphertext),
            nonce: HEXLOWER.encode(&sealed.nonce),
            signature: HEXLOWER.encode(&sealed.signature),
            public_key: sealed.public_key.to_pem(),
            expires_at,
        }
    }

    /// A refusal in the reference server's form, for status 200.
    pub fn failure(refusal: &Refusal) -> Self {
        Self {
            success: false,
            message: refusal.message(),
            encrypted_license: String::new(),
            nonce: String::new(),
            signature: String::new(),
            public_key: String::new(),
            expires_at: LicenseTime::ZERO,
        }
    }

    /// The body's bytes, with the line end that the reference server sends.
    pub fn to_bytes(&self) -> Vec<u8> {
        json_line(self)
    }

    /// Reads an answer with a 2xx status: the sealed license and when it ends. Nothing in it is
    /// believed yet; see [`SealedLicense::open`].
    pub fn read(body: &[u8]) -> Result<(SealedLicense, LicenseTime), AnswerError> {
        let answer: Self = crate::cloud::body::decode(body)
            .map_err(|error| AnswerError::Malformed { reason: error.to_string() })?;
        if !answer.success {
            return Err(AnswerError::Refused { message: answer.message });
        }
        answer.sealed().map(|sealed| (sealed, answer.expires_at))
    }

    /// The sealed license of a success.
    pub fn sealed(&self) -> Result<SealedLicense, AnswerError> {
        let nonce: [u8; NONCE_BYTES] =
            hex("nonce", &self.nonce)?.try_into().map_err(|nonce: Vec<u8>| AnswerError::Field {
                field: "nonce",
                reason: format!("{} bytes; want {NONCE_BYTES}", nonce.len()),
            })?;
        let public_key = PublicKey::from_pem(&self.public_key).map_err(|error| {
            AnswerError::Field { field: "public_key", reason: error.to_string() }
        })?;
        Ok(SealedLicense {
            ciphertext: hex("encrypted_license", &self.encrypted_license)?,
            nonce,
            signature: hex("signature", &self.signature)?,
            public_key,
        })
    }
}

fn hex(field: &'static str, text: &str) -> Result<Vec<u8>, AnswerError> {
    let wrong = |reason: &str| AnswerError::Field { field, reason: reason.to_owned() };
    if text.is_empty() {
        return Err(wrong("absent"));
    }
    HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong("not lower-case hex"))
}

/// The body of a failed call: texts only, since the reference client reads it as a map of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceFailureBody)]
pub struct FailureBody {
    /// What went wrong.
    #[schema(example = "Maximum devices (5) reached")]
    pub error: String,
    /// The same again, for clients that look here; on refusals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl FailureBody {
    /// For a request that was not decided: faults, wrong methods, too many requests, obstacles.
    pub fn error_only(error: &str) -> Self {
        Self { error: error.to_owned(), message: None }
    }

    /// For a refusal.
    pub fn refusal(refusal: &Refusal) -> Self {
        let message = refusal.message();
        Self { error: message.clone(), message: Some(message) }
    }

    /// The body's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        json_line(self)
    }
}

/// `error` of a wrong method, 405.
pub const METHOD_NOT_ALLOWED: &str = "Method not allowed";
/// `error` of too many requests, 429.
pub const TOO_MANY_REQUESTS: &str = "Too many requests";
/// `error` of an admin call without a valid `X-API-Key`, 401.
pub const UNAUTHORIZED: &str = "Unauthorized";

/// `GET /health`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceHealth)]
pub struct Health {
    /// Always `ok`.
    pub status: HealthStatus,
}

/// Always `ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceHealthStatus)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// The server answers.
    Ok,
}

/// The bytes of a body with a line end, as the reference server writes them.
pub(super) fn json_line<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "bodies are made of texts, numbers and times")]
    let mut bytes = serde_json::to_vec(value).expect("a body is JSON");
    bytes.push(b'\n');
    bytes
}
