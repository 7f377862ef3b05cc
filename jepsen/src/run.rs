//! One run: a cluster, clients, faults from a seed, and what is left of it in a directory.
//!
//! ```text
//! jepsen/store/WORKLOAD-FAULTS-SEED/
//!   header.json history.jsonl history.edn     what was asked and answered
//!   audit-N.jsonl states.json final.json      what the nodes said at the end
//!   node-N.log metrics-N.txt ca.pem vendor/   what is left of them
//!   rig.json verdict.json report.html         what the rig and the checkers found
//! ```
//!
//! The order: found, sell packages, let clients loose, inject faults for the time that was
//! asked for and until each was begun once, heal, a calm while with clients, a calm while without,
//! gather.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::clock::Stopwatch;
use crate::cluster::packages::{Imported, Vendor};
use crate::cluster::{Cluster, Plan};
use crate::faults::{self, Arena, Fault, Lane};
use crate::finish::{self, Rig, Standing};
use crate::history::Header;
use crate::machine;
use crate::nemesis::{self, Span};
use crate::proxy::Network;
use crate::record::Recorder;
use crate::workloads::{Client, Shared, Workload};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The workload.
    pub workload: &'static Workload,
    /// The faults, as far as this machine can do them.
    pub faults: Vec<Fault>,
    /// Those that were asked for by name and that it cannot do, with the reason.
    pub skipped: Vec<(String, String)>,
    /// How long faults are injected, at least.
    pub seconds: u64,
    /// What all choices are drawn from.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// `lan`, `region` or `global`.
    pub preset: String,
    /// The release binary.
    pub binary: PathBuf,
    /// Where runs are kept.
    pub store: PathBuf,
    /// Whether the nodes' data is kept, too.
    pub keeps_data: bool,
}

impl Setup {
    /// Divides faults into those that this machine can do and the others.
    pub fn sort_out(asked: &[Fault]) -> (Vec<Fault>, Vec<(String, String)>) {
        let (mut can, mut cannot) = (Vec::new(), Vec::new());
        for fault in asked {
            match fault.possible() {
                Ok(()) => can.push(*fault),
                Err(why) => cannot.push((fault.name().to_owned(), why)),
            }
        }
        (can, cannot)
    }

    /// The run's directory.
    pub fn dir(&self) -> PathBuf {
        let names: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
        let faults = match names.len() {
            0 => "none".to_owned(),
            1..=4 => names.join("+"),
            many => format!("{many}-faults"),
        };
        self.store.join(format!("{}-{faults}-{}", self.workload.name, self.seed))
    }

    fn election_ms(&self) -> u64 {
        match self.preset.as_str() {
            "global" => 3_600,
            "region" => 1_100,
            _ => 300,
        }
    }

    fn plan(&self, dir: &Path) -> Result<Plan> {
        let has = |chosen: fn(Fault) -> bool| self.faults.iter().copied().any(chosen);
        let faketime = match has(|fault| fault == Fault::Clock) {
            true => Some(faults::faketime_library().map_err(anyhow::Error::msg)?),
            false => None,
        };
        Ok(Plan {
            binary: self.binary.clone(),
            run_dir: dir.to_owned(),
            nodes: self.nodes,
            preset: self.preset.clone(),
            volume_bytes: has(Fault::needs_volumes).then_some(faults::VOLUME_BYTES),
            faketime,
            small_log: has(|fault| fault == Fault::Snapshot),
        })
    }
}

