//! `results.json`: the raw figures of a run, and what is compared.
//!
//! The file is the run: its commit, its binary, its machine and its figures. With `--merge` figures
//! of a partial run take the places of older ones; every cell then still says of which run it is,
//! the runs are listed, and nothing is compared across two of them.
//!
//! What it leaves to others: which cells make a row of the table ([`ratios`]), and how all
//! of it looks ([`crate::report`]).

pub(crate) mod ratios;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::load::latency::{Quantiles, median};
use crate::plan::{Placement, System, Topic, Variant, Workload};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Version of this shape.
    pub(crate) version: u32,
    /// The newest run in the file.
    #[serde(flatten)]
    pub(crate) run: Run,
    /// Older runs of which cells are still here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier_runs: Vec<Run>,
    /// That nothing was switched off.
    pub(crate) checks: Vec<Check>,
    /// One for each row of the table of targets.
    pub(crate) ratios: Vec<Ratio>,
    /// What was measured by itself.
    pub(crate) topics: Vec<TopicFigures>,
    /// One for each system, way, workload and number of clients.
    pub(crate) cells: Vec<Cell>,
}

/// When, of what and on what was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Its name in the cells.
    pub(crate) run: String,
    /// When it began, UTC.
    pub(crate) started_at: String,
    /// The commit of the sources, `-dirty` where they were changed.
    pub(crate) commit: String,
    /// SHA-256 of the binary.
    pub(crate) binary_sha256: String,
    /// The machine.
    pub(crate) machine: Machine,
    /// Versions, by system; those that are not installed are in `missing`.
    pub(crate) versions: BTreeMap<String, String>,
    /// Why a system was not measured.
    pub(crate) missing: BTreeMap<String, String>,
    /// Rounds.
    pub(crate) rounds: usize,
    /// Seconds counted in each cell.
    pub(crate) seconds: f64,
    /// Leases that `heartbeat` renews.
    pub(crate) held_leases: usize,
    /// Leases that count as a million.
    pub(crate) live_leases: usize,
    /// Whether it was a short one, for trying out.
    pub(crate) quick: bool,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Cores.
    pub(crate) cores: usize,
    /// What they are.
    pub(crate) processor: String,
    /// Memory.
    pub(crate) memory_mb: u64,
    /// Kernel.
    pub(crate) kernel: String,
    /// File system below all data directories.
    pub(crate) file_system: String,
}

/// One way of asking one system, under one workload, with so many clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct CellKey {
    /// Who.
    pub(crate) system: System,
    /// How.
    pub(crate) variant: Variant,
    /// Where clients are connected.
    pub(crate) placement: Placement,
    /// What.
    pub(crate) workload: Workload,
    /// How many clients.
    pub(crate) clients: usize,
}

/// Its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Which.
    #[serde(flatten)]
    pub(crate) key: CellKey,
    /// The run that it is of.
    pub(crate) run: String,
    /// That run's commit.
    pub(crate) commit: String,
    /// When its last round was measured, UTC.
    pub(crate) measured_at: String,
    /// The median of each figure over the rounds.
    pub(crate) median: Figures,
    /// Each round.
    pub(crate) rounds: Vec<Figures>,
}

/// The figures of one round, or their medians.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Seconds counted.
    pub(crate) seconds: f64,
    /// Operations a second.
    pub(crate) per_second: f64,
    /// Times.
    #[serde(flatten)]
    pub(crate) times: Quantiles,
    /// CPU-seconds of all servers for 1,000 operations.
    pub(crate) server_cpu_s_per_1000: f64,
    /// CPU-seconds of the load generator for 1,000 operations.
    pub(crate) generator_cpu_s_per_1000: f64,
    /// Bytes that the servers had written to storage, for one operation.
    pub(crate) written_bytes_per_operation: f64,
    /// Resident memory of each node.
    pub(crate) resident_mb: Vec<f64>,
    /// Syncs of each node's log; empty where it does not count them.
    pub(crate) fdatasyncs: Vec<f64>,
    /// Operations that failed.
    pub(crate) errors: f64,
    /// What the first of them said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_error: Option<String>,
    /// Writes that were acknowledged and must be audited, from the first to the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) acknowledged_writes: Option<f64>,
    /// Events of theirs in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) audit_events: Option<f64>,
    /// Other events in it meanwhile, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) other_events: BTreeMap<String, f64>,
}

/// What a topic found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TopicFigures {
    /// Which.
    pub(crate) topic: Topic,
    /// The run that it is of.
    pub(crate) run: String,
    /// That run's commit.
    pub(crate) commit: String,
    /// When it was measured, UTC.
    pub(crate) measured_at: String,
    /// Its figures by name, units last.
    pub(crate) figures: BTreeMap<String, f64>,
    /// Each measurement where there were several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) series: BTreeMap<String, Vec<f64>>,
    /// What else is to be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// That nothing was switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// Which.
    pub(crate) id: String,
    /// The run that it is of.
    pub(crate) run: String,
    /// Whether it holds.
    pub(crate) ok: bool,
    /// What was seen.
    pub(crate) seen: String,
}

