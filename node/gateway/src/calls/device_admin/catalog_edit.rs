//! Changes of one product's document: pure, so that they can be made again when somebody else
//! changed the product in between.
//!
//! A change leaves what is empty or absent in its request as it is. Two things of a kind with one
//! short name are refused; so are more of a kind than the protocol allows.

use protocol::device::admin::catalog::{
    Catalog, FeatureView, MAX_PLANS_OR_FEATURES, MAX_SCOPES, PlanFeatureView, PlanView,
    ProductView, ScopeView,
};
use protocol::device::admin::catalog_requests::{
    FeatureRequest, PlanFeatureRequest, PlanRequest, ProductRequest, ScopeRequest,
};
use protocol::device::admin::{AdminFault, Kind};
use protocol::device::payload::Permission;
use protocol::device::schedule::CheckMode;
use protocol::device::time::LicenseTime;

/// Who a new thing is and when it is made or changed.
pub(super) struct Stamp {
    /// Id of what is new.
    pub(super) id: String,
    /// The civil clock.
    pub(super) now: LicenseTime,
}

/// What becomes of a part of a product.
pub(super) type Edited = Result<(), AdminFault>;

/// A product without anything in it.
pub(super) fn new_product(stamp: &Stamp, request: &ProductRequest) -> Catalog {
    Catalog {
        product: ProductView {
            id: stamp.id.clone(),
            name: request.name.clone(),
            slug: request.slug.clone(),
            description: request.description.clone(),
            logo_url: request.logo_url.clone(),
            created_at: stamp.now,
            updated_at: stamp.now,
        },
        plans: Vec::new(),
        features: Vec::new(),
        scopes: Vec::new(),
        plan_features: Vec::new(),
    }
}

pub(super) fn change_product(catalog: &mut Catalog, stamp: &Stamp, request: &ProductRequest) {
    let product = &mut catalog.product;
    set(&mut product.name, &request.name);
    set(&mut product.slug, &request.slug);
    set(&mut product.description, &request.description);
    set(&mut product.logo_url, &request.logo_url);
    product.updated_at = stamp.now;
}

pub(super) fn add_plan(catalog: &mut Catalog, stamp: &Stamp, request: &PlanRequest) -> Edited {
    is_free(catalog.plans.iter().any(|plan| plan.slug == request.slug), Kind::Plan)?;
    has_room(catalog.plans.len(), MAX_PLANS_OR_FEATURES)?;
    let or = |text: &str, default: &str| if text.is_empty() { default } else { text }.to_owned();
    let mut plan = PlanView {
        id: stamp.id.clone(),
        product_id: catalog.product.id.clone(),
        name: String::new(),
        slug: String::new(),
        description: String::new(),
        price: 0,
        duration_days: 0,
        currency: or(&request.currency, "USD"),
        billing_cycle: or(&request.billing_cycle, "monthly"),
        trial_days: 0,
        is_trial: false,
        is_active: false,
        display_order: 0,
        metadata: Default::default(),
        max_devices: 0,
        check_mode: CheckMode::Yearly,
        package_id: String::new(),
        created_at: stamp.now,
        updated_at: stamp.now,
    };
    fill_plan(&mut plan, request);
    catalog.plans.push(plan);
    Ok(())
}

pub(super) fn change_plan(
    catalog: &mut Catalog,
    stamp: &Stamp,
    asked: &str,
    request: &PlanRequest,
) -> Edited {
    let id = catalog.plan(asked)?.id.clone();
    let taken = |plan: &PlanView| plan.id != id && plan.slug == request.slug;
    is_free(catalog.plans.iter().any(taken), Kind::Plan)?;
    if let Some(plan) = catalog.plans.iter_mut().find(|plan| plan.id == id) {
        fill_plan(plan, request);
        plan.updated_at = stamp.now;
    }
    Ok(())
}

