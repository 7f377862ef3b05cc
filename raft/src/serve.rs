//! The answering side of the peer protocol.
//!
//! A message is judged before it is acted on: its sender must be the node that the transport
//! proved, speak from the directory it joined with, and mean this node. A refusal is an answer, so
//! that the peer learns why.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, BoxStream, StreamExt};
use lease::ids::NodeId;
use openraft::errors::Fatal as RaftFatal;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use storage::state::Incoming;

use crate::appends;
use crate::change::{ChangeError, Changer};
use crate::context::{Context, Raft};
use crate::frames::{
    Addressee, Answer, AskChange, AskReadIndex, AskVote, Changed, Forward, Forwarded, Forwarding,
    ReadIndex, Refused, Request, SendSnapshot, Sender, SnapshotReceived, TransferLeader,
    Transferred, Voted, decode, encode,
};
use crate::proposer::{NotProposed, Proposed, Proposer, encoded_bytes};
use crate::reads::Reads;
use crate::state_machine::{RaftSnapshot, SnapshotFile};
use crate::transport::{HandleError, PeerCall};
use crate::types::{
    SnapshotMeta, StoredVote, TypeConfig, Vote, decode_membership, log_id_of, position_of,
};

/// Answers peers.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) context: Arc<Context>,
    pub(crate) raft: Raft,
    pub(crate) proposer: Proposer,
    pub(crate) reads: Reads,
    pub(crate) changer: Changer,
}

impl Server {
    /// Answers one call.
    pub(crate) async fn handle(
        &self,
        from: NodeId,
        call: PeerCall,
        message: Bytes,
    ) -> Result<Bytes, HandleError> {
        if self.context.is_stopping() {
            return Err(HandleError::ShuttingDown);
        }
        match call {
            PeerCall::Append => {
                appends::answer_one(&self.context, &self.raft, from, &message).await
            }
            PeerCall::Vote => {
                self.answer(from, &message, async |ask: AskVote| {
                    self.voted(self.raft.vote(vote_request(ask)).await)
                })
                .await
            }
            PeerCall::PreVote => {
                self.answer(from, &message, async |ask: AskVote| {
                    self.voted(self.raft.pre_vote(vote_request(ask)).await)
                })
                .await
            }
            PeerCall::TransferLeader => {
                self.answer(from, &message, async |ask| self.transfer_leader(ask).await).await
            }
            PeerCall::Forward => {
                self.answer(from, &message, async |ask| Ok(self.forward(ask).await)).await
            }
            PeerCall::ReadIndex => {
                self.answer(from, &message, async |ask| Ok(self.read_index(ask).await)).await
            }
            PeerCall::Change => {
                self.answer(from, &message, async |ask| self.change(ask).await).await
            }
            PeerCall::Snapshot | PeerCall::Appends => Err(HandleError::WrongCall(call)),
        }
    }

    /// Answers a stream of requests.
    pub(crate) fn handle_stream(
        &self,
        from: NodeId,
        call: PeerCall,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxStream<'static, Result<Bytes, HandleError>> {
        match call {
            PeerCall::Appends => appends::answer_all(&self.context, &self.raft, from, requests),
            _ => stream::once(future::ready(Err(HandleError::WrongCall(call)))).boxed(),
        }
    }

