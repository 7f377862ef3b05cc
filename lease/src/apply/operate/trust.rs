//! Certificate authorities of the cluster, and secrets that are let go.

use crate::apply::{Context, Decision, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::ids::Name;
use crate::ledger::Ledger;
use crate::limits::{MAX_CERTIFICATE_BYTES, MAX_TRUST_ANCHORS};
use crate::operate::{AnchorState, TrustAnchor};
use crate::outcome::{Outcome, RefusalCode};
use crate::record::Event;
use sha2::{Digest, Sha256};

impl Ledger {
    /// At most one authority issues: making one issue retires the one that did. The bytes of one
    /// never change.
    pub(super) fn put_trust_anchor(&mut self, context: &Context, anchor: &TrustAnchor) -> Decision {
        let known = self.state.operate().anchors().get(&anchor.fingerprint);
        match known {
            Some(known) if known == anchor => return Ok(Outcome::Unchanged),
            Some(known) => {
                let same = TrustAnchor { state: anchor.state, ..known.clone() };
                let goes_back = anchor.state < known.state;
                if same != *anchor || goes_back {
                    return refuse(RefusalCode::VersionConflict);
                }
                // Only another that issues takes its place.
                if known.state == AnchorState::Issuing {
                    return refuse(RefusalCode::TrustAnchorInUse);
                }
            }
            None => within(self.state.operate().anchors().len() < MAX_TRUST_ANCHORS)?,
        }
        let bytes = anchor.certificate_der.len().max(anchor.cross_signed_der.len());
        within(bytes <= MAX_CERTIFICATE_BYTES)?;
        if Sha256::digest(&anchor.certificate_der)[..] != anchor.fingerprint {
            return refuse(RefusalCode::VersionConflict);
        }
        if anchor.state == AnchorState::Issuing {
            let issuing: Vec<TrustAnchor> = self
                .trust_anchors()
                .filter(|other| other.state == AnchorState::Issuing)
                .cloned()
                .collect();
            for former in issuing {
                self.store_anchor(context, TrustAnchor { state: AnchorState::Retiring, ..former });
            }
        }
        self.store_anchor(context, anchor.clone());
        Ok(Outcome::Done)
    }

    pub(super) fn remove_trust_anchor(
        &mut self,
        context: &Context,
        fingerprint: [u8; 32],
    ) -> Decision {
        match self.state.operate().anchors().get(&fingerprint) {
            None => return refuse(RefusalCode::UnknownTrustAnchor),
            Some(anchor) if anchor.state == AnchorState::Issuing => {
                return refuse(RefusalCode::TrustAnchorInUse);
            }
            Some(_) => self.state.set_anchor(fingerprint, None),
        }
        let detail = AuditDetail::TrustAnchor { fingerprint, state: None };
        self.record(&context.origin, Event::new(AuditKind::TrustAnchorRemoved, detail));
        Ok(Outcome::Done)
    }

    pub(super) fn remove_secret(&mut self, context: &Context, name: &Name) -> Decision {
        let Some(secret) = self.state.secrets().get(name) else {
            return Ok(Outcome::Unchanged);
        };
        self.may_drop_secret(name)?;
        let detail = AuditDetail::Secret { name: name.clone(), version: secret.version };
        self.state.remove_secret(name);
        self.record(&context.origin, Event::new(AuditKind::SecretRemoved, detail));
        Ok(Outcome::Done)
    }

    fn store_anchor(&mut self, context: &Context, anchor: TrustAnchor) {
        let (fingerprint, state) = (anchor.fingerprint, Some(anchor.state));
        self.state.set_anchor(fingerprint, Some(anchor));
        let detail = AuditDetail::TrustAnchor { fingerprint, state };
        self.record(&context.origin, Event::new(AuditKind::TrustAnchorPut, detail));
    }
}
