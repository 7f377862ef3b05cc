//! Many runs: workloads and faults drawn from a seed, until the time is over.
//!
//! Workloads come in rounds, faults from a deck that is dealt to its end before it is shuffled
//! again, one to three a run; every fifth run has all of them. So even a short suite meets every
//! fault about as often as every other, and two seeds meet them in other company.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::clock::Stopwatch;
use crate::faults::Fault;
use crate::judge;
use crate::rng::Rng;
use crate::run::{self, Setup};
use crate::verdict::{Figures, Judgement, Verdict};
use crate::workloads::{WORKLOADS, Workload};

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The workload.
    pub workload: String,
    /// The faults.
    pub faults: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// How much there was to look at.
    pub figures: Option<Figures>,
    /// The verdict.
    pub judgement: Judgement,
    /// What the worst checkers said, or why there is no verdict.
    pub said: String,
    /// Seconds that it took, founding and checking included.
    pub seconds: u64,
}

/// Draws what is run next.
#[derive(Debug)]
pub struct Deck {
    rng: Rng,
    faults: Vec<Fault>,
    dealt: Vec<Fault>,
    workloads: Vec<&'static Workload>,
    runs: u64,
}

impl Deck {
    /// Of these faults.
    pub fn new(seed: u64, faults: Vec<Fault>) -> Self {
        let rng = Rng::named(seed, "suite");
        Self { rng, faults, dealt: Vec::new(), workloads: Vec::new(), runs: 0 }
    }

    /// The next workload, its faults, its seed.
    pub fn next_cell(&mut self) -> (&'static Workload, Vec<Fault>, u64) {
        self.runs += 1;
        if self.workloads.is_empty() {
            let all: Vec<&'static Workload> = WORKLOADS.iter().collect();
            self.workloads = self.rng.shuffled(&all);
        }
        let workload = self.workloads.pop().unwrap_or(&WORKLOADS[0]);
        let seed = self.rng.below(1_000_000);
        if self.runs.is_multiple_of(EVERYTHING_EVERY) {
            return (workload, self.faults.clone(), seed);
        }
        let count = self.rng.between(1, 3);
        let mut faults = Vec::new();
        for _ in 0..count {
            if self.dealt.is_empty() {
                self.dealt = self.rng.shuffled(&self.faults);
            }
            faults.extend(self.dealt.pop());
        }
        faults.sort_unstable();
        faults.dedup();
        (workload, faults, seed)
    }
}

/// Runs until the time is over; gives the table.
///
/// # Errors
/// When the table cannot be written. A run that could not be done is a row.
pub async fn run(template: &Setup, minutes: u64) -> Result<Vec<Row>> {
    let clock = Stopwatch::start();
    let all = Duration::from_secs(minutes * 60);
    let mut deck = Deck::new(template.seed, template.faults.clone());
    let mut rows: Vec<Row> = Vec::new();
    let mut longest = Duration::from_secs(template.seconds) + BESIDE;
    loop {
        let begun = clock.elapsed();
        if !rows.is_empty() && begun + longest > all {
            break;
        }
        let (workload, faults, seed) = deck.next_cell();
        let is_everything = faults.len() > 3;
        let setup = Setup { workload, faults, seed, ..template.clone() };
        let names: Vec<&str> = setup.faults.iter().map(|fault| fault.name()).collect();
        // A run of everything takes as long as its faults need: only where there is time for it.
        let needed = Duration::from_secs(10 * names.len() as u64) + BESIDE;
        if is_everything && begun + needed > all {
            continue;
        }
        let names = names.join(",");
        eprintln!("{}: {} under {names}, seed {seed}", rows.len() + 1, workload.name);
        let row = row_of(&setup, &clock, begun).await;
        eprintln!("  {} {}", row.judgement, row.said);
        if !is_everything {
            longest = longest.max(clock.elapsed() - begun);
        }
        rows.push(row);
        write(&template.store, template.seed, &rows)?;
        if rows.last().is_some_and(|row| row.said == CUT_SHORT) {
            break;
        }
    }
    Ok(rows)
}

async fn row_of(setup: &Setup, clock: &Stopwatch, begun: Duration) -> Row {
    let done = async {
        let dir = run::run(setup).await?;
        tokio::task::block_in_place(|| judge::judge(&dir))
    };
    let verdict = done.await;
    let (judgement, said, figures) = match &verdict {
        Ok(verdict) => (verdict.judgement, worst(verdict), Some(verdict.figures.clone())),
        // What was not run proves nothing.
        Err(error) => (Judgement::Unknown, format!("no verdict: {error:#}"), None),
    };
    Row {
        workload: setup.workload.name.to_owned(),
        faults: setup.faults.iter().map(|fault| fault.name().to_owned()).collect(),
        seed: setup.seed,
        figures,
        judgement,
        said,
        seconds: (clock.elapsed() - begun).as_secs(),
    }
}

