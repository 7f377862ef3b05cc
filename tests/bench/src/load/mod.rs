//! The load generator: clients that ask as fast as they are answered, or at a rate.
//!
//! All clients run on one thread: two cores are shared with the servers, and a client that wakes
//! another core to say that it was answered costs more than the answer. Each client is one task
//! with its own connection. Counting begins after a warm-up and ends while load goes on, so that
//! what is counted is a full load from its first moment to its last.
//!
//! In the closed loop a client asks again once it is answered. In the open loop operations are due
//! at fixed moments and latency counts from when one was *due*, so that a stall is seen in every
//! operation that it held up and not only in the one that was on its way; what was due and could
//! not even begin counts with the time that it has waited.
//!
//! What it leaves to others: what an operation is ([`Session`]), and what is said of the figures.

pub(crate) mod answer;
pub(crate) mod http;
pub(crate) mod latency;
pub(crate) mod pace;
pub(crate) mod probe;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use storage::seam::{Clock, RealClock};
use tokio::task::JoinSet;

use latency::{Latencies, Quantiles};
use pace::Pacer;
use probe::Probe;

/// One client of one system.
pub(crate) trait Session: Send + 'static {
    /// Does one operation and waits until it is acknowledged.
    fn operate(&mut self) -> impl Future<Output = Result<Done>> + Send;

    /// Gives back what operations have left, after the measurement.
    fn give_back(&mut self) -> impl Future<Output = Result<Done>> + Send;

    /// Makes the connection good again after a failure.
    fn mend(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What a request has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Operations, as the workload counts them.
    pub(crate) operations: u64,
    /// Acknowledged writes that the audit log must have an event for.
    pub(crate) audited: u64,
}

/// When operations begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each client begins one when it has ended the one before.
    Closed,
    /// So many begin in a second, on whichever client is free.
    Open {
        /// How many.
        per_second: u64,
    },
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Driven {
    /// Seconds that were counted.
    pub(crate) seconds: f64,
    /// Operations acknowledged in them.
    pub(crate) operations: u64,
    /// Times of requests.
    pub(crate) quantiles: Quantiles,
    /// CPU-seconds of the servers.
    pub(crate) server_cpu_s: f64,
    /// CPU-seconds of this process.
    pub(crate) own_cpu_s: f64,
    /// Bytes that the servers had written to storage.
    pub(crate) written_bytes: u64,
    /// Resident memory of each node at the end.
    pub(crate) resident_bytes: Vec<u64>,
    /// Syncs of each node's log; empty where it does not count them.
    pub(crate) syncs: Vec<u64>,
    /// Operations that failed, from the first moment to the last.
    pub(crate) errors: u64,
    /// What the first of them said.
    pub(crate) first_error: Option<String>,
    /// Acknowledged writes that the audit log must have an event for, from the first moment to the
    /// last, counted or not.
    pub(crate) audited: u64,
}

/// Runs clients: a warm-up, then until `counted` resolves, then until each has ended what it was
/// doing and given back what it holds. What `counted` resolves to is passed on.
pub(crate) async fn drive<S: Session, T>(
    sessions: Vec<S>,
    pace: Pace,
    warm_up: Duration,
    probe: &Probe,
    counted: impl Future<Output = Result<T>>,
) -> Result<(Driven, T)> {
    let pacer = match pace {
        Pace::Closed => None,
        Pace::Open { per_second } => Some(per_second),
    };
    let clock = RealClock::new();
    let shared = Arc::new(Shared {
        phase: AtomicU8::new(WARMING),
        clock,
        pacer: pacer.map(|per_second| Pacer::start(clock, per_second)),
        latencies: Mutex::new(Latencies::new()?),
        operations: AtomicU64::new(0),
        errors: AtomicU64::new(0),
        first_error: Mutex::new(None),
    });
    let mut tasks = JoinSet::new();
    for session in sessions {
        tasks.spawn(Arc::clone(&shared).client(session));
    }
    tokio::time::sleep(warm_up).await;
    let syncs_before = probe.syncs().await?;
    let before = probe.usage()?;
    let started_ns = clock.monotonic_ns();
    shared.phase.store(COUNTING, Ordering::Relaxed);
    let value = counted.await?;
    shared.phase.store(OVER, Ordering::Relaxed);
    let ended_ns = clock.monotonic_ns();
    let after = probe.usage()?;
    let mut driven = Driven {
        seconds: (ended_ns - started_ns) as f64 / 1e9,
        operations: shared.operations.load(Ordering::Relaxed),
        server_cpu_s: after.server_cpu_s - before.server_cpu_s,
        own_cpu_s: after.own_cpu_s - before.own_cpu_s,
        written_bytes: after.written_bytes.saturating_sub(before.written_bytes),
        resident_bytes: after.resident_bytes,
        ..Driven::default()
    };
    if let Some(pacer) = &shared.pacer {
        let mut latencies = shared.latencies.lock();
        pacer.stop().into_iter().for_each(|due_ns| {
            latencies.record(ended_ns.saturating_sub(due_ns.max(started_ns)));
        });
    }
    let syncs_after = probe.syncs().await?;
    driven.syncs = syncs_before.iter().zip(syncs_after).map(|(old, new)| new - old).collect();
    while let Some(ended) = tasks.join_next().await {
        driven.audited += ended.context("a client has panicked")?;
    }
    driven.quantiles = shared.latencies.lock().quantiles();
    driven.errors = shared.errors.load(Ordering::Relaxed);
    driven.first_error = shared.first_error.lock().take();
    if driven.operations == 0 {
        let why = driven.first_error.as_deref().unwrap_or("none ended in time");
        bail!("not one operation was acknowledged: {why}");
    }
    Ok((driven, value))
}

