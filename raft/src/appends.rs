//! The answering side of appends: one by itself, or a stream of them.
//!
//! Every append is judged like any other message, and what is wrong with one in a stream is said
//! when those before it are answered. A stream lasts as long as the peers like; it does not keep a
//! node that has stopped.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, BoxStream, StreamExt};
use lease::format::FormatError;
use lease::ids::NodeId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
};
use parking_lot::Mutex;

use crate::context::{Context, Raft};
use crate::frames::{Append, AppendResult, Appended, Refused, decode_append};
use crate::serve::{admit, encode_answer};
use crate::transport::HandleError;
use crate::types::{StoredVote, TypeConfig, from_log_entry, log_id_of, position_of};

type Answered = Result<Bytes, HandleError>;

/// Answers an append by itself.
pub(crate) async fn answer_one(
    context: &Context,
    raft: &Raft,
    from: NodeId,
    message: &Bytes,
) -> Answered {
    let rpc = match judge(context, from, message) {
        Ok(rpc) => rpc,
        Err(answered) => return answered,
    };
    let appended = raft.append_entries(rpc).await.map(|appended| match appended {
        AppendEntriesResponse::Success => AppendResult::Success,
        AppendEntriesResponse::PartialSuccess(upto) => {
            AppendResult::Partial(upto.as_ref().map(position_of))
        }
        AppendEntriesResponse::Conflict => AppendResult::Conflict,
        AppendEntriesResponse::HigherVote(vote) => {
            AppendResult::HigherVote(StoredVote::from(&vote))
        }
    });
    Ok(answer(context, appended))
}

/// Answers a stream of appends. They go to openraft in their order, as many at once as it takes.
pub(crate) fn answer_all(
    context: &Arc<Context>,
    raft: &Raft,
    from: NodeId,
    messages: BoxStream<'static, Bytes>,
) -> BoxStream<'static, Answered> {
    let last_word = Arc::new(Mutex::new(None));
    let (judging, for_last) = (Arc::downgrade(context), Arc::clone(&last_word));
    let rpcs = messages.scan((), move |(), message| {
        let judged = match running(&judging) {
            Some(context) => judge(&context, from, &message),
            None => Err(Err(HandleError::ShuttingDown)),
        };
        future::ready(judged.map_err(|word| *for_last.lock() = Some(word)).ok())
    });
    let answering = Arc::downgrade(context);
    let answers = raft.stream_append(rpcs).map(move |appended| {
        let context = running(&answering).ok_or(HandleError::ShuttingDown)?;
        Ok(answer(&context, appended.map(|appended| result_of(&appended))))
    });
    let last = stream::once(async move { last_word.lock().take() });
    answers.chain(last.filter_map(future::ready)).boxed()
}

fn running(context: &Weak<Context>) -> Option<Arc<Context>> {
    context.upgrade().filter(|context| !context.is_stopping())
}

/// An append as openraft takes it, or what is said of one that does not get so far.
fn judge(
    context: &Context,
    from: NodeId,
    message: &Bytes,
) -> Result<AppendEntriesRequest<TypeConfig>, Answered> {
    let malformed = |error| Err(HandleError::Malformed(error));
    let (request, entries) = decode_append(message).map_err(malformed)?;
    if let Err(refused) = admit(context, from, &request.sender, request.to).map_err(Err)? {
        return Err(Ok(encode_answer::<Appended>(context, Err(refused))));
    }
    if !entries.is_empty() && !context.has_room() {
        return Err(Err(HandleError::NoRoom));
    }
    let Append { vote, previous, committed, .. } = request.body;
    let entries = entries
        .into_iter()
        .map(from_log_entry)
        .collect::<Result<Vec<_>, FormatError>>()
        .map_err(malformed)?;
    Ok(AppendEntriesRequest {
        vote: vote.into(),
        prev_log_id: previous.map(log_id_of),
        entries,
        leader_commit: committed.map(log_id_of),
    })
}

fn result_of(appended: &StreamAppendResult<TypeConfig>) -> AppendResult {
    match appended {
        Ok(upto) => AppendResult::Partial(upto.as_ref().map(position_of)),
        Err(StreamAppendError::Conflict(_)) => AppendResult::Conflict,
        Err(StreamAppendError::HigherVote(vote)) => {
            AppendResult::HigherVote(StoredVote::from(vote))
        }
    }
}

fn answer<E: ToString>(context: &Context, result: Result<AppendResult, E>) -> Bytes {
    if !matches!(result, Err(_) | Ok(AppendResult::HigherVote(_))) {
        context.heard_leader();
    }
    let appended = result.map_err(|error| Refused::Failed(error.to_string())).map(|result| {
        let state_sum = context.replica.newest_sum();
        Appended { result, reading: context.reading(), state_sum }
    });
    encode_answer(context, appended)
}
