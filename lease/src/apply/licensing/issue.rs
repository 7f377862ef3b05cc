//! Licenses: issued once, then changed by operators, never removed.
//!
//! ```text
//!            suspend            revoke
//!   Active ----------> Suspended ------> Revoked      cancel, from any of them:
//!      ^ <----------                       |          Cancelled, for good
//!      |     resume                        |
//!      +-----------------------------------+
//!                  reinstate
//! ```
//!
//! Whatever is suspended keeps its seats. What is cancelled or revoked gives them back: at once up
//! to as many as one entry may end, the rest with the entries that follow.

use crate::apply::{Context, Decision, is_name, is_text, refuse, within};
use crate::audit::{AuditDetail, AuditKind};
use crate::format;
use crate::ids::{Face, SubjectRef};
use crate::ledger::Ledger;
use crate::license::{
    ChangeLicense, IssueLicense, KeyRow, LicenseChange, LicenseRow, LicenseState, LicenseTerms,
    Plan, PlanFeature, PlanScope,
};
use crate::limits::{MAX_LICENSE_BYTES, MAX_LICENSES, MAX_METADATA_BYTES, MAX_PLAN_ITEMS};
use crate::outcome::{Outcome, Refusal, RefusalCode};
use crate::record::Event;

impl Ledger {
    pub(super) fn issue_license(&mut self, context: &Context, issue: &IssueLicense) -> Decision {
        let terms = &issue.terms;
        if let Some(client) = &terms.client
            && !self.state.licensing().clients().contains_key(client)
        {
            return refuse(RefusalCode::UnknownClient);
        }
        // Whoever activates a device names its license's owner; without one, nobody could.
        if terms.face == Face::Device && terms.client.is_none() {
            return refuse(RefusalCode::UnknownClient);
        }
        let row = self.new_license(issue)?;
        self.store_license(context, row);
        Ok(Outcome::Done)
    }

    /// The row of a license that may be issued; its client is not looked at.
    pub(super) fn new_license(&self, issue: &IssueLicense) -> Result<LicenseRow, Refusal> {
        let IssueLicense { terms, key } = issue;
        let slot = self.package_slot(&terms.package)?;
        let (package, civil_ms) = (self.state.at(slot), self.clock().civil_ms);
        if package.is_over(civil_ms) {
            let expired = package.is_expired(civil_ms);
            let of_package =
                if expired { RefusalCode::PackageExpired } else { RefusalCode::PackageRevoked };
            return Err(Refusal::new(of_package));
        }
        let licensing = self.state.licensing();
        let taken = licensing.license(terms.license).is_some()
            || licensing.license_by_key(&key.mac).is_some()
            || (terms.open && licensing.open_license().is_some());
        if taken {
            return Err(Refusal::new(RefusalCode::LicenseTaken));
        }
        let row = LicenseRow {
            terms: terms.clone(),
            key: key.clone(),
            state: LicenseState::Active,
            reason: "".into(),
            changed_at_ms: civil_ms,
            issued_at_ms: civil_ms,
            token_version: 1,
            last_activated_at_ms: None,
            terms_accepted_at_ms: None,
            contact: SubjectRef(0),
        };
        within(licensing.licenses().len() < MAX_LICENSES && are_sound(terms) && is_hint(key))?;
        within(terms.plan.seats_per_activation <= package.terms().total)?;
        within(format::encode_body(&row).len() <= MAX_LICENSE_BYTES)?;
        Ok(row)
    }

    pub(super) fn store_license(&mut self, context: &Context, row: LicenseRow) {
        let LicenseTerms { license, face, client, .. } = row.terms;
        let detail = AuditDetail::License { license, face, client };
        let event = Event::of_package(AuditKind::LicenseIssued, &row.terms.package, detail);
        self.state.put_license(row);
        self.record(&context.origin, event);
    }

