//! The `device` protocol: requests, the envelope, the answer, the stored file and its checksum.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use protocol::device::crypto::{LicenseSigner, SealedLicense, SessionKey};
use protocol::device::envelope;
use protocol::device::key::LicenseKey;
use protocol::device::payload::LicenseData;
use protocol::device::stored::StoredLicense;
use protocol::device::trial::{TrialCheckRequest, TrialCheckResponse, TrialRequest};
use protocol::device::wire::{ACTIVATED, ActivationResponse, DeviceRequest, FailureBody};
use protocol::device::{checksum, fingerprint, time::LicenseTime};
use protocol::keys::PublicKey;
use protocol::secret::Secret;

use super::bodies::body;
use super::{Decoder, Family, Origin, Verdict, samples};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let world = Arc::new(World::new()?);
    Ok(vec![
        license_key(),
        machine_texts(),
        device_request(),
        trial_request(),
        trial_check_request(),
        body::<TrialCheckResponse>("device-trial-check-answer", Family::Device, &[TRIAL_ANSWER]),
        body::<FailureBody>(
            "device-failure",
            Family::Device,
            &[r#"{"error":"Maximum devices (5) reached","message":"Maximum devices (5) reached"}"#],
        ),
        license_data()?,
        envelopes(&world),
        recorded_envelopes()?,
        answer(&world)?,
        stored_file(&world)?,
        stored_license(&world)?,
        checksum_file(&world),
        file_under_checksum(&world),
    ])
}

/// One activation: what the server made and the client keeps.
struct World {
    sealed: SealedLicense,
    license_json: Vec<u8>,
    server_key: PublicKey,
    stored: Vec<u8>,
    checksum: Vec<u8>,
}

impl World {
    fn new() -> Result<Self> {
        let signer = LicenseSigner::new(samples::rsa()?)?;
        let license_json = LicenseData::from_json(LICENSE.as_bytes())?.to_json();
        let sealed = signer.seal(FINGERPRINT, [9; 12], &session_key(), &license_json)?;
        let stored = StoredLicense {
            sealed: sealed.clone(),
            device_fingerprint: FINGERPRINT.to_owned(),
            expires_at: expires_at()?,
        }
        .to_bytes();
        let checksum = checksum::seal(&stored, FINGERPRINT, [4; 12], expires_at()?);
        let server_key = signer.public_key().clone();
        Ok(Self { sealed, license_json, server_key, stored, checksum })
    }

    /// What opens under our key is what we sealed.
    fn opens(&self, sealed: &SealedLicense) -> Result<Verdict> {
        let Ok(opened) = sealed.open(FINGERPRINT, Some(&self.server_key)) else {
            return Ok(Verdict::Refused);
        };
        ensure!(*opened.license_json == self.license_json, "a license that nobody sealed opens");
        ensure!(opened.session_key.expose() == session_key().expose(), "another session key");
        Ok(Verdict::Accepted)
    }
}

fn session_key() -> SessionKey {
    Secret::new([0x5e; 32])
}

fn expires_at() -> Result<LicenseTime> {
    "2027-11-22T05:28:15.371830493Z".parse().context("the time of the example")
}

fn license_key() -> Decoder {
    let made = LicenseKey::generate(&[0x5a; 21], "client", "owner@example.com");
    let examples = vec![
        made.expose().as_bytes().to_vec(),
        made.hyphenated().expose().as_bytes().to_vec(),
        b"nweoa-p5575-4wizk-hbodw-fhazp-kti2q-3jsan-jxq5p".to_vec(),
    ];
    Decoder::new("device-license-key", Family::Device, examples, |bytes, _| {
        let Ok(key) = LicenseKey::normalise(&String::from_utf8_lossy(bytes)) else {
            return Ok(Verdict::Refused);
        };
        for text in [key.expose(), key.hyphenated().expose()] {
            ensure!(LicenseKey::normalise(text)?.equals(&key), "{text} is another key");
        }
        Ok(Verdict::Accepted)
    })
}

