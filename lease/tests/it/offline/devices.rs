//! Devices whose clocks are off by up to the skew, against one promise: at every instant the leases
//! that are live and the tokens that some device still believes in are no more seats than were
//! bought, whatever is asked in whatever order and however unevenly the two clocks move. Only what
//! an operator wrote off is not counted.
//!
//! A device believes in a token while its own clock shows a time at which the token is good. It
//! gives a token up when it returns the lease or the borrow, and at no other sign: it is offline.

use std::collections::BTreeMap;

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::limits::LedgerLimits;
use lease::offline::*;
use lease::outcome::{Outcome, RenewalOutcome};
use proptest::prelude::*;

use crate::offline::entitle;
use crate::world::*;

const SKEW_MS: i64 = 10_000;
const TTL_MS: i64 = 40_000;
/// When one of `gamma`'s two commit seats lapses.
const LAPSE_MS: i64 = 100_000;
const PACKAGES: [&str; 3] = ["alpha", "beta", "gamma"];
/// How far the clock of a lease's device is off the civil clock, by the lease's number.
const OFF_MS: [i64; 5] = [-SKEW_MS, SKEW_MS, 0, -SKEW_MS, -SKEW_MS / 2];

#[derive(Debug, Clone)]
enum Step {
    Pass { led_ms: u64, civil_ms: i64 },
    Checkout { package: usize, quantity: u32 },
    Classic { package: usize, ttl_ms: u64 },
    Heartbeat { lease: usize, lost: bool, before: bool },
    Borrow { lease: usize, duration_ms: u64, lost: bool, before: bool },
    ReturnBorrow { lease: usize, before: bool },
    Return { lease: usize },
    Release { lease: usize },
    WriteOff { lease: usize },
    Change { package: usize, suspend: bool },
}

/// What a device has of a lease.
#[derive(Debug, Clone)]
struct Token {
    package: Name,
    class: SeatClass,
    quantity: u32,
    ends_ms: i64,
    off_ms: i64,
}

struct Story {
    world: World,
    /// The leases that were granted, with their packages.
    granted: Vec<(LeaseId, Name)>,
    tokens: BTreeMap<LeaseId, Token>,
    /// How often the promise needed a seat that had run out by the lease clock.
    kept_alive: u32,
}

impl Story {
    fn new() -> Self {
        let limits = LedgerLimits { expiries_per_entry: 2, ..LedgerLimits::PRODUCTION };
        let mut world = World::founded(limits);
        world.root(Command::PinVendor(vendor("vector-de")));
        for (number, name) in PACKAGES.into_iter().enumerate() {
            let mut terms = terms(name, "davinci", 2, 2);
            terms.total = 3;
            terms.policy.lease_ttl_ms = TTL_MS as u32;
            terms.policy.offline_skew_ms = SKEW_MS as u32;
            terms.policy.renewal_rotation = number != 1;
            let mut offline = OfflineTerms {
                tokens: number != 1,
                borrow_max_ms: 300_000,
                borrow_seats_max: Some(2),
                online_reserve: 1,
            };
            if number == 2 {
                offline.borrow_seats_max = None;
                offline.online_reserve = 0;
                terms.sources[0].valid_until_ms = START_MS + LAPSE_MS;
                let lasting = CapacitySource {
                    seats: 1,
                    valid_until_ms: START_MS + 500_000,
                    ..terms.sources[0].clone()
                };
                terms.sources[0].seats = 1;
                terms.sources.push(lasting);
                terms.valid_until_ms = START_MS + 500_000;
            }
            world.root(entitle(terms, offline));
        }
        world.root(register(1, "davinci"));
        Self { world, granted: Vec::new(), tokens: BTreeMap::new(), kept_alive: 0 }
    }

