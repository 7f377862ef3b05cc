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
//! What it leaves to others: how the parts are put together (`assembly`), and the parts.

use std::path::PathBuf;
use std::sync::Arc;

use lease::ids::NodeId;
use raft::Cluster;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use storage::seam::{Clock, Disk, Entropy, RealClock, RealDisk, RealEntropy};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::assembly::Node;
use crate::config::{self, Config, ConfigError, chain};
use crate::control::Control;
use crate::directory::{self, Directory, DirectoryError, Ticket};
use crate::{logging, pki};

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
    // From the first moment on: SIGHUP reads certificates again (`certificates`) and ends nothing.
    let _hangups = signal(SignalKind::hangup()).map_err(|error| {
        ServeError::Failed(format!("SIGHUP cannot be taken: {}", config::io_reason(&error)))
    })?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let entropy: Arc<dyn Entropy> = Arc::new(RealEntropy);
    let config = config::load(&options.config, &*clock)?;
    logging::start(&config.file.log);
    use_small_pages();
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

/// Has memory grow by pages of 4 KiB. With pages of 2 MiB a node that holds a million leases took a
/// tenth more, and each of them is cleared while a request waits for it.
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        debug!(%error, "the kernel does not say how large pages are");
    }
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

async fn bind(key: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen {
        key,
        address,
        reason: config::io_reason(&error),
    })
}

/// What runs, and how it is stopped.
pub(crate) struct Running {
    pub(crate) node: NodeId,
    pub(crate) config: PathBuf,
    pub(crate) cluster: Cluster,
    pub(crate) control: Arc<Control>,
    pub(crate) gateway_task: JoinSet<()>,
    pub(crate) stop_gateway: CancellationToken,
    pub(crate) peer_task: JoinSet<()>,
    pub(crate) stop_peers: CancellationToken,
    /// Those that end by themselves once their work is done.
    pub(crate) tasks: JoinSet<Result<(), ServeError>>,
    /// Keeps the lock until the log is closed.
    pub(crate) _directory: Directory,
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
