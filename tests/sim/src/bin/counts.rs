//! `counts`: what an operation costs in instructions, allocations, bytes and syncs, held against
//! the figures that are committed.
//!
//! Each part runs in a process of its own: once by itself, for allocations and for what its cases
//! count themselves, and once under callgrind, for instructions. `counted_here` marks off the cases
//! for callgrind: it counts within that function alone, and writes out what it has when it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use leasehold_sim::counts::{Meter, Part};
use serde::{Deserialize, Serialize};

/// Counts what operations cost, and compares with the committed figures.
///
/// Example: counts --only gateway
///
/// Ends with 0 when no figure is more than a tenth above the committed one, with 1 when one is,
/// with 2 when they could not be counted.
#[derive(Parser)]
#[command(name = "counts", verbatim_doc_comment)]
struct Arguments {
    /// Count only `ledger`, `gateway` or `cluster`.
    #[arg(long, value_parser = part)]
    only: Option<Part>,
    /// Write the figures to the file instead of comparing.
    #[arg(long)]
    write: bool,
    /// Where the committed figures are.
    #[arg(long, default_value = "tests/sim/counts.json")]
    file: PathBuf,
    /// Do the part here and print its figures as JSON: what the others are made of.
    #[arg(long, hide = true, value_parser = part)]
    part: Option<Part>,
}

fn part(name: &str) -> Result<Part> {
    let found = Part::ALL.into_iter().find(|part| part.name() == name);
    found.with_context(|| format!("no part is called {name}: ledger, gateway, cluster"))
}

/// Figures of one operation by name, by case.
type Figures = BTreeMap<String, BTreeMap<String, f64>>;