    pub(super) fn change_license(&mut self, context: &Context, change: &ChangeLicense) -> Decision {
        let Some(license) = self.state.licensing().license(change.license) else {
            return refuse(RefusalCode::UnknownLicense);
        };
        let mut row = license.clone();
        match &change.change {
            LicenseChange::RotateKey(key) if *key == row.key => return Ok(Outcome::Unchanged),
            LicenseChange::RotateKey(key) => {
                if row.state == LicenseState::Cancelled {
                    return refuse(RefusalCode::LicenseStateConflict);
                }
                if self.state.licensing().license_by_key(&key.mac).is_some() {
                    return refuse(RefusalCode::LicenseTaken);
                }
                within(is_hint(key))?;
                row.key = key.clone();
            }
            of_state => match next_state(row.state, of_state) {
                Some(state) if state == row.state => return Ok(Outcome::Unchanged),
                Some(state) => {
                    row.state = state;
                    row.reason = change.reason.clone();
                    row.changed_at_ms = self.clock().civil_ms;
                }
                None => return refuse(RefusalCode::LicenseStateConflict),
            },
        }
        within(is_text(&change.reason))?;
        let Some(token_version) = row.token_version.checked_add(1) else {
            return refuse(RefusalCode::LimitReached);
        };
        row.token_version = token_version;
        let kind = match change.change {
            LicenseChange::RotateKey(_) => AuditKind::LicenseKeyRotated,
            _ => AuditKind::LicenseChanged,
        };
        let detail = AuditDetail::LicenseChange {
            license: change.license,
            state: row.state,
            token_version,
            reason: change.reason.clone(),
        };
        let event = Event::of_package(kind, &row.terms.package, detail);
        self.state.put_license(row);
        self.record(&context.origin, event);
        let mut budget = self.limits.expiries_per_entry;
        self.sweep_licenses(&context.origin, &mut budget);
        Ok(Outcome::Done)
    }
}

/// Where a change leads; `None`: it cannot be made there.
fn next_state(from: LicenseState, change: &LicenseChange) -> Option<LicenseState> {
    use LicenseState::{Active, Cancelled, Revoked, Suspended};
    match (change, from) {
        (LicenseChange::Suspend, Active | Suspended) => Some(Suspended),
        (LicenseChange::Resume, Suspended | Active)
        | (LicenseChange::Reinstate, Revoked | Active) => Some(Active),
        (LicenseChange::Revoke, Active | Suspended | Revoked) => Some(Revoked),
        (LicenseChange::Cancel, _) => Some(Cancelled),
        _ => None,
    }
}

/// Whether a key may be shown to people by its last characters only.
fn is_hint(key: &KeyRow) -> bool {
    key.hint.chars().count() <= 8
}

fn are_sound(terms: &LicenseTerms) -> bool {
    is_plan(&terms.plan)
        && is_text(&terms.organisation)
        && (!terms.open || terms.face == Face::Evaluation)
        && terms.face != Face::Classic
        && terms.valid_until_ms.is_none_or(|last| terms.valid_from_ms <= last)
}

fn is_plan(plan: &Plan) -> bool {
    let quota = |quota: &(crate::ids::Name, crate::money::Measure)| {
        is_name(&quota.0) && !quota.1.0.is_sign_negative()
    };
    is_name(&plan.slug)
        && (plan.product.is_empty() || is_name(&plan.product))
        && is_text(&plan.kind)
        && plan.seats_per_activation >= 1
        && plan.features.len() <= MAX_PLAN_ITEMS
        && plan.features.iter().all(is_feature)
        && plan.quotas.len() <= MAX_PLAN_ITEMS
        && plan.quotas.iter().all(quota)
}

fn is_feature(feature: &PlanFeature) -> bool {
    is_name(&feature.slug)
        && is_text(&feature.category)
        && feature.scopes.len() <= MAX_PLAN_ITEMS
        && feature.scopes.iter().all(is_scope)
}

fn is_scope(scope: &PlanScope) -> bool {
    is_name(&scope.slug) && scope.metadata.len() <= MAX_METADATA_BYTES
}
