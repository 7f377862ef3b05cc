//! What applications and operators asked and were told, and what the nodes' audit logs say.

use std::collections::{BTreeMap, BTreeSet};

use lease::audit::AuditEvent;
use lease::ids::{LeaseId, NodeId};

/// All of it.
#[derive(Default)]
pub(crate) struct History {
    /// Leases that somebody was told of.
    pub(crate) leases: BTreeMap<LeaseId, Held>,
    /// Grants in the order in which their answers came: asked, answered, fence.
    pub(crate) grants: Vec<(u64, u64, String)>,
    /// Idempotency keys of checkouts whose outcome nobody knows.
    pub(crate) unknown_checkouts: BTreeSet<String>,
    /// Transfers between pools: acknowledged, and of unknown outcome.
    pub(crate) transfers: (u64, u64),
    /// Changes of the package `changing`: acknowledged.
    pub(crate) changes: u64,
    /// Audit events by number, as first seen.
    pub(crate) events: BTreeMap<u64, Seen>,
    /// How far each node's audit log was read at the end, and its last hash.
    pub(crate) final_reads: BTreeMap<NodeId, FinalRead>,
    /// Who led each term.
    pub(crate) leaders: BTreeMap<u64, NodeId>,
    /// The term of the entry that was applied at an index, and who was seen to have it.
    pub(crate) terms_applied: BTreeMap<u64, (NodeId, u64)>,
    /// Sums over all rows by index.
    pub(crate) sums: BTreeMap<u64, (NodeId, [u8; 32])>,
    /// Time with a leader that had a quorum and committed what it had, until when it is counted.
    pub(crate) led_ns: u64,
    /// When that was counted last.
    pub(crate) led_counted_ns: u64,
    /// The most time with a leader that there can have been.
    pub(crate) most_led_ns: u64,
    /// When that was counted last.
    pub(crate) most_led_counted_ns: u64,
    /// What the leader has committed, and when that last was more, or all there was.
    pub(crate) committed: (Option<u64>, u64),
    /// Until when a clock was slower than true time.
    pub(crate) slow_clock_until_ns: u64,
    /// When a wall clock showed another time than the true one.
    pub(crate) moved_walls: Vec<(u64, u64)>,
    /// Until when a clock runs at another rate than the others.
    pub(crate) off_rate_until_ns: u64,
    /// When clocks were faster than true time, and by how many thousandths.
    pub(crate) fast_clocks: Vec<(u64, u64, u64)>,
}

/// An audit event as it was first seen.
pub(crate) struct Seen {
    /// SHA-256 of its bytes.
    pub(crate) hash: [u8; 32],
    /// What it says.
    pub(crate) event: AuditEvent,
    /// When a node was first seen to have it.
    pub(crate) at_ns: u64,
    /// Time with a leader until then.
    pub(crate) led_ns: u64,
    /// The most that there can have been.
    pub(crate) most_led_ns: u64,
    /// Terms that had a leader until then.
    pub(crate) terms: u64,
}

/// A node's audit log and state at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FinalRead {
    /// The last event's number.
    pub(crate) seq: u64,
    /// Index that the state is of.
    pub(crate) index: u64,
    /// The sum over all rows.
    pub(crate) sum: [u8; 32],
    /// Leases that live.
    pub(crate) live: BTreeSet<LeaseId>,
}

/// A lease as its holder knows it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The package, by its place in the plan.
    pub(crate) package: usize,
    /// Text of its id.
    pub(crate) text: String,
    /// Its fence.
    pub(crate) fence: String,
    /// When the checkout's answer came.
    pub(crate) granted_ns: u64,
    /// Until when it is certainly held, if nothing ends it: sent plus the time that was promised.
    pub(crate) until_ns: u64,
    /// How much time with a leader it certainly lasts to.
    pub(crate) until_led_ns: u64,
    /// When anything that could have lengthened it may last have arrived.
    pub(crate) touched_ns: u64,
    /// Time with a leader until then.
    pub(crate) touched_led_ns: u64,
    /// Terms that had a leader until then.
    pub(crate) touched_terms: u64,
    /// Longest time that it can live after that, in milliseconds.
    pub(crate) lives_ms: u64,
    /// Whether somebody is asking to renew it, and has not been told what became of it.
    pub(crate) renewing: bool,
    /// Whether it was borrowed, or may have been.
    pub(crate) borrowed: bool,
    /// Until when an offline token may count by true time, on a device whose clock is slow by the
    /// allowed skew.
    pub(crate) token_until_ns: Option<u64>,
    /// Borrows that were acknowledged, and those that may have happened beyond them.
    pub(crate) borrows: (u64, u64),
    /// The same of tokens that were given up early.
    pub(crate) brought_home: (u64, u64),
    /// When its holder asked to give it back.
    pub(crate) return_asked_ns: Option<u64>,
    /// When that was acknowledged.
    pub(crate) returned_ns: Option<u64>,
    /// Request ids of the checkout's attempts, in order.
    pub(crate) attempts: Vec<u128>,
}

impl Held {
    /// Until when it was promised, or its holder asked to give it back.
    fn promised_until_ns(&self) -> u64 {
        self.return_asked_ns.map_or(self.until_ns, |asked| asked.min(self.until_ns))
    }
}

impl History {
    /// Until when a lease is certainly held, as far as its holder knows.
    ///
    /// A leader compares its clock with a majority's at every acknowledgement and goes by its own
    /// in between: one that begins to run too fast is ahead by what it gains meanwhile, at most in
    /// the lifetime of an acknowledgement. And it knows the others' clocks to half a round trip,
    /// which lasts as long at most. Both are the margin, and only where a clock was fast.
    pub(crate) fn certain_until_ns(&self, held: &Held) -> u64 {
        let until_ns = held.promised_until_ns();
        let overlaps = |(from_ns, to_ns, _): &&(u64, u64, u64)| {
            *from_ns <= until_ns && held.granted_ns.saturating_sub(GAP_NS) <= *to_ns
        };
        let gained =
            self.fast_clocks.iter().filter(overlaps).map(|(_, _, permille)| permille).max();
        until_ns.saturating_sub(gained.map_or(0, |permille| GAP_NS / 1_000 * (permille + 500)))
    }

    /// Whether the cluster may say that an offline token which counts until then is over.
    pub(crate) fn token_may_be_over(&self, held: &Held, until_ns: u64, at_ns: u64) -> bool {
        let then = |from_ns: u64, to_ns: u64| from_ns <= at_ns && held.granted_ns <= to_ns;
        // The cluster's civil clock follows a majority's wall clocks, by a leader's own between.
        at_ns + CIVIL_SLACK_NS >= until_ns
            || self.moved_walls.iter().any(|(from_ns, to_ns)| then(*from_ns, *to_ns))
            || self.fast_clocks.iter().any(|(from_ns, to_ns, _)| then(*from_ns, *to_ns))
    }

    /// Terms that had a leader.
    pub(crate) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }
}

/// How long an acknowledgement counts: the upper election timeout.
const GAP_NS: u64 = 300_000_000;
/// How far the cluster's civil clock may be ahead of true time while all wall clocks are right:
/// what is uncertain about a reading.
pub(crate) const CIVIL_SLACK_NS: u64 = 200_000_000;
