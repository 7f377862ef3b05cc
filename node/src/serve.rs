//! A node from start to stop: in which order things are opened, and closed again.
//!
//! ```text
//! configuration ─ data directory (lock) ─ sockets ─ storage and consensus ─ peers ─ gateway
//!                                                      │
//!                       founding (the founder, once) ──┴── keyholder: unseals, publishes its key
//! ```
//!
//! What can be refused is refused before a socket opens, in one line. A stop by signal lets
//! requests in flight end, hands leadership on and closes the log; a failure of storage or a
//! damaged replica ends the process at once with a line that says what to do.
//!
//! What it leaves to others: everything it opens.

use std::path::PathBuf;
use std::sync::Arc;

use gateway::{Gateway, GatewayConfig, GatewayContext, KeysCell, NodeControl};
use lease::ids::NodeId;
use raft::{Cluster, ClusterConfig, Preset, StartError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use storage::seam::{Clock, Disk, Entropy, RealClock, RealDisk, RealEntropy};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::authority::{AuthorityCell, ClusterAuthority};
use crate::backup::BackupOrders;
use crate::certificates::Certificates;
use crate::config::{self, Config, ConfigError, chain, file};
use crate::control::{Control, Held};
use crate::directory::{self, Directory, DirectoryError, Ticket};
use crate::founding;
use crate::keyholder::Keyholder;
use crate::peer::{Handlers, PeerListener, PeerTable, PeerTransport};
use crate::signing::TokenKeys;
use crate::steward::{Removed, Steward};
use crate::watch::Watch;
use crate::{logging, moved, pki};

/// What `leasehold serve` is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeOptions {
    /// The node's configuration, node.toml.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Stop cleanly when standard input ends: a parent that dies takes the node along.
    #[arg(long)]
    pub exit_with_stdin: bool,
}

/// Why a node did not start or had to stop. Each is one line.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    Directory(DirectoryError),
    /// An address.
    #[error("{key}: cannot listen on {address}: {reason}")]
    Listen {
        /// The key in the configuration.
        key: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        reason: String,
    },
    /// Certificates or keys that TLS cannot work with.
    #[error("TLS: {0}")]
    Tls(String),
    /// Consensus or storage did not start.
    #[error("{0}")]
    Start(String),
    /// The process had to stop.
    #[error("{0}")]
    Failed(String),
    /// Something acknowledged is missing or changed.
    #[error(
        "{reason}; run here: leasehold member replace {node} --config {}", config.display()
    )]
    Damaged {
        /// What was found.
        reason: String,
        /// This node.
        node: u64,
        /// Its configuration.
        config: PathBuf,
    },
    /// It is a member no more.
    #[error(
        "node {node} was removed from the cluster and is needed no more; leasehold member add \
         invites a new one"
    )]
    Removed {
        /// This node.
        node: u64,
    },
}

impl ServeError {
    /// The process's exit status for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Damaged { .. } => 8,
            Self::Directory(_) => 2,
            Self::Removed { .. } => 6,
            Self::Listen { .. } | Self::Tls(_) | Self::Start(_) | Self::Failed(_) => 1,
        }
    }
}

/// Runs a node until a signal (or the end of standard input, where asked) stops it.
pub async fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    pki::install_provider();
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let entropy: Arc<dyn Entropy> = Arc::new(RealEntropy);
    let config = config::load(&options.config, &*clock)?;
    logging::start(&config.file.log);
    let descriptors = raise_descriptor_limit();
    let directory =
        open_directory(&config, &*disk).map_err(|error| directory_lost(error, &config.path))?;
    let listener = bind("listen", config.file.listen).await?;
    let peer_listener = bind("peer_listen", config.file.peer_listen).await?;
    let node = Node::start(config, directory, disk, clock, entropy).await?;
    info!(
        node = node.file.node_id,
        cluster = node.file.cluster_id,
        gateway = %node.file.listen,
        peers = %node.file.peer_listen,
        version = env!("CARGO_PKG_VERSION"),
        "node starts"
    );
    node.open(listener, peer_listener, descriptors).run(options.exit_with_stdin).await
}

/// Lets this process have as many file descriptors as it may, and tells how many that is. Storage
/// needs a few at any time, so connections must not be able to take them all.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files was not raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many gateway connections leave storage, peers and standard streams their descriptors.
fn connections_within(descriptors: u64) -> usize {
    let left = usize::try_from(descriptors).unwrap_or(usize::MAX);
    left.saturating_sub(RESERVED_DESCRIPTORS).max(RESERVED_DESCRIPTORS / 4)
}

