//! Pools and the reports of use and cost over the admin API, beside checkouts that use them.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::issued::issue;
use crate::world::{Answer, App, PACKAGE, PRODUCT, World, text_of};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl World {
    async fn pools(&self, method: Method, path: &str, body: &Value) -> Answer {
        let ask = self.ask(method, path).bearer(&self.operator);
        if body.is_null() { ask.send().await } else { ask.json(body).send().await }
    }

    async fn create_pool(&self, pool: &str, seats: u32, reserved_for: Value) -> Answer {
        let body = json!({ "package_id": PACKAGE, "pool": pool, "seats": seats,
            "reserved_for": reserved_for });
        self.pools(Method::POST, "/admin/pools", &body).await
    }

    async fn seat(&self, app: &App, user: &str, host: &str, more: Value) -> Answer {
        let mut body = json!({ "product_id": PRODUCT, "user": user, "hostname": host,
            "metadata": { "version": "8.2.1" } });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        self.post("/api/v1/licenses/checkout").bearer(&app.token).json(&body).send().await
    }

    async fn report(&self, path: &str) -> Value {
        self.get(path).bearer(&self.auditor).send().await.expect(200)
    }
}

fn at(pool: &str) -> String {
    format!("/admin/pools/{PACKAGE}/{pool}")
}