    fn step(&mut self, step: &Step) {
        let (app, root) = (app_actor(1, 1), Actor::Operator(ROOT));
        let (actor, command, lost) = match step {
            Step::Pass { led_ms, civil_ms } => {
                self.world.clock.led_ms += led_ms;
                self.world.clock.civil_ms += civil_ms;
                (Actor::Node(1), Command::Tick, false)
            }
            Step::Checkout { package, quantity } => {
                let id = self.grow(*package);
                let mut checkout = checkout(PACKAGES[*package], "davinci", id);
                checkout.quantity = *quantity;
                (app, Command::Checkout(Box::new(checkout)), false)
            }
            Step::Classic { package, ttl_ms } => {
                let checkout = ClassicCheckout {
                    package: PACKAGES[*package].into(),
                    lease: self.grow(*package),
                    user: subject("anna"),
                    api_key: None,
                    ttl_ms: *ttl_ms,
                };
                let command = Command::ClassicCheckout(Box::new(checkout));
                (Actor::Face(Face::Classic), command, false)
            }
            Step::Heartbeat { lease, lost, before } => {
                let Some((lease, sequence)) = self.pick(*lease, *before) else { return };
                let renewal = Renewal { lease, sequence, still_active: true };
                (app, Command::Heartbeat { leases: vec![renewal] }, *lost)
            }
            Step::Borrow { lease, duration_ms, lost, before } => {
                let Some((lease, sequence)) = self.pick(*lease, *before) else { return };
                let borrow = Borrow { lease, sequence, duration_ms: *duration_ms };
                (app, Command::Borrow(borrow), *lost)
            }
            Step::ReturnBorrow { lease, before } => {
                let Some((lease, sequence)) = self.pick(*lease, *before) else { return };
                (app, Command::ReturnBorrow(ReturnBorrow { lease, sequence }), false)
            }
            Step::Return { lease } => {
                let Some((lease, _)) = self.pick(*lease, false) else { return };
                let usage = UsageReport::default();
                (app, Command::Return(Box::new(Return { lease, usage })), false)
            }
            Step::Release { lease } => {
                let Some((lease, _)) = self.pick(*lease, false) else { return };
                (root, Command::Release { lease, reason: "".into() }, false)
            }
            Step::WriteOff { lease } => {
                let Some((lease, _)) = self.pick(*lease, false) else { return };
                (root, Command::WriteOff(WriteOff { lease, reason: "".into() }), false)
            }
            Step::Change { package, suspend } => {
                let change =
                    PackageChange { package: PACKAGES[*package].into(), reason: "".into() };
                let command = if *suspend {
                    Command::SuspendPackage(change)
                } else {
                    Command::ResumePackage(change)
                };
                (root, command, false)
            }
        };
        let borrows = self.borrows();
        let outcome = self.world.apply(actor, None, command.clone());
        if matches!(command, Command::Heartbeat { .. }) {
            self.check_borrows(&borrows);
        }
        self.learn(&command, &outcome, lost);
    }

    /// The ends of all borrows.
    fn borrows(&self) -> BTreeMap<LeaseId, i64> {
        let ids = self.granted.iter().filter_map(|(id, _)| self.world.ledger.hold(*id));
        ids.filter(|hold| hold.borrowed).map(|hold| (hold.lease, hold.ends_ms)).collect()
    }

    /// A borrow that lasts longer than a renewal would goes on as it was when it is renewed.
    fn check_borrows(&self, before: &BTreeMap<LeaseId, i64>) {
        let term_ends_ms = self.world.ledger.clock().civil_ms + TTL_MS;
        for (id, ends_ms) in before.iter().filter(|(_, ends_ms)| **ends_ms >= term_ends_ms) {
            let hold = self.world.ledger.hold(*id).expect("a heartbeat ends no borrow");
            assert!(hold.borrowed && hold.ends_ms == *ends_ms, "{hold:?}: it ended {ends_ms}");
        }
    }

    fn grow(&mut self, package: usize) -> LeaseId {
        let id = lease_id(self.granted.len() as u64 + 1);
        self.granted.push((id, PACKAGES[package].into()));
        id
    }

    /// Some lease, a live one if there is any, with the sequence of its token or the one before.
    fn pick(&self, index: usize, before: bool) -> Option<(LeaseId, u32)> {
        let live: Vec<_> =
            self.world.ledger.leases(None).map(|lease| (lease.lease, lease.sequence)).collect();
        let (lease, sequence) = match live.is_empty() {
            true if self.granted.is_empty() => return None,
            true => (self.granted[index % self.granted.len()].0, 1),
            false => live[index % live.len()],
        };
        Some((lease, if before { sequence.saturating_sub(1) } else { sequence }))
    }

