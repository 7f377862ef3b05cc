//! Random histories against a naive model of the rules.
//!
//! One file, though a long one: the model is to be read as a whole, beside the rules.
//!
//! The model keeps plain lists and searches them from end to end; it shares no code with the
//! ledger, only the types of commands. After every step the ledger must have answered the same,
//! hold the same leases and remember the same number of requests, on a replica that never restarts
//! and on one that does after each step (see `world`).

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::limits::LedgerLimits;
use lease::outcome::{Outcome, RefusalCode, RenewalOutcome};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use crate::world::*;

const TTL_MS: u64 = 40_000;
const PRICE: u32 = 500;
const MAX_ROWS: usize = 12;
/// Milliseconds after the start at which half of `beta`'s commit seats lapse, and at which it ends.
const LAPSE_MS: i64 = 40_000;
const END_MS: i64 = 150_000;

/// One step of a history.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Pass { led_ms: u64, civil_ms: i64 },
    Checkout { asker: Asker, package: usize, quantity: u32, team: bool, key: Key, again: bool },
    Heartbeat { asker: Asker, items: Vec<(Index, i64, bool)> },
    Return { asker: Asker, lease: Index, key: Key },
    Release { lease: Index },
    Change { package: usize, to: Change },
    Transfer { package: usize, into_team: bool, quantity: u32 },
    Rotate { app: usize },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    app: usize,
    stale: bool,
    /// Whether to ask as the application that holds the (first) lease instead.
    holder: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    Suspend,
    Resume,
    Revoke,
}

/// Key 0 is none, 1 to 4 a caller's, 5 to 6 a gateway's; each with one of two bodies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Key {
    number: u8,
    body: u8,
}

impl Key {
    fn origin(self) -> KeyOrigin {
        if self.number <= 4 { KeyOrigin::Caller } else { KeyOrigin::Gateway }
    }

    fn request(self, operation: &str, app: usize) -> Option<RequestId> {
        let body = format!("body {}", self.body);
        let key = format!("{app}/{}", self.number);
        (self.number > 0).then(|| request(operation, &key, &body, self.origin()))
    }
}

/// What is answered, as far as the model tells.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Plain,
    Unchanged,
    No(RefusalCode),
    Granted { lease: u64, class: SeatClass, quantity: u32, sequence: u32, in_ms: u64, again: bool },
    Renewed(Vec<Result<(u32, u64), RefusalCode>>),
    Returned { cost: u32, held_ms: u64, again: bool },
}

#[derive(Debug, Clone)]
struct Package {
    product: usize,
    commit: u32,
    lapsing: u32,
    overage: u32,
    total: u32,
    rotation: bool,
    ends: bool,
    team: u32,
    state: Change,
}

#[derive(Debug, Clone)]
struct Seat {
    lease: u64,
    order: u64,
    app: usize,
    package: usize,
    class: SeatClass,
    quantity: u32,
    team: bool,
    expires: u64,
    granted: i64,
    renewed: u64,
    sequence: u32,
    key: Key,
}

#[derive(Debug, Clone)]
struct Past {
    lease: u64,
    app: usize,
    key: Key,
    returned: Option<(u32, u64, Key)>,
    forget_at: u64,
}

/// The naive model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    led: u64,
    civil: i64,
    generations: [u32; 3],
    packages: Vec<Package>,
    seats: Vec<Seat>,
    past: Vec<Past>,
    next_lease: u64,
    order: u64,
    answer: Answer,
    command: Option<(Actor, Option<RequestId>, Command)>,
}

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
const PRODUCTS: [&str; 2] = ["davinci", "matlab"];
/// The product each application may check out.
const APP_PRODUCT: [usize; 3] = [0, 0, 1];

impl Model {
    fn new() -> Self {
        let package = |product, commit, lapsing, overage, total| Package {
            product,
            commit,
            lapsing,
            overage,
            total,
            rotation: true,
            ends: false,
            team: 0,
            state: Change::Resume,
        };
        let mut beta = package(0, 2, 2, 1, 5);
        (beta.rotation, beta.ends) = (false, true);
        Self {
            led: 1_000_000,
            civil: START_MS,
            generations: [1; 3],
            packages: vec![package(0, 2, 0, 2, 3), beta, package(1, 1, 0, 3, 4)],
            seats: Vec::new(),
            past: Vec::new(),
            next_lease: 1,
            order: 0,
            answer: Answer::Plain,
            command: None,
        }
    }

