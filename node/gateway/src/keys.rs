//! The cluster's own keys as a gateway uses them, and the cell they arrive in.
//!
//! Every node of a cluster holds the same keys. They are stored sealed in the replicated state; the
//! `node` crate opens them with this node's key-encryption key and fills the [`KeysCell`], and does
//! so again when one of them was replaced or another was added. Before that the node is *sealed*:
//! it votes and stores, and this crate answers 503.
//!
//! What it leaves to others: sealing and unsealing (`node`, behind [`Vault`]), the forms of what is
//! made with the keys (`protocol`).

use std::collections::BTreeMap;
use std::sync::Arc;

use lease::command::{Sealed, SealedSecret, WrappedDataKey};
use lease::ids::NodeId;
use lease::operate::{ReplaceDataKey, TrustAnchor};
use protocol::device::crypto::LicenseSigner;
use protocol::keys::{Algorithm, KeyError, PrivateKey, PublicKey};
use protocol::mac::MacKey;
use protocol::oauth::claims::key_id;
use protocol::secret::Secret;
use thiserror::Error;
use tokio::sync::watch;

use crate::peppers::Peppers;

/// The keys that must be equal on every node.
pub struct Keys {
    /// Makes and recognises lease ids (`lease-id-mac`).
    pub lease_id: MacKey,
    /// Makes and recognises renewal tokens (`renewal-mac`).
    pub renewal: MacKey,
    /// Peppers the stored form of client secrets (`client-secret-pepper`).
    pub client_secret_pepper: Peppers,
    /// Peppers the stored form of operator tokens (`operator-pepper`).
    pub operator_pepper: Peppers,
    /// Peppers the form under which license keys are looked up (`license-key-mac`).
    pub license_keys: MacKey,
    /// Signs offline tokens (`offline-signing-key`).
    pub offline: OfflineSigner,
    /// Signs what the device face answers (`device-signing-key`).
    pub device: DeviceSigner,
    /// Keys of evaluation licenses by version, of any length (`evaluation-hmac-N`); version 1 is
    /// always there.
    pub evaluation: BTreeMap<u32, Secret<Vec<u8>>>,
    /// Secrets of the classic face's vendors by their id (`classic-vendor-ID`); may be empty.
    pub classic_vendors: BTreeMap<String, Secret<Vec<u8>>>,
    /// Seals what a record of the ledger keeps secret.
    pub vault: Box<dyn Vault>,
}

/// The Ed25519 key of offline tokens.
pub struct OfflineSigner {
    /// Signs.
    pub key: PrivateKey,
    /// What verifies.
    pub public: PublicKey,
    /// Names the key in a token's header: its RFC 7638 thumbprint.
    pub kid: String,
}

impl OfflineSigner {
    /// The key of a 32-byte seed.
    pub fn new(seed: &Secret<[u8; 32]>) -> Result<Self, KeyError> {
        let key = PrivateKey::ed25519(seed);
        let public = key.public_key()?;
        let kid = key_id(&public);
        Ok(Self { key, public, kid })
    }
}

/// The RSA key of the device face.
pub struct DeviceSigner {
    /// Seals and signs.
    pub signer: LicenseSigner,
    /// What verifies, as the face shows it: SubjectPublicKeyInfo, PEM.
    pub public_pem: String,
}

impl DeviceSigner {
    /// Takes an RSA key; another kind is [`KeyError::Operation`].
    pub fn new(key: PrivateKey) -> Result<Self, KeyError> {
        if key.algorithm() != Algorithm::RsaSha256 {
            return Err(KeyError::Operation);
        }
        let signer = LicenseSigner::new(key)?;
        let public_pem = signer.public_key().to_pem();
        Ok(Self { signer, public_pem })
    }
}

