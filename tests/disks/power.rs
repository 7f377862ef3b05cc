//! Power cuts: one node, a majority, all at once, again and again in one cluster under load.
//!
//! The cut comes in the moment in which some client is told that its act is done: whatever was
//! acknowledged without being on a majority of disks is then gone, and the checks after the restart
//! say so. In one of four trials the processes outlive their disks, as with a controller that dies:
//! they must find out and end by themselves, and answer nothing that is not stored.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jepsen::rng::Rng;
use leasehold_tests::operated::Operated;
use leasehold_tests::upkeep::all_is_well;

use super::clients::Crowd;
use super::invariants::{Audited, nothing_is_lost, nothing_was_lost_in_the_end};
use super::trials::{Trials, disks_are_possible};

/// Nodes of the cluster.
const NODES: usize = 3;
/// What the gate gives each pattern.
const IN_THE_GATE: Duration = Duration::from_secs(14);
/// What a log says when its end was torn.
const TORN: &str = "cut a torn group off the log";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_loses_its_power() -> Result<()> {
    again_and_again("power cut of one node", 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_loses_its_power() -> Result<()> {
    again_and_again("power cut of a majority", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_lose_their_power_at_once() -> Result<()> {
    again_and_again("power cut of all", NODES).await
}

async fn again_and_again(what: &'static str, victims: usize) -> Result<()> {
    if !disks_are_possible() {
        return Ok(());
    }
    let mut cluster = Operated::on_disks(NODES).await?;
    let mut crowd = Crowd::start(&cluster).await?;
    let mut audited = Audited::default();
    let mut trials = Trials::new(what, IN_THE_GATE)?;
    while let Some(mut trial) = trials.next() {
        let done = cut_once(&mut cluster, &mut crowd, &mut trial.rng, victims).await;
        trial.judge(done)?;
        let reader = trial.rng.pick(&cluster.ids()).copied().context("no nodes")?;
        let checked = nothing_is_lost(&mut crowd, &mut audited, reader).await;
        trial.judge(checked)?;
    }
    let shop = crowd.end().await?;
    nothing_was_lost_in_the_end(&shop, &shop.nodes()).await?;
    all_is_well(&mut cluster).await?;
    let mut torn = 0;
    for id in cluster.ids() {
        torn += cluster.log(id)?.matches(TORN).count();
    }
    let repeated = shop.repeated.load(Ordering::Relaxed);
    trials.ran(format!(
        "{} acts acknowledged, none lost; {repeated} requests sent again, {torn} torn groups cut",
        shop.book.acknowledged()
    ));
    Ok(())
}

/// One cut, and the power back.
async fn cut_once(
    cluster: &mut Operated,
    crowd: &mut Crowd,
    rng: &mut Rng,
    victims: usize,
) -> Result<()> {
    let ids = cluster.ids();
    let victims = &rng.shuffled(&ids)[..victims];
    crowd.shop.book.so_many_more(rng.between(5, 60)).await?;
    if rng.once_in(4) {
        let ended = cluster.cut_disks_and_see(victims).await?;
        ensure!(!ended.success(), "a node on a dead disk ended well: {ended}");
    } else {
        cluster.cut_power(victims)?;
    }
    cluster.power_on(victims)?;
    for id in ids {
        cluster.ready(id).await?;
    }
    Ok(())
}