    fn capacity(&self, package: usize, class: SeatClass) -> u32 {
        let it = &self.packages[package];
        let lapsed = self.civil > START_MS + LAPSE_MS;
        match class {
            SeatClass::Commit => it.commit + if lapsed { 0 } else { it.lapsing },
            SeatClass::Overage => it.overage,
        }
    }

    fn out(&self, filter: impl Fn(&Seat) -> bool) -> u32 {
        self.seats.iter().filter(|seat| filter(seat)).map(|seat| seat.quantity).sum()
    }

    fn of_class(&self, package: usize, class: SeatClass) -> u32 {
        self.out(|seat| seat.package == package && seat.class == class)
    }

    fn is_over(&self, package: usize) -> bool {
        let it = &self.packages[package];
        it.state == Change::Revoke || (it.ends && self.civil > START_MS + END_MS)
    }

    /// What is left by whichever clock gets there first.
    fn remaining(&self, package: usize, expires: u64) -> u64 {
        let left = (START_MS + END_MS + 1 - self.civil) as u64;
        let led = expires - self.led;
        if self.packages[package].ends { led.min(left) } else { led }
    }

    fn end(&mut self, at: usize, returned: Option<(u32, u64, Key)>) {
        let seat = self.seats.remove(at);
        let mut keys = vec![seat.key];
        keys.extend(returned.map(|(_, _, key)| key));
        let caller = |key: &Key| key.number > 0 && key.origin() == KeyOrigin::Caller;
        let window = if keys.iter().any(caller) { 900_000 } else { 30_000 };
        let forget_at = self.led + window;
        self.past.push(Past {
            lease: seat.lease,
            app: seat.app,
            key: seat.key,
            returned,
            forget_at,
        });
    }

    /// What time alone does at the start of each entry.
    fn settle(&mut self) {
        self.past.retain(|past| past.forget_at > self.led);
        let due = |model: &Self| {
            model
                .seats
                .iter()
                .position(|seat| seat.expires <= model.led || model.is_over(seat.package))
        };
        while let Some(at) = due(self) {
            self.end(at, None);
        }
        for package in 0..self.packages.len() {
            let class = SeatClass::Commit;
            while self.of_class(package, class) > self.capacity(package, class) {
                let of_class = self.seats.iter().enumerate();
                let of_class =
                    of_class.filter(|(_, it)| it.package == package && it.class == class);
                let newest = of_class.max_by_key(|(_, it)| it.order).map(|(at, _)| at);
                self.end(newest.expect("seats are out"), None);
            }
        }
    }

    /// A lease: mostly one that is live, else any that was, else one that never was.
    fn lease_at(&self, index: &Index) -> u64 {
        let live = 2 * self.seats.len() * self.next_lease as usize;
        let at = index.index(live + self.next_lease as usize);
        match at.checked_sub(live) {
            Some(any) => 1 + any as u64,
            None => self.seats[at % self.seats.len()].lease,
        }
    }

    fn asker_of(&self, asker: Asker, lease: u64) -> Asker {
        let held = self.seats.iter().find(|seat| asker.holder && seat.lease == lease);
        Asker { app: held.map_or(asker.app, |seat| seat.app), ..asker }
    }

    fn actor(&self, asker: Asker) -> Actor {
        let generation = self.generations[asker.app] + u32::from(asker.stale);
        app_actor(asker.app as u64 + 1, generation)
    }

    fn used(&self, lease: u64) -> bool {
        self.seats.iter().any(|seat| seat.lease == lease)
            || self.past.iter().any(|past| past.lease == lease)
    }

    /// What an earlier checkout under the same key makes of this one.
    fn asked_before(&self, app: usize, key: Key) -> Option<Answer> {
        let same =
            |other: Key, its: usize| key.number > 0 && other.number == key.number && its == app;
        if let Some(seat) = self.seats.iter().find(|seat| same(seat.key, seat.app)) {
            if seat.key.body != key.body {
                return Some(Answer::No(RefusalCode::IdempotencyKeyReused));
            }
            return Some(Answer::Granted {
                lease: seat.lease,
                class: seat.class,
                quantity: seat.quantity,
                sequence: seat.sequence,
                in_ms: self.remaining(seat.package, seat.expires),
                again: true,
            });
        }
        let past = self.past.iter().find(|past| same(past.key, past.app))?;
        Some(Answer::No(if past.key.body == key.body {
            RefusalCode::LeaseEnded
        } else {
            RefusalCode::IdempotencyKeyReused
        }))
    }

