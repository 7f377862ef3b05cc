//! Tokens bound to client certificates, peppers that move, keys that are retired.

use std::collections::BTreeMap;

use http::Method;
use lease::command::{Command, SealedSecret};
use lease::entry::{Actor, Envelope};
use lease::ids::TraceId;
use lease::operate::{CLIENT_SECRET_PEPPER, OPERATOR_PEPPER};
use protocol::mac::MacKey;
use serde_json::{Value, json};

use super::Peppers;
use crate::world::{Answer, App, LIVENESS, World, keys};

const RIGHT: [u8; 32] = [0xaa; 32];
const WRONG: [u8; 32] = [0xbb; 32];

async fn set_policy(world: &World, app: &App, policy: Value) -> Answer {
    let path = format!("/admin/apps/{}/policy", app.app_id);
    world.ask(Method::PUT, &path).bearer(&world.admin).json(&policy).send().await
}

/// Asks for a token over a connection with that certificate.
async fn token(world: &World, app: &App, certificate: Option<[u8; 32]>) -> Answer {
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        app.client_id, app.client_secret
    );
    let ask = world.post("/oauth/token").body(form);
    match certificate {
        Some(sha256) => ask.certificate(sha256).send().await,
        None => ask.send().await,
    }
}

/// Shows a token over a connection with that certificate.
async fn shows(world: &World, token: &str, certificate: Option<[u8; 32]>) -> Answer {
    let ask = world.get("/api/v1/licenses/lease-1").bearer(token);
    match certificate {
        Some(sha256) => ask.certificate(sha256).send().await,
        None => ask.send().await,
    }
}

fn access_token(answer: &Answer) -> String {
    answer.expect(200)["access_token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_bound_token_is_worth_nothing_without_its_certificate() {
    let (world, app) = World::ready(&[]).await;
    let lists = async |token: &str, certificate| {
        let checkout = world.checkout(token, "alice");
        let asked = match certificate {
            Some(sha256) => checkout.certificate(sha256),
            None => checkout,
        };
        asked.send().await.status.as_u16()
    };
    assert_eq!(lists(&app.token, None).await, 200);
    let hex = "aa".repeat(32);
    let policy = json!({ "certificate_bound": true, "certificates": [hex] });
    let shown = set_policy(&world, &app, policy.clone()).await.expect(200);
    assert_eq!(shown["certificates"], json!([hex]));

    // Tokens of before ended; a new one wants the listed certificate.
    assert_eq!(lists(&app.token, Some(RIGHT)).await, 401);
    assert_eq!(token(&world, &app, None).await.expect(400)["error"], "invalid_request");
    assert_eq!(token(&world, &app, Some(WRONG)).await.expect(401)["error"], "invalid_client");
    let bound = access_token(&token(&world, &app, Some(RIGHT)).await);
    let payload = bound.split('.').nth(1).expect("claims");
    let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).expect("base64url");
    let claims: Value = serde_json::from_slice(&payload).expect("claims");
    let thumbprint = data_encoding::BASE64URL_NOPAD.encode(&RIGHT);
    assert_eq!(claims["cnf"], json!({ "x5t#S256": thumbprint }));

    for (certificate, status) in [(Some(RIGHT), 200), (Some(WRONG), 401), (None, 401)] {
        // Twice: the second is answered from what is remembered of the token.
        for _ in 0..2 {
            assert_eq!(lists(&bound, certificate).await, status, "{certificate:?}");
        }
    }
    let refused = shows(&world, &bound, None).await;
    let challenge = refused.header("www-authenticate").unwrap_or_default();
    assert!(refused.status == 401 && challenge.contains("invalid_token"), "{refused:?}");

    // A repeat changes nothing; a certificate that is taken off the list ends its tokens.
    set_policy(&world, &app, policy).await.expect(200);
    assert_eq!(lists(&bound, Some(RIGHT)).await, 200);
    let other = json!({ "certificate_bound": true, "certificates": ["bb".repeat(32)] });
    set_policy(&world, &app, other).await.expect(200);
    assert_eq!(lists(&bound, Some(RIGHT)).await, 401);
    let any = json!({ "certificate_bound": true });
    set_policy(&world, &app, any).await.expect(200);
    assert_eq!(lists(&bound, Some(RIGHT)).await, 200);

    // Switched off, the binding of a token that has one still counts.
    set_policy(&world, &app, json!({})).await.expect(200);
    assert_eq!(lists(&bound, None).await, 401);
    let free = access_token(&token(&world, &app, None).await);
    assert_eq!(lists(&free, None).await, 200);
    let metadata = world.get("/.well-known/oauth-authorization-server").send().await;
    assert_eq!(metadata.expect(200)["tls_client_certificate_bound_access_tokens"], true);
}

