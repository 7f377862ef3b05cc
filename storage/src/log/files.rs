//! The log's files beside the one being written: making the next segment ready, removing old ones,
//! writing the durable mark.
//!
//! All of it may take long (a new segment is 64 MiB of zeros and a sync), so it runs on a thread of
//! its own and the writer meets it only when it rolls. Zeros are written, not left as a hole, so
//! that the `fdatasync` of a group changes no block map. In a stepped log the same work is done in
//! place, so that a test sees every operation in one order.
//!
//! A disk without room for the next segment is waited for and not taken for a failure: nothing was
//! promised yet, the zeros written so far are removed, and the chore is tried again until there is
//! room or the log is closed. The disk is asked first, and a quarter of a segment must be left
//! over: a log that waits for room must not be what takes the last of it, again and again.
//! Meanwhile old segments are removed as ever, which is how room may come back, and the writer goes
//! on until its segment is full. A failed sync is never tried again.
//!
//! Old segments are removed one by one, oldest first, each made durable before the next: after a
//! crash there is never a hole in their numbers, so a hole is always damage.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::format::{Mark, SEGMENT_HEADER_BYTES};
use super::queue::Shared;
use super::{Completion, LogError};
use crate::seam::{Disk, DiskFile, replace_file};

/// Name of the durable mark's file.
pub(crate) const MARK_NAME: &str = "mark";
/// Name of the segment that is made ready for the next roll.
pub(crate) const PREPARED_NAME: &str = "prepared.tmp";

/// The file name of a segment.
pub(crate) fn segment_name(segment: u32) -> String {
    format!("segment-{segment:010}.log")
}

/// The segment number of a file name.
pub(crate) fn segment_of(name: &str) -> Option<u32> {
    let number = name.strip_prefix("segment-")?.strip_suffix(".log")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// A file of zeros, synced, under [`PREPARED_NAME`].
pub(crate) struct Prepared {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) len: u64,
}

enum Chore {
    Prepare { len: u64 },
    Remove { segments: Vec<u32> },
    Mark { mark: Mark, done: Completion },
}

/// Who does the chores.
pub(crate) struct Files {
    worker: Arc<Worker>,
    way: Way,
}

enum Way {
    InPlace { prepared: Option<Result<Prepared, LogError>>, postponed: Option<u64> },
    Thread { chores: SyncSender<Chore>, prepared: Receiver<Result<Prepared, LogError>> },
}

struct Worker {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
}

/// At most: one preparation, and a removal and a mark per checkpoint.
const MAX_CHORES: usize = 64;
/// Between two looks for room.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(250);
const CREATE: &str = "create";
const FILL: &str = "fill with zeros";
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

impl Files {
    pub(crate) fn in_place(disk: Arc<dyn Disk>, dir: PathBuf, shared: Arc<Shared>) -> Self {
        let worker = Arc::new(Worker { disk, dir, shared });
        Self { worker, way: Way::InPlace { prepared: None, postponed: None } }
    }

    /// Starts the thread; it ends when this value is dropped.
    pub(crate) fn on_thread(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        shared: Arc<Shared>,
    ) -> Result<(Self, JoinHandle<()>), LogError> {
        let worker = Arc::new(Worker { disk, dir, shared });
        let (chores, waiting) = sync_channel(MAX_CHORES);
        let (ready, prepared) = sync_channel(1);
        let thread_worker = Arc::clone(&worker);
        let handle = Builder::new()
            .name("log-files".to_owned())
            .spawn(move || thread_worker.run(&waiting, &ready))
            .map_err(LogError::io("start a thread for", &worker.dir))?;
        Ok((Self { worker, way: Way::Thread { chores, prepared } }, handle))
    }

    /// Has the next segment made ready; asked for once per [`Files::take_prepared`].
    pub(crate) fn prepare(&mut self, len: u64) -> Result<(), LogError> {
        match &mut self.way {
            Way::InPlace { prepared, postponed } => {
                let made = self.worker.prepare_with_room(len);
                if made.as_ref().is_err_and(is_without_room) && !self.worker.shared.is_closing() {
                    *postponed = Some(len);
                    return self.worker.remove_leftover();
                }
                *postponed = None;
                *prepared = Some(made);
                Ok(())
            }
            Way::Thread { chores, .. } => send(chores, Chore::Prepare { len }),
        }
    }

    /// Tries again to make ready what there was no room for. A thread does so by itself.
    pub(crate) fn prepare_postponed(&mut self) -> Result<(), LogError> {
        match self.way {
            Way::InPlace { postponed: Some(len), .. } => self.prepare(len),
            _ => Ok(()),
        }
    }

    /// Whether the next segment still has no room, and nobody else sees to it.
    pub(crate) fn is_postponed(&self) -> bool {
        matches!(self.way, Way::InPlace { postponed: Some(_), .. })
    }

    /// The segment that was made ready, and whether it had to be waited for.
    pub(crate) fn take_prepared(&mut self) -> Result<(Prepared, bool), LogError> {
        match &mut self.way {
            Way::InPlace { prepared, .. } => {
                Ok((prepared.take().unwrap_or(Err(LogError::WriterEnded))?, false))
            }
            Way::Thread { prepared, .. } => match prepared.try_recv() {
                Ok(ready) => Ok((ready?, false)),
                Err(_) => Ok((prepared.recv().map_err(|_| LogError::WriterEnded)??, true)),
            },
        }
    }

    /// Has segments removed, oldest first.
    pub(crate) fn remove(&mut self, segments: Vec<u32>) -> Result<(), LogError> {
        match &mut self.way {
            Way::InPlace { .. } => self.worker.remove(&segments),
            Way::Thread { chores, .. } => send(chores, Chore::Remove { segments }),
        }
    }

