//! Messages one after the other in the body of a request or a response.
//!
//! ```text
//! message   length (u32, little endian) ‖ bytes
//! answer    a message: 0 (u8) ‖ what `raft` answered
//!                      1 (u8) ‖ why there is none, UTF-8; the last one
//! ```

use std::collections::VecDeque;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use http_body_util::BodyStream;
use hyper::body::Body;
use raft::MAX_CALL_BYTES;

/// Chunks of a body from messages. Those that are there at once go together, and a long one is not
/// copied.
pub(super) fn join(messages: BoxStream<'static, Bytes>) -> impl Stream<Item = Bytes> + Send {
    messages.ready_chunks(READY_MESSAGES).flat_map(|messages| {
        let mut chunks = Vec::with_capacity(1);
        let mut chunk = BytesMut::new();
        for message in messages {
            // No message is longer than MAX_CALL_BYTES.
            chunk.put_u32_le(message.len() as u32);
            if message.len() > COPIED_BYTES {
                chunks.push(chunk.split().freeze());
                chunks.push(message);
            } else {
                chunk.put_slice(&message);
            }
        }
        if !chunk.is_empty() {
            chunks.push(chunk.freeze());
        }
        stream::iter(chunks)
    })
}

/// Messages from the chunks of a body; an error is the last.
pub(super) fn split<B>(body: B) -> impl Stream<Item = io::Result<Bytes>> + Send
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let splitter = Some((BodyStream::new(body), Splitter::default()));
    stream::unfold(splitter, async |splitter| {
        let (mut body, mut splitter) = splitter?;
        loop {
            match splitter.next() {
                Ok(Some(message)) => return Some((Ok(message), Some((body, splitter)))),
                Ok(None) => {}
                Err(error) => return Some((Err(error), None)),
            }
            match body.next().await {
                Some(Ok(frame)) => splitter.push(frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Some((Err(io::Error::other(error)), None)),
                None if splitter.is_empty() => return None,
                None => return Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
            }
        }
    })
}

/// An answer, or why there is none, as a message.
pub(super) fn answer(answer: Result<Bytes, String>) -> Bytes {
    let (kind, body) = match &answer {
        Ok(answer) => (ANSWERED, answer.as_ref()),
        Err(reason) => (REFUSED, reason.as_bytes()),
    };
    let mut message = BytesMut::with_capacity(1 + body.len());
    message.put_u8(kind);
    message.put_slice(body);
    message.freeze()
}

/// What a message says that [`answer`] made.
pub(super) fn judged(mut message: Bytes) -> Result<Bytes, String> {
    if message.is_empty() {
        return Err("an answer without a kind".to_owned());
    }
    match message.split_to(1)[0] {
        ANSWERED => Ok(message),
        _ => Err(String::from_utf8_lossy(&message).escape_default().to_string()),
    }
}

/// Bytes that are no whole message yet.
#[derive(Default)]
struct Splitter {
    chunks: VecDeque<Bytes>,
    /// Bytes in all chunks.
    len: usize,
}

impl Splitter {
    fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.len < LENGTH_BYTES {
            return Ok(None);
        }
        let mut length = [0; LENGTH_BYTES];
        let bytes = self.chunks.iter().flatten();
        for (to, from) in length.iter_mut().zip(bytes) {
            *to = *from;
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_CALL_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        if self.len < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.take(LENGTH_BYTES);
        Ok(Some(self.take(length)))
    }

    /// The next bytes, which are there; copied only where they came in several chunks.
    fn take(&mut self, wanted: usize) -> Bytes {
        self.len -= wanted;
        let mut taken = BytesMut::new();
        while let Some(mut chunk) = self.chunks.pop_front() {
            let rest = wanted - taken.len();
            let part = chunk.split_to(rest.min(chunk.len()));
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
            if part.len() == wanted {
                return part;
            }
            taken.put_slice(&part);
            if taken.len() == wanted {
                break;
            }
        }
        taken.freeze()
    }
}

const ANSWERED: u8 = 0;
const REFUSED: u8 = 1;
const LENGTH_BYTES: usize = 4;
/// Messages that go in one chunk, if that many wait.
const READY_MESSAGES: usize = 64;
/// A message up to this long is copied rather than sent as a chunk of its own.
const COPIED_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn body(chunks: Vec<Bytes>) -> impl Body<Data = Bytes, Error = io::Error> + Send + Unpin {
        StreamBody::new(stream::iter(chunks).map(|chunk| Ok(Frame::data(chunk))))
    }

    async fn received(chunks: Vec<Bytes>) -> Vec<Result<Bytes, String>> {
        split(body(chunks))
            .map(|message| message.map_err(|error| error.to_string()))
            .collect()
            .await
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            messages in vec(prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 20_000)], 0..20),
            cuts in vec(1_usize..30_000, 1..200),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let messages: Vec<Bytes> = messages.into_iter().map(Bytes::from).collect();
                let sent = stream::iter(messages.clone()).boxed();
                let joined: Vec<Bytes> = join(sent).collect().await;
                let mut whole = BytesMut::new();
                joined.iter().for_each(|chunk| whole.put_slice(chunk));
                let mut whole = whole.freeze();
                let last_cut = whole.len().saturating_sub(1);
                let mut chunks = Vec::new();
                for cut in cuts {
                    chunks.push(whole.split_to(cut.min(whole.len())));
                }
                chunks.push(whole);
                let wanted: Vec<_> = messages.iter().cloned().map(Ok).collect();
                assert_eq!(received(chunks).await, wanted);
                assert_eq!(received(joined.clone()).await, wanted);
                // Cut short, it ends in an error and loses only the last.
                if let Some(last) = messages.len().checked_sub(1) {
                    let mut short = BytesMut::new();
                    joined.iter().for_each(|chunk| short.put_slice(chunk));
                    short.truncate(last_cut);
                    let received = received(vec![short.freeze()]).await;
                    assert_eq!(received[..last], wanted[..last]);
                    assert!(received[last].is_err() && received.len() == last + 1);
                }
            });
        }
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_refused_before_it_is_read() {
        let head = Bytes::copy_from_slice(&(MAX_CALL_BYTES as u32 + 1).to_le_bytes());
        assert_eq!(received(vec![head]).await, [Err("a message is too long".to_owned())]);
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        for answer in [Ok(Bytes::from_static(b"yes")), Ok(Bytes::new()), Err("no".to_owned())] {
            assert_eq!(judged(super::answer(answer.clone())), answer);
        }
        assert!(judged(Bytes::new()).is_err());
    }
}
