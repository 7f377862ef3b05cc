//! `offline_token.json`: offline tokens, the key set they verify under, and clocks set back.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::cloud::lease::LeaseType;
use protocol::deployment::token::TOKEN_TYPE as DEPLOYMENT_TYPE;
use protocol::fence::Fence;
use protocol::keys::PrivateKey;
use protocol::oauth::claims::key_id;
use protocol::offline::{
    self, Expect, HighWater, Holder, HolderKind, KeySet, OfflineClaims, Protocol, TOKEN_TYPE,
};
use protocol::secret::Secret;

use super::document::{Node, hex, list, object};

/// Of the key that signs, and of one that nobody published.
pub(super) const SEED: [u8; 32] = *b"leasehold test vector ed25519 v1";
const OTHER_SEED: [u8; 32] = *b"leasehold test vector stranger 1";
const ISSUED: u64 = 1_800_000_000;
const ENDS: u64 = ISSUED + 14_400;
const NOW_MS: i64 = (ISSUED as i64 + 60) * 1_000;
const HOST: &str = "dev-workstation-042";

pub(super) fn key(seed: [u8; 32]) -> PrivateKey {
    PrivateKey::ed25519(&Secret::new(seed))
}

pub(super) fn key_set() -> KeySet {
    KeySet::of(key(SEED).public_key().unwrap()).unwrap()
}

/// The text that `/.well-known/leasehold-offline-keys.json` answers with.
pub(super) fn key_set_text() -> String {
    serde_json::to_string(&key_set().to_jwks()).unwrap()
}

/// A token of any header and claims, signed by the published key.
pub(super) fn forged(header: &str, claims: &str) -> String {
    let front = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key(SEED).sign(front.as_bytes()).unwrap();
    format!("{front}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(super) fn header(alg: &str, typ: &str) -> String {
    let kid = key_id(&key(SEED).public_key().unwrap());
    format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"{typ}"}}"#)
}

fn borrowed() -> OfflineClaims {
    OfflineClaims {
        iss: "5f0c1d2e3b4a59687786a5b4c3d2e1f0".to_owned(),
        jti: "n1-0000000000000001".to_owned(),
        license_id: "vec-davinci-se-bmw-2025-001".to_owned(),
        product: "davinci-configurator-se".to_owned(),
        protocol: Protocol::Cloud,
        lease_id: "lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga".to_owned(),
        holder: Holder::of(HolderKind::Host, HOST),
        user_hash: Some(offline::user_hash("alice@bmw.com")),
        features: vec!["can_editor".to_owned(), "flash_tool".to_owned()],
        quantity: 1,
        class: Some(LeaseType::Commit),
        max_nodes: None,
        cluster_id: None,
        fence: Fence { epoch: 1, index: 42, position: 0, incarnation: 0x9f3c_5d7e_11a0_b2c4 },
        epoch: 1,
        token_version: 3,
        iat: ISSUED,
        exp: ENDS,
        borrowed: true,
        skew_seconds: 600,
    }
}

fn of_cluster() -> OfflineClaims {
    let cluster_id = "bzzz-cluster-1b9d6bcd-walnut";
    OfflineClaims {
        jti: "n1-0000000000000002".to_owned(),
        protocol: Protocol::Deployment,
        holder: Holder::of(HolderKind::Cluster, cluster_id),
        user_hash: None,
        class: None,
        max_nodes: Some(10),
        cluster_id: Some(cluster_id.to_owned()),
        borrowed: false,
        ..borrowed()
    }
}

