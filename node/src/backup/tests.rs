//! Backups from end to end on one machine: a founded cluster's state as a file, looked into,
//! damaged, restored, and recovered from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use cli::local::{Told, Trouble};
use cli::{Exit, GlobalOptions, RestoreArgs, SnapshotVerb};
use lease::Ledger;
use lease::command::{Command, InitCluster, Member, Operator, Role};
use lease::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
use lease::format::{self, Kind};
use lease::ids::{NodeId, OperatorId, TraceId};
use lease::outcome::Outcome;
use storage::seam::{Clock, RealClock, RealDisk, RealEntropy};
use storage::state::{Applied, CheckpointMeta, Row, SnapshotHandle, StateConfig, StateStore};

use super::inspect;
use super::new_node::check_time;
use super::recover;
use super::restore;
use super::save::from_disk;
use super::schedule::{Schedule, retire};
use super::{World, write::Writing};
use crate::config;
use crate::config::alarms::MinFree;
use crate::program::tests::hold;
use crate::provision::{self, Founding, NodePlan, Plan, Provisioned};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    verb: SnapshotVerb,
}

/// A cluster of two that was founded, and a backup of it.
struct Founded {
    dir: tempfile::TempDir,
    cluster_id: String,
    founding: Founding,
    /// The founder's secrets as they stood in its file.
    founding_text: String,
    admin_token: String,
    file: PathBuf,
}

/// What a log entry of the founding holds.
fn entry(epoch: u32, incarnation: u64, commands: Vec<Command>) -> Entry {
    let civil_ms = RealClock::new().wall_ms() - 86_400_000;
    let stamp = Stamp { led_ms: 60_000, civil_ms };
    let header = EntryHeader { group: 0, epoch, incarnation, stamp, origin: 1 };
    let envelope = |command| Envelope {
        actor: Actor::Node(1),
        request: None,
        trace: TraceId(5),
        cause: None,
        command,
    };
    Entry { header, commands: commands.into_iter().map(envelope).collect() }
}

