//! Devices: activation, the state machine of verification, what is stored and when it is believed,
//! and the recorded data of the reference implementation.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use leasehold_client::device::{
    Activation, DeviceClient, DeviceClientBuilder, Gate, LicenseData, Refused, Trial,
};
use leasehold_client::{Error, GraceReason, LostReason, Verdict};
use protocol::device::checksum;
use protocol::device::crypto::{LicenseSigner, SessionKey};
use protocol::device::envelope;
use protocol::device::payload::{Entitlements, FeatureGrant, Permission, ScopeGrant};
use protocol::device::schedule::CheckMode;
use protocol::device::stored::StoredLicense;
use protocol::device::time::LicenseTime;
use protocol::device::trial::{TrialCheckRequest, TrialRequest};
use protocol::device::wire::{ACTIVATED, ActivationResponse, DeviceRequest};
use protocol::keys::{PrivateKey, RsaSize};
use protocol::secret::{Disclosed, Secret};
use serde_json::{Value, json};

use crate::far::{Far, Request, both, story};

const ACTIVATE: &str = "POST /api/activate";
const VERIFY: &str = "POST /api/verify";
const FINGERPRINT: &str = "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39";
const KEY: &str = "NWEOA-P5575-4WIZK-HBODW-FHAZP-KTI2Q-3JSAN-JXQ5P";
const NORMAL_KEY: &str = "NWEOAP55754WIZKHBODWFHAZPKTI2Q3JSANJXQ5P";
/// Wall clock when a story begins.
const BEGIN_MS: i64 = 1_795_001_000_000;
const DAY_MS: i64 = 86_400_000;
const HOUR: Duration = Duration::from_secs(3_600);

static SIGNER: LazyLock<LicenseSigner> = LazyLock::new(signer);
static OTHER: LazyLock<LicenseSigner> = LazyLock::new(signer);

fn signer() -> LicenseSigner {
    LicenseSigner::new(PrivateKey::generate_rsa(RsaSize::Bits2048).unwrap()).unwrap()
}

fn session_key() -> SessionKey {
    Secret::new([7; 32])
}

/// A license of ten days.
fn license(mode: CheckMode, next_check_ms: Option<i64>) -> LicenseData {
    let mut license =
        LicenseData::from_json(json!({"id": "l-1", "license_key": KEY}).to_string().as_bytes())
            .unwrap();
    license.email = "owner@example.com".to_owned();
    license.client_id = "client-1".to_owned();
    license.check_mode = mode;
    license.next_check_at = next_check_ms.map(LicenseTime::from_unix_ms);
    license.issued_at = LicenseTime::from_unix_ms(BEGIN_MS);
    license.expires_at = LicenseTime::from_unix_ms(BEGIN_MS + 10 * DAY_MS);
    license
}

fn not_due() -> LicenseData {
    license(CheckMode::Monthly, Some(BEGIN_MS + 9 * DAY_MS))
}

fn each_execution() -> LicenseData {
    license(CheckMode::EachExecution, Some(BEGIN_MS))
}

/// The answer that grants a license.
fn granting(signer: &LicenseSigner, license: &LicenseData) -> Value {
    let sealed = signer.seal(FINGERPRINT, [9; 12], &session_key(), &license.to_json()).unwrap();
    serde_json::to_value(ActivationResponse::success(ACTIVATED, &sealed, license.expires_at))
        .unwrap()
}

struct Device {
    far: Far,
    dir: tempfile::TempDir,
}

impl Device {
    async fn new() -> Self {
        Self { far: Far::start(1).await, dir: tempfile::tempdir().unwrap() }
    }

    fn builder(&self) -> DeviceClientBuilder {
        DeviceClient::builder()
            .server_url(self.far.urls()[0].clone())
            .variables(BTreeMap::new())
            .email(" owner@example.com ")
            .client_id("client-1")
            .license_key(" nweoa-P5575-4WIZK-HBODW-FHAZP-KTI2Q-3JSAN-JXQ5P ")
            .fingerprint(FINGERPRINT)
            .config_dir(self.dir.path().join("licensing"))
            .application("tool", "8.2")
            .environment(self.far.environment())
    }

