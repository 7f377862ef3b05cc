//! The routes of whoever watches a node: probes, metrics, the OpenAPI document.

use crate::calls;
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "getOpenApi",
        method: Verb::Get,
        path: "/openapi.json",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "This document.",
        request: RequestShape::Nothing,
        answers: &[Answer { status: 200, description: "OpenAPI 3.1.", body: AnswerBody::AnyJson }],
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
        summary: "Whether the node is recovered, unsealed, undamaged and in touch with a quorum.",
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
        answers: &[Answer {
            status: 200,
            description: "Samples.",
            body: AnswerBody::Media("application/openmetrics-text"),
        }],
        failures: &[],
        handler: handler!(calls::probes::metrics),
    },
];
