//! Stored bytes, for ever: an entry with one of every command, a row of every table, outcomes.
//!
//! The files under `tests/golden` were written once and are never changed: what they hold was
//! stored by a released version and must be read by every later one. A new version of a format
//! gets files of its own; `write_missing_golden_files` makes them.

use std::fmt::Write as _;
use std::path::PathBuf;

use lease::command::*;
use lease::entry::{Actor, Cause, Entry, Envelope, Stamp};
use lease::format::{self, Kind};
use lease::ids::*;
use lease::limits::LedgerLimits;
use lease::outcome::Outcome;
use lease::rows::table;
use lease::{Ledger, decode_audit_block};

use crate::world::*;

/// What the golden files are called and what stands in them.
fn golden() -> [(&'static str, String); 3] {
    let (entries, outcomes, store) = history();
    let entry_lines = entries.iter().map(|entry| hex(&entry.encode()) + "\n").collect();
    let outcomes = format::encode(Kind::Outcomes, 1, &outcomes);
    [
        ("entries-v1.hex", entry_lines),
        ("outcomes-v1.hex", hex(&outcomes) + "\n"),
        ("rows-v1.hex", rows_text(&store)),
    ]
}

/// A history that uses every command and leaves a row in every table.
fn history() -> (Vec<Entry>, Vec<Vec<Outcome>>, Store) {
    let mut ledger = Ledger::with_limits(LedgerLimits::PRODUCTION);
    let mut store = Store::new();
    let mut world = World::founded(LedgerLimits::PRODUCTION);
    world.index = 1;
    let mut entries = Vec::new();
    for (number, commands) in batches().into_iter().enumerate() {
        let number = number as u64;
        let mut header = world.header();
        (header.epoch, header.incarnation) = if number == 0 { (0, 0) } else { (1, INCARNATION) };
        let later = number * 10_000;
        header.stamp = Stamp { led_ms: 5000 + later, civil_ms: START_MS + later as i64 };
        entries.push(Entry { header, commands });
    }
    let mut outcomes = Vec::new();
    for (index, entry) in (10..).zip(&entries) {
        outcomes.push(ledger.apply_entry(index, entry).expect("it belongs here"));
    }
    checkpoint(&mut ledger, &mut store);
    (entries, outcomes, up_to(&store, table::REQUEST))
}

const NODE: Actor = Actor::Node(1);
const ADMIN: Actor = Actor::Operator(ROOT);

fn batches() -> [Vec<Envelope>; 3] {
    [founding_batch(), working_batch(), remaining_batch()]
}

fn envelope(actor: Actor, request: Option<RequestId>, command: Command) -> Envelope {
    Envelope { actor, request, trace: TraceId(0x0123_4567_89ab_cdef), cause: None, command }
}

fn key(operation: &str, key: &str) -> Option<RequestId> {
    Some(request(operation, key, "body", KeyOrigin::Caller))
}

fn plain_checkout(lease: u64) -> Command {
    Command::Checkout(Box::new(checkout("alpha", "davinci", lease_id(lease))))
}

fn founding_batch() -> Vec<Envelope> {
    vec![
        envelope(NODE, None, founding()),
        envelope(NODE, None, Command::PutMember(member())),
        envelope(NODE, None, Command::PublishSigningKey(signing_key())),
        envelope(NODE, None, Command::PutSecret(sealed_secret())),
        envelope(NODE, None, Command::WrapDataKey(wrapped_key())),
        envelope(NODE, None, Command::AddOperator(operator(ROOT, Role::Admin, None))),
        envelope(ADMIN, key("pin", "p"), Command::PinVendor(vendor("vector-de"))),
        envelope(ADMIN, key("import", "i"), sample_package()),
        envelope(ADMIN, key("register", "r"), register(1, "davinci")),
        envelope(ADMIN, None, register(2, "davinci")),
    ]
}

fn working_batch() -> Vec<Envelope> {
    let app = app_actor(1, 1);
    let gateway = Some(request("return", "g", "body", KeyOrigin::Gateway));
    let transfer = Command::TransferSeats(TransferSeats {
        package: "alpha".into(),
        from: None,
        to: Some("team".into()),
        quantity: 3,
    });
    let renewal =
        |lease, sequence| Renewal { lease: lease_id(lease), sequence, still_active: true };
    let heartbeat = Command::Heartbeat { leases: vec![renewal(1, 1), renewal(2, 9)] };
    let usage = UsageReport {
        session_duration_s: 3600,
        features_used: vec!["can".into(), "lin".into()],
        files_processed: 7,
    };
    let mut full = checkout("alpha", "davinci", lease_id(1));
    full.pool = Some("team".into());
    full.features = vec!["can".into()];
    full.quantity = 2;
    full.version = "8.1.0".into();
    full.session = "session-1".into();
    let give_back =
        |lease, usage| Command::Return(Box::new(Return { lease: lease_id(lease), usage }));
    let mut caused = envelope(app, None, plain_checkout(5));
    caused.cause = Some(Cause { group: 3, index: 77, position: 2 });
    vec![
        envelope(ADMIN, None, transfer),
        envelope(app, key("checkout", "a"), Command::Checkout(Box::new(full))),
        envelope(app, key("checkout", "b"), plain_checkout(2)),
        envelope(app, key("checkout", "c"), plain_checkout(3)),
        envelope(app, None, plain_checkout(4)),
        caused,
        envelope(app, None, heartbeat),
        envelope(app, gateway, give_back(2, usage)),
        envelope(app, key("return", "d"), give_back(3, UsageReport::default())),
    ]
}

fn remaining_batch() -> Vec<Envelope> {
    let app = app_actor(1, 1);
    let change =
        |package: &str| PackageChange { package: package.into(), reason: "a reason".into() };
    let rotation = RotateAppSecret { app: AppId(2), secret_mac: [9; 32] };
    let release = Command::Release { lease: lease_id(4), reason: "a reason".into() };
    vec![
        envelope(NODE, None, Command::Tick),
        envelope(ADMIN, None, release),
        envelope(ADMIN, None, Command::SuspendPackage(change("alpha"))),
        envelope(app, None, plain_checkout(6)),
        envelope(ADMIN, None, Command::ResumePackage(change("alpha"))),
        envelope(ADMIN, None, Command::RotateAppSecret(rotation)),
        envelope(ADMIN, None, Command::RemoveApp { app: AppId(2) }),
        envelope(ADMIN, None, Command::RevokePackage(change("beta"))),
        envelope(NODE, None, Command::AgreeStateSum { index: 1000, sum: [7; 32] }),
    ]
}

fn sample_package() -> Command {
    let mut command = import(terms("alpha", "davinci", 3, 9));
    if let Command::ImportPackage(import) = &mut command {
        import.canonical = br#"{"package":"alpha"}"#.to_vec();
    }
    command
}

fn member() -> Member {
    Member {
        node: 1,
        peer_address: "127.0.0.1:7411".into(),
        gateway_url: "https://127.0.0.1:7401".into(),
        region: "eu".into(),
        zone: "a".into(),
        directory_incarnation: 0xabcd,
        kek_public: [3; 32],
    }
}

fn signing_key() -> SigningKey {
    SigningKey {
        kid: "kid-1".into(),
        node: 1,
        algorithm: SigningAlgorithm::Rs256,
        public_der: vec![0x30, 0x01, 0x02],
    }
}

fn sealed_secret() -> SealedSecret {
    let name = "lease-id-mac".into();
    SealedSecret { name, version: 1, nonce: [4; 12], sealed: vec![5; 48] }
}

fn wrapped_key() -> WrappedDataKey {
    WrappedDataKey {
        version: 1,
        node: 1,
        ephemeral_public: [6; 32],
        nonce: [7; 12],
        wrapped: vec![8; 48],
    }
}

/// Without tables that came later than a golden file: they have files of their own.
pub(crate) fn up_to(store: &Store, last: u8) -> Store {
    let rows = store.iter().filter(|((table, _), _)| *table <= last);
    rows.map(|(key, value)| (key.clone(), value.clone())).collect()
}

pub(crate) fn rows_text(store: &Store) -> String {
    store.iter().fold(String::new(), |mut text, ((table, key), value)| {
        let _ = writeln!(text, "{table} {} {}", hex(key), hex(value));
        text
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("two digits"))
        .collect()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Checks that what this code writes is what the files hold, line by line.
#[track_caller]
pub(crate) fn check_written(golden: impl IntoIterator<Item = (&'static str, String)>) {
    for (name, text) in golden {
        for (number, (now, then)) in text.lines().zip(read(name).lines()).enumerate() {
            assert_eq!(now, then, "line {} of {name}", number + 1);
        }
        assert_eq!(text.lines().count(), read(name).lines().count(), "lines of {name}");
    }
}

/// Checks that a family's files read as the history that wrote them; `prefix` is what their names
/// begin with.
#[track_caller]
pub(crate) fn check_read(
    prefix: &str,
    entries: &[Entry],
    outcomes: &[Vec<Outcome>],
    store: &Store,
) {
    let lines = read(&format!("{prefix}entries-v1.hex"));
    let read_entries = lines.lines().map(|line| Entry::decode(&bytes(line)).expect("an entry"));
    assert_eq!(read_entries.collect::<Vec<_>>(), entries);
    let lines = read(&format!("{prefix}outcomes-v1.hex"));
    let read_outcomes: Vec<Vec<Outcome>> =
        format::decode(Kind::Outcomes, 1, &bytes(lines.trim())).expect("outcomes");
    assert_eq!(read_outcomes, outcomes);
    let mut ledger = Ledger::new();
    for line in read(&format!("{prefix}rows-v1.hex")).lines() {
        let mut words = line.split(' ');
        let mut next = || words.next().expect("table, key and value");
        let table = next().parse().expect("a table");
        let (key, value) = (bytes(next()), bytes(next()));
        ledger.load_row(table, &key, &value).expect("a row");
    }
    ledger.finish_load().expect("a ledger");
    assert_eq!(ledger.state_sum(), load(store, LedgerLimits::PRODUCTION).state_sum());
}

#[test]
fn stored_bytes_are_what_they_were() {
    check_written(golden());
}

#[test]
fn stored_bytes_are_read_again() {
    let (entries, outcomes, store) = history();
    check_read("", &entries, &outcomes, &store);
}

/// Every table has a row here and every kind of command is used, so nothing stored goes unseen.
#[test]
fn the_golden_files_cover_everything() {
    let (entries, _, store) = history();
    let tables: Vec<u8> = (1..=19).collect();
    let mut found: Vec<u8> = store.keys().map(|(table, _)| *table).collect();
    found.dedup();
    assert_eq!(found, tables);
    let commands = entries.iter().flat_map(|entry| &entry.commands);
    let mut variants: Vec<String> = commands
        .map(|envelope| format!("{:?}", envelope.command))
        .map(|text| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned())
        .collect();
    variants.sort();
    variants.dedup();
    assert_eq!(variants.len(), 21, "{variants:?}");
    let events = store.iter().filter(|((table, _), _)| *table == 18);
    let events: Vec<_> =
        events.flat_map(|(_, block)| decode_audit_block(block).expect("a block")).collect();
    assert!(events.len() > 25, "{} events", events.len());
}

/// Makes the files of a new version; those that exist are left alone.
#[test]
#[ignore = "writes files; run by hand when a format gets a new version"]
fn write_missing_golden_files() {
    write_missing(&golden());
}

/// Makes golden files that are not there.
pub(crate) fn write_missing(files: &[(&'static str, String)]) {
    for (name, text) in files {
        if !path(name).exists() {
            std::fs::create_dir_all(path("")).expect("a directory");
            std::fs::write(path(name), text).expect("a file");
        }
    }
}
