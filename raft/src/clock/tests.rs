//! Tables and properties of the leader's clocks, driven by a small world of nodes with clocks of
//! their own.

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const LIFETIME_NS: u64 = 300 * MS;
const HEARTBEAT_MS: u64 = 50;
/// Where the own wall clock starts.
const WALL_MS: i64 = 1_800_000_000_000;

/// The leader, node 1, and its peers, in true milliseconds.
struct World {
    clock: LeaderClock,
    now_ms: u64,
    own: Node,
    peers: BTreeMap<NodeId, Node>,
}

/// A node's clocks as functions of true time.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Thousandths of true time that its monotonic clock runs at.
    per_mille: u64,
    wall_offset_ms: i64,
    reachable: bool,
    boot: u64,
    /// When its process began.
    boot_ms: u64,
    /// What it gained or lost when its rate changed.
    gained_ns: i64,
}

impl Node {
    fn good() -> Self {
        Self {
            per_mille: 1_000,
            wall_offset_ms: 0,
            reachable: true,
            boot: 1,
            boot_ms: 0,
            gained_ns: 0,
        }
    }

    fn ran_ns(&self, now_ms: u64) -> u64 {
        (now_ms - self.boot_ms) * MS / 1_000 * self.per_mille
    }

    /// Goes at another rate from now on.
    fn set_rate(&mut self, per_mille: u64, now_ms: u64) {
        let before_ns = self.ran_ns(now_ms);
        self.per_mille = per_mille;
        self.gained_ns += before_ns.cast_signed() - self.ran_ns(now_ms).cast_signed();
    }

    fn reading(&self, now_ms: u64) -> Reading {
        Reading {
            monotonic_ns: self.ran_ns(now_ms).strict_add_signed(self.gained_ns),
            wall_ms: WALL_MS + now_ms as i64 + self.wall_offset_ms,
        }
    }
}

impl World {
    fn new(peers: &[Node]) -> Self {
        let peers: BTreeMap<NodeId, Node> = (2..).zip(peers.iter().copied()).collect();
        let mut clock = LeaderClock::new(1, LIFETIME_NS);
        clock.set_voters(vec![peers.keys().copied().chain([1]).collect()], 0);
        let mut world = Self { clock, now_ms: 1_000, own: Node::good(), peers };
        world.heartbeat();
        world
    }

    fn own(&self) -> Reading {
        self.own.reading(self.now_ms)
    }

    fn start(&mut self, ledger: Stamp) {
        self.clock.start(self.own(), ledger);
    }

    fn stamp(&mut self) -> Option<Stamp> {
        self.clock.stamp(self.own())
    }

    /// One heartbeat that every reachable peer answers two milliseconds later.
    fn heartbeat(&mut self) {
        let sent_ns = self.own().monotonic_ns;
        self.clock.beat(sent_ns);
        self.now_ms += 2;
        let received_ns = self.own().monotonic_ns;
        for (id, peer) in &self.peers {
            if peer.reachable {
                let reading = peer.reading(self.now_ms - 1);
                let ack = Acknowledgement { sent_ns, received_ns, boot: peer.boot, reading };
                self.clock.acknowledge(*id, ack);
            }
        }
        self.now_ms += HEARTBEAT_MS - 2;
    }

