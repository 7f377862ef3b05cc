//! Verification: a holder asks whether its activation still holds.
//!
//! Order of questions, as the protocols have it:
//!
//! ```text
//! device       key, product, identity, client banned, state, validity, activation
//! deployment   key, client banned, state, validity, token version, node limit, activation, slot
//! evaluation   activation, client banned, state, host, activation's state, validity
//! ```
//!
//! A device or host that lost its seat (an operator released it) takes one again here, if the
//! license still has room for it and the package has a seat. A cluster does not: a heartbeat that
//! was on its way while its cluster left must not take the slot again for another day. It is told
//! that it is not activated, or that its slot is another's, and activates anew.

use crate::apply::licensing::activate::{Standing, has_nodes, is_email, is_holder};
use crate::apply::licensing::face_of;
use crate::apply::licensing::guesses::{Found, Tried};
use crate::apply::{Context, Decision, refuse, within};
use crate::ids::{ActivationId, Face, SubjectRef};
use crate::ledger::Ledger;
use crate::license::{
    ActivationRow, ActivationState, DeviceIdentity, LicenseRow, Verify, VerifyBy,
};
use crate::outcome::{Refusal, RefusalCode};

impl Ledger {
    pub(super) fn verify(&mut self, context: &Context, verify: &Verify) -> Decision {
        let right_face = match verify.by {
            VerifyBy::Device { .. } => Face::Device,
            VerifyBy::Deployment { .. } => Face::Deployment,
            VerifyBy::Evaluation { .. } => Face::Evaluation,
        };
        if face_of(context) != Some(right_face) {
            return refuse(RefusalCode::RoleTooNarrow);
        }
        within(is_holder(&verify.holder))?;
        match &verify.by {
            VerifyBy::Device { key_mac, identity } => {
                within(is_email(&identity.email.name))?;
                let license =
                    self.license_shown(context, key_mac, verify.address, &verify.holder)?;
                self.verify_device(context, &license, verify, identity)
            }
            VerifyBy::Deployment { key_mac, token_version, nodes } => {
                let license =
                    self.license_shown(context, key_mac, verify.address, &verify.holder)?;
                self.verify_cluster(context, &license, verify, *token_version, *nodes)
            }
            VerifyBy::Evaluation { activation } => self.verify_host(context, verify, *activation),
        }
    }

    fn verify_device(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        verify: &Verify,
        identity: &DeviceIdentity,
    ) -> Decision {
        self.is_for_product(license, identity.product.as_ref())?;
        let is_new = matches!(self.standing(license, identity)?, Standing::New(_));
        if is_new && !self.is_unnamed(license, verify) {
            return refuse(RefusalCode::EmailNotAuthorized);
        }
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(license)?;
        self.is_in_time(&license.terms)?;
        let row = self.known_activation(context, license, verify)?;
        self.is_usable(&row)?;
        self.has_place(license, &row)?;
        self.confirm(context, license, row, verify)
    }

    fn verify_cluster(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        verify: &Verify,
        token_version: u32,
        nodes: u32,
    ) -> Decision {
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(license)?;
        self.is_in_time(&license.terms)?;
        if token_version < license.token_version {
            return refuse(RefusalCode::StaleTokenVersion);
        }
        has_nodes(license, nodes)?;
        let mut row = self.known_activation(context, license, verify)?;
        self.is_usable(&row)?;
        self.has_slot(context, license, &row)?;
        if row.state != ActivationState::Active {
            return refuse(RefusalCode::UnknownActivation);
        }
        if nodes > 0 {
            row.nodes = nodes;
        }
        self.confirm(context, license, row, verify)
    }

    /// The id of an activation is its holder's proof, so a wrong one is a guess.
    fn verify_host(
        &mut self,
        context: &Context,
        verify: &Verify,
        activation: ActivationId,
    ) -> Decision {
        let licensing = self.state.licensing();
        let row = licensing.activation(activation).filter(|row| !row.is_removed());
        let license = row.and_then(|row| licensing.license(row.license));
        let license = license.filter(|license| license.terms.face == Face::Evaluation).cloned();
        let known = row.is_some_and(|row| row.holder == verify.holder && self.is_held(row));
        let holder = row.map(|row| row.holder.clone());
        let found = match &license {
            Some(_) if known => Found::Known,
            Some(_) => Found::Right,
            None => Found::Wrong,
        };
        self.may_try(Tried::Key, verify.address, found)?;
        let (Some(license), Some(holder)) = (license, holder) else {
            return refuse(RefusalCode::UnknownActivation);
        };
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(&license)?;
        if holder != verify.holder {
            return refuse(RefusalCode::HolderMismatch);
        }
        let row = self.known_activation(context, &license, verify)?;
        self.is_usable(&row)?;
        self.is_in_time(&license.terms)?;
        self.has_place(&license, &row)?;
        self.confirm(context, &license, row, verify)
    }

    fn known_activation(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        verify: &Verify,
    ) -> Result<ActivationRow, Refusal> {
        let row = self.settled_activation(context, license.terms.license, &verify.holder);
        let row = row.filter(|row| !row.is_removed());
        row.ok_or(Refusal::new(RefusalCode::UnknownActivation))
    }

    /// Whether a device was activated by somebody whose name the full book of names did not take:
    /// then no address can be told from theirs, and the client id has to do.
    fn is_unnamed(&self, license: &LicenseRow, verify: &Verify) -> bool {
        let row = self.state.licensing().activation_of(license.terms.license, &verify.holder);
        row.is_some_and(|row| {
            row.contact != SubjectRef(0) && !self.state.subjects().contains_key(&row.contact)
        })
    }

    fn confirm(
        &mut self,
        context: &Context,
        license: &LicenseRow,
        mut row: ActivationRow,
        verify: &Verify,
    ) -> Decision {
        let took_seat = self.seat_activation(context, license, &mut row, verify.lease)?;
        self.store_activation(context, license, row.clone(), took_seat);
        self.activated(license.terms.license, &row, took_seat)
    }
}
