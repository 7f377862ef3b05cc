//! Members over the gateway: invitations, what is refused before a token is used, the arithmetic.

use http::Method;
use protocol::join_token::JoinToken;
use protocol::secret::Secret;
use protocol::wire::UtcTime;
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};

use crate::world::{World, text_of};

async fn invite(world: &World, key: &str) -> Value {
    let answer = world.post("/admin/members").bearer(&world.admin).key(key);
    answer.json(&json!({ "valid_minutes": 5 })).send().await.expect(201)
}

fn request(change: &[(&str, Value)]) -> Value {
    let mut request = json!({
        "csr_peer": "peer", "csr_gateway": "gateway",
        "kek_public": "07".repeat(32), "directory_incarnation": "00000000000000aa",
        "peer_address": "host-2:7411", "gateway_url": "https://host-2:7401",
        "region": "eu", "zone": "b",
        "clock": UtcTime::from_unix_ms(RealClock::new().wall_ms()).to_string(),
    });
    for (name, value) in change {
        request[*name] = value.clone();
    }
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_invited_lets_itself_in_once_and_is_listed() {
    let world = World::unsealed().await;
    let invited = invite(&world, "k-1").await;
    assert_eq!((&invited["node_id"], &invited["expires_in_ms"]), (&json!(2), &json!(300_000)));
    let token = text_of(&invited, "token");
    assert!(text_of(&invited, "command").ends_with(&format!("join --token {token}")));
    let read = JoinToken::decode(token).expect("a token");
    assert_eq!((read.node, read.cluster_id.as_str()), (2, "lh-test"));
    assert_eq!(read.gateways, ["https://127.0.0.1:7401"]);
    // The same key again shows no second secret.
    let again = world.post("/admin/members").bearer(&world.admin).key("k-1");
    let again = again.json(&json!({ "valid_minutes": 5 })).send().await.expect(409);
    assert_eq!(again["code"], "secret_shown_before");

    let join = |body: Value| world.post("/cluster/join").bearer(token).json(&body).send();
    for (change, status, code) in [
        (("kek_public", json!("07")), 400, "invalid_field"),
        (("directory_incarnation", json!("AA00000000000000")), 400, "invalid_field"),
        (("peer_address", json!("host-2")), 400, "invalid_field"),
        (("gateway_url", json!("http://host-2:7401")), 400, "invalid_field"),
        (("csr_peer", json!("bad")), 400, "invalid_field"),
        (("clock", json!("2020-01-01T00:00:00Z")), 409, "clock_differs"),
    ] {
        let refused = join(request(&[(change.0, change.1.clone())])).await.expect(status);
        assert_eq!(refused["code"], code, "{change:?}: {refused}");
    }
    let joined = join(request(&[])).await.expect(200);
    assert_eq!((&joined["node_id"], &joined["cluster_id"]), (&json!(2), &json!("lh-test")));
    assert_eq!(joined["peer_certificate"], "Peer(2) by peer");
    assert_eq!(joined["gateway_certificate"], "Gateway { host: \"host-2\" } by gateway");
    assert_eq!(joined["members"], json!([{ "node_id": 1, "peer_address": "127.0.0.1:7411" }]));
    // The same directory may ask again; another may not.
    join(request(&[])).await.expect(200);
    let other = join(request(&[("directory_incarnation", json!("00000000000000ab"))])).await;
    assert_eq!(other.expect(403)["code"], "unknown_ticket");

    let list = world.get("/admin/members").bearer(&world.auditor).send().await.expect(200);
    let second = &list["members"][1];
    assert_eq!((&second["node_id"], &second["part"]), (&json!(2), &json!("outside")));
    assert_eq!(second["joining"], true);
    assert_eq!(list["invited"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_withdrawn_or_never_made_lets_nobody_in() {
    let world = World::unsealed().await;
    let invited = invite(&world, "k-1").await;
    let token = text_of(&invited, "token").to_owned();
    let join = |token: &str| world.post("/cluster/join").bearer(token).json(&request(&[])).send();
    let forged = JoinToken {
        node: 2,
        secret: Secret::new([9; 32]),
        authority: [0; 32],
        cluster_id: "lh-test".to_owned(),
        gateways: vec!["https://127.0.0.1:7401".to_owned()],
    };
    let forged = forged.encode().expect("a token");
    join(forged.expose()).await.expect(401);
    let removed = world.ask(Method::DELETE, "/admin/members/2").bearer(&world.admin).send().await;
    removed.expect(204);
    join(&token).await.expect(401);
    let list = world.get("/admin/members").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(list["former"][0]["node_id"], 2);
    assert_eq!(list["former"][0]["had_joined"], false);
    // Its number is not given again.
    assert_eq!(invite(&world, "k-2").await["node_id"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_takes_nobodys_place() {
    let world = World::unsealed().await;
    let body = json!({ "learner": true, "replaces": 1 });
    let refused = world.post("/admin/members").bearer(&world.admin).json(&body).send().await;
    let refused = refused.expect(400);
    assert_eq!(refused["code"], "invalid_field");
    assert!(text_of(&refused, "detail").starts_with("learner: "), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_leave_nobody_is_refused_with_its_arithmetic() {
    let world = World::unsealed().await;
    let ask = |method: Method, path: &'static str| {
        world.ask(method, path).bearer(&world.admin).json(&json!({}))
    };
    for (method, path, status, code) in [
        (Method::DELETE, "/admin/members/1", 409, "last_voter"),
        (Method::DELETE, "/admin/members/1?force=true", 409, "last_voter"),
        (Method::DELETE, "/admin/members/9", 404, "unknown_member"),
        (Method::DELETE, "/admin/members/01", 404, "unknown_member"),
        (Method::POST, "/admin/members/9/promote", 404, "unknown_member"),
        (Method::POST, "/admin/nodes/1/drain", 409, "quorum_would_be_lost"),
        (Method::POST, "/admin/nodes/9/drain", 404, "unknown_member"),
        (Method::POST, "/admin/cluster/transfer-leader", 409, "change_not_possible"),
    ] {
        let refused = ask(method.clone(), path).send().await.expect(status);
        assert_eq!(refused["code"], code, "{method} {path}: {refused}");
    }
    let authorities = world.get("/cluster/ca.pem").send().await;
    assert!(authorities.text.starts_with("-----BEGIN CERTIFICATE-----"), "{authorities:?}");
}
