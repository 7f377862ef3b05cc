//! From an HTTP request to an HTTP answer: what every call goes through, whatever it asks.
//!
//! ```text
//! request id ─ in-flight bound ─ route ─ idempotency key ─ is this node serving? ─ who asks? how
//! often? ─ body ─ handler ─ answer or failure ─ headers ─ access log, metrics
//! ```
//!
//! The body is read after the credential was checked, so that strangers cannot make us hold theirs;
//! the token endpoint's form holds the credential, and is short, soon read, and one of few.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, HttpBody};
use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::routing::on;
use axum::{BoxError, Router};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use lease::ids::TraceId;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::address::{self, PeerAddress};
use crate::auth;
use crate::call::{Asker, BodyBound, Call, IDEMPOTENCY_KEY, Key, Params, Principal, read_body};
use crate::consistency::{Consistency, Staleness};
use crate::context::{GatewayConfig, GatewayContext};
use crate::deadline::Deadline;
use crate::face;
use crate::failure::{self, Failure};
use crate::rates::{Caller, RateOf, Standing, Use};
use crate::reply::Reply;
use crate::routes::{self, Credential, Operation, Protocol, is_probe};
use crate::server::{self, ClientCertificate, ListenerLimits};
use crate::shared::Shared;
use crate::trace;

/// The HTTP face of a node. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    router: Router,
}

impl Gateway {
    /// A gateway over a node's cluster. Serves 503 until the node is unsealed and recovered.
    pub fn new(config: GatewayConfig, context: GatewayContext) -> Self {
        let shared = Arc::new(Shared::new(config, context));
        let router = router(&shared);
        Self { shared, router }
    }

    /// Serves HTTPS on the listeners until `shutdown` resolves, then lets the requests in flight
    /// end (at most [`ListenerLimits::drain_timeout_ms`]). The TLS configuration is read at every
    /// handshake: send another one to change the certificate.
    pub async fn serve(
        &self,
        listeners: Vec<TcpListener>,
        tls: watch::Receiver<Arc<ServerConfig>>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        server::serve(self.clone(), listeners, tls, shutdown).await;
    }

    /// Ends answers that have no end of their own.
    pub(crate) fn end_streams(&self) {
        self.shared.stopping.send_replace(true);
    }

    pub(crate) fn limits(&self) -> &ListenerLimits {
        &self.shared.config.limits
    }

    /// Answers one request, however it arrived.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let shared = &self.shared;
        let started_ns = shared.context.clock.monotonic_ns();
        let (clock, entropy) = (&*shared.context.clock, &*shared.context.entropy);
        let trace_id = trace::of_request(request.headers(), clock, entropy);
        let method = request.method().clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arrived { trace: trace_id, started_ns });
        let path = request.uri().path();
        // Whoever wants to know why a node is overloaded must still be told.
        let is_exempt = is_probe(path);
        let permit = shared.in_flight.try_acquire();
        let turned_away = (!is_exempt && permit.is_err())
            .then(|| routes::protocol_at(path, &shared.config.faces));
        let mut response = match turned_away {
            Some(protocol) => refuse(overloaded(), protocol, trace_id),
            None => match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        drop(permit);
        finish_headers(response.headers_mut(), trace_id);
        let duration_ns = shared.context.clock.monotonic_ns().saturating_sub(started_ns);
        let answered = response.extensions_mut().remove::<Answered>();
        let operation = answered.as_ref().map_or("none", |answered| answered.operation.id);
        let status = response.status();
        shared.metrics.observe_request(operation, status, duration_ns);
        if answered.as_ref().is_some_and(|it| it.operation.protocol == Protocol::Classic) {
            shared.metrics.classic.observe_request(operation, status);
        }
        // Neither the path nor the query: they may hold lease ids and names.
        tracing::info!(
            target: "leasehold::access",
            method = %method,
            route = answered.as_ref().map_or("", |answered| answered.operation.path),
            status = status.as_u16(),
            duration_us = duration_ns / 1_000,
            request_id = %uuid::Uuid::from_u128(trace_id.0).hyphenated(),
            asker = %answered.as_ref().map_or(Asker::Anyone, |answered| answered.asker),
        );
        response
    }
}

/// The request's id and when it came (monotonic), on their way to the handler.
#[derive(Clone, Copy)]
struct Arrived {
    trace: TraceId,
    started_ns: u64,
}

/// What was asked and by whom, on its way back to the access log.
#[derive(Clone, Copy)]
struct Answered {
    operation: &'static Operation,
    asker: Asker,
}

