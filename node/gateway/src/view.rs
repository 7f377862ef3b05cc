//! From the ledger's numbers to the texts and bodies of the wire.

use http::StatusCode;
use lease::command::{SeatClass, Vendor};
use lease::ids::{Fence as LedgerFence, LeaseId, Name};
use lease::operate::FormerEpoch;
use lease::{
    App, LeaseView as LedgerLease, Ledger, PackageState as LedgerPackageState,
    PackageView as LedgerPackage,
};
use protocol::cloud::admin::{
    AppView, LeaseView, PackageState, PackageView, ReservedSeatsView, SeatsView, TokenAlgorithm,
    VendorView,
};
use protocol::cloud::lease::{DiscoveredLicense, LeaseResponse, LeaseState, LeaseType};
use protocol::fence::Fence;
use protocol::keys::{Fingerprint, PublicKey};
use protocol::lease_id::{self, LeaseKey};
use protocol::oauth::Scopes;
use protocol::package::LicensePackage;
use protocol::renewal::{self, Renewal};
use protocol::wire::{Id64, Money, UtcTime};

use crate::failure::Failure;
use crate::keys::Keys;
use crate::shared::Read;
use crate::tokens::app_id_text;

/// The epoch that tokens and new fences belong to, and those before it, whose fences stay as they
/// were: a lease that outlives its epoch goes on under the text that its holder was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Its number.
    pub(crate) number: u32,
    /// Its random incarnation.
    pub(crate) incarnation: u64,
    /// Rare and few; nothing is allocated for none.
    former: Box<[FormerEpoch]>,
}

impl Epoch {
    /// A first epoch, or one of a cluster that remembers none before it.
    #[cfg(test)]
    pub(crate) fn new(number: u32, incarnation: u64) -> Self {
        Self { number, incarnation, former: Box::default() }
    }

    /// A fence as the wire has it.
    pub(crate) fn fence(&self, fence: LedgerFence) -> Fence {
        let LedgerFence { epoch, index, position } = fence;
        let former = self.former.iter().find(|former| former.epoch == epoch);
        let incarnation = former.map_or(self.incarnation, |former| former.incarnation);
        Fence { epoch, index, position, incarnation }
    }
}

/// The cluster's epoch.
pub(crate) fn epoch(ledger: &Ledger) -> Result<Epoch, Failure> {
    let cluster =
        ledger.cluster().ok_or_else(|| Failure::internal("the cluster has no identity"))?;
    let former = ledger.former_epochs().copied().collect();
    Ok(Epoch { number: cluster.epoch, incarnation: cluster.incarnation, former })
}

/// A lease id as the ledger has it.
pub(crate) fn ledger_id(lease: LeaseKey) -> LeaseId {
    LeaseId { group: lease.group, random: lease.random }
}

fn wire_id(lease: LeaseId) -> LeaseKey {
    LeaseKey { group: lease.group, random: lease.random }
}

/// A lease id as the wire has it.
pub(crate) fn lease_id_text(keys: &Keys, lease: LeaseId) -> String {
    lease_id::encode(&keys.lease_id, wire_id(lease))
}

/// The renewal token of a sequence.
pub(crate) fn renewal_token(keys: &Keys, epoch: &Epoch, lease: LeaseId, sequence: u32) -> String {
    renewal::encode(&keys.renewal, epoch.number, Renewal { lease: wire_id(lease), sequence })
}

/// Commit or overage.
pub(crate) fn lease_type(class: SeatClass) -> LeaseType {
    match class {
        SeatClass::Commit => LeaseType::Commit,
        SeatClass::Overage => LeaseType::Overage,
    }
}

/// 404.
pub(crate) fn unknown_package() -> Failure {
    Failure::problem(StatusCode::NOT_FOUND, "unknown_package", "No such package.")
}

/// Whether seats can be taken from the package as of the ledger's civil clock.
pub(crate) fn is_in_force(package: &LedgerPackage<'_>) -> bool {
    package_state(package) == PackageState::Active
}

/// Whether seats can be taken from a package, or why not.
pub(crate) fn package_state(package: &LedgerPackage<'_>) -> PackageState {
    match package.state {
        LedgerPackageState::Revoked => PackageState::Revoked,
        _ if package.expired => PackageState::Expired,
        LedgerPackageState::Suspended => PackageState::Suspended,
        LedgerPackageState::Active if package.not_yet_valid => PackageState::NotYetValid,
        LedgerPackageState::Active => PackageState::Active,
    }
}

/// A package for an operator.
pub(crate) fn package(package: &LedgerPackage<'_>) -> Result<PackageView, Failure> {
    // The stored bytes say what the ledger's terms leave out: names and the layout.
    let document = LicensePackage::from_canonical(package.canonical)
        .map_err(|_| Failure::internal("a stored package does not read"))?;
    let seats = package.seats();
    let seats = SeatsView {
        total: document.entitlement.total,
        commit: document.entitlement.commit,
        max_overage: document.entitlement.max_overage,
        commit_in_use: seats.commit_in_use,
        overage_in_use: seats.overage_in_use,
    };
    let reserved = package.reserved.map(|row| ReservedSeatsView {
        seats: row.seats,
        until: UtcTime::from_unix_ms(row.until_ms),
    });
    let view = PackageView::of(
        &document,
        package_state(package),
        seats,
        Fingerprint(*package.verified_by).to_string(),
        UtcTime::from_unix_ms(package.imported_at_ms),
    );
    Ok(PackageView { reserved, ..view })
}

