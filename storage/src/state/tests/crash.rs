//! The machine stops at every operation, in two of three ways, and the store opens again to the
//! last acknowledged checkpoint or, whole, to the one that was under way.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use super::super::sled_engine::SledEngines;
use super::fault::{FaultDisk, FaultEngines, Machine, Stop};
use super::*;

/// What was acknowledged, and what may be there instead because it was under way.
#[derive(Default)]
struct Promise {
    acknowledged: Model,
    under_way: Option<Model>,
}

fn open_on(disk: &Arc<FaultDisk>, dir: &Path) -> Result<StateStore, OpenError> {
    open_syncing(disk, dir, None)
}

/// Opens with another number of bytes that may be unsynced.
fn open_syncing(
    disk: &Arc<FaultDisk>,
    dir: &Path,
    sync_every_bytes: Option<usize>,
) -> Result<StateStore, OpenError> {
    let config = config(dir);
    let engines = SledEngines {
        disk: Arc::new(Machine(Arc::clone(disk))),
        cache_bytes: config.cache_bytes,
        segment_bytes: config.segment_bytes,
    };
    let engines = Box::new(FaultEngines { disk: Arc::clone(disk), engines, sync_every_bytes });
    let disk = Arc::new(Machine(Arc::clone(disk)));
    let (store, _) = StateStore::open_with(disk, Arc::new(RealClock::new()), engines, config)?;
    Ok(store)
}

/// Checkpoints, a snapshot that makes checkpoints wait, an installation, a rewrite, a restart.
fn workload(
    disk: &Arc<FaultDisk>,
    dir: &Path,
    promise: &mut Promise,
) -> Result<(), Box<dyn Error>> {
    let store = open_on(disk, dir)?;
    for step in 1..=3 {
        checkpoint(&store, step, 40, promise)?;
    }
    let handle = store.snapshot();
    let snapshot = snapshot_bytes(&handle);
    let then = promise.acknowledged.clone();
    checkpoint(&store, 4, 20, promise)?;
    checkpoint(&store, 5, 20, promise)?;
    drop(handle);
    assert_eq!(store.maintain(0)?.replayed, 2);
    checkpoint(&store, 6, 20, promise)?;
    drop(store);
    let store = open_on(disk, dir)?;
    let handle = store.snapshot();
    checkpoint(&store, 7, 20, promise)?;
    promise.under_way = Some(then.clone());
    install(&store, &snapshot)?;
    *promise = Promise { acknowledged: then, under_way: None };
    drop(handle);
    for step in 8..=14 {
        checkpoint(&store, step, 40, promise)?;
    }
    assert!(store.maintain(0)?.rewritten, "the workload makes enough dead space");
    checkpoint(&store, 15, 20, promise)?;
    Ok(())
}

fn checkpoint(
    store: &StateStore,
    step: u64,
    count: u64,
    promise: &mut Promise,
) -> Result<(), CheckpointError> {
    let (rows, blocks) = step_rows(step, count);
    let mut next = promise.acknowledged.clone();
    next.apply(meta(step), &rows, &blocks);
    promise.under_way = Some(next.clone());
    store.checkpoint(meta(step), rows, blocks)?;
    *promise = Promise { acknowledged: next, under_way: None };
    Ok(())
}

/// Runs the workload on a machine that stops, unless it ends before; gives how many operations it
/// did.
fn check(stop: Option<(u64, Stop)>) -> u64 {
    let scratch = scratch();
    let (root, image) = (scratch.path().join("root"), scratch.path().join("image"));
    std::fs::create_dir(&root).unwrap();
    let disk = FaultDisk::new(&root, &image, stop);
    let mut promise = Promise::default();
    let done = workload(&disk, &root.join("state"), &mut promise);
    let Some(stop) = stop else {
        done.unwrap();
        println!("{} operations: {:?}", disk.operations(), disk.kinds());
        return disk.operations();
    };
    if !disk.stopped() {
        // sled's threads make the last few operations come and go.
        done.unwrap();
        return disk.operations();
    }
    let (store, _) =
        open(&image.join("state")).unwrap_or_else(|error| panic!("{stop:?}: {error:?}"));
    let found = loaded(&store).unwrap_or_else(|error| panic!("{stop:?}: {error:?}"));
    assert!(
        found == promise.acknowledged || promise.under_way.as_ref() == Some(&found),
        "{stop:?}: found {:?}, acknowledged {:?}",
        found.meta,
        promise.acknowledged.meta
    );
    // And it goes on from there.
    let mut model = found;
    let (rows, blocks) = step_rows(99, 10);
    model.apply(meta(99), &rows, &blocks);
    store.checkpoint(meta(99), rows, blocks).unwrap();
    assert_eq!(loaded(&store).unwrap(), model);
    disk.operations()
}