/// A case, as its process tells of it.
#[derive(Debug, Serialize, Deserialize)]
struct Counted {
    case: String,
    operations: u64,
    figures: BTreeMap<String, f64>,
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("counts: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn act(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(part) = arguments.part {
        let mut meter = Allocations::default();
        part.count(&mut meter)?;
        println!("{}", serde_json::to_string(&meter.cases)?);
        return Ok(ExitCode::SUCCESS);
    }
    let has_valgrind = has_valgrind();
    if !has_valgrind {
        println!("test instructions ... skipped: valgrind is not installed");
    }
    let mut figures = Figures::new();
    for part in Part::ALL {
        if arguments.only.is_none_or(|only| only == part) {
            figures.extend(count(part, has_valgrind)?);
        }
    }
    if arguments.write {
        ensure!(has_valgrind, "without valgrind there are no instructions to write down");
        let mut all = read(&arguments.file).unwrap_or_default();
        if arguments.only.is_none() {
            all.clear();
        }
        all.extend(figures);
        let text = serde_json::to_string_pretty(&all)? + "\n";
        std::fs::write(&arguments.file, text)
            .with_context(|| format!("{}", arguments.file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let committed = read(&arguments.file)?;
    Ok(ExitCode::from(u8::from(compare(&figures, &committed, has_valgrind) > 0)))
}

fn read(file: &Path) -> Result<Figures> {
    let text = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))
}

/// Prints every figure beside the committed one; how many were worse by more than is allowed.
fn compare(figures: &Figures, committed: &Figures, has_valgrind: bool) -> usize {
    // A test that was skipped counts as passed in the line that sums up, as libtest has it.
    let (mut passed, mut failed) = (usize::from(!has_valgrind), 0);
    println!("{:<26} {:<16} {:>12} {:>12} {:>8}", "case", "each", "committed", "now", "change");
    for (case, figure, now) in flat(figures) {
        let was = committed.get(case).and_then(|it| it.get(figure)).copied();
        let (was, verdict) = match was {
            None => (f64::NAN, Some("FAILED: no such figure is committed; see --write")),
            Some(was) if now > was * MOST => (was, Some("FAILED")),
            Some(was) if now < was * LEAST => (was, Some("better: keep it with --write")),
            Some(was) => (was, None),
        };
        let change = if now == was { 0.0 } else { (now / was - 1.0) * 100.0 };
        let verdict_text = verdict.unwrap_or_default();
        println!("{case:<26} {figure:<16} {was:>12.3} {now:>12.3} {change:>+7.1}% {verdict_text}");
        match verdict {
            Some(verdict) if verdict.starts_with("FAILED") => failed += 1,
            _ => passed += 1,
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {result}. {passed} passed; {failed} failed; 0 ignored");
    failed
}

fn flat(figures: &Figures) -> impl Iterator<Item = (&str, &str, f64)> {
    figures.iter().flat_map(|(case, figures)| {
        figures.iter().map(move |(figure, now)| (case.as_str(), figure.as_str(), *now))
    })
}

/// Counts a part in processes of its own.
fn count(part: Part, has_valgrind: bool) -> Result<Figures> {
    let own = std::env::current_exe().context("the path of this program")?;
    let mut plain = Command::new(&own);
    let mut cases = counted_by(plain.args(["--part", part.name()]))?;
    if has_valgrind {
        let dir = tempfile::tempdir().context("a temporary directory")?;
        let out = dir.path().join("callgrind");
        let mut under = Command::new("valgrind");
        under.args(["--tool=callgrind", "--quiet", "--toggle-collect=*counted_here"]);
        under.arg("--dump-after=*counted_here");
        under.arg(format!("--callgrind-out-file={}", out.display()));
        let again = counted_by(under.arg(&own).args(["--part", part.name()]))?;
        ensure!(again.len() == cases.len(), "callgrind saw other cases");
        for (number, case) in (1..).zip(&mut cases) {
            let file = dir.path().join(format!("callgrind.{number}"));
            let instructions = instructions(&file)? as f64 / case.operations as f64;
            case.figures.insert("instructions".to_owned(), instructions);
        }
    }
    Ok(cases.into_iter().map(|case| (case.case, case.figures)).collect())
}

fn counted_by(command: &mut Command) -> Result<Vec<Counted>> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("what {command:?} told"))
}

/// The instructions in a file of callgrind's but for those of SHA-256: processors have some for it,
/// the one that callgrind plays has none, and a third of everything would be theirs.
///
/// The format is "Callgrind Format Specification" of valgrind's manual: `fn=(number) name` begins a
/// function (its name only the first time), lines of a position and a count follow; the line after
/// `calls=` is what was called, and counts elsewhere.
fn instructions(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let (mut names, mut name, mut is_call) = (BTreeMap::new(), "", false);
    let mut sum = 0;
    for line in text.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            let (number, new) = function.split_once(' ').unwrap_or((function, ""));
            name = match new {
                "" => names.get(number).copied().unwrap_or_default(),
                new => *names.entry(number).or_insert(new),
            };
        } else if let Some(function) = line.strip_prefix("cfn=")
            && let Some((number, new)) = function.split_once(' ')
        {
            names.insert(number, new);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let count: u64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
            if !is_call && !name.contains(SHA_256) {
                sum += count;
            }
            is_call = false;
        }
    }
    ensure!(sum > 0, "{} tells no instructions", file.display());
    Ok(sum)
}

fn has_valgrind() -> bool {
    Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Takes down allocations.
#[derive(Default)]
struct Allocations {
    cases: Vec<Counted>,
}

impl Meter for Allocations {
    fn measure(&mut self, case: &'static str, operations: u64, work: &mut dyn FnMut()) {
        let made = allocation_counter::measure(|| counted_here(work));
        let each = |count: u64| count as f64 / operations as f64;
        let figures = BTreeMap::from([
            ("allocations".to_owned(), each(made.count_total)),
            ("bytes_allocated".to_owned(), each(made.bytes_total)),
        ]);
        self.cases.push(Counted { case: case.to_owned(), operations, figures });
    }

    fn take_down(&mut self, case: &'static str, figure: &'static str, each: f64) {
        if let Some(counted) = self.cases.iter_mut().find(|counted| counted.case == case) {
            counted.figures.insert(figure.to_owned(), each);
        }
    }
}

/// What callgrind is told to count, by its name.
#[inline(never)]
fn counted_here(work: &mut dyn FnMut()) {
    work();
    // Not a tail call, which would leave this function before the work is done.
    std::hint::black_box(());
}

/// In the names of what does SHA-256 without a processor's help.
const SHA_256: &str = "sha256::soft";
/// A figure may be so many times the committed one.
const MOST: f64 = 1.10;
/// Below this part of it, the gain is worth keeping.
const LEAST: f64 = 0.90;
