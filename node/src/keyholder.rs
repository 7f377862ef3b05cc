//! Unsealing: from the sealed rows of the ledger and this node's key-encryption key to the keys
//! that the gateway works with.
//!
//! A node is *sealed* until it holds them: it votes and stores ciphertext, its gateway answers
//! 503, and, when it cannot be unsealed at all (no key file, no wrap for it, a wrap that does not
//! open), it does not lead. Before the gateway gets the keys, the public half of this node's
//! token-signing key is in the log, so that no node ever hands out a token that another cannot
//! verify.
//!
//! Secrets that a cluster makes itself are made by whoever leads: it seals them and proposes them,
//! and goes on with what is in the ledger, whoever put it there. Once unsealed, the keyholder
//! watches for secrets that were replaced or added, and gives the gateway the new ones.
//!
//! What it leaves to others: what the keys are for (`gateway`), how they are sealed (`seal`).

use std::sync::Arc;
use std::time::Duration;

use gateway::{Keys, KeysCell, TokenSigner};
use lease::Ledger;
use lease::command::{Command, Sealed};
use lease::entry::{Actor, Envelope};
use lease::ids::{ActivationId, Name, NodeId, TraceId};
use lease::operate::{AnchorState, ResealActivation};
use lease::outcome::{Outcome, RefusalCode};
use protocol::secret::Secret;
use raft::Cluster;
use rustls::pki_types::CertificateDer;
use storage::seam::Entropy;
use tracing::{debug, error, info};

use crate::authority::{AuthorityCell, IssuingKey};
use crate::seal::kek::KeyEncryptionKey;
use crate::seal::ring::Keyring;
use crate::seal::{CA_KEY, SealError, opened};

/// What unsealing needs.
pub(crate) struct Keyholder {
    pub(crate) node: NodeId,
    pub(crate) cluster: Cluster,
    pub(crate) kek: Option<KeyEncryptionKey>,
    pub(crate) signer: Arc<TokenSigner>,
    pub(crate) cell: Arc<KeysCell>,
    /// Takes the cluster's certificate authority.
    pub(crate) authority: Arc<AuthorityCell>,
    /// Certificates of this node's file of roots.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// How far the ledger lets us.
enum Progress {
    /// Rows are missing, as before founding: look again when something was applied.
    Waiting,
    /// Rows are missing that the leader makes.
    Unmade(Vec<&'static str>),
    /// The rows are there and this node cannot open them.
    Sealed(String),
    Open(Box<Keys>, Seen),
}

/// What there was: compared to find out that something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    secrets: Vec<(Name, u32)>,
    data_keys: Vec<u32>,
    anchors: Vec<([u8; 32], AnchorState)>,
}

impl Keyholder {
    /// The node's task: ends only on a node that has no key of its own.
    pub(crate) async fn run(self) {
        let Some(kek) = &self.kek else {
            error!(
                "no key-encryption key: this node is sealed, it votes and does not serve; put the \
                 file of keys.kek back where node.toml says and start it again"
            );
            self.cluster.set_may_lead(false);
            return;
        };
        let (keys, seen) = self.unsealed(kek).await;
        self.cluster.set_may_lead(true);
        self.publish_signing_key().await;
        self.cell.unseal(keys);
        info!("unsealed: this node serves");
        self.keep_up(kek, seen).await;
    }

    /// Waits until the ledger holds every secret, and opens them.
    async fn unsealed(&self, kek: &KeyEncryptionKey) -> (Keys, Seen) {
        let mut told = String::new();
        loop {
            let next = self.cluster.status().applied.map_or(0, |applied| applied.index + 1);
            let progress = self.open(kek, &self.cluster.ledger());
            let applied = self.cluster.wait_applied(next);
            match progress {
                Progress::Open(keys, seen) => return (*keys, seen),
                Progress::Sealed(reason) => {
                    if reason != told {
                        error!(reason, "this node is sealed: it votes, and does not serve");
                        self.cluster.set_may_lead(false);
                        told = reason;
                    }
                    applied.await;
                }
                Progress::Waiting => applied.await,
                Progress::Unmade(names) => {
                    if !std::mem::take(&mut told).is_empty() {
                        self.cluster.set_may_lead(true);
                    }
                    self.make(kek, &names).await;
                    // Whoever leads may have changed without an entry of its own.
                    let _ = tokio::time::timeout(RETRY, applied).await;
                }
            }
        }
    }

