//! Pools: what their verbs answer, and whom rules let in; random histories are in `pools_model`.

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::limits::{LedgerLimits, MAX_POOL_PARTIES, MAX_POOLS};
use lease::offline::{BorrowParty, ClassicCheckout};
use lease::operate::{PoolParty, PoolRule, SetPool};
use lease::outcome::{Outcome, RefusalCode};

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
