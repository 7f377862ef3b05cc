//! Requests over HTTPS, as any client makes them.
//!
//! What came back is one of three: an answer, the certainty that nothing was sent, or neither. The
//! last is not a failure: it may have happened.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client, Method, RequestBuilder};
use serde_json::Value;

/// A client that believes the cluster's authority and no other.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The log index that a stale answer reflects.
    pub applied_index: Option<u64>,
    /// Body as JSON; `Null` when it is none.
    pub body: Value,
    /// Body as it came.
    pub bytes: Vec<u8>,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// It was answered.
    Answer(Answer),
    /// It did not leave: nobody was there to take it.
    NotSent(String),
    /// It may have happened.
    Unknown(String),
}

impl Answer {
    /// A text of the body.
    ///
    /// # Errors
    /// When it has no such field.
    pub fn text(&self, field: &str) -> Result<&str> {
        self.body[field].as_str().with_context(|| format!("no `{field}` in {}", self.body))
    }

    /// Fails unless the status is this one.
    ///
    /// # Errors
    /// When it is another.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "expected {status}, got {}: {}", self.status, self.body);
        Ok(self)
    }
}

impl Http {
    /// Reads the authority.
    ///
    /// # Errors
    /// When the file is none.
    pub fn new(ca_cert: &Path) -> Result<Self> {
        Self::with_timeout(ca_cert, ANSWER_WITHIN)
    }

    /// The same, waiting so long for an answer.
    ///
    /// # Errors
    /// When the file is none.
    pub fn with_timeout(ca_cert: &Path, timeout: Duration) -> Result<Self> {
        // Fails when it was done before, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let pem = std::fs::read(ca_cert).with_context(|| format!("{}", ca_cert.display()))?;
        let client = Client::builder()
            .add_root_certificate(Certificate::from_pem(&pem)?)
            .tls_built_in_root_certs(false)
            .http1_only()
            .timeout(timeout)
            .build()?;
        Ok(Self { client })
    }

    /// A request to build on; `path` begins with a slash.
    pub fn request(&self, method: Method, address: SocketAddr, path: &str) -> RequestBuilder {
        self.client.request(method, format!("https://{address}{path}"))
    }

    /// Sends a request once.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let response = match request.send().await {
            Ok(response) => response,
            // The connection or its handshake failed: no byte of a request has left.
            Err(error) if error.is_connect() => return Reply::NotSent(chain(&error)),
            Err(error) => return Reply::Unknown(chain(&error)),
        };
        let status = response.status().as_u16();
        let index = response.headers().get("leasehold-applied-index");
        let applied_index = index.and_then(|value| value.to_str().ok()?.parse().ok());
        match response.bytes().await {
            Ok(bytes) => {
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                Reply::Answer(Answer { status, applied_index, body, bytes: bytes.to_vec() })
            }
            Err(error) => Reply::Unknown(chain(&error)),
        }
    }

    /// Sends a request that must be answered.
    ///
    /// # Errors
    /// When it is not.
    pub async fn answer(&self, request: RequestBuilder) -> Result<Answer> {
        match self.send(request).await {
            Reply::Answer(answer) => Ok(answer),
            Reply::NotSent(why) | Reply::Unknown(why) => anyhow::bail!("no answer: {why}"),
        }
    }

    /// Whether a node says that it is ready.
    pub async fn is_ready(&self, address: SocketAddr) -> bool {
        let request = self.request(Method::GET, address, "/readyz");
        matches!(self.send(request).await, Reply::Answer(answer) if answer.status == 200)
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Longest wait for one answer: above the failover bound, so that a hang is seen as one.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);
