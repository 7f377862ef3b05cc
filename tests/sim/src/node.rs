//! One node: production's log, state, consensus and gateway, over a simulated disk, clock and
//! network.
//!
//! ```text
//! machine (outlives processes)        process (one turmoil run of the host's software)
//!   SimDisk, SimClock, what was         raft::Cluster ── net ── peers
//!   seen of the node from outside       gateway::Gateway ── http ── applications
//!                                       observer: audit events, rules of the ledger, terms
//! ```
//!
//! What `node` does around them is here as far as it decides anything: it serves peers before it
//! takes part, tells consensus when the disk has little room, and ends when consensus says that it
//! must not go on. An end is told to the machine, which stops the process (`world`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use gateway::{
    AuthorityError, CertificateAuthority, CertificateSubject, Gateway, GatewayConfig,
    GatewayContext, KeysCell, NodeControl, NodeFacts, NodeOrder, OrderError, PeerProbe,
};
use lease::entry::Envelope;
use lease::ids::NodeId;
use raft::{Change, Cluster, ClusterConfig, Preset, StartError, Submitted, Workers};
use storage::seam::Clock;
use storage::testing::SeededEntropy;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::disk::{DATA_DIR, SimDisk};
use crate::net::{self, Link};
use crate::observer;
use crate::plan::Sizes;
use crate::shared::Shared;
use crate::time::SimClock;
use crate::{http, keys};

/// A node's machine.
pub(crate) struct Machine {
    /// Its number.
    pub(crate) node: NodeId,
    /// Its disk.
    pub(crate) disk: SimDisk,
    /// Its clocks.
    pub(crate) clock: Arc<SimClock>,
    /// The process that runs now.
    pub(crate) process: RefCell<Option<Process>>,
    /// Why the last process ended by itself.
    pub(crate) end: RefCell<Option<End>>,
    /// Whether its disk was lost: it may take no part any more.
    pub(crate) is_wiped: Cell<bool>,
    boots: Cell<u64>,
}

/// What can be reached of a running process.
pub(crate) struct Process {
    /// Its part in the cluster.
    pub(crate) cluster: Cluster,
    /// Its gateway.
    pub(crate) gateway: Gateway,
    /// Orders to it.
    pub(crate) orders: mpsc::Sender<Order>,
}

/// Why a process ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It stopped as it was told to.
    Clean,
    /// The disk failed it.
    Failed(String),
    /// It says that what it stores is damaged.
    Damaged(String),
    /// It is a member no more.
    Removed,
}

/// What an operator at the machine orders.
pub(crate) enum Order {
    /// Commands for the log.
    Propose(Vec<Envelope>, oneshot::Sender<Result<Submitted, String>>),
    /// A change of the members or the leader.
    Change(Change, oneshot::Sender<Result<NodeId, String>>),
    /// The clean stop.
    Stop,
}

impl Machine {
    /// A new machine with an empty disk.
    pub(crate) fn new(node: NodeId, shared: &Shared) -> Rc<Self> {
        let time = shared.time.clone();
        let disk_seed = shared.seed_for("disk", node);
        Rc::new(Self {
            node,
            disk: SimDisk::new(node, disk_seed, time.clone(), Arc::clone(&shared.trace)),
            clock: Arc::new(SimClock::new(time)),
            process: RefCell::new(None),
            end: RefCell::new(None),
            is_wiped: Cell::new(false),
            boots: Cell::new(0),
        })
    }

    /// A handle to the running process's part in the cluster.
    pub(crate) fn cluster(&self) -> Option<Cluster> {
        self.process.borrow().as_ref().map(|process| process.cluster.clone())
    }

    /// How often a process was started.
    pub(crate) fn boots(&self) -> u64 {
        self.boots.get()
    }
}

/// What incarnation a node's data directory has.
pub(crate) fn directory_of(node: NodeId) -> u64 {
    1_000 + node
}

