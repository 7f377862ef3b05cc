//! Random histories of all faces and of applications over one package, against a naive model; and
//! one story told through each protocol.
//!
//! The model knows who holds a seat and nothing of how that is stored. After every step the ledger
//! must have answered the same and hold the same seats, on a replica that never restarts and on one
//! that does after each step (see `world`, which checks every rule and the sum over all rows too).

use std::collections::BTreeMap;

use lease::command::Command;
use lease::ids::*;
use lease::license::{ActivationState, IssueLicense, LicenseState};
use proptest::prelude::*;

use crate::license_script::license;
use crate::script::say;
use crate::world::*;

const TTL_MS: u64 = 40_000;
const PERIOD_MS: i64 = 100_000;
/// Seats of the package: commit, overage, and both together.
const SEATS: [u32; 3] = [3, 3, 5];

/// Licenses 1 to 4 by what their plans say: face, most activations, seats of one activation.
const PLANS: [(Face, u32, u32); 4] = [
    (Face::Device, 2, 1),
    (Face::Deployment, 0, 2),
    (Face::Evaluation, 0, 1),
    (Face::Deployment, 2, 1),
];

#[derive(Debug, Clone, Copy)]
enum Step {
    Pass { led_ms: u64, civil_ms: i64 },
    Checkout { quantity: u32 },
    GiveBack { which: usize },
    Ask { license: usize, holder: usize, again: bool },
    Leave { license: usize, holder: usize },
    License { license: usize, change: usize },
    Activation { license: usize, holder: usize, change: usize },
    Package { change: usize },
}

const LICENSE_WORDS: [&str; 5] = ["suspend", "resume", "revoke", "reinstate", "cancel"];
const ACTIVATION_WORDS: [&str; 3] = ["remove", "revoke", "reinstate"];
const PACKAGE_WORDS: [&str; 2] = ["suspend", "resume"];

#[derive(Debug, Clone)]
struct Activation {
    state: ActivationState,
    since: i64,
}

#[derive(Debug, Clone, PartialEq)]
enum Who {
    Lease(u64),
    Activation(usize, usize),
}

#[derive(Debug, Clone)]
struct Seat {
    who: Who,
    quantity: u32,
    commit: bool,
    /// `None`: it has no end on the lease clock.
    ends: Option<u64>,
}

struct Model {
    led: u64,
    civil: i64,
    seats: Vec<Seat>,
    activations: BTreeMap<(usize, usize), Activation>,
    licenses: [(LicenseState, u32); 4],
    suspended: bool,
    next_lease: u64,
}

impl Model {
    fn settle(&mut self) {
        let (led, civil) = (self.led, self.civil);
        let activations = &mut self.activations;
        self.seats.retain(|seat| {
            let over = match seat.who {
                Who::Activation(license, holder) if PLANS[license].0 == Face::Evaluation => {
                    civil > activations[&(license, holder)].since + PERIOD_MS
                }
                _ => false,
            };
            let ended = over || seat.ends.is_some_and(|ends| ends <= led);
            if let Who::Activation(license, holder) = seat.who
                && ended
                && let Some(row) = activations.get_mut(&(license, holder))
            {
                row.state = ActivationState::Released;
            }
            !ended
        });
    }

    fn free(&mut self, license: usize, of: Option<usize>) {
        self.seats.retain(|seat| match seat.who {
            Who::Activation(its, holder) => its != license || of.is_some_and(|of| of != holder),
            Who::Lease(_) => true,
        });
    }

    fn take(&mut self, who: Who, quantity: u32, ends: Option<u64>) -> Option<bool> {
        let out = |commit: bool| {
            let of_class = self.seats.iter().filter(|seat| seat.commit == commit);
            of_class.map(|seat| seat.quantity).sum::<u32>()
        };
        let commit = out(true) + quantity <= SEATS[0];
        let room = commit || out(false) + quantity <= SEATS[1];
        if !room || out(true) + out(false) + quantity > SEATS[2] {
            return None;
        }
        self.seats.push(Seat { who, quantity, commit, ends });
        Some(commit)
    }

    fn active(&self, license: usize) -> u32 {
        let rows = self
            .activations
            .iter()
            .filter(|((its, _), row)| *its == license && row.state == ActivationState::Active);
        rows.count() as u32
    }