/// What a package offers an application.
pub(crate) fn discovered(package: &LedgerPackage<'_>) -> DiscoveredLicense {
    let terms = package.terms;
    let seats = package.seats();
    DiscoveredLicense {
        product_id: terms.product.to_string(),
        product_name: terms.product_name.to_string(),
        product_version: terms.version_range.to_string(),
        vendor_id: terms.vendor.to_string(),
        package_id: terms.package.to_string(),
        state: package_state(package),
        features: terms.features.iter().map(|name| name.to_string()).collect(),
        total: terms.total,
        in_use: seats.commit_in_use.saturating_add(seats.overage_in_use),
        commit_available: seats.commit_free,
        overage_available: seats.overage_free,
        overage_per_use: Money(terms.pricing.overage_per_use.0),
        currency: terms.pricing.currency.to_string(),
        valid_from: UtcTime::from_unix_ms(terms.valid_from_ms),
        valid_until: UtcTime::from_unix_ms(terms.valid_until_ms),
    }
}

fn texts(names: &[Name]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// A live lease for the application that holds it.
pub(crate) fn lease_response(
    keys: &Keys,
    epoch: &Epoch,
    lease: &LedgerLease<'_>,
    since_written_ms: u64,
) -> LeaseResponse {
    LeaseResponse {
        lease_id: lease_id_text(keys, lease.lease),
        state: LeaseState::Active,
        lease_type: lease_type(lease.class),
        product_id: lease.product.to_string(),
        package_id: lease.package.to_string(),
        quantity: lease.quantity,
        features: texts(lease.features),
        pool: lease.pool.map(|pool| pool.to_string()),
        acquired_at: UtcTime::from_unix_ms(lease.granted_at_ms),
        expires_at: UtcTime::from_unix_ms(lease.expires_at_ms),
        expires_in_ms: lease.expires_in_ms.saturating_sub(since_written_ms),
        cost: lease.cost.map(|cost| Money(cost.0)),
        fence: epoch.fence(lease.fence),
    }
}

/// A live lease for an operator.
pub(crate) fn lease(
    keys: &Keys,
    ledger: &Read<'_>,
    epoch: &Epoch,
    lease: &LedgerLease<'_>,
) -> LeaseView {
    let since_written_ms = ledger.since_written_ms();
    let name = |subject| ledger.subject(subject).map(|(_kind, name)| name.to_owned());
    LeaseView {
        lease_id: lease_id_text(keys, lease.lease),
        state: LeaseState::Active,
        lease_type: lease_type(lease.class),
        quantity: lease.quantity,
        package_id: lease.package.to_string(),
        product_id: lease.product.to_string(),
        app_id: app_id_text(lease.app),
        user: name(lease.user),
        hostname: name(lease.host),
        features: texts(lease.features),
        pool: lease.pool.map(|pool| pool.to_string()),
        acquired_at: UtcTime::from_unix_ms(lease.granted_at_ms),
        expires_at: UtcTime::from_unix_ms(lease.expires_at_ms),
        expires_in_ms: lease.expires_in_ms.saturating_sub(since_written_ms),
        // The first token, of the grant itself, has sequence 1.
        renewals: lease.sequence.saturating_sub(1),
        cost: lease.cost.map(|cost| Money(cost.0)),
        fence: epoch.fence(lease.fence),
        log_index: Id64(lease.fence.index),
    }
}

/// An application.
pub(crate) fn app(app: &App) -> AppView {
    AppView {
        app_id: app_id_text(app.app),
        client_id: app.client_id.to_string(),
        name: app.name.to_string(),
        product_id: app.product.to_string(),
        vendor_id: app.vendor.to_string(),
        scopes: Scopes::ALL,
        token_algorithm: TokenAlgorithm::Rs256,
        secret_generation: app.generation,
        registered_at: UtcTime::from_unix_ms(app.registered_at_ms),
    }
}

/// A pinned vendor.
pub(crate) fn vendor(vendor: &Vendor) -> Result<VendorView, Failure> {
    let key = PublicKey::from_spki_der(&vendor.public_der)
        .map_err(|_| Failure::internal("a pinned key does not pass the gate"))?;
    Ok(VendorView {
        vendor_id: vendor.vendor.to_string(),
        name: vendor.name.to_string(),
        algorithm: key.algorithm().signature_prefix().to_owned(),
        fingerprint: Fingerprint(vendor.fingerprint).to_string(),
        public_key: key.to_pem(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_of_the_epoch_that_granted() {
        let former = [FormerEpoch { epoch: 1, incarnation: 7 }];
        let epoch = Epoch { former: former.into(), ..Epoch::new(3, 9) };
        let text =
            |number| epoch.fence(LedgerFence { epoch: number, index: 28, position: 0 }).to_string();
        assert_eq!(text(1), "00000001-000000000000001c-0000-0000000000000007");
        assert_eq!(text(3), "00000003-000000000000001c-0000-0000000000000009");
    }
}
