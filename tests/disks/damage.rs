//! Damage: a bit or a sector changes on the disk of a node that is down. It is found, never served,
//! and the one command that the node prints makes it a member again, under load.
//!
//! What was hit may mean nothing (room that nobody uses, a page that the engine has let go of, the
//! end of a log that its peers have): then the node must come back with exactly the state that the
//! others have, by the sums over all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use jepsen::rng::Rng;
use leasehold_tests::operated::{Operated, bare, error_of};
use leasehold_tests::upkeep::all_is_well;
use leasehold_tests::wait::eventually;

use super::clients::Crowd;
use super::invariants::{Audited, nothing_is_lost, nothing_was_lost_in_the_end};
use super::places::{Damage, Group, Part, newest_segment, tear};
use super::trials::{Trials, disks_are_possible};

/// Nodes of the cluster.
const NODES: usize = 3;
/// What the gate gives the damage of nodes.
const NODES_IN_THE_GATE: Duration = Duration::from_secs(25);
/// What it gives that of backups.
const BACKUPS_IN_THE_GATE: Duration = Duration::from_secs(4);

/// How a node came back whose disk was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// It ended, and its command made a new member of it.
    Replaced(u64),
    /// It serves.
    Back,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_node_is_found_and_replaced_by_the_command_that_it_prints() -> Result<()> {
    if !disks_are_possible() {
        return Ok(());
    }
    let mut cluster = Operated::on_disks(NODES).await?;
    let mut crowd = Crowd::start(&cluster).await?;
    let mut audited = Audited::default();
    let mut trials = Trials::new("damage of a node", NODES_IN_THE_GATE)?;
    let (mut replaced, mut unharmed) = (0, 0);
    while let Some(mut trial) = trials.next() {
        let came = damage_once(&mut cluster, &mut crowd, &mut trial.rng).await;
        match trial.judge(came)? {
            Came::Replaced(_) => replaced += 1,
            Came::Back => unharmed += 1,
        }
        let reader = trial.rng.pick(&crowd.shop.nodes()).copied().context("no nodes")?;
        let checked = nothing_is_lost(&mut crowd, &mut audited, reader).await;
        trial.judge(checked)?;
    }
    let shop = crowd.end().await?;
    nothing_was_lost_in_the_end(&shop, &shop.nodes()).await?;
    all_is_well(&mut cluster).await?;
    ensure!(replaced > 0, "no damage was found in {unharmed} trials");
    trials.ran(format!("{replaced} found and the node replaced, {unharmed} meant nothing"));
    Ok(())
}

/// Damages some part of some node, and brings it back.
async fn damage_once(cluster: &mut Operated, crowd: &mut Crowd, rng: &mut Rng) -> Result<Came> {
    let ids = cluster.ids();
    let victim = *rng.pick(&ids).context("no nodes")?;
    let part = *rng.pick(&Part::ALL).context("no parts")?;
    checkpoint(cluster, victim)?;
    crowd.shop.book.so_many_more(rng.between(20, 80)).await?;
    if part == Part::Redo && rng.percent(75) {
        kill_in_a_checkpoint(cluster, victim).await?;
    } else if rng.once_in(2) {
        cluster.kill(victim)?;
    } else {
        let ended = cluster.stop(victim).await?;
        ensure!(ended.success(), "node {victim} did not stop well: {ended}");
    }
    let data = cluster.node(victim)?.dir.join("data");
    let damage = Damage::in_data(&data, part, rng)?;
    damage.strike()?;
    let came = come_back(cluster, victim).await.with_context(|| damage.to_string())?;
    eprintln!("{part:?} of node {victim}: {damage}: {came:?}");
    if came == Came::Back {
        crowd.rests().await?;
        all_is_well(cluster).await.with_context(|| damage.to_string())?;
        crowd.goes_on();
    }
    Ok(came)
}

