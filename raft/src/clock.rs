//! The leader's clocks: readings in, stamps out. Pure; `lead` feeds it.
//!
//! *Led time* is time in which the newest acknowledgement by a quorum was younger than the upper
//! election timeout. It passes at the speed of this node's monotonic clock or of the median
//! voter's, whichever is slower, and continues from the lease clock in the ledger:
//!
//! ```text
//! quorum acked    q1   q2   q3                          q4   q5
//! led            ├────────────────┤ (q3 + lifetime)     ├──────────── …
//!                     a span                              the next span
//! ```
//!
//! Over a whole span, so that what is uncertain about the readings does not add up; and over each
//! short part of it, its *pace*, so that a clock which goes too fast now does not make up for what
//! another, by then repaired, had taken before. What is shown never goes faster than this node's
//! own clock: what a bad reading has taken stays taken. And since each *anchor* of the last seconds
//! it has not gone further than the voters heard then and now bear out: between two readings a
//! leader goes by its own clock, and what that gains each time the voters heard are others does not
//! add up.
//!
//! *Civil time* passes with the monotonic clock and is steered toward the median wall clock of a
//! majority of voters. It jumps forward when a term begins and never goes back: ahead of the
//! median it stands still.
//!
//! An acknowledgement counts from when its request was sent; a reading is taken to be from the
//! middle between sending and receiving, so its error is at most half the round trip.
//!
//! What it leaves to others: who the voters are, whether this node leads, and what to do about an
//! alarm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lease::entry::Stamp;
use lease::ids::NodeId;
use lease::planted::{self, Bug};
use serde::{Deserialize, Serialize};

use crate::status::Alarm;

/// What a node's clocks show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// Monotonic nanoseconds since some point in that process.
    pub(crate) monotonic_ns: u64,
    /// Unix milliseconds of the wall clock.
    pub(crate) wall_ms: i64,
}

/// A peer's acknowledgement, with its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// Monotonic time here when the request was sent.
    pub(crate) sent_ns: u64,
    /// Monotonic time here when the answer came.
    pub(crate) received_ns: u64,
    /// Random number of the peer's process: a new one counts its monotonic time from another point.
    pub(crate) boot: u64,
    /// The peer's clocks when it answered.
    pub(crate) reading: Reading,
}

impl Acknowledgement {
    fn middle_ns(&self) -> u64 {
        self.sent_ns + (self.received_ns - self.sent_ns) / 2
    }

    fn uncertainty_ns(&self) -> i64 {
        signed(self.received_ns - self.sent_ns) / 2
    }

    /// The peer's wall clock minus our monotonic clock, milliseconds.
    fn wall_offset_ms(&self) -> i64 {
        self.reading.wall_ms - signed(self.middle_ns()) / NS_PER_MS
    }
}

/// The clocks of one term of this node's leadership.
#[derive(Debug)]
pub(crate) struct LeaderClock {
    own: NodeId,
    ack_lifetime_ns: u64,
    /// One set of voters, or two while the membership changes: a majority of each is needed.
    voters: Vec<BTreeSet<NodeId>>,
    newest: BTreeMap<NodeId, Acknowledgement>,
    /// Peers whose newest acknowledgement came while the one before it was young enough to count.
    /// One reading after a silence does not say how fast time passes, and is no voice that it
    /// passes as this node's clock says.
    steady: BTreeSet<NodeId>,
    /// When this node last beat: its own acknowledgement.
    beat_ns: Option<u64>,
    led: Option<Led>,
    civil: Option<Civil>,
    rate: Rate,
    alarms: BTreeSet<Alarm>,
}

/// The lease clock when the span began, what was shown of it so far, and the span.
#[derive(Debug)]
struct Led {
    base_ns: u64,
    shown_ns: u64,
    /// When that was, by this node's clock.
    shown_at_ns: u64,
    span: Option<Span>,
    pace: Option<Pace>,
    /// The newest last; at most [`ANCHORS`].
    anchors: VecDeque<Pace>,
}

