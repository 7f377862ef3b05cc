//! The routes of operators for license keys, plans, clients, devices and activations.

use crate::routes::Operation;

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[];
