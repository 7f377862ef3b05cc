//! The table of targets: which figures make a row, and what it reaches. A pure function.
//!
//! A row takes all its figures from one run; where a file holds several runs, from the newest that
//! has them all. A peer that is measured in several ways counts with its better one, figure by
//! figure: with the highest rate of one way and the shortest time of another, if need be. What
//! cannot be said is null, with the reason.

use std::collections::BTreeMap;

use super::{Better, Bounds, Cell, Figures, Ratio, Reached, Results, Run, TopicFigures};
use crate::plan::{OPEN_CLIENTS, PLACED_READS_CLIENTS, Placement, System, Topic, Workload};

/// All rows, in the order of the table.
pub(crate) fn of(results: &Results) -> Vec<Ratio> {
    rows().into_iter().map(|row| row.filled_from(results)).collect()
}

struct Row {
    id: String,
    what: String,
    unit: &'static str,
    bounds: Bounds,
    better: Better,
    must: f64,
    stretch: f64,
    rule: Rule,
}

enum Rule {
    /// How many times better a figure of ours is than the peer's.
    Times { peer: System, workload: Workload, clients: usize, figure: Figure },
    /// 99 of 100 checkouts of the open loop.
    OpenLoop,
    /// Rate on one pool, divided by that on many.
    HotAgainstSpread,
    /// CPU for reads at a follower, divided by that at the leader.
    FollowerAgainstLeader,
    /// One figure of a topic, and others beside it.
    Figure { topic: Topic, name: &'static str, beside: &'static [&'static str] },
    /// One figure of a topic divided by another, and others beside it.
    Quotient {
        topic: Topic,
        ours: &'static str,
        against: &'static str,
        beside: &'static [&'static str],
    },
}

#[derive(Clone, Copy)]
enum Figure {
    Rate,
    P50,
    P99,
    ServerCpu,
}

#[derive(Default)]
struct Filled {
    ours: f64,
    peer: Option<f64>,
    ratio: Option<f64>,
    beside: BTreeMap<String, f64>,
}

impl Row {
    fn filled_from(self, results: &Results) -> Ratio {
        let runs = std::iter::once(&results.run).chain(&results.earlier_runs);
        let mut filled = Err("nothing was measured".to_owned());
        for (at, run) in runs.enumerate() {
            let found = self.filled(&View { results, run });
            if at == 0 || found.is_ok() {
                filled = found;
            }
            if filled.is_ok() {
                break;
            }
        }
        let (filled, reason) = match filled {
            Ok(filled) => (Some(filled), None),
            Err(reason) => (None, Some(reason)),
        };
        let bounded = filled.as_ref().and_then(|filled| match self.bounds {
            Bounds::Ratio => filled.ratio,
            Bounds::Ours => Some(filled.ours),
        });
        let reached = reached(bounded, self.better, self.must, self.stretch);
        let ours = filled.as_ref().map(|filled| filled.ours);
        let (peer, ratio) = filled.as_ref().map_or((None, None), |it| (it.peer, it.ratio));
        Ratio {
            id: self.id,
            what: self.what,
            unit: self.unit.to_owned(),
            better: self.better,
            bounds: self.bounds,
            ours,
            peer,
            ratio,
            must: self.must,
            stretch: self.stretch,
            reached,
            reason,
            beside: filled.map(|filled| filled.beside).unwrap_or_default(),
        }
    }

    fn filled(&self, view: &View) -> Result<Filled, String> {
        match &self.rule {
            Rule::Times { peer, workload, clients, figure } => {
                let ours = view.best(System::Leasehold, *workload, *clients, *figure)?;
                let peer = view.best(*peer, *workload, *clients, *figure)?;
                let ratio = if figure.is_rate() { ours / peer } else { peer / ours };
                Ok(Filled { ours, peer: Some(peer), ratio: Some(ratio), ..Filled::default() })
            }
            Rule::OpenLoop => {
                let (workload, clients) = (Workload::Open2000, OPEN_CLIENTS);
                let ours = view.best(System::Leasehold, workload, clients, Figure::P99)?;
                let rate = view.best(System::Leasehold, workload, clients, Figure::Rate)?;
                let mut beside = BTreeMap::from([("per_second".to_owned(), rate)]);
                for (name, figure) in
                    [("etcd_p99_ms", Figure::P99), ("etcd_per_second", Figure::Rate)]
                {
                    if let Ok(figure) = view.best(System::Etcd, workload, clients, figure) {
                        beside.insert(name.to_owned(), figure);
                    }
                }
                Ok(Filled { beside, ..self.alone(ours) })
            }
            Rule::HotAgainstSpread => {
                let rate = |workload| view.best(System::Leasehold, workload, 64, Figure::Rate);
                let (hot, spread) = (rate(Workload::CycleHot)?, rate(Workload::CycleSpread)?);
                Ok(quotient(hot, spread))
            }
            Rule::FollowerAgainstLeader => {
                let cpu = |placement| view.placed_read_cpu(placement);
                Ok(quotient(cpu(Placement::Follower)?, cpu(Placement::Leader)?))
            }
            Rule::Figure { topic, name, beside } => {
                let found = view.topic(*topic)?;
                let ours = figure_of(found, name)?;
                Ok(Filled { beside: found.beside(beside), ..self.alone(ours) })
            }
            Rule::Quotient { topic, ours, against, beside } => {
                let found = view.topic(*topic)?;
                let filled = quotient(figure_of(found, ours)?, figure_of(found, against)?);
                Ok(Filled { beside: found.beside(beside), ..filled })
            }
        }
    }

