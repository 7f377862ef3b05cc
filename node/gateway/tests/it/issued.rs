//! License keys in a test: issued by an operator, changed by one.

use serde_json::{Value, json};

use crate::world::{Answer, PACKAGE, World, text_of};

/// A license with its key.
pub(crate) struct Issued {
    pub(crate) license_id: String,
    pub(crate) key: String,
}

/// A world whose one package allows offline tokens, with these policies beside.
pub(crate) async fn world(policy: Value) -> World {
    let world = World::unsealed().await;
    world.pin_vendor().await.expect(201);
    let text = protocol::package::sample_document(now_ms() - DAY_MS, now_ms() + YEAR_MS, &[]);
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    document["x_leasehold"] = json!({ "policy": policy });
    world.import(&world.sign(&document.to_string())).await.expect(201);
    world
}

/// Issues a license of this protocol with this plan and whatever else the call takes.
pub(crate) async fn issue(world: &World, protocol: &str, plan: Value, more: Value) -> Issued {
    let mut body = json!({ "protocol": protocol, "package_id": PACKAGE, "plan": plan });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let answer = world.post("/admin/licenses").bearer(&world.operator).json(&body).send().await;
    let body = answer.expect(201);
    Issued {
        license_id: text_of(&body["license"], "license_id").to_owned(),
        key: text_of(&body, "license_key").to_owned(),
    }
}

/// Suspends, resumes, cancels, revokes, reinstates or rotates a license.
pub(crate) async fn change(world: &World, issued: &Issued, what: &str) -> Value {
    let path = format!("/admin/licenses/{}/{what}", issued.license_id);
    world.post(&path).bearer(&world.operator).json(&json!({})).send().await.expect(200)
}

/// How many seats of the package are out.
pub(crate) async fn seats_taken(world: &World) -> u64 {
    let package = show_package(world).await.expect(200);
    let in_use = |name: &str| package["seats"][name].as_u64().expect("a number");
    in_use("commit_in_use") + in_use("overage_in_use")
}

async fn show_package(world: &World) -> Answer {
    world.get(&format!("/admin/packages/{PACKAGE}")).bearer(&world.auditor).send().await
}

/// The wall clock, in Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    use storage::seam::{Clock, RealClock};
    RealClock::new().wall_ms()
}

pub(crate) const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const YEAR_MS: i64 = 365 * DAY_MS;
