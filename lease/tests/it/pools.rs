//! Pools: what their verbs answer, whom rules let in, and random histories against a naive model.

use std::collections::BTreeMap;

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::limits::{LedgerLimits, MAX_POOL_PARTIES, MAX_POOLS};
use lease::offline::{BorrowParty, ClassicCheckout};
use lease::operate::{PoolParty, PoolRule, SetPool};
use lease::outcome::{Outcome, RefusalCode, SatisfiedBy};
use proptest::prelude::*;

use crate::script::{Line, check, check_in};
use crate::world::*;

/// `setpool alpha team [3] [for=user:anna,host:wks-1,app:1] [text=note]`; `for=-`: nobody is named.
pub(crate) fn set(line: &Line<'_>) -> Command {
    let seats = line.words.get(3).map(|seats| seats.parse().expect("a number"));
    let named = line.options.contains_key("for") || line.options.contains_key("text");
    let rule = named.then(|| PoolRule {
        reserved_for: line.list("for").into_iter().filter(|it| *it != "-").map(party).collect(),
        description: line.options.get("text").copied().unwrap_or_default().into(),
    });
    let (package, pool) = (line.word(1).into(), line.word(2).into());
    Command::SetPool(Box::new(SetPool { package, pool, seats, rule }))
}

pub(crate) fn remove(line: &Line<'_>) -> Command {
    Command::RemovePool { package: line.word(1).into(), pool: line.word(2).into() }
}

/// `pooluse alpha [team]`: peak, seconds since the start when it was reached and when a seat was
/// taken last, grants.
pub(crate) fn usage(world: &World, line: &Line<'_>) -> String {
    let pool = line.words.get(2).map(|pool| Name::from(*pool));
    let usage = world.ledger.pool_usage(&line.word(1).into(), pool.as_ref());
    if usage.granted == 0 {
        return "never".to_owned();
    }
    let since = |at: i64| (at - START_MS) / 1000;
    let (peak_at, taken_at) = (since(usage.peak_at_ms), since(usage.last_taken_at_ms));
    format!("peak {} at {peak_at}s last {taken_at}s granted {}", usage.peak, usage.granted)
}

fn party(text: &str) -> PoolParty {
    match text.split_once(':').expect("kind:name") {
        ("user", name) => PoolParty::Party(BorrowParty::User(name.into())),
        ("host", name) => PoolParty::Party(BorrowParty::Host(name.into())),
        ("app", "classic") => PoolParty::App(Face::Classic.app()),
        ("app", id) => PoolParty::App(AppId(id.parse().expect("a number"))),
        other => panic!("no party {other:?}"),
    }
}

#[test]
fn a_pool_grows_from_free_seats_and_shrinks_back() {
    check(
        "setpool alpha team                -> no UnknownPool
         setpool alpha team 0              -> no LimitReached
         setpool alpha team 21             -> no NotEnoughFree
         setpool nothing team 1            -> no UnknownPackage
         setpool alpha team 4
         seats alpha                       -> commit 0+5 overage 0+15 total+20 -:0/16 team:0/4
         setpool alpha team 4              -> unchanged
         setpool alpha team 20
         setpool alpha other 1             -> no NotEnoughFree
         setpool alpha team 3
         checkout L1 pool=team qty=2       -> commit seq=1 in=900s
         setpool alpha team 1              -> no PoolInUse
         setpool alpha team 2
         checkout L2 pool=team             -> no PoolExhausted in=900s pool=-
         setpool alpha team 3
         checkout L2 pool=team             -> commit seq=1 in=900s
         rmpool alpha team                 -> no PoolInUse
         return L1                         -> cost=0 held=0s
         return L2                         -> cost=0 held=0s
         rmpool alpha team
         rmpool alpha team                 -> no UnknownPool
         rmpool nothing team               -> no UnknownPackage
         seats alpha                       -> commit 0+5 overage 0+15 total+20 -:0/20
         audit -> Refused Refused Refused Refused PoolSet PoolSet PoolSet LeaseGranted Refused \
             PoolSet Refused PoolSet LeaseGranted LeaseReturned LeaseReturned PoolRemoved",
    );
}