    /// `again`: a verification instead of an activation.
    fn ask(&mut self, license: usize, holder: usize, again: bool) -> String {
        let (face, most, quantity) = PLANS[license];
        let (state, token_version) = self.licenses[license];
        let refused = match state {
            LicenseState::Cancelled => Some("no LicenseCancelled"),
            LicenseState::Revoked => Some("no LicenseRevoked"),
            LicenseState::Suspended => Some("no LicenseSuspended"),
            LicenseState::Active => self.suspended.then_some("no LicenseSuspended"),
        };
        let known = self.activations.get(&(license, holder)).cloned();
        // What an evaluation shows is its activation; without one there is no license to judge.
        if again && known.is_none() && (face == Face::Evaluation || refused.is_none()) {
            return "no UnknownActivation".into();
        }
        if let Some(refused) = refused {
            return refused.into();
        }
        if let Some(row) = &known {
            if row.state == ActivationState::Revoked {
                return "no ActivationRevoked".into();
            }
            if face == Face::Evaluation && self.civil > row.since + PERIOD_MS {
                return "no ActivationExpired".into();
            }
        }
        let ends = (face == Face::Deployment).then_some(self.led + TTL_MS);
        if known.as_ref().is_some_and(|row| row.state == ActivationState::Active) {
            let who = Who::Activation(license, holder);
            for seat in self.seats.iter_mut().filter(|seat| seat.who == who) {
                seat.ends = ends;
            }
            return format!("same tv={token_version}");
        }
        let slots = face == Face::Deployment;
        if (slots || most > 0) && self.active(license) >= most.max(1) {
            return if slots { "no SlotInUse" } else { "no TooManyActivations" }.into();
        }
        if slots && again {
            return "no UnknownActivation".into();
        }
        if self.take(Who::Activation(license, holder), quantity, ends).is_none() {
            return "no NoSeat".into();
        }
        let since = known.map_or(self.civil, |row| row.since);
        let row = Activation { state: ActivationState::Active, since };
        self.activations.insert((license, holder), row);
        format!("seat tv={token_version}")
    }

    fn change_license(&mut self, license: usize, change: usize) -> String {
        use LicenseState::{Active, Cancelled, Revoked, Suspended};
        let (state, token_version) = self.licenses[license];
        let to = match (LICENSE_WORDS[change], state) {
            ("suspend", Active | Suspended) => Suspended,
            ("resume", Active | Suspended) | ("reinstate", Active | Revoked) => Active,
            ("revoke", Active | Suspended | Revoked) => Revoked,
            ("cancel", _) => Cancelled,
            _ => return "no LicenseStateConflict".into(),
        };
        if to == state {
            return "unchanged".into();
        }
        self.licenses[license] = (to, token_version + 1);
        if matches!(to, Revoked | Cancelled) {
            self.free(license, None);
            for ((its, _), row) in &mut self.activations {
                if *its == license && row.state == ActivationState::Active {
                    row.state = ActivationState::Released;
                }
            }
        }
        "done".into()
    }

    fn change_activation(&mut self, license: usize, holder: usize, change: usize) -> String {
        let Some(row) = self.activations.get_mut(&(license, holder)) else {
            return "no UnknownActivation".into();
        };
        let revoked = row.state == ActivationState::Revoked;
        match ACTIVATION_WORDS[change] {
            "remove" => {
                self.activations.remove(&(license, holder));
                self.free(license, Some(holder));
            }
            "revoke" if !revoked => {
                row.state = ActivationState::Revoked;
                self.free(license, Some(holder));
            }
            "reinstate" if revoked => row.state = ActivationState::Released,
            _ => return "unchanged".into(),
        }
        "done".into()
    }

    fn leave(&mut self, license: usize, holder: usize) -> (String, String) {
        if PLANS[license].0 != Face::Deployment {
            return ("leave K9 h-1".into(), "no UnknownLicenseKey".into());
        }
        if let Some(row) = self.activations.get_mut(&(license, holder))
            && row.state == ActivationState::Active
        {
            row.state = ActivationState::Released;
            self.free(license, Some(holder));
        }
        (format!("leave K{} h-{holder}", license + 1), "done".into())
    }

