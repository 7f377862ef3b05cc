//! The routes of offline tokens: borrow, return, validate, and the keys they verify under.

use crate::routes::Operation;

/// The rows.
pub(super) static OPERATIONS: &[Operation] = &[];
