//! Products with their plans, features and scopes; what a plan includes.
//!
//! A product with everything under it is one stored document with a version. A change reads it,
//! makes its change ([`super::catalog_edit`]) and stores it under the next version; when somebody
//! else was faster it does so again, a few times.
//!
//! A repeat under the caller's idempotency key may find its own work done (the plan exists, the
//! feature is gone): then the stored document is put once more as it is, and the ledger, which
//! remembers the first call, says which it was.

use http::StatusCode;
use lease::command::Command;
use lease::ids::{KeyOrigin, ProductId};
use lease::license::{ProductRow, PutProduct};
use lease::outcome::{Outcome, RefusalCode};
use protocol::device::admin::catalog::Catalog;
use protocol::device::admin::catalog_requests::{
    EntitlementsQuery, FeatureRequest, PlanFeatureRequest, PlanRequest, ProductRequest,
    ScopeRequest, read_new,
};
use protocol::device::admin::{self, AdminFault, Kind, Message};
use protocol::device::time::LicenseTime;
use serde::Serialize;

use super::catalog_edit::{self as edit, Edited, Stamp};
use super::plan::{catalog_of, find_product};
use super::{MAX_LISTED, changed, fault, refused};
use crate::call::Call;
use crate::failure::Failure;
use crate::licensing::{draw_uuid, parse_uuid, uuid_text};
use crate::reply::Reply;
use crate::shared::Shared;

/// `GET /api/products`
pub(crate) async fn products(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    let rows = ledger.products().take(MAX_LISTED);
    let products = rows.map(|row| catalog_of(row).map(|it| it.product));
    let products = products.collect::<Result<Vec<_>, _>>()?;
    Ok(Reply::ok(&products))
}

/// `POST /api/products`
pub(crate) async fn add_product(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: ProductRequest = read_new(&call.body).map_err(fault)?;
    let id = draw_uuid(&*shared.context.entropy);
    let stamp = Stamp { id: uuid_text(id), now: now(shared) };
    let catalog = edit::new_product(&stamp, &request);
    let command = put(ProductId(id), 1, &catalog)?;
    changed(shared, call, call.request_id(&request), command, Kind::Product).await?;
    let ledger = shared.context.cluster.ledger();
    match ledger.product_by_slug(&request.slug) {
        Some(row) => Ok(Reply::json(StatusCode::CREATED, &catalog_of(row)?.product)),
        None => Err(Failure::internal("a product that was added is not there")),
    }
}

/// `GET /api/products/{product}`
pub(crate) async fn product(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    shown(shared, call, |catalog| Ok(catalog.product.clone())).await
}

/// `PUT /api/products/{product}`
pub(crate) async fn change_product(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: ProductRequest = admin::read(&call.body).map_err(fault)?;
    let catalog = edited(shared, call, &request, Kind::Product, |catalog, stamp| {
        edit::change_product(catalog, stamp, &request);
        Ok(())
    });
    Ok(Reply::ok(&catalog.await?.product))
}

/// `DELETE /api/products/{product}`
pub(crate) async fn remove_product(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let asked = call.param("product")?;
    for _ in 0..MAX_TRIES {
        let (product, version) = {
            let ledger = shared.read(call).await?;
            match find_product(&ledger, asked) {
                Some(row) => (row.product, row.version),
                // Perhaps gone by this very call, earlier: the ledger knows.
                None => (ProductId(parse_uuid(asked).unwrap_or_default()), 0),
            }
        };
        let command = Command::RemoveProduct { product, version };
        let decided = shared.decide(call, Some(call.request_id(&())), command).await?;
        match decided.outcome {
            Outcome::Refused(refusal) if refusal.code == RefusalCode::VersionConflict => {}
            Outcome::Refused(refusal) => return Err(refused(&refusal, Kind::Product)),
            _ => {
                shared.seen(call, decided.index).await?;
                return Ok(Reply::ok(&Message::deleted(Kind::Product)));
            }
        }
    }
    Err(changed_meanwhile())
}

/// `GET /api/products/{product}/plans`
pub(crate) async fn plans(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    shown(shared, call, |catalog| Ok(catalog.plans.clone())).await
}

/// `POST /api/products/{product}/plans`
pub(crate) async fn add_plan(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: PlanRequest = read_new(&call.body).map_err(fault)?;
    let catalog = edited(shared, call, &request, Kind::Plan, |catalog, stamp| {
        edit::add_plan(catalog, stamp, &request)
    });
    made(catalog.await?.plan(&request.slug))
}

/// `GET /api/products/{product}/plans/{plan}`
pub(crate) async fn plan(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let plan = call.param("plan")?;
    shown(shared, call, |catalog| catalog.plan(plan).cloned()).await
}

/// `PUT /api/products/{product}/plans/{plan}`
pub(crate) async fn change_plan(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: PlanRequest = admin::read(&call.body).map_err(fault)?;
    let plan = call.param("plan")?;
    let catalog = edited(shared, call, &request, Kind::Plan, |catalog, stamp| {
        edit::change_plan(catalog, stamp, plan, &request)
    });
    let catalog = catalog.await?;
    // Who named it by a short name that it had before finds it by the one it has now.
    found(catalog.plan(plan).or_else(|_| catalog.plan(&request.slug)))
}

