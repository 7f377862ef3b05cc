//! The routes of the `classic` face; they exist only while it is switched on.

use crate::routes::Operation;

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[];
