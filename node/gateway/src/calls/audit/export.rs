//! A part of the audit log as a signed segment, written while it is read.
//!
//! The answer begins before all of it is known to be whole: if the log turns out to be broken, or
//! this node stops, the stream ends without the trailer, and no reader takes it for a segment.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::HeaderValue;
use http::header::CONTENT_DISPOSITION;
use protocol::audit_segment::{self, EventHash, SegmentHeader, SegmentWriter, WriteError};
use protocol::cloud::admin::AuditExportQuery;
use raft::AuditError;
use thiserror::Error;

use super::{STEP, unreadable, view};
use crate::call::Call;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view::Epoch;

/// `GET /admin/audit/export`
pub(crate) async fn export(shared: Arc<Shared>, call: Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let query: AuditExportQuery = call.query()?;
    let (cluster_id, epoch) = {
        let ledger = shared.read(&call).await?;
        let cluster = ledger.cluster().ok_or_else(|| Failure::internal("no cluster"))?;
        (cluster.cluster_id.to_string(), crate::view::epoch(&ledger)?)
    };
    let bounds = shared.context.cluster.audit_bounds();
    let oldest = bounds.floor.seq.saturating_add(1);
    let from = query.from.unwrap_or(oldest);
    let to = query.to.unwrap_or(bounds.head.seq);
    if from < oldest {
        return Err(Failure::field("from", &format!("the oldest event is {oldest}")));
    }
    if to > bounds.head.seq || to < from {
        let reason = format!("want {from} to {}, the newest event", bounds.head.seq);
        return Err(Failure::field("to", &reason));
    }
    let first = shared.context.cluster.audit_events(from, 1).await.map_err(unreadable)?;
    let first = first.first().filter(|stored| stored.seq == from);
    let first = first.ok_or_else(|| Failure::field("from", "this event was pruned just now"))?;
    let previous = EventHash(first.decode().map_err(unreadable)?.previous);
    let header = SegmentHeader { cluster_id, epoch: epoch.number, from, to, previous };
    let (writer, line) = SegmentWriter::begin(header);
    let exporting = Exporting { shared, keys, epoch, next: from, to, writer: Some(writer), line };
    let content = HeaderValue::from_static(audit_segment::CONTENT_TYPE);
    let name = format!("attachment; filename=\"audit-{from}-{to}.jsonl\"");
    let mut reply = Reply::stream(content, Body::from_stream(lines(exporting)));
    if let Ok(name) = HeaderValue::from_str(&name) {
        reply = reply.header(CONTENT_DISPOSITION, name);
    }
    Ok(reply)
}

/// Why a segment ended before its trailer.
#[derive(Debug, Error)]
enum ExportError {
    #[error(transparent)]
    Read(#[from] AuditError),
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It was pruned while it was read.
    #[error("audit event {seq} is no longer there")]
    Gone { seq: u64 },
}

struct Exporting {
    shared: Arc<Shared>,
    keys: Arc<Keys>,
    epoch: Epoch,
    next: u64,
    to: u64,
    /// `None` after the trailer, or after an error.
    writer: Option<SegmentWriter>,
    /// What is ready to be sent.
    line: String,
}

fn lines(exporting: Exporting) -> impl Stream<Item = Result<Bytes, ExportError>> {
    stream::unfold(exporting, |mut exporting| async move {
        if exporting.line.is_empty() {
            exporting.writer.as_ref()?;
            if let Err(error) = exporting.step().await {
                tracing::error!(%error, "an export of the audit log ended early");
                exporting.writer = None;
                return Some((Err(error), exporting));
            }
        }
        let line = std::mem::take(&mut exporting.line);
        Some((Ok(Bytes::from(line)), exporting))
    })
}

impl Exporting {
    /// Makes the next lines, or the trailer.
    async fn step(&mut self) -> Result<(), ExportError> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        if self.next > self.to {
            let issued_ms = self.shared.context.cluster.displayed_civil_ms();
            let issued_s = u64::try_from(issued_ms.div_euclid(1_000)).unwrap_or(0);
            self.line = writer.finish(&self.keys.offline.key, issued_s)?;
            return Ok(());
        }
        let left = usize::try_from(self.to - self.next + 1).unwrap_or(usize::MAX);
        let events = self.shared.context.cluster.audit_events(self.next, left.min(STEP)).await?;
        if events.first().is_none_or(|stored| stored.seq != self.next) {
            return Err(ExportError::Gone { seq: self.next });
        }
        let mut decoded = Vec::with_capacity(events.len());
        for stored in events {
            let event = stored.decode()?;
            decoded.push((stored, event));
        }
        let ledger = self.shared.context.cluster.ledger();
        for (stored, event) in &decoded {
            let shown = view::event(&self.keys, &ledger, &self.epoch, stored, event);
            self.line.push_str(&writer.event(&shown, &stored.bytes)?);
        }
        drop(ledger);
        self.next += decoded.len() as u64;
        self.writer = Some(writer);
        Ok(())
    }
}
