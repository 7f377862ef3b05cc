//! What is gathered when all faults are healed: the evidence beside the history.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::{LIVENESS, eventually};
use crate::cluster::packages::Imported;
use crate::cluster::status::Observer;
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

/// Waits until all nodes have the same state, and writes it, the packages, every node's audit log
/// and its metrics.
///
/// # Errors
/// When nodes do not come to one state, or do not answer.
pub async fn gather(dir: &Path, observer: &Observer, packages: &[Imported]) -> Result<()> {
    let states = settled(observer).await;
    if let Ok(states) = &states {
        write(dir, STATES_FILE, states)?;
    }
    let mut finals = Vec::new();
    for package in packages {
        finals.push(final_package(observer, package).await?);
    }
    write(dir, FINAL_FILE, &finals)?;
    for node in observer.ids() {
        // Each node's own: what another would say is no evidence for this one.
        let path = "/admin/audit/export?consistency=stale";
        let look = || observer.get(node, path);
        let what = format!("node {node} exports its audit log");
        let exported = eventually(&what, LIVENESS, look).await?;
        fs::write(dir.join(format!("audit-{node}.jsonl")), exported.bytes)?;
        if let Some(metrics) = observer.metrics(node).await {
            fs::write(dir.join(format!("metrics-{node}.txt")), metrics)?;
        }
    }
    states.map(drop)
}

/// Every node at one index with one state. The sum is of each thousandth index.
async fn settled(observer: &Observer) -> Result<Vec<NodeState>> {
    let look = || async {
        let status = observer.status().await?;
        let states = states_of(&status);
        let first = states.first()?.clone();
        let is_whole = states.len() == observer.ids().len();
        let is_one = states.iter().all(|state| {
            (state.applied_index, &state.state_sum, &state.audit_head)
                == (first.applied_index, &first.state_sum, &first.audit_head)
        });
        (is_whole && is_one).then_some(states)
    };
    eventually("all nodes have the same state at one index", SETTLED_WITHIN, look).await
}

fn states_of(status: &Value) -> Vec<NodeState> {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let state = |node: &Value| {
        Some(NodeState {
            node: node["id"].as_u64()?,
            applied_index: node["applied_index"].as_str()?.parse().ok()?,
            state_sum: node["detail"]["state_sum"].as_str().unwrap_or_default().to_owned(),
            audit_head: node["detail"]["audit_hash"].as_str()?.to_owned(),
        })
    };
    nodes.iter().filter_map(state).collect()
}

async fn final_package(observer: &Observer, package: &Imported) -> Result<FinalPackage> {
    let name = &package.terms.name;
    let look = || observer.get_from_any("/admin/packages");
    eventually("packages can be read", LIVENESS, look).await?;
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
    fn a_node_that_does_not_answer_has_no_state() {
        let status = json!({ "nodes": [
            { "id": 1, "applied_index": "7",
              "detail": { "audit_hash": "aa", "state_sum": "bb" } },
            { "id": 2, "applied_index": "7", "detail": { "audit_hash": "aa" } },
            { "id": 3 },
        ]});
        let states = states_of(&status);
        assert_eq!(states.iter().map(|state| state.node).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((states[0].applied_index, states[0].state_sum.as_str()), (7, "bb"));
        assert_eq!(states[1].state_sum, "");
    }
}