impl Founded {
    fn new() -> Self {
        crate::pki::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("cluster");
        fs::create_dir(&home).unwrap();
        let address = |port: u16| ([127, 0, 0, 1], port).into();
        let node = |id: NodeId| NodePlan {
            id,
            listen: address(7400 + id as u16),
            peer_listen: address(7410 + id as u16),
        };
        let plan = Plan {
            client_id: "bmw-de-001".to_owned(),
            org_domain: "bmw.com".to_owned(),
            preset: Default::default(),
            log: Default::default(),
            protocols: Default::default(),
            nodes: vec![node(1), node(2)],
        };
        let clock = RealClock::new();
        let made = provision::provision(&home, &plan, &clock, &RealEntropy, &|_| {}).unwrap();
        let Provisioned { cluster_id, admin_token } = made;
        let path = home.join("node-1/keys/founding.toml");
        let founding = provision::read_founding(&path).unwrap();
        let founding_text = fs::read_to_string(path).unwrap();
        let admin_token = admin_token.expose().to_owned();
        let file = dir.path().join(inspect::file_name(&cluster_id, 1, 2));
        let founded = Self { dir, cluster_id, founding, founding_text, admin_token, file };
        founded.write_backup();
        founded
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    fn config_of(&self, node: NodeId) -> config::file::ConfigFile {
        let path = provision::node_dir(&self.home(), node).join("node.toml");
        config::load(&path, &RealClock::new()).unwrap().file
    }

    /// The ledger as founding leaves it.
    fn ledger(&self) -> Ledger {
        let file = self.config_of(1);
        let bootstrap = file.bootstrap.as_ref().unwrap();
        let incarnation = self.founding.incarnation;
        let init = Command::InitCluster(InitCluster {
            cluster_id: self.cluster_id.as_str().into(),
            client_id: "bmw-de-001".into(),
            org_domain: "bmw.com".into(),
            epoch: 1,
            incarnation,
        });
        let mut rest = Vec::new();
        for member in &bootstrap.members {
            rest.push(Command::PutMember(Member {
                node: member.id,
                peer_address: member.peer_address.as_str().into(),
                gateway_url: member.gateway_url.as_str().into(),
                region: "".into(),
                zone: "".into(),
                directory_incarnation: member.directory_incarnation.number(),
                kek_public: member.kek_public.0,
            }));
            let key = &self.founding.data_key;
            let wrap = key.wrap(&self.cluster_id, member.id, member.kek_public.0, &RealEntropy);
            rest.push(Command::WrapDataKey(wrap.unwrap()));
        }
        for (name, secret) in &self.founding.secrets {
            let (key, secret) = (&self.founding.data_key, secret.expose());
            let sealed = key.seal(&self.cluster_id, name, 1, secret, &RealEntropy).unwrap();
            rest.push(Command::PutSecret(sealed));
        }
        rest.push(Command::AddOperator(Operator {
            operator: OperatorId(self.founding.operator),
            name: "admin".into(),
            role: Role::Admin,
            token_mac: self.founding.operator_mac,
            expires_at_ms: None,
        }));
        let mut ledger = Ledger::new();
        for (index, entry) in [(1, entry(0, 0, vec![init])), (2, entry(1, incarnation, rest))] {
            for outcome in ledger.apply_entry(index, &entry).unwrap() {
                assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
            }
        }
        ledger
    }

    fn held(&self) -> SnapshotHandle {
        let mut ledger = self.ledger();
        let no_members = (None::<u8>, Vec::<BTreeSet<u64>>::new(), BTreeMap::<u64, String>::new());
        let meta = CheckpointMeta {
            applied: Some(Applied { index: 2, term: 3 }),
            membership: format::encode(Kind::Raft, 1, &no_members),
            state_sum: ledger.state_sum(),
            epoch: Vec::new(),
        };
        let rows = ledger.take_changes().into_rows().into_iter();
        let rows = rows.map(|row| Row { table: row.table, key: row.key, value: row.value });
        let config = StateConfig::new(self.dir.path().join("state"));
        let clock = Arc::new(RealClock::new());
        let (store, _) = StateStore::open(Arc::new(RealDisk), clock, config).unwrap();
        store.checkpoint(meta, rows.collect(), Vec::new()).unwrap();
        store.snapshot()
    }

    fn write_backup(&self) {
        let mut writing = Writing::begin(self.file.clone()).unwrap();
        for chunk in self.held().chunks().unwrap() {
            writing.write(&chunk.unwrap()).unwrap();
        }
        let (path, found) = writing.finish().unwrap();
        assert_eq!((path.as_path(), found.index()), (self.file.as_path(), 2));
    }

    fn restore_line(&self, dir: &str, kek: &Path, more: &[&str]) -> (RestoreArgs, GlobalOptions) {
        let home = self.dir.path().join(dir);
        let ca = self.home().join("ca.pem");
        let words = ["x", "restore", self.file.to_str().unwrap(), "--dir", home.to_str().unwrap()];
        let words = words.into_iter().chain(["--kek", kek.to_str().unwrap()]);
        let words = words.chain(["--ca-cert", ca.to_str().unwrap()]).chain(more.iter().copied());
        let line = Line::parse_from(words.chain([
            "--advertise",
            "localhost:7404",
            "--peer-advertise",
            "localhost:7414",
        ]));
        let SnapshotVerb::Restore(args) = line.verb else { panic!("{line:?}") };
        (*args, line.options)
    }

    fn restore(&self, dir: &str, kek: &Path, more: &[&str]) -> Result<Told, Trouble> {
        let (args, options) = self.restore_line(dir, kek, more);
        restore::restore(&args, &options, &World::real())
    }

    fn kek(&self, node: NodeId) -> PathBuf {
        provision::node_dir(&self.home(), node).join("keys/kek.pem")
    }
}

#[track_caller]
fn refused(outcome: Result<Told, Trouble>, exit: Exit, code: &str, has: &[&str]) {
    let trouble = match outcome {
        Err(trouble) => trouble,
        Ok(told) => panic!("not refused: {told:?}"),
    };
    assert_eq!((trouble.exit, trouble.code), (exit, code), "{trouble:?}");
    for text in has {
        assert!(trouble.message.contains(text), "`{}` lacks `{text}`", trouble.message);
    }
    assert!(!trouble.message.contains('\n'), "more than one line: {}", trouble.message);
}

/// Positions spread over a file, the same in every run.
fn spread(bytes: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |at| (at * 2_654_435_761) % bytes)
}

