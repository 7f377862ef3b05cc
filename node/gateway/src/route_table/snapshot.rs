//! The route of backups.

use lease::command::Role;

use crate::calls;
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[Operation {
    id: "saveSnapshot",
    method: Verb::Get,
    path: "/admin/snapshot",
    credential: Credential::Operator(Role::Admin),
    protocol: Protocol::Admin,
    summary: "Streams the state of the cluster as a snapshot file, for a backup.",
    request: RequestShape::Nothing,
    answers: &[Answer {
        status: 200,
        description: "The file. It holds everything that was answered before the call.",
        body: AnswerBody::Bytes,
    }],
    failures: &[401, 403, 503],
    handler: handler!(calls::snapshot::save),
}];