    /// The line that says a step in the script language, and what is to be answered.
    fn step(&mut self, step: Step) -> (String, String) {
        if let Step::Pass { led_ms, civil_ms } = step {
            self.led += led_ms;
            self.civil += civil_ms;
            self.settle();
            return (format!("time led=+{led_ms}ms civil=+{civil_ms}ms"), "done".into());
        }
        match step {
            Step::Pass { .. } => unreachable!("done before"),
            Step::Checkout { quantity } => {
                let lease = self.next_lease;
                self.next_lease += 1;
                let line = format!("checkout L{lease} alpha qty={quantity}");
                if self.suspended {
                    return (line, "no PackageSuspended".into());
                }
                let ends = Some(self.led + TTL_MS);
                let answer = match self.take(Who::Lease(lease), quantity, ends) {
                    Some(true) => "commit",
                    Some(false) => "overage",
                    None => "no MaxOverageExceeded",
                };
                (line, answer.into())
            }
            Step::GiveBack { which } => {
                let leases = self.seats.iter().filter_map(|seat| match seat.who {
                    Who::Lease(lease) => Some(lease),
                    Who::Activation(..) => None,
                });
                let leases: Vec<u64> = leases.collect();
                let Some(lease) = leases.get(which % leases.len().max(1)).copied() else {
                    return ("return L999".into(), "no AlreadyEnded".into());
                };
                self.seats.retain(|seat| seat.who != Who::Lease(lease));
                (format!("return L{lease}"), "cost".into())
            }
            Step::Ask { license, holder, again } => {
                let (word, tv) = (ask_word(PLANS[license].0, again), self.licenses[license].1);
                let line = format!("{word} K{} h-{holder} tv={tv}", license + 1);
                (line, self.ask(license, holder, again))
            }
            Step::Leave { license, holder } => self.leave(license, holder),
            Step::License { license, change } => {
                let line = format!("license K{} {}", license + 1, LICENSE_WORDS[change]);
                (line, self.change_license(license, change))
            }
            Step::Activation { license, holder, change } => {
                let word = ACTIVATION_WORDS[change];
                let line = format!("activation K{} h-{holder} {word}", license + 1);
                (line, self.change_activation(license, holder, change))
            }
            Step::Package { change } => {
                let to = change == 0;
                let same = self.suspended == to;
                self.suspended = to;
                let answer = if same { "unchanged" } else { "done" };
                (format!("{} alpha", PACKAGE_WORDS[change]), answer.into())
            }
        }
    }
}

fn ask_word(face: Face, again: bool) -> &'static str {
    match (face, again) {
        (Face::Device, false) => "device",
        (Face::Device, true) => "verify",
        (Face::Deployment, false) => "cluster",
        (Face::Deployment, true) => "beat",
        (_, false) => "host",
        (_, true) => "validate",
    }
}

fn step() -> impl Strategy<Value = Step> {
    let (license, holder) = (0_usize..4, 0_usize..3);
    let of = || (license.clone(), holder.clone());
    let wait = prop_oneof![0_u64..1000, 0_u64..45_000, Just(TTL_MS)];
    prop_oneof![
        4 => (wait, 0_i64..45_000).prop_map(|(led_ms, civil_ms)| Step::Pass { led_ms, civil_ms }),
        6 => (1_u32..3).prop_map(|quantity| Step::Checkout { quantity }),
        4 => (0_usize..9).prop_map(|which| Step::GiveBack { which }),
        20 => (of(), any::<bool>()).prop_map(|((license, holder), again)| {
            Step::Ask { license, holder, again }
        }),
        3 => of().prop_map(|(license, holder)| Step::Leave { license, holder }),
        3 => (license.clone(), prop_oneof![4 => 0_usize..4, 1 => Just(4)])
            .prop_map(|(license, change)| Step::License { license, change }),
        4 => (of(), 0_usize..3).prop_map(|((license, holder), change)| {
            Step::Activation { license, holder, change }
        }),
        2 => prop_oneof![1 => Just(0), 3 => Just(1)].prop_map(|change| Step::Package { change }),
    ]
}

/// A package of few seats, an application, client 1 and the licenses of `PLANS`.
fn world() -> World {
    let mut world = World::founded(lease::limits::LedgerLimits::PRODUCTION);
    world.root(Command::PinVendor(vendor("vector-de")));
    let mut terms = terms("alpha", "davinci", SEATS[0], SEATS[1]);
    terms.total = SEATS[2];
    terms.policy.lease_ttl_ms = TTL_MS as u32;
    world.root(import(terms));
    world.root(register(1, "davinci"));
    assert_eq!(say(&mut world, "client C1 anna@x.com"), "done");
    for (number, (face, most, quantity)) in (1_u128..).zip(PLANS) {
        let mut issue: IssueLicense = license(number, face, "alpha");
        let plan = &mut issue.terms.plan;
        (plan.max_activations, plan.seats_per_activation) = (most, quantity);
        match face {
            Face::Device => issue.terms.client = Some(ClientId(1)),
            Face::Deployment => plan.slot_ttl_ms = TTL_MS,
            _ => plan.activation_ms = PERIOD_MS as u64,
        }
        world.root(Command::IssueLicense(Box::new(issue)));
    }
    world
}

