//! The far end: loopback servers whose requests the test answers one by one.
//!
//! Requests for access tokens are answered by themselves unless the test wants them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use leasehold_client::{Lease, LicenseClient, LicenseClientBuilder, Verdict, VerdictWatch};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::world::{View, World};

/// Longest wait for one server.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(7);
/// Longest time for a call.
pub(crate) const TOTAL: Duration = Duration::from_secs(60);
/// How long a lease lasts in most stories.
pub(crate) const TERM_MS: u64 = 900_000;

/// What a test has: a machine, servers, and what they hear.
pub(crate) struct Far {
    pub(crate) world: Arc<World>,
    urls: Vec<String>,
    requests: mpsc::Receiver<Request>,
    /// Access tokens given so far.
    pub(crate) tokens_given: usize,
    /// Whether requests for access tokens come to the test.
    pub(crate) wants_tokens: bool,
    _servers: JoinSet<()>,
}

/// A request that waits for its answer. Dropped, its connection is cut.
#[derive(Debug)]
pub(crate) struct Request {
    /// Which server heard it.
    pub(crate) server: usize,
    /// Method and path.
    pub(crate) line: String,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Vec<u8>,
    reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Request {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The idempotency key; there must be one.
    pub(crate) fn key(&self) -> String {
        let key = self.header("idempotency-key");
        assert!(!key.is_empty(), "{self:?}");
        key.to_owned()
    }

    /// Answers.
    pub(crate) fn answer(self, status: u16, body: &Value) {
        self.answer_with(status, &[], body);
    }

    /// Answers with headers.
    pub(crate) fn answer_with(self, status: u16, headers: &[(&'static str, &str)], body: &Value) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        drop(self.reply.send(Answer { status, headers, body: body.to_string() }));
    }

    /// Answers with what is no JSON.
    pub(crate) fn answer_text(self, status: u16, body: &str) {
        let answer = Answer { status, headers: Vec::new(), body: body.to_owned() };
        drop(self.reply.send(answer));
    }

    /// Closes the connection without a word.
    pub(crate) fn cut(self) {}
}

impl Far {
    /// So many servers.
    pub(crate) async fn start(servers: usize) -> Self {
        Self::start_seeded(servers, 7).await
    }

    /// So many servers, and this randomness.
    pub(crate) async fn start_seeded(servers: usize, seed: u64) -> Self {
        let (heard, requests) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let mut urls = Vec::new();
        for server in 0..servers {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            tasks.spawn(serve(server, listener, heard.clone()));
        }
        let world = World::new(seed);
        Self { world, urls, requests, tokens_given: 0, wants_tokens: false, _servers: tasks }
    }

    /// The servers.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    /// The machine, as a client sees it.
    pub(crate) fn environment(&self) -> Arc<View> {
        Arc::new(View(Arc::clone(&self.world)))
    }

    /// A client of all servers, to be finished.
    pub(crate) fn builder(&self) -> LicenseClientBuilder {
        LicenseClient::builder()
            .endpoints(self.urls())
            .credentials("client-1", "secret-1 &=+")
            .hostname("host-1")
            .request_timeout(ATTEMPT)
            .total_timeout(TOTAL)
            .environment(self.environment())
    }

    /// A client of all servers.
    pub(crate) fn client(&self) -> LicenseClient {
        self.builder().build().unwrap()
    }

    /// The next request, which must be this one. No time passes meanwhile.
    pub(crate) async fn expect(&mut self, line: &str) -> Request {
        let request = within(self.next()).await;
        assert_eq!(request.line, line);
        request
    }

    /// The same with any lease: the last word of the path.
    pub(crate) async fn expect_last(&mut self, last: &str) -> Request {
        let request = within(self.next()).await;
        assert!(request.line.ends_with(last), "{} is not {last}", request.line);
        request
    }

    /// Lets time pass until there is a request. Gives it and how long that took.
    pub(crate) async fn later(&mut self) -> (Request, Duration) {
        let began_ms = self.world.now_ms();
        let request = within(async {
            loop {
                let world = Arc::clone(&self.world);
                tokio::select! {
                    biased;
                    request = self.next() => return request,
                    _ = world.until_awake() => {}
                }
            }
        })
        .await;
        (request, Duration::from_millis(self.world.now_ms() - began_ms))
    }

    /// Lets time pass until the verdict changes; every request meanwhile is cut.
    pub(crate) async fn outage(&mut self, watch: &mut VerdictWatch) -> Verdict {
        within(async {
            loop {
                let world = Arc::clone(&self.world);
                tokio::select! {
                    biased;
                    verdict = watch.changed() => return verdict.unwrap(),
                    request = self.next() => request.cut(),
                    _ = world.until_awake() => {}
                }
            }
        })
        .await
    }

    /// Ends a story: drops the lease and answers until its task is gone, so that it speaks to no
    /// later story at the same port.
    pub(crate) async fn end(&mut self, lease: Lease) {
        let mut watch = lease.watch();
        drop(lease);
        within(async {
            loop {
                tokio::select! {
                    biased;
                    verdict = watch.changed() => if verdict.is_none() { return },
                    request = self.next() => match request.line.ends_with("/return") {
                        true => request.answer(200, &returned()),
                        false => request.answer(410, &denied("lease_ended")),
                    },
                }
            }
        })
        .await;
    }

    /// Whether no request waits.
    pub(crate) fn is_silent(&mut self) -> bool {
        match self.requests.try_recv() {
            Ok(request) => panic!("unexpected {request:?}"),
            Err(_) => true,
        }
    }

    /// The next request, whichever it is. No time passes meanwhile.
    pub(crate) async fn heard(&mut self) -> Request {
        self.next().await
    }

    /// The next request that is for the test.
    async fn next(&mut self) -> Request {
        loop {
            let request = self.requests.recv().await.unwrap();
            if self.wants_tokens || request.line != "POST /oauth/token" {
                return request;
            }
            self.tokens_given += 1;
            let token = format!("token-{}", self.tokens_given);
            request.answer(200, &token_body(&token, 1_000_000));
        }
    }
}

/// Bounds a wait in real time, so that a story that went wrong ends.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("nothing came for 30 s")
}

/// Runs a story.
pub(crate) fn story(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story);
}

/// Waits for both.
pub(crate) async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    within(async { tokio::join!(a, b) }).await
}

