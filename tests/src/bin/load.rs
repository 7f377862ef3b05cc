//! Measures checkouts per second against a running `leasehold dev`.
//!
//! A closed loop: each client is one kept TLS connection that takes a seat and gives it back, over
//! and over; only the checkouts are counted and timed. Everything is on: TLS, tokens, fsync, audit.
//! Servers and generator share the machine; their CPU is reported apart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use leasehold_tests::api::Api;
use leasehold_tests::cluster::DevFile;
use leasehold_tests::packages::{import_and_register, sign, template};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use storage::seam::{Clock, Entropy, RealClock, RealEntropy};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const SEATS: u32 = 100_000;
const USAGE: &str = "usage: load [--dir DIR] [--clients N,N,…] [--seconds S]";

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::read(std::env::args().skip(1))?;
    let dev: DevFile =
        serde_json::from_slice(&std::fs::read(options.dir.join("dev.json")).with_context(
            || format!("no dev.json in {}: is `leasehold dev` running?", options.dir.display()),
        )?)?;
    let api = Api::new(&dev)?;
    let scratch = tempfile::tempdir()?;
    let mut random = [0; 4];
    RealEntropy.fill(&mut random);
    let product = format!("load-{:08x}", u32::from_le_bytes(random));
    let package = sign(&dev, scratch.path(), &template(&dev, &product, &product, SEATS)?)?;
    let app = import_and_register(&api, &package).await?;
    let node = dev.nodes.first().context("no nodes")?.id;
    let token = api.token_of(node, &app.client_id, &app.client_secret).await?;
    let tls = Arc::new(tls_config(&dev)?);
    println!(
        "clients  checkouts/s      p50 ms   p99 ms  p99.9 ms  server CPU-s/1000  own CPU-s/1000"
    );
    for clients in &options.clients {
        let load = Load {
            dev: dev.clone(),
            tls: Arc::clone(&tls),
            token: token.clone(),
            body: Bytes::from(
                json!({
                    "product_id": product, "user": "load@bmw.com", "hostname": "load",
                    "metadata": { "version": "8.2.1" },
                })
                .to_string(),
            ),
            warm: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            clock: RealClock::new(),
        };
        println!("{}", load.run(*clients, options.seconds).await?);
    }
    Ok(())
}

struct Options {
    dir: PathBuf,
    clients: Vec<usize>,
    seconds: u64,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options =
            Self { dir: PathBuf::from("leasehold-dev"), clients: vec![1, 16, 64, 256], seconds: 5 };
        while let Some(word) = words.next() {
            let value = words.next().context(USAGE)?;
            match word.as_str() {
                "--dir" => options.dir = PathBuf::from(value),
                "--clients" => {
                    options.clients = value
                        .split(',')
                        .map(str::parse)
                        .collect::<Result<_, _>>()
                        .context(USAGE)?;
                }
                "--seconds" => options.seconds = value.parse().context(USAGE)?,
                _ => bail!(USAGE),
            }
        }
        Ok(options)
    }
}

struct Load {
    dev: DevFile,
    tls: Arc<rustls::ClientConfig>,
    token: String,
    body: Bytes,
    warm: AtomicBool,
    stop: AtomicBool,
    clock: RealClock,
}

impl Load {
    async fn run(self, clients: usize, seconds: u64) -> Result<String> {
        let load = Arc::new(self);
        let mut tasks = JoinSet::new();
        let connected = Arc::new(AtomicUsize::new(0));
        for number in 0..clients {
            tasks.spawn(Arc::clone(&load).client(number, Arc::clone(&connected)));
        }
        while connected.load(Ordering::Relaxed) < clients && tasks.len() == clients {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let servers = load.server_cpu_s()?;
        let own = cpu_s("self")?;
        let started = load.clock.monotonic_ns();
        load.warm.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        load.stop.store(true, Ordering::Relaxed);
        let elapsed_s = (load.clock.monotonic_ns() - started) as f64 / 1e9;
        let servers = load.server_cpu_s()? - servers;
        let own = cpu_s("self")? - own;
        let mut times = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            times.extend(ended??);
        }
        times.sort_unstable();
        ensure!(!times.is_empty(), "not one checkout was answered");
        let count = times.len() as f64;
        let at = |share: f64| times[((count - 1.0) * share) as usize] as f64 / 1e6;
        Ok(format!(
            "{clients:>7}  {:>11.0}  {:>10.2}  {:>7.2}  {:>8.2}  {:>17.3}  {:>14.3}",
            count / elapsed_s,
            at(0.5),
            at(0.99),
            at(0.999),
            servers / count * 1_000.0,
            own / count * 1_000.0,
        ))
    }

    /// One client: its checkouts' times in nanoseconds.
    async fn client(
        self: Arc<Self>,
        number: usize,
        connected: Arc<AtomicUsize>,
    ) -> Result<Vec<u64>> {
        let node = &self.dev.nodes[number % self.dev.nodes.len()];
        let authority = node.gateway.strip_prefix("https://").context("no https gateway")?;
        let host = authority.split(':').next().unwrap_or(authority).to_owned();
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut background = JoinSet::new();
        background.spawn(connection);
        connected.fetch_add(1, Ordering::Relaxed);
        let mut times = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let counted = self.warm.load(Ordering::Relaxed);
            let start = self.clock.monotonic_ns();
            let path = "/api/v1/licenses/checkout";
            let (status, body) = self.post(&mut sender, authority, path, self.body.clone()).await?;
            let took = self.clock.monotonic_ns() - start;
            ensure!(
                status == 200,
                "checkout answered {status}: {}",
                String::from_utf8_lossy(&body)
            );
            if counted {
                times.push(took);
            }
            let granted: Value = serde_json::from_slice(&body)?;
            let lease = granted["lease_id"].as_str().context("no lease_id")?;
            let path = format!("/api/v1/licenses/{lease}/return");
            let body = Bytes::from(format!(r#"{{"lease_id":"{lease}"}}"#));
            let (status, body) = self.post(&mut sender, authority, &path, body).await?;
            ensure!(status == 200, "return answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(times)
    }

    async fn post(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        authority: &str,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Bytes)> {
        let request = Request::post(path)
            .header("host", authority)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    fn server_cpu_s(&self) -> Result<f64> {
        self.dev.nodes.iter().map(|node| cpu_s(&node.pid.to_string())).sum()
    }
}

/// User and system seconds of a process, from `/proc/PID/stat`.
fn cpu_s(pid: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("odd /proc stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn tls_config(dev: &DevFile) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&dev.ca_cert)? {
        roots.add(certificate?)?;
    }
    Ok(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
