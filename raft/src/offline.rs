//! Work on the data directory of a node that does not run: its state taken out, and a new directory
//! made from a state.
//!
//! ```text
//! export      log + state of a stopped node ─► a store of its own ─► snapshot
//!                                              (checkpoint, then every entry of the log)
//!
//! establish   snapshot ─► state store ─► OpenEpoch at the next index, in the next term
//!                                        checkpoint: one voter, the new member
//!                                        log: empty, begins above it, vote of that term
//! ```
//!
//! An export takes along every entry that reached this log, committed or not: one whose commitment
//! this node never heard of may have been answered. It changes nothing of what it reads but what
//! every start does (a torn end is cut, a redo file replayed), so that the node can still go on as
//! the member it was.
//!
//! What `establish` makes is begun by openraft as by any node that installed a snapshot and has
//! nothing after it: index and term go on above all that the state has seen, so no log id of the
//! new epoch was ever one of a former. Its directory is whole when the call returns and not before;
//! the caller gives it its name by one rename.
//!
//! What it leaves to others: the lock and the identity of a directory, certificates, keys and
//! configuration (`node`), and what a new epoch means (`lease`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use lease::command::Command;
use lease::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
use lease::ids::{NodeId, TraceId};
use lease::operate::OpenEpoch;
use lease::outcome::{Outcome, RefusalCode};
use lease::{ApplyError, Ledger};
use openraft::impls::BasicNode;
use openraft::{EntryPayload, Membership};
use storage::log::{Completion, Log, LogConfig, LogError, LogPosition};
use storage::seam::{Clock, Disk};
use storage::state::{
    Applied as StoredPosition, CheckpointError, CheckpointMeta, InstallError, ReadError, Row,
    SnapshotHandle, StateConfig, StateStore,
};