    /// A program that has just started.
    fn client(&self) -> DeviceClient {
        self.builder().build().unwrap()
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.path().join("licensing").join(format!(".license.dat{suffix}"))
    }

    /// An activation that is answered with this.
    async fn activate(
        &mut self,
        client: &DeviceClient,
        status: u16,
        body: &Value,
    ) -> Result<Activation, Error> {
        let server = async { self.far.expect(ACTIVATE).await.answer(status, body) };
        both(client.activate(), server).await.0
    }

    /// A program of a device that was activated with this license, started anew.
    async fn activated(&mut self, license: &LicenseData) -> DeviceClient {
        let client = self.client();
        let activated = self.activate(&client, 200, &granting(&SIGNER, license)).await;
        assert_eq!(activated, Ok(Activation::Activated));
        self.client()
    }

    /// A verification in which the server is asked and answers this.
    async fn verify(&mut self, client: &DeviceClient, status: u16, body: &Value) -> Verdict {
        let server = async { answer(self.far.expect(VERIFY).await, status, body) };
        both(client.verify(), server).await.0.unwrap()
    }

    /// A verification that asks nobody.
    async fn verify_offline(&mut self, client: &DeviceClient) -> Verdict {
        let verdict = client.verify().await.unwrap();
        assert!(self.far.is_silent());
        verdict
    }
}

/// Answers; trouble so that it is not tried again at once.
fn answer(request: Request, status: u16, body: &Value) {
    match status {
        429 | 500.. => request.answer_with(status, &[("retry-after", "3600")], body),
        _ => request.answer(status, body),
    }
}

fn down() -> (u16, Value) {
    (503, json!({ "error": "no leader" }))
}

fn lost(verdict: &Verdict) -> &LostReason {
    match verdict {
        Verdict::Lost { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn refused(code: &str, detail: &str) -> Verdict {
    let reason = LostReason::Refused { code: code.to_owned(), detail: detail.to_owned() };
    Verdict::Lost { reason }
}

fn is_in_grace(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Grace { why: GraceReason::Unreachable, .. })
}

#[test]
fn an_activation_is_asked_for_in_the_clear_and_stored_as_the_reference_client_does() {
    story(async {
        let mut device = Device::new().await;
        let client = device.client();
        assert_eq!(client.verdict(), Verdict::Lost { reason: LostReason::NotActivated });
        let server = async {
            let request = device.far.expect(ACTIVATE).await;
            assert_eq!(request.header("x-device-fingerprint"), FINGERPRINT);
            assert_eq!(request.header("x-license-key"), NORMAL_KEY);
            assert_eq!(request.header("x-license-secure"), "");
            assert_eq!(request.header("user-agent"), "tool/8.2");
            let want = json!({
                "email": "owner@example.com", "client_id": "client-1",
                "license_key": "nweoa-P5575-4WIZK-HBODW-FHAZP-KTI2Q-3JSAN-JXQ5P",
                "device_fingerprint": FINGERPRINT,
            });
            assert_eq!(request.json(), want);
            request.answer(200, &granting(&SIGNER, &not_due()));
        };
        assert_eq!(both(client.activate(), server).await.0, Ok(Activation::Activated));
        assert_eq!(client.verdict(), Verdict::Held);
        let bytes = std::fs::read(device.path("")).unwrap();
        let stored = StoredLicense::parse(&bytes).unwrap();
        assert_eq!(stored.to_bytes(), bytes);
        let chk = std::fs::read(device.path(".chk")).unwrap();
        checksum::verify(Some(&chk), &bytes, FINGERPRINT).unwrap();
        assert!(!device.path(".tmp").exists());
        #[cfg(unix)]
        for (path, want) in [
            (device.path(""), 0o600),
            (device.path(".chk"), 0o600),
            (device.path(".state"), 0o600),
            (device.dir.path().join("licensing"), 0o700),
        ] {
            assert_eq!(mode(&path), want, "{}", path.display());
        }
    });
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn from_then_on_requests_and_answers_are_in_envelopes() {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        let key = session_key();
        let server = async {
            let request = device.far.expect(VERIFY).await;
            assert_eq!(request.header("x-license-secure"), "1");
            let body = envelope::open(&key, &request.body).unwrap();
            let call = DeviceRequest::read(&body).unwrap();
            assert_eq!(
                (call.email.as_str(), &*call.fingerprint),
                ("owner@example.com", FINGERPRINT)
            );
            let body = granting(&SIGNER, &not_due()).to_string();
            let sealed = envelope::seal(&key, [1; 12], body.as_bytes());
            let sealed = serde_json::from_slice(&sealed).unwrap();
            request.answer_with(200, &[("x-license-secure", "1")], &sealed);
        };
        assert_eq!(both(client.verify_now(), server).await.0, Ok(Verdict::Held));
        // A refusal comes in an envelope too; one that does not open is a refusal all the same.
        for (key, want) in [(session_key(), "Client is banned"), (Secret::new([8; 32]), "HTTP 401")]
        {
            let server = async {
                let request = device.far.expect(VERIFY).await;
                let sealed = envelope::seal(&key, [1; 12], br#"{"error":"Client is banned"}"#);
                let sealed = serde_json::from_slice(&sealed).unwrap();
                request.answer_with(401, &[("x-license-secure", "1")], &sealed);
            };
            let verdict = both(client.verify_now(), server).await.0.unwrap();
            assert_eq!(verdict, refused("401", want));
        }
    });
}

#[test]
fn a_device_that_the_server_forgot_activates_in_the_clear() {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        assert_eq!(device.verify_offline(&client).await, Verdict::Held);
        let server = async {
            let request = device.far.expect(ACTIVATE).await;
            assert_eq!(request.header("x-license-secure"), "1");
            request.answer_text(401, "Device not authorized for secure transport");
            let request = device.far.expect(ACTIVATE).await;
            assert_eq!(request.header("x-license-secure"), "");
            request.answer(200, &granting(&SIGNER, &not_due()));
        };
        assert_eq!(both(client.activate(), server).await.0, Ok(Activation::Activated));
    });
}