    /// What the device that asked has now.
    fn learn(&mut self, command: &Command, outcome: &Outcome, lost: bool) {
        let proof = match outcome {
            Outcome::Refused(_) => return,
            Outcome::Borrowed(renewed) => Some(&renewed.proof),
            Outcome::Renewed(outcomes) => match &outcomes[0] {
                RenewalOutcome::RenewedOffline(renewed) => Some(&renewed.proof),
                RenewalOutcome::Refused(_) => return,
                RenewalOutcome::Renewed { .. } => None,
            },
            _ => None,
        };
        match command {
            Command::Return(give_back) => drop(self.tokens.remove(&give_back.lease)),
            Command::WriteOff(write_off) => drop(self.tokens.remove(&write_off.lease)),
            // The device gave the token up before it asked, whether it hears the answer or not.
            Command::ReturnBorrow(give_back) => drop(self.tokens.remove(&give_back.lease)),
            _ => {}
        }
        let Some(proof) = proof.filter(|_| !lost) else { return };
        let number = self.granted.iter().position(|(id, _)| *id == proof.lease);
        let token = Token {
            package: proof.package.clone(),
            class: proof.class,
            quantity: proof.quantity,
            ends_ms: proof.ends_ms,
            off_ms: OFF_MS[number.expect("it was granted") % OFF_MS.len()],
        };
        self.tokens.insert(proof.lease, token);
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let ledger = &self.world.ledger;
        let clock = ledger.clock();
        for name in PACKAGES {
            let live = ledger.leases_of_package(name);
            let mut seats: BTreeMap<LeaseId, u32> =
                live.map(|lease| (lease.lease, lease.quantity)).collect();
            for (id, token) in self.tokens.iter().filter(|(_, token)| &*token.package == name) {
                if clock.civil_ms + token.off_ms <= token.ends_ms {
                    let lease = ledger.lease(id);
                    let over = lease.is_some_and(|it| it.expires_led_ms <= clock.led_ms);
                    self.kept_alive += u32::from(over);
                    seats.insert(*id, token.quantity);
                }
            }
            let believed: u32 = seats.values().sum();
            prop_assert!(believed <= 3, "{name}: {believed} seats are believed in: {seats:?}");
        }
        // Of the seats that lapse one is left.
        if clock.civil_ms > START_MS + LAPSE_MS + SKEW_MS {
            let tokens = self.tokens.values().filter(|token| {
                let is_good = clock.civil_ms + token.off_ms <= token.ends_ms;
                &*token.package == "gamma" && token.class == SeatClass::Commit && is_good
            });
            let believed: u32 = tokens.map(|token| token.quantity).sum();
            prop_assert!(believed <= 1, "{believed} seats are believed in of one");
        }
        Ok(())
    }
}

fn step() -> impl Strategy<Value = Step> {
    let package = 0_usize..3;
    let lease = || 0_usize..60;
    let rarely = || prop::bool::weighted(0.15);
    let led = prop_oneof![Just(0), 0_u64..15_000, Just(40_000), Just(41_000)];
    let civil =
        prop_oneof![2 => Just(0), 4 => 0_i64..15_000, 2 => Just(SKEW_MS), 1 => 0_i64..90_000];
    let duration = prop_oneof![1_u64..60_000, 1_u64..320_000];
    prop_oneof![
        10 => (led, civil).prop_map(|(led_ms, civil_ms)| Step::Pass { led_ms, civil_ms }),
        12 => (package.clone(), 1_u32..3)
            .prop_map(|(package, quantity)| Step::Checkout { package, quantity }),
        2 => (package.clone(), 1000_u64..100_000)
            .prop_map(|(package, ttl_ms)| Step::Classic { package, ttl_ms }),
        10 => (lease(), rarely(), rarely())
            .prop_map(|(lease, lost, before)| Step::Heartbeat { lease, lost, before }),
        6 => (lease(), duration, rarely(), rarely()).prop_map(
            |(lease, duration_ms, lost, before)| Step::Borrow { lease, duration_ms, lost, before }
        ),
        2 => (lease(), rarely())
            .prop_map(|(lease, before)| Step::ReturnBorrow { lease, before }),
        2 => lease().prop_map(|lease| Step::Return { lease }),
        2 => lease().prop_map(|lease| Step::Release { lease }),
        1 => lease().prop_map(|lease| Step::WriteOff { lease }),
        1 => (package, any::<bool>())
            .prop_map(|(package, suspend)| Step::Change { package, suspend }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_more_seats_are_believed_in_than_were_bought(
        steps in prop::collection::vec(step(), 1..90),
    ) {
        let mut story = Story::new();
        for step in &steps {
            story.step(step);
            story.check()?;
        }
    }
}

/// The promise is put to the test only where a token is believed in after its lease has run out.
#[test]
fn stories_reach_tokens_that_outlive_their_renewals() {
    let mut story = Story::new();
    story.step(&Step::Checkout { package: 0, quantity: 2 });
    story.step(&Step::Heartbeat { lease: 0, lost: false, before: false });
    story.step(&Step::Pass { led_ms: 40_000, civil_ms: 40_000 + SKEW_MS });
    story.check().expect("the promise is kept");
    assert_eq!(story.kept_alive, 1);
    story.step(&Step::Checkout { package: 0, quantity: 2 });
    story.check().expect("the promise is kept");
    story.step(&Step::Pass { led_ms: 0, civil_ms: 1 });
    story.step(&Step::Checkout { package: 0, quantity: 2 });
    story.check().expect("the promise is kept");
    assert_eq!(story.world.ledger.leases_of_package("alpha").count(), 1, "the seats are free");
}