    fn check_out(
        &mut self,
        asker: Asker,
        package: usize,
        quantity: u32,
        team: bool,
        key: Key,
        lease: u64,
    ) -> Answer {
        if asker.stale {
            return Answer::No(RefusalCode::CredentialsRevoked);
        }
        if let Some(answer) = self.asked_before(asker.app, key) {
            return answer;
        }
        let it = self.packages[package].clone();
        if it.product != APP_PRODUCT[asker.app] {
            return Answer::No(RefusalCode::ProductNotPermitted);
        }
        if it.ends && self.civil > START_MS + END_MS {
            return Answer::No(RefusalCode::PackageExpired);
        }
        match it.state {
            Change::Suspend => return Answer::No(RefusalCode::PackageSuspended),
            Change::Revoke => return Answer::No(RefusalCode::PackageRevoked),
            Change::Resume => {}
        }
        if team && it.team == 0 {
            return Answer::No(RefusalCode::UnknownPool);
        }
        let classes = [SeatClass::Commit, SeatClass::Overage];
        let largest = classes.map(|class| self.capacity(package, class));
        if quantity > it.total.min(largest[0].max(largest[1])) {
            return Answer::No(RefusalCode::QuantityExceedsPackage);
        }
        let bound = if key.origin() == KeyOrigin::Caller { MAX_ROWS } else { 2 * MAX_ROWS };
        if key.number > 0 && self.past.len() >= bound {
            return Answer::No(RefusalCode::RequestTableFull);
        }
        if self.used(lease) {
            return Answer::No(RefusalCode::LeaseIdTaken);
        }
        let all = self.out(|seat| seat.package == package);
        let class = classes.into_iter().find(|class| {
            self.of_class(package, *class) + quantity <= self.capacity(package, *class)
        });
        let (Some(class), true) = (class, all + quantity <= it.total) else {
            return Answer::No(RefusalCode::MaxOverageExceeded);
        };
        let share = if team { it.team } else { it.total - it.team };
        let of_pool = self.out(|seat| seat.package == package && seat.team == team);
        if of_pool + quantity > share {
            return Answer::No(RefusalCode::PoolExhausted);
        }
        self.order += 1;
        self.seats.push(Seat {
            lease,
            order: self.order,
            app: asker.app,
            package,
            class,
            quantity,
            team,
            expires: self.led + TTL_MS,
            granted: self.civil,
            renewed: self.led,
            sequence: 1,
            key,
        });
        let in_ms = self.remaining(package, self.led + TTL_MS);
        Answer::Granted { lease, class, quantity, sequence: 1, in_ms, again: false }
    }

    fn renew(
        &mut self,
        app: usize,
        lease: u64,
        sequence: u32,
        still_active: bool,
    ) -> Result<(u32, u64), RefusalCode> {
        let (led, packages) = (self.led, &self.packages);
        let seat = self.seats.iter_mut().find(|seat| seat.lease == lease);
        let Some(seat) = seat else {
            let foreign = self.past.iter().any(|past| past.lease == lease && past.app != app);
            let code = if foreign { RefusalCode::UnknownLease } else { RefusalCode::LeaseEnded };
            return Err(code);
        };
        if seat.app != app {
            return Err(RefusalCode::UnknownLease);
        }
        let package = &packages[seat.package];
        if package.state == Change::Suspend {
            return Err(RefusalCode::PackageSuspended);
        }
        let answer = if sequence == seat.sequence || (!package.rotation && sequence == 1) {
            if still_active {
                seat.expires = led + TTL_MS;
                seat.renewed = led;
                seat.sequence += u32::from(package.rotation);
            }
            true
        } else {
            sequence > 0 && sequence + 1 == seat.sequence && led - seat.renewed <= 30_000
        };
        let (package, sequence, expires) = (seat.package, seat.sequence, seat.expires);
        if answer {
            Ok((sequence, self.remaining(package, expires)))
        } else {
            Err(RefusalCode::RenewalTokenReplayed)
        }
    }

