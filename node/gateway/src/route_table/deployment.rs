//! The routes of `deployment`: clusters of machines with one license key.

use protocol::deployment::{telemetry, wire};

use super::{ok, schema_of};
use crate::calls::deployment;
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "activateCluster",
        method: Verb::Post,
        path: "/v1/license/activate",
        credential: Credential::Face,
        protocol: Protocol::Deployment,
        summary: "Shows what a license is worth (setup), or takes its slot (runtime).",
        request: RequestShape::Json(schema_of::<wire::ActivateRequest>),
        answers: &[ok(schema_of::<wire::TokenAnswer>, "What it is worth, and tokens.")],
        failures: &[400, 403, 404, 409, 413, 429, 503],
        handler: handler!(deployment::activate),
    },
    Operation {
        id: "heartbeatCluster",
        method: Verb::Post,
        path: "/v1/license/heartbeat",
        credential: Credential::Face,
        protocol: Protocol::Deployment,
        summary: "Keeps a license's slot and gives newer tokens.",
        request: RequestShape::Json(schema_of::<wire::HeartbeatRequest>),
        answers: &[ok(schema_of::<wire::TokenAnswer>, "The slot lasts.")],
        failures: &[400, 401, 403, 404, 409, 413, 429, 503],
        handler: handler!(deployment::heartbeat),
    },
    Operation {
        id: "deactivateCluster",
        method: Verb::Post,
        path: "/v1/license/deactivate",
        credential: Credential::Face,
        protocol: Protocol::Deployment,
        summary: "Gives a license's slot back; repeatable.",
        request: RequestShape::Json(schema_of::<wire::DeactivateRequest>),
        answers: &[ok(schema_of::<wire::DeactivateAnswer>, "The slot is free.")],
        failures: &[400, 404, 413, 429, 503],
        handler: handler!(deployment::deactivate),
    },
    Operation {
        id: "getOfflineKey",
        method: Verb::Get,
        path: "/v1/license/offline-key",
        credential: Credential::Nobody,
        protocol: Protocol::Deployment,
        summary: "Shows the public key under which offline tokens verify.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<wire::OfflineKeyAnswer>, "The key.")],
        failures: &[503],
        handler: handler!(deployment::offline_key),
    },
    Operation {
        id: "reportTelemetry",
        method: Verb::Post,
        path: "/v1/telemetry",
        credential: Credential::Face,
        protocol: Protocol::Deployment,
        summary: "Counts what a job used, once, and says what the plan has left.",
        request: RequestShape::Json(schema_of::<telemetry::TelemetryRequest>),
        answers: &[Answer {
            status: 202,
            description: "The amounts are counted.",
            body: AnswerBody::Json(schema_of::<telemetry::TelemetryAnswer>),
        }],
        failures: &[400, 401, 403, 413, 429, 503],
        handler: handler!(deployment::telemetry::report),
    },
];
