//! What happens, as it happens: the audit log as server-sent events.
//!
//! ```text
//! retry: 200
//! id: 3-4712                                    epoch and number
//! event: lease_granted
//! data: {"seq":"4712", …}                       as in `GET /admin/audit`
//! : nothing new                                 every 15 seconds of silence
//! ```
//!
//! An event is sent once this node has applied it, in order, none twice and none left out: the id
//! is its number in the cluster's epoch, and a watcher that comes back with the last id it saw goes
//! on behind it, on whichever node. A number alone is one of the epoch now. A stream ends before
//! its connection would count as idle, when the credential does, when the epoch does, or when the
//! node stops; `EventSource` comes back by itself.
//!
//! What cannot be sent is said, with 410: events that were pruned before a watcher came back, and
//! events behind one of another epoch. A cluster that was restored from a snapshot uses the numbers
//! behind it again, for other events; a watcher of the epoch before then begins anew.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::{HeaderValue, StatusCode};
use protocol::cloud::admin::{AuditOrder, AuditQuery, EventsQuery};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::event_id::EventId;
use super::view::{self, Filter};
use crate::auth;
use crate::call::{Call, Principal};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::view::Epoch;

/// Parameters of the stream, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    EventsQuery::into_params(|| None)
}

/// `GET /admin/events`
pub(crate) async fn open(shared: Arc<Shared>, call: Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let query: EventsQuery = call.query()?;
    let last_id = call.header("last-event-id").map(|text| {
        let reason = "want the id of an event, as the stream said it: 3-4712";
        EventId::parse(text).ok_or_else(|| Failure::field("Last-Event-ID", reason))
    });
    let last_id = last_id.transpose()?;
    let (filter, epoch) = {
        let ledger = shared.read(&call).await?;
        let filter = Filter::of(&audit_query(&query), &keys, &ledger)?;
        (filter, crate::view::epoch(&ledger)?)
    };
    let last_id = last_id.map(|id| id.of_epoch(&epoch)).transpose()?.or(query.after);
    let bounds = shared.context.cluster.audit_bounds();
    let seen = last_id.unwrap_or(bounds.head.seq);
    if seen < bounds.floor.seq {
        let detail = format!("events up to {} are gone; begin behind them", bounds.floor.seq);
        let problem = protocol::cloud::problem::Problem::new(
            StatusCode::GONE.as_u16(),
            "events_pruned",
            "Events behind this one were pruned.",
        );
        return Err(problem.detail(detail).into());
    }
    if seen > bounds.head.seq {
        let reason = format!("the newest event is {}", bounds.head.seq);
        return Err(Failure::field("after", &reason));
    }
    let Ok(permit) = Arc::clone(&shared.event_streams).try_acquire_owned() else {
        return Err(Failure::unavailable(
            "too_many_streams",
            "As many watch as may; ask another node.",
            Duration::from_secs(5),
        ));
    };
    let started_ns = shared.context.clock.monotonic_ns();
    let watching = Watching {
        principal: call.principal.clone(),
        shared,
        keys,
        filter,
        epoch,
        seen,
        ready: VecDeque::from([Bytes::from_static(b"retry: 200\n\n")]),
        started_ns,
        quiet_since_ns: started_ns,
        _permit: permit,
    };
    Ok(Reply::stream(EVENT_STREAM, Body::from_stream(events(watching))))
}

fn audit_query(query: &EventsQuery) -> AuditQuery {
    AuditQuery {
        after: None,
        kind: query.kind.clone(),
        package_id: query.package_id.clone(),
        lease_id: None,
        actor: None,
        user: None,
        host: None,
        since: None,
        until: None,
        order: AuditOrder::Asc,
        cursor: None,
        limit: 1,
    }
}

struct Watching {
    shared: Arc<Shared>,
    keys: Arc<Keys>,
    principal: Principal,
    filter: Filter,
    /// Of every id of this stream.
    epoch: Epoch,
    /// The last event that was looked at.
    seen: u64,
    /// To be sent.
    ready: VecDeque<Bytes>,
    started_ns: u64,
    quiet_since_ns: u64,
    _permit: OwnedSemaphorePermit,
}

fn events(watching: Watching) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(watching, |mut watching| async move {
        let chunk = watching.next().await?;
        Some((Ok(chunk), watching))
    })
}

impl Watching {
    /// The next thing to send; `None`: the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                self.quiet_since_ns = self.now_ns();
                return Some(chunk);
            }
            if self.now_ns().saturating_sub(self.started_ns) >= LIFE_NS || !self.may_watch() {
                return None;
            }
            if self.look().await? {
                continue;
            }
            if self.now_ns().saturating_sub(self.quiet_since_ns) >= QUIET_NS {
                self.quiet_since_ns = self.now_ns();
                return Some(Bytes::from_static(b": nothing new\n\n"));
            }
            self.wait().await;
        }
    }

    /// Reads what was applied since; whether there was anything. `None`: it cannot be read.
    async fn look(&mut self) -> Option<bool> {
        let cluster = &self.shared.context.cluster;
        if cluster.audit_bounds().head.seq == self.seen {
            return Some(false);
        }
        let found = match cluster.audit_events(self.seen.saturating_add(1), AT_ONCE).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "a stream of events ends: the audit log cannot be read");
                return None;
            }
        };
        for stored in &found {
            // Pruned while the watcher was slow: it must not take the rest for the whole.
            if stored.seq != self.seen.saturating_add(1) {
                return None;
            }
            self.seen = stored.seq;
            let event = stored.decode().ok()?;
            if self.filter.fits(&event) {
                let ledger = cluster.ledger();
                if crate::view::epoch(&ledger).ok()? != self.epoch {
                    return None;
                }
                let shown = view::event(&self.keys, &ledger, &self.epoch, stored, &event);
                let data = serde_json::to_string(&shown).ok()?;
                let (id, kind) = (EventId::new(&self.epoch, stored.seq), event.kind.name());
                let text = format!("id: {id}\nevent: {kind}\ndata: {data}\n\n");
                self.ready.push_back(text.into());
            }
        }
        Some(!found.is_empty())
    }

    /// Until something was applied, the node stops, or it is time to look around.
    async fn wait(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        let cluster = &self.shared.context.cluster;
        let next = cluster.status().applied.map_or(0, |applied| applied.index + 1);
        tokio::select! {
            // The sender lives as long as the gateway.
            _ = stopping.wait_for(|stop| *stop) => {}
            () = cluster.wait_applied(next) => {}
            () = tokio::time::sleep(LOOK_AROUND) => {}
        }
    }

    fn may_watch(&self) -> bool {
        let cluster = &self.shared.context.cluster;
        let now_ms = cluster.displayed_civil_ms();
        !*self.shared.stopping.borrow()
            && auth::is_current(&cluster.ledger(), &self.principal, now_ms)
    }

    fn now_ns(&self) -> u64 {
        self.shared.context.clock.monotonic_ns()
    }
}

/// Streams of one node at once.
pub(crate) const EVENT_STREAMS_AT_ONCE: usize = 64;
/// Events read at once.
const AT_ONCE: usize = 200;
/// A stream's life: shorter than the time after which its connection counts as idle.
const LIFE_NS: u64 = 28_000_000_000;
/// Silence after which something is said.
const QUIET_NS: u64 = 15_000_000_000;
/// How often to look whether the credential still holds.
const LOOK_AROUND: Duration = Duration::from_millis(500);
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
