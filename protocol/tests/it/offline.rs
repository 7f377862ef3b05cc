//! Offline tokens and the access tokens of `deployment`: what is believed, what is refused and why.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use protocol::cloud::body;
use protocol::cloud::lease::LeaseType;
use protocol::deployment::token::{self, DeploymentClaims, TokenError};
use protocol::fence::Fence;
use protocol::keys::{PrivateKey, PublicKey, RsaSize};
use protocol::oauth::claims::key_id;
use protocol::offline::{
    self, ClockWentBack, Expect, HighWater, Holder, HolderKind, JwsError, KeySet, KeySetError,
    MAX_TOKEN_BYTES, OfflineClaims, OfflineError, Protocol, SignError, TOKEN_TYPE,
};
use protocol::{classic, deployment, evaluation};

use crate::keys::{RSA_PUBLIC, ed25519_key};

const ISSUED: u64 = 1_800_000_000;
const ENDS: u64 = ISSUED + 3_600;
const NOW_MS: i64 = (ISSUED as i64 + 60) * 1_000;

fn claims() -> OfflineClaims {
    OfflineClaims {
        iss: "5f0c".to_owned(),
        jti: "n1-000001".to_owned(),
        license_id: "vec-davinci-se-bmw-2025-001".to_owned(),
        product: "davinci-configurator-se".to_owned(),
        protocol: Protocol::Cloud,
        lease_id: "lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga".to_owned(),
        holder: Holder::of(HolderKind::Host, "dev-workstation-042"),
        user_hash: Some(offline::user_hash("alice@bmw.com")),
        features: vec!["can_editor".to_owned()],
        quantity: 1,
        class: Some(LeaseType::Commit),
        max_nodes: None,
        cluster_id: None,
        fence: Fence { epoch: 1, index: 42, position: 0, incarnation: 7 },
        epoch: 1,
        token_version: 3,
        iat: ISSUED,
        exp: ENDS,
        borrowed: true,
        skew_seconds: 600,
    }
}

fn key_set() -> KeySet {
    KeySet::of(ed25519_key(7).public_key().unwrap()).unwrap()
}

/// A token of any header and claims, signed by the right key.
fn forged(header: &str, claims: &str) -> String {
    let front = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = ed25519_key(7).sign(front.as_bytes()).unwrap();
    format!("{front}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(alg: &str, typ: &str) -> String {
    let kid = key_id(&ed25519_key(7).public_key().unwrap());
    format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"{typ}"}}"#)
}

#[test]
fn a_token_says_what_was_signed_and_keeps_its_names() {
    let text = offline::sign(&ed25519_key(7), &claims()).unwrap();
    let read = offline::verify(&text, &key_set(), &Expect::at(NOW_MS)).unwrap();
    assert_eq!(read, claims());
    let inspected = offline::inspect(&text).unwrap();
    assert_eq!(inspected.claims, claims());
    assert_eq!(inspected.key_id, key_id(&ed25519_key(7).public_key().unwrap()));
    let payload = URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    insta::assert_json_snapshot!("offline_claims", payload);
    let other = OfflineClaims {
        protocol: Protocol::Deployment,
        holder: Holder::of(HolderKind::Cluster, "bzzz-cluster-1b9d6bcd-walnut"),
        user_hash: None,
        class: None,
        max_nodes: Some(10),
        cluster_id: Some("bzzz-cluster-1b9d6bcd-walnut".to_owned()),
        borrowed: false,
        ..claims()
    };
    let text = offline::sign(&ed25519_key(7), &other).unwrap();
    assert_eq!(offline::verify(&text, &key_set(), &Expect::at(NOW_MS)).unwrap(), other);
}

/// Made with Python: sha256(b"leasehold-holder-v1\0host\0dev-workstation-042") and so on.
#[test]
fn holders_are_recognised_and_not_named() {
    for (kind, name, hash) in [
        (
            HolderKind::Host,
            "dev-workstation-042",
            "640da1e9b44bacdfc5e66ae20774c060aa336ff197487ac04adaf324fdc21814",
        ),
        (
            HolderKind::Fingerprint,
            "ab",
            "ab1377c3421e8669fea0183e7b521725f10a18f178a12951184e9231587fa7ca",
        ),
        (
            HolderKind::Cluster,
            "",
            "324aedaa6d251b3186cf663056dbd55d6932f4927d33f4b28742142344360ba1",
        ),
    ] {
        assert_eq!(Holder::of(kind, name).hash, hash);
    }
    assert_eq!(
        offline::user_hash("alice"),
        "8020700fdf61103cb655a9093d61c30bfede6acf756c548db24c5f01853bf716"
    );
    assert_ne!(
        Holder::of(HolderKind::Host, "x").hash,
        Holder::of(HolderKind::Fingerprint, "x").hash
    );
}

