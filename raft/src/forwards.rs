//! Commands on their way to the leader, while that is another node.
//!
//! A call costs both nodes the same whether it carries one command or a hundred, so what waits here
//! goes in batches: a submission that comes while few calls are under way is sent at once, and
//! while the bound of calls is reached, those that come gather for the next. Nothing waits for time
//! to pass.
//!
//! Every submission ends in exactly one of: what the leader said of it, *not executed* (it was
//! never sent), or *unknown*. It moves from waiting to sent by the one atomic step that its waiter
//! takes first when its deadline comes, as in `proposer`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use lease::entry::{Envelope, MAX_COMMANDS_PER_ENTRY, MAX_ENTRY_BYTES};
use lease::ids::NodeId;
use tokio::sync::{mpsc, oneshot};

use crate::context::{Context, Deadline, count, stopped};
use crate::frames::{Answer, Forward, Forwarded, Forwarding, decode, encode};
use crate::outcome::Submitted;
use crate::proposer::{OVERLOAD_RETRY, QUEUED_SUBMISSIONS, Stage};
use crate::transport::PeerCall;

/// How one try to have commands carried out ended.
#[derive(Debug)]
pub(crate) enum Try {
    /// They are applied.
    Done(Submitted),
    /// Not carried out by this try; the next may succeed.
    NotExecuted,
    /// Not carried out: too much waits already.
    Overloaded(Duration),
    /// They may have been carried out.
    Unknown,
}

/// Commands with whoever waits for them.
pub(crate) struct Outgoing {
    commands: Vec<Envelope>,
    bytes: usize,
    deadline: Deadline,
    stage: Arc<Stage>,
    answer: oneshot::Sender<Try>,
}

/// The way into the queue.
#[derive(Clone)]
pub(crate) struct Forwards {
    context: Arc<Context>,
    queue: mpsc::Sender<Outgoing>,
}

impl Forwards {
    /// The handle and the task's part of the queue.
    pub(crate) fn new(context: Arc<Context>) -> (Self, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(QUEUED_SUBMISSIONS);
        (Self { context, queue }, outgoing)
    }

    /// Sends commands to whoever leads and waits for what becomes of them.
    pub(crate) async fn send(
        &self,
        commands: Vec<Envelope>,
        bytes: usize,
        deadline: Deadline,
    ) -> Try {
        let stage = Arc::new(Stage::default());
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing { commands, bytes, deadline, stage: Arc::clone(&stage), answer };
        if self.queue.try_send(outgoing).is_err() {
            return match self.context.is_stopping() {
                true => Try::NotExecuted,
                false => Try::Overloaded(OVERLOAD_RETRY),
            };
        }
        match tokio::time::timeout(self.context.left(deadline), answered).await {
            Ok(Ok(answer)) => answer,
            // The task is gone, or the time is over: sent it was only if the stage says so.
            Ok(Err(_)) | Err(_) if stage.take() => Try::NotExecuted,
            Ok(Err(_)) | Err(_) => Try::Unknown,
        }
    }
}

/// Sends batches until the node stops.
pub(crate) async fn serve(context: Arc<Context>, mut queue: mpsc::Receiver<Outgoing>) {
    let mut stopping = context.stopping.subscribe();
    let mut waiting = VecDeque::new();
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => return,
            Some(()) = calls.next() => {}
            next = queue.recv() => match next {
                Some(outgoing) => {
                    waiting.push_back(outgoing);
                    // Whoever became ready together with this one may have more to send.
                    tokio::task::yield_now().await;
                }
                None => return,
            },
        }
        while let Ok(outgoing) = queue.try_recv() {
            waiting.push_back(outgoing);
        }
        while calls.len() < context.timing.entries_in_flight {
            let batch = gather(&mut waiting);
            if batch.is_empty() {
                break;
            }
            calls.push(call(Arc::clone(&context), batch));
        }
    }
}

