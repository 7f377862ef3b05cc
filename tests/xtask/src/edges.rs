//! The one direction of arrows: the workspace's real dependency graph against the permitted one.
//!
//! `tests/permitted-edges.txt` lists every permitted edge between crates of this workspace and
//! every crate that one of ours must never reach. Both are read from `cargo tree`, which resolves
//! features and targets as a build does.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};

const PERMITTED: &str = "tests/permitted-edges.txt";

/// All findings, one line each: an edge that is not permitted, a permitted edge that is gone, a
/// forbidden crate that is reached.
pub(crate) fn check() -> Result<Vec<String>> {
    let text =
        std::fs::read_to_string(PERMITTED).with_context(|| format!("cannot read {PERMITTED}"))?;
    let rules = parse(&text)?;
    let mut findings = Vec::new();
    let members = workspace_members()?;
    for member in &members {
        let direct = tree(&["--package", member, "--depth", "1", "--edges", "normal,build,dev"])?;
        for dependency in direct.intersection(&members).filter(|name| *name != member) {
            let edge = (member.clone(), dependency.clone());
            if !rules.edges.contains(&edge) {
                findings.push(format!("{member} -> {dependency} is not in {PERMITTED}"));
            }
        }
        for (_, to) in rules.edges.iter().filter(|(from, _)| from == member) {
            if !direct.contains(to) {
                findings.push(format!("{member} -> {to} is permitted but not there: remove it"));
            }
        }
    }
    for (member, never) in &rules.never {
        let reached = tree(&["--package", member, "--edges", "normal,build"])?;
        if reached.contains(never) {
            findings.push(format!("{member} reaches {never}; `cargo tree -p {member} -i {never}`"));
        }
    }
    Ok(findings)
}

struct Rules {
    edges: BTreeSet<(String, String)>,
    never: BTreeSet<(String, String)>,
}

/// Lines `from -> to` and `from never to`; `#` begins a comment.
fn parse(text: &str) -> Result<Rules> {
    let mut rules = Rules { edges: BTreeSet::new(), never: BTreeSet::new() };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [from, "->", to] => {
                rules.edges.insert(((*from).to_owned(), (*to).to_owned()));
            }
            [from, "never", to] => {
                rules.never.insert(((*from).to_owned(), (*to).to_owned()));
            }
            _ => bail!("{PERMITTED}: cannot read `{line}`"),
        }
    }
    Ok(rules)
}

fn workspace_members() -> Result<BTreeSet<String>> {
    let output = cargo_tree(&["--workspace", "--depth", "0"])?;
    Ok(names(&output))
}

fn tree(arguments: &[&str]) -> Result<BTreeSet<String>> {
    Ok(names(&cargo_tree(arguments)?))
}

fn names(output: &str) -> BTreeSet<String> {
    output
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| !word.starts_with('['))
        .map(str::to_owned)
        .collect()
}

fn cargo_tree(arguments: &[&str]) -> Result<String> {
    let output = Command::new("cargo")
        .args(["tree", "--prefix", "none", "--quiet"])
        .args(arguments)
        .output()
        .context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("cargo tree printed no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_nonsense_is_refused() {
        let rules = parse("a -> b # why\n\n# all comment\na never c\n").unwrap();
        assert_eq!(rules.edges.len(), 1);
        assert_eq!(rules.never.len(), 1);
        assert!(parse("a => b").is_err());
    }
}
