//! The ledger's tables in memory, their indexes, and the marks of what changed.
//!
//! Every change of something stored goes through a method here, which marks the row before it
//! changes it: so no caller can forget to. What is derived (indexes, seats in use, due times) is
//! kept beside and rebuilt when rows are loaded. What may be changed when is decided in `apply`.

mod dirty;
mod lease;
mod lease_marks;
mod licensing;
mod load;
mod offline;
mod operate;
mod package;
mod store;
mod taking;

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Member, Operator, SealedSecret, SigningKey, Vendor, WrappedDataKey};
use crate::format;
use crate::ids::{AppId, LeaseId, Name, NodeId, OperatorId, SubjectRef};
use crate::limits::DOCUMENT_PIECE_BYTES;
use crate::outcome::RefusalCode;
use crate::rows::{
    App, Document, LoggedRefusal, Meta, PackageRow, PackageState, RowKey, SubjectKind, SubjectRow,
    Usage,
};
use crate::sum::RowSum;

use dirty::Marks;
use lease::LeaseTable;
use lease_marks::LeaseMarks;
use licensing::Licensing;
use offline::Offline;
use operate::Operate;
use taking::Taking;

pub(crate) use lease::Lease;
pub(crate) use load::Loading;
pub(crate) use package::Package;

/// All tables.
#[derive(Debug, Default)]
pub(crate) struct State {
    meta: Meta,
    members: BTreeMap<NodeId, Member>,
    signing_keys: BTreeMap<Name, SigningKey>,
    secrets: BTreeMap<Name, SealedSecret>,
    wrapped_keys: BTreeMap<(NodeId, u32), WrappedDataKey>,
    operators: BTreeMap<OperatorId, Operator>,
    operator_by_mac: BTreeMap<[u8; 32], OperatorId>,
    vendors: BTreeMap<Name, Vendor>,
    apps: BTreeMap<AppId, App>,
    app_by_client: BTreeMap<Name, AppId>,
    /// Packages are never removed, so a slot is good for the life of the process. Slots differ
    /// between replicas: nothing is done in their order.
    packages: Vec<Package>,
    package_by_name: BTreeMap<Name, u32>,
    products: BTreeMap<Name, BTreeSet<Name>>,
    leases: LeaseTable,
    /// Packages with live leases by the first end on the lease clock.
    led_due: BTreeSet<(u64, Name)>,
    /// Packages with live leases by their next civil change.
    civil_due: BTreeSet<(i64, Name)>,
    subjects: BTreeMap<SubjectRef, SubjectRow>,
    subject_by_name: BTreeMap<(SubjectKind, Name), SubjectRef>,
    refusals: BTreeMap<(Name, RefusalCode), u64>,
    refusals_logged: BTreeSet<LoggedRefusal>,
    licensing: Licensing,
    offline: Offline,
    operate: Operate,
    marks: Marks<RowKey>,
    lease_marks: LeaseMarks,
    taking: Taking,
    sum: RowSum,
}

/// Reading.
impl State {
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    pub(crate) fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    pub(crate) fn signing_keys(&self) -> &BTreeMap<Name, SigningKey> {
        &self.signing_keys
    }

    pub(crate) fn secrets(&self) -> &BTreeMap<Name, SealedSecret> {
        &self.secrets
    }

    pub(crate) fn wrapped_keys(&self) -> &BTreeMap<(NodeId, u32), WrappedDataKey> {
        &self.wrapped_keys
    }

    pub(crate) fn operators(&self) -> &BTreeMap<OperatorId, Operator> {
        &self.operators
    }

    pub(crate) fn operator_by_mac(&self, mac: &[u8; 32]) -> Option<&Operator> {
        self.operators.get(self.operator_by_mac.get(mac)?)
    }

    pub(crate) fn vendors(&self) -> &BTreeMap<Name, Vendor> {
        &self.vendors
    }

    pub(crate) fn apps(&self) -> &BTreeMap<AppId, App> {
        &self.apps
    }

    pub(crate) fn app_by_client(&self, client_id: &str) -> Option<&App> {
        self.apps.get(self.app_by_client.get(client_id)?)
    }

    pub(crate) fn slot(&self, package: &str) -> Option<u32> {
        self.package_by_name.get(package).copied()
    }

