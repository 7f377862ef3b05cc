//! The routes of the `device` protocol: activate, verify, trials, health.

use crate::routes::Operation;

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[];