fn fill_plan(plan: &mut PlanView, request: &PlanRequest) {
    set(&mut plan.name, &request.name);
    set(&mut plan.slug, &request.slug);
    set(&mut plan.description, &request.description);
    set(&mut plan.currency, &request.currency);
    set(&mut plan.billing_cycle, &request.billing_cycle);
    set(&mut plan.package_id, &request.package_id);
    assign(&mut plan.price, &request.price);
    assign(&mut plan.duration_days, &request.duration_days);
    assign(&mut plan.trial_days, &request.trial_days);
    assign(&mut plan.is_trial, &request.is_trial);
    assign(&mut plan.is_active, &request.is_active);
    assign(&mut plan.display_order, &request.display_order);
    assign(&mut plan.metadata, &request.metadata);
    assign(&mut plan.max_devices, &request.max_devices);
    assign(&mut plan.check_mode, &CheckMode::from_name(&request.check_mode));
}

pub(super) fn remove_plan(catalog: &mut Catalog, asked: &str) -> Edited {
    let id = catalog.plan(asked)?.id.clone();
    catalog.plans.retain(|plan| plan.id != id);
    catalog.plan_features.retain(|row| row.plan_id != id);
    Ok(())
}

pub(super) fn add_feature(
    catalog: &mut Catalog,
    stamp: &Stamp,
    request: &FeatureRequest,
) -> Edited {
    is_free(catalog.features.iter().any(|it| it.slug == request.slug), Kind::Feature)?;
    has_room(catalog.features.len(), MAX_PLANS_OR_FEATURES)?;
    catalog.features.push(FeatureView {
        id: stamp.id.clone(),
        product_id: catalog.product.id.clone(),
        name: request.name.clone(),
        slug: request.slug.clone(),
        description: request.description.clone(),
        category: request.category.clone(),
        created_at: stamp.now,
        updated_at: stamp.now,
    });
    Ok(())
}

pub(super) fn change_feature(
    catalog: &mut Catalog,
    stamp: &Stamp,
    asked: &str,
    request: &FeatureRequest,
) -> Edited {
    let id = catalog.feature(asked)?.id.clone();
    let taken = |feature: &FeatureView| feature.id != id && feature.slug == request.slug;
    is_free(catalog.features.iter().any(taken), Kind::Feature)?;
    if let Some(feature) = catalog.features.iter_mut().find(|feature| feature.id == id) {
        set(&mut feature.name, &request.name);
        set(&mut feature.slug, &request.slug);
        set(&mut feature.description, &request.description);
        set(&mut feature.category, &request.category);
        feature.updated_at = stamp.now;
    }
    Ok(())
}

pub(super) fn remove_feature(catalog: &mut Catalog, asked: &str) -> Edited {
    let id = catalog.feature(asked)?.id.clone();
    catalog.features.retain(|feature| feature.id != id);
    catalog.scopes.retain(|scope| scope.feature_id != id);
    catalog.plan_features.retain(|row| row.feature_id != id);
    Ok(())
}

pub(super) fn add_scope(
    catalog: &mut Catalog,
    stamp: &Stamp,
    feature: &str,
    request: &ScopeRequest,
) -> Edited {
    let feature_id = catalog.feature(feature)?.id.clone();
    is_free(catalog.scopes_of(&feature_id).any(|it| it.slug == request.slug), Kind::Scope)?;
    has_room(catalog.scopes_of(&feature_id).count(), MAX_SCOPES)?;
    catalog.scopes.push(ScopeView {
        id: stamp.id.clone(),
        feature_id,
        name: request.name.clone(),
        slug: request.slug.clone(),
        permission: request.asked_permission().unwrap_or(Permission::Allow),
        limit: request.limit.unwrap_or_default(),
        metadata: request.metadata.clone().unwrap_or_default(),
        created_at: stamp.now,
        updated_at: stamp.now,
    });
    Ok(())
}

