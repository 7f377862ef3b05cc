//! A stream of appends to one peer, with several under way.
//!
//! An append waits for no answer to those before it, so entries meet a distant peer one way after
//! they are written and not a round trip later. What openraft has for the peer is asked for only
//! when it may go, and comes as one append:
//!
//! ```text
//! no entries under way            at once; a commit index alone is nothing to wait for
//! entries under way               when they are answered, or GATHER after they were sent
//! MAX_STREAMED_REQUESTS under way,
//! or MAX_STREAMED_BYTES           when the first is answered
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
    under_way: UnderWay,
    /// Whether what follows the entries under way still gathers, until `gathered`.
    gathers: bool,
    gathered: Pin<Box<Sleep>>,
    /// Set anew when it goes off too early for the oldest that is under way.
    overdue: Pin<Box<Sleep>>,
}

/// Appends without their answers, oldest first.
#[derive(Default)]
struct UnderWay {
    sent: VecDeque<Sent>,
    /// Bytes of all.
    bytes: usize,
    /// How many carry entries.
    with_entries: usize,
}

/// An append without its answer.
struct Sent {
    previous: Option<LogId>,
    last: Option<LogId>,
    term: u64,
    sent_ns: u64,
    bytes: usize,
    has_entries: bool,
}

impl UnderWay {
    /// Whether another may follow.
    fn has_room(&self) -> bool {
        self.sent.len() < MAX_STREAMED_REQUESTS && self.bytes < MAX_STREAMED_BYTES
    }

    fn push(&mut self, sent: Sent) {
        self.bytes += sent.bytes;
        self.with_entries += usize::from(sent.has_entries);
        self.sent.push_back(sent);
    }

    fn pop(&mut self) -> Option<Sent> {
        let sent = self.sent.pop_front()?;
        self.bytes -= sent.bytes;
        self.with_entries -= usize::from(sent.has_entries);
        Some(sent)
    }
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
            under_way: UnderWay::default(),
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
            let waits = !self.under_way.sent.is_empty();
            if self.requests.is_none() && !waits {
                return None;
            }
            let has_room = self.requests.is_some() && self.under_way.has_room();
            let gathers = self.gathers && self.under_way.with_entries > 0;
            tokio::select! {
                biased;
                answer = self.answers.next(), if waits => {
                    return Some(self.accept(answer));
                }
                rpc = self.input.next(), if has_room && !gathers => match rpc {
                    Some(rpc) => self.send(&rpc),
                    None => self.requests = None,
                },
                () = self.gathered.as_mut(), if has_room && gathers => self.gathers = false,
                () = self.overdue.as_mut(), if waits => {
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
            self.gathers = true;
            self.gathered.set(tokio::time::sleep(GATHER));
        }
        let message = self.peer.encode_append(rpc);
        self.under_way.push(Sent {
            previous: rpc.prev_log_id,
            last: rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id),
            term: StoredVote::from(&rpc.vote).term(),
            sent_ns: self.peer.now_ns(),
            bytes: message.len(),
            has_entries,
        });
        if let Some(requests) = &self.requests {
            // There is room for all that may be under way. Of a stream that has ended, the answers
            // say why.
            let _ = requests.try_send(message);
        }
    }

    fn accept(
        &mut self,
        answer: Option<Result<Bytes, TransportError>>,
    ) -> Rpc<StreamAppendResult<TypeConfig>> {
        let answer = answer
            .ok_or_else(|| failed("the peer has ended the stream"))?
            .map_err(|error| transport_error(&error))?;
        let sent = self.under_way.pop().ok_or_else(|| failed("an answer to nothing"))?;
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
        let oldest = self.under_way.sent.front()?;
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

/// Bytes beyond which no append follows: a peer that has fallen behind is sent its log as fast as
/// it stores it, and neither node keeps more of it in memory than this and one append.
const MAX_STREAMED_BYTES: usize = 4 << 20;
/// How long entries wait for others while some are under way.
const GATHER: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::MAX_CALL_BYTES;

    proptest! {
        #[test]
        fn what_is_under_way_is_bounded_in_number_and_bytes(
            steps in prop::collection::vec((0..=MAX_CALL_BYTES, any::<bool>(), 0_u8..4), 1..400),
        ) {
            let mut under_way = UnderWay::default();
            let mut model = VecDeque::new();
            for (bytes, has_entries, step) in steps {
                if step == 0 {
                    let popped = under_way.pop().map(|sent| (sent.bytes, sent.has_entries));
                    prop_assert_eq!(popped, model.pop_front());
                } else if under_way.has_room() {
                    let sent = Sent {
                        previous: None, last: None, term: 1, sent_ns: 0, bytes, has_entries,
                    };
                    under_way.push(sent);
                    model.push_back((bytes, has_entries));
                } else {
                    let all = model.iter().map(|sent| sent.0).sum::<usize>();
                    prop_assert!(all >= MAX_STREAMED_BYTES || model.len() == MAX_STREAMED_REQUESTS);
                }
                let all = model.iter().map(|sent| sent.0).sum::<usize>();
                prop_assert!(all < MAX_STREAMED_BYTES + MAX_CALL_BYTES);
                prop_assert!(model.len() <= MAX_STREAMED_REQUESTS);
                prop_assert_eq!(under_way.with_entries, model.iter().filter(|it| it.1).count());
            }
        }
    }
}
