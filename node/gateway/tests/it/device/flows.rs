//! What a device's life is when all goes well, and what an operator can do to it.

use protocol::device::payload::Relationship;
use protocol::device::schedule::CheckMode;
use protocol::offline::{self, Expect, Holder, HolderKind, KeySet, Protocol};
use serde_json::json;

use super::shop::{Device, OWNER, Shop};
use crate::captured;
use crate::world::{PACKAGE, keys, text_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_activated_once_and_confirmed_after_that() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    let answer = device.activate(&shop).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text.ends_with("}\n") && answer.header("x-license-secure").is_none());
    assert_eq!(answer.json()["message"], "License activated successfully");
    let first = device.keep(&answer);
    let data = &first.license;
    assert_eq!(data.id, text_of(&license, "id"));
    assert_eq!((data.client_id.as_str(), data.subject_client_id.as_str()), {
        let owner = shop.client_id.as_str();
        (owner, owner)
    });
    assert_eq!((data.email.as_str(), &data.relationship), (OWNER, &Relationship::Direct));
    assert_eq!(data.license_key.expose(), text_of(&license, "license_key"));
    assert_eq!((data.device_count, data.max_devices, data.current_activations), (1, 2, 1));
    assert_eq!(data.check_mode, CheckMode::Monthly);
    assert!(data.next_check_at.is_some() && data.last_check_at.is_some());
    assert!(!data.is_revoked && !data.is_trial && data.revoked_at.is_zero());
    assert_eq!((shop.seats_taken(), shop.active(&device)), (1, 1));

    let again = device.keep(&device.activate(&shop).await);
    assert_eq!(again.session, first.session, "the session key is the activation's");
    let typed = Device { key: format!(" {} ", device.key.to_lowercase()), ..device.clone() };
    let verified = typed.verify(&shop).await;
    assert_eq!(verified.expect(200)["message"], "License verified successfully");
    assert_eq!(device.keep(&verified).session, first.session);
    let by_envelope = device.secure(&shop, "/api/verify", &first.session()).await;
    assert_eq!(by_envelope.expect(200)["message"], "License verified successfully");
    let by_envelope = device.keep(&by_envelope);
    assert_eq!(by_envelope.session, first.session);
    assert_eq!(by_envelope.license.device_count, 1);
    let by_envelope = device.secure(&shop, "/api/activate", &first.session()).await;
    assert_eq!(by_envelope.expect(200)["message"], "License activated successfully");
    assert_eq!((shop.seats_taken(), shop.active(&device)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_not_the_owners_becomes_a_delegate() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let owner = shop.device(&license, "one");
    owner.activate(&shop).await.expect(200);
    let mate = Device { email: "Mate@Example.com".to_owned(), ..shop.device(&license, "two") };
    let unknown = mate.verify(&shop).await.expect(401);
    assert_eq!(unknown["error"], "email is not authorized for this license");
    let kept = mate.keep(&mate.activate(&shop).await);
    let data = &kept.license;
    assert_eq!((data.email.as_str(), &data.relationship), {
        ("mate@example.com", &Relationship::Delegated)
    });
    assert_eq!(data.client_id, shop.client_id);
    assert_eq!(data.granted_by.as_deref(), Some(shop.client_id.as_str()));
    assert_ne!(data.subject_client_id, shop.client_id);
    assert_eq!(kept.json["relationship"], "delegated");
    let again = mate.keep(&mate.verify(&shop).await);
    assert_eq!(again.license.subject_client_id, data.subject_client_id);
    // A known subject's own id is as good as the owner's.
    let by_own_id = Device { client_id: data.subject_client_id.clone(), ..mate.clone() };
    by_own_id.verify(&shop).await.expect(200);
    let listed = shop.get("/api/licenses").await.expect(200);
    let users = &listed[0]["authorized_users"];
    assert_eq!(users["mate@example.com"]["client_id"], data.subject_client_id.as_str());
    assert_eq!(listed[0]["device_count"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_suspension_and_bans_take_effect_at_the_next_call() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    let session = device.keep(&device.activate(&shop).await).session();
    let id = text_of(&license, "id").to_owned();
    let (ban, unban) = ("/ban".to_owned(), "/unban".to_owned());
    let of_client = |what: String| format!("/api/clients/{}{what}", shop.client_id);
    let of_license = |what: &str| format!("/api/licenses/{id}/{what}");
    for (path, message, undo) in [
        (of_license("revoke"), "License has been revoked", of_license("reinstate")),
        (of_client(ban), "Client is banned", of_client(unban)),
    ] {
        let reason = json!({ "reason": "invoice 4711" });
        let done = shop.post(&path, reason.clone()).await.expect(200);
        let told = done.get("revoke_reason").or(done.get("ban_reason"));
        assert_eq!(told, Some(&json!("invoice 4711")), "{path}");
        for call in ["/api/verify", "/api/activate"] {
            let answer = device.ask(&shop, call).json(&device.body()).send().await;
            assert_eq!(answer.expect(401)["message"], message, "{call} after {path}");
            let answer = device.secure(&shop, call, &session).await;
            assert_eq!(answer.expect(401)["message"], message, "{call} after {path}");
        }
        shop.post(&undo, json!({})).await.expect(200);
        device.verify(&shop).await.expect(200);
    }
    shop.change(&license, "suspend").await;
    assert_eq!(device.verify(&shop).await.expect(401)["error"], "License is suspended");
    assert_eq!(shop.seats_taken(), 1, "whoever is suspended keeps the seat");
    shop.change(&license, "resume").await;
    device.verify(&shop).await.expect(200);
    shop.change(&license, "cancel").await;
    assert_eq!(device.verify(&shop).await.expect(401)["error"], "License has been revoked");
    assert_eq!(shop.seats_taken(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_token_comes_along_where_plan_and_package_allow_one() {
    let shop = Shop::with(false, json!({ "offline": "on" })).await;
    let product = json!({ "name": "Studio", "slug": "studio" });
    shop.post("/api/products", product).await.expect(201);
    for (slug, metadata) in [("gold", json!({ "offline_hours": "2" })), ("iron", json!({}))] {
        let plan = json!({ "name": slug, "slug": slug, "is_active": true, "metadata": metadata });
        shop.post("/api/products/studio/plans", plan).await.expect(201);
    }
    let of = |plan: &str| json!({ "product_id": "studio", "plan_slug": plan });
    let iron = shop.license(of("iron")).await;
    let device = shop.device(&iron, "iron");
    assert!(device.activate(&shop).await.expect(200).get("offline_token").is_none());
    let gold = shop.license(of("gold")).await;
    let device = shop.device(&gold, "gold");
    let answer = device.activate(&shop).await.expect(200);
    let key_set = KeySet::of(keys().offline.public.clone()).expect("a key set");
    let expect = Expect::at(shop.world.cluster.displayed_civil_ms());
    let token = text_of(&answer, "offline_token");
    let claims = offline::verify(token, &key_set, &expect).expect("a token");
    assert_eq!(claims.protocol, Protocol::Device);
    assert_eq!(claims.license_id, text_of(&gold, "id"));
    assert_eq!(claims.holder, Holder::of(HolderKind::Fingerprint, &device.fingerprint));
    assert!(claims.exp - claims.iat <= 2 * 3_600, "no longer than the plan says");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_ends_the_old_one_and_keeps_the_devices() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let old = shop.device(&license, "one");
    let session = old.keep(&old.activate(&shop).await).session();
    let path = format!("/admin/licenses/{}/rotate", text_of(&license, "id"));
    let rotated = shop.world.post(&path).bearer(&shop.world.admin).send().await.expect(200);
    assert_eq!(old.verify(&shop).await.expect(404)["error"], "Invalid license key");
    let sealed = old.ask(&shop, "/api/verify").header("x-license-secure", "1").body("{}");
    assert_eq!(sealed.send().await.text, "Device not authorized for secure transport");
    let new = Device { key: text_of(&rotated, "license_key").to_owned(), ..old };
    let verified = new.secure(&shop, "/api/verify", &session).await;
    let kept = new.keep(&verified);
    assert_eq!(&kept.session, session.expose(), "the session key is the activation's");
    assert_eq!(kept.license.license_key.expose(), new.key);
    assert_eq!(shop.seats_taken(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_a_package_becomes_of_its_licenses() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    device.activate(&shop).await.expect(200);
    for (what, status, message) in [
        ("suspend", 401, Some("License is suspended")),
        ("resume", 200, None),
        ("revoke", 401, Some("License has been revoked")),
    ] {
        let path = format!("/admin/packages/{PACKAGE}/{what}");
        shop.world.post(&path).bearer(&shop.world.admin).send().await.expect(200);
        for answer in [device.verify(&shop).await, device.activate(&shop).await] {
            let body = answer.expect(status);
            assert_eq!(body.get("error").and_then(|it| it.as_str()), message, "{what}");
        }
    }
    assert_eq!(shop.seats_taken(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_neither_stored_nor_logged_and_nobody_is_named_in_the_log() {
    let events = captured::events();
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let mate = "somebody.unlike.others@example.com";
    let device = Device { email: mate.to_owned(), ..shop.device(&license, "unlike others") };
    let kept = device.keep(&device.activate(&shop).await);
    device.secure(&shop, "/api/verify", &kept.session()).await.expect(200);
    let stranger = Device { key: "QWERT-".repeat(8), ..device.clone() };
    stranger.activate(&shop).await.expect(404);
    let (typed, wrong) = (device.key.replace('-', ""), "QWERT".repeat(8));
    let session = data_encoding::HEXLOWER.encode(&kept.session);
    let secrets = [&device.key, &typed, &stranger.key, &wrong, &session];
    let private = [mate, &device.fingerprint];
    let logged = events.lock().expect("events").clone();
    assert!(logged.iter().any(|event| event.field("route") == "/api/activate"), "it was logged");
    for event in &logged {
        let text = event.text();
        for word in secrets.into_iter().map(String::as_str).chain(private) {
            assert!(!text.contains(word), "{text}");
        }
    }
    let files = captured::stored_bytes(shop.world.dir.path());
    assert!(!files.is_empty());
    let holds = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
    for bytes in &files {
        for secret in secrets {
            assert!(!holds(bytes, secret.as_bytes()), "a key is stored");
        }
        assert!(!holds(bytes, &kept.session), "a session key is stored");
    }
}
