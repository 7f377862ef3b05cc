//! One client: draws what to do next from its own stream, asks, and writes down what it was told.
//!
//! It has at most one act under way. After an `info` it goes on under a new process number, as
//! Jepsen's clients do: whatever the lost act did, the old process may still be in the middle of
//! it. What it held stays known to it, so that it can ask again under the same key.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Method;

use super::ask::{self, Credentials};
use super::table::{Weights, Workload};
use crate::cluster::http::{Http, Reply};
use crate::cluster::packages::Imported;
use crate::cluster::status::Directory;
use crate::history::{Act, Answer};
use crate::proxy::{Network, Party};
use crate::record::{End, Recorder};
use crate::rng::Rng;

/// What all clients of a run share.
#[derive(Debug)]
pub struct Shared {
    /// The workload.
    pub workload: &'static Workload,
    /// Its packages, as they were imported.
    pub packages: Vec<Imported>,
    /// Where nodes are.
    pub directory: Arc<Directory>,
    /// The proxies.
    pub network: Arc<Network>,
    /// The history.
    pub recorder: Arc<Recorder>,
    /// Operator token.
    pub operator: String,
    /// PEM file of the cluster's authority.
    pub ca_cert: std::path::PathBuf,
    /// Set when clients should finish.
    pub stop: AtomicBool,
    /// The next process number.
    pub next_process: AtomicU64,
    /// Access tokens by package.
    tokens: Mutex<BTreeMap<String, String>>,
}

impl Shared {
    /// Of a run that begins; processes `0..clients` are the first ones.
    pub fn new(
        workload: &'static Workload,
        packages: Vec<Imported>,
        (directory, network): (Arc<Directory>, Arc<Network>),
        recorder: Arc<Recorder>,
        operator: &crate::cluster::Operator,
    ) -> Arc<Self> {
        Arc::new(Self {
            workload,
            packages,
            directory,
            network,
            recorder,
            operator: operator.token().to_owned(),
            ca_cert: operator.ca_cert().to_owned(),
            stop: AtomicBool::new(false),
            next_process: AtomicU64::new(workload.clients),
            tokens: Mutex::default(),
        })
    }

    fn token(&self, package: &str) -> Option<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(package).cloned()
    }

    fn set_token(&self, package: &str, token: Option<String>) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        match token {
            Some(token) => tokens.insert(package.to_owned(), token),
            None => tokens.remove(package),
        };
    }
}

/// A lease as its client knows it.
#[derive(Debug, Clone)]
struct Held {
    package: String,
    lease: String,
    renewal: String,
    /// The token before, which a heartbeat has spent.
    spent: Option<String>,
    is_borrowed: bool,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    number: u64,
    process: u64,
    shared: Arc<Shared>,
    http: Http,
    rng: Rng,
    /// Address of its proxy before each node that it has spoken to.
    proxies: BTreeMap<u64, SocketAddr>,
    held: Vec<Held>,
    /// Acts that may be repeated under their keys.
    keyed: VecDeque<Act>,
    keys: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Checkout,
    Heartbeat,
    OldHeartbeat,
    GiveBack,
    Lapse,
    Retry,
    Borrow,
    ReturnBorrow,
    Transfer,
    ReadPackage,
    ReadLease,
    ReadPools,
}

impl Client {
    /// The client of a number.
    ///
    /// # Errors
    /// When the authority's file cannot be read.
    pub fn new(number: u64, shared: Arc<Shared>, seed: u64) -> Result<Self> {
        Ok(Self {
            number,
            process: number,
            http: Http::new(&shared.ca_cert)?,
            rng: Rng::named(seed, &format!("client {number}")),
            shared,
            proxies: BTreeMap::new(),
            held: Vec::new(),
            keyed: VecDeque::new(),
            keys: 0,
        })
    }

