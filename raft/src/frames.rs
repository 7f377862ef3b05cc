//! What peers say to each other, as bytes.
//!
//! ```text
//! message   frame (Kind::Peer, 3) of a `Request` or an `Answer`
//!           then, for an append, the payloads of its entries, one after the other
//! ```
//!
//! The payloads are the bytes of the log, not encoded again; the frame says how long each is. The
//! chunks of a snapshot follow its request in a stream of their own. Every message says who sends
//! it, from which data directory and cluster, and how far its log ever was durable; `admission`
//! judges that. Every call also says whom it means, down to the directory: a node that lost its
//! disk would otherwise take a snapshot from a leader that has not heard from it yet.

use bytes::{BufMut, Bytes, BytesMut};
use lease::entry::{Envelope, Stamp};
use lease::format::{self, FormatError, HEADER_BYTES, Kind};
use lease::ids::NodeId;
use lease::outcome::Outcome;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::log::LogEntry;

use crate::change::Change;
use crate::clock::Reading;
use crate::status::Position;
use crate::types::StoredVote;

/// Version of the messages that this build speaks.
const PEER_VERSION: u8 = 3;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sender {
    /// Its number.
    pub(crate) node: NodeId,
    /// Incarnation of its data directory.
    pub(crate) directory: u64,
    /// Random number of its process.
    pub(crate) boot: u64,
    /// Incarnation of its cluster, once it knows.
    pub(crate) cluster: Option<u64>,
    /// The greatest (term, index) that was ever durable in its log.
    pub(crate) durable: Option<Position>,
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addressee {
    /// Its number.
    pub(crate) node: NodeId,
    /// Incarnation of the data directory that it joined with, once the caller knows.
    pub(crate) directory: Option<u64>,
}

/// A call with who makes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request<B> {
    pub(crate) sender: Sender,
    pub(crate) to: Addressee,
    pub(crate) body: B,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer<B> {
    pub(crate) sender: Sender,
    pub(crate) body: Result<B, Refused>,
}

/// Why a node does not talk to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refused {
    /// The data directory is not the one this node id joined with.
    #[error("node {0} speaks from another data directory; run: leasehold member replace {0}")]
    OtherDirectory(NodeId),
    /// Its log is shorter than it once was.
    #[error("the log of node {0} went back; run: leasehold member replace {0}")]
    LogWentBack(NodeId),
    /// It belongs to another cluster, or to an earlier life of this one.
    #[error("node {0} belongs to another cluster")]
    OtherCluster(NodeId),
    /// The message was for another node.
    #[error("the message was for node {0}")]
    Misdirected(NodeId),
    /// The node that was asked has failed.
    #[error("the node has failed: {0}")]
    Failed(String),
    /// It is a member no more.
    #[error("node {0} was removed from the cluster")]
    Removed(NodeId),
}

/// Entries for a log. The payloads follow the frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) vote: StoredVote,
    pub(crate) previous: Option<Position>,
    pub(crate) committed: Option<Position>,
    pub(crate) entries: Vec<EntryHead>,
}

/// An entry without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryHead {
    term: u64,
    index: u64,
    kind: u8,
    len: u32,
}

/// A follower's answer, with its clocks and the newest sum over its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Appended {
    pub(crate) result: AppendResult,
    pub(crate) reading: Reading,
    pub(crate) state_sum: Option<StateSum>,
}

/// What became of entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AppendResult {
    /// All are durable.
    Success,
    /// Those up to here are.
    Partial(Option<Position>),
    /// The entry before them is not there.
    Conflict,
    /// Another leader or candidate is further.
    HigherVote(StoredVote),
}

/// The sum over a replica's rows at an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateSum {
    pub(crate) index: u64,
    pub(crate) sum: [u8; 32],
}

/// A candidate's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskVote {
    pub(crate) vote: StoredVote,
    pub(crate) last: Option<Position>,
    pub(crate) leadership_transfer: bool,
}

