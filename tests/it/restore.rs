//! The worst days: every disk lost and last night's backup, or one survivor of three.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use leasehold_tests::api::{Answer, Api, Reply};
use leasehold_tests::cluster::{Cluster, DevFile, DevNode, binary, leasehold};
use leasehold_tests::holds::{Hold, most_seats_held_at_once};
use leasehold_tests::packages::{Registered, import_and_register, sign, template, with_policy};
use leasehold_tests::wait::eventually;
use protocol::fence::Fence;
use reqwest::Method;
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock};

const PRODUCT: &str = "restorable";
const SEATS: u32 = 4;
/// The package whose seats may be borrowed.
const LENDING: &str = "lending";

/// A seat as its holder knows it.
#[derive(Debug, Clone)]
struct Seat {
    user: &'static str,
    lease_id: String,
    renewal_token: String,
    fence: String,
}

/// An application with its package, and a clock for its holders.
struct Shop {
    app: Registered,
    clock: RealClock,
}

impl Shop {
    async fn open(cluster: &Cluster, api: &Api) -> Result<Self> {
        let package = template(&cluster.dev, "restorable-1", PRODUCT, SEATS)?;
        let policy = json!({ "lease_ttl_seconds": 300, "heartbeat_interval_seconds": 100 });
        let package = sign(&cluster.dev, cluster.scratch(), &with_policy(package, policy))?;
        let app = import_and_register(api, &package).await?;
        Ok(Self { app, clock: RealClock::new() })
    }

    async fn token(&self, api: &Api, node: u64) -> Result<String> {
        api.token_of(node, &self.app.client_id, &self.app.client_secret).await
    }

    async fn checkout(&self, api: &Api, node: u64, token: &str, user: &str) -> Result<Answer> {
        let body = json!({
            "product_id": PRODUCT, "user": user, "hostname": "h",
            "metadata": { "version": "8.2.1" },
        });
        match api.checkout(node, token, None, &body).await? {
            Reply::Answer(answer) => Ok(answer),
            Reply::Unknown(why) => bail!("no answer: {why}"),
        }
    }

    async fn take(&self, api: &Api, token: &str, user: &'static str) -> Result<(Seat, Hold)> {
        let asked_ns = self.clock.monotonic_ns();
        let granted = self.checkout(api, 1, token, user).await?.expect(200)?;
        let seat = Seat {
            user,
            lease_id: granted.text("lease_id")?.to_owned(),
            renewal_token: granted.text("renewal_token")?.to_owned(),
            fence: granted.text("fence")?.to_owned(),
        };
        let hold = Hold {
            lease_id: seat.lease_id.clone(),
            fence: seat.fence.clone(),
            quantity: 1,
            asked_ns,
            from_ns: self.clock.monotonic_ns(),
            until_ns: u64::MAX,
        };
        Ok((seat, hold))
    }
}

async fn heartbeat(api: &Api, node: u64, token: &str, seat: &Seat) -> Result<Answer> {
    match api.heartbeat(node, token, &seat.lease_id, &seat.renewal_token).await? {
        Reply::Answer(answer) => Ok(answer),
        Reply::Unknown(why) => bail!("no answer: {why}"),
    }
}

/// A node that was made by another verb than `dev`.
struct Serving {
    child: Child,
    log: PathBuf,
}

impl Serving {
    fn start(config: &Path, log: PathBuf) -> Result<Self> {
        let file = File::options().append(true).create(true).open(&log)?;
        let child = Command::new(binary()?)
            .arg("serve")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, log })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- {}:\n{log}", self.log.display());
        }
    }
}

