//! What a program of a deployment calls.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::deployment::client::State;
use protocol::deployment::config::{self, FileConfig, NotLicensed};
use protocol::deployment::telemetry::{TelemetryAnswer, TelemetryRequest};
use protocol::deployment::wire::{ActivateRequest, LicenseDetails, Terms};
use protocol::secret::Disclosed;
use protocol::wire::UtcTime;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::actor::{Actor, Command};
use super::builder::DeploymentClientBuilder;
use super::calls::{self, Outcome, Refused};
use super::core::{Core, Standing};
use crate::announce::VerdictFeed;
use crate::error::Error;
use crate::verdict::{LostReason, Verdict};
use crate::worker::Worker;

/// The license of a deployment. Cheap to clone; all clones are one client. When the last is
/// dropped the slot is given back in the background.
#[derive(Clone)]
pub struct DeploymentClient {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    worker: Worker,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    /// One start at a time.
    starting: tokio::sync::Mutex<()>,
}

/// What a setup tells the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// Who sets up.
    pub email: String,
    /// For whom.
    pub organization_name: Option<String>,
    /// Whether the terms were agreed to, now; `None` when nobody was asked.
    pub agreed_to_terms: Option<bool>,
}

/// How a setup ended.
#[must_use]
pub enum SetupOutcome {
    /// The key is good. What to write into the `license:` section of the configuration; the client
    /// has it already.
    Done(Box<FileConfig>),
    /// The server decided against it.
    Refused(Refused),
}

/// How a report ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// It counts; what is used and left.
    Accepted(TelemetryAnswer),
    /// The server decided against it.
    Refused(Refused),
}

impl DeploymentClient {
    /// A client that is put together.
    pub fn builder() -> DeploymentClientBuilder {
        DeploymentClientBuilder::new()
    }

