//! Reading the ledger. Nothing here changes it; what is due but not swept yet is shown as ended.

mod licensing;
mod offline;
mod operate;
mod people;

use crate::audit::AuditEvent;
use crate::command::{
    Member, Operator, PackageTerms, SealedSecret, SeatClass, SigningKey, Vendor, WrappedDataKey,
};
use crate::format::FormatError;
use crate::ids::{AppId, Fence, LeaseId, Name, NodeId, OperatorId, RequestId, SubjectRef};
use crate::ledger::Ledger;
use crate::money::Money;
use crate::operate::ReservedRow;
use crate::outcome::RefusalCode;
use crate::rows::{App, PackageState, SubjectKind, Usage};
use crate::state::{Lease, Package};

pub use operate::PepperHolder;
pub use people::Bond;

/// A package as of the ledger's civil clock.
#[derive(Debug, Clone, Copy)]
pub struct PackageView<'a> {
    /// What it entitles to.
    pub terms: &'a PackageTerms,
    /// RFC 8785 bytes that the signature covers.
    pub canonical: &'a [u8],
    /// The signature as the vendor wrote it.
    pub signature: &'a str,
    /// Fingerprint of the key that verified it.
    pub verified_by: &'a [u8; 32],
    /// What an operator decided.
    pub state: PackageState,
    /// Whether its validity is over.
    pub expired: bool,
    /// Whether its validity has not begun.
    pub not_yet_valid: bool,
    /// When it was imported, by the civil clock.
    pub imported_at_ms: i64,
    /// What was done with it so far.
    pub counters: &'a Usage,
    /// Seats kept for borrows that a restored state does not know, while they are kept.
    pub reserved: Option<&'a ReservedRow>,
    package: &'a Package,
    civil_ms: i64,
}

/// Seats of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seats {
    /// Commit seats out.
    pub commit_in_use: u32,
    /// Overage seats out.
    pub overage_in_use: u32,
    /// Commit seats that are there and free.
    pub commit_free: u32,
    /// Overage seats that are there and free.
    pub overage_free: u32,
    /// Free over both classes.
    pub total_free: u32,
    /// Kept for borrows that a restored state does not know: neither out nor free.
    pub reserved: u32,
    /// Unassigned seats first, then named pools in order of name.
    pub pools: Vec<PoolSeats>,
}

/// Seats of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSeats {
    /// Its name; `None`: the unassigned seats.
    pub pool: Option<Name>,
    /// Its share.
    pub share: u32,
    /// Seats out.
    pub in_use: u32,
}

impl<'a> PackageView<'a> {
    /// Its seats.
    pub fn seats(&self) -> Seats {
        let unassigned = self.package.pool(None).map(|pool| (None, pool));
        let named = self.package.pools().iter().map(|(name, pool)| (Some(name.clone()), *pool));
        let pools = unassigned.into_iter().chain(named);
        Seats {
            commit_in_use: self.package.in_use(SeatClass::Commit),
            overage_in_use: self.package.in_use(SeatClass::Overage),
            commit_free: self.package.free(SeatClass::Commit, self.civil_ms),
            overage_free: self.package.free(SeatClass::Overage, self.civil_ms),
            total_free: self.package.total_free(self.civil_ms),
            reserved: self.package.reserved(self.civil_ms),
            pools: pools
                .map(|(name, pool)| PoolSeats {
                    pool: name,
                    share: pool.share,
                    in_use: pool.in_use,
                })
                .collect(),
        }
    }

    /// Live leases.
    pub fn live_leases(&self) -> usize {
        self.package.live()
    }

