//! What is sealed, signed and kept: licenses, envelopes, stored files, checksums.

use protocol::device::crypto::{LicenseSigner, SealedLicense, SealedLicenseError, transport_key};
use protocol::device::envelope::EnvelopeError;
use protocol::device::stored::StoredLicense;
use protocol::device::time::LicenseTime;
use protocol::device::{checksum, envelope};
use protocol::keys::pss::PssSalt;
use protocol::keys::{BadSignature, PrivateKey, PublicKey, RsaSize};
use protocol::secret::Secret;
use serde_json::{Value, json};

use super::{FINGERPRINT, KEY, NONCE, SESSION_KEY, sample_license, sealed, signer};
use crate::keys::ed25519_key;

#[test]
fn a_license_is_believed_only_on_its_device_and_under_the_known_key() {
    let signer = signer();
    let sealed = sealed(&signer);
    let opened = sealed.open(FINGERPRINT, Some(signer.public_key())).unwrap();
    assert!(opened.session_key.equals(&SESSION_KEY));
    assert_eq!(opened.license_json.as_slice(), sample_license().to_json());

    let other = LicenseSigner::new(PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap()).unwrap();
    let error = sealed.open(FINGERPRINT, Some(other.public_key())).err().unwrap();
    assert!(matches!(error, SealedLicenseError::KeyChanged { .. }), "{error}");
    let error = sealed.open(&FINGERPRINT.replace('4', "5"), None).err();
    assert_eq!(error, Some(SealedLicenseError::Sealed));
    let mut forged = sealed.clone();
    forged.public_key = other.public_key().clone();
    assert_eq!(forged.open(FINGERPRINT, None).err(), Some(SealedLicenseError::Signature));
    let mut longer = sealed.clone();
    longer.signature.push(0);
    assert_eq!(longer.verify(PssSalt::Any), Err(BadSignature));

    // The document's prose signs ciphertext and nonce with PKCS#1 v1.5; that is not believed.
    let prose = PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap();
    let message = [sealed.ciphertext.as_slice(), &NONCE].concat();
    let mut prose_form = sealed.clone();
    prose_form.signature = prose.sign(&message).unwrap();
    prose_form.public_key = prose.public_key().unwrap();
    assert_eq!(prose_form.open(FINGERPRINT, None).err(), Some(SealedLicenseError::Signature));
    prose_form.signature = prose.sign(&sealed.ciphertext).unwrap();
    assert_eq!(prose_form.verify(PssSalt::Any), Err(BadSignature));
}

#[test]
fn a_sealed_text_too_short_for_a_session_key_is_refused() {
    let private = PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap();
    let public_key = private.public_key().unwrap();
    // An envelope under the transport key is the same sealing without the session key in front.
    let transport = transport_key(FINGERPRINT, &NONCE);
    let envelope: Value =
        serde_json::from_slice(&envelope::seal(&transport, NONCE, &[1; 31])).unwrap();
    let ciphertext = super::hex(envelope["ciphertext"].as_str().unwrap());
    let signature = private.sign_pss(&ciphertext).unwrap();
    let sealed = SealedLicense { ciphertext, nonce: NONCE, signature, public_key };
    let error = sealed.open(FINGERPRINT, None).err();
    assert_eq!(error, Some(SealedLicenseError::Short { bytes: 31 }));
}

/// Signatures that OpenSSL made with salts of 0, 20, 32 and the longest length.
#[test]
fn salts_of_every_length_verify_and_only_the_longest_under_the_strict_rule() {
    let key = PublicKey::from_pem(include_str!("../golden/rsa-pss.pub.pem")).unwrap();
    for line in include_str!("../golden/rsa-pss.txt").lines() {
        let (salt, signature) = line.split_once(' ').unwrap();
        let signature = super::hex(signature);
        assert_eq!(key.verify_pss(b"message", &signature, PssSalt::Any), Ok(()), "{salt}");
        let strict = key.verify_pss(b"message", &signature, PssSalt::Longest);
        assert_eq!(strict.is_ok(), salt == "222", "{salt}");
        let other = key.verify_pss(b"massage", &signature, PssSalt::Any);
        assert_eq!(other, Err(BadSignature), "{salt}");
    }
    let ed25519 = ed25519_key(1);
    assert!(ed25519.sign_pss(b"message").is_err());
    let public = ed25519.public_key().unwrap();
    assert!(public.verify_pss(b"message", &[0; 64], PssSalt::Any).is_err());
    assert!(LicenseSigner::new(ed25519).is_err());
}