pub(super) fn change_scope(
    catalog: &mut Catalog,
    stamp: &Stamp,
    (feature, asked): (&str, &str),
    request: &ScopeRequest,
) -> Edited {
    let feature_id = catalog.feature(feature)?.id.clone();
    let id = catalog.scope(&feature_id, asked)?.id.clone();
    let taken = |scope: &ScopeView| scope.id != id && scope.slug == request.slug;
    is_free(catalog.scopes_of(&feature_id).any(taken), Kind::Scope)?;
    if let Some(scope) = catalog.scopes.iter_mut().find(|scope| scope.id == id) {
        set(&mut scope.name, &request.name);
        set(&mut scope.slug, &request.slug);
        assign(&mut scope.permission, &request.asked_permission());
        assign(&mut scope.limit, &request.limit);
        assign(&mut scope.metadata, &request.metadata);
        scope.updated_at = stamp.now;
    }
    Ok(())
}

pub(super) fn remove_scope(catalog: &mut Catalog, feature: &str, asked: &str) -> Edited {
    let feature_id = catalog.feature(feature)?.id.clone();
    let id = catalog.scope(&feature_id, asked)?.id.clone();
    catalog.scopes.retain(|scope| scope.id != id);
    Ok(())
}

/// The row of a feature in a plan.
pub(super) fn plan_feature<'a>(
    catalog: &'a Catalog,
    plan: &str,
    feature: &str,
) -> Result<&'a PlanFeatureView, AdminFault> {
    let (plan, feature) = (catalog.plan(plan)?, catalog.feature(feature)?);
    let mut rows = catalog.features_of(&plan.id);
    rows.find(|row| row.feature_id == feature.id).ok_or(AdminFault::NotFound(Kind::PlanFeature))
}

pub(super) fn include_feature(
    catalog: &mut Catalog,
    stamp: &Stamp,
    plan: &str,
    request: &PlanFeatureRequest,
) -> Edited {
    let plan_id = catalog.plan(plan)?.id.clone();
    let feature_id = catalog.feature(&request.feature_id)?.id.clone();
    let included = catalog.features_of(&plan_id).any(|row| row.feature_id == feature_id);
    is_free(included, Kind::PlanFeature)?;
    catalog.plan_features.push(PlanFeatureView {
        id: stamp.id.clone(),
        plan_id,
        feature_id,
        enabled: request.enabled.unwrap_or_default(),
        scope_overrides: request.scope_overrides.clone().unwrap_or_default(),
        created_at: stamp.now,
        updated_at: stamp.now,
    });
    Ok(())
}

pub(super) fn change_plan_feature(
    catalog: &mut Catalog,
    stamp: &Stamp,
    (plan, feature): (&str, &str),
    request: &PlanFeatureRequest,
) -> Edited {
    let id = plan_feature(catalog, plan, feature)?.id.clone();
    if let Some(row) = catalog.plan_features.iter_mut().find(|row| row.id == id) {
        assign(&mut row.enabled, &request.enabled);
        assign(&mut row.scope_overrides, &request.scope_overrides);
        row.updated_at = stamp.now;
    }
    Ok(())
}

pub(super) fn exclude_feature(catalog: &mut Catalog, plan: &str, feature: &str) -> Edited {
    let id = plan_feature(catalog, plan, feature)?.id.clone();
    catalog.plan_features.retain(|row| row.id != id);
    Ok(())
}

fn set(kept: &mut String, asked: &str) {
    if !asked.is_empty() {
        asked.clone_into(kept);
    }
}

fn assign<T: Clone>(kept: &mut T, asked: &Option<T>) {
    if let Some(asked) = asked {
        kept.clone_from(asked);
    }
}

fn is_free(taken: bool, kind: Kind) -> Edited {
    if taken { Err(AdminFault::Exists(kind)) } else { Ok(()) }
}

