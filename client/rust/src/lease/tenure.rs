//! How long a lease is one's own: the arithmetic of its end. Pure; the time is an argument.
//!
//! The end is `expires_in_ms` after the answer's request was *sent*: the server began to count
//! later, so the holder never believes longer than the server does. The latest answer counts. An
//! answer that arrives after the end changes nothing: the host may have seen `Lost` already.

use std::time::Duration;

use crate::denied::system_time;
use crate::environment::{Stamp, nanoseconds};
use crate::verdict::{GraceReason, LostReason, Verdict};

/// What an answer grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// When the request was sent.
    pub(crate) sent: Stamp,
    /// How long from then.
    pub(crate) expires_in: Duration,
    /// How often the server wants to hear.
    pub(crate) interval: Duration,
}

/// The state of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tenure {
    term: Term,
    /// Until here it is good without any server.
    borrowed_until_ns: Option<u64>,
    trouble: Option<GraceReason>,
    lost: Option<LostReason>,
}

impl Tenure {
    /// A lease that was granted.
    pub(crate) fn new(term: Term) -> Self {
        Self { term, borrowed_until_ns: None, trouble: None, lost: None }
    }

    /// A lease that an earlier run had borrowed: good to its end without any server.
    pub(crate) fn borrowed_before(term: Term) -> Self {
        let mut tenure = Self::new(term);
        tenure.borrowed_until_ns = Some(tenure.term_ends_ns());
        tenure
    }

    /// What the host may do now.
    pub(crate) fn verdict(&mut self, now_ns: u64) -> Verdict {
        if now_ns >= self.ends_ns() {
            self.lose(LostReason::Expired { why: self.trouble });
        }
        match (&self.lost, self.trouble) {
            (Some(reason), _) => Verdict::Lost { reason: reason.clone() },
            (None, Some(why)) if !self.is_borrowed(now_ns) => {
                Verdict::Grace { until: system_time(self.ends_wall_ms()), why }
            }
            (None, _) => Verdict::Held,
        }
    }

    /// It was renewed. `false` when that came too late.
    pub(crate) fn renewed(&mut self, now_ns: u64, term: Term) -> bool {
        if !self.verdict(now_ns).permits_use() {
            return false;
        }
        self.term = term;
        self.trouble = None;
        self.verdict(now_ns).permits_use()
    }

    /// It was borrowed: good without any server for so long from the sending.
    pub(crate) fn borrowed(&mut self, now_ns: u64, term: Term, borrowed_for: Duration) -> bool {
        let is_in_time = self.renewed(now_ns, term);
        if is_in_time {
            self.borrowed_until_ns = Some(term.sent.ns.saturating_add(nanoseconds(borrowed_for)));
        }
        is_in_time
    }

    /// The borrow was given back, the lease lives on.
    pub(crate) fn no_longer_borrowed(&mut self) {
        self.borrowed_until_ns = None;
    }

    /// It could not be renewed.
    pub(crate) fn troubled(&mut self, why: GraceReason) {
        self.trouble = Some(why);
    }

    /// It is no longer ours. The first reason stays.
    pub(crate) fn lose(&mut self, reason: LostReason) {
        self.lost.get_or_insert(reason);
    }

    /// Whether it is good without any server now.
    pub(crate) fn is_borrowed(&self, now_ns: u64) -> bool {
        self.borrowed_until_ns.is_some_and(|until_ns| now_ns < until_ns)
    }

    /// What is left of it; nothing when it is lost.
    pub(crate) fn remaining(&mut self, now_ns: u64) -> Duration {
        if self.verdict(now_ns).permits_use() {
            Duration::from_nanos(self.ends_ns().saturating_sub(now_ns))
        } else {
            Duration::ZERO
        }
    }

    /// When it ends, on the monotonic clock: not before the end of a borrow, for which the seat
    /// stays taken whatever a renewal in between says.
    pub(crate) fn ends_ns(&self) -> u64 {
        self.term_ends_ns().max(self.borrowed_until_ns.unwrap_or(0))
    }

    fn term_ends_ns(&self) -> u64 {
        self.term.sent.ns.saturating_add(nanoseconds(self.term.expires_in))
    }

    /// When it ends, by the wall clock as it was when the request was sent.
    fn ends_wall_ms(&self) -> i64 {
        let sent = self.term.sent;
        let from_sending_ms = self.ends_ns().saturating_sub(sent.ns) / 1_000_000;
        sent.wall_ms.saturating_add(i64::try_from(from_sending_ms).unwrap_or(i64::MAX))
    }

    /// How often to renew: at a third of the term, or more often where the server says so; never
    /// more often than a thirtieth.
    pub(crate) fn interval(&self) -> Duration {
        let Term { expires_in, interval, .. } = self.term;
        interval.min(expires_in / 3).max(expires_in / 30)
    }

