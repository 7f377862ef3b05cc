//! Clients that take seats, keep some for a while and return them, and an operator who registers
//! applications; all of it goes into the [`Book`] in the moment that it is acknowledged.
//!
//! What may have happened is sent again, to the next node, with the same key, until it is answered:
//! an act that a power cut swallowed and one whose answer it swallowed look the same from here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use leasehold_tests::api::{Answer, Api, Reply};
use leasehold_tests::operated::Operated;
use leasehold_tests::wait::{LIVENESS, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::book::{Book, Grant};

/// The package that they use.
pub(crate) const PACKAGE: &str = "under-cuts";
/// Its seats: fewer than the clients would keep.
pub(crate) const SEATS: u32 = 24;
/// Clients at once.
const CLIENTS: usize = 12;
/// Leases that each keeps while it takes another.
const KEPT: usize = 2;
/// A client's rounds between two applications.
const REGISTERS_EVERY: u64 = 12;

/// What all clients share.
pub(crate) struct Shop {
    /// Every node, by the address that it had at the start.
    pub(crate) api: Api,
    /// What they were told.
    pub(crate) book: Book,
    token: String,
    clock: RealClock,
    stop: AtomicBool,
    /// Whether clients are to begin nothing, and how many rest now.
    resting: watch::Sender<bool>,
    at_rest: AtomicUsize,
    /// Requests that had to be sent again.
    pub(crate) repeated: AtomicU64,
}

/// Clients that run until they are told to end.
pub(crate) struct Crowd {
    pub(crate) shop: Arc<Shop>,
    tasks: JoinSet<Result<()>>,
}

impl Crowd {
    /// Imports the package and starts them.
    pub(crate) async fn start(cluster: &Operated) -> Result<Self> {
        let app = cluster.package(PACKAGE, SEATS).await?;
        let api = cluster.api()?;
        let token = api.token_of(1, &app.client_id, &app.client_secret).await?;
        let shop = Arc::new(Shop {
            api,
            book: Book::new(),
            token,
            clock: RealClock::new(),
            stop: AtomicBool::new(false),
            resting: watch::Sender::new(false),
            at_rest: AtomicUsize::new(0),
            repeated: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client { shop: Arc::clone(&shop), number, kept: VecDeque::new() };
            tasks.spawn(client.live());
        }
        shop.book.so_many_more(20).await?;
        Ok(Self { shop, tasks })
    }

    /// The first error of a client that has ended.
    pub(crate) fn is_well(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => ended?.and_then(|()| bail!("a client has ended")),
            None => Ok(()),
        }
    }

    /// Has all of them begin nothing new, and waits until nothing is under way.
    pub(crate) async fn rests(&mut self) -> Result<()> {
        self.shop.resting.send_replace(true);
        let all = self.tasks.len();
        let shop = Arc::clone(&self.shop);
        eventually("clients come to rest", || {
            let rest = shop.at_rest.load(Ordering::Relaxed) == all;
            async move { rest.then_some(()) }
        })
        .await
        .and_then(|()| self.is_well())
    }

    /// Has them go on.
    pub(crate) fn goes_on(&self) {
        self.shop.resting.send_replace(false);
    }

    /// Gives them up while they rest: nothing is under way.
    pub(crate) fn end_in_silence(mut self) -> Arc<Shop> {
        self.tasks.abort_all();
        self.shop
    }

    /// Has all of them end; what they have taken and not returned stays out.
    pub(crate) async fn end(mut self) -> Result<Arc<Shop>> {
        self.shop.stop.store(true, Ordering::Relaxed);
        self.goes_on();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.shop)
    }
}

struct Client {
    shop: Arc<Shop>,
    number: usize,
    kept: VecDeque<String>,
}

impl Client {
    async fn live(mut self) -> Result<()> {
        let mut round = 0;
        while !self.shop.stop.load(Ordering::Relaxed) {
            self.shop.rest().await;
            round += 1;
            let taken = self.take(round).await?;
            if !taken || self.kept.len() > KEPT {
                self.give_back().await?;
            }
            if self.number == 0 && round % REGISTERS_EVERY == 0 {
                self.register(round).await?;
            }
        }
        Ok(())
    }

    /// Takes a seat, unless none is free.
    async fn take(&mut self, round: u64) -> Result<bool> {
        let (shop, number) = (&self.shop, self.number);
        let key = format!("client-{number}-{round}");
        let body = json!({
            "product_id": PACKAGE,
            "user": format!("user-{number}@bmw.com"),
            "hostname": format!("host-{number}"),
            "metadata": { "version": "8.2.1", "session_id": key },
        });
        let asked_ns = shop.clock.monotonic_ns();
        let send = |node| shop.api.checkout(node, &shop.token, Some(&key), &body);
        let answer = shop.until_answered(round, send).await?;
        if answer.status == 409 {
            ensure!(answer.body["status"] == "denied", "odd refusal: {answer:?}");
            return Ok(false);
        }
        let answer = answer.expect(200)?;
        let from_ns = shop.clock.monotonic_ns();
        let lease_id = answer.text("lease_id")?.to_owned();
        let fence = answer.text("fence")?.to_owned();
        let grant = Grant { fence, asked_ns, from_ns, returning_ns: None, is_returned: false };
        let mut before = None;
        shop.book.note(|pages| before = pages.grants.insert(lease_id.clone(), grant));
        ensure!(before.is_none(), "{lease_id} was granted twice");
        self.kept.push_back(lease_id);
        Ok(true)
    }

