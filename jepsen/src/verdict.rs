//! What the checkers say of a run: valid, invalid, or not known, each with its reasons.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Name of the file of a verdict.
pub const VERDICT_FILE: &str = "verdict.json";
/// Findings of one checker that are kept; more are counted.
pub const MAX_FINDINGS: usize = 20;

/// What is to be thought of a run. The later, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// Nothing was found, and everything was looked at.
    Valid,
    /// Not everything could be looked at, or the run proves too little.
    Unknown,
    /// Something happened that must never happen.
    Invalid,
}

impl Judgement {
    /// The exit code of the program that says so.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Unknown => 2,
        }
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What, as a sentence.
    pub what: String,
    /// Indexes of the events that show it.
    pub events: Vec<u64>,
}

/// What one checker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// What it thinks.
    pub judgement: Judgement,
    /// What it looked at, in one line.
    pub summary: String,
    /// What it found; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many there were beyond those.
    #[serde(default)]
    pub more: usize,
    /// The smallest part of the history that fails by itself, for the checkers that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest: Option<SubHistory>,
}

impl Check {
    /// A checker's word that all it looked at was right.
    pub fn valid(name: &str, summary: impl Into<String>) -> Self {
        Self::new(name, Judgement::Valid, summary, Vec::new())
    }

    /// Findings are violations; without any it is valid.
    pub fn of(name: &str, summary: impl Into<String>, findings: Vec<Finding>) -> Self {
        let judgement = if findings.is_empty() { Judgement::Valid } else { Judgement::Invalid };
        Self::new(name, judgement, summary, findings)
    }

    /// A checker's word that it cannot tell.
    pub fn unknown(name: &str, summary: impl Into<String>, findings: Vec<Finding>) -> Self {
        Self::new(name, Judgement::Unknown, summary, findings)
    }

    fn new(
        name: &str,
        judgement: Judgement,
        summary: impl Into<String>,
        mut findings: Vec<Finding>,
    ) -> Self {
        let more = findings.len().saturating_sub(MAX_FINDINGS);
        findings.truncate(MAX_FINDINGS);
        let (name, summary) = (name.to_owned(), summary.into());
        Self { name, judgement, summary, findings, more, smallest: None }
    }
}

/// A part of a history that cannot be explained, with what was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubHistory {
    /// The package that it is about.
    pub package: String,
    /// Indexes of its events.
    pub events: Vec<u64>,
    /// How the package stood where no further step was possible.
    pub stuck_at: String,
    /// What could not be explained there, one line for each operation.
    pub blocked: Vec<String>,
}

/// What is to be thought of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst of its checks.
    pub judgement: Judgement,
    /// What each checker says.
    pub checks: Vec<Check>,
    /// How much there was to look at.
    pub figures: Figures,
}

/// How much a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Operations that clients began.
    pub operations: u64,
    /// Those that happened.
    pub ok: u64,
    /// Those that were refused, or certainly did not happen.
    pub failed: u64,
    /// Those of which nobody knows.
    pub unknown: u64,
    /// Windows of faults.
    pub faults: u64,
    /// Those of which there is evidence that they had an effect.
    pub faults_hit: u64,
    /// Length of the run in milliseconds.
    pub length_ms: u64,
}

impl Verdict {
    /// The verdict of these checks.
    pub fn of(checks: Vec<Check>, figures: Figures) -> Self {
        let worst = checks.iter().map(|check| check.judgement).max();
        Self { judgement: worst.unwrap_or(Judgement::Unknown), checks, figures }
    }

    /// Writes it into the directory of its run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let file = std::fs::File::create(dir.join(VERDICT_FILE))?;
        Ok(serde_json::to_writer_pretty(file, self)?)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { operations, ok, failed, unknown, .. } = self.figures;
        writeln!(
            f,
            "{}: {operations} operations ({ok} ok, {failed} refused, {unknown} unknown)",
            self.judgement
        )?;
        for check in &self.checks {
            writeln!(f, "  {:<8} {:<16} {}", check.judgement, check.name, check.summary)?;
            for finding in &check.findings {
                writeln!(f, "           {} (events {:?})", finding.what, finding.events)?;
            }
            if check.more > 0 {
                writeln!(f, "           and {} more", check.more)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_as_bad_as_its_worst_check() {
        let finding = || Finding { what: "x".to_owned(), events: vec![1] };
        let valid = Check::valid("a", "");
        let unknown = Check::unknown("b", "", vec![]);
        let invalid = Check::of("c", "", (0..25).map(|_| finding()).collect());
        assert_eq!((invalid.findings.len(), invalid.more), (MAX_FINDINGS, 5));
        let judge = |checks: &[&Check]| {
            let checks = checks.iter().map(|check| (*check).clone()).collect();
            Verdict::of(checks, Figures::default()).judgement
        };
        assert_eq!(judge(&[]), Judgement::Unknown);
        assert_eq!(judge(&[&valid, &valid]), Judgement::Valid);
        assert_eq!(judge(&[&valid, &unknown]), Judgement::Unknown);
        assert_eq!(judge(&[&invalid, &unknown]), Judgement::Invalid);
        assert_eq!([0, 1, 2], [&valid, &invalid, &unknown].map(|it| it.judgement.exit_code()));
    }
}
