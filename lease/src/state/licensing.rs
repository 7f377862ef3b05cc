//! License keys in memory: licenses, activations, clients, the catalog, guesses, metered use.
//!
//! As everywhere in `state`, what is stored is changed by a method that marks its row first, and
//! what finds a row is kept beside it and rebuilt when rows are loaded. Who may change what is
//! decided in `apply`.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{
    ActivationId, AddressTag, ClientId, LeaseId, LicenseId, Name, ProductId, SubjectRef, UserId,
};
use crate::license::{
    ActivationRow, ActivationState, ClientRow, GuessRow, IdentityRow, KeyWindow, LicenseRow,
    LicenseState, ProductRow, TrialRow, UserRow,
};
use crate::money::Measure;
use crate::rows::{LoadError, RowKey, encode_value, table};

use super::State;
use super::load::RowBytes;

/// Tables 20 to 28 and 32, and the indexes that find their rows.
#[derive(Debug, Default)]
pub(crate) struct Licensing {
    licenses: BTreeMap<LicenseId, LicenseRow>,
    license_by_key: BTreeMap<[u8; 32], LicenseId>,
    /// Licenses for callers without a key that are not cancelled: at most one.
    open: BTreeSet<LicenseId>,
    activations: BTreeMap<ActivationId, ActivationRow>,
    by_holder: BTreeMap<(LicenseId, Name), ActivationId>,
    /// Every activation by its holder, whatever the license.
    holders: BTreeSet<(Name, ActivationId)>,
    of_license: BTreeSet<(LicenseId, ActivationId)>,
    by_lease: BTreeMap<LeaseId, ActivationId>,
    /// Activations in force.
    in_force: BTreeSet<(LicenseId, ActivationId)>,
    /// How many per license; none: no entry.
    active: BTreeMap<LicenseId, u32>,
    /// How many per license are not in force, but their seat is kept; none: no entry.
    kept: BTreeMap<LicenseId, u32>,
    /// Licenses that are revoked or cancelled and have activations in force.
    ending: BTreeSet<LicenseId>,
    clients: BTreeMap<ClientId, ClientRow>,
    client_by_email: BTreeMap<SubjectRef, ClientId>,
    products: BTreeMap<ProductId, ProductRow>,
    product_by_slug: BTreeMap<Name, ProductId>,
    users: BTreeMap<UserId, UserRow>,
    user_by_name: BTreeMap<Name, UserId>,
    trials: BTreeMap<Name, TrialRow>,
    identities: BTreeMap<(LicenseId, SubjectRef), IdentityRow>,
    guesses: BTreeMap<AddressTag, GuessRow>,
    /// The same by the beginning of their window, so that the old ones are found.
    guess_order: BTreeSet<(u64, AddressTag)>,
    usage: BTreeMap<LicenseId, BTreeMap<Name, Measure>>,
    key_windows: BTreeMap<Name, KeyWindow>,
}

/// Reading.
impl Licensing {
    pub(crate) fn licenses(&self) -> &BTreeMap<LicenseId, LicenseRow> {
        &self.licenses
    }

    pub(crate) fn license(&self, id: LicenseId) -> Option<&LicenseRow> {
        self.licenses.get(&id)
    }

    pub(crate) fn license_by_key(&self, mac: &[u8; 32]) -> Option<&LicenseRow> {
        self.licenses.get(self.license_by_key.get(mac)?)
    }

    /// The license for callers without a key.
    pub(crate) fn open_license(&self) -> Option<&LicenseRow> {
        self.licenses.get(self.open.first()?)
    }

    pub(crate) fn activations(&self) -> &BTreeMap<ActivationId, ActivationRow> {
        &self.activations
    }

    pub(crate) fn activation(&self, id: ActivationId) -> Option<&ActivationRow> {
        self.activations.get(&id)
    }

    pub(crate) fn activation_of(
        &self,
        license: LicenseId,
        holder: &Name,
    ) -> Option<&ActivationRow> {
        self.activations.get(self.by_holder.get(&(license, holder.clone()))?)
    }

