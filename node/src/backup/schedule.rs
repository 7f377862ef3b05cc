//! Backups that a node takes by itself, into a directory, by its own monotonic clock.
//!
//! Each is the state that this node has applied, be it behind the others or without a quorum, and
//! is there whole and verified or not at all. Older ones go only after a new one is there. A backup
//! that fails is a line in the log and is tried again in five minutes, or sooner where the period
//! is shorter; it stops nothing.
//!
//! Nodes, and clusters, may share a directory: a file's name says which node of which cluster took
//! it, and a node looks at and removes its own alone. A node that starts looks at the newest of
//! them: when that is older than the period, one is due at once.
//!
//! On the file system of the data a backup leaves the node the space below which `NOSPACE` stands:
//! it is given up before it would take of that.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cli::Exit;
use cli::local::Trouble;
use gateway::OrderError;
use lease::ids::NodeId;
use raft::Cluster;
use storage::seam::Clock;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::inspect::{self, Named, SnapshotFile};
use super::write::{TEMPORARY, Writing};
use crate::config::alarms::MinFree;
use crate::config::chain;
use crate::watch::room::{Bounds, Sizes};

/// Where backups go, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The directory; made when it is not there.
    pub(crate) directory: PathBuf,
    /// Between two.
    pub(crate) every: Duration,
    /// How many are kept.
    pub(crate) keep: usize,
    /// The cluster of the node that takes them.
    pub(crate) cluster_id: String,
    /// That node.
    pub(crate) node: NodeId,
    /// Where its data is.
    pub(crate) data_dir: PathBuf,
    /// What must stay free there.
    pub(crate) min_free: MinFree,
}

impl Schedule {
    fn is_own(&self, cluster_id: &str, node: Option<NodeId>) -> bool {
        cluster_id == self.cluster_id && node == Some(self.node)
    }

    /// The node's own files.
    fn files(&self) -> Result<Vec<SnapshotFile>, Trouble> {
        let mut files = inspect::files_of(&self.directory)?;
        files.retain(|file| self.is_own(&file.cluster_id, file.node));
        Ok(files)
    }
}

type Answer = oneshot::Sender<Result<String, String>>;

/// The way to ask for a backup now, and what is known of the last.
pub(crate) struct BackupOrders {
    orders: Option<mpsc::Sender<Answer>>,
    last_at_s: Arc<AtomicI64>,
}

impl BackupOrders {
    /// With a task that carries them out, where backups are configured.
    pub(crate) fn new(
        schedule: Option<Schedule>,
        cluster: &Cluster,
        clock: &Arc<dyn Clock>,
    ) -> (Self, Option<Backups>) {
        let last_at_s = Arc::new(AtomicI64::new(0));
        let Some(schedule) = schedule else {
            return (Self { orders: None, last_at_s }, None);
        };
        let (orders, asked) = mpsc::channel(1);
        let backups = Backups {
            schedule,
            cluster: cluster.clone(),
            clock: Arc::clone(clock),
            asked,
            last_at_s: Arc::clone(&last_at_s),
        };
        (Self { orders: Some(orders), last_at_s }, Some(backups))
    }

    /// Unix seconds of the newest backup that was finished; 0: none.
    pub(crate) fn last_at_s(&self) -> i64 {
        self.last_at_s.load(Ordering::Relaxed)
    }

    /// Has one written now.
    pub(crate) async fn save(&self, deadline: Duration) -> Result<String, OrderError> {
        let Some(orders) = &self.orders else {
            let why = "this node takes no backups: set [snapshots] directory in its node.toml";
            return Err(OrderError::Refused(why.to_owned()));
        };
        let (answer, answered) = oneshot::channel();
        if orders.try_send(answer).is_err() {
            return Err(OrderError::Refused("a backup was asked for already; wait".to_owned()));
        }
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(reason))) => Err(OrderError::Failed(reason)),
            Ok(Err(_)) => Err(OrderError::Failed("the node stops".to_owned())),
            Err(_) => Err(OrderError::Failed(
                "the backup goes on and was not finished in the time of this call".to_owned(),
            )),
        }
    }
}

/// The task.
pub(crate) struct Backups {
    schedule: Schedule,
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    asked: mpsc::Receiver<Answer>,
    last_at_s: Arc<AtomicI64>,
}

