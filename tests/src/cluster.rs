//! A cluster of real processes: founded by `leasehold dev`, then run node by node so that each can
//! be killed, paused and started again.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use crate::api::Api;
use crate::wait::eventually;

/// `DIR/dev.json`, as far as tests read it.
#[derive(Debug, Clone, Deserialize)]
pub struct DevFile {
    /// Version of the file's shape.
    pub version: u32,
    /// The cluster.
    pub cluster_id: String,
    /// The development CA.
    pub ca_cert: PathBuf,
    /// The first operator token.
    pub admin_token: String,
    /// The nodes in order of id.
    pub nodes: Vec<DevNode>,
    /// The registered application.
    pub app: DevApp,
    /// The sample vendor.
    pub vendor: DevVendor,
    /// The signed sample package.
    pub package: PathBuf,
}

/// One node of `dev.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct DevNode {
    /// Its number.
    pub id: u64,
    /// URL of its gateway.
    pub gateway: String,
    /// Address of its peer listener.
    pub peer: String,
    /// Process id.
    pub pid: i32,
    /// Data directory.
    pub data_dir: PathBuf,
    /// Configuration file.
    pub config: PathBuf,
    /// Log file.
    pub log: PathBuf,
}

/// The application of `dev.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct DevApp {
    /// Its id.
    pub app_id: String,
    /// OAuth client id.
    pub client_id: String,
    /// OAuth client secret.
    pub client_secret: String,
    /// The product it may check out.
    pub product_id: String,
}

/// The vendor of `dev.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct DevVendor {
    /// Vendor id.
    pub vendor_id: String,
    /// Its public key file.
    pub public_key: PathBuf,
    /// Its private key file.
    pub private_key: PathBuf,
}

/// The release binary that a program was told to use.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Chooses the release binary for the rest of this process, before anything is started.
pub fn use_binary(path: PathBuf) -> Result<()> {
    ensure!(path.exists(), "there is no {}", path.display());
    CHOSEN.set(path).map_err(|path| anyhow::anyhow!("{} comes too late", path.display()))
}

/// The release binary under test: the one that was chosen, else `LEASEHOLD_BIN`, else beside the
/// test's own executable.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = CHOSEN.get() {
        return Ok(path.clone());
    }
    if let Some(path) = std::env::var_os("LEASEHOLD_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().context("no path of this executable")?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join("leasehold"));
    found
        .into_iter()
        .find(|path| path.exists())
        .context("no `leasehold` beside the tests: cargo build --release -p node")
}

/// A base port such that the ports `dev` derives from it for five nodes, and as many for nodes
/// that move, are free now.
pub fn free_base_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1_000).unwrap_or(0);
    for _ in 0..1_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start) % 1_000;
        let base = 12_000 + step * 20;
        let free = (1..20).all(|offset| TcpListener::bind(("127.0.0.1", base + offset)).is_ok());
        if free {
            return Ok(base);
        }
    }
    bail!("no free ports between 12000 and 32000")
}

/// Runs `leasehold` with arguments to its end.
pub fn leasehold(arguments: &[&str]) -> Result<std::process::Output> {
    Command::new(binary()?)
        .args(arguments)
        .env_remove("LEASEHOLD_SERVER")
        .env_remove("LEASEHOLD_CA_CERT")
        .env_remove("LEASEHOLD_TOKEN")
        .env_remove("LEASEHOLD_CONTEXT")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .output()
        .context("cannot run leasehold")
}

/// A running `leasehold dev`.
#[derive(Debug)]
pub struct Dev {
    child: Child,
    /// Where it keeps everything.
    pub dir: PathBuf,
    output: PathBuf,
}

impl Dev {
    /// Starts it; `extra` follows `--dir` and `--base-port`.
    pub fn spawn(dir: &Path, base_port: u16, extra: &[&str]) -> Result<Self> {
        let output = dir.with_extension("dev-output");
        let file = File::create(&output)?;
        let child = Command::new(binary()?)
            .arg("dev")
            .arg("--dir")
            .arg(dir)
            .args(["--base-port", &base_port.to_string()])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("cannot start leasehold dev")?;
        Ok(Self { child, dir: dir.to_owned(), output })
    }

