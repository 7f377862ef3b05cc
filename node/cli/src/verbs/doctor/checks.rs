//! The list of all checks, and those about nodes and consensus.

use std::collections::{BTreeMap, BTreeSet};

use super::Grade::{self, Fail, Ok, Warn};
use super::evidence::Evidence;
use super::{Check, Verdict, stock};
use crate::verbs::watching::{Detail, Node, Status, size};

/// Every check, in the order in which they are run.
pub(crate) static CHECKS: &[Check] = &[
    Check {
        name: "servers",
        threshold: "every server that is named is reached",
        fix: "start it, or take it out of --server and the context file",
        judge: servers,
    },
    Check {
        name: "tls",
        threshold: "every server's certificate chains to the authority given",
        fix: "give the cluster's authority with --ca-cert",
        judge: tls,
    },
    Check {
        name: "context",
        threshold: "at least two servers are named, where there are as many",
        fix: "name every gateway in the context file, so that one may fail",
        judge: context,
    },
    Check {
        name: "quorum",
        threshold: "a leader with a quorum, and one more voter may fail",
        fix: "bring back a voter that does not answer, or replace it",
        judge: quorum,
    },
    Check {
        name: "voters",
        threshold: "an odd number of voters, three or more",
        fix: "`leasehold member add`, or remove one: an even number tolerates no more failures",
        judge: voters,
    },
    Check {
        name: "zones",
        threshold: "no zone holds a quorum of the voters",
        fix: "replace a voter of that zone by one in another",
        judge: zones,
    },
    Check {
        name: "leader-stable",
        threshold: "at most two changes of the leader in an hour",
        fix: "look at fsync, clocks and the network; a wider preset waits longer",
        judge: leader_stable,
    },
    Check {
        name: "lag",
        threshold: "no node more than 1,000 entries behind",
        fix: "look at its disk and its network; `leasehold member replace` starts it anew",
        judge: lag,
    },
    Check {
        name: "clocks",
        threshold: "wall clocks within 500 ms of the leader's",
        fix: "run a time daemon (chrony) on every node",
        judge: clocks,
    },
    Check {
        name: "disk",
        threshold: "a quarter more free than the node's reserve",
        fix: "make room or a larger disk; below the reserve nothing new is written",
        judge: disk,
    },
    Check {
        name: "fsync",
        threshold: "99 of 100 writes of the log within 16 ms",
        fix: "give the log a disk of its own with power-loss protection",
        judge: fsync,
    },
    Check {
        name: "election-timing",
        threshold: "followers hear the leader within half the election timeout",
        fix: "set `preset` in node.toml to region or global, on every node",
        judge: election_timing,
    },
    Check {
        name: "sealed",
        threshold: "every node has its keys",
        fix: "give the node its key-encryption key (keys.kek in node.toml)",
        judge: sealed,
    },
    Check {
        name: "alarms",
        threshold: "none stands",
        fix: "`leasehold alarm list` says what was measured",
        judge: alarms,
    },
    Check {
        name: "versions",
        threshold: "one version on all nodes",
        fix: "finish the rolling upgrade: `leasehold cluster roll`",
        judge: |evidence| skew(evidence, "version", |it| it.version.clone()),
    },
    Check {
        name: "presets",
        threshold: "one timing preset on all nodes",
        fix: "set the same `preset` in every node.toml",
        judge: |evidence| skew(evidence, "preset", |it| it.preset.clone()),
    },
    Check {
        name: "epochs",
        threshold: "one epoch on all nodes",
        fix: "a node of a former epoch cannot come back: replace it",
        judge: |evidence| skew(evidence, "epoch", |it| it.epoch.to_string()),
    },
    Check {
        name: "data-keys",
        threshold: "one version of the data key on all unsealed nodes",
        fix: "wait for a node that is behind, or replace it; `leasehold keys status`",
        judge: |evidence| skew(evidence, "data key", data_key),
    },
    Check {
        name: "descriptors",
        threshold: "4,096 file descriptors or more for each node",
        fix: "raise LimitNOFILE of the service",
        judge: descriptors,
    },
    Check {
        name: "certificates",
        threshold: "every certificate is good for 14 days",
        fix: "`leasehold certs rotate`, or bring new files for those that you made",
        judge: stock::certificates,
    },
    Check {
        name: "backups",
        threshold: "a scheduled backup within 26 hours",
        fix: "set [snapshots] in node.toml; `leasehold snapshot save` makes one now",
        judge: stock::backups,
    },
    Check {
        name: "invitations",
        threshold: "no invitation to join that has ended",
        fix: "withdraw it: `leasehold member remove ID`",
        judge: stock::invitations,
    },
    Check {
        name: "packages-expiring",
        threshold: "no package ends within 30 days",
        fix: "ask the vendor for a renewal and import it",
        judge: stock::packages_expiring,
    },
    Check {
        name: "seats",
        threshold: "every active package has a free seat",
        fix: "`leasehold lease list`; move seats with `leasehold pool transfer`, or buy more",
        judge: stock::seats,
    },
    Check {
        name: "request-table",
        threshold: "at most half of 1,048,576 remembered requests",
        fix: "clients make too many keyed requests in 15 minutes; see `leasehold top`",
        judge: stock::request_table,
    },
    Check {
        name: "subjects",
        threshold: "at most half of 4,194,304 names of people and hosts",
        fix: "erase those who are gone: `leasehold subject erase`",
        judge: stock::subjects,
    },
    Check {
        name: "audit",
        threshold: "at most 50,000,000 audit events kept",
        fix: "`leasehold audit export`, then `leasehold audit prune`",
        judge: stock::audit,
    },
];

