//! The routes of whoever reads about the API: the page, its stylesheet, the schema of packages.

use crate::calls::docs;
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "getDocs",
        method: Verb::Get,
        path: "/docs",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "This document as a page to read.",
        request: RequestShape::Nothing,
        answers: &[Answer {
            status: 200,
            description: "The page.",
            body: AnswerBody::Media("text/html"),
        }],
        failures: &[],
        handler: handler!(docs::page),
    },
    Operation {
        id: "getDocsStyle",
        method: Verb::Get,
        path: "/docs/style.css",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "How the page looks.",
        request: RequestShape::Nothing,
        answers: &[Answer {
            status: 200,
            description: "The stylesheet.",
            body: AnswerBody::Media("text/css"),
        }],
        failures: &[],
        handler: handler!(docs::style),
    },
    Operation {
        id: "getPackageSchema",
        method: Verb::Get,
        path: "/schemas/package.schema.json",
        credential: Credential::Nobody,
        protocol: Protocol::Operations,
        summary: "What a license package looks like.",
        request: RequestShape::Nothing,
        answers: &[Answer {
            status: 200,
            description: "A JSON Schema.",
            body: AnswerBody::Media("application/schema+json"),
        }],
        failures: &[],
        handler: handler!(docs::package_schema),
    },
];
