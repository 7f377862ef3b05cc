//! The cluster's own rows: identity, nodes, keys, sealed secrets, agreed sums.

use crate::apply::{Context, Decision, is_name, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::{InitCluster, Member, SealedSecret, SigningKey, WrappedDataKey};
use crate::entry::Actor;
use crate::ids::NodeId;
use crate::ledger::Ledger;
use crate::limits::{
    MAX_MEMBERS, MAX_PUBLIC_KEY_BYTES, MAX_SEALED_BYTES, MAX_SECRETS, MAX_SIGNING_KEYS,
    MAX_WRAPPED_BYTES, MAX_WRAPPED_KEYS,
};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::ClusterIdentity;

impl Ledger {
    pub(super) fn found_cluster(&mut self, context: &Context, founding: &InitCluster) -> Decision {
        let InitCluster { cluster_id, client_id, org_domain, epoch, incarnation } = founding;
        let identity = ClusterIdentity {
            cluster_id: cluster_id.clone(),
            client_id: client_id.clone(),
            org_domain: org_domain.clone(),
            epoch: *epoch,
            incarnation: *incarnation,
        };
        match self.cluster() {
            Some(known) if *known == identity => return Ok(Outcome::Unchanged),
            Some(_) => return refuse(RefusalCode::ClusterAlreadyInitialised),
            None => {}
        }
        within(is_name(cluster_id) && is_name(client_id) && is_name(org_domain))?;
        let detail = AuditDetail::Cluster {
            cluster_id: cluster_id.clone(),
            epoch: *epoch,
            incarnation: *incarnation,
        };
        self.state.meta_mut().cluster = Some(identity);
        self.record(&context.origin, Event::new(AuditKind::ClusterFounded, detail));
        Ok(Outcome::Done)
    }

    pub(super) fn put_member(&mut self, context: &Context, member: &Member) -> Decision {
        let by_itself = context.origin.actor == Actor::Node(member.node);
        let by_operator = matches!(context.origin.actor, Actor::Operator(_));
        match self.state.members().get(&member.node) {
            Some(known) if known == member => return Ok(Outcome::Unchanged),
            Some(known) if known.directory_incarnation != member.directory_incarnation => {
                return refuse(RefusalCode::NodeIdTaken);
            }
            Some(_) if by_itself || by_operator => {}
            Some(_) => return refuse(RefusalCode::RoleTooNarrow),
            None => self.may_found(member.node)?,
        }
        let Member { peer_address, gateway_url, region, zone, .. } = member;
        within([peer_address, gateway_url, region, zone].into_iter().all(|text| is_text(text)))?;
        let detail = AuditDetail::Node {
            node: member.node,
            directory_incarnation: member.directory_incarnation,
        };
        self.state.put_member(member.clone());
        self.record(&context.origin, Event::new(AuditKind::MemberPut, detail));
        Ok(Outcome::Done)
    }

    /// Whether a node may be put that no ticket let in: those that found the cluster are, before
    /// its first operator, or the one that is the first of all.
    fn may_found(&self, node: NodeId) -> Result<(), Refusal> {
        if self.state.operate().former().contains_key(&node) {
            return Err(Refusal::new(RefusalCode::NodeIdTaken));
        }
        let (members, operate) = (self.state.members().len(), self.state.operate());
        let is_founded = members > 0 && !self.state.operators().is_empty();
        let has_changed = !(operate.former().is_empty() && operate.tickets().is_empty());
        if is_founded || has_changed {
            return Err(Refusal::new(RefusalCode::UnknownMember));
        }
        within(members < MAX_MEMBERS)
    }

    pub(super) fn publish_signing_key(&mut self, context: &Context, key: &SigningKey) -> Decision {
        if context.origin.actor != Actor::Node(key.node) {
            return refuse(RefusalCode::RoleTooNarrow);
        }
        if !self.state.members().contains_key(&key.node) {
            return refuse(RefusalCode::UnknownMember);
        }
        match self.state.signing_keys().get(&key.kid) {
            Some(known) if known == key && self.retired_key(&key.kid).is_none() => {
                return Ok(Outcome::Unchanged);
            }
            // It was retired, and signs again.
            Some(known) if known == key => self.state.set_retired_key(&key.kid, None),
            Some(_) => return refuse(RefusalCode::VersionConflict),
            None => within(self.state.signing_keys().len() < MAX_SIGNING_KEYS)?,
        }
        within(is_name(&key.kid) && key.public_der.len() <= MAX_PUBLIC_KEY_BYTES)?;
        let detail = AuditDetail::SigningKey { kid: key.kid.clone(), node: key.node };
        self.state.put_signing_key(key.clone());
        self.record(&context.origin, Event::new(AuditKind::SigningKeyPublished, detail));
        Ok(Outcome::Done)
    }

    pub(super) fn put_secret(&mut self, context: &Context, secret: &SealedSecret) -> Decision {
        let next = match self.state.secrets().get(&secret.name) {
            Some(known) if known == secret => return Ok(Outcome::Unchanged),
            Some(known) => known.version.checked_add(1),
            None => {
                within(self.state.secrets().len() < MAX_SECRETS)?;
                Some(1)
            }
        };
        if next != Some(secret.version) {
            return refuse(RefusalCode::VersionConflict);
        }
        within(is_name(&secret.name) && secret.sealed.len() <= MAX_SEALED_BYTES)?;
        let detail = AuditDetail::Secret { name: secret.name.clone(), version: secret.version };
        self.state.put_secret(secret.clone());
        self.record(&context.origin, Event::new(AuditKind::SecretStored, detail));
        Ok(Outcome::Done)
    }

    /// A wrap may be replaced: the same key is wrapped anew when a node's own key changes.
    pub(super) fn wrap_data_key(&mut self, context: &Context, key: &WrappedDataKey) -> Decision {
        if !self.state.members().contains_key(&key.node) {
            return refuse(RefusalCode::UnknownMember);
        }
        match self.state.wrapped_keys().get(&(key.node, key.version)) {
            Some(known) if known == key => return Ok(Outcome::Unchanged),
            Some(_) => {}
            None => within(self.state.wrapped_keys().len() < MAX_WRAPPED_KEYS)?,
        }
        within(key.wrapped.len() <= MAX_WRAPPED_BYTES)?;
        let detail = AuditDetail::DataKey { node: key.node, version: key.version };
        self.state.put_wrapped_key(key.clone());
        self.record(&context.origin, Event::new(AuditKind::DataKeyWrapped, detail));
        Ok(Outcome::Done)
    }

    pub(super) fn agree_state_sum(&mut self, index: u64, sum: [u8; 32]) -> Decision {
        if self.agreed_sum().is_some_and(|(agreed, _)| index <= agreed) {
            return Ok(Outcome::Unchanged);
        }
        self.state.meta_mut().agreed_sum = Some((index, sum));
        Ok(Outcome::Done)
    }
}