    /// The package in a slot that [`Self::slot`] or a lease gave.
    pub(crate) fn at(&self, slot: u32) -> &Package {
        &self.packages[slot as usize]
    }

    pub(crate) fn package_count(&self) -> usize {
        self.packages.len()
    }

    /// All packages in order of name.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.package_by_name.values().map(|slot| self.at(*slot))
    }

    /// Names of a product's packages, in order.
    pub(crate) fn product(&self, product: &str) -> Option<&BTreeSet<Name>> {
        self.products.get(product)
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    pub(crate) fn lease_by_scope(&self, scope: &[u8; 16]) -> Option<&Lease> {
        self.leases.by_scope(scope)
    }

    pub(crate) fn leases_after(&self, after: Option<LeaseId>) -> impl Iterator<Item = &Lease> {
        self.leases.after(after)
    }

    pub(crate) fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// The first end on the lease clock and its package.
    pub(crate) fn first_led_due(&self) -> Option<(u64, &Name)> {
        self.led_due.first().map(|(at, name)| (*at, name))
    }

    /// The first civil change of a package with live leases.
    pub(crate) fn first_civil_due(&self) -> Option<i64> {
        self.civil_due.first().map(|(at, _)| *at)
    }

    /// Packages whose civil change has come, in order of name.
    pub(crate) fn civil_due_by(&self, civil_ms: i64) -> BTreeSet<Name> {
        let due = self.civil_due.iter().take_while(|(at, _)| *at <= civil_ms);
        due.map(|(_, name)| name.clone()).collect()
    }

    /// The first lease whose own last civil millisecond comes.
    pub(crate) fn first_not_after(&self) -> Option<(i64, LeaseId)> {
        self.leases.first_not_after()
    }

    pub(crate) fn subjects(&self) -> &BTreeMap<SubjectRef, SubjectRow> {
        &self.subjects
    }

    pub(crate) fn subject_by_name(&self, kind: SubjectKind, name: &Name) -> Option<SubjectRef> {
        self.subject_by_name.get(&(kind, name.clone())).copied()
    }

    pub(crate) fn refusals(&self) -> &BTreeMap<(Name, RefusalCode), u64> {
        &self.refusals
    }

    pub(crate) fn refusals_logged(&self) -> &BTreeSet<LoggedRefusal> {
        &self.refusals_logged
    }
}

/// Changing.
impl State {
    pub(crate) fn meta_mut(&mut self) -> &mut Meta {
        self.touch(RowKey::Meta);
        &mut self.meta
    }

    pub(crate) fn put_member(&mut self, member: Member) {
        self.touch(RowKey::Member(member.node));
        self.members.insert(member.node, member);
    }

    pub(crate) fn put_signing_key(&mut self, key: SigningKey) {
        self.touch(RowKey::SigningKey(key.kid.clone()));
        self.signing_keys.insert(key.kid.clone(), key);
    }

    pub(crate) fn put_secret(&mut self, secret: SealedSecret) {
        self.touch(RowKey::Secret(secret.name.clone()));
        self.secrets.insert(secret.name.clone(), secret);
    }

    pub(crate) fn put_wrapped_key(&mut self, key: WrappedDataKey) {
        self.touch(RowKey::WrappedKey(key.node, key.version));
        self.wrapped_keys.insert((key.node, key.version), key);
    }

    pub(crate) fn put_operator(&mut self, operator: Operator) {
        self.touch(RowKey::Operator(operator.operator));
        self.operator_by_mac.insert(operator.token_mac, operator.operator);
        self.operators.insert(operator.operator, operator);
    }

    pub(crate) fn put_vendor(&mut self, vendor: Vendor) {
        self.touch(RowKey::Vendor(vendor.vendor.clone()));
        self.vendors.insert(vendor.vendor.clone(), vendor);
    }

    pub(crate) fn put_app(&mut self, app: App) {
        self.touch(RowKey::App(app.app));
        self.app_by_client.insert(app.client_id.clone(), app.app);
        self.apps.insert(app.app, app);
    }

    pub(crate) fn remove_app(&mut self, app: AppId) {
        self.touch(RowKey::App(app));
        if let Some(app) = self.apps.remove(&app) {
            self.app_by_client.remove(&app.client_id);
        }
    }