/// A part of led time and what was led when it began. The pace is the last part of a span, as long
/// as an acknowledgement lasts; an anchor is one that goes on whoever comes and goes.
#[derive(Debug)]
struct Pace {
    led_ns: u64,
    part: Span,
}

/// A time in which a quorum kept acknowledging, or the last part of one: it is counted anew from
/// wherever the voters heard, or the voters themselves, were others.
#[derive(Debug)]
struct Span {
    began_ns: u64,
    quorum_ns: u64,
    first: BTreeMap<NodeId, Acknowledgement>,
}

#[derive(Debug)]
struct Civil {
    now_ns: i128,
    at_ns: u64,
    /// The median wall clock minus our monotonic clock that is steered to, milliseconds.
    target_offset_ms: Option<i64>,
}

/// Comparison of this node's monotonic clock with the voters', over a window.
#[derive(Debug, Default)]
struct Rate {
    first: BTreeMap<NodeId, Acknowledgement>,
    slow: BTreeMap<NodeId, Slow>,
    off: bool,
}

/// How much less than ours a peer's clock has certainly gone in a time of ours. Kept for as long as
/// its process runs: who is heard rarely, or was heard once since the span began, is still slow.
#[derive(Debug, Clone, Copy)]
struct Slow {
    certain_ns: u64,
    window_ns: u64,
}

impl LeaderClock {
    /// A clock that knows nothing yet. An acknowledgement lasts `ack_lifetime_ns`, the upper
    /// election timeout.
    pub(crate) fn new(own: NodeId, ack_lifetime_ns: u64) -> Self {
        Self {
            own,
            ack_lifetime_ns,
            voters: Vec::new(),
            newest: BTreeMap::new(),
            steady: BTreeSet::new(),
            beat_ns: None,
            led: None,
            civil: None,
            rate: Rate::default(),
            alarms: BTreeSet::new(),
        }
    }

    /// Sets who votes from now on.
    pub(crate) fn set_voters(&mut self, voters: Vec<BTreeSet<NodeId>>, now_ns: u64) {
        self.settle(now_ns);
        self.rebase(now_ns);
        let votes = |peer: &NodeId| voters.iter().any(|set| set.contains(peer));
        self.newest.retain(|peer, _| votes(peer));
        self.steady.retain(votes);
        self.rate.first.retain(|peer, _| votes(peer));
        self.rate.slow.retain(|peer, _| votes(peer));
        self.voters = voters;
        if !self.has_quorum(now_ns)
            && let Some(led) = &mut self.led
        {
            (led.span, led.pace) = (None, None);
        }
        self.extend_span(now_ns);
    }

    /// Takes in an acknowledgement of this term by a peer.
    pub(crate) fn acknowledge(&mut self, peer: NodeId, ack: Acknowledgement) {
        let newest = self.newest.get(&peer);
        if newest.is_some_and(|newest| ack.sent_ns < newest.sent_ns) {
            return;
        }
        let restarted = newest.is_some_and(|newest| ack.boot != newest.boot);
        self.settle(ack.received_ns);
        if restarted {
            self.rebase(ack.received_ns);
            self.forget(peer);
        }
        if self.hears(peer, ack.received_ns) {
            self.steady.insert(peer);
        } else {
            self.steady.remove(&peer);
        }
        self.newest.insert(peer, ack);
        self.extend_span(ack.received_ns);
        self.compare_rates(peer, ack);
    }

    /// This node's own acknowledgement, at every heartbeat: a process that was stopped does not
    /// count the time, not even alone.
    pub(crate) fn beat(&mut self, now_ns: u64) {
        self.settle(now_ns);
        self.beat_ns = Some(now_ns);
        self.extend_span(now_ns);
    }