    /// When to renew next, on the monotonic clock: within the last fifth of the interval, by
    /// `random`, so that those who came together do not stay together.
    pub(crate) fn renew_at_ns(&self, random: u64) -> u64 {
        let interval = self.interval();
        let wait = interval - crate::transport::retry::part(interval / 5, random);
        self.term.sent.ns.saturating_add(nanoseconds(wait))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(sent_s: u64, expires_in_s: u64) -> Term {
        let wall_ms = i64::try_from(sent_s).unwrap() * 1_000 + 1_700_000_000_000;
        Term {
            sent: Stamp { ns: sent_s * 1_000_000_000, wall_ms },
            expires_in: Duration::from_secs(expires_in_s),
            interval: Duration::from_secs(expires_in_s) / 3,
        }
    }

    fn ns(seconds: u64) -> u64 {
        seconds * 1_000_000_000
    }

    const EXPIRED: Verdict = Verdict::Lost { reason: LostReason::Expired { why: None } };

    #[test]
    fn the_end_is_counted_from_the_sending() {
        let mut tenure = Tenure::new(term(100, 900));
        assert_eq!(tenure.verdict(ns(1_000) - 1), Verdict::Held);
        assert_eq!(tenure.remaining(ns(999)), Duration::from_secs(1));
        assert_eq!(tenure.verdict(ns(1_000)), EXPIRED);
        assert_eq!(tenure.remaining(ns(1_000)), Duration::ZERO);
        // Lost is final, even were the clock to go back.
        assert_eq!(tenure.verdict(ns(100)), EXPIRED);
    }

    #[test]
    fn trouble_is_grace_until_the_end_and_a_renewal_ends_it() {
        let mut tenure = Tenure::new(term(0, 900));
        tenure.troubled(GraceReason::Unreachable);
        let until = system_time(1_700_000_900_000);
        let grace = Verdict::Grace { until, why: GraceReason::Unreachable };
        assert_eq!(tenure.verdict(ns(899)), grace);
        assert!(tenure.renewed(ns(899), term(898, 900)));
        assert_eq!(tenure.verdict(ns(1_797)), Verdict::Held);
        tenure.troubled(GraceReason::Unauthorized);
        let reason = LostReason::Expired { why: Some(GraceReason::Unauthorized) };
        assert_eq!(tenure.verdict(ns(1_798)), Verdict::Lost { reason });
    }

    #[test]
    fn an_answer_after_the_end_comes_too_late() {
        let mut tenure = Tenure::new(term(0, 900));
        assert!(!tenure.renewed(ns(901), term(899, 900)));
        assert_eq!(tenure.verdict(ns(901)), EXPIRED);
        // As does one that grants less than the time it took.
        let mut tenure = Tenure::new(term(0, 900));
        assert!(!tenure.renewed(ns(800), term(700, 50)));
    }

    #[test]
    fn a_borrowed_lease_is_held_without_any_server_to_its_end() {
        let mut tenure = Tenure::new(term(0, 900));
        assert!(tenure.borrowed(ns(10), term(9, 3_700), Duration::from_secs(3_600)));
        tenure.troubled(GraceReason::Unreachable);
        assert_eq!(tenure.verdict(ns(3_608)), Verdict::Held);
        // The lease may outlive the borrow by a little, as any other.
        assert!(matches!(tenure.verdict(ns(3_609)), Verdict::Grace { .. }));
        assert!(!tenure.verdict(ns(3_709)).permits_use());
    }

    #[test]
    fn a_renewal_does_not_shorten_a_borrow_and_its_return_does() {
        let mut tenure = Tenure::borrowed_before(term(0, 3_600));
        assert!(tenure.renewed(ns(10), term(9, 900)));
        tenure.troubled(GraceReason::Unreachable);
        assert_eq!(tenure.verdict(ns(3_599)), Verdict::Held);
        assert_eq!(tenure.remaining(ns(3_599)), Duration::from_secs(1));
        tenure.no_longer_borrowed();
        assert!(!tenure.verdict(ns(3_599)).permits_use());
    }

    #[test]
    fn a_renewal_is_due_at_a_third_of_the_term_or_before() {
        let mut given = term(0, 900);
        let due = |given: Term, random| Tenure::new(given).renew_at_ns(random);
        assert_eq!((due(given, 0), due(given, u64::MAX)), (ns(300), ns(240)));
        given.interval = Duration::from_secs(60);
        assert_eq!(due(given, 0), ns(60));
        given.interval = Duration::from_secs(600);
        assert_eq!(due(given, 0), ns(300));
        given.interval = Duration::ZERO;
        assert_eq!(due(given, 0), ns(30));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Passes(u64),
        Renewed { took: u64, expires_in: u64 },
        Borrowed { took: u64, expires_in: u64 },
        Troubled,
        BorrowEnds,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            (0_u64..400).prop_map(Event::Passes),
            (0_u64..400, 0_u64..2_000)
                .prop_map(|(took, expires_in)| Event::Renewed { took, expires_in }),
            (0_u64..400, 0_u64..9_000)
                .prop_map(|(took, expires_in)| Event::Borrowed { took, expires_in }),
            Just(Event::Troubled),
            Just(Event::BorrowEnds),
        ];
        prop::collection::vec(event, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn nobody_holds_beyond_what_was_granted_and_lost_is_final(events in events()) {
            let mut now = 0;
            let mut tenure = Tenure::new(term(0, 900));
            // The latest end that any answer granted: sent plus what it said.
            let mut latest_end = 900;
            let mut was_lost = false;
            for event in events {
                match event {
                    Event::Passes(seconds) => now += seconds,
                    Event::Renewed { took, expires_in } => {
                        now += took;
                        latest_end = latest_end.max(now - took + expires_in);
                        tenure.renewed(ns(now), term(now - took, expires_in));
                    }
                    Event::Borrowed { took, expires_in } => {
                        now += took;
                        latest_end = latest_end.max(now - took + expires_in);
                        let borrowed_for = Duration::from_secs(expires_in);
                        let term = term(now - took, expires_in / 2);
                        tenure.borrowed(ns(now), term, borrowed_for);
                    }
                    Event::Troubled => tenure.troubled(GraceReason::Unreachable),
                    Event::BorrowEnds => tenure.no_longer_borrowed(),
                }
                let permits = tenure.verdict(ns(now)).permits_use();
                prop_assert!(!permits || now < latest_end, "{now} {latest_end}");
                prop_assert!(!(was_lost && permits), "lost is final");
                was_lost |= !permits;
            }
        }
    }
}
