//! A backup as a download: the state of one moment, streamed as the snapshot file.
//!
//! A checkpoint is written and pinned, so what streams does not change under the reader and the
//! node goes on. As long as it is pinned, checkpoints wait in memory and on disk: so a reader that
//! stalls, or takes too long in all, loses its stream, and only so many stream at once. The file
//! proves itself whole at its end; its SHA-256 comes as a trailer besides (RFC 9530) where the
//! client takes trailers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::StreamBody;
use hyper::body::Frame;
use protocol::cloud::admin::{SnapshotRequest, SnapshotResponse};
use protocol::cloud::problem::Problem;
use raft::BackupError;
use sha2::{Digest, Sha256};
use storage::seam::Clock;
use storage::state::SnapshotChunks;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::call::Call;
use crate::control::{NodeOrder, OrderError};
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /admin/snapshot`
pub(crate) async fn save(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let Ok(permit) = Arc::clone(&shared.snapshots).try_acquire_owned() else {
        return Err(Failure::unavailable(
            "too_many_snapshots",
            "This node is sending snapshots already; ask another, or later.",
            RETRY_BUSY,
        ));
    };
    let cluster = &shared.context.cluster;
    let held = cluster.backup(shared.left(call.deadline)).await.map_err(not_held)?;
    let index = held.meta().applied.map_or(0, |applied| applied.index);
    let name = {
        let ledger = cluster.ledger();
        let identity = ledger.cluster();
        let (id, epoch) = identity.map_or(("none", 0), |it| (&*it.cluster_id, it.epoch));
        format!("leasehold-{id}-{epoch}-{index}.snapshot")
    };
    let chunks = held.chunks().map_err(|_| Failure::internal("the stored state does not read"))?;
    drop(held);
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let sending = Sending {
        chunks,
        sender,
        runtime: Handle::current(),
        clock: Arc::clone(&shared.context.clock),
        _permit: permit,
    };
    // Reads the disk, so not on the threads of the runtime; ends by itself within its bound.
    drop(tokio::task::spawn_blocking(move || sending.run()));
    let frames = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\""))
        .map_err(|_| Failure::internal("the cluster's id is no file name"))?;
    let reply = Reply::stream(OCTETS, Body::new(StreamBody::new(frames)))
        .lasting()
        .header(CONTENT_DISPOSITION, disposition)
        .header(APPLIED_INDEX, HeaderValue::from(index))
        .header(TRAILER, HeaderValue::from_static("content-digest"));
    Ok(reply)
}

/// `POST /admin/snapshots`
pub(crate) async fn save_on_node(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: SnapshotRequest = call.json_or_default()?;
    let node_id = request.node_id.unwrap_or(shared.config.node);
    if shared.context.cluster.ledger().member(node_id).is_none() {
        let problem = Problem::new(404, "unknown_member", "No such node.");
        return Err(problem.into());
    }
    let (context, left) = (&shared.context, shared.left(call.deadline).min(ORDER_TIME));
    let told = if node_id == shared.config.node {
        context.control.perform(NodeOrder::SaveSnapshot, left).await
    } else {
        context.peers.order(node_id, NodeOrder::SaveSnapshot, left).await
    };
    match told {
        Ok(file) => Ok(Reply::ok(&SnapshotResponse { node_id, file })),
        Err(error) => {
            let (status, code, title) = match error {
                OrderError::Unreachable => {
                    (503, "node_unreachable", "The node did not answer; it may have obeyed.")
                }
                OrderError::Refused(_) => (409, "order_refused", "The node does not do this."),
                OrderError::Failed(_) => (500, "order_failed", "The node tried, and failed."),
            };
            Err(Problem::new(status, code, title).detail(error.to_string()).into())
        }
    }
}

fn not_held(error: BackupError) -> Failure {
    match error {
        BackupError::Read(error) => error.into(),
        BackupError::Checkpoint(_) | BackupError::Failed(_) => {
            Failure::internal("the state could not be held")
        }
    }
}

/// One snapshot on its way.
struct Sending {
    chunks: SnapshotChunks,
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    _permit: OwnedSemaphorePermit,
}

impl Sending {
    /// Sends all of it, then its hash; an error in place of the end cuts the connection.
    fn run(mut self) {
        let began_ns = self.clock.monotonic_ns();
        let mut hasher = Sha256::new();
        loop {
            let passed_ns = self.clock.monotonic_ns().saturating_sub(began_ns);
            let frame = match self.chunks.next_chunk() {
                _ if Duration::from_nanos(passed_ns) > LONGEST => {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "the snapshot took too long"))
                }
                Ok(Some(chunk)) => {
                    hasher.update(&chunk);
                    Ok(Frame::data(Bytes::from(chunk)))
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "a snapshot could not be read to its end");
                    Err(io::Error::other(error))
                }
            };
            let is_last = frame.is_err();
            if !self.send(frame) || is_last {
                return;
            }
        }
        let digest = format!("sha-256=:{}:", STANDARD.encode(hasher.finalize()));
        if let Ok(digest) = HeaderValue::try_from(digest) {
            let mut trailers = HeaderMap::new();
            trailers.insert(CONTENT_DIGEST, digest);
            self.send(Ok(Frame::trailers(trailers)));
        }
    }

    /// Whether the reader took it in time.
    fn send(&self, frame: io::Result<Frame<Bytes>>) -> bool {
        let sending = tokio::time::timeout(LONGEST_STALL, self.sender.send(frame));
        matches!(self.runtime.block_on(sending), Ok(Ok(())))
    }
}

/// Snapshots of one node at once.
pub(crate) const SNAPSHOTS_AT_ONCE: usize = 2;
/// Chunks read before the reader asks for them.
const CHUNKS_AHEAD: usize = 2;
/// For one chunk, a mebibyte at most: the slowest line that is waited for has 35 KiB/s.
const LONGEST_STALL: Duration = Duration::from_secs(30);
/// For a backup on a node; one that takes longer goes on.
const ORDER_TIME: Duration = Duration::from_secs(60);
/// For all of it.
const LONGEST: Duration = Duration::from_secs(30 * 60);
const RETRY_BUSY: Duration = Duration::from_secs(5);
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const APPLIED_INDEX: HeaderName = HeaderName::from_static("leasehold-applied-index");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