    pub(crate) fn activation_of_lease(&self, lease: LeaseId) -> Option<&ActivationRow> {
        self.activations.get(self.by_lease.get(&lease)?)
    }

    /// A license's activations in order of id.
    pub(crate) fn of_license(&self, license: LicenseId) -> impl Iterator<Item = &ActivationRow> {
        let from = (license, ActivationId(0));
        let to = (license, ActivationId(u128::MAX));
        self.of_license.range(from..=to).filter_map(|(_, id)| self.activations.get(id))
    }

    /// A holder's activations under any license, in order of id.
    pub(crate) fn of_holder(&self, holder: &Name) -> impl Iterator<Item = &ActivationRow> {
        let from = (holder.clone(), ActivationId(0));
        let to = (holder.clone(), ActivationId(u128::MAX));
        self.holders.range(from..=to).filter_map(|(_, id)| self.activations.get(id))
    }

    /// Activations of a license that are in force, in order of id.
    pub(crate) fn in_force(&self, license: LicenseId) -> impl Iterator<Item = &ActivationRow> {
        let range = (license, ActivationId(0))..=(license, ActivationId(u128::MAX));
        self.in_force.range(range).filter_map(|(_, id)| self.activations.get(id))
    }

    /// An activation in force of a license that is revoked or cancelled.
    pub(crate) fn first_to_end(&self) -> Option<&ActivationRow> {
        self.in_force(*self.ending.first()?).next()
    }

    /// Activations of a license that are in force.
    pub(crate) fn active(&self, license: LicenseId) -> u32 {
        self.active.get(&license).copied().unwrap_or(0)
    }

    /// Activations of a license that are not in force, but whose seat is kept for an offline token.
    pub(crate) fn kept(&self, license: LicenseId) -> u32 {
        self.kept.get(&license).copied().unwrap_or(0)
    }

    pub(crate) fn clients(&self) -> &BTreeMap<ClientId, ClientRow> {
        &self.clients
    }

    pub(crate) fn client_by_email(&self, email: SubjectRef) -> Option<&ClientRow> {
        self.clients.get(self.client_by_email.get(&email)?)
    }

    pub(crate) fn products(&self) -> &BTreeMap<ProductId, ProductRow> {
        &self.products
    }

    pub(crate) fn product_by_slug(&self, slug: &str) -> Option<&ProductRow> {
        self.products.get(self.product_by_slug.get(slug)?)
    }

    pub(crate) fn users(&self) -> &BTreeMap<UserId, UserRow> {
        &self.users
    }

    pub(crate) fn user_by_name(&self, name: &str) -> Option<&UserRow> {
        self.users.get(self.user_by_name.get(name)?)
    }

    pub(crate) fn trials(&self) -> &BTreeMap<Name, TrialRow> {
        &self.trials
    }

    pub(crate) fn identities(&self) -> &BTreeMap<(LicenseId, SubjectRef), IdentityRow> {
        &self.identities
    }

    /// Delegates of a license.
    pub(crate) fn delegates(&self, license: LicenseId) -> impl Iterator<Item = &IdentityRow> {
        let range = (license, SubjectRef(0))..=(license, SubjectRef(u64::MAX));
        self.identities.range(range).map(|(_, row)| row)
    }

    pub(crate) fn guesses(&self) -> &BTreeMap<AddressTag, GuessRow> {
        &self.guesses
    }

    /// The oldest window of guesses.
    pub(crate) fn first_guess(&self) -> Option<(u64, AddressTag)> {
        self.guess_order.first().copied()
    }

    /// Metered use of a license, in order of metric.
    pub(crate) fn usage(&self, license: LicenseId) -> impl Iterator<Item = (&Name, Measure)> {
        let counts = self.usage.get(&license).into_iter().flatten();
        counts.map(|(metric, used)| (metric, *used))
    }

    pub(crate) fn key_windows(&self) -> &BTreeMap<Name, KeyWindow> {
        &self.key_windows
    }
}

/// Changing.
impl State {
    pub(crate) fn licensing(&self) -> &Licensing {
        &self.licensing
    }

