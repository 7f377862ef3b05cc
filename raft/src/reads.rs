//! Linearizable reads: what index to wait for.
//!
//! Reads that wait together share a round: all that came before a round begins are served by it,
//! later ones by the next. On the leader a round is openraft's: a quorum acknowledges the leader
//! after the round began. Elsewhere it is one call to the leader. Leader-lease reads stay off: the
//! monotonic clock stands still while a machine is suspended.
//!
//! With the index comes the leader's clock: in a quiet cluster that of the ledger stands still, and
//! whoever told a holder's time by it would promise too much.

use std::sync::Arc;
use std::time::Duration;

use lease::ids::NodeId;
use lease::planted::{self, Bug};
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{LinearizerOption, ReadPolicy};
use tokio::sync::{mpsc, oneshot};

use crate::context::{Context, Raft, count, stopped};
use crate::frames::{Answer, AskReadIndex, ReadIndex, decode, encode};
use crate::transport::PeerCall;

/// One reader in the queue.
pub(crate) struct Reader {
    /// Asked by a peer: answered only when this node leads.
    from_peer: bool,
    answer: oneshot::Sender<ReadIndex>,
}

/// The way into the queue.
#[derive(Clone)]
pub(crate) struct Reads {
    queue: mpsc::Sender<Reader>,
}

impl Reads {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Reader>) {
        let (queue, readers) = mpsc::channel(QUEUED_READERS);
        (Self { queue }, readers)
    }

    /// Waits for a round; `None` when the queue is full or the node stops.
    pub(crate) async fn index(&self, from_peer: bool, wait: Duration) -> Option<ReadIndex> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Reader { from_peer, answer }).ok()?;
        match tokio::time::timeout(wait, answered).await {
            Ok(answer) => answer.ok(),
            Err(_) => Some(ReadIndex::NoQuorum),
        }
    }
}

/// Serves rounds until the node stops.
pub(crate) async fn serve(context: Arc<Context>, raft: Raft, mut readers: mpsc::Receiver<Reader>) {
    let mut stopping = context.stopping.subscribe();
    loop {
        let first = tokio::select! {
            () = stopped(&mut stopping) => return,
            first = readers.recv() => first,
        };
        let Some(first) = first else { return };
        let mut round = vec![first];
        while let Ok(reader) = readers.try_recv() {
            round.push(reader);
        }
        count(&context.counters.read_rounds, 1);
        count(&context.counters.reads, round.len() as u64);
        let leadership = *context.leadership.borrow();
        let answer = match leadership.leader {
            Some(leader) if leader == context.node => {
                lead_round(&context, &raft, leadership.term).await
            }
            Some(_) if planted::is(Bug::StaleRead) => {
                let machine = context.replica.machine.read();
                let index = machine.ledger.applied_index();
                ReadIndex::At { index, clock: machine.ledger.clock() }
            }
            Some(leader) => {
                let (of_peers, own): (Vec<_>, Vec<_>) =
                    round.into_iter().partition(|reader| reader.from_peer);
                answer_all(of_peers, ReadIndex::NotLeader(Some(leader)));
                if own.is_empty() {
                    continue;
                }
                round = own;
                ask_leader(&context, leader).await
            }
            None => ReadIndex::NotLeader(None),
        };
        answer_all(round, answer);
    }
}

fn answer_all(readers: Vec<Reader>, answer: ReadIndex) {
    for reader in readers {
        // A reader whose deadline has passed is gone.
        let _ = reader.answer.send(answer);
    }
}

async fn lead_round(context: &Context, raft: &Raft, term: u64) -> ReadIndex {
    let wait = round_wait(context);
    let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(wait);
    match raft.get_read_linearizer(option).await {
        Ok(confirmed) => match context.lead.stamp(term, context.reading()) {
            Some(clock) => ReadIndex::At { index: confirmed.read_log_id().index(), clock },
            None => ReadIndex::NoQuorum,
        },
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
            ReadIndex::NotLeader(to.leader_id.filter(|leader| *leader != context.node))
        }
        Err(_) => ReadIndex::NoQuorum,
    }
}

async fn ask_leader(context: &Context, leader: NodeId) -> ReadIndex {
    let wait = round_wait(context);
    let deadline_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let body = AskReadIndex { deadline_ms };
    let message = encode(&context.request(leader, body));
    let asked = context.transport.call(leader, PeerCall::ReadIndex, message, wait);
    let Ok(Ok(answer)) = tokio::time::timeout(wait, asked).await else {
        return ReadIndex::NoQuorum;
    };
    let Ok(answer) = decode::<Answer<ReadIndex>>(&answer) else { return ReadIndex::NoQuorum };
    if answer.sender.node != leader || context.admit(&answer.sender).is_err() {
        return ReadIndex::NoQuorum;
    }
    answer.body.unwrap_or_else(|refused| {
        context.refused_by(leader, &refused);
        ReadIndex::NoQuorum
    })
}

/// A round that takes longer than an acknowledgement lasts is a failed one.
fn round_wait(context: &Context) -> Duration {
    Duration::from_millis(context.timing.election_max_ms)
}

/// Reads that may wait for a round; each is one request of a client.
const QUEUED_READERS: usize = 16_384;
