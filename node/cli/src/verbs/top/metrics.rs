//! A node's metrics as text, read for what `top` shows.
//!
//! The text is that of our own gateway (OpenMetrics 1.0): one sample a line, labels without commas
//! or quotes inside them where `top` looks. A line that does not read is passed over.

use std::collections::BTreeMap;

/// The samples of one asking.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Samples {
    values: BTreeMap<String, f64>,
}

/// Requests of one operation, with how many took at most so long.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Calls {
    /// Upper bound in seconds and requests up to it, ascending.
    buckets: Vec<(f64, f64)>,
    /// Of any status.
    pub(super) count: f64,
    sum_s: f64,
}

impl Samples {
    /// Reads a text.
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (key, rest) = match line.rfind('}') {
                Some(end) => line.split_at(end + 1),
                None => line.split_at(line.find(' ')?),
            };
            let value = rest.split_whitespace().next()?.parse().ok()?;
            Some((key.to_owned(), value))
        };
        Self { values: lines.filter_map(sample).collect() }
    }

    /// Samples of a name by the value of one label, summed over the other labels.
    pub(super) fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        let prefix = format!("{name}{{");
        for (key, value) in self.values.range(prefix.clone()..) {
            let Some(labels) = key.strip_prefix(&prefix) else { break };
            if let Some(text) = label_of(labels, label) {
                *found.entry(text).or_default() += value;
            }
        }
        found
    }

    /// Requests by operation.
    pub(super) fn calls(&self) -> BTreeMap<String, Calls> {
        let mut calls: BTreeMap<String, Calls> = BTreeMap::new();
        for (suffix, take) in PARTS {
            let prefix = format!("{DURATIONS}_{suffix}{{");
            for (key, value) in self.values.range(prefix.clone()..) {
                let Some(labels) = key.strip_prefix(&prefix) else { break };
                if let Some(operation) = label_of(labels, "operation") {
                    take(calls.entry(operation).or_default(), labels, *value);
                }
            }
        }
        for calls in calls.values_mut() {
            calls.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        calls
    }
}

impl Calls {
    /// Those of this asking that were not in an earlier one.
    pub(super) fn since(&self, before: &Self) -> Self {
        // A node that was started again counts from zero.
        if before.count > self.count {
            return self.clone();
        }
        let earlier: BTreeMap<u64, f64> =
            before.buckets.iter().map(|(bound, count)| (bound.to_bits(), *count)).collect();
        let less = |(bound, count): &(f64, f64)| {
            (*bound, count - earlier.get(&bound.to_bits()).copied().unwrap_or_default())
        };
        Self {
            buckets: self.buckets.iter().map(less).collect(),
            count: self.count - before.count,
            sum_s: self.sum_s - before.sum_s,
        }
    }

    /// These and others.
    pub(super) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_s += other.sum_s;
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
            return;
        }
        for (bucket, (_, count)) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.1 += count;
        }
    }

    /// Mean time in milliseconds.
    pub(super) fn mean_ms(&self) -> f64 {
        if self.count > 0.0 { self.sum_s / self.count * 1_000.0 } else { 0.0 }
    }

    /// Time in milliseconds that 99 of 100 stay below, as exact as the buckets; `None`: longer than
    /// the last of them.
    pub(super) fn p99_ms(&self) -> Option<f64> {
        let found = self.buckets.iter().find(|(_, count)| *count >= 0.99 * self.count);
        found.map(|(bound, _)| bound * 1_000.0).filter(|bound| bound.is_finite())
    }
}

type Take = fn(&mut Calls, &str, f64);

/// Parts of a histogram by their suffix.
const PARTS: [(&str, Take); 3] = [
    ("bucket", |calls, labels, value| {
        let bound = label_of(labels, "le").and_then(|text| match text.as_str() {
            "+Inf" => Some(f64::INFINITY),
            text => text.parse().ok(),
        });
        calls.buckets.extend(bound.map(|bound| (bound, value)));
    }),
    ("count", |calls, _, value| calls.count = value),
    ("sum", |calls, _, value| calls.sum_s = value),
];

fn label_of(labels: &str, wanted: &str) -> Option<String> {
    let labels = labels.strip_suffix('}')?;
    let mut pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    let (_, value) = pairs.find(|(name, _)| *name == wanted)?;
    Some(value.trim_end_matches('"').to_owned())
}

const DURATIONS: &str = "leasehold_http_request_duration_seconds";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP leasehold_server_term Term of this node.
leasehold_server_term 7
leasehold_refusals_total{reason=\"pool_exhausted\"} 3
leasehold_refusals_total{reason=\"lease_ended\"} 1
leasehold_http_request_duration_seconds_sum{operation=\"checkoutLicense\"} 0.5
leasehold_http_request_duration_seconds_count{operation=\"checkoutLicense\"} 100
leasehold_http_request_duration_seconds_bucket{le=\"0.001\",operation=\"checkoutLicense\"} 50
leasehold_http_request_duration_seconds_bucket{le=\"0.01\",operation=\"checkoutLicense\"} 99
leasehold_http_request_duration_seconds_bucket{le=\"+Inf\",operation=\"checkoutLicense\"} 100
nonsense
# EOF
";

    #[test]
    fn samples_are_found_by_label() {
        let samples = Samples::read(TEXT);
        let refusals = samples.by_label("leasehold_refusals_total", "reason");
        assert_eq!(
            refusals.into_iter().collect::<Vec<_>>(),
            [("lease_ended".to_owned(), 1.0), ("pool_exhausted".to_owned(), 3.0)]
        );
    }

    #[test]
    fn a_window_is_what_came_between_two_askings() {
        let now = Samples::read(TEXT).calls().remove("checkoutLicense").unwrap();
        assert_eq!((now.count, now.mean_ms(), now.p99_ms()), (100.0, 5.0, Some(10.0)));
        let before = Samples::read(
            &TEXT.replace(" 100\n", " 40\n").replace(" 99\n", " 40\n").replace(" 0.5\n", " 0.2\n"),
        );
        let before = before.calls().remove("checkoutLicense").unwrap();
        let window = now.since(&before);
        assert_eq!((window.count, window.mean_ms()), (60.0, 5.0));
        assert_eq!(window.p99_ms(), None, "59 of 60 are not 99 of 100");
        assert_eq!(before.since(&now), before, "a node that began again");
        let mut both = now.clone();
        both.add(&now);
        assert_eq!((both.count, both.p99_ms()), (200.0, Some(10.0)));
    }
}
