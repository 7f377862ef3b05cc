//! Metrics in the text format of Prometheus.
//!
//! Names are etcd's where the thing is the same, with our prefix. What consensus, the log and the
//! ledger count is read when somebody asks; only requests are counted as they happen. No text of a
//! user is ever a label: packages are named by their id, at most 200 of them, and the rest is
//! summed under `other`.
//!
//! Long because each metric is written out with its name and its sentence.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use lease::Ledger;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use raft::{NodeRole, Status};
use storage::log::{DurationHistogram, SYNC_BOUNDS_NS};

use crate::calls::classic::metrics::ClassicMetrics;
use crate::context::GatewayContext;
use crate::metrics_pools::Pools;
use crate::metrics_watched::Watched;

/// Counts requests, and gathers the rest when asked.
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<OperationLabel, Histogram, fn() -> Histogram>,
    /// Refusals that never reached the ledger.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    checkpoints: Mutex<Checkpoints>,
    /// Under the names of the classic face's first server.
    pub(crate) classic: ClassicMetrics,
}

/// Durations of checkpoints, as far as scrapes have seen them: consensus remembers the last one
/// only, and there is one in 30 seconds at most times.
struct Checkpoints {
    seen: u64,
    durations: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(request_durations),
            refusals: Mutex::default(),
            checkpoints: Mutex::new(Checkpoints { seen: 0, durations: checkpoint_durations() }),
            classic: ClassicMetrics::new(),
        }
    }

    /// Counts one request; `operation` is an id of the route table, or `none`.
    pub(crate) fn observe_request(
        &self,
        operation: &'static str,
        status: StatusCode,
        duration_ns: u64,
    ) {
        self.requests.get_or_create(&RequestLabels { operation, status: status.as_u16() }).inc();
        self.durations.get_or_create(&OperationLabel { operation }).observe(seconds(duration_ns));
    }

    /// Counts a refusal that the gateway decided itself, under its wire code.
    pub(crate) fn count_refusal(&self, reason: &'static str) {
        *self.refusals.lock().entry(reason).or_default() += 1;
    }

    /// Everything, in OpenMetrics text; what the classic face counts only where it is served.
    pub(crate) fn render(
        &self,
        context: &GatewayContext,
        has_classic: bool,
    ) -> Result<String, fmt::Error> {
        let raft = context.cluster.metrics();
        let checkpoints = {
            let mut checkpoints = self.checkpoints.lock();
            if raft.checkpoints > checkpoints.seen {
                checkpoints.seen = raft.checkpoints;
                checkpoints.durations.observe(seconds(raft.checkpoint_last_ns));
            }
            checkpoints.durations.clone()
        };
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "http_requests",
            "Requests by operation and status",
            self.requests.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "Time from the request's head to its answer",
            self.durations.clone(),
        );
        registry.register(
            "disk_backend_commit_duration_seconds",
            "Time of a checkpoint of the state",
            checkpoints,
        );
        registry.register_collector(Box::new(Snapshot::take(
            context,
            raft,
            self.refusals.lock().clone(),
        )));
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &registry)?;
        if has_classic {
            let registry = self.classic.registry(&context.cluster.ledger());
            encode_registry(&mut text, &registry)?;
        }
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// What others count, copied out so that nothing is locked while text is written.
#[derive(Debug)]
struct Snapshot {
    status: Status,
    has_leader: bool,
    raft: raft::Metrics,
    unsealed: bool,
    live_leases: usize,
    request_rows: usize,
    subject_rows: usize,
    clock_led_ms: u64,
    seats: Vec<PackageSeats>,
    pools: Pools,
    refusals: BTreeMap<String, u64>,
    own_refusals: BTreeMap<&'static str, u64>,
    watched: Watched,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct PackageSeats {
    package: String,
    total: u64,
    commit_in_use: u64,
    overage_in_use: u64,
}

impl Snapshot {
    fn take(
        context: &GatewayContext,
        raft: raft::Metrics,
        own_refusals: BTreeMap<&'static str, u64>,
    ) -> Self {
        let status = context.cluster.status();
        let bound = context.cluster.failover_bound();
        let has_leader = match status.role {
            NodeRole::Leader => status.leads_with_quorum(bound),
            // A follower keeps the name of a leader that is gone until somebody else is elected.
            _ => status.leader.is_some() && is_within(status.leader_contact_age_ms, bound),
        };
        let unsealed = context.keys.get().is_some();
        let facts = context.control.facts();
        let ledger = context.cluster.ledger();
        Self {
            has_leader,
            raft,
            unsealed,
            live_leases: ledger.live_leases(),
            request_rows: ledger.request_rows(),
            subject_rows: ledger.subject_rows(),
            clock_led_ms: ledger.clock().led_ms,
            seats: seats(&ledger),
            pools: Pools::of(&ledger),
            refusals: refusals(&ledger),
            own_refusals,
            watched: Watched::of(facts, &ledger, &status, context.clock.wall_ms()),
            status,
        }
    }
}

fn is_within(age_ms: Option<u64>, bound: Duration) -> bool {
    age_ms.is_some_and(|age_ms| u128::from(age_ms) < bound.as_millis())
}

/// Seats of the first packages by id, the rest summed.
fn seats(ledger: &Ledger) -> Vec<PackageSeats> {
    let mut listed = Vec::new();
    let mut other = PackageSeats { package: "other".to_owned(), ..PackageSeats::default() };
    for package in ledger.packages() {
        let seats = package.seats();
        let total = u64::from(package.terms.total);
        let commit_in_use = u64::from(seats.commit_in_use);
        let overage_in_use = u64::from(seats.overage_in_use);
        if listed.len() < MAX_PACKAGES_LISTED {
            let package = package.terms.package.to_string();
            listed.push(PackageSeats { package, total, commit_in_use, overage_in_use });
        } else {
            other.total += total;
            other.commit_in_use += commit_in_use;
            other.overage_in_use += overage_in_use;
        }
    }
    if other.total > 0 {
        listed.push(other);
    }
    listed
}

/// Refusals by reason, over all packages.
fn refusals(ledger: &Ledger) -> BTreeMap<String, u64> {
    let mut by_reason = BTreeMap::new();
    for (_package, code, count) in ledger.refusals() {
        let total: &mut u64 = by_reason.entry(snake_case(&format!("{code:?}"))).or_default();
        *total = total.saturating_add(count);
    }
    by_reason
}

/// A name of the code as the wire has it.
pub(crate) fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for (at, letter) in camel.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_server(&mut encoder)?;
        self.encode_disk(&mut encoder)?;
        self.watched.encode(&mut encoder)?;
        self.pools.encode(&mut encoder)?;
        self.encode_clocks(&mut encoder)?;
        self.encode_ledger(&mut encoder)
    }
}