    /// Starts both clocks from those in the ledger, once this term's blank entry is applied.
    pub(crate) fn start(&mut self, own: Reading, ledger: Stamp) {
        let base_ns = ledger.led_ms.saturating_mul(NS_PER_MS as u64);
        let shown_at_ns = own.monotonic_ns;
        self.led = Some(Led {
            base_ns,
            shown_ns: base_ns,
            shown_at_ns,
            span: None,
            pace: None,
            anchors: VecDeque::new(),
        });
        self.beat(own.monotonic_ns);
        let target_offset_ms = self.agreed_offset_ms(own);
        let target_ms = target_offset_ms.map(|it| it + signed(own.monotonic_ns) / NS_PER_MS);
        let start_ms = target_ms.map_or(ledger.civil_ms, |target| target.max(ledger.civil_ms));
        self.civil = Some(Civil {
            now_ns: i128::from(start_ms) * i128::from(NS_PER_MS),
            at_ns: own.monotonic_ns,
            target_offset_ms,
        });
        self.raise(Alarm::ClocksDisagree, target_offset_ms.is_none());
    }

    /// The clocks now; `None` before [`LeaderClock::start`] and while no quorum acknowledges, when
    /// nothing may be proposed.
    pub(crate) fn stamp(&mut self, own: Reading) -> Option<Stamp> {
        self.settle(own.monotonic_ns);
        if !self.has_quorum(own.monotonic_ns) {
            return None;
        }
        self.extend_span(own.monotonic_ns);
        let civil_ms = self.steer(own)?;
        let led = self.led.as_ref()?;
        let mut led_ms = led.shown_ns / NS_PER_MS as u64;
        if planted::is(Bug::ExpiredByWallClock) {
            led_ms += u64::try_from(own.wall_ms - civil_ms).unwrap_or(0);
        }
        Some(Stamp { led_ms, civil_ms })
    }

    /// When the newest request was sent that a quorum has acknowledged; `None` before the first.
    pub(crate) fn quorum_acked_ns(&self) -> Option<u64> {
        let of_set = |set: &BTreeSet<NodeId>| {
            let mut sent: Vec<u64> = set
                .iter()
                .filter_map(|voter| match self.newest.get(voter) {
                    _ if *voter == self.own => self.beat_ns,
                    newest => newest.map(|ack| ack.sent_ns),
                })
                .collect();
            sent.sort_unstable_by(|a, b| b.cmp(a));
            sent.get(majority(set.len()) - 1).copied()
        };
        let mut acked: Option<u64> = None;
        for set in &self.voters {
            let of_set = of_set(set)?;
            acked = Some(acked.map_or(of_set, |acked| acked.min(of_set)));
        }
        acked
    }

    /// Whether a quorum's newest acknowledgement is young enough to lead on.
    pub(crate) fn has_quorum(&self, now_ns: u64) -> bool {
        let acked = self.quorum_acked_ns();
        acked.is_some_and(|acked| now_ns.saturating_sub(acked) < self.ack_lifetime_ns)
    }

    /// Age of a peer's newest acknowledgement and its wall clock minus ours, milliseconds.
    pub(crate) fn peer(&self, peer: NodeId, own: Reading) -> Option<(u64, i64)> {
        let newest = self.newest.get(&peer)?;
        let age_ms = own.monotonic_ns.saturating_sub(newest.sent_ns) / NS_PER_MS as u64;
        Some((age_ms, newest.wall_offset_ms() - own_offset_ms(own)))
    }

    /// Whether this node's clock is too fast or too slow to lead by.
    pub(crate) fn is_off(&self) -> bool {
        self.rate.off
    }

    /// What is wrong with the clocks now.
    pub(crate) fn alarms(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.alarms.iter().copied()
    }

    /// Whether this peer's newest acknowledgement is young enough to count.
    pub(crate) fn hears(&self, peer: NodeId, now_ns: u64) -> bool {
        let newest = self.newest.get(&peer);
        newest.is_some_and(|ack| now_ns.saturating_sub(ack.sent_ns) < self.ack_lifetime_ns)
    }

