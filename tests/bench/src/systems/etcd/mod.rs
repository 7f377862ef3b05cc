//! etcd: three nodes on loopback with the settings that they come with, fsync on.
//!
//! Once as it comes, in the clear and open to all; once with TLS towards clients and with
//! authentication: a user with a role, whose token is shown with every request. Tokens are the
//! `simple` ones that etcd has unless told otherwise; they end with the process that gave them, so
//! a new one is drawn whenever sessions are opened. Peers talk in the clear in both.
//!
//! A checkout is what a license server on etcd would do: a lease, and a transaction that puts the
//! seat's key under it if nobody has. A cycle adds the lease's end.

pub(crate) mod channel;
pub(crate) mod grpc;
pub(crate) mod messages;
pub(crate) mod web;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use leasehold_tests::cluster::free_base_port;
use leasehold_tests::wait::eventually;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::load::http::{Http, Tls};
use crate::load::probe::{Probe, counter, metrics};
use crate::machine::Device;
use crate::plan::{Placement, Variant, Workload};
use crate::systems::process::Server;
use crate::systems::{OPENED_AT_ONCE, find_program, node_of, scratch};
use channel::Channel;
use grpc::GrpcSession;
use web::WebSession;

/// Three nodes of etcd.
#[derive(Debug)]
pub(crate) struct Etcd {
    program: PathBuf,
    dir: TempDir,
    base_port: u16,
    security: Option<Security>,
    /// By node; none where it is down.
    servers: Vec<Option<Server>>,
    /// Leases that workloads renew.
    held: Arc<Vec<i64>>,
    /// Whether there are keys to be read.
    has_keys: bool,
}

#[derive(Debug)]
struct Security {
    web: Tls,
    grpc: Tls,
}

/// What a client does.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// Checkouts; the leases are ended afterwards.
    Take,
    /// A checkout and the lease's end.
    Cycle,
    /// Renews leases.
    Renew(Share),
    /// Reads keys.
    Read,
    /// 80 % renewals, 15 % reads, 5 % cycles.
    Mixed(Share),
}

/// The leases that one client renews.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    all: Arc<Vec<i64>>,
    next: usize,
    first: usize,
    step: usize,
}

impl Share {
    /// The next lease.
    pub(crate) fn one(&mut self) -> Result<i64> {
        let at = if self.next < self.all.len() { self.next } else { self.first };
        self.next = at + self.step;
        self.all.get(at).copied().context("there are fewer leases than clients")
    }
}

/// Where clients come in over HTTP.
#[derive(Debug)]
pub(crate) struct Entrance {
    addresses: Vec<SocketAddr>,
    access: Access,
}

impl Entrance {
    /// One client at one node, counted from 0.
    pub(crate) async fn session(&self, node: usize, client: usize, job: Job) -> Result<WebSession> {
        let address = *self.addresses.get(node).context("no such node")?;
        let http = Http::connect(address, self.access.tls.clone()).await?;
        Ok(WebSession::new(http, address, self.access.clone(), job, client))
    }
}

/// How a client is let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    tls: Option<Tls>,
    /// Token to show.
    pub(crate) token: Option<String>,
}

impl Etcd {
    /// Why it cannot be measured here; `None`: it can.
    pub(crate) fn missing() -> Option<String> {
        let is_there = |name: &&str| find_program(name, &[]).is_some();
        let missing: Vec<&str> =
            ["etcd", "etcdctl"].into_iter().filter(|name| !is_there(name)).collect();
        (!missing.is_empty()).then(|| {
            format!("{} not found; Debian: etcd-server, etcd-client", missing.join(" and "))
        })
    }

    /// What it says its version is.
    pub(crate) fn version() -> Result<String> {
        let program = find_program("etcd", &[]).context("no etcd")?;
        let said = Command::new(program).arg("--version").output()?;
        let said = String::from_utf8(said.stdout)?;
        let line = said.lines().next().unwrap_or_default();
        Ok(line.strip_prefix("etcd Version: ").unwrap_or(line).to_owned())
    }