/// What a machine prints about itself, on every system, and what is made of it.
fn machine_texts() -> Decoder {
    let examples = [
        "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R)\n",
        "en0: flags=8863<UP>\n\tether a4:83:e7:00:00:01\n\tinet 10.0.0.2\n",
        "\"00-15-5D-00-00-01\",\"\\Device\\Tcpip_{1}\"\r\nmodel name: x\r\n",
    ];
    let examples = examples.map(|text| text.as_bytes().to_vec()).to_vec();
    Decoder::new("device-machine-text", Family::Device, examples, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let found = [
            fingerprint::linux_cpu_name(&text),
            fingerprint::macos_mac_address(&text),
            fingerprint::windows_mac_address(&text),
            fingerprint::windows_cpu_name(&text),
            fingerprint::linux_mac_address(&text),
            fingerprint::macos_cpu_name(&text),
        ];
        for part in found.into_iter().flatten() {
            ensure!(fingerprint::is_fingerprint(&fingerprint::cpu_hash(part)), "{part:?}");
        }
        let named = fingerprint::linux_cpu_name(&text).or(fingerprint::macos_mac_address(&text));
        // The others take any first or second line.
        Ok(if named.is_some() { Verdict::Accepted } else { Verdict::Refused })
    })
}

fn recorded_or(examples: &[&str], recorded: &[&str]) -> Vec<Vec<u8>> {
    let own = examples.iter().map(|text| text.as_bytes().to_vec());
    own.chain(recorded.iter().filter_map(|name| samples::recorded(name))).collect()
}

fn device_request() -> Decoder {
    let recorded = [
        "device/client-run/activation_request.json",
        "device/client-run/verify_request_plain.json",
    ];
    let examples = recorded_or(&[REQUEST], &recorded);
    Decoder::new("device-request", Family::Device, examples, |bytes, _| {
        let Ok(call) = DeviceRequest::read(bytes) else { return Ok(Verdict::Refused) };
        ensure!(fingerprint::is_fingerprint(&call.fingerprint), "{:?}", call.fingerprint);
        ensure!(!call.client_id.is_empty() && call.identity().contains('@'), "an empty name");
        ensure!(LicenseKey::normalise(call.license_key.expose()).is_ok(), "no license key");
        Ok(Verdict::Accepted)
    })
}

fn trial_request() -> Decoder {
    let examples = recorded_or(&[TRIAL, TRIAL_OF_CLIENT], &[]);
    Decoder::new("device-trial-request", Family::Device, examples, |bytes, _| {
        let Ok(call) = TrialRequest::read(bytes) else { return Ok(Verdict::Refused) };
        let bounded = call.days.is_none_or(|days| (1..=366).contains(&days));
        ensure!(bounded && fingerprint::is_fingerprint(&call.fingerprint), "{call:?}");
        Ok(Verdict::Accepted)
    })
}

fn trial_check_request() -> Decoder {
    let examples = recorded_or(&[TRIAL_CHECK], &[]);
    Decoder::new("device-trial-check", Family::Device, examples, |bytes, _| {
        let Ok(call) = TrialCheckRequest::read(bytes) else { return Ok(Verdict::Refused) };
        ensure!(fingerprint::is_fingerprint(&call.fingerprint), "{call:?}");
        Ok(Verdict::Accepted)
    })
}

fn license_data() -> Result<Decoder> {
    let recorded = [
        "device/client-run/license_data.json",
        "device/upstream-v1/license_data.json",
        "device/payloads/license_data_check_custom_10.json",
        "device/payloads/license_data_delegated.json",
        "device/payloads/license_data_entitlements.json",
    ];
    let examples = recorded_or(&[LICENSE], &recorded);
    Ok(Decoder::new("device-license-data", Family::Device, examples, |bytes, _| {
        let Ok(license) = LicenseData::from_json(bytes) else { return Ok(Verdict::Refused) };
        let written = license.to_json();
        let again = LicenseData::from_json(&written)?;
        ensure!(again.to_json() == written, "reads back differently");
        for (feature, scope) in [("export", "pdf"), ("", ""), ("a", "b")] {
            let allowed = license.allows_scope(feature, scope);
            ensure!(!allowed || license.allows_feature(feature), "a scope without its feature");
            let _limit = license.scope_limit(feature, scope);
        }
        let _ends_at = license.trial_ends_at();
        Ok(Verdict::Accepted)
    }))
}

