//! The listener: accepts, shakes hands, hands requests on, and lets go in time.
//!
//! Our own loop rather than a framework's, because every bound a hostile client can push against
//! is here: time for the TLS handshake, time for a request head, size and number of headers,
//! connections in all, and idle time. A client that stalls anywhere loses its connection and
//! nothing else happens.
//!
//! ALPN decides between HTTP/1.1 and HTTP/2, so that no bytes need to be waited for to find out.
//! The certificate is read from a watch at every handshake: a new one needs no restart.
//!
//! What it leaves to others: everything about a request's meaning ([`crate::gateway`]).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, warn};

use crate::address::PeerAddress;
use crate::gateway::Gateway;
use crate::reply::Lasting;

/// The bounds of the listener. The defaults are what the product runs with.
#[derive(Debug, Clone)]
pub struct ListenerLimits {
    /// Connections at once over all listeners; one more is closed at once.
    pub max_connections: usize,
    /// Milliseconds for the TLS handshake.
    pub handshake_timeout_ms: u64,
    /// Milliseconds for a request head, also between two requests of an HTTP/1.1 connection.
    pub header_timeout_ms: u64,
    /// Milliseconds without a request after which a connection is asked to end; after as many
    /// again it is cut.
    pub idle_period_ms: u64,
    /// Bytes of a request head. (Headers of an HTTP/1.1 request: hyper's 100, which it keeps on the
    /// stack.)
    pub max_header_bytes: usize,
    /// Streams at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// Milliseconds for requests in flight when the node stops.
    pub drain_timeout_ms: u64,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            handshake_timeout_ms: 5_000,
            header_timeout_ms: 15_000,
            idle_period_ms: 30_000,
            max_header_bytes: 32 * 1024,
            max_streams: 256,
            drain_timeout_ms: 10_000,
        }
    }
}

/// A TLS configuration as the gateway wants it: TLS 1.2 and 1.3, `h2` and `http/1.1`, aws-lc-rs. A
/// client may show a certificate, of whatever authority: the handshake proves that it holds the
/// key, and what the certificate is good for is each application's policy (RFC 8705, section 3).
pub fn tls_config(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate that a request's connection was opened with; its key was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate (DER).
    pub sha256: [u8; 32],
}

/// Asks for a client certificate, requires none, and takes any whose key is proven.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Who issued it, and for how long, says nothing here: it is compared as a whole.
    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts until `shutdown` resolves, then drains. Returns when the last connection is gone or cut.
pub(crate) async fn serve(
    gateway: Gateway,
    listeners: Vec<TcpListener>,
    tls: watch::Receiver<Arc<ServerConfig>>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let limits = Arc::new(gateway.limits().clone());
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept_any(&listeners) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: let connections end before the next.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            },
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            debug!(%peer, "connection refused: the limit is reached");
            continue;
        };
        let connection = Connection {
            gateway: gateway.clone(),
            limits: Arc::clone(&limits),
            tls: TlsAcceptor::from(tls.borrow().clone()),
            stopping: stopping.clone(),
            peer,
            _permit: permit,
        };
        connections.spawn(connection.run(stream));
    }
    drop(listeners);
    // Nobody listens when every connection has ended already.
    stop.send_replace(true);
    gateway.end_streams();
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let drain_timeout = Duration::from_millis(limits.drain_timeout_ms);
    if tokio::time::timeout(drain_timeout, drained).await.is_err() {
        warn!(left = connections.len(), "connections cut at the end of the drain time");
        connections.shutdown().await;
    }
}