    /// Uses of features as applications reported them, in order of name.
    pub fn feature_usage(&self) -> impl Iterator<Item = (&'a Name, u64)> + use<'a> {
        self.package.feature_usage().iter().map(|(name, count)| (name, *count))
    }
}

/// A live lease as of the ledger's clocks.
#[derive(Debug, Clone, Copy)]
pub struct LeaseView<'a> {
    /// Its id.
    pub lease: LeaseId,
    /// The application that took it.
    pub app: AppId,
    /// Its package.
    pub package: &'a Name,
    /// Its product.
    pub product: &'a Name,
    /// Its pool; `None`: the unassigned seats.
    pub pool: Option<&'a Name>,
    /// Commit or overage.
    pub class: SeatClass,
    /// Seats.
    pub quantity: u32,
    /// Features it was taken with.
    pub features: &'a [Name],
    /// The lease it is part of.
    pub parent: Option<LeaseId>,
    /// Its place in the order of grants.
    pub fence: Fence,
    /// Charged, overage only.
    pub cost: Option<Money>,
    /// When it was granted, by the civil clock.
    pub granted_at_ms: i64,
    /// Milliseconds until it expires: by the lease clock, or by the civil clock where it or its
    /// package ends first.
    pub expires_in_ms: u64,
    /// The same on the civil clock, for display.
    pub expires_at_ms: i64,
    /// When it expires on the lease clock.
    pub expires_led_ms: u64,
    /// Its own last civil millisecond.
    pub not_after_ms: Option<i64>,
    /// How often to renew.
    pub heartbeat_interval_ms: u32,
    /// Sequence of the renewal token in force.
    pub sequence: u32,
    /// Who uses it; zero: nobody named.
    pub user: SubjectRef,
    /// On which host; zero: none named.
    pub host: SubjectRef,
    /// Version of the product that asked; may be empty.
    pub version: &'a str,
    /// The application's own session id; may be empty.
    pub session: &'a str,
}

/// Packages and leases.
impl Ledger {
    /// A package by its id.
    pub fn package(&self, package: &str) -> Option<PackageView<'_>> {
        let slot = self.state.slot(package)?;
        Some(self.view_package(self.state.at(slot)))
    }

    /// All packages in order of id.
    pub fn packages(&self) -> impl Iterator<Item = PackageView<'_>> {
        self.state.packages().map(|package| self.view_package(package))
    }

    /// A product's packages in order of id.
    pub fn packages_of_product(&self, product: &str) -> impl Iterator<Item = PackageView<'_>> {
        let names = self.state.product(product).into_iter().flatten();
        names.filter_map(|name| self.package(name))
    }

    /// Counters of a package.
    pub fn usage(&self, package: &str) -> Option<&Usage> {
        self.state.slot(package).map(|slot| self.state.at(slot).usage())
    }

    /// A live lease.
    pub fn lease(&self, lease: &LeaseId) -> Option<LeaseView<'_>> {
        self.state.lease(*lease).filter(|lease| !self.is_due(lease)).map(|it| self.view_lease(it))
    }

    /// Live leases in order of id, all or those after a cursor.
    pub fn leases(&self, after: Option<LeaseId>) -> impl Iterator<Item = LeaseView<'_>> {
        let live = self.state.leases_after(after).filter(|lease| !self.is_due(lease));
        live.map(|lease| self.view_lease(lease))
    }

    /// Live leases of a package in order of their end.
    pub fn leases_of_package(&self, package: &str) -> impl Iterator<Item = LeaseView<'_>> {
        let slot = self.state.slot(package);
        let ids = slot.into_iter().flat_map(|slot| self.state.at(slot).leases());
        ids.filter_map(|id| self.lease(&id))
    }

    /// Leases that hold a seat, those included that are due and not swept yet.
    pub fn live_leases(&self) -> usize {
        self.state.lease_count()
    }

    /// Whether a request with this scope was decided and is remembered.
    pub fn is_remembered(&self, request: &RequestId) -> bool {
        self.requests.find(&request.scope).is_some()
    }

    /// Number of names of people and hosts that are kept.
    pub fn subject_rows(&self) -> usize {
        self.state.subjects().len()
    }

    /// Records in the request table.
    pub fn request_rows(&self) -> usize {
        self.requests.len()
    }

    fn view_package<'a>(&'a self, package: &'a Package) -> PackageView<'a> {
        let civil_ms = self.clock().civil_ms;
        PackageView {
            terms: package.terms(),
            canonical: package.canonical(),
            signature: package.signature(),
            verified_by: package.verified_by(),
            state: package.state(),
            expired: package.is_expired(civil_ms),
            not_yet_valid: civil_ms < package.terms().valid_from_ms,
            imported_at_ms: package.imported_at_ms(),
            counters: package.usage(),
            reserved: self.reserved(&package.terms().package),
            package,
            civil_ms,
        }
    }

    fn view_lease<'a>(&'a self, lease: &'a Lease) -> LeaseView<'a> {
        let package = self.state.at(lease.package());
        let terms = package.terms();
        let (expires_in_ms, expires_at_ms) = self.remaining(lease);
        LeaseView {
            lease: lease.id(),
            app: lease.app(),
            package: &terms.package,
            product: &terms.product,
            pool: lease.pool(),
            class: lease.class(),
            quantity: lease.quantity(),
            features: lease.features(),
            parent: lease.parent(),
            fence: lease.fence(),
            cost: package.cost(lease.class(), lease.quantity()),
            granted_at_ms: lease.granted_at_ms(),
            expires_in_ms,
            expires_at_ms,
            expires_led_ms: lease.expires_led_ms(),
            not_after_ms: lease.not_after_ms(),
            heartbeat_interval_ms: terms.policy.heartbeat_interval_ms,
            sequence: lease.sequence(),
            user: lease.user(),
            host: lease.host(),
            version: lease.version(),
            session: lease.session(),
        }
    }
}

