//! The one table of routes: what is not in it does not exist.
//!
//! One file for each part of the face, so that each is read, and grows, by itself. All rows are
//! put together here and nowhere else.

use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Ref, RefOr};

use crate::routes::{Answer, AnswerBody, Operation, SchemaOf};

/// Wraps an async function into a table's entry.
macro_rules! handler {
    ($($path:ident)::+) => {
        |shared, call| Box::pin(async move { $($path)::+(&shared, &call).await })
    };
}

mod admin;
mod alarms;
mod audit;
mod classic;
mod cloud;
mod deployment;
mod device;
mod device_admin;
mod docs;
mod evaluation;
mod licenses;
mod members;
mod offline;
mod operations;
mod pools;
mod security;
mod snapshot;

/// Every operation.
pub(crate) fn operations() -> impl Iterator<Item = &'static Operation> {
    TABLES.iter().flat_map(|table| table.iter())
}

static TABLES: &[&[Operation]] = &[
    cloud::OPERATIONS,
    offline::OPERATIONS,
    device::OPERATIONS,
    device_admin::OPERATIONS,
    deployment::OPERATIONS,
    evaluation::OPERATIONS,
    classic::OPERATIONS,
    admin::OPERATIONS,
    alarms::OPERATIONS,
    audit::OPERATIONS,
    licenses::OPERATIONS,
    members::OPERATIONS,
    pools::OPERATIONS,
    snapshot::OPERATIONS,
    docs::OPERATIONS,
    security::OPERATIONS,
    operations::OPERATIONS,
];

/// Adds a type's schemas to the document and refers to it.
fn schema_of<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema> {
    let name = T::name().into_owned();
    schemas.push((name.clone(), T::schema()));
    T::schemas(schemas);
    RefOr::Ref(Ref::from_schema_name(name))
}

/// A row's way to succeed with 200 and JSON.
const fn ok(body: SchemaOf, description: &'static str) -> Answer {
    Answer { status: 200, description, body: AnswerBody::Json(body) }
}

/// The same with 201.
const fn created(body: SchemaOf, description: &'static str) -> Answer {
    Answer { status: 201, description, body: AnswerBody::Json(body) }
}
