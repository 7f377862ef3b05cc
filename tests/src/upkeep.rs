//! What operators do to a cluster that works: clients that take seats all the while, a rolling
//! restart, other addresses; and what every such day must end with.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::api::Api;
use crate::cluster::{Cluster, DevNode};
use crate::holds::{Hold, fences_against_real_time, most_seats_held_at_once};
use crate::operated::{Operated, bare, error_of, json_of};
use crate::tenant::{Run, live};
use crate::wait::eventually;

/// Clients of a cluster whose nodes come and go. Their access token is signed by the last node.
///
/// They know every address that the cluster may ever use, as a client with a list of names does:
/// what does not answer is passed over.
#[derive(Debug)]
pub struct Load {
    /// What they share.
    pub run: Arc<Run>,
    tenants: JoinSet<Result<Vec<Hold>>>,
    seats: u32,
}

impl Load {
    /// Imports a package of so many seats and has clients take them.
    pub async fn start(cluster: &Operated, seats: u32, clients: usize) -> Result<Self> {
        Self::at(cluster, seats, clients, &[]).await
    }

    /// The same; `later` are addresses of gateways that are yet to come, `host:port`.
    pub async fn at(
        cluster: &Operated,
        seats: u32,
        clients: usize,
        later: &[String],
    ) -> Result<Self> {
        let app = cluster.package(PRODUCT, seats).await?;
        let api = cluster.api()?;
        let last = cluster.ids().into_iter().next_back().context("no nodes")?;
        let token = api.token_of(last, &app.client_id, &app.client_secret).await?;
        let mut dev = api.dev.clone();
        for (at, address) in (0..).zip(later) {
            let like = dev.nodes.first().context("no nodes")?.clone();
            dev.nodes.push(DevNode {
                id: 1_000 + at,
                gateway: format!("https://{address}"),
                ..like
            });
        }
        let run = Run::new(Api::new(&dev)?, token, PRODUCT);
        let mut tenants = JoinSet::new();
        for number in 0..clients {
            tenants.spawn(live(Arc::clone(&run), number));
        }
        let load = Self { run, tenants, seats };
        load.goes_on().await?;
        Ok(load)
    }