    fn give_back(&mut self, asker: Asker, lease: u64, key: Key) -> Answer {
        if asker.stale {
            return Answer::No(RefusalCode::CredentialsRevoked);
        }
        if key.number > 0 {
            let keyed = self.past.iter().find_map(|past| {
                let (cost, held_ms, earlier) = past.returned?;
                let same = earlier.number == key.number && past.app == asker.app;
                same.then_some((cost, held_ms, earlier))
            });
            match keyed {
                Some((cost, held_ms, earlier)) if earlier.body == key.body => {
                    return Answer::Returned { cost, held_ms, again: true };
                }
                Some(_) => return Answer::No(RefusalCode::IdempotencyKeyReused),
                None => {}
            }
        }
        if let Some(at) = self.seats.iter().position(|seat| seat.lease == lease) {
            let seat = &self.seats[at];
            if seat.app != asker.app {
                return Answer::No(RefusalCode::UnknownLease);
            }
            let overage = seat.class == SeatClass::Overage;
            let cost = if overage { PRICE * seat.quantity } else { 0 };
            let held_ms = (self.civil - seat.granted) as u64;
            self.end(at, Some((cost, held_ms, key)));
            return Answer::Returned { cost, held_ms, again: false };
        }
        let Some(past) = self.past.iter().find(|past| past.lease == lease) else {
            return Answer::No(RefusalCode::AlreadyEnded);
        };
        if past.app != asker.app {
            return Answer::No(RefusalCode::UnknownLease);
        }
        let callers = key.number > 0 && key.origin() == KeyOrigin::Caller;
        match past.returned {
            Some((cost, held_ms, _)) if !callers => Answer::Returned { cost, held_ms, again: true },
            _ => Answer::No(RefusalCode::AlreadyEnded),
        }
    }

    fn change(&mut self, package: usize, to: Change) -> Answer {
        let it = &mut self.packages[package];
        if it.state == to {
            return Answer::Unchanged;
        }
        if it.state == Change::Revoke {
            return Answer::No(RefusalCode::PackageRevoked);
        }
        it.state = to;
        Answer::Plain
    }

    fn transfer(&mut self, package: usize, into_team: bool, quantity: u32) -> Answer {
        let it = &self.packages[package];
        if it.state == Change::Revoke {
            return Answer::No(RefusalCode::PackageRevoked);
        }
        if !into_team && it.team == 0 {
            return Answer::No(RefusalCode::UnknownPool);
        }
        let from_share = if into_team { it.total - it.team } else { it.team };
        let from_out = self.out(|seat| seat.package == package && seat.team != into_team);
        if from_share - from_out < quantity {
            return Answer::No(RefusalCode::NotEnoughFree);
        }
        let team = &mut self.packages[package].team;
        *team = if into_team { *team + quantity } else { *team - quantity };
        Answer::Plain
    }

    /// Does a step; leaves the command that the ledger is to be given and the answer expected.
    fn step(&mut self, step: &Step) {
        if let Step::Pass { led_ms, civil_ms } = step {
            self.led += led_ms;
            self.civil += civil_ms;
        }
        self.settle();
        let root = Actor::Operator(ROOT);
        let (command, answer) = match step {
            Step::Pass { .. } => ((Actor::Node(1), None, Command::Tick), Answer::Plain),
            Step::Checkout { asker, package, quantity, team, key, again } => {
                let lease = if *again && self.next_lease > 1 { 1 } else { self.next_lease };
                self.next_lease = self.next_lease.max(lease + 1);
                let product = PRODUCTS[self.packages[*package].product];
                let mut checkout = checkout(NAMES[*package], product, lease_id(lease));
                checkout.quantity = *quantity;
                checkout.pool = team.then(|| "team".into());
                let command = Command::Checkout(Box::new(checkout));
                let command = (self.actor(*asker), key.request("checkout", asker.app), command);
                (command, self.check_out(*asker, *package, *quantity, *team, *key, lease))
            }
            Step::Heartbeat { asker, items } => self.heartbeat(*asker, items),
            Step::Return { asker, lease, key } => {
                let lease = self.lease_at(lease);
                let asker = self.asker_of(*asker, lease);
                let usage = UsageReport::default();
                let command = Command::Return(Box::new(Return { lease: lease_id(lease), usage }));
                let command = (self.actor(asker), key.request("return", asker.app), command);
                (command, self.give_back(asker, lease, *key))
            }
            Step::Release { lease } => {
                let lease = self.lease_at(lease);
                let command = Command::Release { lease: lease_id(lease), reason: "".into() };
                let answer = match self.seats.iter().position(|seat| seat.lease == lease) {
                    Some(at) => {
                        self.end(at, None);
                        Answer::Plain
                    }
                    None => Answer::No(RefusalCode::AlreadyEnded),
                };
                ((root, None, command), answer)
            }
            Step::Change { package, to } => {
                let change = PackageChange { package: NAMES[*package].into(), reason: "".into() };
                let command = match to {
                    Change::Suspend => Command::SuspendPackage(change),
                    Change::Resume => Command::ResumePackage(change),
                    Change::Revoke => Command::RevokePackage(change),
                };
                ((root, None, command), self.change(*package, *to))
            }
            Step::Transfer { package, into_team, quantity } => {
                let team = |named: bool| named.then(|| Name::from("team"));
                let command = Command::TransferSeats(TransferSeats {
                    package: NAMES[*package].into(),
                    from: team(!into_team),
                    to: team(*into_team),
                    quantity: *quantity,
                });
                ((root, None, command), self.transfer(*package, *into_team, *quantity))
            }
            Step::Rotate { app } => {
                self.generations[*app] += 1;
                let rotation = RotateAppSecret { app: AppId(*app as u64 + 1), secret_mac: [0; 32] };
                ((root, None, Command::RotateAppSecret(rotation)), Answer::Plain)
            }
        };
        (self.command, self.answer) = (Some(command), answer);
    }

