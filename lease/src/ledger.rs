//! The ledger: entries in, outcomes out, rows to remember it by.
//!
//! `Ledger` is one value that every replica holds. It is changed by [`Ledger::apply_entry`] alone,
//! which is total, deterministic and synchronous: two ledgers that applied the same entries are
//! equal, whenever each was stored and loaded in between. What it stores leaves by
//! [`Ledger::begin_changes`] and comes back by [`Ledger::load_row`]; where to is for `storage`.
//!
//! No secret is ever looked into: what `PutSecret` carries is bytes that are stored and handed out
//! and that decide nothing, so a node that cannot open them holds the same rows and the same sum as
//! one that can (`tests/it/bounds.rs`: `what_is_sealed_decides_nothing`).

use crate::audit::{AuditHead, RecentEvents};
use crate::command::Command;
use crate::entry::{Entry, EntryHeader, MAX_COMMANDS_PER_ENTRY, Stamp};
use crate::ids::Group;
use crate::limits::LedgerLimits;
use crate::outcome::Outcome;
use crate::planted::{self, Bug};
use crate::record::Origin;
use crate::requests::Requests;
use crate::rows::{Changes, ClusterIdentity, LoadError, table};
use crate::state::{Loading, State};
use crate::sum::RowSum;

/// Changed rows that may wait to be summed: enough that a row which changes often is hashed seldom,
/// few enough that asking for the sum takes some milliseconds.
const UNSUMMED_ROWS: usize = 4096;
/// The group whose log this build applies.
const GROUP: Group = 0;
/// The epoch that a cluster is founded with.
const FIRST_EPOCH: u32 = 1;

/// The rules and everything they remember.
#[derive(Debug)]
pub struct Ledger {
    pub(crate) state: State,
    pub(crate) requests: Requests,
    pub(crate) recent: RecentEvents,
    pub(crate) limits: LedgerLimits,
    loading: Option<Box<Loading>>,
}

/// When a `Tick` has something to do: the first led and the first civil millisecond at which
/// something is due. A time in the past means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// By the lease clock.
    pub led_ms: Option<u64>,
    /// By the civil clock.
    pub civil_ms: Option<i64>,
}

