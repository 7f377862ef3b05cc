//! The cluster under test, as an operator builds it: `cluster init` on one node, `member add` and
//! `cluster join` for the others, each in a directory of its own, each behind the rig's proxies.
//!
//! Nothing here knows the product from within: it runs the release binary, reads what it prints,
//! sends signals, and moves files. Ids count up and are never given again, so nodes go by them.

pub mod http;
pub mod node;
pub mod packages;
mod ports;
pub mod status;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::clock::{LIVENESS, eventually};
use crate::proxy::Network;
pub use node::Node;
use ports::Ports;
pub use status::{Directory, Face};

/// What kind of cluster is founded.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The release binary.
    pub binary: PathBuf,
    /// Where logs and evidence go.
    pub run_dir: PathBuf,
    /// How many nodes.
    pub nodes: usize,
    /// `lan`, `region` or `global`.
    pub preset: String,
    /// Each node's data on a file system of its own, of so many bytes.
    pub volume_bytes: Option<u64>,
    /// Nodes run under this library, so that their clocks can be set.
    pub faketime: Option<PathBuf>,
    /// Checkpoints are taken so often that a node which was away needs a snapshot.
    pub small_log: bool,
}

/// A cluster of real processes.
#[derive(Debug)]
pub struct Cluster {
    plan: Plan,
    network: Arc<Network>,
    ports: Ports,
    places: u16,
    nodes: BTreeMap<u64, Node>,
    directory: Arc<Directory>,
    operator: Operator,
}

/// What an operator's commands need.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    binary: PathBuf,
    token: String,
    ca_cert: PathBuf,
    servers: String,
}

impl Operator {
    /// The first operator token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// PEM file of the cluster's authority.
    pub fn ca_cert(&self) -> &Path {
        &self.ca_cert
    }

    /// Runs `leasehold` with the operator's variables and reads the JSON that it prints.
    ///
    /// # Errors
    /// When it ends with an error, which is in the message, or prints something else.
    pub async fn run(&self, words: &[&str]) -> Result<Value> {
        let output = self.output(&[&["-o", "json"], words].concat()).await?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        ensure!(output.status.success(), "leasehold {}: {said}", words.join(" "));
        if output.stdout.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("leasehold {} printed no JSON", words.join(" ")))
    }

    async fn output(&self, words: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::new(&self.binary);
        command.env_remove("LEASEHOLD_CONTEXT").env("HOME", "/nonexistent");
        for (name, value) in [
            ("LEASEHOLD_SERVER", self.servers.as_str()),
            ("LEASEHOLD_CA_CERT", &self.ca_cert.to_string_lossy()),
            ("LEASEHOLD_TOKEN", &self.token),
        ] {
            match value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        command.output().await.with_context(|| format!("cannot run {}", self.binary.display()))
    }
}

impl Cluster {
    /// Makes and starts a cluster; all nodes vote and are ready.
    ///
    /// # Errors
    /// When the machine or the binary does not do what it must.
    pub async fn found(plan: Plan, network: Arc<Network>) -> Result<Self> {
        let operator = Operator { binary: plan.binary.clone(), ..Operator::default() };
        let mut cluster = Self {
            ports: Ports::reserve()?,
            plan,
            network,
            places: 0,
            nodes: BTreeMap::new(),
            directory: Arc::new(Directory::default()),
            operator,
        };
        let first = cluster.init().await?;
        cluster.start(first)?;
        cluster.ready(first).await?;
        for _ in 1..cluster.plan.nodes {
            cluster.add().await?;
        }
        Ok(cluster)
    }

    async fn init(&mut self) -> Result<u64> {
        let (place, addresses) = self.new_place().await?;
        let dir = place.dir.to_string_lossy().into_owned();
        let mut words = vec!["cluster", "init", "--client-id", CLIENT_ID, "--org-domain"];
        words.extend([ORG_DOMAIN, "--preset", &self.plan.preset, "--dir", &dir]);
        words.extend(addresses.iter().map(String::as_str));
        let made = self.operator.run(&words).await?;
        let text = |name: &str| -> Result<String> {
            Ok(made[name].as_str().with_context(|| format!("no {name} in {made}"))?.to_owned())
        };
        self.operator.token = text("admin_token")?;
        // The node's own copy moves with its authority; clients keep the first.
        let kept = self.plan.run_dir.join("ca.pem");
        std::fs::copy(text("ca_cert")?, &kept).context("cannot copy the authority")?;
        self.operator.ca_cert = kept;
        self.take_in(&made, place)
    }

