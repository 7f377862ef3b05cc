//! A cluster that is lost and comes back from a backup, against what people believe.
//!
//! A random history is backed up at a random point and goes on; then all of it is gone. The backup
//! opens a new epoch. Those who held something when the cluster was lost come back or do not, some
//! ask for what they gave back long ago, new ones want seats. At every instant the seats that are
//! out are no more than were bought. As long as nobody asks for what is not theirs, neither are
//! those that somebody believes to have: a device that shows a token counts until its own clock,
//! slow by the skew, says that the token is over. Whoever held a lease and comes back within the
//! grace has it again, unless the package has no seat left.

use std::collections::BTreeMap;

use lease::command::*;
use lease::entry::{Actor, Stamp};
use lease::invariants::{Before, check_all};
use lease::limits::LedgerLimits;
use lease::offline::*;
use lease::operate::*;
use lease::outcome::{Outcome, RefusalCode, RenewalOutcome};
use proptest::prelude::*;

use crate::offline::entitle;
use crate::operate::{member, open_epoch, wrap};
use crate::world::*;

const TTL_MS: u32 = 600_000;
const SKEW_MS: i64 = 60_000;
const PACKAGES: [&str; 3] = ["alpha", "beta", "gamma"];

#[derive(Debug, Clone)]
enum Step {
    /// Real milliseconds; the lease clock moves by the share of them that is led.
    Pass {
        real_ms: i64,
        led_percent: u64,
    },
    Checkout {
        package: usize,
    },
    Renew {
        lease: usize,
        lost: bool,
    },
    Borrow {
        lease: usize,
        duration_ms: u64,
        lost: bool,
    },
    ReturnBorrow {
        lease: usize,
    },
    Return {
        lease: usize,
    },
    /// With the sequence of a token that was shown before, of a lease that may have ended.
    Forge {
        lease: usize,
        sequence: u32,
    },
}

/// What somebody has of a lease.
#[derive(Debug, Clone)]
struct Holder {
    package: usize,
    sequence: u32,
    /// The epoch its renewal token was made in.
    epoch: u32,
    /// Until when it works without a token, by real time.
    online_until_ms: i64,
    /// Until when a device that is slow by the skew believes its newest tokens.
    device_until_ms: i64,
    /// Whether the ledger that gave it has it: it gave nothing back and was not refused.
    holds: bool,
    /// Whether an answer was lost: then the ledger may be a sequence ahead.
    behind: bool,
}

struct Story {
    world: World,
    holders: BTreeMap<u64, Holder>,
    next: u64,
    epoch: u32,
    honest: bool,
    /// Leases that came back, known and not.
    back: [u32; 2],
}

impl Story {
    fn new(honest: bool) -> Self {
        let mut world = World::founded(LedgerLimits::PRODUCTION);
        world.apply(Actor::Node(1), None, Command::PutMember(member(1, 101, "")));
        world.apply(Actor::Node(1), None, Command::WrapDataKey(wrap(1, 1)));
        world.root(Command::PinVendor(vendor("vector-de")));
        for (number, name) in PACKAGES.into_iter().enumerate() {
            let mut terms = terms(name, "davinci", 2, 2);
            terms.total = 3;
            terms.policy.lease_ttl_ms = TTL_MS;
            terms.policy.offline_skew_ms = SKEW_MS as u32;
            terms.policy.renewal_rotation = number != 1;
            let offline = OfflineTerms {
                tokens: number == 1,
                borrow_max_ms: if number == 0 { 0 } else { 3_000_000 },
                borrow_seats_max: Some(2),
                online_reserve: 1,
            };
            world.root(entitle(terms, offline));
        }
        world.root(register(1, "davinci"));
        Self { world, holders: BTreeMap::new(), next: 1, epoch: 1, honest, back: [0; 2] }
    }

