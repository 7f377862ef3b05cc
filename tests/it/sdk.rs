//! The Rust SDK against real processes, through a loss of all of them.
//!
//! Half an hour passes for the application alone: its environment's clocks are moved, nothing
//! waits. The servers are killed for that time, so that no time is led meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use leasehold_client::{
    Borrow, Environment, Lease, LicenseClient, MemoryStore, Sleep, SystemEnvironment, Verdict,
};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::SAMPLE_PACKAGE;
use leasehold_tests::wait::eventually;
use reqwest::Method;
use tokio::sync::watch;

/// The machine's clocks, moved ahead by hand.
struct Moved {
    machine: SystemEnvironment,
    ahead: watch::Sender<Duration>,
}

impl Moved {
    fn new() -> Arc<Self> {
        let ahead = watch::Sender::new(Duration::ZERO);
        Arc::new(Self { machine: SystemEnvironment::new(), ahead })
    }

    fn pass(&self, time: Duration) {
        self.ahead.send_modify(|ahead| *ahead += time);
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Environment for Moved {
    fn monotonic_ns(&self) -> u64 {
        self.machine.monotonic_ns().saturating_add(ns(*self.ahead.borrow()))
    }

    fn wall_ms(&self) -> i64 {
        let ahead = i64::try_from(self.ahead.borrow().as_millis()).unwrap_or(i64::MAX);
        self.machine.wall_ms().saturating_add(ahead)
    }

    fn random(&self, buffer: &mut [u8]) -> std::io::Result<()> {
        self.machine.random(buffer)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut ahead = self.ahead.subscribe();
        let machine = self.machine;
        let start = ns(*ahead.borrow_and_update()).saturating_add(machine.monotonic_ns());
        let end = start.saturating_add(ns(duration));
        Box::pin(async move {
            loop {
                let now = ns(*ahead.borrow_and_update()).saturating_add(machine.monotonic_ns());
                let Some(left) = end.checked_sub(now).filter(|left| *left > 0) else { return };
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_nanos(left)) => {}
                    moved = ahead.changed() => if moved.is_err() { return },
                }
            }
        })
    }

    /// An answer that is under way takes real time.
    fn limit(&self, duration: Duration) -> Sleep {
        self.machine.sleep(duration)
    }
}

fn client(cluster: &Cluster, environment: &Arc<Moved>) -> Result<LicenseClient> {
    let dev = &cluster.dev;
    Ok(LicenseClient::builder()
        .endpoints(dev.nodes.iter().map(|node| node.gateway.clone()))
        .credentials(&dev.app.client_id, &dev.app.client_secret)
        .tls_roots_pem(&std::fs::read(&dev.ca_cert)?)
        .connect_timeout(Duration::from_secs(1))
        .request_timeout(Duration::from_secs(2))
        .total_timeout(Duration::from_secs(6))
        .offline_store(MemoryStore::new())
        .environment(environment.clone())
        .build()?)
}

async fn verdict_is(lease: &Lease, what: &str, holds: impl Fn(&Verdict) -> bool) -> Result<()> {
    eventually(what, || async { holds(&lease.verdict()).then_some(()) }).await
}

fn kill_all(cluster: &mut Cluster) -> Result<()> {
    cluster.ids().into_iter().try_for_each(|id| cluster.kill(id))
}

async fn start_all(cluster: &mut Cluster) -> Result<()> {
    for id in cluster.ids() {
        cluster.start_node(id)?;
    }
    cluster.all_ready().await
}

/// Seats out and seats bought.
async fn seats(cluster: &Cluster) -> Result<(u64, u64)> {
    let path = format!("/admin/packages/{SAMPLE_PACKAGE}");
    let shown = cluster.api()?.admin(1, Method::GET, &path, None).await?.expect(200)?;
    let seats = &shown.body["seats"];
    let number = |field: &str| seats[field].as_u64().with_context(|| format!("{field}: {shown:?}"));
    let out = number("commit_in_use")? + number("overage_in_use")?;
    Ok((out, number("total")?))
}

const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

#[tokio::test(flavor = "multi_thread")]
async fn a_borrow_of_an_hour_carries_an_application_through_half_an_hour_without_servers()
-> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let environment = Moved::new();
    let client = client(&cluster, &environment)?;
    let lease = client.checkout("davinci-configurator-se", "alice@bmw.com").await?;
    let borrowed = lease.borrow(Duration::from_secs(3_600)).await?;
    ensure!(matches!(borrowed, Borrow::Granted { .. }), "{borrowed:?}");
    let (out, total) = seats(&cluster).await?;
    ensure!(out == 1 && out <= total, "{out} of {total}");
    kill_all(&mut cluster)?;
    let mut passed = Duration::ZERO;
    while passed < HALF_AN_HOUR {
        environment.pass(Duration::from_secs(300));
        passed += Duration::from_secs(300);
        ensure!(lease.verdict().permits_use(), "after {passed:?}: {:?}", lease.verdict());
        ensure!(matches!(lease.verdict(), Verdict::Held), "{passed:?}: {:?}", lease.verdict());
    }
    start_all(&mut cluster).await?;
    let (out, total) = seats(&cluster).await?;
    ensure!(out == 1 && out <= total, "the borrowed seat is not taken: {out} of {total}");
    lease.release().await?;
    ensure!(seats(&cluster).await?.0 == 0, "a released seat is taken");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_borrow_an_application_is_told_grace_and_then_lost() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let environment = Moved::new();
    let client = client(&cluster, &environment)?;
    let lease = client.checkout("davinci-configurator-se", "alice@bmw.com").await?;
    ensure!(matches!(lease.verdict(), Verdict::Held), "{:?}", lease.verdict());
    kill_all(&mut cluster)?;
    // The renewal is due after a third of the 15 minutes, and fails.
    environment.pass(Duration::from_secs(8 * 60));
    verdict_is(&lease, "the application is told of its grace", |verdict| {
        matches!(verdict, Verdict::Grace { .. })
    })
    .await?;
    ensure!(lease.verdict().permits_use(), "grace permits use: {:?}", lease.verdict());
    environment.pass(HALF_AN_HOUR - Duration::from_secs(8 * 60));
    verdict_is(&lease, "the application is told that its lease has ended", |verdict| {
        matches!(verdict, Verdict::Lost { .. })
    })
    .await?;
    start_all(&mut cluster).await?;
    let (out, total) = seats(&cluster).await?;
    ensure!(out <= 1 && out <= total, "{out} of {total}");
    ensure!(!lease.verdict().permits_use(), "a lost lease came back: {:?}", lease.verdict());
    Ok(())
}