    fn heartbeat(
        &mut self,
        asker: Asker,
        items: &[(Index, i64, bool)],
    ) -> ((Actor, Option<RequestId>, Command), Answer) {
        let asker = self.asker_of(asker, self.lease_at(&items[0].0));
        let mut leases = Vec::new();
        let mut answers = Vec::new();
        for (index, offset, still_active) in items {
            let number = self.lease_at(index);
            let current = self.seats.iter().find(|seat| seat.lease == number);
            let current = current.map_or(1, |seat| i64::from(seat.sequence));
            let sequence = u32::try_from(current + offset).unwrap_or(0);
            let lease = lease_id(number);
            leases.push(Renewal { lease, sequence, still_active: *still_active });
            if !asker.stale {
                answers.push(self.renew(asker.app, number, sequence, *still_active));
            }
        }
        let answer = if asker.stale {
            Answer::No(RefusalCode::CredentialsRevoked)
        } else {
            Answer::Renewed(answers)
        };
        ((self.actor(asker), None, Command::Heartbeat { leases }), answer)
    }
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::new()).boxed()
    }

    fn transitions(_: &Model) -> BoxedStrategy<Step> {
        let asker = (0_usize..3, prop::bool::weighted(0.05), prop::bool::weighted(0.8))
            .prop_map(|(app, stale, holder)| Asker { app, stale, holder });
        let key = (0_u8..=6, prop::bool::weighted(0.1))
            .prop_map(|(number, other)| Key { number, body: u8::from(other) });
        let package = 0_usize..3;
        let wait = prop_oneof![Just(0), 0_u64..1000, 0_u64..45_000, Just(30_000), Just(TTL_MS)];
        let item = (
            any::<Index>(),
            prop_oneof![6 => Just(0), 2 => Just(-1), 1 => -3_i64..3],
            prop::bool::weighted(0.8),
        );
        prop_oneof![
            3 => (wait, 0_i64..45_000)
                .prop_map(|(led_ms, civil_ms)| Step::Pass { led_ms, civil_ms }),
            1 => Just(Step::Pass { led_ms: 900_000, civil_ms: 1000 }),
            12 => (
                asker.clone(), package.clone(), 1_u32..4, any::<bool>(), key.clone(),
                prop::bool::weighted(0.05),
            )
                .prop_map(|(asker, package, quantity, team, key, again)| Step::Checkout {
                    asker, package, quantity, team, key, again,
                }),
            8 => (asker.clone(), prop::collection::vec(item, 1..4))
                .prop_map(|(asker, items)| Step::Heartbeat { asker, items }),
            6 => (asker, any::<Index>(), key)
                .prop_map(|(asker, lease, key)| Step::Return { asker, lease, key }),
            1 => any::<Index>().prop_map(|lease| Step::Release { lease }),
            1 => (package.clone(), prop_oneof![
                    4 => Just(Change::Suspend), 6 => Just(Change::Resume), 1 => Just(Change::Revoke)
                ]).prop_map(|(package, to)| Step::Change { package, to }),
            3 => (package, any::<bool>(), 1_u32..3)
                .prop_map(|(package, into_team, quantity)| Step::Transfer {
                    package, into_team, quantity,
                }),
            1 => (0_usize..3).prop_map(|app| Step::Rotate { app }),
        ]
        .boxed()
    }

    fn apply(mut state: Model, step: &Step) -> Model {
        state.step(step);
        state
    }
}

struct Replica;

impl StateMachineTest for Replica {
    type SystemUnderTest = World;
    type Reference = Model;