impl Backups {
    /// Runs as long as the node does.
    pub(crate) async fn run(mut self) {
        let mut wait = self.first_wait().await;
        loop {
            let answer = tokio::select! {
                () = tokio::time::sleep(wait) => None,
                asked = self.asked.recv() => match asked {
                    Some(answer) => Some(answer),
                    None => return,
                },
            };
            let saved = self.save().await;
            match &saved {
                Ok(done) => {
                    wait = self.schedule.every;
                    info!(backup = done, "backup written");
                }
                Err(reason) => {
                    wait = self.schedule.every.min(RETRY);
                    let again_in_s = wait.as_secs();
                    error!(reason, again_in_s, "no backup was written");
                }
            }
            if let Some(answer) = answer {
                // Whoever asked may have gone.
                let _ = answer.send(saved);
            }
        }
    }

    /// Until the first is due: the wall clock tells the age of a file, nothing else does.
    async fn first_wait(&self) -> Duration {
        let schedule = self.schedule.clone();
        let listed = tokio::task::spawn_blocking(move || newest_ms(&schedule)).await;
        let Some(newest_ms) = listed.ok().flatten() else { return Duration::ZERO };
        self.last_at_s.store(newest_ms / 1_000, Ordering::Relaxed);
        let age_ms = self.clock.wall_ms().saturating_sub(newest_ms);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        self.schedule.every.saturating_sub(age)
    }

    async fn save(&self) -> Result<String, String> {
        let id = {
            let ledger = self.cluster.ledger();
            ledger.cluster().map(|it| (it.cluster_id.to_string(), it.epoch))
        };
        let Some((cluster_id, epoch)) = id else {
            return Err("the cluster is not founded yet".to_owned());
        };
        let held = self.cluster.local_backup().await.map_err(|error| chain(&error))?;
        let index = held.meta().applied.map_or(0, |applied| applied.index);
        let schedule = self.schedule.clone();
        let name = inspect::file_name_of(&cluster_id, epoch, index, schedule.node);
        let written = tokio::task::spawn_blocking(move || {
            let written = write(&schedule, &name, &held);
            drop(held);
            let written = written.map_err(|trouble| trouble.message)?;
            retire(&schedule);
            Ok(written)
        });
        let path = written.await.unwrap_or_else(|panicked| Err(panicked.to_string()))?;
        self.last_at_s.store(self.clock.wall_ms() / 1_000, Ordering::Relaxed);
        Ok(path.display().to_string())
    }
}

/// Writes one, unless the very same is there.
fn write(
    schedule: &Schedule,
    name: &str,
    held: &storage::state::SnapshotHandle,
) -> Result<PathBuf, Trouble> {
    use storage::seam::{Disk, RealDisk};
    let dir = &schedule.directory;
    RealDisk.create_dir_all(dir).map_err(|error| super::io_trouble(dir, &error))?;
    clear_leftovers(schedule);
    let target = dir.join(name);
    if target.exists() {
        return Ok(target);
    }
    let kept_free = KeptFree::of(schedule)?;
    kept_free.check()?;
    let mut writing = Writing::begin(target)?;
    let mut looked_at = 0;
    let chunks = held.chunks().map_err(|error| super::restore::failed(&error))?;
    for chunk in chunks {
        let chunk = chunk.map_err(|error| super::restore::failed(&error))?;
        writing.write(&chunk).map_err(|error| super::write::not_written(dir, &error))?;
        if writing.bytes - looked_at >= LOOK_EVERY_BYTES {
            looked_at = writing.bytes;
            kept_free.check()?;
        }
    }
    writing.finish().map(|(path, _)| path)
}

/// Space that a backup leaves free.
struct KeptFree<'a> {
    dir: &'a Path,
    /// 0: it is not on the file system of the data, and may fill it.
    bytes: u64,
}

impl<'a> KeptFree<'a> {
    fn of(schedule: &'a Schedule) -> Result<Self, Trouble> {
        let (dir, data_dir) = (&schedule.directory, &schedule.data_dir);
        let device = |path: &Path| {
            let found = fs::metadata(path).map_err(|error| super::io_trouble(path, &error))?;
            Ok::<_, Trouble>(found.dev())
        };
        if device(dir)? != device(data_dir)? {
            return Ok(Self { dir, bytes: 0 });
        }
        let (total_bytes, _) = space(data_dir)?;
        let state_bytes = Sizes::of(data_dir).state_bytes;
        let bounds = Bounds::of(schedule.min_free, total_bytes, state_bytes);
        Ok(Self { dir, bytes: bounds.alarm_bytes })
    }

