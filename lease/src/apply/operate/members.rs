//! Nodes that come and go.
//!
//! An id is given out once, by a ticket, and counts up over members, tickets and former members. A
//! ticket is used once, by one directory; the same use again changes nothing, so a join whose
//! answer was lost can be asked again. What consensus has to do about it is the leader's work.

use crate::apply::{Context, Decision, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Command;
use crate::ids::{Name, NodeId};
use crate::ledger::Ledger;
use crate::limits::{
    MAX_MEMBERS, MAX_SIGNING_KEYS, MAX_TICKET_MS, MAX_TICKETS, MAX_WRAPPED_BYTES, TOKEN_LIFETIME_MS,
};
use crate::operate::{AddTicket, FormerMember, JoinMember, RemoveMember, RetiredKey, TicketRow};
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;

impl Ledger {
    pub(super) fn add_ticket(&mut self, context: &Context, new: &AddTicket) -> Decision {
        if let Some(node) = new.replaces
            && !self.state.members().contains_key(&node)
        {
            return refuse(RefusalCode::UnknownMember);
        }
        within(new.valid_ms > 0 && new.valid_ms <= MAX_TICKET_MS)?;
        self.forget_old_tickets();
        within(self.state.operate().tickets().len() < MAX_TICKETS)?;
        let Some(node) = self.next_node() else { return refuse(RefusalCode::LimitReached) };
        within(node <= MAX_MEMBERS as NodeId)?;
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
        let fits = |wrap: &crate::command::WrappedDataKey| {
            wrap.node == member.node && wrap.wrapped.len() <= MAX_WRAPPED_BYTES
        };
        within(!wraps.is_empty() && wraps.iter().all(fits))?;
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
        let ticket = self.state.operate().tickets().contains_key(node);
        let member = self.state.remove_member(*node);
        if member.is_none() && !ticket {
            return match self.state.operate().former().contains_key(node) {
                true => Ok(Outcome::Unchanged),
                false => refuse(RefusalCode::UnknownMember),
            };
        }
        self.state.set_ticket(*node, None);
        let directory_incarnation = member.map_or(0, |member| member.directory_incarnation);
        self.leave(*node, directory_incarnation, *revoke_tokens);
        let detail = AuditDetail::NodeRemoved {
            node: *node,
            revoke_tokens: *revoke_tokens,
            reason: reason.clone(),
        };
        self.record(&context.origin, Event::new(AuditKind::MemberRemoved, detail));
        Ok(Outcome::Done)
    }

    /// Everything of a node that is no longer one, but its id. Its row is gone already.
    pub(super) fn leave(&mut self, node: NodeId, directory_incarnation: u64, revoke_tokens: bool) {
        let removed_at_ms = self.clock().civil_ms;
        self.state.put_former_member(FormerMember { node, directory_incarnation, removed_at_ms });
        let wraps: Vec<u32> = self.data_key_versions(node);
        for version in wraps {
            self.state.remove_wrapped_key(node, version);
        }
        let alarms: Vec<_> = self.state.operate().alarms().keys().copied().collect();
        for (of, kind) in alarms.into_iter().filter(|(of, _)| *of == node) {
            self.state.set_alarm(of, kind, None);
        }
        let keys: Vec<Name> =
            self.signing_keys().filter(|key| key.node == node).map(|key| key.kid.clone()).collect();
        for kid in keys {
            if revoke_tokens {
                self.state.set_retired_key(&kid, None);
                self.state.remove_signing_key(&kid);
            } else if self.retired_key(&kid).is_none() {
                let verifies_until_ms = removed_at_ms.saturating_add(TOKEN_LIFETIME_MS);
                self.state.set_retired_key(&kid, Some(RetiredKey { verifies_until_ms }));
            }
        }
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

    /// One above every id that was ever given out.
    pub(super) fn next_node(&self) -> Option<NodeId> {
        let operate = self.state.operate();
        let last = [
            self.state.members().keys().next_back(),
            operate.tickets().keys().next_back(),
            operate.former().keys().next_back(),
        ];
        last.into_iter().flatten().max().copied().unwrap_or(0).checked_add(1)
    }

    /// Tickets that ended unused make room; their ids stay given out.
    fn forget_old_tickets(&mut self) {
        let led_ms = self.clock().led_ms;
        let over = |ticket: &&TicketRow| !ticket.joined && led_ms >= ticket.expires_led_ms;
        let ended: Vec<NodeId> = self.tickets().filter(over).map(|ticket| ticket.node).collect();
        for node in ended {
            self.state.set_ticket(node, None);
            self.leave(node, 0, false);
        }
    }
}

const _: () = assert!(MAX_MEMBERS <= MAX_SIGNING_KEYS, "every node has a signing key");
