//! License keys and what is activated under them: one family of verbs over the same seats.
//!
//! How a request through a face is judged: is the address still trusted to show keys (`guesses`),
//! which license is meant, may that license be used now, may this holder, and is there a seat. In
//! which order that is asked differs between the faces and is said where each begins (`activate`,
//! `verify`). Nothing is stored before everything is settled, so a refusal leaves nothing behind
//! but its count.
//!
//! An activation in force holds a lease of its package, taken like any other (`seat`); one that is
//! not in force holds none, but for a while the one whose offline token is still outstanding. Until
//! then it counts against its plan, a removed one too: its device or cluster may be at work.

mod activate;
mod activation;
mod catalog;
pub(crate) mod guesses;
mod issue;
mod setup;
mod trial;
mod usage;
mod verify;

use crate::apply::{Context, Decision, refuse};
use crate::command::Command;
use crate::entry::Actor;
use crate::ids::{ActivationId, AddressTag, ClientId, Face, LicenseId, Name};
use crate::ledger::Ledger;
use crate::license::{
    Activated, ActivationRow, ActivationState, LicenseRow, LicenseState, LicenseTerms, VerifyBy,
};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::rows::PackageState;

use guesses::{Found, Tried};

impl Ledger {
    /// One of the commands about licenses, activations, clients and the catalog.
    pub(super) fn perform_licensing(&mut self, context: &Context, command: &Command) -> Decision {
        match command {
            Command::IssueLicense(issue) => self.issue_license(context, issue),
            Command::ChangeLicense(change) => self.change_license(context, change),
            Command::Activate(activate) => self.activate(context, activate),
            Command::Verify(verify) => self.verify(context, verify),
            Command::Deactivate(deactivate) => self.deactivate(context, deactivate),
            Command::ChangeActivation(change) => self.change_activation(context, change),
            Command::StartTrial(trial) => self.start_trial(context, trial),
            Command::AddClient(client) => self.add_client(context, client),
            Command::ChangeClient(change) => self.change_client(context, change),
            Command::PutProduct(put) => self.put_product(context, &put.product),
            Command::RemoveProduct { product, version } => {
                self.remove_product(context, *product, *version)
            }
            Command::AddUser(user) => self.add_user(context, user),
            Command::ReportUsage(report) => self.report_usage(report),
            _ => unreachable!("performed elsewhere"),
        }
    }

    /// The package that a refused command about a license was about.
    pub(super) fn licensed_package(&self, actor: Actor, command: &Command) -> Option<Name> {
        let licensing = self.state.licensing();
        let by_key = |mac: &[u8; 32]| {
            let row = licensing.license_by_key(mac);
            row.filter(|row| actor == Actor::Face(row.terms.face))
        };
        let of_activation =
            |id| licensing.activation(id).and_then(|row| licensing.license(row.license));
        let license = match command {
            Command::IssueLicense(issue) => return Some(issue.terms.package.clone()),
            Command::StartTrial(trial) => return Some(trial.issue.terms.package.clone()),
            Command::ChangeLicense(change) => licensing.license(change.license),
            Command::ChangeActivation(change) => of_activation(change.activation),
            Command::Activate(activate) => match &activate.key_mac {
                Some(mac) => by_key(mac),
                None => licensing.open_license(),
            },
            Command::Verify(verify) => match &verify.by {
                VerifyBy::Device { key_mac, .. } | VerifyBy::Deployment { key_mac, .. } => {
                    by_key(key_mac)
                }
                VerifyBy::Evaluation { activation } => of_activation(*activation),
            },
            Command::Deactivate(deactivate) => by_key(&deactivate.key_mac),
            _ => None,
        };
        license.map(|row| row.terms.package.clone())
    }

    /// The license that a key leads to through the face of the actor; a wrong key is counted.
    fn license_shown(
        &mut self,
        context: &Context,
        key_mac: &[u8; 32],
        address: AddressTag,
        holder: &Name,
    ) -> Result<LicenseRow, Refusal> {
        let licensing = self.state.licensing();
        let found = licensing
            .license_by_key(key_mac)
            .filter(|row| context.origin.actor == Actor::Face(row.terms.face))
            .cloned();
        let own = found.as_ref().and_then(|row| licensing.activation_of(row.terms.license, holder));
        let what = match own {
            Some(row) if self.is_held(row) => Found::Known,
            _ if found.is_some() => Found::Right,
            _ => Found::Wrong,
        };
        self.may_try(Tried::Key, address, what)?;
        found.ok_or(Refusal::new(RefusalCode::UnknownLicenseKey))
    }

