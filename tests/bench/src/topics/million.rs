//! A million live leases in one cluster: what they cost in memory and CPU, how fast all of it is
//! back after all nodes were killed, and how fast an empty node has it.
//!
//! Seats are taken through the public API by 256 clients, for 100,000 people on as many hosts, and
//! stay taken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use procfs::process::Process;
use rustix::process::Signal;
use storage::seam::{Clock, RealClock};
use tokio::task::JoinSet;

use super::{Found, Settings, load_for};
use crate::load::latency::median;
use crate::load::{Driven, Pace, Session, drive};
use crate::plan::{Placement, Topic, Workload};
use crate::progress::Progress;
use crate::systems::leasehold::Leasehold;
use crate::systems::leasehold::session::{Job, PEOPLE};
use crate::turns::megabytes;

/// Keeps what a topic found.
type Keep<'a> = dyn FnMut(Topic, Found) -> Result<()> + 'a;

/// Measures topics on one cluster.
pub(super) async fn run(
    topics: &[Topic],
    settings: &Settings,
    progress: &Progress,
    keep: &mut Keep<'_>,
) -> Result<()> {
    progress.doing("founding a cluster for many leases");
    let mut system = Leasehold::found().await?;
    system.prepare(Workload::Checkout, 0, &|_| {}).await?;
    let few = if topics.contains(&Topic::Growth) {
        fill(&mut system, FEW.min(settings.live_leases), progress).await?;
        Some(cost(&system, settings).await?)
    } else {
        None
    };
    let before = system.probe()?.usage()?.resident_bytes;
    fill(&mut system, settings.live_leases, progress).await?;
    if topics.contains(&Topic::Memory) {
        keep(Topic::Memory, memory(&system, &before, progress).await?)?;
    }
    if let Some(few) = few {
        progress.doing("the cost of a checkout with many leases");
        let full = cost(&system, settings).await?;
        keep(Topic::Growth, growth(&few, &full))?;
    }
    if topics.contains(&Topic::Restart) {
        keep(Topic::Restart, restart(&mut system, settings, progress).await?)?;
    }
    if topics.contains(&Topic::Snapshot) {
        keep(Topic::Snapshot, snapshot(&mut system, settings, progress).await?)?;
    }
    Ok(())
}

async fn fill(system: &mut Leasehold, leases: usize, progress: &Progress) -> Result<()> {
    let told = AtomicUsize::new(system.held());
    let tell = |held: usize| {
        if held >= told.load(Ordering::Relaxed) + TELL_EVERY {
            told.store(held, Ordering::Relaxed);
            progress.doing(format!("taking seats: {held} of {leases}"));
        }
    };
    system.hold(leases, &tell).await.context("cannot take so many seats")
}

/// Cycles of 64 clients.
async fn cost(system: &Leasehold, settings: &Settings) -> Result<Driven> {
    let sessions = system.cycling(COST_CLIENTS).await?;
    load_for(sessions, settings.warm_up, settings.counted * 2, &system.probe()?).await
}

fn growth(few: &Driven, full: &Driven) -> Found {
    let mut found = Found::default();
    for (name, driven) in [("few", few), ("full", full)] {
        let operations = driven.operations as f64;
        let cpu_s_per_1000 = driven.server_cpu_s / operations * 1_000.0;
        found.figure(&format!("cpu_s_per_1000_{name}"), cpu_s_per_1000);
        found.figure(&format!("p50_ms_{name}"), driven.quantiles.p50_ms);
        found.figure(&format!("p99_ms_{name}"), driven.quantiles.p99_ms);
        found.figure(&format!("per_second_{name}"), operations / driven.seconds);
    }
    found.notes.push(format!("cycles of checkout and return, {COST_CLIENTS} clients"));
    found
}

