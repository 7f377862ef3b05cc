//! A node's key-encryption key: X25519, private half in a file, public half in the member row.
//!
//! The file is an unencrypted PKCS#8 `PRIVATE KEY` (RFC 8410), the form that
//! `openssl genpkey -algorithm x25519` writes, mode 0600, outside the data directory, so that a
//! copy of the data alone opens nothing.
//!
//! What it leaves to others: file permissions (`config`), where keys come from when not from files.

use protocol::secret::Secret;
use storage::seam::Entropy;
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Why a text is not a key-encryption key.
#[derive(Debug, Error)]
pub enum KekError {
    /// Not one PEM block.
    #[error("it is not a PEM file")]
    Pem(#[source] pem::PemError),
    /// A PEM block of another kind.
    #[error("it holds a {0}, not a PRIVATE KEY (PKCS#8, not encrypted)")]
    Label(String),
    /// PKCS#8 of another algorithm.
    #[error("it is not an X25519 key in PKCS#8")]
    Algorithm,
}

/// The private half.
pub struct KeyEncryptionKey(StaticSecret);

impl KeyEncryptionKey {
    /// Makes a new one.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        Self(StaticSecret::from(*seed))
    }

    /// Reads the file's text.
    pub fn from_pem(text: &str) -> Result<Self, KekError> {
        let block = pem::parse(text).map_err(KekError::Pem)?;
        if block.tag() != PEM_LABEL {
            return Err(KekError::Label(block.tag().chars().take(40).collect()));
        }
        let contents = Zeroizing::new(block.into_contents());
        let private: [u8; 32] = contents
            .strip_prefix(PKCS8_PREFIX)
            .and_then(|rest| rest.try_into().ok())
            .ok_or(KekError::Algorithm)?;
        Ok(Self(StaticSecret::from(private)))
    }

    /// Writes the file's text.
    pub fn to_pem(&self) -> Secret<String> {
        let mut der = PKCS8_PREFIX.to_vec();
        der.extend_from_slice(self.0.as_bytes());
        Secret::new(pem::encode(&pem::Pem::new(PEM_LABEL, der)))
    }

    /// The public half, as the member row holds it.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The secret shared with an ephemeral key; `None` when that key gives everybody the same.
    pub(crate) fn agree(&self, ephemeral_public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*ephemeral_public));
        shared.was_contributory().then(|| Zeroizing::new(*shared.as_bytes()))
    }
}

const PEM_LABEL: &str = "PRIVATE KEY";
/// SEQUENCE { 0, SEQUENCE { id-X25519 }, OCTET STRING { OCTET STRING of 32 bytes } } (RFC 8410).
const PKCS8_PREFIX: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use super::*;
    use storage::seam::RealEntropy;

    #[test]
    fn a_key_comes_back_from_its_file() {
        let key = KeyEncryptionKey::generate(&RealEntropy);
        let again = KeyEncryptionKey::from_pem(key.to_pem().expose()).unwrap();
        assert_eq!(again.public(), key.public());
    }

    #[test]
    fn what_is_not_such_a_key_is_refused() {
        let pem = |label: &str, bytes: &[u8]| pem::encode(&pem::Pem::new(label, bytes));
        let ed25519 = [
            &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..],
            &[7; 32],
        ]
        .concat();
        for (what, text) in [
            ("no PEM", "hello".to_owned()),
            ("a certificate", pem("CERTIFICATE", &[1])),
            ("an Ed25519 key", pem("PRIVATE KEY", &ed25519)),
            ("a short key", pem("PRIVATE KEY", &PKCS8_PREFIX[..10])),
            ("trailing bytes", pem("PRIVATE KEY", &[PKCS8_PREFIX, &[7; 33]].concat())),
        ] {
            assert!(KeyEncryptionKey::from_pem(&text).is_err(), "{what} was taken");
        }
    }
}
