//! What all requests of a gateway share, and the two ways into the cluster: submit and read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lease::command::Command;
use lease::ids::RequestId;
use lease::outcome::Outcome;
use protocol::oauth::token::BearerError;
use raft::{LedgerGuard, Submitted};
use tokio::sync::Semaphore;

use crate::auth;
use crate::call::{Call, Principal};
use crate::calls::probes::Check;
use crate::context::{GatewayConfig, GatewayContext};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::tokens::TokenCache;

/// Shared by all requests.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) context: GatewayContext,
    pub(crate) tokens: TokenCache,
    pub(crate) metrics: Metrics,
    /// Bounds requests at once.
    pub(crate) in_flight: Semaphore,
    /// Bounds signatures at once: each keeps a core busy for most of a millisecond, and consensus
    /// runs on the same cores.
    pub(crate) signing: Semaphore,
    /// Set once: a node that has recovered does not fall back.
    has_recovered: AtomicBool,
}

impl Shared {
    pub(crate) fn new(config: GatewayConfig, context: GatewayContext) -> Self {
        Self {
            in_flight: Semaphore::new(config.max_requests_in_flight),
            signing: Semaphore::new(SIGNATURES_AT_ONCE),
            tokens: TokenCache::new(TOKENS_REMEMBERED),
            metrics: Metrics::new(),
            has_recovered: AtomicBool::new(false),
            config,
            context,
        }
    }

    /// The keys of a node that serves, or why it does not serve yet.
    pub(crate) fn serving_keys(&self) -> Result<Arc<Keys>, Failure> {
        if !self.has_recovered() {
            return Err(Failure::unavailable(
                "starting",
                "This node has not caught up with its own log yet.",
                RETRY_STARTING,
            ));
        }
        self.context.keys.get().ok_or_else(|| {
            Failure::unavailable("sealed", "This node has no keys; ask another.", RETRY_SEALED)
        })
    }

    fn has_recovered(&self) -> bool {
        if self.has_recovered.load(Ordering::Relaxed) {
            return true;
        }
        let recovered = self.context.cluster.status().recovered
            && self.context.cluster.ledger().cluster().is_some();
        if recovered {
            self.has_recovered.store(true, Ordering::Relaxed);
        }
        recovered
    }

    /// What must hold for this node to be sent requests. The last check is the one that matters: a
    /// linearizable read, answered within *F*.
    pub(crate) async fn readiness(&self) -> [Check; 3] {
        let recovered = self.has_recovered();
        let unsealed = self.context.keys.get().is_some();
        let deadline = self.context.cluster.failover_bound();
        let in_touch = self.context.cluster.read_barrier(deadline).await.is_ok();
        let check = |name, holds: bool, reason| Check { name, failure: (!holds).then_some(reason) };
        [
            check("recovered", recovered, "the log is not applied yet"),
            check("unsealed", unsealed, "the node has no keys"),
            check("quorum", in_touch, "no quorum answered in time"),
        ]
    }

    /// Has one command of a call decided.
    pub(crate) async fn submit(
        &self,
        call: &Call,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Outcome, Failure> {
        let envelope = call.envelope(request, command)?;
        let deadline = self.context.cluster.failover_bound();
        let Submitted { outcomes, .. } =
            self.context.cluster.submit(vec![envelope], deadline).await?;
        let mut outcomes = outcomes.into_iter();
        match (outcomes.next(), outcomes.next()) {
            (Some(outcome), None) => Ok(outcome),
            _ => Err(Failure::internal("one command did not get one outcome")),
        }
    }

    /// Waits until this node's ledger holds everything that was answered anywhere before.
    pub(crate) async fn catch_up(&self) -> Result<(), Failure> {
        let deadline = self.context.cluster.failover_bound();
        self.context.cluster.read_barrier(deadline).await?;
        Ok(())
    }

    /// A linearizable read under the authority of `principal`, which is checked once more: the
    /// answer must not show what a credential that ended before the call may not see.
    pub(crate) async fn read(&self, principal: &Principal) -> Result<LedgerGuard<'_>, Failure> {
        self.catch_up().await?;
        let now_ms = self.context.cluster.displayed_civil_ms();
        let ledger = self.context.cluster.ledger();
        if auth::is_current(&ledger, principal, now_ms) {
            Ok(ledger)
        } else {
            Err(Failure::unauthenticated(BearerError::InvalidToken))
        }
    }
}

/// Tokens remembered: at about 150 bytes each, 10 MB at most.
const TOKENS_REMEMBERED: usize = 65_536;
const SIGNATURES_AT_ONCE: usize = 2;
const RETRY_STARTING: Duration = Duration::from_secs(1);
const RETRY_SEALED: Duration = Duration::from_secs(5);