    /// Founds three nodes; they run.
    pub(crate) async fn found(dir: &Path, with_auth: bool) -> Result<Self> {
        let program = find_program("etcd", &[]).context("no etcd")?;
        let dir = scratch(dir, "etcd-")?;
        let security = if with_auth { Some(make_certificates(dir.path())?) } else { None };
        let mut etcd = Self {
            program,
            dir,
            base_port: free_base_port()?,
            security,
            servers: (0..NODES).map(|_| None).collect(),
            held: Arc::default(),
            has_keys: false,
        };
        etcd.start().await?;
        if with_auth {
            etcd.enable_authentication()?;
        }
        Ok(etcd)
    }

    /// Starts all nodes, and waits until they have a leader.
    pub(crate) async fn start(&mut self) -> Result<()> {
        for node in 0..NODES {
            if self.servers[node].is_none() {
                self.start_node(node)?;
            }
        }
        self.ready().await
    }

    /// Starts a node that is down.
    pub(crate) fn start_node(&mut self, node: usize) -> Result<()> {
        let name = |node: usize| format!("n{}", node + 1);
        let peer = |node: usize| format!("http://{}", self.peer_address(node));
        let cluster: Vec<String> =
            (0..NODES).map(|node| format!("{}={}", name(node), peer(node))).collect();
        let scheme = if self.security.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://{}", self.address(node));
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &name(node)])
            .arg("--data-dir")
            .arg(self.dir.path().join(name(node)))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(node)])
            .args(["--initial-advertise-peer-urls", &peer(node)])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--initial-cluster-token", "bench", "--initial-cluster-state", "new"])
            .args(["--logger", "zap", "--log-level", "warn"])
            .args(["--quota-backend-bytes", "8589934592"]);
        if self.security.is_some() {
            command.arg("--cert-file").arg(self.dir.path().join(CERTIFICATE));
            command.arg("--key-file").arg(self.dir.path().join(KEY));
        }
        let log = self.dir.path().join(format!("{}.log", name(node)));
        self.servers[node] = Some(Server::start(&format!("etcd {}", name(node)), command, log)?);
        Ok(())
    }

    /// Waits until every node has a leader.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        for node in 0..NODES {
            let (address, tls) = (self.address(node), self.tls());
            let Some(server) = &mut self.servers[node] else { continue };
            let led = eventually("a node of etcd has a leader", || {
                let tls = tls.clone();
                let state = server.must_run();
                async move {
                    if let Err(error) = state {
                        return Some(Err(error));
                    }
                    let text = metrics(address, tls).await.ok()?;
                    let has_leader = counter(&text, "etcd_server_has_leader").ok()? > 0.0;
                    has_leader.then_some(Ok(()))
                }
            });
            led.await??;
        }
        Ok(())
    }

    /// Stops all nodes.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for server in self.servers.iter().flatten() {
            server.signal(Signal::TERM)?;
        }
        for server in self.servers.iter_mut().filter_map(Option::take) {
            server.stop(Signal::TERM).await?;
        }
        Ok(())
    }

    /// Kills a node at once.
    pub(crate) fn kill(&mut self, node: usize) -> Result<()> {
        self.servers[node].take().context("the node is down")?.kill()
    }

    /// Makes what a workload needs and is not there yet; `tell` hears how many leases are held.
    pub(crate) async fn prepare(
        &mut self,
        workload: Workload,
        leases: usize,
        tell: &(dyn Fn(usize) + Sync),
    ) -> Result<()> {
        let needs_leases =
            matches!(workload, Workload::Heartbeat | Workload::HeartbeatBulk | Workload::Mixed);
        let needs_keys = matches!(workload, Workload::Read | Workload::Mixed);
        if needs_leases && self.held.len() < leases {
            let missing = leases - self.held.len();
            let granting = FILLING_CLIENTS.min(missing);
            let way = (Variant::Grpc, Placement::Spread);
            let channels = self.channels(way.1, granting).await?;
            let filling = channels.into_iter().enumerate().map(|(client, mut channel)| {
                let share = missing / granting + usize::from(client < missing % granting);
                async move {
                    let mut held = Vec::with_capacity(share);
                    for at in 0..share {
                        held.push(channel.grant().await?);
                        if client == 0 {
                            tell(at * granting);
                        }
                    }
                    anyhow::Ok(held)
                }
            });
            let filled: Vec<Vec<i64>> =
                stream::iter(filling).buffer_unordered(granting).try_collect().await?;
            let mut held = self.held.to_vec();
            held.extend(filled.into_iter().flatten());
            self.held = Arc::new(held);
        }
        if needs_keys && !self.has_keys {
            let mut channels = self.channels(Placement::Leader, 1).await?;
            let channel = channels.first_mut().context("no channel")?;
            for number in 0..KEYS {
                channel.put_seat(&key_to_read(number), 0).await?;
            }
            self.has_keys = true;
        }
        Ok(())
    }

    /// Where clients come in over HTTP, also while nodes are down.
    pub(crate) async fn entrance(&self) -> Result<Entrance> {
        let addresses = (0..NODES).map(|node| self.address(node)).collect();
        Ok(Entrance { addresses, access: self.access().await? })
    }

    /// Clients over HTTP.
    pub(crate) async fn web_sessions(
        &self,
        workload: Workload,
        placement: Placement,
        clients: usize,
    ) -> Result<Vec<WebSession>> {
        let (entrance, leader) = (self.entrance().await?, self.leader().await?);
        let opening = (0..clients).map(|client| {
            let node = node_of(placement, client, leader, NODES);
            entrance.session(node, client, self.job(workload, client, clients))
        });
        stream::iter(opening).buffered(OPENED_AT_ONCE).try_collect().await
    }

    /// Clients over gRPC; `window` messages are on their way in a stream of each, 0: no stream.
    pub(crate) async fn grpc_sessions(
        &self,
        workload: Workload,
        placement: Placement,
        clients: usize,
        window: usize,
    ) -> Result<Vec<GrpcSession>> {
        let channels = self.channels(placement, clients).await?;
        let session = |(client, channel)| {
            GrpcSession::new(channel, self.job(workload, client, clients), client, window)
        };
        Ok(channels.into_iter().enumerate().map(session).collect())
    }

    /// One for each client; connections are shared as etcd's own load generator is advised to do.
    async fn channels(&self, placement: Placement, clients: usize) -> Result<Vec<Channel>> {
        let (access, leader) = (self.access().await?, self.leader().await?);
        let connections = (clients / CLIENTS_PER_CONNECTION).max(NODES).min(clients);
        let opening = (0..connections).map(|connection| {
            let address = self.address(node_of(placement, connection, leader, NODES));
            let tls = self.security.as_ref().map(|security| security.grpc.clone());
            Channel::connect(address, tls, access.token.clone())
        });
        let opened: Vec<Channel> =
            stream::iter(opening).buffered(OPENED_AT_ONCE).try_collect().await?;
        Ok((0..clients).map(|client| opened[client % opened.len()].clone()).collect())
    }

    fn job(&self, workload: Workload, client: usize, clients: usize) -> Job {
        let share =
            Share { all: Arc::clone(&self.held), next: client, first: client, step: clients };
        match workload {
            Workload::Checkout | Workload::Open2000 => Job::Take,
            Workload::CycleHot | Workload::CycleSpread => Job::Cycle,
            Workload::Heartbeat | Workload::HeartbeatBulk => Job::Renew(share),
            Workload::Read => Job::Read,
            Workload::Mixed => Job::Mixed(share),
        }
    }

    /// How clients are let in, with a token that is new.
    pub(crate) async fn access(&self) -> Result<Access> {
        let tls = self.tls();
        let token = match &self.security {
            None => None,
            Some(_) => Some(self.authenticate().await?),
        };
        Ok(Access { tls, token })
    }

    async fn authenticate(&self) -> Result<String> {
        let address = self.address(0);
        let mut http = Http::connect(address, self.tls()).await?;
        let body = json!({ "name": USER, "password": PASSWORD });
        let answer: Value =
            serde_json::from_slice(ask(&mut http, address, "/v3/auth/authenticate", &body).await?)?;
        Ok(answer["token"].as_str().context("etcd gave no token")?.to_owned())
    }

    fn enable_authentication(&self) -> Result<()> {
        for words in [
            &["user", "add", &format!("root:{PASSWORD}")][..],
            &["user", "grant-role", "root", "root"],
            &["role", "add", ROLE],
            &["role", "grant-permission", "--prefix=true", ROLE, "readwrite", "/"],
            &["user", "add", &format!("{USER}:{PASSWORD}")],
            &["user", "grant-role", USER, ROLE],
            &["auth", "enable"],
        ] {
            let program = find_program("etcdctl", &[]).context("no etcdctl")?;
            let output = Command::new(program)
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &self.address(0).to_string()])
                .arg("--cacert")
                .arg(self.dir.path().join(AUTHORITY))
                .args(words)
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "etcdctl {}: {}", words.join(" "), said.trim());
        }
        Ok(())
    }

    /// Who leads, counted from 0.
    pub(crate) async fn leader(&self) -> Result<usize> {
        eventually("etcd has a leader", || async {
            for node in (0..NODES).filter(|node| self.servers[*node].is_some()) {
                let text = metrics(self.address(node), self.tls()).await.ok()?;
                if counter(&text, "etcd_server_is_leader").ok()? > 0.0 {
                    return Some(node);
                }
            }
            None
        })
        .await
    }

    /// Where to look for what the nodes use.
    pub(crate) fn probe(&self) -> Result<Probe> {
        Ok(Probe {
            pids: self.servers.iter().flatten().map(Server::pid).collect(),
            has_children: false,
            counters: (0..NODES).map(|node| self.address(node)).collect(),
            tls: self.tls(),
            sync_counter: "etcd_disk_wal_fsync_duration_seconds_count",
            device: Device::below(self.dir.path())?,
        })
    }

    fn tls(&self) -> Option<Tls> {
        self.security.as_ref().map(|security| security.web.clone())
    }

    fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base_port + 1 + node as u16))
    }

    fn peer_address(&self, node: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base_port + 11 + node as u16))
    }
}