fn envelopes(world: &World) -> Decoder {
    let known = [world.license_json.clone(), REQUEST.as_bytes().to_vec(), Vec::new()];
    let sealed = known.iter().enumerate();
    let examples = sealed
        .map(|(number, body)| envelope::seal(&session_key(), [number as u8; 12], body))
        .collect();
    let check = move |bytes: &[u8], origin| {
        let Ok(body) = envelope::open(&session_key(), bytes) else { return Ok(Verdict::Refused) };
        let foreign = envelope::open(&Secret::new([1; 32]), bytes);
        ensure!(foreign.is_err(), "opens under another session key");
        let known = origin == Origin::Mended || known.iter().any(|known| *known == **body);
        ensure!(known, "a body that nobody sealed opens");
        Ok(Verdict::Accepted)
    };
    Decoder::new("device-envelope", Family::Device, examples, check)
        .mended_by(|bytes| Some(envelope::seal(&session_key(), [3; 12], bytes)))
}

/// Envelopes of the reference server under its session key, where the recordings are there.
fn recorded_envelopes() -> Result<Decoder> {
    let key = samples::recorded("device/client-run/session_key.hex").and_then(|text| {
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        <[u8; 32]>::try_from(bytes).ok()
    });
    let names = ["verify_request_envelope.json", "verify_response_envelope.json"];
    let recorded = names.map(|name| samples::recorded(&format!("device/client-run/{name}")));
    let (key, mut examples): ([u8; 32], Vec<Vec<u8>>) = match key {
        Some(key) => (key, recorded.into_iter().flatten().collect()),
        None => ([2; 32], Vec::new()),
    };
    if examples.is_empty() {
        examples.push(envelope::seal(&Secret::new(key), [1; 12], b"{}"));
    }
    let open = move |bytes: &[u8]| envelope::open(&Secret::new(key), bytes);
    let known: Vec<Vec<u8>> =
        examples.iter().map(|bytes| Ok(open(bytes)?.to_vec())).collect::<Result<_>>()?;
    let check = move |bytes: &[u8], _| {
        let Ok(body) = open(bytes) else { return Ok(Verdict::Refused) };
        ensure!(known.iter().any(|known| *known == **body), "a body that nobody sealed opens");
        Ok(Verdict::Accepted)
    };
    Ok(Decoder::new("device-envelope-recorded", Family::Device, examples, check))
}

fn answer(world: &Arc<World>) -> Result<Decoder> {
    let answer = ActivationResponse::success(ACTIVATED, &world.sealed, expires_at()?);
    let examples = vec![answer.to_bytes()];
    let world = Arc::clone(world);
    Ok(Decoder::new("device-answer", Family::Device, examples, move |bytes, _| {
        let Ok((sealed, ends_at)) = ActivationResponse::read(bytes) else {
            return Ok(Verdict::Refused);
        };
        let written = ActivationResponse::success(ACTIVATED, &sealed, ends_at).to_bytes();
        ensure!(ActivationResponse::read(&written)? == (sealed.clone(), ends_at), "differs");
        world.opens(&sealed)
    }))
}

/// The form of the file alone: whatever is read is written again as what it is.
fn stored_file(world: &World) -> Result<Decoder> {
    let recorded = ["device/client-run/license.dat", "device/upstream-v1/license.dat"];
    let mut examples = recorded_or(&[], &recorded);
    examples.retain(|bytes| StoredLicense::parse(bytes).is_ok());
    examples.push(world.stored.clone());
    Ok(Decoder::new("device-stored-file", Family::Device, examples, |bytes, _| {
        let Ok(stored) = StoredLicense::parse(bytes) else { return Ok(Verdict::Refused) };
        ensure!(StoredLicense::parse(&stored.to_bytes())? == stored, "written it is another");
        Ok(Verdict::Accepted)
    }))
}

