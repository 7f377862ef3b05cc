//! A world that sells licenses of the `device` protocol, and a device that uses them.
//!
//! The device is a client of the protocol in its own right: it opens what it is sent with the
//! `protocol` crate, as an SDK does, and believes nothing that is not signed.

use data_encoding::HEXLOWER;
use gateway::Faces;
use http::Method;
use lease::ids::Face;
use protocol::device::crypto::SessionKey;
use protocol::device::envelope;
use protocol::device::payload::LicenseData;
use protocol::device::wire::ActivationResponse;
use protocol::secret::Secret;
use serde_json::{Value, json};
use storage::seam::{Clock, Entropy, RealClock, RealEntropy};

use crate::world::{Answer, Ask, PACKAGE, World, keys, text_of};

pub(crate) const OWNER: &str = "owner@example.com";

/// A founded cluster with a package, a client, and operators' keys for the admin API.
pub(crate) struct Shop {
    pub(crate) world: World,
    pub(crate) client_id: String,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::with(false, json!({})).await
    }

    /// With the switch `compat = 200`, and a package of this policy.
    pub(crate) async fn with(device_compat_200: bool, policy: Value) -> Self {
        let mut shop = Self::empty(device_compat_200, policy).await;
        shop.client_id = shop.add_client(OWNER).await;
        shop
    }

    /// Without a client.
    pub(crate) async fn empty(device_compat_200: bool, policy: Value) -> Self {
        let faces = Faces { device_compat_200, ..Faces::default() };
        let world = World::with_faces(faces).await;
        world.pin_vendor().await.expect(201);
        let (now_ms, day_ms) = (RealClock::new().wall_ms(), 24 * 60 * 60 * 1_000);
        let text = protocol::package::sample_document(now_ms - day_ms, now_ms + 365 * day_ms, &[]);
        let mut document: Value = serde_json::from_str(&text).expect("JSON");
        document["x_leasehold"] = json!({ "policy": policy });
        world.import(&world.sign(&document.to_string())).await.expect(201);
        Self { world, client_id: String::new() }
    }

    pub(crate) async fn add_client(&self, email: &str) -> String {
        let client = self.post("/api/clients", json!({ "email": email })).await.expect(201);
        text_of(&client, "id").to_owned()
    }

    /// A call of the admin API by an operator.
    pub(crate) fn admin(&self, method: Method, path: &str) -> Ask<'_> {
        self.world.ask(method, path).header("x-api-key", &self.world.operator)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.admin(Method::POST, path).json(&body).send().await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.admin(Method::PUT, path).json(&body).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.admin(Method::GET, path).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.admin(Method::DELETE, path).send().await
    }

    /// Issues a license to the client for a year; `more` changes the request.
    pub(crate) async fn license(&self, more: Value) -> Value {
        let mut body = json!({
            "client_id": self.client_id,
            "plan_slug": "gold",
            "duration_days": 365,
            "max_devices": 2,
            "check_mode": "monthly",
            "package_id": PACKAGE,
        });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        self.post("/api/licenses", body).await.expect(201)
    }

    /// A device of the client with a license's key.
    pub(crate) fn device(&self, license: &Value, name: &str) -> Device {
        Device {
            email: OWNER.to_owned(),
            client_id: self.client_id.clone(),
            key: text_of(license, "license_key").to_owned(),
            fingerprint: fingerprint(name),
            product: None,
        }
    }

    /// Changes a license through the operators' own API.
    pub(crate) async fn change(&self, license: &Value, what: &str) {
        let path = format!("/admin/licenses/{}/{what}", text_of(license, "id"));
        self.world.post(&path).bearer(&self.world.admin).send().await.expect(200);
    }

    /// Seats of the package that are out.
    pub(crate) fn seats_taken(&self) -> u32 {
        let ledger = self.world.cluster.ledger();
        let seats = ledger.package(PACKAGE).expect("the package").seats();
        seats.commit_in_use + seats.overage_in_use
    }

    /// Seats that the ledger's license of a key has active.
    pub(crate) fn active(&self, device: &Device) -> u32 {
        let ledger = self.world.cluster.ledger();
        let key = protocol::device::key::LicenseKey::normalise(&device.key).expect("a key");
        let mac = keys().license_keys.tag(&[b"license-key", key.expose().as_bytes()]);
        let license = ledger.license_by_key(&mac, Face::Device).expect("a license");
        ledger.active_activations(license.terms.license)
    }
}

