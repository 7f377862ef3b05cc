//! What a program on a device calls.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::device::trial::{TrialCheckRequest, TrialCheckResponse, TrialRequest};
use tokio::sync::oneshot;

use super::builder::DeviceClientBuilder;
use super::core::{Activated, Core};
use super::{LicenseData, Refused, background, online};
use crate::announce::VerdictFeed;
use crate::error::Error;
use crate::verdict::{LostReason, Verdict};
use crate::worker::Worker;

/// The license of this device. Cheap to clone; all clones are one client.
#[derive(Clone)]
pub struct DeviceClient {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    worker: Worker,
    /// Ends the background checks when sent to or dropped.
    checks: Mutex<Option<oneshot::Sender<()>>>,
}

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// The license is stored; [`DeviceClient::verdict`] says whether it may be used.
    Activated,
    /// The server decided against it. What was stored before is as it was.
    Refused(Refused),
}

/// What kind of trial to ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trial {
    /// How many days; the plan says when not set.
    pub days: Option<u32>,
    /// The plan, by id or short name.
    pub plan: Option<String>,
}

/// Whether something may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gate {
    /// It may.
    Allowed,
    /// It may not: not in the license, or the license is lost.
    Denied,
    /// It may, so often.
    Limited(u64),
}

impl DeviceClient {
    /// A client that is put together.
    pub fn builder() -> DeviceClientBuilder {
        DeviceClientBuilder::new()
    }

    pub(super) fn of(core: Core) -> Self {
        let (worker, checks) = (Worker::default(), Mutex::new(None));
        Self { inner: Arc::new(Inner { core: Arc::new(core), worker, checks }) }
    }

    /// Activates this device with the license key and stores the license.
    ///
    /// # Errors
    /// When no server answered, the answer is not believed ([`Error::Protocol`]), e-mail, client id
    /// or key are missing or malformed ([`Error::Configuration`]), or nothing could be written.
    pub async fn activate(&self) -> Result<Activation, Error> {
        let core = Arc::clone(&self.inner.core);
        let activated = self.inner.worker.run(async move { core.activate().await }).await??;
        Ok(activation(activated))
    }

    /// Looks at the stored license and verifies it with the server where a check is due.
    ///
    /// # Errors
    /// When the machine or the configuration stands in the way; servers that cannot be reached are
    /// no error: a license that is stored is in `Grace` then.
    pub async fn verify(&self) -> Result<Verdict, Error> {
        self.look(false).await
    }