    fn check(&self) -> Result<(), Trouble> {
        if self.bytes == 0 {
            return Ok(());
        }
        let (_, free_bytes) = space(self.dir)?;
        if free_bytes >= self.bytes {
            return Ok(());
        }
        let message = format!(
            "{}: {free_bytes} bytes are free and the node's data, on the same file system, needs \
             {}; make room, or set [snapshots] directory to another file system",
            self.dir.display(),
            self.bytes
        );
        Err(Trouble::new(Exit::Failed, "no_space", message))
    }
}

/// Bytes of a file system, and those of them that are free.
fn space(path: &Path) -> Result<(u64, u64), Trouble> {
    let disk = rustix::fs::statvfs(path)
        .map_err(|error| super::io_trouble(path, &io::Error::from(error)))?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok((bytes(disk.f_blocks), bytes(disk.f_bavail)))
}

/// Removes what is beyond the number that is kept, oldest first; what cannot be removed is said.
pub(super) fn retire(schedule: &Schedule) {
    let mut files = match schedule.files() {
        Ok(files) => files,
        Err(trouble) => return warn!(reason = trouble.message, "old backups were not looked at"),
    };
    files.sort();
    let beyond = files.len().saturating_sub(schedule.keep.max(1));
    for SnapshotFile { name, .. } in files.drain(..beyond) {
        let path = schedule.directory.join(&name);
        match fs::remove_file(&path) {
            Ok(()) => info!(file = name, "old backup removed"),
            Err(error) => warn!(file = name, %error, "an old backup was not removed"),
        }
    }
}

/// Files of a process of this node that died while it wrote one: while this one runs, no other is
/// there.
fn clear_leftovers(schedule: &Schedule) {
    let Ok(entries) = fs::read_dir(&schedule.directory) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_leftover(schedule, &name)
            && let Err(error) = fs::remove_file(&path)
        {
            warn!(file = name, %error, "an unfinished backup was not removed");
        }
    }
}

/// Whether a name is that of an unfinished file of this node: `.NAME.PROCESS.tmp`.
fn is_leftover(schedule: &Schedule, name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(TEMPORARY));
    let named = inner.and_then(|it| it.rsplit_once('.')).and_then(|(it, _)| Named::of(it));
    named.is_some_and(|it| schedule.is_own(&it.cluster_id, it.node))
}

fn newest_ms(schedule: &Schedule) -> Option<i64> {
    let dir = &schedule.directory;
    match schedule.files() {
        Ok(files) => files.iter().map(|file| file.modified_ms).max(),
        Err(trouble) => {
            let exists = fs::metadata(dir).is_err_and(|it| it.kind() == io::ErrorKind::NotFound);
            if !exists {
                warn!(reason = trouble.message, "the directory of backups cannot be read");
            }
            None
        }
    }
}