fn has_room(count: usize, most: usize) -> Edited {
    let full = AdminFault::Field("a product has at most 64 of a kind");
    if count < most { Ok(()) } else { Err(full) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(id: &str) -> Stamp {
        Stamp { id: id.to_owned(), now: LicenseTime::from_unix_ms(1) }
    }

    fn catalog() -> Catalog {
        let product = ProductRequest { name: "P".into(), slug: "p".into(), ..Default::default() };
        let mut catalog = new_product(&stamp("product"), &product);
        let plan = PlanRequest { name: "Gold".into(), slug: "gold".into(), ..Default::default() };
        add_plan(&mut catalog, &stamp("plan"), &plan).unwrap();
        let feature =
            FeatureRequest { name: "Export".into(), slug: "export".into(), ..Default::default() };
        add_feature(&mut catalog, &stamp("feature"), &feature).unwrap();
        let scope =
            ScopeRequest { name: "Create".into(), slug: "create".into(), ..Default::default() };
        add_scope(&mut catalog, &stamp("scope"), "export", &scope).unwrap();
        let included = PlanFeatureRequest {
            feature_id: "export".into(),
            enabled: Some(true),
            ..Default::default()
        };
        include_feature(&mut catalog, &stamp("row"), "gold", &included).unwrap();
        catalog
    }

    #[test]
    fn what_a_change_leaves_out_stays() {
        let mut catalog = catalog();
        let before = catalog.plans[0].clone();
        change_plan(&mut catalog, &stamp("x"), "gold", &PlanRequest::default()).unwrap();
        assert_eq!(catalog.plans[0], before);
        let request = PlanRequest { price: Some(5), is_active: Some(true), ..Default::default() };
        change_plan(&mut catalog, &stamp("x"), "plan", &request).unwrap();
        let want = PlanView { price: 5, is_active: true, ..before };
        assert_eq!(catalog.plans[0], want);
    }

    #[test]
    fn no_two_of_a_kind_have_one_name_and_what_is_not_there_is_not_found() {
        let mut catalog = catalog();
        let before = catalog.clone();
        let plan = PlanRequest { name: "G".into(), slug: "gold".into(), ..Default::default() };
        let exists = add_plan(&mut catalog, &stamp("y"), &plan).unwrap_err();
        assert_eq!((exists.status(), exists.to_string()), (409, "plan already exists".to_owned()));
        let twice = PlanFeatureRequest { feature_id: "feature".into(), ..Default::default() };
        let exists = include_feature(&mut catalog, &stamp("y"), "gold", &twice).unwrap_err();
        assert_eq!(exists.status(), 409);
        for missing in [
            remove_plan(&mut catalog, "silver"),
            remove_feature(&mut catalog, "import"),
            remove_scope(&mut catalog, "export", "delete"),
            exclude_feature(&mut catalog, "silver", "export"),
        ] {
            assert_eq!(missing.unwrap_err().status(), 404);
        }
        assert_eq!(catalog, before);
    }

    #[test]
    fn what_goes_takes_along_what_is_only_about_it() {
        let mut without_plan = catalog();
        remove_plan(&mut without_plan, "gold").unwrap();
        assert!(without_plan.plan_features.is_empty() && without_plan.scopes.len() == 1);
        let mut without_feature = catalog();
        remove_feature(&mut without_feature, "feature").unwrap();
        assert!(without_feature.plan_features.is_empty() && without_feature.scopes.is_empty());
    }

    #[test]
    fn a_kind_is_bounded() {
        let mut catalog = catalog();
        for number in 0..MAX_SCOPES - 1 {
            let slug = format!("s{number}");
            let request = ScopeRequest { name: "S".into(), slug, ..Default::default() };
            add_scope(&mut catalog, &stamp(&number.to_string()), "export", &request).unwrap();
        }
        let request =
            ScopeRequest { name: "S".into(), slug: "one-more".into(), ..Default::default() };
        let full = add_scope(&mut catalog, &stamp("z"), "export", &request).unwrap_err();
        assert_eq!(full.status(), 400);
    }
}
