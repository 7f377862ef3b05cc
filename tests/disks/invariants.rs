//! What must be true of a cluster whatever its disks have been through: one function a sentence.
//!
//! All of them compare what clients were told ([`Pages`]) with what the nodes say, and know nothing
//! of how a node stores it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use leasehold_tests::holds::{fences_against_real_time, most_seats_held_at_once};
use serde_json::Value;

use super::book::Pages;
use super::clients::{Crowd, PACKAGE, SEATS, Shop};

/// All that must be true after each trial, while clients go on; the audit log is read on at one
/// node, the rest at all of them.
pub(crate) async fn nothing_is_lost(
    crowd: &mut Crowd,
    audited: &mut Audited,
    reader: u64,
) -> Result<()> {
    crowd.is_well()?;
    let pages = crowd.shop.book.pages();
    audited.read_on(&crowd.shop, reader).await?;
    each_acknowledged_act_is_audited_once(&pages, audited)?;
    no_seat_is_held_twice(&pages)?;
    for node in crowd.shop.nodes() {
        what_was_acknowledged_is_so(&crowd.shop, node).await?;
    }
    Ok(())
}

/// All that must be true once nobody asks any more, by the whole audit log of each of these nodes.
pub(crate) async fn nothing_was_lost_in_the_end(shop: &Shop, nodes: &[u64]) -> Result<()> {
    let pages = shop.book.pages();
    for &node in nodes {
        let mut whole = Audited::default();
        whole.read_on(shop, node).await?;
        each_acknowledged_act_is_audited_once(&pages, &whole)?;
        seats_are_conserved(shop, &whole, node).await?;
        what_was_acknowledged_is_so(shop, node).await?;
    }
    no_seat_is_held_twice(&pages)
}

/// How often each act stands in an audit log.
#[derive(Debug, Default)]
pub(crate) struct Audited {
    granted: BTreeMap<String, u32>,
    returned: BTreeMap<String, u32>,
    registered: BTreeMap<String, u32>,
    /// The last event that was read.
    seq: u64,
}

impl Audited {
    /// Reads on from where it stands, at this node.
    pub(crate) async fn read_on(&mut self, shop: &Shop, node: u64) -> Result<()> {
        loop {
            let path = format!("/admin/audit?order=asc&limit=1000&after={}", self.seq);
            let page = shop.read(node, &path).await?;
            let events = page["events"].as_array().context("no events")?;
            for event in events {
                self.take(event).with_context(|| format!("event {event} of node {node}"))?;
            }
            if events.is_empty() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: &Value) -> Result<()> {
        let seq: u64 = event["seq"].as_str().context("no seq")?.parse()?;
        ensure!(self.seq == 0 || seq == self.seq + 1, "a gap after event {}", self.seq);
        self.seq = seq;
        let lease = || anyhow::Ok(event["lease_id"].as_str().context("no lease")?.to_owned());
        let (counts, name) = match event["kind"].as_str().context("no kind")? {
            "lease_granted" => (&mut self.granted, lease()?),
            "lease_returned" => (&mut self.returned, lease()?),
            "app_registered" => {
                let app = event["detail"]["app_id"].as_str().context("no app")?;
                (&mut self.registered, app.to_owned())
            }
            _ => return Ok(()),
        };
        *counts.entry(name).or_default() += 1;
        Ok(())
    }

    /// Leases that the log says are out.
    fn out(&self) -> u64 {
        let sum = |counts: &BTreeMap<String, u32>| counts.values().map(|n| u64::from(*n)).sum();
        let (granted, returned): (u64, u64) = (sum(&self.granted), sum(&self.returned));
        granted.saturating_sub(returned)
    }
}

/// Each act that was acknowledged is in the audit log exactly once; nothing is there twice.
fn each_acknowledged_act_is_audited_once(pages: &Pages, audited: &Audited) -> Result<()> {
    let once = |what: &str, ids: &mut dyn Iterator<Item = &str>, counts: &BTreeMap<String, u32>| {
        for id in ids {
            let found = counts.get(id).copied().unwrap_or(0);
            ensure!(found == 1, "{what} of {id} was acknowledged and is in the log {found} times");
        }
        let twice = counts.iter().find(|(_, found)| **found > 1);
        ensure!(twice.is_none(), "{what}: twice in the log: {twice:?}");
        Ok(())
    };
    once("the grant", &mut pages.grants.keys().map(String::as_str), &audited.granted)?;
    once("the return", &mut pages.back().into_iter(), &audited.returned)?;
    once("the registration", &mut pages.apps.iter().map(String::as_str), &audited.registered)
}

/// At every node: what was granted and not returned is live, what was returned is not, and no more
/// seats are out than there are. Clients may go on meanwhile.
async fn what_was_acknowledged_is_so(shop: &Shop, node: u64) -> Result<()> {
    let before = shop.book.pages();
    let list = shop.read(node, &format!("/admin/leases?package_id={PACKAGE}&limit=1000")).await?;
    let after = shop.book.pages();
    let listed = list["leases"].as_array().context("no leases")?;
    let live: BTreeSet<&str> = listed.iter().filter_map(|it| it["lease_id"].as_str()).collect();
    let seats = u64::from(SEATS);
    ensure!(live.len() as u64 <= seats, "node {node}: {} leases of {seats} seats", live.len());
    let out = before.out();
    for lease in out.intersection(&after.out()) {
        ensure!(live.contains(lease), "node {node} has lost the acknowledged lease {lease}");
    }
    for lease in before.back() {
        ensure!(!live.contains(lease), "node {node} has forgotten that {lease} was returned");
    }
    let list = shop.read(node, "/admin/apps?limit=1000").await?;
    let listed = list["apps"].as_array().context("no apps")?;
    let known: BTreeSet<&str> = listed.iter().filter_map(|it| it["app_id"].as_str()).collect();
    for app in &before.apps {
        ensure!(known.contains(app.as_str()), "node {node} has lost the application {app}");
    }
    Ok(())
}

/// Once nobody asks any more: as many leases are live as the audit log has granted and not ended.
async fn seats_are_conserved(shop: &Shop, audited: &Audited, node: u64) -> Result<()> {
    let list = shop.read(node, &format!("/admin/leases?package_id={PACKAGE}&limit=1000")).await?;
    let live = list["leases"].as_array().context("no leases")?.len() as u64;
    ensure!(live == audited.out(), "node {node}: {live} live, {} by the log", audited.out());
    Ok(())
}

/// By what clients definitely knew, no seat was held twice, and fences followed real time.
fn no_seat_is_held_twice(pages: &Pages) -> Result<()> {
    let holds = pages.holds();
    let most = most_seats_held_at_once(&holds);
    ensure!(most <= u64::from(SEATS), "{most} of {SEATS} seats were held at once");
    let wrong = fences_against_real_time(&holds);
    ensure!(wrong.is_empty(), "fences went back: {wrong:?}");
    Ok(())
}
