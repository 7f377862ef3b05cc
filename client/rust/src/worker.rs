//! The client's own background thread, where all waiting happens.
//!
//! A thread of its own with a runtime of its own: calls work under any executor and under none, a
//! host that computes for minutes does not keep its leases from being renewed, and a lease can be
//! dropped anywhere. The thread begins with the first call and ends after the last handle is gone
//! and what was under way is done. A panic in a job ends that job alone.
//!
//! What it leaves to others: leases that are given back ([`crate::lease`]).

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::error::Error;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where to send jobs. Never blocks.
#[derive(Default)]
pub(crate) struct Worker {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Worker {
    /// Runs a future on the thread and gives its value. When the caller goes away, the future is
    /// run to its end nevertheless, and its value dropped there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.spawn(async move {
            // Nobody waits any more: the value is dropped, which for a lease gives it back.
            drop(reply.send(future.await));
        })?;
        answer.await.map_err(|_| Error::Closed)
    }

    /// Starts a future on the thread.
    pub(crate) fn spawn(
        &self,
        job: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        let sender = self.sender()?;
        sender.try_send(Box::pin(job)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::machine("too many calls at once", &format_args!("at most {MAX_WAITING}"))
            }
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })
    }

    /// The way to the thread, which begins with the first call.
    fn sender(&self) -> Result<mpsc::Sender<Job>, Error> {
        let mut jobs = self.jobs.lock();
        if let Some(sender) = &*jobs {
            return Ok(sender.clone());
        }
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("leasehold-work")
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .build()
            .map_err(|error| Error::machine("no runtime", &error))?;
        std::thread::Builder::new()
            .name("leasehold-client".to_owned())
            .spawn(move || {
                runtime.block_on(serve(receiver));
                // A callback of the host that never returns does not keep the thread.
                runtime.shutdown_background();
            })
            .map_err(|error| Error::machine("no thread", &error))?;
        *jobs = Some(sender.clone());
        Ok(sender)
    }
}

/// Runs jobs until every sender is gone, then what is left to its end. Calls are bounded by their
/// own deadlines; a callback of the host that never returns is not waited for.
async fn serve(mut receiver: mpsc::Receiver<Job>) {
    let mut jobs = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            job = receiver.recv() => match job {
                Some(job) => {
                    jobs.spawn(job);
                }
                None => break,
            },
            Some(ended) = jobs.join_next() => note(&ended),
        }
    }
    let finish = async {
        while let Some(ended) = jobs.join_next().await {
            note(&ended);
        }
    };
    if tokio::time::timeout(LONGEST_FAREWELL, finish).await.is_err() {
        tracing::warn!("the license client ended before all that was under way");
    }
}

fn note(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a job of the license client panicked; the host goes on");
    }
}

/// Jobs that wait to be started; the thread takes them at once.
const MAX_WAITING: usize = 4_096;
/// Longest time between the last handle's end and the thread's.
const LONGEST_FAREWELL: Duration = Duration::from_secs(60);
/// Threads for callbacks and files; made when needed.
const MAX_BLOCKING_THREADS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_panic_ends_its_job_alone() {
        let worker = Worker::default();
        let broken: Result<u32, Error> =
            wait(worker.run(async { if true { panic!("planted") } else { 1 } }));
        assert_eq!(broken, Err(Error::Closed));
        assert_eq!(wait(worker.run(async { 2 })), Ok(2));
    }

    #[test]
    fn what_is_under_way_is_done_after_the_last_handle_is_gone() {
        let (done, mut seen) = mpsc::channel(1);
        let (go, wait_for) = oneshot::channel::<()>();
        let worker = Worker::default();
        worker
            .spawn(async move {
                drop(wait_for.await);
                done.send(7).await.unwrap();
            })
            .unwrap();
        drop(worker);
        go.send(()).unwrap();
        assert_eq!(wait(seen.recv()), Some(7));
    }
}