/// The verb's JSON document, or what it said.
fn run(words: &[&str]) -> Result<Value> {
    let output = leasehold(&[words, &["-o", "json"]].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {}: {said}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The same of a verb that must fail so.
fn fails(words: &[&str], exit: i32, code: &str) -> Result<String> {
    let output = leasehold(&[words, &["-o", "json"]].concat())?;
    let said: Value = serde_json::from_slice(&output.stderr)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    ensure!(output.status.code() == Some(exit), "{words:?}: {}: {said}", output.status);
    ensure!(said["error"]["code"] == code, "{words:?}: {said}");
    Ok(said["error"]["message"].as_str().unwrap_or_default().to_owned())
}

fn operator(dev: &DevFile, node: u64) -> Result<[&str; 6]> {
    let node = dev.nodes.iter().find(|known| known.id == node).context("no such node")?;
    let ca = dev.ca_cert.to_str().context("a path")?;
    Ok(["--server", &node.gateway, "--ca-cert", ca, "--token", &dev.admin_token])
}

/// The same cluster as one new node serves it.
fn with_node(dev: &DevFile, id: u64, gateway: String, config: PathBuf) -> Result<DevFile> {
    let first = dev.nodes.first().context("no nodes")?;
    let node = DevNode { id, gateway, config, ..first.clone() };
    Ok(DevFile { nodes: vec![node], ..dev.clone() })
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Verifies a backup of the cluster as it is now: with it every rule and the audit chain.
fn verified_backup(dev: &DevFile, node: u64, dir: &Path) -> Result<(PathBuf, Value)> {
    fs::create_dir_all(dir)?;
    let saved = run(&[&["snapshot", "save", text(dir)?][..], &operator(dev, node)?].concat())?;
    let file = PathBuf::from(saved["file"].as_str().context("no file")?);
    let verified = run(&["snapshot", "verify", text(&file)?])?;
    ensure!(verified["sha256"] == saved["sha256"], "{saved} {verified}");
    Ok((file, verified))
}

/// Who held a seat of the former epoch comes back, up to the seats there are; nobody else does.
async fn holders_come_back(api: &Api, node: u64, shop: &Shop, seats: &[Seat]) -> Result<Vec<Seat>> {
    let token = shop.token(api, node).await?;
    let mut back = Vec::new();
    for seat in seats {
        let answer = heartbeat(api, node, &token, seat).await?;
        match answer.status {
            200 => {
                let renewal_token = answer.text("renewal_token")?.to_owned();
                ensure!(renewal_token != seat.renewal_token, "the token of a former epoch");
                // Whatever was granted after the backup, and is forgotten, had a lower one.
                let fence: Fence = answer.text("fence")?.parse()?;
                let is_of_backup = answer.body["fence"] == seat.fence.as_str();
                ensure!(is_of_backup || fence.epoch == 2, "a fence is given again: {answer:?}");
                back.push(Seat { renewal_token, ..seat.clone() });
            }
            409 => ensure!(answer.body["reason"] == "max_overage_exceeded", "{answer:?}"),
            _ => bail!("{}: {answer:?}", seat.user),
        }
    }
    // A token of another lease brings nothing back, and nobody new is let in.
    if let [one, other, ..] = seats {
        let forged = Seat { renewal_token: other.renewal_token.clone(), ..one.clone() };
        heartbeat(api, node, &token, &forged).await?.expect(409)?;
    }
    let new = shop.checkout(api, node, &token, "new@bmw.com").await?.expect(409)?;
    ensure!(new.body["reason"] == "restore_hold", "{new:?}");
    for seat in &back {
        heartbeat(api, node, &token, seat).await?.expect(200)?;
    }
    Ok(back)
}

/// The same with one call for all of them, a forged token among them.
async fn all_come_back_at_once(
    api: &Api,
    node: u64,
    shop: &Shop,
    seats: &[Seat],
) -> Result<Vec<Seat>> {
    let token = shop.token(api, node).await?;
    let item = |lease_id: &str, renewal_token: &str| -> Value {
        json!({ "lease_id": lease_id, "renewal_token": renewal_token })
    };
    let mut leases: Vec<Value> =
        seats.iter().map(|seat| item(&seat.lease_id, &seat.renewal_token)).collect();
    let [one, other, ..] = seats else { bail!("too few seats") };
    leases.push(item(&one.lease_id, &other.renewal_token));
    let request = api.request(node, Method::POST, "/api/v1/licenses/heartbeats")?;
    let request = request.bearer_auth(&token).json(&json!({ "leases": leases }));
    let answer = api.answer(request).await?.expect(200)?;
    let results = answer.body["results"].as_array().context("no results")?;
    ensure!(results.len() == leases.len(), "{answer:?}");
    ensure!(results.last().is_some_and(|last| last["status"] == "replayed"), "{answer:?}");
    let mut back = Vec::new();
    for (seat, result) in seats.iter().zip(results) {
        ensure!(result["status"] == "renewed", "{answer:?}");
        let renewal_token = result["renewal_token"].as_str().context("no token")?.to_owned();
        back.push(Seat { renewal_token, ..seat.clone() });
    }
    let new = shop.checkout(api, node, &token, "new@bmw.com").await?.expect(409)?;
    ensure!(new.body["reason"] == "restore_hold", "{new:?}");
    Ok(back)
}

/// A package of three seats, two of which may be borrowed for an hour.
async fn lends(cluster: &Cluster, api: &Api) -> Result<()> {
    let package = template(&cluster.dev, LENDING, LENDING, 3)?;
    let policy = json!({ "borrow_max_seconds": 3_600, "borrow_seats_max": 2 });
    let package = sign(&cluster.dev, cluster.scratch(), &with_policy(package, policy))?;
    import_and_register(api, &package).await?;
    Ok(())
}

/// Seats that could have been borrowed after the backup are kept, and shown, until an operator says
/// that none was.
fn released(dev: &DevFile, restored: &Value) -> Result<()> {
    let reserved = restored["reserved"].as_array().context("no reserved")?;
    let kept = reserved.iter().find(|row| row["package"] == LENDING);
    ensure!(kept.is_some_and(|row| row["seats"] == 2), "{restored}");
    let shown = || run(&[&["package", "show", LENDING][..], &operator(dev, 4)?].concat());
    let before = shown()?;
    ensure!(before["reserved"]["seats"] == 2, "{before}");
    let release = ["package", "release-reserved", LENDING, "--reason", "nobody was away"];
    let after = run(&[&release[..], &operator(dev, 4)?].concat())?;
    ensure!(after["reserved"].is_null() && shown()?["reserved"].is_null(), "{after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_lost_every_disk_begins_again_from_its_backup() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let shop = Shop::open(&cluster, &api).await?;
    lends(&cluster, &api).await?;
    let token = shop.token(&api, 1).await?;
    let issue = json!({ "package_id": "restorable-1", "protocol": "evaluation" });
    let license = api.admin(1, Method::POST, "/admin/licenses", Some(issue)).await?.expect(201)?;
    let key = license.text("license_key")?.to_owned();
    let host = json!({ "hostname_hash": "8f1f0466fc41bb15", "activation_code": key });
    let activated = api.request(2, Method::POST, "/v1/activate")?.json(&host);
    ensure!(api.answer(activated).await?.body["ok"] == true, "no activation");
    let (ada, ada_hold) = shop.take(&api, &token, "ada@bmw.com").await?;
    let (ben, mut ben_hold) = shop.take(&api, &token, "ben@bmw.com").await?;
    let (file, _) = verified_backup(&cluster.dev, 2, &cluster.scratch().join("backups"))?;
    // What the backup does not know: ben gives his seat back, and two others take the rest.
    let given_back_ns = shop.clock.monotonic_ns();
    let Reply::Answer(answer) = api.give_back(1, &token, &ben.lease_id).await? else {
        bail!("no answer");
    };
    answer.expect(200)?;
    ben_hold.until_ns = given_back_ns;
    let (cem, cem_hold) = shop.take(&api, &token, "cem@bmw.com").await?;
    let (dora, mut dora_hold) = shop.take(&api, &token, "dora@bmw.com").await?;
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    for node in &cluster.dev.nodes {
        fs::remove_dir_all(&node.data_dir)?;
    }
    let lost_ns = shop.clock.monotonic_ns();
    let (listen, peer) = (free_address()?, free_address()?);
    let home = cluster.scratch().join("restored");
    let kek = cluster.dev.nodes[1].config.with_file_name("keys").join("kek.pem");
    let place = ["--listen", &listen, "--peer-listen", &peer, "--advertise", &listen];
    let restore = [
        &["snapshot", "restore", text(&file)?, "--dir", text(&home)?, "--kek", text(&kek)?][..],
        &["--peer-advertise", &peer, "--ca-cert", text(&cluster.dev.ca_cert)?],
        &place,
    ]
    .concat();
    let restored = run(&restore)?;
    ensure!(restored["epoch"] == 2 && restored["node_id"] == 4, "{restored}");
    ensure!(restored["grace_ms"].as_u64() >= Some(300_000), "{restored}");
    fails(&restore, 2, "directory_in_use")?;

    let config = home.join("node.toml");
    let dev = with_node(&cluster.dev, 4, format!("https://{listen}"), config.clone())?;
    let _serving = Serving::start(&config, cluster.scratch().join("restored.log"))?;
    let api = Api::new(&dev)?;
    eventually("the restored node is ready", || api.is_ready(4)).await?;
    released(&dev, &restored)?;
    // The old access token is refused, the operator's goes on.
    heartbeat(&api, 4, &token, &ada).await?.expect(401)?;
    api.admin(4, Method::GET, "/admin/packages", None).await?.expect(200)?;
    // Of four seats the backup knows three to be out: ada's, ben's, the license's. One is left for
    // the two that it does not know.
    let back = holders_come_back(&api, 4, &shop, &[ada, cem, dora]).await?;
    let users: Vec<&str> = back.iter().map(|seat| seat.user).collect();
    ensure!(users == ["ada@bmw.com", "cem@bmw.com"], "{users:?}");
    dora_hold.until_ns = lost_ns;
    let most = most_seats_held_at_once(&[ada_hold, ben_hold, cem_hold, dora_hold]);
    ensure!(most < u64::from(SEATS), "{most} seats were held beside the license's");
    // What was sealed is open: the license key is known, and so is the host it was activated on.
    let again = api.request(4, Method::POST, "/v1/activate")?.json(&host);
    let again = api.answer(again).await?.expect(200)?;
    ensure!(again.body["ok"] == true, "{again:?}");
    let (_, verified) = verified_backup(&dev, 4, &cluster.scratch().join("later"))?;
    ensure!(verified["epoch"] == 2, "{verified}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_of_three_goes_on_in_a_new_epoch() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let shop = Shop::open(&cluster, &api).await?;
    let token = shop.token(&api, 1).await?;
    let (ada, _) = shop.take(&api, &token, "ada@bmw.com").await?;
    let (ben, _) = shop.take(&api, &token, "ben@bmw.com").await?;
    // Everybody has both before the lights go out.
    for id in cluster.ids() {
        heartbeat(&api, id, &token, &Seat { renewal_token: "rt1-x".to_owned(), ..ben.clone() })
            .await?
            .expect(409)?;
    }
    let config = cluster.dev.nodes[0].config.clone();
    let id = cluster.dev.cluster_id.clone();
    let recover = ["cluster", "recover", "--config", text(&config)?];
    fails(&[&recover[..], &["--confirm", &id]].concat(), 2, "data_directory")?;
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    fs::remove_dir_all(&cluster.dev.nodes[2].data_dir)?;
    let before = fs::read_to_string(&config)?;
    let said = fails(&recover, 2, "not_confirmed")?;
    ensure!(said.contains("is lost") && said.contains(&id), "{said}");
    fails(&[&recover[..], &["--confirm", "lh-other"]].concat(), 2, "not_confirmed")?;
    ensure!(fs::read_to_string(&config)? == before, "changed without a confirmation");
    let done = run(&[&recover[..], &["--confirm", &id]].concat())?;
    ensure!(done["epoch"] == 2 && done["node_id"] == 4, "{done}");

    let gateway = cluster.dev.nodes[0].gateway.clone();
    let dev = with_node(&cluster.dev, 4, gateway, config.clone())?;
    let _serving = Serving::start(&config, cluster.scratch().join("recovered.log"))?;
    let api = Api::new(&dev)?;
    eventually("the survivor is ready", || api.is_ready(4)).await?;
    heartbeat(&api, 4, &token, &ada).await?.expect(401)?;
    let back = all_come_back_at_once(&api, 4, &shop, &[ada, ben]).await?;
    // What is left of the former epoch finds nobody, says so once, and changes nothing.
    cluster.start_node(2)?;
    eventually("the former node says why it is alone", || {
        let log = cluster.log(2).unwrap_or_default();
        async move { log.contains("another node of the cluster answers there").then_some(()) }
    })
    .await?;
    let token = shop.token(&api, 4).await?;
    for seat in &back {
        heartbeat(&api, 4, &token, seat).await?.expect(200)?;
    }
    let (_, verified) = verified_backup(&dev, 4, &cluster.scratch().join("later"))?;
    ensure!(verified["epoch"] == 2, "{verified}");
    Ok(())
}
