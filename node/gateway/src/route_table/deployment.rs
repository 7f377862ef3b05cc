//! The routes of the `deployment` protocol, at `/v1/license` and `/v1/telemetry`.

use crate::routes::Operation;

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[];
