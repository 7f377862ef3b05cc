//! A cluster under test, and short ways to drive it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lease::command::*;
use lease::entry::{Actor, Envelope};
use lease::ids::{AppId, KeyOrigin, LeaseId, NodeId, OperatorId, RequestId, SubjectRef, TraceId};
use lease::money::Money;
use lease::outcome::Outcome;
use raft::{Cluster, ClusterConfig, NodeRole, Preset, Status, SubmitError, Submitted};
use sha2::{Digest, Sha256};
use storage::seam::{RealClock, RealDisk, RealEntropy};

use crate::net::Net;

/// Nothing that must happen takes longer, not even on a machine that does ten other things.
const LIVENESS: Duration = Duration::from_secs(30);

pub(crate) struct World {
    dir: tempfile::TempDir,
    pub(crate) net: Arc<Net>,
    nodes: BTreeMap<NodeId, Cluster>,
    adjust: fn(&mut ClusterConfig),
}

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIVENESS, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {LIVENESS:?}"),
    }
}

impl World {
    /// Nodes 1 to `count`, in agreement, with a leader and an empty ledger.
    async fn found_with(count: u64, adjust: fn(&mut ClusterConfig)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut world = Self { dir, net: Arc::default(), nodes: BTreeMap::new(), adjust };
        for node in 1..=count {
            world.start(node).await;
        }
        let members = (1..=count).map(|node| (node, format!("host-{node}:7411"))).collect();
        world.node(1).initialize(members).await.expect("the cluster is founded");
        world.leader().await;
        world
    }

    /// A founded cluster with a package of `seats` and an application 1 that may use it, whose
    /// leases last `ttl_ms`.
    pub(crate) async fn ready(count: u64, seats: u32, ttl_ms: u32) -> Self {
        Self::ready_with(count, seats, ttl_ms, |_| {}).await
    }

    /// The same, with a configuration of their own.
    pub(crate) async fn ready_with(
        count: u64,
        seats: u32,
        ttl_ms: u32,
        adjust: fn(&mut ClusterConfig),
    ) -> Self {
        let world = Self::found_with(count, adjust).await;
        let commands = vec![founding(), Command::AddOperator(root())];
        let node = Actor::Node(1);
        world.all_done(1, commands.into_iter().map(|it| by(node, it)).collect()).await;
        let commands = vec![Command::PinVendor(vendor()), import(seats, ttl_ms), register()];
        let admin = Actor::Operator(ROOT);
        world.all_done(1, commands.into_iter().map(|it| by(admin, it)).collect()).await;
        world
    }

