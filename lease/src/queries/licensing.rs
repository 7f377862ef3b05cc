//! Reading license keys and what is activated under them.
//!
//! Rows are given as they are kept. Whether a license or an activation has expired is said by the
//! clock; an activation whose lease is due and not swept yet still shows as active. What is left of
//! a removed one while its seat is kept for a token is not shown.

use crate::command::SealedSecret;
use crate::ids::{
    ActivationId, ClientId, Face, LeaseId, LicenseId, Name, ProductId, SubjectRef, UserId,
};
use crate::ledger::Ledger;
use crate::license::{
    ActivationRow, ClientRow, IdentityRow, KeyWindow, LicenseRow, LicenseTerms, ProductRow,
    TrialRow, UserRow,
};
use crate::money::Measure;
use crate::rows::SubjectKind;

/// Licenses and activations.
impl Ledger {
    /// A license.
    pub fn license(&self, license: LicenseId) -> Option<&LicenseRow> {
        self.state.licensing().license(license)
    }

    /// The license that a key's MAC leads to through a face.
    pub fn license_by_key(&self, mac: &[u8; 32], face: Face) -> Option<&LicenseRow> {
        self.state.licensing().license_by_key(mac).filter(|row| row.terms.face == face)
    }

    /// Licenses in order of id, all or those after a cursor.
    pub fn licenses(&self, after: Option<LicenseId>) -> impl Iterator<Item = &LicenseRow> {
        after_in(self.state.licensing().licenses(), after)
    }

    /// The license for callers without a key, if there is one that is not cancelled.
    pub fn open_license(&self) -> Option<&LicenseRow> {
        self.state.licensing().open_license()
    }

    /// Licenses issued to a client, in order of id. Walks all licenses.
    pub fn licenses_of_client(&self, client: ClientId) -> impl Iterator<Item = &LicenseRow> {
        self.licenses(None).filter(move |row| row.terms.client == Some(client))
    }

    /// Licenses whose seats come from a package, in order of id. Walks all licenses.
    pub fn licenses_of_package(&self, package: &str) -> impl Iterator<Item = &LicenseRow> {
        self.licenses(None).filter(move |row| &*row.terms.package == package)
    }

    /// An activation.
    pub fn activation(&self, activation: ActivationId) -> Option<&ActivationRow> {
        self.state.licensing().activation(activation).filter(|row| !row.is_removed())
    }

    /// A license's activations in order of id.
    pub fn activations_of(&self, license: LicenseId) -> impl Iterator<Item = &ActivationRow> {
        self.state.licensing().of_license(license).filter(|row| !row.is_removed())
    }

    /// What a holder activated under a license.
    pub fn activation_of_holder(&self, license: LicenseId, holder: &str) -> Option<&ActivationRow> {
        let row = self.state.licensing().activation_of(license, &Name::from(holder));
        row.filter(|row| !row.is_removed())
    }

    /// Activations in order of id, all or those after a cursor.
    pub fn activations(&self, after: Option<ActivationId>) -> impl Iterator<Item = &ActivationRow> {
        let rows = after_in(self.state.licensing().activations(), after);
        rows.filter(|row| !row.is_removed())
    }

    /// First and last civil millisecond at which both a license and its package are valid.
    pub fn license_validity(&self, terms: &LicenseTerms) -> (i64, i64) {
        let package = self.state.slot(&terms.package).map(|slot| self.state.at(slot).terms());
        let (first, last) = package.map_or((i64::MAX, i64::MIN), |package| {
            (package.valid_from_ms, package.valid_until_ms)
        });
        (terms.valid_from_ms.max(first), terms.valid_until_ms.unwrap_or(last).min(last))
    }

    /// The activation that a lease is the seat of.
    pub fn activation_of_lease(&self, lease: LeaseId) -> Option<&ActivationRow> {
        self.state.licensing().activation_of_lease(lease)
    }

