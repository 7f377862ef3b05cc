//! One request to whichever server answers: HTTPS, failover, idempotency keys.
//!
//! The rustls configuration is made here with aws-lc-rs as its provider; trusted are the
//! authorities of `--ca-cert` and no others, or those of the system when none is named. Redirects
//! are not followed: a server never sends one, and a token must not travel where it was not sent.
//! What it leaves to others: which server is next ([`crate::rounds`]), what a refusal means
//! ([`crate::answer`]).

use std::sync::Arc;
use std::time::Duration;

use protocol::secret::Disclosed;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, Url};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answer::Refusal;
use crate::error::{CliError, Result};
use crate::files;
use crate::rounds::{Rounds, Step};
use crate::settings::Settings;
use crate::world::{self, Stopwatch};

/// Reaches the cluster through any of its gateways.
pub(crate) struct Client {
    http: reqwest::Client,
    servers: Vec<Url>,
    timeout_ms: u64,
}

/// A request, before it is known who will answer it.
pub(crate) struct Request<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'static str, String)>,
    body: Body,
    bearer: Option<&'a str>,
    idempotency_key: Option<String>,
}

enum Body {
    Empty,
    Json(Vec<u8>),
    Form(Vec<(&'static str, Disclosed)>),
}

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status, 200 to 299.
    pub(crate) status: u16,
    server: String,
    body: Vec<u8>,
}

enum Attempt {
    Answer(Answer),
    Busy { refusal: Box<Refusal>, retry_after_ms: Option<u64> },
    Unreachable { reason: String, was_sent: bool },
}

impl<'a> Request<'a> {
    /// A request for what is there. The path comes in segments, which are escaped.
    pub(crate) fn get(path: &[&'a str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// A request that changes something. Without a key of the user's, one is made up, so that all
    /// attempts are one request.
    pub(crate) fn change(method: Method, path: &[&'a str], key: Option<&str>) -> Result<Self> {
        let idempotency_key = match key {
            Some(key) => protocol::cloud::body::idempotency_key(key.as_bytes())
                .map_err(|error| CliError::Usage(error.to_string()))?,
            None => data_encoding::HEXLOWER.encode(&world::random::<16>()?),
        };
        let request = Self::new(method, path);
        Ok(Self { idempotency_key: Some(idempotency_key), ..request })
    }

    /// A form, as the token endpoint wants it.
    pub(crate) fn form(path: &[&'a str], fields: Vec<(&'static str, Disclosed)>) -> Self {
        Self { body: Body::Form(fields), ..Self::new(Method::POST, path) }
    }

    fn new(method: Method, path: &[&'a str]) -> Self {
        Self {
            method,
            path: path.to_vec(),
            query: Vec::new(),
            body: Body::Empty,
            bearer: None,
            idempotency_key: None,
        }
    }

    /// Adds a parameter, unless it has no value.
    pub(crate) fn query(mut self, name: &'static str, value: Option<String>) -> Self {
        self.query.extend(value.map(|value| (name, value)));
        self
    }

    /// Sends a JSON body.
    pub(crate) fn json<T: Serialize>(mut self, body: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| CliError::Failed(format!("the request is not JSON: {error}")))?;
        self.body = Body::Json(bytes);
        Ok(self)
    }

    /// Proves who asks.
    pub(crate) fn bearer(mut self, token: &'a str) -> Self {
        self.bearer = Some(token);
        self
    }
}

impl Answer {
    /// The body as it came.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Reads the body.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|source| CliError::Answer {
            server: self.server.clone(),
            status: self.status,
            source,
        })
    }
}

impl Client {
    /// A client for these servers. Fails when the authorities cannot be read.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let tls = tls_of(settings.ca_cert.as_deref())?;
        Self::over(settings.servers.clone(), tls, settings.timeout_ms)
    }

