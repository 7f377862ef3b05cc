//! The listening side: takes connections of members and hands their calls to `raft`.
//!
//! A connection is taken after a TLS handshake in bounded time, by a certificate that chains to the
//! cluster's CA and names a member. The number of connections, the streams on each and the bytes of
//! each call are bounded; a stranger can do no more than open and lose connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::BoxStream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lease::ids::NodeId;
use parking_lot::Mutex;
use raft::{HandleError, MAX_CALL_BYTES, PeerCall};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES, MAX_STREAMS, ORDER, PATH_PREFIX, PeerIdentity, PeerTable,
    REPORT, STREAM_WINDOW_BYTES, frames,
};
use crate::pki;

/// Where calls go: `raft::Cluster`, by way of functions so that the transport stands alone.
pub struct Handlers {
    /// Answers a call of a proven node.
    pub call: Box<CallHandler>,
    /// Answers a stream of requests of a proven node.
    pub stream: Box<StreamHandler>,
    /// Receives a snapshot from a proven node.
    pub snapshot: Box<SnapshotHandler>,
    /// Says how this node stands.
    pub report: Box<ReportHandler>,
    /// This node's process, for orders.
    pub control: Arc<dyn gateway::NodeControl>,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Answer = BoxFuture<'static, Result<Bytes, HandleError>>;
type Answers = BoxStream<'static, Result<Bytes, HandleError>>;
type CallHandler = dyn Fn(NodeId, PeerCall, Bytes) -> Answer + Send + Sync;
type StreamHandler = dyn Fn(NodeId, PeerCall, BoxStream<'static, Bytes>) -> Answers + Send + Sync;
type SnapshotHandler =
    dyn Fn(NodeId, Bytes, BoxStream<'static, io::Result<Bytes>>) -> Answer + Send + Sync;

type ReportHandler = dyn Fn() -> Bytes + Send + Sync;

impl Handlers {
    /// Hands `raft`'s calls to a cluster.
    pub fn of(
        cluster: &raft::Cluster,
        report: Box<ReportHandler>,
        control: Arc<dyn gateway::NodeControl>,
    ) -> Self {
        let (for_calls, for_streams) = (cluster.clone(), cluster.clone());
        let for_snapshots = cluster.clone();
        Self {
            call: Box::new(move |from, call, body| {
                let cluster = for_calls.clone();
                Box::pin(async move { cluster.handle(from, call, body).await })
            }),
            stream: Box::new(move |from, call, requests| {
                for_streams.handle_stream(from, call, requests)
            }),
            snapshot: Box::new(move |from, header, chunks| {
                let cluster = for_snapshots.clone();
                Box::pin(async move { cluster.handle_snapshot(from, header, chunks).await })
            }),
            report,
            control,
        }
    }
}

/// The peer listener of a node.
pub struct PeerListener {
    /// The cluster whose members are let in.
    pub cluster_id: String,
    /// Who is a member.
    pub table: PeerTable,
    /// TLS that requires a client certificate of the cluster's CA: `identity`'s.
    pub tls: Arc<ServerConfig>,
    /// Whom it believes, for as long as connections last.
    pub identity: Arc<PeerIdentity>,
    /// Where calls go.
    pub handlers: Handlers,
}

impl PeerListener {
    /// Serves until `stop`, then lets calls in flight end for a short while.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let shared = Arc::new(self);
        let strangers = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let members = Arc::new(MemberPermits::default());
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Ok(permit) = strangers.clone().try_acquire_owned() else {
                        debug!(%address, "too many unproven peer connections: closed");
                        continue;
                    };
                    let (shared, stop) = (shared.clone(), stop.clone());
                    let members = members.clone();
                    connections.spawn(async move {
                        // Anybody can make this happen, as often as they like: each reason is
                        // told once, and not without end.
                        if let Err(reason) = shared.connection(stream, permit, &members, stop).await
                        {
                            if members.is_news(&reason) {
                                warn!(%address, reason, "a peer was not let in");
                            } else {
                                debug!(%address, reason, "a peer was not let in");
                            }
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or a connection that died while it waited.
                    warn!(%error, "accepting a peer connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// One connection; the error says why it was not let in.
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        permit: OwnedSemaphorePermit,
        members: &MemberPermits,
        stop: CancellationToken,
    ) -> Result<(), String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let handshake = TlsAcceptor::from(self.tls.clone()).accept(stream);
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("TLS: {error}")),
            Err(_) => return Err("no TLS handshake within 5 seconds".to_owned()),
        };
        let shown = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let from = shown
            .first()
            .and_then(|leaf| pki::node_of(&self.cluster_id, leaf))
            .ok_or_else(|| "its certificate names no node of this cluster".to_owned())?;
        if !self.table.may_speak(from) {
            return Err(format!("node {from} is not a member"));
        }
        let _admitted = members.take(from).ok_or("it has too many connections")?;
        drop(permit);
        let identity = self.identity.clone();
        let stopped = stop.clone();
        let service = service_fn(move |request| {
            let (shared, stop) = (self.clone(), stopped.clone());
            async move {
                let response = shared.answer(from, request, stop).await;
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_send_buf_size(MAX_CALL_BYTES)
            // A peer gives up on calls that take too long, on all of them when this node was slow:
            // ending the connection for it would make a short pause a long one.
            .max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = identity.until_distrusted(shown) => {
                debug!(peer = from, "a peer connection ends: its authority is believed no more");
                return Ok(());
            }
        };
        if let Err(error) = ended {
            debug!(peer = from, %error, "a peer connection ended");
        }
        Ok(())
    }

    async fn answer(
        &self,
        from: NodeId,
        request: Request<Incoming>,
        stop: CancellationToken,
    ) -> Response<Body> {
        match self.handle(from, request, stop).await {
            Ok(body) => Response::new(body),
            Err((status, reason)) => {
                debug!(peer = from, %status, reason, "a peer's call was refused");
                let mut response = Response::new(whole(reason.into()));
                *response.status_mut() = status;
                response
            }
        }
    }

    async fn handle(
        &self,
        from: NodeId,
        request: Request<Incoming>,
        stop: CancellationToken,
    ) -> Result<Body, (StatusCode, String)> {
        // Again for every call: a member may have been removed since the handshake.
        let path = request.uri().path().strip_prefix(PATH_PREFIX);
        let path = path.filter(|_| request.method() == Method::POST);
        // Calls of consensus say for themselves whom they take; all else is among members.
        let may = match path.and_then(PeerCall::from_path) {
            Some(_) => self.table.may_speak(from),
            None => self.table.contains(from),
        };
        if !may {
            return Err((StatusCode::FORBIDDEN, format!("node {from} is not a member")));
        }
        if path == Some(REPORT) {
            return Ok(whole((self.handlers.report)()));
        }
        if path == Some(ORDER) {
            return self.obey(request).await.map(whole);
        }
        let Some(call) = path.and_then(PeerCall::from_path) else {
            return Err((StatusCode::NOT_FOUND, "no such call".to_owned()));
        };
        let answered = match call {
            PeerCall::Appends => return Ok(self.stream(from, call, request.into_body(), stop)),
            PeerCall::Snapshot => {
                let (header, chunks) = split_snapshot(request.into_body())
                    .await
                    .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
                (self.handlers.snapshot)(from, header, chunks).await
            }
            _ => {
                let body = Limited::new(request.into_body(), MAX_CALL_BYTES).collect().await;
                let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                    true => (StatusCode::PAYLOAD_TOO_LARGE, "the call is too long".to_owned()),
                    false => (StatusCode::BAD_REQUEST, error.to_string()),
                })?;
                (self.handlers.call)(from, call, body.to_bytes()).await
            }
        };
        answered.map(whole).map_err(|error| (status_of(&error), crate::config::chain(&error)))
    }

    /// Answers a stream of requests with a stream of answers, for as long as the node serves and
    /// the peer may speak.
    fn stream(
        &self,
        from: NodeId,
        call: PeerCall,
        requests: Incoming,
        stop: CancellationToken,
    ) -> Body {
        let table = self.table.clone();
        let requests = frames::split(requests).scan((), move |(), request| {
            let request = request.inspect_err(|error| {
                debug!(peer = from, %error, "a peer's stream was cut");
            });
            future::ready(request.ok().filter(|_| table.may_speak(from)))
        });
        let answers = (self.handlers.stream)(from, call, requests.boxed()).map(move |answer| {
            frames::answer(answer.map_err(|error| {
                let reason = crate::config::chain(&error);
                debug!(peer = from, reason, "a peer's request was refused");
                reason
            }))
        });
        let answers = answers.take_until(stop.cancelled_owned());
        let chunks = frames::join(answers.boxed()).map(|chunk| Ok(Frame::data(chunk)));
        BodyExt::boxed_unsync(StreamBody::new(chunks))
    }

    /// Carries out another node's order.
    async fn obey(&self, request: Request<Incoming>) -> Result<Bytes, (StatusCode, String)> {
        let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
        let body = Limited::new(request.into_body(), MAX_ORDER_BYTES).collect().await;
        let body = body.map_err(|error| bad(error.to_string()))?.to_bytes();
        let order: gateway::NodeOrder =
            serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
        let result = self.handlers.control.perform(order, ORDER_TIME).await;
        serde_json::to_vec(&result).map(Bytes::from).map_err(|error| bad(error.to_string()))
    }
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

/// 4xx only where nothing can have been done.
fn status_of(error: &HandleError) -> StatusCode {
    match error {
        HandleError::Malformed(_) | HandleError::WrongCall(_) => StatusCode::BAD_REQUEST,
        HandleError::WrongSender { .. } => StatusCode::FORBIDDEN,
        HandleError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        HandleError::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
        HandleError::Snapshot(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Reads the header of a snapshot and leaves its chunks as a stream that gives up on a sender that
/// stalls.
async fn split_snapshot(
    body: Incoming,
) -> io::Result<(Bytes, BoxStream<'static, io::Result<Bytes>>)> {
    let mut frames = BodyStream::new(body);
    let mut head = BytesMut::new();
    let header = loop {
        if let Some(length) = head.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)) {
            let length = length as usize;
            if length > MAX_SNAPSHOT_HEADER_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "header too long"));
            }
            if head.len() >= 4 + length {
                head.advance(4);
                break head.split_to(length).freeze();
            }
        }
        let chunk = next_chunk(&mut frames).await.ok_or(io::ErrorKind::UnexpectedEof)?;
        head.extend_from_slice(&chunk?);
    };
    let rest = futures_util::stream::unfold(frames, |mut frames| async {
        let chunk = next_chunk(&mut frames).await?;
        Some((chunk, frames))
    });
    let first = Some(head.freeze()).filter(|first| !first.is_empty()).map(Ok);
    Ok((header, futures_util::stream::iter(first).chain(rest).boxed()))
}

/// How many more connections each member may have.
#[derive(Default)]
struct MemberPermits {
    members: Mutex<BTreeMap<NodeId, Arc<Semaphore>>>,
    /// Why connections were not let in, as far as it was told.
    told: Mutex<BTreeSet<String>>,
}

impl MemberPermits {
    fn take(&self, member: NodeId) -> Option<OwnedSemaphorePermit> {
        let mut members = self.members.lock();
        let permits = members
            .entry(member)
            .or_insert_with(|| Arc::new(Semaphore::new(MAX_CONNECTIONS_OF_MEMBER)));
        permits.clone().try_acquire_owned().ok()
    }

    /// Whether a reason is worth a line.
    fn is_news(&self, reason: &str) -> bool {
        let mut told = self.told.lock();
        told.len() < MAX_REASONS_TOLD && told.insert(reason.to_owned())
    }
}

async fn next_chunk(frames: &mut BodyStream<Incoming>) -> Option<io::Result<Bytes>> {
    let frame = match tokio::time::timeout(CHUNK_TIMEOUT, frames.next()).await {
        Ok(frame) => frame?.map_err(io::Error::other),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no chunk for 10 seconds")),
    };
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// Connections that have not proven who they are.
const MAX_HANDSHAKES: usize = 256;
/// Of one member: two, and room for those that are being replaced.
const MAX_CONNECTIONS_OF_MEMBER: usize = 32;
/// Lines about connections that were not let in, in the life of a process.
const MAX_REASONS_TOLD: usize = 16;
/// For a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls in flight when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// After a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Of an order.
const MAX_ORDER_BYTES: usize = 1024;
/// For an order; who gave it may wait for less.
const ORDER_TIME: Duration = Duration::from_secs(60);
/// Between two chunks of a snapshot.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a snapshot's header, which holds a membership and a position.
const MAX_SNAPSHOT_HEADER_BYTES: usize = 1 << 20;
/// Of a call's headers: a path and no more.
const MAX_HEADER_BYTES: u32 = 8 * 1024;
/// Between two pings on a connection.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// For the answer to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