    /// Adds a package; its id must be new.
    pub(crate) fn add_package(&mut self, mut row: PackageRow, document: Document) {
        let name = document.terms.package.clone();
        let bytes = format::encode_body(&document).len();
        row.pieces = u16::try_from(bytes.div_ceil(DOCUMENT_PIECE_BYTES)).unwrap_or(u16::MAX);
        self.touch(RowKey::Package(name.clone()));
        self.touch(RowKey::Usage(name.clone()));
        for piece in 0..row.pieces {
            self.touch(RowKey::Document(name.clone(), piece));
        }
        self.index_package(Package::new(row, document));
    }

    pub(crate) fn set_package_state(&mut self, slot: u32, state: PackageState) {
        self.touch(RowKey::Package(self.name(slot)));
        self.packages[slot as usize].state = state;
        self.reindex(slot);
    }

    pub(crate) fn usage_mut(&mut self, slot: u32) -> &mut Usage {
        self.touch(RowKey::Usage(self.name(slot)));
        &mut self.packages[slot as usize].usage
    }

    pub(crate) fn count_feature(&mut self, slot: u32, feature: &Name) {
        self.touch(RowKey::FeatureUsage(self.name(slot), feature.clone()));
        let counts = &mut self.packages[slot as usize].feature_usage;
        let count = counts.entry(feature.clone()).or_default();
        *count = count.saturating_add(1);
    }

    /// Sets a named pool's share; a pool without a share is gone.
    pub(crate) fn set_pool_share(&mut self, slot: u32, pool: &Name, share: u32) {
        self.touch(RowKey::Pool(self.name(slot), pool.clone()));
        let pools = &mut self.packages[slot as usize].pools;
        if share == 0 {
            let gone = pools.remove(pool);
            assert!(gone.is_none_or(|pool| pool.in_use == 0), "a pool in use keeps its share");
        } else {
            pools.entry(pool.clone()).or_default().share = share;
        }
    }

    pub(crate) fn insert_lease(&mut self, lease: Lease) {
        let package = lease.package;
        self.packages[package as usize].take_seats(&lease);
        let slot = self.leases.insert(lease);
        if let Some(lease) = self.leases.in_slot_mut(slot) {
            self.lease_marks.come(slot, lease);
        }
        self.reindex(package);
    }

    pub(crate) fn remove_lease(&mut self, id: LeaseId) -> Option<Lease> {
        self.remove_hold(id);
        self.touch_lease(id);
        let lease = self.leases.remove(id)?;
        self.lease_marks.go(&lease);
        self.packages[lease.package as usize].free_seats(&lease);
        self.reindex(lease.package);
        Some(lease)
    }

    /// Moves a lease's end, never towards the present, and sets its sequence.
    pub(crate) fn renew_lease(&mut self, id: LeaseId, led_ms: u64, expires: u64, sequence: u32) {
        self.change_end(id, |lease| {
            lease.expires_led_ms = lease.expires_led_ms.max(expires);
            lease.renewed_led_ms = led_ms;
            lease.sequence = sequence;
        });
    }

    /// Sets a lease's end on the lease clock, be it sooner or later than before.
    pub(crate) fn end_lease_at(&mut self, id: LeaseId, expires: u64) {
        self.change_end(id, |lease| lease.expires_led_ms = expires);
    }

    fn change_end(&mut self, id: LeaseId, change: impl FnOnce(&mut Lease)) {
        self.touch_lease(id);
        let Some(lease) = self.leases.get_mut(id) else { return };
        let before = lease.expires_led_ms;
        change(lease);
        let (after, slot) = (lease.expires_led_ms, lease.package);
        if lease.is_held() {
            self.move_held(id, before, after);
        } else {
            let expiry = &mut self.packages[slot as usize].expiry;
            expiry.remove(&(before, id));
            expiry.insert((after, id));
        }
        self.reindex(slot);
    }

    pub(crate) fn set_replay_minute(&mut self, id: LeaseId, minute: u32) {
        self.touch_lease(id);
        if let Some(lease) = self.leases.get_mut(id) {
            lease.replay_minute = minute;
        }
    }

    /// Brings a package's place in the order of civil changes up to date.
    pub(crate) fn reindex_package(&mut self, name: &str) {
        if let Some(slot) = self.slot(name) {
            self.reindex(slot);
        }
    }

