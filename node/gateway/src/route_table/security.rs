//! The routes about certificates, keys, and how applications are let in.

use lease::command::Role;
use protocol::cloud::admin;

use super::{ok, schema_of};
use crate::calls;
use crate::routes::{Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listCertificates",
        method: Verb::Get,
        path: "/admin/certs",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Shows every node's certificates, and the authorities they come from.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::CertificateStatus>, "By node.")],
        failures: &[401, 403, 503],
        handler: handler!(calls::certs::status),
    },
    Operation {
        id: "rotateCertificates",
        method: Verb::Post,
        path: "/admin/certs/rotate",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Has nodes make new certificates, or goes a step towards another authority.",
        request: RequestShape::OptionalJson(schema_of::<admin::RotateCertificatesRequest>),
        answers: &[ok(schema_of::<admin::RotateCertificatesResponse>, "How far it is.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::certs::rotate),
    },
    Operation {
        id: "listKeys",
        method: Verb::Get,
        path: "/admin/keys",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Shows the versions of the cluster's keys, and what depends on them; no key.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::KeyStatus>, "The versions.")],
        failures: &[401, 403, 503],
        handler: handler!(calls::keys::status),
    },
    Operation {
        id: "rotateKey",
        method: Verb::Post,
        path: "/admin/keys/rotate",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Makes a new version of a key, or lets the old ones go.",
        request: RequestShape::Json(schema_of::<admin::RotateKeyRequest>),
        answers: &[ok(schema_of::<admin::RotateKeyResponse>, "What is in use.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::keys::rotate),
    },
    Operation {
        id: "showAppPolicy",
        method: Verb::Get,
        path: "/admin/apps/{app_id}/policy",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Shows how an application is let in, beside its secret.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::AppPolicyView>, "The policy.")],
        failures: &[401, 403, 404, 503],
        handler: handler!(calls::app_policy::show),
    },
    Operation {
        id: "setAppPolicy",
        method: Verb::Put,
        path: "/admin/apps/{app_id}/policy",
        credential: Credential::Operator(Role::Admin),
        protocol: Protocol::Admin,
        summary: "Says how an application is let in: certificates, rates, what signs its tokens.",
        request: RequestShape::Json(schema_of::<admin::AppPolicy>),
        answers: &[ok(schema_of::<admin::AppPolicyView>, "The policy.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::app_policy::set),
    },
];