    fn init_test(model: &Model) -> World {
        let limits = LedgerLimits { request_rows: MAX_ROWS, ..LedgerLimits::PRODUCTION };
        let mut world = World::founded(limits);
        world.root(Command::PinVendor(vendor("vector-de")));
        for (name, package) in NAMES.iter().zip(&model.packages) {
            let mut terms = terms(name, PRODUCTS[package.product], package.commit, package.overage);
            terms.total = package.total;
            terms.policy.lease_ttl_ms = TTL_MS as u32;
            terms.policy.renewal_rotation = package.rotation;
            if package.lapsing > 0 {
                let lapsing = CapacitySource {
                    seats: package.lapsing,
                    valid_until_ms: START_MS + LAPSE_MS,
                    ..terms.sources[0].clone()
                };
                terms.sources.push(lapsing);
            }
            if package.ends {
                terms.valid_until_ms = START_MS + END_MS;
            }
            world.root(import(terms));
        }
        for (app, product) in APP_PRODUCT.iter().enumerate() {
            world.root(register(app as u64 + 1, PRODUCTS[*product]));
        }
        world
    }

    fn apply(mut world: World, model: &Model, _: Step) -> World {
        world.clock.led_ms = model.led;
        world.clock.civil_ms = model.civil;
        let (actor, request, command) = model.command.clone().expect("a step was made");
        let outcome = world.apply(actor, request, command);
        assert_eq!(seen(&world, model, &outcome), model.answer, "{outcome:?}");
        world
    }

    fn check_invariants(world: &World, model: &Model) {
        if model.command.is_none() {
            return;
        }
        let mut expected: Vec<_> = model
            .seats
            .iter()
            .filter(|seat| !model.is_over(seat.package))
            .map(|seat| {
                (lease_id(seat.lease), seat.quantity, seat.class, seat.sequence, seat.expires)
            })
            .collect();
        expected.sort();
        let live = world.ledger.leases(None);
        let live: Vec<_> = live
            .map(|it| (it.lease, it.quantity, it.class, it.sequence, it.expires_led_ms))
            .collect();
        assert_eq!(live, expected);
        assert_eq!(world.ledger.request_rows(), model.past.len());
    }
}

fn seen(world: &World, model: &Model, outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Done | Outcome::App(_) => Answer::Plain,
        Outcome::Unchanged => Answer::Unchanged,
        Outcome::Refused(refusal) => Answer::No(refusal.code),
        Outcome::Granted(grant) => {
            let lease = (1..=model.next_lease).find(|lease| lease_id(*lease) == grant.lease);
            let cost = grant.cost.map(|cost| cost.0.to_string());
            let expected = format!("{}.0", PRICE * grant.quantity);
            let of_class = (grant.class == SeatClass::Overage).then_some(expected);
            assert_eq!(cost, of_class, "overage costs per seat");
            assert!(world.ledger.lease(&grant.lease).is_some(), "what is granted is held");
            Answer::Granted {
                lease: lease.expect("a lease of ours"),
                class: grant.class,
                quantity: grant.quantity,
                sequence: grant.sequence,
                in_ms: grant.expires_in_ms,
                again: grant.repeated,
            }
        }
        Outcome::Renewed(outcomes) => {
            let Some((_, _, Command::Heartbeat { leases })) = &model.command else {
                unreachable!("only heartbeats renew");
            };
            let outcomes = leases.iter().zip(outcomes).map(|(renewal, outcome)| match outcome {
                RenewalOutcome::Renewed { expires_in_ms, sequence, fence, .. } => {
                    let held = world.ledger.lease(&renewal.lease).map(|lease| lease.fence);
                    assert_eq!(held, Some(*fence), "a renewal keeps the grant's place");
                    Ok((*sequence, *expires_in_ms))
                }
                RenewalOutcome::Refused(refusal) => Err(refusal.code),
                RenewalOutcome::RenewedOffline(_) => unreachable!("no package allows tokens"),
            });
            Answer::Renewed(outcomes.collect())
        }
        Outcome::Returned(receipt) => Answer::Returned {
            cost: receipt.total_cost.0.trunc().to_string().parse().expect("a whole number"),
            held_ms: receipt.duration_ms,
            again: receipt.repeated,
        },
        Outcome::Imported { .. }
        | Outcome::Activated(_)
        | Outcome::Borrowed(_)
        | Outcome::Ticket { .. }
        | Outcome::Counted(_) => unreachable!("nothing of the kind is asked"),
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_random_history_is_what_the_model_says(sequential 1..120 => Replica);
}