/// Has a node write a checkpoint, so that there is a state and a redo file.
fn checkpoint(cluster: &Operated, id: u64) -> Result<()> {
    let file = cluster.scratch().join("checkpoint");
    backup(cluster, id, &file)?;
    Ok(fs::remove_file(&file)?)
}

/// Kills a node in the moment in which the redo file of a checkpoint has its name, so that the next
/// start has to read it: once it is in the generation, it is kept for its number alone.
async fn kill_in_a_checkpoint(cluster: &mut Operated, id: u64) -> Result<()> {
    let state = cluster.node(id)?.dir.join("data/state");
    let newest = || -> Result<Option<String>> {
        let names = fs::read_dir(&state)?.filter_map(|entry| {
            let name = entry.ok()?.file_name().to_string_lossy().into_owned();
            (name.starts_with("redo-") && !name.contains('.')).then_some(name)
        });
        Ok(names.max())
    };
    let before = newest()?;
    let variables = cluster.environment(&cluster.node(id)?.gateway.clone());
    let file = cluster.scratch().join("never-whole").display().to_string();
    let saving =
        tokio::task::spawn_blocking(move || bare(&["snapshot", "save", &file], &variables));
    // Without a pause: the moment is shorter than one. Where none comes, the backup has failed.
    while newest()? == before && !saving.is_finished() {
        tokio::task::yield_now().await;
    }
    cluster.kill(id)?;
    saving.await??;
    Ok(())
}

fn backup(cluster: &Operated, id: u64, file: &Path) -> Result<()> {
    let variables = cluster.environment(&cluster.node(id)?.gateway.clone());
    let saved = bare(&["snapshot", "save", &file.display().to_string()], &variables)?;
    ensure!(saved.status.success(), "snapshot save: {}", error_of(&saved));
    Ok(())
}

/// Starts a node whose disk was damaged: it serves, or it ends as a damaged node must, and what it
/// prints replaces it.
async fn come_back(cluster: &mut Operated, id: u64) -> Result<Came> {
    let said_before = cluster.log(id)?.len();
    cluster.start(id)?;
    let api = cluster.api()?;
    let serves = eventually(&format!("node {id} serves, or ends"), || {
        let is_up = cluster.is_up(id);
        let api = &api;
        async move { if is_up { api.is_ready(id).await.map(|()| true) } else { Some(false) } }
    })
    .await?;
    if serves {
        return Ok(Came::Back);
    }
    let command = last_words(cluster, id, said_before).await?;
    replace(cluster, id, &command).await.map(Came::Replaced)
}

/// The command in the last line of a node that ended for damage: exit code 8, one line that has it.
async fn last_words(cluster: &mut Operated, id: u64, said_before: usize) -> Result<String> {
    let ended = cluster.ended(id).await?;
    let log = cluster.log(id)?;
    let said = log.get(said_before..).unwrap_or_default();
    ensure!(ended.code() == Some(8), "node {id} ended with {ended}: {said}");
    ensure!(!said.contains("panicked at"), "node {id} panicked: {said}");
    let last = said.lines().next_back().unwrap_or_default();
    let expected =
        format!("leasehold member replace {id} --config {}", cluster.node(id)?.config.display());
    ensure!(last.ends_with(&expected), "node {id} does not say what to do at last: {said}");
    Ok(expected)
}