/// Seats whose leases are due count as free, whether or not they were swept.
#[test]
fn what_is_due_makes_room_for_a_pool() {
    let limits = LedgerLimits { expiries_per_entry: 1, ..LedgerLimits::PRODUCTION };
    let mut world = World::founded(limits);
    world.root(Command::PinVendor(vendor("vector-de")));
    world.root(import(terms("alpha", "davinci", 3, 0)));
    world.root(register(1, "davinci"));
    check_in(
        world,
        "checkout L1                       -> commit seq=1 in=900s
         checkout L2                       -> commit seq=1 in=900s
         setpool alpha team 2              -> no NotEnoughFree
         time +900s
         seats alpha                       -> commit 1+2 overage 0+0 total+2 -:1/3
         setpool alpha team 3
         seats alpha                       -> commit 0+3 overage 0+0 total+3 -:0/0 team:0/3",
    );
}

#[test]
fn a_revoked_package_gets_no_pools_and_a_suspended_one_does() {
    check(
        "setpool alpha team 2
         suspend alpha
         setpool alpha team 3
         setpool alpha other 1             -> done
         revoke alpha
         setpool alpha team 4              -> no PackageRevoked
         rmpool alpha team                 # tidying up is allowed
         operator 7 auditor
         operator 8 operator
         rmpool alpha other as=7           -> no RoleTooNarrow
         rmpool alpha other as=8",
    );
}

#[test]
fn a_pool_is_changed_once_under_a_key() {
    check(
        "setpool alpha team 2 key=a
         setpool alpha team 5
         setpool alpha team 2 key=a
         seats alpha                       -> commit 0+5 overage 0+15 total+20 -:0/15 team:0/5
         setpool alpha team 3 key=a body=other  -> no IdempotencyKeyReused
         rmpool alpha team key=b
         rmpool alpha team key=b",
    );
}

#[test]
fn a_kept_pool_lets_in_those_it_names_and_nobody_else() {
    check(
        "register 2 davinci                -> app 2 gen=1
         setpool alpha team 2 for=user:Anna,host:ci-1
         setpool alpha app2 1 for=app:2
         checkout L1 pool=team             -> commit seq=1 in=900s
         checkout L2 pool=team user=bob    -> no PoolReserved
         checkout L2 pool=team user=bob host=CI-1       -> commit seq=1 in=900s
         checkout L3 pool=app2             -> no PoolReserved
         checkout L3 pool=app2 app=2       -> commit seq=1 in=900s
         # Every seat of them is out, and the remedy is a pool that may be used.
         checkout L4 pool=app2 app=2 user=bob           -> no PoolExhausted in=900s pool=-
         checkout L4 pool=none             -> no UnknownPool
         checkout L4 pool=team user=bob features=x      -> no UnknownFeature
         checkout L4 pool=app2 app=2 features=x         -> no UnknownFeature
         checkout L4 user=bob features=x   -> no UnknownFeature without=x
         # Rules count for the next grant; what is out stays.
         setpool alpha team for=user:bob
         checkout L4 pool=team             -> no PoolReserved
         heartbeat L1                      -> seq=2 in=900s
         setpool alpha team for=-
         return L1                         -> cost=0 held=0s
         checkout L4 pool=team user=zoe    -> commit seq=1 in=900s
         refusals -> alpha:UnknownPool=1 alpha:UnknownFeature=3 alpha:PoolExhausted=1 \
             alpha:PoolReserved=3",
    );
}

#[test]
fn without_a_pool_named_kept_pools_come_first() {
    check(
        "setpool alpha anna-1 1 for=user:anna
         setpool alpha anna-2 2 for=user:ANNA,user:zoe
         setpool alpha bob 1 for=user:bob
         setpool alpha open 1
         checkout L1                       -> commit seq=1 in=900s
         seats alpha -> commit 1+4 overage 0+15 total+19 -:0/15 anna-1:1/1 anna-2:0/2 bob:0/1 \
             open:0/1
         checkout L2 qty=2                 -> commit seq=1 in=900s
         checkout L3                       -> commit seq=1 in=900s
         seats alpha -> commit 4+1 overage 0+15 total+16 -:1/15 anna-1:1/1 anna-2:2/2 bob:0/1 \
             open:0/1
         # Who is named nowhere gets what is left.
         checkout L4 user=eve              -> commit seq=1 in=900s
         checkout L5 user=bob qty=2        -> overage seq=1 in=900s cost=1000.0
         setpool alpha anna-2 13
         checkout L6 user=eve              -> no PoolExhausted in=900s pool=open
         checkout L6 user=bob              -> overage seq=1 in=900s cost=500.0
         checkout L7 user=zoe qty=12       -> no PoolExhausted in=900s qty=11",
    );
}

