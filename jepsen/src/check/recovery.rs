//! Clients are served soon after the last fault is healed.

use crate::check::{NS_PER_MS, Options, Run};
use crate::verdict::{Check, Finding};
use crate::windows::Calm;

const NAME: &str = "recovery";

/// An operation that began after the last fault was healed succeeds within the bound.
pub(super) fn recovery(run: &Run, options: &Options) -> Check {
    let header = run.header();
    let bound_ms = options.recovery_ms.unwrap_or(header.failover_bound_ms() + MARGIN_MS);
    let bound_ns = bound_ms * NS_PER_MS;
    let mut findings = Vec::new();
    let mut slowest_ns = 0;
    let hurt = Calm::new(&run.windows, 0);
    let healed = hurt.hurt().iter().filter(|(_, end_ns)| *end_ns != u64::MAX);
    let mut healings = 0;
    for (place, (_, end_ns)) in healed.enumerate() {
        let next_ns = hurt.hurt().get(place + 1).map_or(run.history.end_ns(), |(start, _)| *start);
        let served = run
            .operations
            .iter()
            .filter(|it| it.invoke_ns >= *end_ns && is_served(it.refused(), it.is_done()))
            .filter(|it| !it.act.is_stale_read())
            .filter_map(|it| it.return_ns)
            .min();
        healings += 1;
        let waited_ns = served.map(|at| at - end_ns);
        slowest_ns = slowest_ns.max(waited_ns.unwrap_or(0));
        // Too short a calm proves nothing.
        if next_ns - (*end_ns).min(next_ns) < bound_ns {
            continue;
        }
        if waited_ns.is_none_or(|waited| waited > bound_ns) {
            let when = *end_ns as f64 / 1e9;
            let what = match waited_ns {
                Some(waited) => format!("served after {:.3} s", waited as f64 / 1e9),
                None => "nobody was served any more".to_owned(),
            };
            findings.push(Finding {
                what: format!("healed at {when:.3} s, {what}; the bound is {bound_ms} ms"),
                events: Vec::new(),
            });
        }
    }
    let summary =
        format!("{healings} healings, served after {:.3} s at the latest", slowest_ns as f64 / 1e9);
    Check::of(NAME, summary, findings)
}

/// A decision of the ledger is service, also when it is no.
fn is_served(refused: Option<&str>, done: bool) -> bool {
    done || refused.is_some_and(|code| DECISIONS.contains(&code))
}

/// Refusals that only the ledger can give.
const DECISIONS: [&str; 6] = [
    "max_overage_exceeded",
    "pool_exhausted",
    "lease_ended",
    "already_ended",
    "renewal_token_replayed",
    "not_enough_free",
];
/// Beyond the failover bound: processes start, and clients connect anew.
const MARGIN_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;

    fn check(want: usize, text: &str) {
        let options = Options { recovery_ms: Some(100), ..Options::default() };
        let found = recovery(&sample::run(text), &options);
        assert_eq!(found.findings.len(), want, "{text}\n{found:?}");
    }

    #[test]
    fn clients_are_served_within_the_bound() {
        let fault = "10..50 fault kill\n";
        check(0, &format!("{fault} 60..150 read -> 0\n 900..901 read -> 0"));
        check(1, &format!("{fault} 60..150.1 read -> 0\n 900..901 read -> 0"));
        check(0, &format!("{fault} 60..150 take k1 -> full\n 900..901 read -> 0"));
        check(1, &format!("{fault} 60..90 take k1 -> no_space\n 900..901 read -> 0"));
        check(1, &format!("{fault} 60..90 stale -> 0\n 900..901 read -> 0"));
        // It had begun before: that proves nothing.
        check(1, &format!("{fault} 49..90 read -> 0\n 900..901 read -> 0"));
        check(1, &format!("{fault} 900..? read"));
        // The next fault comes too soon, or the run ends.
        check(0, &format!("{fault} 140..160 fault kill\n 170..180 read -> 0\n 900..901 read -> 0"));
        check(0, fault);
        check(0, "10..? fault kill\n 900..901 read -> 0");
        // Two faults at once are healed when both are.
        check(0, &format!("{fault} 20..200 fault pause\n 210..220 read -> 0\n 900..901 read -> 0"));
    }
}
