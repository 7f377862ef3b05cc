//! Edges: bounds, entries that do not belong here, what other rows hold, damaged rows.

use lease::command::*;
use lease::entry::{Actor, Entry, Envelope};
use lease::ids::*;
use lease::limits::{LedgerLimits, MAX_RENEWALS};
use lease::outcome::{Outcome, Refusal, RefusalCode};
use lease::{ApplyError, Ledger, LoadError};

use crate::script::check_in;
use crate::world::*;

fn refused(code: RefusalCode) -> Outcome {
    Outcome::Refused(Refusal::new(code))
}

fn small(limits: LedgerLimits) -> World {
    let mut world = World::founded(limits);
    world.root(Command::PinVendor(vendor("vector-de")));
    world.root(import(terms("alpha", "davinci", 5, 15)));
    world.root(register(1, "davinci"));
    world
}

#[test]
fn a_full_request_table_refuses_and_never_forgets_early() {
    let limits = LedgerLimits { request_rows: 2, ..LedgerLimits::PRODUCTION };
    check_in(
        small(limits),
        "checkout L1 key=a                -> commit seq=1 in=900s
         checkout L2 key=b                -> commit seq=1 in=900s
         checkout L3 key=c                -> commit seq=1 in=900s
         return L1 key=a                  -> cost=0 held=0s
         return L2 key=b                  -> cost=0 held=0s
         rows                             -> 2
         checkout L4 key=d                -> no RequestTableFull
         suspend alpha key=d              -> no RequestTableFull
         checkout L4 gw=d                 -> commit seq=1 in=900s
         checkout L5                      -> commit seq=1 in=900s
         checkout L9 key=c                -> commit seq=1 in=900s again
         return L3 key=c                  -> cost=0 held=0s
         return L4 gw=d                   -> cost=0 held=0s
         rows                             -> 4
         checkout L6 gw=e                 -> no RequestTableFull
         checkout L9 key=a                -> no LeaseEnded
         time +899s
         rows                             -> 3
         checkout L6 key=e                -> no RequestTableFull
         time +1s
         rows                             -> 1
         checkout L6 key=e                -> commit seq=1 in=900s",
    );
}

#[test]
fn what_is_due_counts_as_ended_before_it_is_swept() {
    let limits = LedgerLimits { expiries_per_entry: 1, ..LedgerLimits::PRODUCTION };
    let world = check_in(
        small(limits),
        "checkout L1 key=a qty=5          -> commit seq=1 in=900s
         checkout L2 qty=5                -> overage seq=1 in=900s cost=2500.0
         checkout L3 qty=5                -> overage seq=1 in=900s cost=2500.0
         checkout L4 qty=5                -> overage seq=1 in=900s cost=2500.0
         time +900s                       # one is swept
         due                              -> 0 31535100001
         heartbeat L1 L2 L3 L4            -> no LeaseEnded; no LeaseEnded; no LeaseEnded; no \
             LeaseEnded
         seats alpha                      -> commit 0+5 overage 0+15 total+20 -:0/20
         checkout L9 key=a                -> no LeaseEnded",
    );
    assert_eq!(world.ledger.live_leases(), 0);
    check_in(
        small(limits),
        "checkout L1 qty=5                -> commit seq=1 in=900s
         checkout L2 qty=5                -> overage seq=1 in=900s cost=2500.0
         checkout L3 qty=5                -> overage seq=1 in=900s cost=2500.0
         checkout L4 qty=5                -> overage seq=1 in=900s cost=2500.0
         time +900s
         checkout L5 qty=5                -> commit seq=1 in=900s
         checkout L6 qty=10               -> overage seq=1 in=900s cost=5000.0",
    );
    let world = check_in(
        small(limits),
        "checkout L1                      -> commit seq=1 in=900s
         time +1s
         checkout L2                      -> commit seq=1 in=900s
         checkout L3                      -> commit seq=1 in=900s
         revoke alpha
         heartbeat L2 L3                  -> no PackageRevoked; no PackageRevoked
         release L1                       -> no AlreadyEnded",
    );
    assert_eq!(world.ledger.leases(None).count(), 0, "due leases are not shown");
}