    /// Gives the gateway what replaces a secret, or was added to them, for as long as the node
    /// runs.
    async fn keep_up(&self, kek: &KeyEncryptionKey, mut seen: Seen) {
        // Where the look for what is sealed under a former data key goes on.
        let mut resealing = Some(Resealing::default());
        let mut unpublished = Vec::new();
        loop {
            let next = self.cluster.status().applied.map_or(0, |applied| applied.index + 1);
            let now = seen_in(&self.cluster.ledger(), self.node);
            if now == seen {
                resealing = self.reseal_some(resealing).await;
                if resealing.is_none() {
                    // Also now and then for its own sake: leadership may have come here.
                    let _ = tokio::time::timeout(LOOK, self.cluster.wait_applied(next)).await;
                    resealing = Some(Resealing::default());
                    unpublished = self.publish_what_was_left(unpublished).await;
                }
                if seen_in(&self.cluster.ledger(), self.node) != seen {
                    continue;
                }
                // A busy cluster applies without end; secrets change a few times a year.
                tokio::time::sleep(REFRESH).await;
                continue;
            }
            seen = now;
            // Others open a new data key in a moment, too; only then is anything sealed under it
            // that they are asked for.
            resealing = Some(Resealing { after: None, pauses: RESEALING_PAUSES });
            match self.open(kek, &self.cluster.ledger()) {
                Progress::Open(keys, opened) => {
                    seen = opened;
                    self.cell.unseal(*keys);
                    info!("a cluster secret has changed: the gateway has the new one");
                }
                Progress::Sealed(reason) => {
                    error!(reason, "a cluster secret has changed; the former ones stay in use");
                }
                Progress::Waiting | Progress::Unmade(_) => {}
            }
        }
    }

    fn open(&self, kek: &KeyEncryptionKey, ledger: &Ledger) -> Progress {
        let Some(identity) = ledger.cluster() else { return Progress::Waiting };
        let ring = match Keyring::unwrap(ledger, &identity.cluster_id, self.node, kek) {
            Ok(Some(ring)) => Arc::new(ring),
            // All wraps of a new cluster come in one entry, and those of a node that joins with its
            // row.
            Ok(None)
                if ledger.wrapped_data_keys().next().is_none()
                    || ledger.member(self.node).is_none() =>
            {
                return Progress::Waiting;
            }
            Ok(None) => {
                return Progress::Sealed("the data key is not wrapped to this node".to_owned());
            }
            Err(error) => return Progress::Sealed(error.to_string()),
        };
        if !opened::is_founded(ledger) {
            return Progress::Waiting;
        }
        let missing = opened::missing(ledger);
        if !missing.is_empty() {
            return Progress::Unmade(missing);
        }
        let authority = self.issuing_key(ledger, &identity.cluster_id, &ring);
        match opened::open(ledger, &identity.cluster_id, ring, Arc::clone(&self.entropy)) {
            Ok(keys) => {
                self.authority.set(authority);
                Progress::Open(Box::new(keys), seen_in(ledger, self.node))
            }
            Err(error) => Progress::Sealed(error.to_string()),
        }
    }

    /// The cluster's certificate authority, where it has one of its own.
    fn issuing_key(&self, ledger: &Ledger, cluster_id: &str, ring: &Keyring) -> Option<IssuingKey> {
        let row = ledger.secret(CA_KEY)?;
        let opened = match ring.open(cluster_id, row) {
            Ok(opened) => opened,
            Err(error) => {
                error!(%error, "the key of the certificate authority does not open");
                return None;
            }
        };
        let key_pem = Secret::new(String::from_utf8(opened.expose().clone()).ok()?);
        IssuingKey::find(ledger, &self.roots, key_pem, row.version)
    }

