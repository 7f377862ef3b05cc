//! Bad days: every kind of thing that must not be done, asked of a real cluster through the command
//! line. Each is refused with the exit code of the table and one line that says what to do, and
//! nothing is half done.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use leasehold_tests::operated::{Operated, bare, error_of, json_of};
use leasehold_tests::packages::{sign, template};
use leasehold_tests::upkeep::{Load, PRODUCT, all_is_well};
use serde_json::{Value, json};

/// What is asked, how it must end, and a part of what it must say.
type Bad<'a> = (&'a [&'a str], i32, &'a str);

/// Asks each with these variables, and collects what ended otherwise.
fn all_are_refused(what: &str, variables: &[(&str, String)], table: &[Bad<'_>]) -> Result<()> {
    let mut wrong = String::new();
    for (words, exit, says) in table {
        let output = bare(words, variables)?;
        let said = error_of(&output);
        let one_line = said.lines().count() == 1 && said.starts_with("error: ");
        if output.status.code() != Some(*exit) || !one_line || !said.contains(says) {
            let got = output.status;
            wrong += &format!("{what}: {words:?}: {got}, wanted {exit} and {says:?}:\n{said}\n");
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// What the clients move in a list while an operator is refused.
const USE: [&str; 5] = ["commit_in_use", "overage_in_use", "in_use", "free", "usage"];

fn without_use(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_use).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| !USE.contains(&name.as_str()))
            .map(|(name, value)| (name, without_use(value)))
            .collect(),
        other => other,
    }
}

/// Whatever an operator can list, use by clients apart: what was refused must not show in it.
fn portrait(cluster: &Operated) -> Result<Vec<Value>> {
    [
        &["member", "list"][..],
        &["package", "list"],
        &["app", "list"],
        &["operator", "list"],
        &["license", "list"],
        &["pool", "list"],
        &["keys", "status"],
        &["vendor", "trust", "list"],
    ]
    .iter()
    .map(|words| cluster.cli_json(words).map(without_use))
    .collect()
}

fn nothing_was_done(cluster: &Operated, before: &[Value]) -> Result<()> {
    for (now, before) in portrait(cluster)?.iter().zip(before) {
        ensure!(now == before, "something was done half: {before}\nis now\n{now}");
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

/// The operator's variables with another token.
fn with_token(variables: &[(&'static str, String)], token: &str) -> Vec<(&'static str, String)> {
    let other = |(name, value): &(&'static str, String)| match *name {
        "LEASEHOLD_TOKEN" => (*name, token.to_owned()),
        _ => (*name, value.clone()),
    };
    variables.iter().map(other).collect()
}

fn servers(cluster: &Operated) -> Result<Vec<(&'static str, String)>> {
    let servers: Vec<String> = cluster
        .ids()
        .iter()
        .map(|id| Ok(cluster.node(*id)?.gateway.clone()))
        .collect::<Result<_>>()?;
    Ok(cluster.environment(&servers.join(",")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_so_and_so_is_who_asks_the_wrong_cluster() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::start(&cluster, 4, 4).await?;
    let variables = servers(&cluster)?;
    let token = |role: &str| -> Result<String> {
        let made = cluster.cli_json(&["operator", "add", role, "--role", role])?;
        Ok(made["token"].as_str().context("no token")?.to_owned())
    };
    let (auditor, operator) = (token("auditor")?, token("operator")?);
    let before = portrait(&cluster)?;
    let dir = cluster.scratch().join("never");
    let never = text(&dir)?;
    let for_nobody: &[Bad<'_>] = &[
        (&["member", "add"], 4, "admin"),
        (&["member", "remove", "2"], 4, "admin"),
        (&["member", "replace", "2"], 4, "admin"),
        (&["operator", "add", "me", "--role", "admin"], 4, "admin"),
        (&["keys", "rotate", "--data-key"], 4, "admin"),
        (&["certs", "rotate", "--all"], 4, "admin"),
        (&["subject", "erase", "user-0@bmw.com", "--reason", "r"], 4, "admin"),
        (&["snapshot", "save", never], 4, "admin"),
    ];
    let for_auditors: &[Bad<'_>] = &[
        (&["package", "suspend", PRODUCT, "--reason", "r"], 4, "operator"),
        (&["pool", "create", PRODUCT, "p", "--seats", "1"], 4, "operator"),
        (&["node", "drain", "2"], 4, "operator"),
        (&["cluster", "transfer-leader"], 4, "operator"),
        (&["alarm", "clear", "2", "LAG"], 4, "operator"),
    ];
    let unknown = "lh_op_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let as_auditor = with_token(&variables, &auditor);
    all_are_refused("an auditor", &as_auditor, for_nobody)?;
    all_are_refused("an auditor", &as_auditor, for_auditors)?;
    all_are_refused("an operator", &with_token(&variables, &operator), for_nobody)?;
    all_are_refused(
        "a stranger",
        &with_token(&variables, unknown),
        &[
            (&["member", "list"], 4, "token"),
            (&["cluster", "status"], 4, "token"),
            (&["member", "remove", "2"], 4, "token"),
            (&["snapshot", "save", never], 4, "token"),
        ],
    )?;
    wrong_cluster(&cluster, &variables).await?;
    ensure!(!dir.exists(), "a refused backup has left {never}");
    nothing_was_done(&cluster, &before)?;
    load.end().await?;
    all_is_well(&mut cluster).await
}

/// Another cluster's authority, token and audit log.
async fn wrong_cluster(cluster: &Operated, variables: &[(&'static str, String)]) -> Result<()> {
    let other = Operated::init().await?;
    let other_ca = text(other.ca_cert())?;
    all_are_refused(
        "with the authority of another cluster",
        variables,
        &[
            (&["--ca-cert", other_ca, "member", "list"], 3, "certificate"),
            (&["--ca-cert", other_ca, "member", "remove", "2"], 3, "certificate"),
        ],
    )?;
    all_are_refused(
        "with the token of another cluster",
        &with_token(variables, other.admin_token()),
        &[(&["member", "list"], 4, "token"), (&["member", "remove", "2"], 4, "token")],
    )?;
    let segment = cluster.scratch().join("other-audit.jsonl");
    let exported = other.cli(&["audit", "export", text(&segment)?])?;
    ensure!(exported.status.success(), "{}", error_of(&exported));
    all_are_refused(
        "with the audit log of another cluster",
        variables,
        &[
            (&["audit", "verify", text(&segment)?], 8, "not to be believed"),
            (&["audit", "prune", "--export", text(&segment)?], 8, "not to be believed"),
        ],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_before_or_was_changed_on_the_way_is_refused() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    // One seat more than clients, for a pool of its own.
    let load = Load::start(&cluster, 5, 4).await?;
    let variables = servers(&cluster)?;
    cluster.cli_json(&["pool", "create", PRODUCT, "p", "--seats", "1"])?;
    let api = cluster.api()?;
    let changed = template(&api.dev, PRODUCT, PRODUCT, 99)?;
    let changed = sign(&api.dev, cluster.scratch(), &changed)?;
    let second = cluster.scratch().join("second.json");
    fs::write(&second, serde_json::to_vec(&changed)?)?;
    let mut broken = changed.clone();
    broken["entitlement"]["total_licenses"] = json!(9_999);
    let forged = cluster.scratch().join("forged.json");
    fs::write(&forged, serde_json::to_vec(&broken)?)?;
    let used = cluster.node(2)?.dir.clone();
    let invited = cluster.cli_json(&["member", "add"])?;
    let withdrawn = cluster.cli_json(&["member", "add"])?;
    let joined = cluster.join(invited["token"].as_str().context("no token")?, &[])?;
    let gone = withdrawn["node_id"].as_u64().context("no node_id")?.to_string();
    ensure!(cluster.cli(&["member", "remove", &gone])?.status.success());
    cluster.start(joined)?;
    cluster.votes(joined).await?;
    let [invited, withdrawn] = [&invited, &withdrawn].map(|it| it["token"].as_str().unwrap_or(""));
    let cut = &invited[..invited.len() - 3];
    let never = cluster.scratch().join("never");
    let never = text(&never)?;
    let join = |token| ["cluster", "join", "--token", token, "--dir", never];
    let used = text(&used)?;
    let before = portrait(&cluster)?;
    all_are_refused(
        "used before",
        &variables,
        &[
            (&["package", "import", "--package", text(&second)?], 6, "package"),
            (&["package", "import", "--package", text(&forged)?], 8, "signature"),
            (&["pool", "create", PRODUCT, "p", "--seats", "1"], 6, "pool"),
            (&["member", "promote", "77"], 5, "No such node"),
            (&["member", "remove", "77"], 5, "No such node"),
            (&["member", "replace", "77"], 5, "No such node"),
            (&["node", "drain", "77"], 5, "No such node"),
            (&join(invited), 4, "leasehold member add"),
            (&join(withdrawn), 4, "leasehold member add"),
            (&join(cut), 2, "not copied whole"),
            (&["cluster", "join", "--token", invited, "--dir", used], 2, "name another directory"),
            (
                &["cluster", "init", "--client-id", "a", "--org-domain", "b.c", "--dir", used],
                2,
                "is not empty",
            ),
        ],
    )?;
    changed_on_the_way(&cluster, &variables)?;
    nothing_was_done(&cluster, &before)?;
    load.end().await?;
    all_is_well(&mut cluster).await
}

/// Backups and parts of the audit log with another byte at many places.
fn changed_on_the_way(cluster: &Operated, variables: &[(&'static str, String)]) -> Result<()> {
    let backup = cluster.scratch().join("backup.snapshot");
    let saved = cluster.cli(&["snapshot", "save", text(&backup)?])?;
    ensure!(saved.status.success(), "{}", error_of(&saved));
    let audit = cluster.scratch().join("audit.jsonl");
    let exported = cluster.cli(&["audit", "export", text(&audit)?])?;
    ensure!(exported.status.success(), "{}", error_of(&exported));
    let kek = cluster.node(1)?.dir.join("keys").join("kek.pem");
    let home = cluster.scratch().join("restored");
    let (kek, home) = (text(&kek)?, text(&home)?);
    for part in [3, 5, 7] {
        let bad = flipped(&backup, part)?;
        let bad = text(&bad)?;
        all_are_refused(
            "a flipped byte",
            variables,
            &[
                (&["snapshot", "verify", bad], 8, "use another backup"),
                (&["snapshot", "status", bad], 8, "use another backup"),
                (
                    &["snapshot", "restore", bad, "--dir", home, "--kek", kek],
                    8,
                    "use another backup",
                ),
            ],
        )?;
        let bad = flipped(&audit, part)?;
        let bad = text(&bad)?;
        all_are_refused(
            "a flipped byte",
            variables,
            &[
                (&["audit", "verify", bad], 8, "not to be believed"),
                (&["audit", "prune", "--export", bad], 8, "not to be believed"),
            ],
        )?;
    }
    let whole = text(&backup)?;
    let foreign = cluster.scratch().join("foreign");
    let words = ["-o", "json", "cluster", "init", "--client-id", "a", "--org-domain", "b.c"];
    json_of(&bare(&[&words[..], &["--dir", text(&foreign)?]].concat(), &[])?)?;
    let other_kek = foreign.join("keys").join("kek.pem");
    all_are_refused(
        "a backup",
        variables,
        &[
            (
                &["snapshot", "restore", whole, "--dir", home, "--kek", text(&other_kek)?],
                2,
                "node 1",
            ),
            (
                &["snapshot", "restore", whole, "--dir", home, "--kek", kek, "--node-id", "1"],
                2,
                "1",
            ),
        ],
    )?;
    ensure!(!Path::new(home).exists(), "a refused restore has left {home}");
    Ok(())
}

/// A copy of a file with one bit changed.
fn flipped(file: &Path, part: usize) -> Result<PathBuf> {
    let mut bytes = fs::read(file)?;
    let at = bytes.len() * part / 8;
    bytes[at] ^= 0x04;
    let copy = file.with_extension(format!("flipped-{part}"));
    fs::write(&copy, bytes)?;
    Ok(copy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_done_and_none_is_given_away() -> Result<()> {
    let mut cluster = Operated::of(3).await?;
    let load = Load::start(&cluster, 4, 4).await?;
    let leader = cluster.leader().await?;
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    cluster.kill(others[1])?;
    let (up, down) = (others[0].to_string(), others[1].to_string());
    let variables = servers(&cluster)?;
    let back_first = format!("bring node {down} back first");
    all_are_refused(
        "with one of three down",
        &variables,
        &[(&["member", "remove", &up], 6, &back_first), (&["node", "drain", &up], 6, &down)],
    )?;
    load.goes_on().await?;
    cluster.kill(others[0])?;
    let in_vain = |words: &'static [&'static str]| [&["--timeout", "3s"], words].concat();
    let verbs: [&[&str]; 7] = [
        &["member", "add"],
        &["package", "suspend", PRODUCT, "--reason", "r"],
        &["package", "list"],
        &["operator", "add", "x", "--role", "auditor"],
        &["app", "list"],
        &["keys", "rotate", "--data-key"],
        &["pool", "create", PRODUCT, "p", "--seats", "1"],
    ];
    for words in verbs {
        let words = in_vain(words);
        // What changes something may still happen when the others are back; nothing says it has.
        all_are_refused("without a quorum", &variables, &[(&words, 7, "quorum")])?;
    }
    for words in [&["cluster", "status"][..], &["cluster", "health"]] {
        let output = bare(words, &variables)?;
        ensure!(output.status.code() == Some(10), "{words:?}: {output:?}");
    }
    recover_is_not_for_the_hasty(&mut cluster, leader)?;
    for id in &others {
        cluster.start(*id)?;
    }
    for id in cluster.ids() {
        cluster.ready(id).await?;
    }
    load.goes_on().await?;
    load.end().await?;
    all_is_well(&mut cluster).await
}

/// Nothing happens to a survivor before the id of its cluster was typed.
fn recover_is_not_for_the_hasty(cluster: &mut Operated, survivor: u64) -> Result<()> {
    let config = cluster.node(survivor)?.config.clone();
    let text = fs::read_to_string(&config)?;
    let recover = |confirm: &str| {
        bare(
            &[
                "cluster",
                "recover",
                "--config",
                &config.display().to_string(),
                "--confirm",
                confirm,
            ],
            &[],
        )
    };
    // It runs: its directory is in use, whatever is typed.
    let running = recover(cluster.cluster_id())?;
    ensure!(running.status.code() == Some(2), "{running:?}");
    ensure!(error_of(&running).contains("another process"), "{}", error_of(&running));
    cluster.kill(survivor)?;
    let refused = recover("lh-0000000000000000")?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    let said = error_of(&refused);
    let last = said.lines().last().unwrap_or_default();
    ensure!(last.starts_with("error: ") && last.contains(cluster.cluster_id()), "{said}");
    ensure!(fs::read_to_string(&config)? == text, "the configuration was changed");
    cluster.start(survivor)
}
