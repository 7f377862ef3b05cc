//! From the sealed rows of the ledger to the gateway's keys, and what a cluster has to make first.
//!
//! A new cluster brings its first secrets along (`founding`). Those that later releases added are
//! made by the cluster itself, so that one which was founded before has them too.
//!
//! | secret | what is sealed |
//! |---|---|
//! | `license-key-mac` | 32 random bytes |
//! | `offline-signing-key` | 32 random bytes: the seed of an Ed25519 key |
//! | `device-signing-key` | an RSA key of 2,048 bits, PKCS#8 PEM |
//! | `evaluation-hmac-N` | bytes of any length; version 1 is 32 random bytes |
//! | `classic-vendor-ID` | bytes of any length, as the vendor was given them; never made |

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway::{DeviceSigner, Keys, OfflineSigner, Peppers};
use lease::Ledger;
use lease::operate::{CLIENT_SECRET_PEPPER, OPERATOR_PEPPER, pepper_secret};
use protocol::keys::{KeyError, PrivateKey, RsaSize};
use protocol::mac::MacKey;
use protocol::secret::Secret;
use storage::seam::Entropy;

use super::ring::Keyring;
use super::vault::NodeVault;
use super::{LEASE_ID_MAC, RENEWAL_MAC, SealError, random_secret};

/// Key of the MAC under which license keys are looked up.
pub(crate) const LICENSE_KEY_MAC: &str = "license-key-mac";
/// Seed of the key that signs offline tokens.
pub(crate) const OFFLINE_SIGNING_KEY: &str = "offline-signing-key";
/// The key that signs what the device face answers.
pub(crate) const DEVICE_SIGNING_KEY: &str = "device-signing-key";
/// How the names of evaluation keys begin; a version follows.
pub(crate) const EVALUATION_HMAC: &str = "evaluation-hmac-";
/// How the names of the classic face's vendors' secrets begin; the vendor's id follows.
pub(crate) const CLASSIC_VENDOR: &str = "classic-vendor-";
/// The evaluation key that every cluster has.
const FIRST_EVALUATION_KEY: &str = "evaluation-hmac-1";

/// What founding brings.
pub(crate) const FOUNDED: [&str; 4] =
    [LEASE_ID_MAC, RENEWAL_MAC, CLIENT_SECRET_PEPPER, OPERATOR_PEPPER];
/// What a cluster makes itself.
const MADE: [&str; 4] =
    [LICENSE_KEY_MAC, OFFLINE_SIGNING_KEY, DEVICE_SIGNING_KEY, FIRST_EVALUATION_KEY];

/// Whether founding has stored everything that it brings.
pub(crate) fn is_founded(ledger: &Ledger) -> bool {
    // Of a pepper, any version is as good as the first.
    FOUNDED
        .iter()
        .all(|name| ledger.secret(name).is_some() || ledger.pepper_versions(name).next().is_some())
}

/// The secrets that the cluster has to make.
pub(crate) fn missing(ledger: &Ledger) -> Vec<&'static str> {
    MADE.into_iter().filter(|name| ledger.secret(name).is_none()).collect()
}

/// Makes one of [`missing`]; an RSA key takes up to a second.
pub(crate) fn make(name: &str, entropy: &dyn Entropy) -> Result<Secret<Vec<u8>>, KeyError> {
    if name == DEVICE_SIGNING_KEY {
        let pem = PrivateKey::generate_rsa(RsaSize::Bits2048)?.to_pkcs8_pem()?;
        return Ok(Secret::new(pem.expose().as_bytes().to_vec()));
    }
    Ok(Secret::new(random_secret(entropy).expose().to_vec()))
}

/// Opens everything; all of [`FOUNDED`] and [`MADE`] must be there.
pub(crate) fn open(
    ledger: &Ledger,
    cluster_id: &str,
    ring: Arc<Keyring>,
    entropy: Arc<dyn Entropy>,
) -> Result<Keys, SealError> {
    let opener = Opener { ledger, cluster_id, ring: &ring };
    let unusable = |name: &str| SealError::Unusable { what: format!("secret {name}") };
    let offline = OfflineSigner::new(&Secret::new(opener.key(OFFLINE_SIGNING_KEY)?))
        .map_err(|_| unusable(OFFLINE_SIGNING_KEY))?;
    let device = opener.bytes(DEVICE_SIGNING_KEY)?;
    let device = std::str::from_utf8(device.expose())
        .ok()
        .and_then(|pem| PrivateKey::from_pkcs8_pem(pem).ok())
        .and_then(|key| DeviceSigner::new(key).ok())
        .ok_or_else(|| unusable(DEVICE_SIGNING_KEY))?;
    Ok(Keys {
        lease_id: opener.mac(LEASE_ID_MAC)?,
        renewal: opener.mac(RENEWAL_MAC)?,
        client_secret_pepper: opener.peppers(CLIENT_SECRET_PEPPER)?,
        operator_pepper: opener.peppers(OPERATOR_PEPPER)?,
        license_keys: opener.mac(LICENSE_KEY_MAC)?,
        offline,
        device,
        evaluation: opener.named(EVALUATION_HMAC, |version| {
            version.parse().ok().filter(|number: &u32| number.to_string() == version)
        })?,
        classic_vendors: opener.named(CLASSIC_VENDOR, |vendor| Some(vendor.to_owned()))?,
        vault: Box::new(NodeVault::new(cluster_id, ring, entropy)),
    })
}

struct Opener<'a> {
    ledger: &'a Ledger,
    cluster_id: &'a str,
    ring: &'a Keyring,
}

impl Opener<'_> {
    fn bytes(&self, name: &str) -> Result<Secret<Vec<u8>>, SealError> {
        let row = self
            .ledger
            .secret(name)
            .ok_or_else(|| SealError::Unopenable { what: format!("secret {name}") })?;
        self.ring.open(self.cluster_id, row)
    }

    fn key(&self, name: &str) -> Result<[u8; 32], SealError> {
        let opened = self.bytes(name)?;
        let bytes = opened.expose();
        bytes
            .as_slice()
            .try_into()
            .map_err(|_| SealError::Length { what: format!("secret {name}"), bytes: bytes.len() })
    }

    fn mac(&self, name: &str) -> Result<MacKey, SealError> {
        self.key(name).map(MacKey::new)
    }

    /// Every version of a pepper.
    fn peppers(&self, pepper: &str) -> Result<Peppers, SealError> {
        let mut versions = BTreeMap::new();
        for version in self.ledger.pepper_versions(pepper) {
            versions.insert(version, self.mac(&pepper_secret(pepper, version))?);
        }
        Peppers::of(versions)
            .ok_or_else(|| SealError::Unopenable { what: format!("secret {pepper}") })
    }

    /// All secrets whose names begin so and go on as `read` understands.
    fn named<K: Ord>(
        &self,
        beginning: &str,
        read: impl Fn(&str) -> Option<K>,
    ) -> Result<BTreeMap<K, Secret<Vec<u8>>>, SealError> {
        let mut found = BTreeMap::new();
        for row in self.ledger.secrets() {
            if let Some(key) = row.name.strip_prefix(beginning).and_then(&read) {
                found.insert(key, self.ring.open(self.cluster_id, row)?);
            }
        }
        Ok(found)
    }
}