/// What a reader expects beside the time.
#[derive(Clone, Copy, Default)]
struct Wanted {
    issued_leeway_ms: Option<i64>,
    issuer: Option<&'static str>,
    epoch: Option<u32>,
    product: Option<&'static str>,
    holder: Option<(HolderKind, &'static str)>,
}

fn case(name: &str, token: &str, now_ms: i64, wanted: Wanted, verdict: &str) -> Node {
    let holder = wanted.holder.map(|(kind, name)| Holder::of(kind, name));
    let expect = Expect {
        issued_leeway_ms: wanted.issued_leeway_ms,
        issuer: wanted.issuer,
        epoch: wanted.epoch,
        product: wanted.product,
        holder: holder.as_ref(),
        ..Expect::at(now_ms)
    };
    let found = offline::verify(token, &key_set(), &expect);
    assert_eq!(found.as_ref().map_or_else(|error| error.code(), |_| "ok"), verdict, "{name}");
    object! {
        name: name,
        token: token,
        now_ms: now_ms,
        issued_leeway_ms: wanted.issued_leeway_ms,
        issuer: wanted.issuer,
        epoch: wanted.epoch,
        product: wanted.product,
        holder: wanted.holder.map(|(kind, name)| object! { kind: kind.name(), name: name }),
        verdict: verdict,
    }
}

fn what_is_expected() -> Vec<Node> {
    let token = offline::sign(&key(SEED), &borrowed()).unwrap();
    let exact = Wanted {
        issued_leeway_ms: None,
        issuer: Some("5f0c1d2e3b4a59687786a5b4c3d2e1f0"),
        epoch: Some(1),
        product: Some("davinci-configurator-se"),
        holder: Some((HolderKind::Host, HOST)),
    };
    let none = Wanted::default();
    let strict = Wanted { issued_leeway_ms: Some(0), ..none };
    let (begin_ms, end_ms) = (ISSUED as i64 * 1_000, ENDS as i64 * 1_000);
    let other_host = Some((HolderKind::Host, "dev-workstation-043"));
    let other_kind = Some((HolderKind::Fingerprint, HOST));
    let other_cluster = Some("00000000000000000000000000000000");
    [
        ("valid", NOW_MS, none, "ok"),
        ("valid, and everything as expected", NOW_MS, exact, "ok"),
        ("the last millisecond", end_ms - 1, exact, "ok"),
        ("the end itself", end_ms, exact, "expired"),
        ("a clock five hours ahead", NOW_MS + 5 * 3_600_000, exact, "expired"),
        (
            "the end has no leeway",
            end_ms,
            Wanted { issued_leeway_ms: Some(600_000), ..exact },
            "expired",
        ),
        ("as early as the token's own leeway allows", begin_ms - 600_000, exact, "ok"),
        ("earlier than that", begin_ms - 600_001, exact, "not_yet_valid"),
        ("a clock seven hours behind", NOW_MS - 7 * 3_600_000, exact, "not_yet_valid"),
        ("no leeway, the first millisecond", begin_ms, strict, "ok"),
        ("no leeway, one before", begin_ms - 1, strict, "not_yet_valid"),
        ("another cluster", NOW_MS, Wanted { issuer: other_cluster, ..exact }, "wrong_cluster"),
        ("another epoch", NOW_MS, Wanted { epoch: Some(2), ..exact }, "wrong_epoch"),
        ("another product", NOW_MS, Wanted { product: Some("other"), ..exact }, "wrong_product"),
        ("another host", NOW_MS, Wanted { holder: other_host, ..exact }, "wrong_holder"),
        ("a device of that name", NOW_MS, Wanted { holder: other_kind, ..exact }, "wrong_holder"),
    ]
    .map(|(name, now_ms, wanted, verdict)| case(name, &token, now_ms, wanted, verdict))
    .to_vec()
}

fn what_is_a_token() -> Vec<Node> {
    let good = offline::sign(&key(SEED), &borrowed()).unwrap();
    let json = serde_json::to_string(&borrowed()).unwrap();
    let stranger = offline::sign(&key(OTHER_SEED), &borrowed()).unwrap();
    let (front, signature) = good.rsplit_once('.').unwrap();
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[0] ^= 1;
    let flipped = format!("{front}.{}", URL_SAFE_NO_PAD.encode(flipped));
    let right = header("EdDSA", TOKEN_TYPE);
    let longer = right.replace('}', r#","crit":["exp"]}"#);
    let twice = json.replacen('{', r#"{"quantity":100,"#, 1);
    let large = json.replace(r#""quantity":1,"#, r#""quantity":9007199254740993,"#);
    let later = json.replacen('{', r#"{"x_later":[1],"#, 1);
    let other = offline::sign(&key(SEED), &of_cluster()).unwrap();
    let (header_part, claims_part) = front.split_once('.').unwrap();
    let (_, other_front) = other.split_once('.').unwrap();
    [
        ("of a cluster of machines", other.clone(), "ok"),
        ("a claim of a later release", forged(&right, &later), "ok"),
        (
            "an access token in its place",
            forged(&header("EdDSA", DEPLOYMENT_TYPE), &json),
            "wrong_type",
        ),
        ("a plain JWT", forged(&header("EdDSA", "JWT"), &json), "wrong_type"),
        ("algorithm none", forged(&header("none", TOKEN_TYPE), &json), "wrong_algorithm"),
        ("algorithm HS256", forged(&header("HS256", TOKEN_TYPE), &json), "wrong_algorithm"),
        ("a key that is not published", stranger, "unknown_key"),
        ("one bit of the signature", flipped, "bad_signature"),
        (
            "the claims of another token",
            format!("{header_part}.{other_front}")
                .rsplit_once('.')
                .map(|(front, _)| format!("{front}.{signature}"))
                .unwrap(),
            "bad_signature",
        ),
        ("no signature", format!("{front}."), "bad_signature"),
        ("two parts", front.to_owned(), "malformed"),
        ("four parts", format!("{good}.{claims_part}"), "malformed"),
        ("padding", format!("{good}=="), "malformed"),
        ("a space after it", format!("{good} "), "malformed"),
        ("another header member", forged(&longer, &json), "malformed"),
        ("a claim twice", forged(&right, &twice), "malformed"),
        ("a number above 2^53-1", forged(&right, &large), "malformed"),
        ("no claims", forged(&right, "{}"), "malformed"),
        ("longer than 8 KiB", "e".repeat(offline::MAX_TOKEN_BYTES + 1), "malformed"),
        ("nothing", String::new(), "malformed"),
    ]
    .map(|(name, token, verdict)| case(name, &token, NOW_MS, Wanted::default(), verdict))
    .to_vec()
}

fn key_sets() -> Vec<Node> {
    let good = key_set_text();
    let kid = key_id(&key(SEED).public_key().unwrap());
    let other_kid = key_id(&key(OTHER_SEED).public_key().unwrap());
    let rsa = good.replace(r#"{"keys":["#, r#"{"keys":[{"kty":"RSA","kid":"r","n":"AQAB"},"#);
    let point = URL_SAFE_NO_PAD.encode(&key(SEED).public_key().unwrap().spki_der()[12..]);
    let weak = good.replace(&point, &URL_SAFE_NO_PAD.encode([0_u8; 32]));
    assert_ne!(weak, good);
    [
        ("one key", good.clone(), Some(vec![kid.clone()])),
        ("no key", r#"{"keys":[]}"#.to_owned(), Some(Vec::new())),
        ("a key of another kind is passed over", rsa, Some(vec![kid.clone()])),
        ("a key id that is not the thumbprint", good.replace(&kid, &other_kid), None),
        ("a key of small order", weak, None),
        ("another algorithm", good.replace("EdDSA", "ES256"), None),
        ("for encryption", good.replace(r#""sig""#, r#""enc""#), None),
        ("the list twice", good.replacen('{', r#"{"keys":[],"#, 1), None),
        ("cut off", good[..good.len() - 1].to_owned(), None),
    ]
    .map(|(name, document, key_ids)| {
        let found = KeySet::from_json(document.as_bytes()).ok();
        let found: Option<Vec<String>> =
            found.map(|set| set.iter().map(|(kid, _)| kid.to_owned()).collect());
        assert_eq!(found, key_ids, "{name}");
        object! { name: name, document: document, key_ids: key_ids.map(list) }
    })
    .to_vec()
}

/// What a clock that goes back is taken for: the steps of one program's life, in order.
fn high_water() -> Vec<Node> {
    let mut mark = HighWater::default();
    [
        ("observe", NOW_MS),
        ("observe", NOW_MS - 60_000),
        ("observe", NOW_MS - 60_001),
        ("learn", NOW_MS + 3_600_000),
        ("observe", NOW_MS + 60_000),
        ("learn", NOW_MS),
        ("observe", NOW_MS + 3_540_000),
        ("observe", NOW_MS + 3_600_001),
    ]
    .map(|(step, time_ms)| {
        let judged_by_ms = if step == "learn" {
            mark.learn(time_ms);
            None
        } else {
            mark.observe(time_ms, TOLERANCE_MS).ok()
        };
        object! {
            step: step,
            time_ms: time_ms,
            judged_by_ms: judged_by_ms,
            highest_ms: mark.highest_ms(),
        }
    })
    .to_vec()
}

const TOLERANCE_MS: i64 = 60_000;

pub(super) fn make() -> Node {
    let holders = [
        (HolderKind::Host, HOST),
        (HolderKind::Fingerprint, super::device::FINGERPRINT),
        (HolderKind::Cluster, "bzzz-cluster-1b9d6bcd-walnut"),
        (HolderKind::Host, "büro-01"),
    ]
    .map(|(kind, name)| {
        object! { kind: kind.name(), name: name, hash: Holder::of(kind, name).hash }
    });
    let claims = |claims: &OfflineClaims| serde_json::to_string(claims).unwrap();
    let token = |claims: &OfflineClaims| offline::sign(&key(SEED), claims).unwrap();
    let signed = [("borrowed by a host", borrowed()), ("of a cluster of machines", of_cluster())]
        .map(|(name, of)| object! { name: name, claims: claims(&of), token: token(&of) });
    super::file(
        "Offline tokens: compact JWS with Ed25519. Verdicts are `ok` or the code of the refusal.",
        &["design, section 8", "RFC 7515", "RFC 8037", "RFC 7638"],
        vec![
            ("signing_seed_hex", hex(&SEED).into()),
            ("key_set", key_set_text().into()),
            ("tokens", list(signed)),
            ("holder_hashes", list(holders)),
            (
                "user_hash",
                object! {
                    user: "alice@bmw.com", hash: offline::user_hash("alice@bmw.com"),
                },
            ),
            ("verify", Node::List([what_is_expected(), what_is_a_token()].concat())),
            ("key_sets", Node::List(key_sets())),
            ("high_water_tolerance_ms", TOLERANCE_MS.into()),
            ("high_water", Node::List(high_water())),
        ],
    )
}
