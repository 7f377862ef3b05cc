//! One replica on its own: applying, checkpoints, the comparison of sums.

use super::*;
use lease::command::{Operator, Role};
use lease::entry::{Actor, EntryHeader, Envelope};
use lease::ids::{OperatorId, TraceId};
use storage::log::LogConfig;
use storage::seam::{RealClock, RealDisk};
use storage::state::StateConfig;

fn replica() -> (tempfile::TempDir, Replica) {
    let dir = tempfile::tempdir().unwrap();
    let replica = open(&dir);
    (dir, replica)
}

fn open(dir: &tempfile::TempDir) -> Replica {
    let (disk, clock) = (Arc::new(RealDisk), Arc::new(RealClock::new()));
    let log_config =
        LogConfig { segment_bytes: 64 << 10, ..LogConfig::new(dir.path().join("log"), [7; 16]) };
    let (log, _) = Log::open(disk.clone(), clock.clone(), log_config).unwrap();
    let state_config = StateConfig::new(dir.path().join("state"));
    let (store, _) = StateStore::open(disk, clock.clone(), state_config).unwrap();
    Replica::load(1, store, log, clock, Fatal::new()).unwrap()
}

fn entry(index: u64, command: Command) -> RaftEntry {
    let header = EntryHeader {
        group: 0,
        epoch: 0,
        incarnation: 0,
        stamp: Stamp { led_ms: index, civil_ms: 1_800_000_000_000 },
        origin: 1,
    };
    let envelope = Envelope {
        actor: Actor::Node(1),
        request: None,
        trace: TraceId::default(),
        cause: None,
        command,
    };
    let bytes = Entry { header, commands: vec![envelope] }.encode().into();
    let payload = EntryPayload::Normal(Proposal::received(bytes));
    RaftEntry { log_id: crate::types::log_id_of(Position { term: 1, index }), payload }
}

fn founding() -> Command {
    Command::InitCluster(lease::command::InitCluster {
        cluster_id: "lh-test".into(),
        client_id: "bmw-de-001".into(),
        org_domain: "bmw.com".into(),
        epoch: 1,
        incarnation: 7,
    })
}

fn operator(number: u64) -> Command {
    Command::AddOperator(Operator {
        operator: OperatorId(number),
        name: "somebody".into(),
        role: Role::Admin,
        token_mac: [number as u8; 32],
        expires_at_ms: None,
    })
}

#[test]
fn whoever_differs_from_the_majority_must_not_go_on() {
    for (rows, is_corrupt) in [(5, false), (6, true)] {
        let (_dir, replica) = replica();
        let (_other_dir, other) = self::replica();
        for (replica, row) in [(&replica, 5), (&other, rows)] {
            replica.apply(&entry(1, founding())).unwrap();
            replica.apply(&entry(2, operator(row))).unwrap();
            replica.apply(&entry(REPORT_SUM_EVERY, Command::Tick)).unwrap();
        }
        let StateSum { index, sum } = other.newest_sum().unwrap();
        let agreed = Command::AgreeStateSum { index, sum };
        replica.apply(&entry(REPORT_SUM_EVERY + 1, agreed)).unwrap();
        assert_eq!(replica.fatal.is_corrupt(), is_corrupt);
    }
}

#[test]
fn a_checkpoint_is_what_a_restart_finds() {
    let (_dir, replica) = replica();
    replica.apply(&entry(1, founding())).unwrap();
    replica.apply(&entry(2, operator(5))).unwrap();
    replica.checkpoint().unwrap();
    let sum = replica.machine.write().ledger.state_sum();
    assert_eq!(replica.checkpointed(), Some(Position { term: 1, index: 2 }));
    let mut loaded = load_machine(&replica.store).unwrap();
    assert_eq!(loaded.applied, Some(Position { term: 1, index: 2 }));
    assert_eq!(loaded.ledger.state_sum(), sum);
    assert_eq!(replica.known(1).cluster, Some(7));
}

/// First events of the stored blocks.
fn blocks(replica: &Replica) -> Vec<u64> {
    let rows = replica.store.range(lease::rows::table::AUDIT, &[], 100).unwrap();
    rows.iter().map(|(key, _)| u64::from_be_bytes(key.as_slice().try_into().unwrap())).collect()
}

