//! People and hosts over the admin API, and the tokens of those who run the cluster.

use http::Method;
use serde_json::{Value, json};

use crate::world::{World, text_of};

async fn find(world: &World, name: &str) -> Vec<Value> {
    let path = format!("/admin/subjects?name={name}");
    let list = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    list["subjects"].as_array().expect("subjects").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_erased_is_shown_nowhere_again() {
    let (world, app) = World::ready(&[]).await;
    let lease = world.checkout(&app.token, "alice@bmw.com").send().await.expect(200);
    world.checkout(&app.token, "bob@bmw.com").send().await.expect(200);
    let everywhere = ["/admin/audit/export", "/admin/audit", "/admin/leases", "/admin/subjects"];
    for path in everywhere {
        let shown = world.get(path).bearer(&world.admin).send().await.text;
        assert!(shown.contains("alice@bmw.com"), "{path}");
    }
    let [alice] = find(&world, "alice@bmw.com").await.try_into().expect("one");
    let reference = text_of(&alice, "reference");
    let path = format!("/admin/subjects/{reference}");
    let shown = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    assert_eq!((&shown["name"], &shown["kind"]), (&json!("alice@bmw.com"), &json!("user")));
    assert_eq!((&shown["leases"], &shown["events"]), (&json!(1), &json!("1")));
    assert_eq!((&shown["events_complete"], &shown["bound_by"]), (&json!(true), &json!([])));

    let erase = |body: Value| {
        world.post(&format!("{path}/erase")).bearer(&world.admin).json(&body).key("k-1").send()
    };
    let refused = erase(json!({ "reason": "Alice@BMW.com left" })).await.expect(400);
    assert_eq!(refused["field"], "reason");
    for _ in 0..2 {
        let erased = erase(json!({ "reason": "left" })).await.expect(200);
        assert_eq!(
            (&erased["status"], &erased["reference"]),
            (&json!("erased"), &json!(reference))
        );
    }
    for path in everywhere {
        let shown = world.get(path).bearer(&world.admin).send().await.text;
        assert!(!shown.contains("alice"), "{path}: {shown}");
        assert!(shown.contains("bob@bmw.com"), "{path}");
    }
    world.get(&path).bearer(&world.auditor).send().await.expect(404);
    assert!(find(&world, "alice@bmw.com").await.is_empty());
    // The reference stays, and so does the seat.
    let query = format!("/admin/audit?user={reference}");
    let events = world.get(&query).bearer(&world.auditor).send().await.expect(200);
    assert_eq!(events["events"][0]["user"], json!({ "reference": reference }));
    world.heartbeat(&app.token, &lease).send().await.expect(200);
    let unknown = world.post("/admin/subjects/0000000000000001/erase").bearer(&world.admin);
    assert_eq!(unknown.send().await.expect(404)["code"], "unknown_subject");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_bound_to_a_name_is_named_with_its_way_out() {
    let (world, _app) = World::ready(&[]).await;
    let issue = json!({
        "protocol": "device", "package_id": crate::world::PACKAGE, "email": "alice@bmw.com",
        "plan": { "features": [], "trial": false }
    });
    let issued = world.post("/admin/licenses").bearer(&world.admin).json(&issue).send().await;
    let license = text_of(&issued.expect(201)["license"], "license_id").to_owned();
    let [alice] = find(&world, "Alice@BMW.com").await.try_into().expect("an address in any case");
    let path = format!("/admin/subjects/{}", text_of(&alice, "reference"));
    let shown = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    assert_eq!(shown["bound_by"], json!([{ "what": "license", "id": license }]));
    let erase = || world.post(&format!("{path}/erase")).bearer(&world.admin).send();
    let refused = erase().await.expect(409);
    assert_eq!(refused["code"], "subject_in_use");
    assert_eq!(refused["detail"], format!("first cancel or revoke license {license}"));
    let cancel = format!("/admin/licenses/{license}/cancel");
    world.post(&cancel).bearer(&world.admin).send().await.expect(200);
    erase().await.expect(200);
    let shown = world.get(&format!("/admin/licenses/{license}")).bearer(&world.auditor);
    assert_eq!(shown.send().await.expect(200)["email"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_listed_page_by_page() {
    let (world, app) = World::ready(&[]).await;
    for user in ["a", "b", "c"] {
        world.checkout(&app.token, user).send().await.expect(200);
    }
    for (query, want) in [("", 4), ("&kind=user", 3), ("&kind=host", 1)] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/admin/subjects?limit=1{query}{cursor}");
            let page = world.get(&path).bearer(&world.auditor).send().await.expect(200);
            let subjects = page["subjects"].as_array().expect("subjects");
            found.extend(subjects.iter().map(|it| text_of(it, "reference").to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found.len(), want, "{query}");
        assert!(found.is_sorted_by(|one, other| one < other), "{query}: each once, in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_made_used_and_ended() {
    let world = World::unsealed().await;
    let add = |body: Value, key: &'static str| {
        world.post("/admin/operators").bearer(&world.admin).json(&body).key(key).send()
    };
    let body = json!({ "name": "night shift", "role": "operator", "expires_in": 3_600 });
    let added = add(body.clone(), "k-1").await.expect(201);
    let token = text_of(&added, "token").to_owned();
    let id = text_of(&added["operator"], "operator_id").to_owned();
    // The same again makes no second token, and shows none that does not work.
    assert_eq!(add(body, "k-1").await.expect(409)["code"], "secret_shown_before");
    let own = world.get("/admin/operators/self").bearer(&token).send().await.expect(200);
    assert_eq!(own, added["operator"]);
    assert_eq!((&own["role"], &own["expired"]), (&json!("operator"), &json!(false)));
    let list = world.get("/admin/operators?limit=2").bearer(&world.auditor).send().await;
    let list = list.expect(200);
    assert_eq!(list["operators"].as_array().map(Vec::len), Some(2));
    assert!(list["next"].is_string());
    for (name, value) in [
        ("name", json!("")),
        ("name", json!("api-key/alice")),
        ("role", json!("root")),
        ("expires_in", json!(0)),
        ("expires_in", json!(1_000_000_000)),
    ] {
        let mut body = json!({ "name": "x", "role": "auditor" });
        body[name] = value;
        add(body, "k-2").await.expect(400);
    }
    let remove = |id: &str| {
        world.ask(Method::DELETE, &format!("/admin/operators/{id}")).bearer(&world.admin).send()
    };
    remove(&id).await.expect(204);
    world.get("/admin/operators/self").bearer(&token).send().await.expect(401);
    assert_eq!(remove(&id).await.expect(404)["code"], "unknown_operator");
    // Nobody locks everybody out.
    let first = "operator-0000000000000001";
    assert_eq!(remove(first).await.expect(409)["code"], "last_admin");
    let limited = json!({ "name": "b", "role": "admin", "expires_in": 60 });
    add(limited, "k-3").await.expect(201);
    assert_eq!(remove(first).await.expect(409)["code"], "last_admin");
    add(json!({ "name": "c", "role": "admin" }), "k-4").await.expect(201);
    remove(first).await.expect(204);
    world.get("/admin/operators").bearer(&world.admin).send().await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_with_an_end_ends() {
    let world = World::unsealed().await;
    let body = json!({ "name": "guest", "role": "auditor", "expires_in": 60 });
    let added = world.post("/admin/operators").bearer(&world.admin).json(&body).send().await;
    let token = text_of(&added.expect(201), "token").to_owned();
    world.get("/admin/operators/self").bearer(&token).send().await.expect(200);
    world.clock.pass(std::time::Duration::from_secs(61));
    world.get("/admin/operators/self").bearer(&token).send().await.expect(401);
    let list = world.get("/admin/operators").bearer(&world.auditor).send().await.expect(200);
    let guest =
        list["operators"].as_array().expect("operators").iter().find(|it| it["name"] == "guest");
    assert_eq!(guest.expect("kept, for the log names it")["expired"], true);
}
