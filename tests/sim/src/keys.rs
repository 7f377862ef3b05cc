//! The keys of a simulated cluster: the same in every run, made for this and for nothing else.
//!
//! What it leaves to others: how keys are sealed and come to a node (`node`), which the simulation
//! does not have.

use std::sync::Arc;

use anyhow::{Context, Result};
use gateway::{
    DeviceSigner, Keys, NewAuthority, OfflineSigner, Peppers, TokenSigner, Vault, VaultError,
};
use lease::command::{Sealed, SealedSecret, WrappedDataKey};
use lease::ids::NodeId;
use lease::operate::ReplaceDataKey;
use protocol::keys::PrivateKey;
use protocol::mac::MacKey;
use protocol::secret::Secret;

/// The cluster's keys.
pub(crate) fn cluster_keys() -> Result<Keys> {
    Ok(Keys {
        lease_id: lease_id_key(),
        renewal: MacKey::new([2; 32]),
        client_secret_pepper: Peppers::first(MacKey::new([3; 32])),
        operator_pepper: operator_pepper(),
        license_keys: MacKey::new([5; 32]),
        offline: OfflineSigner::new(&Secret::new([6; 32])).context("the offline key")?,
        device: DeviceSigner::new(private_key(PEMS[0])?).context("the device key")?,
        evaluation: [(1, Secret::new(b"an evaluation secret".to_vec()))].into(),
        classic_vendors: Default::default(),
        vault: Box::new(Closed),
    })
}

/// What makes and recognises lease ids.
pub(crate) fn lease_id_key() -> MacKey {
    MacKey::new([1; 32])
}

/// What operator tokens are stored under.
pub(crate) fn operator_pepper() -> Peppers {
    Peppers::first(MacKey::new([4; 32]))
}

/// The key with which a node signs access tokens.
pub(crate) fn token_signer(node: NodeId) -> Result<Arc<TokenSigner>> {
    let at = usize::try_from(node).unwrap_or(0) % PEMS.len();
    let pem = PEMS.get(at).context("a key for every node")?;
    Ok(Arc::new(TokenSigner::from_pem(pem).context("a node's token key")?))
}

/// The vendor's key.
pub(crate) fn vendor() -> PrivateKey {
    PrivateKey::ed25519(&Secret::new([9; 32]))
}

fn private_key(pem: &str) -> Result<PrivateKey> {
    PrivateKey::from_pkcs8_pem(pem).context("an RSA key")
}

/// A vault that is never opened: no call of the simulation stores a secret.
struct Closed;

fn closed(record: &str) -> VaultError {
    VaultError::Unopenable { record: record.to_owned() }
}

impl Vault for Closed {
    fn seal(&self, record: &str, _plaintext: &[u8]) -> Result<Sealed, VaultError> {
        Err(closed(record))
    }

    fn open(&self, record: &str, _sealed: &Sealed) -> Result<Secret<Vec<u8>>, VaultError> {
        Err(closed(record))
    }

    fn seal_secret(
        &self,
        name: &str,
        _version: u32,
        _plaintext: &[u8],
    ) -> Result<SealedSecret, VaultError> {
        Err(closed(name))
    }

    fn data_key_version(&self) -> u32 {
        1
    }

    fn data_key_versions(&self) -> Vec<u32> {
        vec![1]
    }

    fn version_of_record(&self, _record: &str, _sealed: &Sealed) -> Option<u32> {
        None
    }

    fn version_of_secret(&self, _secret: &SealedSecret) -> Option<u32> {
        None
    }

    fn wrap_to(
        &self,
        node: NodeId,
        kek_public: [u8; 32],
    ) -> Result<Vec<WrappedDataKey>, VaultError> {
        Ok(vec![wrap(node, kek_public)])
    }

    fn replace_data_key(
        &self,
        _members: &[(NodeId, [u8; 32])],
        _secrets: &[SealedSecret],
    ) -> Result<ReplaceDataKey, VaultError> {
        Err(closed("data key"))
    }

    fn is_authority_key(&self, _ca_key: &SealedSecret, _authority: &[u8]) -> bool {
        false
    }

    fn succeed_authority(
        &self,
        _ca_key: &SealedSecret,
        _authority: &[u8],
        _number: u32,
        _now_ms: i64,
    ) -> Result<NewAuthority, VaultError> {
        Err(VaultError::Authority)
    }
}

/// The row of a data key that was wrapped to a node.
pub(crate) fn wrap(node: NodeId, kek_public: [u8; 32]) -> WrappedDataKey {
    let (nonce, wrapped) = ([0; 12], vec![0; 48]);
    WrappedDataKey { version: 1, node, ephemeral_public: kek_public, nonce, wrapped }
}

/// Keys that are good for nothing but tests; the first signs for the device face.
const PEMS: [&str; 9] = [
    include_str!("../keys/node-9.test-only.pem"),
    include_str!("../keys/node-1.test-only.pem"),
    include_str!("../keys/node-2.test-only.pem"),
    include_str!("../keys/node-3.test-only.pem"),
    include_str!("../keys/node-4.test-only.pem"),
    include_str!("../keys/node-5.test-only.pem"),
    include_str!("../keys/node-6.test-only.pem"),
    include_str!("../keys/node-7.test-only.pem"),
    include_str!("../keys/node-8.test-only.pem"),
];
