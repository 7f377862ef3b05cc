//! The types openraft is made of here, and how they look as bytes.
//!
//! ```text
//! log entry    kind 0 blank        no payload
//!              kind 1 proposal     the frame of a `lease::Entry`, as it also goes to peers
//!              kind 2 membership   frame (Kind::Raft, 1) of `StoredMembers`
//! vote         frame (Kind::Raft, 1) of `StoredVote`
//! committed    frame (Kind::Raft, 1) of `Position`
//! ```
//!
//! openraft's own serde forms never reach a disk or a peer: they may change with any release.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use lease::entry::{Entry, Stamp};
use lease::format::{self, FormatError, Kind};
use lease::ids::NodeId;
use lease::outcome::Outcome;
use openraft::impls::{BasicNode, leader_id_std};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use storage::log::LogEntry;

use crate::runtime::Runtime;
use crate::status::Position;

openraft::declare_raft_types!(
    /// What openraft is instantiated with.
    pub(crate) TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

pub(crate) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::Vote<LeaderId>;
pub(crate) type Payload = EntryPayload<Proposal, u64, BasicNode>;
pub(crate) type RaftEntry = openraft::Entry<CommittedLeaderId, Payload>;
pub(crate) type Members = Membership<u64, BasicNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, BasicNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, BasicNode>;

/// Version of the frames of kind `Raft`.
const RAFT_VERSION: u8 = 1;

const BLANK: u8 = 0;
const PROPOSAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// An entry's bytes, encoded once by the proposer, with what they decode to where that is known.
#[derive(Clone)]
pub(crate) struct Proposal {
    /// The frame of the entry.
    pub(crate) bytes: Bytes,
    /// What it decodes to, on the node that made it.
    pub(crate) entry: Option<Arc<Entry>>,
    /// Which of this node's proposals it is, counted from 1; 0 for those of others.
    pub(crate) number: u64,
}

impl Proposal {
    pub(crate) fn received(bytes: Bytes) -> Self {
        Self { bytes, entry: None, number: 0 }
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// openraft asks for serde on everything when its `serde` feature is on; nothing here uses it.
impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|bytes| Self::received(bytes.into()))
    }
}

/// What applying an entry gave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// One per command.
    pub(crate) outcomes: Vec<Outcome>,
    /// The ledger's clocks after the entry.
    pub(crate) clock: Stamp,
}

/// A vote as it is stored and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredVote {
    term: u64,
    node: NodeId,
    committed: bool,
}

impl From<&Vote> for StoredVote {
    fn from(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<StoredVote> for Vote {
    fn from(stored: StoredVote) -> Self {
        let leader_id = LeaderId { term: stored.term, voted_for: stored.node };
        Self { leader_id, committed: stored.committed }
    }
}

impl StoredVote {
    pub(crate) fn term(self) -> u64 {
        self.term
    }
}

/// A membership as it is stored and sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct StoredMembers {
    /// Position of the entry that set it; only in snapshots and checkpoints.
    position: Option<Position>,
    /// One set of voters, or two while a change is under way.
    voters: Vec<BTreeSet<NodeId>>,
    /// All nodes with their addresses.
    nodes: BTreeMap<NodeId, String>,
}

impl StoredMembers {
    fn of(position: Option<Position>, members: &Members) -> Self {
        Self {
            position,
            voters: members.get_joint_config().clone(),
            nodes: members.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
        }
    }

