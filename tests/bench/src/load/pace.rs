//! When the operations of an open loop are due.
//!
//! A thread of its own sleeps until each moment: the kernel wakes it within some 50 µs, while the
//! timers of the runtime that clients run on come in whole milliseconds. What nobody could begin
//! yet waits, and keeps the moment at which it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use storage::seam::{Clock, RealClock};
use tokio::sync::Semaphore;

/// Says when operations are due, at a steady rate.
#[derive(Debug)]
pub(crate) struct Pacer {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    clock: RealClock,
    started_ns: u64,
    per_second: u64,
    /// One for each operation that is due and was not begun.
    due: Semaphore,
    /// Operations begun.
    begun: AtomicU64,
    /// Operations that were due so far.
    issued: AtomicU64,
    is_over: AtomicBool,
}

impl Pacer {
    /// The first operation is due now.
    pub(crate) fn start(clock: RealClock, per_second: u64) -> Self {
        let inner = Arc::new(Inner {
            clock,
            started_ns: clock.monotonic_ns(),
            per_second: per_second.max(1),
            due: Semaphore::new(0),
            begun: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let pacing = Arc::clone(&inner);
        let thread = thread::spawn(move || pacing.pace());
        Self { inner, thread: Mutex::new(Some(thread)) }
    }

    /// Waits for an operation that is due; when it was. `None`: there are no more.
    pub(crate) async fn next(&self) -> Option<u64> {
        self.inner.due.acquire().await.ok()?.forget();
        Some(self.inner.due_ns(self.inner.begun.fetch_add(1, Ordering::Relaxed)))
    }

    /// Ends it; when those were due that nobody has begun.
    pub(crate) fn stop(&self) -> Vec<u64> {
        self.inner.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().take() {
            // It only sleeps and counts.
            let _ = thread.join();
        }
        self.inner.due.close();
        let (begun, issued) = (&self.inner.begun, &self.inner.issued);
        let late = begun.load(Ordering::Relaxed)..issued.load(Ordering::Relaxed);
        late.map(|number| self.inner.due_ns(number)).collect()
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    fn due_ns(&self, number: u64) -> u64 {
        let since_ns = u128::from(number) * 1_000_000_000 / u128::from(self.per_second);
        self.started_ns + u64::try_from(since_ns).unwrap_or(u64::MAX / 2)
    }

    fn pace(&self) {
        for number in 0.. {
            let wait_ns = self.due_ns(number).saturating_sub(self.clock.monotonic_ns());
            if wait_ns > 0 {
                thread::sleep(Duration::from_nanos(wait_ns));
            }
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            self.issued.fetch_add(1, Ordering::Relaxed);
            self.due.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn operations_are_due_evenly_however_late_they_are_asked_for() {
        let pacer = Pacer::start(RealClock::new(), 10_000);
        let mut due = Vec::new();
        for _ in 0..20 {
            due.push(pacer.next().await.unwrap());
        }
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 100_000), "{due:?}");
        let last = due.last().copied().unwrap();
        let late = pacer.stop();
        let expected: Vec<u64> = (1..=late.len() as u64).map(|at| last + at * 100_000).collect();
        assert_eq!(late, expected);
        assert_eq!(pacer.next().await, None);
    }
}