/// One call over the JSON gateway.
async fn ask<'a>(
    http: &'a mut Http,
    address: SocketAddr,
    path: &str,
    body: &Value,
) -> Result<&'a [u8]> {
    let body = body.to_string();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    http.ask_ok(path, request.as_bytes()).await
}

fn make_certificates(dir: &Path) -> Result<Security> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::from_params(&params, &key);
    let server_key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    // Its gateway is a client of the node itself.
    server.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = server.signed_by(&server_key, &issuer)?;
    std::fs::write(dir.join(AUTHORITY), authority.pem())?;
    std::fs::write(dir.join(CERTIFICATE), certificate.pem())?;
    std::fs::write(dir.join(KEY), server_key.serialize_pem())?;
    let ca = dir.join(AUTHORITY);
    Ok(Security { web: Tls::trusting(&ca, &[])?, grpc: Tls::trusting(&ca, &["h2"])? })
}

/// The key of a seat that is only read.
pub(crate) fn key_to_read(number: u64) -> String {
    format!("/read/{number:04}")
}

/// What a seat's key holds: who took it, as long as a row of ours would be.
pub(crate) const SEAT: [u8; 100] = [b'x'; 100];
/// Keys that are read.
pub(crate) const KEYS: u64 = 1_000;
/// Leases live as long as ours.
pub(crate) const LEASE_TTL_S: i64 = 4 * 60 * 60;
const NODES: usize = 3;
const FILLING_CLIENTS: usize = 256;
/// As in etcd's own guide to its load generator: 1,000 clients over 100 connections.
const CLIENTS_PER_CONNECTION: usize = 10;
const AUTHORITY: &str = "ca.pem";
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";
const USER: &str = "bench";
const ROLE: &str = "bench";
const PASSWORD: &str = "bench-password";
