//! The routes about alarms.

use lease::command::Role;
use protocol::cloud::admin;

use super::{ok, schema_of};
use crate::calls;
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listAlarms",
        method: Verb::Get,
        path: "/admin/alarms",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Lists what is wrong with the nodes; works without a quorum.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::AlarmList>, "Every alarm.")],
        failures: &[401, 403, 503],
        handler: handler!(calls::alarms::list),
    },
    Operation {
        id: "clearAlarm",
        method: Verb::Delete,
        path: "/admin/alarms/{node_id}/{kind}",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Clears an alarm; one whose cause is still there is raised again.",
        request: RequestShape::Nothing,
        answers: &[Answer {
            status: 204,
            description: "The alarm is cleared.",
            body: AnswerBody::Nothing,
        }],
        failures: &[401, 403, 404, 422, 429, 503],
        handler: handler!(calls::alarms::clear),
    },
];
