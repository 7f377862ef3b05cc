//! The peers' transport: `raft::Transport` over turmoil's TCP, so that whatever happens to the
//! simulated network happens to it.
//!
//! ```text
//! request   length (u32) │ call (u8) │ sender (u64) │ body        one at a time on a connection
//! stream    a request without a body; then, both ways at once:
//!           request   length (u32) │ body
//!           answer    as below
//! chunk     length (u32) │ bytes                                  after the header of a snapshot;
//!                                                                  length 0 ends it
//! answer    length (u32) │ 0 answered, 1 refused (u8) │ body
//! ```
//!
//! Connections are kept and used by one call at a time, as many as there are calls at once; a
//! stream has one to itself. One that failed, or whose answer came too late, is given up: turmoil's
//! TCP sends nothing again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use lease::ids::NodeId;
use parking_lot::Mutex;
use raft::{Cluster, HandleError, PeerCall, PeerStream, Transport, TransportError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use turmoil::net::tcp::OwnedWriteHalf;
use turmoil::net::{TcpListener, TcpStream};

use crate::shared::Shared;
use crate::time::Time;
use crate::trace::Trace;

/// One node's way to the others.
pub(crate) struct Link {
    idle: Mutex<BTreeMap<NodeId, Vec<TcpStream>>>,
    log: Log,
}

/// Calls that got no answer, by who asked whom: what a fault of the network is told by.
pub(crate) type Failures = Arc<Mutex<BTreeMap<(NodeId, NodeId), u64>>>;

/// What is noted of a node's calls.
#[derive(Clone)]
struct Log {
    own: NodeId,
    time: Time,
    trace: Arc<Trace>,
    failures: Failures,
    late: Arc<AtomicU64>,
}

impl Log {
    fn note(&self, what: &'static str, to: NodeId, call: PeerCall, body: &[u8]) {
        let sum = u64::from(crc32c::crc32c(body));
        let call = u64::from(call.number());
        self.trace.note(self.time.now_ns(), what, [self.own, to, call, sum]);
    }

    fn failed(&self, to: NodeId) {
        *self.failures.lock().entry((self.own, to)).or_default() += 1;
    }

    fn answered(&self, to: NodeId, call: PeerCall, answer: &[u8], asked_ns: u64) {
        self.note("answer", to, call, answer);
        if self.time.now_ns().saturating_sub(asked_ns) > LATE_NS {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn request(&self, call: PeerCall, body: &[u8]) -> Vec<u8> {
        let mut request = Vec::with_capacity(HEAD_BYTES + body.len());
        request.extend((1 + 8 + body.len() as u32).to_le_bytes());
        request.push(call.number());
        request.extend(self.own.to_le_bytes());
        request.extend(body);
        request
    }
}

impl Link {
    /// The link of a node that has just started.
    pub(crate) fn new(own: NodeId, shared: &Shared) -> Self {
        let log = Log {
            own,
            time: shared.time.clone(),
            trace: Arc::clone(&shared.trace),
            failures: Arc::clone(&shared.failures),
            late: Arc::clone(&shared.late),
        };
        Self { idle: Mutex::default(), log }
    }

    async fn connection(&self, to: NodeId) -> Result<TcpStream, TransportError> {
        let idle = self.idle.lock().get_mut(&to).and_then(Vec::pop);
        match idle {
            Some(stream) => Ok(stream),
            None => {
                let address = (host(to), PEER_PORT);
                let connected = TcpStream::connect(address).await;
                connected.map_err(|error| TransportError::NotSent(error.into()))
            }
        }
    }

    async fn exchange(
        &self,
        to: NodeId,
        call: PeerCall,
        body: Bytes,
        mut chunks: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Bytes, TransportError> {
        let asked_ns = self.log.time.now_ns();
        let mut stream = self.connection(to).await?;
        self.log.note("send", to, call, &body);
        stream.write_all(&self.log.request(call, &body)).await.map_err(unknown)?;
        if call == PeerCall::Snapshot {
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(unknown)?;
                for part in chunk.chunks(CHUNK_BYTES) {
                    stream.write_all(&(part.len() as u32).to_le_bytes()).await.map_err(unknown)?;
                    stream.write_all(part).await.map_err(unknown)?;
                }
            }
            stream.write_all(&0_u32.to_le_bytes()).await.map_err(unknown)?;
        }
        let answer = read_answer(&mut stream).await?;
        self.log.answered(to, call, &answer, asked_ns);
        self.idle.lock().entry(to).or_default().push(stream);
        Ok(answer)
    }

    async fn within(
        &self,
        to: NodeId,
        deadline: Duration,
        exchange: impl Future<Output = Result<Bytes, TransportError>>,
    ) -> Result<Bytes, TransportError> {
        let answered = match tokio::time::timeout(deadline, exchange).await {
            Ok(answered) => answered,
            Err(elapsed) => Err(TransportError::Unknown(elapsed.into())),
        };
        if answered.is_err() {
            self.log.failed(to);
            self.idle.lock().remove(&to);
        }
        answered
    }
}

impl Transport for Link {
    fn call(
        &self,
        to: NodeId,
        call: PeerCall,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        let exchange = self.exchange(to, call, body, stream::empty().boxed());
        Box::pin(self.within(to, deadline, exchange))
    }

    fn open(
        &self,
        to: NodeId,
        call: PeerCall,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<PeerStream, TransportError>> {
        Box::pin(async move {
            let connected = tokio::time::timeout(deadline, self.connection(to)).await;
            let connected = connected
                .unwrap_or_else(|elapsed| Err(TransportError::NotSent(elapsed.into())))
                .inspect_err(|_| self.log.failed(to))?;
            let (reader, writer) = connected.into_split();
            let (requests, waiting) = mpsc::channel(raft::MAX_STREAMED_REQUESTS);
            let asked = Arc::new(Mutex::new(VecDeque::new()));
            let mut sending = JoinSet::new();
            let log = self.log.clone();
            sending.spawn(send_all(log, to, call, waiting, writer, Arc::clone(&asked)));
            // What sends ends with what receives.
            let receiving = (reader, sending, self.log.clone());
            let answers = stream::unfold(Some(receiving), move |receiving| {
                let asked = Arc::clone(&asked);
                async move {
                    let (mut reader, sending, log) = receiving?;
                    let answer = read_answer(&mut reader).await;
                    let asked_ns = asked.lock().pop_front();
                    match (&answer, asked_ns) {
                        (Ok(answer), Some(asked_ns)) => log.answered(to, call, answer, asked_ns),
                        // That nothing was under way is the usual end.
                        (Err(_), None) => return None,
                        _ => log.failed(to),
                    }
                    let next = answer.is_ok().then_some((reader, sending, log));
                    Some((answer, next))
                }
            });
            Ok(PeerStream { requests, answers: answers.boxed() })
        })
    }

    fn send_snapshot(
        &self,
        to: NodeId,
        header: Bytes,
        chunks: BoxStream<'static, io::Result<Bytes>>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        // A connection that was cut is not noticed by itself here; nobody waits ten minutes.
        let deadline = deadline.min(SNAPSHOT_DEADLINE);
        let exchange = self.exchange(to, PeerCall::Snapshot, header, chunks);
        Box::pin(self.within(to, deadline, exchange))
    }

    fn set_peers(&self, _peers: Vec<(NodeId, String)>) {}
}

/// Sends the requests of a stream until there are no more, and notes when.
async fn send_all(
    log: Log,
    to: NodeId,
    call: PeerCall,
    mut requests: mpsc::Receiver<Bytes>,
    mut writer: OwnedWriteHalf,
    asked: Arc<Mutex<VecDeque<u64>>>,
) -> io::Result<()> {
    writer.write_all(&log.request(call, &[])).await?;
    while let Some(request) = requests.recv().await {
        log.note("send", to, call, &request);
        asked.lock().push_back(log.time.now_ns());
        writer.write_all(&(request.len() as u32).to_le_bytes()).await?;
        writer.write_all(&request).await?;
    }
    writer.shutdown().await
}

async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, TransportError> {
    let answer = read_frame(stream).await.map_err(unknown)?;
    let (kind, answer) = answer.split_first().ok_or_else(|| unknown(cut_short()))?;
    if *kind != ANSWERED {
        let why = String::from_utf8_lossy(answer).into_owned();
        return Err(TransportError::Unknown(why.into()));
    }
    Ok(Bytes::copy_from_slice(answer))
}

fn unknown(error: io::Error) -> TransportError {
    TransportError::Unknown(error.into())
}

/// Answers peers for as long as the node runs.
pub(crate) async fn serve(cluster: Cluster) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PEER_PORT)).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(answer(cluster.clone(), stream));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(cluster: Cluster, mut stream: TcpStream) {
    // A connection that ends is the other side's business.
    while let Ok(frame) = read_frame(&mut stream).await {
        let Some((call, from, body)) = parse(&frame) else { return };
        if call == PeerCall::Appends {
            return answer_stream(cluster, from, call, stream).await;
        }
        let answered = if call == PeerCall::Snapshot {
            let (chunks, receiver) = tokio::sync::mpsc::channel(4);
            let received = stream::unfold(receiver, |mut receiver| async move {
                Some((receiver.recv().await?, receiver))
            });
            let handling = cluster.handle_snapshot(from, body, received.boxed());
            tokio::pin!(handling);
            let reading = read_chunks(&mut stream, chunks);
            tokio::pin!(reading);
            tokio::select! {
                biased;
                answered = &mut handling => answered,
                whole = &mut reading => match whole {
                    Ok(()) => handling.await,
                    Err(_) => return,
                },
            }
        } else {
            cluster.handle(from, call, body).await
        };
        if write_answer(&mut stream, answered).await.is_err() {
            return;
        }
    }
}

/// Answers a stream's requests until either side ends it.
async fn answer_stream(cluster: Cluster, from: NodeId, call: PeerCall, stream: TcpStream) {
    let (reader, mut writer) = stream.into_split();
    let requests = stream::unfold(reader, |mut reader| async {
        Some((read_frame(&mut reader).await.ok()?.into(), reader))
    });
    let mut answers = cluster.handle_stream(from, call, requests.boxed());
    drop(cluster);
    while let Some(answered) = answers.next().await {
        if write_answer(&mut writer, answered).await.is_err() {
            return;
        }
    }
}

async fn write_answer(
    stream: &mut (impl AsyncWrite + Unpin),
    answered: Result<Bytes, HandleError>,
) -> io::Result<()> {
    let mut frame = vec![0; 4];
    match answered {
        Ok(answer) => {
            frame.push(ANSWERED);
            frame.extend(&answer);
        }
        // The node is on its way down: the connection breaks, as it would.
        Err(HandleError::ShuttingDown) => return Err(cut_short()),
        Err(error) => {
            frame.push(ANSWERED + 1);
            frame.extend(error.to_string().as_bytes());
        }
    }
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_le_bytes());
    stream.write_all(&frame).await
}

async fn read_chunks(
    stream: &mut TcpStream,
    chunks: tokio::sync::mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    loop {
        match read_frame(stream).await {
            Ok(chunk) if chunk.is_empty() => return Ok(()),
            Ok(chunk) => {
                if chunks.send(Ok(chunk.into())).await.is_err() {
                    return Err(cut_short());
                }
            }
            Err(error) => {
                let _ = chunks.send(Err(cut_short())).await;
                return Err(error);
            }
        }
    }
}

fn parse(frame: &[u8]) -> Option<(PeerCall, NodeId, Bytes)> {
    let (call, rest) = frame.split_first()?;
    let (from, body) = rest.split_first_chunk()?;
    let call = PeerCall::from_number(*call)?;
    Some((call, NodeId::from_le_bytes(*from), Bytes::copy_from_slice(body)))
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_le_bytes(len) as usize;
    if len > raft::MAX_CALL_BYTES + HEAD_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; len];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

fn cut_short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// The name of a node's host.
pub(crate) fn host(node: NodeId) -> String {
    format!("node-{node}")
}

/// Where peers are answered.
pub(crate) const PEER_PORT: u16 = 7411;
const ANSWERED: u8 = 0;
/// A call that took longer was late: four messages at their usual slowest, and a sync.
const LATE_NS: u64 = 40_000_000;
const HEAD_BYTES: usize = 13;
/// Of a snapshot in one frame.
const CHUNK_BYTES: usize = 16 << 10;
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(8);
