//! Metrics of what a node watches: its disk, certificates and backups, and the alarms.
//!
//! Lengths of time are seconds from now, so that a rule compares one number: a certificate that has
//! ended shows a negative one. Alarms have the labels `kind` and `node`; every node shows those in
//! the log, so a rule takes the greatest over all.
//!
//! What it leaves to others: measuring (the node's watch), what consensus and the ledger count
//! ([`crate::metrics`]).

use std::collections::BTreeSet;
use std::fmt;

use lease::Ledger;
use lease::ids::NodeId;
use lease::operate::AlarmKind;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use raft::Status;

use crate::control::NodeFacts;
use crate::metrics::gauge;

/// What is watched, copied out.
#[derive(Debug)]
pub(crate) struct Watched {
    facts: NodeFacts,
    alarms: BTreeSet<(AlarmKind, NodeId)>,
    has_room: bool,
    grace: bool,
    wall_s: i64,
}

impl Watched {
    /// As things stand; `wall_ms` is the wall clock's Unix time.
    pub(crate) fn of(facts: NodeFacts, ledger: &Ledger, status: &Status, wall_ms: i64) -> Self {
        let logged = ledger.alarms().map(|row| (row.kind, row.node));
        let found = facts
            .alarms
            .iter()
            .filter_map(|alarm| AlarmKind::from_name(&alarm.kind).map(|kind| (kind, alarm.node)));
        let alarms = logged.chain(found).collect();
        let grace = ledger.grace().is_some();
        Self { facts, alarms, has_room: status.has_room, grace, wall_s: wall_ms / 1_000 }
    }

    pub(crate) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let facts = &self.facts;
        if facts.disk_total_bytes > 0 {
            let name = "disk_total_bytes";
            gauge(encoder, name, "Size of the data's file system", facts.disk_total_bytes)?;
            let name = "disk_free_bytes";
            gauge(encoder, name, "What this node may still write there", facts.disk_free_bytes)?;
            let name = "disk_reserve_bytes";
            let help = "Free bytes below which nothing new is written";
            gauge(encoder, name, help, facts.disk_reserve_bytes)?;
            gauge(encoder, "data_bytes", "Bytes in the data directory", facts.data_bytes)?;
        }
        let help = "1 while the disk has room for what is written";
        gauge(encoder, "disk_has_room", help, self.has_room.into())?;
        let help = "1 while only holders of the former epoch are let in";
        gauge(encoder, "grace", help, self.grace.into())?;
        let help = "Seconds since the process started";
        gauge(encoder, "uptime_seconds", help, facts.uptime_ms / 1_000)?;
        if facts.last_backup_at_s > 0 {
            let age_s = u64::try_from(self.wall_s - facts.last_backup_at_s).unwrap_or(0);
            let help = "Seconds since the newest scheduled backup was finished";
            gauge(encoder, "backup_age_seconds", help, age_s)?;
        }
        self.encode_certificates(encoder)?;
        let mut family = encoder.encode_descriptor(
            "alarm",
            "1 for each alarm that stands, by kind and the node it is about",
            None,
            MetricType::Gauge,
        )?;
        for (kind, node) in &self.alarms {
            let labels = [("kind", kind.name().to_owned()), ("node", node.to_string())];
            ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "certificate_expires_in_seconds",
            "Seconds for which a certificate in use is still valid",
            None,
            MetricType::Gauge,
        )?;
        for certificate in &self.facts.certificates {
            let labels = [("purpose", certificate.purpose.as_str())];
            let left_s = certificate.not_after_s.saturating_sub(self.wall_s);
            ConstGauge::new(left_s).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::control::CertificateFacts;

    impl Collector for Watched {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            Watched::encode(self, &mut encoder)
        }
    }

    #[test]
    fn what_is_watched_is_shown_in_seconds_and_bytes() {
        let certificate = |purpose: &str, not_after_s| CertificateFacts {
            purpose: purpose.to_owned(),
            not_after_s,
            ..CertificateFacts::default()
        };
        let watched = Watched {
            facts: NodeFacts {
                disk_total_bytes: 1_000,
                disk_free_bytes: 300,
                disk_reserve_bytes: 200,
                last_backup_at_s: 900,
                certificates: vec![certificate("peer", 1_600), certificate("gateway", 400)],
                ..NodeFacts::default()
            },
            alarms: BTreeSet::from([(AlarmKind::NoSpace, 2), (AlarmKind::Cert, 1)]),
            has_room: true,
            grace: false,
            wall_s: 1_000,
        };
        let mut registry = Registry::with_prefix("leasehold");
        registry.register_collector(Box::new(watched));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "leasehold_disk_free_bytes 300",
            "leasehold_disk_reserve_bytes 200",
            "leasehold_disk_has_room 1",
            "leasehold_backup_age_seconds 100",
            "leasehold_certificate_expires_in_seconds{purpose=\"peer\"} 600",
            "leasehold_certificate_expires_in_seconds{purpose=\"gateway\"} -600",
            "leasehold_alarm{kind=\"NOSPACE\",node=\"2\"} 1",
            "leasehold_alarm{kind=\"CERT\",node=\"1\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