use crate::config::ClusterConfig;
use crate::open::{self, StartError};
use crate::replica::{LoadError, Machine, load_machine};
use crate::status::Position;
use crate::types::{
    LeaderId, StoredMembership, Vote, decode_position, decode_vote, encode_membership, encode_vote,
    from_log_entry, log_id_of, position_of,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a directory could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// What the stopped node has on its disk does not open.
    #[error(transparent)]
    Open(#[from] StartError),
    /// The directory to be made has something in it.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The snapshot is not whole, or a newer build wrote it.
    #[error(transparent)]
    Snapshot(#[from] InstallError),
    /// The log does not hold what comes after the checkpoint.
    #[error("the log lacks entry {index}, which the checkpoint does not cover")]
    Gap {
        /// The first that is missing.
        index: u64,
    },
    /// An entry of the log cannot be applied.
    #[error("entry {index} of the log cannot be applied")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        source: Failure,
    },
    /// Nobody founded the cluster whose state this is.
    #[error("there is no cluster in this state")]
    NotFounded,
    /// The ledger does not open the epoch.
    #[error("the ledger does not open the epoch: {0:?}")]
    Refused(RefusalCode),
    /// The state could not be stored.
    #[error("the state could not be stored")]
    Store(#[source] CheckpointError),
    /// The log could not be written.
    #[error("the log could not be written")]
    Log(#[source] LogError),
}

/// What a stopped node has on its disk, with every entry of its log applied.
pub struct Export {
    /// Its state; `snapshot.chunks()` streams it.
    pub snapshot: SnapshotHandle,
    /// The same in memory.
    pub ledger: Ledger,
    /// The last entry in it.
    pub applied: Position,
    /// The last entry that this node knew to be committed.
    pub committed: Option<Position>,
    /// Entries after that one. They were proposed, and perhaps answered, perhaps overwritten.
    pub uncommitted: u64,
    /// Highest term that this node voted in or has an entry of.
    pub term: u64,
    /// Who voted in the end, as its log has it.
    pub voters: Vec<NodeId>,
    scratch: Scratch,
}

impl Export {
    /// Removes the store it was made in; dropping it does the same silently.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(self) -> io::Result<()> {
        let Self { snapshot, scratch, .. } = self;
        drop(snapshot);
        scratch.remove()
    }
}

/// A directory that goes with whoever holds this.
struct Scratch {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    removed: bool,
}

impl Scratch {
    fn remove(mut self) -> io::Result<()> {
        self.removed = true;
        self.disk.remove_dir_all(&self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.removed
            && self.disk.exists(&self.path).unwrap_or(false)
            && let Err(error) = self.disk.remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a directory was not removed");
        }
    }
}

/// Takes the state out of a stopped node's directory, which the caller has locked. `scratch` must
/// not exist; it is made for the time of the export and holds a copy of the state.
///
/// Blocks for as long as it takes to read all of it.
///
/// # Errors
/// When the directory is damaged, or the disk refuses.
pub fn export(
    config: &ClusterConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    scratch: PathBuf,
) -> Result<Export, OfflineError> {
    refuse_leftovers(disk.as_ref(), &scratch)?;
    let (log, _, store) = open::open_files(config, Arc::clone(&disk), Arc::clone(&clock))?;
    let scratch = Scratch { path: scratch, disk: Arc::clone(&disk), removed: false };
    let copy = open_store(config, &scratch.path, disk, clock)?;
    if store.meta().is_some() {
        let handle = store.snapshot();
        let chunks = handle.chunks().map_err(|error| read_failed(error, "read the state"))?;
        receive(&copy, chunks.map(|chunk| chunk.map_err(io::Error::other)))?;
    }
    let mut machine = load_machine(&copy).map_err(loaded)?;
    let checkpointed = machine.applied;
    apply_log(&log, &mut machine)?;
    let Some(applied) = machine.applied else { return Err(OfflineError::NotFounded) };
    if Some(applied) != checkpointed {
        store_machine(&copy, &mut machine)?;
    }
    let state = log.state();
    let saved = state.committed.as_deref().map(decode_position).transpose();
    let committed = saved.map_err(|error| damaged(error.into()))?.max(checkpointed);
    let vote = state.vote.as_deref().map(decode_vote).transpose();
    let vote = vote.map_err(|error| damaged(error.into()))?;
    log.close().map_err(OfflineError::Log)?;
    Ok(Export {
        snapshot: copy.snapshot(),
        applied,
        committed,
        uncommitted: applied.index - committed.map_or(0, |it| it.index.min(applied.index)),
        term: vote.map_or(0, |vote| vote.leader_id.term).max(applied.term),
        voters: machine.membership.membership().voter_ids().collect(),
        ledger: machine.ledger,
        scratch,
    })
}

/// What begins a new epoch.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The command; its member is the one node of the new epoch.
    pub command: OpenEpoch,
    /// Follows it into the audit log.
    pub trace: TraceId,
    /// Terms up to this one were used; the state's own is known without it.
    pub after_term: u64,
}

/// A directory that was made.
#[derive(Debug)]
pub struct Established {
    /// Where the new epoch begins.
    pub position: Position,
    /// The state that its node starts with.
    pub ledger: Ledger,
}

/// Makes the log and the state of a new node in `config.data_dir`, which must be empty or not
/// exist, from a snapshot and the opening of a new epoch. `config` is that of the new node.
///
/// Blocks for as long as it takes to write all of it. When this fails, what is in the directory is
/// of no use.
///
/// # Errors
/// When the snapshot is not whole, the ledger refuses, or the disk does.
pub fn establish(
    config: &ClusterConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    snapshot: impl Iterator<Item = io::Result<Vec<u8>>>,
    opening: Opening,
) -> Result<Established, OfflineError> {
    let node = opening.command.member.node;
    let address = opening.command.member.peer_address.to_string();
    refuse_leftovers(disk.as_ref(), &config.data_dir)?;
    // In the order of a first start: a state without its log has lost its votes.
    let log = open_log(config, Arc::clone(&disk), Arc::clone(&clock))?;
    let store_dir = config.data_dir.join(open::STATE_DIR);
    let wall_ms = clock.wall_ms();
    let store = open_store(config, &store_dir, disk, clock)?;
    receive(&store, snapshot)?;
    let mut machine = load_machine(&store).map_err(loaded)?;
    let Some(last) = machine.applied else { return Err(OfflineError::NotFounded) };
    let position = Position { term: last.term.max(opening.after_term) + 1, index: last.index + 1 };
    open_epoch(&mut machine.ledger, position.index, wall_ms, opening)?;
    let nodes = std::collections::BTreeMap::from([(node, BasicNode { addr: address })]);
    let members = Membership::new(vec![std::collections::BTreeSet::from([node])], nodes)
        .map_err(|error| OfflineError::Entry { index: position.index, source: error.into() })?;
    machine.membership = StoredMembership::new(Some(log_id_of(position)), members);
    machine.applied = Some(position);
    store_machine(&store, &mut machine)?;
    write_log(&log, node, position)?;
    Ok(Established { position, ledger: machine.ledger })
}

/// Applies the opening to a state in which nobody else writes.
fn open_epoch(
    ledger: &mut Ledger,
    index: u64,
    wall_ms: i64,
    opening: Opening,
) -> Result<(), OfflineError> {
    let Some(former) = ledger.cluster() else { return Err(OfflineError::NotFounded) };
    let clock = ledger.clock();
    let node = opening.command.member.node;
    let header = EntryHeader {
        group: 0,
        epoch: former.epoch,
        incarnation: former.incarnation,
        // No led time passed; the civil time is that of today, so that what is kept for those whom
        // the state does not know is kept for long enough.
        stamp: Stamp { led_ms: clock.led_ms, civil_ms: clock.civil_ms.max(wall_ms) },
        origin: node,
    };
    let envelope = Envelope {
        actor: Actor::Node(node),
        request: None,
        trace: opening.trace,
        cause: None,
        command: Command::OpenEpoch(Box::new(opening.command)),
    };
    let entry = Entry { header, commands: vec![envelope] };
    let failed = |source: ApplyError| OfflineError::Entry { index, source: source.into() };
    let outcomes = ledger.apply_entry(index, &entry).map_err(failed)?;
    match outcomes.first() {
        Some(Outcome::Refused(refusal)) => Err(OfflineError::Refused(refusal.code)),
        _ => Ok(()),
    }
}

/// Vote and beginning of an empty log, durable when this returns.
fn write_log(log: &Log, node: NodeId, position: Position) -> Result<(), OfflineError> {
    let leader_id = LeaderId { term: position.term, voted_for: node };
    let vote = encode_vote(&Vote { leader_id, committed: true });
    let upto = LogPosition { index: position.index, term: position.term };
    wait(|done| log.save_vote(vote, done))?;
    wait(|done| log.purge(upto, done))?;
    log.close().map_err(OfflineError::Log)
}

fn wait(begin: impl FnOnce(Completion)) -> Result<(), OfflineError> {
    let (told, result) = sync_channel(1);
    begin(Box::new(move |result| {
        // The receiver waits below.
        let _ = told.send(result);
    }));
    result.recv().unwrap_or(Err(LogError::Closed)).map_err(OfflineError::Log)
}

/// Applies what the log has after the checkpoint.
fn apply_log(log: &Log, machine: &mut Machine) -> Result<(), OfflineError> {
    let Some(last) = log.state().last else { return Ok(()) };
    let mut next = machine.applied.map_or(0, |applied| applied.index + 1);
    while next <= last.index {
        let read = log.read(next..last.index + 1, READ_BYTES).map_err(|error| match error {
            LogError::Damaged { .. } => StartError::Damaged(error.into()),
            _ => StartError::Storage(error.into()),
        })?;
        if read.first().is_none_or(|first| first.index != next) {
            return Err(OfflineError::Gap { index: next });
        }
        for entry in read {
            let index = entry.index;
            let failed = |source: Failure| OfflineError::Entry { index, source };
            let entry = from_log_entry(entry).map_err(|error| failed(error.into()))?;
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(members) => {
                    machine.membership = StoredMembership::new(Some(entry.log_id), members.clone());
                }
                EntryPayload::Normal(proposal) => {
                    let decoded =
                        Entry::decode(&proposal.bytes).map_err(|error| failed(error.into()))?;
                    let applied = machine.ledger.apply_entry(index, &decoded);
                    applied.map_err(|error| failed(error.into()))?;
                }
            }
            machine.applied = Some(position_of(&entry.log_id));
            next = index + 1;
        }
    }
    Ok(())
}

