//! The license of an answer: sealed to one device, signed by the server.
//!
//! ```text
//! transport key = SHA-256(fingerprint ‖ lower-case hex of the nonce)
//! plaintext     = session key (32 bytes) ‖ license JSON
//! ciphertext    = AES-256-GCM(transport key, nonce, plaintext), tag appended, no associated data
//! signature     = RSA-PSS-SHA-256(ciphertext with its tag), longest salt
//! ```
//!
//! The fingerprint is no secret, so sealing hides the license from nobody who saw the request; it
//! binds the answer to the device. What makes it trustworthy is the signature, and what makes the
//! signature worth anything is that the client knows the key: the reference client believes any key
//! that comes along, ours compares it with the one it knows ([`SealedLicense::open`]).
//!
//! What it leaves to others: nonces and session keys (the caller brings random bytes), the JSON
//! ([`super::payload`]), the hex and base64 around it ([`super::wire`], [`super::stored`]).

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::pss::PssSalt;
use crate::keys::{Algorithm, BadSignature, KeyError, PrivateKey, PublicKey};
use crate::secret::Secret;

/// Bytes of every nonce of this protocol.
pub const NONCE_BYTES: usize = 12;
/// Bytes of a session key.
pub const SESSION_KEY_BYTES: usize = 32;
/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;

/// Seals the requests and answers of one device under one license; made at the first activation and
/// kept from then on.
pub type SessionKey = Secret<[u8; SESSION_KEY_BYTES]>;

/// The key that seals one answer to one device.
pub fn transport_key(fingerprint: &str, nonce: &[u8; NONCE_BYTES]) -> Secret<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(fingerprint.as_bytes());
    hash.update(HEXLOWER.encode(nonce).as_bytes());
    Secret::new(hash.finalize().into())
}

/// The server's RSA key with its public half, worked out once.
pub struct LicenseSigner {
    private: PrivateKey,
    public: PublicKey,
}

impl LicenseSigner {
    /// Takes an RSA key; the protocol knows no other.
    pub fn new(private: PrivateKey) -> Result<Self, KeyError> {
        let public = private.public_key()?;
        match public.algorithm() {
            Algorithm::RsaSha256 => Ok(Self { private, public }),
            Algorithm::Ed25519 => Err(KeyError::Encoding),
        }
    }

    /// The public half, which every answer carries.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Seals a license to a device and signs it. The nonce must be random and never used before.
    pub fn seal(
        &self,
        fingerprint: &str,
        nonce: [u8; NONCE_BYTES],
        session_key: &SessionKey,
        license_json: &[u8],
    ) -> Result<SealedLicense, KeyError> {
        let length = SESSION_KEY_BYTES + license_json.len();
        let mut plaintext = Zeroizing::new(Vec::with_capacity(length));
        plaintext.extend_from_slice(session_key.expose());
        plaintext.extend_from_slice(license_json);
        let ciphertext = seal(&transport_key(fingerprint, &nonce), &nonce, &plaintext)
            .ok_or(KeyError::Operation)?;
        let signature = self.private.sign_pss(&ciphertext)?;
        Ok(SealedLicense { ciphertext, nonce, signature, public_key: self.public.clone() })
    }
}

/// A sealed and signed license, as answers and stored files carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedLicense {
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
    /// The nonce it was sealed with.
    pub nonce: [u8; NONCE_BYTES],
    /// RSA-PSS over the ciphertext and tag.
    pub signature: Vec<u8>,
    /// The key that it claims to be signed with.
    pub public_key: PublicKey,
}

/// What a sealed license holds.
pub struct OpenedLicense {
    /// For envelopes from now on.
    pub session_key: SessionKey,
    /// The license, JSON.
    pub license_json: Zeroizing<Vec<u8>>,
}

/// Why a sealed license is not believed. The client refuses to run; nothing is stored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SealedLicenseError {
    /// Signed with another key than the one that is known.
    #[error("the server's key has changed: known {known}, offered {offered}")]
    KeyChanged {
        /// Fingerprint of the key that is known.
        known: crate::keys::Fingerprint,
        /// Fingerprint of the key that came along.
        offered: crate::keys::Fingerprint,
    },
    /// The signature is not over this ciphertext.
    #[error("the license's signature does not verify")]
    Signature,
    /// Sealed to another device, or changed.
    #[error("the license was not sealed to this device")]
    Sealed,
    /// Opens, and has no room for a session key.
    #[error("the license holds {bytes} bytes, less than a session key")]
    Short {
        /// How many it holds.
        bytes: usize,
    },
}

impl SealedLicense {
    /// Verifies the signature with the key that came along.
    pub fn verify(&self, salt: PssSalt) -> Result<(), BadSignature> {
        self.public_key.verify_pss(&self.ciphertext, &self.signature, salt)
    }

    /// Compares the key with the one that is known, verifies, and opens. With no key known the one
    /// that came along is believed, as the reference client always does; keep it for the next time.
    pub fn open(
        &self,
        fingerprint: &str,
        known_key: Option<&PublicKey>,
    ) -> Result<OpenedLicense, SealedLicenseError> {
        if let Some(known) = known_key.filter(|known| **known != self.public_key) {
            let (known, offered) = (known.fingerprint(), self.public_key.fingerprint());
            return Err(SealedLicenseError::KeyChanged { known, offered });
        }
        self.verify(PssSalt::Any).map_err(|BadSignature| SealedLicenseError::Signature)?;
        let key = transport_key(fingerprint, &self.nonce);
        let plaintext =
            open(&key, &self.nonce, &self.ciphertext).ok_or(SealedLicenseError::Sealed)?;
        let Some((session_key, license_json)) = plaintext.split_first_chunk() else {
            return Err(SealedLicenseError::Short { bytes: plaintext.len() });
        };
        Ok(OpenedLicense {
            session_key: Secret::new(*session_key),
            license_json: Zeroizing::new(license_json.to_vec()),
        })
    }
}

/// AES-256-GCM without associated data; nothing only for a plaintext of 64 GiB.
pub(super) fn seal(
    key: &Secret<[u8; 32]>,
    nonce: &[u8; NONCE_BYTES],
    plaintext: &[u8],
) -> Option<Vec<u8>> {
    let cipher = Aes256Gcm::new(key.expose().into());
    cipher.encrypt(&Nonce::from(*nonce), plaintext).ok()
}

/// The plaintext, where key, nonce and every byte are those it was sealed with.
pub(super) fn open(
    key: &Secret<[u8; 32]>,
    nonce: &[u8; NONCE_BYTES],
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let cipher = Aes256Gcm::new(key.expose().into());
    cipher.decrypt(&Nonce::from(*nonce), ciphertext).ok().map(Zeroizing::new)
}
