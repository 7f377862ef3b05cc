//! The task of a deployment: activates, sends heartbeats, and gives the slot back at the end.
//!
//! One task does all of it, one call after the other. A stop does not wait for a call under way;
//! whoever asks for a heartbeat meanwhile is told its outcome. The task ends when it is stopped or
//! the last handle is gone; a slot that was taken is given back then.

use std::sync::Arc;
use std::time::Duration;

use protocol::deployment::client::{Call, Decision, StopReason, backoff_ms};
use protocol::deployment::wire::{ActivateRequest, DeactivateRequest, HeartbeatRequest};
use protocol::secret::Disclosed;
use tokio::sync::{mpsc, oneshot};

use super::calls::{self, Outcome};
use super::core::Core;
use crate::environment::random_u64;
use crate::error::Error;
use crate::verdict::{GraceReason, LostReason, Verdict};

/// What a handle asks for.
pub(super) enum Command {
    /// Call now, and tell the verdict.
    Call(oneshot::Sender<Verdict>),
    /// Give the slot back and end.
    Stop(oneshot::Sender<Result<(), Error>>),
}

/// The task's state.
pub(super) struct Actor {
    core: Arc<Core>,
    commands: mpsc::Receiver<Command>,
    call: Call,
    /// When, on the monotonic clock; `None` when only by demand.
    due_ns: Option<u64>,
    failures: u32,
    /// Who waits for the outcome of the next call.
    waiting: Vec<oneshot::Sender<Verdict>>,
}

/// Why the task ends.
enum Ending {
    Stopped(oneshot::Sender<Result<(), Error>>),
    Dropped,
}

impl Actor {
    /// A task whose first call is an activation, at once.
    pub(super) fn new(
        core: Arc<Core>,
        commands: mpsc::Receiver<Command>,
        first: oneshot::Sender<Verdict>,
    ) -> Self {
        let call = Call::Activate;
        Self { core, commands, call, due_ns: Some(0), failures: 0, waiting: vec![first] }
    }

    /// Runs until stopped or dropped.
    pub(super) async fn run(mut self) {
        let ending = self.work().await;
        let given_back = self.deactivate().await;
        {
            let mut standing = self.core.standing.lock();
            standing.access_token = None;
            standing.lost = Some(LostReason::Returned);
        }
        self.core.publish();
        match ending {
            Ending::Stopped(reply) => drop(reply.send(given_back)),
            Ending::Dropped => {
                if let Err(error) = given_back {
                    tracing::warn!(%error, "a slot could not be given back; it will come free");
                }
            }
        }
    }