    fn step(&mut self, step: &Step) {
        let app = app_actor(1, 1);
        match *step {
            Step::Pass { real_ms, led_percent } => {
                self.world.clock.civil_ms += real_ms;
                self.world.clock.led_ms += real_ms as u64 * led_percent / 100;
                self.world.apply(Actor::Node(1), None, Command::Tick);
            }
            Step::Checkout { package } => self.check_out(package),
            Step::Renew { lease, lost } => {
                let Some((id, holder)) = self.pick(lease) else { return };
                if holder.epoch != self.epoch {
                    self.reclaim(id, holder.sequence);
                    return;
                }
                let Holder { sequence, .. } = holder;
                let renewal = Renewal { lease: lease_id(id), sequence, still_active: true };
                let command = Command::Heartbeat { leases: vec![renewal] };
                let outcome = self.world.apply(app, None, command);
                self.hear(id, &outcome, lost);
            }
            Step::Borrow { lease, duration_ms, lost } => {
                let Some((id, Holder { sequence, epoch, .. })) = self.pick(lease) else { return };
                if epoch == self.epoch {
                    let borrow = Borrow { lease: lease_id(id), sequence, duration_ms };
                    let outcome = self.world.apply(app, None, Command::Borrow(borrow));
                    self.hear(id, &outcome, lost);
                }
            }
            Step::ReturnBorrow { lease } => {
                let Some((id, Holder { sequence, epoch, .. })) = self.pick(lease) else { return };
                let give_back = ReturnBorrow { lease: lease_id(id), sequence };
                if epoch == self.epoch {
                    let outcome = self.world.apply(app, None, Command::ReturnBorrow(give_back));
                    if matches!(outcome, Outcome::Renewed(_)) {
                        self.holder(id).device_until_ms = i64::MIN;
                    }
                    self.hear(id, &outcome, false);
                }
            }
            Step::Return { lease } => {
                let Some((id, _)) = self.pick(lease) else { return };
                let usage = UsageReport::default();
                let give_back = Return { lease: lease_id(id), usage };
                self.world.apply(app, None, Command::Return(Box::new(give_back)));
                self.let_go(id);
            }
            Step::Forge { lease, sequence } => {
                if self.honest || self.next == 1 {
                    return;
                }
                let id = lease as u64 % self.next;
                // Only what was once shown can be shown again.
                let most = self.holders.get(&id).map_or(u32::MAX, |holder| {
                    if holder.holds { holder.sequence - 1 } else { holder.sequence }
                });
                self.reclaim(id, sequence.min(most));
            }
        }
    }

    fn check_out(&mut self, package: usize) {
        let id = self.next;
        let checkout = checkout(PACKAGES[package], "davinci", lease_id(id));
        let command = Command::Checkout(Box::new(checkout));
        if let Outcome::Granted(grant) = self.world.apply(app_actor(1, 1), None, command) {
            assert!(self.world.ledger.grace().is_none(), "nobody new in the grace");
            self.next += 1;
            let wait = i64::try_from(grant.expires_in_ms).expect("it ends");
            let holder = Holder {
                package,
                sequence: grant.sequence,
                epoch: self.epoch,
                online_until_ms: self.world.clock.civil_ms + wait,
                device_until_ms: i64::MIN,
                holds: true,
                behind: false,
            };
            self.holders.insert(id, holder);
        }
    }

    /// Somebody who works or has a token, in order of lease.
    fn pick(&self, number: usize) -> Option<(u64, Holder)> {
        let now = self.world.clock.civil_ms;
        let holds = |holder: &Holder| holder.holds && holder.believes(now);
        let mut holders = self.holders.iter().filter(|(_, holder)| holds(holder));
        let count = holders.clone().count();
        let (id, holder) = holders.nth(number % count.max(1))?;
        Some((*id, holder.clone()))
    }

    fn holder(&mut self, id: u64) -> &mut Holder {
        self.holders.get_mut(&id).expect("a holder")
    }

    fn let_go(&mut self, id: u64) {
        let holder = self.holder(id);
        (holder.holds, holder.online_until_ms, holder.device_until_ms) =
            (false, i64::MIN, i64::MIN);
    }

