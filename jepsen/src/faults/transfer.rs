//! Leadership handed on, again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::json;

use super::{Arena, Fault};
use crate::rng::Rng;

/// Hands leadership on several times a second.
pub(super) async fn storm(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let ids = arena.observer.ids();
    let hold = Duration::from_millis(rng.between(1_500, 5_000));
    arena.start(Fault::TransferLeader, &ids, &format!("for {} ms", hold.as_millis()));
    let until = arena.recorder.clock().elapsed() + hold;
    let mut seen = BTreeSet::new();
    seen.extend(arena.observer.leader().await);
    let mut orders = 0;
    while arena.recorder.clock().elapsed() < until && !arena.is_stopping() {
        let Some(to) = rng.pick(&ids) else { break };
        let body = json!({ "to": to });
        // A refusal is no fault of the storm's: who leads already, or nobody does.
        let path = "/admin/cluster/transfer-leader";
        if arena.observer.order(Method::POST, path, Some(&body)).await.is_ok() {
            orders += 1;
        }
        seen.extend(arena.observer.leader().await);
        arena.hold(Duration::from_millis(rng.between(50, 300))).await;
    }
    seen.extend(arena.observer.leader().await);
    if seen.len() > 1 {
        let detail = format!("{orders} orders, {} leaders and terms seen", seen.len());
        arena.hit(Fault::TransferLeader, &ids, &detail);
    }
    arena.end(Fault::TransferLeader, &ids, "over");
    Ok(())
}
