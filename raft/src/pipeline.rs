//! A stream of appends to one peer, with several under way.
//!
//! An append waits for no answer to those before it, so entries meet a distant peer one way after
//! they are written and not a round trip later. What openraft has for the peer is asked for only
//! when it may go, and comes as one append:
//!
//! ```text
//! no entries under way            at once; a commit index alone is nothing to wait for
//! entries under way               when they are answered, or GATHER after they were sent
//! MAX_STREAMED_REQUESTS under way   when the first is answered
//! ```
//!
//! On a fast network the answer comes first: the entries of a busy leader go in few large appends,
//! and the commit index with them. On a slow one no entry waits longer than GATHER.
//!
//! The stream is one ordered channel ([`crate::Transport::open`]); answers come in its order. The
//! first that is not a success ends it, and openraft begins another from what it knows then.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream};
use futures_util::{StreamExt, TryStreamExt};
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::frames::AppendResult;
use crate::network::{Answers, Peer, Rpc, transport_error};
use crate::transport::{MAX_STREAMED_REQUESTS, PeerStream, TransportError};
use crate::types::{LogId, StoredVote, TypeConfig, log_id_of};

/// Sends the appends of `input` to a peer; one answer for each, in order, up to the first that is
/// not a success.
///
/// Nothing is opened before the first append: openraft holds that back for as long as a peer that
/// has failed is to be left alone.
pub(crate) fn answers<'a, S>(peer: &'a Peer, mut input: S) -> Answers<'a>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'a,
{
    let opened = async move {
        let Some(first) = input.next().await else { return Rpc::Ok(stream::empty().boxed()) };
        let mut pipeline = Pipeline::new(peer, input, peer.open_appends().await?);
        pipeline.send(&first);
        Ok(pipeline.into_answers())
    };
    stream::once(opened).try_flatten().boxed()
}

/// Appends on their way to a peer.
struct Pipeline<'a, S> {
    peer: &'a Peer,
    input: S,
    /// `None` once the input has ended.
    requests: Option<mpsc::Sender<Bytes>>,
    answers: BoxStream<'static, Result<Bytes, TransportError>>,
    under_way: VecDeque<Sent>,
    /// How many of those carry entries.
    with_entries: usize,
    /// Whether what follows the entries under way still gathers, until `gathered`.
    gathers: bool,
    gathered: Pin<Box<Sleep>>,
    /// Set anew when it goes off too early for the oldest that is under way.
    overdue: Pin<Box<Sleep>>,
}

/// An append without its answer.
struct Sent {
    previous: Option<LogId>,
    last: Option<LogId>,
    term: u64,
    sent_ns: u64,
    has_entries: bool,
}

impl<'a, S> Pipeline<'a, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'a,
{
    fn new(peer: &'a Peer, input: S, stream: PeerStream) -> Self {
        let PeerStream { requests, answers } = stream;
        Self {
            peer,
            input,
            requests: Some(requests),
            answers,
            under_way: VecDeque::new(),
            with_entries: 0,
            gathers: false,
            gathered: Box::pin(tokio::time::sleep(GATHER)),
            overdue: Box::pin(tokio::time::sleep(peer.append_deadline())),
        }
    }

    fn into_answers(self) -> Answers<'a> {
        let next = async |pipeline: Option<Self>| {
            let mut pipeline = pipeline?;
            let answer = pipeline.next().await?;
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(pipeline)))
        };
        stream::unfold(Some(self), next).boxed()
    }

    async fn next(&mut self) -> Option<Rpc<StreamAppendResult<TypeConfig>>> {
        loop {
            if self.requests.is_none() && self.under_way.is_empty() {
                return None;
            }
            let has_room = self.requests.is_some() && self.under_way.len() < MAX_STREAMED_REQUESTS;
            let gathers = self.gathers && self.with_entries > 0;
            tokio::select! {
                biased;
                answer = self.answers.next(), if !self.under_way.is_empty() => {
                    return Some(self.accept(answer));
                }
                rpc = self.input.next(), if has_room && !gathers => match rpc {
                    Some(rpc) => self.send(&rpc),
                    None => self.requests = None,
                },
                () = self.gathered.as_mut(), if has_room && gathers => self.gathers = false,
                () = self.overdue.as_mut(), if !self.under_way.is_empty() => {
                    if let Some(late) = self.look_for_late() {
                        return Some(Err(late));
                    }
                }
            }
        }
    }

    fn send(&mut self, rpc: &AppendEntriesRequest<TypeConfig>) {
        let has_entries = !rpc.entries.is_empty();
        if has_entries {
            self.with_entries += 1;
            self.gathers = true;
            self.gathered.set(tokio::time::sleep(GATHER));
        }
        self.under_way.push_back(Sent {
            previous: rpc.prev_log_id,
            last: rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id),
            term: StoredVote::from(&rpc.vote).term(),
            sent_ns: self.peer.now_ns(),
            has_entries,
        });
        if let Some(requests) = &self.requests {
            // There is room for all that may be under way. Of a stream that has ended, the answers
            // say why.
            let _ = requests.try_send(self.peer.encode_append(rpc));
        }
    }

    fn accept(
        &mut self,
        answer: Option<Result<Bytes, TransportError>>,
    ) -> Rpc<StreamAppendResult<TypeConfig>> {
        let answer = answer
            .ok_or_else(|| failed("the peer has ended the stream"))?
            .map_err(|error| transport_error(&error))?;
        let sent = self.under_way.pop_front().ok_or_else(|| failed("an answer to nothing"))?;
        self.with_entries -= usize::from(sent.has_entries);
        Ok(match self.peer.accept_append(&answer, sent.term, sent.sent_ns)? {
            AppendResult::Success => Ok(sent.last),
            AppendResult::Partial(upto) => Ok(upto.map(log_id_of)),
            AppendResult::Conflict => match sent.previous {
                Some(previous) => Err(StreamAppendError::Conflict(previous)),
                None => return Err(failed("the peer lacks what is before the first entry")),
            },
            AppendResult::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
        })
    }

    /// Whether the oldest append under way has waited too long.
    fn look_for_late(&mut self) -> Option<RPCError<TypeConfig>> {
        let oldest = self.under_way.front()?;
        let age = Duration::from_nanos(self.peer.now_ns().saturating_sub(oldest.sent_ns));
        let left = self.peer.append_deadline().saturating_sub(age);
        if left.is_zero() {
            return Some(failed("no answer within the deadline"));
        }
        self.overdue.set(tokio::time::sleep(left));
        None
    }
}

fn failed(what: &str) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(what))
}

/// How long entries wait for others while some are under way.
const GATHER: Duration = Duration::from_millis(2);
