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

use gateway::{NewAuthority, Vault, VaultError};
use lease::command::{Sealed, SealedSecret, WrappedDataKey};
use lease::ids::NodeId;
use lease::operate::{AnchorState, ReplaceDataKey, TrustAnchor};
use protocol::secret::Secret;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use storage::seam::Entropy;
use zeroize::Zeroizing;

use super::ring::Keyring;
use super::{
    CA_KEY, DataKey, SealError, TAG_BYTES, decrypt, derive, encrypt, push_text, random_nonce,
};
use crate::pki::Authority;

/// No sealed field of a record is longer ([`Sealed`]).
const MAX_RECORD_BYTES: usize = 1024;

/// The data key as the gateway may use it.
pub(crate) struct NodeVault {
    cluster_id: String,
    ring: Arc<Keyring>,
    entropy: Arc<dyn Entropy>,
}

impl NodeVault {
    /// A vault of this cluster.
    pub(crate) fn new(cluster_id: &str, ring: Arc<Keyring>, entropy: Arc<dyn Entropy>) -> Self {
        Self { cluster_id: cluster_id.to_owned(), ring, entropy }
    }

    fn identity(&self, record: &str) -> Vec<u8> {
        let mut identity = b"record".to_vec();
        push_text(&mut identity, &self.cluster_id);
        push_text(&mut identity, record);
        identity
    }

    /// Opens a record's field, and says under which version it was sealed.
    fn open_any(&self, record: &str, sealed: &Sealed) -> Option<(u32, Zeroizing<Vec<u8>>)> {
        let identity = self.identity(record);
        self.ring.newest_first().find_map(|key| {
            let opened =
                decrypt(&record_key(key, &identity), &sealed.nonce, &sealed.bytes, &identity)?;
            Some((key.version(), opened))
        })
    }

    fn seal_under(
        &self,
        key: &DataKey,
        name: &str,
        version: u32,
        plaintext: &[u8],
    ) -> Result<SealedSecret, VaultError> {
        key.seal(&self.cluster_id, name, version, plaintext, &*self.entropy)
            .map_err(|error| vault_error(error, name))
    }
}

impl Vault for NodeVault {
    fn seal(&self, record: &str, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        if plaintext.len() + TAG_BYTES > MAX_RECORD_BYTES {
            return Err(VaultError::TooLong { bytes: plaintext.len() });
        }
        let identity = self.identity(record);
        let nonce = random_nonce(&*self.entropy);
        let key = record_key(self.ring.newest(), &identity);
        Ok(Sealed { nonce, bytes: encrypt(&key, &nonce, plaintext, &identity) })
    }

    fn open(&self, record: &str, sealed: &Sealed) -> Result<Secret<Vec<u8>>, VaultError> {
        self.open_any(record, sealed)
            .map(|(_, opened)| Secret::new(opened.to_vec()))
            .ok_or_else(|| VaultError::Unopenable { record: record.to_owned() })
    }

    fn seal_secret(
        &self,
        name: &str,
        version: u32,
        plaintext: &[u8],
    ) -> Result<SealedSecret, VaultError> {
        self.seal_under(self.ring.newest(), name, version, plaintext)
    }

    fn data_key_version(&self) -> u32 {
        self.ring.newest().version()
    }

    fn data_key_versions(&self) -> Vec<u32> {
        self.ring.versions()
    }

    fn version_of_record(&self, record: &str, sealed: &Sealed) -> Option<u32> {
        self.open_any(record, sealed).map(|(version, _)| version)
    }

    fn version_of_secret(&self, secret: &SealedSecret) -> Option<u32> {
        let opens = |key: &&DataKey| key.open(&self.cluster_id, secret).is_ok();
        self.ring.newest_first().find(opens).map(DataKey::version)
    }

    fn wrap_to(
        &self,
        node: NodeId,
        kek_public: [u8; 32],
    ) -> Result<Vec<WrappedDataKey>, VaultError> {
        self.ring
            .wrap_to(&self.cluster_id, node, kek_public, &*self.entropy)
            .map_err(|_| VaultError::WeakPublicKey { node })
    }

    fn replace_data_key(
        &self,
        members: &[(NodeId, [u8; 32])],
        secrets: &[SealedSecret],
    ) -> Result<ReplaceDataKey, VaultError> {
        let key = self.ring.newest().successor(&*self.entropy);
        let wrap = |(node, kek_public): &(NodeId, [u8; 32])| {
            key.wrap(&self.cluster_id, *node, *kek_public, &*self.entropy)
                .map_err(|_| VaultError::WeakPublicKey { node: *node })
        };
        let reseal = |secret: &SealedSecret| {
            let opened = self
                .ring
                .open(&self.cluster_id, secret)
                .map_err(|error| vault_error(error, &secret.name))?;
            let version = secret.version.saturating_add(1);
            self.seal_under(&key, &secret.name, version, opened.expose())
        };
        Ok(ReplaceDataKey {
            version: key.version(),
            wraps: members.iter().map(wrap).collect::<Result<_, _>>()?,
            secrets: secrets.iter().map(reseal).collect::<Result<_, _>>()?,
        })
    }

    fn is_authority_key(&self, ca_key: &SealedSecret, authority: &[u8]) -> bool {
        let certificate = CertificateDer::from(authority.to_vec());
        self.ring.open(&self.cluster_id, ca_key).is_ok_and(|opened| {
            std::str::from_utf8(opened.expose())
                .is_ok_and(|pem| Authority::load(&certificate, &[], pem, 0).is_ok())
        })
    }

    fn succeed_authority(
        &self,
        ca_key: &SealedSecret,
        authority: &[u8],
        number: u32,
        now_ms: i64,
    ) -> Result<NewAuthority, VaultError> {
        let opened = self.ring.open(&self.cluster_id, ca_key);
        let opened = opened.map_err(|error| vault_error(error, &ca_key.name))?;
        let key_pem = std::str::from_utf8(opened.expose()).map_err(|_| VaultError::Authority)?;
        let certificate = CertificateDer::from(authority.to_vec());
        let successor = Authority::load(&certificate, &[], key_pem, now_ms)
            .and_then(|former| former.successor(&self.cluster_id, number, &*self.entropy))
            .map_err(|_| VaultError::Authority)?;
        let version = ca_key.version.saturating_add(1);
        let key = self.seal_secret(CA_KEY, version, successor.key_pem.expose().as_bytes())?;
        let anchor = TrustAnchor {
            fingerprint: Sha256::digest(&successor.certificate).into(),
            certificate_der: successor.certificate.to_vec(),
            cross_signed_der: successor.cross_signed.to_vec(),
            key_version: version,
            state: AnchorState::Trusted,
        };
        Ok(NewAuthority { key, anchor })
    }
}

fn record_key(key: &DataKey, identity: &[u8]) -> Zeroizing<[u8; 32]> {
    derive(None, key.expose(), &[b"leasehold record 1", identity])
}

fn vault_error(error: SealError, name: &str) -> VaultError {
    match error {
        SealError::TooLong(bytes) => VaultError::TooLong { bytes },
        _ => VaultError::Unopenable { record: name.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::seam::RealEntropy;

    fn vault(cluster: &str, key: [u8; 32]) -> NodeVault {
        let ring = Arc::new(Keyring::of(DataKey::from_bytes(key)));
        NodeVault::new(cluster, ring, Arc::new(RealEntropy))
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
        assert!(vault.ring.open("lh-test", &as_secret).is_err());
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
