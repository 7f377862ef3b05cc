//! The one table of routes: what is not in it does not exist.
//!
//! The router, the OpenAPI document and the route-by-credential tests are all made from it, so
//! that none of them can know an operation the others do not. Each row says what an operation is
//! called, where it is, who may ask, and in which words its errors come.

use std::sync::Arc;

use axum::routing::MethodFilter;
use futures_util::future::BoxFuture;
use http::Method;
use lease::command::Role;
use protocol::cloud::admin;
use protocol::cloud::lease as wire;
use protocol::oauth::claims::{Jwks, ServerMetadata};
use protocol::oauth::token::{TokenForm, TokenResponse};
use protocol::oauth::Scope;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Ref, RefOr};

use crate::call::Call;
use crate::calls;
use crate::failure::Failure;
use crate::reply::Reply;
use crate::shared::Shared;
use crate::status::ClusterStatus;

/// One thing that can be asked.
#[derive(Debug)]
pub struct Operation {
    /// Its name: unique, stable, part of the scope of idempotency keys.
    pub id: &'static str,
    /// How it is asked.
    pub method: Verb,
    /// Where, with at most one variable segment in braces.
    pub path: &'static str,
    /// Who may ask.
    pub credential: Credential,
    /// Which part of the face it belongs to.
    pub protocol: Protocol,
    /// One sentence.
    pub summary: &'static str,
    pub(crate) request: RequestShape,
    pub(crate) answers: &'static [Answer],
    pub(crate) failures: &'static [u16],
    pub(crate) handler: Handler,
}

/// A method of HTTP that an operation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `GET`, and with it `HEAD`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Anybody who can connect.
    Nobody,
    /// An application with its client id and secret.
    Client,
    /// An application with an access token that allows this scope.
    AccessToken(Scope),
    /// An operator with this role or a wider one.
    Operator(Role),
}

/// Part of the face; decides the shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Calls of applications: denials and problems.
    Cloud,
    /// The token endpoint and its documents: RFC 6749 errors.
    OAuth,
    /// Calls of operators: problems.
    Admin,
    /// Probes, metrics, this document: text or problems.
    Operations,
}

pub(crate) type Handler = fn(Arc<Shared>, Call) -> BoxFuture<'static, Result<Reply, Failure>>;
/// Adds a type's schemas to the components and refers to it.
pub(crate) type SchemaOf = fn(&mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema>;

/// What a request brings beside its path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RequestShape {
    /// Nothing.
    Nothing,
    /// A query.
    Query(fn() -> Vec<utoipa::openapi::path::Parameter>),
    /// A form.
    Form(SchemaOf),
    /// A JSON body.
    Json(SchemaOf),
    /// A JSON body that may be left out.
    OptionalJson(SchemaOf),
}

/// A way to succeed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) description: &'static str,
    pub(crate) body: AnswerBody,
}

/// What a success holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnswerBody {
    /// Nothing.
    Nothing,
    /// JSON of this shape.
    Json(SchemaOf),
    /// Any JSON object.
    AnyJson,
    /// Text.
    Text,
}

impl Verb {
    /// The method of HTTP.
    pub fn http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Delete => Method::DELETE,
        }
    }

    pub(crate) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

impl Operation {
    /// Whether it changes something, and so has an idempotency key.
    pub fn is_keyed(&self) -> bool {
        self.method != Verb::Get && self.credential != Credential::Client
    }

    /// The name of the variable segment of the path, where there is one.
    pub fn path_parameter(&self) -> Option<&'static str> {
        let (_, rest) = self.path.split_once('{')?;
        rest.split_once('}').map(|(name, _)| name)
    }

    pub(crate) fn takes_body(&self) -> bool {
        !matches!(self.request, RequestShape::Nothing | RequestShape::Query(_))
    }
}

/// Every operation.
pub fn operations() -> &'static [Operation] {
    OPERATIONS
}

/// The methods of a path that exists, for `Allow`.
pub(crate) fn allowed_methods(path: &str) -> String {
    let mut allowed = Vec::new();
    let matching: Vec<&Operation> =
        OPERATIONS.iter().filter(|operation| path_matches(operation.path, path)).collect();
    // `/licenses/discover` also fits `/licenses/{lease_id}`; the router takes the fixed one.
    let is_fixed = matching.iter().any(|operation| operation.path == path);
    for operation in matching.iter().filter(|operation| !is_fixed || operation.path == path) {
        allowed.push(operation.method.http().to_string());
        if operation.method == Verb::Get {
            allowed.push(Method::HEAD.to_string());
        }
    }
    allowed.sort_unstable();
    allowed.join(", ")
}

fn path_matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let fits = pattern.split('/').all(|want| {
        segments.next().is_some_and(|have| {
            if want.starts_with('{') { !have.is_empty() } else { have == want }
        })
    });
    fits && segments.next().is_none()
}

