//! Without servers: what is kept, what is believed after a restart, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use leasehold_client::{
    Borrow, Error, FileStore, GraceReason, Lease, LicenseClient, LostReason, MemoryStore,
    OfflineStore, Resume, ReturnBorrow, Verdict,
};
use protocol::cloud::lease::LeaseType;
use protocol::keys::PrivateKey;
use protocol::offline::{Holder, HolderKind, KeySet, OfflineClaims, Protocol, sign, user_hash};
use protocol::secret::Secret;
use protocol::wire::UtcTime;
use serde_json::{Value, json};

use crate::far::{Far, TERM_MS, both, denied, renewed, returned, story, within};
use crate::renewal::lease;

const BORROW: &str = "POST /api/v1/licenses/lease-1/borrow";
const KEYS: &str = "GET /.well-known/leasehold-offline-keys.json";
const HOUR: Duration = Duration::from_secs(3_600);
/// Of the machine's wall clock when a world begins.
const BEGAN_MS: i64 = 1_795_001_000_000;

fn signing_key() -> PrivateKey {
    PrivateKey::ed25519(&Secret::new([7; 32]))
}

fn key_set() -> Value {
    let keys = KeySet::of(signing_key().public_key().unwrap()).unwrap();
    serde_json::to_value(keys.to_jwks()).unwrap()
}

/// What a server signs now for so long.
fn claims(far: &Far, lasts: Duration, borrowed: bool) -> OfflineClaims {
    let now_s = u64::try_from(BEGAN_MS).unwrap() / 1_000 + far.world.now().as_secs();
    OfflineClaims {
        iss: "cluster-1".to_owned(),
        jti: "jti-1".to_owned(),
        license_id: "package-1".to_owned(),
        product: "p".to_owned(),
        protocol: Protocol::Cloud,
        lease_id: "lease-1".to_owned(),
        holder: Holder::of(HolderKind::Host, "host-1"),
        user_hash: Some(user_hash("u")),
        features: Vec::new(),
        quantity: 1,
        class: Some(LeaseType::Commit),
        max_nodes: None,
        cluster_id: None,
        fence: "00000001-0000000000000002-0003-0000000000000004".parse().unwrap(),
        epoch: 1,
        token_version: 1,
        iat: now_s,
        exp: now_s + lasts.as_secs(),
        borrowed,
        skew_seconds: 600,
    }
}

fn token(claims: &OfflineClaims) -> String {
    sign(&signing_key(), claims).unwrap()
}

/// The answer to a borrow of so long.
fn borrowed(far: &Far, lasts: Duration) -> Value {
    let now_ms = BEGAN_MS + i64::try_from(far.world.now().as_millis()).unwrap();
    let lasts_ms = i64::try_from(lasts.as_millis()).unwrap();
    let until = UtcTime::from_unix_ms(now_ms + lasts_ms).to_string();
    json!({
        "status": "borrowed", "lease_id": "lease-1", "borrowed_until": until,
        "expires_at": until, "expires_in_ms": lasts_ms, "heartbeat_interval_ms": 300_000,
        "renewal_token": "rt-b", "fence": "00000001-0000000000000002-0003-0000000000000004",
        "offline_token": token(&claims(far, lasts, true)),
    })
}

/// A renewal with an offline token, by a server whose clock is right.
fn renewed_with(far: &Far, claims: &OfflineClaims) -> Value {
    let now_ms = BEGAN_MS + i64::try_from(far.world.now().as_millis()).unwrap();
    let until = UtcTime::from_unix_ms(now_ms + i64::try_from(TERM_MS).unwrap());
    let mut body = renewed("rt-1", TERM_MS);
    body["expires_at"] = until.to_string().into();
    body["offline_token"] = token(claims).into();
    body
}

