//! Validation of an evaluation's license, step by step.
//!
//! The order of checks is [`protocol::evaluation::client`]; here it meets the file, the clock and
//! the server. The rules want a file that verifies; what was believed by other means than its
//! signature is handed to them signed with a key of the moment.
//!
//! One file, though long: activation and validation change the same few things, and to read one of
//! them is to want the other beside it.
//!
//! An outage is bridged for a day only where a server, or the secret, showed that the license is
//! good. What a server refused stays refused over a restart until it says otherwise.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::evaluation::client::{self, Basis, Mode, Reply, Step, Warning};
use protocol::evaluation::clock_skew::{ClockSkew, TOLERANCE_SECONDS};
use protocol::evaluation::config::Config;
use protocol::evaluation::event::{Level, LicenseEvent, Subject};
use protocol::evaluation::identity::HostHash;
use protocol::evaluation::key_ring::{KeyRing, KeyVersion};
use protocol::evaluation::license_file::{License, LicenseFile};
use protocol::evaluation::message::Rejection;
use protocol::evaluation::wire::{ActivateRequest, Answer, EpochSeconds, ValidateRequest};
use protocol::secret::{Disclosed, Secret};
use reqwest::Method;
use serde::Serialize;

use super::builder::IS_DEVELOPMENT;
use super::file::{Files, Found, Remembered, Unusable};
use crate::announce::Announcer;
use crate::denied::system_time;
use crate::environment::Deadline;
use crate::error::Error;
use crate::network::Network;
use crate::steady::SteadyClock;
use crate::transport::Call;
use crate::verdict::{GraceReason, LostReason, Verdict};

/// What a client was set up with.
pub(super) struct Settings {
    pub(super) config: Config,
    /// Key versions whose secret was given and is not the published one.
    pub(super) configured: Vec<KeyVersion>,
    pub(super) version: String,
    pub(super) organisation: Option<String>,
    pub(super) project: Option<String>,
    pub(super) activation_code: Option<Secret<String>>,
    pub(super) hostname: String,
}

/// What a client and its background checks share.
pub(super) struct Core {
    pub(super) network: Network,
    pub(super) settings: Settings,
    pub(super) clock: SteadyClock,
    pub(super) announcer: Announcer,
    files: Arc<Files>,
    standing: Mutex<Standing>,
    turn: tokio::sync::Mutex<()>,
}

/// How the license was found last.
struct Standing {
    verdict: Verdict,
    rejection: Option<Rejection>,
    license: Option<License>,
    warning: Option<Warning>,
    skew: ClockSkew,
}

/// What the server said, or why nothing.
enum Heard {
    Answer(Box<Answer>),
    ServerError(Error),
    NetworkError(Error),
}

impl Heard {
    fn reply(&self) -> Reply<'_> {
        match self {
            Self::Answer(answer) => Reply::Answer(answer),
            Self::ServerError(_) => Reply::ServerError,
            Self::NetworkError(_) => Reply::NetworkError,
        }
    }
}

