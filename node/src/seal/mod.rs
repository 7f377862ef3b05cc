//! Cluster secrets at rest: the data key, its wraps, and what is sealed under it.
//!
//! Secrets that must be the same on every node travel through the log and rest in the state and in
//! snapshots only as ciphertext. One 32-byte *data key* per cluster seals them; it is itself stored
//! once per node, wrapped to that node's X25519 key-encryption key ([`kek`]), whose private half is
//! a file outside the data directory. A node without that file stores ciphertext and stays sealed.
//!
//! ```text
//! wrap    key    = HKDF-SHA-256(salt = ephemeral public ‖ recipient public,
//!                               secret = X25519(ephemeral, recipient),
//!                               info = "leasehold data-key wrap 1")
//!         bytes  = AES-256-GCM(key, random nonce, data key, identity)
//!         identity = "data-key" ‖ len cluster ‖ cluster ‖ node u64 ‖ version u32
//! secret  key    = HKDF-SHA-256(salt = none, secret = data key,
//!                               info = "leasehold secret 1" ‖ identity)
//!         bytes  = AES-256-GCM(key, random nonce, secret, identity)
//!         identity = "secret" ‖ len cluster ‖ cluster ‖ len name ‖ name ‖ version u32
//! ```
//!
//! Lengths are u32 and all numbers big endian, so that no two identities share bytes. A row moved
//! to another node, name, version or cluster does not open. What records of the ledger keep secret
//! is sealed likewise ([`vault`]).
//!
//! What it leaves to others: when secrets are made (`provision`), when they enter the log
//! (`founding`) and what a node does while it is sealed (`keyholder`).

pub mod kek;
pub(crate) mod opened;
pub(crate) mod ring;
pub mod vault;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use lease::command::{SealedSecret, WrappedDataKey};
use lease::ids::NodeId;
use protocol::secret::Secret;
use sha2::Sha256;
use storage::seam::Entropy;
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use kek::KeyEncryptionKey;

/// Key of the MAC inside lease ids.
pub const LEASE_ID_MAC: &str = "lease-id-mac";
/// Key of the MAC inside renewal tokens.
pub const RENEWAL_MAC: &str = "renewal-mac";
/// Pepper of applications' client secrets.
pub const CLIENT_SECRET_PEPPER: &str = "client-secret-pepper";
/// Pepper of operator tokens.
pub const OPERATOR_PEPPER: &str = "operator-pepper";
/// Private key of the issuing CA, PKCS#8 PEM.
pub const CA_KEY: &str = "ca-key";

/// Version of the data key that a cluster begins with.
pub const DATA_KEY_VERSION: u32 = 1;
/// No sealed row is longer (`lease::command::SealedSecret`).
pub const MAX_SEALED_BYTES: usize = 16 * 1024;

/// Why something could not be sealed or opened.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// The other party's public key is one that gives everybody the same secret.
    #[error("the key-encryption key is not a valid X25519 public key")]
    WeakPublicKey,
    /// Made for another node, name, version or cluster, under another key, or changed since.
    #[error("{what} does not open with this node's key")]
    Unopenable {
        /// What it is, for the log line.
        what: String,
    },
    /// Opens, but is not 32 bytes.
    #[error("{what} has {bytes} bytes instead of 32")]
    Length {
        /// What it is.
        what: String,
        /// How long it is.
        bytes: usize,
    },
    /// Opens, but is not the key it should be.
    #[error("{what} opens and is not a usable key")]
    Unusable {
        /// What it is.
        what: String,
    },
    /// Too long for a row.
    #[error("a secret of {0} bytes is over the limit")]
    TooLong(usize),
}

/// The key that seals a cluster's secrets, in one version.
pub struct DataKey {
    version: u32,
    bytes: Secret<[u8; 32]>,
}

