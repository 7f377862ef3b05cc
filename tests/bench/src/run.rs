//! One run, from the command line to the files.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use leasehold_tests::cluster::use_binary;

use crate::args::Args;
use crate::plan::{Item, Plan, System, Topic, Workload};
use crate::progress::Progress;
use crate::results::{Ratio, Reached, Results, Run};
use crate::systems::etcd::Etcd;
use crate::systems::postgres::Postgres;
use crate::{checks, machine, report, topics, turns};

/// What a run is to do, with everything filled in that the command line left open.
struct Wish {
    plan: Plan,
    seconds: u64,
    live_leases: usize,
    held_leases: usize,
    kills: usize,
    elections_for: Duration,
    is_whole: bool,
}

/// Measures and writes.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let wish = Wish::of(args);
    let out = args.out.join(RESULTS);
    let is_in_the_way = out.exists() && !wish.is_whole && !args.merge;
    let shown = out.display();
    ensure!(
        !is_in_the_way,
        "{shown} is there, and this run does not measure all of it: --merge adds to it, \
         --out DIR writes elsewhere"
    );
    let older = if args.merge && out.exists() { Some(Results::read(&out)?) } else { None };
    fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    // Clusters of ours are founded in directories for temporary files.
    let _ = tempfile::env::override_temp_dir(&dir);
    let (binary, commit) = machine::under_test(args.binary.as_deref())?;
    let mut results = Results::of(Run {
        binary_sha256: machine::sha256(&binary)?,
        ..wish.describe(args, &dir, commit)?
    });
    use_binary(binary)?;
    let etcd_missing = wish.etcd_missing(&results);
    let cells = wish.of_cells(dir.clone());
    let long = wish.of_topics(dir, etcd_missing, args);
    let all_turns = wish.plan.turns();
    let expected: Duration = all_turns.iter().map(|turn| turns::expected(turn, &cells)).sum();
    let expected = expected + topics::expected(&wish.plan.topics, &long);
    let progress = Progress::new(expected);
    for (system, why) in &results.run.missing {
        progress.say(format!("{system} is left out: {why}"));
    }
    progress.say(format!("this takes about {} min", expected.as_secs().div_ceil(60)));
    let unfinished = unfinished(args);
    let save = |results: &Results| results.write(&unfinished);
    turns::run(&all_turns, &cells, &progress, &mut results, &save).await?;
    topics::run(&wish.plan.topics, &long, &progress, &mut results, &save).await?;
    let checked = checks::of_cells(&results, &results.run.run);
    results.checks.extend(checked);
    results.cells.sort_by_key(|cell| cell.key);
    results.compare();
    if let Some(older) = older {
        results.take_older(older);
    }
    results.write(&out)?;
    let _ = fs::remove_file(&unfinished);
    report::write(&results, &args.out)?;
    progress.end();
    conclude(&results, args);
    Ok(())
}

impl Wish {
    fn of(args: &Args) -> Self {
        let quick = args.quick;
        let all: Vec<Item> = Workload::ALL
            .into_iter()
            .map(Item::Workload)
            .chain(Topic::ALL.into_iter().map(Item::Topic))
            .collect();
        let items = if args.only.is_empty() { &all } else { &args.only };
        let has = |item: Item| items.contains(&item);
        let workloads = Workload::ALL.into_iter().filter(|it| has(Item::Workload(*it)));
        let topics = Topic::ALL.into_iter().filter(|it| has(Item::Topic(*it)));
        let systems = System::ALL
            .into_iter()
            .filter(|system| args.systems.is_empty() || args.systems.contains(system));
        let usual = if quick { QUICK_CLIENTS } else { CLIENTS };
        let mut clients =
            if args.clients.is_empty() { usual.to_vec() } else { args.clients.clone() };
        clients.sort_unstable();
        clients.dedup();
        let number = |given: Option<u64>, usual: u64, quickly: u64| {
            given.unwrap_or(if quick { quickly } else { usual })
        };
        let count = |given, usual, quickly| number(given, usual, quickly) as usize;
        let plan = Plan {
            workloads: workloads.collect(),
            topics: topics.collect(),
            systems: systems.collect(),
            clients,
            rounds: count(args.rounds, 3, 1),
            at: args.at.into(),
        };
        Self {
            is_whole: !quick
                && args.only.is_empty()
                && args.systems.is_empty()
                && args.clients.is_empty(),
            plan,
            seconds: number(args.seconds, 5, 2),
            live_leases: count(args.leases, 1_000_000, 20_000),
            held_leases: count(args.held, 100_000, 10_000),
            kills: count(args.kills, 50, 3),
            elections_for: Duration::from_secs(if quick { 20 } else { 300 }),
        }
    }