/// A crash after the pruning was applied and before a checkpoint had it, and one right after.
#[test]
fn blocks_below_the_floor_go_with_the_first_checkpoint_that_has_it() {
    let (dir, replica) = replica();
    replica.apply(&entry(1, founding())).unwrap();
    for number in 2..8 {
        replica.apply(&entry(number, operator(number))).unwrap();
        replica.checkpoint().unwrap();
    }
    // The founding and its operator are events 1 and 2 of the first block.
    assert_eq!(blocks(&replica), [1, 3, 4, 5, 6, 7]);
    let admin = Actor::Operator(OperatorId(2));
    let mut prune = entry(8, Command::PruneAudit { upto_seq: 4, hash: [1; 32] });
    let EntryPayload::Normal(proposal) = &mut prune.payload else { panic!("a proposal") };
    let mut decoded = Entry::decode(&proposal.bytes).unwrap();
    decoded.commands[0].actor = admin;
    (decoded.header.epoch, decoded.header.incarnation) = (1, 7);
    *proposal = Proposal::received(decoded.encode().into());
    assert_eq!(replica.apply(&prune).unwrap().outcomes, [Outcome::Done]);
    assert_eq!(blocks(&replica), [1, 3, 4, 5, 6, 7]);
    drop(replica);

    let replica = open(&dir);
    assert_eq!(replica.machine.read().ledger.audit_floor().seq, 0, "it was not stored");
    replica.apply(&prune).unwrap();
    replica.checkpoint().unwrap();
    assert_eq!(blocks(&replica), [5, 6, 7, 8], "and the pruning itself is event 8");
    drop(replica);

    let replica = open(&dir);
    assert_eq!(replica.machine.read().ledger.audit_floor().seq, 4);
    replica.apply(&entry(9, operator(9))).unwrap();
    replica.checkpoint().unwrap();
    assert_eq!(blocks(&replica), [5, 6, 7, 8, 9]);
}

#[test]
fn an_entry_that_does_not_decode_stops_the_replica() {
    let (_dir, replica) = replica();
    let payload = EntryPayload::Normal(Proposal::received("LH".into()));
    let log_id = crate::types::log_id_of(Position { term: 1, index: 1 });
    assert!(replica.apply(&RaftEntry { log_id, payload }).is_err());
}

#[test]
fn the_log_is_purged_by_bytes_where_that_is_noted() {
    let mut sizes = Sizes::default();
    (1..=10 * SIZE_STEP).for_each(|index| sizes.add(index, 10));
    assert_eq!((sizes.total, sizes.noted.len()), (10 * SIZE_STEP * 10, 10));
    let (_dir, replica) = replica();
    *replica.sizes.lock() = sizes;
    let noted = 10 * SIZE_STEP;
    let cases = [(0, Some(10)), (1, Some(9)), (noted, Some(9)), (noted * 9, Some(1))];
    for (keep_bytes, steps) in cases {
        let index = steps.map(|steps: u64| steps * SIZE_STEP);
        assert_eq!(replica.index_before_last_bytes(keep_bytes), index, "{keep_bytes}");
    }
    assert_eq!(replica.index_before_last_bytes(noted * 10), None);
}

#[test]
fn rows_of_a_newer_build_are_an_obstacle_and_others_that_do_not_load_are_damage() {
    let row = |version| lease::format::encode(lease::format::Kind::Row, version, &0_u8);
    // Table, value, and whether the member must be replaced.
    let cases = [(1, row(99), false), (250, row(1), false), (1, b"nonsense".to_vec(), true)];
    for (table, value, is_damaged) in cases {
        let (_dir, replica) = replica();
        let membership = StoredMembership::default();
        let meta = CheckpointMeta {
            applied: Some(to_stored(Position { term: 1, index: 1 })),
            membership: encode_membership(&membership),
            state_sum: [0; 32],
            epoch: Vec::new(),
        };
        let rows = vec![Row { table, key: vec![1], value: Some(value) }];
        replica.store.checkpoint(meta, rows, Vec::new()).unwrap();
        let failed = load_machine(&replica.store).err().unwrap();
        assert_eq!(matches!(failed, LoadError::Damaged(_)), is_damaged, "{table}: {failed:?}");
    }
}