    pub(super) fn of(core: Core) -> Self {
        let inner = Inner {
            core: Arc::new(core),
            worker: Worker::default(),
            commands: Mutex::new(None),
            starting: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Shows the server who sets up, and learns what the key is worth. Takes no slot.
    ///
    /// # Errors
    /// When no server answered, or there is no key ([`Error::Configuration`]).
    pub async fn setup(&self, setup: Setup) -> Result<SetupOutcome, Error> {
        let core = Arc::clone(&self.inner.core);
        self.inner.worker.run(async move { set_up(&core, setup).await }).await?
    }

    /// Activates the cluster, and sends heartbeats from then on. Gives the verdict after the first
    /// answer, or after none came: `Held`, `Grace` within a grace that an earlier run left, or
    /// `Lost`, and then setup is the way on. While another cluster holds the slot it is `Lost`, and
    /// asked for again in the background until the grace's length has passed.
    ///
    /// # Errors
    /// [`Error::Configuration`] without a key or cluster id.
    pub async fn start(&self) -> Result<Verdict, Error> {
        let starting = self.inner.starting.lock().await;
        if self.is_started() {
            drop(starting);
            return self.heartbeat_now().await;
        }
        let inner = Arc::clone(&self.inner);
        let core = Arc::clone(&inner.core);
        let begun = inner.worker.run(async move { begin(&core).await }).await??;
        if let Some(verdict) = begun {
            return Ok(verdict);
        }
        let (first, answer) = oneshot::channel();
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        *inner.commands.lock() = Some(sender);
        let actor = Actor::new(Arc::clone(&inner.core), commands, first);
        inner.worker.spawn(actor.run())?;
        answer.await.map_err(|_| Error::Closed)
    }

    fn is_started(&self) -> bool {
        self.inner.commands.lock().as_ref().is_some_and(|commands| !commands.is_closed())
    }

    /// Calls at once and gives the verdict after the answer: for a host that knows that the network
    /// is back, or wants a license tried again.
    ///
    /// # Errors
    /// [`Error::Closed`] when it is not started.
    pub async fn heartbeat_now(&self) -> Result<Verdict, Error> {
        let (reply, answer) = oneshot::channel();
        let commands = self.inner.commands.lock().clone().ok_or(Error::Closed)?;
        commands.send(Command::Call(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)
    }

    /// Gives the slot back and ends the heartbeats.
    ///
    /// # Errors
    /// When no server answered: the slot then comes free after a day without heartbeats.
    pub async fn stop(&self) -> Result<(), Error> {
        let Some(commands) = self.inner.commands.lock().take() else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        commands.send(Command::Stop(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Whether the program may go on, by the clock of now. Asks nobody.
    pub fn verdict(&self) -> Verdict {
        self.inner.core.verdict()
    }

    /// Where the deployment stands, in the protocol's words.
    pub fn state(&self) -> State {
        self.inner.core.standing.lock().machine.state()
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

    /// What the last answer said of the license.
    pub fn license(&self) -> Option<LicenseDetails> {
        self.inner.core.standing.lock().details.clone()
    }

    /// Whether a feature may be used. Before the first answer the configuration's list counts;
    /// nothing may when the license is lost.
    pub fn feature(&self, feature: &str) -> bool {
        let is_listed = |features: &[String]| features.iter().any(|listed| listed == feature);
        self.verdict().permits_use()
            && match self.license() {
                Some(details) => is_listed(&details.features),
                None => is_listed(&self.inner.core.config.lock().features),
            }
    }

    /// Whether a cluster of so many nodes may run. The next heartbeats say how many there are.
    ///
    /// # Errors
    /// [`NotLicensed::TooManyNodes`] with the words for people.
    pub fn check_nodes(&self, nodes: u32) -> Result<(), NotLicensed> {
        *self.inner.core.nodes.lock() = Some(nodes);
        let from_file = || self.inner.core.config.lock().max_nodes;
        let max_nodes = self.license().map_or_else(from_file, |details| details.max_nodes);
        config::check_nodes(nodes, max_nodes)
    }

    /// Reports what a job used: amounts by metric, of at most 15 digits, of them six after the
    /// point. The same job reported twice counts once.
    ///
    /// # Errors
    /// When no server answered, the cluster is not activated ([`Error::Unauthorized`]), or a name
    /// or amount is none ([`Error::Configuration`]).
    pub async fn report<N: Into<String>>(
        &self,
        job_id: &str,
        metrics: impl IntoIterator<Item = (N, f64)>,
    ) -> Result<Report, Error> {
        let metrics: serde_json::Map<_, _> =
            metrics.into_iter().map(|(name, amount)| (name.into(), json!(amount))).collect();
        let cluster_id = self.inner.core.config.lock().cluster_id.clone();
        let request = json!({ "cluster_id": cluster_id, "job_id": job_id, "metrics": metrics });
        // Read by the reader of the server, so that what it would refuse is told here.
        let request: TelemetryRequest = serde_json::from_value(request)
            .map_err(|error| Error::configuration(format!("the report: {error}")))?;
        let first = self.report_once(request.clone()).await?;
        match first {
            Report::Refused(Refused { status: 401, .. }) => {
                self.heartbeat_now().await?;
                self.report_once(request).await
            }
            outcome => {
                if matches!(self.verdict(), Verdict::Grace { .. }) {
                    // A server answers again: it is to know that we are here.
                    self.heartbeat_now().await?;
                }
                Ok(outcome)
            }
        }
    }

    async fn report_once(&self, request: TelemetryRequest) -> Result<Report, Error> {
        let core = Arc::clone(&self.inner.core);
        self.inner.worker.run(async move { report(&core, &request).await }).await?
    }
}

impl fmt::Debug for DeploymentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeploymentClient")
            .field("endpoints", &self.inner.core.network.endpoints())
            .field("verdict", &self.verdict())
            .finish_non_exhaustive()
    }
}

/// Looks at what is there before anything is asked; a verdict when there is nothing to ask for.
async fn begin(core: &Core) -> Result<Option<Verdict>, Error> {
    let now_ms = core.clock.now_ms();
    let checked = core.config.lock().check(now_ms).map(|_| ());
    match checked {
        Ok(()) => {}
        // What a file remembers may be old; but before any answer it is all there is.
        Err(NotLicensed::Expired { .. }) => {
            core.standing.lock().lost = Some(LostReason::Expired { why: None });
            return Ok(Some(core.publish()));
        }
        Err(error) => return Err(Core::not_licensed(&error)),
    }
    let mut stored = core.recall().await.unwrap_or_default();
    let went_back = core.clock.went_back();
    if went_back.is_some() {
        // Nobody knows how long ago the last success was.
        stored.last_success_ms = None;
    }
    let mut standing = Standing::new(true, &core.config.lock(), stored);
    standing.lost = went_back.map(|by_ms| LostReason::ClockWentBack { by_ms });
    *core.standing.lock() = standing;
    Ok(None)
}

async fn set_up(core: &Core, setup: Setup) -> Result<SetupOutcome, Error> {
    let now = UtcTime::from_unix_ms(core.clock.now_ms());
    let key = {
        let config = core.config.lock();
        config.license_key.as_ref().and_then(|key| key.expose().parse().ok())
    };
    let request = ActivateRequest {
        license_key: key.ok_or_else(|| Core::not_licensed(&NotLicensed::NoKey))?,
        cluster_id: core.config.lock().cluster_id.clone(),
        email: Some(setup.email.clone()),
        organization_name: setup.organization_name.clone(),
        metadata: Some(core.metadata.clone()),
        nodes: *core.nodes.lock(),
        terms_accepted_at: None,
        terms: setup.agreed_to_terms.map(|agreed| Terms { agreed, timestamp: Some(now) }),
    };
    let answer = match calls::token(&core.network, "activate", &request, None).await {
        Outcome::Granted(answer) => *answer,
        Outcome::Refused(refused) => return Ok(SetupOutcome::Refused(refused)),
        Outcome::Trouble { error, .. } => return Err(error),
    };
    let mut config = core.config.lock();
    config.cluster_id = Some(answer.cluster_id.clone());
    config.expires_at = answer.license_expires_at;
    config.features.clone_from(&answer.features);
    config.max_nodes = answer.max_nodes;
    let minutes = config.heartbeat_interval_ms / 60_000;
    let hours = config.offline_grace_ms / 3_600_000;
    Ok(SetupOutcome::Done(Box::new(FileConfig {
        server_url: Some(config.server_url.clone()),
        license_key: Some(request.license_key),
        cluster_id: Some(answer.cluster_id),
        email: Some(setup.email),
        organization_name: setup.organization_name,
        license_type: Some(answer.license_type),
        max_nodes: Some(answer.max_nodes),
        features: answer.features,
        expires_at: answer.license_expires_at,
        validated_at: Some(answer.validated_at),
        terms_accepted_at: setup.agreed_to_terms.filter(|agreed| *agreed).map(|_| now),
        offline_grace_hours: u32::try_from(hours).ok(),
        heartbeat_interval_minutes: u32::try_from(minutes).ok().filter(|minutes| *minutes > 0),
    })))
}

async fn report(core: &Core, request: &TelemetryRequest) -> Result<Report, Error> {
    let token = core
        .access_token()
        .ok_or_else(|| Error::Unauthorized { reason: "the cluster is not activated".to_owned() })?;
    let path = ["v1", "telemetry"];
    let reply = calls::post(&core.network, &path, request, Some(Disclosed::expose(&token))).await?;
    match reply.status {
        200..=299 => Ok(Report::Accepted(reply.json()?)),
        400.. => Ok(Report::Refused(calls::refused(&reply))),
        _ => Err(reply.unexpected()),
    }
}

/// Calls that wait for the task.
const MAX_COMMANDS: usize = 16;
