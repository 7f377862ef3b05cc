//! Bugs put in on purpose, to prove that the tests catch them.
//!
//! Only a build with the feature `planted` has any: there, [`plant`] chooses one for the process,
//! and [`is`] says at the place of the bug whether it is the one. In every other build `is` is
//! `false` for the compiler, and nothing of a bug is in the program.
//!
//! Here, in the lowest crate, so that every crate above can ask. `jepsen/RESULTS.md` has the table
//! of who catches which.

use crate::ledger::Ledger;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// The log acknowledges what it has written before the disk has it.
    AckBeforeFsync = 1,
    /// A vote is acknowledged before the disk has it.
    VoteNotSynced,
    /// A vote is written behind the appends that came after it.
    VoteAfterAppend,
    /// A follower answers reads from what it has applied.
    StaleRead,
    /// The leader's wall clock, where it is ahead of the cluster's, ends leases.
    ExpiredByWallClock,
    /// A new leader gives every lease its whole term back.
    ResetAtFailover,
    /// The lease clock is not in a snapshot.
    ClockNotInSnapshot,
    /// What was asked before is not in a snapshot.
    RequestsNotInSnapshot,
    /// A renewal token is good twice.
    TokenTwice,
    /// One seat more than bought, once commit seats are out and overage begins.
    OversoldByOne,
    /// A restored cluster goes on with the fences of the former epoch.
    FenceReused,
    /// The leader counts a peer that it cannot reach as having stored what it was sent.
    CommitOnMinority,
    /// A damaged record with good ones behind it is cut off as a torn end.
    DamageTakenForTorn,
    /// The seat of a borrowed lease is free before its token ends.
    BorrowFreedEarly,
    /// A node forgets at a restart whom it voted for.
    VoteNotRestored,
    /// A node that lost its disk takes part again under its number.
    WipedTakesPart,
    /// Time without a quorum counts as led time.
    LedWithoutQuorum,
    /// A key is the same request whoever uses it.
    KeyOfAnotherApp,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AckBeforeFsync,
        Self::VoteNotSynced,
        Self::VoteAfterAppend,
        Self::StaleRead,
        Self::ExpiredByWallClock,
        Self::ResetAtFailover,
        Self::ClockNotInSnapshot,
        Self::RequestsNotInSnapshot,
        Self::TokenTwice,
        Self::OversoldByOne,
        Self::FenceReused,
        Self::CommitOnMinority,
        Self::DamageTakenForTorn,
        Self::BorrowFreedEarly,
        Self::VoteNotRestored,
        Self::WipedTakesPart,
        Self::LedWithoutQuorum,
        Self::KeyOfAnotherApp,
    ];

    /// Its name on command lines and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeFsync => "ack-before-fsync",
            Self::VoteNotSynced => "vote-not-synced",
            Self::VoteAfterAppend => "vote-after-append",
            Self::StaleRead => "stale-read",
            Self::ExpiredByWallClock => "expired-by-wall-clock",
            Self::ResetAtFailover => "reset-at-failover",
            Self::ClockNotInSnapshot => "clock-not-in-snapshot",
            Self::RequestsNotInSnapshot => "requests-not-in-snapshot",
            Self::TokenTwice => "token-twice",
            Self::OversoldByOne => "oversold-by-one",
            Self::FenceReused => "fence-reused",
            Self::CommitOnMinority => "commit-on-minority",
            Self::DamageTakenForTorn => "damage-taken-for-torn",
            Self::BorrowFreedEarly => "borrow-freed-early",
            Self::VoteNotRestored => "vote-not-restored",
            Self::WipedTakesPart => "wiped-takes-part",
            Self::LedWithoutQuorum => "led-without-quorum",
            Self::KeyOfAnotherApp => "key-of-another-app",
        }
    }

    /// The bug of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

#[cfg(feature = "planted")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Chooses the bug of this process, `None`: none. Whether this build can have one.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) -> bool {
    let number = bug.map_or(0, |bug| bug as u8);
    PLANTED.store(number, std::sync::atomic::Ordering::SeqCst);
    true
}

/// Chooses nothing: this build cannot have a bug planted.
#[cfg(not(feature = "planted"))]
pub fn plant(_bug: Option<Bug>) -> bool {
    false
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
#[inline]
pub fn is(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether this bug is planted: in this build, none is.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

impl Ledger {
    /// A new leader's first entry was applied: nothing follows from it, unless
    /// [`Bug::ResetAtFailover`] is planted.
    pub fn leader_has_changed(&mut self) {
        if !is(Bug::ResetAtFailover) {
            return;
        }
        let led_ms = self.clock().led_ms;
        let live: Vec<_> = self.state.leases_after(None).map(|lease| lease.id()).collect();
        for id in live {
            let Some(lease) = self.state.lease(id) else { continue };
            let ttl_ms = self.state.at(lease.package()).terms().policy.lease_ttl_ms;
            let (renewed, sequence) = (lease.renewed_led_ms(), lease.sequence());
            self.state.renew_lease(id, renewed, led_ms.saturating_add(ttl_ms.into()), sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_bug_each() {
        for bug in Bug::ALL {
            assert_eq!(Bug::of_name(bug.name()), Some(bug));
            assert!(!is(bug), "{bug:?}");
        }
        assert_eq!(Bug::of_name("none"), None);
    }
}