    /// The activation that holds a license's slot (`deployment`; of several the one that frees
    /// first), or whose seat is kept for its offline token, and when it frees on the civil clock at
    /// the latest if its holder is not heard again; `None`: never by itself.
    pub fn holder_of_seat(&self, license: LicenseId) -> Option<(&ActivationRow, Option<i64>)> {
        let rows = self.state.licensing().of_license(license);
        let seated = rows.filter(|row| row.lease.is_some_and(|lease| self.lease(&lease).is_some()));
        let with_end = seated.map(|row| (row, self.seat_frees_at(row)));
        with_end.min_by_key(|(row, at)| (at.unwrap_or(i64::MAX), row.activation))
    }

    /// Activations of a license that are in force.
    pub fn active_activations(&self, license: LicenseId) -> u32 {
        self.state.licensing().active(license)
    }

    /// The delegate of a license that an e-mail address is, in any case of letters; `None` for the
    /// owner's own address too.
    pub fn identity(&self, license: LicenseId, email: &str) -> Option<&IdentityRow> {
        let contact = self.contact(email)?;
        self.state.licensing().identities().get(&(license, contact))
    }

    /// Delegates of a license.
    pub fn identities_of(&self, license: LicenseId) -> impl Iterator<Item = &IdentityRow> {
        self.state.licensing().delegates(license)
    }

    /// The trial that a device had.
    pub fn trial(&self, holder: &str) -> Option<&TrialRow> {
        self.state.licensing().trials().get(holder)
    }

    /// Metered use of a license, in order of metric.
    pub fn license_usage(&self, license: LicenseId) -> impl Iterator<Item = (&Name, Measure)> {
        self.state.licensing().usage(license)
    }
}

/// Clients, catalog, users, keys.
impl Ledger {
    /// A client.
    pub fn client(&self, client: ClientId) -> Option<&ClientRow> {
        self.state.licensing().clients().get(&client)
    }

    /// A client by e-mail address, in any case of letters.
    pub fn client_by_email(&self, email: &str) -> Option<&ClientRow> {
        self.state.licensing().client_by_email(self.contact(email)?)
    }

    /// Clients in order of id, all or those after a cursor.
    pub fn clients(&self, after: Option<ClientId>) -> impl Iterator<Item = &ClientRow> {
        after_in(self.state.licensing().clients(), after)
    }

    /// A product of the catalog.
    pub fn product(&self, product: ProductId) -> Option<&ProductRow> {
        self.state.licensing().products().get(&product)
    }

    /// A product of the catalog by its name.
    pub fn product_by_slug(&self, slug: &str) -> Option<&ProductRow> {
        self.state.licensing().product_by_slug(slug)
    }

    /// All products of the catalog in order of id.
    pub fn products(&self) -> impl Iterator<Item = &ProductRow> {
        self.state.licensing().products().values()
    }

    /// A user of the admin API that `device` tools speak.
    pub fn user(&self, user: UserId) -> Option<&UserRow> {
        self.state.licensing().users().get(&user)
    }

    /// The same by name.
    pub fn user_by_name(&self, name: &str) -> Option<&UserRow> {
        self.state.licensing().user_by_name(name)
    }

    /// All of them in order of id.
    pub fn users(&self) -> impl Iterator<Item = &UserRow> {
        self.state.licensing().users().values()
    }

    /// Which versions of a rotating key are in use.
    pub fn key_window(&self, name: &str) -> Option<&KeyWindow> {
        self.state.licensing().key_windows().get(name)
    }

    /// A version of a rotating key, sealed.
    pub fn key_version(&self, name: &str, version: u32) -> Option<&SealedSecret> {
        self.secret(&format!("{name}-{version}"))
    }

    /// The reference of an e-mail address, in any case of letters.
    fn contact(&self, email: &str) -> Option<SubjectRef> {
        let email = Name::from(email.to_ascii_lowercase());
        self.state.subject_by_name(SubjectKind::User, &email)
    }
}

fn after_in<K: Ord + Copy, V>(
    rows: &std::collections::BTreeMap<K, V>,
    after: Option<K>,
) -> impl Iterator<Item = &V> {
    use std::ops::Bound::{Excluded, Unbounded};
    let from = after.map_or(Unbounded, Excluded);
    rows.range((from, Unbounded)).map(|(_, row)| row)
}