/// A lease that was borrowed for so long a moment ago.
async fn borrow(far: &mut Far, client: &LicenseClient, lasts: Duration) -> Lease {
    let lease = lease(far, client).await;
    let server = async {
        let request = far.expect(BORROW).await;
        let want = json!({ "duration_seconds": lasts.as_secs(), "renewal_token": "rt-0" });
        assert_eq!(request.json(), want);
        request.key();
        request.answer(200, &borrowed(far, lasts));
        far.expect(KEYS).await.answer(200, &key_set());
    };
    let (answer, ()) = both(lease.borrow(lasts), server).await;
    let Ok(Borrow::Granted { until }) = answer else { panic!("{answer:?}") };
    let until_ms = until.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let ends = far.world.now() + lasts;
    assert_eq!(
        until_ms / 1_000,
        u128::from(BEGAN_MS.unsigned_abs()) / 1_000 + ends.as_millis() / 1_000
    );
    lease
}

fn client_with(far: &Far, store: &Arc<MemoryStore>) -> LicenseClient {
    far.builder().offline_store(Arc::clone(store)).build().unwrap()
}

/// Ends a program: its lease is dropped, and whatever is to be done is done.
async fn end(client: LicenseClient, lease: Lease) {
    drop(lease);
    within(client.settle()).await;
}

#[test]
fn a_borrowed_lease_is_held_through_an_outage_and_a_restart_to_its_end() {
    story(async {
        let mut far = Far::start(1).await;
        let store = Arc::new(MemoryStore::new());
        let client = client_with(&far, &store);
        let lease = borrow(&mut far, &client, HOUR).await;
        // Half an hour without any server.
        for _ in 0..1_000 {
            if far.world.now() > HOUR / 2 {
                break;
            }
            far.later().await.0.cut();
            assert_eq!(lease.verdict(), Verdict::Held);
        }
        assert!(far.world.now() > HOUR / 2);
        // The program ends: nothing is given back, the borrow is kept.
        end(client, lease).await;
        let client = client_with(&far, &store);
        let Ok(Resume::Resumed(lease)) = within(client.resume("p")).await else { panic!() };
        assert_eq!(
            (lease.verdict(), lease.id(), lease.package()),
            (Verdict::Held, "lease-1", "package-1")
        );
        let mut watch = lease.watch();
        let lost = far.outage(&mut watch).await;
        assert!(matches!(lost, Verdict::Lost { reason: LostReason::Expired { .. } }), "{lost:?}");
        let late = far.world.now().checked_sub(HOUR).unwrap_or_default();
        let early = HOUR.checked_sub(far.world.now()).unwrap_or_default();
        // The token's times are whole seconds.
        assert!(late.is_zero() && early <= Duration::from_secs(2), "{late:?} {early:?}");
    });
}

#[test]
fn a_lease_that_was_kept_goes_on_with_its_server() {
    story(async {
        let mut far = Far::start(1).await;
        let store = Arc::new(MemoryStore::new());
        let client = client_with(&far, &store);
        let lease = borrow(&mut far, &client, HOUR).await;
        end(client, lease).await;
        let client = client_with(&far, &store);
        let Ok(Resume::Resumed(lease)) = within(client.resume("p")).await else { panic!() };
        // Renewed at once, with the token of the last run; a renewal does not shorten the borrow.
        let request = far.expect("PUT /api/v1/licenses/lease-1/heartbeat").await;
        assert_eq!(request.json()["renewal_token"], "rt-b");
        request.answer(200, &renewed("rt-c", TERM_MS));
        let server = async {
            let request = far.expect("POST /api/v1/licenses/lease-1/return-borrow").await;
            assert_eq!(request.json()["renewal_token"], "rt-c");
            request.answer(200, &renewed("rt-d", TERM_MS));
        };
        assert_eq!(both(lease.return_borrow(), server).await.0, Ok(ReturnBorrow::LivesOn));
        assert_eq!(lease.remaining(), Duration::from_millis(TERM_MS));
        assert!(matches!(within(client.resume("p")).await, Ok(Resume::Nothing)));
        // An ordinary lease again: given back when it is dropped.
        drop(lease);
        far.expect_last("/return").await.answer(200, &returned());
        within(client.settle()).await;
    });
}

