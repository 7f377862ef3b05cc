//! Evaluations: activation, the order of checks, grace, clocks, bypass variables, license files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leasehold_client::evaluation::{
    Activation, EvaluationClient, EvaluationClientBuilder, Rejection,
};
use leasehold_client::{GraceReason, LostReason, Verdict};
use protocol::evaluation::key_ring::{KeyRing, KeyVersion};
use protocol::evaluation::license_file::{License, LicenseFile};
use protocol::secret::Secret;
use serde_json::{Value, json};

use crate::far::{Far, both, story};

const ACTIVATE: &str = "POST /v1/activate";
const VALIDATE: &str = "POST /v1/validate";
const BEGIN_MS: i64 = 1_795_001_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

struct Program {
    far: Far,
    dir: tempfile::TempDir,
}

impl Program {
    async fn new() -> Self {
        Self { far: Far::start(1).await, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("edon/license.json")
    }

    fn builder(&self, variables: &[(&str, &str)]) -> EvaluationClientBuilder {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        EvaluationClient::builder()
            .variables(variables.collect::<BTreeMap<String, String>>())
            .activation_server(format!("{}/v1/validate", self.far.urls()[0]))
            .organisation("org-12345")
            .hostname("example-host")
            .license_file(self.path())
            .environment(self.far.environment())
    }

    fn client(&self) -> EvaluationClient {
        self.builder(&[]).build().unwrap()
    }

    fn seconds(&self) -> f64 {
        (BEGIN_MS as f64 + self.far.world.now_ms() as f64) / 1_000.0
    }

    /// An answer that activates, with a file signed by a key that the client does not have.
    fn activating(&self) -> Value {
        let license = License {
            kind: "evaluation".into(),
            version: "2.0.0".into(),
            activated_at: self.seconds(),
            expires_at: self.seconds() + 30.0 * 86_400.0,
            activation_id: "act-1".into(),
            org_id: Some("org-12345".into()),
            project_id: None,
            plan: "evaluation".into(),
            hostname: None,
            revoked: false,
            offline: false,
        };
        let keys = BTreeMap::from([(KeyVersion(1), Secret::new(b"the server's".to_vec()))]);
        let ring = KeyRing::new(keys, KeyVersion(1), KeyVersion(1)).unwrap();
        let file = LicenseFile::issue(&license, &ring);
        json!({
            "ok": true, "server_time": self.seconds(), "activation_id": "act-1",
            "expires_at": license.expires_at,
            "license": serde_json::from_str::<Value>(&file.to_text()).unwrap(),
        })
    }

    fn good(&self) -> Value {
        json!({ "ok": true, "server_time": self.seconds() })
    }

    async fn activated(&mut self) -> EvaluationClient {
        let client = self.client();
        let body = self.activating();
        let server = async { self.far.expect(ACTIVATE).await.answer(200, &body) };
        assert_eq!(both(client.activate(), server).await.0, Ok(Activation::Activated));
        self.client()
    }

    async fn validate(&mut self, client: &EvaluationClient, status: u16, body: &Value) -> Verdict {
        let server = async {
            let request = self.far.expect(VALIDATE).await;
            request.answer_with(status, &[("retry-after", "3600")], body);
        };
        both(client.validate(true), server).await.0.unwrap()
    }

    async fn alone(&mut self, client: &EvaluationClient, force_online: bool) -> Verdict {
        let verdict = client.validate(force_online).await.unwrap();
        assert!(self.far.is_silent());
        verdict
    }
}

fn is_in_grace(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Grace { why: GraceReason::Unreachable, .. })
}

