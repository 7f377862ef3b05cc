//! Keys of a cluster that lives in a test, for the tests over a whole gateway and those inside it.

use std::sync::OnceLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use lease::command::{Sealed, SealedSecret, WrappedDataKey};
use lease::ids::NodeId;
use lease::operate::ReplaceDataKey;
use protocol::keys::{PrivateKey, RsaSize};
use protocol::mac::MacKey;
use protocol::secret::Secret;
use storage::seam::{Entropy, RealEntropy};

use super::{DeviceSigner, Keys, NewAuthority, OfflineSigner, Peppers, Vault, VaultError};

/// The keys of the world: the same for as long as the process runs.
pub(crate) fn keys() -> Keys {
    let evaluation = [(1, &b"first evaluation secret"[..]), (2, &[6; 64])];
    let vendors = [("techvendor", &b"a vendor's secret"[..])];
    let secret = |bytes: &[u8]| Secret::new(bytes.to_vec());
    Keys {
        lease_id: MacKey::new([1; 32]),
        renewal: MacKey::new([2; 32]),
        client_secret_pepper: Peppers::first(MacKey::new([3; 32])),
        operator_pepper: operator_pepper(),
        license_keys: MacKey::new([5; 32]),
        offline: OfflineSigner::new(&Secret::new([6; 32])).expect("a key"),
        device: DeviceSigner::new(device_key()).expect("an RSA key"),
        evaluation: evaluation.map(|(version, bytes)| (version, secret(bytes))).into(),
        classic_vendors: vendors.map(|(id, bytes)| (id.to_owned(), secret(bytes))).into(),
        vault: Box::new(TestVault),
    }
}

/// The pepper alone.
pub(crate) fn operator_pepper() -> Peppers {
    Peppers::first(MacKey::new([4; 32]))
}

/// Making an RSA key takes longer than most tests.
fn device_key() -> PrivateKey {
    static PEM: OnceLock<String> = OnceLock::new();
    let pem = PEM.get_or_init(|| {
        let key = PrivateKey::generate_rsa(RsaSize::Bits2048).expect("a key");
        key.to_pkcs8_pem().expect("a PEM").expose().clone()
    });
    PrivateKey::from_pkcs8_pem(pem).expect("the key")
}

/// A vault with one fixed key: AES-256-GCM, the record or the secret's name as associated data.
struct TestVault;

impl TestVault {
    fn key() -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key"))
    }

    fn encrypt(identity: &str, plaintext: &[u8]) -> ([u8; 12], Vec<u8>) {
        let mut nonce = [0; 12];
        RealEntropy.fill(&mut nonce);
        let mut bytes = plaintext.to_vec();
        Self::key()
            .seal_in_place_append_tag(nonce_of(&nonce), Aad::from(identity), &mut bytes)
            .expect("sealed");
        (nonce, bytes)
    }
}

fn nonce_of(bytes: &[u8; 12]) -> Nonce {
    Nonce::try_assume_unique_for_key(bytes).expect("12 bytes")
}

impl Vault for TestVault {
    fn seal(&self, record: &str, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        let (nonce, bytes) = Self::encrypt(record, plaintext);
        Ok(Sealed { nonce, bytes })
    }

    fn open(&self, record: &str, sealed: &Sealed) -> Result<Secret<Vec<u8>>, VaultError> {
        let mut bytes = sealed.bytes.clone();
        let opened =
            Self::key().open_in_place(nonce_of(&sealed.nonce), Aad::from(record), &mut bytes);
        match opened {
            Ok(plaintext) => Ok(Secret::new(plaintext.to_vec())),
            Err(_) => Err(VaultError::Unopenable { record: record.to_owned() }),
        }
    }

    fn seal_secret(
        &self,
        name: &str,
        version: u32,
        plaintext: &[u8],
    ) -> Result<SealedSecret, VaultError> {
        let (nonce, sealed) = Self::encrypt(&format!("{name} {version}"), plaintext);
        Ok(SealedSecret { name: name.into(), version, nonce, sealed })
    }

    fn data_key_version(&self) -> u32 {
        1
    }

    fn data_key_versions(&self) -> Vec<u32> {
        vec![1]
    }

    fn version_of_record(&self, record: &str, sealed: &Sealed) -> Option<u32> {
        self.open(record, sealed).ok().map(|_| 1)
    }

    fn version_of_secret(&self, _secret: &SealedSecret) -> Option<u32> {
        Some(1)
    }

    fn wrap_to(
        &self,
        node: NodeId,
        kek_public: [u8; 32],
    ) -> Result<Vec<WrappedDataKey>, VaultError> {
        let (nonce, wrapped) = Self::encrypt(&format!("wrap {node}"), &[7; 32]);
        Ok(vec![WrappedDataKey { version: 1, node, ephemeral_public: kek_public, nonce, wrapped }])
    }

    fn replace_data_key(
        &self,
        _members: &[(NodeId, [u8; 32])],
        _secrets: &[SealedSecret],
    ) -> Result<ReplaceDataKey, VaultError> {
        Err(VaultError::Unopenable { record: "the data key of a test is fixed".to_owned() })
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
