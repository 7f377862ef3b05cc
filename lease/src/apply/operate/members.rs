//! Nodes that come and go.
//!
//! An id is given out once, by a ticket, and counts up over members, tickets and former members. A
//! ticket is used once, by one directory; the same use again changes nothing, so a join whose
//! answer was lost can be asked again. What consensus has to do about it is the leader's work.
//!
//! Of former members a bounded number is remembered, with the highest id among them, so that ids
//! never run out and none is given twice.

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Command;
use crate::entry::Actor;
use crate::ids::{Name, NodeId};
use crate::ledger::Ledger;
use crate::limits::{
    MAX_FORMER_MEMBERS, MAX_MEMBERS, MAX_SIGNING_KEYS, MAX_TICKET_MS, MAX_TICKETS,
    MAX_WRAPPED_KEYS, TOKEN_LIFETIME_MS,
};
use crate::operate::{
    AddTicket, FormerMember, JoinMember, OPERATOR_PEPPER, RemoveMember, RetiredKey, TicketRow,
};
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;

impl Ledger {
    pub(super) fn add_ticket(&mut self, context: &Context, new: &AddTicket) -> Decision {
        if let Some(node) = new.replaces
            && !self.state.members().contains_key(&node)
        {
            return refuse(RefusalCode::UnknownMember);
        }
        // A voter is not replaced by a node without a vote.
        within(!(new.learner && new.replaces.is_some()))?;
        self.may_store(OPERATOR_PEPPER, &new.token_mac)?;
        within(new.valid_ms > 0 && new.valid_ms <= MAX_TICKET_MS)?;
        self.forget_old_tickets(context);
        let (members, tickets) = (self.state.members().len(), self.state.operate().tickets().len());
        within(tickets < MAX_TICKETS && members + tickets < MAX_MEMBERS)?;
        let Some(node) = self.next_node_id() else { return refuse(RefusalCode::LimitReached) };
        let row = TicketRow {
            node,
            token_mac: new.token_mac,
            expires_led_ms: self.clock().led_ms.saturating_add(new.valid_ms),
            learner: new.learner,
            replaces: new.replaces,
            joined: false,
        };
        self.state.set_ticket(node, Some(row));
        let detail = AuditDetail::Ticket { node, replaces: new.replaces };
        self.record(&context.origin, Event::new(AuditKind::MemberInvited, detail));
        Ok(Outcome::Ticket { node, token_matches: true })
    }

    /// The answer to a ticket asked for before under the same request id.
    pub(crate) fn ticket_before(&self, node: NodeId, command: &Command) -> Outcome {
        let carried = match command {
            Command::AddTicket(new) => Some(new.token_mac),
            _ => None,
        };
        let ticket = self.state.operate().tickets().get(&node);
        let token_matches = ticket.is_some_and(|ticket| Some(ticket.token_mac) == carried);
        Outcome::Ticket { node, token_matches }
    }

    pub(super) fn join_member(&mut self, context: &Context, join: &JoinMember) -> Decision {
        let JoinMember { token_mac, member, wraps } = join;
        let ticket = self.state.operate().tickets().get(&member.node);
        let Some(ticket) = ticket.filter(|ticket| ticket.token_mac == *token_mac) else {
            return refuse(RefusalCode::UnknownTicket);
        };
        if ticket.joined {
            let known = self.state.members().get(&member.node);
            let again =
                known.is_some_and(|it| it.directory_incarnation == member.directory_incarnation);
            return if again { Ok(Outcome::Unchanged) } else { refuse(RefusalCode::UnknownTicket) };
        }
        if self.clock().led_ms >= ticket.expires_led_ms {
            return refuse(RefusalCode::UnknownTicket);
        }
        let texts = [&member.peer_address, &member.gateway_url, &member.region, &member.zone];
        within(texts.into_iter().all(|text| is_text(text)))?;
        // The key may have been replaced since the node was given it.
        self.has_every_data_key(member.node, wraps)?;
        within(self.state.wrapped_keys().len() + wraps.len() <= MAX_WRAPPED_KEYS)?;
        let ticket = TicketRow { joined: true, ..ticket.clone() };
        self.state.set_ticket(member.node, Some(ticket));
        self.state.put_member(member.clone());
        for wrap in wraps {
            self.state.put_wrapped_key(wrap.clone());
        }
        let detail = AuditDetail::Node {
            node: member.node,
            directory_incarnation: member.directory_incarnation,
        };
        self.record(&context.origin, Event::new(AuditKind::MemberJoined, detail));
        Ok(Outcome::Done)
    }

    pub(super) fn complete_join(&mut self, node: NodeId) -> Decision {
        match self.state.operate().tickets().get(&node) {
            Some(ticket) if ticket.joined => self.state.set_ticket(node, None),
            Some(_) => return refuse(RefusalCode::UnknownTicket),
            None => return Ok(Outcome::Unchanged),
        }
        Ok(Outcome::Done)
    }

