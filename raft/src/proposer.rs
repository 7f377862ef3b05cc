//! The one task that puts commands into the log, on whatever node leads.
//!
//! It gathers what gateways submitted into an entry of one stamp, encodes it once, and proposes the
//! next when the last is durable here; at most a few are in flight. It proposes nothing before this
//! term's blank entry is applied, nor while no quorum acknowledges.
//!
//! ```text
//! submit ──► queue ──► batch ──► openraft ──► log durable ──► next batch
//!                        │                        └► quorum ──► applied ──► outcomes ──► submit
//!                        └ stamp of `lead`
//! ```
//!
//! Every submission ends in exactly one of: its outcomes, *not proposed* (so never executed), or
//! *unknown*. A submission moves from waiting to proposed by one atomic step, which its waiter
//! tries to take first when its deadline comes, so that both agree on which it is.

mod task;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lease::command::Command;
use lease::entry::{Actor, Envelope, MAX_COMMANDS_PER_ENTRY, Stamp};
use lease::format;
use lease::ids::{NodeId, TraceId};
use lease::outcome::Outcome;
use tokio::sync::{mpsc, oneshot};

pub(crate) use task::ProposerTask;

use crate::context::{Context, count};

/// Commands with whoever waits for them.
pub(crate) struct Submission {
    commands: Vec<Envelope>,
    bytes: usize,
    stage: Arc<Stage>,
    answer: Option<oneshot::Sender<Result<Proposed, NotProposed>>>,
}

impl Submission {
    fn is_wanted(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| !answer.is_closed())
    }
}

/// A submission in the queue, as its waiter holds it.
struct Queued {
    stage: Arc<Stage>,
    answered: oneshot::Receiver<Result<Proposed, NotProposed>>,
}

/// What became of proposed commands.
#[derive(Debug)]
pub(crate) enum Proposed {
    /// They are in the log and applied.
    Applied { index: u64, outcomes: Vec<Outcome>, clock: Stamp },
    /// They may be in the log.
    Unknown,
}

/// Why commands were not proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotProposed {
    /// This node does not lead.
    NotLeader(Option<NodeId>),
    /// The queue is full.
    Overloaded(Duration),
    /// The deadline came first.
    Deadline,
    /// The node is stopping.
    Stopping,
}

/// Whether a submission still waits. Taken by the proposer or by the waiter, whoever is first.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU8);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;