/// Does a run; gives its directory.
///
/// # Errors
/// When the rig cannot do it. What the cluster does wrong is no error: it is in the directory.
pub async fn run(setup: &Setup) -> Result<PathBuf> {
    let dir = setup.dir();
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let network = Network::new(setup.seed);
    let founding = Stopwatch::start();
    let cluster = Cluster::found(setup.plan(&dir)?, network.clone()).await?;
    let vendor = Vendor::trusted(&cluster).await?;
    let mut packages = Vec::new();
    for wanted in setup.workload.wanted() {
        packages.push(vendor.sell(&cluster, &wanted).await?);
    }
    let took = founding.elapsed().as_secs_f64();
    eprintln!("  {} nodes are up after {took:.1} s", setup.nodes);
    let header = header(setup, &cluster, &packages);
    let recorder = Recorder::create(&dir, &header, Stopwatch::start())?;
    let shared = Shared::new(
        setup.workload,
        packages.clone(),
        (cluster.directory(), network.clone()),
        recorder.clone(),
        &cluster.operator(),
    );
    let arena = Arc::new(Arena {
        observer: cluster.observer()?,
        cluster: Mutex::new(cluster),
        network,
        recorder: recorder.clone(),
        election_ms: setup.election_ms(),
        stop: AtomicBool::new(false),
        findings: std::sync::Mutex::default(),
    });
    let ended = act(setup, &arena, &shared).await;
    let healed = heal(&arena, &shared).await;
    let gathered = match healed {
        Ok(()) => {
            let operator = arena.cluster.lock().await.operator();
            let standing = Standing { observer: &arena.observer, operator };
            finish::gather(&dir, &standing, &packages).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = gathered {
        arena.find(format!("the cluster did not come back: {error:#}"));
    }
    recorder.flush()?;
    arena.cluster.lock().await.end().await;
    let findings = arena.findings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let rig =
        Rig { findings: findings.clone(), skipped: setup.skipped.clone(), is_cut_short: ended? };
    rig.write(&dir)?;
    if !setup.keeps_data {
        // Only what nodes stored: logs, metrics and evidence stay.
        let _ = fs::remove_dir_all(dir.join("nodes"));
    }
    Ok(dir)
}

fn header(setup: &Setup, cluster: &Cluster, packages: &[Imported]) -> Header {
    Header {
        workload: setup.workload.name.to_owned(),
        faults: setup.faults.iter().map(|fault| fault.name().to_owned()).collect(),
        seed: setup.seed,
        commit: machine::commit(&setup.binary),
        nodes: cluster.ids(),
        packages: packages.iter().map(|package| package.terms.clone()).collect(),
        election_timeout_ms: setup.election_ms(),
        epsilon: EPSILON,
    }
}

/// Clients and faults, until the time is over, and a calm while; whether it was cut short.
async fn act(setup: &Setup, arena: &Arc<Arena>, shared: &Arc<Shared>) -> Result<bool> {
    let mut clients = JoinSet::new();
    for number in 0..setup.workload.clients {
        clients.spawn(Client::new(number, shared.clone(), setup.seed)?.live());
    }
    let at_least = Duration::from_secs(setup.seconds);
    let faults_left = u32::try_from(setup.faults.len()).unwrap_or(u32::MAX);
    let span = Span { at_least, at_most: at_least + PER_FAULT.saturating_mul(faults_left) };
    let mut lanes = JoinSet::new();
    for lane in [Lane::Network, Lane::Nodes] {
        let faults = setup.faults.clone();
        lanes.spawn(nemesis::run(arena.clone(), lane, faults, setup.seed, span));
    }
    lanes.spawn(at_least_so_long(arena.clone(), at_least));
    let mut is_cut_short = false;
    let mut shown = tokio::time::interval(SHOW_EVERY);
    shown.tick().await;
    while !lanes.is_empty() {
        tokio::select! {
            ended = lanes.join_next() => {
                if let Some(Err(error)) = ended.map(|ended| ended.map_err(Into::into).flatten()) {
                    arena.find(format!("{error:#}"));
                    arena.stop.store(true, Ordering::Relaxed);
                }
            }
            ended = clients.join_next() => {
                // A client ends before it is told only when the rig fails.
                ended.context("there are no clients")???;
            }
            _ = shown.tick() => show(arena),
            _ = tokio::signal::ctrl_c(), if !is_cut_short => {
                eprintln!("  cut short: healing and gathering");
                is_cut_short = true;
                arena.stop.store(true, Ordering::Relaxed);
            }
        }
    }
    arena.network.heal_nodes();
    // Clients go on for a while, so that what is expected of a healed cluster can be seen.
    tokio::time::sleep(Duration::from_millis(2 * arena.election_ms) + CALM).await;
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    show(arena);
    Ok(is_cut_short)
}

async fn at_least_so_long(arena: Arc<Arena>, at_least: Duration) -> Result<()> {
    arena.hold(at_least).await;
    Ok(())
}

fn show(arena: &Arena) {
    let counts = arena.recorder.counts();
    let (ok, fail, info) = counts.totals();
    let hits: Vec<String> =
        counts.hits.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let hits = if hits.is_empty() { "none".to_owned() } else { hits.join(", ") };
    let seconds = arena.recorder.clock().elapsed().as_secs();
    eprintln!("  {seconds:>4} s  {ok} ok, {fail} refused, {info} unknown; faults that hit: {hits}");
}

/// Takes every fault back, waits until all nodes serve, and until leases that nobody renews are
/// over.
async fn heal(arena: &Arena, shared: &Shared) -> Result<()> {
    arena.network.heal();
    arena.look_after_processes().await?;
    arena.observer.wait_leader().await?;
    let longest = shared.packages.iter().map(|package| package.terms.ttl_ms).max().unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(longest) + AFTER_THE_LAST_LEASE).await;
    Ok(())
}

/// How far the rate of the lease clock may be off, as a part of one: the design says 1 %, and the
/// rig's own clock is another.
const EPSILON: f64 = 0.02;
/// A fault takes so long with its pauses, where the time that was asked for does not reach.
const PER_FAULT: Duration = Duration::from_secs(20);
/// Beyond two election timeouts: longer than clients may be without service after a fault.
const CALM: Duration = Duration::from_millis(5_700);
const AFTER_THE_LAST_LEASE: Duration = Duration::from_secs(2);
const SHOW_EVERY: Duration = Duration::from_secs(10);
