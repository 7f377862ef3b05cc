//! The routes of the `classic` face; they exist only while it is switched on.
//!
//! Calls for operators stand here as the face's own, since their 401 and 403 have sentences of
//! their document; their handlers ask for the token.

use protocol::classic::wire;

use super::{ok, schema_of};
use crate::calls::classic;
use crate::calls::classic::{admin, borrow, budget, keys, stream, tools};
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// A call of the face.
macro_rules! classic {
    ($id:literal $method:ident $path:literal $credential:ident, $summary:literal, $request:expr,
     $answer:expr, $failures:expr, $handler:expr) => {
        Operation {
            id: $id,
            method: Verb::$method,
            path: $path,
            credential: Credential::$credential,
            protocol: Protocol::Classic,
            summary: $summary,
            request: $request,
            answers: &[$answer],
            failures: $failures,
            handler: $handler,
        }
    };
}

const READ: &[u16] = &[503];
const OPERATOR_READS: &[u16] = &[401, 403, 503];
const OPERATOR_CHANGES: &[u16] = &[401, 403, 404, 413, 422, 429, 503];

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    classic!("classicBorrow" Post "/licenses/borrow" Face,
        "Takes a seat of a tool; signed with a vendor's secret.",
        RequestShape::Json(schema_of::<wire::BorrowRequest>),
        ok(schema_of::<wire::Borrow>, "The seat is taken."),
        &[403, 409, 413, 422, 429, 503], handler!(borrow::borrow)),
    classic!("classicReturn" Post "/licenses/return" Face,
        "Gives a seat back by the borrow's id.",
        RequestShape::Json(schema_of::<wire::ReturnRequest>),
        ok(schema_of::<wire::ReturnAnswer>, "The seat is free."),
        &[403, 404, 413, 422, 429, 503], handler!(borrow::give_back)),
    classic!("classicStatusOfAll" Get "/licenses/status" Nobody,
        "Shows the seats and costs of every tool.", RequestShape::Nothing,
        ok(schema_of::<Vec<wire::ToolStatus>>, "Every tool, in order of name."), READ,
        handler!(tools::list)),
    classic!("classicStatus" Get "/licenses/{tool}/status" Nobody,
        "Shows the seats and costs of a tool.", RequestShape::Nothing,
        ok(schema_of::<wire::ToolStatus>, "The tool."), &[404, 503], handler!(tools::show)),
    classic!("classicBorrows" Get "/borrows" Face,
        "Lists what is borrowed through this face, newest first; to an API key its own.",
        RequestShape::Query(classic::user_parameters),
        ok(schema_of::<Vec<wire::Borrow>>, "The borrows."), &[400, 401, 403, 503],
        handler!(borrow::list)),
    classic!("classicOverageCharges" Get "/overage-charges" Face,
        "Lists what overage seats cost that are borrowed through this face, newest first; to an \
         API key its own.",
        RequestShape::Query(classic::tool_parameters),
        ok(schema_of::<wire::OverageCharges>, "The charges."), &[400, 401, 403, 503],
        handler!(borrow::charges)),
    classic!("classicVersion" Get "/version" Nobody, "Shows the server's version.",
        RequestShape::Nothing, ok(schema_of::<wire::Version>, "The version."), READ,
        handler!(classic::version)),
    classic!("classicStream" Get "/realtime/stream" Nobody,
        "Sends the status of all tools every two seconds, as server-sent events.",
        RequestShape::Nothing,
        Answer { status: 200, description: "Events.", body: AnswerBody::Text }, READ,
        |shared, call| Box::pin(stream::open(shared, call))),
    classic!("classicShowBudget" Get "/config/budget" Face,
        "Shows what overage of every tool has cost this month and may cost; for operators.",
        RequestShape::Nothing, ok(schema_of::<wire::Budget>, "Every tool, in order of name."),
        OPERATOR_READS, handler!(budget::show)),
    classic!("classicSetBudget" Put "/config/budget" Face,
        "Bounds what overage of a tool may cost in a month; for operators.",
        RequestShape::Json(schema_of::<wire::ProtectionRequest>),
        ok(schema_of::<wire::ProtectionAnswer>, "The bound is in force."),
        OPERATOR_CHANGES, handler!(budget::set)),
    classic!("classicSetProtection" Put "/config/protection" Face,
        "The same under its other name.",
        RequestShape::Json(schema_of::<wire::ProtectionRequest>),
        ok(schema_of::<wire::ProtectionAnswer>, "The bound is in force."),
        OPERATOR_CHANGES, handler!(budget::set)),
    classic!("classicListKeys" Get "/api/keys" Face,
        "Lists API keys, newest first; for operators.", RequestShape::Nothing,
        ok(schema_of::<wire::Keys>, "The keys."), OPERATOR_READS, handler!(keys::list)),
    classic!("classicNewKey" Post "/api/keys" Face,
        "Makes an API key and shows it this once; for operators.",
        RequestShape::Json(schema_of::<wire::NewKeyRequest>),
        ok(schema_of::<wire::NewKeyAnswer>, "The key."),
        &[401, 403, 413, 422, 429, 503], handler!(keys::make)),
    classic!("classicRevokeKey" Delete "/api/keys/{key_id}" Face,
        "Takes an API key back; for operators.", RequestShape::Nothing,
        ok(schema_of::<wire::KeyRevoked>, "The key is unknown from now on."),
        &[401, 403, 404, 429, 503], handler!(keys::revoke)),
    classic!("classicTenants" Get "/api/admin/tenants" Face,
        "Lists those who have API keys; for operators.", RequestShape::Nothing,
        ok(schema_of::<admin::Tenants>, "The tenants."), OPERATOR_READS,
        handler!(admin::tenants)),
    classic!("classicVendors" Get "/api/admin/vendors" Face,
        "Lists those whose clients may sign; for operators.", RequestShape::Nothing,
        ok(schema_of::<admin::Vendors>, "The vendors."), OPERATOR_READS,
        handler!(admin::vendors)),
    classic!("classicStats" Get "/api/admin/stats" Face,
        "Shows totals over all tools; for operators.", RequestShape::Nothing,
        ok(schema_of::<admin::Stats>, "The totals."), OPERATOR_READS, handler!(admin::stats)),
];