    /// The same with slow disks: an answer comes forty milliseconds later and shows the clocks of
    /// its end, so that they are taken to be twenty ahead.
    fn slow_heartbeat(&mut self) {
        let sent_ns = self.own().monotonic_ns;
        self.clock.beat(sent_ns);
        self.now_ms += 40;
        let received_ns = self.own().monotonic_ns;
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.reachable) {
            let reading = peer.reading(self.now_ms);
            let ack = Acknowledgement { sent_ns, received_ns, boot: peer.boot, reading };
            self.clock.acknowledge(*id, ack);
        }
        self.now_ms += HEARTBEAT_MS - 40;
    }

    /// Heartbeats for this long, of which a peer answers each after so many others, with the clocks
    /// of that moment. How much more led time passed than true time.
    fn run_late(&mut self, peer: NodeId, heartbeats: usize, for_ms: u64) -> i64 {
        let (from_ms, from) = (self.now_ms, self.stamp().unwrap().led_ms);
        let mut asked = Vec::new();
        while self.now_ms < from_ms + for_ms {
            asked.push(self.own().monotonic_ns);
            self.heartbeat();
            if asked.len() > heartbeats {
                let sent_ns = asked.remove(0);
                let received_ns = self.own().monotonic_ns;
                let late = self.peers[&peer];
                let reading = late.reading(self.now_ms);
                let ack = Acknowledgement { sent_ns, received_ns, boot: late.boot, reading };
                self.clock.acknowledge(peer, ack);
            }
        }
        let (led, passed) = (self.stamp().unwrap().led_ms - from, self.now_ms - from_ms);
        led.cast_signed() - passed.cast_signed()
    }

    fn set_voters(&mut self, voters: Vec<BTreeSet<NodeId>>) {
        let now_ns = self.own().monotonic_ns;
        self.clock.set_voters(voters, now_ns);
    }

    fn restart(&mut self, peer: NodeId) {
        let now_ms = self.now_ms;
        let peer = self.peers.get_mut(&peer).unwrap();
        (peer.boot, peer.boot_ms) = (peer.boot + 1, now_ms);
    }

    /// The rate of led time, in thousandths: the own clock's or the median voter's, the slower.
    fn rate(&self, voters: &[BTreeSet<NodeId>]) -> u64 {
        let rate_of = |id: &NodeId| self.peers.get(id).unwrap_or(&self.own).per_mille;
        let medians = voters.iter().map(|set| {
            let mut rates: Vec<u64> = set.iter().map(rate_of).collect();
            rates.sort_unstable();
            rates[(rates.len() - 1) / 2]
        });
        medians.fold(self.own.per_mille, u64::min)
    }

    /// Heartbeats for this long, with a stamp after each.
    fn run(&mut self, for_ms: u64) -> Option<Stamp> {
        let end_ms = self.now_ms + for_ms;
        let mut last = None;
        while self.now_ms < end_ms {
            self.heartbeat();
            last = self.stamp().or(last);
        }
        last
    }

    fn reach(&mut self, reachable: bool) {
        self.peers.values_mut().for_each(|peer| peer.reachable = reachable);
    }
}

fn ledger(led_ms: u64, civil_ms: i64) -> Stamp {
    Stamp { led_ms, civil_ms }
}

#[track_caller]
fn assert_near(found: u64, expected: u64, within: u64) {
    assert!(found.abs_diff(expected) <= within, "{found} is not within {within} of {expected}");
}

#[test]
fn nothing_is_stamped_before_the_start_nor_without_a_quorum() {
    let mut world = World::new(&[Node::good(), Node::good()]);
    assert_eq!(world.stamp(), None);
    world.start(ledger(0, 0));
    assert!(world.stamp().is_some());
    world.reach(false);
    world.run(400);
    assert_eq!(world.stamp(), None);
    world.peers.get_mut(&3).unwrap().reachable = true;
    world.run(100);
    assert!(world.stamp().is_some());
}

#[test]
fn led_time_continues_from_the_ledger_and_passes_with_a_quorum() {
    let mut world = World::new(&[Node::good(), Node::good()]);
    world.start(ledger(5_000, 0));
    let stamp = world.run(10_000).unwrap();
    assert_near(stamp.led_ms, 15_000, 60);
    world.peers.get_mut(&2).unwrap().reachable = false;
    let stamp = world.run(10_000).unwrap();
    assert_near(stamp.led_ms, 25_000, 120);
}

#[test]
fn an_outage_counts_only_as_long_as_the_last_acknowledgement_lasts() {
    for outage_ms in [1_000, 60_000, 3_600_000] {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.start(ledger(0, 0));
        let before = world.run(5_000).unwrap();
        world.reach(false);
        world.run(outage_ms);
        world.reach(true);
        let after = world.run(5_000).unwrap();
        assert_near(after.led_ms - before.led_ms, 5_000 + LIFETIME_NS / MS, 150);
    }
}

#[test]
fn a_pause_of_everything_counts_no_more_not_even_alone() {
    for peers in [vec![], vec![Node::good(), Node::good()]] {
        let mut world = World::new(&peers);
        world.start(ledger(0, 0));
        let before = world.run(5_000).unwrap();
        world.now_ms += 900_000;
        let after = world.run(5_000).unwrap();
        assert_near(after.led_ms - before.led_ms, 5_000 + LIFETIME_NS / MS, 150);
    }
}

