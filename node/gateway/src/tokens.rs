//! Access tokens: verified once, then remembered by their hash.
//!
//! The key is looked up in the ledger by the token's `kid`, and the key alone decides the
//! algorithm. Issuer, audience, cluster and epoch must be ours; whether the token has expired is
//! judged by the cluster's civil clock and never by the machine's. What a token proves is cached
//! under its SHA-256 until it expires; whether its app and the app's secret are still current is
//! asked of the ledger on every call, so that a rotated secret ends all its tokens at once.

use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::{DecodingKey, Validation};
use lease::Ledger;
use lease::command::{SigningAlgorithm, SigningKey};
use lease::ids::{AppId, Name};
use parking_lot::Mutex;
use protocol::keys::{PublicKey, PublicNumbers};
use protocol::oauth::Scopes;
use protocol::oauth::claims::{AccessClaims, TOKEN_TYPE};
use sha2::{Digest, Sha256};

/// What a token proves, whoever presents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The app.
    pub(crate) app: AppId,
    /// Under which generation of the app's secret it was given.
    pub(crate) generation: u32,
    /// What it allows.
    pub(crate) scopes: Scopes,
    /// Last civil second at which it lives, exclusive.
    pub(crate) expires_s: u64,
    /// Epoch of the cluster that gave it.
    pub(crate) epoch: u32,
    /// The key that signed it.
    pub(crate) kid: Name,
    /// SHA-256 of the certificate that it is bound to.
    pub(crate) certificate: Option<[u8; 32]>,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenRefusal {
    /// Its key is not in the ledger as this node has applied it: look again after a read barrier.
    UnknownKey,
    /// Anything else; asking again changes nothing.
    Invalid,
}

/// Names an app in tokens, answers and idempotency scopes: `app-` and 16 hex digits.
pub(crate) fn app_id_text(app: AppId) -> String {
    format!("app-{:016x}", app.0)
}

/// Reads an app id's one spelling.
pub(crate) fn parse_app_id(text: &str) -> Option<AppId> {
    let digits = text.strip_prefix("app-")?;
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (digits.len() == 16 && digits.bytes().all(lower_hex))
        .then(|| u64::from_str_radix(digits, 16).ok().map(AppId))
        .flatten()
}

/// Verifies a token from scratch against the ledger's keys.
pub(crate) fn verify(
    ledger: &Ledger,
    token: &str,
    now_civil_ms: i64,
) -> Result<Verified, TokenRefusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenRefusal::Invalid);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenRefusal::Invalid)?;
    if header.typ.as_deref() != Some(TOKEN_TYPE) {
        return Err(TokenRefusal::Invalid);
    }
    let kid = header.kid.as_deref().ok_or(TokenRefusal::Invalid)?;
    let key = ledger.signing_key(kid).ok_or(TokenRefusal::UnknownKey)?;
    if !still_verifies(ledger, kid, now_civil_ms) {
        return Err(TokenRefusal::Invalid);
    }
    let cluster = ledger.cluster().ok_or(TokenRefusal::Invalid)?;
    let claims = read_claims(key, token, &cluster.cluster_id)?;
    // A removed node's keys verify for a while without its row.
    let issuer = ledger.member(key.node).map(|member| &*member.gateway_url);
    let ours = issuer.is_none_or(|issuer| issuer == claims.iss)
        && *claims.cluster_id == *cluster.cluster_id
        && claims.epoch == cluster.epoch
        && claims.sub == claims.client_id;
    let app = parse_app_id(&claims.app_id).ok_or(TokenRefusal::Invalid)?;
    if !ours || !claims.is_alive(civil_seconds(now_civil_ms)) {
        return Err(TokenRefusal::Invalid);
    }
    let certificate = match &claims.cnf {
        Some(bound) => Some(bound.certificate().ok_or(TokenRefusal::Invalid)?),
        None => None,
    };
    Ok(Verified {
        app,
        generation: claims.secret_generation,
        scopes: claims.scope,
        expires_s: claims.exp,
        epoch: claims.epoch,
        kid: key.kid.clone(),
        certificate,
    })
}

