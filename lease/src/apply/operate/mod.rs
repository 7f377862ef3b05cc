//! What operators ask of the cluster itself: members, epochs, alarms, keys, pools, people.

mod alarms;
mod apps;
mod audit;
mod epoch;
mod keys;
mod members;
mod people;
mod peppers;
mod pools;
mod reclaim;
mod trust;

use crate::apply::{Context, Decision};
use crate::command::Command;
use crate::ledger::Ledger;

pub(in crate::apply) use pools::Asker;

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
            Command::SetPool(set) => self.set_pool(context, set),
            Command::RemovePool { package, pool } => self.remove_pool(context, package, pool),
            Command::PruneAudit { upto_seq, hash } => self.prune_audit(context, *upto_seq, *hash),
            Command::PutTrustAnchor(anchor) => self.put_trust_anchor(context, anchor),
            Command::RemoveTrustAnchor { fingerprint } => {
                self.remove_trust_anchor(context, *fingerprint)
            }
            Command::RetireSigningKey { kid } => self.retire_signing_key(context, kid),
            Command::Repepper(change) => self.repepper(change),
            Command::RemoveSecret { name } => self.remove_secret(context, name),
            Command::OpenEpoch(open) => self.open_epoch(context, open),
            Command::SetAppPolicy(policy) => self.set_app_policy(context, policy),
            Command::ReplaceDataKey(replace) => self.replace_data_key(context, replace),
            Command::ResealActivation(reseal) => self.reseal_activation(reseal),
            Command::RetireDataKey { version } => self.retire_data_key(context, *version),
            Command::ReleaseReserved { package, reason } => {
                self.release_reserved(context, package, reason)
            }
            _ => unreachable!("performed elsewhere"),
        }
    }
}
