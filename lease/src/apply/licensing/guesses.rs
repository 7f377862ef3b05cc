//! What strangers try, counted: per address and in total, over windows of the lease clock.
//!
//! A key is found by its MAC, so how long a look-up takes tells nothing; what is left is to try,
//! and trying is what is bounded here. The count is replicated, so asking another node does not
//! help. Whoever is at a limit is refused alike whether the key was right or wrong, so that not
//! even a right key shows. Only who is known (a right key, and an activation in force under it) is
//! heard all the same: one that guesses behind an address keeps nobody from working who shares it.
//!
//! Keys, names of clusters in reports of use, trials and activations without a key are counted
//! apart: the row of an address is found by its tag, for the others by the tag with a constant
//! added. A report names a cluster and proves nothing, so clusters that report after they left must
//! not lock keys out. A window of another length than [`GUESS_WINDOW_MS`] is stored as if it had
//! begun when one of that length would have, so that all windows end alike.

use crate::ids::AddressTag;
use crate::ledger::Ledger;
use crate::license::GuessRow;
use crate::limits::{
    GUESS_WINDOW_MS, MAX_GUESS_ROWS, MAX_GUESSES, MAX_GUESSES_PER_ADDRESS, MAX_TRIALS_PER_ADDRESS,
    TRIAL_WINDOW_MS,
};
use crate::outcome::{Refusal, RefusalCode};

/// Stands for all addresses.
const ALL: AddressTag = AddressTag(0);

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// License keys, and ids of activations that prove as much.
    Key,
    /// Names of clusters in reports of use.
    Cluster,
    /// Trials; not wrong, but not to be had without end either.
    Trial,
    /// Activations without a key, likewise.
    Open,
}

/// What was found by what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Whoever shows it holds an activation in force under it.
    Known,
    /// It is there.
    Right,
    /// Nothing.
    Wrong,
}

impl Tried {
    /// The row that counts it for an address.
    fn row_of(self, address: AddressTag) -> AddressTag {
        let apart = match self {
            Self::Key => 0,
            Self::Cluster => CLUSTERS,
            Self::Trial => TRIALS,
            Self::Open => OPEN,
        };
        AddressTag(address.0 ^ apart)
    }
}

impl Ledger {
    /// Whether what was shown from this address counts, once that is settled; a wrong one is
    /// counted. When all addresses together are at their limit, the address goes on being counted.
    pub(super) fn may_try(
        &mut self,
        tried: Tried,
        address: AddressTag,
        found: Found,
    ) -> Result<(), Refusal> {
        if found == Found::Known {
            return Ok(());
        }
        let (own, all) = (tried.row_of(address), tried.row_of(ALL));
        if address != ALL {
            self.is_below(own, MAX_GUESSES_PER_ADDRESS)?;
        }
        let below_all = self.is_below(all, MAX_GUESSES);
        if found == Found::Wrong {
            if below_all.is_ok() {
                self.count(all, GUESS_WINDOW_MS);
            }
            if address != ALL {
                self.count(own, GUESS_WINDOW_MS);
            }
        }
        below_all
    }

    /// Whether one more trial, or activation without a key, may begin from this address.
    pub(super) fn may_begin(&self, tried: Tried, address: AddressTag) -> Result<(), Refusal> {
        if address == ALL {
            return Ok(());
        }
        self.is_below(tried.row_of(address), MAX_TRIALS_PER_ADDRESS)
    }

    /// Counts one that began.
    pub(super) fn count_begun(&mut self, tried: Tried, address: AddressTag) {
        if address != ALL {
            self.count(tried.row_of(address), TRIAL_WINDOW_MS);
        }
    }

    /// Forgets the windows that are over.
    pub(crate) fn forget_guesses(&mut self, led_ms: u64) {
        while let Some((since_led_ms, address)) = self.state.licensing().first_guess() {
            if since_led_ms.saturating_add(GUESS_WINDOW_MS) > led_ms {
                break;
            }
            self.state.forget_guess(address);
        }
    }

    fn is_below(&self, row: AddressTag, limit: u32) -> Result<(), Refusal> {
        let row = self.state.licensing().guesses().get(&row);
        let Some(row) = row.filter(|row| row.count >= limit) else { return Ok(()) };
        let clock = self.clock();
        let wait = row.since_led_ms.saturating_add(GUESS_WINDOW_MS).saturating_sub(clock.led_ms);
        let shown = i64::try_from(wait).unwrap_or(i64::MAX);
        Err(Refusal {
            retry_in_ms: Some(wait),
            available_at_ms: Some(clock.civil_ms.saturating_add(shown)),
            ..Refusal::new(RefusalCode::TooManyGuesses)
        })
    }

    /// Counts in a row's window, or in a new one of this length. The totals always have a row.
    fn count(&mut self, row: AddressTag, window_ms: u64) {
        let led_ms = self.clock().led_ms;
        let rows = self.state.licensing().guesses();
        let present = rows.get(&row).copied();
        if present.is_none() && rows.len() >= MAX_GUESS_ROWS && !is_total(row) {
            return;
        }
        let since_led_ms = led_ms.saturating_add(window_ms).saturating_sub(GUESS_WINDOW_MS);
        let mut counted = present.unwrap_or(GuessRow { since_led_ms, count: 0 });
        counted.count = counted.count.saturating_add(1);
        self.state.put_guess(row, counted);
    }
}

/// Whether a row counts what came from all addresses.
pub(crate) fn is_total(row: AddressTag) -> bool {
    [Tried::Key, Tried::Cluster].into_iter().any(|tried| tried.row_of(ALL) == row)
}

/// Added to the tags of addresses whose reports are counted. Any numbers will do: tags are MACs.
const CLUSTERS: u64 = 0x636c_7573_7465_7273;
/// Added to the tags of addresses whose trials are counted.
const TRIALS: u64 = 0x7472_6961_6c73_0001;
/// Added to the tags of addresses whose activations without a key are counted.
const OPEN: u64 = 0x6f70_656e_0000_0001;
