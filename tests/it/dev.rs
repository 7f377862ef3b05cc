//! The one command: what a new user types first, and what it must say when it cannot.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use leasehold_tests::api::Api;
use leasehold_tests::cluster::{Cluster, Dev, free_base_port, leasehold};
use leasehold_tests::wait::eventually;
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread")]
async fn the_one_command_does_the_whole_job_and_resumes() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("dev");
    let base = free_base_port()?;
    let mut dev = Dev::spawn(&dir, base, &[])?;
    let first = dev.ready().await?;
    ensure!(first.version == 1 && first.nodes.len() == 3, "{first:?}");
    let mode = std::fs::metadata(dir.join("dev.json"))?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "dev.json has mode {mode:o}");
    for (node, id) in first.nodes.iter().zip(1_u64..) {
        ensure!(node.id == id, "nodes are not in order of id: {first:?}");
        ensure!(node.gateway == format!("https://127.0.0.1:{}", u64::from(base) + id), "{node:?}");
        ensure!(node.peer == format!("127.0.0.1:{}", u64::from(base) + 10 + id), "{node:?}");
    }
    let printed = eventually("the tour is printed", || {
        let printed = dev.printed();
        async move { printed.contains("Or with the command line").then_some(printed) }
    })
    .await?;
    curl_lines_work_as_printed(&printed)?;
    let status = dev.stop(Signal::INT).await?;
    ensure!(status.success(), "SIGINT ended dev with {status}");
    for node in &first.nodes {
        ensure!(!std::path::Path::new(&format!("/proc/{}", node.pid)).exists(), "{node:?} lives");
    }
    let mut again = Dev::spawn(&dir, base, &[])?;
    let second = again.ready().await?;
    ensure!(second.cluster_id == first.cluster_id, "a second start founded another cluster");
    ensure!(second.app.client_id == first.app.client_id, "a second start made another app");
    let api = Api::new(&second)?;
    api.token(3).await?;
    let status = again.stop(Signal::TERM).await?;
    ensure!(status.success(), "SIGTERM ended dev with {status}");
    Ok(())
}

/// Runs the printed block that a user would paste into a shell.
fn curl_lines_work_as_printed(printed: &str) -> Result<()> {
    let script = printed
        .split_once("paste this into a shell:")
        .and_then(|(_, rest)| rest.split_once("Or with the command line"))
        .map(|(block, _)| block)
        .with_context(|| format!("no block to paste in: {printed}"))?;
    ensure!(script.matches("curl ").count() >= 4, "fewer than four curl lines: {script}");
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("set -eu\n{script}"))
        .stdin(Stdio::null())
        .output()?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success()
            && ["success", "renewed", "returned"].iter().all(|word| out.contains(word)),
        "{script}\n{out}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_one_clear_line() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let base = free_base_port()?;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", base + 2))?;
    let dir = scratch.path().join("dev");
    let mut dev = Dev::spawn(&dir, base, &[])?;
    let status = dev.ended().await?;
    let printed = dev.printed();
    ensure!(!status.success(), "{printed}");
    let errors: Vec<&str> = printed.lines().filter(|line| line.starts_with("error")).collect();
    ensure!(errors.len() == 1 && errors[0].contains(&(base + 2).to_string()), "{printed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_ours_is_not_touched() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("precious");
    std::fs::create_dir(&dir)?;
    std::fs::write(dir.join("thesis.txt"), "irreplaceable")?;
    let mut dev = Dev::spawn(&dir, free_base_port()?, &["--clean"])?;
    let status = dev.ended().await?;
    ensure!(!status.success(), "{}", dev.printed());
    ensure!(std::fs::read_to_string(dir.join("thesis.txt"))? == "irreplaceable", "it was removed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_config_is_one_line_and_exit_code_2_before_any_socket() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let good = std::fs::read_to_string(&cluster.dev.nodes[0].config)?;
    let path = cluster.scratch().join("node.toml");
    let table: &[(&str, String, &str)] = &[
        ("unknown key", format!("nonsense_key = 1\n{good}"), "nonsense_key"),
        ("not TOML", "node_id = = 1".to_owned(), "node.toml"),
        (
            "missing file",
            good.replace("ca.pem", "no-such-ca.pem").replace("ca.crt", "no-such-ca.pem"),
            "no-such-ca.pem",
        ),
    ];
    for (what, text, named) in table {
        std::fs::write(&path, text)?;
        let output = leasehold(&["serve", "--config", path.to_str().context("path")?])?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{what}: {:?} {error}", output.status);
        ensure!(error.trim_end().lines().count() == 1, "{what}: not one line: {error}");
        ensure!(error.contains(named), "{what}: does not name {named}: {error}");
    }
    let output = leasehold(&["serve", "--config", "/nonexistent/node.toml"])?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}
