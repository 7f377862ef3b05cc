//! Random checkpoints, snapshots, installations, maintenance and restarts against a plain map.

use proptest::prelude::*;

use super::fault::copy_tree;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Checkpoint(Vec<Row>, Vec<Block>),
    Pin,
    Unpin,
    Install,
    Maintain,
    /// The process ends, cleanly or not, and starts again on what is in the files.
    Restart,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(0_u8..4, 0..3),
        1 => prop::collection::vec(prop_oneof![Just(0_u8), Just(255), any::<u8>()], 0..12),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..300));
    (1_u8..4, key(), value).prop_map(|(table, key, value)| Row { table, key, value })
}

fn step() -> impl Strategy<Value = Step> {
    let block = (4_u8..6, key(), prop::collection::vec(any::<u8>(), 300..500))
        .prop_map(|(table, key, value)| Block { table, key, value });
    let rows = prop::collection::vec(row(), 0..25);
    prop_oneof![
        6 => (rows, prop::collection::vec(block, 0..3))
            .prop_map(|(rows, blocks)| Step::Checkpoint(rows, blocks)),
        2 => Just(Step::Pin),
        1 => Just(Step::Unpin),
        1 => Just(Step::Install),
        1 => Just(Step::Maintain),
        1 => Just(Step::Restart),
    ]
}

/// A store, what it should hold, and a snapshot of it with what that should hold.
struct Run {
    scratch: tempfile::TempDir,
    starts: u64,
    store: StateStore,
    model: Model,
    pinned: Option<(SnapshotHandle, Model)>,
}

impl Run {
    fn new() -> Self {
        let scratch = scratch();
        let (store, _) = open(&scratch.path().join("state-0")).unwrap();
        Self { scratch, starts: 0, store, model: Model::default(), pinned: None }
    }

    fn step(&mut self, index: u64, step: Step) {
        match step {
            Step::Checkpoint(rows, blocks) => {
                self.model.apply(meta(index), &rows, &blocks);
                let report = self.store.checkpoint(meta(index), rows, blocks).unwrap();
                assert_eq!(report.waiting > 0, self.pinned.is_some());
            }
            Step::Pin => self.pinned = Some((self.store.snapshot(), self.model.clone())),
            Step::Unpin => self.pinned = None,
            Step::Install => self.install(),
            Step::Maintain => {
                self.store.maintain(0).unwrap();
            }
            Step::Restart => self.restart(),
        }
    }

    fn install(&mut self) {
        let Some((handle, then)) = &self.pinned else { return };
        if handle.meta() == &CheckpointMeta::default() {
            return;
        }
        let installed = install(&self.store, &snapshot_bytes(handle)).unwrap();
        self.model = then.clone();
        assert_eq!(Some(installed), self.model.meta);
        // What is pinned is a generation that is no longer current.
        self.pinned = None;
    }

    fn restart(&mut self) {
        let old = self.scratch.path().join(format!("state-{}", self.starts));
        self.starts += 1;
        let new = self.scratch.path().join(format!("state-{}", self.starts));
        copy_tree(&old, &new);
        let (store, found) = open(&new).unwrap();
        assert_eq!(found, self.model.meta);
        self.store = store;
        self.pinned = None;
    }

    fn check(&self) {
        check_reads(&self.store, &self.model);
        let Some((handle, then)) = &self.pinned else { return };
        let (meta, rows) = read_snapshot(&snapshot_bytes(handle)).unwrap();
        assert_eq!(rows, then.rows);
        assert_eq!(meta, then.meta.clone().unwrap_or_default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_the_map_it_stands_for(steps in prop::collection::vec(step(), 1..24)) {
        let mut run = Run::new();
        for (index, step) in (1..).zip(steps) {
            run.step(index, step);
            run.check();
        }
    }
}