/// What would satisfy a refused request is never a pool that its asker may not use.
#[test]
fn remedies_do_not_name_what_is_kept_for_others() {
    check(
        "import beta davinci 3 0           -> imported
         setpool beta a-kept 1 for=user:bob
         setpool beta b-open 1
         checkout L1 beta                  -> commit seq=1 in=900s
         checkout L2 beta                  -> no PoolExhausted in=900s pool=b-open
         checkout L2 beta pool=b-open      -> commit seq=1 in=900s
         checkout L3 beta                  -> no PoolExhausted in=900s
         checkout L3 beta pool=b-open      -> no PoolExhausted in=900s
         checkout L3 beta pool=b-open user=bob          -> no PoolExhausted in=900s pool=a-kept
         checkout L3 beta user=bob qty=2   -> no MaxOverageExceeded in=900s qty=1
         checkout L3 beta qty=2            -> no MaxOverageExceeded in=900s
         checkout L3 beta user=bob         -> commit seq=1 in=900s",
    );
}

#[test]
fn emptying_a_pool_takes_its_rule_and_its_counters() {
    check(
        "setpool alpha team 2 for=user:bob
         setpool alpha note 1 text=a-note
         checkout L1 pool=team user=bob    -> commit seq=1 in=900s
         transfer alpha other 1 from=team
         transfer alpha other 1 from=team  -> no NotEnoughFree
         return L1                         -> cost=0 held=0s
         pooluse alpha team                -> peak 1 at 0s last 0s granted 1
         transfer alpha other 1 from=team
         pooluse alpha team                -> never
         transfer alpha team 1 from=other
         checkout L2 pool=team             -> commit seq=1 in=900s
         return L2                         -> cost=0 held=0s
         setpool alpha team for=user:bob
         rmpool alpha team
         rmpool alpha note
         transfer alpha team 1
         pooluse alpha team                -> never
         checkout L3 pool=team             -> commit seq=1 in=900s",
    );
}

#[test]
fn use_is_counted_per_pool() {
    check(
        "setpool alpha team 3
         pooluse alpha                     -> never
         checkout L1 qty=2                 -> commit seq=1 in=900s
         time +10s
         checkout L2 pool=team qty=2       -> commit seq=1 in=900s
         checkout L2 pool=team             -> no LeaseIdTaken
         time +10s
         return L1                         -> cost=0 held=20s
         checkout L3                       -> commit seq=1 in=900s
         checkout L4 pool=team             -> commit seq=1 in=900s
         return L4                         -> cost=0 held=0s
         time +10s
         checkout L5 pool=team             -> commit seq=1 in=900s
         pooluse alpha                     -> peak 2 at 0s last 20s granted 2
         pooluse alpha team                -> peak 3 at 20s last 30s granted 3
         usage alpha -> checkouts 5+0 charged 0 peak 4 ends 2+0+0 sessions 0 0s files 0 other 0",
    );
}