    /// Counts the led time up to `now`, but not beyond the lifetime of the span's last
    /// acknowledgement, and ends a span that is over.
    fn settle(&mut self, now_ns: u64) {
        let most_since_anchors = self.most_since_anchors(now_ns);
        let Some(led) = &mut self.led else { return };
        let Some(span) = &mut led.span else { return };
        let end_ns = now_ns.min(span.quorum_ns + self.ack_lifetime_ns);
        if planted::is(Bug::LedWithoutQuorum) && end_ns < now_ns {
            // All of it has to be wrong: the pace alone would stop a clock that hears nobody.
            led.shown_ns += now_ns.saturating_sub(led.shown_at_ns);
            (led.base_ns, led.shown_at_ns, span.began_ns) = (led.shown_ns, now_ns, now_ns);
            (led.pace, led.anchors) = (None, VecDeque::new());
            return;
        }
        let seen = (&self.newest, &self.rate.slow);
        let mut counted_ns = led.base_ns + span.passed_ns(self.own, &self.voters, seen, end_ns);
        let most_of_pace = led.pace.as_ref().map(|pace| {
            let passed_ns = pace.part.passed_ns(self.own, &self.voters, seen, end_ns);
            pace.led_ns + passed_ns + pace.part.uncertainty_ns(&self.newest)
        });
        if let Some(most_ns) = most_of_pace.into_iter().chain(most_since_anchors).min() {
            // What went too fast is not made up for later.
            led.base_ns -= counted_ns.saturating_sub(most_ns).min(led.base_ns);
            counted_ns = counted_ns.min(most_ns);
        }
        // A reading that turned out to be better than the one before would give back what that had
        // taken, all at once, and end leases early that were granted in between.
        let own_ns = end_ns.saturating_sub(led.shown_at_ns);
        led.shown_ns = led.shown_ns.max(counted_ns.min(led.shown_ns.saturating_add(own_ns)));
        led.shown_at_ns = led.shown_at_ns.max(end_ns);
        if end_ns < now_ns {
            led.base_ns = counted_ns;
            (led.span, led.pace) = (None, None);
            led.anchors.clear();
        } else if led
            .pace
            .as_ref()
            .is_none_or(|pace| end_ns.saturating_sub(pace.part.began_ns) >= self.ack_lifetime_ns)
        {
            self.begin_pace(end_ns, counted_ns);
        }
        self.drop_anchor(now_ns);
    }

    /// How far led time may have come by what it was at each anchor; `None`: no anchor says.
    fn most_since_anchors(&self, now_ns: u64) -> Option<u64> {
        let led = self.led.as_ref()?;
        let since = |anchor: &Pace| {
            let unseen =
                Unseen { slow: &self.rate.slow, began_ns: anchor.part.began_ns, end_ns: now_ns };
            let voices = |peer: &NodeId| self.hears(*peer, now_ns);
            let mut drifts = self.voters.iter().map(|set| {
                most_drift_ns(self.own, set, (&anchor.part.first, &self.newest), unseen, voices)
            });
            let slower = drifts.try_fold(0, |slower: i64, drift| Some(slower.min(drift?)))?;
            let own = signed(now_ns.saturating_sub(anchor.part.began_ns));
            let passed_ns = u64::try_from(own.saturating_add(slower)).unwrap_or(0);
            Some(anchor.led_ns.saturating_add(passed_ns))
        };
        led.anchors.iter().filter_map(since).min()
    }

    /// Notes what is shown now and who is heard, once in [`ANCHOR_EVERY_NS`].
    fn drop_anchor(&mut self, now_ns: u64) {
        let is_due = |led: &Led| {
            let newest_ns = led.anchors.back().map(|anchor| anchor.part.began_ns);
            led.span.is_some()
                && newest_ns.is_none_or(|at| now_ns.saturating_sub(at) >= ANCHOR_EVERY_NS)
        };
        if !self.led.as_ref().is_some_and(is_due) {
            return;
        }
        let part = Span { began_ns: now_ns, quorum_ns: now_ns, first: self.heard(now_ns) };
        let Some(led) = &mut self.led else { return };
        if led.anchors.len() == ANCHORS {
            led.anchors.pop_front();
        }
        led.anchors.push_back(Pace { led_ns: led.shown_ns, part });
    }

