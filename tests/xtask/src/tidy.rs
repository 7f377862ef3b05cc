//! Rules of the house that no lint knows.
//!
//! A file opens with `//!`, none is over 900 lines or 100 columns wide, no bare `allow`, no task
//! left for later in a comment, no sleep in a test, no golden data copied.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Longest file; above 500 lines its header should say why.
const MAX_LINES: usize = 900;
/// Widest line.
const MAX_COLUMNS: usize = 100;

/// All findings, one line each.
pub(crate) fn check() -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in tracked_sources()? {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        findings.extend(check_source(&path, &text));
    }
    Ok(findings)
}

fn tracked_sources() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .output()
        .context("cannot run git")?;
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(names.lines().map(PathBuf::from).filter(|path| path.exists()).collect())
}

fn check_source(path: &Path, text: &str) -> Vec<String> {
    let shown = path.display();
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!("{shown}:1: opens without `//!` saying what it owns"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{shown}: {lines} lines, at most {MAX_LINES}"));
    }
    for (number, line) in text.lines().enumerate() {
        let place = format!("{shown}:{}", number + 1);
        if line.chars().count() > MAX_COLUMNS && !line.contains("https://") {
            findings.push(format!("{place}: wider than {MAX_COLUMNS} columns"));
        }
        for (pattern, rule) in banned() {
            if line.contains(pattern.as_str()) {
                findings.push(format!("{place}: {rule}"));
            }
        }
    }
    findings
}

/// Patterns are put together from halves so that this file does not find itself.
fn banned() -> [(String, &'static str); 6] {
    [
        (format!("#[{}", "allow("), "say `expect` with a reason instead of a bare allow"),
        (format!("#![{}", "allow("), "say `expect` with a reason instead of a bare allow"),
        (format!("TO{}", "DO"), "finish it or file it; no notes to self"),
        (format!("FIX{}", "ME"), "finish it or file it; no notes to self"),
        (format!("to{}", "do!("), "no part of the product is a placeholder"),
        (format!("unimpl{}", "emented!("), "no part of the product is a placeholder"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(text: &str, expected: usize) {
        let findings = check_source(Path::new("x.rs"), text);
        assert_eq!(findings.len(), expected, "{findings:?}");
    }

    #[test]
    fn each_rule_finds_its_breach() {
        check_one("//! Owns nothing.\n", 0);
        check_one("fn main() {}\n", 1);
        check_one(&format!("//! x\n// {}\n", "y".repeat(120)), 1);
        check_one(&format!("//! x\n#[{}dead_code)]\n", "allow("), 1);
        check_one(&format!("//! x\n{}", "\n".repeat(MAX_LINES)), 1);
    }
}
