//! Founding a cluster: from a set of empty nodes to one that serves.
//!
//! The founder forms the Raft membership and proposes, in this order, the cluster's identity and
//! then, in one entry, its members, its sealed secrets, the data key wrapped to every member, and
//! the first operator token. Every value comes from the founder's secrets file or the
//! configuration, and what the ledger holds already is not proposed again, so that a founder that
//! dies anywhere goes on where it was. The file is removed when a linearizable read shows
//! everything in place: by then it is on a majority of disks.
//!
//! What it leaves to others: making the file (`provision`), opening the secrets (`keyholder`).

use std::sync::Arc;
use std::time::Duration;

use lease::Ledger;
use lease::command::{Command, InitCluster, Member, Operator, Role};
use lease::entry::{Actor, Envelope};
use lease::ids::{NodeId, OperatorId, TraceId};
use lease::outcome::{Outcome, RefusalCode};
use raft::{Cluster, InitializeError};
use storage::seam::{Disk, Entropy};
use thiserror::Error;
use tracing::{debug, info};

use crate::config::file::{BootstrapFile, ConfigFile};
use crate::provision::{Founding, read_founding};
use crate::seal::{DATA_KEY_VERSION, SealError};

/// Why a cluster could not be founded. Waiting for a quorum is not a reason.
#[derive(Debug, Error)]
pub enum FoundingError {
    /// The secrets file is gone or not usable, and the cluster is not founded.
    #[error("the cluster is not founded and the secrets file {path} {reason}")]
    Secrets {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The Raft membership could not be formed.
    #[error("the first membership could not be formed")]
    Initialize(#[source] InitializeError),
    /// The ledger refused what founding needs.
    #[error("the ledger refused to found the cluster: {0:?}")]
    Refused(RefusalCode),
    /// A member's key is not usable.
    #[error("the data key could not be wrapped to node {node}")]
    Wrap {
        /// The member.
        node: NodeId,
        /// Why.
        source: SealError,
    },
    /// The secrets could not be sealed.
    #[error("a secret could not be sealed")]
    Seal(#[source] SealError),
    /// The file with the secrets could not be removed.
    #[error("the secrets file {path} could not be removed")]
    Remove {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The founder's task: returns once the cluster is founded and the secrets file is gone.
pub(crate) async fn found(
    cluster: Cluster,
    config: Arc<ConfigFile>,
    bootstrap: BootstrapFile,
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
) -> Result<(), FoundingError> {
    let Some(path) = &bootstrap.secrets else { return Ok(()) };
    let shown = path.display().to_string();
    let exists = disk.exists(path).unwrap_or(true);
    if !exists && cluster.is_initialized().await {
        return Ok(());
    }
    let founding = read_founding(path)
        .map_err(|reason| FoundingError::Secrets { path: shown.clone(), reason })?;
    let founder = Founder { cluster, config, bootstrap: &bootstrap, founding, entropy };
    founder.form_membership().await?;
    founder.write_ledger().await?;
    let removed = disk
        .remove_file(path)
        .and_then(|()| path.parent().map_or(Ok(()), |parent| disk.sync_dir(parent)));
    removed.map_err(|source| FoundingError::Remove { path: shown, source })?;
    info!(cluster = founder.config.cluster_id, "the cluster is founded");
    Ok(())
}

struct Founder<'a> {
    cluster: Cluster,
    config: Arc<ConfigFile>,
    bootstrap: &'a BootstrapFile,
    founding: Founding,
    entropy: Arc<dyn Entropy>,
}

impl Founder<'_> {
    async fn form_membership(&self) -> Result<(), FoundingError> {
        if self.cluster.is_initialized().await {
            return Ok(());
        }
        let members =
            self.bootstrap.members.iter().map(|member| (member.id, member.peer_address.clone()));
        match self.cluster.initialize(members.collect()).await {
            Ok(()) | Err(InitializeError::Already) => Ok(()),
            Err(error) => Err(FoundingError::Initialize(error)),
        }
    }

    /// Proposes what is missing until a linearizable read shows that nothing is.
    async fn write_ledger(&self) -> Result<(), FoundingError> {
        loop {
            if let Err(error) = self.cluster.read_barrier(PATIENCE).await {
                debug!(%error, "founding waits for a quorum");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let missing = self.missing(&self.cluster.ledger())?;
            if missing.is_empty() {
                return Ok(());
            }
            let actor = Actor::Node(self.config.node_id);
            let envelopes = missing
                .into_iter()
                .map(|command| Envelope {
                    actor,
                    request: None,
                    trace: TraceId::default(),
                    cause: None,
                    command,
                })
                .collect();
            match self.cluster.submit(envelopes, PATIENCE).await {
                Ok(submitted) => {
                    let refused = submitted.outcomes.iter().find_map(|outcome| match outcome {
                        Outcome::Refused(refusal) => Some(refusal.code),
                        _ => None,
                    });
                    if let Some(code) = refused {
                        return Err(FoundingError::Refused(code));
                    }
                }
                // It may have been applied: the next round looks.
                Err(error) => debug!(%error, "founding waits for a quorum"),
            }
        }
    }

    /// What the ledger does not hold yet, in order.
    fn missing(&self, ledger: &Ledger) -> Result<Vec<Command>, FoundingError> {
        if ledger.cluster().is_none() {
            return Ok(vec![Command::InitCluster(InitCluster {
                cluster_id: self.config.cluster_id.as_str().into(),
                client_id: self.bootstrap.client_id.as_str().into(),
                org_domain: self.bootstrap.org_domain.as_str().into(),
                epoch: 1,
                incarnation: self.founding.incarnation,
            })]);
        }
        let cluster_id = &self.config.cluster_id;
        let data_key = &self.founding.data_key;
        let mut missing = Vec::new();
        for member in &self.bootstrap.members {
            if ledger.member(member.id).is_none() {
                missing.push(Command::PutMember(Member {
                    node: member.id,
                    peer_address: member.peer_address.as_str().into(),
                    gateway_url: member.gateway_url.as_str().into(),
                    region: member.region.as_str().into(),
                    zone: member.zone.as_str().into(),
                    directory_incarnation: member.directory_incarnation.number(),
                    kek_public: member.kek_public.0,
                }));
            }
        }
        for (name, secret) in &self.founding.secrets {
            if ledger.secret(name).is_none() {
                let sealed = data_key
                    .seal(cluster_id, name, 1, secret.expose(), &*self.entropy)
                    .map_err(FoundingError::Seal)?;
                missing.push(Command::PutSecret(sealed));
            }
        }
        for member in &self.bootstrap.members {
            if ledger.wrapped_data_key(member.id, DATA_KEY_VERSION).is_none() {
                let wrapped = data_key
                    .wrap(cluster_id, member.id, member.kek_public.0, &*self.entropy)
                    .map_err(|source| FoundingError::Wrap { node: member.id, source })?;
                missing.push(Command::WrapDataKey(wrapped));
            }
        }
        let operator = OperatorId(self.founding.operator);
        if ledger.operator(operator).is_none() {
            missing.push(Command::AddOperator(Operator {
                operator,
                name: self.founding.operator_name.as_str().into(),
                role: Role::Admin,
                token_mac: self.founding.operator_mac,
                expires_at_ms: None,
            }));
        }
        Ok(missing)
    }
}

/// For one attempt; the loop goes on as long as the process does.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts without a quorum.
const RETRY: Duration = Duration::from_millis(50);
