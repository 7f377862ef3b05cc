//! Many runs at once, each in a process of its own.

use std::io::{IsTerminal, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use leasehold_sim::Options;
use leasehold_sim::report::{Report, Totals};

/// Which runs are wanted.
pub(crate) struct Wanted {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) options: Options,
    /// How many of the first seeds run twice.
    pub(crate) twice: u64,
    /// After this no further run begins.
    pub(crate) within: Option<Duration>,
    /// Whether no further run begins once one has failed.
    pub(crate) until_found: bool,
    pub(crate) jobs: Option<usize>,
}

/// What all runs came to.
#[derive(Default)]
struct Sum {
    totals: Totals,
    runs: u64,
    compared: u64,
    failed: Vec<u64>,
    broken: u64,
    cpu_ms: u64,
    slowest_ms: u64,
    fewest_faults: Option<u64>,
    fewest_acknowledged: Option<u64>,
}

/// One run that is under way.
struct Run {
    seed: u64,
    child: Child,
    reader: std::thread::JoinHandle<String>,
    since: Instant,
}

pub(crate) fn run(wanted: &Wanted) -> Result<ExitCode> {
    let jobs = wanted
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let started = now();
    let mut sum = Sum::default();
    let mut digests = std::collections::BTreeMap::new();
    // The seeds that run twice come first, so that a short time compares them all.
    let again = wanted.first..wanted.first + wanted.twice;
    let mut waiting = again.chain(wanted.first..wanted.first + wanted.seeds);
    let mut under_way: Vec<Run> = Vec::new();
    let (all, mut told) = (wanted.twice + wanted.seeds, now());
    loop {
        let is_late = wanted.within.is_some_and(|within| started.elapsed() >= within);
        let is_over = is_late || wanted.until_found && !sum.failed.is_empty();
        while !is_over && under_way.len() < jobs {
            let Some(seed) = waiting.next() else { break };
            under_way.push(begin(seed, wanted.options)?);
        }
        if under_way.is_empty() {
            break;
        }
        let Some(ended) = take_ended(&mut under_way)? else {
            std::thread::sleep(LOOK);
            continue;
        };
        take_in(&mut sum, &mut digests, wanted, ended);
        let every = if std::io::stderr().is_terminal() { TELL_OFTEN } else { TELL_SELDOM };
        if told.elapsed() >= every {
            told = now();
            let seconds = started.elapsed().as_secs();
            eprintln!("{} of {all} runs in {seconds} s, {} failed", sum.runs, sum.failed.len());
        }
    }
    Ok(tell(&sum, wanted, started.elapsed()))
}

fn begin(seed: u64, options: Options) -> Result<Run> {
    let own = std::env::current_exe().context("the path of this program")?;
    let mut command = Command::new(own);
    command.args(["--one", "--seed", &seed.to_string()]);
    command.args(["--seconds", &options.seconds.to_string()]);
    if let Some(nodes) = options.nodes {
        command.args(["--nodes", &nodes.to_string()]);
    }
    if !options.faults {
        command.arg("--no-faults");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().context("starting a run")?;
    let mut output = child.stdout.take().context("the output of a run")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        // What could not be read is no report.
        let _ = output.read_to_string(&mut text);
        text
    });
    Ok(Run { seed, child, reader, since: now() })
}

/// A run that has ended, if one has, and what it told; `None` for one that told nothing.
fn take_ended(under_way: &mut Vec<Run>) -> Result<Option<(u64, Option<Report>)>> {
    for at in 0..under_way.len() {
        let run = &mut under_way[at];
        if run.child.try_wait().context("waiting for a run")?.is_none() {
            if run.since.elapsed() < HANGS {
                continue;
            }
            eprintln!("seed {} takes more than {HANGS:?}; it is ended", run.seed);
            run.child.kill().context("ending a run")?;
            run.child.wait().context("ending a run")?;
        }
        let run = under_way.swap_remove(at);
        let text = run.reader.join().unwrap_or_default();
        return Ok(Some((run.seed, serde_json::from_str(&text).ok())));
    }
    Ok(None)
}

