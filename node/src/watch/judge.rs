//! From what is measured to what is wrong: which alarms this node wants to stand now.
//!
//! Pure: time and every measurement are arguments. A node judges its own disk, clock and
//! certificates, and whether it hears a leader; whoever leads judges how far the others are behind,
//! whether they answer, were refused, or hold another state than a majority. A managed certificate
//! is one that the cluster renews by itself.
//!
//! | kind | cause | stands after | ends after |
//! |---|---|---|---|
//! | `NOSPACE` | free bytes under the bound of [`super::room`] | at once | a quarter above it |
//! | `CLOCK` | consensus says so | at once | 60 s without |
//! | `CERT` | ends within 14 days, a managed one within a quarter of its life | at once | at once |
//! | `LAG` | more than 10,000 entries behind, or silent for 5 s | 10 s | 5 s |
//! | `REFUSED` | the leader and the node refuse each other | 5 s | 30 s |
//! | `CORRUPT` | its state differed from a majority's | at once | once it agrees again |

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::CertificateFacts;
use lease::ids::NodeId;
use lease::operate::AlarmKind;
use raft::Alarm;

use super::room::{self, Bounds};

/// What is measured at one look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// Monotonic time.
    pub(crate) now_ns: u64,
    /// Unix seconds of the wall clock.
    pub(crate) wall_s: i64,
    /// Free and all bytes of the disk; `None`: it could not be asked.
    pub(crate) disk: Option<Disk>,
    /// Certificates in use.
    pub(crate) certificates: Vec<CertificateFacts>,
    /// What consensus finds wrong with this node.
    pub(crate) consensus: Vec<Alarm>,
    /// Age of the last word of a leader; `None`: there was none, or this node leads.
    pub(crate) leader_contact_age_ms: Option<u64>,
    /// What it knows of the others because it leads.
    pub(crate) leading: Option<Vec<Sight>>,
}

/// Room on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Disk {
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) bounds: Bounds,
}

/// Another node, as its leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sight {
    pub(crate) node: NodeId,
    /// Entries of the leader's log that it has not.
    pub(crate) behind: u64,
    /// Age of its last acknowledgement; `None`: it never did.
    pub(crate) ack_age_ms: Option<u64>,
    pub(crate) refused: bool,
    pub(crate) agrees: Option<bool>,
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) node: NodeId,
    pub(crate) kind: AlarmKind,
    pub(crate) detail: String,
}

