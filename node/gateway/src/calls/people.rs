//! People and hosts: who is behind a reference, what is bound to a name, forgetting one.

use http::StatusCode;
use lease::audit::AuditDetail;
use lease::command::Command;
use lease::ids::SubjectRef;
use lease::operate::EraseSubject;
use lease::outcome::{Outcome, RefusalCode};
use lease::{AuditEvent, Bond, Ledger, SubjectKind as LedgerKind};
use protocol::cloud::admin::{
    BondKind, EraseSubjectRequest, EraseSubjectResponse, ErasedStatus, SubjectBond, SubjectDetail,
    SubjectKind, SubjectList, SubjectQuery, SubjectView,
};
use protocol::cloud::problem::Problem;
use protocol::wire::Id64;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use crate::call::Call;
use crate::calls::audit;
use crate::calls::audit::view::parse_reference;
use crate::failure::Failure;
use crate::licensing::uuid_text;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// The query's parameters, for the OpenAPI document.
pub(crate) fn parameters() -> Vec<Parameter> {
    SubjectQuery::into_params(|| None)
}

/// `GET /admin/subjects`
pub(crate) async fn list(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: SubjectQuery = call.query()?;
    let no_cursor = || Failure::field("cursor", "not where a page of ours ended");
    let after = query.cursor.as_deref().map(|text| parse_reference(text).ok_or_else(no_cursor));
    let after = after.transpose()?;
    let ledger = shared.read(call).await?;
    let wanted = |kind| query.kind.is_none_or(|only| only == wire_kind(kind));
    if let Some(name) = &query.name {
        let kinds = [LedgerKind::User, LedgerKind::Host].into_iter().filter(|kind| wanted(*kind));
        let mut found: Vec<SubjectRef> =
            kinds.filter_map(|kind| ledger.subject_by_name(kind, name)).collect();
        found.sort_unstable();
        let subjects = found.into_iter().filter_map(|subject| view(&ledger, subject)).collect();
        return Ok(Reply::ok(&SubjectList { subjects, next: None }));
    }
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let (mut subjects, mut last, mut next) = (Vec::with_capacity(limit.min(64)), None, None);
    for (looked_at, (subject, kind, name)) in ledger.subjects(after).enumerate() {
        if subjects.len() == limit || looked_at == MAX_LOOKED_AT {
            next = last.map(reference);
            break;
        }
        last = Some(subject);
        if wanted(kind) {
            let (kind, name) = (wire_kind(kind), name.to_string());
            subjects.push(SubjectView { reference: reference(subject), kind, name });
        }
    }
    Ok(Reply::ok(&SubjectList { subjects, next }))
}

/// `GET /admin/subjects/{reference}`
pub(crate) async fn show(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let subject = in_path(call)?;
    let (found, bonds) = {
        let ledger = shared.read(call).await?;
        let bonds: Vec<Bond> = ledger.bonds_of(subject).take(MAX_BONDS).collect();
        (view(&ledger, subject).ok_or_else(unknown)?, bonds)
    };
    let leases = leases_of(shared, subject).await;
    let (events, events_complete) = events_of(shared, call, subject).await?;
    Ok(Reply::ok(&SubjectDetail {
        reference: found.reference,
        kind: found.kind,
        name: found.name,
        leases,
        events: Id64(events),
        events_complete,
        bound_by: bonds.into_iter().map(bond).collect(),
    }))
}

/// `POST /admin/subjects/{reference}/erase`
pub(crate) async fn erase(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: EraseSubjectRequest = call.json_or_default()?;
    let subject = in_path(call)?;
    let known = {
        let ledger = shared.read(call).await?;
        view(&ledger, subject)
    };
    let reason = request.reason.as_deref().unwrap_or_default();
    let names = |name: &str| reason.to_lowercase().contains(&name.to_lowercase());
    if known.as_ref().is_some_and(|known| names(&known.name)) {
        let rule = "it stays in the audit log for ever, so it must not name them";
        return Err(Failure::field("reason", rule));
    }
    let request_id = call.request_id(&request);
    let command = Command::EraseSubject(EraseSubject { subject, reason: reason.into() });
    let decided = shared.decide(call, Some(request_id), command).await?;
    match decided.outcome {
        Outcome::Done | Outcome::Unchanged => {}
        Outcome::Refused(refusal) if refusal.code == RefusalCode::SubjectInUse => {
            return Err(in_use(&shared.context.cluster.ledger(), subject));
        }
        Outcome::Refused(refusal) => return Err(admin_failure(&refusal)),
        _ => return Err(Failure::internal("an erasure had the outcome of another command")),
    }
    // Nobody is shown the name by this node after this answer.
    shared.seen(call, decided.index).await?;
    let kind = known.map_or(SubjectKind::User, |known| known.kind);
    let status = ErasedStatus::Erased;
    Ok(Reply::ok(&EraseSubjectResponse { reference: reference(subject), kind, status }))
}

