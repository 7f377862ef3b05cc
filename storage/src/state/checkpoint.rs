//! Making a checkpoint: what changed, the redo file, and the rows into the generation.
//!
//! The checkpoint counts from the moment its redo file is durable. What follows may be cut short at
//! any point, and waits as long as somebody reads the generation.

use std::path::Path;
use std::sync::Arc;

use super::error::{Attempt, Damage, Fault};
use super::generation::{Generation, RowWriter, Stored, row_key};
use super::redo;
use super::view::{Overlay, View};
use super::{
    Block, CheckpointError, CheckpointMeta, CheckpointReport, MAX_BLOCK_BYTES, MAX_KEY_BYTES,
    MAX_VALUE_BYTES, Row, RowTotals, StateStore,
};
use crate::seam::Disk;

impl StateStore {
    pub(super) fn write_checkpoint(
        &self,
        meta: CheckpointMeta,
        changes: Overlay,
    ) -> Result<CheckpointReport, Fault> {
        let inner = &self.inner;
        let started_ns = inner.clock.monotonic_ns();
        let (view, mut stored) = {
            let state = inner.state.lock();
            (state.view.clone(), state.stored.clone())
        };
        let changes = count_changes(&view, &mut stored.totals, changes)?;
        stored.number += 1;
        stored.meta = meta;
        let generation = view.generation.number;
        drop(view);
        let redo_bytes =
            redo::write(inner.disk.as_ref(), &inner.config.dir, generation, &stored, &changes)?;
        let durable_ns = inner.clock.monotonic_ns();
        let rows = changes.len() as u64;
        let live_bytes = stored.totals.bytes;
        {
            let mut state = inner.state.lock();
            state.waiting.push(stored.number);
            state.stored = stored;
            Arc::make_mut(&mut state.view.overlay).extend(changes);
        }
        let replayed = self.replay()?;
        let done_ns = inner.clock.monotonic_ns();
        let (size_on_disk, waiting) = {
            let state = inner.state.lock();
            (state.view.generation.size_on_disk()?, state.waiting.len())
        };
        Ok(CheckpointReport {
            rows,
            redo_bytes,
            redo_ns: durable_ns.saturating_sub(started_ns),
            replay_ns: if replayed > 0 { done_ns.saturating_sub(durable_ns) } else { 0 },
            waiting,
            size_on_disk,
            live_bytes,
        })
    }

    /// Writes the waiting checkpoints into the generation, unless somebody reads it; gives their
    /// number.
    pub(super) fn replay(&self) -> Result<usize, Fault> {
        let inner = &self.inner;
        let (view, mut stored, waiting, kept) = {
            let state = inner.state.lock();
            (state.view.clone(), state.stored.clone(), state.waiting.clone(), state.kept)
        };
        if waiting.is_empty() || view.generation.is_pinned() {
            return Ok(0);
        }
        write_rows(&view.generation, &view.overlay, &mut stored)?;
        let mut not_needed: Vec<u64> = kept.into_iter().chain(waiting.iter().copied()).collect();
        let kept = not_needed.pop();
        remove_redo_files(inner.disk.as_ref(), &inner.config.dir, &not_needed)?;
        let mut state = inner.state.lock();
        state.view.overlay = Arc::default();
        state.waiting.clear();
        state.kept = kept;
        Ok(waiting.len())
    }
}

/// Brings rows and blocks into one order, each key once.
pub(super) fn changes(rows: Vec<Row>, blocks: Vec<Block>) -> Result<Overlay, CheckpointError> {
    let mut changes = Overlay::new();
    let blocks = blocks.into_iter().map(|block| {
        let row = Row { table: block.table, key: block.key, value: Some(block.value) };
        (row, MAX_BLOCK_BYTES)
    });
    for (row, max_bytes) in rows.into_iter().map(|row| (row, MAX_VALUE_BYTES)).chain(blocks) {
        let value_bytes = row.value.as_ref().map_or(0, Vec::len);
        if row.table == 0 || row.key.len() > MAX_KEY_BYTES || value_bytes > max_bytes {
            let (table, key_bytes) = (row.table, row.key.len());
            return Err(CheckpointError::Row { table, key_bytes, value_bytes });
        }
        changes.insert(row_key(row.table, &row.key), row.value);
    }
    Ok(changes)
}

/// Leaves the rows that really change, and counts them.
fn count_changes(view: &View, totals: &mut RowTotals, changes: Overlay) -> Result<Overlay, Fault> {
    let mut changed = Overlay::new();
    for (full_key, value) in changes {
        let old = view.get(&full_key)?;
        if old == value {
            continue;
        }
        let (table, key) = (full_key[0], &full_key[1..]);
        if let Some(old) = old
            && !totals.sub(table, key, &old)
        {
            return Err(Damage::new(&view.generation.path, "it has a row too many").into());
        }
        if let Some(value) = &value {
            totals.add(table, key, value);
        }
        changed.insert(full_key, value);
    }
    Ok(changed)
}

/// Writes changes into the current generation so that it holds the checkpoint `stored`.
pub(super) fn write_rows(
    generation: &Generation,
    changes: &Overlay,
    stored: &mut Stored,
) -> Result<(), Fault> {
    let mut writer = RowWriter::into_current(generation);
    for (key, value) in changes {
        writer.push(key.clone(), value.as_deref())?;
    }
    writer.finish(stored)
}

/// Removes redo files, durably.
pub(super) fn remove_redo_files(disk: &dyn Disk, dir: &Path, numbers: &[u64]) -> Result<(), Fault> {
    for number in numbers {
        disk.remove_file(&redo::path(dir, *number)).attempt("remove a redo file")?;
    }
    if !numbers.is_empty() {
        disk.sync_dir(dir).attempt("make the removal of a redo file durable")?;
    }
    Ok(())
}
