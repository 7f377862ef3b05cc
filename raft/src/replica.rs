//! This node's copy of the state: the ledger in memory, and its checkpoints.
//!
//! Ledger, last applied position and membership change together under one lock, so that whoever
//! holds it sees the state of one index. A checkpoint fixes under the lock what it takes, takes it
//! a few rows at a time, and encodes and writes it outside, on a thread of its own; there is at
//! most one at a time.
//!
//! ```text
//! apply ──► machine (lock) ──► watch: applied
//!               │ begin_changes + meta, take_more …
//!               └──► StateStore::checkpoint ──► log: durable mark ──► the log may be cut
//! ```
//!
//! What it leaves to others: openraft's view of all this (`state_machine`), and when a checkpoint
//! is due (`upkeep`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lease::command::Command;
use lease::entry::{Entry, Stamp};
use lease::format::FormatError;
use lease::ids::NodeId;
use lease::outcome::Outcome;
use lease::{Ledger, LoadError as RowsError};
use openraft::EntryPayload;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use storage::log::Log;
use storage::seam::Clock;
use storage::state::{
    Applied as StoredPosition, CheckpointError, CheckpointMeta, Incoming,
    LoadError as StoredLoadError, ReadError, Row, StateStore,
};
use tokio::sync::watch;

use crate::admission::Known;
use crate::audit::Pruned;
use crate::fatal::Fatal;
use crate::frames::StateSum;
use crate::status::Position;
use crate::types::{
    Applied, Proposal, RaftEntry, StoredMembership, decode_membership, encode_membership,
    position_of,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why the stored state did not become a ledger.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The disk failed, or a newer version wrote the rows: they may be fine.
    #[error("the stored state cannot be read")]
    Obstacle(#[source] Failure),
    /// What is stored is not what was written.
    #[error("the stored state is damaged")]
    Damaged(#[source] Failure),
}

/// The state of one index.
pub(crate) struct Machine {
    pub(crate) ledger: Ledger,
    pub(crate) applied: Option<Position>,
    pub(crate) membership: StoredMembership,
}

/// How far this node has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AppliedMark {
    /// The last entry.
    pub(crate) position: Option<Position>,
    /// Term of the last blank entry: a leader begins its term with one.
    pub(crate) blank_term: u64,
}

/// Counters of applying and checkpoints.
#[derive(Debug, Default)]
pub(crate) struct ReplicaCounters {
    pub(crate) entries_applied: AtomicU64,
    pub(crate) apply_ns: AtomicU64,
    pub(crate) apply_max_ns: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoint_last_ns: AtomicU64,
    pub(crate) snapshots_installed: AtomicU64,
}

/// This node's copy.
pub(crate) struct Replica {
    node: NodeId,
    pub(crate) machine: RwLock<Machine>,
    pub(crate) store: StateStore,
    pub(crate) applied: watch::Sender<AppliedMark>,
    pub(crate) counters: ReplicaCounters,
    log: Log,
    clock: Arc<dyn Clock>,
    fatal: Fatal,
    shown: Mutex<Shown>,
    known: RwLock<KnownMembers>,
    sums: Mutex<VecDeque<StateSum>>,
    sizes: Mutex<Sizes>,
    /// Held while what changed is on its way to the disk.
    pub(crate) checkpointing: Mutex<Checkpointing>,
    pruned: Pruned,
}

/// Whether the changes of a checkpoint were taken out of the ledger and reached no disk: what was
/// in them is nowhere on this node, which has to end and to start again from its log.
#[derive(Debug, Default)]
pub(crate) struct Checkpointing {
    pub(crate) is_failed: bool,
}

/// What to show as the civil time: the last stamp's, and when it was applied.
struct Shown {
    civil_ms: i64,
    at_ns: u64,
}

/// What the ledger says about peers, readable without its lock.
#[derive(Default)]
struct KnownMembers {
    cluster: Option<u64>,
    directories: BTreeMap<NodeId, u64>,
    removed: BTreeSet<NodeId>,
}

/// Payload bytes applied up to an index, noted every [`SIZE_STEP`] entries.
#[derive(Default)]
struct Sizes {
    total: u64,
    noted: VecDeque<(u64, u64)>,
}

impl Replica {
    /// Loads the ledger from the last checkpoint.
    pub(crate) fn load(
        node: NodeId,
        store: StateStore,
        log: Log,
        clock: Arc<dyn Clock>,
        fatal: Fatal,
    ) -> Result<Self, LoadError> {
        let machine = load_machine(&store)?;
        let mark = AppliedMark { position: machine.applied, blank_term: 0 };
        let shown =
            Shown { civil_ms: machine.ledger.clock().civil_ms, at_ns: clock.monotonic_ns() };
        let replica = Self {
            node,
            machine: RwLock::new(machine),
            store,
            applied: watch::Sender::new(mark),
            counters: ReplicaCounters::default(),
            log,
            clock,
            fatal,
            shown: Mutex::new(shown),
            known: RwLock::default(),
            sums: Mutex::default(),
            sizes: Mutex::default(),
            checkpointing: Mutex::default(),
            pruned: Pruned::default(),
        };
        replica.learn_members();
        Ok(replica)
    }

    /// Applies one entry and tells how far this node is.
    pub(crate) fn apply(&self, entry: &RaftEntry) -> Result<Applied, Failure> {
        let began_ns = self.clock.monotonic_ns();
        let position = position_of(&entry.log_id);
        let mut blank = false;
        let applied = {
            let mut machine = self.machine.write();
            let outcomes = match &entry.payload {
                EntryPayload::Blank => {
                    blank = true;
                    machine.ledger.leader_has_changed();
                    Vec::new()
                }
                EntryPayload::Membership(members) => {
                    machine.membership = StoredMembership::new(Some(entry.log_id), members.clone());
                    Vec::new()
                }
                EntryPayload::Normal(proposal) => {
                    self.apply_proposal(&mut machine.ledger, position.index, proposal)?
                }
            };
            machine.applied = Some(position);
            self.sum(&mut machine.ledger, position.index);
            Applied { outcomes, clock: machine.ledger.clock() }
        };
        if let EntryPayload::Normal(proposal) = &entry.payload {
            self.sizes.lock().add(position.index, proposal.bytes.len() as u64);
            let at_ns = self.clock.monotonic_ns();
            *self.shown.lock() = Shown { civil_ms: applied.clock.civil_ms, at_ns };
        }
        self.applied.send_modify(|mark| {
            mark.position = Some(position);
            if blank {
                mark.blank_term = position.term;
            }
        });
        self.count(self.clock.monotonic_ns().saturating_sub(began_ns));
        Ok(applied)
    }

    fn apply_proposal(
        &self,
        ledger: &mut Ledger,
        index: u64,
        proposal: &Proposal,
    ) -> Result<Vec<Outcome>, Failure> {
        let decoded;
        let entry = match &proposal.entry {
            Some(entry) => entry.as_ref(),
            None => {
                decoded = Entry::decode(&proposal.bytes)?;
                &decoded
            }
        };
        let outcomes = ledger.apply_entry(index, entry)?;
        if entry.commands.iter().any(|one| changes_members(&one.command)) {
            self.learn_members_of(ledger);
        }
        for envelope in &entry.commands {
            if let Command::AgreeStateSum { index, sum } = &envelope.command {
                self.compare_sum(StateSum { index: *index, sum: *sum });
            }
        }
        Ok(outcomes)
    }

    /// Keeps the sum over the rows at every index that is reported. In between it is asked for now
    /// and then and forgotten, so that no single entry waits for thousands of rows to be hashed.
    fn sum(&self, ledger: &mut Ledger, index: u64) {
        if index == 0 || !index.is_multiple_of(SUM_STEP) {
            return;
        }
        let sum = ledger.state_sum();
        if index.is_multiple_of(REPORT_SUM_EVERY) {
            let mut sums = self.sums.lock();
            if sums.len() == KEPT_SUMS {
                sums.pop_front();
            }
            sums.push_back(StateSum { index, sum });
        }
    }

    /// A majority's sum: whoever had another is damaged and must not go on.
    fn compare_sum(&self, agreed: StateSum) {
        let own = self.sums.lock().iter().find(|own| own.index == agreed.index).copied();
        if own.is_some_and(|own| own.sum != agreed.sum) {
            self.fatal.corrupt(format!(
                "the state of node {} differs from that of a majority at index {}",
                self.node, agreed.index
            ));
        }
    }

    /// The newest sum, for the leader.
    pub(crate) fn newest_sum(&self) -> Option<StateSum> {
        self.sums.lock().back().copied()
    }

    /// What the ledger says of a peer.
    pub(crate) fn known(&self, peer: NodeId) -> Known {
        let known = self.known.read();
        Known {
            directory: known.directories.get(&peer).copied(),
            cluster: known.cluster,
            removed: known.removed.contains(&peer),
        }
    }

    fn learn_members(&self) {
        self.learn_members_of(&self.machine.read().ledger);
    }

    fn learn_members_of(&self, ledger: &Ledger) {
        let directories =
            ledger.members().map(|member| (member.node, member.directory_incarnation)).collect();
        let cluster = ledger.cluster().map(|cluster| cluster.incarnation);
        let removed = ledger.former_members().map(|former| former.node).collect();
        *self.known.write() = KnownMembers { cluster, directories, removed };
    }

    /// Civil time to show now.
    pub(crate) fn displayed_civil_ms(&self) -> i64 {
        let shown = self.shown.lock();
        let passed_ns = self.clock.monotonic_ns().saturating_sub(shown.at_ns);
        shown.civil_ms.saturating_add(i64::try_from(passed_ns / 1_000_000).unwrap_or(i64::MAX))
    }

    /// The ledger's clocks.
    pub(crate) fn ledger_clock(&self) -> Stamp {
        self.machine.read().ledger.clock()
    }

    /// The last position a checkpoint covers.
    pub(crate) fn checkpointed(&self) -> Option<Position> {
        self.store.meta().and_then(|meta| meta.applied).map(from_stored)
    }

    /// Writes a checkpoint of what is applied now; blocks for as long as the disk takes. Any
    /// failure is final: what changed has been taken out of the ledger.
    pub(crate) fn checkpoint(&self) -> Result<(), Failure> {
        let mut one = self.checkpointing.lock();
        let began_ns = self.clock.monotonic_ns();
        let (meta, mut changes, audit_floor) = {
            let mut machine = self.machine.write();
            let last = self.store.meta();
            if last.is_some_and(|last| last.applied == machine.applied.map(to_stored)) {
                return Ok(());
            }
            let meta = CheckpointMeta {
                applied: machine.applied.map(to_stored),
                membership: encode_membership(&machine.membership),
                state_sum: machine.ledger.state_sum(),
                epoch: Vec::new(),
            };
            (meta, machine.ledger.begin_changes(), machine.ledger.audit_floor().seq)
        };
        one.is_failed = true;
        loop {
            let mut machine = self.machine.write();
            let is_more = machine.ledger.take_more(&mut changes, ROWS_AT_ONCE);
            // Whoever waits for the ledger comes before the next few rows.
            RwLockWriteGuard::unlock_fair(machine);
            changes.encode_leases();
            if !is_more {
                break;
            }
        }
        let mut rows: Vec<Row> = changes
            .into_rows()
            .into_iter()
            .map(|row| Row { table: row.table, key: row.key, value: row.value })
            .collect();
        self.pruned.let_go(&self.store, audit_floor, &mut rows).inspect_err(|error| {
            if let ReadError::Damaged(_) = error {
                self.fatal.corrupt(error.to_string());
            }
        })?;
        self.store.checkpoint(meta, rows, Vec::new()).inspect_err(|error| {
            if let CheckpointError::Damaged(_) = error {
                self.fatal.corrupt(error.to_string());
            }
        })?;
        one.is_failed = false;
        self.log.checkpoint_mark(Box::new(|result| {
            if let Err(error) = result {
                tracing::warn!(%error, "the log's durable mark was not written");
            }
        }));
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        let took_ns = self.clock.monotonic_ns().saturating_sub(began_ns);
        self.counters.checkpoint_last_ns.store(took_ns, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a received snapshot the state; blocks, and calls `between` after every few hundred
    /// rows. The ledger is replaced at once or not at all.
    pub(crate) fn install(&self, incoming: Incoming, between: &dyn Fn()) -> Result<(), Failure> {
        let _one = self.checkpointing.lock();
        self.store.install(incoming, between)?;
        let machine = load_machine(&self.store)?;
        let mark = machine.applied;
        let civil_ms = machine.ledger.clock().civil_ms;
        // Freeing the old ledger takes a while; nobody has to wait for that.
        let old = std::mem::replace(&mut *self.machine.write(), machine);
        drop(old);
        self.learn_members();
        *self.shown.lock() = Shown { civil_ms, at_ns: self.clock.monotonic_ns() };
        self.sums.lock().clear();
        self.pruned.reset();
        self.counters.snapshots_installed.fetch_add(1, Ordering::Relaxed);
        self.applied.send_modify(|applied| applied.position = mark);
        Ok(())
    }

    /// The last index whose removal leaves at least `keep_bytes` of payload applied after it, if
    /// one is noted.
    pub(crate) fn index_before_last_bytes(&self, keep_bytes: u64) -> Option<u64> {
        let sizes = self.sizes.lock();
        let end = sizes.total.checked_sub(keep_bytes)?;
        let after = sizes.noted.partition_point(|(_, total)| *total <= end);
        Some(sizes.noted.get(after.checked_sub(1)?)?.0)
    }

    fn count(&self, took_ns: u64) {
        self.counters.entries_applied.fetch_add(1, Ordering::Relaxed);
        self.counters.apply_ns.fetch_add(took_ns, Ordering::Relaxed);
        self.counters.apply_max_ns.fetch_max(took_ns, Ordering::Relaxed);
    }
}

impl Sizes {
    fn add(&mut self, index: u64, bytes: u64) {
        self.total += bytes;
        if index.is_multiple_of(SIZE_STEP) {
            if self.noted.len() == KEPT_SIZES {
                self.noted.pop_front();
            }
            self.noted.push_back((index, self.total));
        }
    }
}

pub(crate) fn load_machine(store: &StateStore) -> Result<Machine, LoadError> {
    let mut ledger = Ledger::new();
    let Some(meta) = store.meta() else {
        let membership = StoredMembership::default();
        return Ok(Machine { ledger, applied: None, membership });
    };
    store.load(|table, key, value, sum| ledger.load_summed_row(table, key, value, sum)).map_err(
        |error| match error {
            StoredLoadError::Read(ReadError::Io { .. }) => LoadError::Obstacle(error.into()),
            StoredLoadError::Read(ReadError::Damaged(_)) => LoadError::Damaged(error.into()),
            StoredLoadError::Row { source, .. } => not_a_ledger(source),
        },
    )?;
    ledger.finish_load().map_err(not_a_ledger)?;
    let membership = decode_membership(&meta.membership).map_err(|error| match error {
        FormatError::Version { .. } => LoadError::Obstacle(error.into()),
        _ => LoadError::Damaged(error.into()),
    })?;
    Ok(Machine { ledger, applied: meta.applied.map(from_stored), membership })
}

/// A table or a version that this build does not know is a newer build's.
fn not_a_ledger(error: RowsError) -> LoadError {
    match error {
        RowsError::UnknownTable(_) | RowsError::Row { source: FormatError::Version { .. }, .. } => {
            LoadError::Obstacle(error.into())
        }
        _ => LoadError::Damaged(error.into()),
    }
}

fn changes_members(command: &Command) -> bool {
    matches!(
        command,
        Command::InitCluster(_)
            | Command::PutMember(_)
            | Command::JoinMember(_)
            | Command::RemoveMember(_)
            | Command::AddTicket(_)
            | Command::OpenEpoch(_)
    )
}

fn to_stored(position: Position) -> StoredPosition {
    StoredPosition { index: position.index, term: position.term }
}

fn from_stored(stored: StoredPosition) -> Position {
    Position { term: stored.term, index: stored.index }
}

/// Every replica reports the sum over its rows at the indexes that this divides.
const REPORT_SUM_EVERY: u64 = 1_000;
/// Rows are hashed for the sum at the indexes that this divides.
const SUM_STEP: u64 = 50;
/// Sums remembered until a majority's comes: it does within a round trip or two.
const KEPT_SUMS: usize = 16;
/// Rows that a checkpoint takes under the lock at once: some tenths of a millisecond.
const ROWS_AT_ONCE: usize = 256;
/// Every how many entries the bytes applied so far are noted, to purge the log by bytes.
const SIZE_STEP: u64 = 64;
/// Notes kept: those of 262,144 entries, many more than are kept in the log.
const KEPT_SIZES: usize = 4_096;

#[cfg(test)]
mod tests;
