//! Opening the store: which generation, which redo files, and what to clear away.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;

use super::checkpoint::{remove_redo_files, write_rows};
use super::engine::RowEngines;
use super::error::{Attempt, Damage, Fault};
use super::generation::{self, CURRENT_FILE, Current, Generation, RowWriter, Stored};
use super::incoming::INCOMING_DIR;
use super::redo;
use super::view::View;
use super::{CheckpointMeta, Inner, OpenError, State, StateConfig, StateStore};
use crate::seam::{Clock, Disk};

impl StateStore {
    /// Opens the store with rows in another engine.
    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        engines: Box<dyn RowEngines>,
        config: StateConfig,
    ) -> Result<(Self, Option<CheckpointMeta>), OpenError> {
        disk.create_dir_all(&config.dir).attempt("make the state directory")?;
        if let Some(parent) = config.dir.parent() {
            disk.sync_dir(parent).attempt("make the state directory durable")?;
        }
        let (generation, stored) = open_generation(disk.as_ref(), engines.as_ref(), &config.dir)?;
        let (stored, kept) = replay(disk.as_ref(), &config.dir, &generation, stored)?;
        let meta = (stored.number > 0).then(|| stored.meta.clone());
        let view = View { generation: Arc::new(generation), overlay: Arc::default() };
        let state = State { view, stored, waiting: Vec::new(), kept, retired: Vec::new() };
        let inner = Inner {
            disk,
            clock,
            engines,
            config,
            work: Mutex::new(()),
            state: Mutex::new(state),
            poisoned: AtomicBool::new(false),
            received: Mutex::new(0),
        };
        Ok((Self { inner: Arc::new(inner) }, meta))
    }
}

/// Opens the current generation and removes everything a crash may have left beside it.
fn open_generation(
    disk: &dyn Disk,
    engines: &dyn RowEngines,
    dir: &Path,
) -> Result<(Generation, Stored), Fault> {
    let Some(Current { generation: number, checkpoint }) = generation::current(disk, dir)? else {
        return begin(disk, engines, dir);
    };
    clear_away(disk, dir, number)?;
    let path = generation::path(dir, number);
    if !disk.exists(&path).attempt("look for the current generation")? {
        return Err(Damage::new(&path, "the current generation is missing").into());
    }
    let generation = Generation::open(engines, dir, number)?;
    match generation.stored()? {
        Some(stored) if stored.number < checkpoint => {
            let what = format!("it went back from checkpoint {checkpoint} to {}", stored.number);
            Err(Damage::new(&path, what).into())
        }
        Some(stored) => Ok((generation, stored)),
        None => Err(Damage::new(&path, "the meta row is missing").into()),
    }
}

/// Makes the first generation of a new store.
fn begin(
    disk: &dyn Disk,
    engines: &dyn RowEngines,
    dir: &Path,
) -> Result<(Generation, Stored), Fault> {
    let names = disk.list(dir).attempt("list the state directory")?;
    let lost = |what| Err(Damage::new(&dir.join(CURRENT_FILE), what).into());
    if names.iter().any(|name| redo::number(name).is_some()) {
        return lost("it is missing, but there are checkpoints");
    }
    for number in names.iter().filter_map(|name| generation::number(name)) {
        // A first start that was cut short leaves no checkpoint, and maybe nothing readable.
        let left = Generation::open(engines, dir, number).and_then(|left| left.stored());
        if matches!(left, Ok(Some(stored)) if stored.number > 0) {
            return lost("it is missing, but there is a generation with rows");
        }
    }
    clear_away(disk, dir, 0)?;
    let generation = Generation::open(engines, dir, FIRST_GENERATION)?;
    let mut stored = Stored::default();
    RowWriter::into_fresh(&generation).finish(&mut stored)?;
    disk.sync_dir(dir).attempt("make the first generation durable")?;
    generation::set_current(disk, dir, Current { generation: FIRST_GENERATION, checkpoint: 0 })?;
    Ok((generation, stored))
}

/// Removes other generations, half-written files and half-received snapshots.
fn clear_away(disk: &dyn Disk, dir: &Path, current: u64) -> Result<(), Fault> {
    let mut changed = false;
    for name in disk.list(dir).attempt("list the state directory")? {
        let path = dir.join(&name);
        let is_directory = name == INCOMING_DIR
            || generation::number(&name).is_some_and(|number| number != current);
        if is_directory {
            disk.remove_dir_all(&path).attempt("remove a leftover directory")?;
            changed = true;
        } else if path.extension().is_some_and(|extension| extension == redo::TEMPORARY) {
            disk.remove_file(&path).attempt("remove a leftover file")?;
            changed = true;
        }
    }
    if changed {
        disk.sync_dir(dir).attempt("make the removal of leftovers durable")?;
    }
    Ok(())
}

/// Brings the generation to the last checkpoint that is complete, and leaves that one's redo file,
/// where there is one.
fn replay(
    disk: &dyn Disk,
    dir: &Path,
    generation: &Generation,
    mut stored: Stored,
) -> Result<(Stored, Option<u64>), Fault> {
    let names = disk.list(dir).attempt("list the state directory")?;
    // Numbers have a fixed width, so names in order are numbers in order.
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| redo::number(name)).collect();
    let in_the_generation = stored.number;
    for &number in numbers.iter().filter(|number| **number > in_the_generation) {
        let path = redo::path(dir, number);
        let redo = redo::read(disk, dir, number)?;
        // A new generation begins with a number above those of all redo files before it.
        if redo.generation != generation.number {
            let what = format!("it belongs to generation {}", redo.generation);
            return Err(Damage::new(&path, what).into());
        }
        if number != stored.number + 1 {
            let what = format!("checkpoint {} before it is missing", stored.number + 1);
            return Err(Damage::new(&path, what).into());
        }
        stored = redo.stored;
        write_rows(generation, &redo.rows, &mut stored)?;
    }
    let kept = numbers.pop_if(|number| *number == stored.number);
    remove_redo_files(disk, dir, &numbers)?;
    Ok((stored, kept))
}

const FIRST_GENERATION: u64 = 1;
