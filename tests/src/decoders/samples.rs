//! Keys and recorded data that the examples are made of.
//!
//! The keys are for these examples alone. Recorded data stands beside the repository and is read
//! where it is; without it the loop still has what our own encoders make.

use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::keys::PrivateKey;
use protocol::lease_id::LeaseKey;
use protocol::mac::MacKey;
use protocol::secret::Secret;

/// A time that every example is valid at, in Unix milliseconds: 2026-11-22.
pub(super) const NOW_MS: i64 = 1_795_300_000_000;

/// The key that examples are signed with.
pub(super) fn ed25519() -> PrivateKey {
    PrivateKey::ed25519(&Secret::new([7; 32]))
}

/// The key that licences of the device protocol are signed with.
pub(super) fn rsa() -> Result<PrivateKey> {
    PrivateKey::from_pkcs8_pem(include_str!("device_signing_key.pem")).context("the RSA key")
}

/// The key under which ids and tokens of leases are made.
pub(super) fn mac_key() -> MacKey {
    MacKey::new([11; 32])
}

/// Some leases.
pub(super) fn lease_keys() -> [LeaseKey; 3] {
    [(0, [0; 10]), (0, [0xa5; 10]), (u16::MAX, [0xff; 10])]
        .map(|(group, random)| LeaseKey { group, random })
}

/// A compact JWS with the signature of [`ed25519`] over whatever its first two parts are.
pub(super) fn signed_again(token: &[u8]) -> Option<Vec<u8>> {
    let (signed, _) = std::str::from_utf8(token).ok()?.rsplit_once('.')?;
    let signature = ed25519().sign(signed.as_bytes()).ok()?;
    let mut token = format!("{signed}.");
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Some(token.into_bytes())
}

/// A recorded file, `device/client-run/license.dat`; `None` where there are no recordings.
pub(super) fn recorded(name: &str) -> Option<Vec<u8>> {
    std::fs::read(fixtures().join(name)).ok()
}

/// Whether the recordings are there.
pub fn are_recorded() -> bool {
    fixtures().is_dir()
}

/// A golden file of the ledger.
pub(super) fn golden(name: &str) -> Result<String> {
    let path = root().join("lease/tests/golden").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn fixtures() -> PathBuf {
    root().join("../shared/fixtures")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
