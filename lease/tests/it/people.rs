//! People and hosts who are forgotten: their names are nowhere afterwards, and what works only
//! because of a name is in the way.

use lease::command::{Command, Operator, Role, Subject};
use lease::entry::Actor;
use lease::ids::*;
use lease::license::{AddClient, Claim, UserRow};
use lease::limits::LedgerLimits;
use lease::offline::{ApiKeyRow, BorrowParty, BorrowRules, SetBorrowRules};
use lease::operate::{EraseSubject, PoolParty, PoolRule, RemoveOperator, SetPool};
use lease::outcome::Outcome;
use lease::rows::table;
use lease::{Bond, SubjectKind};

use crate::license_script::activate;
use crate::script::{answer, say};
use crate::world::*;

const ANNA: &str = "anna@x.com";

fn reference(world: &World, kind: SubjectKind, name: &str) -> SubjectRef {
    world.ledger.subject_by_name(kind, name).unwrap_or_else(|| panic!("{name} is in the book"))
}

fn erase(subject: SubjectRef, reason: &str) -> Command {
    Command::EraseSubject(EraseSubject { subject, reason: reason.into() })
}

/// What came of erasing a user, or of a host.
fn erased(world: &mut World, kind: SubjectKind, name: &str) -> String {
    let subject = reference(world, kind, name);
    answer(&world.apply(Actor::Operator(ROOT), None, erase(subject, "asked to be forgotten")))
}

fn run(world: &mut World, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let said = say(world, line);
        assert!(!said.starts_with("no "), "{line} -> {said}");
    }
}

/// Tables with a row whose key or value holds a text.
fn tables_naming(world: &World, text: &str) -> Vec<u8> {
    let has = |bytes: &[u8]| {
        bytes.to_ascii_lowercase().windows(text.len()).any(|part| part == text.as_bytes())
    };
    let rows = world.store.iter().filter(|((_, key), value)| has(key) || has(value));
    let mut tables: Vec<u8> = rows.map(|((table, _), _)| *table).collect();
    tables.dedup();
    tables
}

fn named_rules(party: BorrowParty) -> (Command, Command) {
    let rules = BorrowRules { include: vec![party.clone()], ..BorrowRules::default() };
    let reserved_for = vec![PoolParty::Party(party), PoolParty::App(AppId(1))];
    let rule = PoolRule { reserved_for, description: "for the lab".into() };
    let package = Name::from("alpha");
    (
        Command::SetBorrowRules(Box::new(SetBorrowRules { package: package.clone(), rules })),
        Command::SetPool(Box::new(SetPool {
            package,
            pool: "lab".into(),
            seats: Some(2),
            rule: Some(rule),
        })),
    )
}

/// A world in which a person's name stands wherever a name can stand, and nothing needs it.
fn full_of_anna() -> World {
    let mut world = World::ready();
    run(
        &mut world,
        "client C1 anna@x.com
         issue K1 device client=C1
         license K1 cancel
         client C2 bert@x.com
         issue K2 device client=C2
         device K2 fp-1 client=C2 email=anna@x.com
         activation K2 fp-1 remove
         issue K3 deployment
         setup K3 anna@x.com
         cluster K3 c-1
         checkout L1 user=anna@x.com",
    );
    let party = BorrowParty::User("Anna@X.com".into());
    let (borrow, pool) = named_rules(party);
    world.root(borrow);
    world.root(pool);
    world.root(Command::AddUser(UserRow {
        user: UserId(1),
        username: ANNA.into(),
        password_hash: "$argon2id$".into(),
        created_at_ms: 0,
    }));
    world.root(Command::AddApiKey(ApiKeyRow {
        key: ApiKeyId(1),
        mac: [1; 32],
        name: "build".into(),
        environment: "test".into(),
        tenant: ANNA.into(),
        created_at_ms: 0,
    }));
    let over = Some(world.clock.civil_ms + 1_000);
    let token = Operator { name: ANNA.into(), ..operator(OperatorId(7), Role::Auditor, over) };
    world.root(Command::AddOperator(token));
    run(&mut world, "time +2s");
    world
}

