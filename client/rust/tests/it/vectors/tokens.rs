//! Offline tokens with their key sets and clocks, and the access tokens of `deployment`.

use data_encoding::BASE64URL_NOPAD;
use protocol::deployment::token::{self, DeploymentClaims};
use protocol::keys::PrivateKey;
use protocol::offline::{
    self, Expect, HighWater, Holder, HolderKind, KeySet, OfflineClaims, user_hash,
};
use protocol::secret::Secret;
use serde_json::Value;

use super::{
    array, every_change_is_refused, every_change_of_text_is_refused, number, optional, rows, text,
    vector,
};

fn key_set(file: &Value) -> KeySet {
    KeySet::from_json(text(file, "key_set").as_bytes()).unwrap()
}

fn signing_key(file: &Value) -> PrivateKey {
    let key = PrivateKey::ed25519(&Secret::new(array(file, "signing_seed_hex")));
    assert_eq!(KeySet::of(key.public_key().unwrap()).unwrap(), key_set(file));
    key
}

fn kind(name: &str) -> HolderKind {
    [HolderKind::Host, HolderKind::Fingerprint, HolderKind::Cluster]
        .into_iter()
        .find(|kind| kind.name() == name)
        .unwrap_or_else(|| panic!("no holder is a {name}"))
}

/// Every byte of a token's text, then every byte of what its three parts stand for.
fn a_changed_token_is_refused(name: &str, token: &str, accepts: impl Fn(&str) -> bool + Sync) {
    every_change_of_text_is_refused(name, token, &accepts);
    let parts: Vec<&str> = token.split('.').collect();
    for (at, part) in ["header", "claims", "signature"].into_iter().enumerate() {
        let good = BASE64URL_NOPAD.decode(parts[at].as_bytes()).unwrap();
        every_change_is_refused(&format!("{name}, {part}"), &good, |changed| {
            let changed = BASE64URL_NOPAD.encode(changed);
            let mut parts = parts.clone();
            parts[at] = &changed;
            accepts(&parts.join("."))
        });
    }
}

#[test]
fn offline_tokens_are_believed_as_they_are_and_in_no_other_form() {
    let file = vector("offline_token.json");
    let keys = key_set(&file);
    for row in rows(&file, "tokens") {
        let (name, token) = (text(row, "name"), text(row, "token"));
        let claims: OfflineClaims = serde_json::from_str(text(row, "claims")).unwrap();
        let issued_ms = i64::try_from(claims.iat).unwrap() * 1_000;
        let verify = |token: &str| offline::verify(token, &keys, &Expect::at(issued_ms));
        assert_eq!(verify(token).as_ref(), Ok(&claims), "{name}");
        assert_eq!(offline::sign(&signing_key(&file), &claims).unwrap(), token, "{name}");
        a_changed_token_is_refused(name, token, |token| verify(token).is_ok());
    }
}

#[test]
fn offline_tokens_get_their_verdicts() {
    let file = vector("offline_token.json");
    for row in rows(&file, "verify") {
        let holder = row["holder"]
            .is_object()
            .then(|| Holder::of(kind(text(&row["holder"], "kind")), text(&row["holder"], "name")));
        let expect = Expect {
            now_ms: number(row, "now_ms"),
            issued_leeway_ms: row["issued_leeway_ms"].as_i64(),
            issuer: optional(row, "issuer"),
            epoch: row["epoch"].as_u64().map(|epoch| u32::try_from(epoch).unwrap()),
            product: optional(row, "product"),
            holder: holder.as_ref(),
        };
        let found = offline::verify(text(row, "token"), &key_set(&file), &expect);
        let verdict = found.as_ref().map_or_else(|error| error.code(), |_| "ok");
        assert_eq!(verdict, text(row, "verdict"), "{}", text(row, "name"));
    }
}

#[test]
fn holders_key_sets_and_clocks_are_judged_alike() {
    let file = vector("offline_token.json");
    for row in rows(&file, "holder_hashes") {
        let holder = Holder::of(kind(text(row, "kind")), text(row, "name"));
        assert_eq!(holder.hash, text(row, "hash"), "{row}");
    }
    let user = &file["user_hash"];
    assert_eq!(user_hash(text(user, "user")), text(user, "hash"));
    for row in rows(&file, "key_sets") {
        let found = KeySet::from_json(text(row, "document").as_bytes()).ok();
        let key_ids: Option<Value> =
            found.map(|set| set.iter().map(|(kid, _)| Value::from(kid)).collect());
        assert_eq!(key_ids.unwrap_or_default(), row["key_ids"], "{}", text(row, "name"));
    }
    let mut mark = HighWater::default();
    for row in rows(&file, "high_water") {
        let time_ms = number(row, "time_ms");
        let judged_by_ms = match text(row, "step") {
            "learn" => {
                mark.learn(time_ms);
                None
            }
            _ => mark.observe(time_ms, number(&file, "high_water_tolerance_ms")).ok(),
        };
        assert_eq!(judged_by_ms, row["judged_by_ms"].as_i64(), "{row}");
        assert_eq!(mark.highest_ms(), number(row, "highest_ms"), "{row}");
    }
}

#[test]
fn access_tokens_get_their_verdicts_and_are_believed_in_no_other_form() {
    let file = vector("deployment_access_token.json");
    let keys = key_set(&file);
    let verify = |token: &str, row: &Value| {
        let expect = token::Expect {
            now_ms: number(row, "now_ms"),
            issuer: text(row, "issuer"),
            epoch: u32::try_from(number(row, "epoch")).unwrap(),
            cluster_id: text(row, "cluster_id"),
        };
        token::verify(token, &keys, &expect)
    };
    for row in rows(&file, "verify") {
        let found = verify(text(row, "token"), row);
        let verdict = found.as_ref().map_or_else(|error| error.code(), |_| "ok");
        assert_eq!(verdict, text(row, "verdict"), "{}", text(row, "name"));
    }
    let token = text(&file, "token");
    let claims: DeploymentClaims = serde_json::from_str(text(&file, "claims")).unwrap();
    let good = &rows(&file, "verify")[0];
    assert_eq!(verify(token, good).as_ref(), Ok(&claims));
    assert_eq!(token::sign(&signing_key(&file), &claims).unwrap(), token);
    a_changed_token_is_refused("access token", token, |token| verify(token, good).is_ok());
}
