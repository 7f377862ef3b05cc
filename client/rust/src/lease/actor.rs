//! The task behind one lease: renews it, does what its handle asks, gives it back.
//!
//! One task does all of it, one thing after the other, so that the renewal token is in one place.
//! It ends when the handle is gone: what was dropped is given back, except a lease that is borrowed
//! (it was borrowed to outlive the program). A return does not wait for a renewal under way.
//!
//! What it leaves to others: the arithmetic of the end ([`super::tenure`]), what answers mean
//! ([`super::calls`]).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use protocol::cloud::lease::UsageMetadata;
use protocol::offline::KeySet;
use reqwest::Method;
use tokio::sync::{mpsc, oneshot, watch};

use super::calls::{self, Extension, Renewal};
use super::{Borrow, Release, ReturnBorrow, Shared};
use crate::core::Core;
use crate::environment::{nanoseconds, random_u64};
use crate::error::Error;
use crate::kept::Record;
use crate::transport::Call;
use crate::transport::retry::Backoff;
use crate::verdict::{GraceReason, LostReason, Verdict};

/// What a handle asks for.
pub(super) enum Command {
    Release { usage: UsageMetadata, reply: oneshot::Sender<Result<Release, Error>> },
    Borrow { duration: Duration, reply: oneshot::Sender<Result<Borrow, Error>> },
    ReturnBorrow { reply: oneshot::Sender<Result<ReturnBorrow, Error>> },
}

enum Event {
    Command(Command),
    Dropped,
    Wake,
}

/// The task's state.
pub(super) struct Actor {
    core: Arc<Core>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    renewal_token: String,
    /// When to renew next, on the monotonic clock.
    renew_at_ns: u64,
    failures: u32,
    /// What came in while a renewal was under way.
    waiting: VecDeque<Command>,
    is_dropped: bool,
    /// What is kept for a restart, if anything.
    kept: Option<Record>,
    keep_at_ns: u64,
    /// Until when the kept record knows what has passed, on the monotonic clock.
    counted_ns: u64,
}

impl Actor {
    /// A task for a lease whose next renewal is due at a third of its term, or at once when it was
    /// kept from an earlier run.
    pub(super) fn new(
        core: Arc<Core>,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        renewal_token: String,
        kept: Option<Record>,
    ) -> Self {
        let random = random_u64(core.environment());
        let counted_ns = core.environment().monotonic_ns();
        let renew_at_ns = match kept {
            Some(_) => 0,
            None => shared.tenure.lock().renew_at_ns(random),
        };
        Self {
            core,
            shared,
            commands,
            renewal_token,
            renew_at_ns,
            failures: 0,
            waiting: VecDeque::new(),
            is_dropped: false,
            kept,
            keep_at_ns: 0,
            counted_ns,
        }
    }

    /// Runs until the handle is gone; callbacks are told meanwhile and to the end.
    pub(super) async fn run(mut self) {
        let changes = self.shared.published.subscribe();
        let shared = Arc::clone(&self.shared);
        let work = async {
            self.work().await;
            self.shared.tenure.lock().lose(LostReason::Returned);
            self.shared.publish(self.core.environment());
            // Whoever waits for all returns goes on, even where a callback does not return.
            drop(self.shared.farewell.lock().take());
        };
        tokio::join!(work, tell(shared, changes));
    }

    async fn work(&mut self) {
        loop {
            let verdict = self.shared.publish(self.core.environment());
            self.look_after_kept(&verdict).await;
            match self.next(&verdict).await {
                Event::Wake => {
                    let now_ns = self.core.environment().monotonic_ns();
                    if verdict.permits_use() && now_ns >= self.renew_at_ns {
                        self.renew().await;
                    }
                }
                Event::Command(Command::Release { usage, reply }) => {
                    let released = self.give_back(usage).await;
                    drop(reply.send(released));
                    return;
                }
                Event::Command(Command::Borrow { duration, reply }) => {
                    drop(reply.send(self.borrow(duration).await));
                }
                Event::Command(Command::ReturnBorrow { reply }) => {
                    drop(reply.send(self.return_borrow().await));
                }
                Event::Dropped => {
                    self.farewell().await;
                    return;
                }
            }
        }
    }

