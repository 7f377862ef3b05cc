//! The task itself: follows leadership, gathers batches, proposes them and settles what became of
//! them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lease::command::Command;
use lease::entry::{Entry, EntryHeader, Envelope, MAX_COMMANDS_PER_ENTRY, MAX_ENTRY_BYTES, Stamp};
use lease::ids::NodeId;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{mpsc, oneshot, watch};

use super::{NotProposed, Proposed, Submission, own_submission};
use crate::context::{Context, Leadership, Raft, count, stopped};
use crate::log_store::LogStore;
use crate::types::{Applied, CommittedLeaderId, Proposal, TypeConfig};

/// The task.
pub(crate) struct ProposerTask {
    context: Arc<Context>,
    raft: Raft,
    submissions: mpsc::Receiver<Submission>,
    leadership: watch::Receiver<Leadership>,
    /// Held so that `durable` has its sender for as long as this runs.
    _log: LogStore,
    durable: watch::Receiver<u64>,
    waiting: VecDeque<Submission>,
    in_flight: FuturesUnordered<BoxFuture<'static, (u64, Result<Answered, Failed>)>>,
    pending: BTreeMap<u64, Pending>,
    last_number: u64,
    /// The proposal that must be durable here before the next one.
    gate: u64,
    now: Leadership,
    identity: (u32, u64),
}

/// An entry whose fate is not known.
struct Pending {
    term: u64,
    shares: Vec<Share>,
}

/// One submission's part of an entry.
struct Share {
    commands: usize,
    answer: Option<oneshot::Sender<Result<Proposed, NotProposed>>>,
}

struct Answered {
    index: u64,
    applied: Applied,
}

/// What an entry may have so much of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    commands: usize,
    bytes: usize,
    /// Leases that are looked at.
    leases: usize,
}

impl Size {
    fn of(submission: &Submission) -> Self {
        let leases = |envelope: &Envelope| match &envelope.command {
            Command::Heartbeat { leases } => leases.len(),
            _ => 1,
        };
        Self {
            commands: submission.commands.len(),
            bytes: submission.bytes,
            leases: submission.commands.iter().map(leases).sum(),
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            commands: self.commands + other.commands,
            bytes: self.bytes + other.bytes,
            leases: self.leases + other.leases,
        }
    }

    fn is_too_much(self) -> bool {
        self.commands > MAX_COMMANDS_PER_ENTRY
            || self.bytes > MAX_ENTRY_BYTES
            || self.leases > MAX_LEASES_PER_ENTRY
    }
}

/// Why a proposal has no outcome.
enum Failed {
    /// Refused before it was appended.
    Refused(Option<NodeId>),
    /// Appended, and then perhaps overwritten.
    Unknown,
}

