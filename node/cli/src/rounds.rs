//! Which server to ask next, and when to stop: failover as a plain state machine.
//!
//! Servers are asked in order. One that is not reached, or that says it cannot answer now, passes
//! the request on to the next. When a whole round brought no answer, another follows as long as at
//! least one server was there and only busy (an election takes less than a second), after the wait
//! that the servers asked for. When none was there at all, waiting would only hide it.
//!
//! Every attempt gets an equal part of the time that is left, so that one stalled node does not use
//! up all of it. Time is an argument: milliseconds since the verb began.

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this server and wait for it no longer than this.
    Try {
        /// Index among the servers.
        server: usize,
        /// Longest wait.
        budget_ms: u64,
    },
    /// Do nothing for so long.
    Wait {
        /// How long.
        ms: u64,
    },
    /// No answer in time.
    GiveUp,
}

/// The state of one call.
#[derive(Debug)]
pub(crate) struct Rounds {
    servers: usize,
    deadline_ms: u64,
    next: usize,
    busy_wait_ms: Option<u64>,
}

impl Rounds {
    /// A call to so many servers with so much time from zero.
    pub(crate) fn new(servers: usize, timeout_ms: u64) -> Self {
        Self { servers, deadline_ms: timeout_ms, next: 0, busy_wait_ms: None }
    }

    /// What to do now.
    pub(crate) fn step(&mut self, now_ms: u64) -> Step {
        let left_ms = self.deadline_ms.saturating_sub(now_ms);
        if left_ms == 0 {
            return Step::GiveUp;
        }
        if self.next < self.servers {
            let waiting = (self.servers - self.next) as u64;
            let server = self.next;
            self.next += 1;
            return Step::Try { server, budget_ms: (left_ms / waiting).max(1) };
        }
        match self.busy_wait_ms.take() {
            Some(ms) if ms < left_ms => {
                self.next = 0;
                Step::Wait { ms }
            }
            Some(_) | None => Step::GiveUp,
        }
    }

    /// The server asked last was there and cannot answer now.
    pub(crate) fn busy(&mut self, retry_after_ms: Option<u64>) {
        let wait_ms = retry_after_ms.unwrap_or(DEFAULT_WAIT_MS).max(MIN_WAIT_MS);
        let shortest_ms = self.busy_wait_ms.map_or(wait_ms, |other_ms| other_ms.min(wait_ms));
        self.busy_wait_ms = Some(shortest_ms);
    }
}

/// Wait after a round in which no server said how long.
const DEFAULT_WAIT_MS: u64 = 250;
/// Shortest wait between rounds, whatever the servers say.
const MIN_WAIT_MS: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server does: an answer ends the call.
    #[derive(Clone, Copy)]
    enum Server {
        Answers,
        Refuses,
        Hangs,
        Busy(Option<u64>),
        BusyUntil(u64),
    }
    use Server::{Answers, Busy, BusyUntil, Hangs, Refuses};

    /// Plays a call; gives the servers tried, the time it took and whether there was an answer.
    fn play(servers: &[Server], timeout_ms: u64) -> (Vec<usize>, u64, bool) {
        let mut rounds = Rounds::new(servers.len(), timeout_ms);
        let (mut now_ms, mut tried) = (0, Vec::new());
        loop {
            match rounds.step(now_ms) {
                Step::GiveUp => return (tried, now_ms, false),
                Step::Wait { ms } => now_ms += ms,
                Step::Try { server, budget_ms } => {
                    tried.push(server);
                    assert!(now_ms + budget_ms <= timeout_ms, "beyond the deadline");
                    match servers[server] {
                        Answers => return (tried, now_ms, true),
                        BusyUntil(ms) if now_ms >= ms => return (tried, now_ms, true),
                        Refuses => now_ms += 1,
                        Hangs => now_ms += budget_ms,
                        Busy(wait_ms) => rounds.busy(wait_ms),
                        BusyUntil(_) => rounds.busy(None),
                    }
                }
            }
        }
    }

    fn check(servers: &[Server], tried: &[usize], took_ms: u64, answered: bool) {
        assert_eq!(play(servers, 1_000), (tried.to_vec(), took_ms, answered));
    }

    #[test]
    fn the_first_that_answers_ends_the_call() {
        check(&[Answers, Answers], &[0], 0, true);
        check(&[Refuses, Refuses, Answers], &[0, 1, 2], 2, true);
        check(&[Busy(None), Answers], &[0, 1], 0, true);
    }

    #[test]
    fn nobody_there_is_said_at_once() {
        check(&[Refuses], &[0], 1, false);
        check(&[Refuses, Refuses, Refuses], &[0, 1, 2], 3, false);
    }

    #[test]
    fn a_stalled_server_gets_its_part_of_the_time_only() {
        check(&[Hangs, Answers], &[0, 1], 500, true);
        check(&[Hangs, Hangs, Answers], &[0, 1, 2], 666, true);
        check(&[Hangs], &[0], 1_000, false);
    }

    #[test]
    fn an_election_is_waited_for() {
        check(&[Refuses, BusyUntil(600)], &[0, 1, 0, 1, 0, 1, 0, 1], 754, true);
        check(&[Busy(Some(300)), Busy(Some(100)), BusyUntil(100)], &[0, 1, 2, 0, 1, 2], 100, true);
    }

    #[test]
    fn a_wait_longer_than_the_time_left_is_not_begun() {
        check(&[Busy(Some(5_000))], &[0], 0, false);
        check(&[Busy(Some(400))], &[0, 0, 0], 800, false);
        check(&[Busy(Some(0))], &[0; 20], 950, false);
    }
}
