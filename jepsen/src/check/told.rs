//! Operations in words: one line each, for reports and findings.

use super::linear::steps::sequence;
use crate::history::Answer;
use crate::operation::{Operation, Outcome};

/// An operation in one line.
pub(crate) fn told(operation: &Operation) -> String {
    let Operation { process, act, invoke_ns, return_ns, outcome, .. } = operation;
    let outcome = match outcome {
        Outcome::Done(answer) => told_answer(answer),
        Outcome::Refused { code } => code.clone(),
        Outcome::Failed => "did not happen".to_owned(),
        Outcome::Unknown => "unknown".to_owned(),
    };
    let seconds = |ns: u64| ns as f64 / 1e9;
    let returned = return_ns.map_or_else(|| "…".to_owned(), |ns| format!("{:.3}", seconds(ns)));
    format!(
        "process {process}, {:.3} to {returned} s: {} {}: {outcome}",
        seconds(*invoke_ns),
        act.name(),
        short(act.lease().or_else(|| act.key()).unwrap_or_default())
    )
}

/// An answer in a few words.
fn told_answer(answer: &Answer) -> String {
    match answer {
        Answer::Granted { lease, class, expires_in_ms, renewal_token, fence, .. } => format!(
            "granted {}, {class}, {expires_in_ms} ms, sequence {}, fence {fence}",
            short(lease),
            sequence(renewal_token)
        ),
        Answer::Renewed { expires_in_ms, renewal_token, .. } => {
            format!("renewed, {expires_in_ms} ms, sequence {}", sequence(renewal_token))
        }
        Answer::Borrowed { until_in_ms, .. } => format!("borrowed, {until_in_ms} ms"),
        Answer::Package { in_use, total, leases, .. } => {
            let names = leases.as_ref().map(|leases| {
                let names: Vec<String> = leases.iter().map(|lease| short(lease)).collect();
                format!(": {}", names.join(", "))
            });
            format!("{in_use} of {total} in use{}", names.unwrap_or_default())
        }
        Answer::Lease { live, expires_in_ms } => match (live, expires_in_ms) {
            (true, Some(left_ms)) => format!("live, {left_ms} ms left"),
            (true, None) => "live".to_owned(),
            (false, _) => "ended".to_owned(),
        },
        Answer::Pools { shares, .. } => {
            let shares = shares.iter().map(|(pool, seats, in_use)| {
                let pool = if pool.is_empty() { "no pool" } else { pool };
                format!("{pool}: {in_use} of {seats} in use")
            });
            shares.collect::<Vec<_>>().join(", ")
        }
        Answer::Returned => "returned".to_owned(),
        Answer::Transferred => "transferred".to_owned(),
        Answer::Refused { code, .. } => code.clone(),
    }
}

/// A name that is long, by its end: what is before it is the same for all.
pub(crate) fn short(name: &str) -> String {
    let skip = name.chars().count().saturating_sub(SHORT_CHARS);
    if skip < 8 {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(skip)).collect()
}

/// Characters of a long name that are shown.
const SHORT_CHARS: usize = 10;
