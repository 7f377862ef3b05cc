//! What can be wrong with a configuration, one line each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use storage::seam::{RealClock, RealEntropy};

use crate::config::file::{LogFile, Preset, ProtocolsFile};
use crate::provision::{self, NodePlan, Plan};

use Edit::{Chmod, Copy, Remove, Text};

/// Two nodes' files; the tests use the first.
fn cluster(dir: &Path) -> PathBuf {
    let plan = Plan {
        client_id: "bmw-de-001".to_owned(),
        org_domain: "bmw.com".to_owned(),
        preset: Preset::Lan,
        log: LogFile::default(),
        protocols: ProtocolsFile::default(),
        nodes: (1..=2)
            .map(|id| NodePlan {
                id,
                listen: format!("127.0.0.1:740{id}").parse().unwrap(),
                peer_listen: format!("127.0.0.1:741{id}").parse().unwrap(),
            })
            .collect(),
    };
    provision::provision(dir, &plan, &RealClock::new(), &RealEntropy, &|_| {}).unwrap();
    dir.join("node-1/node.toml")
}

#[derive(Clone, std::marker::Copy)]
enum Edit {
    /// Replace a text in node.toml.
    Text(&'static str, &'static str),
    /// Put one file in another's place.
    Copy(&'static str, &'static str),
    Remove(&'static str),
    Chmod(&'static str, u32),
}

/// What is done to good files, and what the one line must say.
const FAULTS: &[(Edit, &[&str])] = &[
    (Text("node_id = 1", "node_id = 1\nnod = 2"), &["node.toml:3", "unknown field `nod`"]),
    (Text("node_id = 1", ""), &["node.toml", "missing field `node_id`"]),
    (Text("node_id = 1", "node_id = \"x\""), &["node.toml:2", "invalid type"]),
    (
        Text("node_id = 1", "node_id = 2"),
        &["tls.peer_cert", "names spiffe://", "/node/1, must name"],
    ),
    (Text("id = 1\npeer", "id = 3\npeer"), &["bootstrap.members", "node 1 is not among them"]),
    (Text("id = 2\npeer", "id = 1\npeer"), &["bootstrap.members", "an id of its own"]),
    (
        Text("peer_address = \"127.0.0.1:7411\"\n", "peer_address = \"127.0.0.1:9\"\n"),
        &["other addresses"],
    ),
    (Remove("node-1/keys/founding.toml"), &["bootstrap.secrets", "no such file"]),
    (Text("node_id = 1", "node_id = 0"), &["node_id", "1 or more"]),
    (Text("preset = \"lan\"", "preset = \"lab\""), &["node.toml", "unknown variant `lab`"]),
    (Text("level = \"info\"", "level = \"loud\""), &["unknown variant `loud`"]),
    (
        Text("listen = \"127.0.0.1:7401\"", "listen = \"localhost\""),
        &["node.toml:4", "socket address"],
    ),
    (
        Text("classic_ttl_seconds = 86400", "classic_ttl_seconds = 0"),
        &["protocols.classic_ttl_seconds", "from 1 to 2592000"],
    ),
    (
        Text("trusted_proxies = []", "trusted_proxies = [\"10.0.0.0/8\", \"proxy\"]"),
        &["protocols.trusted_proxies", "`proxy`", "not an IP address"],
    ),
    (Text("[protocols]", "[protocols]\nmodern = true"), &["unknown field `modern`"]),
    (Text("app_burst = 20000", "app_burst = 0"), &["limits.app_burst", "1 or more"]),
    (Text("[limits]", "[limits]\nhosts = 1"), &["unknown field `hosts`"]),
    (Text("[limits]", "[alarms]\nmin_free = \"1MB\"\n[limits]"), &["want an amount as"]),
    (Text("[limits]", "[alarms]\nmin_fre = \"1MiB\"\n[limits]"), &["unknown field `min_fre`"]),
    (
        Text("[limits]", "[checkpoints]\nevery_seconds = 0\n[limits]"),
        &["checkpoints.every_seconds", "1 or more"],
    ),
    (Text("[limits]", "[checkpoints]\nevery = 5\n[limits]"), &["unknown field `every`"]),
    (
        Text("[limits]", "[snapshots]\ndirectory = \"b\"\nevery = \"often\"\n[limits]"),
        &["snapshots.every", "want a time as"],
    ),
    (
        Text("[limits]", "[snapshots]\ndirectory = \"b\"\nevery = \"59s\"\n[limits]"),
        &["snapshots.every", "a minute or more"],
    ),
    (
        Text("[limits]", "[snapshots]\ndirectory = \"b\"\nkeep = 0\n[limits]"),
        &["snapshots.keep", "1 or more"],
    ),
    (
        Text("[limits]", "[snapshots]\ndirectory = \"data/b\"\n[limits]"),
        &["snapshots.directory", "outside of data_dir"],
    ),
    (Text("classic = false", "classic = 1"), &["node.toml", "invalid type"]),
    (Text("cluster_id = \"lh-", "cluster_id = \"LH/"), &["cluster_id", "lower-case"]),
    (
        Text(
            "gateway_url = \"https://127.0.0.1:7401\"\n",
            "gateway_url = \"http://127.0.0.1:7401\"\n",
        ),
        &["gateway_url", "not https://host:port"],
    ),
    (
        Text("data_dir = \"data\"", "data_dir = \"keys\""),
        &["keys.kek", "outside the data directory"],
    ),
    (Text("data_dir = \"data\"", "data_dir = \".\""), &["keys.kek", "outside the data directory"]),
    (
        Text("data_dir = \"data\"", "data_dir = \"other/../keys/..\""),
        &["outside the data directory"],
    ),
    (Text("secrets = \"keys/founding.toml\"\n", ""), &["bootstrap.secrets", "founder needs"]),
    (Text("[log]", "[log]\ncolour = true"), &["unknown field `colour`"]),
    (Remove("ca.pem"), &["tls.ca_cert", "ca.pem", "no such file"]),
    (Remove("node-1/peer.pem"), &["tls.peer_cert", "no such file"]),
    (Remove("node-1/keys/kek.pem"), &["keys.kek", "no such file"]),
    (Remove("node-1/keys/token-signing.pem"), &["keys.token_signing", "no such file"]),
    (Remove("node-1/node.toml"), &["node.toml: no such file"]),
    (
        Copy("node-2/peer.pem", "node-1/peer.pem"),
        &["tls.peer_key", "is not the key of the certificate"],
    ),
    (Copy("node-2/keys/peer.key", "node-1/keys/peer.key"), &["tls.peer_key", "is not the key"]),
    (Copy("node-2/keys/kek.pem", "node-1/keys/kek.pem"), &["keys.kek", "is not the key of node 1"]),
    (Copy("ca.pem", "node-1/keys/kek.pem"), &["keys.kek", "CERTIFICATE"]),
    (Copy("node-1/keys/kek.pem", "node-1/keys/token-signing.pem"), &["keys.token_signing"]),
    (Copy("node-1/keys/kek.pem", "ca.pem"), &["tls.ca_cert", "no certificate"]),
    (Copy("node-1/gateway.pem", "ca.pem"), &["tls.peer_cert", "not valid under"]),
    (Chmod("node-1/keys/peer.key", 0o640), &["tls.peer_key", "mode 0640", "0600"]),
    (Chmod("node-1/keys/kek.pem", 0o604), &["keys.kek", "mode 0604"]),
];

#[test]
fn every_fault_is_one_line_that_names_the_key_or_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = dir.path().join("fresh");
    fs::create_dir(&fresh).unwrap();
    cluster(&fresh);
    for (at, (edit, says)) in FAULTS.iter().enumerate() {
        let dir = dir.path().join(format!("case-{at}"));
        copy_tree(&fresh, &dir);
        apply(&dir, *edit);
        check(&dir.join("node-1/node.toml"), says);
    }
    super::load(&fresh.join("node-1/node.toml"), &RealClock::new()).unwrap();
    super::load(&fresh.join("node-2/node.toml"), &RealClock::new()).unwrap();
}

#[track_caller]
fn check(path: &Path, says: &[&str]) {
    let Err(error) = super::load(path, &RealClock::new()) else {
        panic!("{says:?}: the configuration was taken");
    };
    let text = error.to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    for part in says {
        assert!(text.contains(part), "`{text}` does not say `{part}`");
    }
}

fn apply(dir: &Path, edit: Edit) {
    match edit {
        Edit::Text(from, to) => {
            let path = dir.join("node-1/node.toml");
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "nothing to replace: {from} in {text}");
            fs::write(path, text.replacen(from, to, 1)).unwrap();
        }
        Edit::Copy(from, to) => {
            fs::write(dir.join(to), fs::read(dir.join(from)).unwrap()).unwrap();
        }
        Edit::Remove(path) => fs::remove_file(dir.join(path)).unwrap(),
        Edit::Chmod(path, mode) => {
            fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn the_founding_file_comes_back_and_hides_its_secrets_in_errors() {
    let dir = tempfile::tempdir().unwrap();
    cluster(dir.path());
    let path = dir.path().join("node-1/keys/founding.toml");
    let founding = provision::read_founding(&path).unwrap();
    assert_eq!(founding.secrets.len(), 5);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!dir.path().join("node-2/keys/founding.toml").exists());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("data_key = \"", "data_key = ")).unwrap();
    let Err(error) = provision::read_founding(&path) else { panic!("it was taken") };
    assert_eq!(error, "line 4 is not understood");
}