/// A voter's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Voted {
    pub(crate) vote: StoredVote,
    pub(crate) granted: bool,
    pub(crate) last: Option<Position>,
}

/// A leader hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferLeader {
    pub(crate) vote: StoredVote,
    pub(crate) to: NodeId,
    pub(crate) last: Option<Position>,
}

/// Whether a handed-over leadership was taken up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transferred {
    /// Yes.
    Taken,
    /// The vote or the log there is not what the leader took it to be.
    Declined(String),
}

/// What gateways submitted at a node, for the leader; answered by one [`Forwarded`] for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forward {
    pub(crate) submissions: Vec<Forwarding>,
}

/// Commands that were submitted together and come into one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forwarding {
    /// How long the sender waits, in milliseconds.
    pub(crate) deadline_ms: u64,
    pub(crate) commands: Vec<Envelope>,
}

/// What became of forwarded commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Forwarded {
    /// They were applied.
    Applied {
        /// Index of their entry.
        index: u64,
        /// One per command.
        outcomes: Vec<Outcome>,
        /// The clocks after it.
        clock: Stamp,
    },
    /// Certainly not proposed: another node leads, if known.
    NotLeader(Option<NodeId>),
    /// Certainly not proposed: the queue is full.
    Overloaded {
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// Certainly not proposed within the deadline.
    NotProposed,
    /// Proposed, but what became of it is not known.
    Unknown,
}

/// A reader's question for the index to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskReadIndex {
    /// How long the sender waits, in milliseconds.
    pub(crate) deadline_ms: u64,
}

/// The answer to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadIndex {
    /// Wait for this.
    At {
        /// The index.
        index: u64,
        /// The leader's clocks once the round was over.
        clock: Stamp,
    },
    /// Another node leads, if known.
    NotLeader(Option<NodeId>),
    /// No quorum confirmed the leader in time.
    NoQuorum,
}

/// A change for the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskChange {
    /// How long the sender waits, in milliseconds.
    pub(crate) deadline_ms: u64,
    pub(crate) change: Change,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Changed {
    /// It is so.
    Done {
        /// Who leads afterwards.
        leader: NodeId,
    },
    /// Certainly not proposed: another node leads, if known.
    NotLeader(Option<NodeId>),
    /// Certainly not proposed: another change is not finished.
    InProgress,
    /// Certainly not proposed, for this reason.
    NotPossible(String),
    /// Not done in time; it may yet happen.
    Timeout,
}

/// A snapshot is coming.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SendSnapshot {
    pub(crate) vote: StoredVote,
    /// The last entry it covers.
    pub(crate) last: Option<Position>,
    /// The membership in it, as checkpoints keep it.
    pub(crate) membership: Vec<u8>,
}

/// What the receiver of a snapshot says: its vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotReceived {
    pub(crate) vote: StoredVote,
}

/// Encodes a message without payloads.
pub(crate) fn encode<M: Serialize>(message: &M) -> Bytes {
    format::encode(Kind::Peer, PEER_VERSION, message).into()
}

/// Decodes a message without payloads.
pub(crate) fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, FormatError> {
    format::decode(Kind::Peer, PEER_VERSION, bytes)
}

/// Encodes an append with its payloads.
pub(crate) fn encode_append(
    sender: Sender,
    to: Addressee,
    mut body: Append,
    entries: &[LogEntry],
) -> Bytes {
    body.entries = entries
        .iter()
        .map(|entry| EntryHead {
            term: entry.term,
            index: entry.index,
            kind: entry.kind,
            len: u32::try_from(entry.payload.len()).unwrap_or(u32::MAX),
        })
        .collect();
    let frame = format::encode(Kind::Peer, PEER_VERSION, &Request { sender, to, body });
    if entries.is_empty() {
        return frame.into();
    }
    let payloads: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    let mut message = BytesMut::with_capacity(frame.len() + payloads);
    message.put_slice(&frame);
    for entry in entries {
        message.put_slice(&entry.payload);
    }
    message.freeze()
}

