//! Stored bytes of offline use, for ever: see `golden`, whose files stay as they are.

use lease::Ledger;
use lease::command::*;
use lease::entry::{Actor, Entry, Envelope, Stamp};
use lease::format::{self, Kind};
use lease::ids::*;
use lease::limits::LedgerLimits;
use lease::money::Money;
use lease::offline::*;
use lease::outcome::Outcome;
use lease::rows::table;

use crate::golden::{bytes, hex, read, rows_text, up_to, write_missing};
use crate::offline::{api_key, entitle};
use crate::world::*;

/// What the golden files are called and what stands in them.
fn golden() -> [(&'static str, String); 3] {
    let (entries, outcomes, store) = history();
    let entry_lines = entries.iter().map(|entry| hex(&entry.encode()) + "\n").collect();
    let outcomes = format::encode(Kind::Outcomes, 1, &outcomes);
    [
        ("offline-entries-v1.hex", entry_lines),
        ("offline-outcomes-v1.hex", hex(&outcomes) + "\n"),
        ("offline-rows-v1.hex", rows_text(&store)),
    ]
}

/// A history that uses every command of offline use and leaves a row in each of its tables.
fn history() -> (Vec<Entry>, Vec<Vec<Outcome>>, Store) {
    let (mut ledger, mut store) = (Ledger::with_limits(LedgerLimits::PRODUCTION), Store::new());
    let (mut entries, mut outcomes) = (Vec::new(), Vec::new());
    let world = World::founded(LedgerLimits::PRODUCTION);
    for (number, commands) in
        [founding_batch(), working_batch(), remaining_batch()].into_iter().enumerate()
    {
        let mut header = world.header();
        (header.epoch, header.incarnation) = if number == 0 { (0, 0) } else { (1, INCARNATION) };
        let later = number as u64 * 10_000;
        header.stamp = Stamp { led_ms: 5000 + later, civil_ms: START_MS + later as i64 };
        let entry = Entry { header, commands };
        outcomes.push(ledger.apply_entry(10 + number as u64, &entry).expect("it belongs here"));
        entries.push(entry);
    }
    checkpoint(&mut ledger, &mut store);
    (entries, outcomes, up_to(&store, table::BUDGET))
}

fn envelope(actor: Actor, command: Command) -> Envelope {
    Envelope { actor, request: None, trace: TraceId(0x0123_4567_89ab_cdef), cause: None, command }
}

fn founding_batch() -> Vec<Envelope> {
    let (node, admin) = (Actor::Node(1), Actor::Operator(ROOT));
    let offline = OfflineTerms {
        tokens: true,
        borrow_max_ms: 3_600_000,
        borrow_seats_max: Some(2),
        online_reserve: 1,
    };
    let mut package = entitle(terms("alpha", "davinci", 3, 9), offline);
    if let Command::ImportEntitlement(it) = &mut package {
        it.import.canonical = br#"{"package":"alpha"}"#.to_vec();
    }
    let rules = BorrowRules {
        max_ms: Some(1_800_000),
        seats_max: Some(2),
        online_reserve: 2,
        include: vec![BorrowParty::User("Anna".into()), BorrowParty::Host("wks-1".into())],
        exclude: vec![BorrowParty::User("bert".into())],
    };
    let rules = SetBorrowRules { package: "alpha".into(), rules };
    let budget = SetBudget {
        package: "alpha".into(),
        max_spend: Some(Money("2500.50".parse().expect("a number"))),
    };
    vec![
        envelope(node, founding()),
        envelope(node, Command::AddOperator(operator(ROOT, Role::Admin, None))),
        envelope(admin, Command::PinVendor(vendor("vector-de"))),
        envelope(admin, package),
        envelope(admin, register(1000, "davinci")),
        envelope(admin, Command::SetBorrowRules(Box::new(rules))),
        envelope(admin, Command::SetBudget(budget)),
        envelope(admin, Command::AddApiKey(api_key(1, 1))),
        envelope(admin, Command::AddApiKey(api_key(2, 2))),
    ]
}

fn working_batch() -> Vec<Envelope> {
    let (app, classic) = (app_actor(1000, 1), Actor::Face(Face::Classic));
    let checkout =
        |lease| Command::Checkout(Box::new(checkout("alpha", "davinci", lease_id(lease))));
    let renewal = Renewal { lease: lease_id(1), sequence: 1, still_active: true };
    let borrow = |lease, sequence| {
        Command::Borrow(Borrow { lease: lease_id(lease), sequence, duration_ms: 600_000 })
    };
    let classically = |lease, api_key| {
        Command::ClassicCheckout(Box::new(ClassicCheckout {
            package: "alpha".into(),
            lease: lease_id(lease),
            user: subject("carl"),
            api_key,
            ttl_ms: 86_400_000,
        }))
    };
    vec![
        envelope(app, checkout(1)),
        envelope(app, checkout(2)),
        envelope(app, checkout(3)),
        envelope(app, Command::Heartbeat { leases: vec![renewal] }),
        envelope(app, borrow(2, 1)),
        envelope(app, borrow(3, 1)),
        envelope(app, borrow(1, 2)),
        envelope(classic, classically(4, Some(ApiKeyId(1)))),
        envelope(classic, classically(5, None)),
    ]
}

fn remaining_batch() -> Vec<Envelope> {
    let (app, admin) = (app_actor(1000, 1), Actor::Operator(ROOT));
    let give_back = ReturnBorrow { lease: lease_id(2), sequence: 2 };
    let release = Command::Release { lease: lease_id(2), reason: "a reason".into() };
    let write_off = WriteOff { lease: lease_id(3), reason: "a reason".into() };
    vec![
        envelope(app, Command::ReturnBorrow(give_back)),
        envelope(admin, release),
        envelope(admin, Command::WriteOff(write_off)),
        envelope(Actor::Face(Face::Classic), Command::ClassicReturn { lease: lease_id(5) }),
        envelope(admin, Command::RemoveApiKey { key: ApiKeyId(2) }),
    ]
}

#[test]
fn stored_bytes_of_offline_use_are_what_they_were() {
    for (name, text) in golden() {
        assert_eq!(text, read(name), "{name}");
    }
}

#[test]
fn stored_bytes_of_offline_use_are_read_again() {
    let (entries, outcomes, store) = history();
    let lines = read("offline-entries-v1.hex");
    let read_entries = lines.lines().map(|line| Entry::decode(&bytes(line)).expect("an entry"));
    assert_eq!(read_entries.collect::<Vec<_>>(), entries);
    let lines = read("offline-outcomes-v1.hex");
    let read_outcomes: Vec<Vec<Outcome>> =
        format::decode(Kind::Outcomes, 1, &bytes(lines.trim())).expect("outcomes");
    assert_eq!(read_outcomes, outcomes);
    let refused = outcomes.iter().flatten().filter(|it| matches!(it, Outcome::Refused(_))).count();
    assert_eq!(refused, 2, "the third borrow, and the release of what is held: {outcomes:?}");
    let mut tables: Vec<u8> = store.keys().map(|(table, _)| *table).collect();
    tables.dedup();
    assert!([29, 30, 31, 33, 34].iter().all(|table| tables.contains(table)), "{tables:?}");
    load(&store, LedgerLimits::PRODUCTION);
}

/// Makes the files of a new version; those that exist are left alone.
#[test]
#[ignore = "writes files; run by hand when a format gets a new version"]
fn write_missing_offline_files() {
    write_missing(&golden());
}
