//! Nodes and the connections of many applications, in one process: what a request costs from its
//! first byte at a gateway to the last of its answer.
//!
//! Applications speak HTTP/1.1 through memory to a gateway each, and do as little as they can:
//! their requests are written before a case begins, and answers are read after it ended.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lease::ids::NodeId;
use raft::ClusterConfig;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use turmoil::{Builder, Sim};

use super::{Meter, SEED};
use crate::disk::Written;
use crate::http;
use crate::net::host;
use crate::node::{self, Machine};
use crate::operator::{Admin, Errands};
use crate::plan::{PackagePlan, Plan, Sizes};
use crate::shared::{Phase, Shared};

/// How many ask how many nodes how often.
pub(super) struct Load {
    nodes: u64,
    callers: usize,
    /// Requests of a caller in each case.
    requests: usize,
    cases: [(&'static str, Verb); 4],
}

/// One node.
pub(super) const GATEWAY: Load = Load {
    nodes: 1,
    callers: 64,
    requests: 16,
    cases: [
        ("gateway_checkout", Verb::Checkout),
        ("gateway_heartbeat", Verb::Heartbeat),
        ("gateway_read", Verb::Read),
        ("gateway_return", Verb::Return),
    ],
};

/// Three nodes under as many clients as the benchmark's busiest rows but one have.
pub(super) const CLUSTER: Load = Load {
    nodes: 3,
    callers: 256,
    requests: 4,
    cases: [
        ("cluster_checkout", Verb::Checkout),
        ("cluster_heartbeat", Verb::Heartbeat),
        ("cluster_read", Verb::Read),
        ("cluster_return", Verb::Return),
    ],
};

/// What callers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Checkout,
    Heartbeat,
    Read,
    Return,
}

/// Founds the cluster and counts every case.
pub(super) fn count(load: &Load, meter: &mut dyn Meter) -> Result<()> {
    let shared = Shared::with_plan(SEED, plan(load), false);
    let stage = Rc::new(Stage::default());
    let mut sim = Builder::new()
        .epoch(UNIX_EPOCH + Duration::from_secs(1))
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(LATENCY_LEAST)
        .max_message_latency(LATENCY_MOST)
        .tcp_capacity(4_096)
        .rng_seed(SEED)
        .build();
    shared.members.replace((1..=load.nodes).collect());
    for node in 1..=load.nodes {
        let machine = Machine::new(node, &shared);
        shared.machines.borrow_mut().insert(node, Rc::clone(&machine));
        let shared = Rc::clone(&shared);
        sim.host(host(node), move || node::process(Rc::clone(&machine), Rc::clone(&shared)));
    }
    let callers = Callers {
        shared: Rc::clone(&shared),
        stage: Rc::clone(&stage),
        verbs: load.cases.map(|(_, verb)| verb),
        count: load.callers,
        requests: load.requests,
    };
    sim.client("apps", async move { Ok(callers.run().await?) });
    let mut world = World { sim, shared, stage };
    for (number, (case, _)) in (1..).zip(load.cases) {
        world.measure(meter, case, number, (load.callers * load.requests) as u64)?;
    }
    Ok(())
}

struct World<'a> {
    sim: Sim<'a>,
    shared: Rc<Shared>,
    stage: Rc<Stage>,
}

/// How far callers may go, and how far they are: one for each case, from 1.
#[derive(Default)]
struct Stage {
    /// The case that is to be done.
    wanted: Cell<usize>,
    /// The case for which all requests are written down.
    prepared: Cell<usize>,
    /// The case whose answers have come.
    done: Cell<usize>,
}