#[test]
fn larger_keys_sign_with_their_own_longest_salt() {
    let key = PrivateKey::generate_rsa(RsaSize::Bits3072).unwrap();
    let signature = key.sign_pss(b"message").unwrap();
    let public = key.public_key().unwrap();
    assert_eq!(public.verify_pss(b"message", &signature, PssSalt::Longest), Ok(()));
    assert_ne!(key.sign_pss(b"message").unwrap(), signature, "the salt is random");
}

#[test]
fn an_envelope_is_refused_with_its_reason() {
    let key = Secret::new(SESSION_KEY);
    let good = envelope::seal(&key, NONCE, b"{}");
    assert_eq!(envelope::open(&key, &good).unwrap().as_slice(), b"{}");
    let good: Value = serde_json::from_slice(&good).unwrap();
    let upper = good["ciphertext"].as_str().unwrap().to_uppercase();
    let odd = &good["ciphertext"].as_str().unwrap()[1..];
    for (field, value, error, message) in [
        ("version", json!(2), EnvelopeError::Version(2), "Failed to decrypt payload"),
        ("version", json!(0), EnvelopeError::Version(0), "Failed to decrypt payload"),
        ("nonce", json!(""), EnvelopeError::NonceLength { bytes: 0 }, "Failed to decrypt payload"),
        (
            "nonce",
            json!("0303"),
            EnvelopeError::NonceLength { bytes: 2 },
            "Failed to decrypt payload",
        ),
        ("nonce", json!("zz"), EnvelopeError::Hex { field: "nonce" }, "Failed to decrypt payload"),
        (
            "ciphertext",
            json!(odd),
            EnvelopeError::Hex { field: "ciphertext" },
            "Failed to decrypt payload",
        ),
        (
            "ciphertext",
            json!(upper),
            EnvelopeError::Hex { field: "ciphertext" },
            "Failed to decrypt payload",
        ),
        ("ciphertext", json!(""), EnvelopeError::Sealed, "Failed to decrypt payload"),
        ("ciphertext", json!("00"), EnvelopeError::Sealed, "Failed to decrypt payload"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let found = envelope::open(&key, body.to_string().as_bytes()).err().unwrap();
        assert_eq!(found, error, "{field} {value}");
        assert_eq!((found.status(), found.message()), (400, message));
    }
    for body in ["", "{}", "[]", r#"{"version":"1","nonce":"","ciphertext":""}"#, "secret"] {
        let found = envelope::open(&key, body.as_bytes()).err().unwrap();
        assert_eq!((found.status(), found.message()), (400, "Invalid secure envelope"), "{body}");
    }
    let mut more = good;
    more["later"] = json!(1);
    assert!(envelope::open(&key, more.to_string().as_bytes()).is_ok());
}

#[test]
fn an_envelope_needs_headers_that_name_its_sender() {
    let sender = |key, fingerprint| envelope::sender(key, fingerprint).map(|_| ());
    assert_eq!(sender(Some(KEY), Some(FINGERPRINT)), Ok(()));
    for (key, fingerprint, status, message) in [
        (None, Some(FINGERPRINT), 400, "Secure payload missing fingerprint or license key"),
        (Some(KEY), None, 400, "Secure payload missing fingerprint or license key"),
        (Some(" "), Some(FINGERPRINT), 400, "Secure payload missing fingerprint or license key"),
        (Some("ABCD"), Some(FINGERPRINT), 401, "Device not authorized for secure transport"),
        (Some(KEY), Some("short"), 401, "Device not authorized for secure transport"),
    ] {
        let error = sender(key, fingerprint).unwrap_err();
        assert_eq!((error.status(), error.message()), (status, message));
    }
    for (value, secure) in [("1", true), ("true", false), ("0", false), ("", false), ("11", false)]
    {
        assert_eq!(envelope::is_secure(Some(value.as_bytes())), secure, "{value}");
    }
    assert!(!envelope::is_secure(None));
}

#[test]
fn a_stored_file_names_the_field_that_is_wrong() {
    let signer = signer();
    let stored = StoredLicense {
        sealed: sealed(&signer),
        device_fingerprint: FINGERPRINT.to_owned(),
        expires_at: sample_license().expires_at,
    };
    let bytes = stored.to_bytes();
    assert_eq!(StoredLicense::parse(&bytes).unwrap(), stored);
    let opened = stored.open(FINGERPRINT, Some(signer.public_key())).unwrap();
    assert!(opened.session_key.equals(&SESSION_KEY));
    let good: Value = serde_json::from_slice(&bytes).unwrap();
    let ed25519 = ed25519_key(1).public_key().unwrap();
    for (field, value) in [
        ("encrypted_data", json!("abc")),
        ("encrypted_data", json!("_-8=")),
        ("nonce", json!("AAAA")),
        ("nonce", json!("QQ==x")),
        ("signature", json!("AB==")),
        ("signature", json!(null)),
        ("public_key", json!("AAAA")),
        ("public_key", json!(ed25519.to_pem())),
        ("device_fingerprint", json!("short")),
        ("expires_at", json!("")),
        ("expires_at", json!(7)),
    ] {
        let mut file = good.clone();
        file[field] = value.clone();
        let error = StoredLicense::parse(file.to_string().as_bytes()).unwrap_err();
        let text = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(text.contains(field), "{field} {value}: {text}");
    }
    for field in good.as_object().unwrap().keys() {
        let mut file = good.clone();
        file.as_object_mut().unwrap().remove(field);
        let error = StoredLicense::parse(file.to_string().as_bytes()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(field.as_str()), "{field}: {source}");
    }
    let long = vec![b' '; 2 * 1024 * 1024 + 1];
    assert!(StoredLicense::parse(&long).is_err());
}

#[test]
fn a_checksum_vouches_for_one_file_on_one_device() {
    let now = LicenseTime::from_unix_ms(1_700_000_000_000);
    let chk = checksum::seal(b"file", FINGERPRINT, NONCE, now);
    assert_eq!(checksum::verify(Some(&chk), b"file", FINGERPRINT).unwrap(), now);
    assert_eq!(checksum::verify(Some(&chk), b"file", &format!(" {FINGERPRINT}\n")).unwrap(), now);
    let good: Value = serde_json::from_slice(&chk).unwrap();
    for (field, value, reason) in [
        ("version", json!(2), "version 2"),
        ("nonce", json!("03"), "nonce: want 12 bytes"),
        ("nonce", json!("030303030303030303030304"), "does not open"),
        ("payload", json!("00".repeat(48)), "does not open"),
        ("payload", json!("00".repeat(47)), "payload: want 48 bytes"),
        ("payload", json!(good["payload"].as_str().unwrap().to_uppercase()), "payload: want 48"),
        ("created_at", json!("now"), "not a checksum file"),
        ("later", json!(1), "not a checksum file"),
    ] {
        let mut file = good.clone();
        file[field] = value.clone();
        let error =
            checksum::verify(Some(file.to_string().as_bytes()), b"file", FINGERPRINT).unwrap_err();
        assert!(error.to_string().contains(reason), "{field} {value}: {error}");
    }
    for (file, text, reason) in [
        (None, &b"file"[..], "there is no checksum file"),
        (Some(&chk[..]), b"fire", "not the one that was written"),
        (Some(&[b' '; 5_000][..]), b"file", "5000 bytes"),
        (Some(b""), b"file", "not a checksum file"),
    ] {
        let error = checksum::verify(file, text, FINGERPRINT).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
