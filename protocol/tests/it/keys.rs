//! The gate for public keys, and signatures that other programs made.

use protocol::keys::{
    Algorithm, BadSignature, Fingerprint, KeyError, PrivateKey, PublicKey, RsaSize,
};
use protocol::secret::Secret;

pub(crate) const RSA_PUBLIC: &str = include_str!("golden/rsa-2048.pub.pem");
const RSA_PUBLIC_PKCS1: &str = include_str!("golden/rsa-2048.pkcs1.pub.pem");
const RSA_FINGERPRINT: &str =
    "SHA256:e25f5c1bd55b73861d1975df5d9f849198e524e3c8f711a63f2f7e7becc1f723";
const ED25519_FINGERPRINT: &str =
    "SHA256:324be2dea8bc44461b0233e51fa48902ed6b1cc671e7739af2551e0bfe68f54e";
pub(crate) const ED25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=\n\
    -----END PUBLIC KEY-----\n";

pub(crate) fn ed25519_key(fill: u8) -> PrivateKey {
    PrivateKey::ed25519(&Secret::new([fill; 32]))
}

#[test]
fn keys_of_other_programs_pass_and_keep_their_fingerprint() {
    for (pem, algorithm, fingerprint) in [
        (RSA_PUBLIC, Algorithm::RsaSha256, RSA_FINGERPRINT),
        (RSA_PUBLIC_PKCS1, Algorithm::RsaSha256, RSA_FINGERPRINT),
        (ED25519_PUBLIC, Algorithm::Ed25519, ED25519_FINGERPRINT),
    ] {
        let key = PublicKey::from_pem(pem).unwrap();
        assert_eq!(
            (key.algorithm(), key.fingerprint().to_string()),
            (algorithm, fingerprint.into())
        );
        assert_eq!(fingerprint.parse(), Ok(key.fingerprint()));
        assert_eq!(PublicKey::from_pem(&key.to_pem()).unwrap(), key);
        assert_eq!(PublicKey::from_spki_der(key.spki_der()).unwrap(), key);
    }
    assert_eq!(PublicKey::from_pem(RSA_PUBLIC).unwrap().to_pem(), RSA_PUBLIC);
    assert_eq!(PublicKey::from_pem(ED25519_PUBLIC).unwrap().to_pem(), ED25519_PUBLIC);
    let typed = format!("SHA256:{}", RSA_FINGERPRINT[7..].to_uppercase());
    assert_eq!(typed.parse::<Fingerprint>().unwrap().to_string(), RSA_FINGERPRINT);
    for text in ["", "SHA256:", "SHA256:e2", &RSA_FINGERPRINT[7..], &RSA_FINGERPRINT[..70]] {
        assert!(text.parse::<Fingerprint>().is_err(), "{text}");
    }
    let crlf = RSA_PUBLIC.replace('\n', "\r\n");
    assert_eq!(PublicKey::from_pem(&crlf).unwrap().fingerprint().to_string(), RSA_FINGERPRINT);
}

#[test]
fn the_gate_refuses_with_a_reason() {
    let two = format!("{RSA_PUBLIC}{ED25519_PUBLIC}");
    let cut = RSA_PUBLIC.replace("-----END PUBLIC KEY-----", "");
    let private = ed25519_key(1).to_pkcs8_pem().unwrap();
    let pem_kind = |found: &str| KeyError::PemKind {
        found: found.to_owned(),
        expected: "PUBLIC KEY or RSA PUBLIC KEY",
    };
    let mislabelled = RSA_PUBLIC_PKCS1.replace("RSA PUBLIC", "PUBLIC");
    let mislabelled_too = RSA_PUBLIC.replace("PUBLIC KEY", "RSA PUBLIC KEY");
    let long = format!("{}{RSA_PUBLIC}", " ".repeat(20_000));
    let certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    for (pem, error) in [
        ("", KeyError::Pem),
        ("hello", KeyError::Pem),
        (&two, KeyError::Pem),
        (&cut, KeyError::Pem),
        (&long, KeyError::Pem),
        (private.expose(), pem_kind("PRIVATE KEY")),
        (certificate, pem_kind("CERTIFICATE")),
        (&mislabelled, KeyError::Encoding),
        (&mislabelled_too, KeyError::Encoding),
        (include_str!("golden/rsa-1024.pub.pem"), KeyError::RsaBits { bits: 1024 }),
        (include_str!("golden/p256.pub.pem"), KeyError::Encoding),
    ] {
        assert_eq!(PublicKey::from_pem(pem).unwrap_err(), error, "{pem}");
    }
    let rsa = PublicKey::from_pem(RSA_PUBLIC).unwrap();
    let trailing = [rsa.spki_der(), &[0]].concat();
    assert_eq!(PublicKey::from_spki_der(&trailing).unwrap_err(), KeyError::Encoding);
    let ed25519 = PublicKey::from_pem(ED25519_PUBLIC).unwrap();
    let trailing = [ed25519.spki_der(), &[0]].concat();
    assert_eq!(PublicKey::from_spki_der(&trailing).unwrap_err(), KeyError::Encoding);
}

