//! The leader killed under load, again and again: how long until somebody is served.
//!
//! Clients go on as an application would: who is not answered within a quarter of a second, or is
//! refused, asks another node. What counts is the time from the kill to the end of the first cycle
//! that began after it, at whichever client. Between kills the node is started again and caught up,
//! and clients are back at their nodes. etcd is killed the same way, with the same clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use storage::seam::{Clock, RealClock};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Found, Settings};
use crate::load::Session;
use crate::load::latency::median;
use crate::plan::Workload;
use crate::progress::{Progress, short};
use crate::systems::etcd::web::WebSession;
use crate::systems::etcd::{self, Etcd};
use crate::systems::leasehold::session::{Job, LeaseholdSession};
use crate::systems::leasehold::{Entrance, Leasehold, NODES};

/// Kills leaders.
pub(super) async fn run(settings: &Settings, progress: &Progress) -> Result<Found> {
    let mut found = Found::default();
    let ours = of_ours(settings, progress).await?;
    tell(&mut found, "", ours);
    found.figure("kills", settings.kills as f64);
    found.figure("clients", CLIENTS as f64);
    match &settings.etcd_missing {
        Some(why) => found.notes.push(format!("etcd was not killed beside it: {why}")),
        None => match of_etcd(settings, progress).await {
            Ok(gaps) => tell(&mut found, "etcd_", gaps),
            Err(error) => found.notes.push(format!("etcd was not killed beside it: {error:#}")),
        },
    }
    Ok(found)
}

fn tell(found: &mut Found, prefix: &str, gaps_s: Vec<f64>) {
    found.figure(&format!("{prefix}median_s"), median(gaps_s.iter().copied()).unwrap_or(0.0));
    found.figure(&format!("{prefix}worst_s"), gaps_s.iter().copied().fold(0.0, f64::max));
    found.series.insert(format!("{prefix}gaps_s"), gaps_s);
}

async fn of_ours(settings: &Settings, progress: &Progress) -> Result<Vec<f64>> {
    let mut system = Leasehold::found().await?;
    system.prepare(Workload::Checkout, 0, &|_| {}).await?;
    let watch = Watch::new();
    let _clients = watch.clients(&system.entrance().await?);
    let mut gaps_s = Vec::new();
    for kill in 1..=settings.kills {
        tokio::time::sleep(BETWEEN_KILLS).await;
        let leader = system.cluster.leader().await?;
        watch.expect();
        system.cluster.kill(leader)?;
        gaps_s.push(watch.gap_s().await.context("nobody is served")?);
        system.cluster.start(leader)?;
        system.ready().await?;
        watch.go_home();
        show(progress, "leasehold", kill, settings.kills, &gaps_s);
    }
    Ok(gaps_s)
}

async fn of_etcd(settings: &Settings, progress: &Progress) -> Result<Vec<f64>> {
    let mut system = Etcd::found(&settings.dir, false).await?;
    let watch = Watch::new();
    let entrance = EtcdEntrance(Arc::new(system.entrance().await?));
    let _clients = watch.clients(&entrance);
    let mut gaps_s = Vec::new();
    for kill in 1..=settings.kills {
        tokio::time::sleep(BETWEEN_KILLS).await;
        let leader = system.leader().await?;
        watch.expect();
        system.kill(leader)?;
        gaps_s.push(watch.gap_s().await.context("nobody is served")?);
        system.start().await?;
        watch.go_home();
        show(progress, "etcd", kill, settings.kills, &gaps_s);
    }
    Ok(gaps_s)
}

fn show(progress: &Progress, system: &str, kill: usize, kills: usize, gaps_s: &[f64]) {
    let last = gaps_s.last().copied().unwrap_or(0.0);
    progress.doing(format!("failover of {system}, {kill} of {kills}: {} s", short(last)));
}

/// A system that clients can come to while nodes of it are down.
trait Reach: Clone + Send + Sync + 'static {
    type Client: Session;

    fn reach(
        &self,
        node: usize,
        client: usize,
    ) -> impl Future<Output = Result<Self::Client>> + Send;
}

impl Reach for Entrance {
    type Client = LeaseholdSession;

    async fn reach(&self, node: usize, client: usize) -> Result<LeaseholdSession> {
        self.session(node, client, Job::Cycle).await
    }
}

#[derive(Clone)]
struct EtcdEntrance(Arc<etcd::Entrance>);

impl Reach for EtcdEntrance {
    type Client = WebSession;

