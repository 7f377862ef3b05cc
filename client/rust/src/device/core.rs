//! The state machine of a device's license: what is stored, when the server is asked, what counts.
//!
//! ```text
//! no file ─▶ lost: activate
//! mode, form, signature, device, checksum, sealing ── any wrong ─▶ lost: activate again
//! a check is due, or there is no checksum, or the clock went back, or it was refused before
//!    granted       ─▶ stored, held
//!    refused       ─▶ lost, and remembered
//!    no answer     ─▶ grace until the license's end; lost where only a server's word counts
//! the license's end, revoked ─▶ lost
//! ```
//!
//! One activation or verification at a time. The verdict is computed when it is asked for, by a
//! clock that does not go back.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::device::crypto::{SealedLicense, SessionKey};
use protocol::device::key::LicenseKey;
use protocol::device::payload::LicenseData;
use protocol::device::schedule;
use protocol::device::stored::StoredLicense;
use protocol::device::time::LicenseTime;
use protocol::keys::PublicKey;
use protocol::secret::{Disclosed, Secret};
use tokio::sync::OnceCell;

use super::files::{Files, Found, RefusedBefore, Remembered, Unusable};
use super::online::{self, Decided, Identity};
use super::{Refused, machine};
use crate::announce::Announcer;
use crate::denied::system_time;
use crate::error::Error;
use crate::network::Network;
use crate::steady::SteadyClock;
use crate::verdict::{GraceReason, LostReason, Verdict};

/// What a client was set up with.
pub(super) struct Settings {
    pub(super) email: String,
    pub(super) client_id: String,
    pub(super) license_key: Secret<String>,
    pub(super) product: Option<String>,
    pub(super) known_key: Option<PublicKey>,
    pub(super) fingerprint: Option<String>,
}

/// What a client and its background checks share.
pub(super) struct Core {
    pub(super) network: Network,
    pub(super) settings: Settings,
    pub(super) clock: SteadyClock,
    pub(super) announcer: Announcer,
    files: Arc<Files>,
    fingerprint: OnceCell<String>,
    standing: Mutex<Standing>,
    turn: tokio::sync::Mutex<()>,
}

/// What is known of the license.
#[derive(Default)]
struct Standing {
    held: Option<Held>,
    /// Why the last check that was due brought no decision.
    trouble: Option<GraceReason>,
    lost: Option<LostReason>,
}

/// A license that was believed.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) license: Arc<LicenseData>,
    session_key: Arc<SessionKey>,
}

/// How an activation, or a trial, ended.
pub(super) enum Activated {
    Granted,
    Refused(Refused),
}

