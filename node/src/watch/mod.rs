//! A node's watch: looks at itself twice a second, says what is wrong, and keeps its disk from
//! filling up under it.
//!
//! ```text
//! disk, certificates, consensus ─▶ judge ─▶ findings ─┬─▶ the node's report (always)
//!                                   │                 └─▶ the log: RaiseAlarm, ClearAlarm
//!                                   └─▶ room: whether anything more is stored
//! ```
//!
//! Looking never waits for the cluster, which is slowest just when a disk is full: whether there is
//! room is known within half a second, whatever becomes of proposals. Another loop takes the newest
//! look and tells the cluster.
//!
//! What is in the log is compared with what is found, and only the difference is proposed: a
//! command for each alarm that begins or ends, and a new measured value at most once a minute. An
//! alarm that an operator cleared and whose cause is still there is therefore raised again, and
//! what a full node cannot see in its own ledger is repeated every ten seconds. Without a quorum
//! nothing can be proposed; the report still says it.
//!
//! A leader whose disk has no room hands leadership to a voter that has, before it says so; where
//! none has, it stays and answers reads.
//!
//! What it leaves to others: what an alarm keeps from being written (`lease`), what a node without
//! room does (`raft`), certificates themselves.

mod judge;
pub(crate) mod room;
mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::{LocalAlarm, NodeControl};
use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::{NodeId, TraceId};
use lease::operate::{AlarmKind, RaiseAlarm};
use raft::{Cluster, NodeRole, Status};
use storage::seam::Clock;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::config::alarms::AlarmsFile;
use crate::control::Control;
use judge::{Disk, Finding, Judge, Measured, Sight};
use room::{Bounds, Sizes};
use told::{DETAIL_EVERY_NS, REPEAT_EVERY_NS, Told, Word};

/// The watch of a node.
pub(crate) struct Watch {
    pub(crate) node: NodeId,
    pub(crate) data_dir: PathBuf,
    pub(crate) alarms: AlarmsFile,
    pub(crate) cluster: Cluster,
    pub(crate) control: Arc<Control>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What the watch adds to a node's facts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    /// Bytes in the data directory.
    pub(crate) data_bytes: u64,
    /// Free bytes below which `NOSPACE` stands.
    pub(crate) reserve_bytes: u64,
    /// What is wrong now.
    pub(crate) alarms: Vec<LocalAlarm>,
}

/// Between two looks.
struct Looking {
    judge: Judge,
    sizes: Sizes,
    sized_at_ns: Option<u64>,
}

/// What was seen at one look.
struct Seen {
    status: Status,
    measured: Measured,
    findings: Vec<Finding>,
    /// As it was after this look.
    judge: Judge,
}

/// Between two words to the cluster.
#[derive(Default)]
struct Telling {
    told: Told,
    /// Not before this is anything proposed again.
    quiet_until_ns: u64,
    handed_over_ns: Option<u64>,
}

impl Watch {
    /// Runs as long as the node.
    pub(crate) async fn run(self) {
        let (seen, newest) = watch::channel(None);
        tokio::join!(self.look_around(&seen), self.report(newest));
    }

