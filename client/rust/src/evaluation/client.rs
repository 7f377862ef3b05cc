//! What a program under evaluation calls.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use protocol::evaluation::client::{RETRY_INTERVAL_MS, VALIDATION_INTERVAL_MS, Warning};
use protocol::evaluation::license_file::License;
use protocol::evaluation::message::Rejection;
use tokio::sync::oneshot;

use super::builder::EvaluationClientBuilder;
use super::core::Core;
use crate::announce::VerdictFeed;
use crate::environment::nanoseconds;
use crate::error::Error;
use crate::verdict::{LostReason, Verdict};
use crate::worker::Worker;

/// The license of an evaluation. Cheap to clone; all clones are one client.
#[derive(Clone)]
pub struct EvaluationClient {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    worker: Worker,
    /// Ends the hourly validation when dropped.
    validation: Mutex<Option<oneshot::Sender<()>>>,
}

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activation {
    /// The license file is written.
    Activated,
    /// The server decided against it. A file that was there before is as it was.
    Rejected(Rejection),
}

impl EvaluationClient {
    /// A client that is put together.
    pub fn builder() -> EvaluationClientBuilder {
        EvaluationClientBuilder::new()
    }

    pub(super) fn of(core: Core) -> Self {
        let (worker, validation) = (Worker::default(), Mutex::new(None));
        Self { inner: Arc::new(Inner { core: Arc::new(core), worker, validation }) }
    }

    /// Activates and writes the license file, in place of one that is there.
    ///
    /// # Errors
    /// When no server answered, or nothing could be written.
    pub async fn activate(&self) -> Result<Activation, Error> {
        let core = Arc::clone(&self.inner.core);
        let rejection = self.inner.worker.run(async move { core.activate().await }).await??;
        Ok(rejection.map_or(Activation::Activated, Activation::Rejected))
    }

    /// Validates the license: from memory when a server found it good less than an hour ago, unless
    /// `force_online`. Without a license file it activates first.
    ///
    /// # Errors
    /// When the machine or the configuration stands in the way; a server that cannot be reached is
    /// no error.
    pub async fn validate(&self, force_online: bool) -> Result<Verdict, Error> {
        let core = Arc::clone(&self.inner.core);
        self.inner.worker.run(async move { core.validate(force_online).await }).await?
    }

    /// Validates with the server, for the start of a program, and from then on every hour (every
    /// five minutes while no server answers) until [`Self::stop`] or the last clone is dropped. A
    /// program that is told `Lost` does not start.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub async fn start(&self) -> Result<Verdict, Error> {
        if self.inner.core.settings.config.skip_license_check {
            return Ok(self.inner.core.skip());
        }
        let verdict = self.validate(true).await?;
        let (stop, stopped) = oneshot::channel();
        // Dropping the former sender ends the former validation.
        *self.inner.validation.lock() = Some(stop);
        self.inner.worker.spawn(every_hour(Arc::clone(&self.inner.core), stopped))?;
        Ok(verdict)
    }

    /// Ends the hourly validation.
    pub fn stop(&self) {
        drop(self.inner.validation.lock().take());
    }

    /// Whether the program may go on, as it was found last and by the clock of now. Asks nobody.
    pub fn verdict(&self) -> Verdict {
        self.inner.core.verdict()
    }

    /// For gates: why the program may not go on, if so. [`Rejection::gate_text`] is what a closed
    /// gate answers. Asks nobody.
    ///
    /// # Errors
    /// The rejection.
    pub fn gate(&self) -> Result<(), Rejection> {
        self.inner.core.rejection().map_or(Ok(()), Err)
    }

    /// The license, as it was last believed.
    pub fn license(&self) -> Option<License> {
        self.inner.core.license()
    }

    /// What people should know although the program runs: an end that is past by less than clocks
    /// may differ, a clock that is far off.
    pub fn warning(&self) -> Option<Warning> {
        self.inner.core.warning()
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
}

impl fmt::Debug for EvaluationClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvaluationClient")
            .field("endpoints", &self.inner.core.network.endpoints())
            .field("verdict", &self.verdict())
            .finish_non_exhaustive()
    }
}

/// Validates until stopped. A license that is lost is looked at as often: what a server refused it
/// may allow again.
async fn every_hour(core: Arc<Core>, mut stop: oneshot::Receiver<()>) {
    let environment = Arc::clone(core.network.environment());
    let mut last_ns = environment.monotonic_ns();
    loop {
        let pause_ms = match core.publish() {
            Verdict::Grace { .. }
            | Verdict::Lost {
                reason: LostReason::Expired { why: Some(_) } | LostReason::ClockWentBack { .. },
            } => RETRY_INTERVAL_MS,
            Verdict::Held | Verdict::Lost { .. } => VALIDATION_INTERVAL_MS,
        };
        let pause = Duration::from_millis(pause_ms.unsigned_abs());
        let due_ns = last_ns.saturating_add(nanoseconds(pause));
        let left_ns = due_ns.saturating_sub(environment.monotonic_ns());
        if left_ns == 0 {
            if let Err(error) = core.validate(true).await {
                tracing::warn!(%error, "a license could not be validated");
            }
            last_ns = environment.monotonic_ns();
            continue;
        }
        tokio::select! {
            biased;
            _ = &mut stop => return,
            () = environment.sleep(Duration::from_nanos(left_ns).min(LONGEST_SLEEP)) => {}
        }
    }
}

/// Longest sleep without a look at the clock: timers stand still while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
