//! Whom this node talks to: the members, from the directories they joined with, whose logs still
//! hold what they once acknowledged.
//!
//! A follower that lost data would vote as if it had never promised anything, and openraft catches
//! that only in debug builds. So every message says which directory it comes from and how far that
//! directory's log ever was durable, and a peer that fell behind itself is refused for good.
//!
//! Messages overtake each other on the wire, so the durable position is compared between processes
//! only: a new process must begin where the former ones had come to. A running process cannot lose
//! what it has synced.

use std::collections::BTreeMap;

use lease::ids::NodeId;
use lease::planted::{self, Bug};
use parking_lot::Mutex;

use crate::frames::{Refused, Sender};
use crate::status::Position;

/// What was seen of each peer.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    seen: Mutex<BTreeMap<NodeId, Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Processes of this peer, oldest first.
    boots: Vec<u64>,
    durable: Option<Position>,
}

/// What the ledger says of a peer, where it says anything yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// Incarnation of the directory it joined with.
    pub(crate) directory: Option<u64>,
    /// Incarnation of this cluster.
    pub(crate) cluster: Option<u64>,
    /// Whether it is a member no more.
    pub(crate) removed: bool,
}

impl Admission {
    /// Judges a message's sender, and remembers how far its log was.
    pub(crate) fn admit(&self, sender: &Sender, known: Known) -> Result<(), Refused> {
        if planted::is(Bug::WipedTakesPart) {
            return Ok(());
        }
        if known.removed {
            return Err(Refused::Removed(sender.node));
        }
        if known.directory.is_some_and(|directory| directory != sender.directory) {
            return Err(Refused::OtherDirectory(sender.node));
        }
        if let (Some(ours), Some(theirs)) = (known.cluster, sender.cluster)
            && ours != theirs
        {
            return Err(Refused::OtherCluster(sender.node));
        }
        let mut seen = self.seen.lock();
        let seen = seen.entry(sender.node).or_default();
        if !seen.boots.contains(&sender.boot) {
            if sender.durable < seen.durable {
                return Err(Refused::LogWentBack(sender.node));
            }
            if seen.boots.len() == REMEMBERED_BOOTS {
                seen.boots.remove(0);
            }
            seen.boots.push(sender.boot);
        }
        seen.durable = seen.durable.max(sender.durable);
        Ok(())
    }

    /// The process that a peer was last seen to have begun.
    pub(crate) fn newest_boot(&self, peer: NodeId) -> Option<u64> {
        self.seen.lock().get(&peer)?.boots.last().copied()
    }
}

/// Late messages of an earlier process arrive within seconds, and few restarts fit into those.
const REMEMBERED_BOOTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(boot: u64, index: Option<u64>) -> Sender {
        let durable = index.map(|index| Position { term: 1, index });
        Sender { node: 2, directory: 5, boot, cluster: Some(9), durable }
    }

    #[test]
    fn a_peer_is_judged_by_directory_cluster_and_log() {
        let own = Known { directory: Some(5), cluster: Some(9), removed: false };
        let cases = [
            (Known::default(), vec![sender(1, None)], Ok(())),
            (own, vec![sender(1, Some(4)), sender(1, Some(3)), sender(2, Some(4))], Ok(())),
            (own, vec![sender(1, Some(4)), sender(2, Some(5)), sender(1, Some(4))], Ok(())),
            (own, vec![sender(1, Some(4)), sender(2, Some(3))], Err(Refused::LogWentBack(2))),
            (own, vec![sender(1, Some(4)), sender(2, None)], Err(Refused::LogWentBack(2))),
            (
                Known { directory: Some(6), ..own },
                vec![sender(1, None)],
                Err(Refused::OtherDirectory(2)),
            ),
            (
                Known { cluster: Some(8), ..own },
                vec![sender(1, None)],
                Err(Refused::OtherCluster(2)),
            ),
            (
                Known { removed: true, ..Known::default() },
                vec![sender(1, None)],
                Err(Refused::Removed(2)),
            ),
        ];
        for (known, messages, expected) in cases {
            let admission = Admission::default();
            let last = messages.iter().map(|sender| admission.admit(sender, known)).last();
            assert_eq!(last, Some(expected), "{messages:?}");
        }
    }
}
