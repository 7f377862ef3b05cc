//! How a cluster is: its status, its health, its alarms.
//!
//! The answer of a node that sees no leader may only mean that this node is cut off, so the other
//! servers are asked as well, and the answer that has a leader counts.
//!
//! | module | verb |
//! |---|---|
//! | this one | asking, and what is read of the answer |
//! | [`status`] | `cluster status` |
//! | [`health`] | `cluster health` |
//! | [`alarm`] | `alarm list`, `alarm clear` |
//! | [`endpoint`] | both of the first under the names that etcdctl has |

pub(crate) mod alarm;
pub(crate) mod endpoint;
pub(crate) mod health;
pub(crate) mod status;

use protocol::cloud::admin::AlarmView;
use protocol::wire::{Id64, UtcTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Request;
use crate::error::{CliError, Result};
use crate::exit::Exit;
use crate::session::Session;

/// What this release reads of the answer; scripts get all of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = StatusDocument))]
pub(crate) struct Status {
    pub(crate) cluster_id: String,
    pub(crate) leader: Option<u64>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) quorum: Quorum,
    pub(crate) civil_time: Option<UtcTime>,
    pub(crate) audit_head_seq: Option<Id64>,
    pub(crate) audit_floor_seq: Option<Id64>,
    pub(crate) grace_left_ms: Option<u64>,
    pub(crate) alarms: Vec<AlarmView>,
    pub(crate) nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = StatusEpoch))]
pub(crate) struct Epoch {
    pub(crate) number: u32,
    pub(crate) incarnation: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = StatusQuorum))]
pub(crate) struct Quorum {
    pub(crate) voters: u32,
    pub(crate) needed: u32,
    pub(crate) answering: u32,
    pub(crate) may_fail: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = StatusNode))]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) role: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) peer: String,
    pub(crate) gateway: String,
    pub(crate) term: Option<Id64>,
    pub(crate) applied_index: Option<Id64>,
    pub(crate) lag: Option<Id64>,
    pub(crate) quorum_ack_age_ms: Option<u64>,
    pub(crate) sealed: Option<bool>,
    pub(crate) alarms: Vec<String>,
    pub(crate) voter: bool,
    pub(crate) detail: Option<Detail>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(utoipa::ToSchema), schema(as = StatusDetail))]
pub(crate) struct Detail {
    pub(crate) version: String,
    pub(crate) preset: String,
    pub(crate) uptime_ms: u64,
    pub(crate) draining: bool,
    pub(crate) recovered: bool,
    pub(crate) has_room: bool,
    pub(crate) leader_contact_age_ms: Option<u64>,
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) epoch: u32,
    pub(crate) leader_changes: u64,
    pub(crate) fsync_p99_us: Option<u64>,
    pub(crate) fsyncs: u64,
    pub(crate) disk_total_bytes: u64,
    pub(crate) disk_free_bytes: u64,
    pub(crate) disk_reserve_bytes: u64,
    pub(crate) data_bytes: u64,
    pub(crate) certificate_until: Option<UtcTime>,
    pub(crate) certificate_purpose: Option<String>,
    pub(crate) data_key_version: u32,
    pub(crate) last_backup_at: Option<UtcTime>,
    pub(crate) descriptors: u64,
}

impl Node {
    pub(crate) fn is_up(&self) -> bool {
        self.role != "unreachable"
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed == Some(true)
    }

    /// Whether it has applied what there is, but for what is under way.
    pub(crate) fn is_caught_up(&self) -> bool {
        let is_near = self.lag.is_none_or(|lag| lag.0 <= CAUGHT_UP_ENTRIES);
        is_near && self.detail.as_ref().is_none_or(|detail| detail.recovered)
    }

    /// Region and zone, as far as they are set.
    pub(crate) fn place(&self) -> String {
        let labels = [&self.region, &self.zone].into_iter();
        labels.filter(|label| !label.is_empty()).cloned().collect::<Vec<_>>().join("/")
    }
}