    /// What a holder makes of an answer. One that is lost is asked for again before anything else,
    /// so nothing but what was believed before follows from it: save for tokens, which a device may
    /// have all the same.
    fn hear(&mut self, id: u64, outcome: &Outcome, lost: bool) {
        let (now, epoch) = (self.world.clock.civil_ms, self.epoch);
        let (wait, sequence, ends_ms) = match outcome {
            Outcome::Renewed(outcomes) => match &outcomes[0] {
                RenewalOutcome::Renewed { expires_in_ms, sequence, .. } => {
                    (*expires_in_ms, *sequence, None)
                }
                RenewalOutcome::RenewedOffline(it) => {
                    (it.expires_in_ms, it.sequence, Some(it.proof.ends_ms))
                }
                RenewalOutcome::Refused(refusal) => return self.hear_no(id, refusal.code),
            },
            Outcome::Borrowed(it) => (it.expires_in_ms, it.sequence, Some(it.proof.ends_ms)),
            Outcome::Refused(refusal) => return self.hear_no(id, refusal.code),
            other => panic!("{other:?}"),
        };
        let holder = self.holder(id);
        if let Some(ends_ms) = ends_ms {
            holder.device_until_ms = holder.device_until_ms.max(ends_ms + SKEW_MS);
        }
        holder.behind = lost;
        if !lost {
            holder.online_until_ms = now + i64::try_from(wait).expect("it ends");
            (holder.sequence, holder.epoch) = (sequence, epoch);
        }
    }

    fn hear_no(&mut self, id: u64, code: RefusalCode) {
        match code {
            RefusalCode::LeaseEnded => {
                let holder = self.holder(id);
                (holder.holds, holder.online_until_ms) = (false, i64::MIN);
            }
            RefusalCode::RenewalTokenReplayed
            | RefusalCode::NotBorrowed
            | RefusalCode::BorrowLimitReached
            | RefusalCode::OfflineNotAllowed
            | RefusalCode::BorrowTooLong
            | RefusalCode::OnlineReserve => {}
            other => panic!("{other:?}"),
        }
    }

