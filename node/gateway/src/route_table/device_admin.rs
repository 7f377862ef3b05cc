//! The routes of the `device` protocol's admin API, under `X-API-Key`.

use lease::command::Role;
use protocol::device::admin::catalog::{
    FeatureView, PlanFeatureDetails, PlanFeatureView, PlanView, ProductView, ScopeView,
};
use protocol::device::admin::catalog_requests::{
    FeatureRequest, PlanFeatureRequest, PlanRequest, ProductRequest, ScopeRequest,
};
use protocol::device::admin::client::{
    ApiKeyView, ClientView, CreateApiKeyRequest, CreateApiKeyResponse, CreateClientRequest,
    CreateUserRequest, UserView,
};
use protocol::device::admin::license::{
    ActivationRecord, CreateLicenseRequest, LicenseView, SubscribeRequest, SubscribeResponse,
    SubscriptionView,
};
use protocol::device::admin::{Message, ReasonRequest};
use protocol::device::payload::Entitlements;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, Schema};

use super::{created, ok, schema_of};
use crate::calls::device_admin::{catalog, clients, licenses, users};
use crate::routes::{Answer, Credential, Operation, Protocol, RequestShape, SchemaOf, Verb};

/// One row. What can fail follows from what it does: reads, changes with a body, removals.
macro_rules! row {
    ($id:literal $verb:ident $path:literal $role:ident, $summary:literal, $request:expr,
     $answer:expr, $failures:expr, $($handler:ident)::+) => {
        Operation {
            id: $id,
            method: Verb::$verb,
            path: $path,
            credential: Credential::ApiKey(Role::$role),
            protocol: Protocol::DeviceAdmin,
            summary: $summary,
            request: $request,
            answers: &[$answer],
            failures: $failures,
            handler: handler!($($handler)::+),
        }
    };
}

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    row!("listDeviceClients" Get "/api/clients" Auditor,
        "Lists clients.", RequestShape::Nothing,
        list::<ClientView>(), READ, clients::list),
    row!("addDeviceClient" Post "/api/clients" Operator,
        "Adds a client.", json::<CreateClientRequest>(),
        new::<ClientView>(), CHANGE, clients::add),
    row!("banDeviceClient" Post "/api/clients/{client_id}/ban" Operator,
        "Refuses all licenses of a client.", REASON,
        one::<ClientView>(), CHANGE, clients::ban),
    row!("unbanDeviceClient" Post "/api/clients/{client_id}/unban" Operator,
        "Undoes a ban.", REASON,
        one::<ClientView>(), CHANGE, clients::unban),
    row!("listDeviceLicenses" Get "/api/licenses" Auditor,
        "Lists licenses of this protocol.", RequestShape::Nothing,
        list::<LicenseView>(), READ, licenses::list),
    row!("issueDeviceLicense" Post "/api/licenses" Operator,
        "Issues a license and shows its key this once.", json::<CreateLicenseRequest>(),
        new::<LicenseView>(), CHANGE, licenses::issue),
    row!("revokeDeviceLicense" Post "/api/licenses/{license_id}/revoke" Operator,
        "Ends a license until it is reinstated.", REASON,
        one::<LicenseView>(), CHANGE, licenses::revoke),
    row!("reinstateDeviceLicense" Post "/api/licenses/{license_id}/reinstate" Operator,
        "Undoes a revocation.", REASON,
        one::<LicenseView>(), CHANGE, licenses::reinstate),
    row!("listDeviceActivations" Get "/api/licenses/{license_id}/activations" Auditor,
        "Lists what was activated under a license.", RequestShape::Nothing,
        list::<ActivationRecord>(), READ, licenses::activations),
    row!("subscribeDeviceClient" Post "/api/subscribe" Operator,
        "Issues a license for a plan of the catalog.", json::<SubscribeRequest>(),
        new::<SubscribeResponse>(), CHANGE, licenses::subscribe),
    row!("listDeviceSubscriptions" Get "/api/subscriptions" Auditor,
        "Lists licenses that were issued for plans of the catalog.",
        RequestShape::Query(licenses::parameters),
        list::<SubscriptionView>(), READ, licenses::subscriptions),
    row!("listDeviceProducts" Get "/api/products" Auditor,
        "Lists the products of the catalog.", RequestShape::Nothing,
        list::<ProductView>(), READ, catalog::products),
    row!("addDeviceProduct" Post "/api/products" Operator,
        "Adds a product to the catalog.", json::<ProductRequest>(),
        new::<ProductView>(), CHANGE, catalog::add_product),
    row!("showDeviceProduct" Get "/api/products/{product}" Auditor,
        "Shows a product.", RequestShape::Nothing,
        one::<ProductView>(), READ, catalog::product),
    row!("changeDeviceProduct" Put "/api/products/{product}" Operator,
        "Changes a product.", json::<ProductRequest>(),
        one::<ProductView>(), CHANGE, catalog::change_product),
    row!("removeDeviceProduct" Delete "/api/products/{product}" Operator,
        "Removes a product; licenses keep their plans.", RequestShape::Nothing,
        one::<Message>(), REMOVE, catalog::remove_product),
    row!("listDevicePlans" Get "/api/products/{product}/plans" Auditor,
        "Lists a product's plans.", RequestShape::Nothing,
        list::<PlanView>(), READ, catalog::plans),
    row!("addDevicePlan" Post "/api/products/{product}/plans" Operator,
        "Adds a plan.", json::<PlanRequest>(),
        new::<PlanView>(), CHANGE, catalog::add_plan),
    row!("showDevicePlan" Get "/api/products/{product}/plans/{plan}" Auditor,
        "Shows a plan.", RequestShape::Nothing,
        one::<PlanView>(), READ, catalog::plan),
    row!("changeDevicePlan" Put "/api/products/{product}/plans/{plan}" Operator,
        "Changes a plan; licenses that were issued for it stay as they are.",
        json::<PlanRequest>(),
        one::<PlanView>(), CHANGE, catalog::change_plan),
    row!("removeDevicePlan" Delete "/api/products/{product}/plans/{plan}" Operator,
        "Removes a plan; licenses that were issued for it stay as they are.",
        RequestShape::Nothing,
        one::<Message>(), REMOVE, catalog::remove_plan),
    row!("listDevicePlanFeatures" Get "/api/products/{product}/plans/{plan}/features" Auditor,
        "Lists which features a plan includes.", RequestShape::Nothing,
        list::<PlanFeatureDetails>(), READ, catalog::plan_features),
    row!("includeDevicePlanFeature" Post "/api/products/{product}/plans/{plan}/features" Operator,
        "Includes a feature in a plan.", json::<PlanFeatureRequest>(),
        new::<PlanFeatureView>(), CHANGE, catalog::include_feature),
    row!("changeDevicePlanFeature"
        Put "/api/products/{product}/plans/{plan}/features/{feature}" Operator,
        "Changes how a plan includes a feature.", json::<PlanFeatureRequest>(),
        one::<PlanFeatureView>(), CHANGE, catalog::change_plan_feature),
    row!("excludeDevicePlanFeature"
        Delete "/api/products/{product}/plans/{plan}/features/{feature}" Operator,
        "Takes a feature out of a plan.", RequestShape::Nothing,
        one::<Message>(), REMOVE, catalog::exclude_feature),
    row!("listDeviceFeatures" Get "/api/products/{product}/features" Auditor,
        "Lists a product's features.", RequestShape::Nothing,
        list::<FeatureView>(), READ, catalog::features),
    row!("addDeviceFeature" Post "/api/products/{product}/features" Operator,
        "Adds a feature.", json::<FeatureRequest>(),
        new::<FeatureView>(), CHANGE, catalog::add_feature),
    row!("showDeviceFeature" Get "/api/products/{product}/features/{feature}" Auditor,
        "Shows a feature.", RequestShape::Nothing,
        one::<FeatureView>(), READ, catalog::feature),
    row!("changeDeviceFeature" Put "/api/products/{product}/features/{feature}" Operator,
        "Changes a feature.", json::<FeatureRequest>(),
        one::<FeatureView>(), CHANGE, catalog::change_feature),
    row!("removeDeviceFeature" Delete "/api/products/{product}/features/{feature}" Operator,
        "Removes a feature with its scopes.", RequestShape::Nothing,
        one::<Message>(), REMOVE, catalog::remove_feature),
    row!("listDeviceScopes" Get "/api/products/{product}/features/{feature}/scopes" Auditor,
        "Lists a feature's scopes.", RequestShape::Nothing,
        list::<ScopeView>(), READ, catalog::scopes),
    row!("addDeviceScope" Post "/api/products/{product}/features/{feature}/scopes" Operator,
        "Adds a scope.", json::<ScopeRequest>(),
        new::<ScopeView>(), CHANGE, catalog::add_scope),
    row!("showDeviceScope"
        Get "/api/products/{product}/features/{feature}/scopes/{scope}" Auditor,
        "Shows a scope.", RequestShape::Nothing,
        one::<ScopeView>(), READ, catalog::scope),
    row!("changeDeviceScope"
        Put "/api/products/{product}/features/{feature}/scopes/{scope}" Operator,
        "Changes a scope.", json::<ScopeRequest>(),
        one::<ScopeView>(), CHANGE, catalog::change_scope),
    row!("removeDeviceScope"
        Delete "/api/products/{product}/features/{feature}/scopes/{scope}" Operator,
        "Removes a scope.", RequestShape::Nothing,
        one::<Message>(), REMOVE, catalog::remove_scope),
    row!("showDeviceEntitlements" Get "/api/entitlements" Auditor,
        "Says what a plan includes.", RequestShape::Query(catalog::parameters),
        one::<Entitlements>(), READ, catalog::entitlements),
    row!("listDeviceUsers" Get "/api/admin/users" Admin,
        "Lists admin users.", RequestShape::Nothing,
        list::<UserView>(), READ, users::list),
    row!("addDeviceUser" Post "/api/admin/users" Admin,
        "Adds an admin user.", json::<CreateUserRequest>(),
        new::<UserView>(), CHANGE, users::add),
    row!("listDeviceApiKeys" Get "/api/admin/api-keys" Admin,
        "Lists API keys without the keys.", RequestShape::Nothing,
        list::<ApiKeyView>(), READ, users::list_keys),
    row!("addDeviceApiKey" Post "/api/admin/api-keys" Admin,
        "Makes an API key and shows it this once.", json::<CreateApiKeyRequest>(),
        new::<CreateApiKeyResponse>(), CHANGE, users::add_key),
];

const READ: &[u16] = &[400, 401, 403, 404, 503];
const CHANGE: &[u16] = &[400, 401, 403, 404, 409, 413, 422, 429, 503];
const REMOVE: &[u16] = &[400, 401, 403, 404, 409, 422, 429, 503];
const REASON: RequestShape = RequestShape::OptionalJson(schema_of::<ReasonRequest>);

const fn json<T: ToSchema>() -> RequestShape {
    RequestShape::Json(schema_of::<T>)
}

const fn one<T: ToSchema>() -> Answer {
    ok(schema_of::<T>, "As it is now.")
}

const fn new<T: ToSchema>() -> Answer {
    created(schema_of::<T>, "It is there.")
}

const fn list<T: ToSchema>() -> Answer {
    ok(list_of::<T> as SchemaOf, "All of them, at most 10,000.")
}

fn list_of<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema> {
    let items = schema_of::<T>(schemas);
    RefOr::T(Schema::Array(ArrayBuilder::new().items(items).build()))
}