async fn accept_any(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        for listener in listeners {
            if let std::task::Poll::Ready(accepted) = listener.poll_accept(context) {
                return std::task::Poll::Ready(accepted);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        error!(%failure, "a connection's task panicked");
    }
}

struct Connection {
    gateway: Gateway,
    limits: Arc<ListenerLimits>,
    tls: TlsAcceptor,
    stopping: watch::Receiver<bool>,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        // Answers are small and complete: waiting for more to send only adds latency.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY");
        }
        let handshake_timeout = Duration::from_millis(self.limits.handshake_timeout_ms);
        let mut stopping = self.stopping.clone();
        let handshake = tokio::time::timeout(handshake_timeout, self.tls.accept(stream));
        let stream = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    debug!(peer = %self.peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    debug!(peer = %self.peer, "TLS handshake timed out");
                    return;
                }
            },
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate =
            shown.map(|leaf| ClientCertificate { sha256: Sha256::digest(leaf).into() });
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let activity = Arc::new(Activity::default());
        let service = {
            let gateway = self.gateway.clone();
            let activity = Arc::clone(&activity);
            let peer = PeerAddress(self.peer.ip());
            hyper::service::service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                if let Some(certificate) = certificate {
                    request.extensions_mut().insert(certificate);
                }
                let gateway = gateway.clone();
                let in_flight = activity.begin();
                async move {
                    let mut response: Response<Body> = gateway.answer(request).await;
                    if response.extensions_mut().remove::<Lasting>().is_some() {
                        response = response.map(|body| held_by(body, in_flight));
                    }
                    Ok::<_, std::convert::Infallible>(response)
                }
            })
        };
        let io = TokioIo::new(stream);
        if is_h2 {
            self.drive(self.http2().serve_connection(io, service), &activity).await;
        } else {
            self.drive(self.http1().serve_connection(io, service), &activity).await;
        }
    }

    fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(self.limits.header_timeout_ms))
            .max_buf_size(self.limits.max_header_bytes)
            .keep_alive(true);
        builder
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let max_header_bytes = u32::try_from(self.limits.max_header_bytes).unwrap_or(u32::MAX);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.max_streams)
            .max_header_list_size(max_header_bytes)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .keep_alive_interval(Duration::from_millis(self.limits.idle_period_ms))
            .keep_alive_timeout(Duration::from_millis(self.limits.header_timeout_ms));
        builder
    }

    /// Runs a connection to its end; asks it to end when the node stops or nothing happens for a
    /// whole idle period, and cuts it when asking had no effect for another.
    async fn drive<C>(&self, connection: C, activity: &Activity)
    where
        C: GracefulConnection,
        C::Error: std::fmt::Display,
    {
        let mut connection = pin!(connection);
        let mut stopping = self.stopping.clone();
        let mut asked_to_end = false;
        let period = Duration::from_millis(self.limits.idle_period_ms);
        let mut ticks = tokio::time::interval(period);
        ticks.tick().await; // the first is immediate
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        debug!(peer = %self.peer, %error, "connection ended with an error");
                    }
                    return;
                }
                _ = stopping.wait_for(|stop| *stop), if !asked_to_end => {
                    asked_to_end = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = ticks.tick() => if activity.idle_since_last_look() {
                    if asked_to_end {
                        debug!(peer = %self.peer, "idle connection cut");
                        return;
                    }
                    asked_to_end = true;
                    connection.as_mut().graceful_shutdown();
                },
            }
        }
    }
}

/// What a connection has been doing.
#[derive(Default)]
struct Activity {
    in_flight: AtomicUsize,
    begun: AtomicU64,
    begun_at_last_look: AtomicU64,
}

struct InFlight(Arc<Activity>);

impl Activity {
    fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    fn idle_since_last_look(&self) -> bool {
        let begun = self.begun.load(Ordering::Relaxed);
        let before = self.begun_at_last_look.swap(begun, Ordering::Relaxed);
        begun == before && self.in_flight.load(Ordering::Relaxed) == 0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body as long as which a request is in flight.
fn held_by(body: Body, in_flight: InFlight) -> Body {
    Body::new(body.map_frame(move |frame| {
        // Goes with the last frame, or with a reader that went away.
        let _held = &in_flight;
        frame
    }))
}

/// How long to wait after a failed accept.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Streams a peer may reset before we accepted them (the rapid reset attack, CVE-2023-44487).
const PENDING_RESETS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_only_when_nothing_began_and_nothing_runs() {
        let activity = Arc::new(Activity::default());
        assert!(activity.idle_since_last_look());
        let running = activity.begin();
        assert!(!activity.idle_since_last_look(), "one began");
        assert!(!activity.idle_since_last_look(), "one runs");
        drop(running);
        assert!(activity.idle_since_last_look());
        drop(activity.begin());
        assert!(!activity.idle_since_last_look(), "one began and ended since");
        assert!(activity.idle_since_last_look());
    }
}
