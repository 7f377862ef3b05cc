//! License keys, clients and activations over the admin API: the states of a license, keys that are
//! shown once, lists with filters and pages, and who may do what.

use std::collections::BTreeSet;

use http::Method;
use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::TraceId;
use lease::outcome::Outcome;
use protocol::evaluation::identity::HostHash;
use protocol::secret::Secret;
use serde_json::{Value, json};

use crate::issued::{self, Issued, issue, now_ms, seats_taken};
use crate::world::{Answer, Ask, LIVENESS, PACKAGE, World, keys, text_of};

const NOBODY: &str = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10";

async fn world() -> World {
    issued::world(json!({})).await
}

impl World {
    /// An operator's call.
    fn by(&self, token: &str, method: Method, path: &str, body: &Value) -> Ask<'_> {
        let ask = self.ask(method, path).bearer(token);
        if body.is_null() { ask } else { ask.json(body) }
    }

    async fn look(&self, path: &str) -> Value {
        self.get(path).bearer(&self.auditor).send().await.expect(200)
    }

    async fn change_license(&self, license_id: &str, what: &str) -> Answer {
        let path = format!("/admin/licenses/{license_id}/{what}");
        let reason = json!({ "reason": format!("because of {what}") });
        self.by(&self.operator, Method::POST, &path, &reason).send().await
    }

    /// A host activates under an evaluation license.
    async fn evaluate(&self, code: &str, host: &str, org: &str, project: &str) -> Value {
        let body = json!({
            "version": "2.0.0", "type": "evaluation", "timestamp": 1_795_325_574.195,
            "hostname_hash": HostHash::of(host).to_string(), "activation_code": code,
            "org_id": org, "project_id": project,
        });
        self.post("/v1/activate").json(&body).send().await.expect(200)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_license_goes_through_its_states_and_no_others() {
    let world = world().await;
    // What is asked, and the state it leads to; `None`: it cannot be done there.
    let table: [(&str, Option<&str>); 14] = [
        ("resume", Some("active")),
        ("suspend", Some("suspended")),
        ("suspend", Some("suspended")),
        ("reinstate", None),
        ("resume", Some("active")),
        ("revoke", Some("revoked")),
        ("suspend", None),
        ("resume", None),
        ("reinstate", Some("active")),
        ("suspend", Some("suspended")),
        ("revoke", Some("revoked")),
        ("cancel", Some("cancelled")),
        ("reinstate", None),
        ("rotate", None),
    ];
    let license = issue(&world, "evaluation", json!({}), json!({})).await;
    let path = format!("/admin/licenses/{}", license.license_id);
    let mut version = 1;
    let mut state = "active".to_owned();
    for (what, want) in table {
        let answer = world.change_license(&license.license_id, what).await;
        match want {
            Some(want) => {
                let view = answer.expect(200);
                version += u32::from(want != state);
                state = want.to_owned();
                assert_eq!(view["state"], want, "{what}");
                assert_eq!(view["token_version"], version, "{what}");
            }
            None => {
                let code = answer.expect(409)["code"].clone();
                assert_eq!(code, "license_state_conflict", "{what} of {state}");
            }
        }
        assert_eq!(world.look(&path).await["state"], state, "{what}");
    }
    assert_eq!(world.look(&path).await["reason"], "because of cancel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspension_and_rotation_take_effect_at_the_next_call() {
    let world = world().await;
    let license = issue(&world, "evaluation", json!({}), json!({})).await;
    let evaluate = async |code: &str| world.evaluate(code, "host", "o", "p").await["ok"].clone();
    assert_eq!(evaluate(&license.key).await, true);
    world.change_license(&license.license_id, "suspend").await.expect(200);
    assert_eq!(evaluate(&license.key).await, false);
    assert_eq!(seats_taken(&world).await, 1, "a suspended license keeps its seats");
    world.change_license(&license.license_id, "resume").await.expect(200);
    assert_eq!(evaluate(&license.key).await, true);
    let rotated = world.change_license(&license.license_id, "rotate").await.expect(200);
    let new = text_of(&rotated, "license_key").to_owned();
    assert_ne!(new, license.key);
    assert!(new.ends_with(text_of(&rotated["license"], "key_hint")));
    assert_eq!((evaluate(&license.key).await, evaluate(&new).await), (json!(false), json!(true)));
    world.change_license(&license.license_id, "revoke").await.expect(200);
    assert_eq!(evaluate(&new).await, false);
    assert_eq!(seats_taken(&world).await, 0, "a revoked license gives its seats back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_shown_once_and_a_repeat_says_what_to_do() {
    let world = world().await;
    let body = json!({ "protocol": "deployment", "package_id": PACKAGE, "organization": "BMW AG" });
    let ask = || world.by(&world.operator, Method::POST, "/admin/licenses", &body).key("order-7");
    let issued = ask().send().await.expect(201);
    let license_id = text_of(&issued["license"], "license_id").to_owned();
    let key = text_of(&issued, "license_key").to_owned();
    let again = ask().send().await.expect(409);
    assert_eq!(
        (&again["code"], &again["license_id"]),
        (&json!("secret_shown_before"), &json!(license_id))
    );
    let listed = world.get("/admin/licenses").bearer(&world.auditor).send().await;
    assert!(!listed.text.contains(&key), "{}", listed.text);
    assert_eq!(listed.expect(200)["licenses"].as_array().map(Vec::len), Some(1), "one license");
    let path = format!("/admin/licenses/{license_id}/rotate");
    let rotate = || world.by(&world.operator, Method::POST, &path, &json!({})).key("rotate-1");
    let rotated = rotate().send().await.expect(200);
    assert_ne!(rotated["license_key"], issued["license_key"]);
    assert_eq!(rotate().send().await.expect(409)["code"], "secret_shown_before");
    assert_eq!(world.look(&path.replace("/rotate", "")).await["token_version"], 2);
    let other = json!({ "protocol": "deployment", "package_id": PACKAGE });
    let reused = world.by(&world.operator, Method::POST, "/admin/licenses", &other).key("order-7");
    assert_eq!(reused.send().await.expect(422)["code"], "idempotency_key_reused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_license_is_somebodys() {
    let world = world().await;
    let issue = async |more: Value| {
        let mut body = json!({ "protocol": "device", "package_id": PACKAGE });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        world.by(&world.operator, Method::POST, "/admin/licenses", &body).send().await
    };
    let first = issue(json!({ "email": "Alice@BMW.com", "duration_days": 30 })).await.expect(201);
    let key = text_of(&first, "license_key").replace('-', "");
    assert_eq!(key.len(), 40, "{key}");
    let view = &first["license"];
    assert_eq!((&view["email"], &view["state"]), (&json!("alice@bmw.com"), &json!("active")));
    // The second license finds the client that the first one added.
    let second = issue(json!({ "email": "alice@bmw.com" })).await.expect(201);
    assert_eq!(second["license"]["client_id"], view["client_id"]);
    let third = issue(json!({ "client_id": view["client_id"] })).await.expect(201);
    assert_eq!(third["license"]["email"], "alice@bmw.com");
    let clients = world.look("/admin/clients").await;
    assert_eq!(clients["clients"].as_array().map(Vec::len), Some(1));
    assert_eq!(clients["clients"][0]["licenses"], 3);
    let table = [
        (json!({}), 400, Some("email")),
        (json!({ "email": "a@b", "client_id": NOBODY }), 400, Some("email")),
        (json!({ "email": "nope" }), 400, Some("email")),
        (json!({ "client_id": NOBODY }), 404, Some("client_id")),
        (json!({ "client_id": "x" }), 400, Some("client_id")),
        (json!({ "email": "a@b", "organization": "x" }), 400, Some("organization")),
        (json!({ "email": "a@b", "open": true }), 400, Some("open")),
        (json!({ "email": "a@b", "plan": { "max_nodes": 3 } }), 400, Some("plan.max_nodes")),
        (json!({ "email": "a@b", "package_id": "nope" }), 404, None),
        (json!({ "email": "a@b", "duration_days": 0 }), 400, Some("duration_days")),
        (json!({ "email": "a@b", "surprise": 1 }), 400, Some("surprise")),
    ];
    for (more, status, field) in table {
        let problem = issue(more.clone()).await.expect(status);
        assert_eq!(problem["field"].as_str(), field, "{more}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_added_banned_and_found() {
    let world = world().await;
    let add = async |email: &str| {
        let body = json!({ "email": email });
        world.by(&world.operator, Method::POST, "/admin/clients", &body).send().await
    };
    let alice = add("alice@bmw.com").await.expect(201);
    assert_eq!(add("Alice@bmw.com").await.expect(409)["code"], "client_taken");
    assert_eq!(add("nope").await.expect(400)["field"], "email");
    add("bob@bmw.com").await.expect(201);
    let path = |what: &str| format!("/admin/clients/{}/{what}", text_of(&alice, "client_id"));
    let reason = json!({ "reason": "chargeback" });
    let ban = world.by(&world.operator, Method::POST, &path("ban"), &reason).send().await;
    let banned = ban.expect(200);
    assert_eq!((&banned["state"], &banned["ban_reason"]), (&json!("banned"), &json!("chargeback")));
    for (query, emails) in [
        ("", vec!["alice@bmw.com", "bob@bmw.com"]),
        ("?state=banned", vec!["alice@bmw.com"]),
        ("?state=active", vec!["bob@bmw.com"]),
        ("?email=ALICE@bmw.com", vec!["alice@bmw.com"]),
        ("?email=zoe@bmw.com", vec![]),
    ] {
        let listed = world.look(&format!("/admin/clients{query}")).await;
        let rows = listed["clients"].as_array().expect("clients");
        let found: BTreeSet<_> = rows.iter().map(|row| text_of(row, "email")).collect();
        assert_eq!(found, emails.into_iter().collect(), "{query}");
    }
    let unban = world.by(&world.operator, Method::POST, &path("unban"), &json!({})).send().await;
    assert_eq!(unban.expect(200)["state"], "active");
    for id in [NOBODY, "nope"] {
        let path = format!("/admin/clients/{id}/ban");
        let answer = world.by(&world.operator, Method::POST, &path, &json!({})).send().await;
        assert_eq!(answer.expect(404)["code"], "unknown_client");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn licenses_are_listed_by_what_is_asked_in_pages() {
    let world = world().await;
    let mut all = BTreeSet::new();
    for protocol in ["evaluation", "evaluation", "deployment"] {
        all.insert(issue(&world, protocol, json!({}), json!({})).await.license_id);
    }
    let device = json!({ "email": "alice@bmw.com" });
    let device = issue(&world, "device", json!({}), device).await.license_id;
    all.insert(device.clone());
    world.change_license(&device, "suspend").await.expect(200);
    let client = world.look("/admin/clients").await["clients"][0]["client_id"].clone();
    let client = client.as_str().expect("an id");
    for (query, count) in [
        (String::new(), 4),
        ("protocol=evaluation".to_owned(), 2),
        ("protocol=device".to_owned(), 1),
        ("state=active".to_owned(), 3),
        ("state=suspended".to_owned(), 1),
        ("state=suspended&protocol=evaluation".to_owned(), 0),
        (format!("package_id={PACKAGE}"), 4),
        ("package_id=nope".to_owned(), 0),
        (format!("client_id={client}"), 1),
    ] {
        let listed = world.look(&format!("/admin/licenses?{query}")).await;
        assert_eq!(listed["licenses"].as_array().map(Vec::len), Some(count), "{query}");
        assert!(listed.get("next").is_none(), "{query}");
    }
    for limit in [1, 2, 3, 4] {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = world.look(&format!("/admin/licenses?limit={limit}{cursor}")).await;
            let rows = page["licenses"].as_array().expect("licenses");
            assert!(rows.len() <= limit, "{limit}");
            seen.extend(rows.iter().map(|row| text_of(row, "license_id").to_owned()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert!(seen.is_sorted() && pages == 4_usize.div_ceil(limit), "{limit}: {pages}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all, "{limit}");
    }
    for query in ["limit=0", "limit=1001", "cursor=nope", "protocol=cloud", "client_id=x", "x=1"] {
        let path = format!("/admin/licenses?{query}");
        world.get(&path).bearer(&world.auditor).send().await.expect(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activations_are_found_by_what_expires_when_and_for_whom() {
    let world = world().await;
    let short = issue(&world, "evaluation", json!({ "activation_days": 1 }), json!({})).await;
    let long = issue(&world, "evaluation", json!({ "activation_days": 90 }), json!({})).await;
    for (license, host, org, project) in [
        (&short, "a", "acme", "arm"),
        (&short, "b", "acme", "arm"),
        (&short, "c", "acme", "leg"),
        (&long, "d", "other", "arm"),
    ] {
        let answer = world.evaluate(&license.key, host, org, project).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let time = |ms: i64| protocol::wire::UtcTime::from_unix_ms(ms).to_string();
    let (now, in_two_days) = (time(now_ms()), time(now_ms() + 2 * issued::DAY_MS));
    let soon = format!("expires_from={now}&expires_until={in_two_days}");
    let later = format!("expires_from={in_two_days}");
    for (query, count) in [
        (String::new(), 4),
        (soon.clone(), 3),
        (later, 1),
        (format!("{soon}&org_id=acme&project_id=leg"), 1),
        ("org_id=acme".to_owned(), 3),
        ("project_id=arm".to_owned(), 3),
        (format!("license_id={}", long.license_id), 1),
        ("protocol=evaluation&state=active".to_owned(), 4),
        ("protocol=device".to_owned(), 0),
        ("state=revoked".to_owned(), 0),
    ] {
        let listed = world.look(&format!("/admin/activations?{query}")).await;
        assert_eq!(listed["activations"].as_array().map(Vec::len), Some(count), "{query}");
        assert_eq!(listed["total"], count, "{query}");
    }
    let listed = world.look(&format!("/admin/activations?{soon}&limit=2")).await;
    assert_eq!(listed["activations"].as_array().map(Vec::len), Some(2));
    let want = json!([
        { "org_id": "acme", "project_id": "arm", "activations": 2, "seats": 2 },
        { "org_id": "acme", "project_id": "leg", "activations": 1, "seats": 1 },
    ]);
    assert_eq!((&listed["groups"], &listed["total"]), (&want, &json!(3)), "of all pages");
    let next = text_of(&listed, "next");
    let rest = world.look(&format!("/admin/activations?{soon}&limit=2&cursor={next}")).await;
    assert_eq!(rest["activations"].as_array().map(Vec::len), Some(1));
    assert!(rest.get("total").is_none() && rest.get("next").is_none(), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_is_revoked_reinstated_and_removed() {
    let world = world().await;
    let license = issue(&world, "evaluation", json!({}), json!({})).await;
    assert_eq!(world.evaluate(&license.key, "host", "o", "p").await["ok"], true);
    let listed = world.look("/admin/activations").await;
    let path =
        format!("/admin/activations/{}", text_of(&listed["activations"][0], "activation_id"));
    let shown = world.look(&path).await;
    assert_eq!(shown, listed["activations"][0]);
    assert_eq!((&shown["seats"], &shown["lease_type"]), (&json!(1), &json!("commit")));
    let change = async |what: &str| {
        let path = format!("{path}/{what}");
        world.by(&world.operator, Method::POST, &path, &json!({ "reason": "x" })).send().await
    };
    assert_eq!(change("revoke").await.expect(200)["state"], "revoked");
    assert_eq!(seats_taken(&world).await, 0);
    assert_eq!(world.evaluate(&license.key, "host", "o", "p").await["ok"], false);
    change("reinstate").await.expect(200);
    assert_eq!(world.evaluate(&license.key, "host", "o", "p").await["ok"], true);
    let remove = || world.by(&world.operator, Method::DELETE, &path, &Value::Null).send();
    assert_eq!(remove().await.expect(200)["status"], "removed");
    assert_eq!(seats_taken(&world).await, 0);
    assert_eq!(remove().await.expect(404)["code"], "unknown_activation");
    world.get(&path).bearer(&world.auditor).send().await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auditors_look_and_operators_change() {
    let world = world().await;
    let Issued { license_id, .. } = issue(&world, "evaluation", json!({}), json!({})).await;
    let license = format!("/admin/licenses/{license_id}");
    let suspend = format!("{license}/suspend");
    let rotate = format!("{license}/rotate");
    let body = json!({ "protocol": "evaluation", "package_id": PACKAGE });
    let vendor = json!({ "vendor_id": "v", "secret": "0123456789abcdef" });
    let (none, email) = (json!({}), json!({ "email": "a@b" }));
    // What is asked, and the least role that may.
    let table: [(Method, &str, &Value, &str); 12] = [
        (Method::GET, "/admin/licenses", &Value::Null, "auditor"),
        (Method::GET, &license, &Value::Null, "auditor"),
        (Method::GET, "/admin/clients", &Value::Null, "auditor"),
        (Method::GET, "/admin/activations", &Value::Null, "auditor"),
        (Method::GET, "/admin/evaluation/keys", &Value::Null, "auditor"),
        (Method::GET, "/admin/classic/vendors", &Value::Null, "auditor"),
        (Method::POST, "/admin/licenses", &body, "operator"),
        (Method::POST, &suspend, &none, "operator"),
        (Method::POST, &rotate, &none, "operator"),
        (Method::POST, "/admin/clients", &email, "operator"),
        (Method::POST, "/admin/evaluation/keys/rotate", &json!({ "minimum": 9 }), "admin"),
        (Method::POST, "/admin/classic/vendors", &vendor, "admin"),
    ];
    let roles =
        [("auditor", &world.auditor), ("operator", &world.operator), ("admin", &world.admin)];
    for (method, path, body, least) in table {
        let mut may = false;
        for (role, token) in &roles {
            may |= *role == least;
            let answer = world.by(token, method.clone(), path, body).send().await;
            let status = answer.status.as_u16();
            assert_eq!(status == 403, !may, "{method} {path} by {role}: {answer:?}");
            assert_ne!(status, 401, "{path}");
        }
    }
    for (path, code) in [
        (format!("/admin/licenses/{NOBODY}"), "unknown_license"),
        ("/admin/licenses/nope".to_owned(), "unknown_license"),
        (format!("/admin/activations/{NOBODY}"), "unknown_activation"),
    ] {
        let answer = world.get(&path).bearer(&world.auditor).send().await;
        assert_eq!(answer.expect(404)["code"], code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendors_secret_is_kept_sealed_and_never_shown() {
    let world = world().await;
    let add = async |secret: &str| {
        let body = json!({ "vendor_id": "techvendor", "secret": secret });
        world.by(&world.admin, Method::POST, "/admin/classic/vendors", &body).send().await
    };
    // The node puts new secrets into the cell; here they are there already, or never come.
    let hold = |secret: &str| {
        let mut keys = keys();
        let bytes = Secret::new(secret.as_bytes().to_vec());
        keys.classic_vendors.insert("techvendor".to_owned(), bytes);
        world.keys.unseal(keys);
    };
    let secret = "a secret of the vendor".replace(' ', "-");
    hold(&secret);
    let added = add(&secret).await;
    assert!(!added.text.contains(&secret));
    assert_eq!(added.expect(200), json!({ "vendor_id": "techvendor" }));
    let second = format!("{secret}-2");
    hold(&second);
    add(&second).await.expect(200);
    let listed = world.look("/admin/classic/vendors").await;
    assert_eq!(listed, json!({ "vendors": [{ "vendor_id": "techvendor" }] }));
    {
        let ledger = world.cluster.ledger();
        let stored = ledger.secret("classic-vendor-techvendor").expect("the secret");
        assert_eq!(stored.version, 2);
        let plain = secret.as_bytes();
        assert!(!stored.sealed.windows(plain.len()).any(|part| part == plain));
    }
    for bad in ["short", "has a space in it, which cannot be"] {
        assert_eq!(add(bad).await.status.as_u16(), 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_is_waited_for() {
    let world = world().await;
    // Founding stores the first version; the world has its keys without.
    let first = keys().vault.seal_secret("evaluation-hmac-1", 1, &[1; 32]).expect("sealed");
    let envelope = Envelope {
        actor: Actor::Node(1),
        request: None,
        trace: TraceId(1),
        cause: None,
        command: Command::PutSecret(first),
    };
    let submitted = world.cluster.submit(vec![envelope], LIVENESS).await.expect("a quorum");
    assert_eq!(submitted.outcomes, [Outcome::Done]);
    let shown = world.look("/admin/evaluation/keys").await;
    assert_eq!((&shown["current"], &shown["minimum"]), (&json!(1), &json!(1)));
    let refused = json!({ "minimum": 9 });
    let path = "/admin/evaluation/keys/rotate";
    let answer = world.by(&world.admin, Method::POST, path, &refused).send().await;
    assert_eq!(answer.expect(400)["field"], "minimum");
    // The node puts new keys into the cell; here they are there already, or never come.
    let mut versions = Vec::new();
    for (key, want) in [("one", 200), ("one", 200), ("two", 503)] {
        let rotate = world.by(&world.admin, Method::POST, path, &json!({}));
        rotate.header("idempotency-key", key).send().await.expect(want);
        versions.push(world.look("/admin/evaluation/keys").await["current"].clone());
    }
    assert_eq!(versions, [2, 2, 3], "a repeat makes no other key");
    let other = world.by(&world.admin, Method::POST, path, &json!({ "minimum": 2 }));
    let reused = other.header("idempotency-key", "one").send().await;
    assert_eq!(reused.expect(422)["code"], "idempotency_key_reused");
}
