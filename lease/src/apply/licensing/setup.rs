//! The setup call of `deployment`: somebody accepts a license's terms. It takes no seat.
//!
//! Whoever has the key can name as many people as they like. So the names that a license brings
//! into the book after its first are rows like those of delegates, and bounded as they are; a name
//! beyond is a reference that stands for nothing, as when the book is full, and the terms are
//! accepted all the same.

use crate::apply::{Context, Decision};
use crate::audit::{AuditDetail, AuditKind};
use crate::command::Subject;
use crate::ids::{ClientId, Name, SubjectRef};
use crate::ledger::Ledger;
use crate::license::{Activated, LicenseRow};
use crate::limits::MAX_DELEGATES;
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
        if self.state.subject_by_name(SubjectKind::User, &Name::from(&*email.name)).is_none() {
            self.has_space()?;
        }
        let contact = self.contact_of_setup(&license, &email);
        let terms_accepted_at_ms = terms_accepted_at_ms.or(license.terms_accepted_at_ms);
        let is_new =
            (license.contact, license.terms_accepted_at_ms) != (contact, terms_accepted_at_ms);
        let activated = Activated {
            license: license.terms.license,
            activation: None,
            lease: None,
            is_new,
            token_version: license.token_version,
            valid_until_ms: self.license_validity(&license.terms).1,
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

    fn contact_of_setup(&mut self, license: &LicenseRow, email: &Subject) -> SubjectRef {
        let id = license.terms.license;
        let known = self.state.subject_by_name(SubjectKind::User, &Name::from(&*email.name));
        if let Some(known) = known {
            return known;
        }
        if self.state.licensing().delegates(id).count() >= MAX_DELEGATES {
            return email.candidate;
        }
        let contact = self.refer_to(SubjectKind::User, email);
        if license.contact != SubjectRef(0) {
            self.keep_identity(id, contact, ClientId(0));
        }
        contact
    }
}