#[test]
fn rules_are_bounded() {
    let mut world = World::ready();
    let who = |name: String| PoolParty::Party(BorrowParty::User(name.into()));
    let long = |chars: usize| "\u{1f600}".repeat(chars);
    let many = |count: usize| (0..count).map(|at| who(at.to_string())).collect::<Vec<_>>();
    let app = |id: u64| vec![PoolParty::App(AppId(id))];
    for (reserved_for, description, refused) in [
        (many(MAX_POOL_PARTIES), "note".to_owned(), None),
        (many(MAX_POOL_PARTIES + 1), String::new(), Some(RefusalCode::LimitReached)),
        (vec![who(String::new())], String::new(), Some(RefusalCode::LimitReached)),
        (vec![who(long(257))], String::new(), Some(RefusalCode::LimitReached)),
        (vec![who(long(256))], long(256), None),
        (Vec::new(), long(257), Some(RefusalCode::LimitReached)),
        // As many names as may be, each as long as may be: more than a row holds.
        (
            (0..MAX_POOL_PARTIES).map(|at| who(format!("{at:03}{}", long(253)))).collect(),
            String::new(),
            Some(RefusalCode::LimitReached),
        ),
        (app(1), String::new(), None),
        (app(Face::Device.app().0), String::new(), None),
        (app(9), String::new(), Some(RefusalCode::UnknownApp)),
        (app(AppId::LAST.0 + 1), String::new(), Some(RefusalCode::UnknownApp)),
    ] {
        let rule = PoolRule { reserved_for, description: description.into() };
        let what = format!("{} named", rule.reserved_for.len());
        let (package, pool): (Name, Name) = ("alpha".into(), "team".into());
        let before = world.ledger.pool_rule(&package, &pool).cloned();
        let set = SetPool {
            package: package.clone(),
            pool: pool.clone(),
            seats: Some(2),
            rule: Some(rule.clone()),
        };
        let actor = Actor::Operator(ROOT);
        let outcome = world.apply(actor, None, Command::SetPool(Box::new(set)));
        match (outcome, refused) {
            (Outcome::Refused(refusal), Some(code)) => {
                assert_eq!(refusal.code, code, "{what}");
                assert_eq!(world.ledger.pool_rule(&package, &pool), before.as_ref(), "{what}");
            }
            (outcome, None) => {
                assert_eq!(outcome, Outcome::Done, "{what}");
                assert_eq!(world.ledger.pool_rule(&package, &pool), Some(&rule), "{what}");
            }
            (outcome, refused) => panic!("{what}: {outcome:?}, not {refused:?}"),
        }
    }
}

#[test]
fn a_package_has_so_many_pools_and_no_more() {
    let mut world = World::founded(LedgerLimits::PRODUCTION);
    world.root(Command::PinVendor(vendor("vector-de")));
    let seats = MAX_POOLS as u32 + 10;
    world.root(import(terms("alpha", "davinci", seats, 0)));
    let set = |pool: &str, seats: u32| {
        let (package, pool) = ("alpha".into(), pool.into());
        Command::SetPool(Box::new(SetPool { package, pool, seats: Some(seats), rule: None }))
    };
    let root = Actor::Operator(ROOT);
    let batch = |range: std::ops::Range<usize>| {
        let pools = range.map(|at| set(&format!("pool-{at}"), 1));
        pools.map(|command| lease::entry::Envelope {
            actor: root,
            request: None,
            trace: TraceId(1),
            cause: None,
            command,
        })
    };
    world.apply_batch(batch(0..MAX_POOLS).collect());
    for (command, refused) in [
        (set("one-more", 1), true),
        (set("pool-0", 2), false),
        (Command::RemovePool { package: "alpha".into(), pool: "pool-1".into() }, false),
        (set("", 1), true),
        (set("a\u{0}b", 1), true),
        (set("one-more", 1), false),
    ] {
        let outcome = world.apply(root, None, command.clone());
        assert_eq!(matches!(outcome, Outcome::Refused(_)), refused, "{command:?}");
    }
}

/// The classic face names a user and no host; it is an asker like any other.
#[test]
fn other_faces_take_from_what_is_kept_for_them() {
    let world = check_in(
        World::ready(),
        "setpool alpha classic 1 for=app:classic
         setpool alpha carla 1 for=user:carla",
    );
    let mut world = world;
    let mut take = |lease: u64, user: &str| {
        let checkout = ClassicCheckout {
            package: "alpha".into(),
            lease: lease_id(lease),
            user: subject(user),
            api_key: None,
            ttl_ms: 60_000,
        };
        let command = Command::ClassicCheckout(Box::new(checkout));
        let outcome = world.apply(Actor::Face(Face::Classic), None, command);
        assert!(matches!(outcome, Outcome::Granted(_)), "{outcome:?}");
        world.ledger.lease(&lease_id(lease)).expect("live").pool.map(|pool| pool.to_string())
    };
    assert_eq!(take(1, "Carla").as_deref(), Some("carla"));
    assert_eq!(take(2, "carla").as_deref(), Some("classic"));
    assert_eq!(take(3, "carla"), None);
}

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

fn apply(world: &mut World, model: &mut Model, step: &Step, lease: u64) -> (Said, Said) {
    let name = |pool: usize| Name::from(POOLS[pool]);
    let root = Actor::Operator(ROOT);
    let (actor, command, expected) = match step {
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
            let Some(at) = (!model.leases.is_empty()).then(|| lease.index(model.leases.len()))
            else {
                return (Said::Done, Said::Done);
            };
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
