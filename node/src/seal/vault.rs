//! The gateway's vault: seals what records of the ledger keep secret, under the cluster's data key.
//!
//! ```text
//! record  key    = HKDF-SHA-256(salt = none, secret = data key,
//!                               info = "leasehold record 1" ‖ identity)
//!         bytes  = AES-256-GCM(key, random nonce, plaintext, identity)
//!         identity = "record" ‖ len cluster ‖ cluster ‖ len record ‖ record
//! ```
//!
//! Lengths are u32, big endian. The label differs from that of secrets ([`super`]), so that nothing
//! sealed as one ever opens as the other.

use std::sync::Arc;

use gateway::{Vault, VaultError};
use lease::command::{Sealed, SealedSecret};
use protocol::secret::Secret;
use storage::seam::Entropy;

use super::{DataKey, SealError, TAG_BYTES, decrypt, derive, encrypt, push_text, random_nonce};

/// No sealed field of a record is longer ([`Sealed`]).
const MAX_RECORD_BYTES: usize = 1024;

/// The data key as the gateway may use it.
pub struct NodeVault {
    cluster_id: String,
    data_key: DataKey,
    entropy: Arc<dyn Entropy>,
}

impl NodeVault {
    /// A vault of this cluster.
    pub fn new(cluster_id: &str, data_key: DataKey, entropy: Arc<dyn Entropy>) -> Self {
        Self { cluster_id: cluster_id.to_owned(), data_key, entropy }
    }

    fn identity(&self, record: &str) -> Vec<u8> {
        let mut identity = b"record".to_vec();
        push_text(&mut identity, &self.cluster_id);
        push_text(&mut identity, record);
        identity
    }

    fn key(&self, identity: &[u8]) -> zeroize::Zeroizing<[u8; 32]> {
        derive(None, self.data_key.expose(), &[b"leasehold record 1", identity])
    }
}

impl Vault for NodeVault {
    fn seal(&self, record: &str, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        if plaintext.len() + TAG_BYTES > MAX_RECORD_BYTES {
            return Err(VaultError::TooLong { bytes: plaintext.len() });
        }
        let identity = self.identity(record);
        let nonce = random_nonce(&*self.entropy);
        let bytes = encrypt(&self.key(&identity), &nonce, plaintext, &identity);
        Ok(Sealed { nonce, bytes })
    }

    fn open(&self, record: &str, sealed: &Sealed) -> Result<Secret<Vec<u8>>, VaultError> {
        let identity = self.identity(record);
        decrypt(&self.key(&identity), &sealed.nonce, &sealed.bytes, &identity)
            .map(|opened| Secret::new(opened.to_vec()))
            .ok_or_else(|| VaultError::Unopenable { record: record.to_owned() })
    }

    fn seal_secret(
        &self,
        name: &str,
        version: u32,
        plaintext: &[u8],
    ) -> Result<SealedSecret, VaultError> {
        self.data_key.seal(&self.cluster_id, name, version, plaintext, &*self.entropy).map_err(
            |error| match error {
                SealError::TooLong(bytes) => VaultError::TooLong { bytes },
                _ => VaultError::Unopenable { record: name.to_owned() },
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::seam::RealEntropy;

    fn vault(cluster: &str, key: [u8; 32]) -> NodeVault {
        NodeVault::new(cluster, DataKey::from_bytes(key), Arc::new(RealEntropy))
    }

    fn opens(vault: &NodeVault, record: &str, sealed: &Sealed) -> bool {
        vault.open(record, sealed).is_ok()
    }

    #[test]
    fn a_record_opens_only_under_its_own_name_in_its_own_cluster() {
        let ours = vault("lh-test", [7; 32]);
        let sealed = ours.seal("device/1/session", b"a session key").unwrap();
        let elsewhere = vault("lh-test", [7; 32]);
        assert_eq!(elsewhere.open("device/1/session", &sealed).unwrap().expose(), b"a session key");
        assert!(!opens(&ours, "device/2/session", &sealed), "another record");
        assert!(
            !opens(&vault("lh-other", [7; 32]), "device/1/session", &sealed),
            "another cluster"
        );
        assert!(!opens(&vault("lh-test", [8; 32]), "device/1/session", &sealed), "another key");
        for at in 0..sealed.bytes.len() {
            let mut flipped = sealed.clone();
            flipped.bytes[at] ^= 1;
            assert!(!opens(&ours, "device/1/session", &flipped), "byte {at} flipped");
        }
        assert_ne!(ours.seal("r", b"x").unwrap().bytes, ours.seal("r", b"x").unwrap().bytes);
    }

    #[test]
    fn a_record_and_a_secret_never_open_as_each_other() {
        let vault = vault("lh-test", [7; 32]);
        let secret = vault.seal_secret("name", 1, b"a secret").unwrap();
        let as_record = Sealed { nonce: secret.nonce, bytes: secret.sealed.clone() };
        assert!(!opens(&vault, "name", &as_record));
        let record = vault.seal("name", b"a record").unwrap();
        let as_secret = SealedSecret { nonce: record.nonce, sealed: record.bytes, ..secret };
        assert!(vault.data_key.open("lh-test", &as_secret).is_err());
    }

    #[test]
    fn what_a_row_cannot_hold_is_not_sealed() {
        let vault = vault("lh-test", [7; 32]);
        let most = MAX_RECORD_BYTES - TAG_BYTES;
        assert!(vault.seal("record", &vec![0; most]).is_ok());
        let bytes = most + 1;
        assert_eq!(vault.seal("record", &vec![0; bytes]), Err(VaultError::TooLong { bytes }));
        let long = vec![0; super::super::MAX_SEALED_BYTES];
        assert!(matches!(vault.seal_secret("n", 1, &long), Err(VaultError::TooLong { .. })));
    }
}
