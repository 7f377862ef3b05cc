//! Import: a signed package, verified against the pinned key of its vendor.
//!
//! Order: strict loader, is it for us, has it ended, is the vendor's key pinned, does the signature
//! verify, and only then the ledger. A key that comes along is compared with the pinned one and
//! never trusted for itself.

use http::StatusCode;
use lease::command::{
    CapacitySource, Command, ImportPackage, PackageTerms, Policy, Pricing, SeatClass,
};
use lease::money::Money as LedgerMoney;
use lease::offline::{ImportEntitlement, OfflineTerms};
use lease::outcome::Outcome;
use protocol::cloud::admin::{ImportError, ImportRequest, ImportResponse, ImportStatus};
use protocol::cloud::problem::Problem;
use protocol::keys::PublicKey;
use protocol::package::{LicensePackage, VerifiedPackage};
use protocol::wire::UtcTime;

use crate::call::Call;
use crate::failure::Failure;
use crate::refusal::admin_failure;
use crate::reply::Reply;
use crate::shared::Shared;

/// `POST /admin/licenses/import`
pub(crate) async fn import(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request = ImportRequest::from_body(&call.body).map_err(import_failure)?;
    let pinned = {
        let ledger = shared.read(call).await?;
        let package = request.package.package();
        let cluster =
            ledger.cluster().ok_or_else(|| Failure::internal("no cluster, yet an operator"))?;
        package.check_client(&cluster.client_id, &cluster.org_domain)?;
        package.check_not_ended(shared.context.cluster.displayed_civil_ms())?;
        ledger
            .vendor(&package.vendor.id)
            .map(|vendor| vendor.public_der.clone())
            .ok_or_else(|| vendor_not_trusted(&package.vendor.id))?
    };
    let pinned = PublicKey::from_spki_der(&pinned)
        .map_err(|_| Failure::internal("a pinned key does not pass the gate"))?;
    let verified = request.package.verify(&pinned, request.vendor_public_key.as_ref())?;
    let command = command(&verified)?;
    let canonical = [&verified.canonical, verified.signature.as_bytes()].concat();
    let request_id = call.request_id_of(&canonical);
    match shared.submit(call, Some(request_id), command).await? {
        Outcome::Imported { already } => Ok(response(&verified, already)),
        Outcome::Refused(refusal) => Err(admin_failure(&refusal)),
        _ => Err(Failure::internal("an import had the outcome of another command")),
    }
}

fn import_failure(error: ImportError) -> Failure {
    match error {
        ImportError::Package(error) => error.into(),
        ImportError::Key(error) => Problem::new(422, "key_refused", "The key is not accepted.")
            .detail(error.to_string())
            .field("vendor_public_key")
            .into(),
    }
}

fn vendor_not_trusted(vendor_id: &str) -> Failure {
    Problem::new(422, "vendor_not_trusted", "No key is pinned for the package's vendor.")
        .detail(format!("pin the key of {vendor_id} first (vendor trust add)"))
        .field("vendor")
        .into()
}

/// The package as the ledger keeps it.
fn command(verified: &VerifiedPackage) -> Result<Command, Failure> {
    let import = ImportPackage {
        canonical: verified.canonical.clone(),
        signature: verified.signature.as_str().into(),
        verified_by: verified.key.0,
        terms: terms(&verified.package)?,
    };
    let offline = offline_terms(&verified.package.policy);
    Ok(if offline == OfflineTerms::default() {
        Command::ImportPackage(Box::new(import))
    } else {
        Command::ImportEntitlement(Box::new(ImportEntitlement { import, offline }))
    })
}

/// What the signed policy says of offline use; nothing where it allows none.
fn offline_terms(policy: &protocol::package::Policy) -> OfflineTerms {
    if !policy.offline && policy.borrow_max_ms == 0 {
        return OfflineTerms::default();
    }
    OfflineTerms {
        tokens: policy.offline,
        borrow_max_ms: policy.borrow_max_ms,
        borrow_seats_max: policy.borrow_seats_max,
        online_reserve: policy.borrow_online_reserve,
    }
}

fn terms(package: &LicensePackage) -> Result<PackageTerms, Failure> {
    let entitlement = &package.entitlement;
    let source = |seats, class| CapacitySource {
        seats,
        class,
        valid_from_ms: package.validity.start_ms,
        valid_until_ms: package.validity.end_ms,
    };
    let sources =
        [(entitlement.commit, SeatClass::Commit), (entitlement.max_overage, SeatClass::Overage)]
            .into_iter()
            .filter(|(seats, _)| *seats > 0)
            .map(|(seats, class)| source(seats, class))
            .collect();
    Ok(PackageTerms {
        package: package.package_id.as_str().into(),
        vendor: package.vendor.id.as_str().into(),
        product: package.product.id.as_str().into(),
        product_name: package.product.name.as_str().into(),
        version_range: package.product.version_range.as_str().into(),
        client_id: package.client.id.as_str().into(),
        org_domain: package.client.domain.as_str().into(),
        total: entitlement.total,
        sources,
        pricing: Pricing {
            commit_fee_monthly: LedgerMoney(entitlement.pricing.commit_fee_monthly),
            overage_per_use: LedgerMoney(entitlement.pricing.overage_per_use),
            currency: entitlement.pricing.currency.as_str().into(),
        },
        features: package.features.iter().map(|name| name.as_str().into()).collect(),
        valid_from_ms: package.validity.start_ms,
        valid_until_ms: package.validity.end_ms,
        policy: policy(&package.policy)?,
    })
}

/// The package's bounds keep every length of time under 32 bits of milliseconds: a day at most.
fn policy(policy: &protocol::package::Policy) -> Result<Policy, Failure> {
    let ms = |ms: u64| {
        u32::try_from(ms).map_err(|_| Failure::internal("a package's policy is out of its bounds"))
    };
    Ok(Policy {
        lease_ttl_ms: ms(policy.lease_ttl_ms)?,
        heartbeat_interval_ms: ms(policy.heartbeat_interval_ms)?,
        renewal_rotation: policy.renewal_rotation,
        offline_skew_ms: ms(policy.offline_skew_ms)?,
    })
}

fn response(verified: &VerifiedPackage, already: bool) -> Reply {
    let package = &verified.package;
    let (http_status, status) = if already {
        (StatusCode::OK, ImportStatus::AlreadyImported)
    } else {
        (StatusCode::CREATED, ImportStatus::Imported)
    };
    let body = ImportResponse {
        package_id: package.package_id.clone(),
        status,
        product_id: package.product.id.clone(),
        vendor_id: package.vendor.id.clone(),
        key_fingerprint: verified.key.to_string(),
        total: package.entitlement.total,
        valid_until: UtcTime::from_unix_ms(package.validity.end_ms),
    };
    Reply::json(http_status, &body)
}
