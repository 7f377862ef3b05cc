//! The runbook is true: every command of `deploy/runbook.md` is run as it is printed, in its order,
//! in one shell, against real processes.
//!
//! The first block, which names the site, is replaced by one that puts six machines into
//! directories of this one. Every other block in `sh` is run; it must end with 0, or with one of
//! the codes that follow `exits` in its first line. What follows it in `text` are lines that it
//! must print, in that order and among others, where `…` stands for anything.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use leasehold_tests::cluster::{binary, free_base_port};
use leasehold_tests::operated::{Operated, bare, error_of};
use leasehold_tests::packages::{SAMPLE_PACKAGE, sign, template};
use leasehold_tests::wait::eventually;

use super::readme::{fits, root};

/// A block of commands, and what must be seen.
struct Block {
    script: String,
    exits: Vec<String>,
    expected: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_does_what_stands_below_it() -> Result<()> {
    let text = fs::read_to_string(root().join("deploy/runbook.md"))?;
    let mut blocks = blocks_of(&text)?;
    ensure!(blocks.len() > 30, "only {} blocks", blocks.len());
    let site = Site::new().await?;
    blocks[0].script = site.script()?;
    let mut script = String::new();
    for (at, Block { script: lines, .. }) in blocks.iter().enumerate() {
        script += &format!("exec > out-{at} 2>&1\n{lines}\necho $? > exit-{at}\n");
    }
    fs::write(site.path("script"), script)?;
    let mut child = Command::new("bash")
        .arg("script")
        .current_dir(site.root.path())
        .env("PATH", site.search_path()?)
        .env("HOME", "/nonexistent")
        .env_remove("LEASEHOLD_CONTEXT")
        .stdin(Stdio::null())
        .spawn()
        .context("cannot run bash")?;
    let mut wrong = String::new();
    for (at, block) in blocks.iter().enumerate() {
        let exit = eventually(&format!("the end of:\n{}", block.script), || {
            let exit = fs::read_to_string(site.path(&format!("exit-{at}")));
            async move { exit.ok().filter(|text| text.ends_with('\n')) }
        })
        .await;
        let printed = fs::read_to_string(site.path(&format!("out-{at}"))).unwrap_or_default();
        let judged = exit.and_then(|exit| judge(block, exit.trim(), &printed));
        if let Err(reason) = judged {
            wrong += &format!("== {reason:#}\n{}-- printed:\n{printed}\n", block.script);
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// Whether a block ended as it should and printed what it should.
fn judge(block: &Block, exit: &str, printed: &str) -> Result<()> {
    ensure!(block.exits.iter().any(|it| it == exit), "exit {exit}, not {:?}", block.exits);
    let mut lines = printed.lines();
    for pattern in &block.expected {
        ensure!(lines.any(|line| fits(line, pattern)), "does not print: {pattern}");
    }
    Ok(())
}

fn blocks_of(text: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    for (info, body) in fences(text) {
        let mut words = info.split(' ');
        match (words.next(), words.next()) {
            (Some("sh"), None) => {
                blocks.push(Block { script: body, exits: vec!["0".into()], expected: vec![] });
            }
            (Some("sh"), Some("exits")) => {
                let exits = words.map(str::to_owned).collect();
                blocks.push(Block { script: body, exits, expected: vec![] });
            }
            (Some("text"), None) => {
                let block = blocks.last_mut().context("lines to see before any command")?;
                ensure!(block.expected.is_empty(), "seen twice: {body}");
                block.expected = body.lines().map(str::to_owned).collect();
            }
            _ => bail!("a block of no known kind: {info}"),
        }
    }
    Ok(blocks)
}

/// What follows each opening fence in its line, and what stands in the block.
fn fences(text: &str) -> Vec<(String, String)> {
    text.split("\n```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .map(|(info, body)| (info.to_owned(), format!("{body}\n")))
        .collect()
}

/// Six machines in directories of this one.
struct Site {
    root: tempfile::TempDir,
    base_port: u16,
}

impl Site {
    /// With what a vendor sends: its key and a signed package.
    async fn new() -> Result<Self> {
        let site = Self { root: tempfile::tempdir()?, base_port: free_base_port()? };
        let workshop = Operated::init().await?;
        let dev = workshop.api()?.dev;
        let package = template(&dev, SAMPLE_PACKAGE, "davinci-configurator-se", 20)?;
        let package = sign(&dev, workshop.scratch(), &package)?;
        fs::write(site.path("package.json"), serde_json::to_vec_pretty(&package)?)?;
        fs::copy(&dev.vendor.public_key, site.path("vendor.pem"))?;
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn search_path(&self) -> Result<String> {
        let program = binary()?;
        let dir = program.parent().context("a program without a directory")?;
        // By its own name, wherever it was built.
        let link = self.path("bin");
        fs::create_dir_all(&link)?;
        std::os::unix::fs::symlink(
            fs::canonicalize(dir)?.join("leasehold"),
            link.join("leasehold"),
        )?;
        Ok(format!("{}:{}", link.display(), std::env::var("PATH").unwrap_or_default()))
    }

    /// What stands for the first block.
    fn script(&self) -> Result<String> {
        let base = self.base_port;
        let root = self.root.path().to_str().context("a path is not UTF-8")?;
        let servers: Vec<String> =
            (1..=6).map(|n| format!("https://127.0.0.1:{}", base + n)).collect();
        Ok(SITE
            .replace("@ROOT@", root)
            .replace("@SERVERS@", &servers.join(","))
            .replace("@GATEWAY1@", &servers[0])
            .replace("@OLD2@", &(base + 2).to_string())
            .replace("@NEW2@", &(base + 9).to_string())
            .replace("@BASE@", &base.to_string()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for machine in 1..=6 {
            let pid = fs::read_to_string(self.path(&format!("pid-{machine}"))).unwrap_or_default();
            if let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            if std::thread::panicking() {
                let log = self.path(&format!("log-{machine}"));
                let log = fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(8)..];
                eprintln!("--- last lines of machine {machine}:\n{}", tail.join("\n"));
            }
        }
    }
}

#[test]
fn a_fence_is_read_with_what_it_says() {
    let text = "a\n```sh exits 11\nfalse\n```\nb\n```text\n…\n```\n";
    let expected = [("sh exits 11", "false\n"), ("text", "…\n")];
    let expected = expected.map(|(info, body)| (info.to_owned(), body.to_owned()));
    assert_eq!(fences(text), expected);
    let blocks = blocks_of(text).unwrap();
    assert!(judge(&blocks[0], "11", "anything\n").is_ok());
    assert!(judge(&blocks[0], "0", "anything\n").is_err());
    assert!(judge(&blocks[0], "11", "").is_err());
}

/// The verbs of etcdctl in the README: each of ours that stands beside one exists.
#[test]
fn every_command_beside_one_of_etcdctl_exists() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let (_, rest) = readme.split_once("\n## Coming from etcdctl\n").context("no such section")?;
    let section = rest.split("\n## ").next().unwrap_or(rest);
    let (mut rows, mut commands) = (0, 0);
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let ours = row.split('|').nth(2).context("a row without ours")?;
        ensure!(!ours.trim().is_empty(), "nothing beside: {row}");
        rows += 1;
        for command in ours.split('`').skip(1).step_by(2) {
            let Some(words) = command.strip_prefix("leasehold ") else { continue };
            // Words up to the first argument: `member promote ID`, `snapshot save FILE`.
            let verbs: Vec<&str> = words.split(' ').take_while(|word| is_verb(word)).collect();
            let output = bare(&[&verbs[..], &["--help"]].concat(), &[])?;
            ensure!(output.status.success(), "{command}: {}", error_of(&output));
            let help = String::from_utf8_lossy(&output.stdout);
            let usage = format!("Usage: leasehold {}", verbs.join(" "));
            ensure!(help.contains(&usage), "{command}: another verb answers: {help}");
            for option in words.split(' ').filter(|word| word.starts_with("--")) {
                ensure!(help.contains(option), "{command}: has no {option}");
            }
            commands += 1;
        }
    }
    ensure!(rows >= 30 && commands >= 20, "{rows} rows, {commands} commands");
    Ok(())
}

fn is_verb(word: &str) -> bool {
    word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
        && !word.starts_with('-')
}

/// As the first block, with directories for machines and processes for services.
const SITE: &str = r#"umask 077
ROOT=@ROOT@ BASE=@BASE@
export LEASEHOLD_SERVER=@SERVERS@
export LEASEHOLD_CA_CERT=$ROOT/ca.pem
CLIENT=bmw-de-001 DOMAIN=bmw.com VENDOR=vector-de PRODUCT=davinci-configurator-se
GATEWAY1=@GATEWAY1@
OLD2=127.0.0.1:@OLD2@ NEW2=127.0.0.1:@NEW2@
dir() { echo "$ROOT/machine-$1"; }
at() {
  echo --dir "$ROOT/machine-$1" --listen "127.0.0.1:$((BASE + $1))" \
    --peer-listen "127.0.0.1:$((BASE + 10 + $1))"
}
on() { shift; "$@"; }
gone_by() { while kill -0 "$(cat "$ROOT/pid-$1")" 2> /dev/null; do sleep 0.1; done; }
start() {
  leasehold serve --config "$ROOT/machine-$1/node.toml" >> "$ROOT/log-$1" 2>&1 &
  echo $! > "$ROOT/pid-$1"
}
stop() { kill "$(cat "$ROOT/pid-$1")"; gone_by "$1"; }
cat > "$ROOT/restart" << 'END'
for n in 1 2 3 4 5 6; do
  if grep -q "^node_id = $1\$" "$ROOT/machine-$n/node.toml" 2> /dev/null; then
    while kill -0 "$(cat "$ROOT/pid-$n")" 2> /dev/null; do sleep 0.1; done
    leasehold serve --config "$ROOT/machine-$n/node.toml" >> "$ROOT/log-$n" 2>&1 &
    echo $! > "$ROOT/pid-$n"
  fi
done
END
export ROOT
RESTART="bash $ROOT/restart {id}"
"#;
