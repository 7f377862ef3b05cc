//! The command line as a person and as a script use it: exit codes, one JSON document, one line of
//! error that says what to do.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::Reply;
use leasehold_tests::cluster::{Cluster, binary, leasehold};
use leasehold_tests::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

struct Line<'a> {
    cluster: &'a Cluster,
    server: String,
    token: String,
}

impl<'a> Line<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let nodes = &cluster.dev.nodes;
        let server = nodes.last().map(|node| node.gateway.clone()).unwrap_or_default();
        Self { cluster, server, token: cluster.dev.admin_token.clone() }
    }

    fn run(&self, words: &[&str]) -> Result<(i32, String, String)> {
        let ca = self.cluster.dev.ca_cert.to_str().context("path")?;
        let mut all = words.to_vec();
        all.extend(["--server", &self.server, "--ca-cert", ca, "--token", &self.token]);
        let output = leasehold(&all)?;
        Ok((
            output.status.code().context("killed")?,
            String::from_utf8(output.stdout)?,
            String::from_utf8(output.stderr)?,
        ))
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        let mut all = words.to_vec();
        all.extend(["--output", "json"]);
        let (code, out, error) = self.run(&all)?;
        ensure!(code == 0, "{words:?}: exit {code}: {error}");
        serde_json::from_str(&out).with_context(|| format!("{words:?} printed {out}"))
    }

    fn fails(&self, words: &[&str], expected: i32) -> Result<String> {
        let (code, _, error) = self.run(words)?;
        ensure!(code == expected, "{words:?}: exit {code}, expected {expected}: {error}");
        ensure!(!error.trim().is_empty(), "{words:?}: says nothing");
        Ok(error)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_speaks_json_and_its_exit_codes_are_those_of_the_table() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    {
        let line = Line::new(&cluster);
        let status = line.json(&["cluster", "status"])?;
        ensure!(status["cluster_id"] == cluster.dev.cluster_id.as_str(), "{status}");
        let ids: Vec<u64> = status["nodes"]
            .as_array()
            .context("no nodes")?
            .iter()
            .filter_map(|node| node["id"].as_u64())
            .collect();
        ensure!(ids == [1, 2, 3], "{status}");
        let leaders = status["nodes"].as_array().into_iter().flatten();
        ensure!(leaders.filter(|node| node["role"] == "leader").count() == 1, "{status}");
        for words in [
            &["vendor", "trust", "list"][..],
            &["package", "list"],
            &["package", "show", "vec-davinci-se-bmw-2025-001"],
            &["app", "list"],
            &["lease", "list"],
        ] {
            line.json(words)?;
            let (code, table, error) = line.run(words)?;
            ensure!(code == 0, "{words:?}: {error}");
            ensure!(!table.trim().is_empty(), "{words:?} shows nothing");
        }
        line.fails(&["package", "show", "no-such-package"], 5)?;
        line.fails(&["lease", "show", "lease-nonsense"], 5)?;
        line.fails(&["no-such-verb"], 2)?;
        line.fails(&["package", "sign"], 2)?;
        seats_from_the_command_line(&line)?;
        let stranger = Line { token: "lh_op_nonsense".into(), ..Line::new(&cluster) };
        stranger.fails(&["package", "list"], 4)?;
        let nowhere = Line { server: "https://127.0.0.1:1".into(), ..Line::new(&cluster) };
        nowhere.fails(&["package", "list"], 3)?;
    }
    cluster.kill(1)?;
    let leader = cluster.leader().await?;
    ensure!(leader != 1);
    let line = Line { server: gateway(&cluster, leader)?, ..Line::new(&cluster) };
    let (code, _, error) = line.run(&["cluster", "status"])?;
    ensure!(code == 11, "one node down is degraded, not {code}: {error}");
    let left = cluster.ids().into_iter().find(|id| *id != 1 && *id != leader).context("none")?;
    cluster.kill(left)?;
    let line = Line { server: gateway(&cluster, leader)?, ..Line::new(&cluster) };
    line.fails(&["package", "list"], 7)?;
    let (code, _, error) = line.run(&["cluster", "status"])?;
    ensure!(code == 10, "no quorum is unhealthy, not {code}: {error}");
    Ok(())
}

