//! The one gate for public keys, and the holders of private ones.
//!
//! A key is let in when it is RSA of 2,048 to 8,192 bits or Ed25519 in its one canonical encoding
//! and not of small order; its DER must be the encoding that we would write ourselves, so that one
//! key has one fingerprint. Signatures are RSA PKCS#1 v1.5 with SHA-256 (what the package format
//! says) and Ed25519 with the strict rules of `verify_strict`. RSA-PSS, which the `device` protocol
//! asks for, is in [`pss`].
//!
//! RSA is done by aws-lc-rs, which brings its own randomness for making keys; an Ed25519 key is
//! made from 32 bytes that the caller brings.
//!
//! ```compile_fail,E0277
//! fn debug<T: std::fmt::Debug>() {}
//! debug::<protocol::keys::PrivateKey>();
//! ```
//! ```compile_fail,E0277
//! fn cloned<T: Clone>() {}
//! cloned::<protocol::keys::PrivateKey>();
//! ```
//! ```compile_fail,E0277
//! fn written<T: serde::Serialize>() {}
//! written::<protocol::keys::PrivateKey>();
//! ```
//! A public key may be shown and copied:
//! ```
//! fn shown<T: std::fmt::Debug + Clone>() {}
//! shown::<protocol::keys::PublicKey>();
//! ```

pub mod pss;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKey as RsaPublicKey};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER_PERMISSIVE;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Fewest bits of an RSA modulus.
pub const MIN_RSA_BITS: usize = 2048;
/// Most bits of an RSA modulus; more only buys time for an attacker of our processor.
pub const MAX_RSA_BITS: usize = 8192;
/// No PEM text of a key is longer: RSA-8192 in PKCS#8 takes 6.4 KB.
pub const MAX_PEM_BYTES: usize = 16 * 1024;

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256 (RFC 8017).
    RsaSha256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl Algorithm {
    /// The name before the colon in a package's signature.
    pub fn signature_prefix(self) -> &'static str {
        match self {
            Self::RsaSha256 => "SHA256-RSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// How large a new RSA key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaSize {
    /// 2,048 bits: a node's token keys, which live for weeks.
    Bits2048,
    /// 3,072 bits: vendor keys, which live for years.
    Bits3072,
    /// 4,096 bits.
    Bits4096,
}

/// Why a key was not let in, or did not work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not a PEM text, or more than one.
    #[error("not one PEM block with a key in it")]
    Pem,
    /// A PEM block of another kind.
    #[error("a PEM block of kind {found:?}; expected {expected}")]
    PemKind {
        /// The label found, cut to 40 characters.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A DER encoding that is not the canonical one of an RSA or Ed25519 key.
    #[error("not the DER encoding of an RSA or Ed25519 key")]
    Encoding,
    /// An RSA modulus outside the bounds.
    #[error("an RSA key of {bits} bits; from {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")]
    RsaBits {
        /// Bits of the modulus.
        bits: usize,
    },
    /// An Ed25519 point in an encoding that is not canonical, or not on the curve.
    #[error("an Ed25519 key that is not in its canonical encoding")]
    NotCanonical,
    /// An Ed25519 key of small order, under which almost every signature verifies.
    #[error("an Ed25519 key of small order")]
    Weak,
    /// The library could not make a key or a signature.
    #[error("the key operation failed")]
    Operation,
}

impl KeyError {
    /// The wire code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Pem | Self::PemKind { .. } | Self::Encoding => "key_malformed",
            Self::RsaBits { .. } => "key_size",
            Self::NotCanonical => "key_not_canonical",
            Self::Weak => "key_weak",
            Self::Operation => "key_operation_failed",
        }
    }
}

/// A signature that does not belong to the message and the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// A public key that passed the gate.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: PublicKind,
    spki_der: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
enum PublicKind {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ed25519(VerifyingKey),
}

/// The numbers of a public key, for a JWK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicNumbers<'a> {
    /// Modulus and exponent, big endian without leading zeros.
    Rsa {
        /// Modulus.
        n: &'a [u8],
        /// Exponent.
        e: &'a [u8],
    },
    /// The compressed point.
    Ed25519(&'a [u8; 32]),
}

/// SHA-256 of a public key's SubjectPublicKeyInfo; shown as `SHA256:` and 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SHA256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a fingerprint: want SHA256: and 64 hex digits")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    /// Reads what `Display` writes; hex digits of either case, as people type them.
    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let digits = text.strip_prefix("SHA256:").ok_or(NotAFingerprint)?;
        HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(NotAFingerprint)
    }
}

