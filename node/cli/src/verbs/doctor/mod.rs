//! `doctor`: named checks that only look, each with its threshold, what was measured, and what to
//! do.
//!
//! | module | owns |
//! |---|---|
//! | this one | the verb, its table and its exit code |
//! | [`evidence`] | asking the servers: status, packages, members, metrics |
//! | [`checks`] | the checks about nodes and consensus, and the list of all |
//! | [`stock`] | the checks about what is kept: packages, tables, backups, certificates |
//!
//! A check judges what was gathered and asks nothing itself, so that the list is a table and each
//! row a pure function. What could not be asked is said so and judged no further.

mod checks;
pub(crate) mod evidence;
mod stock;

use clap::Args;
use serde_json::{Value, json};

use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::report::{Column, Grid, Part, Report};
use crate::session::Session;
use evidence::Evidence;

pub(crate) use checks::CHECKS;

/// `doctor`
#[derive(Debug, Clone, Default, Args)]
pub struct DoctorArgs {
    /// List the checks and their thresholds, and ask nothing
    #[arg(long)]
    pub list: bool,
    /// Run these checks only
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with = "list")]
    pub only: Vec<String>,
}

/// A check.
pub(crate) struct Check {
    /// Its name, for `--only` and scripts; never changes its meaning.
    pub(crate) name: &'static str,
    /// What is right.
    pub(crate) threshold: &'static str,
    /// What to do about it.
    pub(crate) fix: &'static str,
    pub(crate) judge: fn(&Evidence) -> Verdict,
}

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// As it should be, or not to be judged.
    Ok,
    /// Works, and will not for long.
    Warn,
    /// Does not work.
    Fail,
}

impl Grade {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) grade: Grade,
    pub(crate) measured: String,
}

impl Verdict {
    pub(crate) fn new(grade: Grade, measured: impl Into<String>) -> Self {
        Self { grade, measured: measured.into() }
    }

    /// Nothing to judge, and why.
    pub(crate) fn unknown(why: &str) -> Self {
        Self::new(Grade::Ok, why)
    }
}

/// A check that was run.
pub(crate) struct Finding {
    pub(crate) check: &'static Check,
    pub(crate) verdict: Verdict,
}

pub(crate) async fn run(args: &DoctorArgs, session: &Session<'_>) -> Result<Report> {
    let evidence = Evidence::gather(session).await?;
    let findings = findings(&evidence, &chosen(&args.only)?);
    Ok(report(&findings))
}

/// The list of checks, which asks nobody.
pub(crate) fn list() -> Report {
    let mut grid = Grid::new(&[Column::whole("CHECK"), Column::text("THRESHOLD")]);
    for check in CHECKS {
        grid.row(vec![check.name.to_owned(), check.threshold.to_owned()]);
    }
    let checks: Vec<Value> = CHECKS
        .iter()
        .map(|it| json!({ "name": it.name, "threshold": it.threshold, "fix": it.fix }))
        .collect();
    let ids = CHECKS.iter().map(|check| check.name.to_owned()).collect();
    Report::done(json!({ "checks": checks }), vec![Part::Grid(grid, "no checks")], ids)
}

fn chosen(only: &[String]) -> Result<Vec<&'static Check>> {
    if only.is_empty() {
        return Ok(CHECKS.iter().collect());
    }
    let find = |name: &String| {
        CHECKS.iter().find(|check| check.name == name).ok_or_else(|| {
            CliError::Usage(format!("{name:?} is no check: `leasehold doctor --list` names all"))
        })
    };
    only.iter().map(find).collect()
}

pub(crate) fn findings(evidence: &Evidence, checks: &[&'static Check]) -> Vec<Finding> {
    checks.iter().map(|check| Finding { check, verdict: (check.judge)(evidence) }).collect()
}

pub(crate) fn json_of(findings: &[Finding]) -> Value {
    let checks: Vec<Value> = findings
        .iter()
        .map(|Finding { check, verdict }| {
            json!({
                "name": check.name,
                "threshold": check.threshold,
                "measured": verdict.measured,
                "status": verdict.grade.word(),
                "fix": check.fix,
            })
        })
        .collect();
    let worst = findings.iter().map(|it| it.verdict.grade).max().unwrap_or(Grade::Ok);
    json!({ "status": worst.word(), "checks": checks })
}

/// A failure is unhealthy, a warning is degraded, as the other verbs have it.
fn report(findings: &[Finding]) -> Report {
    let worst = findings.iter().map(|it| it.verdict.grade).max().unwrap_or(Grade::Ok);
    let exit = match worst {
        Grade::Ok => Exit::Done,
        Grade::Warn => Exit::Degraded,
        Grade::Fail => Exit::Unhealthy,
    };
    let columns = [Column::state("STATUS"), Column::whole("CHECK"), Column::text("MEASURED")];
    let mut grid = Grid::new(&columns);
    for Finding { check, verdict } in findings {
        let status = verdict.grade.word().to_owned();
        grid.row(vec![status, check.name.to_owned(), verdict.measured.clone()]);
    }
    let mut parts = vec![Part::Grid(grid, "no checks")];
    for Finding { check, verdict } in findings.iter().filter(|it| it.verdict.grade > Grade::Ok) {
        let (name, measured) = (check.name, &verdict.measured);
        parts.push(Part::Line(format!("{} {name}: {measured}", verdict.grade.word())));
        parts.push(Part::Line(format!("     want {}; {}", check.threshold, check.fix)));
    }
    let ids = findings
        .iter()
        .filter(|it| it.verdict.grade > Grade::Ok)
        .map(|it| it.check.name.to_owned())
        .collect();
    Report { exit, json: json_of(findings), parts, ids }
}

#[cfg(test)]
mod tests;
