//! What is gathered when all faults are healed: the evidence beside the history.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::eventually;
use crate::cluster::Operator;
use crate::cluster::packages::Imported;
use crate::cluster::status::{Face, Observer};
use crate::evidence::{FINAL_FILE, FinalPackage, NodeState, STATES_FILE};

/// Name of the file of what the rig itself found.
pub const RIG_FILE: &str = "rig.json";

/// What the rig itself saw of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rig {
    /// What no fault explains: a node that ended by itself, a cluster that did not come back.
    pub findings: Vec<String>,
    /// Faults that were asked for by name and that this machine cannot do, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Whether somebody ended the run before its time.
    pub is_cut_short: bool,
}

impl Rig {
    /// Reads it; an empty one where there is none.
    ///
    /// # Errors
    /// When the file is no such thing.
    pub fn read(dir: &Path) -> Result<Self> {
        match fs::read(dir.join(RIG_FILE)) {
            Ok(text) => serde_json::from_slice(&text).context("rig.json"),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::write(dir.join(RIG_FILE), serde_json::to_vec_pretty(self)?).context("rig.json")
    }
}

/// A cluster that is to be looked at.
#[derive(Debug)]
pub struct Standing<'a> {
    /// Who asks its nodes.
    pub observer: &'a Observer,
    /// Who has the command line.
    pub operator: Operator,
}

/// Waits until all nodes have the same state, and writes it, the packages, every node's audit log
/// and its metrics.
///
/// # Errors
/// When nodes do not come to one state, or do not answer.
pub async fn gather(dir: &Path, cluster: &Standing<'_>, packages: &[Imported]) -> Result<()> {
    let observer = cluster.observer;
    let states = settled(dir, cluster).await;
    if let Ok(states) = &states {
        write(dir, STATES_FILE, states)?;
    }
    let look = || at_rest(observer, packages);
    let end = eventually("no seat changes while all is read", SETTLED_WITHIN, look).await?;
    write(dir, FINAL_FILE, &end.packages)?;
    for (node, audit) in end.audits {
        fs::write(dir.join(format!("audit-{node}.jsonl")), audit)?;
        if let Some(metrics) = observer.metrics(node).await {
            fs::write(dir.join(format!("metrics-{node}.txt")), metrics)?;
        }
    }
    states.map(drop)
}

/// What is told at the end, all of it as of one moment.
struct End {
    packages: Vec<FinalPackage>,
    /// What each node exports.
    audits: Vec<(u64, Vec<u8>)>,
}

/// Reads packages and audit logs. A lease may run out in between, which is an event: what was read
/// belongs together when every log ends as it did before.
async fn at_rest(observer: &Observer, packages: &[Imported]) -> Option<End> {
    let before = audits(observer).await?;
    let mut finals = Vec::new();
    for package in packages {
        finals.push(final_package(observer, package).await.ok()?);
    }
    let audits = audits(observer).await?;
    let heads = |audits: &[(u64, Vec<u8>)]| -> Option<Vec<_>> {
        audits.iter().map(|(node, audit)| Some((*node, head_of(audit)?))).collect()
    };
    (heads(&before)? == heads(&audits)?).then_some(End { packages: finals, audits })
}

/// Each node's own audit log: what another would say is no evidence for this one.
async fn audits(observer: &Observer) -> Option<Vec<(u64, Vec<u8>)>> {
    let mut audits = Vec::new();
    for node in observer.ids() {
        let exported = observer.get(node, "/admin/audit/export?consistency=stale").await?;
        audits.push((node, exported.bytes));
    }
    Some(audits)
}

/// Hash of the last event, as the last line says it.
fn head_of(audit: &[u8]) -> Option<String> {
    let last = audit.trim_ascii_end().rsplit(|byte| *byte == b'\n').next()?;
    let trailer: Value = serde_json::from_slice(last).ok()?;
    trailer["hash"].as_str().map(str::to_owned)
}

/// Every node at one index: what each would give as a backup says what its whole state is.
async fn settled(dir: &Path, cluster: &Standing<'_>) -> Result<Vec<NodeState>> {
    let file = dir.join("state.snapshot");
    let look = || async {
        let mut states = Vec::new();
        for face in cluster.observer.faces() {
            states.push(state_of(face, &cluster.operator, &file).await.ok()?);
        }
        let first: &NodeState = states.first()?;
        states.iter().all(|it| it.applied_index == first.applied_index).then_some(states)
    };
    let states = eventually("all nodes stand at one index", SETTLED_WITHIN, look).await;
    let _ = fs::remove_file(&file);
    states
}