    /// Ours against what must be reached.
    fn alone(&self, ours: f64) -> Filled {
        let ratio = (self.must > 0.0).then(|| ours / self.must);
        Filled { ours, ratio, ..Filled::default() }
    }
}

fn quotient(ours: f64, against: f64) -> Filled {
    Filled { ours, peer: Some(against), ratio: Some(ours / against), ..Filled::default() }
}

fn reached(bounded: Option<f64>, better: Better, must: f64, stretch: f64) -> Reached {
    let reaches = |number: f64, bound: f64| match better {
        Better::Higher => number >= bound,
        Better::Lower => number <= bound,
    };
    match bounded {
        Some(number) if reaches(number, stretch) => Reached::Stretch,
        Some(number) if reaches(number, must) => Reached::Must,
        Some(_) => Reached::Neither,
        None => Reached::Unknown,
    }
}

impl Figure {
    fn is_rate(self) -> bool {
        matches!(self, Self::Rate)
    }

    fn of(self, figures: &Figures) -> f64 {
        match self {
            Self::Rate => figures.per_second,
            Self::P50 => figures.times.p50_ms,
            Self::P99 => figures.times.p99_ms,
            Self::ServerCpu => figures.server_cpu_s_per_1000,
        }
    }
}

/// One run's figures in a file.
struct View<'a> {
    results: &'a Results,
    run: &'a Run,
}

impl<'a> View<'a> {
    /// The best of a figure over the ways in which a system was asked. For ours there is one way
    /// unless a cell is about where clients are.
    fn best(
        &self,
        system: System,
        workload: Workload,
        clients: usize,
        figure: Figure,
    ) -> Result<f64, String> {
        let is_one = |cell: &&Cell| {
            let key = cell.key;
            let is_usual = key.system != System::Leasehold || key.workload != Workload::Read;
            cell.run == self.run.run
                && (key.system, key.workload, key.clients) == (system, workload, clients)
                && (is_usual || key.placement == Placement::Spread)
        };
        let figures = self.results.cells.iter().filter(is_one).map(|cell| figure.of(&cell.median));
        let best =
            if figure.is_rate() { figures.reduce(f64::max) } else { figures.reduce(f64::min) };
        best.filter(|figure| *figure > 0.0).ok_or_else(|| {
            match self.run.missing.get(system.name()) {
                Some(why) => format!("{system}: {why}"),
                None => format!("not measured: {system}, {workload}, {clients} clients"),
            }
        })
    }

    fn placed_read_cpu(&self, placement: Placement) -> Result<f64, String> {
        let is_one = |cell: &&Cell| {
            let key = cell.key;
            cell.run == self.run.run
                && (key.system, key.workload) == (System::Leasehold, Workload::Read)
                && (key.clients, key.placement) == (PLACED_READS_CLIENTS, placement)
        };
        let found = self.results.cells.iter().find(is_one);
        let cpu = found.map(|cell| cell.median.server_cpu_s_per_1000).filter(|cpu| *cpu > 0.0);
        cpu.ok_or_else(|| {
            format!("not measured: read, {PLACED_READS_CLIENTS} clients at the {placement}")
        })
    }

    fn topic(&self, topic: Topic) -> Result<&'a TopicFigures, String> {
        let needs_million =
            matches!(topic, Topic::Growth | Topic::Memory | Topic::Restart | Topic::Snapshot);
        let is_one = |found: &&TopicFigures| found.topic == topic && found.run == self.run.run;
        let found = self.results.topics.iter().find(is_one);
        let found = found.ok_or_else(|| format!("not measured: {topic}"))?;
        match self.run.live_leases {
            leases if needs_million && leases != MILLION => {
                Err(format!("measured with {leases} live leases, not with {MILLION}"))
            }
            _ => Ok(found),
        }
    }
}

