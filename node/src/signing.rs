//! This node's token-signing keys: new ones, while it runs.
//!
//! ```text
//! make ─ publish the public halves ─ write the file ─ sign with them ─ retire the former
//! ```
//!
//! No token is signed with a key that the log does not have. A crash before the file is written
//! leaves published keys that nobody holds; the next start retires them, as it does whatever else
//! this node signed with before (`keyholder`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::{OrderError, SignerError, TokenSigner};
use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::{NodeId, TraceId};
use lease::outcome::Outcome;
use raft::Cluster;
use storage::seam::{RealDisk, replace_file};
use tracing::info;

use crate::config::chain;
use crate::keyholder::signing_changes;

/// What a change of the keys needs.
pub(crate) struct TokenKeys {
    pub(crate) node: NodeId,
    pub(crate) cluster: Cluster,
    pub(crate) signer: Arc<TokenSigner>,
    /// The private key's file.
    pub(crate) file: PathBuf,
}

impl TokenKeys {
    /// Signs with new keys from now on; the answer is a sentence.
    pub(crate) async fn rotate(&self, deadline: Duration) -> Result<String, OrderError> {
        let failed = |error: &dyn std::error::Error| OrderError::Failed(chain(error));
        // An RSA key takes long enough to be in the way of consensus.
        let new = tokio::task::spawn_blocking(TokenSigner::generate)
            .await
            .map_err(|error| failed(&error))?
            .map_err(|error: SignerError| failed(&error))?;
        let published =
            new.signing_keys(self.node).into_iter().map(Command::PublishSigningKey).collect();
        self.submit(published, deadline).await?;
        let pem = new.to_pem().map_err(|error| failed(&error))?;
        replace_file(&RealDisk, &self.file, pem.expose().as_bytes())
            .map_err(|error| failed(&error))?;
        self.signer.replace(&new);
        info!(kid = new.kid(), "signs access tokens with a new key");
        let changes = signing_changes(&self.cluster.ledger(), self.node, &self.signer);
        self.submit(changes, deadline).await?;
        Ok("signs with new keys".to_owned())
    }

    async fn submit(&self, commands: Vec<Command>, deadline: Duration) -> Result<(), OrderError> {
        if commands.is_empty() {
            return Ok(());
        }
        let envelope = |command| Envelope {
            actor: Actor::Node(self.node),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        };
        let envelopes = commands.into_iter().map(envelope).collect();
        let submitted = self
            .cluster
            .submit(envelopes, deadline)
            .await
            .map_err(|error| OrderError::Failed(chain(&error)))?;
        self.cluster.wait_applied(submitted.index).await;
        match submitted.outcomes.iter().find(|outcome| matches!(outcome, Outcome::Refused(_))) {
            Some(refused) => Err(OrderError::Failed(format!("the ledger refused: {refused:?}"))),
            None => Ok(()),
        }
    }
}