impl PublicKey {
    /// Reads `PUBLIC KEY` (SubjectPublicKeyInfo) or `RSA PUBLIC KEY` (PKCS#1) and applies the gate.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = read_pem(text)?;
        match label {
            "PUBLIC KEY" => Self::from_spki_der(&der),
            "RSA PUBLIC KEY" => {
                let key = RsaPublicKey::from_der(&der).map_err(|_| KeyError::Encoding)?;
                if key.as_ref() != &der[..] {
                    return Err(KeyError::Encoding);
                }
                Self::from_rsa(&key)
            }
            other => Err(KeyError::PemKind {
                found: other.chars().take(40).collect(),
                expected: "PUBLIC KEY or RSA PUBLIC KEY",
            }),
        }
    }

    /// Reads a SubjectPublicKeyInfo (RFC 5280, RFC 8410) and applies the gate.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        if let Some(point) = der.strip_prefix(ED25519_SPKI_PREFIX) {
            let point = point.try_into().map_err(|_| KeyError::Encoding)?;
            return Self::from_ed25519_bytes(point);
        }
        let key = RsaPublicKey::from_der(der).map_err(|_| KeyError::Encoding)?;
        let key = Self::from_rsa(&key)?;
        if key.spki_der == der { Ok(key) } else { Err(KeyError::Encoding) }
    }

    /// Applies the gate to the 32 bytes of an Ed25519 key.
    pub fn from_ed25519_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotCanonical)?;
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::NotCanonical);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        let spki_der = [ED25519_SPKI_PREFIX, bytes].concat();
        Ok(Self { kind: PublicKind::Ed25519(key), spki_der })
    }

    fn from_rsa(key: &RsaPublicKey) -> Result<Self, KeyError> {
        let n = key.modulus().big_endian_without_leading_zero().to_vec();
        let e = key.exponent().big_endian_without_leading_zero().to_vec();
        let leading = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
        let bits = n.len() * 8 - leading;
        if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
            return Err(KeyError::RsaBits { bits });
        }
        let der: PublicKeyX509Der<'_> = key.as_der().map_err(|_| KeyError::Encoding)?;
        Ok(Self { kind: PublicKind::Rsa { n, e }, spki_der: der.as_ref().to_vec() })
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The SubjectPublicKeyInfo as PEM.
    pub fn to_pem(&self) -> String {
        let mut text = String::new();
        write_pem(&mut text, "PUBLIC KEY", &self.spki_der);
        text
    }

    /// What tells keys apart, for people and for pins.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(&self.spki_der).into())
    }

    /// What the key verifies.
    pub fn algorithm(&self) -> Algorithm {
        match self.kind {
            PublicKind::Rsa { .. } => Algorithm::RsaSha256,
            PublicKind::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The key's numbers.
    pub fn numbers(&self) -> PublicNumbers<'_> {
        match &self.kind {
            PublicKind::Rsa { n, e } => PublicNumbers::Rsa { n, e },
            PublicKind::Ed25519(key) => PublicNumbers::Ed25519(key.as_bytes()),
        }
    }

    /// Verifies a signature made with the key's own algorithm.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        match &self.kind {
            PublicKind::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .map_err(|_| BadSignature),
            PublicKind::Ed25519(key) => {
                let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
                key.verify_strict(message, &signature).map_err(|_| BadSignature)
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.algorithm(), self.fingerprint())
    }
}

/// A private key; wiped when dropped, never printed or copied.
pub struct PrivateKey(PrivateKind);

enum PrivateKind {
    Rsa(KeyPair),
    Ed25519(SigningKey),
}

impl PrivateKey {
    /// Makes an RSA key with the library's own randomness.
    pub fn generate_rsa(size: RsaSize) -> Result<Self, KeyError> {
        let size = match size {
            RsaSize::Bits2048 => KeySize::Rsa2048,
            RsaSize::Bits3072 => KeySize::Rsa3072,
            RsaSize::Bits4096 => KeySize::Rsa4096,
        };
        KeyPair::generate(size)
            .map(|pair| Self(PrivateKind::Rsa(pair)))
            .map_err(|_| KeyError::Operation)
    }

    /// Makes an Ed25519 key of 32 random bytes.
    pub fn ed25519(seed: &Secret<[u8; 32]>) -> Self {
        Self(PrivateKind::Ed25519(SigningKey::from_bytes(seed.expose())))
    }

