//! The status of all tools as server-sent events, every two seconds.
//!
//! A watcher costs a connection and a look at the ledger now and then; only so many may watch at
//! once. A stream ends before its connection would count as idle, and so never keeps a node from
//! stopping for long; `EventSource` asks again by itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use http::HeaderValue;
use protocol::classic::refusal::Refusal;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use super::{refused, tools};
use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /realtime/stream`
pub(crate) async fn open(shared: Arc<Shared>, _call: Call) -> Result<Reply, Failure> {
    shared.serving_keys()?;
    let Ok(permit) = Arc::clone(&shared.classic_streams).try_acquire_owned() else {
        return Err(refused(&Refusal::Unavailable).because("too_many_streams").into());
    };
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = Watching { shared, ticks, left: EVENTS, _permit: permit };
    Ok(Reply::stream(EVENT_STREAM, Body::from_stream(events(watching))))
}

struct Watching {
    shared: Arc<Shared>,
    ticks: Interval,
    left: u32,
    _permit: OwnedSemaphorePermit,
}

/// The first event comes at once.
fn events(watching: Watching) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(watching, |mut watching| async move {
        watching.left = watching.left.checked_sub(1)?;
        watching.ticks.tick().await;
        let statuses = tools::statuses(&watching.shared.context.cluster.ledger());
        let data = serde_json::to_string(&statuses).ok()?;
        Some((Ok(Bytes::from(format!("data: {data}\n\n"))), watching))
    })
}

/// Streams of one node at once.
pub(crate) const STREAMS_AT_ONCE: usize = 32;
/// Events of one stream.
const EVENTS: u32 = 14;
const PERIOD: Duration = Duration::from_secs(2);
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