    pub(crate) fn put_license(&mut self, row: LicenseRow) {
        self.touch(RowKey::License(row.terms.license));
        self.licensing.unindex_license(row.terms.license);
        self.licensing.index_license(row);
    }

    pub(crate) fn put_activation(&mut self, row: ActivationRow) {
        self.touch(RowKey::Activation(row.activation));
        self.licensing.unindex_activation(row.activation);
        self.licensing.index_activation(row);
    }

    pub(crate) fn remove_activation(&mut self, id: ActivationId) {
        self.touch(RowKey::Activation(id));
        self.licensing.unindex_activation(id);
    }

    pub(crate) fn put_client(&mut self, row: ClientRow) {
        self.touch(RowKey::Client(row.client));
        self.licensing.client_by_email.insert(row.email, row.client);
        self.licensing.clients.insert(row.client, row);
    }

    pub(crate) fn put_product(&mut self, row: ProductRow) {
        self.touch(RowKey::Product(row.product));
        if let Some(before) = self.licensing.products.get(&row.product) {
            self.licensing.product_by_slug.remove(&before.slug);
        }
        self.licensing.product_by_slug.insert(row.slug.clone(), row.product);
        self.licensing.products.insert(row.product, row);
    }

    pub(crate) fn remove_product(&mut self, id: ProductId) {
        self.touch(RowKey::Product(id));
        if let Some(before) = self.licensing.products.remove(&id) {
            self.licensing.product_by_slug.remove(&before.slug);
        }
    }

    pub(crate) fn put_user(&mut self, row: UserRow) {
        self.touch(RowKey::User(row.user));
        if let Some(before) = self.licensing.users.get(&row.user) {
            self.licensing.user_by_name.remove(&before.username);
        }
        self.licensing.user_by_name.insert(row.username.clone(), row.user);
        self.licensing.users.insert(row.user, row);
    }

    pub(crate) fn put_trial(&mut self, row: TrialRow) {
        self.touch(RowKey::Trial(row.holder.clone()));
        self.licensing.trials.insert(row.holder.clone(), row);
    }

    pub(crate) fn put_identity(&mut self, row: IdentityRow) {
        self.touch(RowKey::Identity(row.license, row.contact));
        self.licensing.identities.insert((row.license, row.contact), row);
    }

    pub(crate) fn remove_identity(&mut self, license: LicenseId, contact: SubjectRef) {
        self.touch(RowKey::Identity(license, contact));
        self.licensing.identities.remove(&(license, contact));
    }

    pub(crate) fn put_guess(&mut self, address: AddressTag, row: GuessRow) {
        self.forget_guess(address);
        self.touch(RowKey::Guess(address));
        self.licensing.guess_order.insert((row.since_led_ms, address));
        self.licensing.guesses.insert(address, row);
    }

    pub(crate) fn forget_guess(&mut self, address: AddressTag) {
        self.touch(RowKey::Guess(address));
        if let Some(before) = self.licensing.guesses.remove(&address) {
            self.licensing.guess_order.remove(&(before.since_led_ms, address));
        }
    }

    pub(crate) fn put_license_usage(&mut self, license: LicenseId, metric: &Name, used: Measure) {
        self.touch(RowKey::LicenseUsage(license, metric.clone()));
        self.licensing.usage.entry(license).or_default().insert(metric.clone(), used);
    }

    pub(crate) fn put_key_window(&mut self, window: KeyWindow) {
        self.touch(RowKey::KeyWindow(window.name.clone()));
        self.licensing.key_windows.insert(window.name.clone(), window);
    }
}

/// Indexes.
impl Licensing {
    fn index_license(&mut self, row: LicenseRow) {
        let id = row.terms.license;
        self.license_by_key.insert(row.key.mac, id);
        if row.terms.open && row.state != LicenseState::Cancelled {
            self.open.insert(id);
        }
        self.licenses.insert(id, row);
        self.index_ending(id);
    }