#[test]
fn the_server_is_asked_when_a_check_is_due() {
    let past = Some(BEGIN_MS - 1);
    let ahead = Some(BEGIN_MS + DAY_MS);
    for (mode, next, is_due) in [
        (CheckMode::None, None, false),
        (CheckMode::EachExecution, ahead, true),
        (CheckMode::Monthly, ahead, false),
        (CheckMode::Monthly, past, true),
        (CheckMode::Monthly, None, false),
        (CheckMode::Yearly, past, true),
        (CheckMode::Custom, ahead, false),
        (CheckMode::Custom, past, true),
    ] {
        story(async {
            let mut device = Device::new().await;
            let license = license(mode, next);
            let client = device.activated(&license).await;
            let verdict = match is_due {
                true => device.verify(&client, 200, &granting(&SIGNER, &license)).await,
                false => device.verify_offline(&client).await,
            };
            assert_eq!(verdict, Verdict::Held, "{mode:?} {next:?}");
        });
    }
}

/// What an answer to a verification makes of the verdict; and, where it is a decision, that it
/// stands after a restart without a server, until the server lifts it.
fn check_answer(status: u16, body: &Value, want: Option<&str>) {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        let server = async { answer(device.far.expect(VERIFY).await, status, body) };
        let verdict = both(client.verify_now(), server).await.0.unwrap();
        let Some(message) = want else {
            assert!(is_in_grace(&verdict), "{status} {verdict:?}");
            assert_eq!(client.message(), None);
            return;
        };
        assert_eq!(verdict, refused(&status.to_string(), message));
        assert_eq!(
            (client.message().as_deref(), client.can("a", None)),
            (Some(message), Gate::Denied)
        );
        let (status_down, body_down) = down();
        let again = device.client();
        assert_eq!(device.verify(&again, status_down, &body_down).await, verdict);
        let lifted = granting(&SIGNER, &not_due());
        assert_eq!(device.verify(&again, 200, &lifted).await, Verdict::Held);
        let last = device.client();
        assert_eq!(device.verify_offline(&last).await, Verdict::Held);
    });
}

