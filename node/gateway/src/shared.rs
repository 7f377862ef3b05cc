//! What all requests of a gateway share, and the two ways into the cluster: submit and read.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lease::Ledger;
use lease::command::Command;
use lease::entry::{Actor, Envelope, Stamp};
use lease::ids::{RequestId, TraceId};
use lease::operate::AlarmKind;
use lease::operate::{CLIENT_SECRET_PEPPER, OPERATOR_PEPPER, Repepper};
use lease::outcome::Outcome;
use protocol::oauth::token::BearerError;
use raft::{Alarm, LedgerGuard, ReadError, Submitted};
use tokio::sync::{Semaphore, watch};

use crate::auth;
use crate::call::Call;
use crate::calls::audit::events::EVENT_STREAMS_AT_ONCE;
use crate::calls::classic::stream::STREAMS_AT_ONCE;
use crate::calls::probes::Check;
use crate::calls::snapshot::SNAPSHOTS_AT_ONCE;
use crate::consistency::{Consistency, Staleness};
use crate::context::{GatewayConfig, GatewayContext};
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::rates::Rates;
use crate::tokens::TokenCache;

/// Shared by all requests.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) context: GatewayContext,
    pub(crate) tokens: TokenCache,
    pub(crate) metrics: Metrics,
    /// Bounds requests at once.
    pub(crate) in_flight: Semaphore,
    /// Bounds bodies of strangers that are on their way, so that those who stall theirs are in each
    /// other's way only.
    pub(crate) anonymous_bodies: Semaphore,
    /// Bounds signatures at once: each keeps a core busy for most of a millisecond, and consensus
    /// runs on the same cores.
    pub(crate) signing: Semaphore,
    /// Bounds backups that are being sent at once.
    pub(crate) snapshots: Arc<Semaphore>,
    /// Bounds streams of the classic face at once.
    pub(crate) classic_streams: Arc<Semaphore>,
    /// Bounds streams of events at once.
    pub(crate) event_streams: Arc<Semaphore>,
    /// Whether the listeners are closed: what has no end of its own ends.
    pub(crate) stopping: watch::Sender<bool>,
    /// Bounds requests of one caller.
    pub(crate) rates: Rates,
    /// Set once: a node that has recovered does not fall back.
    has_recovered: AtomicBool,
}

impl Shared {
    pub(crate) fn new(config: GatewayConfig, context: GatewayContext) -> Self {
        Self {
            in_flight: Semaphore::new(config.max_requests_in_flight),
            anonymous_bodies: Semaphore::new(ANONYMOUS_BODIES_AT_ONCE),
            signing: Semaphore::new(SIGNATURES_AT_ONCE),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
            classic_streams: Arc::new(Semaphore::new(STREAMS_AT_ONCE)),
            event_streams: Arc::new(Semaphore::new(EVENT_STREAMS_AT_ONCE)),
            stopping: watch::Sender::new(false),
            tokens: TokenCache::new(TOKENS_REMEMBERED),
            metrics: Metrics::new(),
            rates: Rates::new(config.rates, &context.clock),
            has_recovered: AtomicBool::new(false),
            config,
            context,
        }
    }

    /// The keys of a node that serves, or why it does not serve yet.
    pub(crate) fn serving_keys(&self) -> Result<Arc<Keys>, Failure> {
        if !self.has_recovered() {
            // Without a majority it never will, and that is what has to be said.
            let status = self.context.cluster.status();
            if status.quorum_ack_age_ms.or(status.leader_contact_age_ms).is_none() {
                return Err(ReadError::NoQuorum.into());
            }
            return Err(Failure::unavailable(
                "starting",
                "This node has not caught up with its own log yet.",
                RETRY_STARTING,
            ));
        }
        self.unsealed_keys()
    }