impl Status {
    /// Who leads, with a quorum behind it.
    pub(crate) fn leading(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.role == "leader")
    }

    /// What nodes that answer say of themselves.
    pub(crate) fn details(&self) -> impl Iterator<Item = (&Node, &Detail)> {
        self.nodes.iter().filter_map(|node| Some((node, node.detail.as_ref()?)))
    }
}

/// The status from the server that knows most, and the whole of its answer.
pub(crate) async fn gather(session: &Session<'_>) -> Result<(Status, Value)> {
    let mut seen: Option<(Status, Value)> = None;
    let mut first_error = None;
    for server in 0..session.client.server_count() {
        match ask(session, server).await {
            Ok((status, json)) => {
                let has_leader = status.leading().is_some();
                if has_leader || seen.is_none() {
                    seen = Some((status, json));
                }
                if has_leader {
                    break;
                }
            }
            Err(error) => first_error = Some(worse(first_error, error)),
        }
    }
    match (seen, first_error) {
        (Some(seen), _) => Ok(seen),
        // The nodes are there, and not one of them serves.
        (None, Some(CliError::Refused(refusal))) if refusal.exit() == Exit::NoQuorum => {
            Err(CliError::NotServing(refusal))
        }
        (None, Some(error)) => Err(error),
        (None, None) => Err(CliError::NotReachable { tried: Vec::new() }),
    }
}

async fn ask(session: &Session<'_>, server: usize) -> Result<(Status, Value)> {
    let request =
        Request::get(&["admin", "cluster", "status"]).bearer(session.settings.operator_token()?);
    let answer = session.client.ask(server, &request).await?;
    Ok((answer.json()?, answer.json()?))
}

/// Of two servers that failed, what to tell: an answer says more than none, and none is told of
/// all.
fn worse(first: Option<CliError>, error: CliError) -> CliError {
    match (first, error) {
        (Some(CliError::NotReachable { mut tried }), CliError::NotReachable { tried: more }) => {
            tried.extend(more);
            CliError::NotReachable { tried }
        }
        (Some(CliError::NotReachable { .. }) | None, error) => error,
        (Some(first), _) => first,
    }
}

/// One line about an alarm.
pub(crate) fn alarm_line(alarm: &AlarmView) -> String {
    let since = match alarm.since {
        Some(since) => format!("since {since}"),
        None => "not in the log".to_owned(),
    };
    let gone = if alarm.found_now { "" } else { ", not found now" };
    format!("node {} raises {}: {} ({since}{gone})", alarm.node_id, alarm.kind, alarm.detail)
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        ..0x4000_0000 => (1_u64 << 20, "MiB"),
        0x4000_0000..0x100_0000_0000 => (1 << 30, "GiB"),
        _ => (1 << 40, "TiB"),
    };
    let tenths = bytes.saturating_mul(10) / unit;
    if tenths >= 100 {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// What is under way on a busy cluster.
const CAUGHT_UP_ENTRIES: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_more_than_silence_and_silence_is_told_of_all() {
        let silent = |server: &str| CliError::NotReachable {
            tried: vec![(server.to_owned(), "refused".to_owned())],
        };
        let both = worse(Some(silent("a")), silent("b")).line();
        assert!(both.contains("a (refused), b (refused)"), "{both}");
        let said = || CliError::Failed("said".to_owned());
        assert_eq!(worse(Some(silent("a")), said()).exit(), Exit::Failed);
        assert_eq!(worse(Some(said()), silent("a")).exit(), Exit::Failed);
        assert_eq!(worse(None, silent("a")).exit(), Exit::NotReachable);
    }

    #[test]
    fn sizes_have_two_digits_at_least() {
        for (bytes, text) in [
            (0, "0.0 MiB"),
            (5 << 20, "5.0 MiB"),
            (188_743_680, "180 MiB"),
            (3 << 29, "1.5 GiB"),
            (1 << 42, "4.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