async fn memory(system: &Leasehold, before: &[u64], progress: &Progress) -> Result<Found> {
    let mut found = Found::default();
    progress.doing(format!("memory: {} s of quiet", QUIET.as_secs()));
    tokio::time::sleep(QUIET).await;
    let probe = system.probe()?;
    let quiet = probe.usage()?.resident_bytes;
    let mut peaks = Vec::new();
    for pid in &probe.pids {
        let status = Process::new(*pid)?.status()?;
        peaks.push(status.vmhwm.unwrap_or(0) * 1_024);
    }
    found.figure("resident_before_mb", megabytes(largest(before)));
    found.figure("resident_mb", megabytes(largest(&quiet)));
    found.figure("peak_mb", megabytes(largest(&peaks)));
    found.figure("leases", most(&system.sample("leasehold_leases").await?));
    found.figure("names_kept", most(&system.sample("leasehold_subjects").await?));
    let megabytes_of = |bytes: &[u64]| bytes.iter().map(|bytes| megabytes(*bytes)).collect();
    found.series.insert("resident_by_node_mb".to_owned(), megabytes_of(&quiet));
    progress.doing("memory: the request-id table under full load");
    let sessions = system.cycling(FILLED_BY).await?;
    let counted = async {
        tokio::time::sleep(FULL_LOAD).await;
        Ok(most(&system.sample("leasehold_idempotency_keys").await?))
    };
    let (driven, rows) = drive(sessions, Pace::Closed, Duration::ZERO, &probe, counted).await?;
    let grown = largest(&driven.resident_bytes).saturating_sub(largest(&quiet));
    found.figure("request_rows", rows);
    found.figure("request_table_mb", megabytes(grown));
    found.figure("request_cycles_per_second", driven.operations as f64 / driven.seconds);
    found.notes.push(format!(
        "seats of {PEOPLE} people on as many hosts; resident memory of the largest node after \
         {} s of quiet",
        QUIET.as_secs()
    ));
    found.notes.push(format!(
        "request_table_mb: by how much that grew in {} s of full load, audit events included; \
         the server counts rows and not their bytes",
        FULL_LOAD.as_secs()
    ));
    Ok(found)
}