#[test]
fn a_backup_is_looked_into_and_every_flipped_byte_is_found() {
    let founded = Founded::new();
    let status = inspect::read(&founded.file).unwrap().told();
    hold("snapshot status", &status.json);
    assert_eq!(status.json["cluster_id"], founded.cluster_id.as_str());
    assert_eq!((&status.json["epoch"], &status.json["index"]), (&1.into(), &"2".into()));
    assert_eq!(status.json["members"].as_array().unwrap().len(), 2);
    let verified = inspect::verify(&founded.file).unwrap();
    hold("snapshot verify", &verified.json);
    assert_eq!(verified.json["verified"], true);
    assert_eq!(verified.json["sha256"], status.json["sha256"]);
    let bytes = fs::read(&founded.file).unwrap();
    let bad = founded.dir.path().join("bad.snapshot");
    for at in spread(bytes.len(), 60) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        fs::write(&bad, flipped).unwrap();
        refused(inspect::verify(&bad), Exit::Unverifiable, "snapshot_corrupt", &["at byte"]);
    }
    fs::write(&bad, &bytes[..bytes.len() / 2]).unwrap();
    refused(inspect::verify(&bad), Exit::Unverifiable, "snapshot_corrupt", &["at byte"]);
    fs::write(&bad, format::encode(Kind::Snapshot, 2, &0_u8)).unwrap();
    refused(inspect::verify(&bad), Exit::Usage, "snapshot_newer", &["newer version"]);
    refused(inspect::verify(Path::new("/nowhere")), Exit::Usage, "file", &["no such file"]);
    let listed = inspect::list(founded.dir.path()).unwrap();
    hold("snapshot list", &listed.json);
    assert_eq!(listed.json["snapshots"].as_array().unwrap().len(), 1, "{listed:?}");
}

#[test]
fn a_backup_holds_no_secret_in_the_clear() {
    let founded = Founded::new();
    let bytes = fs::read(&founded.file).unwrap();
    let holds = |secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    let mut looked_for = 1;
    assert!(!holds(founded.admin_token.as_bytes()), "the operator token");
    for (name, secret) in &founded.founding.secrets {
        let text = data_encoding::HEXLOWER.encode(secret.expose());
        assert!(founded.founding_text.contains(&text), "{name} is not what was looked for");
        assert!(!holds(secret.expose()) && !holds(text.as_bytes()), "{name}");
        looked_for += 1;
    }
    assert!(!holds(founded.founding.data_key.expose()), "the data key");
    for node in [1, 2] {
        let pem = fs::read_to_string(founded.kek(node)).unwrap();
        let line = pem.lines().nth(1).unwrap();
        let der = data_encoding::BASE64.decode(line.as_bytes()).unwrap();
        assert!(!holds(line.as_bytes()) && !holds(&der[16..]), "the key of node {node}");
    }
    assert!(looked_for >= 6, "{looked_for}");
    // The search is not blind.
    assert!(holds(founded.cluster_id.as_bytes()));
}

