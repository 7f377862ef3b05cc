//! Reading who is behind references: people and hosts, and what is bound to their names.

use crate::command::Operator;
use crate::ids::{ActivationId, Face, LicenseId, Name, OperatorId, SubjectRef};
use crate::ledger::Ledger;
use crate::license::{ActivationState, LicenseRow, LicenseState};
use crate::rows::SubjectKind;

/// What works only because a person's name is kept. While there is any, the name is not erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bond {
    /// A license for devices, in force, whose owner's address it is: cancel or revoke it.
    License(LicenseId),
    /// An activation of a device, in force, that they made as a delegate: remove or revoke it.
    Activation(ActivationId),
    /// An operator token or an API key in force that bears the name: remove it.
    Operator(OperatorId),
}

impl Operator {
    /// Whether the token, or the API key, is somebody's of this name.
    pub fn is_named(&self, name: &str) -> bool {
        let own = self.name.strip_prefix(API_KEY_PREFIX).unwrap_or(&self.name);
        own.eq_ignore_ascii_case(name)
    }

    /// Whether it is good by a civil clock.
    pub fn is_in_force(&self, civil_ms: i64) -> bool {
        self.expires_at_ms.is_none_or(|end| civil_ms < end)
    }
}

impl Ledger {
    /// The reference of a name, if it is kept. Addresses are kept in lower case.
    pub fn subject_by_name(&self, kind: SubjectKind, name: &str) -> Option<SubjectRef> {
        self.state
            .subject_by_name(kind, &Name::from(name))
            .or_else(|| self.state.subject_by_name(kind, &name.to_lowercase().into()))
    }

    /// Every name that is kept, in order of reference, all or those after a cursor.
    pub fn subjects(
        &self,
        after: Option<SubjectRef>,
    ) -> impl Iterator<Item = (SubjectRef, SubjectKind, &Name)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let rows = self.state.subjects().range((from, Unbounded));
        rows.map(|(reference, row)| (*reference, row.kind, &row.name))
    }

    /// What keeps a name from being erased, licenses first. Walks all licenses and activations.
    pub fn bonds_of(&self, subject: SubjectRef) -> impl Iterator<Item = Bond> {
        let (licensing, civil_ms) = (self.state.licensing(), self.clock().civil_ms);
        let user = self.subject(subject).filter(|(kind, _)| *kind == SubjectKind::User);
        let name = user.map(|(_, name)| name);
        let client = name.and_then(|_| licensing.client_by_email(subject)).map(|row| row.client);
        let owned = move |row: &&LicenseRow| {
            client.is_some()
                && row.terms.client == client
                && row.terms.face == Face::Device
                && matches!(row.state, LicenseState::Active | LicenseState::Suspended)
                && self.license_validity(&row.terms).1 >= civil_ms
        };
        let licenses = licensing.licenses().values().filter(owned);
        let made = licensing.activations().values().filter(move |row| {
            name.is_some()
                && row.contact == subject
                && row.state == ActivationState::Active
                && licensing
                    .license(row.license)
                    .is_some_and(|license| license.terms.face == Face::Device)
        });
        let tokens = self.state.operators().values().filter(move |row| {
            row.is_in_force(civil_ms) && name.is_some_and(|name| row.is_named(name))
        });
        licenses
            .map(|row| Bond::License(row.terms.license))
            .chain(made.map(|row| Bond::Activation(row.activation)))
            .chain(tokens.map(|row| Bond::Operator(row.operator)))
    }
}

/// How the names of rows begin that are API keys of the device protocol's admin tools.
const API_KEY_PREFIX: &str = "api-key/";