    async fn work(&mut self) -> Ending {
        loop {
            let verdict = self.look();
            let now_ns = self.core.network.environment().monotonic_ns();
            if self.due_ns.is_some_and(|due_ns| now_ns >= due_ns) {
                match self.perform().await {
                    Some(ending) => return ending,
                    None => continue,
                }
            }
            let left_ns = self.due_ns.map_or(u64::MAX, |due_ns| due_ns.saturating_sub(now_ns));
            let mut wait = Duration::from_nanos(left_ns).min(LONGEST_SLEEP);
            if let Verdict::Grace { .. } = verdict {
                wait = wait.min(self.until_grace_ends());
            }
            let sleep = self.core.network.environment().sleep(wait);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None => return Ending::Dropped,
                    Some(Command::Stop(reply)) => return Ending::Stopped(reply),
                    Some(Command::Call(reply)) => {
                        self.waiting.push(reply);
                        self.due_ns = Some(0);
                    }
                },
                () = sleep => {}
            }
        }
    }

    /// Ends a grace that is over, and tells the verdict.
    fn look(&mut self) -> Verdict {
        let now_ms = self.core.clock.now_ms();
        {
            let mut standing = self.core.standing.lock();
            let is_over = standing.grace_ends_ms().is_none_or(|end| now_ms > end);
            if is_over && standing.machine.on_time(now_ms).is_some() {
                standing.lose(StopReason::GraceExceeded);
                self.due_ns = None;
            }
        }
        self.core.publish()
    }

    fn until_grace_ends(&self) -> Duration {
        let ends_ms = self.core.standing.lock().grace_ends_ms().unwrap_or(i64::MIN);
        let left_ms = ends_ms.saturating_sub(self.core.clock.now_ms()).saturating_add(1);
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).max(SHORTEST_SLEEP)
    }

    /// Makes the call that is due, unless the task is to end.
    async fn perform(&mut self) -> Option<Ending> {
        let (core, call) = (Arc::clone(&self.core), self.call);
        let calling = ask(&core, call);
        tokio::pin!(calling);
        let outcome = loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None => return Some(Ending::Dropped),
                    Some(Command::Stop(reply)) => return Some(Ending::Stopped(reply)),
                    Some(Command::Call(reply)) => self.waiting.push(reply),
                },
                outcome = &mut calling => break outcome,
            }
        };
        self.learn(call, outcome).await;
        let verdict = self.look();
        for reply in self.waiting.drain(..) {
            drop(reply.send(verdict.clone()));
        }
        None
    }

    /// Does what the rules make of an outcome.
    async fn learn(&mut self, call: Call, outcome: Outcome) {
        let decision = match outcome {
            Outcome::Granted(answer) => {
                self.failures = 0;
                let asked_ms = i64::from(answer.heartbeat_interval_seconds).max(1) * 1_000;
                match self.core.granted(*answer).await {
                    Decision::Continue { heartbeat_in_ms } => {
                        Decision::Continue { heartbeat_in_ms: heartbeat_in_ms.min(asked_ms) }
                    }
                    decision => decision,
                }
            }
            failed => self.failed(call, &failed),
        };
        match decision {
            Decision::Continue { heartbeat_in_ms } => self.after(Call::Heartbeat, heartbeat_in_ms),
            Decision::Activate { after_ms } => self.after(Call::Activate, after_ms),
            Decision::Retry { after_ms } => self.after(call, after_ms),
            Decision::EnterSetup(reason) | Decision::Stop(reason) => self.stop(reason),
        }
    }

    fn failed(&mut self, call: Call, outcome: &Outcome) -> Decision {
        self.failures = self.failures.saturating_add(1);
        let random = random_u64(&**self.core.network.environment());
        let now_ms = self.core.clock.now_ms();
        let mut standing = self.core.standing.lock();
        match outcome {
            Outcome::Granted(_) => {}
            Outcome::Refused(refused) => {
                tracing::warn!(%refused, "a deployment's call was refused");
                standing.trouble = match refused.status {
                    401 => GraceReason::Unauthorized,
                    _ => GraceReason::Unreachable,
                };
                standing.refused = Some(refused.clone());
            }
            Outcome::Trouble { error, .. } => {
                tracing::debug!(%error, "a deployment's call had no answer");
                standing.trouble = match error {
                    Error::Unavailable(_) => GraceReason::Unreachable,
                    _ => GraceReason::Misunderstood,
                };
            }
        }
        let heard = outcome.heard().unwrap_or(protocol::deployment::client::Reply::Unreachable);
        standing.machine.on_failure(call, heard, now_ms, random)
    }

    /// The rules say to stop; an offline token may still carry the cluster.
    fn stop(&mut self, reason: StopReason) {
        let now_ms = self.core.clock.now_ms();
        let is_carried = {
            let mut standing = self.core.standing.lock();
            let is_carried = reason == StopReason::GraceExceeded
                && standing.grace_ends_ms().is_some_and(|end| now_ms <= end);
            if !is_carried {
                standing.lose(reason);
            }
            is_carried
        };
        self.call = Call::Activate;
        self.due_ns = None;
        if is_carried {
            let random = random_u64(&**self.core.network.environment());
            self.after(Call::Activate, backoff_ms(self.failures, random, None));
        }
    }

    fn after(&mut self, call: Call, after_ms: i64) {
        let now_ns = self.core.network.environment().monotonic_ns();
        let after_ns = u64::try_from(after_ms).unwrap_or(0).saturating_mul(1_000_000);
        (self.call, self.due_ns) = (call, Some(now_ns.saturating_add(after_ns)));
    }

    /// Gives the slot back, where there is one.
    async fn deactivate(&self) -> Result<(), Error> {
        if self.core.access_token().is_none() {
            return Ok(());
        }
        let Some((license_key, cluster_id)) = self.core.identity() else { return Ok(()) };
        let body = DeactivateRequest { license_key, cluster_id, token: None };
        let path = ["v1", "license", "deactivate"];
        let reply = calls::post(&self.core.network, &path, &body, None).await?;
        if reply.status == 200 {
            return Ok(());
        }
        let refused = calls::refused(&reply);
        let calls::Refused { status, code, message, .. } = refused;
        Err(Error::Rejected { status, code, detail: message })
    }
}

/// Makes a call. A heartbeat without a token is an activation.
async fn ask(core: &Core, call: Call) -> Outcome {
    let Some((license_key, cluster_id)) = core.identity() else {
        let error = Error::configuration("no license key or no cluster ID configured");
        return Outcome::Trouble { error, retry_after_seconds: None };
    };
    let (nodes, metadata) = (*core.nodes.lock(), Some(core.metadata.clone()));
    let token = core.access_token();
    let outcome = match (call, token.as_ref().map(Disclosed::expose)) {
        (Call::Heartbeat, Some(token)) => {
            let body = HeartbeatRequest { license_key, cluster_id, token: None, nodes, metadata };
            calls::token(&core.network, "heartbeat", &body, Some(token)).await
        }
        _ => {
            let body = ActivateRequest {
                license_key,
                cluster_id: Some(cluster_id),
                email: None,
                organization_name: None,
                metadata,
                nodes,
                terms_accepted_at: None,
                terms: None,
            };
            calls::token(&core.network, "activate", &body, None).await
        }
    };
    match outcome {
        Outcome::Granted(answer) if answer.access_token.is_none() => {
            let reason = "an answer without an access token".to_owned();
            let endpoint = core.network.endpoints().first().cloned().unwrap_or_default();
            let error = Error::Protocol { endpoint, reason };
            Outcome::Trouble { error, retry_after_seconds: None }
        }
        outcome => outcome,
    }
}

/// Longest sleep without a look at the clock: timers stand still while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