/// Whether a key of the ledger still verifies: it signs, or was retired within the life of a token.
pub(crate) fn still_verifies(ledger: &Ledger, kid: &str, now_civil_ms: i64) -> bool {
    ledger.signing_key(kid).is_some()
        && ledger.retired_key(kid).is_none_or(|retired| now_civil_ms <= retired.verifies_until_ms)
}

/// Checks the signature under the key's own algorithm, and the audience.
fn read_claims(
    key: &SigningKey,
    token: &str,
    audience: &str,
) -> Result<AccessClaims, TokenRefusal> {
    let invalid = |_| TokenRefusal::Invalid;
    let public = PublicKey::from_spki_der(&key.public_der).map_err(|_| TokenRefusal::Invalid)?;
    let (algorithm, decoding_key) = match (key.algorithm, public.numbers()) {
        (SigningAlgorithm::Rs256, PublicNumbers::Rsa { n, e }) => {
            (jsonwebtoken::Algorithm::RS256, DecodingKey::from_rsa_raw_components(n, e))
        }
        (SigningAlgorithm::EdDsa, PublicNumbers::Ed25519(point)) => {
            (jsonwebtoken::Algorithm::EdDSA, DecodingKey::from_ed_der(point))
        }
        _ => return Err(TokenRefusal::Invalid),
    };
    let mut validation = Validation::new(algorithm);
    // The library would compare with the machine's wall clock; `verify` uses the civil clock.
    validation.validate_exp = false;
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.set_audience(&[audience]);
    let data = jsonwebtoken::decode::<AccessClaims>(token, &decoding_key, &validation);
    Ok(data.map_err(invalid)?.claims)
}

/// Civil milliseconds as the seconds that tokens count in; nothing before 1970 is alive.
pub(crate) fn civil_seconds(civil_ms: i64) -> u64 {
    u64::try_from(civil_ms.div_euclid(1_000)).unwrap_or(u64::MAX)
}

/// The hash under which a token is remembered; the token itself is not kept.
pub(crate) type TokenHash = [u8; 32];

/// The hash of a token.
pub(crate) fn hash_of(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// Verified tokens by hash, bounded. Sharded, so that two cores seldom wait for each other.
pub(crate) struct TokenCache {
    shards: Vec<Mutex<HashMap<TokenHash, Arc<Verified>>>>,
    per_shard: usize,
}

impl TokenCache {
    /// A cache of about `capacity` tokens.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            per_shard: (capacity / SHARDS).max(1),
        }
    }

    /// What is known of a token that still lives at `now_s` (civil seconds).
    pub(crate) fn get(&self, hash: &TokenHash, now_s: u64) -> Option<Arc<Verified>> {
        let mut shard = self.shard(hash).lock();
        match shard.get(hash) {
            Some(verified) if now_s < verified.expires_s => Some(Arc::clone(verified)),
            Some(_) => {
                shard.remove(hash);
                None
            }
            None => None,
        }
    }

    /// Remembers a token. A full shard first loses its dead, then everything: tokens are asked for
    /// once an hour, so a shard fills only when somebody asks for far too many.
    pub(crate) fn put(&self, hash: TokenHash, verified: Arc<Verified>, now_s: u64) {
        let mut shard = self.shard(&hash).lock();
        if shard.len() >= self.per_shard {
            shard.retain(|_, verified| now_s < verified.expires_s);
            if shard.len() >= self.per_shard {
                shard.clear();
            }
        }
        shard.insert(hash, verified);
    }

    /// Forgets a token that is no longer good.
    pub(crate) fn remove(&self, hash: &TokenHash) {
        self.shard(hash).lock().remove(hash);
    }

    fn shard(&self, hash: &TokenHash) -> &Mutex<HashMap<TokenHash, Arc<Verified>>> {
        &self.shards[usize::from(hash[0]) % SHARDS]
    }
}

