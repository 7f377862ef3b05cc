//! Every acknowledged act is in the audit chain exactly once, in the order of real time, and
//! nothing is there that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::fences::{Granted, grants};
use crate::audit::{Audit, Happened, Record};
use crate::check::{Options, Run};
use crate::history::{Act, Answer};
use crate::operation::Outcome;
use crate::verdict::{Check, Finding};

const NAME: &str = "audit";

/// The log holds what was acknowledged, once.
pub(super) fn audit(run: &Run, _: &Options) -> Check {
    let audits = &run.evidence.audits;
    let mut findings = chains(audits);
    let Some(log) = run.evidence.audit() else {
        if findings.is_empty() {
            return Check::unknown(NAME, "no audit log was exported", findings);
        }
        return Check::of(NAME, "no audit log is whole", findings);
    };
    let found = Log::of(run, log);
    findings.extend(found.twice());
    findings.extend(found.grants(run));
    findings.extend(found.ends(run));
    findings.extend(found.borrows(run));
    findings.extend(found.transfers(run));
    findings.extend(found.unasked(run));
    findings.extend(found.order(run));
    let summary = format!(
        "{} chains, {} events about packages, up to number {}",
        audits.len(),
        log.records.len(),
        log.range.1
    );
    Check::of(NAME, summary, findings)
}

fn finding(what: String, events: Vec<u64>) -> Finding {
    Finding { what, events }
}

/// Each chain is whole, and those of two nodes are one as far as both go.
fn chains(audits: &BTreeMap<u64, Audit>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (node, audit) in audits {
        if let Some(why) = &audit.broken {
            findings.push(finding(format!("node {node}: {why}"), vec![]));
        }
    }
    let whole: Vec<(&u64, &Audit)> = audits.iter().filter(|(_, audit)| audit.is_whole()).collect();
    for pair in whole.windows(2) {
        let [(one, first), (other, second)] = pair else { continue };
        let last = first.range.1.min(second.range.1);
        let from = first.range.0.max(second.range.0);
        let common = |audit: &Audit| -> Vec<Record> {
            let records = audit.records.iter();
            records.filter(|it| (from..=last).contains(&it.seq)).cloned().collect()
        };
        let heads_differ = first.range.1 == second.range.1 && first.head != second.head;
        if heads_differ || common(first) != common(second) {
            let what = format!("the logs of nodes {one} and {other} differ up to event {last}");
            findings.push(finding(what, vec![]));
        }
    }
    findings
}

/// The records of a log by what they are about.
struct Log<'a> {
    granted: BTreeMap<&'a str, Vec<&'a Record>>,
    ended: BTreeMap<&'a str, Vec<&'a Record>>,
    others: Vec<&'a Record>,
}

impl<'a> Log<'a> {
    fn of(run: &'a Run, log: &'a Audit) -> Self {
        let mut found =
            Self { granted: BTreeMap::new(), ended: BTreeMap::new(), others: Vec::new() };
        for record in log.records.iter().filter(|record| run.terms(&record.package).is_some()) {
            let place = match &record.what {
                Happened::Granted { .. } => &mut found.granted,
                what if what.ends() => &mut found.ended,
                _ => {
                    found.others.push(record);
                    continue;
                }
            };
            place.entry(record.lease.as_str()).or_default().push(record);
        }
        found
    }

    /// No lease is granted or ended twice, nor ended before it was granted.
    fn twice(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (what, records) in [("granted", &self.granted), ("ended", &self.ended)] {
            for (lease, records) in records.iter().filter(|(_, records)| records.len() > 1) {
                let what = format!("the log has lease {lease} {what} {} times", records.len());
                findings.push(finding(what, vec![]));
            }
        }
        for (lease, ended) in &self.ended {
            let granted = self.granted.get(lease).and_then(|records| records.first());
            if granted.is_none_or(|granted| granted.seq > ended[0].seq) {
                let what = format!("the log has lease {lease} ended before it was granted");
                findings.push(finding(what, vec![]));
            }
        }
        findings
    }

