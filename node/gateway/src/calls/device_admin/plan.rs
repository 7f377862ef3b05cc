//! From the catalog to the plan that a license keeps: which product, which plan, which package.
//!
//! A license holds a copy of its plan, so a change of the catalog changes no license that was
//! issued. The package that its seats come from is the one named in the request, else the one that
//! the plan names, else one in force whose product is named like the catalog's product: of several
//! the one that ends last.
//!
//! Offline tokens are not part of the protocol's catalog: a plan whose `metadata` has
//! `offline_hours` allows them for so long, where the package does.

use std::collections::BTreeMap;

use lease::Ledger;
use lease::ids::{Name, ProductId};
use lease::license::{
    CheckMode as LedgerMode, Permission as LedgerPermission, Plan, PlanFeature, PlanScope,
    ProductRow,
};
use protocol::device::admin::catalog::{Catalog, PlanView};
use protocol::device::payload::{FeatureGrant, Permission, ScopeGrant};

use crate::failure::Failure;
use crate::licensing::parse_uuid;
use crate::view;

/// What a license takes over from its plan beside what the request says.
pub(crate) struct Sold {
    /// Devices at once; 0: as many as there are seats.
    pub(crate) max_devices: u32,
    /// When devices verify.
    pub(crate) check: LedgerMode,
    /// Seconds between checks, for [`LedgerMode::Custom`].
    pub(crate) check_interval_s: u32,
    /// Whether it is a trial.
    pub(crate) trial: bool,
}

/// A product's document.
pub(crate) fn catalog_of(row: &ProductRow) -> Result<Catalog, Failure> {
    serde_json::from_slice(&row.document)
        .map_err(|_| Failure::internal("a product of the catalog does not read"))
}

/// A product of the catalog by id or short name.
pub(crate) fn find_product<'a>(ledger: &'a Ledger, id_or_slug: &str) -> Option<&'a ProductRow> {
    let by_id = parse_uuid(id_or_slug).and_then(|number| ledger.product(ProductId(number)));
    by_id.or_else(|| ledger.product_by_slug(id_or_slug))
}

/// The package that licenses of a plan take their seats from.
pub(crate) fn package_for(
    ledger: &Ledger,
    asked: &str,
    catalog: Option<(&Catalog, &PlanView)>,
) -> Option<Name> {
    let named =
        |package: &str| ledger.package(package).map(|package| package.terms.package.clone());
    if !asked.is_empty() {
        return named(asked);
    }
    let Some((catalog, plan)) = catalog else {
        // Nothing is said of a product: clear only where there is one package.
        let mut in_force = ledger.packages().filter(view::is_in_force);
        let only = in_force.next().map(|package| package.terms.package.clone());
        return only.filter(|_| in_force.next().is_none());
    };
    if !plan.package_id.is_empty() {
        return named(&plan.package_id);
    }
    let of_product = ledger.packages_of_product(&catalog.product.slug).filter(view::is_in_force);
    let last = of_product.max_by_key(|package| package.terms.valid_until_ms);
    last.map(|package| package.terms.package.clone())
}

/// The plan as a license keeps it.
pub(crate) fn kept(catalog: &Catalog, plan: &PlanView, sold: &Sold) -> Plan {
    let features = catalog.entitlements(plan).features;
    let kind = if sold.trial { "trial" } else { "standard" };
    Plan {
        slug: plan.slug.as_str().into(),
        id: parse_uuid(&plan.id).unwrap_or_default(),
        product: catalog.product.slug.as_str().into(),
        product_id: parse_uuid(&catalog.product.id).map(ProductId),
        kind: kind.into(),
        features: features.into_values().map(feature).collect(),
        max_activations: sold.max_devices,
        max_nodes: 0,
        seats_per_activation: 1,
        check: sold.check,
        check_interval_s: sold.check_interval_s,
        activation_ms: 0,
        slot_ttl_ms: 0,
        offline_ms: offline_ms(&plan.metadata),
        trial: sold.trial,
        quotas: Vec::new(),
    }
}

/// A plan that is in no catalog: a name, and what the request says.
pub(crate) fn bare(slug: &str, sold: &Sold) -> Plan {
    Plan {
        slug: slug.into(),
        id: 0,
        product: "".into(),
        product_id: None,
        kind: "standard".into(),
        features: Vec::new(),
        max_activations: sold.max_devices,
        max_nodes: 0,
        seats_per_activation: 1,
        check: sold.check,
        check_interval_s: sold.check_interval_s,
        activation_ms: 0,
        slot_ttl_ms: 0,
        offline_ms: 0,
        trial: sold.trial,
        quotas: Vec::new(),
    }
}

fn offline_ms(metadata: &BTreeMap<String, String>) -> u64 {
    let hours = metadata.get("offline_hours").and_then(|text| text.parse::<u32>().ok());
    u64::from(hours.unwrap_or_default()) * HOUR_MS
}

fn feature(grant: FeatureGrant) -> PlanFeature {
    PlanFeature {
        slug: grant.feature_slug.as_str().into(),
        id: parse_uuid(&grant.feature_id).unwrap_or_default(),
        category: grant.category.as_str().into(),
        enabled: grant.enabled,
        scopes: grant.scopes.into_values().map(scope).collect(),
    }
}

fn scope(grant: ScopeGrant) -> PlanScope {
    let metadata = match grant.metadata.is_empty() {
        true => String::new(),
        #[expect(clippy::expect_used, reason = "texts by text are always JSON")]
        false => serde_json::to_string(&grant.metadata).expect("metadata is JSON"),
    };
    PlanScope {
        slug: grant.scope_slug.as_str().into(),
        id: parse_uuid(&grant.scope_id).unwrap_or_default(),
        permission: match grant.permission {
            Permission::Allow => LedgerPermission::Allow,
            Permission::Deny => LedgerPermission::Deny,
            Permission::Limit => LedgerPermission::Limit,
        },
        limit: grant.limit,
        metadata: metadata.into(),
    }
}

const HOUR_MS: u64 = 3_600_000;
