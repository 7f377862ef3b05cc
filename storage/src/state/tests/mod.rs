//! Tests of the state store: against a model, against crashes, against damage.

mod crash;
mod damage;
mod fault;
mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::seam::{RealClock, RealDisk};
use crate::snapshot::{SnapshotError, SnapshotItem, SnapshotReader};

/// Rows as they should be.
type Rows = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// A state as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    meta: Option<CheckpointMeta>,
    rows: Rows,
}

impl Model {
    fn apply(&mut self, meta: CheckpointMeta, rows: &[Row], blocks: &[Block]) {
        self.meta = Some(meta);
        for row in rows {
            let key = (row.table, row.key.clone());
            match &row.value {
                Some(value) => self.rows.insert(key, value.clone()),
                None => self.rows.remove(&key),
            };
        }
        for block in blocks {
            self.rows.insert((block.table, block.key.clone()), block.value.clone());
        }
    }
}

/// A directory in memory where there is one: what is durable is modelled, not measured.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn config(dir: &Path) -> StateConfig {
    StateConfig {
        dir: dir.to_owned(),
        cache_bytes: 1 << 20,
        segment_bytes: 64 << 10,
        compact_above_bytes: 96 << 10,
    }
}

fn open(dir: &Path) -> Result<(StateStore, Option<CheckpointMeta>), OpenError> {
    StateStore::open(Arc::new(RealDisk), Arc::new(RealClock::new()), config(dir))
}

fn meta(index: u64) -> CheckpointMeta {
    CheckpointMeta {
        applied: Some(Applied { index, term: index / 3 }),
        membership: vec![1, 2, 3],
        state_sum: [7; 32],
        epoch: index.to_le_bytes().to_vec(),
    }
}

fn put(table: u8, key: &[u8], value: &[u8]) -> Row {
    Row { table, key: key.to_vec(), value: Some(value.to_vec()) }
}

fn delete(table: u8, key: &[u8]) -> Row {
    Row { table, key: key.to_vec(), value: None }
}

fn block(table: u8, key: &[u8], value: &[u8]) -> Block {
    Block { table, key: key.to_vec(), value: value.to_vec() }
}

/// All that the store holds, by `load`.
fn loaded(store: &StateStore) -> Result<Model, LoadError<std::convert::Infallible>> {
    let mut rows = Rows::new();
    store.load(|table, key, value, _| {
        rows.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    })?;
    Ok(Model { meta: store.meta(), rows })
}

/// The store holds the model, by every way of reading it.
fn check_reads(store: &StateStore, model: &Model) {
    assert_eq!(&loaded(store).unwrap(), model);
    for ((table, key), value) in &model.rows {
        assert_eq!(store.get(*table, key).unwrap().as_ref(), Some(value));
    }
    for table in 1..=5 {
        let expected: Vec<KeyValue> = model
            .rows
            .range((table, Vec::new())..(table + 1, Vec::new()))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(read_table(store, table), expected);
    }
}

fn read_table(store: &StateStore, table: u8) -> Vec<KeyValue> {
    let (mut all, mut from) = (Vec::new(), Vec::new());
    loop {
        let rows = store.range(table, &from, 7).unwrap();
        let Some((last, _)) = rows.last() else { return all };
        from = [last.as_slice(), &[0]].concat();
        all.extend(rows);
    }
}

fn snapshot_bytes(handle: &SnapshotHandle) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in handle.chunks().unwrap() {
        let chunk = chunk.unwrap();
        assert!(chunk.len() <= crate::snapshot::CHUNK_BYTES);
        bytes.extend(chunk);
    }
    bytes
}

/// All that a snapshot file holds.
fn read_snapshot(bytes: &[u8]) -> Result<(CheckpointMeta, Rows), SnapshotError> {
    let mut reader = SnapshotReader::new(bytes);
    let (mut meta, mut rows) = (CheckpointMeta::default(), Rows::new());
    while let Some(item) = reader.next()? {
        match item {
            SnapshotItem::Meta(found, _) => meta = found,
            SnapshotItem::Row { table, key, value } => {
                rows.insert((table, key), value);
            }
        }
    }
    Ok((meta, rows))
}

fn install(store: &StateStore, snapshot: &[u8]) -> Result<CheckpointMeta, InstallError> {
    let mut incoming = store.receive()?;
    for part in snapshot.chunks(10_000) {
        incoming.write(part).map_err(SnapshotError::Io)?;
    }
    store.install(incoming, &|| {})
}

/// Rows of every table, which churn: most of what one step writes, the next ones overwrite or
/// delete.
fn step_rows(step: u64, count: u64) -> (Vec<Row>, Vec<Block>) {
    let mut rows = Vec::new();
    for index in 0..count {
        let number = (step * 31 + index * 17) % (count * 2);
        let table = 1 + (number % 3) as u8;
        let key = number.to_be_bytes();
        if (step + index).is_multiple_of(4) {
            rows.push(delete(table, &key));
        } else {
            rows.push(put(table, &key, &vec![step as u8; 20 + (number * 13 % 300) as usize]));
        }
    }
    (rows, vec![block(4, &step.to_be_bytes(), &vec![step as u8; 600])])
}