    async fn all_done(&self, at: NodeId, commands: Vec<Envelope>) {
        let submitted = self.submit(at, commands).await.expect("a quorum is there");
        for outcome in submitted.outcomes {
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
    }

    pub(crate) fn config(&self, node: NodeId) -> ClusterConfig {
        let mut config = ClusterConfig::new(node, self.data_dir(node), 1_000 + node);
        config.preset = Preset::Lan;
        config.log_segment_bytes = 1 << 20;
        config.state_cache_bytes = 4 << 20;
        (self.adjust)(&mut config);
        config
    }

    pub(crate) fn data_dir(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    pub(crate) async fn start(&mut self, node: NodeId) {
        let config = self.config(node);
        self.start_as(config).await.expect("the node starts");
    }

    pub(crate) async fn start_as(&mut self, config: ClusterConfig) -> Result<(), raft::StartError> {
        let node = config.node;
        let cluster = Cluster::start(
            config,
            Arc::new(RealDisk),
            Arc::new(RealClock::new()),
            Arc::new(RealEntropy),
            self.net.link(node),
        )
        .await?;
        self.net.join(node, cluster.clone());
        self.nodes.insert(node, cluster);
        Ok(())
    }

    /// Stops a node cleanly.
    pub(crate) async fn stop(&mut self, node: NodeId) {
        self.net.leave(node);
        let cluster = self.nodes.remove(&node).expect("it runs");
        soon("the stop", cluster.shutdown()).await;
    }

    pub(crate) fn node(&self, node: NodeId) -> &Cluster {
        &self.nodes[&node]
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The leader all running nodes agree on, with a quorum.
    pub(crate) async fn leader(&self) -> NodeId {
        self.leader_among(&self.ids()).await
    }

    /// The leader these nodes agree on, with a quorum.
    pub(crate) async fn leader_among(&self, nodes: &[NodeId]) -> NodeId {
        let agreed = async {
            loop {
                for node in nodes {
                    let has_leader = |status: &Status| {
                        status.leader.is_some_and(|leader| nodes.contains(&leader))
                    };
                    self.node(*node).wait_until(has_leader).await;
                }
                let statuses: Vec<Status> =
                    nodes.iter().map(|node| self.node(*node).status()).collect();
                // Leadership may be changing hands between the waiting and the looking.
                let Some(leader) = statuses[0].leader else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let leads = |status: &Status| status.node == leader && leads(status);
                if statuses.iter().all(|status| status.leader == Some(leader))
                    && statuses.iter().any(leads)
                {
                    return leader;
                }
                let stale = statuses.iter().find(|status| status.node == leader);
                let term = stale.map_or(0, |status| status.term);
                self.node(leader).wait_until(|now| leads_at_least(now, term)).await;
                tokio::task::yield_now().await;
            }
        };
        soon("an election", agreed).await
    }

    /// The nodes that do not lead.
    pub(crate) async fn followers(&self) -> Vec<NodeId> {
        let leader = self.leader().await;
        self.ids().into_iter().filter(|node| *node != leader).collect()
    }

    pub(crate) async fn submit(
        &self,
        at: NodeId,
        commands: Vec<Envelope>,
    ) -> Result<Submitted, SubmitError> {
        self.node(at).submit(commands, LIVENESS).await
    }

    /// One command that changes something every time, by a node.
    pub(crate) async fn write(&self, at: NodeId, number: u64) -> Submitted {
        let command = Command::AddOperator(operator(number));
        let submitted = self.submit(at, vec![by(Actor::Node(at), command)]).await;
        let submitted = submitted.expect("a quorum is there");
        assert!(!matches!(submitted.outcomes[0], Outcome::Refused(_)), "{submitted:?}");
        submitted
    }

    /// Whether a write is there, linearizably.
    pub(crate) async fn has(&self, at: NodeId, number: u64) -> bool {
        self.node(at).read_barrier(LIVENESS).await.expect("a quorum is there");
        self.node(at).ledger().operator(OperatorId(number)).is_some()
    }

    /// Waits until all running nodes have applied what the leader has in its log.
    pub(crate) async fn settle(&self) -> u64 {
        let leader = self.leader().await;
        let last = self.node(leader).read_barrier(LIVENESS).await.expect("a quorum is there");
        for node in self.nodes.values() {
            soon("catching up", node.wait_applied(last.index)).await;
        }
        last.index
    }
}

fn leads(status: &Status) -> bool {
    status.role == NodeRole::Leader && status.leads_with_quorum(Duration::from_millis(300))
}

fn leads_at_least(status: &Status, term: u64) -> bool {
    status.term > term || leads(status) || status.leader != Some(status.node)
}

pub(crate) const ROOT: OperatorId = OperatorId(1);

pub(crate) fn by(actor: Actor, command: Command) -> Envelope {
    Envelope { actor, request: None, trace: TraceId(1), cause: None, command }
}

/// A checkout by application 1 under an idempotency key, as gateway `at` would word it.
pub(crate) fn checkout(key: &str, at: NodeId, lease: u64) -> Envelope {
    let scope = RequestId::scope_of("app-1", "checkout", key);
    let request = RequestId { scope, body: [0; 8], origin: KeyOrigin::Caller };
    let mut random = [0; 10];
    random[..8].copy_from_slice(&lease.to_le_bytes());
    random[8] = at as u8;
    let subject = |name: &str, candidate: u64| Subject {
        name: name.into(),
        candidate: SubjectRef(16 * candidate + at),
    };
    let command = Command::Checkout(Box::new(Checkout {
        package: "alpha".into(),
        product: "davinci".into(),
        lease: LeaseId { group: 0, random },
        pool: None,
        quantity: 1,
        features: Vec::new(),
        user: subject("ada", 1),
        host: subject("host", 2),
        version: "8.1".into(),
        session: "".into(),
    }));
    let actor = Actor::App { app: AppId(1), generation: 1 };
    Envelope { request: Some(request), ..by(actor, command) }
}

fn founding() -> Command {
    Command::InitCluster(InitCluster {
        cluster_id: "lh-test".into(),
        client_id: "bmw-de-001".into(),
        org_domain: "bmw.com".into(),
        epoch: 1,
        incarnation: 0xfeed,
    })
}

fn root() -> Operator {
    operator(ROOT.0)
}

fn operator(number: u64) -> Operator {
    Operator {
        operator: OperatorId(number),
        name: "somebody".into(),
        role: Role::Admin,
        token_mac: Sha256::digest(number.to_le_bytes()).into(),
        expires_at_ms: None,
    }
}

fn vendor() -> Vendor {
    let public_der = b"key of vector".to_vec();
    let fingerprint = Sha256::digest(&public_der).into();
    Vendor { vendor: "vector-de".into(), name: "".into(), public_der, fingerprint }
}

fn import(seats: u32, ttl_ms: u32) -> Command {
    let (valid_from_ms, valid_until_ms) = (0, i64::MAX / 2);
    let terms = PackageTerms {
        package: "alpha".into(),
        vendor: "vector-de".into(),
        product: "davinci".into(),
        product_name: "A product".into(),
        version_range: ">=8.0.0".into(),
        client_id: "bmw-de-001".into(),
        org_domain: "bmw.com".into(),
        total: seats,
        sources: vec![CapacitySource {
            seats,
            class: SeatClass::Commit,
            valid_from_ms,
            valid_until_ms,
        }],
        pricing: Pricing {
            commit_fee_monthly: Money::default(),
            overage_per_use: Money::default(),
            currency: "EUR".into(),
        },
        features: Vec::new(),
        valid_from_ms,
        valid_until_ms,
        policy: Policy { lease_ttl_ms: ttl_ms, ..Policy::default() },
    };
    Command::ImportPackage(Box::new(ImportPackage {
        canonical: b"{}".to_vec(),
        signature: "SHA256-RSA:c2ln".into(),
        verified_by: vendor().fingerprint,
        terms,
    }))
}

fn register() -> Command {
    Command::RegisterApp(RegisterApp {
        app: AppId(1),
        client_id: "client-1".into(),
        name: "An application".into(),
        product: "davinci".into(),
        vendor: "vector-de".into(),
        secret_mac: [1; 32],
    })
}
