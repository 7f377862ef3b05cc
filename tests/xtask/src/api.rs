//! What strangers' tools say of the API: a linter of its document, and a fuzzer that asks a running
//! node everything that only reads, with what the document allows and with what it does not.
//!
//! Both tools are of other languages, and a tier whose tool is not installed is skipped aloud.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Whether a program is there to be run.
pub(crate) fn is_there(program: &str) -> bool {
    let mut asked = Command::new(program);
    let asked = asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok_and(|status| status.success())
}

/// Lints the committed document; `None` where the linter is not installed.
pub(crate) fn lint() -> Result<Option<bool>> {
    if !is_there("redocly") {
        println!("skipped: redocly is not installed (npm install --global @redocly/cli)");
        return Ok(None);
    }
    let words = ["lint", DOCUMENT, "--config", "tests/openapi/redocly.yaml", "--format", "stylish"];
    let status = Command::new("redocly").args(words).status().context("cannot run redocly")?;
    Ok(Some(status.success()))
}

/// Asks a node of `leasehold dev` everything that reads; `None` where the fuzzer is not installed.
pub(crate) fn fuzz() -> Result<Option<bool>> {
    if !is_there("schemathesis") {
        println!("skipped: schemathesis is not installed (pip install schemathesis)");
        return Ok(None);
    }
    let node = Node::start()?;
    let mut ok = true;
    for (who, token, filter, seconds) in [
        ("an operator", node.admin_token.clone(), ["--exclude-tag", "licenses"], "40"),
        ("an application", node.access_token()?, ["--include-tag", "licenses"], "15"),
    ] {
        println!("asking as {who}");
        let status = Command::new("schemathesis")
            .args(["run", &format!("{}/openapi.json", node.url)])
            .args(["--tls-verify", &node.ca_cert])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--header", &format!("X-API-Key: {token}")])
            .args(filter)
            .args(["--max-time", seconds])
            .args(FUZZER)
            .status()
            .context("cannot run schemathesis")?;
        ok &= status.success();
    }
    Ok(Some(ok))
}

/// A cluster of one node, stopped and removed at the end.
struct Node {
    process: Child,
    dir: PathBuf,
    url: String,
    ca_cert: String,
    admin_token: String,
}

impl Node {
    fn start() -> Result<Self> {
        let dir = std::path::absolute("target/fuzzed-node")?;
        let process = Command::new(PROGRAM)
            .args(["dev", "--clean", "--nodes", "1", "--base-port", BASE_PORT, "--dir"])
            .arg(&dir)
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run leasehold dev")?;
        let mut node = Self {
            process,
            url: String::new(),
            ca_cert: String::new(),
            admin_token: String::new(),
            dir,
        };
        let told = node.wait()?;
        let text = |pointer: &str| {
            let found = told.pointer(pointer).and_then(Value::as_str);
            found.map(str::to_owned).with_context(|| format!("dev.json has no {pointer}"))
        };
        node.url = text("/nodes/0/gateway")?;
        node.ca_cert = text("/ca_cert")?;
        node.admin_token = text("/admin_token")?;
        Ok(node)
    }

    /// Waits for what `dev` writes when its cluster is up.
    fn wait(&mut self) -> Result<Value> {
        for _ in 0..MAX_LOOKS {
            if let Some(status) = self.process.try_wait()? {
                bail!("leasehold dev ended: {status}");
            }
            let told = std::fs::read(self.dir.join("dev.json")).ok();
            if let Some(told) = told.and_then(|told| serde_json::from_slice(&told).ok()) {
                return Ok(told);
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        bail!("leasehold dev did not come up")
    }

    fn access_token(&self) -> Result<String> {
        let output = Command::new(PROGRAM)
            .args(["token", "--context"])
            .arg(self.dir.join("context.toml"))
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run leasehold token")?;
        if !output.status.success() {
            bail!("no access token: {}", output.status);
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let id = self.process.id().to_string();
        // An interrupt, so that it stops its own nodes.
        let told = Command::new("kill").args(["-INT", &id]).status();
        if !told.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        println!("{}: {error}", dir.display());
    }
}

const DOCUMENT: &str = "client/openapi/openapi.json";
const PROGRAM: &str = "target/release/leasehold";
const BASE_PORT: &str = "7960";
/// Reads only, in an order that repeats itself; streams have no end to wait for. That a request
/// fits the document does not make it accepted: no cursor that is made up is one of ours.
const FUZZER: &[&str] = &[
    "--exclude-method",
    "POST",
    "--exclude-method",
    "PUT",
    "--exclude-method",
    "DELETE",
    "--exclude-operation-id-regex",
    "(?i)stream|event|snapshot|bundle",
    "--phases",
    "examples,coverage,fuzzing",
    "--checks",
    "all",
    "--exclude-checks",
    "positive_data_acceptance",
    "--max-examples",
    "20",
    "--request-timeout",
    "10",
    "--seed",
    "1",
    "--suppress-health-check",
    "all",
    "--warnings",
    "off",
    "--no-shrink",
];
const MAX_LOOKS: u32 = 600;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