impl World<'_> {
    /// Lets time pass until callers have come so far.
    fn reach(&mut self, far: impl Fn(&Stage) -> bool) -> Result<()> {
        while !far(&self.stage) {
            self.sim.step().map_err(|error| anyhow!("the simulation failed: {error}"))?;
            let now = self.sim.elapsed();
            self.shared.time.reached(now);
            ensure!(!self.shared.is_violated(), "{:?}", self.shared.violations());
            ensure!(now < LIVENESS, "callers are stuck");
        }
        Ok(())
    }

    fn measure(
        &mut self,
        meter: &mut dyn Meter,
        case: &'static str,
        stage: usize,
        operations: u64,
    ) -> Result<()> {
        self.reach(|callers| callers.prepared.get() == stage)?;
        let before = self.written();
        self.stage.wanted.set(stage);
        let mut done = Ok(());
        meter.measure(case, operations, &mut || {
            done = self.reach(|callers| callers.done.get() == stage);
        });
        done?;
        let after = self.written();
        let each = |count: u64| count as f64 / operations as f64;
        meter.take_down(case, "bytes_written", each(after.bytes - before.bytes));
        meter.take_down(case, "syncs", each(after.syncs - before.syncs));
        Ok(())
    }

    /// On all disks together.
    fn written(&self) -> Written {
        let machines = self.shared.machines.borrow();
        let all = machines.values().map(|machine| machine.disk.written());
        all.fold(Written::default(), |sum, one| Written {
            bytes: sum.bytes + one.bytes,
            syncs: sum.syncs + one.syncs,
        })
    }
}

/// The applications.
struct Callers {
    shared: Rc<Shared>,
    stage: Rc<Stage>,
    verbs: [Verb; 4],
    count: usize,
    requests: usize,
}

/// One connection, what it will ask, and what was answered.
struct Caller {
    stream: DuplexStream,
    asks: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
    /// Lease ids and renewal tokens.
    leases: Vec<(String, String)>,
}

impl Callers {
    async fn run(self) -> Result<()> {
        let errands = Rc::new(Errands::default());
        let apps = Admin::new(Rc::clone(&self.shared), errands, 1).found().await;
        self.shared.phase.set(Phase::Calm);
        let mut serving = JoinSet::new();
        let mut callers = Vec::new();
        for number in 0..self.count {
            let node = 1 + number as NodeId % self.shared.plan.nodes;
            let machine = self.shared.machine(node).context("a machine")?;
            let process = machine.process.borrow();
            let gateway = process.as_ref().context("a process")?.gateway.clone();
            let (stream, server) = tokio::io::duplex(PIPE_BYTES);
            serving.spawn(http::serve_connection(gateway, server, ADDRESS));
            callers.push(Caller {
                stream,
                asks: Vec::new(),
                answers: Vec::new(),
                leases: Vec::new(),
            });
        }
        let (id, secret) = &apps.clients[0];
        let token = callers[0].token(id, secret).await?;
        // Every node has applied what registered the application, and every connection is open.
        tokio::time::sleep(SETTLING).await;
        for (stage, verb) in (1..).zip(self.verbs) {
            for (number, caller) in callers.iter_mut().enumerate() {
                caller.prepare(verb, &token, number, self.requests);
            }
            self.stage.prepared.set(stage);
            while self.stage.wanted.get() < stage {
                tokio::time::sleep(TICK).await;
            }
            let mut asking = JoinSet::new();
            for mut caller in std::mem::take(&mut callers) {
                asking.spawn(async move { caller.ask_all().await.map(|()| caller) });
            }
            let asked = RefCell::new(Vec::new());
            while let Some(caller) = asking.join_next().await {
                asked.borrow_mut().push(caller??);
            }
            self.stage.done.set(stage);
            // What followers still have to apply belongs to no case.
            tokio::time::sleep(SETTLING).await;
            callers = asked.take();
            for caller in &mut callers {
                caller.judge(verb)?;
            }
        }
        std::future::pending().await
    }
}