/// The next batch: whole submissions, in order, up to the bounds of an entry.
fn gather(waiting: &mut VecDeque<Outgoing>) -> Vec<Outgoing> {
    let mut batch: Vec<Outgoing> = Vec::new();
    let (mut commands, mut bytes) = (0, 0);
    while let Some(next) = waiting.front() {
        let full = commands + next.commands.len() > MAX_COMMANDS_PER_ENTRY
            || bytes + next.bytes > MAX_ENTRY_BYTES;
        if full && !batch.is_empty() {
            break;
        }
        let Some(outgoing) = waiting.pop_front() else { break };
        // Who went away without a word does not want it done either.
        if outgoing.answer.is_closed() || !outgoing.stage.take() {
            continue;
        }
        commands += outgoing.commands.len();
        bytes += outgoing.bytes;
        batch.push(outgoing);
    }
    batch
}

/// Sends a batch to whoever leads now and tells each waiter what came of it.
async fn call(context: Arc<Context>, mut batch: Vec<Outgoing>) {
    let leader = context.leadership.borrow().leader.filter(|leader| *leader != context.node);
    let answers = match leader {
        Some(leader) => ask(&context, leader, &mut batch).await,
        None => NOT_EXECUTED,
    };
    match answers {
        Answers::Each(answers) => {
            for (outgoing, answer) in batch.into_iter().zip(answers) {
                // A waiter that is gone has said so itself.
                let _ = outgoing.answer.send(answer);
            }
        }
        Answers::All(answer) => {
            for outgoing in batch {
                let _ = outgoing.answer.send(answer());
            }
        }
    }
}

/// What came of a batch.
enum Answers {
    Each(Vec<Try>),
    All(fn() -> Try),
}

const UNKNOWN: Answers = Answers::All(|| Try::Unknown);
const NOT_EXECUTED: Answers = Answers::All(|| Try::NotExecuted);

/// Given up when another node turns out to lead: a leader that was cut off would keep the commands
/// waiting for nothing.
async fn ask(context: &Context, leader: NodeId, batch: &mut [Outgoing]) -> Answers {
    let mut longest = Duration::ZERO;
    let submissions: Vec<Forwarding> = batch
        .iter_mut()
        .map(|outgoing| {
            let left = context.left(outgoing.deadline);
            longest = longest.max(left);
            // The leader gives up a little earlier, so that its answer still arrives: it knows
            // whether the commands were proposed.
            let deadline_ms = u64::try_from((left - left / 10).as_millis()).unwrap_or(u64::MAX);
            Forwarding { deadline_ms, commands: std::mem::take(&mut outgoing.commands) }
        })
        .collect();
    let commands: usize = submissions.iter().map(|one| one.commands.len()).sum();
    count(&context.counters.forwarded, commands as u64);
    count(&context.counters.forwards, 1);
    let message = encode(&context.request(leader, Forward { submissions }));
    let calling = context.transport.call(leader, PeerCall::Forward, message, longest);
    let mut leadership = context.leadership.subscribe();
    let replaced = leadership.wait_for(|now| now.leader.is_some_and(|it| it != leader));
    let answer = tokio::select! {
        answer = tokio::time::timeout(longest, calling) => answer,
        _ = replaced => return UNKNOWN,
    };
    match answer {
        Ok(Ok(answer)) => answers_in(context, leader, batch.len(), &answer),
        Ok(Err(error)) if !error.may_have_arrived() => NOT_EXECUTED,
        Ok(Err(_)) | Err(_) => UNKNOWN,
    }
}

fn answers_in(context: &Context, leader: NodeId, asked: usize, answer: &[u8]) -> Answers {
    let Ok(answer) = decode::<Answer<Vec<Forwarded>>>(answer) else { return UNKNOWN };
    if answer.sender.node != leader || context.admit(&answer.sender).is_err() {
        return UNKNOWN;
    }
    match answer.body {
        Ok(answers) if answers.len() == asked => {
            Answers::Each(answers.into_iter().map(|answer| answer.into_try(leader)).collect())
        }
        Ok(_) => UNKNOWN,
        Err(refused) => {
            context.refused_by(leader, &refused);
            NOT_EXECUTED
        }
    }
}

impl Forwarded {
    fn into_try(self, leader: NodeId) -> Try {
        match self {
            Self::Applied { index, outcomes, clock } => {
                Try::Done(Submitted { index, outcomes, served_by: leader, clock })
            }
            Self::Overloaded { retry_after_ms } => {
                Try::Overloaded(Duration::from_millis(retry_after_ms))
            }
            Self::NotLeader(_) | Self::NotProposed => Try::NotExecuted,
            Self::Unknown => Try::Unknown,
        }
    }
}