impl Core {
    pub(super) fn new(network: Network, settings: Settings, files: Files) -> Self {
        let clock = SteadyClock::new(Arc::clone(network.environment()));
        Self {
            network,
            settings,
            clock,
            announcer: Announcer::new(Verdict::Lost { reason: LostReason::NotActivated }),
            files: Arc::new(files),
            fingerprint: OnceCell::new(),
            standing: Mutex::new(Standing::default()),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The verdict by the clock of now.
    pub(super) fn verdict(&self) -> Verdict {
        let now_ms = self.clock.now_ms();
        let standing = self.standing.lock();
        let lost = |reason| Verdict::Lost { reason };
        let held = match (&standing.lost, &standing.held) {
            (Some(reason), _) => return lost(reason.clone()),
            (None, None) => return lost(LostReason::NotActivated),
            (None, Some(held)) => held,
        };
        let ends_ms = held.license.expires_at.unix_ms();
        if now_ms >= ends_ms {
            return lost(LostReason::Expired { why: standing.trouble });
        }
        if held.license.is_revoked {
            return lost(revoked(&held.license));
        }
        match standing.trouble {
            Some(why) => Verdict::Grace { until: system_time(ends_ms), why },
            None => Verdict::Held,
        }
    }

    /// The license that was last believed, whether or not it may be used.
    pub(super) fn license(&self) -> Option<Arc<LicenseData>> {
        self.standing.lock().held.as_ref().map(|held| Arc::clone(&held.license))
    }

    /// Tells the verdict of now to those who follow it.
    pub(super) fn publish(&self) -> Verdict {
        let verdict = self.verdict();
        self.announcer.tell("device", &verdict);
        verdict
    }

    /// What this device is known by.
    pub(super) async fn fingerprint(&self) -> Result<&str, Error> {
        let worked_out = self.fingerprint.get_or_try_init(|| async {
            match &self.settings.fingerprint {
                Some(fingerprint) => Ok(fingerprint.clone()),
                None => tokio::task::spawn_blocking(machine::fingerprint)
                    .await
                    .map_err(|_| Error::machine("the fingerprint", &"it panicked")),
            }
        });
        worked_out.await.map(String::as_str)
    }

    /// Looks at what is stored, and asks the server where a check is due or demanded.
    pub(super) async fn verify(&self, is_demanded: bool) -> Result<Verdict, Error> {
        let _turn = self.turn.lock().await;
        let checked = self.check(is_demanded).await;
        let verdict = self.publish();
        checked.map(|()| verdict)
    }

    async fn check(&self, is_demanded: bool) -> Result<(), Error> {
        let fingerprint = self.fingerprint().await?.to_owned();
        let (mut remembered, found) = match self.load(&fingerprint).await {
            Ok(loaded) => loaded,
            Err(Unusable::Missing) => return self.lose(LostReason::NotActivated),
            Err(Unusable::Refused(reason)) => return self.lose(LostReason::Unbelieved(reason)),
            Err(Unusable::Machine(error)) => return Err(error),
        };
        if remembered.server_key().is_none() {
            remembered.pin(Some(&found.public_key));
        }
        let license = Arc::new(found.opened.license);
        let held = Held { license, session_key: Arc::new(found.opened.session_key) };
        let known_ms = remembered.highest_ms.unwrap_or(i64::MIN);
        self.clock.learn(known_ms.max(server_ms(&held.license, &fingerprint)));
        let only_a_server_helps = if !found.has_checksum {
            let reason = "there is no checksum, and no server to ask".to_owned();
            Some(LostReason::Unbelieved(reason))
        } else if let Some(by_ms) = self.clock.went_back() {
            Some(LostReason::ClockWentBack { by_ms })
        } else {
            let refused = remembered.refused.clone();
            refused.map(|RefusedBefore { code, detail }| LostReason::Refused { code, detail })
        };
        let LicenseData { check_mode, next_check_at, .. } = &*held.license;
        let is_due = is_demanded
            || only_a_server_helps.is_some()
            || schedule::is_due(*check_mode, *next_check_at, self.clock.now_ms());
        *self.standing.lock() =
            Standing { held: Some(held.clone()), trouble: None, lost: only_a_server_helps.clone() };
        let checked = match is_due {
            true => self.ask_again(&fingerprint, &held, &mut remembered).await,
            false => Ok(()),
        };
        self.remember(&fingerprint, remembered).await;
        checked
    }

    /// Verifies with the server.
    async fn ask_again(
        &self,
        fingerprint: &str,
        held: &Held,
        remembered: &mut Remembered,
    ) -> Result<(), Error> {
        let license = &held.license;
        let identity = Identity {
            email: license.email.clone(),
            client_id: license.client_id.clone(),
            license_key: Disclosed::new(license.license_key.expose().to_owned()),
            product: self.settings.product.clone(),
        };
        let key = Some(&held.session_key);
        match online::ask(&self.network, "verify", fingerprint, identity, key).await {
            Ok(Decided::Granted(sealed, expires_at)) => {
                let stored = stored(*sealed, fingerprint, expires_at);
                match self.take(stored, Some(&license.id), remembered).await {
                    Ok(()) => Ok(()),
                    Err(Taken::Unbelieved(reason)) => self.lose(LostReason::Unbelieved(reason)),
                    Err(Taken::Machine(error)) => Err(error),
                }
            }
            Ok(Decided::Refused(Refused { status, message })) => {
                let refused = RefusedBefore { code: status.to_string(), detail: message };
                remembered.refused = Some(refused.clone());
                let RefusedBefore { code, detail } = refused;
                self.lose(LostReason::Refused { code, detail })
            }
            Ok(Decided::Unbelieved(reason)) => self.lose(LostReason::Unbelieved(reason)),
            Err(Error::Unavailable(trouble)) => {
                tracing::debug!(%trouble, "a license could not be verified");
                self.standing.lock().trouble = Some(GraceReason::Unreachable);
                Ok(())
            }
            Err(error @ Error::Protocol { .. }) => {
                tracing::warn!(%error, "a license could not be verified");
                self.standing.lock().trouble = Some(GraceReason::Misunderstood);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Activates this device.
    pub(super) async fn activate(&self) -> Result<Activated, Error> {
        let _turn = self.turn.lock().await;
        let fingerprint = self.fingerprint().await?.to_owned();
        let session_key = self.bound_key();
        let decided = match self.ask_to_activate(&fingerprint, session_key.as_ref()).await? {
            // The server may have forgotten the device, and its session key with it.
            Decided::Refused(Refused { status: 400 | 401, .. }) if session_key.is_some() => {
                self.ask_to_activate(&fingerprint, None).await?
            }
            decided => decided,
        };
        let activated = self.settle(&fingerprint, decided).await;
        self.publish();
        activated
    }

    async fn ask_to_activate(
        &self,
        fingerprint: &str,
        session_key: Option<&Arc<SessionKey>>,
    ) -> Result<Decided, Error> {
        let Settings { email, client_id, license_key, product, .. } = &self.settings;
        let identity = Identity {
            email: email.clone(),
            client_id: client_id.clone(),
            license_key: Disclosed::new(license_key.expose().trim().to_owned()),
            product: product.clone(),
        };
        online::ask(&self.network, "activate", fingerprint, identity, session_key).await
    }

    /// Takes in what an activation or a trial brought.
    pub(super) async fn settle(
        &self,
        fingerprint: &str,
        decided: Decided,
    ) -> Result<Activated, Error> {
        let (sealed, expires_at) = match decided {
            Decided::Granted(sealed, expires_at) => (*sealed, expires_at),
            Decided::Refused(refused) => return Ok(Activated::Refused(refused)),
            Decided::Unbelieved(reason) => return Err(self.unbelieved(reason)),
        };
        // A state that is not believed any more is replaced, as the license is.
        let (files, of) = (Arc::clone(&self.files), fingerprint.to_owned());
        let mut remembered = match blocking(move || Ok(files.recall(&of))).await? {
            Ok(remembered) => remembered,
            Err(Unusable::Machine(error)) => return Err(error),
            Err(Unusable::Missing | Unusable::Refused(_)) => Remembered::default(),
        };
        let stored = stored(sealed, fingerprint, expires_at);
        match self.take(stored, None, &mut remembered).await {
            Ok(()) => {}
            Err(Taken::Unbelieved(reason)) => return Err(self.unbelieved(reason)),
            Err(Taken::Machine(error)) => return Err(error),
        }
        self.remember(fingerprint, remembered).await;
        Ok(Activated::Granted)
    }

    /// For trials, which take their turn as activations do.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Believes an answer, or says why not, and stores it.
    async fn take(
        &self,
        stored: StoredLicense,
        license_id: Option<&str>,
        remembered: &mut Remembered,
    ) -> Result<(), Taken> {
        let fingerprint = stored.device_fingerprint.clone();
        let known_key = self.settings.known_key.clone().or_else(|| remembered.server_key());
        let opened = stored
            .open(&fingerprint, known_key.as_ref())
            .map_err(|error| Taken::Unbelieved(super::files::in_one_line(&error)))?;
        if license_id.is_some_and(|id| id != opened.license.id) {
            return Err(Taken::Unbelieved("the answer is about another license".to_owned()));
        }
        let nonce = online::nonce(&**self.network.environment()).map_err(Taken::Machine)?;
        remembered.pin(Some(&stored.sealed.public_key));
        remembered.refused = None;
        let server_ms = server_ms(&opened.license, &fingerprint);
        if server_ms > i64::MIN {
            self.clock.correct(server_ms);
        }
        let (files, now_ms) = (Arc::clone(&self.files), self.clock.now_ms());
        // Written before it counts: a restart must find what was told.
        blocking(move || files.save(&stored, nonce, now_ms)).await.map_err(Taken::Machine)?;
        let license = Arc::new(opened.license);
        let held = Held { license, session_key: Arc::new(opened.session_key) };
        *self.standing.lock() = Standing { held: Some(held), trouble: None, lost: None };
        Ok(())
    }

    async fn load(&self, fingerprint: &str) -> Result<(Remembered, Found), Unusable> {
        let (files, of) = (Arc::clone(&self.files), fingerprint.to_owned());
        let known_key = self.settings.known_key.clone();
        let loaded = blocking(move || {
            Ok(files.recall(&of).and_then(|remembered| {
                let known_key = known_key.or_else(|| remembered.server_key());
                files.load(&of, known_key.as_ref()).map(|found| (remembered, found))
            }))
        });
        loaded.await.map_err(Unusable::Machine)?
    }

    /// Writes what is remembered. A directory that cannot be written keeps nobody from working.
    async fn remember(&self, fingerprint: &str, mut remembered: Remembered) {
        remembered.highest_ms = Some(self.clock.now_ms());
        let (files, of) = (Arc::clone(&self.files), fingerprint.to_owned());
        if let Err(error) = blocking(move || files.remember(&of, &remembered)).await {
            tracing::warn!(%error, "the state of a license could not be written");
        }
    }

    /// Trusts the next key that the server shows.
    pub(super) async fn forget_server_key(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let fingerprint = self.fingerprint().await?.to_owned();
        let files = Arc::clone(&self.files);
        blocking(move || {
            let mut remembered = files.recall(&fingerprint).unwrap_or_default();
            remembered.pin(None);
            files.remember(&fingerprint, &remembered)
        })
        .await
    }

    /// The session key, where the license that is held is that of the configured key.
    fn bound_key(&self) -> Option<Arc<SessionKey>> {
        let standing = self.standing.lock();
        let held = standing.held.as_ref()?;
        let ours = LicenseKey::normalise(self.settings.license_key.expose()).ok()?;
        let theirs = LicenseKey::normalise(held.license.license_key.expose()).ok()?;
        ours.equals(&theirs).then(|| Arc::clone(&held.session_key))
    }

    fn lose(&self, reason: LostReason) -> Result<(), Error> {
        self.standing.lock().lost = Some(reason);
        Ok(())
    }

    fn unbelieved(&self, reason: String) -> Error {
        let endpoint = self.network.endpoints().first().cloned().unwrap_or_default();
        Error::Protocol { endpoint, reason }
    }
}

/// Why an answer was not taken in.
enum Taken {
    Unbelieved(String),
    Machine(Error),
}

fn stored(sealed: SealedLicense, fingerprint: &str, expires_at: LicenseTime) -> StoredLicense {
    StoredLicense { sealed, device_fingerprint: fingerprint.to_owned(), expires_at }
}

/// The latest time that the server has signed.
fn server_ms(license: &LicenseData, fingerprint: &str) -> i64 {
    let ours = license.devices.iter().filter(|device| device.fingerprint == fingerprint);
    let seen = ours.flat_map(|device| [device.activated_at, device.last_seen_at]);
    let license_times = [license.issued_at, license.last_activated_at];
    seen.chain(license_times)
        .chain(license.last_check_at)
        .filter(|time| !time.is_zero())
        .map(LicenseTime::unix_ms)
        .max()
        .unwrap_or(i64::MIN)
}

fn revoked(license: &LicenseData) -> LostReason {
    let detail = format!("license revoked: {}", license.revoke_reason);
    LostReason::Refused { code: "revoked".to_owned(), detail }
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