impl DataKey {
    /// Makes a cluster's first one.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self { version: DATA_KEY_VERSION, bytes: random_secret(entropy) }
    }

    /// Makes the one that takes this one's place.
    pub fn successor(&self, entropy: &dyn Entropy) -> Self {
        Self { version: self.version.saturating_add(1), bytes: random_secret(entropy) }
    }

    /// Takes the first one, which was kept elsewhere (the founder's secrets file).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { version: DATA_KEY_VERSION, bytes: Secret::new(bytes) }
    }

    /// Counts up from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its bytes, for the founder's secrets file.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.bytes.expose()
    }

    /// Wraps it to a node.
    pub fn wrap(
        &self,
        cluster_id: &str,
        node: NodeId,
        kek_public: [u8; 32],
        entropy: &dyn Entropy,
    ) -> Result<WrappedDataKey, SealError> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        let ephemeral = StaticSecret::from(*seed);
        let ephemeral_public = PublicKey::from(&ephemeral).to_bytes();
        let shared = ephemeral.diffie_hellman(&PublicKey::from(kek_public));
        if !shared.was_contributory() {
            return Err(SealError::WeakPublicKey);
        }
        let key = wrap_key(shared.as_bytes(), &ephemeral_public, &kek_public);
        let nonce = random_nonce(entropy);
        let identity = wrap_identity(cluster_id, node, self.version);
        let wrapped = encrypt(&key, &nonce, self.bytes.expose(), &identity);
        Ok(WrappedDataKey { version: self.version, node, ephemeral_public, nonce, wrapped })
    }

    /// Opens a wrap with the node's own key.
    pub fn unwrap(
        cluster_id: &str,
        node: NodeId,
        kek: &KeyEncryptionKey,
        row: &WrappedDataKey,
    ) -> Result<Self, SealError> {
        let what = || format!("the data key wrapped to node {node}");
        let shared = kek.agree(&row.ephemeral_public).ok_or(SealError::WeakPublicKey)?;
        let key = wrap_key(&shared, &row.ephemeral_public, &kek.public());
        let identity = wrap_identity(cluster_id, node, row.version);
        let opened = decrypt(&key, &row.nonce, &row.wrapped, &identity)
            .ok_or_else(|| SealError::Unopenable { what: what() })?;
        let bytes: [u8; 32] = opened
            .as_slice()
            .try_into()
            .map_err(|_| SealError::Length { what: what(), bytes: opened.len() })?;
        Ok(Self { version: row.version, bytes: Secret::new(bytes) })
    }

    /// Seals a secret under its name and version.
    pub fn seal(
        &self,
        cluster_id: &str,
        name: &str,
        version: u32,
        secret: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<SealedSecret, SealError> {
        if secret.len() + TAG_BYTES > MAX_SEALED_BYTES {
            return Err(SealError::TooLong(secret.len()));
        }
        let identity = secret_identity(cluster_id, name, version);
        let nonce = random_nonce(entropy);
        let sealed = encrypt(&self.secret_key(&identity), &nonce, secret, &identity);
        Ok(SealedSecret { name: name.into(), version, nonce, sealed })
    }

    /// Opens a sealed secret.
    pub fn open(&self, cluster_id: &str, row: &SealedSecret) -> Result<Secret<Vec<u8>>, SealError> {
        let identity = secret_identity(cluster_id, &row.name, row.version);
        decrypt(&self.secret_key(&identity), &row.nonce, &row.sealed, &identity)
            .map(|opened| Secret::new(opened.to_vec()))
            .ok_or_else(|| SealError::Unopenable { what: format!("secret {}", row.name) })
    }

    /// Opens a sealed secret that must be a 32-byte key.
    #[cfg(test)]
    fn open_key(&self, cluster_id: &str, row: &SealedSecret) -> Result<[u8; 32], SealError> {
        let opened = self.open(cluster_id, row)?;
        let bytes = opened.expose();
        bytes.as_slice().try_into().map_err(|_| SealError::Length {
            what: format!("secret {}", row.name),
            bytes: bytes.len(),
        })
    }

    fn secret_key(&self, identity: &[u8]) -> Zeroizing<[u8; 32]> {
        derive(None, self.bytes.expose(), &[b"leasehold secret 1", identity])
    }
}

/// 32 bytes of randomness in a holder.
pub fn random_secret(entropy: &dyn Entropy) -> Secret<[u8; 32]> {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    Secret::new(bytes)
}

fn wrap_key(shared: &[u8; 32], ephemeral: &[u8; 32], recipient: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut salt = [0; 64];
    salt[..32].copy_from_slice(ephemeral);
    salt[32..].copy_from_slice(recipient);
    derive(Some(&salt), shared, &[b"leasehold data-key wrap 1"])
}

#[expect(clippy::expect_used, reason = "HKDF-SHA-256 gives up to 8,160 bytes; 32 are asked for")]
fn derive(salt: Option<&[u8]>, secret: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(salt, secret)
        .expand_multi_info(info, &mut *key)
        .expect("32 bytes are within HKDF's limit");
    key
}

fn wrap_identity(cluster_id: &str, node: NodeId, version: u32) -> Vec<u8> {
    let mut identity = b"data-key".to_vec();
    push_text(&mut identity, cluster_id);
    identity.extend_from_slice(&node.to_be_bytes());
    identity.extend_from_slice(&version.to_be_bytes());
    identity
}

fn secret_identity(cluster_id: &str, name: &str, version: u32) -> Vec<u8> {
    let mut identity = b"secret".to_vec();
    push_text(&mut identity, cluster_id);
    push_text(&mut identity, name);
    identity.extend_from_slice(&version.to_be_bytes());
    identity
}

fn push_text(identity: &mut Vec<u8>, text: &str) {
    identity.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    identity.extend_from_slice(text.as_bytes());
}

fn random_nonce(entropy: &dyn Entropy) -> [u8; 12] {
    let mut nonce = [0; 12];
    entropy.fill(&mut nonce);
    nonce
}