    /// Receives a snapshot and has openraft install it, as long as the disk has room: a disk that
    /// fills up meanwhile ends this, and not the node.
    pub(crate) async fn handle_snapshot(
        &self,
        from: NodeId,
        header: Bytes,
        chunks: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Bytes, HandleError> {
        if self.context.is_stopping() {
            return Err(HandleError::ShuttingDown);
        }
        if !self.context.has_room() {
            return Err(HandleError::NoRoom);
        }
        let request: Request<SendSnapshot> = decode(&header).map_err(HandleError::Malformed)?;
        if let Err(refused) = admit(&self.context, from, &request.sender, request.to)? {
            return Ok(encode_answer::<SnapshotReceived>(&self.context, Err(refused)));
        }
        let body = request.body;
        let membership = decode_membership(&body.membership).map_err(HandleError::Malformed)?;
        let index = body.last.map_or(0, |last| last.index);
        tracing::info!(peer = from, index, "a snapshot is being received");
        let incoming = self.receive(chunks).await?.whole();
        let bytes = incoming.len();
        tracing::info!(index, bytes, "a snapshot is being installed");
        let meta =
            SnapshotMeta { last_log_id: body.last.map(log_id_of), last_membership: membership };
        let snapshot = RaftSnapshot { meta, snapshot: SnapshotFile::Received(incoming) };
        let installed = self.raft.install_full_snapshot(body.vote.into(), snapshot).await;
        let is_installed =
            installed.as_ref().is_ok_and(|it| StoredVote::from(&it.vote) == body.vote);
        tracing::info!(index, is_installed, "a snapshot is done with");
        let answer = installed
            .map(|answer| SnapshotReceived { vote: StoredVote::from(&answer.vote) })
            .map_err(|error| Refused::Failed(error.to_string()));
        Ok(encode_answer(&self.context, answer))
    }

    async fn receive(
        &self,
        mut chunks: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Receiving, HandleError> {
        let store = self.context.replica.store.clone();
        let mut receiving = self
            .blocking(move || {
                store.receive().map(|it| Receiving(Some(it))).map_err(io::Error::other)
            })
            .await
            .map_err(HandleError::Snapshot)?;
        while let Some(chunk) = chunks.next().await {
            if !self.context.has_room() {
                return Err(HandleError::NoRoom);
            }
            let chunk = chunk.map_err(HandleError::Snapshot)?;
            receiving = self
                .blocking(move || {
                    receiving.write(&chunk)?;
                    Ok(receiving)
                })
                .await
                .map_err(HandleError::Snapshot)?;
        }
        let reserve_bytes = self.context.reserve_bytes.load(Ordering::Relaxed);
        let is_fitting = self.context.replica.store.has_room_for(receiving.len(), reserve_bytes);
        if self.context.has_room() && is_fitting { Ok(receiving) } else { Err(HandleError::NoRoom) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.context.workers.run(work).await.map_err(io::Error::other)?
    }

    fn voted<E: ToString>(
        &self,
        voted: Result<VoteResponse<TypeConfig>, E>,
    ) -> Result<Voted, Refused> {
        let voted = voted.map_err(|error| Refused::Failed(error.to_string()))?;
        Ok(Voted {
            vote: StoredVote::from(&voted.vote),
            granted: voted.vote_granted,
            last: voted.last_log_id.as_ref().map(position_of),
        })
    }

    async fn transfer_leader(&self, ask: TransferLeader) -> Result<Transferred, Refused> {
        // openraft would ask for votes even where elections are off.
        if ask.to == self.context.node && !self.context.may_lead.load(Ordering::Acquire) {
            return Ok(Transferred::Declined(format!("node {} must not lead", ask.to)));
        }
        let vote = Vote::from(ask.vote);
        let rpc = TransferLeaderRequest::new(vote, ask.to, ask.last.map(log_id_of));
        let taken = self.raft.handle_transfer_leader(rpc).await;
        let taken = taken.map_err(|error: RaftFatal<_>| Refused::Failed(error.to_string()))?;
        Ok(match taken {
            Ok(()) => Transferred::Taken,
            Err(declined) => Transferred::Declined(declined.to_string()),
        })
    }

    /// Proposes what gateways of another node submitted there. The answer goes when all have one,
    /// or when the first of them gives up: the others, as far as they were not proposed, then try
    /// again within their own time.
    async fn forward(&self, ask: Forward) -> Vec<Forwarded> {
        let leadership = *self.context.leadership.borrow();
        if leadership.leader != Some(self.context.node) {
            return vec![Forwarded::NotLeader(leadership.leader); ask.submissions.len()];
        }
        let first_ms = ask.submissions.iter().map(|one| one.deadline_ms).min().unwrap_or(0);
        let mut submissions = Vec::with_capacity(ask.submissions.len());
        let asked = ask.submissions.len();
        for Forwarding { commands, .. } in ask.submissions {
            // No node sends what does not fit into an entry.
            let Ok(bytes) = encoded_bytes(&commands) else {
                return vec![Forwarded::NotProposed; asked];
            };
            submissions.push((commands, bytes));
        }
        let answers = self.proposer.propose_all(submissions, Duration::from_millis(first_ms)).await;
        answers.into_iter().map(forwarded).collect()
    }

    async fn change(&self, ask: AskChange) -> Result<Changed, Refused> {
        let wait = Duration::from_millis(ask.deadline_ms);
        Ok(match self.changer.perform(&ask.change, wait).await {
            Ok(leader) => Changed::Done { leader },
            Err(ChangeError::NotLeader(to)) => Changed::NotLeader(to),
            Err(ChangeError::InProgress) => Changed::InProgress,
            Err(ChangeError::NotPossible(why)) => Changed::NotPossible(why),
            Err(ChangeError::Timeout) => Changed::Timeout,
            Err(ChangeError::Failed(reason)) => return Err(Refused::Failed(reason)),
        })
    }

    async fn read_index(&self, ask: AskReadIndex) -> ReadIndex {
        let wait = Duration::from_millis(ask.deadline_ms);
        self.reads.index(true, wait).await.unwrap_or(ReadIndex::NoQuorum)
    }

    async fn answer<Q: DeserializeOwned, A: Serialize>(
        &self,
        from: NodeId,
        message: &[u8],
        act: impl AsyncFnOnce(Q) -> Result<A, Refused>,
    ) -> Result<Bytes, HandleError> {
        let request: Request<Q> = decode(message).map_err(HandleError::Malformed)?;
        let body = match admit(&self.context, from, &request.sender, request.to)? {
            Ok(()) => act(request.body).await,
            Err(refused) => Err(refused),
        };
        Ok(encode_answer(&self.context, body))
    }
}

/// Judges a message's sender and address.
pub(crate) fn admit(
    context: &Context,
    from: NodeId,
    sender: &Sender,
    to: Addressee,
) -> Result<Result<(), Refused>, HandleError> {
    if sender.node != from {
        return Err(HandleError::WrongSender { claimed: sender.node, proven: from });
    }
    if context.fatal.is_corrupt() {
        return Err(HandleError::ShuttingDown);
    }
    Ok(context.is_meant(from, to).and_then(|()| context.admit(sender)))
}

/// An answer as this node gives it.
pub(crate) fn encode_answer<A: Serialize>(context: &Context, body: Result<A, Refused>) -> Bytes {
    encode(&Answer { sender: context.sender(), body })
}

/// A snapshot being received, whose file goes with it unless it becomes whole.
struct Receiving(Option<Incoming>);

impl Receiving {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Some(incoming) => incoming.write(chunk),
            None => Ok(()),
        }
    }

    /// Bytes so far.
    fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, Incoming::len)
    }

    #[expect(clippy::expect_used, reason = "only this takes it, and takes `self` with it")]
    fn whole(mut self) -> Incoming {
        self.0.take().expect("it was not taken before")
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(incoming) = self.0.take()
            && let Err(error) = incoming.discard()
        {
            tracing::warn!(%error, "an unfinished snapshot was not removed");
        }
    }
}

fn forwarded(answer: Result<Proposed, NotProposed>) -> Forwarded {
    match answer {
        Ok(Proposed::Applied { index, outcomes, clock }) => {
            Forwarded::Applied { index, outcomes, clock }
        }
        Ok(Proposed::Unknown) => Forwarded::Unknown,
        Err(NotProposed::NotLeader(leader)) => Forwarded::NotLeader(leader),
        Err(NotProposed::Overloaded(after)) => Forwarded::Overloaded {
            retry_after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        },
        Err(NotProposed::Deadline | NotProposed::Stopping) => Forwarded::NotProposed,
    }
}

fn vote_request(ask: AskVote) -> VoteRequest<TypeConfig> {
    let mut request = VoteRequest::new(ask.vote.into(), ask.last.map(log_id_of));
    request.leadership_transfer = ask.leadership_transfer;
    request
}