#[test]
fn a_name_is_nowhere_once_it_was_erased() {
    let mut world = full_of_anna();
    let before = tables_naming(&world, ANNA);
    let wanted = [
        table::OPERATOR,
        table::SUBJECT,
        table::USER,
        table::BORROW_RULES,
        table::API_KEY,
        table::POOL_RULE,
    ];
    assert_eq!(before, wanted, "the name stands where it can stand");
    let subject = reference(&world, SubjectKind::User, ANNA);
    assert_eq!(world.ledger.bonds_of(subject).count(), 0);
    assert!(world.ledger.identity(LicenseId(2), ANNA).is_some());
    world.audit();
    assert_eq!(erased(&mut world, SubjectKind::User, ANNA), "done");
    assert_eq!(tables_naming(&world, ANNA), []);
    assert_eq!(world.ledger.subject_by_name(SubjectKind::User, ANNA), None);
    assert_eq!(world.ledger.subject(subject), None);
    assert!(world.ledger.identity(LicenseId(2), ANNA).is_none());
    let events = world.audit();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(kinds, ["subject_erased"]);

    // Nothing got wider, nobody else was touched, and the seat that is out goes on.
    let rules = world.ledger.borrow_rules("alpha").expect("rules");
    assert_eq!(rules.include.len(), 1);
    let rule = world.ledger.pool_rule(&"alpha".into(), &"lab".into()).expect("a rule");
    assert_eq!(rule.reserved_for.len(), 2);
    assert_eq!(rule.reserved_for[1], PoolParty::App(AppId(1)));
    let lease = world.ledger.lease(&lease_id(1)).expect("live");
    assert_eq!(lease.user, subject, "the reference names nobody");
    run(&mut world, "heartbeat L1:1\n return L1");
    assert!(world.ledger.subject_by_name(SubjectKind::User, "bert@x.com").is_some());
    // Whoever comes again is somebody new.
    let again = Subject { name: ANNA.into(), candidate: SubjectRef(4_242) };
    world.root(Command::AddClient(AddClient { client: ClientId(9), email: again }));
    assert_eq!(reference(&world, SubjectKind::User, ANNA), SubjectRef(4_242));
}

