//! The part of the log that is kept for peers that are being sent a snapshot.
//!
//! A snapshot is of one index; what came after it the peer gets from the log. To send and install
//! a large one takes longer than the pause between two checkpoints, after each of which the log is
//! cut: without this, a peer that is done with one snapshot would need the next, for ever.
//!
//! Only who leads holds: after a change of leaders, the new one may have cut its log already, and
//! the peer is sent another snapshot.
//!
//! ```text
//! hold ──► sent ──► installed ──► the peer's log reaches what the leader's had then: let go
//!            └ failed: let go           └ it does not within CATCH_UP: let go
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lease::ids::NodeId;
use parking_lot::Mutex;

/// What is held for which peer.
#[derive(Default)]
pub(crate) struct HeldLog {
    peers: Mutex<BTreeMap<NodeId, Held>>,
    /// Snapshots begun.
    begun: AtomicU64,
}

struct Held {
    /// Index of the snapshot.
    after: u64,
    /// Which snapshot of all that were begun.
    serial: u64,
    installed: Option<Installed>,
}

/// How far the peer is to come after its snapshot, and until when.
#[derive(Clone, Copy)]
struct Installed {
    index: u64,
    until_ns: u64,
}

impl HeldLog {
    /// Holds what follows a snapshot of index `after`, until what is given is dropped.
    pub(crate) fn hold(&self, peer: NodeId, after: u64) -> Holding<'_> {
        let serial = self.begun.fetch_add(1, Ordering::Relaxed);
        self.peers.lock().insert(peer, Held { after, serial, installed: None });
        Holding { log: self, peer, serial }
    }

    /// The index up to which nothing is held: entries after it must stay. `purged` is how far the
    /// log is cut already, `matched` how far each peer's log is known to be this leader's.
    pub(crate) fn free_up_to(
        &self,
        purged: u64,
        matched: &BTreeMap<NodeId, u64>,
        now_ns: u64,
    ) -> u64 {
        let mut peers = self.peers.lock();
        peers.retain(|peer, held| {
            held.installed.is_none_or(|installed| {
                let is_there = matched.get(peer).is_some_and(|index| *index >= installed.index);
                !is_there && now_ns < installed.until_ns
            })
        });
        // What follows a snapshot from before the cut is gone, whatever else is kept.
        let held = peers.values().map(|held| held.after).filter(|after| *after >= purged);
        held.min().unwrap_or(u64::MAX)
    }

    fn change(&self, peer: NodeId, serial: u64, change: impl FnOnce(Held) -> Option<Held>) {
        let mut peers = self.peers.lock();
        if let Some(held) = peers.remove(&peer) {
            let changed = if held.serial == serial { change(held) } else { Some(held) };
            changed.and_then(|held| peers.insert(peer, held));
        }
    }
}

/// A snapshot on its way to a peer.
pub(crate) struct Holding<'a> {
    log: &'a HeldLog,
    peer: NodeId,
    serial: u64,
}

impl Holding<'_> {
    /// The peer has the snapshot, and next needs the log up to an index.
    pub(crate) fn installed(self, index: u64, now_ns: u64) {
        let catch_up_ns = u64::try_from(CATCH_UP.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = now_ns.saturating_add(catch_up_ns);
        let installed = Some(Installed { index, until_ns });
        self.log.change(self.peer, self.serial, |held| Some(Held { installed, ..held }));
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let keep = |held: Held| held.installed.is_some().then_some(held);
        self.log.change(self.peer, self.serial, keep);
    }
}

/// For the log that has gathered while a snapshot was under way.
const CATCH_UP: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Begin {
            peer: NodeId,
            after: u64,
        },
        /// Ends the snapshot that was begun as the n-th of those under way.
        Install {
            which: usize,
            index: u64,
        },
        Fail {
            which: usize,
        },
        Match {
            peer: NodeId,
            index: u64,
        },
        Pass {
            ns: u64,
        },
        Cut {
            upto: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let peer = || 1_u64..4;
        prop_oneof![
            (peer(), 0_u64..100).prop_map(|(peer, after)| Step::Begin { peer, after }),
            (0_usize..4, 0_u64..100).prop_map(|(which, index)| Step::Install { which, index }),
            (0_usize..4).prop_map(|which| Step::Fail { which }),
            (peer(), 0_u64..100).prop_map(|(peer, index)| Step::Match { peer, index }),
            (0..CATCH_UP.as_nanos() as u64).prop_map(|ns| Step::Pass { ns }),
            (0_u64..100).prop_map(|upto| Step::Cut { upto }),
        ]
    }

    /// What the newest snapshot of a peer holds.
    #[derive(Default)]
    struct Newest {
        id: u64,
        after: Option<u64>,
        installed: Option<(u64, u64)>,
    }

    proptest! {
        #[test]
        fn the_newest_snapshot_to_each_peer_is_held_until_it_failed_or_was_caught_up_on(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let log = HeldLog::default();
            let mut under_way = Vec::new();
            let mut model = BTreeMap::<NodeId, Newest>::new();
            let (mut matched, mut now_ns, mut begun, mut purged) = (BTreeMap::new(), 0, 0, 0);
            for step in steps {
                match step {
                    Step::Begin { peer, after } => {
                        begun += 1;
                        under_way.push((peer, begun, log.hold(peer, after)));
                        let newest = Newest { id: begun, after: Some(after), installed: None };
                        model.insert(peer, newest);
                    }
                    Step::Install { which, index } if which < under_way.len() => {
                        let (peer, id, holding) = under_way.remove(which);
                        holding.installed(index, now_ns);
                        let newest = model.entry(peer).or_default();
                        if newest.id == id {
                            newest.installed = Some((index, now_ns));
                        }
                    }
                    Step::Fail { which } if which < under_way.len() => {
                        let (peer, id, _) = under_way.remove(which);
                        let newest = model.entry(peer).or_default();
                        if newest.id == id {
                            *newest = Newest::default();
                        }
                    }
                    Step::Match { peer, index } => {
                        matched.insert(peer, index);
                    }
                    Step::Pass { ns } => now_ns += ns,
                    Step::Cut { upto } => purged = upto.max(purged),
                    Step::Install { .. } | Step::Fail { .. } => {}
                }
                for (peer, newest) in &mut model {
                    if newest.installed.is_some_and(|(index, since_ns)| {
                        matched.get(peer).is_some_and(|at| *at >= index)
                            || now_ns - since_ns >= CATCH_UP.as_nanos() as u64
                    }) {
                        *newest = Newest::default();
                    }
                }
                let held = model.values().filter_map(|newest| newest.after);
                let wanted = held.filter(|after| *after >= purged).min().unwrap_or(u64::MAX);
                prop_assert_eq!(log.free_up_to(purged, &matched, now_ns), wanted);
            }
        }
    }
}