    /// A client that believes whom the TLS configuration believes.
    pub(crate) fn over(
        servers: Vec<Url>,
        tls: rustls::ClientConfig,
        timeout_ms: u64,
    ) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(timeout_ms.min(CONNECT_TIMEOUT_MS)))
            .user_agent(concat!("leasehold/", env!("CARGO_PKG_VERSION")));
        if servers.iter().any(is_loopback) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| CliError::Failed(format!("no HTTP client: {error}")))?;
        Ok(Self { http, servers, timeout_ms })
    }

    /// How many servers there are.
    pub(crate) fn server_count(&self) -> usize {
        self.servers.len()
    }

    /// Sends a request to the servers in turn until one of them answers.
    pub(crate) async fn send(&self, request: &Request<'_>) -> Result<Answer> {
        let watch = Stopwatch::start();
        let mut rounds = Rounds::new(self.servers.len(), self.timeout_ms);
        let mut tried: Vec<(String, String)> = Vec::new();
        let mut last_busy = None;
        let mut is_in_doubt = false;
        loop {
            let (server, budget_ms) = match rounds.step(watch.elapsed_ms()) {
                Step::Try { server, budget_ms } => (&self.servers[server], budget_ms),
                Step::Wait { ms } => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    continue;
                }
                Step::GiveUp => break,
            };
            match self.attempt(server, request, budget_ms).await? {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::Busy { refusal, retry_after_ms } => {
                    rounds.busy(retry_after_ms);
                    is_in_doubt |= refusal.outcome.as_deref() == Some("unknown");
                    last_busy = Some(refusal);
                }
                Attempt::Unreachable { reason, was_sent } => {
                    is_in_doubt |= was_sent;
                    let name = shown(server);
                    tried.retain(|(other, _)| *other != name);
                    tried.push((name, reason));
                }
            }
        }
        let idempotency_key = request.idempotency_key.clone();
        let is_in_doubt = is_in_doubt && idempotency_key.is_some();
        Err(match last_busy {
            Some(mut refusal) => {
                refusal.idempotency_key = idempotency_key;
                if is_in_doubt {
                    refusal.outcome = Some("unknown".to_owned());
                }
                CliError::Refused(refusal)
            }
            None if is_in_doubt => CliError::NoAnswer { tried, idempotency_key },
            None => CliError::NotReachable { tried },
        })
    }

    /// Asks one server once, for what it alone can say. It gets an equal part of the time.
    pub(crate) async fn ask(&self, server: usize, request: &Request<'_>) -> Result<Answer> {
        let server = &self.servers[server];
        let budget_ms = (self.timeout_ms / self.servers.len() as u64).max(1);
        match self.attempt(server, request, budget_ms).await? {
            Attempt::Answer(answer) => Ok(answer),
            Attempt::Busy { refusal, .. } => Err(CliError::Refused(refusal)),
            Attempt::Unreachable { reason, .. } => {
                Err(CliError::NotReachable { tried: vec![(shown(server), reason)] })
            }
        }
    }

    /// Asks one server once. Errors are those that no other server would answer differently.
    async fn attempt(
        &self,
        server: &Url,
        request: &Request<'_>,
        budget_ms: u64,
    ) -> Result<Attempt> {
        let builder = self.prepare(server, request)?.timeout(Duration::from_millis(budget_ms));
        match read(builder.send().await).await {
            Ok((status, headers, body)) => sort(status, &headers, body, server),
            Err(error) => {
                Ok(Attempt::Unreachable { reason: reason(&error), was_sent: !error.is_connect() })
            }
        }
    }

    /// The request as one server gets it, without a bound of time.
    fn prepare(&self, server: &Url, request: &Request<'_>) -> Result<RequestBuilder> {
        let url = url_of(server, &request.path)?;
        let mut builder = self.http.request(request.method.clone(), url);
        if !request.query.is_empty() {
            builder = builder.query(&request.query);
        }
        if let Some(token) = request.bearer {
            let mut value = reqwest::header::HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| {
                    CliError::Usage("the token is not one: no spaces, no line ends".into())
                })?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        if let Some(key) = &request.idempotency_key {
            builder = builder.header("Idempotency-Key", key);
        }
        Ok(match &request.body {
            Body::Empty => builder,
            Body::Json(bytes) => {
                builder.header(CONTENT_TYPE, "application/json").body(bytes.clone())
            }
            Body::Form(fields) => builder.form(fields),
        })
    }
}

