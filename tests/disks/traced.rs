//! The order in which a node writes, syncs and answers, as the kernel saw it: for each of a
//! thousand acknowledgements, the first byte of the answer is written after an `fdatasync` has
//! returned on a majority of the processes, which began after the write that put the command into
//! that process's log.
//!
//! Each node runs under `strace`, and each has one client with one connection and one request under
//! way, so the n-th request on its socket is the client's n-th, and what is written next is the
//! answer to it. TLS hides both, but not the log: the user's name in the command is unique, and
//! stands in the bytes that the log writes.
//!
//! All stamps are one machine's clock. A call's begin is stamped before the kernel goes on with it,
//! its end after it is done and before the thread goes on; so what the stamps show in order was in
//! order, and what was in order shows so ([`calls`] reads them).

mod calls;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use calls::{Traced, answers_that_came_too_early};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use leasehold_tests::cluster::binary;
use leasehold_tests::operated::Operated;
use leasehold_tests::wait::eventually;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Nodes, and clients.
const NODES: usize = 3;
/// Requests of each client: a thousand in all.
const REQUESTS: usize = 334;
/// The package that they use.
const PACKAGE: &str = "under-trace";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_written_before_a_majority_has_synced_its_command() -> Result<()> {
    if !strace_is_there() {
        println!("skipped: strace is not installed, or may not trace (apt-get install strace)");
        return Ok(());
    }
    let mut cluster = Operated::of(NODES).await?;
    let app = cluster.package(PACKAGE, 2_000).await?;
    let api = cluster.api()?;
    let token = api.token_of(1, &app.client_id, &app.client_secret).await?;
    let mut traces = Vec::new();
    for id in cluster.ids() {
        cluster.stop(id).await?;
        let file = cluster.scratch().join(format!("trace-{id}"));
        cluster.start_as(id, traced(&file)?)?;
        cluster.ready(id).await?;
        traces.push(file);
    }
    let mut clients = JoinSet::new();
    for (number, node) in api.dev.nodes.iter().enumerate() {
        let address = node.gateway.trim_start_matches("https://").to_owned();
        let client = Client::connect(&address, &api.dev.ca_cert, &token).await?;
        clients.spawn(client.ask(number));
    }
    let mut ports = [0; NODES];
    while let Some(ended) = clients.join_next().await {
        let (number, port) = ended??;
        ports[number] = port;
    }
    for id in cluster.ids() {
        let ended = cluster.stop(id).await?;
        ensure!(ended.success(), "node {id} ended with {ended}");
    }
    let mut processes = Vec::new();
    for (file, port) in traces.iter().zip(ports) {
        processes.push(Traced::read(&whole(file).await?, port, MARKER)?);
    }
    let judged = answers_that_came_too_early(&processes, REQUESTS, marker)?;
    ensure!(judged.answers == NODES * REQUESTS, "{} answers were traced", judged.answers);
    ensure!(judged.early.is_empty(), "answered before a majority had it: {:?}", judged.early);
    println!(
        "ran: {} acknowledgements traced, {} synced by all before they were answered",
        judged.answers, judged.by_all
    );
    Ok(())
}

/// How every unique name begins.
const MARKER: &str = "traced-";

fn marker(client: usize, nth: usize) -> String {
    format!("{MARKER}{client}-{nth:05}@")
}

/// `strace` that becomes the program, with what is needed of each call.
fn traced(file: &std::path::Path) -> Result<Command> {
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "--seccomp-bpf", "-y", "-s", "16384"])
        .args(["--absolute-timestamps=format:unix,precision:ns", "--syscall-times=ns"])
        .args(["-e", "trace=accept4,pwrite64,fdatasync,recvfrom,sendto,read,write,writev"])
        .args(["-e", "signal=none", "-o"])
        .arg(file)
        .arg(binary()?);
    Ok(command)
}

fn strace_is_there() -> bool {
    let mut tried = Command::new("strace");
    tried.args(["-D", "-f", "--seccomp-bpf", "--syscall-times=ns", "-o", "/dev/null", "true"]);
    tried.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|it| it.success())
}

/// A trace once its process has ended: the tracer writes to the end by itself.
async fn whole(file: &PathBuf) -> Result<String> {
    eventually("the tracer has written all", || async {
        let bytes = std::fs::read(file).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (first, last) = (text.split(' ').next()?, text.trim_end().lines().next_back()?);
        (last.starts_with(first) && last.contains("+++ exited with")).then_some(text)
    })
    .await
}

struct Client {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinSet<Result<(), hyper::Error>>,
    port: u16,
    address: String,
    token: String,
}

impl Client {
    async fn connect(address: &str, ca_cert: &PathBuf, token: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_cert)? {
            roots.add(certificate?)?;
        }
        let tls = rustls::ClientConfig::builder();
        let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let port = stream.local_addr()?.port();
        let host = address.split(':').next().unwrap_or(address).to_owned();
        let stream = TlsConnector::from(tls).connect(ServerName::try_from(host)?, stream).await?;
        let (sender, connected) = handshake(TokioIo::new(stream)).await?;
        let mut connection = JoinSet::new();
        connection.spawn(connected);
        let (address, token) = (address.to_owned(), token.to_owned());
        Ok(Self { sender, connection, port, address, token })
    }

    /// Asks one request after the other; gives its number and the port of its socket.
    async fn ask(mut self, number: usize) -> Result<(usize, u16)> {
        // What the handshake still sends goes before the answer to this one.
        self.take("nobody@bmw.com").await?;
        for nth in 0..REQUESTS {
            self.take(&format!("{}bmw.com", marker(number, nth))).await?;
        }
        drop(self.sender);
        self.connection.join_next().await.context("no connection")??.context("the connection")?;
        Ok((number, self.port))
    }

    async fn take(&mut self, user: &str) -> Result<()> {
        let body = json!({
            "product_id": PACKAGE, "user": user, "hostname": "h", "metadata": { "version": "8" },
        });
        let request = Request::post("/api/v1/licenses/checkout")
            .header("host", &self.address)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(&body)?)))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "{user}: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}