impl Stage {
    fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Acquire) == WAITING
    }

    /// Takes it; `false` when the other has.
    pub(crate) fn take(&self) -> bool {
        self.0.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The way into the queue.
#[derive(Clone)]
pub(crate) struct Proposer {
    context: Arc<Context>,
    queue: mpsc::Sender<Submission>,
}

impl Proposer {
    /// The handle and the task's part of the queue.
    pub(crate) fn new(context: Arc<Context>) -> (Self, mpsc::Receiver<Submission>) {
        let (queue, submissions) = mpsc::channel(QUEUED_SUBMISSIONS);
        (Self { context, queue }, submissions)
    }

    /// Has commands proposed here, if this node leads, and waits for what becomes of them.
    pub(crate) async fn propose(
        &self,
        commands: Vec<Envelope>,
        bytes: usize,
        wait: Duration,
    ) -> Result<Proposed, NotProposed> {
        let Queued { stage, answered } = self.enqueue(commands, bytes)?;
        match tokio::time::timeout(wait, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => unanswered(&stage, NotProposed::Stopping),
            Err(_) => unanswered(&stage, NotProposed::Deadline),
        }
    }

    /// The same for several submissions at once, each with its encoded size; gives one answer for
    /// each, when all are there or the time is over.
    pub(crate) async fn propose_all(
        &self,
        submissions: Vec<(Vec<Envelope>, usize)>,
        wait: Duration,
    ) -> Vec<Result<Proposed, NotProposed>> {
        let mut over = pin!(tokio::time::sleep(wait));
        let queued: Vec<_> = submissions
            .into_iter()
            .map(|(commands, bytes)| self.enqueue(commands, bytes))
            .collect();
        let mut answers = Vec::with_capacity(queued.len());
        for queued in queued {
            let Queued { stage, mut answered } = match queued {
                Ok(queued) => queued,
                Err(not_proposed) => {
                    answers.push(Err(not_proposed));
                    continue;
                }
            };
            let answer = tokio::select! {
                biased;
                answer = &mut answered => {
                    answer.unwrap_or_else(|_| unanswered(&stage, NotProposed::Stopping))
                }
                () = &mut over => unanswered(&stage, NotProposed::Deadline),
            };
            answers.push(answer);
        }
        answers
    }

    fn enqueue(&self, commands: Vec<Envelope>, bytes: usize) -> Result<Queued, NotProposed> {
        let more = commands.len() as u64;
        let counters = &self.context.counters;
        let queued = counters.commands_queued.fetch_add(more, Ordering::Relaxed) + more;
        let stage = Arc::new(Stage::default());
        let (answer, answered) = oneshot::channel();
        let submission =
            Submission { commands, bytes, stage: Arc::clone(&stage), answer: Some(answer) };
        if queued > QUEUED_COMMANDS || self.queue.try_send(submission).is_err() {
            counters.commands_queued.fetch_sub(more, Ordering::Relaxed);
            if self.context.is_stopping() {
                return Err(NotProposed::Stopping);
            }
            count(&counters.overloaded, more);
            return Err(NotProposed::Overloaded(OVERLOAD_RETRY));
        }
        Ok(Queued { stage, answered })
    }

    /// Has this node's own command proposed; nobody waits for it.
    fn propose_own(&self, command: Command) {
        let submission = own_submission(self.context.node, command);
        let more = submission.commands.len() as u64;
        // Before it is sent: the task counts it down again as soon as it takes it.
        let queued = &self.context.counters.commands_queued;
        count(queued, more);
        if self.queue.try_send(submission).is_err() {
            queued.fetch_sub(more, Ordering::Relaxed);
        }
    }

    /// Puts the sum that a majority agreed on into the log.
    pub(crate) fn agree_state_sum(&self, index: u64, sum: [u8; 32]) {
        self.propose_own(Command::AgreeStateSum { index, sum });
    }
}

/// Of a submission that its waiter gives up: was it proposed?
fn unanswered(stage: &Stage, why: NotProposed) -> Result<Proposed, NotProposed> {
    if stage.take() { Err(why) } else { Ok(Proposed::Unknown) }
}

/// Encoded size of commands, and whether they fit into an entry.
pub(crate) fn encoded_bytes(commands: &[Envelope]) -> Result<usize, String> {
    if commands.len() > MAX_COMMANDS_PER_ENTRY {
        return Err(format!("{} commands, at most {MAX_COMMANDS_PER_ENTRY}", commands.len()));
    }
    let bytes = commands.iter().map(format::encoded_bytes).sum();
    if bytes > MAX_SUBMISSION_BYTES {
        return Err(format!("{bytes} bytes, at most {MAX_SUBMISSION_BYTES}"));
    }
    Ok(bytes)
}

/// A node's own command, which nobody asked for.
pub(crate) fn own_command(node: NodeId, command: Command) -> Envelope {
    Envelope {
        actor: Actor::Node(node),
        request: None,
        trace: TraceId::default(),
        cause: None,
        command,
    }
}

fn own_submission(node: NodeId, command: Command) -> Submission {
    let stage = Arc::new(Stage::default());
    Submission { commands: vec![own_command(node, command)], bytes: 0, stage, answer: None }
}

/// Submissions in the queue: the bound of the channel, never reached before the next.
pub(crate) const QUEUED_SUBMISSIONS: usize = 16_384;
/// Commands in the queue: half a second of work; beyond it, waiting only makes deadlines pass.
const QUEUED_COMMANDS: u64 = 16_384;
/// When to try again after the queue was full.
pub(crate) const OVERLOAD_RETRY: Duration = Duration::from_millis(500);
/// One submission may be larger than a batch, since a signed package alone can be; but it and its
/// outcomes, which are at most twice as long, must fit into a frame with room to spare.
const MAX_SUBMISSION_BYTES: usize = 1 << 20;
