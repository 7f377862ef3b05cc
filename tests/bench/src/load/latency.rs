//! Latencies in bounded memory, and what the report says of them.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies of operations, three digits each, up to two minutes.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is said of them, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Half were faster.
    pub(crate) p50_ms: f64,
    /// 99 of 100 were.
    pub(crate) p99_ms: f64,
    /// 999 of 1,000 were.
    pub(crate) p999_ms: f64,
    /// The slowest.
    pub(crate) max_ms: f64,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MAX_US, DIGITS)?))
    }

    /// Adds one; what is longer than two minutes counts as two minutes.
    pub(crate) fn record(&mut self, took_ns: u64) {
        self.0.saturating_record((took_ns / 1_000).max(1));
    }

    /// What is said of them.
    pub(crate) fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Quantiles {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.0.max() as f64 / 1_000.0,
        }
    }
}

/// The median: of an even number, the mean of the two in the middle; `None` of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

const MAX_US: u64 = 120_000_000;
const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        for ms in 1..=1_000_u64 {
            latencies.record(ms * 1_000_000);
        }
        let got = latencies.quantiles();
        for (got, want) in
            [(got.p50_ms, 500.0), (got.p99_ms, 990.0), (got.p999_ms, 999.0), (got.max_ms, 1_000.0)]
        {
            assert!((got - want).abs() <= want / 1_000.0 + 0.001, "{got} is not {want}");
        }
        assert_eq!(latencies.0.len(), 1_000);
    }

    #[test]
    fn the_shortest_and_the_longest_are_kept() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(0);
        latencies.record(u64::MAX);
        assert_eq!(latencies.0.len(), 2);
        assert!(latencies.quantiles().max_ms >= 119_000.0);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
