//! The `deployment` protocol.

use anyhow::{Result, ensure};
use protocol::deployment::license_key::LicenseKey;
use protocol::deployment::refusal::ErrorBody;
use protocol::deployment::telemetry::{TelemetryAnswer, TelemetryRequest};
use protocol::deployment::token::{self, DeploymentClaims, Expect};
use protocol::deployment::wire::{
    ActivateRequest, DeactivateRequest, HeartbeatRequest, OfflineKeyAnswer, TokenAnswer, bearer,
};
use protocol::offline::KeySet;

use super::bodies::body;
use super::{Decoder, Family, Origin, Verdict, samples};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let key = samples::ed25519().public_key()?;
    let offline_keys = OfflineKeyAnswer::of(&key, &KeySet::of(key.clone())?)?;
    Ok(vec![
        access_token()?,
        license_key(),
        bearer_header(),
        activation(),
        body::<HeartbeatRequest>("deployment-heartbeat", Family::Deployment, &[HEARTBEAT]),
        body::<DeactivateRequest>("deployment-deactivate", Family::Deployment, &[DEACTIVATE]),
        body::<TelemetryRequest>("deployment-telemetry", Family::Deployment, &[TELEMETRY]),
        body::<TelemetryAnswer>("deployment-telemetry-answer", Family::Deployment, &[USAGE]),
        body::<TokenAnswer>("deployment-token-answer", Family::Deployment, &[TOKEN_ANSWER]),
        body::<OfflineKeyAnswer>(
            "deployment-offline-key",
            Family::Deployment,
            &[&serde_json::to_string(&offline_keys)?],
        ),
        body::<ErrorBody>("deployment-error", Family::Deployment, &[ERROR]),
    ])
}

fn access_token() -> Result<Decoder> {
    let now_seconds = u64::try_from(samples::NOW_MS / 1_000)?;
    let known = DeploymentClaims {
        iss: "cluster-a".to_owned(),
        license_id: "lic-1".to_owned(),
        cluster_id: "bzzz-cluster-1b9d6bcd-walnut".to_owned(),
        token_version: 3,
        epoch: 1,
        iat: now_seconds - 60,
        exp: now_seconds + token::TOKEN_SECONDS,
    };
    let example = token::sign(&samples::ed25519(), &known)?.into_bytes();
    let keys = KeySet::of(samples::ed25519().public_key()?)?;
    let check = move |bytes: &[u8], origin| {
        let expect = Expect {
            now_ms: samples::NOW_MS,
            issuer: "cluster-a",
            epoch: 1,
            cluster_id: "bzzz-cluster-1b9d6bcd-walnut",
        };
        let Ok(claims) = token::verify(&String::from_utf8_lossy(bytes), &keys, &expect) else {
            return Ok(Verdict::Refused);
        };
        if origin == Origin::AsFound {
            ensure!(claims == known, "believed though nobody signed it: {claims:?}");
        }
        let again = token::sign(&samples::ed25519(), &claims)?;
        ensure!(token::verify(&again, &keys, &expect)? == claims, "signed again it is another");
        Ok(Verdict::Accepted)
    };
    Ok(Decoder::new("deployment-token", Family::Deployment, vec![example], check)
        .mended_by(samples::signed_again))
}

fn license_key() -> Decoder {
    let made = LicenseKey::generate(&[0x5a; 16]).expose().as_bytes().to_vec();
    let examples = vec![made, b"  lh-abc-123 ".to_vec()];
    Decoder::new("deployment-license-key", Family::Deployment, examples, |bytes, _| {
        let Ok(key) = String::from_utf8_lossy(bytes).parse::<LicenseKey>() else {
            return Ok(Verdict::Refused);
        };
        let again: LicenseKey = key.expose().parse()?;
        ensure!(again.expose() == key.expose(), "one key has two canonical texts");
        Ok(Verdict::Accepted)
    })
}

