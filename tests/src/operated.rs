//! A cluster as an operator builds it: `cluster init` on one machine, `member add` and
//! `cluster join` on the others, each node in a directory of its own. No `dev`.
//!
//! Nodes come and go: ids count up and are never given again, so nodes are found by id, and what a
//! test does to one it does through the command line, signals, and files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use jepsen::volume::Volume;
use protocol::package::sample_document;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use storage::seam::{Clock, RealClock};
use tempfile::TempDir;

use crate::api::{Api, Reply};
use crate::cluster::{DevApp, DevFile, DevNode, DevVendor, binary, free_base_port};
use crate::packages::{Registered, import_and_register, sign, template};
use crate::wait::eventually;

/// The organisation that packages are issued to.
pub const CLIENT_ID: &str = "bmw-de-001";
/// Its domain.
pub const ORG_DOMAIN: &str = "bmw.com";

/// A cluster of nodes that were made one by one.
#[derive(Debug)]
pub struct Operated {
    root: TempDir,
    base_port: u16,
    /// Ports are given out one after the other.
    places: u16,
    /// The size of the file system that each new directory is on, where it has one of its own.
    disk_bytes: Option<u64>,
    /// Those file systems, by directory.
    pub(crate) disks: BTreeMap<PathBuf, Volume>,
    cluster_id: String,
    admin_token: String,
    ca_cert: PathBuf,
    vendor: DevVendor,
    package: PathBuf,
    nodes: BTreeMap<u64, Node>,
}

/// A node's place on this machine.
#[derive(Debug)]
pub struct Node {
    /// Its directory.
    pub dir: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// URL of its gateway.
    pub gateway: String,
    /// Address of its peer listener.
    pub peer: String,
    log: PathBuf,
    child: Option<Child>,
}

/// What a command printed, as JSON.
pub fn json_of(output: &Output) -> Result<Value> {
    ensure!(output.status.success(), "{}: {}", output.status, error_of(output));
    serde_json::from_slice(&output.stdout).with_context(|| format!("not JSON: {output:?}"))
}

/// What a command said on standard error.
pub fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

impl Operated {
    /// Makes the first node, starts it, and waits until it serves. A sample vendor is trusted.
    pub async fn init() -> Result<Self> {
        Self::init_with(&[]).await
    }

    /// The same; `extra` follows what `cluster init` is told.
    pub async fn init_with(extra: &[&str]) -> Result<Self> {
        Self::found(extra, None).await
    }