    /// Acts until told to stop.
    ///
    /// # Errors
    /// When the rig itself fails; what nodes answer is never an error.
    pub async fn live(mut self) -> Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.act_once().await?;
            let (low, high) = self.shared.workload.pause_ms;
            tokio::time::sleep(Duration::from_millis(self.rng.between(low, high))).await;
        }
        Ok(())
    }

    async fn act_once(&mut self) -> Result<()> {
        let next = self.draw_next();
        let Some(act) = self.make(next) else { return Ok(()) };
        let (renewal, package) = (self.renewal_of(&act), act.package().map(str::to_owned));
        let package = package.context("a client's act without a package")?;
        let Some(imported) = self.shared.packages.iter().find(|it| it.terms.name == package) else {
            return Ok(());
        };
        let terms = imported.terms.clone();
        let faces = self.shared.directory.faces();
        let Some(node) = self.rng.pick(&faces).map(|face| face.id) else { return Ok(()) };
        let address = self.proxy_to(node).await?;
        let Some(access) = self.access(&package, address).await else { return Ok(()) };
        let operator = self.shared.operator.clone();
        let with = Credentials { access: &access, operator: &operator, renewal: &renewal };
        let request = ask::request(&self.http, address, &act, with)?;
        self.shared.recorder.invoke(self.process, node, &act);
        let reply = self.http.send(request).await;
        let end = ask::end_of(&act, &reply, &terms);
        self.shared.recorder.end(self.process, node, &act, end.clone());
        self.learn(act, &end, &reply);
        Ok(())
    }

    /// Takes note of what an act has brought.
    fn learn(&mut self, act: Act, end: &End, reply: &Reply) {
        let is_lost = matches!(end, End::Info(_));
        if is_lost {
            self.process = self.shared.next_process.fetch_add(1, Ordering::Relaxed);
        }
        if let End::Fail(Answer::Refused { status: 401, .. }) = end {
            self.shared.set_token(act.package().unwrap_or_default(), None);
        }
        let token = match reply {
            Reply::Answer(answer) => answer.body["renewal_token"].as_str().map(str::to_owned),
            _ => None,
        };
        match (&act, end) {
            (Act::Checkout { package, .. }, End::Ok(Answer::Granted { lease, .. })) => {
                let renewal = token.unwrap_or_default();
                self.hold(package.clone(), lease.clone(), renewal);
            }
            (Act::Heartbeat { lease, sequence_token, .. }, End::Ok(_)) => {
                self.renewed(lease, token, Some(sequence_token));
            }
            (Act::Borrow { lease, .. }, End::Ok(_)) => {
                self.renewed(lease, token, None);
                self.set_borrowed(lease, true);
            }
            (Act::ReturnBorrow { lease, .. }, End::Ok(_)) => {
                self.renewed(lease, token, None);
                self.set_borrowed(lease, false);
            }
            (Act::Return { lease, .. }, _) => {
                // Whatever came of it, it is not held any more: nothing is done with it but asking
                // again under the same key.
                let lease = lease.clone();
                self.held.retain(|held| held.lease != lease);
            }
            (
                Act::Heartbeat { lease, .. } | Act::Borrow { lease, .. },
                End::Fail(Answer::Refused { code, .. }),
            ) if ENDED.contains(&code.as_str()) => {
                let lease = lease.clone();
                self.held.retain(|held| held.lease != lease);
            }
            (Act::ReadLease { lease, .. }, End::Ok(Answer::Lease { live: false, .. }))
                if !act.is_stale_read() =>
            {
                let lease = lease.clone();
                self.held.retain(|held| held.lease != lease);
            }
            _ => {}
        }
        // Borrows need a token that a repeat may not have any more.
        let is_repeatable =
            matches!(act, Act::Checkout { .. } | Act::Return { .. } | Act::Transfer { .. });
        if is_repeatable && (is_lost || matches!(end, End::Ok(_))) {
            // What was lost is asked again first.
            let at = if is_lost { 0 } else { self.keyed.len() };
            self.keyed.insert(at, act);
            self.keyed.truncate(KEYED);
        }
    }

    fn hold(&mut self, package: String, lease: String, renewal: String) {
        if self.held.iter().any(|held| held.lease == lease) {
            return;
        }
        self.held.push(Held { package, lease, renewal, spent: None, is_borrowed: false });
    }

    fn renewed(&mut self, lease: &str, token: Option<String>, shown: Option<&String>) {
        let Some(held) = self.held.iter_mut().find(|held| held.lease == lease) else { return };
        let Some(token) = token else { return };
        // The answer to a repeat has a token that was had before.
        if token != held.renewal && shown.is_none_or(|shown| *shown == held.renewal) {
            held.spent = Some(std::mem::replace(&mut held.renewal, token));
        }
    }

    fn set_borrowed(&mut self, lease: &str, is_borrowed: bool) {
        for held in self.held.iter_mut().filter(|held| held.lease == lease) {
            held.is_borrowed = is_borrowed;
        }
    }

    fn renewal_of(&self, act: &Act) -> String {
        let held = self.held.iter().find(|held| Some(held.lease.as_str()) == act.lease());
        held.map(|held| held.renewal.clone()).unwrap_or_default()
    }

    fn draw_next(&mut self) -> Next {
        let weights = self.shared.workload.weights;
        let choices = self.choices(weights);
        let total = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.below(total);
        for (weight, next) in choices {
            if at < weight {
                return next;
            }
            at -= weight;
        }
        Next::ReadPackage
    }

    /// What can be done now, and how often it is.
    fn choices(&self, weights: Weights) -> Vec<(u64, Next)> {
        let unless = |cannot: bool, weight: u64| if cannot { 0 } else { weight };
        let has_none = self.held.is_empty();
        let is_full = self.held.len() >= self.shared.workload.keeps;
        let has_spent = self.held.iter().any(|held| held.spent.is_some());
        let has_borrowed = self.held.iter().any(|held| held.is_borrowed);
        vec![
            (unless(is_full, weights.checkout), Next::Checkout),
            (unless(has_none, weights.heartbeat), Next::Heartbeat),
            (unless(!has_spent, weights.old_heartbeat), Next::OldHeartbeat),
            (unless(has_none, weights.give_back), Next::GiveBack),
            (unless(has_none, weights.lapse), Next::Lapse),
            (unless(self.keyed.is_empty(), weights.retry), Next::Retry),
            (unless(has_none, weights.borrow), Next::Borrow),
            (unless(!has_borrowed, weights.return_borrow), Next::ReturnBorrow),
            (weights.transfer, Next::Transfer),
            (weights.read_package, Next::ReadPackage),
            (unless(has_none, weights.read_lease), Next::ReadLease),
            (weights.read_pools, Next::ReadPools),
        ]
    }

    fn make(&mut self, next: Next) -> Option<Act> {
        let stale = self.rng.percent(self.shared.workload.weights.stale_percent);
        let at = usize::try_from(self.rng.below(self.held.len() as u64)).unwrap_or(0);
        let held = self.held.get(at).cloned();
        let imported = self.rng.pick(&self.shared.packages)?.clone();
        let pools = &imported.terms.pools;
        let package = imported.terms.name.clone();
        let act = match next {
            Next::Checkout => {
                let key = self.key("take");
                let pool = self.rng.pick(pools).map(|(name, _)| name.clone());
                // One for each key: so the audit log tells what became of a lost answer.
                let holder = format!("{key} of client-{}", self.number);
                Act::Checkout { package, key, holder, ttl_ms: None, seats: 1, pool }
            }
            Next::Heartbeat => {
                let Held { package, lease, renewal, .. } = held?;
                Act::Heartbeat { package, lease, sequence_token: renewal }
            }
            Next::OldHeartbeat => {
                let held = self.held.iter().find(|held| held.spent.is_some())?.clone();
                let Held { package, lease, spent, .. } = held;
                Act::Heartbeat { package, lease, sequence_token: spent? }
            }
            Next::GiveBack => {
                let Held { package, lease, .. } = held?;
                Act::Return { package, lease, key: self.key("back") }
            }
            Next::Lapse => {
                self.held.remove(at);
                return None;
            }
            Next::Retry => {
                let at = usize::try_from(self.rng.below(self.keyed.len() as u64)).unwrap_or(0);
                // What was lost stands first.
                let at = if self.rng.percent(60) { 0 } else { at };
                return self.keyed.remove(at);
            }
            Next::Borrow => {
                let Held { package, lease, .. } = held?;
                let duration_ms = self.rng.between(4, 8) * 1_000;
                Act::Borrow { package, lease, key: self.key("borrow"), duration_ms }
            }
            Next::ReturnBorrow => {
                let held = self.held.iter().find(|held| held.is_borrowed)?.clone();
                let key = self.key("unborrow");
                Act::ReturnBorrow { package: held.package, lease: held.lease, key }
            }
            Next::Transfer => {
                let names: Vec<&String> = pools.iter().map(|(name, _)| name).collect();
                let names = self.rng.shuffled(&names);
                let [from, to, ..] = names.as_slice() else { return None };
                let (from, to) = ((*from).clone(), (*to).clone());
                Act::Transfer { package, from, to, seats: 1, key: self.key("move") }
            }
            Next::ReadPackage => Act::ReadPackage { package, stale },
            Next::ReadLease => {
                let Held { package, lease, .. } = held?;
                Act::ReadLease { package, lease, stale }
            }
            Next::ReadPools => Act::ReadPools { package, stale },
        };
        Some(act)
    }

    fn key(&mut self, what: &str) -> String {
        self.keys += 1;
        format!("{what}-{}-{}", self.number, self.keys)
    }

    async fn proxy_to(&mut self, node: u64) -> Result<SocketAddr> {
        if let Some(address) = self.proxies.get(&node) {
            return Ok(*address);
        }
        let real = self.shared.directory.face(node).context("a node that is gone")?.gateway;
        let network = &self.shared.network;
        let address = network.before_gateway(self.number, node, real).await?;
        let lossy = self.shared.workload.client_links();
        let (own, other) = (Party::Client(self.number), Party::Node(node));
        network.set(own, other, lossy);
        network.set(other, own, lossy);
        self.proxies.insert(node, address);
        Ok(address)
    }

    /// An access token for a package; `None` when nobody gives one now.
    async fn access(&self, package: &str, address: SocketAddr) -> Option<String> {
        if let Some(token) = self.shared.token(package) {
            return Some(token);
        }
        let imported = self.shared.packages.iter().find(|it| it.terms.name == package)?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", imported.client_id.as_str()),
            ("client_secret", &imported.client_secret),
            ("scope", "license:checkout license:return"),
        ];
        let request = self.http.request(Method::POST, address, "/oauth/token").form(&form);
        let Reply::Answer(answer) = self.http.send(request).await else { return None };
        let token = answer.expect(200).ok()?.text("access_token").ok()?.to_owned();
        self.shared.set_token(package, Some(token.clone()));
        Some(token)
    }
}

/// Refusals after which there is nothing to keep.
const ENDED: &[&str] = &["lease_ended", "already_ended", "unknown_lease", "renewal_token_replayed"];
/// Acts that a client may repeat.
const KEYED: usize = 24;
