//! Tokens: how they are asked for, what they open, and when they stop to.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway::routes::{Credential, operations};
use http::{Method, Request};
use protocol::oauth::token::MAX_FORM_BYTES;

use crate::world::{World, text_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_endpoint_speaks_oauth() {
    let (world, app) = World::ready(&[]).await;
    let token = world.token(&app, Some("license:return+license:checkout")).await;
    let body = token.expect(200);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(body["scope"], "license:checkout license:return");
    assert_eq!(token.header("cache-control"), Some("no-store"));

    let basic = STANDARD.encode(format!("{}:{}", app.client_id, app.client_secret));
    let answer = world
        .post("/oauth/token")
        .header("authorization", &format!("Basic {basic}"))
        .body("grant_type=client_credentials")
        .send()
        .await;
    answer.expect(200);

    let id = &app.client_id;
    let secret = &app.client_secret;
    let table = [
        (
            format!("grant_type=password&client_id={id}&client_secret={secret}"),
            400,
            "unsupported_grant_type",
        ),
        (format!("client_id={id}&client_secret={secret}"), 400, "invalid_request"),
        (
            format!(
                "grant_type=client_credentials&client_id={id}&client_secret={secret}&scope=all"
            ),
            400,
            "invalid_scope",
        ),
        (
            format!("grant_type=client_credentials&client_id={id}&client_secret=wrong"),
            401,
            "invalid_client",
        ),
        (
            format!("grant_type=client_credentials&client_id=nobody&client_secret={secret}"),
            401,
            "invalid_client",
        ),
        ("{\"grant_type\":\"client_credentials\"}".to_owned(), 400, "invalid_request"),
    ];
    for (form, status, error) in table {
        let answer = world.post("/oauth/token").body(form.clone()).send().await;
        assert_eq!(answer.expect(status)["error"], error, "{form}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{form}");
    }
    let answer = world.post("/oauth/token").body("x".repeat(MAX_FORM_BYTES + 1)).send().await;
    assert_eq!(answer.expect(413)["error"], "invalid_request");
    let keys = world.get("/.well-known/jwks.json").send().await.expect(200);
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "RS256 and EdDSA");
    let metadata = world.get("/.well-known/oauth-authorization-server").send().await.expect(200);
    assert_eq!(metadata["token_endpoint"], "https://127.0.0.1:7401/oauth/token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_refuses_what_is_not_its_credential() {
    let (world, app) = World::ready(&[]).await;
    let read_only = world.token(&app, Some("license:read")).await.expect(200);
    let read_only = text_of(&read_only, "access_token");
    let nonsense = "eyJhbGciOiJub25lIn0.e30.";
    for operation in operations() {
        let method: Method = operation.method.http();
        let path = operation.path_with(str::to_owned);
        let by_key = matches!(operation.credential, Credential::ApiKey(_));
        let ask = |token: Option<&str>| {
            let ask = world.ask(method.clone(), &path);
            match token {
                Some(token) if by_key => ask.header("x-api-key", token),
                Some(token) => ask.bearer(token),
                None => ask,
            }
        };
        let mut want = Vec::new();
        match operation.credential {
            Credential::Nobody | Credential::Client | Credential::Face => continue,
            Credential::JoinToken => {
                want.push((Some(world.admin.as_str()), 401));
                want.push((Some("lhj1_AAAA"), 401));
            }
            Credential::AccessToken(scope) => {
                want.push((Some(world.admin.as_str()), 401));
                if scope.name() != "license:read" {
                    want.push((Some(read_only), 403));
                }
            }
            Credential::Operator(role) | Credential::ApiKey(role) => {
                want.push((Some(app.token.as_str()), 401));
                if role != lease::command::Role::Auditor {
                    want.push((Some(world.auditor.as_str()), 403));
                }
                if role == lease::command::Role::Admin {
                    want.push((Some(world.operator.as_str()), 403));
                }
            }
        }
        want.extend([(None, 401), (Some(nonsense), 401), (Some("lh_op_short"), 401)]);
        want.push((Some("0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"), 401));
        for (token, status) in want {
            let answer = ask(token).send().await;
            assert_eq!(answer.status.as_u16(), status, "{} {token:?}", operation.id);
            let challenges = answer.header("www-authenticate").is_some();
            assert!(challenges || status == 403, "{} {token:?}", operation.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_secret_ends_the_old_tokens_at_once() {
    let (world, app) = World::ready(&[]).await;
    world.checkout(&app.token, "alice").send().await.expect(200);
    let path = format!("/admin/apps/{}/rotate-secret", app.app_id);
    let rotated = world.post(&path).bearer(&world.admin).send().await.expect(200);
    assert_eq!(rotated["secret_generation"], 2);
    let refused = world.checkout(&app.token, "alice").send().await;
    assert_eq!(refused.expect(401)["code"], "invalid_token");
    assert!(refused.header("www-authenticate").is_some_and(|it| it.contains("invalid_token")));
    world.token(&app, None).await.expect(401);
    let app =
        crate::world::App { client_secret: text_of(&rotated, "client_secret").to_owned(), ..app };
    let token = world.token(&app, None).await.expect(200);
    world.checkout(text_of(&token, "access_token"), "alice").send().await.expect(200);

    let path = format!("/admin/apps/{}", app.app_id);
    world.ask(Method::DELETE, &path).bearer(&world.admin).send().await.expect(204);
    let refused = world.checkout(text_of(&token, "access_token"), "alice").send().await;
    refused.expect(401);
    world.token(&app, None).await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_node_says_so_and_lives() {
    let world = World::founded().await;
    let answer = world.checkout("token", "alice").send().await;
    let problem = answer.expect(503);
    assert_eq!(problem["code"], "sealed");
    assert_eq!(problem["outcome"], "not_executed");
    assert!(answer.header("retry-after").is_some());
    let answer = world
        .post("/oauth/token")
        .body("grant_type=client_credentials&client_id=a&client_secret=b")
        .send()
        .await;
    for answer in [answer, world.get("/.well-known/jwks.json").send().await] {
        let body = answer.expect(503);
        assert_eq!(body["error"], "temporarily_unavailable");
        assert_eq!(body["outcome"], "not_executed");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(world.get("/livez").send().await.status.as_u16(), 200);
    let ready = world.get("/readyz?verbose").send().await;
    assert_eq!(ready.status.as_u16(), 503);
    assert!(ready.text.contains("[-]unsealed failed"), "{}", ready.text);
    world.keys.unseal(crate::world::keys());
    let ready = world.get("/readyz?verbose").send().await;
    assert_eq!(
        ready.text,
        "[+]recovered ok\n[+]unsealed ok\n[+]staying ok\n[+]undamaged ok\n\
         [+]quorum ok\nreadyz check passed\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_stall_their_bodies_are_in_each_others_way_only() {
    let (world, app) = World::ready(&[]).await;
    let stalled = || {
        let never = futures_util::stream::pending::<Result<bytes::Bytes, Infallible>>();
        let request = Request::post("/oauth/token").body(Body::from_stream(never));
        Box::pin(world.gateway.answer(request.expect("a request")))
    };
    let mut waiting: Vec<Pin<Box<_>>> = (0..256).map(|_| stalled()).collect();
    for answer in &mut waiting {
        assert!(futures_util::poll!(answer).is_pending());
    }
    let refused = world.token(&app, None).await;
    assert_eq!(refused.expect(503)["error"], "temporarily_unavailable");
    assert!(refused.header("retry-after").is_some());
    world.checkout(&app.token, "alice").send().await.expect(200);
    drop(waiting);
    world.token(&app, None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_node_answers_its_watchers() {
    let world = World::with_requests_in_flight(0).await;
    world.keys.unseal(crate::world::keys());
    for (path, status) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/openapi.json", 503)]
    {
        assert_eq!(world.get(path).send().await.status.as_u16(), status, "{path}");
    }
}
