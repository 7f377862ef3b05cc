//! The data key: replaced with everything that is sealed under it, and let go when nothing is.
//!
//! Secrets change in the same step as the key, so no replica ever holds one of them under a key
//! that some member cannot open. Session keys of devices are many: they follow one by one, and the
//! former key is kept until the last has. Which version a thing is sealed under only those see who
//! can open it: the node that lets a version go has looked.

use std::collections::BTreeMap;

use crate::apply::{Context, Decision, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::SealedSecret;
use crate::ids::{Name, NodeId};
use crate::ledger::Ledger;
use crate::license::ActivationRow;
use crate::limits::{MAX_SEALED_BYTES, MAX_SESSION_BYTES, MAX_WRAPPED_BYTES, MAX_WRAPPED_KEYS};
use crate::operate::{ReplaceDataKey, ResealActivation};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;

/// Stands for all nodes in the event of a data key.
const EVERY_NODE: NodeId = 0;

impl Ledger {
    pub(super) fn replace_data_key(
        &mut self,
        context: &Context,
        replace: &ReplaceDataKey,
    ) -> Decision {
        let ReplaceDataKey { version, wraps, secrets } = replace;
        let newest = self.data_key_versions_in_use().into_iter().next_back().unwrap_or(0);
        if newest.checked_add(1) != Some(*version) || !self.wraps_all(*version, replace) {
            return refuse(RefusalCode::VersionConflict);
        }
        self.seals_all(secrets)?;
        within(wraps.iter().all(|wrap| wrap.wrapped.len() <= MAX_WRAPPED_BYTES))?;
        within(self.state.wrapped_keys().len() + wraps.len() <= MAX_WRAPPED_KEYS)?;
        for wrap in wraps {
            self.state.put_wrapped_key(wrap.clone());
        }
        for secret in secrets {
            self.state.put_secret(secret.clone());
        }
        let detail = AuditDetail::DataKey { node: EVERY_NODE, version: *version };
        self.record(&context.origin, Event::new(AuditKind::DataKeyReplaced, detail));
        Ok(Outcome::Done)
    }

    /// Nothing is said of it in the audit log: the key stays the same.
    pub(super) fn reseal_activation(&mut self, reseal: &ResealActivation) -> Decision {
        let ResealActivation { activation, before, after } = reseal;
        within(after.bytes.len() <= MAX_SESSION_BYTES)?;
        let row = self.state.licensing().activation(*activation);
        match row.filter(|row| row.session.as_ref() == Some(before) && before != after).cloned() {
            Some(row) => {
                let session = Some(after.clone());
                self.state.put_activation(ActivationRow { session, ..row });
                Ok(Outcome::Done)
            }
            None => Ok(Outcome::Unchanged),
        }
    }

    pub(super) fn retire_data_key(&mut self, context: &Context, version: u32) -> Decision {
        let versions = self.data_key_versions_in_use();
        if !versions.contains(&version) {
            return Ok(Outcome::Unchanged);
        }
        if versions.last() == Some(&version) {
            return refuse(RefusalCode::DataKeyInUse);
        }
        let wraps = self.wrapped_data_keys().filter(|wrap| wrap.version == version);
        for node in wraps.map(|wrap| wrap.node).collect::<Vec<_>>() {
            self.state.remove_wrapped_key(node, version);
        }
        let detail = AuditDetail::DataKey { node: EVERY_NODE, version };
        self.record(&context.origin, Event::new(AuditKind::DataKeyRetired, detail));
        Ok(Outcome::Done)
    }

    /// Whether each member has exactly one wrap, and nobody else any.
    fn wraps_all(&self, version: u32, replace: &ReplaceDataKey) -> bool {
        let mut nodes: Vec<NodeId> = replace.wraps.iter().map(|wrap| wrap.node).collect();
        nodes.sort_unstable();
        replace.wraps.iter().all(|wrap| wrap.version == version)
            && nodes.iter().eq(self.state.members().keys())
    }

    /// Whether every secret comes along, once, one version higher.
    fn seals_all(&self, secrets: &[SealedSecret]) -> Result<(), Refusal> {
        let sealed: BTreeMap<&Name, u32> =
            secrets.iter().map(|secret| (&secret.name, secret.version)).collect();
        let known = self.state.secrets().values();
        let wanted = known.map(|secret| (&secret.name, secret.version.saturating_add(1)));
        if sealed.len() != secrets.len() || !wanted.eq(sealed) {
            return Err(Refusal::new(RefusalCode::VersionConflict));
        }
        within(secrets.iter().all(|secret| secret.sealed.len() <= MAX_SEALED_BYTES))
    }
}