#[test]
fn what_a_reader_expects_is_compared() {
    let text = offline::sign(&ed25519_key(7), &claims()).unwrap();
    let at = Expect::at(NOW_MS);
    let host = Holder::of(HolderKind::Host, "dev-workstation-042");
    let other_host = Holder::of(HolderKind::Host, "dev-workstation-043");
    let other_kind = Holder { kind: HolderKind::Fingerprint, hash: host.hash.clone() };
    let ms = |seconds: u64| seconds as i64 * 1_000;
    let exact = Expect {
        issuer: Some("5f0c"),
        epoch: Some(1),
        product: Some("davinci-configurator-se"),
        holder: Some(&host),
        ..at
    };
    let strict = |now_ms| Expect { issued_leeway_ms: Some(0), ..Expect::at(now_ms) };
    for (expect, code) in [
        (at, "ok"),
        (exact, "ok"),
        (Expect { issuer: Some("5f0d"), ..exact }, "wrong_cluster"),
        (Expect { epoch: Some(2), ..exact }, "wrong_epoch"),
        (Expect { epoch: Some(0), ..exact }, "wrong_epoch"),
        (Expect { product: Some("other"), ..exact }, "wrong_product"),
        (Expect { holder: Some(&other_host), ..exact }, "wrong_holder"),
        (Expect { holder: Some(&other_kind), ..exact }, "wrong_holder"),
        // The end has no leeway, whatever is asked for.
        (Expect::at(ms(ENDS) - 1), "ok"),
        (Expect::at(ms(ENDS)), "expired"),
        (Expect { issued_leeway_ms: Some(i64::MAX), ..Expect::at(ms(ENDS)) }, "expired"),
        (Expect::at(i64::MAX), "expired"),
        // The beginning has the token's own, or the reader's.
        (Expect::at(ms(ISSUED) - 600_000), "ok"),
        (Expect::at(ms(ISSUED) - 600_001), "not_yet_valid"),
        (strict(ms(ISSUED)), "ok"),
        (strict(ms(ISSUED) - 1), "not_yet_valid"),
        (Expect::at(i64::MIN), "not_yet_valid"),
        // Clocks 5, 7 and 48 hours off.
        (Expect::at(NOW_MS + 5 * 3_600_000), "expired"),
        (Expect::at(NOW_MS - 7 * 3_600_000), "not_yet_valid"),
        (Expect::at(NOW_MS + 48 * 3_600_000), "expired"),
    ] {
        let code_found = match offline::verify(&text, &key_set(), &expect) {
            Ok(_) => "ok",
            Err(error) => {
                assert!(!error.to_string().is_empty());
                error.code()
            }
        };
        assert_eq!(code_found, code, "{expect:?}");
    }
}

