//! The routes of the `device` protocol's own admin tools, under an API key.

use crate::routes::Operation;

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[];
