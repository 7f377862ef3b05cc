//! The calling side: connections to peers, made when needed and made again when lost.
//!
//! One task per connection dials, shakes hands and then drives it until it ends. Callers wait for
//! it up to their own deadline, but the dialling goes on without them: a deadline of 50 ms must
//! not keep a connection over 200 ms of distance from ever coming up. After a failure the next
//! dial waits a little longer each time; calls that come meanwhile fail at once as not sent.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lease::ids::NodeId;
use parking_lot::Mutex;
use raft::{
    MAX_CALL_BYTES, MAX_STREAMED_REQUESTS, PeerCall, PeerStream, Transport, TransportError,
};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use storage::seam::Clock;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use super::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES, MAX_STREAMS, ORDER, PATH_PREFIX, PeerIdentity, PeerTable,
    REPORT, STREAM_WINDOW_BYTES, frames,
};
use crate::pki;

/// Carries `raft`'s calls to the other nodes.
pub struct PeerTransport {
    cluster_id: String,
    identity: Arc<PeerIdentity>,
    table: PeerTable,
    clock: Arc<dyn Clock>,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
}

/// Both connections to one peer.
struct Link {
    node: NodeId,
    address: String,
    calls: Channel,
    snapshots: Channel,
}

/// One connection and its upkeep.
struct Channel {
    purpose: Purpose,
    peer: Arc<Peer>,
    state: watch::Sender<State>,
    tasks: Mutex<JoinSet<()>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Calls,
    Snapshots,
}

impl Purpose {
    /// Between two pings, and for the answer. Bulk data may hold a ping up for long; calls may not.
    fn pings(self) -> (Duration, Duration) {
        match self {
            Self::Calls => (Duration::from_millis(500), Duration::from_secs(2)),
            Self::Snapshots => (Duration::from_secs(5), Duration::from_secs(20)),
        }
    }
}

/// What a dial needs to know.
struct Peer {
    node: NodeId,
    address: String,
    tls: Arc<ClientConfig>,
    identity: Arc<PeerIdentity>,
    clock: Arc<dyn Clock>,
}

enum State {
    /// No connection; after a failure not before that time, and why.
    Down {
        failures: u32,
        retry_at_ns: u64,
        reason: String,
    },
    Dialling {
        failures: u32,
    },
    Up(SendRequest<Body>),
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

impl PeerTransport {
    /// A transport that shows this identity and reaches the members in `table`.
    pub fn new(
        cluster_id: String,
        identity: Arc<PeerIdentity>,
        table: PeerTable,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { cluster_id, identity, table, clock, links: Mutex::default() }
    }

    /// How another node says it stands; `None` when that cannot be had within the deadline.
    pub async fn report(&self, node: NodeId, deadline: Duration) -> Option<Bytes> {
        let body = Full::default().map_err(|never| match never {}).boxed_unsync();
        let link = self.link(node).ok()?;
        exchange(&link.calls, request(&link, REPORT, body).ok()?, deadline).await.ok()
    }

    /// Tells another node what to do.
    async fn tell(
        &self,
        node: NodeId,
        order: gateway::NodeOrder,
        deadline: Duration,
    ) -> Result<String, gateway::OrderError> {
        let unreachable = gateway::OrderError::Unreachable;
        let order = serde_json::to_vec(&order)
            .map_err(|error| gateway::OrderError::Failed(error.to_string()))?;
        let body = Full::new(Bytes::from(order)).map_err(|never| match never {}).boxed_unsync();
        let link = self.link(node).map_err(|_| unreachable.clone())?;
        let asked = request(&link, ORDER, body).map_err(|_| unreachable.clone())?;
        let answer = exchange(&link.calls, asked, deadline).await.map_err(|_| unreachable)?;
        serde_json::from_slice::<Result<String, gateway::OrderError>>(&answer)
            .map_err(|error| gateway::OrderError::Failed(error.to_string()))?
    }

