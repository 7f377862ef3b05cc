//! The routes of `evaluation`: hosts under evaluation licenses.
//!
//! Each of the two calls has a second address, because the published client appends the call's name
//! to a base that ends in `/v1/validate` already.

use protocol::evaluation::wire;

use super::{ok, schema_of};
use crate::calls::evaluation;
use crate::routes::{Credential, Operation, Protocol, RequestShape, Verb};

/// An activation at one of its addresses.
macro_rules! activation {
    ($id:literal $path:literal) => {
        Operation {
            id: $id,
            method: Verb::Post,
            path: $path,
            credential: Credential::Face,
            protocol: Protocol::Evaluation,
            summary: "Activates an evaluation on a host; answers refusals with ok:false.",
            request: RequestShape::Json(schema_of::<wire::ActivateRequest>),
            answers: &[ok(schema_of::<wire::Answer>, "Granted with a license file, or refused.")],
            failures: &[400, 413, 429, 503],
            handler: handler!(evaluation::activate),
        }
    };
}

/// A validation at one of its addresses.
macro_rules! validation {
    ($id:literal $path:literal) => {
        Operation {
            id: $id,
            method: Verb::Post,
            path: $path,
            credential: Credential::Face,
            protocol: Protocol::Evaluation,
            summary: "Says whether an activation still holds; answers refusals with ok:false.",
            request: RequestShape::Json(schema_of::<wire::ValidateRequest>),
            answers: &[ok(schema_of::<wire::Answer>, "Granted, or refused.")],
            failures: &[400, 413, 429, 503],
            handler: handler!(evaluation::validate),
        }
    };
}

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[
    activation!("activateEvaluation" "/v1/activate"),
    validation!("validateEvaluation" "/v1/validate"),
    activation!("activateEvaluationAlias" "/v1/validate/activate"),
    validation!("validateEvaluationAlias" "/v1/validate/validate"),
];
