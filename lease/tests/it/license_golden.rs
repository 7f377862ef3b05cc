//! Stored bytes of license keys, for ever: see `golden`, whose files stay as they are.

use lease::command::Command;
use lease::entry::{Entry, Envelope};
use lease::format::{self, Kind};
use lease::ids::TraceId;
use lease::limits::LedgerLimits;
use lease::outcome::Outcome;
use lease::rows::table;
use lease::{Ledger, LoadError};

use crate::golden::{check_read, check_written, hex, rows_text, up_to, write_missing};
use crate::license_script;
use crate::script::Line;
use crate::world::*;

/// Uses every command about license keys and leaves a row in each of their tables.
const STORY: &str = "client C1 anna@x.com
    client C2 bert@x.com
    ban C2
    catalog P1 studio 1
    catalog P2 other 1
    uncatalog P2 1
    user U1 root
    secret eval-1 as=n1
    window eval 1 1
    issue K1 device client=C1 max=2 product=studio pid=P1 offline=+1h features=export,share
    issue K2 deployment ttl=+24h nodes=3 quota=tokens:100
    issue K3 evaluation open=1 act=+30d key=i
    device K1 fp-1 product=@1
    device K1 fp-2 email=carl@x.com product=studio
    verify K1 fp-1
    setup K2 who@x.com
    cluster K2 c-1 nodes=2 says={}
    beat K2 c-1
    host - h-1 org=acme project=p
    validate - h-1
    report c-1 tokens:5 gw=job
    trial K5 fp-9 email=dora@x.com key=t
    activation K1 fp-2 revoke
    license K1 rotate:K6
    license K2 suspend
    leave K2 c-1
    host K9 h-2 at=5";

/// Tables that the story leaves rows in, beside those of other stories.
const TABLES: [u8; 10] = [
    table::LICENSE,
    table::ACTIVATION,
    table::CLIENT,
    table::PRODUCT,
    table::USER,
    table::TRIAL,
    table::IDENTITY,
    table::GUESS,
    table::LICENSE_USAGE,
    table::KEY_WINDOW,
];

fn golden() -> [(&'static str, String); 3] {
    let (entries, outcomes, world) = history();
    let entry_lines = entries.iter().map(|entry| hex(&entry.encode()) + "\n").collect();
    let outcomes = format::encode(Kind::Outcomes, 1, &outcomes);
    [
        ("license-entries-v1.hex", entry_lines),
        ("license-outcomes-v1.hex", hex(&outcomes) + "\n"),
        ("license-rows-v1.hex", rows_text(&up_to(&world.store, table::API_KEY))),
    ]
}

fn history() -> (Vec<Entry>, Vec<Vec<Outcome>>, World) {
    let mut world = World::ready();
    let (mut entries, mut outcomes) = (Vec::new(), Vec::new());
    for line in STORY.lines() {
        let line = Line::parse(line);
        let (actor, command) = license_script::command(&world, &line).expect("a word of ours");
        let (trace, request) = (TraceId(u128::from(world.index) + 1), line.request());
        world.clock.led_ms += 1000;
        world.clock.civil_ms += 1000;
        let outcome = world.apply(actor, request, command.clone());
        outcomes.push(vec![outcome]);
        let envelope = Envelope { actor, request, trace, cause: None, command };
        entries.push(Entry { header: world.header(), commands: vec![envelope] });
    }
    (entries, outcomes, world)
}

#[test]
fn stored_bytes_of_licenses_are_what_they_were() {
    check_written(golden());
}

#[test]
fn stored_bytes_of_licenses_are_read_again() {
    let (entries, outcomes, world) = history();
    check_read("license-", &entries, &outcomes, &up_to(&world.store, table::API_KEY));
}

#[test]
fn the_license_story_covers_everything() {
    let (entries, outcomes, world) = history();
    for table in TABLES {
        assert!(world.store.keys().any(|(found, _)| *found == table), "table {table}");
    }
    let commands = entries.iter().flat_map(|entry| &entry.commands).map(|it| &it.command);
    let word = |command: &Command| {
        let text = format!("{command:?}");
        text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
    };
    let mut variants: Vec<String> = commands.map(word).collect();
    variants.sort();
    variants.dedup();
    assert_eq!(variants.len(), 15, "{variants:?}");
    let refused = outcomes.iter().flatten().filter(|it| matches!(it, Outcome::Refused(_)));
    assert_eq!(refused.count(), 1, "the wrong key alone: {outcomes:?}");
}

#[test]
fn damaged_rows_of_licenses_are_not_loaded() {
    let (_, _, world) = history();
    let try_load = |store: &Store| -> Result<(), LoadError> {
        let mut ledger = Ledger::with_limits(LedgerLimits::PRODUCTION);
        for ((table, key), value) in store {
            ledger.load_row(*table, key, value)?;
        }
        ledger.finish_load()
    };
    assert!(try_load(&world.store).is_ok());
    for ((table, key), value) in world.store.iter().filter(|((table, _), _)| *table >= 20) {
        let mut damaged = world.store.clone();
        damaged.insert((*table, key.clone()), value[..value.len() - 1].to_vec());
        assert!(try_load(&damaged).is_err(), "cut row of table {table}");
        let mut moved = world.store.clone();
        moved.remove(&(*table, key.clone()));
        let missing = try_load(&moved).is_err();
        let needed = [table::LICENSE, table::CLIENT];
        // Nothing hangs on the client that was banned.
        assert!(missing || !needed.contains(table) || key.ends_with(&[2]), "table {table}");
        moved.insert((*table, [&key[..], &[7]].concat()), value.clone());
        // A metric under another key is another metric.
        let found = try_load(&moved).is_err();
        assert!(found || *table == table::LICENSE_USAGE, "moved row of table {table}");
    }
}

#[test]
#[ignore = "writes files; run by hand when a format gets a new version"]
fn write_missing_license_files() {
    write_missing(&golden());
}
