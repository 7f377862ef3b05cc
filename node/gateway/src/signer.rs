//! This node's token-signing keys: they make access tokens, and nothing else.
//!
//! The private halves never leave the node; the public halves are published in the log under their
//! RFC 7638 thumbprints, so that every node verifies every node's tokens. Tokens are compact JWS
//! (RFC 7515): `RS256`, or `EdDSA` where an app's policy says so. The file holds the RSA key; the
//! Ed25519 key is derived from it, so that one file is one identity and both change together:
//!
//! ```text
//! Ed25519 seed = HKDF-SHA-256(salt = none, secret = PKCS#8 PEM of the RSA key,
//!                             info = "leasehold token ed25519 1")
//! ```
//!
//! The headers are fixed when a key is loaded, so that signing is one base64 text and one
//! signature. A running node may be given another pair: what is signed from then on is the new
//! one's.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use lease::command::{SigningAlgorithm, SigningKey};
use lease::ids::NodeId;
use parking_lot::RwLock;
use protocol::keys::{Algorithm, KeyError, PrivateKey, PublicKey, RsaSize};
use protocol::oauth::claims::{TOKEN_TYPE, key_id};
use protocol::secret::{Disclosed, Secret};
use serde::Serialize;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

/// The node's keys for access tokens.
pub struct TokenSigner(RwLock<Arc<Pair>>);

/// What signs at one time.
struct Pair {
    rsa: SigningHalf,
    ed25519: SigningHalf,
}

/// One key.
struct SigningHalf {
    algorithm: SigningAlgorithm,
    key: PrivateKey,
    public: PublicKey,
    kid: String,
    /// `base64url(header).`, the same for every token of this key.
    header: String,
}

/// Why a signing key or a token could not be made.
#[derive(Debug, Error)]
pub enum SignerError {
    /// The key is unusable.
    #[error("the token-signing key is unusable")]
    Key(#[from] KeyError),
    /// A key that is not RSA: the other one is derived from it.
    #[error("the token-signing key must be an RSA key")]
    NotRsa,
    /// The claims could not be written.
    #[error("the claims could not be written")]
    Claims(#[from] serde_json::Error),
}

impl TokenSigner {
    /// Makes a new key (2,048 bits; takes up to a second).
    pub fn generate() -> Result<Self, SignerError> {
        Self::new(PrivateKey::generate_rsa(RsaSize::Bits2048)?)
    }

    /// Reads a PKCS#8 PEM file's text.
    pub fn from_pem(pem: &str) -> Result<Self, SignerError> {
        Self::new(PrivateKey::from_pkcs8_pem(pem)?)
    }

    /// PKCS#8 PEM, for the node's key file (mode 0600).
    pub fn to_pem(&self) -> Result<Secret<String>, SignerError> {
        Ok(self.pair().rsa.key.to_pkcs8_pem()?)
    }

    /// Signs with another's keys from now on.
    pub fn replace(&self, by: &Self) {
        let pair = by.pair();
        *self.0.write() = pair;
    }

    /// The name of the key that signs so: its RFC 7638 thumbprint.
    pub fn kid_of(&self, algorithm: SigningAlgorithm) -> String {
        self.pair().half(algorithm).kid.clone()
    }

    /// The name of the RSA key.
    pub fn kid(&self) -> String {
        self.kid_of(SigningAlgorithm::Rs256)
    }

    /// The rows that publish the public halves as `node`'s keys.
    pub fn signing_keys(&self, node: NodeId) -> [SigningKey; 2] {
        let pair = self.pair();
        [pair.rsa.row(node), pair.ed25519.row(node)]
    }

    /// The RSA key's row alone.
    pub fn signing_key(&self, node: NodeId) -> SigningKey {
        self.pair().rsa.row(node)
    }

    /// Signs claims into a compact JWS.
    pub(crate) fn sign<C: Serialize>(
        &self,
        algorithm: SigningAlgorithm,
        claims: &C,
    ) -> Result<Disclosed, SignerError> {
        self.pair().half(algorithm).sign(claims)
    }

    fn new(key: PrivateKey) -> Result<Self, SignerError> {
        if key.algorithm() != Algorithm::RsaSha256 {
            return Err(SignerError::NotRsa);
        }
        let ed25519 = derived(&key)?;
        Ok(Self(RwLock::new(Arc::new(Pair {
            rsa: SigningHalf::new(SigningAlgorithm::Rs256, key)?,
            ed25519: SigningHalf::new(SigningAlgorithm::EdDsa, ed25519)?,
        }))))
    }

    fn pair(&self) -> Arc<Pair> {
        self.0.read().clone()
    }
}

impl Pair {
    fn half(&self, algorithm: SigningAlgorithm) -> &SigningHalf {
        match algorithm {
            SigningAlgorithm::Rs256 => &self.rsa,
            SigningAlgorithm::EdDsa => &self.ed25519,
        }
    }
}

impl SigningHalf {
    fn new(algorithm: SigningAlgorithm, key: PrivateKey) -> Result<Self, SignerError> {
        let public = key.public_key()?;
        let kid = key_id(&public);
        let name = match algorithm {
            SigningAlgorithm::Rs256 => "RS256",
            SigningAlgorithm::EdDsa => "EdDSA",
        };
        let header = format!(r#"{{"alg":"{name}","kid":"{kid}","typ":"{TOKEN_TYPE}"}}"#);
        let mut header = URL_SAFE_NO_PAD.encode(header);
        header.push('.');
        Ok(Self { algorithm, key, public, kid, header })
    }

    fn row(&self, node: NodeId) -> SigningKey {
        SigningKey {
            kid: self.kid.as_str().into(),
            node,
            algorithm: self.algorithm,
            public_der: self.public.spki_der().to_vec(),
        }
    }

    fn sign<C: Serialize>(&self, claims: &C) -> Result<Disclosed, SignerError> {
        let mut token = String::with_capacity(1024);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Disclosed::new(token))
    }
}

/// The Ed25519 key that goes with an RSA key.
#[expect(clippy::expect_used, reason = "HKDF-SHA-256 gives up to 8,160 bytes; 32 are asked for")]
fn derived(rsa: &PrivateKey) -> Result<PrivateKey, SignerError> {
    let pem = rsa.to_pkcs8_pem()?;
    // The text as this library writes it is one for each key, whatever the file looked like.
    let mut seed = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, pem.expose().as_bytes())
        .expand(b"leasehold token ed25519 1", &mut *seed)
        .expect("32 bytes are within HKDF's limit");
    Ok(PrivateKey::ed25519(&Secret::new(*seed)))
}

#[cfg(test)]
mod tests {
    use protocol::keys::PublicNumbers;