    /// The keys of a node that may still be catching up with its own log.
    pub(crate) fn unsealed_keys(&self) -> Result<Arc<Keys>, Failure> {
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
    pub(crate) async fn readiness(&self, deadline: Deadline) -> [Check; 5] {
        let recovered = self.has_recovered();
        let unsealed = self.context.keys.get().is_some();
        let stays = !self.context.control.facts().draining;
        let undamaged = !self.own_alarms().contains(&AlarmKind::Corrupt);
        let in_touch = self.context.cluster.read_barrier(self.left(deadline)).await.is_ok();
        let check = |name, holds: bool, reason| Check { name, failure: (!holds).then_some(reason) };
        [
            check("recovered", recovered, "the log is not applied yet"),
            check("unsealed", unsealed, "the node has no keys"),
            check("staying", stays, "the node is on its way down"),
            check("undamaged", undamaged, "the node's state is in doubt"),
            check("quorum", in_touch, "no quorum answered in time"),
        ]
    }

    /// Kinds of the alarms about this node: those in the log, and what it finds itself.
    pub(crate) fn own_alarms(&self) -> BTreeSet<AlarmKind> {
        let node = self.config.node;
        let status = self.context.cluster.status();
        let in_doubt = [Alarm::Corrupt, Alarm::NoStateSumMajority];
        let facts = self.context.control.facts();
        let found = facts.alarms.iter().filter(|alarm| alarm.node == node);
        let found = found.filter_map(|alarm| AlarmKind::from_name(&alarm.kind));
        let ledger = self.context.cluster.ledger();
        let logged = ledger.alarms().filter(|row| row.node == node).map(|row| row.kind);
        let mut kinds: BTreeSet<AlarmKind> = found.chain(logged).collect();
        if status.alarms.iter().any(|alarm| in_doubt.contains(alarm)) {
            kinds.insert(AlarmKind::Corrupt);
        }
        kinds
    }

    /// What is left of a call's time.
    pub(crate) fn left(&self, deadline: Deadline) -> Duration {
        deadline.left(&*self.context.clock)
    }

    /// Has one command of a call decided.
    pub(crate) async fn submit(
        &self,
        call: &Call,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Outcome, Failure> {
        Ok(self.decide(call, request, command).await?.outcome)
    }

    /// The keys that belong to the ledger as it is here: newer than those at hand where one was
    /// replaced a moment ago. After [`Self::catch_up`], they match whatever was stored before.
    pub(crate) async fn current_keys(&self, deadline: Deadline) -> Result<Arc<Keys>, Failure> {
        let keys = self.serving_keys()?;
        if self.are_current(&keys) {
            return Ok(keys);
        }
        let mut watch = self.context.keys.watch();
        let waiting = async {
            loop {
                match watch.borrow_and_update().clone() {
                    Some(keys) if self.are_current(&keys) => return Some(keys),
                    _ => {}
                }
                if watch.changed().await.is_err() {
                    return None;
                }
            }
        };
        let waited = tokio::time::timeout(self.left(deadline), waiting).await;
        waited.ok().flatten().ok_or_else(Failure::not_seen_in_time)
    }

    fn are_current(&self, keys: &Keys) -> bool {
        let ledger = self.context.cluster.ledger();
        let newest = |pepper| ledger.pepper_versions(pepper).max();
        let fits = |stored: Option<u32>, at_hand| stored.is_none_or(|stored| stored <= at_hand);
        let data_key = ledger.data_key_versions(self.config.node).first().copied();
        fits(newest(CLIENT_SECRET_PEPPER), keys.client_secret_pepper.newest_version())
            && fits(newest(OPERATOR_PEPPER), keys.operator_pepper.newest_version())
            && fits(data_key, keys.vault.data_key_version())
    }

    /// Has a command decided that the cluster owes itself, whoever asks.
    pub(crate) async fn submit_as_node(
        &self,
        command: Command,
        deadline: Deadline,
    ) -> Result<Outcome, Failure> {
        let envelope = Envelope {
            actor: Actor::Node(self.config.node),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        };
        let submitted = self.context.cluster.submit(vec![envelope], self.left(deadline)).await?;
        let outcome = submitted.outcomes.into_iter().next();
        outcome.ok_or_else(|| Failure::internal("a command did not get an outcome"))
    }

    /// Stores a credential that was just verified under the newest pepper. Whoever shows it need
    /// not know: should it fail, the next time will do.
    pub(crate) async fn repepper(&self, change: Repepper, deadline: Deadline) {
        let _ = self.submit_as_node(Command::Repepper(change), deadline).await;
    }

    /// The same, and where in the log it was decided.
    pub(crate) async fn decide(
        &self,
        call: &Call,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Decided, Failure> {
        let envelope = call.envelope(request, command)?;
        let left = self.left(call.deadline);
        let Submitted { index, outcomes, .. } =
            self.context.cluster.submit(vec![envelope], left).await?;
        let mut outcomes = outcomes.into_iter();
        match (outcomes.next(), outcomes.next()) {
            (Some(outcome), None) => Ok(Decided { index, outcome }),
            _ => Err(Failure::internal("one command did not get one outcome")),
        }
    }

    /// Waits until this node has applied what a call's command was decided by; `false` when that
    /// does not happen in the call's time.
    pub(crate) async fn has_applied(&self, call: &Call, index: u64) -> bool {
        let applied = self.context.cluster.wait_applied(index);
        tokio::time::timeout(self.left(call.deadline), applied).await.is_ok()
    }

    /// The same, where an answer cannot be given before: 503, outcome unknown.
    pub(crate) async fn seen(&self, call: &Call, index: u64) -> Result<(), Failure> {
        if self.has_applied(call, index).await { Ok(()) } else { Err(Failure::not_seen_in_time()) }
    }

    /// Waits until this node's ledger holds everything that was answered anywhere before; gives the
    /// leader's clocks.
    pub(crate) async fn catch_up(&self, deadline: Deadline) -> Result<Stamp, Failure> {
        Ok(self.context.cluster.read_barrier(self.left(deadline)).await?.clock)
    }

    /// A read under the authority of the call's credential, which is checked once more: the answer
    /// must not show what a credential that ended before the call may not see. Linearizable, unless
    /// the call is content with what this node has applied.
    pub(crate) async fn read(&self, call: &Call) -> Result<Read<'_>, Failure> {
        let clock = match call.consistency {
            Consistency::Linearizable => Some(self.catch_up(call.deadline).await?),
            Consistency::Stale => {
                // Looked up before the ledger is: the answer is as new as it says, or newer.
                let staleness = Staleness::of(&self.context.cluster.status());
                call.staleness.get_or_init(|| staleness);
                None
            }
        };
        let now_ms = self.context.cluster.displayed_civil_ms();
        let ledger = self.context.cluster.ledger();
        let clock = clock.unwrap_or_else(|| ledger.clock());
        if auth::is_current(&ledger, &call.principal, now_ms) {
            Ok(Read { ledger, clock })
        } else {
            Err(Failure::unauthenticated(BearerError::InvalidToken))
        }
    }
}

/// The ledger, and the time at which it was read.
pub(crate) struct Read<'a> {
    ledger: LedgerGuard<'a>,
    clock: Stamp,
}

impl Read<'_> {
    /// Led milliseconds since the ledger's own clock, which stands still while nothing is written.
    /// What a lease has left by the ledger, it has left so much less.
    pub(crate) fn since_written_ms(&self) -> u64 {
        self.clock.led_ms.saturating_sub(self.ledger.clock().led_ms)
    }
}

impl Deref for Read<'_> {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

/// What became of a command.
pub(crate) struct Decided {
    /// Index of the entry that decided it.
    pub(crate) index: u64,
    /// The decision.
    pub(crate) outcome: Outcome,
}

/// Tokens remembered: at about 150 bytes each, 10 MB at most.
const TOKENS_REMEMBERED: usize = 65_536;
const ANONYMOUS_BODIES_AT_ONCE: usize = 256;
const SIGNATURES_AT_ONCE: usize = 2;
const RETRY_STARTING: Duration = Duration::from_secs(1);
/// How often ids are drawn for one call. Two equal draws of 64 bits and more do not happen; three
/// are a broken source of randomness.
pub(crate) const MAX_DRAWS: u32 = 3;
const RETRY_SEALED: Duration = Duration::from_secs(5);
