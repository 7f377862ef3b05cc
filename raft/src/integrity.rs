//! The ballot over the replicas' sums: does a majority of voters hold the same rows?
//!
//! Pure. Every voter reports the sum over its rows at certain indexes with its acknowledgements;
//! the leader puts the value of a majority into the log, and whoever had another one finds out when
//! it applies that.

use std::collections::{BTreeMap, BTreeSet};

use lease::ids::NodeId;

use crate::frames::StateSum;

/// Sums reported in this term, by index.
#[derive(Debug, Default)]
pub(crate) struct Ballot {
    reported: BTreeMap<u64, BTreeMap<NodeId, [u8; 32]>>,
    decided_upto: Option<u64>,
}

/// What the ballot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority has this.
    Agreed(StateSum),
    /// All voters have reported, and no value has a majority.
    NoMajority(u64),
}

impl Ballot {
    /// Takes in one voter's report.
    pub(crate) fn report(&mut self, node: NodeId, sum: StateSum) {
        if self.decided_upto.is_some_and(|decided| sum.index <= decided) {
            return;
        }
        self.reported.entry(sum.index).or_default().insert(node, sum.sum);
        if self.reported.len() > OPEN_BALLOTS {
            self.reported.pop_first();
        }
    }

    /// The next index that is decided, once each.
    pub(crate) fn decide(&mut self, voters: &BTreeSet<NodeId>) -> Option<Verdict> {
        let verdict = self.reported.iter().find_map(|(index, reports)| {
            let votes: Vec<&[u8; 32]> = voters.iter().filter_map(|it| reports.get(it)).collect();
            let most = votes.iter().max_by_key(|sum| count(&votes, sum))?;
            if count(&votes, most) > voters.len() / 2 {
                Some(Verdict::Agreed(StateSum { index: *index, sum: **most }))
            } else if votes.len() == voters.len() {
                Some(Verdict::NoMajority(*index))
            } else {
                None
            }
        })?;
        let (Verdict::Agreed(StateSum { index, .. }) | Verdict::NoMajority(index)) = verdict;
        self.decided_upto = Some(index);
        self.reported.retain(|reported, _| *reported > index);
        Some(verdict)
    }
}

fn count(votes: &[&[u8; 32]], sum: &[u8; 32]) -> usize {
    votes.iter().filter(|vote| **vote == sum).count()
}

/// Indexes whose ballot may be open at once: a voter that lags reports late.
const OPEN_BALLOTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_of_equal_sums_decides_once() {
        let voters = BTreeSet::from([1, 2, 3]);
        let sum = |index, byte| StateSum { index, sum: [byte; 32] };
        let agreed = |index, byte| Some(Verdict::Agreed(sum(index, byte)));
        let cases = [
            (&[(1, 7)][..], None),
            (&[(1, 7), (2, 7)], agreed(1_000, 7)),
            (&[(1, 7), (2, 8)], None),
            (&[(1, 7), (2, 8), (3, 8)], agreed(1_000, 8)),
            (&[(1, 7), (2, 8), (3, 9)], Some(Verdict::NoMajority(1_000))),
            (&[(1, 7), (4, 7), (5, 7)], None),
        ];
        for (reports, expected) in cases {
            let mut ballot = Ballot::default();
            for (node, byte) in reports {
                ballot.report(*node, sum(1_000, *byte));
            }
            assert_eq!(ballot.decide(&voters), expected, "{reports:?}");
            if expected.is_some() {
                ballot.report(3, sum(1_000, 7));
                assert_eq!(ballot.decide(&voters), None, "decided twice: {reports:?}");
            }
        }
    }
}
