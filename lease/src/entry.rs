//! One log entry: a header and a batch of commands under one stamp.
//!
//! The header has room for what cannot be added later without breaking the format: a group, the
//! cluster's incarnation, the origin node, and per command an actor, a request id and a cause in
//! another group.

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::format::{self, FormatError, Kind};
use crate::ids::{AppId, Face, Group, NodeId, OperatorId, RequestId, TraceId};

/// Version of the entry format that this build writes.
pub const ENTRY_VERSION: u8 = 1;
/// Most commands in one entry: keeps `apply` of one entry under about two milliseconds.
pub const MAX_COMMANDS_PER_ENTRY: usize = 1024;
/// Most encoded command bytes in one entry, so that replication stays interactive.
pub const MAX_ENTRY_BYTES: usize = 256 * 1024;

/// Readings of the two logged clocks. `apply` takes the larger of its own clock and the stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Lease clock: milliseconds of led time since the cluster began.
    pub led_ms: u64,
    /// Civil clock: Unix milliseconds.
    pub civil_ms: i64,
}

/// What holds for every command of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryHeader {
    /// The group whose log this is.
    pub group: Group,
    /// The epoch in which it was proposed.
    pub epoch: u32,
    /// The random incarnation of that epoch; tells forks of a restored cluster apart.
    pub incarnation: u64,
    /// The clocks when it was proposed.
    pub stamp: Stamp,
    /// The node that proposed it.
    pub origin: NodeId,
}

/// A batch of commands, applied in order, each with its own outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What holds for all of them.
    pub header: EntryHeader,
    /// At most [`MAX_COMMANDS_PER_ENTRY`]; none means that only time passes.
    pub commands: Vec<Envelope>,
}

/// A command with who asked, under which request id, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Under whose authority it was admitted; checked again in `apply`.
    pub actor: Actor,
    /// What makes it happen once. `None` only for commands that are repeatable by themselves.
    pub request: Option<RequestId>,
    /// Follows the request through logs and audit.
    pub trace: TraceId,
    /// The command in another group that made this one necessary.
    pub cause: Option<Cause>,
    /// What is to be done.
    pub command: Command,
}

/// Where in another group's log the reason for a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// That group.
    pub group: Group,
    /// Index of the entry.
    pub index: u64,
    /// Position in its batch.
    pub position: u16,
}

/// Who a command is done for. The credential's generation lets `apply` refuse what was admitted
/// under a secret that has been rotated or removed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A node itself: ticks, its own keys, its own row.
    Node(NodeId),
    /// A registered application, under this generation of its secret.
    App {
        /// The application.
        app: AppId,
        /// Generation of the secret its token was issued for.
        generation: u32,
    },
    /// An operator, by the id of the token used.
    Operator(OperatorId),
    /// Somebody through a face: what the command carries is the authority.
    Face(Face),
}

impl Entry {
    /// The bytes that go to the log and to peers.
    pub fn encode(&self) -> Vec<u8> {
        format::encode(Kind::Entry, ENTRY_VERSION, self)
    }

    /// Reads them back; an unknown version or command is an error that stops the node.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        format::decode(Kind::Entry, ENTRY_VERSION, bytes)
    }
}