#[test]
fn a_restore_makes_a_node_that_can_start_and_recover_another() {
    let founded = Founded::new();
    // As a volume that is mounted there, with what an attempt that died left in it.
    fs::create_dir_all(founded.dir.path().join("restored/lost+found")).unwrap();
    fs::create_dir_all(founded.dir.path().join("restored/.restoring/data")).unwrap();
    let told = founded.restore("restored", &founded.kek(2), &[]).unwrap();
    hold("snapshot restore", &told.json);
    assert!(!founded.dir.path().join("restored/.restoring").exists());
    assert_eq!((&told.json["epoch"], &told.json["node_id"]), (&2.into(), &3.into()));
    let home = founded.dir.path().join("restored");
    let again = founded.restore("restored", &founded.kek(1), &[]);
    refused(again, Exit::Usage, "directory_in_use", &["restored: is in use"]);
    let path = home.join("node.toml");
    let config = config::load(&path, &RealClock::new()).unwrap();
    let file = &config.file;
    assert_eq!((file.node_id, file.cluster_id.as_str()), (3, founded.cluster_id.as_str()));
    assert_eq!(file.gateway_url, "https://localhost:7404");
    // What it starts from is whole: it can be taken out again, as that of any stopped node.
    let saved = founded.dir.path().join("again.snapshot");
    let told = from_disk(&saved, &file.data_dir, &World::real()).unwrap();
    hold("snapshot save", &told.json);
    let found = inspect::read(&saved).unwrap();
    let ledger = &found.ledger;
    assert_eq!(found.index(), 3);
    assert_eq!(ledger.cluster().unwrap().epoch, 2);
    assert_eq!(ledger.members().map(|member| member.node).collect::<Vec<_>>(), [3]);
    assert!(ledger.grace().is_some());
    assert_eq!(ledger.operators().count(), 1);
    let kek = config.kek.as_ref().unwrap();
    let wrap = ledger.wrapped_data_key(3, 1).unwrap();
    let key = crate::seal::DataKey::unwrap(&founded.cluster_id, 3, kek, wrap).unwrap();
    assert_eq!(key.expose(), founded.founding.data_key.expose());
    let taken = from_disk(&saved, &file.data_dir, &World::real());
    refused(taken, Exit::Usage, "file_exists", &["is there already"]);
    recovers(&founded, &path);
}

#[test]
fn a_restore_into_a_directory_that_is_not_there_makes_it() {
    let founded = Founded::new();
    let more = ["--no-borrows-since", "--node-id", "9", "--epoch-above", "7"];
    let told = founded.restore("new", &founded.kek(1), &more).unwrap();
    assert_eq!(told.json["epoch"], 8);
    assert_eq!(told.json["operators"], serde_json::json!(["admin"]));
    let home = founded.dir.path().join("new");
    let config = config::load(&home.join("node.toml"), &RealClock::new()).unwrap();
    assert_eq!(config.file.node_id, 9);
    assert!(!founded.dir.path().join("new.restoring").exists());
}

fn recovers(founded: &Founded, path: &Path) {
    let recover_into = |dir: Option<PathBuf>, confirm: Option<&str>, typed: Option<&str>| {
        let typed = typed.map(str::to_owned);
        let epoch_above = dir.is_some().then_some(5);
        let args = cli::RecoverArgs {
            config: path.to_owned(),
            dir,
            confirm: confirm.map(str::to_owned),
            known: cli::KnownArgs { epoch_above, ..Default::default() },
        };
        // The authority's certificate is in the configuration's file of roots.
        recover::recover(&args, &World::real(), &|_| Ok::<_, io::Error>(typed.clone()))
    };
    let recover_with = |confirm, typed| recover_into(None, confirm, typed);
    let before = fs::read_to_string(path).unwrap();
    refused(recover_with(Some("lh-other"), None), Exit::Usage, "not_confirmed", &["not the id"]);
    let silent = recover_with(None, None);
    refused(silent, Exit::Usage, "not_confirmed", &["nothing was changed", "--confirm lh-"]);
    assert_eq!(fs::read_to_string(path).unwrap(), before);
    let told = recover_with(None, Some(&founded.cluster_id)).unwrap();
    hold("cluster recover", &told.json);
    assert_eq!((&told.json["epoch"], &told.json["node_id"]), (&3.into(), &4.into()));
    assert_eq!(told.json["known"]["index"], "3");
    let config = config::load(path, &RealClock::new()).unwrap();
    assert_eq!(config.file.node_id, 4);
    assert!(config.file.data_dir.ends_with("data-epoch-3"), "{:?}", config.file.data_dir);
    let kept = path.with_file_name("node.toml.before-epoch-3");
    assert_eq!(fs::read_to_string(kept).unwrap(), before);
    assert!(path.with_file_name("data").join("log").is_dir(), "the former data is gone");
    let saved = founded.dir.path().join("recovered.snapshot");
    from_disk(&saved, &config.file.data_dir, &World::real()).unwrap();
    let found = inspect::read(&saved).unwrap();
    assert_eq!(found.ledger.cluster().unwrap().epoch, 3);
    assert_eq!(found.ledger.members().map(|member| member.node).collect::<Vec<_>>(), [4]);
    // As after an attempt that died before its last step: what it made is kept under another name.
    fs::write(path, &before).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let told = recover_with(None, Some(&founded.cluster_id)).unwrap();
    hold("cluster recover", &told.json);
    let aside = path.with_file_name("data-epoch-3.aside-1");
    assert_eq!(told.json["set_aside"], serde_json::json!(aside));
    assert!(aside.join("log").is_dir() && path.with_file_name("data-epoch-3/log").is_dir());
    // Into a volume that is mounted there.
    let volume = founded.dir.path().join("volume");
    fs::create_dir_all(volume.join("lost+found")).unwrap();
    let told = recover_into(Some(volume.clone()), Some(&founded.cluster_id), None).unwrap();
    assert_eq!((&told.json["epoch"], &told.json["set_aside"]), (&6.into(), &().into()));
    let saved = founded.dir.path().join("volume.snapshot");
    from_disk(&saved, &volume, &World::real()).unwrap();
    assert!(!volume.join(restore::RESTORING).exists());
}