/// What this node has found so far.
#[derive(Debug, Clone)]
pub(crate) struct Judge {
    node: NodeId,
    conditions: BTreeMap<(NodeId, AlarmKind), Condition>,
    has_room: bool,
    leads_since_ns: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Condition {
    /// Since when the cause is there without a break.
    since_ns: Option<u64>,
    /// When it was last there.
    seen_ns: u64,
    stands: bool,
    detail: String,
}

impl Judge {
    /// Nothing found yet.
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node, conditions: BTreeMap::new(), has_room: true, leads_since_ns: None }
    }

    /// Takes in one look; gives what is wrong now, in order of node and kind.
    pub(crate) fn look(&mut self, measured: &Measured) -> Vec<Finding> {
        let now_ns = measured.now_ns;
        self.leads_since_ns = match measured.leading {
            Some(_) => self.leads_since_ns.or(Some(now_ns)),
            None => None,
        };
        self.judge_room(measured.disk);
        let own = self.node;
        let no_space = self.no_space(measured.disk);
        self.update(own, AlarmKind::NoSpace, now_ns, no_space);
        self.update(own, AlarmKind::Clock, now_ns, clock(&measured.consensus));
        self.update(own, AlarmKind::Cert, now_ns, certificate(measured));
        self.update(own, AlarmKind::Corrupt, now_ns, in_doubt(&measured.consensus));
        self.update(own, AlarmKind::Lag, now_ns, unheard(measured));
        match &measured.leading {
            // What was found as a leader is the next one's to find.
            None => self.conditions.retain(|(node, _), _| *node == own),
            Some(sights) => {
                let is_known = |node: NodeId| sights.iter().any(|sight| sight.node == node);
                self.conditions.retain(|(node, _), _| *node == own || is_known(*node));
                for sight in sights.iter().filter(|sight| sight.node != own) {
                    self.update(sight.node, AlarmKind::Lag, now_ns, behind(sight));
                    self.update(sight.node, AlarmKind::Refused, now_ns, refused(sight));
                    self.update(sight.node, AlarmKind::Corrupt, now_ns, differs(sight));
                }
            }
        }
        self.findings()
    }

    /// Whether the disk has room for what is written.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room
    }

    /// Whether an alarm in the log is this node's to clear: its own, or, once it has led for long
    /// enough to have found what there is, another's.
    pub(crate) fn may_clear(&self, node: NodeId, kind: AlarmKind, measured: &Measured) -> bool {
        let settled = self
            .leads_since_ns
            .is_some_and(|since_ns| measured.now_ns.saturating_sub(since_ns) >= SETTLED_NS);
        let sight = measured
            .leading
            .as_ref()
            .filter(|_| settled)
            .and_then(|sights| sights.iter().find(|sight| sight.node == node));
        match kind {
            AlarmKind::Clock | AlarmKind::Cert => node == self.node,
            // A node that is gone fills no disk, and must not keep the others from writing.
            AlarmKind::NoSpace => {
                let is_gone = |sight: &Sight| sight.ack_age_ms.is_none_or(|age| age >= GONE_MS);
                node == self.node || sight.is_some_and(is_gone)
            }
            AlarmKind::Lag | AlarmKind::Refused => {
                settled && (node == self.node || sight.is_some())
            }
            AlarmKind::Corrupt => sight.is_some_and(|sight| sight.agrees == Some(true)),
        }
    }

    /// A bound that was crossed has to be left behind by a quarter.
    fn judge_room(&mut self, disk: Option<Disk>) {
        let Some(Disk { free_bytes, bounds, .. }) = disk else { return };
        let bound_bytes = bounds.stop_bytes;
        let needed = if self.has_room { bound_bytes } else { room::left_behind(bound_bytes) };
        self.has_room = free_bytes >= needed;
    }

    fn no_space(&self, disk: Option<Disk>) -> Option<String> {
        let stands = self.stands(self.node, AlarmKind::NoSpace);
        let Some(Disk { free_bytes, total_bytes, bounds }) = disk else {
            // A disk that cannot be asked is not known to have room again.
            return stands.map(|condition| condition.detail.clone());
        };
        let bound_bytes = bounds.alarm_bytes;
        let needed = if stands.is_some() { room::left_behind(bound_bytes) } else { bound_bytes };
        (free_bytes < needed).then(|| {
            let (free, total) = (room::shown(free_bytes), room::shown(total_bytes));
            let needed = room::shown(needed);
            let stop = if self.has_room { "" } else { "; the node stores nothing more" };
            format!("{free} free of {total}, at least {needed} are needed{stop}")
        })
    }

    fn stands(&self, node: NodeId, kind: AlarmKind) -> Option<&Condition> {
        self.conditions.get(&(node, kind)).filter(|condition| condition.stands)
    }

    fn update(&mut self, node: NodeId, kind: AlarmKind, now_ns: u64, cause: Option<String>) {
        let (raise_after, clear_after) = patience(kind);
        let condition = self.conditions.entry((node, kind)).or_default();
        let Some(detail) = cause else {
            condition.since_ns = None;
            let gone_ns = now_ns.saturating_sub(condition.seen_ns);
            condition.stands &= Duration::from_nanos(gone_ns) < clear_after;
            return;
        };
        let since_ns = *condition.since_ns.get_or_insert(now_ns);
        condition.seen_ns = now_ns;
        condition.detail = detail;
        let there_ns = now_ns.saturating_sub(since_ns);
        condition.stands |= Duration::from_nanos(there_ns) >= raise_after;
    }

    fn findings(&self) -> Vec<Finding> {
        let standing = self.conditions.iter().filter(|(_, condition)| condition.stands);
        standing
            .map(|((node, kind), condition)| Finding {
                node: *node,
                kind: *kind,
                detail: condition.detail.clone(),
            })
            .collect()
    }
}

/// How long a cause must be there, and gone, before it counts.
fn patience(kind: AlarmKind) -> (Duration, Duration) {
    let seconds = Duration::from_secs;
    match kind {
        AlarmKind::NoSpace | AlarmKind::Cert | AlarmKind::Corrupt => (seconds(0), seconds(0)),
        AlarmKind::Clock => (seconds(0), seconds(60)),
        AlarmKind::Lag => (seconds(10), seconds(5)),
        AlarmKind::Refused => (seconds(5), seconds(30)),
    }
}

fn clock(consensus: &[Alarm]) -> Option<String> {
    let mut causes = consensus.iter().filter_map(|alarm| match alarm {
        Alarm::ClockRate => Some("its clock runs more than 1 % off the voters' median"),
        Alarm::CivilJump => Some("the voters' clocks jumped more than 10 minutes in a term"),
        Alarm::ClocksDisagree => Some("no majority of voters has clocks within 10 s"),
        Alarm::Corrupt | Alarm::NoStateSumMajority | Alarm::PeerRefused => None,
    });
    causes.next().map(str::to_owned)
}

