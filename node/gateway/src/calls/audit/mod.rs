//! The audit log: pages with filters, whether it is whole, signed segments, letting go.
//!
//! Everything reads the copy of the node that was asked, on a thread of its own and in bounded
//! steps, so that a log of millions of events keeps nobody from working. A page looks at so many
//! events and says where it ended; the civil clock never goes back, so a time is found by halving.

mod detail;
mod event_id;
pub(crate) mod events;
mod export;
pub(super) mod view;

use http::StatusCode;
use lease::command::Command;
use lease::outcome::Outcome;
use lease::{AuditEvent, AuditHead};
use protocol::audit_segment::EventHash;
use protocol::cloud::admin::{
    AuditEventView, AuditExportQuery, AuditList, AuditOrder, AuditQuery, AuditVerification,
    AuditVerifyQuery, PruneAuditRequest, PruneAuditResponse,
};
use protocol::wire::Id64;
use raft::{AuditBounds, AuditError, StoredEvent};
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use self::event_id::EventId;
use self::view::Filter;
use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

pub(crate) use export::export;

/// Parameters of the list, for the OpenAPI document.
pub(crate) fn list_parameters() -> Vec<Parameter> {
    AuditQuery::into_params(|| None)
}

/// Parameters of the check.
pub(crate) fn verify_parameters() -> Vec<Parameter> {
    AuditVerifyQuery::into_params(|| None)
}

/// Parameters of the export.
pub(crate) fn export_parameters() -> Vec<Parameter> {
    AuditExportQuery::into_params(|| None)
}

/// `GET /admin/audit`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let keys = shared.serving_keys()?;
    let query: AuditQuery = call.query()?;
    let cursor = query.cursor.as_deref();
    let cursor = cursor.map(|text| EventId::parse(text).ok_or_else(not_a_cursor)).transpose()?;
    let (filter, epoch) = {
        let ledger = shared.read(call).await?;
        (Filter::of(&query, &keys, &ledger)?, crate::view::epoch(&ledger)?)
    };
    let cursor = cursor.map(|id| id.of_epoch(&epoch)).transpose()?;
    let bounds = shared.context.cluster.audit_bounds();
    let mut span = Span {
        first: bounds.floor.seq.max(query.after.unwrap_or(0)).saturating_add(1),
        last: bounds.head.seq,
    };
    if let Some(since_ms) = filter.since_ms() {
        span.first = first_since(shared, span, since_ms).await?;
    }
    if let Some(until_ms) = filter.until_ms() {
        span.last = first_since(shared, span, until_ms).await?.saturating_sub(1);
    }
    match (query.order, cursor) {
        (AuditOrder::Asc, Some(seen)) => span.first = span.first.max(seen.saturating_add(1)),
        (AuditOrder::Desc, Some(seen)) => span.last = span.last.min(seen.saturating_sub(1)),
        (_, None) => {}
    }
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let (found, next) = look(shared, call, span, query.order, &filter, limit).await?;
    let ledger = shared.context.cluster.ledger();
    let shown = |(stored, event): &(StoredEvent, AuditEvent)| -> AuditEventView {
        view::event(&keys, &ledger, &epoch, stored, event)
    };
    Ok(Reply::ok(&AuditList {
        events: found.iter().map(shown).collect(),
        floor: Id64(bounds.floor.seq),
        head: Id64(bounds.head.seq),
        next: next.map(|seq| EventId::new(&epoch, seq).to_string()),
    }))
}

/// Numbers of events, both ends included; none when the first is above the last.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u64,
    last: u64,
}

type Found = Vec<(StoredEvent, AuditEvent)>;

/// The events of a span that fit, from either end, up to `limit`; and the last that was looked at
/// when there may be more.
async fn look(
    shared: &Shared,
    call: &Call,
    mut span: Span,
    order: AuditOrder,
    filter: &Filter,
    limit: usize,
) -> Result<(Found, Option<u64>), Failure> {
    let mut found = Found::new();
    let mut looked_at = 0;
    while span.first <= span.last {
        let is_late = looked_at > 0 && shared.left(call.deadline) < LEFT_FOR_THE_ANSWER;
        if looked_at >= MAX_LOOKED_AT || is_late {
            let seen = match order {
                AuditOrder::Asc => span.first.saturating_sub(1),
                AuditOrder::Desc => span.last.saturating_add(1),
            };
            return Ok((found, Some(seen)));
        }
        let step = match order {
            AuditOrder::Asc => span.first,
            AuditOrder::Desc => span.first.max(span.last.saturating_sub(STEP as u64 - 1)),
        };
        let events = events_between(shared, step, span.last).await?;
        looked_at += events.len();
        let mut decoded = Vec::with_capacity(events.len());
        for stored in events {
            let event = stored.decode().map_err(unreadable)?;
            decoded.push((stored, event));
        }
        match order {
            AuditOrder::Asc => {
                let last = decoded.last().map_or(span.last, |(stored, _)| stored.seq);
                span.first = last.saturating_add(1);
            }
            AuditOrder::Desc => {
                // What was pruned meanwhile is not there to look at.
                let first = decoded.first().map_or(span.first, |(stored, _)| stored.seq);
                span.last = first.saturating_sub(1);
                decoded.reverse();
            }
        }
        for (stored, event) in decoded {
            if !filter.fits(&event) {
                continue;
            }
            if found.len() == limit {
                return Ok((found.clone(), found.last().map(|(stored, _)| stored.seq)));
            }
            found.push((stored, event));
        }
    }
    Ok((found, None))
}