impl ProposerTask {
    pub(crate) fn new(
        context: Arc<Context>,
        raft: Raft,
        submissions: mpsc::Receiver<Submission>,
        log: LogStore,
    ) -> Self {
        let mut leadership = context.leadership.subscribe();
        let now = *leadership.borrow_and_update();
        Self {
            context,
            raft,
            submissions,
            leadership,
            durable: log.durable_proposal(),
            _log: log,
            waiting: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            pending: BTreeMap::new(),
            last_number: 0,
            gate: 0,
            now,
            identity: (0, 0),
        }
    }

    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        let beat = Duration::from_millis(self.context.timing.heartbeat_ms);
        let mut tick = tokio::time::interval(TICK_INTERVAL.max(beat));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Looks at what waits for a quorum, or for this leader to be ready.
        let mut look = tokio::time::interval(beat);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = self.context.stopping.subscribe();
        loop {
            tokio::select! {
                // The intervals before what may come without a pause.
                biased;
                () = stopped(&mut stopping) => break,
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.follow_leadership();
                }
                _ = look.tick(), if !self.waiting.is_empty() => self.forget_abandoned(),
                _ = tick.tick() => self.tick(),
                Some((number, result)) = self.in_flight.next() => self.settle(number, result),
                Some(submission) = self.submissions.recv() => self.waiting.push_back(submission),
                _ = self.durable.changed() => {}
            }
            while let Ok(submission) = self.submissions.try_recv() {
                self.waiting.push_back(submission);
            }
            if self.may_turn_away() {
                self.turn_away();
            }
            while self.may_propose() && self.propose_next().await {}
        }
        self.stop();
    }

    fn may_propose(&self) -> bool {
        self.now.ready
            && !self.waiting.is_empty()
            && !self.context.is_read_only()
            && self.pending.len() < self.context.timing.entries_in_flight
            && (self.pending.is_empty() || *self.durable.borrow() >= self.gate)
    }

    /// While another node leads, commands do not wait here. Without any leader, and before this
    /// one is ready, they wait: it is soon decided, and their deadlines hold.
    fn may_turn_away(&self) -> bool {
        !self.waiting.is_empty()
            && self.now.leader.is_some_and(|leader| leader != self.context.node)
    }

    fn turn_away(&mut self) {
        let leader = self.now.leader;
        for submission in std::mem::take(&mut self.waiting) {
            self.uncount(&submission);
            if let Some(answer) = submission.answer
                && submission.stage.take()
            {
                let _ = answer.send(Err(NotProposed::NotLeader(leader)));
            }
        }
    }

    fn follow_leadership(&mut self) {
        let before = self.now;
        self.now = *self.leadership.borrow_and_update();
        if before.ready && !(self.now.ready && self.now.term == before.term) {
            // What is in flight may still be committed by the next leader: nobody here will know.
            for pending in std::mem::take(&mut self.pending).into_values() {
                self.answer_unknown(pending);
            }
            self.note_in_flight();
        }
        if self.now.ready && !(before.ready && self.now.term == before.term) {
            // Once per leadership: a quiet ledger's clocks are those of its last entry.
            self.queue_tick();
        }
    }

    fn queue_tick(&mut self) {
        let tick = own_submission(self.context.node, Command::Tick);
        count(&self.context.counters.commands_queued, 1);
        self.waiting.push_back(tick);
    }

    fn answer_unknown(&self, pending: Pending) {
        count(&self.context.counters.proposals_failed, 1);
        for share in pending.shares {
            share.send(Ok(Proposed::Unknown));
        }
    }

    /// Proposes one entry; whether it did.
    async fn propose_next(&mut self) -> bool {
        let term = self.now.term;
        let Some(stamp) = self.context.lead.stamp(term, self.context.reading()) else {
            return false;
        };
        let (commands, shares) = self.gather();
        if commands.is_empty() {
            return false;
        }
        let entry = Entry { header: self.header(stamp), commands };
        count(&self.context.counters.entries_proposed, 1);
        count(&self.context.counters.commands_proposed, entry.commands.len() as u64);
        self.last_number += 1;
        let number = self.last_number;
        self.gate = number;
        let bytes = entry.encode().into();
        let proposal = Proposal { bytes, entry: Some(Arc::new(entry)), number };
        let (responder, done) = ProgressResponder::<TypeConfig, _>::complete_only();
        let write = self.raft.write(proposal).with_leader(CommittedLeaderId::new(term));
        self.pending.insert(number, Pending { term, shares });
        self.note_in_flight();
        if let Err(error) = write.responder(responder).await {
            // The core is gone before it took the entry; the node is on its way down.
            tracing::debug!(%error, "an entry was not taken");
            self.settle(number, Err(Failed::Refused(None)));
            return false;
        }
        self.in_flight.push(Box::pin(async move {
            let result = match done.await {
                Ok(Ok(written)) => {
                    Ok(Answered { index: written.log_id.index, applied: written.data })
                }
                Ok(Err(ClientWriteError::ForwardToLeader(to))) => {
                    Err(Failed::Refused(to.leader_id))
                }
                Ok(Err(_)) | Err(_) => Err(Failed::Unknown),
            };
            (number, result)
        }));
        true
    }

    /// The next batch: whole submissions, in order, up to the bounds of an entry.
    fn gather(&mut self) -> (Vec<Envelope>, Vec<Share>) {
        let mut commands: Vec<Envelope> = Vec::new();
        let mut shares = Vec::new();
        let mut batch = Size::default();
        while let Some(next) = self.waiting.front() {
            let with_next = batch.with(Size::of(next));
            if with_next.is_too_much() && !commands.is_empty() {
                break;
            }
            let Some(mut submission) = self.waiting.pop_front() else { break };
            self.uncount(&submission);
            // Who went away without a word does not want it done either.
            if !submission.is_wanted() || !submission.stage.take() {
                continue;
            }
            batch = with_next;
            let answer = submission.answer.take();
            shares.push(Share { commands: submission.commands.len(), answer });
            commands.append(&mut submission.commands);
        }
        (commands, shares)
    }

    fn header(&mut self, stamp: Stamp) -> EntryHeader {
        if self.identity == (0, 0) {
            let machine = self.context.replica.machine.read();
            if let Some(cluster) = machine.ledger.cluster() {
                self.identity = (cluster.epoch, cluster.incarnation);
            }
        }
        let (epoch, incarnation) = self.identity;
        EntryHeader { group: GROUP, epoch, incarnation, stamp, origin: self.context.node }
    }

    /// Hands an entry's outcomes to whoever submitted its commands.
    fn settle(&mut self, number: u64, result: Result<Answered, Failed>) {
        let Some(pending) = self.pending.remove(&number) else { return };
        self.note_in_flight();
        if number == self.gate {
            self.gate = 0;
        }
        match result {
            Ok(Answered { index, applied }) => {
                let mut outcomes = applied.outcomes.into_iter();
                for share in pending.shares {
                    let outcomes = outcomes.by_ref().take(share.commands).collect();
                    let clock = applied.clock;
                    share.send(Ok(Proposed::Applied { index, outcomes, clock }));
                }
            }
            Err(Failed::Refused(leader)) => {
                tracing::debug!(term = pending.term, "an entry was refused before it was appended");
                count(&self.context.counters.proposals_failed, 1);
                for share in pending.shares {
                    share.send(Err(NotProposed::NotLeader(leader)));
                }
            }
            Err(Failed::Unknown) => self.answer_unknown(pending),
        }
    }

    /// Lets time pass when something is due and no entry is on its way that would do it.
    fn tick(&mut self) {
        if !self.now.ready || !self.pending.is_empty() || !self.waiting.is_empty() {
            return;
        }
        let (due, logged) = {
            let machine = self.context.replica.machine.read();
            (machine.ledger.next_due(), machine.ledger.clock())
        };
        let Some(stamp) = self.context.lead.stamp(self.now.term, self.context.reading()) else {
            return;
        };
        // A new leader goes on from the clock in the log, so while a lease lives its time is logged
        // often enough that a failover gives little of it back.
        let is_kept = stamp.led_ms < logged.led_ms.saturating_add(CLOCK_LOGGED_EVERY_MS);
        if due.led_ms.is_some_and(|at| at <= stamp.led_ms || !is_kept)
            || due.civil_ms.is_some_and(|at| at <= stamp.civil_ms)
        {
            self.queue_tick();
        }
    }

    /// Drops what nobody waits for any more.
    fn forget_abandoned(&mut self) {
        let (waiting, abandoned): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|it| it.stage.is_waiting() && it.is_wanted());
        self.waiting = waiting;
        abandoned.iter().for_each(|submission| self.uncount(submission));
    }

    fn uncount(&self, submission: &Submission) {
        let commands = submission.commands.len() as u64;
        self.context.counters.commands_queued.fetch_sub(commands, Ordering::Relaxed);
    }

    fn note_in_flight(&self) {
        let in_flight = self.pending.len() as u64;
        self.context.counters.entries_in_flight.store(in_flight, Ordering::Relaxed);
    }

    /// The node stops: what waits was not proposed, what is in flight is unknown.
    fn stop(&mut self) {
        self.submissions.close();
        while let Ok(submission) = self.submissions.try_recv() {
            self.waiting.push_back(submission);
        }
        for submission in std::mem::take(&mut self.waiting) {
            if let Some(answer) = submission.answer
                && submission.stage.take()
            {
                let _ = answer.send(Err(NotProposed::Stopping));
            }
        }
        for pending in std::mem::take(&mut self.pending).into_values() {
            self.answer_unknown(pending);
        }
    }
}

