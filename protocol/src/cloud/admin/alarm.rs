//! Alarms: what is wrong with a node.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::UtcTime;

/// `GET /admin/alarms`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlarmList {
    /// Alarms in order of node and kind; a cluster has at most six for each node.
    pub alarms: Vec<AlarmView>,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlarmView {
    /// The node that it is about.
    #[schema(example = 2)]
    pub node_id: u64,
    /// `NOSPACE`, `CLOCK`, `CORRUPT`, `CERT`, `LAG` or `REFUSED`; a later release may have more.
    #[schema(example = "NOSPACE")]
    pub kind: String,
    /// The measured value and its bound, for people.
    #[schema(example = "180 MiB free of 40 GiB, at least 292 MiB are needed")]
    pub detail: String,
    /// Since when it stands; absent where it is not in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UtcTime>,
    /// Whether it is in the log, and so known to all. One that is not was found by a node that
    /// cannot write: there is no quorum.
    pub logged: bool,
    /// Whether a node that answered finds the cause now. What stands without a cause ends by
    /// itself within minutes, or by `alarm clear`.
    pub found_now: bool,
}
