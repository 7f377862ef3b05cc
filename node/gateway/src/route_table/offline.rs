//! The routes of offline tokens: borrow, return, validate, and the keys they verify under.

use protocol::cloud::lease as wire;
use protocol::oauth::Scope;
use protocol::oauth::claims::Jwks;

use super::{ok, schema_of};
use crate::calls;
use crate::routes::{Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "borrowLease",
        method: Verb::Post,
        path: "/api/v1/licenses/{lease_id}/borrow",
        credential: Credential::AccessToken(Scope::Checkout),
        protocol: Protocol::Cloud,
        summary: "Lengthens a lease and gives an offline token that proves it.",
        request: RequestShape::Json(schema_of::<wire::BorrowRequest>),
        answers: &[ok(schema_of::<wire::BorrowResponse>, "The seat may leave the network.")],
        failures: &[400, 401, 403, 404, 409, 410, 413, 503],
        handler: handler!(calls::offline::borrow),
    },
    Operation {
        id: "returnBorrow",
        method: Verb::Post,
        path: "/api/v1/licenses/{lease_id}/return-borrow",
        credential: Credential::AccessToken(Scope::Checkout),
        protocol: Protocol::Cloud,
        summary: "Ends a borrow early; the lease goes on as an ordinary one.",
        request: RequestShape::Json(schema_of::<wire::ReturnBorrowRequest>),
        answers: &[ok(schema_of::<wire::HeartbeatResponse>, "The lease lives on, renewed now.")],
        failures: &[400, 401, 403, 404, 409, 410, 413, 503],
        handler: handler!(calls::offline::return_borrow),
    },
    Operation {
        id: "validateOfflineToken",
        method: Verb::Post,
        path: "/api/v1/offline/validate",
        credential: Credential::AccessToken(Scope::Read),
        protocol: Protocol::Cloud,
        summary: "Says what an offline token of one of the application's leases is worth now.",
        request: RequestShape::Json(schema_of::<wire::OfflineValidateRequest>),
        answers: &[ok(schema_of::<wire::OfflineValidateResponse>, "What it is worth.")],
        failures: &[400, 401, 403, 404, 413, 503],
        handler: handler!(calls::offline::validate),
    },
    Operation {
        id: "getOfflineKeySet",
        method: Verb::Get,
        path: "/.well-known/leasehold-offline-keys.json",
        credential: Credential::Nobody,
        protocol: Protocol::OAuth,
        summary: "Lists the public keys under which offline tokens verify (RFC 7517, RFC 8037).",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<Jwks>, "The keys.")],
        failures: &[503],
        handler: handler!(calls::offline::keys),
    },
];