    /// The same, and verifies with the server whether or not a check is due.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_now(&self) -> Result<Verdict, Error> {
        self.look(true).await
    }

    async fn look(&self, is_demanded: bool) -> Result<Verdict, Error> {
        let core = Arc::clone(&self.inner.core);
        self.inner.worker.run(async move { core.verify(is_demanded).await }).await?
    }

    /// Verifies as [`Self::verify`], and goes on checking in the background until [`Self::stop`],
    /// the last clone is dropped, or the license is lost.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn start(&self) -> Result<Verdict, Error> {
        let verdict = self.verify().await?;
        let (stop, stopped) = oneshot::channel();
        // Dropping the former sender ends the former checks.
        *self.inner.checks.lock() = Some(stop);
        let core = Arc::clone(&self.inner.core);
        self.inner.worker.spawn(background::run(core, stopped))?;
        Ok(verdict)
    }

    /// Ends the background checks. The license stays activated.
    pub fn stop(&self) {
        drop(self.inner.checks.lock().take());
    }

    /// Whether the program may go on, by the clock of now. Asks nobody.
    pub fn verdict(&self) -> Verdict {
        self.inner.core.verdict()
    }

    /// Follows the verdict.
    pub fn watch(&self) -> VerdictFeed {
        self.inner.core.announcer.feed()
    }

    /// Calls back at every change of the verdict, in order, on a thread that may wait. A panic of
    /// the callback stays there.
    ///
    /// # Errors
    /// When the client has no thread.
    pub fn on_change(&self, callback: impl FnMut(&Verdict) + Send + 'static) -> Result<(), Error> {
        self.inner.core.announcer.call_back(&self.inner.worker, callback)
    }

    /// The license as it was last believed, also when it may not be used any more.
    pub fn license(&self) -> Option<Arc<LicenseData>> {
        self.inner.core.license()
    }

    /// Whether a feature, or a scope of it, may be used: `can("export", "batch")`,
    /// `can("export", None)`. Nothing may when the license is lost.
    pub fn can<'a>(&self, feature: &str, scope: impl Into<Option<&'a str>>) -> Gate {
        let (Some(license), true) = (self.license(), self.verdict().permits_use()) else {
            return Gate::Denied;
        };
        let Some(scope) = scope.into() else {
            let is_allowed = license.allows_feature(feature);
            return if is_allowed { Gate::Allowed } else { Gate::Denied };
        };
        if !license.allows_scope(feature, scope) {
            return Gate::Denied;
        }
        license.scope_limit(feature, scope).map_or(Gate::Allowed, Gate::Limited)
    }

    /// What to tell people when the license is lost, in the words of the protocol; nothing while it
    /// may be used.
    pub fn message(&self) -> Option<String> {
        match self.verdict() {
            Verdict::Held | Verdict::Grace { .. } => None,
            Verdict::Lost { reason: LostReason::Expired { .. } } => {
                let day = self.license()?.expires_at.day();
                Some(format!("license expired on {day}"))
            }
            Verdict::Lost { reason } => Some(reason.to_string()),
        }
    }

    /// Asks whether this device may have a trial.
    ///
    /// # Errors
    /// When no server answered, or it does not take the question.
    pub async fn check_trial(&self) -> Result<TrialCheckResponse, Error> {
        let core = Arc::clone(&self.inner.core);
        self.inner.worker.run(async move { check_trial(&core).await }).await?
    }

    /// Begins a trial on this device; no license key is needed.
    ///
    /// # Errors
    /// As [`Self::activate`].
    pub async fn start_trial(&self, trial: Trial) -> Result<Activation, Error> {
        let core = Arc::clone(&self.inner.core);
        let begun = self.inner.worker.run(async move { start_trial(&core, trial).await }).await??;
        Ok(activation(begun))
    }

    /// Forgets the server's key that was trusted at the first activation: the next activation
    /// trusts the one it is shown. For the day on which an operator has changed it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn forget_server_key(&self) -> Result<(), Error> {
        let core = Arc::clone(&self.inner.core);
        self.inner.worker.run(async move { core.forget_server_key().await }).await?
    }

    /// What this device is known by.
    ///
    /// # Errors
    /// When the client has no thread.
    pub async fn fingerprint(&self) -> Result<String, Error> {
        let core = Arc::clone(&self.inner.core);
        let run = self.inner.worker.run(async move { core.fingerprint().await.map(str::to_owned) });
        run.await?
    }
}

impl fmt::Debug for DeviceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceClient")
            .field("endpoints", &self.inner.core.network.endpoints())
            .field("verdict", &self.verdict())
            .finish_non_exhaustive()
    }
}

fn activation(activated: Activated) -> Activation {
    match activated {
        Activated::Granted => Activation::Activated,
        Activated::Refused(refused) => Activation::Refused(refused),
    }
}

async fn check_trial(core: &Core) -> Result<TrialCheckResponse, Error> {
    let question = TrialCheckRequest {
        device_fingerprint: core.fingerprint().await?.to_owned(),
        product_id: core.settings.product.clone(),
    };
    let reply = online::send_json(&core.network, &["api", "trial", "check"], &question).await?;
    if reply.status == 200 {
        return reply.json();
    }
    let detail = online::message(reply.status, &reply.body);
    Err(Error::Rejected { status: reply.status, code: reply.status.to_string(), detail })
}

async fn start_trial(core: &Core, trial: Trial) -> Result<Activated, Error> {
    let _turn = core.turn().await;
    let fingerprint = core.fingerprint().await?.to_owned();
    let request = TrialRequest {
        email: core.settings.email.clone(),
        device_fingerprint: fingerprint.clone(),
        product_id: core.settings.product.clone(),
        plan_id: trial.plan,
        trial_duration_days: trial.days.map_or(0, i64::from),
        ..TrialRequest::default()
    };
    let body = serde_json::to_vec(&request)
        .map_err(|error| Error::configuration(format!("the request is not JSON: {error}")))?;
    TrialRequest::read(&body).map_err(|fault| Error::configuration(fault.to_string()))?;
    let reply = online::send_json(&core.network, &["api", "trial"], &request).await?;
    let begun = core.settle(&fingerprint, online::decided(reply, None)?).await;
    core.publish();
    begun
}