fn store_machine(store: &StateStore, machine: &mut Machine) -> Result<(), OfflineError> {
    let meta = CheckpointMeta {
        applied: machine.applied.map(|it| StoredPosition { index: it.index, term: it.term }),
        membership: encode_membership(&machine.membership),
        state_sum: machine.ledger.state_sum(),
        epoch: Vec::new(),
    };
    let rows = machine.ledger.take_changes().into_rows().into_iter();
    let rows = rows.map(|row| Row { table: row.table, key: row.key, value: row.value }).collect();
    store.checkpoint(meta, rows, Vec::new()).map(drop).map_err(OfflineError::Store)
}

/// Makes a stream of a snapshot's bytes the state of a store.
fn receive(
    store: &StateStore,
    chunks: impl Iterator<Item = io::Result<Vec<u8>>>,
) -> Result<(), OfflineError> {
    let mut incoming = store.receive().map_err(OfflineError::Store)?;
    for chunk in chunks {
        let written = chunk.and_then(|chunk| incoming.write(&chunk));
        written.map_err(|source| OfflineError::Io { what: "copy the snapshot", source })?;
    }
    store.install(incoming, &|| {}).map(drop).map_err(OfflineError::from)
}

fn open_log(
    config: &ClusterConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<Log, OfflineError> {
    let log_config = LogConfig {
        segment_bytes: config.log_segment_bytes,
        ..LogConfig::new(config.data_dir.join(open::LOG_DIR), config.log_identity())
    };
    let opened = Log::open(disk, clock, log_config);
    opened.map(|(log, _)| log).map_err(|error| StartError::Storage(error.into()).into())
}

fn open_store(
    config: &ClusterConfig,
    dir: &Path,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<StateStore, OfflineError> {
    let state_config =
        StateConfig { cache_bytes: config.state_cache_bytes, ..StateConfig::new(dir) };
    let opened = StateStore::open(disk, clock, state_config);
    opened.map(|(store, _)| store).map_err(|error| StartError::Storage(error.into()).into())
}

fn refuse_leftovers(disk: &dyn Disk, path: &Path) -> Result<(), OfflineError> {
    let failed = |source| OfflineError::Io { what: "look into the new directory", source };
    if disk.exists(path).map_err(failed)? && !disk.list(path).map_err(failed)?.is_empty() {
        return Err(OfflineError::NotEmpty { path: path.to_owned() });
    }
    Ok(())
}

fn loaded(error: LoadError) -> OfflineError {
    OfflineError::Open(open::not_loaded(error))
}

fn damaged(error: Failure) -> OfflineError {
    OfflineError::Open(StartError::Damaged(error))
}

fn read_failed(error: ReadError, what: &'static str) -> OfflineError {
    match error {
        ReadError::Io { source, .. } => OfflineError::Io { what, source },
        ReadError::Damaged(damage) => damaged(damage.into()),
    }
}

/// Bytes of entries in memory at once.
const READ_BYTES: u64 = 4 << 20;
