//! Alarms, and operators' tokens that end.

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Role;
use crate::entry::Actor;
use crate::ids::NodeId;
use crate::ledger::Ledger;
use crate::operate::{AlarmKind, AlarmRow, RaiseAlarm, RemoveOperator};
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;

impl Ledger {
    /// A new detail is not an event: measured values change all the time.
    pub(super) fn raise_alarm(&mut self, context: &Context, alarm: &RaiseAlarm) -> Decision {
        let RaiseAlarm { node, kind, detail } = alarm;
        if !self.state.members().contains_key(node) {
            return refuse(RefusalCode::UnknownMember);
        }
        within(is_text(detail))?;
        let stands = self.state.operate().alarms().get(&(*node, *kind));
        if stands.is_some_and(|alarm| alarm.detail == *detail) {
            return Ok(Outcome::Unchanged);
        }
        let is_new = stands.is_none();
        let since_ms = stands.map_or(self.clock().civil_ms, |alarm| alarm.since_ms);
        let row = AlarmRow { node: *node, kind: *kind, since_ms, detail: detail.clone() };
        self.state.set_alarm(*node, *kind, Some(row));
        if is_new {
            let detail = AuditDetail::Alarm { node: *node, kind: *kind };
            self.record(&context.origin, Event::new(AuditKind::AlarmRaised, detail));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn clear_alarm(
        &mut self,
        context: &Context,
        node: NodeId,
        kind: AlarmKind,
    ) -> Decision {
        if !self.state.operate().alarms().contains_key(&(node, kind)) {
            return match context.origin.actor {
                Actor::Node(_) => Ok(Outcome::Unchanged),
                _ => refuse(RefusalCode::UnknownAlarm),
            };
        }
        self.state.set_alarm(node, kind, None);
        let detail = AuditDetail::Alarm { node, kind };
        self.record(&context.origin, Event::new(AuditKind::AlarmCleared, detail));
        Ok(Outcome::Done)
    }

    /// The last admin token that does not end by itself stays, so that nobody locks all out.
    pub(super) fn remove_operator(
        &mut self,
        context: &Context,
        removal: &RemoveOperator,
    ) -> Decision {
        let Some(operator) = self.state.operators().get(&removal.operator) else {
            return refuse(RefusalCode::UnknownOperator);
        };
        let role = operator.role;
        let stays = |other: &&crate::command::Operator| {
            other.operator != removal.operator
                && other.role == Role::Admin
                && other.expires_at_ms.is_none()
        };
        let lasting = role == Role::Admin && operator.expires_at_ms.is_none();
        if lasting && !self.state.operators().values().any(|other| stays(&other)) {
            return refuse(RefusalCode::LastAdmin);
        }
        self.state.remove_operator(removal.operator);
        let detail = AuditDetail::Operator { operator: removal.operator, role };
        self.record(&context.origin, Event::new(AuditKind::OperatorRemoved, detail));
        Ok(Outcome::Done)
    }
}