    /// The same; each directory is on a file system of its own where `disk_bytes` says its size.
    pub(crate) async fn found(extra: &[&str], disk_bytes: Option<u64>) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let base_port = free_base_port()?;
        let vendor = make_vendor(root.path())?;
        let package = root.path().join("sample.json");
        let now_ms = RealClock::new().wall_ms();
        fs::write(&package, sample_document(now_ms - DAY_MS, now_ms + 365 * DAY_MS, &[]))?;
        let mut cluster = Self {
            root,
            base_port,
            places: 0,
            disk_bytes,
            disks: BTreeMap::new(),
            cluster_id: String::new(),
            admin_token: String::new(),
            ca_cert: PathBuf::new(),
            vendor,
            package,
            nodes: BTreeMap::new(),
        };
        let (dir, addresses) = cluster.new_place();
        cluster.give_disk(&dir)?;
        let mut words = vec!["-o", "json", "cluster", "init"];
        words.extend(["--client-id", CLIENT_ID, "--org-domain", ORG_DOMAIN]);
        let shown = dir.to_string_lossy().into_owned();
        words.extend(["--dir", &shown]);
        words.extend(addresses.iter().map(String::as_str));
        words.extend(extra);
        let made = json_of(&bare(&words, &[])?)?;
        let text = |name: &str| -> Result<String> {
            Ok(made[name].as_str().with_context(|| format!("no {name} in {made}"))?.to_owned())
        };
        cluster.cluster_id = text("cluster_id")?;
        cluster.admin_token = text("admin_token")?;
        cluster.ca_cert = text("ca_cert")?.into();
        cluster.take_in(&made, dir)?;
        cluster.start(1)?;
        cluster.ready(1).await?;
        let key = cluster.vendor.public_key.to_string_lossy().into_owned();
        let words = ["vendor", "trust", "add", "--vendor", "vector-de", "--public-key", &key];
        let trusted = cluster.cli(&words)?;
        ensure!(trusted.status.success(), "vendor trust add: {}", error_of(&trusted));
        Ok(cluster)
    }

    /// A cluster of so many nodes, all voters.
    pub async fn of(nodes: usize) -> Result<Self> {
        let mut cluster = Self::init().await?;
        for _ in 1..nodes {
            cluster.add().await?;
        }
        Ok(cluster)
    }

    /// Invites a node, has it join, starts it, and waits until it votes; gives its id.
    pub async fn add(&mut self) -> Result<u64> {
        let id = self.join_new(&[])?;
        self.start(id)?;
        self.votes(id).await?;
        self.ready(id).await?;
        Ok(id)
    }

    /// Invites a node and has it join; gives its id. `extra` follows `member add`.
    pub fn join_new(&mut self, extra: &[&str]) -> Result<u64> {
        let invited = self.cli_json(&[&["member", "add"], extra].concat())?;
        let token = invited["token"].as_str().context("no token")?.to_owned();
        self.join(&token, &[])
    }

    /// Has a node join by a token; gives its id. `extra` follows `cluster join`.
    pub fn join(&mut self, token: &str, extra: &[&str]) -> Result<u64> {
        let (dir, addresses) = self.new_place();
        self.give_disk(&dir)?;
        let shown = dir.to_string_lossy().into_owned();
        let mut words = vec!["-o", "json", "cluster", "join", "--token", token, "--dir", &shown];
        words.extend(addresses.iter().map(String::as_str));
        words.extend(extra);
        let joined = json_of(&bare(&words, &[])?)?;
        self.take_in(&joined, dir)
    }

    fn take_in(&mut self, made: &Value, dir: PathBuf) -> Result<u64> {
        let id = made["node_id"].as_u64().with_context(|| format!("no node_id in {made}"))?;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let node = Node {
            config: text("config").into(),
            gateway: text("gateway_url"),
            peer: text("peer_address"),
            log: dir.with_extension("log"),
            dir,
            child: None,
        };
        self.nodes.insert(id, node);
        Ok(id)
    }

    /// A directory that is not there yet, and the options that name free addresses.
    pub fn new_place(&mut self) -> (PathBuf, Vec<String>) {
        self.places += 1;
        let dir = self.root.path().join(format!("place-{}", self.places));
        (dir, self.addresses_of(self.places))
    }

    /// Options of the addresses of a place; they were free when the cluster was made.
    pub fn addresses_of(&self, place: u16) -> Vec<String> {
        // Of the ten ports that were looked at, five are for gateways and five for peers.
        let (at, round) = ((place - 1) % 5, (place - 1) / 5);
        let gateway = self.base_port + 1 + at + round * 5;
        let peer = self.base_port + 11 + at + round * 5;
        ["--listen", &format!("127.0.0.1:{gateway}"), "--peer-listen", &format!("127.0.0.1:{peer}")]
            .map(str::to_owned)
            .to_vec()
    }

    /// Notes that a node has taken the place of another: the same directory and addresses under
    /// another id.
    pub fn renumber(&mut self, old: u64, new: u64) -> Result<()> {
        let node = self.nodes.remove(&old).with_context(|| format!("no node {old}"))?;
        self.nodes.insert(new, node);
        Ok(())
    }

    /// Notes that a node was given other addresses, `host:port`.
    pub fn moved(&mut self, id: u64, gateway: &str, peer: &str) -> Result<()> {
        let node = self.nodes.get_mut(&id).with_context(|| format!("no node {id}"))?;
        node.gateway = format!("https://{gateway}");
        peer.clone_into(&mut node.peer);
        Ok(())
    }

    /// Forgets a node that was removed and has ended.
    pub fn forget(&mut self, id: u64) -> Result<()> {
        self.nodes.remove(&id).with_context(|| format!("no node {id}")).map(drop)
    }

    /// A node's place.
    pub fn node(&self, id: u64) -> Result<&Node> {
        self.nodes.get(&id).with_context(|| format!("no node {id}"))
    }

    /// The nodes, in order of id.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// A directory for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.root.path()
    }

    /// The cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The first operator token.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// The file of the cluster's authorities.
    pub fn ca_cert(&self) -> &Path {
        &self.ca_cert
    }

    fn give_disk(&mut self, dir: &Path) -> Result<()> {
        if let Some(bytes) = self.disk_bytes {
            self.disks.insert(dir.to_owned(), Volume::create(dir, bytes)?);
        }
        Ok(())
    }

    /// Starts a node that is down.
    pub fn start(&mut self, id: u64) -> Result<()> {
        self.start_as(id, Command::new(binary()?))
    }

    /// The same, by a command that ends in the program and becomes it.
    pub fn start_as(&mut self, id: u64, mut command: Command) -> Result<()> {
        let node = self.nodes.get_mut(&id).with_context(|| format!("no node {id}"))?;
        ensure!(node.child.is_none(), "node {id} runs already");
        let log = File::options().append(true).create(true).open(&node.log)?;
        let child = command
            .arg("serve")
            .arg("--config")
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start node {id}"))?;
        node.child = Some(child);
        Ok(())
    }

    /// Runs a node that is expected not to start; its exit code and what it says.
    pub async fn start_in_vain(&mut self, id: u64) -> Result<(Option<i32>, String)> {
        let before = self.log(id)?.len();
        self.start(id)?;
        let status = self.ended(id).await?;
        let said = self.log(id)?.get(before..).unwrap_or_default().trim().to_owned();
        Ok((status.code(), said))
    }

    /// Kills a node at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        let mut child = self.child(id)?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal to a running node.
    pub fn signal(&self, id: u64, signal: Signal) -> Result<()> {
        let child = self.node(id)?.child.as_ref().with_context(|| format!("node {id} is down"))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process without an id")?, signal)?;
        Ok(())
    }

    /// Stops a node cleanly (SIGTERM) and waits until it is gone.
    pub async fn stop(&mut self, id: u64) -> Result<ExitStatus> {
        self.signal(id, Signal::TERM)?;
        self.ended(id).await
    }

    /// Waits until a node's process has ended.
    pub async fn ended(&mut self, id: u64) -> Result<ExitStatus> {
        let mut child = self.child(id)?;
        let ended = eventually(&format!("node {id} ends"), || {
            let status = child.try_wait();
            async move { status.ok().flatten() }
        })
        .await;
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended
    }

    /// Whether a node's process runs.
    pub fn is_up(&mut self, id: u64) -> bool {
        let child = self.nodes.get_mut(&id).and_then(|node| node.child.as_mut());
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Whether a node was started and its end was not taken note of yet.
    pub fn has_process(&self, id: u64) -> Result<bool> {
        Ok(self.node(id)?.child.is_some())
    }

    fn child(&mut self, id: u64) -> Result<Child> {
        let node = self.nodes.get_mut(&id).with_context(|| format!("no node {id}"))?;
        node.child.take().with_context(|| format!("node {id} is down"))
    }

    /// What a node logged.
    pub fn log(&self, id: u64) -> Result<String> {
        Ok(fs::read_to_string(&self.node(id)?.log).unwrap_or_default())
    }

    /// Runs `leasehold` as the operator, against every node.
    pub fn cli(&self, words: &[&str]) -> Result<Output> {
        let servers: Vec<&str> = self.nodes.values().map(|node| node.gateway.as_str()).collect();
        bare(words, &self.environment(&servers.join(",")))
    }

    /// The same, and reads the JSON that it prints.
    pub fn cli_json(&self, words: &[&str]) -> Result<Value> {
        let output = self.cli(&[&["-o", "json"], words].concat())?;
        json_of(&output).with_context(|| format!("leasehold {}", words.join(" ")))
    }

    /// The variables that an operator sets.
    pub fn environment(&self, servers: &str) -> Vec<(&'static str, String)> {
        vec![
            ("LEASEHOLD_SERVER", servers.to_owned()),
            ("LEASEHOLD_CA_CERT", self.ca_cert.display().to_string()),
            ("LEASEHOLD_TOKEN", self.admin_token.clone()),
        ]
    }

    /// Runs a line as it was printed, in a shell, with the operator's variables.
    pub fn run_printed(&self, line: &str) -> Result<Output> {
        let program = binary()?;
        let path = program.parent().context("a program without a directory")?;
        let servers: Vec<&str> = self.nodes.values().map(|node| node.gateway.as_str()).collect();
        let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap_or_default());
        Command::new("sh")
            .args(["-c", line])
            .env("PATH", path)
            .envs(self.environment(&servers.join(",")))
            .env("HOME", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .context("cannot run sh")
    }

    /// The calls of applications and operators against every node there is.
    pub fn api(&self) -> Result<Api> {
        let nodes = self
            .nodes
            .iter()
            .map(|(id, node)| DevNode {
                id: *id,
                gateway: node.gateway.clone(),
                peer: node.peer.clone(),
                pid: node.child.as_ref().map_or(0, |child| child.id().cast_signed()),
                data_dir: node.dir.join("data"),
                config: node.config.clone(),
                log: node.log.clone(),
            })
            .collect();
        Api::new(&DevFile {
            version: 1,
            cluster_id: self.cluster_id.clone(),
            ca_cert: self.ca_cert.clone(),
            admin_token: self.admin_token.clone(),
            nodes,
            app: DevApp {
                app_id: String::new(),
                client_id: String::new(),
                client_secret: String::new(),
                product_id: String::new(),
            },
            vendor: self.vendor.clone(),
            package: self.package.clone(),
        })
    }

    /// Imports a package of so many seats and registers an application for it.
    pub async fn package(&self, name: &str, seats: u32) -> Result<Registered> {
        let api = self.api()?;
        let package = template(&api.dev, name, name, seats)?;
        let package = sign(&api.dev, self.scratch(), &package)?;
        import_and_register(&api, &package).await
    }

    /// Waits until a node says that it is ready.
    pub async fn ready(&self, id: u64) -> Result<()> {
        let api = self.api()?;
        eventually(&format!("node {id} is ready"), || api.is_ready(id)).await
    }

    /// Waits until a node votes and nothing is left to do about its joining.
    pub async fn votes(&self, id: u64) -> Result<()> {
        eventually(&format!("node {id} votes"), || async {
            let members = self.members().await.ok()?;
            let found = members.iter().find(|member| member["node_id"] == id)?;
            (found["part"] == "voter" && found["joining"] == false).then_some(())
        })
        .await
    }

    /// Waits until a node is a member no more.
    pub async fn leaves(&self, id: u64) -> Result<()> {
        eventually(&format!("node {id} leaves"), || async {
            let members = self.members().await.ok()?;
            members.iter().all(|member| member["node_id"] != id).then_some(())
        })
        .await
    }

    /// The members, as any node that answers lists them.
    pub async fn members(&self) -> Result<Vec<Value>> {
        let list = self.ask("/admin/members").await?;
        Ok(list["members"].as_array().context("no members")?.clone())
    }

    /// How the nodes stand, as any node that answers says.
    pub async fn status(&self) -> Result<Value> {
        self.ask("/admin/cluster/status").await
    }

    /// Who leads.
    pub async fn leader(&self) -> Result<u64> {
        eventually("a leader is known", || async { self.status().await.ok()?["leader"].as_u64() })
            .await
    }

    async fn ask(&self, path: &str) -> Result<Value> {
        let api = self.api()?;
        for id in self.nodes.keys() {
            let request = api.request(*id, Method::GET, path)?.bearer_auth(&self.admin_token);
            if let Reply::Answer(answer) = api.send(request).await
                && answer.status == 200
            {
                return Ok(answer.body);
            }
        }
        bail!("no node answers {path}")
    }
}