#[test]
fn a_hosts_name_is_taken_from_rules_and_from_what_clusters_said() {
    let mut world = World::ready();
    let (borrow, pool) = named_rules(BorrowParty::Host("WKS-1".into()));
    world.root(borrow);
    world.root(pool);
    run(&mut world, "issue K1 deployment max=2\n checkout L1");
    for (cluster, said) in [("c-1", r#"{"hostname":"Wks-1"}"#), ("c-2", r#"{"hostname":"wks-10"}"#)]
    {
        let claim = Claim::Deployment { nodes: 0, metadata: said.into() };
        let fresh = world.index + 1;
        let activate = activate(Some(1), cluster, fresh, claim);
        let face = Actor::Face(Face::Deployment);
        let outcome = world.apply(face, None, Command::Activate(Box::new(activate)));
        assert!(matches!(outcome, Outcome::Activated(_)), "{outcome:?}");
    }
    assert_eq!(erased(&mut world, SubjectKind::Host, "wks-1"), "done");
    let said = |holder| {
        let row = world.ledger.activation_of_holder(LicenseId(1), holder).expect("active");
        row.metadata.to_string()
    };
    assert_eq!((said("c-1").as_str(), said("c-2").as_str()), ("", r#"{"hostname":"wks-10"}"#));
    // The other cluster's name begins with the same letters and is somebody else's.
    assert_eq!(tables_naming(&world, "wks-1"), [table::ACTIVATION]);
    assert!(world.ledger.subject_by_name(SubjectKind::User, "anna").is_some(), "only the host");
}

/// What keeps a name, and how to let go of it.
#[test]
fn what_works_by_a_name_is_in_the_way_of_forgetting_it() {
    type Row = (&'static str, fn(&World) -> Bond, &'static str);
    let table: [Row; 5] = [
        (
            "client C1 anna@x.com\n issue K1 device client=C1",
            |_| Bond::License(LicenseId(1)),
            "license K1 cancel",
        ),
        (
            "client C1 anna@x.com\n issue K1 device client=C1\n license K1 suspend",
            |_| Bond::License(LicenseId(1)),
            "license K1 revoke",
        ),
        (
            "client C1 anna@x.com\n issue K1 device client=C1 until=+30d",
            |_| Bond::License(LicenseId(1)),
            "time civil=+31d",
        ),
        (
            "client C1 bert@x.com\n issue K1 device client=C1\n device K1 fp-1 email=anna@x.com",
            |world| {
                let mut rows = world.ledger.activations_of(LicenseId(1));
                Bond::Activation(rows.next().expect("an activation").activation)
            },
            "activation K1 fp-1 revoke",
        ),
        ("checkout L1 user=anna@x.com", |_| Bond::Operator(OperatorId(9)), ""),
    ];
    for (setup, bond, way_out) in table {
        let mut world = World::ready();
        run(&mut world, setup);
        if way_out.is_empty() {
            let name = format!("api-key/{ANNA}").into();
            let key = Operator { name, ..operator(OperatorId(9), Role::Operator, None) };
            world.root(Command::AddOperator(key));
        }
        let subject = reference(&world, SubjectKind::User, ANNA);
        let bonds: Vec<Bond> = world.ledger.bonds_of(subject).collect();
        assert_eq!(bonds, [bond(&world)], "{setup}");
        let before = world.ledger.state_sum();
        assert_eq!(erased(&mut world, SubjectKind::User, ANNA), "no SubjectInUse", "{setup}");
        assert_ne!(world.ledger.state_sum(), before, "a refusal is counted");
        assert!(world.ledger.subject(subject).is_some(), "and nothing else");
        match way_out {
            "" => {
                let operator = OperatorId(9);
                world.root(Command::RemoveOperator(RemoveOperator { operator }));
            }
            way_out => run(&mut world, way_out),
        }
        assert_eq!(erased(&mut world, SubjectKind::User, ANNA), "done", "{setup}");
    }
}

#[test]
fn who_may_erase_whom_and_what_the_reason_may_say() {
    let mut world = World::founded(LedgerLimits::PRODUCTION);
    world.root(Command::PinVendor(vendor("vector-de")));
    world.root(import(terms("alpha", "davinci", 5, 15)));
    world.root(register(1, "davinci"));
    run(&mut world, "operator 2 operator\n operator 3 admin\n checkout L1 user=anna@x.com");
    let subject = reference(&world, SubjectKind::User, ANNA);
    let by = |world: &mut World, actor, subject, reason: &str| {
        answer(&world.apply(actor, None, erase(subject, reason)))
    };
    let admin = Actor::Operator(OperatorId(3));
    let operator = Actor::Operator(OperatorId(2));
    assert_eq!(by(&mut world, operator, subject, "why"), "no RoleTooNarrow");
    assert_eq!(by(&mut world, Actor::Node(1), subject, "why"), "no RoleTooNarrow");
    assert_eq!(by(&mut world, admin, SubjectRef(0), "why"), "no UnknownSubject");
    assert_eq!(by(&mut world, admin, subject, "ANNA@x.com left"), "no LimitReached");
    assert_eq!(by(&mut world, admin, subject, &"x".repeat(257)), "no LimitReached");
    let request = Some(request("erase", "k", "body", KeyOrigin::Caller));
    for _ in 0..2 {
        let outcome = world.apply(admin, request, erase(subject, "left"));
        assert_eq!(answer(&outcome), "done", "a repeat is answered as the first was");
    }
    assert_eq!(by(&mut world, admin, subject, "left"), "no UnknownSubject");
}

#[test]
fn names_are_found_and_listed_in_order() {
    let mut world = World::ready();
    run(&mut world, "client C1 anna@x.com\n checkout L1 user=Bert");
    let ledger = &world.ledger;
    assert!(ledger.subject_by_name(SubjectKind::User, "Anna@X.com").is_some(), "an address");
    assert!(ledger.subject_by_name(SubjectKind::User, "bert").is_none(), "a name as it was said");
    assert!(ledger.subject_by_name(SubjectKind::Host, "Bert").is_none());
    let all: Vec<SubjectRef> = ledger.subjects(None).map(|(subject, ..)| subject).collect();
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted());
    let rest: Vec<SubjectRef> = ledger.subjects(Some(all[0])).map(|(it, ..)| it).collect();
    assert_eq!(rest, all[1..]);
}
