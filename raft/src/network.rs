//! openraft's network over `Transport`: the calling side of the peer protocol.
//!
//! Entries go in a stream with several appends under way (`pipeline`), heartbeats beside it as
//! calls. Each answer to an append is also an acknowledgement with the peer's clocks, and goes to
//! `lead`. A peer that cannot be reached, refuses or answers nonsense is `Unreachable`, which makes
//! openraft wait a little before it tries again; a lost answer is not, because asking again at once
//! tells what became of it.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{self, BoxStream, Stream};
use lease::ids::NodeId;
use lease::planted::{self, Bug};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage::log::LogEntry;
use storage::state::{SnapshotChunks, SnapshotHandle};

use crate::clock::Acknowledgement;
use crate::context::{Context, count};
use crate::frames::{
    Answer, Append, AppendResult, Appended, AskVote, SendSnapshot, SnapshotReceived,
    TransferLeader, Transferred, Voted, decode, encode, encode_append,
};
use crate::pipeline;
use crate::state_machine::{RaftSnapshot, SnapshotFile};
use crate::transport::{PeerCall, PeerStream, TransportError};
use crate::types::{
    SnapshotMeta, StoredVote, TypeConfig, Vote, encode_membership, log_id_of, position_of,
    to_log_entry,
};
use crate::workers::Workers;

pub(crate) type Rpc<T> = Result<T, RPCError<TypeConfig>>;
/// The answers to appends in their order, as openraft asks for them.
pub(crate) type Answers<'s> = BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>;
type Appending<'s> = BoxFuture<'s, Rpc<Answers<'s>>>;

/// Makes the connections openraft asks for.
#[derive(Clone)]
pub(crate) struct Network {
    context: Arc<Context>,
}

/// One peer, as openraft sees it.
pub(crate) struct Peer {
    context: Arc<Context>,
    target: NodeId,
}

impl Network {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, _node: &BasicNode) -> Peer {
        Peer { context: Arc::clone(&self.context), target }
    }
}

