//! From the directory of a run to its verdict: the checkers, what the rig itself saw, the report.

use std::path::Path;

use anyhow::{Context, Result};

use crate::check::{self, Options};
use crate::finish::Rig;
use crate::history::History;
use crate::verdict::{Check, Finding, Verdict};
use crate::{edn, report};

/// Judges a run by its files and writes verdict, report and the history as EDN beside them.
///
/// # Errors
/// When files cannot be read or written.
pub fn judge(dir: &Path) -> Result<Verdict> {
    let shown = dir.display();
    let mut verdict =
        check::all(dir, &Options::default()).with_context(|| format!("cannot judge {shown}"))?;
    let own = of_rig(&Rig::read(dir)?);
    verdict.judgement = verdict.judgement.max(own.judgement);
    verdict.checks.push(own);
    verdict.write(dir)?;
    let history = History::read(dir)?;
    edn::write(dir, &history).context("cannot write the history as EDN")?;
    report::write(dir, &verdict).context("cannot write the report")?;
    Ok(verdict)
}

/// What the rig saw while it ran.
fn of_rig(rig: &Rig) -> Check {
    let finding = |what: String| Finding { what, events: Vec::new() };
    if !rig.findings.is_empty() {
        let findings = rig.findings.iter().cloned().map(finding).collect();
        return Check::of(NAME, "processes, recovery", findings);
    }
    let mut lacks: Vec<Finding> = rig
        .skipped
        .iter()
        .map(|(fault, why)| finding(format!("{fault} cannot be done here: {why}")))
        .collect();
    if rig.is_cut_short {
        lacks.push(finding("the run was cut short".to_owned()));
    }
    if lacks.is_empty() {
        return Check::valid(NAME, "no node ended by itself, and the cluster came back");
    }
    Check::unknown(NAME, "the run was not all that was asked for", lacks)
}

const NAME: &str = "rig";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Judgement;

    #[test]
    fn what_the_rig_saw_counts() {
        let judgement = |rig: &Rig| of_rig(rig).judgement;
        let fine = Rig::default();
        assert_eq!(judgement(&fine), Judgement::Valid);
        let short = Rig { is_cut_short: true, ..Rig::default() };
        assert_eq!(judgement(&short), Judgement::Unknown);
        let skipped = vec![("power".to_owned(), "no root".to_owned())];
        assert_eq!(judgement(&Rig { skipped, ..Rig::default() }), Judgement::Unknown);
        let died = Rig { findings: vec!["node 1 ended".to_owned()], ..short };
        assert_eq!(judgement(&died), Judgement::Invalid);
    }
}
