//! The handle of a lease: what it is, whether it is still one's own, giving it back.
//!
//! A lease renews itself in the background. Its verdict is computed when it is asked for, from the
//! last answer and the clock, so it is right even when the background did not get to run. Dropping
//! the handle gives the lease back, in the background: it never blocks, and needs no runtime.
//!
//! What it leaves to others: the task ([`actor`]), the wire ([`calls`]), the end ([`tenure`]).

mod actor;
mod calls;
pub(crate) mod info;
pub(crate) mod tenure;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use protocol::cloud::lease::{LeaseType, UsageMetadata};
use protocol::fence::Fence;
use protocol::wire::Money;
use tokio::sync::{mpsc, oneshot, watch};

use self::actor::{Actor, Command};
use self::info::LeaseInfo;
use self::tenure::Tenure;
use crate::client::Inner;
use crate::core::PendingReturn;
use crate::denied::Denied;
use crate::environment::Environment;
use crate::error::Error;
use crate::kept::Record;
use crate::verdict::Verdict;

/// A seat that is held. Renews itself; give it back with [`Lease::release`] or by dropping it.
#[must_use = "a lease that is dropped is given back"]
pub struct Lease {
    shared: Arc<Shared>,
    /// `None` once it was released.
    commands: Option<mpsc::Sender<Command>>,
    client: Arc<Inner>,
}

/// How giving a lease back ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// The seat is free.
    Returned {
        /// What the checkout had cost; zero for a seat that was paid for in advance.
        total_cost: Money,
        /// How long it was out, for people: `1h 0m`.
        lease_duration: String,
    },
    /// It had ended before: by expiry, or by an operator.
    AlreadyEnded,
}

/// How a request to borrow ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Borrow {
    /// The lease is good without any server.
    Granted {
        /// Until then, by this machine's wall clock, for people.
        until: SystemTime,
    },
    /// The server decided against it.
    Denied(Denied),
}

/// How giving a borrow back early ended.
#[derive(Debug, Clone, PartialEq)]
pub enum ReturnBorrow {
    /// The lease lives on and needs servers again.
    LivesOn,
    /// The server decided against it.
    Denied(Denied),
}

type Callback = Arc<Mutex<Box<dyn FnMut(&Verdict) + Send>>>;

/// Shared by a handle, its task and its watches.
pub(crate) struct Shared {
    pub(crate) info: LeaseInfo,
    tenure: Mutex<Tenure>,
    /// The verdict as it was last published.
    published: watch::Sender<Verdict>,
    callbacks: Mutex<Vec<(Verdict, Callback)>>,
    usage: Mutex<UsageMetadata>,
    began_ns: u64,
    environment: Arc<dyn Environment>,
    farewell: Mutex<Option<PendingReturn>>,
}

impl Shared {
    fn verdict(&self) -> Verdict {
        self.tenure.lock().verdict(self.environment.monotonic_ns())
    }

    /// Publishes the verdict of now, where it has changed.
    fn publish(&self, environment: &dyn Environment) -> Verdict {
        let verdict = self.tenure.lock().verdict(environment.monotonic_ns());
        self.published.send_if_modified(|published| {
            let is_new = *published != verdict;
            if is_new {
                tracing::info!(lease = %self.info.id, %verdict, "the verdict on a license changed");
                published.clone_from(&verdict);
            }
            is_new
        });
        verdict
    }

    /// The callbacks that were not told this verdict yet, from now on told.
    fn callbacks_for(&self, verdict: &Verdict) -> Vec<Callback> {
        let mut callbacks = self.callbacks.lock();
        let untold = callbacks.iter_mut().filter(|(told, _)| told != verdict);
        untold
            .map(|(told, callback)| {
                told.clone_from(verdict);
                Arc::clone(callback)
            })
            .collect()
    }

    /// What the host reported, with the length of the session where it did not.
    fn usage(&self) -> UsageMetadata {
        let mut usage = self.usage.lock().clone();
        let elapsed_ns = self.environment.monotonic_ns().saturating_sub(self.began_ns);
        usage.session_duration_seconds.get_or_insert(elapsed_ns / 1_000_000_000);
        usage
    }
}

impl Lease {
    /// Starts the task of a lease and gives its handle. Fails when the client has ended; then the
    /// lease is left to expire.
    pub(crate) fn start(
        client: &Arc<Inner>,
        info: LeaseInfo,
        mut tenure: Tenure,
        renewal_token: String,
        kept: Option<Record>,
    ) -> Result<Self, Error> {
        let environment = Arc::clone(client.core.network.environment());
        let now_ns = environment.monotonic_ns();
        let shared = Arc::new(Shared {
            published: watch::Sender::new(tenure.verdict(now_ns)),
            info,
            tenure: Mutex::new(tenure),
            callbacks: Mutex::new(Vec::new()),
            usage: Mutex::new(UsageMetadata::default()),
            began_ns: now_ns,
            environment,
            farewell: Mutex::new(None),
        });
        let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
        let core = Arc::clone(&client.core);
        let actor = Actor::new(core, Arc::clone(&shared), receiver, renewal_token, kept);
        client.worker.spawn(actor.run())?;
        Ok(Self { shared, commands: Some(commands), client: Arc::clone(client) })
    }

