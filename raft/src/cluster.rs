//! The handle of a node's part in the cluster: everything the rest of the node asks of this crate.
//!
//! `start` opens log and state, loads the ledger and starts openraft and the node's own tasks; the
//! methods hand to the module that does the work. Changes of membership and hand-overs of
//! leadership, which only operators ask for, are in `change`.

use std::io;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use lease::Ledger;
use lease::entry::Envelope;
use lease::ids::NodeId;
use openraft::BasicNode;
use openraft::errors::{InitializeError as RaftInitializeError, RaftError};
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLockReadGuard};
use storage::seam::{Clock, Disk, Entropy};
use storage::state::KeyValue;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission::Admission;
use crate::change::Changer;
use crate::config::ClusterConfig;
use crate::context::{Context, Counters, Leadership, Peers, Raft};
use crate::fatal::Fatal;
use crate::forwards::Forwards;
use crate::held::HeldLog;
use crate::lead::Lead;
use crate::log_store::LogStore;
use crate::network::Network;
use crate::outcome::{ReadError, ReadPoint, SubmitError, Submitted};
use crate::proposer::{Proposer, ProposerTask};
use crate::reads::Reads;
use crate::replica::Replica;
use crate::serve::Server;
use crate::state_machine::StateMachine;
use crate::status::{Metrics, NodeRole, Status};
use crate::submit::Router;
use crate::transport::{HandleError, PeerCall, Transport};
use crate::workers::Workers;
use crate::{change, conduct, forwards, open, outsider, reads, recovery, report, runtime, upkeep};

/// A node's part in the cluster. A clone is another handle to the same one; when the last one is
/// dropped without [`Cluster::shutdown`], the node stops as in a crash.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    raft: Raft,
    router: Router,
    changer: Changer,
    server: Server,
    recovered: watch::Receiver<bool>,
    failover_bound: Duration,
    tasks: Mutex<JoinSet<()>>,
    /// Writes the log, where no thread does; ends with it.
    writing: Mutex<JoinSet<()>>,
}

/// The applied state, locked for reading: keep it short and never across an await.
pub struct LedgerGuard<'a>(MappedRwLockReadGuard<'a, Ledger>);

impl Deref for LedgerGuard<'_> {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.0
    }
}

/// Why a cluster was not founded.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// It was founded before; nothing changed.
    #[error("the cluster has been founded already")]
    Already,
    /// This node is not among the members given.
    #[error("this node is not among the members")]
    NotAMember,
    /// The node has failed or is stopping.
    #[error("the node has failed: {0}")]
    Failed(String),
}

pub use crate::change::{Change, ChangeError};
pub use crate::open::StartError;

impl Cluster {
    /// Opens log and state, loads the ledger, and takes part. Does not wait for a leader.
    pub async fn start(
        config: ClusterConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        let raft_config =
            config.openraft().map_err(|error| StartError::Config(error.to_string()))?;
        let mut boot = [0; 8];
        entropy.fill(&mut boot);
        let fatal = Fatal::new();
        let (log, writer, replica) = {
            let (config, clock, fatal) = (config.clone(), Arc::clone(&clock), fatal.clone());
            let workers = config.workers.clone();
            workers
                .run(move || open::open(&config, disk, clock, fatal))
                .await
                .map_err(|panicked| StartError::Storage(panicked.into()))??
        };
        let timing = config.preset.timing();
        let leadership =
            Leadership { role: NodeRole::Learner, term: 0, leader: None, ready: false };
        let context = Arc::new(Context {
            node: config.node,
            directory: config.directory_incarnation,
            boot: u64::from_le_bytes(boot),
            timing,
            clock,
            workers: config.workers.clone(),
            transport,
            log: log.clone(),
            replica: Arc::clone(&replica),
            admission: Admission::default(),
            lead: Lead::new(config.node, timing.election_max_ms),
            fatal,
            leadership: watch::Sender::new(leadership),
            peers: watch::Sender::new(Peers::default()),
            stopping: watch::Sender::new(false),
            may_lead: AtomicBool::new(true),
            has_room: AtomicBool::new(true),
            reserve_bytes: AtomicU64::new(0),
            leader_heard_ns: AtomicU64::new(0),
            counters: Counters::default(),
            held: HeldLog::default(),
            alarms: Mutex::default(),
            refused: Mutex::default(),
        });
        let found = log.state().last.map(|last| last.index);
        let mut writing = JoinSet::new();
        if let Some(writer) = writer {
            writing.spawn(config.workers.clone().write_log(log.clone(), writer));
        }
        let workers = config.workers.clone();
        let log_store = LogStore::new(log, workers.clone(), context.fatal.clone());
        let starting = Raft::new(
            config.node,
            Arc::new(raft_config),
            Network::new(Arc::clone(&context)),
            log_store.clone(),
            StateMachine::new(replica, workers),
        );
        let raft = runtime::with_entropy(entropy, starting)
            .await
            .map_err(|error| StartError::Storage(error.into()))?;
        Ok(Self { inner: Arc::new(Inner::new(config, context, raft, log_store, found, writing)) })
    }

