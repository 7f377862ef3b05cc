//! Asks for what `top` shows, and puts it into one picture.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::metrics::{Calls, Samples};
use crate::client::Request;
use crate::error::{CliError, Result};
use crate::session::Session;
use crate::verbs::pages;
use crate::world::Stopwatch;

/// What is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = TopPicture))]
pub(crate) struct Picture {
    /// The cluster.
    pub(super) cluster_id: String,
    /// Who leads, if anybody does.
    pub(super) leader: Option<u64>,
    /// The nodes in order of id.
    pub(super) nodes: Vec<NodeLine>,
    /// Packages in order of id.
    pub(super) packages: Vec<PackageLine>,
    /// Refusals since the nodes started, the most frequent first, with those of the last interval.
    pub(super) refusals: Vec<RefusalLine>,
    /// Calls of the last interval, the slowest first.
    pub(super) calls: Vec<CallLine>,
    /// Requests a second over all nodes that told; none at the first asking.
    pub(super) requests_per_second: Option<f64>,
    /// Servers that were asked for metrics and did not answer.
    pub(super) silent: usize,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = TopNode))]
pub(super) struct NodeLine {
    pub(super) id: u64,
    pub(super) role: String,
    pub(super) place: String,
    pub(super) gateway: String,
    pub(super) applied: Option<u64>,
    pub(super) lag: Option<u64>,
    pub(super) alarms: Vec<String>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = TopPackage))]
pub(super) struct PackageLine {
    pub(super) package_id: String,
    pub(super) state: String,
    pub(super) total: u32,
    pub(super) commit_in_use: u32,
    pub(super) overage_in_use: u32,
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = TopRefusal))]
pub(super) struct RefusalLine {
    pub(super) reason: String,
    pub(super) count: u64,
    pub(super) new: u64,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = TopCall))]
pub(super) struct CallLine {
    pub(super) operation: String,
    pub(super) count: u64,
    pub(super) mean_ms: f64,
    /// Longer than the histogram tells when it is missing.
    pub(super) p99_ms: Option<f64>,
}

/// Remembers what was counted at the last asking.
pub(super) struct Gatherer<'a> {
    session: &'a Session<'a>,
    watch: Stopwatch,
    before: BTreeMap<usize, Before>,
}

struct Before {
    at_ms: u64,
    calls: BTreeMap<String, Calls>,
    refusals: BTreeMap<String, f64>,
}

/// What is read of the cluster's status; more is there.
#[derive(Deserialize)]
struct Status {
    cluster_id: String,
    #[serde(default)]
    leader: Option<u64>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: u64,
    role: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    gateway: String,
    #[serde(default)]
    applied_index: Option<protocol::wire::Id64>,
    #[serde(default)]
    lag: Option<protocol::wire::Id64>,
    #[serde(default)]
    alarms: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Packages {
    packages: Vec<Package>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    package_id: String,
    state: String,
    seats: Seats,
}

#[derive(Deserialize)]
struct Seats {
    total: u32,
    commit_in_use: u32,
    overage_in_use: u32,
}

impl<'a> Gatherer<'a> {
    /// Fails when no operator token is at hand.
    pub(super) fn new(session: &'a Session<'a>) -> Result<Self> {
        session.settings.operator_token()?;
        Ok(Self { session, watch: Stopwatch::start(), before: BTreeMap::new() })
    }