    /// The link to a member, made anew when its address has changed.
    fn link(&self, node: NodeId) -> Result<Arc<Link>, TransportError> {
        let address = self
            .table
            .address(node)
            .ok_or_else(|| not_sent(format!("node {node} is not a member")))?;
        let mut links = self.links.lock();
        if let Some(link) = links.get(&node).filter(|link| link.address == address) {
            return Ok(link.clone());
        }
        let tls = self.identity.client_config(&self.cluster_id, node).map_err(not_sent)?;
        let peer = Arc::new(Peer {
            node,
            address: address.clone(),
            tls: Arc::new(tls),
            identity: self.identity.clone(),
            clock: self.clock.clone(),
        });
        let link = Arc::new(Link {
            node,
            address,
            calls: Channel::new(Purpose::Calls, peer.clone()),
            snapshots: Channel::new(Purpose::Snapshots, peer),
        });
        links.insert(node, link.clone());
        Ok(link)
    }
}

impl Transport for PeerTransport {
    fn call(
        &self,
        to: NodeId,
        call: PeerCall,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        async move {
            let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
            let link = self.link(to)?;
            exchange(&link.calls, request(&link, call.path(), body)?, deadline).await
        }
        .boxed()
    }

    fn open(
        &self,
        to: NodeId,
        call: PeerCall,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<PeerStream, TransportError>> {
        async move {
            let link = self.link(to)?;
            let mut sender = connected(&link.calls, deadline).await?;
            let (requests, waiting) = mpsc::channel(MAX_STREAMED_REQUESTS);
            let waiting =
                stream::unfold(waiting, async |mut waiting| Some((waiting.recv().await?, waiting)));
            let chunks = frames::join(waiting.boxed()).map(|chunk| Ok(Frame::data(chunk)));
            let body = BodyExt::boxed_unsync(StreamBody::new(chunks));
            // On its way from here on; the response comes with the first answer.
            let response = sender.try_send_request(request(&link, call.path(), body)?);
            let answers = stream::once(async move {
                let response = response.await.map_err(not_answered)?;
                if response.status() != StatusCode::OK {
                    return Err(read_answer(response)
                        .await
                        .err()
                        .unwrap_or_else(|| unknown("a stream was answered by something else")));
                }
                Ok(frames::split(response.into_body())
                    .map(|answer| frames::judged(answer.map_err(unknown)?).map_err(unknown)))
            });
            Ok(PeerStream { requests, answers: answers.try_flatten().boxed() })
        }
        .boxed()
    }

    fn send_snapshot(
        &self,
        to: NodeId,
        header: Bytes,
        chunks: BoxStream<'static, io::Result<Bytes>>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        async move {
            let length = u32::try_from(header.len()).map_err(not_sent)?;
            let mut head = BytesMut::with_capacity(4 + header.len());
            head.put_u32_le(length);
            head.extend_from_slice(&header);
            let head = stream::once(async move { Ok(head.freeze()) });
            let frames = head.chain(chunks).map(|chunk| chunk.map(Frame::data));
            let body = BodyExt::boxed_unsync(StreamBody::new(frames));
            let link = self.link(to)?;
            exchange(&link.snapshots, request(&link, PeerCall::Snapshot.path(), body)?, deadline)
                .await
        }
        .boxed()
    }

    fn set_peers(&self, peers: Vec<(NodeId, String)>) {
        self.table.replace(peers);
        // A removed member's connections end with its link.
        self.links.lock().retain(|node, link| {
            self.table.address(*node).is_some_and(|address| address == link.address)
        });
    }
}

impl gateway::PeerProbe for PeerTransport {
    fn probe(&self, node: NodeId, deadline: Duration) -> BoxFuture<'_, Option<Bytes>> {
        self.report(node, deadline).boxed()
    }

    fn order(
        &self,
        node: NodeId,
        order: gateway::NodeOrder,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<String, gateway::OrderError>> {
        self.tell(node, order, deadline).boxed()
    }
}

fn request(link: &Link, call: &str, body: Body) -> Result<Request<Body>, TransportError> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("https://node-{}{PATH_PREFIX}{call}", link.node))
        .body(body)
        .map_err(not_sent)
}