    /// Measures how fast led time passes from now on.
    fn begin_pace(&mut self, now_ns: u64, led_ns: u64) {
        let first = self.heard(now_ns);
        if let Some(led) = &mut self.led {
            let part = Span { began_ns: now_ns, quorum_ns: now_ns, first };
            led.pace = Some(Pace { led_ns, part });
        }
    }

    /// Keeps what the span has counted, and goes on counting from now with the voters heard now:
    /// whoever comes or goes changes the median of what follows, never of what was.
    fn rebase(&mut self, now_ns: u64) {
        let first = self.heard(now_ns);
        let Some(led) = &mut self.led else { return };
        let Some(span) = &mut led.span else { return };
        // Not from what was shown: a clock that was ahead by a hair stays so, once.
        led.base_ns +=
            span.passed_ns(self.own, &self.voters, (&self.newest, &self.rate.slow), now_ns);
        span.began_ns = span.began_ns.max(now_ns);
        span.first = first;
        let led_ns = led.base_ns;
        self.begin_pace(now_ns, led_ns);
    }

    /// Forgets the readings of a peer whose process is another now.
    fn forget(&mut self, peer: NodeId) {
        self.newest.remove(&peer);
        self.steady.remove(&peer);
        self.rate.first.remove(&peer);
        self.rate.slow.remove(&peer);
        let Some(led) = &mut self.led else { return };
        let part = led.pace.as_mut().map(|pace| &mut pace.part);
        let anchors = led.anchors.iter_mut().map(|anchor| &mut anchor.part);
        for span in [led.span.as_mut(), part].into_iter().flatten().chain(anchors) {
            span.first.remove(&peer);
        }
    }

    /// Notes the newest acknowledgement of a quorum, and begins a span when there is none.
    fn extend_span(&mut self, now_ns: u64) {
        let Some(quorum_ns) = self.quorum_acked_ns() else { return };
        if now_ns.saturating_sub(quorum_ns) >= self.ack_lifetime_ns {
            return;
        }
        let span = self.led.as_ref().and_then(|led| led.span.as_ref());
        // From now, not from when the request was sent: that time may have been counted.
        let begun = match span {
            None => Some(Span { began_ns: now_ns, quorum_ns, first: self.heard(now_ns) }),
            Some(span) => {
                if !span.first.keys().eq(self.voices(now_ns).map(|(peer, _)| peer)) {
                    self.rebase(now_ns);
                }
                None
            }
        };
        let Some(led) = &mut self.led else { return };
        match &mut led.span {
            Some(span) => span.quorum_ns = span.quorum_ns.max(quorum_ns),
            None => {
                led.span = begun;
                // Time without a quorum is nobody's, and lets nothing be made up for.
                led.shown_at_ns = led.shown_at_ns.max(now_ns);
            }
        }
    }

    /// The newest acknowledgements of those who say how fast time passes.
    fn voices(&self, now_ns: u64) -> impl Iterator<Item = (&NodeId, &Acknowledgement)> {
        let is_voice = move |peer: &NodeId| self.hears(*peer, now_ns) && self.steady.contains(peer);
        self.newest.iter().filter(move |(peer, _)| is_voice(peer))
    }

    fn heard(&self, now_ns: u64) -> BTreeMap<NodeId, Acknowledgement> {
        self.voices(now_ns).map(|(peer, ack)| (*peer, *ack)).collect()
    }

