//! The route of backups.

use lease::command::Role;
use protocol::cloud::admin::{SnapshotRequest, SnapshotResponse};

use super::{ok, schema_of};
use crate::calls;
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
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
    },
    Operation {
        id: "saveSnapshotOnNode",
        method: Verb::Post,
        path: "/admin/snapshots",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Has a node write a backup into its configured directory now.",
        request: RequestShape::OptionalJson(schema_of::<SnapshotRequest>),
        answers: &[ok(schema_of::<SnapshotResponse>, "It is there, whole and verified.")],
        failures: &[400, 401, 403, 404, 409, 413, 500, 503],
        handler: handler!(calls::snapshot::save_on_node),
    },
];
