//! The routes of the `evaluation` protocol: activate, validate, and their aliases.

use crate::routes::Operation;

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[];