    /// Waits until it has written a `dev.json` that names its own children.
    pub async fn ready(&mut self) -> Result<DevFile> {
        let path = self.dir.join("dev.json");
        let file = eventually("leasehold dev gets ready", || {
            let ended = self.child.try_wait();
            let text = std::fs::read_to_string(&path).ok();
            async move {
                if let Ok(Some(status)) = ended {
                    return Some(Err(status));
                }
                let file: DevFile = serde_json::from_str(&text?).ok()?;
                file.nodes.iter().all(|node| is_running(node.pid)).then_some(Ok(file))
            }
        })
        .await?;
        file.map_err(|status: ExitStatus| {
            anyhow::anyhow!("leasehold dev ended with {status}: {}", self.printed())
        })
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Sends a signal and waits for its end.
    pub async fn stop(mut self, signal: Signal) -> Result<ExitStatus> {
        send(&self.child, signal)?;
        self.ended().await
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let status = eventually("leasehold dev ends", || {
            let status = self.child.try_wait();
            async move { status.ok().flatten() }
        })
        .await?;
        Ok(status)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = send(&self.child, Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Nodes run one by one.
#[derive(Debug)]
pub struct Cluster {
    /// What `dev` founded.
    pub dev: DevFile,
    nodes: Vec<Option<Child>>,
    directory: TempDir,
}

impl Cluster {
    /// Founds a cluster of `nodes` with `leasehold dev`, then runs its nodes itself.
    pub async fn start(nodes: usize) -> Result<Self> {
        Self::start_with(nodes, &[]).await
    }

    /// The same; `extra` follows what `dev` is told.
    pub async fn start_with(nodes: usize, extra: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let dir = directory.path().join("dev");
        let base = free_base_port()?;
        let count = nodes.to_string();
        let mut dev = Dev::spawn(&dir, base, &[&["--nodes", &count], extra].concat())?;
        let file = dev.ready().await?;
        let status = dev.stop(Signal::TERM).await?;
        ensure!(status.success(), "leasehold dev ended with {status}");
        let mut cluster =
            Self { nodes: file.nodes.iter().map(|_| None).collect(), dev: file, directory };
        for id in cluster.ids() {
            cluster.start_node(id)?;
        }
        cluster.all_ready().await?;
        Ok(cluster)
    }

    /// Node ids in order.
    pub fn ids(&self) -> Vec<u64> {
        self.dev.nodes.iter().map(|node| node.id).collect()
    }

    /// A directory for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a node that is down.
    pub fn start_node(&mut self, id: u64) -> Result<()> {
        let node = self.node(id)?.clone();
        let log = File::options().append(true).create(true).open(&node.log)?;
        let child = Command::new(binary()?)
            .arg("serve")
            .arg("--config")
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start node {id}"))?;
        let slot = self.slot(id)?;
        ensure!(slot.is_none(), "node {id} runs already");
        *slot = Some(child);
        Ok(())
    }

    /// Kills a node at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        let mut child = self.slot(id)?.take().with_context(|| format!("node {id} is down"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops a node cleanly (SIGTERM) and waits until it is gone.
    pub async fn stop(&mut self, id: u64) -> Result<ExitStatus> {
        let mut child = self.slot(id)?.take().with_context(|| format!("node {id} is down"))?;
        send(&child, Signal::TERM)?;
        eventually("a node stops on SIGTERM", || {
            let status = child.try_wait();
            async move { status.ok().flatten() }
        })
        .await
    }

    /// Pauses a node (SIGSTOP).
    pub fn pause(&mut self, id: u64) -> Result<()> {
        self.signal(id, Signal::STOP)
    }

    /// Lets a paused node go on (SIGCONT).
    pub fn unpause(&mut self, id: u64) -> Result<()> {
        self.signal(id, Signal::CONT)
    }

    /// Sends any signal to a running node.
    pub fn signal(&mut self, id: u64, signal: Signal) -> Result<()> {
        let child = self.slot(id)?.as_ref().with_context(|| format!("node {id} is down"))?;
        send(child, signal)
    }

    /// Whether a node's process runs.
    pub fn is_up(&mut self, id: u64) -> bool {
        match self.slot(id) {
            Ok(Some(child)) => matches!(child.try_wait(), Ok(None)),
            _ => false,
        }
    }

    /// The calls of an application and an operator against every node.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.dev)
    }

    /// Waits until every running node says that it is ready.
    pub async fn all_ready(&mut self) -> Result<()> {
        let api = self.api()?;
        for id in self.ids() {
            if !self.is_up(id) {
                continue;
            }
            eventually(&format!("node {id} is ready"), || api.is_ready(id)).await?;
        }
        Ok(())
    }

    /// The leader as any ready node names it.
    pub async fn leader(&self) -> Result<u64> {
        let api = self.api()?;
        eventually("a leader is known", || api.leader()).await
    }

    /// What a node logged.
    pub fn log(&self, id: u64) -> Result<String> {
        Ok(std::fs::read_to_string(&self.node(id)?.log)?)
    }

    fn node(&self, id: u64) -> Result<&DevNode> {
        self.dev.nodes.iter().find(|node| node.id == id).with_context(|| format!("no node {id}"))
    }

    fn slot(&mut self, id: u64) -> Result<&mut Option<Child>> {
        let at = self.dev.nodes.iter().position(|node| node.id == id);
        let at = at.with_context(|| format!("no node {id}"))?;
        Ok(&mut self.nodes[at])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for node in &self.dev.nodes {
                let log = std::fs::read_to_string(&node.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(25)..];
                eprintln!("--- last lines of node {}:\n{}", node.id, tail.join("\n"));
            }
        }
    }
}

fn send(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("a process without an id")?, signal)?;
    Ok(())
}

fn is_running(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