    /// Waits for the next thing to do.
    async fn next(&mut self, verdict: &Verdict) -> Event {
        if let Some(command) = self.waiting.pop_front() {
            return Event::Command(command);
        }
        if self.is_dropped {
            return Event::Dropped;
        }
        let environment = self.core.environment();
        let due_ns = match verdict.permits_use() {
            true => self.renew_at_ns.min(self.shared.tenure.lock().ends_ns()),
            false => u64::MAX,
        };
        let left = Duration::from_nanos(due_ns.saturating_sub(environment.monotonic_ns()));
        tokio::select! {
            biased;
            command = self.commands.recv() => match command {
                Some(command) => Event::Command(command),
                None => Event::Dropped,
            },
            // In steps: timers stand still while a machine is suspended, the clock does not.
            () = environment.sleep(left.min(LONGEST_SLEEP)) => Event::Wake,
        }
    }

    /// Renews the lease, unless it is given back meanwhile.
    async fn renew(&mut self) {
        let core = Arc::clone(&self.core);
        let (id, token) = (self.shared.info.id.clone(), self.renewal_token.clone());
        let deadline = core.deadline().not_after(self.shared.tenure.lock().ends_ns());
        let heartbeat = calls::heartbeat(&core, &id, &token, deadline);
        tokio::pin!(heartbeat);
        let outcome = loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command @ Command::Release { .. }) => {
                        return self.waiting.push_front(command);
                    }
                    Some(command) => self.waiting.push_back(command),
                    None => {
                        self.is_dropped = true;
                        return;
                    }
                },
                outcome = &mut heartbeat => break outcome,
            }
        };
        match outcome {
            Ok(Renewal::Extended(extension)) => {
                if let Err(reason) = self.extended(extension).await {
                    let lease = &self.shared.info.id;
                    tracing::warn!(%lease, %reason, "an offline token is not kept");
                }
            }
            Ok(Renewal::Lost(reason)) => {
                tracing::warn!(lease = %self.shared.info.id, %reason, "a license is lost");
                self.shared.tenure.lock().lose(reason);
            }
            Err(error) => self.troubled(&error),
        }
    }

    /// Takes in an answer that lengthened the lease. Fails when its offline token is not kept.
    async fn extended(&mut self, extension: Extension) -> Result<(), String> {
        let Extension { term, renewal_token, offline_token, borrowed_for, server_ms } = extension;
        self.renewal_token = renewal_token;
        self.failures = 0;
        let random = random_u64(self.core.environment());
        let is_in_time = {
            let now_ns = self.core.environment().monotonic_ns();
            let mut tenure = self.shared.tenure.lock();
            let is_in_time = match borrowed_for {
                Some(borrowed_for) => tenure.borrowed(now_ns, term, borrowed_for),
                None => tenure.renewed(now_ns, term),
            };
            self.renew_at_ns = tenure.renew_at_ns(random);
            is_in_time
        };
        self.count_time();
        if let Some(record) = &mut self.kept {
            record.learn(server_ms);
            record.renewal_token.clone_from(&self.renewal_token);
        }
        if !is_in_time {
            return Ok(());
        }
        if let Some(token) = offline_token {
            return self.keep(token, server_ms, term.interval).await;
        }
        match &self.kept {
            Some(record) => self.core.save(record).await.map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    fn troubled(&mut self, error: &Error) {
        let (why, floor) = match error {
            Error::Unavailable(trouble) => (GraceReason::Unreachable, trouble.retry_after),
            Error::Unauthorized { .. } => (GraceReason::Unauthorized, None),
            _ => (GraceReason::Misunderstood, None),
        };
        let environment = self.core.environment();
        let mut tenure = self.shared.tenure.lock();
        tenure.troubled(why);
        let random = random_u64(environment);
        let wait = Backoff::between_renewals(tenure.interval()).wait(self.failures, random, floor);
        self.failures = self.failures.saturating_add(1);
        self.renew_at_ns = environment.monotonic_ns().saturating_add(nanoseconds(wait));
        tracing::debug!(lease = %self.shared.info.id, %error, "a license could not be renewed");
    }

    async fn give_back(&mut self, usage: UsageMetadata) -> Result<Release, Error> {
        let (core, id) = (Arc::clone(&self.core), self.shared.info.id.clone());
        let released = calls::give_back(&core, &id, usage, core.deadline()).await;
        if released.is_ok() {
            self.forget().await;
        }
        released
    }

    /// The handle was dropped.
    async fn farewell(&mut self) {
        let environment = self.core.environment();
        let is_ours = {
            let now_ns = environment.monotonic_ns();
            let mut tenure = self.shared.tenure.lock();
            match tenure.verdict(now_ns) {
                // Borrowed to be used without a server, by the next run of the program too.
                _ if tenure.is_borrowed(now_ns) && self.kept.is_some() => false,
                Verdict::Held | Verdict::Grace { .. } => true,
                // The server counts led time: it may still keep the seat.
                Verdict::Lost { reason: LostReason::Expired { .. } } => true,
                Verdict::Lost { .. } => false,
            }
        };
        if !is_ours {
            return;
        }
        let usage = self.shared.usage();
        if let Err(error) = self.give_back(usage).await {
            let lease = &self.shared.info.id;
            tracing::warn!(%lease, %error, "a license could not be given back; it will expire");
        }
    }

    async fn borrow(&mut self, duration: Duration) -> Result<Borrow, Error> {
        let (core, id) = (Arc::clone(&self.core), self.shared.info.id.clone());
        if !core.has_store() {
            return Err(Error::configuration("there is no offline store to borrow into"));
        }
        let token = self.renewal_token.clone();
        let (borrow, extension) = calls::borrow(&core, &id, &token, duration).await?;
        if let Some(extension) = extension {
            self.extended(extension).await.map_err(|reason| {
                Error::machine("the lease is borrowed, but not good after a restart", &reason)
            })?;
        }
        Ok(borrow)
    }

    async fn return_borrow(&mut self) -> Result<ReturnBorrow, Error> {
        let (core, id) = (Arc::clone(&self.core), self.shared.info.id.clone());
        let token = self.renewal_token.clone();
        let (returned, extension) = calls::return_borrow(&core, &id, &token).await?;
        match &returned {
            ReturnBorrow::LivesOn => {
                self.forget().await;
                self.shared.tenure.lock().no_longer_borrowed();
                if let Some(extension) = extension
                    && let Err(reason) = self.extended(extension).await
                {
                    let lease = &self.shared.info.id;
                    tracing::warn!(%lease, %reason, "an offline token is not kept");
                }
            }
            ReturnBorrow::Denied(_) => {}
        }
        Ok(returned)
    }

    /// Verifies a token and keeps it for a restart.
    async fn keep(
        &mut self,
        token: String,
        server_ms: i64,
        interval: Duration,
    ) -> Result<(), String> {
        if !self.core.has_store() {
            return Ok(());
        }
        let key_id = protocol::offline::inspect(&token).map_err(|error| error.to_string())?.key_id;
        let keys = offline_keys(&self.core, &key_id).await.map_err(|error| error.to_string())?;
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let info = self.shared.info.clone();
        let mut record = Record::new(info, self.renewal_token.clone(), interval_ms, token, keys);
        record.learn(server_ms);
        let wall_ms = self.core.environment().wall_ms();
        record.verify(wall_ms, &self.core.hostname)?;
        if let Ok(Some(Ok(mut other))) = self.core.load(&record.info.product).await
            && other.info.id != record.info.id
            && other.verify(wall_ms, &self.core.hostname).is_ok_and(|token| token.claims.borrowed)
        {
            return Err("another lease of this product is borrowed into this store".to_owned());
        }
        self.core.save(&record).await.map_err(|error| error.to_string())?;
        self.keep_at_ns = self.next_keep_ns();
        self.counted_ns = self.core.environment().monotonic_ns();
        self.kept = Some(record);
        Ok(())
    }

    /// Writes the time that has been from time to time, and forgets what was lost.
    async fn look_after_kept(&mut self, verdict: &Verdict) {
        let environment = self.core.environment();
        let (now_ns, wall_ms) = (environment.monotonic_ns(), environment.wall_ms());
        if !verdict.permits_use() {
            return self.forget().await;
        }
        if now_ns < self.keep_at_ns {
            return;
        }
        self.keep_at_ns = self.next_keep_ns();
        self.count_time();
        if let Some(record) = &mut self.kept {
            record.learn(wall_ms);
            if let Err(error) = self.core.save(record).await {
                tracing::warn!(%error, "the offline record could not be written");
            }
        }
    }

    /// Tells the kept record what has passed since it was last told, each moment once.
    fn count_time(&mut self) {
        let now_ns = self.core.environment().monotonic_ns();
        let passed_ms = now_ns.saturating_sub(self.counted_ns) / 1_000_000;
        self.counted_ns = self.counted_ns.saturating_add(passed_ms.saturating_mul(1_000_000));
        if let Some(record) = &mut self.kept {
            record.pass(passed_ms);
        }
    }

    fn next_keep_ns(&self) -> u64 {
        self.core.environment().monotonic_ns().saturating_add(nanoseconds(KEEP_EVERY))
    }

    async fn forget(&mut self) {
        if let Some(record) = self.kept.take()
            && let Err(error) = self.core.forget(&record.info.product, &record.info.id).await
        {
            tracing::warn!(%error, "the offline record could not be removed");
        }
    }
}

/// The published keys; fetched again when the one that is wanted is not among them.
async fn offline_keys(core: &Core, key_id: &str) -> Result<serde_json::Value, Error> {
    let holds = |keys: &serde_json::Value| {
        let bytes = serde_json::to_vec(keys).unwrap_or_default();
        KeySet::from_json(&bytes).is_ok_and(|keys| keys.get(key_id).is_some())
    };
    let mut known = core.offline_keys.lock().await;
    if let Some(keys) = known.as_ref().filter(|keys| holds(keys)) {
        return Ok(keys.clone());
    }
    let call = Call::new(Method::GET, &[".well-known", "leasehold-offline-keys.json"]);
    let reply = core.send_open(&call).await?;
    if reply.status != 200 {
        return Err(reply.unexpected());
    }
    let keys: serde_json::Value = reply.json()?;
    *known = Some(keys.clone());
    Ok(keys)
}

/// Tells the callbacks every change, one after the other, until the lease is lost. They run on
/// threads that may wait; one that panics is called again at the next change.
async fn tell(shared: Arc<Shared>, mut changes: watch::Receiver<Verdict>) {
    loop {
        let verdict = changes.borrow_and_update().clone();
        for callback in shared.callbacks_for(&verdict) {
            let verdict = verdict.clone();
            let told = tokio::task::spawn_blocking(move || (callback.lock())(&verdict)).await;
            if told.is_err() {
                tracing::error!("a callback of the host panicked; the license client goes on");
            }
        }
        if !verdict.permits_use() || changes.changed().await.is_err() {
            return;
        }
    }
}

/// Longest sleep without a look at the clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How often the time that has been is written while an offline token is kept.
const KEEP_EVERY: Duration = Duration::from_secs(300);
