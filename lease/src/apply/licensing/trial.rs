//! Trials: a license, its owner and its one device, all at once, once per fingerprint for ever.
//!
//! A fingerprint is what its sender says it is, and each trial takes a seat: so an address begins
//! only some in a day (`guesses`).
//!
//! Whoever proposes the license again that this very fingerprint began with, under the same key,
//! gets it again while it is in force: the answer may have been lost on its way.

use crate::apply::licensing::activate::{is_claim, is_holder};
use crate::apply::licensing::guesses::Tried;
use crate::apply::{Context, Decision, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Subject;
use crate::ids::{ClientId, Face, Name};
use crate::ledger::Ledger;
use crate::license::{ActivationRow, ActivationState, Claim, ClientRow, StartTrial, TrialRow};
use crate::limits::{MAX_ACTIVATIONS, MAX_CLIENTS};
use crate::outcome::{Refusal, RefusalCode};
use crate::record::Event;
use crate::rows::SubjectKind;

/// Who a trial's license belongs to.
enum Owner {
    Known(ClientRow),
    New(Subject),
}

impl Ledger {
    pub(super) fn start_trial(&mut self, context: &Context, trial: &StartTrial) -> Decision {
        let StartTrial { issue, client, activate } = trial;
        let Claim::Device { identity, session } = &activate.claim else {
            return refuse(RefusalCode::RoleTooNarrow);
        };
        let own_key = activate.key_mac == Some(issue.key.mac);
        within(own_key && issue.terms.face == Face::Device)?;
        within(is_holder(&activate.holder) && is_claim(&activate.claim))?;
        let licensing = self.state.licensing();
        if licensing.trials().contains_key(&activate.holder) {
            return self.trial_again(context, trial);
        }
        self.may_begin(Tried::Trial, activate.address)?;
        within(licensing.trials().len() < MAX_CLIENTS)?;
        within(licensing.activations().len() < MAX_ACTIVATIONS)?;
        if licensing.activation(activate.activation).is_some() {
            return refuse(RefusalCode::LeaseIdTaken);
        }
        let owner = self.owner_of_trial(&identity.email, *client)?;
        let mut license = self.new_license(issue)?;
        self.is_permitted(&license)?;
        self.is_in_time(&license.terms)?;
        let now = self.clock().civil_ms;
        let activation_ms = i64::try_from(license.terms.plan.activation_ms).unwrap_or(i64::MAX);
        let mut row = ActivationRow {
            activation: activate.activation,
            license: license.terms.license,
            holder: activate.holder.clone(),
            state: ActivationState::Released,
            lease: None,
            contact: crate::ids::SubjectRef(0),
            subject_client: None,
            session: Some(session.clone()),
            activated_at_ms: now,
            last_seen_at_ms: now,
            valid_until_ms: (activation_ms > 0).then_some(now.saturating_add(activation_ms)),
            org: "".into(),
            project: "".into(),
            version: "".into(),
            nodes: 0,
            metadata: "".into(),
        };
        self.seat_activation(context, &license, &mut row, activate.lease)?;
        // Nothing can be refused any more.
        self.count_begun(Tried::Trial, activate.address);
        let owner = match owner {
            Owner::Known(owner) => owner,
            Owner::New(email) => self.store_client(context, &email, *client),
        };
        license.terms.client = Some(owner.client);
        license.last_activated_at_ms = Some(now);
        row.contact = owner.email;
        row.subject_client = Some(owner.client);
        self.store_license(context, license.clone());
        let last = self.license_validity(&license.terms).1;
        let ends_at_ms = row.valid_until_ms.map_or(last, |own| own.min(last));
        let started = TrialRow {
            holder: row.holder.clone(),
            license: row.license,
            started_at_ms: now,
            ends_at_ms,
        };
        self.state.put_trial(started);
        let detail = AuditDetail::OfLicense(row.license);
        let package = &license.terms.package;
        let event = Event::of_package(AuditKind::TrialStarted, package, detail).by(row.contact);
        self.record(&context.origin, event);
        self.store_activation(context, &license, row.clone(), true);
        self.activated(row.license, &row, true)
    }

    /// The trial that a fingerprint has, if it is the one proposed and still runs.
    fn trial_again(&mut self, context: &Context, trial: &StartTrial) -> Decision {
        let StartTrial { issue, activate, .. } = trial;
        let (id, licensing) = (issue.terms.license, self.state.licensing());
        let is_own = licensing.trials().get(&activate.holder).is_some_and(|had| had.license == id);
        let license = licensing.license(id).filter(|row| is_own && row.key.mac == issue.key.mac);
        let Some(license) = license.cloned() else { return refuse(RefusalCode::TrialUsed) };
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(&license)?;
        self.is_in_time(&license.terms)?;
        let present = self.settled_activation(context, id, &activate.holder);
        let Some(mut row) = present.filter(|row| !row.is_removed()) else {
            return refuse(RefusalCode::TrialUsed);
        };
        self.is_usable(&row)?;
        self.has_place(&license, &row)?;
        let took_seat = self.seat_activation(context, &license, &mut row, activate.lease)?;
        self.store_activation(context, &license, row.clone(), took_seat);
        self.activated(id, &row, took_seat)
    }

    fn owner_of_trial(&self, email: &Subject, client: ClientId) -> Result<Owner, Refusal> {
        let email =
            Subject { name: email.name.to_ascii_lowercase().into(), candidate: email.candidate };
        let known = self.state.subject_by_name(SubjectKind::User, &Name::from(&*email.name));
        let licensing = self.state.licensing();
        if let Some(owner) = known.and_then(|contact| licensing.client_by_email(contact)) {
            self.is_not_banned(Some(owner.client))?;
            return Ok(Owner::Known(owner.clone()));
        }
        if licensing.clients().contains_key(&client) {
            return Err(Refusal::new(RefusalCode::ClientTaken));
        }
        within(licensing.clients().len() < MAX_CLIENTS)?;
        Ok(Owner::New(email))
    }
}