impl Drop for Operated {
    fn drop(&mut self) {
        for (id, node) in &mut self.nodes {
            if let Some(child) = &mut node.child {
                let _ = child.kill();
                let _ = child.wait();
            }
            if std::thread::panicking() {
                let log = fs::read_to_string(&node.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(25)..];
                eprintln!("--- last lines of node {id}:\n{}", tail.join("\n"));
            }
        }
        // Before the directory that they are mounted in.
        self.disks.clear();
    }
}

/// Runs `leasehold` with nothing of this process's environment that it reads but `variables`.
pub fn bare(words: &[&str], variables: &[(&str, String)]) -> Result<Output> {
    let mut command = Command::new(binary()?);
    for name in ["SERVER", "CA_CERT", "TOKEN", "CONTEXT"] {
        command.env_remove(format!("LEASEHOLD_{name}"));
    }
    command.args(words).env("HOME", "/nonexistent").stdin(Stdio::null());
    for (name, value) in variables {
        command.env(name, value);
    }
    command.output().context("cannot run leasehold")
}

fn make_vendor(root: &Path) -> Result<DevVendor> {
    let vendor = DevVendor {
        vendor_id: "vector-de".to_owned(),
        public_key: root.join("vendor-public.pem"),
        private_key: root.join("vendor-private.pem"),
    };
    let paths = [&vendor.private_key, &vendor.public_key].map(|path| path.display().to_string());
    let words = ["package", "keygen", "--algorithm", "ed25519", "--private-key", &paths[0]];
    let made = bare(&[&words[..], &["--public-key", &paths[1]]].concat(), &[])?;
    ensure!(made.status.success(), "package keygen: {}", error_of(&made));
    Ok(vendor)
}

const DAY_MS: i64 = 86_400_000;