impl Share {
    fn send(self, answer: Result<Proposed, NotProposed>) {
        if let Some(waiter) = self.answer {
            // A waiter that is gone has said so itself.
            let _ = waiter.send(answer);
        }
    }
}

/// The group whose log this is.
const GROUP: u16 = 0;
/// Some ten milliseconds of applying: an entry is applied in one go, and meanwhile the ledger
/// answers nobody. Bulk heartbeats of a thousand clients in a few entries of 256 KiB were longer
/// than an election takes.
const MAX_LEASES_PER_ENTRY: usize = 2_048;
/// An idle cluster looks this often whether something is due.
const TICK_INTERVAL: Duration = Duration::from_millis(250);
/// Led milliseconds that a failover may give back to a lease: etcd's leases came back with a full
/// term (its issue 20273) because nothing kept what had passed.
const CLOCK_LOGGED_EVERY_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use lease::command::Renewal;
    use lease::ids::LeaseId;

    use super::*;

    fn bulk(leases: usize) -> Submission {
        let renewal = Renewal {
            lease: LeaseId { group: GROUP, random: [7; 10] },
            sequence: 1,
            still_active: true,
        };
        own_submission(1, Command::Heartbeat { leases: vec![renewal; leases] })
    }

    #[test]
    fn an_entry_renews_no_more_leases_than_are_applied_in_a_moment() {
        let full = Size::of(&bulk(1_000)).with(Size::of(&bulk(1_000)));
        assert_eq!(full, Size { commands: 2, bytes: 0, leases: 2_000 });
        assert!(!full.is_too_much());
        assert!(!full.with(Size::of(&bulk(48))).is_too_much());
        assert!(full.with(Size::of(&bulk(49))).is_too_much());
    }

    #[test]
    fn an_entry_has_no_more_commands_and_bytes_than_it_may() {
        let most = Size { commands: MAX_COMMANDS_PER_ENTRY, bytes: MAX_ENTRY_BYTES, leases: 1 };
        assert!(!most.is_too_much());
        assert!(most.with(Size { commands: 1, ..Size::default() }).is_too_much());
        assert!(most.with(Size { bytes: 1, ..Size::default() }).is_too_much());
    }
}