    /// Asks once.
    pub(super) async fn picture(&mut self) -> Result<Picture> {
        let token = self.session.settings.operator_token()?;
        let client = &self.session.client;
        let status: Status = {
            let request = Request::get(&["admin", "cluster", "status"]).bearer(token);
            client.send(&request).await?.json()?
        };
        let split = |page: Packages| (page.packages, page.next);
        let path = ["admin", "packages"];
        let packages = match pages(self.session, &path, &[], Some(MAX_PACKAGES), split).await {
            Ok((packages, _)) => packages,
            // Without a quorum the nodes are still worth a look.
            Err(CliError::Refused(_) | CliError::NotReachable { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut window = Window::default();
        for server in 0..client.server_count() {
            match client.ask(server, &Request::get(&["metrics"])).await {
                Ok(answer) => {
                    let samples = Samples::read(&String::from_utf8_lossy(answer.body()));
                    self.count(server, &samples, &mut window);
                }
                Err(_) => window.silent += 1,
            }
        }
        Ok(window.picture(status, packages))
    }

    /// Takes in what one server counted since the last asking.
    fn count(&mut self, server: usize, samples: &Samples, window: &mut Window) {
        let now = Before {
            at_ms: self.watch.elapsed_ms(),
            calls: samples.calls(),
            refusals: samples.by_label("leasehold_refusals_total", "reason"),
        };
        let before = self.before.get(&server);
        let mut requests = 0.0;
        for (operation, calls) in &now.calls {
            let earlier = before.and_then(|before| before.calls.get(operation));
            let new = earlier.map_or_else(|| calls.clone(), |earlier| calls.since(earlier));
            requests += new.count;
            window.calls.entry(operation.clone()).or_default().add(&new);
        }
        for (reason, count) in &now.refusals {
            let earlier = before.and_then(|before| before.refusals.get(reason)).copied();
            let line = window.refusals.entry(reason.clone()).or_default();
            // The ledger's count is the same on every node.
            line.0 = line.0.max(*count);
            line.1 = line.1.max(earlier.map_or(0.0, |earlier| (count - earlier).max(0.0)));
        }
        if let Some(before) = before {
            let passed_ms = now.at_ms.saturating_sub(before.at_ms).max(1);
            *window.rate.get_or_insert(0.0) += requests * 1_000.0 / passed_ms as f64;
        }
        self.before.insert(server, now);
    }
}

/// What changed between two askings, over all servers.
#[derive(Default)]
struct Window {
    calls: BTreeMap<String, Calls>,
    /// Count and what is new of it, by reason.
    refusals: BTreeMap<String, (f64, f64)>,
    rate: Option<f64>,
    silent: usize,
}

impl Window {
    fn picture(self, status: Status, packages: Vec<Package>) -> Picture {
        let whole = |count: f64| count.max(0.0) as u64;
        let mut refusals: Vec<RefusalLine> = self
            .refusals
            .into_iter()
            .map(|(reason, (count, new))| RefusalLine {
                reason,
                count: whole(count),
                new: whole(new),
            })
            .filter(|line| line.count > 0)
            .collect();
        refusals.sort_by_key(|line| std::cmp::Reverse((line.new, line.count)));
        let mut calls: Vec<CallLine> = self
            .calls
            .into_iter()
            .filter(|(_, calls)| calls.count > 0.0)
            .map(|(operation, calls)| CallLine {
                operation,
                count: whole(calls.count),
                mean_ms: calls.mean_ms(),
                p99_ms: calls.p99_ms(),
            })
            .collect();
        let slowness = |line: &CallLine| line.p99_ms.unwrap_or(f64::INFINITY);
        calls.sort_by(|a, b| slowness(b).total_cmp(&slowness(a)).then(b.count.cmp(&a.count)));
        Picture {
            cluster_id: status.cluster_id,
            leader: status.leader,
            nodes: status.nodes.into_iter().map(line_of).collect(),
            packages: packages.into_iter().map(package_of).collect(),
            refusals,
            calls,
            requests_per_second: self.rate,
            silent: self.silent,
        }
    }
}

fn line_of(node: Node) -> NodeLine {
    let labels = [node.region, node.zone];
    let place: Vec<String> = labels.into_iter().filter(|label| !label.is_empty()).collect();
    NodeLine {
        id: node.id,
        role: node.role,
        place: place.join("/"),
        gateway: node.gateway,
        applied: node.applied_index.map(|index| index.0),
        lag: node.lag.map(|lag| lag.0),
        alarms: node.alarms.iter().map(alarm_name).collect(),
    }
}

/// An alarm is its name, or an object that has one.
fn alarm_name(alarm: &serde_json::Value) -> String {
    let name = alarm.as_str().or_else(|| alarm.get("kind").and_then(|kind| kind.as_str()));
    name.unwrap_or("alarm").to_owned()
}

fn package_of(package: Package) -> PackageLine {
    PackageLine {
        package_id: package.package_id,
        state: package.state,
        total: package.seats.total,
        commit_in_use: package.seats.commit_in_use,
        overage_in_use: package.seats.overage_in_use,
    }
}

/// Packages looked at: more than anybody scrolls through.
const MAX_PACKAGES: u32 = 1_000;