#[test]
fn a_released_borrow_is_forgotten() {
    story(async {
        let mut far = Far::start(1).await;
        let store = Arc::new(MemoryStore::new());
        let client = client_with(&far, &store);
        let lease = borrow(&mut far, &client, HOUR).await;
        let server = async { far.expect_last("/return").await.answer(200, &returned()) };
        both(lease.release(), server).await.0.unwrap();
        assert!(matches!(within(client.resume("p")).await, Ok(Resume::Nothing)));
    });
}

#[test]
fn a_token_of_a_heartbeat_carries_a_program_through_a_restart_in_grace() {
    story(async {
        let mut far = Far::start(1).await;
        let store = Arc::new(MemoryStore::new());
        let client = client_with(&far, &store);
        let lease = lease(&mut far, &client).await;
        let request = far.later().await.0;
        let lasts = Duration::from_millis(TERM_MS);
        request.answer(200, &renewed_with(&far, &claims(&far, lasts, false)));
        far.expect(KEYS).await.answer(200, &key_set());
        // The program is killed before the next renewal.
        far.later().await.0.cut();
        let killed = lease;
        let client = client_with(&far, &store);
        let Ok(Resume::Resumed(lease)) = within(client.resume("p")).await else { panic!() };
        let verdict = lease.verdict();
        assert!(matches!(verdict, Verdict::Grace { why: GraceReason::Unreachable, .. }));
        assert!(lease.remaining() < lasts - Duration::from_millis(TERM_MS / 4));
        far.end(lease).await;
        far.end(killed).await;
    });
}

#[test]
fn a_token_that_cannot_be_believed_is_not_kept() {
    type Change = fn(&mut OfflineClaims);
    let table: [(bool, Change); 6] = [
        (true, |_| {}),
        (false, |claims| claims.product = "q".to_owned()),
        (false, |claims| claims.lease_id = "lease-2".to_owned()),
        (false, |claims| claims.holder = Holder::of(HolderKind::Host, "host-2")),
        (false, |claims| claims.exp = claims.iat),
        (false, |claims| claims.iat += 602),
    ];
    story(async {
        for (is_kept, change) in table {
            let mut far = Far::start(1).await;
            let store = Arc::new(MemoryStore::new());
            let client = client_with(&far, &store);
            let lease = lease(&mut far, &client).await;
            let request = far.later().await.0;
            let mut claims = claims(&far, HOUR, false);
            change(&mut claims);
            request.answer(200, &renewed_with(&far, &claims));
            far.expect(KEYS).await.answer(200, &key_set());
            // The next renewal comes after the token was looked at.
            far.later().await.0.cut();
            let kept = store.load("lease-p").unwrap();
            assert_eq!(kept.is_some(), is_kept, "{claims:?}");
            assert!(lease.verdict().permits_use());
            far.end(lease).await;
        }
    });
}

#[test]
fn a_server_whose_clock_is_far_ahead_gives_tokens_that_are_not_kept() {
    story(async {
        let mut far = Far::start(1).await;
        let store = Arc::new(MemoryStore::new());
        let client = client_with(&far, &store);
        let held = lease(&mut far, &client).await;
        far.world.set_wall_back(Duration::from_secs(601));
        let server = async {
            far.expect(BORROW).await.answer(200, &borrowed(&far, HOUR));
            far.expect(KEYS).await.answer(200, &key_set());
        };
        let (answer, ()) = both(held.borrow(HOUR), server).await;
        let Err(Error::Machine { reason }) = answer else { panic!("{answer:?}") };
        assert!(reason.contains("not good after a restart"), "{reason}");
        // In this run it is good all the same: that is counted, not read from a clock.
        assert_eq!(held.remaining(), HOUR);
        far.end(held).await;
    });
}

/// A store that holds a lease borrowed for an hour, and its world half an hour later.
async fn half_an_hour_later() -> (Far, Arc<MemoryStore>) {
    let mut far = Far::start(1).await;
    let store = Arc::new(MemoryStore::new());
    let client = client_with(&far, &store);
    let lease = borrow(&mut far, &client, HOUR).await;
    end(client, lease).await;
    far.world.advance(HOUR / 2);
    (far, store)
}

