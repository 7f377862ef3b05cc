//! The metric names that dashboards of the first server ask for. They stand in `/metrics` beside
//! ours while the face is switched on.
//!
//! Tools are product names of packages; at most 200 of them are listed. No text that a caller sent
//! becomes a label.

use http::StatusCode;
use lease::Ledger;
use lease::command::SeatClass;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::tools::{self, Tool};

/// What is counted as it happens.
pub(crate) struct ClassicMetrics {
    attempts: Counter,
    success: Counter,
    failure: Family<StatusLabel, Counter>,
    overage: Counter,
    duration: Histogram,
    requests: Family<RequestLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolLabel {
    tool: String,
}

impl ClassicMetrics {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self {
            attempts: Counter::default(),
            success: Counter::default(),
            failure: Family::default(),
            overage: Counter::default(),
            // 0.5 ms to 8 s.
            duration: Histogram::new(exponential_buckets(0.000_5, 2.0, 15)),
            requests: Family::default(),
        }
    }

    /// Counts one borrow: the class of the seat, or the status of the refusal.
    pub(crate) fn observe_borrow(&self, result: Result<SeatClass, StatusCode>, duration_ns: u64) {
        self.attempts.inc();
        self.duration.observe(duration_ns as f64 / 1e9);
        match result {
            Ok(class) => {
                self.success.inc();
                if class == SeatClass::Overage {
                    self.overage.inc();
                }
            }
            Err(status) => {
                self.failure.get_or_create(&StatusLabel { status: status.as_u16() }).inc();
            }
        }
    }

    /// Counts one request of the face.
    pub(crate) fn observe_request(&self, operation: &'static str, status: StatusCode) {
        self.requests.get_or_create(&RequestLabels { operation, status: status.as_u16() }).inc();
    }

    /// What was counted, and the seats as they are now.
    pub(crate) fn registry(&self, ledger: &Ledger) -> Registry {
        let mut registry = Registry::default();
        registry.register("license_borrow_attempts", "Borrows asked for", self.attempts.clone());
        registry.register("license_borrow_success", "Borrows granted", self.success.clone());
        registry.register("license_borrow_failure", "Borrows refused", self.failure.clone());
        let help = "Borrows beyond the seats paid for in advance";
        registry.register("license_overage_checkouts", help, self.overage.clone());
        let help = "Time from a borrow to its answer";
        registry.register("license_borrow_duration_seconds", help, self.duration.clone());
        registry.register("license_http_requests", "Requests", self.requests.clone());
        let mut tools = tools::all(ledger);
        tools.truncate(MAX_TOOLS_LISTED);
        for (name, help, value) in GAUGES {
            let gauge: Family<ToolLabel, Gauge> = Family::default();
            for tool in &tools {
                let label = ToolLabel { tool: tool.name.clone() };
                gauge.get_or_create(&label).set(value(tool).into());
            }
            registry.register(*name, *help, gauge);
        }
        registry
    }
}

type GaugeRow = (&'static str, &'static str, fn(&Tool) -> u32);

const GAUGES: &[GaugeRow] = &[
    ("licenses_total", "Seats", |tool| tool.seats.total),
    ("licenses_borrowed", "Seats that are out", |tool| tool.seats.borrowed),
    ("licenses_commit", "Seats paid for in advance", |tool| tool.seats.commit),
    ("licenses_max_overage", "Seats that may be out beyond those", |tool| tool.seats.max_overage),
    ("licenses_overage", "Seats that are out beyond those", |tool| tool.seats.overage),
    ("licenses_at_max_overage", "1 while no more may be", |tool| {
        (tool.seats.max_overage > 0 && tool.seats.overage >= tool.seats.max_overage).into()
    }),
];

/// A series per tool and name is cheap; a million of them is not.
const MAX_TOOLS_LISTED: usize = 200;