fn take_in(
    sum: &mut Sum,
    digests: &mut std::collections::BTreeMap<u64, String>,
    wanted: &Wanted,
    (seed, report): (u64, Option<Report>),
) {
    sum.runs += 1;
    let Some(report) = report else {
        println!("seed {seed}: the run ended without a report\n  {}", again(seed, wanted.options));
        sum.broken += 1;
        sum.failed.push(seed);
        return;
    };
    sum.cpu_ms += report.cpu_ms;
    sum.slowest_ms = sum.slowest_ms.max(report.cpu_ms);
    let few = |least: Option<u64>, count: u64| Some(least.map_or(count, |it| it.min(count)));
    sum.fewest_faults = few(sum.fewest_faults, report.totals.faults_hit());
    sum.fewest_acknowledged = few(sum.fewest_acknowledged, report.totals.acknowledged);
    sum.totals.add(&report.totals);
    let mut is_sound = report.violations.is_empty();
    if let Some(before) = digests.insert(seed, report.digest.clone()) {
        sum.compared += 1;
        if before != report.digest {
            println!("seed {seed}: two runs differ: {before} and {}", report.digest);
            is_sound = false;
        }
    }
    if wanted.options.faults && report.totals.faults_hit() < LEAST_FAULTS && is_sound {
        println!("seed {seed}: only {} faults hit", report.totals.faults_hit());
        is_sound = false;
    }
    if report.totals.acknowledged < LEAST_ACKNOWLEDGED && is_sound {
        println!("seed {seed}: only {} commands acknowledged", report.totals.acknowledged);
        is_sound = false;
    }
    if is_sound {
        return;
    }
    sum.failed.push(seed);
    println!("seed {seed} failed; again, in words:\n  {}", again(seed, wanted.options));
    for (rule, what) in &report.violations {
        println!("  {rule}: {what}");
    }
    for line in report.last.iter().rev().take(SHOWN_EVENTS).rev() {
        println!("    {line}");
    }
}

/// The command that repeats a run.
fn again(seed: u64, options: Options) -> String {
    let mut command = format!("cargo xtask sim --seed {seed} --seconds {}", options.seconds);
    if let Some(nodes) = options.nodes {
        command.push_str(&format!(" --nodes {nodes}"));
    }
    if !options.faults {
        command.push_str(" --no-faults");
    }
    command.push_str(" --verbose");
    command
}

fn tell(sum: &Sum, wanted: &Wanted, took: Duration) -> ExitCode {
    println!("{}", sum.totals);
    let runs = sum.runs.max(1);
    println!(
        "{} runs in {:.1} s, {} compared with a second run; {} ms of CPU each, {} at most; at \
         least {} faults and {} acknowledged commands in each; {} failed",
        sum.runs,
        took.as_secs_f64(),
        sum.compared,
        sum.cpu_ms / runs,
        sum.slowest_ms,
        sum.fewest_faults.unwrap_or(0),
        sum.fewest_acknowledged.unwrap_or(0),
        sum.failed.len(),
    );
    if !sum.failed.is_empty() {
        println!("failed seeds: {:?}", sum.failed);
        return ExitCode::from(1);
    }
    let missing = sum.totals.missing();
    if wanted.options.faults && sum.runs >= TELLING_RUNS && !missing.is_empty() {
        println!("nothing was proved about {}: it never happened", missing.join(", "));
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

/// Processor time of this process, in milliseconds.
pub(crate) fn cpu_ms() -> u64 {
    // Fields 14 and 15 of proc_pid_stat(5): clock ticks, of which there are 100 a second.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 =
        after_name.split(' ').skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    ticks * 10
}

#[expect(clippy::disallowed_methods, reason = "how long real processes take is real time")]
fn now() -> Instant {
    Instant::now()
}

const LOOK: Duration = Duration::from_millis(2);
/// A run takes seconds, and minutes beside whatever else the machine is asked for.
const HANGS: Duration = Duration::from_secs(600);
const TELL_OFTEN: Duration = Duration::from_secs(5);
const TELL_SELDOM: Duration = Duration::from_secs(60);
const LEAST_ACKNOWLEDGED: u64 = 2_000;
const LEAST_FAULTS: u64 = 3;
/// From so many runs on, everything must have happened once.
const TELLING_RUNS: u64 = 20;
const SHOWN_EVENTS: usize = 40;