/// Decodes an append; the payloads share the message's memory.
pub(crate) fn decode_append(
    message: &Bytes,
) -> Result<(Request<Append>, Vec<LogEntry>), FormatError> {
    let frame_len = frame_len(message)?;
    let request: Request<Append> = decode(&message[..frame_len])?;
    let mut rest = message.slice(frame_len..);
    let mut entries = Vec::with_capacity(request.body.entries.len());
    for head in &request.body.entries {
        let len = head.len as usize;
        if rest.len() < len {
            return Err(FormatError::Short { have: rest.len(), want: len });
        }
        let payload = rest.split_to(len);
        entries.push(LogEntry { index: head.index, term: head.term, kind: head.kind, payload });
    }
    if !rest.is_empty() {
        return Err(FormatError::Trailing(rest.len()));
    }
    Ok((request, entries))
}

fn frame_len(message: &[u8]) -> Result<usize, FormatError> {
    let short = FormatError::Short { have: message.len(), want: HEADER_BYTES };
    let Some(field) = message.get(4..8) else { return Err(short) };
    let body = field.iter().rev().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte));
    let len = HEADER_BYTES + body;
    if message.len() < len {
        return Err(FormatError::Short { have: message.len(), want: len });
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sender() -> Sender {
        let durable = Some(Position { term: 2, index: 9 });
        Sender { node: 1, directory: 77, boot: 5, cluster: Some(3), durable }
    }

    fn to() -> Addressee {
        Addressee { node: 2, directory: Some(78) }
    }

    fn append() -> Append {
        let vote = StoredVote::from(&crate::types::Vote::new_committed(2, 1));
        Append { vote, previous: None, committed: None, entries: Vec::new() }
    }

    fn entries(payloads: &[Vec<u8>]) -> Vec<LogEntry> {
        (4..)
            .zip(payloads)
            .map(|(index, payload)| LogEntry {
                index,
                term: 2,
                kind: 1,
                payload: Bytes::copy_from_slice(payload),
            })
            .collect()
    }

    #[test]
    fn golden_bytes_of_version_three() {
        let message = encode_append(sender(), to(), append(), &entries(&[b"abc".to_vec()]));
        assert_eq!(&message[..8], &[b'L', b'H', 7, 3, 21, 0, 0, 0]);
        assert_eq!(
            &message[12..],
            &[1, 77, 5, 1, 3, 1, 2, 9, 2, 1, 78, 2, 1, 1, 0, 0, 1, 2, 4, 1, 3, b'a', b'b', b'c'][..]
        );
    }

    #[test]
    fn golden_bodies_of_every_other_message() {
        const ASK: [u8; 11] = [1, 77, 5, 1, 3, 1, 2, 9, 2, 1, 78];
        const SAY: [u8; 8] = [1, 77, 5, 1, 3, 1, 2, 9];
        fn ask<B: Serialize>(body: B, golden: &[u8]) {
            let message = encode(&Request { sender: sender(), to: to(), body });
            assert_eq!(message[HEADER_BYTES..], [&ASK[..], golden].concat());
        }
        fn say<B: Serialize>(body: B, golden: &[u8]) {
            let message = encode(&Answer { sender: sender(), body: Ok(body) });
            assert_eq!(message[HEADER_BYTES..], [&SAY[..], &[0], golden].concat());
        }
        fn refuse(refused: Refused, golden: &[u8]) {
            let message = encode(&Answer::<()> { sender: sender(), body: Err(refused) });
            assert_eq!(message[HEADER_BYTES..], [&SAY[..], &[1], golden].concat());
        }
        let vote = append().vote;
        let last = Some(Position { term: 2, index: 9 });
        let reading = Reading { monotonic_ns: 7, wall_ms: 5 };
        let appended = |result| Appended { result, reading, state_sum: None };
        say(appended(AppendResult::Success), &[0, 7, 10, 0]);
        say(appended(AppendResult::Partial(last)), &[1, 1, 2, 9, 7, 10, 0]);
        say(appended(AppendResult::Conflict), &[2, 7, 10, 0]);
        say(appended(AppendResult::HigherVote(vote)), &[3, 2, 1, 1, 7, 10, 0]);
        ask(AskVote { vote, last, leadership_transfer: true }, &[2, 1, 1, 1, 2, 9, 1]);
        say(Voted { vote, granted: true, last: None }, &[2, 1, 1, 1, 0]);
        ask(TransferLeader { vote, to: 3, last }, &[2, 1, 1, 3, 1, 2, 9]);
        say(Transferred::Taken, &[0]);
        say(Transferred::Declined("no".to_owned()), &[1, 2, b'n', b'o']);
        let submissions = vec![Forwarding { deadline_ms: 5, commands: Vec::new() }];
        ask(Forward { submissions }, &[1, 5, 0]);
        say(vec![Forwarded::Unknown, Forwarded::NotProposed], &[2, 4, 3]);
        let clock = Stamp { led_ms: 4, civil_ms: 3 };
        say(Forwarded::Applied { index: 8, outcomes: Vec::new(), clock }, &[0, 8, 0, 4, 6]);
        say(Forwarded::NotLeader(Some(3)), &[1, 1, 3]);
        say(Forwarded::Overloaded { retry_after_ms: 9 }, &[2, 9]);
        say(Forwarded::NotProposed, &[3]);
        say(Forwarded::Unknown, &[4]);
        ask(AskReadIndex { deadline_ms: 9 }, &[9]);
        say(ReadIndex::At { index: 9, clock }, &[0, 9, 4, 6]);
        say(ReadIndex::NotLeader(None), &[1, 0]);
        say(ReadIndex::NoQuorum, &[2]);
        ask(SendSnapshot { vote, last, membership: vec![6] }, &[2, 1, 1, 1, 2, 9, 1, 6]);
        let change = |change| AskChange { deadline_ms: 9, change };
        let address = || "a".to_owned();
        ask(change(Change::AddLearner { node: 4, address: address() }), &[9, 0, 4, 1, b'a']);
        ask(change(Change::Promote { node: 4 }), &[9, 1, 4]);
        ask(change(Change::Remove { node: 4 }), &[9, 2, 4]);
        ask(change(Change::TransferLeader { to: Some(4) }), &[9, 3, 1, 4]);
        ask(change(Change::SetAddress { node: 4, address: address() }), &[9, 4, 4, 1, b'a']);
        say(Changed::Done { leader: 3 }, &[0, 3]);
        say(Changed::NotLeader(None), &[1, 0]);
        say(Changed::InProgress, &[2]);
        say(Changed::NotPossible("x".to_owned()), &[3, 1, b'x']);
        say(Changed::Timeout, &[4]);
        say(SnapshotReceived { vote }, &[2, 1, 1]);
        refuse(Refused::OtherDirectory(2), &[0, 2]);
        refuse(Refused::LogWentBack(2), &[1, 2]);
        refuse(Refused::OtherCluster(2), &[2, 2]);
        refuse(Refused::Misdirected(2), &[3, 2]);
        refuse(Refused::Failed("x".to_owned()), &[4, 1, b'x']);
        refuse(Refused::Removed(2), &[5, 2]);
    }

    proptest! {
        #[test]
        fn payloads_arrive_as_they_were(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        ) {
            let entries = entries(&payloads);
            let message = encode_append(sender(), to(), append(), &entries);
            let (request, received) = decode_append(&message).unwrap();
            prop_assert_eq!(received, entries);
            prop_assert_eq!((request.sender, request.to), (sender(), to()));
        }

        #[test]
        fn what_is_cut_or_hostile_is_an_error_and_no_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            cut in any::<prop::sample::Index>(),
        ) {
            prop_assert!(decode_append(&Bytes::from(bytes)).is_err());
            let entries = entries(&[vec![1; 9], vec![2; 3]]);
            let message = encode_append(sender(), to(), append(), &entries);
            let cut = cut.index(message.len());
            prop_assert!(decode_append(&message.slice(..cut)).is_err());
        }
    }
}
