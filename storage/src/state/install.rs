//! New generations: from a snapshot file, or from the current generation to shed dead space.
//!
//! Either way the rows are written to a directory that nothing names, made durable, and named by
//! `CURRENT` in one rename. A crash before leaves the old generation and a leftover to clear away;
//! a crash after leaves the new one, and redo files of the old one, whose numbers are not above the
//! checkpoint that the new one begins with.

use std::path::Path;
use std::sync::Arc;

use super::checkpoint::remove_redo_files;
use super::error::{Attempt, Fault};
use super::generation::{self, Current, Generation, RowWriter, Stored, row_key};
use super::handle::check_totals;
use super::view::{Cursor, View};
use super::{CheckpointMeta, Incoming, InstallError, RowTotals, StateStore};
use crate::seam::Disk;
use crate::snapshot::stream::DiskReader;
use crate::snapshot::{SnapshotError, SnapshotItem, SnapshotReader};

impl StateStore {
    /// Makes a received snapshot the state, in place of all there is, and removes its file.
    /// Gives what its checkpoint said; [`StateStore::load`] then gives its rows. `between` is
    /// called after every few hundred rows, for a pause that leaves the machine to others.
    pub fn install(
        &self,
        incoming: Incoming,
        between: &dyn Fn(),
    ) -> Result<CheckpointMeta, InstallError> {
        self.install_with_pauses(incoming.path(), between)
    }

    /// Makes the snapshot in a file the state, in place of all there is. The file stays.
    pub fn install_file(&self, path: &Path) -> Result<CheckpointMeta, InstallError> {
        self.install_with_pauses(path, &|| {})
    }

    fn install_with_pauses(
        &self,
        path: &Path,
        between: &dyn Fn(),
    ) -> Result<CheckpointMeta, InstallError> {
        let inner = &self.inner;
        let _work = inner.work.lock();
        self.refuse_when_poisoned()?;
        let number = self.next_generation()?;
        let after = inner.state.lock().stored.number + 1;
        let fill = |fresh: &Generation| {
            let writer = RowWriter::into_fresh(fresh).with_pauses(between);
            fill_from_file(inner.disk.as_ref(), writer, path, after)
        };
        match self.build(number, fill) {
            Ok((fresh, stored)) => {
                let meta = stored.meta.clone();
                let switched = self.switch(fresh, stored);
                self.poison_on_error(switched)?;
                Ok(meta)
            }
            Err(error) => {
                self.abandon(number)?;
                Err(error)
            }
        }
    }

    /// Whether most of the current generation is dead, and writing it anew would help: what it
    /// took when it was new is the least it can shrink to as long as its rows stay.
    pub(crate) fn should_rewrite(&self) -> Result<bool, Fault> {
        let state = self.inner.state.lock();
        let size = state.view.generation.size_on_disk()?;
        Ok(state.waiting.is_empty()
            && size > self.inner.config.compact_above_bytes
            && size / 3 > state.stored.totals.bytes
            && size / 3 * 2 > state.stored.fresh_bytes)
    }

    /// Writes the current generation's rows into a new one, and makes that current.
    pub(crate) fn rewrite(&self) -> Result<(), Fault> {
        let (view, stored) = {
            let state = self.inner.state.lock();
            (state.view.clone(), state.stored.clone())
        };
        let number = self.next_generation()?;
        let (fresh, stored) = self.build(number, |fresh| fill_from_view(fresh, &view, stored))?;
        drop(view);
        self.switch(fresh, stored)
    }

    fn build<E: From<Fault>>(
        &self,
        number: u64,
        fill: impl FnOnce(&Generation) -> Result<Stored, E>,
    ) -> Result<(Generation, Stored), E> {
        let inner = &self.inner;
        let fresh = Generation::open(inner.engines.as_ref(), &inner.config.dir, number)?;
        let stored = fill(&fresh)?;
        let synced = inner.disk.sync_dir(&inner.config.dir);
        synced.attempt("make a new generation durable")?;
        Ok((fresh, stored))
    }

    /// Removes a generation that did not come to be.
    fn abandon(&self, number: u64) -> Result<(), Fault> {
        let inner = &self.inner;
        let path = generation::path(&inner.config.dir, number);
        if inner.disk.exists(&path).attempt("look for an unfinished generation")? {
            inner.disk.remove_dir_all(&path).attempt("remove an unfinished generation")?;
        }
        Ok(())
    }

    fn switch(&self, fresh: Generation, stored: Stored) -> Result<(), Fault> {
        let inner = &self.inner;
        let (disk, dir) = (inner.disk.as_ref(), &inner.config.dir);
        let current = Current { generation: fresh.number, checkpoint: stored.number };
        generation::set_current(disk, dir, current)?;
        let overtaken = {
            let mut state = inner.state.lock();
            let view = View { generation: Arc::new(fresh), overlay: Arc::default() };
            let old = std::mem::replace(&mut state.view, view);
            state.retired.push(old.generation);
            state.stored = stored;
            let kept = state.kept.take();
            kept.into_iter().chain(std::mem::take(&mut state.waiting)).collect::<Vec<_>>()
        };
        remove_redo_files(disk, dir, &overtaken)?;
        self.remove_retired()?;
        Ok(())
    }

    /// A number above every generation that has a directory.
    fn next_generation(&self) -> Result<u64, Fault> {
        let names = self.inner.disk.list(&self.inner.config.dir);
        let names = names.attempt("list the state directory")?;
        let highest = names.iter().filter_map(|name| generation::number(name)).max();
        Ok(highest.unwrap_or(0) + 1)
    }
}

fn fill_from_file(
    disk: &dyn Disk,
    mut writer: RowWriter<'_>,
    path: &Path,
    number: u64,
) -> Result<Stored, InstallError> {
    let file = disk.open(path).map_err(SnapshotError::Io)?;
    let mut reader =
        SnapshotReader::new(DiskReader::new(file.as_ref()).map_err(SnapshotError::Io)?);
    let mut stored = None;
    while let Some(item) = reader.next()? {
        match item {
            SnapshotItem::Meta(meta, totals) => {
                stored = Some(Stored { number, meta, totals, fresh_bytes: 0 });
            }
            SnapshotItem::Row { table, key, value } => {
                writer.push(row_key(table, &key), Some(&value))?;
            }
        }
    }
    let Some(mut stored) = stored else {
        return Err(SnapshotError::corrupt(0, "it has no meta section").into());
    };
    writer.finish(&mut stored)?;
    Ok(stored)
}

fn fill_from_view(fresh: &Generation, view: &View, mut stored: Stored) -> Result<Stored, Fault> {
    let mut writer = RowWriter::into_fresh(fresh);
    let mut found = RowTotals::default();
    let mut cursor = Some(Cursor::start());
    while let Some(from) = cursor {
        let page = view.page(&from, usize::MAX)?;
        for (key, value) in page.rows {
            found.add(key[0], &key[1..], &value);
            writer.push(key, Some(&value))?;
        }
        cursor = page.next;
    }
    check_totals(view, found, stored.totals)?;
    writer.finish(&mut stored)?;
    Ok(stored)
}