    fn describe(&self, args: &Args, dir: &std::path::Path, commit: String) -> Result<Run> {
        let started_at = machine::now();
        let mut run = Run {
            run: started_at.replace([':', '-'], ""),
            started_at,
            commit,
            machine: machine::machine(dir)?,
            rounds: self.plan.rounds,
            seconds: self.seconds as f64,
            held_leases: self.held_leases,
            live_leases: self.live_leases,
            quick: args.quick,
            ..Run::default()
        };
        for system in System::ALL {
            let name = system.name().to_owned();
            if !self.plan.systems.contains(&system) {
                run.missing.insert(name, "not asked for".to_owned());
            } else if let Some(why) = turns::missing(system) {
                run.missing.insert(name, why);
            } else if let Some(version) = version(system)? {
                run.versions.insert(name, version);
            }
        }
        Ok(run)
    }

    fn etcd_missing(&self, results: &Results) -> Option<String> {
        results.run.missing.get(System::Etcd.name()).cloned()
    }

    fn warm_up(&self) -> Duration {
        Duration::from_secs(self.seconds).div_f64(5.0).max(Duration::from_secs(1))
    }

    fn of_cells(&self, dir: PathBuf) -> turns::Settings {
        turns::Settings {
            dir,
            warm_up: self.warm_up(),
            counted: Duration::from_secs(self.seconds),
            held_leases: self.held_leases,
        }
    }

    fn of_topics(
        &self,
        dir: PathBuf,
        etcd_missing: Option<String>,
        args: &Args,
    ) -> topics::Settings {
        topics::Settings {
            dir,
            warm_up: self.warm_up(),
            counted: Duration::from_secs(self.seconds),
            live_leases: self.live_leases,
            kills: self.kills,
            restarts: if args.quick { 1 } else { RESTARTS },
            elections_for: self.elections_for,
            etcd_missing,
        }
    }
}

/// Where a run keeps what it has so far; the file stays where it does not come to its end.
pub(crate) fn unfinished(args: &Args) -> PathBuf {
    args.out.join("unfinished.json")
}

/// `None` for ours: commit and hash say more.
fn version(system: System) -> Result<Option<String>> {
    match system {
        System::Leasehold => Ok(None),
        System::Etcd | System::EtcdAuth => Etcd::version().map(Some),
        System::Postgres => Postgres::version().map(Some),
    }
}

/// What is said at the end.
fn conclude(results: &Results, args: &Args) {
    for check in results.checks.iter().filter(|check| !check.ok) {
        println!("FAILED {}: {}", check.id, check.seen);
    }
    let count = |reached| results.ratios.iter().filter(|row| row.reached == reached).count();
    println!(
        "of {} rows: {} stretch, {} must, {} missed, {} unknown",
        results.ratios.len(),
        count(Reached::Stretch),
        count(Reached::Must),
        count(Reached::Neither),
        count(Reached::Unknown)
    );
    let missed = |row: &&Ratio| row.reached == Reached::Neither;
    for row in results.ratios.iter().filter(missed) {
        println!("missed: {} ({})", row.id, row.what);
    }
    println!("{}", args.out.join("RESULTS.md").display());
}

/// The raw figures.
pub(crate) const RESULTS: &str = "results.json";
const CLIENTS: &[usize] = &[1, 16, 64, 256, 1_000];
const QUICK_CLIENTS: &[usize] = &[64];
const RESTARTS: usize = 3;