#[test]
fn a_decision_counts_and_a_server_in_trouble_does_not() {
    for status in [429, 500, 501, 503, 505] {
        check_answer(status, &json!({ "error": "x" }), None);
    }
    for (status, message) in [
        (400, "invalid email address"),
        (401, "License has been revoked"),
        (401, "Client is banned"),
        (401, "Device not previously activated"),
        (401, "License expired on 2026-11-22"),
        (404, "Invalid license key"),
        (409, "Maximum devices (5) reached"),
    ] {
        check_answer(status, &json!({ "error": message, "message": message }), Some(message));
    }
    let body = json!({ "success": false, "message": "License has been revoked" });
    check_answer(200, &body, Some("License has been revoked"));
}

#[test]
fn an_answer_that_grants_must_be_signed_sealed_and_of_the_same_license() {
    let mut other = not_due();
    other.id = "l-2".to_owned();
    let mut unsigned = granting(&SIGNER, &not_due());
    let signature = unsigned["signature"].as_str().unwrap().replace('0', "1");
    unsigned["signature"] = json!(signature);
    let mut dated = granting(&SIGNER, &not_due());
    dated["expires_at"] = json!("2099-01-01T00:00:00Z");
    for body in [
        json!({}),
        json!({ "success": true }),
        unsigned,
        dated,
        granting(&OTHER, &not_due()),
        granting(&SIGNER, &other),
    ] {
        story(async {
            let mut device = Device::new().await;
            let client = device.activated(&not_due()).await;
            let before = std::fs::read(device.path("")).unwrap();
            let server = async { device.far.expect(VERIFY).await.answer(200, &body) };
            let verdict = both(client.verify_now(), server).await.0.unwrap();
            let reason = lost(&verdict);
            // Nobody was granted anything by an answer that says so and is nothing.
            let is_right = matches!(reason, LostReason::Unbelieved(_) | LostReason::Refused { .. });
            assert!(is_right, "{body} {reason}");
            assert_eq!(std::fs::read(device.path("")).unwrap(), before);
        });
    }
}

#[test]
fn the_license_carries_the_program_to_its_end_over_restarts() {
    story(async {
        let mut device = Device::new().await;
        let (status, body) = down();
        let mut client = device.activated(&each_execution()).await;
        for day in 1..10 {
            device.far.world.advance(24 * HOUR);
            assert!(is_in_grace(&device.verify(&client, status, &body).await), "{day}");
            client = device.client();
        }
        assert!(is_in_grace(&device.verify(&client, status, &body).await));
        device.far.world.advance(24 * HOUR);
        let verdict =
            Verdict::Lost { reason: LostReason::Expired { why: Some(GraceReason::Unreachable) } };
        assert_eq!(client.verdict(), verdict);
        assert_eq!(client.message().as_deref(), Some("license expired on 2026-11-28"));
        assert_eq!(device.verify(&device.client(), status, &body).await, verdict);
    });
}

#[test]
fn the_messages_are_the_protocols() {
    story(async {
        let mut device = Device::new().await;
        let client = device.client();
        assert_eq!(device.verify_offline(&client).await, client.verdict());
        let words = "license not found - please activate first";
        assert_eq!(client.message().as_deref(), Some(words));
        let mut revoked = not_due();
        (revoked.is_revoked, revoked.revoke_reason) = (true, "fraud".to_owned());
        let client = device.activated(&revoked).await;
        assert_eq!(
            device.verify_offline(&client).await,
            refused("revoked", "license revoked: fraud")
        );
    });
}

