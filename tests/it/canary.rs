//! Known secrets are sent through every flow and then looked for where none may be: data
//! directories (log, state, snapshots), log files, process arguments and environments.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::{Answer, Api, Reply};
use leasehold_tests::cluster::Cluster;
use leasehold_tests::packages::{import_and_register, sign, template};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_in_log_state_snapshots_or_process_arguments() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let secrets = send_secrets_through_every_flow(&cluster).await?;
    for id in cluster.ids() {
        look_into_processes(&cluster, id, &secrets)?;
    }
    // A clean stop writes a checkpoint, so state and log both hold what was sent.
    for id in cluster.ids() {
        let status = cluster.stop(id).await?;
        ensure!(status.success(), "node {id} stopped with {status}");
    }
    let mut looked_at = 0;
    for node in &cluster.dev.nodes {
        for path in files_below(&node.data_dir)?.into_iter().chain([node.log.clone()]) {
            let bytes = fs::read(&path)?;
            looked_at += bytes.len();
            for (name, secret) in &secrets {
                ensure!(!contains(&bytes, secret), "{name} stands in {}", path.display());
            }
        }
    }
    ensure!(
        looked_at > 10_000,
        "only {looked_at} bytes were looked at: the search missed the data"
    );
    // The search itself works: what is no secret is found.
    let known = b"davinci-configurator-se".to_vec();
    let found = files_below(&cluster.dev.nodes[0].data_dir)?
        .iter()
        .any(|path| fs::read(path).is_ok_and(|bytes| contains(&bytes, &known)));
    ensure!(found, "the product id is not found in the data either: the search is blind");
    Ok(())
}

type Secrets = Vec<(String, Vec<u8>)>;

async fn send_secrets_through_every_flow(cluster: &Cluster) -> Result<Secrets> {
    let api = cluster.api()?;
    let mut secrets: Secrets = Vec::new();
    let mut keep =
        |name: &str, text: &str| secrets.push((name.to_owned(), text.as_bytes().to_vec()));
    keep("the operator token", &cluster.dev.admin_token);
    keep("the client secret", &cluster.dev.app.client_secret);
    let package = template(&cluster.dev, "canary-1", "canary", 5)?;
    let package = sign(&cluster.dev, cluster.scratch(), &package)?;
    let app = import_and_register(&api, &package).await?;
    keep("a registered client secret", &app.client_secret);
    let path = format!("/admin/apps/{}/rotate-secret", app.app_id);
    let rotated = api.admin(2, Method::POST, &path, Some(json!({}))).await?.expect(200)?;
    let secret = rotated.text("client_secret")?.to_owned();
    keep("a rotated client secret", &secret);
    let token = api.token_of(3, &app.client_id, &secret).await?;
    keep("an access token", &token);
    let body = json!({
        "product_id": "canary", "user": "u@bmw.com", "hostname": "h",
        "metadata": { "version": "8.2.1" },
    });
    let Reply::Answer(taken) = api.checkout(1, &token, None, &body).await? else {
        anyhow::bail!("no answer");
    };
    let taken = taken.expect(200)?;
    let renewal = taken.text("renewal_token")?.to_owned();
    keep("a renewal token", &renewal);
    let Reply::Answer(renewed) =
        api.heartbeat(2, &token, taken.text("lease_id")?, &renewal).await?
    else {
        anyhow::bail!("no answer");
    };
    keep("a second renewal token", renewed.expect(200)?.text("renewal_token")?);
    send_license_keys(&api, &mut keep).await?;
    // Secrets where none belong: a wrong token, a wrong secret, a query.
    let wrong = "lh_op_canary-canary-canary-canary-canary-canary";
    keep("a wrong operator token", wrong);
    let request = api.request(1, Method::GET, "/admin/packages")?.bearer_auth(wrong);
    api.answer(request).await?.expect(401)?;
    let wrong = "wrong-secret-canary-0123456789";
    keep("a wrong client secret", wrong);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", app.client_id.as_str()),
        ("client_secret", wrong),
    ];
    api.answer(api.request(2, Method::POST, "/oauth/token")?.form(&form)).await?.expect(401)?;
    for path in private_key_files(cluster)? {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let longest = text.lines().filter(|line| !line.starts_with('-')).max_by_key(|l| l.len());
        if let Some(line) = longest.filter(|line| line.len() >= 32) {
            keep(&format!("the private key of {}", path.display()), line);
        }
    }
    look_into_answers(&api, &secrets).await?;
    Ok(secrets)
}