    /// Makes, seals and proposes what is missing, if this node leads.
    async fn make(&self, kek: &KeyEncryptionKey, names: &[&'static str]) {
        let bound = self.cluster.failover_bound();
        if !self.cluster.status().leads_with_quorum(bound) {
            return;
        }
        let Some((cluster_id, ring)) = self.ring(kek) else { return };
        let mut commands = Vec::with_capacity(names.len());
        for name in names {
            match self.make_one(&cluster_id, &ring, name).await {
                Ok(command) => commands.push(command),
                Err(reason) => {
                    error!(name, reason, "a cluster secret could not be made");
                    tokio::time::sleep(REFUSED_RETRY).await;
                    return;
                }
            }
        }
        let envelopes = commands.into_iter().map(|command| self.envelope(command)).collect();
        match self.cluster.submit(envelopes, PATIENCE).await {
            Ok(submitted) => {
                self.cluster.wait_applied(submitted.index).await;
                for outcome in &submitted.outcomes {
                    match outcome {
                        // Somebody else did.
                        Outcome::Refused(refusal)
                            if refusal.code == RefusalCode::VersionConflict => {}
                        Outcome::Refused(refusal) => {
                            error!(code = ?refusal.code, "a cluster secret was refused");
                            tokio::time::sleep(REFUSED_RETRY).await;
                        }
                        _ => {}
                    }
                }
                info!(secrets = names.join(", "), "made the cluster's secrets");
            }
            Err(error) => debug!(%error, "making secrets waits for a quorum"),
        }
    }

    fn ring(&self, kek: &KeyEncryptionKey) -> Option<(String, Keyring)> {
        let ledger = self.cluster.ledger();
        let cluster_id = ledger.cluster()?.cluster_id.to_string();
        let ring = Keyring::unwrap(&ledger, &cluster_id, self.node, kek).ok()??;
        Some((cluster_id, ring))
    }

    async fn make_one(
        &self,
        cluster_id: &str,
        ring: &Keyring,
        name: &'static str,
    ) -> Result<Command, String> {
        let text = |error: SealError| error.to_string();
        let entropy = Arc::clone(&self.entropy);
        // An RSA key takes long enough to be in the way of consensus.
        let made = tokio::task::spawn_blocking(move || opened::make(name, &*entropy))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let sealed = ring.newest().seal(cluster_id, name, 1, made.expose(), &*self.entropy);
        Ok(Command::PutSecret(sealed.map_err(text)?))
    }

    /// Seals some of what records keep secret anew, where it is under a former data key: the
    /// leader's work, a bounded batch at a time, from the first activation to the last. `None`:
    /// there is nothing left to look at.
    async fn reseal_some(&self, resealing: Option<Resealing>) -> Option<Resealing> {
        let Resealing { after, pauses } = resealing?;
        let keys = self.cell.get()?;
        if keys.vault.data_key_versions().len() < 2 {
            return None;
        }
        if pauses > 0 {
            return Some(Resealing { after, pauses: pauses - 1 });
        }
        if !self.cluster.status().leads_with_quorum(self.cluster.failover_bound()) {
            // Whoever leads does it; should that come to be this node, it begins anew.
            tokio::time::sleep(REFRESH).await;
            return Some(Resealing::default());
        }
        let sealed = self.sealed_after(after);
        let last = sealed.last().map(|(activation, _)| *activation)?;
        let newest = keys.vault.data_key_version();
        let commands: Vec<Envelope> = sealed
            .into_iter()
            .filter_map(|(activation, before)| {
                let record = gateway::session_record(activation);
                let version = keys.vault.version_of_record(&record, &before)?;
                if version == newest {
                    return None;
                }
                let opened = keys.vault.open(&record, &before).ok()?;
                let after = keys.vault.seal(&record, opened.expose()).ok()?;
                let reseal = ResealActivation { activation, before, after };
                Some(self.envelope(Command::ResealActivation(Box::new(reseal))))
            })
            .collect();
        if !commands.is_empty()
            && let Err(error) = self.cluster.submit(commands, PATIENCE).await
        {
            debug!(%error, "sealing anew waits for a quorum");
            tokio::time::sleep(REFRESH).await;
            return Some(Resealing { after, pauses });
        }
        Some(Resealing { after: Some(last), pauses })
    }

    /// The next activations with a session key, and the key as it is sealed.
    fn sealed_after(&self, after: Option<ActivationId>) -> Vec<(ActivationId, Sealed)> {
        let ledger = self.cluster.ledger();
        let sealed = |row: &lease::license::ActivationRow| {
            row.session.clone().map(|session| (row.activation, session))
        };
        ledger.activations(after).filter_map(sealed).take(RESEALED_AT_ONCE).collect()
    }

    fn envelope(&self, command: Command) -> Envelope {
        Envelope {
            actor: Actor::Node(self.node),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        }
    }

    /// Puts the public halves of this node's signing keys into the log unless they are there, and
    /// retires what it signed with before.
    async fn publish_signing_key(&self) {
        loop {
            let changes = signing_changes(&self.cluster.ledger(), self.node, &self.signer);
            if changes.is_empty() {
                return;
            }
            let envelopes = changes.into_iter().map(|command| self.envelope(command)).collect();
            match self.cluster.submit(envelopes, PATIENCE).await {
                Ok(submitted) => {
                    debug!(outcome = ?submitted.outcomes, "published the signing keys");
                    self.cluster.wait_applied(submitted.index).await;
                    let refused = |it: &Outcome| matches!(it, Outcome::Refused(_));
                    if submitted.outcomes.iter().any(refused) {
                        error!(outcome = ?submitted.outcomes, "a signing key was refused");
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

impl Keyholder {
    /// A change of the signing keys that did not reach the log whole is finished: one that is
    /// still missing what it was at the look before. Anything else may be under way (`signing`).
    async fn publish_what_was_left(&self, before: Vec<Command>) -> Vec<Command> {
        let missing = signing_changes(&self.cluster.ledger(), self.node, &self.signer);
        if missing.is_empty() || missing != before {
            return missing;
        }
        self.publish_signing_key().await;
        Vec::new()
    }
}

/// What the log must hold so that the tokens of a signer verify, and of no other of this node's
/// beyond the hour.
pub(crate) fn signing_changes(ledger: &Ledger, node: NodeId, signer: &TokenSigner) -> Vec<Command> {
    let ours = signer.signing_keys(node);
    let signs = |kid: &str| ledger.signing_key(kid).is_some() && ledger.retired_key(kid).is_none();
    let mut changes: Vec<Command> = ours
        .iter()
        .filter(|key| !signs(&key.kid))
        .map(|key| Command::PublishSigningKey(key.clone()))
        .collect();
    let former = ledger.signing_keys().filter(|key| key.node == node && signs(&key.kid));
    let former = former.filter(|key| ours.iter().all(|our| our.kid != key.kid));
    changes.extend(former.map(|key| Command::RetireSigningKey { kid: key.kid.clone() }));
    changes
}

/// How far the look for what is sealed under a former data key has come.
#[derive(Debug, Clone, Copy, Default)]
struct Resealing {
    after: Option<ActivationId>,
    /// Looks that pass before it begins.
    pauses: u32,
}

fn seen_in(ledger: &Ledger, node: NodeId) -> Seen {
    Seen {
        secrets: ledger.secrets().map(|row| (row.name.clone(), row.version)).collect(),
        data_keys: ledger.data_key_versions(node),
        anchors: ledger.trust_anchors().map(|row| (row.fingerprint, row.state)).collect(),
    }
}

/// For one attempt to put something into the log.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts without a quorum.
const RETRY: Duration = Duration::from_millis(50);
/// Between two attempts that the ledger refused.
const REFUSED_RETRY: Duration = Duration::from_secs(5);
/// Records sealed anew in one entry.
const RESEALED_AT_ONCE: usize = 256;
/// How many looks at what changed pass before anything is sealed anew: five seconds.
const RESEALING_PAUSES: u32 = 20;
/// How long an idle cluster lets the keyholder sleep.
const LOOK: Duration = Duration::from_secs(30);
/// At most so long after it was applied, a new secret is in use.
const REFRESH: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