fn out(world: &World) -> u32 {
    let seats = world.ledger.package("alpha").expect("imported").seats();
    seats.commit_in_use + seats.overage_in_use
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_face_is_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = world();
        let mut model = Model {
            led: world.clock.led_ms,
            civil: world.clock.civil_ms,
            seats: Vec::new(),
            activations: BTreeMap::new(),
            licenses: [(LicenseState::Active, 1); 4],
            suspended: false,
            next_lease: 1,
        };
        let mut guesses = 0;
        for step in steps {
            let (line, expected) = model.step(step);
            // Wrong keys would end the story; that they are counted has tests of its own.
            guesses += u32::from(expected.starts_with("no Unknown"));
            prop_assume!(guesses < 900);
            let answer = say(&mut world, &line);
            // When to try again, and what a lease says of itself, is not the model's affair.
            let in_short = ["no NoSeat", "no MaxOverageExceeded", "commit", "overage", "cost"];
            let same = if in_short.contains(&&*expected) {
                answer.starts_with(&expected)
            } else {
                answer == expected
            };
            prop_assert!(same, "{line} -> {answer}, the model says {expected}");
            let taken: u32 = model.seats.iter().map(|seat| seat.quantity).sum();
            prop_assert_eq!(out(&world), taken, "after {}", line);
            prop_assert!(taken <= SEATS[2]);
        }
    }

    /// Take, keep, give back and let time pass: whichever protocol tells it, after each sentence as
    /// many seats are taken, and the same one is refused.
    #[test]
    fn one_story_through_each_protocol_leaves_the_same_seats(
        story in prop::collection::vec((0_usize..4, 0_usize..8, 0_u64..30_000), 1..40),
    ) {
        let tellings = ["cloud", "device", "deployment", "evaluation"].map(|protocol| {
            let mut teller = Teller::new(protocol);
            let told = story.iter().map(|(what, who, wait)| teller.tell(*what, *who, *wait));
            told.collect::<Vec<_>>()
        });
        for telling in &tellings[1..] {
            prop_assert_eq!(telling, &tellings[0]);
        }
    }
}

/// Tells a story of eight holders through one protocol.
struct Teller {
    protocol: &'static str,
    world: World,
    /// `cloud`: lease and sequence of each holder.
    held: [Option<(u64, u32)>; 8],
    leases: u64,
}

impl Teller {
    fn new(protocol: &'static str) -> Self {
        let mut world = world();
        let mut issue = license(7, Face::Deployment, "alpha");
        let plan = &mut issue.terms.plan;
        plan.slot_ttl_ms = TTL_MS;
        match protocol {
            "device" => {
                issue.terms.face = Face::Device;
                issue.terms.client = Some(ClientId(1));
            }
            "evaluation" => issue.terms.face = Face::Evaluation,
            _ => plan.max_activations = 100,
        }
        world.root(Command::IssueLicense(Box::new(issue)));
        Self { protocol, world, held: [None; 8], leases: 0 }
    }

    /// Whether a seat is held after a sentence, and how many are taken.
    fn tell(&mut self, what: usize, who: usize, wait: u64) -> (bool, u32) {
        let line = match (what, self.protocol) {
            (0, _) => format!("time +{wait}ms"),
            (1 | 2, "cloud") => self.check_out_or_renew(what, who),
            (3, "cloud") => match self.held[who].take() {
                Some((lease, _)) => format!("return L{lease}"),
                None => "time +0s".into(),
            },
            (1, "device") => format!("device K7 h-{who}"),
            (1, "deployment") => format!("cluster K7 h-{who}"),
            (1, _) => format!("host K7 h-{who}"),
            (2, _) if !self.is_active(who) => "time +0s".into(),
            (2, "device") => format!("verify K7 h-{who}"),
            (2, "deployment") => format!("beat K7 h-{who}"),
            (2, _) => format!("validate K7 h-{who}"),
            (_, "deployment") => format!("leave K7 h-{who}"),
            _ => format!("activation K7 h-{who} remove"),
        };
        let answer = say(&mut self.world, &line);
        let held = match self.protocol {
            "cloud" => self.heard(who, &answer, &line),
            _ => self.is_active(who),
        };
        (held, out(&self.world))
    }

    fn is_active(&self, who: usize) -> bool {
        let row = self.world.ledger.activation_of_holder(LicenseId(7), &format!("h-{who}"));
        row.is_some_and(|row| row.state == ActivationState::Active)
    }

    fn check_out_or_renew(&mut self, what: usize, who: usize) -> String {
        match self.held[who] {
            Some((lease, sequence)) => format!("heartbeat L{lease}:{sequence}"),
            None if what == 1 => {
                self.leases += 1;
                self.held[who] = Some((self.leases, 0));
                format!("checkout L{}", self.leases)
            }
            None => "time +0s".into(),
        }
    }

    fn heard(&mut self, who: usize, answer: &str, line: &str) -> bool {
        if line.starts_with("checkout") || line.starts_with("heartbeat") {
            match &mut self.held[who] {
                held if answer.starts_with("no") => *held = None,
                Some((_, sequence)) => *sequence += 1,
                None => {}
            }
        }
        for held in &mut self.held {
            *held = held.filter(|(lease, _)| self.world.ledger.lease(&lease_id(*lease)).is_some());
        }
        self.held[who].is_some()
    }
}