#[test]
fn a_changed_byte_is_found_and_an_activation_is_the_way_back() {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        for suffix in ["", ".chk", ".state"] {
            let path = device.path(suffix);
            let good = std::fs::read(&path).unwrap();
            // The checksum does not cover the time at which it was made: that is for people.
            let text = String::from_utf8_lossy(&good).into_owned();
            let exempt = match text.find("\"created_at\":\"") {
                Some(at) => at + 14..good.len() - 2,
                None => 0..0,
            };
            for at in (0..good.len()).filter(|at| !exempt.contains(at)) {
                let mut bad = good.clone();
                bad[at] ^= 1;
                std::fs::write(&path, &bad).unwrap();
                let verdict = device.verify_offline(&client).await;
                let is_found = matches!(lost(&verdict), LostReason::Unbelieved(_));
                assert!(is_found, "{suffix} byte {at}: {verdict:?}");
            }
            std::fs::write(&path, &good[..good.len() - 1]).unwrap();
            assert!(!device.verify_offline(&client).await.permits_use());
            let granted = granting(&SIGNER, &not_due());
            let again = device.client();
            device.activate(&again, 200, &granted).await.unwrap();
            assert_eq!(device.verify_offline(&client).await, Verdict::Held);
        }
    });
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_touch_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        for suffix in ["", ".chk", ".state"] {
            for mode in [0o644, 0o640, 0o602, 0o610] {
                let permissions = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(device.path(suffix), permissions).unwrap();
                let verdict = device.verify_offline(&client).await;
                let LostReason::Unbelieved(why) = lost(&verdict) else { panic!("{verdict:?}") };
                assert!(why.contains(&format!("mode is {mode:o}")), "{why}");
            }
            let permissions = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(device.path(suffix), permissions).unwrap();
            assert_eq!(device.verify_offline(&client).await, Verdict::Held);
        }
    });
}

#[test]
fn without_a_checksum_only_a_servers_word_counts() {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        std::fs::remove_file(device.path(".chk")).unwrap();
        let (status, body) = down();
        let verdict = device.verify(&client, status, &body).await;
        assert!(matches!(lost(&verdict), LostReason::Unbelieved(_)), "{verdict:?}");
        let granted = granting(&SIGNER, &not_due());
        assert_eq!(device.verify(&client, 200, &granted).await, Verdict::Held);
        assert_eq!(device.verify_offline(&client).await, Verdict::Held);
    });
}

#[test]
fn a_clock_that_went_back_is_refused_until_a_server_answers() {
    for (hours, is_refused) in [(5, false), (7, true), (48, true)] {
        story(async {
            let mut device = Device::new().await;
            let client = device.activated(&not_due()).await;
            device.far.world.advance(72 * HOUR);
            assert_eq!(device.verify_offline(&client).await, Verdict::Held);
            device.far.world.set_wall_back(hours * HOUR);
            let again = device.client();
            if !is_refused {
                assert_eq!(device.verify_offline(&again).await, Verdict::Held);
                return;
            }
            let (status, body) = down();
            let verdict = device.verify(&again, status, &body).await;
            let LostReason::ClockWentBack { by_ms } = lost(&verdict) else { panic!("{verdict:?}") };
            assert_eq!(by_ms / 3_600_000, u64::from(hours));
            let granted = granting(&SIGNER, &not_due());
            assert_eq!(device.verify(&again, 200, &granted).await, Verdict::Held);
            assert_eq!(device.verify_offline(&device.client()).await, Verdict::Held);
        });
    }
}

#[test]
fn a_clock_set_back_while_the_program_runs_gains_nothing() {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        assert_eq!(device.verify_offline(&client).await, Verdict::Held);
        device.far.world.set_wall_back(30 * 24 * HOUR);
        device.far.world.advance(10 * 24 * HOUR);
        assert!(!client.verdict().permits_use());
    });
}