fn config(machine: &Machine, sizes: Sizes) -> ClusterConfig {
    let Machine { node, disk, .. } = machine;
    // Another directory has another incarnation.
    let directory = directory_of(*node) + u64::from(machine.is_wiped.get()) * 1_000;
    let mut config = ClusterConfig::new(*node, DATA_DIR.into(), directory);
    config.preset = Preset::Lan;
    config.checkpoint_log_bytes = sizes.checkpoint_log_bytes;
    config.checkpoint_interval = sizes.checkpoint_interval;
    config.keep_log_entries = sizes.keep_log_entries;
    config.keep_log_bytes = sizes.keep_log_bytes;
    config.held_log_bytes = (16 * sizes.keep_log_bytes).max(8 * sizes.log_segment_bytes);
    config.log_segment_bytes = sizes.log_segment_bytes;
    config.log_cache_bytes = sizes.log_cache_bytes;
    config.workers = Workers::InPlace(Arc::new(disk.clone()));
    config
}

/// The software of a node's host: one process, from its start until turmoil or itself ends it.
pub(crate) async fn process(machine: Rc<Machine>, shared: Rc<Shared>) -> turmoil::Result {
    machine.boots.set(machine.boots() + 1);
    let boot_seed = shared.seed_for("boot", machine.node * 1_000 + machine.boots());
    let entropy = Arc::new(SeededEntropy::new(boot_seed));
    machine.clock.restart(entropy.below(1 << 40));
    shared.tell("boot", format!("node {} for the {}. time", machine.node, machine.boots()));
    let end = match run(&machine, &shared, entropy).await {
        Ok(end) => end,
        Err(error) => End::Failed(format!("{error:#}")),
    };
    shared.tell("end", format!("node {}: {end:?}", machine.node));
    machine.process.replace(None);
    machine.end.replace(Some(end));
    // Whoever has this machine ends what is left of the process.
    std::future::pending().await
}

async fn run(
    machine: &Rc<Machine>,
    shared: &Rc<Shared>,
    entropy: Arc<SeededEntropy>,
) -> Result<End> {
    let node = machine.node;
    let link = Link::new(node, shared);
    let clock: Arc<dyn Clock> = machine.clock.clone();
    let started = Cluster::start(
        config(machine, shared.plan.sizes),
        Arc::new(machine.disk.clone()),
        Arc::clone(&clock),
        entropy.clone(),
        Arc::new(link),
    )
    .await;
    let cluster = match started {
        Ok(cluster) => cluster,
        Err(StartError::Damaged(error)) => return Ok(End::Damaged(chain(&*error))),
        Err(error) => return Ok(End::Failed(chain(&error))),
    };
    shared.note_recovered(node, &cluster);
    let cell = Arc::new(KeysCell::sealed());
    cell.unseal(keys::cluster_keys()?);
    let context = GatewayContext {
        cluster: cluster.clone(),
        keys: cell,
        signer: keys::token_signer(node)?,
        clock,
        entropy,
        peers: Arc::new(Alone),
        control: Arc::new(Alone),
        authority: Arc::new(Alone),
    };
    let gateway = Gateway::new(GatewayConfig::new(node, gateway_url(node)), context);
    let (orders, ordered) = mpsc::channel(16);
    let process = Process { cluster: cluster.clone(), gateway: gateway.clone(), orders };
    machine.process.replace(Some(process));
    let mut tasks = JoinSet::new();
    tasks.spawn(flat(net::serve(cluster.clone())));
    tasks.spawn(flat(http::serve(gateway)));
    tasks.spawn(watch_room(cluster.clone(), machine.disk.clone()));
    tasks.spawn_local(observer::observe(Rc::clone(shared), node, cluster.clone()));
    if node == FOUNDER && machine.boots() == 1 {
        let founders = 1..=shared.plan.nodes;
        let address = |node| (node, format!("{}:{}", net::host(node), net::PEER_PORT));
        cluster.initialize(founders.map(address).collect()).await?;
    }
    let stopped = {
        let fatal = cluster.fatal();
        let obeying = obey(cluster.clone(), ordered);
        tokio::select! {
            biased;
            why = fatal => Some(why),
            () = obeying => None,
        }
    };
    let end = match stopped {
        Some(_) if cluster.is_removed() => End::Removed,
        Some(why) if cluster.is_damaged() => End::Damaged(why),
        Some(why) => End::Failed(why),
        None => {
            machine.process.replace(None);
            tasks.shutdown().await;
            cluster.shutdown().await;
            return Ok(End::Clean);
        }
    };
    Ok(end)
}

