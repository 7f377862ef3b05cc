//! Writing down: audit events, refusals, names of people and hosts.

use crate::audit::{AuditDetail, AuditEvent, AuditKind};
use crate::command::Subject;
use crate::entry::{Actor, Cause};
use crate::ids::{LeaseId, Name, SubjectRef, TraceId};
use crate::ledger::Ledger;
use crate::outcome::RefusalCode;
use crate::rows::{LoggedRefusal, SubjectKind, SubjectRow};
use crate::state::Lease;

/// On whose behalf something happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) actor: Actor,
    pub(crate) trace: TraceId,
    pub(crate) cause: Option<Cause>,
}

/// What an audit event says beside when, by whom and its place in the chain.
#[derive(Debug)]
pub(crate) struct Event {
    kind: AuditKind,
    package: Option<Name>,
    lease: Option<LeaseId>,
    user: SubjectRef,
    host: SubjectRef,
    detail: AuditDetail,
}

impl Event {
    /// Of the cluster as a whole.
    pub(crate) fn new(kind: AuditKind, detail: AuditDetail) -> Self {
        let nobody = SubjectRef(0);
        Self { kind, package: None, lease: None, user: nobody, host: nobody, detail }
    }

    /// Of a package.
    pub(crate) fn of_package(kind: AuditKind, package: &Name, detail: AuditDetail) -> Self {
        Self { package: Some(package.clone()), ..Self::new(kind, detail) }
    }

    /// Of somebody, by reference.
    pub(crate) fn by(self, user: SubjectRef) -> Self {
        Self { user, ..self }
    }

    /// Of a lease.
    pub(crate) fn of_lease(
        kind: AuditKind,
        package: &Name,
        lease: &Lease,
        detail: AuditDetail,
    ) -> Self {
        Self {
            lease: Some(lease.id()),
            user: lease.user(),
            host: lease.host(),
            ..Self::of_package(kind, package, detail)
        }
    }
}

impl Ledger {
    /// Appends an event to the audit chain.
    pub(crate) fn record(&mut self, origin: &Origin, event: Event) {
        let head = self.audit_head();
        let clock = self.clock();
        let event = AuditEvent {
            previous: head.hash,
            seq: head.seq + 1,
            civil_ms: clock.civil_ms,
            led_ms: clock.led_ms,
            actor: origin.actor,
            trace: origin.trace,
            cause: origin.cause,
            kind: event.kind,
            package: event.package,
            lease: event.lease,
            user: event.user,
            host: event.host,
            detail: event.detail,
        };
        let head = self.recent.append(head, &event);
        self.state.meta_mut().audit = head;
    }

    /// Counts a refusal, and logs it the first time in a civil minute. A package that is not known
    /// counts as none: its name is whatever somebody sent.
    pub(crate) fn record_refusal(
        &mut self,
        origin: &Origin,
        package: Option<&str>,
        lease: Option<LeaseId>,
        code: RefusalCode,
    ) {
        let slot = package.and_then(|package| self.state.slot(package));
        let package = slot.map(|slot| self.state.at(slot).terms().package.clone());
        let name = package.clone().unwrap_or_else(|| Name::from(""));
        self.state.count_refusal(&name, code);
        let (actor_kind, actor) = match origin.actor {
            Actor::Node(node) => (0, node),
            Actor::App { app, .. } => (1, app.0),
            Actor::Operator(operator) => (2, operator.0),
            Actor::Face(face) => (3, face.app().0),
        };
        if self.state.refusals_logged().len() >= self.limits.refusals_logged {
            return;
        }
        let logged = LoggedRefusal { actor_kind, actor, code, package: name };
        if self.state.note_logged_refusal(logged) {
            let event = Event {
                package,
                lease,
                ..Event::new(AuditKind::Refused, AuditDetail::Refusal { code })
            };
            self.record(origin, event);
        }
    }

    /// The reference of a person or host: the one the name has, or the candidate that came along.
    /// An empty name is nobody; a name beyond the bound gets a reference that stands for nothing.
    pub(crate) fn refer_to(&mut self, kind: SubjectKind, subject: &Subject) -> SubjectRef {
        if subject.name.is_empty() {
            return SubjectRef(0);
        }
        let name = Name::from(&*subject.name);
        if let Some(known) = self.state.subject_by_name(kind, &name) {
            return known;
        }
        let mut reference = subject.candidate;
        while reference.0 == 0 || self.state.subjects().contains_key(&reference) {
            reference = SubjectRef(reference.0.wrapping_add(1));
        }
        if self.state.subjects().len() < self.limits.subjects {
            self.state.put_subject(reference, SubjectRow { kind, name });
        }
        reference
    }
}
