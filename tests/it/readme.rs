//! The README is true: its examples print what stands beside them, its program is the one that is
//! compiled, and the files that its tables name exist.
//!
//! The section of examples has shell lines to paste first, then for each protocol lines in `sh` and
//! what they print in `text`, where `…` stands for anything. All run in the directory of one
//! cluster that `leasehold dev` made, in their order; its port goes where the README has 7401.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use leasehold_tests::cluster::{Dev, binary, free_base_port};
use rustix::process::Signal;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_prints_what_stands_beside_it() -> Result<()> {
    let readme = readme()?;
    let section = section(&readme, EXAMPLES)?;
    let first = fenced(section.split("\n### ").next().unwrap_or(""), "sh")
        .first()
        .context("no lines to paste first")?
        .clone();
    let scratch = tempfile::tempdir()?;
    let release = binary()?.parent().context("the binary is nowhere")?.to_owned();
    std::fs::create_dir(scratch.path().join("target"))?;
    std::os::unix::fs::symlink(release, scratch.path().join("target/release"))?;
    let dir = scratch.path().join("leasehold-dev");
    let mut dev = Dev::spawn(&dir, free_base_port()?, &["--classic"])?;
    let up = dev.ready().await?;
    let gateway = &up.nodes.first().context("no node")?.gateway;
    let mut count = 0;
    let mut wrong = String::new();
    for part in section.split("\n### ").skip(1) {
        let title = part.lines().next().unwrap_or_default();
        let script = fenced(part, "sh").concat();
        let expected = fenced(part, "text").concat();
        ensure!(!script.is_empty() && !expected.is_empty(), "{title}: no lines, or no answer");
        let script = format!("{first}\n{script}").replace(README_GATEWAY, gateway);
        if let Err(reason) = prints(&script, &expected, scratch.path()) {
            wrong += &format!("== {title}: {reason:#}\n");
        }
        count += 1;
    }
    ensure!(wrong.is_empty(), "{wrong}");
    ensure!(count >= 7, "only {count} examples");
    let status = dev.stop(Signal::TERM).await?;
    ensure!(status.success(), "leasehold dev ended with {status}");
    Ok(())
}

#[test]
fn the_program_that_is_shown_is_the_one_that_is_compiled() -> Result<()> {
    let readme = readme()?;
    let shown = fenced(section(&readme, EXAMPLES)?, "rust").concat();
    let program = std::fs::read_to_string(root().join("client/rust/examples/checkout.rs"))?;
    let (header, code) = program.split_once("\n\n").context("no header")?;
    ensure!(header.starts_with("//!"), "{header}");
    ensure!(code == shown, "the README shows another program than the example:\n{shown}");
    Ok(())
}

#[test]
fn every_file_that_a_document_names_exists() -> Result<()> {
    let mut count = 0;
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document))?;
        let prose: String = text.split("```").step_by(2).collect();
        for word in prose.split('`').skip(1).step_by(2) {
            if !TOP.iter().any(|top| word.starts_with(top)) || word.contains(['…', '*', ' ']) {
                continue;
            }
            let path = word.split_once("::").map_or(word, |(path, _)| path);
            ensure!(root().join(path).exists(), "{document}: there is no {path}");
            count += 1;
        }
    }
    ensure!(count > 50, "only {count} paths were found");
    Ok(())
}

/// Runs the lines and compares what they print, line by line.
fn prints(script: &str, expected: &str, dir: &Path) -> Result<()> {
    let output = Command::new("bash")
        .arg("-c")
        .arg(format!("set -eu -o pipefail\n{script}"))
        .current_dir(dir)
        .env("HOME", "/nonexistent")
        .env_remove("LEASEHOLD_SERVER")
        .env_remove("LEASEHOLD_CA_CERT")
        .env_remove("LEASEHOLD_TOKEN")
        .env_remove("LEASEHOLD_CONTEXT")
        .stdin(Stdio::null())
        .output()
        .context("cannot run bash")?;
    let out = String::from_utf8_lossy(&output.stdout);
    let said = || format!("printed:\n{out}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}\n{}", output.status, said());
    let printed: Vec<&str> = out.lines().filter(|line| !line.is_empty()).collect();
    let same = printed.len() == expected.lines().count();
    ensure!(same, "not as many lines as expected\n{}", said());
    for (line, pattern) in printed.into_iter().zip(expected.lines()) {
        ensure!(fits(line, pattern), "expected: {pattern}\nprinted:  {line}");
    }
    Ok(())
}

/// Whether a line is as the pattern, in which `…` stands for anything.
pub(crate) fn fits(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// What stands between fences that name `language`.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    text.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once("```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

/// The text under a heading, up to the next of its level.
fn section<'a>(readme: &'a str, heading: &str) -> Result<&'a str> {
    let (_, rest) = readme.split_once(heading).with_context(|| format!("no {heading:?}"))?;
    Ok(rest.split("\n## ").next().unwrap_or(rest))
}

fn readme() -> Result<String> {
    Ok(std::fs::read_to_string(root().join("README.md"))?)
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_pattern_fits_what_it_says() {
    for (line, pattern, expected) in [
        ("{\"ok\":true}", "{\"ok\":true}", true),
        ("{\"ok\":true,\"id\":\"a\"}", "{\"ok\":true,…}", true),
        ("a-1-b-2-c", "a…b…c", true),
        ("a-1-b-2-d", "a…b…c", false),
        ("a", "a…b", false),
        ("ab", "a", false),
        ("ab", "b", false),
        ("anything", "…", true),
    ] {
        assert_eq!(fits(line, pattern), expected, "{line} {pattern}");
    }
}

const EXAMPLES: &str = "\n## One example for each protocol\n";
const README_GATEWAY: &str = "https://127.0.0.1:7401";
const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
/// Folders of the repository: what begins so is a path.
const TOP: [&str; 7] = ["lease/", "protocol/", "storage/", "raft/", "node/", "client/", "tests/"];
