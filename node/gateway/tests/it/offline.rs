//! Offline use through `cloud`: tokens in heartbeats, borrowing and giving back, what a token is
//! worth afterwards, and what operators see and do about it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use protocol::keys::PrivateKey;
use protocol::offline::{
    self, Expect, Holder, HolderKind, KeySet, OfflineClaims, Protocol, user_hash,
};
use protocol::secret::Secret;
use serde_json::{Value, json};

use crate::issued::{self, now_ms, seats_taken};
use crate::world::{Answer, App, Ask, PACKAGE, PRODUCT, World, keys, text_of};

/// A package with these policies, and an application.
async fn world(policy: Value) -> (World, App) {
    let world = issued::world(policy).await;
    let app = world.register().await;
    (world, app)
}

/// Everything allowed: an hour at most, two seats at once, six left for others.
fn lending() -> Value {
    json!({
        "offline": "on", "offline_skew_seconds": 60, "borrow_max_seconds": 3_600,
        "borrow_seats_max": 2, "borrow_online_reserve": 6,
    })
}

impl World {
    async fn lease(&self, app: &App, user: &str) -> Value {
        self.checkout(&app.token, user).send().await.expect(200)
    }

    fn borrow_seat(&self, app: &App, lease: &Value, seconds: u32) -> Ask<'_> {
        let path = format!("/api/v1/licenses/{}/borrow", text_of(lease, "lease_id"));
        let body = json!({ "renewal_token": lease["renewal_token"], "duration_seconds": seconds });
        self.post(&path).bearer(&app.token).json(&body)
    }

    fn return_borrow(&self, app: &App, lease: &Value) -> Ask<'_> {
        let path = format!("/api/v1/licenses/{}/return-borrow", text_of(lease, "lease_id"));
        let body = json!({ "renewal_token": lease["renewal_token"] });
        self.post(&path).bearer(&app.token).json(&body)
    }

    async fn validate(&self, app: &App, token: &str) -> Answer {
        let body = json!({ "offline_token": token });
        self.post("/api/v1/offline/validate").bearer(&app.token).json(&body).send().await
    }

    async fn offline_keys(&self) -> KeySet {
        let answer = self.get("/.well-known/leasehold-offline-keys.json").send().await;
        answer.expect(200);
        KeySet::from_json(answer.text.as_bytes()).expect("a key set")
    }

    /// What a token of this cluster says, as a device would believe it.
    async fn claims(&self, token: &str) -> OfflineClaims {
        let holder = Holder::of(HolderKind::Host, "host-1");
        let expect = Expect {
            issuer: Some("lh-test"),
            epoch: Some(1),
            product: Some(PRODUCT),
            holder: Some(&holder),
            ..Expect::at(now_ms())
        };
        offline::verify(token, &self.offline_keys().await, &expect).expect("a good token")
    }
}

fn assert_denied(answer: &Answer, status: u16, reason: &str) {
    let body = answer.expect(status);
    assert_eq!((&body["status"], &body["reason"]), (&json!("denied"), &json!(reason)), "{body}");
}

/// The same claims under another type, signed with the cluster's own key.
fn with_type(token: &str, typ: &str) -> String {
    let mut parts = token.split('.');
    let (header, claims) = (parts.next().expect("a header"), parts.next().expect("claims"));
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let mut header: Value = serde_json::from_slice(&header).expect("JSON");
    header["typ"] = json!(typ);
    let signed = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header.to_string()));
    let signature = keys().offline.key.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Signs claims with the cluster's own key.