#[test]
fn weak_and_second_encodings_of_ed25519_keys_are_refused() {
    let hex = |text: &str| -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
    };
    // The points of small order in their canonical encodings, then encodings of y >= p or of a
    // negative zero x ("Taming the many EdDSAs", table 1).
    let weak = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];
    let second = [
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // y = p + 3, a point of large order whose canonical encoding begins with 03.
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        // Not on the curve.
        "0200000000000000000000000000000000000000000000000000000000000000",
    ];
    for text in weak {
        assert_eq!(PublicKey::from_ed25519_bytes(&hex(text)), Err(KeyError::Weak), "{text}");
    }
    for text in second {
        assert_eq!(
            PublicKey::from_ed25519_bytes(&hex(text)),
            Err(KeyError::NotCanonical),
            "{text}"
        );
    }
}

#[test]
fn a_private_key_survives_its_pem_and_signs_the_same() {
    let rsa = PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap();
    for key in [ed25519_key(7), rsa] {
        let pem = key.to_pkcs8_pem().unwrap();
        let again = PrivateKey::from_pkcs8_pem(pem.expose()).unwrap();
        assert_eq!(again.public_key().unwrap(), key.public_key().unwrap());
        let signature = key.sign(b"message").unwrap();
        assert_eq!(again.sign(b"message").unwrap(), signature);
        let public = key.public_key().unwrap();
        assert_eq!(public.verify(b"message", &signature), Ok(()));
        assert_eq!(public.verify(b"massage", &signature), Err(BadSignature));
        assert_eq!(public.verify(b"message", &signature[1..]), Err(BadSignature));
        assert_eq!(public.verify(b"message", &[]), Err(BadSignature));
        for bit in 0..8 {
            let mut flipped = signature.clone();
            flipped[5] ^= 1 << bit;
            assert_eq!(public.verify(b"message", &flipped), Err(BadSignature));
        }
    }
    assert_eq!(ed25519_key(7).public_key().unwrap().to_pem(), ED25519_PUBLIC);
    for (pem, what) in [(RSA_PUBLIC, "a public key"), ("", "nothing")] {
        assert!(PrivateKey::from_pkcs8_pem(pem).is_err(), "{what}");
    }
}

/// Adding the group order to S gives another signature that lax verifiers accept.
#[test]
fn a_malleable_ed25519_signature_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let key = ed25519_key(7);
    let mut signature = key.sign(b"message").unwrap();
    let mut carry = 0_u16;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
    }
    assert_eq!(key.public_key().unwrap().verify(b"message", &signature), Err(BadSignature));
}

/// The golden RSA key with another exponent or modulus: the DER is well formed, the key is none.
#[test]
fn an_rsa_key_that_cannot_be_one_is_refused() {
    let key = PublicKey::from_pem(RSA_PUBLIC).unwrap();
    let changed = |from_end: usize, byte: u8| {
        let mut der = key.spki_der().to_vec();
        let at = der.len() - from_end;
        der[at] = byte;
        der
    };
    // The last five bytes are the exponent, INTEGER 01 00 01, and before it stands the modulus.
    assert!(key.spki_der().ends_with(&[0x02, 0x03, 0x01, 0x00, 0x01]));
    for (der, what) in [
        (changed(1, 0), "an even exponent"),
        (changed(6, 2), "an even modulus"),
        (changed(3, 0), "an exponent with a leading zero"),
        (changed(3, 0x81), "a negative exponent"),
    ] {
        assert!(PublicKey::from_spki_der(&der).is_err(), "{what}");
    }
}
