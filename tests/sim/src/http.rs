//! HTTP/1.1 over turmoil's TCP: a gateway's listener, and how applications ask it.
//!
//! Without TLS, which has nothing to decide here. A connection is kept until something is lost on
//! it; a call whose answer did not come in time is *lost*: it may have been carried out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use gateway::{Gateway, PeerAddress};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lease::ids::NodeId;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use turmoil::net::{TcpListener, TcpStream};

use crate::net::host;

/// Answers applications for as long as the node runs.
pub(crate) async fn serve(gateway: Gateway) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", GATEWAY_PORT)).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = listener.accept().await?;
        connections.spawn(serve_connection(gateway.clone(), stream, address.ip()));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers on one connection until it ends.
pub(crate) async fn serve_connection(
    gateway: Gateway,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: IpAddr,
) {
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(PeerAddress(address));
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.answer(request).await) }
    });
    let mut server = http1::Builder::new();
    server.auto_date_header(false).timer(hyper_util::rt::TokioTimer::new());
    // A connection that broke is the asker's business.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// One asker's connections.
#[derive(Default)]
pub(crate) struct Asker {
    open: BTreeMap<NodeId, SendRequest<Full<Bytes>>>,
    connections: JoinSet<()>,
}

/// A request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Its method.
    pub(crate) method: Method,
    /// Its path and query.
    pub(crate) path: String,
    /// The credential.
    pub(crate) bearer: Option<String>,
    /// The `Idempotency-Key`.
    pub(crate) key: Option<String>,
    /// The `X-Request-Id`.
    pub(crate) trace: Option<u128>,
    /// The body.
    pub(crate) body: String,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    /// An answer: its status, its body, and the index a stale one is of.
    Answer(u16, Value, Option<u64>),
    /// No answer; it may have been carried out.
    Lost,
    /// It was never sent.
    NotSent,
}

impl Ask {
    /// A request without anything but a method and a path.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        let (bearer, key, trace, body) = (None, None, None, String::new());
        Self { method, path: path.into(), bearer, key, trace, body }
    }

    /// With a credential.
    pub(crate) fn bearer(self, token: &str) -> Self {
        Self { bearer: Some(token.to_owned()), ..self }
    }

    /// With an idempotency key.
    pub(crate) fn key(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// With a JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        Self { body: body.to_string(), ..self }
    }

    fn request(&self, node: NodeId) -> Option<Request<Full<Bytes>>> {
        let mut builder = Request::builder().method(self.method.clone()).uri(&self.path);
        builder = builder.header("host", host(node));
        if let Some(token) = &self.bearer {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = &self.key {
            builder = builder.header("idempotency-key", key);
        }
        if let Some(trace) = self.trace {
            builder = builder.header("x-request-id", format!("{trace:032x}"));
        }
        if !self.body.is_empty() && self.path != "/oauth/token" {
            builder = builder.header("content-type", "application/json");
        } else if !self.body.is_empty() {
            builder = builder.header("content-type", "application/x-www-form-urlencoded");
        }
        builder.body(Full::new(Bytes::from(self.body.clone()))).ok()
    }
}

impl Asker {
    /// Asks a node and waits for its answer.
    pub(crate) async fn ask(&mut self, node: NodeId, ask: &Ask) -> Reply {
        let Some(request) = ask.request(node) else { return Reply::NotSent };
        while self.connections.try_join_next().is_some() {}
        let mut sender = match self.open.remove(&node) {
            Some(sender) if !sender.is_closed() => sender,
            _ => match tokio::time::timeout(ANSWER_WITHIN, self.connect(node)).await {
                Ok(Ok(sender)) => sender,
                Ok(Err(_)) | Err(_) => return Reply::NotSent,
            },
        };
        let answered = async {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let index = response
                .headers()
                .get("leasehold-applied-index")
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let body = response.into_body().collect().await.ok()?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            Some(Reply::Answer(status, body, index))
        };
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Some(reply)) => {
                self.open.insert(node, sender);
                reply
            }
            Ok(None) | Err(_) => Reply::Lost,
        }
    }

    async fn connect(&mut self, node: NodeId) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect((host(node), GATEWAY_PORT)).await?;
        let made = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(io::Error::other)?;
        self.connections.spawn(async move {
            // What breaks on it, the request that waits is told.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// Where applications are answered.
pub(crate) const GATEWAY_PORT: u16 = 7401;
/// More than twice what a gateway takes to say that there is no quorum.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_millis(1_600);
