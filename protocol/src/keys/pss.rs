//! RSA-PSS (RFC 8017, section 8.1) with SHA-256 and MGF1 with SHA-256, for the `device` protocol.
//!
//! That protocol's reference signs with the longest salt that fits the key, and its clients differ:
//! the Go and TypeScript ones find the salt's length by themselves, the PHP one demands the
//! longest. So we sign with the longest, and a verifier says which of the two it is. The library
//! checks one length at a time; finding it means trying them, the likely ones first. A signature
//! that verifies under none costs one public-key operation per length: 223 for RSA-2048, a few
//! milliseconds.
//!
//! What it leaves to others: what is signed ([`crate::device::crypto`]).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaPssSaltLength, RsaPublicKeyComponents,
    RsaSignatureEncoding,
};

use super::{BadSignature, KeyError, PrivateKey, PrivateKind, PublicKey, PublicKind};

/// Which salts a verifier accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PssSalt {
    /// Only the longest that fits the key: its bytes less 34.
    Longest,
    /// Any length from none to the longest.
    Any,
}

impl PrivateKey {
    /// Signs with RSA-PSS, SHA-256 and the longest salt; the library brings the salt, so that no
    /// two signatures are alike. An Ed25519 key is refused.
    pub fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let PrivateKind::Rsa(pair) = &self.0 else { return Err(KeyError::Operation) };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&LONGEST_SALT, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| KeyError::Operation)?;
        Ok(signature)
    }
}

impl PublicKey {
    /// Verifies an RSA-PSS signature with SHA-256. Under an Ed25519 key none verifies.
    pub fn verify_pss(
        &self,
        message: &[u8],
        signature: &[u8],
        salt: PssSalt,
    ) -> Result<(), BadSignature> {
        let PublicKind::Rsa { n, e } = &self.kind else { return Err(BadSignature) };
        // A signature is as long as the modulus: what is not need not be tried 223 times.
        if signature.len() != n.len() {
            return Err(BadSignature);
        }
        let verifies = |salt| {
            let parameters = RSA_PSS_2048_8192_SHA256.with_pss_salt_length(salt);
            RsaPublicKeyComponents { n, e }.verify(&parameters, message, signature).is_ok()
        };
        if verifies(RsaPssSaltLength::Max) {
            return Ok(());
        }
        let found = match salt {
            PssSalt::Longest => false,
            PssSalt::Any => {
                verifies(RsaPssSaltLength::Digest) || {
                    let longest = u16::try_from(n.len()).map_err(|_| BadSignature)?;
                    let longest = longest.saturating_sub(DIGEST_AND_MARKS_BYTES);
                    (0..=longest).any(|bytes| verifies(RsaPssSaltLength::Custom(bytes)))
                }
            }
        };
        if found { Ok(()) } else { Err(BadSignature) }
    }
}

static LONGEST_SALT: RsaSignatureEncoding =
    RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
/// SHA-256's 32 bytes, and the two marks of the padding.
const DIGEST_AND_MARKS_BYTES: u16 = 34;
