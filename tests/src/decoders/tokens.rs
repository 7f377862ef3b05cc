//! Ids and tokens of leases, offline and access tokens, key sets.

use anyhow::{Result, ensure};
use protocol::fence::Fence;
use protocol::lease_id;
use protocol::oauth::Scopes;
use protocol::oauth::claims::{AccessClaims, Jwks};
use protocol::offline::{
    self, Expect, Holder, HolderKind, KeySet, OfflineClaims, Protocol, holder_hash,
};
use protocol::renewal::{self, Renewal};

use super::bodies::body;
use super::{Decoder, Family, Origin, Verdict, samples};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    Ok(vec![
        lease_ids(),
        renewal_tokens(),
        fences(),
        scopes(),
        offline_token()?,
        offline_inspection()?,
        offline_key_set()?,
        body::<AccessClaims>("access-claims", Family::Tokens, &[ACCESS_CLAIMS]),
        body::<Jwks>("jwks", Family::Tokens, &[&serde_json::to_string(&key_set()?.to_jwks())?]),
    ])
}

fn lease_ids() -> Decoder {
    let key = samples::mac_key();
    let examples =
        samples::lease_keys().map(|lease| lease_id::encode(&key, lease).into_bytes()).to_vec();
    let check = move |bytes: &[u8], origin| {
        let key = samples::mac_key();
        let text = String::from_utf8_lossy(bytes);
        let Ok(lease) = lease_id::decode(&key, &text) else { return Ok(Verdict::Refused) };
        ensure!(lease_id::encode(&key, lease) == text, "one lease has two texts");
        let known = origin == Origin::Mended || samples::lease_keys().contains(&lease);
        ensure!(known, "an id of ours that nobody made");
        Ok(Verdict::Accepted)
    };
    Decoder::new("lease-id", Family::Tokens, examples, check).mended_by(|bytes| {
        // Whatever the text holds, as the random part of an id with a right MAC.
        let mut lease = samples::lease_keys()[0];
        let length = bytes.len().min(lease.random.len());
        lease.random[..length].copy_from_slice(&bytes[bytes.len() - length..]);
        lease.group = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        Some(lease_id::encode(&samples::mac_key(), lease).into_bytes())
    })
}

fn renewal_tokens() -> Decoder {
    let made = || {
        let key = samples::mac_key();
        let sequences = [0, 1, u32::MAX];
        let pairs = samples::lease_keys().into_iter().zip(sequences);
        pairs
            .map(|(lease, sequence)| {
                let renewal = Renewal { lease, sequence };
                (renewal, renewal::encode(&key, EPOCH, renewal))
            })
            .collect::<Vec<_>>()
    };
    let examples = made().into_iter().map(|(_, text)| text.into_bytes()).collect();
    let check = move |bytes: &[u8], origin| {
        let key = samples::mac_key();
        let text = String::from_utf8_lossy(bytes);
        let foreign = renewal::decode(&key, EPOCH + 1, &text);
        ensure!(foreign.is_err(), "a token of another epoch");
        let Ok(renewal) = renewal::decode(&key, EPOCH, &text) else {
            return Ok(Verdict::Refused);
        };
        ensure!(renewal::encode(&key, EPOCH, renewal) == text, "one renewal has two texts");
        let known = origin == Origin::Mended || made().iter().any(|(known, _)| *known == renewal);
        ensure!(known, "a token of ours that nobody made");
        Ok(Verdict::Accepted)
    };
    Decoder::new("renewal-token", Family::Tokens, examples, check).mended_by(|bytes| {
        let lease = samples::lease_keys()[bytes.len() % 3];
        let sequence = bytes.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        let renewal = Renewal { lease, sequence };
        Some(renewal::encode(&samples::mac_key(), EPOCH, renewal).into_bytes())
    })
}

fn fences() -> Decoder {
    let texts = [
        "00000001-000000000000002a-0000-9f3c5d7e11a0b2c4",
        "ffffffff-ffffffffffffffff-ffff-ffffffffffffffff",
    ];
    let examples = texts.map(|text| text.as_bytes().to_vec()).to_vec();
    Decoder::new("fence", Family::Tokens, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(fence) = text.parse::<Fence>() else { return Ok(Verdict::Refused) };
        ensure!(fence.to_string() == text, "one fence has two texts");
        Ok(Verdict::Accepted)
    })
}

fn scopes() -> Decoder {
    let every = Scopes::of(&protocol::oauth::Scope::ALL).to_string();
    let first = every.split(' ').next().unwrap_or_default().to_owned();
    let examples = vec![every.into_bytes(), first.into_bytes()];
    Decoder::new("scopes", Family::Tokens, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(scopes) = Scopes::parse(&text) else { return Ok(Verdict::Refused) };
        ensure!(Scopes::parse(&scopes.to_string()) == Ok(scopes), "scopes read back differently");
        Ok(Verdict::Accepted)
    })
}