#[test]
fn another_key_than_the_known_one_is_refused() {
    story(async {
        let mut device = Device::new().await;
        let pinned =
            |pem: String, device: &Device| device.builder().server_key_pem(pem).build().unwrap();
        let known = pinned(SIGNER.public_key().to_pem(), &device);
        let refused = device.activate(&known, 200, &granting(&OTHER, &not_due())).await;
        assert!(matches!(refused, Err(Error::Protocol { .. })), "{refused:?}");
        assert!(!device.path("").exists());
        // The first activation's key is trusted, and no other from then on.
        let client = device.activated(&not_due()).await;
        let refused = device.activate(&client, 200, &granting(&OTHER, &not_due())).await;
        assert!(matches!(refused, Err(Error::Protocol { .. })), "{refused:?}");
        assert_eq!(device.verify_offline(&client).await, Verdict::Held);
        // A whole file of another signer, with a checksum that vouches for it.
        let forged = OTHER
            .seal(FINGERPRINT, [2; 12], &session_key(), &not_due().to_json())
            .map(|sealed| StoredLicense {
                sealed,
                device_fingerprint: FINGERPRINT.to_owned(),
                expires_at: not_due().expires_at,
            })
            .unwrap()
            .to_bytes();
        let created_at = LicenseTime::from_unix_ms(BEGIN_MS);
        let chk = checksum::seal(&forged, FINGERPRINT, [3; 12], created_at);
        std::fs::write(device.path(""), &forged).unwrap();
        std::fs::write(device.path(".chk"), &chk).unwrap();
        let verdict = device.verify_offline(&client).await;
        let LostReason::Unbelieved(why) = lost(&verdict) else { panic!("{verdict:?}") };
        assert!(why.contains("key has changed"), "{why}");
        // An operator changed it.
        client.forget_server_key().await.unwrap();
        let taken = device.activate(&client, 200, &granting(&OTHER, &not_due())).await;
        assert_eq!(taken, Ok(Activation::Activated));
    });
}

#[test]
fn a_write_that_a_crash_cut_short_is_finished() {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&not_due()).await;
        std::fs::copy(device.path(""), device.path(".old")).unwrap();
        let granted = granting(&SIGNER, &license(CheckMode::None, None));
        let server = async { device.far.expect(VERIFY).await.answer(200, &granted) };
        both(client.verify_now(), server).await.0.unwrap();
        // As it was between the checksum's rename and the license's.
        std::fs::rename(device.path(""), device.path(".tmp")).unwrap();
        std::fs::rename(device.path(".old"), device.path("")).unwrap();
        let again = device.client();
        assert_eq!(device.verify_offline(&again).await, Verdict::Held);
        assert_eq!(again.license().unwrap().check_mode, CheckMode::None);
        assert!(!device.path(".tmp").exists());
    });
}

#[test]
fn custom_checks_go_on_in_the_background() {
    story(async {
        let mut device = Device::new().await;
        let at = |hours: i64| {
            let next = BEGIN_MS + hours * 3_600_000;
            let mut license = license(CheckMode::Custom, Some(next));
            license.check_interval_seconds = Some(3_600);
            granting(&SIGNER, &license)
        };
        let client = device.client();
        device.activate(&client, 200, &at(1)).await.unwrap();
        assert_eq!(client.start().await, Ok(Verdict::Held));
        let mut feed = client.watch();
        let (request, waited) = device.far.later().await;
        assert_eq!((request.line.as_str(), waited), (VERIFY, HOUR));
        request.answer(200, &at(2));
        let (request, waited) = device.far.later().await;
        assert_eq!(waited, HOUR);
        answer(request, 503, &json!({}));
        assert!(is_in_grace(&feed.changed().await.unwrap()));
        let (request, waited) = device.far.later().await;
        assert_eq!(waited, Duration::from_secs(300));
        request.answer(200, &at(4));
        assert_eq!(feed.changed().await, Some(Verdict::Held));
        let (request, _) = device.far.later().await;
        request.answer(401, &json!({ "error": "License has been revoked" }));
        let verdict = feed.changed().await.unwrap();
        assert_eq!(verdict, refused("401", "License has been revoked"));
        drop(client);
        assert_eq!(feed.changed().await, None);
    });
}

#[test]
fn a_host_is_called_back_and_its_panic_is_its_own() {
    story(async {
        let mut device = Device::new().await;
        let client = device.activated(&license(CheckMode::None, None)).await;
        let (tell, mut told) = tokio::sync::mpsc::channel(8);
        client.on_change(|_| panic!("planted")).unwrap();
        client.on_change(move |verdict| tell.try_send(verdict.clone()).unwrap()).unwrap();
        assert_eq!(device.verify_offline(&client).await, Verdict::Held);
        assert_eq!(told.recv().await, Some(Verdict::Held));
        device.far.world.advance(10 * 24 * HOUR);
        client.verify().await.unwrap();
        assert!(!told.recv().await.unwrap().permits_use());
        assert!(device.far.is_silent());
    });
}