struct Shared {
    phase: AtomicU8,
    clock: RealClock,
    pacer: Option<Pacer>,
    latencies: Mutex<Latencies>,
    operations: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl Shared {
    /// One client; how many acknowledged writes it has that must be audited.
    async fn client<S: Session>(self: Arc<Self>, mut session: S) -> u64 {
        let mut audited = 0;
        while let Some(due_ns) = self.next_due().await {
            match session.operate().await {
                Ok(done) => {
                    audited += done.audited;
                    self.note(due_ns, done.operations);
                }
                Err(error) => {
                    self.note_failure(&error);
                    if let Err(error) = session.mend().await {
                        self.note_failure(&error);
                    }
                    tokio::time::sleep(AFTER_A_FAILURE).await;
                }
            }
        }
        match session.give_back().await {
            Ok(done) => audited += done.audited,
            Err(error) => self.note_failure(&error),
        }
        audited
    }

    /// When the next operation is due, once it is; `None`: there is no more.
    async fn next_due(&self) -> Option<u64> {
        let due_ns = match &self.pacer {
            None => self.clock.monotonic_ns(),
            Some(pacer) => pacer.next().await?,
        };
        (self.phase.load(Ordering::Relaxed) != OVER).then_some(due_ns)
    }

    fn note(&self, due_ns: u64, operations: u64) {
        if self.phase.load(Ordering::Relaxed) == COUNTING {
            let took_ns = self.clock.monotonic_ns().saturating_sub(due_ns);
            self.latencies.lock().record(took_ns);
            self.operations.fetch_add(operations, Ordering::Relaxed);
        }
    }

    fn note_failure(&self, error: &anyhow::Error) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.first_error.lock().get_or_insert_with(|| format!("{error:#}"));
    }
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;
/// Who was refused does not ask again at once.
const AFTER_A_FAILURE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Device;

    /// Answers at once; every third operation fails.
    #[derive(Default)]
    struct Fake {
        asked: u64,
        mended: u64,
        asked_by_all: Arc<AtomicU64>,
    }

    impl Session for Fake {
        async fn operate(&mut self) -> Result<Done> {
            self.asked += 1;
            self.asked_by_all.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            anyhow::ensure!(!self.asked.is_multiple_of(3), "the third of three");
            Ok(Done { operations: 2, audited: 1 })
        }

        async fn give_back(&mut self) -> Result<Done> {
            assert_eq!(self.mended, self.asked / 3);
            Ok(Done { operations: 0, audited: 100 })
        }

        async fn mend(&mut self) -> Result<()> {
            self.mended += 1;
            Ok(())
        }
    }

    fn nobody() -> Probe {
        Probe {
            pids: Vec::new(),
            has_children: false,
            counters: Vec::new(),
            tls: None,
            sync_counter: "",
            device: Device::below(&std::env::temp_dir()).unwrap(),
        }
    }

    async fn check(pace: Pace) {
        let asked_by_all = Arc::new(AtomicU64::new(0));
        let fake = || Fake { asked_by_all: Arc::clone(&asked_by_all), ..Fake::default() };
        let sessions = vec![fake(), fake()];
        let counted = async {
            while asked_by_all.load(Ordering::Relaxed) < 50 {
                tokio::task::yield_now().await;
            }
            Ok("counted")
        };
        let (driven, value) =
            drive(sessions, pace, Duration::ZERO, &nobody(), counted).await.unwrap();
        assert_eq!(value, "counted");
        assert!(driven.operations > 0 && driven.operations.is_multiple_of(2));
        assert!(driven.audited >= driven.operations / 2 + 200, "{driven:?}");
        assert!(driven.errors > 0);
        assert_eq!(driven.first_error.as_deref(), Some("the third of three"));
    }

    #[tokio::test]
    async fn the_closed_loop_counts_what_is_acknowledged() {
        check(Pace::Closed).await;
    }

    #[tokio::test]
    async fn the_open_loop_counts_what_is_acknowledged() {
        check(Pace::Open { per_second: 2_000 }).await;
    }

    #[tokio::test]
    async fn nothing_acknowledged_is_an_error_that_says_why() {
        struct Never;
        impl Session for Never {
            async fn operate(&mut self) -> Result<Done> {
                bail!("no such thing")
            }
            async fn give_back(&mut self) -> Result<Done> {
                Ok(Done::default())
            }
            async fn mend(&mut self) -> Result<()> {
                Ok(())
            }
        }
        let (probe, counted) = (nobody(), async { Ok(()) });
        let ended = drive(vec![Never], Pace::Closed, Duration::from_millis(1), &probe, counted);
        let error = ended.await.unwrap_err().to_string();
        assert!(error.starts_with("not one operation was acknowledged"), "{error}");
    }
}