#[test]
fn the_slower_of_own_and_median_clock_leads() {
    // Own rate, rates of the peers, led milliseconds in 20 true seconds.
    let cases = [
        (1_000, [1_000, 1_000], 20_000),
        (1_100, [1_000, 1_000], 20_000),
        (900, [1_000, 1_000], 18_000),
        (1_000, [900, 1_000], 20_000),
        (1_000, [900, 900], 18_000),
        (1_000, [1_100, 1_100], 20_000),
    ];
    for (own, peers, expected) in cases {
        let peers = peers.map(|per_mille| Node { per_mille, ..Node::good() });
        let mut world = World::new(&peers);
        world.own.per_mille = own;
        world.start(ledger(0, 0));
        let stamp = world.run(20_000).unwrap();
        assert_near(stamp.led_ms, expected, 120);
    }
}

#[test]
fn a_clock_that_is_off_by_more_than_a_hundredth_gives_up() {
    let cases = [
        (1_000, [1_000, 1_000], false),
        (1_005, [1_000, 1_000], false),
        (1_020, [1_000, 1_000], true),
        (980, [1_000, 1_000], true),
        (1_000, [1_050, 1_000], false),
        (1_000, [1_050, 1_050], true),
    ];
    for (own, peers, off) in cases {
        let peers = peers.map(|per_mille| Node { per_mille, ..Node::good() });
        let mut world = World::new(&peers);
        world.own.per_mille = own;
        world.start(ledger(0, 0));
        world.run(70_000);
        assert_eq!(world.clock.is_off(), off, "{own} {peers:?}");
        assert_eq!(world.clock.alarms().any(|it| it == Alarm::ClockRate), off);
    }
}

#[test]
fn what_a_bad_reading_has_taken_stays_taken() {
    let away = Node { reachable: false, ..Node::good() };
    let mut world = World::new(&[Node::good(), away]);
    world.slow_heartbeat();
    world.start(ledger(0, WALL_MS));
    let before = world.run(1_000).unwrap();
    let before_ms = world.now_ms;
    // A lease that is granted now must not lose what the clock was behind by.
    world.slow_heartbeat();
    let after = world.stamp().unwrap();
    let passed_ms = world.now_ms - before_ms;
    assert!(
        after.led_ms - before.led_ms <= passed_ms,
        "{} in {passed_ms}",
        after.led_ms - before.led_ms
    );
    let later = world.run(1_000).unwrap();
    assert!(later.led_ms - after.led_ms >= 1_000 - 21, "it goes on: {later:?} after {after:?}");
}

#[test]
fn a_peer_that_comes_and_goes_does_not_let_a_fast_clock_run_ahead() {
    // Own rate, and for how long the peer is silent and heard in turn. Whose newest reading is old
    // has seen less of the drift: the median of what was seen by two moments was no median.
    for (own, silent_ms, heard_ms) in [
        (2_000, 250, 250),
        (2_000, 100, 50),
        (1_500, 400, 100),
        (1_050, 250, 250),
        (1_000, 250, 50),
    ] {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.own.per_mille = own;
        world.start(ledger(0, 0));
        let before = world.run(2_000).unwrap().led_ms;
        let then_ms = world.now_ms;
        for _ in 0..20 {
            for (reachable, for_ms) in [(false, silent_ms), (true, heard_ms)] {
                world.peers.get_mut(&2).unwrap().reachable = reachable;
                world.run(for_ms);
            }
        }
        let led = world.stamp().unwrap().led_ms - before;
        let passed = world.now_ms - then_ms;
        assert!(led <= passed + 60, "{own}: {led} led in {passed}");
        assert!(led + 60 >= passed * 9 / 10, "{own}: only {led} led in {passed}");
    }
}

#[test]
fn a_peer_that_is_heard_once_in_a_while_does_not_speak_for_a_fast_clock() {
    // Its disk is slow: it answers once, and is taken for silent before it answers again. Nothing
    // shows yet that the leader's clock is the fast one: another's was, seconds ago.
    for (own, silent_ms) in [(2_000, 200), (2_000, 150), (1_500, 250), (1_000, 300)] {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.start(ledger(0, 0));
        let now_ms = world.now_ms;
        world.peers.get_mut(&3).unwrap().set_rate(2_000, now_ms);
        world.run(2_000);
        let now_ms = world.now_ms;
        world.peers.get_mut(&3).unwrap().set_rate(1_000, now_ms);
        world.run(4_000);
        let before = world.stamp().unwrap().led_ms;
        let then_ms = world.now_ms;
        world.own.set_rate(own, then_ms);
        for _ in 0..16 {
            for (reachable, for_ms) in [(false, silent_ms), (true, HEARTBEAT_MS)] {
                world.peers.get_mut(&2).unwrap().reachable = reachable;
                world.run(for_ms);
            }
        }
        let led = world.stamp().unwrap().led_ms - before;
        let passed = world.now_ms - then_ms;
        let lifetime_ms = LIFETIME_NS / MS;
        assert!(led <= passed + lifetime_ms, "{own}: {led} led in {passed}");
        assert!(led + lifetime_ms >= passed * 9 / 10, "{own}: only {led} led in {passed}");
    }
}

