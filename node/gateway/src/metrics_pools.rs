//! Metrics of pools: shares, seats out and peaks, of packages that have named pools.
//!
//! A pool is named by the id that an operator gave it, beside its package's; the seats of a package
//! that are in none have an empty name. At most 200 pools are listed, in order of package; where
//! there are more, `/admin/usage` has all of them.

use std::fmt;

use lease::Ledger;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Pools, copied out.
#[derive(Debug)]
pub(crate) struct Pools {
    rows: Vec<Row>,
    /// Package and its peak.
    peaks: Vec<(String, u64)>,
}

#[derive(Debug)]
struct Row {
    package: String,
    pool: String,
    share: u64,
    in_use: u64,
    peak: u64,
}

impl Pools {
    /// As the ledger stands.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        let mut rows = Vec::new();
        for package in ledger.packages() {
            let pools = package.seats().pools;
            if pools.len() < 2 {
                continue;
            }
            if rows.len() + pools.len() > MAX_POOLS_LISTED {
                break;
            }
            let name = &package.terms.package;
            rows.extend(pools.into_iter().map(|pool| Row {
                package: name.to_string(),
                peak: ledger.pool_usage(name, pool.pool.as_ref()).peak.into(),
                pool: pool.pool.as_deref().unwrap_or_default().to_owned(),
                share: pool.share.into(),
                in_use: pool.in_use.into(),
            }));
        }
        let peaks = ledger.packages().take(MAX_POOLS_LISTED).map(|package| {
            (package.terms.package.to_string(), package.counters.peak_concurrent.into())
        });
        let peaks = peaks.collect();
        Self { rows, peaks }
    }

    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Most seats of a package that were out at once";
        let mut family =
            encoder.encode_descriptor("package_seats_peak", help, None, MetricType::Gauge)?;
        for (package, peak) in &self.peaks {
            ConstGauge::new(*peak)
                .encode(family.encode_family(&[("package", package.as_str())])?)?;
        }
        type Value = fn(&Row) -> u64;
        let families: [(&str, &str, Value); 3] = [
            ("pool_seats", "Share of a pool", |row| row.share),
            ("pool_seats_in_use", "Seats of a pool that are out", |row| row.in_use),
            ("pool_seats_peak", "Most seats of a pool that were out at once", |row| row.peak),
        ];
        for (name, help, value) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for row in &self.rows {
                let labels = [("package", row.package.as_str()), ("pool", row.pool.as_str())];
                ConstGauge::new(value(row)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

const MAX_POOLS_LISTED: usize = 200;
