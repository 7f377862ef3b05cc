//! `device_activation.json`, `device_envelope.json` and `device_stored_license.json`: what is
//! sealed to a device and signed.

use protocol::device::crypto::{LicenseSigner, SealedLicense, SessionKey, transport_key};
use protocol::device::fingerprint::{Inputs, fingerprint};
use protocol::device::key::LicenseKey;
use protocol::device::stored::StoredLicense;
use protocol::device::time::LicenseTime;
use protocol::device::wire::{
    ACTIVATED, ActivationResponse, DeviceRequest, FINGERPRINT_HEADER, KEY_HEADER, SECURE_HEADER,
    VERIFIED,
};
use protocol::device::{checksum, envelope};
use protocol::keys::PrivateKey;
use protocol::keys::pss::PssSalt;
use protocol::secret::{Disclosed, Secret};
use serde_json::Value;

use super::device::{CLIENT, EMAIL, FINGERPRINT, KEY, license};
use super::document::{Node, hex, list, object, text};

/// Made for these files and used nowhere else.
const SERVER_KEY: &str = include_str!("device-server.test-only.pem");
const SESSION_KEY: [u8; 32] = *b"leasehold vector session key 001";
const ACTIVATION_NONCE: [u8; 12] = *b"vector-act-1";
const VERIFICATION_NONCE: [u8; 12] = *b"vector-ver-1";
const REQUEST_NONCE: [u8; 12] = *b"vector-req-1";
const ANSWER_NONCE: [u8; 12] = *b"vector-ans-1";
const CHECKSUM_NONCE: [u8; 12] = *b"vector-chk-1";
const WRITTEN_AT: &str = "2027-01-15T08:00:01.000000007Z";

fn signer() -> LicenseSigner {
    LicenseSigner::new(PrivateKey::from_pkcs8_pem(SERVER_KEY).unwrap()).unwrap()
}

fn session_key() -> SessionKey {
    Secret::new(SESSION_KEY)
}

/// The license sealed with a nonce: with the committed signature where that one verifies.
fn sealed(nonce: [u8; 12], call: &str) -> SealedLicense {
    let license = license().to_json();
    let fresh = signer().seal(FINGERPRINT, nonce, &session_key(), &license).unwrap();
    let file: Value =
        serde_json::from_str(&super::committed("device_activation.json")).unwrap_or_default();
    let kept = file["answers"]
        .as_array()
        .and_then(|answers| answers.iter().find(|answer| answer["call"] == call))
        .and_then(|answer| answer["body"].as_str())
        .and_then(|body| ActivationResponse::read(body.as_bytes()).ok())
        .map(|(kept, _)| SealedLicense { signature: kept.signature, ..fresh.clone() });
    kept.filter(|kept| kept.verify(PssSalt::Longest).is_ok()).unwrap_or(fresh)
}

fn expires_at() -> LicenseTime {
    license().expires_at
}

fn verification() -> Vec<u8> {
    ActivationResponse::success(VERIFIED, &sealed(VERIFICATION_NONCE, "verify"), expires_at())
        .to_bytes()
}

fn request() -> String {
    let request = DeviceRequest {
        email: EMAIL.to_owned(),
        client_id: CLIENT.to_owned(),
        license_key: Disclosed::new(KEY.to_owned()),
        device_fingerprint: FINGERPRINT.to_owned(),
        product_id: None,
    };
    let json = serde_json::to_string(&request).unwrap();
    assert!(DeviceRequest::read(json.as_bytes()).is_ok());
    json
}

fn headers(is_secure: bool) -> Node {
    let key = LicenseKey::normalise(KEY).unwrap();
    let mut headers =
        vec![(FINGERPRINT_HEADER, FINGERPRINT.into()), (KEY_HEADER, key.expose().into())];
    if is_secure {
        headers.push((SECURE_HEADER, "1".into()));
    }
    Node::Object(headers)
}

pub(super) fn make_activation() -> Node {
    let answers =
        [("activate", ACTIVATED, ACTIVATION_NONCE), ("verify", VERIFIED, VERIFICATION_NONCE)].map(
            |(call, message, nonce)| {
                let sealed = sealed(nonce, call);
                assert!(sealed.open(FINGERPRINT, Some(signer().public_key())).is_ok());
                let body = ActivationResponse::success(message, &sealed, expires_at()).to_bytes();
                object! {
                    call: call,
                    transport_key_hex: hex(transport_key(FINGERPRINT, &nonce).expose()),
                    nonce_hex: hex(&nonce),
                    body: text(&body),
                }
            },
        );
    let public = signer().public_key().clone();
    super::file(
        "An activation and a verification: the request, the answers, and what opens them. The \
         signatures have random salts and are kept as they were made.",
        &["Licensing SDK Protocol Overview, sections 1 and 4"],
        vec![
            ("server_private_key_pem", SERVER_KEY.into()),
            ("server_public_key_pem", public.to_pem().into()),
            ("server_key_fingerprint", public.fingerprint().to_string().into()),
            ("fingerprint", FINGERPRINT.into()),
            ("request_headers", headers(false)),
            ("request", request().into()),
            ("session_key_hex", hex(&SESSION_KEY).into()),
            ("license_json", text(&license().to_json()).into()),
            ("expires_at", expires_at().to_string().into()),
            ("answers", list(answers)),
        ],
    )
}