#[tokio::test]
async fn a_policy_is_an_admins_and_of_an_application_that_is_there() {
    let (world, app) = World::ready(&[]).await;
    let path = format!("/admin/apps/{}/policy", app.app_id);
    let plain = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    assert_eq!(plain["certificate_bound"], false);
    assert_eq!(plain["token_algorithm"], "RS256");
    let forbidden = world.ask(Method::PUT, &path).bearer(&world.operator).json(&json!({}));
    forbidden.send().await.expect(403);
    let unknown = "/admin/apps/app-00000000000000ff/policy";
    world.get(unknown).bearer(&world.admin).send().await.expect(404);
    let body = json!({ "certificates": [], "certificate_bound": true });
    let nobody = world.ask(Method::PUT, unknown).bearer(&world.admin).json(&body).send().await;
    nobody.expect(404);
    for policy in [
        json!({ "certificates": ["xyz"] }),
        json!({ "requests_per_second": 0 }),
        json!({ "burst": 4 }),
        json!({ "more": 1 }),
    ] {
        set_policy(&world, &app, policy).await.expect(400);
    }
}

#[tokio::test]
async fn an_application_may_have_its_tokens_signed_eddsa() {
    let (world, app) = World::ready(&[]).await;
    let shown = set_policy(&world, &app, json!({ "token_algorithm": "EdDSA" })).await.expect(200);
    assert_eq!(shown["token_algorithm"], "EdDSA");
    let token = access_token(&token(&world, &app, None).await);
    let header = data_encoding::BASE64URL_NOPAD
        .decode(token.split('.').next().expect("a header").as_bytes())
        .expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("a header");
    assert_eq!(header["alg"], "EdDSA");
    let key_set = world.get("/.well-known/jwks.json").send().await.expect(200);
    let keys = key_set["keys"].as_array().expect("keys");
    assert!(keys.iter().any(|key| key["kid"] == header["kid"] && key["kty"] == "OKP"));
    world.checkout(&token, "alice").send().await.expect(200);
    world.checkout(&app.token, "bob").send().await.expect(200);
}

/// The peppers of the world in these versions; the first ones are those that [`keys`] has.
fn peppers(first: u8, versions: &[u32]) -> Peppers {
    let key = |version: u32| MacKey::new([first + 50 * (version as u8 - 1); 32]);
    let versions: BTreeMap<u32, MacKey> =
        versions.iter().map(|version| (*version, key(*version))).collect();
    Peppers::of(versions).expect("a version")
}

async fn put_secret(world: &World, name: &str) {
    let secret =
        SealedSecret { name: name.into(), version: 1, nonce: [0; 12], sealed: vec![7; 48] };
    let envelope = Envelope {
        actor: Actor::Node(1),
        request: None,
        trace: TraceId(1),
        cause: None,
        command: Command::PutSecret(secret),
    };
    world.cluster.submit(vec![envelope], LIVENESS).await.expect("stored");
}

fn with_peppers(world: &World, versions: &[u32]) {
    let mut held = keys();
    held.client_secret_pepper = peppers(3, versions);
    held.operator_pepper = peppers(4, versions);
    world.keys.unseal(held);
}

