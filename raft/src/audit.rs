//! The audit log of this node: what checkpoints have stored, and what happened since.
//!
//! An event is in memory until a checkpoint takes it, on its way to the disk for a moment, and in a
//! block of table AUDIT from then on. Whoever reads must not miss what is on its way: so a reader
//! that needs more than what is stored lets a running checkpoint end first, and reads on with the
//! next one held off.
//!
//! ```text
//! floor      blocks in the store            in memory        head
//!   │ (pruned) │ 1..412 │ 413..590 │ 591..733 │ 734 … 801 │    │
//! ```
//!
//! Where blocks begin and end differs between nodes, so what stands at or below the floor is never
//! given, whether this node still has it or not. A checkpoint lets go of blocks that lie wholly
//! there. Every event comes with the bytes that were hashed; whether they hang together is for the
//! reader to check (`lease::verify_chain` says how).

use lease::audit::{decode_event, split_audit_block};
use lease::format::FormatError;
use lease::operate::AuditFloor;
use lease::rows::table;
use lease::{AuditEvent, AuditHead, Ledger};
use parking_lot::Mutex;
use storage::state::{ReadError, Row, StateStore};

use crate::cluster::Cluster;
use crate::replica::Replica;

/// An audit event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in the log by where it stands; damage could make the event say another.
    pub seq: u64,
    /// The bytes that were hashed.
    pub bytes: Vec<u8>,
}

impl StoredEvent {
    /// What it says.
    ///
    /// # Errors
    /// When the bytes are not an event: damage, or a newer version wrote them.
    pub fn decode(&self) -> Result<AuditEvent, AuditError> {
        decode_event(&self.bytes).map_err(|source| AuditError::Unreadable { seq: self.seq, source })
    }
}

/// Between which events the log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditBounds {
    /// The last event that is gone; number 0 when none is.
    pub floor: AuditFloor,
    /// The newest event; number 0 before the first.
    pub head: AuditHead,
}

/// Why audit events could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store could not be read, or what is in it is damaged.
    #[error("the stored audit log cannot be read")]
    Store(#[from] ReadError),
    /// A block or an event is not what was written.
    #[error("audit event {seq} does not read")]
    Unreadable {
        /// The event, or the first of the block.
        seq: u64,
        /// Why.
        source: FormatError,
    },
    /// An event that the log should have is not there.
    #[error("audit event {seq} is missing")]
    Missing {
        /// The first that is.
        seq: u64,
    },
    /// The reading thread ended without an answer, or the node is about to end.
    #[error("the audit log could not be read: {0}")]
    Failed(String),
}

impl AuditError {
    /// The first event that is not there as it should be; `None` when the machine is at fault.
    pub fn broken_at(&self) -> Option<u64> {
        match self {
            Self::Unreadable { seq, .. } | Self::Missing { seq } => Some(*seq),
            Self::Store(_) | Self::Failed(_) => None,
        }
    }
}

impl Cluster {
    /// How far the audit log reaches on this node, as of its applied state.
    pub fn audit_bounds(&self) -> AuditBounds {
        let ledger = self.ledger();
        AuditBounds { floor: ledger.audit_floor(), head: ledger.audit_head() }
    }