impl Caller {
    async fn token(&mut self, id: &str, secret: &str) -> Result<String> {
        let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let kind = "application/x-www-form-urlencoded";
        self.asks.push(
            format!(
                "POST /oauth/token HTTP/1.1\r\nhost: node\r\ncontent-type: {kind}\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
        );
        self.ask_all().await?;
        let answer = self.answers.pop().context("an answer")?;
        let body = body_of(&answer)?;
        Ok(body["access_token"].as_str().context("a token")?.to_owned())
    }

    /// Writes down the requests of a case.
    fn prepare(&mut self, verb: Verb, token: &str, number: usize, requests: usize) {
        let leases = std::mem::take(&mut self.leases);
        for at in 0..requests {
            let (lease, renewal) =
                leases.get(at).map_or(("", ""), |(lease, renewal)| (lease, renewal));
            let (method, path, body) = match verb {
                Verb::Checkout => {
                    let person = number * requests + at;
                    let body = format!(
                        "{{\"product_id\":\"{PACKAGE}\",\"user\":\"user-{person:05}@bmw.com\",\
                         \"hostname\":\"host-{person:05}\",\"metadata\":{{\"version\":\"8.2.1\"}}}}"
                    );
                    ("POST", "checkout".to_owned(), body)
                }
                Verb::Heartbeat => {
                    let body = format!("{{\"renewal_token\":\"{renewal}\",\"still_active\":true}}");
                    ("PUT", format!("{lease}/heartbeat"), body)
                }
                Verb::Read => ("GET", lease.to_owned(), String::new()),
                Verb::Return => {
                    ("POST", format!("{lease}/return"), format!("{{\"lease_id\":\"{lease}\"}}"))
                }
            };
            let length = body.len();
            let ask = format!(
                "{method} /api/v1/licenses/{path} HTTP/1.1\r\nhost: node\r\n\
                 authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            );
            self.asks.push(ask.into_bytes());
        }
        self.leases = leases;
    }

    /// Asks one after the other and keeps the answers.
    async fn ask_all(&mut self) -> io::Result<()> {
        for ask in std::mem::take(&mut self.asks) {
            self.stream.write_all(&ask).await?;
            let mut answer = Vec::with_capacity(ANSWER_BYTES);
            while !is_whole(&answer) {
                if self.stream.read_buf(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.answers.push(answer);
        }
        Ok(())
    }

    /// Reads the answers of a case: each must have been given what it asked for.
    fn judge(&mut self, verb: Verb) -> Result<()> {
        let mut leases = Vec::new();
        for answer in std::mem::take(&mut self.answers) {
            let body = body_of(&answer)?;
            let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
            leases.push((text("lease_id"), text("renewal_token")));
        }
        if verb == Verb::Checkout {
            self.leases = leases;
        }
        Ok(())
    }
}

/// Whether all of an answer has come.
fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = split(answer) else { return false };
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.is_some_and(|length: usize| body.len() >= length)
}

fn split(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((&answer[..end], &answer[end + 4..]))
}

fn body_of(answer: &[u8]) -> Result<Value> {
    let (head, body) = split(answer).context("an answer has no head")?;
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("not done: {}", String::from_utf8_lossy(answer));
    }
    Ok(serde_json::from_slice(body)?)
}

/// As a node is configured by default, and nothing goes wrong.
fn plan(load: &Load) -> Plan {
    let usual = ClusterConfig::new(1, PathBuf::new(), 1);
    let sizes = Sizes {
        checkpoint_log_bytes: usual.checkpoint_log_bytes,
        checkpoint_interval: usual.checkpoint_interval,
        keep_log_entries: usual.keep_log_entries,
        keep_log_bytes: usual.keep_log_bytes,
        // A segment is made ready in advance; its zeros are no request's.
        log_segment_bytes: 16 << 20,
        log_cache_bytes: usual.log_cache_bytes,
    };
    let package = PackagePlan {
        name: PACKAGE.to_owned(),
        commit: 10_000,
        overage: 0,
        ttl_s: 900,
        borrow_s: 0,
        pools: Vec::new(),
    };
    Plan {
        nodes: load.nodes,
        sizes,
        faults: Vec::new(),
        faults_end: Duration::ZERO,
        holders: 0,
        packages: vec![package],
    }
}

const PACKAGE: &str = "hot";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TICK: Duration = Duration::from_millis(1);
const LATENCY_LEAST: Duration = Duration::from_micros(100);
const LATENCY_MOST: Duration = Duration::from_micros(400);
const SETTLING: Duration = Duration::from_millis(1_500);
const LIVENESS: Duration = Duration::from_secs(600);
const PIPE_BYTES: usize = 16 << 10;
const ANSWER_BYTES: usize = 2 << 10;