fn in_doubt(consensus: &[Alarm]) -> Option<String> {
    let cause = consensus.iter().find_map(|alarm| match alarm {
        Alarm::Corrupt => Some("its state differs from a majority's: it stops"),
        Alarm::NoStateSumMajority => Some("no majority of voters agrees on the state"),
        _ => None,
    });
    cause.map(str::to_owned)
}

fn certificate(measured: &Measured) -> Option<String> {
    let soon = measured.certificates.iter().filter(|it| {
        let life_s = it.not_after_s.saturating_sub(it.not_before_s);
        let before_s = if it.managed { CERT_BEFORE_S.min(life_s / 4) } else { CERT_BEFORE_S };
        it.not_after_s.saturating_sub(measured.wall_s) < before_s
    });
    let soonest = soon.min_by_key(|it| it.not_after_s)?;
    let left_s = soonest.not_after_s.saturating_sub(measured.wall_s);
    let purpose = &soonest.purpose;
    Some(match left_s {
        ..=0 => format!("the {purpose} certificate has ended"),
        1..3_600 => format!("the {purpose} certificate ends within the hour"),
        3_600..172_800 => format!("the {purpose} certificate ends in {} hours", left_s / 3_600),
        _ => format!("the {purpose} certificate ends in {} days", left_s / 86_400),
    })
}

/// A node that follows nobody: told by its own report only, since it cannot write.
fn unheard(measured: &Measured) -> Option<String> {
    let is_leading = measured.leading.is_some();
    let age_ms = measured.leader_contact_age_ms.unwrap_or(u64::MAX);
    (!is_leading && age_ms >= SILENT_MS).then(|| "it hears no leader".to_owned())
}

fn behind(sight: &Sight) -> Option<String> {
    match sight.ack_age_ms {
        None => Some("it has not answered this leader".to_owned()),
        Some(age_ms) if age_ms >= SILENT_MS => {
            Some(format!("it has not answered for more than {} s", SILENT_MS / 1_000))
        }
        Some(_) if sight.behind > BEHIND_ENTRIES => {
            Some(format!("it is {} entries behind, at most {BEHIND_ENTRIES}", sight.behind))
        }
        Some(_) => None,
    }
}

fn refused(sight: &Sight) -> Option<String> {
    let why = "it is not the directory, or not the log, that joined; replace it";
    sight.refused.then(|| why.to_owned())
}

fn differs(sight: &Sight) -> Option<String> {
    let why = "its state differs from a majority's; replace it";
    (sight.agrees == Some(false)).then(|| why.to_owned())
}