impl Peer {
    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        call: PeerCall,
        body: Q,
        deadline: Duration,
    ) -> Rpc<A> {
        let request = self.context.request(self.target, body);
        let answer = self.call(call, encode(&request), deadline).await?;
        Ok(self.accept::<A>(&answer)?.body)
    }

    async fn call(&self, call: PeerCall, message: Bytes, deadline: Duration) -> Rpc<Bytes> {
        let answer = self.context.transport.call(self.target, call, message, deadline);
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer.map_err(|error| transport_error(&error)),
            Err(elapsed) => Err(RPCError::Network(NetworkError::new(&elapsed))),
        }
    }

    fn accept<A: DeserializeOwned>(&self, answer: &[u8]) -> Rpc<Accepted<A>> {
        let answer: Answer<A> = decode(answer).map_err(|error| unreachable(&error))?;
        let sender = answer.sender;
        if sender.node != self.target {
            let who = format!("node {} answered for node {}", sender.node, self.target);
            return Err(RPCError::Unreachable(Unreachable::from_string(who)));
        }
        self.context.admit(&sender).map_err(|refused| unreachable(&refused))?;
        let body = answer.body.map_err(|refused| {
            self.context.refused_by(self.target, &refused);
            unreachable(&refused)
        })?;
        self.context.accepted_by(self.target);
        Ok(Accepted { body, boot: sender.boot })
    }

    /// Waits until the peer is seen to run another process than now. What was under way to the one
    /// before gets no answer, and where no connection was reset, nothing says so for long: while a
    /// snapshot is under way, the peer gets no entries, and no majority may do without it.
    async fn restarted(&self) {
        let boot = self.context.admission.newest_boot(self.target);
        let look_every = Duration::from_millis(self.context.timing.heartbeat_ms);
        while boot.is_none() || self.context.admission.newest_boot(self.target) == boot {
            tokio::time::sleep(look_every).await;
        }
    }

    /// How long to wait for the answer to entries, which may meet a slow disk; heartbeats are soon
    /// repeated.
    pub(crate) fn append_deadline(&self) -> Duration {
        Duration::from_millis(2 * self.context.timing.election_max_ms).max(SLOW_DISK)
    }

    pub(crate) fn encode_append(&self, rpc: &AppendEntriesRequest<TypeConfig>) -> Bytes {
        let entries: Vec<LogEntry> = rpc.entries.iter().map(to_log_entry).collect();
        let body = Append {
            vote: StoredVote::from(&rpc.vote),
            previous: rpc.prev_log_id.as_ref().map(position_of),
            committed: rpc.leader_commit.as_ref().map(position_of),
            entries: Vec::new(),
        };
        encode_append(self.context.sender(), self.context.addressee(self.target), body, &entries)
    }

    /// Takes the answer to an append that was sent in this term at this time: it acknowledges the
    /// leader unless it tells of a higher vote.
    pub(crate) fn accept_append(
        &self,
        answer: &[u8],
        term: u64,
        sent_ns: u64,
    ) -> Rpc<AppendResult> {
        let received_ns = self.context.clock.monotonic_ns().max(sent_ns);
        let Accepted { body, boot } = self.accept::<Appended>(answer)?;
        if !matches!(body.result, AppendResult::HigherVote(_)) {
            let ack = Acknowledgement { sent_ns, received_ns, boot, reading: body.reading };
            self.context.lead.acknowledge(term, self.target, ack, body.state_sum);
        }
        Ok(body.result)
    }

    pub(crate) async fn open_appends(&self) -> Rpc<PeerStream> {
        let deadline = self.append_deadline();
        let opened = self.context.transport.open(self.target, PeerCall::Appends, deadline).await;
        opened.map_err(|error| transport_error(&error))
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.context.clock.monotonic_ns()
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        meta: &SnapshotMeta,
        handle: &SnapshotHandle,
        cancel: impl Future<Output = ReplicationClosed>,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let chunks = handle.chunks().map_err(|error| streaming(unreachable(&error)))?;
        let body = SendSnapshot {
            vote: StoredVote::from(&vote),
            last: meta.last_log_id.as_ref().map(position_of),
            membership: encode_membership(&meta.last_membership),
        };
        let (peer, index, rows) = (self.target, body.last.map(|it| it.index), handle.totals().rows);
        let begun = stream::once(async move {
            tracing::info!(peer, index, rows, "a snapshot is on its way to a peer");
        });
        let chunks = read_ahead(chunks, self.context.workers.clone());
        let sending = self.context.transport.send_snapshot(
            self.target,
            encode(&self.context.request(self.target, body)),
            begun.filter_map(|()| future::ready(None)).chain(chunks).boxed(),
            SNAPSHOT_DEADLINE,
        );
        let answer = tokio::select! {
            answer = sending => answer.map_err(|error| streaming(transport_error(&error)))?,
            closed = cancel => return Err(StreamingError::Closed(closed)),
            () = self.restarted() => {
                let what = "the peer's process is another than the one it was begun for";
                return Err(streaming(RPCError::Network(NetworkError::from_string(what))));
            }
        };
        let received = self.accept::<SnapshotReceived>(&answer).map_err(streaming)?;
        Ok(SnapshotResponse::new(received.body.vote.into()))
    }
}