/// `DELETE /api/products/{product}/plans/{plan}`
pub(crate) async fn remove_plan(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let plan = call.param("plan")?;
    removed(shared, call, Kind::Plan, |catalog| edit::remove_plan(catalog, plan)).await
}

/// `GET /api/products/{product}/features`
pub(crate) async fn features(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    shown(shared, call, |catalog| Ok(catalog.features.clone())).await
}

/// `POST /api/products/{product}/features`
pub(crate) async fn add_feature(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: FeatureRequest = read_new(&call.body).map_err(fault)?;
    let catalog = edited(shared, call, &request, Kind::Feature, |catalog, stamp| {
        edit::add_feature(catalog, stamp, &request)
    });
    made(catalog.await?.feature(&request.slug))
}

/// `GET /api/products/{product}/features/{feature}`
pub(crate) async fn feature(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let feature = call.param("feature")?;
    shown(shared, call, |catalog| catalog.feature(feature).cloned()).await
}

/// `PUT /api/products/{product}/features/{feature}`
pub(crate) async fn change_feature(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: FeatureRequest = admin::read(&call.body).map_err(fault)?;
    let feature = call.param("feature")?;
    let catalog = edited(shared, call, &request, Kind::Feature, |catalog, stamp| {
        edit::change_feature(catalog, stamp, feature, &request)
    });
    let catalog = catalog.await?;
    found(catalog.feature(feature).or_else(|_| catalog.feature(&request.slug)))
}

/// `DELETE /api/products/{product}/features/{feature}`
pub(crate) async fn remove_feature(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let feature = call.param("feature")?;
    removed(shared, call, Kind::Feature, |catalog| edit::remove_feature(catalog, feature)).await
}

/// `GET /api/products/{product}/features/{feature}/scopes`
pub(crate) async fn scopes(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let feature = call.param("feature")?;
    shown(shared, call, |catalog| {
        let feature = catalog.feature(feature)?;
        Ok(catalog.scopes_of(&feature.id).cloned().collect::<Vec<_>>())
    })
    .await
}

/// `POST /api/products/{product}/features/{feature}/scopes`
pub(crate) async fn add_scope(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: ScopeRequest = read_new(&call.body).map_err(fault)?;
    let feature = call.param("feature")?;
    let catalog = edited(shared, call, &request, Kind::Scope, |catalog, stamp| {
        edit::add_scope(catalog, stamp, feature, &request)
    });
    let catalog = catalog.await?;
    made(catalog.feature(feature).and_then(|it| catalog.scope(&it.id, &request.slug)))
}

/// `GET /api/products/{product}/features/{feature}/scopes/{scope}`
pub(crate) async fn scope(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let (feature, scope) = (call.param("feature")?, call.param("scope")?);
    shown(shared, call, |catalog| {
        let feature = catalog.feature(feature)?;
        catalog.scope(&feature.id, scope).cloned()
    })
    .await
}

/// `PUT /api/products/{product}/features/{feature}/scopes/{scope}`
pub(crate) async fn change_scope(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: ScopeRequest = admin::read(&call.body).map_err(fault)?;
    let (feature, scope) = (call.param("feature")?, call.param("scope")?);
    let catalog = edited(shared, call, &request, Kind::Scope, |catalog, stamp| {
        edit::change_scope(catalog, stamp, (feature, scope), &request)
    });
    let catalog = catalog.await?;
    let id = &catalog.feature(feature).map_err(fault)?.id;
    found(catalog.scope(id, scope).or_else(|_| catalog.scope(id, &request.slug)))
}

/// `DELETE /api/products/{product}/features/{feature}/scopes/{scope}`
pub(crate) async fn remove_scope(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let (feature, scope) = (call.param("feature")?, call.param("scope")?);
    let remove = |catalog: &mut Catalog| edit::remove_scope(catalog, feature, scope);
    removed(shared, call, Kind::Scope, remove).await
}

/// `GET /api/products/{product}/plans/{plan}/features`
pub(crate) async fn plan_features(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let plan = call.param("plan")?;
    shown(shared, call, |catalog| {
        let plan = catalog.plan(plan)?;
        Ok(catalog.plan_feature_details(&plan.id))
    })
    .await
}

/// `POST /api/products/{product}/plans/{plan}/features`
pub(crate) async fn include_feature(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: PlanFeatureRequest = read_new(&call.body).map_err(fault)?;
    let plan = call.param("plan")?;
    let catalog = edited(shared, call, &request, Kind::PlanFeature, |catalog, stamp| {
        edit::include_feature(catalog, stamp, plan, &request)
    });
    made(edit::plan_feature(&catalog.await?, plan, &request.feature_id))
}

/// `PUT /api/products/{product}/plans/{plan}/features/{feature}`
pub(crate) async fn change_plan_feature(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let request: PlanFeatureRequest = admin::read(&call.body).map_err(fault)?;
    let (plan, feature) = (call.param("plan")?, call.param("feature")?);
    let catalog = edited(shared, call, &request, Kind::PlanFeature, |catalog, stamp| {
        edit::change_plan_feature(catalog, stamp, (plan, feature), &request)
    });
    found(edit::plan_feature(&catalog.await?, plan, feature))
}