const SHARDS: usize = 16;
/// Ours are about 900 bytes.
const MAX_TOKEN_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use lease::command::{Command, InitCluster, Member};
    use lease::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
    use lease::ids::TraceId;
    use protocol::oauth::claims::Confirmation;

    use super::*;
    use crate::signer::TokenSigner;

    const NOW_S: u64 = 1_800_000_000;

    /// A founded ledger that knows node 1 and its key.
    fn ledger(signer: &TokenSigner) -> Ledger {
        let init = Command::InitCluster(InitCluster {
            cluster_id: "lh-ours".into(),
            client_id: "bmw-de-001".into(),
            org_domain: "bmw.com".into(),
            epoch: 1,
            incarnation: 0,
        });
        let member = Command::PutMember(Member {
            node: 1,
            peer_address: "localhost:7411".into(),
            gateway_url: "https://localhost:7401".into(),
            region: "".into(),
            zone: "".into(),
            directory_incarnation: 1,
            kek_public: [0; 32],
        });
        let mut ledger = Ledger::new();
        let commands = [init, member, Command::PublishSigningKey(signer.signing_key(1))];
        for (index, command) in (1..).zip(commands) {
            let epoch = u32::from(index > 1);
            let stamp = Stamp { led_ms: 1, civil_ms: 1 };
            let header = EntryHeader { group: 0, epoch, incarnation: 0, stamp, origin: 1 };
            let envelope = Envelope {
                actor: Actor::Node(1),
                request: None,
                trace: TraceId(1),
                cause: None,
                command,
            };
            ledger.apply_entry(index, &Entry { header, commands: vec![envelope] }).unwrap();
        }
        assert!(ledger.signing_key(&signer.kid()).is_some());
        ledger
    }

    fn claims() -> AccessClaims {
        AccessClaims {
            iss: "https://localhost:7401".to_owned(),
            sub: "client".to_owned(),
            aud: "lh-ours".to_owned(),
            iat: NOW_S - 10,
            exp: NOW_S + 3_590,
            jti: "j".to_owned(),
            client_id: "client".to_owned(),
            scope: Scopes::ALL,
            app_id: app_id_text(AppId(5)),
            secret_generation: 2,
            cluster_id: "lh-ours".to_owned(),
            epoch: 1,
            cnf: None,
        }
    }

    #[test]
    fn only_a_living_token_of_this_cluster_and_epoch_proves_anything() {
        let signer = TokenSigner::generate().unwrap();
        let stranger = TokenSigner::generate().unwrap();
        let ledger = ledger(&signer);
        let now_ms = i64::try_from(NOW_S).unwrap() * 1_000;
        let check = |signer: &TokenSigner, claims: &AccessClaims| {
            let token = signer.sign(SigningAlgorithm::Rs256, claims).unwrap();
            verify(&ledger, token.expose(), now_ms)
        };
        let good = check(&signer, &claims()).unwrap();
        assert_eq!((good.app, good.generation, good.epoch), (AppId(5), 2, 1));
        assert_eq!(check(&stranger, &claims()), Err(TokenRefusal::UnknownKey));
        let text = str::to_owned;
        let unreadable = Confirmation { x5t_s256: text("no hash") };
        let table: [(&str, AccessClaims); 9] = [
            ("bound to what is none", AccessClaims { cnf: Some(unreadable), ..claims() }),
            ("expired", AccessClaims { iat: NOW_S - 3_600, exp: NOW_S, ..claims() }),
            ("too long a life", AccessClaims { exp: NOW_S + 9_000, ..claims() }),
            ("another audience", AccessClaims { aud: text("lh-other"), ..claims() }),
            ("another cluster", AccessClaims { cluster_id: text("lh-other"), ..claims() }),
            ("another epoch", AccessClaims { epoch: 2, ..claims() }),
            ("another issuer", AccessClaims { iss: text("https://evil"), ..claims() }),
            ("two clients", AccessClaims { sub: text("other"), ..claims() }),
            ("no app", AccessClaims { app_id: text("app-x"), ..claims() }),
        ];
        for (what, claims) in table {
            assert_eq!(check(&signer, &claims), Err(TokenRefusal::Invalid), "{what}");
        }
        let token = signer.sign(SigningAlgorithm::Rs256, &claims()).unwrap();
        let token = token.expose();
        let cut = &token[..token.len() - 4];
        let other_header = token.replacen("eyJhbGciOiJSUzI1NiIs", "eyJhbGciOiJIUzI1NiIs", 1);
        for broken in ["", "a.b", "a.b.c", cut, other_header.as_str(), &"x".repeat(5_000)] {
            assert_eq!(verify(&ledger, broken, now_ms), Err(TokenRefusal::Invalid), "{broken}");
        }
    }

    fn verified(expires_s: u64) -> Arc<Verified> {
        Arc::new(Verified {
            app: AppId(1),
            generation: 1,
            scopes: Scopes::ALL,
            expires_s,
            epoch: 1,
            kid: "key".into(),
            certificate: None,
        })
    }

    #[test]
    fn a_retired_key_verifies_for_an_hour_and_either_kind_signs() {
        let signer = TokenSigner::generate().unwrap();
        let mut ledger = ledger(&signer);
        let apply = |ledger: &mut Ledger, index, civil_ms, command| {
            let stamp = Stamp { led_ms: 1, civil_ms };
            let header = EntryHeader { group: 0, epoch: 1, incarnation: 0, stamp, origin: 1 };
            let envelope = Envelope {
                actor: Actor::Node(1),
                request: None,
                trace: TraceId(1),
                cause: None,
                command,
            };
            ledger.apply_entry(index, &Entry { header, commands: vec![envelope] }).unwrap();
        };
        let now_ms = i64::try_from(NOW_S).unwrap() * 1_000;
        let [_, ed25519] = signer.signing_keys(1);
        apply(&mut ledger, 4, now_ms, Command::PublishSigningKey(ed25519));
        let bound = Confirmation::of_certificate(&[9; 32]);
        let claims = AccessClaims { cnf: Some(bound), ..claims() };
        for (index, algorithm) in (5..).zip([SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa]) {
            let token = signer.sign(algorithm, &claims).unwrap();
            let good = verify(&ledger, token.expose(), now_ms).unwrap();
            assert_eq!(good.certificate, Some([9; 32]));
            let kid = signer.kid_of(algorithm).as_str().into();
            apply(&mut ledger, index, now_ms, Command::RetireSigningKey { kid });
            assert_eq!(verify(&ledger, token.expose(), now_ms).as_ref(), Ok(&good));
            assert!(still_verifies(&ledger, &good.kid, now_ms + 3_600_000));
            assert!(!still_verifies(&ledger, &good.kid, now_ms + 3_600_001));
        }
    }

    #[test]
    fn a_cached_token_lives_until_its_last_second() {
        let cache = TokenCache::new(64);
        let hash = hash_of("token");
        cache.put(hash, verified(100), 0);
        assert!(cache.get(&hash, 99).is_some());
        assert!(cache.get(&hash, 100).is_none());
        assert!(cache.get(&hash, 99).is_none(), "an expired token is forgotten");
    }

    #[test]
    fn the_cache_never_outgrows_its_bound() {
        let cache = TokenCache::new(SHARDS * 4);
        for number in 0..10_000_u32 {
            let expires_s = if number % 3 == 0 { 1 } else { 100 };
            cache.put(hash_of(&number.to_string()), verified(expires_s), 50);
        }
        assert!(cache.shards.iter().all(|shard| shard.lock().len() <= 4));
    }

    #[test]
    fn app_ids_have_one_spelling() {
        let app = AppId(0x00ab_cdef_0123_4567);
        assert_eq!(app_id_text(app), "app-00abcdef01234567");
        assert_eq!(parse_app_id(&app_id_text(app)), Some(app));
        for text in
            ["", "app-", "app-00ABCDEF01234567", "app-abcdef01234567", "app-+0abcdef01234567"]
        {
            assert_eq!(parse_app_id(text), None, "{text:?}");
        }
    }
}