#[test]
fn only_so_many_refusals_are_logged_in_a_minute() {
    let limits = LedgerLimits { refusals_logged: 2, ..LedgerLimits::PRODUCTION };
    check_in(
        small(limits),
        "suspend nothing                  -> no UnknownPackage
         return L1                        -> no AlreadyEnded
         rotate 9                         -> no UnknownApp
         audit                            -> Refused Refused
         refusals                         -> :UnknownPackage=1 :UnknownApp=1 :AlreadyEnded=1",
    );
}

#[test]
fn names_beyond_the_bound_stand_for_nothing() {
    let limits = LedgerLimits { subjects: 2, ..LedgerLimits::PRODUCTION };
    let world = check_in(
        small(limits),
        "checkout L1                      -> commit seq=1 in=900s
         checkout L2                      -> commit seq=1 in=900s
         checkout L3 user=berta           -> commit seq=1 in=900s",
    );
    let user = |lease| world.ledger.lease(&lease_id(lease)).expect("live").user;
    assert_eq!(user(1), user(2), "one name, one reference");
    let name = world.ledger.subject(user(1)).map(|(_, name)| name.to_owned());
    assert_eq!(name.as_deref(), Some("anna"));
    assert_eq!(world.ledger.subject(user(3)), None);
}

#[test]
fn nothing_happens_before_the_founding() {
    let mut world = World {
        ledger: Ledger::new(),
        twin: Ledger::new(),
        store: Store::new(),
        limits: LedgerLimits::PRODUCTION,
        clock: Default::default(),
        index: 0,
        events: Vec::new(),
    };
    let node = Actor::Node(1);
    let early = world.apply(node, None, Command::AddOperator(operator(ROOT, Role::Admin, None)));
    assert_eq!(early, refused(RefusalCode::ClusterNotInitialised));
    assert_eq!(world.apply(node, None, Command::Tick), Outcome::Done);
}

#[test]
fn a_cluster_is_founded_once() {
    let mut world = World::founded(LedgerLimits::PRODUCTION);
    let node = Actor::Node(1);
    assert_eq!(world.apply(node, None, founding()), Outcome::Unchanged);
    let Command::InitCluster(mut other) = founding() else { unreachable!() };
    other.org_domain = "audi.com".into();
    let refusal = world.apply(node, None, Command::InitCluster(other));
    assert_eq!(refusal, refused(RefusalCode::ClusterAlreadyInitialised));
}

#[test]
fn the_clusters_own_rows_follow_their_rules() {
    let mut world = World::founded(LedgerLimits::PRODUCTION);
    let node = Actor::Node(2);
    let member = Member {
        node: 2,
        peer_address: "127.0.0.1:7412".into(),
        gateway_url: "https://127.0.0.1:7402".into(),
        region: "".into(),
        zone: "".into(),
        directory_incarnation: 5,
        kek_public: [1; 32],
    };
    let moved = Member { zone: "b".into(), ..member.clone() };
    let stolen = Member { directory_incarnation: 6, ..member.clone() };
    let key = SigningKey {
        kid: "kid".into(),
        node: 2,
        algorithm: SigningAlgorithm::Rs256,
        public_der: vec![1, 2, 3],
    };
    let changed = SigningKey { public_der: vec![4], ..key.clone() };
    let secret = |version, sealed| SealedSecret {
        name: "lease-id-mac".into(),
        version,
        nonce: [0; 12],
        sealed,
    };
    let wrap = |wrapped| WrappedDataKey {
        version: 1,
        node: 2,
        ephemeral_public: [0; 32],
        nonce: [0; 12],
        wrapped,
    };
    let sum = |index| Command::AgreeStateSum { index, sum: [index as u8; 32] };
    let no = refused;
    let foreign = Actor::Node(1);
    let cases = [
        (node, Command::PutMember(member.clone()), Outcome::Done),
        (node, Command::PutMember(member), Outcome::Unchanged),
        (node, Command::PutMember(moved), Outcome::Done),
        (node, Command::PutMember(stolen), no(RefusalCode::NodeIdTaken)),
        (foreign, Command::PublishSigningKey(key.clone()), no(RefusalCode::RoleTooNarrow)),
        (node, Command::PublishSigningKey(key.clone()), Outcome::Done),
        (node, Command::PublishSigningKey(key), Outcome::Unchanged),
        (node, Command::PublishSigningKey(changed), no(RefusalCode::VersionConflict)),
        (node, Command::PutSecret(secret(2, vec![1])), no(RefusalCode::VersionConflict)),
        (node, Command::PutSecret(secret(1, vec![1])), Outcome::Done),
        (node, Command::PutSecret(secret(1, vec![1])), Outcome::Unchanged),
        (node, Command::PutSecret(secret(1, vec![2])), no(RefusalCode::VersionConflict)),
        (node, Command::PutSecret(secret(2, vec![0; 16_385])), no(RefusalCode::LimitReached)),
        (node, Command::PutSecret(secret(2, vec![2])), Outcome::Done),
        (node, Command::WrapDataKey(wrap(vec![1])), Outcome::Done),
        (node, Command::WrapDataKey(wrap(vec![1])), Outcome::Unchanged),
        (node, Command::WrapDataKey(wrap(vec![2])), Outcome::Done),
        (node, sum(1000), Outcome::Done),
        (node, sum(1000), Outcome::Unchanged),
        (node, sum(999), Outcome::Unchanged),
        (node, sum(2000), Outcome::Done),
    ];
    for (number, (actor, command, expected)) in cases.into_iter().enumerate() {
        assert_eq!(world.apply(actor, None, command), expected, "case {number}");
    }
    assert_eq!(world.ledger.agreed_sum(), Some((2000, [208; 32])));
    assert_eq!(world.ledger.secret("lease-id-mac").map(|secret| secret.version), Some(2));
    assert_eq!(world.ledger.wrapped_data_key(2, 1).map(|key| key.wrapped.clone()), Some(vec![2]));
}

