//! Wrong keys, counted: per address and in total, over windows of the lease clock.
//!
//! A key is found by its MAC, so how long a look-up takes tells nothing; what is left is to try,
//! and trying is what is bounded here. The count is replicated, so asking another node does not
//! help. Whoever is at the limit is refused before the look-up, so that not even a right key shows.

use crate::ids::AddressTag;
use crate::ledger::Ledger;
use crate::license::GuessRow;
use crate::limits::{GUESS_WINDOW_MS, MAX_GUESS_ROWS, MAX_GUESSES, MAX_GUESSES_PER_ADDRESS};
use crate::outcome::{Refusal, RefusalCode};

/// Stands for all addresses.
const ALL: AddressTag = AddressTag(0);

impl Ledger {
    /// Whether a key from this address is looked at. When wrong keys from all addresses are at
    /// their limit, only who is `known` to hold an activation in force still is.
    pub(super) fn may_guess(&self, address: AddressTag, known: bool) -> Result<(), Refusal> {
        if address != ALL {
            self.is_below(address, MAX_GUESSES_PER_ADDRESS)?;
        }
        if known { Ok(()) } else { self.is_below(ALL, MAX_GUESSES) }
    }

    /// Counts a wrong key.
    pub(super) fn count_guess(&mut self, address: AddressTag) {
        self.count_guess_of(ALL);
        let guesses = self.state.licensing().guesses();
        if address != ALL && (guesses.contains_key(&address) || guesses.len() < MAX_GUESS_ROWS) {
            self.count_guess_of(address);
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

    fn is_below(&self, address: AddressTag, limit: u32) -> Result<(), Refusal> {
        let row = self.state.licensing().guesses().get(&address);
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

    fn count_guess_of(&mut self, address: AddressTag) {
        let led_ms = self.clock().led_ms;
        let known = self.state.licensing().guesses().get(&address).copied();
        let mut row = known.unwrap_or(GuessRow { since_led_ms: led_ms, count: 0 });
        row.count = row.count.saturating_add(1);
        self.state.put_guess(address, row);
    }
}
