//! What is known of a deployment's license: tokens, details, the last success, the verdict.
//!
//! ```text
//! deployment-HASH:   a document (document.rs) of `Kept`, under a key that the license key gives
//! ```
//!
//! The rules are [`protocol::deployment::client`]; here they meet the clock, the store and the
//! offline token. A token that verifies carries the cluster to its end, beyond a grace that is
//! shorter; it is no more than grace, since nobody said since that the slot is ours.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::deployment::client::{Client, State, StopReason, Stored};
use protocol::deployment::config::Config;
use protocol::deployment::license_key::LicenseKey;
use protocol::deployment::wire::{LicenseDetails, Metadata, TokenAnswer};
use protocol::mac::MacKey;
use protocol::offline::{self, Expect, Holder, HolderKind, KeySet};
use protocol::secret::Disclosed;
use serde::{Deserialize, Serialize};

use super::calls::{self, Refused};
use crate::announce::Announcer;
use crate::denied::system_time;
use crate::document;
use crate::error::Error;
use crate::network::Network;
use crate::steady::SteadyClock;
use crate::store::OfflineStore;
use crate::verdict::{GraceReason, LostReason, Verdict};

/// What a client was set up with.
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) metadata: Metadata,
    pub(super) nodes: Option<u32>,
}

/// What a client and its task share.
pub(super) struct Core {
    pub(super) network: Network,
    pub(super) clock: SteadyClock,
    pub(super) announcer: Announcer,
    pub(super) metadata: Metadata,
    /// A setup changes it.
    pub(super) config: Mutex<Config>,
    pub(super) nodes: Mutex<Option<u32>>,
    pub(super) standing: Mutex<Standing>,
    store: Option<Arc<dyn OfflineStore>>,
    offline_keys: tokio::sync::Mutex<KeySet>,
}

/// What is known.
pub(super) struct Standing {
    pub(super) machine: Client,
    /// Why no server could say so, while that is so.
    pub(super) trouble: GraceReason,
    pub(super) lost: Option<LostReason>,
    pub(super) access_token: Option<Disclosed>,
    pub(super) details: Option<LicenseDetails>,
    /// When the verified offline token ends, in Unix milliseconds.
    offline_until_ms: Option<i64>,
    /// What the last refusal said.
    pub(super) refused: Option<Refused>,
}

/// What outlives the process.
#[derive(Serialize, Deserialize)]
struct Kept {
    stored: Stored,
    highest_ms: i64,
}

impl Core {
    pub(super) fn new(
        network: Network,
        settings: Settings,
        store: Option<Arc<dyn OfflineStore>>,
    ) -> Self {
        let Settings { config, metadata, nodes } = settings;
        let clock = SteadyClock::new(Arc::clone(network.environment()));
        let standing = Standing::new(false, &config, Stored::default());
        Self {
            network,
            clock,
            announcer: Announcer::new(Verdict::Lost { reason: LostReason::NotActivated }),
            metadata,
            config: Mutex::new(config),
            nodes: Mutex::new(nodes),
            standing: Mutex::new(standing),
            store,
            offline_keys: tokio::sync::Mutex::new(KeySet::default()),
        }
    }

    /// The verdict by the clock of now.
    pub(super) fn verdict(&self) -> Verdict {
        let now_ms = self.clock.now_ms();
        let standing = self.standing.lock();
        let lost = |reason| Verdict::Lost { reason };
        if let Some(reason) = &standing.lost {
            return lost(reason.clone());
        }
        let ends_ms = standing.details.as_ref().and_then(|details| details.expires_at);
        if ends_ms.is_some_and(|end| now_ms > end.unix_ms) {
            return lost(LostReason::Expired { why: None });
        }
        let why = standing.trouble;
        match standing.machine.state() {
            State::Activated if standing.machine.may_run(now_ms) => Verdict::Held,
            State::Waiting => lost(standing.refusal("another cluster holds the slot")),
            State::Unconfigured | State::Starting => lost(LostReason::NotActivated),
            State::Activated | State::Grace | State::Setup | State::Stopped => {
                match standing.grace_ends_ms().filter(|end| now_ms <= *end) {
                    Some(end) => Verdict::Grace { until: system_time(end), why },
                    None => lost(LostReason::Expired { why: Some(why) }),
                }
            }
        }
    }

    /// Tells the verdict of now to those who follow it.
    pub(super) fn publish(&self) -> Verdict {
        let verdict = self.verdict();
        self.announcer.tell("deployment", &verdict);
        verdict
    }

    /// The key and the cluster, when both are known.
    pub(super) fn identity(&self) -> Option<(LicenseKey, String)> {
        let config = self.config.lock();
        let key = config.license_key.as_ref()?.expose().parse().ok()?;
        Some((key, config.cluster_id.clone()?))
    }