fn signed(claims: &OfflineClaims) -> String {
    offline::sign(&keys().offline.key, claims).expect("a token")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_carries_a_token_where_the_package_says_so_and_nowhere_else() {
    for (policy, has_token) in [
        (json!({}), false),
        (json!({ "borrow_max_seconds": 3_600 }), false),
        (json!({ "offline": "on" }), true),
        (lending(), true),
    ] {
        let (world, app) = world(policy.clone()).await;
        let lease = world.lease(&app, "alice").await;
        let renewed = world.heartbeat(&app.token, &lease).send().await.expect(200);
        assert_eq!(renewed.get("offline_token").is_some(), has_token, "{policy}");
        let item = json!({ "lease_id": lease["lease_id"],
                           "renewal_token": renewed["renewal_token"], "still_active": true });
        let body = json!({ "leases": [item] });
        let bulk = world.post("/api/v1/licenses/heartbeats").bearer(&app.token).json(&body);
        let bulk = bulk.send().await.expect(200);
        assert_eq!(bulk["results"][0]["status"], "renewed", "{bulk}");
        assert_eq!(bulk["results"][0].get("offline_token").is_some(), has_token, "{policy}");
        if !has_token {
            continue;
        }
        let claims = world.claims(text_of(&renewed, "offline_token")).await;
        assert_eq!(claims.protocol, Protocol::Cloud);
        assert_eq!((claims.license_id.as_str(), claims.product.as_str()), (PACKAGE, PRODUCT));
        assert_eq!(claims.lease_id, text_of(&lease, "lease_id"));
        assert_eq!(claims.fence.to_string(), text_of(&lease, "fence"));
        assert_eq!(claims.user_hash, Some(user_hash("alice")));
        assert_eq!((claims.quantity, claims.borrowed), (1, false));
        assert_eq!(claims.exp - claims.iat, 900, "no longer than the lease: {claims:?}");
        let later = world.claims(text_of(&bulk["results"][0], "offline_token")).await;
        assert_ne!(later.jti, claims.jti);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_borrow_lasts_as_asked_and_comes_back_early() {
    let (world, app) = world(lending()).await;
    let lease = world.lease(&app, "alice").await;
    let borrowed = world.borrow_seat(&app, &lease, 3_600).send().await.expect(200);
    assert_eq!(
        (&borrowed["status"], &borrowed["lease_id"]),
        (&json!("borrowed"), &lease["lease_id"])
    );
    assert_eq!(borrowed["fence"], lease["fence"]);
    assert_ne!(borrowed["renewal_token"], lease["renewal_token"]);
    let again = world.borrow_seat(&app, &lease, 3_600).send().await.expect(200);
    assert_eq!(again["renewal_token"], borrowed["renewal_token"], "the answer was lost");
    let token = text_of(&borrowed, "offline_token");
    let claims = world.claims(token).await;
    assert!(claims.borrowed && claims.skew_seconds == 60);
    assert_eq!(claims.exp - claims.iat, 3_600, "{claims:?}");
    let worth = world.validate(&app, token).await.expect(200);
    assert_eq!(
        (&worth["valid"], &worth["state"], &worth["borrowed"], &worth["lease_id"]),
        (&json!(true), &json!("live"), &json!(true), &lease["lease_id"]),
    );
    // Nobody frees a seat for which a token is out, save by writing it off.
    let release = format!("/admin/leases/{}/release", text_of(&lease, "lease_id"));
    let refused = world.post(&release).bearer(&world.operator).send().await;
    assert_eq!(refused.expect(409)["code"], "offline_token_outstanding");
    assert_eq!(seats_taken(&world).await, 1);
    let renewed = world.return_borrow(&app, &borrowed).send().await.expect(200);
    assert_eq!(renewed["status"], "renewed");
    let over = world.validate(&app, token).await.expect(200);
    assert_eq!((&over["valid"], &over["reason"]), (&json!(false), &json!("superseded")), "{over}");
    let refused = world.return_borrow(&app, &renewed_lease(&lease, &renewed)).send().await;
    assert_denied(&refused, 409, "not_borrowed");
    world.give_back(&app.token, &lease).send().await.expect(200);
    assert_eq!(seats_taken(&world).await, 0);
    let ended = world.validate(&app, token).await.expect(200);
    assert_eq!(
        (&ended["valid"], &ended["reason"], &ended["state"]),
        (&json!(false), &json!("lease_ended"), &json!("ended")),
    );
}

/// The lease with the newest renewal token.
fn renewed_lease(lease: &Value, renewed: &Value) -> Value {
    json!({ "lease_id": lease["lease_id"], "renewal_token": renewed["renewal_token"] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_of_a_borrow_says_which_rule() {
    let (none, other) = world(json!({ "offline": "on" })).await;
    let lease = none.lease(&other, "alice").await;
    assert_denied(&none.borrow_seat(&other, &lease, 60).send().await, 403, "offline_not_allowed");

    let (world, app) = world(lending()).await;
    let alice = world.lease(&app, "alice").await;
    assert_denied(&world.borrow_seat(&app, &alice, 3_601).send().await, 403, "borrow_too_long");
    let stranger = world.register_another().await;
    let refused = world.borrow_seat(&stranger, &alice, 60).send().await;
    assert_denied(&refused, 404, "unknown_lease");
    let mut forged = alice.clone();
    forged["renewal_token"] = world.lease(&app, "zoe").await["renewal_token"].clone();
    let refused = world.borrow_seat(&app, &forged, 60).send().await;
    assert_denied(&refused, 409, "renewal_token_invalid");
    for seconds in [json!(0), json!(-1), json!("x"), json!(31_622_401)] {
        let path = format!("/api/v1/licenses/{}/borrow", text_of(&alice, "lease_id"));
        let body = json!({ "renewal_token": alice["renewal_token"], "duration_seconds": seconds });
        let answer = world.post(&path).bearer(&app.token).json(&body).send().await;
        assert_eq!(answer.expect(400)["field"], "duration_seconds", "{seconds}");
    }
    let borrowed = world.borrow_seat(&app, &alice, 3_600).send().await.expect(200);
    // The seat's own token went on; the one before it is not good for another borrow.
    let newer = renewed_lease(&alice, &borrowed);
    let newer = world.heartbeat(&app.token, &newer).send().await.expect(200);
    let refused = world.borrow_seat(&app, &alice, 60).send().await;
    assert_denied(&refused, 409, "renewal_token_replayed");
    let bob = world.lease(&app, "bob").await;
    world.borrow_seat(&app, &bob, 60).send().await.expect(200);
    let carol = world.lease(&app, "carol").await;
    let refused = world.borrow_seat(&app, &carol, 60).send().await;
    assert_denied(&refused, 409, "borrow_limit_reached");
    // One comes back early, and another may go.
    let newest = renewed_lease(&alice, &newer);
    world.return_borrow(&app, &newest).send().await.expect(200);
    world.borrow_seat(&app, &carol, 60).send().await.expect(200);
}

impl World {
    /// Another application for the same product.
    async fn register_another(&self) -> App {
        let body = json!({ "name": "Other", "product_id": PRODUCT, "vendor_id": "vector-de" });
        let answer = self.post("/admin/apps").bearer(&self.admin).json(&body).send().await;
        let body = answer.expect(201);
        let text = |name: &str| text_of(&body, name).to_owned();
        let mut app = App {
            app_id: text("app_id"),
            client_id: text("client_id"),
            client_secret: text("client_secret"),
            token: String::new(),
        };
        let token = self.token(&app, None).await.expect(200);
        app.token = text_of(&token, "access_token").to_owned();
        app
    }

    async fn rules(&self, rules: Value) -> Answer {
        let path = format!("/admin/packages/{PACKAGE}/borrow-rules");
        self.ask(Method::PUT, &path).bearer(&self.operator).json(&rules).send().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_rules_narrow_what_the_package_allows() {
    let (world, app) = world(lending()).await;
    let path = format!("/admin/packages/{PACKAGE}/borrow-rules");
    let shown = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    let in_force = json!({ "max_seconds": 3_600, "seats_max": 2, "online_reserve": 6 });
    assert_eq!(shown["in_force"], in_force, "{shown}");
    let rules = json!({
        "max_seconds": 600, "seats_max": 9, "online_reserve": 1,
        "exclude": [{ "user": "Mallory" }, { "host": "host-9" }],
    });
    let refused = world.ask(Method::PUT, &path).bearer(&world.auditor).json(&rules).send().await;
    assert_eq!(refused.status.as_u16(), 403);
    let set = world.rules(rules).await.expect(200);
    let in_force = json!({ "max_seconds": 600, "seats_max": 2, "online_reserve": 6 });
    assert_eq!(set["in_force"], in_force);
    let alice = world.lease(&app, "alice").await;
    assert_denied(&world.borrow_seat(&app, &alice, 601).send().await, 403, "borrow_too_long");
    let mallory = world.lease(&app, "mallory").await;
    assert_denied(&world.borrow_seat(&app, &mallory, 60).send().await, 403, "borrow_excluded");
    world.borrow_seat(&app, &alice, 600).send().await.expect(200);
    world.rules(json!({ "online_reserve": 20 })).await.expect(200);
    assert_denied(&world.borrow_seat(&app, &mallory, 60).send().await, 409, "online_reserve");
    world.rules(json!({ "include": [{ "user": "alice" }] })).await.expect(200);
    assert_denied(&world.borrow_seat(&app, &mallory, 60).send().await, 403, "borrow_excluded");
    world.rules(json!({})).await.expect(200);
    world.borrow_seat(&app, &mallory, 60).send().await.expect(200);
    for bad in [json!({ "max_seconds": -1 }), json!({ "include": [{ "dog": "rex" }] })] {
        assert_eq!(world.rules(bad).await.status.as_u16(), 400);
    }
    let nowhere = "/admin/packages/nope/borrow-rules";
    world.get(nowhere).bearer(&world.auditor).send().await.expect(404);
    let ask = world.ask(Method::PUT, nowhere).bearer(&world.operator).json(&json!({}));
    ask.send().await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_device_is_listed_and_written_off() {
    let (world, app) = world(lending()).await;
    let online = world.lease(&app, "online").await;
    let lost = world.lease(&app, "alice").await;
    let borrowed = world.borrow_seat(&app, &lost, 3_600).send().await.expect(200);
    let path = format!("/admin/packages/{PACKAGE}/offline");
    let listed = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    assert_eq!((&listed["seats_borrowed"], &listed["seats_offline"]), (&json!(1), &json!(1)));
    let row = &listed["leases"][0];
    assert_eq!(listed["leases"].as_array().map(Vec::len), Some(1));
    for (field, want) in [
        ("lease_id", &lost["lease_id"]),
        ("user", &json!("alice")),
        ("hostname", &json!("host-1")),
        ("until", &borrowed["borrowed_until"]),
        ("borrowed", &json!(true)),
    ] {
        assert_eq!(&row[field], want, "{field}");
    }
    let write_off = format!("/admin/leases/{}/write-off", text_of(&lost, "lease_id"));
    let reason = json!({ "reason": "laptop stolen" });
    let ask = || world.post(&write_off);
    ask().bearer(&world.auditor).json(&reason).send().await.expect(403);
    ask().bearer(&world.operator).json(&json!({})).send().await.expect(400);
    let done = ask().bearer(&world.operator).json(&reason).send().await.expect(200);
    assert_eq!((&done["state"], &done["token_good_until"]), (&json!("released"), &row["until"]));
    assert_eq!(seats_taken(&world).await, 1);
    let again = ask().bearer(&world.operator).json(&reason).send().await;
    assert_eq!(again.expect(410)["code"], "lease_ended");
    let worth = world.validate(&app, text_of(&borrowed, "offline_token")).await.expect(200);
    assert_eq!((&worth["valid"], &worth["reason"]), (&json!(false), &json!("lease_ended")));
    world.heartbeat(&app.token, &online).send().await.expect(200);
    let unknown = world.post("/admin/leases/nope/write-off").bearer(&world.operator);
    unknown.json(&reason).send().await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_believed_only_as_it_was_given() {
    let (world, app) = world(lending()).await;
    let lease = world.lease(&app, "alice").await;
    let borrowed = world.borrow_seat(&app, &lease, 3_600).send().await.expect(200);
    let token = text_of(&borrowed, "offline_token").to_owned();
    let good = world.claims(&token).await;
    let with = |change: fn(&mut OfflineClaims)| {
        let mut claims = good.clone();
        change(&mut claims);
        signed(&claims)
    };
    let (body, signature) = token.rsplit_once('.').expect("a signature");
    let flipped = match signature.strip_prefix('A') {
        Some(rest) => format!("{body}.B{rest}"),
        None => format!("{body}.A{}", &signature[1..]),
    };
    let foreign = PrivateKey::ed25519(&Secret::new([99; 32]));
    let other_type = with_type(&token, "JWT");
    let table = [
        ("malformed", "x".to_owned()),
        ("malformed", body.to_owned()),
        ("bad_signature", flipped),
        ("unknown_key", offline::sign(&foreign, &good).expect("a token")),
        ("wrong_type", other_type),
        ("wrong_cluster", with(|claims| claims.iss = "lh-other".to_owned())),
        ("wrong_epoch", with(|claims| claims.epoch = 2)),
        ("expired", with(|claims| claims.exp = claims.iat)),
        ("not_yet_valid", with(|claims| claims.iat += 3_000)),
    ];
    for (reason, token) in table {
        let worth = world.validate(&app, &token).await.expect(200);
        assert_eq!(worth, json!({ "valid": false, "reason": reason }), "{reason}");
    }
    // Genuine, and none of this caller's business.
    let stranger = world.register_another().await;
    assert_denied(&world.validate(&stranger, &token).await, 404, "unknown_lease");
    for not_ours in [
        with(|claims| claims.protocol = Protocol::Device),
        with(|claims| claims.lease_id = "lease-nope".to_owned()),
    ] {
        assert_denied(&world.validate(&app, &not_ours).await, 404, "unknown_lease");
    }
    // A later token of the lease takes its place.
    let newer = world.heartbeat(&app.token, &renewed_lease(&lease, &borrowed)).send().await;
    let newer = newer.expect(200);
    let worth = world.validate(&app, &token).await.expect(200);
    assert_eq!(
        (&worth["valid"], &worth["reason"], &worth["state"]),
        (&json!(false), &json!("superseded"), &json!("superseded")),
    );
    let worth = world.validate(&app, text_of(&newer, "offline_token")).await.expect(200);
    assert_eq!(worth["valid"], true, "{worth}");
    world.validate(&app, "").await.expect(400);
    world.post("/api/v1/offline/validate").send().await.expect(401);
}