fn key_set() -> Result<KeySet> {
    Ok(KeySet::of(samples::ed25519().public_key()?)?)
}

fn claims() -> Result<[OfflineClaims; 2]> {
    let now_seconds = u64::try_from(samples::NOW_MS / 1_000)?;
    let first = OfflineClaims {
        iss: "cluster-a".to_owned(),
        jti: "t-0001".to_owned(),
        license_id: "vec-davinci-se-bmw-2025-001".to_owned(),
        product: "davinci-configurator-se".to_owned(),
        protocol: Protocol::Cloud,
        lease_id: lease_id::encode(&samples::mac_key(), samples::lease_keys()[1]),
        holder: Holder::of(HolderKind::Host, "dev-workstation-042"),
        user_hash: Some(offline::user_hash("alice@bmw.com")),
        features: vec!["can".to_owned(), "lin".to_owned()],
        quantity: 1,
        class: None,
        max_nodes: None,
        cluster_id: None,
        fence: Fence { epoch: 1, index: 42, position: 0, incarnation: 7 },
        epoch: 1,
        token_version: 1,
        iat: now_seconds - 60,
        exp: now_seconds + 3_600,
        borrowed: true,
        skew_seconds: 600,
    };
    let second = OfflineClaims {
        protocol: Protocol::Deployment,
        holder: Holder {
            kind: HolderKind::Cluster,
            hash: holder_hash(HolderKind::Cluster, "bzzz"),
        },
        user_hash: None,
        max_nodes: Some(3),
        cluster_id: Some("bzzz".to_owned()),
        ..first.clone()
    };
    Ok([first, second])
}

fn tokens() -> Result<Vec<Vec<u8>>> {
    let key = samples::ed25519();
    claims()?.iter().map(|claims| Ok(offline::sign(&key, claims)?.into_bytes())).collect()
}

fn offline_token() -> Result<Decoder> {
    let (keys, known) = (key_set()?, claims()?);
    let check = move |bytes: &[u8], origin| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(claims) = offline::verify(&text, &keys, &Expect::at(samples::NOW_MS)) else {
            return Ok(Verdict::Refused);
        };
        let inspected = offline::inspect(&text)?;
        ensure!(inspected.claims == claims, "looking and verifying see two tokens");
        if origin == Origin::AsFound {
            ensure!(known.contains(&claims), "believed though nobody signed it: {claims:?}");
        }
        let again = offline::sign(&samples::ed25519(), &claims)?;
        let again = offline::verify(&again, &keys, &Expect::at(samples::NOW_MS))?;
        ensure!(again == claims, "signed again it says something else");
        Ok(Verdict::Accepted)
    };
    Ok(Decoder::new("offline-token", Family::Tokens, tokens()?, check)
        .mended_by(samples::signed_again))
}

fn offline_inspection() -> Result<Decoder> {
    Ok(Decoder::new("offline-token-unverified", Family::Tokens, tokens()?, |bytes, _| {
        Ok(Verdict::of(&offline::inspect(&String::from_utf8_lossy(bytes))))
    }))
}

fn offline_key_set() -> Result<Decoder> {
    let mut jwks = key_set()?.to_jwks();
    let one = serde_json::to_vec(&jwks)?;
    jwks.keys.push(protocol::oauth::claims::Jwk::of(&samples::rsa()?.public_key()?));
    let examples = vec![one, serde_json::to_vec(&jwks)?];
    let own = key_set()?;
    let check = move |bytes: &[u8], _| {
        let Ok(keys) = KeySet::from_json(bytes) else { return Ok(Verdict::Refused) };
        let again = KeySet::from_json(&serde_json::to_vec(&keys.to_jwks())?)?;
        ensure!(again == keys, "published again it is another set");
        // Every key passed the gate under its own thumbprint: only ours can be under ours.
        for (kid, key) in own.iter() {
            ensure!(keys.get(kid).is_none_or(|found| found == key), "another key under our id");
        }
        Ok(Verdict::Accepted)
    };
    Ok(Decoder::new("offline-key-set", Family::Tokens, examples, check))
}

const EPOCH: u32 = 3;
const ACCESS_CLAIMS: &str = r#"{"iss":"https://127.0.0.1:7401","sub":"client-1","aud":"cluster-a",
    "iat":1795300000,"exp":1795303600,"jti":"j-1","client_id":"client-1",
    "scope":"license:checkout license:read","app_id":"app-0000000000000001",
    "secret_generation":1,"cluster_id":"cluster-a","epoch":1}"#;