async fn flat(serving: impl Future<Output = io::Result<()>>) {
    // Only the end of the process ends a listener here.
    let _ = serving.await;
}

/// Carries out orders until one says stop.
async fn obey(cluster: Cluster, mut ordered: mpsc::Receiver<Order>) {
    let mut under_way = JoinSet::new();
    loop {
        match ordered.recv().await {
            Some(Order::Propose(commands, answer)) => {
                let cluster = cluster.clone();
                under_way.spawn(async move {
                    let done = cluster.submit(commands, ORDER_DEADLINE).await;
                    let _ = answer.send(done.map_err(|error| error.to_string()));
                });
            }
            Some(Order::Change(change, answer)) => {
                let cluster = cluster.clone();
                under_way.spawn(async move {
                    let done = cluster.change(change, ORDER_DEADLINE).await;
                    let _ = answer.send(done.map_err(|error| error.to_string()));
                });
            }
            Some(Order::Stop) => return,
            None => std::future::pending().await,
        }
        while under_way.try_join_next().is_some() {}
    }
}

/// As a node looks at its disk: without room it stores nothing more and hands leadership on.
async fn watch_room(cluster: Cluster, disk: SimDisk) {
    let mut had_room = true;
    loop {
        let has_room = !disk.is_low();
        if has_room != had_room {
            cluster.set_has_room(has_room);
            had_room = has_room;
        }
        // At every look: one that became leader without room gives it up as well.
        if !has_room && cluster.status().role == raft::NodeRole::Leader {
            // Whoever can take it does; nobody is waited for.
            let _ = cluster.transfer_leader(None, ORDER_DEADLINE).await;
        }
        tokio::time::sleep(LOOK_FOR_ROOM).await;
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = VecDeque::from([error.to_string()]);
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_back(cause.to_string());
        source = cause.source();
    }
    Vec::from(words).join(": ")
}

/// Where applications reach a node.
pub(crate) fn gateway_url(node: NodeId) -> String {
    format!("https://{}:7401", net::host(node))
}

/// A node that cannot be asked about others and has no authority: none of its calls is made here.
struct Alone;

impl PeerProbe for Alone {
    fn probe(&self, _node: NodeId, _deadline: Duration) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async { None })
    }

    fn order(
        &self,
        _node: NodeId,
        _order: NodeOrder,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>> {
        Box::pin(async { Err(OrderError::Unreachable) })
    }
}

impl NodeControl for Alone {
    fn facts(&self) -> NodeFacts {
        NodeFacts::default()
    }

    fn perform(
        &self,
        _order: NodeOrder,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>> {
        Box::pin(async { Err(OrderError::Unreachable) })
    }
}

impl CertificateAuthority for Alone {
    fn issue(
        &self,
        _request_pem: &str,
        _subject: CertificateSubject<'_>,
    ) -> Result<String, AuthorityError> {
        Err(AuthorityError::Request("there is no authority here".to_owned()))
    }

    fn anchors(&self) -> Result<Vec<Vec<u8>>, AuthorityError> {
        Ok(Vec::new())
    }
}

/// Who founds the cluster.
const FOUNDER: NodeId = 1;
const ORDER_DEADLINE: Duration = Duration::from_secs(2);
/// As often as a node looks at itself.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);
