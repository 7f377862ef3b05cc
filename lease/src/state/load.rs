//! Rows back into tables.
//!
//! Rows come table by table in ascending order. A row whose key is not the one its value says is
//! damage. Packages are put together from their row, the pieces of their document and their pools
//! when the first row of a later table comes; indexes and counts are made on the way.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::format::{self, Kind};
use crate::ids::{LeaseId, Name};
use crate::rows::{
    App, Document, LeaseRow, LoadError, LoggedRefusal, PackageRow, PoolRow, ROW_VERSION,
    RefusalRow, RowKey, lease_key, split_pair, table,
};
use crate::sum::RowSum;

use super::{Lease, Package, State};

/// What is half read.
#[derive(Debug, Default)]
pub(crate) struct Loading {
    table: u8,
    meta: bool,
    packages: BTreeMap<Name, PackageRow>,
    documents: BTreeMap<Name, Vec<Vec<u8>>>,
    /// Ends of leases by slot of their package: ordered sets are built from them at once, which is
    /// several times faster than lease by lease.
    expiry: Vec<Vec<(u64, LeaseId)>>,
}

impl State {
    /// Takes one row in; any table but those of blocks.
    pub(crate) fn load(
        &mut self,
        loading: &mut Loading,
        table: u8,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), LoadError> {
        if table < loading.table {
            return Err(LoadError::Order { table, before: loading.table });
        }
        loading.table = table;
        if table > table::DOCUMENT {
            self.assemble_packages(loading)?;
        }
        let row = RowBytes { table, key, value };
        match table {
            table::META => {
                self.meta = row.read()?;
                loading.meta = true;
                row.check(&RowKey::Meta)
            }
            table::PACKAGE => {
                let package: PackageRow = row.read()?;
                let name = package.package.clone();
                row.check(&RowKey::Package(name.clone()))?;
                row.hold(loading.packages.insert(name, package).is_none())
            }
            table::DOCUMENT => {
                let (name, _) = split_pair(key).ok_or(row.wrong_key())?;
                let name = Name::from(name);
                let pieces = loading.documents.entry(name.clone()).or_default();
                let piece = u16::try_from(pieces.len()).map_err(|_| row.wrong_key())?;
                row.check(&RowKey::Document(name, piece))?;
                pieces.push(row.read()?);
                Ok(())
            }
            table::POOL | table::USAGE | table::FEATURE_USAGE => self.load_of_package(&row),
            table::LEASE => self.load_lease(loading, &row),
            _ => self.load_small(&row),
        }
    }

    /// Ends loading: every package has what belongs to it, and the sum is made.
    pub(crate) fn finish_load(&mut self, mut loading: Loading) -> Result<(), LoadError> {
        self.assemble_packages(&mut loading)?;
        if !loading.meta && loading.table != 0 {
            return Err(LoadError::Missing("the row of clocks and identity is missing".into()));
        }
        for (package, expiry) in self.packages.iter_mut().zip(loading.expiry) {
            package.expiry = expiry.into_iter().collect();
        }
        if !self.leases.index_loaded() {
            return Err(LoadError::Key { table: table::LEASE });
        }
        if !self.index_loaded_holds() {
            return Err(LoadError::Missing("a held lease is missing".into()));
        }
        if !self.index_loaded_reserved() {
            return Err(LoadError::Missing("a package of which seats are kept is missing".into()));
        }
        for slot in 0..self.packages.len() {
            self.reindex(slot as u32);
        }
        Ok(())
    }

    /// Adds a loaded row to the sum.
    pub(crate) fn add_to_sum(&mut self, row: &RowSum) {
        self.sum.add_sum(row);
    }

    fn assemble_packages(&mut self, loading: &mut Loading) -> Result<(), LoadError> {
        for (name, row) in std::mem::take(&mut loading.packages) {
            let pieces = loading.documents.remove(&name).unwrap_or_default();
            if pieces.len() != usize::from(row.pieces) {
                return Err(LoadError::Missing(format!("document of package {name} is cut")));
            }
            let document: Document = format::decode_body(&pieces.concat())
                .map_err(|source| LoadError::Row { table: table::DOCUMENT, source })?;
            if document.terms.package != name {
                return Err(LoadError::Key { table: table::DOCUMENT });
            }
            self.index_package(Package::new(row, document));
        }
        match loading.documents.keys().next() {
            Some(name) => Err(LoadError::Missing(format!("package {name} is missing"))),
            None => Ok(()),
        }
    }

    fn load_of_package(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        let (name, rest) = match row.table {
            table::USAGE => (std::str::from_utf8(row.key).map_err(|_| row.wrong_key())?, None),
            _ => {
                let (name, rest) = split_pair(row.key).ok_or(row.wrong_key())?;
                (name, Some(std::str::from_utf8(rest).map_err(|_| row.wrong_key())?))
            }
        };
        let missing = || LoadError::Missing(format!("package {name} is missing"));
        let slot = self.slot(name).ok_or_else(missing)?;
        let package = &mut self.packages[slot as usize];
        match (row.table, rest) {
            (table::POOL, Some(pool)) => {
                let PoolRow { share } = row.read()?;
                package.pools.entry(pool.into()).or_default().share = share;
            }
            (table::FEATURE_USAGE, Some(feature)) => {
                package.feature_usage.insert(feature.into(), row.read()?);
            }
            _ => package.usage = row.read()?,
        }
        Ok(())
    }

