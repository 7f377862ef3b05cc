//! The `evaluation` protocol and the signed license file of its clients.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use protocol::evaluation::identity::{ActivationId, HostHash};
use protocol::evaluation::key_ring::{
    KeyRing, KeyVersion, PUBLISHED_SECRET_V1, PUBLISHED_SECRET_V2,
};
use protocol::evaluation::license_file::{License, LicenseFile};
use protocol::evaluation::wire::{ActivateRequest, Answer, ValidateRequest};
use protocol::secret::Secret;

use super::bodies::{body, text};
use super::{Decoder, Family, Origin, Verdict, samples};

pub(super) fn decoders() -> Result<Vec<Decoder>> {
    let family = Family::Evaluation;
    Ok(vec![
        license_file()?,
        text::<HostHash>("evaluation-host-hash", family, &["8f1f0466fc41bb15"]),
        text::<ActivationId>(
            "evaluation-activation-id",
            family,
            &["act-000102030405060708090a0b0c0d0e0f"],
        ),
        text::<KeyVersion>("evaluation-key-version", family, &["v1", "v10", "v4294967295"]),
        body::<ActivateRequest>("evaluation-activate", family, &[ACTIVATE]),
        body::<ValidateRequest>("evaluation-validate", family, &[VALIDATE]),
        body::<Answer>("evaluation-answer", family, &[ANSWER, REFUSED]),
    ])
}

fn ring() -> Result<KeyRing> {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let keys = BTreeMap::from([
        (KeyVersion(1), secret(PUBLISHED_SECRET_V1)),
        (KeyVersion(2), secret(PUBLISHED_SECRET_V2)),
    ]);
    KeyRing::new(keys, KeyVersion(2), KeyVersion(1)).context("the ring of the published keys")
}

fn license() -> License {
    License {
        kind: "evaluation".to_owned(),
        version: "2.0.0".to_owned(),
        activated_at: 1_795_325_574.199_05,
        expires_at: 1_797_917_574.0,
        activation_id: "act-000102030405060708090a0b0c0d0e0f".to_owned(),
        org_id: Some("org-12345".to_owned()),
        project_id: None,
        plan: "evaluation".to_owned(),
        hostname: Some("b\u{fc}ro-\u{1f600}".to_owned()),
        revoked: false,
        offline: true,
    }
}

fn license_file() -> Result<Decoder> {
    let ring = ring()?;
    let mut revoked = LicenseFile::issue(&license(), &ring);
    revoked.revoke(&ring);
    let mut examples = vec![
        LicenseFile::issue(&license(), &ring).to_text().into_bytes(),
        LicenseFile::issue(&License { hostname: None, offline: false, ..license() }, &ring)
            .to_text()
            .into_bytes(),
        revoked.to_text().into_bytes(),
    ];
    let names = ["license", "license_key_v2", "license_offline", "license_after_server_revocation"];
    for name in names {
        examples.extend(samples::recorded(&format!("evaluation/{name}.json")));
    }
    let read = |bytes: &Vec<u8>| Ok(LicenseFile::parse(bytes)?.verify(&ring)?);
    let known: Vec<License> = examples.iter().map(read).collect::<Result<_>>()?;
    let check = move |bytes: &[u8], origin| {
        let Ok(file) = LicenseFile::parse(bytes) else { return Ok(Verdict::Refused) };
        let written = file.to_text();
        let again = LicenseFile::parse(written.as_bytes()).context("cannot be read again")?;
        ensure!(again == file, "reads back differently: {written}");
        ensure!(again.canonical() == file.canonical(), "signed over other bytes: {written}");
        let Ok(found) = file.verify(&ring) else { return Ok(Verdict::Refused) };
        if origin == Origin::AsFound {
            // A revocation is written into the file without a new signature: that one may come.
            let is_known = known
                .iter()
                .any(|it| *it == found || found == License { revoked: true, ..it.clone() });
            ensure!(is_known, "believed though nobody signed it: {found:?}");
        }
        let issued = LicenseFile::issue(&found, &ring);
        ensure!(issued.verify(&ring) == Ok(found), "issued again it is another license");
        Ok(Verdict::Accepted)
    };
    let signer = self::ring()?;
    Ok(Decoder::new("evaluation-license-file", Family::Evaluation, examples, check).mended_by(
        move |bytes| {
            let license = LicenseFile::parse(bytes).ok()?.license().ok()?;
            Some(LicenseFile::issue(&license, &signer).to_text().into_bytes())
        },
    ))
}

const ACTIVATE: &str = r#"{"version": "2.0.0", "type": "evaluation",
    "timestamp": 1795325574.1954243, "hostname_hash": "8f1f0466fc41bb15",
    "activation_code": null, "org_id": "org-12345", "project_id": "project-atlas-v2"}"#;
const VALIDATE: &str = r#"{"activation_id": "act-abc123", "hostname_hash": "8f1f0466fc41bb15",
    "org_id": "org-12345", "project_id": null, "timestamp": 1795325574}"#;
const ANSWER: &str = r#"{"ok": true, "activation_id": "act-abc123", "org_id": "srv-org",
    "project_id": "srv-proj", "plan": "evaluation", "expires_at": 1797917574.0,
    "server_time": 1795325574.1990507, "license": {"type": "evaluation", "version": "2.0.0"}}"#;
const REFUSED: &str = r#"{"ok":false,"revoked":true,"error":"Evaluation has been revoked",
    "server_time":1795325574.199}"#;
