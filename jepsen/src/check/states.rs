//! What nodes say of themselves: equal states at equal index, and no panic in any log.

use std::collections::BTreeMap;

use crate::check::{Options, Run};
use crate::evidence::NodeState;
use crate::verdict::{Check, Finding};

/// Nodes at one index have one state.
pub(super) fn states(run: &Run, _: &Options) -> Check {
    let name = "states";
    let states = &run.evidence.states;
    let mut at: BTreeMap<u64, &NodeState> = BTreeMap::new();
    let mut findings = Vec::new();
    let mut compared = 0;
    for state in states {
        let Some(first) = at.get(&state.applied_index) else {
            at.insert(state.applied_index, state);
            continue;
        };
        compared += 1;
        if (&first.state_sum, &first.audit_head) != (&state.state_sum, &state.audit_head) {
            findings.push(Finding {
                what: format!(
                    "nodes {} and {} differ at index {}: {} and {}, audit {} and {}",
                    first.node,
                    state.node,
                    state.applied_index,
                    first.state_sum,
                    state.state_sum,
                    first.audit_head,
                    state.audit_head
                ),
                events: Vec::new(),
            });
        }
    }
    let summary = format!("{} states, {compared} compared", states.len());
    if compared == 0 {
        return Check::unknown(name, format!("{summary}: no two are of one index"), findings);
    }
    Check::of(name, summary, findings)
}

/// No node found itself wrong.
pub(super) fn panics(run: &Run, _: &Options) -> Check {
    let name = "panics";
    let evidence = &run.evidence;
    let findings = evidence.bad_lines.iter().map(|bad| Finding {
        what: format!("{}, line {}: {}", bad.file, bad.line, bad.text),
        events: Vec::new(),
    });
    let findings: Vec<Finding> = findings.collect();
    let summary = format!("{} logs", evidence.logs);
    if evidence.logs == 0 {
        return Check::unknown(name, "no log was kept", findings);
    }
    Check::of(name, summary, findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use crate::evidence::{BadLine, Evidence};
    use crate::verdict::Judgement;

    #[test]
    fn states_are_compared_at_one_index() {
        let judge = |states: &[(u64, &str, &str)]| {
            let state = |(node, (at, sum, head)): (u64, &(u64, &str, &str))| NodeState {
                node,
                applied_index: *at,
                state_sum: (*sum).to_owned(),
                audit_head: (*head).to_owned(),
            };
            let states = (1..).zip(states).map(state).collect();
            let evidence = Evidence { states, ..Evidence::default() };
            let run = sample::with(sample::header(), "", evidence);
            super::states(&run, &Options::default()).judgement
        };
        assert_eq!(judge(&[(9, "a", "x"), (9, "a", "x"), (9, "a", "x")]), Judgement::Valid);
        assert_eq!(judge(&[(9, "a", "x"), (9, "b", "x")]), Judgement::Invalid);
        assert_eq!(judge(&[(9, "a", "x"), (9, "a", "y")]), Judgement::Invalid);
        assert_eq!(judge(&[(9, "a", "x"), (8, "b", "x")]), Judgement::Unknown);
        assert_eq!(judge(&[(9, "a", "x")]), Judgement::Unknown);
        assert_eq!(judge(&[]), Judgement::Unknown);
    }

    #[test]
    fn a_bad_line_of_a_log_is_a_violation() {
        let judge = |logs: u64, lines: usize| {
            let bad =
                BadLine { file: "node-1.log".to_owned(), line: 3, text: "panicked".to_owned() };
            let bad_lines = vec![bad; lines];
            let evidence = Evidence { logs, bad_lines, ..Evidence::default() };
            let run = sample::with(sample::header(), "", evidence);
            panics(&run, &Options::default()).judgement
        };
        assert_eq!([judge(3, 0), judge(0, 0)], [Judgement::Valid, Judgement::Unknown]);
        assert_eq!(judge(3, 1), Judgement::Invalid);
    }
}
