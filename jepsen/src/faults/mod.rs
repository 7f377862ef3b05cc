//! What is done to the cluster: each fault begins, has an effect, and is healed.
//!
//! A fault counts only by its effect: a process that died, bytes that were held back, a leader that
//! changed, a snapshot that was installed. What merely was ordered is not written as a `Hit`, and a
//! run in which an ordered fault never hit proves nothing about it.
//!
//! There are two lanes, each one fault at a time: what is done to the network, and what is done to
//! processes and disks. So faults of both kinds meet.

mod certs;
mod clock;
mod disk;
mod membership;
mod network;
mod process;
mod roll;
mod snapshot;
mod transfer;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Mutex;

use crate::cluster::Cluster;
use crate::cluster::status::Observer;
use crate::history::FaultPhase;
use crate::proxy::Network;
use crate::record::Recorder;
use crate::rng::Rng;
use crate::volume::Volume;
pub(crate) use disk::VOLUME_BYTES;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Processes are killed.
    Kill,
    /// Processes are stopped for a while.
    Pause,
    /// Nodes cannot hear each other.
    Partition,
    /// Some are heard and do not hear, or the other way.
    OneWay,
    /// Bytes come late, stall, or their connections break.
    Delay,
    /// Bytes come a few at a time.
    Drip,
    /// Clocks are set, or run at another rate.
    Clock,
    /// Disks are full.
    DiskFull,
    /// The power of disks is cut.
    Power,
    /// Nodes come and go.
    Membership,
    /// Leadership is handed on, again and again.
    TransferLeader,
    /// A node comes back so late that it is sent a snapshot.
    Snapshot,
    /// All nodes are restarted, one after the other.
    Rolling,
    /// Certificates are replaced.
    Certs,
}

/// All of them, in the order in which they are listed.
pub const FAULTS: [Fault; 14] = [
    Fault::Kill,
    Fault::Pause,
    Fault::Partition,
    Fault::OneWay,
    Fault::Delay,
    Fault::Drip,
    Fault::Clock,
    Fault::DiskFull,
    Fault::Power,
    Fault::Membership,
    Fault::TransferLeader,
    Fault::Snapshot,
    Fault::Rolling,
    Fault::Certs,
];

/// What a fault is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Links between nodes.
    Network,
    /// Processes, disks, members.
    Nodes,
}

impl Fault {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Delay => "delay",
            Self::Drip => "drip",
            Self::Clock => "clock",
            Self::DiskFull => "disk-full",
            Self::Power => "power",
            Self::Membership => "membership",
            Self::TransferLeader => "transfer-leader",
            Self::Snapshot => "snapshot",
            Self::Rolling => "rolling",
            Self::Certs => "certs",
        }
    }

    /// What it does, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL of one node, the leader, a majority or all; started again",
            Self::Pause => {
                "SIGSTOP of one node, the leader or all, for 0.5 to 10 election timeouts"
            }
            Self::Partition => "nodes cut off both ways: one, the leader, a majority, a bridge",
            Self::OneWay => "nodes that hear and are not heard, or the other way",
            Self::Delay => "delay and jitter of 20 to 400 ms; stalls and resets of connections",
            Self::Drip => "links that let 400 to 4,000 bytes a second through",
            Self::Clock => {
                "one node's wall clock set by a minute or an hour, or all its clocks at \
                            half or twice the rate"
            }
            Self::DiskFull => "one node's disk filled to the last byte, and freed again",
            Self::Power => "the power of one, a majority or all disks cut, no sync; mounted again",
            Self::Membership => "a node joins, another is removed",
            Self::TransferLeader => "leadership handed on several times a second",
            Self::Snapshot => "a node down until the log has moved on: it gets a snapshot",
            Self::Rolling => "every node drained and restarted in turn",
            Self::Certs => "every node makes new certificates while it serves",
        }
    }

    /// What it is done to.
    pub fn lane(self) -> Lane {
        match self {
            Self::Partition | Self::OneWay | Self::Delay | Self::Drip => Lane::Network,
            _ => Lane::Nodes,
        }
    }

    /// Whether each node's data must be on a file system of its own.
    pub fn needs_volumes(self) -> bool {
        matches!(self, Self::DiskFull | Self::Power)
    }

    /// Whether this machine can do it.
    ///
    /// # Errors
    /// The reason why not, in one line.
    pub fn possible(self) -> Result<(), String> {
        match self {
            Self::DiskFull | Self::Power => Volume::possible(),
            Self::Clock => faketime_library().map(drop),
            _ => Ok(()),
        }
    }
}

