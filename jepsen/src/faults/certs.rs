//! Certificates replaced while nodes serve.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::json;

use super::{Arena, Fault};
use crate::rng::Rng;

/// Has all nodes, or one, make new certificates.
pub(super) async fn rotate(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let ids = arena.observer.ids();
    let one = if rng.percent(40) { rng.pick(&ids).copied() } else { None };
    let targets = one.map_or_else(|| ids.clone(), |id| vec![id]);
    arena.start(Fault::Certs, &targets, "new certificates");
    let before = fingerprints(arena).await;
    let body = json!({ "node_id": one });
    let body = if one.is_some() { body } else { json!({}) };
    let ordered = arena.observer.order(Method::POST, "/admin/certs/rotate", Some(&body)).await;
    // Both old and new are in use for a moment: connections outlive what they were made with.
    arena.hold(Duration::from_millis(rng.between(500, 2_000))).await;
    let after = fingerprints(arena).await;
    let fresh = after.difference(&before).count();
    if fresh > 0 && !before.is_empty() {
        arena.hit(Fault::Certs, &targets, &format!("{fresh} new certificates are shown"));
    }
    let detail = ordered.map_or_else(|error| format!("{error:#}"), |_| "replaced".to_owned());
    arena.end(Fault::Certs, &targets, &detail);
    Ok(())
}

async fn fingerprints(arena: &Arena) -> BTreeSet<String> {
    let Some(list) = arena.observer.get_from_any("/admin/certs").await else {
        return BTreeSet::new();
    };
    let nodes = list.body["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let certificates = nodes.iter().filter_map(|node| node["certificates"].as_array()).flatten();
    certificates.filter_map(|it| it["fingerprint"].as_str().map(str::to_owned)).collect()
}