fn open_directory(config: &Config, disk: &dyn Disk) -> Result<Directory, DirectoryError> {
    let file = &config.file;
    let ticket = file.bootstrap.as_ref().and_then(|bootstrap| {
        let me = bootstrap.members.iter().find(|member| member.id == file.node_id)?;
        let incarnation = me.directory_incarnation.number();
        Some(Ticket { path: &bootstrap.directory_ticket, incarnation })
    });
    let ticket = ticket.or_else(|| {
        file.join.as_ref().map(|join| Ticket {
            path: &join.directory_ticket,
            incarnation: join.directory_incarnation.number(),
        })
    });
    directory::open(disk, &file.data_dir, &file.cluster_id, file.node_id, ticket.as_ref())
}

/// Tells a directory that lost what was acknowledged from one that is not usable as it is.
fn directory_lost(error: DirectoryError, config: &std::path::Path) -> ServeError {
    match error.lost_node() {
        Some(node) => {
            ServeError::Damaged { reason: chain(&error), node, config: config.to_owned() }
        }
        None => ServeError::Directory(error),
    }
}

/// Whom this node talks to before its log says.
fn table_of(file: &file::ConfigFile) -> PeerTable {
    match &file.join {
        Some(join) => {
            let told = join.members.iter().map(|peer| (peer.id, peer.peer_address.clone()));
            PeerTable::joining(file.node_id, told)
        }
        None => {
            let members = file.bootstrap.iter().flat_map(|bootstrap| &bootstrap.members);
            PeerTable::new(members.map(|member| (member.id, member.peer_address.clone())))
        }
    }
}

async fn bind(key: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen {
        key,
        address,
        reason: config::io_reason(&error),
    })
}

/// Everything a running node holds.
struct Node {
    path: PathBuf,
    file: Arc<file::ConfigFile>,
    cluster: Cluster,
    transport: Arc<PeerTransport>,
    table: PeerTable,
    peer_tls: Arc<rustls::ServerConfig>,
    certificates: Arc<Certificates>,
    authority: Arc<AuthorityCell>,
    roots: Vec<rustls::pki_types::CertificateDer<'static>>,
    signer: Arc<gateway::TokenSigner>,
    kek: Option<crate::seal::kek::KeyEncryptionKey>,
    faces: gateway::Faces,
    rates: gateway::RateLimits,
    backups: Option<crate::backup::Schedule>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    directory: Directory,
}

