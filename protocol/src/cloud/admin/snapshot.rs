//! Backups that a node writes into its own directory.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /admin/snapshots`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// Which node is to write one; the one that answers when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 2)]
    pub node_id: Option<u64>,
}

/// Answer of `POST /admin/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotResponse {
    /// The node.
    #[schema(example = 2)]
    pub node_id: u64,
    /// The file that it wrote.
    #[schema(example = "/backup/leasehold-lh-3f2a9c5d7e11a0b2-1-48211.snapshot")]
    pub file: String,
}