/// Until a backup that failed is tried again.
const RETRY: Duration = Duration::from_secs(5 * 60);
/// Between two looks at the space that is free.
const LOOK_EVERY_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use futures_util::stream::BoxStream;
    use lease::command::{Command, InitCluster};
    use lease::entry::{Actor, Envelope};
    use lease::ids::TraceId;
    use raft::{ClusterConfig, PeerCall, PeerStream, Transport, TransportError};
    use storage::seam::{RealClock, RealDisk, RealEntropy};
    use tokio::task::JoinSet;

    use super::*;

    /// Nothing that must happen takes longer, not even on a machine that does ten other things.
    const LIVENESS: Duration = Duration::from_secs(30);

    /// One node has no peers.
    struct NoPeers;

    impl Transport for NoPeers {
        fn call(
            &self,
            _to: NodeId,
            _call: PeerCall,
            _body: Bytes,
            _deadline: Duration,
        ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
            Box::pin(async { Err(TransportError::NotSent("no peers".into())) })
        }

        fn open(
            &self,
            _to: NodeId,
            _call: PeerCall,
            _deadline: Duration,
        ) -> BoxFuture<'_, Result<PeerStream, TransportError>> {
            Box::pin(async { Err(TransportError::NotSent("no peers".into())) })
        }

        fn send_snapshot(
            &self,
            _to: NodeId,
            _header: Bytes,
            _chunks: BoxStream<'static, io::Result<Bytes>>,
            _deadline: Duration,
        ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
            Box::pin(async { Err(TransportError::NotSent("no peers".into())) })
        }

        fn set_peers(&self, _peers: Vec<(NodeId, String)>) {}
    }

    async fn founded(dir: &Path, clock: &Arc<dyn Clock>) -> Cluster {
        let mut config = ClusterConfig::new(1, dir.join("data"), 7);
        config.log_segment_bytes = 1 << 20;
        config.state_cache_bytes = 4 << 20;
        let (disk, entropy) = (Arc::new(RealDisk), Arc::new(RealEntropy));
        let cluster =
            Cluster::start(config, disk, clock.clone(), entropy, Arc::new(NoPeers)).await.unwrap();
        cluster.initialize(vec![(1, "127.0.0.1:7411".to_owned())]).await.unwrap();
        let init = Command::InitCluster(InitCluster {
            cluster_id: "lh-test".into(),
            client_id: "bmw-de-001".into(),
            org_domain: "bmw.com".into(),
            epoch: 1,
            incarnation: 77,
        });
        let (actor, trace) = (Actor::Node(1), TraceId::default());
        let init = Envelope { actor, request: None, trace, cause: None, command: init };
        cluster.submit(vec![init], LIVENESS).await.unwrap();
        cluster
    }

    fn backups_in(dir: &Path) -> Vec<SnapshotFile> {
        inspect::files_of(dir).unwrap_or_default()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn backups_are_written_when_due_and_when_asked_for() {
        let home = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let cluster = founded(home.path(), &clock).await;
        let (silent, task) = BackupOrders::new(None, &cluster, &clock);
        assert!(task.is_none());
        let refused = silent.save(LIVENESS).await;
        assert!(matches!(refused, Err(OrderError::Refused(_))), "{refused:?}");

        let directory = home.path().join("backups");
        fs::create_dir(&directory).unwrap();
        let half = directory.join(".leasehold-lh-test-1-1-n1.snapshot.77.tmp");
        let of_others = [
            ".leasehold-lh-test-1-1-n2.snapshot.77.tmp",
            ".leasehold-lh-test-1-1.snapshot.77.tmp",
            "leasehold-lh-test-1-1-n2.snapshot",
        ];
        for path in of_others.map(|name| directory.join(name)).iter().chain([&half]) {
            fs::write(path, "half").unwrap();
        }
        let every = Duration::from_secs(3_600);
        let mut schedule = Schedule {
            directory: directory.clone(),
            every,
            keep: 2,
            cluster_id: "lh-test".to_owned(),
            node: 1,
            data_dir: home.path().join("data"),
            min_free: MinFree::Bytes(u64::MAX),
        };
        let held = cluster.local_backup().await.unwrap();
        let full = write(&schedule, "leasehold-lh-test-1-1-n1.snapshot", &held).unwrap_err();
        assert_eq!(full.code, "no_space", "{full:?}");
        assert!(!half.exists(), "a leftover");
        schedule.min_free = MinFree::default();
        let (orders, task) = BackupOrders::new(Some(schedule), &cluster, &clock);
        let mut tasks = JoinSet::new();
        tasks.spawn(task.unwrap().run());
        // The directory has none, so one is due at once; an order waits for its turn.
        let mut files = Vec::new();
        for _ in 0..4 {
            let mut done = orders.save(LIVENESS).await;
            while matches!(done, Err(OrderError::Refused(_))) {
                tokio::task::yield_now().await;
                done = orders.save(LIVENESS).await;
            }
            files.push(done.unwrap());
            let tick = Envelope {
                actor: Actor::Node(1),
                request: None,
                trace: TraceId::default(),
                cause: None,
                command: Command::Tick,
            };
            cluster.submit(vec![tick], LIVENESS).await.unwrap();
        }
        let newest = files.last().unwrap();
        inspect::read(Path::new(newest)).unwrap();
        let kept: Vec<String> = backups_in(&directory).into_iter().map(|file| file.name).collect();
        assert_eq!(kept.len(), 2 + 1, "{kept:?}");
        assert!(kept.iter().any(|name| newest.ends_with(name)), "{kept:?} lacks {newest}");
        let left = fs::read_dir(&directory).unwrap().count();
        assert_eq!(left, 2 + of_others.len(), "leftovers, or another's files are gone");
        assert!(orders.last_at_s() > 0);
        // A directory that cannot be written to is said, and ends nothing.
        fs::remove_dir_all(&directory).unwrap();
        fs::write(&directory, "in the way").unwrap();
        let failed = orders.save(LIVENESS).await;
        assert!(matches!(failed, Err(OrderError::Failed(_))), "{failed:?}");
        fs::remove_file(&directory).unwrap();
        assert!(orders.save(LIVENESS).await.is_ok());
        tasks.shutdown().await;
        cluster.shutdown().await;
    }
}