    /// Reads an unencrypted PKCS#8 key (`PRIVATE KEY`); its public half must pass the gate.
    pub fn from_pkcs8_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = read_pem(text)?;
        if label != "PRIVATE KEY" {
            return Err(KeyError::PemKind {
                found: label.chars().take(40).collect(),
                expected: "PRIVATE KEY (PKCS#8, not encrypted)",
            });
        }
        Self::from_pkcs8_der(&der)
    }

    /// Reads an unencrypted PKCS#1 key (`RSA PRIVATE KEY`, RFC 8017 appendix A.1.2), which is how
    /// the `device` protocol's reference server keeps the key that clients may have pinned.
    pub fn from_pkcs1_pem(text: &str) -> Result<Self, KeyError> {
        let (label, der) = read_pem(text)?;
        if label != "RSA PRIVATE KEY" {
            return Err(KeyError::PemKind {
                found: label.chars().take(40).collect(),
                expected: "RSA PRIVATE KEY (PKCS#1, not encrypted)",
            });
        }
        let key = Self(PrivateKind::Rsa(KeyPair::from_der(&der).map_err(|_| KeyError::Encoding)?));
        key.public_key()?;
        Ok(key)
    }

    /// Reads the bytes of an unencrypted PKCS#8 key; its public half must pass the gate.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = match SigningKey::from_pkcs8_der(der) {
            Ok(key) => Self(PrivateKind::Ed25519(key)),
            Err(_) => {
                Self(PrivateKind::Rsa(KeyPair::from_pkcs8(der).map_err(|_| KeyError::Encoding)?))
            }
        };
        key.public_key()?;
        Ok(key)
    }

    /// Writes the key as unencrypted PKCS#8.
    pub fn to_pkcs8_der(&self) -> Result<Secret<Vec<u8>>, KeyError> {
        match &self.0 {
            PrivateKind::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Operation)?;
                Ok(Secret::new(der.as_ref().to_vec()))
            }
            PrivateKind::Ed25519(key) => {
                let mut der = Vec::with_capacity(48);
                der.extend_from_slice(ED25519_PKCS8_PREFIX);
                der.extend_from_slice(key.as_bytes());
                Ok(Secret::new(der))
            }
        }
    }

    /// Writes the key as unencrypted PKCS#8 PEM.
    pub fn to_pkcs8_pem(&self) -> Result<Secret<String>, KeyError> {
        let der = self.to_pkcs8_der()?;
        // Room for everything from the start: a buffer that grows leaves a copy behind.
        let mut text = String::with_capacity(der.expose().len() * 3 / 2 + 128);
        write_pem(&mut text, "PRIVATE KEY", der.expose());
        Ok(Secret::new(text))
    }

    /// The public half, through the gate.
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        match &self.0 {
            PrivateKind::Rsa(pair) => PublicKey::from_rsa(pair.public_key()),
            PrivateKind::Ed25519(key) => {
                PublicKey::from_ed25519_bytes(key.verifying_key().as_bytes())
            }
        }
    }

    /// What the key signs with.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            PrivateKind::Rsa(_) => Algorithm::RsaSha256,
            PrivateKind::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// Signs with the key's own algorithm; both are deterministic.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.0 {
            PrivateKind::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| KeyError::Operation)?;
                Ok(signature)
            }
            PrivateKind::Ed25519(key) => Ok(key.sign(message).to_bytes().to_vec()),
        }
    }
}

/// Reads the one PEM block of a text: its label and its bytes.
fn read_pem(text: &str) -> Result<(&str, Zeroizing<Vec<u8>>), KeyError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(KeyError::Pem);
    }
    let (label, rest) = text
        .trim()
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.split_once("-----"))
        .ok_or(KeyError::Pem)?;
    let body = rest
        .strip_suffix("-----")
        .and_then(|rest| rest.strip_suffix(label))
        .and_then(|rest| rest.strip_suffix("-----END "))
        .ok_or(KeyError::Pem)?;
    let mut packed = Zeroizing::new(Vec::with_capacity(body.len()));
    packed.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let der = STANDARD.decode(&*packed).map_err(|_| KeyError::Pem)?;
    Ok((label, Zeroizing::new(der)))
}

fn write_pem(text: &mut String, label: &str, der: &[u8]) {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut line_start = 0;
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    while line_start < body.len() {
        let line_end = body.len().min(line_start + 64);
        text.push_str(&body[line_start..line_end]);
        text.push('\n');
        line_start = line_end;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
}

/// SEQUENCE { SEQUENCE { id-Ed25519 }, BIT STRING of 32 bytes } up to the bytes (RFC 8410).
const ED25519_SPKI_PREFIX: &[u8] =
    &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// SEQUENCE { 0, SEQUENCE { id-Ed25519 }, OCTET STRING { OCTET STRING of 32 bytes } } (RFC 8410).
const ED25519_PKCS8_PREFIX: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