    fn members(self) -> Result<Members, FormatError> {
        if self.voters.is_empty() && self.nodes.is_empty() {
            return Ok(Members::default());
        }
        let nodes: BTreeMap<NodeId, BasicNode> =
            self.nodes.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        Members::new(self.voters, nodes).map_err(|error| FormatError::Body(error.to_string()))
    }
}

/// Encodes a membership with the position of its entry, for a checkpoint or a snapshot.
pub(crate) fn encode_membership(stored: &StoredMembership) -> Vec<u8> {
    let members = StoredMembers::of(stored.log_id().as_ref().map(position_of), stored.membership());
    format::encode(Kind::Raft, RAFT_VERSION, &members)
}

/// Reads back what [`encode_membership`] wrote.
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<StoredMembership, FormatError> {
    let members: StoredMembers = format::decode(Kind::Raft, RAFT_VERSION, bytes)?;
    let log_id = members.position.map(log_id_of);
    Ok(StoredMembership::new(log_id, members.members()?))
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    format::encode(Kind::Raft, RAFT_VERSION, &StoredVote::from(vote)).into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, FormatError> {
    format::decode::<StoredVote>(Kind::Raft, RAFT_VERSION, bytes).map(Vote::from)
}

pub(crate) fn encode_position(position: Position) -> Bytes {
    format::encode(Kind::Raft, RAFT_VERSION, &position).into()
}

pub(crate) fn decode_position(bytes: &[u8]) -> Result<Position, FormatError> {
    format::decode(Kind::Raft, RAFT_VERSION, bytes)
}

pub(crate) fn position_of(id: &LogId) -> Position {
    Position { term: id.leader_id.term, index: id.index }
}

pub(crate) fn log_id_of(position: Position) -> LogId {
    LogId::new_term_index(position.term, position.index)
}

/// The entry as the log keeps it and peers get it.
pub(crate) fn to_log_entry(entry: &RaftEntry) -> LogEntry {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(proposal) => (PROPOSAL, proposal.bytes.clone()),
        EntryPayload::Membership(members) => {
            let members = StoredMembers::of(None, members);
            (MEMBERSHIP, format::encode(Kind::Raft, RAFT_VERSION, &members).into())
        }
    };
    let Position { term, index } = position_of(&entry.log_id);
    LogEntry { index, term, kind, payload }
}

/// The entry as openraft handles it. The frame inside a proposal is checked when it is applied.
pub(crate) fn from_log_entry(entry: LogEntry) -> Result<RaftEntry, FormatError> {
    let payload = match entry.kind {
        BLANK => EntryPayload::Blank,
        PROPOSAL => EntryPayload::Normal(Proposal::received(entry.payload)),
        MEMBERSHIP => {
            let members: StoredMembers = format::decode(Kind::Raft, RAFT_VERSION, &entry.payload)?;
            EntryPayload::Membership(members.members()?)
        }
        kind => return Err(FormatError::Body(format!("unknown kind {kind} of log entry"))),
    };
    let log_id = log_id_of(Position { term: entry.term, index: entry.index });
    Ok(RaftEntry { log_id, payload })
}

/// An error that openraft treats as fatal for this node.
pub(crate) fn storage_failure(
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let nodes: BTreeMap<NodeId, BasicNode> =
            (1..=4).map(|id| (id, BasicNode { addr: format!("host-{id}:7411") })).collect();
        Members::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])], nodes).unwrap()
    }

    #[test]
    fn entries_come_back_from_the_log_as_they_went() {
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(Proposal::received(Bytes::from_static(b"frame"))),
            EntryPayload::Membership(members()),
        ] {
            let entry = RaftEntry { log_id: LogId::new_term_index(3, 9), payload };
            assert_eq!(from_log_entry(to_log_entry(&entry)).unwrap(), entry);
        }
        let unknown = LogEntry { index: 1, term: 1, kind: 9, payload: Bytes::new() };
        assert!(from_log_entry(unknown).is_err());
    }

    #[test]
    fn votes_positions_and_memberships_come_back() {
        for committed in [false, true] {
            let leader_id = LeaderId { term: 7, voted_for: 2 };
            let vote = Vote { leader_id, committed };
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        let position = Position { term: 4, index: 77 };
        assert_eq!(decode_position(&encode_position(position)).unwrap(), position);
        let stored = StoredMembership::new(Some(log_id_of(position)), members());
        assert_eq!(decode_membership(&encode_membership(&stored)).unwrap(), stored);
        let empty = StoredMembership::default();
        assert_eq!(decode_membership(&encode_membership(&empty)).unwrap(), empty);
    }

    #[test]
    fn golden_bytes_of_version_one() {
        let leader_id = LeaderId { term: 7, voted_for: 2 };
        let vote = encode_vote(&Vote { leader_id, committed: true });
        assert_eq!(&vote[..8], &[b'L', b'H', 9, 1, 3, 0, 0, 0]);
        assert_eq!(&vote[12..], &[7, 2, 1]);
        let position = encode_position(Position { term: 4, index: 300 });
        assert_eq!(&position[12..], &[4, 251, 44, 1]);
        let nodes = BTreeMap::from([(1, BasicNode { addr: "a:1".to_owned() })]);
        let one = Members::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let stored = StoredMembership::new(Some(log_id_of(Position { term: 1, index: 0 })), one);
        assert_eq!(
            &encode_membership(&stored)[12..],
            &[1, 1, 0, 1, 1, 1, 1, 1, 3, b'a', b':', b'1']
        );
    }
}