#[test]
fn the_last_checkpoint_survives_a_stop_at_any_operation() {
    let operations = check(None);
    assert!(operations >= VISITED_AT_LEAST, "only {operations} operations were visited");
    in_parallel(operations, |at| {
        let other = if at.is_multiple_of(2) { Stop::Kill } else { Stop::TornPowerCut(at) };
        for stop in [Stop::PowerCut, other] {
            check(Some((at + 1, stop)));
        }
    });
}

/// Many checkpoints over many segments, so that the engine moves rows and reuses segments.
fn churn(
    disk: &Arc<FaultDisk>,
    dir: &Path,
    sync_every_bytes: Option<usize>,
    promise: &mut Promise,
) -> Result<(), Box<dyn Error>> {
    let store = open_syncing(disk, dir, sync_every_bytes)?;
    checkpoint(&store, 1, 900, promise)?;
    for step in 2..=14 {
        let (mut rows, blocks) = step_rows(step, 900);
        rows.retain(|row| (u64::from(row.key[7]) + step).is_multiple_of(5));
        let mut next = promise.acknowledged.clone();
        next.apply(meta(step), &rows, &blocks);
        promise.under_way = Some(next.clone());
        store.checkpoint(meta(step), rows, blocks)?;
        *promise = Promise { acknowledged: next, under_way: None };
    }
    Ok(())
}

/// Runs the churn on a machine whose power is cut; gives what a start then finds wrong.
fn check_churn(at: u64, seed: u64, sync_every_bytes: Option<usize>) -> Result<(), String> {
    let scratch = scratch();
    let (root, image) = (scratch.path().join("root"), scratch.path().join("image"));
    std::fs::create_dir(&root).unwrap();
    let stop = Some((at, Stop::TornPowerCut(seed)));
    let disk = FaultDisk::new(&root, &image, stop);
    let mut promise = Promise::default();
    let _ = churn(&disk, &root.join("state"), sync_every_bytes, &mut promise);
    assert!(disk.stopped(), "operation {at} was not reached");
    let (store, _) = open(&image.join("state")).map_err(|error| format!("{error:?}"))?;
    let found = loaded(&store).map_err(|error| format!("{error:?}"))?;
    let expected = found == promise.acknowledged || promise.under_way.as_ref() == Some(&found);
    if expected { Ok(()) } else { Err(format!("found {:?}", found.meta)) }
}

/// The engine writes over segments whose rows it moved elsewhere, and neither the old nor the new
/// place may be durable. With one sync at the end of each checkpoint 3 of 300 such power cuts lost
/// rows of earlier checkpoints.
#[test]
fn old_rows_survive_a_power_cut_while_segments_are_reused() {
    let scratch = scratch();
    let disk = FaultDisk::new(scratch.path(), scratch.path(), None);
    let (dir, mut promise) = (scratch.path().join("state"), Promise::default());
    churn(&disk, &dir, None, &mut promise).unwrap();
    let operations = disk.operations();
    let first = operations / 3;
    in_parallel(CHURN_CUTS, |cut| {
        let at = first + cut * (operations - first) / CHURN_CUTS;
        if let Err(what) = check_churn(at, cut + 1, None) {
            panic!("check_churn({at}, {}, None): {what}", cut + 1);
        }
    });
}

fn in_parallel(count: u64, check: impl Fn(u64) + Sync) {
    let check = &check;
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            scope.spawn(move || (0..count).filter(|at| at % WORKERS == worker).for_each(check));
        }
    });
}

const WORKERS: u64 = 4;
const CHURN_CUTS: u64 = 24;
/// Operations of the workload when this was committed. A lower number means that a write, sync,
/// rename or batch no longer goes where a stop can be tested.
const VISITED_AT_LEAST: u64 = 300;