    async fn reach(&self, node: usize, client: usize) -> Result<WebSession> {
        self.0.session(node, client, etcd::Job::Cycle).await
    }
}

/// Sees the first success after a kill.
struct Watch(Arc<Seen>);

struct Seen {
    clock: RealClock,
    is_over: AtomicBool,
    /// When the leader was killed; 0: nobody was.
    killed_ns: AtomicU64,
    /// When the first was served after that.
    served_ns: Mutex<Option<u64>>,
    was_served: Notify,
    /// Rises when clients are to go back to their own nodes.
    homecoming: AtomicU64,
}

impl Watch {
    fn new() -> Self {
        Self(Arc::new(Seen {
            clock: RealClock::new(),
            is_over: AtomicBool::new(false),
            killed_ns: AtomicU64::new(0),
            served_ns: Mutex::new(None),
            was_served: Notify::new(),
            homecoming: AtomicU64::new(0),
        }))
    }

    /// Clients, until what is given back is dropped.
    fn clients<R: Reach>(&self, reach: &R) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS {
            tasks.spawn(Arc::clone(&self.0).client(reach.clone(), client));
        }
        tasks
    }

    /// The kill is now.
    fn expect(&self) {
        *self.0.served_ns.lock() = None;
        self.0.killed_ns.store(self.0.clock.monotonic_ns(), Ordering::Relaxed);
    }

    /// Seconds from the kill to the first success.
    async fn gap_s(&self) -> Result<f64> {
        let served = async {
            loop {
                let served = self.0.was_served.notified();
                if let Some(served_ns) = *self.0.served_ns.lock() {
                    return served_ns;
                }
                served.await;
            }
        };
        let served_ns = tokio::time::timeout(GIVES_UP_AFTER, served).await?;
        let killed_ns = self.0.killed_ns.swap(0, Ordering::Relaxed);
        Ok((served_ns - killed_ns) as f64 / 1e9)
    }

    fn go_home(&self) {
        self.0.homecoming.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    async fn client<R: Reach>(self: Arc<Self>, reach: R, client: usize) {
        let (mut node, mut session, mut home) = (client % NODES, None, 0);
        while !self.is_over.load(Ordering::Relaxed) {
            let homecoming = self.homecoming.load(Ordering::Relaxed);
            if homecoming != home {
                (node, session, home) = (client % NODES, None, homecoming);
            }
            let mut current = match session.take() {
                Some(session) => session,
                None => match self.within(reach.reach(node, client)).await {
                    Some(session) => session,
                    None => {
                        node = (node + 1) % NODES;
                        tokio::time::sleep(AFTER_A_FAILURE).await;
                        continue;
                    }
                },
            };
            let started_ns = self.clock.monotonic_ns();
            match self.within(current.operate()).await {
                Some(_) => {
                    self.note(started_ns);
                    session = Some(current);
                }
                None => {
                    node = (node + 1) % NODES;
                    tokio::time::sleep(AFTER_A_FAILURE).await;
                }
            }
        }
    }

    async fn within<T>(&self, asked: impl Future<Output = Result<T>>) -> Option<T> {
        tokio::time::timeout(ANSWERED_WITHIN, asked).await.ok()?.ok()
    }

    fn note(&self, started_ns: u64) {
        let killed_ns = self.killed_ns.load(Ordering::Relaxed);
        if killed_ns > 0 && started_ns > killed_ns {
            self.served_ns.lock().get_or_insert_with(|| self.clock.monotonic_ns());
            self.was_served.notify_one();
        }
    }
}

const CLIENTS: usize = 64;
/// Load between two kills, once all is well.
const BETWEEN_KILLS: Duration = Duration::from_millis(1_500);
const ANSWERED_WITHIN: Duration = Duration::from_millis(250);
const AFTER_A_FAILURE: Duration = Duration::from_millis(5);
const GIVES_UP_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_began_after_the_kill_ends_the_gap() {
        let watch = Watch::new();
        let before_ns = watch.0.clock.monotonic_ns();
        watch.0.note(before_ns);
        watch.expect();
        watch.0.note(before_ns);
        assert_eq!(*watch.0.served_ns.lock(), None);
        watch.0.note(watch.0.clock.monotonic_ns() + 1);
        let gap_s = watch.gap_s().await.unwrap();
        assert!((0.0..60.0).contains(&gap_s));
        // Served and noted: the next kill begins anew.
        watch.expect();
        assert_eq!(*watch.0.served_ns.lock(), None);
    }
}
