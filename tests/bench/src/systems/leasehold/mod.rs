//! Ours: three nodes as an operator builds them, and the packages and leases that workloads need.
//!
//! Nodes are founded by `cluster init` and `cluster join` with nothing set but addresses: TLS,
//! fsync, tokens, rates and audit are as they come. Packages are signed and imported, applications
//! registered and tokens drawn through the public API. Leases live four hours, as a vendor may say
//! in a package, so that none has to be renewed while something else is measured.

pub(crate) mod session;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::Method;
use leasehold_tests::operated::Operated;
use leasehold_tests::packages::{Registered, import_and_register, sign, template, with_policy};
use leasehold_tests::wait::eventually;
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::load::Session;
use crate::load::http::{Http, Tls};
use crate::load::probe::{Probe, counter, metrics};
use crate::machine::Device;
use crate::plan::{Placement, Workload};
use crate::systems::{OPENED_AT_ONCE, node_of};
use session::{Held, Job, LeaseholdSession, Pool};

/// A cluster of ours.
#[derive(Debug)]
pub(crate) struct Leasehold {
    /// The nodes.
    pub(crate) cluster: Operated,
    tls: Tls,
    hot: Option<App>,
    /// Seats for whoever takes many.
    large: Option<App>,
    many: Vec<App>,
    held: Arc<Vec<Mutex<Held>>>,
    /// People are counted through, over all sessions.
    people: Arc<AtomicU32>,
}

/// Where clients of one pool come in, and what they show.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    /// The nodes, in order of ids.
    pub(crate) addresses: Vec<SocketAddr>,
    tls: Tls,
    pool: Arc<Pool>,
    people: Arc<AtomicU32>,
}

impl Entrance {
    /// One client at one node, counted from 0.
    pub(crate) async fn session(
        &self,
        node: usize,
        client: usize,
        job: Job,
    ) -> Result<LeaseholdSession> {
        let address = *self.addresses.get(node).context("no such node")?;
        let http = Http::connect(address, Some(self.tls.clone())).await?;
        let (pool, people) = (Arc::clone(&self.pool), Arc::clone(&self.people));
        Ok(LeaseholdSession::new(http, address, pool, job, people, client))
    }
}

/// A package and the application that may take its seats.
#[derive(Debug, Clone)]
struct App {
    product: String,
    registered: Registered,
}

impl Leasehold {
    /// Founds three nodes; they run.
    pub(crate) async fn found() -> Result<Self> {
        Self::of(Operated::of(NODES).await?)
    }

    /// Of nodes that were founded otherwise.
    pub(crate) fn of(cluster: Operated) -> Result<Self> {
        let tls = Tls::trusting(cluster.ca_cert(), &[])?;
        Ok(Self {
            cluster,
            tls,
            hot: None,
            large: None,
            many: Vec::new(),
            held: Arc::default(),
            people: Arc::default(),
        })
    }

    /// Starts all nodes, and waits until each serves.
    pub(crate) async fn start(&mut self) -> Result<()> {
        for id in self.cluster.ids() {
            if !self.cluster.has_process(id)? {
                self.cluster.start(id)?;
            }
        }
        self.ready().await
    }

    /// Waits until each node serves.
    pub(crate) async fn ready(&self) -> Result<()> {
        for id in self.cluster.ids() {
            self.cluster.ready(id).await?;
        }
        Ok(())
    }

