//! Random histories of pools and checkouts against a naive model, which keeps plain lists and
//! shares only the types of commands with the ledger.

use std::collections::BTreeMap;

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::limits::LedgerLimits;
use lease::offline::BorrowParty;
use lease::operate::{PoolParty, PoolRule, SetPool};
use lease::outcome::{Outcome, RefusalCode, SatisfiedBy};
use proptest::prelude::*;

use crate::world::*;

/// One step of a random history. Pools are `a` to `c`, people `0` to `3`.
#[derive(Debug, Clone)]
enum Step {
    Set { pool: usize, seats: Option<u32>, rule: Option<Vec<Who>> },
    Remove { pool: usize },
    Transfer { from: Option<usize>, to: Option<usize>, quantity: u32 },
    Checkout { who: Asker, pool: Option<usize>, quantity: u32 },
    Return { lease: prop::sample::Index },
    Pass { seconds: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    User(u8),
    Host(u8),
    App(u8),
}

#[derive(Debug, Clone, Copy)]
struct Asker {
    user: u8,
    host: u8,
    app: u8,
}

impl Who {
    fn is(self, asker: Asker) -> bool {
        match self {
            Self::User(user) => user == asker.user,
            Self::Host(host) => host == asker.host,
            Self::App(app) => app == asker.app,
        }
    }

    fn party(self) -> PoolParty {
        // The case of letters differs from that of who asks.
        match self {
            Self::User(user) => PoolParty::Party(BorrowParty::User(format!("USER-{user}").into())),
            Self::Host(host) => PoolParty::Party(BorrowParty::Host(format!("Host-{host}").into())),
            Self::App(app) => PoolParty::App(AppId(u64::from(app) + 1)),
        }
    }
}

const POOLS: [&str; 3] = ["a", "b", "c"];
const TOTAL: u32 = 8;
const COMMIT: u32 = 3;
const TTL_S: u64 = 900;

/// The naive model: shares, rules, and a list of leases.
#[derive(Debug, Default)]
struct Model {
    led_s: u64,
    shares: [u32; 3],
    rules: [Vec<Who>; 3],
    /// Lease number, pool, quantity, whether overage, end.
    leases: Vec<(u64, Option<usize>, u32, bool, u64)>,
    peaks: BTreeMap<Option<usize>, u32>,
}

impl Model {
    fn out(&self, pool: Option<usize>) -> u32 {
        self.leases.iter().filter(|lease| lease.1 == pool).map(|lease| lease.2).sum()
    }

    fn share(&self, pool: Option<usize>) -> u32 {
        match pool {
            Some(pool) => self.shares[pool],
            None => TOTAL - self.shares.iter().sum::<u32>(),
        }
    }

    fn free(&self, pool: Option<usize>) -> u32 {
        self.share(pool) - self.out(pool)
    }

    fn may(&self, pool: usize, asker: Asker) -> bool {
        self.rules[pool].is_empty() || self.rules[pool].iter().any(|who| who.is(asker))
    }

    fn set_share(&mut self, pool: usize, share: u32) {
        self.shares[pool] = share;
        if share == 0 {
            self.rules[pool].clear();
            self.peaks.remove(&Some(pool));
        }
    }

    fn set(&mut self, pool: usize, seats: Option<u32>, rule: &Option<Vec<Who>>) -> Said {
        let share = self.shares[pool];
        match seats {
            Some(0) => return Said::No(RefusalCode::LimitReached),
            None if share == 0 => return Said::No(RefusalCode::UnknownPool),
            Some(seats) if seats > share && seats - share > self.free(None) => {
                return Said::No(RefusalCode::NotEnoughFree);
            }
            Some(seats) if seats < self.out(Some(pool)) => {
                return Said::No(RefusalCode::PoolInUse);
            }
            _ => {}
        }
        let seats = seats.unwrap_or(share);
        let rule = rule.clone().unwrap_or_else(|| self.rules[pool].clone());
        if seats == share && rule == self.rules[pool] {
            return Said::Unchanged;
        }
        self.shares[pool] = seats;
        self.rules[pool] = rule;
        Said::Done
    }

    fn remove(&mut self, pool: usize) -> Said {
        if self.shares[pool] == 0 {
            return Said::No(RefusalCode::UnknownPool);
        }
        if self.out(Some(pool)) > 0 {
            return Said::No(RefusalCode::PoolInUse);
        }
        self.set_share(pool, 0);
        Said::Done
    }