fn schema_of<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema> {
    let name = T::name().into_owned();
    schemas.push((name.clone(), T::schema()));
    T::schemas(schemas);
    RefOr::Ref(Ref::from_schema_name(name))
}

/// A row's way to succeed with 200 and JSON.
const fn ok(body: SchemaOf, description: &'static str) -> Answer {
    Answer { status: 200, description, body: AnswerBody::Json(body) }
}

const fn created(body: SchemaOf, description: &'static str) -> Answer {
    Answer { status: 201, description, body: AnswerBody::Json(body) }
}

/// Wraps an async function into a table's entry.
macro_rules! handler {
    ($($path:ident)::+) => {
        |shared, call| Box::pin(async move { $($path)::+(&shared, &call).await })
    };
}

static OPERATIONS: &[Operation] = &[
    Operation {
        id: "issueToken",
        method: Verb::Post,
        path: "/oauth/token",
        credential: Credential::Client,
        protocol: Protocol::OAuth,
        summary: "Gives an access token for client credentials (RFC 6749, section 4.4).",
        request: RequestShape::Form(schema_of::<TokenForm>),
        answers: &[ok(schema_of::<TokenResponse>, "A bearer token for an hour.")],
        failures: &[400, 401, 413, 503],
        handler: handler!(calls::oauth::issue_token),
    },
    Operation {
        id: "getKeySet",
        method: Verb::Get,
        path: "/.well-known/jwks.json",
        credential: Credential::Nobody,
        protocol: Protocol::OAuth,
        summary: "Lists the public keys under which access tokens verify (RFC 7517).",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<Jwks>, "The keys of all nodes.")],
        failures: &[503],
        handler: handler!(calls::oauth::key_set),
    },
    Operation {
        id: "getAuthorizationServer",
        method: Verb::Get,
        path: "/.well-known/oauth-authorization-server",
        credential: Credential::Nobody,
        protocol: Protocol::OAuth,
        summary: "Describes the token endpoint (RFC 8414).",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<ServerMetadata>, "Where to ask for tokens, and how.")],
        failures: &[503],
        handler: handler!(calls::oauth::server_metadata),
    },
    Operation {
        id: "checkoutLicense",
        method: Verb::Post,
        path: "/api/v1/licenses/checkout",
        credential: Credential::AccessToken(Scope::Checkout),
        protocol: Protocol::Cloud,
        summary: "Takes a seat: commit first, then overage, else refuses with the reason.",
        request: RequestShape::Json(schema_of::<wire::CheckoutRequest>),
        answers: &[ok(schema_of::<wire::CheckoutResponse>, "A seat is taken.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::checkout::checkout),
    },
    Operation {
        id: "renewLease",
        method: Verb::Put,
        path: "/api/v1/licenses/{lease_id}/heartbeat",
        credential: Credential::AccessToken(Scope::Checkout),
        protocol: Protocol::Cloud,
        summary: "Says that a lease is still in use and extends it.",
        request: RequestShape::Json(schema_of::<wire::HeartbeatRequest>),
        answers: &[ok(schema_of::<wire::HeartbeatResponse>, "The lease lives on.")],
        failures: &[400, 401, 403, 404, 409, 410, 413, 503],
        handler: handler!(calls::heartbeat::heartbeat),
    },
    Operation {
        id: "renewLeases",
        method: Verb::Post,
        path: "/api/v1/licenses/heartbeats",
        credential: Credential::AccessToken(Scope::Checkout),
        protocol: Protocol::Cloud,
        summary: "Extends up to 1,000 leases; each succeeds or fails by itself.",
        request: RequestShape::Json(schema_of::<wire::BulkHeartbeatRequest>),
        answers: &[ok(schema_of::<wire::BulkHeartbeatResponse>, "One result for each lease.")],
        failures: &[400, 401, 403, 413, 503],
        handler: handler!(calls::heartbeat::heartbeats),
    },
    Operation {
        id: "returnLease",
        method: Verb::Post,
        path: "/api/v1/licenses/{lease_id}/return",
        credential: Credential::AccessToken(Scope::Return),
        protocol: Protocol::Cloud,
        summary: "Gives a seat back; asked again, the same answer comes again.",
        request: RequestShape::Json(schema_of::<wire::ReturnRequest>),
        answers: &[ok(schema_of::<wire::ReturnResponse>, "The seat is free.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 503],
        handler: handler!(calls::leases::give_back),
    },
    Operation {
        id: "discoverLicenses",
        method: Verb::Get,
        path: "/api/v1/licenses/discover",
        credential: Credential::AccessToken(Scope::Read),
        protocol: Protocol::Cloud,
        summary: "Lists what the application could check out now.",
        request: RequestShape::Query(calls::discover::parameters),
        answers: &[ok(schema_of::<wire::DiscoverResponse>, "One item for each package.")],
        failures: &[400, 401, 403, 503],
        handler: handler!(calls::discover::discover),
    },
    Operation {
        id: "showLease",
        method: Verb::Get,
        path: "/api/v1/licenses/{lease_id}",
        credential: Credential::AccessToken(Scope::Read),
        protocol: Protocol::Cloud,
        summary: "Shows a live lease of the application.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<wire::LeaseResponse>, "The lease.")],
        failures: &[401, 403, 404, 410, 503],
        handler: handler!(calls::leases::show),
    },
    Operation {
        id: "importPackage",
        method: Verb::Post,
        path: "/admin/licenses/import",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Verifies a signed license package against the pinned vendor key and stores it.",
        request: RequestShape::Json(schema_of::<admin::ImportForm>),
        answers: &[
            ok(schema_of::<admin::ImportResponse>, "The same bytes were stored before."),
            created(schema_of::<admin::ImportResponse>, "The package is stored."),
        ],
        failures: &[400, 401, 403, 409, 413, 422, 429, 503],
        handler: handler!(calls::import::import),
    },
    Operation {
        id: "listVendors",
        method: Verb::Get,
        path: "/admin/vendors",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Lists vendors and the keys pinned for them.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::VendorList>, "Every vendor.")],
        failures: &[401, 403, 503],
        handler: handler!(calls::vendors::list),
    },
    Operation {
        id: "trustVendor",
        method: Verb::Post,
        path: "/admin/vendors",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Pins a vendor's public key.",
        request: RequestShape::Json(schema_of::<admin::TrustVendorRequest>),
        answers: &[
            ok(schema_of::<admin::VendorView>, "This key was pinned before."),
            created(schema_of::<admin::VendorView>, "The key is pinned."),
        ],
        failures: &[400, 401, 403, 409, 413, 422, 429, 503],
        handler: handler!(calls::vendors::trust),
    },
    Operation {
        id: "listPackages",
        method: Verb::Get,
        path: "/admin/packages",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Lists packages with their seats.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::PackageList>, "Every package.")],
        failures: &[401, 403, 503],
        handler: handler!(calls::packages::list),
    },
    Operation {
        id: "showPackage",
        method: Verb::Get,
        path: "/admin/packages/{package_id}",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Shows a package with its seats.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::PackageView>, "The package.")],
        failures: &[401, 403, 404, 503],
        handler: handler!(calls::packages::show),
    },
    Operation {
        id: "suspendPackage",
        method: Verb::Post,
        path: "/admin/packages/{package_id}/suspend",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Stops new seats and renewals of a package until it is resumed.",
        request: RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        answers: &[ok(schema_of::<admin::PackageView>, "The package is suspended.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::packages::suspend),
    },
    Operation {
        id: "resumePackage",
        method: Verb::Post,
        path: "/admin/packages/{package_id}/resume",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Ends a suspension.",
        request: RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        answers: &[ok(schema_of::<admin::PackageView>, "The package is in force.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::packages::resume),
    },
    Operation {
        id: "revokePackage",
        method: Verb::Post,
        path: "/admin/packages/{package_id}/revoke",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Ends a package for good, and all its leases with it.",
        request: RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        answers: &[ok(schema_of::<admin::PackageView>, "The package is revoked.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::packages::revoke),
    },
    Operation {
        id: "listApps",
        method: Verb::Get,
        path: "/admin/apps",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Lists registered applications.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::AppList>, "Every application.")],
        failures: &[401, 403, 503],
        handler: handler!(calls::apps::list),
    },
    Operation {
        id: "registerApp",
        method: Verb::Post,
        path: "/admin/apps",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Registers an application and shows its secret this once.",
        request: RequestShape::Json(schema_of::<admin::RegisterAppRequest>),
        answers: &[created(schema_of::<admin::RegisterAppResponse>, "The application exists.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::apps::register),
    },
    Operation {
        id: "rotateAppSecret",
        method: Verb::Post,
        path: "/admin/apps/{app_id}/rotate-secret",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Gives an application a new secret; tokens given under the old one end.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::RotateSecretResponse>, "The new secret, shown this once.")],
        failures: &[401, 403, 404, 409, 422, 429, 503],
        handler: handler!(calls::apps::rotate_secret),
    },
    Operation {
        id: "removeApp",
        method: Verb::Delete,
        path: "/admin/apps/{app_id}",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Removes an application; its leases run out and cannot be renewed.",
        request: RequestShape::Nothing,
        answers: &[Answer {
            status: 204,
            description: "The application is gone.",
            body: AnswerBody::Nothing,
        }],
        failures: &[401, 403, 404, 422, 429, 503],
        handler: handler!(calls::apps::remove),
    },
    Operation {
        id: "listLeases",
        method: Verb::Get,
        path: "/admin/leases",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Lists live leases page by page, in order of their id.",
        request: RequestShape::Query(calls::admin_leases::parameters),
        answers: &[ok(schema_of::<admin::LeaseList>, "One page.")],
        failures: &[400, 401, 403, 503],
        handler: handler!(calls::admin_leases::list),
    },
    Operation {
        id: "showAnyLease",
        method: Verb::Get,
        path: "/admin/leases/{lease_id}",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Shows a live lease of any application.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::LeaseView>, "The lease.")],
        failures: &[401, 403, 404, 410, 503],
        handler: handler!(calls::admin_leases::show),
    },
    Operation {
        id: "releaseLease",
        method: Verb::Post,
        path: "/admin/leases/{lease_id}/release",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Takes a seat back from its holder.",
        request: RequestShape::OptionalJson(schema_of::<admin::ReasonRequest>),
        answers: &[ok(schema_of::<admin::ReleaseResponse>, "The seat is free.")],
        failures: &[400, 401, 403, 404, 410, 413, 422, 429, 503],
        handler: handler!(calls::admin_leases::release),
    },
    Operation {
        id: "showCluster",
        method: Verb::Get,
        path: "/admin/cluster/status",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Shows how every node stands; works without a quorum.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<ClusterStatus>, "The nodes, in order of id.")],
        failures: &[401, 403, 503],
        handler: handler!(calls::cluster::status),
    },
    Operation {
        id: "getOpenApi",
        method: Verb::Get,
        path: "/openapi.json",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "This document.",
        request: RequestShape::Nothing,
        answers: &[Answer {
            status: 200,
            description: "OpenAPI 3.1.",
            body: AnswerBody::AnyJson,
        }],
        failures: &[],
        handler: handler!(calls::probes::openapi),
    },
    Operation {
        id: "isAlive",
        method: Verb::Get,
        path: "/livez",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "Whether the process runs.",
        request: RequestShape::Nothing,
        answers: &[Answer { status: 200, description: "It runs.", body: AnswerBody::Text }],
        failures: &[],
        handler: handler!(calls::probes::livez),
    },
    Operation {
        id: "isReady",
        method: Verb::Get,
        path: "/readyz",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "Whether the node is recovered, unsealed and in touch with a quorum.",
        request: RequestShape::Query(calls::probes::parameters),
        answers: &[Answer { status: 200, description: "It is.", body: AnswerBody::Text }],
        failures: &[503],
        handler: handler!(calls::probes::readyz),
    },
    Operation {
        id: "getMetrics",
        method: Verb::Get,
        path: "/metrics",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "Metrics in the text format of Prometheus.",
        request: RequestShape::Nothing,
        answers: &[Answer { status: 200, description: "Samples.", body: AnswerBody::Text }],
        failures: &[],
        handler: handler!(calls::probes::metrics),
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_places_are_unique() {
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for operation in operations() {
            assert!(ids.insert(operation.id), "{} twice", operation.id);
            let place = (operation.method.http().to_string(), operation.path);
            assert!(places.insert(place), "{} has another's place", operation.id);
        }
    }

    #[test]
    fn rows_are_consistent() {
        for operation in operations() {
            let id = operation.id;
            assert!(operation.path.starts_with('/'), "{id}");
            assert!(operation.path.matches('{').count() <= 1, "{id}: one variable segment");
            assert!(operation.summary.ends_with('.'), "{id}");
            assert!(!operation.answers.is_empty(), "{id}");
            assert!(operation.answers.iter().all(|answer| (200..300).contains(&answer.status)));
            assert!(operation.failures.is_sorted(), "{id}");
            let needs_credential = operation.credential != Credential::Nobody;
            assert_eq!(operation.failures.contains(&401), needs_credential, "{id}");
            assert_eq!(operation.failures.contains(&413), operation.takes_body(), "{id}");
            if operation.path.starts_with("/admin/") {
                assert!(matches!(operation.credential, Credential::Operator(_)), "{id}");
            }
            if operation.path.starts_with("/api/") {
                assert!(matches!(operation.credential, Credential::AccessToken(_)), "{id}");
            }
            if operation.method != Verb::Get {
                assert!(needs_credential, "{id} changes something for anybody");
            }
        }
    }

    #[test]
    fn allow_names_what_a_path_takes() {
        let table = [
            ("/api/v1/licenses/discover", "GET, HEAD"),
            ("/api/v1/licenses/checkout", "POST"),
            ("/api/v1/licenses/lease-x", "GET, HEAD"),
            ("/api/v1/licenses/lease-x/return", "POST"),
            ("/admin/vendors", "GET, HEAD, POST"),
            ("/admin/apps/app-1", "DELETE"),
            ("/nowhere", ""),
        ];
        for (path, allowed) in table {
            assert_eq!(allowed_methods(path), allowed, "{path}");
        }
    }
}