/// A clock that is far from the state's is said before anything is made.
#[test]
fn a_clock_that_is_far_off_is_refused_unless_it_is_right() {
    let ledger = Founded::new().ledger();
    let state_ms = ledger.clock().civil_ms;
    let (minute, day) = (60_000, 86_400_000);
    for (ahead_ms, believed) in
        [(0, true), (-10 * minute, true), (-10 * minute - 1, false), (7 * day, true)]
            .into_iter()
            .chain([(7 * day + 1, false), (4_000 * day, false)])
    {
        for civil_time_is_right in [false, true] {
            let known = cli::KnownArgs { civil_time_is_right, ..Default::default() };
            let checked = check_time(&ledger, state_ms + ahead_ms, &known);
            let refusal = checked.err().map(|trouble| (trouble.exit, trouble.code));
            let expected =
                (!believed && !civil_time_is_right).then_some((Exit::Usage, "clock_doubtful"));
            assert_eq!(refusal, expected, "{ahead_ms} ms ahead, {known:?}");
        }
    }
}

#[test]
fn a_restore_that_cannot_be_is_refused_and_leaves_nothing() {
    let founded = Founded::new();
    let strange = founded.dir.path().join("strange.pem");
    let key = crate::seal::kek::KeyEncryptionKey::generate(&RealEntropy);
    provision::write_private(&strange, key.to_pem().expose()).unwrap();
    let tried = founded.restore("new", &strange, &[]);
    refused(tried, Exit::Usage, "kek_unknown", &["node 1 (", "node 2 (", "cannot be opened"]);
    let public = founded.home().join("ca.pem");
    refused(founded.restore("new", &public, &[]), Exit::Usage, "kek_unusable", &["ca.pem"]);
    let used = founded.restore("new", &founded.kek(1), &["--node-id", "2"]);
    refused(used, Exit::Usage, "node_id_taken", &["wants 3 or more"]);
    let mut bytes = fs::read(&founded.file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&founded.file, bytes).unwrap();
    let tried = founded.restore("new", &founded.kek(1), &[]);
    refused(tried, Exit::Unverifiable, "snapshot_corrupt", &["at byte"]);
    let left: Vec<_> = fs::read_dir(founded.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("new"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_newest_backups_are_kept_and_nothing_else_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "leasehold-lh-a-1-9-n1.snapshot",
        "leasehold-lh-a-1-10-n1.snapshot",
        "leasehold-lh-a-1-200-n1.snapshot",
        "leasehold-lh-a-2-11-n1.snapshot",
        "leasehold-lh-a-1-1-n2.snapshot",
        "leasehold-lh-b-1-1-n1.snapshot",
        "leasehold-lh-a-1-1.snapshot",
        "notes.txt",
        ".leasehold-lh-a-2-12.snapshot.tmp",
    ];
    for name in names {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    retire(&Schedule {
        directory: dir.path().to_owned(),
        every: Duration::from_secs(60),
        keep: 2,
        cluster_id: "lh-a".to_owned(),
        node: 1,
        data_dir: dir.path().join("data"),
        min_free: MinFree::default(),
    });
    for (number, name) in names.into_iter().enumerate() {
        let kept = number >= 2;
        assert_eq!(dir.path().join(name).exists(), kept, "{name}");
    }
}