async fn state_of(face: Face, operator: &Operator, file: &Path) -> Result<NodeState> {
    let _ = fs::remove_file(file);
    let (server, path) = (format!("https://{}", face.gateway), file.to_string_lossy());
    operator.run(&["snapshot", "save", &path, "--server", &server]).await?;
    let status = operator.run(&["snapshot", "status", &path]).await?;
    state_in(face.id, &status).with_context(|| format!("no state in {status}"))
}

fn state_in(node: u64, status: &Value) -> Option<NodeState> {
    Some(NodeState {
        node,
        applied_index: status["index"].as_str()?.parse().ok()?,
        state_sum: status["state_sum"].as_str()?.to_owned(),
        audit_head: status["audit_hash"].as_str()?.to_owned(),
    })
}

async fn final_package(observer: &Observer, package: &Imported) -> Result<FinalPackage> {
    let name = &package.terms.name;
    let path = format!("/admin/packages/{name}");
    let shown = observer.get_from_any(&path).await.with_context(|| format!("no answer: {path}"))?;
    let count = |field: &str| -> Result<u32> {
        let count = shown.body["seats"][field].as_u64().with_context(|| format!("no {field}"))?;
        Ok(u32::try_from(count)?)
    };
    Ok(FinalPackage {
        package: name.clone(),
        in_use: count("commit_in_use")? + count("overage_in_use")?,
        total: count("total")?,
        leases: live_leases(observer, name).await?,
        pools: pools(observer, name).await?,
    })
}

async fn live_leases(observer: &Observer, package: &str) -> Result<Vec<String>> {
    let mut leases = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/admin/leases?package_id={package}{cursor}");
        let page = observer.get_from_any(&path).await.context("leases are not listed")?;
        let listed = page.body["leases"].as_array().context("no leases")?;
        leases.extend(listed.iter().filter_map(|it| it["lease_id"].as_str().map(str::to_owned)));
        match page.body["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(leases),
        }
    }
}

async fn pools(observer: &Observer, package: &str) -> Result<Vec<(String, u32, u32)>> {
    let path = format!("/admin/pools?package_id={package}");
    let list = observer.get_from_any(&path).await.context("pools are not listed")?;
    let pools = list.body["pools"].as_array().context("no pools")?;
    let pool = |pool: &Value| {
        let count = |field: &str| u32::try_from(pool[field].as_u64()?).ok();
        Some((pool["pool"].as_str()?.to_owned(), count("seats")?, count("in_use")?))
    };
    Ok(pools.iter().filter_map(pool).collect())
}

fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<()> {
    fs::write(dir.join(name), serde_json::to_vec_pretty(value)?).with_context(|| name.to_owned())
}

/// Nodes are at one index as soon as nothing is written; a tick of the clock may come between.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_audit_log_ends_with_its_last_line() {
        let table: [(&[u8], Option<&str>); 5] = [
            (b"{\"type\":\"event\"}\n{\"type\":\"trailer\",\"hash\":\"aa\"}\n", Some("aa")),
            (b"{\"type\":\"trailer\",\"hash\":\"bb\"}", Some("bb")),
            (b"{\"type\":\"event\"}\n", None),
            (b"cut {", None),
            (b"", None),
        ];
        for (audit, want) in table {
            assert_eq!(head_of(audit).as_deref(), want);
        }
    }

    #[test]
    fn a_backup_that_does_not_say_its_state_is_none() {
        let status = json!({ "index": "7", "audit_hash": "aa", "state_sum": "bb" });
        let state = state_in(3, &status).unwrap();
        assert_eq!((state.node, state.applied_index), (3, 7));
        assert_eq!((state.state_sum.as_str(), state.audit_head.as_str()), ("bb", "aa"));
        for name in ["index", "audit_hash", "state_sum"] {
            let mut without = status.clone();
            without.as_object_mut().unwrap().remove(name);
            assert_eq!(state_in(3, &without), None, "{name}");
        }
    }
}