    /// Founds the cluster with these voters (number and `host:port`); on one node only.
    pub async fn initialize(&self, members: Vec<(NodeId, String)>) -> Result<(), InitializeError> {
        let members: std::collections::BTreeMap<NodeId, BasicNode> =
            members.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        match self.inner.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(RaftInitializeError::NotAllowed(_))) => {
                Err(InitializeError::Already)
            }
            Err(RaftError::APIError(RaftInitializeError::NotInMembers(_))) => {
                Err(InitializeError::NotAMember)
            }
            Err(RaftError::Fatal(error)) => Err(InitializeError::Failed(error.to_string())),
        }
    }

    /// Whether the cluster has been founded, as far as this node's log knows.
    pub async fn is_initialized(&self) -> bool {
        self.inner.raft.is_initialized().await.unwrap_or(false)
    }

    /// Has the leader propose these commands, wherever it is, and waits until they are applied.
    /// Retries within the deadline under the same request ids, against whoever leads. At most
    /// 1,024 commands; they come into one entry, in this order.
    pub async fn submit(
        &self,
        commands: Vec<Envelope>,
        deadline: Duration,
    ) -> Result<Submitted, SubmitError> {
        self.inner.router.submit(commands, deadline).await
    }

    /// Waits until this node's ledger holds everything that was answered anywhere before the call.
    pub async fn read_barrier(&self, deadline: Duration) -> Result<ReadPoint, ReadError> {
        self.inner.router.read_barrier(deadline).await
    }

    /// The applied state, locked for reading. Linearizable only after [`Cluster::read_barrier`].
    pub fn ledger(&self) -> LedgerGuard<'_> {
        let machine = self.inner.context.replica.machine.read();
        LedgerGuard(RwLockReadGuard::map(machine, |machine| &machine.ledger))
    }

    /// Up to `limit` rows of a table of the last checkpoint, from key `from` on: what is no longer
    /// in memory, such as audit events. Blocks on the disk.
    pub fn stored_rows(
        &self,
        table: u8,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<KeyValue>, storage::state::ReadError> {
        self.inner.context.replica.store.range(table, from, limit)
    }

    /// Waits until this node has applied `index` (or more).
    pub async fn wait_applied(&self, index: u64) {
        let mut applied = self.inner.context.replica.applied.subscribe();
        let there = applied.wait_for(|mark| mark.position.is_some_and(|it| it.index >= index));
        // The sender lives as long as this handle.
        let _ = there.await;
    }

    /// Waits until this node's status is as wanted; looks again whenever it may have changed, and
    /// at every heartbeat.
    pub async fn wait_until(&self, mut wanted: impl FnMut(&Status) -> bool) -> Status {
        let context = &self.inner.context;
        let mut leadership = context.leadership.subscribe();
        let mut applied = context.replica.applied.subscribe();
        let heartbeat = Duration::from_millis(context.timing.heartbeat_ms);
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            // Closed channels are those of a stopped node, whose status stays.
            tokio::select! {
                Ok(()) = leadership.changed() => {}
                Ok(()) = applied.changed() => {}
                () = tokio::time::sleep(heartbeat) => {}
            }
        }
    }

    /// The sum over all rows as of the last applied entry, and that entry's index. Takes longer the
    /// more rows changed since it was last asked for; the periodic one is in [`Cluster::status`].
    pub fn state_sum(&self) -> Option<(u64, [u8; 32])> {
        let mut machine = self.inner.context.replica.machine.write();
        let index = machine.applied?.index;
        Some((index, machine.ledger.state_sum()))
    }

    /// *F*.
    pub fn failover_bound(&self) -> Duration {
        self.inner.failover_bound
    }

    /// How this node stands.
    pub fn status(&self) -> Status {
        let recovered = *self.inner.recovered.borrow();
        report::status(&self.inner.context, &self.inner.raft, recovered)
    }

    /// Counters since the start.
    pub fn metrics(&self) -> Metrics {
        report::metrics(&self.inner.context)
    }

    /// Unix milliseconds to show: the last applied stamp's civil time plus this node's monotonic
    /// time since it applied it.
    pub fn displayed_civil_ms(&self) -> i64 {
        self.inner.context.replica.displayed_civil_ms()
    }

    /// Answers a peer's call; `from` is the node the transport proved.
    pub async fn handle(
        &self,
        from: NodeId,
        call: PeerCall,
        body: Bytes,
    ) -> Result<Bytes, HandleError> {
        self.inner.server.handle(from, call, body).await
    }

    /// Answers a peer's stream of requests of one kind, in their order. It ends with the requests,
    /// or after the first answer that leaves nothing to say to those behind it.
    pub fn handle_stream(
        &self,
        from: NodeId,
        call: PeerCall,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxStream<'static, Result<Bytes, HandleError>> {
        self.inner.server.handle_stream(from, call, requests)
    }

    /// Receives and installs a peer's snapshot.
    pub async fn handle_snapshot(
        &self,
        from: NodeId,
        header: Bytes,
        chunks: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Bytes, HandleError> {
        self.inner.server.handle_snapshot(from, header, chunks).await
    }

    /// Whether this node may ask for votes and take over leadership; a sealed node must not. One
    /// that leads already goes on.
    pub fn set_may_lead(&self, may: bool) {
        self.inner.context.may_lead.store(may, Ordering::Release);
        self.inner.raft.runtime_config().elect(may);
    }

    /// Says whether the disk has room for more than what is under way. Without it this node stores
    /// no entry that a leader sends and proposes none, receives no snapshot and writes no
    /// checkpoint; it goes on to vote, to follow, and to answer reads. Votes are small and fit into
    /// the segment that is there.
    pub fn set_has_room(&self, has_room: bool) {
        self.inner.context.has_room.store(has_room, Ordering::Relaxed);
    }

    /// Says how many bytes of the disk must stay free beside what may also wait: a received
    /// snapshot is not put into place, and the state's file not written anew, unless they leave so
    /// much. 0 until it is said.
    pub fn set_reserve_bytes(&self, reserve_bytes: u64) {
        self.inner.context.reserve_bytes.store(reserve_bytes, Ordering::Relaxed);
    }

    /// Hands leadership to `to`, or to the most up-to-date other voter, and waits until another
    /// node leads; gives who.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
        deadline: Duration,
    ) -> Result<NodeId, ChangeError> {
        change::transfer_leader(&self.inner.context, &self.inner.raft, to, deadline).await
    }

    /// Has whoever leads change the members or hand leadership on, and waits until that is
    /// committed; gives who leads afterwards. What is so already is not changed.
    pub async fn change(&self, change: Change, deadline: Duration) -> Result<NodeId, ChangeError> {
        self.inner.changer.change(&change, deadline).await
    }

    /// Writes a checkpoint now and waits until openraft knows it; what of the log it covers is let
    /// go soon after.
    pub async fn checkpoint_now(&self) -> Result<(), ChangeError> {
        if !self.inner.context.has_room() {
            return Err(ChangeError::Failed("the disk has no room for a checkpoint".to_owned()));
        }
        let replica = Arc::clone(&self.inner.context.replica);
        let written = self.workers().run(move || replica.checkpoint()).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.failed(&error.to_string())),
            Err(panicked) => return Err(self.failed(&panicked.to_string())),
        }
        let covered = self.inner.context.replica.checkpointed();
        upkeep::tell_of_checkpoint(&self.inner.raft, covered)
            .await
            .map_err(|error| ChangeError::Failed(error.to_string()))
    }

    /// Resolves when this node must not go on: its storage failed or its state was found damaged.
    /// The process logs the text and exits with a status other than 0.
    pub async fn fatal(&self) -> String {
        self.inner.context.fatal.wait().await
    }

    /// Whether [`Cluster::fatal`] means damage, which only replacing the member cures.
    pub fn is_damaged(&self) -> bool {
        self.inner.context.fatal.is_corrupt()
    }

    /// Whether [`Cluster::fatal`] means that this node is a member no more.
    pub fn is_removed(&self) -> bool {
        self.inner.context.fatal.is_removed()
    }

    /// The clean stop: answers what waits, then closes log and state. Other handles refuse from
    /// then on.
    pub async fn shutdown(self) {
        let context = &self.inner.context;
        context.stopping.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        while tasks.join_next().await.is_some() {}
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        let (replica, log) = (Arc::clone(&context.replica), context.log.clone());
        let healthy = context.fatal.reason().is_none() && context.has_room();
        let closed = context.workers.run(move || {
            if healthy && let Err(error) = replica.checkpoint() {
                tracing::warn!(%error, "no checkpoint was written at the stop");
            }
            log.close()
        });
        match closed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the log did not close cleanly"),
            Err(panicked) => tracing::error!(%panicked, "the log did not close cleanly"),
        }
        let mut writing = std::mem::take(&mut *self.inner.writing.lock());
        while writing.join_next().await.is_some() {}
    }

    /// Where this node's blocking work is done.
    pub fn workers(&self) -> &Workers {
        &self.inner.context.workers
    }

    pub(crate) fn replica(&self) -> Arc<Replica> {
        Arc::clone(&self.inner.context.replica)
    }

    fn failed(&self, what: &str) -> ChangeError {
        self.inner.context.fatal.fail(format!("a checkpoint failed: {what}"));
        ChangeError::Failed(what.to_owned())
    }
}