    /// Invites a node, has it join, starts it, and waits until it votes; gives its id.
    ///
    /// # Errors
    /// When any of that fails.
    pub async fn add(&mut self) -> Result<u64> {
        let invited = self.operator.run(&["member", "add"]).await?;
        let token = invited["token"].as_str().context("member add showed no token")?.to_owned();
        let (place, addresses) = self.new_place().await?;
        let dir = place.dir.to_string_lossy().into_owned();
        let mut words = vec!["cluster", "join", "--token", &token, "--dir", &dir];
        words.extend(["--preset", &self.plan.preset]);
        words.extend(addresses.iter().map(String::as_str));
        let joined = self.operator.run(&words).await?;
        let id = self.take_in(&joined, place)?;
        self.start(id)?;
        self.votes(id).await?;
        self.ready(id).await?;
        Ok(id)
    }

    fn take_in(&mut self, made: &Value, place: node::Place) -> Result<u64> {
        let id = made["node_id"].as_u64().with_context(|| format!("no node_id in {made}"))?;
        let config = PathBuf::from(made["config"].as_str().context("no config was named")?);
        if self.plan.small_log {
            node::with_small_log(&config)?;
        }
        let face = Face { id, gateway: place.gateway };
        let log = self.plan.run_dir.join(format!("node-{id}.log"));
        self.network.lead_to(place.peer_slot, id);
        self.nodes.insert(id, Node::new(id, place, config, log, self.plan.faketime.clone()));
        self.directory.add(face);
        self.operator.servers = self.servers();
        Ok(id)
    }

    /// Forgets a node that is a member no more; its log stays.
    pub fn forget(&mut self, id: u64) {
        self.directory.remove(id);
        self.nodes.remove(&id);
        self.operator.servers = self.servers();
    }

    async fn new_place(&mut self) -> Result<(node::Place, Vec<String>)> {
        self.places += 1;
        let gateway = self.ports.next()?;
        let peer = self.ports.next()?;
        let slot = u64::from(self.places);
        let advertised = self.network.before_peer(slot, peer).await?;
        let root = self.plan.run_dir.join("nodes").join(format!("place-{}", self.places));
        let place = node::Place::make(&root, self.plan.volume_bytes, gateway, slot)?;
        let addresses = [
            ("--listen", gateway),
            ("--peer-listen", peer),
            ("--advertise", gateway),
            ("--peer-advertise", advertised),
        ];
        let words = addresses.map(|(name, address)| [name.to_owned(), address.to_string()]);
        Ok((place, words.concat()))
    }

    fn servers(&self) -> String {
        let urls = self.nodes.values().map(|node| format!("https://{}", node.gateway()));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Starts a node that is down.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn start(&mut self, id: u64) -> Result<()> {
        let binary = self.plan.binary.clone();
        let pid = self.node_mut(id)?.start(&binary)?;
        self.network.is_process(id, pid);
        Ok(())
    }

    /// A node.
    ///
    /// # Errors
    /// When there is none with this id.
    pub fn node_mut(&mut self, id: u64) -> Result<&mut Node> {
        self.nodes.get_mut(&id).with_context(|| format!("no node {id}"))
    }

    /// Ids, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Where nodes are reached, kept up to date.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.clone()
    }

    /// The operator, as of now.
    pub fn operator(&self) -> Operator {
        self.operator.clone()
    }

    /// The network.
    pub fn network(&self) -> Arc<Network> {
        self.network.clone()
    }

    /// How it was founded.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Waits until a node says that it is ready; an error when its process has ended.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn ready(&mut self, id: u64) -> Result<()> {
        let http = http::Http::new(self.operator.ca_cert())?;
        let address: SocketAddr = self.node_mut(id)?.gateway();
        let ended = eventually(&format!("node {id} is ready"), LIVENESS, || {
            let status = self.nodes.get_mut(&id).and_then(|node| node.ended());
            let http = &http;
            async move {
                match status {
                    Some(status) => Some(Err(status)),
                    None => http.is_ready(address).await.then_some(Ok(())),
                }
            }
        })
        .await?;
        ended.map_err(|status| anyhow::anyhow!("node {id} ended with {status}; see node-{id}.log"))
    }

    async fn votes(&self, id: u64) -> Result<()> {
        let status = self.observer()?;
        eventually(&format!("node {id} votes"), LIVENESS, || async {
            let members = status.members().await?;
            let found = members.iter().find(|member| member["node_id"] == id)?;
            (found["part"] == "voter" && found["joining"] == false).then_some(())
        })
        .await
    }

    /// Who asks nodes how they are.
    ///
    /// # Errors
    /// When the authority's file cannot be read.
    pub fn observer(&self) -> Result<status::Observer> {
        status::Observer::new(&self.operator, self.directory.clone())
    }

    /// Kills what still runs, and lets go of every file system.
    pub async fn end(&mut self) {
        for node in self.nodes.values_mut() {
            let _ = node.kill().await;
        }
        self.nodes.clear();
    }
}

/// The organisation that packages are issued to.
pub(crate) const CLIENT_ID: &str = "bmw-de-001";
/// Its domain.
pub(crate) const ORG_DOMAIN: &str = "bmw.com";