#[test]
fn a_voter_that_answers_late_does_not_speak_for_a_fast_clock() {
    // What it shows may be from any moment of a long round trip: it bears the fast clock out as
    // little as it bears out the other voter, whose readings are good.
    for (own, heartbeats) in [(1_200, 3), (1_200, 2), (1_500, 2), (2_000, 1)] {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.start(ledger(0, 0));
        world.run(2_000);
        let now_ms = world.now_ms;
        world.own.set_rate(own, now_ms);
        let mut ahead = world.run_late(2, usize::MAX, 500);
        world.peers.get_mut(&2).unwrap().reachable = false;
        ahead += world.run_late(2, heartbeats, 50 * (heartbeats as u64 + 1));
        // What was counted until now stands, whoever is heard from now on.
        world.set_voters(vec![BTreeSet::from([1, 2, 3])]);
        world.peers.get_mut(&2).unwrap().reachable = true;
        ahead += world.run_late(2, usize::MAX, 1_000);
        // Between two heartbeats it goes by its own clock.
        let margin = (2 * HEARTBEAT_MS * (own - 1_000) / 1_000).cast_signed();
        assert!(ahead <= margin, "{own}, {heartbeats}: {ahead} ms ahead");
        assert!(ahead >= -150, "{own}, {heartbeats}: {ahead} ms ahead");
    }
}

#[test]
fn what_a_fast_clock_gains_between_readings_does_not_add_up() {
    // A voter is heard well, then late, then well again, for as long as two anchors live.
    for (own, heartbeats) in [(1_200, 4), (1_500, 2), (2_000, 1)] {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.start(ledger(0, 0));
        world.run(2_000);
        let now_ms = world.now_ms;
        world.own.set_rate(own, now_ms);
        let mut ahead = 0;
        for _ in 0..16 {
            world.peers.get_mut(&2).unwrap().reachable = true;
            ahead += world.run_late(2, usize::MAX, 200);
            world.peers.get_mut(&2).unwrap().reachable = false;
            ahead += world.run_late(2, heartbeats, 400);
            let passed = (world.now_ms - now_ms).cast_signed();
            let gained = 2 * (HEARTBEAT_MS * (own - 1_000) / 1_000).cast_signed();
            assert!(ahead <= gained, "{own}, {heartbeats}: {ahead} ms ahead in {passed}");
            assert!(ahead >= -passed / 10, "{own}, {heartbeats}: {ahead} ms ahead in {passed}");
        }
    }
}

#[test]
fn a_fast_peer_does_not_make_up_for_what_a_fast_leader_took() {
    // First the leader's clock goes too fast, then it is well, then one peer's is: never two at
    // once. Measured over all of it, that peer's median would have let time pass at its own rate.
    for (own, peer, well_ms) in [(2_000, 2_000, 5_000), (2_000, 2_000, 0), (1_200, 2_000, 1_000)] {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.start(ledger(0, 0));
        world.run(2_000);
        let now_ms = world.now_ms;
        world.own.set_rate(own, now_ms);
        world.run(2_000);
        let now_ms = world.now_ms;
        world.own.set_rate(1_000, now_ms);
        let before = world.run(well_ms).or_else(|| world.stamp()).unwrap().led_ms;
        let then_ms = world.now_ms;
        world.peers.get_mut(&2).unwrap().set_rate(peer, then_ms);
        for _ in 0..20 {
            let led = world.run(100).unwrap().led_ms - before;
            let passed = world.now_ms - then_ms;
            assert!(led <= passed + 200, "{own}, {peer}, {well_ms}: {led} led in {passed}");
            assert!(led + 100 >= passed, "{own}, {peer}, {well_ms}: only {led} led in {passed}");
        }
    }
}

