//! The routes of `cloud`: access tokens, and seats taken, renewed and given back with them.
//!
//! Long because it is a table; nothing here is code.

use protocol::cloud::lease as wire;
use protocol::oauth::Scope;
use protocol::oauth::claims::{Jwks, ServerMetadata};
use protocol::oauth::token::{TokenForm, TokenResponse};

use super::{ok, schema_of};
use crate::calls;
use crate::routes::{Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
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
];