/// `DELETE /api/products/{product}/plans/{plan}/features/{feature}`
pub(crate) async fn exclude_feature(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let (plan, feature) = (call.param("plan")?, call.param("feature")?);
    let exclude = |catalog: &mut Catalog| edit::exclude_feature(catalog, plan, feature);
    removed(shared, call, Kind::PlanFeature, exclude).await
}

/// The query of `GET /api/entitlements`.
pub(crate) fn parameters() -> Vec<utoipa::openapi::path::Parameter> {
    use utoipa::IntoParams;
    EntitlementsQuery::into_params(|| None)
}

/// `GET /api/entitlements`
pub(crate) async fn entitlements(shared: &Shared, call: &Call) -> Result<Reply, Failure> {
    let query: EntitlementsQuery = call.query()?;
    query.check().map_err(fault)?;
    let ledger = shared.read(call).await?;
    let row = find_product(&ledger, &query.product_id).ok_or_else(no_product)?;
    let catalog = catalog_of(row)?;
    let plan = catalog.plan(&query.plan_id).map_err(fault)?;
    Ok(Reply::ok(&catalog.entitlements(plan)))
}

/// Shows a part of the product in the path.
async fn shown<V: Serialize>(
    shared: &Shared,
    call: &Call,
    part: impl FnOnce(&Catalog) -> Result<V, AdminFault>,
) -> Result<Reply, Failure> {
    let ledger = shared.read(call).await?;
    let row = find_product(&ledger, call.param("product")?).ok_or_else(no_product)?;
    Ok(Reply::ok(&part(&catalog_of(row)?).map_err(fault)?))
}

/// Changes the product in the path and gives it as it is then.
async fn edited<R: Serialize>(
    shared: &Shared,
    call: &Call,
    request: &R,
    kind: Kind,
    change: impl Fn(&mut Catalog, &Stamp) -> Edited,
) -> Result<Catalog, Failure> {
    let request_id = call.request_id(request);
    for _ in 0..MAX_TRIES {
        let (product, version, mut catalog) = {
            let ledger = shared.read(call).await?;
            let row = find_product(&ledger, call.param("product")?).ok_or_else(no_product)?;
            (row.product, row.version, catalog_of(row)?)
        };
        let stored = put(product, version, &catalog)?;
        let stamp = Stamp { id: uuid_text(draw_uuid(&*shared.context.entropy)), now: now(shared) };
        let (command, failed) = match change(&mut catalog, &stamp) {
            Ok(()) => (put(product, version.saturating_add(1), &catalog)?, None),
            Err(failed) if call.key.origin == KeyOrigin::Caller => (stored, Some(failed)),
            Err(failed) => return Err(fault(failed)),
        };
        let decided = shared.decide(call, Some(request_id), command).await?;
        match (decided.outcome, failed) {
            (Outcome::Refused(refusal), _) if refusal.code == RefusalCode::VersionConflict => {}
            (Outcome::Refused(refusal), _) => return Err(refused(&refusal, kind)),
            (Outcome::Unchanged, Some(failed)) => return Err(fault(failed)),
            _ => {
                shared.seen(call, decided.index).await?;
                let ledger = shared.context.cluster.ledger();
                return catalog_of(ledger.product(product).ok_or_else(no_product)?);
            }
        }
    }
    Err(changed_meanwhile())
}

async fn removed(
    shared: &Shared,
    call: &Call,
    kind: Kind,
    remove: impl Fn(&mut Catalog) -> Edited,
) -> Result<Reply, Failure> {
    edited(shared, call, &(), kind, |catalog, _| remove(catalog)).await?;
    Ok(Reply::ok(&Message::deleted(kind)))
}

fn put(product: ProductId, version: u32, catalog: &Catalog) -> Result<Command, Failure> {
    let document = serde_json::to_vec(catalog)
        .map_err(|_| Failure::internal("a product could not be written"))?;
    let slug = catalog.product.slug.as_str().into();
    Ok(Command::PutProduct(PutProduct { product: ProductRow { product, slug, version, document } }))
}

fn made<V: Serialize>(part: Result<&V, AdminFault>) -> Result<Reply, Failure> {
    Ok(Reply::json(StatusCode::CREATED, part.map_err(fault)?))
}

fn found<V: Serialize>(part: Result<&V, AdminFault>) -> Result<Reply, Failure> {
    Ok(Reply::ok(part.map_err(fault)?))
}

fn now(shared: &Shared) -> LicenseTime {
    LicenseTime::from_unix_ms(shared.context.cluster.displayed_civil_ms())
}

fn no_product() -> Failure {
    fault(AdminFault::NotFound(Kind::Product))
}

fn changed_meanwhile() -> Failure {
    Failure::problem(
        StatusCode::CONFLICT,
        "version_conflict",
        "Others change this product all the time; try again.",
    )
}

/// How often a change is made anew when others were faster.
const MAX_TRIES: u32 = 5;