impl Node {
    async fn start(
        config: Config,
        directory: Directory,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ServeError> {
        let Config { file, path, tls, kek, signer, faces, rates, backups } = config;
        let file = Arc::new(file);
        let authority = Arc::new(AuthorityCell::sealed());
        let roots = tls.roots.clone();
        let certificates = Certificates::new(
            path.clone(),
            file.clone(),
            tls,
            authority.clone(),
            clock.clone(),
            entropy.clone(),
        )
        .map_err(|error| ServeError::Tls(chain(&error)))?;
        let identity = certificates.identity();
        let peer_tls = identity.server_config().map_err(|error| ServeError::Tls(chain(&error)))?;
        let table = table_of(&file);
        let transport = Arc::new(PeerTransport::new(
            file.cluster_id.clone(),
            identity,
            table.clone(),
            clock.clone(),
        ));
        let cluster_config = ClusterConfig {
            preset: match file.preset {
                file::Preset::Lan => Preset::Lan,
                file::Preset::Region => Preset::Region,
                file::Preset::Global => Preset::Global,
            },
            ..ClusterConfig::new(
                file.node_id,
                file.data_dir.clone(),
                directory.identity.incarnation,
            )
        };
        let cluster = Cluster::start(
            cluster_config,
            disk.clone(),
            clock.clone(),
            entropy.clone(),
            transport.clone(),
        )
        .await
        .map_err(|error| match &error {
            StartError::Damaged(_) => {
                let (reason, node) = (chain(&error), file.node_id);
                ServeError::Damaged { reason, node, config: path.clone() }
            }
            StartError::Config(_) | StartError::Storage(_) => ServeError::Start(chain(&error)),
        })?;
        Ok(Self {
            path,
            file,
            cluster,
            transport,
            table,
            peer_tls: Arc::new(peer_tls),
            certificates: Arc::new(certificates),
            authority,
            roots,
            signer: Arc::new(signer),
            kek,
            faces,
            rates,
            backups,
            disk,
            clock,
            entropy,
            directory,
        })
    }

    /// Begins to serve: the peer listener, the gateway, and what makes the node whole.
    fn open(self, listener: TcpListener, peer_listener: TcpListener, descriptors: u64) -> Running {
        let Self { file, cluster, transport, table, disk, clock, entropy, .. } = self;
        let cell = Arc::new(KeysCell::sealed());
        let mut gateway_config = GatewayConfig::new(file.node_id, file.gateway_url.as_str());
        gateway_config.faces = self.faces;
        gateway_config.rates = self.rates;
        let connections = &mut gateway_config.limits.max_connections;
        *connections = (*connections).min(connections_within(descriptors));
        let preset = match file.preset {
            file::Preset::Lan => "lan",
            file::Preset::Region => "region",
            file::Preset::Global => "global",
        };
        let (orders, backups) = BackupOrders::new(self.backups, &cluster, &clock);
        let control = Arc::new(Control::new(
            file.data_dir.clone(),
            preset,
            descriptors,
            clock.clone(),
            Held {
                certificates: self.certificates.clone(),
                keys: cell.clone(),
                token_keys: TokenKeys {
                    node: file.node_id,
                    cluster: cluster.clone(),
                    signer: self.signer.clone(),
                    file: file.keys.token_signing.clone(),
                },
            },
            orders,
        ));
        let watching = clock.clone();
        let steward = Steward {
            node: file.node_id,
            cluster: cluster.clone(),
            table: table.clone(),
            clock: clock.clone(),
        };
        let authority = Arc::new(ClusterAuthority {
            cluster_id: file.cluster_id.clone(),
            cell: self.authority.clone(),
            certificates: self.certificates.clone(),
            leaf_days: file.tls.leaf_days,
            clock: clock.clone(),
            entropy: entropy.clone(),
        });
        let gateway = Gateway::new(
            gateway_config,
            GatewayContext {
                cluster: cluster.clone(),
                keys: cell.clone(),
                signer: self.signer.clone(),
                clock,
                entropy: entropy.clone(),
                peers: transport,
                control: control.clone(),
                authority,
            },
        );
        let (reporting, sealed, process) = (cluster.clone(), cell.clone(), control.clone());
        let report =
            move || gateway::node_report(&reporting, sealed.get().is_none(), process.facts());
        let peers = PeerListener {
            cluster_id: file.cluster_id.clone(),
            table,
            tls: self.peer_tls,
            identity: self.certificates.identity(),
            handlers: Handlers::of(&cluster, Box::new(report), control.clone()),
        };
        let (stop_gateway, stop_peers) = (CancellationToken::new(), CancellationToken::new());
        let mut peer_task = JoinSet::new();
        peer_task.spawn(peers.serve(peer_listener, stop_peers.clone()));
        let tls = self.certificates.gateway_tls();
        let mut gateway_task = JoinSet::new();
        let stopped = stop_gateway.clone().cancelled_owned();
        gateway_task.spawn(async move {
            gateway.serve(vec![listener], tls, stopped).await;
        });
        let mut tasks = JoinSet::new();
        if let Some(backups) = backups {
            tasks.spawn(async move {
                backups.run().await;
                Ok(())
            });
        }
        let watch = Watch {
            node: file.node_id,
            data_dir: file.data_dir.clone(),
            alarms: file.alarms.clone(),
            cluster: cluster.clone(),
            control: control.clone(),
            clock: watching,
        };
        tasks.spawn(async move {
            watch.run().await;
            Ok(())
        });
        let keyholder = Keyholder {
            node: file.node_id,
            cluster: cluster.clone(),
            kek: self.kek,
            signer: self.signer,
            cell,
            authority: self.authority,
            roots: self.roots,
            entropy: entropy.clone(),
        };
        let (certificates, follows) = (self.certificates, cluster.clone());
        tasks.spawn(async move {
            certificates.run(follows).await;
            Ok(())
        });
        tasks.spawn(async move {
            keyholder.run().await;
            Ok(())
        });
        tasks.spawn(async move {
            let node = steward.node;
            steward.run().await.map_err(|Removed| ServeError::Removed { node })
        });
        let (moving, config) = (cluster.clone(), file.clone());
        tasks.spawn(async move {
            moved::announce(moving, config).await;
            Ok(())
        });
        if let Some(bootstrap) = file.bootstrap.clone().filter(|bootstrap| bootstrap.founder) {
            let (cluster, config) = (cluster.clone(), file.clone());
            tasks.spawn(async move {
                founding::found(cluster, config, bootstrap, disk, entropy)
                    .await
                    .map_err(|error| ServeError::Failed(chain(&error)))
            });
        }
        Running {
            node: file.node_id,
            config: self.path,
            cluster,
            control,
            gateway_task,
            stop_gateway,
            peer_task,
            stop_peers,
            tasks,
            _directory: self.directory,
        }
    }
}

/// What runs, and how it is stopped.
struct Running {
    node: NodeId,
    config: PathBuf,
    cluster: Cluster,
    control: Arc<Control>,
    gateway_task: JoinSet<()>,
    stop_gateway: CancellationToken,
    peer_task: JoinSet<()>,
    stop_peers: CancellationToken,
    /// Those that end by themselves once their work is done.
    tasks: JoinSet<Result<(), ServeError>>,
    /// Keeps the lock until the log is closed.
    _directory: Directory,
}

impl Running {
    /// Serves until something ends it.
    async fn run(mut self, exit_with_stdin: bool) -> Result<(), ServeError> {
        tokio::select! {
            reason = stop_requested(exit_with_stdin) => {
                info!(reason, "node stops");
                self.close().await;
                Ok(())
            }
            () = self.control.drained() => {
                info!(reason = "drained", "node stops");
                self.close().await;
                Ok(())
            }
            reason = self.cluster.fatal() => Err(self.fatal(reason)),
            error = first_failure(&mut self.tasks) => Err(error),
        }
    }