/// No rule looks into a sealed secret, so a node that cannot open it decides alike.
#[test]
fn what_is_sealed_decides_nothing() {
    let apply = |sealed: Vec<u8>| {
        let mut world = World::founded(LedgerLimits::PRODUCTION);
        let name = Name::from("lease-id-mac");
        let secret = SealedSecret { name, version: 1, nonce: [0; 12], sealed };
        let outcome = world.apply(Actor::Node(1), None, Command::PutSecret(secret));
        (outcome, world.ledger.audit_head())
    };
    assert_eq!(apply(vec![1; 48]), apply(vec![2; 48]));
}

#[test]
fn an_entry_that_does_not_belong_here_changes_nothing() {
    let mut world = World::ready();
    let sum = world.ledger.state_sum();
    let next = world.index + 1;
    let header = world.header();
    let envelope = Envelope {
        actor: Actor::Node(1),
        request: None,
        trace: TraceId(0),
        cause: None,
        command: Command::Tick,
    };
    let entry = |header| Entry { header, commands: vec![] };
    let mut foreign_group = header;
    foreign_group.group = 1;
    let mut other_epoch = header;
    other_epoch.epoch = 2;
    let mut fork = header;
    fork.incarnation = 7;
    let (epoch, incarnation) = (header.epoch, header.incarnation);
    let crowded = Entry { header, commands: vec![envelope; 1025] };
    let cases = [
        (next - 1, entry(header), ApplyError::Index { index: next - 1, applied: next - 1 }),
        (next, entry(foreign_group), ApplyError::Group { index: next, group: 1 }),
        (next, entry(other_epoch), ApplyError::Epoch { index: next, epoch: 2, incarnation }),
        (next, entry(fork), ApplyError::Epoch { index: next, epoch, incarnation: 7 }),
        (next, crowded, ApplyError::TooManyCommands { index: next, commands: 1025 }),
    ];
    for (index, entry, expected) in cases {
        assert_eq!(world.ledger.apply_entry(index, &entry), Err(expected));
    }
    assert_eq!(world.ledger.state_sum(), sum);
    let mut unfounded = header;
    (unfounded.epoch, unfounded.incarnation) = (0, 0);
    assert_eq!(world.ledger.apply_entry(next + 5, &entry(unfounded)), Ok(vec![]));
}

#[test]
fn too_many_renewals_are_refused_as_one() {
    let mut world = World::ready();
    let renewal = Renewal { lease: lease_id(1), sequence: 1, still_active: true };
    let leases = vec![renewal; MAX_RENEWALS + 1];
    let outcome = world.apply(app_actor(1, 1), None, Command::Heartbeat { leases });
    assert_eq!(outcome, refused(RefusalCode::LimitReached));
}

