//! The calls of operators.

use serde_json::json;

use crate::world::{PACKAGE, World, text_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_is_stored_once_and_only_when_it_is_proved() {
    let world = World::unsealed().await;
    let package = world.sample(&[]);
    let untrusted = world.import(&package).await.expect(422);
    assert_eq!(untrusted["code"], "vendor_not_trusted");
    world.pin_vendor().await.expect(201);
    world.pin_vendor().await.expect(200);
    let imported = world.import(&package).await.expect(201);
    assert_eq!(imported["status"], "imported");
    assert_eq!(imported["total"], 20);
    assert_eq!(world.import(&package).await.expect(200)["status"], "already_imported");
    let text = json!(package.to_string());
    assert_eq!(world.import(&text).await.expect(200)["status"], "already_imported");
    let another = world.sample(&[("lease_ttl_seconds", 5)]);
    assert_eq!(world.import(&another).await.expect(409)["code"], "package_id_taken");

    let mut tampered = package.clone();
    tampered["entitlement"]["total_licenses"] = json!(2000);
    let refused = world.import(&tampered).await.expect(422);
    assert_eq!(refused["code"], "package_signature_invalid");
    assert_eq!(refused["field"], "vendor_signature");
    let mut unsigned = package.clone();
    unsigned.as_object_mut().expect("an object").remove("vendor_signature");
    assert_eq!(world.import(&unsigned).await.expect(422)["code"], "package_unsigned");
    let mut foreign = package.clone();
    foreign["client"]["org_domain"] = json!("daimler.com");
    let refused = world.import(&foreign).await.expect(422);
    assert_eq!(refused["code"], "package_for_another_client");
    assert_eq!(refused["field"], "client.org_domain");
    let mut unknown = package.clone();
    unknown["surprise"] = json!(1);
    assert_eq!(world.import(&unknown).await.expect(400)["field"], "surprise");
    let answer = world
        .post("/admin/licenses/import")
        .bearer(&world.admin)
        .body(r#"{"package":{"package_id":"a","package_id":"b"}}"#)
        .send()
        .await;
    assert_eq!(answer.expect(400)["code"], "package_not_strict_json");
    let list = world.get("/admin/packages").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(list["packages"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_package_is_refused() {
    let world = World::unsealed().await;
    world.pin_vendor().await.expect(201);
    let document = protocol::package::sample_document(0, 86_400_000, &[]);
    let refused = world.import(&world.sign(&document)).await.expect(422);
    assert_eq!(refused["code"], "package_expired");
    assert_eq!(refused["field"], "validity.end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_is_suspended_resumed_and_revoked() {
    let (world, app) = World::ready(&[]).await;
    let lease = world.checkout(&app.token, "alice").send().await.expect(200);
    let change = |verb: &str| {
        let path = format!("/admin/packages/{PACKAGE}/{verb}");
        world.post(&path).bearer(&world.admin).json(&json!({ "reason": "invoice" }))
    };
    assert_eq!(change("suspend").send().await.expect(200)["state"], "suspended");
    let denied = world.checkout(&app.token, "bob").send().await.expect(403);
    assert_eq!(denied["reason"], "package_suspended");
    assert_eq!(change("resume").send().await.expect(200)["state"], "active");
    world.checkout(&app.token, "bob").send().await.expect(200);
    let revoked = change("revoke").send().await.expect(200);
    assert_eq!(revoked["state"], "revoked");
    let denied = world.checkout(&app.token, "carol").send().await.expect(403);
    assert_eq!(denied["reason"], "package_revoked");
    // The entry after the revocation sweeps its leases.
    let path = format!("/admin/packages/{PACKAGE}");
    let package = world.get(&path).bearer(&world.auditor).send().await.expect(200);
    assert_eq!(package["seats"]["commit_in_use"], 0);
    let status = world.heartbeat(&app.token, &lease).send().await.status.as_u16();
    assert!([403, 410].contains(&status), "{status}");
    let unknown = world.post("/admin/packages/nothing/suspend").bearer(&world.admin);
    assert_eq!(unknown.send().await.expect(404)["code"], "unknown_package");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_listed_page_by_page_and_released() {
    let (world, app) = World::ready(&[]).await;
    let mut taken = Vec::new();
    for user in ["alice", "bob", "carol"] {
        let lease = world.checkout(&app.token, user).send().await.expect(200);
        taken.push(text_of(&lease, "lease_id").to_owned());
    }
    let mut listed = Vec::new();
    let mut path = "/admin/leases?limit=2".to_owned();
    loop {
        let page = world.get(&path).bearer(&world.auditor).send().await.expect(200);
        for lease in page["leases"].as_array().expect("leases") {
            assert!(["alice", "bob", "carol"].contains(&text_of(lease, "user")));
            assert_eq!(lease["app_id"], app.app_id);
            listed.push(text_of(lease, "lease_id").to_owned());
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/admin/leases?limit=2&cursor={next}"),
            None => break,
        }
    }
    listed.sort();
    taken.sort();
    assert_eq!(listed, taken);
    let none = world.get("/admin/leases?app_id=app-0000000000000000").bearer(&world.auditor);
    assert_eq!(none.send().await.expect(200)["leases"], json!([]));
    let bad = world.get("/admin/leases?limit=0").bearer(&world.auditor).send().await;
    bad.expect(400);

    let path = format!("/admin/leases/{}", taken[0]);
    world.get(&path).bearer(&world.auditor).send().await.expect(200);
    let release = world.post(&format!("{path}/release")).bearer(&world.operator);
    assert_eq!(release.send().await.expect(200)["state"], "released");
    let gone = world.get(&path).bearer(&world.auditor).send().await.expect(410);
    assert_eq!(gone["code"], "lease_ended");
    let again = world.post(&format!("{path}/release")).bearer(&world.operator).send().await;
    again.expect(410);
    let path = "/admin/leases/lease-foreign";
    world.get(path).bearer(&world.auditor).send().await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_registration_does_not_show_a_secret_that_does_not_work() {
    let (world, _) = World::ready(&[]).await;
    let body =
        json!({ "name": "n", "product_id": crate::world::PRODUCT, "vendor_id": "vector-de" });
    let ask = || world.post("/admin/apps").bearer(&world.admin).key("once").json(&body);
    ask().send().await.expect(201);
    assert_eq!(ask().send().await.expect(409)["code"], "secret_shown_before");
    let apps = world.get("/admin/apps").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(apps["apps"].as_array().map(Vec::len), Some(2));
    let body = json!({ "name": "n", "product_id": "p", "vendor_id": "nobody" });
    let answer = world.post("/admin/apps").bearer(&world.admin).json(&body).send().await;
    assert_eq!(answer.expect(404)["field"], "vendor_id");
    let body = json!({ "name": "n", "product_id": "p", "vendor_id": "vector-de", "extra": 1 });
    let answer = world.post("/admin/apps").bearer(&world.admin).json(&body).send().await;
    answer.expect(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_and_its_metrics_are_shown() {
    let (world, app) = World::ready(&[]).await;
    world.checkout(&app.token, "alice").send().await.expect(200);
    let status = world.get("/admin/cluster/status").bearer(&world.auditor).send().await.expect(200);
    assert_eq!(status["cluster_id"], "lh-test");
    assert_eq!(status["nodes"][0]["id"], 1);
    assert_eq!(status["nodes"][0]["role"], "leader");
    assert_eq!(status["nodes"][0]["region"], "eu");
    let metrics = world.get("/metrics").send().await;
    assert_eq!(metrics.status.as_u16(), 200);
    for line in [
        "leasehold_server_has_leader 1",
        "leasehold_server_leader_changes_seen_total ",
        "leasehold_server_proposals_committed_total ",
        "leasehold_server_proposals_applied_total ",
        "leasehold_server_proposals_pending ",
        "leasehold_server_proposals_failed_total ",
        "leasehold_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} ",
        "leasehold_disk_backend_commit_duration_seconds_count ",
        "leasehold_leases 1",
        &format!("leasehold_package_seats_in_use{{package=\"{PACKAGE}\",class=\"commit\"}} 1"),
        "leasehold_http_requests_total{operation=\"checkoutLicense\",status=\"200\"} 1",
    ] {
        assert!(metrics.text.contains(line), "{line} is missing in\n{}", metrics.text);
    }
    assert!(!metrics.text.contains("alice"));
}