/// A key of each protocol is issued and shown where its holders show it.
async fn send_license_keys(api: &Api, keep: &mut impl FnMut(&str, &str)) -> Result<()> {
    let mut issue = async |name: &str, mut body: Value| -> Result<(String, Value)> {
        body["package_id"] = json!("canary-1");
        let issued = api.admin(2, Method::POST, "/admin/licenses", Some(body)).await?;
        let issued = issued.expect(201)?;
        let key = issued.text("license_key")?.to_owned();
        keep(name, &key);
        keep(&format!("{name}, without its dashes"), &key.replace('-', ""));
        Ok((key, issued.body["license"].clone()))
    };
    let body = json!({ "protocol": "device", "email": "owner@example.com" });
    let (device, license) = issue("a device license key", body).await?;
    let (deployment, _) = issue("a deployment key", json!({ "protocol": "deployment" })).await?;
    let (evaluation, _) = issue("an evaluation code", json!({ "protocol": "evaluation" })).await?;
    let post = async |path: &str, body: Value| -> Result<Answer> {
        api.answer(api.request(3, Method::POST, path)?.json(&body)).await?.expect(200)
    };
    let body = json!({
        "email": "owner@example.com", "client_id": license["client_id"], "license_key": device,
        "device_fingerprint": "43c157f62dac446b3cd8ceb2e6ff28f41e02ca03cca6dadc576f270309110f39",
    });
    post("/api/activate", body).await?;
    let body = json!({ "license_key": deployment, "cluster_id": "bzzz-cluster-1a2b3c4d-walnut" });
    let token = post("/v1/license/activate", body).await?.text("access_token")?.to_owned();
    keep("an access token of a cluster", &token);
    let body = json!({ "hostname_hash": "8f1f0466fc41bb15", "activation_code": evaluation });
    let answer = post("/v1/activate", body).await?;
    ensure!(answer.body["ok"] == true, "{answer:?}");
    let secret = "canary-secret-of-a-classic-vendor";
    keep("a classic vendor's secret", secret);
    let body = json!({ "vendor_id": "canary", "secret": secret });
    api.admin(1, Method::POST, "/admin/classic/vendors", Some(body)).await?.expect(200)?;
    Ok(())
}

/// What was shown once is in no answer that comes later.
async fn look_into_answers(api: &Api, secrets: &Secrets) -> Result<()> {
    let lists = ["licenses", "activations", "clients", "apps", "leases", "classic/vendors"];
    for list in lists {
        let path = format!("/admin/{list}");
        let told = api.admin(1, Method::GET, &path, None).await?.expect(200)?.body.to_string();
        for (name, secret) in secrets {
            ensure!(!contains(told.as_bytes(), secret), "{name} stands in the answer of {path}");
        }
    }
    Ok(())
}

/// Every file of the development directory outside data directories that is not for others' eyes.
fn private_key_files(cluster: &Cluster) -> Result<Vec<PathBuf>> {
    let root = cluster.dev.package.ancestors().find(|dir| dir.join("dev.json").exists());
    let root = root.context("no directory with dev.json")?;
    let data: Vec<&Path> = cluster.dev.nodes.iter().map(|node| node.data_dir.as_path()).collect();
    let files = files_below(root)?;
    Ok(files
        .into_iter()
        .filter(|path| !data.iter().any(|dir| path.starts_with(dir)))
        .filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("PRIVATE KEY")))
        .collect())
}

fn look_into_processes(cluster: &Cluster, id: u64, secrets: &Secrets) -> Result<()> {
    let mut found = false;
    for entry in fs::read_dir("/proc")?.flatten() {
        let dir = entry.path();
        let arguments = fs::read(dir.join("cmdline")).unwrap_or_default();
        let config = cluster.dev.nodes.iter().find(|node| node.id == id).map(|node| &node.config);
        let config = config.context("no such node")?.to_string_lossy().into_owned();
        if !contains(&arguments, config.as_bytes()) {
            continue;
        }
        found = true;
        let environment = fs::read(dir.join("environ")).unwrap_or_default();
        for (name, secret) in secrets {
            ensure!(!contains(&arguments, secret), "{name} stands in the arguments of node {id}");
            ensure!(!contains(&environment, secret), "{name} stands in the environment of {id}");
        }
    }
    ensure!(found, "no process runs with the configuration of node {id}");
    Ok(())
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    !wanted.is_empty() && bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn the_search_finds_what_is_there() {
    assert!(contains(b"abc secret def", b"secret"));
    assert!(!contains(b"abc secre", b"secret"));
}