    fn load_lease(&mut self, loading: &mut Loading, row: &RowBytes<'_>) -> Result<(), LoadError> {
        let lease: LeaseRow<'_> = row.read()?;
        row.hold(lease_key(lease.lease) == row.key)?;
        let missing = || LoadError::Missing(format!("package {} is missing", lease.package));
        let slot = self.slot(&lease.package).ok_or_else(missing)?;
        let lease = Lease::new(lease, slot);
        self.packages[slot as usize].count_seats(&lease);
        loading.expiry.resize_with(self.packages.len(), Vec::new);
        loading.expiry[slot as usize].push((lease.expires_led_ms(), lease.id()));
        self.leases.load(lease);
        Ok(())
    }

    fn load_small(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        match row.table {
            table::MEMBER => {
                let member: crate::command::Member = row.read()?;
                row.check(&RowKey::Member(member.node))?;
                row.hold(self.members.insert(member.node, member).is_none())
            }
            table::SIGNING_KEY => {
                let signing: crate::command::SigningKey = row.read()?;
                row.check(&RowKey::SigningKey(signing.kid.clone()))?;
                row.hold(self.signing_keys.insert(signing.kid.clone(), signing).is_none())
            }
            table::SECRET => {
                let secret: crate::command::SealedSecret = row.read()?;
                row.check(&RowKey::Secret(secret.name.clone()))?;
                row.hold(self.secrets.insert(secret.name.clone(), secret).is_none())
            }
            table::WRAPPED_KEY => {
                let wrapped: crate::command::WrappedDataKey = row.read()?;
                row.check(&RowKey::WrappedKey(wrapped.node, wrapped.version))?;
                let at = (wrapped.node, wrapped.version);
                row.hold(self.wrapped_keys.insert(at, wrapped).is_none())
            }
            table::OPERATOR => {
                let operator: crate::command::Operator = row.read()?;
                row.check(&RowKey::Operator(operator.operator))?;
                self.operator_by_mac.insert(operator.token_mac, operator.operator);
                row.hold(self.operators.insert(operator.operator, operator).is_none())
            }
            table::VENDOR => {
                let vendor: crate::command::Vendor = row.read()?;
                row.check(&RowKey::Vendor(vendor.vendor.clone()))?;
                row.hold(self.vendors.insert(vendor.vendor.clone(), vendor).is_none())
            }
            table::APP => {
                let app: App = row.read()?;
                row.check(&RowKey::App(app.app))?;
                self.app_by_client.insert(app.client_id.clone(), app.app);
                row.hold(self.apps.insert(app.app, app).is_none())
            }
            _ => self.load_observed(row),
        }
    }

    fn load_observed(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        match row.table {
            table::SUBJECT => {
                let subject: crate::rows::SubjectRow = row.read()?;
                let number = <[u8; 8]>::try_from(row.key).map_err(|_| row.wrong_key())?;
                let reference = crate::ids::SubjectRef(u64::from_be_bytes(number));
                self.subject_by_name.insert((subject.kind, subject.name.clone()), reference);
                row.hold(self.subjects.insert(reference, subject).is_none())
            }
            table::REFUSAL => {
                let refusal: RefusalRow = row.read()?;
                let (package, _) = split_pair(row.key).ok_or(row.wrong_key())?;
                let at = (Name::from(package), refusal.code);
                row.check(&RowKey::Refusal(at.0.clone(), at.1))?;
                row.hold(self.refusals.insert(at, refusal.count).is_none())
            }
            table::REFUSAL_LOGGED => {
                let logged: LoggedRefusal = row.read()?;
                row.check(&RowKey::RefusalLogged(logged.clone()))?;
                row.hold(self.refusals_logged.insert(logged))
            }
            table::HOLD
            | table::OFFLINE_TERMS
            | table::BORROW_RULES
            | table::API_KEY
            | table::BUDGET => self.offline.load(row),
            table::LICENSE..=table::LICENSE_USAGE | table::KEY_WINDOW => self.licensing.load(row),
            table::TICKET..=table::FORMER_EPOCH => self.operate.load(row),
            unknown => Err(LoadError::UnknownTable(unknown)),
        }
    }
}

/// A row as it comes.
pub(super) struct RowBytes<'a> {
    pub(super) table: u8,
    pub(super) key: &'a [u8],
    value: &'a [u8],
}

impl RowBytes<'_> {
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, LoadError> {
        format::decode(Kind::Row, ROW_VERSION, self.value)
            .map_err(|source| LoadError::Row { table: self.table, source })
    }

    pub(super) fn check(&self, key: &RowKey) -> Result<(), LoadError> {
        self.hold(key.bytes() == self.key)
    }

    /// Refuses the row unless it stands under its own key, once.
    pub(super) fn hold(&self, right: bool) -> Result<(), LoadError> {
        if right { Ok(()) } else { Err(self.wrong_key()) }
    }

    pub(super) fn wrong_key(&self) -> LoadError {
        LoadError::Key { table: self.table }
    }
}