impl TopicFigures {
    fn beside(&self, names: &[&str]) -> BTreeMap<String, f64> {
        let figure = |name: &&str| Some(((*name).to_owned(), *self.figures.get(*name)?));
        names.iter().filter_map(figure).collect()
    }
}

fn figure_of(found: &TopicFigures, name: &str) -> Result<f64, String> {
    let figure = found.figures.get(name).copied();
    figure.ok_or_else(|| format!("{} has no {name}", found.topic))
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(rates(System::Etcd, "checkout", 8.0, [12.0, 14.0, 14.0]));
    rows.extend(rates(System::EtcdAuth, "checkout_auth", 10.0, [16.0; 3]));
    for (clients, figure, name) in
        [(64, Figure::P50, "p50"), (64, Figure::P99, "p99"), (256, Figure::P50, "p50")]
            .into_iter()
            .chain([(256, Figure::P99, "p99")])
    {
        let what = format!("checkout {name} against etcd as it comes, {clients} clients");
        rows.push(times(format!("{name}_{clients}"), what, "ms", [6.0, 12.0], clients, figure));
    }
    let what = "checkout p50 against etcd as it comes, 1 client".to_owned();
    rows.push(times("p50_1".to_owned(), what, "ms", [2.5, 4.0], 1, Figure::P50));
    for clients in [64, 256] {
        let what = format!("server CPU for checkouts against etcd as it comes, {clients} clients");
        let id = format!("cpu_{clients}");
        rows.push(times(id, what, "CPU-s per 1,000", [8.0, 15.0], clients, Figure::ServerCpu));
    }
    rows.push(
        bounded("open_2000_p99_ms", "open loop at 2,000 checkouts/s, p99", "ms", Rule::OpenLoop)
            .at_most(10.0, 4.0),
    );
    rows.push(Row {
        rule: Rule::Times {
            peer: System::Postgres,
            workload: Workload::Checkout,
            clients: 64,
            figure: Figure::Rate,
        },
        ..times(
            "postgres_64".to_owned(),
            "checkouts against PostgreSQL, one node, 64 clients".to_owned(),
            "1/s",
            [4.0, 7.0],
            64,
            Figure::Rate,
        )
    });
    rows.push(
        bounded(
            "hot_against_spread",
            "one pool against 1,000 pools",
            "1/s",
            Rule::HotAgainstSpread,
        )
        .ratio_at_least(0.9, 1.0),
    );
    rows.extend(heartbeats());
    rows.push(
        bounded(
            "read_follower_leader",
            "server CPU for linearizable reads, follower against leader",
            "CPU-s per 1,000",
            Rule::FollowerAgainstLeader,
        )
        .ratio_at_most(1.5, 1.2),
    );
    rows.extend(of_topics());
    rows
}

fn rates(peer: System, prefix: &str, must: f64, stretch: [f64; 3]) -> Vec<Row> {
    let how = if peer == System::Etcd { "as it comes" } else { "with TLS and authentication" };
    let row = |(clients, stretch): (usize, f64)| {
        let what = format!("checkouts against etcd {how}, {clients} clients");
        let id = format!("{prefix}_{clients}");
        let rule =
            Rule::Times { peer, workload: Workload::Checkout, clients, figure: Figure::Rate };
        Row { rule, ..times(id, what, "1/s", [must, stretch], clients, Figure::Rate) }
    };
    [64, 256, 1_000].into_iter().zip(stretch).map(row).collect()
}

/// Checkouts against etcd as it comes.
fn times(
    id: String,
    what: String,
    unit: &'static str,
    [must, stretch]: [f64; 2],
    clients: usize,
    figure: Figure,
) -> Row {
    let rule = Rule::Times { peer: System::Etcd, workload: Workload::Checkout, clients, figure };
    Row { id, what, unit, bounds: Bounds::Ratio, better: Better::Higher, must, stretch, rule }
}

fn heartbeats() -> [Row; 2] {
    let row = |id: &str, what: &str, bounds, workload| Row {
        rule: Rule::Times { peer: System::Etcd, workload, clients: 64, figure: Figure::Rate },
        ..times(id.to_owned(), what.to_owned(), "1/s", bounds, 64, Figure::Rate)
    };
    [
        row(
            "heartbeat_http",
            "heartbeats one per request against etcd's over HTTP, 64 clients",
            [2.0, 4.0],
            Workload::Heartbeat,
        ),
        row(
            "heartbeat_bulk",
            "heartbeats 100 per request against etcd's gRPC stream, 64 clients",
            [8.0, 20.0],
            Workload::HeartbeatBulk,
        ),
    ]
}