#[test]
fn the_longest_rows_stay_in_the_engines_one_file() {
    let dir = scratch();
    let config = StateConfig::new(dir.path().join("state"));
    let (store, _) =
        StateStore::open(Arc::new(RealDisk), Arc::new(RealClock::new()), config).unwrap();
    let mut model = Model::default();
    for step in 0..3_u64 {
        let value = vec![step as u8; MAX_VALUE_BYTES];
        let rows: Vec<Row> =
            (0..60_u64).map(|key| put(2, &(key * (step + 1)).to_be_bytes(), &value)).collect();
        model.apply(meta(step), &rows, &[]);
        store.checkpoint(meta(step), rows, Vec::new()).unwrap();
    }
    assert_eq!(loaded(&store).unwrap(), model);
    let handle = store.snapshot();
    let bytes = snapshot_bytes(&handle);
    drop(handle);
    install(&store, &bytes).unwrap();
    assert_eq!(loaded(&store).unwrap(), model);
}

#[test]
fn a_snapshot_of_waiting_checkpoints_comes_in_bounded_chunks() {
    let dir = scratch();
    let config = StateConfig::new(dir.path().join("state"));
    let (store, _) =
        StateStore::open(Arc::new(RealDisk), Arc::new(RealClock::new()), config).unwrap();
    let mut model = Model::default();
    let first = store.snapshot();
    for step in 0..3_u64 {
        let rows: Vec<Row> = (0..4000_u64)
            .map(|number| {
                let length = if number.is_multiple_of(100) { MAX_VALUE_BYTES } else { 40 };
                put(1 + (number % 3) as u8, &(number + step).to_be_bytes(), &vec![3; length])
            })
            .collect();
        model.apply(meta(step), &rows, &[]);
        let report = store.checkpoint(meta(step), rows, Vec::new()).unwrap();
        assert_eq!(report.waiting as u64, step + 1);
    }
    let waiting = store.snapshot();
    let bytes = snapshot_bytes(&waiting);
    assert!(bytes.len() > 2 * crate::snapshot::CHUNK_BYTES);
    assert_eq!(read_snapshot(&bytes).unwrap(), (model.meta.clone().unwrap(), model.rows.clone()));
    assert_eq!(read_snapshot(&snapshot_bytes(&first)).unwrap().1, Rows::new());
    drop(first);
    assert_eq!(store.maintain(0).unwrap().replayed, 0, "another handle reads the generation");
    drop(waiting);
    assert_eq!(store.maintain(0).unwrap().replayed, 3);
    assert_eq!(snapshot_bytes(&store.snapshot()), bytes);
}

#[test]
fn a_rewrite_waits_until_it_leaves_the_reserve() {
    let dir = scratch();
    let (store, _) = open(&dir.path().join("state")).unwrap();
    for step in 0..60_u64 {
        let (rows, blocks) = step_rows(step, 40);
        store.checkpoint(meta(step), rows, blocks).unwrap();
        assert!(!store.maintain(u64::MAX).unwrap().rewritten);
    }
    let before = loaded(&store).unwrap();
    assert!(store.maintain(0).unwrap().rewritten, "there is enough dead space by now");
    assert_eq!(loaded(&store).unwrap(), before);
}

#[test]
fn rows_over_a_limit_are_refused_and_change_nothing() {
    let dir = scratch();
    let (store, _) = open(&dir.path().join("state")).unwrap();
    let cases = [
        (vec![put(0, b"key", b"")], vec![]),
        (vec![put(1, &[0; MAX_KEY_BYTES + 1], b"")], vec![]),
        (vec![put(1, b"key", &vec![0; MAX_VALUE_BYTES + 1])], vec![]),
        (vec![], vec![block(1, b"key", &vec![0; MAX_BLOCK_BYTES + 1])]),
    ];
    for (rows, blocks) in cases {
        let refused = store.checkpoint(meta(1), rows, blocks);
        assert!(matches!(refused, Err(CheckpointError::Row { .. })), "{refused:?}");
    }
    assert_eq!(loaded(&store).unwrap(), Model::default());
    store.checkpoint(meta(1), vec![put(1, b"key", b"value")], vec![]).unwrap();
}

#[test]
fn a_store_reopens_at_once_in_the_same_process() {
    let dir = scratch();
    let path = dir.path().join("state");
    let mut model = Model::default();
    for step in 0..40 {
        let (store, found) = open(&path).unwrap();
        assert_eq!(found, model.meta);
        assert_eq!(loaded(&store).unwrap(), model);
        let (rows, blocks) = step_rows(step, 10);
        model.apply(meta(step), &rows, &blocks);
        store.checkpoint(meta(step), rows, blocks).unwrap();
    }
}
