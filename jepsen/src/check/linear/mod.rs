//! Linearizability of the whole lease model, with expiry.
//!
//! A package is judged by itself: no operation touches two, so a history is linearizable exactly
//! when its parts are (Herlihy and Wing's locality, the P-compositionality of Horn and Kroening).
//! The search is Wing and Gong's with Lowe's memory of configurations ([`search`]); what it
//! searches is made from operations and pruned by the audit log ([`problem`]); a part that fails
//! is made small ([`shrink`]).
//!
//! A search that gives up is no pass: the package is then not known to be right.

#[cfg(test)]
mod generate;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod opinions;
pub mod problem;
pub mod search;
pub mod shrink;
pub(super) mod steps;
#[cfg(test)]
mod tables;

use crate::check::{Options, Run};
use crate::verdict::{Check, Finding, Judgement};
use problem::Problem;
use search::{Answer, search};

const NAME: &str = "linearizable";

/// One order of all operations explains every answer.
pub(super) fn linearizable(run: &Run, options: &Options) -> Check {
    let mut configurations = 0;
    let mut operations = 0;
    let mut findings = Vec::new();
    let mut given_up = Vec::new();
    let mut smallest = None;
    for terms in &run.header().packages {
        let problem = Problem::of(run, terms);
        operations += problem.intervals.len();
        let result = search(&problem, options.search_configurations);
        configurations += result.configurations;
        match result.answer {
            Answer::Linearizable => {}
            Answer::GaveUp => given_up.push(Finding {
                what: format!(
                    "{}: given up after {} configurations",
                    terms.name, result.configurations
                ),
                events: Vec::new(),
            }),
            Answer::Impossible => {
                let small = shrink::shrink(&problem, options.search_configurations);
                let sub = small.sub_history(run);
                findings.push(Finding {
                    what: format!("{}: no order explains these answers", terms.name),
                    events: sub.events.clone(),
                });
                smallest.get_or_insert(sub);
            }
        }
    }
    let summary = format!(
        "{operations} operations of {} packages, {configurations} configurations",
        run.header().packages.len()
    );
    if findings.is_empty() && !given_up.is_empty() {
        return Check::unknown(NAME, summary, given_up);
    }
    findings.extend(given_up);
    let check = Check::of(NAME, summary, findings);
    debug_assert!(check.judgement != Judgement::Unknown);
    Check { smallest, ..check }
}
