//! What operators ask of the cluster itself: members, epochs, alarms, keys, pools, people.

mod alarms;
mod audit;
mod members;
mod people;
mod trust;

use crate::apply::{Context, Decision, refuse};
use crate::command::Command;
use crate::ledger::Ledger;
use crate::outcome::RefusalCode;

impl Ledger {
    pub(super) fn perform_operate(&mut self, context: &Context, command: &Command) -> Decision {
        match command {
            Command::AddTicket(new) => self.add_ticket(context, new),
            Command::JoinMember(join) => self.join_member(context, join),
            Command::CompleteJoin { node } => self.complete_join(*node),
            Command::RemoveMember(removal) => self.remove_member(context, removal),
            Command::ForgetSigningKey { kid } => self.forget_signing_key(kid),
            Command::RemoveOperator(removal) => self.remove_operator(context, removal),
            Command::RaiseAlarm(alarm) => self.raise_alarm(context, alarm),
            Command::ClearAlarm { node, kind } => self.clear_alarm(context, *node, *kind),
            Command::EraseSubject(erase) => self.erase_subject(context, erase),
            Command::PruneAudit { upto_seq, hash } => self.prune_audit(context, *upto_seq, *hash),
            Command::PutTrustAnchor(anchor) => self.put_trust_anchor(context, anchor),
            Command::RemoveTrustAnchor { fingerprint } => {
                self.remove_trust_anchor(context, *fingerprint)
            }
            Command::RemoveSecret { name } => self.remove_secret(context, name),
            _ => refuse(RefusalCode::LimitReached),
        }
    }
}