#[test]
fn a_program_without_a_file_activates_and_keeps_the_servers_signature() {
    story(async {
        let mut program = Program::new().await;
        let (client, body) = (program.client(), program.activating());
        let server = async {
            let request = program.far.expect(ACTIVATE).await;
            let asked = request.json();
            assert_eq!(
                (&asked["org_id"], &asked["type"]),
                (&json!("org-12345"), &json!("evaluation"))
            );
            assert!(!String::from_utf8_lossy(&request.body).contains("example-host"));
            request.answer(200, &body);
        };
        assert_eq!(both(client.validate(true), server).await.0, Ok(Verdict::Held));
        let file = LicenseFile::parse(&std::fs::read(program.path()).unwrap()).unwrap();
        let kept: Value = serde_json::from_str(&file.to_text()).unwrap();
        assert_eq!(kept["signature"], body["license"]["signature"]);
        // Less than an hour ago: nobody is asked, after a restart neither.
        assert_eq!(program.alone(&client, false).await, Verdict::Held);
        let again = program.client();
        assert_eq!(program.alone(&again, false).await, Verdict::Held);
        let good = program.good();
        assert_eq!(program.validate(&again, 200, &good).await, Verdict::Held);
        assert_eq!(again.gate(), Ok(()));
    });
}

#[test]
fn a_refusal_stands_until_the_server_lifts_it() {
    for (reason, is_revoked, phrase) in [
        ("revoked", true, "License revoked"),
        ("suspended", false, "License suspended"),
        ("expired", false, "License expired"),
        ("unknown_activation", false, "License not activated"),
    ] {
        story(async {
            let mut program = Program::new().await;
            let client = program.activated().await;
            let no =
                json!({ "ok": false, "revoked": is_revoked, "reason": reason, "error": "No." });
            assert!(!program.validate(&client, 200, &no).await.permits_use());
            let words = client.gate().unwrap_err().gate_text();
            assert!(words.starts_with(&format!("License validation failed: {phrase}")), "{words}");
            // A restart without a server does not make it good.
            let again = program.client();
            let verdict = match is_revoked {
                true => program.alone(&again, true).await,
                false => program.validate(&again, 503, &json!({})).await,
            };
            assert!(!verdict.permits_use(), "{reason} {verdict:?}");
            if !is_revoked {
                let good = program.good();
                assert_eq!(program.validate(&again, 200, &good).await, Verdict::Held);
            }
        });
    }
}

#[test]
fn a_day_without_a_server_is_one_day_over_restarts() {
    story(async {
        let mut program = Program::new().await;
        let client = program.activated().await;
        let good = program.good();
        program.validate(&client, 200, &good).await;
        // Every status but 200 is a server that cannot be reached.
        for status in [503, 401, 404, 500] {
            let again = program.client();
            let verdict = program.validate(&again, status, &json!({})).await;
            assert!(is_in_grace(&verdict), "{status} {verdict:?}");
            program.far.world.advance(6 * HOUR - Duration::from_secs(1));
        }
        let last = program.client();
        assert!(is_in_grace(&program.validate(&last, 503, &json!({})).await));
        program.far.world.advance(HOUR);
        let reason = LostReason::Expired { why: Some(GraceReason::Unreachable) };
        let lost = Verdict::Lost { reason };
        assert_eq!(last.verdict(), lost);
        assert_eq!(program.validate(&program.client(), 503, &json!({})).await, lost);
    });
}

#[test]
fn a_changed_byte_is_an_invalid_signature() {
    story(async {
        let mut program = Program::new().await;
        let client = program.activated().await;
        let good = std::fs::read(program.path()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(program.path(), &bad).unwrap();
            let verdict = program.alone(&client, true).await;
            let is_found = matches!(verdict, Verdict::Lost { reason: LostReason::Unbelieved(_) });
            assert!(is_found, "byte {at}: {verdict:?}");
        }
        std::fs::write(program.path(), &good).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let readable = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(program.path(), readable).unwrap();
            assert!(!program.alone(&client, true).await.permits_use());
        }
    });
}

#[test]
fn clocks_that_went_back_need_a_server() {
    for (hours, is_refused) in [(5, false), (7, true), (48, true)] {
        story(async {
            let mut program = Program::new().await;
            let client = program.activated().await;
            let good = program.good();
            program.validate(&client, 200, &good).await;
            program.far.world.set_wall_back(hours * HOUR);
            let again = program.client();
            let verdict = program.validate(&again, 503, &json!({})).await;
            assert_eq!(is_in_grace(&verdict), !is_refused, "{hours} {verdict:?}");
            let is_told =
                matches!(verdict, Verdict::Lost { reason: LostReason::ClockWentBack { .. } });
            assert_eq!(is_told, is_refused, "{verdict:?}");
            let good = program.good();
            assert_eq!(program.validate(&again, 200, &good).await, Verdict::Held);
        });
    }
}