/// A row of the table of targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// Its id.
    pub(crate) id: String,
    /// What is compared.
    pub(crate) what: String,
    /// Unit of `ours` and `peer`.
    pub(crate) unit: String,
    /// Whether the number that is bounded is to be `higher` or `lower`.
    pub(crate) better: Better,
    /// Which number `must` and `stretch` bound.
    pub(crate) bounds: Bounds,
    /// Ours.
    pub(crate) ours: Option<f64>,
    /// The peer's; none where a row has no peer.
    pub(crate) peer: Option<f64>,
    /// How many times better ours is than the peer's, or ours divided by what it is held against.
    pub(crate) ratio: Option<f64>,
    /// What must be reached.
    pub(crate) must: f64,
    /// What is hoped for.
    pub(crate) stretch: f64,
    /// What is reached.
    pub(crate) reached: Reached,
    /// Why nothing can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Figures to be seen beside it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) beside: BTreeMap<String, f64>,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// At least.
    Higher,
    /// At most.
    Lower,
}

/// Which number a row bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bounds {
    /// The ratio.
    Ratio,
    /// Our figure.
    Ours,
}

/// What a row reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reached {
    /// What was hoped for.
    Stretch,
    /// What must be.
    Must,
    /// Less.
    Neither,
    /// Nothing can be said.
    Unknown,
}

impl Results {
    /// Nothing measured yet.
    pub(crate) fn of(run: Run) -> Self {
        Self {
            version: VERSION,
            run,
            earlier_runs: Vec::new(),
            checks: Vec::new(),
            ratios: Vec::new(),
            topics: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let results: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{shown} is no results.json"))?;
        let version = results.version;
        ensure!(version == VERSION, "{shown} has version {version}, this program {VERSION}");
        Ok(results)
    }

    /// Writes a file, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let shown = path.display();
        let new = path.with_extension("json.new");
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&new, text).with_context(|| format!("cannot write {shown}"))?;
        fs::rename(&new, path).with_context(|| format!("cannot write {shown}"))
    }

    /// Takes in what an older file has and this run has not measured.
    pub(crate) fn take_older(&mut self, older: Self) {
        let is_new = |key: &CellKey, cells: &[Cell]| cells.iter().all(|cell| cell.key != *key);
        let cells = older.cells.into_iter().filter(|cell| is_new(&cell.key, &self.cells));
        let mut cells: Vec<Cell> = cells.collect();
        self.cells.append(&mut cells);
        self.cells.sort_by_key(|cell| cell.key);
        for topic in older.topics {
            if self.topics.iter().all(|known| known.topic != topic.topic) {
                self.topics.push(topic);
            }
        }
        self.topics.sort_by_key(|topic| topic.topic);
        for check in older.checks {
            if self.checks.iter().all(|known| known.id != check.id) {
                self.checks.push(check);
            }
        }
        let cells = self.cells.iter().map(|cell| &cell.run);
        let topics = self.topics.iter().map(|topic| &topic.run);
        let checks = self.checks.iter().map(|check| &check.run);
        let used: Vec<String> = cells.chain(topics).chain(checks).cloned().collect();
        let known = std::iter::once(older.run).chain(older.earlier_runs);
        self.earlier_runs =
            known.filter(|run| run.run != self.run.run && used.contains(&run.run)).collect();
        self.compare();
    }

    /// Computes the rows anew.
    pub(crate) fn compare(&mut self) {
        self.ratios = ratios::of(self);
    }

    /// Adds a round of a cell.
    pub(crate) fn add(&mut self, key: CellKey, now: &str, figures: Figures) {
        let found = self.cells.iter().position(|cell| cell.key == key);
        let at = found.unwrap_or_else(|| {
            self.cells.push(Cell {
                key,
                run: self.run.run.clone(),
                commit: self.run.commit.clone(),
                measured_at: String::new(),
                median: Figures::default(),
                rounds: Vec::new(),
            });
            self.cells.len() - 1
        });
        let cell = &mut self.cells[at];
        now.clone_into(&mut cell.measured_at);
        cell.rounds.push(figures);
        cell.median = Figures::median_of(&cell.rounds);
    }
}

