//! The setup call of `deployment`: somebody accepts a license's terms. It takes no seat.

use crate::apply::{Context, Decision};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Subject;
use crate::ledger::Ledger;
use crate::license::{Activated, LicenseRow};
use crate::outcome::Outcome;
use crate::record::Event;
use crate::rows::SubjectKind;

impl Ledger {
    pub(super) fn set_up(
        &mut self,
        context: &Context,
        mut license: LicenseRow,
        contact: &Subject,
        terms_accepted_at_ms: Option<i64>,
    ) -> Decision {
        self.is_not_banned(license.terms.client)?;
        self.is_permitted(&license)?;
        self.is_in_time(&license.terms)?;
        let email = Subject {
            name: contact.name.to_ascii_lowercase().into(),
            candidate: contact.candidate,
        };
        let contact = self.refer_to(SubjectKind::User, &email);
        let terms_accepted_at_ms = terms_accepted_at_ms.or(license.terms_accepted_at_ms);
        let is_new =
            (license.contact, license.terms_accepted_at_ms) != (contact, terms_accepted_at_ms);
        let activated = Activated {
            license: license.terms.license,
            activation: None,
            lease: None,
            is_new,
            token_version: license.token_version,
            valid_until_ms: self.validity(&license.terms).1,
            civil_ms: self.clock().civil_ms,
            offline: None,
        };
        if is_new {
            license.contact = contact;
            license.terms_accepted_at_ms = terms_accepted_at_ms;
            let detail = AuditDetail::OfLicense(license.terms.license);
            let package = &license.terms.package;
            let event = Event::of_package(AuditKind::LicenseSetUp, package, detail).by(contact);
            self.record(&context.origin, event);
            self.state.put_license(license);
        }
        Ok(Outcome::Activated(Box::new(activated)))
    }
}
