//! Which leases changed: since the last checkpoint, and since the sum was last brought up to date.
//!
//! The same two questions as `dirty` answers for other rows, of which there are few; a million
//! leases carry their marks themselves, and lists name the slots that bear one. A slot may be free
//! or another lease's by the time its turn comes, and it may be named twice: the mark decides.

use std::collections::VecDeque;

use crate::ids::LeaseId;

use super::lease::Lease;

/// Where a lease's row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// When it last changed; `None`: the last checkpoint has it as it is.
    changed: Option<Turn>,
    /// Whether the last checkpoint has a row of it.
    is_stored: bool,
    /// Whether its present bytes are in the sum.
    is_summed: bool,
}

impl Standing {
    /// Of a row that came from the store and was summed on the way.
    pub(super) const LOADED: Self = Self { changed: None, is_stored: true, is_summed: true };
}

/// Whether something changed since the last checkpoint began or before. They take turns: what is of
/// the other turn than the present one belongs to a checkpoint that has not taken it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    #[default]
    Even,
    Odd,
}

/// Marks of all leases.
#[derive(Debug, Default)]
pub(super) struct LeaseMarks {
    turn: Turn,
    /// Slots of what changed in this turn.
    changed: Vec<u32>,
    /// Slots of what changed in the turn before and is still to be taken.
    pending: Vec<u32>,
    /// Leases that changed before they were taken, as they were.
    saved: Vec<Lease>,
    /// Rows of the last checkpoint whose leases have ended.
    gone: Vec<LeaseId>,
    unsummed: VecDeque<u32>,
}

impl LeaseMarks {
    /// Marks a lease that is about to come into a slot.
    pub(super) fn come(&mut self, slot: u32, lease: &mut Lease) {
        let changed = Some(self.turn);
        lease.standing = Standing { changed, is_stored: false, is_summed: false };
        self.changed.push(slot);
        self.unsummed.push_back(slot);
    }

    /// Marks a lease that is about to change; whether its present bytes must leave the sum.
    pub(super) fn touch(&mut self, slot: u32, lease: &mut Lease) -> bool {
        if lease.standing.changed != Some(self.turn) {
            if lease.standing.changed.is_some() {
                self.saved.push(lease.clone());
                lease.standing.is_stored = true;
            }
            lease.standing.changed = Some(self.turn);
            self.changed.push(slot);
        }
        let must_leave = std::mem::replace(&mut lease.standing.is_summed, false);
        if must_leave {
            self.unsummed.push_back(slot);
        }
        must_leave
    }

    /// Notes that a lease, marked before, is no more.
    pub(super) fn go(&mut self, lease: &Lease) {
        if lease.standing.is_stored {
            self.gone.push(lease.id());
        }
    }

    /// The slot that has waited longest to come into the sum, while more than `keep` wait.
    pub(super) fn settle_next(&mut self, keep: usize) -> Option<u32> {
        if self.unsummed.len() <= keep {
            return None;
        }
        self.unsummed.pop_front()
    }

    /// Notes that a lease comes into the sum; whether it is not there yet.
    pub(super) fn settle(lease: &mut Lease) -> bool {
        !std::mem::replace(&mut lease.standing.is_summed, true)
    }

    /// Fixes what a checkpoint takes; gives the rows that it removes. Everything that the one
    /// before was to take must have been taken.
    pub(super) fn begin(&mut self) -> Vec<LeaseId> {
        self.turn = match self.turn {
            Turn::Even => Turn::Odd,
            Turn::Odd => Turn::Even,
        };
        self.pending = std::mem::take(&mut self.changed);
        std::mem::take(&mut self.gone)
    }

    /// The next slot to look into for the checkpoint that was begun.
    pub(super) fn take_next(&mut self) -> Option<u32> {
        self.pending.pop()
    }

    /// A lease that is the checkpoint's to take, as it is taken.
    pub(super) fn take(&self, lease: &mut Lease) -> Option<Lease> {
        if lease.standing.changed.is_none_or(|turn| turn == self.turn) {
            return None;
        }
        lease.standing = Standing { changed: None, is_stored: true, ..lease.standing };
        Some(lease.clone())
    }

    /// Leases that changed before they were taken, as they were.
    pub(super) fn take_saved(&mut self) -> Vec<Lease> {
        std::mem::take(&mut self.saved)
    }
}