fn servers(evidence: &Evidence) -> Verdict {
    let total = evidence.servers.len();
    let missing: Vec<&str> =
        evidence.servers.iter().filter(|it| it.unreached.is_some()).map(|it| &*it.url).collect();
    match missing.len() {
        0 => Verdict::new(Ok, format!("{total} of {total} reached")),
        all if all == total => Verdict::new(Fail, "none is reached"),
        _ => Verdict::new(Warn, format!("not reached: {}", missing.join(", "))),
    }
}

fn tls(evidence: &Evidence) -> Verdict {
    let refused = evidence.servers.iter().find_map(|server| {
        let reason = server.unreached.as_ref().filter(|reason| reason.contains("certificate"))?;
        Some(format!("{}: {reason}", server.url))
    });
    match refused {
        Some(measured) => Verdict::new(Fail, measured),
        None => Verdict::new(Ok, "every connection was verified"),
    }
}

fn context(evidence: &Evidence) -> Verdict {
    let named = evidence.servers.len();
    let nodes = evidence.status.as_ref().map_or(0, |status| status.nodes.len());
    let grade = if named < nodes.min(2) { Warn } else { Ok };
    Verdict::new(grade, format!("{named} named, the cluster has {nodes}"))
}

/// What a check of the cluster's status says where there is none.
fn with_status(evidence: &Evidence, judge: impl FnOnce(&Status) -> Verdict) -> Verdict {
    match &evidence.status {
        Some(status) => judge(status),
        None => Verdict::unknown("no node can say how the cluster is"),
    }
}

fn quorum(evidence: &Evidence) -> Verdict {
    let Some(status) = &evidence.status else { return Verdict::new(Fail, "no node serves") };
    let quorum = status.quorum;
    let measured = format!("{} of {} voters answer", quorum.answering, quorum.voters);
    let grade = match status.leading() {
        None => Fail,
        Some(_) if quorum.may_fail == 0 && quorum.voters > 1 => Warn,
        Some(_) => Ok,
    };
    Verdict::new(grade, measured)
}

fn voters(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        let voters = status.quorum.voters;
        let grade = if voters >= 3 && voters % 2 == 1 { Ok } else { Warn };
        Verdict::new(grade, format!("{voters} voters"))
    })
}

fn zones(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        let mut zones: BTreeMap<String, u32> = BTreeMap::new();
        for node in status.nodes.iter().filter(|node| node.voter && !node.place().is_empty()) {
            *zones.entry(node.place()).or_default() += 1;
        }
        let Some((zone, most)) = zones.iter().max_by_key(|(_, voters)| **voters) else {
            return Verdict::unknown("no node names its zone");
        };
        let quorum = status.quorum;
        let grade = if *most >= quorum.needed && quorum.voters > 1 { Warn } else { Ok };
        Verdict::new(grade, format!("{most} of {} voters in {zone}", quorum.voters))
    })
}

fn leader_stable(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        // The first leader that a node sees is no change; a young node has seen too little.
        let rates = status.details().filter(|(_, detail)| detail.uptime_ms >= 600_000);
        let worst = rates
            .map(|(_, detail)| {
                let changes = detail.leader_changes.saturating_sub(1);
                (changes, changes as f64 * 3_600_000.0 / detail.uptime_ms as f64)
            })
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match worst {
            None => Verdict::unknown("no node has been up for ten minutes"),
            Some((changes, rate)) => {
                let grade = if changes >= 3 && rate > 2.0 { Warn } else { Ok };
                Verdict::new(grade, format!("{rate:.1} an hour"))
            }
        }
    })
}

/// The worst of all nodes that answer: what was measured is graded and said with its node.
fn worst_node<T: PartialOrd + Copy>(
    status: &Status,
    measure: impl Fn(&Node, &Detail) -> Option<T>,
    judge: impl Fn(T) -> Grade,
    say: impl Fn(T) -> String,
) -> Verdict {
    let mut worst: Option<(Grade, T, u64)> = None;
    for (node, detail) in status.details() {
        let Some(value) = measure(node, detail) else { continue };
        let grade = judge(value);
        let is_worse = worst.is_none_or(|(so_far, its, _)| (grade, value) > (so_far, its));
        if is_worse {
            worst = Some((grade, value, node.id));
        }
    }
    match worst {
        Some((grade, value, node)) => Verdict::new(grade, format!("{}, node {node}", say(value))),
        None => Verdict::unknown("no node says"),
    }
}