impl Snapshot {
    fn encode_server(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let raft = &self.raft;
        let is_leader = self.status.role == NodeRole::Leader;
        let applied = self.status.applied.map_or(0, |position| position.index);
        let committed = self.status.committed.map_or(0, |position| position.index);
        gauge(
            encoder,
            "server_has_leader",
            "1 while a leader is heard from",
            self.has_leader.into(),
        )?;
        gauge(encoder, "server_is_leader", "1 while this node leads", is_leader.into())?;
        gauge(
            encoder,
            "server_is_unsealed",
            "1 while this node has its keys",
            self.unsealed.into(),
        )?;
        gauge(encoder, "server_term", "Term of this node", self.status.term)?;
        counter(
            encoder,
            "server_leader_changes_seen",
            "Changes of the leader seen",
            raft.leader_changes,
        )?;
        let name = "server_proposals_committed";
        counter(encoder, name, "Index of the last entry known to be committed", committed)?;
        let name = "server_proposals_applied";
        counter(encoder, name, "Index of the last entry applied", applied)?;
        let pending = raft.entries_in_flight.saturating_add(raft.commands_queued);
        gauge(
            encoder,
            "server_proposals_pending",
            "Entries in flight and commands queued",
            pending,
        )?;
        counter(encoder, "server_proposals_failed", "Entries that failed", raft.proposals_failed)?;
        counter(encoder, "server_commands_proposed", "Commands proposed", raft.commands_proposed)?;
        counter(
            encoder,
            "server_commands_overloaded",
            "Commands refused by load",
            raft.overloaded,
        )?;
        counter(encoder, "server_commands_forwarded", "Commands forwarded", raft.forwarded)?;
        counter(encoder, "server_forwards", "Calls that carried them", raft.forwards)?;
        counter(encoder, "server_reads", "Linearizable reads answered", raft.reads)?;
        counter(encoder, "server_read_rounds", "Rounds that served them", raft.read_rounds)?;
        counter(encoder, "network_snapshots_sent", "Snapshots sent", raft.snapshots_sent)?;
        counter(
            encoder,
            "network_snapshots_installed",
            "Snapshots received",
            raft.snapshots_installed,
        )?;
        seconds_counter(encoder, "server_apply_duration", "Time spent applying", raft.apply_ns)
    }

    fn encode_disk(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let log = &self.raft.log;
        let name = "disk_wal_fsync_duration_seconds";
        let metric = encoder.encode_descriptor(
            name,
            "Time of one fdatasync of the log",
            None,
            MetricType::Histogram,
        )?;
        SyncDurations(&log.sync).encode(metric)?;
        counter(encoder, "disk_wal_groups", "Groups written to the log", log.groups)?;
        counter(encoder, "disk_wal_records", "Records written to the log", log.records)?;
        counter(encoder, "disk_wal_written_bytes", "Bytes written to the log", log.bytes_written)?;
        gauge(encoder, "disk_wal_segments", "Segments of the log", log.segments)?;
        counter(encoder, "disk_backend_commits", "Checkpoints of the state", self.raft.checkpoints)
    }

