//! A node's watch: looks at itself twice a second, says what is wrong, and keeps its disk from
//! filling up under it.
//!
//! ```text
//! disk, certificates, consensus ─▶ judge ─▶ findings ─┬─▶ the node's report (always)
//!                                   │                 └─▶ the log: RaiseAlarm, ClearAlarm
//!                                   └─▶ room: whether anything more is stored
//! ```
//!
//! What is in the log is compared with what is found, and only the difference is proposed: a
//! command for each alarm that begins or ends, and a new measured value at most once a minute. An
//! alarm that an operator cleared and whose cause is still there is therefore raised again. Without
//! a quorum nothing can be proposed; the report still says it.
//!
//! A leader whose disk has no room hands leadership to a voter that has; where none has, it stays
//! and answers reads.
//!
//! What it leaves to others: what an alarm keeps from being written (`lease`), what a node without
//! room does (`raft`), certificates themselves.

mod judge;
pub(crate) mod room;

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
use tracing::{debug, error, info, warn};

use crate::config::alarms::AlarmsFile;
use crate::control::Control;
use judge::{Disk, Finding, Judge, Measured, Sight};
use room::{Bounds, Sizes};

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
struct State {
    judge: Judge,
    sizes: Sizes,
    sized_at_ns: Option<u64>,
    /// When a measured value of an alarm was last proposed.
    told_ns: BTreeMap<(NodeId, AlarmKind), u64>,
    /// Not before this is anything proposed again.
    quiet_until_ns: u64,
    handed_over_ns: Option<u64>,
}

impl Watch {
    /// Runs as long as the node.
    pub(crate) async fn run(self) {
        let mut state = State {
            judge: Judge::new(self.node),
            sizes: Sizes::default(),
            sized_at_ns: None,
            told_ns: BTreeMap::new(),
            quiet_until_ns: 0,
            handed_over_ns: None,
        };
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.look(&mut state).await;
        }
    }

    async fn look(&self, state: &mut State) {
        let status = self.cluster.status();
        let measured = self.measure(state, &status).await;
        let had_room = state.judge.has_room();
        let findings = state.judge.look(&measured);
        let has_room = state.judge.has_room();
        if has_room != had_room {
            self.cluster.set_has_room(has_room);
            if has_room {
                info!("the disk has room again: this node stores what it is sent");
            } else {
                error!("the disk has no room: this node follows, answers reads, stores nothing");
            }
        }
        let bounds = measured.disk.map(|disk| disk.bounds).unwrap_or_default();
        self.control.watched(Watched {
            data_bytes: state.sizes.data_bytes,
            reserve_bytes: bounds.alarm_bytes,
            alarms: findings.iter().map(local_alarm).collect(),
        });
        if status.leader.is_some() && measured.now_ns >= state.quiet_until_ns {
            self.tell(state, &measured, &findings).await;
        }
        if !has_room && status.role == NodeRole::Leader {
            self.hand_over(state, &status, measured.now_ns).await;
        }
    }

    async fn measure(&self, state: &mut State, status: &Status) -> Measured {
        let now_ns = self.clock.monotonic_ns();
        let is_old = |at_ns: u64| now_ns.saturating_sub(at_ns) >= SIZES_LAST_NS;
        if state.sized_at_ns.is_none_or(is_old) {
            let dir = self.data_dir.clone();
            if let Ok(sizes) = tokio::task::spawn_blocking(move || Sizes::of(&dir)).await {
                (state.sizes, state.sized_at_ns) = (sizes, Some(now_ns));
            }
        }
        let facts = self.control.facts();
        let (free_bytes, total_bytes) = (facts.disk_free_bytes, facts.disk_total_bytes);
        let bounds = Bounds::of(self.alarms.min_free, total_bytes, state.sizes.state_bytes);
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
    async fn tell(&self, state: &mut State, measured: &Measured, findings: &[Finding]) {
        let now_ns = measured.now_ns;
        let commands = {
            let ledger = self.cluster.ledger();
            let logged: BTreeMap<_, _> =
                ledger.alarms().map(|row| ((row.node, row.kind), &*row.detail)).collect();
            let is_member = |node: NodeId| ledger.member(node).is_some();
            let is_due = |key: &(NodeId, AlarmKind)| {
                let told_ns = state.told_ns.get(key);
                told_ns.is_none_or(|told_ns| now_ns.saturating_sub(*told_ns) >= DETAIL_EVERY_NS)
            };
            let mut commands: Vec<Command> = findings
                .iter()
                .filter(|finding| is_member(finding.node))
                .filter(|finding| {
                    let key = (finding.node, finding.kind);
                    logged.get(&key).is_none_or(|said| *said != finding.detail && is_due(&key))
                })
                .map(raise)
                .collect();
            let is_found = |key: &(NodeId, AlarmKind)| {
                findings.iter().any(|finding| (finding.node, finding.kind) == *key)
            };
            for key in logged.keys().filter(|key| !is_found(key)) {
                if state.judge.may_clear(key.0, key.1, measured) {
                    commands.push(Command::ClearAlarm { node: key.0, kind: key.1 });
                }
            }
            commands
        };
        if commands.is_empty() {
            return;
        }
        for command in &commands {
            match command {
                Command::RaiseAlarm(alarm) => {
                    let key = (alarm.node, alarm.kind);
                    if state.told_ns.insert(key, now_ns).is_none() {
                        let (node, kind) = (alarm.node, alarm.kind.name());
                        warn!(node, kind, detail = %alarm.detail, "an alarm is raised");
                    }
                }
                Command::ClearAlarm { node, kind } => {
                    state.told_ns.remove(&(*node, *kind));
                    info!(node, kind = kind.name(), "an alarm is cleared");
                }
                _ => {}
            }
        }
        let envelopes = commands.into_iter().map(|command| self.own(command)).collect();
        if let Err(error) = self.cluster.submit(envelopes, self.cluster.failover_bound()).await {
            debug!(%error, "alarms could not be written; the report has them");
            state.told_ns.clear();
            state.quiet_until_ns = self.clock.monotonic_ns() + QUIET_NS;
        }
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
    async fn hand_over(&self, state: &mut State, status: &Status, now_ns: u64) {
        let is_soon = |at_ns: u64| now_ns.saturating_sub(at_ns) < HAND_OVER_EVERY_NS;
        if state.handed_over_ns.is_some_and(is_soon) {
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
        state.handed_over_ns = Some(now_ns);
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
/// Measured values change all the time; an entry of the log for each would fill it.
const DETAIL_EVERY_NS: u64 = 60 * 1_000_000_000;
/// After a proposal that failed.
const QUIET_NS: u64 = 2 * 1_000_000_000;
const HAND_OVER_EVERY_NS: u64 = 10 * 1_000_000_000;