    pub(super) fn remove_member(&mut self, context: &Context, removal: &RemoveMember) -> Decision {
        let RemoveMember { node, revoke_tokens, reason } = removal;
        within(is_text(reason))?;
        let is_member = self.state.members().contains_key(node);
        let is_invited = self.state.operate().tickets().contains_key(node);
        if !is_member && !is_invited {
            if !self.state.operate().former().contains_key(node) {
                return refuse(RefusalCode::UnknownMember);
            }
            // Its tokens may still be believed for a while.
            let has_keys = self.signing_keys().any(|key| key.node == *node);
            if !(has_keys && *revoke_tokens) {
                return Ok(Outcome::Unchanged);
            }
            self.retire_signing_keys(context, *node, true);
            self.note_removal(context, *node, true, reason);
            return Ok(Outcome::Done);
        }
        // Without any there is nobody to serve what is left.
        within(!is_member || self.state.members().len() > 1)?;
        self.dismiss(context, *node, *revoke_tokens, reason);
        Ok(Outcome::Done)
    }

    /// Takes a member out, or withdraws a ticket.
    pub(super) fn dismiss(
        &mut self,
        context: &Context,
        node: NodeId,
        revoke_tokens: bool,
        reason: &str,
    ) {
        let member = self.state.members().get(&node);
        let directory_incarnation = member.map_or(0, |member| member.directory_incarnation);
        if member.is_some() {
            self.state.remove_member(node);
        }
        if self.state.operate().tickets().contains_key(&node) {
            self.state.set_ticket(node, None);
        }
        self.leave(context, node, directory_incarnation, revoke_tokens);
        self.note_removal(context, node, revoke_tokens, reason);
    }

    fn note_removal(&mut self, context: &Context, node: NodeId, revoke_tokens: bool, reason: &str) {
        let detail = AuditDetail::NodeRemoved { node, revoke_tokens, reason: reason.into() };
        self.record(&context.origin, Event::new(AuditKind::MemberRemoved, detail));
    }

    /// Everything of a node that is no longer one, but its id. Its row is gone already.
    fn leave(
        &mut self,
        context: &Context,
        node: NodeId,
        directory_incarnation: u64,
        revoke_tokens: bool,
    ) {
        let removed_at_ms = self.clock().civil_ms;
        self.state.put_former_member(FormerMember { node, directory_incarnation, removed_at_ms });
        self.forget_former_members(node);
        let wraps: Vec<u32> = self.data_key_versions(node);
        for version in wraps {
            self.state.remove_wrapped_key(node, version);
        }
        let alarms: Vec<_> = self.state.operate().alarms().keys().copied().collect();
        for (of, kind) in alarms.into_iter().filter(|(of, _)| *of == node) {
            self.state.set_alarm(of, kind, None);
        }
        self.retire_signing_keys(context, node, revoke_tokens);
    }

    /// Makes room by the rows that are missed least: of nodes that never came, then of those that
    /// left first. The row with the highest id stays, since ids count on from it, and so does the
    /// one that was just put.
    fn forget_former_members(&mut self, just_put: NodeId) {
        while self.state.operate().former().len() > MAX_FORMER_MEMBERS {
            let rows = self.state.operate().former();
            let highest = rows.keys().next_back().copied();
            let may_go = |row: &&FormerMember| row.node != just_put && Some(row.node) != highest;
            let age =
                |row: &&FormerMember| (row.directory_incarnation != 0, row.removed_at_ms, row.node);
            let oldest = rows.values().filter(may_go).min_by_key(age).map(|row| row.node);
            let Some(oldest) = oldest else { return };
            self.state.drop_former_member(oldest);
        }
    }

    /// A node's keys sign no more: tokens that they signed end now, or as they would have.
    fn retire_signing_keys(&mut self, context: &Context, node: NodeId, revoke_tokens: bool) {
        let keys: Vec<Name> =
            self.signing_keys().filter(|key| key.node == node).map(|key| key.kid.clone()).collect();
        let verifies_until_ms = self.clock().civil_ms.saturating_add(TOKEN_LIFETIME_MS);
        for kid in keys {
            if revoke_tokens {
                self.drop_signing_key(context, &kid, node);
            } else if self.retired_key(&kid).is_none() {
                self.state.set_retired_key(&kid, Some(RetiredKey { verifies_until_ms }));
                self.note_retired_key(context, &kid, node);
            }
        }
    }

    /// Ends a signing key and all that it signed.
    pub(super) fn drop_signing_key(&mut self, context: &Context, kid: &Name, node: NodeId) {
        if self.retired_key(kid).is_some() {
            self.state.set_retired_key(kid, None);
        } else {
            self.note_retired_key(context, kid, node);
        }
        self.state.remove_signing_key(kid);
    }

    fn note_retired_key(&mut self, context: &Context, kid: &Name, node: NodeId) {
        let detail = AuditDetail::SigningKey { kid: kid.clone(), node };
        self.record(&context.origin, Event::new(AuditKind::SigningKeyRetired, detail));
    }

