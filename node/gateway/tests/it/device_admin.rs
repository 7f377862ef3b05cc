//! The admin API of the `device` protocol, as its tools use it.

use http::Method;
use protocol::device::key::LicenseKey;
use serde_json::{Value, json};

use crate::device::shop::Shop;
use crate::world::{PACKAGE, PRODUCT, text_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_added_banned_and_listed() {
    let shop = Shop::open().await;
    let listed = shop.get("/api/clients").await.expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    let client = &listed[0];
    assert_eq!(&client["email"], &json!("owner@example.com"));
    assert_eq!(&client["status"], &json!("active"));
    assert_eq!(client["banned_at"], "0001-01-01T00:00:00Z");
    let twice = shop.post("/api/clients", json!({ "email": "Owner@Example.com" })).await;
    assert_eq!(twice.expect(400), json!({ "error": "client already exists" }));
    for (body, message) in [
        (json!({ "email": "nobody" }), "invalid email address"),
        (json!({}), "invalid email address"),
    ] {
        assert_eq!(shop.post("/api/clients", body).await.expect(400)["error"], message);
    }
    let unknown = shop.post("/api/clients", json!({ "email": "a@b.cd", "nonsense": 1 })).await;
    assert!(text_of(&unknown.expect(400), "error").starts_with("Invalid request body: "));
    let path = format!("/api/clients/{}", shop.client_id);
    let banned = shop.post(&format!("{path}/ban"), json!({ "reason": "fraud" })).await.expect(200);
    assert_eq!((&banned["status"], &banned["ban_reason"]), (&json!("banned"), &json!("fraud")));
    let free = shop.admin(Method::POST, &format!("{path}/unban")).send().await.expect(200);
    assert_eq!((&free["status"], free.get("ban_reason")), (&json!("active"), None));
    let nobody = shop.post("/api/clients/nobody/ban", json!({})).await;
    assert_eq!(nobody.expect(404), json!({ "error": "client not found" }));
    let nothing = shop.post(&format!("{path}/promote"), json!({})).await;
    assert_eq!((nothing.status.as_u16(), nothing.text.as_str()), (404, "404 page not found\n"));
    assert_eq!(nothing.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_license_shows_its_key_once() {
    let shop = Shop::open().await;
    let license = shop.license(json!({ "check_mode": "custom" })).await;
    let key = text_of(&license, "license_key");
    assert!(LicenseKey::normalise(key).is_ok() && key.len() == 47, "{key}");
    assert_eq!((&license["max_devices"], &license["package_id"]), (&json!(2), &json!(PACKAGE)));
    assert_eq!(license["check_interval_seconds"], 86_400);
    assert_eq!(license["is_activated"], false);
    let listed = shop.get("/api/licenses").await.expect(200);
    let masked = text_of(&listed[0], "license_key");
    assert!(LicenseKey::normalise(masked).is_err() && masked.ends_with(&key[43..]), "{masked}");
    let device = shop.device(&license, "one");
    device.activate(&shop).await.expect(200);
    let listed = shop.get("/api/licenses").await.expect(200);
    assert_eq!((&listed[0]["is_activated"], &listed[0]["device_count"]), (&json!(true), &json!(1)));
    assert!(listed[0]["devices"].get(&device.fingerprint).is_some());

    let client = shop.client_id.as_str();
    let good = json!({
        "client_id": client, "plan_slug": "gold", "duration_days": 1, "max_devices": 1,
    });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let table = [
        (with("client_id", json!("")), 400, "client_id is required"),
        (with("client_id", json!("nobody")), 404, "client not found"),
        (with("duration_days", json!(0)), 400, "duration_days must be greater than zero"),
        (with("max_devices", json!(0)), 400, "max_devices must be greater than zero"),
        (with("plan_slug", json!("")), 400, "plan_slug is required"),
        (with("product_id", json!("nothing")), 404, "product not found"),
        (
            with("package_id", json!("nothing")),
            400,
            "package_id: no package in force is for this product; name one",
        ),
        (
            with("check_mode", json!("hourly")),
            400,
            "check_mode must be none, each_execution, monthly, yearly or custom",
        ),
    ];
    for (body, status, message) in table {
        let answer = shop.post("/api/licenses", body.clone()).await;
        assert_eq!(answer.expect(status), json!({ "error": message }), "{body}");
    }
    // The only package need not be named.
    shop.post("/api/licenses", good).await.expect(201);
    let id = text_of(&license, "id");
    for (path, status) in [
        (format!("/api/licenses/{id}/revoke"), 200),
        (format!("/api/licenses/{id}/revoke"), 200),
        (format!("/api/licenses/{id}/reinstate"), 200),
        (format!("/api/licenses/{}/revoke", shop.client_id), 404),
    ] {
        shop.post(&path, json!({ "reason": "r" })).await.expect(status);
    }
    shop.change(&license, "suspend").await;
    let path = format!("/api/licenses/{id}/reinstate");
    shop.post(&path, json!({})).await.expect(409);
    shop.get(&format!("/api/licenses/{}/activations", shop.client_id)).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_makes_things_once() {
    let shop = Shop::open().await;
    let body = json!({
        "client_id": shop.client_id, "plan_slug": "gold", "duration_days": 1, "max_devices": 1,
    });
    let ask = |key: &str, path: &str, body: &Value| {
        shop.admin(Method::POST, path).key(key).json(body).send()
    };
    ask("k1", "/api/licenses", &body).await.expect(201);
    let again = ask("k1", "/api/licenses", &body).await.expect(409);
    assert!(text_of(&again, "error").starts_with("This was done before"), "{again}");
    let mut other = body.clone();
    other["max_devices"] = json!(2);
    ask("k1", "/api/licenses", &other).await.expect(422);
    assert_eq!(shop.get("/api/licenses").await.expect(200).as_array().map(Vec::len), Some(1));

    let product = json!({ "name": "Studio", "slug": "studio" });
    let first = ask("k2", "/api/products", &product).await.expect(201);
    assert_eq!(ask("k2", "/api/products", &product).await.expect(201), first);
    let plan = json!({ "name": "Gold", "slug": "gold" });
    let first = ask("k3", "/api/products/studio/plans", &plan).await.expect(201);
    assert_eq!(ask("k3", "/api/products/studio/plans", &plan).await.expect(201), first);
    ask("k4", "/api/products/studio/plans", &plan).await.expect(409);
    let path = "/api/products/studio/plans/gold";
    for _ in 0..2 {
        let remove = shop.admin(Method::DELETE, path).key("k5");
        assert_eq!(remove.send().await.expect(200), json!({ "message": "plan deleted" }));
    }
    shop.delete(path).await.expect(404);
    let client = json!({ "email": "new@example.com" });
    let first = ask("k6", "/api/clients", &client).await.expect(201);
    assert_eq!(ask("k6", "/api/clients", &client).await.expect(201), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_is_kept_and_a_license_keeps_its_copy() {
    let shop = Shop::open().await;
    let product = json!({ "name": "Studio", "slug": "studio", "description": "draws" });
    let product = shop.post("/api/products", product).await.expect(201);
    let twice = json!({ "name": "Other", "slug": "studio" });
    let twice = shop.post("/api/products", twice).await.expect(409);
    assert_eq!(twice, json!({ "error": "product already exists" }));
    let at = format!("/api/products/{}", text_of(&product, "id"));
    assert_eq!(shop.get("/api/products/studio").await.expect(200), product);
    let renamed = shop.put(&at, json!({ "name": "Studio 2" })).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["description"]), (&json!("Studio 2"), &json!("draws")));

    let plan = json!({ "name": "Pro", "slug": "pro", "price": 900, "is_active": true });
    let plan = shop.post(&format!("{at}/plans"), plan).await.expect(201);
    assert_eq!((&plan["currency"], &plan["billing_cycle"]), (&json!("USD"), &json!("monthly")));
    let feature = json!({ "name": "Export", "slug": "export", "category": "api" });
    shop.post(&format!("{at}/features"), feature).await.expect(201);
    for (slug, more) in [("create", json!({ "permission": "limit", "limit": 10 })), {
        ("delete", json!({ "permission": "deny" }))
    }] {
        let mut scope = more;
        scope["name"] = json!(slug);
        scope["slug"] = json!(slug);
        shop.post(&format!("{at}/features/export/scopes"), scope).await.expect(201);
    }
    let included = json!({
        "feature_id": "export", "enabled": true,
        "scope_overrides": { "delete": { "permission": "allow" } },
    });
    shop.post(&format!("{at}/plans/pro/features"), included).await.expect(201);
    let path = format!("/api/entitlements?product_id=studio&plan_id={}", text_of(&plan, "id"));
    let entitlements = shop.get(&path).await.expect(200);
    let scopes = &entitlements["features"]["export"]["scopes"];
    assert_eq!(&scopes["create"]["permission"], &json!("limit"));
    assert_eq!(&scopes["create"]["limit"], &json!(10));
    assert_eq!(scopes["delete"]["permission"], "allow", "the plan's word goes first");
    shop.get("/api/entitlements?product_id=studio").await.expect(400);

    let license = shop.license(json!({ "product_id": "studio", "plan_slug": "pro" })).await;
    assert_eq!(license["entitlements"], entitlements);
    let changed = json!({ "enabled": false });
    shop.put(&format!("{at}/plans/pro/features/export"), changed).await.expect(200);
    let device = shop.device(&license, "one");
    let kept = device.keep(&device.activate(&shop).await);
    assert_eq!(kept.json["entitlements"], entitlements, "as it was when it was issued");

    let details = shop.get(&format!("{at}/plans/pro/features")).await.expect(200);
    assert_eq!(&details[0]["enabled"], &json!(false));
    assert_eq!(&details[0]["feature"]["slug"], &json!("export"));
    for (path, kind) in [
        (format!("{at}/plans/pro/features/export"), "plan feature"),
        (format!("{at}/features/export/scopes/create"), "scope"),
        (format!("{at}/features/export"), "feature"),
        (format!("{at}/plans/pro"), "plan"),
        (at.clone(), "product"),
    ] {
        let message = format!("{kind} deleted");
        assert_eq!(shop.delete(&path).await.expect(200), json!({ "message": message }));
        shop.delete(&path).await.expect(404);
    }
    device.verify(&shop).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_one_product_at_once_are_all_kept() {
    let shop = Shop::open().await;
    shop.post("/api/products", json!({ "name": "P", "slug": "p" })).await.expect(201);
    let add = |number: u32| {
        let plan = json!({ "name": "Plan", "slug": format!("plan-{number}") });
        shop.post("/api/products/p/plans", plan)
    };
    let answers = tokio::join!(add(0), add(1), add(2), add(3));
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        answer.expect(201);
    }
    let plans = shop.get("/api/products/p/plans").await.expect(200);
    assert_eq!(plans.as_array().map(Vec::len), Some(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_a_license_for_a_plan() {
    let shop = Shop::open().await;
    let product = json!({ "name": "DaVinci", "slug": PRODUCT });
    shop.post("/api/products", product).await.expect(201);
    let plan = json!({
        "name": "Gold", "slug": "gold", "is_active": true, "duration_days": 30, "max_devices": 3,
        "billing_cycle": "yearly", "check_mode": "none",
    });
    let plans = format!("/api/products/{PRODUCT}/plans");
    shop.post(&plans, plan).await.expect(201);
    let body = json!({ "client_id": shop.client_id, "product_id": PRODUCT, "plan_id": "gold" });
    let answer = shop.post("/api/subscribe", body.clone()).await.expect(201);
    let (subscription, license) = (&answer["subscription"], &answer["license"]);
    assert_eq!(subscription["license_id"], license["id"]);
    assert_eq!(&subscription["status"], &json!("active"));
    assert_eq!(&subscription["billing_cycle"], &json!("yearly"));
    assert_eq!((&license["max_devices"], &license["check_mode"]), (&json!(3), &json!("none")));
    let device = shop.device(license, "one");
    let kept = device.keep(&device.activate(&shop).await).license;
    assert!(kept.next_check_at.is_none() && kept.last_check_at.is_none());
    let path = format!("/api/subscriptions?client_id={}", shop.client_id);
    assert_eq!(shop.get(&path).await.expect(200), json!([subscription]));
    let path = format!("/api/licenses/{}/revoke", text_of(license, "id"));
    shop.post(&path, json!({})).await.expect(200);
    let listed = shop.get("/api/subscriptions").await.expect(200);
    assert_eq!(listed[0]["status"], "cancelled");
    for (name, value, status) in [
        ("plan_id", json!("iron"), 404),
        ("product_id", json!("nothing"), 404),
        ("client_id", json!(""), 400),
        ("max_devices", json!(0), 400),
    ] {
        let mut body = body.clone();
        body[name] = value;
        shop.post("/api/subscribe", body).await.expect(status);
    }
    shop.put(&format!("{plans}/gold"), json!({ "is_active": false })).await.expect(200);
    shop.post("/api/subscribe", body).await.expect(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_get_keys_that_open_what_operators_may() {
    let shop = Shop::open().await;
    let as_admin = |path: &str, body: Value| {
        let ask = shop.world.post(path).header("x-api-key", &shop.world.admin);
        ask.json(&body).send()
    };
    let user = json!({ "username": "mary", "password": "correct horse" });
    let added = as_admin("/api/admin/users", user.clone()).await.expect(201);
    assert_eq!(added["username"], "mary");
    assert!(added.get("password").is_none() && added.get("password_hash").is_none());
    let twice = as_admin("/api/admin/users", user.clone()).await.expect(400);
    assert_eq!(twice, json!({ "error": "user already exists" }));
    let short = json!({ "username": "bob", "password": "short" });
    as_admin("/api/admin/users", short).await.expect(400);
    shop.post("/api/admin/users", user).await.expect(403);
    {
        let ledger = shop.world.cluster.ledger();
        let stored = ledger.user_by_name("mary").expect("the user");
        assert!(stored.password_hash.starts_with("$argon2id$"), "{}", stored.password_hash);
    }
    let nobody = json!({ "user_id": shop.client_id });
    as_admin("/api/admin/api-keys", nobody).await.expect(404);
    let made = json!({ "user_id": added["id"] });
    let made = as_admin("/api/admin/api-keys", made).await.expect(201);
    let token = text_of(&made, "token");
    assert!(token.len() == 48 && token == token.to_uppercase(), "{token}");
    assert_eq!(made["metadata"]["user_id"], added["id"]);
    assert_eq!(made["metadata"]["prefix"], token[..8]);
    let ask = |path: &str| shop.world.get(path).header("x-api-key", token).send();
    ask("/api/clients").await.expect(200);
    ask("/api/admin/users").await.expect(403);
    let by_key = shop.world.post("/api/clients").header("x-api-key", token);
    by_key.json(&json!({ "email": "by@key.example" })).send().await.expect(201);
    let wrong = shop.world.get("/api/clients").header("x-api-key", &"A".repeat(48)).send().await;
    assert_eq!(wrong.expect(401)["error"], "Unauthorized");
    let listed = shop.world.get("/api/admin/api-keys").header("x-api-key", &shop.world.admin);
    let listed = listed.send().await;
    assert!(!listed.text.contains(token));
    assert_eq!(listed.expect(200)[0]["id"], made["metadata"]["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_bounded_and_methods_named() {
    let shop = Shop::open().await;
    let long = "x".repeat(256 * 1024 + 1);
    let answer = shop.admin(Method::POST, "/api/clients").body(long).send().await;
    assert_eq!(answer.expect(413)["error"], "Request body too large");
    let answer = shop.delete("/api/clients").await;
    assert_eq!(answer.expect(405), json!({ "error": "Method not allowed" }));
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
}