/// A call, its status, and the code or the field that is to blame; empty: it is done.
async fn check(world: &World, calls: &[(Method, &str, Value, u16, &str)]) {
    for (method, path, body, status, blames) in calls {
        let answer = world.pools(method.clone(), path, body).await;
        assert_eq!(answer.status.as_u16(), *status, "{method} {path} {body}: {answer:?}");
        if !blames.is_empty() {
            let problem = answer.json();
            let found = [&problem["code"], &problem["field"]];
            assert!(found.iter().any(|it| **it == **blames), "{method} {path} {body}: {problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_are_made_sized_kept_and_removed() {
    let (world, _app) = World::ready(&[]).await;
    let create =
        |pool: &str, seats: u32| json!({ "package_id": PACKAGE, "pool": pool, "seats": seats });
    let move_seats = |from: Value, to: Value, quantity: u32| {
        let package = PACKAGE;
        json!({ "package_id": package, "from_pool": from, "to_pool": to, "quantity": quantity })
    };
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let team = at("team");
    let transfer = "/admin/licenses/transfer";
    let none = Value::Null;
    let elsewhere = json!({ "package_id": "nowhere", "pool": "team", "seats": 1 });
    let unknown_app = json!({ "reserved_for": { "apps": ["app-0000000000000001"] }, "seats": 4 });
    check(
        &world,
        &[
            (get.clone(), &team, none.clone(), 404, "unknown_pool"),
            (get.clone(), "/admin/pools/nowhere/team", none.clone(), 404, "unknown_package"),
            (put.clone(), &team, json!({ "seats": 3 }), 404, "unknown_pool"),
            (delete.clone(), &team, none.clone(), 404, "unknown_pool"),
            (post.clone(), "/admin/pools", create("team", 0), 400, "seats"),
            (post.clone(), "/admin/pools", create("team", 21), 409, "not_enough_free"),
            (post.clone(), "/admin/pools", elsewhere, 404, "unknown_package"),
            (post.clone(), "/admin/pools", create("team", 3), 201, ""),
            (post.clone(), "/admin/pools", create("team", 3), 409, "pool_exists"),
            (put.clone(), &team, json!({ "seats": 4 }), 200, ""),
            (put.clone(), &team, unknown_app, 404, "unknown_app"),
            (
                put.clone(),
                &team,
                json!({ "reserved_for": { "apps": ["x"] } }),
                400,
                "reserved_for.apps",
            ),
            (put.clone(), &team, json!({ "share": 4 }), 400, "share"),
            (post.clone(), transfer, move_seats(none.clone(), json!("other"), 2), 200, ""),
            (
                post.clone(),
                transfer,
                move_seats(json!("team"), json!("other"), 9),
                409,
                "not_enough_free",
            ),
            (
                post.clone(),
                transfer,
                move_seats(json!("nobodys"), json!("other"), 1),
                404,
                "unknown_pool",
            ),
            (post.clone(), transfer, move_seats(json!("team"), json!("other"), 0), 400, "quantity"),
            (
                post.clone(),
                transfer,
                json!({ "package_id": PACKAGE, "from_pool": "other", "seats": 2 }),
                200,
                "",
            ),
            (get.clone(), &at("other"), none.clone(), 404, "unknown_pool"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_with_seats_out_stays() {
    let (world, app) = World::ready(&[]).await;
    world.create_pool("team", 4, json!({})).await.expect(201);
    let (get, delete) = (Method::GET, Method::DELETE);
    let (team, none) = (at("team"), Value::Null);
    let lease = world.seat(&app, "alice", "host-1", json!({ "pool": "team" })).await.expect(200);
    assert_eq!(lease["pool"], "team");
    let view = world.report(&team).await;
    assert_eq!((&view["seats"], &view["in_use"], &view["free"]), (&json!(4), &json!(1), &json!(3)));
    assert_eq!((&view["usage"]["peak"], &view["usage"]["granted"]), (&json!(1), &json!(1)));
    assert!(view["usage"]["peak_at"].is_string(), "{view}");
    check(&world, &[(delete.clone(), &team, none.clone(), 409, "pool_in_use")]).await;
    world.give_back(&app.token, &lease).send().await.expect(200);
    check(
        &world,
        &[(delete, &team, none.clone(), 204, ""), (get, &team, none, 404, "unknown_pool")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auditors_look_at_pools_and_do_not_change_them() {
    let (world, app) = World::ready(&[]).await;
    world.create_pool("team", 2, json!({})).await.expect(201);
    let body = json!({ "seats": 3 });
    for (token, status) in [(&world.auditor, 403), (&app.token, 401), (&world.operator, 200)] {
        let answer = world.ask(Method::PUT, &at("team")).bearer(token).json(&body).send().await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
    for path in ["/admin/pools", "/admin/usage", "/admin/usage/refusals", "/admin/usage/costs"] {
        world.report(path).await;
        assert_eq!(world.get(path).bearer(&app.token).send().await.status.as_u16(), 401, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_made_once_under_a_key() {
    let (world, _app) = World::ready(&[]).await;
    let body = json!({ "package_id": PACKAGE, "pool": "team", "seats": 2 });
    let ask = || world.post("/admin/pools").bearer(&world.operator).key("k1");
    ask().json(&body).send().await.expect(201);
    let change = world.ask(Method::PUT, &at("team")).bearer(&world.operator).key("k2");
    change.json(&json!({ "seats": 5 })).send().await.expect(200);
    // The answer of the first call, as the pool is now; it is not made smaller again.
    assert_eq!(ask().json(&body).send().await.expect(201)["seats"], 5);
    let other = json!({ "package_id": PACKAGE, "pool": "team", "seats": 3 });
    assert_eq!(ask().json(&other).send().await.status.as_u16(), 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_somebody_is_theirs_first_and_alone() {
    let (world, app) = World::ready(&[]).await;
    let kept =
        json!({ "users": ["bob", "Alice"], "hosts": ["ci-1"], "apps": ["device", app.app_id] });
    let made = world.create_pool("mixed", 1, kept.clone()).await.expect(201);
    assert_eq!(made["reserved_for"]["users"], json!(["Alice", "bob"]));
    assert_eq!(made["reserved_for"]["apps"], json!([app.app_id, "device"]));
    let rule = json!({ "reserved_for": { "users": ["Alice"] }, "description": "for Alice" });
    let view = world.pools(Method::PUT, &at("mixed"), &rule).await.expect(200);
    assert_eq!(view["reserved_for"], json!({ "users": ["Alice"] }));
    let denied = world.seat(&app, "bob", "ci-1", json!({ "pool": "mixed" })).await;
    assert_eq!(denied.json()["reason"], "pool_reserved", "{denied:?}");
    // Without a pool named: hers for her, and the answer says so; none for him.
    let hers = world.seat(&app, "alice", "host-1", json!({})).await.expect(200);
    assert_eq!(hers["pool"], "mixed");
    let his = world.seat(&app, "bob", "host-1", json!({})).await.expect(200);
    assert_eq!(his.get("pool"), None);
    // What is left out stays; an empty text takes the note away.
    let view = world.pools(Method::PUT, &at("mixed"), &json!({ "description": "" })).await;
    let view = view.expect(200);
    assert_eq!(
        (view["reserved_for"].clone(), view.get("description")),
        (json!({ "users": ["Alice"] }), None)
    );
    let view = world.pools(Method::PUT, &at("mixed"), &json!({ "reserved_for": {} })).await;
    assert_eq!(view.expect(200).get("reserved_for"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_come_page_by_page() {
    let (world, _app) = World::ready(&[]).await;
    for pool in ["b", "a", "a-1", "a.1"] {
        world.create_pool(pool, 1, json!({})).await.expect(201);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world.report(&format!("/admin/pools?limit=2{cursor}")).await;
        let pools = page["pools"].as_array().expect("pools");
        seen.extend(pools.iter().map(|pool| pool["pool"].as_str().unwrap_or("-").to_owned()));
        match page.get("next").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!(seen, ["-", "a", "a-1", "a.1", "b"]);
    let none = world.report("/admin/pools?package_id=nowhere").await;
    assert_eq!(none, json!({ "pools": [] }));
    for (query, status) in [("limit=0", 400), ("limit=1001", 400), ("pool=a", 400)] {
        let answer =
            world.get(&format!("/admin/pools?{query}")).bearer(&world.auditor).send().await;
        assert_eq!(answer.status.as_u16(), status, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn use_refusals_and_costs_are_reported() {
    let (world, app) = World::ready(&[]).await;
    world.create_pool("team", 2, json!({ "hosts": ["ci-1"] })).await.expect(201);
    for number in 0..6 {
        world.seat(&app, &format!("user-{number}"), "host-1", json!({})).await.expect(200);
    }
    let lease = world.seat(&app, "ci", "ci-1", json!({})).await.expect(200);
    world.give_back(&app.token, &lease).send().await.expect(200);
    for _ in 0..2 {
        world.seat(&app, "eve", "host-1", json!({ "pool": "team" })).await;
    }
    world.seat(&app, "eve", "host-1", json!({ "features": ["unheard-of"] })).await;

    let usage = world.report("/admin/usage").await;
    let package = &usage["packages"][0];
    for (field, want) in [
        ("seats", 20),
        ("in_use", 6),
        ("peak", 7),
        ("granted_commit", 5),
        ("granted_overage", 2),
        ("returned", 1),
    ] {
        assert_eq!(package[field], want, "{field}: {package}");
    }
    assert!(package["last_taken_at"].is_string() && package.get("peak_at").is_none(), "{package}");
    let pools = package["pools"].as_array().expect("pools");
    let peaks: Vec<_> = pools.iter().map(|pool| pool["usage"]["peak"].clone()).collect();
    assert_eq!(peaks, [json!(6), json!(1)]);

    let metrics = world.get("/metrics").send().await.text;
    for line in [
        format!("package_seats_peak{{package=\"{PACKAGE}\"}} 7"),
        format!("pool_seats{{package=\"{PACKAGE}\",pool=\"team\"}} 2"),
        format!("pool_seats_in_use{{package=\"{PACKAGE}\",pool=\"\"}} 6"),
        format!("pool_seats_peak{{package=\"{PACKAGE}\",pool=\"team\"}} 1"),
    ] {
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }

    let refusals = world.report("/admin/usage/refusals").await;
    let row = |reason: &str, count: u32| -> Value {
        json!({ "package_id": PACKAGE, "reason": reason, "count": count })
    };
    assert_eq!(refusals["refusals"], json!([row("pool_reserved", 2), row("unknown_feature", 1)]));
    let page = world.report("/admin/usage/refusals?limit=1").await;
    let next = text_of(&page, "next").replace('/', "%2F");
    let page = world.report(&format!("/admin/usage/refusals?limit=1&cursor={next}")).await;
    assert_eq!(page, json!({ "refusals": [row("unknown_feature", 1)] }));

    let costs = world.report("/admin/usage/costs").await;
    let cost = &costs["packages"][0];
    assert_eq!(
        [&cost["commit_fee"], &cost["overage"], &cost["total"], &cost["currency"]],
        [&json!(5_000.0), &json!(1_000.0), &json!(6_000.0), &json!("EUR")],
        "{costs}"
    );
    let total = json!({ "currency": "EUR", "commit_fee": 5_000.0, "overage": 1_000.0,
        "total": 6_000.0 });
    assert_eq!(costs["totals"], json!([total]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_csv_where_it_is_asked_for() {
    let (world, app) = World::ready(&[]).await;
    world.create_pool("team", 2, json!({})).await.expect(201);
    world.seat(&app, "alice", "host-1", json!({ "pool": "team" })).await.expect(200);
    world.seat(&app, "alice", "host-1", json!({ "pool": "none" })).await;
    for (path, header, rows) in [
        ("/admin/usage", "package_id,product_id,scope,pool,seats,in_use,peak,", 3),
        ("/admin/usage/refusals", "package_id,reason,count\r\n", 1),
        ("/admin/usage/costs", "month,package_id,product_id,currency,commit_fee,", 1),
        ("/admin/usage/unused", "kind,package_id,pool,license_id,seats,last_used_at,", 0),
    ] {
        let by_word = world.get(&format!("{path}?format=csv")).bearer(&world.auditor).send().await;
        let accepted = world.get(path).bearer(&world.auditor).header("accept", "text/csv");
        for answer in [by_word, accepted.send().await] {
            assert_eq!(answer.status.as_u16(), 200, "{path}: {answer:?}");
            let media_type = answer.header("content-type");
            assert!(media_type.is_some_and(|it| it.starts_with("text/csv")), "{answer:?}");
            assert!(answer.text.starts_with(header), "{path}: {}", answer.text);
            assert_eq!(answer.text.matches("\r\n").count(), rows + 1, "{path}: {}", answer.text);
        }
        let word = world.get(&format!("{path}?format=json")).bearer(&world.auditor);
        word.header("accept", "text/csv").send().await.expect(200);
        let wrong = world.get(&format!("{path}?format=xml")).bearer(&world.auditor).send().await;
        assert_eq!(wrong.status.as_u16(), 400, "{path}");
    }
    let usage = world.get("/admin/usage?format=csv").bearer(&world.auditor).send().await.text;
    let last = usage.lines().last().expect("a row");
    assert!(last.contains(",pool,team,2,1,1,"), "{usage}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_uses_is_found() {
    let (world, app) = World::ready(&[]).await;
    world.create_pool("idle", 1, json!({})).await.expect(201);
    let unused = issue(&world, "device", json!({}), json!({ "email": "a@b.example" })).await;
    let listed = async |query: &str| {
        let list = world.report(&format!("/admin/usage/unused{query}")).await;
        let unused = list["unused"].as_array().expect("a list").clone();
        let name = |view: &Value| {
            let names = ["license_id", "pool", "package_id"];
            let name = names.iter().find_map(|name| view[name].as_str()).expect("a name");
            format!("{} {name}", view["kind"].as_str().expect("a kind"))
        };
        unused.iter().map(name).collect::<Vec<_>>()
    };
    let none: [String; 0] = [];
    assert_eq!(listed("?days=1").await, none, "nothing is a day old");
    world.clock.pass(DAY * 2);
    let license = format!("license {}", unused.license_id);
    assert_eq!(listed("?days=1").await, [format!("package {PACKAGE}"), license.clone()]);
    assert_eq!(listed("").await, none, "nothing is thirty days old");
    // A seat that is out makes the package used, and its other pool unused by itself.
    let lease = world.seat(&app, "alice", "host-1", json!({})).await;
    let lease = match lease.status.as_u16() {
        // The token ended meanwhile.
        401 => {
            let token = world.token(&app, None).await.expect(200);
            let app = App { token: text_of(&token, "access_token").to_owned(), ..app };
            world.seat(&app, "alice", "host-1", json!({})).await.expect(200)
        }
        _ => lease.expect(200),
    };
    assert!(lease["lease_id"].is_string());
    assert_eq!(listed("?days=1").await, ["pool idle".to_owned(), license.clone()]);
    let page = world.report("/admin/usage/unused?days=1&limit=1").await;
    assert_eq!(page["unused"][0]["kind"], "pool");
    let next = text_of(&page, "next").replace('/', "%2F");
    assert_eq!(listed(&format!("?days=1&limit=1&cursor={next}")).await, [license]);
    for query in ["?days=0", "?days=3661", "?cursor=elsewhere"] {
        let path = format!("/admin/usage/unused{query}");
        let answer = world.get(&path).bearer(&world.auditor).send().await;
        assert_eq!(answer.status.as_u16(), 400, "{query}");
    }
}