    /// What a fatal condition means to whoever started the process.
    fn fatal(&self, reason: String) -> ServeError {
        let node = self.node;
        if self.cluster.is_removed() {
            ServeError::Removed { node }
        } else if self.cluster.is_damaged() {
            ServeError::Damaged { reason, node, config: self.config.clone() }
        } else {
            ServeError::Failed(reason)
        }
    }

    /// Lets requests in flight end and hands leadership on, then closes everything in order.
    async fn close(mut self) {
        self.stop_gateway.cancel();
        hand_over(&self.cluster).await;
        while self.gateway_task.join_next().await.is_some() {}
        self.tasks.shutdown().await;
        self.stop_peers.cancel();
        while self.peer_task.join_next().await.is_some() {}
        self.cluster.shutdown().await;
        info!(node = self.node, "node stopped");
    }
}

/// Waits for a signal, or for the end of standard input where that counts.
async fn stop_requested(exit_with_stdin: bool) -> &'static str {
    let wait = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(error) => {
                warn!(%error, "a signal cannot be waited for");
                std::future::pending::<()>().await;
            }
        }
    };
    let stdin_ended = async {
        if !exit_with_stdin {
            std::future::pending::<()>().await;
        }
        // A thread of its own: a read of standard input cannot be cancelled.
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(ended);
        });
        let _ = end.await;
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => "SIGINT",
        () = wait(SignalKind::terminate()) => "SIGTERM",
        () = stdin_ended => "standard input ended",
    }
}

/// Hands leadership to another voter, so that nobody has to wait for an election.
async fn hand_over(cluster: &Cluster) {
    let bound = cluster.failover_bound();
    let others = cluster.status().peers.iter().filter(|peer| peer.voter).count() > 1;
    if others && cluster.status().leads_with_quorum(bound) {
        match cluster.transfer_leader(None, bound).await {
            Ok(to) => info!(to, "leadership handed over"),
            Err(error) => warn!(error = chain(&error), "leadership was not handed over"),
        }
    }
}

/// Waits for a task that fails; tasks that end well are done.
async fn first_failure(tasks: &mut JoinSet<Result<(), ServeError>>) -> ServeError {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(panic) => {
                error!(%panic, "a task of the node panicked");
                return ServeError::Failed(format!("a task of the node panicked: {panic}"));
            }
        }
    }
    std::future::pending().await
}

/// Descriptors that gateway connections must leave: the log and state of storage, peers, streams.
const RESERVED_DESCRIPTORS: usize = 256;
