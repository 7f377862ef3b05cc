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
    decided: Option<StateSum>,
    warned_upto: Option<u64>,
    /// Whether the last report of a node that could be judged was what a majority has.
    judged: BTreeMap<NodeId, bool>,
}

/// What the ballot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority has this.
    Agreed(StateSum),
    /// Voters differ, and no value can reach a majority among those that are heard. A voter that
    /// comes back may still decide it.
    NoMajority(u64),
}

impl Ballot {
    /// Takes in one voter's report.
    pub(crate) fn report(&mut self, node: NodeId, sum: StateSum) {
        if let Some(decided) = self.decided
            && sum.index <= decided.index
        {
            if sum.index == decided.index {
                self.judged.insert(node, sum.sum == decided.sum);
            }
            return;
        }
        self.reported.entry(sum.index).or_default().insert(node, sum.sum);
        if self.reported.len() > OPEN_BALLOTS {
            self.reported.pop_first();
        }
    }

    /// Whether a node's state was what a majority has, when it was last compared; `None`: it was
    /// not compared yet.
    pub(crate) fn agrees(&self, node: NodeId) -> Option<bool> {
        self.judged.get(&node).copied()
    }

    /// The next index that is decided or cannot be, once each. `heard` are the voters known to be
    /// alive.
    pub(crate) fn decide(
        &mut self,
        voters: &BTreeSet<NodeId>,
        heard: &BTreeSet<NodeId>,
    ) -> Option<Verdict> {
        let agreed = self.reported.iter().find_map(|(index, reports)| {
            let (sum, votes) = most(voters, reports)?;
            (votes > voters.len() / 2).then_some(StateSum { index: *index, sum })
        });
        if let Some(agreed) = agreed {
            self.decided = Some(agreed);
            for (node, sum) in self.reported.remove(&agreed.index).unwrap_or_default() {
                self.judged.insert(node, sum == agreed.sum);
            }
            self.reported.retain(|reported, _| *reported > agreed.index);
            return Some(Verdict::Agreed(agreed));
        }
        let stuck = self.reported.keys().copied().find(|index| {
            self.warned_upto.is_none_or(|warned| *index > warned)
                && self.is_stuck(*index, voters, heard)
        })?;
        self.warned_upto = Some(stuck);
        Some(Verdict::NoMajority(stuck))
    }

    /// Whether voters differ at an index and those heard cannot settle it: too few are left that
    /// may yet report, or a majority has gone on to a later index.
    fn is_stuck(&self, index: u64, voters: &BTreeSet<NodeId>, heard: &BTreeSet<NodeId>) -> bool {
        let Some(reports) = self.reported.get(&index) else { return false };
        let Some((_, votes)) = most(voters, reports) else { return false };
        let differ = reports.iter().any(|(voter, sum)| {
            voters.contains(voter)
                && reports.iter().any(|(it, other)| voters.contains(it) && other != sum)
        });
        let mut later = self.reported.range(index + 1..).map(|(_, reports)| reports);
        let went_on = |voter: &&NodeId| later.clone().any(|it| it.contains_key(*voter));
        let outstanding = voters
            .iter()
            .filter(|it| heard.contains(it) && !reports.contains_key(it) && !went_on(it))
            .count();
        let majority = voters.len() / 2 + 1;
        let passed =
            later.any(|it| voters.iter().filter(|one| it.contains_key(one)).count() >= majority);
        differ && (votes + outstanding < majority || passed)
    }
}

/// The sum that most voters reported, and how many.
fn most(
    voters: &BTreeSet<NodeId>,
    reports: &BTreeMap<NodeId, [u8; 32]>,
) -> Option<([u8; 32], usize)> {
    let votes: Vec<[u8; 32]> = voters.iter().filter_map(|it| reports.get(it)).copied().collect();
    let count = |sum: &[u8; 32]| votes.iter().filter(|vote| *vote == sum).count();
    votes.iter().map(|sum| (*sum, count(sum))).max_by_key(|(_, votes)| *votes)
}

