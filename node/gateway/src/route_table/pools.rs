//! The routes of pools, and of reports about use and cost.

use lease::command::Role;
use protocol::cloud::admin;

use super::{created, ok, schema_of};
use crate::calls;
use crate::routes::{Answer, AnswerBody, Credential, Operation, Protocol, RequestShape, Verb};

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "transferSeats",
        method: Verb::Post,
        path: "/admin/licenses/transfer",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Moves free seats between pools of a package, all or none.",
        request: RequestShape::Json(schema_of::<admin::TransferSeatsRequest>),
        answers: &[ok(schema_of::<admin::TransferSeatsResponse>, "The seats moved.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::pools::transfer),
    },
    Operation {
        id: "listPools",
        method: Verb::Get,
        path: "/admin/pools",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Lists pools with their seats and use, page by page.",
        request: RequestShape::Query(calls::pools::parameters),
        answers: &[ok(schema_of::<admin::PoolList>, "One page.")],
        failures: &[400, 401, 403, 503],
        handler: handler!(calls::pools::list),
    },
    Operation {
        id: "createPool",
        method: Verb::Post,
        path: "/admin/pools",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Makes a pool of unassigned seats, and says for whom it is kept.",
        request: RequestShape::Json(schema_of::<admin::CreatePoolRequest>),
        answers: &[created(schema_of::<admin::PoolView>, "The pool exists.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::pools::create),
    },
    Operation {
        id: "showPool",
        method: Verb::Get,
        path: "/admin/pools/{package_id}/{pool}",
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary: "Shows a pool with its seats and use, and for whom it is kept.",
        request: RequestShape::Nothing,
        answers: &[ok(schema_of::<admin::PoolView>, "The pool.")],
        failures: &[401, 403, 404, 503],
        handler: handler!(calls::pools::show),
    },
    Operation {
        id: "changePool",
        method: Verb::Put,
        path: "/admin/pools/{package_id}/{pool}",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Changes a pool's share, for whom it is kept, or both.",
        request: RequestShape::Json(schema_of::<admin::ChangePoolRequest>),
        answers: &[ok(schema_of::<admin::PoolView>, "The pool as it is now.")],
        failures: &[400, 401, 403, 404, 409, 413, 422, 429, 503],
        handler: handler!(calls::pools::change),
    },
    Operation {
        id: "removePool",
        method: Verb::Delete,
        path: "/admin/pools/{package_id}/{pool}",
        credential: Credential::Operator(Role::Operator),
        protocol: Protocol::Admin,
        summary: "Gives a pool's seats back to the unassigned ones; none of them may be out.",
        request: RequestShape::Nothing,
        answers: &[Answer {
            status: 204,
            description: "The pool is gone.",
            body: AnswerBody::Nothing,
        }],
        failures: &[401, 403, 404, 409, 422, 429, 503],
        handler: handler!(calls::pools::remove),
    },
    report(
        "showUsage",
        "/admin/usage",
        "Shows current and peak use of packages and pools, page by page.",
        calls::usage::parameters,
        &[csv(schema_of::<admin::UsageList>)],
        handler!(calls::usage::show),
    ),
    report(
        "listRefusals",
        "/admin/usage/refusals",
        "Counts refusals by package and reason.",
        calls::usage::parameters,
        &[csv(schema_of::<admin::RefusalList>)],
        handler!(calls::usage::refusals),
    ),
    report(
        "showCosts",
        "/admin/usage/costs",
        "Shows what packages cost so far this month: fees for commit seats, and overage.",
        calls::usage::parameters,
        &[csv(schema_of::<admin::CostList>)],
        handler!(calls::usage::costs::show),
    ),
    report(
        "listUnused",
        "/admin/usage/unused",
        "Lists packages, pools and licenses that were not used for some days.",
        calls::usage::unused::parameters,
        &[csv(schema_of::<admin::UnusedList>)],
        handler!(calls::usage::unused::show),
    ),
];

const fn report(
    id: &'static str,
    path: &'static str,
    summary: &'static str,
    parameters: fn() -> Vec<utoipa::openapi::path::Parameter>,
    answers: &'static [Answer],
    handler: crate::routes::Handler,
) -> Operation {
    Operation {
        id,
        method: Verb::Get,
        path,
        credential: Credential::Operator(Role::Auditor),
        protocol: Protocol::Admin,
        summary,
        request: RequestShape::Query(parameters),
        answers,
        failures: &[400, 401, 403, 503],
        handler,
    }
}

const fn csv(body: crate::routes::SchemaOf) -> Answer {
    let description = "One page, in JSON or as CSV.";
    Answer { status: 200, description, body: AnswerBody::JsonOrCsv(body) }
}
