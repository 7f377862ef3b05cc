//! Days of an operator, played with real processes while clients take seats: machines are replaced,
//! come and go, are restarted in every way, move, and lose their keys.
//!
//! Each ends with the same state on all nodes, a whole audit log, no seat sold twice, and no node
//! that ended unasked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::{Api, Reply};
use leasehold_tests::operated::{Operated, bare, error_of, json_of};
use leasehold_tests::upkeep::{Load, all_is_well, roll, write_addresses};
use leasehold_tests::wait::eventually;
use reqwest::Method;

const SEATS: u32 = 6;
const CLIENTS: usize = 6;

/// The gateways of places that are not taken yet.
fn later(cluster: &Operated, places: std::ops::RangeInclusive<u16>) -> Vec<String> {
    places.map(|place| cluster.addresses_of(place)[1].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_is_replaced_then_two_come_and_two_go() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::at(&cluster, SEATS, CLIENTS, &later(&cluster, 4..=8)).await?;
    for old in cluster.ids() {
        let invited = cluster.cli_json(&["member", "replace", &old.to_string()])?;
        ensure!(invited["replaces"] == old, "{invited}");
        let new = cluster.join(invited["token"].as_str().context("no token")?, &[])?;
        cluster.start(new)?;
        cluster.votes(new).await?;
        leaves(&mut cluster, old).await?;
        cluster.ready(new).await?;
        load.goes_on().await?;
    }
    ensure!(cluster.ids() == [4, 5, 6], "{:?}", cluster.ids());
    cluster.add().await?;
    cluster.add().await?;
    load.goes_on().await?;
    let five = cluster.cli_json(&["cluster", "health", "--wait"])?;
    ensure!(five["healthy"] == true && five.to_string().contains("5 of 5"), "{five}");
    let leader = cluster.leader().await?;
    let other = cluster.ids().into_iter().find(|id| *id != leader).context("no other")?;
    for id in [leader, other] {
        let removed = cluster.cli(&["member", "remove", &id.to_string()])?;
        ensure!(removed.status.success(), "{}", error_of(&removed));
        leaves(&mut cluster, id).await?;
        load.goes_on().await?;
    }
    load.end().await?;
    all_is_well(&mut cluster).await
}

/// A node that is no member any more ends by itself, and says why.
async fn leaves(cluster: &mut Operated, id: u64) -> Result<()> {
    let ended = cluster.ended(id).await?;
    let log = cluster.log(id)?;
    ensure!(ended.code() == Some(6), "node {id}: {ended}: {log}");
    ensure!(log.contains("was removed from the cluster"), "{log}");
    cluster.forget(id)?;
    cluster.leaves(id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_rolled_the_sick_one_first_and_one_retry_is_enough() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::start(&cluster, SEATS, CLIENTS).await?;
    let leader = cluster.leader().await?;
    let sick = cluster.ids().into_iter().rfind(|id| *id != leader).context("no other")?;
    cluster.kill(sick)?;
    let (report, order) = roll(&mut cluster).await?;
    ensure!(order.len() == 3 && order[0] == sick, "{order:?}: {report}");
    ensure!(order.iter().collect::<BTreeSet<_>>().len() == 3, "{order:?}");
    load.goes_on().await?;

    let run = &load.run;
    run.most_retries.store(0, Ordering::Relaxed);
    run.repeated.lock().map_or_else(|_| (), |mut repeated| repeated.clear());
    let leader = cluster.leader().await?;
    let (report, order) = roll(&mut cluster).await?;
    ensure!(order.last() == Some(&leader), "the leader goes last: {order:?}: {report}");
    load.goes_on().await?;
    let most = load.run.most_retries.load(Ordering::Relaxed);
    ensure!(most <= 1, "a request had to be repeated {most} times: {:?}", load.run.repeated);
    load.end().await?;
    all_is_well(&mut cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_start_in_any_order_with_any_delay() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::start(&cluster, SEATS, CLIENTS).await?;
    for (round, order) in
        [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]].into_iter().enumerate()
    {
        for id in cluster.ids() {
            // All at once without a word, or one by one with leave.
            match round % 2 {
                0 => cluster.kill(id)?,
                _ => ensure!(cluster.stop(id).await?.success(), "node {id} did not stop well"),
            }
        }
        for (place, id) in order.into_iter().enumerate() {
            cluster.start(id)?;
            lives(&cluster.api()?, id).await?;
            if round == 3 && place == 1 {
                // The first is lost again before the third is there.
                cluster.kill(order[0])?;
                cluster.start(order[0])?;
            }
        }
        for id in order {
            cluster.ready(id).await?;
        }
        load.goes_on().await?;
    }
    load.end().await?;
    all_is_well(&mut cluster).await
}

async fn lives(api: &Api, node: u64) -> Result<()> {
    eventually(&format!("node {node} lives"), || async {
        let request = api.request(node, Method::GET, "/livez").ok()?;
        matches!(api.send(request).await, Reply::Answer(answer) if answer.status == 200)
            .then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_moves_to_other_addresses() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::at(&cluster, SEATS, CLIENTS, &later(&cluster, 6..=7)).await?;
    let ids = cluster.ids();
    for (place, id) in (6..).zip(&ids[..2]) {
        moves(&mut cluster, *id, place).await?;
        load.goes_on().await?;
    }
    // An access token names the address of the node that signed it, and is over when that moves:
    // the clients have theirs of the last one.
    load.end().await?;
    moves(&mut cluster, ids[2], 8).await?;
    // Nobody needs an address that is no more: they find each other from their logs.
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    for id in cluster.ids() {
        cluster.start(id)?;
    }
    for id in cluster.ids() {
        cluster.ready(id).await?;
    }
    all_is_well(&mut cluster).await
}

async fn moves(cluster: &mut Operated, id: u64, place: u16) -> Result<()> {
    ensure!(cluster.stop(id).await?.success(), "node {id} did not stop well");
    let options = cluster.addresses_of(place);
    write_addresses(&cluster.node(id)?.config, &options[1], &options[3])?;
    cluster.moved(id, &options[1], &options[3])?;
    cluster.start(id)?;
    cluster.ready(id).await?;
    eventually("the others know where it is", || async {
        let members = cluster.members().await.ok()?;
        let found = members.iter().find(|member| member["node_id"] == id)?;
        (found["peer_address"] == options[3].as_str()).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_are_sealed_and_the_third_leads() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::start(&cluster, SEATS, CLIENTS).await?;
    for leader_is_sealed in [false, true] {
        let leader = cluster.leader().await?;
        let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        let (third, sealed) = match leader_is_sealed {
            false => (leader, others),
            true => (others[0], vec![leader, others[1]]),
        };
        for id in &sealed {
            ensure!(cluster.stop(*id).await?.success(), "node {id} did not stop well");
            let key = kek(&cluster, *id)?;
            fs::rename(&key, key.with_extension("away"))?;
            cluster.start(*id)?;
            lives(&cluster.api()?, *id).await?;
        }
        eventually("the one with its key leads", || async {
            (cluster.leader().await.ok()? == third).then_some(())
        })
        .await?;
        load.goes_on().await?;
        let health = eventually("both are seen to be sealed", || async {
            let health = cluster.cli(&["-o", "json", "cluster", "health"]).ok()?;
            let text = String::from_utf8_lossy(&health.stdout).into_owned();
            sealed.iter().all(|id| text.contains(&format!("node {id} is sealed"))).then_some(health)
        })
        .await?;
        ensure!(health.status.code() == Some(11), "{health:?}");
        for id in &sealed {
            ensure!(cluster.log(*id)?.contains("this node is sealed"), "node {id} does not say so");
        }
        without_the_third(&mut cluster, third).await?;
        for id in &sealed {
            let key = kek(&cluster, *id)?;
            fs::rename(key.with_extension("away"), &key)?;
            ensure!(cluster.stop(*id).await?.success(), "node {id} did not stop well");
            cluster.start(*id)?;
            cluster.ready(*id).await?;
        }
        load.goes_on().await?;
    }
    load.end().await?;
    all_is_well(&mut cluster).await
}

/// Sealed nodes elect none of themselves: they say what is the matter, and nothing is lost.
async fn without_the_third(cluster: &mut Operated, third: u64) -> Result<()> {
    cluster.kill(third)?;
    let said = cluster.cli(&["cluster", "health"])?;
    ensure!(said.status.code() == Some(10), "{said:?}");
    let line = error_of(&said);
    ensure!(line.lines().count() == 1 && line.contains("no keys"), "{line}");
    cluster.start(third)?;
    cluster.ready(third).await
}

fn kek(cluster: &Operated, id: u64) -> Result<PathBuf> {
    Ok(cluster.node(id)?.dir.join("keys").join("kek.pem"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_belong_is_refused_in_one_line_and_disturbs_nobody() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::start(&cluster, SEATS, CLIENTS).await?;
    let foreign = foreign(&cluster)?;
    let id = cluster.ids()[2];
    let dir = cluster.node(id)?.dir.clone();
    let config = cluster.node(id)?.config.clone();
    let right = fs::read_to_string(&config)?;
    ensure!(cluster.stop(id).await?.success(), "node {id} did not stop well");
    let old_disk = cluster.scratch().join("old-disk");
    copy(&dir.join("data"), &old_disk)?;

    let other = &foreign.cluster_id;
    let renamed = right.replace(cluster.cluster_id(), other);
    let of_other = |name: &str| foreign.dir.join(name).display().to_string();
    let authority = with(&right, "ca_cert", &of_other("ca.pem"));
    let own = &[("peer_cert", "peer.pem"), ("peer_key", "keys/peer.key")];
    let certificate =
        own.iter().fold(right.clone(), |text, (key, file)| with(&text, key, &of_other(file)));
    for (what, text, says) in [
        ("another cluster's id", renamed, other.as_str()),
        ("another authority", authority, "is not valid under"),
        ("another cluster's certificate", certificate, "must name spiffe://"),
    ] {
        fs::write(&config, text)?;
        let (code, said) = cluster.start_in_vain(id).await?;
        ensure!(code == Some(2), "{what}: exit {code:?}: {said}");
        ensure!(said.lines().count() == 1 && said.contains(says), "{what}: {said}");
        load.goes_on().await?;
    }
    fs::write(&config, &right)?;
    cluster.start(id)?;
    cluster.ready(id).await?;
    load.goes_on().await?;

    // A disk of yesterday, as a machine's snapshot brings it back: it forgot what it had promised.
    cluster.kill(id)?;
    fs::rename(dir.join("data"), cluster.scratch().join("todays-disk"))?;
    copy(&old_disk, &dir.join("data"))?;
    cluster.start(id)?;
    eventually("the others refuse it", || async {
        let command = format!("leasehold member replace {id}");
        let others = cluster.ids().into_iter().filter(|other| *other != id);
        let mut refusing = 0;
        for other in others {
            let log = cluster.log(other).ok()?;
            refusing += usize::from(log.contains("went back") && log.contains(&command));
        }
        (refusing > 0).then_some(())
    })
    .await?;
    load.goes_on().await?;
    cluster.kill(id)?;
    fs::remove_dir_all(dir.join("data"))?;
    fs::rename(cluster.scratch().join("todays-disk"), dir.join("data"))?;
    cluster.start(id)?;
    cluster.ready(id).await?;
    load.end().await?;
    all_is_well(&mut cluster).await
}

/// Another cluster's first node; it never runs.
struct Foreign {
    dir: PathBuf,
    cluster_id: String,
}

fn foreign(cluster: &Operated) -> Result<Foreign> {
    let dir = cluster.scratch().join("foreign");
    let shown = dir.display().to_string();
    let words = ["-o", "json", "cluster", "init", "--client-id", "other-001", "--dir", &shown];
    let made = json_of(&bare(&[&words[..], &["--org-domain", "other.example"]].concat(), &[])?)?;
    let cluster_id = made["cluster_id"].as_str().context("no cluster_id")?.to_owned();
    Ok(Foreign { dir, cluster_id })
}

/// A configuration with another value of one key.
fn with(text: &str, key: &str, value: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some((name, _)) if name == key => format!("{key} = \"{value}\""),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cp: {copied}");
    Ok(())
}