    fn unindex_license(&mut self, id: LicenseId) {
        if let Some(before) = self.licenses.remove(&id) {
            self.license_by_key.remove(&before.key.mac);
            self.open.remove(&id);
        }
    }

    fn index_activation(&mut self, row: ActivationRow) {
        let (id, license) = (row.activation, row.license);
        self.by_holder.insert((license, row.holder.clone()), id);
        self.holders.insert((row.holder.clone(), id));
        self.of_license.insert((license, id));
        if let Some(lease) = row.lease {
            self.by_lease.insert(lease, id);
        }
        if row.state == ActivationState::Active {
            self.in_force.insert((license, id));
            *self.active.entry(license).or_default() += 1;
        } else if row.lease.is_some() {
            *self.kept.entry(license).or_default() += 1;
        }
        self.activations.insert(id, row);
        self.index_ending(license);
    }

    fn unindex_activation(&mut self, id: ActivationId) {
        let Some(before) = self.activations.remove(&id) else { return };
        let license = before.license;
        self.holders.remove(&(before.holder.clone(), id));
        self.by_holder.remove(&(license, before.holder));
        self.of_license.remove(&(license, id));
        if let Some(lease) = before.lease {
            self.by_lease.remove(&lease);
        }
        if self.in_force.remove(&(license, id)) {
            take_one(&mut self.active, license);
        } else if before.lease.is_some() {
            take_one(&mut self.kept, license);
        }
        self.index_ending(license);
    }

    fn index_ending(&mut self, license: LicenseId) {
        if self.is_ending(license) {
            self.ending.insert(license);
        } else {
            self.ending.remove(&license);
        }
    }

    fn is_ending(&self, license: LicenseId) -> bool {
        let over =
            |row: &LicenseRow| matches!(row.state, LicenseState::Revoked | LicenseState::Cancelled);
        self.active(license) > 0 && self.licenses.get(&license).is_some_and(over)
    }

    /// Whether every index leads to exactly the rows there are.
    pub(crate) fn is_indexed(&self) -> bool {
        let activations = self.activations.len();
        let seats = self.activations.values().filter(|row| row.lease.is_some()).count();
        let mut active: BTreeMap<LicenseId, u32> = BTreeMap::new();
        let mut kept = active.clone();
        for row in self.activations.values() {
            if row.state == ActivationState::Active {
                *active.entry(row.license).or_default() += 1;
            } else if row.lease.is_some() {
                *kept.entry(row.license).or_default() += 1;
            }
        }
        let open = |row: &&LicenseRow| row.terms.open && row.state != LicenseState::Cancelled;
        self.license_by_key.len() == self.licenses.len()
            && self.open.len() == self.licenses.values().filter(open).count()
            && self.activations.values().all(|row| self.finds_activation(row))
            && [self.by_holder.len(), self.holders.len(), self.of_license.len()] == [activations; 3]
            && self.by_lease.len() == seats
            && (&self.active, &self.kept) == (&active, &kept)
            && self.in_force.len() as u64 == active.values().map(|one| u64::from(*one)).sum()
            && self.licenses.keys().all(|id| self.ending.contains(id) == self.is_ending(*id))
            && self.client_by_email.len() == self.clients.len()
            && self.product_by_slug.len() == self.products.len()
            && self.user_by_name.len() == self.users.len()
            && self.guess_order.len() == self.guesses.len()
    }

    fn finds_activation(&self, row: &ActivationRow) -> bool {
        let id = row.activation;
        self.by_holder.get(&(row.license, row.holder.clone())) == Some(&id)
            && self.holders.contains(&(row.holder.clone(), id))
            && self.of_license.contains(&(row.license, id))
            && row.lease.is_none_or(|lease| self.by_lease.get(&lease) == Some(&id))
            && self.in_force.contains(&(row.license, id)) == (row.state == ActivationState::Active)
    }
}

/// Takes one from a license's count; a count of none has no entry.
fn take_one(counts: &mut BTreeMap<LicenseId, u32>, license: LicenseId) {
    if let Some(count) = counts.get_mut(&license) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&license);
        }
    }
}