/// Seals under the cluster's data key: what is secret in a record of the ledger, and whole cluster
/// secrets. Every node of the cluster opens what any of them sealed.
pub trait Vault: Send + Sync {
    /// Seals what a record keeps secret. `record` names the record and the field in it, for ever
    /// and like no other: it is bound to the bytes, which open under no other name.
    fn seal(&self, record: &str, plaintext: &[u8]) -> Result<Sealed, VaultError>;

    /// Opens it.
    fn open(&self, record: &str, sealed: &Sealed) -> Result<Secret<Vec<u8>>, VaultError>;

    /// Seals a cluster secret, for [`lease::command::Command::PutSecret`].
    fn seal_secret(
        &self,
        name: &str,
        version: u32,
        plaintext: &[u8],
    ) -> Result<SealedSecret, VaultError>;

    /// Version of the data key that seals.
    fn data_key_version(&self) -> u32;

    /// Versions of the data key that open, oldest first.
    fn data_key_versions(&self) -> Vec<u32>;

    /// Version of the data key under which a record's field is sealed; `None`: it does not open.
    fn version_of_record(&self, record: &str, sealed: &Sealed) -> Option<u32>;

    /// Version of the data key under which a secret is sealed; `None`: it does not open.
    fn version_of_secret(&self, secret: &SealedSecret) -> Option<u32>;

    /// The data key in every version in use, wrapped to a node, for
    /// [`lease::command::Command::JoinMember`].
    fn wrap_to(
        &self,
        node: NodeId,
        kek_public: [u8; 32],
    ) -> Result<Vec<WrappedDataKey>, VaultError>;

    /// A new data key, wrapped to these members, and these secrets sealed under it, each one
    /// version higher.
    fn replace_data_key(
        &self,
        members: &[(NodeId, [u8; 32])],
        secrets: &[SealedSecret],
    ) -> Result<ReplaceDataKey, VaultError>;

    /// Whether the secret `ca_key` holds the private key of an authority, by its certificate (DER).
    fn is_authority_key(&self, ca_key: &SealedSecret, authority: &[u8]) -> bool;

    /// An authority to take the place of the cluster's, whose private key is the secret `ca_key`
    /// and whose certificate (DER) is `authority`. Its key is sealed as that secret's next version.
    fn succeed_authority(
        &self,
        ca_key: &SealedSecret,
        authority: &[u8],
        number: u32,
        now_ms: i64,
    ) -> Result<NewAuthority, VaultError>;
}

/// A certificate authority that was made to take another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAuthority {
    /// Its private key, for [`lease::command::Command::PutSecret`].
    pub key: SealedSecret,
    /// Its certificates, trusted and not issuing yet, for
    /// [`lease::command::Command::PutTrustAnchor`].
    pub anchor: TrustAnchor,
}

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VaultError {
    /// Too long for a row of the ledger.
    #[error("a secret of {bytes} bytes is over the limit")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Nothing can be wrapped to that key: it gives everybody the same secret.
    #[error("the key-encryption key of node {node} is not usable")]
    WeakPublicKey {
        /// Whose it is.
        node: NodeId,
    },
    /// The secret opens and is not the key of that authority.
    #[error("the key of the certificate authority is not usable")]
    Authority,
    /// Sealed for another record, under another key, or changed since.
    #[error("what record {record} keeps secret does not open")]
    Unopenable {
        /// The record.
        record: String,
    },
}

/// Where the keys appear once the node is unsealed. Cheap to read on every request.
pub struct KeysCell(watch::Sender<Option<Arc<Keys>>>);

impl KeysCell {
    /// A sealed node's cell.
    pub fn sealed() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Puts the keys in, or newer ones in their place; from now on requests are served.
    pub fn unseal(&self, keys: Keys) {
        self.0.send_replace(Some(Arc::new(keys)));
    }

    /// The keys, or `None` while sealed.
    pub fn get(&self) -> Option<Arc<Keys>> {
        self.0.borrow().clone()
    }

    /// Tells when the keys come, and when newer ones do.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Keys>>> {
        self.0.subscribe()
    }
}