fn router(shared: &Arc<Shared>) -> Router {
    let mut router = Router::new();
    for operation in routes::served(&shared.config.faces) {
        let shared = Arc::clone(shared);
        let handler = move |params: Result<RawPathParams, RawPathParamsRejection>,
                            request: Request<Body>| {
            let params = params.map(|params| Params::of(operation, &params));
            perform(Arc::clone(&shared), operation, params.ok(), request)
        };
        if let Some(path) = operation.also_at() {
            router = router.route(path, on(operation.method.filter(), handler.clone()));
        }
        router = router.route(operation.path, on(operation.method.filter(), handler));
    }
    let (elsewhere, otherwise) = (Arc::clone(shared), Arc::clone(shared));
    router
        .fallback(move |request| not_found(elsewhere, request))
        .method_not_allowed_fallback(move |request| wrong_method(otherwise, request))
}

async fn not_found(shared: Arc<Shared>, request: Request<Body>) -> Response<Body> {
    let protocol = routes::protocol_at(request.uri().path(), &shared.config.faces);
    refuse(nothing_there(), protocol, arrived(&request).trace)
}

fn nothing_there() -> Failure {
    Failure::problem(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.")
}

async fn wrong_method(shared: Arc<Shared>, request: Request<Body>) -> Response<Body> {
    let (path, faces) = (request.uri().path(), &shared.config.faces);
    let protocol = routes::protocol_at(path, faces);
    let allowed = routes::allowed_methods(path, faces);
    let reply = failure::method_not_allowed(protocol, &allowed, arrived(&request).trace);
    dressed(reply, protocol)
}

/// An answer outside any operation, in the words of what is around it.
fn refuse(failure: Failure, protocol: Protocol, trace: TraceId) -> Response<Body> {
    dressed(failure.into_reply_of(protocol, trace), protocol)
}

fn dressed(reply: Reply, protocol: Protocol) -> Response<Body> {
    let mut response = reply.into_response();
    face::dress(response.headers_mut(), protocol);
    response
}

/// Every request passes [`Gateway::answer`], which says so.
fn arrived<B>(request: &Request<B>) -> Arrived {
    let never = Arrived { trace: TraceId(0), started_ns: 0 };
    request.extensions().get::<Arrived>().copied().unwrap_or(never)
}

/// Takes one request through all steps and turns what comes out into an answer.
async fn perform(
    shared: Arc<Shared>,
    operation: &'static Operation,
    params: Option<Params>,
    request: Request<Body>,
) -> Response<Body> {
    let arrived = arrived(&request);
    let trace = arrived.trace;
    let (parts, body) = request.into_parts();
    let mut progress = Progress::default();
    let result = admit(&shared, operation, params, parts, body, arrived, &mut progress).await;
    let result = match result {
        Ok(call) => (operation.handler)(Arc::clone(&shared), call).await,
        Err(failure) => Err(failure),
    };
    match &result {
        Err(Failure::Denied { denied, by_ledger: false, .. }) => {
            shared.metrics.count_refusal(denied.reason.code());
        }
        Err(Failure::Face(failure)) => {
            if let Some(reason) = failure.reason {
                shared.metrics.count_refusal(reason);
            }
        }
        _ => {}
    }
    let reply: Reply = match result {
        Ok(reply) => reply,
        Err(failure) => failure.into_reply_of(operation.protocol, trace),
    };
    let mut response = dressed(reply, operation.protocol);
    if let Some(staleness) = progress.staleness.get() {
        staleness.dress(response.headers_mut());
    }
    if let Some(standing) = progress.standing {
        standing.dress(response.headers_mut());
    }
    if let Some(key) = progress.key.and_then(|key| HeaderValue::try_from(key).ok()) {
        response.headers_mut().insert(IDEMPOTENCY_KEY, key);
    }
    response.extensions_mut().insert(Answered { operation, asker: progress.asker });
    response
}

/// What is known of a call before it is let in, for its answer and the log.
struct Progress {
    key: Option<String>,
    asker: Asker,
    /// Where the caller stands; `None`: nobody counts it.
    standing: Option<Standing>,
    /// As of when a stale answer is, once it was read.
    staleness: Arc<OnceLock<Staleness>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { key: None, asker: Asker::Anyone, standing: None, staleness: Arc::default() }
    }
}

impl Progress {
    /// Counts a request of a caller, or turns it away.
    fn count(
        &mut self,
        shared: &Shared,
        caller: Option<Caller>,
        purpose: Use,
    ) -> Result<(), Failure> {
        let Some(caller) = caller else { return Ok(()) };
        let rate_of = |app| RateOf::app(&shared.context.cluster.ledger(), app);
        let standing = shared.rates.count(caller, purpose, rate_of);
        self.standing = standing;
        match standing.and_then(Standing::refusal) {
            None => Ok(()),
            Some(refusal) => {
                shared.metrics.count_refusal("rate_limited");
                Err(refusal)
            }
        }
    }
}