    /// Whether an activation is in force: it holds a lease that has not ended.
    fn is_held(&self, row: &ActivationRow) -> bool {
        let lease = row.lease.and_then(|lease| self.state.lease(lease));
        row.state == ActivationState::Active && lease.is_some_and(|lease| !self.is_due(lease))
    }

    /// Whether a client may use licenses at all; nobody is banned who is in no book.
    fn is_not_banned(&self, client: Option<ClientId>) -> Result<(), Refusal> {
        let row = client.and_then(|client| self.state.licensing().clients().get(&client));
        match row.and_then(|row| row.banned_at_ms) {
            Some(_) => Err(Refusal::new(RefusalCode::ClientBanned)),
            None => Ok(()),
        }
    }

    /// What an operator decided about a license and its package.
    fn is_permitted(&self, license: &LicenseRow) -> Result<(), Refusal> {
        let package = self.state.slot(&license.terms.package).map(|slot| self.state.at(slot));
        let code = match (license.state, package.map(|package| package.state())) {
            (LicenseState::Cancelled, _) => RefusalCode::LicenseCancelled,
            (LicenseState::Revoked, _) | (_, Some(PackageState::Revoked) | None) => {
                RefusalCode::LicenseRevoked
            }
            (LicenseState::Suspended, _) | (_, Some(PackageState::Suspended)) => {
                RefusalCode::LicenseSuspended
            }
            (LicenseState::Active, Some(PackageState::Active)) => return Ok(()),
        };
        Err(Refusal::new(code))
    }

    /// Whether a license and its package are valid by the civil clock.
    fn is_in_time(&self, terms: &LicenseTerms) -> Result<(), Refusal> {
        let civil_ms = self.clock().civil_ms;
        let (first, last) = self.license_validity(terms);
        if civil_ms < first {
            let code = RefusalCode::LicenseNotYetValid;
            return Err(Refusal { available_at_ms: Some(first), ..Refusal::new(code) });
        }
        if civil_ms > last {
            return Err(Refusal::new(RefusalCode::LicenseExpired));
        }
        Ok(())
    }

    /// Whether an activation's own validity lasts.
    fn is_young(&self, row: &ActivationRow) -> Result<(), Refusal> {
        if row.valid_until_ms.is_some_and(|last| self.clock().civil_ms > last) {
            return Err(Refusal::new(RefusalCode::ActivationExpired));
        }
        Ok(())
    }

    /// What a holder is told of its activation, with the offline token it may have.
    fn activated(&mut self, license: LicenseId, row: &ActivationRow, is_new: bool) -> Decision {
        let Some(license) = self.state.licensing().license(license) else {
            return refuse(RefusalCode::UnknownLicense);
        };
        let offline_ms = license.terms.plan.offline_ms;
        let mut activated = self.describe_activation(license, row, is_new);
        let tokens = self.offline_terms(&license.terms.package).tokens;
        if let Some(lease) = row.lease.filter(|_| tokens && offline_ms > 0) {
            let wanted = i64::try_from(offline_ms).unwrap_or(i64::MAX);
            let until_ms = activated.civil_ms.saturating_add(wanted).min(activated.valid_until_ms);
            activated.offline = self.hold_for(lease, until_ms, false).map(Box::new);
        }
        Ok(Outcome::Activated(Box::new(activated)))
    }

    /// The answer to an earlier request that activated something, without an offline token: the
    /// next verification brings one.
    pub(super) fn activated_before(&self, activation: ActivationId) -> Decision {
        let licensing = self.state.licensing();
        let row = licensing.activation(activation);
        match row.and_then(|row| Some((row, licensing.license(row.license)?))) {
            Some((row, license)) => {
                let activated = self.describe_activation(license, row, true);
                Ok(Outcome::Activated(Box::new(activated)))
            }
            None => refuse(RefusalCode::UnknownActivation),
        }
    }

    fn describe_activation(
        &self,
        license: &LicenseRow,
        row: &ActivationRow,
        is_new: bool,
    ) -> Activated {
        let last = self.license_validity(&license.terms).1;
        Activated {
            license: license.terms.license,
            activation: Some(row.activation),
            lease: row.lease,
            is_new,
            token_version: license.token_version,
            valid_until_ms: row.valid_until_ms.map_or(last, |own| own.min(last)),
            civil_ms: self.clock().civil_ms,
            offline: None,
        }
    }
}

/// The face that a command came through.
fn face_of(context: &Context) -> Option<Face> {
    match context.origin.actor {
        Actor::Face(face) => Some(face),
        _ => None,
    }
}