    /// Every grant that was answered is there, as it was answered.
    fn grants(&self, run: &Run) -> Vec<Finding> {
        let mut findings = Vec::new();
        for operation in &run.operations {
            let (
                Act::Checkout { seats, holder, .. },
                Outcome::Done(Answer::Granted { lease, fence, class, .. }),
            ) = (&operation.act, &operation.outcome)
            else {
                continue;
            };
            let Some(record) = self.granted.get(lease.as_str()).and_then(|it| it.first()) else {
                let what = format!("lease {lease} was granted, and the log does not have it");
                findings.push(finding(what, operation.events()));
                continue;
            };
            let Happened::Granted { fence: at, class: of, seats: taken, .. } = &record.what else {
                continue;
            };
            let of_holder = record.user.as_ref().is_none_or(|user| user == holder);
            if (at, of, taken) != (fence, class, seats) || !of_holder {
                let what = format!("lease {lease} was granted otherwise than event {}", record.seq);
                findings.push(finding(what, operation.events()));
            }
        }
        findings
    }

    /// Every return that was answered is there; none is there that nobody asked for.
    fn ends(&self, run: &Run) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut asked: BTreeSet<&str> = BTreeSet::new();
        for operation in &run.operations {
            let Act::Return { lease, .. } = &operation.act else { continue };
            if operation.may_have_happened() {
                asked.insert(lease);
            }
            let ended = self.ended.get(lease.as_str()).and_then(|records| records.first());
            let is_there = ended.is_some_and(|record| record.what == Happened::Returned);
            if operation.is_done() && !is_there {
                let what = format!("lease {lease} was given back, and the log does not have it");
                findings.push(finding(what, operation.events()));
            }
        }
        for (lease, records) in &self.ended {
            for record in records {
                match &record.what {
                    Happened::Returned if !asked.contains(lease) => {
                        let seq = record.seq;
                        let what = format!("event {seq}: nobody gave lease {lease} back");
                        findings.push(finding(what, vec![]));
                    }
                    Happened::Ended(kind) => {
                        let what = format!("event {}: {kind} of lease {lease}", record.seq);
                        findings.push(finding(what, vec![]));
                    }
                    _ => {}
                }
            }
        }
        findings
    }

    /// Every borrow that was answered is there, and every return of one.
    fn borrows(&self, run: &Run) -> Vec<Finding> {
        let of = |wanted: &Happened| -> BTreeSet<&str> {
            let of_kind = self.others.iter().filter(|record| record.what == *wanted);
            of_kind.map(|record| record.lease.as_str()).collect()
        };
        let (borrowed, given_up) = (of(&Happened::Borrowed), of(&Happened::BorrowReturned));
        let done = run.operations.iter().filter(|operation| operation.is_done());
        done.filter_map(|operation| {
            let (lease, there) = match &operation.act {
                Act::Borrow { lease, .. } => (lease, &borrowed),
                Act::ReturnBorrow { lease, .. } => (lease, &given_up),
                _ => return None,
            };
            let name = operation.act.name();
            let what =
                format!("{name} of lease {lease} was answered, and the log does not have it");
            (!there.contains(lease.as_str())).then(|| finding(what, operation.events()))
        })
        .collect()
    }

    /// As many transfers are there as were answered, and no more than were asked for.
    fn transfers(&self, run: &Run) -> Vec<Finding> {
        type Moved<'b> = (&'b str, &'b str, &'b str, u32);
        let mut logged: BTreeMap<Moved<'_>, usize> = BTreeMap::new();
        for record in &self.others {
            if let Happened::Transferred { from, to, seats } = &record.what {
                let (from, to) = (from.as_deref(), to.as_deref());
                let moved = (from.unwrap_or_default(), to.unwrap_or_default(), *seats);
                *logged.entry((&record.package, moved.0, moved.1, moved.2)).or_default() += 1;
            }
        }
        let mut asked: BTreeMap<Moved<'_>, BTreeMap<&str, bool>> = BTreeMap::new();
        for operation in run.operations.iter().filter(|it| it.may_have_happened()) {
            if let Act::Transfer { package, from, to, seats, key } = &operation.act {
                let keys = asked.entry((package, from, to, *seats)).or_default();
                *keys.entry(key).or_default() |= operation.is_done();
            }
        }
        let all: BTreeSet<Moved<'_>> = logged.keys().chain(asked.keys()).copied().collect();
        let wrong = all.into_iter().filter_map(|moved| {
            let there = logged.get(&moved).copied().unwrap_or(0);
            let keys = asked.get(&moved);
            let most = keys.map_or(0, BTreeMap::len);
            let least = keys.map_or(0, |keys| keys.values().filter(|done| **done).count());
            (there < least || there > most).then(|| {
                let (package, from, to, seats) = moved;
                let what = format!(
                    "{package}: {there} transfers of {seats} from '{from}' to '{to}' in the log; \
                     {least} were answered, {most} asked for"
                );
                finding(what, vec![])
            })
        });
        wrong.collect()
    }

    /// No lease is there that was refused, or that nobody asked for.
    fn unasked(&self, run: &Run) -> Vec<Finding> {
        let mut asked: BTreeMap<&str, bool> = BTreeMap::new();
        let mut answered: BTreeSet<&str> = BTreeSet::new();
        for operation in &run.operations {
            if let Act::Checkout { holder, .. } = &operation.act {
                *asked.entry(holder).or_default() |= operation.may_have_happened();
            }
            if let Outcome::Done(Answer::Granted { lease, .. }) = &operation.outcome {
                answered.insert(lease);
            }
        }
        let silent = self.granted.iter().filter(|(lease, _)| !answered.contains(*lease));
        silent
            .filter_map(|(lease, records)| {
                let (seq, user) = (records[0].seq, records[0].user.as_deref()?);
                let what = match asked.get(user) {
                    Some(true) => return None,
                    Some(false) => format!("event {seq}: lease {lease} was refused, and granted"),
                    None => format!("event {seq}: nobody asked for lease {lease} of {user}"),
                };
                Some(finding(what, vec![]))
            })
            .collect()
    }

    /// What was answered before something else was asked for stands before it.
    fn order(&self, run: &Run) -> Vec<Finding> {
        let mut acts: Vec<(u64, u64, u64, &str)> = Vec::new();
        for Granted { lease, first_ns, last_ns, .. } in grants(run) {
            if let Some(record) = self.granted.get(lease).and_then(|it| it.first()) {
                acts.push((first_ns, last_ns, record.seq, lease));
            }
        }
        let mut returns: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for operation in run.operations.iter().filter(|it| it.may_have_happened()) {
            if let Act::Return { lease, .. } = &operation.act {
                let end_ns = operation.return_ns.unwrap_or(u64::MAX);
                let span = returns.entry(lease).or_insert((operation.invoke_ns, end_ns));
                *span = (span.0.min(operation.invoke_ns), span.1.min(end_ns));
            }
        }
        for (lease, (first_ns, last_ns)) in returns {
            let ended = self.ended.get(lease).and_then(|records| records.first());
            if let Some(record) = ended.filter(|record| record.what == Happened::Returned) {
                acts.push((first_ns, last_ns, record.seq, lease));
            }
        }
        out_of_order(&acts)
    }
}