#[test]
fn a_restarted_peer_is_no_drift() {
    let mut world = World::new(&[Node::good(), Node::good()]);
    world.start(ledger(0, 0));
    world.run(40_000);
    for peer in world.peers.values_mut() {
        // A new process counts from another point, here from twice as far.
        *peer = Node { per_mille: 2_000, boot: 2, ..*peer };
    }
    world.run(100);
    for peer in world.peers.values_mut() {
        *peer = Node { per_mille: 1_000, boot: 3, ..*peer };
    }
    let stamp = world.run(10_000).unwrap();
    assert_near(stamp.led_ms, 50_100, 200);
    assert!(!world.clock.is_off());
}

#[test]
fn whoever_comes_or_goes_gives_no_time_back() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 5] = [
        ("one restarts", |world| world.restart(2)),
        ("both restart", |world| [2, 3].into_iter().for_each(|peer| world.restart(peer))),
        ("one is silent for a while", |world| {
            world.peers.get_mut(&2).unwrap().reachable = false;
            world.run(1_000);
            world.peers.get_mut(&2).unwrap().reachable = true;
        }),
        ("one votes no more", |world| world.set_voters(vec![BTreeSet::from([1, 3])])),
        ("the voters change", |world| {
            world.set_voters(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 3])]);
            world.run(100);
            world.set_voters(vec![BTreeSet::from([1, 2, 3])]);
        }),
    ];
    for (what, change) in changes {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.own.per_mille = 1_005;
        world.start(ledger(0, 0));
        let before = world.run(3_600_000).unwrap().led_ms;
        let then_ms = world.now_ms;
        assert_near(before, 3_600_000, 120);
        change(&mut world);
        let after = world.run(1_000).unwrap().led_ms;
        let passed = world.now_ms - then_ms;
        assert!(after - before <= passed + 20, "{what}: {} in {passed}", after - before);
        assert_near(after - before, passed, 150);
    }
}

#[test]
fn civil_time_jumps_to_the_median_of_an_agreeing_majority_when_a_term_begins() {
    let truth = WALL_MS + 1_050;
    let day = 86_400_000;
    // Offsets of the own and the peers' wall clocks, the ledger's clock, the clock after the start.
    let cases = [
        ([0, 0, 0], 0, truth),
        ([0, 4_000, 3_000], 0, truth + 3_000),
        ([0, 4_000, day], 0, truth),
        ([day, 0, 100], 0, truth),
        ([0, 0, 0], truth - day, truth),
        ([0, 0, 0], truth + day, truth + day),
        ([0, day, 2 * day], truth - 5, truth - 5),
    ];
    for (offsets, civil_ms, expected) in cases {
        let node = |wall_offset_ms| Node { wall_offset_ms, ..Node::good() };
        let mut world = World::new(&[node(offsets[1]), node(offsets[2])]);
        world.own.wall_offset_ms = offsets[0];
        world.start(ledger(0, civil_ms));
        let started = world.stamp().unwrap().civil_ms;
        assert!((started - expected).abs() <= 2, "{offsets:?}: {started} is not {expected}");
        let disagree = world.clock.alarms().any(|it| it == Alarm::ClocksDisagree);
        assert_eq!(disagree, offsets == [0, day, 2 * day], "{offsets:?}");
    }
    let mut alone = World::new(&[]);
    alone.start(ledger(0, 0));
    assert_eq!(alone.stamp().unwrap().civil_ms, WALL_MS + alone.now_ms as i64);
}

#[test]
fn inside_a_term_civil_time_is_steered_slowly_and_never_back() {
    // How far all wall clocks move after 10 s, how far the civil clock follows in the next 10 s,
    // and whether that is an alarm.
    let minute = 60_000;
    let cases = [
        (0, 10_000, false),
        (500, 10_500, false),
        (minute, 11_000, false),
        (-500, 9_500, false),
        (-minute, 0, false),
        (11 * minute, 10_000, true),
        (-11 * minute, 10_000, true),
    ];
    for (moved_ms, expected, alarm) in cases {
        let mut world = World::new(&[Node::good(), Node::good()]);
        world.start(ledger(0, 0));
        let before = world.run(10_000).unwrap();
        world.own.wall_offset_ms = moved_ms;
        world.peers.values_mut().for_each(|peer| peer.wall_offset_ms = moved_ms);
        let after = world.run(10_000).unwrap();
        let passed = after.civil_ms - before.civil_ms;
        assert!((passed - expected).abs() <= 60, "{moved_ms}: {passed} is not {expected}");
        let raised = world.clock.alarms().any(|it| it == Alarm::CivilJump);
        assert_eq!(raised, alarm, "{moved_ms}");
    }
}