pub(crate) fn token_body(token: &str, expires_in: u64) -> Value {
    json!({
        "access_token": token, "token_type": "Bearer", "expires_in": expires_in,
        "scope": "license:checkout license:return"
    })
}

/// A seat for so long.
pub(crate) fn granted(lease: &str, term_ms: u64) -> Value {
    json!({
        "status": "success", "lease_id": lease, "lease_type": "commit",
        "expires_at": "2026-11-22T12:00:00Z", "expires_in_ms": term_ms,
        "heartbeat_interval_ms": term_ms / 3, "renewal_token": "rt-0",
        "fence": "00000001-0000000000000002-0003-0000000000000004",
        "package_id": "package-1", "quantity": 1
    })
}

/// A renewal for so long.
pub(crate) fn renewed(token: &str, term_ms: u64) -> Value {
    json!({
        "status": "renewed", "expires_at": "2026-11-22T12:00:00Z", "expires_in_ms": term_ms,
        "heartbeat_interval_ms": term_ms / 3, "renewal_token": token,
        "fence": "00000001-0000000000000002-0003-0000000000000004"
    })
}

pub(crate) fn returned() -> Value {
    json!({ "status": "returned", "total_cost": 0.0, "lease_duration": "0h 0m" })
}

pub(crate) fn denied(reason: &str) -> Value {
    json!({ "status": "denied", "reason": reason, "detail": "No." })
}

async fn serve(server: usize, listener: TcpListener, heard: mpsc::Sender<Request>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let heard = heard.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| hear(server, request, heard.clone()));
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A connection that is cut is part of the story.
            drop(serving.await);
        });
    }
}

async fn hear(
    server: usize,
    request: hyper::Request<Incoming>,
    heard: mpsc::Sender<Request>,
) -> Result<hyper::Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let headers = request.headers().clone();
    let body = request.into_body().collect().await?.to_bytes().to_vec();
    let (reply, answer) = oneshot::channel();
    heard.send(Request { server, line, headers, body, reply }).await?;
    let Answer { status, headers, body } = answer.await?;
    let mut response = hyper::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let response: Result<_, Infallible> = Ok(response.body(Full::from(body))?);
    Ok(response?)
}