type Parts = (u16, HeaderMap, Vec<u8>);

/// Reads an answer to its end.
async fn read(response: reqwest::Result<Response>) -> reqwest::Result<Parts> {
    let mut response = response?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        // What is beyond the bound cannot be an answer of ours and will not be understood.
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, headers, body))
}

/// Tells an answer from a refusal that all servers would give, and from one of this server only.
fn sort(status: u16, headers: &HeaderMap, body: Vec<u8>, server: &Url) -> Result<Attempt> {
    if (200..300).contains(&status) {
        return Ok(Attempt::Answer(Answer { status, server: shown(server), body }));
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let request_id = header("x-request-id").map(str::to_owned);
    let refusal = Box::new(Refusal::read(status, &body, request_id));
    match status {
        429 | 502..=504 => {
            let seconds: Option<u64> =
                header(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
            let retry_after_ms = seconds.map(|seconds| seconds.saturating_mul(1_000));
            Ok(Attempt::Busy { refusal, retry_after_ms })
        }
        _ => Err(CliError::Refused(refusal)),
    }
}

/// The server's URL with more segments; each is escaped, so that an id cannot lead elsewhere.
fn url_of(server: &Url, path: &[&str]) -> Result<Url> {
    let mut url = server.clone();
    {
        let Ok(mut segments) = url.path_segments_mut() else {
            return Err(CliError::Usage(format!("{server} cannot have a path")));
        };
        segments.pop_if_empty();
        for segment in path {
            // The parser would drop these in silence and ask for something else.
            if matches!(*segment, "" | "." | "..") {
                return Err(CliError::Usage(format!("{segment:?} is not an id")));
            }
            segments.push(segment);
        }
    }
    Ok(url)
}

/// A server as people write it, without the slash at the end.
fn shown(server: &Url) -> String {
    server.as_str().trim_end_matches('/').to_owned()
}

fn is_loopback(server: &Url) -> bool {
    match server.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// Why there was no answer, in the words of the innermost error.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return if error.is_connect() { "no connection in time" } else { "no answer in time" }
            .to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let words = innermost.to_string();
    if words.contains("peer certificate") {
        format!("{words}; is --ca-cert the authority of this cluster?")
    } else {
        words
    }
}

/// TLS that believes the authorities of a file, or the system's.
pub(crate) fn tls_of(ca_cert: Option<&std::path::Path>) -> Result<rustls::ClientConfig> {
    tls_with(match ca_cert {
        Some(path) => roots_of(path)?,
        None => system_roots()?,
    })
}

/// TLS that believes these authorities.
pub(crate) fn tls_with(roots: RootCertStore) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CliError::Failed(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn roots_of(path: &std::path::Path) -> Result<RootCertStore> {
    let bytes = files::read(path, MAX_CA_BYTES)?;
    let not_certificates =
        || CliError::Usage(format!("{} holds no PEM certificate of an authority", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|_| not_certificates())?;
        roots.add(certificate).map_err(|_| not_certificates())?;
    }
    if roots.is_empty() { Err(not_certificates()) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(CliError::Usage(
            "the system has no certificate authorities: give --ca-cert or set LEASEHOLD_CA_CERT"
                .to_owned(),
        ));
    }
    Ok(roots)
}

/// Longest wait for one connection, TLS handshake included.
const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// Largest answer: a page of 1,000 leases takes well under 1 MiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// Largest file of authorities; the system's own is some 200 KiB.
const MAX_CA_BYTES: u64 = 4 * 1024 * 1024;

pub(crate) mod stream;
#[cfg(test)]
mod tests;
