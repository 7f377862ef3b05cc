//! For tests: a command line played against a server that follows a script.
//!
//! Over real connections on loopback with TLS, so that what is compared is what goes over the wire.
//! The server is no gateway and decides nothing; gateways are tested with real processes elsewhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser};
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::error::Result;
use crate::options::GlobalOptions;
use crate::report::Report;
use crate::{Verb, act, outputs};

/// The command line as the binary has it, its own verbs excepted.
#[derive(Debug, Parser)]
#[command(name = "leasehold")]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) options: GlobalOptions,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// A request that must come next, and what is answered.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// Method and path with its query, as `GET /admin/licenses?limit=1000`.
    pub(crate) request: &'static str,
    /// The JSON that is sent; `Null`: nothing, or a form.
    pub(crate) sends: Value,
    /// HTTP status.
    pub(crate) status: u16,
    /// The body of the answer.
    pub(crate) answer: Value,
}

impl Exchange {
    /// A request without JSON that is answered with 200.
    pub(crate) fn get(request: &'static str, answer: Value) -> Self {
        Self { request, sends: Value::Null, status: 200, answer }
    }

    /// A request with JSON that is answered with 200.
    pub(crate) fn change(request: &'static str, sends: Value, answer: Value) -> Self {
        Self { request, sends, status: 200, answer }
    }
}

/// Certificate and acceptor of a server; the file that is given back names its authority, or, when
/// it is not to be trusted, another one.
pub(crate) fn server(dir: &Path, is_trusted: bool) -> (PathBuf, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = || rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params().self_signed(&key).unwrap();
    let ca_cert = dir.join("ca.pem");
    let trusted = if is_trusted {
        certificate.pem()
    } else {
        params().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    std::fs::write(&ca_cert, trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (ca_cert, TlsAcceptor::from(Arc::new(tls)))
}

/// Plays a command line. Panics unless exactly the scripted requests come, in order; each change
/// must bring an idempotency key, and every request its credentials; what comes of it must be what
/// the schemas of `--output json` say.
pub(crate) fn play(line: &[&str], script: &[Exchange]) -> Result<Report> {
    let dir = tempfile::tempdir().unwrap();
    let (ca_cert, acceptor) = server(dir.path(), true);
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let script = script.to_vec();
    let exchanges = script.len();
    let far = std::thread::spawn(move || follow(listener, &acceptor, &script));
    let ca_cert = ca_cert.to_str().unwrap().to_owned();
    let connection = ["leasehold", "--server", &url, "--ca-cert", &ca_cert];
    let words = connection.into_iter().chain(["--token", "lh_op_t"]).chain(line.iter().copied());
    let matches = CommandLine::command().try_get_matches_from(words).unwrap();
    let CommandLine { options, verb } = CommandLine::from_arg_matches(&matches).unwrap();
    let home = dir.path().to_str().unwrap();
    let outcome = act(verb, &options, &|name| (name == "HOME").then(|| home.to_owned()));
    if exchanges > 0 && !far.is_finished() {
        // What the script still waits for never comes: a connection that says nothing ends it.
        drop(std::net::TcpStream::connect(url.trim_start_matches("https://")));
    }
    let answered = far.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert_eq!(answered, exchanges, "{line:?}: {outcome:?}");
    outputs::check(&outputs::verb_of(&matches), &outcome);
    outcome
}

/// Answers as the script has it; gives how many requests came.
fn follow(listener: std::net::TcpListener, acceptor: &TlsAcceptor, script: &[Exchange]) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        for (position, exchange) in script.iter().enumerate() {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return position };
            let (head, body) = read(&mut stream).await;
            compare(exchange, &head, &body);
            let answer = exchange.answer.to_string();
            let length = answer.len();
            let status = exchange.status;
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n\
                 {answer}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        script.len()
    })
}

/// A request's head and body.
async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let head = text[..end].to_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return (head, bytes.split_off(end + 4));
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "a request cut short: {text}");
    }
}

fn compare(exchange: &Exchange, head: &str, body: &[u8]) {
    let first = head.lines().next().unwrap_or_default();
    assert_eq!(first.trim_end_matches(" HTTP/1.1"), exchange.request);
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    assert_eq!(sent, exchange.sends, "{}", exchange.request);
    let head = head.to_ascii_lowercase();
    let is_form = head.contains("x-www-form-urlencoded");
    let is_public =
        exchange.request.contains("/.well-known/") || exchange.request == "GET /metrics";
    assert!(is_form || is_public || head.contains("authorization: bearer "), "{head}");
    let is_change = !exchange.request.starts_with("GET ") && !is_form;
    assert_eq!(head.contains("idempotency-key: "), is_change, "{head}");
}