#[test]
fn commands_of_one_batch_see_each_other() {
    let mut world = World::ready();
    let key = request("checkout", "k", "b", KeyOrigin::Caller);
    let envelope = |lease, request| Envelope {
        actor: app_actor(1, 1),
        request,
        trace: TraceId(1),
        cause: None,
        command: Command::Checkout(Box::new(checkout("alpha", "davinci", lease_id(lease)))),
    };
    let mut batch = vec![envelope(1, Some(key)), envelope(2, Some(key))];
    batch.extend((3..30).map(|lease| envelope(lease, None)));
    let outcomes = world.apply_batch(batch);
    let granted = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Granted(grant) => Some((grant.lease, grant.fence.position, grant.repeated)),
        _ => None,
    });
    let granted: Vec<_> = granted.collect();
    assert_eq!(granted.len(), 21, "twenty seats and one repeat");
    assert_eq!(granted[0], (lease_id(1), 0, false));
    assert_eq!(granted[1], (lease_id(1), 0, true));
    assert_eq!(granted[2], (lease_id(3), 2, false));
}

/// A lease may have a last civil millisecond of its own; no verb sets one yet, rows may.
#[test]
fn a_lease_ends_after_its_own_last_millisecond() {
    let mut world = check_in(World::ready(), "checkout L1 -> commit seq=1 in=900s");
    let view = world.ledger.lease(&lease_id(1)).expect("live");
    let expected = view.granted_at_ms + 900_000;
    assert_eq!((view.expires_at_ms, view.not_after_ms), (expected, None));
    world.clock.civil_ms = START_MS + YEAR_MS - 1000;
    world.apply(Actor::Node(1), None, Command::Tick);
    let view = world.ledger.lease(&lease_id(1)).expect("live");
    assert_eq!(view.expires_at_ms, START_MS + YEAR_MS, "shown no later than the package's end");
}

#[test]
fn damaged_rows_are_not_loaded() {
    let world = check_in(
        World::ready(),
        "checkout L1 key=a        -> commit seq=1 in=900s
         checkout L2 key=b        -> commit seq=1 in=900s
         return L2 key=c          -> cost=0 held=0s
         transfer alpha team 2",
    );
    let try_load = |store: &Store| -> Result<(), LoadError> {
        let mut ledger = Ledger::new();
        for ((table, key), value) in store {
            ledger.load_row(*table, key, value)?;
        }
        ledger.finish_load()
    };
    assert!(try_load(&world.store).is_ok());
    let of_package = [9, 10, 12];
    for ((table, key), value) in &world.store {
        let mut damaged = world.store.clone();
        damaged.insert((*table, key.clone()), value[..value.len() - 1].to_vec());
        assert_eq!(try_load(&damaged).is_err(), *table != 18, "cut row of table {table}");
        let mut moved = world.store.clone();
        moved.remove(&(*table, key.clone()));
        moved.insert((*table, [&key[..], &[7]].concat()), value.clone());
        let found = try_load(&moved).is_err();
        // A pool, a counter or a name under another key is another pool, counter or name.
        assert!(found || [11, 13, 18].contains(table), "moved row of table {table}");
        let mut missing = world.store.clone();
        missing.remove(&(*table, key.clone()));
        if [1, 9, 10, 19].contains(table) {
            assert!(try_load(&missing).is_err(), "missing row of table {table}");
        }
    }
    assert!(of_package.iter().all(|table| world.store.keys().any(|(known, _)| known == table)));
    let mut twice = Ledger::new();
    for ((table, key), value) in &world.store {
        for _ in 0..if *table == 14 { 2 } else { 1 } {
            twice.load_row(*table, key, value).expect("a row");
        }
    }
    assert!(matches!(twice.finish_load(), Err(LoadError::Key { table: 14 })));
    let mut ledger = Ledger::new();
    assert!(matches!(ledger.load_row(99, &[], &[]), Err(LoadError::UnknownTable(99))));
    assert!(matches!(ledger.load_row(1, &[], &[]), Err(LoadError::Order { .. })));
}