#[test]
fn a_membership_change_needs_both_majorities() {
    let mut world = World::new(&[Node::good(), Node::good(), Node::good(), Node::good()]);
    let sets = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])];
    world.set_voters(sets);
    world.start(ledger(0, 0));
    world.run(100);
    assert!(world.stamp().is_some());
    for id in [4, 5] {
        world.peers.get_mut(&id).unwrap().reachable = false;
    }
    world.run(400);
    assert_eq!(world.stamp(), None);
}

#[derive(Debug, Clone)]
enum Event {
    Run(u64),
    Reach(NodeId, bool),
    Wall(NodeId, i64),
    Restart(NodeId),
    Pause(u64),
    Voters(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (50_u64..20_000).prop_map(Event::Run),
        2 => (2_u64..4, any::<bool>()).prop_map(|(id, on)| Event::Reach(id, on)),
        1 => (1_u64..4, -2_000_000_i64..2_000_000).prop_map(|(id, ms)| Event::Wall(id, ms)),
        1 => (2_u64..6).prop_map(Event::Restart),
        1 => (50_u64..10_000).prop_map(Event::Pause),
        1 => (0_usize..4).prop_map(Event::Voters),
    ]
}

fn voters(number: usize) -> Vec<BTreeSet<NodeId>> {
    match number {
        0 => vec![BTreeSet::from([1, 2, 3])],
        1 => vec![BTreeSet::from([1, 2])],
        2 => vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5])],
        _ => vec![BTreeSet::from([1, 2, 3, 4, 5])],
    }
}

/// What a silent voter's clock, or one whose span began anew, may have gone otherwise in the
/// lifetime of an acknowledgement, and the rounding of a stamp.
const GRANULARITY_MS: u64 = 60;

proptest! {
    #[test]
    fn clocks_never_go_back_and_led_time_outruns_neither_own_nor_median_clock(
        events in prop::collection::vec(event(), 1..40),
        rates in prop::array::uniform5(950_u64..=1_050),
    ) {
        let node = |per_mille| Node { per_mille, ..Node::good() };
        let mut world = World::new(&rates[1..].iter().map(|it| node(*it)).collect::<Vec<_>>());
        world.own.per_mille = rates[0];
        world.clock = LeaderClock::new(1, LIFETIME_NS);
        let mut now_voting = voters(3);
        world.set_voters(now_voting.clone());
        world.heartbeat();
        world.start(ledger(7_000, WALL_MS));
        let (mut last, mut last_at_ms) = (world.stamp().unwrap(), world.now_ms);
        for event in events {
            match event {
                Event::Run(ms) => { world.run(ms); }
                Event::Reach(id, on) => world.peers.get_mut(&id).unwrap().reachable = on,
                Event::Wall(1, ms) => world.own.wall_offset_ms = ms,
                Event::Wall(id, ms) => world.peers.get_mut(&id).unwrap().wall_offset_ms = ms,
                Event::Restart(id) => world.restart(id),
                Event::Pause(ms) => world.now_ms += ms,
                Event::Voters(number) => {
                    // Time without a stamp is judged by the voters of the whole of it.
                    if world.stamp().is_none() {
                        continue;
                    }
                    now_voting = voters(number);
                    world.set_voters(now_voting.clone());
                }
            }
            if let Some(stamp) = world.stamp() {
                let passed_ms = world.now_ms - last_at_ms;
                prop_assert!(stamp.led_ms >= last.led_ms && stamp.civil_ms >= last.civil_ms);
                let most_ms = passed_ms * world.rate(&now_voting) / 1_000 + GRANULARITY_MS;
                let led_ms = stamp.led_ms - last.led_ms;
                prop_assert!(led_ms <= most_ms, "{} of at most {}", led_ms, most_ms);
                // Whatever the readings were worth: it goes by no clock that is faster than ours.
                let own_ms = passed_ms * rates[0] / 1_000 + 1;
                prop_assert!(led_ms <= own_ms, "{} of {} here", led_ms, own_ms);
                (last, last_at_ms) = (stamp, world.now_ms);
            }
        }
    }
}