/// Acts (first and last possible moment, number in the log, lease) that stand before one that was
/// over when they were asked for.
fn out_of_order(acts: &[(u64, u64, u64, &str)]) -> Vec<Finding> {
    let mut asked = acts.to_vec();
    asked.sort_unstable();
    let mut over = acts.to_vec();
    over.sort_unstable_by_key(|(_, last_ns, ..)| *last_ns);
    let mut over = over.into_iter().peekable();
    let mut highest: Option<(u64, &str)> = None;
    let mut findings = Vec::new();
    for (first_ns, _, seq, lease) in asked {
        while let Some((_, _, before, of)) = over.next_if(|(_, last_ns, ..)| *last_ns < first_ns) {
            highest = highest.max(Some((before, of)));
        }
        if let Some((before, of)) = highest.filter(|(before, _)| *before > seq) {
            let what = format!(
                "event {seq} of lease {lease} stands before event {before} of lease {of}, which \
                 was over before it was asked for"
            );
            findings.push(finding(what, vec![]));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use crate::evidence::Evidence;

    /// A log of lines such as `grant L1 k1`, `return L1`, `expire L1`, `borrow L1`, `move a b 2`.
    pub(crate) fn log(text: &str) -> Audit {
        let mut audit = Audit { range: (1, 0), ..Audit::default() };
        for line in text.split(',').map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            let word = |place: usize| words.get(place).copied().unwrap_or_default();
            let pool = |place: usize| Some(word(place).to_owned()).filter(|it| it != "-");
            let what = match words[0] {
                "grant" => Happened::Granted {
                    fence: format!("{:08}", word(1)[1..].parse::<u64>().unwrap()),
                    class: "commit".to_owned(),
                    seats: 1,
                    pool: None,
                },
                "return" => Happened::Returned,
                "expire" => Happened::Expired,
                "release" => Happened::Ended("lease_released".to_owned()),
                "borrow" => Happened::Borrowed,
                "move" => Happened::Transferred {
                    from: pool(1),
                    to: pool(2),
                    seats: word(3).parse().unwrap(),
                },
                other => panic!("no event is called {other}"),
            };
            audit.range.1 += 1;
            let user = (words[0] == "grant").then(|| format!("holder of {}", word(2)));
            let lease = if words[0] == "move" { "" } else { word(1) }.to_owned();
            let (seq, package) = (audit.range.1, "P".to_owned());
            audit.records.push(Record { seq, what, package, lease, user });
        }
        audit
    }

    fn check(want: usize, text: &str, logged: &str) {
        let audits = BTreeMap::from([(1, log(logged))]);
        let evidence = Evidence { audits, ..Evidence::default() };
        let found = audit(&sample::with(sample::header(), text, evidence), &Options::default());
        assert_eq!(found.findings.len(), want, "{text}\n{logged}\n{found:?}");
    }

    #[test]
    fn what_was_answered_is_in_the_log_once() {
        let taken = "0..5 take k1 -> L1";
        check(0, taken, "grant L1 k1");
        check(1, taken, "");
        check(1, taken, "grant L1 k1, grant L1 k1");
        check(1, taken, "grant L1 k2");
        check(1, "0..5 take k1 -> L1 fence=7", "grant L1 k1");
        check(1, "0..5 take k1 -> L1 overage", "grant L1 k1");
        check(1, "0..5 take k1 seats=2 -> L1", "grant L1 k1");
        let given = format!("{taken}\n 6..9 give L1 -> ok");
        check(0, &given, "grant L1 k1, return L1");
        check(1, &given, "grant L1 k1");
        check(1, &given, "grant L1 k1, expire L1");
        check(2, &given, "grant L1 k1, expire L1, return L1");
        let borrowed = format!("{taken}\n 6..9 borrow L1 100 -> ok");
        check(0, &borrowed, "grant L1 k1, borrow L1");
        check(1, &borrowed, "grant L1 k1");
    }

    #[test]
    fn nothing_is_in_the_log_that_nobody_asked_for() {
        check(0, "0..? take k1", "");
        check(0, "0..? take k1", "grant L1 k1, expire L1");
        check(1, "0..5 take k1 -> full", "grant L1 k1");
        check(1, "0..5 take k1 -> fail", "grant L1 k1");
        check(0, "0..5 take k1 -> full\n 6..? take k1", "grant L1 k1");
        check(1, "", "grant L1 k1");
        check(1, "0..5 take k1 -> L1", "grant L1 k1, return L1");
        check(0, "0..5 take k1 -> L1\n 6..? give L1", "grant L1 k1, return L1");
        check(1, "0..5 take k1 -> L1", "grant L1 k1, release L1");
        check(1, "", "expire L1");
    }

    #[test]
    fn the_log_is_in_the_order_of_real_time() {
        let apart = "0..5 take k1 -> L1\n 6..9 take k2 -> L2";
        check(0, apart, "grant L1 k1, grant L2 k2");
        check(1, apart, "grant L2 k2, grant L1 k1");
        check(0, "0..5 take k1 -> L1\n 5..9 take k2 -> L2", "grant L2 k2, grant L1 k1");
        let given = format!("{apart}\n 10..12 give L1 -> ok");
        check(1, &given, "grant L1 k1, return L1, grant L2 k2");
    }

    #[test]
    fn transfers_are_counted() {
        let moved = "0..5 move a b 1 -> ok\n 0..? move a b 1 key=other\n 0..5 move b a 1 -> few";
        check(0, moved, "move a b 1");
        check(0, moved, "move a b 1, move a b 1");
        check(1, moved, "move a b 1, move a b 1, move a b 1");
        check(1, moved, "");
        check(1, moved, "move a b 1, move b a 1");
        check(0, "0..5 move - b 1 -> ok", "move - b 1");
    }

    #[test]
    fn the_logs_of_two_nodes_are_one() {
        let findings = |second: Audit| {
            let audits = BTreeMap::from([(1, log("grant L1 k1, return L1")), (2, second)]);
            chains(&audits).len()
        };
        assert_eq!(findings(log("grant L1 k1, return L1")), 0);
        assert_eq!(findings(log("grant L1 k1")), 0);
        assert_eq!(findings(log("grant L1 k1, expire L1")), 1);
        assert_eq!(findings(log("grant L1 k1, return L1, grant L2 k2")), 0);
        let broken = Audit { broken: Some("why".to_owned()), ..log("grant L1 k1") };
        assert_eq!(findings(broken), 1);
        let head = Audit { head: "other".to_owned(), ..log("grant L1 k1, return L1") };
        assert_eq!(findings(head), 1);
    }
}