/// An obstacle outside the rules: the entry does not belong here. The replica must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Entries come in ascending order of index.
    #[error("entry {index} comes after {applied}")]
    Index {
        /// Index of the entry.
        index: u64,
        /// Index of the last one applied.
        applied: u64,
    },
    /// An entry of another group's log.
    #[error("entry {index} belongs to group {group}")]
    Group {
        /// Index of the entry.
        index: u64,
        /// Its group.
        group: Group,
    },
    /// An entry of another epoch, or of a fork of this cluster.
    #[error("entry {index} belongs to epoch {epoch}, incarnation {incarnation:016x}")]
    Epoch {
        /// Index of the entry.
        index: u64,
        /// Its epoch.
        epoch: u32,
        /// Its incarnation.
        incarnation: u64,
    },
    /// A new epoch is opened by an entry of its own, under the identity of the one before.
    #[error("entry {index} opens an epoch and does more")]
    NotAlone {
        /// Index of the entry.
        index: u64,
    },
    /// More commands than one entry may hold.
    #[error("entry {index} holds {commands} commands")]
    TooManyCommands {
        /// Index of the entry.
        index: u64,
        /// How many it holds.
        commands: usize,
    },
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// A ledger in which nothing has happened.
    pub fn new() -> Self {
        Self::with_limits(LedgerLimits::PRODUCTION)
    }

    /// A ledger with other bounds, for tests. All replicas must have the same.
    pub fn with_limits(limits: LedgerLimits) -> Self {
        Self {
            state: State::default(),
            requests: Requests::default(),
            recent: RecentEvents::default(),
            limits,
            loading: None,
        }
    }

    /// Applies one entry: time first, then each command; one outcome per command, in order.
    ///
    /// # Errors
    /// When the entry does not belong here; then nothing was changed. An entry proposed before its
    /// proposer knew of the founding has epoch and incarnation 0 and is accepted until another
    /// epoch than the first is opened.
    pub fn apply_entry(&mut self, index: u64, entry: &Entry) -> Result<Vec<Outcome>, ApplyError> {
        self.belongs_here(index, entry)?;
        self.move_clocks(index, &entry.header);
        // What the state of a former epoch knows is not ended before it gets its term anew.
        if !opens_epoch(entry) {
            self.sweep(&Origin::time(entry.header.origin));
        }
        let outcomes = (0_u16..)
            .zip(&entry.commands)
            .map(|(position, envelope)| {
                self.apply_command(index, position, &entry.header, envelope)
            })
            .collect();
        let meta = self.state.meta_mut();
        meta.request_first = self.requests.first();
        meta.request_next = self.requests.next();
        self.state.settle(UNSUMMED_ROWS);
        self.requests.settle(UNSUMMED_ROWS as u64);
        Ok(outcomes)
    }

    /// Both clocks.
    pub fn clock(&self) -> Stamp {
        self.state.meta().clock
    }

    /// Index of the last entry applied; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.state.meta().applied_index
    }

    /// Who the cluster is, once founded.
    pub fn cluster(&self) -> Option<&ClusterIdentity> {
        self.state.meta().cluster.as_ref()
    }

    /// When a `Tick` has something to do.
    pub fn next_due(&self) -> Due {
        let own = self.state.first_not_after().map(|(at, _)| at.saturating_add(1));
        let civil = self.state.first_civil_due();
        let led = self.state.first_led_due().map(|(at, _)| at);
        // Nothing happens when a held lease's end comes, but until then the lease clock counts.
        let held = self.state.offline().next_led_end(self.clock().led_ms);
        Due {
            led_ms: led.into_iter().chain(held).min(),
            civil_ms: own.into_iter().chain(civil).chain(self.licenses_due()).min(),
        }
    }

    /// The newest audit event.
    pub fn audit_head(&self) -> AuditHead {
        self.state.meta().audit
    }

    /// The newest index and sum on which a majority of voters agreed.
    pub fn agreed_sum(&self) -> Option<(u64, [u8; 32])> {
        self.state.meta().agreed_sum
    }

    /// Everything that changed since this was last called, at once: [`Self::begin_changes`] and
    /// [`Self::take_more`] until there is no more.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = self.begin_changes();
        while self.take_more(&mut changes, usize::MAX) {}
        changes
    }

    /// Begins to take what has changed since this was last called, as it is now: entries may be
    /// applied before [`Self::take_more`] has taken all of it. Audit events leave memory with it;
    /// ended requests are kept until they are forgotten.
    pub fn begin_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        // What an earlier taking left, if it was given up, is taken now.
        while self.take_more(&mut changes, usize::MAX) {}
        self.state.settle(0);
        self.state.begin_taking(&mut changes);
        changes.events = self.recent.take();
        changes.requests = self.requests.take(&mut changes.rows);
        changes
    }

    /// Takes up to so many rows of what [`Self::begin_changes`] began; whether there are more.
    pub fn take_more(&mut self, changes: &mut Changes, most: usize) -> bool {
        self.state.take_some(changes, most)
    }

    /// Takes a stored row back in; rows come table by table in ascending order. Blocks of audit
    /// events are not held in memory and may be left out.
    ///
    /// # Errors
    /// When the row is not one this build wrote.
    pub fn load_row(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        self.load_summed_row(table, key, value, &RowSum::of(table, key, value))
    }

    /// The same for a row whose sum is known already, since hashing is a good part of the work.
    ///
    /// # Errors
    /// When the row is not one this build wrote.
    pub fn load_summed_row(
        &mut self,
        table: u8,
        key: &[u8],
        value: &[u8],
        sum: &RowSum,
    ) -> Result<(), LoadError> {
        let loading = self.loading.get_or_insert_default();
        match table {
            table::AUDIT => Ok(()),
            table::REQUEST => self.requests.load(key, value),
            table => {
                self.state.load(loading, table, key, value)?;
                self.state.add_to_sum(sum);
                Ok(())
            }
        }
    }

    /// Ends loading and checks what can be checked cheaply.
    ///
    /// # Errors
    /// When rows are missing or break a rule together.
    pub fn finish_load(&mut self) -> Result<(), LoadError> {
        let loading = self.loading.take().unwrap_or_default();
        self.state.finish_load(*loading)?;
        let meta = self.state.meta();
        let (first, next) = (meta.request_first, meta.request_next);
        self.requests.finish_load(first, next, meta.clock.led_ms)?;
        crate::invariants::check_loaded(self)?;
        if planted::is(Bug::ClockNotInSnapshot) {
            self.state.meta_mut().clock = Stamp::default();
        }
        if planted::is(Bug::RequestsNotInSnapshot) {
            self.requests.forget(u64::MAX);
        }
        Ok(())
    }

    /// Sum over all rows: equal on replicas at equal index, whatever each stored and loaded.
    /// Blocks do not count; the audit chain's head and each remembered request do.
    pub fn state_sum(&mut self) -> [u8; 32] {
        let mut sum = self.state.sum();
        sum.add_sum(&self.requests.sum());
        sum.to_bytes()
    }

    fn belongs_here(&self, index: u64, entry: &Entry) -> Result<(), ApplyError> {
        let EntryHeader { group, epoch, incarnation, .. } = entry.header;
        let applied = self.applied_index();
        if index <= applied {
            return Err(ApplyError::Index { index, applied });
        }
        if group != GROUP {
            return Err(ApplyError::Group { index, group });
        }
        let opens = opens_epoch(entry);
        let first = self.cluster().is_none_or(|own| own.epoch <= FIRST_EPOCH);
        let unfounded = epoch == 0 && incarnation == 0 && first && !opens;
        let ours =
            self.cluster().is_none_or(|own| own.epoch == epoch && own.incarnation == incarnation);
        if !(ours || unfounded) {
            return Err(ApplyError::Epoch { index, epoch, incarnation });
        }
        if opens && entry.commands.len() != 1 {
            return Err(ApplyError::NotAlone { index });
        }
        let commands = entry.commands.len();
        if commands > MAX_COMMANDS_PER_ENTRY {
            return Err(ApplyError::TooManyCommands { index, commands });
        }
        Ok(())
    }
}

fn opens_epoch(entry: &Entry) -> bool {
    entry.commands.iter().any(|envelope| matches!(envelope.command, Command::OpenEpoch(_)))
}