impl Inner {
    fn new(
        config: ClusterConfig,
        context: Arc<Context>,
        raft: Raft,
        log: LogStore,
        found: Option<u64>,
        writing: JoinSet<()>,
    ) -> Self {
        let (proposer, submissions) = Proposer::new(Arc::clone(&context));
        let (forwards, outgoing) = Forwards::new(Arc::clone(&context));
        let (reads, readers) = Reads::new();
        let router = Router {
            context: Arc::clone(&context),
            proposer: proposer.clone(),
            forwards,
            reads: reads.clone(),
        };
        let changer = Changer { context: Arc::clone(&context), raft: raft.clone() };
        let server = Server {
            context: Arc::clone(&context),
            raft: raft.clone(),
            proposer: proposer.clone(),
            reads,
            changer: changer.clone(),
        };
        let failover_bound = config.preset.failover_bound();
        let (recovery, recovered) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let fatal = context.fatal.clone();
        let mut spawn = |name: &'static str, task: BoxFuture<'static, ()>| {
            let fatal = fatal.clone();
            tasks.spawn(async move {
                if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                    fatal.fail(format!("the {name} has panicked"));
                }
            });
        };
        let proposing = ProposerTask::new(Arc::clone(&context), raft.clone(), submissions, log);
        spawn("proposer", Box::pin(proposing.run()));
        spawn("forwarder", Box::pin(forwards::serve(Arc::clone(&context), outgoing)));
        let reading = reads::serve(Arc::clone(&context), raft.clone(), readers);
        spawn("reader", Box::pin(reading));
        let conducting = conduct::conduct(Arc::clone(&context), raft.clone(), proposer);
        spawn("conductor", Box::pin(conducting));
        let keeping = upkeep::upkeep(Arc::clone(&context), raft.clone(), config);
        spawn("upkeep", Box::pin(keeping));
        let recovering = recovery::recover(raft.clone(), router.clone(), found, recovery);
        spawn("recovery", Box::pin(recovering));
        let outside = outsider::watch(Arc::clone(&context));
        spawn("watch for removal", Box::pin(outside));
        let (tasks, writing) = (Mutex::new(tasks), Mutex::new(writing));
        Self { context, raft, router, changer, server, recovered, failover_bound, tasks, writing }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.context.stopping.send_replace(true);
        // The first poll tells openraft to stop; nobody is left to wait for it.
        let _ = self.raft.shutdown().now_or_never();
    }
}