    fn transfer(&mut self, from: Option<usize>, to: Option<usize>, quantity: u32) -> Said {
        if from.is_some_and(|from| self.shares[from] == 0) {
            return Said::No(RefusalCode::UnknownPool);
        }
        if from == to {
            return Said::Unchanged;
        }
        if self.free(from) < quantity {
            return Said::No(RefusalCode::NotEnoughFree);
        }
        if let Some(from) = from {
            self.set_share(from, self.shares[from] - quantity);
        }
        if let Some(to) = to {
            self.shares[to] += quantity;
        }
        Said::Done
    }

    fn check_out(&mut self, lease: u64, asker: Asker, pool: Option<usize>, quantity: u32) -> Said {
        let pools = match pool {
            Some(pool) if self.shares[pool] == 0 => return Said::No(RefusalCode::UnknownPool),
            Some(pool) if !self.may(pool, asker) => return Said::No(RefusalCode::PoolReserved),
            Some(pool) => vec![Some(pool)],
            None => {
                let named = |pool: &usize| self.rules[*pool].iter().any(|who| who.is(asker));
                (0..3).filter(named).map(Some).chain([None]).collect()
            }
        };
        let all: u32 = self.leases.iter().map(|lease| lease.2).sum();
        let overage: u32 = self.leases.iter().filter(|it| it.3).map(|it| it.2).sum();
        let in_overage = COMMIT - (all - overage) < quantity;
        let class_full = in_overage && TOTAL - COMMIT - overage < quantity;
        if all + quantity > TOTAL || class_full {
            return Said::No(RefusalCode::MaxOverageExceeded);
        }
        match pools.into_iter().find(|pool| self.free(*pool) >= quantity) {
            None => Said::No(RefusalCode::PoolExhausted),
            Some(pool) => {
                self.leases.push((lease, pool, quantity, in_overage, self.led_s + TTL_S));
                let out = self.out(pool);
                let peak = self.peaks.entry(pool).or_default();
                *peak = out.max(*peak);
                Said::Granted(pool)
            }
        }
    }
}

#[derive(Debug, PartialEq)]
enum Said {
    Done,
    Unchanged,
    No(RefusalCode),
    Granted(Option<usize>),
    Returned,
}

fn who() -> impl Strategy<Value = Who> {
    (0_u8..3, 0_u8..3).prop_map(|(kind, number)| match kind {
        0 => Who::User(number),
        1 => Who::Host(number),
        _ => Who::App(number % 2),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let pool = 0_usize..3;
    let maybe = || prop::option::of(0_usize..3);
    let rule = prop::option::of(prop::collection::vec(who(), 0..3));
    let asker = (0_u8..4, 0_u8..4, 0_u8..2).prop_map(|(user, host, app)| Asker { user, host, app });
    prop_oneof![
        4 => (pool.clone(), prop::option::weighted(0.8, 0_u32..7), rule)
            .prop_map(|(pool, seats, rule)| Step::Set { pool, seats, rule }),
        1 => pool.prop_map(|pool| Step::Remove { pool }),
        2 => (maybe(), maybe(), 1_u32..4)
            .prop_map(|(from, to, quantity)| Step::Transfer { from, to, quantity }),
        8 => (asker, maybe(), 1_u32..3)
            .prop_map(|(who, pool, quantity)| Step::Checkout { who, pool, quantity }),
        3 => any::<prop::sample::Index>().prop_map(|lease| Step::Return { lease }),
        1 => prop_oneof![Just(TTL_S), 0_u64..600].prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// The command of a step, who gives it, and what the model expects; `None`: there is none.
fn command_of(
    world: &mut World,
    model: &mut Model,
    step: &Step,
    lease: u64,
) -> Option<(Actor, Command, Said)> {
    let name = |pool: usize| Name::from(POOLS[pool]);
    let root = Actor::Operator(ROOT);
    Some(match step {
        Step::Set { pool, seats, rule } => {
            let reserved_for = |rule: &Vec<Who>| PoolRule {
                reserved_for: rule.iter().map(|who| who.party()).collect(),
                description: "".into(),
            };
            let set = SetPool {
                package: "alpha".into(),
                pool: name(*pool),
                seats: *seats,
                rule: rule.as_ref().map(reserved_for),
            };
            (root, Command::SetPool(Box::new(set)), model.set(*pool, *seats, rule))
        }
        Step::Remove { pool } => {
            let command = Command::RemovePool { package: "alpha".into(), pool: name(*pool) };
            (root, command, model.remove(*pool))
        }
        Step::Transfer { from, to, quantity } => {
            let transfer = TransferSeats {
                package: "alpha".into(),
                from: from.map(name),
                to: to.map(name),
                quantity: *quantity,
            };
            let command = Command::TransferSeats(transfer);
            (root, command, model.transfer(*from, *to, *quantity))
        }
        Step::Checkout { who, pool, quantity } => {
            let mut checkout = checkout("alpha", "davinci", lease_id(lease));
            checkout.user = subject(&format!("user-{}", who.user));
            checkout.host = subject(&format!("host-{}", who.host));
            checkout.pool = pool.map(name);
            checkout.quantity = *quantity;
            let expected = model.check_out(lease, *who, *pool, *quantity);
            let app = app_actor(u64::from(who.app) + 1, 1);
            (app, Command::Checkout(Box::new(checkout)), expected)
        }
        Step::Return { lease } => {
            let at = (!model.leases.is_empty()).then(|| lease.index(model.leases.len()))?;
            let (number, ..) = model.leases.remove(at);
            let id = lease_id(number);
            let app = world.ledger.lease(&id).expect("live").app.0;
            let back = Return { lease: id, usage: UsageReport::default() };
            (app_actor(app, 1), Command::Return(Box::new(back)), Said::Returned)
        }
        Step::Pass { seconds } => {
            model.led_s += seconds;
            world.clock.led_ms += seconds * 1000;
            model.leases.retain(|lease| lease.4 > model.led_s);
            (Actor::Node(1), Command::Tick, Said::Done)
        }
    })
}

fn apply(world: &mut World, model: &mut Model, step: &Step, lease: u64) -> (Said, Said) {
    let Some((actor, command, expected)) = command_of(world, model, step, lease) else {
        return (Said::Done, Said::Done);
    };
    let number = |pool: &Name| POOLS.iter().position(|name| **name == **pool).expect("a pool");
    let said = match world.apply(actor, None, command) {
        Outcome::Done => Said::Done,
        Outcome::Unchanged => Said::Unchanged,
        Outcome::Returned(_) => Said::Returned,
        Outcome::Granted(grant) => {
            Said::Granted(world.ledger.lease(&grant.lease).expect("live").pool.map(number))
        }
        Outcome::Refused(refusal) => {
            if let (Some(SatisfiedBy::Pool(Some(pool))), Step::Checkout { who, quantity, .. }) =
                (&refusal.satisfied_by, step)
            {
                assert!(model.may(number(pool), *who), "{pool} is kept for others");
                assert!(model.free(Some(number(pool))) >= *quantity, "{pool} has no room");
            }
            Said::No(refusal.code)
        }
        other => panic!("{other:?}"),
    };
    (said, expected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Shares add up, nobody is let into a pool kept for others, peaks are what was seen.
    #[test]
    fn pools_are_as_a_naive_model_has_them(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::founded(LedgerLimits::PRODUCTION);
        world.root(Command::PinVendor(vendor("vector-de")));
        world.root(import(terms("alpha", "davinci", COMMIT, TOTAL - COMMIT)));
        world.root(register(1, "davinci"));
        world.root(register(2, "davinci"));
        let mut model = Model::default();
        for (lease, step) in (1..).zip(&steps) {
            let (said, expected) = apply(&mut world, &mut model, step, lease);
            prop_assert_eq!(said, expected, "{:?}", step);
            let seats = world.ledger.package("alpha").expect("a package").seats();
            let mut pools = vec![("-".to_owned(), model.share(None), model.out(None))];
            pools.extend((0..3).filter(|pool| model.shares[*pool] > 0).map(|pool| {
                (POOLS[pool].to_owned(), model.shares[pool], model.out(Some(pool)))
            }));
            let found: Vec<_> = seats.pools.iter().map(|pool| {
                (pool.pool.as_deref().unwrap_or("-").to_owned(), pool.share, pool.in_use)
            }).collect();
            prop_assert_eq!(found, pools);
            for (pool, peak) in &model.peaks {
                let pool = pool.map(|pool| Name::from(POOLS[pool]));
                let usage = world.ledger.pool_usage(&"alpha".into(), pool.as_ref());
                prop_assert_eq!(usage.peak, *peak, "{:?}", pool);
            }
        }
    }
}