#[test]
fn gates_are_what_the_license_says() {
    story(async {
        let mut device = Device::new().await;
        let scope = |permission, limit| ScopeGrant { permission, limit, ..ScopeGrant::default() };
        let scopes = BTreeMap::from([
            ("all".to_owned(), scope(Permission::Allow, 9)),
            ("none".to_owned(), scope(Permission::Deny, 9)),
            ("some".to_owned(), scope(Permission::Limit, 3)),
            ("boundless".to_owned(), scope(Permission::Limit, 0)),
        ]);
        let on = FeatureGrant { enabled: true, scopes: scopes.clone(), ..FeatureGrant::default() };
        let off = FeatureGrant { scopes, ..FeatureGrant::default() };
        let features = BTreeMap::from([("on".to_owned(), on), ("off".to_owned(), off)]);
        let mut license = not_due();
        license.entitlements = Some(Entitlements { features, ..Entitlements::default() });
        let client = device.activated(&license).await;
        assert_eq!(client.can("on", None), Gate::Denied, "before a look at the license");
        device.verify_offline(&client).await;
        for (feature, scope, want) in [
            ("on", None, Gate::Allowed),
            ("on", Some("all"), Gate::Allowed),
            ("on", Some("none"), Gate::Denied),
            ("on", Some("some"), Gate::Limited(3)),
            ("on", Some("boundless"), Gate::Allowed),
            ("on", Some("other"), Gate::Denied),
            ("off", None, Gate::Denied),
            ("off", Some("all"), Gate::Denied),
            ("other", None, Gate::Denied),
        ] {
            assert_eq!(client.can(feature, scope), want, "{feature} {scope:?}");
        }
    });
}

#[test]
fn a_refused_activation_leaves_everything_as_it_was() {
    story(async {
        let mut device = Device::new().await;
        let message = "Maximum devices (1) reached".to_owned();
        let body = json!({ "error": message, "message": message });
        let client = device.client();
        let want = Ok(Activation::Refused(Refused { status: 409, message }));
        assert_eq!(device.activate(&client, 409, &body).await, want);
        assert!(!device.path("").exists());
        let unavailable = {
            let server = async { answer(device.far.expect(ACTIVATE).await, 503, &json!({})) };
            both(client.activate(), server).await.0
        };
        assert!(unavailable.unwrap_err().is_transient());
        let blank = DeviceClient::builder()
            .server_url(device.far.urls()[0].clone())
            .variables(BTreeMap::new())
            .config_dir(device.dir.path())
            .build()
            .unwrap();
        let error = blank.activate().await.unwrap_err();
        assert!(matches!(error, Error::Configuration { .. }), "{error}");
    });
}

#[test]
fn a_trial_is_asked_for_and_held_like_a_license() {
    story(async {
        let mut device = Device::new().await;
        let client = device.client();
        let server = async {
            let request = device.far.expect("POST /api/trial/check").await;
            let call = TrialCheckRequest::read(&request.body).unwrap();
            assert_eq!(call.fingerprint, FINGERPRINT);
            request.answer(200, &json!({ "device_fingerprint": FINGERPRINT, "eligible": true }));
        };
        assert!(both(client.check_trial(), server).await.0.unwrap().eligible);
        let mut license = license(CheckMode::None, None);
        license.is_trial = true;
        license.license_key = Disclosed::new(KEY.to_owned());
        let trial = Trial { days: Some(14), plan: None };
        let server = async {
            let request = device.far.expect("POST /api/trial").await;
            assert_eq!(TrialRequest::read(&request.body).unwrap().days, Some(14));
            request.answer(201, &granting(&SIGNER, &license));
        };
        let begun = both(client.start_trial(trial.clone()), server).await.0;
        assert_eq!((begun, client.verdict()), (Ok(Activation::Activated), Verdict::Held));
        let message = "Trial already used on this device".to_owned();
        let server = async {
            let request = device.far.expect("POST /api/trial").await;
            request.answer(409, &json!({ "error": message }));
        };
        let refused = both(client.start_trial(trial), server).await.0;
        let message = message.clone();
        assert_eq!(refused, Ok(Activation::Refused(Refused { status: 409, message })));
    });
}