    use super::*;

    #[test]
    fn a_key_survives_its_pem_and_keeps_its_name() {
        let signer = TokenSigner::generate().unwrap();
        let again = TokenSigner::from_pem(signer.to_pem().unwrap().expose()).unwrap();
        assert_eq!(signer.kid(), again.kid());
        assert_eq!(signer.signing_keys(3), again.signing_keys(3));
        assert_ne!(signer.kid(), signer.kid_of(SigningAlgorithm::EdDsa));
    }

    #[test]
    fn a_token_is_what_another_library_accepts() {
        #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
        struct Claims {
            exp: u64,
        }
        let signer = TokenSigner::generate().unwrap();
        for row in signer.signing_keys(1) {
            let token = signer.sign(row.algorithm, &Claims { exp: u64::MAX / 4 }).unwrap();
            let public = PublicKey::from_spki_der(&row.public_der).unwrap();
            let (key, algorithm) = match public.numbers() {
                PublicNumbers::Rsa { n, e } => (
                    jsonwebtoken::DecodingKey::from_rsa_raw_components(n, e),
                    jsonwebtoken::Algorithm::RS256,
                ),
                PublicNumbers::Ed25519(point) => {
                    (jsonwebtoken::DecodingKey::from_ed_der(point), jsonwebtoken::Algorithm::EdDSA)
                }
            };
            let validation = jsonwebtoken::Validation::new(algorithm);
            let read = jsonwebtoken::decode::<Claims>(token.expose(), &key, &validation).unwrap();
            assert_eq!(read.header.kid.as_deref(), Some(&*row.kid));
            assert_eq!(read.claims, Claims { exp: u64::MAX / 4 });
        }
    }

    #[test]
    fn a_signer_that_was_given_other_keys_signs_with_them() {
        let (signer, other) = (TokenSigner::generate().unwrap(), TokenSigner::generate().unwrap());
        signer.replace(&other);
        assert_eq!(signer.signing_keys(1), other.signing_keys(1));
    }
}