/// Envelopes that open and that do not, with what a server answers to the latter.
fn opens(good: &str) -> Vec<Node> {
    let of = |nonce: &[u8], ciphertext: &str| {
        format!(r#"{{"version":1,"nonce":"{}","ciphertext":"{ciphertext}"}}"#, hex(nonce))
    };
    let ciphertext = &good[good.find("ciphertext").unwrap() + 13..good.len() - 2];
    assert_eq!(of(&REQUEST_NONCE, ciphertext), good);
    let other = envelope::seal(&Secret::new([0; 32]), REQUEST_NONCE, request().as_bytes());
    let upper = ciphertext.to_uppercase();
    let shorter = &ciphertext[..ciphertext.len() - 2];
    [
        ("as it should be", good.to_owned(), true),
        ("a member of a later release", good.replace('}', r#","later":1}"#), true),
        ("another version", good.replace(r#""version":1"#, r#""version":2"#), false),
        ("a nonce of 11 bytes", of(&REQUEST_NONCE[1..], ciphertext), false),
        ("a nonce of 13 bytes", of(b"vector-req-01", ciphertext), false),
        ("another nonce", of(&ANSWER_NONCE, ciphertext), false),
        ("upper-case hex", of(&REQUEST_NONCE, &upper), false),
        ("half a byte missing", of(&REQUEST_NONCE, &ciphertext[1..]), false),
        ("the last byte missing", of(&REQUEST_NONCE, shorter), false),
        ("nothing sealed", of(&REQUEST_NONCE, ""), false),
        ("another session key", text(&other), false),
        ("not an envelope", request(), false),
        ("cut off", good[..good.len() - 1].to_owned(), false),
    ]
    .map(|(name, body, opens)| {
        let found = envelope::open(&session_key(), body.as_bytes()).map(|_| ()).err();
        assert_eq!(found.is_none(), opens, "{name}");
        object! {
            name: name,
            body: body,
            opens: opens,
            status: found.as_ref().map(|error| error.status()),
            error: found.as_ref().map(|error| error.message()),
        }
    })
    .to_vec()
}

pub(super) fn make_envelope() -> Node {
    let key = session_key();
    let good = text(&envelope::seal(&key, REQUEST_NONCE, request().as_bytes()));
    let answer = verification();
    super::file(
        "A verification in secure envelopes, both ways, and envelopes that do not open, with the \
         status and error that a server answers.",
        &["Licensing SDK Protocol Overview, section 3"],
        vec![
            ("session_key_hex", hex(&SESSION_KEY).into()),
            ("request_headers", headers(true)),
            ("request_nonce_hex", hex(&REQUEST_NONCE).into()),
            ("request_plain", request().into()),
            ("request_envelope", good.as_str().into()),
            ("answer_nonce_hex", hex(&ANSWER_NONCE).into()),
            ("answer_plain", text(&answer).into()),
            ("answer_envelope", text(&envelope::seal(&key, ANSWER_NONCE, &answer)).into()),
            ("opens", list(opens(&good))),
        ],
    )
}

/// Stored files that open and that do not, and whether the checksum vouches for them.
fn files(whole: &str, chk: &[u8]) -> Vec<Node> {
    let other = fingerprint(&Inputs {
        hostname: Some("build-08"),
        os: "linux",
        arch: "amd64",
        mac_address: None,
        cpu_name: None,
    });
    let moved = whole.replace(FINGERPRINT, &other);
    let year = whole.replace("2028-01-14T08:00:00.5Z", "2029-01-14T08:00:00.5Z");
    let cut = whole[..whole.len() - 1].to_owned();
    let signer = signer();
    [
        ("as it was written", whole.to_owned(), FINGERPRINT, true),
        ("indented", indented(whole), FINGERPRINT, true),
        ("on another device", whole.to_owned(), &other, false),
        ("made to name another device", moved, &other, false),
        ("made to end a year later", year, FINGERPRINT, false),
        ("cut off", cut, FINGERPRINT, false),
    ]
    .map(|(name, file, fingerprint, opens)| {
        let read = StoredLicense::parse(file.as_bytes())
            .and_then(|stored| stored.open(fingerprint, Some(signer.public_key())));
        assert_eq!(read.is_ok(), opens, "{name}");
        let vouches = checksum::verify(Some(chk), file.as_bytes(), fingerprint).is_ok();
        object! {
            name: name,
            license_file: file,
            fingerprint: fingerprint,
            opens: opens,
            checksum_vouches: vouches,
        }
    })
    .to_vec()
}

pub(super) fn make_stored() -> Node {
    let stored = StoredLicense {
        sealed: sealed(ACTIVATION_NONCE, "activate"),
        device_fingerprint: FINGERPRINT.to_owned(),
        expires_at: expires_at(),
    };
    let file = stored.to_bytes();
    let created_at: LicenseTime = WRITTEN_AT.parse().unwrap();
    let chk = checksum::seal(&file, FINGERPRINT, CHECKSUM_NONCE, created_at);
    let whole = text(&file);
    super::file(
        "A license as a device keeps it: the file, the checksum file, and files that are refused. \
         A file is used only where its checksum vouches for it and it opens.",
        &["Licensing SDK Protocol Overview, section 3, Stored license format and Checksum File"],
        vec![
            ("server_public_key_pem", signer().public_key().to_pem().into()),
            ("fingerprint", FINGERPRINT.into()),
            ("license_file", whole.as_str().into()),
            ("license_json", text(&license().to_json()).into()),
            ("session_key_hex", hex(&SESSION_KEY).into()),
            ("checksum_key_hex", hex(checksum::checksum_key(FINGERPRINT).expose()).into()),
            ("checksum_nonce_hex", hex(&CHECKSUM_NONCE).into()),
            ("checksum_created_at", created_at.to_string().into()),
            ("checksum_file", text(&chk).into()),
            ("files", list(files(&whole, &chk))),
        ],
    )
}

/// The same members with white space between them: another file with the same meaning.
fn indented(flat: &str) -> String {
    flat.replacen('{', "{\n  ", 1).replace("\",\"", "\",\n  \"").replace("\"}", "\"\n}")
}
