//! When a replica is stored and loaded leaves no trace: any split of one log into checkpoints and
//! restarts gives the same answers, the same sum and the same rows, blocks aside; and the blocks
//! hold the same events.

use lease::Ledger;
use lease::command::*;
use lease::entry::{Entry, EntryHeader, Envelope, Stamp};
use lease::ids::*;
use lease::limits::LedgerLimits;
use lease::rows::{Changes, table};
use proptest::prelude::*;

use crate::world::*;

/// What is done to one replica after an entry.
#[derive(Debug, Clone, Copy)]
enum Care {
    Nothing,
    Sum,
    Checkpoint,
    Restart,
    /// A checkpoint that takes its rows while entries are applied.
    Begin,
}

impl Care {
    fn is_checkpoint(self) -> bool {
        matches!(self, Self::Checkpoint | Self::Restart | Self::Begin)
    }
}

#[derive(Debug, Clone)]
enum Do {
    Checkout { lease: u64, key: u8, quantity: u32, user: u8 },
    Heartbeat { lease: u64, sequence: u32 },
    Return { lease: u64, key: u8 },
    Release { lease: u64 },
    Suspend,
    Resume,
    Transfer { into: bool, quantity: u32 },
}

const LIMITS: LedgerLimits =
    LedgerLimits { request_rows: 20, expiries_per_entry: 3, refusals_logged: 3, subjects: 3 };

fn envelope(what: &Do) -> Envelope {
    let of_key = |operation, key: u8| {
        let origin = if key < 4 { KeyOrigin::Caller } else { KeyOrigin::Gateway };
        (key > 0).then(|| request(operation, &key.to_string(), "body", origin))
    };
    let app = app_actor(1, 1);
    let root = lease::entry::Actor::Operator(ROOT);
    let change = PackageChange { package: "alpha".into(), reason: "because".into() };
    let (actor, request, command) = match what {
        Do::Checkout { lease, key, quantity, user } => {
            let mut checkout = checkout("alpha", "davinci", lease_id(*lease));
            checkout.quantity = *quantity;
            checkout.user = subject(&format!("user {user}"));
            (app, of_key("checkout", *key), Command::Checkout(Box::new(checkout)))
        }
        Do::Heartbeat { lease, sequence } => {
            let lease = lease_id(*lease);
            let renewal = Renewal { lease, sequence: *sequence, still_active: true };
            (app, None, Command::Heartbeat { leases: vec![renewal] })
        }
        Do::Return { lease, key } => {
            let usage = UsageReport {
                session_duration_s: 5,
                features_used: vec!["can".into()],
                files_processed: 1,
            };
            let give_back = Return { lease: lease_id(*lease), usage };
            (app, of_key("return", *key), Command::Return(Box::new(give_back)))
        }
        Do::Release { lease } => {
            let lease = lease_id(*lease);
            (root, None, Command::Release { lease, reason: "because".into() })
        }
        Do::Suspend => (root, None, Command::SuspendPackage(change)),
        Do::Resume => (root, None, Command::ResumePackage(change)),
        Do::Transfer { into, quantity } => {
            let team = |named: bool| named.then(|| Name::from("team"));
            let transfer = TransferSeats {
                package: "alpha".into(),
                from: team(!into),
                to: team(*into),
                quantity: *quantity,
            };
            (root, None, Command::TransferSeats(transfer))
        }
    };
    Envelope { actor, request, trace: TraceId(7), cause: None, command }
}

fn what() -> impl Strategy<Value = Do> {
    let lease = 0_u64..12;
    prop_oneof![
        8 => (lease.clone(), 0_u8..6, 1_u32..4, 0_u8..5).prop_map(|(lease, key, quantity, user)| {
            Do::Checkout { lease, key, quantity, user }
        }),
        5 => (lease.clone(), 1_u32..4)
            .prop_map(|(lease, sequence)| Do::Heartbeat { lease, sequence }),
        4 => (lease.clone(), 0_u8..6).prop_map(|(lease, key)| Do::Return { lease, key }),
        1 => lease.prop_map(|lease| Do::Release { lease }),
        1 => Just(Do::Suspend),
        2 => Just(Do::Resume),
        1 => (any::<bool>(), 1_u32..4).prop_map(|(into, quantity)| Do::Transfer { into, quantity }),
    ]
}

fn care() -> impl Strategy<Value = Care> {
    prop_oneof![
        4 => Just(Care::Nothing), 1 => Just(Care::Sum), 2 => Just(Care::Checkpoint),
        2 => Just(Care::Restart), 3 => Just(Care::Begin),
    ]
}

fn entries() -> impl Strategy<Value = Vec<(u64, Vec<Do>)>> {
    let wait = prop_oneof![4 => 0_u64..20_000, 1 => 0_u64..400_000, 1 => Just(900_000_u64)];
    prop::collection::vec((wait, prop::collection::vec(what(), 0..6)), 1..40)
}

