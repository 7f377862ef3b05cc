//! Submitting and reading on any node: find the leader, try, and try again within the deadline.
//!
//! Trying again is safe, since commands carry their request ids. What must not get lost on the way
//! is whether any try may have been carried out: once one may have, only an outcome ends the doubt.

use std::sync::Arc;
use std::time::Duration;

use lease::entry::{Envelope, Stamp};

use crate::context::{Context, Deadline};
use crate::forwards::{Forwards, Try};
use crate::frames::ReadIndex;
use crate::outcome::{Executed, ReadError, ReadPoint, SubmitError, SubmitErrorKind, Submitted};
use crate::proposer::{NotProposed, Proposed, Proposer, encoded_bytes};
use crate::reads::Reads;

/// Finds leaders for commands and reads.
#[derive(Clone)]
pub(crate) struct Router {
    pub(crate) context: Arc<Context>,
    pub(crate) proposer: Proposer,
    pub(crate) forwards: Forwards,
    pub(crate) reads: Reads,
}

impl Router {
    /// See [`crate::Cluster::submit`].
    pub(crate) async fn submit(
        &self,
        commands: Vec<Envelope>,
        wait: Duration,
    ) -> Result<Submitted, SubmitError> {
        let bytes = encoded_bytes(&commands)
            .map_err(|what| SubmitError::not_executed(SubmitErrorKind::TooLarge(what)))?;
        let deadline = self.context.deadline(wait);
        let mut executed = Executed::NotExecuted;
        loop {
            if let Some(kind) = self.hindrance() {
                return Err(SubmitError { executed, kind });
            }
            let left = self.context.left(deadline);
            if left.is_zero() {
                return Err(SubmitError { executed, kind: SubmitErrorKind::NoQuorum });
            }
            let mut leadership = self.context.leadership.subscribe();
            let leader = leadership.borrow_and_update().leader;
            let tried = match leader {
                Some(leader) if leader == self.context.node => {
                    self.propose(commands.clone(), bytes, left).await
                }
                Some(_) => self.forwards.send(commands.clone(), bytes, deadline).await,
                None => Try::NotExecuted,
            };
            match tried {
                Try::Done(submitted) => return Ok(submitted),
                Try::Overloaded(retry_after) if executed == Executed::NotExecuted => {
                    let kind = SubmitErrorKind::Overloaded { retry_after };
                    return Err(SubmitError { executed, kind });
                }
                Try::NotExecuted | Try::Overloaded(_) => {}
                Try::Unknown => executed = Executed::Unknown,
            }
            self.pause(&mut leadership, deadline).await;
        }
    }

    async fn propose(&self, commands: Vec<Envelope>, bytes: usize, left: Duration) -> Try {
        match self.proposer.propose(commands, bytes, left).await {
            Ok(Proposed::Applied { index, outcomes, clock }) => {
                let served_by = self.context.node;
                Try::Done(Submitted { index, outcomes, served_by, clock })
            }
            Ok(Proposed::Unknown) => Try::Unknown,
            Err(NotProposed::Overloaded(after)) => Try::Overloaded(after),
            Err(NotProposed::NotLeader(_) | NotProposed::Deadline | NotProposed::Stopping) => {
                Try::NotExecuted
            }
        }
    }

    /// See [`crate::Cluster::read_barrier`].
    pub(crate) async fn read_barrier(&self, wait: Duration) -> Result<ReadPoint, ReadError> {
        let deadline = self.context.deadline(wait);
        loop {
            match self.hindrance() {
                None => {}
                Some(SubmitErrorKind::ShuttingDown) => return Err(ReadError::ShuttingDown),
                Some(other) => return Err(ReadError::Failed(other.to_string())),
            }
            let left = self.context.left(deadline);
            if left.is_zero() {
                return Err(ReadError::NoQuorum);
            }
            let mut leadership = self.context.leadership.subscribe();
            let leader = leadership.borrow_and_update().leader;
            if let Some(served_by) = leader {
                match self.reads.index(false, left).await {
                    Some(ReadIndex::At { index, clock }) => {
                        let point = ReadPoint { index, served_by, clock };
                        return self.read_at(point, deadline).await;
                    }
                    Some(ReadIndex::NotLeader(_) | ReadIndex::NoQuorum) => {}
                    None if self.context.is_stopping() => return Err(ReadError::ShuttingDown),
                    None => {
                        let retry_after = OVERLOAD_RETRY;
                        return Err(ReadError::Overloaded { retry_after });
                    }
                }
            }
            self.pause(&mut leadership, deadline).await;
        }
    }

    async fn read_at(&self, point: ReadPoint, deadline: Deadline) -> Result<ReadPoint, ReadError> {
        let index = point.index;
        let mut applied = self.context.replica.applied.subscribe();
        let there = applied.wait_for(|mark| mark.position.is_some_and(|it| it.index >= index));
        match tokio::time::timeout(self.context.left(deadline), there).await {
            Ok(Ok(_)) => {
                let ledger = self.context.replica.ledger_clock();
                let clock = Stamp {
                    led_ms: point.clock.led_ms.max(ledger.led_ms),
                    civil_ms: point.clock.civil_ms.max(ledger.civil_ms),
                };
                Ok(ReadPoint { clock, ..point })
            }
            Ok(Err(_)) => Err(ReadError::ShuttingDown),
            Err(_) => Err(ReadError::NoQuorum),
        }
    }

    /// What makes every try pointless.
    fn hindrance(&self) -> Option<SubmitErrorKind> {
        if let Some(reason) = self.context.fatal.reason() {
            return Some(SubmitErrorKind::Failed(reason));
        }
        self.context.is_stopping().then_some(SubmitErrorKind::ShuttingDown)
    }

    /// Waits for news of the leader, but not long: it may be the same one, ready now.
    async fn pause(
        &self,
        leadership: &mut tokio::sync::watch::Receiver<crate::context::Leadership>,
        deadline: Deadline,
    ) {
        let wait = RETRY_PAUSE.min(self.context.left(deadline));
        // A closed channel means that the node stops, which the next try sees.
        let _ = tokio::time::timeout(wait, leadership.changed()).await;
    }
}

/// Between two tries when nothing new is heard of the leader.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// When to read again after too many waited.
const OVERLOAD_RETRY: Duration = Duration::from_millis(500);