/// Runs the command under load and waits until the new node votes; gives its id.
async fn replace(cluster: &mut Operated, id: u64, command: &str) -> Result<u64> {
    let done = cluster.run_printed(&format!("{command} -o json"))?;
    ensure!(done.status.success(), "{command}: {}", error_of(&done));
    let told: serde_json::Value = serde_json::from_slice(&done.stdout)?;
    let new = told["node_id"].as_u64().with_context(|| format!("no node_id in {told}"))?;
    cluster.renumber(id, new)?;
    cluster.start(new)?;
    cluster.votes(new).await?;
    cluster.leaves(id).await?;
    cluster.ready(new).await?;
    // What was put aside is for people; here it would fill the disk.
    for entry in fs::read_dir(&cluster.node(new)?.dir)? {
        let path = entry?.path();
        if path.to_string_lossy().contains("data.lost-") {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(new)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_tail_is_cut_and_a_damaged_record_is_not_taken_for_one() -> Result<()> {
    if !disks_are_possible() {
        return Ok(());
    }
    let mut cluster = Operated::on_disks(NODES).await?;
    let mut crowd = Crowd::start(&cluster).await?;
    let mut node = cluster.ids()[NODES - 1];

    // Half a group behind the last one was never acknowledged.
    let (path, groups) = stopped(&mut cluster, node, true).await?;
    tear(&path, &groups)?;
    let before = cluster.log(node)?.len();
    ensure!(come_back(&mut cluster, node).await? == Came::Back, "a torn tail was taken for damage");
    let said = cluster.log(node)?.split_off(before);
    ensure!(said.contains("cut a torn group off the log"), "nothing was cut: {said}");
    crowd.rests().await?;
    all_is_well(&mut cluster).await?;
    for (what, choose, by_kill) in CASES {
        crowd.goes_on();
        crowd.shop.book.so_many_more(40).await?;
        // Peers have heard of everything once nobody asks for more.
        crowd.rests().await?;
        all_is_well(&mut cluster).await?;
        let (path, groups) = stopped(&mut cluster, node, by_kill).await?;
        for group in choose(&groups) {
            // Into the body of its first record.
            Damage::at(&path, group.at + 70).strike()?;
        }
        match come_back(&mut cluster, node).await.context(what)? {
            Came::Replaced(new) => node = new,
            Came::Back => bail!("{what} was damaged, and the node serves"),
        }
    }
    let shop = crowd.end().await?;
    nothing_was_lost_in_the_end(&shop, &shop.nodes()).await?;
    all_is_well(&mut cluster).await?;
    println!("ran: a torn tail and 3 damaged groups");
    Ok(())
}

/// What is damaged, and whether the node was killed before. A group with valid ones behind it is
/// damage by itself, and so is the last one after a clean stop, which has marked it. An end that is
/// bad from an entry on looks torn after a kill, but peers have seen more of this log.
const CASES: [(&str, Choice, bool); 3] = [
    ("a group in the middle", |groups| &groups[groups.len() / 2..][..1], true),
    ("the last group after a clean stop", |groups| &groups[groups.len() - 1..], false),
    ("the end after a kill", from_the_last_entry, true),
];

/// Which of a log's groups are damaged.
type Choice = fn(&[Group]) -> &[Group];

fn from_the_last_entry(groups: &[Group]) -> &[Group] {
    &groups[groups.iter().rposition(|group| group.has_entry).unwrap_or(0)..]
}

/// Stops a node, and finds the groups of its log.
async fn stopped(cluster: &mut Operated, id: u64, by_kill: bool) -> Result<(PathBuf, Vec<Group>)> {
    if by_kill {
        cluster.kill(id)?;
    } else {
        let ended = cluster.stop(id).await?;
        ensure!(ended.success(), "node {id} did not stop well: {ended}");
    }
    newest_segment(&cluster.node(id)?.dir.join("data"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_majority_does_not_guess() -> Result<()> {
    if !disks_are_possible() {
        return Ok(());
    }
    let mut cluster = Operated::on_disks(NODES).await?;
    let mut crowd = Crowd::start(&cluster).await?;
    crowd.rests().await?;
    all_is_well(&mut cluster).await?;
    let ids = cluster.ids();
    let (survivor, damaged) = (ids[0], &ids[1..]);
    for id in &ids {
        cluster.kill(*id)?;
    }
    for id in damaged {
        let (path, groups) = newest_segment(&cluster.node(*id)?.dir.join("data"))?;
        Damage::at(&path, groups[0].at + 70).strike()?;
    }
    cluster.start(survivor)?;
    for id in damaged {
        let before = cluster.log(*id)?.len();
        cluster.start(*id)?;
        let command = last_words(&mut cluster, *id, before).await?;
        // Without a quorum nobody can let a new node in, and nothing pretends to.
        no_quorum_is_said(&cluster).await?;
        let refused = cluster.run_printed(&command)?;
        let said = error_of(&refused);
        ensure!(refused.status.code() == Some(7), "{command}: {}: {said}", refused.status);
        ensure!(said.contains("quorum") && said.contains("cluster recover"), "{command}: {said}");
        ensure!(cluster.node(*id)?.dir.join("data").exists(), "its data was put aside");
    }
    let api = cluster.api()?;
    ensure!(api.is_ready(survivor).await.is_none(), "node {survivor} is ready without a quorum");
    recovers(&mut cluster, survivor, damaged).await?;
    let shop = crowd.end_in_silence();
    nothing_was_lost_in_the_end(&shop, &[survivor]).await?;
    all_is_well(&mut cluster).await?;
    println!("ran: a damaged majority, one recovery");
    Ok(())
}

/// The survivor alone answers nothing, and `cluster health` says why, and what to do.
async fn no_quorum_is_said(cluster: &Operated) -> Result<()> {
    let health = eventually("health is told", || async {
        let health = cluster.cli(&["cluster", "health"]).ok()?;
        (health.status.code() == Some(10)).then_some(health)
    })
    .await?;
    let said = String::from_utf8_lossy(&health.stdout).into_owned() + &error_of(&health);
    ensure!(said.contains("quorum"), "{said}");
    Ok(())
}

/// What the runbook says: recover with the survivor, and let others join anew.
async fn recovers(cluster: &mut Operated, survivor: u64, damaged: &[u64]) -> Result<()> {
    cluster.kill(survivor)?;
    let config = cluster.node(survivor)?.config.display().to_string();
    let confirm = cluster.cluster_id().to_owned();
    let words = ["-o", "json", "cluster", "recover", "--config", &config, "--confirm", &confirm];
    let recovered = bare(&words, &[])?;
    ensure!(recovered.status.success(), "cluster recover: {}", error_of(&recovered));
    let told: serde_json::Value = serde_json::from_slice(&recovered.stdout)?;
    let new = told["node_id"].as_u64().with_context(|| format!("no node_id in {told}"))?;
    cluster.renumber(survivor, new)?;
    for id in damaged {
        cluster.forget(*id)?;
    }
    cluster.start(new)?;
    cluster.ready(new).await?;
    cluster.add().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_is_refused() -> Result<()> {
    let cluster = Operated::init().await?;
    let crowd = Crowd::start(&cluster).await?;
    crowd.shop.book.so_many_more(200).await?;
    let good = cluster.scratch().join("good.snapshot");
    backup(&cluster, 1, &good)?;
    crowd.end().await?;
    let verify = |file: &Path| bare(&["snapshot", "verify", &file.display().to_string()], &[]);
    ensure!(verify(&good)?.status.success(), "a whole backup is refused");
    let mut trials = Trials::new("damage of a backup", BACKUPS_IN_THE_GATE)?;
    while let Some(mut trial) = trials.next() {
        let bad = cluster.scratch().join("bad.snapshot");
        fs::copy(&good, &bad)?;
        let damage = Damage::in_file(&bad, &mut trial.rng)?;
        damage.strike()?;
        let checked = verify(&bad).and_then(|verified| {
            let said = error_of(&verified);
            ensure!(!verified.status.success(), "{damage}: it is taken for a whole one");
            ensure!(said.starts_with("error: ") && said.lines().count() == 1, "{damage}: {said}");
            Ok(())
        });
        trial.judge(checked)?;
    }
    trials.ran("every one was refused");
    Ok(())
}
