//! One changed byte: nothing that was changed in meaning is believed, and no reader panics.

use std::sync::LazyLock;

use proptest::prelude::*;
use protocol::device::admin::catalog_requests::{PlanRequest, ProductRequest, ScopeRequest};
use protocol::device::admin::license::CreateLicenseRequest;
use protocol::device::crypto::LicenseSigner;
use protocol::device::envelope;
use protocol::device::key::LicenseKey;
use protocol::device::payload::LicenseData;
use protocol::device::stored::StoredLicense;
use protocol::device::time::LicenseTime;
use protocol::device::trial::TrialRequest;
use protocol::device::wire::{self, ActivationResponse, DeviceRequest};
use protocol::device::{admin, checksum, fingerprint};
use protocol::secret::Secret;
use serde_json::json;

use super::{FINGERPRINT, KEY, NONCE, SESSION_KEY, recorded, sample_license, sealed, signer};

static SIGNER: LazyLock<LicenseSigner> = LazyLock::new(signer);
static ANSWER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    ActivationResponse::success(wire::ACTIVATED, &sealed(&SIGNER), sample_license().expires_at)
        .to_bytes()
});
static STORED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (device_fingerprint, expires_at) = (FINGERPRINT.to_owned(), sample_license().expires_at);
    StoredLicense { sealed: sealed(&SIGNER), device_fingerprint, expires_at }.to_bytes()
});
static CHECKSUM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    checksum::seal(&STORED, FINGERPRINT, NONCE, LicenseTime::from_unix_ms(1_700_000_000_000))
});

/// A place in a byte string and another byte for it.
fn change() -> impl Strategy<Value = (prop::sample::Index, u8)> {
    (any::<prop::sample::Index>(), 1..=u8::MAX)
}

fn changed(bytes: &[u8], (at, flip): (prop::sample::Index, u8)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at.index(bytes.len());
    bytes[at] ^= flip;
    bytes
}

/// Reads a stored file as a client does that knows its server: parse, checksum, open.
fn believed(stored: &[u8], checksum: &[u8]) -> bool {
    let Ok(file) = StoredLicense::parse(stored) else { return false };
    checksum::verify(Some(checksum), stored, FINGERPRINT).is_ok()
        && file.open(FINGERPRINT, Some(SIGNER.public_key())).is_ok()
}

#[test]
fn unchanged_bytes_are_believed() {
    assert!(believed(&STORED, &CHECKSUM));
    let (sealed, _) = ActivationResponse::read(&ANSWER).unwrap();
    assert!(sealed.open(FINGERPRINT, Some(SIGNER.public_key())).is_ok());
}

/// Every byte of a stored file, each with one flipped bit: without the checksum too, since
/// signature, sealing, fingerprint and date leave no byte alone.
#[test]
fn no_byte_of_a_stored_file_can_be_changed() {
    for at in 0..STORED.len() {
        let mut file = STORED.clone();
        file[at] ^= 1 << (at % 8);
        let opened = StoredLicense::parse(&file)
            .is_ok_and(|file| file.open(FINGERPRINT, Some(SIGNER.public_key())).is_ok());
        assert!(!opened, "byte {at} of the file");
    }
}

#[test]
fn no_byte_of_an_envelope_can_be_changed() {
    let key = Secret::new(SESSION_KEY);
    let sealed = envelope::seal(&key, NONCE, br#"{"email":"owner@example.com"}"#);
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut envelope = sealed.clone();
            envelope[at] ^= 1 << bit;
            assert!(envelope::open(&key, &envelope).is_err(), "byte {at}, bit {bit}");
        }
    }
}