    /// Lets the civil clock pass up to now, and tells it in milliseconds.
    fn steer(&mut self, own: Reading) -> Option<i64> {
        let agreed = self.agreed_offset_ms(own);
        let civil = self.civil.as_mut()?;
        let passed_ns = own.monotonic_ns.saturating_sub(civil.at_ns);
        civil.at_ns = own.monotonic_ns;
        let now_ms = own_offset_to_now_ms(own);
        let free_ms = ms_of(civil.now_ns) + signed(passed_ns) / NS_PER_MS;
        // What was last followed, or before that the clock itself, says where a median may be.
        let expected_ms = civil.target_offset_ms.map_or(free_ms, |offset| offset + now_ms);
        let jumped =
            agreed.is_some_and(|agreed| (agreed + now_ms - expected_ms).abs() > JUMP_LIMIT_MS);
        if !jumped && agreed.is_some() {
            civil.target_offset_ms = agreed;
        }
        civil.pass(passed_ns, now_ms);
        let civil_ms = ms_of(civil.now_ns);
        self.raise(Alarm::ClocksDisagree, agreed.is_none());
        self.raise(Alarm::CivilJump, jumped);
        Some(civil_ms)
    }

    /// The median wall clock of the majority of voters that lie closest together, minus our
    /// monotonic clock; `None` when they are more than [`AGREE_WITHIN_MS`] apart.
    fn agreed_offset_ms(&self, own: Reading) -> Option<i64> {
        let voters: BTreeSet<NodeId> = self.voters.iter().flatten().copied().collect();
        let mut offsets: Vec<i64> = voters
            .iter()
            .filter_map(|voter| {
                if *voter == self.own {
                    return Some(own_offset_ms(own));
                }
                let newest = self.newest.get(voter)?;
                let age_ns = own.monotonic_ns.saturating_sub(newest.received_ns);
                (age_ns < READING_LIFETIME_NS).then(|| newest.wall_offset_ms())
            })
            .collect();
        offsets.sort_unstable();
        let closest = offsets
            .windows(majority(voters.len()))
            .min_by_key(|window| window[window.len() - 1] - window[0])?;
        let spread_ms = closest[closest.len() - 1] - closest[0];
        (spread_ms <= AGREE_WITHIN_MS).then(|| closest[(closest.len() - 1) / 2])
    }

    /// Judges, once per window, whether our monotonic clock goes with the median voter's.
    fn compare_rates(&mut self, peer: NodeId, ack: Acknowledgement) {
        let first = *self.rate.first.entry(peer).or_insert(ack);
        let window_ns = ack.middle_ns().saturating_sub(first.middle_ns());
        let known_ns = self.rate.slow.get(&peer).map_or(0, |slow| slow.window_ns);
        if window_ns >= known_ns.min(SLOW_WINDOW_NS) {
            self.rate.slow.insert(peer, Slow::between(&first, &ack));
        }
        if window_ns < RATE_WINDOW_NS {
            return;
        }
        let uncertain_ns = between_ns(&first, &ack);
        let allowed_ns = signed(window_ns) / RATE_ALLOWED_PART + uncertain_ns;
        self.rate.off = self.voters.iter().any(|set| {
            let measured = set.iter().filter(|it| self.rate.first.contains_key(it)).count();
            let drift = median_drift_ns(self.own, set, &self.rate.first, &self.newest, None);
            measured + 1 >= majority(set.len()) && drift != ABSENT && drift.abs() > allowed_ns
        });
        let off = self.rate.off;
        self.raise(Alarm::ClockRate, off);
        self.rate.first.clone_from(&self.newest);
    }

    fn raise(&mut self, alarm: Alarm, is: bool) {
        if is {
            self.alarms.insert(alarm);
        } else {
            self.alarms.remove(&alarm);
        }
    }
}

impl Span {
    /// Nanoseconds from its beginning to `end`, by this node's clock or by the median voter's of
    /// any set, whichever is slower.
    fn passed_ns(
        &self,
        own: NodeId,
        voters: &[BTreeSet<NodeId>],
        (newest, slow): (&BTreeMap<NodeId, Acknowledgement>, &BTreeMap<NodeId, Slow>),
        end_ns: u64,
    ) -> u64 {
        let unseen = Unseen { slow, began_ns: self.began_ns, end_ns };
        let slower = voters
            .iter()
            .map(|set| median_drift_ns(own, set, &self.first, newest, Some(unseen)))
            .fold(0, i64::min);
        let own = signed(end_ns.saturating_sub(self.began_ns));
        u64::try_from(own.saturating_add(slower)).unwrap_or(0)
    }