/// Whoever follows the audit log misses nothing and sees nothing twice, whichever node dies.
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_followed_through_a_leaders_death() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let api = cluster.api()?;
    let out = cluster.scratch().join("followed.jsonl");
    let servers: Vec<&str> =
        cluster.dev.nodes.iter().flat_map(|node| ["--server", &node.gateway]).collect();
    let ca = cluster.dev.ca_cert.to_str().context("path")?;
    let mut follower = Command::new(binary()?)
        .args(["audit", "tail", "-f", "--kind", "lease_granted", "-o", "json"])
        .args(servers)
        .args(["--ca-cert", ca, "--token", &cluster.dev.admin_token])
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(cluster.scratch().join("followed.log"))?)
        .spawn()?;
    let followed = || -> Result<Vec<Value>> {
        let text = fs::read_to_string(&out)?;
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    };
    // The seat that `dev` took for its story comes first.
    let before = eventually("what was is shown", || async {
        followed().ok().map(|events| events.len()).filter(|shown| *shown > 0)
    })
    .await?;
    let leader = cluster.leader().await?;
    let node = cluster.ids().into_iter().find(|id| *id != leader).context("no follower")?;
    let mut granted = Vec::new();
    for round in 0..6 {
        if round == 3 {
            cluster.kill(leader)?;
        }
        let token = api.token(node).await?;
        let body = json!({
            "product_id": cluster.dev.app.product_id, "user": "u", "hostname": "h",
            "metadata": { "version": "8.2.1" },
        });
        let key = format!("round-{round}");
        let lease = eventually("a seat is taken", || async {
            match api.checkout(node, &token, Some(&key), &body).await {
                Ok(Reply::Answer(answer)) if answer.status == 200 => {
                    answer.text("lease_id").ok().map(str::to_owned)
                }
                _ => None,
            }
        })
        .await?;
        granted.push(lease);
        eventually("the follower has seen it", || {
            let seen = followed().is_ok_and(|events| events.len() >= before + granted.len());
            async move { seen.then_some(()) }
        })
        .await?;
    }
    let leases: Vec<String> =
        followed()?.iter().filter_map(|it| it["lease_id"].as_str().map(str::to_owned)).collect();
    ensure!(leases[before..] == granted, "{leases:?} {granted:?}");
    let pid = Pid::from_child(&follower);
    // Not INT: whoever runs this in the background of a shell has it ignored.
    kill_process(pid, Signal::TERM)?;
    follower.wait()?;
    Ok(())
}

fn gateway(cluster: &Cluster, id: u64) -> Result<String> {
    let node = cluster.dev.nodes.iter().find(|node| node.id == id);
    Ok(node.context("no such node")?.gateway.clone())
}

fn seats_from_the_command_line(line: &Line<'_>) -> Result<()> {
    let app = &line.cluster.dev.app;
    let as_app = ["--client-id", &app.client_id, "--client-secret", &app.client_secret];
    let call = |words: &[&str]| line.json(&[words, &as_app].concat());
    let product = ["checkout", "--product-id", &app.product_id, "--user", "u@bmw.com"];
    let check_out = |version| call(&[&product[..], &["--product-version", version]].concat());
    let taken = check_out("8.2.1")?;
    let lease = taken["lease_id"].as_str().context("no lease_id")?.to_owned();
    let renewal = taken["renewal_token"].as_str().context("no renewal_token")?.to_owned();
    call(&["heartbeat", &lease, "--renewal-token", &renewal])?;
    ensure!(line.json(&["lease", "show", &lease])?["lease_id"] == lease.as_str());
    call(&["return", &lease])?;
    let taken = check_out("8.2.1")?;
    let lease = taken["lease_id"].as_str().context("no lease_id")?.to_owned();
    line.json(&["lease", "release", &lease])?;
    let words =
        ["checkout", "--product-id", &app.product_id, "--user", "u", "--product-version", "1.0.0"];
    let refused = [&words[..], &as_app].concat();
    let (code, _, error) = line.run(&refused)?;
    ensure!(code == 6, "a version that is not covered: {code} {error}");
    Ok(())
}

#[test]
fn keys_and_packages_are_made_and_checked_without_a_server() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name).to_str().unwrap_or_default().to_owned();
    for algorithm in ["ed25519", "rsa"] {
        let (private, public) = (at(algorithm), at(&format!("{algorithm}.pub")));
        let paths = ["--private-key", &private, "--public-key", &public];
        let words = [&["package", "keygen", "--algorithm", algorithm], &paths[..]].concat();
        let made = leasehold(&words)?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let again = leasehold(&words)?;
        ensure!(!again.status.success(), "keygen overwrote a key");
    }
    Ok(())
}