    /// Looks, and waits for nothing but this machine.
    async fn look_around(&self, seen: &watch::Sender<Option<Arc<Seen>>>) {
        let judge = Judge::new(self.node);
        let mut looking = Looking { judge, sizes: Sizes::default(), sized_at_ns: None };
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            seen.send_replace(Some(Arc::new(self.look(&mut looking).await)));
        }
    }

    /// Tells the cluster of the newest look, as long as that takes.
    async fn report(&self, mut newest: watch::Receiver<Option<Arc<Seen>>>) {
        let mut telling = Telling::default();
        while newest.changed().await.is_ok() {
            let Some(seen) = newest.borrow_and_update().clone() else { continue };
            if !seen.judge.has_room() && seen.status.role == NodeRole::Leader {
                self.hand_over(&mut telling, &seen).await;
            }
            if seen.status.leader.is_some() && seen.measured.now_ns >= telling.quiet_until_ns {
                self.tell(&mut telling, &seen).await;
            }
        }
    }

    async fn look(&self, looking: &mut Looking) -> Seen {
        let status = self.cluster.status();
        let measured = self.measure(looking, &status).await;
        let had_room = looking.judge.has_room();
        let findings = looking.judge.look(&measured);
        let has_room = looking.judge.has_room();
        if has_room != had_room {
            self.cluster.set_has_room(has_room);
            if has_room {
                info!("the disk has room again: this node stores what it is sent");
            } else {
                error!("the disk has no room: this node follows, answers reads, stores nothing");
            }
        }
        let bounds = measured.disk.map(|disk| disk.bounds).unwrap_or_default();
        self.cluster.set_reserve_bytes(bounds.stop_bytes);
        self.control.watched(Watched {
            data_bytes: looking.sizes.data_bytes,
            reserve_bytes: bounds.alarm_bytes,
            alarms: findings.iter().map(local_alarm).collect(),
        });
        Seen { status, measured, findings, judge: looking.judge.clone() }
    }

    async fn measure(&self, looking: &mut Looking, status: &Status) -> Measured {
        let now_ns = self.clock.monotonic_ns();
        let is_old = |at_ns: u64| now_ns.saturating_sub(at_ns) >= SIZES_LAST_NS;
        if looking.sized_at_ns.is_none_or(is_old) {
            let dir = self.data_dir.clone();
            if let Ok(sizes) = tokio::task::spawn_blocking(move || Sizes::of(&dir)).await {
                (looking.sizes, looking.sized_at_ns) = (sizes, Some(now_ns));
            }
        }
        let facts = self.control.facts();
        let (free_bytes, total_bytes) = (facts.disk_free_bytes, facts.disk_total_bytes);
        let bounds = Bounds::of(self.alarms.min_free, total_bytes, looking.sizes.state_bytes);
        let leads = status.leads_with_quorum(self.cluster.failover_bound());
        Measured {
            now_ns,
            wall_s: self.clock.wall_ms().div_euclid(1_000),
            disk: (total_bytes > 0).then_some(Disk { free_bytes, total_bytes, bounds }),
            certificates: facts.certificates,
            consensus: status.alarms.clone(),
            leader_contact_age_ms: status.leader_contact_age_ms,
            leading: leads.then(|| sights(status)),
        }
    }

    /// Proposes what makes the log say what is found.
    async fn tell(&self, telling: &mut Telling, seen: &Seen) {
        let now_ns = seen.measured.now_ns;
        let commands = self.difference(&telling.told, seen);
        if commands.is_empty() {
            return;
        }
        for command in &commands {
            match command {
                Command::RaiseAlarm(alarm) => {
                    let (node, kind) = (alarm.node, alarm.kind);
                    if telling.told.say((node, kind), Word::Raise, now_ns) {
                        let kind = kind.name();
                        warn!(node, kind, detail = %alarm.detail, "an alarm is raised");
                    }
                }
                Command::ClearAlarm { node, kind }
                    if telling.told.say((*node, *kind), Word::Clear, now_ns) =>
                {
                    info!(node, kind = kind.name(), "an alarm is cleared");
                }
                _ => {}
            }
        }
        let envelopes = commands.into_iter().map(|command| self.own(command)).collect();
        if let Err(error) = self.cluster.submit(envelopes, self.cluster.failover_bound()).await {
            debug!(%error, "alarms could not be written; the report has them");
            telling.told = Told::default();
            telling.quiet_until_ns = self.clock.monotonic_ns() + QUIET_NS;
        }
    }

    /// Commands for what the ledger does not say as it is found, and that were not said just now.
    fn difference(&self, told: &Told, seen: &Seen) -> Vec<Command> {
        let Seen { measured, findings, judge, .. } = seen;
        let is_due = |key, word, every_ns| told.is_due(key, word, measured.now_ns, every_ns);
        let ledger = self.cluster.ledger();
        let logged: BTreeMap<_, _> =
            ledger.alarms().map(|row| ((row.node, row.kind), &*row.detail)).collect();
        let mut commands: Vec<Command> = findings
            .iter()
            .filter(|finding| ledger.member(finding.node).is_some())
            .filter(|finding| {
                let key = (finding.node, finding.kind);
                match logged.get(&key) {
                    None => is_due(key, Word::Raise, REPEAT_EVERY_NS),
                    Some(said) => {
                        *said != finding.detail && is_due(key, Word::Raise, DETAIL_EVERY_NS)
                    }
                }
            })
            .map(raise)
            .collect();
        let is_found = |key: &(NodeId, AlarmKind)| {
            findings.iter().any(|finding| (finding.node, finding.kind) == *key)
        };
        let over = logged.keys().copied().filter(|key| {
            !is_found(key)
                && judge.may_clear(key.0, key.1, measured)
                && is_due(*key, Word::Clear, REPEAT_EVERY_NS)
        });
        commands.extend(over.map(|(node, kind)| Command::ClearAlarm { node, kind }));
        commands
    }

    fn own(&self, command: Command) -> Envelope {
        Envelope {
            actor: Actor::Node(self.node),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        }
    }

    /// Gives leadership to a voter that can store what it proposes, if there is one.
    async fn hand_over(&self, telling: &mut Telling, seen: &Seen) {
        let (status, now_ns) = (&seen.status, seen.measured.now_ns);
        let is_soon = |at_ns: u64| now_ns.saturating_sub(at_ns) < HAND_OVER_EVERY_NS;
        if telling.handed_over_ns.is_some_and(is_soon) {
            return;
        }
        let bound_ms = u64::try_from(self.cluster.failover_bound().as_millis()).unwrap_or(u64::MAX);
        let full: Vec<NodeId> = {
            let ledger = self.cluster.ledger();
            let alarms = ledger.alarms().filter(|row| row.kind == AlarmKind::NoSpace);
            alarms.map(|row| row.node).collect()
        };
        let heir = status
            .peers
            .iter()
            .filter(|peer| peer.voter && peer.id != self.node && !full.contains(&peer.id))
            .filter(|peer| peer.ack_age_ms.is_some_and(|age_ms| age_ms < bound_ms))
            .max_by_key(|peer| peer.matched);
        let Some(heir) = heir else { return };
        telling.handed_over_ns = Some(now_ns);
        match self.cluster.transfer_leader(Some(heir.id), self.cluster.failover_bound()).await {
            Ok(leader) => info!(leader, "leadership went to a node that has room"),
            Err(error) => warn!(%error, to = heir.id, "leadership was not handed over"),
        }
    }
}

fn sights(status: &Status) -> Vec<Sight> {
    let last_log = status.last_log.unwrap_or(0);
    let others = status.peers.iter().filter(|peer| peer.id != status.node);
    others
        .map(|peer| Sight {
            node: peer.id,
            behind: last_log.saturating_sub(peer.matched.unwrap_or(0)),
            ack_age_ms: peer.ack_age_ms,
            refused: peer.refused,
            agrees: peer.agrees,
        })
        .collect()
}

fn local_alarm(finding: &Finding) -> LocalAlarm {
    LocalAlarm {
        node: finding.node,
        kind: finding.kind.name().to_owned(),
        detail: finding.detail.clone(),
    }
}

fn raise(finding: &Finding) -> Command {
    Command::RaiseAlarm(RaiseAlarm {
        node: finding.node,
        kind: finding.kind,
        detail: finding.detail.as_str().into(),
    })
}

/// A disk that somebody else fills at 100 MB/s loses 50 MB meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Walking the data directory costs a few dozen system calls.
const SIZES_LAST_NS: u64 = 10 * 1_000_000_000;
/// After a proposal that failed.
const QUIET_NS: u64 = 2 * 1_000_000_000;
const HAND_OVER_EVERY_NS: u64 = 10 * 1_000_000_000;
