//! The calls of an application and of an operator, as any HTTP client would make them.
//!
//! A timeout is not a failure: [`Reply::Unknown`] is kept apart from an answer, and what retries
//! does so with the same `Idempotency-Key`.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Certificate, Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::cluster::DevFile;
use crate::wait::eventually;

/// Longest wait for one answer: well above the failover bound, so that a hang is seen as such.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An answer: status, headers that tests read, body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// Body as JSON; `Null` when it is none.
    pub body: Value,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A string field of the body, or an error that shows the whole answer.
    pub fn text(&self, field: &str) -> Result<&str> {
        self.body[field].as_str().with_context(|| format!("no `{field}` in {self:?}"))
    }

    /// Fails unless the status is this one.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "expected {status}, got {self:?}");
        Ok(self)
    }
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// It was answered.
    Answer(Answer),
    /// Nothing came back: it may have happened.
    Unknown(String),
}

/// A client of every node of a cluster.
#[derive(Debug, Clone)]
pub struct Api {
    /// What `dev` founded.
    pub dev: DevFile,
    client: Client,
}

impl Api {
    /// A client that trusts the development CA and nothing else.
    pub fn new(dev: &DevFile) -> Result<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let ca = Certificate::from_pem(&std::fs::read(&dev.ca_cert)?)?;
        let client = Client::builder()
            .add_root_certificate(ca)
            .tls_built_in_root_certs(false)
            .http1_only()
            .timeout(ANSWER_WITHIN)
            .build()?;
        Ok(Self { dev: dev.clone(), client })
    }

    /// URL of a path at a node.
    pub fn url(&self, node: u64, path: &str) -> Result<String> {
        let node = self.dev.nodes.iter().find(|known| known.id == node);
        Ok(format!("{}{path}", node.context("no such node")?.gateway))
    }

    /// A request to build on.
    pub fn request(&self, node: u64, method: Method, path: &str) -> Result<RequestBuilder> {
        Ok(self.client.request(method, self.url(node, path)?))
    }

    /// Sends a request once.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Reply::Unknown(format!("{error:?}")),
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        match response.bytes().await {
            Ok(bytes) => {
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                Reply::Answer(Answer { status, headers, body })
            }
            Err(error) => Reply::Unknown(format!("{error:?}")),
        }
    }

    /// Sends a request that must be answered.
    pub async fn answer(&self, request: RequestBuilder) -> Result<Answer> {
        match self.send(request).await {
            Reply::Answer(answer) => Ok(answer),
            Reply::Unknown(why) => bail!("no answer: {why}"),
        }
    }

    /// An operator's call with the first admin token.
    pub async fn admin(
        &self,
        node: u64,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer> {
        let mut request = self.request(node, method, path)?.bearer_auth(&self.dev.admin_token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.answer(request).await
    }

    /// Whether a node says that it is ready.
    pub async fn is_ready(&self, node: u64) -> Option<()> {
        let request = self.request(node, Method::GET, "/readyz").ok()?;
        match self.send(request).await {
            Reply::Answer(answer) if answer.status == 200 => Some(()),
            _ => None,
        }
    }

    /// The leader, as the first node that knows one says.
    pub async fn leader(&self) -> Option<u64> {
        for node in &self.dev.nodes {
            let asked = self.admin(node.id, Method::GET, "/admin/cluster/status", None).await;
            let Ok(answer) = asked else { continue };
            let nodes = answer.body["nodes"].as_array()?;
            let leader = nodes.iter().find(|known| known["role"] == "leader");
            if let Some(id) = leader.and_then(|known| known["id"].as_u64()) {
                return Some(id);
            }
        }
        None
    }

    /// A fresh access token of the sample application.
    pub async fn token(&self, node: u64) -> Result<String> {
        let app = &self.dev.app;
        self.token_of(node, &app.client_id, &app.client_secret).await
    }

    /// A fresh access token of any application.
    pub async fn token_of(&self, node: u64, client_id: &str, secret: &str) -> Result<String> {
        self.token_with(node, client_id, secret, "license:checkout license:return").await
    }

    /// The same, with these scopes.
    pub async fn token_with(
        &self,
        node: u64,
        client_id: &str,
        secret: &str,
        scopes: &str,
    ) -> Result<String> {
        let answer = eventually("a token is issued", || async {
            let form = [
                ("grant_type", "client_credentials"),
                ("client_id", client_id),
                ("client_secret", secret),
                ("scope", scopes),
            ];
            let request = self.request(node, Method::POST, "/oauth/token").ok()?.form(&form);
            match self.send(request).await {
                Reply::Answer(answer) if answer.status != 503 => Some(answer),
                _ => None,
            }
        })
        .await?;
        Ok(answer.expect(200)?.text("access_token")?.to_owned())
    }

    /// One checkout, sent once.
    pub async fn checkout(
        &self,
        node: u64,
        token: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Reply> {
        let mut request = self
            .request(node, Method::POST, "/api/v1/licenses/checkout")?
            .bearer_auth(token)
            .json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        Ok(self.send(request).await)
    }

    /// One heartbeat, sent once.
    pub async fn heartbeat(
        &self,
        node: u64,
        token: &str,
        lease_id: &str,
        renewal_token: &str,
    ) -> Result<Reply> {
        let path = format!("/api/v1/licenses/{lease_id}/heartbeat");
        let body = json!({ "renewal_token": renewal_token, "still_active": true });
        let request = self.request(node, Method::PUT, &path)?.bearer_auth(token).json(&body);
        Ok(self.send(request).await)
    }

    /// One return, sent once.
    pub async fn give_back(&self, node: u64, token: &str, lease_id: &str) -> Result<Reply> {
        let path = format!("/api/v1/licenses/{lease_id}/return");
        let body = json!({ "lease_id": lease_id });
        let request = self.request(node, Method::POST, &path)?.bearer_auth(token).json(&body);
        Ok(self.send(request).await)
    }

    /// One lease, as its holder sees it.
    pub async fn lease(&self, node: u64, token: &str, lease_id: &str) -> Result<Reply> {
        let path = format!("/api/v1/licenses/{lease_id}");
        let request = self.request(node, Method::GET, &path)?.bearer_auth(token);
        Ok(self.send(request).await)
    }
}
