//! A disk that fills under load, to the last byte, and is freed again.
//!
//! One node of three has its data directory on a file system of its own that is limited in size.
//! That needs the right to mount one; where it is missing the scenario says so and proves nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::{Answer, Api, Reply};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::holds::most_seats_held_at_once;
use leasehold_tests::tenant::{Run, live};
use leasehold_tests::upkeep::all_agree;
use leasehold_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const SICK: u64 = 2;
const CLIENTS: usize = 8;
const SIZE_MIB: u64 = 800;
/// Under the bound of the alarm (250 MiB and the state), above that of the stop (122 MiB).
const NEARLY_FULL_MIB: u64 = 190;
/// Under the bound of the stop.
const TOO_FULL_MIB: u64 = 60;

/// A file system of its own over a directory; gone when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`: this process may not mount.
    fn over(dir: &Path) -> Result<Option<Self>> {
        let options = format!("size={SIZE_MIB}m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "leasehold-test"])
            .arg(dir)
            .output()
            .context("cannot run mount")?;
        Ok(mounted.status.success().then(|| Self(dir.to_owned())))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a node that is still up keeps it until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Moves a stopped node's data onto a file system of its own.
fn confine(data_dir: &Path) -> Result<Option<Mounted>> {
    let aside = data_dir.with_extension("aside");
    std::fs::rename(data_dir, &aside)?;
    std::fs::create_dir(data_dir)?;
    let Some(mounted) = Mounted::over(data_dir)? else {
        std::fs::remove_dir(data_dir)?;
        std::fs::rename(&aside, data_dir)?;
        return Ok(None);
    };
    let copied = Command::new("cp").arg("-a").arg(aside.join(".")).arg(data_dir).status()?;
    ensure!(copied.success(), "the data was not copied");
    Ok(Some(mounted))
}

fn free_bytes(dir: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// Writes until so little is left; to the last byte where nothing is to be left.
fn fill(dir: &Path, name: &str, left_mib: u64) -> Result<()> {
    let mut file = File::create(dir.join(name))?;
    let megabyte = vec![7_u8; 1 << 20];
    while free_bytes(dir)? > left_mib << 20 {
        match file.write(&megabyte) {
            Ok(written) if written > 0 => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn status(api: &Api) -> Option<Value> {
    for node in &api.dev.nodes {
        let answer = api.admin(node.id, Method::GET, "/admin/cluster/status", None).await.ok()?;
        if answer.status == 200 && answer.body["leader"].is_u64() {
            return Some(answer.body);
        }
    }
    None
}

fn node(status: &Value, id: u64) -> Option<&Value> {
    status["nodes"].as_array()?.iter().find(|node| node["id"] == id)
}

/// Waits until the status is as wanted.
async fn until(api: &Api, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(what, || async { status(api).await.filter(&wanted) }).await
}

fn has_alarm(status: &Value) -> bool {
    let alarms = status["alarms"].as_array();
    alarms.is_some_and(|alarms| {
        alarms
            .iter()
            .any(|it| it["kind"] == "NOSPACE" && it["node_id"] == SICK && it["logged"] == true)
    })
}

/// A lease that the scenario keeps itself.
struct Kept {
    lease_id: String,
    renewal_token: String,
}

async fn take(api: &Api, token: &str, at: u64, user: &str) -> Result<Answer> {
    let body = json!({
        "product_id": api.dev.app.product_id, "user": user, "hostname": "h",
        "metadata": { "version": "8.2.1" },
    });
    eventually("a checkout is decided", || async {
        match api.checkout(at, token, Some(user), &body).await {
            Ok(Reply::Answer(answer)) if answer.status != 503 => Some(answer),
            _ => None,
        }
    })
    .await
}

impl Kept {
    async fn new(api: &Api, token: &str, user: &str) -> Result<Self> {
        let taken = take(api, token, 1, user).await?.expect(200)?;
        let text = |name: &str| taken.text(name).map(str::to_owned);
        Ok(Self { lease_id: text("lease_id")?, renewal_token: text("renewal_token")? })
    }

    /// Renews at a node that is well; a 503 is asked again like any.
    async fn renew(&mut self, api: &Api, token: &str, at: u64) -> Result<()> {
        let answer = eventually("a heartbeat is decided", || async {
            match api.heartbeat(at, token, &self.lease_id, &self.renewal_token).await {
                Ok(Reply::Answer(answer)) if answer.status != 503 => Some(answer),
                _ => None,
            }
        })
        .await?;
        self.renewal_token = answer.expect(200)?.text("renewal_token")?.to_owned();
        Ok(())
    }
}

/// Everybody who has a seat goes on, and readers read.
async fn what_is_there_goes_on(api: &Api, token: &str, kept: &mut Kept) -> Result<()> {
    for _ in 0..10 {
        kept.renew(api, token, 1).await?;
        let Reply::Answer(read) = api.lease(3, token, &kept.lease_id).await? else {
            anyhow::bail!("a read was not answered");
        };
        ensure!([200, 503].contains(&read.status), "{read:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_under_load_stops_what_is_new_and_nothing_else() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let data_dir = cluster.dev.nodes[1].data_dir.clone();
    cluster.stop(SICK).await?;
    let Some(_mounted) = confine(&data_dir)? else {
        eprintln!("SKIPPED: this process may not mount a file system, so no disk was filled");
        return Ok(());
    };
    cluster.start_node(SICK)?;
    cluster.all_ready().await?;
    let api = cluster.api()?;
    let token = api.token(1).await?;
    let run = Run::new(api.clone(), token.clone(), &cluster.dev.app.product_id);
    let mut tenants = JoinSet::new();
    for number in 0..CLIENTS {
        tenants.spawn(live(Arc::clone(&run), number));
    }
    let mut kept = Kept::new(&api, &token, "keeps@bmw.com").await?;
    let given_back = Kept::new(&api, &token, "returns@bmw.com").await?;

    fill(&data_dir, "filler-1", NEARLY_FULL_MIB)?;
    until(&api, "NOSPACE is raised", has_alarm).await?;
    let denied = take(&api, &token, 1, "new@bmw.com").await?.expect(507)?;
    ensure!(denied.body["reason"] == "no_space", "{denied:?}");
    what_is_there_goes_on(&api, &token, &mut kept).await?;
    let returned = eventually("a return is decided", || async {
        match api.give_back(3, &token, &given_back.lease_id).await {
            Ok(Reply::Answer(answer)) if answer.status != 503 => Some(answer),
            _ => None,
        }
    })
    .await?;
    returned.expect(200)?;
    ensure!(cluster.is_up(SICK), "node {SICK} died with {NEARLY_FULL_MIB} MiB left");

    fill(&data_dir, "filler-2", TOO_FULL_MIB)?;
    until(&api, "the node stores nothing more, and another leads", |status| {
        let has_room = node(status, SICK).map(|node| node["detail"]["has_room"] == true);
        has_room == Some(false) && status["leader"] != SICK
    })
    .await?;
    what_is_there_goes_on(&api, &token, &mut kept).await?;
    fill(&data_dir, "filler-3", 0)?;
    what_is_there_goes_on(&api, &token, &mut kept).await?;
    ensure!(cluster.is_up(SICK), "node {SICK} died of a full disk: {}", cluster.log(SICK)?);

    for name in ["filler-1", "filler-2", "filler-3"] {
        std::fs::remove_file(data_dir.join(name))?;
    }
    until(&api, "NOSPACE is cleared", |status| !has_alarm(status)).await?;
    take(&api, &token, 1, "new@bmw.com").await?.expect(200)?;
    run.stop.store(true, Ordering::Relaxed);
    let mut holds = Vec::new();
    while let Some(ended) = tenants.join_next().await {
        holds.extend(ended??);
    }
    // The scenario's own two.
    ensure!(most_seats_held_at_once(&holds) <= 18, "more seats were held than there are");
    cluster.all_ready().await?;
    all_agree(&cluster).await?;
    for id in cluster.ids() {
        ensure!(cluster.is_up(id), "node {id} died");
        cluster.stop(id).await?;
    }
    Ok(())
}
