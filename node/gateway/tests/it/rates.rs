//! How often a caller may ask, as callers see it: headers on every counted answer, 429 in the words
//! of each part of the face, and nobody else turned away.

use gateway::{Rate, RateLimits};
use serde_json::json;

use crate::world::{App, World};

async fn bounded(app: Option<Rate>, address: Option<Rate>) -> World {
    let world = World::with_rates(RateLimits { app, address }).await;
    world.keys.unseal(crate::keys::keys());
    world
}

async fn with_app(world: &World) -> App {
    world.pin_vendor().await.expect(201);
    world.import(&world.sample(&[])).await.expect(201);
    world.register().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_sees_where_it_stands_and_is_told_to_wait() {
    let world = bounded(Rate::new(1, 3), None).await;
    let app = with_app(&world).await;
    let discover = || world.get("/api/v1/licenses/discover").bearer(&app.token);
    // The clock goes on while one asks, so a request more may be let in.
    let mut refused = None;
    for asked in 0..100 {
        let answer = discover().send().await;
        assert_eq!(answer.header("ratelimit-policy"), Some("\"app\";q=3;w=3"), "{answer:?}");
        let standing = answer.header("ratelimit").expect("a standing").to_owned();
        assert!(standing.starts_with("\"app\";r="), "{standing}");
        if answer.status.as_u16() == 429 {
            assert!(asked >= 3, "the burst is let in");
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status.as_u16(), 200);
    }
    let refused = refused.expect("a refusal");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let body = refused.json();
    assert_eq!((&body["code"], &body["outcome"]), (&json!("rate_limited"), &json!("not_executed")));
    let operator = world.get("/admin/packages").bearer(&world.admin).send().await;
    assert_eq!(operator.status.as_u16(), 200, "operators are not counted");
    assert_eq!(operator.header("ratelimit"), None);
    world.clock.pass(std::time::Duration::from_secs(3));
    assert_eq!(discover().send().await.status.as_u16(), 200, "the bucket fills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_apart_by_address_and_told_in_the_words_of_the_face() {
    let table = [
        (
            "/api/activate",
            429,
            json!({"error": "Too many requests", "message": "Too many requests"}),
        ),
        ("/v1/license/activate", 429, json!({"error": "rate_limited"})),
        ("/v1/activate", 429, json!({"ok": false})),
        ("/oauth/token", 429, json!({"error": "temporarily_unavailable"})),
    ];
    for (path, status, words) in table {
        let world = bounded(None, Rate::new(1, 1)).await;
        let ask = |address: &'static str| world.post(path).from(address).body("{}");
        let first = ask("192.0.2.1").send().await;
        assert_ne!(first.status.as_u16(), status, "{path}: {first:?}");
        assert_eq!(first.header("ratelimit-policy"), Some("\"address\";q=1;w=1"), "{path}");
        let mut refused = ask("192.0.2.1").send().await;
        // The clock goes on while one asks.
        while refused.status.as_u16() != status {
            refused = ask("192.0.2.1").send().await;
        }
        for (member, value) in words.as_object().expect("words") {
            assert_eq!(&refused.json()[member], value, "{path}: {refused:?}");
        }
        assert!(refused.header("retry-after").is_some(), "{path}");
        let other = ask("192.0.2.2").send().await;
        assert_ne!(other.status.as_u16(), status, "{path}: another address");
        for probe in ["/livez", "/readyz", "/metrics"] {
            let answer = world.get(probe).from("192.0.2.1").send().await;
            assert_eq!(answer.status.as_u16(), 200, "{probe}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_tokens_is_a_stranger() {
    let world = bounded(None, Rate::new(1, 1)).await;
    let guess = || world.get("/admin/packages").bearer("lh_op_guess").from("192.0.2.1");
    let first = guess().send().await;
    assert_eq!(first.status.as_u16(), 401);
    let mut answer = guess().send().await;
    while answer.status.as_u16() == 401 {
        answer = guess().send().await;
    }
    assert_eq!(answer.expect(429)["code"], "rate_limited");
    let known = world.get("/admin/packages").bearer(&world.admin).from("192.0.2.1").send().await;
    assert_eq!(known.status.as_u16(), 200, "who has a token is not kept out by who guesses");
}