fn wire_kind(kind: LedgerKind) -> SubjectKind {
    match kind {
        LedgerKind::User => SubjectKind::User,
        LedgerKind::Host => SubjectKind::Host,
    }
}

fn reference(subject: SubjectRef) -> String {
    format!("{:016x}", subject.0)
}

fn in_path(call: &Call) -> Result<SubjectRef, Failure> {
    parse_reference(call.subject()?).ok_or_else(unknown)
}

fn unknown() -> Failure {
    Failure::problem(StatusCode::NOT_FOUND, "unknown_subject", "No such person or host.")
}

fn view(ledger: &Ledger, subject: SubjectRef) -> Option<SubjectView> {
    let (kind, name) = ledger.subject(subject)?;
    let (kind, name) = (wire_kind(kind), name.to_owned());
    Some(SubjectView { reference: reference(subject), kind, name })
}

fn bond(bond: Bond) -> SubjectBond {
    let (what, id) = match bond {
        Bond::License(license) => (BondKind::License, uuid_text(license.0)),
        Bond::Activation(activation) => (BondKind::Activation, uuid_text(activation.0)),
        Bond::Operator(operator) => {
            (BondKind::Operator, crate::calls::operators::id_text(operator))
        }
    };
    SubjectBond { what, id }
}

/// 409, with what is in the way and how to get it out.
fn in_use(ledger: &Ledger, subject: SubjectRef) -> Failure {
    let bonds: Vec<SubjectBond> = ledger.bonds_of(subject).take(MAX_BONDS).map(bond).collect();
    let ways_out = bonds.iter().map(|bond| match bond.what {
        BondKind::License => format!("cancel or revoke license {}", bond.id),
        BondKind::Activation => format!("remove or revoke activation {}", bond.id),
        BondKind::Operator => format!("remove operator token {}", bond.id),
    });
    let detail = format!("first {}", ways_out.collect::<Vec<_>>().join(", "));
    Problem::new(409, "subject_in_use", "Something works only because of this name.")
        .detail(detail)
        .into()
}

/// Live leases that refer to somebody; counted in steps, between which others may write.
async fn leases_of(shared: &Shared, subject: SubjectRef) -> u32 {
    let (mut count, mut after) = (0_u32, None);
    loop {
        {
            let ledger = shared.context.cluster.ledger();
            let before = after;
            for lease in ledger.leases(after).take(MAX_LOOKED_AT) {
                after = Some(lease.lease);
                count += u32::from(lease.user == subject || lease.host == subject);
            }
            if after == before {
                return count;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Audit events that refer to somebody, and whether all were looked at.
async fn events_of(
    shared: &Shared,
    call: &Call,
    subject: SubjectRef,
) -> Result<(u64, bool), Failure> {
    let head = shared.context.cluster.audit_bounds().head.seq;
    let (mut count, mut next) = (0, 1);
    while next <= head {
        if shared.left(call.deadline) < LEFT_FOR_THE_ANSWER {
            return Ok((count, false));
        }
        let events = shared.context.cluster.audit_events(next, audit::STEP).await;
        let events = events.map_err(audit::unreadable)?;
        let Some(last) = events.last() else { break };
        next = last.seq + 1;
        for stored in &events {
            let event = stored.decode().map_err(audit::unreadable)?;
            count += u64::from(refers_to(&event, subject));
        }
    }
    Ok((count, true))
}

fn refers_to(event: &AuditEvent, subject: SubjectRef) -> bool {
    let erased =
        matches!(&event.detail, AuditDetail::Erasure { subject: it, .. } if *it == subject);
    event.user == subject || event.host == subject || erased
}

/// Rows looked at for one page, and in one step of a count: a few milliseconds under the ledger's
/// read lock.
const MAX_LOOKED_AT: usize = 10_000;
/// What is in the way is shown up to here.
const MAX_BONDS: usize = 16;
/// What is left of a call's time when it stops counting.
const LEFT_FOR_THE_ANSWER: std::time::Duration = std::time::Duration::from_millis(100);
