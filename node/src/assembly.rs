//! How the parts of a node are put together: who is handed what, and which task does what.
//!
//! What it leaves to others: in which order a process starts and stops (`serve`), and each part.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::{Gateway, GatewayConfig, GatewayContext, KeysCell, NodeControl};
use raft::{Cluster, ClusterConfig, Preset, StartError};
use storage::seam::{Clock, Disk, Entropy};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::authority::{AuthorityCell, ClusterAuthority};
use crate::backup::BackupOrders;
use crate::certificates::Certificates;
use crate::config::{Config, chain, file};
use crate::control::{Control, Held};
use crate::directory::Directory;
use crate::founding;
use crate::keyholder::Keyholder;
use crate::moved;
use crate::peer::{Handlers, PeerListener, PeerTable, PeerTransport};
use crate::serve::{Running, ServeError};
use crate::signing::TokenKeys;
use crate::steward::{Removed, Steward};
use crate::watch::Watch;

/// Everything a running node holds.
pub(crate) struct Node {
    path: PathBuf,
    pub(crate) file: Arc<file::ConfigFile>,
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

/// Tasks that end by themselves once their work is done.
type Tasks = JoinSet<Result<(), ServeError>>;

impl Node {
    /// Opens storage and consensus.
    pub(crate) async fn start(
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
        let (config, cell) = (path.clone(), authority.clone());
        let certificates =
            Certificates::new(config, file.clone(), tls, cell, clock.clone(), entropy.clone())
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
        let cluster = Cluster::start(
            cluster_config(&file, &directory),
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
    pub(crate) fn open(
        mut self,
        listener: TcpListener,
        peer_listener: TcpListener,
        descriptors: u64,
    ) -> Running {
        let cell = Arc::new(KeysCell::sealed());
        let mut tasks = Tasks::new();
        let (orders, backups) = BackupOrders::new(self.backups.take(), &self.cluster, &self.clock);
        if let Some(backups) = backups {
            tasks.spawn(async move {
                backups.run().await;
                Ok(())
            });
        }
        let control = self.control(&cell, orders, descriptors);
        let gateway = self.gateway(&cell, control.clone(), descriptors);
        let peers = self.peers(&cell, &control);
        let (stop_gateway, stop_peers) = (CancellationToken::new(), CancellationToken::new());
        let mut peer_task = JoinSet::new();
        peer_task.spawn(peers.serve(peer_listener, stop_peers.clone()));
        let tls = self.certificates.gateway_tls();
        let mut gateway_task = JoinSet::new();
        let stopped = stop_gateway.clone().cancelled_owned();
        gateway_task.spawn(async move {
            gateway.serve(vec![listener], tls, stopped).await;
        });
        self.keep_watch(&mut tasks, control.clone());
        self.keep_members(&mut tasks);
        self.keep_keys(&mut tasks, cell);
        Running {
            node: self.file.node_id,
            config: self.path,
            cluster: self.cluster,
            control,
            gateway_task,
            stop_gateway,
            peer_task,
            stop_peers,
            tasks,
            _directory: self.directory,
        }
    }

    fn control(
        &self,
        cell: &Arc<KeysCell>,
        orders: BackupOrders,
        descriptors: u64,
    ) -> Arc<Control> {
        let file = &self.file;
        let preset = match file.preset {
            file::Preset::Lan => "lan",
            file::Preset::Region => "region",
            file::Preset::Global => "global",
        };
        let held = Held {
            certificates: self.certificates.clone(),
            keys: cell.clone(),
            token_keys: TokenKeys {
                node: file.node_id,
                cluster: self.cluster.clone(),
                signer: self.signer.clone(),
                file: file.keys.token_signing.clone(),
            },
        };
        let (data_dir, clock) = (file.data_dir.clone(), self.clock.clone());
        Arc::new(Control::new(data_dir, preset, descriptors, clock, held, orders))
    }

    fn gateway(&self, cell: &Arc<KeysCell>, control: Arc<Control>, descriptors: u64) -> Gateway {
        let file = &self.file;
        let mut config = GatewayConfig::new(file.node_id, file.gateway_url.as_str());
        config.faces = self.faces.clone();
        config.rates = self.rates;
        let connections = &mut config.limits.max_connections;
        *connections = (*connections).min(connections_within(descriptors));
        let authority = Arc::new(ClusterAuthority {
            cluster_id: file.cluster_id.clone(),
            cell: self.authority.clone(),
            certificates: self.certificates.clone(),
            leaf_days: file.tls.leaf_days,
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        });
        let context = GatewayContext {
            cluster: self.cluster.clone(),
            keys: cell.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            peers: self.transport.clone(),
            control,
            authority,
        };
        Gateway::new(config, context)
    }

    fn peers(&self, cell: &Arc<KeysCell>, control: &Arc<Control>) -> PeerListener {
        let (cluster, sealed, process) = (self.cluster.clone(), cell.clone(), control.clone());
        let report =
            move || gateway::node_report(&cluster, sealed.get().is_none(), process.facts());
        PeerListener {
            cluster_id: self.file.cluster_id.clone(),
            table: self.table.clone(),
            tls: self.peer_tls.clone(),
            identity: self.certificates.identity(),
            handlers: Handlers::of(&self.cluster, Box::new(report), control.clone()),
        }
    }

    /// What is wrong with the node, and its certificates.
    fn keep_watch(&self, tasks: &mut Tasks, control: Arc<Control>) {
        let watch = Watch {
            node: self.file.node_id,
            data_dir: self.file.data_dir.clone(),
            alarms: self.file.alarms.clone(),
            cluster: self.cluster.clone(),
            control,
            clock: self.clock.clone(),
        };
        tasks.spawn(async move {
            watch.run().await;
            Ok(())
        });
        let (certificates, follows) = (self.certificates.clone(), self.cluster.clone());
        tasks.spawn(async move {
            certificates.run(follows).await;
            Ok(())
        });
    }

    /// Members that come and go, this node's own row, and the cluster's first ones.
    fn keep_members(&self, tasks: &mut Tasks) {
        let steward = Steward {
            node: self.file.node_id,
            cluster: self.cluster.clone(),
            table: self.table.clone(),
            clock: self.clock.clone(),
        };
        tasks.spawn(async move {
            let node = steward.node;
            steward.run().await.map_err(|Removed| ServeError::Removed { node })
        });
        let (moving, config) = (self.cluster.clone(), self.file.clone());
        tasks.spawn(async move {
            moved::announce(moving, config).await;
            Ok(())
        });
        let founder = self.file.bootstrap.clone().filter(|bootstrap| bootstrap.founder);
        if let Some(bootstrap) = founder {
            let (cluster, config) = (self.cluster.clone(), self.file.clone());
            let (disk, entropy) = (self.disk.clone(), self.entropy.clone());
            tasks.spawn(async move {
                founding::found(cluster, config, bootstrap, disk, entropy)
                    .await
                    .map_err(|error| ServeError::Failed(chain(&error)))
            });
        }
    }

    /// Unseals, and takes up what changes.
    fn keep_keys(&mut self, tasks: &mut Tasks, cell: Arc<KeysCell>) {
        let keyholder = Keyholder {
            node: self.file.node_id,
            cluster: self.cluster.clone(),
            kek: self.kek.take(),
            signer: self.signer.clone(),
            cell,
            authority: self.authority.clone(),
            roots: std::mem::take(&mut self.roots),
            entropy: self.entropy.clone(),
        };
        tasks.spawn(async move {
            keyholder.run().await;
            Ok(())
        });
    }
}

fn cluster_config(file: &file::ConfigFile, directory: &Directory) -> ClusterConfig {
    let incarnation = directory.identity.incarnation;
    ClusterConfig {
        preset: match file.preset {
            file::Preset::Lan => Preset::Lan,
            file::Preset::Region => Preset::Region,
            file::Preset::Global => Preset::Global,
        },
        checkpoint_interval: Duration::from_secs(file.checkpoints.every_seconds),
        keep_log_entries: file.checkpoints.keep_log_entries,
        ..ClusterConfig::new(file.node_id, file.data_dir.clone(), incarnation)
    }
}

/// How many gateway connections leave storage, peers and standard streams their descriptors.
fn connections_within(descriptors: u64) -> usize {
    let left = usize::try_from(descriptors).unwrap_or(usize::MAX);
    left.saturating_sub(RESERVED_DESCRIPTORS).max(RESERVED_DESCRIPTORS / 4)
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

/// Descriptors that gateway connections must leave: the log and state of storage, peers, streams.
const RESERVED_DESCRIPTORS: usize = 256;
