//! This node's token-signing key: makes access tokens, and nothing else.
//!
//! The private half never leaves the node; the public half is published in the log under its
//! RFC 7638 thumbprint, so that every node verifies every node's tokens. Tokens are compact JWS
//! (RFC 7515) with `RS256`; the header is fixed when the key is loaded, so that signing a token is
//! one base64 text and one signature.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lease::command::{SigningAlgorithm, SigningKey};
use lease::ids::NodeId;
use protocol::keys::{Algorithm, KeyError, PrivateKey, PublicKey, RsaSize};
use protocol::oauth::claims::{TOKEN_TYPE, key_id};
use protocol::secret::{Disclosed, Secret};
use serde::Serialize;
use thiserror::Error;

/// The node's RSA key for access tokens.
pub struct TokenSigner {
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
    /// A key that is not RSA: the tokens of this protocol are RS256.
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
        Ok(self.key.to_pkcs8_pem()?)
    }

    /// The key's name: its RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The row that publishes the public half as `node`'s key.
    pub fn signing_key(&self, node: NodeId) -> SigningKey {
        SigningKey {
            kid: self.kid.as_str().into(),
            node,
            algorithm: SigningAlgorithm::Rs256,
            public_der: self.public.spki_der().to_vec(),
        }
    }

    /// Signs claims into a compact JWS.
    pub(crate) fn sign<C: Serialize>(&self, claims: &C) -> Result<Disclosed, SignerError> {
        let mut token = String::with_capacity(1024);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Disclosed::new(token))
    }

    fn new(key: PrivateKey) -> Result<Self, SignerError> {
        if key.algorithm() != Algorithm::RsaSha256 {
            return Err(SignerError::NotRsa);
        }
        let public = key.public_key()?;
        let kid = key_id(&public);
        let header = format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"{TOKEN_TYPE}"}}"#);
        let mut header = URL_SAFE_NO_PAD.encode(header);
        header.push('.');
        Ok(Self { key, public, kid, header })
    }
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
        assert_eq!(signer.signing_key(3), again.signing_key(3));
    }

    #[test]
    fn a_token_is_what_another_library_accepts() {
        #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
        struct Claims {
            exp: u64,
        }
        let signer = TokenSigner::generate().unwrap();
        let token = signer.sign(&Claims { exp: u64::MAX / 4 }).unwrap();
        let PublicNumbers::Rsa { n, e } = signer.public.numbers() else { panic!("not RSA") };
        let key = jsonwebtoken::DecodingKey::from_rsa_raw_components(n, e);
        let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        let read = jsonwebtoken::decode::<Claims>(token.expose(), &key, &validation).unwrap();
        assert_eq!(read.header.kid.as_deref(), Some(signer.kid()));
        assert_eq!(read.claims, Claims { exp: u64::MAX / 4 });
    }
}