    fn encode_clocks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        {
            let mut family = encoder.encode_descriptor(
                "clock_offset_seconds",
                "A peer's wall clock minus this node's, on the leader",
                None,
                MetricType::Gauge,
            )?;
            for peer in &self.status.peers {
                if let Some(offset_ms) = peer.clock_offset_ms {
                    let labels = [("node", peer.id.to_string())];
                    let seconds = offset_ms as f64 / 1_000.0;
                    ConstGauge::new(seconds).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        gauge(encoder, "clock_led_milliseconds", "The lease clock", self.clock_led_ms)
    }

    fn encode_ledger(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let leases = u64::try_from(self.live_leases).unwrap_or(u64::MAX);
        let rows = u64::try_from(self.request_rows).unwrap_or(u64::MAX);
        gauge(encoder, "leases", "Live leases", leases)?;
        gauge(encoder, "idempotency_keys", "Requests remembered", rows)?;
        let subjects = u64::try_from(self.subject_rows).unwrap_or(u64::MAX);
        gauge(encoder, "subjects", "Names of people and hosts that are kept", subjects)?;
        {
            let mut family = encoder.encode_descriptor(
                "package_seats",
                "Seats a package has",
                None,
                MetricType::Gauge,
            )?;
            for seats in &self.seats {
                let labels = [("package", seats.package.as_str())];
                ConstGauge::new(seats.total).encode(family.encode_family(&labels)?)?;
            }
        }
        {
            let mut family = encoder.encode_descriptor(
                "package_seats_in_use",
                "Seats out, by class",
                None,
                MetricType::Gauge,
            )?;
            for seats in &self.seats {
                for (class, in_use) in
                    [("commit", seats.commit_in_use), ("overage", seats.overage_in_use)]
                {
                    let labels = [("package", seats.package.as_str()), ("class", class)];
                    ConstGauge::new(in_use).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let mut family = encoder.encode_descriptor(
            "refusals",
            "Refusals by reason: the ledger's over all nodes, this gateway's since its start",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in &self.refusals {
            let labels = [("reason", reason.as_str()), ("decided_by", "ledger")];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        for (reason, count) in &self.own_refusals {
            let labels = [("reason", *reason), ("decided_by", "gateway")];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

pub(crate) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

fn seconds_counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    ns: u64,
) -> fmt::Result {
    let name = format!("{name}_seconds");
    let metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
    ConstCounter::new(seconds(ns)).encode(metric)
}

/// The log's histogram in the shape of Prometheus.
struct SyncDurations<'a>(&'a DurationHistogram);

impl SyncDurations<'_> {
    fn encode(&self, mut metric: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        let bounds = SYNC_BOUNDS_NS.iter().map(|ns| seconds(*ns)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.counts).collect();
        metric.encode_histogram::<NoLabelSet>(
            seconds(self.0.sum_ns),
            self.0.count(),
            &buckets,
            None,
        )
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// 0.25 ms to 8 s.
fn request_durations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

/// 1 ms to 32 s.
fn checkpoint_durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

const PREFIX: &str = "leasehold";
/// A series per package and class is cheap; a million of them is not.
const MAX_PACKAGES_LISTED: usize = 200;

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn reasons_are_written_as_the_wire_writes_them() {
        for (camel, snake) in [
            ("MaxOverageExceeded", "max_overage_exceeded"),
            ("LeaseEnded", "lease_ended"),
            ("Once", "once"),
        ] {
            assert_eq!(snake_case(camel), snake);
        }
    }

    #[test]
    fn a_leader_that_was_not_heard_from_within_the_bound_is_none() {
        let bound = Duration::from_millis(700);
        for (age_ms, want) in
            [(None, false), (Some(0), true), (Some(699), true), (Some(700), false)]
        {
            assert_eq!(is_within(age_ms, bound), want, "{age_ms:?}");
        }
    }

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        let metrics = Metrics::new();
        metrics.observe_request("checkoutLicense", StatusCode::OK, 3_000_000);
        metrics.observe_request("checkoutLicense", StatusCode::CONFLICT, 1_000_000);
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("http_requests", "Requests", metrics.requests.clone());
        registry.register("http_request_duration_seconds", "Time", metrics.durations.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"leasehold_http_requests_total{operation="checkoutLicense",status="200"} 1"#,
            r#"leasehold_http_requests_total{operation="checkoutLicense",status="409"} 1"#,
            r#"leasehold_http_request_duration_seconds_count{operation="checkoutLicense"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