/// Sends a request over a channel and reads the whole answer, within the deadline.
async fn exchange(
    channel: &Channel,
    request: Request<Body>,
    deadline: Duration,
) -> Result<Bytes, TransportError> {
    let started_ns = channel.peer.clock.monotonic_ns();
    let mut sender = connected(channel, deadline).await?;
    let spent = channel.peer.clock.monotonic_ns().saturating_sub(started_ns);
    let rest = deadline.saturating_sub(Duration::from_nanos(spent));
    let answer = async {
        let response = sender.try_send_request(request).await.map_err(not_answered)?;
        read_answer(response).await
    };
    // Dropping the future resets the stream: the peer stops working for nobody.
    tokio::time::timeout(rest, answer)
        .await
        .unwrap_or_else(|_| Err(unknown("no answer within the deadline")))
}

/// The sender of a channel's connection, once it is up.
async fn connected(
    channel: &Channel,
    deadline: Duration,
) -> Result<SendRequest<Body>, TransportError> {
    tokio::time::timeout(deadline, channel.sender())
        .await
        .unwrap_or_else(|_| Err(not_sent("no connection within the deadline")))
}

fn not_answered(mut error: TrySendError<Request<Body>>) -> TransportError {
    match error.take_message() {
        Some(_) => not_sent(error.into_error()),
        None => unknown(error.into_error()),
    }
}

async fn read_answer(response: Response<Incoming>) -> Result<Bytes, TransportError> {
    let status = response.status();
    let limit = if status == StatusCode::OK { MAX_CALL_BYTES } else { MAX_REASON_BYTES };
    let body = Limited::new(response.into_body(), limit).collect().await.map_err(unknown)?;
    let body = body.to_bytes();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let reason = format!("{status}: {}", String::from_utf8_lossy(&body).escape_default());
    Err(if status.is_client_error() { not_sent(reason) } else { unknown(reason) })
}

impl Channel {
    fn new(purpose: Purpose, peer: Arc<Peer>) -> Self {
        let never = State::Down { failures: 0, retry_at_ns: 0, reason: String::new() };
        Self { purpose, peer, state: watch::Sender::new(never), tasks: Mutex::default() }
    }

    /// The connection's sender, once it is up; an error when the last dial failed a moment ago.
    async fn sender(&self) -> Result<SendRequest<Body>, TransportError> {
        let mut state = self.state.subscribe();
        loop {
            // The guard of the watch must be gone before a dial changes it.
            let dial = match &*state.borrow_and_update() {
                State::Up(sender) if !sender.is_closed() => return Ok(sender.clone()),
                State::Up(_) | State::Dialling { .. } => false,
                State::Down { retry_at_ns, reason, .. }
                    if self.peer.clock.monotonic_ns() < *retry_at_ns =>
                {
                    return Err(not_sent(reason.clone()));
                }
                State::Down { .. } => true,
            };
            if dial {
                self.dial();
            }
            // The sending half of this watch lives in self.
            state.changed().await.map_err(not_sent)?;
        }
    }

    /// Starts a dial unless another caller just has.
    fn dial(&self) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        let mut failures = 0;
        let begun = self.state.send_if_modified(|state| {
            let State::Down { failures: before, .. } = state else { return false };
            failures = *before;
            *state = State::Dialling { failures };
            true
        });
        if begun {
            tasks.spawn(run(self.purpose, self.peer.clone(), self.state.clone()));
        }
    }
}