fn of_topics() -> Vec<Row> {
    let figure = |topic, name, beside| Rule::Figure { topic, name, beside };
    let quotient = |topic, ours, against, beside| Rule::Quotient { topic, ours, against, beside };
    vec![
        bounded(
            "memory_1m_mb",
            "resident memory per node with 1,000,000 live leases",
            "MB",
            figure(Topic::Memory, "resident_mb", MEMORY_BESIDE),
        )
        .at_most(500.0, 350.0),
        bounded(
            "restart_1m_s",
            "all nodes killed with 1,000,000 live leases, to the first checkout",
            "s",
            figure(Topic::Restart, "median_s", &["worst_s"]),
        )
        .at_most(4.0, 2.0),
        bounded(
            "failover_median_s",
            "failover under load, median",
            "s",
            figure(Topic::Failover, "median_s", &["kills", "etcd_median_s"]),
        )
        .at_most(0.7, 0.55),
        bounded(
            "failover_worst_s",
            "failover under load, worst",
            "s",
            figure(Topic::Failover, "worst_s", &["kills", "etcd_worst_s"]),
        )
        .at_most(1.2, 0.8),
        bounded(
            "elections",
            "elections during five minutes of full load",
            "",
            figure(Topic::Elections, "elections", &["seconds", "per_second"]),
        )
        .at_most(0.0, 0.0),
        bounded(
            "snapshot_1m_s",
            "snapshot of 1,000,000 live leases to an empty node",
            "s",
            figure(Topic::Snapshot, "snapshot_s", &["snapshots_installed"]),
        )
        .at_most(60.0, 30.0),
        bounded(
            "snapshot_1m_p99",
            "checkout p99 during that against before",
            "ms",
            quotient(Topic::Snapshot, "p99_during_ms", "p99_before_ms", &["per_second"]),
        )
        .ratio_at_most(3.0, 2.0),
        bounded(
            "growth",
            "cost of a checkout with 1,000,000 live leases against 1,000",
            "CPU-s per 1,000",
            quotient(Topic::Growth, "cpu_s_per_1000_full", "cpu_s_per_1000_few", GROWTH_BESIDE),
        )
        .ratio_at_most(1.3, 1.1),
        bounded(
            "regions_p50_ms",
            "checkout p50 beyond the round trips of three regions, worst region",
            "ms",
            figure(Topic::Regions, "worst_beyond_ms", REGIONS_BESIDE),
        )
        .at_most(10.0, 3.0),
    ]
}

fn bounded(id: &str, what: &str, unit: &'static str, rule: Rule) -> Row {
    Row {
        id: id.to_owned(),
        what: what.to_owned(),
        unit,
        bounds: Bounds::Ours,
        better: Better::Lower,
        must: 0.0,
        stretch: 0.0,
        rule,
    }
}

impl Row {
    fn at_most(self, must: f64, stretch: f64) -> Self {
        Self { must, stretch, ..self }
    }

    fn ratio_at_most(self, must: f64, stretch: f64) -> Self {
        Self { bounds: Bounds::Ratio, must, stretch, ..self }
    }

    fn ratio_at_least(self, must: f64, stretch: f64) -> Self {
        Self { better: Better::Higher, ..self.ratio_at_most(must, stretch) }
    }
}

const MILLION: usize = 1_000_000;
const MEMORY_BESIDE: &[&str] =
    &["resident_before_mb", "peak_mb", "names_kept", "request_rows", "request_table_mb"];
const REGIONS_BESIDE: &[&str] =
    &["a_p50_ms", "b_p50_ms", "c_p50_ms", "a_calm_p50_ms", "b_calm_p50_ms", "c_calm_p50_ms"];