/// The log of one history, founding included.
fn log(history: &[(u64, Vec<Do>)]) -> Vec<Entry> {
    let mut stamp = Stamp { led_ms: 0, civil_ms: START_MS };
    let header =
        |stamp| EntryHeader { group: 0, epoch: 1, incarnation: INCARNATION, stamp, origin: 1 };
    let plain =
        |actor, command| Envelope { actor, request: None, trace: TraceId(1), cause: None, command };
    let node = lease::entry::Actor::Node(1);
    let root = lease::entry::Actor::Operator(ROOT);
    let setup = vec![
        plain(node, founding()),
        plain(node, Command::AddOperator(operator(ROOT, Role::Admin, None))),
        plain(root, Command::PinVendor(vendor("vector-de"))),
        plain(root, import(terms("alpha", "davinci", 3, 9))),
        plain(root, register(1, "davinci")),
    ];
    let mut entries = vec![Entry { header: header(stamp), commands: setup }];
    for (wait, commands) in history {
        stamp.led_ms += wait;
        stamp.civil_ms += *wait as i64;
        let commands = commands.iter().map(envelope).collect();
        entries.push(Entry { header: header(stamp), commands });
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_split_into_checkpoints_leaves_a_trace(
        history in entries(),
        cares in prop::collection::vec(care(), 41),
    ) {
        let mut plain = Ledger::with_limits(LIMITS);
        let mut tended = Ledger::with_limits(LIMITS);
        let mut store = Store::new();
        let mut begun: Option<([u8; 32], Changes)> = None;
        for (index, (entry, care)) in (1..).zip(log(&history).iter().zip(cares)) {
            let outcomes = plain.apply_entry(index, entry).expect("it belongs here");
            let same = tended.apply_entry(index, entry).expect("it belongs here");
            prop_assert_eq!(outcomes, same);
            if let Some((sum, mut changes)) = begun.take_if(|_| care.is_checkpoint()) {
                while tended.take_more(&mut changes, 1) {}
                keep(changes, &mut store);
                prop_assert_eq!(load(&store, LIMITS).state_sum(), sum);
            }
            match care {
                Care::Nothing => {}
                Care::Sum => {
                    tended.state_sum();
                }
                Care::Checkpoint => checkpoint(&mut tended, &mut store),
                Care::Restart => {
                    checkpoint(&mut tended, &mut store);
                    tended = load(&store, LIMITS);
                }
                Care::Begin => begun = Some((tended.state_sum(), tended.begin_changes())),
            }
            // A checkpoint that was begun takes a row between two entries, or three.
            let piece = usize::try_from(index % 4).expect("a few");
            let is_whole = |begun: &mut ([u8; 32], Changes)| !tended.take_more(&mut begun.1, piece);
            if let Some((sum, changes)) = begun.take_if(is_whole) {
                keep(changes, &mut store);
                prop_assert_eq!(load(&store, LIMITS).state_sum(), sum, "as it was when it began");
            }
        }
        if let Some((_, mut changes)) = begun {
            while tended.take_more(&mut changes, 1) {}
            keep(changes, &mut store);
        }
        prop_assert_eq!(plain.state_sum(), tended.state_sum());
        let mut once = Store::new();
        checkpoint(&mut plain, &mut once);
        checkpoint(&mut tended, &mut store);
        prop_assert_eq!(stored_events(&once), stored_events(&store));
        prop_assert_eq!(load(&once, LIMITS).state_sum(), load(&store, LIMITS).state_sum());
        prop_assert_eq!(plain.state_sum(), tended.state_sum());
        let is_row = |(table, _): &(u8, Vec<u8>), _: &mut Vec<u8>| {
            *table != table::AUDIT && *table != table::REQUEST
        };
        once.retain(is_row);
        store.retain(is_row);
        prop_assert_eq!(once, store);
    }
}

/// Many events and ended requests fill several blocks, each of at most 32 KiB.
#[test]
fn blocks_are_bounded() {
    let mut ledger = Ledger::new();
    let mut store = Store::new();
    let history: Vec<_> = (0..20_u64)
        .map(|entry| {
            let commands = (0..100).flat_map(|number| {
                let lease = entry * 100 + number;
                [Do::Checkout { lease, key: 0, quantity: 1, user: 0 }, Do::Return { lease, key: 0 }]
            });
            (10, commands.collect())
        })
        .collect();
    for (index, entry) in (1..).zip(log(&history)) {
        ledger.apply_entry(index, &entry).expect("it belongs here");
    }
    checkpoint(&mut ledger, &mut store);
    for of in [table::AUDIT, table::REQUEST] {
        let blocks: Vec<_> = store.iter().filter(|((table, _), _)| *table == of).collect();
        assert!(blocks.len() > 2, "{} blocks in table {of}", blocks.len());
        assert!(blocks.iter().all(|(_, block)| block.len() <= 32 * 1024));
    }
    assert_eq!(load(&store, LedgerLimits::PRODUCTION).request_rows(), 2000);
    let late = vec![(40_000, vec![])];
    let mut entry = log(&late).remove(1);
    entry.header.stamp.led_ms = 40_000;
    ledger.apply_entry(100, &entry).expect("it belongs here");
    checkpoint(&mut ledger, &mut store);
    assert!(!store.keys().any(|(table, _)| *table == table::REQUEST), "forgotten blocks are gone");
}