    /// How far off the readings may be that it is measured by.
    fn uncertainty_ns(&self, newest: &BTreeMap<NodeId, Acknowledgement>) -> u64 {
        let of_peer = |(peer, first): (&NodeId, &Acknowledgement)| {
            let last = newest.get(peer).unwrap_or(first);
            between_ns(first, last).unsigned_abs()
        };
        self.first.iter().map(of_peer).max().unwrap_or(0)
    }
}

impl Civil {
    /// Passes with the monotonic clock toward the target: at most a tenth faster when behind,
    /// standing still when ahead.
    fn pass(&mut self, passed_ns: u64, now_ms: i64) {
        let passed_ns = i128::from(passed_ns);
        let Some(offset_ms) = self.target_offset_ms else {
            self.now_ns += passed_ns;
            return;
        };
        let target_ns = i128::from(offset_ms + now_ms) * i128::from(NS_PER_MS);
        let fastest_ns = self.now_ns + passed_ns + passed_ns / SLEW_PART;
        self.now_ns = self.now_ns.max(target_ns.min(fastest_ns));
    }
}

/// How much more than our monotonic clock the median voter's has gone between two sets of
/// acknowledgements; our own voice is 0, and a voter without acknowledgement has gone nowhere.
///
/// Voters were last heard at different moments, and whose newest reading is old has seen less of a
/// drift: without more, the one that was heard least would be the median. So what was not seen is
/// added where it is asked for. And each voter is taken for as slow as its readings allow: one that
/// answered late says little, and must not outvote another that was measured well.
fn median_drift_ns(
    own: NodeId,
    voters: &BTreeSet<NodeId>,
    first: &BTreeMap<NodeId, Acknowledgement>,
    last: &BTreeMap<NodeId, Acknowledgement>,
    unseen: Option<Unseen<'_>>,
) -> i64 {
    let mut drifts: Vec<i64> = voters
        .iter()
        .map(|voter| match (first.get(voter), last.get(voter)) {
            _ if *voter == own => 0,
            (Some(first), Some(last)) => {
                let least_ns = unseen.map_or(0, |unseen| {
                    unseen.lost_ns(*voter, first, last) + between_ns(first, last)
                });
                drift_ns(first, last).saturating_sub(least_ns)
            }
            _ => ABSENT,
        })
        .collect();
    drifts.sort_unstable();
    drifts.get((drifts.len().max(1) - 1) / 2).copied().unwrap_or(0)
}

/// The same, as much as the readings allow of the voter who is the median when each is taken for as
/// slow as they allow. Who was not heard then or is not heard now says nothing; `None` when that
/// leaves no majority.
fn most_drift_ns(
    own: NodeId,
    voters: &BTreeSet<NodeId>,
    (first, last): (&BTreeMap<NodeId, Acknowledgement>, &BTreeMap<NodeId, Acknowledgement>),
    unseen: Unseen<'_>,
    is_heard: impl Fn(&NodeId) -> bool,
) -> Option<i64> {
    let mut drifts: Vec<(i64, i64)> = voters
        .iter()
        .filter_map(|voter| {
            if *voter == own {
                return Some((0, 0));
            }
            let (first, last) = (first.get(voter)?, last.get(voter).filter(|_| is_heard(voter))?);
            let drift_ns =
                drift_ns(first, last).saturating_sub(unseen.lost_ns(*voter, first, last));
            let between_ns = between_ns(first, last);
            Some((drift_ns.saturating_sub(between_ns), drift_ns.saturating_add(between_ns)))
        })
        .collect();
    drifts.sort_unstable();
    // Whoever says nothing is taken for slower than all who do.
    let silent = voters.len() - drifts.len();
    let median = (voters.len().max(1) - 1) / 2;
    drifts.get(median.checked_sub(silent)?).map(|(_, most)| *most)
}

