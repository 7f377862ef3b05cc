//! An audit event as operators see it, and which of them a query means.

use lease::audit::AuditKind;
use lease::entry::Actor;
use lease::ids::{LeaseId, SubjectRef};
use lease::{AuditEvent, Ledger, SubjectKind};
use protocol::audit_segment::EventHash;
use protocol::cloud::admin::{AuditEventView, AuditQuery, AuditSubject};
use protocol::lease_id;
use protocol::wire::{Id64, UtcTime};
use raft::StoredEvent;

use super::detail::{detail, hex64, operator_text};
use crate::failure::Failure;
use crate::keys::Keys;
use crate::tokens::app_id_text;
use crate::trace;
use crate::view::{self, Epoch};

/// An event with the names that are kept.
pub(super) fn event(
    keys: &Keys,
    ledger: &Ledger,
    epoch: &Epoch,
    stored: &StoredEvent,
    event: &AuditEvent,
) -> AuditEventView {
    AuditEventView {
        seq: Id64(stored.seq),
        time: UtcTime::from_unix_ms(event.civil_ms),
        kind: event.kind.name().to_owned(),
        actor: actor(event.actor),
        request_id: trace::text(event.trace),
        package_id: event.package.as_deref().map(str::to_owned),
        lease_id: event.lease.map(|lease| view::lease_id_text(keys, lease)),
        user: subject(ledger, event.user),
        host: subject(ledger, event.host),
        detail: detail(epoch, &event.detail),
        hash: EventHash::of(&stored.bytes),
        previous: EventHash(event.previous),
    }
}

fn subject(ledger: &Ledger, subject: SubjectRef) -> Option<AuditSubject> {
    let name = || ledger.subject(subject).map(|(_, name)| name.to_owned());
    (subject.0 != 0).then(|| AuditSubject { reference: hex64(subject.0), name: name() })
}

fn actor(actor: Actor) -> String {
    match actor {
        Actor::Node(node) => format!("node-{node}"),
        Actor::App { app, .. } => app_id_text(app),
        Actor::Operator(operator) => operator_text(operator.0),
        Actor::Face(face) => format!("face-{}", face.name()),
    }
}

/// A reference as the API shows it.
pub(in crate::calls) fn parse_reference(text: &str) -> Option<SubjectRef> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(text, 16).ok().map(SubjectRef)).flatten()
}

/// Which events a query means.
#[derive(Debug, Default)]
pub(super) struct Filter {
    kind: Option<AuditKind>,
    package: Option<String>,
    lease: Option<LeaseId>,
    actor: Option<String>,
    /// Any of them; `None`: anybody.
    user: Option<Vec<SubjectRef>>,
    host: Option<Vec<SubjectRef>>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
}

impl Filter {
    /// What a query asks for. A name that is not kept is nobody's.
    pub(super) fn of(query: &AuditQuery, keys: &Keys, ledger: &Ledger) -> Result<Self, Failure> {
        let kind = query.kind.as_deref().map(|kind| {
            let reason = "not a kind of event; `lease_granted` is one";
            AuditKind::from_name(kind).ok_or_else(|| Failure::field("kind", reason))
        });
        let lease = query.lease_id.as_deref().map(|lease| {
            let lease = lease_id::decode(&keys.lease_id, lease);
            lease.map(view::ledger_id).map_err(|_| Failure::field("lease_id", "not one of ours"))
        });
        let named = |kind, text: &Option<String>| {
            let text = text.as_deref()?;
            let by_name = ledger.subject_by_name(kind, text);
            Some(by_name.into_iter().chain(parse_reference(text)).collect())
        };
        Ok(Self {
            kind: kind.transpose()?,
            package: query.package_id.clone(),
            lease: lease.transpose()?,
            actor: query.actor.clone(),
            user: named(SubjectKind::User, &query.user),
            host: named(SubjectKind::Host, &query.host),
            since_ms: query.since.map(|time| time.unix_ms),
            until_ms: query.until.map(|time| time.unix_ms),
        })
    }

    /// The first moment that is meant.
    pub(super) fn since_ms(&self) -> Option<i64> {
        self.since_ms
    }

    /// The first moment that is meant no longer.
    pub(super) fn until_ms(&self) -> Option<i64> {
        self.until_ms
    }

    /// Whether an event is meant.
    pub(super) fn fits(&self, event: &AuditEvent) -> bool {
        let among = |wanted: &Option<Vec<SubjectRef>>, found: SubjectRef| {
            wanted.as_ref().is_none_or(|wanted| wanted.contains(&found))
        };
        self.kind.is_none_or(|kind| kind == event.kind)
            && self.package.as_deref().is_none_or(|it| event.package.as_deref() == Some(it))
            && self.lease.is_none_or(|lease| event.lease == Some(lease))
            && self.actor.as_ref().is_none_or(|it| *it == actor(event.actor))
            && among(&self.user, event.user)
            && among(&self.host, event.host)
            && self.since_ms.is_none_or(|since_ms| event.civil_ms >= since_ms)
            && self.until_ms.is_none_or(|until_ms| event.civil_ms < until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_sixteen_digits() {
        for (text, want) in [
            ("00000000000000ff", Some(255)),
            ("00000000000000FF", Some(255)),
            ("ff", None),
            ("+0000000000000ff", None),
            ("alice@bmw.com...", None),
        ] {
            assert_eq!(parse_reference(text).map(|it| it.0), want, "{text}");
        }
    }
}