impl Core {
    pub(super) fn new(network: Network, settings: Settings, files: Files) -> Self {
        let clock = SteadyClock::new(Arc::clone(network.environment()));
        let verdict = Verdict::Lost { reason: LostReason::NotActivated };
        let standing = Standing {
            verdict: verdict.clone(),
            rejection: Some(Rejection::NotActivated),
            license: None,
            warning: None,
            skew: ClockSkew::default(),
        };
        Self {
            network,
            settings,
            clock,
            announcer: Announcer::new(verdict),
            files: Arc::new(files),
            standing: Mutex::new(standing),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The verdict by the clock of now.
    pub(super) fn verdict(&self) -> Verdict {
        let standing = self.standing.lock();
        let now_ms = self.clock.now_ms();
        let ends_at = standing.license.as_ref().map_or(f64::INFINITY, |license| license.expires_at);
        let past_seconds = standing.skew.corrected(now_ms as f64 / 1_000.0) - ends_at;
        if standing.verdict.permits_use() && past_seconds > TOLERANCE_SECONDS {
            return Verdict::Lost { reason: LostReason::Expired { why: None } };
        }
        match &standing.verdict {
            Verdict::Grace { until, why } if system_time(now_ms) > *until => {
                Verdict::Lost { reason: LostReason::Expired { why: Some(*why) } }
            }
            verdict => verdict.clone(),
        }
    }

    /// Why it may not be used, in the words of the protocol.
    pub(super) fn rejection(&self) -> Option<Rejection> {
        let verdict = self.verdict();
        let standing = self.standing.lock();
        match (&standing.rejection, verdict.permits_use()) {
            (_, true) => None,
            (Some(rejection), false) => Some(rejection.clone()),
            (None, false) => Some(match verdict {
                Verdict::Lost { reason: LostReason::Expired { why: None } } => Rejection::Expired,
                _ => Rejection::ServerUnreachable,
            }),
        }
    }

    /// The license that was last believed.
    pub(super) fn license(&self) -> Option<License> {
        self.standing.lock().license.clone()
    }

    /// What people should know although the program runs.
    pub(super) fn warning(&self) -> Option<Warning> {
        self.standing.lock().warning
    }

    /// Tells the verdict of now to those who follow it.
    pub(super) fn publish(&self) -> Verdict {
        let verdict = self.verdict();
        self.announcer.tell("evaluation", &verdict);
        verdict
    }

    /// A build for development was told to run without a look.
    pub(super) fn skip(&self) -> Verdict {
        tracing::warn!("the license is not checked: this is a build for development");
        self.stand(Verdict::Held, None, None);
        self.publish()
    }

    /// Validates, with the server where that is due or demanded.
    pub(super) async fn validate(&self, force_online: bool) -> Result<Verdict, Error> {
        let _turn = self.turn.lock().await;
        let (mut remembered, found) = match self.load().await {
            Ok(loaded) => loaded,
            Err(unusable) => {
                self.reject_unusable(unusable)?;
                return Ok(self.publish());
            }
        };
        self.clock.learn(remembered.highest_ms.unwrap_or(i64::MIN));
        match found {
            None => match self.activate_in_turn(&mut remembered).await {
                Ok(None) => {}
                Ok(Some(rejection)) => self.reject(rejection, None),
                Err(error) => self.not_activated(&error)?,
            },
            Some(found) => self.look(found, force_online, &mut remembered).await?,
        }
        self.remember(&mut remembered).await;
        Ok(self.publish())
    }

    async fn look(
        &self,
        found: Found,
        force_online: bool,
        remembered: &mut Remembered,
    ) -> Result<(), Error> {
        let went_back = self.clock.went_back();
        let only_a_server_helps =
            went_back.is_some() || remembered.refused.is_some() || !found.is_vouched;
        let mode = Mode {
            force_online: force_online || only_a_server_helps,
            is_development: IS_DEVELOPMENT,
        };
        let ring = moment_ring()?;
        let file = Ok(LicenseFile::issue(&found.license, &ring));
        let step = remembered.memory.check(Some(&file), &ring, mode, self.clock.now_ms());
        let (license, warning) = match step {
            Step::AskServer { license, warning } => (*license, warning),
            step => {
                self.settle(step, None, Some(found.license));
                return Ok(());
            }
        };
        let heard = self.ask_to_validate(&license).await?;
        if let Heard::Answer(answer) = &heard
            && answer.ok
        {
            // The server found it good: what this clock showed before does not matter.
            self.clock.correct(self.network.environment().wall_ms());
        }
        let now_ms = self.clock.now_ms();
        let verdict = remembered.memory.on_reply(heard.reply(), now_ms);
        if let (Heard::ServerError(error) | Heard::NetworkError(error), true) =
            (&heard, only_a_server_helps)
        {
            tracing::warn!(%error, "a license that only a server can vouch for");
            self.without_a_word(remembered, went_back, &heard, license);
            return Ok(());
        }
        let mut file = found.file;
        match &verdict.step {
            Step::Refuse(rejection) if matches!(heard, Heard::Answer(_)) => {
                remembered.refused = Some((rejection.reason().to_owned(), said(&heard)));
            }
            Step::Run { basis: Basis::Server, .. } => {
                remembered.refused = None;
                if !found.is_vouched {
                    remembered.text = Some(file.to_text());
                }
            }
            _ => {}
        }
        if verdict.mark_revoked {
            file.revoke(&self.settings.config.ring);
            self.save(&file, remembered).await?;
        }
        self.settle(verdict.step, warning, Some(license));
        Ok(())
    }

    /// Nobody answered, and without an answer it is not good.
    fn without_a_word(
        &self,
        remembered: &Remembered,
        went_back: Option<u64>,
        heard: &Heard,
        license: License,
    ) {
        let unreachable = match heard {
            Heard::ServerError(_) => Rejection::ServerUnreachable,
            _ => Rejection::NetworkUnreachable,
        };
        let refused = remembered.refused.as_ref().map(|(code, text)| refused_before(code, text));
        match (refused, went_back) {
            (Some(rejection), _) => self.reject(rejection, Some(license)),
            (None, Some(by_ms)) => {
                let reason = LostReason::ClockWentBack { by_ms };
                self.stand(Verdict::Lost { reason }, Some(unreachable), Some(license));
            }
            (None, None) => self.reject(unreachable, Some(license)),
        }
    }

    /// Activates: a file of the server's, or in a build for development one of our own.
    pub(super) async fn activate(&self) -> Result<Option<Rejection>, Error> {
        let _turn = self.turn.lock().await;
        let mut remembered = match self.recall().await {
            Ok(remembered) => remembered,
            Err(Unusable::Machine(error)) => return Err(error),
            // What is not believed any more is replaced.
            Err(_) => Remembered::default(),
        };
        let activated = self.activate_in_turn(&mut remembered).await?;
        match &activated {
            None => self.remember(&mut remembered).await,
            Some(rejection) => tracing::warn!(%rejection, "an activation was refused"),
        }
        self.publish();
        Ok(activated)
    }

    async fn activate_in_turn(
        &self,
        remembered: &mut Remembered,
    ) -> Result<Option<Rejection>, Error> {
        let Settings { config, configured, hostname, .. } = &self.settings;
        let asked = self.activation_request();
        let heard = self.ask("activate", &asked).await?;
        let answer = match &heard {
            Heard::Answer(answer) => answer,
            Heard::ServerError(error) | Heard::NetworkError(error) => {
                if !config.allow_offline_activation {
                    return Err(error.clone());
                }
                let now_ms = self.clock.now_ms();
                let license = License::for_development(&self.settings.version, hostname, now_ms);
                let file = LicenseFile::issue(&license, &config.ring);
                self.save(&file, remembered).await?;
                self.stand(Verdict::Held, None, Some(license));
                return Ok(None);
            }
        };
        self.clock.correct(self.network.environment().wall_ms());
        let now_ms = self.clock.now_ms();
        // Without the secret the server's file is kept as it came; its words are read, and the
        // copy that is remembered is what it is held against.
        let verbatim = answer.license.as_ref().filter(|file| {
            answer.ok
                && file.key_version().is_ok_and(|version| {
                    !configured.contains(&version) && version >= config.ring.minimum()
                })
                && file.license().is_ok_and(|license| {
                    Some(&license.activation_id) == answer.activation_id.as_ref()
                })
        });
        let made = || LicenseFile::from_answer(answer, &asked, hostname, &config.ring, now_ms);
        let Some(file) = verbatim.cloned().or_else(made) else {
            let rejection = client::activation_rejection(heard.reply());
            self.event(&LicenseEvent::LicenseActivation {
                success: false,
                reason: rejection.reason().to_owned(),
                subject: Subject::default(),
                timestamp: EpochSeconds::from_unix_ms(now_ms),
            });
            return Ok(Some(rejection));
        };
        let memory = remembered.memory;
        *remembered = Remembered::default();
        remembered.memory = memory;
        let verdict = remembered.memory.on_activated(answer, now_ms);
        self.save(&file, remembered).await?;
        let license = file.license().ok();
        self.event(&LicenseEvent::LicenseActivation {
            success: true,
            reason: "activated".to_owned(),
            subject: license.as_ref().map(subject).unwrap_or_default(),
            timestamp: EpochSeconds::from_unix_ms(now_ms),
        });
        self.settle(verdict.step, None, license);
        Ok(None)
    }

    fn activation_request(&self) -> ActivateRequest {
        let Settings { version, organisation, project, activation_code, hostname, .. } =
            &self.settings;
        ActivateRequest {
            version: Some(version.clone()),
            kind: Some("evaluation".to_owned()),
            timestamp: Some(EpochSeconds::from_unix_ms(self.network.environment().wall_ms())),
            hostname_hash: HostHash::of(hostname),
            activation_code: activation_code
                .as_ref()
                .map(|code| Disclosed::new(code.expose().clone())),
            org_id: organisation.clone(),
            project_id: project.clone(),
        }
    }

    async fn ask_to_validate(&self, license: &License) -> Result<Heard, Error> {
        let request = ValidateRequest {
            activation_id: license.activation_id.clone(),
            hostname_hash: HostHash::of(&self.settings.hostname),
            org_id: license.org_id.clone(),
            project_id: license.project_id.clone(),
            timestamp: Some(EpochSeconds::from_unix_ms(self.network.environment().wall_ms())),
        };
        self.ask("validate", &request).await
    }

    /// Asks the server. Every status but 200 is a server that cannot be reached.
    async fn ask<T: Serialize>(&self, path: &str, request: &T) -> Result<Heard, Error> {
        let call = Call::new(Method::POST, &[path]).json(request)?;
        let deadline =
            Deadline::after(&**self.network.environment(), self.network.timeouts().total);
        match self.network.transport().await?.send(&call, deadline).await {
            Ok(reply) if reply.status == 200 => Ok(match reply.json() {
                Ok(answer) => Heard::Answer(Box::new(answer)),
                Err(error) => Heard::ServerError(error),
            }),
            Ok(reply) => Ok(Heard::ServerError(reply.unexpected())),
            Err(Error::Unavailable(trouble)) => {
                let was_answered =
                    trouble.attempts.iter().any(|attempt| attempt.reason.starts_with("HTTP "));
                let error = Error::Unavailable(trouble);
                Ok(match was_answered {
                    true => Heard::ServerError(error),
                    false => Heard::NetworkError(error),
                })
            }
            Err(error @ Error::Protocol { .. }) => Ok(Heard::ServerError(error)),
            Err(error) => Err(error),
        }
    }

    /// Takes in what a step decided; only those that decide come here.
    fn settle(&self, step: Step, warning: Option<Warning>, license: Option<License>) {
        let (verdict, warning) = match step {
            Step::Run { basis: Basis::Grace { until_ms }, warning: other } => {
                let (until, why) = (system_time(until_ms), GraceReason::Unreachable);
                (Verdict::Grace { until, why }, warning.or(other))
            }
            Step::Run { warning: other, .. } => (Verdict::Held, warning.or(other)),
            Step::Refuse(rejection) => return self.reject(rejection, license),
            Step::Activate | Step::AskServer { .. } => {
                return self.reject(Rejection::NotActivated, license);
            }
        };
        self.event(&LicenseEvent::LicenseValidation {
            success: true,
            reason: verdict.to_string(),
            subject: license.as_ref().map(subject).unwrap_or_default(),
            timestamp: EpochSeconds::from_unix_ms(self.clock.now_ms()),
        });
        self.stand(verdict, None, license);
        self.standing.lock().warning = warning;
    }

    fn reject(&self, rejection: Rejection, license: Option<License>) {
        let of = license.as_ref().map(subject).unwrap_or_default();
        let timestamp = EpochSeconds::from_unix_ms(self.clock.now_ms());
        self.event(&LicenseEvent::rejection(&rejection, of, timestamp));
        let reason = lost(&rejection);
        self.stand(Verdict::Lost { reason }, Some(rejection), license);
    }

    fn reject_unusable(&self, unusable: Unusable) -> Result<(), Error> {
        match unusable {
            Unusable::Machine(error) => return Err(error),
            Unusable::Rejected(rejection) => self.reject(rejection, None),
            Unusable::Refused(reason) => {
                self.reject(Rejection::InvalidSignature, None);
                let reason = LostReason::Unbelieved(reason);
                self.standing.lock().verdict = Verdict::Lost { reason };
            }
        }
        Ok(())
    }

    /// There is no file, and an activation brought no decision.
    fn not_activated(&self, error: &Error) -> Result<(), Error> {
        match error {
            Error::Unavailable(_) | Error::Protocol { .. } | Error::Rejected { .. } => {
                tracing::warn!(%error, "an evaluation could not be activated");
                self.reject(client::activation_rejection(Reply::NetworkError), None);
                Ok(())
            }
            error => Err(error.clone()),
        }
    }

    fn stand(&self, verdict: Verdict, rejection: Option<Rejection>, license: Option<License>) {
        let mut standing = self.standing.lock();
        let skew = standing.skew;
        *standing = Standing { verdict, rejection, license, warning: None, skew };
    }

    fn event(&self, event: &LicenseEvent) {
        let json = serde_json::to_string(event).unwrap_or_default();
        match event.level() {
            Level::Info => tracing::info!(name = event.name(), event = %json),
            Level::Warning => tracing::warn!(name = event.name(), event = %json),
            Level::Error => tracing::error!(name = event.name(), event = %json),
        }
    }

    async fn recall(&self) -> Result<Remembered, Unusable> {
        let files = Arc::clone(&self.files);
        blocking(move || Ok(files.recall())).await.map_err(Unusable::Machine)?
    }

    async fn load(&self) -> Result<(Remembered, Option<Found>), Unusable> {
        let remembered = self.recall().await?;
        let Settings { config, configured, .. } = &self.settings;
        // A file of at most 16 KiB; the ring is not for other threads to have.
        let found = self.files.load(config, configured, &remembered)?;
        Ok((remembered, found))
    }

    /// Writes the file and, at once, what it is held against.
    async fn save(&self, file: &LicenseFile, remembered: &mut Remembered) -> Result<(), Error> {
        let text = file.to_text();
        remembered.text = Some(text.clone());
        remembered.highest_ms = Some(self.clock.now_ms());
        let (files, state) = (Arc::clone(&self.files), remembered.clone());
        blocking(move || {
            files.save(&text)?;
            files.remember(&state)
        })
        .await
    }

    async fn remember(&self, remembered: &mut Remembered) {
        self.standing.lock().skew = remembered.memory.skew;
        remembered.highest_ms = Some(self.clock.now_ms());
        let (files, state) = (Arc::clone(&self.files), remembered.clone());
        if let Err(error) = blocking(move || files.remember(&state)).await {
            tracing::warn!(%error, "the state of a license could not be written");
        }
    }
}

/// A ring for what was believed already.
fn moment_ring() -> Result<KeyRing, Error> {
    let version = KeyVersion(1);
    let keys = BTreeMap::from([(version, Secret::new(b"of the moment".to_vec()))]);
    KeyRing::new(keys, version, version).map_err(|error| Error::machine("a key ring", &error))
}

fn lost(rejection: &Rejection) -> LostReason {
    match rejection {
        Rejection::NotActivated => LostReason::NotActivated,
        Rejection::Expired => LostReason::Expired { why: None },
        Rejection::ServerUnreachable | Rejection::NetworkUnreachable => {
            LostReason::Expired { why: Some(GraceReason::Unreachable) }
        }
        Rejection::InvalidSignature | Rejection::UnsupportedKeyVersion(_) => {
            LostReason::Unbelieved(rejection.to_string())
        }
        _ => LostReason::Refused {
            code: rejection.reason().to_owned(),
            detail: rejection.to_string(),
        },
    }
}

/// What a server refused before.
fn refused_before(code: &str, text: &str) -> Rejection {
    match code {
        "expired" => Rejection::Expired,
        "suspended" => Rejection::Suspended,
        "revoked" | "revoked_by_server" => Rejection::RevokedByServer,
        _ => Rejection::RefusedByServer(text.to_owned()),
    }
}

fn said(heard: &Heard) -> String {
    match heard {
        Heard::Answer(answer) => {
            let text = answer.error.as_deref().unwrap_or("no reason");
            text.chars().filter(|character| !character.is_control()).take(200).collect()
        }
        Heard::ServerError(error) | Heard::NetworkError(error) => error.to_string(),
    }
}

fn subject(license: &License) -> Subject {
    Subject {
        activation_id: Some(license.activation_id.clone()),
        org_id: license.org_id.clone(),
        project_id: license.project_id.clone(),
    }
}

/// Asks the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::machine("the license file", &error)),
        Err(_) => Err(Error::machine("the license file", &"it panicked")),
    }
}