impl Figures {
    /// The median of each figure.
    fn median_of(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure)).unwrap_or(0.0);
        let of_some = |figure: fn(&Self) -> Option<f64>| median(rounds.iter().filter_map(figure));
        let by_node = |figure: fn(&Self) -> &[f64]| {
            let nodes = rounds.iter().map(|round| figure(round).len()).max().unwrap_or(0);
            let node =
                |at| median(rounds.iter().filter_map(|round| figure(round).get(at).copied()));
            (0..nodes).filter_map(node).collect()
        };
        Self {
            seconds: of(|round| round.seconds),
            per_second: of(|round| round.per_second),
            times: Quantiles {
                p50_ms: of(|round| round.times.p50_ms),
                p99_ms: of(|round| round.times.p99_ms),
                p999_ms: of(|round| round.times.p999_ms),
                max_ms: of(|round| round.times.max_ms),
            },
            server_cpu_s_per_1000: of(|round| round.server_cpu_s_per_1000),
            generator_cpu_s_per_1000: of(|round| round.generator_cpu_s_per_1000),
            written_bytes_per_operation: of(|round| round.written_bytes_per_operation),
            resident_mb: by_node(|round| &round.resident_mb),
            fdatasyncs: by_node(|round| &round.fdatasyncs),
            errors: of(|round| round.errors),
            first_error: rounds.iter().find_map(|round| round.first_error.clone()),
            acknowledged_writes: of_some(|round| round.acknowledged_writes),
            audit_events: of_some(|round| round.audit_events),
            other_events: BTreeMap::new(),
        }
    }
}

const VERSION: u32 = 1;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A cell with a rate, times and a cost that are easy to reckon with.
    pub(crate) fn made_up(
        system: System,
        workload: Workload,
        clients: usize,
        per_second: f64,
    ) -> (CellKey, Figures) {
        let (variant, placement) = match system {
            System::Leasehold => (Variant::Https, Placement::Spread),
            System::Postgres => (Variant::Sql, Placement::Spread),
            System::Etcd | System::EtcdAuth => (Variant::Http, Placement::Spread),
        };
        let key = CellKey { system, variant, placement, workload, clients };
        let p50_ms = clients as f64 / per_second * 1_000.0;
        let figures = Figures {
            seconds: 5.0,
            per_second,
            times: Quantiles { p50_ms, p99_ms: p50_ms * 2.0, p999_ms: p50_ms * 3.0, max_ms: 9.0 },
            server_cpu_s_per_1000: 1_000.0 / per_second,
            resident_mb: vec![100.0, 50.0, 50.0],
            ..Figures::default()
        };
        (key, figures)
    }

    pub(crate) fn results_of(cells: &[(CellKey, Figures)]) -> Results {
        let run = Run {
            run: "r1".to_owned(),
            commit: "c1".to_owned(),
            live_leases: 1_000_000,
            ..Run::default()
        };
        let mut results = Results::of(run);
        for (key, figures) in cells {
            results.add(*key, "2026-01-02T03:04:05Z", figures.clone());
        }
        results
    }

    #[test]
    fn a_cell_is_the_median_of_its_rounds() {
        let rounds = [100.0, 300.0, 200.0]
            .map(|rate| made_up(System::Leasehold, Workload::Checkout, 64, rate));
        let results = results_of(&rounds);
        assert_eq!(results.cells.len(), 1);
        assert_eq!(results.cells[0].rounds.len(), 3);
        assert!((results.cells[0].median.per_second - 200.0).abs() < 1e-9);
        assert_eq!(results.cells[0].median.resident_mb, [100.0, 50.0, 50.0]);
    }

    #[test]
    fn the_file_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        let mut results = results_of(&[made_up(System::Etcd, Workload::Read, 1, 10.0)]);
        results.compare();
        results.checks.push(Check {
            id: "tls".to_owned(),
            run: "r1".to_owned(),
            ok: true,
            seen: "1.3".to_owned(),
        });
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
        let text = fs::read_to_string(&path).unwrap();
        for field in ["\"commit\": \"c1\"", "\"ratios\": [", "\"p99_ms\"", "\"workload\": \"read\""]
        {
            assert!(text.contains(field), "no {field} in {text}");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        let results = Results { version: 2, ..results_of(&[]) };
        results.write(&path).unwrap();
        let error = Results::read(&path).unwrap_err().to_string();
        assert!(error.ends_with("has version 2, this program 1"), "{error}");
    }

    #[test]
    fn older_cells_stay_where_the_new_run_has_none() {
        let older = results_of(&[
            made_up(System::Leasehold, Workload::Checkout, 64, 100.0),
            made_up(System::Etcd, Workload::Checkout, 64, 10.0),
        ]);
        let mut newer = results_of(&[]);
        newer.run.run = "r2".to_owned();
        let (key, figures) = made_up(System::Leasehold, Workload::Checkout, 64, 200.0);
        newer.add(key, "2026-01-03T00:00:00Z", figures);
        newer.take_older(older);
        let runs: Vec<_> =
            newer.cells.iter().map(|cell| (cell.key.system, cell.run.as_str())).collect();
        assert_eq!(runs, [(System::Leasehold, "r2"), (System::Etcd, "r1")]);
        assert_eq!(newer.earlier_runs.len(), 1);
        let row = newer.ratios.iter().find(|row| row.id == "checkout_64").unwrap();
        assert_eq!((row.ratio, row.reached), (None, Reached::Unknown));
    }
}