    fn reclaim(&mut self, id: u64, sequence: u32) {
        let holder = self.holders.get(&id).cloned();
        let package = holder.as_ref().map_or(0, |holder| holder.package);
        let command = Command::Reclaim(Box::new(Reclaim {
            lease: lease_id(id),
            sequence,
            former_epoch: 1,
            package: PACKAGES[package].into(),
        }));
        let grace = self.world.ledger.grace().is_some();
        let was_known = self.world.ledger.lease(&lease_id(id)).is_some();
        let outcome = self.world.apply(app_actor(1, 1), None, command);
        let entitled = holder
            .is_some_and(|it| it.holds && !it.behind && (it.epoch, it.sequence) == (1, sequence));
        match &outcome {
            Outcome::Renewed(_) => {
                assert!(grace, "only in the grace");
                self.back[usize::from(!was_known)] += 1;
                if entitled {
                    self.hear(id, &outcome, false);
                }
            }
            Outcome::Refused(refusal) if entitled && grace => {
                let seats = self.world.ledger.package(PACKAGES[package]).expect("there").seats();
                assert_eq!(refusal.code, RefusalCode::MaxOverageExceeded, "it was theirs");
                assert_eq!(seats.total_free, 0, "there was room");
                self.holder(id).online_until_ms = i64::MIN;
            }
            Outcome::Refused(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// What was stored at the backup, in a new epoch.
    fn restore(&mut self, store: Store, away_ms: i64) {
        let limits = self.world.limits;
        let ledger = load(&store, limits);
        let clock =
            Stamp { led_ms: ledger.clock().led_ms, civil_ms: self.world.clock.civil_ms + away_ms };
        let index = ledger.applied_index();
        let twin = load(&store, limits);
        let events = Vec::new();
        self.world = World { ledger, twin, store, limits, clock, index, events };
        let node = self.world.ledger.next_node_id().expect("a next");
        let open = open_epoch(2, 7, node, false, false, &["1"]);
        let before = Before::of(&self.world.ledger);
        let opened = self.world.apply(Actor::Node(node), None, Command::OpenEpoch(Box::new(open)));
        assert_eq!(opened, Outcome::Done);
        check_all(&before, &self.world.ledger).expect("every rule holds");
        // Fences of leases that go on are of it.
        let former: Vec<_> = self.world.ledger.former_epochs().copied().collect();
        assert_eq!(former, [FormerEpoch { epoch: 1, incarnation: INCARNATION }]);
        self.epoch = 2;
    }

    fn check(&self) {
        let now = self.world.clock.civil_ms;
        for (number, name) in PACKAGES.into_iter().enumerate() {
            let view = self.world.ledger.package(name).expect("the package");
            let (seats, total) = (view.seats(), view.terms.total);
            let out = seats.commit_in_use + seats.overage_in_use;
            assert!(out <= total, "{name}: {out} of {total} are out");
            let of_package = self.holders.values().filter(|holder| holder.package == number);
            let believers = of_package.filter(|holder| holder.believes(now)).count();
            assert!(!self.honest || believers <= total as usize, "{name}: {believers} believe");
        }
    }
}

impl Holder {
    fn believes(&self, now_ms: i64) -> bool {
        now_ms < self.online_until_ms || now_ms <= self.device_until_ms
    }
}

fn step() -> impl Strategy<Value = Step> {
    let lease = 0_usize..12;
    let lost = prop::bool::weighted(0.2);
    let wait = prop_oneof![4 => 0_i64..200_000, 2 => 0_i64..700_000, 1 => 0_i64..4_000_000];
    prop_oneof![
        4 => (wait, prop_oneof![3 => Just(100_u64), 1 => 0_u64..100])
            .prop_map(|(real_ms, led_percent)| Step::Pass { real_ms, led_percent }),
        8 => (0_usize..3).prop_map(|package| Step::Checkout { package }),
        8 => (lease.clone(), lost).prop_map(|(lease, lost)| Step::Renew { lease, lost }),
        4 => (lease.clone(), 1_u64..3_000_000, lost)
            .prop_map(|(lease, duration_ms, lost)| Step::Borrow { lease, duration_ms, lost }),
        2 => lease.clone().prop_map(|lease| Step::ReturnBorrow { lease }),
        4 => lease.clone().prop_map(|lease| Step::Return { lease }),
        2 => (lease, 0_u32..5).prop_map(|(lease, sequence)| Step::Forge { lease, sequence }),
    ]
}

fn check(honest: bool, known: &[Step], lost: &[Step], after: &[Step], away_ms: i64) -> [u32; 2] {
    let mut story = Story::new(honest);
    for step in known {
        story.step(step);
        story.check();
    }
    let backup = story.world.store.clone();
    for step in lost {
        story.step(step);
        story.check();
    }
    story.restore(backup, away_ms);
    story.check();
    for step in after {
        story.step(step);
        story.check();
    }
    story.back
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_oversold_through_a_restore(
        honest in any::<bool>(),
        known in prop::collection::vec(step(), 0..25),
        lost in prop::collection::vec(step(), 0..25),
        after in prop::collection::vec(step(), 0..40),
        away_ms in prop_oneof![Just(0_i64), 0_i64..1_000_000, 0_i64..20_000_000],
    ) {
        check(honest, &known, &lost, &after, away_ms);
    }
}

/// Borrowed after the backup, and back when its term without the borrow would be over.
#[test]
fn a_borrow_that_the_backup_does_not_know_comes_back_late_in_the_grace() {
    let back = check(
        true,
        &[Step::Checkout { package: 2 }],
        &[Step::Borrow { lease: 0, duration_ms: 800_000, lost: false }],
        &[
            Step::Pass { real_ms: i64::from(TTL_MS), led_percent: 100 },
            Step::Renew { lease: 0, lost: false },
        ],
        0,
    );
    assert_eq!(back, [1, 0]);
}

/// A history of every kind: so the property has something to say.
#[test]
fn known_and_unknown_leases_come_back() {
    let renew = |lease| Step::Renew { lease, lost: false };
    let back = check(
        true,
        &[Step::Checkout { package: 0 }],
        &[renew(0), renew(0), Step::Checkout { package: 0 }],
        &[Step::Checkout { package: 0 }, renew(0), renew(1), renew(0), renew(1)],
        0,
    );
    assert_eq!(back, [1, 1]);
}