/// How much more than ours a peer's monotonic clock has gone between two acknowledgements.
fn drift_ns(first: &Acknowledgement, last: &Acknowledgement) -> i64 {
    let theirs =
        signed(last.reading.monotonic_ns).saturating_sub(signed(first.reading.monotonic_ns));
    theirs.saturating_sub(signed(last.middle_ns()) - signed(first.middle_ns()))
}

/// How far off the difference of two readings may be.
fn between_ns(first: &Acknowledgement, last: &Acknowledgement) -> i64 {
    if first == last {
        return 0;
    }
    first.uncertainty_ns().saturating_add(last.uncertainty_ns())
}

/// A span whose ends are not those of its acknowledgements.
#[derive(Debug, Clone, Copy)]
struct Unseen<'a> {
    slow: &'a BTreeMap<NodeId, Slow>,
    began_ns: u64,
    end_ns: u64,
}

impl Unseen<'_> {
    /// What a peer's clock loses against ours from its newest acknowledgement to the end of the
    /// span, less what it lost before the beginning.
    fn lost_ns(&self, peer: NodeId, first: &Acknowledgement, last: &Acknowledgement) -> i64 {
        let Some(slow) = self.slow.get(&peer) else { return 0 };
        let after_ns = slow.lost_in_ns(self.end_ns.saturating_sub(last.middle_ns()));
        after_ns - slow.lost_in_ns(self.began_ns.saturating_sub(first.middle_ns()))
    }
}

impl Slow {
    /// Only what is beyond the uncertainty of both: clocks which go alike are left alone.
    fn between(first: &Acknowledgement, last: &Acknowledgement) -> Self {
        let uncertain_ns = between_ns(first, last);
        let certain_ns = drift_ns(first, last).saturating_add(uncertain_ns);
        let window_ns = last.middle_ns().saturating_sub(first.middle_ns());
        // No clock goes back.
        let certain_ns = u64::try_from(certain_ns.saturating_neg()).unwrap_or(0).min(window_ns);
        Self { certain_ns, window_ns }
    }

    fn lost_in_ns(self, time_ns: u64) -> i64 {
        let lost_ns = u128::from(self.certain_ns) * u128::from(time_ns);
        i64::try_from(lost_ns / u128::from(self.window_ns.max(1))).unwrap_or(i64::MAX)
    }
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

fn own_offset_ms(own: Reading) -> i64 {
    own.wall_ms - own_offset_to_now_ms(own)
}

fn own_offset_to_now_ms(own: Reading) -> i64 {
    signed(own.monotonic_ns) / NS_PER_MS
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

fn ms_of(ns: i128) -> i64 {
    i64::try_from(ns.div_euclid(i128::from(NS_PER_MS))).unwrap_or(i64::MAX)
}

const NS_PER_MS: i64 = 1_000_000;
const ABSENT: i64 = i64::MIN;
/// Wall clocks of a majority must lie this close together to be followed.
const AGREE_WITHIN_MS: i64 = 10_000;
/// Inside a term the median may move this far from where it was.
const JUMP_LIMIT_MS: i64 = 10 * 60 * 1_000;
/// Steering adds at most this part of the time that passes.
const SLEW_PART: i128 = 10;
/// A peer's reading says nothing about its wall clock after this long.
const READING_LIFETIME_NS: u64 = 10_000_000_000;
/// Monotonic clocks are compared over this long: 1 % of it is well above what scheduling adds.
const RATE_WINDOW_NS: u64 = 30_000_000_000;
/// From here on, how slow a peer is is known well enough to be kept while it is measured anew.
const SLOW_WINDOW_NS: u64 = 1_000_000_000;
/// How often an anchor is dropped, and how many are kept.
const ANCHOR_EVERY_NS: u64 = 1_000_000_000;
const ANCHORS: usize = 5;
/// The part by which a rate may be off: 1 %.
const RATE_ALLOWED_PART: i64 = 100;

#[cfg(test)]
mod tests;