    pub(crate) fn put_subject(&mut self, reference: SubjectRef, row: SubjectRow) {
        self.touch(RowKey::Subject(reference));
        self.subject_by_name.insert((row.kind, row.name.clone()), reference);
        self.subjects.insert(reference, row);
    }

    pub(crate) fn count_refusal(&mut self, package: &Name, code: RefusalCode) {
        self.touch(RowKey::Refusal(package.clone(), code));
        let count = self.refusals.entry((package.clone(), code)).or_default();
        *count = count.saturating_add(1);
    }

    /// Notes that a refusal was logged in the present minute; whether it is the first.
    pub(crate) fn note_logged_refusal(&mut self, logged: LoggedRefusal) -> bool {
        if self.refusals_logged.contains(&logged) {
            return false;
        }
        self.touch(RowKey::RefusalLogged(logged.clone()));
        self.refusals_logged.insert(logged)
    }

    pub(crate) fn forget_logged_refusals(&mut self) {
        while let Some(logged) = self.refusals_logged.first().cloned() {
            self.touch(RowKey::RefusalLogged(logged.clone()));
            self.refusals_logged.remove(&logged);
        }
    }
}

/// Indexes.
impl State {
    fn name(&self, slot: u32) -> Name {
        self.at(slot).terms.package.clone()
    }

    fn named(&self, name: &str) -> Option<&Package> {
        self.slot(name).map(|slot| self.at(slot))
    }

    fn index_package(&mut self, package: Package) {
        let name = package.terms.package.clone();
        let products = self.products.entry(package.terms.product.clone()).or_default();
        products.insert(name.clone());
        let slot = u32::try_from(self.packages.len()).unwrap_or(u32::MAX);
        self.package_by_name.insert(name, slot);
        self.packages.push(package);
    }

    fn reindex(&mut self, slot: u32) {
        let civil_ms = self.meta.clock.civil_ms;
        let package = &mut self.packages[slot as usize];
        let led_due = package.first_led_end();
        if led_due != package.led_due {
            let name = &package.terms.package;
            if let Some(at) = package.led_due {
                self.led_due.remove(&(at, name.clone()));
            }
            if let Some(at) = led_due {
                self.led_due.insert((at, name.clone()));
            }
            package.led_due = led_due;
        }
        let civil_due = package.next_civil_due(civil_ms);
        if civil_due != package.civil_due {
            let name = &package.terms.package;
            if let Some(at) = package.civil_due {
                self.civil_due.remove(&(at, name.clone()));
            }
            if let Some(at) = civil_due {
                self.civil_due.insert((at, name.clone()));
            }
            package.civil_due = civil_due;
        }
    }
}

/// What invariants look at.
impl State {
    pub(crate) fn leases_are_indexed(&self) -> bool {
        let listed: usize = self.packages.iter().map(Package::live).sum();
        let in_package = self.leases.after(None).all(|lease| {
            let expiry = &self.at(lease.package).expiry;
            lease.is_held() || expiry.contains(&(lease.expires_led_ms, lease.id))
        });
        let indexed = self.leases.is_indexed() && self.holds_are_indexed();
        listed == self.leases.len() && in_package && indexed
    }

    pub(crate) fn due_orders_are_right(&self) -> bool {
        let right = |package: &Package| {
            let name = &package.terms.package;
            let led_due = package.first_led_end();
            let civil_due = package.civil_due;
            led_due == package.led_due
                && civil_due.is_some() == (package.live() > 0)
                && led_due.is_none_or(|at| self.led_due.contains(&(at, name.clone())))
                && civil_due.is_none_or(|at| self.civil_due.contains(&(at, name.clone())))
        };
        let having = |what: fn(&Package) -> bool| {
            self.packages.iter().filter(|package| what(package)).count()
        };
        self.packages.iter().all(right)
            && self.led_due.len() == having(|package| package.first_led_end().is_some())
            && self.civil_due.len() == having(|package| package.live() > 0)
    }

    pub(crate) fn names_are_indexed(&self) -> bool {
        self.subject_by_name.len() == self.subjects.len()
            && self.operator_by_mac.len() == self.operators.len()
            && self.app_by_client.len() == self.apps.len()
            && self.package_by_name.len() == self.packages.len()
            && self.licensing.is_indexed()
            && self.api_keys_are_indexed()
    }
}