    /// Up to `limit` audit events from number `from` on, or from the first that was not pruned,
    /// without a gap; up to about a mebibyte. None: there are no more. Reads on a thread of its
    /// own.
    ///
    /// # Errors
    /// When the first of them is not there as it should be; events before a broken one are given.
    pub async fn audit_events(
        &self,
        from: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, AuditError> {
        let replica = self.replica();
        let read = self.workers().run(move || read(&replica, from, limit));
        match read.await {
            Ok(events) => events,
            Err(panicked) => Err(AuditError::Failed(panicked.to_string())),
        }
    }
}

fn read(replica: &Replica, from: u64, limit: usize) -> Result<Vec<StoredEvent>, AuditError> {
    let floor = || replica.machine.read().ledger.audit_floor().seq;
    loop {
        match read_above(replica, floor(), from, limit) {
            // It was pruned while it was looked for.
            Err(AuditError::Missing { seq }) if seq <= floor() => {}
            done => return done,
        }
    }
}

fn read_above(
    replica: &Replica,
    floor: u64,
    from: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>, AuditError> {
    let mut page = Page { next: from.max(floor.saturating_add(1)), limit, ..Page::default() };
    // Whoever follows the log asks for its end again and again, and that is in memory.
    if page.add_all_recent(&replica.machine.read().ledger) {
        return page.end();
    }
    if page.add_stored(&replica.store)? == Progress::Full {
        return page.end();
    }
    // What is not stored may be on its way there.
    let nothing_moves = replica.checkpointing.lock();
    if nothing_moves.is_failed {
        return Err(AuditError::Failed(CHECKPOINT_FAILED.to_owned()));
    }
    if page.add_stored(&replica.store)? == Progress::Full {
        return page.end();
    }
    let machine = replica.machine.read();
    page.add_recent(&machine.ledger);
    page.is_missing |= !page.is_full() && page.next <= machine.ledger.audit_head().seq;
    drop(machine);
    page.end()
}

#[derive(Default)]
struct Page {
    /// The number of the event that comes next.
    next: u64,
    limit: usize,
    bytes: usize,
    is_missing: bool,
    events: Vec<StoredEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Full,
    More,
}

impl Page {
    fn is_full(&self) -> bool {
        self.is_missing || self.events.len() >= self.limit || self.bytes >= PAGE_BYTES
    }

    fn progress(&self) -> Progress {
        if self.is_full() { Progress::Full } else { Progress::More }
    }

    /// Takes the event if it is the next one; one that is further on shows that some are missing.
    fn add(&mut self, seq: u64, bytes: Vec<u8>) -> Progress {
        if seq == self.next && !self.is_full() {
            self.bytes += bytes.len();
            self.next += 1;
            self.events.push(StoredEvent { seq, bytes });
        } else if seq > self.next && !self.is_full() {
            self.is_missing = true;
        }
        self.progress()
    }

    /// Adds what is in memory, if that is everything from the next event on; `false`, and nothing
    /// is added, when the store has to be asked.
    fn add_all_recent(&mut self, ledger: &Ledger) -> bool {
        let is_ended = self.next > ledger.audit_head().seq;
        let mut recent = ledger.audit_recent_from(self.next);
        let begins_there = recent.next().is_some_and(|(seq, _)| seq == self.next);
        if begins_there {
            self.add_recent(ledger);
        }
        is_ended || begins_there
    }

    fn add_recent(&mut self, ledger: &Ledger) {
        for (seq, bytes) in ledger.audit_recent_from(self.next) {
            if self.add(seq, bytes.to_vec()) == Progress::Full {
                break;
            }
        }
    }

    /// Adds what stored blocks have from the next event on.
    fn add_stored(&mut self, store: &StateStore) -> Result<Progress, AuditError> {
        if self.is_full() {
            return Ok(Progress::Full);
        }
        // The block that holds an event begins no further before it than a block has events.
        let mut from = self.next.saturating_sub(MOST_EVENTS_OF_A_BLOCK).to_be_bytes().to_vec();
        loop {
            let blocks = store.range(table::AUDIT, &from, BLOCKS_AT_ONCE)?;
            let Some((last, _)) = blocks.last() else { return Ok(Progress::More) };
            from = [last.as_slice(), &[0]].concat();
            for (at, (key, block)) in blocks.iter().enumerate() {
                let first = first_of(key);
                let ends_before = blocks.get(at + 1).is_some_and(|(key, _)| {
                    first_of(key).is_some_and(|next_first| next_first <= self.next)
                });
                if ends_before {
                    continue;
                }
                let first = first.ok_or(AuditError::Missing { seq: self.next })?;
                if self.add_block(first, block)? == Progress::Full {
                    return Ok(Progress::Full);
                }
            }
        }
    }

    fn add_block(&mut self, first: u64, block: &[u8]) -> Result<Progress, AuditError> {
        let events = match split_audit_block(block) {
            Ok(events) => events,
            // What stands before it is given first.
            Err(_) if !self.events.is_empty() => {
                self.is_missing = true;
                return Ok(Progress::Full);
            }
            Err(source) => {
                return Err(AuditError::Unreadable { seq: first.max(self.next), source });
            }
        };
        for (seq, bytes) in (first..).zip(events) {
            if self.add(seq, bytes) == Progress::Full {
                break;
            }
        }
        Ok(self.progress())
    }

    fn end(self) -> Result<Vec<StoredEvent>, AuditError> {
        if self.is_missing && self.events.is_empty() {
            return Err(AuditError::Missing { seq: self.next });
        }
        Ok(self.events)
    }
}

/// How far blocks were let go of.
#[derive(Default)]
pub(crate) struct Pruned(Mutex<u64>);

impl Pruned {
    /// Forgets how far: the blocks are others now.
    pub(crate) fn reset(&self) {
        *self.0.lock() = 0;
    }

    /// Adds to a checkpoint's `rows` the removal of blocks that lie wholly at or below `floor`,
    /// and takes such blocks out of them. Some thousand blocks at a time: the next checkpoint goes
    /// on.
    pub(crate) fn let_go(
        &self,
        store: &StateStore,
        floor: u64,
        rows: &mut Vec<Row>,
    ) -> Result<(), ReadError> {
        let mut done = self.0.lock();
        if *done >= floor {
            return Ok(());
        }
        let is_block = |row: &&Row| row.table == table::AUDIT && row.value.is_some();
        let new: Vec<u64> =
            rows.iter().filter(is_block).filter_map(|it| first_of(&it.key)).collect();
        let mut gone: Vec<u64> = Vec::new();
        let mut firsts: Vec<u64> = Vec::new();
        let mut from = Vec::new();
        let is_done = loop {
            let blocks = store.range(table::AUDIT, &from, BLOCKS_AT_ONCE)?;
            let Some((last, _)) = blocks.last() else {
                firsts.extend(&new);
                break true;
            };
            from = [last.as_slice(), &[0]].concat();
            firsts.extend(blocks.iter().filter_map(|(key, _)| first_of(key)));
            if firsts.last().is_some_and(|first| *first > floor) {
                break true;
            }
            if firsts.len() >= BLOCKS_OF_A_CHECKPOINT {
                break false;
            }
        };
        // A block ends where the next begins; where the newest ends is not known here.
        gone.extend(
            firsts.windows(2).filter(|pair| pair[1] <= floor.saturating_add(1)).map(|pair| pair[0]),
        );
        rows.retain(|row| {
            row.table != table::AUDIT || !gone.iter().any(|it| row.key == key_of(*it))
        });
        rows.extend(gone.iter().map(|first| Row {
            table: table::AUDIT,
            key: key_of(*first),
            value: None,
        }));
        if is_done {
            *done = floor;
        }
        Ok(())
    }
}

fn first_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn key_of(first: u64) -> Vec<u8> {
    first.to_be_bytes().to_vec()
}

/// An event takes 40 bytes at least: the hash before it, its number, two clocks, actor and kind.
const MOST_EVENTS_OF_A_BLOCK: u64 = (lease::limits::MAX_BLOCK_BYTES / 40) as u64;
/// Blocks read at once; the store gives some 256 KiB at most.
const BLOCKS_AT_ONCE: usize = 64;
/// Blocks looked at by one checkpoint: 128 MiB, half a second or so.
const BLOCKS_OF_A_CHECKPOINT: usize = 4_096;
/// Bytes of events of one page.
const PAGE_BYTES: usize = 1024 * 1024;
const CHECKPOINT_FAILED: &str = "the last checkpoint failed, and this node is about to end";