/// The file as an application believes it.
fn stored_license(world: &Arc<World>) -> Result<Decoder> {
    let examples = vec![world.stored.clone()];
    let world = Arc::clone(world);
    let expires_at = expires_at()?;
    Ok(Decoder::new("device-stored-license", Family::Device, examples, move |bytes, _| {
        let Ok(stored) = StoredLicense::parse(bytes) else { return Ok(Verdict::Refused) };
        let Ok(opened) = stored.open(FINGERPRINT, Some(&world.server_key)) else {
            return Ok(Verdict::Refused);
        };
        ensure!(opened.license.to_json() == world.license_json, "a license that nobody sealed");
        ensure!(stored.expires_at == expires_at, "another end than the license's");
        Ok(Verdict::Accepted)
    }))
}

fn checksum_file(world: &Arc<World>) -> Decoder {
    let examples = vec![world.checksum.clone()];
    let world = Arc::clone(world);
    Decoder::new("device-checksum", Family::Device, examples, move |bytes, _| {
        let verify = |file: &[u8], device| checksum::verify(Some(bytes), file, device);
        ensure!(verify(b"another file", FINGERPRINT).is_err(), "fits a file it was not made of");
        ensure!(verify(&world.stored, "another-device-0001").is_err(), "fits another device");
        Ok(Verdict::of(&verify(&world.stored, FINGERPRINT)))
    })
}

/// The file that a checksum was made of: any other byte is found.
fn file_under_checksum(world: &Arc<World>) -> Decoder {
    let examples = vec![world.stored.clone()];
    let world = Arc::clone(world);
    Decoder::new("device-file-under-checksum", Family::Device, examples, move |bytes, _| {
        let verified = checksum::verify(Some(&world.checksum), bytes, FINGERPRINT);
        ensure!(verified.is_ok() == (bytes == world.stored), "a changed file has the checksum");
        Ok(Verdict::of(&verified))
    })
}

const FINGERPRINT: &str = "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39";
const REQUEST: &str = r#"{"email":"owner@example.com",
    "client_id":"6a3d09a9-7701-42b7-8f54-cfcda8b14d32",
    "license_key":"NWEOA-P5575-4WIZK-HBODW-FHAZP-KTI2Q-3JSAN-JXQ5P","product_id":"p",
    "device_fingerprint":"43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39"}"#;
const TRIAL: &str = r#"{"email":"owner@example.com","device_fingerprint":
    "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39","product_id":"p",
    "plan_id":"q","trial_duration_days":14,"subscription_url":"https://example.com/buy"}"#;
const TRIAL_OF_CLIENT: &str = r#"{"email":"owner@example.com","device_fingerprint":
    "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39","trial_days":7,
    "metadata":{"a":"b"}}"#;
const TRIAL_CHECK: &str = r#"{"device_fingerprint":
    "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39","product_id":null}"#;
const TRIAL_ANSWER: &str = r#"{"device_fingerprint":"x","trial_used":true,
    "eligible_for_trial":false,"trial_started_at":"2026-11-22T05:28:15Z","trial_expired":false,
    "eligible":false,"has_used_trial":true,"message":"Trial already used on this device"}"#;
const LICENSE: &str = r#"{"check_interval_seconds":3600,"check_mode":"custom","client_id":"c-1",
    "current_activations":1,"device_count":1,"devices":[{"fingerprint":"fp","activated_at":
    "2026-11-22T05:28:15.371830493Z","last_seen_at":"2026-11-22T05:28:15Z"}],
    "email":"owner@example.com","entitlements":{"product_id":"p","product_slug":"app",
    "plan_id":"g","plan_slug":"gold","features":{"export":{"feature_id":"f","feature_slug":
    "export","category":"io","enabled":true,"scopes":{"pdf":{"scope_id":"s","scope_slug":"pdf",
    "permission":"limit","limit":100,"metadata":{"unit":"pages"}}}}}},
    "expires_at":"2027-11-22T05:28:15.371830493Z","id":"l-1","is_revoked":false,"is_trial":false,
    "issued_at":"2026-11-22T05:28:15Z","last_activated_at":"0001-01-01T00:00:00Z",
    "license_key":"NWEOAP55754WIZKHBODWFHAZPKTI2Q3JSANJXQ5P","max_devices":5,"plan_slug":"gold",
    "relationship":"direct","revoke_reason":"","revoked_at":null,"subject_client_id":"c-1"}"#;