/// Fourteen days.
const CERT_BEFORE_S: i64 = 14 * 86_400;
const BEHIND_ENTRIES: u64 = 10_000;
const SILENT_MS: u64 = 5_000;
/// A node that has been silent for so long is down.
const GONE_MS: u64 = 60_000;
/// What a new leader needs to find what the one before had found.
const SETTLED_NS: u64 = 30 * 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MIB: u64 = 1 << 20;

    fn disk(free_mib: u64) -> Option<Disk> {
        let bounds = Bounds { alarm_bytes: 200 * MIB, stop_bytes: 100 * MIB };
        Some(Disk { free_bytes: free_mib * MIB, total_bytes: 1_000 * MIB, bounds })
    }

    fn follower() -> Measured {
        Measured { leader_contact_age_ms: Some(50), disk: disk(900), ..Measured::default() }
    }

    fn leader(sights: &[Sight]) -> Measured {
        Measured { leading: Some(sights.to_vec()), disk: disk(900), ..Measured::default() }
    }

    fn sight(node: NodeId) -> Sight {
        Sight { node, ack_age_ms: Some(20), ..Sight::default() }
    }

    /// Plays looks of node 1 at these seconds; what stands after each, as `node KIND`.
    #[track_caller]
    fn check(looks: &[(u64, Measured, &[&str])]) -> Judge {
        let mut judge = Judge::new(1);
        for (at_s, measured, want) in looks {
            let measured = Measured { now_ns: (1_000 + at_s) * S, ..measured.clone() };
            let found = judge.look(&measured);
            let shown: Vec<String> =
                found.iter().map(|it| format!("{} {}", it.node, it.kind.name())).collect();
            assert_eq!(shown, *want, "after {at_s} s");
            for finding in found {
                assert!((1..=256).contains(&finding.detail.len()), "{finding:?}");
            }
        }
        judge
    }

    #[test]
    fn a_disk_is_full_at_once_and_has_room_when_a_quarter_more_is_free() {
        let at = |free_mib| Measured { disk: disk(free_mib), ..follower() };
        let unknown = Measured { disk: None, ..follower() };
        check(&[
            (0, at(200), &[]),
            (1, at(199), &["1 NOSPACE"]),
            (2, at(249), &["1 NOSPACE"]),
            (3, unknown, &["1 NOSPACE"]),
            (4, at(250), &[]),
            (5, at(201), &[]),
        ]);
    }

    #[test]
    fn a_node_stores_nothing_under_the_lower_bound() {
        let mut judge = Judge::new(1);
        for (free_mib, has_room) in [(100, true), (99, false), (124, false), (125, true)] {
            judge.look(&Measured { disk: disk(free_mib), ..follower() });
            assert_eq!(judge.has_room(), has_room, "{free_mib} MiB");
        }
    }

    #[test]
    fn certificates_are_told_of_in_time() {
        let measured = |days_left: i64, life_days: i64, managed| {
            let certificate = CertificateFacts {
                purpose: "peer".to_owned(),
                not_before_s: (days_left - life_days) * 86_400,
                not_after_s: days_left * 86_400,
                managed,
                ..CertificateFacts::default()
            };
            Measured { certificates: vec![certificate], ..follower() }
        };
        for (days_left, life_days, managed, wrong) in [
            (15, 365, false, false),
            (13, 365, false, true),
            (-1, 365, false, true),
            (13, 365, true, true),
            (13, 30, true, false),
            (7, 30, true, true),
            (13, 30, false, true),
        ] {
            let want: &[&str] = if wrong { &["1 CERT"] } else { &[] };
            check(&[(0, measured(days_left, life_days, managed), want)]);
        }
    }

    #[test]
    fn a_clock_alarm_outlives_its_cause_by_a_minute() {
        let off = Measured { consensus: vec![Alarm::ClockRate], ..follower() };
        check(&[(0, off, &["1 CLOCK"]), (59, follower(), &["1 CLOCK"]), (60, follower(), &[])]);
    }

    #[test]
    fn a_leader_tells_of_those_who_are_behind_silent_refused_or_different() {
        let far = Sight { behind: 10_001, ..sight(2) };
        let silent = Sight { ack_age_ms: Some(5_000), ..sight(2) };
        let never = Sight { ack_age_ms: None, ..sight(2) };
        for slow in [far, silent, never] {
            check(&[
                (0, leader(&[sight(1), slow]), &[]),
                (9, leader(&[slow]), &[]),
                (10, leader(&[slow]), &["2 LAG"]),
                (11, leader(&[sight(2)]), &["2 LAG"]),
                (15, leader(&[sight(2)]), &[]),
            ]);
        }
        let refused = Sight { refused: true, ..sight(3) };
        check(&[(0, leader(&[refused]), &[]), (5, leader(&[refused]), &["3 REFUSED"])]);
        let differs = Sight { agrees: Some(false), ..sight(3) };
        check(&[(0, leader(&[differs]), &["3 CORRUPT"])]);
    }

    #[test]
    fn who_stops_leading_tells_of_others_no_more_and_of_silence_around_it() {
        let differs = Sight { agrees: Some(false), ..sight(3) };
        let alone = Measured { leader_contact_age_ms: Some(6_000), ..follower() };
        check(&[
            (0, leader(&[differs]), &["3 CORRUPT"]),
            (1, follower(), &[]),
            (2, alone.clone(), &[]),
            (12, alone, &["1 LAG"]),
        ]);
    }

    #[test]
    fn an_alarm_is_cleared_by_whom_it_concerns_or_who_leads_long_enough() {
        use AlarmKind::{Cert, Clock, Corrupt, Lag, NoSpace, Refused};
        let sights = [
            sight(2),
            Sight { ack_age_ms: Some(61_000), ..sight(3) },
            Sight { agrees: Some(true), ..sight(4) },
        ];
        let judge = check(&[(0, leader(&sights), &[])]);
        let at = |s: u64| Measured { now_ns: (1_000 + s) * S, ..leader(&sights) };
        for (node, kind, at_once, settled) in [
            (1, NoSpace, true, true),
            (1, Clock, true, true),
            (1, Cert, true, true),
            (1, Lag, false, true),
            (2, Lag, false, true),
            (2, Refused, false, true),
            (9, Lag, false, false),
            (2, NoSpace, false, false),
            (3, NoSpace, false, true),
            (3, Cert, false, false),
            (3, Corrupt, false, false),
            (4, Corrupt, false, true),
        ] {
            assert_eq!(judge.may_clear(node, kind, &at(29)), at_once, "{node} {kind:?}");
            assert_eq!(judge.may_clear(node, kind, &at(30)), settled, "{node} {kind:?}");
        }
    }
}
