//! The `device` protocol: recorded data of the reference implementation, tables, mutations.

mod admin;
mod golden;
mod identity;
mod license;
mod mutation;
mod requests;
mod sealing;

use std::io::Write;
use std::path::PathBuf;

use protocol::device::crypto::{LicenseSigner, SealedLicense};
use protocol::device::payload::LicenseData;
use protocol::device::schedule::CheckMode;
use protocol::device::time::LicenseTime;
use protocol::keys::{PrivateKey, RsaSize};
use protocol::secret::{Disclosed, Secret};
use serde_json::{Value, json};

pub(crate) const FINGERPRINT: &str =
    "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39";
pub(crate) const KEY: &str = "NWEOA-P5575-4WIZK-HBODW-FHAZP-KTI2Q-3JSAN-JXQ5P";
pub(crate) const SESSION_KEY: [u8; 32] = [7; 32];
pub(crate) const NONCE: [u8; 12] = [3; 12];

/// A file of the recorded data, or nothing where the data is not here, said so that it is heard
/// although the test passes.
pub(crate) fn recorded(name: &str) -> Option<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/device");
    if !root.is_dir() {
        // Not `eprintln!`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: no recorded data at {}", root.display());
        return None;
    }
    let path = root.join(name);
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

pub(crate) fn recorded_json(name: &str) -> Option<Value> {
    recorded(name).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

pub(crate) fn recorded_text(name: &str) -> Option<String> {
    recorded(name).map(|bytes| String::from_utf8(bytes).unwrap().trim().to_owned())
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

pub(crate) fn signer() -> LicenseSigner {
    LicenseSigner::new(PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap()).unwrap()
}

pub(crate) fn sample_license() -> LicenseData {
    let mut license = LicenseData::from_json(
        json!({"id": "license-1", "license_key": KEY}).to_string().as_bytes(),
    )
    .unwrap();
    license.check_mode = CheckMode::Monthly;
    license.expires_at = LicenseTime::from_unix_ms(1_900_000_000_123);
    license.license_key = Disclosed::new(KEY.to_owned());
    license
}

pub(crate) fn sealed(signer: &LicenseSigner) -> SealedLicense {
    let session_key = Secret::new(SESSION_KEY);
    signer.seal(FINGERPRINT, NONCE, &session_key, &sample_license().to_json()).unwrap()
}