#[test]
fn what_is_said_goes_before_variables_and_they_before_defaults() {
    let variables = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let server = ("LICENSE_CLIENT_SERVER", "http://license.example.com");
    let insecure = ("LICENSE_CLIENT_ALLOW_INSECURE_HTTP", "true");
    let home = ("HOME", "/nowhere");
    for (pairs, said, want) in [
        (vec![home], None, Some("https://localhost:8801")),
        (vec![home, server], None, None),
        (vec![home, server, insecure], None, Some("http://license.example.com")),
        (vec![home, server], Some("https://said"), Some("https://said")),
        (vec![], None, None),
    ] {
        let mut builder = DeviceClient::builder().variables(variables(&pairs));
        if let Some(url) = said {
            builder = builder.server_url(url);
        }
        let built = builder.build().ok().map(|client| format!("{client:?}"));
        assert_eq!(built.is_some(), want.is_some(), "{pairs:?}");
        assert!(built.unwrap_or_default().contains(want.unwrap_or_default()), "{pairs:?}");
    }
}

/// A file of the recorded data, or nothing where the data is not here, said so that it is heard
/// although the test passes.
fn recorded(name: &str) -> Option<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/device");
    if !root.is_dir() {
        // Not `eprintln!`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: no recorded data at {}", root.display());
        return None;
    }
    let path = root.join(name);
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

#[test]
fn the_recorded_files_of_the_reference_client_are_believed() {
    for name in ["license", "license_after_verify"] {
        let Some(license) = recorded(&format!("client-run/{name}.dat")) else { return };
        let chk = recorded(&format!("client-run/{name}.dat.chk")).unwrap();
        let pem = String::from_utf8(recorded("client-run/server_public_key.pem").unwrap()).unwrap();
        story(async {
            let mut device = Device::new().await;
            // Some days after the recording, which the license's own times tell.
            device.far.world.advance(5 * 24 * HOUR);
            std::fs::create_dir(device.dir.path().join("licensing")).unwrap();
            for (suffix, bytes) in [("", &license), (".chk", &chk)] {
                std::fs::write(device.path(suffix), bytes).unwrap();
                #[cfg(unix)]
                std::fs::set_permissions(
                    device.path(suffix),
                    std::os::unix::fs::PermissionsExt::from_mode(0o600),
                )
                .unwrap();
            }
            let client = device.builder().server_key_pem(pem.trim()).build().unwrap();
            assert_eq!(device.verify_offline(&client).await, Verdict::Held);
            assert_eq!(client.license().unwrap().email, "golden@example.com");
        });
    }
}

#[test]
fn the_recorded_activation_is_accepted_and_stored_byte_for_byte() {
    let Some(response) = recorded("client-run/activation_response.json") else { return };
    let request: Value =
        serde_json::from_slice(&recorded("client-run/activation_request.json").unwrap()).unwrap();
    story(async {
        let mut device = Device::new().await;
        device.far.world.advance(5 * 24 * HOUR);
        let client = device
            .builder()
            .email(request["email"].as_str().unwrap())
            .client_id(request["client_id"].as_str().unwrap())
            .license_key(KEY)
            .build()
            .unwrap();
        let server = async {
            let asked = device.far.expect(ACTIVATE).await;
            assert_eq!(asked.json(), request);
            asked.answer(200, &serde_json::from_slice(&response).unwrap());
        };
        assert_eq!(both(client.activate(), server).await.0, Ok(Activation::Activated));
        assert_eq!(
            std::fs::read(device.path("")).unwrap(),
            recorded("client-run/license.dat").unwrap()
        );
    });
}
