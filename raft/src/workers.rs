//! Where work is done that blocks: on threads, or, in a simulation, in its place.
//!
//! A node's tasks never wait for the disk: the log has threads of its own, and everything else that
//! reads or writes files goes to one that may block. Threads take turns as the machine likes, so a
//! run from one seed can have none. There the same work is done by the task that asks for it, at
//! once, and the time that it would have taken passes afterwards on tokio's clock, which a
//! simulation drives.
//!
//! What it leaves to others: the work; what a simulated disk takes for it ([`Pace`]).

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use storage::log::{Log, LogWriter, Step};
use tokio::sync::Notify;
use tokio::task::JoinError;

/// Where a node's blocking work is done.
#[derive(Clone, Default)]
pub enum Workers {
    /// On threads: the log's own, tokio's for blocking work, and one of a low priority for each
    /// piece of work that nobody waits for.
    #[default]
    Threads,
    /// In the task that asks for it, and over the simulated disk alone.
    InPlace(Arc<dyn Pace>),
}

/// How long a simulated machine takes.
pub trait Pace: Send + Sync + 'static {
    /// For the group of the log that will be written next.
    fn log_write(&self) -> Duration;

    /// For the work that was done just now.
    fn work(&self) -> Duration;
}

impl Workers {
    /// Does work that may block, or takes long, where nothing else waits for it.
    ///
    /// # Errors
    /// When the work panics on a thread.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work).await,
            Self::InPlace(pace) => {
                let done = work();
                pause(pace.work()).await;
                Ok(done)
            }
        }
    }

    /// Does long work that nobody waits for, beside whatever else wants the processor; blocks until
    /// it is done.
    pub(crate) fn run_behind<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if self.are_in_place() {
            return work();
        }
        // On a thread of its own: one that has stepped back may not step forward again.
        thread::scope(|scope| {
            let behind = scope.spawn(|| {
                step_back();
                work()
            });
            behind.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
        })
    }

    /// A pause within such work.
    pub(crate) fn pause(&self) {
        if !self.are_in_place() {
            thread::sleep(PAUSE);
        }
    }

    /// Whether work is done in its place.
    pub(crate) fn are_in_place(&self) -> bool {
        matches!(self, Self::InPlace(_))
    }

    /// Writes what waits in a log without threads, group by group, until it ends.
    pub(crate) async fn write_log(self, log: Log, mut writer: LogWriter) {
        let Self::InPlace(pace) = self else { return };
        let work = Arc::new(Notify::new());
        let told = Arc::clone(&work);
        log.wake_with(Box::new(move || told.notify_one()));
        // The task must not keep the log open.
        drop(log);
        loop {
            pause(pace.log_write()).await;
            match writer.step() {
                Step::Worked => {}
                Step::Idle => work.notified().await,
                Step::NoRoom => tokio::time::sleep(LOOK_FOR_ROOM).await,
                Step::Ended => return,
            }
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.are_in_place() { "InPlace" } else { "Threads" })
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Lowers the priority of this thread.
fn step_back() {
    // On Linux the priority is each thread's own. Without it the work is done all the same.
    if let Err(error) = rustix::process::setpriority_process(None, BEHIND_NICE) {
        tracing::debug!(%error, "the priority of a thread was not lowered");
    }
}

/// A tenth of what a thread gets that wants the same processor all the time.
const BEHIND_NICE: i32 = 10;
/// Between some milliseconds of work that nobody waits for. A priority alone lets others wait for
/// the scheduler and for the disk.
const PAUSE: Duration = Duration::from_millis(1);
/// As a log's thread for files looks again.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(250);
