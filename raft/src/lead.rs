//! What this node knows because it leads: its peers' acknowledgements, clocks and sums.
//!
//! All of it belongs to one term and is forgotten with it. The network feeds it with every answer,
//! before the term's blank entry is applied and after; `conduct` starts the clocks, and the
//! proposer takes its stamps here.

use std::collections::BTreeSet;

use lease::entry::Stamp;
use lease::ids::NodeId;
use parking_lot::Mutex;

use crate::clock::{Acknowledgement, LeaderClock, Reading};
use crate::frames::StateSum;
use crate::integrity::{Ballot, Verdict};
use crate::status::Alarm;

/// The state of this node's leadership.
pub(crate) struct Lead {
    own: NodeId,
    ack_lifetime_ns: u64,
    term: Mutex<Term>,
}

struct Term {
    number: u64,
    voters: Vec<BTreeSet<NodeId>>,
    clock: LeaderClock,
    ballot: Ballot,
}

impl Lead {
    /// Nothing known yet. `election_max_ms` is how long an acknowledgement lasts.
    pub(crate) fn new(own: NodeId, election_max_ms: u64) -> Self {
        let ack_lifetime_ns = election_max_ms * 1_000_000;
        let term = Term {
            number: 0,
            voters: Vec::new(),
            clock: LeaderClock::new(own, ack_lifetime_ns),
            ballot: Ballot::default(),
        };
        Self { own, ack_lifetime_ns, term: Mutex::new(term) }
    }

    /// Sets who votes from now on.
    pub(crate) fn set_voters(&self, voters: Vec<BTreeSet<NodeId>>, now_ns: u64) {
        let mut term = self.term.lock();
        term.voters.clone_from(&voters);
        term.clock.set_voters(voters, now_ns);
    }

    /// A peer followed this node as the leader of `term`.
    pub(crate) fn acknowledge(
        &self,
        term: u64,
        peer: NodeId,
        ack: Acknowledgement,
        sum: Option<StateSum>,
    ) {
        let Some(mut of_term) = self.of_term(term) else { return };
        of_term.clock.acknowledge(peer, ack);
        if let Some(sum) = sum {
            of_term.ballot.report(peer, sum);
        }
    }

    /// Starts the clocks of a term from those in the ledger.
    pub(crate) fn start(&self, term: u64, own: Reading, ledger: Stamp) {
        if let Some(mut of_term) = self.of_term(term) {
            of_term.clock.start(own, ledger);
        }
    }

    /// This node's own acknowledgement of its leadership, at every heartbeat.
    pub(crate) fn beat(&self, term: u64, now_ns: u64) {
        if let Some(mut of_term) = self.of_term(term) {
            of_term.clock.beat(now_ns);
        }
    }

    /// The clocks for an entry of `term`; `None` when nothing may be proposed.
    pub(crate) fn stamp(&self, term: u64, own: Reading) -> Option<Stamp> {
        self.of_term(term)?.clock.stamp(own)
    }

    /// Age of the newest acknowledgement by a quorum in milliseconds.
    pub(crate) fn quorum_ack_age_ms(&self, term: u64, now_ns: u64) -> Option<u64> {
        let acked_ns = self.of_term(term)?.clock.quorum_acked_ns()?;
        Some(now_ns.saturating_sub(acked_ns) / 1_000_000)
    }

    /// Age of a peer's acknowledgement and offset of its wall clock, milliseconds.
    pub(crate) fn peer(&self, term: u64, peer: NodeId, own: Reading) -> Option<(u64, i64)> {
        self.of_term(term)?.clock.peer(peer, own)
    }

    /// Whether a peer's state was what a majority has, when it was last compared in this term.
    pub(crate) fn agrees(&self, term: u64, peer: NodeId) -> Option<bool> {
        self.of_term(term)?.ballot.agrees(peer)
    }

    /// Whether this node's clock is too far off to lead by.
    pub(crate) fn is_off(&self, term: u64) -> bool {
        self.of_term(term).is_some_and(|term| term.clock.is_off())
    }

    /// What is wrong with the clocks of a term.
    pub(crate) fn alarms(&self, term: u64) -> Vec<Alarm> {
        self.of_term(term).map(|term| term.clock.alarms().collect()).unwrap_or_default()
    }

    /// Adds this node's own sum, and tells what the voters agree on.
    pub(crate) fn decide(&self, term: u64, own: Option<StateSum>, now_ns: u64) -> Option<Verdict> {
        let mut of_term = self.of_term(term)?;
        if let Some(own_sum) = own {
            of_term.ballot.report(self.own, own_sum);
        }
        let voters: BTreeSet<NodeId> = of_term.voters.iter().flatten().copied().collect();
        let is_heard = |it: &&NodeId| **it == self.own || of_term.clock.hears(**it, now_ns);
        let heard = voters.iter().filter(is_heard).copied().collect();
        of_term.ballot.decide(&voters, &heard)
    }

    /// The state of a term; that of an earlier one is forgotten, a later one is kept.
    fn of_term(&self, number: u64) -> Option<parking_lot::MutexGuard<'_, Term>> {
        let mut term = self.term.lock();
        if number < term.number {
            return None;
        }
        if number > term.number {
            let mut clock = LeaderClock::new(self.own, self.ack_lifetime_ns);
            clock.set_voters(term.voters.clone(), 0);
            let voters = std::mem::take(&mut term.voters);
            *term = Term { number, voters, clock, ballot: Ballot::default() };
        }
        Some(term)
    }
}