#[expect(clippy::expect_used, reason = "AES-GCM fails only above 64 GiB; rows are under 16 KiB")]
fn encrypt(key: &[u8; 32], nonce: &[u8; 12], message: &[u8], identity: &[u8]) -> Vec<u8> {
    Aes256Gcm::new(key.into())
        .encrypt(&Nonce::from(*nonce), Payload { msg: message, aad: identity })
        .expect("a message of a few kilobytes encrypts")
}

fn decrypt(
    key: &[u8; 32],
    nonce: &[u8; 12],
    sealed: &[u8],
    identity: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    Aes256Gcm::new(key.into())
        .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: identity })
        .ok()
        .map(Zeroizing::new)
}

/// Bytes that AES-GCM adds.
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use storage::seam::RealEntropy;

    const CLUSTER: &str = "lh-test";

    fn opens_secret(key: &DataKey, cluster: &str, row: &SealedSecret) -> bool {
        key.open(cluster, row).is_ok()
    }

    fn opens_wrap(kek: &KeyEncryptionKey, cluster: &str, node: u64, row: &WrappedDataKey) -> bool {
        DataKey::unwrap(cluster, node, kek, row).is_ok()
    }

    #[test]
    fn a_secret_opens_only_under_its_own_identity() {
        let key = DataKey::generate(&RealEntropy);
        let row = key.seal(CLUSTER, LEASE_ID_MAC, 1, &[7; 32], &RealEntropy).unwrap();
        assert_eq!(key.open_key(CLUSTER, &row).unwrap(), [7; 32]);

        let changed: [(&str, &str, SealedSecret); 4] = [
            ("another cluster", "lh-other", row.clone()),
            ("another name", CLUSTER, SealedSecret { name: RENEWAL_MAC.into(), ..row.clone() }),
            ("another version", CLUSTER, SealedSecret { version: 2, ..row.clone() }),
            ("another nonce", CLUSTER, SealedSecret { nonce: [0; 12], ..row.clone() }),
        ];
        for (what, cluster, row) in changed {
            assert!(!opens_secret(&key, cluster, &row), "{what} opened");
        }
        for at in 0..row.sealed.len() {
            let mut flipped = row.clone();
            flipped.sealed[at] ^= 1;
            assert!(!opens_secret(&key, CLUSTER, &flipped), "byte {at} flipped, and it opened");
        }
        assert!(!opens_secret(&DataKey::generate(&RealEntropy), CLUSTER, &row), "another key");
    }

    #[test]
    fn a_wrapped_key_opens_only_for_its_node() {
        let key = DataKey::generate(&RealEntropy);
        let kek = KeyEncryptionKey::generate(&RealEntropy);
        let row = key.wrap(CLUSTER, 2, kek.public(), &RealEntropy).unwrap();
        let opened = DataKey::unwrap(CLUSTER, 2, &kek, &row).unwrap();
        assert_eq!(opened.expose(), key.expose());

        assert!(!opens_wrap(&kek, CLUSTER, 3, &row), "another node");
        assert!(!opens_wrap(&kek, "lh-other", 2, &row), "another cluster");
        let version = WrappedDataKey { version: 2, ..row.clone() };
        assert!(!opens_wrap(&kek, CLUSTER, 2, &version), "another version");
        let stranger = KeyEncryptionKey::generate(&RealEntropy);
        assert!(!opens_wrap(&stranger, CLUSTER, 2, &row), "another node's key");
        for at in 0..row.wrapped.len() {
            let mut flipped = row.clone();
            flipped.wrapped[at] ^= 1;
            assert!(!opens_wrap(&kek, CLUSTER, 2, &flipped), "byte {at} flipped, and it opened");
        }
        let mut moved = row.clone();
        moved.ephemeral_public[3] ^= 1;
        assert!(!opens_wrap(&kek, CLUSTER, 2, &moved), "another ephemeral key");
    }

    #[test]
    fn weak_public_keys_and_long_secrets_are_refused() {
        let key = DataKey::generate(&RealEntropy);
        assert_eq!(
            key.wrap(CLUSTER, 1, [0; 32], &RealEntropy).unwrap_err(),
            SealError::WeakPublicKey
        );
        let long = vec![0; MAX_SEALED_BYTES];
        assert_eq!(
            key.seal(CLUSTER, CA_KEY, 1, &long, &RealEntropy).unwrap_err(),
            SealError::TooLong(MAX_SEALED_BYTES)
        );
        let short = key.seal(CLUSTER, CA_KEY, 1, &[1; 31], &RealEntropy).unwrap();
        assert!(matches!(key.open_key(CLUSTER, &short), Err(SealError::Length { bytes: 31, .. })));
    }

    #[test]
    fn no_two_seals_share_bytes() {
        let key = DataKey::generate(&RealEntropy);
        let seal = || key.seal(CLUSTER, OPERATOR_PEPPER, 1, &[7; 32], &RealEntropy).unwrap();
        assert_ne!(seal().sealed, seal().sealed);
    }
}