    /// Returns the seat that it has had for longest.
    async fn give_back(&mut self) -> Result<()> {
        let shop = &self.shop;
        let Some(lease_id) = self.kept.pop_front() else { return Ok(()) };
        shop.book.is_returning(&lease_id, shop.clock.monotonic_ns());
        let send = |node| shop.api.give_back(node, &shop.token, &lease_id);
        let answer = shop.until_answered(self.number as u64, send).await?;
        ensure!(answer.status == 200, "the return of {lease_id}: {answer:?}");
        shop.book.note(|pages| {
            if let Some(grant) = pages.grants.get_mut(&lease_id) {
                grant.is_returned = true;
            }
        });
        Ok(())
    }

    /// Registers an application, as an operator does.
    async fn register(&self, round: u64) -> Result<()> {
        let shop = &self.shop;
        let body = json!({
            "name": format!("application {round}"), "product_id": PACKAGE, "vendor": "vector-de",
        });
        let key = format!("register-{round}");
        let send = |node| shop.register_once(node, &key, &body);
        let answer = shop.until_answered(round, send).await?;
        // Done by an attempt whose answer was lost: the secret is shown once.
        let was_done = answer.status == 409 && answer.body["code"] == "secret_shown_before";
        let answer = if was_done { answer } else { answer.expect(201)? };
        let app = answer.text("app_id")?.to_owned();
        shop.book.note(|pages| {
            pages.apps.insert(app);
        });
        Ok(())
    }
}

impl Shop {
    /// Returns at once unless clients are to rest.
    async fn rest(&self) {
        self.at_rest.fetch_add(1, Ordering::Relaxed);
        let mut resting = self.resting.subscribe();
        // The sender is in `self`.
        let _ = resting.wait_for(|resting| !resting).await;
        self.at_rest.fetch_sub(1, Ordering::Relaxed);
    }

    async fn register_once(&self, node: u64, key: &str, body: &Value) -> Result<Reply> {
        let request = self.api.request(node, Method::POST, "/admin/apps")?;
        let request = request.bearer_auth(&self.api.dev.admin_token).json(body);
        Ok(self.api.send(request.header("Idempotency-Key", key)).await)
    }

    /// Sends to one node after the other until something other than 503 comes back.
    async fn until_answered<F, Fut>(&self, first: u64, mut send: F) -> Result<Answer>
    where
        F: FnMut(u64) -> Fut,
        Fut: Future<Output = Result<Reply>>,
    {
        let nodes = &self.api.dev.nodes;
        let started_ns = self.clock.monotonic_ns();
        let mut last = String::new();
        for attempt in first.. {
            let at = usize::try_from(attempt % nodes.len() as u64)?;
            match send(nodes[at].id).await? {
                Reply::Answer(answer) if answer.status != 503 => return Ok(answer),
                Reply::Answer(answer) => last = format!("{}", answer.body),
                Reply::Unknown(why) => last = why,
            }
            self.repeated.fetch_add(1, Ordering::Relaxed);
            let waited_ns = self.clock.monotonic_ns() - started_ns;
            if u128::from(waited_ns) > LIVENESS.as_nanos() {
                break;
            }
            // A client backs off between tries; nothing waits for a condition here.
            tokio::time::sleep(BACK_OFF).await;
        }
        bail!("no answer for {LIVENESS:?}, at last: {last}")
    }

    /// The nodes, by the ids that they had at the start.
    pub(crate) fn nodes(&self) -> Vec<u64> {
        self.api.dev.nodes.iter().map(|node| node.id).collect()
    }

    /// An operator's read, at this node.
    pub(crate) async fn read(&self, node: u64, path: &str) -> Result<Value> {
        let answer = eventually(&format!("{path} at {node}"), || async {
            let request = self.api.request(node, Method::GET, path).ok()?;
            let request = request.bearer_auth(&self.api.dev.admin_token);
            match self.api.send(request).await {
                Reply::Answer(answer) if answer.status != 503 => Some(answer),
                _ => None,
            }
        })
        .await?;
        Ok(answer.expect(200).with_context(|| format!("{path} at node {node}"))?.body)
    }
}

const BACK_OFF: std::time::Duration = std::time::Duration::from_millis(10);