    /// Has the durable mark written.
    pub(crate) fn mark(&mut self, mark: Mark, done: Completion) -> Result<(), LogError> {
        match &mut self.way {
            Way::InPlace { .. } => self.worker.mark(mark, done),
            Way::Thread { chores, .. } => send(chores, Chore::Mark { mark, done }),
        }
    }
}

fn send(chores: &SyncSender<Chore>, chore: Chore) -> Result<(), LogError> {
    chores.send(chore).map_err(|SendError(chore)| {
        chore.refuse(&LogError::WriterEnded);
        LogError::WriterEnded
    })
}

impl Chore {
    fn refuse(self, error: &LogError) {
        if let Self::Mark { done, .. } = self {
            done(Err(error.clone()));
        }
    }
}

impl Worker {
    fn run(&self, waiting: &Receiver<Chore>, ready: &SyncSender<Result<Prepared, LogError>>) {
        let mut failed = None;
        // A segment that there was no room for.
        let mut postponed = None;
        loop {
            let chore = match postponed {
                None => waiting.recv().ok(),
                Some(len) => match waiting.recv_timeout(LOOK_FOR_ROOM) {
                    Ok(chore) => Some(chore),
                    Err(RecvTimeoutError::Timeout) => Some(Chore::Prepare { len }),
                    Err(RecvTimeoutError::Disconnected) => None,
                },
            };
            let Some(chore) = chore else { return };
            if let Some(error) = &failed {
                chore.refuse(error);
            } else if let Err(error) = self.act(chore, ready, &mut postponed) {
                self.shared.fail(&error);
                failed = Some(error);
                postponed = None;
            }
        }
    }

    fn act(
        &self,
        chore: Chore,
        ready: &SyncSender<Result<Prepared, LogError>>,
        postponed: &mut Option<u64>,
    ) -> Result<(), LogError> {
        match chore {
            Chore::Prepare { len } => {
                let prepared = self.prepare_with_room(len);
                if prepared.as_ref().is_err_and(is_without_room) && !self.shared.is_closing() {
                    if postponed.replace(len).is_none() {
                        tracing::error!("there is no room for the log's next segment; it waits");
                    }
                    return self.remove_leftover();
                }
                *postponed = None;
                let result = prepared.as_ref().map(|_| ()).map_err(LogError::clone);
                // The receiver is gone only when the log ends; then nobody needs the file.
                let _ = ready.send(prepared);
                result
            }
            Chore::Remove { segments } => self.remove(&segments),
            Chore::Mark { mark, done } => self.mark(mark, done),
        }
    }

    /// What was written of a segment that found no room stands in the way of everything else.
    fn remove_leftover(&self) -> Result<(), LogError> {
        let path = self.dir.join(PREPARED_NAME);
        match self.disk.exists(&path) {
            Ok(true) => self.disk.remove_file(&path).map_err(LogError::io("remove", &path)),
            Ok(false) => Ok(()),
            Err(error) => Err(LogError::io("look for", &path)(error)),
        }
    }

    /// As [`Worker::prepare`], but begins only what the disk has room for.
    fn prepare_with_room(&self, len: u64) -> Result<Prepared, LogError> {
        // What cannot be asked is found out by writing.
        let free_bytes = self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        if free_bytes < len.saturating_add(len / 4) {
            let path = self.dir.join(PREPARED_NAME);
            return Err(LogError::io(FILL, &path)(ErrorKind::StorageFull.into()));
        }
        self.prepare(len)
    }

    fn prepare(&self, len: u64) -> Result<Prepared, LogError> {
        prepare(self.disk.as_ref(), &self.dir, len)
    }

    fn remove(&self, segments: &[u32]) -> Result<(), LogError> {
        for segment in segments {
            let path = self.dir.join(segment_name(*segment));
            self.disk.remove_file(&path).map_err(LogError::io("remove", &path))?;
            self.disk.sync_dir(&self.dir).map_err(LogError::io("sync directory", &self.dir))?;
        }
        Ok(())
    }

    fn mark(&self, mark: Mark, done: Completion) -> Result<(), LogError> {
        let result = write_mark(self.disk.as_ref(), &self.dir, mark);
        done(result.clone());
        result
    }
}

/// Whether the disk had no room for zeros; a sync that says so is a failed sync.
fn is_without_room(error: &LogError) -> bool {
    let LogError::Io { action: CREATE | FILL, source, .. } = error else { return false };
    matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Writes a file of zeros, replacing a leftover of the same name.
pub(crate) fn prepare(disk: &dyn Disk, dir: &Path, len: u64) -> Result<Prepared, LogError> {
    let path = dir.join(PREPARED_NAME);
    if disk.exists(&path).map_err(LogError::io("look for", &path))? {
        disk.remove_file(&path).map_err(LogError::io("remove", &path))?;
    }
    let file = disk.create(&path).map_err(LogError::io(CREATE, &path))?;
    let len = len.max(SEGMENT_HEADER_BYTES as u64);
    write_zeros(file.as_ref(), 0, len).map_err(LogError::io(FILL, &path))?;
    file.sync_data().map_err(LogError::io("sync", &path))?;
    Ok(Prepared { file: Arc::from(file), len })
}

/// Writes zeros from byte `from` to byte `to`.
pub(crate) fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> std::io::Result<()> {
    let mut at = from;
    while at < to {
        let len = (to - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// Replaces the durable mark.
pub(crate) fn write_mark(disk: &dyn Disk, dir: &Path, mark: Mark) -> Result<(), LogError> {
    let path = dir.join(MARK_NAME);
    replace_file(disk, &path, &mark.encode()).map_err(LogError::io("write", &path))
}