#[test]
fn what_is_no_token_of_ours_is_refused_with_its_code() {
    let good = offline::sign(&ed25519_key(7), &claims()).unwrap();
    let body = serde_json::to_string(&claims()).unwrap();
    let right = header("EdDSA", TOKEN_TYPE);
    let (front, signature) = good.rsplit_once('.').unwrap();
    let twice = body.replacen(r#""exp":"#, r#""exp":1,"exp":"#, 1);
    let fraction = body.replacen(&format!(r#""exp":{ENDS}"#), &format!(r#""exp":{ENDS}.5"#), 1);
    let no_exp = body.replacen(&format!(r#""exp":{ENDS},"#), "", 1);
    let text_exp = body.replacen(&format!(r#""exp":{ENDS}"#), r#""exp":"never""#, 1);
    let spare = right.replace('}', r#","crit":["b64"],"b64":false}"#);
    let twice_typ = right.replace('}', &format!(r#","typ":"{TOKEN_TYPE}"}}"#));
    let jwk = right.replace('}', r#","jwk":{"kty":"OKP"}}"#);
    let stranger = offline::sign(&ed25519_key(8), &claims()).unwrap();
    // Another key's token under the right key's name.
    let borrowed_kid = {
        let front = format!("{}.{}", URL_SAFE_NO_PAD.encode(&right), URL_SAFE_NO_PAD.encode(&body));
        let signature = ed25519_key(8).sign(front.as_bytes()).unwrap();
        format!("{front}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let access = token::sign(&ed25519_key(7), &access_claims()).unwrap();
    for (text, code) in [
        (String::new(), "malformed"),
        ("..".to_owned(), "malformed"),
        ("a.b".to_owned(), "malformed"),
        (format!("{good}."), "malformed"),
        (format!("{good}.e30"), "malformed"),
        (format!(" {good}"), "malformed"),
        (format!("{good}="), "malformed"),
        (format!("{good}{}", "A".repeat(MAX_TOKEN_BYTES)), "malformed"),
        (front.to_owned(), "malformed"),
        (format!("{front}."), "bad_signature"),
        (format!("{front}.{}", &signature[..84]), "bad_signature"),
        (forged("[]", &body), "malformed"),
        (forged("{}", &body), "malformed"),
        (forged(&spare, &body), "malformed"),
        (forged(&twice_typ, &body), "malformed"),
        (forged(&jwk, &body), "malformed"),
        (forged(&right, &twice), "malformed"),
        (forged(&right, &fraction), "malformed"),
        (forged(&right, &no_exp), "malformed"),
        (forged(&right, &text_exp), "malformed"),
        (forged(&right, "[1]"), "malformed"),
        (forged(&header("none", TOKEN_TYPE), &body), "wrong_algorithm"),
        (forged(&header("HS256", TOKEN_TYPE), &body), "wrong_algorithm"),
        (forged(&header("eddsa", TOKEN_TYPE), &body), "wrong_algorithm"),
        (forged(&header("EdDSA", "JWT"), &body), "wrong_type"),
        (forged(&header("EdDSA", "at+jwt"), &body), "wrong_type"),
        (access, "wrong_type"),
        (stranger, "unknown_key"),
        (borrowed_kid, "bad_signature"),
    ] {
        let error = offline::verify(&text, &key_set(), &Expect::at(NOW_MS)).unwrap_err();
        assert_eq!(error.code(), code, "{text}");
    }
    // Claims of a later release are passed over; a control for the table above.
    let later = body.replacen('{', r#"{"added":1,"#, 1);
    assert!(offline::verify(&forged(&right, &later), &key_set(), &Expect::at(NOW_MS)).is_ok());
}

#[test]
fn a_token_that_no_reader_would_accept_is_not_made() {
    let long = OfflineClaims { features: vec!["x".repeat(100); 100], ..claims() };
    let large = OfflineClaims { token_version: 1 << 53, ..claims() };
    for claims in [long, large] {
        let refused = offline::sign(&ed25519_key(7), &claims);
        assert!(matches!(refused, Err(SignError::Claims(_))), "{refused:?}");
    }
    let rsa = PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap();
    assert_eq!(offline::sign(&rsa, &claims()), Err(SignError::NotEd25519));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_changed_byte_of_a_token_is_refused(at in any::<prop::sample::Index>(), byte: u8) {
        let good = offline::sign(&ed25519_key(7), &claims()).unwrap();
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert!(offline::verify(&text, &key_set(), &Expect::at(NOW_MS)).is_err(), "{text}");
        let _never_a_panic = offline::inspect(&text);
    }

    #[test]
    fn the_clock_never_gains_by_going_back(
        steps in prop::collection::vec((-100_000_i64..100_000, 0_i64..2_000), 1..50),
    ) {
        let mut water = HighWater::from_stored_ms(1_000_000);
        let mut clock_ms = 1_000_000;
        for (step_ms, tolerance_ms) in steps {
            clock_ms += step_ms;
            let before_ms = water.highest_ms();
            match water.observe(clock_ms, tolerance_ms) {
                Ok(time_ms) => {
                    prop_assert_eq!(time_ms, before_ms.max(clock_ms));
                    prop_assert!(clock_ms >= before_ms - tolerance_ms);
                }
                Err(refused) => {
                    prop_assert_eq!(
                        refused,
                        ClockWentBack { highest_ms: before_ms, now_ms: clock_ms }
                    );
                    prop_assert!(clock_ms < before_ms - tolerance_ms);
                    prop_assert_eq!(water.highest_ms(), before_ms);
                }
            }
            prop_assert!(water.highest_ms() >= before_ms);
        }
    }
}

/// A clock that is set back again and again, by less than is tolerated, does not keep a token
/// alive.
#[test]
fn small_set_backs_do_not_stop_time() {
    let mut water = HighWater::from_stored_ms(1_000_000);
    let (ends_ms, tolerance_ms) = (1_600_000, 60_000);
    let clock_ms = 1_000_000;
    // Half a minute passes, and the clock is set back by as much.
    let judged = (0..21).map(|_| {
        water.pass(30_000);
        water.observe(clock_ms, tolerance_ms)
    });
    let judged: Vec<_> = judged.collect();
    assert_eq!(judged[0], Ok(1_030_000));
    assert_eq!(judged[1], Ok(1_060_000));
    let last = ClockWentBack { highest_ms: ends_ms + 30_000, now_ms: clock_ms };
    assert_eq!(judged[20], Err(last), "by then it has ended");
}

/// Bytes that were replaced, and perhaps an end that was cut off.
fn damaged(original: &[u8], changes: &[(prop::sample::Index, u8)], cut: bool) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
        if cut {
            bytes.truncate(at + 1);
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_bytes_never_make_a_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut: bool,
    ) {
        let bytes = |text: &str| damaged(text.as_bytes(), &changes, cut);
        let keys = serde_json::to_string(&key_set().to_jwks()).unwrap();
        let _refused = KeySet::from_json(&bytes(&keys));
        let claims = damaged(&serde_json::to_vec(&claims()).unwrap(), &changes, cut);
        let right = header("EdDSA", TOKEN_TYPE);
        let signed = forged(&right, &String::from_utf8_lossy(&claims));
        let _refused = offline::verify(&signed, &key_set(), &Expect::at(NOW_MS));
        let activate = r#"{"license_key":"BZZZ-2025-1","cluster_id":"c","email":"e@x","nodes":1,
            "metadata":{"ip":"::1"},"terms":{"agreed":true,"timestamp":"2025-09-01T10:30:00Z"}}"#;
        if let Ok(request) = body::decode::<deployment::wire::ActivateRequest>(&bytes(activate)) {
            let _refused = request.call();
            let _time = request.terms_accepted_at();
        }
        let heartbeat = r#"{"license_key":"BZZZ-2025-1","cluster_id":"c","token":"t","nodes":3}"#;
        let _refused = body::decode::<deployment::wire::HeartbeatRequest>(&bytes(heartbeat));
        let report = r#"{"cluster_id":"c","job_id":"j","metrics":{"cpu_hours":1.25,"tokens":7}}"#;
        let _refused = body::decode::<deployment::telemetry::TelemetryRequest>(&bytes(report));
        let activate = r#"{"version":"2.0.0","type":"evaluation","timestamp":1795325574.1954243,
            "hostname_hash":"8f1f0466fc41bb15","activation_code":null,"org_id":"o"}"#;
        let _refused = body::decode::<evaluation::wire::ActivateRequest>(&bytes(activate));
        let answer = r#"{"ok":true,"server_time":1795325574.199,"license":{"type":"evaluation",
            "expires_at":1.5,"revoked":false,"signature":"00"},"reason":"revoked"}"#;
        let _refused = serde_json::from_slice::<evaluation::wire::Answer>(&bytes(answer));
        let borrow = bytes(r#"{"tool":"T","user":"u"}"#);
        let _refused = classic::wire::BorrowRequest::from_body(&borrow);
        let protection = bytes(r#"{"tool":"T","max_spend":100.5}"#);
        let _refused = classic::wire::ProtectionRequest::from_body(&protection);
        let key = format!("acme_test_pk_{}", "A".repeat(43));
        let key = bytes(&key);
        let _refused = classic::api_key::parse(&String::from_utf8_lossy(&key));
    }
}

#[test]
fn a_key_set_is_read_as_it_was_published() {
    let mut set = key_set();
    let kid = set.insert(ed25519_key(8).public_key().unwrap()).unwrap();
    assert_eq!(set.iter().count(), 2);
    let json = serde_json::to_string(&set.to_jwks()).unwrap();
    assert_eq!(KeySet::from_json(json.as_bytes()), Ok(set.clone()));
    assert!(set.get(&kid).is_some() && set.get("x").is_none());
    let rsa = PublicKey::from_pem(RSA_PUBLIC).unwrap();
    assert_eq!(set.insert(rsa), Err(KeySetError::NotEd25519));

    let one = serde_json::to_string(&key_set().to_jwks()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(one.contains(from), "{from}");
        one.replace(from, to)
    };
    let weak = URL_SAFE_NO_PAD.encode([0_u8; 32]);
    let x = one.split(r#""x":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    for (text, wants) in [
        ("[]".to_owned(), "malformed"),
        ("{}".to_owned(), "malformed"),
        (one.replace(r#"{"keys":"#, r#"{"keys":[],"keys":"#), "json"),
        (with(r#""use":"sig""#, r#""use":"enc""#), "malformed"),
        (with(r#""alg":"EdDSA""#, r#""alg":"RS256""#), "malformed"),
        (with(&x, &weak), "key"),
        (with(&x, "AAAA"), "malformed"),
        (with(r#""kid":""#, r#""kid":"x"#), "kid"),
        (with(r#""kty":"OKP""#, r#""kty":"RSA""#), "empty"),
        (with(r#""crv":"Ed25519""#, r#""crv":"X25519""#), "empty"),
    ] {
        let found = match KeySet::from_json(text.as_bytes()) {
            Ok(set) if set.iter().count() == 0 => "empty",
            Ok(_) => "keys",
            Err(KeySetError::Json(_)) => "json",
            Err(KeySetError::Malformed(_)) => "malformed",
            Err(KeySetError::Key { .. }) => "key",
            Err(KeySetError::WrongKeyId(_)) => "kid",
            Err(KeySetError::NotEd25519 | KeySetError::TooMany) => "other",
        };
        assert_eq!(found, wants, "{text}");
    }
}

#[test]
fn a_key_set_is_bounded() {
    let mut set = KeySet::default();
    for fill in 0..64 {
        set.insert(ed25519_key(fill).public_key().unwrap()).unwrap();
    }
    assert!(set.insert(ed25519_key(0).public_key().unwrap()).is_ok());
    assert_eq!(set.insert(ed25519_key(64).public_key().unwrap()), Err(KeySetError::TooMany));
}

#[test]
fn the_end_of_a_token_is_never_after_the_lease() {
    for (ends_ms, exp) in [(-1_000, 0), (0, 0), (998, 0), (999, 1), (1_000, 1), (1_999, 2)] {
        assert_eq!(offline::exp_seconds(ends_ms), exp, "{ends_ms}");
        assert!(exp as i64 * 1_000 <= (ends_ms + 1).max(0), "{ends_ms}");
    }
}

fn access_claims() -> DeploymentClaims {
    DeploymentClaims {
        iss: "5f0c".to_owned(),
        license_id: "lic-1".to_owned(),
        cluster_id: "bzzz-cluster-1b9d6bcd-walnut".to_owned(),
        token_version: 3,
        epoch: 1,
        iat: ISSUED,
        exp: ENDS,
    }
}

#[test]
fn access_tokens_are_of_one_cluster_server_and_epoch() {
    let text = token::sign(&ed25519_key(7), &access_claims()).unwrap();
    let good = token::Expect {
        now_ms: NOW_MS,
        issuer: "5f0c",
        epoch: 1,
        cluster_id: "bzzz-cluster-1b9d6bcd-walnut",
    };
    assert_eq!(token::verify(&text, &key_set(), &good), Ok(access_claims()));
    let ended = token::Expect { now_ms: ENDS as i64 * 1_000, ..good };
    for (expect, error) in [
        (ended, TokenError::Expired),
        (token::Expect { issuer: "5f0d", ..good }, TokenError::WrongIssuer),
        (token::Expect { epoch: 2, ..good }, TokenError::WrongEpoch { found: 1 }),
        (token::Expect { cluster_id: "other", ..good }, TokenError::WrongCluster),
    ] {
        assert_eq!(token::verify(&text, &key_set(), &expect), Err(error), "{expect:?}");
    }
    let offline = offline::sign(&ed25519_key(7), &claims()).unwrap();
    let error = token::verify(&offline, &key_set(), &good).unwrap_err();
    assert_eq!(error.code(), "wrong_type");
    assert!(matches!(
        offline::verify(&text, &key_set(), &Expect::at(NOW_MS)),
        Err(OfflineError::Jws(JwsError::WrongType { .. }))
    ));
    let none = KeySet::default();
    assert_eq!(token::verify(&text, &none, &good).unwrap_err().code(), "unknown_key");
}