/// Identities, keys, nodes, what was observed.
impl Ledger {
    /// An application.
    pub fn app(&self, app: AppId) -> Option<&App> {
        self.state.apps().get(&app)
    }

    /// An application by its OAuth client id.
    pub fn app_by_client_id(&self, client_id: &str) -> Option<&App> {
        self.state.app_by_client(client_id)
    }

    /// All applications in order of id.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.state.apps().values()
    }

    /// A vendor.
    pub fn vendor(&self, vendor: &str) -> Option<&Vendor> {
        self.state.vendors().get(vendor)
    }

    /// All vendors in order of id.
    pub fn vendors(&self) -> impl Iterator<Item = &Vendor> {
        self.state.vendors().values()
    }

    /// A node.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.state.members().get(&node)
    }

    /// All nodes in order of number.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.state.members().values()
    }

    /// A published signing key.
    pub fn signing_key(&self, kid: &str) -> Option<&SigningKey> {
        self.state.signing_keys().get(kid)
    }

    /// All published signing keys in order of id.
    pub fn signing_keys(&self) -> impl Iterator<Item = &SigningKey> {
        self.state.signing_keys().values()
    }

    /// A sealed secret.
    pub fn secret(&self, name: &str) -> Option<&SealedSecret> {
        self.state.secrets().get(name)
    }

    /// All sealed secrets in order of name.
    pub fn secrets(&self) -> impl Iterator<Item = &SealedSecret> {
        self.state.secrets().values()
    }

    /// A version of the data key as wrapped to a node.
    pub fn wrapped_data_key(&self, node: NodeId, version: u32) -> Option<&WrappedDataKey> {
        self.state.wrapped_keys().get(&(node, version))
    }

    /// All wraps of the data key in order of node and version.
    pub fn wrapped_data_keys(&self) -> impl Iterator<Item = &WrappedDataKey> {
        self.state.wrapped_keys().values()
    }

    /// An operator token.
    pub fn operator(&self, operator: OperatorId) -> Option<&Operator> {
        self.state.operators().get(&operator)
    }

    /// An operator token by its MAC.
    pub fn operator_by_mac(&self, mac: &[u8; 32]) -> Option<&Operator> {
        self.state.operator_by_mac(mac)
    }

    /// All operator tokens in order of id.
    pub fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.state.operators().values()
    }

    /// Refusals so far by package and reason; an empty name where no known package was concerned.
    pub fn refusals(&self) -> impl Iterator<Item = (&Name, RefusalCode, u64)> {
        self.state.refusals().iter().map(|((package, code), count)| (package, *code, *count))
    }

    /// The name behind a reference, while it is kept.
    pub fn subject(&self, subject: SubjectRef) -> Option<(SubjectKind, &str)> {
        self.state.subjects().get(&subject).map(|row| (row.kind, &*row.name))
    }

    /// Audit events that [`Ledger::begin_changes`] has not taken yet, oldest first.
    ///
    /// # Errors
    /// Never, short of damaged memory: the events were encoded by this process.
    pub fn audit_recent(&self) -> Result<Vec<AuditEvent>, FormatError> {
        self.recent.events().collect()
    }
}