fn lag(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        worst_node(
            status,
            |node, _| node.lag.map(|lag| lag.0),
            |lag| match lag {
                ..=1_000 => Ok,
                1_001..=10_000 => Warn,
                _ => Fail,
            },
            |lag| format!("{lag} entries"),
        )
    })
}

fn clocks(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        worst_node(
            status,
            |_, detail| detail.clock_offset_ms.map(i64::unsigned_abs),
            |offset_ms| match offset_ms {
                ..=500 => Ok,
                501..=10_000 => Warn,
                _ => Fail,
            },
            |offset_ms| format!("{offset_ms} ms off"),
        )
    })
}

fn disk(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        let mut worst: Option<(Grade, String)> = None;
        for (node, detail) in status.details().filter(|(_, it)| it.disk_total_bytes > 0) {
            let (free, reserve) = (detail.disk_free_bytes, detail.disk_reserve_bytes);
            let grade = match free {
                free if free < reserve => Fail,
                free if free < reserve.saturating_add(reserve / 4) => Warn,
                _ => Ok,
            };
            let said = format!("{} free, reserve {}, node {}", size(free), size(reserve), node.id);
            if worst.as_ref().is_none_or(|(so_far, _)| grade > *so_far) {
                worst = Some((grade, said));
            }
        }
        match worst {
            Some((grade, said)) => Verdict::new(grade, said),
            None => Verdict::unknown("no node says"),
        }
    })
}

fn fsync(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        worst_node(
            status,
            |_, detail| detail.fsync_p99_us.filter(|_| detail.fsyncs >= ENOUGH_FSYNCS),
            |p99_us| match p99_us {
                ..=16_000 => Ok,
                16_001..=128_000 => Warn,
                _ => Fail,
            },
            |p99_us| format!("{} ms", p99_us.div_ceil(1_000)),
        )
    })
}

fn election_timing(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        let within_ms = |preset: &str| match preset {
            "region" => 400,
            "global" => 1_500,
            _ => 100,
        };
        let mut late: Vec<String> = Vec::new();
        let mut worst = 0;
        for (node, detail) in status.details() {
            let Some(age_ms) = detail.leader_contact_age_ms else { continue };
            worst = worst.max(age_ms);
            if age_ms > within_ms(&detail.preset) {
                late.push(format!("node {}", node.id));
            }
        }
        match late.is_empty() {
            true => Verdict::new(Ok, format!("heard {worst} ms ago at most")),
            false => Verdict::new(Warn, format!("{worst} ms ago: {}", late.join(", "))),
        }
    })
}

fn sealed(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        let sealed: Vec<String> = status
            .nodes
            .iter()
            .filter(|node| node.is_sealed())
            .map(|node| format!("node {}", node.id))
            .collect();
        match sealed.is_empty() {
            true => Verdict::new(Ok, "none is sealed"),
            false => Verdict::new(Fail, sealed.join(", ")),
        }
    })
}

fn alarms(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        let standing: Vec<String> =
            status.alarms.iter().map(|it| format!("node {} {}", it.node_id, it.kind)).collect();
        match standing.is_empty() {
            true => Verdict::new(Ok, "none stands"),
            false => Verdict::new(Fail, standing.join(", ")),
        }
    })
}

/// Whether all nodes that say so say the same.
fn skew(evidence: &Evidence, what: &str, of: fn(&Detail) -> String) -> Verdict {
    with_status(evidence, |status| {
        let values: BTreeSet<String> =
            status.details().map(|(_, it)| of(it)).filter(|it| !it.is_empty()).collect();
        let list = values.iter().cloned().collect::<Vec<_>>().join(", ");
        match values.len() {
            0 => Verdict::unknown("no node says"),
            1 => Verdict::new(Ok, format!("{what} {list}")),
            _ => Verdict::new(Warn, format!("{what}: {list}")),
        }
    })
}

/// A sealed node has none, which is another check's.
fn data_key(detail: &Detail) -> String {
    match detail.data_key_version {
        0 => String::new(),
        version => version.to_string(),
    }
}

fn descriptors(evidence: &Evidence) -> Verdict {
    with_status(evidence, |status| {
        let least = status.details().filter(|(_, it)| it.descriptors > 0);
        match least.min_by_key(|(_, detail)| detail.descriptors) {
            None => Verdict::unknown("no node says"),
            Some((node, detail)) => {
                let grade = match detail.descriptors {
                    ..1_024 => Fail,
                    1_024..4_096 => Warn,
                    _ => Ok,
                };
                Verdict::new(grade, format!("{}, node {}", detail.descriptors, node.id))
            }
        }
    })
}

/// A hundredth of less says nothing.
const ENOUGH_FSYNCS: u64 = 100;