fn bearer_header() -> Decoder {
    let examples = vec![b"Bearer a.b.c".to_vec(), b" bearer   x ".to_vec()];
    Decoder::new("bearer-header", Family::Deployment, examples, |bytes, _| {
        let header = String::from_utf8_lossy(bytes);
        match bearer(Some(&header), None) {
            None => Ok(Verdict::Refused),
            Some(token) => {
                ensure!(!token.is_empty() && token.trim() == token, "a token with space around");
                Ok(Verdict::Accepted)
            }
        }
    })
}

/// The body, and which of the two calls it is.
fn activation() -> Decoder {
    let read = body::<ActivateRequest>("activate", Family::Deployment, &[]);
    let examples = [SETUP, RUNTIME].map(|text| text.as_bytes().to_vec()).to_vec();
    Decoder::new("deployment-activate", Family::Deployment, examples, move |bytes, origin| {
        if read.check(bytes, origin)? == Verdict::Refused {
            return Ok(Verdict::Refused);
        }
        let request: ActivateRequest = protocol::cloud::body::decode(bytes)?;
        let _accepted_at = request.terms_accepted_at();
        match request.call() {
            Ok(_) => Ok(Verdict::Accepted),
            Err(refusal) => {
                ensure!(refusal.http_status() == 400, "{refusal:?} is no fault of the request");
                Ok(Verdict::Refused)
            }
        }
    })
}

const SETUP: &str = r#"{"license_key":"LH-MFRGG-ZDFMZ-TWQ2L-KNNWG-23TPO",
    "email":"customer@example.com","organization_name":"Example Corp","nodes":3,
    "metadata":{"hostname":"walnut","ip":"192.0.2.17","product":"bzzz","version":"1.4.0"},
    "terms":{"agreed":true,"timestamp":"2026-11-22T10:36:14Z"}}"#;
const RUNTIME: &str = r#"{"license_key":"LH-MFRGG-ZDFMZ-TWQ2L-KNNWG-23TPO",
    "cluster_id":"bzzz-cluster-1b9d6bcd-walnut","terms_accepted_at":"2026-11-22T10:36:14Z"}"#;
const HEARTBEAT: &str = r#"{"license_key":"LH-MFRGG-ZDFMZ-TWQ2L-KNNWG-23TPO",
    "cluster_id":"bzzz-cluster-1b9d6bcd-walnut","token":"a.b.c","nodes":3,"metadata":{}}"#;
const DEACTIVATE: &str = r#"{"license_key":"LH-MFRGG-ZDFMZ-TWQ2L-KNNWG-23TPO",
    "cluster_id":"bzzz-cluster-1b9d6bcd-walnut"}"#;
const TELEMETRY: &str = r#"{"cluster_id":"bzzz-cluster-1b9d6bcd-walnut","job_id":"job-4711",
    "metrics":{"tokens":1200,"cpu_hours":1.5,"tiny":0.000001,"large":999999999999999}}"#;
const USAGE: &str = r#"{"status":"accepted","usage":{"tokens":{"used":8.5,"quota":10,
    "remaining":1.5,"percent":85.0}},"upgrade":{"suggested":true,"reason":"near","metrics":
    ["tokens"]}}"#;
const TOKEN_ANSWER: &str = r#"{"status":"ok","access_token":"a.b.c","token_type":"Bearer",
    "expires_at":"2026-11-22T11:36:14Z","token_version":1,
    "cluster_id":"bzzz-cluster-1b9d6bcd-walnut","license_type":"standard","max_nodes":10,
    "features":["basic-coordination"],"license_expires_at":"2027-11-22T10:36:14Z",
    "validated_at":"2026-11-22T10:36:14Z","offline_token":"a.b.c",
    "heartbeat_interval_seconds":900,"offline_grace_seconds":86400}"#;
const ERROR: &str = r#"{"error":"cluster_slot_in_use","message":"license is in use",
    "available_at":"2026-11-22T10:36:14Z","retry_after_seconds":60}"#;
