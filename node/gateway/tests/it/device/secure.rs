//! Envelopes: what opens, and everything that does not.

use data_encoding::HEXLOWER;
use protocol::device::crypto::SessionKey;
use protocol::device::envelope::{self, Envelope};
use protocol::secret::Secret;
use serde_json::json;

use super::shop::{Device, Shop, fingerprint, nonce};
use crate::world::{Answer, text_of};

const NOT_AUTHORIZED: &str = "Device not authorized for secure transport";
const NOT_OPENED: &str = "Failed to decrypt payload";
const NO_ENVELOPE: &str = "Invalid secure envelope";

/// A failure before the envelope is open is plain text, and not enveloped.
fn check(answer: &Answer, status: u16, text: &str, what: &str) {
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, text), "{what}");
    assert_eq!(answer.header("x-license-secure"), None, "{what}");
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{what}");
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_envelope_of_this_device_does_not_open() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    let session = device.keep(&device.activate(&shop).await).session();
    let body = device.body().to_string();
    let sealed = envelope::seal(&session, nonce(), body.as_bytes());
    let good: Envelope = serde_json::from_slice(&sealed).expect("an envelope");
    let upper = |text: &str| text.to_uppercase();
    let changed = |at: usize| {
        let mut bytes = HEXLOWER.decode(good.ciphertext.as_bytes()).expect("hex");
        bytes[at] ^= 1;
        HEXLOWER.encode(&bytes)
    };
    let last = good.ciphertext.len() / 2 - 1;
    let with = |nonce: &str, ciphertext: &str, version: u32| {
        let envelope =
            Envelope { version, nonce: nonce.to_owned(), ciphertext: ciphertext.to_owned() };
        serde_json::to_vec(&envelope).expect("JSON")
    };
    let (n, c) = (good.nonce.as_str(), good.ciphertext.as_str());
    let stranger: SessionKey = Secret::new([9; 32]);
    let other_key = envelope::seal(&stranger, nonce(), body.as_bytes());
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), NO_ENVELOPE),
        ("no JSON", b"{".to_vec(), NO_ENVELOPE),
        ("a plain request", body.clone().into_bytes(), NO_ENVELOPE),
        ("another version", with(n, c, 2), NOT_OPENED),
        ("a nonce of 11 bytes", with(&n[2..], c, 1), NOT_OPENED),
        ("a nonce of 13 bytes", with(&format!("{n}00"), c, 1), NOT_OPENED),
        ("no nonce", with("", c, 1), NOT_OPENED),
        ("half a byte of nonce", with(&n[1..], c, 1), NOT_OPENED),
        ("half a byte of ciphertext", with(n, &c[1..], 1), NOT_OPENED),
        ("a ciphertext cut short", with(n, &c[..c.len() - 2], 1), NOT_OPENED),
        ("no ciphertext", with(n, "", 1), NOT_OPENED),
        ("no hex", with(n, "xyz", 1), NOT_OPENED),
        ("hex in upper case", with(&upper(n), &upper(c), 1), NOT_OPENED),
        ("its first byte changed", with(n, &changed(0), 1), NOT_OPENED),
        ("its tag changed", with(n, &changed(last), 1), NOT_OPENED),
        ("another key", other_key, NOT_OPENED),
    ];
    for (what, body, text) in table {
        let ask = device.ask(&shop, "/api/verify").header("x-license-secure", "1");
        check(&ask.body(body).send().await, 400, text, what);
    }
    // Only the very value says so: a plain body under any other is a plain request.
    for flag in ["true", "0", "yes", "1 "] {
        let ask = device.ask(&shop, "/api/verify").header("x-license-secure", flag.trim_end());
        if flag.trim_end() != "1" {
            ask.json(&device.body()).send().await.expect(200);
        }
    }
    device.secure(&shop, "/api/verify", &session).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_needs_a_known_sender() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    let session = device.keep(&device.activate(&shop).await).session();
    let body = envelope::seal(&session, nonce(), device.body().to_string().as_bytes());
    let key = device.key.replace('-', "");
    let two = fingerprint("two");
    let one = device.fingerprint.as_str();
    let missing = "Secure payload missing fingerprint or license key";
    type Row<'a> = (&'a str, Option<&'a str>, Option<&'a str>, u16, &'a str);
    let table: [Row<'_>; 8] = [
        ("no fingerprint", Some(&key), None, 400, missing),
        ("an empty fingerprint", Some(&key), Some(" "), 400, missing),
        ("no key", None, Some(one), 400, missing),
        ("nothing", None, None, 400, missing),
        ("another device", Some(&key), Some(&two), 401, NOT_AUTHORIZED),
        ("no fingerprint at all", Some(&key), Some("short"), 401, NOT_AUTHORIZED),
        ("an unknown key", Some(&"A".repeat(40)), Some(one), 401, NOT_AUTHORIZED),
        ("no key at all", Some("nope"), Some(one), 401, NOT_AUTHORIZED),
    ];
    for (what, key, fingerprint, status, text) in table {
        let mut ask = shop.world.post("/api/verify").header("x-license-secure", "1");
        if let Some(key) = key {
            ask = ask.header("x-license-key", key);
        }
        if let Some(fingerprint) = fingerprint {
            ask = ask.header("x-device-fingerprint", fingerprint);
        }
        check(&ask.body(body.clone()).send().await, status, text, what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_device_stays_401_where_refusals_are_200() {
    let shop = Shop::with(true, json!({})).await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    let ask = device.ask(&shop, "/api/verify").header("x-license-secure", "1");
    check(&ask.body("{}").send().await, 401, NOT_AUTHORIZED, "compat");
    let session = device.keep(&device.activate(&shop).await).session();
    let path = format!("/api/licenses/{}/revoke", text_of(&license, "id"));
    shop.post(&path, json!({})).await.expect(200);
    let refused = device.secure(&shop, "/api/verify", &session).await.expect(200);
    assert_eq!(refused["success"], false);
    assert_eq!(refused["message"], "License has been revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_an_open_envelope_is_in_one_under_its_own_status() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    let session = device.keep(&device.activate(&shop).await).session();
    let other = Device { client_id: "nobody".to_owned(), ..device.clone() };
    let mate = Device { email: "mate@example.com".to_owned(), ..device.clone() };
    let bodies = [
        (b"{".to_vec(), 400, "Invalid request body"),
        (json!({}).to_string().into_bytes(), 400, "invalid email address"),
        (other.body().to_string().into_bytes(), 401, "client_id does not match license owner"),
        (mate.body().to_string().into_bytes(), 401, "email is not authorized for this license"),
    ];
    for (body, status, text) in bodies {
        let answer = device.secure_body(&shop, "/api/verify", &session, &body).await;
        assert_eq!(answer.expect(status)["error"], text);
    }
    let two = Device { fingerprint: fingerprint("two"), ..device.clone() };
    // Headers are not compared with the body: the session is the sender's, the license the body's.
    let body = two.body().to_string();
    let answer = device.secure_body(&shop, "/api/activate", &session, body.as_bytes()).await;
    let kept = two.keep(&answer);
    assert_ne!(&kept.session, session.expose(), "each device has a session key of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_removed_is_unknown_to_envelopes() {
    let shop = Shop::open().await;
    let license = shop.license(json!({})).await;
    let device = shop.device(&license, "one");
    let session = device.keep(&device.activate(&shop).await).session();
    let path = format!("/api/licenses/{}/activations", text_of(&license, "id"));
    let rows = shop.get(&path).await.expect(200);
    assert_eq!(rows[0]["device_fingerprint"], device.fingerprint.as_str());
    assert_eq!((&rows[0]["success"], &rows[0]["ip_address"]), (&json!(true), &json!("")));
    let path = format!("/admin/activations/{}", text_of(&rows[0], "id"));
    let ask = shop.world.ask(http::Method::DELETE, &path);
    ask.bearer(&shop.world.admin).send().await.expect(200);
    let sealed = envelope::seal(&session, nonce(), device.body().to_string().as_bytes());
    let ask = device.ask(&shop, "/api/verify").header("x-license-secure", "1");
    check(&ask.body(sealed).send().await, 401, NOT_AUTHORIZED, "removed");
    assert_eq!(device.verify(&shop).await.expect(401)["error"], "Device not previously activated");
    let anew = device.keep(&device.activate(&shop).await);
    assert_ne!(&anew.session, session.expose());
}