    /// A node's own decision about its own key. Published again, the key signs again.
    pub(super) fn retire_signing_key(&mut self, context: &Context, kid: &Name) -> Decision {
        let Some(node) = self.signing_key(kid).map(|key| key.node) else {
            return Ok(Outcome::Unchanged);
        };
        if context.origin.actor != Actor::Node(node) {
            return refuse(RefusalCode::RoleTooNarrow);
        }
        if self.retired_key(kid).is_some() {
            return Ok(Outcome::Unchanged);
        }
        let verifies_until_ms = self.clock().civil_ms.saturating_add(TOKEN_LIFETIME_MS);
        self.state.set_retired_key(kid, Some(RetiredKey { verifies_until_ms }));
        let detail = AuditDetail::SigningKey { kid: kid.clone(), node };
        self.record(&context.origin, Event::new(AuditKind::SigningKeyRetired, detail));
        Ok(Outcome::Done)
    }

    /// Lets go of a signing key that verifies nothing any more.
    pub(super) fn forget_signing_key(&mut self, kid: &Name) -> Decision {
        let civil_ms = self.clock().civil_ms;
        match self.retired_key(kid) {
            Some(retired) if civil_ms > retired.verifies_until_ms => {}
            Some(_) => return refuse(RefusalCode::VersionConflict),
            None => return Ok(Outcome::Unchanged),
        }
        self.state.set_retired_key(kid, None);
        self.state.remove_signing_key(kid);
        Ok(Outcome::Done)
    }

    /// Tickets that ended unused make room; their ids stay given out.
    fn forget_old_tickets(&mut self, context: &Context) {
        let led_ms = self.clock().led_ms;
        let over = |ticket: &&TicketRow| !ticket.joined && led_ms >= ticket.expires_led_ms;
        let ended: Vec<NodeId> = self.tickets().filter(over).map(|ticket| ticket.node).collect();
        for node in ended {
            self.state.set_ticket(node, None);
            self.leave(context, node, 0, false);
        }
    }
}

const _: () = assert!(MAX_MEMBERS <= MAX_SIGNING_KEYS, "every node has a signing key");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{InitCluster, Member, Operator, Role};
    use crate::entry::{Entry, EntryHeader, Envelope, Stamp};
    use crate::ids::{OperatorId, TraceId};

    fn member(node: NodeId) -> Member {
        Member {
            node,
            peer_address: "a:1".into(),
            gateway_url: "https://a:2".into(),
            region: "".into(),
            zone: "".into(),
            directory_incarnation: 1,
            kek_public: [0; 32],
        }
    }

    /// Applies a command in an entry of its own, a second after the one before.
    fn apply(ledger: &mut Ledger, index: &mut u64, command: Command) -> Outcome {
        *index += 1;
        let later_ms = *index * 1_000;
        let header = EntryHeader {
            group: 0,
            epoch: u32::from(*index > 1),
            incarnation: 0,
            stamp: Stamp { led_ms: later_ms, civil_ms: later_ms as i64 },
            origin: 1,
        };
        let (request, trace, cause) = (None, TraceId::default(), None);
        let actor = match command {
            Command::AddTicket(_) => Actor::Operator(OperatorId(1)),
            _ => Actor::Node(1),
        };
        let commands = vec![Envelope { actor, request, trace, cause, command }];
        ledger.apply_entry(*index, &Entry { header, commands }).unwrap().remove(0)
    }

    #[test]
    fn nodes_come_and_go_without_end() {
        let (mut ledger, mut index) = (Ledger::new(), 0);
        let texts = ("lh-1".into(), "c".into(), "o".into());
        let (cluster_id, client_id, org_domain) = texts;
        let init = InitCluster { cluster_id, client_id, org_domain, epoch: 1, incarnation: 0 };
        apply(&mut ledger, &mut index, Command::InitCluster(init));
        for node in [1, 2] {
            apply(&mut ledger, &mut index, Command::PutMember(member(node)));
        }
        let admin = Command::AddOperator(Operator {
            operator: OperatorId(1),
            name: "a".into(),
            role: Role::Admin,
            token_mac: [2; 32],
            expires_at_ms: None,
        });
        assert_eq!(apply(&mut ledger, &mut index, admin), Outcome::Done);
        let remove = |node| {
            let (revoke_tokens, reason) = (false, "gone".into());
            Command::RemoveMember(RemoveMember { node, revoke_tokens, reason })
        };
        let ticket = Command::AddTicket(AddTicket {
            token_mac: [1; 32],
            valid_ms: 60_000,
            learner: false,
            replaces: None,
        });
        assert_eq!(apply(&mut ledger, &mut index, remove(2)), Outcome::Done);
        let invited = MAX_FORMER_MEMBERS as NodeId + 100;
        for node in 3..=invited {
            let outcome = apply(&mut ledger, &mut index, ticket.clone());
            assert_eq!(outcome, Outcome::Ticket { node, token_matches: true });
            assert_eq!(apply(&mut ledger, &mut index, remove(node)), Outcome::Done);
        }
        let former: Vec<NodeId> = ledger.former_members().map(|row| row.node).collect();
        assert_eq!(former.len(), MAX_FORMER_MEMBERS);
        // One that was here is remembered longer than those that never came.
        assert_eq!((former[0], former.last()), (2, Some(&invited)));
        assert_eq!(ledger.next_node_id(), Some(invited + 1));
    }
}