    /// Takes in a success: tokens, details, time.
    pub(super) async fn granted(
        &self,
        answer: TokenAnswer,
    ) -> protocol::deployment::client::Decision {
        // What the clock says may be wrong; what the server signs off on is not.
        self.clock.correct(answer.validated_at.unix_ms);
        let now_ms = self.clock.now_ms();
        let offline_until_ms = match &answer.offline_token {
            None => None,
            Some(token) => match self.believe(token.expose(), now_ms).await {
                Ok(until_ms) => Some(until_ms),
                Err(reason) => {
                    tracing::warn!(%reason, "an offline token is not believed");
                    None
                }
            },
        };
        let (decision, stored) = {
            let mut standing = self.standing.lock();
            standing.lost = None;
            standing.refused = None;
            standing.trouble = GraceReason::Unreachable;
            // A server that gives none any more wants none to be used.
            standing.offline_until_ms = offline_until_ms;
            let decision = standing.machine.on_success(answer.token_version, now_ms);
            standing.details = Some(LicenseDetails {
                license_type: answer.license_type,
                max_nodes: answer.max_nodes,
                features: answer.features,
                expires_at: answer.license_expires_at,
                token_version: answer.token_version,
            });
            standing.access_token = answer.access_token;
            (decision, standing.machine.stored())
        };
        self.keep(stored).await;
        decision
    }

    /// Verifies an offline token with the published keys and tells when it ends.
    async fn believe(&self, token: &str, now_ms: i64) -> Result<i64, String> {
        let (_, cluster_id) = self.identity().ok_or("there is no cluster id")?;
        let key_id = offline::inspect(token).map_err(|error| error.to_string())?.key_id;
        let mut keys = self.offline_keys.lock().await;
        if keys.get(&key_id).is_none() {
            *keys = calls::offline_keys(&self.network).await.map_err(|error| error.to_string())?;
        }
        let holder = Holder::of(HolderKind::Cluster, &cluster_id);
        let expect = Expect { holder: Some(&holder), ..Expect::at(now_ms) };
        let claims = offline::verify(token, &keys, &expect).map_err(|error| error.to_string())?;
        Ok(i64::try_from(claims.exp).unwrap_or(i64::MAX).saturating_mul(1_000))
    }

    /// What an earlier run kept; nothing when there is no store, or it is not believed.
    pub(super) async fn recall(&self) -> Option<Stored> {
        let (name, key) = self.document()?;
        let store = Arc::clone(self.store.as_ref()?);
        let loaded = tokio::task::spawn_blocking(move || store.load(&name)).await;
        let document = match loaded {
            Ok(Ok(document)) => document?,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the last success is not known");
                return None;
            }
            Err(_) => return None,
        };
        match document::open::<Kept>(&key, LABEL, &document) {
            Ok(kept) => {
                self.clock.learn(kept.highest_ms);
                Some(kept.stored)
            }
            Err(reason) => {
                tracing::warn!(%reason, "the last success is not believed");
                None
            }
        }
    }

    /// Keeps the last success.
    pub(super) async fn keep(&self, stored: Stored) {
        let Some(((name, key), store)) = self.document().zip(self.store.clone()) else { return };
        let kept = Kept { stored, highest_ms: self.clock.now_ms() };
        let Ok(document) = document::seal(&key, LABEL, &kept) else { return };
        let saved = tokio::task::spawn_blocking(move || store.save(&name, &document)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the last success could not be kept");
        }
    }

    /// Name and key of the document.
    fn document(&self) -> Option<(String, MacKey)> {
        let (key, cluster_id) = self.identity()?;
        let mut hash = offline::holder_hash(HolderKind::Cluster, &cluster_id);
        hash.truncate(NAME_CHARS);
        let key = MacKey::new([0; 32]).tag(&[LABEL, key.expose().as_bytes()]);
        Some((format!("deployment-{hash}"), MacKey::new(key)))
    }

    /// The access token.
    pub(super) fn access_token(&self) -> Option<Disclosed> {
        let standing = self.standing.lock();
        standing.access_token.as_ref().map(|token| Disclosed::new(token.expose().to_owned()))
    }

    /// An error of a start that has nothing to start with.
    pub(super) fn not_licensed(error: &dyn std::fmt::Display) -> Error {
        Error::configuration(error.to_string())
    }
}

impl Standing {
    /// The standing of a process that has just begun.
    pub(super) fn new(is_configured: bool, config: &Config, stored: Stored) -> Self {
        let Config { offline_grace_ms, heartbeat_interval_ms, .. } = *config;
        Self {
            machine: Client::start(is_configured, stored, offline_grace_ms, heartbeat_interval_ms),
            trouble: GraceReason::Unreachable,
            lost: None,
            access_token: None,
            details: None,
            offline_until_ms: None,
            refused: None,
        }
    }

    /// Until when no server is needed: the grace's end, or that of the offline token.
    pub(super) fn grace_ends_ms(&self) -> Option<i64> {
        self.machine.grace_ends_ms().max(self.offline_until_ms)
    }

    /// Why it is lost, in the words of the server where it said something.
    pub(super) fn lose(&mut self, reason: StopReason) {
        if reason == StopReason::GraceExceeded {
            // The slot may still be ours: it is given back at the end.
            if !matches!(self.lost, Some(LostReason::ClockWentBack { .. })) {
                self.lost = Some(LostReason::Expired { why: Some(self.trouble) });
            }
            return;
        }
        self.access_token = None;
        self.offline_until_ms = None;
        self.lost = Some(self.refusal("the license server refuses"));
    }

    fn refusal(&self, otherwise: &str) -> LostReason {
        match &self.refused {
            Some(Refused { code, message, .. }) => {
                LostReason::Refused { code: code.clone(), detail: message.clone() }
            }
            None => LostReason::Refused { code: "refused".into(), detail: otherwise.into() },
        }
    }
}

const LABEL: &[u8] = b"leasehold-client deployment 1:";
/// Hex digits of the cluster's hash in a document's name.
const NAME_CHARS: usize = 32;