const GROWTH_BESIDE: &[&str] = &["p50_ms_few", "p50_ms_full", "p99_ms_few", "p99_ms_full"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Variant;
    use crate::results::tests::{made_up, results_of};

    fn row(results: &Results, id: &str) -> Ratio {
        of(results).into_iter().find(|row| row.id == id).unwrap()
    }

    #[test]
    fn every_row_of_the_issue_is_there_once() {
        let ids: Vec<String> = of(&results_of(&[])).into_iter().map(|row| row.id).collect();
        let want = "checkout_64 checkout_256 checkout_1000 checkout_auth_64 checkout_auth_256 \
                    checkout_auth_1000 p50_64 p99_64 p50_256 p99_256 p50_1 cpu_64 cpu_256 \
                    open_2000_p99_ms postgres_64 hot_against_spread heartbeat_http heartbeat_bulk \
                    read_follower_leader memory_1m_mb restart_1m_s failover_median_s \
                    failover_worst_s elections snapshot_1m_s snapshot_1m_p99 growth regions_p50_ms";
        assert_eq!(ids, want.split_whitespace().collect::<Vec<_>>());
    }

    #[test]
    fn rates_and_times_are_both_how_often_better() {
        let results = results_of(&[
            made_up(System::Leasehold, Workload::Checkout, 64, 20_000.0),
            made_up(System::Etcd, Workload::Checkout, 64, 2_000.0),
        ]);
        for (id, reached) in
            [("checkout_64", Reached::Must), ("p50_64", Reached::Must), ("cpu_64", Reached::Must)]
        {
            let row = row(&results, id);
            assert!((row.ratio.unwrap() - 10.0).abs() < 1e-9, "{row:?}");
            assert_eq!((row.reached, row.reason), (reached, None), "{id}");
        }
    }

    #[test]
    fn a_peer_counts_with_the_better_of_its_ways() {
        let (key, http) = made_up(System::Etcd, Workload::Checkout, 64, 1_000.0);
        let grpc = Figures { per_second: 2_000.0, ..http.clone() };
        let results = results_of(&[
            made_up(System::Leasehold, Workload::Checkout, 64, 16_000.0),
            (key, http),
            (super::super::CellKey { variant: Variant::Grpc, ..key }, grpc),
        ]);
        assert_eq!(row(&results, "checkout_64").peer, Some(2_000.0));
        // Its rate came by one way, its times are the same by both.
        assert_eq!(row(&results, "p50_64").peer, Some(64.0));
    }

    #[test]
    fn a_missing_peer_is_said_with_its_reason() {
        let ours = made_up(System::Leasehold, Workload::Checkout, 64, 16_000.0);
        let mut results = results_of(&[ours]);
        results.run.missing.insert("postgres".to_owned(), "not installed".to_owned());
        let postgres = row(&results, "postgres_64");
        assert_eq!((postgres.ours, postgres.ratio), (None, None));
        assert_eq!(postgres.reached, Reached::Unknown);
        assert_eq!(postgres.reason.as_deref(), Some("postgres: not installed"));
        let etcd = row(&results, "checkout_64");
        assert_eq!(etcd.reason.as_deref(), Some("not measured: etcd, checkout, 64 clients"));
    }

    #[test]
    fn what_has_no_peer_is_held_against_its_bound() {
        let table = [(3.0, Reached::Stretch), (9.0, Reached::Must), (10.1, Reached::Neither)];
        for (p99_ms, reached) in table {
            let (key, mut figures) =
                made_up(System::Leasehold, Workload::Open2000, OPEN_CLIENTS, 2_000.0);
            figures.times.p99_ms = p99_ms;
            let row = row(&results_of(&[(key, figures)]), "open_2000_p99_ms");
            assert_eq!((row.peer, row.reached), (None, reached), "{row:?}");
            assert!((row.ratio.unwrap() - p99_ms / 10.0).abs() < 1e-9);
        }
    }

    #[test]
    fn reads_are_compared_by_where_they_were_asked() {
        let (key, leader) = made_up(System::Leasehold, Workload::Read, 64, 1_000.0);
        let at = |placement| super::super::CellKey { placement, ..key };
        let follower = Figures { server_cpu_s_per_1000: 1.3, ..leader.clone() };
        let results =
            results_of(&[(at(Placement::Leader), leader), (at(Placement::Follower), follower)]);
        let row = row(&results, "read_follower_leader");
        assert!((row.ratio.unwrap() - 1.3).abs() < 1e-9);
        assert_eq!(row.reached, Reached::Must);
    }

    #[test]
    fn a_million_is_a_million() {
        let mut results = results_of(&[]);
        results.topics.push(TopicFigures {
            topic: Topic::Memory,
            run: "r1".to_owned(),
            commit: "c1".to_owned(),
            measured_at: String::new(),
            figures: BTreeMap::from([("resident_mb".to_owned(), 400.0)]),
            series: BTreeMap::new(),
            notes: Vec::new(),
        });
        assert_eq!(row(&results, "memory_1m_mb").reached, Reached::Must);
        results.run.live_leases = 20_000;
        let row = row(&results, "memory_1m_mb");
        assert_eq!(row.reason.unwrap(), "measured with 20000 live leases, not with 1000000");
    }

    #[test]
    fn no_election_is_none() {
        assert_eq!(reached(Some(0.0), Better::Lower, 0.0, 0.0), Reached::Stretch);
        assert_eq!(reached(Some(1.0), Better::Lower, 0.0, 0.0), Reached::Neither);
    }
}
