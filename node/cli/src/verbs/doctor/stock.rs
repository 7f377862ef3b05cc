//! The checks about what is kept: certificates, backups, packages, tables that have bounds.

use protocol::cloud::admin::{PackageState, PackageView};

use super::Grade::{Fail, Ok, Warn};
use super::Verdict;
use super::evidence::Evidence;
use crate::report::duration;

pub(super) fn certificates(evidence: &Evidence) -> Verdict {
    let status = evidence.status.iter();
    let soonest = status
        .flat_map(|status| status.details())
        .filter_map(|(node, detail)| Some((detail.certificate_until?.unix_ms, node.id, detail)))
        .min_by_key(|(until_ms, ..)| *until_ms);
    let Some((until_ms, node, detail)) = soonest else {
        return Verdict::unknown("no node says");
    };
    let left_ms = until_ms.saturating_sub(evidence.now_ms);
    let grade = match left_ms {
        ..259_200_000 => Fail,
        259_200_000..1_209_600_000 => Warn,
        _ => Ok,
    };
    let purpose = detail.certificate_purpose.as_deref().unwrap_or("a");
    let left = match u64::try_from(left_ms) {
        Result::Ok(left_ms) => format!("ends in {}", duration(left_ms)),
        Err(_) => "has ended".to_owned(),
    };
    Verdict::new(grade, format!("the {purpose} certificate of node {node} {left}"))
}

pub(super) fn backups(evidence: &Evidence) -> Verdict {
    let Some(status) = &evidence.status else {
        return Verdict::unknown("no node can say how the cluster is");
    };
    let newest = status.details().filter_map(|(_, it)| Some(it.last_backup_at?.unix_ms)).max();
    let Some(newest_ms) = newest else {
        return Verdict::new(Warn, "no node has made one");
    };
    let age_ms = u64::try_from(evidence.now_ms.saturating_sub(newest_ms)).unwrap_or(0);
    let grade = match age_ms {
        ..=93_600_000 => Ok,
        93_600_001..=604_800_000 => Warn,
        _ => Fail,
    };
    Verdict::new(grade, format!("the newest is {} old", duration(age_ms)))
}

pub(super) fn invitations(evidence: &Evidence) -> Verdict {
    let Some(members) = &evidence.members else {
        return Verdict::unknown("the members could not be asked for");
    };
    let ended: Vec<String> = members
        .invited
        .iter()
        .filter(|ticket| ticket.expires_in_ms == 0)
        .map(|ticket| format!("node {}", ticket.node_id))
        .collect();
    match ended.is_empty() {
        true => Verdict::new(Ok, format!("{} open", members.invited.len())),
        false => Verdict::new(Warn, format!("ended: {}", ended.join(", "))),
    }
}

/// What a check of packages says where they could not be asked for.
fn with_packages(
    evidence: &Evidence,
    is_wrong: impl Fn(&PackageView) -> bool,
    none_wrong: &str,
) -> Verdict {
    let Some(packages) = &evidence.packages else {
        return Verdict::unknown("the packages could not be asked for");
    };
    let active = packages.iter().filter(|it| it.state == PackageState::Active);
    let wrong: Vec<&str> =
        active.filter(|it| is_wrong(it)).map(|it| it.package_id.as_str()).collect();
    match wrong.as_slice() {
        [] => Verdict::new(Ok, none_wrong),
        [one] => Verdict::new(Warn, *one),
        [first, others @ ..] => Verdict::new(Warn, format!("{first} and {} more", others.len())),
    }
}

pub(super) fn packages_expiring(evidence: &Evidence) -> Verdict {
    let bound_ms = evidence.now_ms.saturating_add(30 * 86_400_000);
    with_packages(evidence, |it| it.valid_until.unix_ms < bound_ms, "none ends within 30 days")
}

pub(super) fn seats(evidence: &Evidence) -> Verdict {
    with_packages(evidence, is_used_up, "each has free seats")
}

fn is_used_up(package: &PackageView) -> bool {
    let seats = &package.seats;
    seats.commit_in_use.saturating_add(seats.overage_in_use) >= seats.total
}

/// How full a table with a bound is.
fn fill(evidence: &Evidence, metric: &str, bound: f64) -> Verdict {
    let Some(rows) = evidence.metric(metric) else {
        return Verdict::unknown("no server's metrics say");
    };
    let percent = rows / bound * 100.0;
    let grade = match percent {
        percent if percent > 90.0 => Fail,
        percent if percent > 50.0 => Warn,
        _ => Ok,
    };
    Verdict::new(grade, format!("{rows:.0} rows, {percent:.0} %"))
}

pub(super) fn request_table(evidence: &Evidence) -> Verdict {
    fill(evidence, "leasehold_idempotency_keys", 1_048_576.0)
}

pub(super) fn subjects(evidence: &Evidence) -> Verdict {
    fill(evidence, "leasehold_subjects", 4_194_304.0)
}

pub(super) fn audit(evidence: &Evidence) -> Verdict {
    let Some(status) = &evidence.status else {
        return Verdict::unknown("no node can say how the cluster is");
    };
    let Some(head) = status.audit_head_seq else { return Verdict::unknown("no node says") };
    let kept = head.0.saturating_sub(status.audit_floor_seq.map_or(0, |floor| floor.0));
    let grade = if kept > 50_000_000 { Warn } else { Ok };
    Verdict::new(grade, format!("{kept} events"))
}