/// The first finding of each checker that is not content.
fn worst(verdict: &Verdict) -> String {
    let said = |check: &crate::verdict::Check| {
        let found = check.findings.first().map_or(&check.summary, |finding| &finding.what);
        format!("{}: {found}", check.name)
    };
    let discontent = verdict.checks.iter().filter(|check| check.judgement != Judgement::Valid);
    discontent.map(said).collect::<Vec<_>>().join("; ")
}

/// The worst of all rows; what was not run at all is not known.
pub fn judgement(rows: &[Row]) -> Judgement {
    rows.iter().map(|row| row.judgement).max().unwrap_or(Judgement::Unknown)
}

/// The table, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| workload | faults | seed | ok | refused | unknown | hits | seconds | verdict |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for row in rows {
        let Figures { ok, failed, unknown, faults_hit, .. } =
            row.figures.clone().unwrap_or_default();
        let faults = if row.faults.len() > 4 { "all".to_owned() } else { row.faults.join(", ") };
        let Row { workload, seed, seconds, judgement, said, .. } = row;
        let said = said.replace('|', "/").replace('\n', " ");
        let _ = writeln!(
            text,
            "| {workload} | {faults} | {seed} | {ok} | {failed} | {unknown} | {faults_hit} | \
             {seconds} | {judgement} {said} |"
        );
    }
    let sum = |of: fn(&Figures) -> u64| -> u64 {
        rows.iter().filter_map(|row| row.figures.as_ref()).map(of).sum()
    };
    let seconds: u64 = rows.iter().map(|row| row.seconds).sum();
    let count = |judgement| rows.iter().filter(|row| row.judgement == judgement).count();
    let _ = writeln!(
        text,
        "\n{} runs in {:.1} minutes: {} valid, {} invalid, {} unknown; {} operations, {} ok, {} \
         windows of faults, {} hit.",
        rows.len(),
        seconds as f64 / 60.0,
        count(Judgement::Valid),
        count(Judgement::Invalid),
        count(Judgement::Unknown),
        sum(|figures| figures.operations),
        sum(|figures| figures.ok),
        sum(|figures| figures.faults),
        sum(|figures| figures.faults_hit),
    );
    text
}

fn write(store: &Path, seed: u64, rows: &[Row]) -> Result<()> {
    let path = store.join(format!("suite-{seed}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(rows)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let path = store.join(format!("suite-{seed}.md"));
    std::fs::write(&path, table(rows)).with_context(|| format!("cannot write {}", path.display()))
}

/// Every so many runs have all faults.
const EVERYTHING_EVERY: u64 = 5;
/// Founding, calm, gathering and checking.
const BESIDE: Duration = Duration::from_secs(25);
const CUT_SHORT: &str = "rig: the run was cut short";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::faults::FAULTS;

    #[test]
    fn a_few_runs_meet_every_fault_and_every_workload() {
        for seed in 0..20 {
            let mut deck = Deck::new(seed, FAULTS.to_vec());
            let (mut faults, mut workloads) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..16 {
                let (workload, dealt, _) = deck.next_cell();
                workloads.insert(workload.name);
                faults.extend(dealt);
            }
            assert_eq!(faults.len(), FAULTS.len(), "seed {seed}");
            assert_eq!(workloads.len(), WORKLOADS.len(), "seed {seed}");
        }
    }

    #[test]
    fn the_worst_row_is_what_counts() {
        let row = |judgement| Row {
            workload: "reads".to_owned(),
            faults: vec!["kill".to_owned()],
            seed: 1,
            figures: None,
            judgement,
            said: "a|b".to_owned(),
            seconds: 3,
        };
        assert_eq!(judgement(&[]), Judgement::Unknown);
        let rows = [row(Judgement::Unknown), row(Judgement::Valid)];
        assert_eq!(judgement(&rows), Judgement::Unknown);
        let rows = [row(Judgement::Unknown), row(Judgement::Invalid)];
        assert_eq!(judgement(&rows), Judgement::Invalid);
        assert!(table(&rows).contains("| reads | kill | 1 |") && table(&rows).contains("a/b"));
    }
}