#[tokio::test]
async fn credentials_move_to_the_newest_pepper_as_they_are_shown() {
    let (world, app) = World::ready(&[]).await;
    for name in [CLIENT_SECRET_PEPPER, OPERATOR_PEPPER] {
        put_secret(&world, name).await;
        put_secret(&world, &format!("{name}-2")).await;
    }
    with_peppers(&world, &[1, 2]);
    let stored = |pepper, version| world.cluster.ledger().stored_under(pepper, version);
    assert_eq!((stored(CLIENT_SECRET_PEPPER, 1), stored(CLIENT_SECRET_PEPPER, 2)), (1, 0));
    let finish = async |what: &str| {
        let body = json!({ "what": what, "finish": true });
        world.post("/admin/keys/rotate").bearer(&world.admin).json(&body).send().await
    };
    let refused = finish("client-secret-pepper").await.expect(409);
    assert_eq!(refused["code"], "key_in_use");
    assert!(refused["detail"].as_str().is_some_and(|it| it.contains("1 credential is")));

    // A wrong secret moves nothing; the right one does, and its tokens stay good.
    let wrong = App { client_secret: "lh_cs_wrong".to_owned(), ..clone(&app) };
    assert_eq!(token(&world, &wrong, None).await.status, 401);
    assert_eq!(stored(CLIENT_SECRET_PEPPER, 1), 1);
    let new = access_token(&token(&world, &app, None).await);
    assert_eq!((stored(CLIENT_SECRET_PEPPER, 1), stored(CLIENT_SECRET_PEPPER, 2)), (0, 1));
    for token in [&app.token, &new] {
        world.checkout(token, "alice").send().await.expect(200);
    }
    let done = finish("client-secret-pepper").await.expect(200);
    assert_eq!((&done["version"], &done["dropped"]), (&json!(2), &json!([1])));
    assert!(world.cluster.ledger().secret(CLIENT_SECRET_PEPPER).is_none());

    // Operators: whoever asked has moved; those who did not are in the way.
    let refused = finish("operator-pepper").await.expect(409);
    assert!(refused["detail"].as_str().is_some_and(|it| it.contains("2 credentials are")));
    for token in [&world.operator, &world.auditor] {
        world.get("/admin/packages").bearer(token).send().await.expect(200);
    }
    let status = world.get("/admin/keys").bearer(&world.auditor).send().await.expect(200);
    let counted = json!([{ "version": 1, "credentials": 0 }, { "version": 2, "credentials": 3 }]);
    assert_eq!(status["peppers"][1]["versions"], counted);
    finish("operator-pepper").await.expect(200);
    with_peppers(&world, &[2]);
    assert_eq!(finish("operator-pepper").await.expect(200)["dropped"], Value::Null);
    access_token(&token(&world, &app, None).await);
    world.get("/admin/packages").bearer(&world.auditor).send().await.expect(200);
}

fn clone(app: &App) -> App {
    App {
        app_id: app.app_id.clone(),
        client_id: app.client_id.clone(),
        client_secret: app.client_secret.clone(),
        token: app.token.clone(),
    }
}

#[tokio::test]
async fn what_a_cluster_without_its_own_authority_cannot_rotate_it_says() {
    let world = World::unsealed().await;
    let ask = async |path: &str, body: Value| {
        world.post(path).bearer(&world.admin).json(&body).send().await
    };
    let certs = world.get("/admin/certs").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(certs["authorities"], json!([]));
    assert_eq!(certs["nodes"][0]["reachable"], true);
    let refused = ask("/admin/certs/rotate", json!({ "ca": true })).await.expect(409);
    assert_eq!(refused["code"], "no_authority");
    for body in [
        json!({ "finish": true }),
        json!({ "force": true }),
        json!({ "ca": true, "node_id": 1 }),
        json!({ "more": true }),
    ] {
        ask("/admin/certs/rotate", body).await.expect(400);
    }
    ask("/admin/certs/rotate", json!({ "node_id": 7 })).await.expect(404);
    for body in [
        json!({ "what": "data-key", "node_id": 1 }),
        json!({ "what": "token-signing", "finish": true }),
        json!({ "what": "operator-pepper", "force": true }),
        json!({ "what": "offline-signing" }),
    ] {
        ask("/admin/keys/rotate", body).await.expect(400);
    }
    let body = json!({ "what": "data-key" });
    let narrow = world.post("/admin/keys/rotate").bearer(&world.operator).json(&body);
    narrow.send().await.expect(403);
}