/// Rows.
impl Licensing {
    /// Present value of a row.
    pub(super) fn row_value(&self, key: &RowKey) -> Option<Vec<u8>> {
        match key {
            RowKey::License(id) => self.licenses.get(id).map(encode_value),
            RowKey::Activation(id) => self.activations.get(id).map(encode_value),
            RowKey::Client(id) => self.clients.get(id).map(encode_value),
            RowKey::Product(id) => self.products.get(id).map(encode_value),
            RowKey::User(id) => self.users.get(id).map(encode_value),
            RowKey::Trial(holder) => self.trials.get(holder).map(encode_value),
            RowKey::Identity(license, contact) => {
                self.identities.get(&(*license, *contact)).map(encode_value)
            }
            RowKey::Guess(address) => self.guesses.get(address).map(encode_value),
            RowKey::LicenseUsage(license, metric) => {
                self.usage.get(license)?.get(metric).map(encode_value)
            }
            RowKey::KeyWindow(name) => self.key_windows.get(name).map(encode_value),
            _ => None,
        }
    }

    /// Takes a stored row in.
    pub(super) fn load(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        match row.table {
            table::LICENSE => {
                let license: LicenseRow = row.read()?;
                row.check(&RowKey::License(license.terms.license))?;
                row.hold(!self.licenses.contains_key(&license.terms.license))?;
                self.index_license(license);
                Ok(())
            }
            table::ACTIVATION => {
                let activation: ActivationRow = row.read()?;
                row.check(&RowKey::Activation(activation.activation))?;
                row.hold(!self.activations.contains_key(&activation.activation))?;
                self.index_activation(activation);
                Ok(())
            }
            table::CLIENT => {
                let client: ClientRow = row.read()?;
                row.check(&RowKey::Client(client.client))?;
                self.client_by_email.insert(client.email, client.client);
                row.hold(self.clients.insert(client.client, client).is_none())
            }
            table::PRODUCT => {
                let product: ProductRow = row.read()?;
                row.check(&RowKey::Product(product.product))?;
                self.product_by_slug.insert(product.slug.clone(), product.product);
                row.hold(self.products.insert(product.product, product).is_none())
            }
            table::USER => {
                let user: UserRow = row.read()?;
                row.check(&RowKey::User(user.user))?;
                self.user_by_name.insert(user.username.clone(), user.user);
                row.hold(self.users.insert(user.user, user).is_none())
            }
            table::TRIAL => {
                let trial: TrialRow = row.read()?;
                row.check(&RowKey::Trial(trial.holder.clone()))?;
                row.hold(self.trials.insert(trial.holder.clone(), trial).is_none())
            }
            table::IDENTITY => {
                let identity: IdentityRow = row.read()?;
                let at = (identity.license, identity.contact);
                row.check(&RowKey::Identity(at.0, at.1))?;
                row.hold(self.identities.insert(at, identity).is_none())
            }
            _ => self.load_counted(row),
        }
    }

    fn load_counted(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        match row.table {
            table::GUESS => {
                let guess: GuessRow = row.read()?;
                let number = <[u8; 8]>::try_from(row.key).map_err(|_| row.wrong_key())?;
                let address = AddressTag(u64::from_be_bytes(number));
                self.guess_order.insert((guess.since_led_ms, address));
                row.hold(self.guesses.insert(address, guess).is_none())
            }
            table::LICENSE_USAGE => {
                let (license, metric) = row.key.split_first_chunk::<16>().ok_or(row.wrong_key())?;
                let license = LicenseId(u128::from_be_bytes(*license));
                let metric = std::str::from_utf8(metric).map_err(|_| row.wrong_key())?;
                let counts = self.usage.entry(license).or_default();
                row.hold(counts.insert(metric.into(), row.read()?).is_none())
            }
            table::KEY_WINDOW => {
                let window: KeyWindow = row.read()?;
                row.check(&RowKey::KeyWindow(window.name.clone()))?;
                row.hold(self.key_windows.insert(window.name.clone(), window).is_none())
            }
            unknown => Err(LoadError::UnknownTable(unknown)),
        }
    }
}
