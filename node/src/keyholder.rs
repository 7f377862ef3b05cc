//! Unsealing: from the sealed rows of the ledger and this node's key-encryption key to the keys
//! that the gateway works with.
//!
//! A node is *sealed* until it holds them: it votes and stores ciphertext, its gateway answers
//! 503, and, when it cannot be unsealed at all (no key file, no wrap for it, a wrap that does not
//! open), it does not lead. Before the gateway gets the keys, the public half of this node's
//! token-signing key is in the log, so that no node ever hands out a token that another cannot
//! verify.
//!
//! What it leaves to others: what the keys are for (`gateway`), how they are sealed (`seal`).

use std::sync::Arc;
use std::time::Duration;

use gateway::{Keys, KeysCell, TokenSigner};
use lease::Ledger;
use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::{NodeId, TraceId};
use protocol::mac::MacKey;
use raft::Cluster;
use tracing::{debug, error, info, warn};

use crate::seal::kek::KeyEncryptionKey;
use crate::seal::{
    CLIENT_SECRET_PEPPER, DATA_KEY_VERSION, DataKey, LEASE_ID_MAC, OPERATOR_PEPPER, RENEWAL_MAC,
    SealError,
};

/// What unsealing needs.
pub(crate) struct Keyholder {
    pub(crate) node: NodeId,
    pub(crate) cluster: Cluster,
    pub(crate) kek: Option<KeyEncryptionKey>,
    pub(crate) signer: Arc<TokenSigner>,
    pub(crate) cell: Arc<KeysCell>,
}

/// How far the ledger lets us.
enum Progress {
    /// Rows are missing, as before founding: look again when something was applied.
    Waiting,
    /// The rows are there and this node cannot open them.
    Sealed(String),
    Open(Keys),
}

impl Keyholder {
    /// The node's task: returns once the gateway has its keys.
    pub(crate) async fn run(self) {
        if self.kek.is_none() {
            warn!("no key-encryption key is configured: this node is sealed, it will not serve");
            self.cluster.set_may_lead(false);
            return;
        }
        let mut told = String::new();
        let keys = loop {
            let seen = self.cluster.status().applied.map_or(0, |applied| applied.index + 1);
            match self.open(&self.cluster.ledger()) {
                Progress::Open(keys) => break keys,
                Progress::Sealed(reason) if reason != told => {
                    error!(reason, "this node is sealed: it votes, and does not serve");
                    self.cluster.set_may_lead(false);
                    told = reason;
                }
                Progress::Sealed(_) | Progress::Waiting => {}
            }
            self.cluster.wait_applied(seen).await;
        };
        self.cluster.set_may_lead(true);
        self.publish_signing_key().await;
        self.cell.unseal(keys);
        info!("unsealed: this node serves");
    }

    fn open(&self, ledger: &Ledger) -> Progress {
        let Some(kek) = &self.kek else { return Progress::Waiting };
        let Some(identity) = ledger.cluster() else { return Progress::Waiting };
        let Some(wrap) = ledger.wrapped_data_key(self.node, DATA_KEY_VERSION) else {
            // All wraps of a new cluster come in one entry.
            let others = ledger
                .members()
                .any(|member| ledger.wrapped_data_key(member.node, DATA_KEY_VERSION).is_some());
            return if others {
                Progress::Sealed("the data key is not wrapped to this node".to_owned())
            } else {
                Progress::Waiting
            };
        };
        match open_keys(ledger, &identity.cluster_id, self.node, kek, wrap) {
            Ok(Some(keys)) => Progress::Open(keys),
            Ok(None) => Progress::Waiting,
            Err(error) => Progress::Sealed(error.to_string()),
        }
    }

    /// Puts the public half of this node's signing key into the log unless it is there.
    async fn publish_signing_key(&self) {
        while self.cluster.ledger().signing_key(self.signer.kid()).is_none() {
            let envelope = Envelope {
                actor: Actor::Node(self.node),
                request: None,
                trace: TraceId::default(),
                cause: None,
                command: Command::PublishSigningKey(self.signer.signing_key(self.node)),
            };
            match self.cluster.submit(vec![envelope], PATIENCE).await {
                Ok(submitted) => {
                    debug!(outcome = ?submitted.outcomes, "published the signing key");
                    self.cluster.wait_applied(submitted.index).await;
                    if self.cluster.ledger().signing_key(self.signer.kid()).is_none() {
                        error!(outcome = ?submitted.outcomes, "the signing key was refused");
                        tokio::time::sleep(REFUSED_RETRY).await;
                    }
                }
                Err(error) => {
                    debug!(%error, "publishing the signing key waits for a quorum");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// The gateway's keys; `None` while one of the secrets is not in the ledger yet.
fn open_keys(
    ledger: &Ledger,
    cluster_id: &str,
    node: NodeId,
    kek: &KeyEncryptionKey,
    wrap: &lease::command::WrappedDataKey,
) -> Result<Option<Keys>, SealError> {
    let data_key = DataKey::unwrap(cluster_id, node, kek, wrap)?;
    let open = |name: &str| {
        ledger
            .secret(name)
            .map(|row| data_key.open_key(cluster_id, row).map(MacKey::new))
            .transpose()
    };
    let (lease_id, renewal) = (open(LEASE_ID_MAC)?, open(RENEWAL_MAC)?);
    let (clients, operators) = (open(CLIENT_SECRET_PEPPER)?, open(OPERATOR_PEPPER)?);
    Ok((|| {
        Some(Keys {
            lease_id: lease_id?,
            renewal: renewal?,
            client_secret_pepper: clients?,
            operator_pepper: operators?,
        })
    })())
}

/// For one attempt to publish.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts without a quorum.
const RETRY: Duration = Duration::from_millis(50);
/// Between two attempts that the ledger refused.
const REFUSED_RETRY: Duration = Duration::from_secs(5);