/// A fingerprint: 64 hex digits that begin with a name's.
pub(crate) fn fingerprint(name: &str) -> String {
    format!("{:0<64}", HEXLOWER.encode(name.as_bytes()))
}

/// A device with what its user typed in.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) email: String,
    pub(crate) client_id: String,
    pub(crate) key: String,
    pub(crate) fingerprint: String,
    pub(crate) product: Option<String>,
}

/// What a device keeps of an answer.
pub(crate) struct Kept {
    pub(crate) session: [u8; 32],
    pub(crate) license: LicenseData,
    pub(crate) json: Value,
}

impl Kept {
    pub(crate) fn session(&self) -> SessionKey {
        Secret::new(self.session)
    }
}

impl Device {
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "email": self.email,
            "client_id": self.client_id,
            "license_key": self.key,
            "device_fingerprint": self.fingerprint,
        });
        if let Some(product) = &self.product {
            body["product_id"] = json!(product);
        }
        body
    }

    /// A call with the headers that the protocol's clients send.
    pub(crate) fn ask<'a>(&self, shop: &'a Shop, path: &str) -> Ask<'a> {
        let key: String = self.key.to_uppercase().replace(['-', ' '], "");
        shop.world
            .post(path)
            .header("content-type", "application/json")
            .header("user-agent", "TestApp/1.0.0")
            .header("x-device-fingerprint", &self.fingerprint)
            .header("x-license-key", &key)
    }

    pub(crate) async fn activate(&self, shop: &Shop) -> Answer {
        self.ask(shop, "/api/activate").json(&self.body()).send().await
    }

    pub(crate) async fn verify(&self, shop: &Shop) -> Answer {
        self.ask(shop, "/api/verify").json(&self.body()).send().await
    }

    /// A call in an envelope; the answer is taken out of its own.
    pub(crate) async fn secure(&self, shop: &Shop, path: &str, session: &SessionKey) -> Answer {
        let body = self.body().to_string();
        self.secure_body(shop, path, session, body.as_bytes()).await
    }

    pub(crate) async fn secure_body(
        &self,
        shop: &Shop,
        path: &str,
        session: &SessionKey,
        body: &[u8],
    ) -> Answer {
        let sealed = envelope::seal(session, nonce(), body);
        let ask = self.ask(shop, path).header("x-license-secure", "1");
        let mut answer = ask.body(sealed).send().await;
        assert_eq!(answer.header("x-license-secure"), Some("1"), "{answer:?}");
        let opened = envelope::open(session, answer.text.as_bytes()).expect("our session key");
        answer.text = String::from_utf8(opened.to_vec()).expect("text");
        answer
    }

    /// Opens an answer as a device does.
    pub(crate) fn keep(&self, answer: &Answer) -> Kept {
        let status = answer.status.as_u16();
        assert!(status == 200 || status == 201, "{answer:?}");
        let (sealed, expires_at) =
            ActivationResponse::read(answer.text.as_bytes()).expect("an answer");
        let opened = sealed.open(&self.fingerprint, None).expect("sealed to this device");
        let license = LicenseData::from_json(&opened.license_json).expect("a license");
        assert_eq!(license.expires_at, expires_at);
        let json = serde_json::from_slice(&opened.license_json).expect("JSON");
        Kept { session: *opened.session_key.expose(), license, json }
    }
}

/// A fresh nonce.
pub(crate) fn nonce() -> [u8; 12] {
    let mut nonce = [0; 12];
    RealEntropy.fill(&mut nonce);
    nonce
}