/// Names of faults, with commas; `all` is every one, `none` is none.
///
/// # Errors
/// When a name is no fault's.
pub fn parse(text: &str) -> Result<Vec<Fault>, String> {
    let mut found = BTreeSet::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "all" => found.extend(FAULTS),
            "none" => {}
            name => {
                let fault = FAULTS.into_iter().find(|fault| fault.name() == name);
                found.insert(fault.ok_or_else(|| {
                    let mut known = String::new();
                    for fault in FAULTS {
                        let _ = write!(known, "{}, ", fault.name());
                    }
                    format!("no fault is called `{name}`; there are {known}all, none")
                })?);
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// Where the library is that sets a process's clocks.
///
/// # Errors
/// When it is not installed.
pub fn faketime_library() -> Result<PathBuf, String> {
    const PLACES: &[&str] = &[
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
        "/usr/lib/faketime/libfaketimeMT.so.1",
        "/usr/local/lib/faketime/libfaketimeMT.so.1",
    ];
    let found = PLACES.iter().map(Path::new).find(|path| path.exists());
    found
        .map(Path::to_owned)
        .ok_or_else(|| "libfaketime is not installed (Debian: apt-get install faketime)".to_owned())
}

/// What faults are done to.
#[derive(Debug)]
pub struct Arena {
    /// The cluster; whoever changes processes holds it.
    pub cluster: Mutex<Cluster>,
    /// The proxies.
    pub network: Arc<Network>,
    /// Who asks nodes how they are.
    pub observer: Observer,
    /// The history.
    pub recorder: Arc<Recorder>,
    /// The upper election timeout, in milliseconds.
    pub election_ms: u64,
    /// Set when nothing new is to be begun.
    pub stop: AtomicBool,
    /// What was seen that no fault explains.
    pub findings: std::sync::Mutex<Vec<String>>,
}

impl Arena {
    fn start(&self, fault: Fault, targets: &[u64], detail: &str) {
        self.recorder.fault(fault.name(), FaultPhase::Start, targets, detail);
    }

    /// Writes that a fault had an effect.
    fn hit(&self, fault: Fault, targets: &[u64], detail: &str) {
        self.recorder.fault(fault.name(), FaultPhase::Hit, targets, detail);
    }

    fn end(&self, fault: Fault, targets: &[u64], detail: &str) {
        self.recorder.fault(fault.name(), FaultPhase::End, targets, detail);
    }

    /// Notes what no fault explains.
    pub fn find(&self, what: String) {
        eprintln!("  finding: {what}");
        let mut findings = self.findings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        findings.push(what);
    }

    /// Finds nodes that have ended although nobody ended them, and starts them again.
    ///
    /// # Errors
    /// When one does not get ready again.
    pub async fn look_after_processes(&self) -> Result<()> {
        let mut cluster = self.cluster.lock().await;
        let ids = cluster.ids();
        for id in &ids {
            if let Some(status) = cluster.node_mut(*id)?.ended() {
                self.find(format!("node {id} ended by itself: {status}; see node-{id}.log"));
            }
        }
        self.bring_up(&mut cluster, &ids).await
    }

    /// Whether nothing new is to be begun.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits so long, or until the run ends.
    pub async fn hold(&self, how_long: Duration) {
        let until = self.recorder.clock().elapsed() + how_long;
        while !self.is_stopping() {
            let left = until.saturating_sub(self.recorder.clock().elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(50))).await;
        }
    }

    /// Starts again what is down, and waits until it serves.
    async fn bring_up(&self, cluster: &mut Cluster, ids: &[u64]) -> Result<()> {
        for id in ids {
            if !cluster.node_mut(*id)?.is_up() {
                cluster.node_mut(*id)?.kill().await?;
                cluster.start(*id)?;
            }
        }
        for id in ids {
            cluster.ready(*id).await?;
        }
        Ok(())
    }
}

/// Does a fault once, from its beginning to its end.
///
/// # Errors
/// When the cluster could not be brought back: nothing that follows would mean anything.
pub async fn inject(fault: Fault, arena: &Arena, rng: &mut Rng) -> Result<()> {
    match fault {
        Fault::Kill => process::kill(arena, rng).await,
        Fault::Pause => process::pause(arena, rng).await,
        Fault::Partition | Fault::OneWay | Fault::Delay | Fault::Drip => {
            network::disturb(fault, arena, rng).await
        }
        Fault::Clock => clock::disturb(arena, rng).await,
        Fault::DiskFull => disk::fill(arena, rng).await,
        Fault::Power => disk::cut(arena, rng).await,
        Fault::Membership => membership::change(arena, rng).await,
        Fault::TransferLeader => transfer::storm(arena, rng).await,
        Fault::Snapshot => snapshot::install(arena, rng).await,
        Fault::Rolling => roll::roll(arena, rng).await,
        Fault::Certs => certs::rotate(arena, rng).await,
    }
}

/// Whom a fault is for.
async fn victims(arena: &Arena, rng: &mut Rng, ids: &[u64], how_many: HowMany) -> Vec<u64> {
    let shuffled = rng.shuffled(ids);
    match how_many {
        HowMany::One => shuffled.into_iter().take(1).collect(),
        HowMany::Leader => match arena.observer.leader().await {
            Some((leader, _)) if ids.contains(&leader) => vec![leader],
            _ => shuffled.into_iter().take(1).collect(),
        },
        HowMany::Majority => shuffled.into_iter().take(ids.len() / 2 + 1).collect(),
        HowMany::All => ids.to_vec(),
    }
}

/// How many are hurt at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HowMany {
    One,
    Leader,
    Majority,
    All,
}

impl HowMany {
    const EVERY: [Self; 4] = [Self::One, Self::Leader, Self::Majority, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Leader => "the leader",
            Self::Majority => "a majority",
            Self::All => "all",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_as_on_the_command_line() {
        assert_eq!(parse("all").unwrap().len(), FAULTS.len());
        assert_eq!(parse("none").unwrap(), []);
        assert_eq!(parse("pause,kill, kill").unwrap(), [Fault::Kill, Fault::Pause]);
        let error = parse("kill,flood").unwrap_err();
        assert!(error.contains("`flood`") && error.contains("disk-full"), "{error}");
        let names: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), FAULTS.len());
    }
}
