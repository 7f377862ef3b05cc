//! What a run stands on: the binary under test, and the commit that it is of.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The release binary: the one that was named, else `LEASEHOLD_BIN`, else the workspace's, which is
/// built first when the rig was started by cargo.
///
/// # Errors
/// When there is none, or it does not build.
pub fn binary(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        ensure!(path.exists(), "there is no {}", path.display());
        return Ok(path.to_owned());
    }
    if let Some(path) = std::env::var_os("LEASEHOLD_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.exists(), "LEASEHOLD_BIN names {}, which is not there", path.display());
        return Ok(path);
    }
    if let Some(cargo) = std::env::var_os("CARGO") {
        eprintln!("building the release binary of leasehold");
        let words = ["build", "--release", "--quiet", "--package", "node"];
        let status = Command::new(cargo).args(words).status().context("cannot run cargo")?;
        ensure!(status.success(), "leasehold did not build");
    }
    let own = std::env::current_exe().context("no path of this executable")?;
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("leasehold"));
    match beside.into_iter().find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => bail!("no `leasehold` beside this program: cargo build --release -p node"),
    }
}

/// The commit of the working directory, with `-dirty` where it was changed; the binary's version
/// where there is no git.
pub fn commit(binary: &Path) -> String {
    let said = |program: &mut Command| {
        let output = program.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*", "--abbrev=12"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let of_git = described.ok().filter(|output| output.status.success());
    let of_git = of_git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    of_git
        .filter(|text| !text.is_empty())
        .or_else(|| said(Command::new(binary).arg("--version")))
        .unwrap_or_else(|| "unknown".to_owned())
}