struct Accepted<A> {
    body: A,
    boot: u64,
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let deadline = match rpc.entries.is_empty() {
            true => option.hard_ttl(),
            false => self.append_deadline(),
        };
        let term = StoredVote::from(&rpc.vote).term();
        let message = self.encode_append(&rpc);
        let sent_ns = self.context.clock.monotonic_ns();
        let answer = match self.call(PeerCall::Append, message, deadline).await {
            Err(RPCError::Unreachable(_)) if planted::is(Bug::CommitOnMinority) => {
                return Ok(AppendEntriesResponse::Success);
            }
            answer => answer?,
        };
        Ok(match self.accept_append(&answer, term, sent_ns)? {
            AppendResult::Success => AppendEntriesResponse::Success,
            AppendResult::Partial(upto) => {
                AppendEntriesResponse::PartialSuccess(upto.map(log_id_of))
            }
            AppendResult::Conflict => AppendEntriesResponse::Conflict,
            AppendResult::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote.into()),
        })
    }

    fn stream_append<'s, S>(&'s mut self, input: S, option: RPCOption) -> Appending<'s>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if planted::is(Bug::CommitOnMinority) {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(future::ready(Ok(pipeline::answers(self, input))))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let voted = self.ask(PeerCall::Vote, ask_vote(&rpc), option.hard_ttl()).await?;
        Ok(vote_response(voted))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let voted = self.ask(PeerCall::PreVote, ask_vote(&rpc), option.hard_ttl()).await?;
        Ok(vote_response(voted))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotFile::Held(handle) = snapshot.snapshot else {
            let what = "only a checkpoint of this node can be sent";
            return Err(StreamingError::Unreachable(Unreachable::from_string(what)));
        };
        let context = Arc::clone(&self.context);
        let (peer, began_ns) = (self.target, self.now_ns());
        let index = snapshot.meta.last_log_id.as_ref().map_or(0, |last| last.index);
        let holding = context.held.hold(peer, index);
        let sent_vote = vote;
        let sent = self.send_snapshot(vote, &snapshot.meta, &handle, cancel).await;
        let now_ns = self.now_ns();
        let took_ms = now_ns.saturating_sub(began_ns) / 1_000_000;
        match &sent {
            // One that has given a higher vote has not taken it.
            Ok(answer) if answer.vote == sent_vote => {
                count(&context.counters.snapshots_sent, 1);
                let last = context.log.state().last.map_or(0, |last| last.index);
                holding.installed(last, now_ns);
                tracing::info!(peer, index, took_ms, "a peer has installed a snapshot");
            }
            // A peer that is not there is asked again and again.
            Ok(_) | Err(StreamingError::Unreachable(_) | StreamingError::Closed(_)) => {}
            Err(error) => tracing::warn!(peer, index, took_ms, %error, "a snapshot was not sent"),
        }
        sent
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let body = TransferLeader {
            vote: StoredVote::from(rpc.from_leader()),
            to: *rpc.to_node_id(),
            last: rpc.last_log_id().map(position_of),
        };
        match self.ask(PeerCall::TransferLeader, body, option.hard_ttl()).await? {
            Transferred::Taken => Ok(Ok(())),
            // openraft only logs its own refusals, so the reason is all that ours needs.
            Transferred::Declined(why) => Err(unreachable(&why)),
        }
    }
}

/// The chunks of a snapshot as a stream, with a pause before each: nobody waits for them, and
/// everybody for the processor and the disk that they are read with.
fn read_ahead(chunks: SnapshotChunks, workers: Workers) -> BoxStream<'static, io::Result<Bytes>> {
    stream::unfold((Some(chunks), workers), |(chunks, workers)| async move {
        let mut chunks = chunks?;
        tokio::time::sleep(BETWEEN_CHUNKS).await;
        let behind = workers.clone();
        let read = move || {
            let chunk = chunks.next_chunk();
            (chunk, chunks)
        };
        let read = workers.run(move || behind.run_behind(read));
        match read.await {
            Ok((Ok(Some(chunk)), chunks)) => {
                Some((Ok(Bytes::from(chunk)), (Some(chunks), workers)))
            }
            Ok((Ok(None), _)) => None,
            Ok((Err(error), _)) => Some((Err(io::Error::other(error)), (None, workers))),
            Err(panicked) => Some((Err(io::Error::other(panicked)), (None, workers))),
        }
    })
    .boxed()
}

fn ask_vote(rpc: &VoteRequest<TypeConfig>) -> AskVote {
    AskVote {
        vote: StoredVote::from(&rpc.vote),
        last: rpc.last_log_id.as_ref().map(position_of),
        leadership_transfer: rpc.leadership_transfer,
    }
}

fn vote_response(voted: Voted) -> VoteResponse<TypeConfig> {
    VoteResponse::new(Vote::from(voted.vote), voted.last.map(log_id_of), voted.granted)
}

pub(crate) fn transport_error(error: &TransportError) -> RPCError<TypeConfig> {
    match error {
        TransportError::NotSent(_) => unreachable(error),
        TransportError::Unknown(_) => RPCError::Network(NetworkError::from_string(error)),
    }
}

fn unreachable(error: &impl Display) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(error))
}

fn streaming(error: RPCError<TypeConfig>) -> StreamingError<TypeConfig> {
    error.into()
}

/// An append waits at least this long for a follower's disk.
const SLOW_DISK: Duration = Duration::from_secs(1);
/// Between two chunks of a snapshot of a quarter of a mebibyte and more each.
const BETWEEN_CHUNKS: Duration = Duration::from_millis(3);
/// A whole snapshot: 1,000,000 leases are some 300 MB.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(600);