/// One connection from dial to end.
async fn run(purpose: Purpose, peer: Arc<Peer>, state: watch::Sender<State>) {
    match connect(&peer, purpose).await {
        Ok((sender, connection, chain)) => {
            let up_at_ns = peer.clock.monotonic_ns();
            let failures = match state.send_replace(State::Up(sender)) {
                State::Dialling { failures } => failures,
                State::Down { .. } | State::Up(_) => 0,
            };
            info!(peer = peer.node, address = %peer.address, ?purpose, "connected to peer");
            let reason = tokio::select! {
                ended = connection => match ended {
                    Ok(()) => "the peer closed the connection".to_owned(),
                    Err(error) => crate::config::chain(&error),
                },
                () = peer.identity.until_distrusted(chain) => {
                    "its certificate is of an authority that is believed no more".to_owned()
                }
            };
            info!(peer = peer.node, address = %peer.address, ?purpose, reason, "lost peer");
            // TLS 1.3 lets us in before the peer has looked at our certificate: one that takes us
            // for a stranger closes at once, and must not be dialled in a circle.
            let lived_ns = peer.clock.monotonic_ns().saturating_sub(up_at_ns);
            let after = if Duration::from_nanos(lived_ns) < SHORT_LIFE {
                down_after(failures.saturating_add(1), &peer, reason)
            } else {
                State::Down { failures: 0, retry_at_ns: 0, reason }
            };
            state.send_replace(after);
        }
        Err(error) => {
            let reason = crate::config::chain(&*error);
            let is_first = matches!(*state.borrow(), State::Dialling { failures: 0 });
            if is_first && names_another(&*error) {
                warn!(
                    peer = peer.node,
                    address = %peer.address,
                    "another node of the cluster answers there: the peer was replaced, or a new \
                     epoch began; what is left of a former one must not run"
                );
            }
            if is_first && is_distrust(&*error) && !names_another(&*error) {
                warn!(
                    peer = peer.node,
                    address = %peer.address,
                    reason,
                    "the peer's certificate is not believed: another cluster, or another authority"
                );
            }
            debug!(peer = peer.node, address = %peer.address, ?purpose, reason, "no connection");
            state.send_modify(|state| {
                let failures = match state {
                    State::Dialling { failures } => failures.saturating_add(1),
                    State::Down { .. } | State::Up(_) => 1,
                };
                *state = down_after(failures, &peer, reason);
            });
        }
    }
}

/// Whether a certificate was not believed.
fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// Whether a certificate was of the cluster, and of another node than the one that was dialled.
fn names_another(error: &(dyn Error + 'static)) -> bool {
    let named =
        rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure);
    tls_error(error) == Some(&named)
}

/// What TLS said, wherever it is among the causes.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let of_tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(found) = of_tls.or(error.downcast_ref::<rustls::Error>()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// No connection until a pause is over that doubles with each failure.
fn down_after(failures: u32, peer: &Peer, reason: String) -> State {
    let pause = (RETRY_FIRST * 2_u32.saturating_pow(failures.min(16) - 1)).min(RETRY_MAX);
    let pause_ns = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
    State::Down {
        failures,
        retry_at_ns: peer.clock.monotonic_ns().saturating_add(pause_ns),
        reason,
    }
}

type Chain = Vec<CertificateDer<'static>>;
type Connection =
    http2::Connection<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, Body, TokioExecutor>;

async fn connect(
    peer: &Peer,
    purpose: Purpose,
) -> Result<(SendRequest<Body>, Connection, Chain), Box<dyn Error + Send + Sync>> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&peer.address)).await??;
    stream.set_nodelay(true)?;
    // The name is not compared (the verifier wants one exact URI) and not sent.
    let name = ServerName::try_from("node.invalid")?;
    let handshake = TlsConnector::from(peer.tls.clone()).connect(name, stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await??;
    if stream.get_ref().1.alpn_protocol() != Some(pki::PEER_ALPN) {
        return Err("the peer does not speak HTTP/2".into());
    }
    let chain = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    let (ping_interval, ping_timeout) = purpose.pings();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_max_send_streams(MAX_STREAMS as usize)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(MAX_CALL_BYTES)
        // A peer whose machine is gone sends no FIN: without an answer to a ping it is given up.
        .keep_alive_interval(ping_interval)
        .keep_alive_timeout(ping_timeout)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((sender, connection, chain))
}

fn not_sent(reason: impl Into<Box<dyn Error + Send + Sync>>) -> TransportError {
    TransportError::NotSent(reason.into())
}

fn unknown(reason: impl Into<Box<dyn Error + Send + Sync>>) -> TransportError {
    TransportError::Unknown(reason.into())
}

/// For lookup and TCP: shorter than the pauses in which the system repeats a lost first packet, so
/// that a network that is back is found out at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after the first failed dial; doubled for each further one.
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// Longest pause, whatever the failures: a node that came back is found within an election timeout.
/// One that was killed young is no stranger either: a longer pause for connections that end soon
/// once kept two survivors from electing for four seconds.
const RETRY_MAX: Duration = Duration::from_millis(160);
/// A connection that ends sooner counts as a failed dial.
const SHORT_LIFE: Duration = Duration::from_secs(2);
/// Of a refusal's text, for the log.
const MAX_REASON_BYTES: usize = 4096;
