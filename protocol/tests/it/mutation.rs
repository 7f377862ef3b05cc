//! Mutation loops over what strangers send: a decoder never panics, and nothing that was changed in
//! meaning is ever believed.

use proptest::prelude::*;
use protocol::cloud::admin::ImportRequest;
use protocol::cloud::body;
use protocol::cloud::lease::{
    BulkHeartbeatRequest, CheckoutRequest, HeartbeatRequest, ReturnRequest,
};
use protocol::keys::{PrivateKey, PublicKey};
use protocol::oauth::token::TokenRequest;
use protocol::package::{UnverifiedPackage, sample_document, sign_document};

use crate::keys::{RSA_PUBLIC, ed25519_key};

/// One change of a byte string.
#[derive(Debug, Clone)]
enum Change {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Double(prop::sample::Index, usize),
    Truncate(prop::sample::Index),
}

fn any_change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    let json_byte = prop::sample::select(b"{}[]\",:0123456789.-eE\\u truefalsn\0\xff".to_vec());
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        4 => (place(), json_byte.clone()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        3 => (place(), prop::collection::vec(json_byte, 1..6))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        3 => (place(), 1..40_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        2 => (place(), 1..80_usize).prop_map(|(at, length)| Change::Double(at, length)),
        1 => place().prop_map(Change::Truncate),
    ]
}

fn changed(original: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match change {
            Change::Replace(at, byte) => bytes[at.index(length)] = *byte,
            Change::Insert(at, new) => {
                let at = at.index(length);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Change::Double(at, count) => {
                let at = at.index(length);
                let piece = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
            Change::Truncate(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

fn signed_sample() -> (Vec<u8>, PublicKey, Vec<u8>) {
    let key = ed25519_key(7);
    let policy = [("lease_ttl_seconds", 2), ("offline_skew_seconds", 5)];
    let document = sample_document(1_700_000_000_000, 1_800_000_000_000, &policy);
    let signed = sign_document(document.as_bytes(), &key).unwrap().into_bytes();
    let canonical = UnverifiedPackage::parse(&signed).unwrap().canonical().to_vec();
    (signed, key.public_key().unwrap(), canonical)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_changed_package_is_never_believed(
        changes in prop::collection::vec(any_change(), 1..4),
    ) {
        let (signed, pinned, canonical) = signed_sample();
        if let Ok(package) = UnverifiedPackage::parse(&changed(&signed, &changes)) {
            let same = package.canonical() == canonical;
            if let Ok(verified) = package.verify(&pinned, None) {
                prop_assert!(same, "a changed package verified: {:?}", verified.package);
            }
        }
    }

    #[test]
    fn changed_bodies_never_make_a_reader_panic(
        changes in prop::collection::vec(any_change(), 1..4),
    ) {
        let (signed, _, _) = signed_sample();
        let import = [br#"{"package":"#, &signed[..], br#","vendor_public_key":"x"}"#].concat();
        let _refused = ImportRequest::from_body(&changed(&import, &changes));
        let checkout = br#"{"product_id":"p","user":"u","hostname":"h","metadata":{"version":"8.2"},
            "features":["a"],"quantity":2,"pool":"t"}"#;
        let _refused = body::decode::<CheckoutRequest>(&changed(checkout, &changes));
        let heartbeat = br#"{"renewal_token":"rt1-AQ","still_active":true}"#;
        let _refused = body::decode::<HeartbeatRequest>(&changed(heartbeat, &changes));
        let bulk = br#"{"leases":[{"lease_id":"lease-a","renewal_token":"rt1-AQ"}]}"#;
        let _refused = body::decode::<BulkHeartbeatRequest>(&changed(bulk, &changes));
        let back = br#"{"lease_id":"lease-a","usage_metadata":{"session_duration_seconds":3600}}"#;
        let _refused = body::decode::<ReturnRequest>(&changed(back, &changes));
        let form = b"grant_type=client_credentials&client_id=a&client_secret=%73&scope=x";
        let _refused = TokenRequest::from_form(&changed(form, &changes), None);
        let header = String::from_utf8_lossy(&changed(b"Basic YTpi", &changes)).into_owned();
        let _refused = TokenRequest::from_form(form, Some(&header));
    }

    #[test]
    fn a_changed_key_is_refused_or_another_key(
        changes in prop::collection::vec(any_change(), 1..3),
    ) {
        let original = PublicKey::from_pem(RSA_PUBLIC).unwrap();
        let bytes = changed(original.spki_der(), &changes);
        if let Ok(key) = PublicKey::from_spki_der(&bytes) {
            prop_assert_eq!(key.spki_der(), &bytes[..], "two encodings of one key");
        }
        let text = changed(RSA_PUBLIC.as_bytes(), &changes);
        let _refused = PublicKey::from_pem(&String::from_utf8_lossy(&text));
        let private = ed25519_key(7).to_pkcs8_pem().unwrap();
        let text = changed(private.expose().as_bytes(), &changes);
        let _refused = PrivateKey::from_pkcs8_pem(&String::from_utf8_lossy(&text));
    }
}