async fn refusal(client: &LicenseClient) -> String {
    match within(client.resume("p")).await {
        Ok(Resume::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_kept_is_refused_where_it_does_not_belong() {
    story(async {
        let (far, store) = half_an_hour_later().await;
        let shared = || far.builder().offline_store(Arc::clone(&store));
        let elsewhere = shared().hostname("host-2").build().unwrap();
        assert!(refusal(&elsewhere).await.contains("another holder"));
        let other = shared().credentials("client-1", "another secret").build().unwrap();
        assert!(refusal(&other).await.contains("not written by this application"));
        let other = shared().credentials("client-2", "secret-1 &=+").build().unwrap();
        assert!(refusal(&other).await.contains("not written by this application"));
        let client = client_with(&far, &store);
        // Renamed to another product's.
        let document = store.load("lease-p").unwrap().unwrap();
        store.save("lease-q", &document).unwrap();
        let renamed = within(client.resume("q")).await;
        assert!(matches!(renamed, Ok(Resume::Refused { .. })), "{renamed:?}");
        far.world.advance(HOUR / 2);
        assert!(refusal(&client).await.contains("ended"));
    });
}

#[test]
fn a_clock_that_went_back_is_refused() {
    story(async {
        let (mut far, store) = half_an_hour_later().await;
        let client = client_with(&far, &store);
        let Ok(Resume::Resumed(lease)) = within(client.resume("p")).await else { panic!() };
        let remaining = lease.remaining();
        far.end(lease).await;
        // Within the margin it gains nothing, beyond it is refused.
        far.world.set_wall_back(Duration::from_secs(599));
        let client = client_with(&far, &store);
        let Ok(Resume::Resumed(lease)) = within(client.resume("p")).await else { panic!() };
        assert_eq!(lease.remaining(), remaining);
        far.end(lease).await;
        far.world.set_wall_back(Duration::from_secs(2));
        let client = client_with(&far, &store);
        assert!(refusal(&client).await.contains("clock went back"));
    });
}

#[test]
fn a_changed_byte_is_refused_whichever_it_is() {
    story(async {
        let (far, store) = half_an_hour_later().await;
        let client = client_with(&far, &store);
        let document = store.load("lease-p").unwrap().unwrap();
        for at in 0..document.len() {
            let mut changed = document.clone();
            changed[at] ^= 1;
            store.save("lease-p", &changed).unwrap();
            assert!(!refusal(&client).await.is_empty(), "byte {at}");
        }
        for length in [0, 63, 64, 65, document.len() - 1] {
            store.save("lease-p", &document[..length]).unwrap();
            assert!(!refusal(&client).await.is_empty(), "{length} bytes");
        }
    });
}

#[test]
fn a_file_that_others_may_read_is_an_obstacle() {
    story(async {
        let dir = tempfile::tempdir().unwrap();
        let mut far = Far::start(1).await;
        let client =
            far.builder().offline_store(FileStore::new(dir.path().join("s"))).build().unwrap();
        let lease = borrow(&mut far, &client, HOUR).await;
        drop(lease);
        within(client.settle()).await;
        let Ok(Resume::Resumed(lease)) = within(client.resume("p")).await else { panic!() };
        // Until it is gone, it writes the file anew.
        drop(lease);
        within(client.settle()).await;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join("s/lease-p");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
            let refused = within(client.resume("p")).await;
            assert!(matches!(refused, Err(Error::Machine { .. })), "{refused:?}");
        }
    });
}

#[test]
fn a_borrow_is_denied_as_a_value_and_needs_a_store() {
    story(async {
        let mut far = Far::start(1).await;
        let store = Arc::new(MemoryStore::new());
        let client = client_with(&far, &store);
        let held = lease(&mut far, &client).await;
        let server = async { far.expect(BORROW).await.answer(403, &denied("of_tomorrow")) };
        let (answer, ()) = both(held.borrow(HOUR), server).await;
        let Ok(Borrow::Denied(denied)) = answer else { panic!("{answer:?}") };
        assert_eq!(denied.reason.code(), "of_tomorrow");
        far.end(held).await;
        let client = far.client();
        let held = lease(&mut far, &client).await;
        assert!(matches!(within(held.borrow(HOUR)).await, Err(Error::Configuration { .. })));
        far.end(held).await;
    });
}