/// Some events from one number on, none beyond another. In a step down all of them are needed.
async fn events_between(
    shared: &Shared,
    first: u64,
    last: u64,
) -> Result<Vec<StoredEvent>, Failure> {
    let most = usize::try_from(last - first + 1).unwrap_or(usize::MAX).min(STEP);
    let mut events: Vec<StoredEvent> = Vec::new();
    while events.len() < most {
        let from = events.last().map_or(first, |event| event.seq.saturating_add(1));
        let read = shared.context.cluster.audit_events(from, most - events.len()).await;
        let more = read.map_err(unreadable)?;
        if more.is_empty() {
            break;
        }
        events.extend(more);
    }
    // Where the floor has moved meanwhile, what was read begins above it and ends too far.
    events.retain(|event| event.seq <= last);
    Ok(events)
}

/// Number of the first event of a span at a time or later; one above the last when there is none.
async fn first_since(shared: &Shared, span: Span, since_ms: i64) -> Result<u64, Failure> {
    let (mut low, mut high) = (span.first, span.last.saturating_add(1).max(span.first));
    while low < high {
        let middle = low + (high - low) / 2;
        let event = shared.context.cluster.audit_events(middle, 1).await.map_err(unreadable)?;
        match event.first() {
            Some(stored) if stored.decode().map_err(unreadable)?.civil_ms < since_ms => {
                low = stored.seq.saturating_add(1);
            }
            _ => high = middle,
        }
    }
    Ok(low)
}

/// `GET /admin/audit/verify`
pub(crate) async fn verify(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    shared.serving_keys()?;
    let query: AuditVerifyQuery = call.query()?;
    shared.read(call).await?;
    let bounds = shared.context.cluster.audit_bounds();
    let start = match query.cursor.as_deref() {
        Some(text) => parse_position(text)?,
        None => AuditHead { seq: bounds.floor.seq, hash: bounds.floor.hash },
    };
    // Pruned since: what the cursor vouched for is gone, and the floor vouches for the rest.
    let start = if start.seq < bounds.floor.seq {
        AuditHead { seq: bounds.floor.seq, hash: bounds.floor.hash }
    } else {
        start
    };
    let walk = walk(shared, call, start, bounds).await?;
    let (broken_at, reason) = walk.broken.unzip();
    let is_over = walk.at.seq >= bounds.head.seq || broken_at.is_some();
    let next = || format!("{}:{}", walk.at.seq, EventHash(walk.at.hash).text());
    Ok(Reply::ok(&AuditVerification {
        node: shared.config.node,
        intact: broken_at.is_none(),
        broken_at: broken_at.map(Id64),
        reason,
        events: Id64(walk.at.seq - start.seq),
        first: Id64(start.seq.saturating_add(1)),
        last: Id64(walk.at.seq),
        hash: EventHash(walk.at.hash),
        floor: Id64(bounds.floor.seq),
        head: Id64(bounds.head.seq),
        next: (!is_over).then(next),
    }))
}

struct Walk {
    /// The last event that was found right.
    at: AuditHead,
    /// The first that was not, and what is wrong with it.
    broken: Option<(u64, String)>,
}

