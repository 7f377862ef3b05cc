//! A simulated application that takes seats, renews and returns them until told to stop, and keeps
//! a record of what it definitely held.
//!
//! Every request that may have happened is sent again, to the next node, with the same
//! `Idempotency-Key`, until it is answered; so every hold ends definite.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};

use crate::api::{Answer, Api, Reply};
use crate::holds::Hold;
use crate::wait::LIVENESS;

/// Shared by all tenants of a run.
#[derive(Debug)]
pub struct Run {
    /// The cluster's face.
    pub api: Api,
    /// The application's access token.
    pub token: String,
    /// The product to check out.
    pub product_id: String,
    /// Where every request goes: ids of the nodes.
    pub nodes: Vec<u64>,
    /// The one clock of the record.
    pub clock: RealClock,
    /// Set when tenants should finish.
    pub stop: AtomicBool,
    /// Requests answered 2xx so far: a sign of life for the scenario.
    pub served: AtomicU64,
    /// When the last request was answered 2xx, on `clock`.
    pub served_ns: AtomicU64,
    /// The longest time without such an answer since it was last set to zero.
    pub longest_gap_ns: AtomicU64,
    /// Requests that were denied for want of a seat.
    pub denied: AtomicU64,
    /// Requests that had to be sent again.
    pub retried: AtomicU64,
    /// The most times that one request had to be sent again.
    pub most_retries: AtomicU64,
    /// Why requests had to be sent again that had been sent again before.
    pub repeated: Mutex<Vec<String>>,
}

impl Run {
    /// A run against all nodes.
    pub fn new(api: Api, token: String, product_id: &str) -> Arc<Self> {
        Arc::new(Self {
            nodes: api.dev.nodes.iter().map(|node| node.id).collect(),
            api,
            token,
            product_id: product_id.to_owned(),
            clock: RealClock::new(),
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            served_ns: AtomicU64::new(0),
            longest_gap_ns: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            most_retries: AtomicU64::new(0),
            repeated: Mutex::new(Vec::new()),
        })
    }
}

impl Run {
    fn note_served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.monotonic_ns();
        let before = self.served_ns.fetch_max(now, Ordering::Relaxed);
        self.longest_gap_ns.fetch_max(now.saturating_sub(before), Ordering::Relaxed);
    }
}

/// Takes, renews and returns seats until the run stops; gives what it held.
pub async fn live(run: Arc<Run>, number: usize) -> Result<Vec<Hold>> {
    let mut holds = Vec::new();
    let mut round = 0_usize;
    while !run.stop.load(Ordering::Relaxed) {
        round += 1;
        let tenant = Tenant { run: &run, number, round };
        if let Some(hold) = tenant.hold_once().await? {
            holds.push(hold);
        }
    }
    Ok(holds)
}

struct Tenant<'a> {
    run: &'a Run,
    number: usize,
    round: usize,
}

impl Tenant<'_> {
    async fn hold_once(&self) -> Result<Option<Hold>> {
        let key = format!("tenant-{}-{}", self.number, self.round);
        let body = json!({
            "product_id": self.run.product_id,
            "user": format!("user-{}@bmw.com", self.number),
            "hostname": format!("host-{}", self.number),
            "metadata": { "version": "8.2.1", "session_id": key },
        });
        let asked_ns = self.run.clock.monotonic_ns();
        let granted = self.until_answered(|node| self.checkout(node, &key, &body)).await?;
        // No seat is free, or a disk is nearly full.
        if matches!(granted.status, 409 | 507) {
            self.run.denied.fetch_add(1, Ordering::Relaxed);
            ensure!(granted.body["status"] == "denied", "odd refusal: {granted:?}");
            return Ok(None);
        }
        let granted = granted.expect(200)?;
        let from_ns = self.run.clock.monotonic_ns();
        let lease_id = granted.text("lease_id")?.to_owned();
        let fence = granted.text("fence")?.to_owned();
        if self.round.is_multiple_of(4) {
            // The same key again, at another node, is the same lease.
            let again = self.until_answered(|node| self.checkout(node, &key, &body)).await?;
            let again = again.expect(200)?;
            ensure!(again.text("lease_id")? == lease_id, "two leases for one key: {again:?}");
            ensure!(again.text("fence")? == fence, "another fence for one key: {again:?}");
        }
        self.renew(&lease_id, granted.text("renewal_token")?).await?;
        let until_ns = self.run.clock.monotonic_ns();
        let path = |node| self.run.api.give_back(node, &self.run.token, &lease_id);
        let returned = self.until_answered(path).await?.expect(200)?;
        ensure!(returned.body["status"] == "returned", "odd return: {returned:?}");
        Ok(Some(Hold { lease_id, fence, quantity: 1, asked_ns, from_ns, until_ns }))
    }

    async fn renew(&self, lease_id: &str, renewal_token: &str) -> Result<()> {
        let beat = |node| self.run.api.heartbeat(node, &self.run.token, lease_id, renewal_token);
        let renewed = self.until_answered(beat).await?.expect(200)?;
        ensure!(renewed.body["status"] == "renewed", "odd renewal: {renewed:?}");
        Ok(())
    }

    async fn checkout(&self, node: u64, key: &str, body: &Value) -> Result<Reply> {
        self.run.api.checkout(node, &self.run.token, Some(key), body).await
    }

    /// Sends to one node after the other until something other than 503 comes back.
    async fn until_answered<F, Fut>(&self, mut send: F) -> Result<Answer>
    where
        F: FnMut(u64) -> Fut,
        Fut: Future<Output = Result<Reply>>,
    {
        let start = self.run.clock.monotonic_ns();
        let mut attempt = self.number + self.round;
        let mut retries = 0;
        let mut whys = Vec::new();
        loop {
            let node = self.run.nodes[attempt % self.run.nodes.len()];
            match send(node).await? {
                Reply::Answer(answer) if answer.status != 503 => {
                    if answer.status < 300 {
                        self.run.note_served();
                    }
                    return Ok(answer);
                }
                Reply::Answer(answer) => {
                    ensure!(answer.header("retry-after").is_some(), "no Retry-After: {answer:?}");
                    let outcome = answer.body["outcome"].as_str().context("503 without outcome")?;
                    ensure!(["not_executed", "unknown"].contains(&outcome), "{answer:?}");
                    whys.push(format!("node {node}: {}", answer.body));
                }
                Reply::Unknown(why) => whys.push(format!("node {node}: {why}")),
            }
            let waited = self.run.clock.monotonic_ns() - start;
            if u128::from(waited) > LIVENESS.as_nanos() {
                bail!("tenant {} got no answer for {LIVENESS:?}", self.number);
            }
            self.run.retried.fetch_add(1, Ordering::Relaxed);
            retries += 1;
            self.run.most_retries.fetch_max(retries, Ordering::Relaxed);
            if retries > 1
                && let Ok(mut repeated) = self.run.repeated.lock()
            {
                repeated.truncate(16);
                repeated.push(whys.join("; "));
            }
            attempt += 1;
            // A client backs off between tries; nothing waits for a condition here.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}
