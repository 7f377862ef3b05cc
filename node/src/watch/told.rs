//! What a node has proposed about its alarms, and when it may say the same again.
//!
//! A node whose disk is full applies nothing, so that its own ledger never shows the alarm that it
//! raised. What it said itself counts therefore as well: the same word is repeated after
//! [`REPEAT_EVERY_NS`] at the earliest, and a new measured value of an alarm that stands after
//! [`DETAIL_EVERY_NS`]. The opposite may be said at once.

use std::collections::BTreeMap;

use lease::ids::NodeId;
use lease::operate::AlarmKind;

/// What was said of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Raise,
    Clear,
}

/// The last word on each alarm, and the monotonic time of it.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<(NodeId, AlarmKind), (Word, u64)>);

impl Told {
    /// Whether a word may be said, where the same one is repeated this seldom.
    pub(crate) fn is_due(
        &self,
        key: (NodeId, AlarmKind),
        word: Word,
        now_ns: u64,
        every_ns: u64,
    ) -> bool {
        self.0
            .get(&key)
            .is_none_or(|(said, at_ns)| *said != word || now_ns.saturating_sub(*at_ns) >= every_ns)
    }

    /// Notes a word; whether it is another than the one before.
    pub(crate) fn say(&mut self, key: (NodeId, AlarmKind), word: Word, now_ns: u64) -> bool {
        let before = self.0.insert(key, (word, now_ns));
        before.is_none_or(|(said, _)| said != word)
    }
}

/// A word that did not arrive, or that this node's ledger cannot show.
pub(crate) const REPEAT_EVERY_NS: u64 = 10 * 1_000_000_000;
/// Measured values change all the time; an entry of the log for each would fill it.
pub(crate) const DETAIL_EVERY_NS: u64 = 60 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_word_is_seldom_repeated_and_the_opposite_is_said_at_once() {
        const S: u64 = 1_000_000_000;
        let key = (2, AlarmKind::NoSpace);
        let mut told = Told::default();
        // At what second, which word, whether it is due, and whether it is new when said.
        for (at_s, word, due, new) in [
            (100, Word::Raise, true, true),
            (101, Word::Raise, false, false),
            (109, Word::Raise, false, false),
            (110, Word::Raise, true, false),
            (111, Word::Clear, true, true),
            (112, Word::Clear, false, false),
            (113, Word::Raise, true, true),
            (122, Word::Raise, false, false),
            (123, Word::Raise, true, false),
        ] {
            assert_eq!(told.is_due(key, word, at_s * S, REPEAT_EVERY_NS), due, "{at_s}");
            if due {
                assert_eq!(told.say(key, word, at_s * S), new, "{at_s}");
            }
        }
        assert!(told.is_due((3, AlarmKind::NoSpace), Word::Raise, 0, REPEAT_EVERY_NS));
    }
}
