//! The life of a cluster on real machines, played with real processes: built by hand, a node whose
//! disk was wiped, a node that moves, a restart of all.

use std::fs;

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::{Api, Reply};
use leasehold_tests::operated::{Operated, bare, error_of};
use leasehold_tests::packages::Registered;
use leasehold_tests::upkeep::{all_is_well, roll, write_addresses};
use leasehold_tests::wait::eventually;
use serde_json::{Value, json};

const PRODUCT: &str = "davinci-by-hand";
const SEATS: u32 = 10;

async fn take(api: &Api, node: u64, app: &Registered, user: &str) -> Result<Value> {
    let token = api.token_of(node, &app.client_id, &app.client_secret).await?;
    let body = json!({
        "product_id": PRODUCT, "user": user, "hostname": "h", "metadata": { "version": "8.2.1" },
    });
    let answer = eventually("a seat is taken", || async {
        match api.checkout(node, &token, Some(user), &body).await {
            Ok(Reply::Answer(answer)) if answer.status != 503 => Some(answer),
            _ => None,
        }
    })
    .await?;
    Ok(answer.expect(200)?.body)
}

/// The command in a line that a damaged node printed.
fn command_in(said: &str) -> Result<String> {
    let at =
        said.find("leasehold member replace").with_context(|| format!("no command: {said}"))?;
    Ok(said[at..].lines().next().unwrap_or_default().trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_built_by_hand_and_a_wiped_node_comes_back_by_the_printed_command()
-> Result<()> {
    let mut cluster = Operated::init().await?;
    let app = cluster.package(PRODUCT, SEATS).await?;
    take(&cluster.api()?, 1, &app, "before").await?;
    tokens_are_good_once(&mut cluster).await?;
    let ids = cluster.ids();
    ensure!(ids.len() == 3, "{ids:?}");
    let (second, third) = (ids[1], ids[2]);
    for (node, user) in [(1, "ada"), (second, "bob"), (third, "cyd")] {
        take(&cluster.api()?, node, &app, user).await?;
    }

    cluster.kill(third)?;
    fs::remove_dir_all(cluster.node(third)?.dir.join("data"))?;
    let refused = cluster.cli(&["member", "remove", &second.to_string()])?;
    ensure!(refused.status.code() == Some(6), "{}", error_of(&refused));
    let third_name = format!("bring node {third} back first");
    ensure!(error_of(&refused).contains(&third_name), "{}", error_of(&refused));
    let (code, said) = cluster.start_in_vain(third).await?;
    ensure!(code == Some(8), "exit {code:?}: {said}");
    let command = command_in(&said)?;
    let replaced = cluster.run_printed(&format!("{command} -o json"))?;
    ensure!(replaced.status.success(), "{command}: {}", error_of(&replaced));
    let replaced: Value = serde_json::from_slice(&replaced.stdout)?;
    let fourth = replaced["node_id"].as_u64().context("no node_id")?;
    ensure!(fourth > third && replaced["replaces"] == third, "{replaced}");
    cluster.renumber(third, fourth)?;
    cluster.start(fourth)?;
    cluster.votes(fourth).await?;
    cluster.leaves(third).await?;
    cluster.ready(fourth).await?;

    take(&cluster.api()?, fourth, &app, "dee").await?;
    let again = take(&cluster.api()?, 1, &app, "ada").await?;
    ensure!(again["lease_id"].is_string(), "{again}");
    all_is_well(&mut cluster).await?;
    let list = cluster.cli_json(&["member", "list"])?;
    let former = list["former"].as_array().context("no former")?;
    ensure!(former.iter().any(|it| it["node_id"] == third && it["had_joined"] == true), "{list}");

    // One that is removed while it runs learns of it, and says so.
    let removed = cluster.cli(&["member", "remove", &second.to_string()])?;
    ensure!(removed.status.success(), "{}", error_of(&removed));
    let ended = cluster.ended(second).await?;
    ensure!(ended.code() == Some(6), "{ended}: {}", cluster.log(second)?);
    ensure!(cluster.log(second)?.contains("was removed from the cluster"), "it does not say why");
    cluster.forget(second)?;
    all_is_well(&mut cluster).await
}

/// Two nodes join; what a token must not do, it does not.
async fn tokens_are_good_once(cluster: &mut Operated) -> Result<()> {
    let invited = cluster.cli_json(&["member", "add"])?;
    let token = invited["token"].as_str().context("no token")?.to_owned();
    let broken = format!("{}A", &token[..token.len() - 1]);
    let dir = cluster.scratch().join("never").display().to_string();
    let try_with = |token: &str| bare(&["cluster", "join", "--token", token, "--dir", &dir], &[]);
    if broken != token {
        let refused = try_with(&broken)?;
        ensure!(refused.status.code() == Some(2), "{}", error_of(&refused));
        ensure!(error_of(&refused).contains("not copied whole"), "{}", error_of(&refused));
    }
    let second = cluster.join(&token, &[])?;
    cluster.start(second)?;
    cluster.votes(second).await?;
    let refused = try_with(&token)?;
    ensure!(refused.status.code() == Some(4), "{}", error_of(&refused));
    ensure!(error_of(&refused).contains("leasehold member add"), "{}", error_of(&refused));
    let withdrawn = cluster.cli_json(&["member", "add"])?;
    let id = withdrawn["node_id"].as_u64().context("no node_id")?.to_string();
    let removed = cluster.cli(&["member", "remove", &id])?;
    ensure!(removed.status.success(), "{}", error_of(&removed));
    let refused = try_with(withdrawn["token"].as_str().context("no token")?)?;
    ensure!(refused.status.code() == Some(4), "{}", error_of(&refused));
    cluster.add().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_moves_leadership_is_handed_over_and_all_nodes_are_rolled() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let app = cluster.package(PRODUCT, SEATS).await?;
    take(&cluster.api()?, 1, &app, "ada").await?;

    let leader = cluster.leader().await?;
    let other = cluster.ids().into_iter().find(|id| *id != leader).context("no other")?;
    let moved = cluster.cli_json(&["cluster", "transfer-leader", "--to", &other.to_string()])?;
    ensure!(moved["leader"] == other, "{moved}");

    // It listens elsewhere from now on, for peers and for applications.
    cluster.stop(leader).await?;
    let config = cluster.node(leader)?.config.clone();
    let options = cluster.addresses_of(7);
    write_addresses(&config, &options[1], &options[3])?;
    cluster.moved(leader, &options[1], &options[3])?;
    cluster.start(leader)?;
    cluster.ready(leader).await?;
    let peer = options[3].clone();
    eventually("the others know where it is", || async {
        let members = cluster.members().await.ok()?;
        let found = members.iter().find(|member| member["node_id"] == leader)?;
        (found["peer_address"] == peer.as_str()).then_some(())
    })
    .await?;
    take(&cluster.api()?, leader, &app, "bob").await?;

    let (rolled, _) = roll(&mut cluster).await?;
    ensure!(rolled["restarted"].as_array().is_some_and(|ids| ids.len() == 3), "{rolled}");
    take(&cluster.api()?, other, &app, "cyd").await?;
    all_is_well(&mut cluster).await
}