    /// Stops all nodes.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for id in self.cluster.ids() {
            self.cluster.signal(id, Signal::TERM)?;
        }
        for id in self.cluster.ids() {
            self.cluster.ended(id).await?;
        }
        Ok(())
    }

    /// Makes what a workload needs and is not there yet; `tell` hears how many leases are held.
    pub(crate) async fn prepare(
        &mut self,
        workload: Workload,
        leases: usize,
        tell: &(dyn Fn(usize) + Sync),
    ) -> Result<()> {
        match workload {
            Workload::CycleHot if self.hot.is_none() => {
                self.hot = Some(self.package("bench-hot", HOT_SEATS).await?);
            }
            Workload::CycleSpread => {
                for number in self.many.len()..PACKAGES {
                    let name = format!("bench-{number:04}");
                    let app = self.package(&name, HOT_SEATS).await?;
                    self.many.push(app);
                }
            }
            Workload::Heartbeat | Workload::HeartbeatBulk | Workload::Read | Workload::Mixed => {
                self.hold(leases, tell).await?;
            }
            _ => {}
        }
        if self.large.is_none() {
            self.large = Some(self.package("bench-large", LARGE_SEATS).await?);
        }
        Ok(())
    }

    /// Takes seats until so many leases are held, and keeps their tokens.
    pub(crate) async fn hold(
        &mut self,
        leases: usize,
        tell: &(dyn Fn(usize) + Sync),
    ) -> Result<()> {
        if self.large.is_none() {
            self.large = Some(self.package("bench-large", LARGE_SEATS).await?);
        }
        let missing = leases.saturating_sub(self.held.len());
        if missing == 0 {
            return Ok(());
        }
        let clients = FILLING_CLIENTS.min(missing);
        let sessions = self.sessions_for(|_| Job::Take, Placement::Spread, clients).await?;
        let (count, before) = (AtomicU32::new(0), self.held.len());
        let filling = sessions.into_iter().enumerate().map(|(client, mut session)| {
            let share = missing / clients + usize::from(client < missing % clients);
            let count = &count;
            async move {
                let mut held = Vec::with_capacity(share);
                for _ in 0..share {
                    held.push(Mutex::new(take_in_the_end(&mut session).await?));
                    let so_far = count.fetch_add(1, Ordering::Relaxed) + 1;
                    tell(before + so_far as usize);
                }
                anyhow::Ok(held)
            }
        });
        let filled: Vec<Vec<Mutex<Held>>> =
            stream::iter(filling).buffer_unordered(clients).try_collect().await?;
        let mut held = Arc::try_unwrap(std::mem::take(&mut self.held))
            .map_err(|_| anyhow::anyhow!("leases are held by clients that still run"))?;
        held.extend(filled.into_iter().flatten());
        self.held = Arc::new(held);
        Ok(())
    }

    /// How many leases are held.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Clients of a workload.
    pub(crate) async fn sessions(
        &self,
        workload: Workload,
        placement: Placement,
        clients: usize,
    ) -> Result<Vec<LeaseholdSession>> {
        if workload == Workload::CycleSpread {
            let mut pools = Vec::with_capacity(self.many.len());
            for app in &self.many {
                pools.push(self.pool(app).await?);
            }
            let pools = Arc::new(pools);
            let job = move |_| Job::CycleOver(Arc::clone(&pools));
            return self.sessions_for(job, placement, clients).await;
        }
        let held = |client| self.share(client, clients);
        let job = |client| match workload {
            Workload::Checkout | Workload::Open2000 => Job::Take,
            Workload::CycleHot | Workload::CycleSpread => Job::Cycle,
            Workload::Heartbeat => Job::Renew(held(client)),
            Workload::HeartbeatBulk => Job::RenewMany(held(client)),
            Workload::Read => Job::Read(held(client)),
            Workload::Mixed => Job::Mixed(held(client)),
        };
        if workload == Workload::CycleHot {
            let app = self.hot.as_ref().context("the hot pool was not made")?;
            return self.sessions_of(app, job, placement, clients).await;
        }
        self.sessions_for(job, placement, clients).await
    }

    /// Clients that take seats of the large pool and give them back at once.
    pub(crate) async fn cycling(&self, clients: usize) -> Result<Vec<LeaseholdSession>> {
        self.sessions_for(|_| Job::Cycle, Placement::Spread, clients).await
    }

    async fn sessions_for(
        &self,
        job: impl Fn(usize) -> Job,
        placement: Placement,
        clients: usize,
    ) -> Result<Vec<LeaseholdSession>> {
        let app = self.large.as_ref().context("the large pool was not made")?;
        self.sessions_of(app, job, placement, clients).await
    }

    async fn sessions_of(
        &self,
        app: &App,
        job: impl Fn(usize) -> Job,
        placement: Placement,
        clients: usize,
    ) -> Result<Vec<LeaseholdSession>> {
        let (entrance, leader) = (self.entrance_to(app).await?, self.leader().await?);
        let opening = (0..clients).map(|client| {
            let node = node_of(placement, client, leader, entrance.addresses.len());
            entrance.session(node, client, job(client))
        });
        stream::iter(opening).buffered(OPENED_AT_ONCE).try_collect().await
    }

    /// Where clients of the large pool come in, also while nodes are down.
    pub(crate) async fn entrance(&self) -> Result<Entrance> {
        self.entrance_to(self.large.as_ref().context("the large pool was not made")?).await
    }

    async fn entrance_to(&self, app: &App) -> Result<Entrance> {
        Ok(Entrance {
            addresses: self.addresses()?,
            tls: self.tls(),
            pool: Arc::new(self.pool(app).await?),
            people: Arc::clone(&self.people),
        })
    }

    async fn pool(&self, app: &App) -> Result<Pool> {
        let node = *self.cluster.ids().first().context("no nodes")?;
        let api = self.cluster.api()?;
        let (id, secret) = (&app.registered.client_id, &app.registered.client_secret);
        let scopes = "license:checkout license:return license:read";
        let token = api.token_with(node, id, secret, scopes).await?;
        Ok(Pool { product: app.product.clone(), token })
    }

    /// Every so-manieth lease: no two clients renew the same.
    fn share(&self, client: usize, clients: usize) -> session::Share {
        session::Share { all: Arc::clone(&self.held), next: client, first: client, step: clients }
    }

    async fn package(&self, name: &str, seats: u32) -> Result<App> {
        let api = self.cluster.api()?;
        let unsigned = template(&api.dev, name, name, seats)?;
        let unsigned = with_policy(unsigned, json!({ "lease_ttl_seconds": LEASE_TTL_S }));
        let package = sign(&api.dev, self.cluster.scratch(), &unsigned)?;
        let registered = import_and_register(&api, &package).await?;
        Ok(App { product: name.to_owned(), registered })
    }

    /// Where gateways listen, in order of ids.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let address = |id: u64| {
            let url = &self.cluster.node(id)?.gateway;
            let authority = url.strip_prefix("https://").context("a gateway without TLS")?;
            authority.parse().with_context(|| format!("odd address {authority}"))
        };
        self.cluster.ids().into_iter().map(address).collect()
    }

    /// What clients trust.
    pub(crate) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Who leads, counted from 0.
    pub(crate) async fn leader(&self) -> Result<usize> {
        let id = self.cluster.leader().await?;
        let at = self.cluster.ids().iter().position(|known| *known == id);
        at.with_context(|| format!("node {id} leads and is none of ours"))
    }

    /// Where to look for what the nodes use.
    pub(crate) fn probe(&self) -> Result<Probe> {
        let nodes = &self.cluster.api()?.dev.nodes;
        let first = nodes.first().context("a cluster without nodes")?;
        Ok(Probe {
            pids: nodes.iter().map(|node| node.pid).collect(),
            has_children: false,
            counters: self.addresses()?,
            tls: Some(self.tls()),
            sync_counter: "leasehold_disk_wal_fsync_duration_seconds_count",
            device: Device::below(&first.data_dir)?,
        })
    }

    /// The number of the newest audit event, by a linearizable read.
    pub(crate) async fn newest_event(&self) -> Result<u64> {
        number(&self.audit_page("limit=1").await?["head"])
    }

    /// Audit events behind one, counted by kind.
    pub(crate) async fn events_since(&self, after: u64) -> Result<BTreeMap<String, u64>> {
        let (mut after, mut kinds) = (after, BTreeMap::new());
        loop {
            let page = self.audit_page(&format!("limit=1000&after={after}")).await?;
            let events = page["events"].as_array().context("a page without events")?;
            for event in events {
                let kind = event["kind"].as_str().context("an event of no kind")?;
                *kinds.entry(kind.to_owned()).or_default() += 1;
                after = number(&event["seq"])?;
            }
            if events.is_empty() {
                return Ok(kinds);
            }
        }
    }

    async fn audit_page(&self, query: &str) -> Result<Value> {
        let node = *self.cluster.ids().first().context("no nodes")?;
        let path = format!("/admin/audit?{query}");
        let page = self.cluster.api()?.admin(node, Method::GET, &path, None).await?;
        Ok(page.expect(200)?.body)
    }

    /// A sample of each node's metrics, in order of ids.
    pub(crate) async fn sample(&self, name: &str) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for address in self.addresses()? {
            let text = metrics(address, Some(self.tls())).await?;
            samples.push(counter(&text, name)?);
        }
        Ok(samples)
    }

    /// Hands leadership to a node and waits until it leads.
    pub(crate) async fn lead_by(&self, id: u64) -> Result<()> {
        let said = self.cluster.cli(&["cluster", "transfer-leader", "--to", &id.to_string()])?;
        let why = leasehold_tests::operated::error_of(&said);
        ensure!(said.status.success() || self.cluster.leader().await? == id, "{why}");
        eventually(&format!("node {id} leads"), || async {
            (self.cluster.status().await.ok()?["leader"].as_u64() == Some(id)).then_some(())
        })
        .await
    }
}

/// Takes a seat, after some refusals if need be: it is not measured, and a machine that others use
/// may lose its leader for a moment. What became of the refused may hold a seat that nobody knows.
async fn take_in_the_end(session: &mut LeaseholdSession) -> Result<Held> {
    let mut tries = 0;
    loop {
        match session.take_and_hold().await {
            Err(_) if tries < REFUSED_AT_MOST => {
                tries += 1;
                tokio::time::sleep(AFTER_A_REFUSAL).await;
                // It fails again if this does.
                let _ = session.mend().await;
            }
            taken => return taken,
        }
    }
}

/// A number as the API writes large ones: as a text.
fn number(value: &Value) -> Result<u64> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.with_context(|| format!("not a number: {value}"))
}

/// Nodes of a cluster.
pub(crate) const NODES: usize = 3;
const HOT_SEATS: u32 = 10_000;
const LARGE_SEATS: u32 = 10_000_000;
const PACKAGES: usize = 1_000;
const LEASE_TTL_S: u32 = 4 * 60 * 60;
const FILLING_CLIENTS: usize = 256;
const REFUSED_AT_MOST: u32 = 100;
const AFTER_A_REFUSAL: Duration = Duration::from_millis(100);