/// The recorded files, where they are: one changed byte in each place.
#[test]
fn no_byte_of_a_recorded_file_can_be_changed() {
    let Some(file) = recorded("client-run/license.dat") else { return };
    let chk = recorded("client-run/license.dat.chk").unwrap();
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        let believed = StoredLicense::parse(&changed).is_ok()
            && checksum::verify(Some(&chk), &changed, FINGERPRINT).is_ok();
        assert!(!believed, "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_changed_stored_file_is_refused(change in change()) {
        prop_assert!(!believed(&changed(&STORED, change), &CHECKSUM));
    }

    /// `created_at` is for people and not under the seal: another date there is no lie about the
    /// license.
    #[test]
    fn a_changed_checksum_is_refused(change in change()) {
        let chk = changed(&CHECKSUM, change);
        if checksum::verify(Some(&chk), &STORED, FINGERPRINT).is_ok() {
            let text = std::str::from_utf8(&CHECKSUM).unwrap();
            let sealed = text.find(r#"","created_at":""#).unwrap();
            prop_assert_eq!(&chk[..sealed], &CHECKSUM[..sealed], "only the date may differ");
        }
    }

    /// An answer's `message` is for people and its date is compared with the license's; what is
    /// believed of a changed answer is what was sealed, or nothing.
    #[test]
    fn a_changed_answer_is_refused_or_holds_the_same_license(change in change()) {
        if let Ok((sealed, _)) = ActivationResponse::read(&changed(&ANSWER, change))
            && let Ok(opened) = sealed.open(FINGERPRINT, Some(SIGNER.public_key()))
        {
            prop_assert!(opened.session_key.equals(&SESSION_KEY));
            prop_assert_eq!(opened.license_json.to_vec(), sample_license().to_json());
        }
    }

    #[test]
    fn changed_bodies_never_make_a_reader_panic(changes in prop::collection::vec(change(), 1..4)) {
        let bodies = [
            json!({"email": "owner@example.com", "client_id": "c", "license_key": KEY,
                "device_fingerprint": FINGERPRINT, "trial_days": 3, "product_id": "p"}),
            json!({"client_id": "c", "plan_slug": "gold", "duration_days": 30, "max_devices": 2,
                "check_mode": "custom", "check_interval_seconds": 600}),
            json!({"name": "Gold", "slug": "gold", "price": 100, "metadata": {"a": "b"},
                "permission": "limit", "limit": 3}),
            serde_json::from_slice(&sample_license().to_json()).unwrap(),
        ];
        for body in bodies {
            let body = changes.iter().fold(body.to_string().into_bytes(), |body, one| {
                changed(&body, *one)
            });
            let _refused = DeviceRequest::read(&body).is_err();
            let _refused = TrialRequest::read(&body).is_err();
            let _refused = LicenseData::from_json(&body).is_err();
            let _refused = admin::read::<CreateLicenseRequest>(&body).is_err();
            let _refused = admin::read::<PlanRequest>(&body).is_err();
            let _refused = admin::read::<ProductRequest>(&body).is_err();
            let _refused = admin::read::<ScopeRequest>(&body).is_err();
        }
    }

    #[test]
    fn a_text_is_one_key_or_none(text in "[-A-Za-z0-9 ]{36,52}") {
        if let Ok(key) = LicenseKey::normalise(&text) {
            let again = LicenseKey::normalise(key.hyphenated().expose()).unwrap();
            prop_assert!(again.equals(&key));
            prop_assert_eq!(key.expose().len(), 40);
        }
    }

    #[test]
    fn every_machine_has_a_fingerprint_that_servers_take(
        hostname in proptest::option::of(".{0,40}"),
        cpu_name in proptest::option::of(".{0,40}"),
        mac_address in proptest::option::of("[0-9a-f:]{0,17}"),
    ) {
        let inputs = fingerprint::Inputs {
            hostname: hostname.as_deref(),
            os: "linux",
            arch: "amd64",
            mac_address: mac_address.as_deref(),
            cpu_name: cpu_name.as_deref(),
        };
        prop_assert!(fingerprint::is_fingerprint(&fingerprint::fingerprint(&inputs)));
    }
}