#[test]
fn bypass_variables_count_in_builds_for_development_only() {
    let is_development = cfg!(feature = "development");
    story(async {
        let mut program = Program::new().await;
        let skipping = program.builder(&[("EDON_SKIP_LICENSE_CHECK", "true")]).build().unwrap();
        let server = async {
            if !is_development {
                let request = program.far.expect(ACTIVATE).await;
                request.answer(200, &json!({ "ok": false, "error": "No." }));
            }
        };
        let verdict = both(skipping.start(), server).await.0.unwrap();
        assert_eq!(verdict.permits_use(), is_development);
        drop(skipping);
        let allowing =
            program.builder(&[("EDON_ALLOW_OFFLINE_ACTIVATION", "true")]).build().unwrap();
        let server = async {
            let request = program.far.expect(ACTIVATE).await;
            request.answer_with(503, &[("retry-after", "3600")], &json!({}));
        };
        let verdict = both(allowing.validate(true), server).await.0.unwrap();
        assert_eq!(verdict.permits_use(), is_development);
        assert_eq!(program.path().exists(), is_development);
    });
}

#[test]
fn a_refused_activation_says_why() {
    story(async {
        let mut program = Program::new().await;
        let client = program.client();
        let server = async {
            let request = program.far.expect(ACTIVATE).await;
            request.answer(200, &json!({ "ok": false, "error": "No such code" }));
        };
        let rejection = Rejection::ActivationFailed("No such code".to_owned());
        assert_eq!(both(client.activate(), server).await.0, Ok(Activation::Rejected(rejection)));
        assert!(!program.path().exists());
    });
}

/// A recorded file, or nothing where the data is not here, said so that it is heard although the
/// test passes.
fn recorded(name: &str) -> Option<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/evaluation");
    if !root.is_dir() {
        // Not `eprintln!`, which the test harness swallows.
        let _ = writeln!(std::io::stderr(), "skipped: no recorded data at {}", root.display());
        return None;
    }
    let path = root.join(name);
    Some(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// What is made of a recorded file: whether it is good without a server that vouched for it (only
/// with the secret), and with one.
#[cfg(unix)]
fn check_recorded(name: &str, secret: &str, is_good_alone: bool, is_good: bool) {
    use std::os::unix::fs::PermissionsExt;
    let Some(bytes) = recorded(name) else { return };
    story(async {
        let mut program = Program::new().await;
        std::fs::create_dir(program.path().parent().unwrap()).unwrap();
        std::fs::write(program.path(), bytes).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(program.path(), private).unwrap();
        let secrets = [("EDON_LICENSE_SECRET_V1", secret)];
        let client = program.builder(&secrets).build().unwrap();
        if !is_good {
            assert!(!program.alone(&client, true).await.permits_use(), "{name}");
            return;
        }
        let verdict = program.validate(&client, 503, &json!({})).await;
        assert_eq!(verdict.permits_use(), is_good_alone, "{name} {verdict:?}");
        let good = program.good();
        assert_eq!(program.validate(&client, 200, &good).await, Verdict::Held, "{name}");
        let again = program.builder(&secrets).build().unwrap();
        assert!(is_in_grace(&program.validate(&again, 503, &json!({})).await), "{name}");
    });
}

#[cfg(unix)]
#[test]
fn recorded_license_files_are_judged_by_what_the_program_knows() {
    let published = "eval-secret-key-v1-change-in-production";
    // A secret that everybody knows proves nothing, until a server says that it is good.
    check_recorded("license.json", "", false, true);
    check_recorded("license_key_v2.json", "", false, true);
    check_recorded("license.json", published, true, true);
    check_recorded("license.json", "another secret", false, false);
    check_recorded("license_after_server_revocation.json", "", false, false);
}