/// Follows the chain as far as the call's time and bounds allow.
async fn walk(
    shared: &Shared,
    call: &Call,
    start: AuditHead,
    bounds: AuditBounds,
) -> Result<Walk, Failure> {
    let mut at = start;
    let broken = |at: AuditHead, seq: u64, what: String| Ok(Walk { at, broken: Some((seq, what)) });
    while at.seq < bounds.head.seq && at.seq - start.seq < MAX_VERIFIED {
        if at.seq > start.seq && shared.left(call.deadline) < LEFT_FOR_THE_ANSWER {
            break;
        }
        let next = at.seq.saturating_add(1);
        let events = match shared.context.cluster.audit_events(next, STEP).await {
            Ok(events) => events,
            Err(error) => match error.broken_at() {
                Some(seq) => return broken(at, seq, error.to_string()),
                None => return Err(unreadable(error)),
            },
        };
        for stored in events {
            if stored.seq > bounds.head.seq {
                break;
            }
            let event = match stored.decode() {
                Ok(event) => event,
                Err(error) => return broken(at, stored.seq, error.to_string()),
            };
            at = match lease::verify_chain(at, std::slice::from_ref(&event)) {
                Ok(head) => head,
                Err(error) => return broken(at, stored.seq, error.to_string()),
            };
        }
    }
    if at.seq == bounds.head.seq && at.hash != bounds.head.hash {
        let what = "the newest event is not the one that the ledger vouches for".to_owned();
        return broken(at, at.seq, what);
    }
    Ok(Walk { at, broken: None })
}

/// `POST /admin/audit/prune`
pub(crate) async fn prune(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: PruneAuditRequest = call.json()?;
    shared.read(call).await?;
    let bounds = shared.context.cluster.audit_bounds();
    let upto_seq = match (request.upto_seq, request.before) {
        (Some(Id64(seq)), None) => seq,
        (None, Some(time)) => {
            let span = Span { first: bounds.floor.seq.saturating_add(1), last: bounds.head.seq };
            first_since(shared, span, time.unix_ms).await?.saturating_sub(1)
        }
        _ => return Err(Failure::field("upto_seq", "give either this or before")),
    };
    let EventHash(hash) = request.hash;
    // A repeat finds the floor where it wants it.
    if (upto_seq, hash) != (bounds.floor.seq, bounds.floor.hash) {
        holds(shared, bounds, upto_seq, request.hash).await?;
    }
    let command = Command::PruneAudit { upto_seq, hash };
    let decided = shared.decide(call, Some(call.request_id(&request)), command).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => {}
        Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
        _ => return Err(Failure::internal("a pruning had the outcome of another command")),
    }
    shared.seen(call, decided.index).await?;
    let bounds = shared.context.cluster.audit_bounds();
    Ok(Reply::ok(&PruneAuditResponse {
        floor: Id64(bounds.floor.seq),
        head: Id64(bounds.head.seq),
    }))
}

/// That an event can be pruned up to, and that the caller knows it.
async fn holds(
    shared: &Shared,
    bounds: AuditBounds,
    seq: u64,
    hash: EventHash,
) -> Result<(), Failure> {
    if seq >= bounds.head.seq {
        let reason = format!("the newest event, {}, always stays", bounds.head.seq);
        return Err(Failure::field("upto_seq", &reason));
    }
    if seq <= bounds.floor.seq {
        return Err(Failure::problem(
            StatusCode::NOT_FOUND,
            "unknown_audit_event",
            "No such event, or it was pruned before.",
        ));
    }
    let stored = shared.context.cluster.audit_events(seq, 1).await.map_err(unreadable)?;
    let known =
        stored.first().is_some_and(|event| event.seq == seq && EventHash::of(&event.bytes) == hash);
    if known {
        return Ok(());
    }
    Err(Failure::problem(
        StatusCode::CONFLICT,
        "audit_hash_differs",
        "The hash is not that of the last event that would go.",
    ))
}

/// Where a check ended: number and hash.
fn parse_position(text: &str) -> Result<AuditHead, Failure> {
    let (seq, hash) = text.split_once(':').ok_or_else(not_a_cursor)?;
    let EventHash(hash) = EventHash::parse(hash).ok_or_else(not_a_cursor)?;
    Ok(AuditHead { seq: seq.parse().map_err(|_| not_a_cursor())?, hash })
}

fn not_a_cursor() -> Failure {
    Failure::field("cursor", "not where a page of ours ended")
}

/// A log that this node cannot read: said to the operator, who can ask another node.
pub(super) fn unreadable(error: AuditError) -> Failure {
    tracing::error!(%error, "the audit log cannot be read");
    let code =
        if error.broken_at().is_some() { "audit_log_broken" } else { "audit_log_unreadable" };
    protocol::cloud::problem::Problem::new(
        500,
        code,
        "This node's copy of the audit log cannot be read.",
    )
    .detail(format!("{error}; `audit verify` says more, and other nodes have copies of their own"))
    .into()
}

/// Events read at once.
pub(super) const STEP: usize = 1_000;
/// Events looked at for one page.
const MAX_LOOKED_AT: usize = 10_000;
/// Events checked in one answer.
const MAX_VERIFIED: u64 = 100_000;
/// What is left of a call's time when it ends its page.
const LEFT_FOR_THE_ANSWER: std::time::Duration = std::time::Duration::from_millis(100);