/// Indexes whose ballot may be open at once: a voter that lags reports late.
const OPEN_BALLOTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(index: u64, byte: u8) -> StateSum {
        StateSum { index, sum: [byte; 32] }
    }

    fn agreed(index: u64, byte: u8) -> Option<Verdict> {
        Some(Verdict::Agreed(sum(index, byte)))
    }

    fn stuck(index: u64) -> Option<Verdict> {
        Some(Verdict::NoMajority(index))
    }

    #[test]
    fn a_majority_of_equal_sums_decides_and_differing_ones_that_cannot_raise_an_alarm_once() {
        let voters = BTreeSet::from([1, 2, 3]);
        // Reports (voter, index, sum), the voters heard, and what comes of it.
        let cases = [
            (&[(1, 1_000, 7)][..], &[1, 2, 3][..], None),
            (&[(1, 1_000, 7)], &[1], None),
            (&[(1, 1_000, 7), (2, 1_000, 7)], &[1, 2, 3], agreed(1_000, 7)),
            (&[(1, 1_000, 7), (2, 1_000, 8)], &[1, 2, 3], None),
            (&[(1, 1_000, 7), (2, 1_000, 8)], &[1, 2], stuck(1_000)),
            (&[(1, 1_000, 7), (2, 1_000, 8), (3, 1_000, 8)], &[1], agreed(1_000, 8)),
            (&[(1, 1_000, 7), (2, 1_000, 8), (3, 1_000, 9)], &[1, 2, 3], stuck(1_000)),
            (&[(1, 1_000, 7), (4, 1_000, 7), (5, 1_000, 8)], &[1, 4, 5], None),
            // Gone on without a majority at the first: by too few, and by enough.
            (&[(1, 1_000, 7), (2, 1_000, 8), (1, 2_000, 5)], &[1, 2, 3], None),
            (&[(1, 1_000, 7), (2, 1_000, 8), (3, 2_000, 5)], &[1, 2, 3], stuck(1_000)),
            (
                &[(1, 1_000, 7), (2, 1_000, 8), (1, 2_000, 5), (2, 2_000, 6)],
                &[1, 2, 3],
                stuck(1_000),
            ),
            // A report that was left out, where nobody differs, is no damage.
            (&[(1, 1_000, 7), (2, 2_000, 8), (3, 2_000, 8)], &[1, 2, 3], agreed(2_000, 8)),
            (&[(1, 1_000, 7), (2, 2_000, 8)], &[1, 2], None),
        ];
        for (reports, heard, expected) in cases {
            let heard = heard.iter().copied().collect();
            let mut ballot = Ballot::default();
            for (node, index, byte) in reports {
                ballot.report(*node, sum(*index, *byte));
            }
            assert_eq!(ballot.decide(&voters, &heard), expected, "{reports:?}");
            assert_eq!(ballot.decide(&voters, &heard), None, "decided twice: {reports:?}");
        }
    }

    #[test]
    fn whoever_differs_from_a_majority_is_known_until_it_agrees() {
        let voters = BTreeSet::from([1, 2, 3]);
        let mut ballot = Ballot::default();
        ballot.report(1, sum(1_000, 7));
        ballot.report(2, sum(1_000, 7));
        assert_eq!(ballot.agrees(1), None);
        assert_eq!(ballot.decide(&voters, &voters), agreed(1_000, 7));
        assert_eq!([1, 2, 3].map(|node| ballot.agrees(node)), [Some(true), Some(true), None]);
        ballot.report(3, sum(1_000, 8));
        assert_eq!(ballot.agrees(3), Some(false));
        for node in [1, 2, 3] {
            ballot.report(node, sum(2_000, 9));
        }
        assert_eq!(ballot.agrees(3), Some(false));
        assert_eq!(ballot.decide(&voters, &voters), agreed(2_000, 9));
        assert_eq!(ballot.agrees(3), Some(true));
    }

    #[test]
    fn a_voter_that_comes_back_settles_what_the_others_could_not() {
        let voters = BTreeSet::from([1, 2, 3]);
        let mut ballot = Ballot::default();
        ballot.report(1, sum(1_000, 7));
        ballot.report(2, sum(1_000, 8));
        assert_eq!(ballot.decide(&voters, &BTreeSet::from([1, 2])), stuck(1_000));
        ballot.report(3, sum(1_000, 8));
        assert_eq!(ballot.decide(&voters, &voters), agreed(1_000, 8));
        ballot.report(1, sum(1_000, 7));
        assert_eq!(ballot.decide(&voters, &voters), None);
    }
}