async fn admit(
    shared: &Shared,
    operation: &'static Operation,
    params: Option<Params>,
    parts: http::request::Parts,
    body: Body,
    arrived: Arrived,
    progress: &mut Progress,
) -> Result<Call, Failure> {
    let (clock, entropy) = (&*shared.context.clock, &*shared.context.entropy);
    let deadline = Deadline::of(arrived.started_ns, shared.context.cluster.failover_bound());
    // A segment that is no text names nothing.
    let params = params.ok_or_else(nothing_there)?;
    let query = parts.uri.query().unwrap_or_default();
    let consistency = Consistency::of_request(operation, query)?;
    let key = if operation.is_keyed() {
        let key = Key::of_request(&parts.headers, clock, entropy)?;
        progress.key = Some(key.text.clone());
        key
    } else if operation.credential == Credential::Face {
        Key::drawn(clock, entropy)
    } else {
        Key { text: String::new(), origin: lease::ids::KeyOrigin::Gateway }
    };
    let address = parts
        .extensions
        .get::<PeerAddress>()
        .map(|peer| address::caller(peer.0, &parts.headers, &shared.config.faces.trusted_proxies));
    let stranger = address.map(Caller::Address);
    let purpose = if operation.is_for_what_is_held() { Use::Holding } else { Use::Taking };
    if operation.counts_addresses() {
        progress.count(shared, stranger, purpose)?;
    }
    let principal = match identify(shared, operation, &parts, deadline).await {
        Ok(principal) => principal,
        // Whoever guesses is a stranger, and counted once.
        Err(failure) if failure.status() == StatusCode::UNAUTHORIZED => {
            if !operation.counts_addresses() {
                progress.count(shared, stranger, Use::Taking)?;
            }
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    };
    if let Principal::App(app) = &principal {
        progress.count(shared, Some(Caller::App(app.app)), purpose)?;
    }
    progress.asker = principal.asker();
    let asked_ns = clock.monotonic_ns();
    let body = receive(shared, operation, &parts.headers, body).await?;
    let deadline = deadline.later_by_ns(clock.monotonic_ns().saturating_sub(asked_ns));
    let trace = arrived.trace;
    let staleness = Arc::clone(&progress.staleness);
    Ok(Call {
        operation,
        parts,
        params,
        address,
        body,
        trace,
        principal,
        key,
        deadline,
        consistency,
        staleness,
    })
}

/// Who asks, where it can be told before the body is read.
async fn identify(
    shared: &Shared,
    operation: &Operation,
    parts: &http::request::Parts,
    deadline: Deadline,
) -> Result<Principal, Failure> {
    match operation.credential {
        Credential::Nobody => Ok(Principal::Anyone),
        Credential::Face => {
            shared.serving_keys()?;
            let face = operation.protocol.face();
            Ok(Principal::Face(face.ok_or_else(|| Failure::internal("a face that has no name"))?))
        }
        credential => {
            let keys = if operation.needs_recovery() {
                shared.serving_keys()?
            } else {
                shared.unsealed_keys()?
            };
            let certificate = parts.extensions.get::<ClientCertificate>().copied();
            auth::authenticate(shared, &keys, credential, &parts.headers, certificate, deadline)
                .await
        }
    }
}

async fn receive(
    shared: &Shared,
    operation: &Operation,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Failure> {
    if !operation.takes_body() {
        return Ok(Bytes::new());
    }
    let bound = BodyBound::of(operation);
    match operation.credential {
        Credential::Nobody | Credential::Client | Credential::Face => {
            let permits = bound.shares(headers);
            let _permit =
                shared.anonymous_bodies.try_acquire_many(permits).map_err(|_| overloaded())?;
            read_body(headers, body, bound).await
        }
        Credential::AccessToken(_)
        | Credential::Operator(_)
        | Credential::ApiKey(_)
        | Credential::JoinToken => read_body(headers, body, bound).await,
    }
}

fn overloaded() -> Failure {
    Failure::unavailable(
        "overloaded",
        "This node has more to do than it can.",
        std::time::Duration::from_secs(1),
    )
}

/// Headers of every answer.
fn finish_headers(headers: &mut HeaderMap, trace_id: TraceId) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Ok(value) = HeaderValue::try_from(trace::text(trace_id)) {
        headers.insert(trace::REQUEST_ID, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_forbids_sniffing_storing_and_plain_http() {
        let mut headers = HeaderMap::new();
        finish_headers(&mut headers, TraceId(7));
        let want = [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("strict-transport-security", "max-age=31536000"),
            ("x-request-id", "00000000-0000-0000-0000-000000000007"),
        ];
        for (name, value) in want {
            assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value));
        }
        assert!(!headers.contains_key("server"));
    }
}