    /// Waits until the clients have been served some more.
    pub async fn goes_on(&self) -> Result<()> {
        let enough = self.run.served.load(Ordering::Relaxed) + 20;
        eventually("clients are served", || async {
            (self.run.served.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await
    }

    /// Has the clients finish: no seat was sold twice, and every one was given back.
    pub async fn end(mut self) -> Result<()> {
        self.run.stop.store(true, Ordering::Relaxed);
        let mut holds = Vec::new();
        while let Some(ended) = self.tenants.join_next().await {
            holds.extend(ended??);
        }
        ensure!(!holds.is_empty(), "nobody held a seat");
        let most = most_seats_held_at_once(&holds);
        ensure!(most <= u64::from(self.seats), "{most} seats were held at once");
        let wrong = fences_against_real_time(&holds);
        ensure!(wrong.is_empty(), "fences went back: {wrong:?}");
        Ok(())
    }
}

/// How a day must end: the same state everywhere, a whole audit log at every node, and no node
/// that ended unasked.
pub async fn all_is_well(cluster: &mut Operated) -> Result<()> {
    for id in cluster.ids() {
        ensure!(cluster.is_up(id), "node {id} has ended: {}", cluster.log(id)?);
    }
    let nodes = cluster.ids().into_iter().map(|id| {
        let gateway = cluster.node(id)?.gateway.clone();
        Ok((id, cluster.environment(&gateway)))
    });
    let nodes: Vec<(u64, Variables)> = nodes.collect::<Result<_>>()?;
    states_are_equal(&nodes, cluster.scratch()).await
}

/// The same of a cluster that `dev` founded, whose nodes are all up.
pub async fn all_agree(cluster: &Cluster) -> Result<()> {
    let dev = &cluster.dev;
    let nodes = dev.nodes.iter().map(|node| {
        let variables = vec![
            ("LEASEHOLD_SERVER", node.gateway.clone()),
            ("LEASEHOLD_CA_CERT", dev.ca_cert.display().to_string()),
            ("LEASEHOLD_TOKEN", dev.admin_token.clone()),
        ];
        (node.id, variables)
    });
    states_are_equal(&nodes.collect::<Vec<_>>(), cluster.scratch()).await
}

/// The variables by which the command line asks one node as an operator.
type Variables = Vec<(&'static str, String)>;

/// Waits until all nodes stand at one index, and compares what each of them would give as a backup:
/// the sum over its whole state, and the head of its audit chain. Each verifies its audit log.
async fn states_are_equal(nodes: &[(u64, Variables)], scratch: &Path) -> Result<()> {
    let dir = scratch.join("states");
    fs::create_dir_all(&dir)?;
    let states = eventually("all nodes stand at one index", || async {
        let mut states = Vec::new();
        for (id, variables) in nodes {
            let file = dir.join(format!("{id}.snapshot"));
            let _ = fs::remove_file(&file);
            let words = ["-o", "json", "snapshot", "save", &file.display().to_string()];
            bare(&words, variables).ok().filter(|it| it.status.success())?;
            let shown =
                bare(&["-o", "json", "snapshot", "status", &file.display().to_string()], &[]);
            states.push(json_of(&shown.ok()?).ok()?);
        }
        states.iter().all(|state| state["index"] == states[0]["index"]).then_some(states)
    })
    .await?;
    for state in &states {
        ensure!(state["state_sum"].is_string(), "no sum: {state}");
        for name in ["state_sum", "audit_hash"] {
            ensure!(state[name] == states[0][name], "{name}: {state} {}", states[0]);
        }
    }
    for (id, variables) in nodes {
        let verified = bare(&["-o", "json", "audit", "verify"], variables)?;
        ensure!(verified.status.success(), "audit of node {id}: {}", error_of(&verified));
    }
    Ok(())
}

/// Writes other addresses, `host:port`, into a node's configuration.
pub fn write_addresses(config: &Path, listen: &str, peer: &str) -> Result<()> {
    let text = fs::read_to_string(config)?;
    let mut in_first = true;
    let lines = text.lines().map(|line| {
        in_first &= !line.starts_with('[');
        match line.split_once(" = ") {
            Some(("listen", _)) if in_first => format!("listen = \"{listen}\""),
            Some(("peer_listen", _)) if in_first => format!("peer_listen = \"{peer}\""),
            Some(("peer_address", _)) if in_first => format!("peer_address = \"{peer}\""),
            Some(("gateway_url", _)) if in_first => format!("gateway_url = \"https://{listen}\""),
            _ => line.to_owned(),
        }
    });
    let lines: Vec<String> = lines.collect();
    fs::write(config, lines.join("\n") + "\n")?;
    Ok(())
}

/// Rolls the cluster by `cluster roll`, and is the service manager: it starts what a file asks
/// for. Gives the report and the nodes in the order in which they were started; never were two
/// down at once, one that was sick at the start apart.
pub async fn roll(cluster: &mut Operated) -> Result<(Value, Vec<u64>)> {
    let wishes = cluster.scratch().join("wishes");
    fs::create_dir_all(&wishes)?;
    let run = format!("touch {}/{{id}}", wishes.display());
    let servers: Vec<String> = cluster
        .ids()
        .iter()
        .map(|id| Ok(cluster.node(*id)?.gateway.clone()))
        .collect::<Result<_>>()?;
    let variables = cluster.environment(&servers.join(","));
    let rolling = tokio::task::spawn_blocking(move || {
        bare(&["-o", "json", "cluster", "roll", "--run", &run], &variables)
    });
    let (mut down, mut order) = (0, Vec::new());
    while !rolling.is_finished() {
        let ids = cluster.ids();
        let running = ids.iter().filter(|id| cluster.is_up(**id)).count();
        down = down.max(ids.len() - running);
        for id in ids {
            let wish = wishes.join(id.to_string());
            if wish.exists() {
                fs::remove_file(&wish)?;
                if cluster.has_process(id)? {
                    let ended = cluster.ended(id).await?;
                    ensure!(ended.success(), "node {id} did not drain well: {ended}");
                }
                cluster.start(id)?;
                order.push(id);
            }
        }
        // A look at processes, as a service manager's; nothing is waited for here.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    ensure!(down <= 1, "{down} nodes were down at once");
    let output = rolling.await??;
    ensure!(output.status.success(), "{}", error_of(&output));
    Ok((serde_json::from_slice(&output.stdout)?, order))
}

/// The product that the clients ask for.
pub const PRODUCT: &str = "under-load";