    /// Whether the program may go on, by the clock of now.
    pub fn verdict(&self) -> Verdict {
        self.shared.verdict()
    }

    /// What is left of the lease unless it is renewed; nothing when it is lost.
    pub fn remaining(&self) -> Duration {
        self.shared.tenure.lock().remaining(self.shared.environment.monotonic_ns())
    }

    /// Follows the verdict.
    pub fn watch(&self) -> VerdictWatch {
        VerdictWatch {
            shared: Arc::downgrade(&self.shared),
            published: self.shared.published.subscribe(),
        }
    }

    /// Calls back at every change of the verdict, in order, until the lease is lost; on a thread of
    /// the client that may wait. Fast changes may be told as one. A panic of the callback stays
    /// there.
    pub fn on_change(&self, callback: impl FnMut(&Verdict) + Send + 'static) {
        let callback: Callback = Arc::new(Mutex::new(Box::new(callback)));
        let told = self.shared.published.borrow().clone();
        self.shared.callbacks.lock().push((told, callback));
    }

    /// Says what was done under the lease; sent when it is given back. The length of the session is
    /// filled in.
    pub fn report(&self, usage: UsageMetadata) {
        *self.shared.usage.lock() = usage;
    }

    /// Gives the lease back and waits for the answer.
    ///
    /// # Errors
    /// When no server answered in time: the seat is then free at the lease's end.
    pub async fn release(mut self) -> Result<Release, Error> {
        let usage = self.shared.usage();
        let released = self.ask(|reply| Command::Release { usage, reply }).await;
        self.commands = None;
        released
    }

    /// Borrows the lease: from now on it is good without any server, for so long or as long as the
    /// package's policy allows, and after a restart ([`crate::LicenseClient::resume`]). Dropping
    /// the handle does not give a borrowed lease back; [`Lease::release`] and
    /// [`Lease::return_borrow`] do.
    ///
    /// # Errors
    /// When there is no offline store, or no server answered in time.
    pub async fn borrow(&self, duration: Duration) -> Result<Borrow, Error> {
        self.ask(|reply| Command::Borrow { duration, reply }).await
    }

    /// Gives a borrow back before its end.
    ///
    /// # Errors
    /// When no server answered in time.
    pub async fn return_borrow(&self) -> Result<ReturnBorrow, Error> {
        self.ask(|reply| Command::ReturnBorrow { reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let commands = self.commands.as_ref().ok_or(Error::Closed)?;
        commands.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Name of the lease.
    pub fn id(&self) -> &str {
        &self.shared.info.id
    }

    /// Which seats it holds.
    pub fn lease_type(&self) -> LeaseType {
        self.shared.info.lease_type
    }

    /// The product.
    pub fn product(&self) -> &str {
        &self.shared.info.product
    }

    /// The package that the seats are from.
    pub fn package(&self) -> &str {
        &self.shared.info.package
    }

    /// How many seats.
    pub fn quantity(&self) -> u32 {
        self.shared.info.quantity
    }

    /// Features granted, as they were asked for.
    pub fn features(&self) -> &[String] {
        &self.shared.info.features
    }

    /// The pool that the seats are from, where one was asked for.
    pub fn pool(&self) -> Option<&str> {
        self.shared.info.pool.as_deref()
    }

    /// What the checkout costs, with its ISO 4217 code; only for overage.
    pub fn cost(&self) -> Option<(Money, &str)> {
        let LeaseInfo { cost, currency, .. } = &self.shared.info;
        cost.map(|cost| (cost, currency.as_deref().unwrap_or_default()))
    }

    /// Rises with every grant: a guarded resource turns away a holder with a lower one.
    pub fn fence(&self) -> Fence {
        self.shared.info.fence
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.shared.info.id)
            .field("product", &self.shared.info.product)
            .field("verdict", &self.verdict())
            .finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(commands) = self.commands.take() {
            // The mark first: the task takes it away when it is done.
            *self.shared.farewell.lock() = Some(self.client.core.pending_return());
            drop(commands);
        }
    }
}

/// Follows the verdict on a lease; does not keep the lease.
#[derive(Clone)]
pub struct VerdictWatch {
    shared: Weak<Shared>,
    published: watch::Receiver<Verdict>,
}

impl VerdictWatch {
    /// The verdict by the clock of now; the last one, once the lease is gone.
    pub fn current(&self) -> Verdict {
        match self.shared.upgrade() {
            Some(shared) => shared.verdict(),
            None => self.published.borrow().clone(),
        }
    }

    /// Waits for the next change. `None` once the lease is gone and its last change was told.
    pub async fn changed(&mut self) -> Option<Verdict> {
        self.published.changed().await.ok()?;
        Some(self.published.borrow_and_update().clone())
    }
}

impl fmt::Debug for VerdictWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerdictWatch").field(&self.current()).finish()
    }
}

/// Calls that wait for the task of a lease.
const MAX_COMMANDS: usize = 16;