async fn restart(
    system: &mut Leasehold,
    settings: &Settings,
    progress: &Progress,
) -> Result<Found> {
    let (clock, entrance) = (RealClock::new(), system.entrance().await?);
    let mut gaps_s = Vec::new();
    for kill in 1..=settings.restarts {
        progress.doing(format!("all nodes killed, {kill} of {}", settings.restarts));
        tokio::time::sleep(BEFORE_A_KILL).await;
        let killed_ns = clock.monotonic_ns();
        for id in system.cluster.ids() {
            system.cluster.signal(id, Signal::KILL)?;
        }
        for id in system.cluster.ids() {
            system.cluster.kill(id)?;
            system.cluster.start(id)?;
        }
        let mut waiting = JoinSet::new();
        for node in 0..entrance.addresses.len() {
            let entrance = entrance.clone();
            waiting.spawn(async move {
                loop {
                    if let Ok(mut session) = entrance.session(node, node, Job::Cycle).await
                        && session.operate().await.is_ok()
                    {
                        return clock.monotonic_ns();
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            });
        }
        let first = tokio::time::timeout(GIVES_UP_AFTER, waiting.join_next()).await;
        let served_ns = first.context("nobody is served")?.context("nobody waits")??;
        gaps_s.push((served_ns - killed_ns) as f64 / 1e9);
        system.ready().await?;
    }
    let mut found = Found::default();
    found.figure("median_s", median(gaps_s.iter().copied()).context("no node was killed")?);
    found.figure("worst_s", gaps_s.iter().copied().fold(0.0, f64::max));
    found.figure("leases", most(&system.sample("leasehold_leases").await?));
    found.series.insert("gaps_s".to_owned(), gaps_s);
    found.notes.push("from the kill to the end of the first checkout and return".to_owned());
    Ok(found)
}

async fn snapshot(
    system: &mut Leasehold,
    settings: &Settings,
    progress: &Progress,
) -> Result<Found> {
    // The checkpoint of what was written before would be taken for the steady load's own.
    progress.doing(format!("snapshot: {} s of quiet", QUIET.as_secs()));
    tokio::time::sleep(QUIET).await;
    progress.doing("a steady load before the snapshot");
    let pace = Pace::Open { per_second: STEADY_PER_SECOND };
    let before = steady(system, pace, settings).await?;
    // Clients stay at the nodes that there were, and so does what is looked at.
    let (probe, entrance) = (system.probe()?, system.entrance().await?);
    let mut sessions = Vec::new();
    for client in 0..STEADY_CLIENTS {
        let node = client % entrance.addresses.len();
        sessions.push(entrance.session(node, client, Job::Take).await?);
    }
    // The new node is made before the clock runs; what is timed begins with its process.
    let id = system.cluster.join_new(&[])?;
    progress.doing("a snapshot to an empty node, under a steady load");
    let clock = RealClock::new();
    let cluster = &mut system.cluster;
    let counted = async {
        let started_ns = clock.monotonic_ns();
        cluster.start(id)?;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let members = cluster.members().await?;
            let found = members.iter().find(|member| member["node_id"] == id);
            let is_in = found.is_some_and(|it| it["part"] == "voter" && it["joining"] == false);
            let took_s = (clock.monotonic_ns() - started_ns) as f64 / 1e9;
            if is_in {
                return Ok(took_s);
            }
            if took_s > GIVES_UP_AFTER.as_secs_f64() {
                bail!("node {id} does not vote after {took_s:.0} s");
            }
        }
    };
    let (during, took_s) = drive(sessions, pace, settings.warm_up, &probe, counted).await?;
    let mut found = Found::default();
    found.figure("snapshot_s", took_s);
    found.figure("p99_before_ms", before.quantiles.p99_ms);
    found.figure("p99_during_ms", during.quantiles.p99_ms);
    found.figure("p50_before_ms", before.quantiles.p50_ms);
    found.figure("p50_during_ms", during.quantiles.p50_ms);
    found.figure("max_during_ms", during.quantiles.max_ms);
    found.figure("per_second", STEADY_PER_SECOND as f64);
    let last = |samples: Vec<f64>| samples.last().copied().unwrap_or(0.0);
    let installed = last(system.sample("leasehold_network_snapshots_installed_total").await?);
    found.figure("snapshots_installed", installed);
    found.figure("leases", last(system.sample("leasehold_leases").await?));
    if installed < 1.0 {
        found.notes.push("the new node caught up by the log, without a snapshot".to_owned());
    }
    found.notes.push("from the start of the new node's process until it votes".to_owned());
    Ok(found)
}

/// An open loop of checkouts.
async fn steady(system: &Leasehold, pace: Pace, settings: &Settings) -> Result<Driven> {
    let sessions = system.sessions(Workload::Checkout, Placement::Spread, STEADY_CLIENTS).await?;
    let counted = async {
        tokio::time::sleep(settings.counted * 3).await;
        Ok(())
    };
    let (driven, ()) = drive(sessions, pace, settings.warm_up, &system.probe()?, counted).await?;
    Ok(driven)
}

fn largest(bytes: &[u64]) -> u64 {
    bytes.iter().copied().max().unwrap_or(0)
}

fn most(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(0.0, f64::max)
}

const FEW: usize = 1_000;
const COST_CLIENTS: usize = 64;
const FILLED_BY: usize = 256;
const TELL_EVERY: usize = 5_000;
/// Longer than the server remembers requests that showed no key.
pub(super) const QUIET: Duration = Duration::from_secs(40);
/// As long as it does.
pub(super) const FULL_LOAD: Duration = Duration::from_secs(30);
const BEFORE_A_KILL: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(5);
const GIVES_UP_AFTER: Duration = Duration::from_secs(300);
/// A quarter of what a hot pool must hold.
const STEADY_PER_SECOND: u64 = 500;
const STEADY_CLIENTS: usize = 64;
const LOOK_EVERY: Duration = Duration::from_millis(200);
